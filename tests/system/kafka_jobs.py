"""Jobs over the Kafka port, as people run them: real data by kafkajs and HTTP in turn, Kafka's own verifiable
producer and consumer, its command line tools, a Streams word count, Connect's file source and sink; and
servers killed in the middle of it, with everything there exactly once.
"""
import base64, json, os, random, socket, subprocess, time

import kafka_clients
from harness import Server, beside_others, npm_modules, scratch, served, weir


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


@beside_others
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


@beside_others
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
            assert acked == list(range(len(acked))) and len(acked) > 10 * ROUNDS, len(acked)
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


@beside_others
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


# ---- Kafka's own tools ---------------------------------------------------------------------------------

def tool(d, main, *args, stdin=b"", ok=True, timeout=60):
    p = subprocess.run(kafka_clients.java(d, main, *args), input=stdin, capture_output=True, timeout=timeout)
    out = p.stdout.decode()
    assert not ok or p.returncode == 0, "%s %s: %d\n%s%s" % (main, args, p.returncode, out, p.stderr.decode()[-3000:])
    return out


@beside_others
def test_kafka_java_tools():
    """kafka-topics, -configs, -console-producer, -console-consumer, -consumer-groups, -get-offsets and others."""
    d = kafka_clients.java_client()
    tools = "org.apache.kafka.tools."
    with served(kafka=0) as s, scratch() as tmp:
        b = ("--bootstrap-server", s.kafka)

        def topics(*args, **kw):
            return tool(d, tools + "TopicCommand", *b, *args, **kw)

        def groups(*args, **kw):
            return tool(d, tools + "consumer.group.ConsumerGroupCommand", *b, *args, **kw)

        topics("--create", "--topic", "tools", "--partitions", "3", "--config", "retention.ms=3600000")
        topics("--alter", "--topic", "tools", "--partitions", "4")
        text = topics("--describe", "--topic", "tools")
        assert "PartitionCount: 4" in text and "retention.ms=3600000" in text, text
        assert topics("--list").split() == ["tools"]
        configs = ("kafka.admin.ConfigCommand", *b, "--entity-type", "topics", "--entity-name", "tools")
        tool(d, *configs, "--alter", "--add-config", "max.message.bytes=200000")
        tool(d, *configs, "--alter", "--delete-config", "retention.ms")
        text = tool(d, *configs, "--describe")
        assert "max.message.bytes=200000" in text and "retention.ms" not in text, text
        lines = ["k%d:line %d" % (i % 5, i) for i in range(1000)]
        tool(d, tools + "ConsoleProducer", *b, "--topic", "tools", "--reader-property", "parse.key=true", "--reader-property",
             "key.separator=:", "--compression-codec", "zstd", stdin="\n".join(lines).encode() + b"\n")
        consumer = (tools + "consumer.ConsoleConsumer", *b, "--topic", "tools", "--group", "console", "--formatter-property",
                    "print.key=true", "--formatter-property", "key.separator=:", "--max-messages", "1000",
                    "--timeout-ms", "30000", "--command-property", "auto.offset.reset=earliest")
        assert sorted(tool(d, *consumer).splitlines()) == sorted(lines)
        text = groups("--describe", "--group", "console")
        rows = [row.split() for row in text.splitlines() if row.startswith("console ")]
        assert len(rows) == 4 and all(r[5] == "0" for r in rows) and sum(int(r[3]) for r in rows) == 1000, text
        assert groups("--list").split() == ["console"]
        groups("--group", "console", "--topic", "tools", "--reset-offsets", "--to-earliest", "--execute")
        assert sorted(tool(d, *consumer).splitlines()) == sorted(lines)
        groups("--delete", "--group", "console")
        assert groups("--list").split() == []
        text = tool(d, tools + "GetOffsetShell", *b, "--topic", "tools")
        assert sum(int(row.split(":")[2]) for row in text.split()) == 1000, text
        with open(os.path.join(tmp, "delete.json"), "w") as f:
            json.dump({"version": 1, "partitions": [{"topic": "tools", "partition": 0, "offset": 1}]}, f)
        assert "low_watermark: 1" in tool(d, tools + "DeleteRecordsCommand", *b, "--offset-json-file", f.name)
        assert "Cluster ID: " in tool(d, tools + "ClusterTool", "cluster-id", *b)
        text = tool(d, tools + "BrokerApiVersionsCommand", *b)
        assert "Produce(0): " in text and "UNSUPPORTED" in text, text
        assert "TransactionalId" in tool(d, tools + "TransactionsCommand", *b, "list")
        assert "transaction.version" in tool(d, tools + "FeatureCommand", *b, "describe")
        topics("--delete", "--topic", "tools")
        assert topics("--list").split() == []


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@beside_others
def test_kafka_verifiable():
    """kafka-verifiable-producer and -consumer, with both protocols of groups."""
    d = kafka_clients.java_client()
    n = 20000
    with served(kafka=0) as s:
        weir("topics", "create", "verifiable", "--partitions", "4", server=s)
        b = ("--bootstrap-server", s.kafka, "--topic", "verifiable")
        out = json_lines(tool(d, "org.apache.kafka.tools.VerifiableProducer", *b, "--max-messages", str(n)))
        acked = {(e["partition"], e["offset"]): e["value"] for e in out if e["name"] == "producer_send_success"}
        assert len(acked) == n and sorted(acked.values(), key=int) == [str(i) for i in range(n)]
        for protocol in ("classic", "consumer"):
            out = json_lines(tool(d, "org.apache.kafka.tools.VerifiableConsumer", *b, "--group-id", protocol,
                                  "--group-protocol", protocol, "--reset-policy", "earliest", "--verbose", "--max-messages", str(n)))
            got = {(e["partition"], e["offset"]): e["value"] for e in out if e["name"] == "record_data"}
            assert got == acked, (protocol, len(got))
            commits = [e for e in out if e["name"] == "offsets_committed"]
            assert commits and all(e["success"] for e in commits), commits


# ---- Streams and Connect -------------------------------------------------------------------------------

def until(what, ready, seconds=60):
    end = time.time() + seconds
    while not ready():
        assert time.time() < end, "waited %d s for %s" % (seconds, what)
        time.sleep(0.1)


class WordCounts:
    """Instances of the word count, with exactly_once_v2; what they read, and what they are to have written."""
    WORDS = ["apple", "pear", "plum", "fig", "quince", "grape", "cherry"]

    def __init__(self, server, tmp, protocol):
        self.server, self.tmp, self.protocol, self.runs, self.lines = server, tmp, protocol, {}, []
        self.java = kafka_clients.java_client()
        self.rng = random.Random(7)
        for topic, n in (("lines", 3), ("counts", 2)):
            weir("topics", "create", topic, "--partitions", str(n), server=server)

    def start(self, name):
        log = open(os.path.join(self.tmp, name + ".log"), "wb")
        cmd = kafka_clients.java(self.java, "WordCount", self.server.kafka, "lines", "counts", os.path.join(self.tmp, name),
                                 self.protocol)
        self.runs[name] = subprocess.Popen(cmd, stdout=log, stderr=log)

    def log(self, name):
        path = os.path.join(self.tmp, name + ".log")
        return open(path).read() if os.path.exists(path) else ""

    def stop(self, name, kill=False):
        p = self.runs[name]
        p.kill() if kill else p.terminate()
        assert p.wait(60) is not None and (kill or "ERROR" not in self.log(name).splitlines())

    def put(self, n):
        part = [" ".join(self.rng.choices(self.WORDS, k=5)) for _ in range(n)]
        self.lines += part
        kafka_clients.kcat(self.server, "-P", "-t", "lines", "-p", "-1", stdin="\n".join(part).encode())

    def counted(self):
        return kafka_clients.kcat(self.server, "-C", "-t", "counts", "-o", "beginning", "-e", "-q", "-K:",
                                  "-X", "isolation.level=read_committed").splitlines()

    def check(self):
        """Each word was counted once, in order."""
        until("all counts", lambda: len(self.counted()) >= 5 * len(self.lines), 120)
        time.sleep(1)
        got = by(lambda row: row.split(":")[0], self.counted())
        for word in self.WORDS:
            want = ["%s:%d" % (word, n) for n in range(1, sum(line.split().count(word) for line in self.lines) + 1)]
            assert got[word] == want, "%s: %d counts instead of %d" % (word, len(got[word]), len(want))

    def __enter__(self):
        return self

    def __exit__(self, kind, e, trace):
        for name, p in self.runs.items():
            p.kill()
            p.wait()
            if e:
                print(name, self.log(name)[-2500:])


def test_kafka_streams():
    """A word count with exactly_once_v2; one of two instances is killed: each word is counted once, in order."""
    kafka_clients.need_kcat()
    with served(kafka=0) as s, scratch() as tmp, WordCounts(s, tmp, "classic") as w:
        w.start("one")
        w.start("two")
        w.put(1500)
        until("the first counts", lambda: len(w.counted()) >= 2000)
        w.put(1500)
        time.sleep(0.7)
        w.stop("one", kill=True)
        w.put(1000)
        w.start("three")
        w.check()
        w.stop("two")
        w.stop("three")


def test_kafka_streams_group():
    """The same by the protocol of streams groups: one joins, one leaves, one is killed; who goes on has their state."""
    kafka_clients.need_kcat()
    ours = {"group.streams.heartbeat.interval.ms": "1500", "group.streams.initial.rebalance.delay.ms": "500"}
    with served(*("--set=%s=%s" % c for c in ours.items()), kafka=0) as s, scratch() as tmp, WordCounts(
            s, tmp, "streams") as w:
        def group():
            return json.loads(s.call("GET", "/groups/word-count")[2])

        def shared(n):
            """So many members, and each runs some of the six tasks."""
            g = group()
            return g["type"] == "streams" and g["state"] == "Stable" and len(g["members"]) == n and all(
                m["assignment"] for m in g["members"])

        told = tool(w.java, "kafka.admin.ConfigCommand", "--bootstrap-server", s.kafka, "--describe", "--all",
                    "--entity-type", "brokers", "--entity-name", "1")
        for key, value in ours.items():
            assert "%s=%s " % (key, value) in told, told
        w.start("one")
        w.put(1000)
        until("the first counts", lambda: len(w.counted()) >= 2000)
        w.start("two")
        until("two members", lambda: shared(2))
        w.put(1000)
        until("counts of both", lambda: len(w.counted()) >= 7000)
        w.stop("one")
        until("one member", lambda: shared(1))
        w.put(1000)
        w.start("three")
        until("two members again", lambda: shared(2))
        w.stop("two", kill=True)
        w.put(1000)
        w.check()
        listed = tool(w.java, "org.apache.kafka.tools.streams.StreamsGroupCommand", "--bootstrap-server", s.kafka,
                      "--describe", "--group", "word-count", "--state")
        assert "Stable" in listed, listed
        w.stop("three")
        until("no members", lambda: not group()["members"])
        reset = tool(w.java, "org.apache.kafka.tools.streams.StreamsGroupCommand", "--bootstrap-server", s.kafka,
                     "--reset-offsets", "--group", "word-count", "--input-topic", "lines", "--to-earliest", "--dry-run")
        assert [line.split() for line in reset.splitlines() if " lines " in line] == [
            ["word-count", "lines", str(n), "0"] for n in range(3)], reset


def properties(path, **kw):
    with open(path, "w") as f:
        for key, value in kw.items():
            f.write("%s=%s\n" % (key.replace("_", "."), value))
    return path


@beside_others
def test_kafka_connect():
    """Connect, standalone: a file becomes a topic becomes a file; goes on where it was when it is started again."""
    d = kafka_clients.java_client()
    with served(kafka=0) as s, scratch() as tmp:
        source, sink = os.path.join(tmp, "source.txt"), os.path.join(tmp, "sink.txt")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = "org.apache.kafka.connect.storage.StringConverter"
        confs = [
            properties(tmp + "/worker.properties", bootstrap_servers=s.kafka, key_converter=text, value_converter=text,
                       offset_storage_file_filename=tmp + "/offsets", offset_flush_interval_ms=500,
                       listeners="http://127.0.0.1:%d" % port),
            properties(tmp + "/source.properties", name="source", connector_class="FileStreamSource", tasks_max=1,
                       file=source, topic="lines"),
            properties(tmp + "/sink.properties", name="sink", connector_class="FileStreamSink", tasks_max=1,
                       file=sink, topics="lines")]
        written = []
        log = open(tmp + "/log", "wb")

        def add(n):
            with open(source, "a") as f:
                for _ in range(n):
                    written.append("line %d" % len(written))
                    f.write(written[-1] + "\n")

        def read():
            return open(sink).read().splitlines() if os.path.exists(sink) else []

        p = None
        try:
            for _ in range(2):
                add(500)
                p = subprocess.Popen(kafka_clients.java(d, "org.apache.kafka.connect.cli.ConnectStandalone", *confs),
                                     stdout=log, stderr=log)
                until("the sink's file", lambda: len(read()) >= len(written), 90)
                add(500)
                until("lines added to the file", lambda: len(read()) >= len(written))
                p.terminate()
                p.wait(60)
                assert read() == written, (len(read()), len(written))
            assert [base64.b64decode(e["data_base64"]).decode() for e in s.pages("lines", 5000)] == written
        except BaseException:
            print(open(tmp + "/log").read()[-4000:])
            raise
        finally:
            if p:
                p.kill()
                p.wait()
            log.close()
