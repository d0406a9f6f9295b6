/* Streams groups (KIP-1071): the tasks of a Kafka Streams application, given out by the coordinator.
 *
 * An application's topology is cut into subtopologies; each is run as one task for each partition of
 * what it reads. Members say their topology when they join; the coordinator finds how many tasks that
 * is and which internal topics it needs (streams_topology.c), who gets which task (streams_assign.c),
 * and moves tasks from member to member (streams.c). A task is a number of a subtopology and of a
 * partition, as struct topic_part has them (`topic`: the subtopology's place in the topology).
 *
 * Calls, threads, time and waiting are those of coordinator.h. */
#ifndef WEIR_BROKER_STREAMS_H
#define WEIR_BROKER_STREAMS_H

#include "base/arena.h"
#include "broker/coordinator.h"

/* What a member does with a task. */
enum streams_role { STREAMS_ACTIVE, STREAMS_STANDBY, STREAMS_WARMUP };
#define STREAMS_ROLES 3u

struct streams_pair {
    struct slice key, value;
};
struct streams_topic { /* that the group makes */
    struct slice name;
    int32_t partitions;  /* 0: whatever is right; of a changelog always */
    int16_t replication; /* 0 or -1: the default */
    const struct streams_pair *configs;
    unsigned configs_n;
};
/* Topics of a subtopology that must have equally many partitions: places in its lists. */
struct streams_copartition {
    const int16_t *sources, *repartitions;
    unsigned sources_n, repartitions_n;
};
struct streams_subtopology {
    struct slice id;
    const struct slice *sources, *sinks; /* sinks: repartition topics that it writes to */
    unsigned sources_n, sinks_n;
    const struct streams_topic *changelogs, *repartitions; /* repartitions: that it reads */
    unsigned changelogs_n, repartitions_n;
    const struct streams_copartition *copartitions;
    unsigned copartitions_n;
};
struct streams_topology {
    int32_t epoch;
    const struct streams_subtopology *subs;
    unsigned n;
};
struct streams_tasks { /* of one subtopology */
    struct slice subtopology;
    const int32_t *partitions; /* ascending in results */
    unsigned n;
};

struct group_streams_heartbeat {
    struct slice group, member_id;
    int32_t member_epoch; /* or GROUP_EPOCH_… */
    int32_t endpoint_epoch;
    /* null: none or as before */
    struct slice instance_id, rack_id, client_id, client_host, process_id;
    int32_t rebalance_timeout_ms;                     /* -1: as before */
    const struct streams_topology *topology;          /* NULL: not said */
    const struct streams_tasks *owned[STREAMS_ROLES]; /* NULL, all of them: as before */
    unsigned owned_n[STREAMS_ROLES];
    struct slice endpoint_host; /* null: none or as before */
    uint16_t endpoint_port;
    const struct streams_pair *tags; /* NULL: as before */
    unsigned tags_n;
    bool shutdown; /* every member is to stop */
    /* the group's configuration as it is now; -1: as the server has it (struct group_conf) */
    int32_t session_timeout_ms, heartbeat_ms, standby_replicas, initial_delay_ms;
    int32_t interval_ms; /* between two assignments, at least */
};

/* As the protocol numbers them. */
enum streams_status_code {
    STREAMS_STALE_TOPOLOGY,
    STREAMS_MISSING_SOURCES,
    STREAMS_WRONG_PARTITIONS,
    STREAMS_MISSING_INTERNAL,
    STREAMS_SHUTDOWN,
    STREAMS_DELAYED /* no assignment yet: the initial delay, the interval */
};
#define STREAMS_STATUS_MAX 4u
struct streams_status {
    enum streams_status_code code;
    struct slice text;
};
struct streams_topic_partitions {
    struct slice topic;
    const int32_t *partitions;
    unsigned n;
};
struct streams_endpoint {
    struct slice host;
    uint16_t port;
    const struct streams_topic_partitions *active, *standby;
    unsigned active_n, standby_n;
};
/* ERR_INVALID, ERR_GROUP_ID, ERR_GROUP_NOT_FOUND (or it is of another kind), ERR_UNKNOWN_MEMBER,
 * ERR_FENCED_MEMBER_EPOCH, ERR_FENCED_INSTANCE, ERR_UNRELEASED_INSTANCE, ERR_GROUP_MAX_SIZE,
 * ERR_STREAMS_TOPOLOGY, ERR_TOO_LARGE, ERR_COORDINATOR. */
struct group_streams_result {
    enum err e;
    const char *text; /* what is wrong, with an error */
    struct slice member_id;
    int32_t member_epoch, heartbeat_ms, endpoint_epoch;
    struct streams_status status[STREAMS_STATUS_MAX];
    unsigned status_n;
    bool has_tasks; /* they changed, or are others than it says; or the member joins */
    const struct streams_tasks *tasks[STREAMS_ROLES];
    unsigned tasks_n[STREAMS_ROLES];
    bool has_endpoints; /* the member knows others, by endpoint_epoch */
    const struct streams_endpoint *endpoints;
    unsigned endpoints_n;
    /* Topics that are to be made for the group, with their numbers of partitions, at most
     * LIMIT_STREAMS_MAKES; a heartbeat that comes later finds them, and has the next. */
    const struct streams_topic *missing;
    unsigned missing_n;
    /* What all this points to. The callback may move it out, and leave an empty one. */
    struct arena *memory;
};
typedef void (*group_streams_fn)(void *arg, struct group_streams_result *r);
void group_streams_heartbeat(struct broker *b, const struct group_streams_heartbeat *h,
                             int64_t now_ms, struct group_wait *w, group_streams_fn done,
                             void *arg);

/* Of a group without members only this is known: a small item (kv_put), by the group's name, that goes
 * with the group, and is not put for one that is not there. What it says is the protocol's. All
 * together have LIMIT_STREAMS_KEPT_BYTES; beyond that putting one is ERR_LIMIT. */
#define STREAMS_TOPOLOGY_NS "group.topology"

/* ---- looking: what group_describe says of a streams group besides ---- */

struct streams_member_description {
    int32_t topology_epoch;
    struct slice process_id, endpoint_host; /* endpoint_host null: none */
    uint16_t endpoint_port;
    const struct streams_pair *tags;
    unsigned tags_n;
    const struct streams_tasks *assigned[STREAMS_ROLES], *target[STREAMS_ROLES];
    unsigned assigned_n[STREAMS_ROLES], target_n[STREAMS_ROLES];
};
struct streams_description {
    bool configured; /* the numbers of partitions are known */
    struct streams_topology topology;
};

#endif
