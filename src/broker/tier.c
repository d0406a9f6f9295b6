/* Older records, read for many from what the lake keeps. See tier.h.
 *
 *   tier_read ── in a block ─────────────────────────────────────> copied out
 *      └─ a pass goes on here, or one begins ─> queue ─> a thread: ops->next ─> block, waiters woken
 *
 * A pass is a run of blocks without gaps: the first begins at the offset that was asked for, each
 * begins where the one before ended, and `next` is where the one to come will begin. A reader who takes
 * a block makes its pass go on until AHEAD_MAX blocks lie in front of it (fewer when there are many
 * passes). Blocks are thrown away, the one used longest ago first, when there are more than
 * LIMIT_TIER_CACHE bytes of them; an offset that is in none, and at which no pass stands, begins a new
 * pass.
 *
 * At most LIMIT_TIER_OPEN passes have files open. Others go on when it is their turn, by opening
 * anew. A pass that nobody read for IDLE_NS is closed and forgotten.
 *
 * A failure is kept for FAILED_NS at the offset where it happened: those who ask meanwhile get it
 * at once, so that a store out of reach is not asked again by each.
 *
 * Locks: tier->lock for everything here; not held while ops are called or waiters woken. A pass that is
 * `running` belongs to its thread but for what readers look at: blocks, next, wanted. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/broker_int.h"

#define BLOCK_BYTES (1u << 20)
#define BLOCK_MAX   (LIMIT_BATCH_BYTES + BLOCK_BYTES)
#define THREADS     2u
#define AHEAD_MAX   6u
#define IDLE_NS     (20ull * 1000000000u)
#define FAILED_NS   1000000000ull
#define FOUND_NS    (10ull * 1000000000u)
#define WAIT_NS     1000000000ull

struct pass {
    struct list_node link;  /* tier->passes, the one used last at the end */
    struct list_node queue; /* tier->queue while queued */
    struct partition *p;    /* its topic is referenced */
    struct tier_pass *s;    /* NULL: not open */
    struct list_head blocks;
    uint32_t blocks_n;
    int64_t next, to;
    uint32_t wanted; /* blocks still to be read */
    bool queued, running, ended;
    uint64_t used_ns, failed_ns; /* failed_ns 0: it did not */
    struct errinfo why;
};

struct block {
    struct list_node link; /* its pass's */
    struct list_node lru;  /* tier->blocks, the one used last at the end */
    struct pass *pass;
    int64_t from;
    struct tier_block b;
};

/* A search, and its result for those who ask again. */
struct search {
    struct list_node link;  /* tier->searches */
    struct list_node queue; /* tier->asked until a thread takes it */
    struct partition *p;    /* its topic is referenced */
    enum tier_by by;
    int64_t value, from, offset, ts_ms;
    bool queued, done;
    uint64_t done_ns;
    enum err e;
    struct errinfo why;
};

struct tier {
    struct broker *b;
    struct tier_ops ops;
    struct io_mutex lock;
    struct io_cond work;
    struct io_thread *threads[THREADS];
    bool closing;
    struct list_head passes, queue, blocks, searches, asked;
    uint32_t passes_n, open_n, searches_n;
    uint64_t bytes;
    struct tier_stats st;
};

/* ---- blocks ---- */

void tier_block_init(struct tier_block *b, size_t bytes_max)
{
    memset(b, 0, sizeof *b);
    buf_init(&b->bytes, bytes_max);
}

void tier_block_fini(struct tier_block *b)
{
    buf_fini(&b->bytes);
    free(b->batch);
    memset(b, 0, sizeof *b);
}

static void block_drop(struct tier *t, struct block *k)
{
    list_remove(&k->link);
    list_remove(&k->lru);
    k->pass->blocks_n--;
    t->bytes -= k->b.bytes.cap;
    tier_block_fini(&k->b);
    free(k);
}

static void blocks_trim(struct tier *t, const struct block *keep)
{
    while (t->bytes > LIMIT_TIER_CACHE && !list_empty(&t->blocks)) {
        struct block *k = list_entry(t->blocks.node.next, struct block, lru);

        if (k == keep)
            return;
        block_drop(t, k);
    }
}

static struct block *block_find(struct tier *t, const struct partition *p, int64_t offset)
{
    struct block *k;

    list_for_each(k, &t->blocks, struct block, lru)
    {
        if (k->pass->p == p && k->from <= offset && offset < k->b.next)
            return k;
    }
    return NULL;
}

/* Copies batches that end at or behind offset; none: the rest of the block is a gap. */
static void block_copy(const struct block *k, int64_t offset, size_t bytes_max, struct plog_read *r)
{
    const struct tier_block *b = &k->b;
    uint32_t first = 0, n;
    size_t need = 0, at = 0;

    while (first < b->n && b->batch[first].last_offset < offset)
        first++;
    for (n = 0; first + n < b->n && n < READ_BATCHES_MAX; n++) {
        if (n && need + b->batch[first + n].len > bytes_max)
            break;
        need += b->batch[first + n].len;
    }
    if (r->buf_cap < need) {
        free(r->buf);
        r->buf_cap = (need + 65535) & ~(size_t)65535;
        r->buf = xmalloc(r->buf_cap);
    }
    for (r->n = 0; r->n < n; r->n++) {
        const struct tier_batch *from = &b->batch[first + r->n];

        memcpy(r->buf + at, b->bytes.ptr + from->at, from->len);
        r->batch[r->n] = (struct read_batch){.data = slice_of(r->buf + at, from->len),
                                             .base_offset = from->base_offset,
                                             .last_offset = from->last_offset,
                                             .position = from->position,
                                             .max_timestamp_ms = from->max_ts};
        at += from->len;
    }
    r->bytes = at;
}

/* ---- passes ---- */

static void pass_touch(struct tier *t, struct pass *s)
{
    s->used_ns = io_mono_ns(t->b->conf.io);
    list_remove(&s->link);
    list_push_back(&t->passes, &s->link);
}

static struct pass *pass_new(struct tier *t, struct partition *p, int64_t from)
{
    struct pass *s = xcalloc(1, sizeof *s);

    s->p = p;
    topic_ref(p->topic);
    list_init(&s->blocks);
    s->next = from;
    s->to = INT64_MAX;
    s->used_ns = io_mono_ns(t->b->conf.io);
    list_push_back(&t->passes, &s->link);
    t->passes_n++;
    return s;
}

/* Not queued and not running. What it has open is the caller's to close, without the lock. */
static struct tier_pass *pass_free(struct tier *t, struct pass *s)
{
    struct tier_pass *open = s->s;
    struct topic *topic = s->p->topic;

    ASSERT(!s->queued && !s->running);
    while (!list_empty(&s->blocks))
        block_drop(t, list_entry(s->blocks.node.next, struct block, link));
    list_remove(&s->link);
    t->passes_n--;
    t->open_n -= open != NULL;
    topic_unref(&topic);
    free(s);
    return open;
}

/* Has the pass read `wanted` blocks more. */
static void pass_want(struct tier *t, struct pass *s, uint32_t wanted)
{
    if (s->wanted < wanted)
        s->wanted = wanted;
    if (!s->wanted || s->queued || s->running || s->ended || s->failed_ns)
        return;
    s->queued = true;
    list_push_back(&t->queue, &s->queue);
    io_cond_signal(&t->work);
}

static uint32_t ahead(const struct tier *t)
{
    uint32_t n = LIMIT_TIER_CACHE / 2 / BLOCK_BYTES / (t->passes_n ? t->passes_n : 1);

    return n > AHEAD_MAX ? AHEAD_MAX : n < 1 ? 1 : n;
}

/* The one that goes on at this offset. */
static struct pass *pass_find(struct tier *t, const struct partition *p, int64_t offset)
{
    struct pass *s;

    list_for_each(s, &t->passes, struct pass, link)
    {
        if (s->p == p && s->next == offset)
            return s;
    }
    return NULL;
}

/* One that may be forgotten; NULL: all are at work. */
static struct pass *pass_idle(struct tier *t, uint64_t before_ns, bool open)
{
    struct pass *s;

    list_for_each(s, &t->passes, struct pass, link)
    {
        if (!s->queued && !s->running && s->used_ns <= before_ns && (!open || s->s))
            return s;
    }
    return NULL;
}

/* Blocks of its pass behind k. */
static uint32_t blocks_behind(const struct block *k)
{
    const struct list_node *n = k->link.next;
    uint32_t behind = 0;

    for (; n != &k->pass->blocks.node; n = n->next)
        behind++;
    return behind;
}

/* ---- the threads ---- */

/* A place for one more open pass; what has to be closed for it. Lock held. */
static struct tier_pass *open_room(struct tier *t)
{
    struct tier_pass *s = NULL;
    struct pass *idle;

    if (t->open_n >= LIMIT_TIER_OPEN && (idle = pass_idle(t, UINT64_MAX, true))) {
        s = idle->s;
        idle->s = NULL;
        t->open_n--;
    }
    t->open_n++;
    return s;
}

static enum err pass_step(struct tier *t, struct pass *s, struct tier_block *b,
                          struct errinfo *info)
{
    struct plog_info now;
    enum err e = ERR_OK;

    if (!s->s) {
        plog_info_get(s->p->log, &now);
        s->to = now.start_offset;
        if (s->next >= s->to)
            return ERR_EOF;
        e = t->ops.open(t->ops.arg, s->p, s->next, s->to, &s->s, info);
    }
    return e ? e : t->ops.next(s->s, BLOCK_BYTES, b, info);
}

/* Lock held. */
static void block_add(struct tier *t, struct pass *s, struct tier_block *b)
{
    struct block *k = xcalloc(1, sizeof *k);
    uint32_t i;

    k->pass = s;
    k->from = s->next;
    k->b = *b;
    list_push_back(&s->blocks, &k->link);
    list_push_back(&t->blocks, &k->lru);
    s->blocks_n++;
    s->next = b->next;
    t->bytes += b->bytes.cap;
    t->st.blocks++;
    t->st.bytes += b->bytes.len;
    for (i = 0; i < b->n; i++)
        t->st.records += (uint64_t)(b->batch[i].last_offset - b->batch[i].base_offset + 1);
    blocks_trim(t, k);
}

/* Notes how a step ended; what is to be closed. Lock held. */
static struct tier_pass *step_end(struct tier *t, struct pass *s, enum err e, struct tier_block *b,
                                  const struct errinfo *info)
{
    struct tier_pass *close = NULL;

    s->running = false;
    if (s->wanted)
        s->wanted--;
    if (!e) {
        block_add(t, s, b);
    } else {
        close = s->s;
        s->s = NULL;
        tier_block_fini(b);
    }
    if (e == ERR_EOF) {
        s->ended = true;
    } else if (e) {
        s->failed_ns = io_mono_ns(t->b->conf.io);
        s->why = *info;
        t->st.failures++;
    }
    if (!s->s)
        t->open_n--;
    pass_want(t, s, 0);
    return close;
}

/* Lock held; let go meanwhile. */
static void pass_run(struct tier *t)
{
    struct pass *s = list_entry(list_pop_front(&t->queue), struct pass, queue);
    struct topic *topic = topic_ref(s->p->topic);
    struct tier_pass *close = NULL;
    struct errinfo info = {0};
    struct tier_block b;
    enum err e;

    s->queued = false;
    s->running = true;
    if (!s->s)
        close = open_room(t);
    io_mutex_unlock(&t->lock);
    if (close)
        t->ops.close(&close);
    tier_block_init(&b, BLOCK_MAX);
    e = pass_step(t, s, &b, &info);
    io_mutex_lock(&t->lock);
    close = step_end(t, s, e, &b, &info);
    io_mutex_unlock(&t->lock);
    if (close)
        t->ops.close(&close);
    waiters_wake(t->b, &topic, 1);
    topic_unref(&topic);
    io_mutex_lock(&t->lock);
}

static void search_run(struct tier *t)
{
    struct search *q = list_entry(list_pop_front(&t->asked), struct search, queue);
    struct topic *topic = topic_ref(q->p->topic);
    struct errinfo info = {0};
    struct plog_info now;
    int64_t offset = -1, ts_ms = -1;
    enum err e;

    q->queued = false; /* and not done: nobody else frees it */
    io_mutex_unlock(&t->lock);
    plog_info_get(q->p->log, &now);
    e = t->ops.find(t->ops.arg, q->p, q->by, q->value, q->from, now.start_offset, &offset, &ts_ms,
                    &info);
    io_mutex_lock(&t->lock);
    q->e = e;
    q->why = info;
    q->offset = offset;
    q->ts_ms = ts_ms;
    q->done = true;
    q->done_ns = io_mono_ns(t->b->conf.io);
    t->st.failures += e && e != ERR_EOF;
    io_mutex_unlock(&t->lock);
    waiters_wake(t->b, &topic, 1);
    topic_unref(&topic);
    io_mutex_lock(&t->lock);
}

static void tier_main(void *arg)
{
    struct tier *t = arg;

    io_mutex_lock(&t->lock);
    while (!t->closing) {
        if (!list_empty(&t->asked))
            search_run(t);
        else if (!list_empty(&t->queue))
            pass_run(t);
        else
            io_cond_wait(&t->work, &t->lock);
    }
    io_mutex_unlock(&t->lock);
}

/* ---- reading ---- */

static enum err unreachable(const struct errinfo *why, struct errinfo *info)
{
    return errinfo_set(info, ERR_TIER, "older records cannot be read from the lake now: %.160s",
                       why && why->text[0] ? why->text
                       : why               ? err_text(why->code)
                                           : "it is closed");
}

/* Nobody has said how to read the lake. */
static enum err not_open(const struct partition *p, const struct plog_info *now,
                         struct errinfo *info)
{
    return errinfo_set(info, ERR_TIER,
                       "records of \"%.100s\" partition %d below offset %" PRId64
                       " are in the lake alone, which is not open here",
                       p->topic->name, (int)p->index, now->start_offset);
}

static struct tier *tier_of(const struct partition *p)
{
    return atomic_load(&p->topic->broker->tier);
}

/* Nothing is in memory: a pass that goes on there, or begins. ERR_AGAIN, ERR_EOF, ERR_TIER. */
static enum err pass_ask(struct tier *t, struct partition *p, int64_t offset, int64_t *next,
                         struct errinfo *info)
{
    struct pass *s = pass_find(t, p, offset);
    uint64_t now = io_mono_ns(t->b->conf.io);
    struct plog_info log;

    if (s && s->failed_ns) {
        if (now - s->failed_ns < FAILED_NS)
            return unreachable(&s->why, info);
        s->failed_ns = 0;
    }
    if (s && s->ended) {
        plog_info_get(p->log, &log);
        if (s->to >= log.start_offset) {
            *next = s->to;
            return ERR_EOF;
        }
        s->ended = false; /* the lake has more by now */
    }
    if (!s && t->passes_n >= LIMIT_TIER_PASSES) {
        struct pass *idle = pass_idle(t, UINT64_MAX, false);

        if (!idle || idle->s)
            return errinfo_set(info, ERR_TIER, "too many readers of older records at once");
        (void)pass_free(t, idle);
    }
    if (!s)
        s = pass_new(t, p, offset);
    pass_touch(t, s);
    pass_want(t, s, ahead(t));
    return ERR_AGAIN;
}

static enum err read_locked(struct tier *t, struct partition *p, int64_t offset, size_t bytes_max,
                            struct plog_read *r, int64_t *next, struct errinfo *info)
{
    struct block *k;

    if (t->closing)
        return unreachable(NULL, info);
    while ((k = block_find(t, p, offset))) {
        struct pass *s = k->pass;
        uint32_t behind = blocks_behind(k), most = ahead(t);

        block_copy(k, offset, bytes_max, r);
        list_remove(&k->lru);
        list_push_back(&t->blocks, &k->lru);
        pass_touch(t, s);
        if (behind < most)
            pass_want(t, s, most - behind);
        if (r->n)
            return ERR_OK;
        offset = k->b.next;
    }
    return pass_ask(t, p, offset, next, info);
}

enum err tier_read(struct partition *p, int64_t offset, size_t bytes_max, struct plog_read *r,
                   int64_t *next, struct errinfo *info)
{
    struct tier *t = tier_of(p);
    struct plog_info now;
    enum err e;

    plog_read_release(r);
    r->n = 0;
    r->bytes = 0;
    r->start_offset = partition_start(p);
    plog_info_get(p->log, &now);
    r->end_offset = now.end_offset;
    if (offset < r->start_offset)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " is below the first that is kept, %" PRId64, offset,
                           r->start_offset);
    if (offset >= now.start_offset) {
        *next = offset;
        return ERR_EOF;
    }
    if (!t)
        return not_open(p, &now, info);
    io_mutex_lock(&t->lock);
    e = read_locked(t, p, offset, bytes_max, r, next, info);
    io_mutex_unlock(&t->lock);
    return e;
}

enum err partition_read(struct partition *p, int64_t *offset, size_t bytes_max, struct plog_read *r,
                        bool *cold, struct errinfo *info)
{
    enum err e;

    do {
        *cold = false;
        e = plog_read(p->log, *offset, bytes_max, r, info);
        if (e != ERR_OFFSET_RANGE || *offset >= r->start_offset || *offset < partition_start(p))
            return e;
        *cold = true;
        e = tier_read(p, *offset, bytes_max, r, offset, info);
    } while (e == ERR_EOF);
    return e;
}

/* ---- searching ---- */

static void search_free(struct tier *t, struct search *q)
{
    struct topic *topic = q->p->topic;

    list_remove(&q->link);
    t->searches_n--;
    topic_unref(&topic);
    free(q);
}

/* Forgets results: all that are older, and if there are too many the oldest. */
static void searches_trim(struct tier *t, uint64_t before_ns)
{
    struct list_node *n = t->searches.node.next, *then;

    for (; n != &t->searches.node; n = then) {
        struct search *q = list_entry(n, struct search, link);

        then = n->next;
        if (q->done && (q->done_ns < before_ns || t->searches_n > LIMIT_TIER_SEARCHES))
            search_free(t, q);
    }
}

static struct search *search_get(struct tier *t, struct partition *p, enum tier_by by,
                                 int64_t value, int64_t from)
{
    struct search *q;

    list_for_each(q, &t->searches, struct search, link)
    {
        if (q->p == p && q->by == by && q->value == value && q->from == from)
            return q;
    }
    q = xcalloc(1, sizeof *q);
    q->p = p;
    topic_ref(p->topic);
    q->by = by;
    q->value = value;
    q->from = from;
    q->queued = true;
    list_push_back(&t->searches, &q->link);
    list_push_back(&t->asked, &q->queue);
    t->searches_n++;
    io_cond_signal(&t->work);
    return q;
}

/* Is the place of a position clear from what is in memory? For readers who come page by page. */
static bool position_cached(struct tier *t, const struct partition *p, uint64_t position,
                            int64_t from, int64_t *offset)
{
    struct block *k;
    uint32_t i;

    list_for_each(k, &t->blocks, struct block, lru)
    {
        /* a marker that closes a gap has no position, and tells nothing of what lies before it */
        if (k->pass->p != p || k->b.n == 0 || k->from < from || k->b.batch[0].position == 0 ||
            k->b.batch[0].position > position)
            continue;
        for (i = 0; i < k->b.n; i++) {
            const struct tier_batch *b = &k->b.batch[i];

            if (b->position + (uint64_t)(b->last_offset - b->base_offset) < position)
                continue;
            *offset = b->base_offset;
            if (b->position < position)
                *offset += (int64_t)(position - b->position);
            return true;
        }
        if (k->link.next != &k->pass->blocks.node) { /* it is where the next block begins */
            *offset = list_entry(k->link.next, struct block, link)->b.batch[0].base_offset;
            if (list_entry(k->link.next, struct block, link)->b.batch[0].position > position)
                return true;
        }
    }
    return false;
}

static enum err find_locked(struct tier *t, struct partition *p, enum tier_by by, int64_t value,
                            int64_t from, int64_t *offset, int64_t *ts_ms, struct errinfo *info)
{
    uint64_t now = io_mono_ns(t->b->conf.io);
    struct search *q;

    if (t->closing)
        return unreachable(NULL, info);
    if (by == TIER_BY_POSITION && position_cached(t, p, (uint64_t)value, from, offset))
        return ERR_OK;
    searches_trim(t, now > FOUND_NS ? now - FOUND_NS : 0);
    if (t->searches_n > 2 * LIMIT_TIER_SEARCHES)
        return errinfo_set(info, ERR_TIER, "too many searches in older records at once");
    q = search_get(t, p, by, value, from);
    if (!q->done)
        return ERR_AGAIN;
    *offset = q->offset;
    *ts_ms = q->ts_ms;
    return q->e && q->e != ERR_EOF ? unreachable(&q->why, info) : q->e;
}

enum err tier_find(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                   int64_t *ts_ms, struct errinfo *info)
{
    int64_t from = partition_start(p);
    struct tier *t = tier_of(p);
    struct plog_info now;
    enum err e;

    plog_info_get(p->log, &now);
    if (from >= now.start_offset)
        return ERR_EOF;
    if (!t)
        return not_open(p, &now, info);
    io_mutex_lock(&t->lock);
    e = find_locked(t, p, by, value, from, offset, ts_ms, info);
    io_mutex_unlock(&t->lock);
    return e;
}

/* May the record that is wanted be an older one? The log says up to where it has deleted. */
static bool may_be_older(const struct partition *p, const struct plog_info *now, enum tier_by by,
                         int64_t value)
{
    if (partition_start(p) >= now->start_offset)
        return false;
    if (by == TIER_BY_TIME)
        return now->gone_ts < 0 || value <= now->gone_ts;
    return now->gone_most == 0 || (uint64_t)value < now->gone_most;
}

enum err partition_seek(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                        struct errinfo *info)
{
    struct plog_info was, now;
    int64_t ts_ms;
    enum err e;

    plog_info_get(p->log, &now);
    do { /* it may go from here to there while it is looked for */
        was = now;
        e = ERR_EOF;
        if (may_be_older(p, &was, by, value))
            e = tier_find(p, by, value, offset, &ts_ms, info);
        if (e == ERR_EOF)
            e = by == TIER_BY_TIME ? plog_seek_time(p->log, value, offset, info)
                                   : plog_seek_position(p->log, (uint64_t)value, offset, info);
        plog_info_get(p->log, &now);
    } while (!e && now.start_offset != was.start_offset);
    return e;
}

/* ---- waiting ---- */

struct wake {
    struct waiter w; /* first */
    struct io_event event;
};

static void woken(struct waiter *w)
{
    io_event_signal(&((struct wake *)w)->event);
}

static void wait_fetched(struct topic *t, uint64_t seen)
{
    struct wake k = {.w.wake = woken};

    io_event_init(&k.event);
    if (topic_wait(t, seen, &k.w))
        io_event_wait(&k.event, WAIT_NS);
    waiter_cancel(&k.w);
    io_event_fini(&k.event);
}

enum err partition_read_wait(struct partition *p, int64_t *offset, size_t bytes_max,
                             struct plog_read *r, struct errinfo *info)
{
    uint64_t seen;
    bool cold;
    enum err e;

    for (;;) {
        seen = topic_commits(p->topic);
        e = partition_read(p, offset, bytes_max, r, &cold, info);
        if (e != ERR_AGAIN || !cold)
            return e;
        wait_fetched(p->topic, seen);
    }
}

enum err partition_seek_wait(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                             struct errinfo *info)
{
    uint64_t seen;
    enum err e;

    for (;;) {
        seen = topic_commits(p->topic);
        e = partition_seek(p, by, value, offset, info);
        if (e != ERR_AGAIN)
            return e;
        wait_fetched(p->topic, seen);
    }
}

/* ---- life ---- */

enum err tier_start(struct broker *b, const struct tier_ops *ops, struct errinfo *info)
{
    struct tier *t = xcalloc(1, sizeof *t);
    enum err e = ERR_OK;
    unsigned i;

    ASSERT(!atomic_load(&b->tier));
    t->b = b;
    t->ops = *ops;
    io_mutex_init(&t->lock);
    io_cond_init(&t->work);
    list_init(&t->passes);
    list_init(&t->queue);
    list_init(&t->blocks);
    list_init(&t->searches);
    list_init(&t->asked);
    atomic_store(&b->tier, t);
    for (i = 0; !e && i < THREADS; i++)
        e = io_thread_start("weir-tier", IO_PRIO_BACKGROUND, tier_main, t, &t->threads[i], info);
    if (e)
        tier_stop(b);
    return e;
}

void tier_stop(struct broker *b)
{
    struct tier *t = atomic_load(&b->tier);
    struct tier_pass *open;
    unsigned i;

    if (!t)
        return;
    io_mutex_lock(&t->lock);
    t->closing = true;
    io_cond_broadcast(&t->work);
    io_mutex_unlock(&t->lock);
    for (i = 0; i < THREADS; i++)
        if (t->threads[i])
            io_thread_join(&t->threads[i]);
    io_mutex_lock(&t->lock);
    while (!list_empty(&t->passes)) {
        struct pass *s = list_entry(t->passes.node.next, struct pass, link);

        s->queued = false;
        open = pass_free(t, s);
        if (open)
            t->ops.close(&open);
    }
    while (!list_empty(&t->searches))
        search_free(t, list_entry(t->searches.node.next, struct search, link));
    io_mutex_unlock(&t->lock);
}

void tier_free(struct broker *b)
{
    struct tier *t = atomic_load(&b->tier);

    if (!t)
        return;
    tier_stop(b);
    atomic_store(&b->tier, NULL);
    io_cond_fini(&t->work);
    io_mutex_fini(&t->lock);
    free(t);
}

void tier_tick(struct broker *b)
{
    struct tier *t = atomic_load(&b->tier);
    uint64_t now = io_mono_ns(b->conf.io);
    struct tier_pass *open;
    struct pass *s;

    if (!t || now < IDLE_NS)
        return;
    io_mutex_lock(&t->lock);
    while ((s = pass_idle(t, now - IDLE_NS, false))) {
        open = pass_free(t, s);
        if (!open)
            continue;
        io_mutex_unlock(&t->lock);
        t->ops.close(&open);
        io_mutex_lock(&t->lock);
    }
    searches_trim(t, now > FOUND_NS ? now - FOUND_NS : 0);
    io_mutex_unlock(&t->lock);
}

void tier_stats_get(struct broker *b, struct tier_stats *out)
{
    struct tier *t = atomic_load(&b->tier);

    memset(out, 0, sizeof *out);
    if (!t)
        return;
    io_mutex_lock(&t->lock);
    *out = t->st;
    out->cached_bytes = t->bytes;
    out->passes = t->passes_n;
    io_mutex_unlock(&t->lock);
}
