/* Appends: building record batches of one atomic unit.
 *
 *   building --submit--> submitted --(done of the unit, all attached ids resolved)--> done
 *      ^---------- submit refused ----------'                     reset, free <-------'
 *
 * Records go into parts: one batch of one partition. A part that is full (the topic's
 * max.message.bytes or LIMIT_APPEND_BATCH_BYTES) is followed by another of the same partition.
 * append_submit.c has the rest of the way; append_int.h what both know, and the threads. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/murmur2.h"
#include "broker/append_int.h"

#define PARTS_KEPT   64u        /* builders kept by append_reset */
#define BUILDER_KEPT (1u << 20) /* if their buffer is at most so large */

/* ---- making and ending ---- */

struct append *append_new(struct broker *b, append_done_fn done, void *arg)
{
    struct append *a = xcalloc(1, sizeof *a);

    a->magic = APPEND_MAGIC;
    a->b = b;
    a->done = done;
    a->arg = arg;
    atomic_init(&a->waiting, 1);
    buf_init(&a->extra_bytes, LIMIT_APPEND_BYTES);
    return a;
}

void append_reset(struct append *a)
{
    uint32_t i;

    ASSERT(a->magic == APPEND_MAGIC && a->state != SUBMITTED);
    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];

        topic_unref(&pt->topic);
        buf_fini(&pt->own);
        if (pt->bb_used && (i >= PARTS_KEPT || pt->bb.buf.cap > BUILDER_KEPT)) {
            batch_builder_fini(&pt->bb);
            pt->bb_used = false;
        }
    }
    for (i = 0; i < a->attaches_n; i++) {
        dedup_detach(a->b->dedup, a->attaches[i]);
        free(a->attaches[i]);
    }
    if (a->ids_index)
        memset(a->ids_index, 0, a->ids_index_cap * sizeof *a->ids_index);
    free(a->dedup_entry);
    a->dedup_entry = NULL;
    a->parts_n = a->last = a->ids_n = a->dups_n = a->attaches_n = a->extras_n = 0;
    a->recs_n = a->bytes = a->records = 0;
    buf_clear(&a->extra_bytes);
    a->ticket = 0;
    a->txn_starts = a->produced = false;
    a->txn_name = SLICE_NULL;
    a->expects = NULL;
    a->unit_err = a->result = ERR_OK;
    a->state = BUILDING;
    atomic_store(&a->waiting, 1);
}

void append_retarget(struct append *a, append_done_fn done, void *arg)
{
    ASSERT(a->state == BUILDING && a->recs_n == 0);
    a->done = done;
    a->arg = arg;
}

void append_free(struct append **ap)
{
    struct append *a = *ap;
    uint32_t i;

    if (!a)
        return;
    append_reset(a);
    for (i = 0; i < a->parts_cap; i++)
        if (a->parts[i].bb_used)
            batch_builder_fini(&a->parts[i].bb);
    free(a->parts);
    free(a->index);
    free(a->recs);
    free(a->ids);
    free(a->ids_index);
    free(a->dups);
    free(a->attaches);
    free(a->extras);
    free(a->entries);
    buf_fini(&a->extra_bytes);
    a->magic = 0;
    free(a);
    *ap = NULL;
}

void append_expect(struct append *a, const struct partition *p, int64_t offset)
{
    ASSERT(a->state == BUILDING);
    a->expects = p;
    a->expected = offset;
}

size_t append_bytes(const struct append *a)
{
    return a->bytes;
}

/* Less than a unit of the journal: entries and batches have headers, and what does not compress may
 * grow a little. */
size_t append_bytes_max(const struct broker *b)
{
    uint64_t n = journal_unit_bytes_max(b->journal);

    n -= n / 8;
    return n < LIMIT_APPEND_BYTES ? (size_t)n : LIMIT_APPEND_BYTES;
}

size_t append_records(const struct append *a)
{
    return a->records;
}

/* ---- parts ---- */

static void index_put(struct append *a, uint32_t part)
{
    uint32_t mask = a->index_cap - 1, uid = a->parts[part].p->uid;
    uint32_t i = uid * 2654435761u & mask;

    while (a->index[i] && a->parts[a->index[i] - 1].p->uid != uid)
        i = (i + 1) & mask;
    a->index[i] = part + 1;
}

/* The index is kept from the part on that makes a search one by one too long. */
static void index_update(struct append *a)
{
    uint32_t i;

    if (a->parts_n <= LINEAR_PARTS)
        return;
    if (a->parts_n > LINEAR_PARTS + 1 && a->parts_n * 2 <= a->index_cap) {
        index_put(a, a->parts_n - 1);
        return;
    }
    if (a->parts_n * 2 > a->index_cap) {
        free(a->index);
        a->index_cap = a->index_cap ? a->index_cap * 2 : 64;
        a->index = xcalloc(a->index_cap, sizeof *a->index);
    } else {
        memset(a->index, 0, a->index_cap * sizeof *a->index);
    }
    for (i = 0; i < a->parts_n; i++)
        index_put(a, i);
}

/* The newest part of this partition, or NULL. */
static struct append_part *part_find(struct append *a, const struct partition *p)
{
    uint32_t i;

    if (a->parts_n == 0)
        return NULL;
    if (a->parts[a->last].p == p)
        return &a->parts[a->last];
    if (a->parts_n <= LINEAR_PARTS) {
        for (i = a->parts_n; i-- > 0;)
            if (a->parts[i].p == p)
                return &a->parts[a->last = i];
        return NULL;
    }
    for (i = p->uid * 2654435761u & (a->index_cap - 1); a->index[i];
         i = (i + 1) & (a->index_cap - 1))
        if (a->parts[a->index[i] - 1].p == p)
            return &a->parts[a->last = a->index[i] - 1];
    return NULL;
}

static struct append_part *part_add(struct append *a, struct topic *t, struct partition *p)
{
    struct append_part *pt;
    uint32_t cap = a->parts_cap;
    bool bb_used;
    struct batch_builder bb;

    GROW(a->parts, a->parts_n, a->parts_cap, 1);
    if (a->parts_cap > cap)
        memset(a->parts + cap, 0, (a->parts_cap - cap) * sizeof *a->parts);
    pt = &a->parts[a->parts_n];
    bb_used = pt->bb_used;
    bb = pt->bb;
    memset(pt, 0, sizeof *pt);
    pt->bb_used = bb_used;
    pt->bb = bb;
    pt->topic = topic_ref(t);
    pt->p = p;
    pt->place = NO_PLACE;
    pt->entry = NO_ENTRY;
    pt->duplicate = -1;
    pt->max_bytes = (uint32_t)atomic_load_explicit(&t->max_message_bytes, memory_order_relaxed);
    pt->roll_bytes =
        pt->max_bytes < LIMIT_APPEND_BATCH_BYTES ? pt->max_bytes : LIMIT_APPEND_BATCH_BYTES;
    pt->os = atomic_load_explicit(&t->durability, memory_order_relaxed) == DURABILITY_OS;
    pt->log_time = atomic_load_explicit(&t->timestamp_type, memory_order_relaxed) == 1;
    a->last = a->parts_n++;
    index_update(a);
    return pt;
}

static void part_builder(struct append_part *pt)
{
    enum codec codec =
        (enum codec)atomic_load_explicit(&pt->topic->compression, memory_order_relaxed);

    if (pt->bb_used && pt->bb.codec == codec && pt->bb.buf.max == pt->max_bytes) {
        batch_builder_reset(&pt->bb);
        return;
    }
    if (pt->bb_used)
        batch_builder_fini(&pt->bb);
    batch_builder_init(&pt->bb, codec, pt->max_bytes);
    pt->bb_used = true;
}

/* The part that takes a record of up to `size` bytes next. */
static struct append_part *part_get(struct append *a, struct topic *t, struct partition *p,
                                    size_t size)
{
    struct append_part *pt = part_find(a, p);

    if (pt && !pt->built && pt->records < LIMIT_BATCH_RECORDS &&
        batch_builder_bytes(&pt->bb) + size <= pt->roll_bytes)
        return pt;
    if (a->parts_n >= LIMIT_APPEND_PARTS)
        return NULL;
    pt = part_add(a, t, p);
    part_builder(pt);
    return pt;
}

/* ---- records ---- */

static void rec_add(struct append *a, uint32_t part, uint32_t index, int64_t ts,
                    struct append_slot *slot)
{
    GROW(a->recs, a->recs_n, a->recs_cap, 4);
    if (slot)
        *slot = (struct append_slot){part, (uint32_t)a->recs_n};
    a->recs[a->recs_n++] = (struct arec){part, index, ts};
}

void append_dup_add(struct append *a, const struct append_place *place)
{
    GROW(a->dups, a->dups_n, a->dups_cap, 4);
    a->dups[a->dups_n++] = *place;
}

static uint32_t ids_slot(const struct append *a, const uint8_t hash[16])
{
    uint32_t mask = a->ids_index_cap - 1, i = le32_load(hash) & mask;

    while (a->ids_index[i] && memcmp(a->ids[a->ids_index[i] - 1].hash, hash, 16) != 0)
        i = (i + 1) & mask;
    return i;
}

void append_ids_index_fill(struct append *a)
{
    uint32_t i;

    memset(a->ids_index, 0, a->ids_index_cap * sizeof *a->ids_index);
    for (i = 0; i < a->ids_n; i++)
        a->ids_index[ids_slot(a, a->ids[i].hash)] = i + 1;
}

static void ids_index_grow(struct append *a)
{
    a->ids_index_cap = a->ids_index_cap ? a->ids_index_cap * 2 : 16;
    a->ids_index = xrealloc(a->ids_index, a->ids_index_cap * sizeof *a->ids_index);
    append_ids_index_fill(a);
}

/* Is the id known already, here or as written? Then the record is noted as a duplicate. */
static bool id_known(struct append *a, const uint8_t hash[16], int64_t now_ms,
                     struct append_slot *slot)
{
    struct append_place place;
    uint32_t i;

    if (a->ids_n) {
        i = a->ids_index[ids_slot(a, hash)];
        if (i) {
            rec_add(a, REC_SAME, a->ids[i - 1].record, 0, slot);
            return true;
        }
    }
    if (!dedup_find(a->b->dedup, hash, now_ms, &place))
        return false;
    append_dup_add(a, &place);
    rec_add(a, REC_DUP, a->dups_n - 1, place.timestamp_ms, slot);
    return true;
}

/* The record added last has this id. */
static void id_add(struct append *a, const uint8_t hash[16])
{
    struct dedup_pending *p;

    GROW(a->ids, a->ids_n, a->ids_cap, 4);
    if ((a->ids_n + 1) * 2 > a->ids_index_cap)
        ids_index_grow(a);
    p = &a->ids[a->ids_n];
    memset(p, 0, sizeof *p);
    memcpy(p->hash, hash, 16);
    p->record = (uint32_t)(a->recs_n - 1);
    a->ids_index[ids_slot(a, hash)] = ++a->ids_n;
}

static enum err gone(const struct topic *t, struct errinfo *info)
{
    return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic \"%s\" was deleted", t->name);
}

enum err batch_too_large(size_t size, const struct topic *t, struct errinfo *info)
{
    return errinfo_set(info, ERR_TOO_LARGE,
                       "%zu bytes are more than max.message.bytes of \"%s\" (%d)", size, t->name,
                       (int)t->max_message_bytes);
}

static enum err append_full(const struct append *a, size_t more, struct errinfo *info)
{
    if (a->bytes + more > LIMIT_APPEND_BYTES)
        return errinfo_set(info, ERR_LIMIT, "an append has at most %u MiB",
                           (unsigned)(LIMIT_APPEND_BYTES >> 20));
    return ERR_OK;
}

/* Does a keyed record in this partition make a search of the key's own partition miss it? */
static bool scatters(struct topic *t, int32_t partition, struct slice key)
{
    int32_t n;

    if (slice_is_null(key) || atomic_load_explicit(&t->scattered_saved, memory_order_relaxed))
        return false;
    n = topic_partitions(t);
    return n > 1 && murmur2_partition(key, n) != partition;
}

static enum err record_encode(struct append *a, struct topic *t, struct partition *p,
                              const struct append_record *r, size_t size, struct append_slot *slot,
                              struct errinfo *info)
{
    struct append_part *pt = part_get(a, t, p, size);
    int64_t ts = r->timestamp_ms;
    size_t before;
    int32_t index;
    enum err e;

    if (!pt)
        return errinfo_set(info, ERR_LIMIT, "an append has at most %u batches", LIMIT_APPEND_PARTS);
    before = pt->records ? batch_builder_bytes(&pt->bb) : 0;
    if (ts < 0 || pt->log_time)
        ts = journal_wall_ms(a->b->journal);
    e = batch_builder_add(&pt->bb, ts, r->key, r->value, r->headers, r->headers_n, &index);
    if (e)
        return e == ERR_TOO_LARGE
                   ? batch_too_large(size, t, info)
                   : errinfo_set(info, e, "a record cannot be encoded: %s", err_text(e));
    pt->records++;
    a->records++;
    a->bytes += batch_builder_bytes(&pt->bb) - before;
    rec_add(a, a->last, (uint32_t)index, ts, slot);
    return ERR_OK;
}

enum err append_record(struct append *a, struct topic *t, int32_t partition,
                       const struct append_record *r, struct append_slot *slot,
                       struct errinfo *info)
{
    bool has_id = !slice_is_null(r->dedup_id);
    struct partition *p;
    uint8_t hash[16];
    size_t size;
    enum err e;

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING);
    if (atomic_load_explicit(&t->deleting, memory_order_relaxed))
        return gone(t, info);
    p = partition < 0 ? topic_partition_for(t, r->key) : topic_partition(t, partition);
    if (!p)
        return errinfo_set(info, ERR_PARTITION_NOT_FOUND, "\"%s\" has no partition %d", t->name,
                           (int)partition);
    if (topic_needs_keys(t) && slice_is_null(r->key))
        return errinfo_set(info, ERR_RECORD, "\"%s\" is compacted: its records need keys", t->name);
    if (r->headers_n > LIMIT_RECORD_HEADERS)
        return errinfo_set(info, ERR_TOO_LARGE, "a record has at most %u headers",
                           LIMIT_RECORD_HEADERS);
    size = record_size_max(r->key, r->value, r->headers, r->headers_n);
    if (size + BATCH_HEADER > (uint32_t)t->max_message_bytes)
        return batch_too_large(size + BATCH_HEADER, t, info);
    if ((e = append_full(a, size, info)))
        return e;
    if (has_id) {
        if (r->dedup_id.len > LIMIT_EVENT_ID)
            return errinfo_set(info, ERR_TOO_LARGE, "an id has at most %u bytes", LIMIT_EVENT_ID);
        dedup_hash(journal_id(a->b->journal), t->id, r->dedup_id, hash);
        if (id_known(a, hash, journal_wall_ms(a->b->journal), slot))
            return ERR_OK;
    }
    if ((e = record_encode(a, t, p, r, size, slot, info)))
        return e;
    if (partition >= 0 && scatters(t, partition, r->key)) {
        a->parts[a->last].scatters = true;
        atomic_store(&t->scattered, true); /* early is harmless: readers look at more */
    }
    if (has_id)
        id_add(a, hash);
    return ERR_OK;
}

/* A copy whose header has another type and greatest value of timestamps. The checksum of the records
 * is in that of the batch, and taken out of it. */
static enum err part_restamp(struct append_part *pt, int16_t attributes, int64_t max_ts)
{
    const uint32_t head = BATCH_HEADER - 21;
    size_t rest = pt->batch.len - BATCH_HEADER;
    uint32_t crc;
    uint8_t *b;

    buf_init(&pt->own, LIMIT_BATCH_BYTES);
    if (buf_append_slice(&pt->own, pt->batch))
        return ERR_TOO_LARGE;
    b = pt->own.ptr;
    crc = be32_load(b + 17) ^ crc32c_combine(crc32c(0, b + 21, head), 0, rest);
    be16_store(b + 21, (uint16_t)attributes);
    be64_store(b + 35, (uint64_t)max_ts);
    be32_store(b + 17, crc32c_combine(crc32c(0, b + 21, head), crc, rest));
    pt->batch = buf_slice(&pt->own);
    return ERR_OK;
}

/* message.timestamp.type: the time of now, or what the records say, whatever the header did. */
static enum err part_stamp(struct append *a, struct append_part *pt, const struct batch_checked *c)
{
    int16_t attributes = (int16_t)(c->info.attributes & ~BATCH_LOG_APPEND_TIME);

    if (pt->log_time) {
        pt->log_ms = journal_wall_ms(a->b->journal);
        return part_restamp(pt, (int16_t)(attributes | BATCH_LOG_APPEND_TIME), pt->log_ms);
    }
    if (attributes == c->info.attributes && c->max_ts == c->info.max_ts)
        return ERR_OK;
    return part_restamp(pt, attributes, c->max_ts);
}

void append_txn_starts(struct append *a)
{
    a->txn_starts = true;
}

void append_txn_name(struct append *a, struct slice name)
{
    a->txn_name = name;
}

bool topic_needs_keys(const struct topic *t)
{
    return (atomic_load_explicit(&t->cleanup, memory_order_relaxed) &
            (TOPIC_CLEANUP_COMPACT | TOPIC_BY_OFFSET)) == TOPIC_CLEANUP_COMPACT;
}

static enum err batch_take(struct append *a, struct partition *p, struct slice batch, bool made,
                           const struct batch_checked *c, struct append_slot *slot,
                           struct errinfo *info)
{
    const struct batch_info *bi = &c->info;
    struct topic *t = p->topic;
    struct append_part *pt;
    enum err e;

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING && bi->length == batch.len);
    if (atomic_load_explicit(&t->deleting, memory_order_relaxed))
        return gone(t, info);
    if (batch.len > (uint32_t)t->max_message_bytes)
        return batch_too_large(batch.len, t, info);
    if ((e = append_full(a, batch.len, info)))
        return e;
    if (a->parts_n >= LIMIT_APPEND_PARTS)
        return errinfo_set(info, ERR_LIMIT, "an append has at most %u batches", LIMIT_APPEND_PARTS);
    pt = part_add(a, t, p);
    pt->built = pt->borrowed = true;
    pt->batch = batch;
    pt->records = (uint32_t)bi->count;
    pt->produced = producer_batch_of(bi, &pt->pb);
    pt->pb.starts = a->txn_starts;
    pt->pb.txn_name = a->txn_name;
    a->produced = a->produced || pt->produced;
    if (made && bi->attributes & BATCH_LOG_APPEND_TIME)
        pt->log_ms = bi->max_ts; /* its maker has said when */
    else if ((e = part_stamp(a, pt, c)))
        return e;
    if (topic_partitions(t) > 1 && !atomic_load(&t->scattered_saved)) {
        pt->scatters = true; /* where its keys belong is not looked at */
        atomic_store(&t->scattered, true);
    }
    a->records += pt->records;
    a->bytes += batch.len;
    rec_add(a, a->last, 0, pt->log_time ? pt->log_ms : bi->base_ts, slot);
    return ERR_OK;
}

enum err append_checked_batch(struct append *a, struct partition *p, struct slice batch,
                              const struct batch_checked *c, struct append_slot *slot,
                              struct errinfo *info)
{
    return batch_take(a, p, batch, false, c, slot, info);
}

enum err append_batch(struct append *a, struct partition *p, struct slice batch,
                      struct append_slot *slot, struct errinfo *info)
{
    struct batch_checked c;
    struct buf scratch;
    enum err e;

    if (atomic_load_explicit(&p->topic->deleting, memory_order_relaxed))
        return gone(p->topic, info);
    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    e = batch_check(p->topic, batch, false, &scratch, &c, info);
    buf_fini(&scratch);
    return e ? e : batch_take(a, p, batch, false, &c, slot, info);
}

/* What a batch builder of this process made is sound. Whether its records had keys the caller knows.
 */
enum err append_made_batch(struct append *a, struct partition *p, struct slice batch,
                           struct append_slot *slot, struct errinfo *info)
{
    struct batch_checked c;

    ASSERT(batch_parse(batch, &c.info) == ERR_OK);
    c.max_ts = c.info.max_ts;
    return batch_take(a, p, batch, true, &c, slot, info);
}

/* ---- other entries ---- */

uint8_t *append_extra_add(struct append *a, uint8_t type, size_t room)
{
    if (buf_reserve(&a->extra_bytes, room))
        return NULL;
    GROW(a->extras, a->extras_n, a->extras_cap, 2);
    a->extras[a->extras_n] = (struct extra){type, a->extra_bytes.len, 0};
    return a->extra_bytes.ptr + a->extra_bytes.len;
}

void append_extra_end(struct append *a, size_t len)
{
    a->extras[a->extras_n++].len = len;
    a->extra_bytes.len += len;
    a->bytes += len;
}

enum err append_kv(struct append *a, const char *ns, struct slice key, struct slice value)
{
    struct entry_kv en = {0, slice_str(ns), key, value};
    uint8_t *at;
    enum err e = kv_check(a->b, ns, key, value, NULL);

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING);
    if (e || (e = append_full(a, entry_kv_size(&en), NULL)))
        return e;
    if (!(at = append_extra_add(a, ENTRY_KV, entry_kv_size(&en))))
        return ERR_LIMIT;
    append_extra_end(a, entry_kv_write(at, &en));
    return ERR_OK;
}

enum err append_offset(struct append *a, struct slice group, struct partition *p, int64_t offset,
                       struct slice metadata)
{
    struct entry_group_offset en = {.topic = p->topic->id,
                                    .partition = (uint32_t)p->index,
                                    .offset = offset,
                                    .committed_ms = journal_wall_ms(a->b->journal),
                                    .group = group,
                                    .metadata = metadata};
    uint8_t *at;
    enum err e = group_check(a->b, group, offset, metadata, NULL);

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING);
    if (e || (e = append_full(a, entry_group_offset_size(&en), NULL)))
        return e;
    if (!(at = append_extra_add(a, ENTRY_GROUP_OFFSET, entry_group_offset_size(&en))))
        return ERR_LIMIT;
    append_extra_end(a, entry_group_offset_write(at, &en));
    return ERR_OK;
}

enum err append_cursor_ranges(struct append *a, const struct settle *s,
                              const struct settle_range *v, uint32_t n)
{
    size_t size = settle_entry_size(s, n);
    uint8_t *at;
    enum err e;

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING);
    if ((e = append_full(a, size, NULL)))
        return e;
    if (!(at = append_extra_add(a, ENTRY_CURSOR_RANGES, size)))
        return ERR_LIMIT;
    append_extra_end(a, settle_entry_write(s, v, n, at));
    return ERR_OK;
}
