/* The background worker: gives full files their index, saves checkpoints, rewrites files that hold
 * little that is still wanted, prepares and recycles files. Runs at background priority; never
 * holds the journal lock over I/O. In simulation the host calls background_step.
 *
 * Order that makes a crash harmless at any point:
 *   index durable -> extents replace refs in memory -> checkpoint lists the file
 *   segment and its index durable -> extents point at it -> checkpoint swaps the files -> the old
 *   ones are recycled
 * Until the checkpoint lists it, a sealed file is replayed like any other (its index is made
 * again), and a segment is an orphan that recovery removes. */
#include "journal/sealer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "journal/blocks.h"
#include "journal/checkpoint.h"
#include "journal/index.h"
#include "journal/keep.h"
#include "journal/segment.h"
#include "journal/slab.h"

#define TICK_NS       1000000000ull
#define RELEASE_NS    10000000000ull
#define LITTLE_FRAMES 64u         /* in a tick: little is written */
#define FILL_PAUSE_NS 1000000ull  /* between two pieces of a spare */
#define FILL_LOOK_NS  10000000ull /* while it is not behind, and the journal is written to */

static int uid_order(const void *a, const void *b)
{
    const struct plog *x = *(struct plog *const *)a, *y = *(struct plog *const *)b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static void report(struct journal *j, enum err e, const struct errinfo *info)
{
    io_mutex_lock(&j->lock);
    j->background_err = e;
    if (e)
        j->background_why = *info;
    io_mutex_unlock(&j->lock);
}

/* ---- sealing ---- */

static void build_rows(struct jfile *f, struct index_build *b)
{
    struct batch_ref *refs = NULL;
    uint32_t cap = 0, i, n;

    if (f->touched_n)
        qsort(f->touched, f->touched_n, sizeof *f->touched, uid_order);
    for (i = 0; i < f->touched_n; i++) {
        n = plog_refs_of(f->touched[i], f, &refs, &cap);
        if (n)
            index_add(b, f->touched[i]->uid, refs, n);
    }
    free(refs);
}

static void swap_in(struct jfile *f, const struct index_build *b)
{
    struct extent x;
    uint64_t row = 0;
    uint32_t i;

    for (i = 0; i < f->touched_n; i++) {
        struct plog *p = f->touched[i];

        if (row < b->rows_n && b->rows[row].uid == p->uid) {
            extent_from_row(&x, f, &b->rows[row++]);
            plog_seal(p, &x);
        }
        plog_unref(p);
    }
    free(f->touched);
    f->touched = NULL;
    f->touched_n = f->touched_cap = 0;
}

/* Gives file f (FULL) its index. */
enum err seal_file(struct journal *j, struct jfile *f, struct errinfo *info)
{
    struct index_build b = {0};
    enum err e;

    build_rows(f, &b);
    f->index_rows = b.rows_n;
    f->index_entries = b.entries_n;
    e = index_write(&b, f, info);
    if (!e) {
        swap_in(f, &b);
        io_mutex_lock(&j->lock);
        atomic_store(&f->state, JFILE_SEALED);
        f->sealed_ns = io_mono_ns(j->io);
        j->full_n--;
        j->sealed_new++;
        j->sealed_id = f->id;
        j->sealed_seq = f->last_seq;
        j->sealed_crc = f->last_crc;
        io_mutex_unlock(&j->lock);
    }
    index_build_fini(&b);
    return e;
}

static struct jfile *first_full(struct journal *j)
{
    struct jfile *f, *found = NULL;

    io_mutex_lock(&j->lock);
    if (j->full_n)
        list_for_each(f, &j->files, struct jfile, link) if (atomic_load(&f->state) == JFILE_FULL)
        {
            found = f;
            break;
        }
    io_mutex_unlock(&j->lock);
    return found;
}

/* Sealed files in which nothing is wanted are dead. */
static void mark_dead(struct journal *j)
{
    struct jfile *f;

    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link) if (atomic_load(&f->state) == JFILE_SEALED &&
                                                        atomic_load(&f->live_bytes) == 0)
    {
        atomic_store(&f->state, JFILE_DEAD);
        j->dead_n++;
    }
    io_mutex_unlock(&j->lock);
}

/* ---- checkpoint ---- */

struct collected {
    struct checkpoint_meta meta;
    struct checkpoint_file *save;
    uint64_t *drop;
    uint32_t save_n, drop_n, cap;
    void *broker;
    uint64_t wait_seq, giveups;
};

static void collect_files(struct journal *j, struct collected *c)
{
    struct jfile *f;
    uint32_t n = 0;

    list_for_each(f, &j->files, struct jfile, link) n++;
    c->save = xcalloc(n + 1, sizeof *c->save);
    c->drop = xcalloc(n + 1, sizeof *c->drop);
    list_for_each(f, &j->files, struct jfile, link)
    {
        int s = atomic_load(&f->state);

        if (s == JFILE_DEAD && (f->in_checkpoint || f->maybe_saved))
            c->drop[c->drop_n++] = f->id;
        if (s == JFILE_SEALED && !f->in_checkpoint)
            c->save[c->save_n++] = (struct checkpoint_file){
                f->id,       f->size,         f->used,           f->first_seq, f->last_seq,
                f->position, f->position_end, (uint32_t)f->kind, f->last_crc};
    }
}

struct stamp {
    struct journal_unit unit; /* first */
    struct journal_entry entry;
};

static void stamp_done(struct journal_unit *u, enum err e)
{
    free((struct stamp *)u);
}

/* A frame with nothing in it, synced: so that all before it is durable and known to be. */
enum err stamp_append(struct journal *j)
{
    struct stamp *s = xcalloc(1, sizeof *s);
    enum err e;

    s->entry.type = ENTRY_STAMP;
    s->unit.entries = &s->entry;
    s->unit.n = 1;
    s->unit.done = stamp_done;
    e = journal_append(j, &s->unit, JOURNAL_NONBLOCK);
    if (e)
        free(s);
    return e;
}

/* Until frame seq is durable. ERR_NO_SPACE if frames were given up since `giveups`: their numbers
 * are used again, so that seq may then stand for another frame. */
static enum err wait_durable(struct journal *j, uint64_t seq, uint64_t giveups)
{
    enum journal_state s = JOURNAL_OK;
    bool lost = false, more = true;

    while (more && s == JOURNAL_OK && !lost) {
        if (!j->conf.threads && atomic_load(&j->durable_seq) < seq && !writer_step(j))
            return ERR_IO; /* the frames were given up */
        io_mutex_lock(&j->lock);
        more = atomic_load(&j->durable_seq) < seq;
        s = (enum journal_state)j->state;
        lost = j->giveups != giveups;
        if (j->conf.threads && more && s == JOURNAL_OK && !lost)
            io_cond_wait_ns(&j->room, &j->lock, 100000000ull);
        io_mutex_unlock(&j->lock);
    }
    if (lost || s == JOURNAL_NO_SPACE)
        return ERR_NO_SPACE;
    return s == JOURNAL_FAILED ? ERR_READ_ONLY : ERR_OK;
}

/* Freezes what is to be saved: everything sequenced so far, all of it in frames up to wait_seq. */
static enum err collect(struct journal *j, struct collected *c)
{
    enum err e = stamp_append(j);

    memset(c, 0, sizeof *c);
    if (e)
        return e;
    io_mutex_lock(&j->lock);
    writer_close_open(j);
    c->giveups = j->giveups;
    c->wait_seq = c->meta.applied_seq = j->next_seq - 1;
    c->meta.next_position = j->next_position;
    c->meta.next_file_id = j->next_file_id;
    c->meta.sealed_id = j->sealed_id;
    c->meta.sealed_seq = j->sealed_seq;
    c->meta.sealed_crc = j->sealed_crc;
    c->meta.clean = j->closing;
    memcpy(c->meta.log_id, j->id, 16);
    collect_files(j, c);
    if (j->conf.hooks->checkpoint_collect)
        c->broker = j->conf.hooks->checkpoint_collect(j->conf.hooks_arg);
    io_mutex_unlock(&j->lock);
    if (j->conf.threads)
        io_event_signal(&j->writer_event);
    return ERR_OK;
}

static enum err save(struct journal *j, struct collected *c, struct errinfo *info)
{
    enum err e = checkpoint_begin(j->ckpt, info);
    uint32_t i;

    for (i = 0; !e && i < c->save_n; i++)
        e = checkpoint_file_save(j->ckpt, &c->save[i], info);
    for (i = 0; !e && i < c->drop_n; i++)
        e = checkpoint_file_delete(j->ckpt, c->drop[i], info);
    if (!e)
        e = checkpoint_meta_save(j->ckpt, &c->meta, info);
    if (!e && j->conf.hooks->checkpoint_write)
        e = j->conf.hooks->checkpoint_write(j->conf.hooks_arg, c->broker, checkpoint_db(j->ckpt),
                                            info);
    return e;
}

static void mark_saved(struct journal *j, const struct collected *c)
{
    struct jfile *f;
    uint32_t i;

    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link)
    {
        for (i = 0; i < c->save_n; i++)
            if (c->save[i].id == f->id) {
                f->in_checkpoint = true;
                f->maybe_saved = false;
            }
        for (i = 0; i < c->drop_n; i++)
            if (c->drop[i] == f->id)
                f->in_checkpoint = f->maybe_saved = false;
    }
    j->sealed_new = 0;
    j->saved_sealed_id = c->meta.sealed_id;
    j->saved_seq = c->meta.applied_seq;
    io_mutex_unlock(&j->lock);
}

/* A commit that failed may have happened all the same, if only its last sync did not. */
static void mark_maybe_saved(struct journal *j, const struct collected *c)
{
    struct jfile *f;
    uint32_t i;

    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link)
    {
        for (i = 0; i < c->save_n; i++)
            if (c->save[i].id == f->id)
                f->maybe_saved = true;
    }
    io_mutex_unlock(&j->lock);
}

enum err checkpoint_run(struct journal *j, struct errinfo *info)
{
    struct collected c;
    enum err e;

    io_mutex_lock(&j->ckpt_lock);
    e = collect(j, &c);
    if (e) {
        errinfo_set(info, e, "the checkpoint waits: %s", err_text(e));
        goto out;
    }
    e = wait_durable(j, c.wait_seq, c.giveups);
    if (!e) {
        e = save(j, &c, info);
        if (!e)
            e = checkpoint_commit(j->ckpt, info);
        if (e) {
            checkpoint_rollback(j->ckpt);
            mark_maybe_saved(j, &c);
        }
    } else {
        errinfo_set(info, e, "the checkpoint waits: %s", err_text(e));
    }
    if (j->conf.hooks->checkpoint_end)
        j->conf.hooks->checkpoint_end(j->conf.hooks_arg, c.broker, e == ERR_OK);
    if (!e)
        mark_saved(j, &c);
    free(c.save);
    free(c.drop);
out:
    io_mutex_unlock(&j->ckpt_lock);
    return e;
}

enum err journal_checkpoint(struct journal *j, struct errinfo *info)
{
    if (j->conf.read_only)
        return errinfo_set(info, ERR_READ_ONLY, "opened read-only");
    return checkpoint_run(j, info);
}

/* ---- the worker ---- */

/* Also as soon as a new log has a frame: without its first file it would be a new log again, and all
 * that was acknowledged would be gone without a word. */
static bool checkpoint_due(struct journal *j)
{
    bool due;

    io_mutex_lock(&j->lock);
    due = j->sealed_new > 0 || j->dead_unsaved > 0 || (!j->saved_seq && j->next_seq > 1);
    io_mutex_unlock(&j->lock);
    return due;
}

static void dead_count(struct journal *j)
{
    struct jfile *f;

    io_mutex_lock(&j->lock);
    j->dead_unsaved = 0;
    list_for_each(f, &j->files, struct jfile, link)
    {
        bool saved = f->in_checkpoint || f->maybe_saved;

        j->dead_unsaved += saved && atomic_load(&f->state) == JFILE_DEAD;
    }
    io_mutex_unlock(&j->lock);
}

/* The ids of journal files must grow with the order in which they are used: recovery replays by id.
 * If the writer made a file itself meanwhile, with a greater id, this one comes too late and
 * becomes a spare. */
static bool ready_publish(struct journal *j, struct jfile *f, struct io_file *fd)
{
    bool late;

    io_mutex_lock(&j->lock);
    ASSERT(!j->ready);
    late = j->active && j->active->id > f->id;
    if (!late) {
        j->ready = f;
        j->ready_fd = fd;
    }
    io_mutex_unlock(&j->lock);
    if (late) {
        io_close(&fd);
        jfile_to_spare(j, f);
    }
    return !late;
}

/* From a spare when a quarter of the active file is full; at five eighths, or now, from what there
 * is. */
static bool ready_prepare(struct journal *j, bool now)
{
    struct jfile *f = NULL;
    struct io_file *fd = NULL;
    bool want, spare = j->spares_n > 0;

    io_mutex_lock(&j->lock);
    want = !j->ready && j->active && j->state == JOURNAL_OK &&
           (now || j->active->used > j->active->size / 8 * (spare ? 2 : 5));
    io_mutex_unlock(&j->lock);
    if (!want)
        return false;
    if (!spare)
        spare_settle(j);
    if (jfile_make(j, &f, &fd, NULL))
        return false;
    return ready_publish(j, f, fd);
}

void journal_roll(struct journal *j)
{
    ready_prepare(j, true); /* so that the writer need not make the file */
    atomic_store(&j->roll, true);
    if (stamp_append(j))
        atomic_store(&j->roll, false); /* not now */
}

static void tick(struct journal *j)
{
    uint64_t now = io_mono_ns(j->io);

    if (now - j->tick_ns < TICK_NS)
        return;
    j->tick_ns = now;
    if (j->conf.hooks->tick)
        j->conf.hooks->tick(j->conf.hooks_arg, io_wall_ms(j->io));
    jfile_cache_trim(j);
    blocks_shrink(j->blocks, now);
    if (atomic_load(&j->st_frames) - j->tick_frames < LITTLE_FRAMES)
        slab_pool_shrink(j);
    j->tick_frames = atomic_load(&j->st_frames);
    if (now - j->release_ns >= RELEASE_NS) {
        j->release_ns = now;
        spare_release(j);
    }
}

/* After a while without writes, proves the last frame durable: see frame.h, durable_seq. */
static bool stamp_idle(struct journal *j)
{
    uint64_t seq, now = io_mono_ns(j->io);

    io_mutex_lock(&j->lock);
    seq = j->next_seq;
    if (seq != j->stamp_seq_seen) {
        j->stamp_seq_seen = seq;
        j->stamp_since_ns = now;
    }
    io_mutex_unlock(&j->lock);
    if (seq <= 1 || seq == j->stamp_seq_done || now - j->stamp_since_ns < STAMP_IDLE_NS)
        return false;
    j->stamp_seq_done = seq + 1; /* what next_seq will be */
    return stamp_append(j) == ERR_OK;
}

bool background_step(struct journal *j)
{
    struct errinfo info = {0};
    struct jfile *f;
    bool did = false, filled;
    enum err e = ERR_OK;

    tick(j);
    if (j->state == JOURNAL_FAILED)
        return false;
    if ((f = first_full(j))) {
        e = seal_file(j, f, &info);
        did = e == ERR_OK;
    }
    mark_dead(j);
    dead_count(j);
    if (!e && checkpoint_due(j)) {
        e = checkpoint_run(j, &info);
        did = did || e == ERR_OK;
    }
    report(j, e, &info);
    while (files_recycle(j))
        did = true;
    did = ready_prepare(j, false) || did;
    filled = spare_prepare(j);
    if (!did && !e)
        did = j->job ? compact_step(j) : rewrite_step(j);
    if (!j->conf.threads)
        keep_step(j);
    j->fill_paused = filled && !did && j->conf.threads;
    return stamp_idle(j) || did || filled;
}

/* Between the pieces of a spare the disk is the writer's; their pause bounds their rate, too. */
static uint64_t pause_ns(const struct journal *j, bool did)
{
    if (did)
        return j->fill_paused ? FILL_PAUSE_NS : 0;
    if (j->fill.fd && atomic_load(&j->st_frames) != j->fill_frames)
        return FILL_LOOK_NS;
    return j->next_seq == j->stamp_seq_done ? TICK_NS : STAMP_IDLE_NS;
}

void background_main(void *arg)
{
    struct journal *j = arg;

    while (!atomic_load(&j->stop_background)) {
        uint64_t frames = atomic_load(&j->st_frames);
        uint64_t ns = pause_ns(j, background_step(j));

        if (ns)
            io_event_wait(&j->background_event, ns);
        j->fill_frames = frames;
    }
}
