"""One query over three servers: the same answers as of one server with all records; a server that fails, or is too slow,
is named."""
import json, math, socket, time

from harness import Server, scratch, weir

N = 900
QUERIES = [
    "SELECT count(*), count(total), sum(id), min(id), max(id), min(status), max(name) FROM orders",
    "SELECT status, count(*) AS n, sum(total) AS s, avg(total) AS a, min(total), max(total) FROM orders GROUP BY status ORDER BY status",
    "SELECT status, count(*) FILTER (WHERE id % 2 = 0) AS even FROM orders WHERE id < 500 GROUP BY ALL HAVING count(*) > 10 ORDER BY even DESC, status",
    "SELECT id % 7 AS m, sum(id) * 2 + 1 AS x FROM orders GROUP BY m ORDER BY x DESC LIMIT 3 OFFSET 1",
    "SELECT count(*), sum(id), avg(id) FROM orders WHERE id < 0",
    "SELECT status, count(*) FROM orders WHERE id < 0 GROUP BY status",
    "SELECT id, status, total, name FROM orders ORDER BY id DESC LIMIT 10",
    "SELECT id, name, headers, key, items FROM orders ORDER BY id LIMIT 40",
    "SELECT id FROM orders WHERE id BETWEEN 100 AND 110 ORDER BY total, id",
    "SELECT DISTINCT status FROM orders ORDER BY 1",
    "SELECT count(late), sum(late), max(late) FROM orders",
    "SELECT date_trunc('year', timestamp) > '2020-01-01' AS t, bool_or(id = 5), arg_max(name, id) FROM orders GROUP BY 1",
]


def event(i):
    data = {"id": i, "status": ("open", "paid", "sent'\"\\")[i % 3], "total": i * 0.1, "name": "n\u00e9 %d\n\"q\"," % i,
            "items": [{"sku": "a'%d" % i}, None]}
    if i % 3 == 2:
        data["late"] = i  # a field that only one of the servers ever sees
    return {"type": "order.created", "stream": "orders", "data": data}


def ask(s, sql, shards=None, **more):
    status, _, body = s.call("POST", "/sql", json.dumps(dict(query=sql, **({"shards": shards} if shards else {}), **more)))
    return status, json.loads(body)


def near(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(float(a), float(b), rel_tol=1e-9)
    return a == b


class Silent:
    """A server that takes connections and says nothing."""

    def __enter__(self):
        self.s = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.s.getsockname()[1]
        return self

    def __exit__(self, *a):
        self.s.close()


def test_sql_shards():
    with scratch() as d, Silent() as silent:
        shards, servers = ["a", "b", "c"], []
        try:
            for name in shards:
                servers.append(Server("%s/%s" % (d, name)))
            with open(d + "/shards", "w") as f:
                f.write("# servers\n" + "".join("%s %s\n" % x for x in zip(shards, (s.url for s in servers))))
                f.write("silent %s\n" % silent.url)
            servers.append(Server(d + "/all", "--set", "sql.shards=" + d + "/shards"))
            whole = servers[3]
            events = [event(i) for i in range(N)]
            for k, s in enumerate(servers):
                mine = [e for i, e in enumerate(events) if k == 3 or i % 3 == k]
                assert s.call("POST", "/events", json.dumps(mine))[0] == 201
            for q in QUERIES:
                one, many = ask(whole, q), ask(whole, q, shards)
                assert one[0] == many[0] == 200, (q, one, many)
                assert near(one[1]["rows"], many[1]["rows"]), (q, one[1]["rows"][:5], many[1]["rows"][:5])
                assert [c["name"] for c in one[1]["columns"]] == [c["name"] for c in many[1]["columns"]], q
            rows = ask(whole, "SELECT id FROM orders", shards)[1]["rows"]
            assert sorted(r[0] for r in rows) == list(range(N))
            status, out = ask(whole, "SELECT count(*) FROM orders WHERE id >= $1", ["a", "b"], params=[300])
            assert out["rows"] == [[400]], out
            quantile = ask(whole, "SELECT approx_quantile(id, 0.9) FROM orders", shards)[1]["rows"][0][0]
            assert abs(quantile - 810) <= 0.011 * 810, quantile
            out = weir("sql", "--shards", "a,b,c", "--format", "csv", "-c", "SELECT count(*) AS n FROM orders", server=whole)
            assert out.stdout.decode().split() == ["n", str(N)], out.stdout

            for q, want in (("SELECT count(DISTINCT id) FROM orders", 400), ("SELECT * FROM orders o JOIN orders p USING (id)", 400),
                            ("SELECT nothing FROM orders", 400), ("SELECT count(*) FROM nowhere", 400)):
                status, out = ask(whole, q, shards)
                assert status == want and out["detail"], (q, status, out)
            status, out = ask(whole, "SELECT 1", ["x"])
            assert status == 400 and '"x"' in out["detail"], out

            t = time.time()
            status, out = ask(whole, "SELECT count(*) FROM orders", ["a", "silent"], timeout_ms=1500)
            assert status == 504 and "shard silent (http" in out["detail"], out
            assert time.time() - t < 20
            servers[1].kill()
            status, out = ask(whole, "SELECT count(*) FROM orders", shards)
            assert status == 502 and "shard b (%s)" % servers[1].url in out["detail"], (status, out)
            assert ask(whole, "SELECT count(*) FROM orders", ["a", "c"])[1]["rows"] == [[600]]
        finally:
            for k, s in enumerate(servers):
                if s.p.returncode is None:
                    s.stop()
