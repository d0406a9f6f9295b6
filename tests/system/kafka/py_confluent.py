"""confluent-kafka (librdkafka, newer than Debian's): `py_confluent.py BOOTSTRAP PREFIX [STEP…]`."""
from confluent_kafka import (Consumer, ConsumerGroupState, IsolationLevel, KafkaException, Producer, TopicPartition)
from confluent_kafka import admin as ka

from py_steps import Record, main

T = 30


def checked(e):
    if e:
        raise KafkaException(e)


class Reader:
    def __init__(self, bootstrap, group, topic, isolation="read_uncommitted", strategy="range", protocol="classic"):
        conf = {"bootstrap.servers": bootstrap, "group.id": group or "none", "auto.offset.reset": "earliest",
                "enable.auto.commit": False, "isolation.level": isolation, "group.protocol": protocol}
        if protocol == "classic":
            conf.update({"partition.assignment.strategy": strategy, "session.timeout.ms": 10000, "heartbeat.interval.ms": 300})
        self.c = Consumer(conf)
        self.topic = topic
        if topic:
            self.c.subscribe([topic])

    def take(self):
        out = []
        for m in self.c.consume(500, 0.1):
            checked(m.error())
            out.append(Record(m.partition(), m.offset(), m.key() and m.key().decode(), m.value().decode(), m.headers() or []))
        return out

    def commit(self):
        self.c.commit(asynchronous=False)

    def commit_at(self, p, offset, note):
        r = self.c.commit(offsets=[TopicPartition(self.topic, p, offset, note)], asynchronous=False)
        checked(r[0].error)

    def committed(self, p):
        r = self.c.committed([TopicPartition(self.topic, p)], T)[0]
        checked(r.error)
        return r.offset, None  # r.metadata reads behind the end of what came

    def parts(self):
        return {p.partition for p in self.c.assignment()}

    def assign(self, topic, p, offset):
        self.topic = topic
        self.c.assign([TopicPartition(topic, p, offset)])

    def seek(self, p, offset):
        self.c.seek(TopicPartition(self.topic, p, offset))

    def close(self):
        self.c.close()


class Transactional:
    def __init__(self, bootstrap, name):
        self.p = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
        self.p.init_transactions(T)

    def begin(self):
        self.p.begin_transaction()

    def send(self, topic, value):
        self.p.produce(topic, value.encode(), partition=0)
        self.p.flush(T)

    def offsets(self, reader, topic, offset):
        self.p.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], reader.c.consumer_group_metadata(), T)

    def commit(self):
        self.p.commit_transaction(T)

    def abort(self):
        self.p.abort_transaction(T)

    def close(self):
        self.p.flush(T)


class Client:
    name = "confluent"

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.a = ka.AdminClient({"bootstrap.servers": bootstrap})

    def create(self, topic, n):
        self.a.create_topics([ka.NewTopic(topic, n, 1)])[topic].result(T)

    def delete(self, topic):
        self.a.delete_topics([topic])[topic].result(T)

    def topics(self):
        return set(self.a.list_topics(timeout=T).topics)

    def partitions(self, topic):
        return len(self.a.list_topics(topic, T).topics[topic].partitions)

    def add_partitions(self, topic, n):
        self.a.create_partitions([ka.NewPartitions(topic, n)])[topic].result(T)

    def send(self, topic, records, codec="none", partition=-1):
        p = Producer({"bootstrap.servers": self.bootstrap, "compression.type": codec, "linger.ms": 5})
        errors = []
        for key, value, headers in records:
            p.produce(topic, value.encode(), key.encode(), partition, headers=headers,
                      on_delivery=lambda e, m: errors.append(e) if e else None)
            p.poll(0)
        assert p.flush(T) == 0 and not errors, errors

    def consumer(self, group, topic=None, **options):
        return Reader(self.bootstrap, group, topic, **options)

    def bounds(self, topic):
        out = []
        for spec in (ka.OffsetSpec.earliest(), ka.OffsetSpec.latest()):
            tp = TopicPartition(topic, 0)
            r = self.a.list_offsets({tp: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            out.append(r[tp].result(T).offset)
        return tuple(out)

    def offset_at(self, topic, ms):
        tp = TopicPartition(topic, 0)
        return self.a.list_offsets({tp: ka.OffsetSpec.for_timestamp(ms)})[tp].result(T).offset

    def set_config(self, topic, key, value):
        entry = ka.ConfigEntry(key, value, incremental_operation=ka.AlterConfigOpType.SET)
        r = ka.ConfigResource(ka.ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.a.incremental_alter_configs([r])[r].result(T)

    def config(self, topic, key):
        r = ka.ConfigResource(ka.ResourceType.TOPIC, topic)
        return self.a.describe_configs([r])[r].result(T)[key].value

    def delete_records(self, topic, before):
        tp = TopicPartition(topic, 0, before)
        r = self.a.delete_records([tp])[tp].result(T)
        assert r.low_watermark == before, r.low_watermark

    def groups(self):
        r = self.a.list_consumer_groups().result(T)
        assert not r.errors, r.errors
        return {g.group_id for g in r.valid}

    def group(self, name):
        g = self.a.describe_consumer_groups([name])[name].result(T)
        return {ConsumerGroupState.STABLE: "Stable", ConsumerGroupState.EMPTY: "Empty"}.get(g.state, g.state), len(g.members)

    def delete_group(self, name):
        self.a.delete_consumer_groups([name])[name].result(T)

    def transactional(self, name):
        return Transactional(self.bootstrap, name)

    def close(self):
        pass


if __name__ == "__main__":
    main(Client, (("cooperative", lambda s: s.group(strategy="cooperative-sticky")),
                  ("group_848", lambda s: s.group(protocol="consumer"))))
