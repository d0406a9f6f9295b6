"""Live queries (/sql/live) against the real binary: history and changes as server-sent events by curl and over
node's WebSocket, going on after kill -9, groups that end as the same SELECT does, readers who do not read, mistakes;
rows from the lake and behind open transactions; weir sql --follow; the example of docs/sql.md.
"""
import csv, json, os, re, select, shutil, signal, socket, subprocess, urllib.parse

import kafka_cli, lake_tier
from harness import ROOT, WEBSOCKET, WEIR, Server, Skip, npm_modules, scratch, served, weir

WS = """
const ws = new WebSocket(process.argv[1]);
let n = 0;
ws.onmessage = (m) => { console.log(m.data); if (m.data.includes('"id":19}') || m.data.includes('"error"')) ws.close(); };
ws.onclose = (c) => { console.log('closed ' + c.code); };
"""


def post(s, first, n, pad=""):
    events = [{"type": "order.created", "data": {"id": i, "s": "s%d" % (i % 3), "v": i * 0.5, "pad": pad}}
              for i in range(first, first + n)]
    assert s.call("POST", "/events", json.dumps(events))[0] == 201


def path(query, **more):
    return "/sql/live?" + urllib.parse.urlencode(dict(query=query, **more))


class Stream:
    """Server-sent events by curl: messages as (event, id, data)."""

    def __init__(self, s, query, last=None, **more):
        args = ["curl", "-sSN", "--max-time", "120", s.url + path(query, **more)]
        if last:
            args += ["-H", "Last-Event-ID: " + last]
        self.p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def next(self):
        """None: the stream ended."""
        event = ident = data = None
        for line in self.p.stdout:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                ident = line[4:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif line == "" and data is not None:
                return event, ident, data
        return None

    def until(self, done):
        """Messages up to the one for which done(event, data) holds."""
        out = []
        while not out or not done(out[-1][0], out[-1][2]):
            m = self.next()
            assert m, "the stream ended behind %r" % out[-3:]
            out.append(m)
        return out

    def close(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


def rows(messages):
    return [m[2]["row"]["id"] for m in messages if m[0] is None]


def need(tool):
    if not shutil.which(tool):
        raise Skip("%s is not installed" % tool)


def test_sql_live_kill():
    """history, then changes; behind kill -9 a client goes on with its last id: each row once and in order."""
    need("curl")
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data)
        post(s, 0, 50)
        t = Stream(s, "SELECT id FROM orders WHERE id <> 7", **{"from": "beginning"})
        got = t.until(lambda e, x: e == "live")
        assert got[0][0] == "columns" and rows(got) == [i for i in range(50) if i != 7], got[:3]
        post(s, 50, 10)
        got += t.until(lambda e, x: e is None and x["row"]["id"] == 55)
        s.kill()
        t.close()
        last = [m[1] for m in got if m[0] is None][-1]
        s = Server(data)
        try:
            post(s, 60, 5)
            t = Stream(s, "SELECT id FROM orders WHERE id <> 7", last=last, **{"from": "beginning"})
            got += t.until(lambda e, x: e is None and x["row"]["id"] == 64)
            assert rows(got) == [i for i in range(65) if i != 7], rows(got)
            t.close()
        finally:
            s.stop()


def test_sql_live_groups():
    """the last row of each group is what the same SELECT says."""
    need("curl")
    query = "SELECT s, count(*) AS n, sum(v) AS total, avg(v) AS mean, max(id) AS last FROM orders GROUP BY s"
    with served() as s:
        post(s, 0, 30)
        t = Stream(s, query, **{"from": "beginning"})
        state, seen = {}, 0
        for first in range(30, 130, 20):
            post(s, first, 20)
            while seen < first + 20:
                event, ident, x = t.next()
                if event is None:
                    state[tuple(x["key"])] = x["row"]
                    seen = sum(r["n"] for r in state.values())
        t.close()
        status, _, body = s.call("POST", "/sql", json.dumps({"query": query}), {"content-type": "application/json"})
        names = [c["name"] for c in json.loads(body)["columns"]]
        want = {(r[0],): dict(zip(names, r)) for r in json.loads(body)["rows"]}
        assert state == want, (state, want)


def test_sql_live_websocket():
    """WebSocket: columns, rows with positions, live; a mistake is the first message."""
    need("node")
    npm_modules()
    with served() as s:
        post(s, 0, 20)
        for query, first, code in (("SELECT id FROM orders", '{"columns":', "closed 1005"),
                                   ("SELECT nothing FROM orders", '{"error":', "closed 1011")):
            url = "ws" + s.url[4:] + path(query, **{"from": "beginning"})
            p = subprocess.run(["node", "--no-warnings", *WEBSOCKET, "-e", WS, url], capture_output=True, timeout=60)
            lines = p.stdout.decode().splitlines()
            assert lines and lines[0].startswith(first), (lines[:2], p.stderr.decode()[-300:])
            assert lines[-1] in (code, "closed 1000"), lines[-1]
            if "nothing" not in query:
                got = [json.loads(l) for l in lines if '"row"' in l]
                assert [x["row"]["id"] for x in got] == list(range(20))
                assert all(x["position"].startswith("evt_") for x in got)


def test_sql_live_slow():
    """who does not read costs a batch, not the topic's size; others go on."""
    need("curl")
    with served() as s:
        for i in range(8):
            post(s, i * 500, 500, "x" * 4000)
        t = Stream(s, "SELECT count(*) AS n FROM orders", **{"from": "beginning"})
        t.until(lambda e, x: e == "live")
        before, slow = s.rss_kb(), []
        for _ in range(10):
            c = socket.create_connection(("127.0.0.1", s.port))
            c.sendall(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path("SELECT * FROM orders", **{"from": "beginning"})).encode())
            c.recv(1)
            slow.append(c)
        post(s, 5000, 1)
        t.until(lambda e, x: e is None and x["row"]["n"] == 4001)
        grown = s.rss_kb() - before
        for c in slow:
            c.close()
        t.close()
        assert grown < 10 * 16 * 1024 + 128 * 1024, "%d KiB for 10 readers of 32 MB" % grown


def test_sql_live_mistakes():
    """a statement that cannot be live is answered with its status and the reason."""
    with served() as s:
        post(s, 0, 1)
        for query, status, word in (("SELECT * FROM orders ORDER BY id", 400, "ORDER BY"),
                                    ("SELECT nothing FROM orders", 400, "nothing"),
                                    ("SELECT * FROM nowhere", 404, "nowhere"),
                                    ("SELECT * FROM orders, orders AS b", 400, "join"),
                                    ("DROP TABLE orders", 400, "SELECT")):
            got, _, body = s.call("GET", path(query))
            assert got == status and word in json.loads(body)["detail"], (query, got, body)
        assert s.call("GET", path("SELECT 1 FROM orders", **{"from": "soon"}))[0] == 400
        assert s.call("GET", "/sql/live")[0] == 400


# ---- the lake, transactions ----------------------------------------------------------------------------

def test_sql_live_cold():
    """what only the lake has comes first, then what the log has, then what is new; groups count all of it."""
    need("curl")
    with served() as s:
        weir("topics", "create", "orders", "--set", "retention.ms=-1", *lake_tier.TIERED, server=s)
        post(s, 0, 300)
        lake_tier.all_cold(s, "orders")
        post(s, 300, 50)
        t = Stream(s, "SELECT id FROM orders WHERE id <> 7", **{"from": "beginning"})
        got = t.until(lambda e, x: e == "live")
        assert rows(got) == [i for i in range(350) if i != 7], rows(got)
        at = [m[1] for m in got if m[0] is None]
        groups = Stream(s, "SELECT count(*) AS n, sum(id) AS total FROM orders", **{"from": "beginning"})
        behind = Stream(s, "SELECT id FROM orders", last=at[99], **{"from": "beginning"})
        groups.until(lambda e, x: e == "live")
        post(s, 350, 10)
        got += t.until(lambda e, x: e is None and x["row"]["id"] == 359)
        assert rows(got) == [i for i in range(360) if i != 7], rows(got)
        assert at == sorted(set(at))
        last = groups.until(lambda e, x: e is None and x["row"]["n"] == 360)[-1][2]["row"]
        assert last["total"] == sum(range(360)), last
        assert rows(behind.until(lambda e, x: e is None and x["row"]["id"] == 359)) == list(range(101, 360))
        for one in (t, groups, behind):
            one.close()


def test_sql_live_transactions():
    """committed records alone, in order; what comes behind an open transaction waits for its end."""
    need("curl")
    need("node")
    head = kafka_cli.TXN.split("await send(")[0]

    def node(d, text, s):
        script = os.path.join(d, "txn.mjs")
        with open(script, "w") as f:
            f.write(text % (npm_modules(), s.kafka))
        p = subprocess.run(["node", script], capture_output=True, timeout=60)
        assert p.returncode == 0, p.stderr.decode()

    with scratch() as d, served(kafka=0) as s:
        weir("topics", "create", "t", server=s)
        t = Stream(s, "SELECT value FROM t", **{"from": "beginning"})
        t.until(lambda e, x: e == "live")
        kafka_cli.produce(s, "t", "first\n")
        node(d, kafka_cli.TXN, s)
        kafka_cli.produce(s, "t", "last\n")
        early = Stream(s, "SELECT value FROM t", **{"from": "beginning"})
        got = early.until(lambda e, x: e == "live")
        values = [m[2]["row"]["value"] for m in got if m[0] is None]
        assert values == ["first", "c1", "c2", "c3", "c4"], values
        node(d, head + "await send('o', ['c5'], 'commit'); process.exit(0);", s)  # ends what o left open
        got += early.until(lambda e, x: e is None and x["row"]["value"] == "c5")
        for messages in (got, t.until(lambda e, x: e is None and x["row"]["value"] == "c5")):
            values = [m[2]["row"]["value"] for m in messages if m[0] is None]
            assert values == ["first", "c1", "c2", "c3", "c4", "last", "c5"], values
            at = [m[1] for m in messages if m[0] is None]
            assert at == sorted(set(at)), at
        early.close()
        t.close()


# ---- weir sql --follow ---------------------------------------------------------------------------------

class Follow:
    """weir sql --follow; its lines as they come."""

    def __init__(self, s, *args):
        self.p = subprocess.Popen([WEIR, "sql", "--follow", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, env=dict(os.environ, WEIR_SERVER=s.url))
        self.lines = []

    def until(self, done):
        while not self.lines or not done(self.lines[-1]):
            line = self.p.stdout.readline().decode()
            assert line, "it ended: %r behind %r" % (self.p.stderr.read().decode(), self.lines[-3:])
            self.lines.append(line)

    def stop(self):
        """By Ctrl-C: a clean end, and nothing more was printed."""
        self.p.send_signal(signal.SIGINT)
        out, err = self.p.communicate(timeout=60)
        assert self.p.returncode == 0, (self.p.returncode, err)
        return out.decode(), err.decode()

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.communicate()


def test_sql_live_follow():
    """through kill -9 of the server each row is printed once and in order, groups end as the same SELECT says."""
    query = "SELECT s, count(*) AS n, sum(id) AS total FROM orders GROUP BY s"
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data)
        post(s, 0, 20)
        with_s = lambda *args: Follow(s, "--from", "beginning", "--format", *args)
        table, nd, groups = (with_s("table", "SELECT id FROM orders"), with_s("ndjson", "SELECT id, v FROM orders WHERE id <> 7"),
                             with_s("csv", query + ";"))
        new = Follow(s, "--format", "csv", "SELECT id FROM orders")
        try:
            nd.until(lambda x: json.loads(x)["id"] == 19)
            n, total = 20, {}

            def counted(line):
                f = next(csv.reader([line]))
                if f[0] != "key":
                    total[f[0]] = int(f[2])
                return sum(total.values()) == n

            new_ready = None
            while new_ready is None:  # until it is known to be there
                post(s, n, 1)
                n += 1
                new_ready = lines_wait(new, 0.5)
            nd.until(lambda x: json.loads(x)["id"] == n - 1)
            table.until(lambda x: x.strip() == str(n - 1))
            groups.until(counted)
            s.kill()
            s = Server(data, "--http", "127.0.0.1:%d" % s.port)
            post(s, n, 30)
            n += 30
            nd.until(lambda x: json.loads(x)["id"] == n - 1)
            table.until(lambda x: x.strip() == str(n - 1))
            new.until(lambda x: x.strip() == str(n - 1))
            groups.until(counted)
            want = weir("sql", "--format", "csv", query, server=s).stdout.decode().splitlines()[1:]
            for one in (table, nd, groups, new):
                out, err = one.stop()
                assert out == "" and "trying to go on" in err, (out, err)
            assert [json.loads(x) for x in nd.lines] == [{"id": i, "v": i * 0.5} for i in range(n) if i != 7]
            assert [x.strip() for x in table.lines] == ["id", *map(str, range(n))]
            ids = [int(x) for x in new.lines[1:]]
            assert ids == list(range(ids[0], n)) and ids[0] >= 20, ids
            last = {f[0]: f[1:] for f in csv.reader(groups.lines)}
            assert last.pop("key") == ["s", "n", "total", "gone"]
            assert sorted(",".join(f[:3]) for f in last.values()) == sorted(want), (last, want)
        finally:
            for one in (table, nd, groups, new):
                one.kill()
            s.kill()


def lines_wait(f, seconds):
    """Its first line (names) if it comes in that time."""
    return select.select([f.p.stdout], [], [], seconds)[0] or None


def test_sql_live_follow_ends():
    """-n and LIMIT end it; groups that are gone are said; mistakes are an error, and what is no option is."""
    with served() as s:
        post(s, 0, 9)
        run = lambda *args, ok=True: weir("sql", "--follow", *args, server=s, ok=ok)
        assert run("--from", "beginning", "-n", "3", "SELECT id, s FROM orders").stdout.decode() == (
            "id  s\n0   s0\n1   s1\n2   s2\n")
        out = run("--from=evt_0000000000000002", "--format", "ndjson", "-c", "SELECT id FROM orders LIMIT 2").stdout
        assert out == b'{"id":1}\n{"id":2}\n', out
        t = Follow(s, "--from", "beginning", "SELECT s, count(*) AS n FROM orders GROUP BY s HAVING count(*) < 4")
        try:
            t.until(lambda x: x.startswith("s2"))
            post(s, 10, 1)
            t.until(lambda x: x == 'gone: ["s1"]\n')
            t.stop()
        finally:
            t.kill()
        for args, word, rc in ((["SELECT nothing FROM orders"], b"nothing", 1), (["SELECT 1; SELECT 2"], b"one statement", 1),
                               (["--from", "soon", "SELECT id FROM orders"], b"from", 1), ([], b"statement", 2),
                               (["--format", "json", "SELECT id FROM orders"], b"ndjson", 2)):
            p = run(*args, ok=False)
            assert p.returncode == rc and word in p.stderr, (args, p)
        assert weir("sql", "-n", "3", "SELECT 1", server=s, ok=False).returncode == 2
        assert b"--follow" in weir("sql", "--help").stdout


# ---- the page ------------------------------------------------------------------------------------------

def test_sql_live_docs():
    """The example of docs/sql.md, as printed, with a port of its own, answers what stands below it."""
    need("curl")
    text = open(os.path.join(ROOT, "docs", "sql.md")).read()
    command, answer = re.search(r"## Live queries\n.*?```\n(curl .*?)```\s*```\n(.*?)```", text, re.S).groups()
    assert command.count("localhost:8787") == 1, command
    with served() as s:
        for i, total in enumerate((12.0, 21.5, 9.75), 1):
            status, _, body = s.call("POST", "/events", json.dumps({"type": "order.created", "data": {"id": i, "total": total}}))
            assert status in (200, 201), body
        p = subprocess.Popen(["bash", "-c", "exec " + command.replace("localhost:8787", s.url[7:])], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        try:
            got = ""
            while len(got) < len(answer.strip()):
                line = p.stdout.readline().decode()
                assert line, got
                if not line.startswith("retry: ") and (got or line != "\n"):
                    got += line
            assert got.strip() == answer.strip(), got
        finally:
            p.kill()
            p.communicate()
