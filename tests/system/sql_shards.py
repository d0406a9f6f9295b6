"""One query over three servers: the same answers as of one server with all records; a server that fails, or is too slow,
is named."""
import contextlib, http.server, json, math, select, shutil, socket, ssl, subprocess, threading, time, urllib.error, urllib.request

from harness import Server, Skip, scratch, weir

N = 900
QUERIES = [
    "SELECT count(*), count(total), sum(id), min(id), max(id), min(status), max(name) FROM orders",
    "SELECT status, count(*) AS n, sum(total) AS s, avg(total) AS a, min(total), max(total) FROM orders GROUP BY status ORDER BY status",
    "SELECT status, count(*) FILTER (WHERE id % 2 = 0) AS even FROM orders WHERE id < 500 GROUP BY ALL HAVING count(*) > 10 ORDER BY even DESC, status",
    "SELECT id % 7 AS m, sum(id) * 2 + 1 AS x FROM orders GROUP BY m ORDER BY x DESC LIMIT 3 OFFSET 1",
    "SELECT count(*), sum(id), avg(id) FROM orders WHERE id < 0",
    "SELECT status, count(*) FROM orders WHERE id < 0 GROUP BY status",
    "SELECT id, status, total, name FROM orders ORDER BY id DESC LIMIT 10",
    "SELECT id, name, headers, key, items FROM orders ORDER BY id LIMIT 40",
    "SELECT id FROM orders WHERE id BETWEEN 100 AND 110 ORDER BY total, id",
    "SELECT DISTINCT status FROM orders ORDER BY 1",
    "SELECT count(late), sum(late), max(late) FROM orders",
    "SELECT count(DISTINCT id % 50), count(DISTINCT name), count(DISTINCT status) FILTER (WHERE id < 2), sum(DISTINCT id % 10) FROM orders",
    "SELECT status, median(id), quantile_cont(total, 0.9), stddev(id), count(DISTINCT late) FROM orders GROUP BY ALL HAVING median(id) > 1 ORDER BY 1",
    "SELECT quantile_disc(id, [0.25, 0.75]), mad(id), count(DISTINCT late), median(late), kurtosis(id) FROM orders WHERE id < 600",
    "SELECT count(DISTINCT id), median(id) FROM orders WHERE id < 0",
    "SELECT date_trunc('year', timestamp) > '2020-01-01' AS t, bool_or(id = 5), arg_max(name, id) FROM orders GROUP BY 1",
]


def event(i):
    data = {"id": i, "status": ("open", "paid", "sent'\"\\")[i % 3], "total": i * 0.1, "name": "n\u00e9 %d\n\"q\"," % i,
            "items": [{"sku": "a'%d" % i}, None]}
    if i % 3 == 2:
        data["late"] = i  # a field that only one of the servers ever sees
    return {"type": "order.created", "stream": "orders", "data": data}


def ask(s, sql, shards=None, **more):
    status, _, body = s.call("POST", "/sql", json.dumps(dict(query=sql, **({"shards": shards} if shards else {}), **more)))
    return status, json.loads(body)


def near(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(float(a), float(b), rel_tol=1e-9)
    return a == b


class Silent:
    """A server that takes connections and says nothing."""

    def __enter__(self):
        self.s = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.s.getsockname()[1]
        return self

    def __exit__(self, *a):
        self.s.close()


def test_sql_shards():
    with scratch() as d, Silent() as silent:
        shards, servers = ["a", "b", "c"], []
        try:
            for name in shards:
                servers.append(Server("%s/%s" % (d, name)))
            with open(d + "/shards", "w") as f:
                f.write("# servers\n" + "".join("%s %s\n" % x for x in zip(shards, (s.url for s in servers))))
                f.write("silent %s\n" % silent.url)
            servers.append(Server(d + "/all", "--set", "sql.shards=" + d + "/shards"))
            whole = servers[3]
            events = [event(i) for i in range(N)]
            for k, s in enumerate(servers):
                mine = [e for i, e in enumerate(events) if k == 3 or i % 3 == k]
                assert s.call("POST", "/events", json.dumps(mine))[0] == 201
            for q in QUERIES:
                one, many = ask(whole, q), ask(whole, q, shards)
                assert one[0] == many[0] == 200, (q, one, many)
                assert near(one[1]["rows"], many[1]["rows"]), (q, one[1]["rows"][:5], many[1]["rows"][:5])
                assert [c["name"] for c in one[1]["columns"]] == [c["name"] for c in many[1]["columns"]], q
            rows = ask(whole, "SELECT id FROM orders", shards)[1]["rows"]
            assert sorted(r[0] for r in rows) == list(range(N))
            status, out = ask(whole, "SELECT count(*) FROM orders WHERE id >= $1", ["a", "b"], params=[300])
            assert out["rows"] == [[400]], out
            quantile = ask(whole, "SELECT approx_quantile(id, 0.9) FROM orders", shards)[1]["rows"][0][0]
            assert abs(quantile - 810) <= 0.011 * 810, quantile
            out = weir("sql", "--shards", "a,b,c", "--format", "csv", "-c", "SELECT count(*) AS n FROM orders", server=whole)
            assert out.stdout.decode().split() == ["n", str(N)], out.stdout

            for q, want in (("SELECT corr(id, total) FROM orders", 400), ("SELECT string_agg(name, ',') FROM orders", 400), ("SELECT * FROM orders o JOIN orders p USING (id)", 400),
                            ("SELECT nothing FROM orders", 400), ("SELECT count(*) FROM nowhere", 400)):
                status, out = ask(whole, q, shards)
                assert status == want and out["detail"], (q, status, out)
            status, out = ask(whole, "SELECT 1", ["x"])
            assert status == 400 and '"x"' in out["detail"], out

            t = time.time()
            status, out = ask(whole, "SELECT count(*) FROM orders", ["a", "silent"], timeout_ms=1500)
            assert status == 504 and "shard silent (http" in out["detail"], out
            assert time.time() - t < 20
            servers[1].kill()
            status, out = ask(whole, "SELECT count(*) FROM orders", shards)
            assert status == 502 and "shard b (%s)" % servers[1].url in out["detail"], (status, out)
            assert ask(whole, "SELECT count(*) FROM orders", ["a", "c"])[1]["rows"] == [[600]]
        finally:
            for k, s in enumerate(servers):
                if s.p.returncode is None:
                    s.stop()


# ---- shards that fail in the middle, tokens, TLS -------------------------------------------------------

class Half(http.server.BaseHTTPRequestHandler):
    """A shard that says what its column is and gives a row; then server.mode: it goes away, says that it failed, or
    says nothing any more until it is left."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def chunk(self, text):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text.encode()))
        self.wfile.flush()

    def do_POST(self):
        s = self.server
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if query.startswith("DESCRIBE"):
            self.chunk('{"column_name":"id","column_type":"BIGINT"}\n')
            return self.chunk("")
        self.chunk('{"r":["7"]}\n')
        if s.mode == "fails":
            self.chunk('{"error":{"detail":"the disk is gone","sqlstate":"58030"}}\n')
            return self.chunk("")
        s.asked.set()
        if s.mode == "waits" and select.select([self.connection], [], [], 30)[0] and not self.connection.recv(1):
            s.left.set()
        self.close_connection = True


@contextlib.contextmanager
def half():
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Half)
    s.asked, s.left, s.mode = threading.Event(), threading.Event(), ""
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield s
    finally:
        s.shutdown()
        s.server_close()


def test_sql_shards_halfway():
    """A shard that goes away behind its first rows, says that it failed, or stops talking: named in the error. The parts
    are cancelled when time is up, and when the client leaves."""
    with scratch() as d, half() as h:
        with open(d + "/shards", "w") as f:
            f.write("half http://127.0.0.1:%d\n" % h.server_address[1])
        s = Server(d + "/data", "--set", "sql.shards=" + d + "/shards")
        try:
            for mode, want, words in (("goes", 502, "shard half (http"), ("fails", 400, "the disk is gone"), ("waits", 504, "did not end")):
                h.mode = mode
                status, out = ask(s, "SELECT id FROM orders ORDER BY id", ["half"], timeout_ms=700 if mode == "waits" else 20000)
                assert status == want and "shard half (http" in out["detail"] and words in out["detail"], (mode, status, out)
            assert h.left.wait(20), "the part was not cancelled when time was up"
            h.left.clear()
            h.asked.clear()
            body = json.dumps({"query": "SELECT id FROM orders", "shards": ["half"], "timeout_ms": 60000}).encode()
            with socket.create_connection(("127.0.0.1", s.port), 20) as c:
                c.sendall(b"POST /sql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                assert h.asked.wait(20)
            assert h.left.wait(20), "the part was not cancelled when the client left"
        finally:
            s.stop()


def test_sql_shards_guarded():
    """Over TLS and with tokens: the shards' own, from the file; the asker's right to the topic counts on the server asked."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    with scratch() as d:
        cert, key = d + "/cert.pem", d + "/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                        "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        tls = ("--set", "http.tls.cert=" + cert, "--set", "http.tls.key=" + key)
        token = lambda data, *grant: weir("token", "create", "--data", data, *grant).stdout.decode().strip()
        trust = ssl.create_default_context(cafile=cert)

        def call(s, path, body, bearer):
            rq = urllib.request.Request(s.url + path, json.dumps(body).encode(), {"content-type": "application/json", "authorization": "Bearer " + bearer})
            try:
                with urllib.request.urlopen(rq, context=trust, timeout=60) as r:
                    return r.status, json.load(r)
            except urllib.error.HTTPError as e:
                return e.code, json.load(e)

        names = ("a", "b")
        admin = {n: token(d + "/" + n, "--admin") for n in names}
        reader = {n: token(d + "/" + n, "--read", "orders") for n in names}
        token(d + "/door", "--admin")
        asker, other = token(d + "/door", "--read", "orders"), token(d + "/door", "--read", "bank")
        servers = {}
        try:
            for n in names:
                servers[n] = Server(d + "/" + n, *tls)
                assert call(servers[n], "/events", [event(i) for i in range(10)], admin[n])[0] == 201
            with open(d + "/shards", "w") as f:
                for n in names:
                    f.write("%s %s %s %s\n" % (n, servers[n].url, reader[n], cert))
                f.write("wrong %s %s %s\n" % (servers["a"].url, "weir_" + "x" * 43, cert))
                f.write("untrusted %s %s\n" % (servers["a"].url, reader["a"]))
            servers["door"] = door = Server(d + "/door", *tls, "--set", "sql.shards=" + d + "/shards")
            query = lambda who, shards: call(door, "/sql", {"query": "SELECT count(*) AS n FROM orders", "shards": shards}, who)
            assert query(asker, ["a", "b"])[1]["rows"] == [[20]]
            status, out = query(other, ["a", "b"])
            assert status == 403 and "orders" in out["detail"], out
            status, out = query(asker, ["a", "wrong"])
            assert status == 403 and "shard wrong (https" in out["detail"], (status, out)
            status, out = query(asker, ["untrusted", "b"])
            assert status == 502 and "shard untrusted (https" in out["detail"] and "certificate" in out["detail"].lower(), (status, out)
            status, out = call(door, "/sql", {"query": "SELECT count(*) AS n FROM orders"}, "weir_" + "y" * 43)
            assert status == 401, (status, out)
        finally:
            for s in servers.values():
                s.stop()
