/* What the handlers of administration share. Not for anyone else.
 *
 * kgather: changes that one request asks for, under way at the same time: the request is answered when all of
 * them are durable, or when the time that the client gives is over.
 *
 *   g = kgather_new(q, n, reply, state);       the handler, on the loop; q->state_of is g from then on
 *   kgather_begin(&g->jobs[i]);                for each change that it starts
 *   e = topic_create(…, kgather_done, &g->jobs[i], &info);
 *   if (e)
 *       kgather_done(&g->jobs[i], e, &info);
 *   kgather_wait(g, timeout_ms);               last: reply(q) may run before it returns
 *
 * A change that cannot start yet (ERR_CONFLICT: another one of the same thing is on its way) is tried
 * again by kgather_again, which calls the function on the loop a moment later, until time is up.
 *
 * A job is written by the thread that ends it, and read by reply, which runs once on the loop: what
 * is not over by then answers ERR_TIMEOUT. The request's memory stays until all jobs have ended. */
#ifndef WEIR_PROTO_KAFKA_ADMIN_INT_H
#define WEIR_PROTO_KAFKA_ADMIN_INT_H

#include "proto/kafka/kafka_int.h"

#define KAFKA_NODE_TEXT "1" /* KAFKA_NODE_ID, as a resource is named */

struct kgather;

struct kgather_job {
    struct kgather *g;
    struct kgather_job *next; /* that waits to be tried again */
    void (*again)(struct kgather_job *job);
    atomic_bool begun, ended;
    enum err err; /* with its text: once it has ended */
    struct errinfo info;
};

struct kgather {
    struct kreq *q;
    void *state; /* the handler's */
    void (*reply)(struct kreq *q);
    void (*ended)(struct kreq *q); /* all jobs have, before reply if there was time; may be NULL */
    struct kgather_job *jobs;
    uint32_t jobs_n;
    atomic_uint pending; /* jobs under way, and 1 until kgather_wait */
    struct loop_timer timer, retry;
    struct kgather_job *waiting;
    bool answered;
};

/* NULL: there is no room, and the request is over. */
struct kgather *kgather_new(struct kreq *q, uint32_t n, void (*reply)(struct kreq *q), void *state);
void kgather_begin(struct kgather_job *job);
/* Any thread; a broker_done_fn. */
void kgather_done(void *job, enum err e, const struct errinfo *info);
/* On the loop, for a job that has begun. */
void kgather_again(struct kgather_job *job, void (*fn)(struct kgather_job *job));
void kgather_wait(struct kgather *g, int32_t timeout_ms);
/* How a job ended, for reply: its code, and *message (null without an error). A job that never
 * began is no error. */
int16_t kgather_result(struct kreq *q, struct kgather_job *job, struct slice *message);

/* The code of one of our errors, as administration has it: a limit that is reached does not pass by
 * waiting. */
int16_t kafka_admin_code(enum err e);

enum kafka_admin_error {
    KE_POLICY_VIOLATION = 44,
    KE_ELECTION_NOT_NEEDED = 84,
    KE_NO_REASSIGNMENT_IN_PROGRESS = 85,
};
enum kafka_config_source { /* DescribeConfigsResponse.ConfigSource */
                           KSOURCE_TOPIC = 1,
                           KSOURCE_STATIC_BROKER = 4,
                           KSOURCE_DEFAULT = 5,
                           KSOURCE_GROUP = 8,
};

/* May a partition be placed on these brokers? There is only this one. */
int16_t kafka_replicas_check(struct kreq *q, const int32_t *ids, uint32_t n, struct slice *message);

enum kname { KNAME_ONCE, KNAME_FIRST, KNAME_AGAIN };
/* Which of the names come more than once: out has KNAME_FIRST for the first such and KNAME_AGAIN for
 * the others. NULL: there is no room, and the request is over. */
uint8_t *kafka_names_count(struct kreq *q, const struct slice *names, uint32_t n);

#endif
