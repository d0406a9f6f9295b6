"""JetStream's message schedules: what is refused; messages are made when they are due, once for each time, over kill -9."""
import base64, datetime, os

from harness import served, wait_for
from nats_copies import restartable, texts
from nats_streams import Js, headers_of

ZONES = os.path.exists("/usr/share/zoneinfo/Europe/Berlin")


def at(seconds):
    """RFC 3339, so many seconds from now."""
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return t.isoformat(timespec="milliseconds").replace("+00:00", "000000Z")


def head(pattern, target, **more):
    names = {"ttl": "Nats-Schedule-TTL", "source": "Nats-Schedule-Source", "zone": "Nats-Schedule-Time-Zone", "rollup": "Nats-Schedule-Rollup"}
    return [("Nats-Schedule", pattern), ("Nats-Schedule-Target", target)] + [(names[k], v) for k, v in more.items()]


def create(js, name="S", **more):
    return js.create(name, **dict({"allow_msg_schedules": True, "allow_msg_ttl": True}, **more))


def last(js, name, subject):
    """Sequence, headers, payload, time of the last message of a subject; None: there is none."""
    o = js.ask("STREAM.MSG.GET." + name, {"last_by_subj": subject})
    if "error" in o:
        assert o["error"]["err_code"] == 10037, o
        return None
    m = o["message"]
    h = headers_of(base64.b64decode(m["hdrs"]))[1] if "hdrs" in m else {}
    return m["seq"], h, base64.b64decode(m.get("data", "")).decode(), m["time"]


def refusals(js):
    js.create("PLAIN")
    js.refused(10188, "plain.a", "", head("@at " + at(9), "plain.b"))
    js.refused(10188, "plain.a", "", head("nonsense", "plain.b"))
    js.refused(10188, "plain.a", "", [("Nats-Schedule-Next", "purge"), ("Nats-Scheduler", "plain.b")])
    conf = js.create("S", allow_msg_schedules=True)["config"]
    assert conf["allow_msg_schedules"] and conf["allow_rollup_hdrs"], conf
    later = "@at " + at(3600)
    for pattern in ("@at tomorrow", "@every 100ms", "@every x", "* * * * *", "61 * * * * *", "@never"):
        js.refused(10189, "s.a", "", head(pattern, "s.b"))
    js.refused(10189, "s.a", "", head(later, "s.b", zone="UTC"))
    js.refused(10223, "s.a", "", head("@daily", "s.b", zone="No/Where"))
    js.refused(10223, "s.a", "", head("@daily", "s.b", zone="../etc/passwd"))
    js.refused(10191, "s.a", "", head(later, "s.b", ttl="soon"))
    js.refused(10166, "s.a", "", head(later, "s.b", ttl="5s"))
    js.refused(10192, "s.a", "", head(later, "s.b", rollup="all"))
    js.refused(10190, "s.a", "", head(later, "s.a"))
    js.refused(10190, "s.a", "", head(later, "s.*"))
    js.refused(10190, "s.a", "", head(later, "else.where"))
    js.refused(10190, "s.a", "", [("Nats-Schedule", later)])
    js.refused(10203, "s.a", "", head(later, "s.b", source="s.b"))
    js.refused(10203, "s.a", "", head(later, "s.b", source="s.>"))
    js.refused(10203, "s.a", "", head(later, "s.b", source="else.where"))
    js.refused(10192, "s.a", "", head(later, "s.b") + [("Nats-Rollup", "all")])
    js.refused(10212, "s.a", "", [("Nats-Scheduler", "s.b")])
    js.refused(10212, "s.a", "", [("Nats-Scheduler", "s.a"), ("Nats-Schedule-Next", "purge")])
    js.refused(10212, "s.a", "", [("Nats-Scheduler", "s.b"), ("Nats-Schedule-Next", at(5))])
    js.refused(10212, "s.a", "", [("Nats-Schedule-Next", "purge")])
    js.pub("s.b", "no schedule")
    js.refused(10212, "s.a", "", [("Nats-Scheduler", "s.b"), ("Nats-Schedule-Next", "purge")])
    js.bad("STREAM.CREATE.N", {"name": "N", "subjects": ["n"], "allow_msg_schedules": True, "discard": "new"}, 10052)
    js.bad("STREAM.CREATE.N", {"name": "N", "subjects": ["n"], "allow_msg_schedules": True, "sources": [{"name": "S"}]}, 10187)
    js.bad("STREAM.CREATE.N", {"name": "N", "allow_msg_schedules": True, "mirror": {"name": "S"}}, 10186)
    js.bad("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_msg_schedules": False}, 10052)


def once(js):
    """One message, not before its time; its schedule goes."""
    create(js, "ONCE")
    due = at(1)
    asked = js.pub("once.plan", "body", head("@at " + due, "once.do", ttl="1h") + [("K", "v"), ("Nats-Msg-Id", "one")])
    assert last(js, "ONCE", "once.plan")[1]["Nats-Rollup"] == "sub"
    wait_for(lambda: last(js, "ONCE", "once.do"))
    seq, h, body, made = last(js, "ONCE", "once.do")
    assert made >= due and seq == asked["seq"] + 1 and body == "body", (made, due, seq)
    assert h == {"K": "v", "Nats-Scheduler": "once.plan", "Nats-Schedule-Next": "purge", "Nats-TTL": "1h"}, h
    wait_for(lambda: last(js, "ONCE", "once.plan") is None)
    # the last of its subject counts: a later one, one that is none, one that is removed
    first, second = at(0.7), at(1.5)
    js.pub("once.plan", "first", head("@at " + first, "once.a"))
    js.pub("once.plan", "second", head("@at " + second, "once.b"))
    js.pub("once.other", "", head("@at " + first, "once.c"))
    js.pub("once.other", "none any more")
    js.pub("once.third", "", head("@at " + first, "once.d"))
    js.pub("once.third.end", "", [("Nats-Scheduler", "once.third"), ("Nats-Schedule-Next", "purge")])
    js.good("STREAM.PURGE.ONCE", {"filter": "once.fourth"})
    n = js.pub("once.fourth", "", head("@at " + first, "once.e"))["seq"]
    js.good("STREAM.MSG.DELETE.ONCE", {"seq": n})
    wait_for(lambda: last(js, "ONCE", "once.b"))
    assert [last(js, "ONCE", "once." + x) for x in "acde"] == [None] * 4 and last(js, "ONCE", "once.third") is None
    # what is past is due at once; many at a time
    for i in range(200):
        js.say("once.many.%d" % i, str(i), head("@at " + at(-5), "once.past.%d" % i))
        js.heard(js.n)
    wait_for(lambda: js.state("ONCE", subjects_filter="once.past.*").get("subjects", {}) == {"once.past.%d" % i: 1 for i in range(200)})
    wait_for(lambda: not js.state("ONCE", subjects_filter="once.many.*").get("subjects"))


def again(js):
    """Every second; from a source; with a rollup."""
    create(js, "MORE")
    js.pub("more.data", "1", [("D", "d")])
    js.pub("more.plan", "own", head("@every 1s", "more.do", source="more.data", rollup="sub"))
    js.pub("more.other", "own", head("* * * * * *", "more.also", source="more.none"))
    wait_for(lambda: last(js, "MORE", "more.do"))
    seq, h, body, made = last(js, "MORE", "more.do")
    due = h.pop("Nats-Schedule-Next")
    assert h == {"D": "d", "Nats-Scheduler": "more.plan", "Nats-Rollup": "sub"} and body == "1", h
    assert due > made and due.endswith("Z"), (due, made)
    js.pub("more.data", "2")
    wait_for(lambda: last(js, "MORE", "more.do")[2] == "2")
    seq, h, body, made = last(js, "MORE", "more.do")
    assert made >= due[:-1], (made, due)
    assert last(js, "MORE", "more.also")[2] == "own"
    st = js.state("MORE", subjects_filter="more.*")["subjects"]
    assert st["more.do"] == 1 and st["more.plan"] == 1 and st["more.also"] >= 1, st
    if ZONES:
        js.pub("more.zone", "", head("@hourly", "more.local", zone="Europe/Berlin"))


def test_nats_schedules():
    with served(nats=0, loops=2) as s:
        js = Js(s)
        refusals(js)
        once(js)
        again(js)
        js.close()


def test_nats_schedules_kill():
    """kill -9 while schedules make messages: each time makes one; what is due meanwhile is made when the server is back."""
    with restartable() as a:
        js = a.js
        create(js)
        for i in range(300):
            js.pub("s.at.%d" % i, str(i), head("@at " + at(0.1 + i / 150), "s.made.%d" % i))
        js.pub("s.every", "", head("@every 1s", "s.tick"))
        js.create("W", allow_msg_schedules=True, retention="workqueue")
        js.pub("w.every", "", head("@every 2s", "w.tick"))
        for turn in range(3):
            wait_for(lambda: js.state("S", subjects_filter="s.made.*").get("subjects", {}).get("s.made.%d" % (turn * 100 + 30)))
            js = a.again()
        made = {"s.made.%d" % i: 1 for i in range(300)}
        wait_for(lambda: len(js.state("S", subjects_filter="s.made.*").get("subjects", {})) == 300)
        wait_for(lambda: not js.state("S", subjects_filter="s.at.*").get("subjects"))
        wait_for(lambda: last(js, "W", "w.tick"))
        # what was made is gone, its schedule knows where it was
        due = last(js, "W", "w.tick")[1]["Nats-Schedule-Next"]
        js.good("STREAM.PURGE.W", {"filter": "w.tick"})
        js = a.again()
        wait_for(lambda: last(js, "W", "w.tick"))
        assert last(js, "W", "w.tick")[3] >= due[:-1], (last(js, "W", "w.tick"), due)
        js.good("STREAM.MSG.DELETE.S", {"seq": last(js, "S", "s.every")[0]})
        js = a.again()
        st = js.state("S", subjects_filter="s.>")["subjects"]
        assert {k: v for k, v in st.items() if k.startswith("s.made")} == made, st
        ticks = [headers_of(base64.b64decode(js.good("STREAM.MSG.GET.S", {"seq": seq})["message"]["hdrs"]))[1]["Nats-Schedule-Next"]
                 for seq, subject, _ in texts(js, "S") if subject == "s.tick"]
        assert len(set(ticks)) == len(ticks) >= 2, ticks
        assert js.good("STREAM.DELETE.S")["success"]
