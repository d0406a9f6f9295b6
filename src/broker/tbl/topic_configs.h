/* Every item of a topic's configuration, as data. One row:
 *   CONF_ROW(code, published name, field of struct topic_conf, kind, least, most, prose)
 * code: 1..255, written to disk (entries, see broker/state.h): never reuse or renumber one.
 * kind: NUMBER (a decimal integer between least and most) or WORDS_x (one of the words of the list
 * named, whose position is the value). The default of an item comes from topic_conf_default.
 * Names and meaning as in Apache Kafka's topic configurations, except retention.records.min and
 * durability, which are Weir's. */
CONF_ROW(1, "retention.ms", retention_ms, NUMBER, -1, INT64_MAX,
         "how long records are kept, in milliseconds; -1 for ever")
CONF_ROW(2, "retention.bytes", retention_bytes, NUMBER, -1, INT64_MAX,
         "bytes of records kept in each partition; -1 no limit")
CONF_ROW(3, "retention.records.min", retention_records_min, NUMBER, 0, INT64_MAX,
         "records kept in each partition whatever the other retention rules say")
CONF_ROW(4, "max.message.bytes", max_message_bytes, NUMBER, 1024, LIMIT_TOPIC_MESSAGE_BYTES,
         "largest record batch accepted, in bytes")
CONF_ROW(5, "durability", durability, WORDS_DURABILITY, 0, 1,
         "when a write is answered: fsync (on stable storage) or os (in the system's page cache)")
CONF_ROW(6, "compression.type", compression, WORDS_COMPRESSION, 0, 4,
         "compression of the batches that Weir makes: none, gzip, snappy, lz4 or zstd; batches "
         "that a client made are stored as they came")
CONF_ROW(7, "cleanup.policy", cleanup, WORDS_CLEANUP, 1, 1,
         "what removes old records: delete (the retention rules)")
CONF_ROW(8, "message.timestamp.type", timestamp_type, WORDS_TIMESTAMP, 0, 1,
         "CreateTime (the producer's time) or LogAppendTime (the time of the append)")
