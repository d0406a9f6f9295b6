/* Produce: batches are checked and handed to the broker as they are, all partitions of a request in
 * one unit; the answer comes when they are durable, whatever acks says (acks=0: there is none, and
 * an error closes the connection, as Kafka does).
 *
 * A batch that takes long to check, for it is large or inflates to much, is checked (and packed
 * again, if its topic's compression.type says so) by a worker thread, one of a connection at a time;
 * the request goes on from there when the worker is done. So batches are taken in the order of the
 * requests and of their partitions, whoever checks them.
 *
 * When too much is in flight the request is tried again shortly, and the connection's later ones
 * wait behind it: TCP pushes back. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/batch_recode.h"
#include "broker/tier.h"
#include "journal/journal.h"
#include "proto/kafka/kafka_int.h"
#include "proto/kafka/txn_codes.h"

#define RETRY_MS     2u
#define SCRATCH_KEPT (256u << 10)

/* Versions that are the first which know it. */
#define ZSTD_SINCE      7
#define ABORTABLE_SINCE 11 /* TRANSACTION_ABORTABLE */
#define STARTS_SINCE    12 /* batches that begin their transaction */

struct part {
    struct partition *p;
    struct append_slot slot;
    int16_t code;
    struct slice text; /* of the error; null: none */
    uint8_t *own;      /* the batch, if it was packed again */
    bool added, transactional;
    struct kafka_produce_response_record_error *bad; /* records for which it is refused */
    uint32_t bad_n;
};

struct produce {
    struct kafka_produce_request m;
    struct append *a;
    struct part *parts;    /* in the request's order */
    struct topic **topics; /* of each of the request's topics; referenced */
    uint32_t parts_n;
    uint32_t topic_at, part_at, taken; /* of the request: what is to be looked at next; batches */
    struct part *at;                   /* its result */
    /* of the batch at topic_at, part_at, if a worker checks it, which has these until it posts */
    struct work work;
    bool away, checked; /* it does; it did */
    struct slice batch;
    struct topic *topic;
    struct batch_checked is;
    struct slice own; /* null, or it packed again */
    struct errinfo why;
    enum err check_err;
    int16_t code; /* of topic_at */
    enum err e;
    struct loop_timer retry;
    struct kreq *q;
};

static void reply(struct kreq *q);

/* ---- taking batches ---- */

static int16_t refused_code(enum err e)
{
    switch (e) {
    case ERR_LIMIT:
        return KE_INVALID_REQUEST;
    default:
        return kafka_code(e);
    }
}

static void produce_go(struct kreq *q);

static void check_done(struct kreq *q)
{
    struct produce *pr = q->state_of;

    pr->away = false;
    pr->checked = true;
    produce_go(q);
}

/* Checks a batch, and packs it again if that is wanted. */
static enum err take(struct produce *pr, struct topic *t, struct slice batch, bool quick,
                     struct buf *scratch, struct errinfo *info)
{
    enum err e = batch_check(t, batch, quick, scratch, &pr->is, info);

    pr->own = SLICE_NULL;
    return e ? e : batch_recode(t, batch, scratch, &pr->is, &pr->own, info);
}

/* A worker. */
static void check_run(struct work *w)
{
    struct produce *pr = (struct produce *)((char *)w - offsetof(struct produce, work));
    struct buf scratch;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    pr->check_err = take(pr, pr->topic, pr->batch, false, &scratch, &pr->why);
    buf_fini(&scratch);
    kreq_post(pr->q, check_done);
}

/* ERR_AGAIN: a worker is at it. */
static enum err check(struct kreq *q, struct produce *pr, struct topic *t, struct slice batch,
                      struct errinfo *info)
{
    struct kloop *kl = q->kl;
    enum err e;

    if (pr->checked) {
        pr->checked = false;
        *info = pr->why;
        return pr->check_err;
    }
    e = take(pr, t, batch, true, &kl->scratch, info);
    if (kl->scratch.cap > SCRATCH_KEPT)
        buf_fini(&kl->scratch);
    if (e != ERR_AGAIN)
        return e;
    pr->away = true;
    pr->batch = batch;
    pr->topic = t;
    pr->work.fn = check_run;
    workers_run(q->k->readers, &pr->work);
    return ERR_AGAIN;
}

/* What an answer of this version says of a batch that was not written. */
static int16_t part_code(const struct kreq *q, const struct part *o, enum err e)
{
    if (e == ERR_TXN_STATE && o->transactional && q->version >= ABORTABLE_SINCE)
        return KE_TRANSACTION_ABORTABLE;
    return refused_code(e);
}

/* What the broker does not look at: what the request is to say of its batch. */
static int16_t request_fits(const struct kreq *q, const struct produce *pr,
                            const struct batch_info *bi, struct slice *text)
{
    if (bi->attributes & BATCH_TRANSACTIONAL && slice_is_null(pr->m.transactional_id)) {
        *text = SLICE_LIT("a transactional batch comes with its transactional id");
        return KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    }
    if ((bi->attributes & BATCH_CODEC_MASK) == CODEC_ZSTD && q->version < ZSTD_SINCE) {
        *text = SLICE_LIT("zstd comes with version 7 of Produce, or a later one");
        return kafka_code(ERR_UNSUPPORTED);
    }
    return KE_NONE;
}

/* Tells which records the batch was refused for (KIP-467), if there is room to: the request goes on
 * without. */
static void part_bad(struct kreq *q, const struct batch_checked *is, struct part *o)
{
    uint32_t i;

    if (is->bad_n == 0 || !(o->bad = arena_zalloc(&q->arena, is->bad_n, sizeof *o->bad)))
        return;
    for (i = 0; i < is->bad_n; i++) {
        kafka_produce_response_record_error_init(&o->bad[i]);
        o->bad[i].batch_index = is->bad[i];
    }
    o->bad_n = is->bad_n;
}

/* False: not yet. */
static bool part_add(struct kreq *q, struct produce *pr, struct topic *t, struct part *o,
                     const struct kafka_produce_request_partition *m)
{
    struct slice batch = m->records.bytes;
    struct errinfo info = {0};
    enum err e;

    o->p = topic_partition(t, m->index);
    if (!o->p) {
        o->code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        return true;
    }
    if (batch.len == 0) {
        o->code = 87;
        o->text = SLICE_LIT("there is no record batch");
        return true;
    }
    e = check(q, pr, t, batch, &info);
    if (e == ERR_AGAIN)
        return false;
    if (!e) {
        o->own = (uint8_t *)(uintptr_t)pr->own.ptr;
        o->transactional = pr->is.info.attributes & BATCH_TRANSACTIONAL;
        o->code = request_fits(q, pr, &pr->is.info, &o->text);
        if (o->code) {
            free(o->own);
            o->own = NULL;
            return true;
        }
        batch = o->own ? pr->own : batch;
        e = append_checked_batch(pr->a, o->p, batch, &pr->is, &o->slot, &info);
    }
    o->added = !e;
    if (e) {
        free(o->own);
        o->own = NULL;
        o->code = refused_code(e);
        o->text = kreq_printf(q, "%s", info.text);
        if (e == ERR_RECORD || e == ERR_TIMESTAMP)
            part_bad(q, &pr->is, o);
    }
    return true;
}

static struct topic *topic_of(struct kreq *q, const struct kafka_produce_request_topic *m,
                              int16_t *code)
{
    struct topic *t = kafka_topic(q, m->name, m->topic_id, q->version >= 13, code);

    if (t && !kafka_allowed(q, KOP_WRITE, KRES_TOPIC, slice_str(topic_name(t)))) {
        *code = KE_TOPIC_AUTHORIZATION_FAILED;
        topic_unref(&t);
    }
    return t;
}

/* False: the rest is for the next turn, as batches take long to check, or for when a worker is
 * done. */
static bool parts_add(struct kreq *q, struct produce *pr)
{
    while (pr->topic_at < pr->m.topic_data_n) {
        const struct kafka_produce_request_topic *m = &pr->m.topic_data[pr->topic_at];
        struct topic **t = &pr->topics[pr->topic_at];

        if (pr->part_at == 0 && !pr->checked)
            *t = topic_of(q, m, &pr->code);
        if (pr->part_at < m->partition_data_n) {
            pr->at->code = pr->code;
            if (*t && !part_add(q, pr, *t, pr->at, &m->partition_data[pr->part_at]))
                return false;
            pr->taken += pr->at->added;
            pr->at++;
            pr->part_at++;
        }
        if (pr->part_at >= m->partition_data_n) {
            pr->topic_at++;
            pr->part_at = 0;
        }
        if (pr->topic_at < pr->m.topic_data_n && kreq_yield(q, produce_go))
            return false;
    }
    return true;
}

static void parts_refuse(struct produce *pr, int16_t code)
{
    uint32_t i;

    for (i = 0; i < pr->parts_n; i++)
        pr->parts[i].code = code;
}

/* ---- writing ---- */

static void written(struct append *a, void *arg, enum err e)
{
    struct kreq *q = arg;

    ((struct produce *)q->state_of)->e = e;
    kreq_post(q, reply);
}

static void submit(struct kreq *q)
{
    struct produce *pr = q->state_of;
    struct errinfo info = {0};
    enum err e = append_submit(pr->a, true, &info);
    uint32_t i;

    if (!e)
        return;
    if (e == ERR_OVERLOADED) {
        if (q->kc)
            q->kc->stalled = true;
        loop_timer_arm(q->kl->loop, &pr->retry, RETRY_MS);
        return;
    }
    for (i = 0; i < pr->parts_n; i++)
        if (pr->parts[i].added) {
            pr->parts[i].added = false;
            pr->parts[i].code = kafka_code(e);
            pr->parts[i].text = kreq_printf(q, "%s", info.text);
        }
    reply(q);
}

static void submit_again(struct kreq *q)
{
    if (q->kc)
        q->kc->stalled = false;
    submit(q);
    if (q->kc && !q->kc->stalled)
        kconn_go(q->kc);
}

static void retry(struct loop_timer *t)
{
    struct produce *pr = (struct produce *)((char *)t - offsetof(struct produce, retry));

    kreq_call(pr->q, submit_again);
}

/* ---- the answer ---- */

static void part_result(const struct kreq *q, struct produce *pr, struct part *o,
                        struct kafka_produce_response_partition *s)
{
    struct append_place place;
    enum err e;

    if (o->added) {
        e = append_place(pr->a, o->slot, &place);
        o->code = e ? part_code(q, o, e) : KE_NONE;
    }
    s->error_code = o->code;
    s->base_offset = -1;
    if (o->code) {
        s->error_message = o->text;
        s->record_errors = o->bad;
        s->record_errors_n = o->bad_n;
        return;
    }
    s->base_offset = place.offset;
    s->log_append_time_ms = place.log_time ? place.timestamp_ms : -1;
    s->log_start_offset = partition_start(o->p);
}

static bool response_fill(struct kreq *q, struct produce *pr, struct kafka_produce_response *s)
{
    struct part *o = pr->parts;
    uint32_t i, k;

    kafka_produce_response_init(s);
    s->responses = kreq_alloc(q, pr->m.topic_data_n, sizeof *s->responses);
    if (!s->responses)
        return false;
    s->responses_n = pr->m.topic_data_n;
    for (i = 0; i < s->responses_n; i++) {
        const struct kafka_produce_request_topic *m = &pr->m.topic_data[i];
        struct kafka_produce_response_topic *t = &s->responses[i];

        t->name = m->name;
        memcpy(t->topic_id, m->topic_id, 16);
        t->partition_responses = kreq_alloc(q, m->partition_data_n, sizeof *t->partition_responses);
        if (!t->partition_responses)
            return false;
        t->partition_responses_n = m->partition_data_n;
        for (k = 0; k < m->partition_data_n; k++, o++) {
            kafka_produce_response_partition_init(&t->partition_responses[k]);
            t->partition_responses[k].index = m->partition_data[k].index;
            part_result(q, pr, o, &t->partition_responses[k]);
        }
    }
    return true;
}

static void finish(struct kreq *q)
{
    struct produce *pr = q->state_of;
    uint32_t i;

    for (i = 0; pr->topics && i < pr->m.topic_data_n; i++)
        topic_unref(&pr->topics[i]);
    for (i = 0; i < pr->parts_n; i++)
        free(pr->parts[i].own);
    kloop_append_put(q->kl, pr->a);
    pr->a = NULL;
}

static bool any_error(const struct produce *pr)
{
    uint32_t i;

    for (i = 0; i < pr->parts_n; i++)
        if (pr->parts[i].code)
            return true;
    return false;
}

static void reply(struct kreq *q)
{
    struct produce *pr = q->state_of;
    struct kafka_produce_response s;
    bool ok = response_fill(q, pr, &s);

    finish(q);
    if (!ok)
        return;
    s.throttle_time_ms =
        (int32_t)kquota_charge(q->kc, KQUOTA_PRODUCE, q->head.client_id, (double)q->frame.len);
    if (pr->m.acks != 0) {
        KREQ_REPLY(q, produce, &s);
    } else if (any_error(pr)) {
        kreq_fail(q, ERR_INVALID);
    } else {
        q->mute = true;
        kreq_done(q);
    }
}

/* ---- the request ---- */

/* Before anything is taken. */
static int16_t request_code(struct kreq *q, const struct kafka_produce_request *m)
{
    if (m->acks < -1 || m->acks > 1)
        return KE_INVALID_REQUIRED_ACKS;
    if (!slice_is_null(m->transactional_id) &&
        !kafka_allowed(q, KOP_WRITE, KRES_TRANSACTIONAL_ID, m->transactional_id))
        return KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    return KE_NONE;
}

/* Takes the batches, and hands them over when they all are. Requests behind it wait until then, as
 * the order of their batches is that of the requests. */
static void produce_go(struct kreq *q)
{
    struct produce *pr = q->state_of;
    struct kconn *kc = q->kc;
    bool all = parts_add(q, pr), waited = kc && kc->stalled;

    if (kc)
        kc->stalled = !all;
    if (!all)
        return;
    if (pr->taken)
        submit(q);
    else
        reply(q);
    if (waited && !kc->stalled)
        kconn_go(kc);
}

void kafka_on_produce(struct kreq *q)
{
    struct produce *pr = kreq_alloc(q, 1, sizeof *pr);
    int16_t code;
    uint32_t i;

    if (!pr || !KREQ_DECODE(q, produce, &pr->m))
        return;
    q->state_of = pr;
    pr->q = q;
    loop_timer_init(&pr->retry, retry);
    for (i = 0; i < pr->m.topic_data_n; i++)
        pr->parts_n += pr->m.topic_data[i].partition_data_n;
    pr->parts = kreq_alloc(q, pr->parts_n, sizeof *pr->parts);
    if (!pr->parts || !(pr->topics = kreq_alloc(q, pr->m.topic_data_n, sizeof *pr->topics)))
        return;
    pr->a = kloop_append_get(q, written);
    code = request_code(q, &pr->m);
    if (q->version >= STARTS_SINCE)
        append_txn_starts(pr->a);
    append_txn_name(pr->a, pr->m.transactional_id);
    pr->at = pr->parts;
    if (!code) {
        produce_go(q);
        return;
    }
    parts_refuse(pr, code);
    reply(q);
}
