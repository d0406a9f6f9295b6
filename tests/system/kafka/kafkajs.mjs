// kafkajs: `node kafkajs.mjs BOOTSTRAP PREFIX`.
import {check, equal, kafkajs, run, sleep, until} from './steps.mjs';

const [bootstrap, prefix] = process.argv.slice(2);
const {AssignerProtocol, CompressionTypes, ConfigResourceTypes, Kafka, logLevel} = kafkajs();
const kafka = new Kafka({clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.ERROR});
const admin = kafka.admin();
const producer = kafka.producer({allowAutoTopicCreation: false});
const named = name => `${prefix}-js-${name}`;
const make = async (name, partitions) => {
    check(await admin.createTopics({topics: [{topic: name, numPartitions: partitions, replicationFactor: 1}],
                                    waitForLeaders: true}), `${name} is made`);
    return name;
};

/// A consumer of a group that keeps what it was given: .got, .parts (its partitions now), .stop().
async function member(groupId, topic, options = {}) {
    const consumer = kafka.consumer({groupId, heartbeatInterval: 300, sessionTimeout: 10000, maxWaitTimeInMs: 250, ...options.conf});
    const m = {consumer, got: [], parts: []};
    consumer.on(consumer.events.GROUP_JOIN, e => m.parts = e.payload.memberAssignment[topic] ?? []);
    m.stop = () => consumer.disconnect();
    await consumer.connect();
    await consumer.subscribe({topics: [topic], fromBeginning: options.fromBeginning ?? true});
    await consumer.run({
        autoCommitThreshold: 1, ...options.run,
        eachMessage: async ({partition, message}) => {
            m.got.push({partition, offset: message.offset, key: String(message.key), value: String(message.value),
                        codec: message.batchContext?.codec, headers: message.headers});
        },
    });
    return m;
}

const sends = (topic, from, to) => producer.send({
    topic, messages: Array.from({length: to - from}, (_, i) => ({key: `k${(from + i) % 50}`, value: `v${from + i}`})),
});

async function committed(groupId, topic, want) {
    await until('commits', async () => {
        const [t] = await admin.fetchOffsets({groupId, topics: [topic]});
        return t.partitions.reduce((n, p) => n + Math.max(0, Number(p.offset)), 0) === want;
    });
}

const steps = {
    async topics() {
        const topic = await make(named('topics'), 3);
        check((await admin.listTopics()).includes(topic), 'the topic is listed');
        const {topics: [t]} = await admin.fetchTopicMetadata({topics: [topic]});
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
            await producer.send({topic, compression: CompressionTypes[codec], messages});
            want.push(...messages);
        }
        const m = await member(named('codecs'), topic);
        await until('all records', () => m.got.length >= want.length);
        await m.stop();
        equal(m.got.map(r => r.value), want.map(r => r.value), 'values');
        equal(m.got.map(r => [r.key, String(r.headers.codec), r.headers.n[0]]),
              want.map(r => [r.key, r.headers.codec, r.headers.n[0]]), 'keys and headers');
    },

    async group() {
        const topic = await make(named('group'), 6);
        const id = named('group');
        const all = [];
        let sent = 0;
        const phase = async members => {
            await until(`${members.length} members with their share`, () =>
                members.every(m => m.parts.length === 6 / members.length) &&
                new Set(members.flatMap(m => m.parts)).size === 6);
            await sends(topic, sent, sent + 600);
            sent += 600;
            await until('the records of this phase', () => all.reduce((n, m) => n + m.got.length, 0) >= sent);
            await committed(id, topic, sent);
        };
        const start = async () => {
            const m = await member(id, topic);
            all.push(m);
            return m;
        };
        let now = await Promise.all([start(), start(), start()]);
        await phase(now);
        await now[0].stop();
        now = now.slice(1);
        await phase(now);
        now.push(await start());
        await phase(now);
        const {groups: [g]} = await admin.describeGroups([id]);
        equal([g.state, g.members.length, g.protocolType], ['Stable', 3, 'consumer'], 'group');
        const mine = AssignerProtocol.MemberAssignment.decode(g.members[0].memberAssignment);
        equal(mine.assignment[topic].length, 2, 'partitions of a described member');
        await Promise.all(now.map(m => m.stop()));
        const values = all.flatMap(m => m.got.map(r => r.value));
        equal([values.length, new Set(values).size], [sent, sent], 'each record once');
    },

    async resume() {
        const topic = await make(named('resume'), 1);
        const id = named('resume');
        await sends(topic, 0, 100);
        const consumer = kafka.consumer({groupId: id, maxWaitTimeInMs: 250});
        let seen = 0;
        await consumer.connect();
        await consumer.subscribe({topics: [topic], fromBeginning: true});
        await consumer.run({autoCommit: false, eachMessage: async () => { seen++; }});
        await until('records', () => seen === 100);
        await consumer.commitOffsets([{topic, partition: 0, offset: '40', metadata: 'note'}]);
        await consumer.disconnect();
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
        const m = await member(named('seek'), topic, {fromBeginning: false});
        m.consumer.seek({topic, partition: 0, offset: '150'});
        await until('records after seeking', () => m.got.length === 150);
        equal(m.got[0].value, 'v150', 'first after seeking');
        m.consumer.seek({topic, partition: 0, offset: '10'});
        await until('records after seeking back', () => m.got.length === 150 + 290);
        await m.stop();
        equal(m.got[150].value, 'v10', 'first after seeking back');
        const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, then);
        equal(at.offset, '200', 'offset of a time');
        const [o] = await admin.fetchTopicOffsets(topic);
        equal([o.low, o.high], ['0', '300'], 'offsets');
    },

    async transactions() {
        const topic = await make(named('txn'), 1);
        const input = await make(named('txn-in'), 1);
        const id = named('txn');
        await sends(input, 0, 10);
        const p = kafka.producer({transactionalId: named('txn'), maxInFlightRequests: 1, idempotent: true});
        await p.connect();
        for (const [name, end] of [['one', 'commit'], ['two', 'abort'], ['three', 'commit']]) {
            const t = await p.transaction();
            await t.send({topic, messages: [{value: `${name} a`}, {value: `${name} b`}]});
            if (name === 'three')
                await t.sendOffsets({consumerGroupId: id, topics: [{topic: input, partitions: [{partition: 0, offset: '7'}]}]});
            await t[end]();
        }
        await p.disconnect();
        const read = async (suffix, readUncommitted, n) => {
            const m = await member(named(suffix), topic, {conf: {readUncommitted}});
            await until(`${n} records`, () => m.got.length >= n);
            await sleep(200);
            await m.stop();
            return m.got.map(r => r.value);
        };
        equal(await read('rc', false, 4), ['one a', 'one b', 'three a', 'three b'], 'read_committed');
        equal(await read('ru', true, 6), ['one a', 'one b', 'two a', 'two b', 'three a', 'three b'], 'read_uncommitted');
        const [t] = await admin.fetchOffsets({groupId: id, topics: [input]});
        equal(t.partitions[0].offset, '7', 'the offset committed by the transaction');
    },

    async admin() {
        const topic = await make(named('admin'), 2);
        const id = named('admin');
        await sends(topic, 0, 20);
        const config = async name => {
            const {resources: [r]} = await admin.describeConfigs({
                resources: [{type: ConfigResourceTypes.TOPIC, name: topic, configNames: [name]}]});
            return r.configEntries.find(e => e.configName === name)?.configValue;
        };
        await admin.alterConfigs({resources: [{type: ConfigResourceTypes.TOPIC, name: topic,
                                               configEntries: [{name: 'retention.ms', value: '123456789'}]}]});
        equal(await config('retention.ms'), '123456789', 'retention.ms');
        await admin.createPartitions({topicPartitions: [{topic, count: 4}]});
        equal((await admin.fetchTopicOffsets(topic)).length, 4, 'partitions');
        const cluster = await admin.describeCluster();
        equal([cluster.brokers.length, cluster.controller], [1, cluster.brokers[0].nodeId], 'cluster');
        await admin.setOffsets({groupId: id, topic, partitions: [{partition: 0, offset: '1'}]});
        check((await admin.listGroups()).groups.some(g => g.groupId === id), 'the group is listed');
        await admin.deleteGroups([id]);
        check(!(await admin.listGroups()).groups.some(g => g.groupId === id), 'the group is gone');
        const high = Number((await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).high);
        check(high > 2, 'partition 0 has records');
        await admin.deleteTopicRecords({topic, partitions: [{partition: 0, offset: '2'}]});
        equal((await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).low, '2', 'records deleted');
        await admin.deleteTopics({topics: [topic]});
        check(!(await admin.listTopics()).includes(topic), 'the topic is gone');
    },
};

await admin.connect();
await producer.connect();
await run(steps, async () => {
    await producer.disconnect();
    await admin.disconnect();
});
