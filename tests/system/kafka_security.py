"""Kafka's clients with users: every SASL mechanism of kcat (librdkafka) and kafkajs, access rules, TLS with
passwords, files read again."""
import base64, json, os, shutil, signal, struct, subprocess, time

import kafka_hostile as h
from harness import Server, Skip, beside_others, npm_modules, scratch, served, weir
from kafka_clients import HERE, compiled, steps_run

SECRET = "a secret that only the test and the server know"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def settings(d, mechanisms=",".join(MECHANISMS), users=("admin", "ann", "ben"), acl=True):
    """Files in d, and the flags that name them."""
    with open(os.path.join(d, "users"), "w") as f:
        f.write("# users\n" + "".join("%s:pw-%s\n" % (u, u) for u in users))
    k = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
    with open(os.path.join(d, "keys"), "w") as f:
        json.dump({"keys": [{"kty": "oct", "alg": "HS256", "k": k}]}, f)
    items = {"kafka.sasl.mechanisms": mechanisms, "kafka.sasl.users": os.path.join(d, "users"),
             "kafka.sasl.oauth.keys": os.path.join(d, "keys"), "kafka.acl.enabled": str(acl).lower(),
             "kafka.acl.super_users": "User:admin"}
    return [a for k, v in items.items() for a in ("--set", "%s=%s" % (k, v))]


def need(tool, package):
    if not shutil.which(tool):
        raise Skip("%s is not installed: apt-get install %s" % (tool, package))


def kcat(server, mechanism, user, *args, password=None, stdin=None, protocol="SASL_PLAINTEXT", timeout=90):
    need("kcat", "kcat")
    conf = {"security.protocol": protocol, "sasl.mechanisms": mechanism, "sasl.username": user,
            "sasl.password": password or "pw-" + user}
    p = subprocess.run(["kcat", "-b", server.kafka, *(a for k, v in conf.items() for a in ("-X", "%s=%s" % (k, v))), *args],
                       input=stdin, capture_output=True, timeout=timeout)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def test_kafka_security_kcat():
    """Produces and consumes by each mechanism; a wrong password is named as such."""
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *settings(d, acl=False), kafka=0)
        try:
            for m in MECHANISMS:
                rc, _, err = kcat(s, m, "ann", "-P", "-t", "t-" + m, stdin=b"one\ntwo\n")
                assert rc == 0, err
                rc, out, err = kcat(s, m, "ben", "-C", "-t", "t-" + m, "-e", "-q", "-o", "beginning")
                assert (rc, out) == (0, "one\ntwo\n"), (out, err)
                rc, _, err = kcat(s, m, "ann", "-L", "-m", "3", password="pw-ben")
                assert rc and "uthentication failed" in err, err
            p = subprocess.run(["kcat", "-b", s.kafka, "-L", "-m", "3"], capture_output=True, timeout=30)
            assert p.returncode, "in without saying who"
        finally:
            s.stop()


def test_kafka_security_rules_kcat():
    """What no rule allows is refused, and said to be."""
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *settings(d), kafka=0)
        try:
            rc, _, err = kcat(s, "PLAIN", "admin", "-P", "-t", "t", stdin=b"one\n")
            assert rc == 0, err
            rc, _, err = kcat(s, "PLAIN", "ann", "-P", "-t", "t", "-X", "message.timeout.ms=3000", stdin=b"one\n")
            assert "uthorization failed" in err, err
            rc, out, err = kcat(s, "PLAIN", "ben", "-C", "-t", "t", "-e", "-o", "beginning")
            assert out == "" and "uthorization failed" in err, (out, err)
        finally:
            s.stop()


def test_kafka_security_kafkajs():
    need("node", "nodejs")
    npm_modules()
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *settings(d, ",".join(MECHANISMS) + ",OAUTHBEARER"), kafka=0)
        try:
            return steps_run(["node", os.path.join(HERE, "security.mjs"), s.kafka, "s"],
                             ("mechanisms", "passwords", "rules", "rules_listed", "configs"), env={"WEIR_JWT_SECRET": SECRET})
        finally:
            s.stop()


def test_kafka_security_tls():
    """Passwords under TLS let a public address be served; without TLS it is not."""
    need("openssl", "openssl")
    with scratch() as d:
        cert, key = os.path.join(d, "cert"), os.path.join(d, "key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        tls = ["--set", "kafka.tls.cert=" + cert, "--set", "kafka.tls.key=" + key]
        s = Server(os.path.join(d, "data"), *settings(d, acl=False), *tls, kafka=0)
        try:
            ca = ("-X", "ssl.ca.location=" + cert)
            rc, _, err = kcat(s, "SCRAM-SHA-512", "ann", "-P", "-t", "t", *ca, stdin=b"one\n", protocol="SASL_SSL")
            assert rc == 0, err
            rc, out, err = kcat(s, "PLAIN", "ann", "-C", "-t", "t", "-e", "-q", *ca, protocol="SASL_SSL")
            assert out == "one\n", err
        finally:
            s.stop()
        s = Server(os.path.join(d, "data"), *settings(d), "--kafka", "0.0.0.0:0", expect_fail=True)
        assert s.port is None, "a public address is served without TLS"
        assert "kafka.sasl.mechanisms" in s.tail(), s.tail()
        s.log.close()


def quota_set(s, client, key, value):
    """AlterClientQuotas 0, of a client id."""
    body = struct.pack(">i", 1) + struct.pack(">i", 1) + h.text("client-id") + h.text(client) + struct.pack(">i", 1) + h.text(key)
    with h.connect(s) as c:
        answer = h.call(c, h.frame(49, 0, body + struct.pack(">d?", value, False) + b"\0"))
    assert answer[8:10] == b"\0\0", answer


@beside_others
def test_kafka_security_quotas():
    """librdkafka under quotas: rates of bytes are held within a fifth, and it is told why it waits; who has a hundredth of
    a thread gets through a small part of what others do."""
    rate = 1000000
    with served(kafka=0) as s, scratch() as d:
        exe = compiled(d, "quota")
        weir("topics", "create", "q", server=s)

        def run(client, what, seconds, size):
            p = subprocess.run([exe, s.kafka, "q", client, what, str(seconds), str(size)], capture_output=True, timeout=120)
            assert p.returncode == 0, p.stderr.decode()
            done, us, throttles, longest = map(int, p.stdout.split())
            return done / us * 1e6, throttles, longest

        def held(client, what):
            for attempt in range(3):  # a machine that stands still for a while is no error of the server's
                got, throttles, longest = run(client, what, 6, 10000)
                assert throttles > 0 and 0 < longest <= 30000, (what, got, throttles, longest)
                if 0.8 * rate <= got <= 1.2 * rate:
                    break
            assert 0.8 * rate <= got <= 1.2 * rate, "%s: %.0f bytes a second, the quota is %d" % (what, got, rate)
            print("figure: %s under a quota of 1 MB/s: %.3f MB/s, told to wait %d times, longest %d ms" %
                  (what, got / 1e6, throttles, longest))

        free, throttles, _ = run("free", "produce", 2, 10000)
        assert throttles == 0 and free > 3 * rate, (free, throttles)
        quota_set(s, "slow", "producer_byte_rate", rate)
        quota_set(s, "reader", "consumer_byte_rate", rate)
        quota_set(s, "costly", "request_percentage", 1)
        held("slow", "produce")
        held("reader", "consume")
        costly, throttles, longest = run("costly", "produce", 2, 10000)
        assert throttles > 0 and costly < free / 3, (costly, free, throttles)
        print("figure: 1 %% of a thread: %.1f MB/s instead of %.1f, told to wait %d times, longest %d ms" %
              (costly / 1e6, free / 1e6, throttles, longest))


def test_kafka_security_edits():
    """Administrators who change different items of the same quota, and of the same group's configuration, at the same time:
    none of them is lost."""
    many = 60
    array = lambda items: struct.pack(">i", len(items)) + b"".join(items)

    def quotas(key, value):  # AlterClientQuotas 0
        return h.frame(49, 0, array([array([h.text("user") + h.text("u%d" % i)]) + array([h.text(key) + struct.pack(">d?", value, False)])
                                     for i in range(many)]) + b"\0")

    def groups(key, value):  # IncrementalAlterConfigs 0; 32: of a group; 0: set
        return h.frame(44, 0, array([b"\x20" + h.text("g%d" % i) + array([h.text(key) + b"\0" + h.text(value)]) for i in range(many)]) + b"\0")

    def at_once(s, *requests):
        conns = [h.connect(s) for _ in requests]
        for c, r in zip(conns, requests):
            c.sendall(r)
        for c in conns:
            body = h.answer(c)[1]
            assert struct.unpack(">i", body[4:8])[0] == many
            yield body
            c.close()

    with served(kafka=0) as s:
        for n, body in enumerate(at_once(s, quotas("producer_byte_rate", 1000), quotas("consumer_byte_rate", 2000),
                                         quotas("request_percentage", 30))):
            assert body.count(b"\0\0\xff\xff") >= many, "alteration %d: %r" % (n, body[:100])
        with h.connect(s) as c:
            body = h.call(c, h.frame(48, 0, array([]) + b"\0"))
            counts = {k: body.count(h.text(k)) for k in ("producer_byte_rate", "consumer_byte_rate", "request_percentage")}
            assert set(counts.values()) == {many}, counts
            items = {"share.delivery.count.limit": "7", "share.record.lock.duration.ms": "20000", "share.auto.offset.reset": "earliest"}
            for body in at_once(s, *(groups(k, v) for k, v in items.items())):
                assert body.count(b"\0\0\xff\xff\x20") == many, body[:100]
            for key, value in items.items():  # DescribeConfigs 1
                body = h.call(c, h.frame(32, 1, array([b"\x20" + h.text("g%d" % i) + array([h.text(key)]) for i in range(many)]) + b"\0"))
                assert body.count(h.text(key) + h.text(value)) == many, (key, body.count(h.text(key) + h.text(value)))


def certificates(d, **subjects):
    """ca.pem, and for each name a certificate NAME.pem with this subject, and its key."""
    def openssl(*args):
        p = subprocess.run(["openssl", *args], capture_output=True, cwd=d)
        assert p.returncode == 0, p.stderr.decode()
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    with open(os.path.join(d, "server.ext"), "w") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    for name, subject in dict(subjects, server="/CN=localhost").items():
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-utf8", "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject,
                "-multivalue-rdn")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-out", name + ".pem", *(("-extfile", "server.ext") if name == "server" else ()))


def test_kafka_security_certificates():
    """Who is connected is who the certificate names, as an Apache Kafka server names it: rules for kafkajs and kcat."""
    need("openssl", "openssl")
    need("node", "nodejs")
    need("kcat", "kcat")
    npm_modules()
    with scratch() as d:
        certificates(d, admin="/CN=admin", ann="/O=Weir, Inc./OU=Tests/CN=ann", ben="/O=Weir, Inc./OU=Tests/CN=ben",
                     eve='/DC=org/DC=weir/O=Ünïcode "\\+" #1/CN=eve+UID=7/ST= a=b /emailAddress=eve@weir.test')
        path = lambda name: os.path.join(d, name)
        everyone = {"kafka.tls.cert": path("server.pem"), "kafka.tls.key": path("server.key"), "kafka.tls.client_ca": path("ca.pem"),
                    "kafka.acl.enabled": "true",
                    "kafka.acl.super_users": 'User:CN=admin; User:1.2.840.113549.1.9.1=#160d65766540776569722e74657374,'
                                             'ST=\\ a\\=b\\ ,CN=eve+UID=7,O=Ünïcode \\"\\+\\" \\#1,DC=weir,DC=org'}
        s = Server(os.path.join(d, "data"), *(a for k, v in everyone.items() for a in ("--set", "%s=%s" % (k, v))), kafka=0)

        def kcat_as(name, *args, **kw):
            conf = {"security.protocol": "SSL", "ssl.ca.location": path("ca.pem"), "ssl.certificate.location": path(name + ".pem"),
                    "ssl.key.location": path(name + ".key")}
            p = subprocess.run(["kcat", "-b", s.kafka, *(a for k, v in conf.items() for a in ("-X", "%s=%s" % (k, v))), *args],
                               capture_output=True, timeout=30, **kw)
            return p.returncode, p.stdout.decode(), p.stderr.decode()
        try:
            steps = steps_run(["node", os.path.join(HERE, "certificates.mjs"), s.kafka, "c"], ("rules",), env={"WEIR_CERTS": d})
            topic = "c-certificates"
            rc, _, err = kcat_as("ann", "-P", "-t", topic, input=b"two\n")
            assert rc == 0, err
            rc, _, err = kcat_as("ben", "-P", "-t", topic, "-X", "message.timeout.ms=3000", input=b"three\n")
            assert "uthorization failed" in err, err
            rc, out, err = kcat_as("eve", "-C", "-t", topic, "-e", "-q", "-o", "beginning")
            assert out == "of ann\ntwo\n", (out, err)
            return steps
        finally:
            s.stop()


def test_kafka_security_reload():
    """SIGHUP: users of the file come and go, connections stay; a file that is wrong changes nothing."""
    with scratch() as d:
        s = Server(os.path.join(d, "data"), *settings(d, acl=False), kafka=0)
        try:
            def reload(text, said):
                before = len(s.tail())
                with open(os.path.join(d, "users"), "w") as f:
                    f.write(text)
                s.p.send_signal(signal.SIGHUP)
                end = time.time() + 60
                while said not in s.tail():
                    assert time.time() < end, s.tail()
                    time.sleep(0.02)
            assert kcat(s, "PLAIN", "eve", "-L", "-m", "3")[0]
            reload("eve:pw-eve\n", "files read again")
            assert kcat(s, "PLAIN", "eve", "-L", "-m", "30")[0] == 0
            assert kcat(s, "PLAIN", "ann", "-L", "-m", "3")[0]
            reload("eve\n", "stay as they were")
            assert kcat(s, "PLAIN", "eve", "-L", "-m", "30")[0] == 0
        finally:
            s.stop()
