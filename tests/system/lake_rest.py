"""Other REST catalogs as the lake's destination: another Weir behind a door that wants OAuth 2 tokens and vends
credentials (always), SeaweedFS's own catalog and Iceberg's own REST server on the JVM (WEIR_CLIENTS=all); with
kill -9, and with requests to the catalog and to S3 spoilt."""
import http.client, json, os, subprocess, threading, time, urllib.parse

import iceberg, s3
from harness import ROOT, Server, beside_others, scratch, served, weir
from kafka_clients import download, downloads
from lake import killed
from lake_tables import python

HERE = os.path.join(ROOT, "tests", "system", "lake")


# ---- a door --------------------------------------------------------------------------------------------

class Door(s3.Spoiler):
    """In front of a catalog: OAuth 2 by client credentials, tokens that end, and credentials for the tables. It is strict
    where Nessie is: what may be left out must be said, and no id that a commit gives may be taken."""

    @staticmethod
    def enough(s):
        """Has the server of doors seen what is to be tried?"""
        return s.tokens > 1 and s.refused and s.vended > 1

    def other(self, body):
        """A request that is not for the catalog: whether it was one, and is answered."""
        return False

    def said(self, o):
        """Puts into a table what is said of its storage."""
        s = self.server
        keys = {"s3.access-key-id": s3.ACCESS, "s3.secret-access-key": s3.SECRET, "s3.endpoint": s.s3,
                "s3.session-token-expires-at-ms": str(int(time.time() * 1000) + 61000)}
        o["config"] = {"s3.access-key-id": "wrong", "s3.secret-access-key": "wrong", "s3.endpoint": "http://127.0.0.1:1"}
        o["storage-credentials"] = [{"prefix": "s3://", "config": o["config"]},
                                    {"prefix": o["metadata"]["location"][:-3], "config": keys}]

    def strict(self, body):
        o = json.loads(body)
        assert self.path.endswith("/namespaces") or "updates" in o or o["stage-create"] is False, o
        taken = self.server.taken.setdefault(self.path, set())
        for u in o.get("updates", ()):
            if u["action"] == "add-schema":
                assert u["schema"]["schema-id"] > 0 and u["schema"]["schema-id"] not in taken, (u, taken)
                self.adds = u["schema"]["schema-id"]

    def one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        s = self.server
        with s.lock:
            if self.path == "/token":
                form = dict(urllib.parse.parse_qsl(body.decode()))
                if form != {"grant_type": "client_credentials", "client_id": "we ir", "client_secret": "se:cr&t",
                            "scope": "lake"}:
                    return self.send(400, [], b'{"error":"invalid_client"}')
                s.tokens += 1
                s.good = "t%d" % s.tokens
                s.left = s.allowed
                return self.send(200, [], json.dumps({"access_token": s.good, "token_type": "bearer",
                                                      "expires_in": 3600 if s.tokens % 2 else 4}).encode())
            s.left -= 1
            if self.headers.get("Authorization") != "Bearer " + s.good or s.left < 0:
                s.refused += 1
                return self.send(401, [], b'{"error":{"message":"who?","type":"NotAuthorizedException","code":401}}')
        if self.other(body):
            return
        assert self.path.endswith("/v1/config") or (
            self.headers.get("X-Iceberg-Access-Delegation") == "vended-credentials,remote-signing")
        self.adds = None
        if self.command == "POST":
            try:
                self.strict(body)
            except (AssertionError, KeyError) as e:
                s.faults.append(repr(e))
                return self.send(400, [], b'{"error":{"message":"not so","code":400}}')
        try:
            status, headers, data = self.upstream(body)
        except (OSError, http.client.HTTPException):
            return self.reset()
        if status == 200 and self.adds is not None:
            s.taken[self.path].add(self.adds)
        if status == 200 and b'"metadata-location"' in data:
            o = json.loads(data)
            self.said(o)
            s.vended += 1
            data = json.dumps(o).encode()
        self.send(status, headers, data)

    do_GET = do_POST = do_DELETE = do_HEAD = one


class Doors(s3.Quiet):
    good, left, tokens, refused, vended, commits, overtaken = "none", 0, 0, 0, 0, 0, 0

    def __init__(self, *args):
        super().__init__(*args)
        self.taken, self.faults, self.asked = {}, [], {}


def through(handler, small=s3.Handler, left=3):
    """Exactly once through another Weir's catalog behind such a door; yields what the killing told, and the door."""
    with scratch() as d, s3.small(small) as endpoint, s3.spoilt(endpoint, 0.05, 5) as (proxied, _):
        env = s3.environment(endpoint)
        os.environ.update(env)
        try:
            other = Server(os.path.join(d, "other"), "--set", "lake.url=s3://bucket/tables")
        finally:
            for k in env:
                os.environ.pop(k)
        door = Doors(("127.0.0.1", 0), handler)
        door.allowed = left
        door.host, door.lock, door.s3 = other.url.split("//")[1], threading.RLock(), proxied
        threading.Thread(target=door.serve_forever, daemon=True).start()
        at = "http://127.0.0.1:%d" % door.server_address[1]
        secret = os.path.join(d, "secret")
        with open(secret, "w") as f:
            f.write("we ir:se:cr&t\n")
        try:
            with s3.spoilt(at, 0.15, 6) as (spoilt, proxy):
                n, commits, kills = killed(iceberg.Bucket(endpoint, "tables"), d, 5, (0.5, 1.5), (
                    "--set", "lake.url=", "--set", "lake.s3.region=us-east-1",
                    "--set", "lake.catalog.uri=%s/iceberg" % spoilt, "--set", "lake.catalog.oauth2_uri=%s/token" % at,
                    "--set", "lake.catalog.scope=lake", "--set", "lake.catalog.credential_file=" + secret), every=3,
                                    enough=lambda: handler.enough(door) and proxy.seen > 10)
            assert handler.enough(door) and proxy.seen > 10
            assert not door.faults, door.faults
            return door, "%d kills, %d records, each once in the table; %d commits; %d tokens, %d calls refused, spoilt: %s" % (
                kills, n, commits, door.tokens, door.refused, dict(sorted(proxy.counts.items())))
        finally:
            door.shutdown()
            door.server_close()
            other.stop()


def test_lake_catalog_door():
    """Tokens end, credentials are vended, requests are spoilt, the server is killed."""
    print("figure: lake in another catalog: " + through(Door)[1])


class Forgetful(Door):
    """A catalog that tells of no snapshot but the current one, as Nessie does: and somebody else commits on top of what
    came to be unanswered."""

    @staticmethod
    def enough(s):
        return Door.enough(s) and s.overtaken > 1

    def upstream(self, body):
        s, o = self.server, json.loads(body) if body else {}
        status, headers, data = super().upstream(body)
        if status == 200 and b'"metadata-location"' in data:
            with s.lock:
                s.commits += any(u["action"] == "add-snapshot" for u in o.get("updates", ()))
                if s.commits and s.commits % 2 == 0 and o.get("updates"):
                    self.other_commit(json.loads(data)["metadata"])
                    raise OSError("no answer")
            o = json.loads(data)
            o["metadata"]["snapshots"] = [t for t in o["metadata"]["snapshots"]
                                          if t["snapshot-id"] == o["metadata"].get("current-snapshot-id")]
            o["metadata"]["snapshot-log"] = []
            data = json.dumps(o).encode()
        return status, headers, data

    def other_commit(self, md):
        """The same files under another snapshot, which says nothing of offsets."""
        s = self.server
        (was,) = [t for t in md["snapshots"] if t["snapshot-id"] == md["current-snapshot-id"]]
        new = dict(was, **{"snapshot-id": was["snapshot-id"] // 2 + 1, "parent-snapshot-id": was["snapshot-id"],
                           "sequence-number": was["sequence-number"] + 1})
        new["summary"] = {k: v for k, v in was["summary"].items() if not k.startswith("weir")}
        c = http.client.HTTPConnection(s.host, timeout=60)
        c.request("POST", self.path, json.dumps({"requirements": [], "updates": [
            {"action": "add-snapshot", "snapshot": new},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": new["snapshot-id"]}]}),
            {"content-type": "application/json"})
        assert c.getresponse().status == 200
        c.close()
        s.overtaken += 1


def test_lake_catalog_forgetful():
    """A commit that came to be is not taken for one that was refused, only because its snapshot is not told any more: what
    it is made of would be removed."""
    door, told = through(Forgetful)
    print("figure: lake in a catalog without history: %d commits overtaken; %s" % (door.overtaken, told))


# ---- a table's story -----------------------------------------------------------------------------------

def story(place, data, *settings):
    """Makes a table, lets its columns grow, compacts, expires, begins anew; returns (rows, sum of n)."""
    opts = ("--set", "lake.url=" + place.url(), *settings)
    s = Server(data, *opts)
    n = 0
    try:
        weir("topics", "create", "orders", "--partitions", "2", "--set", "lake.enable=true", "--set",
             "lake.max.seconds=3600", "--set", "lake.max.bytes=1073741824", server=s)
        for part in range(6):
            events = [{"type": "order", "stream": "orders:k%d" % (i % 7), "data": dict(
                {"n": n + i, "amount": i / 4}, **({"note": "part %d" % part} if part > 1 else {}))} for i in range(100)]
            status, _, body = s.call("POST", "/events", json.dumps(events))
            assert status == 201, body
            n += 100
            weir("lake", "flush", "orders", server=s)
            if part == 3:
                s.kill()
                s = Server(data, *opts)
        weir("lake", "compact", "orders", server=s)
        weir("topics", "alter", "orders", "--set", "lake.snapshot.retention.ms=60000", server=s)
        weir("lake", "expire", "orders", server=s)
        got = weir("sql", "-c", "SELECT count(*) AS c, sum(n) AS s, count(note) AS t FROM orders", "--format", "csv", server=s)
        assert got.stdout.decode().split() == ["c,s,t", "%d,%d,400" % (n, n * (n - 1) // 2)], got.stdout
        assert s.call("GET", "/iceberg/v1/config")[0] == 404
    except BaseException:
        print(s.tail())
        s.kill()
        raise
    s.stop()
    return n, n * (n - 1) // 2


def check(place, d, n, total):
    duck, table = iceberg.Duck(), iceberg.Table(place, "orders")
    assert iceberg.exactly_once(duck, table, d) == n
    assert duck.rows("SELECT sum(n), count(note) FROM " + iceberg.files_sql(table.local(d))) == [(str(total), str(n - 200))]
    duck.close()
    return table


# ---- SeaweedFS -----------------------------------------------------------------------------------------

def test_lake_catalog_seaweed():
    """Its tables lie in a bucket of its own kind; OAuth 2 tokens for S3's keys."""
    with scratch() as d, s3.seaweed(tables="lake") as (endpoint, uri):
        place = iceberg.Bucket(endpoint, "", bucket="lake")
        secret = os.path.join(d, "secret")
        with open(secret, "w") as f:
            f.write("%s:%s" % (s3.ACCESS, s3.SECRET))
        old = dict(os.environ)
        try:
            os.environ.update(s3.environment(endpoint))
            settings = ("--set", "lake.url=", "--set", "lake.catalog.warehouse=s3://lake",
                        "--set", "lake.catalog.credential_file=" + secret)
            check(place, d, *story(place, os.path.join(d, "one"), "--set", "lake.catalog.uri=" + uri, *settings))
            with s3.spoilt(endpoint, 0.1, 7) as (spoilt, one), s3.spoilt(uri, 0.1, 8) as (catalog, two):
                os.environ.update(s3.environment(spoilt))
                rounds = int(os.environ.get("WEIR_KILL_ROUNDS", "8"))
                n, commits, _ = killed(place, d, rounds, (0.5, 2.0), (
                    *settings, "--set", "lake.catalog.uri=" + catalog), every=3)
                print("figure: lake in SeaweedFS's catalog: %d kills, %d records, each once in the table; %d commits; "
                      "spoilt: S3 %d, catalog %s" % (rounds, n, commits, sum(one.counts.values()), two.counts))
        finally:
            os.environ.clear()
            os.environ.update(old)


# ---- Iceberg's own -------------------------------------------------------------------------------------

def jvm_catalog(folder, calls):
    """Iceberg's REST server of its own tests; returns (process, uri)."""
    d = os.path.join(downloads("lake", "java", "mvn"), "catalog")
    os.makedirs(d, exist_ok=True)
    pom = os.path.join(HERE, "catalog.xml")
    download("Iceberg's REST server", ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
                                       "-DincludeScope=runtime", "-DoutputDirectory=" + d], os.path.join(d, "stamp"), pom)
    p = subprocess.Popen(["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                          "-cp", os.path.join(d, "*"), os.path.join(HERE, "RestCatalog.java"), folder, "weir", str(calls)],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    port = p.stdout.readline().decode().strip()
    assert port.isdigit(), port
    return p, "http://127.0.0.1:" + port


PYICEBERG = """
import json, sys
from pyiceberg.catalog import load_catalog
t = load_catalog("c", type="rest", uri=sys.argv[1], credential="weir:x").load_table("weir.orders")
a = t.scan().to_arrow()
print(json.dumps([a.num_rows, sum(a["n"].to_pylist()), a["note"].null_count, [f.field_id for f in t.schema().fields]]))
"""


@beside_others
def test_lake_catalog_java():
    interpreter = python()
    with scratch() as d:
        folder = os.path.join(d, "tables")
        os.mkdir(folder)
        p, uri = jvm_catalog(folder, 5)
        try:
            secret = os.path.join(d, "secret")
            with open(secret, "w") as f:
                f.write("weir:x")
            place = iceberg.Folder(folder)
            n, total = story(place, os.path.join(d, "data"), "--set", "lake.catalog.uri=" + uri,
                             "--set", "lake.catalog.credential_file=" + secret)
            table = check(place, d, n, total)
            q = subprocess.run([interpreter, "-c", PYICEBERG, uri], capture_output=True, timeout=120)
            assert q.returncode == 0, q.stderr.decode()
            assert json.loads(q.stdout) == [n, total, 200, [c["id"] for c in table.columns().values()]], q.stdout
            c = http.client.HTTPConnection(uri.split("//")[1], timeout=20)
            c.request("GET", "/counts")
            counts = json.loads(c.getresponse().read())
            c.close()
            assert counts["refused"] > 1 and counts["tokens"] > 2, counts
        finally:
            p.terminate()
            p.wait(20)
            p.stdout.close()
