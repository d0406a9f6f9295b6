"""JetStream's consumers: what they say byte by byte, nats.js of both generations, restarts and kill -9."""
import json, os, re, subprocess, time

from harness import BUILD, Server, beside_others, npm_modules, scratch, served, wait_for
from kafka_clients import need_node, steps_run
from nats_core import HERE, Wire

STEPS = ("fetch", "consume", "redelivery", "delays", "ordered", "policies", "push", "groups", "pause", "work_queue", "rate",
         "replay", "samples", "headers_only", "next_by_ack")


class Js(Wire):
    """A connection that asks JetStream's API, and gets messages."""

    def __init__(self, server):
        super().__init__(server)
        self.box = "in.%d" % self.info["client_id"]  # in the test itself: "in.ack", "in.pub"
        self.say(b"SUB %s.* 1\r\nSUB in.pub 3\r\nSUB in.ack 4\r\nSUB in.ack.* 5\r\n" % self.box.encode())
        self.boxes = {}  # of requests for messages, by subscription
        self.n = 0
        self.waiting, self.confirms = [], []  # what came while something else was waited for

    def message(self):
        """The next one: subject (of what was asked for: the inbox), reply, headers, payload."""
        line = self.until(b"\r\n").split()
        while line[0] in (b"PING", b"PONG", b"+OK"):
            line = self.until(b"\r\n").split()
        head = int(line[-2]) if line[0] == b"HMSG" else 0
        size = int(line[-1])
        fixed = 5 if line[0] == b"HMSG" else 4
        while len(self.got) < size + 2:
            more = self.s.recv(1 << 16)
            assert more
            self.got += more
        body, self.got = self.got[:size], self.got[size + 2:]
        return self.boxes.get(line[2], line[1].decode()), line[3].decode() if len(line) > fixed else "", body[:head].decode(), body[head:]

    def publish(self, subject, payload=b"", reply=""):
        return self.say(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(payload), payload))

    def ask(self, subject, payload=None):
        """An answer of the API."""
        self.n += 1
        inbox = "%s.%d" % (self.box, self.n)
        body = b"" if payload is None else json.dumps(payload).encode()
        self.publish("$JS.API." + subject, body, inbox)
        got = self.message()
        while got[0] != inbox:
            got = self.message()
        return json.loads(got[3])

    def ok(self, subject, payload=None):
        answer = self.ask(subject, payload)
        assert "error" not in answer, (subject, answer)
        return answer

    def stored(self, subject, payload=b"x"):
        self.n += 1
        inbox = "%s.%d" % (self.box, self.n)
        self.publish(subject, payload, inbox)
        got = self.message()
        assert got[0] == inbox, got
        return json.loads(got[3])["seq"]

    def stream(self, name, n=0, **conf):
        self.ok("STREAM.CREATE." + name, dict({"name": name, "subjects": [name + ".>"]}, **conf))
        return [self.stored("%s.%d" % (name, i % 3), b"%d" % i) for i in range(n)]

    def consumer(self, stream, name, **conf):
        return self.ok("CONSUMER.CREATE.%s.%s" % (stream, name),
                       {"stream_name": stream, "config": dict({"durable_name": name, "ack_policy": "explicit"}, **conf)})

    def pull(self, stream, name, **body):
        self.n += 1
        inbox, sid = "pull.%s.%d" % (self.box, self.n), b"%d" % (100 + self.n)
        self.boxes[sid] = inbox
        self.say(b"SUB %s %s\r\n" % (inbox.encode(), sid))
        self.publish("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (stream, name), json.dumps(body).encode() if body else b"", inbox)
        return inbox

    def message_ack(self):
        """What is confirmed next, while messages come."""
        while self.confirms == []:
            got = self.message()
            (self.confirms if got[0].startswith("in.ack.") else self.waiting).append(got)
        return self.confirms.pop(0)[0].rsplit(".", 1)[1]

    def got_seq(self):
        while not self.waiting:
            got = self.message()
            (self.confirms if got[0].startswith("in.ack.") else self.waiting).append(got)
        got = self.waiting.pop(0)
        assert got[1].startswith("$JS.ACK."), got
        return int(got[1].split(".")[5]), got[1]


def error(answer):
    return answer["error"]["err_code"]


def test_nats_pulls():
    """Requests for messages: batches, limits, statuses, whose turn it is."""
    with served(nats=0, loops=2) as s:
        w = Js(s)
        w.stream("P", 6)
        i = w.consumer("P", "d", max_waiting=3)
        assert i["num_pending"] == 6 and i["config"]["max_ack_pending"] == 1000 and i["delivered"] == {"consumer_seq": 0, "stream_seq": 0}, i
        w.pull("P", "d")
        seq, ack = w.got_seq()
        assert re.match(r"\$JS\.ACK\.P\.d\.1\.1\.1\.\d{19}\.5$", ack), ack
        w.publish(ack, b"+ACK", "in.ack")
        assert w.message() == ("in.ack", "", "", b"")
        w.pull("P", "d", batch=2, max_bytes=60)  # the second one has no room
        w.got_seq()
        assert "409 Message Size Exceeds MaxBytes\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: " in w.message()[2]
        first, second = w.pull("P", "d", batch=2, expires=10**10), None
        assert [w.got_seq()[0] for _ in range(2)] == [3, 4]
        w.pull("P", "d", batch=5, no_wait=True)
        assert [w.got_seq()[0] for _ in range(2)] == [5, 6]
        assert "404 No Messages" in w.message()[2]
        w.pull("P", "d", no_wait=True)
        assert w.message()[2] == "NATS/1.0 404 No Messages\r\n\r\n"
        w.pull("P", "d", expires=2 * 10**8)
        assert w.message()[2] == "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: 0\r\n\r\n"
        w.pull("P", "d", expires=10**9, idle_heartbeat=2 * 10**8)
        assert "100 Idle Heartbeat\r\nNats-Last-Consumer: 6\r\n" in w.message()[2]
        while "408 Request Timeout" not in w.message()[2]:
            pass
        for body, said in (({"expires": 1, "idle_heartbeat": 1}, "400 Bad Request - heartbeat value too large"),
                           ({"batch": "x"}, "400 Bad Request"), ({"priority": 11}, "400 Bad Request - Priority must be between 0 and 9")):
            w.pull("P", "d", **body)
            assert said in w.message()[2], body
        boxes = [w.pull("P", "d", batch=2, expires=10**11) for _ in range(4)]
        assert w.message()[::2] == (boxes[3], "NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n")
        assert w.ok("CONSUMER.INFO.P.d")["num_waiting"] == 3
        other = Js(s)
        for n in range(4):
            other.stored("P.x")
        assert [w.message()[0] for _ in range(4)] == boxes[:3] + boxes[:1], "in turn"
        w.ok("CONSUMER.DELETE.P.d")  # its answer comes behind what waited
        w.pull("P", "d")
        assert w.message()[2] == "NATS/1.0 503\r\n\r\n"
        w.consumer("P", "gone")
        other.pull("P", "gone", expires=10**11)
        other.ok("CONSUMER.INFO.P.gone")
        other.close()  # nobody listens any more: the next message is not for it
        wait_for(lambda: w.ok("CONSUMER.INFO.P.gone")["num_waiting"] == 0)
        w.close()


def test_nats_priorities():
    with served(nats=0, loops=2) as s:
        w = Js(s)
        w.stream("G", 4)
        w.consumer("G", "o", priority_policy="overflow", priority_groups=["A"])
        w.pull("G", "o", group="A", min_pending=4, batch=9, expires=10**11)
        assert [w.got_seq()[0]] == [1], "as long as four wait"
        w.pull("G", "o", group="A", expires=10**11)
        assert w.got_seq()[0] == 2, "those that do not say get what there is"
        w.pull("G", "o", group="B")
        assert "Invalid Priority Group" in w.message()[2]
        w.consumer("G", "p", priority_policy="pinned_client", priority_groups=["A"], priority_timeout=10**9)
        one, two = w.pull("G", "p", group="A", batch=2, expires=10**11), w.pull("G", "p", group="A", expires=10**11)
        got = [w.message() for _ in range(2)]
        assert [g[0] for g in got] == [one, one] and "Nats-Pin-Id: " in got[0][2], got
        pin = re.search("Nats-Pin-Id: ([^\r]+)", got[0][2]).group(1)
        assert w.ok("CONSUMER.INFO.G.p")["priority_groups"][0]["pinned_client_id"] == pin
        w.pull("G", "p", group="A", id="another")
        assert "423" in w.message()[2]
        w.ok("CONSUMER.UNPIN.G.p", {"group": "A"})
        got = w.message()
        assert got[0] == two and pin not in got[2], "the next one is pinned"
        w.close()


def test_nats_consumer_api():
    """What is made, changed, listed, refused, and with which numbers."""
    with served(nats=0, loops=2) as s:
        w = Js(s)
        w.stream("A", 3)
        w.stream("W", 0, retention="workqueue")
        create = lambda subject, conf, **more: w.ask("CONSUMER." + subject, dict({"stream_name": "A", "config": conf}, **more))
        assert create("DURABLE.CREATE.A.d", {"durable_name": "d", "ack_policy": "explicit"})["name"] == "d"
        assert error(create("CREATE.A.d", {"durable_name": "d", "ack_policy": "explicit", "max_deliver": 3}, action="create")) == 10148
        assert create("CREATE.A.d", {"durable_name": "d", "ack_policy": "explicit"}, action="create")["name"] == "d"
        assert create("CREATE.A.d", {"durable_name": "d", "ack_policy": "explicit", "max_deliver": 3})["config"]["max_deliver"] == 3
        assert error(create("CREATE.A.d", {"durable_name": "d", "ack_policy": "all"})) == 10012
        assert error(create("CREATE.A.e", {"durable_name": "e"}, action="update")) == 10149
        assert error(create("CREATE.A.e", {"durable_name": "f"})) == 10017
        assert error(create("CREATE.A", {"durable_name": "f"})) == 10020
        assert error(create("DURABLE.CREATE.A.f", {})) == 10018
        assert error(create("CREATE.A.e.A.1", {"name": "e", "filter_subject": "A.2"})) == 10131
        assert error(w.ask("CONSUMER.CREATE.A.e", {"stream_name": "B", "config": {}})) == 10056
        assert error(w.ask("CONSUMER.CREATE.none.e", {"stream_name": "none", "config": {}})) == 10059
        assert error(w.ask("CONSUMER.INFO.A.none")) == 10014
        some = create("CREATE.A.e.A.1", {"name": "e", "filter_subject": "A.1"})
        assert some["num_pending"] == 1 and some["config"]["inactive_threshold"] == 5 * 10**9, some
        name = create("CREATE.A", {"ack_policy": "none"})["name"]
        names = w.ok("CONSUMER.NAMES.A")
        assert names["consumers"] == sorted(["d", "e", name]) and names["total"] == 3 and names["limit"] == 1024, names
        assert [c["name"] for c in w.ok("CONSUMER.LIST.A", {"offset": 1})["consumers"]] == sorted(["d", "e", name])[1:]
        queue = lambda conf: w.ask("CONSUMER.CREATE.W.%s" % conf["name"], {"stream_name": "W", "config": conf})
        assert error(queue({"name": "a", "ack_policy": "all"})) == 10098
        assert error(queue({"name": "a", "ack_policy": "explicit", "deliver_policy": "new"})) == 10101
        assert queue({"name": "a", "ack_policy": "explicit", "filter_subject": "W.a"})["name"] == "a"
        assert error(queue({"name": "b", "ack_policy": "explicit"})) == 10099
        assert error(queue({"name": "b", "ack_policy": "explicit", "filter_subject": "W.*"})) == 10100
        w.pull("A", "d", batch=3)
        acks = [w.got_seq()[1] for _ in range(3)]
        w.publish(acks[0], b"", "in.ack")
        w.message()
        reset = w.ok("CONSUMER.RESET.A.d", {"seq": 1})
        assert reset["reset_seq"] == 1 and reset["num_pending"] == 3, reset
        assert w.ok("STREAM.INFO.A")["state"]["consumer_count"] == 3
        assert w.ok("CONSUMER.DELETE.A.e")["success"]
        assert error(w.ask("CONSUMER.DELETE.A.e")) == 10014
        assert w.ok("CONSUMER.NAMES.A")["total"] == 2
        w.close()


def test_nats_refused_first():
    """What a client refuses goes before what was never delivered, asked for at once."""
    with served(nats=0, loops=2) as s:
        js = Js(s)
        js.stream("S", 40)
        js.consumer("S", "C")
        js.pull("S", "C", batch=1)
        for i in range(30):
            seq, reply = js.got_seq()
            assert seq == 1, (i, seq)
            js.publish(reply, b"-NAK")
            js.pull("S", "C", batch=1)
        js.close()


def test_nats_consumer_restart():
    """Consumers, what was acknowledged, and what was delivered as often as allowed are there after a stop and a kill."""
    with scratch() as d:
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        w = Js(s)
        w.stream("R", 10)
        w.consumer("R", "d", ack_wait=10**11)
        w.consumer("R", "n", ack_policy="none")
        w.pull("R", "d", batch=6)
        acks = [w.got_seq()[1] for _ in range(6)]
        for a in acks[:3]:
            w.publish(a, b"", "in.ack")
            w.message()
        w.close()
        s.kill()
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        w = Js(s)
        assert w.ok("CONSUMER.INFO.R.d")["ack_floor"]["stream_seq"] == 3
        w.publish(acks[4], b"", "in.ack")  # delivered before
        w.message()
        w.pull("R", "d", batch=20, no_wait=True)
        got = [w.message() for _ in range(7)]
        assert [int(g[1].split(".")[5]) for g in got[:6]] == [4, 6, 7, 8, 9, 10] and "404" in got[6][2], got
        for g in got[:6]:
            w.publish(g[1], b"", "in.ack")
            w.message()
        w.pull("R", "n", batch=10)
        assert [w.got_seq()[0] for _ in range(10)] == list(range(1, 11))
        w.close()
        s.stop()
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        w = Js(s)
        i = w.ok("CONSUMER.INFO.R.d")
        assert (i["ack_floor"]["stream_seq"], i["num_pending"], i["num_ack_pending"]) == (10, 0, 0), i
        assert w.ok("CONSUMER.INFO.R.n")["num_pending"] == 0, "its place was saved"
        w.close()
        s.stop()


@beside_others
def test_nats_cursor_c():
    """Cursors of the C library are consumers, both ways, each in its turn."""

    def by_c(name, take=None):
        p = subprocess.run([os.path.join(BUILD, "tests", "system", "cursor_tool"), data, "S", name, take or "-"], capture_output=True, timeout=60)
        assert p.returncode == 0, p.stderr.decode()
        return p.stdout.decode().splitlines()

    def done(js, m):
        js.publish(m[1], b"", "in.ack")
        assert js.message()[0] == "in.ack"

    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data, nats=0, loops=2)
        js = Js(s)
        js.stream("S")
        for i, subject in enumerate(("S.a", "S.b", "S.a", "S.a.x", "S.a")):
            js.stored(subject, b"%d" % i)
        js.ok("STREAM.MSG.DELETE.S", {"seq": 3})
        js.consumer("S", "theirs", filter_subject="S.a", max_deliver=7)
        js.pull("S", "theirs", batch=1)
        done(js, js.message())
        js.close()
        s.stop()
        assert by_c("theirs") == ["4 1 4"]  # the first is done, the second of the subject was removed
        assert by_c("ours", "S.*") == ["0 1 0", "1 1 1", "4 1 4"]
        assert by_c("ours") == ["1 2 1", "4 2 4"]
        s = Server(data, nats=0, loops=2)
        js = Js(s)
        assert js.ok("CONSUMER.NAMES.S")["consumers"] == ["ours", "theirs"]
        i = js.ok("CONSUMER.INFO.S.theirs")
        assert (i["num_pending"], i["num_ack_pending"], i["config"]["max_deliver"]) == (0, 0, 7), i
        i = js.ok("CONSUMER.INFO.S.ours")
        assert (i["config"]["filter_subject"], i["config"]["ack_policy"], i["config"]["deliver_policy"]) == ("S.*", "explicit", "all"), i
        assert (i["num_pending"], i["num_ack_pending"], i["ack_floor"]["stream_seq"]) == (0, 1, 4), i
        js.pull("S", "ours", batch=5)
        m = js.message()
        assert m[3] == b"4", m
        done(js, m)
        js.stored("S.new", b"5")
        m = js.message()
        assert m[3] == b"5", m
        js.close()
        s.stop()
        got = by_c("ours")
        assert [g.split()[::2] for g in got] == [["5", "5"]], got


def test_nats_kill_acks():
    """No acknowledgement that was confirmed is lost by kill -9: what was confirmed is not delivered again, what was not is."""
    rounds = 50 if os.environ.get("WEIR_LONG") else 3
    with scratch() as d:
        s = Server(os.path.join(d, "data"), nats=0, loops=2)
        w = Js(s)
        w.stream("K", 0, retention="workqueue")
        w.consumer("K", "d", ack_wait=10**11, max_ack_pending=5000)
        confirmed, sent, published = set(), set(), 0
        for n in range(rounds):
            w.ok("STREAM.INFO.K")  # it is loaded
            for _ in range(150):
                w.publish("K.x", b"", "in.pub")
            published += 150
            assert [json.loads(w.message()[3])["seq"] for _ in range(150)][-1] == published
            w.pull("K", "d", batch=100, expires=10**10)
            for k in range(100):
                seq, ack = w.got_seq()
                assert seq not in confirmed, "%d was confirmed and came again" % seq
                sent.add(seq)
                if k % 10 != 3:
                    w.publish(ack, b"", "in.ack.%d" % seq)
                    if k < 70:
                        confirmed.add(int(w.message_ack()))
            w.s.close()
            s.kill()
            s = Server(os.path.join(d, "data"), nats=0, loops=2)
            w = Js(s)
        state = w.ok("STREAM.INFO.K")["state"]
        wait_for(lambda: w.ok("STREAM.INFO.K")["state"]["messages"] <= published - len(confirmed))
        w.pull("K", "d", batch=100000, no_wait=True)
        left = set()
        while True:
            got = w.message()
            if got[2]:
                break
            left.add(int(got[1].split(".")[5]))
        assert not left & confirmed, sorted(left & confirmed)[:10]
        everything = set(range(1, published + 1))
        assert everything - left <= sent, "lost: %s" % sorted(everything - left - sent)[:10]
        assert state["last_seq"] == published
        w.close()
        s.stop()


def node(generation):
    need_node()
    npm_modules()
    with served(nats=0, loops=2) as s:
        return steps_run(["node", os.path.join(HERE, "consumers.mjs"), generation, "%s:%d" % s.nats], STEPS)


@beside_others
def test_nats_consumers_js():
    return node("3")


@beside_others
def test_nats_consumers_js_2():
    return node("2")
