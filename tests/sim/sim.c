/* Simulation of the journal: random work on a disk that loses, tears and garbles what was not
 * synced, crashes at random calls, and failing calls, all from a seed; an independent model judges
 * what is there afterwards.
 *
 *     sim [--seeds N] [--seed S] [--verbose]
 *
 * The model knows each unit that was handed in: which records it has (their payload is made from
 * the unit's number) and whether it was acknowledged. After every crash or close it reads
 * everything back and demands:
 *   - each acknowledged unit is there, wholly, once (of durability `os`: if the crash was after a
 * sync);
 *   - each other unit is there wholly or not at all, never if it was refused;
 *   - within a log offsets are dense, and records are in the order in which they were handed in;
 *   - positions grow with that order and are never used twice;
 *   - the small state kept by entries and checkpoint is that of the units that are there;
 *   - what was trimmed stays trimmed; a mere crash never makes the log refuse to open. */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/hash.h"
#include "base/mem.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "seed.h"

#define LOGS          5
#define UNITS_MAX     4000
#define RECORDS_MAX   4
#define CYCLES        6
#define ENTRY_COUNTER (ENTRY_BROKER + 1) /* u64 unit number: the state is the set of these */

/* UNKNOWN: answered with an I/O error: it may be on the disk or not; the next recovery decides. */
enum fate { PENDING, ACKED, REFUSED, UNKNOWN };

struct world;

struct unit {
    struct journal_unit ju; /* first */
    struct world *w;
    struct journal_entry en[RECORDS_MAX + 1];
    uint64_t number;
    unsigned logs[RECORDS_MAX], records[RECORDS_MAX], batches;
    enum fate fate;
    bool os, synced_over; /* os: something synced was acknowledged after it */
    bool counted;         /* has a counter entry */
    uint8_t number_le[8];
    uint64_t position; /* of its first record; 0 unknown */
};

struct world {
    struct seed seed;
    struct io *io;
    struct journal *j;
    struct plog *log[LOGS];
    int64_t start[LOGS]; /* lowest trim acknowledged or seen */
    struct unit *units[UNITS_MAX];
    uint64_t units_n;
    uint64_t seen[UNITS_MAX / 64 + 1]; /* counters: recovered or live state */
    bool verbose;
    const char *failed;
    char text[512];
    struct trim {
        struct journal_unit ju;
        struct journal_entry en;
        uint8_t to[8];
        struct world *w;
        unsigned log;
    } trims[64];
    unsigned trims_n;
    uint64_t acked, crashes, reopened;
};

__attribute__((format(printf, 2, 3))) static void fail(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->failed)
        return;
    va_start(ap, fmt);
    vsnprintf(w->text, sizeof w->text, fmt, ap);
    va_end(ap);
    w->failed = w->text;
}

/* ---- the state behind the hooks ---- */

static void count(struct world *w, uint64_t n)
{
    if (n < UNITS_MAX)
        w->seen[n / 64] |= 1ull << (n % 64);
    else
        fail(w, "a counter entry has number %" PRIu64, n);
}

static enum err h_load(void *arg, struct sqlite3 *db, struct errinfo *info)
{
    struct world *w = arg;
    sqlite3_stmt *st = NULL;
    int64_t start[LOGS] = {0};
    unsigned i;

    memset(w->seen, 0, sizeof w->seen);
    if (sqlite3_prepare_v2(db, "SELECT log, start FROM starts", -1, &st, NULL) == SQLITE_OK)
        while (sqlite3_step(st) == SQLITE_ROW)
            start[sqlite3_column_int(st, 0) % LOGS] = sqlite3_column_int64(st, 1);
    sqlite3_finalize(st);
    st = NULL;
    for (i = 0; i < LOGS; i++)
        w->log[i] = plog_new(w->j, i + 1, start[i], NULL);
    if (sqlite3_prepare_v2(db, "SELECT n FROM counters", -1, &st, NULL) == SQLITE_OK)
        while (sqlite3_step(st) == SQLITE_ROW)
            count(w, (uint64_t)sqlite3_column_int64(st, 0));
    sqlite3_finalize(st);
    return ERR_OK;
}

static enum err h_apply(void *arg, uint8_t type, struct slice data, int64_t wall,
                        struct errinfo *info)
{
    if (type != ENTRY_COUNTER || data.len != 8)
        return ERR_CORRUPT;
    count(arg, le64_load(data.ptr));
    return ERR_OK;
}

static struct plog *h_find(void *arg, uint32_t uid)
{
    struct world *w = arg;

    return uid >= 1 && uid <= LOGS ? w->log[uid - 1] : NULL;
}

/* What is sequenced now: every unit handed in and not refused. */
static void *h_collect(void *arg)
{
    struct world *w = arg;
    uint64_t *copy = xcalloc(w->units_n + 1, sizeof *copy), i, n = 0;

    for (i = 0; i < w->units_n; i++)
        if (w->units[i]->counted && (w->units[i]->fate == PENDING || w->units[i]->fate == ACKED))
            copy[++n] = w->units[i]->number;
    copy[0] = n;
    return copy;
}

static enum err h_write(void *arg, void *collected, struct sqlite3 *db, struct errinfo *info)
{
    struct world *w = arg;
    uint64_t *c = collected, i;
    char sql[96];

    if (sqlite3_exec(db,
                     "CREATE TABLE IF NOT EXISTS counters(n INTEGER PRIMARY KEY);"
                     "CREATE TABLE IF NOT EXISTS starts(log INTEGER PRIMARY KEY, start)",
                     NULL, NULL, NULL))
        return ERR_IO;
    for (i = 0; i < LOGS; i++) {
        struct plog_info pi;

        plog_info_get(w->log[i], &pi);
        snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO starts VALUES(%" PRIu64 ", %" PRId64 ")",
                 i, pi.start_offset);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL))
            return ERR_IO;
    }
    for (i = 0; i < UNITS_MAX; i++) {
        if (!(w->seen[i / 64] >> (i % 64) & 1))
            continue;
        snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO counters VALUES(%" PRIu64 ")", i);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL))
            return ERR_IO;
    }
    for (i = 1; i <= c[0]; i++) {
        snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO counters VALUES(%" PRIu64 ")", c[i]);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL))
            return ERR_IO;
    }
    return ERR_OK;
}

static void h_end(void *arg, void *collected, bool committed)
{
    free(collected);
}

static const struct journal_hooks hooks = {.load = h_load,
                                           .apply = h_apply,
                                           .plog_find = h_find,
                                           .checkpoint_collect = h_collect,
                                           .checkpoint_write = h_write,
                                           .checkpoint_end = h_end};

/* ---- work ---- */

static void on_done(struct journal_unit *ju, enum err e)
{
    struct unit *u = (struct unit *)ju;
    struct world *w = u->w;
    unsigned i;
    uint64_t k;

    if (u->fate != PENDING)
        fail(w, "unit %" PRIu64 " was answered twice", u->number);
    u->fate = !e ? ACKED : e == ERR_NO_SPACE ? REFUSED : UNKNOWN;
    for (i = 0; i < u->ju.n; i++)
        if (u->en[i].type == ENTRY_BATCH) {
            u->position = u->en[i].position;
            break;
        }
    if (e)
        return;
    w->acked++;
    if (u->counted)
        count(w, u->number);
    if (!u->os) /* a synced answer: all before it is on stable storage, too */
        for (k = 0; k < u->number; k++)
            if (w->units[k]->fate == ACKED)
                w->units[k]->synced_over = true;
}

static void payload(uint64_t number, unsigned batch, unsigned record, uint8_t *p, size_t n)
{
    uint64_t x = number * 1000003 + batch * 101 + record;
    size_t i;

    le64_store(p, number);
    p[8] = (uint8_t)batch;
    p[9] = (uint8_t)record;
    for (i = 10; i < n; i++)
        p[i] = (uint8_t)(x >> (i % 8 * 8)) ^ (uint8_t)i;
}

static size_t payload_len(uint64_t number, unsigned batch, unsigned record)
{
    uint64_t x = (number * 7919 + batch * 31 + record) % 100;

    return x < 90 ? 10 + x * 5 : 10 + x * 90;
}

static void build_batch(struct unit *u, unsigned b, struct batch_builder *bb)
{
    uint8_t mem[10240];
    struct slice out;
    unsigned r;

    batch_builder_reset(bb);
    for (r = 0; r < u->records[b]; r++) {
        size_t n = payload_len(u->number, b, r);

        payload(u->number, b, r, mem, n);
        batch_builder_add(bb, 1000 + (int64_t)u->number, SLICE_NULL, slice_of(mem, n), NULL, 0,
                          NULL);
    }
    batch_builder_finish(bb, 0, -1, -1, -1, &out);
    u->en[b].data = out;
}

static void do_append(struct world *w)
{
    struct batch_builder bb[RECORDS_MAX];
    struct unit *u;
    unsigned b;
    enum err e;

    if (w->units_n == UNITS_MAX)
        return;
    u = xcalloc(1, sizeof *u);
    u->number = w->units_n;
    u->batches =
        rng_next(&w->seed.rng) % 10 == 0 ? 0 : 1 + (unsigned)(rng_next(&w->seed.rng) % RECORDS_MAX);
    u->os = rng_next(&w->seed.rng) % 8 == 0;
    u->counted = !u->os && (u->batches == 0 || rng_next(&w->seed.rng) % 3 == 0);
    for (b = 0; b < u->batches; b++) {
        u->logs[b] = (unsigned)(rng_next(&w->seed.rng) % LOGS);
        u->records[b] = 1 + (unsigned)(rng_next(&w->seed.rng) % 5);
        batch_builder_init(&bb[b], CODEC_NONE, 1u << 20);
        u->en[b].type = ENTRY_BATCH;
        u->en[b].plog = w->log[u->logs[b]];
        build_batch(u, b, &bb[b]);
    }
    if (u->counted) {
        le64_store(u->number_le, u->number);
        u->en[b].type = ENTRY_COUNTER;
        u->en[b].data = slice_of(u->number_le, 8);
        b++;
    }
    u->ju.entries = u->en;
    u->ju.n = b;
    u->ju.os = u->os;
    u->ju.done = on_done;
    u->w = w;
    u->fate = REFUSED;
    if (b) {
        u->fate = PENDING;
        w->units[w->units_n++] = u;
        e = journal_append(w->j, &u->ju, JOURNAL_NONBLOCK);
        if (e)
            u->fate = REFUSED;
    } else {
        free(u);
    }
    for (b = 0; b < RECORDS_MAX && w->units_n && w->units[w->units_n - 1] == u; b++)
        if (b < u->batches)
            batch_builder_fini(&bb[b]);
}

static void trim_done(struct journal_unit *ju, enum err e)
{
    struct trim *t = (struct trim *)ju;

    if (!e && (int64_t)le64_load(t->to) > t->w->start[t->log])
        t->w->start[t->log] = (int64_t)le64_load(t->to);
    t->ju.done = NULL;
}

static void do_trim(struct world *w)
{
    unsigned log = (unsigned)(rng_next(&w->seed.rng) % LOGS), i;
    struct plog_info pi;
    struct trim *t = NULL;
    int64_t to;

    for (i = 0; i < 64 && !t; i++)
        if (!w->trims[i].ju.done)
            t = &w->trims[i];
    plog_info_get(w->log[log], &pi);
    if (!t || pi.end_offset == pi.start_offset)
        return;
    to = pi.start_offset +
         (int64_t)(rng_next(&w->seed.rng) % (uint64_t)(pi.end_offset - pi.start_offset + 1));
    memset(t, 0, sizeof *t);
    t->w = w;
    t->log = log;
    le64_store(t->to, (uint64_t)to);
    t->en.type = ENTRY_LOG_START;
    t->en.plog = w->log[log];
    t->en.data = slice_of(t->to, 8);
    t->ju.entries = &t->en;
    t->ju.n = 1;
    t->ju.done = trim_done;
    if (journal_append(w->j, &t->ju, JOURNAL_NONBLOCK))
        t->ju.done = NULL;
}

static void do_read(struct world *w)
{
    struct plog *p = w->log[rng_next(&w->seed.rng) % LOGS];
    struct plog_read r = {0};
    struct plog_info pi;
    struct errinfo info = {0};
    enum err e;

    plog_info_get(p, &pi);
    if (pi.end_offset == pi.start_offset)
        return;
    e = plog_read(p,
                  pi.start_offset + (int64_t)(rng_next(&w->seed.rng) %
                                              (uint64_t)(pi.end_offset - pi.start_offset)),
                  4096, &r, &info);
    if (e == ERR_CORRUPT && !io_sim_crashed(w->io))
        fail(w, "a read while running: %s", info.text);
    plog_read_release(&r);
}

/* ---- judging ---- */

struct found {
    uint64_t number;
    unsigned batch, records;
    uint64_t position;
};

static bool right_payload(struct world *w, const struct record *r, struct found *f)
{
    uint8_t want[10240];
    uint64_t number;
    unsigned batch, rec;

    if (r->value.len < 10)
        return false;
    number = le64_load(r->value.ptr);
    batch = r->value.ptr[8];
    rec = r->value.ptr[9];
    if (number >= w->units_n || batch >= w->units[number]->batches ||
        rec >= w->units[number]->records[batch] || payload_len(number, batch, rec) != r->value.len)
        return false;
    payload(number, batch, rec, want, r->value.len);
    f->number = number;
    f->batch = batch;
    return memcmp(want, r->value.ptr, r->value.len) == 0;
}

/* One stored batch: payloads, and its place in the order. */
static void judge_batch(struct world *w, unsigned log, const struct read_batch *b,
                        uint8_t (*have)[RECORDS_MAX], uint64_t *last, uint64_t *last_pos)
{
    struct buf scratch;
    struct batch_iter it;
    struct record r;
    struct found f = {0};
    unsigned n = 0;
    enum err e;

    buf_init(&scratch, 1u << 20);
    e = batch_iter_init(&it, b->data, &scratch);
    while (!e && (e = batch_iter_next(&it, &r)) == ERR_OK) {
        if (!right_payload(w, &r, &f)) {
            fail(w, "log %u, offset %" PRId64 ": a payload that nobody wrote", log, r.offset);
            break;
        }
        n++;
    }
    buf_fini(&scratch);
    if (w->failed)
        return;
    if (e != ERR_EOF || n != w->units[f.number]->records[f.batch] ||
        w->units[f.number]->logs[f.batch] != log)
        fail(w, "log %u: a batch of unit %" PRIu64 " is not as it was written", log, f.number);
    else if (f.number * RECORDS_MAX + f.batch < *last)
        fail(w, "log %u: unit %" PRIu64 " comes after a later one", log, f.number);
    else if (b->position <= *last_pos)
        fail(w, "log %u: position %" PRIu64 " after %" PRIu64, log, b->position, *last_pos);
    else if (have[f.number][f.batch]++)
        fail(w, "log %u: unit %" PRIu64 " is there twice", log, f.number);
    *last = f.number * RECORDS_MAX + f.batch;
    *last_pos = b->position + n - 1;
}

static void judge_log(struct world *w, unsigned log, uint8_t (*have)[RECORDS_MAX],
                      uint8_t (*below)[RECORDS_MAX])
{
    struct plog_read r = {0};
    struct plog_info pi;
    struct errinfo info = {0};
    uint64_t last = 0, last_pos = 0;
    int64_t at;
    unsigned i;

    plog_info_get(w->log[log], &pi);
    if (pi.start_offset < w->start[log])
        fail(w, "log %u: trimmed to %" PRId64 " but starts at %" PRId64, log, w->start[log],
             pi.start_offset);
    for (at = pi.start_offset; !w->failed && at < pi.end_offset;) {
        enum err e = plog_read(w->log[log], at, 65536, &r, &info);

        if (e || r.n == 0) {
            fail(w, "log %u, offset %" PRId64 ": %s %s", log, at, err_code(e), info.text);
            break;
        }
        if (r.batch[0].base_offset > at)
            fail(w, "log %u: offset %" PRId64 " is missing", log, at);
        for (i = 0; i < r.n && !w->failed; i++) {
            if (i && r.batch[i].base_offset != r.batch[i - 1].last_offset + 1)
                fail(w, "log %u: a gap at %" PRId64, log, r.batch[i].base_offset);
            judge_batch(w, log, &r.batch[i], have, &last, &last_pos);
        }
        at = r.batch[r.n - 1].last_offset + 1;
    }
    plog_read_release(&r);
    (void)below;
}

/* Everything that should be there is; nothing else. Then units that are there count as acknowledged
 * (they must stay), units that are not as refused. */
static void judge(struct world *w)
{
    uint8_t(*have)[RECORDS_MAX] = xcalloc(w->units_n + 1, sizeof *have);
    uint64_t trimmed_pos[LOGS] = {0}, n;
    unsigned i, b;

    for (i = 0; i < LOGS && !w->failed; i++)
        judge_log(w, i, have, NULL);
    (void)trimmed_pos;
    for (n = 0; n < w->units_n && !w->failed; n++) {
        struct unit *u = w->units[n];
        bool some = false, all = true, trimmed = false, counted;

        for (b = 0; b < u->batches; b++) {
            struct plog_info pi;

            plog_info_get(w->log[u->logs[b]], &pi);
            if (have[n][b])
                some = true;
            else if (u->en[b].base_offset + u->records[b] <= pi.start_offset && u->position)
                trimmed = true; /* below the start: rightly gone */
            else
                all = false;
        }
        counted = w->seen[n / 64] >> (n % 64) & 1;
        if (u->counted) {
            some = some || counted;
            all = all && counted;
        }
        if (u->fate == ACKED && !all && !(u->os && !u->synced_over && !some))
            fail(w, "unit %" PRIu64 " was acknowledged and is %s", n, some ? "half there" : "lost");
        else if (some && !all && !trimmed)
            fail(w, "unit %" PRIu64 " is half there", n);
        else if (u->fate == REFUSED && some)
            fail(w, "unit %" PRIu64 " was refused and is there", n);
        if (u->fate == PENDING || u->fate == UNKNOWN || (u->fate == ACKED && !all)) {
            u->fate = all && some ? ACKED : REFUSED;
        }
        if (u->fate == ACKED)
            u->synced_over = true; /* recovery syncs what it found */
    }
    free(have);
}

/* ---- cycles ---- */

/* With it the tail becomes larger than its own room, by up to 256 KiB. */
#define CACHE_MORE ((64u << 20) + (256u << 10))

static bool open_log(struct world *w)
{
    struct journal_conf conf = {.dir = "d",
                                .io = w->io,
                                .hooks = &hooks,
                                .hooks_arg = w,
                                .file_bytes = 128u << 10,
                                .tail_bytes = 64u << 10,
                                .cache_bytes = w->reopened % 2 ? CACHE_MORE : 0,
                                .inflight_bytes = 1u << 20,
                                .frame_bytes = 16u << 10};
    struct errinfo info = {0};
    enum err e;
    unsigned i;

    for (i = 0; i < LOGS; i++)
        plog_free(&w->log[i]);
    e = journal_open(&conf, &w->j, &info);
    w->reopened++;
    if (!e)
        return true;
    if (!io_sim_crashed(w->io) && e != ERR_NO_SPACE)
        fail(w, "does not open after a crash: %s: %s", err_code(e), info.text);
    return false;
}

static void close_log(struct world *w)
{
    unsigned i;

    journal_close(&w->j);
    for (i = 0; i < LOGS; i++)
        plog_free(&w->log[i]);
    for (i = 0; i < 64; i++)
        w->trims[i].ju.done = NULL;
}

static void work(struct world *w, unsigned steps)
{
    unsigned i;

    for (i = 0; i < steps && !w->failed; i++) {
        switch (rng_next(&w->seed.rng) % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
            do_append(w);
            break;
        case 7:
            do_trim(w);
            break;
        case 8:
            journal_background(w->j);
            break;
        case 9:
            do_read(w);
            break;
        case 10:
            if (rng_next(&w->seed.rng) % 10 == 0)
                journal_checkpoint(w->j, NULL);
            else if (rng_next(&w->seed.rng) % 4 == 0)
                io_sim_advance(w->io, 200000000);
            break;
        default:
            journal_step(w->j);
        }
    }
}

static void plan_fault(struct world *w)
{
    uint64_t in = 1 + rng_next(&w->seed.rng) % 400;

    switch (rng_next(&w->seed.rng) % 8) {
    case 0:
        io_sim_fail(w->io, in, ERR_IO, false);
        break;
    case 1:
        io_sim_fail(w->io, in, ERR_IO, true);
        break;
    case 2:
        io_sim_fail(w->io, in, ERR_NO_SPACE, rng_next(&w->seed.rng) % 2);
        break;
    case 3:
        io_sim_capacity(w->io, (1 + rng_next(&w->seed.rng) % 6) * (128u << 10));
        break;
    default:
        io_sim_crash_at(w->io, in);
    }
}

static void cycle(struct world *w)
{
    bool clean = rng_next(&w->seed.rng) % 5 == 0;

    if (rng_next(&w->seed.rng) % 6 == 0)
        io_sim_crash_at(w->io, 1 + rng_next(&w->seed.rng) % 60); /* during recovery */
    if (open_log(w)) {
        io_sim_crash_at(w->io, 0); /* it was for recovery */
        if (!io_sim_crashed(w->io))
            judge(w);
        if (!w->failed) {
            if (!clean)
                plan_fault(w);
            work(w, 100 + (unsigned)(rng_next(&w->seed.rng) % 400));
        }
        close_log(w);
    }
    if (!clean || io_sim_crashed(w->io)) {
        io_sim_crash(w->io);
        w->crashes++;
    }
    faults_end(w->io);
}

static bool run_seed(uint64_t seed, bool verbose, uint64_t *acked, uint64_t *crashes)
{
    struct world *w = xcalloc(1, sizeof *w);
    bool ok;
    uint64_t i;
    unsigned c;

    seed_init(&w->seed, seed, verbose);
    w->io = io_sim_new(seed ^ 0x5eed);
    for (c = 0; c < CYCLES && !w->failed; c++)
        cycle(w);
    if (!w->failed && open_log(w)) { /* a last look, with nothing going wrong */
        judge(w);
        close_log(w);
    }
    if (w->failed)
        printf("seed %" PRIu64 ": %s\n", seed, w->failed);
    ok = !w->failed;
    *acked += w->acked;
    *crashes += w->crashes;
    for (i = 0; i < w->units_n; i++)
        free(w->units[i]);
    for (c = 0; c < LOGS; c++)
        plog_free(&w->log[c]);
    io_sim_free(&w->io);
    free(w);
    return ok;
}

int main(int argc, char **argv)
{
    struct seed_args a;
    uint64_t passed = 0, failed = 0, acked = 0, crashes = 0, s;

    if (!seed_args_read(&a, "sim", argc, argv))
        return 2;
    for (s = a.first; s < a.first + a.count; s++) {
        if (run_seed(s, a.verbose, &acked, &crashes))
            passed++;
        else
            failed++;
        if (s % 1000 == 0)
            fprintf(stderr, "\r%" PRIu64 " seeds ", s);
    }
    printf("%" PRIu64 " crashes, %" PRIu64 " units acknowledged\n", crashes, acked);
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed ? 1 : 0;
}
