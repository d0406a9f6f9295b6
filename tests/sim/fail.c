/* `fail`: each call to the disk fails in turn, under a whole broker.
 *
 *   fail [--from N] [--every N] [--mode M] [--verbose]
 *
 * A scenario (open, make topics, append with ids until a journal file is full and sealed, keep
 * items and offsets, trim, read, delete, close) runs on a simulated disk whose n-th call fails, for
 * n = 1, 2, 3 … until one run makes fewer calls than n. Each n in each mode: an I/O error or a full
 * disk, once or from then on, and the power going off. Then the disk is well again, the power goes
 * off and on in half of the runs, and the broker opens. What must hold: it does open; all that was
 * acknowledged is there, in order; nothing is there that was not tried; and when everything is
 * appended again with the same ids, each record is there exactly once. One thread; the same n and
 * mode do the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "broker/broker.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"

#define RECORDS   48u
#define VALUE     2000u /* together more than one journal file */
#define FILE_SIZE (64u << 10)
#define RUNS_MAX  100000u

enum mode { EIO_ONCE, EIO_ON, FULL_ONCE, FULL_ON, POWER, MODES };
static const char *const mode_name[] = {"an I/O error", "I/O errors from then on",
                                        "a full disk once", "a full disk from then on",
                                        "power off"};

struct world {
    struct io *io;
    struct broker *b;
    uint64_t n;
    enum mode mode;
    bool acked[RECORDS];
    bool created, other_created, deleted, delete_tried, kept, committed, opened;
    int64_t trimmed, trim_tried; /* offset */
    int64_t base[RECORDS];       /* offset, if acknowledged */
};

static _Noreturn void die(const struct world *w, const char *what, const struct errinfo *info)
{
    fprintf(stderr, "call %" PRIu64 ", %s: %s%s%s\n", w->n, mode_name[w->mode], what,
            info ? ": " : "", info ? info->text : "");
    exit(1);
}

static enum err open_broker(struct world *w, struct errinfo *info)
{
    struct broker_conf c = {.dir = "/d",
                            .io = w->io,
                            .journal_file_bytes = FILE_SIZE,
                            .retention_ms_default = -1,
                            .inflight_bytes = 1u << 20};

    *info = (struct errinfo){0};
    return broker_open(&c, &w->b, info);
}

/* ---- the scenario: every step may fail, and the next is tried all the same ---- */

static void value_make(unsigned i, uint8_t out[VALUE])
{
    memset(out, (int)('a' + i % 26), VALUE);
    memcpy(out, &i, sizeof i);
}

static bool append_one(struct world *w, unsigned i, int64_t *offset)
{
    char id[16];
    uint8_t value[VALUE];
    struct append_record r = {.timestamp_ms = 1700000000000 + i,
                              .value = slice_of(value, VALUE),
                              .dedup_id = slice_of(id, 0)};
    struct topic *t = topic_find(w->b, SLICE_LIT("t"));
    struct append_slot slot;
    struct append_place at = {.offset = -1};
    struct append *a;
    bool ok;

    if (!t)
        return false;
    value_make(i, value);
    r.dedup_id.len = (size_t)snprintf(id, sizeof id, "id-%u", i);
    a = append_new(w->b, NULL, NULL);
    ok = !append_record(a, t, 0, &r, &slot, NULL) && !append_submit_wait(a, NULL);
    if (ok && append_place(a, slot, &at))
        die(w, "an acknowledged record has no place", NULL);
    *offset = at.offset;
    append_free(&a);
    topic_unref(&t);
    return ok;
}

/* All that can be read, each record at most once and in the order it was tried; seen: by number. */
static enum err read_all(struct world *w, bool seen[RECORDS], struct errinfo *info)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct reader *r = NULL;
    uint8_t value[VALUE];
    int64_t last = -1;
    unsigned i;
    enum err e;

    memset(seen, 0, RECORDS * sizeof *seen);
    if ((e = reader_open(w->b, &rc, &r, info)))
        return e;
    while ((e = reader_next(r, &rec, info)) == ERR_OK || e == ERR_OFFSET_RANGE) {
        if (e)
            continue;
        if (rec.value.len != VALUE)
            die(w, "a record of another length", NULL);
        memcpy(&i, rec.value.ptr, sizeof i);
        value_make(i < RECORDS ? i : 0, value);
        if (i >= RECORDS || memcmp(value, rec.value.ptr, VALUE) != 0)
            die(w, "a record that was never written", NULL);
        if (seen[i] || rec.offset <= last)
            die(w, "a record twice, or offsets out of order", NULL);
        if (w->acked[i] && w->base[i] != rec.offset)
            die(w, "a record at another offset than was answered", NULL);
        seen[i] = true;
        last = rec.offset;
    }
    reader_close(&r);
    return e;
}

/* What was acknowledged can be read, unless reading itself fails. */
static void read_check(struct world *w, bool must)
{
    bool seen[RECORDS];
    struct errinfo info = {0};
    enum err e = read_all(w, seen, &info);
    unsigned i;

    if (e == ERR_TOPIC_NOT_FOUND && !w->created)
        return;
    if (e != ERR_AGAIN) {
        if (must)
            die(w, "reading fails", &info);
        if (e == ERR_CORRUPT)
            die(w, "reading finds damage", &info);
        return;
    }
    for (i = 0; i < RECORDS; i++)
        if (w->acked[i] && !seen[i] && w->base[i] >= w->trim_tried)
            die(w, "an acknowledged record is not there", NULL);
        else if (seen[i] && w->acked[i] && w->base[i] < w->trimmed)
            die(w, "a trimmed record is there", NULL);
}

static void background(struct world *w)
{
    unsigned i;

    for (i = 0; i < 50 && broker_background(w->b); i++)
        broker_step(w->b);
    io_sim_advance(w->io, 300000000); /* a full disk is tried again */
}

static void trim(struct world *w)
{
    struct topic *t = topic_find(w->b, SLICE_LIT("t"));
    int64_t to = 5;

    if (!t)
        return;
    w->trim_tried = to;
    if (!partition_trim_wait(topic_partition(t, 0), to, NULL))
        w->trimmed = to;
    topic_unref(&t);
}

static void commit(struct world *w)
{
    struct topic *t = topic_find(w->b, SLICE_LIT("t"));

    if (!t)
        return;
    w->committed =
        !group_commit_wait(w->b, SLICE_LIT("g"), topic_partition(t, 0), 7, SLICE_NULL, NULL);
    topic_unref(&t);
}

static void scenario(struct world *w)
{
    struct errinfo info;
    unsigned i;

    if (open_broker(w, &info))
        return;
    w->opened = true;
    w->created = !topic_create_wait(w->b, SLICE_LIT("t"), 2, NULL, NULL);
    w->other_created = !topic_create_wait(w->b, SLICE_LIT("other"), 3, NULL, NULL);
    for (i = 0; i < RECORDS; i++) {
        w->acked[i] = append_one(w, i, &w->base[i]);
        if (i % 12 == 11)
            background(w);
        if (i == 20)
            w->kept = !kv_put_wait(w->b, "ns", SLICE_LIT("k"), SLICE_LIT("v"), 0, NULL);
        if (i == 25)
            commit(w);
        if (i == 30)
            trim(w);
        if (i == 35) {
            w->delete_tried = true;
            w->deleted = !topic_delete_wait(w->b, SLICE_LIT("other"), NULL);
        }
    }
    background(w);
    read_check(w, false);
    broker_close(&w->b);
}

/* ---- afterwards ---- */

static void state_check(struct world *w)
{
    struct topic *t = topic_find(w->b, SLICE_LIT("t")), *o = topic_find(w->b, SLICE_LIT("other"));
    struct buf v;

    if (w->created && (!t || topic_partitions(t) != 2))
        die(w, "a topic is not there", NULL);
    if (w->other_created && !w->delete_tried && !o)
        die(w, "a topic is not there that nobody deleted", NULL);
    if (w->deleted && o)
        die(w, "a deleted topic is there", NULL);
    buf_init(&v, 100);
    if (w->kept && (kv_get(w->b, "ns", SLICE_LIT("k"), &v) || !slice_eq_str(buf_slice(&v), "v")))
        die(w, "an item is not there", NULL);
    buf_fini(&v);
    if (w->committed) {
        struct group_offset at;

        if (group_offset_get(w->b, SLICE_LIT("g"), topic_partition(t, 0), &at) || at.offset != 7)
            die(w, "a committed offset is not there", NULL);
    }
    topic_unref(&t);
    topic_unref(&o);
}

/* All again, as a client does that does not know what came through. */
static void again(struct world *w)
{
    struct errinfo info = {0};
    struct topic *t = topic_find(w->b, SLICE_LIT("t"));
    int64_t offset;
    unsigned i;

    if (!t && topic_create_wait(w->b, SLICE_LIT("t"), 2, NULL, &info))
        die(w, "a topic cannot be made", &info);
    topic_unref(&t);
    for (i = 0; i < RECORDS; i++) {
        if (!append_one(w, i, &offset))
            die(w, "appending fails though the disk is well", NULL);
        if (w->acked[i] && offset != w->base[i])
            die(w, "a record with a known id was written again", NULL);
        w->base[i] = offset;
        w->acked[i] = true;
    }
    read_check(w, true);
}

static void afterwards(struct world *w)
{
    struct errinfo info;

    io_sim_fail(w->io, 0, ERR_OK, false);
    io_sim_crash_at(w->io, 0);
    if (w->mode == POWER || w->n % 2)
        io_sim_crash(w->io);
    if (open_broker(w, &info))
        die(w, "the broker does not open", &info);
    state_check(w);
    read_check(w, true);
    again(w);
    broker_close(&w->b);
    if (open_broker(w, &info))
        die(w, "the broker does not open a second time", &info);
    state_check(w);
    read_check(w, true);
    broker_close(&w->b);
}

/* False: the scenario made fewer calls than n. */
static bool run(uint64_t n, enum mode mode, bool verbose)
{
    struct world w = {.n = n, .mode = mode, .io = io_sim_new(n * MODES + mode)};
    unsigned i, acked = 0;
    bool reached;

    if (mode == POWER)
        io_sim_crash_at(w.io, n);
    else
        io_sim_fail(w.io, n, mode < FULL_ONCE ? ERR_IO : ERR_NO_SPACE,
                    mode == EIO_ON || mode == FULL_ON);
    scenario(&w);
    reached = io_sim_calls(w.io) >= n;
    for (i = 0; i < RECORDS; i++)
        acked += w.acked[i];
    if (verbose)
        printf("call %" PRIu64 ", %s: %s, %u acknowledged\n", n, mode_name[mode],
               w.opened ? "open" : "not open", acked);
    if (!reached && (acked != RECORDS || !w.kept || !w.committed || !w.deleted || !w.trimmed))
        die(&w, "the scenario fails on a disk that is well", NULL);
    afterwards(&w);
    io_sim_free(&w.io);
    return reached;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, every = 1, n, runs = 0;
    int only = -1, a;
    bool verbose = false;
    unsigned m;

    for (a = 1; a < argc; a++) {
        if (strcmp(argv[a], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[a], "--from") == 0 && a + 1 < argc) {
            from = strtoull(argv[++a], NULL, 10);
        } else if (strcmp(argv[a], "--every") == 0 && a + 1 < argc) {
            every = strtoull(argv[++a], NULL, 10);
            every += every == 0;
        } else if (strcmp(argv[a], "--mode") == 0 && a + 1 < argc) {
            only = (int)strtol(argv[++a], NULL, 10);
        } else {
            fprintf(stderr, "usage: fail [--from N] [--every N] [--mode 0..4] [--verbose]\n");
            return 2;
        }
    }
    for (m = 0; m < MODES; m++) {
        if (only >= 0 && (int)m != only)
            continue;
        for (n = from; n < RUNS_MAX && run(n, (enum mode)m, verbose); n += every)
            runs++;
        printf("%s: %" PRIu64 " calls in turn\n", mode_name[m], (n - from) / every);
    }
    printf("%" PRIu64 " passed, 0 failed\n", runs);
    return 0;
}
