"""What the system tests share: servers on data directories, the command line, scratch folders.

Every server gets its port from the kernel, listens on loopback only, and is stopped by its pid.
"""
import contextlib, functools, http.client, json, os, re, shutil, signal, subprocess, tempfile, threading, time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
WEIR = os.environ.get("WEIR_BIN", os.path.join(ROOT, "build", "weir"))
BUILD = os.path.dirname(os.path.abspath(WEIR))


class Skip(Exception):
    pass


started = []  # (data, process) of every server: scratch stops those that a failed test leaves running


class Server:
    """weir serve on a directory; .port, .url, with kafka=PORT (0: any) .kafka, with pgwire=PORT .pgwire (a
    port), with nats=PORT .nats (host and port); loops=N; env= besides the usual; stop() or kill()."""

    def __init__(self, data, *args, expect_fail=False, kafka=None, pgwire=None, nats=None, loops=None, env=None):
        self.data = data
        self.kafka = self.pgwire = self.nats = None
        if loops is not None:
            args = ("--set", "loops=%d" % loops, *args)
        if nats is not None:
            args = ("--nats", "127.0.0.1:%d" % nats, *args)
        if pgwire is not None:
            args = ("--pgwire", "127.0.0.1:%d" % pgwire, *args)
        if kafka is not None:
            args = ("--kafka", "127.0.0.1:%d" % kafka, *args)
        self.log = open(data + ".log", "ab")
        self.p = subprocess.Popen(
            [WEIR, "serve", "--data", data, "--http", "127.0.0.1:0", *args],
            stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
        started.append((os.path.abspath(data), self.p))
        line = self.p.stdout.readline().decode()
        m = re.match(r"http listening on (https?)://127\.0\.0\.1:(\d+)$", line.strip())
        if not m:
            self.p.wait(10)
            if expect_fail:
                self.port = None
                return
            raise AssertionError("server did not start: %r\n%s" % (line, self.tail()))
        self.port = int(m.group(2))
        self.url = "%s://127.0.0.1:%d" % (m.group(1), self.port)
        if kafka is not None:
            line = self.p.stdout.readline().decode()
            m = re.match(r"kafka listening on (?:ssl://)?127\.0\.0\.1:(\d+)$", line.strip())
            assert m, "no kafka: %r\n%s" % (line, self.tail())
            self.kafka = "127.0.0.1:" + m.group(1)
        if pgwire is not None:
            line = self.p.stdout.readline().decode()
            m = re.match(r"pgwire listening on 127\.0\.0\.1:(\d+)$", line.strip())
            assert m, "no pgwire: %r\n%s" % (line, self.tail())
            self.pgwire = int(m.group(1))
        if nats is not None:
            line = self.p.stdout.readline().decode()
            m = re.match(r"nats listening on nats://127\.0\.0\.1:(\d+)$", line.strip())
            assert m, "no nats: %r\n%s" % (line, self.tail())
            self.nats = ("127.0.0.1", int(m.group(1)))

    def tail(self):
        with open(self.data + ".log", "rb") as f:
            return f.read()[-3000:].decode(errors="replace")

    def kill(self):
        self.p.send_signal(signal.SIGKILL)
        self.p.wait()
        self.p.stdout.close()
        self.log.close()

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        try:
            rc = self.p.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop\n" + self.tail())
        self.p.stdout.close()
        self.log.close()
        assert rc == 0, "exit status %d\n%s" % (rc, self.tail())

    def rss_kb(self):
        with open("/proc/%d/status" % self.p.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def call(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            h = {"content-type": "application/json"} if body is not None else {}
            h.update(headers or {})
            c.request(method, path, body, h)
            r = c.getresponse()
            data = r.read()
            return r.status, dict((k.lower(), v) for k, v in r.getheaders()), data
        finally:
            c.close()

    def pages(self, stream, limit=1000, after=None):
        while True:
            path = "/events?stream=%s&limit=%d%s" % (stream, limit, "&after=" + after if after else "")
            status, _, body = self.call("GET", path)
            assert status == 200, body
            page = json.loads(body)
            yield from page["events"]
            if not page["events"] or page.get("next") == after:
                return
            after = page["next"]


@contextlib.contextmanager
def scratch():
    d = tempfile.mkdtemp(prefix="weir-test-")
    try:
        yield d
    finally:
        for data, p in started:
            if data.startswith(d + os.sep) and p.poll() is None:
                p.kill()
                p.wait()
        shutil.rmtree(d, ignore_errors=True)


@contextlib.contextmanager
def served(*args, **kw):
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *args, **kw)
        try:
            yield s
        except BaseException:
            s.kill()
            print(s.tail())
            raise
        s.stop()


def weir(*args, server=None, stdin=None, ok=True, env=None):
    e = dict(os.environ, **(env or {}))
    if server:
        e["WEIR_SERVER"] = server.url
    p = subprocess.run([WEIR, *args], input=stdin, capture_output=True, env=e, timeout=600)
    if ok:
        assert p.returncode == 0, "weir %s: %d\n%s%s" % (args, p.returncode, p.stdout.decode(), p.stderr.decode())
    return p


def wait_for(what, seconds=60):
    """Until what() gives something; that."""
    end = time.time() + seconds
    while time.time() < end:
        got = what()
        if got:
            return got
        time.sleep(0.05)
    raise AssertionError("it did not come to be in %d s" % seconds)


def metric(server, name):
    text = server.call("GET", "/metrics")[2].decode()
    return float(re.search(r"^%s (\S+)$" % re.escape(name), text, re.M).group(1))


def alone(f):
    """One thread at a time: for what is installed once."""
    lock = threading.Lock()

    @functools.wraps(f)
    def locked(*args, **kw):
        with lock:
            return f(*args, **kw)
    return locked


def beside_others(test):
    """A test that mostly waits: run.py runs some of them at the same time."""
    test.beside_others = True
    return test


# Node's arguments for a program that wants a WebSocket; npm_modules comes first.
WEBSOCKET = ("-r", os.path.join(ROOT, "tests", "system", "websocket.cjs"))


@alone
def npm_modules():
    """tests/system/node_modules, installed as package-lock.json says."""
    here = os.path.join(ROOT, "tests", "system")
    lock = os.path.join(here, "package-lock.json")
    modules = os.path.join(here, "node_modules")
    done = os.path.join(modules, ".package-lock.json")
    if os.path.exists(done) and os.path.getmtime(done) >= os.path.getmtime(lock):
        return modules
    if not shutil.which("npm"):
        raise Skip("npm is not installed")
    p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=here,
                       capture_output=True, timeout=300)
    if p.returncode or not os.path.exists(done):
        raise Skip("npm could not install tests/system/package.json: " + p.stderr.decode()[-300:])
    return modules
