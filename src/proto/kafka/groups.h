/* What the handlers of groups share. Not for anyone else. */
#ifndef WEIR_PROTO_KAFKA_GROUPS_H
#define WEIR_PROTO_KAFKA_GROUPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "broker/coordinator.h"

struct kreq;

/* The coordinator's clock, monotonic milliseconds. */
int64_t kafka_groups_now(struct kreq *q);
/* The code of what the coordinator answered. */
int16_t kafka_group_code(enum err e);

/* Where the member is: "/ADDRESS", as Kafka says it. */
struct slice kafka_client_host(struct kreq *q);

/* An answer awaited; in the request's arena (groups.c says how). */
struct kafka_wait {
    struct group_wait w;
    void (*reply)(struct kreq *q); /* on the loop */
    void (*drop)(void *copy);      /* NULL: free */
    const void *of;                /* the handler's own */
    atomic_bool answered;          /* copy is there, reply posted */
    void *copy;                    /* heap; the rest of the answer behind a struct of its own */
};
/* NULL: there is no room, the request is over. */
struct kafka_wait *kafka_wait_new(struct kreq *q, void (*reply)(struct kreq *q));
/* The answer is there. Any thread. q is not touched afterwards. */
void kafka_wait_copied(struct kreq *q, void *copy);

/* May the client see every topic that the members speak of: that they subscribe to, have, or are to
 * have? */
bool kafka_group_topics_allowed(struct kreq *q, const struct group_description *d);
/* What is kept of the topology of a streams group without members; NULL: nothing. */
const struct streams_description *kafka_streams_kept(struct kreq *q, struct slice group);

#endif
