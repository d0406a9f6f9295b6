"""Share groups with Kafka's own share consumer: processes that die, limits, dead letters, a server that is killed.

The Java client is downloaded, so these run only when WEIR_CLIENTS names java or all.
"""
import collections, json, os, subprocess, time

import kafka_clients
from harness import ROOT, Server, alone, beside_others, scratch, served, wait_for, weir

EARLY = "share.auto.offset.reset=earliest"


@alone
def share_client():
    """Compiles our share consumer; returns the folder for kafka_clients.java()."""
    d = kafka_clients.java_client()
    p = subprocess.run(["javac", "-cp", os.path.join(d, "jars", "*"), "-d", os.path.join(d, "classes"),
                        os.path.join(ROOT, "tests", "system", "kafka_share", "Share.java")],
                       capture_output=True, timeout=120)
    assert p.returncode == 0, p.stderr.decode()
    return d


def run(d, s, *args, timeout=90):
    """Lines of a run of Share, split."""
    p = subprocess.run(kafka_clients.java(d, "Share", s.kafka, *map(str, args)), capture_output=True, timeout=timeout)
    assert p.returncode == 0, "%s: %s" % (args, p.stderr.decode()[-3000:])
    return [l.split() for l in p.stdout.decode().splitlines()]


def begin(d, s, *args):
    return subprocess.Popen(kafka_clients.java(d, "Share", s.kafka, *map(str, args)), stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


def values(*numbers):
    return ["v%d" % n for n in numbers]


@beside_others
def test_kafka_share_consumer_killed():
    """What a killed consumer had comes to another one, with a delivery more, long before its lease is over."""
    d = share_client()
    with served(kafka=0) as s:
        run(d, s, "setup", "jobs", "g", 20, EARLY)
        p = begin(d, s, "hold", "jobs", "g", 20)
        try:
            held = [p.stdout.readline().decode().split() for _ in range(21)]
            assert held.pop() == ["holds"] and held == [["v%d" % i, "1"] for i in range(20)], held
        finally:
            p.kill()
            p.wait()
            p.stdout.close()
        got = run(d, s, "work", "jobs", "g", 20, "ACCEPT", 20000)
        assert sorted(got) == sorted(["v%d" % i, "2"] for i in range(20)), got
        assert run(d, s, "work", "jobs", "g", 1, "ACCEPT", 1500) == []
        assert run(d, s, "start", "jobs", "g") == [["20"]]


@beside_others
def test_kafka_share_by_duration():
    """by_duration begins among the records that the lake alone has."""
    d = share_client()
    with served(kafka=0) as s:
        run(d, s, "setup", "older", "g", 0, "share.auto.offset.reset=by_duration:PT1H")
        weir("topics", "alter", "older", "--set", "lake.enable=true", "--set", "local.retention.bytes=0", server=s)
        body = [{"type": "t.x", "stream": "older", "data": n} for n in range(20)]
        assert s.call("POST", "/events", json.dumps(body))[0] == 201
        weir("lake", "flush", "older", server=s)
        wait_for(lambda: all(p["local_start"] == 20 for p in json.loads(s.call("GET", "/topics/older/partitions")[2])[
            "partitions"]))
        got = run(d, s, "work", "older", "g", 20, "ACCEPT", 20000)
        assert sorted(int(v) for v, _ in got) == list(range(20)), got


@beside_others
def test_kafka_share_two_consumers():
    """Two consumers in two processes share one partition; each record is accepted once."""
    d = share_client()
    with served(kafka=0) as s:
        run(d, s, "setup", "jobs", "g", 1, EARLY)
        two = [begin(d, s, "work", "jobs", "g", 1000, "ACCEPT", 15000) for _ in range(2)]
        try:
            end = time.time() + 60
            while len(json.loads(s.call("GET", "/groups/g")[2]).get("members", ())) < 2:
                assert time.time() < end, s.call("GET", "/groups/g")
                time.sleep(0.05)
            for i in range(600):
                status, _, body = s.call("POST", "/events", '{"type":"t","stream":"jobs","data":"%d"}' % i)
                assert status == 201, body
            out = [p.communicate(timeout=60)[0].decode().splitlines() for p in two]
        finally:
            for p in two:
                p.kill()
                p.wait()
        counts = collections.Counter(l.split()[0] for lines in out for l in lines)
        assert len(counts) == 601 and set(counts.values()) == {1}, (len(counts), counts.most_common(3))
        assert min(len(lines) for lines in out) > 20, [len(lines) for lines in out]


@beside_others
def test_kafka_share_dead_letters():
    """A record delivered as often as is allowed, or rejected, goes to the topic of dead letters."""
    d = share_client()
    with served(kafka=0) as s:
        run(d, s, "setup", "jobs", "g", 3, EARLY, "share.delivery.count.limit=2",
            "errors.deadletterqueue.topic.name=dlq.jobs")
        got = run(d, s, "work", "jobs", "g", 6, "RELEASE", 20000)
        assert sorted(got) == sorted([v, n] for v in values(0, 1, 2) for n in "12"), got
        assert run(d, s, "work", "jobs", "g", 1, "ACCEPT", 1500) == []
        dead = run(d, s, "dead", "dlq.jobs", 3)
        assert len(dead) == 3, dead
        for i, line in enumerate(sorted(dead, key=lambda l: l[1])):
            h = dict(x.split("=", 1) for x in line[2:])
            assert line[:2] == ["k%d" % i, "v%d" % i], line
            assert h["__dlq.errors.topic"] == "jobs" and h["__dlq.errors.partition"] == "0", h
            assert h["__dlq.errors.offset"] == str(i) and h["__dlq.errors.group"] == "g", h
            assert h["__dlq.errors.delivery.count"] == "2", h
        run(d, s, "setup", "more", "h", 1, EARLY, "errors.deadletterqueue.topic.name=dlq.more")
        assert run(d, s, "work", "more", "h", 1, "REJECT", 20000) == [["v0", "1"]]
        assert run(d, s, "dead", "dlq.more", 1)[0][:2] == ["k0", "v0"]


@beside_others
def test_kafka_share_server_killed():
    """What was accepted stays so when the server is killed, and all the rest is delivered."""
    d = share_client()
    with scratch() as tmp:
        s = Server(os.path.join(tmp, "data"), kafka=0)
        try:
            run(d, s, "setup", "jobs", "g", 10, EARLY)
            assert run(d, s, "work", "jobs", "g", 4, "ACCEPT", 20000) == [[v, "1"] for v in values(0, 1, 2, 3)]
            assert run(d, s, "work", "jobs", "g", 1, "RELEASE", 20000) == [["v4", "1"]]
            s.kill()
            s = Server(os.path.join(tmp, "data"), kafka=0)
            got = dict(run(d, s, "work", "jobs", "g", 6, "ACCEPT", 20000))
            assert got.pop("v4") == "2" and got == {v: "1" for v in values(5, 6, 7, 8, 9)}, got
        except BaseException:
            print(s.tail())
            s.kill()
            raise
        s.stop()
