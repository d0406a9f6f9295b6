"""The command line beside Kafka's protocol: weir topics --describe, produce, consume, groups."""
import argparse, base64, contextlib, json, os, random, re, shutil, signal, socket, struct, subprocess, threading, time

import kafka_clients
from harness import ROOT, WEIR, Server, Skip, beside_others, metric, npm_modules, scratch, served, wait_for, weir


def on(server):
    return {"WEIR_KAFKA": server.kafka, "WEIR_SERVER": server.url}


def produce(server, topic, text, *args, ok=True):
    return weir("produce", topic, *args, stdin=text.encode(), env=on(server), ok=ok)


def consume(server, *args, ok=True):
    """The text printed, up to the end of the topics."""
    p = weir("consume", *args, "--exit", env=on(server), ok=ok)
    return p.stdout.decode() if ok else p


def lines_of(n, tag="v"):
    return "".join("%s%d\n" % (tag, i) for i in range(n))


# ---- quick start ---------------------------------------------------------------------------------------

def test_kafka_quickstart():
    """The lines of docs/kafka.md, as printed, with ports and a directory of their own."""
    if not shutil.which("kcat"):
        raise Skip("kcat is not installed: apt-get install kcat")
    text = open(os.path.join(ROOT, "docs", "kafka.md")).read()
    block = re.search(r"<!-- kafka-quick-start -->\s*```sh\n(.*?)```", text, re.S)
    assert block, "docs/kafka.md has no kafka-quick-start block"
    lines = block.group(1)
    assert lines.count("127.0.0.1:9092") >= 3 and lines.count("localhost:8787") >= 1, lines
    http, kafka = free_port(), free_port()
    with scratch() as d:
        script = lines.replace("127.0.0.1:9092", "127.0.0.1:%d" % kafka).replace("localhost:8787", "127.0.0.1:%d" % http)
        script = script.replace("build/weir", WEIR).replace("weir-data", os.path.join(d, "data"))
        env = dict(os.environ, WEIR_HTTP_LISTEN="127.0.0.1:%d" % http, WEIR_KAFKA="127.0.0.1:%d" % kafka,
                   WEIR_SERVER="http://127.0.0.1:%d" % http)
        end = "trap 'kill %1; wait %1' EXIT\n"
        p = subprocess.run(["bash", "-euc", end + script], capture_output=True, env=env, cwd=d, timeout=60)
        out = p.stdout.decode()
        assert p.returncode == 0, out + p.stderr.decode()
        assert out.count('{"total":12.5}') == 3, out  # kcat, curl, weir consume
        assert '"key":"c-1"' in out.replace(" ", "") and '{"total":3}\n' in out, out
        assert re.search(r"^billing: consumer, Empty, .*lag 0$", out, re.M) and re.search(r"^orders +0 +2 +2 +0$", out, re.M), out


# ---- topics --------------------------------------------------------------------------------------------

def test_cli_topics_describe():
    with served() as s:
        weir("topics", "create", "d1", "--partitions", "3", "--set", "retention.ms=3600000", server=s)
        weir("topics", "create", "d2", server=s)
        for i in range(5):
            weir("emit", "d.x", "--stream", "d1:k", str(i), server=s)
        out = weir("topics", "describe", "d1", server=s).stdout.decode()
        assert out.startswith("d1: 3 partitions, 5 records, "), out
        assert "  retention.ms=3600000\n" in out, out
        rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", out, re.M)
        assert [r[0] for r in rows] == ["0", "1", "2"], out
        assert sorted(r[1:4] for r in rows) == [("0", "0", "0"), ("0", "0", "0"), ("0", "5", "5")], out
        assert weir("topics", "--describe", "d1", server=s).stdout.decode() == out
        both = weir("topics", "--describe", server=s).stdout.decode()
        assert out in both and "d2: 1 partition, 0 records" in both, both
        j = json.loads(weir("topics", "describe", "d1", "--json", server=s).stdout)
        assert j["partitions"] == 3 and sorted(p["end"] for p in j["partition_offsets"]) == [0, 0, 5], j
        j = json.loads(weir("topics", "--describe", "--json", server=s).stdout)
        assert [t["name"] for t in j] == ["d1", "d2"] and len(j[0]["partition_offsets"]) == 3, j
        p = weir("topics", "--describe", "none", server=s, ok=False)
        assert p.returncode == 1 and b"404" in p.stderr and not p.stdout, p


# ---- produce and consume -------------------------------------------------------------------------------

def test_cli_kafka_lines():
    """Every codec and both ways to read; the order within a key; files and a last line without an end."""
    with served(kafka=0) as s, scratch() as d:
        weir("topics", "create", "t", "--partitions", "4", server=s)
        want = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = ["k%d:%s %d %s" % (i % 5, codec, i, "x" * (i % 300)) for i in range(3000)]
            produce(s, "t", "\n".join(lines), "--key-delimiter", ":", "--compression", codec)
            want += lines
        got = consume(s, "t", "--key-delimiter", ":").splitlines()
        assert sorted(got) == sorted(want), (len(got), len(want))
        for k in range(5):
            mine = [l for l in got if l.startswith("k%d:" % k)]
            assert mine == [l for l in want if l.startswith("k%d:" % k)], "order of key %d" % k
        where = set(tuple(l.split()) for l in consume(s, "t", "--format", "%k %p\n").splitlines())
        assert len(where) == 5, "a key in two partitions: %s" % where
        assert {int(p) for _, p in where} <= {0, 1, 2, 3}
        first = json.loads(weir("read", "t", "--limit", "1", server=s).stdout)
        text = "%s:%s" % (first["key"], base64.b64decode(first["data_base64"]).decode())
        assert text in want[:3000], first
        files = []
        for i in range(2):
            files.append(os.path.join(d, "f%d" % i))
            open(files[-1], "w").write("a%d\n\nb%d" % (i, i))
        weir("produce", "files", *files, env=on(s))
        assert consume(s, "files") == "a0\n\nb0\na1\n\nb1\n"
        big = "y" * 3000000
        weir("topics", "create", "big", "--set", "max.message.bytes=8000000", server=s)
        produce(s, "big", "small\n" + big + "\nsmall\n")
        assert consume(s, "big") == "small\n" + big + "\nsmall\n"


def test_cli_kafka_kcat():
    """The same partitions for the same keys as librdkafka has with Java's partitioner, the same bytes."""
    if not shutil.which("kcat"):
        raise Skip("kcat is not installed: apt-get install kcat")
    with served(kafka=0) as s:
        weir("topics", "create", "t", "--partitions", "7", server=s)
        keys = ["key %d" % i for i in range(200)]
        text = "".join("%s:v\n" % k for k in keys)
        kcat = lambda *a, stdin=None: subprocess.run(["kcat", "-b", s.kafka, *a], input=stdin, capture_output=True,
                                                     check=True, timeout=60).stdout.decode()
        kcat("-P", "-t", "t", "-K:", "-X", "topic.partitioner=murmur2", stdin=text.encode())
        theirs = sorted(consume(s, "t", "--format", "%k=%p\n").splitlines())
        weir("topics", "delete", "t", server=s)
        weir("topics", "create", "t", "--partitions", "7", server=s)
        produce(s, "t", text, "-K:")
        ours = sorted(consume(s, "t", "--format", "%k=%p\n").splitlines())
        assert ours == theirs and len(ours) == 200
        produce(s, "h", "v\n", "--header", "a=1", "--header", "b=x=y", "--key", "K", "-p", "0")
        form = "%t|%p|%o|%k|%K|%s|%S|%h|%%\n"
        assert kcat("-C", "-t", "h", "-e", "-q", "-f", form) == consume(s, "h", "-f", form) == "h|0|0|K|1|v|1|a=1,b=x=y|%\n"
        raw = lambda p: p.stdout
        one = subprocess.run(["kcat", "-b", s.kafka, "-C", "-t", "h", "-e", "-q", "-f", r"%R%s\x41\t\n"], capture_output=True)
        assert one.stdout == raw(weir("consume", "h", "-e", "-f", r"%R%s\x41\t\n", env=on(s))) == b"\0\0\0\1vA\t\n"


def test_cli_kafka_json():
    """What consume --json prints, produce --json takes: text, bytes, nulls, headers, times (old ones)."""
    with served("--set", "topics.retention=-1", kafka=0) as s:
        source = [
            {"key": "k", "value": "text é", "headers": {"h": "v", "n": None}, "timestamp": 1700000000000},
            {"key": None, "value": None, "headers": [["d", "1"], ["d", "2"]], "timestamp": "2026-01-31T12:00:00.5Z"},
            {"key_base64": "/w==", "value_base64": "AP9/", "headers": [["b", {"base64": "gA=="}]]},
            {"value": {"a": [1, 2]}, "topic": "elsewhere", "partition": 7, "offset": 9},
        ]
        produce(s, "a", "\n".join(json.dumps(j) for j in source) + "\n\n", "--json")
        text = consume(s, "a", "--json")
        got = [json.loads(l) for l in text.splitlines()]
        assert [j["offset"] for j in got] == [0, 1, 2, 3] and {j["topic"] for j in got} == {"a"}
        assert got[0]["key"] == "k" and got[0]["value"] == "text é" and got[0]["timestamp"] == 1700000000000
        assert got[0]["headers"] == [["h", "v"], ["n", None]]
        assert got[1]["key"] is None and got[1]["value"] is None and got[1]["timestamp"] == 1769860800500
        assert got[1]["headers"] == [["d", "1"], ["d", "2"]]
        assert got[2]["key_base64"] == "/w==" and got[2]["value_base64"] == "AP9/" and "key" not in got[2]
        assert got[2]["headers"] == [["b", {"base64": "gA=="}]]
        assert got[3]["value"] == '{"a":[1,2]}' and abs(got[3]["timestamp"] - time.time() * 1000) < 60000
        produce(s, "b", text, "--json")
        assert consume(s, "b", "--json") == text.replace('"topic":"a"', '"topic":"b"')
        assert consume(s, "a", "--format", "%k %s %S,", "--null", "--count", "2") == "k text é 7,NULL NULL -1,"
        p = produce(s, "c", '{"value":"1"}\n{"value":"2"}\n{"value":\n{"value":"4"}\n', "--json", ok=False)
        assert p.returncode == 1 and b"line 3: not a JSON object" in p.stderr and b"2 records are written" in p.stderr
        assert consume(s, "c") == "1\n2\n"
        produce(s, "n", "k=\n=v\n", "-K", "=", "--null")
        assert consume(s, "n", "--format", "%K %S\n") == "1 -1\n-1 1\n"


def test_cli_kafka_places():
    with served(kafka=0) as s:
        produce(s, "t", lines_of(100))
        time.sleep(0.05)
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".%03dZ" % (time.time() * 1000 % 1000)
        time.sleep(0.05)
        produce(s, "t", "late\n")
        assert consume(s, "t", "--from", "98") == "v98\nv99\nlate\n"
        assert consume(s, "t", "--from", "-2") == "v99\nlate\n"
        assert consume(s, "t", "--from", "-1000").count("\n") == 101
        assert consume(s, "t", "--from", "end") == ""
        assert consume(s, "t", "--from", now) == "late\n"
        assert consume(s, "t", "--from", "2999-01-01") == ""
        assert consume(s, "t", "--count", "3") == "v0\nv1\nv2\n"
        weir("topics", "create", "two", "--partitions", "2", server=s)
        produce(s, "two", "a\n", "--partition", "0")
        produce(s, "two", "b\n", "--partition", "1")
        assert sorted(consume(s, "two", "t", "--format", "%t%p %s\n", "--from", "-1").splitlines()) == ["t0 late", "two0 a", "two1 b"]
        assert consume(s, "two", "--partition", "1") == "b\n"
        p = weir("consume", "t", "--from", "5000", "--exit", env=on(s))
        assert p.stdout == b"" and b"offset 5000 is not there; going on at 101" in p.stderr
        assert s.call("DELETE", "/topics/t/records?partition=0&before=50")[0] in (200, 204), "trim"
        p = weir("consume", "t", "--from", "7", "--count", "1", "--exit", env=on(s))
        assert p.stdout == b"v50\n" and b"offset 7 is not there; going on at 50" in p.stderr, p
        follow = subprocess.Popen([WEIR, "consume", "t", "--from", "end", "--count", "2"], stdout=subprocess.PIPE,
                                  env=dict(os.environ, **on(s)))
        n = 0
        while follow.poll() is None:  # it begins when it is ready
            produce(s, "t", "n%d\n" % n)
            n += 1
            assert n < 1000
        got = [int(l[1:]) for l in follow.communicate()[0].splitlines()]
        assert follow.returncode == 0 and len(got) == 2 and got[1] == got[0] + 1, got


def test_cli_kafka_pipe():
    """Lines that come one by one are written when they come; what is printed is printed at once."""
    with served(kafka=0) as s:
        weir("topics", "create", "t", server=s)
        env = dict(os.environ, **on(s))
        out = subprocess.Popen([WEIR, "consume", "t", "--format", "%s\n"], stdout=subprocess.PIPE, env=env)
        into = subprocess.Popen([WEIR, "produce", "t"], stdin=subprocess.PIPE, env=env)
        try:
            for i in range(5):
                into.stdin.write(b"line %d\n" % i)
                into.stdin.flush()
                t = time.time()
                assert out.stdout.readline() == b"line %d\n" % i
                assert time.time() - t < 30, "line %d took %.1f s" % (i, time.time() - t)
            into.stdin.close()
            assert into.wait(20) == 0
            out.send_signal(signal.SIGTERM)
            assert out.wait(20) == 0
        finally:
            for p in (into, out):
                if p.poll() is None:
                    p.kill()
                    p.wait()


def test_cli_kafka_errors():
    with served(kafka=0, ) as s:
        p = weir("consume", "none", "--exit", env=on(s), ok=False)
        assert p.returncode == 1 and b"none: no such topic or partition" in p.stderr, p.stderr
        weir("topics", "create", "t", server=s)
        p = produce(s, "t", "x\n", "--partition", "3", ok=False)
        assert p.returncode == 1 and b"t has partitions 0 to 0" in p.stderr, p.stderr
        weir("topics", "create", "small", "--set", "max.message.bytes=2000", server=s)
        p = produce(s, "small", "x" * 3000 + "\n", ok=False)
        assert p.returncode == 1 and b"small: " in p.stderr and b"0 records are written" in p.stderr, p.stderr
        weir("topics", "create", "kv", "--set", "cleanup.policy=compact", server=s)
        p = produce(s, "kv", "no key\n", ok=False)
        assert p.returncode == 1 and b"kv: " in p.stderr, p.stderr
        for args in (("--from", "soon"), ("--isolation", "none"), ("--format", "%x"), ("--format", "%"), ("--json", "-f", "%s"),
                     ("-c", "0"), ("-c",), ("-q",), ("--group", "g", "-p", "0"), ("-e5",)):
            p = weir("consume", "t", *args, env=on(s), ok=False)
            assert p.returncode == 2 and b"Usage: weir consume" in p.stderr, (args, p.stderr)
        for args in (("--compression", "rar"), ("--header", "=v"), ("--json", "-K:"), ("-K", "")):
            p = produce(s, "t", "x\n", *args, ok=False)
            assert p.returncode == 2 and b"Usage: weir produce" in p.stderr, (args, p.stderr)
        p = weir("produce", "t", "/nonexistent", env=on(s), ok=False)
        assert p.returncode == 1 and b"/nonexistent: No such file" in p.stderr
    for where, why in (("127.0.0.1:1", b"refused"), ("no.such.host.invalid:9092", b"not known"), ("a:b", b"HOST:PORT"), ("", b"HOST:PORT")):
        p = weir("consume", "t", "--kafka", where, ok=False)
        assert p.returncode == 1 and why in p.stderr, p.stderr


def test_cli_kafka_data_dir():
    with scratch() as d:
        data = os.path.join(d, "data")
        weir("produce", "t", "--data", data, "-K:", "--header", "h=1", stdin=b"a:1\nb:2\n", env={"WEIR_KAFKA": "127.0.0.1:1"})
        assert weir("consume", "t", "--data", data, "-f", "%k=%s %h\n").stdout == b"a=1 h=1\nb=2 h=1\n"
        s = Server(data, kafka=0)
        produce(s, "t", lines_of(5000), "--compression", "zstd")
        want = consume(s, "t")
        s.stop()
        assert weir("consume", "t", "--data", data).stdout.decode() == want and want.count("\n") == 5002
        assert weir("consume", "t", "--data", data, "--from", "-1").stdout == b"v4999\n"
        now = "2999-01-01T00:00:00Z"
        assert weir("consume", "t", "--data", data, "--from", now).stdout == b""
        assert weir("consume", "t", "--data", data, "--group", "g", "--count", "3").stdout == b"1\n2\nv0\n"
        assert weir("consume", "t", "--data", data, "--group", "g", "--count", "2").stdout == b"v1\nv2\n"
        p = weir("consume", "none", "--data", data, ok=False)
        assert p.returncode == 1 and b"there is no topic 'none'" in p.stderr
        p = weir("consume", "t", "--data", data, "--partition", "4", ok=False)
        assert p.returncode == 1 and b"partitions 0 to 0" in p.stderr
        s = Server(data, kafka=0)
        assert consume(s, "t", "--group", "g", "--count", "1") == "v3\n", "the group's offset is not the same"
        s.kill()


# ---- faults --------------------------------------------------------------------------------------------

def test_cli_kafka_durable():
    """What weir produce has ended with is there after kill -9."""
    with scratch() as d:
        data = os.path.join(d, "data")
        total = 0
        for r in range(5):
            s = Server(data, kafka=0)
            n = random.randrange(1, 3000)
            produce(s, "t", "".join("r%d-%d\n" % (r, i) for i in range(n)))
            s.kill()
            total += n
        s = Server(data, kafka=0)
        out = consume(s, "t").splitlines()
        assert len(out) == total and len(set(out)) == total, (len(out), total)
        s.stop()


@contextlib.contextmanager
def cutting_proxy(to, cut_api, times):
    """Between a client and a broker: swallows the answers to the first requests of an API, and cuts."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [times]

    def exactly(c, n):
        data = b""
        while len(data) < n:
            part = c.recv(n - len(data))
            if not part:
                raise OSError("end")
            data += part
        return data

    def frame(c):
        head = exactly(c, 4)
        return head + exactly(c, struct.unpack(">I", head)[0])

    def serve(c):
        up = socket.create_connection(to)
        try:
            while True:
                q = frame(c)
                up.sendall(q)
                answer = frame(up)
                if struct.unpack(">h", q[4:6])[0] == cut_api and left[0] > 0:
                    left[0] -= 1
                    return
                c.sendall(answer)
        except OSError:
            pass
        finally:
            c.close()
            up.close()

    def accept():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(c,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield "127.0.0.1:%d" % listener.getsockname()[1], left
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as c:
        return c.getsockname()[1]


def test_cli_kafka_lost_answers():
    """Answers that are lost: records are there once, and a consumer goes on."""
    with scratch() as d:
        port = free_port()
        with cutting_proxy(("127.0.0.1", port), 0, 2) as (addr, left):
            s = Server(os.path.join(d, "data"), "--set", "kafka.advertised=" + addr, kafka=port)
            want = lines_of(30000)
            weir("produce", "t", "--kafka", addr, stdin=want.encode())
            assert left[0] == 0, "no answer was lost"
            out = weir("consume", "t", "--exit", "--kafka", addr).stdout.decode()
            assert out == want, (out.count("\n"), len(set(out.splitlines())))
        with cutting_proxy(("127.0.0.1", port), 1, 2) as (addr, left):
            s.stop()
            s = Server(os.path.join(d, "data"), "--set", "kafka.advertised=" + addr, kafka=port)
            out = weir("consume", "t", "--exit", "--kafka", addr).stdout.decode()
            assert left[0] == 0 and out == want
            s.stop()


def test_cli_kafka_bad_broker():
    """Answers of every hostile shape end in an error, with little memory."""
    def versions(extra=b""):
        apis = b"".join(struct.pack(">hhh", k, 0, v) for k, v in ((0, 12), (1, 12), (2, 7), (3, 12), (18, 0)))
        body = struct.pack(">ihi", 1, 0, 5) + apis + extra
        return struct.pack(">I", len(body)) + body

    shapes = {
        "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "huge": struct.pack(">I", 0x7fffffff),
        "early end": struct.pack(">I", 120 << 20) + b"x" * 1000,
        "tiny": struct.pack(">I", 2) + b"xx",
        "wrong id": struct.pack(">Iihi", 10, 99, 0, 0),
        "count": struct.pack(">Iihi", 10, 1, 0, 0x7fffffff),
        "negative": struct.pack(">Iihi", 10, 1, 0, -2),
        "metadata": versions() + struct.pack(">Ii", 14, 2) + b"\0" + b"\0\0\0\0" + b"\xff\xff\xff\xff\x0f",
    }
    listener = socket.create_server(("127.0.0.1", 0))
    sent = []

    def accept():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            try:
                c.recv(65536)
                c.sendall(sent[0])
                c.settimeout(0.3)
                c.recv(65536)
            except OSError:
                pass
            c.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        for name, data in shapes.items():
            sent[:] = [data]
            cmd = "ulimit -v 400000; exec %s consume t --exit --kafka 127.0.0.1:%d" % (WEIR, listener.getsockname()[1])
            p = subprocess.run(["bash", "-c", cmd], capture_output=True, timeout=40)
            assert p.returncode == 1 and p.stderr.startswith(b"weir: 127.0.0.1:"), (name, p)
    finally:
        listener.close()


# ---- groups --------------------------------------------------------------------------------------------

def member(server, group, *args):
    return subprocess.Popen([WEIR, "consume", "t", "--group", group, "--format", "%p %s\n", *args], stdout=subprocess.PIPE,
                            env=dict(os.environ, **on(server)))


def described(server, group):
    p = weir("groups", "describe", group, "--json", server=server, ok=False)
    return json.loads(p.stdout) if p.returncode == 0 else None


def test_cli_kafka_group():
    """Three members share six partitions; one leaves, and what it had goes on with the others: every
    record printed once. Then the group as weir groups shows it, resumed, and deleted."""
    with served(kafka=0) as s:
        weir("topics", "create", "t", "--partitions", "6", server=s)
        members = [member(s, "g") for _ in range(3)]
        outs = [[] for _ in members]
        readers = [threading.Thread(target=lambda m=m, o=o: o.extend(m.stdout), daemon=True) for m, o in zip(members, outs)]
        for r in readers:
            r.start()
        try:
            shares = lambda: (lambda g: g and sorted(sum(1 for _ in m["assignment"]) for m in g["members"]))(described(s, "g"))
            wait_for(lambda: shares() == [2, 2, 2])
            want = ["k%d:%d" % (i, i) for i in range(600)]
            produce(s, "t", "\n".join(want[:300]), "-K:")
            wait_for(lambda: sum(map(len, outs)) == 300)
            assert all(outs), "a member got nothing: %s" % [len(o) for o in outs]
            table = weir("groups", "describe", "g", server=s).stdout.decode()
            assert table.startswith("g: consumer, Stable") and len(re.findall(r"^t +\d", table, re.M)) == 6, table
            members[0].send_signal(signal.SIGINT)
            assert members[0].wait(20) == 0
            wait_for(lambda: shares() == [3, 3])
            produce(s, "t", "\n".join(want[300:]), "-K:")
            wait_for(lambda: sum(map(len, outs)) == 600)
        finally:
            for m in members:
                if m.poll() is None:
                    m.send_signal(signal.SIGTERM)
            codes = [m.wait(20) for m in members]
        for r in readers:
            r.join(20)
        assert codes == [0, 0, 0], codes
        got = sorted(int(l.split()[1]) for o in outs for l in o)
        assert got == list(range(600)), "records are missing or twice: %d" % len(got)
        g = described(s, "g")
        assert g["state"] == "Empty" and g["lag"] == 0 and not g["members"], g
        produce(s, "t", "k:new\n", "-K:")
        assert "lag 1" in weir("groups", "describe", "g", server=s).stdout.decode()
        assert consume(s, "t", "--group", "g") == "new\n"
        listed = weir("groups", server=s).stdout.decode()
        assert re.search(r"^g +consumer +Empty", listed, re.M), listed
        weir("groups", "delete", "g", server=s)
        assert not re.search(r"^g ", weir("groups", server=s).stdout.decode(), re.M)
        assert weir("groups", "describe", "g", server=s, ok=False).returncode == 1
        assert consume(s, "t", "--group", "g").count("\n") == 601
        assert consume(s, "t", "--group", "fresh", "--from", "end") == ""


def test_cli_kafka_group_crash():
    """A member that is killed has its work done by the next; what it printed and committed is not
    printed again."""
    with served(kafka=0) as s:
        weir("topics", "create", "t", server=s)
        produce(s, "t", lines_of(1000))
        m = member(s, "g")
        for _ in range(1000):
            assert m.stdout.readline()
        wait_for(lambda: [o["offset"] for o in (described(s, "g") or {}).get("offsets", [])] == [1000])
        m.kill()
        m.wait()
        produce(s, "t", "after\n")
        data = s.data
        s.kill()
        s.__init__(data, kafka=0)
        out = consume(s, "t", "--group", "g")
        assert out == "after\n", out[:300]


# ---- transactions --------------------------------------------------------------------------------------

TXN = """
import kafkajs from '%s/kafkajs/index.js';
const kafka = new kafkajs.Kafka({brokers: ['%s'], logLevel: 0});
const send = async (id, values, end) => {
  const p = kafka.producer({transactionalId: id, maxInFlightRequests: 1, idempotent: true});
  await p.connect();
  const t = await p.transaction();
  await t.send({topic: 't', messages: values.map((value) => ({value, partition: 0}))});
  if (end) await t[end]();
  if (end) await p.disconnect();
};
await send('a', ['c1', 'c2'], 'commit');
await send('b', ['x1', 'x2'], 'abort');
await send('a', ['c3'], 'commit');
await send('b', ['c4'], 'commit');
await send('o', ['open'], null);
process.exit(0);
"""


def test_cli_kafka_isolation():
    """Of transactions committed, aborted and open: both levels, over Kafka's protocol and from the directory."""
    if not shutil.which("node"):
        raise Skip("node is not installed: apt-get install nodejs npm")
    with scratch() as d:
        s = Server(os.path.join(d, "data"), kafka=0)
        weir("topics", "create", "t", server=s)
        produce(s, "t", "first\n")
        script = os.path.join(d, "txn.mjs")
        open(script, "w").write(TXN % (npm_modules(), s.kafka))
        p = subprocess.run(["node", script], capture_output=True, timeout=60)
        assert p.returncode == 0, p.stderr.decode()
        produce(s, "t", "last\n")
        committed, everything = "first\nc1\nc2\nc3\nc4\n", "first\nc1\nc2\nx1\nx2\nc3\nc4\nopen\nlast\n"
        assert consume(s, "t") == consume(s, "t", "--isolation", "committed") == committed
        assert consume(s, "t", "--isolation", "uncommitted") == everything
        s.stop()
        for level, want in (("committed", committed), ("uncommitted", everything)):
            out = weir("consume", "t", "--data", s.data, "--isolation", level).stdout.decode()
            assert out == want, (level, out)


# ---- Apache Kafka --------------------------------------------------------------------------------------

KAFKA_CONF = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{control}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={dir}
num.partitions=4
offsets.topic.num.partitions=2
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=500
"""


@contextlib.contextmanager
def apache_kafka():
    """A server of Apache Kafka 4.2, as its tools start it; .kafka is its address."""
    jars = kafka_clients.java_client()
    with scratch() as d:
        port, control = free_port(), free_port()
        conf, log = os.path.join(d, "conf"), os.path.join(d, "log")
        with open(conf, "w") as f:
            f.write(KAFKA_CONF.format(port=port, control=control, dir=os.path.join(d, "data")))
        java = lambda *a: kafka_clients.java(jars, *a, log="error")
        subprocess.run(java("kafka.tools.StorageTool", "format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", conf),
                       check=True, capture_output=True, timeout=120)
        with open(log, "wb") as out:
            p = subprocess.Popen(java("kafka.Kafka", conf), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        s = argparse.Namespace(kafka="127.0.0.1:%d" % port, url="http://127.0.0.1:1")
        try:
            wait_for(lambda: p.poll() is not None or weir("produce", "wait", stdin=b"x\n", env=on(s), ok=False).returncode == 0, 120)
            assert p.poll() is None, open(log).read()[-3000:]
            yield s
        finally:
            p.terminate()
            try:
                p.wait(60)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


@beside_others
def test_cli_kafka_apache():
    """Produce and consume against a server of Apache Kafka itself: every codec, keys, headers and times; groups of the new
    protocol; a pipe from it to Weir and back, record by record the same."""
    with apache_kafka() as kafka, served(kafka=0) as s:
        want = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = ["k%d:%s %d %s" % (i % 5, codec, i, "x" * (i % 300)) for i in range(2000)]
            produce(kafka, "t", "\n".join(lines), "-K:", "--compression", codec)
            want += lines
        got = consume(kafka, "t", "-K:").splitlines()
        assert sorted(got) == sorted(want), (len(got), len(want))
        for k in range(5):
            assert [l for l in got if l.startswith("k%d:" % k)] == [l for l in want if l.startswith("k%d:" % k)], "order of key %d" % k
        where = {tuple(l.split()) for l in consume(kafka, "t", "-f", "%k %p\n").splitlines()}
        assert len(where) == 5, where
        weir("topics", "create", "t", "--partitions", "4", server=s)
        produce(s, "t", consume(kafka, "t", "--json"), "--json")
        key = "--format", "%k|%t|%T|%s\n"
        assert sorted(consume(s, "t", *key).splitlines()) == sorted(consume(kafka, "t", *key).splitlines())
        assert {tuple(l.split()) for l in consume(s, "t", "-f", "%k %p\n").splitlines()} == where, "the same partitions"
        source = [{"key": None, "value": None, "headers": [["a", "1"], ["a", None]], "timestamp": 1700000000000},
                  {"key_base64": "/w==", "value_base64": "AP9/", "headers": [], "timestamp": 1700000000001}]
        produce(kafka, "j", "\n".join(map(json.dumps, source)), "--json", "-p", "0")
        got = [json.loads(line) for line in consume(kafka, "j", "--json").splitlines()]
        assert [(g["timestamp"], g.get("headers", [])) for g in got] == [(r["timestamp"], r["headers"]) for r in source], got
        assert got[0]["value"] is None and got[1]["value_base64"] == "AP9/", got
        assert consume(kafka, "t", "--group", "g").count("\n") == len(want)
        produce(kafka, "t", "k1:new\n", "-K:")
        assert consume(kafka, "t", "--group", "g") == "new\n"
        assert consume(kafka, "t", "--group", "g") == ""


# ---- TLS -----------------------------------------------------------------------------------------------

def certificate(d, name):
    cert, key = os.path.join(d, name + ".pem"), os.path.join(d, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


def test_cli_kafka_tls():
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    with scratch() as d:
        cert, key = certificate(d, "one")
        other, _ = certificate(d, "other")
        with served("--set", "kafka.tls.cert=" + cert, "--set", "kafka.tls.key=" + key, kafka=0) as s:
            text = lines_of(50000)
            produce(s, "t", text, "--ca", cert)
            assert consume(s, "t", "--ca", cert) == text
            by_name = "localhost:" + s.kafka.split(":")[1]
            assert consume(s, "t", "--ca", cert, "--kafka", by_name, "--from", "-1") == "v49999\n"
            for args, why in ((("--ca", other), b"TLS"), (("--tls",), b"TLS"), ((), b"")):
                p = consume(s, "t", *args, ok=False)
                assert p.returncode == 1 and why in p.stderr and not p.stdout, (args, p.stderr)
            p = consume(s, "t", "--ca", d + "/none.pem", ok=False)
            assert p.returncode == 1 and b"no certificates can be read" in p.stderr


def test_cli_kafka_sasl():
    """Login by SASL PLAIN: password from a file or the environment; a wrong one is named as such."""
    with scratch() as d:
        users, password = os.path.join(d, "users"), os.path.join(d, "password")
        open(users, "w").write("ann:secret of ann\n")
        open(password, "w").write("secret of ann\n")
        with served("--set", "kafka.sasl.mechanisms=PLAIN", "--set", "kafka.sasl.users=" + users, kafka=0) as s:
            produce(s, "t", "in\n", "--user", "ann", "--password-file", password)
            assert consume(s, "t", "--user", "ann", "--password-file", password) == "in\n"
            env = dict(on(s), WEIR_KAFKA_PASSWORD="secret of ann")
            assert weir("consume", "t", "--exit", "--user", "ann", env=env).stdout == b"in\n"
            env["WEIR_KAFKA_PASSWORD"] = "guess"
            p = weir("consume", "t", "--exit", "--user", "ann", env=env, ok=False)
            assert p.returncode == 1 and b"the name or the password is wrong" in p.stderr and not p.stdout, p
            p = consume(s, "t", ok=False)
            assert p.returncode == 1 and not p.stdout, p
            p = consume(s, "t", "--user", "ann", ok=False)
            assert p.returncode == 1 and b"--password-file" in p.stderr, p


# ---- what happens, as events ---------------------------------------------------------------------------

def events(server, topic="weir.events"):
    return [e["data"] for e in server.pages(topic)]


def test_events_off():
    """Nobody asked for it: nothing is told."""
    with served(kafka=0) as s:
        produce(s, "t", lines_of(10))
        consume(s, "t", "--group", "g")
        time.sleep(0.3)
        assert s.call("GET", "/topics/weir.events")[0] == 404
        assert metric(s, "weir_notices_total") == 0


def test_events_all():
    """Records of every protocol, groups' joins, rebalances, commits and leaves; not about themselves."""
    with served("--set", "events.publish=all", kafka=0) as s:
        weir("topics", "create", "t", "--partitions", "2", server=s)
        produce(s, "t", "a:1\nb:2\nc:3\n", "-K:", "--compression", "zstd")
        weir("emit", "order.created", "--stream", "orders:k-1", "{}", server=s)
        assert sorted(consume(s, "t", "--group", "g").split()) == ["1", "2", "3"]
        want = 3 + 1 + 2 + 1 + 1  # records, commits of two partitions, join, leave
        wait_for(lambda: s.call("GET", "/topics/weir.events")[0] == 200 and
                 sum(e["type"] != "group.rebalance" for e in events(s)) >= want)
        time.sleep(0.3)
        got = events(s)
        kinds = lambda t: [e for e in got if e["type"] == t]
        assert sorted((e["topic"], e["key"]) for e in kinds("stream.produce")) == [("orders", "k-1"), ("t", "a"), ("t", "b"), ("t", "c")]
        records = {(r["partition"], r["offset"]): r for r in map(json.loads, consume(s, "t", "--json").splitlines())}
        for e in kinds("stream.produce"):
            if e["topic"] == "t":
                assert records[e["partition"], e["offset"]]["key"] == e["key"], e
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", e["timestamp"]), e
        ends = {p: max((o + 1 for q, o in records if q == p), default=0) for p in (0, 1)}
        last = {e["partition"]: e["offset"] for e in kinds("stream.commit")}
        assert last == ends and {(e["groupId"], e["topic"]) for e in kinds("stream.commit")} == {("g", "t")}, last
        assert len(kinds("group.join")) == len(kinds("group.leave")) == 1, got
        assert kinds("group.join")[0]["memberId"] == kinds("group.leave")[0]["memberId"] != ""
        assert {e["groupId"] for e in kinds("group.rebalance")} == {"g"}
        generations = [e["generation"] for e in kinds("group.rebalance")]
        assert generations == sorted(set(generations)) and generations, generations
        order = [e["type"] for e in got if e.get("groupId")]
        assert order.index("group.join") < order.index("stream.commit"), order
        one = next(s.pages("weir.events:orders"))
        assert (one["type"], one["key"], one["source"]) == ("stream.produce", "orders", "weir"), one
        n = len(got)
        consume(s, "weir.events", "--group", "watcher")
        wait_for(lambda: [e for e in events(s) if e["type"] == "group.leave" and e["groupId"] == "watcher"])
        more = events(s)[n:]
        assert {e["type"] for e in more} == {"group.join", "group.leave", "group.rebalance"}, more
        assert metric(s, "weir_notices_dropped_total") == 0
        wait_for(lambda: metric(s, "weir_notices_total") == len(events(s)))


def test_events_choice():
    """Only groups, or only records; under another name; classic members, too."""
    with served("--set", "events.publish=groups", "--set", "events.topic=ops.groups", kafka=0) as s:
        produce(s, "t", lines_of(5))
        if shutil.which("kcat"):
            p = subprocess.run(["kcat", "-b", s.kafka, "-X", "auto.offset.reset=earliest", "-q", "-c", "5", "-G", "classic", "t"],
                               capture_output=True, timeout=30)
            assert p.stdout.decode() == lines_of(5), p
        else:
            consume(s, "t", "--group", "classic")
        wait_for(lambda: s.call("GET", "/topics/ops.groups")[0] == 200 and
                 {e["type"] for e in events(s, "ops.groups")} == {"group.join", "group.rebalance", "stream.commit", "group.leave"})
        assert {e["groupId"] for e in events(s, "ops.groups")} == {"classic"}
    with served("--set", "events.publish=produce", kafka=0) as s:
        produce(s, "t", lines_of(15000), "--compression", "lz4")
        consume(s, "t", "--group", "g")
        wait_for(lambda: metric(s, "weir_notices_total") + metric(s, "weir_notices_dropped_total") == 15000)
        assert metric(s, "weir_notices_dropped_total") == 0
        got = consume(s, "weir.events")
        assert got.count("\n") == 15000 and [json.loads(l)["offset"] for l in got.splitlines()] == list(range(15000))
