// Node's pg, unmodified: pg.cjs NODE_MODULES PORT QUERY prints the rows as JSON.
const [modules, port, query] = process.argv.slice(2);
const { Client } = require(modules + '/pg');
const c = new Client({ host: '127.0.0.1', port: +port, user: 'x', database: 'weir' });
(async () => {
  await c.connect();
  const one = await c.query('SELECT $1::BIGINT + 1 AS n, $2 AS t', [41, 'text']);
  if (one.rows[0].n !== '42' || one.rows[0].t !== 'text') throw new Error(JSON.stringify(one.rows));
  const prepared = { name: 'p', text: "SELECT count(*) AS n FROM orders WHERE status = $1" };
  for (const status of ['completed', 'open']) await c.query({ ...prepared, values: [status] });
  const r = await c.query({ text: query, rowMode: 'array' });
  console.log(JSON.stringify(r.rows));
  await c.end();
})().catch((e) => { console.error(e); process.exit(1); });
