"""reflect.py PORT: SQLAlchemy's inspector over two drivers, and lists as parameters over three; prints ok."""
import asyncio, datetime, sys, uuid

import asyncpg, pg8000.native, psycopg, sqlalchemy as sa

port = int(sys.argv[1])
UTC = datetime.timezone.utc
TYPES = {"topic": "TEXT", "partition": "INTEGER", "offset": "BIGINT", "position": "NUMERIC", "timestamp": "TIMESTAMP", "headers": "ARRAY",
         "id": "BIGINT", "amount": "DOUBLE PRECISION", "status": "TEXT"}


def reflected(driver):
    with sa.create_engine("postgresql+%s://x@127.0.0.1:%d/weir" % (driver, port)).connect() as c:
        i = sa.inspect(c)
        assert set(i.get_table_names()) == {"orders", "eu-1.shop"} and i.get_schema_names() == ["information_schema", "public"]
        assert not i.get_view_names() and not i.get_sequence_names() and not i.get_enums() and not i.get_domains()
        assert i.has_table("orders") and not i.has_table("nothing")
        for t in ("orders", "eu-1.shop"):
            assert i.get_pk_constraint(t)["constrained_columns"] == [] and not i.get_indexes(t) and not i.get_foreign_keys(t)
            assert not i.get_unique_constraints(t) and not i.get_check_constraints(t) and not i.get_table_comment(t)["text"]
        m = sa.MetaData()
        m.reflect(c)
        t = m.tables["orders"]
        got = {x.name: str(x.type) for x in t.columns}
        assert TYPES.items() <= got.items(), got
        n = c.execute(sa.select(sa.func.count(), sa.func.sum(t.c.amount)).where(t.c.status == "open", t.c.id.in_([1, 2, 3]))).one()
        assert tuple(n) == (2, 4.5), n
        try:
            c.execute(sa.text("SELECT nothing FROM orders"))
            raise AssertionError("there is no such column")
        except sa.exc.DBAPIError:
            c.rollback()
        assert c.execute(sa.text("SELECT 42")).scalar() == 42


def of_psycopg():
    with psycopg.connect(host="127.0.0.1", port=port, user="x", dbname="weir", autocommit=True) as c:
        for v in ([1, None, 3], [2 ** 40], [1.5, -2.0], [True, None], [datetime.date(2020, 1, 2)], [uuid.UUID(int=5)], [b"\0\xff"],
                  [datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)]):
            for mark in ("%s", "%b", "%t"):
                got = c.execute("SELECT " + mark, (v,)).fetchone()[0]
                assert got == v, (mark, v, got)
        v = ['a"b\\', None, "", "NULL", "{x,y}", "[z]"]
        for mark in ("%s::text[]", "%b", "%t::text[]"):
            assert c.execute("SELECT " + mark, (v,)).fetchone()[0] == v, mark
        for binary in (False, True):
            assert c.execute("SELECT count(*) FROM orders WHERE id = ANY(%s) AND status <> ALL(%s)", ([1, 2, 3], ["x"]),
                             binary=binary).fetchone() == (3,)
        info = psycopg.types.TypeInfo.fetch(c, "timestamptz")
        assert (info.oid, info.array_oid) == (1184, 1185), info


async def of_asyncpg():
    c = await asyncpg.connect(host="127.0.0.1", port=port, user="x", database="weir")
    for cast, v in (("bigint", [1, 2]), ("int", [1, None, 2])):
        assert await c.fetchval("SELECT count(*) FROM orders WHERE id = ANY($1::%s[])" % cast, v) == 2
    assert await c.fetchval("SELECT count(*) FROM orders WHERE status = ANY($1::text[])", ["open"]) == 4
    row = await c.fetchrow("SELECT headers, [1::BIGINT, NULL] AS l, $1 AS x FROM orders WHERE id = $2", "y", 3)
    assert row["l"] == [1, None] and row["x"] == "y" and "order.created" in row["headers"][0], row
    await c.close()


def of_pg8000():
    c = pg8000.native.Connection("x", host="127.0.0.1", port=port)
    assert c.run("SELECT count(*) FROM orders WHERE id = ANY(:a)", a=[1, 2]) == [[2]]
    c.close()


for driver in ("psycopg", "pg8000"):
    reflected(driver)
of_psycopg()
of_pg8000()
asyncio.run(of_asyncpg())
print("ok")
