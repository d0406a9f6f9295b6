// @confluentinc/kafka-javascript, by its promises: `node confluent.mjs BOOTSTRAP PREFIX`; WEIR_MODULES is where it is installed.
import {createRequire} from 'node:module';
import {check, equal, run, sleep, until} from './steps.mjs';

const [bootstrap, prefix] = process.argv.slice(2);
const {Kafka, logLevel} = createRequire(`${process.env.WEIR_MODULES}/x.js`)('@confluentinc/kafka-javascript').KafkaJS;
const kafka = new Kafka({kafkaJS: {clientId: 'confluent', brokers: [bootstrap], logLevel: logLevel.ERROR}});
const admin = kafka.admin();
const named = name => `${prefix}-cjs-${name}`;
const make = async (name, partitions) => {
    check(await admin.createTopics({topics: [{topic: name, numPartitions: partitions, replicationFactor: 1}]}), `${name} is made`);
    return name;
};

/// A consumer of a group that keeps what it was given: .got, .parts() (its partitions now), .stop().
async function member(groupId, topic, {conf = {}, own = {}} = {}) {
    const consumer = kafka.consumer({
        kafkaJS: {groupId, fromBeginning: true, autoCommitInterval: 200, ...conf},
        'fetch.wait.max.ms': 100, ...(own['group.protocol'] ? {} : {'session.timeout.ms': 10000, 'heartbeat.interval.ms': 300}), ...own,
    });
    const m = {consumer, got: []};
    m.parts = () => consumer.assignment().map(a => a.partition);
    m.stop = () => consumer.disconnect();
    await consumer.connect();
    await consumer.subscribe({topics: [topic]});
    await consumer.run({
        eachMessage: async ({message}) => {
            m.got.push({key: String(message.key), value: String(message.value), headers: message.headers});
        },
    });
    return m;
}

async function producing(options, doing) {
    const p = kafka.producer({kafkaJS: {allowAutoTopicCreation: false, ...options}, 'linger.ms': 5});
    await p.connect();
    try {
        return await doing(p);
    } finally {
        await p.disconnect();
    }
}

const sends = (topic, from, to) => producing({}, p => p.send({
    topic, messages: Array.from({length: to - from}, (_, i) => ({key: `k${(from + i) % 50}`, value: `v${from + i}`})),
}));

async function committed(groupId, topic, want) {
    await until('commits', async () => {
        const [t] = await admin.fetchOffsets({groupId, topics: [topic]});
        return t && t.partitions.reduce((n, p) => n + Math.max(0, Number(p.offset)), 0) === want;
    });
}

/// Three members; one leaves, one joins.
async function group(name, own) {
    const topic = await make(named(name), 6);
    const id = named(name);
    const all = [];
    let sent = 0;
    const phase = async members => {
        await until(`${members.length} members with their share`, () =>
            members.every(m => m.parts().length === 6 / members.length) && new Set(members.flatMap(m => m.parts())).size === 6, 60000);
        await sends(topic, sent, sent + 600);
        sent += 600;
        await until('the records of this phase', () => all.reduce((n, m) => n + m.got.length, 0) >= sent);
        await committed(id, topic, sent);
    };
    const start = async () => {
        const m = await member(id, topic, {own});
        all.push(m);
        return m;
    };
    let now = [await start(), await start(), await start()];
    await phase(now);
    await now[0].stop();
    now = now.slice(1);
    await phase(now);
    now.push(await start());
    await phase(now);
    const {groups: [g]} = await admin.describeGroups([id]);
    equal(g.members.length, 3, 'members');
    await Promise.all(now.map(m => m.stop()));
    const values = all.flatMap(m => m.got.map(r => r.value));
    equal([values.length, new Set(values).size], [sent, sent], 'each record once');
}

const steps = {
    async topics() {
        const topic = await make(named('topics'), 3);
        check((await admin.listTopics()).includes(topic), 'the topic is listed');
        const [t] = await admin.fetchTopicMetadata({topics: [topic]});
        equal(t.partitions.map(p => p.partitionId).sort(), [0, 1, 2], 'partitions');
        equal(await admin.createTopics({topics: [{topic}]}), false, 'made again');
    },

    async codecs() {
        const topic = await make(named('codecs'), 1);
        const want = [];
        for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
            const messages = Array.from({length: 500}, (_, i) => ({
                key: `k${i}`, value: `${codec} ${i} ${'x'.repeat(i % 90)}`, headers: {codec, n: Buffer.from([i & 255])},
            }));
            want.push(...messages.map(({key, value}, i) => [key, value, codec, i & 255])); // what is sent is made Buffers of
            await producing({compression: codec.toLowerCase(), idempotent: true}, p => p.send({topic, messages}));
        }
        const m = await member(named('codecs'), topic);
        await until('all records', () => m.got.length >= want.length);
        await m.stop();
        equal(m.got.map(r => [r.key, r.value, String(r.headers.codec), Buffer.from(r.headers.n)[0]]), want, 'records');
    },

    group: () => group('group', {'partition.assignment.strategy': 'range'}),
    cooperative: () => group('cooperative', {'partition.assignment.strategy': 'cooperative-sticky'}),
    group_848: () => group('group-848', {'group.protocol': 'consumer'}),

    async resume() {
        const topic = await make(named('resume'), 1);
        const id = named('resume');
        await sends(topic, 0, 100);
        const first = await member(id, topic, {conf: {autoCommit: false}});
        await until('records', () => first.got.length === 100);
        await first.consumer.commitOffsets([{topic, partition: 0, offset: '40', metadata: 'note'}]);
        await first.stop();
        const [t] = await admin.fetchOffsets({groupId: id, topics: [topic]});
        equal([t.partitions[0].offset, t.partitions[0].metadata], ['40', 'note'], 'what was committed');
        const m = await member(id, topic);
        await until('the rest', () => m.got.length >= 60);
        await m.stop();
        equal([m.got.length, m.got[0].value, m.got[59].value], [60, 'v40', 'v99'], 'resumed');
    },

    async seek() {
        const topic = await make(named('seek'), 1);
        await sends(topic, 0, 200);
        await sleep(20);
        const then = Date.now();
        await sleep(20);
        await sends(topic, 200, 300);
        const m = await member(named('seek'), topic, {conf: {fromBeginning: true}});
        await until('records', () => m.got.length === 300);
        m.consumer.seek({topic, partition: 0, offset: '150'});
        await until('records after seeking', () => m.got.length === 300 + 150);
        equal(m.got[300].value, 'v150', 'first after seeking');
        await m.stop();
        const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, then);
        equal(at.offset, '200', 'offset of a time');
        const [o] = await admin.fetchTopicOffsets(topic);
        equal([o.low, o.high], ['0', '300'], 'offsets');
    },

    async transactions() {
        const topic = await make(named('txn'), 1);
        const input = await make(named('txn-in'), 1);
        await sends(input, 0, 10);
        const reader = await member(named('txn'), input, {conf: {autoCommit: false}});
        await until('input', () => reader.got.length === 10);
        const p = kafka.producer({kafkaJS: {transactionalId: named('txn')}});
        await p.connect();
        for (const [name, end] of [['one', 'commit'], ['two', 'abort'], ['three', 'commit']]) {
            const t = await p.transaction();
            await t.send({topic, messages: [{value: `${name} a`}, {value: `${name} b`}]});
            if (name === 'three')
                await t.sendOffsets({consumer: reader.consumer, topics: [{topic: input, partitions: [{partition: 0, offset: '7'}]}]});
            await t[end]();
        }
        await p.disconnect();
        await reader.stop();
        const read = async (suffix, readUncommitted, n) => {
            const m = await member(named(suffix), topic, {conf: {readUncommitted}});
            await until(`${n} records`, () => m.got.length >= n);
            await sleep(200);
            await m.stop();
            return m.got.map(r => r.value);
        };
        equal(await read('rc', false, 4), ['one a', 'one b', 'three a', 'three b'], 'read_committed');
        equal(await read('ru', true, 6), ['one a', 'one b', 'two a', 'two b', 'three a', 'three b'], 'read_uncommitted');
        const [t] = await admin.fetchOffsets({groupId: named('txn'), topics: [input]});
        equal(t.partitions[0].offset, '7', 'the offset committed by the transaction');
    },

    async admin() {
        const topic = await make(named('admin'), 1);
        const id = named('admin');
        await sends(topic, 0, 20);
        const m = await member(id, topic);
        await until('records', () => m.got.length === 20);
        await committed(id, topic, 20);
        await m.stop();
        check((await admin.listGroups()).groups.some(g => g.groupId === id), 'the group is listed');
        await admin.deleteGroups([id]);
        check(!(await admin.listGroups()).groups.some(g => g.groupId === id), 'the group is gone');
        await admin.deleteTopicRecords({topic, partitions: [{partition: 0, offset: '2'}]});
        equal((await admin.fetchTopicOffsets(topic))[0].low, '2', 'records deleted');
        await admin.deleteTopics({topics: [topic]});
        await until('the topic is deleted', async () => !(await admin.listTopics()).includes(topic));
    },
};

await admin.connect();
await run(steps, () => admin.disconnect());
