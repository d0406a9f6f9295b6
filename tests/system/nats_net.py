"""What is around NATS's protocol: WebSockets, monitoring, accounts with keys, exports. Clients unmodified where
there are any, by hand where they are hostile.
"""
import http.client, json, os, random, shutil, signal, socket, struct, subprocess, threading, time, zlib

from harness import WEBSOCKET, WEIR, Server, Skip, beside_others, metric, npm_modules, scratch, served, wait_for
from kafka_clients import download, downloads, need_node, steps_run
from nats_core import HERE, NODE_STEPS, Wire
from nats.nkeys import Key, b64


def address(server, what):
    """Where the server says, in its next line, that it listens."""
    line = server.p.stdout.readline().decode()
    assert line.startswith(what + " listening on "), line
    host, port = line.strip().split("://")[1].rsplit(":", 1)
    return host, int(port)


# ---- WebSockets ----------------------------------------------------------------------------------------

class Socket:
    """A WebSocket spoken by hand."""

    def __init__(self, at, headers="", path="/", expect=101):
        self.s = socket.create_connection(at, 20)
        self.s.settimeout(20)
        self.s.sendall(("GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n" % (path, *at, headers)).encode())
        self.got = self.text = b""
        while b"\r\n\r\n" not in self.got:
            more = self.s.recv(1 << 16)
            assert more, self.got
            self.got += more
        self.head, self.got = self.got.split(b"\r\n\r\n", 1)
        assert int(self.head.split()[1]) == expect, self.head

    def frame(self, first, body=b"", mask=b"\x12\x34\x56\x78"):
        n = len(body)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n)
        key = (mask * (n // 4 + 1))[:n]
        masked = (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")
        self.s.sendall(bytes([first]) + size + mask + masked)
        return self

    def take(self, n):
        while len(self.got) < n:
            more = self.s.recv(1 << 16)
            assert more, "closed"
            self.got += more
        out, self.got = self.got[:n], self.got[n:]
        return out

    def read(self):
        """The next frame: its first byte, its payload."""
        first, n = self.take(2)
        if n > 125:
            n = int.from_bytes(self.take(2 if n == 126 else 8), "big")
        body = self.take(n)
        if first == 0xc2:
            body = zlib.decompressobj(-15).decompress(body + b"\0\0\xff\xff")
        return first, body

    def until(self, end):
        while end not in self.text:
            first, body = self.read()
            assert first in (0x82, 0xc2), (first, body, self.text[-100:])
            self.text += body
        at = self.text.index(end) + len(end)
        out, self.text = self.text[:at], self.text[at:]
        return out

    def answer(self, what):
        return self.frame(0x82, what + b"PING\r\n").until(b"PONG\r\n")[:-6]

    def code(self):
        """The close frame's, with what was said before it."""
        said = self.text
        while True:
            first, body = self.read()
            if first == 0x88:
                return struct.unpack(">H", body[:2])[0], said
            said += body


CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def test_nats_ws_frames():
    """Lines cut anywhere, frames of all kinds, both ways of compressing, what breaks the rules."""
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.compression=true", nats=0, loops=2) as s:
        at = address(s, "nats websocket")
        w, plain = Socket(at), Wire(s)
        info = json.loads(w.until(b"\r\n")[5:])
        assert info["max_payload"] == 1 << 20 and b"xtensions" not in w.head
        w.frame(0x82, CONNECT)
        assert w.answer(b"SUB a 1\r\nSUB big.> 2\r\n") == b""
        line = b"PUB a 5\r\nhello\r\n"
        for cut in range(len(line)):  # two frames, then two fragments with a ping between
            w.frame(0x82, line[:cut])
            assert w.answer(line[cut:]) == b"MSG a 1 5\r\nhello\r\n"
            w.frame(0x02, line[:cut]).frame(0x89, b"p")
            assert w.read() == (0x8a, b"p")
            w.frame(0x80, line[cut:])
            assert w.until(b"hello\r\n") == b"MSG a 1 5\r\nhello\r\n"
        plain.answer(b"PUB a 2\r\nhi\r\n")
        assert w.until(b"hi\r\n") == b"MSG a 1 2\r\nhi\r\n"
        assert w.frame(0x81, b"PUB a 4\r\ntext\r\n").until(b"text\r\n") == b"MSG a 1 4\r\ntext\r\n"
        body = random.Random(1).randbytes(1 << 20)
        w.frame(0x82, b"PUB big.a 1048576\r\n" + body + b"\r\n")
        assert w.until(body + b"\r\n") == b"MSG big.a 2 1048576\r\n" + body + b"\r\n"
        # compressed
        z = Socket(at, OFFER)
        assert b"permessage-deflate; server_no_context_takeover; client_no_context_takeover" in z.head
        z.until(b"\r\n")
        z.frame(0x82, CONNECT).answer(b"SUB z 1\r\n")
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = pack.compress(b"PUB z 1000000\r\n" + b"x" * 1000000 + b"\r\n") + pack.flush(zlib.Z_SYNC_FLUSH)
        assert packed.endswith(b"\0\0\xff\xff") and len(packed) < 2000
        z.frame(0x42, packed[:7]).frame(0x00, packed[7:99]).frame(0x80, packed[99:-4])
        assert z.until(b"x\r\n") == b"MSG z 1 1000000\r\n" + b"x" * 1000000 + b"\r\n"
        # the ends
        for first, body, code, said in (
                (0x82, b"GET / HTTP/1.1\r\n", 1002, b"-ERR 'Unknown Protocol Operation'\r\n"),
                (0x82, b"PUB a 1048577\r\n", 1009, b"-ERR 'Maximum Payload Violation'\r\n"),
                (0x82, b"PUB " + b"a" * 5000, 1008, b"-ERR 'maximum control line exceeded'\r\n"),
                (0x88, b"\x03\xe8", 1000, b""), (0x83, b"", 1002, b""), (0xc2, b"x", 1002, b"")):
            b = Socket(at)
            b.until(b"\r\n")
            assert b.frame(first, body).code() == (code, said), (first, body[:20])
        unmasked = Socket(at)
        unmasked.until(b"\r\n")
        unmasked.s.sendall(b"\x82\x06PING\r\n")
        assert unmasked.code()[0] == 1002
        wait_for(lambda: metric(s, "weir_nats_connections") == 3)


def test_nats_ws_bombs():
    """What inflates to much more than it is ends its connection; the memory stays."""
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.compression=true", nats=0) as s:
        at = address(s, "nats websocket")
        ok = Wire(s)
        before = s.rss_kb()
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join(pack.compress(b"PING\r\n" * (1 << 18)) for _ in range(64)) + pack.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 1 << 20
        for _ in range(4):
            b = Socket(at, OFFER)
            b.until(b"\r\n")
            b.frame(0xc2, bomb[:-4])
            assert b.code()[0] == 1009
        for bad in (b"\xff" * 50, bomb[5:500]):
            b = Socket(at, OFFER)
            b.until(b"\r\n")
            assert b.frame(0xc2, bad).code()[0] == 1007
        for _ in range(20):  # half a message each, left there
            Socket(at, OFFER).frame(0x42, bomb[:1000])
        assert ok.answer(b"SUB a 1\r\nPUB a 1\r\nx\r\n") == b"MSG a 1 1\r\nx\r\n"
        assert s.rss_kb() - before < 100 << 10, s.rss_kb() - before


def test_nats_ws_origins():
    """Pages of others are kept out, programs and the host's own pages are not; what is no upgrade is told so."""
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.origins=same", nats=0) as s:
        at = address(s, "nats websocket")
        for origin, expect in (("", 101), ("Origin: http://127.0.0.1:%d\r\n" % at[1], 101), ("Origin: https://127.0.0.1:%d\r\n" % at[1], 403),
                               ("Origin: http://127.0.0.1\r\n", 403), ("Origin: null\r\n", 403)):
            Socket(at, origin, expect=expect)
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.origins=https://a.example, http://b.example:81", nats=0) as s:
        at = address(s, "nats websocket")
        for origin, expect in (("https://a.example", 101), ("https://A.example:443", 101), ("http://a.example", 403),
                               ("http://b.example:81", 101), ("http://b.example", 403), ("https://a.example.evil", 403)):
            Socket(at, "Origin: %s\r\n" % origin, expect=expect)
        p = socket.create_connection(at, 20)
        p.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert p.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def test_nats_ws_lame_duck():
    """A client in a WebSocket is told that the server goes, too."""
    with served("--nats-websocket", "127.0.0.1:0", nats=0) as s:
        w = Socket(address(s, "nats websocket"))
        w.until(b"\r\n")
        assert w.frame(0x82, b'CONNECT {"verbose":false,"protocol":1}\r\n').answer(b"") == b""
    code, said = w.code()
    assert code == 1001 and b'"ldm":true' in said, (code, said)


@beside_others
def test_nats_http():
    """At /nats of HTTP's port there is NATS, beside all else; the host's own pages and programs come in, and clients are told that it goes."""
    need_node()
    npm_modules()
    with served("--set", "nats.http=true", loops=2) as s:
        at = ("127.0.0.1", s.port)
        for origin, expect in (("http://127.0.0.1:%d" % s.port, 101), ("http://evil.example", 403)):
            Socket(at, "Origin: %s\r\n" % origin, "/nats", expect)
        assert s.call("GET", "/nats")[0] == 400
        assert s.call("GET", "/nats/x")[0] == 404
        steps = steps_run(["node", "--no-warnings", *WEBSOCKET, os.path.join(HERE, "core.mjs"), "@nats-io/nats-core", "ws://%s:%d/nats" % at], NODE_STEPS)
        w = Socket(at, path="/nats")
        w.until(b"\r\n")
        assert w.frame(0x82, b'CONNECT {"verbose":false,"protocol":1}\r\nSUB orders.* 1\r\n').answer(b"") == b""
        assert s.call("POST", "/events", json.dumps([{"type": "order.created", "stream": "orders:k", "data": {}}]))[0] in (200, 201)
        assert w.until(b"\r\n").split()[:2] == [b"MSG", b"orders.k"]
        w.until(b"\r\n")
    code, said = w.code()
    assert code == 1001 and b'"ldm":true' in said, (code, said)
    return steps


@beside_others
def test_nats_ws_js():
    """nats.js' wsconnect, on node's own WebSocket or ws."""
    need_node()
    npm_modules()
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.compression=true", nats=0, loops=2) as s:
        return steps_run(["node", "--no-warnings", *WEBSOCKET, os.path.join(HERE, "core.mjs"), "@nats-io/nats-core",
                          "ws://%s:%d" % address(s, "nats websocket")], NODE_STEPS)


@beside_others
def test_nats_ws_js_2():
    """The WebSocket package of nats.js' second generation."""
    need_node()
    d = os.path.join(downloads("node"), "nats.ws")
    os.makedirs(os.path.join(d, "node_modules"), exist_ok=True)
    wanted = os.path.join(HERE, "core.mjs")
    download("nats.ws", ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", d, "nats.ws@1.30.3"],
             os.path.join(d, "installed"), wanted)
    for name in ("core.mjs",):
        os.makedirs(os.path.join(d, "nats"), exist_ok=True)
        shutil.copy(os.path.join(HERE, name), os.path.join(d, "nats"))
    shutil.copytree(os.path.join(HERE, "..", "kafka"), os.path.join(d, "kafka"), dirs_exist_ok=True)
    with served("--nats-websocket", "127.0.0.1:0", nats=0, loops=2) as s:
        return steps_run(["node", "--no-warnings", *WEBSOCKET, os.path.join(d, "nats", "core.mjs"), "nats.ws",
                          "ws://%s:%d" % address(s, "nats websocket")], NODE_STEPS)


@beside_others
def test_nats_ws_browser():
    """nats.js in headless Chromium, which compresses: publish, request, a queue, 500,000 bytes there and back."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise Skip("chromium is not installed")
    need_node()
    modules = npm_modules()
    with served("--nats-websocket", "127.0.0.1:0", "--set", "nats.websocket.compression=true", nats=0, loops=2) as s:
        at = address(s, "nats websocket")
        other = Wire(s)
        other.answer(b"SUB to.native 1\r\n")
        p = subprocess.run(["node", os.path.join(HERE, "browser.mjs"), chromium, modules, "ws://%s:%d" % at],
                           capture_output=True, timeout=120)
        assert p.returncode == 0, p.stderr.decode()[-2000:]
        got = json.loads(p.stdout)
        assert got == {"messages": ["one", "two"], "header": "v", "reply": "re:x", "big": 500000, "none": 503}, got
        assert other.until(b"hi\r\n") == b"MSG to.native 1 2\r\nhi\r\n"


# ---- monitoring ----------------------------------------------------------------------------------------

# What nats-server's JSON always has (server/monitor.go, server/events.go: members without omitempty).
ALWAYS = {
    "/varz": """server_id server_name version proto go host port max_connections ping_interval ping_max http_host http_port http_base_path
        https_port auth_timeout max_control_line max_payload max_pending tls_timeout write_deadline start now uptime mem cores gomaxprocs
        cpu connections total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs in_client_bytes out_msgs out_bytes
        out_client_msgs out_client_bytes slow_consumers stale_connections stalled_clients subscriptions http_req_stats config_load_time
        config_digest slow_consumer_stats""",
    "/connz": "server_id now num_connections total offset limit connections",
    "/subsz": """server_id now num_subscriptions num_cache num_inserts num_removes num_matches cache_hit_rate max_fanout avg_fanout total
        offset limit""",
    "/routez": "server_id server_name now num_routes routes",
    "/gatewayz": "server_id now outbound_gateways inbound_gateways",
    "/leafz": "server_id now leafnodes leafs",
    "/accountz": "server_id now accounts",
    "/accstatz": "server_id now account_statz",
    "/jsz": """server_id now memory storage reserved_memory reserved_storage accounts ha_assets api config streams consumers messages bytes
        total""",
    "/healthz": "status",
}
CONN = """cid kind type ip port start last_activity uptime idle pending_bytes in_msgs out_msgs in_bytes out_bytes subscriptions name lang
    version rtt"""


def asker(at):
    def ask(path, status=200):
        c = http.client.HTTPConnection(*at, timeout=30)
        try:
            c.request("GET", path)
            r = c.getresponse()
            body = r.read()
            assert r.status == status, (path, r.status, body)
            return json.loads(body) if r.getheader("content-type") == "application/json" else body.decode()
        finally:
            c.close()
    return ask


def named(s, name, **more):
    return Wire(s, json.dumps({"verbose": False, "pedantic": False, "headers": True, "name": name, "lang": "py", "version": "1.2", **more}))


def test_nats_monitor():
    """Every page has what nats-server's has; connections, subscriptions and counts are as they are."""
    with served("--nats-monitor", "127.0.0.1:0", nats=0, loops=2) as s:
        ask = asker(address(s, "nats monitor"))
        for path, members in ALWAYS.items():
            assert set(members.split()) <= set(ask(path)), (path, set(members.split()) - set(ask(path)))
        assert "<a href=\"./varz\">" in ask("/")
        ask("/nosuch", 404)
        a, b = named(s, "one"), named(s, "two")
        a.answer(b"SUB foo.* 1\r\nSUB bar q 2\r\nUNSUB 2 5\r\n")
        for i in range(3):
            b.answer(b"PUB foo.a 10\r\n0123456789\r\n")
        a.answer(b"")
        v = ask("/varz")
        assert (v["in_msgs"], v["in_bytes"], v["out_msgs"], v["out_bytes"], v["subscriptions"], v["connections"]) == (3, 30, 3, 30, 2, 2), v
        assert v["total_connections"] == 2 and v["port"] == s.nats[1] and v["mem"] > 1 << 20 and v["http_req_stats"]["/varz"] >= 2, v
        conns = ask("/connz")
        assert (conns["num_connections"], conns["total"], conns["offset"], conns["limit"]) == (2, 2, 0, 1024)
        one, two = conns["connections"]
        assert set(CONN.split()) <= set(one), set(CONN.split()) - set(one)
        assert (one["cid"], one["name"], one["lang"], one["version"], one["subscriptions"], one["out_msgs"], one["out_bytes"]) == \
            (1, "one", "py", "1.2", 2, 3, 30), one
        assert (two["name"], two["in_msgs"], two["in_bytes"], two["port"]) == ("two", 3, 30, b.s.getsockname()[1])
        # what is asked for
        cids = lambda path: [c["cid"] for c in ask(path)["connections"]]
        assert cids("/connz?sort=msgs_from") == cids("/connz?sort=bytes_from") == [2, 1]
        assert cids("/connz?sort=msgs_to&limit=1") == cids("/connz?sort=subs&limit=1") == [1]
        assert cids("/connz?offset=1") == [2] and cids("/connz?offset=7") == [] and cids("/connz?cid=2") == [2]
        for sort in ("cid", "start", "pending", "bytes_to", "last", "idle", "uptime", "rtt"):
            assert sorted(cids("/connz?sort=" + sort)) == [1, 2], sort
        assert cids("/connz?acc=%24G&filter_subject=foo.a") == [1] and cids("/connz?acc=X") == []
        assert sorted(ask("/connz?subs=1")["connections"][0]["subscriptions_list"]) == ["bar", "foo.*"]
        detail = {d["sid"]: d for d in ask("/connz?subs=detail")["connections"][0]["subscriptions_list_detail"]}
        assert detail["1"]["msgs"] == 3 and detail["2"] == {"account": "$G", "subject": "bar", "qgroup": "q", "sid": "2", "msgs": 0, "max": 5, "cid": 1}
        assert ask("/connz?auth=1")["connections"][0]["account"] == "$G"
        for wrong in ("/connz?sort=x", "/connz?limit=x", "/connz?auth=maybe", "/connz?state=x", "/connz?cid=-1", "/connz?sort=stop",
                      "/connz?filter_subject=a..b", "/subsz?test=a.*", "/subsz?subs=7", "/connz?user=x"):
            ask(wrong, 400)
        subs = ask("/subsz?subs=1")
        assert subs["num_subscriptions"] == subs["total"] == 2 and {x["subject"] for x in subs["subscriptions_list"]} == {"foo.*", "bar"}
        assert [x["subject"] for x in ask("/subsz?subs=1&test=foo.x")["subscriptions_list"]] == ["foo.*"]
        assert len(ask("/subsz?subs=1&limit=1&offset=1")["subscriptions_list"]) == 1
        assert ask("/accountz")["accounts"][0] == "$G"
        assert ask("/accountz?acc=%24G")["account_detail"]["client_connections"] == 2
        js = ask("/jsz?streams=1")
        assert (js["accounts"], js["streams"], js["account_details"][0]["stream_detail"]) == (1, 0, []) and "disabled" not in js, js
        a.answer(b'PUB $JS.API.STREAM.CREATE.S 45\r\n{"name":"S","subjects":["s"],"max_bytes":900}\r\n'
                 b'PUB $JS.API.CONSUMER.CREATE.S.C 49\r\n{"stream_name":"S","config":{"durable_name":"C"}}\r\n')
        wait_for(lambda: ask("/jsz")["consumers"] == 1)
        a.answer(b"PUB s 2\r\nhi\r\n")
        wait_for(lambda: ask("/jsz")["messages"] == 1)
        js = ask("/jsz?acc=%24G&streams=1")
        stream = js["account_details"][0]["stream_detail"][0]
        assert (js["streams"], js["storage"], js["reserved_storage"], js["memory"]) == (1, js["bytes"], 900, 0) and js["bytes"] > 2, js
        assert stream["name"] == "S" and (stream["state"]["messages"], stream["state"]["last_seq"], stream["state"]["consumer_count"]) == (1, 1, 1), js
        assert not {"config", "consumer_detail", "ts"} & set(stream), stream
        stream = ask("/jsz?consumers=1&config=true")["account_details"][0]["stream_detail"][0]
        assert (stream["config"]["max_bytes"], stream["state"]["num_subjects"], len(stream["consumer_detail"])) == (900, 1, 1), stream
        consumer = stream["consumer_detail"][0]
        assert (consumer["name"], consumer["stream_name"], consumer["num_pending"], consumer["config"]["durable_name"]) == ("C", "S", 1, "C")
        assert "config" not in ask("/jsz?consumers=1")["account_details"][0]["stream_detail"][0]["consumer_detail"][0]
        assert ask("/jsz?accounts=1&offset=1")["account_details"] == [] and "stream_detail" not in ask("/jsz?accounts=1")["account_details"][0]
        ask("/jsz?config=maybe", 400)
        assert js["api"]["level"] == ask("/varz")["jetstream"]["stats"]["api"]["level"] == js["account_details"][0]["api"]["level"] > 0
        assert js["account_details"][0]["api"]["total"] >= 2 and ask("/jsz?acc=X")["streams"] == 0
        assert ask("/accountz?acc=%24G")["account_detail"]["jetstream_enabled"] and ask("/varz")["jetstream"]["stats"]["storage"] == js["bytes"]
        stat = ask("/accstatz")["account_statz"][0]
        assert (stat["acc"], stat["conns"], stat["num_subscriptions"], stat["received"]["msgs"]) == ("$G", 2, 2, 6), stat
        # who has gone
        a.say(b"nonsense\r\n").rest()
        b.close()
        wait_for(lambda: ask("/connz?state=closed")["total"] == 2)
        closed = ask("/connz?state=closed&sort=stop&auth=1&subs=1")["connections"]
        assert {(c["name"], c["reason"]) for c in closed} == {("one", "Parse Error"), ("two", "Client Closed")}, closed
        assert all(c["account"] == "$G" and "stop" in c for c in closed)
        c = named(s, "three")
        c.answer(b"")
        assert ask("/connz?state=all")["total"] == 3 and ask("/connz")["total"] == 1
        assert ask("/accstatz")["account_statz"][0]["received"]["msgs"] == 6
        ask("/connz?sort=reason&state=closed")


def test_nats_monitor_busy():
    """Asked by many while connections come and go: answers stay whole, and there is an end to what is asked at a time."""
    with served("--nats-monitor", "127.0.0.1:0", nats=0, loops=2) as s:
        ask = asker(address(s, "nats monitor"))
        over, seen, failed = threading.Event(), [0], []

        def go():
            try:
                while not over.is_set():
                    for path in ("/connz?subs=detail&state=all&auth=1", "/subsz?subs=1", "/accstatz", "/varz"):
                        ask(path)
                        seen[0] += 1
            except Exception as e:
                failed.append(e)
        threads = [threading.Thread(target=go) for _ in range(3)]
        for t in threads:
            t.start()
        for i in range(150):
            w = named(s, "w%d" % i)
            w.say(b"".join(b"SUB s.%d.%d %d\r\n" % (i, k, k) for k in range(20)) + b"PUB s.%d.1 1\r\nx\r\n" % i)
            if i % 3:
                w.answer(b"")
            w.close()
        over.set()
        for t in threads:
            t.join(60)
        assert not failed and seen[0] > 8, (failed, seen)
        wait_for(lambda: ask("/connz")["total"] == 0 and ask("/varz")["subscriptions"] == 0)
        closed = ask("/connz?state=closed&limit=1000")
        assert closed["total"] == 150 == len(closed["connections"])


# ---- the system account --------------------------------------------------------------------------------

SYSTEM = """
system_account: SYS
accounts:
  SYS:
    users: [{user: admin, password: secret}]
  SALES:
    users:
      - user: ann
        password: secret
        permissions: {publish: {allow: [orders.>, "$SYS.REQ.USER.INFO"], deny: orders.x}, allow_responses: {max: 2, expires: 1m}}
      - {user: bob, password: secret}
"""


def request(w, subject, body=b""):
    """The answer's JSON."""
    w.say(b"SUB _INBOX.r 900\r\nUNSUB 900 1\r\nPUB %s _INBOX.r %d\r\n%s\r\n" % (subject.encode(), len(body), body))
    return delivered(w)[1]


def delivered(w):
    """The next message: its subject, its JSON."""
    head = w.until(b"\r\n").split()
    while head[0] != b"MSG":
        assert head[0] in (b"PONG", b"+OK"), head
        head = w.until(b"\r\n").split()
    n = int(head[-1])
    while len(w.got) < n + 2:
        w.got += w.s.recv(1 << 16)
    body, w.got = w.got[:n], w.got[n + 2:]
    return head[1].decode(), json.loads(body)


def test_nats_system():
    """Who am I; who comes and goes; the server's figures by message; of all that others see nothing."""
    with served(nats=0) as s:
        me = request(named(s, "anybody"), "$SYS.REQ.USER.INFO")
        assert me["data"] == {"user": "", "account": "$G", "account_name": "$G"} and len(me["server"]["id"]) == 56, me
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        open(file, "w").write(SYSTEM)
        with served("--set", "nats.users=" + file, nats=0, loops=2) as s:
            admin = named(s, "admin", user="admin", **{"pass": "secret"})
            admin.answer(b"SUB $SYS.ACCOUNT.*.* 1\r\n")
            ann = named(s, "ann", user="ann", **{"pass": "secret"})
            subject, e = delivered(admin)
            assert subject == "$SYS.ACCOUNT.SALES.CONNECT" and e["type"] == "io.nats.server.advisory.v1.client_connect", (subject, e)
            c = e["client"]
            assert (c["name"], c["acc"], c["user"], c["lang"], c["ver"], c["kind"]) == ("ann", "SALES", "ann", "py", "1.2", "Client"), c
            me = request(ann, "$SYS.REQ.USER.INFO")["data"]
            assert me == {"user": "ann", "account": "SALES", "account_name": "SALES", "permissions": {
                "publish": {"allow": ["orders.>", "$SYS.REQ.USER.INFO"], "deny": ["orders.x"]}, "subscribe": {},
                "responses": {"max": 2, "ttl": 60000000000}}}, me
            ann.answer(b"PUB orders.a 3\r\nabc\r\nSUB $SYS.> 5\r\n")
            for what, member in (("PING", "statsz"), ("PING.STATSZ", "statsz"), ("PING.IDZ", "id"), ("PING.VARZ", "data"),
                                 ("PING.HEALTHZ", "data"), (e["server"]["id"] + ".VARZ", "data")):
                got = request(admin, "$SYS.REQ.SERVER." + what)
                assert member in got, (what, got)
            assert got["data"]["connections"] == 2 and got["data"]["system_account"] == "SYS"

            def ask(what, options="", who=admin):
                return request(who, "$SYS.REQ." + what, options.encode())

            # pages of monitoring, with their options
            got = ask("SERVER.PING.CONNZ", '{"sort": "cid", "auth": true, "subscriptions": true, "limit": 1, "offset": 1}')["data"]
            assert got["total"] == 2 and [(k["authorized_user"], k["account"], k["subscriptions_list"]) for k in got["connections"]] == [("ann", "SALES", ["$SYS.>"])], got
            got = ask("SERVER.PING.CONNZ", '{"acc": "SYS", "state": 2, "auth": true}')["data"]
            assert {k["account"] for k in got["connections"]} == {"SYS"}, got
            got = ask("SERVER.PING.CONNZ", '{"sort": "colour"}')
            assert got["error"]["code"] == 400 and "data" not in got, got
            assert ask("SERVER.PING.CONNZ", "{")["error"]["code"] == 400
            assert ask("SERVER.PING.SUBSZ", '{"subscriptions": true, "account": "SALES"}')["data"]["subscriptions_list"][0]["subject"] == "$SYS.>"
            assert set(ask("SERVER.PING.ACCOUNTZ")["data"]["accounts"]) >= {"SYS", "SALES"}
            assert ask("SERVER.PING.ACCOUNTZ", '{"account": "SALES"}')["data"]["account_detail"]["client_connections"] == 1
            assert {"SYS", "SALES"} <= {d["name"] for d in ask("SERVER.PING.JSZ", '{"accounts": true}')["data"]["account_details"]}
            # of one account
            assert [k["name"] for k in ask("ACCOUNT.SALES.CONNZ")["data"]["connections"]] == ["ann"]
            assert {k["acc"] for k in ask("ACCOUNT.PING.STATZ")["data"]["account_statz"]} == {"SYS", "SALES"}
            # what every account may ask of itself
            bob = named(s, "bob", user="bob", **{"pass": "secret"})
            got = ask("SERVER.PING.CONNZ", '{"acc": "SYS"}', bob)["data"]
            assert sorted(k["name"] for k in got["connections"]) == ["ann", "bob"], got
            assert [k["acc"] for k in ask("ACCOUNT.PING.STATZ", "", bob)["data"]["account_statz"]] == ["SALES"]
            bob.close()
            subject, e = delivered(admin)
            assert subject.endswith(".CONNECT") and delivered(admin)[0].endswith(".DISCONNECT")
            assert ann.answer(b"") == b"", "the system's messages"
            ann.close()
            subject, e = delivered(admin)
            assert subject == "$SYS.ACCOUNT.SALES.DISCONNECT" and e["reason"] == "Client Closed", (subject, e)
            assert e["received"] == {"msgs": 2, "bytes": 3} and e["client"]["stop"], e


OF_ACCOUNT = """
accounts:
  M:
    limits: {max_connections: 2, max_payload: 100}
    mappings:
      old.*.*: new.$2.$1
      half: [{destination: half.a, weight: 50%}, {destination: half.b, weight: 50%}]
      some: [{destination: some.gone, weight: 30}]
      shard.*: "shard.{{partition(3,1)}}.$1"
    users:
      - {user: ann, password: secret}
      - {user: new, password: secret, permissions: {publish: [new.>]}}
      - {user: old, password: secret, permissions: {publish: [old.>]}}
"""


def test_nats_account_maps():
    """What an account's users publish goes where its mappings say, by weights; permissions are of that. Limits are the account's."""
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        for wrong, line in (("mappings: {a: b.$1}", 3), ("mappings: {a: [{destination: b, weight: 60}, {destination: c, weight: 60%}]}", 3),
                            ("mappings: {a..b: c}", 3), ("limits: {max_payload: 0}", 3), ("limits: {max_cars: 1}", 3)):
            open(file, "w").write("accounts:\n  A:\n    %s\n" % wrong)
            p = subprocess.run([WEIR, "serve", "--data", os.path.join(d, "none"), "--nats", "127.0.0.1:0", "--http", "127.0.0.1:0",
                                "--set", "nats.users=" + file], capture_output=True, timeout=30)
            assert p.returncode != 0 and b"line %d: " % line in p.stderr, (wrong, p.stderr)
        open(file, "w").write(OF_ACCOUNT)
        with served("--set", "nats.users=" + file, nats=0, loops=2) as s:
            ann = named(s, "ann", user="ann", **{"pass": "secret"})
            assert ann.answer(b"SUB > 1\r\nPUB old.x.y 1\r\na\r\n") == b"MSG new.y.x 1 1\r\na\r\n"
            assert ann.answer(b"PUB old.x 1\r\na\r\n") == b"MSG old.x 1 1\r\na\r\n"
            got = ann.answer(b"PUB half 1\r\na\r\n" * 400 + b"PUB some 1\r\na\r\n" * 400)
            counts = [got.count(b"MSG %s 1 1\r\n" % k) for k in (b"half.a", b"half.b", b"some.gone", b"some")]
            assert sum(counts[:2]) == sum(counts[2:]) == 400 and 120 < counts[0] < 280 and 60 < counts[2] < 190, counts
            got = ann.answer(b"".join(b"PUB shard.%d 1\r\na\r\n" % i for i in range(30)))
            assert {got.count(b"MSG shard.%d." % i) > 0 for i in range(3)} == {True} and got.count(b"MSG ") == 30, got
            ann.answer(b"UNSUB 1\r\n")
            other = named(s, "new", user="new", **{"pass": "secret"})
            assert other.answer(b"PUB old.x.y 1\r\na\r\n") == b""
            assert b"-ERR 'maximum account active connections exceeded'\r\n" in named(s, "third", user="ann", **{"pass": "secret"}).rest()
            other.close()
            wait_for(lambda: metric(s, "weir_nats_connections") == 1)
            old = named(s, "old", user="old", **{"pass": "secret"})
            assert b'Permissions Violation for Publish to "new.y.x"' in old.answer(b"PUB old.x.y 1\r\na\r\n")
            old.say(b"PUB x 101\r\n")
            assert b"Maximum Payload Violation" in old.until(b"\r\n")


# ---- accounts whose users they sign --------------------------------------------------------------------

class Quiet(Wire):
    """Passes over the server's PINGs, which are frequent where logins are looked at again with each."""

    def until(self, end):
        while True:
            self.got = self.got.replace(b"PING\r\n", b"")
            if end in self.got:
                return super().until(end)
            more = self.s.recv(1 << 16)
            assert more, "closed after %r" % self.got[-200:]
            self.got += more


class Realm:
    """An operator and its accounts, in a file of users; login(…) connects with a user's token."""

    def __init__(self, d):
        self.Key, self.operator, self.account, self.other = Key, Key("O"), Key("A"), Key("A")
        self.file = os.path.join(d, "users.yaml")
        self.claims, self.others, self.head = {}, {}, {}
        self.write()

    def write(self):
        o, a, b = self.operator, self.account, self.other
        open(self.file, "w").write("operator: %s\nresolver: MEMORY\nresolver_preload:\n  %s: %s\n  %s: %s\n" % (
            o.token(o.public, "operator"), a.public, o.token(a.public, "account", self.claims, **self.head),
            b.public, o.token(b.public, "account", self.others)))

    def login(self, s, nats=None, by=None, user=None, connect=None, sign=None, account=None, **claims):
        user = user or self.Key("U")
        nats = dict(nats or {}, **({"issuer_account": account} if account else {}))
        token = (by or self.account).token(user.public, "user", {"subs": -1, "payload": -1, **nats}, **claims)
        w = Quiet(s, None)
        return w.say(b"CONNECT " + json.dumps({"verbose": False, "pedantic": False, "headers": True, "protocol": 1, "jwt": token,
                     "sig": b64((sign or user).sign(w.info["nonce"].encode())), **(connect or {})}).encode() + b"\r\n")


def refused(w, text=b"-ERR 'Authorization Violation'"):
    got = w.rest()
    assert text in got, got
    return True


def test_nats_jwt():
    """Who an account signs is let in with what the token says, whoever else is not; it ends when the token does."""
    with scratch() as d:
        r = Realm(d)
        with served("--set", "nats.users=" + r.file, "--set", "nats.ping.interval=300ms", "--set", "nats.ping.max=100", nats=0, loops=2) as s:
            a, b, other = r.login(s), r.login(s), r.login(s, by=r.other)
            assert a.info["auth_required"]
            assert a.answer(b"SUB > 1\r\n") == other.answer(b"SUB > 1\r\n") == b""
            b.answer(b"PUB x 1\r\ny\r\n")
            assert a.until(b"y\r\n") == b"MSG x 1 1\r\ny\r\n"
            assert other.answer(b"") == b"", "another account's message"
            me = request(r.login(s, {"pub": {"deny": ["no.>"]}}, exp=int(time.time()) + 1000), "$SYS.REQ.USER.INFO")["data"]
            assert me["account"] == r.account.public and me["permissions"]["publish"]["deny"] == ["no.>"] and 900e9 < me["expires"] <= 1000e9, me
            # permissions and limits
            p = r.login(s, {"pub": {"allow": ["a.>"], "deny": ["a.b"]}, "sub": {"allow": ["c", "d q"]}, "subs": 1, "payload": 5})
            assert json.loads(p.until(b"\r\n")[5:])["max_payload"] == 5
            assert p.answer(b"PUB a.c 1\r\nx\r\nSUB c 1\r\n") == b""
            assert p.answer(b"PUB a.b 1\r\nx\r\n") == b"-ERR 'Permissions Violation for Publish to \"a.b\"'\r\n"
            assert p.answer(b"SUB d 2\r\n") == b"-ERR 'Permissions Violation for Subscription to \"d\"'\r\n"
            assert refused(p.say(b"SUB c 2\r\n"), b"-ERR 'maximum subscriptions exceeded'")
            assert refused(r.login(s, {"payload": 5}).say(b"PUB x 6\r\n"), b"-ERR 'Maximum Payload Violation'")
            service = r.login(s, {"resp": {"max": 1, "ttl": 60000000000}})
            service.answer(b"SUB ask 1\r\n")
            b.answer(b"SUB re 1\r\nPUB ask re 0\r\n\r\n")
            service.until(b"MSG ask 1 re 0\r\n\r\n")
            assert service.answer(b"PUB re 1\r\nz\r\n") == b"" and b.until(b"z\r\n") == b"MSG re 1 1\r\nz\r\n"
            assert b"Permissions Violation" in service.answer(b"PUB re 1\r\nz\r\n")
            # who is not let in
            now, stranger = int(time.time()), r.Key("A")
            later = {"start": time.strftime("%H:%M:%S", time.gmtime(now + 7200)), "end": time.strftime("%H:%M:%S", time.gmtime(now + 10800))}
            soon = {"start": time.strftime("%H:%M:%S", time.gmtime(now - 3600)), "end": time.strftime("%H:%M:%S", time.gmtime(now + 3600))}
            for how in (dict(by=stranger), dict(by=stranger, account=r.account.public), dict(sign=r.Key("U")), dict(exp=now - 5), dict(nbf=now + 500),
                        dict(nats={"allowed_connection_types": ["WEBSOCKET"]}), dict(nats={"src": ["10.0.0.0/8"]}), dict(nats={"src": "10.0.0.0/8"}),
                        dict(nats={"times": [later]}), dict(nats={"times": [soon], "times_location": "Asia/Tokyo"}),
                        dict(nats={"pub": {"deny": ["a..b"]}}), dict(connect={"jwt": "eyJ.eyJ.x"}), dict(connect={"jwt": ""}),
                        dict(nats={"type": "account"}), dict(nats={"version": 1}), dict(by=r.operator)):
                assert refused(r.login(s, **how)), how
            good = r.login(s, {"allowed_connection_types": ["STANDARD"], "src": ["10.0.0.0/8", "127.0.0.0/8"], "times": [soon], "bearer_token": True},
                           sign=r.Key("U"), nbf=now - 5)
            assert good.answer(b"SUB g 1\r\n") == b""
            token = r.account.token(r.Key("U").public, "user", {})
            head, body, sig = token.split(".")
            for bad in (head + "." + body + "." + sig[:-4] + "AAAA", head + "." + body[:-2] + "." + sig, body + "." + sig, "." * 5, token + "x" * 2000):
                assert refused(r.login(s, connect={"jwt": bad})), bad
            # it ends
            for seconds in (1, 2, 4, 8, 16):  # it may be over before it is shown, where the machine is slow
                said = r.login(s, exp=int(time.time()) + seconds).rest()
                if b"-ERR 'User Authentication Expired'" in said:
                    break
            assert b"-ERR 'User Authentication Expired'" in said, said
            # signing keys, scopes, revocations, limits of the account, read again
            key, scope, user = r.Key("A"), r.Key("A"), r.Key("U")
            revoked, kept = r.Key("U"), r.login(s)
            goes = r.login(s, user=revoked)
            goes.answer(b"")
            kept.answer(b"")
            r.claims = {"signing_keys": [key.public, {"kind": "user_scope", "key": scope.public, "template": {
                "subs": 2, "payload": -1, "pub": {"allow": ["jobs.{{name()}}.{{tag(team)}}", "no.{{tag(none)}}"]}, "sub": {"allow": ["{{subject()}}"]}}}],
                "revocations": {revoked.public: now + 100}, "limits": {"conn": 100, "subs": -1, "payload": -1}, "name": "acc"}
            r.write()
            s.p.send_signal(signal.SIGHUP)
            assert refused(goes, b"-ERR 'User Authentication Expired'")
            assert refused(r.login(s, user=revoked))
            assert b"Violation" not in kept.answer(b"PUB still 0\r\n\r\n")
            by_key = r.login(s, by=key, account=r.account.public)
            assert by_key.answer(b"SUB by.key 1\r\n") == b""
            w = r.login(s, nats={"tags": ["team:red", "team:blue"], "subs": 0, "payload": 0}, by=scope, account=r.account.public, user=user, name="eve")
            assert w.answer(b"PUB jobs.eve.red 0\r\n\r\nPUB jobs.eve.blue 0\r\n\r\nSUB %s 1\r\n" % user.public.encode()) == b""
            for no in (b"PUB jobs.eve.green 0\r\n\r\n", b"PUB jobs.ann.red 0\r\n\r\n", b"PUB no.x 0\r\n\r\n", b"SUB x 2\r\n"):
                assert b"Permissions Violation" in w.answer(no), no
            assert refused(r.login(s, nats={"pub": {"allow": [">"]}}, by=scope, account=r.account.public))
            r.claims["limits"]["conn"] = 1
            r.write()
            s.p.send_signal(signal.SIGHUP)
            wait_for(lambda: b"-ERR 'maximum account active connections exceeded'" in r.login(s).say(b"PING\r\n").until(b"\r\n"))
            r.head = {"exp": int(time.time()) + 1}
            r.write()
            s.p.send_signal(signal.SIGHUP)
            assert refused(by_key, b"-ERR 'User Authentication Expired'"), "its account's token ended"


def test_nats_jwt_files():
    """What is wrong with the tokens of a file is told at the start."""
    with scratch() as d:
        r = Realm(d)
        good = open(r.file).read()
        o = good.split()[1]
        for wrong, says in ((good.replace(o, "eyJ0.eyJ0.AA"), "line 1: the operator's token is not one"),
                            (good.replace(o, os.path.join(d, "none.jwt")), "none.jwt"),
                            (good.replace(r.account.public, r.Key("A").public, 1), "line 4: the token of A"),
                            ("\n".join(good.split("\n")[1:]), "operator comes before"),
                            (good + "accounts: {X: {users: [{user: a, password: b}]}}\n", "with an operator")):
            open(r.file, "w").write(wrong)
            s = Server(os.path.join(d, "data"), "--set", "nats.users=" + r.file, expect_fail=True, nats=0)
            assert s.port is None and says in s.tail(), (says, s.tail())
        decorated = os.path.join(d, "operator.jwt")
        open(decorated, "w").write("-----BEGIN NATS OPERATOR JWT-----\n%s\n------END NATS OPERATOR JWT------\n" % o)
        open(r.file, "w").write(good.replace(o, decorated))
        with served("--set", "nats.users=" + r.file, nats=0) as s:
            assert r.login(s).answer(b"SUB a 1\r\n") == b""


CREDS = """
    const {connect, credsAuthenticator} = require('@nats-io/transport-node');
    const creds = process.env.CREDS, [ok, not, ...more] = process.argv.slice(1);
    (async () => {
        const c = await connect({servers: '%s:%d', authenticator: credsAuthenticator(new TextEncoder().encode(creds))});
        let denied = '';
        (async () => { for await (const s of c.status()) if (s.type === 'error') denied = s.error.message; })();
        c.publish(ok, 'v');
        await c.flush();
        c.publish(not, 'v');
        await c.flush();
        for (let i = 0; i < 1000 && !denied; i++) await new Promise(done => setTimeout(done, 5));
        console.log(JSON.stringify({max: c.info.max_payload, denied}));
        await c.close();
    })();"""


@beside_others
def test_nats_jwt_js():
    """nats.js logs in with a credentials file."""
    need_node()
    modules = npm_modules()
    with scratch() as d:
        r = Realm(d)
        user = r.Key("U")
        creds = "-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n" % (
            r.account.token(user.public, "user", {"pub": {"deny": ["not.>"]}, "subs": -1, "payload": 1000}), user.seed)
        with served("--set", "nats.users=" + r.file, nats=0) as s:
            p = subprocess.run(["node", "-e", CREDS % s.nats, "ok", "not.a"], capture_output=True, timeout=60,
                               env=dict(os.environ, NODE_PATH=modules, CREDS=creds))
            got = json.loads(p.stdout or p.stderr.decode())
            assert got["max"] == 1000 and "not.a" in got["denied"], got


def go_built(name):
    """The program HERE/<name>.go, built with what <name>.mod wants."""
    d = os.path.join(downloads("go", "go"), "nats-" + name)
    os.makedirs(d, exist_ok=True)
    source, wanted = (os.path.join(HERE, name + end) for end in (".go", ".mod"))
    shutil.copy(source, os.path.join(d, "main.go"))
    shutil.copy(wanted, os.path.join(d, "go.mod"))
    download("Go packages", ["sh", "-c", "go mod tidy && go build -o %s ." % name], os.path.join(d, "installed"), source, wanted,
             cwd=d, env=dict(os.environ, GOFLAGS="-mod=mod"))
    return os.path.join(d, name)


@beside_others
def test_nats_go():
    exe = go_built("client")
    with served(nats=0, loops=2) as s:
        return steps_run([exe, "nats://%s:%d" % s.nats], ("core", "streams", "buckets", "objects"))


@beside_others
def test_nats_jwt_go():
    """Tokens that nats-io/jwt makes: signed by a signing key of the operator, scoped, with limits."""
    exe = go_built("tokens")
    need_node()
    modules = npm_modules()
    made = json.loads(subprocess.run([exe], capture_output=True, check=True, timeout=60).stdout)
    file = os.path.join(os.path.dirname(exe), "users.yaml")
    open(file, "w").write("operator: %(operator)s\nresolver_preload: {%(account)s: %(account_token)s}\n" % made)
    with served("--set", "nats.users=" + file, nats=0) as s:
        for who, ok, no in (("plain", "a", "secret.a"), ("worker", "jobs.eve.a", "jobs.ann.a"), ("worker", "tag.blue.x", "tag.green.x")):
            p = subprocess.run(["node", "-e", CREDS % s.nats, ok, no], capture_output=True, timeout=60,
                               env=dict(os.environ, NODE_PATH=modules, CREDS=made[who]))
            got = json.loads(p.stdout or json.dumps(p.stderr.decode()))
            assert '"%s"' % no in got["denied"], (who, got)
            assert who == "worker" or got["max"] == 100, got


# ---- exports and imports -------------------------------------------------------------------------------

SHARED = """
accounts:
  SALES:
    users: [{user: sales, password: secret}]
    exports:
      - {service: "price.*.*"}
      - {stream: orders.>, accounts: [AUDIT]}
      - {service: slow.>, accounts: [AUDIT]}
  AUDIT:
    users: [{user: audit, password: secret}]
    exports: [{stream: seen.>}]
    imports:
      - {service: "price.eu.*", account: SALES, to: "ask.*"}
      - {service: slow.>, account: SALES}
      - {stream: orders.new.>, account: SALES, prefix: sales}
      - {stream: "orders.*.void", account: SALES, to: "void.*"}
  OTHER:
    users: [{user: other, password: secret}]
    imports:
      - {service: "price.*.*", account: SALES, to: "p.*.of.*"}
      - {stream: seen.>, account: AUDIT, to: audit.>}
"""


def answers(w, n=1):
    """So many messages, as (subject, reply or b'', body)."""
    out = []
    while len(out) < n:
        head = w.until(b"\r\n").split()
        size = int(head[-1])
        while len(w.got) < size + 2:
            w.got += w.s.recv(1 << 16)
        reply = head[3] if len(head) == (5 if head[0] == b"MSG" else 6) else b""
        out.append((head[1], reply, w.got[:size]))
        w.got = w.got[size + 2:]
    return out


def test_nats_exports():
    """Services are asked and answer, streams arrive, under the importers' subjects; nothing else passes, and seals cannot be made."""
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        open(file, "w").write(SHARED)
        with served("--set", "nats.users=" + file, nats=0, loops=2) as s:
            sales, audit, other, thief = (named(s, u, user=u, no_responders=True, **{"pass": "secret"}) for u in ("sales", "audit", "other", "other"))
            sales.answer(b"SUB price.> 1\r\n")
            audit.answer(b"SUB > 1\r\n")
            other.answer(b"SUB > 1\r\n")
            ask = lambda w, line, body=b"": w.say(b"PUB %s %d\r\n%s\r\n" % (line, len(body), body))
            # a service, with the importer's subjects, its reply sealed; several answers
            ask(audit, b"ask.tea _INBOX.me.1", b"?")
            assert answers(audit) == [(b"ask.tea", b"_INBOX.me.1", b"?")], "its own subscription sees the request"
            (subject, reply, body), = answers(sales)
            assert (subject, body) == (b"price.eu.tea", b"?") and reply.startswith(b"_R_."), (subject, reply, body)
            ask(sales, reply, b"5"), ask(sales, reply, b"6")
            assert answers(audit, 2) == [(b"_INBOX.me.1", b"", b"5"), (b"_INBOX.me.1", b"", b"6")]
            ask(other, b"p.us.of.nut r", b"x")
            assert answers(other) == [(b"p.us.of.nut", b"r", b"x")]
            (subject, other_reply, _), = answers(sales)
            assert subject == b"price.us.nut"
            # seals hold for their reply and import only
            parts = reply.split(b".")
            for bad in (reply + b".x", reply.replace(parts[2], b"0" * 16), b".".join(parts[:3] + [b"f" * 16] + parts[4:]),
                        b".".join([parts[0], other_reply.split(b".")[1]] + parts[2:]), b"_R_.1.x", b"_R_.1.%s.%s" % (parts[2], parts[3])):
                ask(sales, bad, b"forged")
            ask(thief, reply, b"stolen")  # of another account
            assert answers(other) == [(reply, b"", b"stolen")]
            assert sales.answer(b"") == audit.answer(b"") == other.answer(b"") == b""
            # nobody answers
            ask(audit, b"slow.x _INBOX.me.2")
            got = answers(audit, 2)
            assert sorted(g[0] for g in got) == [b"_INBOX.me.2", b"slow.x"] and any(b"503" in g[2] for g in got), got
            # streams, with headers
            sales.say(b"HPUB orders.new.1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
            assert answers(audit) == [(b"sales.orders.new.1", b"", b"NATS/1.0\r\n\r\nhi")]
            ask(sales, b"orders.7.void", b"v"), ask(sales, b"orders.old", b"o"), ask(audit, b"seen.a.b", b"s")
            assert sorted(answers(audit, 2)) == [(b"seen.a.b", b"", b"s"), (b"void.7", b"", b"v")]
            assert answers(other) == [(b"audit.a.b", b"", b"s")]
            assert sales.answer(b"") == audit.answer(b"") == other.answer(b"") == b""
            # whatever is published, nothing else passes
            rng, expect = random.Random(7), {id(audit): [], id(other): [], id(sales): []}
            words = [b"orders", b"new", b"price", b"eu", b"ask", b"tea", b"void", b"seen", b"audit", b"sales", b"p", b"of", b"slow", b"_R_", b"1"]
            sales.answer(b"UNSUB 1\r\nSUB > 3\r\n")
            for i in range(3000):
                w = rng.choice((sales, audit, other))
                t = [rng.choice(words) for _ in range(rng.randint(1, 4))]
                subject, body = b".".join(t), b"%d" % i
                ask(w, subject, body)
                expect[id(w)].append((subject, body))
                if w is sales and t[:2] == [b"orders", b"new"] and len(t) > 2:
                    expect[id(audit)].append((b"sales." + subject, body))
                if w is sales and len(t) == 3 and t[0] == b"orders" and t[2] == b"void":
                    expect[id(audit)].append((b"void." + t[1], body))
                if w is audit and len(t) == 2 and t[0] == b"ask":
                    expect[id(sales)].append((b"price.eu." + t[1], body))
                if w is audit and t[0] == b"slow" and len(t) > 1:
                    expect[id(sales)].append((subject, body))
                if w is audit and t[0] == b"seen" and len(t) > 1:
                    expect[id(other)].append((b"audit." + subject[5:], body))
                if w is other and len(t) == 4 and t[0] == b"p" and t[2] == b"of":
                    expect[id(sales)].append((b"price.%s.%s" % (t[1], t[3]), body))
            for w in (sales, audit, other):
                want = expect[id(w)]
                assert sorted((a, c) for a, _, c in answers(w, len(want))) == sorted(want)
            for w in (sales, audit, other):
                assert w.answer(b"") == b""
            # read again: what is not exported any more does not pass
            open(file, "w").write(SHARED.replace("      - {service: slow.>, account: SALES}\n", ""))
            s.p.send_signal(signal.SIGHUP)

            def apart():
                ask(audit, b"slow.y", b"z")
                answers(audit)
                return b"slow.y" not in sales.answer(b"")
            wait_for(apart)


def test_nats_exports_wrong():
    """What is not exported cannot be imported, nor what would come back."""
    two = "accounts:\n  A:\n    exports: [%s]\n    imports: [%s]\n  B:\n    exports: [%s]\n    imports:\n      - %s\n"
    with scratch() as d:
        file = os.path.join(d, "users.yaml")
        for args, says in ((("", "", "", "{service: a, account: A}"), "line 8: the account does not export this"),
                           (("{service: a}", "", "", "{stream: a, account: A}"), "line 8: the account does not export this"),
                           (("{stream: a.b}", "", "", "{stream: a.*, account: A}"), "line 8: the account does not export this"),
                           (("{stream: a.>, accounts: [C]}", "", "", "{stream: a.b, account: A}"), "line 8: the account does not export this"),
                           (("{stream: '>'}", "{stream: '>', account: B}", "{stream: '>'}", "{stream: a, account: A}"), "messages would come back"),
                           (("{service: a}", "{service: b, account: B, to: a}", "{service: b}", "{service: a, account: A, to: b}"), "messages would come back"),
                           (("{stream: 'a.*'}", "", "", "{stream: 'a.*', account: A, to: b}"), "wildcards of the subject"),
                           (("", "", "", "{stream: a, account: B}"), "another account"), (("", "", "", "{stream: a}"), "another account"),
                           (("{stream: a..b}", "", "", ""), "one subject is expected"), (("{}", "", "", ""), "a service or a stream"),
                           (("{steam: a}", "", "", ""), "only service, stream and accounts"), (("", "{stream: a, form: b}", "", ""), "only service, stream, account")):
            open(file, "w").write(two % args)
            s = Server(os.path.join(d, "data"), "--set", "nats.users=" + file, expect_fail=True, nats=0)
            assert s.port is None and says in s.tail(), (says, s.tail())
