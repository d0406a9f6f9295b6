"""NATS's core protocol: what the server says byte by byte, its clients unmodified (nats.js of both generations and
nats.c always; nats.py when WEIR_CLIENTS names python or all), tokens, TLS, slow and silent clients, hostile shapes.
"""
import contextlib, json, os, re, shutil, signal, socket, ssl, subprocess, threading, time

from harness import ROOT, WEIR, Skip, alone, beside_others, metric, npm_modules, scratch, served, wait_for
from kafka_cli import free_port
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


def test_nats_quickstart():
    """The lines of docs/nats.md, as printed, with a port and a directory of their own."""
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    text = open(os.path.join(ROOT, "docs", "nats.md")).read()
    block = re.search(r"<!-- nats-quick-start -->\s*```sh\n(.*?)```", text, re.S).group(1)
    assert block.count("127.0.0.1:4222") == 2, block
    with scratch() as d:
        script = block.replace("127.0.0.1:4222", "127.0.0.1:%d" % free_port()).replace("build/weir", WEIR)
        p = subprocess.run(["bash", "-euc", "trap 'kill %1; wait %1' EXIT\n" + script], capture_output=True, cwd=d, timeout=60,
                           env=dict(os.environ, WEIR_HTTP_LISTEN="127.0.0.1:0"))
        assert b"MSG orders.new 1 5\r\nhello\r\n" in p.stdout, p.stdout + p.stderr


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
        return steps_run([exe, "nats://%s:%d" % s.nats, ""], ("pubsub", "requests", "streams", "buckets"))


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


USERS = """
no_auth_user: guest
accounts:
  SALES:
    users:
      - {user: ann, password: secret}
      - user: bob
        password: secret
        permissions:
          publish: {allow: [orders.>], deny: orders.void}
          subscribe: {allow: [orders.>, "_INBOX.>"], deny: [orders.secret.>]}
      - user: worker
        password: secret
        permissions:
          publish: {deny: ">"}
          allow_responses: {max: 1, expires: 1m}
      - {nkey: %s}
      - {token: opensesame}
  OTHER:
    users:
      - {user: eve, password: secret}
      - {user: guest, password: guest}
"""
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
NKEY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"  # of that seed, both as nkeys documents them


def logged_in(s, **how):
    return Wire(s, json.dumps({"verbose": False, "pedantic": False, "headers": True, **how}))


def test_nats_users():
    """Accounts are apart, permissions are kept, answers are allowed, files are read again."""
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        open(file, "w").write(USERS % NKEY)
        with served("--set", "nats.users=" + file, "--set", "nats.ping.interval=300ms", nats=0, loops=2) as s:
            ann, bob, eve = (logged_in(s, user=u, **{"pass": "secret"}) for u in ("ann", "bob", "eve"))
            guest, opened, worker = logged_in(s), logged_in(s, auth_token="opensesame"), logged_in(s, user="worker", **{"pass": "secret"})
            for w in (ann, eve, guest, opened):
                assert w.answer(b"SUB > 1\r\n") == b""
            ann.answer(b"PUB orders.a 1\r\nx\r\n")
            assert opened.until(b"x\r\n") == b"MSG orders.a 1 1\r\nx\r\n"
            eve.answer(b"PUB mine 1\r\ny\r\n")
            assert guest.until(b"y\r\n") == b"MSG mine 1 1\r\ny\r\n"
            assert ann.answer(b"") == b"", "another account's message"
            # permissions
            assert bob.answer(b"SUB > 1\r\n").startswith(b"-ERR 'Permissions Violation for Subscription")
            assert bob.answer(b"SUB orders.secret.a 1\r\n").startswith(b"-ERR 'Permissions Violation for Subscription")
            assert bob.answer(b"SUB orders.> 1\r\n") == b""
            assert bob.answer(b"PUB orders.void 0\r\n\r\n") == b"-ERR 'Permissions Violation for Publish to \"orders.void\"'\r\n"
            assert bob.answer(b"PUB orders.b 1\r\nz\r\n") == b"MSG orders.b 1 1\r\nz\r\n"
            ann.answer(b"PUB orders.secret.k 1\r\ns\r\nPUB orders.c 1\r\nt\r\n")
            assert bob.until(b"t\r\n") == b"MSG orders.c 1 1\r\nt\r\n", "what is denied is left out of a pattern"
            # answers
            worker.answer(b"SUB work q 1\r\n")
            ann.answer(b"PUB work re.1 1\r\nw\r\n")
            assert worker.until(b"w\r\n") == b"MSG work 1 re.1 1\r\nw\r\n"
            assert worker.answer(b"PUB re.1 1\r\nk\r\n") == b"", "its answer"
            assert b"MSG re.1 1 1\r\nk\r\n" in ann.until(b"k\r\n")
            assert b"Permissions Violation" in worker.answer(b"PUB re.1 1\r\nk\r\nPUB other 1\r\nk\r\n")
            # refused
            for how in ({"user": "ann", "pass": "wrong"}, {"user": "none", "pass": "x"}, {"auth_token": "x"}, {"nkey": NKEY, "sig": "AAAA"}):
                assert b"-ERR 'Authorization Violation'" in logged_in(s, **how).rest(), how
            # read again
            open(file, "w").write("accounts:\n  SALES:\n    users:\n      - {usr: ann}\n")
            s.p.send_signal(signal.SIGHUP)
            wait_for(lambda: "line 4: only user, password" in s.tail())
            assert ann.answer(b"SUB again 5\r\n").endswith(b"")
            open(file, "w").write("accounts:\n  SALES:\n    users:\n      - {user: bob, password: secret}\n")
            s.p.send_signal(signal.SIGHUP)
            assert b"-ERR 'User Authentication Expired'" in ann.rest()
            wait_for(lambda: b"PONG" in bob.answer(b"PUB orders.void 0\r\n\r\n") + b"PONG" and
                     b"Permissions" not in bob.answer(b"PUB orders.void 0\r\n\r\n"))


@beside_others
def test_nats_nkey():
    """nats.js signs in with a key."""
    need_node()
    modules = npm_modules()
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        open(file, "w").write(USERS % NKEY)
        with served("--set", "nats.users=" + file, nats=0) as s:
            code = """
                const {connect, nkeyAuthenticator} = require('@nats-io/transport-node');
                connect({servers: '%s:%d', authenticator: nkeyAuthenticator(new TextEncoder().encode('%s'))}).then(async c => {
                    const s = c.subscribe('k', {max: 1});
                    c.publish('k', 'v');
                    for await (const m of s) console.log(m.string());
                    await c.close();
                });""" % (*s.nats, SEED)
            p = subprocess.run(["node", "-e", code], capture_output=True, timeout=60, env=dict(os.environ, NODE_PATH=modules))
            assert p.stdout == b"v\n", p.stderr.decode()


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
