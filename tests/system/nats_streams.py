"""JetStream's streams: what the API answers, byte by byte and by its published schemas; PubAcks, duplicates, expectations,
limits, removal; what is there after kill -9; what other protocols write; key-value and object stores by nats.js.
"""
import base64, glob, json, os, random, shutil, subprocess, threading, time

from harness import BUILD, ROOT, Server, Skip, beside_others, npm_modules, scratch, served, wait_for
from kafka_clients import need_node, steps_run
from nats_core import HERE, Wire
from nats_topics import message, post

SCHEMAS = os.path.join(ROOT, "..", "shared", "reference", "nats", "schemas", "jetstream", "api", "v1")
LONG = bool(os.environ.get("WEIR_LONG"))


def headers_of(raw):
    lines = raw.decode().split("\r\n")
    return lines[0], {k: v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}


class Js:
    """One connection that asks; every answer of the API is checked against its schema where those are."""

    def __init__(self, server):
        self.w = Wire(server)
        self.inbox = "r%d" % self.w.info["client_id"]
        self.w.answer(b"SUB %s.> 1\r\n" % self.inbox.encode())
        self.n = 0
        self.schemas = {}

    def say(self, subject, body=b"", headers=None):
        """Publishes with a reply subject; its number."""
        self.n += 1
        body = body if isinstance(body, bytes) else body.encode()
        if headers:
            head = b"NATS/1.0\r\n" + b"".join(b"%s: %s\r\n" % (k.encode(), str(v).encode()) for k, v in headers) + b"\r\n"
            self.w.say(b"HPUB %s %s.%d %d %d\r\n%s%s\r\n" % (subject.encode(), self.inbox.encode(), self.n, len(head), len(head) + len(body), head, body))
        else:
            self.w.say(b"PUB %s %s.%d %d\r\n%s\r\n" % (subject.encode(), self.inbox.encode(), self.n, len(body), body))
        return self.n

    def heard(self, n):
        subject, _, head, body = message(self.w)
        assert subject == "%s.%d" % (self.inbox, n), (subject, n)
        return head, body

    def ask(self, subject, body=None):
        """To $JS.API."""
        head, text = self.heard(self.say("$JS.API." + subject, b"" if body is None else json.dumps(body).encode()))
        assert not head, head
        o = json.loads(text)
        self.check(o)
        return o

    def check(self, o):
        name = o["type"].rsplit(".", 1)[1]
        path = os.path.join(SCHEMAS, name + ".json")
        try:
            import jsonschema
        except ImportError:
            return
        if not os.path.exists(path):
            return
        if name not in self.schemas:
            with open(path) as f:
                self.schemas[name] = jsonschema.Draft7Validator(json.load(f))
        errors = [e.message[:200] for e in self.schemas[name].iter_errors(o)]
        assert not errors, (o, errors)

    def good(self, subject, body=None):
        o = self.ask(subject, body)
        assert "error" not in o, (subject, body, o["error"])
        return o

    def bad(self, subject, body, code):
        o = self.ask(subject, body)
        assert o.get("error", {}).get("err_code") == code, (subject, body, o)
        return o["error"]

    def pub(self, subject, body=b"", headers=None):
        return json.loads(self.heard(self.say(subject, body, headers))[1])

    def refused(self, code, subject, body=b"", headers=None):
        o = self.pub(subject, body, headers)
        assert o.get("error", {}).get("err_code") == code, o
        return o["error"]

    def create(self, name, **conf):
        return self.good("STREAM.CREATE." + name, dict({"name": name, "subjects": [name.lower() + ".>"]}, **conf))

    def state(self, name, **kw):
        return self.good("STREAM.INFO." + name, kw or None)["state"]

    def get(self, name, **what):
        m = self.good("STREAM.MSG.GET." + name, what)["message"]
        return m["seq"], m["subject"], base64.b64decode(m.get("data", ""))

    def direct(self, subject, body=b""):
        head, body = self.heard(self.say("$JS.API.DIRECT.GET." + subject, body))
        status, h = headers_of(head)
        return status, h, body

    def close(self):
        self.w.close()


def test_nats_streams():
    """The API: made, the same again, another one of the name, of its subjects; told of, changed, listed, deleted."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        assert js.good("INFO")["streams"] == 0
        made = js.create("ORDERS", metadata={"a": "b"})
        assert made["did_create"] and made["config"]["subjects"] == ["orders.>"] and made["state"]["messages"] == 0, made
        assert js.create("ORDERS", metadata={"a": "b"})["did_create"]
        js.bad("STREAM.CREATE.ORDERS", {"name": "ORDERS", "subjects": ["other"]}, 10058)
        js.bad("STREAM.CREATE.X", {"name": "X", "subjects": ["orders.*"]}, 10065)
        js.bad("STREAM.CREATE.X", {"name": "Y", "subjects": ["x"]}, 10056)
        js.bad("STREAM.INFO.NONE", None, 10059)
        js.bad("STREAM.CREATE.X", {"name": "X", "subjects": ["x"], "num_replicas": 3}, 10074)
        assert js.pub("orders.a", "1") == {"stream": "ORDERS", "seq": 1}
        js.bad("STREAM.CREATE.X", {"name": "X", "subjects": ["orders.>", "x"]}, 10065)
        for i in range(30):
            js.create("N%d" % i)
        names = js.good("STREAM.NAMES")
        assert names["total"] == 31 and names["streams"] == sorted(names["streams"]) and len(names["streams"]) == 31, names
        assert js.good("STREAM.NAMES", {"offset": 30})["streams"] == ["ORDERS"]
        assert js.good("STREAM.NAMES", {"subject": "n7.x"})["streams"] == ["N7"]
        listed = js.good("STREAM.LIST", {"subject": "orders.*"})
        assert [x["state"]["messages"] for x in listed["streams"]] == [1], listed
        js.good("STREAM.UPDATE.ORDERS", {"name": "ORDERS", "subjects": ["orders.>", "more"], "max_msgs": 5})
        js.bad("STREAM.UPDATE.ORDERS", {"name": "ORDERS", "subjects": ["n1.x"]}, 10065)
        assert js.pub("more", "2")["seq"] == 2
        for i in range(6):
            js.pub("orders.%d" % i, "x")
        st = js.state("ORDERS", subjects_filter="orders.*")
        assert (st["messages"], st["first_seq"], st["last_seq"]) == (5, 4, 8) and st["subjects"] == {"orders.%d" % i: 1 for i in range(1, 6)}, st
        assert js.good("INFO")["streams"] == 31
        assert js.good("STREAM.DELETE.ORDERS")["success"]
        js.bad("STREAM.INFO.ORDERS", None, 10059)
        assert b" 503" in js.w.answer(b"PUB orders.a %s.gone 0\r\n\r\n" % js.inbox.encode())
        made = js.create("ORDERS", first_seq=1000)
        assert js.pub("orders.a", "1")["seq"] == 1000 and js.get("ORDERS", seq=1000)[2] == b"1"
        js.close()


def test_nats_stream_messages():
    """Reading: by sequence, by subject, the next one, many; removing: one, by subject, up to, all but; what is left."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        js.create("S", allow_direct=True)
        for i in range(1, 11):
            js.pub("s.%d" % (i % 3), "m%d" % i, [("K", "v%d" % i)] if i % 2 else None)
        assert js.get("S", seq=4) == (4, "s.1", b"m4")
        assert js.get("S", last_by_subj="s.2") == (8, "s.2", b"m8")
        assert js.get("S", next_by_subj="s.0", seq=4) == (6, "s.0", b"m6")
        assert js.get("S", next_by_subj="s.*", seq=10) == (10, "s.1", b"m10")
        m = js.good("STREAM.MSG.GET.S", {"seq": 3})["message"]
        assert base64.b64decode(m["hdrs"]) == b"NATS/1.0\r\nK: v3\r\n\r\n", m
        js.bad("STREAM.MSG.GET.S", {"seq": 11}, 10037)
        js.bad("STREAM.MSG.GET.S", {"last_by_subj": "s.x"}, 10037)
        js.bad("STREAM.MSG.GET.S", {}, 10003)
        status, h, body = js.direct("S", b'{"seq":3}')
        assert status == "NATS/1.0" and body == b"m3" and h["Nats-Sequence"] == "3" and h["Nats-Subject"] == "s.0" and h["K"] == "v3", h
        assert js.direct("S.s.1")[2] == b"m10"
        assert js.direct("S.s.9")[0] == "NATS/1.0 404 Message Not Found"
        assert js.direct("S")[0] == "NATS/1.0 408 Empty Request"
        n = js.say("$JS.API.DIRECT.GET.S", b'{"batch":3,"seq":2,"next_by_subj":"s.1"}')
        got = [headers_of(js.heard(n)[0]) for _ in range(4)]
        assert [h["Nats-Sequence"] for _, h in got[:3]] == ["4", "7", "10"] and got[3][0] == "NATS/1.0 204 EOB", got
        assert [h["Nats-Num-Pending"] for _, h in got] == ["2", "1", "0", "0"], got
        n = js.say("$JS.API.DIRECT.GET.S", b'{"multi_last":["s.0","s.1"],"up_to_seq":8}')
        got = [headers_of(js.heard(n)[0]) for _ in range(3)]
        assert [h.get("Nats-Sequence") for _, h in got] == ["6", "7", None], got
        assert js.good("STREAM.MSG.DELETE.S", {"seq": 5})["success"]
        js.bad("STREAM.MSG.DELETE.S", {"seq": 5}, 10037)
        assert js.good("STREAM.PURGE.S", {"filter": "s.0", "keep": 1})["purged"] == 2
        js.bad("STREAM.PURGE.S", {"seq": 2, "keep": 1}, 10003)
        want = [3, 5, 6]
        assert js.state("S", deleted_details=True)["deleted"] == want
        assert js.good("STREAM.PURGE.S", {"seq": 3})["purged"] == 2
        assert js.state("S", deleted_details=True)["deleted"] == [5, 6]
        assert js.good("STREAM.PURGE.S")["purged"] == 5
        st = js.state("S")
        assert (st["messages"], st["first_seq"], st["last_seq"]) == (0, 11, 10), st
        js.create("SHUT", deny_delete=True, deny_purge=True)
        js.pub("shut.a")
        js.bad("STREAM.MSG.DELETE.SHUT", {"seq": 1}, 10057)
        js.bad("STREAM.PURGE.SHUT", None, 10110)
        js.close()


def test_nats_stream_headers():
    """Message ids, expectations, rollups, times to live; and the limits that refuse."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        js.create("S", allow_rollup_hdrs=True, allow_msg_ttl=True, max_msg_size=200)
        assert js.pub("s.a", "1", [("Nats-Msg-Id", "one")]) == {"stream": "S", "seq": 1}
        assert js.pub("s.a", "1", [("Nats-Msg-Id", "one")]) == {"stream": "S", "seq": 1, "duplicate": True}
        # the same id twice, and two expectations that cannot both hold, before either is answered
        a, b = js.say("s.a", "2", [("Nats-Msg-Id", "two")]), js.say("s.a", "2", [("Nats-Msg-Id", "two")])
        assert [json.loads(js.heard(n)[1]).get("duplicate") for n in (a, b)] == [None, True]
        js.say("s.a", "3")
        a, b = (js.say("s.a", "x", [("Nats-Expected-Last-Subject-Sequence", q)]) for q in (2, 3))
        js.heard(a - 1)
        assert json.loads(js.heard(a)[1])["error"]["err_code"] == 10071 and json.loads(js.heard(b)[1])["seq"] == 4
        js.refused(10060, "s.a", "", [("Nats-Expected-Stream", "T")])
        assert js.refused(10071, "s.a", "", [("Nats-Expected-Last-Sequence", 3)])["description"] == "wrong last sequence: 4"
        assert js.pub("s.a", "", [("Nats-Expected-Last-Sequence", 4), ("Nats-Msg-Id", "five")])["seq"] == 5
        js.refused(10070, "s.a", "", [("Nats-Expected-Last-Msg-Id", "four")])
        assert js.pub("s.b", "", [("Nats-Expected-Last-Msg-Id", "five")])["seq"] == 6
        assert js.pub("s.c", "", [("Nats-Expected-Last-Subject-Sequence", 0)])["seq"] == 7
        js.refused(10071, "s.d", "", [("Nats-Expected-Last-Subject-Sequence", 7), ("Nats-Expected-Last-Subject-Sequence-Subject", "s.b")])
        js.refused(10054, "s.a", "x" * 201)
        assert js.pub("s.a", "sum", [("Nats-Rollup", "sub")])["seq"] == 8
        assert js.state("S", subjects_filter=">")["subjects"] == {"s.a": 1, "s.b": 1, "s.c": 1}
        assert js.pub("s.all", "sum", [("Nats-Rollup", "all")])["seq"] == 9 and js.state("S")["messages"] == 1
        js.refused(10111, "s.a", "", [("Nats-Rollup", "none")])
        js.refused(10165, "s.a", "", [("Nats-TTL", "soon")])
        js.pub("s.ttl", "x", [("Nats-TTL", "1s")])
        assert js.state("S")["messages"] == 2
        wait_for(lambda: js.state("S")["messages"] == 1)
        js.create("NEW", discard="new", max_msgs=3, max_msgs_per_subject=2, discard_new_per_subject=True)
        ns = [js.say("new.a") for _ in range(3)]
        assert [json.loads(js.heard(n)[1]).get("error", {}).get("description") for n in ns] == [
            None, None, "maximum messages per subject exceeded"]
        js.pub("new.b")
        assert js.refused(10077, "new.c")["description"] == "maximum messages exceeded"
        js.create("OLD", max_msgs_per_subject=1, max_age=10**9)
        for i in range(20):
            js.pub("old.%d" % (i % 2), str(i))
        assert js.state("OLD")["messages"] <= 2 and js.state("OLD")["last_seq"] == 20
        wait_for(lambda: js.state("OLD")["messages"] == 0)
        js.refused(10166, "new.a", "", [("Nats-TTL", "1s")])
        js.close()


def test_nats_stream_others():
    """What HTTP and the log's other writers put into a stream's topic are messages, in order, with NATS's between them."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        js.create("S", subjects=["S.>", "plain"])
        for i in range(20):
            js.pub("S.n", "n%d" % i)
            post(s, "S:plain", i)
            post(s, "S:a.b c", i)
            post(s, "S", i)
        wait_for(lambda: js.state("S")["last_seq"] == 80)
        subjects = js.state("S", subjects_filter=">").get("subjects")
        assert subjects == {"S.n": 20, "plain": 20, "S.a%2Eb%20c": 20, "S": 20}, subjects
        assert js.get("S", last_by_subj="plain")[2] == b"19" and js.get("S", last_by_subj="S.n")[2] == b"n19"
        events = list(s.pages("S"))
        assert len(events) == 80
        js.close()


def test_nats_stream_maps():
    """Subjects become others before they are stored; what is stored is sent on; a core subscriber sees a record of another
    protocol once, and one of NATS's not again."""
    with served(nats=0, loops=2) as s:
        js, w = Js(s), Wire(s)
        w.answer(b"SUB out.> 1\r\nSUB M.> 2\r\nSUB in.> 3\r\n")
        js.create("M", subjects=["in.*.*"], subject_transform={"src": "in.*.*", "dest": "kept.$2.{{wildcard(1)}}"},
                  republish={"src": "kept.>", "dest": "out.>"})
        assert js.pub("in.a.b", "body", [("K", "v")])["seq"] == 1
        assert js.get("M", seq=1) == (1, "kept.b.a", b"body")
        got = sorted((message(w) for _ in range(2)), key=lambda m: m[1])
        assert got[0][0] == "out.b.a" and got[0][3] == b"body" and got[1][0] == "in.a.b", got
        h = headers_of(got[0][2])[1]
        assert (h["K"], h["Nats-Stream"], h["Nats-Subject"], h["Nats-Sequence"], h["Nats-Last-Sequence"]) == (
            "v", "M", "kept.b.a", "1", "0"), h
        post(s, "M:x y", "from http")
        assert message(w)[0] == "M.x%20y"
        wait_for(lambda: js.state("M")["messages"] == 2)
        assert w.answer(b"") == b""
        js.bad("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "subject_transform": {"src": "t", "dest": "t.$1"}}, 10156)
        for _ in range(2):  # not granted, and the same when it is asked for again
            assert "allow_batched" not in js.good("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "allow_batched": True})["config"]
        js.good("STREAM.DELETE.T")
        js.close()
        w.close()


class Publisher(threading.Thread):
    """Publishes with ids, in flights, until the server is gone; .acked: body by sequence."""

    def __init__(self, server, round_, number):
        super().__init__()
        self.js = Js(server)
        self.tag = "%d.%d" % (round_, number)
        self.acked, self.last = {}, 0

    def run(self):
        try:
            while True:
                flight = []
                for _ in range(20):
                    body = "%s.%d" % (self.tag, self.last)
                    flight.append((self.js.say("s." + self.tag, body, [("Nats-Msg-Id", body)]), body))
                    self.last += 1
                for n, body in flight:
                    ack = json.loads(self.js.heard(n)[1])
                    if "seq" in ack and "error" not in ack:
                        self.acked[ack["seq"]] = body
        except (AssertionError, OSError):
            self.js.close()


def check_kept(js, acked, removed):
    """Every acknowledged message is there, once, where it was said to be; removed ones are not."""
    bodies = set()
    st = js.state("S", deleted_details=True)
    gone = set(st.get("deleted", []))
    assert removed <= gone | set(range(1, st["first_seq"])), sorted(removed - gone)[:5]
    assert st["messages"] == st["last_seq"] - st["first_seq"] + 1 - len(gone), st["messages"]
    seq = 0
    while True:
        n, last = js.say("$JS.API.DIRECT.GET.S", json.dumps({"batch": 500, "seq": seq + 1})), 0
        while True:
            head, body = js.heard(n)
            status, h = headers_of(head)
            if status != "NATS/1.0":
                break
            last = int(h["Nats-Sequence"])
            assert last > seq and last not in removed, (last, seq)
            assert body not in bodies, body
            bodies.add(body)
            if last in acked:
                assert acked.pop(last).encode() == body, (last, body)
            seq = last
        if not last:
            break
    missing = {q: b for q, b in acked.items() if q not in removed}
    assert not missing, (len(missing), sorted(missing.items())[:3])


def test_nats_stream_crash():
    """kill -9 while messages are published with ids and others are deleted: what was acknowledged is there once, what
    was deleted stays so, ids are known."""
    rounds, acked, removed = 50 if LONG else 3, {}, set()
    with scratch() as d:
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        js = Js(s)
        js.create("S", allow_direct=True)
        for r in range(rounds):
            publishers = [Publisher(s, r, i) for i in range(3)]
            for p in publishers:
                p.start()
            wait_for(lambda: all(p.acked for p in publishers))
            end = time.time() + 0.3
            while time.time() < end:
                q = random.randrange(1, 1 + js.state("S")["last_seq"])
                o = js.ask("STREAM.MSG.DELETE.S", {"seq": q})
                if o.get("success"):
                    removed.add(q)
            s.kill()
            for p in publishers:
                p.join()
                acked.update(p.acked)
            js.close()
            s = Server(os.path.join(d, "data"), nats=0, loops=2)
            js = Js(s)
            check_kept(js, dict(acked), removed)
            some = [b for p in publishers for q, b in p.acked.items() if q not in removed][-5:]
            for body in some:
                assert js.pub("s." + body.rsplit(".", 1)[0], body, [("Nats-Msg-Id", body)]).get("duplicate"), body
        js.close()
        s.stop()


@beside_others
def test_nats_kv():
    """nats.js's key-value and object stores."""
    need_node()
    npm_modules()
    with served(nats=0, loops=2) as s:
        size = 64 if LONG else 4
        return steps_run(["node", os.path.join(HERE, "kv.mjs"), "%s:%d" % s.nats, str(size), "", "http://127.0.0.1:%d" % s.port],
                         ("kv", "watch", "sql", "objects"))


SMALL_FILES = ("--set", "journal.file_bytes=2MiB")


def test_nats_stream_flood():
    """Who publishes without waiting loses nothing, though journal files are small; what fits no file is told. Who publishes
    while a stream is being loaded is answered, in order, when it is there."""
    many, body, late = 20000 if LONG else 8000, os.urandom(2048), 200
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *SMALL_FILES, nats=0, loops=2)
        js, other = Js(s), Wire(s)
        js.create("S")
        line = b"PUB s.flood %d\r\n%s\r\n" % (len(body), body)
        for at in range(0, many, 500):
            other.say(line * min(500, many - at))
        wait_for(lambda: js.state("S")["messages"] == many)
        assert js.pub("s.last")["seq"] == many + 1
        assert js.state("S")["messages"] == many + 1
        other.close()
        js.close()
        s.kill()
        s = Server(os.path.join(d, "data"), *SMALL_FILES, nats=0, loops=2)
        js = Js(s)
        numbers = [js.say("s.late", b"%d" % i) for i in range(late)]
        seqs = [json.loads(js.heard(n)[1])["seq"] for n in numbers]
        assert seqs == list(range(many + 2, many + 2 + late)), seqs
        js.close()
        s.stop()


def test_nats_stream_too_large():
    """A message that no file holds is refused; nobody is told if there is no reply subject, so the log of the server and
    a counter say it. Those beside it are kept."""
    with served("--set", "journal.file_bytes=512KiB", nats=0, loops=2) as s:
        js = Js(s)
        js.create("S")
        large = os.urandom(900000)
        numbers = [js.say("s.a", b"1"), js.say("s.a", large), js.say("s.a", b"2")]
        js.w.say(b"PUB s.a %d\r\n%s\r\n" % (len(large), large))
        answers = [json.loads(js.heard(n)[1]) for n in numbers]
        assert [("error" in a) for a in answers] == [False, True, False], answers
        assert js.pub("s.a", b"3")["seq"] == 3 and js.state("S")["messages"] == 3
        wait_for(lambda: b"weir_nats_jetstream_lost_total 1\n" in s.call("GET", "/metrics")[2])
        assert "could not be kept" in s.tail(), s.tail()
        js.close()


def test_nats_stream_patterns():
    """A rollup by a subject with wildcards takes all of them away, after a restart too; a header's name keeps its blanks; a
    question for what is no subject finds nothing."""
    with scratch() as d:
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        js = Js(s)
        js.create("S", allow_rollup_hdrs=True)
        js.bad("STREAM.CREATE.M", {"name": "M", "mirror_direct": True}, 10052)
        for i in range(10):
            js.pub("s.k.%d" % i, "x")
        js.pub("s.other", "x", [("A B", "1")])
        js.pub("s.k.*", "", [("Nats-Rollup", "sub")])
        for _ in range(2):
            st = js.state("S", subjects_filter=">")
            assert st["messages"] == 1 and st["subjects"] == {"s.other": 1} and st["last_seq"] == 12, st
            m = js.good("STREAM.MSG.GET.S", {"last_by_subj": "s.other"})["message"]
            assert b"A B: 1\r\n" in base64.b64decode(m["hdrs"]), m
            js.bad("STREAM.MSG.GET.S", {"last_by_subj": "s..x"}, 10037)
            js.close()
            s.kill()
            s = Server(os.path.join(d, "data"), nats=0, loops=2)
            js = Js(s)
        js.close()
        s.stop()


def test_nats_stream_bytes():
    """What is not UTF-8: no consumer may be called so, as it could not be saved; what is refused because of such bytes is
    answered as well, and a subject that has them is told."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        js.create("S", allow_rollup_hdrs=True)

        def ask(subject, body, head=b""):
            js.n += 1
            size = b"%d %d" % (len(head), len(head) + len(body)) if head else b"%d" % len(body)
            js.w.say(b"%s %s %s.%d %s\r\n%s%s\r\n" % (b"HPUB" if head else b"PUB", subject, js.inbox.encode(), js.n, size, head, body))
            return json.loads(js.heard(js.n)[1])

        config = json.dumps({"stream_name": "S", "config": {"ack_policy": "explicit"}}).encode()
        assert ask(b"$JS.API.CONSUMER.CREATE.S.\xff\xfe", config)["error"]["err_code"] == 10052
        assert js.good("CONSUMER.NAMES.S")["total"] == 0
        o = ask(b"s.a", b"", b"NATS/1.0\r\nNats-Rollup: \xff!\r\n\r\n")
        assert o["error"]["err_code"] == 10111 and '"\ufffd!"' in o["error"]["description"], o
        assert ask(b"s.\xffb", b"x")["seq"] == 1
        m = js.good("STREAM.MSG.GET.S", {"seq": 1})["message"]
        assert m["subject"] == "s.\ufffdb" and m["data"] == "eA==", m
        js.close()


@beside_others
def test_nats_kv_c():
    """Buckets of the C library are those of nats.js, both ways, each in its turn."""
    need_node()
    npm_modules()
    tool = os.path.join(BUILD, "tests", "system", "kv_tool")

    def by_c(what):
        p = subprocess.run([tool, data, what], capture_output=True, timeout=120)
        assert p.returncode == 0, p.stderr.decode()
        return p.stdout.decode().splitlines()

    def by_client(step):
        s = Server(data, nats=0, loops=2)
        try:
            steps = steps_run(["node", os.path.join(HERE, "kv_c.mjs"), "%s:%d" % s.nats, "", step], (step,))
            js = Js(s)
            sizes.update({b: js.state("KV_" + b)["bytes"] for b in ("C", "JS")})
            js.close()
            return steps
        finally:
            s.stop()

    with scratch() as d:
        data, sizes = os.path.join(d, "data"), {}
        by_c("write")
        steps = by_client("theirs")
        got = by_c("C")
        assert got[:3] == ["3 0 a=3", "4 0 a=4", "11 0 a=5"], got
        assert got[3:] == ["6 0 gone=1", "9 1 gone=", "12 0 gone=again", "10 2 purged=", "key a", "key gone", "key x.y", got[-1]], got
        assert got[-1] == "history 3 ttl 0 revisions 8 bytes %d" % sizes["C"], got
        got = by_c("JS")
        assert got[:-1] == ["3 0 a=3", "5 0 a=5", "6 0 gone=1", "7 1 gone=", "9 2 purged=", "key a"], got
        assert got[-1] == "history 3 ttl 0 revisions 5 bytes %d" % sizes["JS"], got
        return steps + by_client("again")


def test_nats_stream_removals():
    """What is to be remembered of removals is more than one unit of small journal files: all of it stays removed after kill -9."""
    many, every, small = 400000, 2000, ("--set", "journal.file_bytes=64KiB")
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *small, nats=0, loops=2)
        js = Js(s)
        js.create("S")
        some = b"PUB s.a 0\r\n\r\n" * (every - 1) + b"PUB s.b 0\r\n\r\n"
        for _ in range(many // every):
            js.w.say(some)
        assert js.pub("s.a")["seq"] == many + 1
        assert js.good("STREAM.PURGE.S", {"filter": "s.b"})["purged"] == many // every
        for _ in range(2):
            st = js.state("S", subjects_filter=">")
            assert st["subjects"] == {"s.a": many + 1 - many // every} and st["num_deleted"] == many // every, st
            js.close()
            s.kill()
            s = Server(os.path.join(d, "data"), *small, nats=0, loops=2)
            js = Js(s)
        assert js.good("STREAM.DELETE.S")["success"]
        js.create("S")
        assert js.state("S")["messages"] == 0
        js.close()
        s.stop()
