// nats.js (v2) against weir: key-value and object stores. Arguments: the address, MiB of the large object.
import {createRequire} from 'node:module';
import {check, equal, until, run} from '../kafka/steps.mjs';
const require = createRequire(import.meta.url);
const {connect, nuid} = require('nats');
const [servers, mib, , http] = process.argv.slice(2, 6);
const fails = async what => {
    try {
        await what();
    } catch {
        return true;
    }
    return false;
};

await run({
    async kv() {
        const nc = await connect({servers}), kv = await nc.jetstream().views.kv('B', {history: 3});
        const one = await kv.put('a', '1'), two = await kv.put('a', '2');
        equal((await kv.get('a')).string(), '2', 'get');
        check(await fails(() => kv.create('a', 'x')), 'create of what is there');
        check(await fails(() => kv.update('a', 'x', one)), 'update of what is older');
        await kv.update('a', '3', two);
        await kv.put('b', 'b');
        await kv.delete('a');
        await kv.create('a', '4');
        const history = [];
        for await (const e of await kv.history({key: 'a'})) history.push([e.operation, e.string()]);
        equal(history, [['PUT', '3'], ['DEL', ''], ['PUT', '4']], 'history');
        const keys = [];
        for await (const k of await kv.keys()) keys.push(k);
        equal(keys.sort(), ['a', 'b'], 'keys');
        await kv.purge('b');
        equal((await kv.get('b')).operation, 'PURGE', 'purged');
        equal((await kv.status()).values, 4, 'values');
        // of many who set at once from one revision, one does
        const rev = await kv.put('race', '0');
        const won = await Promise.all(Array.from({length: 20}, (_, i) => kv.update('race', `${i}`, rev).then(() => 1, () => 0)));
        equal(won.reduce((a, b) => a + b), 1, 'compare and set');
        await nc.close();
    },
    async watch() {
        const nc = await connect({servers}), kv = await nc.jetstream().views.kv('W'), seen = [];
        await kv.put('x.1', 'before');
        const w = await kv.watch({key: 'x.*'});
        (async () => {
            for await (const e of w) seen.push([e.key, e.operation, e.string()]);
        })();
        await until('what was there', () => seen.length === 1);
        await kv.put('x.2', 'after');
        await kv.put('y.1', 'not');
        await kv.delete('x.1');
        await until('what came', () => seen.length === 3);
        equal(seen, [['x.1', 'PUT', 'before'], ['x.2', 'PUT', 'after'], ['x.1', 'DEL', '']], 'watched');
        w.stop();
        check(await kv.destroy(), 'destroy');
        await nc.close();
    },
    async sql() {
        const ask = async query => {
            const r = await fetch(`${http}/sql`, {method: 'POST', headers: {'content-type': 'application/sql'}, body: query});
            check(r.ok, `${query}: ${r.status}`);
            return (await r.json()).rows;
        };
        const nc = await connect({servers}), js = nc.jetstream(), kv = await js.views.kv('S', {history: 3});
        for (const [key, value] of [['a', '1'], ['a', '2'], ['b.c', '{"n": 5}'], ['gone', 'x'], ['away', 'x'], ['away', 'y']]) await kv.put(key, value);
        await kv.delete('gone');
        await kv.purge('away');
        equal(await ask('SELECT key, value, revision, operation FROM kv.S ORDER BY key'),
            [['a', '2', 2, 'PUT'], ['b.c', '{"n": 5}', 3, 'PUT']], 'what is there');
        equal(await ask(`SELECT x.key, abs(epoch_ms(now()) - epoch_ms(x.created)) < 600000 FROM kv.S x JOIN kv."S" y USING (key) WHERE y.value->>'n' = '5'`),
            [['b.c', true]], 'joined');
        await kv.put('gone', 'back');
        equal(await ask(`SELECT value, revision FROM kv.S WHERE key = 'gone'`), [['back', 9]], 'it is back');
        // what is removed by its number uncovers what was before
        const jsm = await nc.jetstreamManager();
        await jsm.streams.add({name: 'KV_R', subjects: ['$KV.R.>'], first_seq: 100, max_msgs_per_subject: 5});
        for (const v of ['1', '2', '3']) await js.publish('$KV.R.k', v);
        await jsm.streams.deleteMessage('KV_R', 102);
        await until('it is uncovered', async () => JSON.stringify(await ask('SELECT value, revision FROM kv.R')) === '[["2",101]]');
        await jsm.streams.purge('KV_R', {seq: 102});
        await until('it is purged', async () => (await ask('SELECT * FROM kv.R')).length === 0);
        await nc.close();
    },
    async objects() {
        const nc = await connect({servers}), os = await nc.jetstream().views.os('O');
        const big = new Uint8Array(Number(mib) << 20);
        for (let i = 0; i < big.length; i += 1021) big[i] = i;
        const info = await os.putBlob({name: 'big'}, big);
        equal(info.size, big.length, 'size');
        const got = await os.getBlob('big');
        check(Buffer.compare(Buffer.from(got), Buffer.from(big)) === 0, 'what was put is got');
        await os.putBlob({name: 'small'}, new TextEncoder().encode(nuid.next()));
        equal((await os.list()).map(o => o.name).sort(), ['big', 'small'], 'list');
        check((await os.delete('big')).success, 'delete');
        check(await os.getBlob('big') === null, 'it is gone');
        check((await os.status()).size < 4096, 'its chunks are gone');
        await nc.close();
    },
}, () => {});
