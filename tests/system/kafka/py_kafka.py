"""kafka-python: `py_kafka.py BOOTSTRAP PREFIX [STEP…]`."""
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from py_steps import Record, main

ASSIGNORS = {"range": RangePartitionAssignor, "sticky": StickyPartitionAssignor}


class Reader:
    def __init__(self, bootstrap, group, topic, isolation="read_uncommitted", strategy="range"):
        self.c = KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            isolation_level=isolation, session_timeout_ms=10000, heartbeat_interval_ms=300, fetch_max_wait_ms=100,
            partition_assignment_strategy=[ASSIGNORS[strategy]])
        self.topic = topic
        if topic:
            self.c.subscribe([topic])

    def take(self):
        return [Record(m.partition, m.offset, m.key and m.key.decode(), m.value.decode(), list(m.headers))
                for part in self.c.poll(100).values() for m in part]

    def commit(self):
        self.c.commit()

    def commit_at(self, p, offset, note):
        self.c.commit({TopicPartition(self.topic, p): OffsetAndMetadata(offset, note, -1)})

    def committed(self, p):
        r = self.c.committed(TopicPartition(self.topic, p), metadata=True)
        return r.offset, r.metadata

    def parts(self):
        return {p.partition for p in self.c.assignment()}

    def assign(self, topic, p, offset):
        self.topic = topic
        self.c.assign([TopicPartition(topic, p)])
        self.seek(p, offset)

    def seek(self, p, offset):
        self.c.seek(TopicPartition(self.topic, p), offset)

    def close(self):
        self.c.close()


class Transactional:
    def __init__(self, bootstrap, name):
        self.p = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
        self.p.init_transactions()

    def begin(self):
        self.p.begin_transaction()

    def send(self, topic, value):
        self.p.send(topic, value.encode(), partition=0).get(30)

    def offsets(self, reader, topic, offset):
        self.p.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)},
                                           reader.c.group_metadata())

    def commit(self):
        self.p.commit_transaction()

    def abort(self):
        self.p.abort_transaction()

    def close(self):
        self.p.close()


class Client:
    name = "kafkapy"

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.a = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.c = KafkaConsumer(bootstrap_servers=bootstrap)

    def create(self, topic, n):
        self.a.create_topics([NewTopic(topic, n, 1)])

    def delete(self, topic):
        self.a.delete_topics([topic])

    def topics(self):
        return set(self.a.list_topics())

    def partitions(self, topic):
        return len(self.a.describe_topics([topic])[0]["partitions"])

    def add_partitions(self, topic, n):
        self.a.create_partitions({topic: n})

    def send(self, topic, records, codec="none", partition=None):
        p = KafkaProducer(bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec, linger_ms=5)
        sent = [p.send(topic, value.encode(), key.encode(), headers, partition) for key, value, headers in records]
        p.flush(30)
        for f in sent:
            f.get(1)
        p.close()

    def consumer(self, group, topic=None, **options):
        return Reader(self.bootstrap, group, topic, **options)

    def bounds(self, topic):
        tp = TopicPartition(topic, 0)
        return self.c.beginning_offsets([tp])[tp], self.c.end_offsets([tp])[tp]

    def offset_at(self, topic, ms):
        tp = TopicPartition(topic, 0)
        return self.c.offsets_for_times({tp: ms})[tp].offset

    def set_config(self, topic, key, value):
        self.a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={key: value})])

    def config(self, topic, key):
        r = self.a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return r["topic"][topic][key]["value"]

    def delete_records(self, topic, before):
        self.a.delete_records({TopicPartition(topic, 0): before})

    def groups(self):
        return {g["group_id"] for g in self.a.list_groups()}

    def group(self, name):
        g = self.a.describe_groups([name])[name]
        return g["group_state"], len(g["members"])

    def delete_group(self, name):
        self.a.delete_groups([name])

    def transactional(self, name):
        return Transactional(self.bootstrap, name)

    def close(self):
        self.c.close()
        self.a.close()


if __name__ == "__main__":
    main(Client, (("sticky", lambda s: s.group(strategy="sticky")),))
