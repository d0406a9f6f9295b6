"""JetStream's streams that copy others: mirrors with the origin's sequences, sources with filters and transforms; nothing
twice and nothing missing over kill -9.
"""
import base64, contextlib, os, random, time

from harness import Server, scratch, wait_for
from nats_streams import Js, headers_of


class Again:
    """A server that can be killed and comes again, and a connection to it."""

    def __init__(self, data):
        self.data = data
        self.begin()

    def begin(self):
        self.s = Server(self.data, nats=0, loops=3)
        self.js = Js(self.s)

    def again(self):
        self.s.kill()
        self.js.close()
        self.begin()
        return self.js


@contextlib.contextmanager
def restartable():
    with scratch() as d:
        a = Again(os.path.join(d, "data"))
        try:
            yield a
        except BaseException:
            a.s.kill()
            print(a.s.tail())
            raise
        a.js.close()
        a.s.stop()


def copied(js, name, last):
    """Waits until the stream's last sequence is this; its state."""
    wait_for(lambda: js.state(name)["last_seq"] >= last, 30)
    return js.state(name)


def texts(js, name):
    """Sequence, subject, payload of all messages."""
    out = []
    st = js.state(name)
    for seq in range(st["first_seq"], st["last_seq"] + 1):
        o = js.ask("STREAM.MSG.GET." + name, {"seq": seq})
        if "error" in o:
            assert o["error"]["err_code"] == 10037, o
            continue
        m = o["message"]
        out.append((m["seq"], m["subject"], base64.b64decode(m.get("data", "")).decode()))
    return out


def test_nats_mirrors():
    """Sequences, times and headers of the origin, gaps too; filters, starts; the origin comes later, goes, comes again."""
    with restartable() as a:
        js = a.js
        js.good("STREAM.CREATE.EARLY", {"name": "EARLY", "mirror": {"name": "O"}})
        js.create("O", first_seq=10)
        for i in range(30):
            js.pub("o.%d" % (i % 3), str(i), [("K", i)])
        for seq in (10, 11, 20, 21, 25):
            js.good("STREAM.MSG.DELETE.O", {"seq": seq})
        js.good("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "O"}})
        js.good("STREAM.CREATE.F", {"name": "F", "mirror": {"name": "O", "filter_subject": "o.1"}})
        js.good("STREAM.CREATE.S", {"name": "S", "mirror": {"name": "O", "opt_start_seq": 30, "subject_transforms": [{"src": "o.*", "dest": "x.$1"}]}})
        js.pub("o.1", "end")
        want = texts(js, "O")
        st = copied(js, "M", 40)
        assert st["first_seq"] == 12 and st["messages"] == len(want) and st["num_deleted"] == 3, st
        assert texts(js, "M") == want
        assert js.good("STREAM.MSG.GET.M", {"seq": 12})["message"] == js.good("STREAM.MSG.GET.O", {"seq": 12})["message"]
        copied(js, "F", 40)
        assert texts(js, "F") == [m for m in want if m[1] == "o.1"]
        copied(js, "S", 40)
        assert texts(js, "S") == [(a, b.replace("o", "x"), c) for a, b, c in want if a >= 30]
        assert copied(js, "EARLY", 40)["messages"] >= len(want)
        assert [m for m in texts(js, "EARLY") if m[0] > 25] == [m for m in want if m[0] > 25]
        info = js.good("STREAM.INFO.M")
        assert info["mirror"]["name"] == "O" and info["mirror"]["lag"] == 0 and info["mirror"]["active"] >= 0 and "error" not in info["mirror"], info
        js.good("STREAM.MSG.DELETE.O", {"seq": 30})
        js.pub("o.2", "more")
        assert copied(js, "M", 41)["messages"] == len(want) + 1
        js.bad("STREAM.CREATE.X", {"name": "X", "mirror": {"name": "O"}, "subjects": ["x"]}, 10034)
        js.bad("STREAM.CREATE.X", {"name": "X", "mirror": {"name": "X"}}, 10052)
        js.bad("STREAM.CREATE.X", {"name": "X", "mirror": {"name": "O", "external": {"api": "a.b"}}}, 10052)
        js = a.again()
        wait_for(lambda: js.good("STREAM.INFO.M")["mirror"]["active"] >= 0, 30)
        assert [m[0] for m in texts(js, "M")] == [m[0] for m in want] + [41]
        js.pub("o.2", "again")
        copied(js, "M", 42)
        js.good("STREAM.DELETE.O")
        assert js.state("M")["last_seq"] == 42
        js.create("O")
        js.pub("o.2", "another")
        wait_for(lambda: "error" in js.good("STREAM.INFO.M")["mirror"], 30)
        assert js.state("M")["last_seq"] == 42 and texts(js, "M")[-1][2] == "again"
        js.good("STREAM.UPDATE.M", {"name": "M", "subjects": ["mine"]})
        assert js.pub("mine", "own")["seq"] == 43


def test_nats_sources():
    """Several at once, filtered and transformed; what the header says; one is taken away, comes again and goes on; circles."""
    with restartable() as a:
        js = a.js
        for name in ("A", "B", "C"):
            js.create(name)
        for i in range(40):
            js.pub("%s.%d" % ("abc"[i % 3], i % 2), str(i), [("Nats-Expected-Last-Subject-Sequence-None", 1)] if i % 2 else None)
        sources = [{"name": "A"}, {"name": "B", "filter_subject": "b.1"}, {"name": "C", "subject_transforms": [{"src": "c.0", "dest": "zero"}]}]
        js.good("STREAM.CREATE.ALL", {"name": "ALL", "subjects": ["own"], "sources": sources})
        n = sum(1 for i in range(40) if i % 3 == 0 or i % 3 == 1 and i % 2 == 1 or i % 3 == 2 and i % 2 == 0)
        copied(js, "ALL", n)
        assert js.pub("own", "mine")["seq"] == n + 1
        got = texts(js, "ALL")
        assert sorted(int(t) for _, _, t in got[:-1]) == [i for i in range(40) if i % 3 == 0 or i % 3 == 1 and i % 2 == 1 or i % 3 == 2 and i % 2 == 0]
        assert {b for _, b, _ in got} == {"a.0", "a.1", "b.1", "zero", "own"}
        for seq, subject, text in got[:-1]:
            h = headers_of(base64.b64decode(js.good("STREAM.MSG.GET.ALL", {"seq": seq})["message"]["hdrs"]))[1]
            at, i = h["Nats-Stream-Source"].split(" "), int(text)
            assert at[0] == "ABC"[i % 3] and int(at[1]) == i // 3 + 1 and at[4] == "%s.%d" % ("abc"[i % 3], i % 2), (at, i)
        info = js.good("STREAM.INFO.ALL")["sources"]
        assert {x["name"] for x in info} == {"A", "B", "C"} and all(x["lag"] == 0 and x["active"] >= 0 for x in info), info
        js.good("STREAM.UPDATE.ALL", {"name": "ALL", "subjects": ["own"], "sources": sources[1:]})
        js.pub("a.0", "while away")
        js.pub("b.1", "here")
        copied(js, "ALL", n + 2)
        js.good("STREAM.PURGE.ALL")
        js.good("STREAM.UPDATE.ALL", {"name": "ALL", "subjects": ["own"], "sources": sources})
        copied(js, "ALL", n + 3)
        assert [t for _, _, t in texts(js, "ALL")] == ["while away"]
        js.bad("STREAM.UPDATE.A", {"name": "A", "subjects": ["a.>"], "sources": [{"name": "ALL"}]}, 10052)
        js.good("STREAM.CREATE.LARGE", {"name": "LARGE", "subjects": ["large"], "max_msg_size": 1000})
        js.bad("STREAM.CREATE.X", {"name": "X", "mirror": {"name": "LARGE"}, "max_msg_size": 999}, 10030)
        js.bad("STREAM.CREATE.X", {"name": "X", "sources": [{"name": "A"}, {"name": "LARGE"}], "max_msg_size": 999}, 10046)
        js.good("STREAM.CREATE.X", {"name": "X", "sources": [{"name": "LARGE"}], "max_msg_size": 1000})
        js.bad("STREAM.UPDATE.X", {"name": "X", "sources": [{"name": "LARGE"}], "max_msg_size": 10}, 10046)
        assert js.good("STREAM.INFO.X")["config"]["max_msg_size"] == 1000
        js.good("STREAM.DELETE.X")
        js.good("STREAM.CREATE.SMALL", {"name": "SMALL", "subjects": ["small"], "sources": [{"name": "A"}], "discard": "new", "max_msgs": 5})
        copied(js, "SMALL", 5)
        js.good("STREAM.MSG.DELETE.SMALL", {"seq": 2})
        copied(js, "SMALL", 6)
        assert js.state("SMALL")["messages"] == 5
        js.good("STREAM.DELETE.A")
        js.create("A")
        js.pub("a.1", "anew")
        copied(js, "ALL", n + 4)
        assert texts(js, "ALL")[-1][2] == "anew"


def test_nats_copies_kill():
    """Publishing goes on while the server is killed: what was acknowledged is in the mirror and the source once."""
    with restartable() as a:
        js = a.js
        js.create("O")
        js.good("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "O"}})
        js.good("STREAM.CREATE.W", {"name": "W", "subjects": ["w"], "sources": [{"name": "O"}], "max_msgs": 50})
        js.good("STREAM.CREATE.ALL", {"name": "ALL", "subjects": ["all"], "sources": [{"name": "O"}]})
        for turn in range(3):
            for i in range(random.randrange(1, 300)):
                js.w.say(b"PUB o.x 8\r\n%8d\r\n" % (turn * 1000 + i))
            js.pub("o.x", "last")
            js = a.again()
        last = js.state("O")["last_seq"]
        o = texts(js, "O")
        for name in ("M", "W", "ALL"):
            copied(js, name, last)
        js.pub("o.x", "the end")
        for name in ("M", "W", "ALL"):
            assert copied(js, name, last + 1)["last_seq"] == last + 1, name
        assert texts(js, "M")[:-1] == o and texts(js, "ALL")[:-1] == o and texts(js, "W")[:-1] == o[-49:]
