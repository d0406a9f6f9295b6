// nats.js's JetStream against weir: consumers. Arguments: the generation (3 or 2), the server's address.
import {createRequire} from 'node:module';
import {check, equal, until, sleep, run} from '../kafka/steps.mjs';
const require = createRequire(import.meta.url);
const [generation, servers] = process.argv.slice(2, 4);
const lib = generation === '3' ? {...require('@nats-io/transport-node'), ...require('@nats-io/jetstream')} : require('nats');
const {connect, AckPolicy, DeliverPolicy, ReplayPolicy} = lib;
const nanos = ms => ms * 1000000;
const js = nc => generation === '3' ? lib.jetstream(nc) : nc.jetstream();
const manager = nc => generation === '3' ? lib.jetstreamManager(nc) : nc.jetstreamManager();
const text = m => m.string ? m.string() : new TextDecoder().decode(m.data);

// A stream of its own with n messages.
async function begin(name, n, conf = {}) {
    const nc = await connect({servers}), jsm = await manager(nc), j = js(nc);
    await jsm.streams.add({name, subjects: [`${name}.>`], ...conf});
    await Promise.all([...Array(n).keys()].map(i => j.publish(`${name}.${i % 3}`, `${i}`)));
    return {nc, jsm, j};
}
async function take(iter, n, each = m => m.ack()) {
    const got = [];
    for await (const m of iter) {
        got.push(m);
        await each(m);
        if (n && got.length === n)
            break;
    }
    return got;
}
const seqs = got => got.map(m => m.seq);
const counted = (from, to) => [...Array(to - from + 1).keys()].map(i => from + i);

await run({
    async fetch() {
        const {nc, jsm, j} = await begin('F', 30);
        await jsm.consumers.add('F', {durable_name: 'd', ack_policy: AckPolicy.Explicit});
        const c = await j.consumers.get('F', 'd');
        let got = await take(await c.fetch({max_messages: 10, expires: 5000}), 0);
        equal(seqs(got), counted(1, 10), 'the first ten');
        equal([got[3].subject, text(got[3]), got[3].info.pending, got[3].info.deliverySequence], ['F.0', '3', 26, 4], 'a message');
        const m = await c.next({expires: 5000});
        equal(m.seq, 11, 'next');
        check(await m.ackAck(), 'the ack is acknowledged');
        const i = await c.info();
        equal([i.num_pending, i.num_ack_pending, i.ack_floor.stream_seq, i.delivered.consumer_seq], [19, 0, 11, 11], 'info');
        got = await take(await c.fetch({max_messages: 50, expires: 1000}), 0);
        equal(seqs(got), counted(12, 30), 'what is left');
        equal(await c.next({expires: 1000}), null, 'nothing is left');
        await nc.close();
    },
    async consume() {
        const {nc, jsm, j} = await begin('C', 2000);
        await jsm.consumers.add('C', {durable_name: 'd', ack_policy: AckPolicy.Explicit, filter_subject: 'C.1'});
        const c = await j.consumers.get('C', 'd');
        const got = await take(await c.consume({max_messages: 100}), 667);
        equal(seqs(got), counted(0, 666).map(i => i * 3 + 2), 'those of the subject');
        await until('all acknowledged', async () => (await c.info(false)).num_ack_pending === 0);
        equal((await c.info()).num_pending, 0, 'nothing waits');
        await nc.close();
    },
    async redelivery() {
        const {nc, jsm, j} = await begin('R', 4), events = [];
        nc.subscribe('$JS.EVENT.ADVISORY.CONSUMER.>', {callback: (e, m) => events.push(JSON.parse(text(m)))});
        await jsm.consumers.add('R', {durable_name: 'd', ack_policy: AckPolicy.Explicit, ack_wait: nanos(700), max_deliver: 2});
        const c = await j.consumers.get('R', 'd');
        const [a, b, d, e] = await take(await c.fetch({max_messages: 4, expires: 5000}), 0, () => {});
        a.ack();
        b.nak();
        d.term('of no use');
        let again = await c.next({expires: 5000});
        equal([again.seq, again.info.redeliveryCount ?? again.info.deliveryCount, again.redelivered], [2, 2, true], 'refused');
        again.working();
        again = await c.next({expires: 5000});
        equal([again.seq, again.redelivered], [4, true], 'the time to acknowledge was over');
        await until('delivered as often as may be', async () => (await c.info(false)).num_ack_pending === 0);
        equal((await c.info()).ack_floor.stream_seq, 4, 'the floor');
        await until('advisories', () => events.filter(v => v.type.endsWith('max_deliver')).length === 2);
        const kinds = events.map(v => v.type.split('.').pop());
        check(kinds.includes('nak') && kinds.includes('terminated'), `advisories: ${kinds}`);
        equal(events.find(v => v.reason)?.reason, 'of no use', 'the reason');
        await nc.close();
    },
    async delays() {
        const {nc, jsm, j} = await begin('D', 1);
        await jsm.consumers.add('D', {durable_name: 'd', ack_policy: AckPolicy.Explicit, backoff: [nanos(300), nanos(600)], max_deliver: 5});
        const c = await j.consumers.get('D', 'd'), at = [];
        const begun = Date.now(); // what comes late here was given out earlier
        for (let i = 0; i < 3; i++) {
            const m = await c.next({expires: 10000});
            at.push(Date.now());
            if (i === 2)
                m.nak(500);
        }
        check(at[1] - begun >= 290 && at[2] - begun >= 890, `backoff: ${at[1] - begun}, ${at[2] - begun}`);
        const m = await c.next({expires: 10000});
        check(Date.now() - at[2] >= 490, 'the delay of a refusal');
        equal(m.info.redeliveryCount ?? m.info.deliveryCount, 4, 'deliveries');
        await nc.close();
    },
    async ordered() {
        const {nc, j} = await begin('O', 500);
        const c = await j.consumers.get('O', generation === '3' ? {filter_subjects: ['O.0', 'O.2']} : {filterSubjects: ['O.0', 'O.2']});
        const got = await take(await c.consume(), 333, () => {});
        equal(seqs(got), counted(1, 500).filter(s => s % 3 !== 2).slice(0, 333), 'in order');
        await nc.close();
    },
    async policies() {
        const {nc, jsm, j} = await begin('P', 10);
        const first = async conf => {
            const i = await jsm.consumers.add('P', {ack_policy: AckPolicy.None, ...conf});
            const got = await take(await (await j.consumers.get('P', i.name)).fetch({max_messages: Math.max(1, i.num_pending), expires: 1000}), 0, () => {});
            equal(got.length, i.num_pending, `pending: ${JSON.stringify(conf)}`);
            return seqs(got);
        };
        equal(await first({deliver_policy: DeliverPolicy.Last}), [10], 'last');
        equal(await first({deliver_policy: DeliverPolicy.New}), [], 'new');
        equal(await first({deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 7}), counted(7, 10), 'sequence');
        equal(await first({deliver_policy: DeliverPolicy.LastPerSubject, filter_subject: 'P.>'}), counted(8, 10), 'last per subject');
        equal(await first({deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(0).toISOString()}), counted(1, 10), 'time');
        equal(await first({filter_subjects: ['P.1', 'P.2']}), [2, 3, 5, 6, 8, 9], 'filters');
        const {consumers} = (await jsm.consumers.list('P').next()) ? {consumers: await jsm.consumers.list('P').next()} : {};
        equal(consumers.length, 6, 'list');
        await nc.close();
    },
    async push() {
        const {nc, jsm, j} = await begin('S', 100), got = [], beats = [];
        nc.subscribe('to.me', {callback: (e, m) => {
            if (m.headers?.code === 100) {
                beats.push(m.headers.description);
                if (m.reply)
                    m.respond();
            } else {
                got.push(Number(m.reply.split('.')[5]));
                m.respond();
            }
        }});
        await nc.flush();
        await jsm.consumers.add('S', {durable_name: 'd', ack_policy: AckPolicy.Explicit, deliver_subject: 'to.me', flow_control: true,
            idle_heartbeat: nanos(200)});
        await until('all', () => got.length === 100);
        equal(got, counted(1, 100), 'order');
        await until('a heartbeat', () => beats.some(b => /Idle Heartbeat/.test(b)));
        await until('acknowledged', async () => (await jsm.consumers.info('S', 'd')).ack_floor.stream_seq === 100);
        equal((await jsm.consumers.info('S', 'd')).push_bound, true, 'somebody listens');
        await nc.close();
    },
    async groups() {
        const {nc, jsm} = await begin('G', 0), j = js(nc), got = [0, 0];
        for (let i = 0; i < 2; i++) {
            const n = await connect({servers});
            n.subscribe('to.group', {queue: 'q', callback: (e, m) => (got[i]++, m.respond())});
            await n.flush();
        }
        await jsm.consumers.add('G', {durable_name: 'd', ack_policy: AckPolicy.Explicit, deliver_subject: 'to.group', deliver_group: 'q'});
        for (let i = 0; i < 200; i++)
            await j.publish('G.x', `${i}`);
        await until('all', () => got[0] + got[1] === 200);
        check(got[0] > 40 && got[1] > 40, `each has some: ${got}`);
        process.exitCode = 0;
        await nc.close();
    },
    async pause() {
        const {nc, jsm, j} = await begin('Z', 3);
        await jsm.consumers.add('Z', {durable_name: 'd', ack_policy: AckPolicy.Explicit});
        const p = await jsm.consumers.pause('Z', 'd', new Date(Date.now() + 60000));
        check(p.paused, 'paused');
        const c = await j.consumers.get('Z', 'd');
        equal(await c.next({expires: 1000}), null, 'nothing meanwhile');
        check((await c.info()).paused, 'info says so');
        await jsm.consumers.resume('Z', 'd');
        equal((await c.next({expires: 5000})).seq, 1, 'resumed');
        check(await jsm.consumers.delete('Z', 'd'), 'deleted');
        let error;
        await jsm.consumers.info('Z', 'd').catch(e => error = e);
        check(/consumer not found/.test(error?.message), `not found: ${error}`);
        await nc.close();
    },
    async work_queue() {
        const {nc, jsm, j} = await begin('W', 20, {retention: 'workqueue'});
        await jsm.consumers.add('W', {durable_name: 'd', ack_policy: AckPolicy.Explicit, filter_subject: 'W.0'});
        let error;
        await jsm.consumers.add('W', {durable_name: 'e', ack_policy: AckPolicy.Explicit, filter_subject: 'W.>'}).catch(e => error = e);
        check(/not unique/.test(error?.message), `not unique: ${error}`);
        const c = await j.consumers.get('W', 'd');
        const got = await take(await c.fetch({max_messages: 7, expires: 5000}), 7);
        equal(got.length, 7, 'those of its subject');
        await until('removed', async () => (await jsm.streams.info('W')).state.messages === 13);
        await nc.close();
    },
    async rate() {
        const {nc, jsm, j} = await begin('B', 0), got = [];
        await Promise.all([...Array(14).keys()].map(() => j.publish('B.x', new Uint8Array(1000))));
        nc.subscribe('to.slow', {callback: (e, m) => got.push(Number(m.reply.split('.')[5]))});
        await nc.flush();
        const begun = Date.now();
        await jsm.consumers.add('B', {durable_name: 'd', ack_policy: AckPolicy.None, deliver_subject: 'to.slow', rate_limit_bps: 64000});
        await until('all', () => got.length === 14);
        const ms = Date.now() - begun; // 8 kB a second, of which the first second's may come at once, and one more
        check(ms >= 600, `too quickly: ${ms} ms`);
        equal(got, counted(1, 14), 'in order');
        await nc.close();
    },
    async replay() {
        const {nc, jsm, j} = await begin('L', 1), at = [];
        for (const ms of [250, 150]) {
            await sleep(ms);
            await j.publish('L.x', 'later');
        }
        const begun = Date.now(); // what comes late here was given out earlier
        await jsm.consumers.add('L', {durable_name: 'd', ack_policy: AckPolicy.Explicit, replay_policy: ReplayPolicy.Original});
        const c = await j.consumers.get('L', 'd');
        const got = await take(await c.fetch({max_messages: 3, expires: 10000}), 3, m => (at.push(Date.now() - begun), m.ack()));
        const came = got.map(m => Math.trunc((m.info.timestampNanos - got[0].info.timestampNanos) / 1e6));
        check(came[1] >= 240 && came[2] >= 380, `when they came: ${came}`);
        check(at[1] >= came[1] - 10 && at[2] >= came[2] - 10, `after ${at} ms, and came after ${came}`);
        equal(seqs(got), [1, 2, 3], 'in order');
        await nc.close();
    },
    async samples() {
        const {nc, jsm, j} = await begin('M', 3), events = [];
        nc.subscribe('$JS.EVENT.METRIC.CONSUMER.ACK.M.>', {callback: (e, m) => events.push(JSON.parse(text(m)))});
        for (const [durable_name, more] of [['none', {}], ['all', {sample_freq: '100%'}]])
            await jsm.consumers.add('M', {durable_name, ack_policy: AckPolicy.Explicit, ...more});
        await take(await (await j.consumers.get('M', 'none')).fetch({max_messages: 3, expires: 5000}), 3, m => m.ackAck());
        const c = await j.consumers.get('M', 'all');
        const [a, b, d] = await take(await c.fetch({max_messages: 3, expires: 5000}), 3, () => {});
        await sleep(100);
        await a.ackAck();
        b.nak();
        d.term();
        await (await c.next({expires: 5000})).ackAck();
        await until('both', () => events.length >= 2);
        await nc.flush();
        equal(events.map(e => [e.stream, e.consumer, e.stream_seq, e.consumer_seq, e.deliveries]), [['M', 'all', 1, 1, 1], ['M', 'all', 2, 4, 2]],
            'what was acknowledged where that is sampled, alone');
        check(events[0].ack_time >= nanos(95), `the time until then: ${events[0].ack_time}`);
        equal(events[0].type, 'io.nats.jetstream.metric.v1.consumer_ack', 'the type');
        await nc.close();
    },
    async headers_only() {
        const {nc, jsm, j} = await begin('E', 0), h = lib.headers(), got = [];
        h.set('Kind', 'a');
        await j.publish('E.a', 'a payload', {headers: h});
        await j.publish('E.b', new Uint8Array(5000));
        await j.publish('E.c', '');
        nc.subscribe('to.sizes', {callback: (e, m) => got.push(m)});
        await nc.flush();
        const conf = {ack_policy: AckPolicy.None, headers_only: true};
        await jsm.consumers.add('E', {durable_name: 'd', ...conf});
        await jsm.consumers.add('E', {durable_name: 'p', deliver_subject: 'to.sizes', ...conf});
        const pulled = await take(await (await j.consumers.get('E', 'd')).fetch({max_messages: 3, expires: 5000}), 3, () => {});
        await until('all', () => got.length === 3);
        for (const v of [pulled, got])
            equal(v.map(m => [m.data.length, m.headers.get('Nats-Msg-Size'), m.headers.get('Kind')]),
                [[0, '9', 'a'], [0, '5000', ''], [0, '0', '']], v === got ? 'pushed' : 'pulled');
        await nc.close();
    },
    async next_by_ack() {
        const {nc, jsm, j} = await begin('N', 7), got = [];
        const seq = m => Number(m.reply.split('.')[5]);
        nc.subscribe('in.next', {callback: (e, m) => got.push(m)});
        await jsm.consumers.add('N', {durable_name: 'd', ack_policy: AckPolicy.Explicit, ack_wait: nanos(60000)});
        const c = await j.consumers.get('N', 'd');
        (await c.next({expires: 5000})).next('in.next');
        await until('the next one', () => got.length === 1);
        nc.publish(got[0].reply, '+NXT {"batch": 3}', {reply: 'in.next'});
        await until('three', () => got.length === 4);
        nc.publish(got[3].reply, '+NXT 3', {reply: 'in.next'});
        await until('all', () => got.length === 6);
        await j.publish('N.x', 'new');
        await until('what it waited for', () => got.length === 7);
        nc.publish(got[6].reply, '+NXT {"no_wait": true}', {reply: 'in.next'});
        await until('a status', () => got.length === 8);
        equal(got.pop().headers?.code, 404, 'no messages');
        equal(got.map(seq), counted(2, 8), 'in order');
        await until('acknowledged', async () => (await c.info(false)).num_ack_pending === 4);
        equal((await c.info(false)).ack_floor.stream_seq, 2, 'those that it was said of'); // 1, 2, 5, 8
        await nc.close();
    },
}, async () => {});
