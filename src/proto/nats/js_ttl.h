/* Times to live of messages: which go when, apart from the stream's age. One thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_TTL_H
#define WEIR_PROTO_NATS_JS_TTL_H

#include "base/map.h"

#define JTTL_NEVER INT64_MAX

struct jttl {
    int64_t ms;
    uint64_t seq;
};

struct jttls {
    struct jttl *due; /* a heap: the first one goes first */
    size_t n, cap;
    struct u64map lasting; /* messages that do not go by the stream's age */
};

void jttls_init(struct jttls *t);
void jttls_fini(struct jttls *t);
/* This message goes at this time; JTTL_NEVER: not even by the stream's age. */
void jttls_put(struct jttls *t, uint64_t seq, int64_t ms);
/* Takes out one that is due; 0: none is. */
uint64_t jttls_take(struct jttls *t, int64_t now_ms);
/* When the next one is due, or JTTL_NEVER. */
int64_t jttls_next(const struct jttls *t);
bool jttls_lasting(const struct jttls *t, uint64_t seq);
/* It is gone. One that goes at a time is forgotten by jttls_sweep, or at that time. */
void jttls_removed(struct jttls *t, uint64_t seq);
/* Whether so many are kept, of a stream of so many messages, that most of them are gone … */
bool jttls_stale(const struct jttls *t, uint64_t msgs);
/* … then all of those are forgotten. */
void jttls_sweep(struct jttls *t, bool (*there)(void *arg, uint64_t seq), void *arg);

#endif
