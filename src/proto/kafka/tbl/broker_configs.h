/* What DescribeConfigs shows of the broker, beside the defaults of topics (topic_configs.h has their
 * names). All are read-only: they come from the server's own configuration, or say how it is made.
 * Names as in Apache Kafka 4.2. Included in configs.c, where the expressions mean something:
 *   BROKER_INT(name, value, Kafka's default, prose)  BROKER_SHORT, BROKER_LONG, BROKER_BOOL likewise
 *   BROKER_LIST(name, slice, prose) */
BROKER_INT("node.id", KAFKA_NODE_ID, -1, "the number of this broker")
BROKER_INT("broker.id", KAFKA_NODE_ID, -1, "the number of this broker")
BROKER_LIST("process.roles", SLICE_LIT("broker,controller"), "this broker is its own controller")
BROKER_LIST("advertised.listeners",
            kreq_printf(q, "PLAINTEXT://%.*s:%" PRId32, (int)host.len, (const char *)host.ptr, port),
            "kafka.advertised, or the address that the client came to")
BROKER_LIST("log.dirs", slice_str(broker_dir(q->b)), "data: the directory of the log")
BROKER_LIST("log.dir", slice_str(broker_dir(q->b)), "data: the directory of the log")
BROKER_BOOL("auto.create.topics.enable", c->topics_auto_create, true,
            "topics.auto_create: a topic is made when it is first asked for")
BROKER_BOOL("delete.topic.enable", true, true, "topics can be deleted")
BROKER_BOOL("controlled.shutdown.enable", true, true, "requests under way are answered before the end")
BROKER_BOOL("auto.leader.rebalance.enable", false, true, "nothing is elected")
BROKER_INT("num.partitions", broker_partitions_default(q->b), 1,
              "topics.partitions: of a topic that is made without saying how many")
BROKER_INT("default.replication.factor", 1, 1, "there is one copy")
BROKER_SHORT("offsets.topic.replication.factor", 1, 3, "there is one copy")
BROKER_SHORT("transaction.state.log.replication.factor", 1, 3, "there is one copy")
BROKER_INT("transaction.state.log.min.isr", 1, 2, "there is one copy")
BROKER_INT("socket.request.max.bytes", (int64_t)LIMIT_KAFKA_FRAME, 104857600, "largest request")
BROKER_INT("fetch.max.bytes", (int64_t)LIMIT_KAFKA_FETCH_BYTES, 57671680,
              "record batches of one answer, beyond the first")
BROKER_INT("max.incremental.fetch.session.cache.slots", (int64_t)c->conns_max, 1000,
              "a fetch session belongs to its connection")
BROKER_INT("max.connections", (int64_t)c->conns_max, INT32_MAX, "kafka.connections.max")
BROKER_INT("max.connections.per.ip", (int64_t)(c->conns_ip_max ? c->conns_ip_max : INT32_MAX),
              INT32_MAX, "kafka.connections.ip_max")
BROKER_LONG("connections.max.idle.ms", (int64_t)c->idle_ms, 600000, "kafka.idle")
BROKER_INT("transaction.max.timeout.ms", LIMIT_TXN_TIMEOUT_MS, 900000,
              "largest timeout of a transaction")
BROKER_INT("group.initial.rebalance.delay.ms", g.initial_rebalance_delay_ms, 3000,
              "what the first rebalance of a new group waits for more members")
BROKER_INT("group.min.session.timeout.ms", g.session_timeout_ms_min, 6000,
              "shortest session timeout of a member")
BROKER_INT("group.max.session.timeout.ms", g.session_timeout_ms_max, 1800000,
              "longest session timeout of a member")
BROKER_INT("group.max.size", g.size_max, INT32_MAX, "members of a group")
BROKER_INT("group.consumer.session.timeout.ms", g.consumer_session_timeout_ms, 45000,
              "session timeout of members of the consumer protocol")
BROKER_INT("group.consumer.heartbeat.interval.ms", g.consumer_heartbeat_ms, 5000,
              "heartbeat interval of members of the consumer protocol")
BROKER_INT("group.share.session.timeout.ms", g.share_session_timeout_ms, 45000,
              "after which a silent member of a share group is out")
BROKER_INT("group.share.heartbeat.interval.ms", g.share_heartbeat_ms, 5000,
              "how often its members send a heartbeat")
BROKER_INT("group.share.max.size", g.share_size_max, 200, "members of a share group")
BROKER_INT("group.streams.session.timeout.ms", g.streams_session_timeout_ms, 45000,
              "after which a silent member of a streams group is out")
BROKER_INT("group.streams.heartbeat.interval.ms", g.streams_heartbeat_ms, 5000,
              "how often its members send a heartbeat")
BROKER_INT("group.streams.max.size", g.streams_size_max, INT32_MAX,
              "members of a streams group")
BROKER_INT("group.streams.num.standby.replicas", g.streams_standby_replicas, 0,
              "members besides the active one that keep the state of a task")
BROKER_INT("group.streams.initial.rebalance.delay.ms", g.streams_initial_delay_ms, 3000,
              "what the first assignment of a new streams group waits for more members")
BROKER_INT("group.streams.assignment.interval.ms", g.streams_interval_ms, 1000,
              "between two assignments of a streams group, at least; as in Kafka 4.3")
BROKER_INT("group.consumer.max.size", g.consumer_size_max, INT32_MAX,
              "members of a group of the consumer protocol")
BROKER_INT("offsets.retention.minutes", g.offsets_retention_minutes, 10080,
              "how long a group without members keeps its offsets")
BROKER_LONG("offsets.retention.check.interval.ms", g.offsets_retention_check_ms, 600000,
              "how often that is looked at")
BROKER_INT("offset.metadata.max.bytes", (int64_t)LIMIT_GROUP_METADATA, 4096,
              "largest metadata of a committed offset")
