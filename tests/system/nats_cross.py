"""One log, all protocols: what nats.js publishes to a stream Kafka consumes, SQL counts and a WebSocket sees; what Kafka
produces reaches NATS's subscribers, once.
"""
import glob, json, os, subprocess, time

from harness import Server, Skip, beside_others, metric, npm_modules, scratch, served, wait_for
from kafka_clients import need_node
from nats_core import Wire
from nats_net import Socket
from nats_topics import kcat, message, post

CODE = """
const {connect, headers} = require('@nats-io/transport-node');
const {Kafka, logLevel} = require('kafkajs');
(async () => {
    const nc = await connect({servers: '%s:%d'});
    const api = async (what, body) => {
        const r = (await nc.request('$JS.API.' + what, JSON.stringify(body))).json();
        if (r.error) throw new Error(what + ': ' + JSON.stringify(r.error));
        return r;
    };
    await api('STREAM.CREATE.orders', {name: 'orders', subjects: ['orders.>']});
    const all = nc.subscribe('orders.>', {max: 4});
    const h = headers();
    h.set('from', 'nats');
    for (let i = 0; i < 3; i++) {
        const ack = (await nc.request('orders.new', 'order ' + i, {headers: h})).json();
        if (ack.seq !== i + 1) throw new Error(JSON.stringify(ack));
    }
    const kafka = new Kafka({brokers: ['%s'], logLevel: logLevel.ERROR});
    const consumer = kafka.consumer({groupId: 'g'});
    await consumer.connect();
    await consumer.subscribe({topic: 'orders', fromBeginning: true});
    const consumed = [];
    await new Promise(ok => consumer.run({eachMessage: async ({message: m}) => {
        consumed.push([m.key.toString(), m.value.toString(), m.headers.from.toString()]);
        if (consumed.length === 3) ok();
    }}));
    await consumer.disconnect();
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({topic: 'orders', messages: [{key: 'orders.kafka', value: 'from kafka'}]});
    await producer.disconnect();
    const subscribed = [];
    for await (const m of all) subscribed.push([m.subject, m.string()]);
    const last = await api('STREAM.MSG.GET.orders', {seq: 4});
    console.log(JSON.stringify({consumed, subscribed, last: last.message.subject}));
    await nc.close();
})().catch(e => { console.error(e); process.exit(1); });
"""


@beside_others
def test_nats_cross():
    """nats.js publishes, kafkajs consumes, SQL counts, a WebSocket sees; a Kafka record reaches a pattern."""
    need_node()
    modules = npm_modules()
    with served(nats=0, kafka=0, loops=2) as s:
        p = subprocess.run(["node", "-e", CODE % (*s.nats, s.kafka)], capture_output=True, timeout=90,
                           env=dict(os.environ, NODE_PATH=modules))
        assert p.returncode == 0, p.stderr.decode()
        got = json.loads(p.stdout)
        assert got["consumed"] == [["orders.new", "order %d" % i, "nats"] for i in range(3)], got
        assert got["subscribed"] == [["orders.new", "order %d" % i] for i in range(3)] + [["orders.kafka", "from kafka"]], got
        assert got["last"] == "orders.kafka", got
        seen, ws = [], Socket(("127.0.0.1", s.port), path="/events?topic=orders&from=TRIM_HORIZON")
        while len(seen) < 4:
            first, frame = ws.read()
            if first == 0x81 and "id" in json.loads(frame):
                seen.append(json.loads(frame))
        assert len({e["id"] for e in seen}) == 4, seen
        status, _, body = s.call("POST", "/sql", json.dumps({"query": "SELECT count(*) AS n FROM orders WHERE key = 'orders.new'"}))
        assert status == 200 and json.loads(body)["rows"] == [[3]], body
        w = Wire(s)  # a topic that is no stream, and nothing twice from the stream
        assert w.answer(b"SUB > 1\r\n") == b""
        kcat(s, "plain", b"key\tvalue", "-K", "\t")
        assert message(w)[0] == "plain.key"
        assert w.answer(b"PUB orders.twice 1\r\nx\r\n") == b"MSG orders.twice 1 1\r\nx\r\n"
        wait_for(lambda: "orders.twice" in s.call("GET", "/events?stream=orders:orders.twice")[2].decode())
        post(s, "plain", "end")
        assert message(w)[0] == "plain"


BESIDE = """
const {connect, headers} = require('@nats-io/transport-node');
const {Kafka, logLevel} = require('kafkajs');
const KEYS = 4, WINS = %d, SLOTS = 64;
(async () => {
    const nc = await connect({servers: '%s:%d'});
    const ask = async (what, body, options) => (await nc.request(what, JSON.stringify(body), options)).json();
    const stream = async conf => {
        const r = await ask('$JS.API.STREAM.CREATE.' + conf.name, conf);
        if (r.error) throw new Error(JSON.stringify(r.error));
    };
    await stream({name: 'KV_b', subjects: ['$KV.b.>'], allow_rollup_hdrs: true, discard: 'new', allow_direct: true});
    await stream({name: 'once', subjects: ['once.*'], max_msgs_per_subject: 1, discard: 'new', discard_new_per_subject: true, allow_atomic: true});
    const kafka = new Kafka({brokers: ['%s'], logLevel: logLevel.ERROR});
    const won = [], batches = [];
    const produced = {KV_b: [], once: []}, took = [];  // [sequence, subject]
    let going = true, refused = 0;
    const produce = async n => {  // the next request goes out before the last one is answered
        const producer = kafka.producer({idempotent: false});
        await producer.connect();
        let pending = [];
        for (let i = 0; going; i++) {
            const keys = {KV_b: '$KV.b.k' + i %% KEYS, once: 'once.' + (i * 4 + n) %% SLOTS};
            pending.push(producer.sendBatch({topicMessages: ['KV_b', 'once'].map(
                topic => ({topic, messages: [{key: keys[topic], value: 'kafka'}]}))}).then(
                v => v.forEach(r => produced[r.topicName].push([Number(r.baseOffset) + 1, keys[r.topicName]]))));
            if (pending.length > 3) await pending.shift();
        }
        await Promise.all(pending);
        await producer.disconnect();
    };
    const update = async n => {
        for (let i = 0; won.length < WINS; i++) {
            const subject = '$KV.b.k' + (i + n) %% (KEYS + 2);  // Kafka leaves two alone
            const last = await ask('$JS.API.STREAM.MSG.GET.KV_b', {last_by_subj: subject});
            const expected = last.error ? 0 : last.message.seq;
            const h = headers();
            h.set('Nats-Expected-Last-Subject-Sequence', String(expected));
            const ack = (await nc.request(subject, 'nats ' + n, {headers: h, timeout: 20000})).json();
            if (!ack.error) won.push({subject, expected, seq: ack.seq});
            else if (ack.error.err_code === 10071) refused++;
            else throw new Error(JSON.stringify(ack.error));
        }
    };
    const fill = async () => {
        for (let i = 0; i < SLOTS; i++) {
            const ack = (await nc.request('once.' + i, 'nats', {timeout: 20000})).json();
            if (!ack.error) took.push([ack.seq, 'once.' + i]);
        }
    };
    const together = async () => {  // two of one unit, of which the first expects to be its subject's first
        for (let i = 0; i < 16; i++) {
            const h = headers();
            h.set('Nats-Batch-Id', 'b' + i);
            h.set('Nats-Batch-Sequence', '1');
            h.set('Nats-Expected-Last-Sequence', String((await ask('$JS.API.STREAM.INFO.once', {})).state.last_seq));
            nc.publish('once.first' + i, 'nats', {headers: h});
            const last = headers();
            last.set('Nats-Batch-Id', 'b' + i);
            last.set('Nats-Batch-Sequence', '2');
            last.set('Nats-Batch-Commit', '1');
            const ack = (await nc.request('once.second' + i, 'nats', {headers: last, timeout: 20000})).json();
            if (!ack.error) batches.push({seq: ack.seq, expected: Number(h.get('Nats-Expected-Last-Sequence'))});
        }
    };
    const producers = [0, 1, 2, 3].map(produce);
    await Promise.all([update(0), update(1), update(2), fill(), together()]);
    going = false;
    await Promise.all(producers);
    console.log(JSON.stringify({won, refused, produced, took, batches}));
    await nc.close();
})().catch(e => { console.error(e); process.exit(1); });
"""


@beside_others
def test_nats_beside_kafka():
    """Expectations and limits of new messages hold beside Kafka's producers of the same topics, who do not starve them."""
    need_node()
    with served(nats=0, kafka=0, loops=2) as s:
        p = subprocess.run(["node", "-e", BESIDE % (400 if os.environ.get("WEIR_LONG") else 40, *s.nats, s.kafka)],
                           capture_output=True, timeout=170, env=dict(os.environ, NODE_PATH=npm_modules()))
        assert p.returncode == 0, p.stderr.decode()
        got = json.loads(p.stdout)
    won = {w["seq"]: w for w in got["won"]}
    log = sorted(got["produced"]["KV_b"] + [[w["seq"], w["subject"]] for w in got["won"]])
    assert [n for n, _ in log] == list(range(1, len(log) + 1)), log  # nothing else is in the topic
    assert len(won) == len(got["won"]) >= 40 and len(log) - len(won) > 40
    last = {}
    for seq, subject in log:
        if seq in won:
            assert last.get(subject, 0) == won[seq]["expected"], (won[seq], last)
        last[subject] = seq
    first = {}
    for seq, subject in sorted(got["produced"]["once"]):
        first.setdefault(subject, seq)
    for seq, subject in got["took"]:
        assert seq < first.get(subject, seq + 1), (seq, subject, first[subject])
    for b in got["batches"]:
        assert b["seq"] == b["expected"] + 2, b


def api(w, what, body):
    """The answer to a request to JetStream."""
    w.say(b"SUB re.%d re%d\r\nUNSUB re%d 1\r\n" % ((id(body),) * 3))
    text = json.dumps(body).encode()
    w.say(b"PUB $JS.API.%s re.%d %d\r\n%s\r\n" % (what.encode(), id(body), len(text), text))
    got = json.loads(message(w)[3])
    assert "error" not in got, got
    return got


@beside_others
def test_nats_compaction():
    """What a bucket's limits removed gives its room on disk back, and the newest values are there after a restart."""
    if not os.environ.get("WEIR_LONG"):
        raise Skip("set WEIR_LONG=1: what is removed is marked, and compaction comes, some seconds later")

    def used(data):
        return sum(os.stat(f).st_blocks * 512 for f in glob.glob(data + "/log/*.log") + glob.glob(data + "/log/*.seg"))

    with scratch() as d:
        data = os.path.join(d, "data")
        settings = ("--set", "journal.file_bytes=2MiB")
        s = Server(data, *settings, nats=0)
        w = Wire(s)
        api(w, "STREAM.CREATE.KV_b", {"name": "KV_b", "subjects": ["$KV.b.>"], "max_msgs_per_subject": 2})
        value = b"v" * 2000
        w.say(b"PUB $KV.b.first 1\r\nx\r\n")  # so that nothing goes from the front
        for i in range(5000):
            w.say(b"PUB $KV.b.k%d %d\r\n%06d%s\r\n" % (i % 10, 6 + len(value), i, value))
            if i % 500 == 499:  # what is published without waiting for an answer may be dropped
                wait_for(lambda: api(w, "STREAM.INFO.KV_b", {})["state"]["last_seq"] == i + 2)
        assert api(w, "STREAM.INFO.KV_b", {})["state"]["messages"] == 21

        def compacted():
            w.answer(b"PUB $KV.b.k0 2000\r\n%s\r\n" % value * 20)  # compaction comes with what is new
            time.sleep(0.2)
            return metric(s, "weir_compaction_removed_records_total") > 1000 and used(data) < 7 << 20
        wait_for(compacted, 180)
        before = api(w, "STREAM.INFO.KV_b", {})["state"]
        s.stop()
        s = Server(data, *settings, nats=0)
        w = Wire(s)
        after = api(w, "STREAM.INFO.KV_b", {})["state"]
        assert (after["messages"], after["last_seq"]) == (before["messages"], before["last_seq"]) and after["messages"] == 21
        for k in range(1, 10):
            got = api(w, "STREAM.MSG.GET.KV_b", {"last_by_subj": "$KV.b.k%d" % k})
            assert got["message"]["seq"] == 4992 + k, got
        assert api(w, "STREAM.MSG.GET.KV_b", {"seq": 1})["message"]["subject"] == "$KV.b.first"
        s.stop()
