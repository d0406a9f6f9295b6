// Topics that kafkajs made, as streams of nats.js. Arguments: NATS's address, Kafka's, which half (the server is started
// anew between them).
import {createRequire} from 'node:module';
import {check, equal, until} from '../kafka/steps.mjs';
const require = createRequire(import.meta.url);
const {connect} = require('@nats-io/transport-node');
const {jetstream, jetstreamManager, AckPolicy, DeliverPolicy} = require('@nats-io/jetstream');
const {Kafka, logLevel} = require('kafkajs');
const [servers, broker, half] = process.argv.slice(2, 5);
const nc = await connect({servers}), jsm = await jetstreamManager(nc), js = jetstream(nc);
const kafka = new Kafka({brokers: [broker], logLevel: logLevel.ERROR});
const admin = kafka.admin(), producer = kafka.producer();
await Promise.all([admin.connect(), producer.connect()]);

const produce = (topic, ...messages) => producer.send({topic, messages: messages.map(([key, value]) => ({key, value}))});
const refused = async p => {
    try { await p; } catch (e) { return e.message; }
    throw new Error('it was not refused');
};
async function all(lister) {
    const got = [];
    for await (const x of lister) got.push(x);
    return got;
}
async function take(c, n) {
    const got = [];
    for await (const m of await c.fetch({max_messages: n, expires: 10000})) {
        got.push([m.seq, m.subject, m.string()]);
        await m.ackAck();
    }
    return got;
}
const SUBJECTS = ['orders.c-1', 'orders.c%2E2', 'orders'];
const expected = (from, to) => [...Array(to - from + 1).keys()].map(i => [i + from, SUBJECTS[(i + from - 1) % 3], `v${i + from - 1}`]);
const state = async name => (await jsm.streams.info(name)).state;

async function before() {
    await admin.createTopics({topics: [['orders', 1], ['wide', 3], ['a.b', 1], ['__own', 1], ['jobs', 1]].map(
        ([topic, numPartitions]) => ({topic, numPartitions}))});
    const keys = ['c-1', 'c.2', null];
    await produce('orders', ...[...Array(30).keys()].map(i => [keys[i % 3], `v${i}`]));

    equal(await all(jsm.streams.names()), ['jobs', 'orders'], 'names');
    const [jobs, orders] = await all(jsm.streams.list());
    equal([jobs.config.name, jobs.state.messages, orders.state.messages, orders.state.last_seq], ['jobs', 0, 30, 30], 'the list');
    const info = await jsm.streams.info('orders', {subjects_filter: '>'});
    equal([info.state.first_seq, info.state.last_seq, info.state.messages, info.state.num_subjects], [1, 30, 30, 3], 'the state');
    equal(info.state.subjects, {'orders': 10, 'orders.c%2E2': 10, 'orders.c-1': 10}, 'subjects');
    equal(await jsm.streams.find('orders.c-1'), 'orders', 'by subject');
    for (const what of [jsm.streams.info('wide'), jsm.consumers.add('wide', {durable_name: 'd', ack_policy: AckPolicy.Explicit})])
        check((await refused(what)).includes('the topic has 3 partitions'), 'several partitions');
    for (const name of ['__own', 'none'])
        equal(await refused(jsm.streams.info(name)), 'stream not found', name);

    await jsm.consumers.add('orders', {durable_name: 'd', ack_policy: AckPolicy.Explicit});
    const d = await js.consumers.get('orders', 'd');
    equal(await take(d, 10), expected(1, 10), 'pulled');
    const core = nc.subscribe('orders.c-1');
    await jsm.consumers.add('orders', {durable_name: 'p', ack_policy: AckPolicy.None, deliver_subject: 'pushed', deliver_policy: DeliverPolicy.New});
    const pushed = nc.subscribe('pushed'), took = [];
    await nc.flush();
    const ordered = await js.consumers.get('orders', {filter_subjects: ['orders.c-1']});
    for await (const m of await ordered.consume()) {
        took.push([m.seq, m.subject, m.string()]);
        if (took.length === 10) await produce('orders', ['c-1', 'v30'], ['c.2', 'v31']);
        if (took.length === 11) break;
    }
    equal(took, expected(1, 31).filter(m => m[1] === 'orders.c-1'), 'ordered');
    for await (const m of core) {
        equal([m.subject, m.string()], ['orders.c-1', 'v30'], 'the core has it');
        break;
    }
    let n = 0;
    for await (const m of pushed) {
        check(m.reply.startsWith(`$JS.ACK.orders.p.1.${31 + n}.${n + 1}.`), m.reply);
        if (++n === 2) break;
    }
    for (const get of [jsm.direct, jsm.streams]) {
        const last = await get.getMessage('orders', {last_by_subj: 'orders.c-1'});
        equal([last.seq, last.string()], [31, 'v30'], 'the last of a subject');
        equal((await get.getMessage('orders', {seq: 5})).subject, 'orders.c%2E2', 'by sequence');
    }
    nc.publish('orders.c-1', 'of the core');
    const own = 'create a stream of this name first';
    for (const what of [jsm.streams.purge('orders'), jsm.streams.delete('orders'), jsm.streams.deleteMessage('orders', 3),
        jsm.streams.update('orders', {max_msgs: 3})])
        check((await refused(what)).includes(own), 'it is changed');
    equal((await state('orders')).last_seq, 32, 'what the core publishes is not taken');

    await jsm.streams.add({name: 'copy', sources: [{name: 'orders', filter_subject: 'orders.c-1'}]});
    await until('the copy', async () => (await state('copy')).messages === 11);
    await admin.fetchTopicOffsets('orders');  // kafkajs asks who leads no sooner
    await admin.deleteTopicRecords({topic: 'orders', partitions: [{partition: 0, offset: '20'}]});
    await until('what Kafka deletes is gone', async () => (await state('orders')).first_seq === 21);
    equal((await state('orders')).messages, 12, 'the rest');
    equal(await take(d, 2), expected(21, 22), 'consumers go on behind it');
    check((await refused(jsm.streams.add({name: 'orders', subjects: ['orders.>']}))).includes('consumers'), 'it has consumers');

    await produce('jobs', ['a', '1'], ['b', '2'], ['a', '3']);
    equal((await state('jobs')).messages, 3, 'jobs');
    await jsm.streams.add({name: 'jobs', subjects: ['jobs', 'jobs.*']});
    equal((await js.publish('jobs.a', '4')).seq, 4, 'a stream as any other');
    await produce('jobs', ['b', '5']);
    await until('both', async () => (await jsm.streams.info('jobs', {subjects_filter: 'jobs.b'})).state.subjects?.['jobs.b'] === 2);
    equal((await jsm.streams.purge('jobs')).purged, 5, 'that may be purged');
}

async function after() {
    const pushed = nc.subscribe('pushed', {max: 1});
    await nc.flush();
    await produce('orders', ['c-1', 'v32']);
    for await (const m of pushed) equal(m.string(), 'v32', 'it pushes on by itself');
    equal(await take(await js.consumers.get('orders', 'd'), 10), expected(23, 32), 'where the consumer was');
    equal((await all(jsm.consumers.list('orders'))).map(c => c.name).sort(), ['d', 'p'], 'its consumers');
    equal(await all(jsm.streams.names()), ['copy', 'jobs', 'orders'], 'names');
    await admin.deleteTopics({topics: ['orders']});
    await until('its topic is gone', async () => jsm.streams.info('orders').then(() => false, e => e.message === 'stream not found'));
    await admin.createTopics({topics: [{topic: 'orders', numPartitions: 1}]});
    await produce('orders', ['x', 'new']);
    equal((await jsm.direct.getMessage('orders', {last_by_subj: 'orders.x'})).seq, 1, 'another topic of this name');
    equal(await all(jsm.consumers.list('orders')), [], 'has no consumers');
    await admin.createPartitions({topicPartitions: [{topic: 'orders', count: 2}]});
    await until('more partitions', async () => jsm.streams.info('orders').then(() => false, e => e.message.includes('has 2 partitions')));
}

await (half === 'before' ? before : after)();
await Promise.all([producer.disconnect(), admin.disconnect(), nc.close()]);
