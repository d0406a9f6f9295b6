/* Readers: single records in total order of position over any set of partitions.
 *
 * A reader has a place for each partition. Places with unread records are in a heap ordered by
 * the position of their next record (or a lower bound of it, until the record is decoded). Reading
 * goes in rounds, each bounded by visible_end as it was before the partitions were looked at: below
 * that bound everything is readable in every partition, so the least position in the heap is the
 * next of all, and nothing at or beyond the bound is given out. Hence invariant: positions given
 * out only grow, and no position below one given out becomes readable later.
 *
 * Memory: a place is some 64 bytes. Batches are copied out of the log into buffers (so no frame is
 * pinned by a slow reader), of which a reader holds at most LIMIT_READER_BYTES and one batch, in at
 * most LIMIT_READER_BUFFERS; the one used longest ago goes first. An idle reader holds none.
 *
 * A partition's records are looked for again when recent_parts names it, or, for readers of few
 * partitions, in every round. Topics that a pattern matches join when recent_topics names them.
 *
 * A key's records are in the partition of its hash alone unless the topic is "scattered": it had
 * fewer partitions once, or a record was put elsewhere on purpose; then all partitions are read.
 * One thread at a time. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/murmur2.h"
#include "base/topic_name.h"
#include "broker/broker_int.h"
#include "journal/batch.h"

#define READER_MAGIC   0x52454144u
#define FEW_PLACES     16u          /* so many are looked at in every round */
#define READ_BYTES_MAX (256u << 10) /* of one read when few partitions are active */
#define READ_BYTES_MIN (4u << 10)
#define NOT_IN_HEAP    UINT32_MAX
#define NO_PLACE       UINT32_MAX
#define LIST_TOPICS    256u
#define NO_TIME        INT64_MIN

enum seek { SEEK_NOTHING, SEEK_POSITION, SEEK_TIME };

struct cbuf;

struct place {
    struct partition *p; /* its topic is referenced */
    int64_t next;        /* offset of the next record */
    uint64_t pos;        /* its position, or less */
    int64_t from_ms;     /* records before the first with such a timestamp are left out; NO_TIME */
    struct cbuf *buf;    /* batches from `next` on, or NULL */
    uint32_t heap_at;
    uint32_t uid_next; /* place + 1 in the same bucket */
    uint8_t seek;      /* enum seek: `next` is to be found among older records first */
    bool fresh;        /* nothing was read: trimming is no loss when reading from the start */
};

struct cbatch {
    uint32_t off, len;
    int64_t last_offset, base_offset;
    uint64_t position;
};

/* Batches of one place, copied, and the decoding of one of them. */
struct cbuf {
    struct list_node lru; /* r->bufs */
    uint32_t place;
    uint8_t *data;
    struct cbatch *batch;
    uint32_t n, at; /* batches; the one being decoded */
    bool open;      /* `it` is in batch[at] */
    bool peeked;    /* rec is the place's next record */
    size_t bytes;   /* counted against the limit */
    struct batch_iter it;
    struct buf scratch;
    struct record rec;
};

enum selector { SEL_ALL, SEL_KEY, SEL_KEYED };

struct reader {
    uint32_t magic;
    struct broker *b;
    struct topic *topic; /* the only one, or NULL: pattern */
    char pattern[TOPIC_NAME_MAX + 1];
    enum selector sel;
    uint8_t *key;
    size_t key_len;
    int32_t partition; /* -1: all */
    bool from_start;   /* the first places begin at their log's start */
    bool by_time;
    int64_t time_ms;
    uint64_t start;       /* positions below it are not wanted */
    uint64_t plain_start; /* and below this one only of transactions */
    uint64_t position_max;

    struct place *cur;
    uint32_t cur_n, cur_cap;
    uint32_t *by_uid; /* place + 1; buckets */
    uint32_t by_uid_cap;
    uint32_t *heap; /* place numbers, least pos first */
    uint32_t heap_n;
    int32_t topic_parts; /* places made for r->topic cover so many partitions */
    bool scattered;      /* as known when they were made */
    uint64_t parts_seen, topics_seen, commits_seen;
    bool begun;           /* a round was made */
    uint64_t bound;       /* of the round */
    uint64_t position;    /* all below it was seen */
    uint32_t given;       /* place whose record was given out last, or NO_PLACE */
    uint32_t gone_topics; /* deletions heard of since the places were swept */
    bool busy;
    bool cold;          /* the next record is being read from the lake */
    uint64_t cold_seen; /* commits when that was asked for */
    uint32_t scan_limit;

    struct list_head bufs; /* least recently used first */
    uint32_t bufs_n;
    size_t bufs_bytes;
    struct plog_read *rd;
    uint32_t *ids; /* RECENT_MAX, for recent_since; NULL until needed */
    struct record_header *headers;
    uint32_t headers_cap;
};

/* ---- the heap ---- */

static void heap_set(struct reader *r, uint32_t i, uint32_t c)
{
    r->heap[i] = c;
    r->cur[c].heap_at = i;
}

static void heap_up(struct reader *r, uint32_t i)
{
    uint32_t c = r->heap[i];

    while (i && r->cur[r->heap[(i - 1) / 2]].pos > r->cur[c].pos) {
        heap_set(r, i, r->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(r, i, c);
}

static void heap_down(struct reader *r, uint32_t i)
{
    uint32_t c = r->heap[i], k;

    for (;; i = k) {
        k = 2 * i + 1;
        if (k + 1 < r->heap_n && r->cur[r->heap[k + 1]].pos < r->cur[r->heap[k]].pos)
            k++;
        if (k >= r->heap_n || r->cur[r->heap[k]].pos >= r->cur[c].pos)
            break;
        heap_set(r, i, r->heap[k]);
    }
    heap_set(r, i, c);
}

static void heap_push(struct reader *r, uint32_t c)
{
    heap_set(r, r->heap_n++, c);
    heap_up(r, r->heap_n - 1);
}

static void heap_pop(struct reader *r)
{
    r->cur[r->heap[0]].heap_at = NOT_IN_HEAP;
    if (--r->heap_n) {
        heap_set(r, 0, r->heap[r->heap_n]);
        heap_down(r, 0);
    }
}

/* ---- buffers ---- */

static void cbuf_count(struct reader *r, struct cbuf *cb, size_t bytes)
{
    r->bufs_bytes = r->bufs_bytes - cb->bytes + bytes;
    cb->bytes = bytes;
}

static void cbuf_drop(struct reader *r, struct cbuf *cb)
{
    r->cur[cb->place].buf = NULL;
    cbuf_count(r, cb, 0);
    list_remove(&cb->lru);
    r->bufs_n--;
    buf_fini(&cb->scratch);
    free(cb->data);
    free(cb->batch);
    free(cb);
}

static void cbufs_clear(struct reader *r)
{
    while (!list_empty(&r->bufs))
        cbuf_drop(r, list_entry(r->bufs.node.next, struct cbuf, lru));
    if (r->rd) {
        plog_read_release(r->rd);
        free(r->rd);
        r->rd = NULL;
    }
}

/* Makes room, keeping `keep`. */
static void cbufs_trim(struct reader *r, const struct cbuf *keep)
{
    while (r->bufs_n > 1 &&
           (r->bufs_bytes > LIMIT_READER_BYTES || r->bufs_n > LIMIT_READER_BUFFERS)) {
        struct cbuf *cb = list_entry(r->bufs.node.next, struct cbuf, lru);

        if (cb == keep)
            return; /* the newest is last: it alone is left */
        cbuf_drop(r, cb);
    }
}

static void cbuf_touch(struct reader *r, struct cbuf *cb)
{
    list_remove(&cb->lru);
    list_push_back(&r->bufs, &cb->lru);
}

/* Copies what was read, and lets the log's memory go. */
static void cbuf_make(struct reader *r, uint32_t c, struct plog_read *rd)
{
    struct cbuf *cb = xcalloc(1, sizeof *cb);
    uint32_t i, at = 0;

    cb->place = c;
    cb->data = xmalloc(rd->bytes);
    cb->batch = xmalloc(rd->n * sizeof *cb->batch);
    cb->n = rd->n;
    for (i = 0; i < rd->n; i++) {
        const struct read_batch *b = &rd->batch[i];

        memcpy(cb->data + at, b->data.ptr, b->data.len);
        cb->batch[i] =
            (struct cbatch){at, (uint32_t)b->data.len, b->last_offset, b->base_offset, b->position};
        at += (uint32_t)b->data.len;
    }
    buf_init(&cb->scratch, LIMIT_BATCH_INFLATED);
    list_push_back(&r->bufs, &cb->lru);
    r->bufs_n++;
    cbuf_count(r, cb, at);
    r->cur[c].buf = cb;
    cbufs_trim(r, cb);
}

/* ---- places ---- */

static uint32_t place_find(const struct reader *r, uint32_t uid)
{
    uint32_t c = r->by_uid_cap ? r->by_uid[uid & (r->by_uid_cap - 1)] : 0;

    while (c && r->cur[c - 1].p->uid != uid)
        c = r->cur[c - 1].uid_next;
    return c ? c - 1 : NO_PLACE;
}

static void by_uid_put(struct reader *r, uint32_t c)
{
    uint32_t *at = &r->by_uid[r->cur[c].p->uid & (r->by_uid_cap - 1)];

    r->cur[c].uid_next = *at;
    *at = c + 1;
}

static void by_uid_fill(struct reader *r)
{
    uint32_t c;

    memset(r->by_uid, 0, r->by_uid_cap * sizeof *r->by_uid);
    for (c = 0; c < r->cur_n; c++)
        by_uid_put(r, c);
}

static struct place *place_add(struct reader *r, struct partition *p)
{
    struct place *c;

    if (r->cur_n == r->cur_cap) {
        r->cur_cap = r->cur_cap ? r->cur_cap * 2 : 1;
        r->cur = xrealloc(r->cur, r->cur_cap * sizeof *r->cur);
        r->heap = xrealloc(r->heap, r->cur_cap * sizeof *r->heap);
        r->by_uid_cap = r->cur_cap;
        r->by_uid = xrealloc(r->by_uid, r->by_uid_cap * sizeof *r->by_uid);
        by_uid_fill(r);
    }
    c = &r->cur[r->cur_n];
    memset(c, 0, sizeof *c);
    c->p = p;
    c->heap_at = NOT_IN_HEAP;
    c->from_ms = NO_TIME;
    topic_ref(p->topic);
    by_uid_put(r, r->cur_n++);
    return c;
}

/* Puts the place into the heap if it has records to read. */
static void place_look(struct reader *r, uint32_t c)
{
    struct place *cu = &r->cur[c];
    struct plog_info now;

    if (cu->heap_at != NOT_IN_HEAP)
        return;
    plog_info_get(cu->p->log, &now);
    if (now.end_offset <= cu->next)
        return;
    if (cu->pos < r->position)
        cu->pos = r->position;
    heap_push(r, c);
}

/* Has the lake older records, of which some may be wanted? */
static bool place_older(const struct reader *r, struct place *c, const struct plog_info *now)
{
    if (partition_start(c->p) >= now->start_offset)
        return false;
    if (r->by_time)
        return now->gone_ts < 0 || r->time_ms <= now->gone_ts;
    return now->gone_most == 0 || c->pos < now->gone_most;
}

/* Finds where to begin in the local log; if it goes to the lake meanwhile, it is looked for there later. */
static enum err place_here(struct reader *r, struct place *c, struct errinfo *info)
{
    bool by_time = r->by_time && !r->begun;
    enum err e = by_time ? partition_seek(c->p, TIER_BY_TIME, r->time_ms, &c->next, info)
                         : partition_seek(c->p, TIER_BY_POSITION, (int64_t)c->pos, &c->next, info);

    if (e == ERR_AGAIN || e == ERR_TIER) {
        c->next = partition_start(c->p);
        c->seek = by_time ? SEEK_TIME : SEEK_POSITION;
        e = ERR_OK;
    }
    return e;
}

/* Where reading of a partition begins. One that joins later has nothing wanted below what was seen.
 */
static enum err place_start(struct reader *r, struct place *c, struct errinfo *info)
{
    struct plog_info now;
    enum err e = ERR_OK;

    plog_info_get(c->p->log, &now);
    c->pos = r->begun ? r->position : r->start;
    if (r->by_time && !r->begun)
        c->from_ms = r->time_ms;
    if (r->from_start && !r->begun) {
        c->next = partition_start(c->p);
        c->fresh = true;
    } else if (!r->begun && place_older(r, c, &now)) {
        c->next = partition_start(c->p);
        c->seek = r->by_time ? SEEK_TIME : SEEK_POSITION;
    } else if ((!r->by_time || r->begun) && now.position_end <= c->pos) {
        c->next = now.end_offset;
    } else {
        e = place_here(r, c, info);
    }
    if (e == ERR_TOPIC_NOT_FOUND) { /* deleted this moment */
        c->next = now.end_offset;
        e = ERR_OK;
    }
    return e;
}

static enum err partition_join(struct reader *r, struct topic *t, int32_t index,
                               struct errinfo *info)
{
    struct partition *p = topic_partition(t, index);
    enum err e;

    if (!p || place_find(r, p->uid) != NO_PLACE)
        return ERR_OK;
    e = place_start(r, place_add(r, p), info);
    if (!e)
        place_look(r, r->cur_n - 1);
    return e;
}

/* Makes the places that the topic's partitions need and that are not there. */
static enum err topic_join(struct reader *r, struct topic *t, struct errinfo *info)
{
    int32_t i, n = topic_partitions(t);
    bool one = r->sel == SEL_KEY && !atomic_load(&t->scattered);
    enum err e = ERR_OK;

    if (r->partition >= 0)
        return partition_join(r, t, r->partition, info);
    if (one)
        return partition_join(r, t, murmur2_partition(slice_of(r->key, r->key_len), n), info);
    for (i = 0; !e && i < n; i++)
        e = partition_join(r, t, i, info);
    return e;
}

static enum err topics_join_all(struct reader *r, struct errinfo *info)
{
    struct topic *list[LIST_TOPICS];
    char after[TOPIC_NAME_MAX + 1] = "";
    enum err e = ERR_OK;
    size_t i, n;

    do {
        n = topic_list(r->b, slice_str(after), r->pattern, list, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            if (!e)
                e = topic_join(r, list[i], info);
            if (i == n - 1)
                memcpy(after, topic_name(list[i]), strlen(topic_name(list[i])) + 1);
            topic_unref(&list[i]);
        }
    } while (!e && n == LIST_TOPICS);
    return e;
}

/* Drops the places of deleted topics. */
static void places_sweep(struct reader *r)
{
    uint32_t i, n = 0;

    r->heap_n = 0;
    for (i = 0; i < r->cur_n; i++) {
        struct place *c = &r->cur[i];
        bool queued = c->heap_at != NOT_IN_HEAP;
        struct topic *t = c->p->topic;

        if (topic_deleted(t)) {
            if (c->buf)
                cbuf_drop(r, c->buf);
            topic_unref(&t);
            continue;
        }
        if (c->buf)
            c->buf->place = n;
        r->cur[n] = *c;
        r->cur[n].heap_at = NOT_IN_HEAP;
        if (queued)
            heap_push(r, n);
        n++;
    }
    r->cur_n = n;
    r->gone_topics = 0;
    if (r->by_uid)
        by_uid_fill(r);
}

/* ---- rounds ---- */

/* What changed since *seen, into r->ids. */
static uint32_t recent_ids(struct reader *r, struct recent *recent, uint64_t *seen)
{
    if (!r->ids)
        r->ids = xmalloc(RECENT_MAX * sizeof *r->ids);
    return recent_since(recent, seen, r->ids);
}

/* Topics that came, grew or went. After the bound was read, before records are looked for. */
static enum err round_topics(struct reader *r, struct errinfo *info)
{
    struct topic *t = r->topic;
    enum err e = ERR_OK;
    uint32_t i, n;

    if (t) {
        bool scattered = atomic_load(&t->scattered);

        if (topic_deleted(t))
            return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic \"%s\" was deleted", t->name);
        if (topic_partitions(t) == r->topic_parts && scattered == r->scattered)
            return ERR_OK;
        r->topic_parts = topic_partitions(t);
        r->scattered = scattered;
        return topic_join(r, t, info);
    }
    n = recent_ids(r, &r->b->recent_topics, &r->topics_seen);
    if (n == UINT32_MAX) {
        places_sweep(r);
        return topics_join_all(r, info);
    }
    for (i = 0; !e && i < n; i++) {
        t = topic_find_id(r->b, r->ids[i]);
        if (!t)
            r->gone_topics++;
        else if (glob_match(r->pattern, t->name))
            e = topic_join(r, t, info);
        topic_unref(&t);
    }
    if (r->gone_topics > 64 && r->gone_topics > r->cur_n / 4)
        places_sweep(r);
    return e;
}

/* Key readers of patterns: a topic may have become scattered, which recent_topics does not say. */
static enum err round_scattered(struct reader *r, struct errinfo *info)
{
    struct topic *t = NULL;
    uint32_t i, n = r->cur_n;
    enum err e = ERR_OK;

    if (r->topic || r->sel != SEL_KEY || r->partition >= 0)
        return ERR_OK;
    for (i = 0; !e && i < n; i++) {
        if (r->cur[i].p->topic == t)
            continue;
        t = r->cur[i].p->topic;
        if (topic_partitions(t) > 1 && atomic_load(&t->scattered))
            e = topic_join(r, t, info);
    }
    return e;
}

static void round_partitions(struct reader *r)
{
    uint32_t i, c, n;

    if (r->cur_n > FEW_PLACES && r->begun) {
        n = recent_ids(r, &r->b->recent_parts, &r->parts_seen);
        if (n != UINT32_MAX) {
            for (i = 0; i < n; i++)
                if ((c = place_find(r, r->ids[i])) != NO_PLACE)
                    place_look(r, c);
            return;
        }
    } else {
        r->parts_seen = atomic_load(&r->b->recent_parts.n);
    }
    for (i = 0; i < r->cur_n; i++)
        place_look(r, i);
}

static bool reads_partition(void *arg, const struct partition *p)
{
    return place_find(arg, p->uid) != NO_PLACE;
}

/* The bound again, in front of what transactions that are open have written to our partitions:
 * reading beyond would pass by records that become visible later. */
static uint64_t bound_stable(struct reader *r, uint64_t bound)
{
    uint64_t open = producers_open_position(r->b, reads_partition, r);

    if (open < bound)
        bound = open;
    return r->begun && bound < r->bound ? r->bound : bound;
}

/* Begins a round if there may be more than in the last one; *more says whether. */
static enum err round_begin(struct reader *r, bool *more, struct errinfo *info)
{
    uint64_t commits = atomic_load(r->topic ? &r->topic->commits : &r->b->commits);
    uint64_t bound = atomic_load(&r->b->visible_end);
    enum err e;

    *more = false;
    if (r->begun && commits == r->commits_seen && bound == r->bound)
        return ERR_OK;
    e = round_topics(r, info);
    if (!e)
        e = round_scattered(r, info);
    if (e)
        return e;
    r->commits_seen = commits;
    bound = bound_stable(r, bound);
    *more = !r->begun || bound > r->bound;
    r->bound = bound;
    if (*more)
        round_partitions(r);
    r->begun = true;
    return ERR_OK;
}

/* ---- records ---- */

static size_t read_bytes(const struct reader *r)
{
    size_t n = LIMIT_READER_BYTES / 2 / (r->heap_n ? r->heap_n : 1);

    return n > READ_BYTES_MAX ? READ_BYTES_MAX : n < READ_BYTES_MIN ? READ_BYTES_MIN : n;
}

/* ERR_OFFSET_RANGE from the log: trimmed below us. */
static enum err place_trimmed(struct reader *r, struct place *c, struct errinfo *info)
{
    int64_t start = partition_start(c->p), lost = start - c->next, at = c->next;

    if (lost <= 0)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " of \"%s\" partition %d is beyond the end", at,
                           c->p->topic->name, (int)c->p->index);
    c->next = start;
    if (c->fresh)
        return ERR_AGAIN;
    return errinfo_set(info, ERR_OFFSET_RANGE,
                       "%" PRId64 " records of \"%s\" partition %d from offset %" PRId64
                       " on were deleted before they were read",
                       lost, c->p->topic->name, (int)c->p->index, at);
}

static _Atomic uint64_t *commits_of(struct reader *r)
{
    return r->topic ? &r->topic->commits : &r->b->commits;
}

/* Finds where to begin among older records, or in the log if none of them is wanted. ERR_AGAIN: it is
 * being looked for. */
static enum err place_seek(struct reader *r, struct place *c, struct errinfo *info)
{
    bool by_time = c->seek == SEEK_TIME;
    enum err e = by_time ? partition_seek(c->p, TIER_BY_TIME, c->from_ms, &c->next, info)
                         : partition_seek(c->p, TIER_BY_POSITION, (int64_t)c->pos, &c->next, info);

    if (!e)
        c->seek = SEEK_NOTHING;
    return e;
}

/* Reads batches from the place's next offset on. ERR_EOF: there are none. ERR_AGAIN: try again, at
 * once unless r->cold is set. */
static enum err place_load(struct reader *r, uint32_t n, struct errinfo *info)
{
    struct place *c = &r->cur[n];
    bool cold = true;
    enum err e;

    if (!r->rd)
        r->rd = xcalloc(1, sizeof *r->rd);
    r->cold_seen = atomic_load(commits_of(r));
    e = c->seek ? place_seek(r, c, info) : ERR_OK;
    if (!e)
        e = partition_read(c->p, &c->next, read_bytes(r), r->rd, &cold, info);
    r->cold = e == ERR_AGAIN && cold;
    if (e == ERR_OFFSET_RANGE)
        return place_trimmed(r, c, info);
    if (e)
        return e;
    if (r->rd->n == 0)
        return ERR_EOF;
    cbuf_make(r, n, r->rd);
    plog_read_release(r->rd);
    return ERR_OK;
}

static bool batch_aborted(struct place *c, const struct batch_info *bi)
{
    return bi->attributes & BATCH_TRANSACTIONAL &&
           partition_aborted_batch(c->p, bi->producer_id, bi->base_offset);
}

/* The next batch of the buffer that may have the record wanted, opened, or passed by (cb->open
 * says). ERR_EOF: none is left. ERR_AGAIN: it is beyond the round's bound, so it may be part of a
 * transaction of which nobody knows yet how it ends; the place is at it. */
static enum err cbuf_open(struct reader *r, struct place *c, struct cbuf *cb, struct errinfo *info)
{
    const struct cbatch *b;
    enum err e;

    while (cb->at < cb->n && cb->batch[cb->at].last_offset < c->next)
        cb->at++;
    if (cb->at == cb->n)
        return ERR_EOF;
    b = &cb->batch[cb->at];
    if (topic_deleted(c->p->topic)) /* how its transactions would have ended nobody knows */
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic \"%s\" was deleted",
                           c->p->topic->name);
    if (b->position >= r->bound) {
        c->pos = b->position;
        return ERR_AGAIN;
    }
    e = batch_iter_init(&cb->it, slice_of(cb->data + b->off, b->len), &cb->scratch);
    if (e)
        return errinfo_set(info, ERR_CORRUPT,
                           "the batch at offset %" PRId64 " of \"%s\" partition %d does not "
                           "decode: %s",
                           b->base_offset, c->p->topic->name, (int)c->p->index, err_text(e));
    cbuf_count(r, cb, cb->batch[cb->n - 1].off + cb->batch[cb->n - 1].len + cb->scratch.cap);
    cb->open = !(cb->it.info.attributes & BATCH_CONTROL) && !batch_aborted(c, &cb->it.info);
    if (!cb->open)
        c->next = b->last_offset + 1;
    return ERR_OK;
}

/* Decodes the next record into cb->rec. ERR_EOF: the buffer has no more. ERR_AGAIN: as cbuf_open. */
static enum err cbuf_next(struct reader *r, struct place *c, struct cbuf *cb, struct errinfo *info)
{
    enum err e;

    for (;;) {
        if (!cb->open) {
            if ((e = cbuf_open(r, c, cb, info)))
                return e;
            if (!cb->open)
                continue;
        }
        e = batch_iter_next(&cb->it, &cb->rec);
        if (e == ERR_EOF) {
            if (c->next <= cb->batch[cb->at].last_offset)
                c->next = cb->batch[cb->at].last_offset + 1;
            cb->open = false;
            continue;
        }
        if (e)
            return errinfo_set(info, ERR_CORRUPT,
                               "a record after offset %" PRId64 " of \"%s\" partition %d does not "
                               "decode",
                               c->next - 1, c->p->topic->name, (int)c->p->index);
        if (cb->rec.offset >= c->next)
            return ERR_OK;
    }
}

/* Makes place n's next record known, or that it is beyond the bound. ERR_EOF: it has none at
 * present. */
static enum err place_peek(struct reader *r, uint32_t n, struct errinfo *info)
{
    struct place *c = &r->cur[n];
    const struct cbatch *b;
    enum err e;

    for (;;) {
        if (!c->buf) {
            e = place_load(r, n, info);
            if (e == ERR_AGAIN && !r->cold)
                continue;
            if (e)
                return e;
        }
        e = cbuf_next(r, c, c->buf, info);
        if (e != ERR_EOF)
            break;
        cbuf_drop(r, c->buf);
    }
    if (e == ERR_AGAIN)
        return ERR_OK;
    if (e) {
        cbuf_drop(r, c->buf);
        return e;
    }
    b = &c->buf->batch[c->buf->at];
    c->next = c->buf->rec.offset;
    c->pos = b->position + (uint64_t)(c->buf->rec.offset - b->base_offset);
    c->fresh = false;
    c->buf->peeked = true;
    cbuf_touch(r, c->buf);
    cbufs_trim(r, c->buf);
    return ERR_OK;
}

static void place_advance(struct place *c)
{
    c->next++;
    c->pos++;
    if (c->buf)
        c->buf->peeked = false;
}

/* The record given out last is done with. */
static void given_end(struct reader *r)
{
    uint32_t n = r->given;

    r->given = NO_PLACE;
    if (n == NO_PLACE)
        return;
    place_advance(&r->cur[n]);
    heap_down(r, r->cur[n].heap_at);
}

static bool wanted(struct reader *r, struct place *c, const struct record *rec)
{
    if (c->pos < r->start)
        return false;
    if (c->pos < r->plain_start && !(c->buf->it.info.attributes & BATCH_TRANSACTIONAL))
        return false;
    if (c->from_ms != NO_TIME) {
        if (rec->timestamp_ms < c->from_ms)
            return false;
        c->from_ms = NO_TIME;
    }
    if (r->sel == SEL_KEY)
        return !slice_is_null(rec->key) && slice_eq(rec->key, slice_of(r->key, r->key_len));
    return r->sel != SEL_KEYED || !slice_is_null(rec->key);
}

static enum err give(struct reader *r, uint32_t n, struct reader_record *out, struct errinfo *info)
{
    struct place *c = &r->cur[n];
    const struct record *rec = &c->buf->rec;
    uint32_t headers = 0;
    enum err e;

    if (rec->headers_n > r->headers_cap) {
        r->headers_cap = rec->headers_n > LIMIT_RECORD_HEADERS ? LIMIT_RECORD_HEADERS
                                                               : (rec->headers_n + 15) & ~15u;
        r->headers = xrealloc(r->headers, r->headers_cap * sizeof *r->headers);
    }
    if (rec->headers_n) {
        e = record_headers(rec, r->headers, r->headers_cap, &headers);
        if (e)
            return errinfo_set(info, ERR_CORRUPT,
                               "the headers of offset %" PRId64 " of \"%s\" partition %d do not "
                               "decode",
                               rec->offset, c->p->topic->name, (int)c->p->index);
    }
    *out = (struct reader_record){.topic = c->p->topic,
                                  .partition = c->p->index,
                                  .offset = rec->offset,
                                  .position = c->pos,
                                  .timestamp_ms = rec->timestamp_ms,
                                  .key = rec->key,
                                  .value = rec->value,
                                  .headers = r->headers,
                                  .headers_n = headers};
    r->given = n;
    return ERR_OK;
}

/* The place at the top of the heap cannot be read now. ERR_OK: go on with the others. */
static enum err top_failed(struct reader *r, enum err e)
{
    uint32_t n = r->heap[0];

    if (e == ERR_EOF) {
        heap_pop(r);
        return ERR_OK;
    }
    if (e == ERR_TOPIC_NOT_FOUND && !r->topic) { /* deleted while others go on */
        heap_pop(r);
        r->cur[n].next = INT64_MAX;
        r->gone_topics++;
        return ERR_OK;
    }
    return e;
}

/* Everything below the bound was seen. */
static enum err drained(struct reader *r)
{
    uint64_t to = r->bound;

    if (r->position_max && to > r->position_max)
        to = r->position_max;
    if (r->begun && to > r->position)
        r->position = to;
    return ERR_AGAIN;
}

enum err reader_next(struct reader *r, struct reader_record *out, struct errinfo *info)
{
    uint32_t scanned = 0, n;
    bool more;
    enum err e;

    ASSERT(r->magic == READER_MAGIC);
    given_end(r);
    r->busy = r->cold = false;
    for (;;) {
        if (r->position_max && r->position >= r->position_max)
            return drained(r);
        if (r->heap_n == 0 || r->cur[r->heap[0]].pos >= r->bound) {
            if ((e = round_begin(r, &more, info)))
                return e;
            if (!more)
                return drained(r);
            continue;
        }
        n = r->heap[0];
        if (!r->cur[n].buf || !r->cur[n].buf->peeked) {
            e = place_peek(r, n, info);
            if (e && (e = top_failed(r, e)))
                return e;
            if (r->heap_n && r->heap[0] == n)
                heap_down(r, 0); /* the position may be larger than was assumed */
            continue;
        }
        if (r->position_max && r->cur[n].pos >= r->position_max) {
            r->position = r->position_max;
            continue;
        }
        if (wanted(r, &r->cur[n], &r->cur[n].buf->rec)) {
            if ((e = give(r, n, out, info)))
                return e;
            r->position = out->position + 1;
            return ERR_OK;
        }
        r->position = r->cur[n].pos + 1 > r->position ? r->cur[n].pos + 1 : r->position;
        place_advance(&r->cur[n]);
        heap_down(r, 0);
        if (r->scan_limit && ++scanned >= r->scan_limit) {
            r->busy = true;
            return ERR_AGAIN;
        }
    }
}

void reader_scan_limit(struct reader *r, uint32_t records)
{
    r->scan_limit = records;
}

bool reader_busy(const struct reader *r)
{
    return r->busy;
}

bool reader_fetching(const struct reader *r)
{
    return r->cold;
}

uint64_t reader_position(const struct reader *r)
{
    return r->position;
}

/* ---- waiting ---- */

static bool something(struct reader *r)
{
    if (r->busy || !r->begun)
        return true;
    return r->heap_n && r->cur[r->heap[0]].pos < r->bound &&
           (!r->position_max || r->cur[r->heap[0]].pos < r->position_max);
}

bool reader_wait(struct reader *r, struct waiter *w)
{
    given_end(r);
    if (r->cold)
        return waiter_arm(r->b, r->topic, r->cold_seen, w);
    if (something(r))
        return false;
    if (r->heap_n == 0) { /* an idle reader is small */
        cbufs_clear(r);
        free(r->ids);
        r->ids = NULL;
    }
    return waiter_arm(r->b, r->topic, r->commits_seen, w);
}

struct block_wait {
    struct waiter w; /* first */
    struct io_event event;
};

static void block_wake(struct waiter *w)
{
    io_event_signal(&((struct block_wait *)w)->event);
}

bool reader_block(struct reader *r, int64_t timeout_ms)
{
    struct block_wait bw = {.w.wake = block_wake};
    uint64_t now = io_mono_ns(r->b->conf.io), end = UINT64_MAX;
    bool woken = false;

    if (!r->b->conf.threads)
        broker_step(r->b);
    io_event_init(&bw.event);
    if (!reader_wait(r, &bw.w)) {
        io_event_fini(&bw.event);
        return true;
    }
    if (timeout_ms >= 0)
        end = now + (uint64_t)timeout_ms * 1000000u;
    while (r->b->conf.threads && !woken && now < end) {
        woken = io_event_wait(&bw.event, end == UINT64_MAX ? UINT64_MAX : end - now);
        now = io_mono_ns(r->b->conf.io);
    }
    waiter_cancel(&bw.w); /* a wake that was late is over after this */
    woken = woken || atomic_load(commits_of(r)) != (r->cold ? r->cold_seen : r->commits_seen);
    io_event_fini(&bw.event);
    return woken;
}

/* ---- opening and closing ---- */

/* topic, topic:key, topic:*, pattern, pattern:key, pattern:* */
static enum err selector_parse(struct reader *r, struct slice s, struct errinfo *info)
{
    const uint8_t *colon = s.len ? memchr(s.ptr, ':', s.len) : NULL;
    struct slice name = colon ? slice_of(s.ptr, (size_t)(colon - s.ptr)) : s, key;
    bool pattern = false;
    size_t i;

    for (i = 0; i < name.len; i++)
        pattern = pattern || name.ptr[i] == '*' || name.ptr[i] == '?';
    if (name.len == 0 || name.len > TOPIC_NAME_MAX || memchr(name.ptr, 0, name.len) ||
        (!pattern && !topic_name_valid(name)))
        return errinfo_set(info, ERR_INVALID,
                           "\"%.*s\" does not select anything: a topic, topic:key, topic:*, or a "
                           "pattern of topics with * and ?",
                           (int)(s.len < 100 ? s.len : 100), s.len ? (const char *)s.ptr : "");
    memcpy(r->pattern, name.ptr, name.len);
    if (!pattern && !(r->topic = topic_find(r->b, name)))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%s\"", r->pattern);
    if (!colon)
        return ERR_OK;
    key = slice_of(colon + 1, s.len - name.len - 1);
    if (slice_eq_str(key, "*")) {
        r->sel = SEL_KEYED;
        return ERR_OK;
    }
    r->sel = SEL_KEY;
    r->key = xmalloc(key.len + 1);
    if (key.len)
        memcpy(r->key, key.ptr, key.len);
    r->key_len = key.len;
    return ERR_OK;
}

static enum err from_offset(struct reader *r, int64_t offset, struct errinfo *info)
{
    struct plog_info now;
    struct place *c;

    if (r->partition < 0 || !r->topic)
        return errinfo_set(info, ERR_INVALID, "an offset needs a topic and a partition");
    r->topic_parts = topic_partitions(r->topic);
    r->scattered = atomic_load(&r->topic->scattered);
    c = place_add(r, topic_partition(r->topic, r->partition));
    plog_info_get(c->p->log, &now);
    if (offset < partition_start(c->p) || offset > now.end_offset)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " is not in the log (%" PRId64 " to %" PRId64 ")",
                           offset, partition_start(c->p), now.end_offset);
    c->next = offset;
    return ERR_OK;
}

static bool may_read(void *arg, const struct partition *p)
{
    const struct reader *r = arg;

    if (r->partition >= 0 && p->index != r->partition)
        return false;
    return r->topic ? p->topic == r->topic : glob_match(r->pattern, p->topic->name);
}

/* The end of what can be read: transactions that are open now are still to come. */
static uint64_t end_position(struct reader *r)
{
    uint64_t end = atomic_load(&r->b->visible_end);
    uint64_t open = producers_open_position(r->b, may_read, r);

    return open < end ? open : end;
}

static enum err reader_begin(struct reader *r, const struct reader_conf *conf, struct errinfo *info)
{
    r->topics_seen = atomic_load(&r->b->recent_topics.n);
    switch (conf->from) {
    case READ_FROM_START:
        r->from_start = true;
        break;
    case READ_FROM_END:
        r->start = end_position(r);
        break;
    case READ_FROM_POSITION:
        r->start = r->plain_start = conf->position;
        if (conf->position_open && conf->position_open < r->start)
            r->start = conf->position_open;
        break;
    case READ_FROM_TIME:
        r->by_time = true;
        r->time_ms = conf->time_ms;
        break;
    case READ_FROM_OFFSET:
        return from_offset(r, conf->offset, info);
    default:
        return errinfo_set(info, ERR_INVALID, "no such place to read from");
    }
    r->position = r->start;
    if (!r->topic)
        return topics_join_all(r, info);
    r->topic_parts = topic_partitions(r->topic);
    r->scattered = atomic_load(&r->topic->scattered);
    return topic_join(r, r->topic, info);
}

enum err reader_open(struct broker *b, const struct reader_conf *conf, struct reader **out,
                     struct errinfo *info)
{
    struct reader *r = xcalloc(1, sizeof *r);
    enum err e;

    *out = NULL;
    r->magic = READER_MAGIC;
    r->b = b;
    r->partition = conf->partition < 0 ? -1 : conf->partition;
    r->position_max = conf->position_max;
    r->given = NO_PLACE;
    list_init(&r->bufs);
    atomic_fetch_add(&b->st_readers, 1);
    e = selector_parse(r, conf->selector, info);
    if (!e && r->topic && r->partition >= topic_partitions(r->topic))
        e = errinfo_set(info, ERR_PARTITION_NOT_FOUND, "\"%s\" has no partition %d", r->topic->name,
                        (int)r->partition);
    if (!e)
        e = reader_begin(r, conf, info);
    if (e) {
        reader_close(&r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

void reader_close(struct reader **rp)
{
    struct reader *r = *rp;
    uint32_t i;

    if (!r)
        return;
    ASSERT(r->magic == READER_MAGIC);
    cbufs_clear(r);
    for (i = 0; i < r->cur_n; i++) {
        struct topic *t = r->cur[i].p->topic;

        topic_unref(&t);
    }
    topic_unref(&r->topic);
    atomic_fetch_sub(&r->b->st_readers, 1);
    free(r->cur);
    free(r->heap);
    free(r->by_uid);
    free(r->ids);
    free(r->headers);
    free(r->key);
    r->magic = 0;
    free(r);
    *rp = NULL;
}
