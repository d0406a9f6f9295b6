/* Consumer groups with members: who is in a group, what generation it is in, and which partitions
 * each member has. Four protocols over one set of groups:
 *
 *   classic   members join, wait until the rebalance is complete, and one of them, the leader,
 *             computes the assignment, whose bytes are opaque here (group_join, group_sync,
 *             group_heartbeat, group_leave). Semantics: Apache Kafka's group coordinator.
 *   share     members take records of the same partitions, one by one (cursor.h); the coordinator
 *             says which partitions each is to look at (group_share_heartbeat). KIP-932.
 *   consumer  members say by heartbeat what they subscribe to and own; the coordinator computes the
 *             assignment and moves partitions, taking each from its old owner before the new one
 *             gets it (group_consumer_heartbeat). Semantics: KIP-848 as of Apache Kafka 4.2.
 *   streams   members run the tasks of an application; the coordinator makes its internal topics,
 *             and gives out the tasks (streams.h). KIP-1071.
 *
 * While a group changes from one to the other, it has members of both: it is a consumer group then,
 * and the classic calls serve its classic members (group_conf.upgrade, downgrade; mixed.c).
 *
 * Members live in memory only: after a restart they are told ERR_UNKNOWN_MEMBER and join again. A
 * group's generation (epoch) is durable before anyone is told it, so it never goes back. Committed
 * offsets are group_commit's and append_offset's; group_commit_check says whether a member may.
 *
 * Time: every function takes now_ms, monotonic milliseconds (io_mono_ns / 1,000,000), the same
 * clock for all calls; nothing here reads it. groups_tick runs what is due: one thread, at least
 * every 100 ms, or when groups_sleep says.
 *
 * Threads: all functions may be called by any thread, none blocks on storage. Answers that may have
 * to wait come by callback: exactly once, unless the wait was cancelled; by the calling thread
 * before the function returns, by any other thread's call, by the tick, or by the journal's writer
 * thread. No lock is held then; a callback must be short and never block, and may call anything
 * here. What its result points to is valid during the call only. */
#ifndef WEIR_BROKER_COORDINATOR_H
#define WEIR_BROKER_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "broker/broker.h"

/* ---- configuration ---- */

/* Names are Apache Kafka's broker configurations; so are the defaults, except the sizes, which
 * Kafka leaves without bound. */
struct group_conf {
    int32_t initial_rebalance_delay_ms;  /* group.initial.rebalance.delay.ms: 3,000 */
    int32_t session_timeout_ms_min;      /* group.min.session.timeout.ms: 6,000 */
    int32_t session_timeout_ms_max;      /* group.max.session.timeout.ms: 1,800,000 */
    int32_t size_max;                    /* group.max.size: LIMIT_GROUP_MEMBERS */
    int32_t consumer_session_timeout_ms; /* group.consumer.session.timeout.ms: 45,000 */
    int32_t consumer_heartbeat_ms;       /* group.consumer.heartbeat.interval.ms: 5,000 */
    int32_t consumer_size_max;           /* group.consumer.max.size: LIMIT_GROUP_MEMBERS */
    int32_t share_session_timeout_ms;    /* group.share.session.timeout.ms: 45,000 */
    int32_t share_heartbeat_ms;          /* group.share.heartbeat.interval.ms: 5,000 */
    int32_t share_size_max;              /* group.share.max.size: 200 */
    /* what a streams group has that was not configured by itself (streams.h) */
    int32_t streams_session_timeout_ms; /* group.streams.session.timeout.ms: 45,000 */
    int32_t streams_heartbeat_ms;       /* group.streams.heartbeat.interval.ms: 5,000 */
    int32_t streams_size_max;           /* group.streams.max.size: LIMIT_GROUP_MEMBERS */
    int32_t streams_standby_replicas;   /* group.streams.num.standby.replicas: 0 */
    int32_t streams_initial_delay_ms;   /* group.streams.initial.rebalance.delay.ms: 3,000 */
    int32_t streams_interval_ms; /* group.streams.assignment.interval.ms: 1,000, as Kafka 4.3 */
    /* group.consumer.migration.policy (bidirectional): a classic group of consumers becomes a
     * consumer group when one joins by that protocol, and the other way when the last such goes */
    bool upgrade, downgrade;
    int32_t offsets_retention_minutes;  /* offsets.retention.minutes: 10,080 (7 days) */
    int32_t offsets_retention_check_ms; /* offsets.retention.check.interval.ms: 600,000 */
};
void group_conf_default(struct group_conf *c);
/* ERR_CONFIG, naming the item. */
enum err group_conf_check(const struct group_conf *c, struct errinfo *info);
/* The same; takes effect for what happens from then on. */
enum err groups_conf_set(struct broker *b, const struct group_conf *c, struct errinfo *info);
void groups_conf_get(struct broker *b, struct group_conf *out);

/* ---- waiting ---- */

/* Belongs to the caller, one for each answer awaited; zeroed before its first use. It must stay
 * until its callback has begun or group_wait_cancel has returned. */
struct group_wait {
    struct group_wait_state *state; /* private */
};
/* The caller is gone: after it returns the callback is not running (unless this is called by it)
 * and will not run. The member stays in its group until its session is over. Does nothing if the
 * wait is not on its way. */
void group_wait_cancel(struct broker *b, struct group_wait *w);

/* ---- classic groups ---- */

struct group_protocol {
    struct slice name, metadata;
};
struct group_join {
    struct slice group;
    struct slice member_id;   /* empty: not known yet */
    struct slice instance_id; /* null: a dynamic member */
    struct slice client_id, client_host;
    struct slice protocol_type;             /* "consumer", "connect", … */
    const struct group_protocol *protocols; /* in the member's order of preference */
    unsigned protocols_n;
    int32_t session_timeout_ms, rebalance_timeout_ms; /* rebalance -1: the session's */
    bool member_id_required; /* a dynamic member's first join only gives it an id (JoinGroup 4+) */
    bool skip_assignment;    /* the member understands skip_assignment (JoinGroup 9+) */
};
struct group_join_member {
    struct slice member_id, instance_id, metadata; /* instance_id null: dynamic */
};
/* ERR_MEMBER_ID_REQUIRED: join again with member_id. ERR_UNKNOWN_MEMBER, ERR_FENCED_INSTANCE,
 * ERR_INCONSISTENT_PROTOCOL, ERR_SESSION_TIMEOUT, ERR_GROUP_MAX_SIZE, ERR_GROUP_ID,
 * ERR_REBALANCE_IN_PROGRESS (another join of the member took this one's place), ERR_TOO_LARGE,
 * ERR_COORDINATOR (closing, or the write failed: try again). */
struct group_join_result {
    enum err e;
    int32_t generation;                                /* -1 with an error */
    struct slice protocol_type, protocol_name, leader; /* null with an error */
    struct slice member_id;
    bool skip_assignment;                    /* the leader keeps the assignment as it is */
    const struct group_join_member *members; /* for the leader; otherwise none */
    unsigned members_n;
};
typedef void (*group_join_fn)(void *arg, const struct group_join_result *r);
void group_join(struct broker *b, const struct group_join *j, int64_t now_ms, struct group_wait *w,
                group_join_fn done, void *arg);

struct group_assignment {
    struct slice member_id, assignment;
};
struct group_sync {
    struct slice group, member_id, instance_id;
    int32_t generation;
    struct slice protocol_type, protocol_name;  /* null: not said */
    const struct group_assignment *assignments; /* the leader's */
    unsigned assignments_n;
};
/* ERR_UNKNOWN_MEMBER, ERR_ILLEGAL_GENERATION, ERR_FENCED_INSTANCE, ERR_INCONSISTENT_PROTOCOL,
 * ERR_REBALANCE_IN_PROGRESS, ERR_GROUP_ID, ERR_TOO_LARGE, ERR_COORDINATOR. */
struct group_sync_result {
    enum err e;
    struct slice protocol_type, protocol_name; /* null with an error */
    struct slice assignment;
};
typedef void (*group_sync_fn)(void *arg, const struct group_sync_result *r);
void group_sync(struct broker *b, const struct group_sync *s, int64_t now_ms, struct group_wait *w,
                group_sync_fn done, void *arg);

/* Who says something: a member in a generation (or member epoch). */
struct group_member {
    struct slice group, member_id;
    struct slice instance_id; /* null: none */
    int32_t generation;
    /* What it is to commit of: who is in a streams group may be behind with its epoch, if it had the
     * tasks of these then. */
    struct partition *const *parts;
    unsigned parts_n;
};
/* ERR_OK, ERR_REBALANCE_IN_PROGRESS (join again), ERR_UNKNOWN_MEMBER, ERR_ILLEGAL_GENERATION,
 * ERR_FENCED_INSTANCE, ERR_GROUP_ID. */
enum err group_heartbeat(struct broker *b, const struct group_member *m, int64_t now_ms);

struct group_leaver {
    struct slice member_id;   /* empty with an instance_id: whoever has it */
    struct slice instance_id; /* null: none */
    enum err e;               /* out */
};
/* Members leave; each has its own error. Returns ERR_UNKNOWN_MEMBER if there is no such group. */
enum err group_leave(struct broker *b, struct slice group, struct group_leaver *leavers, unsigned n,
                     int64_t now_ms);

/* ---- consumer groups (KIP-848) ---- */

struct group_topic_partitions {
    uint8_t topic_uuid[16];
    struct slice topic;        /* name; only in results */
    const int32_t *partitions; /* ascending in results */
    unsigned n;
};
#define GROUP_EPOCH_JOIN         0
#define GROUP_EPOCH_LEAVE        (-1)
#define GROUP_EPOCH_LEAVE_STATIC (-2) /* back within the session's time */
struct group_consumer_heartbeat {
    struct slice group, member_id; /* member_id empty with epoch 0: one is made */
    int32_t member_epoch;          /* or GROUP_EPOCH_… */
    struct slice instance_id, rack_id, client_id, client_host; /* null: none or as before */
    int32_t rebalance_timeout_ms;                              /* -1: as before */
    const struct slice *topics;                                /* NULL: as before */
    unsigned topics_n;
    struct slice topic_regex;                   /* null: as before; empty: none from now on */
    struct slice assignor;                      /* null: as before, or the default */
    const struct group_topic_partitions *owned; /* NULL: as before */
    unsigned owned_n;
};
/* ERR_INVALID, ERR_GROUP_ID, ERR_GROUP_NOT_FOUND (or it has classic members), ERR_UNKNOWN_MEMBER,
 * ERR_FENCED_MEMBER_EPOCH, ERR_FENCED_INSTANCE, ERR_UNRELEASED_INSTANCE, ERR_UNSUPPORTED_ASSIGNOR,
 * ERR_GROUP_MAX_SIZE, ERR_REGEX, ERR_TOO_LARGE, ERR_COORDINATOR. */
struct group_consumer_result {
    enum err e;
    const char *text; /* what is wrong, with an error */
    struct slice member_id;
    int32_t member_epoch, heartbeat_ms;
    bool has_assignment; /* it changed, or the request was a full one */
    const struct group_topic_partitions *assignment;
    unsigned assignment_n;
};
typedef void (*group_consumer_fn)(void *arg, const struct group_consumer_result *r);
void group_consumer_heartbeat(struct broker *b, const struct group_consumer_heartbeat *h,
                              int64_t now_ms, struct group_wait *w, group_consumer_fn done,
                              void *arg);

/* ---- share groups (KIP-932) ---- */

struct group_share_heartbeat {
    struct slice group, member_id;
    int32_t member_epoch;                         /* or GROUP_EPOCH_JOIN, GROUP_EPOCH_LEAVE */
    struct slice rack_id, client_id, client_host; /* null: none or as before */
    const struct slice *topics;                   /* NULL: as before */
    unsigned topics_n;
};
/* The same answer as a consumer's. ERR_INVALID, ERR_GROUP_ID, ERR_GROUP_NOT_FOUND (or it is of
 * another kind), ERR_UNKNOWN_MEMBER, ERR_FENCED_MEMBER_EPOCH, ERR_GROUP_MAX_SIZE, ERR_TOO_LARGE,
 * ERR_COORDINATOR. */
void group_share_heartbeat(struct broker *b, const struct group_share_heartbeat *h, int64_t now_ms,
                           struct group_wait *w, group_consumer_fn done, void *arg);

/* ---- offsets ---- */

/* Whether this member may commit. generation -1 with an empty member_id: a reader without
 * membership, which may while the group has no members. transactional: within a transaction, where
 * an id is not demanded of old clients. Keeps a classic member's session alive.
 * ERR_UNKNOWN_MEMBER, ERR_ILLEGAL_GENERATION, ERR_STALE_MEMBER_EPOCH (consumer groups),
 * ERR_FENCED_INSTANCE, ERR_REBALANCE_IN_PROGRESS, ERR_GROUP_NOT_FOUND (generation >= 0 and no such
 * group: clients before OffsetCommit 9 know it as an illegal generation), ERR_GROUP_ID. */
enum err group_commit_check(struct broker *b, const struct group_member *m, bool transactional,
                            int64_t now_ms);
/* Whether it may read the group's offsets; member_id null and generation -1: anybody. */
enum err group_fetch_check(struct broker *b, const struct group_member *m);
/* Deletes one committed offset, as group_commit. ERR_GROUP_NOT_FOUND, ERR_GROUP_SUBSCRIBED (a
 * member subscribes to the topic), ERR_GROUP_NOT_EMPTY (members of another protocol type than
 * "consumer"). Deleting what is not there succeeds: done is called at once. */
enum err group_offset_delete(struct broker *b, struct slice group, struct partition *p,
                             broker_done_fn done, void *arg, struct errinfo *info);
/* Deletes the group with all its offsets, as broker.h's group_delete, if it has no members:
 * ERR_GROUP_NOT_EMPTY, ERR_GROUP_NOT_FOUND. */
enum err group_remove(struct broker *b, struct slice group, broker_done_fn done, void *arg,
                      struct errinfo *info);

/* ---- looking ---- */

enum group_kind { GROUP_CLASSIC, GROUP_CONSUMER, GROUP_SHARE, GROUP_STREAMS };
enum group_state {
    GROUP_EMPTY,
    GROUP_PREPARING_REBALANCE,  /* classic: waiting for members to join */
    GROUP_COMPLETING_REBALANCE, /* classic: waiting for the leader's assignment */
    GROUP_STABLE,
    GROUP_ASSIGNING,   /* consumer: a new assignment is to be computed */
    GROUP_RECONCILING, /* consumer: members are on their way to their assignment */
    GROUP_NOT_READY,   /* streams: topics are missing, or not as the topology needs them */
    GROUP_DEAD         /* there is none */
};
const char *group_kind_text(enum group_kind k);   /* "classic", "consumer", "share", … */
const char *group_state_text(enum group_state s); /* "PreparingRebalance", … as Kafka says them */

struct streams_member_description;
struct streams_description;
struct group_description_member {
    struct slice member_id, instance_id, client_id, client_host; /* instance_id null: none */
    struct slice metadata, assignment; /* classic; metadata only while stable */
    struct slice rack_id;              /* consumer and share, from here on; null: none */
    int32_t epoch;
    bool classic; /* it speaks the classic protocol */
    const struct slice *topics;
    unsigned topics_n;
    struct slice topic_regex; /* null: none */
    const struct group_topic_partitions *assigned, *target;
    unsigned assigned_n, target_n;
    const struct streams_member_description *streams; /* of a streams group; else NULL */
};
struct group_description {
    enum group_kind kind;
    enum group_state state;
    struct slice protocol_type; /* empty: none */
    struct slice protocol;      /* the protocol selected, or the assignor; empty: none */
    int32_t generation;         /* or group epoch */
    int32_t assignment_epoch;   /* consumer */
    struct group_description_member *members;
    unsigned members_n;
    const struct streams_description *streams; /* of a streams group with members; else NULL */
    void *memory;                              /* private */
};
/* A snapshot. A group that does not exist: GROUP_DEAD, no members. ERR_GROUP_ID, ERR_TOO_LARGE. */
enum err group_describe(struct broker *b, struct slice group, struct group_description *out);
void group_description_fini(struct group_description *d);

struct group_listing {
    struct slice group, protocol_type;
    enum group_kind kind;
    enum group_state state;
};
/* Every group that has offsets or members, in order of name, with one of the states and kinds
 * (words in any case; states_n or kinds_n 0: all). No lock is held during fn. */
struct group_filter {
    const struct slice *states, *kinds;
    unsigned states_n, kinds_n;
};
void groups_list(struct broker *b, const struct group_filter *f,
                 void (*fn)(void *arg, const struct group_listing *g), void *arg);

/* ---- time and the end ---- */

/* Runs what is due. */
void groups_tick(struct broker *b, int64_t now_ms);
/* When groups_tick has something to do next; INT64_MAX: nothing so far. */
int64_t groups_deadline_ms(struct broker *b);
/* The same, with leases of cursors, which are looked at in steps of 100 ms, for a thread that sleeps
 * until then: wake is called once if something is to be done earlier. */
int64_t groups_sleep(struct broker *b, int64_t now_ms);
/* wake: by any thread, under locks of the broker: it may only pass it on. NULL: nobody, and when this
 * returns no call goes on. */
void groups_wake_set(struct broker *b, void (*wake)(void *arg), void *arg);
/* The same for who ticks only if nobody else does: false, and nothing was set. */
bool groups_wake_claim(struct broker *b, void (*wake)(void *arg), void *arg);
/* Every answer awaited is given now (ERR_COORDINATOR), every later one at once. Before closing. */
void groups_drain(struct broker *b);

#endif
