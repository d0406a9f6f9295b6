"""The lake with the real binary: topics become Iceberg tables, on a folder, on a small S3 server whose requests
are spoilt, and on SeaweedFS (WEIR_CLIENTS=all); read back by tests/system/iceberg.py."""
import json, os, random, subprocess, threading, time

import iceberg, s3
from harness import Server, Skip, npm_modules, scratch, served, wait_for, weir

HERE = os.path.dirname(os.path.abspath(__file__))
ENABLE = ("--set", "lake.enable=true", "--set", "lake.max.seconds=1")


def flights():
    path = os.path.join(npm_modules(), "vega-datasets", "data", "flights-200k.json")
    with open(path) as f:
        return path, json.load(f)


def check_flights(place, source, d):
    """Equal to the source by a full compare, both ways."""
    duck, table = iceberg.Duck(), iceberg.Table(place, "flights")
    assert iceberg.exactly_once(duck, table, d) == len(source)
    files = iceberg.files_sql(table.local(d))
    duck.rows("CREATE TABLE source AS SELECT row_number() OVER () - 1 AS n, * FROM read_json_auto('%s')" % flights()[0])
    columns = [c for c in source[0]]
    assert all(c in table.columns() for c in columns), table.columns().keys()
    names = ",".join('"%s"' % c for c in columns)
    for a, b in (("source", files), (files, "source")):
        assert duck.rows("SELECT count(*) FROM (SELECT %s FROM %s EXCEPT ALL SELECT %s FROM %s)" % (
            names, a, names, b)) == [("0",)]
    by_key, got = {}, {}
    for row in source:
        by_key.setdefault(str(row["delay"]), []).append(row)
    for key, value in duck.rows("SELECT decode(key), decode(value) FROM %s ORDER BY partition, \"offset\"" % files):
        got.setdefault(key, []).append(json.loads(value))
    assert got == by_key, "values are not what was sent, in each key's order"
    duck.close()
    return table


def flights_through(place, d, *settings, env=None):
    path, source = flights()
    data = os.path.join(d, "data")
    if env:
        os.environ.update(env)
    s = Server(data, "--set", "lake.url=" + place.url(), *settings)
    try:
        weir("topics", "create", "flights", "--partitions", "3", *ENABLE, server=s)
        weir("import", path, "--stream", "flights", "--key", "delay", server=s)
        began = time.time()
        weir("lake", "flush", "flights", server=s)
        took = time.time() - began
        table = check_flights(place, source, d)
        weir("lake", "compact", "flights", server=s)
        compacted = check_flights(place, source, d)
        weir("topics", "alter", "flights", "--set", "lake.snapshot.retention.ms=60000", server=s)
        weir("lake", "expire", "flights", server=s)
        check_flights(place, source, d)
        print("figure: lake: 200 thousand flights in %d files, after compaction %d; last flush %.1f s" % (
            len(table.files()), len(compacted.files()), took))
    finally:
        s.stop()


def test_lake_flights():
    with scratch() as d:
        flights_through(iceberg.Folder(os.path.join(d, "lake")), d)


# ---- evolution, compaction, expiry ---------------------------------------------------------------------

def post(s, stream, values):
    body = json.dumps([{"type": "t.x", "stream": stream, "data": v} for v in values])
    status, _, answer = s.call("POST", "/events", body)
    assert status == 201, answer


def rows(place, name, d, what):
    duck, table = iceberg.Duck(), iceberg.Table(place, name)
    iceberg.exactly_once(duck, table, d)
    out = duck.rows("SELECT %s FROM %s ORDER BY partition, \"offset\"" % (what, iceberg.files_sql(table.local(d))))
    duck.close()
    return table, out


def test_lake_evolution():
    """Columns come as fields come; what does not fit a column's type goes to a text column; nothing is lost."""
    batches = [[{"a": 1, "b": True, "Offset": "x"}], [{"a": 2.5, "c": {"n": [1]}}], [{"a": "three", "b": "yes"}],
               [{"a": None}], [{"a": 4, "b": False, "c": "text", "new": 1.5}], [{"a": 5}], [[1, 2]], ["bare"]]
    with served("--set", "lake.orphan_age=1s") as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        weir("topics", "create", "ev", *ENABLE, server=s)
        for b in batches:
            post(s, "ev", b)
            weir("lake", "flush", "ev", server=s)
        what = "a, a_text, b, b_text, c, new, \"value_Offset\", decode(value)"
        want = [("1", None, "true", None, None, None, "x"), (None, "2.5", None, None, '{"n": [1]}', None, None),
                (None, "three", None, "yes", None, None, None), (None,) * 7,
                ("4", None, "false", None, "text", "1.5", None), ("5",) + (None,) * 6, (None,) * 7, (None,) * 7]
        table, got = rows(place, "ev", d, what)
        assert [r[:7] for r in got] == want, got
        assert [json.loads(r[7]) for r in got] == [v for b in batches for v in b]
        assert len(table.files()) >= len(batches) and len(table.md["snapshots"]) == len(batches)
        weir("lake", "compact", "ev", server=s)
        table, after = rows(place, "ev", d, what)
        assert after == got and len(table.files()) < len(batches), len(table.files())
        assert table.offsets() == [len(batches)]
        stray = os.path.join(place.root, "weir", "ev", "data", "stray.parquet")
        with open(stray, "w") as f:
            f.write("nothing names me")
        os.utime(stray, (time.time() - 100,) * 2)
        weir("topics", "alter", "ev", "--set", "lake.snapshot.retention.ms=60000", server=s)
        weir("lake", "expire", "ev", server=s)
        table, last = rows(place, "ev", d, what)
        assert last == got and not os.path.exists(stray)
        weir("topics", "alter", "ev", "--set", "lake.retention.ms=0", server=s)
        weir("lake", "expire", "ev", server=s)
        assert iceberg.Table(place, "ev").files() == []
        post(s, "ev", [{"a": 9}])
        weir("lake", "flush", "ev", server=s)
        (f,) = iceberg.Table(place, "ev").files()
        assert f["record_count"] == 1
        status, _, body = s.call("GET", "/metrics")
        assert b"weir_lake_compactions_total 1" in body and b'weir_lake_lag_records{topic="ev"} 0' in body, body[-3000:]


def test_lake_gc():
    """With gc.enabled=false snapshots and files are somebody else's to remove."""
    with served("--set", "lake.orphan_age=1s") as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        weir("topics", "create", "gc", *ENABLE, "--set", "lake.snapshot.retention.ms=60000", server=s)
        for i in range(5):
            post(s, "gc", [{"a": i}])
            weir("lake", "flush", "gc", server=s)
        weir("lake", "compact", "gc", server=s)
        stray = os.path.join(place.root, "weir", "gc", "data", "stray.parquet")
        with open(stray, "w") as f:
            f.write("nothing names me")
        os.utime(stray, (time.time() - 100,) * 2)
        for on in ("FALSE", "true"):
            status, _, body = s.call("POST", "/iceberg/v1/namespaces/weir/tables/gc", json.dumps(
                {"requirements": [], "updates": [{"action": "set-properties", "updates": {"gc.enabled": on}}]}))
            assert status == 200, body
            before = set(place.names("weir/gc/data"))
            weir("lake", "expire", "gc", server=s)
            kept = on == "FALSE"
            assert (set(place.names("weir/gc/data")) == before) == kept == os.path.exists(stray), on
        assert iceberg.exactly_once(iceberg.Duck(), iceberg.Table(place, "gc"), d) == 5


def test_lake_names():
    """Fields with any name become columns: one as long as can be, of several bytes a character; names that queries use
    themselves. What does not fit a column is there as text before the table has a column for it, and after."""
    long, h = "x" + "é" * 127, {"h": 1, "h0": 2, "topic": "mine"}
    with served() as s:
        weir("topics", "create", "names", "--set", "lake.enable=true", "--set", "lake.max.seconds=3600", server=s)
        post(s, "names", [dict(h, **{long: 3, "n": 1, "": 1})])
        weir("lake", "flush", "names", server=s)
        post(s, "names", [{"n": "one"}, {"n": 2.5}])
        what = 'SELECT h, h0, value_topic, topic, "%s", n, n_text, headers[1].key FROM names ORDER BY position' % long
        want = [(1, 2, "mine", "names", 3, 1, None), (None, None, None, "names", None, None, "one"),
                (None, None, None, "names", None, None, "2.5")]
        for _ in range(2):
            got = ask(s, what)
            assert [r[:7] for r in got] == want and all(r[7].startswith("ce_") for r in got), got
            assert len(ask(s, "SELECT * FROM names")) == 3
            weir("lake", "flush", "names", server=s)
        post(s, "names", [{"": "no number"}])
        for _ in range(2):
            assert ask(s, "SELECT value_, value__text FROM names ORDER BY position")[2:] == [(None, None), (None, "no number")]
            weir("lake", "flush", "names", server=s)


def test_lake_sort():
    """Files lie in the order that the topic wants, flushed and compacted, and say so; the metadata has it; they are replayed by
    offset all the same; a column that is not there yet ends the order until it is."""
    with served() as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        weir("topics", "create", "by", *ENABLE, "--set", "lake.partition=none", "--set", "retention.ms=-1", "--set",
             "lake.sort=c, n desc nulls first, later", server=s)
        for i in range(5):
            post(s, "by", [{"c": "abc"[(k * 7 + i) % 3], **({"n": (k * 31 + i) % 40} if k % 5 else {})} for k in range(60)])
            weir("lake", "flush", "by", server=s)
        def check(least):
            table, duck = iceberg.Table(place, "by"), iceberg.Duck()
            (order,) = [o for o in table.md["sort-orders"] if o["order-id"] == table.md["default-sort-order-id"]]
            columns = table.columns()
            assert [(f["source-id"], f["transform"], f["direction"], f["null-order"]) for f in order["fields"]] == [
                (columns["c"]["id"], "identity", "asc", "nulls-first"), (columns["n"]["id"], "identity", "desc", "nulls-first")]
            sorted_files = [f for f in table.files() if f.get("sort_order_id") == order["order-id"]]
            assert len(sorted_files) >= least, table.files()
            for f in sorted_files:
                rows = duck.rows("SELECT c, n FROM read_parquet('%s')" % place.local(f["file_path"], d))
                key = [(r[0], r[1] is not None, -int(r[1] or 0)) for r in rows]
                assert key == sorted(key) and len(set(key)) > 3, rows
            duck.close()
        check(4)  # the first flush gives the table its columns
        before = list(s.pages("by"))
        weir("lake", "compact", "by", server=s)
        check(1)
        assert len(iceberg.Table(place, "by").files()) < 5
        weir("topics", "alter", "by", "--set", "local.retention.bytes=0", server=s)
        wait_for(lambda: all(p["local_start"] == p["end"] for p in json.loads(s.call("GET", "/topics/by/partitions")[2])["partitions"]))
        assert list(s.pages("by")) == before and len(before) == 300
        weir("topics", "alter", "by", "--set", "lake.sort=none", server=s)
        post(s, "by", [{"c": "z"}])
        weir("lake", "flush", "by", server=s)
        assert iceberg.Table(place, "by").md["default-sort-order-id"] == 0


def test_lake_partitions():
    """Each way to divide a table: files have the rows that their partition says, and keys and headers are exact."""
    with served(kafka=0) as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        for i, (how, field) in enumerate((("hour(timestamp)", "timestamp_hour"), ("day(timestamp)", "timestamp_day"),
                                          ("month(timestamp)", "timestamp_month"), ("partition", "partition"),
                                          ("bucket[16](key)", "key_bucket"), ("none", None))):
            name = "p%d" % i
            weir("topics", "create", name, "--partitions", "2", *ENABLE, "--set", "lake.partition=" + how, server=s)
            for k in range(20):
                post(s, "%s:key-%d" % (name, k), [{"k": k}])
            weir("lake", "flush", name, server=s)
            table, got = rows(place, name, d, "decode(key), k, ce_type, len(headers)")
            assert sorted(got) == sorted(("key-%d" % k, str(k), "t.x", got[0][3]) for k in range(20)), got
            spec = table.md["partition-specs"][0]["fields"]
            assert [f["name"] for f in spec] == ([field] if field else []), spec
            assert len(table.files()) == {3: 2, 4: len(table.files())}.get(i, len(table.files()))
            if i == 4:
                assert len(table.files()) > 4 and sum(f["record_count"] for f in table.files()) == 20


def test_lake_partition_values():
    """Values that are no names of folders, or are too long for them, divide a table as others do."""
    values = ["..", "../../x", "/", "a/b", "", "\0", "é" * 130, "x" * 5000, "null", "%2F", None, "ok"]
    with served() as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        weir("topics", "create", "pv", *ENABLE, "--set", "lake.partition=c", server=s)
        for n in range(2):  # the first flush gives the table its column
            post(s, "pv", [{"c": v, "n": i} for i, v in enumerate(values)])
            weir("lake", "flush", "pv", server=s)
        table, got = rows(place, "pv", d, "n")
        assert [int(r[0]) for r in got] == 2 * list(range(len(values))) and len(table.files()) == 1 + len(values)
        assert [n for n in os.listdir(os.path.join(place.root, "weir")) if n[0] != "."] == ["pv"]
        names = os.listdir(os.path.join(place.root, "weir", "pv", "data"))
        assert "c=ok" in names and "c=%2E%2E" in names and sum(n.endswith(".parquet") for n in names) == 3, names


def ask(s, sql):
    status, _, body = s.call("POST", "/sql", json.dumps({"query": sql}))
    assert status == 200, body
    return [tuple(r) for r in json.loads(body)["rows"]]


def counts(s, name, n):
    """The number of rows, which the files' manifests say, in all the ways to ask for it; and what only looks like it."""
    assert ask(s, "SELECT count(*) FROM %s" % name) == ask(s, "SELECT count(*) AS n FROM %s x;" % name) == [(n,)]
    assert ask(s, "SELECT count(*), 1 FROM %s" % name) == [(n, 1)]
    assert ask(s, "SELECT count(*) FROM %s WHERE partition >= 0" % name) == [(n,)]
    assert ask(s, "SELECT count(*) FILTER (partition < 0) FROM %s" % name) == [(0,)]
    assert ask(s, "SELECT count(*) FROM %s LIMIT 0" % name) == []
    assert ask(s, "SELECT count(*) FROM %s HAVING count(*) > %d" % (name, n)) == []
    assert ask(s, "SELECT count(*) FROM %s a, %s b" % (name, name)) == [(n * n,)]
    assert ask(s, "WITH %s AS (SELECT 1) SELECT count(*) FROM %s" % (name, name)) == [(1,)]
    assert sum(r[0] for r in ask(s, "SELECT count(*) FROM %s GROUP BY partition" % name)) == n
    for text, column in ("count(*)", "count_star()"), ("count(*) AS \"a \"\"b\"", 'a "b'):
        got = s.call("POST", "/sql", json.dumps({"query": "SELECT %s FROM %s" % (text, name)}))[2]
        assert [c["name"] for c in json.loads(got)["columns"]] == [column], got


def counts_of_views(s):
    """A topic of a name that DuckDB has a view of its own for: the view is asked, with and without files."""
    sql = "SELECT count(*) FROM duckdb_types"
    types = ask(s, sql)
    weir("topics", "create", "duckdb_types", "--set", "lake.enable=true", server=s)
    post(s, "duckdb_types:k", [{"a": i} for i in range(7)])
    weir("lake", "flush", "duckdb_types", server=s)
    assert types[0][0] > 7 and ask(s, sql) == types


def sql_both(s, name):
    """A query sees what is in the lake and what is not yet, each record once; also what the log has no more."""
    what = "SELECT count(*), sum(a), count(DISTINCT position), count(DISTINCT (partition, \"offset\")) FROM " + name
    post(s, name + ":k", [{"a": i} for i in range(100)])
    assert ask(s, what) == [(100, 4950, 100, 100)]
    weir("lake", "flush", name, server=s)
    assert ask(s, what) == [(100, 4950, 100, 100)]
    post(s, name + ":l", [{"a": i} for i in range(100, 150)])
    assert ask(s, what) == [(150, 11175, 150, 150)]
    counts(s, name, 150)
    status, _, body = s.call("DELETE", "/topics/%s/records" % name)
    assert status in (200, 204), body
    assert ask(s, what) == [(100, 4950, 100, 100)], "what was deleted before it was in the lake is gone"
    post(s, name + ":k", [{"a": 1, "b": "new"}])
    assert ask(s, what) == [(101, 4951, 101, 101)]
    weir("lake", "flush", name, server=s)
    assert ask(s, what + " WHERE b = 'new'") == [(1, 1, 1, 1)]
    assert ask(s, "SELECT sum(a) FROM %s WHERE partition >= 0 AND \"offset\" < 10" % name)[0][0] >= 45
    assert [r for r in ask(s, "SELECT operation, records FROM weir.snapshots WHERE topic = '%s' ORDER BY sequence" %
                           name)] == [("append", 100), ("append", 101)]


def test_lake_sql():
    with served() as s:
        weir("topics", "create", "warm", "--partitions", "2", "--set", "lake.enable=true", "--set",
             "lake.max.seconds=3600", "--set", "lake.max.bytes=1073741824", server=s)
        sql_both(s, "warm")
        counts(s, "warm", 101)
        counts_of_views(s)


def test_lake_sql_s3():
    """The same from objects, which are copied for queries."""
    old = dict(os.environ)
    with s3.small() as endpoint:
        os.environ.update(s3.environment(endpoint))
        try:
            with served("--set", "lake.url=s3://bucket/sql") as s:
                weir("topics", "create", "warm", "--partitions", "2", "--set", "lake.enable=true", "--set",
                     "lake.max.seconds=3600", "--set", "lake.max.bytes=1073741824", server=s)
                sql_both(s, "warm")
        finally:
            os.environ.clear()
            os.environ.update(old)


# ---- kill -9 and faults --------------------------------------------------------------------------------

def feed(s, stop, sent):
    """Posts small batches until the server goes."""
    n = 0
    while not stop.is_set():
        try:
            status, _, _ = s.call("POST", "/events", json.dumps(
                [{"type": "k", "stream": "kill:c%d" % (i % 5), "data": {"n": n, "i": i}} for i in range(20)]))
        except OSError:
            return
        except Exception:
            return
        if status == 201:
            sent[0] += 20
        n += 1
        time.sleep(0.005)


def killed(place, d, rounds, wait, settings=(), every=10, enough=lambda: True):
    """Kills `rounds` times, and on a slow machine up to six times as often, until enough has happened."""
    data = os.path.join(d, "data")
    opts = ("--set", "lake.url=" + place.url(), "--set", "topics.retention=-1", "--set", "lake.s3.stall=1s", *settings)
    s, kills = Server(data, *opts), 0
    weir("topics", "create", "kill", "--partitions", "3", "--set", "lake.enable=true", "--set", "lake.max.seconds=1",
         "--set", "lake.max.bytes=1024", server=s)
    sent, duck = [0], iceberg.Duck()
    for r in range(6 * rounds):
        if r >= rounds and enough():
            break
        stop = threading.Event()
        t = threading.Thread(target=feed, args=(s, stop, sent))
        t.start()
        time.sleep(random.uniform(*wait))
        s.kill()
        kills += 1
        stop.set()
        t.join()
        if r % every == every - 1:
            try:
                table = iceberg.Table(place, "kill")
            except AssertionError:
                table = None  # not made yet
            if table and table.snapshot():
                iceberg.exactly_once(duck, table, d)
        s = Server(data, *opts)
    weir("lake", "flush", "kill", server=s)
    table = iceberg.Table(place, "kill")
    n = iceberg.exactly_once(duck, table, d)
    status, _, body = s.call("GET", "/topics/kill/partitions")
    assert status == 200, body
    ends = [p["end"] for p in json.loads(body)["partitions"]]
    assert table.offsets() == ends and n == sum(ends) >= sent[0] > 0, (table.offsets(), ends, n, sent)
    got = duck.rows("SELECT partition, \"offset\", decode(value) FROM %s" % iceberg.files_sql(table.local(d)))
    have = {(int(p), int(o)): json.loads(v) for p, o, v in got}
    for e in s.pages("kill", 10000):
        assert have.pop((e["partition"], e["offset"])) == e["data"]
    assert not have
    s.stop()
    duck.close()
    return n, len(table.md["snapshots"]), kills


def test_lake_kill9():
    """kill -9 in the middle of flushes and commits: each record is in the table once."""
    rounds = int(os.environ.get("WEIR_KILL_ROUNDS", "50"))
    with scratch() as d:
        n, commits, _ = killed(iceberg.Folder(os.path.join(d, "lake")), d, rounds, (0.1, 0.9))
        print("figure: lake: %d kills, %d records, each once in the table; %d commits" % (rounds, n, commits))


def s3_killed(endpoint, seed, rounds, name):
    old = dict(os.environ)
    with scratch() as d, s3.spoilt(endpoint, 0.15, seed) as (proxied, proxy):
        os.environ.update(s3.environment(proxied))
        try:
            n, commits, rounds = killed(iceberg.Bucket(endpoint, "lake"), d, rounds, (0.5, 2.0), every=3,
                                enough=lambda: len(proxy.counts) >= 4)
        finally:
            os.environ.clear()
            os.environ.update(old)
        assert len(proxy.counts) >= 4, proxy.counts
        print("figure: lake on %s: %d kills, %d records, each once in the table; %d commits; spoilt: %s" % (
            name, rounds, n, commits, dict(sorted(proxy.counts.items()))))


def test_lake_s3_faults():
    with s3.small() as endpoint:
        s3_killed(endpoint, 3, 50 if os.environ.get("WEIR_LONG") else 6, "a small S3 server")


def test_lake_seaweed():
    old = dict(os.environ)
    with s3.seaweed() as endpoint:
        with scratch() as d:
            os.environ.update(s3.environment(endpoint))
            try:
                flights_through(iceberg.Bucket(endpoint, "flights"), d)
            finally:
                os.environ.clear()
                os.environ.update(old)
        s3_killed(endpoint, 4, 50 if os.environ.get("WEIR_LONG") else 20, "SeaweedFS")


DIVISIONS = (  # terms, names of the fields, a filter of pyiceberg's, what the row must be
    ("identity(city)", "city", "city == 'Bern'", lambda v: v["city"] == "Bern"),
    ("city, flag", "city,flag", "city == 'Bern' and flag == true", lambda v: v["city"] == "Bern" and v["flag"]),
    ("bucket[8](city)", "city_bucket", "city == 'Genf'", lambda v: v["city"] == "Genf"),
    ('["n_bucket[4]", "truncate[2](city)"]', "n_bucket,city_trunc", "n == 17", lambda v: v["n"] == 17),
    ("truncate[10](n)", "n_trunc", "n >= 20 and n < 30", lambda v: 20 <= v["n"] < 30),
    ("n_truncate[25]", "n_trunc", "n < 25", lambda v: v["n"] < 25),
    ("void(city), ce_type", "city_null,ce_type", "ce_type == 't.x'", lambda v: True),
    ("year(ts), partition", "timestamp_year,partition", "partition == 1", lambda v: False),
    ("month(ts),day(timestamp)", "timestamp_month,timestamp_day", "timestamp > '2020-01-01T00:00:00+00:00'", lambda v: True),
    ("score", "score", "score == 1.5", lambda v: v["score"] == 1.5))


def division_values():
    cities = ["Bern", "Genf", "Zürich", "", None, "a/b=c %"]
    return [{"n": n, "city": cities[n % 6], "flag": n % 3 == 0, "score": n / 2, "odd": "x" if n % 2 else n} for n in range(60)]


def divided(s, name, terms, values):
    weir("topics", "create", name, "--partitions", "2", "--set", "lake.enable=true", "--set", "lake.max.seconds=86400", "--set",
         "lake.partition=" + terms, server=s)
    for again in range(2):  # the first flush gives the table its columns, the second its files their places
        post(s, name + ":k", values[again::2])
        weir("lake", "flush", name, server=s)


def test_lake_divisions():
    """lake.partition as lists of terms over records' own columns and fields of their values: what the spec says is
    what is in the files; other terms later, and after kill -9, too."""
    values = division_values()
    with served() as s, scratch() as d:
        place = iceberg.Folder(os.path.join(s.data, "lake"))
        for i, (terms, names, _, _) in enumerate(DIVISIONS):
            divided(s, "d%d" % i, terms, values)
            table, got = rows(place, "d%d" % i, d, "n, city")
            assert len(got) == 60 and sum(int(r[0]) for r in got) == 1770
            spec = next(p for p in table.md["partition-specs"] if p["spec-id"] == table.md["default-spec-id"])
            assert ",".join(f["name"] for f in spec["fields"]) == names, spec
        weir("topics", "alter", "d0", "--set", "lake.partition=bucket[2](n),city", server=s)
        s.kill()
        t = Server(s.data)
        try:
            post(t, "d0:k", values)
            weir("lake", "flush", "d0", server=t)
            table, got = rows(place, "d0", d, "n, city")
            specs = {p["spec-id"]: p["fields"] for p in table.md["partition-specs"]}
            now = specs[table.md["default-spec-id"]]
            assert [f["name"] for f in now] == ["n_bucket", "city"] and len(specs) == 3 and len(got) == 120, specs
            (before,) = (p for p in specs.values() if [f["name"] for f in p] == ["city"])
            assert before[0]["field-id"] == now[1]["field-id"] != now[0]["field-id"], "a field keeps its id"
            weir("lake", "compact", "d0", server=t)
            assert len(rows(place, "d0", d, "n")[1]) == 120
            weir("topics", "alter", "d0", "--set", "lake.partition=nonsense[3](n)", server=t)
            p = weir("lake", "flush", "d0", server=t, ok=False)
            assert p.returncode == 1 and b"no transform" in p.stderr, p.stderr
            weir("topics", "alter", "d0", "--set", "lake.partition=none", server=t)
            post(t, "d0:k", values[:1])
            weir("lake", "flush", "d0", server=t)
            assert specs[iceberg.Table(place, "d0").md["default-spec-id"]] == [], "divided by nothing, as before there were columns"
        finally:
            t.stop()
        s.__init__(s.data)  # for served() to stop


def test_lake_divisions_planned():
    """pyiceberg plans the files that have the rows, and no others where a transform tells them apart."""
    from lake_tables import python
    interpreter = python()
    values = division_values()
    with served() as s:
        asked = []
        for i, (terms, _, how, _) in enumerate(DIVISIONS):
            divided(s, "d%d" % i, terms, values)
            asked.append("d%d:%s" % (i, how))
        p = subprocess.run([interpreter, os.path.join(HERE, "lake", "partitions.py"), os.path.join(s.data, "lake"), *asked],
                           capture_output=True, timeout=200)
        assert p.returncode == 0, p.stderr.decode()[-2000:]
        for (terms, _, how, right), (n, planned, both, have, every, specs) in zip(DIVISIONS, json.loads(p.stdout)):
            wanted = sum(1 for v in values if right(v))
            assert every == 60 and both == have, (terms, how, "files that have rows were not planned")
            assert n == wanted or "partition ==" in how, (terms, how, n, wanted)
            print("figure: lake.partition=%s: %s: %d of %d rows, %d files planned, %d have some" % (
                terms, how, n, every, planned, have))
