// What the test of real data asks of kafkajs:
//   flights.mjs BOOTSTRAP produce TOPIC FILE KEY   the records of a JSON file, keyed by a field
//   flights.mjs BOOTSTRAP consume TOPIC COUNT      by a group of three; a line of JSON for each message
import {readFileSync} from 'node:fs';
import {kafkajs, sleep, until} from './steps.mjs';

const [bootstrap, what, topic, ...rest] = process.argv.slice(2);
const {CompressionTypes, Kafka, logLevel} = kafkajs();
const kafka = new Kafka({clientId: 'flights', brokers: [bootstrap], logLevel: logLevel.ERROR});

async function produce(file, field) {
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({topics: [{topic, numPartitions: 6, replicationFactor: 1}]});
    await admin.disconnect();
    const producer = kafka.producer();
    await producer.connect();
    const records = JSON.parse(readFileSync(file, 'utf8'));
    const step = 5000;
    for (let i = 0; i < records.length; i += step)
        await producer.send({topic, compression: CompressionTypes.GZIP, messages: records.slice(i, i + step).map(
            r => ({key: String(r[field]), value: JSON.stringify(r)}))});
    await producer.disconnect();
    console.log(records.length);
}

async function consume(count) {
    const members = [], counts = [0, 0, 0];
    for (let member = 0; member < 3; member++) {
        const c = kafka.consumer({groupId: `${topic}-readers`, maxWaitTimeInMs: 250, heartbeatInterval: 500});
        members.push(c);
        await c.connect();
        await c.subscribe({topics: [topic], fromBeginning: true});
    }
    await Promise.all(members.map((c, member) => c.run({
        partitionsConsumedConcurrently: 1,
        eachBatch: async ({batch, resolveOffset, heartbeat}) => {
            let out = '';
            for (const m of batch.messages) {
                const headers = Object.fromEntries(Object.entries(m.headers ?? {}).map(([k, v]) => [k, String(v)]));
                out += JSON.stringify({member, partition: batch.partition, offset: m.offset, key: m.key && String(m.key),
                                       value: String(m.value), headers}) + '\n';
                resolveOffset(m.offset);
            }
            counts[member] += batch.messages.length;
            if (!process.stdout.write(out))
                await new Promise(done => process.stdout.once('drain', done));
            await heartbeat();
        },
    })));
    await until('all messages', () => counts[0] + counts[1] + counts[2] >= Number(count), 60000);
    await sleep(500);
    await Promise.all(members.map(c => c.disconnect()));
}

await {produce, consume}[what](...rest);
