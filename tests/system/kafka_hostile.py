"""Bad peers on the Kafka port of the real binary: what they declare, hold back, blow up, do not read.

Beside each of them a good client, a process of its own, produces, asks for metadata and fetches: its slowest
round trip is printed and bounded. So is the memory of the server, from /proc. The bounds leave room for a
slow machine; the figures printed say what it was.
"""
import contextlib, glob, multiprocessing, os, random, socket, struct, sys, threading, time, zlib

from harness import ROOT, Server, scratch, served

sys.path.insert(0, os.path.join(ROOT, "src", "proto", "kafka"))
sys.dont_write_bytecode = True
import gen  # noqa: E402: the schemas, as the server's codec is made from them

MIB = 1 << 20
LATE = float(os.environ.get("WEIR_HOSTILE_LATE", "10.0"))  # seconds; a round trip of the good client at most


# ---- wire format ---------------------------------------------------------------------------------------

CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    CRC.append(n)


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ CRC[(c ^ b) & 255]
    return c ^ 0xffffffff


def varint(n):
    n = n << 1 ^ n >> 63
    out = b""
    while n > 127:
        out += bytes((n & 127 | 128,))
        n >>= 7
    return out + bytes((n,))


def uvarint(n):
    out = b""
    while n > 127:
        out += bytes((n & 127 | 128,))
        n >>= 7
    return out + bytes((n,))


def text(s):
    return struct.pack(">h", len(s)) + s.encode()


def record(delta, value):
    body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(records, count, codec=0):
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", codec, count - 1, now, now, -1, -1, -1, count) + records
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


def frame(key, version, body, corr=1, flexible=False):
    head = struct.pack(">hhi", key, version, corr) + text("hostile") + (b"\0" if flexible else b"")
    return struct.pack(">i", len(head) + len(body)) + head + body


def produce(topic, batches, corr=1, acks=-1):
    """Version 3; batches of (partition, bytes)."""
    body = struct.pack(">hhii", -1, acks, 30000, 1) + text(topic) + struct.pack(">i", len(batches))
    for p, b in batches:
        body += struct.pack(">ii", p, len(b)) + b
    return frame(0, 3, body, corr)


def fetch(topic, offset, corr=1, wait=0, size=16 * MIB):
    return frame(1, 4, struct.pack(">iiiibi", -1, wait, 1, size, 0, 1) + text(topic) +
                 struct.pack(">iiqi", 1, 0, offset, size), corr)


def metadata(*topics, corr=1):
    n = len(topics) if topics else -1
    return frame(3, 1, struct.pack(">i", n) + b"".join(text(t) for t in topics), corr)


def create_topics(names, corr=1):
    body = struct.pack(">i", len(names))
    for n in names:
        body += text(n) + struct.pack(">ihii", 1, 1, 0, 0)
    return frame(19, 2, body + struct.pack(">ib", 60000, 0), corr)


def connect(s, timeout=20):
    host, port = s.kafka.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


def receive(c, n):
    out = bytearray()
    while len(out) < n:
        piece = c.recv(min(n - len(out), 1 << 20))
        if not piece:
            raise EOFError
        out += piece
    return bytes(out)


def answer(c):
    """(correlation id, body) of the next answer with a header of version 0."""
    got = receive(c, struct.unpack(">i", receive(c, 4))[0])
    return struct.unpack(">i", got[:4])[0], got[4:]


def call(c, data):
    c.sendall(data)
    return answer(c)[1]


def produce_error(body):
    """Of the only partition of a produce answer, version 3."""
    n = struct.unpack(">h", body[4:6])[0]
    return struct.unpack(">h", body[6 + n + 4 + 4:6 + n + 10])[0]


def ended(c, seconds):
    """Does the server end the connection in time?"""
    c.settimeout(seconds)
    try:
        while c.recv(65536):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True


# ---- a good client beside --------------------------------------------------------------------------------

def good_client(address, stop, out):
    host, port = address.split(":")
    slowest, n, one = 0.0, 0, batch(record(0, b"good"), 1)
    try:
        while not stop.is_set():
            with socket.create_connection((host, int(port)), timeout=30) as c:
                for _ in range(10):
                    t = time.monotonic()
                    assert produce_error(call(c, produce("good", [(0, one)]))) == 0
                    call(c, metadata("good"))
                    call(c, fetch("good", n, size=1000))
                    slowest = max(slowest, (time.monotonic() - t) / 3)
                    n += 1
                    time.sleep(0.01)
    except BaseException as e:
        out.put(("failed after %d rounds: %r" % (n, e), n))
        return
    out.put((slowest, n))


@contextlib.contextmanager
def watched(s, what, grow_mib):
    """The good client is served meanwhile; the server's memory grows by at most so much."""
    with connect(s) as c:
        call(c, create_topics(["good"]))
    stop, out = multiprocessing.Event(), multiprocessing.Queue()
    p = multiprocessing.Process(target=good_client, args=(s.kafka, stop, out), daemon=True)
    before, most, over = s.rss_kb(), [0], threading.Event()

    def look():
        while not over.wait(0.02):
            with contextlib.suppress(OSError, AttributeError):
                most[0] = max(most[0], s.rss_kb() - before)

    looker = threading.Thread(target=look)
    p.start()
    looker.start()
    try:
        yield
        time.sleep(0.3)
    finally:
        over.set()
        stop.set()
        looker.join()
        slowest, rounds = out.get(timeout=60)
        p.join()
    print("figure: %s: a good client's slowest round trip %s ms, memory %d MiB more" %
          (what, "%.0f" % (slowest * 1000) if isinstance(slowest, float) else slowest, most[0] >> 10))
    assert isinstance(slowest, float), slowest
    assert rounds > 0 and slowest < LATE, "%d rounds, the slowest %.1f s" % (rounds, slowest)
    assert most[0] < grow_mib << 10, "%d KiB more memory, at most %d MiB allowed" % (most[0], grow_mib)


# ---- declared counts -------------------------------------------------------------------------------------

class Hostile:
    """Bodies of a request, one for each array in it: up to the array as it should be, then the count."""

    def __init__(self, message, version, count):
        self.m, self.v, self.count, self.found = message, version, count, []

    def struct(self, s, so_far):
        for f in s.fields:
            if not f.versions[0] <= self.v <= f.versions[1] or f.tag is not None:
                continue
            flex = self.m.is_flexible(self.v) and not f.inflexible
            if f.array:
                wild = uvarint(self.count + 1 & 0xffffffff) if flex else struct.pack(">i", self.count)
                self.found.append(so_far + wild)
            so_far = so_far + self.field(f, flex, so_far)
        return so_far + (b"\0" if self.m.is_flexible(self.v) else b"")

    def field(self, f, flex, so_far):
        if f.array:
            one = b"\x02" if flex else struct.pack(">i", 1)
            return one + self.one(f, flex, so_far + one)
        return self.one(f, flex, so_far)

    def one(self, f, flex, so_far):
        if f.struct:
            lead = b"\x01" if f.pointer else b""
            return lead + self.struct(f.struct, so_far + lead)[len(so_far + lead):]
        if f.base == "string":
            return b"\x02a" if flex else text("a")
        if f.base in ("bytes", "records"):
            return b"\x01" if flex else struct.pack(">i", 0)
        return b"\0" * (16 if f.base == "uuid" else gen.INTS[f.base][2])


def hostile_counts():
    """(key, version, flexible, body) for every array of every request, in its first and last version."""
    for m in gen.load(glob.glob(os.path.join(ROOT, "src", "proto", "kafka", "messages", "*.msg"))):
        if m.kind != "request":
            continue
        for v in sorted(set(m.versions)):
            for count in (0x7fffffff, -2, 0x00ffffff):
                h = Hostile(m, v, count)
                h.struct(m.root, b"")
                for body in h.found:
                    yield m.api["key"], v, m.is_flexible(v), body
            if m.is_flexible(v):  # tagged fields: their number, then the length of one
                h = Hostile(m, v, 0)
                whole = h.struct(m.root, b"")[:-1]
                yield m.api["key"], v, True, whole + uvarint(0xffffffff)
                yield m.api["key"], v, True, whole + uvarint(1) + uvarint(99) + uvarint(0x7fffffff)


def test_kafka_hostile_counts():
    """Every array of every request declares 2^31-1, -2, 2^24-1 elements: the connection ends, nothing is taken."""
    with served(kafka=0) as s, watched(s, "declared counts", 48):
        n = 0
        for key, v, flex, body in hostile_counts():
            c = connect(s)
            c.sendall(frame(key, v, body, flexible=flex))
            assert ended(c, 10), "API %d version %d was not refused: %r" % (key, v, body)
            c.close()
            n += 1
        assert n > 400, n
        print("figure: %d requests with hostile counts, all refused" % n)


# ---- frames ----------------------------------------------------------------------------------------------

def test_kafka_hostile_frames():
    """Frames of 100 MiB that are declared and sent slowly, or never; more than that; less than a header."""
    with served("--set", "kafka.idle=6s", kafka=0) as s, watched(s, "declared frames", 96):
        conns = [connect(s) for _ in range(200)]
        for c in conns:
            c.sendall(struct.pack(">i", 100 * MIB) + b"\0" * 1000)
        for c in conns[:20]:
            c.sendall(b"\0" * 200000)
        for c in conns[20:]:
            assert ended(c, 60), "a frame that does not come holds its connection"
        for n in (100 * MIB + 1, 0x7fffffff, -1, -2147483648, 0, 7):
            c = connect(s)
            c.sendall(struct.pack(">i", n))
            assert ended(c, 5), "a frame of %d bytes is waited for" % n
        for c in conns:
            c.close()


def test_kafka_hostile_half_frames():
    """40 connections send 60 MiB of frames of 90 MiB: they are read up to LIMIT_KAFKA_HELD_IN. Those that send the rest are
    answered, also when more wait than may be held."""
    value, pad = bytes(1000000), 90
    with served("--set", "topics.auto_create=false", kafka=0) as s, watched(s, "half frames", 128 + 2 * 100 + 150):
        one = batch(record(0, value), 1)
        whole = produce("nowhere", [(0, one)] * pad)
        conns, answers = [connect(s, 120) for _ in range(40)], []

        def send(c):
            with contextlib.suppress(OSError):
                c.sendall(whole[:60 * MIB])

        def finish(c):
            c.sendall(whole)
            answers.append(answer(c)[0])

        hold = [threading.Thread(target=send, args=(c,)) for c in conns]
        for t in hold:
            t.start()
        time.sleep(3)
        for c in conns:
            c.shutdown(socket.SHUT_RDWR)
        for t in hold:
            t.join()
        rest = [threading.Thread(target=finish, args=(connect(s, 120),)) for _ in range(8)]
        for t in rest:
            t.start()
        for t in rest:
            t.join()
        assert answers == [1] * 8, answers


def test_kafka_hostile_unauthenticated():
    """Before authentication: only small frames, only what leads to it."""
    with scratch() as d:
        users = os.path.join(d, "users")
        open(users, "w").write("a:secret\n")
        s = Server(os.path.join(d, "data"), "--set", "kafka.sasl.mechanisms=PLAIN", "--set",
                   "kafka.sasl.users=" + users, "--set", "kafka.idle=6s", kafka=0)
        before = s.rss_kb()
        for n in (100 * MIB, 65537, 0x7fffffff):
            c = connect(s)
            c.sendall(struct.pack(">i", n))
            assert ended(c, 5), "a frame of %d bytes is waited for" % n
        for data in (metadata(), produce("t", [(0, batch(record(0, b"x"), 1))]), fetch("t", 0), create_topics(["t"])):
            c = connect(s)
            c.sendall(data)
            assert ended(c, 5)
        conns = [connect(s) for _ in range(500)]
        for c in conns:
            c.sendall(struct.pack(">i", 65536) + b"\0" * 60000)
        time.sleep(0.5)
        grown = s.rss_kb() - before
        print("figure: 500 connections with 60 kB of a frame each, before authentication: %d KiB" % grown)
        assert grown < 64 << 10, grown
        for c in conns:
            assert ended(c, 60)
        hello = connect(s)
        call(hello, frame(17, 1, text("PLAIN")))
        token = b"\0a\0secret"
        assert call(hello, frame(36, 0, struct.pack(">i", len(token)) + token))[:2] == b"\0\0"
        call(hello, metadata())
        s.stop()


def test_kafka_hostile_connections():
    """1,000 connections, each with a part of a frame: 20 KiB each at most; they end when idle."""
    with served("--set", "kafka.idle=4s", kafka=0) as s, watched(s, "1,000 half frames", 64):
        conns = []
        whole = fetch("good", 0)
        for i in range(1000):
            c = connect(s)
            c.sendall(whole[:1 + i % (len(whole) - 1)])
            conns.append(c)
        for c in conns:
            assert ended(c, 30)
            c.close()


def test_kafka_hostile_bytes():
    """Garbage, TLS, HTTP, unknown APIs and versions, half-closed sockets."""
    rng = random.Random(3)
    cases = [rng.randbytes(n) for n in (1, 3, 4, 5, 11, 12, 13, 100, 5000) for _ in range(5)]
    cases += [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
              b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
              b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    with served("--set", "kafka.idle=2s", kafka=0) as s, watched(s, "garbage", 32):
        for data in cases:
            c = connect(s)
            c.sendall(data)
            c.shutdown(socket.SHUT_WR)
            assert ended(c, 10), data[:40]
        for key in (-1, 4, 5, 6, 7, 27, 38, 52, 500, 32767):
            c = connect(s)
            c.sendall(frame(key, 0, b""))
            assert ended(c, 1.5), key
        for m in gen.load(glob.glob(os.path.join(ROOT, "src", "proto", "kafka", "messages", "*.msg"))):
            if m.kind != "request" or m.api["key"] == 18:
                continue
            for v in (-1, m.versions[1] + 1, 32767):
                c = connect(s)
                c.sendall(frame(m.api["key"], v, b""))
                assert ended(c, 1.5), (m.name, v)
        with connect(s) as c:
            assert call(c, frame(18, 99, b""))[:2] == struct.pack(">h", 35)
            assert struct.unpack(">h", call(c, frame(18, 0, b""))[:2])[0] == 0
        c = connect(s)
        c.sendall(metadata("good") + metadata("good")[:9])
        c.shutdown(socket.SHUT_WR)
        assert ended(c, 10)


# ---- work ------------------------------------------------------------------------------------------------

def lz4_hash(data):
    """xxHash32 of fewer than 16 bytes, seed 0."""
    p1, p2, p3, p5, mask = 2654435761, 2246822519, 3266489917, 374761393, 0xffffffff
    h = p5 + len(data) & mask
    for b in data:
        h = h + b * p5 & mask
        h = (h << 11 | h >> 21) * p1 & mask
    h = (h ^ h >> 15) * p2 & mask
    h = (h ^ h >> 13) * p3 & mask
    return h ^ h >> 16


def lz4_block(n):
    """n zeros: a literal, one long match, five literals."""
    match = n - 6 - 4 - 15
    return b"\x1f\0\x01\0" + b"\xff" * (match // 255) + bytes((match % 255,)) + b"\x50" + b"\0" * 5


def bomb(codec, inflated):
    """A record of zeros, about so many bytes, packed."""
    zeros = inflated - 64
    zeros -= (zeros + (codec != 2)) % (128 * 1024 if codec == 4 else 4 * MIB if codec == 3 else 64)
    tail = b"\0" + varint(0) + varint(0) + varint(-1) + varint(zeros)
    head = varint(len(tail) + zeros + 1) + tail
    zeros += 1  # the record's headers: none
    if codec == 1:
        z = zlib.compressobj(9, zlib.DEFLATED, 31)
        return z.compress(head) + b"".join(z.compress(b"\0" * MIB) for _ in range(zeros // MIB)) + \
            z.compress(b"\0" * (zeros % MIB)) + z.flush()
    if codec == 2:  # a literal, then copies of 64 bytes from one back
        return uvarint(len(head) + zeros) + bytes((len(head) << 2,)) + head + b"\0" + b"\xfe\x01\0" * (zeros // 64)
    if codec == 3:
        flags = b"\x60\x70"
        block = lz4_block(4 * MIB)
        return b"\x04\x22\x4d\x18" + flags + bytes((lz4_hash(flags) >> 8 & 255,)) + \
            struct.pack("<I", len(head) | 1 << 31) + head + \
            (struct.pack("<I", len(block)) + block) * (zeros // (4 * MIB)) + b"\0" * 4
    rle = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + (len(head) << 3).to_bytes(3, "little") + head + \
        rle * (zeros // (128 * 1024)) + (1).to_bytes(3, "little")


def test_kafka_hostile_bombs():
    """What 1 MB inflates to, by each codec: beyond 32 times max.message.bytes it is refused. Then 40 in one request."""
    packs = {1: 400 * MIB, 2: 20 * MIB, 3: 236 * MIB, 4: 1024 * MIB}
    with served(kafka=0) as s, watched(s, "decompression bombs", 192):
        c = connect(s, 120)
        call(c, create_topics(["bomb"]))
        for codec, inflated in packs.items():
            b = batch(bomb(codec, inflated), 1, codec)
            assert len(b) < 1048588, len(b)
            t = time.monotonic()
            error = produce_error(call(c, produce("bomb", [(0, b)])))
            print("figure: codec %d: %d bytes that inflate to %d MiB: error %d after %.0f ms" %
                  (codec, len(b), inflated >> 20, error, (time.monotonic() - t) * 1000))
            assert error == (0 if inflated < 32 * MIB else 10), (codec, error)
        for codec, inflated in packs.items():
            b = batch(bomb(codec, min(inflated, 64 * MIB)), 1, codec)
            many = produce("bomb", [(0, b)] * (40 if len(b) < 300000 else 20))
            t = time.monotonic()
            call(c, many)
            print("figure: codec %d: %d MB of them in a request: %.0f ms" %
                  (codec, len(many) // 1000000, (time.monotonic() - t) * 1000))
        c.close()


def test_kafka_hostile_slow_readers():
    """50 connections ask for 16 MiB 60 times and do not read: together they may hold LIMIT_KAFKA_HELD_OUT, then answers
    are small."""
    with served(kafka=0) as s:
        with connect(s, 60) as c:
            call(c, create_topics(["big"]))
            one = batch(record(0, os.urandom(900000)), 1)
            for _ in range(24):
                assert produce_error(call(c, produce("big", [(0, one)]))) == 0
        with watched(s, "slow readers of big fetches", 256 + 50 * 2 + 100):
            conns = [connect(s) for _ in range(50)]
            for c in conns:
                c.sendall(b"".join(fetch("big", 0, corr=i) for i in range(60)))
            time.sleep(4)
            c = conns[0]
            c.settimeout(60)
            for i in range(60):
                corr, body = answer(c)
                assert corr == i and len(body) > 900000, (i, corr, len(body))
            for c in conns:
                c.close()
        with connect(s) as c:
            call(c, metadata("big"))


def test_kafka_hostile_metadata_storm():
    """10,000 topics; 50 connections ask for all of them 20 times; half never read: 10 MB of answers each."""
    with served(kafka=0) as s:
        with connect(s, 120) as c:
            names = ["storm-%05d" % i for i in range(10000)]
            for i in range(0, 10000, 1000):
                call(c, create_topics(names[i:i + 1000]))
            t = time.monotonic()
            size = len(call(c, metadata()))
            print("figure: metadata of 10,000 topics: %d bytes in %.0f ms" % (size, (time.monotonic() - t) * 1000))
            assert size > 400000
        with watched(s, "metadata storm", 50 * 10):
            conns = [connect(s, 60) for _ in range(50)]
            for c in conns:
                c.sendall(b"".join(metadata(corr=i) for i in range(20)))
            for c in conns[:25]:
                for i in range(20):
                    corr, body = answer(c)
                    assert corr == i and len(body) >= size
            for c in conns:
                c.close()


def test_kafka_hostile_pipeline():
    """10,000 produce requests before the first answer is read: all are answered, in order."""
    with served(kafka=0) as s, watched(s, "10,000 produce requests at once", 96):
        c = connect(s, 120)
        call(c, create_topics(["tiny"]))
        one = batch(record(0, b"x"), 1)
        data = b"".join(produce("tiny", [(0, one)], corr=i) for i in range(10000))
        sender = threading.Thread(target=c.sendall, args=(data,))
        sender.start()
        for i in range(10000):
            corr, body = answer(c)
            assert corr == i and produce_error(body) == 0, (i, corr)
        sender.join()
        c.close()


def test_kafka_hostile_many_topics():
    """Metadata of 200,000 topics, all and by name, as the oldest and the newest version have it; in bounded memory."""
    total = 200000
    names = ["many-%06d" % i for i in range(total)]
    with served(kafka=0) as s:
        with connect(s, 300) as c:
            for i in range(0, total, 5000):
                call(c, create_topics(names[i:i + 5000]))
            with watched(s, "metadata of 200,000 topics", 160):
                t = time.monotonic()
                old = call(c, frame(3, 0, struct.pack(">i", 0)))
                new = call(c, frame(3, 12, b"\0\1\0\0", flexible=True))
                print("figure: metadata of 200,000 topics: %.1f and %.1f MB, together in %.1f s" %
                      (len(old) / 1e6, len(new) / 1e6, time.monotonic() - t))
                some = call(c, metadata(*names))
            found = lambda body: sum(1 for i in range(0, total, 997) if names[i].encode() in body)
            wanted = len(range(0, total, 997))
            assert (found(old), found(new), found(some)) == (wanted, wanted, wanted)
            # The count stands behind the one broker: a topic and its one partition have 46 bytes in version 0.
            at = old.index(struct.pack(">i", total + 1))  # "good" among them
            assert len(old) - at == 4 + total * (2 + 2 + 11 + 4 + 26) + (2 + 2 + 4 + 4 + 26), (len(old), at)


# What Apache Kafka 4.2 advertises of what is served: stable versions only. Produce from 0 on, for librdkafka's sake.
ADVERTISED = {0: (0, 13), 1: (4, 18), 2: (1, 11), 3: (0, 13), 8: (2, 10), 9: (1, 10), 10: (0, 6), 11: (0, 9), 12: (0, 4), 13: (0, 5),
              14: (0, 5), 15: (0, 6), 16: (0, 5), 17: (0, 1), 18: (0, 4), 19: (2, 7), 20: (1, 6), 21: (0, 2), 22: (0, 5), 23: (2, 4),
              24: (0, 5), 25: (0, 4), 26: (0, 5), 28: (0, 5), 29: (1, 3), 30: (1, 3), 31: (1, 3), 32: (1, 4), 33: (0, 2), 35: (1, 4),
              36: (0, 2), 37: (0, 3), 42: (0, 2), 43: (0, 2), 44: (0, 1), 45: (0, 1), 46: (0, 0), 47: (0, 0), 48: (0, 1), 49: (0, 1),
              50: (0, 0), 51: (0, 0), 60: (0, 2), 61: (0, 0), 65: (0, 0), 66: (0, 2), 68: (0, 1), 69: (0, 1), 74: (0, 1), 75: (0, 0),
              76: (1, 1), 77: (1, 1), 78: (1, 2), 79: (1, 2), 88: (0, 0), 89: (0, 0), 90: (0, 1), 91: (0, 0), 92: (0, 0)}


def test_kafka_hostile_versions():
    """The advertised versions are those of 4.2 and no others; a version beyond, such as InitProducerId's sixth (KIP-939, not
    stable in 4.2), ends the connection."""
    with served(kafka=0) as s:
        with connect(s) as c:
            body = call(c, frame(18, 0, b""))
            n = struct.unpack(">i", body[2:6])[0]
            got = {k: (lo, hi) for k, lo, hi in (struct.unpack(">hhh", body[6 + 6 * i:12 + 6 * i]) for i in range(n))}
            assert got == ADVERTISED, {k: (got.get(k), ADVERTISED.get(k)) for k in {*got, *ADVERTISED} if got.get(k) != ADVERTISED.get(k)}
            body = call(c, frame(22, 5, b"\0" + struct.pack(">iqh", 60000, -1, -1) + b"\0", flexible=True))
            assert struct.unpack(">h", body[5:7])[0] == 0, body
        for key, (_, last) in ADVERTISED.items():
            if key == 18:
                continue  # is answered by version 0
            with connect(s) as c:
                c.sendall(frame(key, last + 1, b"\0" * 64, flexible=True))
                assert ended(c, 20), (key, last + 1)
