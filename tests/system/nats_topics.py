"""Topics for core subscribers of NATS: what Kafka, HTTP and transactions append is seen by who subscribes to the
topic's subjects, from the subscription on, in order, whole; nothing is read when nobody does.
"""
import json, os, shutil, subprocess, threading, time

from harness import Skip, beside_others, metric, npm_modules, scratch, served, wait_for
from kafka_clients import need_node
from nats_core import Wire


def post(s, stream, data, kind="k"):
    status, _, body = s.call("POST", "/events", json.dumps({"type": kind, "stream": stream, "data": data}))
    assert status == 201, body
    return json.loads(body)


def kcat(s, topic, text, *args):
    if not shutil.which("kcat"):
        raise Skip("kcat is not installed")
    p = subprocess.run(["kcat", "-b", s.kafka, "-P", "-t", topic, *args], input=text, capture_output=True, timeout=60)
    assert p.returncode == 0, p.stderr.decode()


def message(w):
    """The next one: subject, sid, headers, payload."""
    while True:
        line = w.until(b"\r\n").decode().split()
        if line[0] in ("MSG", "HMSG"):
            break
        assert line == ["PONG"], line
    size = int(line[-1])
    head = int(line[-2]) if line[0] == "HMSG" else 0
    while len(w.got) < size + 2:
        w.got += w.s.recv(1 << 20)
    body, w.got = w.got[:size], w.got[size + 2:]
    return line[1], line[2], body[:head], body[head:]


def test_nats_topics():
    """Keys become tokens, headers headers; patterns; topics made later; what was there before is not sent."""
    with served("--set", "nats.max_payload=2000", nats=0, kafka=0, loops=2) as s:
        post(s, "orders", "before")
        w = Wire(s)
        assert w.answer(b"PUB orders 1\r\nx\r\n") == b"" and metric(s, "weir_nats_topics_followed") == 0
        assert w.answer(b"SUB orders 1\r\nSUB orders.* 2\r\nSUB *.*.new 3\r\nSUB none.> 4\r\nSUB $G 5\r\n") == b""
        post(s, "orders", "one")
        subject, sid, head, body = message(w)
        assert (subject, sid, json.loads(body)) == ("orders", "1", "one"), (subject, sid, body)
        assert head.startswith(b"NATS/1.0\r\n") and b"\r\nce_type: k\r\n" in head and head.endswith(b"\r\n\r\n"), head
        post(s, "orders:new", {"n": 1})
        assert message(w)[:2] == ("orders.new", "2")
        kcat(s, "orders", b"a.b c*\tvalue", "-K", "\t", "-H", "x=1\r\n\r\nMSG a 1 0", "-H", "y=\xe4")
        subject, sid, head, body = message(w)
        assert (subject, sid, body) == ("orders.a%2Eb%20c%2A", "2", b"value"), (subject, body)
        assert head == b"NATS/1.0\r\nx: 1    MSG a 1 0\r\ny: \xc3\xa4\r\n\r\n", head
        wait_for(lambda: metric(s, "weir_nats_topics_followed") == 1)
        # a topic that is made later, with dots in its name, and one that nobody wants
        post(s, "other", "unseen")
        post(s, "late.one:new", "late")
        assert message(w)[:2] == ("late.one.new", "3")
        post(s, "late.one:old", "unseen")
        # one that is too large, then one that is not
        post(s, "orders", "z" * 3000)
        post(s, "orders:last", "fits")
        assert message(w)[:2] == ("orders.last", "2")
        assert metric(s, "weir_nats_topic_records_left_out_total") == 1
        # queue groups get one each; who comes later begins there
        late = Wire(s)
        assert late.answer(b"SUB orders.> q 7\r\nSUB orders.> q 8\r\n") == b""
        post(s, "orders:q", "queued")
        assert message(late)[0] == "orders.q" and late.answer(b"") == b""
        assert message(w)[:2] == ("orders.q", "2")
        assert w.answer(b"") == b""
        # nobody is interested any more: with the next record it is not followed
        late.close()
        assert w.answer(b"UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n") == b""

        def unfollowed():
            post(s, "orders:gone", "unseen")
            post(s, "late.one:gone", "unseen")
            return metric(s, "weir_nats_topics_followed") == 0
        wait_for(unfollowed)
        sent = metric(s, "weir_nats_topic_records_total")
        post(s, "orders:gone", "unseen")
        assert w.answer(b"SUB orders.again 9\r\n") == b""
        post(s, "orders:again", "seen")
        assert message(w)[:2] == ("orders.again", "9")
        assert metric(s, "weir_nats_topic_records_total") == sent + 1, "records of before were read"


def test_nats_topics_race():
    """Who is answered a PING behind a SUB gets each record appended from then on, once, in order."""
    with served("--set", "topics.partitions=4", nats=0, kafka=0, loops=2) as s:
        post(s, "flood:0", 0)
        over = threading.Event()

        def pour():
            n = 1
            while not over.is_set():
                post(s, "flood:%d" % (n % 8), n)
                n += 1
        t = threading.Thread(target=pour)
        t.start()
        try:
            for i in range(12):
                w = Wire(s)
                assert b"-ERR" not in w.answer((b"SUB flood.* 1\r\n", b"SUB > 1\r\n", b"SUB flood.mine 1\r\nSUB *.mine 2\r\n")[i % 3])
                post(s, "flood:mine", "mine-%d" % i)
                keys, mine = {}, []
                while not mine:
                    subject, _, _, body = message(w)
                    n = json.loads(body)
                    if subject == "flood.mine":
                        mine.append(n)
                        continue
                    assert n > keys.get(subject, 0), "order within a key"
                    keys[subject] = n
                assert mine == ["mine-%d" % i], mine
                if i % 3 == 2:
                    assert json.loads(message(w)[3]) == "mine-%d" % i
                w.close()
        finally:
            over.set()
            t.join(20)


def test_nats_topics_stall():
    """A subscriber that does not read for a while gets all of it afterwards."""
    with served(nats=0, kafka=0, loops=2) as s:
        w = Wire(s)
        assert w.answer(b"SUB big 1\r\n") == b""
        line = b"x" * 9990
        kcat(s, "big", b"".join(b"%09d%s\n" % (i, line) for i in range(3000)))
        time.sleep(0.5)
        for i in range(3000):
            assert int(message(w)[3][:9]) == i
        assert metric(s, "weir_nats_topic_gaps_total") == 0 and metric(s, "weir_nats_slow_consumers_total") == 0


@beside_others
def test_nats_topics_transactions():
    """Transactions are seen when they are committed, those that are aborted never."""
    need_node()
    modules = npm_modules()
    with served(nats=0, kafka=0, loops=2) as s:
        post(s, "ledger", "first")
        code = """
            const {Kafka, logLevel} = require('kafkajs');
            const {connect} = require('@nats-io/transport-node');
            (async () => {
                const kafka = new Kafka({brokers: ['%s'], logLevel: logLevel.ERROR});
                const p = kafka.producer({transactionalId: 't', maxInFlightRequests: 1, idempotent: true});
                await p.connect();
                const begun = await p.transaction();
                await begun.send({topic: 'ledger', messages: [{key: 'early', value: 'begun before'}]});
                const nc = await connect({servers: '%s:%d'});
                const sub = nc.subscribe('ledger.>', {max: 3});
                await nc.flush();
                await begun.commit();
                console.error('committed');
                let t = await p.transaction();
                await t.send({topic: 'ledger', messages: [{key: 'a', value: 'aborted'}]});
                await t.abort();
                t = await p.transaction();
                await t.send({topic: 'ledger', messages: [{key: 'b', value: 'one'}, {key: 'c', value: 'two', headers: {h: 'v'}}]});
                await t.commit();
                console.error('all committed');
                for await (const m of sub) console.log(m.subject, m.string(), m.headers?.get('h') ?? '');
                await nc.close();
                console.error('all seen');
                await p.disconnect();
            })();""" % (s.kafka, *s.nats)
        try:
            p = subprocess.run(["node", "-e", code], capture_output=True, timeout=60, env=dict(os.environ, NODE_PATH=modules))
        except subprocess.TimeoutExpired as e:
            raise AssertionError((e.stdout, e.stderr, metric(s, "weir_nats_topic_records_total")))
        assert p.stdout == b"ledger.early begun before \nledger.b one \nledger.c two v\n", p.stdout + p.stderr


def test_nats_topics_account():
    """Only the account of the setting sees them."""

    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        open(file, "w").write("accounts:\n  A:\n    users: [{user: a, password: p}]\n  B:\n    users: [{user: b, password: p}]\n")
        with served("--set", "nats.users=" + file, "--set", "nats.topics.account=A", nats=0) as s:
            a, b = (Wire(s, json.dumps({"verbose": False, "headers": True, "user": u, "pass": "p"})) for u in "ab")
            assert a.answer(b"SUB > 1\r\n") == b.answer(b"SUB > 1\r\n") == b""
            post(s, "mine", "x")
            assert message(a)[0] == "mine"
            assert b.answer(b"") == b""
