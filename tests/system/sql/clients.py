"""clients.py PORT URL QUERY: a line `WHO ROWS` for each client; fails loudly where one differs from itself."""
import asyncio, datetime, decimal, io, json, sys, urllib.request, uuid

import asyncpg, pg8000.native, psycopg, pyarrow.ipc

port, url, query = int(sys.argv[1]), sys.argv[2], sys.argv[3]
TYPES = ("SELECT true, 7::SMALLINT, 8::INTEGER, 9::BIGINT, 1.5::FLOAT, 2.5::DOUBLE, 12345678.0009::DECIMAL(18,4), "
         "-10000::DECIMAL(9,0), 0.0001::DECIMAL(5,4), 170141183460469231731687303715884105727::HUGEINT, 'x', "
         "DATE '1969-12-31', TIMESTAMP '1999-12-31 23:59:59.5', TIMESTAMPTZ '2026-01-02 03:04:05+00', TIME '01:02:03', "
         "'00000000-0000-0000-0000-000000000005'::UUID, [1, NULL, 3], {'a': 1}, NULL")
UTC = datetime.timezone.utc
WANT = [True, 7, 8, 9, 1.5, 2.5, decimal.Decimal("12345678.0009"), -10000, decimal.Decimal("0.0001"),
        170141183460469231731687303715884105727, "x", datetime.date(1969, 12, 31),
        datetime.datetime(1999, 12, 31, 23, 59, 59, 500000), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime.time(1, 2, 3), uuid.UUID(int=5), [1, None, 3], {"a": 1}, None]


def show(who, rows):
    print(who, json.dumps([list(r) for r in rows]))


def of_psycopg():
    with psycopg.connect(host="127.0.0.1", port=port, user="x", dbname="weir") as c:
        for binary in (False, True):
            got = list(c.execute(TYPES, binary=binary).fetchone())
            assert got == WANT, (binary, got)
        for v in (2 ** 40, 1.5, True, "x", b"\0\xff", None, datetime.datetime(2026, 1, 2, tzinfo=UTC)):
            for mark in ("%s", "%b", "%t"):
                if isinstance(v, (bytes, datetime.datetime)) and mark == "%t":
                    continue  # as text they are read as the place demands, and a bare place demands nothing
                got = c.execute("SELECT " + mark, (v,)).fetchone()[0]
                assert got == v, (mark, v, got)
        with c.cursor() as cur:
            assert sum(1 for _ in cur.stream("SELECT range FROM range(100000)")) == 100000
        for hold in (False, True):
            with c.cursor("named", withhold=hold) as cur:
                cur.itersize = 37
                cur.execute("SELECT id FROM orders WHERE id >= %s ORDER BY id", (100,))
                assert cur.fetchone() == (100,) and cur.fetchmany(2) == [(101,), (102,)]
                cur.scroll(7)
                if hold:
                    c.commit()
                assert [r[0] for r in cur] == list(range(110, 301)), hold
        for form in ("TEXT", "BINARY"):
            with c.cursor().copy("COPY (SELECT range, 'x' || range FROM range(1000)) TO STDOUT (FORMAT %s)" % form) as copy:
                copy.set_types(["int8", "text"])
                assert list(copy.rows()) == [(i, "x%d" % i) for i in range(1000)], form
        show("psycopg", c.execute(query).fetchall())


def of_pg8000():
    c = pg8000.native.Connection("x", host="127.0.0.1", port=port)
    assert c.run("SELECT :a::BIGINT + 1", a=41) == [[42]]
    show("pg8000", c.run(query))
    c.close()


async def of_asyncpg():
    c = await asyncpg.connect(host="127.0.0.1", port=port, user="x", database="weir")
    assert await c.fetchval("SELECT count(*) FROM orders WHERE id > $1 AND status = $2", 150, "completed") == 50
    n = 0
    async with c.transaction():
        async for _ in c.cursor("SELECT range FROM range(1000)", prefetch=37):
            n += 1
    assert n == 1000, n
    out = io.BytesIO()
    assert await c.copy_from_query("SELECT id FROM orders WHERE id < 3 ORDER BY id", output=out, format="csv") == "COPY 3"
    assert out.getvalue() == b"0\n1\n2\n", out.getvalue()
    try:
        await c.fetch("SELECT * FROM nope")
        raise AssertionError("there is no topic nope")
    except asyncpg.exceptions.UndefinedTableError:
        pass
    try:
        await asyncio.wait_for(c.fetch("SELECT count(*) FROM range(1000000000000)"), 0.5)
        raise AssertionError("it was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await c.fetchval("SELECT 42") == 42
    show("asyncpg", await c.fetch(query))
    await c.close()


def of_arrow():
    rq = urllib.request.Request(url + "/sql", query.encode(),
                                {"accept": "application/vnd.apache.arrow.stream", "content-type": "text/plain"})
    with urllib.request.urlopen(rq) as r:
        t = pyarrow.ipc.open_stream(io.BytesIO(r.read())).read_all()
    t.validate(full=True)
    show("pyarrow", [list(r.values()) for r in t.to_pylist()])


of_psycopg()
of_pg8000()
asyncio.run(of_asyncpg())
of_arrow()
