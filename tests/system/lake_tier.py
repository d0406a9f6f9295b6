"""Tiers with the real binary: what the local log has deleted is replayed from the lake's Parquet files, byte-equal,
over Kafka (librdkafka, kcat, kafkajs) and HTTP; through restarts and kill -9; and errors while the lake is out
of reach. flights-3m on SeaweedFS with WEIR_CLIENTS=all."""
import contextlib, hashlib, http.client, json, os, random, subprocess, threading, time

import iceberg, kafka_clients, s3
from harness import Server, Skip, metric, npm_modules, scratch, served, wait_for, weir

TIERED = ("--set", "lake.enable=true", "--set", "lake.max.seconds=1", "--set", "local.retention.bytes=0")
CREATE = ("--partitions", "3", "--set", "retention.ms=-1", *TIERED)


@contextlib.contextmanager
def environ(more):
    old = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def partitions(s, topic):
    status, _, body = s.call("GET", "/topics/%s/partitions" % topic)
    assert status == 200, body
    return json.loads(body)["partitions"]


def all_cold(s, topic):
    """Waits until the local log has nothing of it."""
    weir("lake", "flush", topic, server=s)
    wait_for(lambda: all(p["local_start"] == p["end"] for p in partitions(s, topic)))
    there = partitions(s, topic)
    assert all(p["start"] == 0 for p in there) and any(p["end"] for p in there), there


def replay(exe, s, topic, *what):
    p = subprocess.run([exe, s.kafka, topic, *what], capture_output=True, timeout=1200)
    assert p.returncode == 0, p.stderr.decode()[-1000:]
    n, seconds = p.stderr.split()[-2:]
    return p.stdout.decode().splitlines(), int(n), float(seconds)


def events(s, topic):
    """All of them as they come over HTTP."""
    return list(s.pages(topic, 1000))


def kcat(s, *args):
    p = subprocess.run(["kcat", "-b", s.kafka, *args], capture_output=True, timeout=60)
    assert p.returncode == 0, p.stderr.decode()
    return p.stdout.decode().splitlines()


def test_tier_replay():
    """Odd records and aborted transactions: Kafka's and HTTP's readers get from the lake what they got from the log."""
    with scratch() as d, served(kafka=0) as s:
        exe = kafka_clients.compiled(d, "replay")
        weir("topics", "create", "odd", *CREATE, "--set", "local.retention.bytes=-1", server=s)
        sent, _, _ = replay(exe, s, "odd", "odd", "3000")
        assert replay(exe, s, "odd", "read", "3")[0] == sent and len(sent) == 3, sent
        before = events(s, "odd")
        assert sum(int(l.split()[1]) for l in sent) == len(before)
        weir("topics", "alter", "odd", "--set", "local.retention.bytes=0", server=s)
        all_cold(s, "odd")
        assert replay(exe, s, "odd", "read", "3")[0] == sent, "over Kafka"
        assert events(s, "odd") == before, "over HTTP"
        middle = before[len(before) // 2]
        assert list(s.pages("odd", 1000, middle["id"])) == before[len(before) // 2 + 1:], "from a position"
        (one,) = kcat(s, "-C", "-t", "odd", "-p", str(middle["partition"]), "-o", str(middle["offset"]), "-c", "1", "-q",
                      "-f", "%o\n")
        assert int(one) == middle["offset"]
        weir("lake", "compact", "odd", server=s)
        assert replay(exe, s, "odd", "read", "3")[0] == sent, "after compaction"
        s2 = restarted(s)
        assert [p["start"] for p in partitions(s2, "odd")] == [0, 0, 0]
        assert replay(exe, s2, "odd", "read", "3")[0] == sent, "after a restart"
        assert events(s2, "odd") == before
        assert metric(s2, "weir_lake_replayed_records_total") >= len(before)


def test_tier_scattered():
    """A table in 200 files that all have records from all over: replayed in order, whatever the number is."""
    with scratch() as d, served(kafka=0) as s:
        exe = kafka_clients.compiled(d, "replay")
        weir("topics", "create", "wide", *CREATE, "--set", "local.retention.bytes=-1", "--set",
             "lake.partition=bucket[200](value)", server=s)
        body = [{"type": "t.x", "stream": "wide:k", "data": {"n": n, "text": "x" * (n % 200)}} for n in range(4000)]
        for i in range(0, len(body), 1000):
            assert s.call("POST", "/events", json.dumps(body[i:i + 1000]))[0] == 201
        sent, before = replay(exe, s, "wide", "read", "3")[0], events(s, "wide")
        assert len(before) == len(body)
        weir("topics", "alter", "wide", "--set", "local.retention.bytes=0", server=s)
        all_cold(s, "wide")
        status, _, out = s.call("GET", "/lake/wide")
        assert status == 200 and json.loads(out)["table_files"] == 200, out
        assert replay(exe, s, "wide", "read", "3")[0] == sent, "over Kafka"
        assert events(s, "wide") == before, "over HTTP"


def restarted(s):
    """The same server once more, in the same object, so that whoever stops it stops this one."""
    s.stop()
    again = Server(s.data, kafka=0)
    s.__dict__.update(again.__dict__)
    return s


def test_tier_data_directory():
    """The command line on a data directory: readers of the log do not open the lake, and what that alone has is an error,
    not passed by; SQL sees it, and says so where it does not."""
    with scratch() as d:
        data, url = os.path.join(d, "data"), "file://" + os.path.join(d, "lake")
        s = Server(data, "--set", "lake.url=" + url)
        try:
            weir("topics", "create", "old", "--partitions", "1", "--set", "retention.ms=-1", *TIERED, server=s)
            for n in range(10):
                weir("emit", "a.thing", "%d" % n, "--stream", "old", server=s)
            all_cold(s, "old")
            weir("topics", "alter", "old", "--set", "local.retention.bytes=-1", server=s)
            for n in range(10, 15):
                weir("emit", "a.thing", "%d" % n, "--stream", "old", server=s)
        except BaseException:
            s.kill()
            raise
        s.stop()
        for what in (("consume", "old"), ("consume", "old", "--from", "3"), ("consume", "old", "--from", "-12"),
                     ("consume", "old", "--from", "2020-01-01T00:00:00Z"), ("read", "old")):
            p = weir(*what, "--data", data, ok=False)
            assert p.returncode and p.stdout == b"" and b"in the lake alone" in p.stderr, (what, p)
        newer = b"".join(b"%d\n" % n for n in range(10, 15))
        assert weir("consume", "old", "--data", data, "--from", "-5").stdout == newer
        assert weir("consume", "old", "--data", data, "--from", "10").stdout == newer
        query = ("sql", "--data", data, "--format", "csv", "-c", 'SELECT count(*), max("offset") FROM old')
        p = weir(*query, ok=False)
        assert p.returncode and b"in the lake alone" in p.stderr and b"note: what only the lake has of old" in p.stderr, p
        p = weir(*query, "--set", "lake.url=" + url)
        assert p.stdout.split()[-1] == b"15,14" and p.stderr == b"", p


def offsets(s, topic, at):
    """ListOffsets of the three partitions."""
    out = {}
    for p in range(3):
        (line,) = kcat(s, "-Q", "-t", "%s:%d:%d" % (topic, p, at))
        out[p] = int(line.split()[-1])
    return [out[p] for p in range(3)]


def checkpoints(s, got):
    """A checkpoint puts the Kafka group of its name where it is, also among what the lake alone has."""
    for n in (0, len(got) // 2, len(got) - 1):
        status, _, out = s.call("PUT", "/checkpoints/cp/at", json.dumps({"after": got[n]["id"]}))
        assert status == 200, out
        want = {e["partition"]: e["offset"] for e in reversed(got[n + 1:])}
        at = {o["partition"]: o["offset"] for o in json.loads(s.call("GET", "/groups/cp")[2])["offsets"]}
        ends = {p["partition"]: p["end"] for p in partitions(s, "at")}
        assert at == {p: want.get(p, ends[p]) for p in ends}, (n, at, want)


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + ".%03dZ" % (ms % 1000)


def test_tier_offsets():
    """ListOffsets over both tiers: by time and the special ones; DeleteRecords among older records."""
    body = [{"type": "t.x", "stream": "at:k%d" % (n % 9), "data": {"n": n}} for n in range(900)]
    with served(kafka=0) as s:
        weir("topics", "create", "at", *CREATE, server=s)
        for i in range(0, 900, 300):
            assert s.call("POST", "/events", json.dumps(body[i:i + 300]))[0] == 201
            time.sleep(0.02)
        all_cold(s, "at")
        assert s.call("POST", "/events", json.dumps(body[:90]))[0] == 201
        got = events(s, "at")
        assert len(got) == 990
        times = [[] for _ in range(3)]
        for line in kcat(s, "-C", "-t", "at", "-e", "-q", "-o", "beginning", "-f", "%p %o %T\n"):
            p, o, t = map(int, line.split())
            assert o == len(times[p])
            times[p].append(t)
        for t in sorted({x for p in times for x in p}):
            want = [next((o for o, x in enumerate(p) if x >= t), len(p)) for p in times]
            assert offsets(s, "at", t) == want, (t, want)
        assert offsets(s, "at", -2) == [0, 0, 0] and offsets(s, "at", -1) == [len(p) for p in times]
        for t in sorted({x for p in times for x in p}):
            status, _, page = s.call("GET", "/events?stream=at&limit=1000&from=" + iso(t))
            want = [e for e in got if times[e["partition"]][e["offset"]] >= t]
            assert status == 200 and json.loads(page)["events"] == want, (t, len(want))
        checkpoints(s, got)
        half = len(times[0]) // 2
        status, _, out = s.call("DELETE", "/topics/at/records?partition=0&before=%d" % half)
        assert status in (200, 202, 204), out
        wait_for(lambda: partitions(s, "at")[0]["start"] == half)
        assert offsets(s, "at", -2) == [half, 0, 0]
        left = [e for e in got if e["partition"] or e["offset"] >= half]
        assert events(s, "at") == left
        weir("lake", "expire", "at", server=s)  # rows below the log's start leave
        for n in (0, 17, len(left) // 2, len(left) - 40, len(left) - 1):  # as of a position in the lake, and in the log
            at = int(left[n]["id"][4:], 16)
            answer = s.call("POST", "/sql", json.dumps({"query": "SELECT count(*), max(position) FROM \"at\" AT (POSITION => %d)" % at}))
            assert json.loads(answer[2])["rows"] == [[n + 1, at]], (n, answer)
        assert [p["start"] for p in partitions(restarted(s), "at")] == [half, 0, 0]
        assert events(s, "at") == left


def places(s, d, topic):
    """(partition, offset) of the rows in the table's files."""
    table, duck = iceberg.Table(iceberg.Folder(os.path.join(s.data, "lake")), topic), iceberg.Duck()
    files = table.local(d)
    out = {(int(p), int(o)) for p, o in duck.rows('SELECT partition, "offset" FROM ' + iceberg.files_sql(files))} if files else set()
    duck.close()
    summary = table.snapshot()["summary"]
    assert len(out) == int(summary["total-records"]), summary
    return out


def test_tier_rows_leave():
    """Rows below the log's start leave the table of a topic with tiers, also out of files that partitions share, unless
    lake.retention.ms is -1."""
    with served() as s, scratch() as d:
        weir("topics", "create", "less", *CREATE, "--set", "lake.retention.ms=-1", server=s)
        for part in range(2):  # two files, in both of which partition 0 has ten times as many
            body = [{"type": "t.x", "stream": "less:k%d" % (n % 11 and 7), "data": {"n": n}} for n in range(440)]
            assert s.call("POST", "/events", json.dumps(body))[0] == 201
            weir("lake", "flush", "less", server=s)
        all_cold(s, "less")
        ends = {p["partition"]: p["end"] for p in partitions(s, "less")}
        rows = {(p, o) for p, end in ends.items() for o in range(end)}
        big = max(ends, key=ends.get)
        assert places(s, d, "less") == rows and len([e for e in ends.values() if e]) > 1, ends
        assert s.call("DELETE", "/topics/less/records?partition=%d&before=100" % big)[0] in (200, 202, 204)
        weir("lake", "expire", "less", server=s)
        assert places(s, d, "less") == rows, "lake.retention.ms=-1 keeps them"
        weir("topics", "alter", "less", "--set", "lake.retention.ms=-2", server=s)
        weir("lake", "expire", "less", server=s)
        rows -= {(big, o) for o in range(100)}
        assert places(s, d, "less") == rows
        assert {(e["partition"], e["offset"]) for e in events(s, "less")} == rows
        answer = s.call("POST", "/sql", json.dumps({"query": "SELECT count(*) FROM less"}))
        assert json.loads(answer[2])["rows"] == [[len(rows)]], answer
        weir("topics", "alter", "less", "--set", "retention.ms=1", server=s)
        wait_for(lambda: all(p["start"] == p["end"] for p in partitions(s, "less")))
        weir("lake", "expire", "less", server=s)
        assert places(s, d, "less") == set() and events(s, "less") == []


def test_tier_sql_start():
    """What DeleteRecords deleted SQL does not show from its answer on, though the table still has it."""
    with served() as s:
        def ask(query):
            status, _, out = s.call("POST", "/sql", json.dumps({"query": query}))
            assert status == 200, out
            return json.loads(out)["rows"]

        weir("topics", "create", "gone", *CREATE, server=s)
        for part in range(2):  # a file with all partitions, then one for each
            body = [{"type": "t.x", "stream": "gone:k%d" % (n % 11), "data": {"n": n}} for n in range(440)]
            assert s.call("POST", "/events", json.dumps(body))[0] == 201
            weir("lake", "flush", "gone", server=s)
            weir("topics", "alter", "gone", "--set", "lake.partition=partition", server=s)
        all_cold(s, "gone")
        weir("lake", "expire", "gone", server=s)  # not again by itself within a minute
        assert s.call("POST", "/events", json.dumps(body[:44]))[0] == 201
        ends = {p["partition"]: p["end"] for p in partitions(s, "gone")}
        here = {p["partition"]: p["local_start"] for p in partitions(s, "gone")}
        starts, rows = dict.fromkeys(ends, 0), {(p, o): 0 for p, end in ends.items() for o in range(end)}
        snapshot = ask("SELECT snapshot_id FROM weir.snapshots WHERE topic = 'gone' ORDER BY sequence DESC")[0][0]
        for p, before in ((0, 3), (1, 1), (0, here[0] - 5), (2, here[2]), (1, here[1] + 2)):
            assert s.call("DELETE", "/topics/gone/records?partition=%d&before=%d" % (p, before))[0] in (200, 202, 204)
            starts[p] = before
            want = sorted([p, o] for p, o in rows if o >= starts[p])
            assert ask('SELECT partition, "offset" FROM gone ORDER BY ALL') == want, starts
            assert ask("SELECT count(*) FROM gone") == [[len(want)]], starts
            assert ask('SELECT min("offset") FROM gone WHERE partition = %d' % p) == [[before]], starts
            assert ask("SELECT count(*) FROM stream_messages WHERE topic = 'gone'") == [[len(want)]], starts
        old = ask("SELECT count(*) FROM gone AT (VERSION => %s)" % snapshot)
        assert old == [[sum(here.values())]], "a snapshot has its rows until it expires"
        weir("lake", "expire", "gone", server=s)
        assert ask('SELECT partition, "offset" FROM gone ORDER BY ALL') == want


def test_tier_lookups():
    """Look-ups in an object store fetch the row groups that they want, and find what whole files have."""
    rows = 260000
    with scratch() as d, s3.small() as endpoint:
        lines = os.path.join(d, "lines")
        with open(lines, "w") as f:
            for n in range(rows):
                f.write('{"n":%d,"noise":"%016x"}\n' % (n, n * 0x9E3779B97F4A7C15 % 2**64))
        with environ(s3.environment(endpoint)), served("--set", "lake.url=s3://bucket/many") as s:
            weir("topics", "create", "many", "--partitions", "1", "--set", "lake.enable=true", "--set",
                 "lake.max.seconds=86400", "--set", "lake.max.bytes=1073741824", server=s)
            weir("import", lines, "--stream", "many", "--batch", "5000", "--quiet", server=s)
            weir("lake", "flush", "many", server=s)

            def ask(query):
                status, _, out = s.call("POST", "/sql", json.dumps({"query": query}))
                assert status == 200, out
                return json.loads(out)["rows"]

            def fetched(query):
                before = metric(s, "weir_lake_fetched_bytes_total")
                return ask(query), metric(s, "weir_lake_fetched_bytes_total") - before

            size, = ask("SELECT max(bytes) FROM weir.snapshots WHERE topic = 'many'")[0]
            for n in (0, 5, 61439, 61440, 122879, 122880, 250000, rows - 1):
                got, most = fetched('SELECT n, noise FROM many WHERE partition = 0 AND "offset" = %d' % n)
                assert got == [[n, "%016x" % (n * 0x9E3779B97F4A7C15 % 2**64)]], (n, got)
                assert most < size * 0.6, (n, most, size)
            between = 'FROM many WHERE "offset" BETWEEN 122000 AND 123000'
            assert ask("SELECT count(*), sum(n) " + between) == [[1001, sum(range(122000, 123001))]]
            when = ask('SELECT timestamp FROM many WHERE "offset" = 200000')[0][0]
            assert [200000] in ask("SELECT n FROM many WHERE timestamp = '%s'" % when)
            assert ask("SELECT count(*) FROM many WHERE timestamp > '2100-01-01'") == [[0]]
            assert ask('SELECT count(*) FROM many WHERE "offset" > 1000000000') == [[0]]
            assert ask("SELECT count(*), sum(n) FROM many WHERE n >= 0") == [[rows, rows * (rows - 1) // 2]]
            status = []  # several at once, of the same and of others
            threads = [threading.Thread(target=lambda n=n: status.append(
                ask('SELECT n FROM many WHERE "offset" = %d' % n) == [[n]])) for n in (1, 1, 130000, 255000, 1, 259999)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert status == [True] * 6


def test_tier_out_of_reach():
    """While the lake's folder is away readers get errors that say so, and lose nothing; then all comes."""
    with scratch() as d, served(kafka=0) as s:
        exe = kafka_clients.compiled(d, "replay")
        weir("topics", "create", "away", *CREATE, server=s)
        sent, _, _ = replay(exe, s, "away", "odd", "500")
        before = events(s, "away")
        all_cold(s, "away")
        lake = os.path.join(s.data, "lake", "weir")
        s2 = restarted(s)  # nothing is in memory
        os.rename(lake, lake + ".away")
        status, _, body = s2.call("GET", "/events?stream=away&limit=10")
        assert status == 503 and json.loads(body)["code"] == "lake_unavailable", (status, body)
        got = []
        reader = threading.Thread(target=lambda: got.append(replay(exe, s2, "away", "read", "3")[0]))
        reader.start()
        failures = metric(s2, "weir_lake_replay_failures_total")
        wait_for(lambda: metric(s2, "weir_lake_replay_failures_total") > failures)
        os.rename(lake + ".away", lake)
        reader.join()
        assert got == [sent]
        assert events(s2, "away") == before


# ---- kill -9 -------------------------------------------------------------------------------------------

def feed(s, stop, acked, start):
    n = start
    try:
        while not stop.is_set():
            body = [{"type": "k", "stream": "kill:c%d" % (n % 5), "data": {"n": n + i}} for i in range(20)]
            status, _, answer = s.call("POST", "/events", json.dumps(body))
            if status != 201:
                return
            acked.extend((n + i, e["id"]) for i, e in enumerate(json.loads(answer)["events"]))
            n += 20
    except (OSError, http.client.HTTPException, ValueError):
        return


def test_tier_kill9():
    """kill -9 while the local log deletes what the lake has: a replay from the start has each record once."""
    rounds = 50 if os.environ.get("WEIR_LONG") else 6
    with scratch() as d:
        data, acked, deleted = os.path.join(d, "data"), [], 0
        s = Server(data)
        weir("topics", "create", "kill", *CREATE, "--set", "lake.max.bytes=1024", server=s)
        for r in range(rounds):
            stop = threading.Event()
            t = threading.Thread(target=feed, args=(s, stop, acked, 1000000 * r))
            t.start()
            time.sleep(random.uniform(0.4, 1.4))
            s.kill()
            stop.set()
            t.join()
            s = Server(data)
            deleted += any(p["local_start"] for p in partitions(s, "kill"))
            if r % 5 == 4 or r == rounds - 1:
                whole(s, acked)
        all_cold(s, "kill")
        n = whole(s, acked)
        s.stop()
        print("figure: tiers: %d kills, %d with records deleted locally, %d records replayed, each once" % (
            rounds, deleted, n))


def whole(s, acked):
    got = events(s, "kill")
    ends = {p["partition"]: p["end"] for p in partitions(s, "kill")}
    for p, end in ends.items():
        offsets = [e["offset"] for e in got if e["partition"] == p]
        assert offsets == list(range(end)), (p, end, len(offsets), sorted(set(range(end)) - set(offsets))[:50],
                                             [o for i, o in enumerate(offsets) if o in offsets[:i]][:50], partitions(s, "kill"))
    assert len({e["id"] for e in got}) == len(got)
    by_id = {e["id"]: e["data"]["n"] for e in got}
    for n, event_id in acked:
        assert by_id[event_id] == n
    return len(got)


# ---- flights -------------------------------------------------------------------------------------------

def http_digest(s, topic):
    """Of all events as text, and how many bytes there were."""
    h, n, after = hashlib.sha256(), 0, None
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=120)
    while True:
        c.request("GET", "/events?stream=%s&limit=10000%s" % (topic, "&after=" + after if after else ""),
                  headers={"Accept": "application/x-ndjson"})
        r = c.getresponse()
        body = r.read()
        assert r.status == 200, body[:300]
        if not body:
            return h.hexdigest(), n
        h.update(body)
        n += len(body)
        after = r.getheader("Weir-Next")


def flights_lines(duck, d, limit):
    """(the source's Parquet file, or a part of it; its rows as lines of JSON)"""
    source = os.path.join(npm_modules(), "vega-datasets", "data", "flights-3m.parquet")
    part, path = os.path.join(d, "source.parquet"), os.path.join(d, "flights.jsonl")
    duck.rows("COPY (SELECT * FROM '%s' %s) TO '%s' (FORMAT PARQUET)" % (source, "LIMIT %d" % limit if limit else "", part))
    duck.rows("COPY (SELECT * FROM '%s') TO '%s' (FORMAT JSON)" % (part, path))
    return part, path


def flights(place, d, limit, env=None):
    duck = iceberg.Duck()
    source, path = flights_lines(duck, d, limit)
    rows = int(duck.rows("SELECT count(*) FROM '%s'" % source)[0][0])
    exe = kafka_clients.compiled(d, "replay")
    if env:
        os.environ.update(env)
    s = Server(os.path.join(d, "data"), "--set", "lake.url=" + place.url(), kafka=0)
    try:
        weir("topics", "create", "flights", *CREATE, "--set", "local.retention.bytes=-1", "--set",
             "lake.partition=partition", server=s)
        sent, n, seconds = replay(exe, s, "flights", "lines", path)
        said = ["produced %.0f MB/s" % (n / 1e6 / seconds)]
        began = time.time()
        weir("lake", "flush", "flights", server=s)
        said.append("rest of the flush %.1f s" % (time.time() - began))
        compare(duck, place, d, source, rows)
        n, seconds = replay(exe, s, "flights", "read", "3")[1:]
        said.append("local replay by Kafka %.0f MB/s" % (n / 1e6 / seconds))
        before = http_digest(s, "flights")
        weir("topics", "alter", "flights", "--set", "local.retention.bytes=0", server=s)
        all_cold(s, "flights")
        got, n, seconds = replay(exe, s, "flights", "read", "3")
        assert got == sent, "over Kafka"
        said.append("from Parquet %.0f MB/s (%.1f s)" % (n / 1e6 / seconds, seconds))
        began = time.time()
        assert http_digest(s, "flights") == before, "over HTTP"
        seconds = time.time() - began
        said.append("over HTTP %.0f MB/s (%.1f s)" % (before[1] / 1e6 / seconds, seconds))
        print("figure: tiers: %d flights, %.0f MB: %s" % (rows, n / 1e6, ", ".join(said)))
    except BaseException:
        print(s.tail())
        raise
    finally:
        s.stop()
    duck.close()


def compare(duck, place, d, source, rows):
    """The table equals the source, by a full compare both ways."""
    table = iceberg.Table(place, "flights")
    assert iceberg.exactly_once(duck, table, d) == rows
    files = iceberg.files_sql(table.local(d))
    types = {r[0]: r[1] for r in duck.rows("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '%s')" % source)}
    names = ",".join('"%s"' % c for c in types)
    cast = ",".join('CAST("%s" AS %s) AS "%s"' % (c, types[c], c) for c in types)
    duck.rows("CREATE OR REPLACE VIEW ours AS SELECT %s FROM %s" % (cast, files))
    for a, b in (("'%s'" % source, "ours"), ("ours", "'%s'" % source)):
        assert duck.rows("SELECT count(*) FROM (SELECT %s FROM %s EXCEPT ALL SELECT %s FROM %s)" % (
            names, a, names, b)) == [("0",)]


def test_tier_flights():
    """A part of flights-3m through a table and back; all of it with WEIR_LONG=1."""
    with scratch() as d:
        flights(iceberg.Folder(os.path.join(d, "lake")), d, 0 if os.environ.get("WEIR_LONG") else 50000)


def test_tier_seaweed():
    """All of flights-3m into SeaweedFS, equal to its source, and back over Kafka and HTTP."""
    old = dict(os.environ)
    with s3.seaweed() as endpoint, scratch() as d:
        try:
            flights(iceberg.Bucket(endpoint, "flights"), d, 0, s3.environment(endpoint))
        finally:
            os.environ.clear()
            os.environ.update(old)
