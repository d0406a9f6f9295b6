"""SQL's clients, unmodified, against the real binary: psql, curl, weir sql and node's pg always; psycopg, pg8000,
asyncpg, pyarrow (PyPI) and JDBC (Maven) when WEIR_CLIENTS names python, java or all. All must give the same
answer to the same question while events arrive.
"""
import csv, glob, io, json, os, re, shutil, socket, ssl, struct, subprocess, sys, threading, time

from harness import ROOT, Skip, npm_modules, scratch, served, Server, weir
from kafka_clients import download, downloads

QUERY = ("SELECT id, status, amount FROM orders WHERE timestamp > NOW() - INTERVAL '1 hour' AND status = 'completed' "
         "AND id < 1000 ORDER BY timestamp DESC, id DESC LIMIT 100")
HERE = os.path.join(ROOT, "tests", "system", "sql")


def post(s, first, n):
    events = [{"type": "order.created", "data": {"id": i, "status": "completed" if i % 3 == 0 else "open", "amount": i * 1.5}}
              for i in range(first, first + n)]
    assert s.call("POST", "/events", json.dumps(events))[0] == 201


class Arriving:
    """Posts events that the question leaves out, until it is left."""

    def __init__(self, s):
        self.s, self.over, self.n = s, threading.Event(), 1000
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            post(self.s, self.n, 20)
            self.n += 20

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *a):
        self.over.set()
        self.thread.join()


def expected():
    """Newest first: those of one request share a time, and go by id."""
    return [[str(i), "completed", ("%r" % (i * 1.5)).removesuffix(".0")] for i in range(300, -1, -1) if i % 3 == 0][:100]


def same(rows, who):
    got = [[str(c).removesuffix(".0") for c in r] for r in rows]
    assert got == expected(), "%s: %r" % (who, got[:3])


def need(tool):
    if not shutil.which(tool):
        raise Skip("%s is not installed" % tool)


def psql(s, *args, user="x", env=None, ok=True):
    p = subprocess.run(["psql", "host=127.0.0.1 port=%d user=%s dbname=weir" % (s.pgwire, user), "-X", *args],
                       capture_output=True, timeout=60, env=dict(os.environ, PGCONNECT_TIMEOUT="20", **(env or {})))
    if ok:
        assert p.returncode == 0, p.stderr.decode()
    return p


def test_sql_same_answer():
    """psql, curl, weir sql, pg of node: the same rows in each form while events arrive."""
    need("psql")
    need("curl")
    with served(pgwire=0) as s:
        post(s, 0, 301)
        with Arriving(s) as more:
            same(csv.reader(io.StringIO(psql(s, "--csv", "-t", "-c", QUERY).stdout.decode())), "psql")
            for accept in ("application/json", "text/csv", "application/x-ndjson"):
                for version in ("--http1.1", "--http2-prior-knowledge"):
                    out = subprocess.run(["curl", "-sSf", version, "-H", "accept: " + accept, "-H", "content-type: text/plain",
                                          "--data", QUERY, s.url + "/sql"], capture_output=True, timeout=60, check=True).stdout.decode()
                    rows = (json.loads(out)["rows"] if "json" in accept and "nd" not in accept
                            else list(csv.reader(io.StringIO(out)))[1:] if "csv" in accept
                            else [list(json.loads(l).values()) for l in out.splitlines()])
                    same(rows, "curl " + accept + version)
            out = weir("sql", "--format", "csv", "-c", QUERY, server=s).stdout.decode()
            same(list(csv.reader(io.StringIO(out)))[1:], "weir sql")
            out = weir("sql", "-c", QUERY, server=s).stdout.decode()
            same([[c.strip() for c in l.strip("│").split("│")] for l in out.splitlines() if l.startswith("│")][1:], "table")
        assert more.n > 1000
        data = s.data
        s.stop()
        out = weir("sql", "--data", data, "--format", "csv", stdin=QUERY.encode()).stdout.decode()
        same(list(csv.reader(io.StringIO(out)))[1:], "weir sql --data")
        s.__init__(data, pgwire=0)


def test_sql_psql_catalogue():
    """psql's \\d and its like; several statements at once; errors with their place."""
    need("psql")
    with served(pgwire=0) as s:
        post(s, 0, 3)
        assert re.search(r"public \| orders \| table", psql(s, "-c", "\\dt").stdout.decode())
        out = psql(s, "-c", "\\d orders").stdout.decode()
        assert re.search(r"amount +\| double precision", out) and re.search(r"id +\| bigint", out), out
        assert "weir" in psql(s, "-c", "\\l").stdout.decode()
        p = psql(s, "-At", "-c", "SELECT 1; BEGIN; SHOW server_version; SELECT 'a''b'; COMMIT")
        assert p.stdout.decode().splitlines() == ["1", "BEGIN", "15.0", "a'b", "COMMIT"], p.stdout
        p = psql(s, "-c", "SELECT nothing FROM orders", ok=False)
        assert p.returncode == 1 and b"nothing" in p.stderr and b"LINE 1" in p.stderr, p.stderr
        p = psql(s, "-c", "DROP TABLE orders", ok=False)
        assert p.returncode == 1, p.stdout
        assert psql(s, "-At", "-c", "SELECT count(*) FROM public.orders").stdout == b"3\n"
        p = psql(s, "-At", "-c", "SET statement_timeout = 200", "-c", "SELECT count(*) FROM range(1000000000000)", ok=False)
        assert b"57014" in p.stderr or b"time" in p.stderr, p.stderr


def test_sql_copy():
    """COPY … TO STDOUT as psql's \\copy and by itself: text, CSV and binary, what is refused; topics by right."""
    need("psql")
    with served(pgwire=0) as s, scratch() as d:
        post(s, 0, 301)
        file = os.path.join(d, "out.csv")
        psql(s, "-c", "\\copy (%s) TO '%s' WITH (FORMAT csv, HEADER)" % (QUERY, file))
        with open(file) as f:
            lines = list(csv.reader(f))
        assert lines[0] == ["id", "status", "amount"], lines[0]
        same(lines[1:], "copy")
        copy = lambda sql: psql(s, "-At", "-c", sql).stdout
        same([l.split("\t") for l in copy("COPY (%s) TO STDOUT" % QUERY).decode().splitlines()], "COPY as text")
        assert copy("COPY (SELECT 'a\tb', NULL, E'x\\ny') TO STDOUT") == b"a\\tb\t\\N\tx\\ny\n"
        assert copy("COPY public.orders (id, status) TO STDOUT CSV DELIMITER ';'").splitlines()[0] == b"0;completed"
        out = psql(s, "-c", "\\copy (SELECT range FROM range(200000)) TO '%s'" % file).stdout
        assert out == b"COPY 200000\n", out
        with open(file) as f:
            assert [int(l) for l in f] == list(range(200000))
        psql(s, "-c", "\\copy (SELECT 7::BIGINT) TO '%s' WITH (FORMAT binary)" % file)
        with open(file, "rb") as f:
            assert f.read() == b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\x08" + bytes(7) + b"\x07\xff\xff"
        p = psql(s, "-c", "COPY (SELECT nothing FROM orders) TO STDOUT", ok=False)
        assert p.returncode == 1 and b"LINE 1: COPY (SELECT nothing" in p.stderr, p.stderr
        p = psql(s, "-c", "COPY orders FROM STDIN", ok=False)
        assert p.returncode == 1 and b"HTTP or Kafka" in p.stderr, p.stderr
        p = psql(s, "-At", "-c", "COPY (SELECT 1 // (range - 150000) FROM range(200000) ORDER BY range) TO STDOUT (FORMAT nope)",
                 "-c", "SELECT 42", ok=False)
        assert b"format" in p.stderr and p.stdout == b"42\n", (p.stdout, p.stderr)


def test_sql_cursors():
    """DECLARE, FETCH, MOVE, CLOSE: by hand and as psql's FETCH_COUNT; a query without end gives its first rows."""
    need("psql")
    with served(pgwire=0) as s:
        post(s, 0, 301)
        same([l.split("|") for l in psql(s, "-At", "-v", "FETCH_COUNT=7", "-c", QUERY).stdout.decode().splitlines()], "FETCH_COUNT")
        run = lambda *sql: psql(s, "-At", *[x for q in sql for x in ("-c", q)], ok=False)
        endless = "DECLARE c NO SCROLL CURSOR FOR SELECT range FROM range(1000000000000)"
        p = run("BEGIN", endless, "FETCH FORWARD 2 FROM c", "FETCH c", "MOVE 100000 IN c", "FETCH 1 FROM c", "CLOSE c", "COMMIT", "SELECT 42")
        assert p.stdout.decode().split("\n")[:-1] == ["BEGIN", "DECLARE CURSOR", "0", "1", "2", "MOVE 100000", "100003", "CLOSE CURSOR",
                                                     "COMMIT", "42"], (p.stdout, p.stderr)
        few = "DECLARE \"C d\" CURSOR WITH HOLD FOR SELECT range FROM range(5)"
        p = run(few, "BEGIN", "MOVE 1 FROM \"C d\"", "COMMIT", "FETCH ALL FROM \"C d\"", "FETCH ALL FROM \"C d\"", "CLOSE ALL", "FETCH \"C d\"")
        assert p.stdout.decode().split() == "DECLARE CURSOR BEGIN MOVE 1 COMMIT 1 2 3 4 CLOSE CURSOR ALL".split(), (p.stdout, p.stderr)
        assert b'cursor "C d" does not exist' in p.stderr and p.stderr.count(b"ERROR") == 1, p.stderr
        p = run("BEGIN; " + few + "; ROLLBACK; FETCH \"C d\"")
        assert b"does not exist" in p.stderr, p.stderr
        p = run("BEGIN", endless, "COMMIT", "FETCH c", "CLOSE c")
        assert p.stderr.count(b'cursor "c" does not exist') == 2, p.stderr
        p = run("BEGIN", endless, "FETCH BACKWARD 1 FROM c", "FETCH c", "ROLLBACK", endless, "DECLARE c SCROLL CURSOR FOR SELECT 1")
        for part in (b"forward only", b"ignored until it ends", b"transaction blocks", b"NO SCROLL"):
            assert part in p.stderr, (part, p.stderr)
        p = run("BEGIN", "DECLARE c CURSOR FOR SELECT nothing FROM orders", "FETCH c")
        assert b"LINE 1: DECLARE c CURSOR FOR SELECT nothing" in p.stderr and b"ignored" in p.stderr, p.stderr
        p = run("BEGIN", "DECLARE c CURSOR FOR SELECT CASE WHEN range < 40000 THEN range ELSE error('no more ' || range) END FROM range(50000)",
                "MOVE ALL FROM c", "FETCH c", "ROLLBACK", "SELECT 42")
        assert b"no more 40000" in p.stderr and b"MOVE" not in p.stdout and p.stdout.endswith(b"ROLLBACK\n42\n"), (p.stdout, p.stderr)


def direct_tls(port, token):
    """TLS from the first byte on (sslnegotiation=direct), which must name the protocol; then a login and a query."""
    def start(alpn):
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        if alpn:
            ctx.set_alpn_protocols(alpn)
        t = ctx.wrap_socket(socket.create_connection(("127.0.0.1", port), 20))
        t.sendall(struct.pack(">ii", 20, 196608) + b"user\0token\0\0")
        return t

    def message(f):
        kind, n = struct.unpack(">ci", f.read(5))
        return kind, f.read(n - 4)

    for alpn in (None, ["h2"]):
        try:
            got = start(alpn).recv(1)
            assert got == b"", (alpn, got)
        except (ssl.SSLError, ConnectionError):
            pass
    with start(["x", "postgresql"]) as t, t.makefile("rb") as f:
        assert t.selected_alpn_protocol() == "postgresql"
        assert message(f) == (b"R", struct.pack(">i", 3))
        t.sendall(b"p" + struct.pack(">i", len(token) + 5) + token.encode() + b"\0")
        assert message(f) == (b"R", struct.pack(">i", 0))
        t.sendall(b"Q" + struct.pack(">i", 23) + b"SELECT n FROM shop\0")
        seen = dict(iter(lambda: message(f), (b"C", b"SELECT 1\0")))
        assert seen[b"D"].endswith(b"1"), seen


# What Npgsql asks before its first query, in the same form: the version, types with the element types of arrays,
# ranges and domains, fields of composite types, labels of enums. One Query message.
NPGSQL = """SELECT version();
SELECT space.nspname, x.oid, x.typname, x.typtype, x.typnotnull, x.element
FROM (SELECT one.*, el.typname AS element_name, rel.relkind AS element_kind,
             CASE WHEN io.proname='array_recv' THEN 'a' ELSE el.typtype END AS element_type
      FROM (SELECT ty.oid, typnamespace, typname, typrelid, typnotnull, relkind,
                   CASE WHEN io.proname='array_recv' THEN 'a' ELSE ty.typtype END AS typtype,
                   CASE WHEN io.proname='array_recv' THEN ty.typelem
                        WHEN ty.typtype='r' THEN rngsubtype
                        WHEN ty.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = ty.oid)
                        WHEN ty.typtype='d' THEN ty.typbasetype END AS element
            FROM pg_type AS ty
            LEFT JOIN pg_class AS rel ON (rel.oid = ty.typrelid)
            LEFT JOIN pg_proc AS io ON io.oid = ty.typreceive
            LEFT JOIN pg_range ON (pg_range.rngtypid = ty.oid)) AS one
      LEFT JOIN pg_type AS el ON el.oid = element
      LEFT JOIN pg_class AS rel ON (rel.oid = el.typrelid)
      LEFT JOIN pg_proc AS io ON io.oid = el.typreceive) AS x
JOIN pg_namespace AS space ON (space.oid = typnamespace)
WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') -- no tables
   OR (typtype = 'p' AND typname IN ('record', 'void'))
   OR (typtype = 'a' AND (element_type IN ('b', 'r', 'm', 'e', 'd') OR (element_type = 'c' AND element_kind='c')))
ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'r' THEN 1 WHEN typtype = 'a' THEN 5
              WHEN typtype = 'd' AND element_type <> 'a' THEN 4 END;
SELECT ty.oid, att.attname, att.atttypid
FROM pg_type AS ty JOIN pg_namespace AS space ON (space.oid = ty.typnamespace)
JOIN pg_class AS rel ON (rel.oid = ty.typrelid) JOIN pg_attribute AS att ON (att.attrelid = ty.typrelid)
WHERE (ty.typtype = 'c' AND rel.relkind='c') AND attnum > 0 AND NOT attisdropped ORDER BY ty.oid, att.attnum;
SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid, enumsortorder;"""


def test_sql_startup():
    """The questions that Npgsql and Grafana ask by themselves, as text: types, version, extensions, columns; a panel's."""
    need("psql")
    with served(pgwire=0) as s:
        post(s, 0, 301)
        ask = lambda sql: psql(s, "-At", "-c", sql).stdout.decode().splitlines()
        lines = ask(NPGSQL)
        assert re.match(r"PostgreSQL 15\.0 ", lines[0]), lines[0]
        types = {l.split("|")[2]: l.split("|") for l in lines[1:]}
        for oid, name in ((16, "bool"), (20, "int8"), (25, "text"), (701, "float8"), (1184, "timestamptz"), (2950, "uuid")):
            assert types[name][:4] == ["pg_catalog", str(oid), name, "b"], types.get(name)
        assert all(len(t) == 6 and t[4] == "f" for t in types.values()), types
        assert ask("SELECT current_setting('server_version_num')::int/100 AS version") == ["1500"]
        assert ask("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") == []
        columns = ask("SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns "
                      "WHERE quote_ident(table_name) = 'orders'")
        assert "id|bigint" in columns and "timestamp|timestamp with time zone" in columns, columns
        day = lambda off: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + off))
        rows = ask("SELECT floor(extract(epoch from timestamp)/60)*60 AS \"time\", count(*) AS n FROM orders "
                   "WHERE timestamp BETWEEN '%s' AND '%s' GROUP BY 1 ORDER BY 1" % (day(-86400), day(86400)))
        assert sum(int(r.split("|")[1]) for r in rows) == 301 and all(float(r.split("|")[0]) % 60 == 0 for r in rows), rows


def test_sql_logins():
    """Tokens and users with passwords, over TLS; rights by topic."""
    need("psql")
    need("openssl")
    with scratch() as d:
        data, cert, key, users = (os.path.join(d, n) for n in ("data", "cert.pem", "key.pem", "users"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                        "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
        with open(users, "w") as f:
            f.write("ann:se:cret\n")
        weir("token", "create", "--data", data, "--admin")
        shop = weir("token", "create", "--data", data, "--read", "shop").stdout.decode().strip()
        admin = weir("token", "create", "--data", data, "--admin").stdout.decode().strip()
        s = Server(data, "--set", "pgwire.tls.cert=" + cert, "--set", "pgwire.tls.key=" + key,
                   "--set", "pgwire.users=" + users, pgwire=0)
        try:
            for topic in ("shop", "bank"):
                assert s.call("POST", "/events", json.dumps({"type": "x.y", "stream": topic, "data": {"n": 1}}),
                              {"authorization": "Bearer " + admin})[0] == 201
            ask = lambda user, password, sql="SELECT n FROM shop", mode="require": psql(
                s, "-At", "-c", sql, user=user, env={"PGPASSWORD": password, "PGSSLMODE": mode}, ok=False)
            for user, password in (("token", shop), ("token", admin), ("ann", "se:cret")):
                for mode in ("require", "disable"):
                    p = ask(user, password, mode=mode)
                    assert p.stdout == b"1\n", (user, mode, p.stderr)
            for question in ("SELECT n FROM bank", "COPY bank TO STDOUT", "COPY (SELECT n FROM bank) TO STDOUT"):
                p = ask("token", shop, question)
                assert p.returncode == 1 and p.stdout == b"", (question, p.stdout)
            assert b"bank" not in ask("token", shop, "SELECT relname FROM pg_class").stdout
            assert b"bank" in ask("token", admin, "SELECT relname FROM pg_class").stdout
            for user, password in (("token", "weir_" + "x" * 43), ("ann", "wrong"), ("nobody", "se:cret")):
                p = ask(user, password)
                assert p.returncode == 2 and b"authentication failed" in p.stderr, (user, p.stderr)
            direct_tls(s.pgwire, shop)
            status, _, body = s.call("POST", "/sql", "SELECT n FROM bank", {"authorization": "Bearer " + shop, "content-type": "text/plain"})
            assert status == 403, (status, body)
        finally:
            s.stop()


def test_sql_http():
    """Parameters, limits, errors as problem documents; an error behind the first row."""
    with served() as s:
        post(s, 0, 10)
        ask = lambda body, **h: s.call("POST", "/sql", json.dumps(body) if isinstance(body, dict) else body,
                                       {"content-type": "application/json" if isinstance(body, dict) else "text/plain", **h})
        for params in ([3, "open"], None):
            body = {"query": "SELECT id FROM orders WHERE id > $1 AND status = $2 ORDER BY id", "params": params}
            if params is None:
                body = {"query": "SELECT id FROM orders WHERE id > $least AND status = $s AND id > $least ORDER BY id", "params": {"least": 3, "s": "open"}}
            status, _, out = ask(body)
            assert status == 200 and json.loads(out)["rows"] == [[4], [5], [7], [8]], out
        out = json.loads(ask({"query": "SELECT id FROM orders ORDER BY id", "max_rows": 2})[2])
        assert out["rows"] == [[0], [1]] and out["truncated"] is True and out["row_count"] == 2, out
        for body, want in (("SELEC 1", 400), ("SELECT 1; SELECT 2", 400), ("", 400), ({"query": 5}, 400), ({"params": []}, 400),
                           ({"query": "SELECT count(*) FROM range(1000000000000)", "timeout_ms": 200}, 504)):
            status, headers, out = ask(body)
            assert status == want and headers["content-type"] == "application/problem+json", (body, status, out)
            assert json.loads(out)["status"] == want
        assert ask("SELECT 1", accept="image/png")[0] == 406
        out = ask("SELECT NULL AS a, '' AS b, 'x,\"y' AS c", accept="text/csv")[2]
        assert out == b'a,b,c\r\n,"","x,""y"\r\n', out


def test_sql_node_pg():
    need("node")
    with served(pgwire=0) as s:
        modules = npm_modules()
        if not os.path.isdir(os.path.join(modules, "pg")):
            raise Skip("npm did not install pg")
        post(s, 0, 301)
        p = subprocess.run(["node", os.path.join(HERE, "pg.cjs"), modules, str(s.pgwire), QUERY], capture_output=True, timeout=60)
        assert p.returncode == 0, p.stderr.decode()
        same(json.loads(p.stdout), "pg")


def test_sql_python():
    """psycopg, pg8000, asyncpg: text and binary, parameters, cursors, cancelling; pyarrow reads the stream."""
    d = downloads("python")
    venv = os.path.join(d, "sql")
    need_file = os.path.join(HERE, "requirements.txt")
    download("Python's clients", [sys.executable, "-m", "pip", "install", "--quiet", "--target", venv, "--upgrade", "-r", need_file],
             os.path.join(d, "sql.stamp"), need_file)
    with served(pgwire=0) as s:
        post(s, 0, 301)
        p = subprocess.run([sys.executable, os.path.join(HERE, "clients.py"), str(s.pgwire), s.url, QUERY], capture_output=True,
                           timeout=120, env=dict(os.environ, PYTHONPATH=venv))
        assert p.returncode == 0, p.stdout.decode() + p.stderr.decode()
        for line in p.stdout.decode().splitlines():
            who, rows = line.split(" ", 1)
            same(json.loads(rows), who)


def test_sql_jdbc():
    """PostgreSQL's JDBC driver: metadata, parameters in binary, rows fetched in parts."""
    d = os.path.join(downloads("java", "java", "mvn"), "sql")
    os.makedirs(d, exist_ok=True)
    pom = os.path.join(HERE, "pom.xml")
    download("the JDBC driver", ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                                 "-DoutputDirectory=" + d], os.path.join(d, "stamp"), pom)
    with served(pgwire=0) as s:
        post(s, 0, 301)
        p = subprocess.run(["java", "-cp", os.path.join(d, "*"), os.path.join(HERE, "Jdbc.java"), str(s.pgwire), QUERY],
                           capture_output=True, timeout=120)
        assert p.returncode == 0, p.stderr.decode()
        same(json.loads(p.stdout), "JDBC")
