/* What the files of the coordinator share. Not for anyone else.
 *
 * A group that has members is a struct live_group, in the shard that its name hashes to; without
 * members it is only what group.c keeps of it. Everything about live groups is guarded by the lock
 * of their shard, except where said.
 *
 * A turn is one step of one group: it locks the shard, changes the group, and gathers answers and
 * what is to be made durable; turn_end unlocks, then hands the change to the journal and calls the
 * callbacks. An answer that tells a generation waits for the journal if the generation is not yet
 * durable: `durable` of the group, or what group.c has applied.
 *
 * Locks, in this order: shard lock, then items_lock and topics_lock of the broker, then waits_lock
 * (answers: whose callback runs). The journal is never called with one held. The writer thread
 * takes no shard lock, so that no computation under one can delay it. */
#ifndef WEIR_BROKER_COORDINATOR_INT_H
#define WEIR_BROKER_COORDINATOR_INT_H

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/coordinator.h"
#include "broker/streams.h"

#define GROUP_SHARDS    16u
#define TIMER_OFF       UINT32_MAX
#define MEMBER_ID_BYTES (LIMIT_MEMBER_ID + 1)

struct live_group;
struct turn;

/* ---- shared bytes: counted references, any thread ---- */

struct blob {
    atomic_uint refs;
    uint32_t len;
    uint8_t bytes[];
};
struct blob *blob_new(struct slice s);
struct blob *blob_ref(struct blob *x); /* NULL stays NULL */
void blob_unref(struct blob **x);
static inline struct slice blob_slice(const struct blob *x)
{
    return x ? slice_of(x->bytes, x->len) : slice_of("", 0);
}

/* Texts of a member: its own memory; null stays null. */
static inline struct slice text_own(struct slice s)
{
    uint8_t *copy;

    if (slice_is_null(s))
        return SLICE_NULL;
    copy = xmalloc(s.len + 1);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}
static inline void text_free(struct slice *s)
{
    free((void *)s->ptr);
    *s = SLICE_NULL;
}

/* A member's protocols, each name once. */
struct protocols {
    atomic_uint refs;
    unsigned n;
    size_t bytes;
    struct group_protocol p[];
};
struct protocols *protocols_new(const struct group_protocol *p, unsigned n);
struct protocols *protocols_ref(struct protocols *x);
void protocols_unref(struct protocols **x);
bool protocols_same(const struct protocols *a, const struct group_protocol *p, unsigned n);
/* The metadata under this name; a null slice if there is none. */
struct slice protocols_find(const struct protocols *x, struct slice name);

/* ---- timers: one heap a shard ---- */

struct group_timer {
    int64_t at_ms;
    uint32_t heap_at; /* TIMER_OFF: not running */
    struct live_group *group;
    void (*fire)(struct turn *t, struct group_timer *tm);
};
void group_timer_init(struct group_timer *tm, struct live_group *g,
                      void (*fire)(struct turn *t, struct group_timer *tm));
void group_timer_set(struct group_timer *tm, int64_t at_ms);
void group_timer_clear(struct group_timer *tm);

/* ---- answers ---- */

enum wait_kind { WAIT_JOIN, WAIT_SYNC, WAIT_CONSUMER, WAIT_STREAMS };
struct group_wait_state {
    struct list_node link; /* in a turn's or a change's answers, once it is given */
    struct group_wait *w;  /* waits_lock; NULL: cancelled */
    enum wait_kind kind;
    union {
        group_join_fn join;
        group_sync_fn sync;
        group_consumer_fn consumer;
        group_streams_fn streams;
    } done;
    void *arg;
    int32_t generation; /* that it tells; -1 none */
    union {
        struct group_join_result join;
        struct group_sync_result sync;
        struct group_consumer_result consumer;
        struct group_streams_result streams;
    } r;
    struct arena arena;      /* what r points to */
    struct protocols **held; /* and metadata, by reference; in the arena */
    unsigned held_n;
    struct blob *blob;
};
struct group_wait_state *wait_new(enum wait_kind kind, struct group_wait *w, void *arg);
/* Copies into the answer's own memory; null stays null. */
struct slice wait_dup(struct group_wait_state *s, struct slice x);
void *wait_alloc(struct group_wait_state *s, size_t n, size_t size);
/* Gives the answer, which must be filled: ownership goes to the turn. */
void turn_answer(struct turn *t, struct group_wait_state *s);
/* An error as the answer. member_id may be null. */
void turn_answer_error(struct turn *t, struct group_wait_state *s, enum err e,
                       struct slice member_id, const char *text);

/* ---- groups ---- */

struct classic_member {
    struct list_node link; /* live_group.members, in order of joining */
    struct live_group *group;
    struct slice id, instance_id, client_id, client_host; /* in text */
    int32_t session_ms, rebalance_ms;
    struct protocols *protocols;
    struct blob *assignment; /* NULL: empty */
    bool is_new;             /* it has not been told its first generation */
    bool pending_sync;       /* its sync is awaited */
    /* Not NULL: it has joined, or synced, and waits; nobody may be listening any more. */
    struct group_wait_state *join_wait, *sync_wait;
    struct group_timer session;
    size_t bytes;
    char text[];
};

/* An id given to a member that is to join with it. */
struct pending_member {
    struct list_node link;
    struct slice id; /* in text */
    struct group_timer session;
    char text[];
};

struct classic_group {
    enum group_state state, previous;
    struct classic_member *leader;
    struct blob *protocol_type, *protocol; /* NULL: none */
    struct map protocols;                  /* name -> struct protocol_count */
    struct map pending;                    /* id -> struct pending_member */
    struct list_head pending_list;
    uint32_t awaiting_n, pending_sync_n;
    bool new_member; /* one joined during the initial delay */
    bool initial;    /* the join timer is that of the initial delay */
    int64_t delay_ms, remaining_ms;
    struct group_timer join, sync;
};

struct consumer_group; /* consumer_int.h */
struct streams_group;  /* streams_int.h */

struct live_group {
    struct shard *shard;
    struct broker *broker;
    enum group_kind kind;
    int32_t generation;   /* classic generation or group epoch */
    int32_t durable;      /* known to be durable */
    int64_t empty_ms;     /* wall clock, as group_durable.empty_ms was when it was made */
    struct map members;   /* id -> struct classic_member or consumer_member */
    struct map instances; /* instance id -> the same */
    struct list_head list;
    struct group_timer image; /* the published texts are to be written */
    struct classic_group classic;
    struct consumer_group *consumer; /* NULL: never was one */
    struct streams_group *streams;   /* NULL: never was one */
    size_t name_len;
    char name[];
};
static inline struct slice live_name(const struct live_group *g)
{
    return slice_of(g->name, g->name_len);
}
/* A member of either kind, found by its id and, unless that is null, by its instance id. Both must
 * stay where they are until live_unindex. */
void live_index(struct live_group *g, struct slice id, struct slice instance_id, void *member);
void live_unindex(struct live_group *g, struct slice id, struct slice instance_id);
enum group_state live_state(const struct live_group *g); /* group_calls.c */

/* Whether a group of this kind may have members of the classic protocol. */
static inline bool kind_speaks_classic(enum group_kind k)
{
    return k == GROUP_CLASSIC || k == GROUP_CONSUMER;
}

struct shard {
    struct io_mutex lock;
    struct map groups;
    struct group_timer **heap;
    uint32_t heap_n, heap_cap;
};

struct running; /* coordinator.c: a callback that is being called */

struct coordinator {
    struct broker *broker;
    struct group_conf conf; /* written with all shard locks held, read with one */
    struct shard shard[GROUP_SHARDS];
    _Atomic uint64_t bytes; /* of members and their groups */
    _Atomic uint32_t live;
    _Atomic bool draining;
    int64_t opened_ms; /* wall clock */
    struct io_mutex waits_lock;
    struct io_cond waits_cond;
    struct list_head running;        /* waits_lock */
    _Atomic int64_t retention_at_ms; /* the tick writes; 0: its first call sets it */
    /* What is due before this wakes who sleeps (groups_sleep). INT64_MIN: nobody sleeps, or it was
     * woken; INT64_MAX: it is looking when it has to. */
    _Atomic int64_t asleep_ms;
    struct io_mutex wake_lock; /* innermost */
    void (*wake)(void *arg);   /* wake_lock */
    void *wake_arg;            /* wake_lock */
};
/* Something was set to be done at this time: wakes who would sleep longer. */
void coordinator_due(struct coordinator *c, int64_t at_ms);

struct turn {
    struct broker *b;
    struct coordinator *c;
    struct shard *shard;
    struct live_group *g; /* NULL: no live group of this name */
    int64_t now_ms;
    struct list_head answers;
    bool persist; /* the generation is to be written even if nobody waits for it */
    bool image;   /* with it who is a member and has what, for the published table */
};
/* Locks. make: makes the group live, of this kind, if it is not; t->g stays NULL at the limits. */
void turn_begin(struct turn *t, struct broker *b, struct slice group, int64_t now_ms);
void turn_make(struct turn *t, struct slice group, enum group_kind kind);
/* The published texts are written soon, once for all changes until then. */
void turn_image_soon(struct turn *t);
/* Unlocks, makes durable, answers. Frees the group if it has no members left. */
void turn_end(struct turn *t);

struct coordinator *coordinator_new(struct broker *b);
void coordinator_free(struct coordinator **c);

/* Bytes come and go. take: false at the limit. */
bool coordinator_take(struct coordinator *c, size_t bytes);
void coordinator_give(struct coordinator *c, size_t bytes);
/* Writes prefix, "-" and a random UUID. */
struct slice member_id_make(struct broker *b, struct slice prefix, char out[MEMBER_ID_BYTES]);

/* ---- classic.c ---- */

void classic_init(struct live_group *g);
void classic_fini(struct live_group *g); /* of a group without members */
bool classic_idle(const struct live_group *g);
void classic_forget_pending(struct live_group *g);
void classic_join(struct turn *t, const struct group_join *j, struct group_wait_state *s);
void classic_sync(struct turn *t, const struct group_sync *y, struct group_wait_state *s);
enum err classic_heartbeat(struct turn *t, const struct group_member *m);
void classic_leave(struct turn *t, struct group_leaver *leavers, unsigned n);
enum err classic_commit_check(struct turn *t, const struct group_member *m, bool transactional);
/* Whether its members, all of protocol type "consumer", subscribe to the topic; true also when that
 * cannot be told. */
bool classic_subscribes(const struct live_group *g, struct slice topic);
bool classic_is_consumer_type(const struct live_group *g);
/* Answers all that wait, with ERR_COORDINATOR. */
void classic_drain(struct turn *t);
/* Removes a member without a rebalance; its waits are answered with e. */
void classic_drop(struct turn *t, struct classic_member *m, enum err e);
void classic_describe(const struct live_group *g, struct group_description *d, struct arena *a);

/* A member on its way from one kind of group to the other. */
struct moved_member {
    struct slice id, instance_id, client_id, client_host;
    struct protocols *protocols; /* referenced */
    struct blob *assignment;     /* referenced; NULL: none */
    int32_t session_ms, rebalance_ms;
};
/* A group whose members were all dropped, as new. */
void classic_settle(struct live_group *g);
/* A member that was one before; false: no memory. */
bool classic_adopt(struct turn *t, const struct moved_member *from);
/* After members were adopted: they are a stable group of protocol type "consumer", and are to join
 * again. */
void classic_rebalance(struct turn *t);

/* ---- subscription.c: what clients of protocol type "consumer" write ---- */

struct buf;
/* Whether a subscription's metadata names the topic; -1: it does not decode. */
int subscription_has(struct slice metadata, struct slice topic);
/* Calls back for each topic of a subscription, and each partition that it says is owned (version 1
 * and later). Returns its version; -1: it does not decode (there may have been calls). Either may be
 * NULL. */
int subscription_read(struct slice metadata, void (*topic)(void *arg, struct slice name),
                      void (*owned)(void *arg, struct slice name, int32_t partition), void *arg);
bool assignment_read(struct slice assignment,
                     void (*part)(void *arg, struct slice name, int32_t partition), void *arg);
/* An assignment as JSON {"topic":[0,1]}; false (nothing written) if it does not decode. */
bool assignment_json(struct slice assignment, struct buf *out);
/* Parts of the published texts: one of the list of members (instance_id null: none), and a member's
 * key in the map of assignments. */
enum err json_member(struct buf *out, bool first, struct slice id, struct slice instance_id,
                     struct slice client_id, struct slice client_host);
enum err json_member_key(struct buf *out, bool first, struct slice id);
/* Texts for the published table: of all members and their assignments; empty when too large. */
void group_images(const struct live_group *g, struct buf *members, struct buf *assignment);

/* ---- group_retention.c ---- */

/* Deletes offsets that nobody asked for in offsets_retention_minutes, and groups without any. */
void groups_retention(struct broker *b, int64_t wall_ms);

#endif
