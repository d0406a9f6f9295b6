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
 * A job is written by the thread that ends it, and read by reply, which runs once on the loop: what
 * is not over by then answers ERR_TIMEOUT. The request's memory stays until all jobs have ended. */
#ifndef WEIR_PROTO_KAFKA_ADMIN_INT_H
#define WEIR_PROTO_KAFKA_ADMIN_INT_H

#include "proto/kafka/kafka_int.h"

struct kgather;

struct kgather_job {
    struct kgather *g;
    atomic_bool begun, ended;
    enum err err; /* with its text: once it has ended */
    struct errinfo info;
};

struct kgather {
    struct kreq *q;
    void *state; /* the handler's */
    void (*reply)(struct kreq *q);
    struct kgather_job *jobs;
    uint32_t jobs_n;
    atomic_uint pending; /* jobs under way, and 1 until kgather_wait */
    struct loop_timer timer;
    bool answered;
};

/* NULL: there is no room, and the request is over. */
struct kgather *kgather_new(struct kreq *q, uint32_t n, void (*reply)(struct kreq *q), void *state);
void kgather_begin(struct kgather_job *job);
/* Any thread; a broker_done_fn. */
void kgather_done(void *job, enum err e, const struct errinfo *info);
void kgather_wait(struct kgather *g, int32_t timeout_ms);
/* How a job ended, for reply: its code, and *message (null without an error). A job that never
 * began is no error. */
int16_t kgather_result(struct kreq *q, struct kgather_job *job, struct slice *message);

/* The code of one of our errors, as administration has it: a limit that is reached does not pass by
 * waiting. */
int16_t kafka_admin_code(enum err e);

enum kafka_admin_error {
    KE_POLICY_VIOLATION = 44,
};
enum kafka_config_source { /* DescribeConfigsResponse.ConfigSource */
                           KSOURCE_TOPIC = 1,
                           KSOURCE_STATIC_BROKER = 4,
                           KSOURCE_DEFAULT = 5,
};

enum kname { KNAME_ONCE, KNAME_FIRST, KNAME_AGAIN };
/* Which of the names come more than once: out has KNAME_FIRST for the first such and KNAME_AGAIN for
 * the others. NULL: there is no room, and the request is over. */
uint8_t *kafka_names_count(struct kreq *q, const struct slice *names, uint32_t n);

#endif
