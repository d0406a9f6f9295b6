/* Consumer groups (KIP-848) and, by the same structs, share groups (share.c): what consumer.c
 * (heartbeats, reconciliation) and consumer_topics.c (subscriptions, topics, the target assignment)
 * share with each other and with the coordinator's other files. All under the lock of the group's
 * shard. */
#ifndef WEIR_BROKER_CONSUMER_INT_H
#define WEIR_BROKER_CONSUMER_INT_H

#include "broker/assign.h"
#include "broker/coordinator_int.h"
#include "broker/topic_regex.h"

/* What members subscribe to, each distinct one once; most groups have one. */
struct subscription {
    struct list_node link; /* consumer_group.subscriptions */
    uint32_t refs;         /* members */
    uint64_t hash;
    struct slice *names; /* ascending, each once; behind the struct */
    uint32_t names_n;
    struct slice regex; /* empty: none */
    struct topic_regex *compiled;
    uint32_t *matched, matched_n, matched_cap; /* topics that the regex matches, ascending */
    uint32_t *ids, ids_n;                      /* all topics of it that are there, ascending */
    bool stale;                                /* ids is to be found anew */
    bool rescan;                               /* so is matched, among all topics */
    size_t bytes;
};

struct consumer_member;

/* A topic that somebody subscribes to or has partitions of. */
struct group_topic {
    uint32_t id;
    uint8_t uuid[16];
    int32_t partitions;
    uint32_t subscriptions; /* that name it */
    uint32_t owned;
    struct consumer_member **owner; /* of each partition: who has it, or is still to give it up */
    size_t bytes;
    size_t name_len;
    char name[];
};

enum consumer_state_of {
    MEMBER_STABLE,
    MEMBER_UNREVOKED, /* it is to give up partitions before it goes on */
    MEMBER_UNRELEASED /* it waits for partitions that others have still */
};
enum assignor { ASSIGNOR_UNIFORM, ASSIGNOR_RANGE, ASSIGNOR_ROUNDROBIN, ASSIGNOR_NONE };

struct consumer_member {
    struct list_node link; /* live_group.list */
    struct live_group *group;
    struct slice id, instance_id; /* own memory; instance_id null: dynamic */
    struct slice client_id, client_host;
    struct blob *rack;
    enum consumer_state_of state;
    enum assignor assignor;
    int32_t epoch, previous_epoch;
    int32_t rebalance_ms;
    struct subscription *subscription; /* NULL: not said yet */
    struct part_set assigned, revoking, target;
    struct group_timer session, rebalance;
    int32_t rebalance_epoch; /* the epoch that the rebalance timer is for */
    size_t bytes;
    /* a member that speaks the classic protocol (mixed.c); NULL: it does not */
    struct protocols *protocols;
    int32_t session_ms;
    struct group_timer join, sync; /* by when it must join again, and sync */
};

/* What a member says that it owns. */
struct owned_parts {
    bool said;
    bool unknown; /* among it are partitions of topics that are not the group's */
    struct part_set set;
};

struct consumer_group {
    int32_t assignment_epoch;
    struct list_head subscriptions;
    uint32_t subscriptions_n;
    uint32_t classic_n;   /* members that speak the classic protocol */
    struct u64map topics; /* id -> struct group_topic */
    struct map uuids;     /* uuid -> the same */
    uint64_t topics_seen; /* count of the broker's recent_topics that is taken into account */
    uint64_t topics_hash; /* of the topics subscribed to, with their partitions */
    bool counts_stale;    /* group_topic.subscriptions is to be counted anew */
};

/* ---- consumer.c ---- */

void consumer_fini(struct live_group *g); /* of a group without members */
void consumer_drop_first(struct turn *t); /* at the end: a member goes, whatever it was doing */
void consumer_heartbeat(struct turn *t, const struct group_consumer_heartbeat *h,
                        struct group_wait_state *s);
enum err consumer_commit_check(struct turn *t, const struct group_member *m);
enum group_state consumer_state(const struct live_group *g);
bool consumer_subscribes(const struct live_group *g, uint32_t topic);
void consumer_describe(const struct live_group *g, struct group_description *d, struct arena *a);
enum err consumer_images(const struct live_group *g, struct buf *members, struct buf *assignment);

/* What it has now. */
static inline const struct part_set *consumer_has(const struct consumer_member *m)
{
    return m->group->kind == GROUP_SHARE ? &m->target : &m->assigned;
}
/* A set as the API says it: by topic. NULL with *n 0 if it is empty. */
struct group_topic_partitions *consumer__parts(struct arena *a, const struct live_group *g,
                                               const struct part_set *set, unsigned *n);

/* ---- share.c ---- */

/* Is it a share group, with members or without? */
bool share_group(struct turn *t, struct slice group);
void share_heartbeat(struct turn *t, const struct group_share_heartbeat *h,
                     struct group_wait_state *s);

/* For mixed.c and share.c. A new member, in the group; NULL: no memory. Its epoch is 0. */
struct consumer_member *consumer__add(struct turn *t, struct slice id, struct slice instance_id,
                                      struct slice client_id, struct slice client_host);
/* The member speaks the classic protocol from now on, with these, whose reference and bytes it takes
 * over; NULL: the consumer protocol. */
void consumer__speaks(struct consumer_member *m, struct protocols *protocols);
void consumer__rename(struct live_group *g, struct consumer_member *m, struct slice id);
/* Takes over both sets, and with them the partitions in them. */
void consumer__sets(struct consumer_member *m, struct part_set *assigned,
                    struct part_set *revoking);
void consumer__drop(struct turn *t, struct consumer_member *m);
/* Out, with a new epoch. The group may be a classic one afterwards. */
void consumer__fence(struct turn *t, struct consumer_member *m);
/* The member's subscription, the group's topics and epoch, the target; takes over the reference to the
 * subscription. */
enum err consumer__subscribe(struct turn *t, struct consumer_member *m, struct subscription *sub);
/* The same, and the way to the target: the member has spoken; takes over the reference to its subscription. */
enum err consumer__beat(struct turn *t, struct consumer_member *m, struct subscription *sub,
                        const struct owned_parts *o);
void consumer__bump(struct turn *t);                   /* the group's epoch */
bool consumer__waits(const struct consumer_member *m); /* for partitions that others have still */

/* ---- mixed.c ---- */

/* Makes the classic group a consumer group, members and all. False: it is not one of consumers, or
 * what they wrote does not decode, or it may not be. */
bool mixed_upgrade(struct turn *t);
/* After members left: makes the group a classic one if all that are left speak that. Its epoch is
 * its generation then, so they are told to join again, and not that they are of another. */
bool mixed_downgrade(struct turn *t);
void mixed_join(struct turn *t, const struct group_join *j, struct group_wait_state *s);
void mixed_sync(struct turn *t, const struct group_sync *y, struct group_wait_state *s);
enum err mixed_heartbeat(struct turn *t, const struct group_member *gm);
void mixed_leave(struct turn *t, struct group_leaver *leavers, unsigned n);
void mixed_join_fire(struct turn *t, struct group_timer *tm);
void mixed_sync_fire(struct turn *t, struct group_timer *tm);

/* ---- consumer_topics.c ---- */

/* Makes g a consumer group; it has no members. */
void consumer_topics_init(struct live_group *g);
void consumer_topics_fini(struct live_group *g);
/* The subscription to these names and this regex, referenced. ERR_REGEX, ERR_TOO_LARGE,
 * ERR_COORDINATOR (no memory for it). */
enum err subscription_get(struct turn *t, const struct slice *names, uint32_t names_n,
                          struct slice regex, struct subscription **out, struct errinfo *info);
void subscription_unref(struct live_group *g, struct subscription **s);
/* Takes into account how the broker's topics have changed. *changed: the group's topics or their
 * partitions are others than before. ERR_COORDINATOR: no memory for it; call again. */
enum err consumer_topics_refresh(struct turn *t, bool *changed);
struct group_topic *consumer_topic(const struct live_group *g, uint32_t id); /* NULL: none */
struct group_topic *consumer_topic_uuid(const struct live_group *g, const uint8_t uuid[16]);
/* Computes every member's target for the present group epoch. */
void consumer_target(struct live_group *g);
enum assignor consumer_assignor(const struct live_group *g);
const char *assignor_text(enum assignor a);
enum assignor assignor_of(struct slice name); /* ASSIGNOR_NONE: not known */

static inline struct consumer_member *consumer_first(const struct live_group *g)
{
    return list_empty(&g->list) ? NULL
                                : list_entry(g->list.node.next, struct consumer_member, link);
}

static inline struct consumer_member *consumer_next(const struct live_group *g,
                                                    struct consumer_member *m)
{
    struct list_node *n = m->link.next;

    return n == &g->list.node ? NULL : list_entry(n, struct consumer_member, link);
}

#endif
