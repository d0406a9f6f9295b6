"""aiokafka: `py_aiokafka.py BOOTSTRAP PREFIX [STEP…]`. Its event loop runs on a thread of its own."""
import asyncio, threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from py_steps import Record, main

ASSIGNORS = {"range": RangePartitionAssignor, "sticky": StickyPartitionAssignor}
LOOP = asyncio.new_event_loop()


def do(co):
    return asyncio.run_coroutine_threadsafe(co, LOOP).result(40)


def made(kind, *args, **kw):
    async def make():
        o = kind(*args, **kw)
        await o.start()
        return o
    return do(make())


def errors(answer):
    """Raises the first error of an admin's answer."""
    for row in answer.topics if hasattr(answer, "topics") else answer.topic_errors:
        if row[1]:
            raise Exception("%s: %s" % (row[0], row[1:]))


class Reader:
    def __init__(self, bootstrap, group, topic, isolation="read_uncommitted", strategy="range"):
        self.c = made(AIOKafkaConsumer, *[topic] if topic else [], bootstrap_servers=bootstrap, group_id=group,
                      auto_offset_reset="earliest", enable_auto_commit=False, isolation_level=isolation,
                      session_timeout_ms=10000, heartbeat_interval_ms=300, fetch_max_wait_ms=100,
                      partition_assignment_strategy=[ASSIGNORS[strategy]])
        self.topic = topic

    def take(self):
        return [Record(m.partition, m.offset, m.key and m.key.decode(), m.value.decode(), list(m.headers))
                for part in do(self.c.getmany(timeout_ms=100)).values() for m in part]

    def commit(self):
        do(self.c.commit())

    def commit_at(self, p, offset, note):
        do(self.c.commit({TopicPartition(self.topic, p): OffsetAndMetadata(offset, note)}))

    def committed(self, p):
        return do(self.c.committed(TopicPartition(self.topic, p))), None

    def parts(self):
        return {p.partition for p in self.c.assignment()}

    def assign(self, topic, p, offset):
        async def assign():
            self.c.assign([TopicPartition(topic, p)])
            self.c.seek(TopicPartition(topic, p), offset)
        self.topic = topic
        do(assign())

    def seek(self, p, offset):
        async def seek():
            self.c.seek(TopicPartition(self.topic, p), offset)
        do(seek())

    def close(self):
        do(self.c.stop())


class Transactional:
    def __init__(self, bootstrap, name):
        self.name = name
        self.p = made(AIOKafkaProducer, bootstrap_servers=bootstrap, transactional_id=name)

    def begin(self):
        do(self.p.begin_transaction())

    def send(self, topic, value):
        do(self.p.send_and_wait(topic, value.encode(), partition=0))

    def offsets(self, reader, topic, offset):
        do(self.p.send_offsets_to_transaction({TopicPartition(topic, 0): offset}, reader.c._group_id))

    def commit(self):
        do(self.p.commit_transaction())

    def abort(self):
        do(self.p.abort_transaction())

    def close(self):
        do(self.p.stop())


class Client:
    name = "aiokafka"

    def __init__(self, bootstrap):
        threading.Thread(target=LOOP.run_forever, daemon=True).start()
        self.bootstrap = bootstrap
        self.a = made(AIOKafkaAdminClient, bootstrap_servers=bootstrap)
        self.c = made(AIOKafkaConsumer, bootstrap_servers=bootstrap)

    def create(self, topic, n):
        errors(do(self.a.create_topics([NewTopic(topic, n, 1)])))

    def delete(self, topic):
        do(self.a.delete_topics([topic]))

    def topics(self):
        return set(do(self.a.list_topics()))

    def partitions(self, topic):
        return len(do(self.a.describe_topics([topic]))[0]["partitions"])

    def add_partitions(self, topic, n):
        do(self.a.create_partitions({topic: NewPartitions(n)}))

    def send(self, topic, records, codec="none", partition=None):
        async def send():
            p = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5, enable_idempotence=True,
                                 compression_type=None if codec == "none" else codec)
            await p.start()
            sent = [await p.send(topic, value.encode(), key.encode(), partition, headers=headers)
                    for key, value, headers in records]
            await asyncio.gather(*sent)
            await p.stop()
        do(send())

    def consumer(self, group, topic=None, **options):
        return Reader(self.bootstrap, group, topic, **options)

    def bounds(self, topic):
        tp = TopicPartition(topic, 0)
        return do(self.c.beginning_offsets([tp]))[tp], do(self.c.end_offsets([tp]))[tp]

    def offset_at(self, topic, ms):
        tp = TopicPartition(topic, 0)
        return do(self.c.offsets_for_times({tp: ms}))[tp].offset

    def set_config(self, topic, key, value):
        do(self.a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={key: value})]))

    def config(self, topic, key):
        answer = do(self.a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        return next(e[1] for r in answer[0].resources for e in r[4] if e[0] == key)

    def delete_records(self, topic, before):
        do(self.a.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)}))

    def groups(self):
        return {g[0] for g in do(self.a.list_consumer_groups())}

    def group(self, name):
        g = do(self.a.describe_consumer_groups([name]))[0].groups[0]
        return g[2], len(g[5])

    def transactional(self, name):
        return Transactional(self.bootstrap, name)

    def close(self):
        do(self.c.stop())
        do(self.a.close())


if __name__ == "__main__":
    main(Client, (("sticky", lambda s: s.group(strategy="sticky")),))
