/* The configuration of a group that clients may change, by the names of Apache Kafka 4.2 (GroupConfig;
 * streams.assignment.interval.ms: 4.3, KIP-1263; the last two: KIP-1191). Ranges are wider than those that Kafka's server defaults permit. Included
 * with these defined:
 *   GROUP_INT(name, field, least, most, prose)     GROUP_BOOL(name, field, prose)
 *   GROUP_TEXT(name, prose)                        what share_conf.c reads by itself */
GROUP_INT("share.record.lock.duration.ms", cursor.lease_ms, 1000, 3600000,
          "how long a record is a consumer's before it is given to another one")
GROUP_INT("share.delivery.count.limit", cursor.deliveries_max, 1, 1000,
          "how often a record is delivered at most")
GROUP_INT("share.partition.max.record.locks", cursor.records_max, 1, LIMIT_CURSOR_RECORDS,
          "records of a partition that are not done, between the first and the last delivered")
GROUP_TEXT("share.auto.offset.reset",
           "where a group begins in a partition that is new to it: earliest, latest, or "
           "by_duration:PnDTnHnMn.nS before now")
GROUP_TEXT("share.isolation.level",
           "read_uncommitted, or read_committed: no records of aborted or open transactions")
GROUP_BOOL("share.renew.acknowledge.enable", renew, "whether consumers may renew their leases")
GROUP_INT("streams.session.timeout.ms", streams_session_timeout_ms, 1000, 3600000,
          "after which a silent member of a streams group is out")
GROUP_INT("streams.heartbeat.interval.ms", streams_heartbeat_ms, 100, 3600000,
          "how often its members send a heartbeat")
GROUP_INT("streams.num.standby.replicas", streams_standby_replicas, 0, LIMIT_STREAMS_STANDBYS,
          "members besides the active one that keep the state of a task")
GROUP_INT("streams.initial.rebalance.delay.ms", streams_initial_delay_ms, 0, 3600000,
          "what the first assignment of a new group waits for more members")
GROUP_INT("streams.assignment.interval.ms", streams_interval_ms, 0, 3600000,
          "between two assignments of a streams group, at least")
GROUP_TEXT("errors.deadletterqueue.topic.name",
           "the topic of dead letters: records rejected or delivered too often; empty: none")
GROUP_BOOL("errors.deadletterqueue.copy.record.enable", cursor.dead_letters_copy,
           "dead letters have key, value and headers of the record, not only its place")
