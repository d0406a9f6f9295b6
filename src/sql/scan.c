/* See scan.h. What a piece of rows points into (reads of the log, inflated batches, memory of
 * scan_alloc) is a `hold`; it carries the number of the last piece that uses it and is used again
 * when that is two pieces ago. */
#include "sql/scan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/producer.h"
#include "broker/tier.h"

#define READ_BYTES  (1u << 20)  /* of one read of the log */
#define READ_FIRST  (64u << 10) /* of a task's first read: look-ups want one batch */
#define TASK_LEAST  32768u      /* records; smaller tasks cost more than they bring */
#define TASK_MOST   262144u
#define ARENA_LEAST (64u << 10)
#define KEEP_BYTES  (4u << 20) /* a larger buffer is not kept for the next use */

const struct sql_bounds scan_unbounded = {.partition = -1,
                                          .offset_max = INT64_MAX,
                                          .position_max = UINT64_MAX,
                                          .ts_min_ms = INT64_MIN,
                                          .ts_max_ms = INT64_MAX};

/* ---- views ---- */

static void part_add(struct scan_view *v, struct partition *p, int64_t from, int64_t to)
{
    if (to <= from)
        return;
    v->part[v->parts_n++] = (struct scan_part){p, partition_index(p), from, to};
    v->rows += (uint64_t)(to - from);
}

/* The end of what is visible below `position`. */
static int64_t part_end(struct partition *p, uint64_t position)
{
    struct plog_info now;
    int64_t end = partition_lso(p), cut;

    plog_info_get(partition_log(p), &now);
    if (now.position_end > position &&
        plog_seek_position(partition_log(p), position, &cut, NULL) == ERR_OK && cut < end)
        end = cut;
    return end;
}

void scan_view_take(struct scan_view *v, struct broker *b, struct topic *t)
{
    struct plog_info now;
    struct topic_conf c;
    int32_t i, n;
    uint64_t position, commits;
    unsigned tries = 0;

    memset(v, 0, sizeof *v);
    v->topic = topic_ref(t);
    topic_conf_get(t, &c);
    v->older = c.lake_format == LAKE_JSONL; /* no table has them */
    v->ts_min = INT64_MIN;
    v->ts_max = INT64_MAX;
    n = topic_partitions(t);
    v->part = xcalloc((size_t)n + 1, sizeof *v->part);
    do { /* a transaction that ends in between is seen in all partitions or in none */
        commits = topic_commits(t);
        position = journal_position_end(broker_journal(b));
        v->parts_n = 0;
        v->rows = 0;
        for (i = 0; i < n; i++) {
            struct partition *p = topic_partition(t, i);
            int64_t end = part_end(p, position);

            plog_info_get(partition_log(p), &now);
            part_add(v, p, v->older ? partition_start(p) : now.start_offset, end);
        }
    } while (n > 1 && commits != topic_commits(t) && ++tries < 8);
}

enum err scan_view_ranges(struct scan_view *v, struct broker *b, struct topic *t,
                          const struct sql_range *ranges, unsigned n, struct errinfo *info)
{
    unsigned i;
    enum err e = ERR_OK;

    memset(v, 0, sizeof *v);
    v->topic = topic_ref(t);
    v->ts_min = INT64_MIN;
    v->ts_max = INT64_MAX;
    v->strict = v->older = true;
    v->part = xcalloc((size_t)n + 1, sizeof *v->part);
    for (i = 0; !e && i < n; i++) {
        struct partition *p = topic_partition(t, ranges[i].partition);
        int64_t end;

        if (!p) {
            e = errinfo_set(info, ERR_PARTITION_NOT_FOUND, "\"%s\" has no partition %d",
                            topic_name(t), (int)ranges[i].partition);
            break;
        }
        end = part_end(p, UINT64_MAX);
        if (ranges[i].from < ranges[i].to &&
            (ranges[i].from < partition_start(p) || ranges[i].to > end))
            e = errinfo_set(info, ERR_OFFSET_RANGE,
                            "offsets %" PRId64 " to %" PRId64 " of \"%s\" partition %d are not all "
                            "there: it has %" PRId64 " to %" PRId64,
                            ranges[i].from, ranges[i].to, topic_name(t), (int)ranges[i].partition,
                            partition_start(p), end);
        else
            part_add(v, p, ranges[i].from, ranges[i].to);
    }
    if (e)
        scan_view_fini(v);
    return e;
}

/* Narrows [*from, *to) by position and time. What begins in the lake is not: the local log does not know
 * where it has them. */
static enum err part_cut(struct partition *p, const struct sql_bounds *b, int64_t *from,
                         int64_t *to, struct errinfo *info)
{
    struct plog *log = partition_log(p);
    struct plog_info now;
    int64_t at;
    enum err e = ERR_OK;

    if (b->offset_min > *from)
        *from = b->offset_min;
    if (b->offset_max < INT64_MAX && b->offset_max + 1 < *to)
        *to = b->offset_max + 1;
    plog_info_get(log, &now);
    if (*from < now.start_offset)
        return ERR_OK;
    if (*from < *to && b->position_min > 1) {
        e = plog_seek_position(log, b->position_min, &at, info);
        if (!e && at > *from)
            *from = at;
    }
    if (!e && *from < *to && b->position_max < UINT64_MAX) {
        e = plog_seek_position(log, b->position_max + 1, &at, info);
        if (!e && at < *to)
            *to = at;
    }
    if (!e && *from < *to && b->ts_min_ms > 0) {
        e = plog_seek_time(log, b->ts_min_ms, &at, info);
        if (!e && at > *from)
            *from = at;
    }
    return e == ERR_TOPIC_NOT_FOUND ? ERR_OK : e;
}

/* The part of [from, to) that may have records of the view's times, in pieces. */
static void parts_add(struct scan_view *v, uint32_t *cap, struct partition *p, int64_t from,
                      int64_t to)
{
    struct zone_range range[ZONE_RANGES_MAX] = {{from, to}};
    uint32_t i, n = 1;

    if (v->zones)
        n = zones_cut(v->zones, topic_uuid(v->topic), partition_index(p), from, to, v->ts_max,
                      range);
    if (v->parts_n + n > *cap) {
        *cap = 2 * (v->parts_n + n);
        v->part = xrealloc(v->part, *cap * sizeof *v->part);
    }
    for (i = 0; i < n; i++)
        part_add(v, p, range[i].from, range[i].to);
}

enum err scan_view_cut(const struct scan_view *v, const struct sql_bounds *b,
                       const int64_t *boundary, const int64_t *end, uint32_t n, struct zones *zones,
                       struct scan_view *out, struct errinfo *info)
{
    uint32_t i, cap = v->parts_n + 1;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    out->topic = topic_ref(v->topic);
    out->ts_min = b->ts_min_ms > v->ts_min ? b->ts_min_ms : v->ts_min;
    out->ts_max = b->ts_max_ms < v->ts_max ? b->ts_max_ms : v->ts_max;
    out->strict = v->strict;
    out->patient = v->patient;
    out->older = v->older;
    out->zones = out->ts_max < INT64_MAX ? zones : NULL;
    out->part = xcalloc(cap, sizeof *out->part);
    for (i = 0; !e && i < v->parts_n; i++) {
        const struct scan_part *p = &v->part[i];
        int64_t from = p->from, to = p->to;

        if (b->partition >= 0 && p->index != b->partition)
            continue;
        if ((uint32_t)p->index < n) {
            if (boundary && boundary[p->index] > from)
                from = boundary[p->index];
            if (end && end[p->index] < to)
                to = end[p->index];
        } else if (end) {
            continue; /* the partition came later */
        }
        e = part_cut(p->p, b, &from, &to, info);
        if (!e)
            parts_add(out, &cap, p->p, from, to);
    }
    if (e)
        scan_view_fini(out);
    return e;
}

void scan_view_fini(struct scan_view *v)
{
    topic_unref(&v->topic);
    free(v->part);
    memset(v, 0, sizeof *v);
}

/* ---- tasks ---- */

void scan_tasks_init(struct scan_tasks *t, const struct scan_view *v, unsigned threads)
{
    uint64_t size = v->rows / ((uint64_t)threads * 8 + 1);
    uint32_t i, cap = 0;

    if (size > TASK_MOST)
        size = TASK_MOST;
    if (size < TASK_LEAST)
        size = TASK_LEAST;
    memset(t, 0, sizeof *t);
    t->view = v;
    for (i = 0; i < v->parts_n; i++)
        cap += (uint32_t)(((uint64_t)(v->part[i].to - v->part[i].from) + size - 1) / size);
    t->task = xcalloc((size_t)cap + 1, sizeof *t->task);
    for (i = 0; i < v->parts_n; i++) {
        struct scan_part p = v->part[i];
        int64_t end = p.to;

        for (; p.from < end; p.from = p.to) {
            p.to = (uint64_t)(end - p.from) > size ? p.from + (int64_t)size : end;
            ASSERT(t->n < cap);
            t->task[t->n++] = p;
        }
    }
}

void scan_tasks_fini(struct scan_tasks *t)
{
    free(t->task);
    t->task = NULL;
}

/* ---- scans ---- */

enum hold_kind { HOLD_READ, HOLD_BYTES };
struct hold {
    enum hold_kind kind;
    bool busy;     /* being read from or written to */
    uint64_t last; /* piece that used it last */
    struct hold *next;
    struct plog_read *read; /* HOLD_READ */
    struct buf buf;         /* HOLD_BYTES; len: used */
};

struct scan {
    struct scan_tasks *tasks;
    uint64_t piece; /* number of the piece being filled */
    struct hold *used, *free_reads, *free_bytes;
    struct scan_part task;
    bool in_task;
    bool first;
    int64_t next; /* offset to read from */
    struct hold *read;
    unsigned at; /* batch of the read */
    bool open;   /* `it` is in it */
    struct hold *inflated;
    struct hold *arena;
    struct batch_iter it;
    int64_t base_offset;
    uint64_t base_position;
    int64_t batch_min_ms;                    /* of the open batch's records so far */
    int64_t zone_from, zone_to, zone_min_ms; /* seen without a gap, and not yet told; empty: none */
    uint64_t rows, bytes;                    /* not yet added to the tasks' */
};

struct scan *scan_new(struct scan_tasks *t)
{
    struct scan *s = xcalloc(1, sizeof *s);

    s->tasks = t;
    s->piece = 2;
    return s;
}

static void hold_free(struct hold *h)
{
    if (h->read) {
        plog_read_release(h->read);
        free(h->read);
    }
    buf_fini(&h->buf);
    free(h);
}

static void holds_free(struct hold *h)
{
    struct hold *next;

    for (; h; h = next) {
        next = h->next;
        hold_free(h);
    }
}

/* ---- what is learnt of times ---- */

static void zone_tell(struct scan *s)
{
    const struct scan_view *v = s->tasks->view;
    struct plog_info now;

    if (s->zone_from < s->zone_to) {
        plog_info_get(partition_log(s->task.p), &now);
        zones_learn(v->zones, topic_uuid(v->topic), s->task.index, now.start_offset, s->zone_from,
                    s->zone_to, s->zone_min_ms);
    }
    s->zone_from = s->zone_to = 0;
}

/* All records in [from, to) are seen, of which none is earlier. What lies between this and what was
 * seen before is no record. */
static void zone_seen(struct scan *s, int64_t from, int64_t to, int64_t min_ms)
{
    if (!s->tasks->view->zones)
        return;
    if (s->zone_to - s->zone_from >= ZONE_RECORDS)
        zone_tell(s);
    if (s->zone_from >= s->zone_to) {
        s->zone_from = from;
        s->zone_min_ms = INT64_MAX;
    }
    s->zone_to = to;
    if (min_ms < s->zone_min_ms)
        s->zone_min_ms = min_ms;
}

void scan_free(struct scan **sp)
{
    struct scan *s = *sp;

    if (!s)
        return;
    zone_tell(s);
    atomic_fetch_add(&s->tasks->rows, s->rows);
    atomic_fetch_add(&s->tasks->bytes, s->bytes);
    holds_free(s->used);
    holds_free(s->free_reads);
    holds_free(s->free_bytes);
    free(s);
    *sp = NULL;
}

static struct hold *hold_take(struct scan *s, enum hold_kind kind)
{
    struct hold **list = kind == HOLD_READ ? &s->free_reads : &s->free_bytes, *h = *list;

    if (h) {
        *list = h->next;
    } else {
        h = xcalloc(1, sizeof *h);
        h->kind = kind;
        if (kind == HOLD_READ)
            h->read = xcalloc(1, sizeof *h->read);
        else
            buf_init(&h->buf, LIMIT_BATCH_INFLATED);
    }
    h->busy = true;
    h->last = s->piece;
    h->next = s->used;
    s->used = h;
    return h;
}

/* Not written to or read from any more; lives as long as what was given points to it. */
static void hold_done(struct scan *s, struct hold **h)
{
    if (*h) {
        (*h)->busy = false;
        (*h)->last = s->piece;
    }
    *h = NULL;
}

static void hold_recycle(struct scan *s, struct hold *h)
{
    struct hold **list = h->kind == HOLD_READ ? &s->free_reads : &s->free_bytes;

    if (h->kind == HOLD_READ) {
        plog_read_recycle(h->read, KEEP_BYTES);
    } else if (h->buf.cap > KEEP_BYTES) {
        hold_free(h);
        return;
    } else {
        buf_clear(&h->buf);
    }
    h->next = *list;
    *list = h;
}

/* A new piece begins: what was last used two pieces ago is free. */
static void piece_begin(struct scan *s)
{
    struct hold **at = &s->used, *h;

    s->piece++;
    hold_done(s, &s->arena);
    while ((h = *at)) {
        if (h->busy || h->last + 2 > s->piece) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        hold_recycle(s, h);
    }
}

void *scan_alloc(struct scan *s, size_t n)
{
    void *p;

    if (s->arena && s->arena->buf.cap - s->arena->buf.len < n)
        hold_done(s, &s->arena);
    if (!s->arena) {
        size_t room = n > ARENA_LEAST ? n : ARENA_LEAST;

        s->arena = hold_take(s, HOLD_BYTES);
        if (buf_reserve(&s->arena->buf, room)) { /* beyond the maximum of a buffer */
            s->arena->buf.max = room;
            ASSERT(buf_reserve(&s->arena->buf, room) == ERR_OK);
        }
    }
    p = s->arena->buf.ptr + s->arena->buf.len;
    s->arena->buf.len += n;
    return p;
}

/* Reads on from s->next. ERR_EOF: nothing is left of the task. */
static enum err read_more(struct scan *s, struct errinfo *info)
{
    size_t most = s->first ? READ_FIRST : READ_BYTES;
    enum err e;

    hold_done(s, &s->read);
    if (s->next >= s->task.to)
        return ERR_EOF;
    s->read = hold_take(s, HOLD_READ);
    s->read->read->patient = s->tasks->view->patient;
    s->at = 0;
    if (s->tasks->view->older)
        e = partition_read_wait(s->task.p, &s->next, most, s->read->read, info);
    else
        e = plog_read(partition_log(s->task.p), s->next, most, s->read->read, info);
    s->first = false;
    if (e == ERR_OFFSET_RANGE && !s->tasks->view->strict &&
        s->read->read->start_offset > s->next) { /* deleted by retention meanwhile */
        s->next = s->read->read->start_offset;
        hold_done(s, &s->read);
        return read_more(s, info);
    }
    if (e)
        return e;
    s->bytes += s->read->read->bytes;
    return s->read->read->n ? ERR_OK : ERR_EOF;
}

static enum err corrupt(struct scan *s, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "a record at or after offset %" PRId64 " of \"%s\" partition %d does not "
                       "decode",
                       s->base_offset, topic_name(s->tasks->view->topic), (int)s->task.index);
}

/* Opens the next batch that has visible records. ERR_EOF: the task is done. */
static enum err batch_open(struct scan *s, struct errinfo *info)
{
    const struct read_batch *rb;
    struct batch_info bi;
    enum err e;

    for (;;) {
        if (!s->read || s->at == s->read->read->n)
            if ((e = read_more(s, info)))
                return e;
        rb = &s->read->read->batch[s->at++];
        if (rb->base_offset >= s->task.to) {
            s->next = s->task.to;
            return ERR_EOF;
        }
        s->next = rb->last_offset + 1;
        s->base_offset = rb->base_offset;
        s->base_position = rb->position;
        if (rb->last_offset < s->task.from)
            continue;
        if (rb->max_timestamp_ms < s->tasks->view->ts_min) {
            zone_tell(s); /* how early its records are is not looked at */
            continue;
        }
        if (batch_parse(rb->data, &bi))
            return corrupt(s, info);
        if ((bi.attributes & BATCH_CONTROL) ||
            ((bi.attributes & BATCH_TRANSACTIONAL) &&
             partition_aborted_batch(s->task.p, bi.producer_id, rb->base_offset))) {
            zone_seen(s, rb->base_offset, s->next, INT64_MAX);
            continue;
        }
        if (bi.attributes & BATCH_CODEC_MASK)
            s->inflated = hold_take(s, HOLD_BYTES);
        if (batch_iter_init(&s->it, rb->data, s->inflated ? &s->inflated->buf : NULL)) {
            hold_done(s, &s->inflated);
            return corrupt(s, info);
        }
        s->open = true;
        s->batch_min_ms = INT64_MAX;
        return ERR_OK;
    }
}

/* Records of the open batch into rows; closes it at its end. */
static enum err batch_rows(struct scan *s, struct scan_rows *rows, struct errinfo *info)
{
    int64_t ts_min = s->tasks->view->ts_min, ts_max = s->tasks->view->ts_max;
    struct record *r;
    enum err e = ERR_OK;

    s->read->last = s->piece;
    if (s->inflated)
        s->inflated->last = s->piece;
    while (rows->n < SCAN_ROWS) {
        r = &rows->rec[rows->n];
        e = batch_iter_next(&s->it, r);
        if (e)
            break;
        if (r->timestamp_ms < s->batch_min_ms)
            s->batch_min_ms = r->timestamp_ms;
        if (r->offset >= s->task.to) {
            s->next = s->task.to;
            s->at = s->read->read->n;
            e = ERR_EOF;
            break;
        }
        if (r->offset < s->task.from || r->timestamp_ms < ts_min || r->timestamp_ms > ts_max)
            continue;
        rows->position[rows->n++] = s->base_position + (uint64_t)(r->offset - s->base_offset);
    }
    if (!e)
        return ERR_OK;
    s->open = false;
    hold_done(s, &s->inflated);
    if (e == ERR_EOF)
        zone_seen(s, s->base_offset, s->next, s->batch_min_ms);
    return e == ERR_EOF ? ERR_OK : corrupt(s, info);
}

/* The next task, if there is one. */
static bool task_take(struct scan *s)
{
    uint32_t i = atomic_fetch_add(&s->tasks->next, 1);

    hold_done(s, &s->read);
    zone_tell(s);
    s->in_task = i < s->tasks->n;
    if (!s->in_task)
        return false;
    s->task = s->tasks->task[i];
    s->next = s->task.from;
    s->open = false;
    s->first = true;
    return true;
}

enum err scan_next(struct scan *s, struct scan_rows *rows, struct errinfo *info)
{
    enum err e;

    piece_begin(s);
    rows->n = 0;
    while (rows->n < SCAN_ROWS) {
        if (!s->in_task) {
            if (rows->n || !task_take(s)) /* a piece is of one partition */
                break;
        }
        rows->partition = s->task.index;
        if (!s->open) {
            e = batch_open(s, info);
            if (e == ERR_EOF) {
                s->in_task = false;
                continue;
            }
            if (e)
                return e;
        }
        if ((e = batch_rows(s, rows, info)))
            return e;
    }
    s->rows += rows->n;
    return ERR_OK;
}
