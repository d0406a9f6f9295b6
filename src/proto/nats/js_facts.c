/* Headers by which publishers ask things of a stream. Source: NATS ADR-8, ADR-43 and what
 * nats-server accepts. */
#include "proto/nats/js_facts.h"

#include "proto/nats/js_header.h"
#include "proto/nats/js_words.h"
#include "proto/nats/parse.h"

#define S_NS 1000000000

uint32_t jstream_msg_bytes(size_t subject, size_t headers, size_t payload)
{
    size_t n = 30 + subject + (headers ? headers + 4 : 0) + payload;

    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

bool jttl_read(struct slice s, int64_t *out)
{
    int64_t ns, n = nats_number(s);

    if (slice_eq_str(s, "never")) {
        *out = -1;
        return true;
    }
    if (n < 0) {
        if (!jduration_read(s, &ns))
            return false;
        n = ns / S_NS;
    }
    if (n < 1)
        return false;
    *out = n;
    return true;
}

/* ---- headers ---- */

static bool rollup_read(struct slice v, enum jrollup *out)
{
    if (slice_eq_str(v, "sub"))
        *out = JROLLUP_SUBJECT;
    else if (slice_eq_str(v, "all"))
        *out = JROLLUP_ALL;
    else
        return false;
    return true;
}

static void schedule_header(struct jfacts_schedule *s, struct slice name, struct slice value)
{
    if (slice_eq_str(name, "Nats-Schedule"))
        s->pattern = value;
    else if (slice_eq_str(name, "Nats-Schedule-Time-Zone"))
        s->zone = value;
    else if (slice_eq_str(name, "Nats-Scheduler"))
        s->by = value;
    else if (slice_eq_str(name, "Nats-Schedule-Next"))
        s->next = value;
}

void jfacts_header(struct jfacts *f, struct slice name, struct slice value)
{
    if (slice_has_prefix(name, SLICE_LIT("Nats-Schedule")))
        schedule_header(&f->schedule, name, value);
    else if (slice_eq_str(name, "Nats-Msg-Id"))
        f->msg_id = value;
    else if (slice_eq_str(name, "Nats-TTL"))
        jttl_read(value, &f->ttl_s);
    else if (slice_eq_str(name, "Nats-Rollup"))
        rollup_read(value, &f->rollup);
}

static void wish_schedule(struct jwish *w, struct slice name, struct slice value)
{
    if (slice_eq_str(name, "Nats-Schedule-TTL"))
        w->schedule.ttl = value;
    else if (slice_eq_str(name, "Nats-Schedule-Rollup"))
        w->schedule.rollup = value;
    else if (slice_eq_str(name, "Nats-Schedule-Target"))
        w->schedule.target = value;
    else if (slice_eq_str(name, "Nats-Schedule-Source"))
        w->schedule.source = value;
    else
        schedule_header(&w->facts.schedule, name, value);
}

/* A sequence that is expected. What is no number is none that a stream has: the message is refused, for
 * whoever sent it meant to guard it. */
static bool expected_read(struct slice value, uint64_t *out)
{
    if (value.len && !nats_u64(value, out))
        *out = UINT64_MAX;
    return value.len > 0;
}

static void wish_header(struct jwish *w, struct slice name, struct slice value)
{
    if (slice_has_prefix(name, SLICE_LIT("Nats-Schedule")))
        wish_schedule(w, name, value);
    else if (slice_eq_str(name, "Nats-Incr"))
        w->incr = value;
    else if (slice_eq_str(name, "Nats-Stream-Source"))
        w->stream_source = value;
    else if (slice_eq_str(name, "Nats-Msg-Id"))
        w->facts.msg_id = value;
    else if (slice_eq_str(name, "Nats-Expected-Stream"))
        w->expect_stream = value;
    else if (slice_eq_str(name, "Nats-Expected-Last-Msg-Id"))
        w->expect_id = value;
    else if (slice_eq_str(name, "Nats-Expected-Last-Sequence"))
        w->has_last_seq = expected_read(value, &w->last_seq);
    else if (slice_eq_str(name, "Nats-Expected-Last-Subject-Sequence"))
        w->has_subject_seq = expected_read(value, &w->subject_seq);
    else if (slice_eq_str(name, "Nats-Expected-Last-Subject-Sequence-Subject"))
        w->expect_for = value;
    else if (slice_eq_str(name, "Nats-Batch-Id"))
        w->batch = value;
    else if (slice_eq_str(name, "Nats-Batch-Sequence"))
        w->has_batch_seq = nats_u64(value, &w->batch_seq);
    else if (slice_eq_str(name, "Nats-Batch-Commit"))
        w->commit = value;
    else if (slice_eq_str(name, "Nats-TTL"))
        w->ttl_bad = !jttl_read(value, &w->facts.ttl_s);
    else if (slice_eq_str(name, "Nats-Rollup")) {
        w->rollup = value;
        w->rollup_bad = !rollup_read(value, &w->facts.rollup);
    }
}

void jwish_read(struct jwish *w, struct slice headers)
{
    struct slice name, value;

    while (nheader_next(&headers, &name, &value))
        if (slice_has_prefix(name, SLICE_LIT("Nats-")))
            wish_header(w, name, value);
}
