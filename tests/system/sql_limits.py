"""What queries may not take: memory beyond their limit, and the log from those who write it."""
import json, re, threading, time

from harness import Server, scratch

LIMIT = 128  # MiB, of sql.memory
# All of it counted that DuckDB holds at once (a quarter more than the limit, and 128 MiB: duckdb_memory.c), and what the
# server has besides: the library, the log's buffers.
RSS_MAX = LIMIT * 5 // 4 + 128 + 250

HOSTILE = [
    "SELECT length(repeat('x', 3000000000::BIGINT))",
    "SELECT sum(length(repeat('x', 100000000 + range))) FROM range(100000)",
    "SELECT len(list_resize([1], 1000000000, 0)), len(range(1000000000))",
    "SELECT length(format('{:>2000000000}', 'x')), length(printf('%2000000000d', 1))",
    "SELECT length(replace(repeat('x', 1000000), 'x', repeat('y', 10000)))",
    "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t WHERE length(s) < 4e9) SELECT max(length(s)) FROM t",
    "SELECT length(string_agg(repeat('x', 1000000), ',')) FROM range(3000)",
    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1",
    "SELECT a.range FROM range(1000000000) a ORDER BY hash(a.range)",
    "SELECT regexp_replace(repeat('a', 10000000), '(a|aa)*(a|b)*c', repeat('z', 10000), 'g')",
]


def peak_mib(s):
    with open("/proc/%d/status" % s.p.pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) // 1024


def test_sql_hostile():
    """Ten bad queries at once beside a producer: it goes on, each is answered, memory stays within its limits."""
    with scratch() as d:
        s = Server(d + "/data", "--set", "sql.memory=%dMiB" % LIMIT, "--set", "sql.spill_bytes=64MiB")
        try:
            post = lambda n: s.call("POST", "/events", json.dumps({"type": "x.y", "stream": "orders", "data": {"n": n}}))[0]
            assert post(0) == 201
            answers = [None] * len(HOSTILE)
            acked = [0]
            over = threading.Event()

            def ask(i):
                answers[i] = s.call("POST", "/sql", json.dumps({"query": HOSTILE[i], "timeout_ms": 12000, "max_rows": 10}))

            def produce():
                while not over.is_set() and post(acked[0]) == 201:
                    acked[0] += 1

            producer = threading.Thread(target=produce)
            askers = [threading.Thread(target=ask, args=(i,)) for i in range(len(HOSTILE))]
            producer.start()
            for t in askers:
                t.start()
            for i, t in enumerate(askers):
                t.join(60)
                assert not t.is_alive(), HOSTILE[i]
                status, _, body = answers[i]
                # no_memory, timeout; the sort may end by the limit of what it may put aside
                assert status in (200, 503, 504) and (status == 200 or b'"sqlstate"' in body), (HOSTILE[i], status, body[:300])
            at_end = acked[0]
            deadline = time.time() + 30
            while acked[0] < at_end + 10 and time.time() < deadline:
                time.sleep(0.01)
            over.set()
            producer.join()
            assert at_end > 10, at_end
            failed = [json.loads(a[2]).get("code") for a in answers if a[0] != 200]
            assert failed.count("no_memory") >= 5, failed
            status, _, body = s.call("POST", "/sql", "SELECT count(*) FROM orders", {"content-type": "text/plain"})
            assert status == 200 and json.loads(body)["rows"] == [[acked[0] + 1]], (body, acked)
            assert peak_mib(s) < RSS_MAX, "%d MiB, at most %d" % (peak_mib(s), RSS_MAX)
        finally:
            s.stop()
