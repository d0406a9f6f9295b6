/* Appends, second half: submitting the unit, what it resolves, and where its records went. See
 * append_int.h and append.c. */
#include <stdlib.h>
#include <string.h>

#include "broker/append_int.h"
#include "broker/notices.h"

#define RESERVED_WAIT_NS 1000000u

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

/* ---- offsets that are expected ---- */

int64_t partition_next_offset(struct partition *p)
{
    return plog_next_offset_get(p->log);
}

void partition_reserve(struct partition *p, uint32_t ms)
{
    atomic_store(&p->reserved_until_ns,
                 io_mono_ns(p->topic->broker->conf.io) + ms * (uint64_t)1000000);
}

void partition_reserve_end(struct partition *p)
{
    atomic_store(&p->reserved_until_ns, 0);
}

/* ---- submitting ---- */

/* Whether a batch of a producer is its next one. */
static bool part_produced(struct append *a, struct append_part *pt)
{
    pt->err = producer_sequence(a->b, pt->p, &pt->pb, journal_wall_ms(a->b->journal), &pt->ps,
                                &pt->duplicate);
    return pt->ps != NULL;
}

/* Journal lock. Whether the unit may be sequenced: what it expects, and what others do. */
static enum err unit_admit(const struct append *a)
{
    uint64_t until;
    uint32_t i;

    for (i = 0; i < a->parts_n; i++) {
        const struct append_part *pt = &a->parts[i];

        if (pt->entry == NO_ENTRY)
            continue;
        if (pt->p == a->expects)
            return plog_next_offset(pt->p->log) == a->expected ? ERR_OK : ERR_OFFSET_TAKEN;
        until = atomic_load_explicit(&pt->p->reserved_until_ns, memory_order_relaxed);
        if (until && io_mono_ns(a->b->conf.io) < until)
            return ERR_OVERLOADED;
    }
    return ERR_OK;
}

/* Journal lock. A unit whose batches are all left out for reasons of their own is sequenced all the
 * same: it is answered when those before it are durable, among which is what it repeats. */
static enum err unit_sequence(struct journal_unit *u)
{
    struct append *a = (struct append *)u;
    uint32_t i, batches = 0, gone = 0;
    enum err e = unit_admit(a);

    if (e)
        return e;
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
            append_dup_add(a, &place);
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
        if (!(at = append_extra_add(a, ENTRY_TOPIC_FLAGS, ENTRY_SMALL_MAX)))
            continue; /* no room beside 48 MiB of other items: cannot be */
        append_extra_end(a, entry_topic_flags_write(at, &en));
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

/* Another one has reserved a partition, for a moment. */
static enum err submit_later(struct append *a)
{
    struct io_event ev; /* nobody signals it */

    io_event_init(&ev);
    io_event_wait(&ev, RESERVED_WAIT_NS);
    io_event_fini(&ev);
    return journal_append(a->b->journal, &a->unit, a->wait ? JOURNAL_WRITE : 0);
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
        while (e == ERR_OVERLOADED && !nonblock)
            e = submit_later(a);
        if (!e)
            return ERR_OK;
    }
    a->state = BUILDING;
    ids_resolve(a, e);
    if (a->ids_index)
        append_ids_index_fill(a);
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
