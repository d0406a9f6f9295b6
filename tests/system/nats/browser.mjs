// nats.js in a page of headless Chromium. node browser.mjs CHROMIUM NODE_MODULES SERVER; prints what the page got as JSON.
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import {existsSync, readFileSync} from 'node:fs';
import {join, normalize} from 'node:path';
const [executablePath, modules, server] = process.argv.slice(2);
const {chromium} = createRequire(join(modules, 'x.js'))('playwright-core');

// The package's own files, put together by a small `require`.
const page = `<!doctype html><meta charset=utf-8><title>NATS</title><script>
const loaded = {};
function load(path) {
  if (loaded[path]) return loaded[path].exports;
  const r = new XMLHttpRequest();
  r.open('GET', '/file?' + path, false);
  r.send();
  if (r.status !== 200) throw new Error('no ' + path);
  const at = r.getResponseHeader('x-path'), module = {exports: {}};
  if (loaded[at]) return loaded[at].exports;
  loaded[path] = loaded[at] = module;
  const dir = at.slice(0, at.lastIndexOf('/'));
  const require = name => name === 'crypto' ? {} : load(name[0] === '.' ? dir + '/' + name : name);
  if (at.endsWith('.json')) return module.exports = JSON.parse(r.responseText);
  new Function('module', 'exports', 'require', r.responseText)(module, module.exports, require);
  return module.exports;
}
async function go() {
  const {wsconnect, headers} = load('@nats-io/nats-core');
  const c = await wsconnect({servers: '${server}'}), d = await wsconnect({servers: '${server}'}), got = {};
  const sub = c.subscribe('page.>', {max: 2});
  c.subscribe('svc', {queue: 'q', callback: (e, m) => m.respond('re:' + m.string())});
  c.subscribe('size', {callback: (e, m) => m.respond(m.data)});
  await c.flush();
  const h = headers();
  h.set('k', 'v');
  d.publish('page.a', 'one', {headers: h});
  d.publish('page.b', 'two');
  got.messages = [];
  for await (const m of sub) {
    got.messages.push(m.string());
    if (m.headers) got.header = m.headers.get('k');
  }
  got.reply = (await d.request('svc', 'x')).string();
  got.big = (await d.request('size', new Uint8Array(500000).fill(65), {timeout: 20000})).data.length;
  try {
    await d.request('nobody', 'x');
  } catch (e) {
    got.none = /no responders/i.test(e.message) ? 503 : e.message;
  }
  d.publish('to.native', 'hi');
  await d.drain();
  await c.close();
  return got;
}
</script>`;
const file = name => {
  const base = name.startsWith(modules) ? normalize(name) : join(modules, name);
  let main = null;
  if (existsSync(join(base, 'package.json'))) {
    const p = JSON.parse(readFileSync(join(base, 'package.json')));
    const dot = p.exports?.['.'];
    main = join(base, p.main ?? dot?.require?.default ?? dot?.require ?? dot?.default ?? dot ?? 'index.js');
  }
  return [main, base, base + '.js', join(base, 'index.js')].find(f => f && f.startsWith(modules) && /\.(js|json)$/.test(f) && existsSync(f));
};
const web = createServer((req, res) => {
  const [path, query] = req.url.split('?');
  const found = path === '/file' && query ? file(decodeURIComponent(query)) : null;
  if (path === '/file' && !found) {
    res.writeHead(404).end();
  } else if (found) {
    res.writeHead(200, {'content-type': 'text/plain; charset=utf-8', 'x-path': found}).end(readFileSync(found));
  } else {
    res.writeHead(200, {'content-type': 'text/html'}).end(page);
  }
});
await new Promise(done => web.listen(0, '127.0.0.1', done));
const browser = await chromium.launch({executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync']});
try {
  const tab = await browser.newPage();
  await tab.goto(`http://127.0.0.1:${web.address().port}/`);
  console.log(JSON.stringify(await tab.evaluate('go()')));
} finally {
  await browser.close();
  web.close();
}
