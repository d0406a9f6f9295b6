"""Topics that other protocols made are streams of JetStream's."""
import os, subprocess

from harness import Server, beside_others, npm_modules, scratch
from kafka_clients import need_node
from nats_core import HERE


@beside_others
def test_nats_implicit():
    """kafkajs makes topics; nats.js lists, consumes and gets what is in them, before and after a restart."""
    need_node()
    npm_modules()
    with scratch() as d:
        for half in ("before", "after"):
            s = Server(os.path.join(d, "data"), nats=0, kafka=0, loops=2)
            try:
                p = subprocess.run(["node", os.path.join(HERE, "implicit.mjs"), "%s:%d" % s.nats, s.kafka, half],
                                   capture_output=True, timeout=90)
                assert p.returncode == 0, (half, p.stdout.decode(), p.stderr.decode(), s.tail())
            except BaseException:
                s.kill()
                raise
            s.stop()
