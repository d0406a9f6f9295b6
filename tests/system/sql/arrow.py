"""arrow.py URL: every type that SQL has as Arrow IPC, read by pyarrow: types, values, nulls, nesting, many rows in batches,
large texts, no rows. Prints ok."""
import datetime as dt, decimal, io, json, sys, urllib.request, uuid

import pyarrow as pa, pyarrow.ipc

D = decimal.Decimal
UTC = dt.timezone.utc


def ask(sql):
    rq = urllib.request.Request(sys.argv[1] + "/sql", json.dumps({"query": sql}).encode(),
                                {"accept": "application/vnd.apache.arrow.stream", "content-type": "application/json"})
    with urllib.request.urlopen(rq) as r:
        t = pa.ipc.open_stream(io.BytesIO(r.read())).read_all()
    t.validate(full=True)
    return t


# SQL, the value as Python has it, a test of the Arrow type
VALUES = [
    ("true", True, pa.types.is_boolean), ("(-7)::TINYINT", -7, pa.types.is_int8), ("(-300)::SMALLINT", -300, pa.types.is_int16),
    ("(-70000)::INTEGER", -70000, pa.types.is_int32), ("(-5000000000)::BIGINT", -5000000000, pa.types.is_int64),
    ("250::UTINYINT", 250, pa.types.is_uint8), ("65000::USMALLINT", 65000, pa.types.is_uint16),
    ("4000000000::UINTEGER", 4000000000, pa.types.is_uint32), ("18446744073709551615::UBIGINT", 2 ** 64 - 1, pa.types.is_uint64),
    ("1.5::FLOAT", 1.5, pa.types.is_float32), ("-2.25::DOUBLE", -2.25, pa.types.is_float64),
    ("12.34::DECIMAL(4,2)", D("12.34"), pa.types.is_decimal), ("-0.0001::DECIMAL(9,4)", D("-0.0001"), pa.types.is_decimal),
    ("12345678901.234::DECIMAL(18,3)", D("12345678901.234"), pa.types.is_decimal),
    ("-12345678901234567890123456789012345.678::DECIMAL(38,3)", D("-12345678901234567890123456789012345.678"), pa.types.is_decimal),
    ("'né'", "né", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)), ("''", "", None),
    ("'\\x00\\xFF'::BLOB", b"\0\xff", lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t)),
    ("DATE '1969-12-31'", dt.date(1969, 12, 31), pa.types.is_date), ("TIME '01:02:03.000004'", dt.time(1, 2, 3, 4), pa.types.is_time),
    ("TIMESTAMP '1960-01-02 03:04:05.000006'", dt.datetime(1960, 1, 2, 3, 4, 5, 6), pa.types.is_timestamp),
    ("TIMESTAMPTZ '2026-01-02 03:04:05+00'", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), pa.types.is_timestamp),
    ("TIMESTAMP_S '2026-01-02 03:04:05'", dt.datetime(2026, 1, 2, 3, 4, 5), pa.types.is_timestamp),
    ("TIMESTAMP_MS '2026-01-02 03:04:05.006'", dt.datetime(2026, 1, 2, 3, 4, 5, 6000), pa.types.is_timestamp),
    ("[1, NULL, 3]", [1, None, 3], pa.types.is_list), ("[]::VARCHAR[]", [], None), ("[['a'], NULL, []]", [["a"], None, []], None),
    ("[1, 2]::INTEGER[2]", [1, 2], None),
    ("{'a': 1, 'b': NULL::VARCHAR, 'c': {'d': [true]}}", {"a": 1, "b": None, "c": {"d": [True]}}, pa.types.is_struct),
    ("[{'k': 'x', 'v': 1.5::DECIMAL(3,1)}, NULL]", [{"k": "x", "v": D("1.5")}, None], None),
    ("MAP {'a': 1, 'b': NULL}", [("a", 1), ("b", None)], pa.types.is_map),
    ("'b'::ENUM('a', 'b')", "b", None), ("'{\"a\":[1]}'::JSON", '{"a":[1]}', None),
]

for sql, want, is_type in VALUES:
    t = ask("SELECT %s AS x UNION ALL SELECT NULL" % sql).column("x")
    got = sorted(t.to_pylist(), key=lambda v: v is None)
    assert got == [want, None], (sql, got)
    assert is_type is None or is_type(t.type), (sql, t.type)

assert ask("SELECT '00000000-0000-0000-0000-000000000005'::UUID AS x").column("x").to_pylist()[0] in (
    str(uuid.UUID(int=5)), uuid.UUID(int=5).bytes, uuid.UUID(int=5))
for v in (10 ** 38 - 1, 1 - 10 ** 38):  # decimals of 38 digits: HUGEINT has a little more
    assert int(ask("SELECT (%d)::HUGEINT AS x" % v).column("x").to_pylist()[0]) == v
assert str(ask("SELECT INTERVAL '1 day' AS x").column("x").to_pylist()[0])

n = 300000
t = ask("SELECT range AS i, CASE WHEN range %% 3 = 0 THEN NULL ELSE range END AS n, 'text ' || range AS s, [range, NULL] AS l, "
        "{'a': range // 2, 'b': CASE WHEN range %% 5 = 0 THEN NULL ELSE 'x' END} AS r, range %% 7 = 0 AS b FROM range(%d) ORDER BY range" % n)
assert t.num_rows == n and len(t.to_batches()) > 1
assert t.column("i").to_pylist() == list(range(n))
assert t.column("n").to_pylist() == [None if i % 3 == 0 else i for i in range(n)]
assert t.column("s").to_pylist() == ["text %d" % i for i in range(n)]
assert t.column("l").to_pylist() == [[i, None] for i in range(n)]
assert t.column("r").to_pylist() == [{"a": i // 2, "b": None if i % 5 == 0 else "x"} for i in range(n)]
assert t.column("b").to_pylist() == [i % 7 == 0 for i in range(n)]

t = ask("SELECT repeat('é', 1000000) || range AS s FROM range(20) ORDER BY range")
assert [len(s) for s in t.column("s").to_pylist()] == [1000000 + len(str(i)) for i in range(20)]
t = ask("SELECT 1 AS a, 'x' AS b, [1] AS c WHERE false")
assert t.num_rows == 0 and t.column_names == ["a", "b", "c"]
t = ask("SELECT 1 AS a, 2 AS a")
assert t.num_columns == 2 and t.to_batches()[0].columns[1].to_pylist() == [2]
t = ask("SELECT * FROM orders ORDER BY id")
assert t.num_rows == 301 and t.column("headers").to_pylist()[0][0]["key"] == "ce_type" and str(t.column("timestamp").type).startswith("timestamp[")
print("ok")
