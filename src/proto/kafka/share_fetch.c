/* ShareFetch: acquires records for a member of a share group, and sends the batches that they are
 * in, as they are stored. Facts: Apache Kafka 4.2 (KafkaApis, SharePartitionManager, SharePartition).
 *
 * A request goes through these, each of which may wait: the acknowledgements that came with it are
 * settled (fetch_acked), cursors that are not there yet are made (fetch_made), and records are taken
 * (fetch_try), again and again until there are some or the client's time is over. Whatever was taken
 * is sent at once, for leases run: min_bytes is no reason to wait then.
 *
 * What is in memory is looked at on the loop. What is to be read from a file is read by a thread
 * (work.c), which touches `have` alone meanwhile; then the loop looks again.
 *
 * Where a log has no record for an offset (compacted, a marker, aborted) the cursor is told, so a
 * client has to acknowledge gaps only within a batch. */
#include <stdlib.h>
#include <string.h>

#include "broker/producer.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/batch.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/share.h"

#define READ_BYTES  (256u << 10)
#define READS_MAX   64u /* of a partition, in one look */
#define WAIT_MS_MAX 60000
#define PIECES      64u

typedef struct kafka_share_fetch_response_acquired_records acquired;

/* A growing array in the request's arena. */
struct grown {
    void *v;
    uint32_t n, cap;
};

static void *grow(struct kreq *q, struct grown *g, size_t size)
{
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? g->cap * 2 : 8;
        void *more = kreq_alloc(q, cap, size);

        if (!more)
            return NULL;
        if (g->n)
            memcpy(more, g->v, g->n * size);
        g->v = more;
        g->cap = cap;
    }
    return (char *)g->v + g->n++ * size;
}

struct row {
    struct share_part *sp;
    uint8_t id[16];
    struct kafka_share_fetch_response_partition s;
    bool told; /* there is something to say */
};

struct share_fetch {
    struct kafka_share_fetch_request m;
    struct kreq *q;
    struct share_conf conf;
    struct share_session *ss; /* while there is a connection */
    struct share_acks acks;
    atomic_uint making; /* cursors, and 1 */
    struct row *rows;
    uint32_t rows_n;
    struct list_head reads; /* struct kread */
    struct have {           /* read, or to be read, by a thread */
        struct work work;
        struct topic *t; /* referenced; NULL: none */
        struct kread *kr;
        int32_t index;
        int64_t at;
        enum err e;
    } have;
    size_t bytes, max_bytes;
    uint32_t records;
    bool errors, armed;
    bool blocked; /* `have` is to be read */
    uint64_t deadline_ms, seen;
    struct topic *wait_topic; /* that of all rows; NULL: the whole broker is waited for */
    struct waiter waiter;
    atomic_bool woken;
    struct loop_timer timer;
};

static void fetch_try(struct kreq *q);

/* ---- taking ---- */

/* Pieces that lie next to each other are told as one, as long as the client wants them. */
static bool piece_add(struct share_fetch *f, struct grown *got, const struct cursor_taken *t)
{
    acquired *a = got->n ? (acquired *)got->v + got->n - 1 : NULL;

    if (a && a->last_offset + 1 == t->first && a->delivery_count == (int16_t)t->deliveries &&
        t->last - a->first_offset < f->m.batch_size) {
        a->last_offset = t->last;
        return true;
    }
    if (!(a = grow(f->q, got, sizeof *a)))
        return false;
    *a = (acquired){t->first, t->last, (int16_t)t->deliveries};
    return true;
}

/* One batch: its free records are the member's, and it is sent. False: no room, the request is over. */
static bool batch_take(struct share_fetch *f, struct row *row, struct grown *got,
                       struct grown *spans, int64_t from, const struct read_batch *b, int64_t now)
{
    uint32_t most = (uint32_t)f->m.max_records, pieces, n, i;
    struct cursor_taken piece[PIECES];
    struct kafka_span *span;
    bool any = false;

    do {
        uint32_t max = f->m.share_acquire_mode == 1 ? most - f->records : UINT32_MAX;

        pieces = cursor_take(row->sp->c, share_owner(f->ss), from, b->last_offset, max,
                             &f->conf.cursor, now, piece, PIECES, &n);
        for (i = 0; i < pieces; i++)
            if (!piece_add(f, got, &piece[i]))
                return false;
        f->records += n;
        any = any || pieces;
        from = pieces ? piece[pieces - 1].last + 1 : from;
    } while (pieces == PIECES && f->records < most);
    if (!any)
        return true;
    if (!(span = grow(f->q, spans, sizeof *span)))
        return false;
    *span = (struct kafka_span){b->data, NULL};
    f->bytes += b->data.len;
    return true;
}

/* Markers, and what was aborted, have nothing for those who read committed records; markers have
 * nothing for anybody. */
static bool batch_void(const struct share_fetch *f, struct partition *p, const struct read_batch *b)
{
    struct batch_info bi;

    if (batch_parse(b->data, &bi))
        return false;
    return bi.attributes & BATCH_CONTROL ||
           (f->conf.committed && bi.attributes & BATCH_TRANSACTIONAL &&
            partition_aborted_batch(p, bi.producer_id, bi.base_offset));
}

static bool full(const struct share_fetch *f)
{
    return f->records >= (uint32_t)f->m.max_records || (f->bytes && f->bytes >= f->max_bytes);
}

/* What was read from offset `at` on. False: no room. */
static bool read_take(struct share_fetch *f, struct row *row, const struct plog_read *r, int64_t at,
                      int64_t end, struct grown *got, struct grown *spans)
{
    struct partition *p = topic_partition(row->sp->t, row->sp->index);
    int64_t now = kafka_groups_now(f->q);
    unsigned i;

    for (i = 0; i < r->n && !full(f); i++) {
        const struct read_batch *b = &r->batch[i];
        int64_t from = b->base_offset > at ? b->base_offset : at;

        if (b->base_offset >= end)
            break;
        if (from > at)
            cursor_skip(row->sp->c, at, from - 1);
        if (batch_void(f, p, b))
            cursor_skip(row->sp->c, from, b->last_offset);
        else if (!batch_take(f, row, got, spans, from, b, now))
            return false;
        at = b->last_offset + 1;
    }
    return true;
}

static void have_drop(struct share_fetch *f)
{
    if (f->have.kr)
        list_push_back(&f->reads, &f->have.kr->link);
    f->have.kr = NULL;
    topic_unref(&f->have.t);
}

/* What a thread has read, if it is that, or from memory. ERR_AGAIN: a file is to be read; blocked is
 * set if nothing was taken so far that could be sent meanwhile. */
static enum err row_read(struct share_fetch *f, struct row *row, int64_t at, struct kread **out)
{
    struct partition *p = topic_partition(row->sp->t, row->sp->index);
    struct have *h = &f->have;
    struct errinfo info = {0};
    int64_t from = at;
    bool cold = false;
    enum err e = h->e;

    if (h->kr && h->t == row->sp->t && h->index == row->sp->index && h->at == at) {
        *out = h->kr;
        have_drop(f);
        return e;
    }
    *out = kread_get(f->q->kl, &f->reads);
    (*out)->r.memory_only = true;
    e = partition_read(p, &from, READ_BYTES, &(*out)->r, &cold, &info);
    if (e == ERR_AGAIN && !cold && f->records == 0) {
        have_drop(f);
        f->blocked = true;
        h->t = topic_ref(row->sp->t);
        h->index = row->sp->index;
        h->at = from;
    }
    return e;
}

static void row_take(struct share_fetch *f, struct row *row)
{
    struct partition *p = topic_partition(row->sp->t, row->sp->index);
    struct grown got = {NULL, 0, 0}, spans = {NULL, 0, 0};
    struct plog_info log;
    int64_t at, last = -1, end;
    unsigned reads;
    enum err e = ERR_OK;

    plog_info_get(partition_log(p), &log);
    end = f->conf.committed ? partition_lso(p) : log.end_offset;
    for (reads = 0; reads < READS_MAX && !full(f) && !e; reads++) {
        struct kread *kr;

        at = cursor_next(row->sp->c, &f->conf.cursor, kafka_groups_now(f->q));
        if (at < 0 || at >= end || at <= last)
            break;
        last = at;
        e = row_read(f, row, at, &kr);
        if (!e && !read_take(f, row, &kr->r, at, end, &got, &spans))
            return;
    }
    if (e && e != ERR_OFFSET_RANGE && e != ERR_AGAIN && !got.n)
        row->s.error_code = e == ERR_TOPIC_NOT_FOUND ? KE_UNKNOWN_TOPIC_ID : kafka_code(e);
    row->s.records.spans = spans.v;
    row->s.records.spans_n = spans.n;
    row->s.acquired_records = got.v;
    row->s.acquired_records_n = got.n;
}

/* ---- waiting ---- */

static void fetch_wake(struct waiter *w)
{
    struct share_fetch *f = list_entry(w, struct share_fetch, waiter);

    if (!atomic_exchange(&f->woken, true))
        kreq_post(f->q, fetch_try);
}

static void fetch_timeout(struct loop_timer *t)
{
    struct share_fetch *f = list_entry(t, struct share_fetch, timer);

    if (!atomic_exchange(&f->woken, true))
        fetch_try(f->q);
}

static void wait_cancel(struct share_fetch *f)
{
    waiter_cancel(&f->waiter);
    loop_timer_cancel(f->q->kl->loop, &f->timer);
    f->armed = false;
}

/* What was committed, or became free, before this is seen by the looks that follow. */
static void wait_note(struct share_fetch *f)
{
    f->seen = f->wait_topic ? topic_commits(f->wait_topic) : broker_commits(f->q->b);
}

/* False: something came meanwhile. */
static bool wait_arm(struct share_fetch *f, uint64_t now_ms)
{
    atomic_store(&f->woken, false);
    f->waiter.wake = fetch_wake;
    f->armed = true;
    if (f->wait_topic ? topic_wait(f->wait_topic, f->seen, &f->waiter)
                      : broker_wait(f->q->b, f->seen, &f->waiter)) {
        loop_timer_arm(f->q->kl->loop, &f->timer, f->deadline_ms - now_ms);
        return true;
    }
    f->armed = false;
    return false;
}

static void fetch_cancel(struct kreq *q)
{
    struct share_fetch *f = q->state_of;

    if (f->armed && !atomic_exchange(&f->woken, true))
        fetch_try(q);
}

/* ---- the answer ---- */

static void fetch_refuse(struct kreq *q, int16_t code)
{
    struct kafka_share_fetch_response s;

    kafka_share_fetch_response_init(&s);
    s.error_code = code;
    KREQ_REPLY(q, share_fetch, &s);
}

static void fetch_release(struct kreq *q)
{
    struct share_fetch *f = q->state_of;

    have_drop(f);
    kreads_put(q->kl, &f->reads);
    topic_unref(&f->wait_topic);
}

/* The outcomes of acknowledgements go to their partitions' rows; those of other partitions have
 * rows of their own behind them. */
static void acks_rows(struct share_fetch *f)
{
    uint32_t i, k;

    for (i = 0; i < f->acks.n; i++) {
        const struct share_ack *a = &f->acks.v[i];
        struct share_part *sp = share_part_find(f->ss, a->id, a->index);

        k = sp && sp->wanted ? sp->row : f->rows_n;
        if (k == f->rows_n) {
            f->rows_n++; /* there is room */
            kafka_share_fetch_response_partition_init(&f->rows[k].s);
            memcpy(f->rows[k].id, a->id, 16);
            f->rows[k].s.partition_index = a->index;
        }
        f->rows[k].told = true;
        f->rows[k].s.acknowledge_error_code = a->code;
    }
}

static void fetch_reply(struct share_fetch *f)
{
    struct kafka_share_fetch_response_partition *out;
    struct kafka_share_fetch_response_topic *t = NULL;
    struct kafka_share_fetch_response s;
    struct kreq *q = f->q;
    uint32_t i, n = 0;

    acks_rows(f);
    kafka_share_fetch_response_init(&s);
    s.acquisition_lock_timeout_ms = f->conf.cursor.lease_ms;
    if (!(s.responses = kreq_alloc(q, f->rows_n, sizeof *s.responses)) ||
        !(out = kreq_alloc(q, f->rows_n, sizeof *out)))
        return;
    for (i = 0; i < f->rows_n; i++) {
        struct row *row = &f->rows[i];

        if (!row->told && !row->s.error_code && !row->s.acquired_records_n)
            continue;
        if (row->s.acquired_records_n) { /* others first, next time */
            list_remove(&row->sp->link);
            list_push_back(&f->ss->order, &row->sp->link);
        }
        if (!t || memcmp(t->topic_id, row->id, 16) != 0) {
            t = &s.responses[s.responses_n++];
            memcpy(t->topic_id, row->id, 16);
            t->partitions = &out[n];
        }
        out[n++] = row->s;
        t->partitions_n++;
    }
    if (f->m.share_session_epoch == SHARE_EPOCH_LAST)
        share_session_close(q->kc, &f->ss);
    KREQ_REPLY(q, share_fetch, &s);
}

/* On a thread that reads. */
static void have_read(struct work *w)
{
    struct share_fetch *f = list_entry(w, struct share_fetch, have.work);
    struct have *h = &f->have;
    struct errinfo info = {0};

    h->e = plog_read(partition_log(topic_partition(h->t, h->index)), h->at, READ_BYTES, &h->kr->r,
                     &info);
    kreq_post(f->q, fetch_try);
}

static void have_go(struct share_fetch *f)
{
    struct kloop *kl = f->q->kl;

    kreads_put(kl, &f->reads);
    f->have.kr = kread_get(kl, &f->reads);
    list_remove(&f->have.kr->link);
    f->have.work.fn = have_read;
    workers_run(f->q->k->readers, &f->have.work);
}

/* Looks; answers if there is something, or it is time; else waits. */
static void fetch_try(struct kreq *q)
{
    struct share_fetch *f = q->state_of;
    uint64_t now;
    uint32_t i;

    if (f->armed)
        wait_cancel(f);
    while (q->kc) {
        wait_note(f);
        f->blocked = false;
        for (i = 0; i < f->rows_n && q->state != KREQ_DONE && !full(f) && !f->blocked; i++)
            if (!f->rows[i].s.error_code)
                row_take(f, &f->rows[i]);
        if (q->state == KREQ_DONE)
            return;
        if (f->blocked && !f->errors) {
            have_go(f);
            return;
        }
        now = loop_now_ms(q->kl->loop);
        if (f->records || f->errors || now >= f->deadline_ms) {
            fetch_reply(f);
            return;
        }
        have_drop(f);
        kreads_put(q->kl, &f->reads);
        if (wait_arm(f, now))
            return;
    }
    kreq_done(q);
}

/* ---- cursors ---- */

/* Where a cursor begins that is not there yet. ERR_AGAIN: it is being looked for among older records;
 * ERR_TIER. */
static enum err start_offset(const struct share_fetch *f, struct share_part *sp,
                             struct partition *p, int64_t *offset)
{
    struct plog_info now;
    enum err e = ERR_NOT_FOUND;

    plog_info_get(partition_log(p), &now);
    if (!sp->since_ms) /* the same when it is asked again, for it is found by it */
        sp->since_ms = io_wall_ms(broker_io(f->q->b)) - f->conf.reset_ms;
    if (f->conf.reset == SHARE_DURATION)
        e = partition_seek(p, TIER_BY_TIME, sp->since_ms, offset, NULL);
    if (e == ERR_AGAIN || e == ERR_TIER)
        return e;
    if (e)
        *offset = f->conf.reset == SHARE_EARLIEST ? partition_start(p) : now.end_offset;
    return ERR_OK;
}

static bool has_cursor(const struct share_fetch *f, const struct share_part *sp,
                       struct partition *p)
{
    struct cursor *c;
    bool there;

    if (sp->c)
        return true;
    c = cursor_find(f->q->b, f->ss->group, p);
    there = c != NULL;
    cursor_unref(&c);
    return there;
}

/* All that were to be made are, or not. On the loop. */
static void fetch_made(struct kreq *q)
{
    struct share_fetch *f = q->state_of;
    uint32_t i;

    for (i = 0; q->kc && i < f->rows_n; i++) {
        struct row *row = &f->rows[i];

        if (row->s.error_code || row->sp->c)
            continue;
        row->sp->c = cursor_find(q->b, f->ss->group, topic_partition(row->sp->t, row->sp->index));
        if (!row->sp->c) { /* the write failed; the client tries again */
            row->s.error_code = KE_COORDINATOR_NOT_AVAILABLE;
            f->errors = true;
        }
    }
    fetch_try(q);
}

/* Any thread. */
static void cursor_made(void *arg, enum err e, const struct errinfo *info)
{
    struct share_fetch *f = arg;

    if (atomic_fetch_sub(&f->making, 1) == 1)
        kreq_post(f->q, fetch_made);
}

static void cursors_make(struct share_fetch *f)
{
    struct errinfo info = {0};
    uint32_t i;
    enum err e;

    atomic_init(&f->making, 1);
    for (i = 0; i < f->rows_n; i++) {
        struct share_part *sp = f->rows[i].sp;
        struct partition *p;
        int64_t start = 0;

        if (f->rows[i].s.error_code)
            continue;
        p = topic_partition(sp->t, sp->index);
        if (sp->c && !cursor_live(sp->c))
            cursor_unref(&sp->c);
        if (sp->c && !f->conf.cursor.dead_letters[0])
            continue;
        if (!has_cursor(f, sp, p) && start_offset(f, sp, p, &start)) {
            f->rows[i].s.error_code = kafka_code(ERR_TIER); /* the client asks again */
            f->errors = true;
            continue;
        }
        atomic_fetch_add(&f->making, 1);
        e = cursor_make(f->q->b, f->ss->group, p, start, &f->conf.cursor, cursor_made, f, &info);
        if (e) {
            atomic_fetch_sub(&f->making, 1);
            f->rows[i].s.error_code = share_code(e);
            f->errors = true;
        }
    }
    if (atomic_fetch_sub(&f->making, 1) == 1)
        fetch_made(f->q);
}

/* ---- the request ---- */

static int16_t part_topic(struct kreq *q, struct share_part *sp)
{
    int16_t code = KE_NONE;

    if (sp->t && topic_deleted(sp->t)) {
        topic_unref(&sp->t);
        cursor_unref(&sp->c);
    }
    if (!sp->t)
        sp->t = kafka_topic(q, SLICE_NULL, sp->key, true, &code);
    if (!sp->t)
        return code;
    if (!kafka_allowed(q, KOP_READ, KRES_TOPIC, slice_str(topic_name(sp->t))))
        return KE_TOPIC_AUTHORIZATION_FAILED;
    return topic_partition(sp->t, sp->index) ? KE_NONE : KE_UNKNOWN_TOPIC_OR_PARTITION;
}

/* One row for each partition of the session, and room for those only acknowledged. */
static bool rows_make(struct share_fetch *f)
{
    struct share_part *sp;
    struct topic *t = NULL;
    bool same = true;

    if (!(f->rows = kreq_alloc(f->q, f->ss->parts.n + f->acks.n, sizeof *f->rows)))
        return false;
    if (f->m.share_session_epoch == SHARE_EPOCH_LAST)
        return true;
    list_for_each(sp, &f->ss->order, struct share_part, link)
    {
        struct row *row = &f->rows[f->rows_n];

        if (!sp->wanted)
            continue;
        sp->row = f->rows_n++;
        row->sp = sp;
        memcpy(row->id, sp->key, 16);
        kafka_share_fetch_response_partition_init(&row->s);
        row->s.partition_index = sp->index;
        row->s.records.bytes = slice_of("", 0);
        row->s.error_code = part_topic(f->q, sp);
        f->errors = f->errors || row->s.error_code;
        same = same && (!t || t == sp->t);
        t = sp->t ? sp->t : t;
    }
    if (same && t)
        f->wait_topic = topic_ref(t);
    return true;
}

/* On the loop: what was acknowledged is durable. */
static void fetch_acked(struct kreq *q)
{
    struct share_fetch *f = q->state_of;

    if (!q->kc)
        kreq_done(q);
    else if (rows_make(f) && q->state != KREQ_DONE)
        cursors_make(f);
}

/* Adds and forgets partitions; a code: the request is refused. */
static int16_t session_update(struct share_fetch *f)
{
    struct share_part *sp;
    uint32_t i, k;

    for (i = 0; i < f->m.topics_n; i++)
        for (k = 0; k < f->m.topics[i].partitions_n; k++) {
            sp = share_part_add(f->ss, f->m.topics[i].topic_id,
                                f->m.topics[i].partitions[k].partition_index);
            if (!sp)
                return KE_INVALID_REQUEST;
            sp->wanted = true;
        }
    for (i = 0; i < f->m.forgotten_topics_data_n; i++)
        for (k = 0; k < f->m.forgotten_topics_data[i].partitions_n; k++) {
            sp = share_part_find(f->ss, f->m.forgotten_topics_data[i].topic_id,
                                 f->m.forgotten_topics_data[i].partitions[k]);
            if (sp)
                sp->wanted = false;
        }
    return KE_NONE;
}

static bool acks_present(const struct share_fetch *f)
{
    uint32_t i, k;

    for (i = 0; i < f->m.topics_n; i++)
        for (k = 0; k < f->m.topics[i].partitions_n; k++)
            if (f->m.topics[i].partitions[k].acknowledgement_batches_n)
                return true;
    return false;
}

static int16_t fetch_open(struct share_fetch *f)
{
    struct kreq *q = f->q;
    int16_t code;

    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, f->m.group_id))
        return KE_GROUP_AUTHORIZATION_FAILED;
    if (f->m.share_session_epoch == SHARE_EPOCH_FIRST && acks_present(f))
        return KE_INVALID_REQUEST;
    code = share_session_open(q, f->m.group_id, f->m.member_id, f->m.share_session_epoch, true,
                              &f->ss);
    if (!code && f->m.share_session_epoch != SHARE_EPOCH_LAST)
        code = session_update(f);
    return code;
}

static void fetch_sizes(struct share_fetch *f)
{
    int32_t wait = f->m.max_wait_ms, max = f->m.max_bytes;

    f->max_bytes = max < 0 ? 0 : (size_t)max;
    if (f->max_bytes > kbudget_answer_max(f->q->kl))
        f->max_bytes = kbudget_answer_max(f->q->kl);
    if (f->m.max_records < 0)
        f->m.max_records = 0;
    wait = wait < 0 ? 0 : wait > WAIT_MS_MAX ? WAIT_MS_MAX : wait;
    if (f->m.max_records == 0 || f->m.share_session_epoch == SHARE_EPOCH_LAST)
        wait = 0;
    f->deadline_ms = loop_now_ms(f->q->kl->loop) + (uint64_t)wait;
}

/* ShareFetch and ShareAcknowledge say acknowledgements alike. */
#define ALIKE(type)                                                           \
    _Static_assert(sizeof(struct kafka_share_fetch_request_##type) ==         \
                       sizeof(struct kafka_share_acknowledge_request_##type), \
                   "the same fields")
ALIKE(topic);
ALIKE(partition);
ALIKE(acknowledgement_batch);

void kafka_on_share_fetch(struct kreq *q)
{
    struct share_fetch *f = kreq_alloc(q, 1, sizeof *f);
    int16_t code;

    if (!f || !KREQ_DECODE(q, share_fetch, &f->m))
        return;
    f->q = q;
    list_init(&f->reads);
    loop_timer_init(&f->timer, fetch_timeout);
    q->state_of = f;
    if ((code = fetch_open(f))) {
        fetch_refuse(q, code);
        return;
    }
    q->release = fetch_release;
    q->cancel = fetch_cancel;
    share_conf_get(q->b, f->m.group_id, &f->conf);
    fetch_sizes(f);
    share_acks_begin(&f->acks, q, f->ss, &f->conf,
                     (const struct kafka_share_acknowledge_request_topic *)f->m.topics,
                     f->m.topics_n, fetch_acked);
}
