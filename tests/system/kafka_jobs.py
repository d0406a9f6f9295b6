"""Jobs over the Kafka port, as people run them: real data by kafkajs and HTTP in turn, Kafka's own verifiable
producer and consumer, its command line tools, a Streams word count, Connect's file source and sink; and
servers killed in the middle of it, with everything there exactly once.
"""
import json, os, subprocess

import kafka_clients
from harness import Skip, npm_modules, served


def node(*args, timeout=150):
    p = subprocess.run(["node", os.path.join(kafka_clients.HERE, args[0]), *args[1:]], capture_output=True, timeout=timeout)
    assert p.returncode == 0, p.stderr.decode()[-3000:]
    return p.stdout.decode().splitlines()


def by(key, rows):
    out = {}
    for row in rows:
        out.setdefault(key(row), []).append(row)
    return out


# ---- real data -----------------------------------------------------------------------------------------

def test_kafka_flights():
    """Produced by kafkajs with a key, consumed by a group of three, read over HTTP; and the other way round."""
    kafka_clients.need_node()
    path = os.path.join(npm_modules(), "vega-datasets", "data", "flights-200k.json")
    source = json.load(open(path))
    want = by(lambda r: str(r["delay"]), source)
    with served(kafka=0) as s:
        assert node("flights.mjs", s.kafka, "produce", "flights", path, "delay") == [str(len(source))]
        got = [json.loads(line) for line in node("flights.mjs", s.kafka, "consume", "flights", str(len(source)))]
        assert len(got) == len(source), (len(got), len(source))
        members = by(lambda m: m["partition"], got)
        assert len(members) == 6 and all(len({m["member"] for m in part}) == 1 for part in members.values())
        assert len({m["member"] for m in got}) == 3, "not all three members had a part"
        for part in members.values():
            assert [int(m["offset"]) for m in part] == list(range(len(part)))
        mine = by(lambda m: m["key"], got)
        assert {k: [json.loads(m["value"]) for m in v] for k, v in mine.items()} == want, "order of keys by Kafka"
        http = by(lambda r: str(r["delay"]), [e["data"] for e in s.pages("flights", 10000)])
        assert http == want, "order of keys over HTTP"
        one = max(want, key=lambda k: len(want[k]))
        assert [e["data"] for e in s.pages("flights:" + one, 10000)] == want[one]
        print("figure: %d flights by kafkajs, a group of three and HTTP: %d keys in order" % (len(got), len(want)))


def test_kafka_http_events():
    """What is posted over HTTP is what kafkajs consumes."""
    kafka_clients.need_node()
    with served(kafka=0) as s:
        assert s.call("POST", "/topics", json.dumps({"name": "orders", "partitions": 3}))[0] == 201
        want = {}
        for i in range(0, 1000, 50):
            events = [{"type": "order.created", "stream": "orders:c%d" % (n % 10), "source": "/test", "data": {"n": n}}
                      for n in range(i, i + 50)]
            for e in events[::2]:
                e["id"] = "mine-%d" % e["data"]["n"]
            status, _, body = s.call("POST", "/events", json.dumps(events))
            assert status == 201, body
            for e, placed in zip(events, json.loads(body)["events"]):
                want[placed["partition"], placed["offset"]] = e
        got = [json.loads(line) for line in node("flights.mjs", s.kafka, "consume", "orders", "1000")]
        assert len(got) == 1000
        for m in got:
            e = want.pop((m["partition"], int(m["offset"])))
            headers = {"ce_" + k: e[k] for k in ("type", "source", "id") if k in e}
            assert json.loads(m["value"]) == e["data"] and "orders:" + m["key"] == e["stream"], (m, e)
            assert m["headers"] == headers, (m, e)
        for key, part in by(lambda m: m["key"], got).items():
            numbers = [json.loads(m["value"])["n"] for m in part]
            assert numbers == sorted(numbers), "order of " + key
