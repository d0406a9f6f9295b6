"""What requests are answered, good ones and bad: the codes and fields that clients decide by, as Apache Kafka
4.2.0 gives them.

The list is checked against Weir; with WEIR_LONG=1 also against Kafka itself, so that it stays true, where its
jars are (build/kafka-peer, which bench/kafka/run.py gets). Requests are made of the schemas that the server's
codec is made from. What differs on purpose is in docs/kafka.md and not asked here.
"""
import contextlib, glob, importlib.util, os, shutil, socket, struct, subprocess, sys, time, uuid

from harness import ROOT, Skip, scratch, served, wait_for
from kafka_hostile import crc32c, gen, receive, uvarint, varint

NONE, UNKNOWN_TOPIC, CORRUPT, INVALID_TOPIC, UNKNOWN_MEMBER, INVALID_REQUEST = 0, 3, 2, 17, 25, 42
OUT_OF_ORDER, PRODUCER_EPOCH, TXN_STATE, ID_MAPPING, TXN_ID_AUTH = 45, 47, 48, 49, 53
BAD_TIMESTAMP, NO_COMPRESSION, INVALID_RECORD, FENCED, UNKNOWN_TOPIC_ID = 32, 76, 87, 90, 100
MISMATCHED_ENDPOINT, UNSUPPORTED_ENDPOINT, ABORTABLE, INVALID_CONFIG = 114, 115, 120, 40
NOT_YET = (14, 15, 16, 51)  # the coordinator loads, a transaction is being ended: clients ask again
TOPIC_OPERATIONS, CLUSTER_OPERATIONS = 3576, 8096
SET_HERE, DEFAULT = 1, 5  # sources of configurations


# ---- the wire ------------------------------------------------------------------------------------------

class Wire:
    """A message of the schemas in one version, to and from dicts of its fields."""

    def __init__(self, message, version, data=b""):
        self.m, self.v, self.data, self.at = message, version, data, 0

    def has(self, f):
        return f.versions[0] <= self.v <= f.versions[1]

    def flex(self, f):
        return self.m.is_flexible(self.v) and not f.inflexible

    def put(self, s, values):
        unknown = set(values) - {f.name for f in s.fields}
        assert not unknown, unknown
        out = b""
        for f in s.fields:
            if self.has(f) and f.tag is None:
                out += self.put_field(f, values.get(f.name, self.default(f)))
        return out + (b"\0" if self.m.is_flexible(self.v) else b"")

    def default(self, f):
        if f.array:
            return []
        if f.default == "null":
            return None
        if f.base == "bool":
            return f.default == "true"
        if f.base in gen.INTS:
            return int(f.default or 0)
        return {"string": "", "uuid": bytes(16)}.get(f.base, b"")

    def count(self, n, flex, wide):
        return uvarint(n + 1) if flex else struct.pack(">i" if wide else ">h", n)

    def put_field(self, f, v):
        if not f.array:
            return self.put_one(f, v)
        return self.count(-1 if v is None else len(v), self.flex(f), True) + b"".join(self.put_one(f, x) for x in v or ())

    def put_one(self, f, v):
        if f.struct:
            lead = (b"\xff" if v is None else b"\1") if f.pointer else b""
            return lead if lead == b"\xff" else lead + self.put(f.struct, v)
        if f.base == "uuid":
            return v
        if f.base in gen.BLOBS:
            v = v.encode() if isinstance(v, str) else v
            return self.count(-1 if v is None else len(v), self.flex(f), f.base != "string") + (v or b"")
        return struct.pack(">" + NUMBERS[f.base], v)

    def take(self, n):
        assert self.at + n <= len(self.data), "the answer ends early"
        self.at += n
        return self.data[self.at - n:self.at]

    def take_uvarint(self):
        n = shift = 0
        while True:
            b = self.take(1)[0]
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n

    def take_count(self, flex, wide):
        return self.take_uvarint() - 1 if flex else struct.unpack(">i" if wide else ">h", self.take(4 if wide else 2))[0]

    def get(self, s):
        out = {f.name: self.get_field(f) for f in s.fields if self.has(f) and f.tag is None}
        for _ in range(self.take_uvarint() if self.m.is_flexible(self.v) else 0):
            tag, end = self.take_uvarint(), self.take_uvarint() + self.at
            for f in s.fields:
                if f.tag == tag:
                    out[f.name] = self.get_field(f)
            self.at = end
        return out

    def get_field(self, f):
        if not f.array:
            return self.get_one(f)
        n = self.take_count(self.flex(f), True)
        return None if n < 0 else [self.get_one(f) for _ in range(n)]

    def get_one(self, f):
        if f.struct:
            return None if f.pointer and self.take(1) == b"\xff" else self.get(f.struct)
        if f.base == "uuid":
            return self.take(16)
        if f.base in gen.BLOBS:
            n = self.take_count(self.flex(f), f.base != "string")
            v = None if n < 0 else self.take(n)
            return v.decode() if v is not None and f.base == "string" else v
        return struct.unpack(">" + NUMBERS[f.base], self.take(gen.INTS[f.base][2]))[0]


NUMBERS = {"bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "int64": "q", "float64": "d"}


def codes(answer):
    """Every error code in it."""
    if isinstance(answer, list):
        return [c for a in answer for c in codes(a)]
    if not isinstance(answer, dict):
        return []
    return [c for k, v in answer.items() for c in ([v] if k in ("error_code", "partition_error_code") else codes(v))]


class Peer:
    """A connection: peer("Metadata", 12, topics=[…]) is the answer. What cannot be done yet is asked again."""
    messages, made = {}, 0

    def __init__(self, port, who):
        self.c = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.who = who
        if not Peer.messages:
            for m in gen.load(glob.glob(os.path.join(ROOT, "src", "proto", "kafka", "messages", "*.msg"))):
                Peer.messages[m.name] = m

    def once(self, name, version, fields):
        request, response = self.messages[name + "Request"], self.messages[name + "Response"]
        head = struct.pack(">hhih", request.api["key"], version, 7, -1) + b"\0" * request.is_flexible(version)
        body = head + Wire(request, version).put(request.root, fields)
        self.c.sendall(struct.pack(">i", len(body)) + body)
        w = Wire(response, version, receive(self.c, struct.unpack(">i", receive(self.c, 4))[0]))
        assert w.take(4) == struct.pack(">i", 7)
        w.take(response.is_flexible(version) and name != "ApiVersions")
        answer = w.get(response.root)
        assert w.at == len(w.data), name
        return answer

    def __call__(self, name, version, **fields):
        until = time.monotonic() + 60
        while True:
            answer = self.once(name, version, fields)
            if not set(codes(answer)) & set(NOT_YET) or time.monotonic() > until:
                return answer
            time.sleep(0.02)

    def topic(self, partitions=1, **configs):
        """A new topic's name and id; it is led by then."""
        Peer.made += 1
        name = "answers-%d" % Peer.made
        self("CreateTopics", 7, timeout_ms=30000, topics=[
            {"name": name, "num_partitions": partitions, "replication_factor": 1,
             "configs": [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()]}])

        def led():
            return set(codes(self("ListOffsets", 6, replica_id=-1, topics=[{"name": name, "partitions": [
                {"partition_index": p, "timestamp": -1} for p in range(partitions)]}]))) == {NONE}
        wait_for(led)
        return name, self("Metadata", 12, topics=[{"name": name}])["topics"][0]["topic_id"]

    def same(self, label, got, want):
        assert got == want, "%s: %s: answers %r, and not %r" % (self.who, label, got, want)


# ---- batches -------------------------------------------------------------------------------------------

def record(i, key, value, ts=0):
    body = b"\0" + varint(ts) + varint(i)
    for x in (key, value):
        body += varint(-1) if x is None else varint(len(x)) + x
    body += b"\0"
    return varint(len(body)) + body


def batch(records=((b"k", b"v"),), count=None, codec=0, producer=(-1, -1, -1), txn=False, damaged=False, magic=2):
    """records: (key, value) or (key, value, milliseconds from now)."""
    raw = b"".join(record(i, *r) for i, r in enumerate(records))
    if codec == 4:  # a zstd frame of one block, as it is
        raw = bytes.fromhex("28b52ffd20") + bytes((len(raw),)) + struct.pack("<I", len(raw) << 3 | 1)[:3] + raw
    n = len(records) if count is None else count
    now = int(time.time() * 1000)
    late = max([r[2] for r in records if len(r) > 2] + [0])
    tail = struct.pack(">hiqqqhii", codec | (16 if txn else 0), n - 1, now, now + late, *producer, n) + raw
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, magic, crc32c(tail) ^ damaged) + tail


def produce(p, topic, data, version=12, txn=None, partition=0):
    """The partition's answer. topic: name and id."""
    where = {"topic_id": topic[1]} if version >= 13 else {"name": topic[0]}
    r = p("Produce", version, transactional_id=txn, acks=-1, timeout_ms=30000, topic_data=[
        dict(where, partition_data=[{"index": partition, "records": data}])])
    return r["responses"][0]["partition_responses"][0]


# ---- the list ------------------------------------------------------------------------------------------

def answers_produce(p):
    t, compact = p.topic(), p.topic(cleanup_policy="compact")
    for v in (3, 8, 12, 13):
        for label, data, code in (
                ("a batch", batch(), NONE),
                ("damaged", batch(damaged=True), CORRUPT),  # which clients send again, and these they do not:
                ("of format 1", batch(magic=1), INVALID_RECORD),
                ("that says 2 records and has 1", batch(count=2), INVALID_RECORD),
                ("that says 1 record and has 2", batch([(b"k", b"v")] * 2, count=1), INVALID_RECORD),
                ("two in one", batch() * 2, INVALID_RECORD),
                ("with a producer and no sequence", batch(producer=(5, 0, -1)), INVALID_RECORD),
                ("too late", batch([(b"k", b"v", 8000000)]), BAD_TIMESTAMP),
                ("transactional, without its id", batch(producer=(5, 0, 0), txn=True), TXN_ID_AUTH)):
            p.same("Produce %d of a batch %s" % (v, label), produce(p, t, data, v)["error_code"], code)
    p.same("Produce 13 to an unknown id", produce(p, (None, b"\1" * 16), batch(), 13)["error_code"], UNKNOWN_TOPIC_ID)
    r = produce(p, compact, batch([(b"k", b"v"), (None, b"v"), (b"k", None), (None, b"v")]))
    p.same("Produce without keys", (r["error_code"], [e["batch_index"] for e in r["record_errors"]]), (INVALID_RECORD, [1, 3]))
    r = produce(p, t, batch([(b"k", b"v", 8000000), (b"k", b"v"), (b"k", b"v", 9000000)]))
    p.same("Produce too late", (r["error_code"], [e["batch_index"] for e in r["record_errors"]]), (BAD_TIMESTAMP, [0, 2]))
    for v, code in ((3, NO_COMPRESSION), (7, NONE)):
        p.same("Produce %d of zstd" % v, produce(p, t, batch(codec=4), v)["error_code"], code)


def answers_idempotent(p):
    t = p.topic(2)
    pid = p("InitProducerId", 4, transactional_id=None, transaction_timeout_ms=60000)["producer_id"]
    for label, epoch, sequence, want in (
            ("first", 0, 0, (NONE, 0)), ("again", 0, 0, (NONE, 0)), ("gap", 0, 2, (OUT_OF_ORDER, -1)),
            ("second", 0, 1, (NONE, 1)), ("next epoch in the middle", 1, 2, (OUT_OF_ORDER, -1)),
            ("next epoch", 1, 0, (NONE, 2)), ("old epoch", 0, 2, (PRODUCER_EPOCH, -1)), ("no epoch", -1, 2, (PRODUCER_EPOCH, -1))):
        r = produce(p, t, batch(producer=(pid, epoch, sequence)))
        p.same("idempotent, " + label, (r["error_code"], r["base_offset"]), want)


def begin(p, name, timeout_ms=60000):
    r = p("InitProducerId", 4, transactional_id=name, transaction_timeout_ms=timeout_ms)
    return r["producer_id"], r["producer_epoch"]


def end(p, name, pid, epoch, commit, version=5):
    return p("EndTxn", version, transactional_id=name, producer_id=pid, producer_epoch=epoch, committed=commit)


def answers_transactions(p):
    t = p.topic()
    pid, epoch = begin(p, "txn")
    other = begin(p, "other")
    p.same("another's id", produce(p, t, batch(producer=(pid, epoch, 0), txn=True), txn="nobody")["error_code"], ID_MAPPING)
    for v, code in ((7, TXN_STATE), (11, ABORTABLE)):
        r = produce(p, t, batch(producer=(pid, epoch, 0), txn=True), v, "txn")
        p.same("Produce %d before the transaction" % v, r["error_code"], code)
    p.same("in it", produce(p, t, batch(producer=(pid, epoch, 0), txn=True), txn="txn")["error_code"], NONE)
    r = end(p, "txn", pid, epoch, True)
    p.same("commit", (r["error_code"], r["producer_epoch"]), (NONE, epoch + 1))
    r = end(p, "txn", pid, epoch, True)
    p.same("commit again", (r["error_code"], r["producer_epoch"]), (NONE, epoch + 1))
    p.same("commit of nothing", end(p, "other", *other, True)["error_code"], TXN_STATE)
    p.same("of the past", produce(p, t, batch(producer=(pid, epoch, 1), txn=True), txn="txn")["error_code"], PRODUCER_EPOCH)

    # one that takes too long is over; who says that it knows goes on
    pid, epoch = begin(p, "slow", 500)
    p.same("slow", produce(p, t, batch(producer=(pid, epoch, 0), txn=True), txn="slow")["error_code"], NONE)
    wait_for(lambda: p("DescribeTransactions", 0, transactional_ids=["slow"])["transaction_states"][0]["transaction_state"]
             == "CompleteAbort")
    p.same("too late", produce(p, t, batch(producer=(pid, epoch, 1), txn=True), txn="slow")["error_code"], PRODUCER_EPOCH)
    p.same("commit too late", end(p, "slow", pid, epoch, True)["error_code"] in (FENCED, TXN_STATE), True)
    r = end(p, "slow", pid, epoch, False)
    p.same("abort too late", (r["error_code"], r["producer_epoch"]), (NONE, epoch + 1))
    r = p("InitProducerId", 4, transactional_id="slow", transaction_timeout_ms=60000, producer_id=pid, producer_epoch=epoch)
    p.same("next epoch", (r["error_code"], r["producer_epoch"]), (NONE, epoch + 1))


def answers_cluster(p):
    name, topic_id = p.topic()
    ask = {"include_topic_authorized_operations": True}
    r = p("Metadata", 12, topics=[{"name": name}], **ask)
    p.same("Metadata: operations", r["topics"][0]["topic_authorized_operations"], TOPIC_OPERATIONS)
    r = p("Metadata", 10, topics=[{"name": name}], include_cluster_authorized_operations=True, **ask)
    p.same("Metadata: the cluster's", r["cluster_authorized_operations"], CLUSTER_OPERATIONS)
    r = p("DescribeTopicPartitions", 0, topics=[{"name": name}, {"name": "no such"}, {"name": "nosuch"}], response_partition_limit=9)
    p.same("DescribeTopicPartitions", {t["name"]: t["error_code"] for t in r["topics"]},
           {name: NONE, "no such": INVALID_TOPIC, "nosuch": UNKNOWN_TOPIC})
    p.same("its operations", r["topics"][0]["topic_authorized_operations"], TOPIC_OPERATIONS)
    for kind, code in ((1, NONE), (2, MISMATCHED_ENDPOINT), (3, UNSUPPORTED_ENDPOINT)):
        r = p("DescribeCluster", 1, include_cluster_authorized_operations=True, endpoint_type=kind)
        p.same("DescribeCluster %d" % kind, r["error_code"], code)
        if not code:
            p.same("its operations", r["cluster_authorized_operations"], CLUSTER_OPERATIONS)
    for what, code in ((0, NONE), (1, NONE), (2, INVALID_REQUEST)):
        r = p("ElectLeaders", 2, election_type=what, timeout_ms=5000, topic_partitions=[{"topic": name, "partitions": [0]}])
        p.same("ElectLeaders %d" % what, r["error_code"], code)
    r = p("ListOffsets", 11, replica_id=-1, timeout_ms=5000, topics=[{"name": name, "partitions": [
        {"partition_index": 0, "timestamp": -6}]}])["topics"][0]["partitions"][0]
    p.same("ListOffsets -6", (r["error_code"], r["offset"], r["timestamp"]), (NONE, -1, -1))


def answers_configs(p):
    name, _ = p.topic(retention_ms="604800000")

    def shown(key):
        r = p("DescribeConfigs", 4, resources=[{"resource_type": 2, "resource_name": name, "configuration_keys": [key]}])
        c = r["results"][0]["configs"][0]
        return c["value"], c["config_source"]

    def alter(key, how, value, topic=name):
        r = p("IncrementalAlterConfigs", 1, resources=[{"resource_type": 2, "resource_name": topic, "configs": [
            {"name": key, "config_operation": how, "value": value}]}])
        return r["responses"][0]["error_code"]
    p.same("set to the default", shown("retention.ms"), ("604800000", SET_HERE))
    p.same("delete", alter("retention.ms", 1, None), NONE)
    wait_for(lambda: shown("retention.ms")[1] == DEFAULT)
    p.same("set cleanup.policy", alter("cleanup.policy", 0, "delete"), NONE)
    wait_for(lambda: shown("cleanup.policy") == ("delete", SET_HERE))
    p.same("delete what there is not", alter("no.such", 1, None), NONE)
    p.same("set it", alter("no.such", 0, "1"), INVALID_CONFIG)
    p.same("no such name", alter("retention.ms", 0, "5", "no such"), INVALID_TOPIC)
    types = {"node.id": 3, "offsets.topic.replication.factor": 4, "connections.max.idle.ms": 5, "log.dirs": 7}
    r = p("DescribeConfigs", 4, resources=[{"resource_type": 4, "resource_name": "1", "configuration_keys": list(types)}])
    p.same("types of the broker's", {c["name"]: c["config_type"] for c in r["results"][0]["configs"]}, types)
    r = p("DescribeConfigs", 4, resources=[{"resource_type": 2, "resource_name": "no such"}])
    p.same("DescribeConfigs of no such name", r["results"][0]["error_code"], INVALID_TOPIC)


def answers_groups(p):
    name, _ = p.topic()

    def leave(group, member):
        r = p("LeaveGroup", 5, group_id=group, members=[{"member_id": member}])
        return r["error_code"], [m["error_code"] for m in r["members"]]
    p.same("leave an unknown group", leave("nobody", "m"), (NONE, [UNKNOWN_MEMBER]))
    p.same("LeaveGroup 2", p("LeaveGroup", 2, group_id="nobody", member_id="m")["error_code"], UNKNOWN_MEMBER)
    r = p("ConsumerGroupHeartbeat", 1, group_id="new", member_id=str(uuid.uuid4()), rebalance_timeout_ms=60000,
          subscribed_topic_names=[name])
    p.same("join", r["error_code"], NONE)
    p.same("take out another", leave("new", "another"), (NONE, [UNKNOWN_MEMBER]))
    p.same("take out a member of the consumer protocol", leave("new", r["member_id"]), (NONE, [NONE]))
    r = p("ConsumerGroupHeartbeat", 1, group_id="new", member_id=r["member_id"], member_epoch=r["member_epoch"])
    p.same("which it hears", r["error_code"], UNKNOWN_MEMBER)


def answers(port, who):
    first = Peer(port, who)
    with contextlib.closing(first.c):
        for kind in (0, 1):  # Kafka makes what it keeps groups and transactions in when it is asked for it
            first("FindCoordinator", 4, key_type=kind, coordinator_keys=["answers"])
    for k, f in sorted(globals().items()):
        if k.startswith("answers_"):
            p = Peer(port, who)
            with contextlib.closing(p.c):
                f(p)


# ---- tests ---------------------------------------------------------------------------------------------

def test_kafka_answers():
    with served(kafka=0) as s:
        answers(int(s.kafka.split(":")[1]), "Weir")


def test_kafka_answers_of_kafka():
    """The same list, asked of Kafka."""
    if os.environ.get("WEIR_LONG") != "1":
        raise Skip("asks Kafka itself: set WEIR_LONG=1")
    peer = os.path.join(ROOT, "build", "kafka-peer")
    if not shutil.which("java") or not glob.glob(os.path.join(peer, "kafka_*.jar")):
        raise Skip("there are no java and jars of Kafka in build/kafka-peer: bench/kafka/run.py gets them")
    spec = importlib.util.spec_from_file_location("kafka_bench", os.path.join(ROOT, "bench", "kafka", "run.py"))
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    with scratch() as d:
        conf = type("conf", (), {"dir": d, "peer": peer})
        server = bench.Kafka(conf)
        server.prepare()
        with open(os.path.join(d, "kafka.log"), "wb") as log:
            server.process = subprocess.Popen(server.command(), stdout=log, stderr=log)

        def open_yet():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", server.port), 1).close()
                return True
        try:
            wait_for(open_yet)
            answers(server.port, "Kafka")
        finally:
            server.stop()
