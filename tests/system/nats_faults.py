"""What Jepsen did to nats-server 2.12.1's files, done to Weir's: bits flipped in data files, files cut short, their
snapshots damaged and deleted, pages lost. Everything acknowledged is there afterwards, or the server says that it is not:
it refuses to start, or answers the read with an error. Never is less served as if it were all.
"""
import glob, json, os, random, shutil, time

from harness import Server, scratch, wait_for, weir

FILES = ("--set", "journal.file_bytes=256KiB", "--set", "topics.retention=-1")
MESSAGES, SIZE = 600, 900


def flip(path, rng):
    blob = bytearray(open(path, "rb").read())
    used = max((k for k in range(len(blob) - 1, -1, -1) if blob[k]), default=0) + 1
    at = rng.randrange(used)
    blob[at] ^= 1 << rng.randrange(8)
    open(path, "wb").write(blob)
    return "bit of byte %d flipped" % at


def cut(path, rng):
    size = rng.randrange(os.path.getsize(path))
    os.truncate(path, size)
    return "cut to %d bytes" % size


def zero(path, rng):
    blob = bytearray(open(path, "rb").read())
    used = max((k for k in range(len(blob) - 1, -1, -1) if blob[k]), default=0) + 1
    at = rng.randrange(used) & ~4095
    blob[at:at + 4096] = bytes(len(blob[at:at + 4096]))
    open(path, "wb").write(blob)
    return "page at %d lost" % at


def delete(path, rng):
    os.unlink(path)
    return "deleted"


def outcome(data, want):
    """refused, error, whole; an assertion when less, or something else, is served as if it were all."""
    s = Server(data, *FILES, expect_fail=True)
    if s.port is None:
        said = s.tail()
        s.log.close()
        assert "weir" in said and data in said, "refused without saying why: %r" % said
        return "refused"
    got, after = {}, None
    try:
        while True:
            status, _, body = s.call("GET", "/events?stream=jepsen&limit=500" + ("&after=" + after if after else ""))
            if status == 404 and not got:
                return "missing"
            if status != 200:
                assert status >= 500, body
                return "error"
            page = json.loads(body)
            for e in page["events"]:
                assert want.get(e["id"]) == e["data"], "%s: wrong data" % e["id"]
                got[e["id"]] = e["data"]
            if not page["events"]:
                break
            after = page["next"]
    finally:
        s.stop()
    return "whole" if got == want else "less"


def test_nats_faults():
    """60 damages: acknowledged messages are all there, or the damage is told."""
    rng = random.Random(21)
    tally = {}
    with scratch() as d:
        data = os.path.join(d, "data")
        s = Server(data, *FILES)
        for i in range(MESSAGES // 20):
            body = json.dumps([{"type": "m", "stream": "jepsen", "data": "%05d-" % (i * 20 + k) + "x" * SIZE} for k in range(20)])
            assert s.call("POST", "/events", body)[0] == 201
        want = {e["id"]: e["data"] for e in s.pages("jepsen", 1000)}
        assert len(want) == MESSAGES
        wait_for(lambda: glob.glob(data + "/log/*.idx"))
        time.sleep(0.5)  # an empty frame vouches for the last ones
        s.kill()
        newest = max(glob.glob(data + "/log/*.log"))
        files = sorted(glob.glob(data + "/log/*")) + [data + "/checkpoint.db"]
        for i in range(60):
            f = rng.choice(files) if i % 3 else data + "/checkpoint.db"
            what = (flip, cut, zero, delete)[i % 4 if i % 3 else i // 3 % 4]
            copy = os.path.join(d, "copy")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(data, copy)
            target = os.path.join(copy, os.path.relpath(f, data))
            if what == delete and f == newest:
                what = cut  # as a whole it is not missed: nothing behind it tells of it
            said = what(target, rng)
            came = outcome(copy, want)
            tally[came] = tally.get(came, 0) + 1
            assert came in ("refused", "error", "whole"), "%s: %s: %s" % (os.path.basename(f), said, came)
        print("figure: 60 damages: %s" % ", ".join("%d %s" % (n, k) for k, n in sorted(tally.items())))
