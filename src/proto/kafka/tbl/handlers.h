/* The APIs that are served: key, name of their messages. Only these are advertised. Included with
 * HANDLER(key, name) defined. */
HANDLER(0, produce)
HANDLER(1, fetch)
HANDLER(2, list_offsets)
HANDLER(3, metadata)
HANDLER(10, find_coordinator)
HANDLER(18, api_versions)
HANDLER(19, create_topics)
HANDLER(23, offset_for_leader_epoch)
HANDLER(60, describe_cluster)
HANDLER(75, describe_topic_partitions)
