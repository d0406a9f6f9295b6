"""The published tests of nats.py (of its source package) with weir in place of nats-server: WEIR_CLIENTS names python or
all. They use fixed ports, so they run in a network namespace of their own. docs/nats-suite.md says what fails and why.
"""
import json, os, re, shutil, subprocess, tarfile, time

from harness import ROOT, WEIR, Skip
from kafka_clients import download, downloads

HERE = os.path.join(ROOT, "tests", "system", "nats")
PACKAGE = "nats-py==2.9.0"
FILES = {"core": ("test_client", "test_client_async_await", "test_client_v2", "test_parser", "test_nuid", "test_micro_service"),
         "websocket": ("test_client_websocket",), "jetstream": ("test_js",)}
RUN = """
import json, sys, unittest
r = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:]))
print(json.dumps({"run": r.testsRun, "skipped": len(r.skipped), "failed": sorted({c.id() for c, _ in r.failures + r.errors})}))
"""
PAGE = os.path.join(ROOT, "docs", "nats-suite.md")


def suite_at():
    d = os.path.join(downloads("python", "openssl", "unshare", "ip"), "nats-suite")
    env = os.path.join(d, "env")
    if not os.path.exists(os.path.join(env, "bin", "pip")):
        os.makedirs(d, exist_ok=True)
        subprocess.run(["python3", "-m", "venv", env], check=True, timeout=120)
    pip = os.path.join(env, "bin", "pip")
    script = "%s install -q setuptools wheel aiohttp aiofiles pytest && %s download -q -d %s --no-binary :all: --no-deps --no-build-isolation %s && %s install -q %s" % (
        pip, pip, d, PACKAGE, pip, PACKAGE)
    download("nats.py", ["sh", "-c", script], os.path.join(d, "installed"), __file__)
    tests = os.path.join(d, "tests")
    shutil.rmtree(tests, ignore_errors=True)
    with tarfile.open(os.path.join(d, "nats_py-2.9.0.tar.gz")) as t:
        for m in t.getmembers():
            at = m.name.split("/", 1)[-1]
            if re.fullmatch(r"tests/test_\w+\.py|pyproject\.toml|README\.md", at) and m.isfile():
                os.makedirs(tests, exist_ok=True)
                with open(os.path.join(d, at), "wb") as f:
                    f.write(t.extractfile(m).read())
    open(os.path.join(tests, "__init__.py"), "w").close()
    shutil.copy(os.path.join(HERE, "suite_utils.py"), os.path.join(tests, "utils.py"))
    certificates(os.path.join(tests, "certs"))
    return d, os.path.join(env, "bin", "python")


def certificates(d):
    """An authority, and a server's and a client's certificate by it."""
    os.makedirs(d)

    def run(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=d)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for who in ("server", "client"):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", who + "-key.pem", "-out", "csr.pem", "-subj", "/CN=localhost")
        open(os.path.join(d, "ext"), "w").write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "ext",
            "-out", who + "-cert.pem")


def suite(part):
    d, python = suite_at()
    known = re.findall(r"^\| `(\S+)` \|", open(PAGE).read(), re.M)
    names = ["tests." + f for f in FILES[part] if not f.endswith("_js") or os.environ.get("WEIR_LONG")]
    if not names:
        raise Skip("takes minutes: set WEIR_LONG=1")
    if subprocess.run(["unshare", "-rn", "true"]).returncode:
        raise Skip("no network namespaces here")
    t = time.time()
    p = subprocess.run(["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", python, "-c", RUN, *names],
                       cwd=d, capture_output=True, timeout=1500, env=dict(os.environ, WEIR_BIN=os.path.abspath(WEIR), NATS_SERVER_VERSION="main"))
    said = p.stderr.decode(errors="replace")
    assert p.stdout, said[-3000:]
    got = json.loads(p.stdout.splitlines()[-1])
    failed = sorted(".".join(f.split(".")[-2:]) for f in got["failed"])
    print("figure: nats.py's own tests, %s: %d passed, %d failed, %d skipped (%.0f s)%s" % (
        part, got["run"] - len(failed) - got["skipped"], len(failed), got["skipped"], time.time() - t,
        ": " + ", ".join(failed) if failed else ""))
    assert got["run"] - len(failed) > 3, said[-3000:]
    new = [f for f in failed if f not in known]
    assert not new, "not in docs/nats-suite.md: %s\n%s" % (new, said[-6000:])


def test_nats_suite_core():
    suite("core")


def test_nats_suite_websocket():
    suite("websocket")


def test_nats_suite_jetstream():
    suite("jetstream")
