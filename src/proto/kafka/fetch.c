/* Fetch: whole batches as they are stored, from memory or files, lent to the connection until they
 * are sent. A fetch that finds too little waits for commits to its topics.
 *
 * What is in memory is taken on the loop. When something is to be read from a file, all of the fetch
 * goes to a thread of its own kind (work.c) and comes back: meanwhile that thread alone touches what
 * `away` says, and the loop serves others.
 *
 * Incremental sessions (KIP-227) belong to the connection: a client that comes back on another one
 * is told FETCH_SESSION_ID_NOT_FOUND and starts anew, as it would after a broker's restart.
 *
 * Leader epochs: there is one leader for ever, in epoch 0. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/journal.h"
#include "proto/kafka/kafka_int.h"

#define READ_BYTES  (1u << 20)   /* of one plog_read */
#define ENOUGH      (1u << 20)   /* of which half is sent rather than to wait for a file */
#define KEPT_BYTES  (320u << 10) /* a read's buffer of at most this is kept for the next one */
#define SPARE_READS 8u           /* go along to a thread that reads */
#define WAIT_TOPICS 8u           /* more are waited for together */
#define WAIT_MS_MAX 60000
#define ABORTED_MAX 10000u

/* ---- sessions ---- */

struct session_part {
    struct list_node link; /* in the order of reading: those with data go to the end */
    struct slice name;     /* null: by id */
    uint8_t id[16];
    int32_t index, max_bytes, leader_epoch, last_epoch;
    int64_t offset;
    int64_t hw, start, lso; /* as told last; -1 not yet */
    struct topic *t;        /* referenced; NULL: looked for each time */
    uint8_t key_len;
    uint8_t key[];
};

struct fetch_session {
    int32_t id, epoch; /* expected next */
    struct map parts;
    struct list_head order;
};

static void session_part_free(struct session_part *sp)
{
    topic_unref(&sp->t);
    free(sp);
}

void fetch_session_free(struct kconn *kc)
{
    struct fetch_session *fs = kc->session;

    if (!fs)
        return;
    while (!list_empty(&fs->order))
        session_part_free(list_entry(list_pop_front(&fs->order), struct session_part, link));
    map_fini(&fs->parts);
    free(fs);
    kc->session = NULL;
}

static struct fetch_session *session_new(struct kreq *q)
{
    struct fetch_session *fs = xcalloc(1, sizeof *fs);
    uint8_t seed[16];

    fetch_session_free(q->kc);
    io_random(broker_io(q->b), seed, sizeof seed);
    map_init(&fs->parts, LIMIT_KAFKA_FETCH_PARTITIONS, seed);
    list_init(&fs->order);
    do {
        uint8_t id[4];

        io_random(broker_io(q->b), id, sizeof id);
        fs->id = (int32_t)(be32_load(id) & INT32_MAX);
    } while (fs->id == 0);
    fs->epoch = 1;
    q->kc->session = fs;
    return fs;
}

/* Key of a partition: its topic's id or name, and its number. */
static size_t part_key(uint8_t key[300], struct slice name, const uint8_t *id, bool by_id,
                       int32_t index)
{
    size_t n = by_id ? 16 : name.len > 280 ? 280 : name.len;

    if (n)
        memcpy(key, by_id ? id : name.ptr, n);
    be32_store(key + n, (uint32_t)index);
    return n + 4;
}

/* False: the session is full. */
static bool session_put(struct fetch_session *fs, struct slice name, const uint8_t *id, bool by_id,
                        const struct kafka_fetch_request_partition *m)
{
    uint8_t key[300];
    size_t n = part_key(key, name, id, by_id, m->partition);
    struct session_part *sp = map_find(&fs->parts, slice_of(key, n));

    if (!sp) {
        sp = xcalloc(1, sizeof *sp + n);
        sp->hw = sp->start = sp->lso = -1;
        sp->key_len = (uint8_t)(n > 255 ? 255 : n);
        memcpy(sp->key, key, n);
        if (n > 255 || map_put(&fs->parts, slice_of(sp->key, n), sp)) {
            free(sp);
            return false;
        }
        sp->name = by_id ? SLICE_NULL : slice_of(sp->key, n - 4);
        memcpy(sp->id, id, 16);
        sp->index = m->partition;
        list_push_back(&fs->order, &sp->link);
    }
    sp->offset = m->fetch_offset;
    sp->max_bytes = m->partition_max_bytes;
    sp->leader_epoch = m->current_leader_epoch;
    sp->last_epoch = m->last_fetched_epoch;
    return true;
}

static void session_forget(struct fetch_session *fs, struct slice name, const uint8_t *id,
                           bool by_id, int32_t index)
{
    uint8_t key[300];
    size_t n = part_key(key, name, id, by_id, index);
    struct session_part *sp = map_remove(&fs->parts, slice_of(key, n));

    if (!sp)
        return;
    list_remove(&sp->link);
    session_part_free(sp);
}

/* ---- a fetch ---- */

struct part {
    struct session_part *sp; /* NULL: without session */
    struct slice name;
    uint8_t id[16];
    int32_t index, max_bytes, leader_epoch, last_epoch;
    int64_t offset;
    struct topic *t; /* referenced */
    struct kafka_fetch_response_partition s;
    size_t bytes;
};

struct fetch;
struct fwait {
    struct waiter w; /* first */
    struct fetch *f;
};

struct fetch {
    struct kafka_fetch_request m;
    struct kreq *q;
    bool by_id, incremental;
    int32_t session_id;
    struct part *parts;
    uint32_t parts_n;
    struct work work;
    const struct part *ahead; /* what is likely to be wanted next, of a file; NULL: nothing */
    int64_t ahead_offset;
    bool away;    /* a thread of k->readers has the reads, the parts, the counts and the arena */
    bool blocked; /* a file is to be read */
    bool no_room; /* in the arena */
    struct list_head reads; /* struct kread */
    struct list_head spare; /* of them, not used yet */
    size_t bytes, max_bytes, min_bytes;
    bool found_error;
    uint64_t deadline_ms;
    struct fwait *waits;
    unsigned waits_n;
    struct topic **wait_topics;
    uint64_t *wait_seen;
    unsigned wait_topics_n; /* 0: the whole broker */
    uint64_t broker_seen;
    atomic_bool woken;
    bool armed, ended;
    struct loop_timer timer;
};

static void fetch_try(struct kreq *q);

/* ---- reading ---- */

struct kread *kread_get(struct kloop *kl, struct list_head *reads)
{
    struct kread *kr;

    if (list_empty(&kl->reads)) {
        kr = xcalloc(1, sizeof *kr);
    } else {
        kr = list_entry(list_pop_front(&kl->reads), struct kread, link);
        kl->reads_n--;
    }
    list_push_back(reads, &kr->link);
    return kr;
}

/* The newest of those kept comes first: its buffer is most likely in the processor's cache. */
void kreads_put(struct kloop *kl, struct list_head *reads)
{
    while (!list_empty(reads)) {
        struct kread *kr = list_entry(list_pop_front(reads), struct kread, link);

        plog_read_recycle(&kr->r, kl->reads_n < LIMIT_KAFKA_FREE_READ_BUFFERS ? KEPT_BYTES : 0);
        kr->r.memory_only = false;
        if (kl->reads_n == LIMIT_KAFKA_FREE_READS) {
            plog_read_release(&kr->r);
            free(kr);
        } else {
            list_insert_before(kl->reads.node.next, &kr->link);
            kl->reads_n++;
        }
    }
}

static void fetch_reads_put(struct fetch *f)
{
    kreads_put(f->q->kl, &f->reads);
    kreads_put(f->q->kl, &f->spare);
}

/* Away from the loop, what it keeps cannot be taken: some came along. */
static struct kread *read_get(struct fetch *f)
{
    struct kread *kr;

    if (!f->away)
        return kread_get(f->q->kl, &f->reads);
    kr = list_empty(&f->spare) ? xcalloc(1, sizeof *kr)
                               : list_entry(list_pop_front(&f->spare), struct kread, link);
    list_push_back(&f->reads, &kr->link);
    return kr;
}

static void spare_get(struct fetch *f)
{
    struct kloop *kl = f->q->kl;
    unsigned i;

    for (i = 0; i < SPARE_READS && kl->reads_n; i++, kl->reads_n--)
        list_push_back(&f->spare, list_pop_front(&kl->reads));
}

void kloop_free_reads(struct kloop *kl)
{
    while (!list_empty(&kl->reads)) {
        struct kread *kr = list_entry(list_pop_front(&kl->reads), struct kread, link);

        plog_read_release(&kr->r);
        free(kr);
    }
}

/* Zeroed memory until the request is over; NULL: there is no more, which the loop looks at. */
static void *fetch_alloc(struct fetch *f, size_t n, size_t size)
{
    void *p = arena_zalloc(&f->q->arena, n, size);

    f->no_room = f->no_room || !p;
    return p;
}

static int16_t read_code(enum err e, bool by_id)
{
    if (e == ERR_TOPIC_NOT_FOUND)
        return by_id ? KE_UNKNOWN_TOPIC_ID : KE_UNKNOWN_TOPIC_OR_PARTITION;
    return kafka_code(e);
}

struct spans {
    struct kafka_span *v;
    uint32_t n, cap;
};

static bool span_add(struct fetch *f, struct spans *s, struct slice bytes)
{
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 8;
        struct kafka_span *v = fetch_alloc(f, cap, sizeof *v);

        if (!v)
            return false;
        if (s->n)
            memcpy(v, s->v, s->n * sizeof *v);
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = (struct kafka_span){bytes, NULL};
    return true;
}

/* Adds the batches read, as far as they are below `end` and fit; false: enough. */
static bool batches_take(struct fetch *f, struct part *pt, struct kread *kr, int64_t end,
                         size_t room, struct spans *sp, int64_t *next)
{
    unsigned i;

    for (i = 0; i < kr->r.n; i++) {
        const struct read_batch *b = &kr->r.batch[i];

        if (b->base_offset >= end)
            return false;
        if (pt->bytes + b->data.len > room && (pt->bytes || f->bytes))
            return false;
        if (!span_add(f, sp, b->data))
            return false;
        pt->bytes += b->data.len;
        *next = b->last_offset + 1;
        if (pt->bytes >= room)
            return false;
    }
    return kr->r.n > 0;
}

/* A client that is given so much will ask for what follows: of the last part, which ended the
 * answer. */
static void ahead_note(struct fetch *f, const struct part *pt, int64_t next)
{
    f->ahead = pt;
    f->ahead_offset = next;
}

static void part_read(struct fetch *f, struct part *pt, struct partition *p, int64_t end)
{
    size_t room = f->max_bytes > f->bytes ? f->max_bytes - f->bytes : 0;
    struct errinfo info = {0};
    struct spans sp = {0};
    int64_t next = pt->offset;
    bool more = next < end, cold = false, ahead = false;
    enum err e = ERR_OK;

    if (pt->max_bytes >= 0 && room > (size_t)pt->max_bytes)
        room = (size_t)pt->max_bytes;
    if (room == 0 && f->bytes)
        return;
    while (more && !e && next < end) {
        struct kread *kr = read_get(f);
        size_t want = room > pt->bytes ? room - pt->bytes : 1;

        kr->r.memory_only = !f->away;
        e = partition_read(p, &next, want < READ_BYTES ? want : READ_BYTES, &kr->r, &cold, &info);
        more = !e && batches_take(f, pt, kr, end, room, &sp, &next);
        ahead = kr->r.ahead;
    }
    if (ahead && pt->bytes && next < end && !cold)
        ahead_note(f, pt, next);
    if (e == ERR_AGAIN) /* what is in the lake is waited for as what is to come */
        f->blocked =
            !cold && (sp.n == 0 || pt->bytes + f->bytes < (room < ENOUGH ? room : ENOUGH) / 2);
    else if (e && sp.n == 0)
        pt->s.error_code = read_code(e, f->by_id);
    pt->s.records.spans = sp.v;
    pt->s.records.spans_n = sp.n;
    f->bytes += pt->bytes;
}

static void part_aborted(struct fetch *f, struct part *pt, struct partition *p, int64_t to)
{
    struct aborted_txn *a = arena_alloc(&f->q->arena, 64 * sizeof *a);
    size_t i, n = a ? partition_aborted(p, pt->offset, to, a, 64) : 0;

    if (n == 64) { /* rare: all of them */
        a = arena_alloc(&f->q->arena, ABORTED_MAX * sizeof *a);
        n = a ? partition_aborted(p, pt->offset, to, a, ABORTED_MAX) : 0;
    }
    if (n == 0)
        return;
    pt->s.aborted_transactions = fetch_alloc(f, n, sizeof *pt->s.aborted_transactions);
    if (!pt->s.aborted_transactions)
        return;
    for (i = 0; i < n; i++)
        pt->s.aborted_transactions[i] =
            (struct kafka_fetch_response_aborted_transaction){a[i].producer_id, a[i].first_offset};
    pt->s.aborted_transactions_n = (uint32_t)n;
}

/* Errors that are seen before reading. */
static bool part_check(struct fetch *f, struct part *pt, const struct plog_info *now)
{
    /* now's start_offset is that of the local log, the part's is the log's */
    if (pt->leader_epoch > 0) {
        pt->s.error_code = KE_UNKNOWN_LEADER_EPOCH;
    } else if (pt->last_epoch >= 0 && pt->offset > now->end_offset) {
        pt->s.diverging_epoch.epoch = 0;
        pt->s.diverging_epoch.end_offset = now->end_offset;
        f->found_error = true; /* to be told at once */
        return false;
    } else if (pt->offset < pt->s.log_start_offset || pt->offset > now->end_offset) {
        pt->s.error_code = KE_OFFSET_OUT_OF_RANGE;
    }
    return pt->s.error_code == KE_NONE;
}

static void part_fetch(struct fetch *f, struct part *pt)
{
    bool committed = f->m.isolation_level == 1;
    struct partition *p = pt->t ? topic_partition(pt->t, pt->index) : NULL;
    struct plog_info now;
    int64_t lso;

    pt->s.partition_index = pt->index;
    pt->s.high_watermark = -1;
    pt->s.aborted_transactions_null = !committed;
    pt->s.records.bytes = slice_of("", 0);
    if (pt->s.error_code)
        return;
    if (!p) {
        pt->s.error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    lso = partition_lso(p);
    plog_info_get(partition_log(p), &now);
    pt->s.high_watermark = now.end_offset;
    pt->s.last_stable_offset = lso;
    pt->s.log_start_offset = partition_start(p);
    if (!part_check(f, pt, &now))
        return;
    part_read(f, pt, p, committed ? lso : now.end_offset);
    if (committed && pt->bytes)
        part_aborted(f, pt, p, lso);
}

/* ---- waiting ---- */

static void fetch_wake(struct waiter *w)
{
    struct fetch *f = ((struct fwait *)w)->f;

    if (!atomic_exchange(&f->woken, true))
        kreq_post(f->q, fetch_try);
}

static void waits_cancel(struct fetch *f)
{
    unsigned i;

    for (i = 0; i < f->waits_n; i++)
        waiter_cancel(&f->waits[i].w);
    loop_timer_cancel(f->q->kl->loop, &f->timer);
    f->armed = false;
}

/* What was committed before this is seen by the reads that follow. */
static void wait_note(struct fetch *f)
{
    unsigned i;

    f->broker_seen = broker_commits(f->q->b);
    for (i = 0; i < f->wait_topics_n; i++)
        f->wait_seen[i] = topic_commits(f->wait_topics[i]);
}

static void wait_topics_make(struct fetch *f)
{
    uint32_t i;
    unsigned k;

    for (i = 0; i < f->parts_n; i++) {
        if (!f->parts[i].t)
            continue;
        for (k = 0; k < f->wait_topics_n && f->wait_topics[k] != f->parts[i].t; k++)
            ;
        if (k < f->wait_topics_n)
            continue;
        if (k == WAIT_TOPICS) {
            f->wait_topics_n = 0;
            break;
        }
        f->wait_topics[f->wait_topics_n++] = f->parts[i].t;
    }
    f->waits_n = f->wait_topics_n ? f->wait_topics_n : 1;
}

/* False: something came meanwhile. */
static bool wait_arm(struct fetch *f, uint64_t now_ms)
{
    unsigned i;
    bool ok = true;

    atomic_store(&f->woken, false);
    f->armed = true;
    for (i = 0; ok && i < f->waits_n; i++) {
        struct fwait *w = &f->waits[i];

        w->f = f;
        w->w.wake = fetch_wake;
        ok = f->wait_topics_n ? topic_wait(f->wait_topics[i], f->wait_seen[i], &w->w)
                              : broker_wait(f->q->b, f->broker_seen, &w->w);
    }
    if (ok) {
        loop_timer_arm(f->q->kl->loop, &f->timer, f->deadline_ms - now_ms);
        return true;
    }
    /* those armed may fire until they are cancelled: whoever comes first posts, and only once */
    if (atomic_exchange(&f->woken, true)) {
        waits_cancel(f);
        return true; /* fetch_try is on its way */
    }
    waits_cancel(f);
    return false;
}

static void fetch_timeout(struct loop_timer *t)
{
    struct fetch *f = (struct fetch *)((char *)t - offsetof(struct fetch, timer));

    if (!atomic_exchange(&f->woken, true))
        kreq_call(f->q, fetch_try);
}

static void fetch_cancel(struct kreq *q)
{
    struct fetch *f = q->state_of;

    f->deadline_ms = 0;
    if (f->armed && !atomic_exchange(&f->woken, true))
        fetch_try(q);
}

/* ---- the answer ---- */

/* Is there something to tell of it that the session does not know? */
static bool part_news(struct fetch *f, struct part *pt)
{
    struct session_part *sp = pt->sp;
    bool news = pt->bytes || pt->s.error_code || pt->s.diverging_epoch.epoch >= 0;

    if (!sp)
        return true;
    news = news || !f->incremental || sp->hw != pt->s.high_watermark ||
           sp->start != pt->s.log_start_offset ||
           (f->m.isolation_level == 1 && sp->lso != pt->s.last_stable_offset);
    if (!news)
        return false;
    sp->hw = pt->s.error_code ? -1 : pt->s.high_watermark;
    sp->start = pt->s.log_start_offset;
    sp->lso = pt->s.last_stable_offset;
    if (pt->bytes) { /* others first, next time */
        list_remove(&sp->link);
        list_push_back(&f->q->kc->session->order, &sp->link);
    }
    return true;
}

static bool same_topic(const struct fetch *f, const struct part *a,
                       const struct kafka_fetch_response_topic *t)
{
    return f->by_id ? memcmp(a->id, t->topic_id, 16) == 0 : slice_eq(a->name, t->topic);
}

static bool response_fill(struct fetch *f, struct kafka_fetch_response *s)
{
    struct kafka_fetch_response_partition *rows;
    struct kafka_fetch_response_topic *t = NULL;
    uint32_t i, n = 0;

    s->responses = kreq_alloc(f->q, f->parts_n, sizeof *s->responses);
    if (!s->responses || !(rows = kreq_alloc(f->q, f->parts_n, sizeof *rows)))
        return false;
    for (i = 0; i < f->parts_n; i++) {
        struct part *pt = &f->parts[i];

        if (f->q->kc && !part_news(f, pt))
            continue;
        if (!t || !same_topic(f, pt, t)) {
            t = &s->responses[s->responses_n++];
            t->topic = pt->name;
            memcpy(t->topic_id, pt->id, 16);
            t->partitions = &rows[n];
        }
        rows[n++] = pt->s;
        t->partitions_n++;
    }
    return true;
}

static void fetch_release(struct kreq *q)
{
    struct fetch *f = q->state_of;
    uint32_t i;

    fetch_reads_put(f);
    for (i = 0; i < f->parts_n; i++)
        topic_unref(&f->parts[i].t);
}

static void fetch_reply(struct fetch *f)
{
    struct kafka_fetch_response s;
    struct kreq *q = f->q;

    kafka_fetch_response_init(&s);
    s.session_id = f->session_id;
    if (!response_fill(f, &s))
        return;
    s.throttle_time_ms =
        (int32_t)kquota_charge(q->kc, KQUOTA_FETCH, q->head.client_id, (double)f->bytes);
    KREQ_REPLY(q, fetch, &s);
}

static void fetch_refuse(struct kreq *q, int16_t code)
{
    struct kafka_fetch_response s;

    kafka_fetch_response_init(&s);
    s.error_code = code;
    KREQ_REPLY(q, fetch, &s);
}

/* On the loop, or away: reads all parts, until one is blocked. */
static void parts_fetch(struct fetch *f)
{
    uint32_t i;

    f->bytes = 0;
    f->found_error = f->blocked = false;
    f->ahead = NULL;
    for (i = 0; i < f->parts_n && !f->blocked && !f->no_room; i++) {
        int16_t code = f->parts[i].t ? KE_NONE : f->parts[i].s.error_code;

        kafka_fetch_response_partition_init(&f->parts[i].s);
        f->parts[i].s.error_code = code;
        f->parts[i].bytes = 0;
        part_fetch(f, &f->parts[i]);
        f->found_error = f->found_error || f->parts[i].s.error_code;
    }
}

/* With what was read: answers if there is enough, or it is time, else waits; false: something came
 * meanwhile, look again. */
static bool fetch_judge(struct fetch *f)
{
    struct kreq *q = f->q;
    uint64_t now = loop_now_ms(q->kl->loop);

    if (f->no_room) {
        kreq_fail(q, ERR_TOO_LARGE);
        return true;
    }
    if (!q->kc) { /* nobody is there to be answered, and the session is gone */
        kreq_done(q);
        return true;
    }
    if (f->bytes >= f->min_bytes || f->found_error || now >= f->deadline_ms) {
        fetch_reply(f);
        return true;
    }
    return wait_arm(f, now);
}

static void fetch_back(struct kreq *q)
{
    struct fetch *f = q->state_of;

    f->away = false;
    if (!fetch_judge(f))
        fetch_try(q);
}

/* What will be wanted is read when nothing else is to be done. */
struct ahead {
    struct work work; /* first */
    struct kafka *k;
    struct topic *t; /* referenced */
    int32_t index;
    int64_t offset;
};

static void ahead_run(struct work *w)
{
    struct ahead *a = (struct ahead *)w;

    plog_read_ahead(partition_log(topic_partition(a->t, a->index)), a->offset, READ_BYTES);
    topic_unref(&a->t);
    atomic_fetch_sub(&a->k->aheads, 1);
    free(a);
}

static struct ahead *ahead_new(const struct fetch *f)
{
    struct ahead *a;

    if (!f->ahead || atomic_fetch_add(&f->q->k->aheads, 1) >= LIMIT_KAFKA_READ_AHEADS) {
        if (f->ahead)
            atomic_fetch_sub(&f->q->k->aheads, 1);
        return NULL;
    }
    a = xcalloc(1, sizeof *a);
    a->k = f->q->k;
    a->t = topic_ref(f->ahead->t);
    a->index = f->ahead->index;
    a->offset = f->ahead_offset;
    a->work.fn = ahead_run;
    return a;
}

/* On a thread that reads. */
static void fetch_away(struct work *w)
{
    struct fetch *f = list_entry(w, struct fetch, work);
    struct workers *readers = f->q->k->readers;
    struct ahead *a;

    parts_fetch(f);
    a = ahead_new(f);
    kreq_post(f->q, fetch_back); /* f is not ours any more */
    if (a)
        workers_run(readers, &a->work);
}

/* Looks into memory; if that is not enough, into files. */
static void fetch_try(struct kreq *q)
{
    struct fetch *f = q->state_of;
    struct ahead *a;

    if (f->armed)
        waits_cancel(f);
    do {
        fetch_reads_put(f);
        wait_note(f);
        parts_fetch(f);
        if (f->blocked && q->kc) {
            fetch_reads_put(f);
            spare_get(f);
            f->away = true;
            f->work.fn = fetch_away;
            workers_run(q->k->readers, &f->work);
            return;
        }
        if ((a = ahead_new(f)))
            workers_run(q->k->readers, &a->work);
    } while (!fetch_judge(f));
}

/* ---- the request ---- */

static void part_topic(struct fetch *f, struct part *pt)
{
    struct session_part *sp = pt->sp;
    int16_t code = KE_NONE;

    if (sp && sp->t && !topic_deleted(sp->t)) {
        pt->t = topic_ref(sp->t);
        return;
    }
    pt->t = kafka_topic(f->q, pt->name, pt->id, f->by_id, &code);
    if (pt->t && !kafka_allowed(f->q, KOP_READ, KRES_TOPIC, slice_str(topic_name(pt->t)))) {
        code = KE_TOPIC_AUTHORIZATION_FAILED;
        topic_unref(&pt->t);
    }
    pt->s.error_code = code;
    if (sp) {
        topic_unref(&sp->t);
        sp->t = pt->t ? topic_ref(pt->t) : NULL;
    }
}

static bool parts_of_request(struct fetch *f)
{
    uint32_t i, k, n = 0;

    for (i = 0; i < f->m.topics_n; i++)
        n += f->m.topics[i].partitions_n;
    f->parts = kreq_alloc(f->q, n, sizeof *f->parts);
    if (!f->parts)
        return false;
    for (i = 0; i < f->m.topics_n; i++) {
        const struct kafka_fetch_request_topic *t = &f->m.topics[i];

        for (k = 0; k < t->partitions_n; k++) {
            const struct kafka_fetch_request_partition *m = &t->partitions[k];
            struct part *pt = &f->parts[f->parts_n++];

            pt->name = t->topic;
            memcpy(pt->id, t->topic_id, 16);
            pt->index = m->partition;
            pt->max_bytes = m->partition_max_bytes;
            pt->leader_epoch = m->current_leader_epoch;
            pt->last_epoch = m->last_fetched_epoch;
            pt->offset = m->fetch_offset;
            part_topic(f, pt);
        }
    }
    return true;
}

static bool parts_of_session(struct fetch *f, struct fetch_session *fs)
{
    struct session_part *sp;

    f->parts = kreq_alloc(f->q, fs->parts.n, sizeof *f->parts);
    if (!f->parts)
        return false;
    list_for_each(sp, &fs->order, struct session_part, link)
    {
        struct part *pt = &f->parts[f->parts_n++];

        pt->sp = sp;
        pt->name = sp->name;
        memcpy(pt->id, sp->id, 16);
        pt->index = sp->index;
        pt->max_bytes = sp->max_bytes;
        pt->leader_epoch = sp->leader_epoch;
        pt->last_epoch = sp->last_epoch;
        pt->offset = sp->offset;
        part_topic(f, pt);
    }
    return true;
}

static bool session_update(struct fetch *f, struct fetch_session *fs)
{
    uint32_t i, k;

    for (i = 0; i < f->m.forgotten_topics_data_n; i++) {
        const struct kafka_fetch_request_forgotten_topic *t = &f->m.forgotten_topics_data[i];

        for (k = 0; k < t->partitions_n; k++)
            session_forget(fs, t->topic, t->topic_id, f->by_id, t->partitions[k]);
    }
    for (i = 0; i < f->m.topics_n; i++) {
        const struct kafka_fetch_request_topic *t = &f->m.topics[i];

        for (k = 0; k < t->partitions_n; k++)
            if (!session_put(fs, t->topic, t->topic_id, f->by_id, &t->partitions[k]))
                return false;
    }
    return true;
}

/* Which partitions are wanted, as the session has it. A code: the request is refused with it. */
static int16_t fetch_parts(struct fetch *f)
{
    struct kconn *kc = f->q->kc;
    struct fetch_session *fs = kc->session;
    int32_t epoch = f->m.session_epoch;

    if (f->q->version < 7 || epoch == -1) {
        if (f->m.session_id && fs && fs->id == f->m.session_id)
            fetch_session_free(kc);
        return parts_of_request(f) ? KE_NONE : KE_INVALID_REQUEST;
    }
    if (epoch == 0) {
        fs = session_new(f->q);
        if (!session_update(f, fs)) { /* too large: without one */
            fetch_session_free(kc);
            return parts_of_request(f) ? KE_NONE : KE_INVALID_REQUEST;
        }
    } else {
        if (!fs || fs->id != f->m.session_id)
            return KE_FETCH_SESSION_ID_NOT_FOUND;
        if (fs->epoch != epoch)
            return KE_INVALID_FETCH_SESSION_EPOCH;
        fs->epoch = epoch == INT32_MAX ? 1 : epoch + 1;
        f->incremental = true;
        if (!session_update(f, fs))
            return KE_INVALID_REQUEST;
    }
    f->session_id = fs->id;
    return parts_of_session(f, fs) ? KE_NONE : KE_INVALID_REQUEST;
}

static void fetch_sizes(struct fetch *f)
{
    int32_t wait = f->m.max_wait_ms, max = f->m.max_bytes;

    f->max_bytes = max < 0 ? 0 : (size_t)max;
    if (f->max_bytes > kbudget_answer_max(f->q->kl))
        f->max_bytes = kbudget_answer_max(f->q->kl);
    f->min_bytes = f->m.min_bytes < 0 ? 0 : (size_t)f->m.min_bytes;
    if (f->min_bytes > f->max_bytes)
        f->min_bytes = f->max_bytes;
    wait = wait < 0 ? 0 : wait > WAIT_MS_MAX ? WAIT_MS_MAX : wait;
    f->deadline_ms = loop_now_ms(f->q->kl->loop) + (uint64_t)wait;
}

void kafka_on_fetch(struct kreq *q)
{
    struct fetch *f = kreq_alloc(q, 1, sizeof *f);
    int16_t code;

    if (!f || !KREQ_DECODE(q, fetch, &f->m))
        return;
    f->q = q;
    f->by_id = q->version >= 13;
    list_init(&f->reads);
    list_init(&f->spare);
    loop_timer_init(&f->timer, fetch_timeout);
    q->state_of = f;
    code = fetch_parts(f);
    if (q->state == KREQ_DONE)
        return;
    q->release = fetch_release;
    if (code) {
        fetch_refuse(q, code);
        return;
    }
    q->cancel = fetch_cancel;
    f->waits = kreq_alloc(q, WAIT_TOPICS, sizeof *f->waits);
    f->wait_topics = f->waits ? kreq_alloc(q, WAIT_TOPICS, sizeof *f->wait_topics) : NULL;
    f->wait_seen = f->wait_topics ? kreq_alloc(q, WAIT_TOPICS, sizeof *f->wait_seen) : NULL;
    if (!f->wait_seen)
        return;
    fetch_sizes(f);
    wait_topics_make(f);
    fetch_try(q);
}
