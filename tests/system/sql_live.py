"""Live queries (/sql/live) against the real binary: history and changes as server-sent events by curl and over
node's WebSocket, going on after kill -9, groups that end as the same SELECT does, readers who do not read, mistakes.
"""
import json, os, shutil, socket, subprocess, tempfile, time, urllib.parse

from harness import Server, Skip, scratch, served

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
    """node's WebSocket: columns, rows with positions, live; a mistake is the first message."""
    need("node")
    help_text = subprocess.run(["node", "--help"], capture_output=True).stdout.decode()
    flags = ["--experimental-websocket"] if "--experimental-websocket" in help_text else []
    with served() as s:
        post(s, 0, 20)
        for query, first, code in (("SELECT id FROM orders", '{"columns":', "closed 1005"),
                                   ("SELECT nothing FROM orders", '{"error":', "closed 1011")):
            url = "ws" + s.url[4:] + path(query, **{"from": "beginning"})
            p = subprocess.run(["node", "--no-warnings", *flags, "-e", WS, url], capture_output=True, timeout=60)
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
