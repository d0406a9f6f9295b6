/* Sequencing, frames, and the writer.
 *
 * A frame's life:
 *   open     units reserve room in it under the journal lock (journal_append) and copy their bytes
 *            in outside the lock; `copying` counts those that are still at it
 *   closed   no more room or the writer wants it: writer_close_open moves it to j->closed (or the
 *            writer takes it directly)
 *   written  writer_write: header, checksum, one write; synced unless all its units may do without
 *   tail     tail_add: readers share its memory, which is its slab's (slab.h)
 *
 * On a failed write (writer_fail) every unit that is sequenced but not written is answered with the
 * error and sequencing goes back to where the last written frame ended, so that no offset or
 * position is lost or used twice. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/batch.h"
#include "journal/journal_int.h"
#include "journal/slab.h"

/* Journal lock held. */
static struct frame *open_next(struct journal *j, uint64_t room)
{
    struct frame *f = frame_open(j, room);

    f->seq = j->next_seq++;
    f->position = f->position_end = j->next_position;
    return f;
}

/* Journal lock held. */
void writer_close_open(struct journal *j)
{
    if (!j->open)
        return;
    frame_close(j, j->open);
    list_push_back(&j->closed, &j->open->link);
    j->open = NULL;
}

/* ---- appending ---- */

static uint64_t unit_room(const struct journal_unit *u)
{
    uint64_t room = 0;
    unsigned i;

    for (i = 0; i < u->n; i++)
        if (!u->entries[i].skip)
            room += entry_room(u->entries[i].data.len);
    return room;
}

enum err journal_state_err(enum journal_state s)
{
    switch (s) {
    case JOURNAL_OK:
        return ERR_OK;
    case JOURNAL_NO_SPACE:
        return ERR_NO_SPACE;
    case JOURNAL_FAILED:
        return ERR_READ_ONLY;
    case JOURNAL_CLOSED:
        return ERR_CLOSED;
    }
    return ERR_INTERNAL;
}

/* Waits for room if allowed. Journal lock held; it may be let go meanwhile. */
static enum err room_wait(struct journal *j, uint64_t room, unsigned flags)
{
    enum err e;

    for (;;) {
        if (j->state == JOURNAL_NO_SPACE && io_mono_ns(j->io) >= j->no_space_retry_ns)
            j->no_space_retry_ns = io_mono_ns(j->io) + NO_SPACE_RETRY_NS; /* this one may try */
        else if ((e = journal_state_err((enum journal_state)j->state)))
            return e;
        if (atomic_load(&j->inflight) == 0 ||
            atomic_load(&j->inflight) + room <= j->conf.inflight_bytes)
            return ERR_OK;
        if (flags & JOURNAL_NONBLOCK)
            return ERR_OVERLOADED;
        if (j->conf.threads) {
            io_cond_wait(&j->room, &j->lock);
        } else {
            io_mutex_unlock(&j->lock);
            writer_step(j);
            io_mutex_lock(&j->lock);
        }
    }
}

static uint32_t batch_records(struct slice batch)
{
    ASSERT(batch.len >= BATCH_HEADER);
    return be32_load(batch.ptr + 23) + 1;
}

/* Assigns offsets and positions. Journal lock held. */
static void unit_sequence(struct journal *j, struct frame *f, struct journal_unit *u)
{
    unsigned i;

    for (i = 0; i < u->n; i++) {
        struct journal_entry *en = &u->entries[i];

        if (en->skip)
            continue;
        f->entries++;
        if (en->type != ENTRY_BATCH)
            continue;
        en->base_offset = en->plog->next_offset;
        en->position = j->next_position;
        en->plog->next_offset += batch_records(en->data);
        j->next_position += batch_records(en->data);
        f->records += batch_records(en->data);
    }
    f->position_end = j->next_position;
}

/* Copies a batch, giving it its offset and epoch 0; returns the CRC of the bytes written. The
 * batch's own CRC covers all from its attributes on, so only the head is read twice. */
static uint32_t copy_batch(uint8_t *dst, const struct journal_entry *en)
{
    uint32_t crc;

    memcpy(dst, en->data.ptr, en->data.len);
    be64_store(dst, (uint64_t)en->base_offset);
    be32_store(dst + 12, 0);
    crc = crc32c(0, dst, 21);
    return crc32c_combine(crc, be32_load(dst + 17), en->data.len - 21);
}

static void unit_copy(struct journal_unit *u, uint8_t *at)
{
    static const uint8_t zeros[8];
    uint32_t crc = 0;
    unsigned i;

    u->bytes = 0;
    for (i = 0; i < u->n; i++) {
        struct journal_entry *en = &u->entries[i];
        bool batch = en->type == ENTRY_BATCH;
        struct entry_header h = {en->type,
                                 (uint32_t)en->data.len,
                                 en->plog ? en->plog->uid : 0,
                                 batch ? batch_records(en->data) : 0,
                                 batch ? en->position : 0,
                                 u->wall_ms};
        uint64_t room = entry_room(en->data.len), pad = room - ENTRY_HEADER - en->data.len;

        if (en->skip)
            continue;
        entry_header_write(at, &h);
        crc = crc32c(crc, at, ENTRY_HEADER);
        if (batch) {
            crc = crc32c_combine(crc, copy_batch(at + ENTRY_HEADER, en), en->data.len);
        } else {
            if (en->data.len)
                memcpy(at + ENTRY_HEADER, en->data.ptr, en->data.len);
            crc = crc32c(crc, at + ENTRY_HEADER, en->data.len);
        }
        memset(at + room - pad, 0, pad);
        crc = crc32c(crc, zeros, pad);
        at += room;
        u->bytes += (uint32_t)room;
    }
    u->crc = crc;
}

/* Writes frame `seq` and those before it, if nobody else is at it. What comes in meanwhile wakes
 * the writer thread, which waits for the role. */
static bool write_here(struct journal *j, uint64_t seq)
{
    if (!io_mutex_trylock(&j->role))
        return false;
    while (j->written_seq < seq && writer_step(j))
        ;
    io_mutex_unlock(&j->role);
    return true;
}

enum err journal_append(struct journal *j, struct journal_unit *u, unsigned flags)
{
    uint64_t room = unit_room(u), seq;
    struct frame *f;
    uint8_t *at;
    enum err e;

    ASSERT(j->magic == JOURNAL_MAGIC);
    if (room > j->unit_bytes_max)
        return ERR_TOO_LARGE;
    if (j->conf.read_only)
        return ERR_READ_ONLY;
    io_mutex_lock(&j->lock);
    e = room_wait(j, room, flags);
    if (!e && u->sequence)
        e = u->sequence(u);
    if (e) {
        io_mutex_unlock(&j->lock);
        return e;
    }
    room = unit_room(u);
    if (j->open && j->open->used + room > j->open->cap)
        writer_close_open(j);
    if (!j->open)
        j->open = open_next(j, room);
    f = j->open;
    u->wall_ms = f->wall_ms = io_wall_ms(j->io);
    u->seq = seq = f->seq;
    unit_sequence(j, f, u);
    if (u->sequenced)
        u->sequenced(u);
    f->os = f->os && u->os;
    at = f->mem + f->used;
    f->used += room;
    list_push_back(&f->units, &u->link);
    atomic_fetch_add(&f->copying, 1);
    atomic_fetch_add(&j->inflight, room);
    io_mutex_unlock(&j->lock);

    if (u->assigned)
        u->assigned(u);
    unit_copy(u, at);
    /* f may be gone once nobody copies any more */
    if (atomic_fetch_sub(&f->copying, 1) == 1 && atomic_load(&j->copied_waited))
        io_event_signal(&j->copied_event);
    if (j->conf.threads && !(flags & JOURNAL_WRITE && write_here(j, seq)))
        io_event_signal(&j->writer_event);
    return ERR_OK;
}

uint64_t journal_giveups(const struct journal *j)
{
    return j->giveups;
}

uint64_t journal_inflight(struct journal *j)
{
    return atomic_load_explicit(&j->inflight, memory_order_relaxed);
}

bool journal_pressure(struct journal *j)
{
    return journal_inflight(j) > j->conf.inflight_bytes / 2;
}

/* ---- writing ---- */

/* Until all units of the frame are copied in. Who has the role. */
static void copied_wait(struct journal *j, struct frame *f)
{
    if (atomic_load(&f->copying) == 0)
        return;
    atomic_store(&j->copied_waited, true);
    while (atomic_load(&f->copying))
        io_event_wait(&j->copied_event, 1000000);
    atomic_store(&j->copied_waited, false);
}

/* The next frame to write, complete; NULL if there is none. */
static struct frame *writer_take(struct journal *j)
{
    struct frame *f = NULL;

    io_mutex_lock(&j->lock);
    if (list_empty(&j->closed))
        writer_close_open(j);
    if (!list_empty(&j->closed))
        f = list_entry(list_pop_front(&j->closed), struct frame, link);
    io_mutex_unlock(&j->lock);
    if (f)
        copied_wait(j, f);
    return f;
}

/* Header, checksums, padding; returns the bytes to write. */
static uint64_t frame_finish(struct journal *j, struct frame *f)
{
    struct frame_header h = {.length = (uint32_t)f->used,
                             .seq = f->seq,
                             .durable_seq = atomic_load(&j->durable_seq),
                             .position = f->position,
                             .wall_ms = f->wall_ms,
                             .log_id = j->log_id,
                             .entries = f->entries,
                             .records = f->records,
                             .prev_crc = j->prev_crc};
    uint64_t padded = frame_padded(f->used);
    struct journal_unit *u;
    uint32_t crc = 0;

    list_for_each(u, &f->units, struct journal_unit, link) crc =
        crc32c_combine(crc, u->crc, u->bytes);
    frame_header_write(f->mem, &h, crc);
    memset(f->mem + f->used, 0, padded - f->used);
    f->crc = h.crc;
    return padded;
}

/* The active file is full: it goes to the sealer, the next one takes its place. */
static enum err file_switch(struct journal *j, bool *tried, struct errinfo *info)
{
    struct jfile *next = NULL, *late = NULL;
    struct io_file *fd = NULL;
    enum err e = ERR_OK;

    if (j->unsynced) { /* what the sealer will index must be on stable storage */
        *tried =
            true; /* a sync that failed may have lost what it was for: nothing goes on after it */
        if ((e = io_sync(j->active_fd, info)))
            return e;
        j->unsynced = false;
        *tried = false;
        atomic_store(&j->durable_seq, j->written_seq);
    }
    io_mutex_lock(&j->lock);
    next = j->ready;
    fd = j->ready_fd;
    j->ready = NULL;
    j->ready_fd = NULL;
    io_mutex_unlock(&j->lock);
    if (!next && (e = jfile_make(j, &next, &fd, info)))
        return e;
    io_close(&j->active_fd);
    io_mutex_lock(&j->lock);
    if (j->active) {
        atomic_store(&j->active->state, JFILE_FULL);
        j->full_n++;
    }
    list_push_back(&j->files, &next->link);
    j->active = next;
    if (j->ready && j->ready->id < next->id) { /* see ready_publish: ids grow with use */
        late = j->ready;
        io_close(&j->ready_fd);
        j->ready = NULL;
    }
    io_mutex_unlock(&j->lock);
    if (late)
        jfile_to_spare(j, late);
    j->active_fd = fd;
    j->active_pos = FILE_HEADER;
    if (j->conf.threads)
        io_event_signal(&j->background_event);
    return ERR_OK;
}

bool writers_about(struct journal *j)
{
    uint64_t at = atomic_load_explicit(&j->committed_ns, memory_order_relaxed);

    return at && io_mono_ns(j->io) - at < WRITERS_NS;
}

static enum err frame_put(struct journal *j, struct frame *f, uint64_t padded, struct errinfo *info)
{
    uint64_t t = io_mono_ns(j->io);
    bool sync = !f->os;
    enum err e = ERR_OK;

    /* A synced write says nothing of earlier unsynced ones in the device's cache. */
    if (sync && j->unsynced)
        e = io_sync(j->active_fd, info);
    if (!e && sync && j->unsynced) {
        j->unsynced = false;
        atomic_store(&j->durable_seq, j->written_seq);
    }
    if (!e)
        e = sync ? io_pwrite_durable(j->active_fd, f->mem, padded, j->active_pos, info)
                 : io_pwrite(j->active_fd, f->mem, padded, j->active_pos, info);
    t = io_mono_ns(j->io) - t;
    if (e)
        return e;
    atomic_store_explicit(&j->st_sync_last, t, memory_order_relaxed);
    if (t > atomic_load_explicit(&j->st_sync_max, memory_order_relaxed))
        atomic_store_explicit(&j->st_sync_max, t, memory_order_relaxed);
    if (j->on_sync)
        j->on_sync(j->on_sync_arg, t, padded);
    return ERR_OK;
}

/* Writes the frame at its place. ERR_NO_SPACE only when no file could be made and nothing was
 * written. */
static enum err frame_write(struct journal *j, struct frame *f, bool *tried, struct errinfo *info)
{
    uint64_t padded = frame_padded(f->used);
    struct jfile *a;
    enum err e;

    *tried = false;
    if (!j->active || j->active_pos + padded > j->active->size ||
        (atomic_exchange(&j->roll, false) && j->active_pos > FILE_HEADER))
        if ((e = file_switch(j, tried, info)))
            return e;
    *tried = true;
    frame_finish(j, f); /* after the switch: it may have made earlier frames durable */
    if ((e = frame_put(j, f, padded, info)))
        return e;
    a = j->active;
    f->file_id = a->id;
    f->file_pos = j->active_pos;
    if (a->first_seq == 0) {
        a->first_seq = f->seq;
        a->position = f->position;
    }
    a->last_seq = f->seq;
    a->last_crc = j->prev_crc = f->crc;
    a->position_end = f->position_end;
    a->frames++;
    a->records += f->records;
    j->active_pos += padded;
    a->used = j->active_pos;
    j->written_seq = f->seq;
    if (f->os)
        j->unsynced = true;
    else
        atomic_store(&j->durable_seq, f->seq);
    atomic_fetch_add(&j->st_frames, 1);
    atomic_fetch_add(&j->st_entries, f->entries);
    atomic_fetch_add(&j->st_records, f->records);
    atomic_fetch_add(&j->st_used, f->used);
    atomic_fetch_add(&j->st_written, padded);
    return ERR_OK;
}

/* ---- committing ---- */

static void touched_add(struct journal *j, struct plog *p, uint64_t seq)
{
    if (p->commit_seq == seq)
        return;
    p->commit_seq = seq;
    if (j->touched_n == j->touched_cap) {
        j->touched_cap = j->touched_cap ? j->touched_cap * 2 : 64;
        j->touched = xrealloc(j->touched, j->touched_cap * sizeof *j->touched);
    }
    j->touched[j->touched_n++] = p;
}

/* The place of a batch whose bytes are at `data`. */
void batch_ref_make(struct batch_ref *b, const uint8_t *data, uint32_t len, uint64_t position,
                    uint64_t file_pos)
{
    b->base_offset = (int64_t)be64_load(data);
    b->position = position;
    b->max_ts = be32_load(data + 57) ? (int64_t)be64_load(data + 35) : -1; /* -1: has no records */
    b->file_pos = (uint32_t)file_pos;
    b->len = len;
    b->count = be32_load(data + 23) + 1;
    b->batch_crc = be32_load(data + 17);
    b->epoch = be32_load(data + 12);
    b->crc = 0; /* computed when the file gets its index */
}

static void unit_commit(struct journal *j, struct frame *f, struct journal_unit *u, uint64_t *at)
{
    unsigned i;

    for (i = 0; i < u->n; i++) {
        struct journal_entry *en = &u->entries[i];
        struct batch_ref b;

        if (en->skip)
            continue;
        if (en->type == ENTRY_BATCH) {
            batch_ref_make(&b, f->mem + *at + ENTRY_HEADER, (uint32_t)en->data.len, en->position,
                           f->file_pos + *at + ENTRY_HEADER);
            plog_commit_batch(en->plog, &b, j->active, u->wall_ms);
            touched_add(j, en->plog, f->seq);
        } else if (en->type == ENTRY_LOG_START) {
            plog_commit_start(en->plog, (int64_t)le64_load(f->mem + *at + ENTRY_HEADER));
            touched_add(j, en->plog, f->seq);
        }
        *at += entry_room(en->data.len);
    }
}

static void frame_commit(struct journal *j, struct frame *f)
{
    const struct journal_hooks *hooks = j->conf.hooks;
    uint64_t at = FRAME_HEADER, room = f->used - FRAME_HEADER;
    struct journal_unit *u;
    uint32_t i;

    tail_add(j, f);
    atomic_store_explicit(&j->committed_ns, io_mono_ns(j->io), memory_order_relaxed);
    j->touched_n = 0;
    list_for_each(u, &f->units, struct journal_unit, link) unit_commit(j, f, u, &at);
    atomic_store(&j->position_end, f->position_end);
    if (hooks->committed)
        for (i = 0; i < j->touched_n; i++)
            hooks->committed(j->conf.hooks_arg, j->touched[i]->owner);
    while (!list_empty(&f->units)) {
        u = list_entry(list_pop_front(&f->units), struct journal_unit, link);
        u->done(u, ERR_OK);
    }
    frame_unref(j, f);
    io_mutex_lock(&j->lock);
    atomic_fetch_sub(&j->inflight, room);
    io_cond_broadcast(&j->room);
    io_mutex_unlock(&j->lock);
}

/* Journal lock held. Whether it changed; JOURNAL_FAILED is for good. */
static bool state_set(struct journal *j, enum journal_state s, const struct errinfo *why)
{
    if (s == JOURNAL_NO_SPACE)
        j->no_space_retry_ns = io_mono_ns(j->io) + NO_SPACE_RETRY_NS;
    io_cond_broadcast(&j->room);
    if (j->state == (int)s || j->state == JOURNAL_FAILED)
        return false;
    j->state = s;
    if (why)
        j->why = *why;
    return true;
}

void journal_state_set(struct journal *j, enum journal_state s, const struct errinfo *why)
{
    bool changed;

    io_mutex_lock(&j->lock);
    changed = state_set(j, s, why);
    io_mutex_unlock(&j->lock);
    if (changed && j->conf.hooks->state_changed)
        j->conf.hooks->state_changed(j->conf.hooks_arg, s, why);
}

/* Gives back what the units of a frame were assigned. Journal lock held. */
static void frame_unsequence(struct frame *f)
{
    struct journal_unit *u;
    unsigned i;

    list_for_each(u, &f->units, struct journal_unit,
                  link) for (i = 0; i < u->n;
                             i++) if (!u->entries[i].skip && u->entries[i].type == ENTRY_BATCH)
    {
        struct plog *p = u->entries[i].plog;

        if (u->entries[i].base_offset < p->next_offset)
            p->next_offset = u->entries[i].base_offset;
    }
}

/* Frame f could not be written: it and all after it are given up. */
static void writer_fail(struct journal *j, struct frame *f, enum err e, struct errinfo *info)
{
    enum journal_state s = e == ERR_NO_SPACE ? JOURNAL_NO_SPACE : JOURNAL_FAILED;
    struct list_head lost;
    struct frame *g;
    bool changed;

    list_init(&lost);
    list_push_back(&lost, &f->link);
    io_mutex_lock(&j->lock);
    changed = state_set(j, s, info);
    j->giveups++;
    writer_close_open(j);
    while (!list_empty(&j->closed))
        list_push_back(&lost, list_pop_front(&j->closed));
    list_for_each(g, &lost, struct frame, link) frame_unsequence(g);
    j->next_seq = f->seq;
    j->next_position = f->position;
    io_mutex_unlock(&j->lock);
    if (changed && j->conf.hooks->state_changed)
        j->conf.hooks->state_changed(j->conf.hooks_arg, s, info);
    while (!list_empty(&lost)) {
        g = list_entry(list_pop_front(&lost), struct frame, link);
        copied_wait(j, g);
        while (!list_empty(&g->units)) {
            struct journal_unit *u =
                list_entry(list_pop_front(&g->units), struct journal_unit, link);

            u->done(u, e);
        }
        io_mutex_lock(&j->lock);
        atomic_fetch_sub(&j->inflight, g->used - FRAME_HEADER);
        io_cond_broadcast(&j->room);
        io_mutex_unlock(&j->lock);
        frame_unref(j, g);
    }
}

bool journal_still(struct journal *j)
{
    uint64_t since = atomic_load(&j->put_since_ns), after = atomic_load(&j->still_ns),
             now = io_mono_ns(j->io);

    if (after > STILL_AFTER_MAX_NS)
        after = STILL_AFTER_MAX_NS;
    return (since && now - since >= STILL_NS) ||
           (after && now - atomic_load(&j->still_end_ns) < after);
}

/* The frame is no longer on its way. */
static void put_ended(struct journal *j)
{
    uint64_t now = io_mono_ns(j->io), took = now - atomic_load(&j->put_since_ns);

    if (took >= STILL_NS) {
        atomic_store(&j->still_end_ns, now);
        atomic_store(&j->still_ns, took);
    }
    atomic_store(&j->put_since_ns, 0);
}

bool writer_step(struct journal *j)
{
    struct frame *f = writer_take(j);
    struct errinfo info = {0};
    bool tried;
    enum err e;

    if (!f)
        return false;
    atomic_store(&j->put_since_ns, io_mono_ns(j->io));
    e = frame_write(j, f, &tried, &info);
    put_ended(j);
    if (e) {
        if (e == ERR_NO_SPACE && tried)
            e = ERR_IO; /* the write itself: what is on disk is unknown */
        writer_fail(j, f, e, &info);
        return true;
    }
    if (j->state == JOURNAL_NO_SPACE)
        journal_state_set(j, JOURNAL_OK, NULL);
    frame_commit(j, f);
    return true;
}

static bool writer_turn(struct journal *j)
{
    bool did;

    io_mutex_lock(&j->role);
    did = writer_step(j);
    io_mutex_unlock(&j->role);
    return did;
}

void writer_main(void *arg)
{
    struct journal *j = arg;

    while (!atomic_load(&j->stop_writer))
        if (!writer_turn(j))
            io_event_wait(&j->writer_event, UINT64_MAX);
    while (writer_turn(j))
        ;
}
