"""Topics as folders of JSON lines, with the real binary: read back by DuckDB's read_json_auto, which lists the
files as any reader would; kill -9 in the middle of flushes, merges and spoilt requests to S3; SeaweedFS
(WEIR_CLIENTS=all)."""
import base64, json, os, random, re, threading, time

import iceberg, kafka_clients, lake_tier, s3
from harness import Server, scratch, served, weir
from kafka_cli import produce
from lake import feed, flights

ENABLE = ("--set", "lake.enable=true", "--set", "lake.format=jsonl")
LATER = ("--set", "lake.max.seconds=3600", "--set", "lake.max.bytes=1073741824")
NAME = re.compile(r"^\d{4}/\d\d/\d\d/\d+-\d+-\d+\.jsonl(\.gz|\.zst)?$")


def local(place, topic, d):
    """The files of lines, copied if need be; everything else in the topic's folder must be hidden from globs."""
    out = []
    for n in place.names("weir/%s/" % topic):
        rest = n.split("/weir/%s/" % topic, 1)[1]
        if rest.startswith("_weir/"):
            assert not rest.endswith((".jsonl", ".gz", ".zst", ".json")), rest
            continue
        assert NAME.match(rest), rest
        path = place.local(n, d)
        out.append(path)
    return out


def lines_sql(files):
    """All columns are named, so that the sample that DuckDB takes decides nothing."""
    return ("read_json([%s], format='newline_delimited', columns={partition: 'INT', \"offset\": 'BIGINT', position: "
            "'BIGINT', id: 'VARCHAR', timestamp: 'TIMESTAMP', \"key\": 'VARCHAR', key_base64: 'VARCHAR', headers: 'JSON', "
            "value: 'JSON', value_text: 'VARCHAR', value_base64: 'VARCHAR'})" % ",".join("'%s'" % f for f in files))


def once(duck, place, topic, d, ends=None):
    """No record twice; all below ends, if given, once. -> records"""
    files = local(place, topic, d)
    rows = duck.rows("SELECT partition, count(*), count(DISTINCT \"offset\"), max(\"offset\") FROM %s GROUP BY ALL "
                     "ORDER BY partition" % lines_sql(files)) if files else []
    for p, n, distinct, last in rows:
        assert n == distinct and int(last) >= int(n) - 1, (p, n, distinct, last)
    if ends is not None:
        assert {int(p): (int(n), int(last)) for p, n, _, last in rows} == {
            p: (e, e - 1) for p, e in enumerate(ends) if e}, (rows, ends)
    return sum(int(r[1]) for r in rows)


# ---- what is in the lines ------------------------------------------------------------------------------

def test_jsonl_lines():
    """Every way that a key, a header or a value may be, in each compression; found by globs with read_json_auto."""
    values = [b'{"a": 1, "b": [true, null, "x"]}', b'"text"', b"plain text", b"\x00\xff", b"", b"12345678901234567890.50",
              b'{"a":1,"a":2}', b'{"big":' + b"[" * 99 + b"]" * 99 + b"}", "ä\u2028".encode()]
    with served(kafka=0) as s, scratch() as d:
        duck = iceberg.Duck()
        for codec, suffix in (("none", ""), ("gzip", ".gz"), ("zstd", ".zst")):
            name = "lines-" + codec
            weir("topics", "create", name, *ENABLE, *LATER, "--set", "lake.jsonl.compression=" + codec, server=s)
            lines = "".join(json.dumps({"key": "k", "value_base64": base64.b64encode(v).decode(), "headers": [["a", "b"]]}) +
                            "\n" for v in values)
            produce(s, name, lines, "--json")
            weir("lake", "flush", name, server=s)
            place = iceberg.Folder(os.path.join(s.data, "lake"))
            (file,) = local(place, name, d)
            assert file.endswith("/0-0-%d.jsonl%s" % (len(values) - 1, suffix)), file
            glob = os.path.join(s.data, "lake", "weir", name, "*", "*", "*", "*.jsonl*")
            assert duck.rows("SELECT count(*), min(partition), max(\"offset\"), any_value(\"key\"), count(DISTINCT position), "
                             "count(DISTINCT id) FROM read_json_auto('%s', maximum_depth=2, sample_size=-1, columns={%s})" % (
                                 glob, "partition:'INT',\"offset\":'BIGINT',\"key\":'VARCHAR',position:'BIGINT',id:'VARCHAR'")
                             ) == [(str(len(values)), "0", str(len(values) - 1), "k", str(len(values)), str(len(values)))]
            got = duck.rows("SELECT value, value_text, value_base64, id FROM %s ORDER BY \"offset\"" % lines_sql([file]))
            raw = open(file, "rb").read()
            for v, (j, text, b64, id_) in zip(values, got):
                assert re.match(r"^evt_[0-9a-f]{16}$", id_)
                if v in (values[0], values[1], values[5], values[6], values[7]):
                    assert json.loads(j) == json.loads(v) and text is b64 is None, (v, j)
                    assert codec != "none" or b',"value":' + v + b"}\n" in raw, "JSON is not as it was"
                else:
                    assert j is None and (text.encode() if b64 is None else base64.b64decode(b64)) == v, (v, text, b64)
        status, _, body = s.call("POST", "/sql", json.dumps({"query": 'SELECT count(*) FROM "lines-zstd"'}))
        assert status == 200 and json.loads(body)["rows"] == [[len(values)]], body
        duck.close()


def test_jsonl_replay():
    """What only JSON lines have is replayed as it was, over Kafka and HTTP, and seen by SQL: odd records of each codec,
    with files joined, after a restart, and behind DeleteRecords."""
    odd = [b' {"a":\r\n 1}', b'[1,\n2]', b"1 ", b'{"u":"\\u00e4\\n"}', b"\x00\xff", b"", b"text\nof lines", b"null", b'"\\ud83d\\ude00"']
    with scratch() as d, served(kafka=0) as s:
        exe = kafka_clients.compiled(d, "replay")

        def ask(query):
            status, _, out = s.call("POST", "/sql", json.dumps({"query": query}))
            assert status == 200, out
            return json.loads(out)["rows"]

        want = {}
        for codec, flushes in (("none", 1), ("gzip", 1), ("zstd", 4)):
            name = "replay-" + codec
            weir("topics", "create", name, "--partitions", "3", *ENABLE, *LATER, "--set", "lake.jsonl.compression=" + codec,
                 "--set", "retention.ms=-1", "--set", "local.retention.bytes=-1", server=s)
            produce(s, name, "".join(json.dumps({"key_base64": base64.b64encode(v).decode(), "value_base64": base64.b64encode(
                v).decode(), "headers": [["a", "b"], ["a", None], ["", "ä\n"]]}) + "\n" for v in odd), "--json")
            for n in range(flushes):
                lake_tier.replay(exe, s, name, "odd", "200")
                weir("lake", "flush", name, server=s)
            sql = ask('SELECT partition, "offset", position, key, value, headers::VARCHAR, timestamp::VARCHAR FROM "%s" ORDER BY '
                      "position" % name)
            want[name] = lake_tier.replay(exe, s, name, "read", "3")[0], lake_tier.events(s, name), sql
            weir("topics", "alter", name, "--set", "local.retention.bytes=0", server=s)
        for name in want:
            lake_tier.all_cold(s, name)

        def same(when):
            for name, (kafka, http, sql) in want.items():
                assert lake_tier.replay(exe, s, name, "read", "3")[0] == kafka, ("over Kafka", name, when)
                assert lake_tier.events(s, name) == http, ("over HTTP", name, when)
                assert ask('SELECT partition, "offset", position, key, value, headers::VARCHAR, timestamp::VARCHAR FROM "%s" '
                           "ORDER BY position" % name) == sql, ("SQL", name, when)

        same("as flushed")
        weir("lake", "compact", "replay-zstd", server=s)
        lake_tier.restarted(s)
        same("joined, after a restart")
        (name, (_, http, sql)), = [x for x in want.items() if x[0].endswith("gzip")]
        part = http[0]["partition"]
        cut = max(e["offset"] for e in http if e["partition"] == part) // 2
        assert s.call("DELETE", "/topics/%s/records?partition=%d&before=%d" % (name, part, cut))[0] in (200, 202, 204)
        left = [e for e in http if e["partition"] != part or e["offset"] >= cut]
        assert lake_tier.events(s, name) == left
        assert ask('SELECT count(*) FROM "%s"' % name) == [[len([r for r in sql if r[0] != part or r[1] >= cut])]]
        produce(s, name, '{"key":"k","value":{"new":1}}\n', "--json")  # hot and cold in one
        assert len(lake_tier.events(s, name)) == len(left) + 1
        assert ask('SELECT count(*), count(new) FROM "%s"' % name)[0][1] == 1
        for p in lake_tier.partitions(s, name):
            s.call("DELETE", "/topics/%s/records?partition=%d&before=%d" % (name, p["partition"], p["end"]))
        weir("lake", "expire", name, server=s)
        assert local(iceberg.Folder(os.path.join(s.data, "lake")), name, d) == [], "files below the log's start go"


def flights_lines(place, d, s):
    path, source = flights()
    duck = iceberg.Duck()
    weir("topics", "create", "flights", "--partitions", "3", *ENABLE, *LATER, server=s)
    weir("import", path, "--stream", "flights", "--key", "delay", server=s)
    began = time.time()
    weir("lake", "flush", "flights", server=s)
    took = time.time() - began
    files = local(place, "flights", d)
    size = sum(os.path.getsize(f) for f in files)
    duck.rows("CREATE TABLE source AS SELECT * FROM read_json_auto('%s')" % path)
    names = ",".join('"%s"' % c for c in source[0])
    duck.rows("CREATE TABLE lines AS SELECT unnest(value) FROM read_json_auto([%s], sample_size=-1)" % ",".join(
        "'%s'" % f for f in files))
    for a, b in (("source", "lines"), ("lines", "source")):
        assert duck.rows("SELECT count(*) FROM (SELECT %s FROM %s EXCEPT ALL SELECT %s FROM %s)" % (
            names, a, names, b)) == [("0",)]
    duck.close()
    print("figure: lake: 200 thousand flights as JSON lines in %.1f s, %.1f MB in %d files" % (took, size / 1e6, len(files)))


def test_jsonl_flights():
    with served() as s, scratch() as d:
        flights_lines(iceberg.Folder(os.path.join(s.data, "lake")), d, s)


# ---- kill -9 and faults --------------------------------------------------------------------------------

def killed(place, d, rounds, wait, every):
    opts = ("--set", "lake.url=" + place.url(), "--set", "topics.retention=-1", "--set", "lake.s3.stall=1s")
    data, duck, sent = os.path.join(d, "data"), iceberg.Duck(), [0]
    s = Server(data, *opts)
    weir("topics", "create", "kill", "--partitions", "3", *ENABLE, "--set", "lake.max.seconds=1", "--set",
         "lake.max.bytes=1024", server=s)
    for r in range(rounds):
        stop = threading.Event()
        t = threading.Thread(target=feed, args=(s, stop, sent))
        t.start()
        time.sleep(random.uniform(*wait))
        if r % 2:
            weir("lake", "compact", "kill", "--no-wait", server=s)
            time.sleep(random.uniform(0, 0.1))
        s.kill()
        stop.set()
        t.join()
        if r % every == every - 1:
            once(duck, place, "kill", d)
        s = Server(data, *opts)
    weir("lake", "flush", "kill", server=s)
    status, _, body = s.call("GET", "/topics/kill/partitions")
    assert status == 200, body
    ends = [p["end"] for p in json.loads(body)["partitions"]]
    n = once(duck, place, "kill", d, ends)
    assert n >= sent[0] > 0, (n, sent)
    weir("lake", "compact", "kill", server=s)
    assert once(duck, place, "kill", d, ends) == n
    got = duck.rows("SELECT partition, \"offset\", value FROM %s" % lines_sql(local(place, "kill", d)))
    have = {(int(p), int(o)): json.loads(v) for p, o, v in got}
    for e in s.pages("kill", 10000):
        assert have.pop((e["partition"], e["offset"])) == e["data"]
    assert not have
    s.stop()
    duck.close()
    return n


def test_jsonl_kill9():
    rounds = int(os.environ.get("WEIR_KILL_ROUNDS", "50" if os.environ.get("WEIR_LONG") else "8"))
    with scratch() as d:
        n = killed(iceberg.Folder(os.path.join(d, "lake")), d, rounds, (0.1, 0.7), 4)
        print("figure: lake: %d kills, %d records, each once in the lines" % (rounds, n))


def s3_killed(endpoint, seed, rounds, name):
    old = dict(os.environ)
    with scratch() as d, s3.spoilt(endpoint, 0.15, seed) as (proxied, proxy):
        os.environ.update(s3.environment(proxied))
        try:
            n = killed(iceberg.Bucket(endpoint, "lines"), d, rounds, (0.5, 1.5), 2)
        finally:
            os.environ.clear()
            os.environ.update(old)
        print("figure: lake on %s: %d kills, %d records, each once in the lines; spoilt: %s" % (
            name, rounds, n, dict(sorted(proxy.counts.items()))))


def test_jsonl_s3_faults():
    with s3.small() as endpoint:
        s3_killed(endpoint, 5, 2, "a small S3 server")


def test_jsonl_seaweed():
    old = dict(os.environ)
    with s3.seaweed() as endpoint:
        with scratch() as d:
            os.environ.update(s3.environment(endpoint))
            try:
                with served("--set", "lake.url=s3://bucket/flights") as s:
                    flights_lines(iceberg.Bucket(endpoint, "flights"), d, s)
            finally:
                os.environ.clear()
                os.environ.update(old)
        s3_killed(endpoint, 6, 20, "SeaweedFS")
