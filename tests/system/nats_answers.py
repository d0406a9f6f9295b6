"""What JetStream's API answers, to good requests and bad ones: the codes that clients decide by, as nats-server
2.15.1 gives them.

nats/answers.txt has two lists, each for a new server, with a line for each request in this order: the answers, the subject, the body, the headers, with
tabs between. An answer is an error's err_code, the status of a message without a body, `seq` of a PubAck, `message`,
or `ok`. The list is checked against Weir; with WEIR_LONG=1 also against nats-server itself, where it is, so that it
stays true. What differs on purpose is not in it.
"""
import importlib.util, json, os

from harness import ROOT, Skip, served
from nats_core import HERE
from nats_streams import Js, headers_of
from nats_topics import message


def sections():
    """Each for a server of its own."""
    with open(os.path.join(HERE, "answers.txt")) as f:
        return [part.splitlines()[1:] for part in f.read().split("# ")[1:]]


def requests(lines):
    for line in lines:
        expected, subject, body, *headers = line.split("\t")
        yield expected.split(", "), subject, body, [h.split(": ", 1) for h in headers]


def outcome(head, body):
    if head:
        status = headers_of(head)[0][len("NATS/1.0 "):]
        if status:
            return status.split(" - invalid")[0]
    try:
        o = json.loads(body)
    except ValueError:
        return "message"
    if not isinstance(o, dict):
        return "message"
    if "error" in o:
        return str(o["error"]["err_code"])
    if "stream" in o and "seq" in o:
        return "seq %d%s" % (o["seq"], " duplicate" * o.get("duplicate", False))
    return "ok" if "type" in o else "message"


class Asker(Js):
    """One that answers PINGs, and is told what never was answered."""

    def heard(self, n):
        """The next answer to n; what consumers deliver, and late answers to those before, are passed over."""
        subject = None
        while subject != "%s.%d" % (self.inbox, n):
            while b"\r\n" not in self.w.got or self.w.got.startswith(b"PING\r\n"):
                if self.w.got.startswith(b"PING\r\n"):
                    self.w.until(b"\r\n")
                    self.w.say(b"PONG\r\n")
                else:
                    more = self.w.s.recv(1 << 16)
                    assert more, "closed"
                    self.w.got += more
            subject, _, head, body = message(self.w)
        return head, body

    def outcomes(self, n, asked):
        try:
            return [outcome(*self.heard(n)) for _ in asked]
        except TimeoutError:
            return ["nothing"]


def answers(server, lines):
    """Asks all; fails with those that were answered otherwise."""
    js, wrong = Asker(server), []
    for expected, subject, body, headers in requests(lines):
        got = js.outcomes(js.say(subject, body, headers), expected)
        if got != expected:
            wrong.append("%s %s %s: %s, not %s" % (subject, body, headers, got, expected))
    js.close()
    assert not wrong, "\n".join(wrong)


def test_nats_answers():
    for lines in sections():
        assert len(lines) > 100
        with served(nats=0) as s:
            answers(s, lines)


def test_nats_answers_of_nats():
    """The same list, asked of nats-server."""
    if os.environ.get("WEIR_LONG") != "1":
        raise Skip("asks nats-server itself: set WEIR_LONG=1")
    spec = importlib.util.spec_from_file_location("nats_bench", os.path.join(ROOT, "bench", "nats", "run.py"))
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    path = bench.nats_server()
    if not path:
        raise Skip("nats-server is not here: set NATS_SERVER")
    for lines in sections():
        server = bench.Server("nats", path, jetstream=True)
        server.nats = ("127.0.0.1", server.port)
        try:
            answers(server, lines)
        finally:
            server.stop()
