/* Appends: building record batches, one atomic unit, and where its records went.
 *
 *   building --submit--> submitted --(done of the unit, all attached ids resolved)--> done
 *      ^---------- submit refused ----------'                     reset, free <-------'
 *
 * Records go into parts: one batch of one partition. A part that is full (the topic's
 * max.message.bytes or LIMIT_APPEND_BATCH_BYTES) is followed by another of the same partition.
 *
 * Idempotency: an id that is known as written when its record comes is not encoded. At submit each
 * other id is reserved; if another append has it by now, the record is taken out of its batch again
 * (rare: the batch is made anew) and waits for the other's outcome. `waiting` counts the unit
 * itself and each id waited for; who brings it to zero finishes the append.
 *
 * Threads: the caller's until submitted; then the writer thread's until done is called. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/murmur2.h"
#include "broker/broker_int.h"
#include "broker/notices.h"
#include "journal/batch.h"

#define APPEND_MAGIC 0x41505044u
#define PARTS_KEPT   64u              /* builders kept by append_reset */
#define BUILDER_KEPT (1u << 20)       /* if their buffer is at most so large */
#define LINEAR_PARTS 8u               /* fewer are searched one by one */
#define REC_DUP      UINT32_MAX       /* arec.part: index is of a->dups */
#define REC_ATTACH   (UINT32_MAX - 1) /* index is of a->attaches */
#define REC_SAME     (UINT32_MAX - 2) /* index is the record of this append with the same id */

enum append_state { BUILDING, SUBMITTED, DONE };

struct append_part {
    struct topic *topic; /* referenced */
    struct partition *p;
    struct batch_builder bb;
    bool bb_used;  /* bb is initialised */
    bool built;    /* batch is set; records are added no more */
    bool borrowed; /* batch is the caller's */
    bool log_time; /* message.timestamp.type is LogAppendTime */
    bool os;
    bool scatters; /* makes its topic's keys scattered */
    bool flagged;  /* and has an entry that says so */
    uint32_t roll_bytes, max_bytes;
    uint32_t records;
    uint32_t place; /* in the DEDUP entry, or NO_PLACE */
    uint32_t entry; /* in entries, or NO_ENTRY */
    struct slice batch;
    struct buf own; /* of a borrowed batch that had to be changed */
    int64_t log_ms;
    bool produced; /* the batch has a producer id */
    struct producer_batch pb;
    struct pstate *ps; /* pinned while the batch is on its way */
    enum err err;      /* its own outcome */
    int64_t duplicate; /* where it was written before; -1 */
};
#define NO_PLACE UINT32_MAX
#define NO_ENTRY UINT32_MAX

struct arec {
    uint32_t part, index;
    int64_t timestamp_ms;
};

struct extra { /* an entry that is not a batch */
    uint8_t type;
    size_t off, len; /* in a->extra_bytes */
};

struct append {
    struct journal_unit unit; /* first */
    uint32_t magic;
    enum append_state state;
    struct broker *b;
    append_done_fn done;
    void *arg;
    struct sync_wait *wait;
    uint64_t ticket;
    bool txn_starts;
    bool produced; /* some part is */
    atomic_uint waiting;
    enum err unit_err, result;

    struct append_part *parts;
    uint32_t parts_n, parts_cap;
    uint32_t last;   /* part used last */
    uint32_t *index; /* part + 1 by partition uid; open addressing; used beyond LINEAR_PARTS */
    uint32_t index_cap;

    struct arec *recs;
    size_t recs_n, recs_cap;
    size_t bytes, records;

    struct dedup_pending *ids;
    uint32_t ids_n, ids_cap;
    uint32_t *ids_index; /* id + 1 by hash */
    uint32_t ids_index_cap;
    struct append_place *dups;
    uint32_t dups_n, dups_cap;
    struct dedup_attach **attaches;
    uint32_t attaches_n, attaches_cap;

    struct extra *extras;
    uint32_t extras_n, extras_cap;
    struct buf extra_bytes;
    uint8_t *dedup_entry;
    uint32_t dedup_places;

    struct journal_entry *entries;
    uint32_t entries_cap;
};

#define GROW(a, n, cap, least)                        \
    do {                                              \
        if ((n) == (cap)) {                           \
            (cap) = (cap) ? (cap)*2 : (least);        \
            (a) = xrealloc((a), (cap) * sizeof *(a)); \
        }                                             \
    } while (0)

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

size_t append_bytes(const struct append *a)
{
    return a->bytes;
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

static void dup_add(struct append *a, const struct append_place *place)
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

static void ids_index_fill(struct append *a)
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
    ids_index_fill(a);
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
    dup_add(a, &place);
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
    if (topic_compacted(t) && slice_is_null(r->key))
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

bool topic_needs_keys(const struct topic *t)
{
    return topic_compacted(t);
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

static uint8_t *extra_add(struct append *a, uint8_t type, size_t room)
{
    if (buf_reserve(&a->extra_bytes, room))
        return NULL;
    GROW(a->extras, a->extras_n, a->extras_cap, 2);
    a->extras[a->extras_n] = (struct extra){type, a->extra_bytes.len, 0};
    return a->extra_bytes.ptr + a->extra_bytes.len;
}

static void extra_end(struct append *a, size_t len)
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
    if (!(at = extra_add(a, ENTRY_KV, entry_kv_size(&en))))
        return ERR_LIMIT;
    extra_end(a, entry_kv_write(at, &en));
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
    if (!(at = extra_add(a, ENTRY_GROUP_OFFSET, entry_group_offset_size(&en))))
        return ERR_LIMIT;
    extra_end(a, entry_group_offset_write(at, &en));
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
    if (!(at = extra_add(a, ENTRY_CURSOR_RANGES, size)))
        return ERR_LIMIT;
    extra_end(a, settle_entry_write(s, v, n, at));
    return ERR_OK;
}

/* ---- the outcome ---- */

static bool part_skipped(const struct append *a, const struct append_part *pt)
{
    return pt->entry != NO_ENTRY && a->entries[pt->entry].skip;
}

enum err append_place(const struct append *a, struct append_slot slot, struct append_place *out)
{
    const struct append_part *pt;
    const struct dedup_attach *at;
    const struct arec *r;
    bool same = false;

    ASSERT(a->magic == APPEND_MAGIC && slot.index < a->recs_n);
    if (a->state != DONE)
        return ERR_AGAIN;
    r = &a->recs[slot.index];
    if (r->part == REC_SAME) {
        same = true;
        r = &a->recs[r->index];
    }
    if (r->part == REC_DUP) {
        *out = a->dups[r->index];
        return ERR_OK;
    }
    if (r->part == REC_ATTACH) {
        at = a->attaches[r->index];
        *out = at->place;
        return at->e;
    }
    pt = &a->parts[r->part];
    if (a->unit_err)
        return a->unit_err;
    if (pt->err)
        return pt->err;
    if (pt->duplicate >= 0) {
        *out = (struct append_place){.partition = pt->p->index,
                                     .offset = pt->duplicate + r->index,
                                     .timestamp_ms = r->timestamp_ms,
                                     .duplicate = true};
        return ERR_OK;
    }
    if (part_skipped(a, pt))
        return ERR_TOPIC_NOT_FOUND;
    *out = (struct append_place){.partition = pt->p->index,
                                 .offset = a->entries[pt->entry].base_offset + r->index,
                                 .position = a->entries[pt->entry].position + r->index,
                                 .timestamp_ms = pt->log_time && !pt->borrowed ? pt->bb.max_ts
                                                                               : r->timestamp_ms,
                                 .log_time = pt->log_time,
                                 .duplicate = same};
    return ERR_OK;
}

/* All is known: tells the caller. The append is the caller's from then on. */
static void finish(struct append *a)
{
    struct sync_wait *w = a->wait;
    enum err e = a->unit_err;
    struct errinfo info = {0};
    uint32_t i;

    for (i = 0; !e && i < a->attaches_n; i++)
        e = a->attaches[i]->e;
    a->result = e;
    a->state = DONE;
    if (w)
        broker_write_error(a->b, e, &info);
    if (a->done)
        a->done(a, a->arg, e);
    if (w)
        sync_wait_done(w, e, &info);
}

static void release(struct append *a)
{
    if (atomic_fetch_sub(&a->waiting, 1) == 1)
        finish(a);
}

static void finish_ready(struct dedup_attach *ready)
{
    struct dedup_attach *next;

    for (; ready; ready = next) {
        next = ready->next;
        finish(ready->waiter);
    }
}

/* Writer thread, or the submitter's when the journal refused: e for all ids reserved. */
static void ids_resolve(struct append *a, enum err e)
{
    struct broker *b = a->b;
    uint32_t i;

    for (i = 0; i < a->ids_n; i++) {
        const struct arec *r = &a->recs[a->ids[i].record];
        struct append_place place = {0};
        enum err one = e;

        if (!one && part_skipped(a, &a->parts[r->part]))
            one = ERR_TOPIC_NOT_FOUND;
        if (!one) {
            const struct append_part *pt = &a->parts[r->part];

            place = (struct append_place){pt->p->index,
                                          a->entries[pt->entry].base_offset + r->index,
                                          a->entries[pt->entry].position + r->index,
                                          r->timestamp_ms,
                                          false,
                                          pt->log_time};
        }
        finish_ready(dedup_resolve(b->dedup, &a->ids[i], one, &place, a->unit.wall_ms));
    }
}

static void extras_apply(struct append *a)
{
    struct entry_cursor_ranges ranges;
    struct entry_group_offset off;
    struct entry_kv kv;
    uint32_t i;
    enum err e;

    for (i = 0; i < a->extras_n; i++) {
        const struct extra *x = &a->extras[i];
        struct slice data = slice_of(a->extra_bytes.ptr + x->off, x->len);

        if (x->type == ENTRY_KV) {
            e = entry_kv_read(data, &kv);
            ASSERT(!e);
            kv_apply(a->b, &kv);
        } else if (x->type == ENTRY_GROUP_OFFSET) {
            e = entry_group_offset_read(data, &off);
            ASSERT(!e);
            group_apply_offset(a->b, &off);
        } else if (x->type == ENTRY_CURSOR_RANGES) {
            e = entry_cursor_ranges_read(data, &ranges);
            ASSERT(!e);
            cursor_apply_ranges(a->b, &ranges, NULL);
        }
    }
    for (i = 0; i < a->parts_n; i++)
        if (a->parts[i].scatters)
            topic_scattered_set(a->parts[i].topic);
}

static void producers_end(struct append *a, enum err e)
{
    uint32_t i;

    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];

        if (!pt->ps)
            continue;
        producer_done(a->b, pt->ps, &pt->pb, a->entries[pt->entry].base_offset,
                      a->entries[pt->entry].position, e);
        pt->ps = NULL;
    }
}

static void parts_tell(struct append *a)
{
    uint32_t i;

    for (i = 0; i < a->parts_n; i++) {
        const struct append_part *pt = &a->parts[i];

        if (pt->entry != NO_ENTRY && !part_skipped(a, pt))
            NOTICE_PRODUCED(a->b, pt->topic->id, pt->p->index, a->entries[pt->entry].base_offset,
                            pt->records);
    }
}

static void unit_done(struct journal_unit *u, enum err e)
{
    struct append *a = (struct append *)u;
    struct broker *b = a->b;
    uint64_t checkpoint;

    ASSERT(a->magic == APPEND_MAGIC && a->state == SUBMITTED);
    broker_frame_visible(b, e);
    a->unit_err = e;
    if (a->produced)
        producers_end(a, e);
    if (a->ticket) {
        checkpoint = atomic_load(&b->checkpoint);
        if (a->ticket > CHECKPOINT_TICKET(checkpoint))
            dedup_mark(b->dedup, checkpoint);
        if (!e)
            extras_apply(a);
        ids_resolve(a, e);
        broker_ticket_end(b, a->ticket);
    }
    if (e) {
        atomic_fetch_add_explicit(&b->st_append_errors, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&b->st_appends, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&b->st_records, a->records, memory_order_relaxed);
        atomic_fetch_add_explicit(&b->st_bytes, a->bytes, memory_order_relaxed);
        parts_tell(a);
    }
    release(a);
}

/* ---- submitting ---- */

/* Whether a batch of a producer is its next one. */
static bool part_produced(struct append *a, struct append_part *pt)
{
    pt->err = producer_sequence(a->b, pt->p, &pt->pb, journal_wall_ms(a->b->journal), &pt->ps,
                                &pt->duplicate);
    return pt->ps != NULL;
}

/* Journal lock. A unit whose batches are all left out for reasons of their own is sequenced all the
 * same: it is answered when those before it are durable, among which is what it repeats. */
static enum err unit_sequence(struct journal_unit *u)
{
    struct append *a = (struct append *)u;
    uint32_t i, batches = 0, gone = 0;

    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];
        struct journal_entry *en;

        if (pt->entry == NO_ENTRY)
            continue;
        batches++;
        en = &a->entries[pt->entry];
        en->skip = atomic_load_explicit(&pt->topic->deleting, memory_order_relaxed);
        gone += en->skip;
        if (!en->skip && pt->produced)
            en->skip = !part_produced(a, pt);
    }
    if (batches && gone == batches)
        return ERR_TOPIC_NOT_FOUND;
    if (a->ids_n || a->extras_n || a->produced || u->n > batches)
        a->ticket = broker_ticket_take(a->b);
    return ERR_OK;
}

/* Journal lock. */
static void unit_sequenced(struct journal_unit *u)
{
    struct append *a = (struct append *)u;
    uint32_t i;

    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];

        if (pt->ps)
            producer_sequenced(a->b, pt->ps, &pt->pb, a->entries[pt->entry].base_offset,
                               a->entries[pt->entry].position);
    }
}

static void unit_assigned(struct journal_unit *u)
{
    struct append *a = (struct append *)u;
    uint32_t i;

    for (i = 0; i < a->parts_n; i++) {
        const struct append_part *pt = &a->parts[i];
        const struct journal_entry *en;
        struct dedup_place pl;

        if (pt->place == NO_PLACE)
            continue;
        en = &a->entries[pt->entry];
        pl = (struct dedup_place){(uint32_t)pt->p->index, en->skip ? -1 : en->base_offset,
                                  en->position};
        entry_dedup_place_write(a->dedup_entry, pt->place, &pl);
    }
}

static enum err parts_finish(struct append *a, struct errinfo *info)
{
    uint32_t i;
    enum err e;

    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];

        if (pt->built)
            continue;
        pt->built = true;
        if (pt->records == 0) {
            pt->batch = SLICE_NULL;
            continue;
        }
        e = batch_builder_finish(&pt->bb, pt->log_time ? BATCH_LOG_APPEND_TIME : 0, -1, -1, -1,
                                 &pt->batch);
        if (e) {
            pt->built = false;
            return errinfo_set(info, e, "a batch cannot be made: %s", err_text(e));
        }
    }
    return ERR_OK;
}

/* Encodes a built part anew without the records whose arec says that they are elsewhere. */
static enum err part_rebuild(struct append *a, uint32_t part)
{
    struct append_part *pt = &a->parts[part];
    struct batch_builder bb;
    struct record_header *h = xmalloc(LIMIT_RECORD_HEADERS * sizeof *h);
    struct batch_iter it;
    struct record rec;
    struct buf scratch;
    size_t k = 0;
    uint32_t n;
    int32_t index, at;
    enum err e;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    batch_builder_init(&bb, pt->bb.codec, pt->max_bytes);
    pt->records = 0;
    e = batch_iter_init(&it, pt->batch, &scratch);
    for (at = 0; !e && (e = batch_iter_next(&it, &rec)) == ERR_OK; at++) {
        while (k < a->recs_n && !(a->recs[k].part == part && a->recs[k].index == (uint32_t)at)) {
            if (a->recs[k].part == part && a->recs[k].index > (uint32_t)at)
                break;
            k++;
        }
        if (k == a->recs_n || a->recs[k].part != part || a->recs[k].index != (uint32_t)at)
            continue; /* taken out */
        e = record_headers(&rec, h, LIMIT_RECORD_HEADERS, &n);
        if (!e)
            e = batch_builder_add(&bb, rec.timestamp_ms, rec.key, rec.value, h, n, &index);
        if (e)
            break;
        a->recs[k++].index = (uint32_t)index;
        pt->records++;
    }
    ASSERT(e == ERR_EOF); /* what was just encoded */
    pt->batch = SLICE_NULL;
    e = ERR_OK;
    if (pt->records)
        e = batch_builder_finish(&bb, pt->log_time ? BATCH_LOG_APPEND_TIME : 0, -1, -1, -1,
                                 &pt->batch);
    batch_builder_fini(&pt->bb);
    pt->bb = bb;
    buf_fini(&scratch);
    free(h);
    return e;
}

static struct dedup_attach *attach_add(struct append *a, uint32_t record)
{
    struct dedup_attach *at = xcalloc(1, sizeof *at);

    at->waiter = a;
    at->waiting = &a->waiting;
    at->record = record;
    GROW(a->attaches, a->attaches_n, a->attaches_cap, 2);
    a->attaches[a->attaches_n++] = at;
    return at;
}

/* Reserves the ids. Records whose id somebody else has are taken out of their parts. */
static enum err ids_reserve(struct append *a)
{
    struct dedup_attach *spare = NULL;
    struct append_place place;
    uint32_t i, n = 0, total = a->ids_n;
    bool *rebuild = NULL;
    int64_t now = total ? journal_wall_ms(a->b->journal) : 0;
    enum err e = ERR_OK;

    for (i = 0; i < total; i++) {
        struct arec *r = &a->recs[a->ids[i].record];
        enum dedup_state st;

        if (n != i)
            a->ids[n] = a->ids[i];
        if (!spare)
            spare = attach_add(a, 0);
        spare->record = a->ids[n].record;
        st = dedup_reserve(a->b->dedup, &a->ids[n], now, &place, spare);
        if (st == DEDUP_NEW) {
            n++;
            continue;
        }
        if (!rebuild)
            rebuild = xcalloc(a->parts_n, sizeof *rebuild);
        rebuild[r->part] = true;
        a->records--;
        if (st == DEDUP_WRITTEN) {
            dup_add(a, &place);
            *r = (struct arec){REC_DUP, a->dups_n - 1, place.timestamp_ms};
        } else {
            *r = (struct arec){REC_ATTACH, a->attaches_n - 1, 0};
            spare = NULL;
        }
    }
    a->ids_n = n;
    if (spare) { /* the last one, not used */
        a->attaches_n--;
        free(spare);
    }
    for (i = 0; rebuild && i < a->parts_n; i++)
        if (rebuild[i] && !e)
            e = part_rebuild(a, i);
    free(rebuild);
    return e;
}

static struct journal_entry *entry_add(struct append *a, uint8_t type, struct plog *log,
                                       struct slice data)
{
    struct journal_entry *en;

    GROW(a->entries, a->unit.n, a->entries_cap, 2);
    en = &a->entries[a->unit.n++];
    *en = (struct journal_entry){.type = type, .plog = log, .data = data};
    return en;
}

/* The DEDUP entry; its places are filled in when they are assigned. */
static void dedup_entry_add(struct append *a)
{
    uint32_t i, places = 0;
    size_t size;

    for (i = 0; i < a->parts_n; i++)
        a->parts[i].place = NO_PLACE;
    for (i = 0; i < a->ids_n; i++) {
        struct append_part *pt = &a->parts[a->recs[a->ids[i].record].part];

        if (pt->place == NO_PLACE)
            pt->place = places++;
    }
    size = entry_dedup_size(places, a->ids_n);
    free(a->dedup_entry);
    a->dedup_entry = xmalloc(size);
    entry_dedup_head_write(a->dedup_entry, places, a->ids_n);
    for (i = 0; i < a->ids_n; i++) {
        const struct arec *r = &a->recs[a->ids[i].record];
        struct dedup_id d = {
            .place = a->parts[r->part].place, .index = r->index, .timestamp_ms = r->timestamp_ms};

        memcpy(d.hash, a->ids[i].hash, 16);
        entry_dedup_id_write(a->dedup_entry, places, i, &d);
    }
    entry_add(a, ENTRY_DEDUP, NULL, slice_of(a->dedup_entry, size));
}

static void flags_entries_add(struct append *a)
{
    uint32_t i, k;

    for (i = 0; i < a->parts_n; i++) {
        struct entry_topic_flags en = {a->parts[i].topic->id, TOPIC_SCATTERED};
        bool said = false;
        uint8_t *at;

        for (k = i; !said && k-- > 0 && i - k <= LINEAR_PARTS;)
            said = a->parts[k].scatters && a->parts[k].topic == a->parts[i].topic;
        if (!a->parts[i].scatters || a->parts[i].flagged || said ||
            atomic_load(&a->parts[i].topic->scattered_saved))
            continue;
        a->parts[i].flagged = true;
        if (!(at = extra_add(a, ENTRY_TOPIC_FLAGS, ENTRY_SMALL_MAX)))
            continue; /* no room beside 48 MiB of other items: cannot be */
        extra_end(a, entry_topic_flags_write(at, &en));
    }
}

static void entries_make(struct append *a)
{
    bool os = a->parts_n > 0;
    uint32_t i;

    a->unit.n = 0;
    for (i = 0; i < a->parts_n; i++) {
        struct append_part *pt = &a->parts[i];

        pt->entry = NO_ENTRY;
        if (pt->batch.len == 0)
            continue;
        os = os && pt->os;
        pt->entry = a->unit.n;
        entry_add(a, ENTRY_BATCH, pt->p->log, pt->batch);
    }
    flags_entries_add(a);
    for (i = 0; i < a->extras_n; i++)
        entry_add(a, a->extras[i].type, NULL,
                  slice_of(a->extra_bytes.ptr + a->extras[i].off, a->extras[i].len));
    if (a->ids_n)
        dedup_entry_add(a);
    a->unit.entries = a->entries;
    a->unit.os = os && a->extras_n == 0;
    a->unit.sequence = unit_sequence;
    a->unit.assigned = unit_assigned;
    a->unit.sequenced = a->produced ? unit_sequenced : NULL;
    a->unit.done = unit_done;
}

static void duplicates_count(struct append *a)
{
    if (a->recs_n > a->records && (a->dups_n || a->attaches_n))
        atomic_fetch_add_explicit(&a->b->st_duplicates, a->dups_n + a->attaches_n,
                                  memory_order_relaxed);
}

static enum err submit(struct append *a, bool nonblock, struct errinfo *info)
{
    struct broker *b = a->b;
    enum err e;

    ASSERT(a->magic == APPEND_MAGIC && a->state == BUILDING);
    if (b->conf.read_only)
        return errinfo_set(info, ERR_READ_ONLY, "the data directory was opened read-only");
    if ((e = parts_finish(a, info)))
        return e;
    e = ids_reserve(a);
    if (!e) {
        entries_make(a);
        duplicates_count(a);
        a->state = SUBMITTED;
        if (a->unit.n == 0) {
            release(a); /* nothing to write: known duplicates, or nothing at all */
            return ERR_OK;
        }
        e = journal_append(b->journal, &a->unit,
                           (nonblock ? JOURNAL_NONBLOCK : 0) | (a->wait ? JOURNAL_WRITE : 0));
        if (!e)
            return ERR_OK;
    }
    a->state = BUILDING;
    ids_resolve(a, e);
    if (a->ids_index)
        ids_index_fill(a);
    if (e == ERR_TOPIC_NOT_FOUND)
        return errinfo_set(info, e, "the topic was deleted");
    return broker_write_error(b, e, info);
}

enum err append_submit(struct append *a, bool nonblock, struct errinfo *info)
{
    a->wait = NULL;
    return submit(a, nonblock, info);
}

enum err append_submit_wait(struct append *a, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, a->b);
    a->wait = &w;
    e = submit(a, false, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}
