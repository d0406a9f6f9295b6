"""Object stores against servers: the program of tests/unit/lake/store.c on a small S3 server, on SeaweedFS
(WEIR_CLIENTS=all), and on both through a proxy that spoils every eighth request."""
import os, subprocess

import s3
from harness import BUILD, Skip

PROGRAM = os.path.join(BUILD, "tests", "unit", "lake", "test_lake_store")


def run(endpoint, prefix, **env):
    program(dict(s3.environment(endpoint), WEIR_TEST_STORE="s3://bucket/" + prefix, **env))


def program(env):
    if not os.path.exists(PROGRAM):
        raise Skip("%s was not built" % PROGRAM)
    p = subprocess.run([PROGRAM], capture_output=True, env=dict(os.environ, **env), timeout=500)
    assert p.returncode == 0, (p.stdout + p.stderr).decode()[-3000:]


def spoilt(endpoint, seed, rounds):
    with s3.spoilt(endpoint, 0.12, seed) as (proxied, proxy):
        run(proxied, "spoilt", WEIR_TEST_STORE_SPOILT="1", WEIR_TEST_STORE_ROUNDS=str(rounds))
        assert proxy.counts and set(proxy.counts) == set(s3.FAULTS), proxy.counts
        return proxy


def test_store_small():
    with s3.small() as endpoint:
        run(endpoint, "a/prefix")


def test_store_small_spoilt():
    with s3.small() as endpoint:
        proxy = spoilt(endpoint, 1, 1)
        print("figure: object store: %d requests, spoilt: %s" % (proxy.seen, dict(sorted(proxy.counts.items()))))


def test_store_small_sent_twice():
    """libcurl sends again by itself when a kept connection ends without an answer: a put that had worked must not be
    taken for another's."""
    with s3.small() as endpoint, s3.spoilt(endpoint, 0.3, 3, faults=("reset after",)) as (proxied, proxy):
        run(proxied, "twice", WEIR_TEST_STORE_SPOILT="1")
        assert proxy.counts["reset after"] > 20, proxy.counts


def test_store_seaweed():
    with s3.seaweed() as endpoint:
        run(endpoint, "a/prefix")
        proxy = spoilt(endpoint, 2, 3)
        print("figure: object store on SeaweedFS: %d requests, spoilt: %s" % (
            proxy.seen, dict(sorted(proxy.counts.items()))))
