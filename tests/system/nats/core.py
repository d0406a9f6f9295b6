"""nats.py against weir: core messages. Arguments: the address, a token ('' for none)."""
import asyncio, sys, traceback

import nats
import nats.errors

STEPS = []


def step(f):
    STEPS.append(f)
    return f


async def connect(**kw):
    return await nats.connect(sys.argv[1], token=sys.argv[2] or None, **kw)


@step
async def pubsub():
    a, b, got = await connect(), await connect(), []

    async def take(m):
        got.append((m.subject, m.data, m.headers))
    await a.subscribe("t.>", cb=take)
    await a.flush()
    for i in range(1000):
        await b.publish("t.%d" % (i % 10), b"%d" % i, headers={"n": str(i)} if i % 2 else None)
    await b.flush()
    for _ in range(1200):
        if len(got) == 1000:
            break
        await asyncio.sleep(0.05)
    assert [int(d) for _, d, _ in got] == list(range(1000)), len(got)
    assert all((h or {}).get("n") == (str(i) if i % 2 else None) for i, (_, _, h) in enumerate(got))
    await a.close()
    await b.close()


@step
async def requests():
    a, b = await connect(), await connect()

    async def answer(m):
        await m.respond(m.data[::-1])
    for _ in range(3):
        await a.subscribe("svc", queue="q", cb=answer)
    await a.flush()
    assert [(await b.request("svc", b"ab%d" % i, timeout=20)).data for i in range(200)] == [(b"ab%d" % i)[::-1] for i in range(200)]
    try:
        await b.request("nobody", b"", timeout=20)
        raise AssertionError("answered by nobody")
    except nats.errors.NoRespondersError:
        pass
    await a.drain()
    await b.close()


@step
async def reconnect_options():
    """Verbose and pedantic clients, and one that leaves subscriptions by drain."""
    c = await connect(verbose=True, pedantic=True)
    s = await c.subscribe("v")
    await c.publish("v", b"1")
    assert (await s.next_msg(timeout=20)).data == b"1"
    await s.drain()
    await c.close()


async def main():
    failed = False
    for f in STEPS:
        try:
            await f()
            print("ok %s" % f.__name__)
        except Exception as e:
            traceback.print_exc()
            failed = True
            print("fail %s: %s" % (f.__name__, " ".join(repr(e).split())[:400]))
        sys.stdout.flush()
    sys.exit(failed)


asyncio.run(main())
