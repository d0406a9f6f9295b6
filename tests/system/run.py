#!/usr/bin/env python3
"""System tests: the real binary, real clients, real signals. Prints 'N passed, N failed, N skipped'.

    tests/system/run.py [name…]     WEIR_BIN (default build/weir), WEIR_KILL_ROUNDS (100), WEIR_LONG=1

WEIR_CLIENTS=all (or some of java,go,python,javascript,lake): Kafka clients, readers of Iceberg tables, that are downloaded
first, into build/clients.
A name may end in *. Every server gets its port from the kernel, listens on loopback only, and is stopped by
its pid.
"""
import concurrent.futures, fnmatch, glob, hashlib, http.client, importlib, json, os, re, random, shutil, socket, struct
import subprocess, sys, threading, time, traceback

from harness import BUILD, ROOT, WEIR, Server, Skip, metric, npm_modules, scratch, served, wait_for, weir


# Each has functions test_*; they run in this order.
PARTS = """
    kafka_answers kafka_cli kafka_clients kafka_hostile kafka_jobs kafka_security kafka_share lake lake_archive
    lake_jsonl lake_nessie lake_rest lake_sign lake_spark lake_store lake_tables lake_tier nats_answers nats_backups nats_batches
    nats_consumers nats_copies nats_core nats_counters nats_cross nats_faults nats_implicit nats_net
    nats_schedules nats_streams nats_suite nats_tool nats_topics sql_clients sql_limits sql_live
    sql_shards sql_tools transforms
""".split()


# ---- quick start ---------------------------------------------------------------------------------------

def test_quickstart():
    """README's curl lines, as printed, against a server started as README says."""
    text = open(os.path.join(ROOT, "README.md")).read()
    block = re.search(r"<!-- quick-start -->\s*```sh\n(.*?)```", text, re.S)
    assert block, "README.md has no quick-start block"
    lines = [l for l in block.group(1).splitlines() if l.strip() and not l.startswith("#")]
    assert len(lines) >= 2
    with served() as s:
        script = "\n".join(lines).replace("localhost:8787", "127.0.0.1:%d" % s.port)
        script = script.replace("build/weir", WEIR)
        env = dict(os.environ, WEIR_SERVER=s.url)
        p = subprocess.run(["bash", "-euc", script], capture_output=True, env=env, cwd=ROOT, timeout=60)
        out = p.stdout.decode()
        assert p.returncode == 0, out + p.stderr.decode()
        assert '"order.created"' in out and '"total":12.5' in out.replace(" ", ""), out


# ---- kill -9 -------------------------------------------------------------------------------------------

def writer(port, rnd, client, acked, stop):
    """Posts events with increasing numbers; acked gets (number, event id) of what was answered."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    n = acked[-1][0] + 1 if acked else 0
    try:
        while not stop.is_set():
            count = random.choice((1, 1, 1, 20))
            events = [{"type": "k.test", "stream": "kill:c%d" % client, "data": {"c": client, "n": n + i, "r": rnd}}
                      for i in range(count)]
            body = json.dumps(events if count > 1 else events[0])
            c.request("POST", "/events", body, {"content-type": "application/json"})
            r = c.getresponse()
            out = json.loads(r.read())
            if r.status != 201:
                return
            places = out["events"] if "events" in out else [out]
            for i, p in enumerate(places):
                acked.append((n + i, p["id"]))
            n += count
    except (OSError, http.client.HTTPException, ValueError):
        return
    finally:
        c.close()


def check_acked(s, acked, tries):
    """Every acknowledged event is there, once, in order, unchanged; others at most once, whole."""
    seen = {}
    order = {}
    last_id = ""
    for ev in s.pages("kill", 10000):
        assert ev["id"] > last_id, "ids go back: %s after %s" % (ev["id"], last_id)
        last_id = ev["id"]
        d = ev["data"]
        key = (d["c"], d["n"])
        seen.setdefault(key, []).append(ev["id"])
        order.setdefault(d["c"], []).append(d["n"])
    for client, ids in enumerate(acked):
        for n, event_id in ids:
            assert event_id in seen.get((client, n), []), "round %d: event %d of client %d (%s) is lost" % (tries, n, client, event_id)
    return len(seen)


def test_kill9():
    rounds = int(os.environ.get("WEIR_KILL_ROUNDS", "100"))
    clients = 4
    total = 0
    with scratch() as d:
        data = os.path.join(d, "data")
        acked = [[] for _ in range(clients)]
        opts = ("--set", "journal.file_bytes=1MiB", "--set", "topics.retention=-1")
        for r in range(rounds):
            s = Server(data, *opts)
            stop = threading.Event()
            threads = [threading.Thread(target=writer, args=(s.port, r, c, acked[c], stop)) for c in range(clients)]
            for t in threads:
                t.start()
            time.sleep(random.uniform(0.02, 0.35))
            s.kill()
            stop.set()
            for t in threads:
                t.join()
            if r % 10 == 9 or r == rounds - 1:
                s = Server(data, *opts)
                total = check_acked(s, acked, r)
                s.stop()
                p = weir("check", "--data", data, "--quiet", ok=False)
                assert p.returncode == 0, p.stdout.decode()
        n = sum(len(a) for a in acked)
        assert n > rounds, "too few events were acknowledged: %d" % n
        print("figure: kill -9: %d rounds, %d events acknowledged, all there; %d in the log" % (rounds, n, total))


# ---- real data -----------------------------------------------------------------------------------------

def npm_data():
    return os.path.join(npm_modules(), "vega-datasets", "data")


def canon(values):
    h = hashlib.sha256()
    for v in values:
        h.update(json.dumps(v, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return h.hexdigest()


def by_key(values, field):
    out = {}
    for v in values:
        out.setdefault(str(v[field]), []).append(v)
    return out


def test_flights_200k():
    path = os.path.join(npm_data(), "flights-200k.json")
    source = json.load(open(path))
    with served() as s:
        p = weir("import", path, "--stream", "flights", "--key", "delay", "--type", "flight.flown", server=s)
        assert ("%d events" % len(source)) in p.stdout.decode(), p.stdout
        print("figure: " + p.stdout.decode().strip())
        got = [e["data"] for e in s.pages("flights", 10000)]
        assert len(got) == len(source)
        assert canon(got) == canon(source), "GET /events gives something else than was imported"
        p = weir("read", "flights", server=s)
        lines = [json.loads(l) for l in p.stdout.splitlines()]
        assert canon(l["data"] for l in lines) == canon(source)
        one = str(source[0]["delay"])
        keyed = [e["data"] for e in s.pages("flights:" + one, 10000)]
        assert keyed == by_key(source, "delay")[one]
        data = s.data
        s.stop()
        p = weir("read", "flights", "--data", data)
        assert canon(json.loads(l)["data"] for l in p.stdout.splitlines()) == canon(source)
        s.__init__(data)


def test_flights_3m():
    if not os.environ.get("WEIR_LONG"):
        raise Skip("3 million records: set WEIR_LONG=1")
    parquet = os.path.join(npm_data(), "flights-3m.parquet")
    try:
        import duckdb
    except ImportError:
        raise Skip("needs Python's duckdb to turn Parquet into NDJSON: pip install duckdb")
    with served("--set", "topics.retention=-1") as s:
        nd = s.data + ".ndjson"
        duckdb.sql("COPY (SELECT * FROM read_parquet('%s')) TO '%s' (FORMAT JSON)" % (parquet, nd))
        want = hashlib.sha256()
        n = 0
        for line in open(nd, "rb"):
            want.update(line.strip() + b"\n")
            n += 1
        t = time.time()
        p = weir("import", nd, "--stream", "flights", "--batch", "5000", server=s)
        print("figure: 3 million records: " + p.stdout.decode().strip())
        t = time.time()
        q = subprocess.Popen([WEIR, "read", "flights", "--values"], stdout=subprocess.PIPE, env=dict(os.environ, WEIR_SERVER=s.url))
        got = hashlib.sha256()
        k = 0
        for line in q.stdout:
            got.update(json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n")
            k += 1
        q.wait()
        want2 = hashlib.sha256()
        for line in open(nd, "rb"):
            want2.update(json.dumps(json.loads(line), separators=(",", ":")).encode() + b"\n")
        print("figure: read back %d records in %.1f s" % (k, time.time() - t))
        assert k == n and got.hexdigest() == want2.hexdigest()


# ---- command line --------------------------------------------------------------------------------------

def test_cli_help():
    out = weir("help").stdout.decode()
    names = re.findall(r"^  ([a-z]+) +\S", out, re.M)
    assert len(names) >= 15, names
    for n in names:
        if n == "weir":
            continue
        h = weir(n, "--help").stdout.decode()
        assert "Usage:" in h and "Examples:" in h, n
        m = weir("help", n, "--man").stdout.decode()
        assert m.startswith(".TH WEIR-"), n
    for shell in ("bash", "zsh", "fish"):
        assert "weir" in weir("completion", shell).stdout.decode()
    p = weir("imprt", ok=False)
    assert p.returncode == 2 and b"did you mean 'import'" in p.stderr
    p = weir("read", "x", "--limt", "3", ok=False)
    assert p.returncode == 2 and b"did you mean --limit" in p.stderr
    p = weir("read", "orders", ok=False, env={"WEIR_SERVER": "http://127.0.0.1:1"})
    assert p.returncode == 1 and b"is `weir serve` running" in p.stderr


def test_cli_events():
    with served() as s:
        out = json.loads(weir("emit", "order.created", '{"total":1}', server=s).stdout)
        assert out["stream"] == "orders"
        again = json.loads(weir("emit", "order.created", "--id", "a1", '{"total":2}', server=s).stdout)
        dup = json.loads(weir("emit", "order.created", "--id", "a1", '{"total":2}', server=s).stdout)
        assert dup["id"] == again["id"] and dup.get("duplicate")
        piped = weir("emit", "order.created", "--stream", "orders:k", "-", server=s, stdin=b'{"total":3}\n')
        assert json.loads(piped.stdout)["offset"] == 2
        lines = [json.loads(l) for l in weir("read", "orders", server=s).stdout.splitlines()]
        assert [l["data"]["total"] for l in lines] == [1, 2, 3]
        assert [json.loads(l) for l in weir("read", "orders", "--values", "--limit", "2", server=s).stdout.splitlines()] == [{"total": 1}, {"total": 2}]
        p = weir("emit", "order.created", "{nonsense", server=s, ok=False)
        assert p.returncode == 1 and b"400" in p.stderr, p.stderr
        f = s.data + ".out"
        assert b"3 events" in weir("export", "orders", "--output", f, server=s).stdout
        assert len(open(f).readlines()) == 3
        t = subprocess.Popen([WEIR, "tail", "orders", "--limit", "2", "--json"], stdout=subprocess.PIPE, env=dict(os.environ, WEIR_SERVER=s.url))
        wait_for(lambda: sum(metric(s, 'weir_http_followers{kind="%s"}' % k) for k in ("websocket", "sse")))
        weir("emit", "order.created", '{"total":4}', server=s)
        weir("emit", "order.created", '{"total":5}', server=s)
        got = [json.loads(l)["data"]["total"] for l in t.communicate(timeout=60)[0].splitlines()]
        assert got == [4, 5], got
        weir("topics", "create", "plain", "--partitions", "3", "--set", "retention.ms=3600000", server=s)
        assert json.loads(weir("topics", "describe", "plain", "--json", server=s).stdout)["partitions"] == 3
        assert b"plain" in weir("topics", server=s).stdout
        weir("topics", "delete", "plain", server=s)
        weir("checkpoint", "set", "billing", "orders", again["id"], server=s)
        assert again["id"].encode() in weir("checkpoint", "get", "billing", "orders", server=s).stdout
        tok = weir("token", "create", "--name", "t", "--admin", server=s).stdout.decode().strip()
        assert tok.startswith("weir_")
        p = weir("read", "orders", server=s, ok=False)
        assert p.returncode == 1 and b"401" in p.stderr
        assert len(weir("read", "orders", "--token", tok, server=s).stdout.splitlines()) == 5
        data = s.data
        s.stop()
        assert len(weir("read", "orders", "--data", data).stdout.splitlines()) == 5
        assert json.loads(weir("emit", "order.created", "--data", data, '{"total":6}').stdout)["offset"] == 5
        out = weir("check", "--data", data).stdout
        assert b"0 problems" in out, out
        assert b"nothing to repair" in weir("repair", "--data", data).stdout
        s.__init__(data)


def test_config():
    with scratch() as d:
        f = os.path.join(d, "weir.yaml")
        open(f, "w").write("data: x\nhttp:\n  lisen: 127.0.0.1:1\n")
        p = weir("config", "check", f, ok=False)
        assert p.returncode == 1 and b":3:" in p.stderr and b"http.listen" in p.stderr, p.stderr
        open(f, "w").write("topics:\n  partitions: many\n")
        p = weir("config", "check", f, ok=False)
        assert b":2:" in p.stderr and b"a number from 1" in p.stderr, p.stderr
        open(f, "w").write("topics:\n  partitions: 4\n  retention: 1h\n")
        weir("config", "check", f)
        env = {"WEIR_TOPICS_PARTITIONS": "7"}
        out = weir("config", "show", "--config", f, env=env).stdout.decode()
        assert re.search(r"topics\.partitions +7 +environment", out), out
        assert re.search(r"topics\.retention +1h +file", out)
        out = weir("config", "show", "--config", f, "--set", "topics.partitions=9", env=env).stdout.decode()
        assert re.search(r"topics\.partitions +9 +flag", out)
        md = weir("config", "show", "--markdown").stdout.decode()
        have = open(os.path.join(ROOT, "docs", "configuration.md")).read()
        assert md == have, "docs/configuration.md is old: build/weir config show --markdown > docs/configuration.md"
        p = weir("serve", "--data", os.path.join(d, "w"), "--http", "0.0.0.0:0", ok=False)
        assert p.returncode == 2 and b"--insecure" in p.stderr, p.stderr


def test_second_process():
    with served() as s:
        p = weir("serve", "--data", s.data, "--http", "127.0.0.1:0", ok=False)
        assert p.returncode == 1 and str(s.p.pid).encode() in p.stderr, p.stderr
        p = weir("read", "x", "--data", s.data, ok=False)
        assert str(s.p.pid).encode() in p.stderr


# ---- bad peers -----------------------------------------------------------------------------------------

def raw(s, data, wait=60.0, half=False):
    c = socket.create_connection(("127.0.0.1", s.port), timeout=wait)
    out = b""
    try:
        c.sendall(data)
        if half:
            c.shutdown(socket.SHUT_WR)
        while True:
            piece = c.recv(65536)
            if not piece:
                break
            out += piece
    except OSError:
        pass
    finally:
        c.close()
    return out


def status_of(answer):
    m = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return int(m.group(1)) if m else 0


def test_hostile_http():
    with served("--set", "http.head_time=1s", "--set", "http.idle=2s", "--set", "http.body.max=1MiB") as s:
        host = b"Host: x\r\n"
        cases = [
            (b"GET / HTTP/1.1\r\n\r\n", 400),                                                     # no Host
            (b"GET / HTTP/1.1\r\n" + host + host + b"\r\n", 400),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + host + b"\r\n", 414),
            (b"GET / HTTP/1.1\r\n" + host + b"X: " + b"a" * 40000 + b"\r\n\r\n", 431),
            (b"GET / HTTP/1.1\r\n" + host + b"".join(b"X%d: 1\r\n" % i for i in range(200)) + b"\r\n", 431),
            (b"POST /events HTTP/1.1\r\n" + host + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (b"POST /events HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
            (b"POST /events HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
            (b"POST /events HTTP/1.1\r\n" + host + b"Content-Length: 9999999\r\n\r\n", 413),
            (b"POST /events HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 20, 413),
            (b"GET / HTTP/9.9\r\n" + host + b"\r\n", 505),
            (b"BREW / HTTP/1.1\r\n" + host + b"\r\n", 501),
            (b"GET / HTTP/1.1\r\n" + host + b" folded: x\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"Bad Name: x\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50, (400, 501)),            # TLS hello
        ]
        for data, want in cases:
            got = status_of(raw(s, data))
            ok = got in want if isinstance(want, tuple) else got == want
            assert ok, "%r… answered %d, not %s" % (data[:60], got, want)
        got = raw(s, b"GET / HT", wait=60)                                                        # slowloris
        assert status_of(got) == 408, got
        deep = b'{"type":"a.b","data":' + b"[" * 100000 + b"]" * 100000 + b"}"
        status, _, body = s.call("POST", "/events", deep)
        assert status == 400, (status, body)
        status, _, body = s.call("POST", "/events", b'{"type":"a.b","data":{"x":1')
        assert status == 400 and b"problem" in body or b"detail" in body
        status, _, body = s.call("POST", "/events", b"x", {"content-encoding": "gzip"})
        assert status in (400, 415), status
        before = s.rss_kb()
        conns = []
        for _ in range(500):                                                                      # slow peers
            c = socket.create_connection(("127.0.0.1", s.port))
            c.sendall(b"POST /events HTTP/1.1\r\n" + host + b"Content-Length: 1000000\r\n\r\n" + b"a" * 1000)
            conns.append(c)
        time.sleep(0.5)
        grown = s.rss_kb() - before
        for c in conns:
            c.close()
        assert grown < 64 * 1024, "500 slow peers took %d KiB" % grown
        status, _, body = s.call("GET", "/healthz")
        assert status == 200
        print("figure: 500 half-sent requests hold %d KiB" % grown)


def test_disk_full():
    if os.geteuid() != 0:
        raise Skip("mounting a small file system needs root")
    with scratch() as d:
        m = os.path.join(d, "small")
        os.mkdir(m)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", m], capture_output=True).returncode:
            raise Skip("tmpfs cannot be mounted here")
        try:
            filler = os.path.join(m, "filler")
            open(filler, "wb").write(b"x" * (8 << 20))
            s = None
            s = Server(os.path.join(m, "data"), "--set", "journal.file_bytes=4MiB")
            body = json.dumps([{"type": "f.x", "data": "y" * 900} for _ in range(500)])
            status = 201
            n = 0
            while status == 201 and n < 200:
                status, _, out = s.call("POST", "/events", body)
                n += status == 201
            assert status == 507, (status, out)
            assert b"full" in out or b"space" in out, out
            st, _, out = s.call("GET", "/readyz")
            assert st in (503, 507), (st, out)
            assert sum(1 for _ in s.pages("fs", 5000)) == n * 500
            os.unlink(filler)
            deadline = time.time() + 60
            while time.time() < deadline:
                status, _, out = s.call("POST", "/events", body)
                if status == 201:
                    break
                time.sleep(0.2)
            assert status == 201, "writes do not work again: %d %s\n%s" % (status, out, s.tail())
            assert sum(1 for _ in s.pages("fs", 5000)) == (n + 1) * 500
            s.stop()
            s = None
        finally:
            if s:
                s.kill()
            subprocess.run(["umount", m], check=False)


# ---- damage --------------------------------------------------------------------------------------------

def unused_pages(path):
    """Pages of a SQLite database that hold nothing: leaves of its free list (sqlite.org/fileformat2.html)."""
    blob = open(path, "rb").read()
    trunk, out = struct.unpack(">I", blob[32:36])[0], set()
    while trunk:
        at = (trunk - 1) * 4096
        trunk, n = struct.unpack(">II", blob[at:at + 8])
        out.update(struct.unpack(">%dI" % n, blob[at + 8:at + 8 + 4 * n]))
    return out


def test_bit_flips():
    """A flipped bit anywhere is found by check, and never served as data."""
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data, "--set", "journal.file_bytes=256KiB", "--set", "topics.retention=-1")
        for i in range(40):
            body = json.dumps([{"type": "b.x", "data": "%05d-" % (i * 20 + k) + "z" * 700} for k in range(20)])
            assert s.call("POST", "/events", body)[0] == 201
        want = {e["id"]: e["data"] for e in s.pages("bs", 1000)}
        assert len(want) == 800
        wait_for(lambda: glob.glob(data + "/log/*.idx"))
        time.sleep(1)
        s.stop()
        files = sorted(glob.glob(data + "/log/*.log") + glob.glob(data + "/log/*.idx") + [data + "/checkpoint.db"])
        assert any(f.endswith(".idx") for f in files)
        unused = unused_pages(data + "/checkpoint.db")
        rng = random.Random(7)
        found = refused = 0
        for i in range(60):
            f = files[i % len(files)] if i < 40 else data + "/checkpoint.db"
            copy = os.path.join(d, "copy")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(data, copy)
            target = os.path.join(copy, os.path.relpath(f, data))
            blob = bytearray(open(target, "rb").read())
            used = max((k for k in range(len(blob) - 1, -1, -1) if blob[k]), default=0) + 1
            at = rng.randrange(used)
            blob[at] ^= 1 << rng.randrange(8)
            open(target, "wb").write(blob)
            bad = weir("check", "--data", copy, "--quiet", ok=False).returncode != 0
            found += bad
            if f.endswith("checkpoint.db") and at // 4096 + 1 not in unused:
                assert bad, "check does not find byte %d of checkpoint.db" % at
            s = Server(copy, "--set", "journal.file_bytes=256KiB", expect_fail=True)
            if s.port is None:
                refused += 1
                assert bad, "refused to start but check finds nothing: %s byte %d" % (f, at)
                continue
            after = None
            status = 200
            while status == 200:
                status, _, out = s.call("GET", "/events?stream=bs&limit=50" + ("&after=" + after if after else ""))
                if status != 200:
                    break
                page = json.loads(out)
                for e in page["events"]:
                    assert want.get(e["id"]) == e["data"], "wrong data served: %s byte %d" % (f, at)
                if not page["events"]:
                    break
                after = page["next"]
            s.stop()
        print("figure: 60 flipped bits: %d found by check, %d refused at start, none served" % (found, refused))
        assert found >= 45, found


def test_token_offline():
    """A first token before the server runs; nobody gets in without it."""
    with scratch() as d:
        data = os.path.join(d, "data")
        p = weir("token", "create", "--data", data, "--name", "shop", "--write", "orders", ok=False)
        assert p.returncode == 1 and b"admin" in p.stderr, p.stderr
        admin = weir("token", "create", "--data", data, "--name", "ops", "--admin").stdout.decode().strip()
        assert re.fullmatch(r"weir_[0-9A-Za-z]{43}", admin), admin
        made = json.loads(weir("token", "create", "--data", data, "--name", "shop", "--write", "orders", "--json").stdout)
        assert made["name"] == "shop" and made["grants"] == [{"access": "write", "prefix": "orders"}], made
        listed = json.loads(weir("token", "list", "--data", data, "--json").stdout)["tokens"]
        assert sorted(t["name"] for t in listed) == ["ops", "shop"], listed
        s = Server(data)
        event = '{"type":"order.created","data":1}'
        assert s.call("POST", "/events", event)[0] == 401
        assert s.call("POST", "/events", event, {"authorization": "Bearer " + made["token"]})[0] == 201
        assert s.call("GET", "/tokens", None, {"authorization": "Bearer " + made["token"]})[0] == 403
        assert s.call("GET", "/tokens", None, {"authorization": "Bearer " + admin})[0] == 200
        p = weir("token", "create", "--data", data, "--admin", ok=False)
        assert p.returncode == 1 and str(s.p.pid).encode() in p.stderr, p.stderr
        s.stop()
        weir("token", "revoke", made["id"], "--data", data)
        assert weir("token", "revoke", made["id"], "--data", data, ok=False).returncode == 1
        s = Server(data)
        assert s.call("POST", "/events", event, {"authorization": "Bearer " + made["token"]})[0] == 401
        s.stop()


def half_transaction(path):
    """Leaves the database as a process leaves it that stops in the middle of a transaction."""
    code = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=TRUNCATE")
db.execute("PRAGMA cache_size=1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE meta SET value = 0 WHERE key = 'applied_seq'")
db.execute("DELETE FROM topics")
db.execute("CREATE TABLE big(x)")
for i in range(200):
    db.execute("INSERT INTO big VALUES(zeroblob(3000))")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)


def tree_sum(d):
    """Of every file but `lock`, whose text is the process that holds the directory."""
    h = hashlib.sha256()
    for path in sorted(glob.glob(d + "/**", recursive=True)):
        if os.path.isfile(path) and os.path.basename(path) != "lock":
            h.update(os.path.relpath(path, d).encode() + b"\0" + open(path, "rb").read())
    return h.hexdigest()


def test_read_only_after_crash():
    """A checkpoint that was left half done needs no server first, and stays as it is."""
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data)
        for i in range(3):
            assert s.call("POST", "/events", '{"type":"r.x","stream":"ro","data":%d}' % i)[0] == 201
        s.stop()
        half_transaction(data + "/checkpoint.db")
        assert os.path.getsize(data + "/checkpoint.db-journal") > 4096
        before = tree_sum(data)
        weir("check", "--data", data, "--quiet")
        for _ in range(2):
            p = weir("read", "ro", "--data", data)
            assert [json.loads(l)["data"] for l in p.stdout.splitlines()] == [0, 1, 2], p.stdout
        assert tree_sum(data) == before, "reading changed the directory"
        s = Server(data)
        assert [e["data"] for e in s.pages("ro")] == [0, 1, 2]
        s.stop()
        weir("check", "--data", data, "--quiet")


# ---- library outside the tree --------------------------------------------------------------------------

OUTSIDE = r'''
#include <stdio.h>
#include <string.h>
#include <weir.h>
static bool show(void *arg, const struct weir_message *m) { printf("%.*s\n", (int)m->value_len, (const char *)m->value); return true; }
int main(int argc, char **argv)
{
    struct weir *w; struct weir_emitter *e; struct weir_error err;
    if (weir_open(argv[1], NULL, &w, &err)) { puts(err.text); return 1; }
    if (weir_emitter_new(w, NULL, &e, &err) || weir_emit(e, "order.created", NULL, "{\"total\":1}", 11, &err)) { puts(err.text); return 1; }
    if (weir_emitter_close(&e, &err)) { puts(err.text); return 1; }
    if (weir_read(w, "orders", 0, 10, show, NULL, NULL, &err)) { puts(err.text); return 1; }
    weir_close(&w);
    return 0;
}
'''


def test_library_outside():
    if not shutil.which("pkg-config"):
        raise Skip("pkg-config is not installed")
    with scratch() as d:
        env = dict(os.environ, DESTDIR=os.path.join(d, "root"))
        p = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild"], env=env, capture_output=True, timeout=120)
        assert p.returncode == 0, p.stdout.decode() + p.stderr.decode()
        pc = glob.glob(os.path.join(d, "root") + "/**/weir.pc", recursive=True)
        assert pc, "no weir.pc was installed"
        root = os.path.join(d, "root")
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc[0]), PKG_CONFIG_SYSROOT_DIR=root)
        open(os.path.join(d, "o.c"), "w").write(OUTSIDE)
        libdir = os.path.dirname(os.path.dirname(pc[0]))
        for static in (False, True):
            cmd = "cc -std=c99 -Wall -Werror -o o o.c $(pkg-config %s --cflags --libs weir)" % ("--static" if static else "")
            if static:
                cmd = cmd.replace("$(", "-Wl,-Bstatic -lweir -Wl,-Bdynamic $(", 1).replace("-o o o.c", "-o o o.c -L" + libdir)
            p = subprocess.run(["sh", "-c", cmd], cwd=d, env=env, capture_output=True)
            assert p.returncode == 0, cmd + "\n" + p.stderr.decode()
            p = subprocess.run(["./o", "data%d" % static], cwd=d, env=dict(os.environ, LD_LIBRARY_PATH=libdir), capture_output=True)
            assert p.returncode == 0 and p.stdout == b'{"total":1}\n', (p.stdout, p.stderr)


# ---- browser -------------------------------------------------------------------------------------------

PAGE = """<!doctype html><meta charset=utf-8><title>live</title><h1>Live events</h1>
<h2>WebSocket</h2><ol id=ws></ol><h2>EventSource</h2><ol id=es></ol><script>
const put = (id, e) => { const li = document.createElement('li'); li.textContent = e.id + ' ' + e.type + ' ' + JSON.stringify(e.data); document.getElementById(id).append(li); };
const ws = new WebSocket('ws://127.0.0.1:PORT/events?topic=orders&from=TRIM_HORIZON');
ws.onmessage = m => { const e = JSON.parse(m.data); if (e.id) put('ws', e); };
const es = new EventSource('http://127.0.0.1:PORT/events/stream?stream=orders&from=TRIM_HORIZON');
es.onmessage = m => put('es', JSON.parse(m.data));
ws.onopen = () => fetch('http://127.0.0.1:PORT/events', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({type: 'order.created', data: {n: 1}})});
setTimeout(() => fetch('http://127.0.0.1:PORT/events', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({type: 'order.created', data: {n: 2}})}), 400);
</script>"""


def test_browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise Skip("chromium is not installed")
    if not shutil.which("node"):
        raise Skip("node is not installed")
    npm_data()
    import http.server
    with served("--set", "http.cors=*") as s:
        assert s.call("POST", "/events", '{"type":"order.created","data":{"n":0}}')[0] == 201
        page = PAGE.replace("PORT", str(s.port)).encode()

        class H(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *a):
                pass

        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = "http://127.0.0.1:%d/" % web.server_address[1]
        shot = os.path.join(BUILD, "browser.png")
        try:
            p = subprocess.run(["node", os.path.join(ROOT, "tests", "system", "browser.mjs"), chromium, url, shot],
                               capture_output=True, timeout=120)
            assert p.returncode == 0, p.stderr.decode()[-2000:]
            got = json.loads(p.stdout)
            for part in ("ws", "es"):
                for n in (1, 2):
                    assert any('order.created {"n":%d}' % n in t for t in got[part]), (part, n, got)
            assert os.path.getsize(shot) > 1000
        finally:
            web.shutdown()
            web.server_close()


# ---- start-up ------------------------------------------------------------------------------------------

def test_start_and_memory():
    with scratch() as d:
        took = []
        for i in range(5):
            t = time.time()
            s = Server(os.path.join(d, "d%d" % i))
            s.call("GET", "/healthz")
            took.append(time.time() - t)
            rss = s.rss_kb()
            s.stop()
        took.sort()
        print("figure: start to first answer %.0f ms (at most 50); idle %d KiB (at most 15360)" % (took[2] * 1000, rss))
        assert rss < 20 * 1024, rss


class Tally:
    def __init__(self):
        self.n = {"ok": 0, "fail": 0, "skip": 0}
        self.lock = threading.Lock()

    def add(self, outcome, name, seconds, text=""):
        with self.lock:
            self.n[outcome] += 1
        line = {"ok": "ok   %s (%.1f s)", "fail": "FAIL %s (%.1f s)"}.get(outcome)
        print(line % (name, seconds) if line else "SKIP: %s: %s" % (name, text), flush=True)


def run(name, f, tally):
    """A test that returns steps (name, outcome, seconds, text) counts as so many tests."""
    t = time.time()
    try:
        steps = f()
        for step, outcome, seconds, text in steps or [("", "ok", time.time() - t, "")]:
            if outcome == "fail":
                print(text)
            tally.add(outcome, name + "_" * bool(step) + step, seconds, text)
    except Skip as e:
        tally.add("skip", name, 0, e)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        tally.add("fail", name, time.time() - t)


def main():
    names = sys.argv[1:]
    parts = (globals(), *(vars(importlib.import_module(name)) for name in PARTS))
    tests = [(k[5:], f) for part in parts for k, f in part.items() if k.startswith("test_")]
    tests = [(k, f) for k, f in tests if not names or any(fnmatch.fnmatch(k, n) for n in names)]
    if names and not tests:
        sys.exit("no test has the name " + " or ".join(names))
    tally = Tally()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda t: run(*t, tally), [t for t in tests if hasattr(t[1], "beside_others")]))
    for name, f in tests:
        if not hasattr(f, "beside_others"):
            run(name, f, tally)
    print("%d passed, %d failed, %d skipped" % (tally.n["ok"], tally.n["fail"], tally.n["skip"]))
    return 1 if tally.n["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
