/* What the files of streams groups share with each other and with the coordinator's other files. All
 * under the lock of the group's shard, but for streams_assign, which is a pure function. */
#ifndef WEIR_BROKER_STREAMS_INT_H
#define WEIR_BROKER_STREAMS_INT_H

#include "broker/assign.h"
#include "broker/coordinator_int.h"
#include "broker/streams.h"

/* Tasks by role; each set as assign.h has it. */
struct task_sets {
    struct part_set of[STREAMS_ROLES];
};
static inline uint64_t task_key(struct topic_part p)
{
    return (uint64_t)p.topic << 32 | (uint32_t)p.partition;
}

/* ---- streams_assign.c: who gets which task ---- */

struct streams_assign_sub {
    int32_t tasks;
    bool stateful; /* its tasks have standbys */
};
struct streams_assign_member {
    struct slice id;
    uint32_t process;            /* 0 … processes_n - 1: tasks are not twice in one */
    const struct task_sets *had; /* by the last assignment */
    struct task_sets gets;       /* out, sorted; empty when it is called */
};
/* Each task goes to one member, and with `standbys` more as far as there are processes for them.
 * Members get nearly equal numbers of tasks, and keep what they had as far as that allows: an active
 * task stays, or goes to where its standby was. The same answer for the same question, whatever the
 * order of the members. */
void streams_assign(const struct streams_assign_sub *subs, uint32_t subs_n,
                    struct streams_assign_member *m, uint32_t n, uint32_t processes_n,
                    uint32_t standbys);

/* ---- groups ---- */

/* A topic that the topology speaks of. */
struct streams_name {
    struct slice name;
    uint32_t id;                      /* of the topic; 0: not there */
    int32_t there;                    /* partitions it has; 0: not there */
    int32_t decided;                  /* that it is to have; 0: not known, or nobody's to decide */
    const struct streams_topic *made; /* made for the group; NULL: not */
    uint32_t *readers, readers_n;     /* subtopologies that read it, ascending */
};

struct streams_sub {
    const struct streams_subtopology *def;
    /* places in the group's names */
    const uint32_t *reads, *changelogs, *sinks; /* reads: sources, then repartition topics */
    uint32_t reads_n;
    int32_t tasks; /* 0: not known */
};

struct streams_member;
/* The members of one process of the application. */
struct streams_process {
    struct list_head members;
    uint32_t at; /* a number among all, while the target is computed */
    struct slice id;
};
/* Who has an active task, or is still to give it up, and since which epoch. */
struct streams_owner {
    struct streams_member *member;
    int32_t epoch;
};

struct streams_group {
    struct arena memory; /* of the topology and what is made of it */
    size_t bytes, task_bytes;
    bool has_topology;
    struct streams_topology topology; /* subtopologies in order of id */
    struct streams_sub *subs;
    struct streams_name *names; /* in order of name */
    uint32_t names_n;
    uint64_t topics_seen; /* count of the broker's recent_topics that is taken into account */
    uint64_t topics_hash; /* of the topics, with their partitions */
    /* What it is now: no status means that all is as the topology needs it. */
    bool configured, ready, has_status;
    bool topics_changed; /* since the epoch grew */
    enum streams_status_code status;
    char detail[512];
    const struct streams_name **missing; /* topics to be made */
    uint32_t missing_n;

    int32_t assignment_epoch, validated_epoch, endpoint_epoch;
    int32_t standbys;         /* of the last assignment */
    struct slice shutdown_by; /* own memory; null: nobody */
    int32_t interval_ms;      /* as the last heartbeat had it */
    struct group_timer initial;
    struct group_timer pause; /* set by an assignment: none before it */
    struct u64map active;     /* task_key -> struct streams_owner */
    struct map processes;
};

enum streams_state_of {
    STREAMS_MEMBER_STABLE,
    STREAMS_MEMBER_UNREVOKED,
    STREAMS_MEMBER_UNRELEASED
};

struct streams_member {
    struct list_node link, in_process;
    struct live_group *group;
    struct streams_process *process;
    struct slice id, instance_id, client_id, client_host, host; /* own memory; null: none */
    struct blob *rack;
    uint16_t port;
    struct streams_pair *tags; /* one block with their texts; NULL: none */
    unsigned tags_n;
    enum streams_state_of state;
    int32_t topology_epoch, epoch, previous_epoch, rebalance_ms;
    struct task_sets assigned, revoking, target;
    struct group_timer session, rebalance;
    int32_t rebalance_epoch; /* the epoch that the rebalance timer is for */
    size_t bytes;
};

/* ---- streams.c ---- */

void streams_heartbeat(struct turn *t, const struct group_streams_heartbeat *h,
                       struct group_wait_state *s);
enum err streams_commit_check(struct turn *t, const struct group_member *m);
void streams_drop_first(struct turn *t);
void streams_fini(struct live_group *g); /* of a group without members */
/* Is it a streams group, with members or without? */
bool streams_group(struct turn *t, struct slice group);

/* ---- streams_look.c ---- */

enum group_state streams_state(const struct live_group *g);
void streams_describe(const struct live_group *g, struct group_description *d, struct arena *a);
enum err streams_images(const struct live_group *g, struct buf *members, struct buf *assignment);
/* Fills what an answer says of tasks and of endpoints. */
void streams__tasks(struct arena *a, const struct streams_group *sg, const struct task_sets *sets,
                    const struct streams_tasks *out[STREAMS_ROLES], unsigned n[STREAMS_ROLES]);
/* Nothing of endpoints, when they take more than LIMIT_STREAMS_ENDPOINTS. */
void streams__endpoints(struct arena *a, const struct live_group *g,
                        struct group_streams_result *r);
/* The topics that are missing, as they are to be made. */
void streams__missing(struct arena *a, const struct streams_group *sg,
                      struct group_streams_result *r);

/* ---- streams_topology.c ---- */

/* ERR_STREAMS_TOPOLOGY, ERR_TOO_LARGE, ERR_INVALID with a sentence. */
enum err streams_topology_check(const struct streams_topology *tp, struct errinfo *info);
/* The group, which has none, takes a copy. ERR_COORDINATOR: no memory for it. */
enum err streams_topology_take(struct live_group *g, const struct streams_topology *tp);
bool streams_topology_same(const struct streams_group *sg, const struct streams_topology *tp);
/* Takes into account how the broker's topics have changed. *changed: the group's topics are others
 * than before. ERR_STREAMS_TOPOLOGY: there is no way to run it. ERR_COORDINATOR: no memory. */
enum err streams_topology_refresh(struct live_group *g, int32_t standbys, bool *changed,
                                  struct errinfo *info);
void streams_topology_fini(struct live_group *g);
/* -1: there is none. */
int32_t streams_sub_find(const struct streams_group *sg, struct slice id);
/* Does a task read the topic? */
bool streams_reads(const struct live_group *g, struct slice topic);
/* The *at-th task that reads the partition; *at grows. */
bool streams_task_of(const struct streams_group *sg, struct slice topic, int32_t partition,
                     uint32_t *at, struct topic_part *out);
static inline bool streams_stateful(const struct streams_sub *s)
{
    return s->def->changelogs_n > 0;
}

static inline struct streams_member *streams_first(const struct live_group *g)
{
    return list_empty(&g->list) ? NULL : list_entry(g->list.node.next, struct streams_member, link);
}

static inline struct streams_member *streams_next(const struct live_group *g,
                                                  const struct streams_member *m)
{
    struct list_node *n = m->link.next;

    return n == &g->list.node ? NULL : list_entry(n, struct streams_member, link);
}

static inline void task_sets_fini(struct task_sets *s)
{
    unsigned r;

    for (r = 0; r < STREAMS_ROLES; r++)
        part_set_fini(&s->of[r]);
}

static inline bool task_sets_same(const struct task_sets *a, const struct task_sets *b)
{
    unsigned r;

    for (r = 0; r < STREAMS_ROLES; r++)
        if (!part_set_same(&a->of[r], &b->of[r]))
            return false;
    return true;
}

#endif
