// nats.js (v2) and buckets of the C library. Arguments: the address, what to do: theirs, again.
import {createRequire} from 'node:module';
import {check, equal, run} from '../kafka/steps.mjs';
const require = createRequire(import.meta.url);
const {connect} = require('nats');
const servers = process.argv[2];
const fails = what => what().then(() => false, () => true);

await run({
    // what the C library wrote; beside it the same by the client, which the library reads then
    async theirs() {
        const nc = await connect({servers}), jsm = await nc.jetstreamManager(), js = nc.jetstream();
        const kv = await js.views.kv('C', {history: 3}), got = [];
        equal((await kv.get('a')).string(), '4', 'get');
        equal((await kv.get('x.y')).string(), 'there', 'get x.y');
        equal((await kv.get('gone')).operation, 'DEL', 'deleted');
        equal((await kv.get('purged')).operation, 'PURGE', 'purged');
        for await (const e of await kv.history()) got.push([e.key, e.revision, e.operation, e.string()]);
        equal(got, [['a', 2, 'PUT', '2'], ['a', 3, 'PUT', '3'], ['a', 4, 'PUT', '4'], ['x.y', 5, 'PUT', 'there'],
            ['gone', 6, 'PUT', '1'], ['gone', 9, 'DEL', ''], ['purged', 10, 'PURGE', '']], 'history');
        await kv.update('a', '5', 4);
        check(await fails(() => kv.create('x.y', 'x')), 'create of what is there');
        await kv.create('gone', 'again');
        const ours = await js.views.kv('JS', {history: 3}), conf = async b => {
            const c = (await jsm.streams.info(`KV_${b}`)).config;
            c.subjects = c.name = c.metadata = null;
            delete c.deny_delete; // which nats.go and ADR-8 set, and nats.js does not
            return c;
        };
        const [c, j] = [await conf('C'), await conf('JS')];
        for (const k of new Set([...Object.keys(c), ...Object.keys(j)])) equal([k, c[k]], [k, j[k]], 'configuration');
        for (const v of ['1', '2', '3', '4', '5']) await ours.put('a', v);
        await jsm.streams.deleteMessage('KV_JS', 4);
        await ours.put('gone', '1');
        await ours.delete('gone');
        await ours.put('purged', '1');
        await ours.purge('purged');
        await nc.close();
    },
    async again() {
        const nc = await connect({servers}), js = nc.jetstream();
        equal((await (await js.views.kv('C')).get('c')).string(), 'by C', 'put by the library');
        const kv = await js.views.kv('JS'), e = await kv.get('c');
        equal([e.string(), e.revision], ['by C', 10], 'put by the library');
        equal((await kv.get('a')).string(), '5', 'get');
        await nc.close();
    },
}, () => {});
