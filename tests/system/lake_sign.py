"""Remote signing: a catalog that gives no keys signs each request to S3 (Iceberg's S3 signer API). The signer here
knows nothing of Weir's: it signs by tests/system/s3.py, is as strict as Nessie about what it signs, and fails now and
then; S3 takes a signature a few times only."""
import json, os, random, threading, urllib.parse

import s3
from lake_rest import Door, through
from lake_store import program

USES = 3  # of a signature that may be kept


def sign(request, host_only=None):
    """The answer to one request of the API."""
    uri = urllib.parse.urlsplit(request["uri"])
    assert request["region"] == s3.REGION and uri.scheme == "http" and (host_only is None or uri.netloc == host_only)
    head = {k: v[0] for k, v in request["headers"].items()}
    assert all(len(v) == 1 for v in request["headers"].values()), request
    assert not {"host", "authorization", "x-amz-date", "x-amz-content-sha256"} & set(head), request
    query = "&".join(p[:-1] if p.endswith("=") else p for p in uri.query.split("&"))  # as Java's classes write it
    path = uri.path + ("?" + query if query else "")
    head["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
    head["x-amz-nonce"] = os.urandom(8).hex()  # what the signer adds is sent; and no two signatures of a second are equal
    out = s3.signed_headers(request["method"], uri.netloc, path, head)
    return {"uri": "http://%s%s" % (uri.netloc, path), "headers": {k.title(): [v] for k, v in out.items()}}


class Worn(s3.Handler):
    """S3 for which a signature of the signer is too old after some uses."""
    worn = 0

    def one(self):
        s = self.server
        with s.lock:
            uses = s.__dict__.setdefault("uses", {})
            mine = uses[self.headers.get("Authorization")] = uses.get(self.headers.get("Authorization"), 0) + 1
        if mine > USES and "x-amz-nonce" in self.headers:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            Worn.worn += 1
            return self.error(403, "RequestTimeTooSkewed")
        super().one()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = one


BAD = {"empty": lambda o: o.clear(), "line": lambda o: o["headers"].update({"x-amz-meta-a": ["b\r\nc: d"]}),
       "name": lambda o: o["headers"].update({"a b:": ["c"]}), "long": lambda o: o["headers"].update({"x": ["y" * 5000]}),
       "many": lambda o: o["headers"].update({"x-%d" % i: ["y"] for i in range(40)}),
       "file": lambda o: o.update(uri="file:///etc/passwd"), "list": lambda o: o["headers"].update({"x": []})}


class Signer(s3.Spoiler):
    """A catalog that does nothing but sign."""

    def do_GET(self):
        self.send(200, [], b'{"defaults":{},"overrides":{}}')

    def do_POST(self):
        s, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bad = body["uri"].rpartition("/refused/")[2] if "/refused/" in body["uri"] else ""
        assert self.path == "/v1/aws/s3/sign" and "delete" not in body["uri"].partition("?")[2]
        with s.lock:
            s.signed += 1
            s.again += body["uri"].endswith("/again") and body["method"] == "GET"
            fault = s.random.random()
        if bad.isdigit():
            return self.send(int(bad), [], b'{"error":{"message":"no","code":%s}}' % bad.encode())
        if fault < s.share / 2:
            return self.send(503, [], b"{}")
        if fault < s.share:
            return self.reset()
        o = sign(body)
        BAD.get(bad, lambda _: None)(o)
        keep = [("Cache-Control", "private" if body["method"] in ("GET", "HEAD") else "no-cache")]
        self.send(200, keep, json.dumps(o).encode())


class Signers(s3.Quiet):
    signed, again = 0, 0


def store_signed(share, seed, env, handler):
    with s3.small(handler) as endpoint:
        signer = Signers(("127.0.0.1", 0), Signer)
        signer.share, signer.lock, signer.random = share, threading.Lock(), random.Random(seed)
        threading.Thread(target=signer.serve_forever, daemon=True).start()
        try:
            with s3.spoilt(endpoint, share, seed) as (proxied, proxy):
                program(dict(s3.environment(proxied), WEIR_TEST_STORE="s3://bucket/signed", AWS_ACCESS_KEY_ID="",
                             AWS_SECRET_ACCESS_KEY="", HOME="/nowhere",
                             WEIR_TEST_STORE_SIGNER="http://127.0.0.1:%d" % signer.server_address[1], **env))
                return signer, proxy
        finally:
            signer.shutdown()
            signer.server_close()


def test_store_signed():
    """All that a store does, through a signer, without keys: parts, conditions, lists, races, removals. Answers that may be
    kept are, and are asked for anew when S3 refuses them."""
    signer, proxy = store_signed(0, 1, {}, Worn)
    assert signer.signed > 2000 and signer.again == 4 and Worn.worn >= 3, (signer.signed, signer.again, Worn.worn)
    print("figure: object store behind a signer: %d requests, %d signed" % (proxy.seen, signer.signed))


def test_store_signed_spoilt():
    """The signer fails, and so does S3."""
    signer, proxy = store_signed(0.1, 2, {"WEIR_TEST_STORE_SPOILT": "1"}, s3.Handler)
    assert proxy.counts and signer.signed > 100, (proxy.counts, signer.signed)


# ---- a lake ----------------------------------------------------------------------------------------------

class SigningDoor(Door):
    """It signs what names an object of the table that the signer is for, and no removal of its current metadata."""

    @staticmethod
    def enough(s):
        return Door.enough(s) and s.asked.get("PUT", 0) > 10 and s.asked.get("GET", 0) > 2

    def other(self, body):
        s = self.server
        if not self.path.startswith("/sign/"):
            return False
        o, base = json.loads(body), bytes.fromhex(self.path.split("/")[2]).decode()
        with s.lock:
            s.asked[o["method"]] = s.asked.get(o["method"], 0) + 1
            fault = s.asked[o["method"]] % 11 == 7
        assert "X-Iceberg-Access-Delegation" not in self.headers
        if fault:
            self.send(503, [], b"{}")
        elif not o["uri"].startswith(s.s3 + base.replace("s3:/", "") + "/"):
            s.asked["no"] = s.asked.get("no", 0) + 1
            self.send(403, [], b'{"error":{"message":"not of this table","code":403}}')
        else:
            self.send(200, [("cache-control", "private")], json.dumps(sign(o)).encode())
        return True

    def said(self, o):
        s = self.server
        at = o["metadata"]["location"].encode().hex()
        o["config"] = {"s3.endpoint": s.s3, "s3.remote-signing-enabled": "true", "s3.path-style-access": "true",
                       "s3.signer.uri": "http://%s/" % self.headers["Host"], "s3.signer.endpoint": "sign/%s/x" % at}


def test_lake_catalog_signed():
    """Exactly once without keys: the door signs, with tokens that end, and fails; the server is killed."""
    door, told = through(SigningDoor, Worn, left=60)
    print("figure: lake in a catalog that signs: %s; signed: %s" % (told, dict(sorted(door.asked.items()))))
