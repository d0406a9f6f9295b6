"""Iceberg tables whose metadata Weir writes, read by pyiceberg and by DuckDB's iceberg extension.

    tables.py LAKE_TOOL DIRECTORY

Parquet files are pyarrow's, everything else of the table is lake_tool's. Prints a line for each step. After
each change both readers must agree with what was written: count, sums, schema, single values.
"""
import datetime, decimal, glob, json, os, subprocess, sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

tool, root = sys.argv[1], sys.argv[2]
HOUR = 3600 * 1000000
BASE = 495000                                     # hours since 1970


def field(i, name, kind, nullable=True):
    return pa.field(name, kind, nullable, metadata={"PARQUET:field_id": str(i)})


HEADERS = pa.list_(field(8, "element", pa.struct([field(9, "key", pa.string(), False), field(10, "value", pa.binary())]), False))
FIELDS = [field(1, "partition", pa.int32(), False), field(2, "offset", pa.int64(), False),
          field(3, "timestamp", pa.timestamp("us", "UTC"), False), field(4, "key", pa.binary()),
          field(5, "value", pa.binary()), field(6, "headers", HEADERS), field(7, "position", pa.int64())]
SCHEMA = {"type": "struct", "schema-id": 0, "fields": [
    {"id": 1, "name": "partition", "required": True, "type": "int"},
    {"id": 2, "name": "offset", "required": True, "type": "long"},
    {"id": 3, "name": "timestamp", "required": True, "type": "timestamptz"},
    {"id": 4, "name": "key", "required": False, "type": "binary"},
    {"id": 5, "name": "value", "required": False, "type": "binary", "doc": "the record's value, exactly"},
    {"id": 6, "name": "headers", "required": False, "type": {
        "type": "list", "element-id": 8, "element-required": True, "element": {"type": "struct", "fields": [
            {"id": 9, "name": "key", "required": True, "type": "string"},
            {"id": 10, "name": "value", "required": False, "type": "binary"}]}}},
    {"id": 7, "name": "position", "required": False, "type": "long"},
    {"id": 11, "name": "amount", "required": False, "type": "int"}]}


class Lake:
    def __init__(self, table, spec):
        self.url = "file://" + root
        self.dir = os.path.join(root, "weir", table)
        self.table = table
        self.rows = []
        self.amount = ("int", pa.int32())
        self.files = {}
        self.spec = spec
        self.say({"do": "create", "schema": SCHEMA, "spec": spec})

    def say(self, command):
        p = subprocess.run([tool, self.url, "weir", self.table], input=json.dumps(command) + "\n", text=True,
                           capture_output=True)
        out = json.loads(p.stdout) if p.stdout else {"error": p.stderr}
        assert "error" not in out, out
        self.snapshot, self.metadata = out["snapshot"], out["metadata"]
        return out

    def write(self, name, rows, extra=()):
        fields = FIELDS + [field(11, "amount", self.amount[1])] + list(extra)
        path = os.path.join(self.dir, "data", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), path, compression="zstd")
        hours = sorted(r["timestamp"] // HOUR for r in rows)
        assert hours[0] == hours[-1]
        offsets = [r["offset"] for r in rows]
        amounts = [r["amount"] for r in rows if r["amount"] is not None]
        one = {"path": name, "records": len(rows), "bytes": os.path.getsize(path),
               "partition": [hours[0]] if self.spec else [], "values": {"2": len(rows), "11": len(rows)},
               "nulls": {"2": 0, "11": len(rows) - len(amounts)},
               "lower": {"2": min(offsets), "3": min(r["timestamp"] for r in rows)},
               "upper": {"2": max(offsets), "3": max(r["timestamp"] for r in rows)}}
        if amounts:
            one["lower"]["11"], one["upper"]["11"] = min(amounts), max(amounts)
        self.files[name] = rows
        return one

    def make(self, name, first, n, hour, **more):
        return self.write(name, [dict(
            partition=first % 3, offset=first + i, timestamp=(BASE + hour) * HOUR + i * 1000,
            key=b"c-%d" % (i % 7) if i % 5 else None, value=b'{"amount":%d}' % i,
            headers=[dict(key="ce_type", value=b"a.b"), dict(key="empty", value=None)], position=first + i,
            amount=None if i % 11 == 0 else first + i, **{k: v(i) for k, (v, _) in more.items()})
            for i in range(n)], [f for _, f in more.values()])

    def append(self, files, do="append", **more):
        self.say({"do": do, "files": files, **more})

    def expect(self):
        return [r for rows in self.files.values() for r in rows]


def connection():
    con = duckdb.connect(config={"allow_unsigned_extensions": "true", "autoinstall_known_extensions": "false"})
    for name in ("avro", "httpfs", "iceberg"):
        package = __import__("duckdb_extension_" + name)
        con.execute("LOAD '%s'" % glob.glob(os.path.join(package.__path__[0], "extensions", "*", "*"))[0])
    con.execute("SET TimeZone='UTC'")
    return con


def check(lake, step, also=None):
    rows = lake.expect()
    amounts = [r["amount"] for r in rows if r["amount"] is not None]
    # DuckDB
    con = connection()
    got = con.execute("SELECT count(*), sum(\"offset\"), sum(amount), count(amount), count(key) FROM iceberg_scan(?)",
                      [lake.metadata]).fetchone()
    want = (len(rows), sum(r["offset"] for r in rows), sum(amounts), len(amounts),
            sum(r["key"] is not None for r in rows))
    assert got == want, ("duckdb", got, want)
    some = max(r["offset"] for r in rows) // 2
    n = con.execute("SELECT count(*) FROM iceberg_scan(?) WHERE \"offset\" < ?", [lake.metadata, some]).fetchone()[0]
    assert n == sum(r["offset"] < some for r in rows), n
    hour = datetime.datetime.fromtimestamp((BASE + 1) * 3600, datetime.timezone.utc)
    n = con.execute("SELECT count(*) FROM iceberg_scan(?) WHERE timestamp >= ?", [lake.metadata, hour]).fetchone()[0]
    assert n == sum(r["timestamp"] >= (BASE + 1) * HOUR for r in rows), n
    # pyiceberg
    t = StaticTable.from_metadata(lake.metadata)
    a = t.scan().to_arrow()
    assert a.num_rows == len(rows), (a.num_rows, len(rows))
    assert sum(a["offset"].to_pylist()) == want[1]
    assert sum(x for x in a["amount"].to_pylist() if x is not None) == want[2]
    assert str(t.schema().find_type("amount")) == lake.amount[0], t.schema()
    n = t.scan(row_filter="offset < %d" % some).to_arrow().num_rows
    assert n == sum(r["offset"] < some for r in rows), n
    n = t.scan(row_filter="timestamp >= '%s'" % hour.isoformat()).to_arrow().num_rows
    assert n == sum(r["timestamp"] >= (BASE + 1) * HOUR for r in rows), n
    files = t.inspect.files()
    assert sum(files["record_count"].to_pylist()) == len(rows)
    total = int(t.current_snapshot().summary.additional_properties["total-records"])
    assert total == len(rows), total
    by = {r["offset"]: r for r in a.to_pylist()}
    for r in rows[:: max(1, len(rows) // 50)]:
        g = by[r["offset"]]
        assert g["key"] == r["key"] and g["value"] == r["value"] and g["amount"] == r["amount"], (g, r)
        assert g["headers"] == r["headers"], (g, r)
    if also:
        also(con, t, rows, by)
    print("ok " + step, flush=True)


def main():
    for spec, name in (([], "plain"), (["hour(timestamp)"], "hourly")):
        lake = Lake("orders_" + name, spec)
        lake.append([lake.make("a.parquet", 0, 100, 0)], offsets='{"0":100}')
        check(lake, name + "_append")
        first = lake.snapshot, len(lake.expect())
        lake.append([lake.make("b.parquet", 100, 50, 1), lake.make("c.parquet", 150, 70, 2)])
        check(lake, name + "_two_files")

        def travel(con, t, rows, by):
            assert t.scan(snapshot_id=first[0]).to_arrow().num_rows == first[1]
            n = con.execute("SELECT count(*) FROM iceberg_scan(?, snapshot_from_id => ?::UBIGINT)",
                            [lake.metadata, first[0]]).fetchone()[0]
            assert n == first[1], n
            p = t.inspect.partitions()
            assert p.num_rows == (3 if spec else 1), p

        check(lake, name + "_time_travel", travel)
        # int -> long, a new column
        evolved = json.loads(json.dumps(SCHEMA))
        evolved["fields"][7]["type"] = "long"
        evolved["fields"].append({"id": 12, "name": "city", "required": False, "type": "string"})
        lake.say({"do": "schema", "schema": evolved})
        lake.amount = ("long", pa.int64())
        city = {"city": (lambda i: "Zürich-%d" % i if i % 2 else None, field(12, "city", pa.string()))}
        lake.append([lake.make("d.parquet", 5000000000, 40, 3, **city)])

        def evolution(con, t, rows, by):
            n = con.execute("SELECT count(city), max(amount) FROM iceberg_scan(?)", [lake.metadata]).fetchone()
            assert n == (20, 5000000039), n
            assert by[5000000001]["city"] == "Zürich-1" and by[0]["city"] is None
            n = t.scan(row_filter="city = 'Zürich-3'").to_arrow().num_rows
            assert n == 1, n

        check(lake, name + "_evolution", evolution)
        # a and b become one file; the rows are the same
        together = lake.files.pop("a.parquet") + (lake.files.pop("b.parquet") if not spec else [])
        gone = ["a.parquet"] + ([] if spec else ["b.parquet"])
        if not spec:
            for r in together:
                r["timestamp"] = BASE * HOUR
        lake.append([lake.write("e.parquet", together)], do="replace", remove=gone)
        check(lake, name + "_replace", evolution)
        lake.files.pop("c.parquet")
        lake.append([], do="delete", remove=["c.parquet"])
        check(lake, name + "_delete", evolution)
        lake.say({"do": "expire", "keep": 1})

        def expired(con, t, rows, by):
            assert len(t.metadata.snapshots) == 1
            left = sorted(os.path.basename(f) for f in glob.glob(lake.dir + "/data/*.parquet"))
            assert left == sorted(lake.files), left
            evolution(con, t, rows, by)

        check(lake, name + "_expire", expired)


main()
