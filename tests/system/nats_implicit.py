"""Topics that other protocols made are streams of JetStream's."""
import os, subprocess, threading

from harness import Server, beside_others, npm_modules, scratch, served
from kafka_clients import need_node
from nats_core import HERE
from nats_streams import Js
from nats_topics import post


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


def test_nats_implicit_deleted():
    """Topics are deleted while they are asked for as streams: every request is answered, and nothing is left."""
    with served(nats=0, loops=2) as s:
        over, failed, told = threading.Event(), [], [0, 0]

        def asks():
            try:
                js = Js(s)
                while not over.is_set():
                    o = js.ask("STREAM.INFO.t")
                    assert "error" not in o or o["error"]["err_code"] == 10059, o
                    told["error" in o] += 1
                js.close()
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=asks) for _ in range(3)]
        for t in threads:
            t.start()
        for i in range(400):
            post(s, "t:%d" % i, i)
            status, _, body = s.call("DELETE", "/topics/t")
            assert status < 300, body
            if failed:
                break
        over.set()
        for t in threads:
            t.join()
        assert not failed, failed
        assert told[0] and told[1], told
        js = Js(s)
        js.bad("STREAM.INFO.t", None, 10059)
        js.close()
