"""The steps of the Python clients. Each client brings an adapter (py_*.py) with the methods used here:

    create(topic, n) delete(topic) topics() partitions(topic) add_partitions(topic, n)
    send(topic, records, codec, partition): records are (key, value, headers); returns when acknowledged
    consumer(group, topic=None, isolation=…, …) -> take() [Record], commit(), commit_at(p, offset, note),
        committed(p) (offset, note or None), parts(), assign(topic, p, offset), seek(p, offset), close()
    bounds(topic) offset_at(topic, ms) set_config(topic, k, v) config(topic, k) delete_records(topic, before)
    groups() group(id) (state, members) delete_group(id), if the client can
    transactional(id) -> begin() send(topic, value) offsets(consumer, topic, offset) commit() abort() close()

A consumer is used by one thread.
"""
import collections, sys, threading, time, traceback

Record = collections.namedtuple("Record", "partition offset key value headers")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def equal(got, want, what):
    assert got == want, "%s: %.300r instead of %.300r" % (what, got, want)


def until(what, ready, seconds=30):
    end = time.time() + seconds
    while not ready():
        assert time.time() < end, "waited %d s for %s" % (seconds, what)
        time.sleep(0.02)


class Member(threading.Thread):
    """A consumer on a thread of its own: .got, .parts; commits what it took; stop()."""

    def __init__(self, make):
        super().__init__(daemon=True)
        self.make, self.got, self.parts, self.ending, self.error = make, [], set(), False, None
        self.start()

    def run(self):
        try:
            c = self.make()
            while not self.ending:
                part = c.take()
                self.got += part
                if part:
                    c.commit()
                self.parts = c.parts()
            c.close()
        except BaseException as e:
            self.error = e
            traceback.print_exc()

    def stop(self):
        self.ending = True
        self.join(40)
        assert not self.is_alive(), "a member does not stop"
        if self.error:
            raise self.error


class Steps:
    def __init__(self, client, prefix):
        self.c, self.prefix = client, prefix + "-" + client.name + "-"

    def named(self, name):
        return self.prefix + name

    def made(self, name, partitions=1):
        self.c.create(self.named(name), partitions)
        return self.named(name)

    def many(self, topic, first, end):
        self.c.send(topic, [("k%d" % (i % 50), "v%d" % i, []) for i in range(first, end)])

    def take(self, consumer, n, quiet=0.4):
        """n records, and then none for a while."""
        got, end = [], time.time() + 30
        while len(got) < n:
            got += consumer.take()
            assert time.time() < end, "%d records of %d" % (len(got), n)
        end = time.time() + quiet
        while time.time() < end:
            got += consumer.take()
        equal(len(got), n, "records")
        return got

    def topics(self):
        topic = self.made("topics", 3)
        until("the topic", lambda: topic in self.c.topics(), 5)
        equal(self.c.partitions(topic), 3, "partitions")
        try:
            self.c.create(topic, 3)
        except Exception as e:
            assert "exists" in str(e).lower() or "alreadyexists" in repr(e).lower(), repr(e)
        else:
            raise AssertionError("the topic could be made twice")

    def codecs(self):
        topic = self.made("codecs")
        want = []
        for codec in CODECS:
            records = [("k%d" % i, "%s %d %s" % (codec, i, "x" * (i % 90)), [("codec", codec.encode()), ("n", bytes([i & 255]))])
                       for i in range(500)]
            self.c.send(topic, records, codec, 0)
            want += records
        c = self.c.consumer(None)
        c.assign(topic, 0, 0)
        got = self.take(c, len(want))
        c.close()
        equal([r.offset for r in got], list(range(len(want))), "offsets")
        equal([(r.key, r.value, r.headers) for r in got], want, "records")

    def group(self, **options):
        name = "group" + "".join("-" + v for v in options.values())
        topic, group = self.made(name, 6), self.named(name)
        everyone, sent = [], 0

        def start():
            m = Member(lambda: self.c.consumer(group, topic, **options))
            everyone.append(m)
            return m

        def phase(members):
            nonlocal sent
            share = 6 // len(members)
            until("the partitions to be shared by %d" % len(members), lambda: all(
                len(m.parts) == share for m in members) and len(set().union(*(m.parts for m in members))) == 6)
            self.many(topic, sent, sent + 600)
            sent += 600
            until("the records", lambda: sum(len(m.got) for m in everyone) >= sent)
            time.sleep(0.5)  # for their commits

        now = [start(), start(), start()]
        phase(now)
        now.pop(0).stop()
        phase(now)
        now.append(start())
        phase(now)
        for m in now:
            m.stop()
        values = [r.value for m in everyone for r in m.got]
        equal(sorted(values), sorted("v%d" % i for i in range(sent)), "each record once")

    def resume(self):
        topic, group = self.made("resume"), self.named("resume")
        self.many(topic, 0, 100)
        c = self.c.consumer(group, topic)
        self.take(c, 100, 0)
        c.commit_at(0, 40, "note")
        c.close()
        c = self.c.consumer(group, topic)
        got = self.take(c, 60)
        offset, note = c.committed(0)
        equal((offset, note or "note"), (40, "note"), "committed")
        c.close()
        equal([got[0].value, got[-1].value], ["v40", "v99"], "resumed")

    def seek(self):
        topic = self.made("seek")
        self.many(topic, 0, 200)
        time.sleep(0.03)
        then = int(time.time() * 1000)
        time.sleep(0.03)
        self.many(topic, 200, 300)
        c = self.c.consumer(None)
        c.assign(topic, 0, 150)
        equal(self.take(c, 150)[0].value, "v150", "first")
        c.seek(0, 10)
        equal(self.take(c, 290)[0].value, "v10", "first after seeking")
        c.close()
        equal(self.c.offset_at(topic, then), 200, "offset of a time")
        equal(self.c.bounds(topic), (0, 300), "bounds")

    def read(self, topic, isolation, n):
        c = self.c.consumer(None, isolation=isolation)
        c.assign(topic, 0, 0)
        got = self.take(c, n)
        c.close()
        return [r.value for r in got]

    def transactions(self):
        topic, source, group = self.made("txn"), self.made("txn-in"), self.named("txn")
        self.many(source, 0, 10)
        t = self.c.transactional(self.named("txn"))
        for value, end in (("one", t.commit), ("two", t.abort), ("three", t.commit)):
            t.begin()
            t.send(topic, value)
            if value == "three":
                c = self.c.consumer(group, source)
                self.take(c, 10, 0)
                t.offsets(c, source, 7)
                c.close()
            end()
        equal(self.read(topic, "read_committed", 2), ["one", "three"], "read_committed")
        equal(self.read(topic, "read_uncommitted", 3), ["one", "two", "three"], "read_uncommitted")
        c = self.c.consumer(group, source)
        equal([r.value for r in self.take(c, 3)], ["v7", "v8", "v9"], "from the transaction's offset")
        c.close()
        t.begin()
        t.send(topic, "fenced")
        other = self.c.transactional(self.named("txn"))
        try:
            t.commit()
        except Exception as e:
            print("fenced:", repr(e), file=sys.stderr)
        else:
            raise AssertionError("a producer whose place was taken could commit")
        other.begin()
        other.send(topic, "four")
        other.commit()
        other.close()
        equal(self.read(topic, "read_committed", 3), ["one", "three", "four"], "after fencing")

    def admin(self):
        topic, group = self.made("admin"), self.named("admin")
        self.many(topic, 0, 20)
        self.c.set_config(topic, "retention.ms", "123456789")
        equal(self.c.config(topic, "retention.ms"), "123456789", "retention.ms")
        self.c.delete_records(topic, 5)
        equal(self.c.bounds(topic), (5, 20), "bounds")
        self.c.add_partitions(topic, 4)
        until("partitions", lambda: self.c.partitions(topic) == 4, 5)
        c = self.c.consumer(group, topic)
        equal(self.take(c, 15, 0)[0].value, "v5", "first record")
        c.commit_at(0, 6, "")
        equal(self.c.group(group), ("Stable", 1), "group")
        c.close()
        equal(self.c.group(group), ("Empty", 0), "group that was left")
        assert group in self.c.groups(), "the group is not listed"
        if hasattr(self.c, "delete_group"):
            self.c.delete_group(group)
            assert group not in self.c.groups(), "the group is still listed"
        self.c.delete(topic)
        until("the topic to be gone", lambda: topic not in self.c.topics(), 5)


def main(client, extra=()):
    """extra: (name, function of Steps) of steps that only this client has."""
    c = client(sys.argv[1])
    steps = Steps(c, sys.argv[2])
    names = ("topics", "codecs", "group", "resume", "seek", "transactions", "admin")
    todo = [(n, getattr(steps, n)) for n in names] + [(n, lambda f=f: f(steps)) for n, f in extra]
    failed = 0
    for name, step in todo:
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        try:
            step()
            print("ok " + name, flush=True)
        except BaseException as e:
            traceback.print_exc()
            print("fail %s: %s" % (name, " ".join((str(e) or repr(e)).split())[:500]), flush=True)
            failed += 1
    c.close()
    sys.exit(1 if failed else 0)
