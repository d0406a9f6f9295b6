"""NATS's core protocol: what the server says byte by byte, its clients unmodified (nats.js of both generations and
nats.c always; nats.py when WEIR_CLIENTS names python or all), tokens, TLS, slow and silent clients, hostile shapes.
"""
import contextlib, json, os, re, socket, ssl, subprocess, threading, time

from harness import ROOT, Skip, alone, beside_others, metric, npm_modules, scratch, served, wait_for
from kafka_clients import download, downloads, need_node, steps_run

HERE = os.path.join(ROOT, "tests", "system", "nats")
NODE_STEPS = ("pubsub", "headers", "requests", "no_responders", "queue", "unsubscribe", "echo", "payload")


class Wire:
    """A connection spoken by hand."""

    def __init__(self, server, connect='{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}', tls=None):
        self.s = socket.create_connection(server.nats, 20)
        self.s.settimeout(20)
        self.got = b""
        self.info = json.loads(self.until(b"\r\n")[5:])
        if tls:
            assert self.info["tls_required"]
            self.s = tls.wrap_socket(self.s)
        if connect:
            self.say(b"CONNECT " + connect.encode() + b"\r\n")

    def say(self, what):
        self.s.sendall(what)
        return self

    def until(self, end):
        """What comes up to and with `end`."""
        while end not in self.got:
            more = self.s.recv(1 << 16)
            assert more, "closed after %r" % self.got[-200:]
            self.got += more
        at = self.got.index(end) + len(end)
        out, self.got = self.got[:at], self.got[at:]
        return out

    def answer(self, what):
        """All that is said to this, up to the PONG of a PING behind it."""
        return self.say(what + b"PING\r\n").until(b"PONG\r\n")[:-6]

    def rest(self):
        """Until the server closes."""
        while True:
            try:
                more = self.s.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                return self.got
            self.got += more

    def close(self):
        self.s.close()


def test_nats_wire():
    """Each line as nats-server answers it."""
    with served(nats=0, loops=2) as s:
        w = Wire(s)
        assert w.info["proto"] == 1 and w.info["headers"] and w.info["max_payload"] == 1 << 20 and w.info["client_id"] == 1
        assert w.answer(b"SUB a.* 1\r\nSUB a.> q 22\r\nsub a.b q 3\r\n") == b""
        got = w.answer(b"PUB a.b 5\r\nhello\r\n")
        assert got in (b"MSG a.b 1 5\r\nhello\r\nMSG a.b 22 5\r\nhello\r\n", b"MSG a.b 1 5\r\nhello\r\nMSG a.b 3 5\r\nhello\r\n"), got
        assert w.answer(b"UNSUB 22\r\nUNSUB 3\r\n") == b""
        assert w.answer(b"HPUB a.x re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n") == b"HMSG a.x 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
        assert w.answer(b"PUB none.such re.1 0\r\n\r\n") == b""  # it does not listen to its reply subject
        text = b"NATS/1.0 503\r\nNats-Subject: none.such\r\n\r\n"
        assert w.answer(b"SUB re.* 9\r\nPUB none.such re.1 0\r\n\r\n") == b"HMSG re.1 9 %d %d\r\n%s\r\n" % (len(text), len(text), text)
        assert w.answer(b"UNSUB 1 4\r\n" + b"PUB a.c 1\r\nx\r\n" * 5) == b"MSG a.c 1 1\r\nx\r\n" * 2  # two before count
        assert w.answer(b"SUB a..b 5\r\n") == b"-ERR 'Invalid Subject'\r\n"
        for cut in range(1, 40):  # a message that comes in two pieces
            line = b"PUB c reply.to 26\r\nabcdefghijklmnopqrstuvwxyz\r\n"
            w.say(b"SUB c 7\r\n" + line[:cut])
            time.sleep(0.001)
            assert w.answer(line[cut:]) == b"MSG c 7 reply.to 26\r\nabcdefghijklmnopqrstuvwxyz\r\n"
        plain = Wire(s, '{"verbose":false,"pedantic":false}')  # knows no headers
        plain.answer(b"SUB p 1\r\n")
        w.answer(b"HPUB p 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
        assert plain.until(b"hi\r\n") == b"MSG p 1 2\r\nhi\r\n"
        loud = Wire(s, None)  # no CONNECT: verbose and pedantic
        assert loud.answer(b"SUB l 1\r\nPUB l 0\r\n\r\nPUB l.* 0\r\n\r\n") == (
            b"+OK\r\n+OK\r\nMSG l 1 0\r\n\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n")
        for what, said in ((b"GET / HTTP/1.1\r\n\r\n", "Unknown Protocol Operation"), (b"PUB x -1\r\n", "Unknown Protocol Operation"),
                           (b"PUB x 1048577\r\n", "Maximum Payload Violation"), (b"SUB " + b"x" * 5000, "maximum control line exceeded"),
                           (b"PUB x 1\r\nabc\r\n", "Unknown Protocol Operation"), (b"CONNECT {]\r\n", "Unknown Protocol Operation"),
                           (b'CONNECT {"protocol":7}\r\n', "invalid client protocol")):
            assert ("-ERR '%s'\r\n" % said).encode() in Wire(s).say(what).rest(), what
        assert b"-ERR 'no responders requires headers support'" in Wire(s, '{"no_responders":true,"headers":false}').rest()
        assert metric(s, "weir_nats_messages_received_total") > 40
        w.close()
        wait_for(lambda: metric(s, "weir_nats_subscriptions") <= 2)


def node_client(package):
    need_node()
    npm_modules()
    with served(nats=0, loops=2) as s:
        return steps_run(["node", os.path.join(HERE, "core.mjs"), package, "%s:%d" % s.nats], NODE_STEPS)


@beside_others
def test_nats_js():
    return node_client("@nats-io/transport-node")


@beside_others
def test_nats_js_2():
    return node_client("nats")


@beside_others
def test_nats_c():
    with scratch() as d, served(nats=0, loops=2) as s:
        exe = os.path.join(d, "core")
        p = subprocess.run(["cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-o", exe, os.path.join(HERE, "core.c"), "-lnats"],
                           capture_output=True)
        if b"nats/nats.h" in p.stderr:
            raise Skip("nats.c is not installed: apt-get install libnats-dev")
        assert p.returncode == 0, p.stderr.decode()
        return steps_run([exe, "nats://%s:%d" % s.nats, ""], ("pubsub", "requests"))


@alone
def python_at():
    d = downloads("python")
    env = os.path.join(d, "nats")
    wanted = os.path.join(HERE, "requirements.txt")
    if not os.path.exists(os.path.join(env, "bin", "pip")):
        subprocess.run(["python3", "-m", "venv", env], check=True, timeout=120)
    download("nats.py", [os.path.join(env, "bin", "pip"), "install", "-q", "-r", wanted], os.path.join(env, "installed"), wanted)
    return os.path.join(env, "bin", "python")


@beside_others
def test_nats_py():
    python = python_at()
    with served(nats=0, loops=2) as s:
        return steps_run([python, os.path.join(HERE, "core.py"), "nats://%s:%d" % s.nats, ""],
                         ("pubsub", "requests", "reconnect_options"))


def test_nats_tokens():
    """Who has none is refused once there are any; what a token may read and write counts; a revoked one ends."""
    with served("--set", "nats.ping.interval=300ms", nats=0) as s:
        status, _, body = s.call("POST", "/tokens", json.dumps({"name": "root", "grants": [{"access": "admin"}]}))
        assert status == 201, body
        root = {"authorization": "Bearer " + json.loads(body)["token"]}
        status, _, body = s.call("POST", "/tokens", json.dumps({"name": "n", "grants": [
            {"access": "write", "prefix": "orders"}, {"access": "read", "prefix": "orders"}]}), root)
        assert status == 201, body
        made = json.loads(body)
        assert b"-ERR 'Authorization Violation'" in Wire(s).rest()
        assert b"-ERR 'Authorization Violation'" in Wire(s, '{"auth_token":"wrong"}').rest()
        assert b"-ERR 'Authorization Violation'" in Wire(s, None).say(b"PUB a 0\r\n\r\n").rest()
        c = Wire(s, json.dumps({"verbose": False, "pedantic": False, "auth_token": made["token"]}))
        assert c.info["auth_required"] and len(c.info["nonce"]) >= 11
        assert c.answer(b"SUB orders.> 1\r\nPUB orders.a 1\r\nx\r\n") == b"MSG orders.a 1 1\r\nx\r\n"
        assert c.answer(b"SUB _INBOX.me.* 2\r\n") == b""
        assert c.answer(b"SUB > 3\r\n") == b"-ERR 'Permissions Violation for Subscription to \">\"'\r\n"
        assert c.answer(b"SUB o* 3\r\n") == b"-ERR 'Permissions Violation for Subscription to \"o*\"'\r\n"
        assert c.answer(b"PUB other 0\r\n\r\n") == b"-ERR 'Permissions Violation for Publish to \"other\"'\r\n"
        d = Wire(s, json.dumps({"verbose": False, "user": "any", "pass": made["token"]}))
        d.answer(b"PUB orders.b 1\r\ny\r\n")
        assert c.until(b"y\r\n") == b"MSG orders.b 1 1\r\ny\r\n"
        status, _, body = s.call("DELETE", "/tokens/" + made["id"], headers=root)
        assert status in (200, 204), body
        assert b"-ERR 'User Authentication Expired'" in c.rest()


def test_nats_tls():
    """nats.js over TLS, begun behind INFO and before it; without TLS nobody gets in."""
    with scratch() as d:
        cert, key = os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                        "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)
        context = ssl.create_default_context(cafile=cert)
        context.check_hostname = False
        files = ("--set", "nats.tls.cert=" + cert, "--set", "nats.tls.key=" + key)
        with served(*files, nats=0) as s:
            w = Wire(s, tls=context)
            assert w.answer(b"SUB a 1\r\nPUB a 1\r\nx\r\n") == b"MSG a 1 1\r\nx\r\n"
            with contextlib.suppress(ConnectionError):
                assert b"MSG" not in Wire(s).say(b"SUB a 1\r\nPUB a 1\r\nx\r\n").rest()
        with served(*files, "--set", "nats.tls.first=true", nats=0) as s:
            raw = context.wrap_socket(socket.create_connection(s.nats, 20))
            raw.settimeout(20)
            assert raw.recv(1 << 16).startswith(b"INFO {")


def test_nats_slow():
    """A subscriber that does not read is closed, its memory bounded; others go on, and nothing is kept of it."""
    with served("--set", "nats.write_deadline=1s", nats=0, loops=2) as s:
        slow, good, pub = Wire(s), Wire(s), Wire(s)
        slow.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.answer(b"SUB big 1\r\n")
        good.answer(b"SUB big 1\r\n")
        counted = [0]

        def count():
            while counted[0] < 400 * (1 << 18):
                counted[0] += len(good.s.recv(1 << 20))
        t = threading.Thread(target=count)
        t.start()
        body = b"PUB big %d\r\n" % (1 << 18) + b"x" * (1 << 18) + b"\r\n"
        for _ in range(400):
            pub.say(body)
        t.join(60)
        assert not t.is_alive(), counted
        wait_for(lambda: metric(s, "weir_nats_slow_consumers_total") == 1)
        assert pub.answer(b"") == b""
        rss = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/%d/status" % s.p.pid).read()).group(1))
        assert rss < 400 << 10, "%d KiB" % rss


def test_nats_pings():
    """Silent clients are asked, and closed when they do not answer."""
    with served("--set", "nats.ping.interval=200ms", nats=0) as s:
        dead, alive = Wire(s), Wire(s)
        over = threading.Event()

        def answer():
            while not over.is_set():
                alive.until(b"PING\r\n")
                alive.say(b"PONG\r\n")
        t = threading.Thread(target=answer)
        t.start()
        got = dead.rest()
        assert got.count(b"PING\r\n") == 2 and got.endswith(b"-ERR 'Stale Connection'\r\n"), got
        over.set()
        t.join(20)
        assert alive.answer(b"SUB a 1\r\nPUB a 1\r\nx\r\n").endswith(b"MSG a 1 1\r\nx\r\n")


def test_nats_hostile():
    """Endless lines, floods of subscriptions, connections that come and go: memory stays, others are served."""
    with served("--set", "nats.subscriptions.max=1000", nats=0, loops=2) as s:
        ok = Wire(s)
        ok.answer(b"SUB a 1\r\n")
        assert b"maximum control line exceeded" in Wire(s).say(b"PUB " + b"a" * 100000).rest()
        assert b"maximum subscriptions exceeded" in Wire(s).say(b"".join(b"SUB s.%d %d\r\n" % (i, i) for i in range(1001))).rest()
        deep = b".".join([b"*"] * 1500)
        d = Wire(s)
        assert d.answer(b"SUB " + deep + b" 1\r\n") == b""
        assert d.answer(b"PUB " + deep.replace(b"*", b"x") + b" 1\r\ny\r\n").endswith(b" 1 1\r\ny\r\n")
        for i in range(300):  # subscriptions that come and go beside messages to them
            w = Wire(s)
            w.say(b"SUB a %d\r\nSUB b.* %d\r\n" % (i, i + 1))
            ok.say(b"PUB a 1\r\nx\r\nPUB b.c 1\r\ny\r\n")
            if i % 2:
                w.answer(b"")
            w.close()
        assert ok.answer(b"PUB a 4\r\nlast\r\n").endswith(b"MSG a 1 4\r\nlast\r\n")
        ok.close()
        d.close()
        wait_for(lambda: metric(s, "weir_nats_connections") == 0 and metric(s, "weir_nats_subscriptions") == 0)


def test_nats_lame_duck():
    """Stopping, the server tells clients to go elsewhere."""
    with served(nats=0) as s:
        w = Wire(s, '{"verbose":false,"protocol":1}')
        w.answer(b"")
    assert b'"ldm":true' in w.rest()
