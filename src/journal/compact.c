/* The compaction job: see compact.h.
 *
 *   begin -> map ---------> copy -> begin of the next log … -> finish
 *             ^| \-> older -^
 *             |v  (once, when the dirty part has a transaction)
 *            scan
 *
 * scan finds out how the transactions of the dirty part ended. A marker may lie above what is going
 * to be compacted, so it reads on to the end of the log while it misses one; a transaction without a
 * marker is under way, and nothing from its first batch on is touched.
 *
 * All of it is the background thread's, a step at a time; between steps files are sealed and
 * checkpoints written, but nothing is rewritten: so a log's extents change only at their ends.
 * Damage, a full disk or a failed write ends the job and removes its segments; the logs wait. */
#include "journal/compact.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "journal/compact_batch.h"
#include "journal/sealer.h"
#include "journal/segment.h"

#define STEP_BYTES          (4u << 20)
#define READ_BYTES          (1u << 20)
#define SEGMENT_BATCHES_MAX (512u << 10) /* 96 bytes of memory each while it is written */
#define WAIT_NS             60000000000ull
#define WAIT_DAMAGED_NS     3600000000000ull
#define PRODUCER_KEEP_MS    86400000 /* producer.id.expiration.ms, as Kafka's default */
#define ROOM_FILES          2u       /* journal files' worth of free space left to writers */
#define CONTROL_ABORT       0
#define CONTROL_COMMIT      1
#define CONTROL_NONE        (-1)

enum phase { BEGIN, SCAN, MAP, OLDER, COPY, FINISH };

struct part {
    struct plog *log; /* referenced */
    struct compact_item item;
    int64_t end;         /* the clean end to be; 0: nothing is done */
    int64_t across_base; /* first offset of the extent that goes on above `end` */
    uint64_t below;      /* bytes read of it */
    struct extent *ext;  /* the result */
    uint32_t ext_n, ext_cap;
};

struct aborted {
    int64_t producer_id, first, last; /* offsets; last: of the marker */
};

struct compact_job {
    struct journal *j;
    struct part *parts;
    unsigned n, i;
    enum phase phase;
    int64_t now_ms;
    uint64_t bytes_in, bytes_out;
    /* of the log at hand */
    int64_t from, limit; /* its dirty part; where it must end at most */
    int64_t at;          /* next offset to read */
    int64_t log_end;     /* of the scan */
    bool scanned;
    struct keymap map;
    struct u64map pids; /* offset of the last batch known, plus 1 */
    struct u64map open; /* scan: first offset of the open transaction, plus 1 */
    struct u64map seen; /* copy: producers with batches since their last marker */
    struct aborted *aborted;
    uint32_t aborted_n, aborted_cap;
    struct plog_read r;
    struct batch_filter filter;
    uint8_t *removed; /* bits of what the owner removed of the batch at hand, and around it */
    size_t removed_cap;
    int64_t removed_base;
    bool removed_any;
    /* output */
    struct segment seg;
    bool seg_open;
    struct jfile **segs; /* finished */
    uint32_t segs_n, segs_cap;
};

/* ---- beginning and ending ---- */

static int item_order(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    return x->log->uid < y->log->uid ? -1 : x->log->uid > y->log->uid;
}

static void pids_reset(struct u64map *m, struct journal *j)
{
    uint64_t seed;

    u64map_fini(m);
    io_random(j->io, &seed, sizeof seed);
    u64map_init(m, LIMIT_COMPACT_PRODUCERS, seed);
}

bool journal_compacting(const struct journal *j)
{
    return j->job != NULL;
}

void journal_compact(struct journal *j, const struct compact_item *v, unsigned n, int64_t now_ms)
{
    struct compact_job *job = xcalloc(1, sizeof *job);
    uint8_t seed[16];
    unsigned i;

    ASSERT(!j->job && n > 0 && n <= COMPACT_ITEMS_MAX);
    job->j = j;
    job->now_ms = now_ms;
    job->n = n;
    job->r.once = true;
    job->parts = xcalloc(n, sizeof *job->parts);
    for (i = 0; i < n; i++) {
        plog_ref(v[i].log);
        job->parts[i] = (struct part){.log = v[i].log, .item = v[i]};
    }
    qsort(job->parts, n, sizeof *job->parts, item_order);
    io_random(j->io, seed, sizeof seed);
    keymap_init(&job->map, j->compact_keys_max ? j->compact_keys_max : LIMIT_COMPACT_KEYS, seed);
    u64map_init(&job->pids, LIMIT_COMPACT_PRODUCERS, 0);
    u64map_init(&job->open, LIMIT_COMPACT_PRODUCERS, 0);
    u64map_init(&job->seen, LIMIT_COMPACT_PRODUCERS, 0);
    batch_filter_init(&job->filter);
    j->job = job;
}

static void job_free(struct compact_job *job)
{
    unsigned i;

    for (i = 0; i < job->n; i++) {
        plog_unref(job->parts[i].log);
        free(job->parts[i].ext);
    }
    free(job->parts);
    free(job->segs);
    free(job->aborted);
    free(job->removed);
    keymap_fini(&job->map);
    u64map_fini(&job->pids);
    u64map_fini(&job->open);
    u64map_fini(&job->seen);
    plog_read_release(&job->r);
    batch_filter_fini(&job->filter);
    job->j->job = NULL;
    free(job);
}

static void stats_add(struct compact_job *job, bool ok)
{
    struct journal *j = job->j;
    struct compact_stats *s = &j->compact_stats;
    unsigned i;

    io_mutex_lock(&j->lock);
    s->jobs += ok;
    s->failed += !ok;
    for (i = 0; ok && i < job->n; i++)
        s->logs += job->parts[i].end > 0;
    s->records_in += job->filter.records_in;
    s->records_out += job->filter.records_out;
    s->bytes_in += job->bytes_in;
    s->bytes_out += job->bytes_out;
    io_mutex_unlock(&j->lock);
}

void journal_compact_stats(struct journal *j, struct compact_stats *out)
{
    io_mutex_lock(&j->lock);
    *out = j->compact_stats;
    io_mutex_unlock(&j->lock);
}

void journal_compact_limits(struct journal *j, uint32_t keys_max, uint64_t segment_bytes)
{
    j->compact_keys_max = keys_max;
    j->compact_segment_bytes = segment_bytes;
}

/* Removes what was written; nothing was changed. */
static void job_abort(struct compact_job *job)
{
    uint32_t i;

    if (job->seg_open)
        segment_discard(&job->seg);
    for (i = 0; i < job->segs_n; i++) {
        struct segment s = {.file = job->segs[i]};

        segment_discard(&s);
    }
    job_free(job);
}

static void job_fail(struct compact_job *job, enum err e)
{
    uint64_t now = io_mono_ns(job->j->io);
    unsigned i;

    for (i = 0; i < job->n; i++)
        job->parts[i].log->compact_after_ns = now + WAIT_NS;
    if (e == ERR_CORRUPT && job->i < job->n)
        job->parts[job->i].log->compact_after_ns = now + WAIT_DAMAGED_NS;
    stats_add(job, false);
    job_abort(job);
}

void compact_stop(struct journal *j)
{
    if (j->job)
        job_abort(j->job);
}

bool plog_compact_waits(struct plog *p)
{
    return io_mono_ns(p->j->io) < p->compact_after_ns;
}

/* ---- reading ---- */

static struct part *part_of(struct compact_job *job)
{
    return &job->parts[job->i];
}

static void part_next(struct compact_job *job)
{
    keymap_clear(&job->map);
    job->i++;
    job->phase = job->i < job->n ? BEGIN : FINISH;
}

/* Nothing can be done for this log now. */
static void part_skip(struct compact_job *job)
{
    part_of(job)->log->compact_after_ns = io_mono_ns(job->j->io) + WAIT_NS;
    part_of(job)->end = 0;
    part_next(job);
}

/* Batches from job->at on into job->r. ERR_EOF: there are none. */
static enum err batches_read(struct compact_job *job, struct errinfo *info)
{
    enum err e = plog_read(part_of(job)->log, job->at, READ_BYTES, &job->r, info);

    while (e == ERR_OFFSET_RANGE && job->at < job->r.start_offset) { /* trimmed meanwhile */
        job->at = job->r.start_offset;
        e = plog_read(part_of(job)->log, job->at, READ_BYTES, &job->r, info);
    }
    if (e == ERR_TOPIC_NOT_FOUND)
        return ERR_EOF;
    return !e && job->r.n == 0 ? ERR_EOF : e;
}

/* What the log's owner removed of the batch; as it is now, so it is for the whole of it. */
static void removed_load(struct compact_job *job, const struct read_batch *b)
{
    const struct compact_item *item = &part_of(job)->item;
    uint64_t block = (uint64_t)b->base_offset / COMPACT_BLOCK, i;
    uint64_t n = (uint64_t)b->last_offset / COMPACT_BLOCK - block + 1;

    job->removed_any = false;
    if (!item->removed)
        return;
    job->removed_base = (int64_t)(block * COMPACT_BLOCK);
    if (n * (COMPACT_BLOCK / 8) > job->removed_cap) {
        job->removed_cap = n * (COMPACT_BLOCK / 8);
        job->removed = xrealloc(job->removed, job->removed_cap);
    }
    memset(job->removed, 0, n * (COMPACT_BLOCK / 8));
    for (i = 0; i < n; i++)
        if (item->removed(item->removed_arg, item->removed_id, block + i,
                          job->removed + i * (COMPACT_BLOCK / 8)))
            job->removed_any = true;
}

static struct batch_rules rules_of(struct compact_job *job)
{
    const struct compact_item *item = &part_of(job)->item;

    return (struct batch_rules){.map = &job->map,
                                .now_ms = job->now_ms,
                                .delete_horizon_ms =
                                    item->delete_retention_ms < INT64_MAX - job->now_ms
                                        ? job->now_ms + item->delete_retention_ms
                                        : INT64_MAX,
                                .producer_horizon_ms = job->now_ms + PRODUCER_KEEP_MS,
                                .all_keys = item->removed && item->newest == 0,
                                .keep = item->removed != NULL,
                                .removed = job->removed_any ? job->removed : NULL,
                                .removed_base = job->removed_base};
}

static int control_type(struct compact_job *job, struct slice batch)
{
    struct batch_iter it;
    struct record rec;

    if (batch_iter_init(&it, batch, &job->filter.scratch) || batch_iter_next(&it, &rec) ||
        slice_is_null(rec.key) || rec.key.len < 4)
        return CONTROL_NONE;
    return (int16_t)be16_load(rec.key.ptr + 2);
}

static void pid_note(struct u64map *m, int64_t pid, int64_t offset)
{
    u64map_remove(m, (uint64_t)pid);
    u64map_put(m, (uint64_t)pid, (void *)(uintptr_t)(offset + 1)); /* full: not known, no harm */
}

static int64_t pid_offset(const struct u64map *m, int64_t pid) /* -1: unknown */
{
    return (int64_t)(uintptr_t)u64map_find(m, (uint64_t)pid) - 1;
}

/* ---- scan ---- */

static int aborted_order(const void *a, const void *b)
{
    const struct aborted *x = a, *y = b;

    if (x->producer_id != y->producer_id)
        return x->producer_id < y->producer_id ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static bool is_aborted(const struct compact_job *job, int64_t pid, int64_t offset)
{
    uint32_t lo = 0, hi = job->aborted_n;

    while (lo < hi) { /* the last one that begins at or before the offset */
        uint32_t mid = lo + (hi - lo) / 2;
        const struct aborted *a = &job->aborted[mid];

        if (a->producer_id < pid || (a->producer_id == pid && a->first <= offset))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && job->aborted[lo - 1].producer_id == pid && offset <= job->aborted[lo - 1].last;
}

/* False: there is no room for more. */
static bool scan_batch(struct compact_job *job, const struct read_batch *b)
{
    struct batch_info bi;
    int64_t first;

    if (batch_parse(b->data, &bi) || !(bi.attributes & BATCH_TRANSACTIONAL) || bi.producer_id < 0)
        return true;
    first = pid_offset(&job->open, bi.producer_id);
    if (!(bi.attributes & BATCH_CONTROL))
        return first >= 0 || b->base_offset >= job->limit ||
               !u64map_put(&job->open, (uint64_t)bi.producer_id,
                           (void *)(uintptr_t)(b->base_offset + 1));
    if (first < 0)
        return true;
    if (control_type(job, b->data) == CONTROL_ABORT) {
        if (job->aborted_n == LIMIT_COMPACT_ABORTED)
            return false;
        if (job->aborted_n == job->aborted_cap) {
            job->aborted_cap = job->aborted_cap ? job->aborted_cap * 2 : 64;
            job->aborted = xrealloc(job->aborted, job->aborted_cap * sizeof *job->aborted);
        }
        job->aborted[job->aborted_n++] = (struct aborted){bi.producer_id, first, b->base_offset};
    }
    u64map_remove(&job->open, (uint64_t)bi.producer_id);
    return true;
}

static void scan_begin(struct compact_job *job)
{
    struct plog_info now;

    plog_info_get(part_of(job)->log, &now);
    pids_reset(&job->open, job->j);
    job->aborted_n = 0;
    job->log_end = now.end_offset;
    job->at = job->from;
    job->phase = SCAN;
}

static void map_begin(struct compact_job *job)
{
    keymap_clear(&job->map);
    keymap_newest(&job->map, part_of(job)->item.newest ? part_of(job)->item.newest : 1);
    pids_reset(&job->pids, job->j);
    part_of(job)->end = 0;
    job->at = job->from;
    job->phase = MAP;
}

/* All markers that matter were seen, or `at` is where no more can be told. */
static void scan_end(struct compact_job *job, bool full)
{
    uint32_t i = 0;
    void *v;

    if (full && job->at < job->limit)
        job->limit = job->at;
    while (u64map_next(&job->open, &i, NULL, &v))
        if ((int64_t)(uintptr_t)v - 1 < job->limit)
            job->limit = (int64_t)(uintptr_t)v - 1;
    if (job->aborted_n)
        qsort(job->aborted, job->aborted_n, sizeof *job->aborted, aborted_order);
    job->scanned = true;
    map_begin(job);
}

static enum err scan_step(struct compact_job *job, struct errinfo *info)
{
    size_t bytes;
    unsigned i;
    enum err e;

    for (bytes = 0; bytes < STEP_BYTES; bytes += job->r.bytes) {
        if (job->at >= job->log_end || (job->at >= job->limit && job->open.n == 0)) {
            scan_end(job, false);
            return ERR_OK;
        }
        e = batches_read(job, info);
        if (e == ERR_EOF)
            job->at = job->log_end;
        else if (e)
            return e;
        for (i = 0; !e && i < job->r.n; i++) {
            if (!scan_batch(job, &job->r.batch[i])) {
                scan_end(job, true);
                return ERR_OK;
            }
            job->at = job->r.batch[i].last_offset + 1;
        }
    }
    return ERR_OK;
}

/* ---- map ---- */

static enum err part_begin(struct compact_job *job, struct errinfo *info)
{
    struct plog_compact_info now;
    enum err e = plog_compact_info_get(part_of(job)->log, &now, info);
    struct journal *j = job->j;
    uint64_t room = UINT64_MAX;

    io_free_space(j->io, j->dir, &room, NULL);
    job->from = now.clean_end;
    job->limit = now.sealed_end;
    job->scanned = false;
    job->aborted_n = 0;
    if (!e && (job->from >= job->limit || /* or the result may not fit */
               room < now.clean_bytes + now.dirty_bytes + ROOM_FILES * j->conf.file_bytes))
        part_skip(job);
    else if (!e)
        map_begin(job);
    return e;
}

/* Notes the batch's keys; known: of those that are in the map. False: the map is full. What does not
 * decode has no keys; it stays. */
static bool map_keys(struct compact_job *job, const struct read_batch *b, bool known)
{
    struct batch_rules r;
    struct batch_iter it;
    struct record rec;
    enum err e = batch_iter_init(&it, b->data, &job->filter.scratch);

    removed_load(job, b);
    r = rules_of(job);
    if (r.all_keys)
        return true;
    while (!e && (e = batch_iter_next(&it, &rec)) == ERR_OK) {
        if (slice_is_null(rec.key) || batch_removed(&r, rec.offset))
            continue;
        if (known)
            keymap_put_known(&job->map, rec.key, rec.offset);
        else if (!keymap_put(&job->map, rec.key, rec.offset))
            return false;
    }
    return true;
}

enum mapped { MAPPED, MAP_END, MAP_SCAN };

static enum mapped map_batch(struct compact_job *job, const struct read_batch *b)
{
    struct part *pt = part_of(job);
    struct batch_info bi;
    bool fits = true;

    if (b->base_offset >= job->limit || b->max_timestamp_ms > pt->item.newest_ms ||
        batch_parse(b->data, &bi))
        return MAP_END;
    if (bi.attributes & BATCH_TRANSACTIONAL && !job->scanned)
        return MAP_SCAN;
    if (!(bi.attributes & BATCH_CONTROL) &&
        !(bi.attributes & BATCH_TRANSACTIONAL && is_aborted(job, bi.producer_id, b->base_offset)))
        fits = map_keys(job, b, false);
    if (!fits && pt->end)
        return MAP_END;
    if (bi.producer_id >= 0)
        pid_note(&job->pids, bi.producer_id, b->base_offset);
    pt->end = b->last_offset + 1;
    return fits ? MAPPED
                : MAP_END; /* one batch may be more than the map takes: then it goes alone */
}

static void copy_begin(struct compact_job *job)
{
    struct part *pt = part_of(job);
    struct plog_info now;

    if (pt->end == 0) {
        part_skip(job);
        return;
    }
    plog_info_get(pt->log, &now);
    if (pt->item.newest > 1 && job->phase == MAP && now.start_offset < job->from) {
        job->at = now.start_offset;
        job->phase = OLDER;
        return;
    }
    pids_reset(&job->seen, job->j);
    pt->across_base = plog_extent_base(pt->log, pt->end);
    job->at = now.start_offset;
    job->phase = COPY;
}

/* ---- older ---- */

/* Of the keys in the map, the records that the compactions before left. */
static enum err older_step(struct compact_job *job, struct errinfo *info)
{
    struct batch_info bi;
    size_t bytes;
    unsigned i;
    enum err e = ERR_OK;

    for (bytes = 0; !e && job->at < job->from && bytes < STEP_BYTES; bytes += job->r.bytes) {
        e = batches_read(job, info);
        for (i = 0; !e && i < job->r.n && job->r.batch[i].base_offset < job->from; i++)
            if (!batch_parse(job->r.batch[i].data, &bi) && !(bi.attributes & BATCH_CONTROL))
                map_keys(job, &job->r.batch[i], true);
        if (!e)
            job->at = job->r.batch[job->r.n - 1].last_offset + 1;
    }
    job->bytes_in += bytes;
    if (e && e != ERR_EOF)
        return e;
    if (e == ERR_EOF || job->at >= job->from)
        copy_begin(job);
    return ERR_OK;
}

/* ---- map, its steps ---- */

static enum err map_step(struct compact_job *job, struct errinfo *info)
{
    enum mapped m = MAPPED;
    size_t bytes;
    unsigned i;
    enum err e = ERR_OK;

    for (bytes = 0; !e && m == MAPPED && bytes < STEP_BYTES; bytes += job->r.bytes) {
        e = batches_read(job, info);
        for (i = 0; !e && m == MAPPED && i < job->r.n; i++) {
            m = map_batch(job, &job->r.batch[i]);
            job->at = job->r.batch[i].last_offset + 1;
        }
    }
    job->bytes_in += bytes;
    if (e && e != ERR_EOF)
        return e;
    if (m == MAP_SCAN)
        scan_begin(job);
    else if (m == MAP_END || e == ERR_EOF)
        copy_begin(job);
    return ERR_OK;
}

/* ---- copy ---- */

static enum err segment_end(struct compact_job *job, struct errinfo *info)
{
    const struct index_build *b = &job->seg.index;
    uint64_t position = UINT64_MAX, position_end = 0, i;
    enum err e;

    if (!job->seg_open)
        return ERR_OK;
    for (i = 0; i < b->rows_n; i++) {
        if (b->rows[i].position < position)
            position = b->rows[i].position;
        if (b->rows[i].position_end > position_end)
            position_end = b->rows[i].position_end;
    }
    if (b->rows_n == 0) {
        segment_discard(&job->seg);
        job->seg_open = false;
        return ERR_OK;
    }
    if ((e = segment_finish(&job->seg, position, position_end, info)))
        return e;
    if (job->segs_n == job->segs_cap) {
        job->segs_cap = job->segs_cap ? job->segs_cap * 2 : 4;
        job->segs = xrealloc(job->segs, job->segs_cap * sizeof(struct jfile *));
    }
    job->segs[job->segs_n++] = job->seg.file;
    job->bytes_out += job->seg.file->size;
    segment_fini(&job->seg);
    job->seg_open = false;
    return ERR_OK;
}

/* What was put of the log into the segment becomes an extent. */
static void extent_end(struct compact_job *job)
{
    struct part *pt = part_of(job);
    const struct index_row *row;

    if (!job->seg_open || !(row = segment_plog_end(&job->seg, pt->log->uid, pt->end)))
        return;
    if (pt->ext_n == pt->ext_cap) {
        pt->ext_cap = pt->ext_cap ? pt->ext_cap * 2 : 1;
        pt->ext = xrealloc(pt->ext, pt->ext_cap * sizeof *pt->ext);
    }
    extent_from_row(&pt->ext[pt->ext_n++], job->seg.file, row);
}

static enum err batch_put(struct compact_job *job, const struct read_batch *b, struct slice data,
                          struct errinfo *info)
{
    uint64_t most =
        job->j->compact_segment_bytes ? job->j->compact_segment_bytes : REWRITE_BYTES_MAX;
    struct part *pt = part_of(job);
    enum err e = ERR_OK;

    if (!job->seg_open) {
        job->seg_open = true;
        e = segment_open(job->j, &job->seg, info);
    }
    if (!e)
        e = segment_put(&job->seg, pt->log->uid, data, b->position, pt->end, info);
    if (!e &&
        (segment_bytes(&job->seg) >= most || segment_batches(&job->seg) >= SEGMENT_BATCHES_MAX)) {
        extent_end(job);
        e = segment_end(job, info);
    }
    return e;
}

/* Is it the last batch that is known of its producer? */
static enum batch_empty empty_rule(struct compact_job *job, const struct read_batch *b, int64_t pid)
{
    if (b->last_offset + 1 == part_of(job)->end)
        return EMPTY_KEEP;
    return pid >= 0 && pid_offset(&job->pids, pid) <= b->base_offset ? EMPTY_PRODUCER : EMPTY_DROP;
}

static enum err copy_batch(struct compact_job *job, const struct read_batch *b,
                           struct errinfo *info)
{
    struct part *pt = part_of(job);
    struct batch_rules r;
    struct batch_info bi;
    struct slice data;
    int type;

    if (batch_parse(b->data, &bi))
        return errinfo_set(info, ERR_CORRUPT, "a batch of log %u has no header", pt->log->uid);
    removed_load(job, b);
    r = rules_of(job);
    r.empty = empty_rule(job, b, bi.producer_id);
    if (bi.attributes & BATCH_CONTROL) {
        type = control_type(job, b->data);
        if (type == CONTROL_ABORT || type == CONTROL_COMMIT || bi.count == 0)
            r.marker_unneeded = u64map_remove(&job->seen, (uint64_t)bi.producer_id) == NULL;
    } else if (bi.attributes & BATCH_TRANSACTIONAL) {
        pid_note(&job->seen, bi.producer_id, b->base_offset);
        r.drop_records = is_aborted(job, bi.producer_id, b->base_offset);
    }
    batch_filter(&job->filter, b->data, &r, &data);
    if (b->base_offset >= pt->across_base)
        pt->below += b->data.len;
    return data.len ? batch_put(job, b, data, info) : ERR_OK;
}

static enum err copy_step(struct compact_job *job, struct errinfo *info)
{
    struct part *pt = part_of(job);
    size_t bytes;
    unsigned i;
    enum err e = ERR_OK;

    for (bytes = 0; !e && job->at < pt->end && bytes < STEP_BYTES; bytes += job->r.bytes) {
        e = batches_read(job, info);
        for (i = 0; !e && i < job->r.n && job->r.batch[i].base_offset < pt->end; i++)
            e = copy_batch(job, &job->r.batch[i], info);
        if (!e)
            job->at = job->r.batch[job->r.n - 1].last_offset + 1;
    }
    job->bytes_in += bytes;
    if (e && e != ERR_EOF)
        return e;
    if (e == ERR_EOF || job->at >= pt->end) {
        extent_end(job);
        part_next(job);
    }
    return ERR_OK;
}

/* ---- finish ---- */

/* Behind the files that begin before it. Journal lock held. */
static void segment_insert(struct journal *j, struct jfile *seg)
{
    struct jfile *f;

    list_for_each(f, &j->files, struct jfile, link)
    {
        int s = atomic_load(&f->state);

        if ((s != JFILE_SEALED && s != JFILE_DEAD) || f->position > seg->position) {
            list_insert_before(&f->link, &seg->link);
            return;
        }
    }
    list_push_back(&j->files, &seg->link);
}

/* Puts the results in their places; a checkpoint sees all of it or nothing (ckpt_lock). */
static void job_commit(struct compact_job *job)
{
    struct journal *j = job->j;
    uint64_t now = io_mono_ns(j->io);
    uint32_t i;

    io_mutex_lock(&j->ckpt_lock);
    io_mutex_lock(&j->lock);
    for (i = 0; i < job->segs_n; i++) {
        atomic_store(&job->segs[i]->state, JFILE_SEALED);
        job->segs[i]->sealed_ns = now;
        segment_insert(j, job->segs[i]);
    }
    io_mutex_unlock(&j->lock);
    for (i = 0; i < job->n; i++) {
        struct part *pt = &job->parts[i];

        if (pt->end && pt->ext_n)
            plog_compacted(pt->log, pt->end, pt->ext, pt->ext_n, pt->below);
    }
    io_mutex_lock(&j->lock);
    j->sealed_new += job->segs_n;
    io_mutex_unlock(&j->lock);
    io_mutex_unlock(&j->ckpt_lock);
}

static enum err finish(struct compact_job *job, struct errinfo *info)
{
    enum err e = segment_end(job, info);

    if (e)
        return e;
    job_commit(job);
    stats_add(job, true);
    job_free(job);
    return ERR_OK;
}

bool compact_step(struct journal *j)
{
    struct compact_job *job = j->job;
    struct errinfo info = {0};
    enum err e = ERR_OK;

    if (!job)
        return false;
    if (j->state != JOURNAL_OK) {
        job_fail(job, ERR_NO_SPACE);
        return false;
    }
    switch (job->phase) {
    case BEGIN:
        e = part_begin(job, &info);
        break;
    case SCAN:
        e = scan_step(job, &info);
        break;
    case MAP:
        e = map_step(job, &info);
        break;
    case OLDER:
        e = older_step(job, &info);
        break;
    case COPY:
        e = copy_step(job, &info);
        break;
    case FINISH:
        e = finish(job, &info);
        break;
    }
    if (e)
        job_fail(job, e);
    return e == ERR_OK;
}
