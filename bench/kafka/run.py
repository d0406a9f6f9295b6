#!/usr/bin/env python3
"""Weir beside Apache Kafka on this machine: the same clients with the same settings, one server after the
other, several rounds; medians, with the least and the greatest.

    bench/kafka/run.py [--full] [--only NAMES] [--build DIR] [--dir DIR] [--json FILE]

Weir answers when records are on the disk. Kafka runs with its defaults (records are written out by the system,
later) and with log.flush.interval.messages=1. Two clients: `raw` costs its own side as little as possible, so
that the server is what is measured (bench/kafka/raw.c); `librdkafka` is an ordinary client. CPU is what the
kernel accounted to the server, for each GB of values that went in or out. --only: start, produce, client, java,
latency, fetch, partitions. Without --full it takes less than four minutes. Everything in DIR is removed.
"""
import argparse, json, os, re, resource, shutil, socket, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SIZES = {"100 B": (100, 164), "1 KiB": (1024, 16), "64 KiB": (65536, 1)}  # record, records in a batch of 16 KiB
PARTITIONS = 6
TAIL = "fetch, tail, while ingesting"
CATCH_UP = "ingest at 25 % beside catch-up"
NOISE = 0.10  # share of the machine that others may have before a figure is marked
JVM = ["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
       "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15",
       "-Djava.awt.headless=true"]  # as kafka-server-start has them
KAFKA_CONF = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{control}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={dir}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.segment.delete.delay.ms=1000
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- servers ----

class Server:
    """One run of a server on an empty directory."""

    def __init__(self, conf):
        self.conf, self.port, self.process = conf, free_port(), None
        self.dir = os.path.join(conf.dir, "kafka-" + self.key)

    def prepare(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)

    def start(self, again=False):
        """Seconds from the start of the process to its first answer; again: on what the last run left."""
        if not again:
            self.prepare()
        out = open(os.path.join(self.conf.dir, self.key + ".log"), "a")
        began = time.monotonic()
        self.process = subprocess.Popen(self.command(), stdout=out, stderr=out)
        try:
            subprocess.run([self.conf.raw, "wait", "--port", str(self.port)], check=True, timeout=120)
        except BaseException:
            self.stop()
            raise
        return time.monotonic() - began

    def stop(self, keep=False):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def rss_mib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024

    def cpu_s(self):
        with open("/proc/%d/stat" % self.process.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Weir(Server):
    key, title = "weir", "Weir"

    def command(self):
        return [self.conf.weir, "serve", "--data", self.dir, "--http", "127.0.0.1:0",
                "--kafka", "127.0.0.1:%d" % self.port, "--set", "log.level=warn"]


class Kafka(Server):
    key, title, extra = "kafka", "Kafka", ""

    def java(self, *args):
        return ["java", *JVM, "-cp", os.path.join(self.conf.peer, "*"), *args]

    def prepare(self):
        super().prepare()
        self.file = os.path.join(self.conf.dir, self.key + ".properties")
        with open(self.file, "w") as f:
            f.write(KAFKA_CONF.format(port=self.port, control=free_port(), dir=self.dir) + self.extra)
        subprocess.run(self.java("kafka.tools.StorageTool", "format", "--standalone", "-t",
                                 "MkU3OEVBNTcwNTJENDM2Qg", "-c", self.file), check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def command(self):
        return self.java("kafka.Kafka", self.file)


class KafkaFlush(Kafka):
    key, title, extra = "flush", "Kafka, flush=1", "log.flush.interval.messages=1\n"


def peer_get(peer):
    """None, or why there is no Kafka to compare with. Its jars are kept."""
    if not shutil.which("java"):
        return "there is no java"
    if os.path.isdir(peer) and any(n.startswith("kafka_") for n in os.listdir(peer)):
        return None
    if not shutil.which("mvn"):
        return "there is no mvn to get its jars with"
    print("getting Kafka's jars into", os.path.relpath(peer, ROOT), file=sys.stderr)
    got = subprocess.run(["mvn", "-q", "-B", "-f", os.path.join(HERE, "pom.xml"), "dependency:copy-dependencies",
                          "-DincludeScope=runtime", "-DoutputDirectory=" + peer], capture_output=True, text=True)
    if got.returncode == 0:
        return None
    shutil.rmtree(peer, ignore_errors=True)
    return "its jars cannot be had: " + (re.findall(r"\[ERROR\] (.*)", got.stdout) or ["mvn failed"])[0][:200]


# ---- measuring ----

class Bench:
    """Runs the load programs against one server after the other and keeps each window they print."""

    def __init__(self, conf):
        self.conf, self.rows, self.goals, self.n = conf, {}, {}, 0

    def keep(self, row, server, windows):
        self.rows.setdefault(row, {}).setdefault(server.key, []).extend(windows)

    def median(self, row, key, value):
        got = [value(w) for w in self.rows.get(row, {}).get(key, [])]
        return statistics.median(got) if got else None

    def windows(self, command, seconds):
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds + 900).stdout
        return [json.loads(line) for line in out.splitlines()]

    def admin(self, server, what, name, topics, partitions):
        subprocess.run([self.conf.raw, what, "--port", str(server.port), "--topic", name, "--topics", str(topics),
                        "--partitions", str(partitions)], check=True, timeout=300)

    def topic(self, server, topics=1, partitions=PARTITIONS):
        """A new topic; a context that deletes it."""
        bench, self.n = self, self.n + 1
        name = "bench%d" % self.n

        class Made:
            def __enter__(self):
                bench.admin(server, "create", name, topics, partitions)
                self.args = ["--topic", name, "--topics", str(topics), "--partitions", str(partitions)]
                self.first, self.partitions = name + "-0", partitions
                return self

            def __exit__(self, *why):
                if why[0] is None:
                    bench.admin(server, "delete", name, topics, partitions)
        return Made()

    def raw(self, server, topic, *args, seconds=None, windows=None, warm=None):
        c = self.conf
        seconds, windows = seconds or c.seconds, windows or c.windows
        warm = c.warm if warm is None else warm
        return self.windows([c.raw, "run", "--port", str(server.port), "--pid", str(server.process.pid), *topic.args,
                             "--seconds", str(seconds), "--windows", str(windows), "--warm", str(warm),
                             *map(str, args)], seconds * windows + warm)

    def load(self, server, topic, *args, seconds=None):
        c = self.conf
        seconds = seconds or c.seconds
        return self.windows([c.load, "--brokers", "127.0.0.1:%d" % server.port, "--pid", str(server.process.pid),
                             "--topic", topic.first, "--partitions", str(topic.partitions), "--seconds", str(seconds),
                             "--windows", str(c.windows), "--warm", str(c.warm), *map(str, args)],
                            seconds * c.windows + c.warm)

    # ---- what is measured ----

    def warm_up(self, server):
        """All get it, a JVM needs it: until two turns in a row bring no tenth more, or the time is over."""
        best, stale, until = 0, 0, time.monotonic() + self.conf.warm_up_s
        while stale < 2 and time.monotonic() < until:
            with self.topic(server) as t:
                w = self.raw(server, t, "--writers", 16, "--tails", 2, seconds=2, windows=1, warm=0)[0]
            stale = 0 if w["out_bytes"] > best * 1.1 else stale + 1
            best = max(best, w["out_bytes"])

    def produce(self, server):
        for title, (record, batch) in SIZES.items():
            for writers in self.conf.producers[title]:
                with self.topic(server) as t:
                    self.keep("produce %s × %d, raw" % (title, writers), server,
                              self.raw(server, t, "--writers", writers, "--record", record, "--batch", batch))

    def client(self, server):
        if not self.conf.load:
            return
        for title, (record, _) in SIZES.items():
            for producers in self.conf.client_producers[title]:
                with self.topic(server) as t:
                    self.keep("produce %s × %d, librdkafka" % (title, producers), server,
                              self.load(server, t, "--producers", producers, "--record", record))

    def java(self, server):
        """kafka-producer-perf-test, whose own start counts neither for time nor much for the server."""
        if not self.conf.peer_why:
            for title, (record, _) in SIZES.items():
                with self.topic(server) as t:
                    self.keep("produce %s, Java client" % title, server, [self.java_run(server, t, record)])

    def java_run(self, server, topic, record):
        count = int(self.conf.java_bytes / record)
        before = server.cpu_s()
        out = subprocess.run(["java", "-Xmx512M", "-cp", os.path.join(self.conf.peer, "*"),
                              "org.apache.kafka.tools.ProducerPerformance", "--topic", topic.first, "--num-records",
                              str(count), "--record-size", str(record), "--throughput", "-1", "--producer-props",
                              "bootstrap.servers=127.0.0.1:%d" % server.port, "acks=all"],
                             check=True, capture_output=True, text=True, timeout=600).stdout
        rate = float(re.findall(r"([\d.]+) records/sec", out)[-1])
        return {"seconds": count / rate, "out_bytes": count * record, "in_bytes": 0, "others": 0, "client_s": 0,
                "server_s": server.cpu_s() - before, "rss_kib": server.rss_mib() * 1024}

    def rate_max(self):
        """Requests a second of the peer without sync at 1 KiB × 16; of Weir where there is no peer."""
        def per_s(w):
            return w["out_requests"] / w["seconds"]
        row = "produce 1 KiB × 16, raw"
        return self.median(row, "kafka", per_s) or self.median(row, "weir", per_s)

    def own_max(self, server):
        return self.median("produce 1 KiB × 16, raw", server.key, lambda w: w["out_requests"] / w["seconds"])

    def latency(self, server):
        for share in self.conf.shares:
            rate = share * self.rate_max()
            if rate > 0.95 * self.own_max(server):
                continue  # it cannot: there is no latency to speak of
            with self.topic(server) as t:
                self.keep("latency at %d %%" % (share * 100), server,
                          self.raw(server, t, "--writers", PARTITIONS, "--tails", PARTITIONS, "--rate", rate,
                                   seconds=self.conf.latency_s, warm=1))

    def fill(self, server, topic):
        """Slowly enough for all."""
        done = 0
        for _ in range(5):
            if done < 0.95 * self.conf.fill_bytes:
                rate = (self.conf.fill_bytes - done) / 16384 / 4
                done += sum(w["out_bytes"] for w in self.raw(server, topic, "--writers", 16, "--rate", rate, windows=1,
                                                             seconds=4.2, warm=0))

    def fetch(self, server):
        """Reads what is being written, what was written before, from where it is and from the disk, and the latter
        while more is written."""
        with self.topic(server) as t:
            self.keep(TAIL, server, self.raw(server, t, "--writers", 16, "--tails", PARTITIONS))
        with self.topic(server) as t:
            self.fill(server, t)
            for title, cold in (("fetch, just written", False), ("fetch, cold", True)):
                for _ in range(self.conf.windows):
                    if cold:
                        self.restart(server)
                    self.keep(title, server, self.raw(server, t, "--readers", PARTITIONS, windows=1, warm=0,
                                                      seconds=60))
            for _ in range(self.conf.windows):
                self.catch_up(server, t)

    def catch_up(self, server, topic):
        """Ingest at a rate that no server finds hard, alone, and beside readers who begin far behind, with what is
        on the disk, and read it once, until they have caught up; in a process of their own of low priority, for
        elsewhere they are on other machines."""
        rate = 0.25 * self.rate_max()
        if rate > 0.95 * self.own_max(server):
            return
        self.restart(server)
        with self.topic(server) as other:
            self.keep("ingest at 25 %", server, self.raw(server, other, "--writers", PARTITIONS, "--rate", rate,
                                                         seconds=self.conf.ingest_s, windows=1, warm=3))
        self.forget(server)
        self.keep(CATCH_UP, server,
                  self.raw(server, topic, "--writers", PARTITIONS, "--rate", rate, "--readers", PARTITIONS,
                           "--apart", seconds=60, windows=1, warm=0))

    def restart(self, server):
        """What it had in memory is gone; then it does some other work, to be as warm as a server is that runs."""
        server.stop(keep=True)
        server.start(again=True)
        with self.topic(server) as t:
            self.raw(server, t, "--writers", 16, "--tails", 2, seconds=self.conf.rewarm_s, windows=1, warm=0)
        self.forget(server)

    def floor(self):
        """What the same client reads from a server that only sends: from memory, and by sendfile."""
        for mode in ("memory", "file"):
            port = free_port()
            p = subprocess.Popen([self.conf.floor, "--port", str(port), "--mode", mode, "--dir", self.conf.dir,
                                  "--bytes", str(self.conf.fill_bytes), "--partitions", str(PARTITIONS)])
            try:
                subprocess.run([self.conf.raw, "wait", "--port", str(port)], check=True, timeout=120)
                for _ in range(self.conf.windows):
                    self.rows.setdefault("floor, " + mode, {}).setdefault("weir", []).extend(self.windows(
                        [self.conf.raw, "run", "--port", str(port), "--pid", str(p.pid), "--topic", "floor",
                         "--partitions", str(PARTITIONS), "--readers", str(PARTITIONS), "--warm", "0",
                         "--seconds", "60"], 60))
            finally:
                p.kill()
                p.wait()

    def forget(self, server):
        """Its files are read from the disk again."""
        for path, _, names in os.walk(server.dir):
            for name in names:
                try:
                    fd = os.open(os.path.join(path, name), os.O_RDONLY)
                except OSError:
                    continue  # just deleted
                os.fdatasync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def partitions(self, server):
        """Requests of 16 KiB: a record of 1 KiB for each of 16 partitions, or 16 for one."""
        for n in self.conf.partitions:
            topics = max(1, n // 1000)
            with self.topic(server, topics, n // topics) as t:
                spread = min(n, 16)
                self.keep("produce to %s partition%s" % (format(n, ","), "s" if n > 1 else ""), server,
                          self.raw(server, t, "--writers", 16, "--spread", spread, "--batch", 16 // spread,
                                   "--touch", self.conf.touch_s))

    def one(self, server):
        wanted = self.conf.only
        began = time.monotonic()
        server.start()
        server.stop()
        start_s = server.start()  # the program is in memory now, as where it ran before
        try:
            time.sleep(1)
            self.keep("start", server, [{"start_ms": start_s * 1000, "rss_kib": server.rss_mib() * 1024}])
            if wanted - {"start"}:
                self.warm_up(server)
            for name in ("produce", "client", "java", "latency", "fetch", "partitions"):
                if name in wanted:
                    getattr(self, name)(server)
            self.keep("end", server, [{"rss_kib": server.rss_mib() * 1024}])
        finally:
            server.stop()
        print("%s: %.0f s" % (server.title, time.monotonic() - began), file=sys.stderr)


# ---- the table ----

def mb_s(w):
    return (w["out_bytes"] + w["in_bytes"]) / w["seconds"] / 1e6


def read_mb_s(w):
    return w["in_bytes"] / w["seconds"] / 1e6


def cpu_gb(w):
    """None: nothing was answered in this window."""
    done = w["out_bytes"] + w["in_bytes"]
    return w["server_s"] / done * 1e9 if done else None


def part(name, field):
    return lambda w: w[name][field] if name in w else None


class Row:
    """What of a row is shown: a value of each window, its unit, and the goal for Weir ÷ Kafka."""

    def __init__(self, title, value, unit, digits, goal=None, least=True, limit=None):
        self.title, self.value, self.unit, self.digits = title, value, unit, digits
        self.goal, self.least, self.limit = goal, least, limit

    def cell(self, windows):
        got = sorted(v for v in map(self.value, windows) if v is not None)
        if not got:
            return None, "–"
        mid = statistics.median(got)
        digits = self.digits if mid >= 10 or self.digits else 1
        text = "%.*f" % (digits, mid)
        if len(got) > 1:
            text += " (%.*f–%.*f)" % (digits, got[0], digits, got[-1])
        noisy = statistics.median([w.get("others", 0) for w in windows]) > NOISE
        return mid, ("~" if noisy else "") + text

    def goal_text(self, ours, ratio):
        if self.limit is not None:
            return "≤ %g: %s" % (self.limit, "yes" if ours is not None and ours <= self.limit else "**no**")
        if self.goal is None:
            return ""
        sign = "≥" if self.least else "≤"
        if ratio is None:
            return "%s %g" % (sign, self.goal)
        met = ratio >= self.goal if self.least else ratio <= self.goal
        return "%s %g: %s" % (sign, self.goal, "yes" if met else "**no**")


def rows_of(name):
    if name == "start":
        return [Row("start to first answer", lambda w: w["start_ms"], "ms", 0, limit=50),
                Row("idle", lambda w: w["rss_kib"] / 1024, "MiB", 0, 0.1, False)]
    if name == "end":
        return [Row("memory after the load", lambda w: w["rss_kib"] / 1024, "MiB", 0)]
    if name.startswith("latency"):
        return [Row("%s, end to end %s" % (name, p), part("e2e", f), "µs", 0, *((0.5, False) if p == "p99" else ()))
                for p, f in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))]
    if name.startswith("ingest"):
        p99 = [Row(name + ", p99", part("ack", "p99_us"), "µs", 0)]
        return p99 if name != CATCH_UP else p99 + [
            Row("catch-up meanwhile", read_mb_s, "MB/s", 0, 1.5)]
    if name.startswith("floor"):
        return [Row("fetch, " + name, mb_s, "MB/s", 0)]
    if name.startswith("fetch"):
        return [Row(name, read_mb_s, "MB/s", 0, 1.5), Row(name + ", CPU", cpu_gb, "s/GB", 2)]
    goal = 5 if "10,000" in name else None if "partition" in name else 2
    return [Row(name, mb_s, "MB/s", 0, goal),
            Row(name + ", CPU", cpu_gb, "s/GB", 2, *((0.5, False) if goal == 2 else ()))]


def ratio_text(ours, theirs):
    if ours is None or not theirs:
        return None, "–"
    return ours / theirs, "%.2f" % (ours / theirs)


def table(rows):
    print("| what | unit | Weir, synced | Kafka, not synced | ratio | Kafka, flush.messages=1 | ratio | goal |")
    print("|---|---|---|---|---|---|---|---|")
    for name, by in rows.items():
        for row in rows_of(name):
            ours, a = row.cell(by.get("weir", []))
            theirs, b = row.cell(by.get("kafka", []))
            synced, c = row.cell(by.get("flush", []))
            ratio, r = ratio_text(ours, theirs)
            print("| %s | %s | %s | %s | %s | %s | %s | %s |" % (
                row.title, row.unit, a, b, r, c, ratio_text(ours, synced)[1], row.goal_text(ours, ratio)))
    inflation(rows)


def inflation(rows):
    """How much worse ingest's p99 gets while readers catch up."""
    row = Row("", part("ack", "p99_us"), "µs", 0)
    for key in ("weir", "kafka", "flush"):
        alone = row.cell(rows.get("ingest at 25 %", {}).get(key, []))[0]
        beside = row.cell(rows.get(CATCH_UP, {}).get(key, []))[0]
        if alone and beside:
            print("%s%s: ingest p99 beside catch-up %+.0f %% (goal: at most +20 %%)"
                  % ("" if key != "weir" else "\n", key, (beside / alone - 1) * 100))


def noise(rows):
    got = [w["others"] for by in rows.values() for windows in by.values() for w in windows if "others" in w]
    if got:
        print("\nOther work on the machine: %.0f %% of it in the median window, %.0f %% in the worst%s."
              % (statistics.median(got) * 100, max(got) * 100,
                 "; figures with ~ were taken beside more than %.0f %% and are PRELIMINARY" % (NOISE * 100)
                 if max(got) > NOISE else ""))


# ---- main ----

def configure():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--full", action="store_true", help="all of it, three rounds")
    a.add_argument("--only", default="start,produce,client,java,latency,fetch,partitions")
    a.add_argument("--servers", default="kafka,flush,weir")
    a.add_argument("--rounds", type=int)
    a.add_argument("--build", default=os.path.join(ROOT, "build"))
    a.add_argument("--dir", help="where data goes; default: in the build directory")
    a.add_argument("--json", help="all windows, for a closer look")
    c = a.parse_args()
    c.dir = os.path.join(os.path.abspath(c.dir or os.path.join(c.build, "bench-data")), "kafka")
    c.weir = os.path.join(c.build, "weir")
    c.raw = os.path.join(c.build, "bench", "kafka", "bench-kafka-raw")
    c.load = os.path.join(c.build, "bench", "kafka", "bench-kafka-load")
    c.floor = os.path.join(c.build, "bench", "kafka", "bench-kafka-floor")
    c.peer = os.path.join(ROOT, "build", "kafka-peer")
    c.only = set(c.only.split(","))
    if not c.full:
        c.only -= {"java"}
    if c.only & {"latency", "fetch"}:
        c.only |= {"produce"}  # whose maximum they are fractions of
    few, all_of = {"100 B": [16], "1 KiB": [1, 16, 64], "64 KiB": [16]}, dict.fromkeys(SIZES, [1, 16, 64])
    c.producers = all_of if c.full else few
    c.client_producers = all_of if c.full else {"100 B": [1], "1 KiB": [16], "64 KiB": []}
    c.rounds = c.rounds or (3 if c.full else 1)
    c.windows, c.seconds, c.warm = (3, 2, 1) if c.full else (3, 0.5, 0.3)
    c.latency_s, c.warm_up_s, c.touch_s = (5, 60, 600) if c.full else (0.7, 14, 30)
    c.shares, c.partitions = (0.1, 0.5, 0.8), (1, 1000, 10000) if c.full else (1, 1000)
    c.rewarm_s, c.ingest_s = (3, 5) if c.full else (1, 2)
    c.fill_bytes, c.java_bytes = (4e9, 2e9) if c.full else (1e9, 5e8)
    return c


def main():
    conf = configure()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    shutil.rmtree(conf.dir, ignore_errors=True)
    os.makedirs(conf.dir)
    conf.peer_why = peer_get(conf.peer)
    if conf.peer_why:
        print("Kafka: %s: skipped, Weir is measured alone" % conf.peer_why)
    if not os.path.exists(conf.load):
        print("librdkafka was not there when this was built: its rows are skipped")
        conf.load = None
    kinds = [k for k in (Kafka, KafkaFlush, Weir) if k.key in conf.servers.split(",")]
    if conf.peer_why:
        kinds = [Weir]
    bench = Bench(conf)
    try:
        for _ in range(conf.rounds):
            if "fetch" in conf.only:
                bench.floor()
            for kind in kinds:
                bench.one(kind(conf))
    finally:
        shutil.rmtree(conf.dir, ignore_errors=True)
    table(bench.rows)
    noise(bench.rows)
    if conf.json:
        with open(conf.json, "w") as f:
            json.dump(bench.rows, f, indent=1)


if __name__ == "__main__":
    main()
