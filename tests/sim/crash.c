/* `crash`: the journal on a simulated disk that crashes, fails and fills up, from a seed.
 *
 *   crash --seeds N [--seed S] [--verbose]
 *
 * Each seed opens a log, runs a random workload until a crash, a failure or a clean close, opens it
 * again and compares it with a model (model.h) that saw only the units; several times over. What
 * must hold after opening: the log equals the model of some prefix of the units in the order of
 * their sequencing, and that prefix has every unit that was confirmed as durable. In the end one
 * bit of one file is flipped: no wrong byte of a record may be read before or after
 * journal_repair. One thread; the same seed does the same. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/hash.h"
#include "base/mem.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "model.h"
#include "seed.h"

#define UNITS_MAX 4000u
#define LOGS_LIVE 5u /* partition logs that are there at a time, about */
#define DIR       "/d"

struct world;

struct tunit {
    struct journal_unit unit; /* first */
    struct journal_entry entry[UNIT_MAX];
    uint8_t payload[UNIT_MAX][E_PAYLOAD];
    struct munit m;
    struct world *w;
    bool done, acked;
};

struct world {
    struct world *next_failed;
    struct io *io;
    struct journal *j;
    struct seed seed;
    uint32_t file_bytes;
    bool faulty, flipped, repaired;
    uint32_t next_uid;
    uint64_t serial;
    struct plog *plog[UIDS_MAX]; /* of this opening */
    struct plog *gone[UIDS_MAX]; /* deleted, to be freed */
    int64_t start_saved[UIDS_MAX];
    struct mstate state; /* as sequenced (running) or loaded and replayed (opening) */
    struct tunit *unit[UNITS_MAX];
    uint32_t units, committed,
        must;          /* unit[0 .. committed) answered; [0 .. must) may not be lost */
    struct model live; /* of unit[0 .. committed) */
    struct batch_builder builder;
    struct plog_read read;
    uint64_t st_crashes, st_reads, st_refused, st_noticed;
};

/* ---- the host's part: state, checkpoint ---- */

static void log_gone(struct world *w, uint32_t uid)
{
    if (!w->plog[uid])
        return;
    plog_delete(w->plog[uid]);
    if (rnd(&w->seed, 2))
        plog_free(&w->plog[uid]);
    else
        w->gone[uid] = w->plog[uid];
    w->plog[uid] = NULL;
}

static void logs_free(struct world *w)
{
    unsigned i;

    for (i = 0; i < UIDS_MAX; i++) {
        plog_free(&w->plog[i]);
        plog_free(&w->gone[i]);
    }
}

static enum err hook_load(void *arg, struct sqlite3 *db, struct errinfo *info)
{
    struct world *w = arg;
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, "SELECT kind, id, v FROM state", -1, &st, NULL) != SQLITE_OK)
        return ERR_OK; /* no checkpoint was written yet */
    while (sqlite3_step(st) == SQLITE_ROW) {
        int kind = sqlite3_column_int(st, 0);
        uint64_t id = (uint64_t)sqlite3_column_int64(st, 1),
                 v = (uint64_t)sqlite3_column_int64(st, 2);

        if (kind == 0 && id < KEYS)
            w->state.kv[id] = v;
        else if (kind == 1)
            w->state.count = v;
        else if (kind == 2)
            w->state.hash = v;
        else if (kind == 3 && id && id < UIDS_MAX && (int64_t)v >= 0 && !w->plog[id]) {
            w->state.there[id] = true;
            w->plog[id] = plog_new(w->j, (uint32_t)id, (int64_t)v, w);
        }
    }
    return sqlite3_finalize(st) == SQLITE_OK
               ? ERR_OK
               : errinfo_set(info, w->flipped ? ERR_CORRUPT : ERR_IO, "the state cannot be read");
}

static struct mentry entry_of(uint8_t type, struct slice data)
{
    struct mentry e = {.type = type};

    if (data.len == E_PAYLOAD) {
        e.uid = le32_load(data.ptr);
        e.value = le64_load(data.ptr + 4);
    }
    return e;
}

static enum err hook_apply(void *arg, uint8_t type, struct slice data, int64_t wall_ms,
                           struct errinfo *info)
{
    struct world *w = arg;
    struct mentry e = entry_of(type, data);

    if (data.len != E_PAYLOAD || e.uid >= (type == E_SET ? KEYS : UIDS_MAX))
        return errinfo_set(info, ERR_CORRUPT, "an entry that was never written");
    mstate_apply(&w->state, &e);
    if (type == E_CREATE && !w->plog[e.uid])
        w->plog[e.uid] = plog_new(w->j, e.uid, 0, w);
    else if (type == E_DELETE)
        log_gone(w, e.uid);
    return ERR_OK;
}

static struct plog *hook_find(void *arg, uint32_t uid)
{
    return uid < UIDS_MAX ? ((struct world *)arg)->plog[uid] : NULL;
}

struct saved {
    struct mstate s;
    int64_t start[UIDS_MAX];
};

static void *hook_collect(void *arg)
{
    struct world *w = arg;
    struct saved *c = xcalloc(1, sizeof *c);
    unsigned i;

    c->s = w->state;
    for (i = 0; i < UIDS_MAX; i++)
        c->start[i] = w->live.log[i].start;
    return c;
}

static enum err put(sqlite3_stmt *st, int kind, uint64_t id, uint64_t v)
{
    int rc;

    sqlite3_reset(st);
    sqlite3_bind_int(st, 1, kind);
    sqlite3_bind_int64(st, 2, (int64_t)id);
    sqlite3_bind_int64(st, 3, (int64_t)v);
    rc = sqlite3_step(st);
    return rc == SQLITE_DONE ? ERR_OK : rc == SQLITE_FULL ? ERR_NO_SPACE : ERR_IO;
}

static enum err hook_write(void *arg, void *collected, struct sqlite3 *db, struct errinfo *info)
{
    struct saved *c = collected;
    sqlite3_stmt *st = NULL;
    enum err e = ERR_OK;
    unsigned i;

    if (sqlite3_exec(db,
                     "CREATE TABLE IF NOT EXISTS state(kind, id, v, PRIMARY KEY(kind, id));"
                     "DELETE FROM state",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "INSERT INTO state VALUES(?,?,?)", -1, &st, NULL) != SQLITE_OK)
        return errinfo_set(info, ERR_IO, "the state cannot be saved: %s", sqlite3_errmsg(db));
    for (i = 0; !e && i < KEYS; i++)
        e = put(st, 0, i, c->s.kv[i]);
    if (!e)
        e = put(st, 1, 0, c->s.count);
    if (!e)
        e = put(st, 2, 0, c->s.hash);
    for (i = 0; !e && i < UIDS_MAX; i++)
        if (c->s.there[i])
            e = put(st, 3, i, (uint64_t)c->start[i]);
    sqlite3_finalize(st);
    return e ? errinfo_set(info, e, "the state cannot be saved") : ERR_OK;
}

static void hook_end(void *arg, void *collected, bool committed)
{
    free(collected);
}

static const struct journal_hooks hooks = {
    .load = hook_load,
    .apply = hook_apply,
    .plog_find = hook_find,
    .checkpoint_collect = hook_collect,
    .checkpoint_write = hook_write,
    .checkpoint_end = hook_end,
};

/* ---- units ---- */

static enum err unit_sequence(struct journal_unit *u)
{
    struct tunit *t = (struct tunit *)u;
    unsigned i;

    for (i = 0; i < t->m.n; i++)
        mstate_apply(&t->w->state, &t->m.e[i]);
    return ERR_OK;
}

/* Sequenced but given up for lack of space: as if it had never been. */
static void unit_forget(struct world *w, struct tunit *t)
{
    uint32_t i, k, n = 0;

    memset(&w->state, 0, sizeof w->state);
    for (i = 0; i < w->units; i++) {
        if (w->unit[i] == t)
            continue;
        w->unit[n++] = w->unit[i];
        for (k = 0; k < w->unit[n - 1]->m.n; k++)
            mstate_apply(&w->state, &w->unit[n - 1]->m.e[k]);
    }
    w->units = n;
    free(t);
}

/* The places that the journal assigned are those that the model works out. */
static void places_check(struct world *w, const struct tunit *t)
{
    uint64_t position = w->live.position_end;
    int64_t end[UNIT_MAX];
    unsigned i, k;

    for (i = 0; i < t->m.n; i++) {
        if (t->m.e[i].type != ENTRY_BATCH)
            continue;
        end[i] = w->live.log[t->m.e[i].uid].end;
        for (k = 0; k < i; k++)
            if (t->m.e[k].type == ENTRY_BATCH && t->m.e[k].uid == t->m.e[i].uid)
                end[i] = end[k] + t->m.e[k].count;
        if (t->entry[i].base_offset != end[i] || t->entry[i].position != position)
            die(&w->seed,
                "log %u: offset %" PRId64 " position %" PRIu64 ", not %" PRId64 " and %" PRIu64,
                t->m.e[i].uid, t->entry[i].base_offset, t->entry[i].position, end[i], position);
        position += t->m.e[i].count;
    }
}

static void unit_done(struct journal_unit *u, enum err e)
{
    struct tunit *t = (struct tunit *)u;
    struct world *w = t->w;
    unsigned i;

    if (t->done)
        die(&w->seed, "done twice");
    t->done = true;
    if (e == ERR_NO_SPACE) {
        unit_forget(w, t);
        return;
    }
    if (e)
        return;
    if (w->committed >= w->units || w->unit[w->committed] != t)
        die(&w->seed, "answered out of order");
    places_check(w, t);
    t->acked = true;
    model_apply(&w->live, &t->m);
    w->committed++;
    if (!t->unit.os)
        w->must = w->committed;
    for (i = 0; i < t->m.n; i++) {
        if (t->m.e[i].type == E_CREATE)
            w->plog[t->m.e[i].uid] = plog_new(w->j, t->m.e[i].uid, 0, w);
        else if (t->m.e[i].type == E_DELETE)
            log_gone(w, t->m.e[i].uid);
    }
}

/* A log that is there, as sequenced, and can be used; 0 if none. */
static uint32_t log_pick(struct world *w)
{
    uint32_t found = 0, n = 0, i;

    for (i = 1; i < UIDS_MAX; i++)
        if (w->state.there[i] && w->plog[i] && rnd(&w->seed, ++n) == 0)
            found = i;
    return found;
}

static void batch_make(struct world *w, struct mentry *m, struct journal_entry *e, uint32_t uid)
{
    uint8_t value[3000];
    struct slice data;
    unsigned n = 1 + (unsigned)rnd(&w->seed, 3), i;
    size_t len;

    *m = (struct mentry){.type = ENTRY_BATCH, .uid = uid, .count = n};
    m->ts = io_wall_ms(w->io) + (int64_t)rnd(&w->seed, 50);
    batch_builder_reset(&w->builder);
    for (i = 0; i < n; i++) {
        len = 8 + rnd(&w->seed, rnd(&w->seed, 4) ? 100 : sizeof value - 8);
        memset(value, (int)rnd(&w->seed, 256), len);
        le64_store(value, ++w->serial);
        if (batch_builder_add(&w->builder, m->ts, SLICE_NULL, slice_of(value, len), NULL, 0, NULL))
            die(&w->seed, "the batch builder is full");
    }
    if (batch_builder_finish(&w->builder, 0, -1, -1, -1, &data))
        die(&w->seed, "no batch");
    m->crc = be32_load(data.ptr + 17);
    m->len = (uint32_t)data.len;
    e->type = ENTRY_BATCH;
    e->plog = w->plog[uid];
    e->data = slice_of(xmemdup(data.ptr, data.len), data.len);
}

static void entry_make(struct world *w, struct tunit *t, unsigned i)
{
    struct mentry *m = &t->m.e[i];
    struct journal_entry *e = &t->entry[i];
    uint32_t uid = log_pick(w), k, there = 0;
    uint64_t what = rnd(&w->seed, 100);

    for (k = 0; k < i; k++)
        if (t->m.e[k].type == E_DELETE)
            uid = 0;
    if (uid && what < 75) {
        batch_make(w, m, e, uid);
        return;
    }
    for (k = 1; k < UIDS_MAX; k++)
        there += w->state.there[k];
    if (uid && what < 85) {
        struct mlog *l = &w->live.log[uid];

        *m = (struct mentry){.type = ENTRY_LOG_START, .uid = uid};
        m->value = (uint64_t)(l->start + (int64_t)rnd(&w->seed, (uint64_t)(l->end - l->start) + 1));
        e->plog = w->plog[uid];
        le64_store(t->payload[i], m->value);
        e->data = slice_of(t->payload[i], 8);
    } else {
        *m = (struct mentry){
            .type = E_SET, .uid = (uint32_t)rnd(&w->seed, KEYS), .value = ++w->serial};
        if (i == 0 && there < LOGS_LIVE && w->next_uid < UIDS_MAX)
            *m = (struct mentry){.type = E_CREATE, .uid = w->next_uid++};
        else if (uid && i == 0 && there >= LOGS_LIVE && what > 97)
            *m = (struct mentry){.type = E_DELETE, .uid = uid};
        le32_store(t->payload[i], m->uid);
        le64_store(t->payload[i] + 4, m->value);
        e->data = slice_of(t->payload[i], E_PAYLOAD);
    }
    e->type = m->type;
}

static void step_append(struct world *w)
{
    struct tunit *t = xcalloc(1, sizeof *t);
    unsigned i;
    enum err e;

    t->w = w;
    t->unit.entries = t->entry;
    t->unit.os = rnd(&w->seed, 4) == 0;
    t->unit.sequence = unit_sequence;
    t->unit.done = unit_done;
    t->m.n = t->unit.n = 1 + (unsigned)rnd(&w->seed, UNIT_MAX);
    for (i = 0; i < t->m.n; i++)
        entry_make(w, t, i);
    e = journal_append(w->j, &t->unit, rnd(&w->seed, 2) ? JOURNAL_NONBLOCK : 0);
    for (i = 0; i < t->m.n; i++) {
        if (t->m.e[i].type == ENTRY_BATCH)
            free((void *)(uintptr_t)t->entry[i].data.ptr);
        t->entry[i].data.ptr = NULL; /* was borrowed until now */
    }
    if (e)
        free(t);
    else
        w->unit[w->units++] = t;
}

/* ---- reading ---- */

static void batch_check(struct world *w, uint32_t uid, const struct read_batch *b, int64_t at)
{
    /* after a repair the next batch that is left may be served instead */
    const struct mbatch *m =
        model_find(&w->live, uid, w->repaired && b->base_offset > at ? b->base_offset : at);
    struct batch_info bi;

    if (!m)
        die(&w->seed, "log %u: a batch at %" PRId64 " that was never written", uid, at);
    if (batch_parse(b->data, &bi) || !batch_crc_ok(b->data))
        die(&w->seed, "log %u: a batch at %" PRId64 " that is damaged was served", uid, at);
    if (b->base_offset != m->base || bi.base_offset != m->base || b->data.len != m->len ||
        bi.crc != m->crc || b->position != m->position || b->max_timestamp_ms != m->ts ||
        b->last_offset != m->base + m->count - 1)
        die(&w->seed,
            "log %u at %" PRId64 ": wrong batch: offset %" PRId64 " position %" PRIu64
            " crc %08x, not %" PRId64 " %" PRIu64 " %08x",
            uid, at, b->base_offset, b->position, bi.crc, m->base, m->position, m->crc);
}

/* Reads from `at` on; how far it came. lenient: damage ends it. */
static int64_t read_some(struct world *w, uint32_t uid, int64_t at, int64_t until, enum err *e)
{
    struct errinfo info = {0};
    unsigned i;

    *e = ERR_OK;
    while (at < until) {
        *e = plog_read(w->plog[uid], at, 1 + rnd(&w->seed, 20000), &w->read, &info);
        if (*e)
            break;
        if (w->read.n == 0 && w->repaired) {
            at = until; /* the gap that a repair leaves behind lost records */
            break;
        }
        if (w->read.n == 0)
            die(&w->seed, "log %u: nothing at %" PRId64 " below the end", uid, at);
        w->st_reads++;
        for (i = 0; i < w->read.n; i++) {
            batch_check(w, uid, &w->read.batch[i], at);
            at = w->read.batch[i].last_offset + 1;
        }
    }
    plog_read_release(&w->read);
    if (*e && !w->flipped && !w->faulty && !io_sim_crashed(w->io))
        die(&w->seed, "log %u: reading at %" PRId64 ": %s", uid, at, info.text);
    if (*e && *e != ERR_CORRUPT && *e != ERR_IO)
        die(&w->seed, "log %u: reading at %" PRId64 ": %s", uid, at, err_code(*e));
    return at;
}

static void seek_check(struct world *w, uint32_t uid)
{
    struct mlog *l = &w->live.log[uid];
    uint64_t position = rnd(&w->seed, w->live.position_end + 2);
    int64_t ts = io_wall_ms(w->io) - (int64_t)rnd(&w->seed, 500), want = l->end, got;
    uint32_t i;

    if (plog_seek_position(w->plog[uid], position, &got, NULL))
        return;
    for (i = l->n; i-- > 0;)
        if (l->batch[i].position + l->batch[i].count > position)
            want =
                l->batch[i].base +
                (position > l->batch[i].position ? (int64_t)(position - l->batch[i].position) : 0);
    want = want < l->start ? l->start : want;
    if (got != want)
        die(&w->seed, "log %u: position %" PRIu64 " is at %" PRId64 ", not at %" PRId64, uid,
            position, want, got);
    if (plog_seek_time(w->plog[uid], ts, &got, NULL))
        return;
    want = l->end;
    for (i = l->n; i-- > 0;)
        if (l->batch[i].ts >= ts && l->batch[i].base + l->batch[i].count > l->start)
            want = l->batch[i].base;
    want = want < l->start ? l->start : want;
    if (got != want)
        die(&w->seed, "log %u: time %" PRId64 " is at %" PRId64 ", not at %" PRId64, uid, ts, want,
            got);
}

static void step_read(struct world *w)
{
    uint32_t uid = log_pick(w);
    struct plog_info now;
    struct mlog *l;
    enum err e;

    if (!uid)
        return;
    l = &w->live.log[uid];
    plog_info_get(w->plog[uid], &now);
    if (now.start_offset != l->start || now.end_offset != l->end)
        die(&w->seed, "log %u has %" PRId64 "..%" PRId64 ", not %" PRId64 "..%" PRId64, uid,
            now.start_offset, now.end_offset, l->start, l->end);
    if (plog_read(w->plog[uid], l->end + 1, 1, &w->read, NULL) != ERR_OFFSET_RANGE)
        die(&w->seed, "log %u: reading behind the end", uid);
    if (l->start && plog_read(w->plog[uid], l->start - 1, 1, &w->read, NULL) != ERR_OFFSET_RANGE)
        die(&w->seed, "log %u: reading below the start", uid);
    read_some(w, uid, l->start + (int64_t)rnd(&w->seed, (uint64_t)(l->end - l->start) + 1), l->end,
              &e);
    if (!w->faulty && rnd(&w->seed, 4) == 0)
        seek_check(w, uid);
}

/* ---- opening ---- */

/* Does what was opened look like the model? (Batches are compared after.) */
static bool looks_like(struct world *w, const struct model *m)
{
    struct plog_info now;
    uint32_t i;

    if (memcmp(&w->state, &m->s, sizeof m->s) != 0 || journal_position_end(w->j) != m->position_end)
        return false;
    for (i = 0; i < UIDS_MAX; i++) {
        if (m->s.there[i] != (w->plog[i] != NULL))
            return false;
        if (!w->plog[i])
            continue;
        plog_info_get(w->plog[i], &now);
        if (now.start_offset != m->log[i].start || now.end_offset != m->log[i].end)
            return false;
    }
    return true;
}

static void live_rebuild(struct world *w, uint32_t n)
{
    uint32_t i;

    model_fini(&w->live);
    model_init(&w->live);
    for (i = 0; i < n; i++)
        model_apply(&w->live, &w->unit[i]->m);
}

static void why_not(struct world *w)
{
    struct plog_info now;
    uint32_t i;

    live_rebuild(w, w->must);
    fprintf(stderr,
            "positions up to %" PRIu64 ", not %" PRIu64 "; %" PRIu64 " changes, not %" PRIu64 "\n",
            journal_position_end(w->j), w->live.position_end, w->state.count, w->live.s.count);
    for (i = 0; i < UIDS_MAX; i++) {
        if (!w->plog[i] && !w->live.s.there[i])
            continue;
        memset(&now, 0, sizeof now);
        if (w->plog[i])
            plog_info_get(w->plog[i], &now);
        fprintf(stderr, "log %u %s: %" PRId64 "..%" PRId64 ", not %" PRId64 "..%" PRId64 "\n", i,
                w->plog[i] ? "there" : "not there", now.start_offset, now.end_offset,
                w->live.log[i].start, w->live.log[i].end);
    }
}

/* Finds the prefix of the units that was recovered; forgets the rest. */
static void recovered_check(struct world *w)
{
    uint32_t n, found = UINT32_MAX, i;
    enum err e;

    live_rebuild(w, w->must);
    for (n = w->must;; n++) {
        if (looks_like(w, &w->live))
            found = n;
        if (n == w->units)
            break;
        model_apply(&w->live, &w->unit[n]->m);
    }
    if (found == UINT32_MAX) {
        why_not(w);
        die(&w->seed, "what was recovered is no prefix of %u to %u units", w->must, w->units);
    }
    say(&w->seed, "  recovered %u units of %u to %u", found, w->must, w->units);
    for (i = found; i < w->units; i++)
        free(w->unit[i]);
    w->units = w->committed = w->must = found;
    live_rebuild(w, found);
    for (i = 1; i < UIDS_MAX; i++)
        if (w->plog[i])
            read_some(w, i, w->live.log[i].start, w->live.log[i].end, &e);
}

static enum err try_open(struct world *w, bool read_only, struct errinfo *info)
{
    struct journal_conf c = {.dir = DIR,
                             .io = w->io,
                             .hooks = &hooks,
                             .hooks_arg = w,
                             .read_only = read_only,
                             .file_bytes = w->file_bytes,
                             .tail_bytes = 32768,
                             .spare_files = 1};
    enum err e;

    memset(&w->state, 0, sizeof w->state);
    e = journal_open(&c, &w->j, info);
    if (e)
        logs_free(w);
    return e;
}

static void world_close(struct world *w)
{
    if (rnd(&w->seed, 2))
        plog_read_release(&w->read);
    journal_close(&w->j);
    logs_free(w);
}

/* A number that stands for every name and byte of the disk. */
struct sum {
    struct io *io;
    uint32_t crc;
};

static void sum_one(void *arg, const char *path, uint64_t size)
{
    struct sum *s = arg;
    struct io_file *f;
    uint8_t *mem = xmalloc(size + 1);
    size_t got = 0;

    if (!io_open(s->io, path, IO_RDONLY, &f, NULL)) {
        io_pread(f, mem, size, 0, &got, NULL);
        io_close(&f);
    }
    s->crc = crc32c(s->crc, path, strlen(path));
    s->crc = crc32c(s->crc, &size, sizeof size);
    s->crc = crc32c(s->crc, mem, got);
    free(mem);
}

static uint32_t disk_sum(struct world *w)
{
    struct sum s = {.io = w->io};

    io_sim_each(w->io, sum_one, &s);
    return s.crc;
}

/* Read-only the log opens after any crash, is what a writer then finds, and no byte changes. */
static void read_only_check(struct world *w, bool *empty)
{
    uint32_t before = disk_sum(w);
    struct errinfo info = {0};
    enum err e = try_open(w, true, &info);

    if (e && e != ERR_NOT_FOUND)
        die(&w->seed, "opening read-only: %s: %s", err_code(e), info.text);
    *empty = e == ERR_NOT_FOUND;
    if (!e) {
        recovered_check(w);
        world_close(w);
    }
    if (disk_sum(w) != before)
        die(&w->seed, "opening read-only changed the disk");
}

static bool dir_there(struct world *w)
{
    uint64_t size;
    bool there = false;

    io_stat(w->io, DIR "/log", &size, &there, NULL);
    return there;
}

static void world_open(struct world *w)
{
    struct errinfo info = {0};
    bool empty = false;
    unsigned tries;
    enum err e;

    for (tries = 0; rnd(&w->seed, 3) == 0 && tries < 3; tries++) { /* crash while recovering */
        if (rnd(&w->seed, 2))
            io_sim_crash_at(w->io, 1 + rnd(&w->seed, 80));
        else
            io_sim_fail(w->io, 1 + rnd(&w->seed, 80), rnd(&w->seed, 2) ? ERR_IO : ERR_NO_SPACE,
                        rnd(&w->seed, 2));
        e = try_open(w, rnd(&w->seed, 8) == 0, &info);
        say(&w->seed, "  opening with trouble: %s", err_code(e));
        if (!e) {
            io_sim_crash_at(w->io, 1);
            world_close(w);
        }
        io_sim_crash(w->io);
    }
    w->faulty = false;
    if (dir_there(w) && rnd(&w->seed, 4) == 0)
        read_only_check(w, &empty);
    e = try_open(w, false, &info);
    if (e)
        die(&w->seed, "opening: %s: %s", err_code(e), info.text);
    if (empty && journal_position_end(w->j) != 1)
        die(&w->seed, "read-only there was no log");
    recovered_check(w);
}

/* ---- a run ---- */

static void durable_note(struct world *w)
{
    struct journal_stats s;

    journal_stats_get(w->j, &s);
    while (w->must < w->committed && w->unit[w->must]->unit.seq <= s.seq)
        w->must++;
}

static void step(struct world *w)
{
    uint64_t what = rnd(&w->seed, 100), n;

    if (what < 50 && w->units + 50 < UNITS_MAX)
        step_append(w);
    else if (what < 70)
        journal_step(w->j);
    else if (what < 80)
        for (n = rnd(&w->seed, 8); n-- > 0 && journal_background(w->j);)
            ;
    else if (what < 92)
        step_read(w);
    else if (what < 98)
        io_sim_advance(w->io,
                       rnd(&w->seed, 4) ? rnd(&w->seed, 100000000) : rnd(&w->seed, 5000000000));
    else if (what == 98)
        journal_checkpoint(w->j, NULL);
    durable_note(w);
}

/* The disk is full for a while; then the log must take units again by itself. */
static void run_full(struct world *w)
{
    uint32_t before;
    unsigned i;

    io_sim_capacity(w->io, 10000 + rnd(&w->seed, 300000));
    for (i = 0; i < 150 && !io_sim_crashed(w->io); i++)
        step(w);
    io_sim_capacity(w->io, UINT64_MAX);
    if (journal_state_get(w->j, NULL) == JOURNAL_FAILED)
        die(&w->seed, "a full disk made the log fail");
    io_sim_advance(w->io, 1000000000);
    before = w->committed;
    for (i = 0; i < 20 && w->committed == before; i++) {
        step_append(w);
        journal_step(w->j);
    }
    if (w->committed == before)
        die(&w->seed, "the disk is not full any more, but the log takes nothing");
}

static void run(struct world *w)
{
    uint64_t how = rnd(&w->seed, 10);
    unsigned i, n = 40 + (unsigned)rnd(&w->seed, 200);

    if (how < 5) {
        io_sim_crash_at(w->io, 1 + rnd(&w->seed, 400));
    } else if (how < 7) {
        w->faulty = true;
        io_sim_fail(w->io, 1 + rnd(&w->seed, 300), rnd(&w->seed, 3) ? ERR_IO : ERR_NO_SPACE,
                    rnd(&w->seed, 2));
    } else if (how == 7) {
        run_full(w);
    }
    for (i = 0; i < n && !io_sim_crashed(w->io); i++)
        step(w);
    if (how != 9 && rnd(&w->seed, 4) == 0) {
        io_sim_crash_at(w->io, 1);
    } else if (how == 9) { /* closing in order leaves nothing undone */
        while (journal_step(w->j))
            ;
        world_close(w);
        if (w->committed != w->units)
            die(&w->seed, "units without an answer after a close");
        w->must = w->units;
        if (rnd(&w->seed, 2))
            return;
    }
    say(&w->seed, "  %u units, %u answered, %u durable; %s", w->units, w->committed, w->must,
        io_sim_crashed(w->io) ? "crashed" : "stopping");
    if (w->j)
        world_close(w);
    if (io_sim_crashed(w->io) || rnd(&w->seed, 2)) {
        io_sim_crash(w->io);
        w->st_crashes++;
    }
    io_sim_fail(w->io, 0, ERR_OK, false);
    io_sim_crash_at(w->io, 0);
}

/* ---- a flipped bit ---- */

struct pick {
    struct world *w;
    uint64_t n;
    char path[200];
    uint64_t size;
};

static void pick_one(void *arg, const char *path, uint64_t size)
{
    struct pick *p = arg;

    if (size && rnd(&p->w->seed, ++p->n) == 0) {
        snprintf(p->path, sizeof p->path, "%s", path);
        p->size = size;
    }
}

static void quiet(void *arg, bool problem, const char *text)
{
    struct world *w = arg;

    w->st_noticed += problem;
    say(&w->seed, "    %s%s", problem ? "problem: " : "", text);
}

/* Reads all that can be read; every byte served is compared. Records that could not be. */
static int64_t read_all(struct world *w)
{
    int64_t missing = 0, at, came;
    struct plog_info now;
    uint32_t i;
    enum err e;

    for (i = 1; i < UIDS_MAX; i++) {
        if (!w->plog[i])
            continue;
        plog_info_get(w->plog[i], &now);
        for (at = now.start_offset; at < now.end_offset;) {
            came = read_some(w, i, at, now.end_offset, &e);
            missing += e ? 1 : 0;
            at = e ? came + 1 : came;
        }
    }
    return missing;
}

/* No offset or position that was seen is given to another record, whatever was lost. */
static void not_reused(struct world *w, const char *path)
{
    struct plog_info now;
    uint32_t i;

    if (journal_position_end(w->j) < w->live.position_end)
        die(&w->seed, "%s: position %" PRIu64 " is given out again", path,
            journal_position_end(w->j));
    for (i = 1; i < UIDS_MAX; i++) {
        if (!w->plog[i])
            continue;
        plog_info_get(w->plog[i], &now);
        if (now.end_offset < w->live.log[i].end)
            die(&w->seed, "%s: offset %" PRId64 " of log %u is given out again", path,
                now.end_offset, i);
    }
}

/* Flips a bit, or cuts a file, or removes one. */
static void damage(struct world *w, const struct pick *p)
{
    uint64_t byte =
        rnd(&w->seed, 3) ? rnd(&w->seed, p->size) : rnd(&w->seed, p->size < 5000 ? p->size : 5000);
    unsigned bit = (unsigned)rnd(&w->seed, 8), how = (unsigned)rnd(&w->seed, 6);
    struct io_file *f;

    if (how == 0) {
        say(&w->seed, "  removing %s", p->path);
        io_unlink(w->io, p->path, NULL);
    } else if (how == 1 && io_open(w->io, p->path, 0, &f, NULL) == ERR_OK) {
        say(&w->seed, "  cutting %s at %" PRIu64, p->path, byte);
        io_truncate(f, byte, NULL);
        io_close(&f);
    } else {
        say(&w->seed, "  flipping bit %u of byte %" PRIu64 " of %s", bit, byte, p->path);
        if (!io_sim_flip(w->io, p->path, byte, bit))
            die(&w->seed, "no byte %" PRIu64 " in %s", byte, p->path);
    }
}

static void flip(struct world *w)
{
    struct pick p = {.w = w};
    struct errinfo info = {0};
    enum err e;

    io_sim_each(w->io, pick_one, &p);
    damage(w, &p);
    w->flipped = true;
    e = try_open(w, false, &info);
    if (!e) {
        if (!looks_like(w, &w->live))
            die(&w->seed, "damage changed the log unnoticed (%s)", p.path);
        say(&w->seed, "    %" PRId64 " batches unreadable", read_all(w));
        world_close(w);
    } else {
        say(&w->seed, "    refused: %s", info.text);
        w->st_refused++;
    }
    e = journal_repair(w->io, DIR, false, quiet, w, &info);
    if (e)
        die(&w->seed, "repairing %s: %s: %s", p.path, err_code(e), info.text);
    w->repaired = true;
    e = try_open(w, false, &info);
    if (e)
        die(&w->seed, "opening after repairing %s: %s: %s", p.path, err_code(e), info.text);
    read_all(w);
    not_reused(w, p.path);
    world_close(w);
}

static void world_run(struct world *w)
{
    unsigned i, cycles = 3 + (unsigned)rnd(&w->seed, 6);

    for (i = 0; i < cycles; i++) {
        say(&w->seed, " cycle %u", i);
        world_open(w);
        run(w);
    }
    world_open(w);
    for (i = 0; i < 100; i++)
        step(w);
    while (journal_step(w->j))
        ;
    world_close(w);
    w->must = w->units;
    world_open(w);
    world_close(w);
    flip(w);
}

static struct world *failed; /* kept: a journal may be left in the middle of anything */

/* True if the seed passed. */
static bool seed_run(uint64_t seed, bool verbose)
{
    struct world *w = xcalloc(1, sizeof *w);
    bool ok = false;
    uint32_t i;

    seed_init(&w->seed, seed, verbose);
    w->next_uid = 1;
    w->file_bytes = 65536u << rnd(&w->seed, 3);
    w->io = io_sim_new(seed ^ 0x5eed);
    model_init(&w->live);
    batch_builder_init(&w->builder, CODEC_NONE, 1u << 20);
    if (setjmp(w->seed.out) == 0) {
        world_run(w);
        ok = true;
    }
    if (!ok) {
        w->next_failed = failed;
        failed = w;
    } else {
        io_sim_free(&w->io);
        for (i = 0; i < w->units; i++)
            free(w->unit[i]);
        plog_read_release(&w->read);
        model_fini(&w->live);
        batch_builder_fini(&w->builder);
        say(&w->seed, "seed %" PRIu64 ": %u units, %" PRIu64 " crashes, %" PRIu64 " reads", seed,
            w->units, w->st_crashes, w->st_reads);
        free(w);
    }
    return ok;
}

int main(int argc, char **argv)
{
    struct seed_args a;
    uint64_t i, passed = 0;

    if (!seed_args_read(&a, "crash", argc, argv))
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = 0; i < a.count; i++) {
        if (a.verbose)
            printf("seed %" PRIu64 "\n", a.first + i);
        passed += seed_run(a.first + i, a.verbose);
        if ((i + 1) % 50 == 0)
            printf("%" PRIu64 " of %" PRIu64 " seeds\n", i + 1, a.count);
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, a.count - passed);
    return passed == a.count ? 0 : 1;
}
