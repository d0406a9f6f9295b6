"""What the published tests of nats.py 2.9 import as tests.utils: servers for each kind of case. Here they are weir."""
import asyncio, functools, http.client, json, os, shutil, ssl, subprocess, tempfile, time, unittest

WEIR, HERE = os.environ["WEIR_BIN"], os.path.dirname(os.path.abspath(__file__))


def get_config_file(name):
    return os.path.join(HERE, name)


class NATSD:
    """weir serve where nats-server would be."""

    def __init__(self, port=4222, http_port=8222, user="", password="", token="", users=None, tls=False, tls_first=False, websocket=0,
                 with_jetstream=False, **other):
        self.dir = tempfile.mkdtemp()
        self.http_port, self.proc = http_port, None
        if user:
            users = "accounts: {G: {users: [{user: %s, password: %s}]}}" % (user, password)
        elif token:
            users = "accounts: {G: {users: [{token: %s}]}}" % token
        self.args = ["--data", self.dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:%d" % port, "--nats-monitor", "127.0.0.1:%d" % http_port]
        if users:
            open(os.path.join(self.dir, "users.yaml"), "w").write(users)
            self.set("nats.users", os.path.join(self.dir, "users.yaml"))
        if tls:
            for name, file in (("cert", "server-cert.pem"), ("key", "server-key.pem"), ("client_ca", "ca.pem")):
                self.set("nats.tls." + name, get_config_file("certs/" + file))
        if tls_first:
            self.set("nats.tls.first", "true")
        if websocket:
            self.args += ["--nats-websocket", "127.0.0.1:%d" % websocket]
        if websocket and not tls:
            self.set("nats.websocket.compression", "true")

    def set(self, name, value):
        self.args += ["--set", name + "=" + value]

    def start(self):
        self.proc = subprocess.Popen([WEIR, "serve", *self.args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()


def start_natsd(server):
    server.start()
    for _ in range(200):
        c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=5)
        try:
            c.request("GET", "/varz")
            if json.loads(c.getresponse().read())["server_id"]:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            c.close()
    raise AssertionError("no server")


def servers(*confs, **more):
    """A class of cases with these servers."""
    class Case(unittest.TestCase):
        def setUp(self):
            self.loop = asyncio.new_event_loop()
            self.server_pool = [NATSD(**c) for c in confs]
            self.natsd = self.server_pool[0]
            for s in self.server_pool:
                start_natsd(s)
            if any(c.get("tls") for c in confs):
                self.ssl_ctx = ssl.create_default_context(cafile=get_config_file("certs/ca.pem"))
                self.ssl_ctx.load_cert_chain(get_config_file("certs/client-cert.pem"), get_config_file("certs/client-key.pem"))

        def tearDown(self):
            for s in self.server_pool:
                s.stop()
                shutil.rmtree(s.dir, ignore_errors=True)
            self.loop.close()
    return Case


def not_here(why):
    @unittest.skip(why)
    class Case(unittest.TestCase):
        pass
    return Case


SingleServerTestCase = servers({})
SingleJetStreamServerTestCase = servers({"with_jetstream": True})
SingleWebSocketServerTestCase = servers({"websocket": 8080})
SingleWebSocketTLSServerTestCase = servers({"websocket": 8081, "tls": True})
TWO = ({"port": 4223, "http_port": 8223, "user": "foo", "password": "bar"}, {"port": 4224, "http_port": 8224, "user": "hoge", "password": "fuga"})
MultiServerAuthTestCase = servers(*TWO)
MultiTLSServerAuthTestCase = servers(*({**c, "tls": True} for c in TWO))
MultiServerAuthTokenTestCase = servers(*({"port": 4223 + i, "http_port": 8223 + i, "token": t} for i, t in enumerate(("token", "token", "secret"))))
TLSServerTestCase = servers({"port": 4224, "tls": True})
TLSServerHandshakeFirstTestCase = servers({"port": 4224, "tls": True, "tls_first": True})
NoAuthUserServerTestCase = servers({"port": 4555, "http_port": 8555,
                                    "users": """
no_auth_user: foo
accounts:
  G:
    users:
      - {user: foo, password: foo}
      - {user: bar, password: bar, permissions: {subscribe: {deny: foo}}}
"""})
ClusteringTestCase = ClusteringDiscoveryAuthTestCase = not_here("clusters of servers are not there")
SingleJetStreamServerLimitsTestCase = not_here("needs a configuration of nats-server's")
NkeysServerTestCase = TrustedServerTestCase = not_here("keys and tokens are not part of the package")


def async_test(case, timeout=10):
    @functools.wraps(case)
    def run(self, *args, **kw):
        return asyncio.run(asyncio.wait_for(case(self, *args, **kw), timeout))
    return run


def async_long_test(case):
    return async_test(case, 30)
