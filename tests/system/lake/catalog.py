"""Weir's REST catalog, used by pyiceberg and by DuckDB's iceberg extension; and tables of pyiceberg, read by Weir.

    catalog.py LAKE_TOOL URL DIRECTORY          URL of the server, DIRECTORY where its tables lie

Prints a line for each step.
"""
import glob, json, os, subprocess, sys

import duckdb
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType

tool, url, root = sys.argv[1:4]
cat = load_catalog("weir", type="rest", uri=url + "/iceberg")


def weir_sees(name):
    p = subprocess.run([tool, "file://" + root, "other", name], input='{"do":"scan"}\n', text=True, capture_output=True)
    out = json.loads(p.stdout)
    assert "error" not in out, out
    return out


def rows(first, n):
    return pa.table({"id": pa.array(range(first, first + n), pa.int64()),
                     "n": pa.array([i % 10 for i in range(n)], pa.int32()),
                     "name": pa.array(["k%d" % (i % 7) if i % 3 else None for i in range(n)]),
                     "at": pa.array([1_700_000_000_000_000 + i * 7_200_000_000 for i in range(n)], pa.timestamp("us", "UTC"))})


def ok(step):
    print("ok " + step, flush=True)


cat.create_namespace("other", {"owner": "test"})
try:
    cat.create_namespace("other")
    raise AssertionError("a namespace twice")
except NamespaceAlreadyExistsError:
    pass
assert cat.load_namespace_properties("other")["owner"] == "test"
assert ("other",) in cat.list_namespaces()
schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "n", IntegerType()),
                NestedField(3, "name", StringType()), NestedField(4, "at", TimestamptzType()))
t = cat.create_table("other.plain", schema)
try:
    cat.create_table("other.plain", schema)
    raise AssertionError("a table twice")
except TableAlreadyExistsError:
    pass
assert not cat.table_exists("other.none") and cat.table_exists("other.plain")
ok("create")

t.append(rows(0, 100))
stale = cat.load_table("other.plain")
t.append(rows(100, 50))
assert cat.load_table("other.plain").scan().to_arrow().num_rows == 150
assert weir_sees("plain") == {"files": 2, "rows": 150, "partitions": 0}
ok("append")

with t.update_schema() as u:
    u.add_column("city", StringType())
    u.update_column("n", LongType())
t = cat.load_table("other.plain")
assert str(t.schema().find_type("n")) == "long"
more = rows(150, 10).set_column(1, "n", pa.array([5_000_000_000] * 10, pa.int64())).append_column("city", pa.array(["x"] * 10))
t.append(more)
assert sum(x for x in t.scan().to_arrow()["n"].to_pylist()) == sum(i % 10 for i in range(100)) + sum(i % 10 for i in range(50)) + 50_000_000_000
ok("evolution")

try:
    with stale.update_schema() as u:
        u.add_column("late", StringType())
    raise AssertionError("a commit on an old schema")
except CommitFailedException:
    pass
ok("conflict")

t.delete("id < 100")
t.overwrite(rows(0, 20).append_column("city", pa.nulls(20, pa.string())).set_column(1, "n", pa.array(range(20), pa.int64())), "id >= 150")
assert cat.load_table("other.plain").scan().to_arrow().num_rows == 70
assert weir_sees("plain")["rows"] == 70
t.manage_snapshots().create_tag(t.current_snapshot().snapshot_id, "v1").commit()
assert cat.load_table("other.plain").metadata.refs["v1"].snapshot_id == t.current_snapshot().snapshot_id
ok("changes")

spec = PartitionSpec(PartitionField(4, 1000, DayTransform(), "at_day"), PartitionField(3, 1001, BucketTransform(4), "name_bucket"))
p = cat.create_table("other.parts", schema, partition_spec=spec, properties={"a": "b"})
p.append(rows(0, 100))
seen = weir_sees("parts")
assert seen["rows"] == 100 and seen["files"] > 10 and seen["files"] < seen["partitions"] <= 2 * seen["files"], seen
assert p.properties["a"] == "b"
with p.transaction() as tx:
    tx.set_properties(c="d")
assert cat.load_table("other.parts").properties["c"] == "d"
ok("partitions")

with cat.create_table_transaction("other.staged", schema) as tx:
    tx.append(rows(0, 10))
assert cat.load_table("other.staged").scan().to_arrow().num_rows == 10
ok("staged")

con = duckdb.connect(config={"allow_unsigned_extensions": "true", "autoinstall_known_extensions": "false"})
for name in ("avro", "httpfs", "iceberg"):
    package = __import__("duckdb_extension_" + name)
    con.execute("LOAD '%s'" % glob.glob(os.path.join(package.__path__[0], "extensions", "*", "*"))[0])
con.execute("ATTACH '' AS w (TYPE iceberg, ENDPOINT '%s/iceberg', AUTHORIZATION_TYPE 'none')" % url)
assert con.execute("SELECT count(*), sum(n) FROM w.other.plain").fetchone()[0] == 70
got = con.execute("SELECT count(*), count(name), sum(id) FROM w.other.parts").fetchone()
assert got == (100, 66, 4950), got
ok("duckdb")

assert sorted(n[1] for n in cat.list_tables("other")) == ["parts", "plain", "staged"]
cat.drop_table("other.staged")
cat.purge_table("other.parts")
assert not glob.glob(os.path.join(root, "other", "parts", "data", "**", "*.parquet"), recursive=True)
try:
    cat.load_table("other.parts")
    raise AssertionError("a table that was dropped")
except NoSuchTableError:
    pass
again = cat.register_table("other.back", cat.load_table("other.plain").metadata_location)
assert again.scan().to_arrow().num_rows == 70
ok("drop")

# from now on tokens are needed
import urllib.request

def token(grants, admin=None):
    q = urllib.request.Request(url + "/tokens", json.dumps({"grants": grants}).encode(),
                               {"content-type": "application/json", **({"authorization": "Bearer " + admin} if admin else {})})
    return json.load(urllib.request.urlopen(q))["token"]

admin = token([{"access": "admin"}])
reader = token([{"access": "read", "prefix": "pl"}], admin)
mine = load_catalog("mine", type="rest", uri=url + "/iceberg", token=reader)
assert [n[1] for n in mine.list_tables("other")] == ["plain"]
assert mine.load_table("other.plain").scan().to_arrow().num_rows == 70
for refused in (lambda: mine.drop_table("other.plain"), lambda: mine.load_table("other.back"),
                lambda: load_catalog("nobody", type="rest", uri=url + "/iceberg")):
    try:
        refused()
    except Exception as e:
        assert type(e).__name__ in ("ForbiddenError", "UnauthorizedError", "AuthorizationExpiredError"), repr(e)
    else:
        raise AssertionError("not refused")
con.execute("ATTACH '' AS r (TYPE iceberg, ENDPOINT '%s/iceberg', TOKEN '%s')" % (url, reader))
assert con.execute("SELECT count(*) FROM r.other.plain").fetchone()[0] == 70
ok("tokens")
