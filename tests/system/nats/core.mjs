// nats.js against weir: core messages. Arguments: the package, its address, a token ('' for none).
import {createRequire} from 'node:module';
import {check, equal, until, sleep, run} from '../kafka/steps.mjs';
const require = createRequire(import.meta.url);
const [name, servers, token] = process.argv.slice(2, 5);
process.argv[4] = '';
const {connect, headers, Empty} = {connect: require(name).wsconnect, ...require(name)};
const options = {servers, token: token || undefined};
const text = m => m.string ? m.string() : new TextDecoder().decode(m.data);

await run({
    async pubsub() {
        const a = await connect(options), b = await connect(options), got = [];
        a.subscribe('t.>', {callback: (e, m) => got.push([m.subject, text(m)])});
        a.subscribe('t.*', {callback: (e, m) => got.push(['*', text(m)])});
        await a.flush();
        b.publish('t.a', 'one');
        b.publish('t.a.b', 'two');
        b.publish('u', 'not');
        b.publish('t.c', Empty);
        await until('five messages', () => got.length === 5);
        equal(got.filter(g => g[0] !== '*'), [['t.a', 'one'], ['t.a.b', 'two'], ['t.c', '']], 'order');
        await a.close();
        await b.close();
    },
    async headers() {
        const c = await connect(options), h = headers();
        h.set('One', '1');
        h.append('Two', 'a');
        h.append('Two', 'b');
        const sub = c.subscribe('h', {max: 1});
        c.publish('h', 'x', {headers: h});
        for await (const m of sub) {
            equal([m.headers.get('One'), m.headers.values('Two'), text(m)], ['1', ['a', 'b'], 'x'], 'headers');
        }
        await c.close();
    },
    async requests() {
        const a = await connect(options), b = await connect(options);
        a.subscribe('svc', {callback: (e, m) => m.respond('re:' + text(m))});
        await a.flush();
        const answers = await Promise.all([...Array(2000).keys()].map(i => b.request('svc', `${i}`, {timeout: 20000})));
        equal(answers.map(text), [...Array(2000).keys()].map(i => `re:${i}`), 'answers');
        const r = await b.request('svc', 'alone', {timeout: 20000, noMux: true});
        equal(text(r), 're:alone', 'an inbox of its own');
        await a.close();
        await b.close();
    },
    async no_responders() {
        const c = await connect(options);
        let error;
        try {
            await c.request('nobody', 'x', {timeout: 20000});
        } catch (e) {
            error = e;
        }
        check(/no responders|503/i.test(`${error?.message} ${error?.code}`), `no responders: ${error}`);
        await c.close();
    },
    async queue() {
        const members = [], got = [0, 0, 0], c = await connect(options);
        for (let i = 0; i < 3; i++) {
            const m = await connect(options);
            m.subscribe('jobs.*', {queue: 'workers', callback: () => got[i]++});
            await m.flush();
            members.push(m);
        }
        const total = () => got.reduce((a, b) => a + b);
        for (let i = 0; i < 3000; i++) c.publish(`jobs.${i % 7}`, 'x');
        await until('3,000 jobs', () => total() === 3000);
        check(got.every(n => n > 700), `fairness: ${got}`);
        // One drains while jobs come: none is lost.
        let sent = 3000, more = true;
        const sender = (async () => {
            while (more) {
                for (let i = 0; i < 100; i++) c.publish('jobs.x', 'y');
                sent += 100;
                await c.flush();
            }
        })();
        await sleep(50);
        await members[0].drain();
        const then = got[0];
        await sleep(50);
        more = false;
        await sender;
        await until('all jobs', () => total() === sent);
        equal(got[0], then, 'what the drained one got afterwards');
        for (const m of members.slice(1)) await m.close();
        await c.close();
    },
    async unsubscribe() {
        const c = await connect(options), got = [];
        const sub = c.subscribe('max', {callback: (e, m) => got.push(text(m)), max: 3});
        for (let i = 0; i < 5; i++) c.publish('max', `${i}`);
        await c.flush();
        equal(got, ['0', '1', '2'], 'three at most');
        const other = c.subscribe('max', {callback: () => got.push('!')});
        other.unsubscribe();
        c.publish('max', 'x');
        await c.flush();
        equal(got.length, 3, 'after unsubscribing');
        await c.close();
    },
    async echo() {
        const c = await connect({...options, noEcho: true}), d = await connect(options), got = [];
        c.subscribe('e', {callback: (e, m) => got.push(text(m))});
        await c.flush();
        c.publish('e', 'own');
        d.publish('e', 'other');
        await until('the other', () => got.length);
        equal(got, ['other'], 'without echo');
        await c.close();
        await d.close();
    },
    async payload() {
        const c = await connect(options), big = new Uint8Array(c.info.max_payload).fill(7), got = [];
        c.subscribe('big', {callback: (e, m) => got.push(m.data.length)});
        for (let i = 0; i < 20; i++) c.publish('big', big);
        await until('20 MiB', () => got.length === 20, 60000);
        check(got.every(n => n === big.length), 'sizes');
        let refused = false;
        try {
            c.publish('big', new Uint8Array(big.length + 1));
        } catch {
            refused = true;
        }
        check(refused, 'the client knows max_payload');
        await c.close();
    },
}, () => {});
