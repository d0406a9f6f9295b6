"""Tables of weir serve, read by four that know nothing of it, through the catalog and from bare files: Spark with
Iceberg's runtime, pyiceberg, DuckDB's iceberg extension, icebird; and maintained and written to by Spark
(WEIR_CLIENTS=lake or all: Spark comes from Maven's registry, the others from Python's and npm's)."""
import glob, json, os, subprocess, time

import iceberg
from harness import ROOT, beside_others, npm_modules, scratch, served, weir
from kafka_clients import download, downloads
from lake_tables import python

HERE = os.path.join(ROOT, "tests", "system", "lake")
OPENED = ("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
          "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action",
          "sun.util.calendar")


class Spark:
    def __init__(self, uri, token, folder):
        d = os.path.join(downloads("lake", "java", "mvn"), "spark")
        os.makedirs(d, exist_ok=True)
        pom = os.path.join(HERE, "spark.xml")
        download("Spark", ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                           "-DoutputDirectory=" + d], os.path.join(d, "stamp"), pom)
        self.p = subprocess.Popen(
            ["java", "-Xmx1g", "-XX:TieredStopAtLevel=1", *("--add-opens=java.base/%s=ALL-UNNAMED" % o for o in OPENED), "-cp",
             os.path.join(d, "*"), os.path.join(HERE, "Spark.java"), uri, token, folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.p.stdout.readline() == b"ready\n"

    def ask(self, sql):
        """Rows as lists of their values."""
        self.p.stdin.write(sql.encode() + b"\n")
        self.p.stdin.flush()
        out = json.loads(self.p.stdout.readline())
        assert isinstance(out, list), (sql, out)
        return out

    def one(self, sql):
        (row,) = self.ask(sql)
        return row

    def close(self):
        self.p.stdin.close()
        self.p.stdout.close()
        self.p.wait(60)


OTHERS = """
import duckdb, glob, json, sys
from pyiceberg.catalog import load_catalog
from pyiceberg.table import StaticTable
uri, token, metadata = sys.argv[1:]
def seen(t):
    a = t.scan(selected_fields=("n", "amount", "note", "offset")).to_arrow()
    return [a.num_rows, sum(a["n"].to_pylist()), sum(v for v in a["amount"].to_pylist() if v is not None),
            a.num_rows - a["note"].null_count, [f.name for f in t.schema().fields]]
con = duckdb.connect()
for e in ("avro", "httpfs", "iceberg"):
    package = __import__("duckdb_extension_" + e)
    con.execute("LOAD '%s'" % glob.glob(package.__path__[0] + "/extensions/*/*")[0])
con.execute("ATTACH '' AS r (TYPE iceberg, ENDPOINT '%s', TOKEN '%s')" % (uri, token))
def duck(of):
    n = con.execute("SELECT count(*), sum(n)::BIGINT, sum(amount), count(note) FROM " + of).fetchone()
    return [*n, [c[0] for c in con.execute("SELECT * FROM %s LIMIT 0" % of).description]]
print(json.dumps({"pyiceberg, catalog": seen(load_catalog("c", type="rest", uri=uri, token=token).load_table("weir.orders")),
                  "pyiceberg, files": seen(StaticTable.from_metadata(metadata)),
                  "duckdb, catalog": duck("r.weir.orders"), "duckdb, files": duck("iceberg_scan('%s')" % metadata)}))
"""


def icebird(folder):
    modules = npm_modules()
    program = os.path.join(HERE, "icebird_table.mjs")
    p = subprocess.run(["node", program, folder], capture_output=True, timeout=120, cwd=os.path.dirname(modules))
    assert p.returncode == 0, p.stderr.decode()[-2000:]
    return json.loads(p.stdout)


def agree(spark, interpreter, s, token, folder, want):
    """Everybody sees (rows, sum of n, sum of amount, notes), and the same columns."""
    table = iceberg.Table(iceberg.Folder(folder), "orders")
    columns = list(table.columns())
    metadata = max(glob.glob(folder + "/weir/orders/metadata/v*.metadata.json"), key=lambda n: int(n.split("/v")[-1].split(".")[0]))
    p = subprocess.run([interpreter, "-c", OTHERS, s.url + "/iceberg", token, metadata], capture_output=True, timeout=120)
    assert p.returncode == 0, p.stderr.decode()[-2000:]
    seen = json.loads(p.stdout)
    for c in ("rest", "bare"):
        r = spark.one("SELECT count(*) c, sum(n) n, sum(amount) a, count(note) t FROM %s.weir.orders" % c)
        names = [d["col_name"] for d in spark.ask("DESCRIBE %s.weir.orders" % c)]
        seen["spark, " + c] = [r["c"], r["n"], r["a"], r["t"], names[:len(columns)]]
    seen["icebird, files"] = icebird(folder)
    for who, got in seen.items():
        assert got == [*want, columns], (who, got, want, columns)
    return len(seen)


def post(s, first, n, note):
    events = [{"type": "order", "stream": "orders:k%d" % (i % 7), "data": dict(
        {"n": i, "amount": i / 4}, **({"note": "n%d" % i} if note else {}))} for i in range(first, first + n)]
    head = {"authorization": "Bearer " + s.token}
    status, _, body = s.call("POST", "/events", json.dumps(events), head)
    assert status == 201, body
    weir("lake", "flush", "orders", server=s, env={"WEIR_TOKEN": s.token})


def want(n, notes):
    return [n, n * (n - 1) // 2, n * (n - 1) / 8, notes]


@beside_others
def test_lake_spark():
    interpreter = python()
    with served("--set", "lake.orphan_age=1s") as s, scratch() as d:
        folder = os.path.join(s.data, "lake")
        status, _, body = s.call("POST", "/tokens", json.dumps({"grants": [{"access": "admin"}]}))
        assert status in (200, 201), body
        s.token = json.loads(body)["token"]
        mine = {"server": s, "env": {"WEIR_TOKEN": s.token}}
        weir("topics", "create", "orders", "--partitions", "2", "--set", "lake.enable=true", "--set",
             "lake.max.seconds=86400", "--set", "lake.max.bytes=1073741824", **mine)
        post(s, 0, 100, False)
        spark = Spark(s.url + "/iceberg", s.token, folder)
        try:
            seen = agree_from(spark, interpreter, s, folder)
        finally:
            spark.close()
        print("figure: lake: %s agree after each of evolution, compaction, expiry and Spark's own changes" % seen)


def agree_from(spark, interpreter, s, folder):
    mine = {"server": s, "env": {"WEIR_TOKEN": s.token}}
    table = lambda: iceberg.Table(iceberg.Folder(folder), "orders")
    check = lambda n, notes: agree(spark, interpreter, s, s.token, folder, want(n, notes))
    for part in range(1, 6):
        post(s, part * 100, 100, part > 1)
    n = check(600, 400)
    weir("lake", "compact", "orders", **mine)
    weir("topics", "alter", "orders", "--set", "lake.snapshot.retention.ms=60000", **mine)
    time.sleep(61)  # what the retention is at least
    weir("lake", "expire", "orders", **mine)
    assert len(table().md["snapshots"]) == 1
    check(600, 400)
    for part in range(6, 9):
        post(s, part * 100, 100, True)
    # Spark's maintenance, through Weir's catalog
    before = len(table().files())
    r = spark.one("CALL rest.system.rewrite_data_files(table => 'weir.orders', options => map('rewrite-all', 'true'))")
    assert r["rewritten_data_files_count"] == before, r
    r = spark.one("CALL rest.system.expire_snapshots(table => 'weir.orders', older_than => TIMESTAMP '2100-01-01', retain_last => 1)")
    assert len(table().md["snapshots"]) == 1 and r["deleted_data_files_count"] >= before, r
    assert "weir.offsets" not in table().snapshot()["summary"]  # Weir's own snapshots are all gone
    check(900, 700)
    weir("lake", "compact", "orders", **mine)
    post(s, 900, 100, True)
    check(1000, 800)
    duck = iceberg.Duck()
    assert iceberg.exactly_once(duck, table(), folder) == 1000
    duck.close()
    # a row of somebody else stays, and Weir goes on where it was
    spark.ask("INSERT INTO rest.weir.orders SELECT partition, 1000000L, position, timestamp, key, value, headers, ce_type, "
              "ce_id, 1000L, 250.0D, note FROM rest.weir.orders WHERE n = 100")
    events = [{"type": "order", "stream": "orders", "data": {"n": i, "amount": i / 4, "note": "x"}} for i in range(1001, 1051)]
    assert s.call("POST", "/events", json.dumps(events), {"authorization": "Bearer " + s.token})[0] == 201
    weir("lake", "flush", "orders", **mine)
    check(1051, 850)
    return "%d ways of Spark, pyiceberg, DuckDB and icebird" % n
