"""JetStream's atomic batches: all of a batch is stored, in one piece, or nothing of it; what is refused and what is told."""
import json, threading

from harness import served, wait_for
from nats_copies import restartable
from nats_core import Wire
from nats_streams import Js
from nats_topics import message


def head(batch, n, commit=None, more=()):
    return [("Nats-Batch-Id", batch), ("Nats-Batch-Sequence", n)] + ([("Nats-Batch-Commit", commit)] if commit else []) + list(more)


def put(js, subject, batch, n, commit=None, more=(), body="x"):
    """The answer: None if it is an empty message."""
    text = js.heard(js.say(subject, body, head(batch, n, commit, more)))[1]
    return json.loads(text) if text else None


def fails(js, code, *args, **kw):
    o = put(js, *args, **kw)
    assert o and o.get("error", {}).get("err_code") == code, o


def test_nats_batches():
    with served(nats=0, loops=2) as s:
        js = Js(s)
        w = Wire(s)
        w.answer(b"SUB $JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.> 1\r\n")
        js.create("PLAIN")
        fails(js, 10174, "plain.a", "b", 1)
        js.create("B", allow_atomic=True, max_msgs_per_subject=3, discard="new", discard_new_per_subject=True)
        assert [put(js, "b.%d" % i, "one", i) for i in (1, 2)] == [None, None]
        assert js.state("B")["messages"] == 0 and js.pub("b.between")["seq"] == 1
        assert put(js, "b.3", "one", 3, "1") == {"stream": "B", "seq": 4, "batch": "one", "count": 3}
        assert [js.get("B", seq=i)[1] for i in (2, 3, 4)] == ["b.1", "b.2", "b.3"]
        assert put(js, "b.9", "single", 1, "1") == {"stream": "B", "seq": 5, "batch": "single", "count": 1}
        put(js, "b.4", "eob", 1)
        assert put(js, "b.none", "eob", 2, "eob") == {"stream": "B", "seq": 6, "batch": "eob", "count": 1}
        # what is refused leaves nothing
        assert js.refused(10175, "b.1", "", [("Nats-Batch-Id", "x")])
        fails(js, 10179, "b.1", "x" * 65, 1)
        fails(js, 10176, "b.1", "late", 2, "1")
        put(js, "b.5", "gap", 1)
        fails(js, 10176, "b.5", "gap", 3)
        told = json.loads(message(w)[3])
        assert (told["batch"], told["reason"], told["stream"]) == ("gap", "incomplete", "B"), told
        fails(js, 10176, "b.5", "gap", 2, "1")
        put(js, "b.5", "word", 1)
        fails(js, 10200, "b.5", "word", 2, "yes")
        put(js, "b.5", "ids", 1, more=[("Nats-Msg-Id", "i")])
        fails(js, 10201, "b.5", "ids", 2, "1", more=[("Nats-Msg-Id", "i")])
        put(js, "b.5", "ids", 1, more=[("Nats-Expected-Last-Msg-Id", "i")])
        fails(js, 10177, "b.5", "ids", 2, "1")
        put(js, "b.5", "seq", 1, more=[("Nats-Expected-Last-Sequence", 6)])
        fails(js, 10164, "b.5", "seq", 2, "1", more=[("Nats-Expected-Last-Sequence", 7)])
        put(js, "b.5", "subject", 1)
        fails(js, 10071, "b.6", "subject", 2, "1", more=[("Nats-Expected-Last-Subject-Sequence", 9)])
        for i in range(1, 4):
            put(js, "b.full", "full", i)
        fails(js, 10077, "b.full", "full", 4, "1")
        assert js.state("B")["last_seq"] == 6 and js.state("B")["messages"] == 6
        # with expectations that hold
        put(js, "b.5", "good", 1, more=[("Nats-Expected-Last-Sequence", 6), ("Nats-Expected-Last-Subject-Sequence", 0)])
        assert put(js, "b.6", "good", 2, "1", more=[("Nats-Expected-Last-Subject-Sequence", 0), ("Nats-Msg-Id", "m")])["seq"] == 8
        assert js.pub("b.6", "x", [("Nats-Msg-Id", "m")]).get("duplicate")
        # limits
        for i in range(50):
            put(js, "b.7", "open%d" % i, 1)
        fails(js, 10210, "b.7", "open50", 1)
        for i in range(2, 1001):
            h = b"NATS/1.0\r\nNats-Batch-Id: open0\r\nNats-Batch-Sequence: %d\r\n\r\n" % i
            js.w.say(b"HPUB b.l%d %d %d\r\n%s\r\n" % (i, len(h), len(h), h))
        fails(js, 10199, "b.7", "open0", 1001, "1")
        told = json.loads(message(w)[3])
        assert (told["batch"], told["reason"]) == ("open0", "large"), told
        assert js.state("B")["last_seq"] == 8
        js.close()
        w.close()


def test_nats_batches_kill():
    """kill -9 while batches are committed: of each there is everything or nothing, in one piece; of those answered, everything."""
    size = 20
    with restartable() as a:
        answered = set()
        a.js.create("B", allow_atomic=True)
        for turn in range(4):
            js, stop = a.js, threading.Event()

            def publish(k, server=a.s, stop=stop, turn=turn):
                i = 0
                try:
                    mine = Js(server)
                    while not stop.is_set():
                        i += 1
                        name = "%d-%d-%d" % (turn, k, i)
                        for n in range(1, size):
                            mine.say("b.%s" % name, str(n), head(name, n))
                        last = mine.say("b.%s" % name, str(size), head(name, size, "1"))
                        for m in range(last - size + 1, last):
                            mine.heard(m)
                        o = json.loads(mine.heard(last)[1])
                        assert o["count"] == size, o
                        answered.add(name)
                except (OSError, EOFError, AssertionError, IndexError):
                    if not stop.is_set():
                        raise

            threads = [threading.Thread(target=publish, args=(k,)) for k in range(2)]
            before = len(answered)
            for t in threads:
                t.start()
            wait_for(lambda: len(answered) >= before + 5)
            stop.set()
            a.s.kill()
            for t in threads:
                t.join()
            js.close()
            a.begin()
        js = a.js
        last = js.state("B")["last_seq"]
        names = [js.get("B", seq=i)[1:] for i in range(1, last + 1)]
        assert last % size == 0
        for at in range(0, last, size):
            assert len({n for n, _ in names[at:at + size]}) == 1
            assert [int(b) for _, b in names[at:at + size]] == list(range(1, size + 1))
        there = {n[2:] for n, _ in names}
        assert answered <= there, answered - there
