/* What headers of a message ask of a stream. See js_facts.c. Any thread. */
#ifndef WEIR_PROTO_NATS_JS_FACTS_H
#define WEIR_PROTO_NATS_JS_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum jrollup { JROLLUP_NONE, JROLLUP_SUBJECT, JROLLUP_ALL };

/* What the stream keeps in mind of a message besides its text. */
struct jfacts {
    struct slice subject;
    struct slice msg_id; /* of Nats-Msg-Id; empty: none */
    uint32_t bytes;      /* as jstream_msg_bytes */
    int64_t time_ms;
    int64_t ttl_s; /* 0: none; -1: it does not go by the stream's age */
    enum jrollup rollup;
    struct jfacts_schedule {
        struct slice pattern,
            zone;              /* of a schedule; pattern empty: it is none. zone.ptr NULL: none */
        struct slice by, next; /* what a schedule made: its subject; when the next one is due */
    } schedule;
};

/* What a publisher wants; views of its headers. */
struct jwish {
    struct jfacts facts;
    struct slice expect_stream, expect_id, expect_for, rollup;
    uint64_t last_seq, subject_seq;
    struct slice stream_source;
    struct slice incr, sum, sum_sources; /* of a counter; sum …: what is stored, of jcounters_add */
    struct jwish_schedule {
        struct slice ttl, rollup, target, source;
    } schedule;                 /* … what it makes */
    struct slice batch, commit; /* of an atomic batch: its id; batch empty: it is of none */
    uint64_t batch_seq;
    bool has_last_seq, has_subject_seq, has_batch_seq;
    bool ttl_bad, rollup_bad;
};

/* One header whose name begins with "Nats-"; what is not valid is left out. */
void jfacts_header(struct jfacts *f, struct slice name, struct slice value);
void jwish_read(struct jwish *w, struct slice headers);
/* As nats-server counts what a message takes. */
uint32_t jstream_msg_bytes(size_t subject, size_t headers, size_t payload);
/* "5", "5s", "1h30m", "never" (-1): seconds, at least 1. False: it is none of those. */
bool jttl_read(struct slice s, int64_t *out);

#endif
