/* Every item of a topic's configuration, as data. One row:
 *   CONF_ROW(code, published name, server's name of the default in Apache Kafka ("" none),
 *            field of struct topic_conf, kind, least, most, default, prose)
 * code: 1..255, written to disk (entries, see broker/state.h): never reuse or renumber one.
 * kind: INT, LONG, RATIO (0 to 1 in units of 1/TOPIC_RATIO_ONE), BOOL, or WORDS_x (one of the words of
 * the list named, whose position is the value; LIST_x: several, comma-separated, as a set of bits).
 * An item that is text (at most TOPIC_CONF_WORD_MAX bytes) has a row of its own form:
 *   CONF_TEXT(code, published name, server's name, field, default, prose)
 * A default may be changed by the server's configuration (broker_conf). Names, meaning, ranges and
 * defaults as in Apache Kafka 4.2, except retention.records.min and durability, which are Weir's.
 * "No effect" items are kept and reported, so that clients and tools that set them go on working.
 */
CONF_ROW(1, "retention.ms", "log.retention.ms", retention_ms, LONG, -1, INT64_MAX, 604800000,
         "how long records are kept, in milliseconds; -1 for ever")
CONF_ROW(2, "retention.bytes", "log.retention.bytes", retention_bytes, LONG, -1, INT64_MAX, -1,
         "bytes of records kept in each partition; -1 no limit")
CONF_ROW(3, "retention.records.min", "", retention_records_min, LONG, 0, INT64_MAX, 0,
         "records kept in each partition whatever the other retention rules say")
CONF_ROW(4, "max.message.bytes", "message.max.bytes", max_message_bytes, INT, 1024,
         LIMIT_TOPIC_MESSAGE_BYTES, LIMIT_MESSAGE_BYTES_DEFAULT,
         "largest record batch accepted, in bytes")
CONF_ROW(5, "durability", "", durability, WORDS_DURABILITY, 0, 1, 0,
         "when a write is answered: fsync (on stable storage) or os (in the system's page cache)")
CONF_ROW(6, "compression.type", "compression.type", compression, WORDS_COMPRESSION, 0, 5, 0,
         "how batches are stored: gzip, snappy, lz4, zstd, or uncompressed, packed again if a client "
         "did otherwise; producer: as the client did, and uncompressed if Weir makes the batch")
CONF_ROW(7, "cleanup.policy", "log.cleanup.policy", cleanup, LIST_CLEANUP, 0, 3, 1,
         "what removes old records: delete (the retention rules), compact (of the records of one "
         "key only the newest is kept), both, or none")
CONF_ROW(8, "message.timestamp.type", "log.message.timestamp.type", timestamp_type, WORDS_TIMESTAMP,
         0, 1, 0, "CreateTime (the producer's time) or LogAppendTime (the time of the append)")
CONF_ROW(9, "delete.retention.ms", "log.cleaner.delete.retention.ms", delete_retention_ms, LONG, 0,
         INT64_MAX, 86400000,
         "how long compaction keeps a tombstone (a record without value) after it was first "
         "cleaned, in milliseconds: the time that a reader from the start has to see it")
CONF_ROW(10, "file.delete.delay.ms", "log.segment.delete.delay.ms", file_delete_delay_ms, LONG, 0,
         INT64_MAX, 60000, "no effect: files go when a checkpoint says so and no reader is in them")
CONF_ROW(11, "flush.messages", "log.flush.interval.messages", flush_messages, LONG, 1, INT64_MAX,
         INT64_MAX, "no effect: see durability")
CONF_ROW(12, "flush.ms", "log.flush.interval.ms", flush_ms, LONG, 0, INT64_MAX, INT64_MAX,
         "no effect: see durability")
CONF_ROW(13, "index.interval.bytes", "log.index.interval.bytes", index_interval_bytes, INT, 0,
         INT32_MAX, 4096, "no effect: every batch is in the index")
CONF_ROW(14, "max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", max_compaction_lag_ms,
         LONG, 1, INT64_MAX, INT64_MAX,
         "age of a record at which compaction takes it whatever the ratio, in milliseconds; it may "
         "take a minute more")
CONF_ROW(15, "message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms",
         timestamp_after_max_ms, LONG, 0, INT64_MAX, 3600000,
         "how far in the future the time of a Kafka producer's record may be, in milliseconds, "
         "with CreateTime")
CONF_ROW(16, "message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms",
         timestamp_before_max_ms, LONG, 0, INT64_MAX, INT64_MAX,
         "how far in the past the time of a Kafka producer's record may be, in milliseconds, "
         "with CreateTime")
CONF_ROW(17, "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", min_cleanable_ratio,
         RATIO, 0, TOPIC_RATIO_ONE, TOPIC_RATIO_ONE / 2,
         "compaction begins when more than this part of the log is not compacted yet, 0 to 1")
CONF_ROW(18, "min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", min_compaction_lag_ms,
         LONG, 0, INT64_MAX, 0, "age that a record must have to be compacted, in milliseconds")
CONF_ROW(19, "min.insync.replicas", "min.insync.replicas", min_insync_replicas, INT, 1, INT32_MAX,
         1, "no effect: there is one copy, and it is on stable storage when a write is answered")
CONF_ROW(20, "preallocate", "log.preallocate", preallocate, BOOL, 0, 1, 0,
         "no effect: journal files are always allocated ahead")
CONF_ROW(21, "segment.bytes", "log.segment.bytes", segment_bytes, INT, 1048576, INT32_MAX,
         1073741824, "no effect: topics share files")
CONF_ROW(22, "segment.index.bytes", "log.index.size.max.bytes", segment_index_bytes, INT, 4,
         INT32_MAX, 10485760, "no effect: an index is as large as its file needs")
CONF_ROW(23, "segment.jitter.ms", "log.roll.jitter.ms", segment_jitter_ms, LONG, 0, INT64_MAX, 0,
         "no effect: topics share files")
CONF_ROW(24, "segment.ms", "log.roll.ms", segment_ms, LONG, 1, INT64_MAX, 604800000,
         "no effect: topics share files")
CONF_ROW(25, "unclean.leader.election.enable", "unclean.leader.election.enable", unclean_election,
         BOOL, 0, 1, 0, "no effect: nothing is elected")
CONF_ROW(26, "local.retention.bytes", "log.local.retention.bytes", local_retention_bytes, LONG, -2,
         INT64_MAX, -2,
         "with lake.enable: beyond so many bytes the local log gives up what the lake has, which is then "
         "read from there; -1 no limit, -2 as retention.bytes")
CONF_ROW(27, "local.retention.ms", "log.local.retention.ms", local_retention_ms, LONG, -2,
         INT64_MAX, -2,
         "with lake.enable: older than it the local log gives up what the lake has, which is then read "
         "from there; -1 for ever, -2 as retention.ms")
CONF_ROW(28, "remote.storage.enable", "", remote_storage, BOOL, 0, 0, 0,
         "only false: the lake is Weir's remote storage (lake.enable, local.retention.ms)")
CONF_ROW(29, "remote.log.copy.disable", "", remote_copy_disable, BOOL, 0, 1, 0,
         "no effect while remote.storage.enable is false")
CONF_ROW(30, "remote.log.delete.on.disable", "", remote_delete_on_disable, BOOL, 0, 1, 0,
         "no effect while remote.storage.enable is false")
CONF_ROW(31, "compression.gzip.level", "compression.gzip.level", gzip_level, LEVEL_GZIP, -1, 9, -1,
         "no effect: gzip is used at its default level")
CONF_ROW(32, "compression.lz4.level", "compression.lz4.level", lz4_level, INT, 1, 17, 9,
         "no effect: lz4 is used at its fast level")
CONF_ROW(33, "compression.zstd.level", "compression.zstd.level", zstd_level, INT, -131072, 22, 3,
         "no effect: zstd is used at its default level")
CONF_ROW(34, "leader.replication.throttled.replicas", "", leader_throttled, LIST_REPLICAS, 0, 1, 0,
         "no effect: nothing is replicated; empty or *")
CONF_ROW(35, "follower.replication.throttled.replicas", "", follower_throttled, LIST_REPLICAS, 0, 1,
         0, "no effect: nothing is replicated; empty or *")
CONF_ROW(36, "lake.enable", "", lake_enable, BOOL, 0, 1, 0,
         "the topic is an Iceberg table in the lake, too: see docs/lake.md")
CONF_ROW(37, "lake.max.bytes", "", lake_max_bytes, LONG, 1024, 1073741824, 1048576,
         "records are committed to the table when so many bytes of them wait, or at lake.max.seconds")
CONF_ROW(38, "lake.max.seconds", "", lake_max_s, LONG, 1, 86400, 60,
         "and at the latest when the first of them has waited for it, in seconds")
CONF_TEXT(39, "lake.partition", "", lake_partition, "hour(timestamp)",
          "by what the table's files are divided: terms such as day(timestamp), bucket[16](key), "
          "key_bucket[16] or country, with commas, or a JSON list of them; none")
CONF_ROW(40, "lake.columns", "", lake_columns, BOOL, 0, 1, 1,
         "the fields of JSON values become columns, beside the exact value")
CONF_ROW(41, "lake.snapshot.retention.ms", "", lake_snapshots_ms, LONG, 60000, INT64_MAX, 432000000,
         "snapshots older than it are expired, but for the newest, and files that only they had "
         "removed")
CONF_ROW(42, "lake.retention.ms", "", lake_retention_ms, LONG, -2, INT64_MAX, -2,
         "files whose records are all older than it leave the table; -1 for ever; -2: rows leave with "
         "the log's start if the topic has tiers (local.retention.*), else for ever")
CONF_ROW(43, "lake.format", "", lake_format, WORDS_LAKE_FORMAT, 0, 1, 0,
         "what the topic is in the lake: an iceberg table, or a folder of JSON lines (jsonl)")
CONF_ROW(44, "lake.jsonl.compression", "", lake_jsonl_codec, WORDS_LAKE_JSONL, 0, 2, 2,
         "of files of JSON lines: none, gzip or zstd")
CONF_ROW(45, "lake.archive.after.ms", "", lake_archive_ms, LONG, -1, INT64_MAX, -1,
         "files of the table whose records are all older than it move to the archive; -1 never")
CONF_ROW(46, "compaction.records.per.key", "", compaction_records, INT, 0, 64, 1,
         "records of one key that compaction keeps: the newest so many; 0, with "
         "compaction.by.offset: all")
CONF_ROW(47, "compaction.by.offset", "", compaction_by_offset, BOOL, 0, 1, 0,
         "the topic is a stream that removes single messages: compaction takes away those; records "
         "without value or key are messages like others, and stay")
CONF_TEXT(48, "lake.sort", "", lake_sort, "none",
          "how rows lie in the table's files: columns with asc or desc and nulls first or nulls last, as "
          "country, amount desc nulls last; or a JSON list of them; none: by partition and offset")
