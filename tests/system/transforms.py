"""Transforms with the real binary: every record counts once through kill -9, windows equal a SELECT over the input,
strays go to the dead letters with the reason, definitions by command line, HTTP and folder, the document's examples.
"""
import json, os, random, re, threading, time

from harness import ROOT, Server, scratch, served, wait_for, weir
from lake_tier import TIERED, all_cold

QUICK = "-- max_seconds: 0.02\n"


def put(s, name, text, want=(200, 201), token=None):
    headers = {"content-type": "application/sql"}
    if token:
        headers["authorization"] = "Bearer " + token
    status, _, body = s.call("PUT", "/transforms/" + name, text, headers)
    assert status in want, (status, body)
    return json.loads(body)


def show(s, name):
    status, _, body = s.call("GET", "/transforms/" + name)
    assert status == 200, body
    return json.loads(body)


def sql(s, text):
    status, _, body = s.call("POST", "/sql", json.dumps({"query": text}), {"accept": "application/json"})
    assert status == 200, body
    return json.loads(body)["rows"]


def post(s, stream, values, key=None):
    name = stream if key is None else "%s:%s" % (stream, key)
    status, _, answer = s.call("POST", "/events", json.dumps([{"type": "t.x", "stream": name, "data": v} for v in values]))
    assert status == 201, answer
    return json.loads(answer)


def settled(s, name, steps=1):
    """Until all that is in the input was read."""
    def done():
        t = show(s, name)
        return t if t["state"] == "running" and t["lag"] == 0 and t["steps"] >= steps else None
    return wait_for(done)


def values(s, topic):
    return [json.loads(v) for (v,) in sql(s, 'SELECT value FROM "%s" ORDER BY partition, "offset"' % topic)]


# ---- exactly once ---------------------------------------------------------------------------------------

class Writer:
    """Posts numbered events to any partition until the server is gone."""

    def __init__(self, s, first):
        self.s, self.n = s, first
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while True:
                post(self.s, "in", [{"n": self.n + i, "g": i % 5} for i in range(100)], "k%d" % random.randrange(50))
                self.n += 100
        except (OSError, AssertionError, ValueError):
            pass
        except Exception as e:  # http.client's own, when the server is gone in the middle
            assert type(e).__module__ == "http.client", e


COUNT = QUICK + """-- input: in
-- output: out
-- key: g
-- max_bytes: 16384
SELECT g, count(*) AS n, sum(n) AS total, min(n) AS least, max(n) AS most FROM __input__ GROUP BY g
"""


def test_transform_kill():
    """kill -9 while steps run: the output's sums are the input's, each record once."""
    rounds = 50 if os.environ.get("WEIR_LONG") == "1" else 3
    n, partly = 0, 0
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data)
        weir("topics", "create", "in", "--partitions", "3", server=s)
        put(s, "count", COUNT)
        for i in range(rounds):
            w = Writer(s, n)
            wait_for(lambda: show(s, "count")["rows_out"] > 0)
            time.sleep(random.random() * 0.3)
            s.kill()
            w.thread.join()
            n = w.n + 100
            s = Server(data)
            partly += show(s, "count")["lag"] > 0
        post(s, "in", [{"n": n, "g": 0}])
        settled(s, "count")
        for column, source in (("n", "count(*)"), ("total", "sum(n)")):
            want = sql(s, "SELECT g, %s FROM \"in\" GROUP BY g ORDER BY g" % source)
            have = sql(s, "SELECT g, sum(%s) FROM out GROUP BY g ORDER BY g" % column)
            assert [[int(x) for x in r] for r in have] == [[int(x) for x in r] for r in want], (have, want)
        assert sql(s, "SELECT count(*) FROM out WHERE key != CAST(g AS VARCHAR)") == [[0]]
        print("figure: transform: %d kills, %d of them with records not yet counted; %d records in, %d rows out" % (
            rounds, partly, sql(s, 'SELECT count(*) FROM "in"')[0][0], sql(s, "SELECT count(*) FROM out")[0][0]))
        s.stop()


WINDOWS = QUICK + """-- input: ev
-- output: windows
-- window: 1 minute
-- lateness: 5 minutes
-- time: ts
-- columns: ts TIMESTAMPTZ, n BIGINT
SELECT date_trunc('minute', ts) AS minute, count(*) AS count, sum(n) AS total, median(n) AS mid
FROM __input__ GROUP BY minute ORDER BY minute
"""


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1767225600 + seconds))


def everywhere(s, topic, partitions, value):
    """One event into each partition."""
    hit = set()
    for i in range(1000):
        answer = post(s, topic, [value], "p%d" % i)
        hit.add((answer["events"] if "events" in answer else [answer])[0]["partition"])
        if len(hit) == partitions:
            return
    raise AssertionError(hit)


def test_transform_windows():
    """Out-of-order events, partitions at different times, a kill in the middle: as a SELECT over the input."""
    rng = random.Random(7)
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data)
        weir("topics", "create", "ev", "--partitions", "3", server=s)
        put(s, "w", WINDOWS)
        for part in range(3):
            for i in range(40):
                base = part * 1200 + i * 30
                post(s, "ev", [{"ts": stamp(base + rng.randrange(-140, 140)), "n": rng.randrange(1000)}
                               for _ in range(20)], "k%d" % rng.randrange(20))
            if part == 1:
                s.kill()
                s = Server(data)
        everywhere(s, "ev", 3, {"ts": stamp(86400), "n": 0})
        what = "strftime(date_trunc('minute', CAST(ts AS TIMESTAMPTZ)), '%Y-%m-%dT%H:%M:00Z')"
        want = sql(s, "SELECT %s m, count(*), CAST(sum(n) AS BIGINT), median(n) FROM ev WHERE ts < '2026-01-02' GROUP BY m "
                      "ORDER BY m" % what)
        wait_for(lambda: sql(s, "SELECT count(*) FROM windows WHERE minute IS NOT NULL")[0][0] >= len(want)
                 if any(t["rows_out"] for t in [show(s, "w")]) else None)
        have = sorted([v["minute"], v["count"], v["total"], v["mid"]] for v in values(s, "windows"))
        assert have == want, [x for x in zip(have, want) if x[0] != x[1]][:3]
        assert show(s, "w")["late_records"] == 0 and show(s, "w")["closed"] > "2026-01-01T23:50"
        s.stop()


def test_transform_late():
    """Late records and those without a time are dead letters, once; `update` tells windows before they close."""
    with served() as s:
        put(s, "w", WINDOWS)
        put(s, "u", WINDOWS.replace("windows", "updates").replace("lateness", "emit: update\n-- late: drop\n-- lateness"))
        post(s, "ev", [{"ts": stamp(0), "n": 1}, {"ts": stamp(1), "n": 2}])
        def settled_update(n):
            wait_for(lambda: show(s, "u")["records_in"] >= n)
        settled_update(2)
        post(s, "ev", [{"ts": stamp(3600), "n": 3}])
        wait_for(lambda: show(s, "w")["rows_out"] == 1)
        settled_update(3)
        wait_for(lambda: show(s, "u")["closed"] == stamp(3300).replace("Z", ".000Z"))
        post(s, "ev", [{"ts": stamp(2), "n": 99}, {"ts": "never", "n": 5}, {"ts": stamp(3601), "n": 4}])
        wait_for(lambda: show(s, "w")["records_in"] == 6)
        settled_update(6)
        assert values(s, "windows") == [{"minute": stamp(0), "count": 2, "total": 3, "mid": 1.5}]
        last = {v["minute"]: v["total"] for v in values(s, "updates")}
        assert last == {stamp(0): 3, stamp(3600): 7}, last
        dead = sql(s, "SELECT value, headers FROM \"w.dead-letters\" ORDER BY \"offset\"")
        why = [{h["key"]: h["value"] for h in (json.loads(r[1]) if isinstance(r[1], str) else r[1])} for r in dead]
        assert [json.loads(r[0])["n"] for r in dead] == [99, 5], dead
        assert [w["__dlq.errors.offset"] for w in why] == ["3", "4"] and why[0]["__dlq.errors.topic"] == "ev", why
        assert "late" in why[0]["__dlq.errors.message"] and "time" in why[1]["__dlq.errors.message"]
        assert why[0]["__dlq.errors.group"] == "transform.w" and why[0]["__dlq.errors.partition"] == "0"
        assert show(s, "u")["late_records"] == 2 and b'"u.dead-letters"' not in s.call("GET", "/topics")[2]
        assert show(s, "w")["late_records"] == 2


# ---- errors ---------------------------------------------------------------------------------------------

def test_transform_errors():
    """A record that cannot be cast is a dead letter; a statement that cannot work stops, says so, and loses nothing."""
    cast = QUICK + "-- input: a\n-- output: sums\n-- dead_letters: bad\nSELECT sum(CAST(x AS BIGINT)) AS x, count(*) AS n FROM __input__"
    with served() as s:
        weir("topics", "create", "a", "--partitions", "2", server=s)
        for i in range(20):
            post(s, "a", [{"x": "oops%d" % i} if i in (3, 11, 12) else {"x": str(i * 20 + k)} for k in range(20)], "k%d" % i)
        put(s, "c", cast)
        settled(s, "c")
        rows = values(s, "sums")
        assert sum(v["n"] for v in rows) == 340 and len(rows) <= 3, rows
        assert sum(v["x"] for v in rows) == sum(i * 20 + k for i in range(20) if i not in (3, 11, 12) for k in range(20))
        dead = sql(s, "SELECT json_extract_string(value, '$.x'), CAST(headers AS VARCHAR) FROM bad")
        assert sorted(x for x, _ in dead) == sorted(["oops%d" % i for i in (3, 11, 12)] * 20), len(dead)
        assert all("Could not convert string" in h and "transform.c" in h for _, h in dead), dead[0]
        put(s, "broken", QUICK + "-- input: a\n-- output: b\nSELECT nothing FROM __input__")
        failing = wait_for(lambda: (lambda t: t if t["state"] == "error" else None)(show(s, "broken")))
        assert "nothing" in failing["error"] and failing["lag"] == 400 and failing["rows_out"] == 0, failing
        p = weir("transforms", server=s).stdout.decode()
        assert re.search(r"^broken +a +b +error +400 ", p, re.M), p
        assert b'weir_transform_failing{transform="broken"} 1' in s.call("GET", "/metrics")[2]
        put(s, "broken", QUICK + "-- input: a\n-- output: b\nSELECT count(*) AS n FROM __input__", want=(200,))
        settled(s, "broken")
        assert sum(v["n"] for v in values(s, "b")) == 400
        put(s, "all", QUICK + "-- input: a\n-- output: c\nSELECT CAST(key AS DATE) AS d FROM __input__")
        failing = wait_for(lambda: (lambda t: t if t["state"] == "error" else None)(show(s, "all")))
        assert failing["lag"] == 400 and failing["failed_records"] == 0, failing


def test_transform_in_lake():
    """Records that only the lake has are transformed as all others: by batch, by window, dead letters; while the lake is away
    the transform says so, and goes on when it is back."""
    with served() as s:
        weir("topics", "create", "ev", "--partitions", "2", *TIERED, server=s)
        for i in range(10):
            post(s, "ev", [{"ts": stamp(60 * i + k), "x": "oops" if (i, k) == (4, 7) else str(k)} for k in range(30)], "k%d" % i)
        all_cold(s, "ev")
        post(s, "ev", [{"ts": stamp(4000), "x": "1000"}], "k1")
        put(s, "sums", QUICK + "-- input: ev\n-- output: sums\nSELECT sum(CAST(x AS BIGINT)) AS x, count(*) AS n FROM __input__")
        put(s, "windows", QUICK + "-- input: ev\n-- output: windows\n-- window: 1 minute\n-- time: ts\n"
            "-- columns: ts TIMESTAMPTZ\n-- idle_seconds: 0.1\nSELECT DATE_TRUNC('minute', ts) AS m, count(*) AS n FROM __input__ GROUP BY m")
        settled(s, "sums")
        rows = values(s, "sums")
        assert sum(v["n"] for v in rows) == 300 and sum(v["x"] for v in rows) == 10 * 435 - 7 + 1000, rows
        dead = sql(s, "SELECT json_extract_string(value, '$.x') FROM \"sums.dead-letters\"")
        assert dead == [["oops"]], dead
        wait_for(lambda: len(values(s, "windows")) == 10)
        assert sorted((v["m"], v["n"]) for v in values(s, "windows")) == [(stamp(60 * i), 30) for i in range(10)]
        assert show(s, "sums")["lost_records"] == show(s, "windows")["lost_records"] == 0
        lake = os.path.join(s.data, "lake", "weir")
        all_cold(s, "ev")
        data = s.data
        s.stop()  # forgets what it read from the lake
        s.__init__(data)
        os.rename(lake, lake + ".away")
        put(s, "later", QUICK + "-- input: ev\n-- output: later\nSELECT count(*) AS n FROM __input__")
        failing = wait_for(lambda: (lambda t: t if t["state"] == "error" else None)(show(s, "later")))
        assert "lake" in failing["error"], failing
        os.rename(lake + ".away", lake)
        settled(s, "later")
        assert sum(v["n"] for v in values(s, "later")) == 301


# ---- definitions ----------------------------------------------------------------------------------------

def test_transform_cli():
    """apply, test, show, pause, resume, status, delete; chains, circles; a folder at start; a restart."""
    with scratch() as d:
        folder, data = os.path.join(d, "transforms"), os.path.join(d, "data")
        os.mkdir(folder)
        one = os.path.join(folder, "one.sql")
        with open(one, "w") as f:
            f.write("-- Doubles.\n" + QUICK + "-- input: a\n-- output: b\n-- lake: true\nSELECT n * 2 AS n FROM __input__;\n")
        with open(os.path.join(folder, "two.sql"), "w") as f:
            f.write(QUICK + "-- name: second\n-- input: b\n-- output: c\nWITH x AS (SELECT n FROM __input__) SELECT n + 1 AS n FROM x")
        s = Server(data, "--set", "transforms.dir=" + folder)
        post(s, "a", [{"n": 1}, {"n": 9007199254740993}])
        wait_for(lambda: "c" in [t[0] for t in sql(s, "SELECT topic FROM weir.topics")] and len(values(s, "c")) == 2)
        assert values(s, "b") == [{"n": 2}, {"n": 18014398509481986}] and values(s, "c")[0] == {"n": 3}
        assert b'"lake.enable":"true"' in s.call("GET", "/topics/b")[2].replace(b" ", b"")
        trial = os.path.join(d, "trial.sql")
        with open(trial, "w") as f:
            f.write("-- input: a\n-- output: never\nSELECT max(n) AS n, 1.50::DECIMAL(9,2) AS d, NULL AS z, "
                    "TIMESTAMPTZ '2026-01-02 03:04:05Z' AS t FROM __input__")
        got = json.loads(weir("transforms", "test", trial, server=s).stdout)
        assert got == {"n": 9007199254740993, "d": 1.5, "z": None, "t": "2026-01-02T03:04:05Z"}, got
        assert s.call("GET", "/topics/never")[0] == 404
        p = weir("transforms", "test", "one", "--records", "1", server=s)
        assert json.loads(p.stdout) == {"n": 18014398509481986}, p.stdout
        circle = os.path.join(d, "circle.sql")
        with open(circle, "w") as f:
            f.write("-- input: c\n-- output: a\nSELECT n FROM __input__")
        p = weir("transforms", "apply", circle, server=s, ok=False)
        assert p.returncode == 1 and b"come back" in p.stderr, p.stderr
        for text, why in (("SELECT 1", b"input"), ("-- input: a\n-- output: a\nSELECT * FROM __input__", b"different"),
                          ("-- input: a\n-- output: z\n-- colour: red\nSELECT * FROM __input__", b"colour"),
                          ("-- input: a\n-- output: z\n-- late: never\n-- window: 1 day\nSELECT 1 FROM __input__", b"late")):
            status, _, body = s.call("PUT", "/transforms/x", text, {"content-type": "application/sql"})
            assert status == 400 and why in body, body
        weir("transforms", "pause", "one", server=s)
        post(s, "a", [{"n": 5}])
        assert show(s, "one")["state"] == "paused"
        s.stop()
        s = Server(data, "--set", "transforms.dir=" + folder)
        assert show(s, "one")["state"] == "paused" and show(s, "one")["lag"] == 1
        weir("transforms", "resume", "one", server=s)
        wait_for(lambda: len(values(s, "c")) == 3)
        shown = weir("transforms", "show", "one", server=s).stdout.decode()
        assert "-- input: a\n" in shown and "SELECT n * 2 AS n FROM __input__" in shown, shown
        with open(one, "w") as f:
            f.write(shown)
        assert weir("transforms", "apply", folder, server=s).stdout.decode().splitlines() == ["one: a to b", "second: b to c"]
        weir("transforms", "delete", "one", server=s)
        assert weir("transforms", "status", "one", server=s, ok=False).returncode == 1
        wait_for(lambda: not sql(s, "SELECT * FROM stream_offsets WHERE group_id = 'transform.one'"))
        weir("transforms", "apply", one, server=s)
        wait_for(lambda: len(values(s, "c")) == 6)
        s.stop()


def test_transform_rights():
    """Who applies one must be allowed to read the input and to administer the output."""
    with served() as s:
        admin = weir("token", "create", "--name", "root", "--admin", server=s).stdout.decode().strip()
        root = {"authorization": "Bearer " + admin}
        for name, grants in (("part", [{"access": "read", "prefix": "a"}, {"access": "admin", "prefix": "part."}]),
                             ("none", [{"access": "read", "prefix": "zz"}])):
            status, _, body = s.call("POST", "/tokens", json.dumps({"name": name, "grants": grants}), root)
            assert status == 201, body
            root[name] = json.loads(body)["token"]
        text = "-- input: a\n-- output: part.out\n-- dead_letters: part.dead\n" + QUICK
        put(s, "mine", text.replace("part.out", "b") + "SELECT * FROM __input__", want=(403,), token=root["part"])
        put(s, "mine", text + "SELECT * FROM __input__", want=(403,), token=root["none"])
        put(s, "mine", text + "SELECT (SELECT count(*) FROM secret) AS n FROM __input__", want=(201,), token=root["part"])
        for topic in ("a", "secret"):
            s.call("POST", "/events", json.dumps({"type": "t.x", "stream": topic, "data": {"n": 1}}),
                   {"authorization": "Bearer " + admin})
        def state():
            t = json.loads(s.call("GET", "/transforms/mine", None, {"authorization": "Bearer " + admin})[2])
            return t if t["state"] == "error" else None
        assert "secret" in wait_for(state)["error"]
        other = {"authorization": "Bearer " + root["none"]}
        assert json.loads(s.call("GET", "/transforms", None, other)[2])["transforms"] == []
        assert s.call("DELETE", "/transforms/mine", None, other)[0] == 403
        assert s.call("POST", "/transforms/mine/pause", None, other)[0] == 403
        assert s.call("DELETE", "/transforms/mine", None, {"authorization": "Bearer " + root["part"]})[0] == 204


def test_transform_document():
    """The files in docs/transforms.md, as printed, on events that they are about."""
    with open(os.path.join(ROOT, "docs", "transforms.md")) as f:
        files = re.findall(r"```sql\n(-- transforms/(\S+)\.sql\n.*?)```", f.read(), re.S)
    assert len(files) >= 3, files
    with served() as s:
        post(s, "orders", [{"id": i, "status": "paid" if i % 2 else "open", "amount": i * 0.5, "customer": "c%d" % (i % 3),
                            "created": stamp(i * 60)} for i in range(10)])
        for text, name in files:
            put(s, name, text)
            wait_for(lambda: show(s, name)["rows_out"] > 0)
            assert show(s, name)["state"] == "running" and not show(s, name)["failed_records"], show(s, name)
