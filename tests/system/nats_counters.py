"""JetStream's counters: sums of any size, each increment once among publishers and over kill -9; sums of other streams."""
import base64, json, random, threading

from harness import served, wait_for
from nats_batches import fails, put
from nats_copies import restartable
from nats_streams import Js, headers_of


def incr(js, subject, n, *more):
    return js.pub(subject, "", [("Nats-Incr", n)] + list(more))


def value(js, name, subject):
    """The sum, headers of its message; None: there is none."""
    o = js.ask("STREAM.MSG.GET." + name, {"last_by_subj": subject})
    if "error" in o:
        return None
    m = o["message"]
    return int(json.loads(base64.b64decode(m["data"]))["val"]), headers_of(base64.b64decode(m["hdrs"]))[1]


def refusals(js):
    js.create("PLAIN")
    js.refused(10168, "plain.a", "", [("Nats-Incr", 1)])
    js.refused(10171, "plain.a", "", [("Nats-Incr", "one")])
    js.create("C", allow_msg_counter=True)
    js.refused(10169, "c.a", "")
    js.refused(10169, "c.a", "", [("K", "v")])
    js.refused(10170, "c.a", "body", [("Nats-Incr", 1)])
    for n in ("x", "1.5", "1e3", "--1", "1_000", "0x10"):
        js.refused(10171, "c.a", "", [("Nats-Incr", n)])
    for h in (("Nats-Rollup", "sub"), ("Nats-Expected-Stream", "C"), ("Nats-Expected-Last-Msg-Id", "i"), ("Nats-Expected-Last-Sequence", 0),
              ("Nats-Expected-Last-Subject-Sequence", 0)):
        js.refused(10171, "c.a", "", [("Nats-Incr", 1), h])
    assert js.state("C")["last_seq"] == 0
    for more in ({"discard": "new"}, {"allow_msg_ttl": True}, {"allow_msg_schedules": True}, {"retention": "workqueue"}):
        js.bad("STREAM.CREATE.N", dict({"name": "N", "subjects": ["n"], "allow_msg_counter": True}, **more), 10052)
    js.bad("STREAM.UPDATE.C", {"name": "C", "subjects": ["c.>"]}, 10052)
    js.bad("STREAM.CREATE.N", {"name": "N", "allow_msg_counter": True, "mirror": {"name": "C"}}, 10173)


def sums(js):
    js.create("D", allow_msg_counter=True, allow_atomic=True, max_msgs_per_subject=5)
    assert incr(js, "d.a", 1) == {"stream": "D", "seq": 1, "val": "1"}
    assert incr(js, "d.a", "+41", ("K", "v")) == {"stream": "D", "seq": 2, "val": "42"}
    assert value(js, "D", "d.a") == (42, {"Nats-Incr": "+41", "K": "v"})
    assert incr(js, "d.a", -50)["val"] == "-8" and incr(js, "d.b", "007")["val"] == "7" and incr(js, "d.a", 0)["val"] == "-8"
    # a duplicate adds nothing
    assert incr(js, "d.a", 8, ("Nats-Msg-Id", "i"))["val"] == "0"
    assert incr(js, "d.a", 8, ("Nats-Msg-Id", "i"))["duplicate"]
    # any size; several under way at once
    big, total = 10 ** 300 - 1, 0
    for n in (big, 1, -2 * big, 12345, big):
        total += n
        assert incr(js, "d.big", n)["val"] == str(total), n
    asked = [js.say("d.fast", "", [("Nats-Incr", i)]) for i in range(500)]
    got = [json.loads(js.heard(n)[1])["val"] for n in asked]
    assert got == [str(sum(range(i + 1))) for i in range(500)]
    # what is removed is not counted any more
    last = js.good("STREAM.MSG.GET.D", {"last_by_subj": "d.fast"})["message"]["seq"]
    js.good("STREAM.MSG.DELETE.D", {"seq": last})
    assert incr(js, "d.fast", 1)["val"] == str(sum(range(499)) + 1)
    js.good("STREAM.PURGE.D", {"filter": "d.fast"})
    assert incr(js, "d.fast", 3)["val"] == "3"
    # a batch, whose parts build on each other, and one that fails
    put(js, "d.fast", "b", 1, more=[("Nats-Incr", 10)], body="")
    assert put(js, "d.fast", "b", 2, "1", more=[("Nats-Incr", 20)], body="")["count"] == 2
    assert value(js, "D", "d.fast")[0] == 33
    put(js, "d.fast", "c", 1, more=[("Nats-Incr", 100)], body="")
    fails(js, 10169, "d.fast", "c", 2, "1", body="")
    assert incr(js, "d.fast", 1)["val"] == "34"


def sources(js):
    """Sums of two streams, and of publishers, in one."""
    for name in ("EU", "US"):
        js.create(name, allow_msg_counter=True)
        for n in (1, 2, 3):
            incr(js, "%s.hits" % name.lower(), n)
    js.good("STREAM.CREATE.ALL", {"name": "ALL", "subjects": ["all"], "allow_msg_counter": True, "sources": [
        {"name": n, "subject_transforms": [{"src": n.lower() + ".hits", "dest": "all"}]} for n in ("EU", "US")]})
    wait_for(lambda: (value(js, "ALL", "all") or (0,))[0] == 12)
    assert incr(js, "all", 100)["val"] == "112"
    incr(js, "eu.hits", -1)
    wait_for(lambda: value(js, "ALL", "all")[0] == 111)
    h = value(js, "ALL", "all")[1]
    assert h["Nats-Incr"] == "-1" and json.loads(h["Nats-Counter-Sources"]) == {"EU": {"eu.hits": "5"}, "US": {"us.hits": "6"}}, h
    assert h["Nats-Stream-Source"].split()[0] == "EU", h


def test_nats_counters():
    with served(nats=0, loops=2) as s:
        js = Js(s)
        for f in (refusals, sums, sources):
            f(js)
        js.close()


def test_nats_counters_kill():
    """Publishers who do not know of each other, and kill -9: what was answered is in the sum, once; a sum is never more than
    what was asked for, and each is what the one before it was, and its increment."""
    with restartable() as a:
        a.js.create("C", allow_msg_counter=True)
        asked, answered, lock = {}, {}, threading.Lock()
        for turn in range(3):
            stop = threading.Event()

            def publish(server, k, stop=stop):
                rnd = random.Random(k)
                try:
                    mine = Js(server)
                    while not stop.is_set():
                        ns = []
                        for _ in range(20):
                            subject, n = "c.%d" % rnd.randrange(4), rnd.randrange(1, 10 ** 20)
                            with lock:
                                asked[subject] = asked.get(subject, 0) + n
                            ns.append((mine.say(subject, "", [("Nats-Incr", n)]), subject, n))
                        for m, subject, n in ns:
                            assert "val" in json.loads(mine.heard(m)[1])
                            with lock:
                                answered[subject] = answered.get(subject, 0) + n
                except (OSError, EOFError, AssertionError, IndexError):
                    if not stop.is_set():
                        raise

            threads = [threading.Thread(target=publish, args=(a.s, turn * 10 + k)) for k in range(3)]
            for t in threads:
                t.start()
            before = a.js.state("C")["last_seq"]
            wait_for(lambda: a.js.state("C")["last_seq"] > before + 300)
            stop.set()
            a.s.kill()
            for t in threads:
                t.join()
            a.js.close()
            a.begin()
            for subject in asked:
                got = (value(a.js, "C", subject) or (0,))[0]
                assert answered.get(subject, 0) <= got <= asked[subject], (subject, answered, got, asked)
                with lock:
                    asked[subject] = answered[subject] = got
        js, last = a.js, {}
        for seq in range(1, js.state("C")["last_seq"] + 1):
            m = js.good("STREAM.MSG.GET.C", {"seq": seq})["message"]
            n = int(headers_of(base64.b64decode(m["hdrs"]))[1]["Nats-Incr"])
            got = int(json.loads(base64.b64decode(m["data"]))["val"])
            assert got == last.get(m["subject"], 0) + n, (seq, m)
            last[m["subject"]] = got
        # what is added to is read from the log, for many subjects, messages in order and a batch
        js.create("D", allow_msg_counter=True, allow_atomic=True)
        for i in range(100):
            assert incr(js, "d.%d" % i, i)["val"] == str(i)
        js = a.again()
        asked = [js.say("d.%d" % (i % 100), "", [("Nats-Incr", 1)]) for i in range(300)]
        assert [int(json.loads(js.heard(n)[1])["val"]) for n in asked] == [i % 100 + i // 100 + 1 for i in range(300)]
        js = a.again()
        for i in range(49):
            put(js, "d.%d" % i, "b", i + 1, more=[("Nats-Incr", 1)], body="")
        assert put(js, "d.0", "b", 50, "1", more=[("Nats-Incr", 1)], body="")["count"] == 50
        assert value(js, "D", "d.0")[0] == 5 and value(js, "D", "d.48")[0] == 52
