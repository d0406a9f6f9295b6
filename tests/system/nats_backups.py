"""JetStream's backups: a stream sent in chunks and taken again, with its sequences, times and consumers; what is refused; a
restore that is cut off leaves nothing."""
import json

from harness import served, wait_for
from nats_copies import restartable
from nats_streams import Js, headers_of
from nats_topics import post


def heard(w):
    """The next message: subject, reply subject, headers, payload."""
    line = w.until(b"\r\n").decode().split()
    while line[0] not in ("MSG", "HMSG"):
        line = w.until(b"\r\n").decode().split()
    with_head = line[0] == "HMSG"
    size, head = int(line[-1]), int(line[-2]) if with_head else 0
    while len(w.got) < size + 2:
        w.got += w.s.recv(1 << 20)
    body, w.got = w.got[:size], w.got[size + 2:]
    return line[1], line[3] if len(line) == 5 + with_head else "", body[:head], body[head:]


def backup(js, name, **more):
    """Configuration, state, chunks."""
    js.inboxes = getattr(js, "inboxes", 0) + 1
    to = "%s.backup%d" % (js.inbox, js.inboxes)
    n = js.say("$JS.API.STREAM.SNAPSHOT." + name, json.dumps(dict({"deliver_subject": to}, **more)))
    chunks, answer, status = [], None, None
    while answer is None or status is None:
        subject, reply, head, body = heard(js.w)
        if subject != to:
            assert subject == "%s.%d" % (js.inbox, n), subject
            answer = json.loads(body)
            js.check(answer)
            assert "error" not in answer, answer
        elif not body:
            status = headers_of(head)[0]
        else:
            chunks.append(body)
            if reply:
                assert reply.startswith("$JS.SNAPSHOT.ACK.%s." % name) and reply.endswith(".%d.%d" % (len(body), len(chunks))), reply
                js.w.say(b"PUB %s 0\r\n\r\n" % reply.encode())
    assert status == "NATS/1.0 204", status
    return answer["config"], answer["state"], chunks


def restore(js, name, config, state, chunks, end=True):
    """The last answer: the stream's information, or an error."""
    o = js.ask("STREAM.RESTORE." + name, {"config": dict(config, name=name), "state": state})
    if "error" in o:
        return o
    for c in chunks:
        body = js.heard(js.say(o["deliver_subject"], c))[1]
        if body:
            return json.loads(body)
    return json.loads(js.heard(js.say(o["deliver_subject"], ""))[1]) if end else o


def shape(js, name):
    """What is to be the same."""
    st = js.state(name)
    keep = ("messages", "bytes", "first_seq", "last_seq", "first_ts", "consumer_count")
    got = [js.ask("STREAM.MSG.GET." + name, {"seq": seq}) for seq in range(st["first_seq"], st["last_seq"] + 1)]
    return {k: st[k] for k in keep}, [o["message"] for o in got if "message" in o]


def example(js, name="S", n=300):
    """A stream with gaps, headers, a large message, and consumers."""
    js.create(name, first_seq=50, allow_direct=True, metadata={"a": "b"})
    for i in range(n):
        js.pub("%s.%d" % (name.lower(), i % 7), "m%d" % i * (i % 50), [("K", "v%d" % i)] if i % 3 else None)
    js.pub(name.lower() + ".big", b"\x00\xff" * 300000)
    js.pub(name.lower() + ".gone", "")
    for seq in (50, 51, 60, 61, 62, 50 + n + 1):
        js.good("STREAM.MSG.DELETE." + name, {"seq": seq})
    js.good("CONSUMER.CREATE.%s.pull" % name, {"stream_name": name, "config": {"name": "pull", "durable_name": "pull", "ack_policy": "explicit", "filter_subject": name.lower() + ".1"}})
    js.good("CONSUMER.CREATE.%s.new" % name, {"stream_name": name, "config": {"name": "new", "durable_name": "new", "ack_policy": "explicit", "deliver_policy": "new"}})


def pull(js, name, consumer, n, ack=True):
    """Sequences of the next n messages."""
    asked = js.say("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (name, consumer), json.dumps({"batch": n}))
    got = []
    for _ in range(n):
        _, reply, _, _ = heard(js.w)
        got.append(int(reply.split(".")[5]))
        if ack:
            js.w.say(b"PUB %s 4\r\n+ACK\r\n" % reply.encode())
    return got


def both(js):
    """There and back in one server: the same, whatever the chunks are."""
    example(js)
    want, first = shape(js, "S"), pull(js, "S", "pull", 5)
    wait_for(lambda: js.good("CONSUMER.INFO.S.pull")["ack_floor"]["stream_seq"] == first[-1])
    config, state, chunks = backup(js, "S")
    assert state["messages"] == want[0]["messages"] and state["consumer_count"] == 2, state
    small = backup(js, "S", chunk_size=1024, window_size=4096)[2]
    assert {len(c) for c in small[:-1]} == {1024}
    none = backup(js, "S", no_consumers=True)
    assert none[1]["consumer_count"] == 0
    assert restore(js, "S", config, state, chunks)["error"]["err_code"] == 10130
    js.good("STREAM.DELETE.S")
    made = restore(js, "S", config, state, chunks)
    assert "error" not in made and made["config"]["metadata"]["a"] == "b", made
    assert shape(js, "S") == want
    assert js.pub("s.new", "")["seq"] == want[0]["last_seq"] + 1
    assert pull(js, "S", "pull", 1)[0] > first[-1]
    assert pull(js, "S", "new", 1) == [want[0]["last_seq"] + 1]
    js.good("STREAM.DELETE.S")
    made = restore(js, "S", config, none[1], none[2])
    want[0]["consumer_count"] = 0
    assert shape(js, "S") == want
    js.good("STREAM.DELETE.S")
    js.create("EMPTY")
    empty = backup(js, "EMPTY")
    js.good("STREAM.DELETE.EMPTY")
    assert "error" not in restore(js, "EMPTY", *empty)
    assert js.pub("empty.a", "")["seq"] == 1


def refusals(js):
    js.bad("STREAM.SNAPSHOT.NONE", {"deliver_subject": "x"}, 10059)
    example(js, "R", 20)
    js.bad("STREAM.SNAPSHOT.R", {"deliver_subject": "x.>"}, 10015)
    js.bad("STREAM.SNAPSHOT.R", {}, 10015)
    config, state, chunks = backup(js, "R", chunk_size=1024)
    js.bad("STREAM.RESTORE.R", None, 10003)
    js.bad("STREAM.RESTORE.Q", {"config": dict(config, name="P"), "state": state}, 10056)
    js.good("STREAM.DELETE.R")
    for bad in (chunks[:-1], chunks[:3] + chunks[4:], [b"x" * 1000], [chunks[0][:20] + b"?" + chunks[0][21:]] + chunks[1:], chunks + [chunks[0]]):
        o = restore(js, "R", config, state, bad)
        assert o.get("error", {}).get("err_code") == 10062, o
        wait_for(lambda: js.ask("STREAM.INFO.R").get("error", {}).get("err_code") == 10059)


def others(s, js):
    """A topic that another protocol made is no stream that a backup may go into: it stays."""
    js.create("T")
    like = js.good("STREAM.INFO.T")
    for i in range(5):
        post(s, "orders:%d" % i, i)
    o = js.bad("STREAM.RESTORE.orders", {"config": dict(like["config"], name="orders", subjects=["o.>"]), "state": like["state"]}, 10062)
    assert "topic of this name" in o["description"], o
    assert len(list(s.pages("orders"))) == 5
    assert js.good("STREAM.INFO.orders")["state"]["messages"] == 5


def test_nats_backups():
    with served(nats=0, loops=2) as s:
        js = Js(s)
        both(js)
        refusals(js)
        others(s, js)
        js.close()


def test_nats_backups_kill():
    """kill -9: a stream that was taken as a whole stays as it was; one of which a part came is not there."""
    with restartable() as a:
        js = a.js
        example(js)
        want = shape(js, "S")
        config, state, chunks = backup(js, "S", chunk_size=4096)
        js.good("STREAM.DELETE.S")
        assert "error" not in restore(js, "S", config, state, chunks)
        restore(js, "PART", dict(config, subjects=["part.>"]), state, chunks[:len(chunks) // 2], end=False)
        js = a.again()
        got = shape(js, "S")
        assert got == want, (got[0], want[0], [x for x in zip(got[1], want[1]) if x[0] != x[1]][:1])
        js.bad("STREAM.INFO.PART", None, 10059)
        assert js.pub("s.new", "")["seq"] == want[0]["last_seq"] + 1
        assert backup(js, "S")[1]["consumer_count"] == 2
        js.create("PART")
        assert js.pub("part.a", "")["seq"] == 1
