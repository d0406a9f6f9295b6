#!/usr/bin/env python3
"""1 million raw events become 1,000 aggregated rows by a transform: seconds, ratio of rows, ratio of storage.

    bench/lake/transform.py [--weir build/weir] [--dir build/bench-data] [--events 1000000] [--rounds 3]

By window (one row a minute of event time; 1,000 minutes) and by batch (one row a minute and batch of max_bytes). The
events are in the log before the transform is applied; the time is from applying it until all is written and durable.
"""
import argparse, http.client, json, os, re, shutil, signal, subprocess, sys, time

STATEMENT = ("SELECT DATE_TRUNC('minute', CAST(ts AS TIMESTAMPTZ)) AS minute, COUNT(*) AS count, SUM(amount) AS total, "
             "AVG(amount) AS avg FROM __input__ GROUP BY minute")
MODES = {
    "window": "-- window: 1 minute\n-- time: ts\n-- lateness: 10 seconds\n",
    "batch": "-- max_bytes: 268435456\n",
}
MINUTES = 1000


class Server:
    def __init__(self, weir, data):
        self.p = subprocess.Popen([weir, "serve", "--data", data, "--http", "127.0.0.1:0", "--set", "log.level=warn"],
                                  stdout=subprocess.PIPE)
        self.url = re.match(r"http listening on (\S+)", self.p.stdout.readline().decode()).group(1)
        self.port = int(self.url.rsplit(":", 1)[1])

    def call(self, method, path, body=None, media="application/json"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request(method, path, body, {"content-type": media} if body else {})
        r = c.getresponse()
        text = r.read()
        c.close()
        if r.status >= 300:
            sys.exit("%s %s: %d %s" % (method, path, r.status, text.decode()))
        return json.loads(text) if text else None

    def cpu(self):
        with open("/proc/%d/stat" % self.p.pid) as f:
            v = f.read().rsplit(")", 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        self.p.wait()


def events_make(path, n):
    """JSON lines; the last one is a minute behind the others, so that all windows before it close."""
    with open(path, "w") as f:
        for i in range(n):
            s = i * MINUTES * 60 // n
            f.write('{"type":"order.paid","id":%d,"customer":"c-%d","status":"%s","amount":%d.%02d,"ts":"2026-01-%02dT%02d:%02d:%02dZ"}\n' % (
                i, i * 7919 % 5000, ("open", "paid", "sent")[i % 3], i % 900, i % 100,
                1 + s // 86400, s // 3600 % 24, s // 60 % 60, s % 60))
        f.write('{"type":"order.paid","id":%d,"customer":"c","status":"open","amount":0.00,"ts":"2026-01-02T23:59:59Z"}\n' % n)


def topic_bytes(s, topic):
    return sum(p["bytes"] for p in s.call("GET", "/topics/%s/partitions" % topic)["partitions"])


def measure(s, mode, round_, events):
    name = "%s-%d" % (mode, round_)
    text = "-- input: raw\n-- output: %s\n-- max_seconds: 0\n%s%s" % (name, MODES[mode], STATEMENT)
    cpu, began = s.cpu(), time.time()
    s.call("PUT", "/transforms/" + name, text, "application/sql")
    while True:
        t = s.call("GET", "/transforms/" + name)
        if t["state"] == "error":
            sys.exit(t["error"])
        if t["records_in"] > events and (mode == "batch" or t["rows_out"] >= MINUTES):
            break
        time.sleep(0.005)
    seconds, cpu = time.time() - began, s.cpu() - cpu
    raw, out = topic_bytes(s, "raw"), topic_bytes(s, name)
    print("transform %-7s %9d events -> %5d rows (1 of %d): %.2f s, %.2f s of processor, %.2f M events/s; "
          "%.1f MB -> %.3f MB (1 of %d)" % (mode, events, t["rows_out"], events // t["rows_out"], seconds, cpu,
                                            events / seconds / 1e6, raw / 1e6, out / 1e6, raw // out), flush=True)
    s.call("DELETE", "/transforms/" + name)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--weir", default="build/weir")
    a.add_argument("--dir", default="build/bench-data")
    a.add_argument("--events", type=int, default=1000000)
    a.add_argument("--rounds", type=int, default=3)
    o = a.parse_args()
    d = os.path.abspath(os.path.join(o.dir, "transform"))
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    events_make(os.path.join(d, "raw.jsonl"), o.events)
    s = Server(o.weir, os.path.join(d, "data"))
    try:
        subprocess.run([o.weir, "import", os.path.join(d, "raw.jsonl"), "--stream", "raw", "--server", s.url], check=True,
                       stdout=subprocess.DEVNULL)
        for mode in MODES:
            for i in range(o.rounds):
                measure(s, mode, i, o.events)
    finally:
        s.stop()
        shutil.rmtree(d, ignore_errors=True)


if __name__ == "__main__":
    main()
