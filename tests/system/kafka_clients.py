"""Kafka's clients, unmodified, against the real binary: topics, every codec, groups, offsets, seeking,
transactions, admin.

kcat and librdkafka (Debian), and kafkajs (npm) always run. The others are downloaded, so they run only when
WEIR_CLIENTS names their kind: java, go, python, javascript, or all.

A client program (tests/system/kafka) is called as `PROGRAM BOOTSTRAP PREFIX` and makes topics and groups
whose names begin with PREFIX. It prints a line for each of its steps: `ok STEP`, `skip STEP: why` or
`fail STEP: why`, and checks by itself what it reads. Each step counts as a test.
"""
import base64, glob, gzip, hashlib, json, os, re, shutil, signal, struct, subprocess, sys, tempfile, time

import kafka_hostile
from harness import ROOT, Skip, alone, beside_others, npm_modules, scratch, served, wait_for, weir

HERE = os.path.join(ROOT, "tests", "system", "kafka")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
# What each program must report on: a program that ends early has failed, not skipped.
STEPS = ("topics", "codecs", "group", "resume", "seek", "transactions", "admin")


def steps_run(cmd, wanted=STEPS, env=None, timeout=170, cwd=None):
    """Runs a client program; returns its steps for run.py."""
    t = time.time()
    with tempfile.TemporaryFile() as err:
        p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL, cwd=cwd,
                             env=dict(os.environ, **(env or {})), start_new_session=True)
        steps, out = [], b""
        timer_end = time.time() + timeout
        os.set_blocking(p.stdout.fileno(), False)
        while True:
            part = p.stdout.read()
            if part:
                out += part
                while b"\n" in out:
                    line, out = out.split(b"\n", 1)
                    m = re.match(r"(ok|skip|fail) ([a-z0-9_]+)(?:: (.*))?$", line.decode(errors="replace"))
                    if m:
                        steps.append((m.group(2), m.group(1), time.time() - t, m.group(3) or ""))
                        t = time.time()
                    elif line.startswith(b"figure: "):
                        print(line.decode())
            elif part == b"":
                break
            elif time.time() > timer_end:
                os.killpg(p.pid, signal.SIGKILL)
                break
            else:
                time.sleep(0.02)
        late = time.time() > timer_end
        rc = p.wait()
        err.seek(0)
        tail = err.read()[-4000:].decode(errors="replace")
    for name in wanted:
        if name not in [s[0] for s in steps]:
            why = "took more than %d s" % timeout if late else "exit status %d" % rc
            steps.append((name, "fail", 0, "no word of it: %s" % why))
    if rc and all(s[1] != "fail" for s in steps):
        steps.append(("exit", "fail", 0, "exit status %d" % rc))
    if any(s[1] == "fail" for s in steps):
        print(tail)
    return [(n, o, sec, "%s: %s" % (n, text) if o == "fail" else text) for n, o, sec, text in steps]


def read_codecs(s):
    """What a program produced with each codec, over HTTP: the server has to decode it."""
    status, _, body = s.call("GET", "/topics")
    assert status == 200, body
    names = [t["name"] for t in json.loads(body)["topics"] if t["name"].endswith("-codecs")]
    assert len(names) == 1, names
    seen = {}
    for e in s.pages(names[0], 5000):
        value = base64.b64decode(e["data_base64"]).decode()
        seen.setdefault(next(c for c in CODECS if value.lower().startswith(c)), set()).add(value)
    counts = {codec: len(values) for codec, values in seen.items()}
    assert set(counts) == set(CODECS) and len(set(counts.values())) == 1 and counts["none"] >= 500, counts


def program(cmd, wanted=STEPS, **kw):
    with served(kafka=0) as s:
        steps = steps_run([*cmd, s.kafka, "t"], wanted, **kw)
        if all(outcome == "ok" for _, outcome, _, _ in steps):
            t = time.time()
            read_codecs(s)
            steps.append(("http", "ok", time.time() - t, ""))
        return steps


def downloads(kind, *tools):
    """build/clients/KIND; skips unless WEIR_CLIENTS names it and the tools are there."""
    asked = os.environ.get("WEIR_CLIENTS", "").replace(",", " ").split()
    if kind not in asked and "all" not in asked:
        raise Skip("downloads its clients: set WEIR_CLIENTS=%s or all" % kind)
    for tool in tools:
        if not shutil.which(tool):
            raise Skip("%s is not installed" % tool)
    d = os.path.join(ROOT, "build", "clients", kind)
    os.makedirs(d, exist_ok=True)
    return d


@alone
def download(what, cmd, stamp, *of, **kw):
    """Runs cmd unless it has been run, for the same files `of`."""
    want = hashlib.sha256(b"".join(open(f, "rb").read() for f in of)).hexdigest()
    if os.path.exists(stamp) and open(stamp).read() == want:
        return
    p = subprocess.run(cmd, capture_output=True, timeout=900, **kw)
    if p.returncode:
        raise Skip("%s could not be downloaded: %s" % (what, " ".join((p.stderr or p.stdout).decode()[-300:].split())))
    open(stamp, "w").write(want)


# ---- kcat ----------------------------------------------------------------------------------------------

def kcat(server, *args, stdin=None, ok=True, timeout=60):
    p = subprocess.run(["kcat", "-b", server.kafka, *args], input=stdin, capture_output=True, timeout=timeout)
    if ok:
        assert p.returncode == 0, "kcat %s: %d\n%s" % (args, p.returncode, p.stderr.decode())
    return p.stdout.decode()


def need_kcat():
    if not shutil.which("kcat"):
        raise Skip("kcat is not installed: apt-get install kcat")


def test_kafka_kcat_codecs():
    """Produced with each codec, consumed from the beginning; the same records over HTTP."""
    need_kcat()
    with served(kafka=0) as s:
        weir("topics", "create", "codecs", "--partitions", "3", server=s)
        meta = kcat(s, "-L", "-t", "codecs")
        assert 'topic "codecs" with 3 partitions' in meta, meta
        want = []
        for codec in CODECS:
            lines = ["k%d:%s %d %s" % (i % 7, codec, i, "x" * (i % 50)) for i in range(2000)]
            kcat(s, "-P", "-t", "codecs", "-K:", "-z", codec, stdin="\n".join(lines).encode())
            want += lines
        got = kcat(s, "-C", "-t", "codecs", "-o", "beginning", "-e", "-q", "-K:").splitlines()
        assert sorted(got) == sorted(want), (len(got), len(want))
        for key in range(7):
            mine = [l for l in got if l.startswith("k%d:" % key)]
            assert mine == [l for l in want if l.startswith("k%d:" % key)], "order of key %d" % key
        http = [base64.b64decode(e["data_base64"]).decode() for e in s.pages("codecs", 5000)]
        assert sorted(http) == sorted(l.split(":", 1)[1] for l in want)


@beside_others
def test_kafka_kcat_recompression():
    """compression.type: what clients send in any codec is stored in the topic's; it reads the same. kcat, small and large
    batches; and byte by byte what else a batch says."""
    need_kcat()
    small = ["k%d:%d %s" % (i % 7, i, "x" * (i % 50)) for i in range(200)]
    large = ["k%d:%d %s" % (i % 7, i, hashlib.sha256(b"%d" % i).hexdigest() * 8) for i in range(3000)]
    with served("--set", "topics.retention=-1", kafka=0) as s:
        for number, target in enumerate(CODECS):
            topic = "to-" + target
            weir("topics", "create", topic, "--set", "compression.type=" + ("uncompressed" if target == "none" else target),
                 server=s)
            want = []
            for codec in CODECS:
                for lines in (small, large):
                    kcat(s, "-P", "-t", topic, "-K:", "-z", codec, "-H", "codec=" + codec, "-X", "enable.idempotence=true",
                         "-X", "linger.ms=300", stdin="\n".join(lines).encode())
                    want += ["%s %s" % (codec, line) for line in lines]
            got = kcat(s, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%h %k:%s\\n").splitlines()
            assert got == ["codec=" + line for line in want], (target, len(got), len(want))
            seen, offset = 0, 0
            with kafka_hostile.connect(s) as c:
                while offset < len(want):
                    for b in batches_of(kafka_hostile.call(c, kafka_hostile.fetch(topic, offset))):
                        base, delta, attributes = struct.unpack(">q", b[:8])[0], *struct.unpack(">ih", b[23:27] + b[21:23])
                        assert attributes & 7 == number, (target, attributes)
                        assert struct.unpack(">I", b[17:21])[0] == kafka_hostile.crc32c(b[21:]), "checksum"
                        assert base == offset, (base, offset)
                        offset = base + delta + 1
                        seen += 1
            assert seen >= 10, seen
        recompressed_bytes(s)


def batches_of(answer):
    """The batches in a fetch answer of version 4 about one partition."""
    at = 4 + 4 + 2 + struct.unpack(">h", answer[8:10])[0] + 4 + 4 + 2 + 8 + 8
    aborted = struct.unpack(">i", answer[at:at + 4])[0]
    at += 4 + 16 * max(aborted, 0)
    data = answer[at + 4:at + 4 + struct.unpack(">i", answer[at:at + 4])[0]]
    while len(data) >= 12 and len(data) >= 12 + struct.unpack(">i", data[8:12])[0]:
        n = 12 + struct.unpack(">i", data[8:12])[0]
        yield data[:n]
        data = data[n:]


def recompressed_bytes(s):
    """gzip to none and back: the header but for length, checksum and codec, and the records, are the client's own. What
    does not fit max.message.bytes any more is refused."""
    h = kafka_hostile
    records = b"".join(h.record(i, os.urandom(20) + b"z" * 300) for i in range(40))

    def of(codec, records, count=40, sequence=0):
        data = gzip.compress(records) if codec else records
        tail = struct.pack(">hiqqqhii", codec, count - 1, 1700000000123, 1700000000123, 4711, 3, sequence, count) + data
        return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, h.crc32c(tail)) + tail

    with h.connect(s) as c:
        for codec, topic in ((1, "to-none"), (0, "to-gzip")):
            end = int(kcat(s, "-Q", "-t", topic + ":0:-1").split()[-1])
            sent = of(codec, records)
            assert h.produce_error(h.call(c, h.produce(topic, [(0, sent)]))) == 0
            got = next(batches_of(h.call(c, h.fetch(topic, end))))
            assert struct.unpack(">h", got[21:23])[0] == 1 - codec
            assert got[23:61] == sent[23:61], (got[:61], sent[:61])
            assert (got[61:] if codec else gzip.decompress(got[61:])) == records
        weir("topics", "create", "narrow", "--set", "compression.type=uncompressed", "--set", "max.message.bytes=4000", server=s)
        zeros = b"".join(h.record(i, b"\0" * 100) for i in range(40))
        assert h.produce_error(h.call(c, h.produce("narrow", [(0, of(1, zeros))]))) == 10
        assert h.produce_error(h.call(c, h.produce("narrow", [(0, of(1, h.record(0, b"fits"), 1))]))) == 0


def test_kafka_kcat_seek():
    need_kcat()
    with served(kafka=0) as s:
        weir("topics", "create", "seek", server=s)
        kcat(s, "-P", "-t", "seek", stdin="\n".join("v%d" % i for i in range(1000)).encode())
        at = lambda *o: kcat(s, "-C", "-t", "seek", "-p", "0", "-e", "-q", *o).splitlines()
        assert at("-o", "400", "-c", "3") == ["v400", "v401", "v402"]
        assert at("-o", "-2") == ["v998", "v999"]
        assert at("-o", "end") == []
        time.sleep(0.05)
        now = int(time.time() * 1000)
        time.sleep(0.05)
        kcat(s, "-P", "-t", "seek", stdin=b"late")
        assert at("-o", "s@%d" % now) == ["late"]
        assert "offset 1000" in kcat(s, "-Q", "-t", "seek:0:%d" % now)


class Balanced:
    """kcat -G on a thread of its own file: .lines(), .stop() by its pid."""

    def __init__(self, server, d, group, topic, name):
        self.path = os.path.join(d, name)
        with open(self.path, "wb") as out, open(self.path + ".err", "wb") as err:
            self.p = subprocess.Popen(
                ["kcat", "-b", server.kafka, "-u", "-f", "%p %o %s\\n", "-X", "auto.offset.reset=earliest",
                 "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300", "-X", "auto.commit.interval.ms=200",
                 "-G", group, topic], stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    def lines(self):
        with open(self.path) as f:
            return f.read().splitlines()

    def parts(self):
        """Its partitions after the last rebalance that is done."""
        with open(self.path + ".err") as f:
            done = re.findall(r"% Group \S+ rebalanced \(memberid \S*\): (assigned|revoked): ?(.*)", f.read())
        return re.findall(r"\[(\d+)\]", done[-1][1]) if done and done[-1][0] == "assigned" else []

    def stop(self):
        self.p.terminate()
        self.p.wait(30)


@beside_others
def test_kafka_kcat_group():
    """Three kcats share six partitions; one leaves, one joins; a new one goes on where they all were."""
    need_kcat()
    with served(kafka=0) as s, scratch() as d:
        weir("topics", "create", "shared", "--partitions", "6", server=s)
        everyone, sent = [], 0

        def start():
            everyone.append(Balanced(s, d, "kcats", "shared", "kcat%d" % len(everyone)))
            return everyone[-1]

        def until(what, ready):
            end = time.time() + 40
            while not ready():
                assert time.time() < end, "waited for %s: %s" % (what, [(len(m.lines()), m.parts()) for m in everyone])
                time.sleep(0.05)

        def phase(members):
            nonlocal sent
            until("their parts", lambda: sorted(p for m in members for p in m.parts()) == list("012345") and
                  all(len(m.parts()) == 6 // len(members) for m in members))
            kcat(s, "-P", "-t", "shared", stdin="\n".join("v%d" % i for i in range(sent, sent + 300)).encode())
            sent += 300
            until("the records", lambda: sum(len(m.lines()) for m in everyone) >= sent)
            time.sleep(0.5)  # for their commits

        try:
            now = [start(), start(), start()]
            phase(now)
            now.pop(1).stop()
            phase(now)
            now.append(start())
            phase(now)
            for m in now:
                m.stop()
            kcat(s, "-P", "-t", "shared", "-p", "3", stdin=b"late")
            sent += 1
            last = start()
            until("what came meanwhile", lambda: [x.split()[2] for x in last.lines()] == ["late"])
            last.stop()
            values = [line.split()[2] for m in everyone for line in m.lines()]
            assert sorted(values) == sorted(["v%d" % i for i in range(sent - 1)] + ["late"]), "each record once"
        finally:
            for m in everyone:
                m.p.kill()
                m.p.wait()


def preload(d):
    """The library that lets a server's disk pause, compiled into folder d."""
    lib = os.path.join(d, "stall.so")
    p = subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", lib,
                        os.path.join(HERE, "stall.c"), "-ldl"], capture_output=True)
    assert p.returncode == 0, p.stderr.decode()
    return lib


@beside_others
def test_kafka_disk_pause():
    """The disk pauses for longer than a session while a member waits to have joined: it is one, of the first generation."""
    need_kcat()
    with scratch() as d:
        stall = os.path.join(d, "stall")
        with served(kafka=0, env={"LD_PRELOAD": preload(d), "WEIR_STALL": stall}) as s:
            weir("topics", "create", "paused", server=s)
            with open(stall, "w") as f:
                f.write("." * 12)  # the first rebalance waits for 3 s, then the session of 6 s begins
            m = Balanced(s, d, "g", "paused", "kcat")
            try:
                wait_for(m.parts)
                assert not os.path.exists(stall), "the disk did not pause"
                kcat(s, "-P", "-t", "paused", stdin=b"a\nb")
                wait_for(lambda: len(m.lines()) == 2)
                group = json.loads(weir("groups", "describe", "g", "--json", server=s).stdout)
                assert group["generation"] == 1, group
            finally:
                m.p.kill()
                m.p.wait()


# ---- kafkajs -------------------------------------------------------------------------------------------

def need_node():
    if not shutil.which("node"):
        raise Skip("node is not installed: apt-get install nodejs npm")
    npm_modules()


@beside_others
def test_kafka_kafkajs():
    need_node()
    return program(["node", os.path.join(HERE, "kafkajs.mjs")])


# ---- @confluentinc/kafka-javascript ----------------------------------------------------------------------

NATIVE = "@confluentinc/kafka-javascript"


@alone
def confluent_modules():
    """Where it is installed. Its native part is fetched ready-made, or else built from the sources that come with it."""
    d = downloads("javascript", "node", "npm")
    src = os.path.join(HERE, "javascript")
    lock = os.path.join(src, "package-lock.json")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(src, name), d)
    download(NATIVE, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], os.path.join(d, "downloaded"), lock, cwd=d)
    download("the native part of " + NATIVE, ["npm", "rebuild", NATIVE], os.path.join(d, "built"), lock, cwd=d,
             env=dict(os.environ, CKJS_LINKING="dynamic"))
    return os.path.join(d, "node_modules")


@beside_others
def test_kafka_confluent_javascript():
    modules = confluent_modules()
    return program(["node", os.path.join(HERE, "confluent.mjs")], (*STEPS, "cooperative", "group_848"), env={"WEIR_MODULES": modules})


# ---- librdkafka ----------------------------------------------------------------------------------------

def compiled(d, name):
    """A C program of librdkafka, compiled into folder d."""
    exe = os.path.join(d, name)
    p = subprocess.run(["cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-o", exe,
                        os.path.join(HERE, name + ".c"), "-lrdkafka"], capture_output=True)
    if b"librdkafka/rdkafka.h" in p.stderr:
        raise Skip("librdkafka is not installed: apt-get install librdkafka-dev")
    assert p.returncode == 0, p.stderr.decode()
    return exe


@beside_others
def test_kafka_librdkafka():
    with scratch() as d:
        return program([compiled(d, "librdkafka")], (*STEPS, "cooperative", "static"))


# ---- Python --------------------------------------------------------------------------------------------

@alone
def python_at():
    """The interpreter that has them."""
    d = downloads("python")
    wanted = os.path.join(HERE, "requirements.txt")
    if not os.path.exists(os.path.join(d, "bin", "pip")):
        subprocess.run([sys.executable, "-m", "venv", d], check=True, timeout=120)
    download("Python's clients", [os.path.join(d, "bin", "pip"), "install", "-q", "-r", wanted],
             os.path.join(d, "installed"), wanted)
    return os.path.join(d, "bin", "python")


def python_client(name, extra):
    return program([python_at(), os.path.join(HERE, name)], (*STEPS, *extra))


@beside_others
def test_kafka_confluent():
    return python_client("py_confluent.py", ("cooperative", "group_848"))


@beside_others
def test_kafka_python():
    return python_client("py_kafka.py", ("sticky",))


@beside_others
def test_kafka_aiokafka():
    return python_client("py_aiokafka.py", ("sticky",))


# ---- Go ------------------------------------------------------------------------------------------------

def go_client(name, extra):
    d = downloads("go", "go")
    src = os.path.join(HERE, "go")
    env = dict(os.environ, GOMODCACHE=os.path.join(d, "mod"), GOCACHE=os.path.join(d, "cache"), GOTOOLCHAIN="local",
               GOFLAGS="-modcacherw -mod=readonly")
    download("franz-go and sarama", ["go", "mod", "download"], os.path.join(d, "downloaded"),
             os.path.join(src, "go.sum"), cwd=src, env=env)
    p = subprocess.run(["go", "build", "-o", d + "/", "./" + name], cwd=src, env=env, capture_output=True, timeout=600)
    assert p.returncode == 0, p.stderr.decode()
    return program([os.path.join(d, name)], (*STEPS, *extra))


@beside_others
def test_kafka_franz():
    return go_client("franz", ("sticky", "cooperative"))


@beside_others
def test_kafka_sarama():
    return go_client("sarama", ("roundrobin", "sticky"))


# ---- Java ----------------------------------------------------------------------------------------------

def java(d, main, *args, log="warn"):
    """The command line of a class of the jars, or of ours."""
    return ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=" + log, "-cp",
            os.path.join(d, "classes") + ":" + os.path.join(d, "jars", "*"), main, *args]


@alone
def java_client():
    """Downloads the jars and compiles our programs; returns the folder for java()."""
    d = downloads("java", "java", "javac", "mvn")
    src = os.path.join(HERE, "java")
    pom = os.path.join(src, "pom.xml")
    download("Kafka's jars", ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                              "-DoutputDirectory=" + os.path.join(d, "jars")], os.path.join(d, "downloaded"), pom)
    sources = sorted(glob.glob(os.path.join(src, "*.java")))
    p = subprocess.run(["javac", "-cp", os.path.join(d, "jars", "*"), "-d", os.path.join(d, "classes"), *sources],
                       capture_output=True, timeout=120)
    assert p.returncode == 0, p.stderr.decode()
    return d


@beside_others
def test_kafka_java():
    return program(java(java_client(), "Clients"), (*STEPS, "cooperative", "group_848", "share"), timeout=240)
