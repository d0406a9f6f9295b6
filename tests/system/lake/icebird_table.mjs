// A table of Weir on a local folder, read by icebird: rows, sums of n and amount, notes, columns, as JSON.
//
//     icebird_table.mjs FOLDER
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { icebergMetadata, icebergRead } from 'icebird'
import { compressors } from 'hyparquet-compressors'

globalThis.fetch = async (target, init) => {
  let bytes
  try {
    bytes = readFileSync(fileURLToPath(String(target)))
  } catch {
    return new Response('', { status: 404 })
  }
  const range = /bytes=(\d+)-(\d*)/.exec(new Headers(init?.headers).get('Range') ?? '')
  if (!range) return new Response(bytes)
  return new Response(bytes.subarray(+range[1], range[2] ? +range[2] + 1 : undefined), { status: 206 })
}

const tableUrl = 'file://' + process.argv[2] + '/weir/orders'
const metadata = await icebergMetadata({ tableUrl })
const rows = await icebergRead({ tableUrl, metadata, compressors })
const columns = metadata.schemas.find(s => s['schema-id'] === metadata['current-schema-id']).fields.map(f => f.name)
const sum = f => rows.reduce((n, r) => n + Number(r[f] ?? 0), 0)
console.log(JSON.stringify([rows.length, sum('n'), sum('amount'), rows.filter(r => r.note != null).length, columns]))
