"""The nats tool (github.com/nats-io/natscli), if one is at hand: `nats` on PATH, or WEIR_NATS_CLI. docs/nats.md has the list."""
import os, shutil, subprocess, time

from harness import Server, Skip, beside_others, scratch

USERS = """
system_account: SYS
accounts:
  A:
    users: [{user: u, password: p}]
  SYS:
    users: [{user: sys, password: p}]
"""

# Each line: what is to be in the output, or "!" and the end of an error; then the command. "SYS" first: as the system account.
STREAMS = """
Stream S was created | stream add S --subjects s.> --defaults
S | stream ls
Sequence: 1 | pub s.a one --jetstream
Sequence: 2 | pub s.b two --jetstream
one | stream get S 1
two | stream get S -S s.b
s.a | stream subjects S
!  | stream rmm S 2 -f
Stream S was updated | stream edit S --max-msgs 100 -f
Stream Report | stream report
S | stream find --subject s.a
Messages: 1 | stream state S
Pull Mode: true | consumer add S C --pull --defaults
out | consumer add S P --target out --defaults
C | consumer ls S
Ack Policy: Explicit | consumer info S C
one | consumer next S C
Consumer report for S | consumer report S
Paused | consumer pause S C 1h -f
was resumed | consumer resume S C -f
Max Ack Pending: 55 | consumer edit S C --max-pending 55 -f
C2 | consumer copy S C C2
!  | consumer rm S C2 -f
Account: A | account info
Received | stream backup S {backup} --consumers --no-progress
Messages: 0 | stream purge S -f
!  | stream rm S -f
Messages: 1 | stream restore {backup} --no-progress
Max Ack Pending: 55 | consumer info S C
!  | stream rm S -f
"""
BUCKETS = """
History Kept: 5 | kv add B --history 5
v1 | kv put B k v1
v2 | kv update B k v2 1
!wrong last sequence: 2 | kv update B k v3 1
v2 | kv get B k
v1 | kv get B k --revision 1
v1 | kv history B k
k | kv ls B
Bucket Name: B | kv info B
!  | kv del B k -f
!nats: key not found | kv get B k
!  | kv compact B -f
!  | kv rm B -f
O | object add O
file | object put O {file} --name file -f --no-progress
file | object ls O
Object information | object info O file
Wrote: | object get O file -O {copy} -f --no-progress
!  | object seal O -f
!  | object rm O -f
"""
SERVER = """
rtt | rtt
u | account info
Connections | account report connections
Server Statistics | account report statistics
OK | server check connection
OK | server check jetstream
SYS rtt= | server ping
SYS Server Overview | server ls
SYS Process Details | server info
SYS Connections per server | server report connections
SYS Accounts Overview | server report accounts
SYS JetStream Summary | server report jetstream
SYS weir | server report mem
SYS ok (200) | server report health
SYS "server_id" | server request variables
SYS "connections" | server request connections
SYS "num_subscriptions" | server request subscriptions
SYS "accounts" | server request accounts
SYS "api" | server request jetstream
SYS Account information for account A | server account info A
SYS OK weir | server check server --name weir
SYS Streams: | server stream-check
SYS Consumers: | server consumer-check
"""


def tool():
    path = os.environ.get("WEIR_NATS_CLI") or shutil.which("nats")
    if not path:
        raise Skip("no nats tool: put `nats` of github.com/nats-io/natscli on PATH, or name it by WEIR_NATS_CLI")
    return path


class Cli:
    def __init__(self, server, home):
        self.path, self.server, self.home = tool(), server, home

    def env(self, user="u"):
        return dict(os.environ, HOME=self.home, NATS_URL="nats://%s:p@%s:%d" % (user, *self.server.nats))

    def run(self, *args, user="u"):
        p = subprocess.run([self.path, "--timeout", "20s", *args], env=self.env(user), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return p.returncode, (p.stdout + p.stderr).decode()

    def start(self, *args):
        return subprocess.Popen([self.path, *args], env=self.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def lines(self, text, **names):
        for line in text.strip().splitlines():
            wanted, command = line.split(" | ", 1)
            user = "sys" if wanted.startswith("SYS ") else "u"
            wanted = wanted[4:] if user == "sys" else wanted
            rc, out = self.run(*command.format(**names).split(), user=user)
            fails = wanted.startswith("!") and wanted[1:].strip()
            assert (rc != 0) == bool(fails), (command, rc, out)
            assert wanted.lstrip("!").strip() in out, (command, wanted, out)


def of_server(run):
    """Runs it with a server whose users are of an account, and one of the system's."""
    tool()
    with scratch() as d:
        file, users = os.path.join(d, "some file"), os.path.join(d, "users.yaml")
        open(users, "w").write(USERS)
        s = Server(os.path.join(d, "data"), "--set", "nats.users=" + users, nats=0, loops=2)
        try:
            run(Cli(s, d), d)
        finally:
            s.stop()


@beside_others
def test_nats_tool_streams():
    """The nats tool: streams and consumers."""
    of_server(lambda cli, d: cli.lines(STREAMS, backup=os.path.join(d, "backup")))


@beside_others
def test_nats_tool_buckets():
    """The nats tool: key-value buckets and objects."""

    def run(cli, d):
        file, copy = os.path.join(d, "file"), os.path.join(d, "copy")
        open(file, "wb").write(os.urandom(300000))
        cli.lines(BUCKETS, file=file, copy=copy)
        assert open(file, "rb").read() == open(copy, "rb").read()

    of_server(run)


@beside_others
def test_nats_tool_server():
    """The nats tool: the server's figures, an account's own and, by the system account, all."""
    of_server(lambda cli, d: cli.lines(SERVER))


@beside_others
def test_nats_tool_core():
    """The nats tool: publish, subscribe, requests, services, bench."""

    def until(cli, wanted, *args):
        end = time.time() + 60
        while True:
            rc, out = cli.run(*args)
            if rc == 0 and wanted in out:
                return out
            assert time.time() < end, (args, out)

    def run(cli, d):
        reply = cli.start("reply", "q.a", "got {{.Request}}")
        service = cli.start("micro", "serve", "SVC")
        sub = cli.start("sub", "x.>", "--count", "1")
        try:
            until(cli, "got hi", "request", "q.a", "hi", "--raw")
            until(cli, "SVC", "micro", "ls")
            assert "SVC" in cli.run("micro", "info", "SVC")[1]
            while sub.poll() is None:
                assert cli.run("pub", "x.y", "one", "-H", "A:b")[0] == 0
            out = sub.stdout.read().decode()
            assert 'Received on "x.y"' in out and "A: b" in out and "one" in out, out
            rc, out = cli.run("request", "nobody", "x")
            assert "No responders are available" in out, out
        finally:
            for p in (reply, service, sub):
                p.kill()
                p.wait()
                p.stdout.close()
        for args in (("pub", "b", "--msgs", "1000"), ("js", "pub", "async", "b.js", "--create", "--msgs", "500"),
                     ("js", "ordered", "--msgs", "500"), ("js", "fetch", "--msgs", "500"), ("kv", "put", "--msgs", "100")):
            rc, out = cli.run("bench", *args, "--size", "100", "--no-progress")
            assert rc == 0 and "stats:" in out, (args, out)

    of_server(run)
