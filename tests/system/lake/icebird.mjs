// An Iceberg table whose metadata Weir writes, read by icebird; the Parquet files are hyparquet-writer's.
//
//     icebird.mjs LAKE_TOOL DIRECTORY
//
// Prints a line for each step. icebird reads by URL: here file: URLs are answered from the disk.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { dirname } from 'node:path'
import { parquetWriteFile } from 'hyparquet-writer'
import { icebergMetadata, icebergRead } from 'icebird'

const [tool, root] = process.argv.slice(2)
const url = 'file://' + root
const table = url + '/weir/orders'

globalThis.fetch = async (target, init) => {
  const path = fileURLToPath(String(target))
  let bytes
  try {
    bytes = readFileSync(path)
  } catch {
    return new Response('', { status: 404 })
  }
  const range = /bytes=(\d+)-(\d*)/.exec(new Headers(init?.headers).get('Range') ?? '')
  if (!range) return new Response(bytes)
  return new Response(bytes.subarray(+range[1], range[2] ? +range[2] + 1 : undefined), { status: 206 })
}

function say(command) {
  const out = JSON.parse(execFileSync(tool, [url, 'weir', 'orders'], { input: JSON.stringify(command) + '\n' }))
  if (out.error) throw new Error(out.error)
  return out
}

function assert(ok, why) {
  if (!ok) throw new Error(why)
}

const schema = { type: 'struct', 'schema-id': 0, fields: [
  { id: 1, name: 'offset', required: true, type: 'long' },
  { id: 2, name: 'key', required: false, type: 'string' },
  { id: 3, name: 'amount', required: false, type: 'double' }] }
const live = {}

function write(name, first, n, city) {
  const rows = Array.from({ length: n }, (_, i) => ({
    offset: BigInt(first + i), key: i % 4 ? 'c-' + i % 7 : undefined, amount: (first + i) / 4,
    ...city ? { city: i % 2 ? 'Zürich-' + i : undefined } : {} }))
  const columnData = [
    { name: 'offset', data: rows.map(r => r.offset), type: 'INT64', nullable: false },
    { name: 'key', data: rows.map(r => r.key), type: 'STRING', nullable: true },
    { name: 'amount', data: rows.map(r => r.amount), type: 'DOUBLE', nullable: true }]
  if (city) columnData.push({ name: 'city', data: rows.map(r => r.city), type: 'STRING', nullable: true })
  const path = fileURLToPath(table + '/data/' + name)
  mkdirSync(dirname(path), { recursive: true })
  parquetWriteFile({ filename: path, columnData,
    kvMetadata: [{ key: 'iceberg.schema', value: JSON.stringify(schema) }] })
  live[name] = rows
  return { path: name, records: n, bytes: statSync(path).size, values: { 1: n, 2: n, 3: n },
    lower: { 1: first }, upper: { 1: first + n - 1 } }
}

async function check(step) {
  const want = Object.values(live).flat()
  const metadata = await icebergMetadata({ tableUrl: table })
  const got = await icebergRead({ tableUrl: table, metadata })
  assert(got.length === want.length, `${got.length} rows, not ${want.length}`)
  const sum = rows => rows.reduce((n, r) => n + r.amount, 0)
  assert(sum(got) === sum(want), 'the sums differ')
  const by = new Map(got.map(r => [r.offset, r]))
  for (const r of want) {
    const g = by.get(r.offset)
    assert(g && g.key == r.key && g.amount === r.amount && g.city == r.city, `row ${r.offset} differs`)
  }
  const current = metadata.schemas.find(s => s['schema-id'] === metadata['current-schema-id'])
  const names = list => list.map(f => `${f.id} ${f.name} ${f.type}`).join()
  assert(names(current.fields) === names(schema.fields), 'the schema differs')
  const id = metadata['current-snapshot-id']
  assert(Number.isSafeInteger(id), `${id} is no safe integer`)
  console.log('ok ' + step)
  return metadata
}

say({ do: 'create', schema, spec: [] })
say({ do: 'append', files: [write('a.parquet', 0, 100)], offsets: '{"0":100}' })
await check('append')
say({ do: 'append', files: [write('b.parquet', 100, 50), write('c.parquet', 150, 20)] })
await check('more_files')
schema.fields.push({ id: 4, name: 'city', required: false, type: 'string' })
say({ do: 'schema', schema })
say({ do: 'append', files: [write('d.parquet', 1000, 30, true)] })
await check('evolution')
delete live['b.parquet']
say({ do: 'replace', files: [write('e.parquet', 100, 50, true)], remove: ['b.parquet'] })
await check('replace')
delete live['c.parquet']
say({ do: 'delete', remove: ['c.parquet'] })
await check('delete')
say({ do: 'expire', keep: 1 })
const last = await check('expire')
assert(last.snapshots.length === 1, 'the old snapshots are there still')
