/* `compaction`: compacted topics on a simulated disk that crashes, fails and fills up, from a seed.
 *
 *   compaction --seeds N [--seed S] [--verbose]
 *
 * Each seed writes records and tombstones of a few keys to a topic that is compacted, one that is
 * compacted and trimmed, one that is neither, one of which the newest three of a key stay, and one
 * compacted by offset of which the newest two stay and single records are removed, while time passes
 * and the background works, until a crash, a failure or a close; then all is opened again and compared
 * with what was written; several times over. What must hold:
 *   - every record that is read was written with that key, value, offset and position;
 *   - of every key the newest record (the newest three, or two) that was answered is there, unless it
 *     is a tombstone or below the log's start; of the topic that is not compacted every record is;
 *   - by offset: tombstones and records without key are there, too, unless they were removed; what was
 *     removed does not count among the newest of its key;
 *   - logs end where they ended: with what was answered, or with the one unit that was under way,
 *     which is there as a whole or not at all;
 *   - `weir check` finds nothing.
 * One thread; the same seed does the same. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/removed.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/compact.h"
#include "seed.h"

#define DIR      "/d"
#define TOPICS   5
#define PLAIN    2u
#define NEWEST   3u /* the newest three of a key */
#define STREAM   4u /* by offset, the newest two; partition 0 alone */
#define NO_KEY   KEYS
#define PARTS    2
#define KEYS     16
#define UNIT_MAX 8u

struct written {
    uint64_t position;
    uint32_t serial; /* its value; 0: a tombstone */
    uint8_t key;     /* NO_KEY: none */
    bool removed;    /* durably */
    bool removing;   /* perhaps */
    bool over;       /* STREAM: there were as many newer ones of its key as stay, once */
};

struct part {
    struct written *w;
    int64_t n, cap, start;
};

/* A record of the unit under way. */
struct maybe {
    unsigned topic, part;
    struct written w;
};

struct world {
    struct world *next_failed;
    struct io *io;
    struct broker *b;
    struct topic *t[TOPICS];
    struct part part[TOPICS][PARTS];
    struct maybe maybe[UNIT_MAX]; /* sent, but it is not known whether it is there */
    unsigned maybe_n;
    struct seed seed;
    uint64_t file_bytes;
    uint32_t serial;
    bool faulty; /* faulty: reading may fail */
    uint64_t st_crashes, st_records, st_jobs, st_dropped;
};

static const char *const names[TOPICS] = {"compact", "both", "plain", "newest", "stream"};

/* ---- the model ---- */

static const unsigned stays[TOPICS] = {1, 1, 0, 3, 2}; /* records of a key */

/* Those that its stream would have removed by now, as there are so many newer ones. */
static void over_note(struct part *p, uint8_t key)
{
    unsigned newer = 0;
    int64_t i;

    for (i = p->n - 1; i >= 0; i--) {
        if (p->w[i].key != key || p->w[i].removed)
            continue;
        p->w[i].over = p->w[i].over || newer >= stays[STREAM];
        newer++;
    }
}

static void part_add(struct part *p, const struct written *w)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->w = xrealloc(p->w, (size_t)p->cap * sizeof *p->w);
    }
    p->w[p->n++] = *w;
    if (w->key != NO_KEY)
        over_note(p, w->key);
}

/* ---- writing ---- */

static enum err unit_fill(struct world *w, struct append *a, struct append_slot *slot)
{
    static uint8_t pad[6000];
    struct errinfo info;
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; !e && i < w->maybe_n; i++) {
        struct maybe *m = &w->maybe[i];
        struct record_header h = {SLICE_LIT("pad"), slice_of(pad, rnd(&w->seed, sizeof pad))};
        struct append_record r = {.timestamp_ms = -1, .headers = &h, .headers_n = 1};

        *m = (struct maybe){.topic = (unsigned)rnd(&w->seed, TOPICS),
                            .part = (unsigned)rnd(&w->seed, PARTS)};
        if (m->topic == STREAM)
            m->part = 0;
        m->w.key = (uint8_t)rnd(&w->seed, m->topic == STREAM ? KEYS + 1 : KEYS);
        m->w.serial = rnd(&w->seed, 5) ? ++w->serial : 0;
        if (m->w.key != NO_KEY)
            r.key = slice_of(&m->w.key, 1);
        if (m->w.serial)
            r.value = slice_of(&m->w.serial, sizeof m->w.serial);
        e = append_record(a, w->t[m->topic], (int32_t)m->part, &r, &slot[i], &info);
    }
    return e;
}

static void step_append(struct world *w)
{
    struct append *a = append_new(w->b, NULL, NULL);
    struct append_slot slot[UNIT_MAX];
    struct append_place p;
    struct errinfo info;
    unsigned i;
    enum err e;

    w->maybe_n = 1 + (unsigned)rnd(&w->seed, UNIT_MAX);
    if ((e = unit_fill(w, a, slot)))
        die(&w->seed, "a record cannot be added: %s", err_code(e));
    e = append_submit_wait(a, &info);
    for (i = 0; !e && i < w->maybe_n; i++) {
        struct maybe *m = &w->maybe[i];
        struct part *pt = &w->part[m->topic][m->part];

        if (append_place(a, slot[i], &p) || p.offset != pt->n)
            die(&w->seed, "%s/%u: offset %" PRId64 ", not %" PRId64, names[m->topic], m->part,
                p.offset, pt->n);
        m->w.position = p.position;
        part_add(pt, &m->w);
    }
    append_free(&a);
    if (!e || e == ERR_NO_SPACE || e == ERR_READ_ONLY)
        w->maybe_n = 0; /* it is there, or was never written */
}

/* Some record of the stream. */
static void step_remove(struct world *w)
{
    struct part *p = &w->part[STREAM][0];
    uint8_t bits[REMOVED_BYTES] = {0}, key[REMOVED_KEY];
    uint32_t id = topic_id(w->t[STREAM]);
    struct written *x;
    uint64_t at;

    if (p->n == 0)
        return;
    at = rnd(&w->seed, (uint64_t)p->n);
    x = &p->w[at];
    removed_get(w->b, id, at / REMOVED_BLOCK, bits);
    removed_key(id, at / REMOVED_BLOCK, key);
    bits[at % REMOVED_BLOCK / 8] |= (uint8_t)(1u << at % 8);
    x->removing = true;
    if (kv_put_wait(w->b, REMOVED_NS, slice_of(key, sizeof key), slice_of(bits, sizeof bits), 0,
                    NULL) == ERR_OK)
        x->removed = true;
}

/* ---- checking ---- */

/* What was under way when the log stopped: there wholly, or not at all. */
static void maybe_settle(struct world *w)
{
    int64_t more[TOPICS][PARTS] = {{0}};
    struct plog_info now;
    int there = -1;
    unsigned i, k;

    for (i = 0; i < w->maybe_n; i++)
        more[w->maybe[i].topic][w->maybe[i].part]++;
    for (i = 0; i < TOPICS; i++)
        for (k = 0; k < PARTS; k++) {
            int64_t n = w->part[i][k].n;

            plog_info_get(partition_log(topic_partition(w->t[i], (int32_t)k)), &now);
            if (now.end_offset != n && now.end_offset != n + more[i][k])
                die(&w->seed, "%s/%u ends at %" PRId64 ", not at %" PRId64, names[i], k,
                    now.end_offset, n);
            if (more[i][k] && there >= 0 && there != (now.end_offset > n))
                die(&w->seed, "half of a unit is there");
            if (more[i][k])
                there = now.end_offset > n;
        }
    for (i = 0; there == 1 && i < w->maybe_n; i++)
        part_add(&w->part[w->maybe[i].topic][w->maybe[i].part], &w->maybe[i].w);
    w->maybe_n = 0;
}

static void record_check(struct world *w, unsigned topic, unsigned part,
                         const struct reader_record *rec)
{
    struct part *pt = &w->part[topic][part];
    struct written *m;
    uint32_t serial = 0;

    if (rec->offset >= pt->n)
        die(&w->seed, "%s/%u: offset %" PRId64 " beyond the end", names[topic], part, rec->offset);
    m = &pt->w[rec->offset];
    if (!slice_is_null(rec->value)) {
        if (rec->value.len != sizeof serial)
            die(&w->seed, "%s/%u at %" PRId64 ": a value of %zu bytes", names[topic], part,
                rec->offset, rec->value.len);
        memcpy(&serial, rec->value.ptr, sizeof serial);
    }
    if (m->position == 0)
        m->position = rec->position; /* its answer never came */
    if ((m->key == NO_KEY ? !slice_is_null(rec->key)
                          : rec->key.len != 1 || rec->key.ptr[0] != m->key) ||
        serial != m->serial || rec->position != m->position)
        die(&w->seed,
            "%s/%u at %" PRId64 ": key %u serial %u position %" PRIu64 ", not %u %u %" PRIu64,
            names[topic], part, rec->offset, rec->key.len ? rec->key.ptr[0] : 999, serial,
            rec->position, m->key, m->serial, m->position);
}

/* `there`: offsets that were read. What has to be is. */
static void newest_check(struct world *w, unsigned topic, unsigned part, const bool *there,
                         int64_t start)
{
    struct part *pt = &w->part[topic][part];
    unsigned newer[KEYS + 1] = {0};
    int64_t i;

    for (i = pt->n - 1; i >= start; i--) {
        struct written *m = &pt->w[i];
        bool wanted = newer[m->key]++ < stays[topic] && m->serial;

        if (topic == STREAM)
            wanted = !m->removing && (m->key == NO_KEY || !m->over);
        if ((topic == PLAIN || wanted) && !there[i])
            die(&w->seed, "%s/%u: offset %" PRId64 " of key %u is lost", names[topic], part, i,
                m->key);
    }
}

static void part_check(struct world *w, unsigned topic, unsigned part)
{
    struct part *pt = &w->part[topic][part];
    struct reader_conf rc = {
        .selector = slice_str(names[topic]), .partition = (int32_t)part, .from = READ_FROM_START};
    bool *there = xcalloc((size_t)pt->n + 1, sizeof *there);
    int64_t last = -1;
    struct reader_record rec;
    struct errinfo info = {0};
    struct plog_info now;
    struct reader *r;
    enum err e;

    plog_info_get(partition_log(topic_partition(w->t[topic], (int32_t)part)), &now);
    e = reader_open(w->b, &rc, &r, &info);
    if (e == ERR_IO && w->faulty)
        goto out;
    if (e)
        die(&w->seed, "no reader: %s", info.text);
    while ((e = reader_next(r, &rec, &info)) == ERR_OK) {
        record_check(w, topic, part, &rec);
        if (rec.offset <= last || (topic == PLAIN && rec.offset != last + 1))
            die(&w->seed, "%s/%u: %" PRId64 " follows %" PRId64, names[topic], part, rec.offset,
                last);
        last = rec.offset;
        there[rec.offset] = true;
        w->st_records++;
    }
    reader_close(&r);
    if (e == ERR_IO && w->faulty)
        goto out;
    if (e != ERR_AGAIN)
        die(&w->seed, "%s/%u: %s %s", names[topic], part, err_code(e), info.text);
    newest_check(w, topic, part, there, now.start_offset);
out:
    free(there);
}

static void check_all(struct world *w)
{
    unsigned i, k;

    for (i = 0; i < TOPICS; i++)
        for (k = 0; k < PARTS; k++)
            part_check(w, i, k);
}

/* ---- opening and closing ---- */

static enum err try_open(struct world *w, struct errinfo *info)
{
    struct broker_conf c = {
        .dir = DIR, .io = w->io, .journal_file_bytes = w->file_bytes, .partitions_default = PARTS};

    return broker_open(&c, &w->b, info);
}

static void topics_get(struct world *w)
{
    static const char *const settings[TOPICS][2] = {{"compact", "-1"},
                                                    {"compact,delete", "60000"},
                                                    {"delete", "-1"},
                                                    {"compact", "-1"},
                                                    {"compact", "-1"}};
    struct topic_conf c;
    struct errinfo info = {0};
    unsigned i;

    for (i = 0; i < TOPICS; i++) {
        w->t[i] = topic_find(w->b, slice_str(names[i]));
        if (w->t[i])
            continue;
        topic_conf_default(w->b, &c);
        topic_conf_set(&c, SLICE_LIT("cleanup.policy"), slice_str(settings[i][0]), NULL);
        topic_conf_set(&c, SLICE_LIT("retention.bytes"), slice_str(settings[i][1]), NULL);
        topic_conf_set(&c, SLICE_LIT("min.cleanable.dirty.ratio"), SLICE_LIT("0.1"), NULL);
        topic_conf_set(&c, SLICE_LIT("delete.retention.ms"), SLICE_LIT("3000"), NULL);
        if (i == NEWEST)
            topic_conf_set(&c, SLICE_LIT("compaction.records.per.key"), SLICE_LIT("3"), NULL);
        if (i == STREAM) {
            topic_conf_set(&c, SLICE_LIT("compaction.records.per.key"), SLICE_LIT("2"), NULL);
            topic_conf_set(&c, SLICE_LIT("compaction.by.offset"), SLICE_LIT("true"), NULL);
        }
        if (i == 1) /* files are cut short for it */
            topic_conf_set(&c, SLICE_LIT("max.compaction.lag.ms"), SLICE_LIT("2000"), NULL);
        if (topic_create_wait(w->b, slice_str(names[i]), PARTS, &c, &info))
            die(&w->seed, "no topic: %s", info.text);
        w->t[i] = topic_find(w->b, slice_str(names[i]));
    }
}

static void world_close(struct world *w)
{
    struct compact_stats st;
    unsigned i;

    journal_compact_stats(broker_journal(w->b), &st);
    w->st_jobs += st.jobs;
    w->st_dropped += st.records_in - st.records_out;
    for (i = 0; i < TOPICS; i++)
        topic_unref(&w->t[i]);
    broker_close(&w->b);
}

static void world_open(struct world *w)
{
    struct errinfo info = {0};
    unsigned tries;
    enum err e;

    for (tries = 0; rnd(&w->seed, 4) == 0 && tries < 3; tries++) { /* crash while recovering */
        io_sim_crash_at(w->io, 1 + rnd(&w->seed, 80));
        e = try_open(w, &info);
        io_sim_crash_at(w->io, 1);
        if (!e)
            broker_close(&w->b);
        io_sim_crash(w->io);
    }
    w->faulty = false;
    io_sim_crash_at(w->io, 0);
    if ((e = try_open(w, &info)))
        die(&w->seed, "opening: %s: %s", err_code(e), info.text);
    topics_get(w);
    maybe_settle(w);
    check_all(w);
}

/* ---- a run ---- */

static void step(struct world *w)
{
    uint64_t what = rnd(&w->seed, 100), n;

    if (what < 42) {
        step_append(w);
    } else if (what < 45) {
        step_remove(w);
    } else if (what < 75) {
        for (n = rnd(&w->seed, 30); n-- > 0 && broker_background(w->b);)
            broker_step(w->b);
    } else if (what < 95) {
        io_sim_advance(w->io, rnd(&w->seed, 3000000000));
    } else if (what < 97) {
        journal_checkpoint(broker_journal(w->b), NULL);
    } else if (what < 98) {
        journal_compact_limits(broker_journal(w->b),
                               rnd(&w->seed, 2) ? 0 : 1 + (uint32_t)rnd(&w->seed, 20),
                               rnd(&w->seed, 2) ? 0 : 4096 + rnd(&w->seed, 20000));
    } else if (w->maybe_n == 0) {
        part_check(w, (unsigned)rnd(&w->seed, TOPICS), (unsigned)rnd(&w->seed, PARTS));
    }
}

static void run(struct world *w)
{
    uint64_t how = rnd(&w->seed, 10);
    unsigned i, n = 100 + (unsigned)rnd(&w->seed, 300);

    w->faulty = how < 8;
    if (how < 6)
        io_sim_crash_at(w->io, 1 + rnd(&w->seed, 1500));
    else if (how < 8)
        io_sim_fail(w->io, 1 + rnd(&w->seed, 1000), rnd(&w->seed, 2) ? ERR_IO : ERR_NO_SPACE,
                    rnd(&w->seed, 2));
    for (i = 0; i < n && !io_sim_crashed(w->io); i++) {
        if (how == 8 && i == n / 4)
            io_sim_capacity(w->io, 100000 + rnd(&w->seed, 600000));
        if (how == 8 && i == n * 3 / 4)
            io_sim_capacity(w->io, UINT64_MAX);
        if (w->maybe_n) /* the log takes nothing any more */
            break;
        step(w);
    }
    if (how != 9 && rnd(&w->seed, 3) == 0)
        io_sim_crash_at(w->io, 1);
    world_close(w);
    if (io_sim_crashed(w->io) || rnd(&w->seed, 2)) {
        io_sim_crash(w->io);
        w->st_crashes++;
    }
    faults_end(w->io);
}

static void problem(void *arg, bool is, const char *text)
{
    struct world *w = arg;

    if (is)
        die(&w->seed, "check: %s", text);
}

static void world_run(struct world *w)
{
    struct journal_check_result res;
    unsigned i, cycles = 4 + (unsigned)rnd(&w->seed, 6);

    for (i = 0; i < cycles; i++) {
        world_open(w);
        run(w);
    }
    world_open(w);
    for (i = 0; i < 100; i++)
        step(w);
    check_all(w);
    world_close(w);
    if (journal_check(w->io, DIR, problem, w, &res, NULL))
        die(&w->seed, "it cannot be checked");
}

static struct world *failed; /* kept: a broker may be left in the middle of anything */
static uint64_t jobs_total, dropped_total;

/* True if the seed passed. */
static bool seed_run(uint64_t seed, bool verbose)
{
    struct world *w = xcalloc(1, sizeof *w);
    bool ok = false;
    unsigned i, k;

    seed_init(&w->seed, seed, verbose);
    w->file_bytes = 65536u << rnd(&w->seed, 2);
    w->io = io_sim_new(seed ^ 0xc0);
    if (setjmp(w->seed.out) == 0) {
        world_run(w);
        ok = true;
    }
    if (!ok) {
        w->next_failed = failed;
        failed = w;
        return false;
    }
    if (verbose)
        printf("seed %" PRIu64 ": %u records, %" PRIu64 " crashes, %" PRIu64
               " compactions dropped %" PRIu64 ", %" PRIu64 " read\n",
               seed, w->serial, w->st_crashes, w->st_jobs, w->st_dropped, w->st_records);
    jobs_total += w->st_jobs;
    dropped_total += w->st_dropped;
    io_sim_free(&w->io);
    for (i = 0; i < TOPICS; i++)
        for (k = 0; k < PARTS; k++)
            free(w->part[i][k].w);
    free(w);
    return true;
}

int main(int argc, char **argv)
{
    struct seed_args a;
    uint64_t i, passed = 0;

    if (!seed_args_read(&a, "compaction", argc, argv))
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = 0; i < a.count; i++) {
        passed += seed_run(a.first + i, a.verbose);
        if ((i + 1) % 50 == 0)
            printf("%" PRIu64 " of %" PRIu64 " seeds\n", i + 1, a.count);
    }
    printf("%" PRIu64 " compactions, %" PRIu64 " records dropped\n", jobs_total, dropped_total);
    if (passed == a.count && a.count >= 10 && jobs_total < a.count) {
        printf("too few compactions to show anything\n");
        return 1;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, a.count - passed);
    return passed == a.count ? 0 : 1;
}
