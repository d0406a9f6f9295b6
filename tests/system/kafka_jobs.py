"""Jobs over the Kafka port, as people run them: real data by kafkajs and HTTP in turn, Kafka's own verifiable
producer and consumer, its command line tools, a Streams word count, Connect's file source and sink; and
servers killed in the middle of it, with everything there exactly once.
"""
import json, os, random, subprocess, time

import kafka_clients
from harness import Server, npm_modules, scratch, served, weir


def node(*args, timeout=150):
    p = subprocess.run(["node", os.path.join(kafka_clients.HERE, args[0]), *args[1:]], capture_output=True, timeout=timeout)
    assert p.returncode == 0, p.stderr.decode()[-3000:]
    return p.stdout.decode().splitlines()


def by(key, rows):
    out = {}
    for row in rows:
        out.setdefault(key(row), []).append(row)
    return out


# ---- real data -----------------------------------------------------------------------------------------

def test_kafka_flights():
    """Produced by kafkajs with a key, consumed by a group of three, read over HTTP; and the other way round."""
    kafka_clients.need_node()
    path = os.path.join(npm_modules(), "vega-datasets", "data", "flights-200k.json")
    source = json.load(open(path))
    want = by(lambda r: str(r["delay"]), source)
    with served(kafka=0) as s:
        assert node("flights.mjs", s.kafka, "produce", "flights", path, "delay") == [str(len(source))]
        got = [json.loads(line) for line in node("flights.mjs", s.kafka, "consume", "flights", str(len(source)))]
        assert len(got) == len(source), (len(got), len(source))
        members = by(lambda m: m["partition"], got)
        assert len(members) == 6 and all(len({m["member"] for m in part}) == 1 for part in members.values())
        assert len({m["member"] for m in got}) == 3, "not all three members had a part"
        for part in members.values():
            assert [int(m["offset"]) for m in part] == list(range(len(part)))
        mine = by(lambda m: m["key"], got)
        assert {k: [json.loads(m["value"]) for m in v] for k, v in mine.items()} == want, "order of keys by Kafka"
        http = by(lambda r: str(r["delay"]), [e["data"] for e in s.pages("flights", 10000)])
        assert http == want, "order of keys over HTTP"
        one = max(want, key=lambda k: len(want[k]))
        assert [e["data"] for e in s.pages("flights:" + one, 10000)] == want[one]
        print("figure: %d flights by kafkajs, a group of three and HTTP: %d keys in order" % (len(got), len(want)))


def test_kafka_http_events():
    """What is posted over HTTP is what kafkajs consumes."""
    kafka_clients.need_node()
    with served(kafka=0) as s:
        assert s.call("POST", "/topics", json.dumps({"name": "orders", "partitions": 3}))[0] == 201
        want = {}
        for i in range(0, 1000, 50):
            events = [{"type": "order.created", "stream": "orders:c%d" % (n % 10), "source": "/test", "data": {"n": n}}
                      for n in range(i, i + 50)]
            for e in events[::2]:
                e["id"] = "mine-%d" % e["data"]["n"]
            status, _, body = s.call("POST", "/events", json.dumps(events))
            assert status == 201, body
            for e, placed in zip(events, json.loads(body)["events"]):
                want[placed["partition"], placed["offset"]] = e
        got = [json.loads(line) for line in node("flights.mjs", s.kafka, "consume", "orders", "1000")]
        assert len(got) == 1000
        for m in got:
            e = want.pop((m["partition"], int(m["offset"])))
            headers = {"ce_" + k: e[k] for k in ("type", "source", "id") if k in e}
            assert json.loads(m["value"]) == e["data"] and "orders:" + m["key"] == e["stream"], (m, e)
            assert m["headers"] == headers, (m, e)
        for key, part in by(lambda m: m["key"], got).items():
            numbers = [json.loads(m["value"])["n"] for m in part]
            assert numbers == sorted(numbers), "order of " + key


# ---- kill -9 -------------------------------------------------------------------------------------------

ROUNDS = 50 if os.environ.get("WEIR_LONG") else 3
OPTIONS = ("--set", "topics.retention=-1", "--set", "journal.file_bytes=4MiB")


class Killed:
    """A server that comes back on the same port after each kill."""

    def __init__(self, d):
        self.data = os.path.join(d, "data")
        self.s = Server(self.data, *OPTIONS, kafka=0)
        self.kafka = self.s.kafka

    def restart(self):
        self.s.kill()
        time.sleep(random.uniform(0, 0.3))
        self.s = Server(self.data, *OPTIONS, kafka=int(self.kafka.split(":")[1]))

    def end(self):
        self.s.stop()
        p = weir("check", "--data", self.data, "--quiet", ok=False)
        assert p.returncode == 0, p.stdout.decode()


def dump(s, topic):
    """By partition what a reader of committed records sees."""
    parts = {}
    out = kafka_clients.kcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed",
                             "-f", "%p %o %s\\n", timeout=120)
    last = {}
    for line in out.splitlines():
        part, offset, value = line.split(" ", 2)
        assert int(offset) > last.get(part, -1), "offset %s after %d" % (offset, last[part])
        last[part] = int(offset)
        parts.setdefault(int(part), []).append(value)
    return parts


def test_kafka_kill9_producer():
    """An idempotent producer goes on through kills of its server: all acknowledged, each once, in order."""
    kafka_clients.need_kcat()
    with scratch() as d:
        exe = kafka_clients.compiled(d, "jobs")
        k = Killed(d)
        try:
            weir("topics", "create", "numbers", "--partitions", "2", server=k.s)
            out = open(os.path.join(d, "acked"), "wb+")
            p = subprocess.Popen([exe, "produce", k.kafka, "numbers", "0"], stdin=subprocess.PIPE, stdout=out)
            try:
                for _ in range(ROUNDS):
                    time.sleep(random.uniform(0.2, 1.2))
                    k.restart()
                time.sleep(0.5)
                p.stdin.close()
                assert p.wait(90) == 0, "the producer gave up"
            finally:
                p.kill()
                p.wait()
            out.seek(0)
            acked = sorted(map(int, out.read().split()))
            out.close()
            assert acked == list(range(len(acked))) and len(acked) > 100 * ROUNDS, len(acked)
            parts = dump(k.s, "numbers")
            for part in (0, 1):
                want = [str(n) for n in acked if n % 2 == part]
                assert parts[part] == want, "partition %d: %d records instead of %d" % (part, len(parts[part]), len(want))
            k.end()
            print("figure: kill -9 under an idempotent producer: %d rounds, %d records, each once" % (ROUNDS, len(acked)))
        except BaseException:
            print(k.s.tail())
            k.s.kill()
            raise


def copy_round(k, exe, total, kill_job):
    """Runs the job until it is done, kills the server (and the job) in the middle. Returns its report."""
    def start():
        return subprocess.Popen([exe, "copy", k.kafka, "in", "out", "copy", str(total)], stdout=subprocess.PIPE)
    p = start()
    try:
        assert p.stdout.readline() == b"started\n", "the job does not start"
        time.sleep(random.uniform(0, 0.6))
        if kill_job:
            p.kill()
            p.communicate()
        k.restart()
        for _ in range(20):
            if kill_job or p.poll() == 3:
                p = start()
            kill_job = False
            try:
                out, _ = p.communicate(timeout=90)
            except subprocess.TimeoutExpired:
                raise AssertionError("the job does not end")
            if p.returncode != 3:
                break
        assert p.returncode == 0, p.returncode
        return out.decode().strip().split("\n")[-1]
    finally:
        p.kill()
        p.wait()


def test_kafka_kill9_copy():
    """Consume, transform, produce in transactions while the server and the job are killed: each copied once."""
    kafka_clients.need_kcat()
    with scratch() as d:
        exe = kafka_clients.compiled(d, "jobs")
        k = Killed(d)
        total, step, reports = 0, 8000, []
        try:
            for topic in ("in", "out"):
                weir("topics", "create", topic, "--partitions", "2", server=k.s)
            for r in range(ROUNDS):
                subprocess.run([exe, "fill", k.kafka, "in", str(total), str(total + step)], check=True,
                               stdout=subprocess.DEVNULL, timeout=90)
                total += step
                reports.append(copy_round(k, exe, total, r % 3 == 2))
                parts = dump(k.s, "out")
                for part in (0, 1):
                    want = ["copy %d" % n for n in range(total) if n % 2 == part]
                    assert parts[part] == want, "round %d, partition %d: %d copies of %d" % (r, part, len(parts[part]), len(want))
            k.end()
            print("figure: kill -9 in a transactional copy job: %d rounds, %d records, each copied once (last: %s)" %
                  (ROUNDS, total, reports[-1]))
        except BaseException:
            print(k.s.tail())
            k.s.kill()
            raise
