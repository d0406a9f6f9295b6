/* Compacted topics: when they are compacted, what readers see, and a random run against a map. On a
 * simulated disk and clock. What stays of a batch is tested in tests/unit/journal/compact.c. */
#include "fixture.h"

#include <pthread.h>

#include "base/mem.h"
#include "broker/broker_int.h"
#include "io/sim.h"
#include "journal/compact.h"

#define SECOND 1000000000ull

static void start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    f->conf =
        (struct broker_conf){.dir = "/d", .io = io_sim_new(11), .journal_file_bytes = 64u << 10};
    fx_open(f);
}

static void end(struct fx *f)
{
    broker_close(&f->b);
    io_sim_free(&f->conf.io);
}

/* Power is cut: what was not synced is gone. */
static void cut(struct fx *f)
{
    uint64_t size;
    bool there;

    io_sim_crash_at(f->conf.io, 1);
    io_stat(f->conf.io, "/d", &size, &there, NULL);
    broker_close(&f->b);
    io_sim_crash(f->conf.io);
    io_sim_crash_at(f->conf.io, 0);
    fx_open(f);
}

static struct topic *make(struct fx *f, const char *name, int32_t partitions, const char *settings)
{
    struct errinfo info = {0};
    struct topic_conf c;

    topic_conf_default(f->b, &c);
    while (*settings) {
        size_t n = strcspn(settings, "="), m = strcspn(settings, ";");

        if (topic_conf_set(&c, slice_of(settings, n), slice_of(settings + n + 1, m - n - 1), &info))
            fail_msg("%s", info.text);
        settings += m + (settings[m] == ';');
    }
    if (topic_create_wait(f->b, slice_str(name), partitions, &c, &info))
        fail_msg("%s", info.text);
    return topic_find(f->b, slice_str(name));
}

static struct append_place put_at(struct fx *f, struct topic *t, const char *key, const char *value,
                                  int64_t ts)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = {.timestamp_ms = ts, .key = slice_str(key), .value = slice_str(value)};
    struct append_place p = {0};
    struct append_slot slot;

    assert_int_equal(append_record(a, t, -1, &r, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    assert_int_equal(append_place(a, slot, &p), ERR_OK);
    append_free(&a);
    return p;
}

static void put(struct fx *f, struct topic *t, const char *key, const char *value)
{
    put_at(f, t, key, value, -1);
}

static void background(struct fx *f)
{
    while (broker_background(f->b))
        broker_step(f->b);
    broker_step(f->b);
}

/* What was written so far gets into sealed files; a second passes. */
static void seal(struct fx *f)
{
    static char filler[20000];
    struct topic *t = fx_topic(f, "filler", 1);
    struct journal_stats was, now;

    memset(filler, 'x', sizeof filler - 1);
    journal_stats_get(broker_journal(f->b), &was);
    do {
        put(f, t, "k", filler);
        journal_stats_get(broker_journal(f->b), &now);
    } while (now.files == was.files);
    topic_unref(&t);
    background(f);
    io_sim_advance(f->conf.io, SECOND);
    background(f);
}

static uint64_t jobs(struct fx *f)
{
    struct compact_stats s;

    journal_compact_stats(broker_journal(f->b), &s);
    assert_int_equal(s.failed, 0);
    return s.jobs;
}

/* "key=value key=value" of what a reader of the selector gets from the start. */
static const char *all(struct fx *f, const char *selector)
{
    static char out[4000];
    struct reader *r = fx_reader(f, selector, READ_FROM_START, 0);
    struct reader_record rec;
    size_t n = 0;

    out[0] = 0;
    while (reader_next(r, &rec, NULL) == ERR_OK)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s%s%.*s", n ? " " : "",
                              (int)rec.key.len, (const char *)rec.key.ptr,
                              slice_is_null(rec.value) ? "" : "=", (int)rec.value.len,
                              rec.value.ptr ? (const char *)rec.value.ptr : "");
    reader_close(&r);
    return out;
}

static void test_policy(void **state)
{
    struct topic *compact, *plain, *both;
    struct buf metrics;
    struct fx f;

    start(&f);
    compact = make(&f, "compact", 1, "cleanup.policy=compact");
    plain = make(&f, "plain", 1, "cleanup.policy=delete");
    both = make(&f, "both", 1, "cleanup.policy=compact,delete;retention.ms=100000000000");
    assert_true(topic_compacted(compact) && topic_compacted(both) && !topic_compacted(plain));
    put(&f, compact, "a", "1");
    put(&f, plain, "a", "1");
    put(&f, both, "a", "1");
    put(&f, compact, "a", "2");
    put(&f, plain, "a", "2");
    put(&f, both, "a", "2");
    io_sim_advance(f.conf.io, 5 * SECOND);
    background(&f);
    assert_int_equal(jobs(&f), 0); /* the file being written is left alone */
    assert_string_equal(all(&f, "compact"), "a=1 a=2");
    seal(&f);
    assert_int_equal(jobs(&f), 1); /* both in one */
    buf_init(&metrics, 1u << 20);
    assert_int_equal(broker_metrics(f.b, &metrics), ERR_OK);
    assert_int_equal(buf_append_u8(&metrics, 0), ERR_OK);
    assert_non_null(strstr((char *)metrics.ptr, "\nweir_compactions_total 1\n"));
    assert_non_null(strstr((char *)metrics.ptr, "\nweir_compaction_partitions_total 2\n"));
    assert_non_null(strstr((char *)metrics.ptr, "\nweir_compaction_removed_records_total 2\n"));
    buf_fini(&metrics);
    assert_string_equal(all(&f, "compact"), "a=2");
    assert_string_equal(all(&f, "both"), "a=2");
    assert_string_equal(all(&f, "plain"), "a=1 a=2");
    assert_string_equal(all(&f, "compact:a"), "a=2");
    topic_unref(&compact);
    topic_unref(&plain);
    topic_unref(&both);
    cut(&f);
    assert_string_equal(all(&f, "compact"), "a=2");
    assert_string_equal(all(&f, "both"), "a=2");
    assert_string_equal(all(&f, "plain"), "a=1 a=2");
    end(&f);
}

/* A topic that becomes compacted later, and one that stops being so. */
static void test_policy_changes(void **state)
{
    struct topic_conf c;
    struct topic *t;
    struct fx f;

    start(&f);
    t = make(&f, "t", 1, "cleanup.policy=delete");
    put(&f, t, "a", "1");
    put(&f, t, "a", "2");
    seal(&f);
    assert_string_equal(all(&f, "t"), "a=1 a=2");
    topic_conf_get(t, &c);
    c.cleanup = TOPIC_CLEANUP_COMPACT;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("t"), 0, &c, NULL), ERR_OK);
    io_sim_advance(f.conf.io, SECOND);
    background(&f);
    assert_string_equal(all(&f, "t"), "a=2");
    c.cleanup = TOPIC_CLEANUP_DELETE;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("t"), 0, &c, NULL), ERR_OK);
    put(&f, t, "a", "3");
    put(&f, t, "a", "4");
    seal(&f);
    assert_string_equal(all(&f, "t"), "a=2 a=3 a=4");
    topic_unref(&t);
    end(&f);
}

static void test_ratio(void **state)
{
    struct topic *half, *eager;
    struct fx f;

    start(&f);
    half = make(&f, "half", 1, "cleanup.policy=compact;min.cleanable.dirty.ratio=0.5");
    eager = make(&f, "eager", 1, "cleanup.policy=compact;min.cleanable.dirty.ratio=0");
    put(&f, half, "a", "a value that is long enough to be more than half of all");
    put(&f, eager, "a", "a value that is long enough to be more than half of all");
    seal(&f);
    put(&f, half, "b", "1");
    put(&f, eager, "b", "1");
    seal(&f);
    put(&f, eager, "b", "2");
    seal(&f);
    assert_string_equal(all(&f, "eager"),
                        "a=a value that is long enough to be more than half of all b=2");
    put(&f, half, "b", "2"); /* with it, half of the log is dirty */
    put(&f, half, "b", "3");
    assert_string_equal(all(&f, "half"),
                        "a=a value that is long enough to be more than half of all b=1 b=2 b=3");
    seal(&f);
    assert_string_equal(all(&f, "half"),
                        "a=a value that is long enough to be more than half of all b=3");
    topic_unref(&half);
    topic_unref(&eager);
    end(&f);
}

static void test_lags(void **state)
{
    struct topic *young, *old;
    int64_t now;
    struct fx f;

    start(&f);
    now = io_wall_ms(f.conf.io);
    young = make(&f, "young", 1, "cleanup.policy=compact;min.compaction.lag.ms=100000");
    old = make(&f, "old", 1,
               "cleanup.policy=compact;min.cleanable.dirty.ratio=1;max.compaction.lag.ms=100000");
    put_at(&f, young, "a", "1", now - 200000);
    put_at(&f, young, "a", "2", now - 150000);
    put_at(&f, young, "a", "3", now);
    put_at(&f, young, "a", "4", now - 150000); /* behind one that is too young */
    put_at(&f, old, "a", "1", now);
    put_at(&f, old, "a", "2", now);
    seal(&f);
    assert_string_equal(all(&f, "young"), "a=2 a=3 a=4");
    assert_string_equal(all(&f, "old"), "a=1 a=2");
    io_sim_advance(f.conf.io, 97 * SECOND);
    background(&f);
    assert_string_equal(all(&f, "young"), "a=2 a=3 a=4");
    assert_string_equal(all(&f, "old"), "a=1 a=2");
    io_sim_advance(f.conf.io, 60 * SECOND); /* an attempt that achieved nothing waits a minute */
    background(&f);
    io_sim_advance(f.conf.io, 60 * SECOND);
    background(&f);
    assert_string_equal(all(&f, "young"), "a=4");
    assert_string_equal(all(&f, "old"), "a=2");
    topic_unref(&young);
    topic_unref(&old);
    end(&f);
}

/* Nothing more is written, so the file would never be full: it is cut short. */
static void test_overdue(void **state)
{
    struct topic *t;
    struct fx f;
    int i;

    start(&f);
    t = make(&f, "t", 1, "cleanup.policy=compact;max.compaction.lag.ms=100000");
    put(&f, t, "a", "1");
    put(&f, t, "a", "2");
    for (i = 0; i < 3; i++) {
        io_sim_advance(f.conf.io, 33 * SECOND);
        background(&f);
    }
    assert_string_equal(all(&f, "t"), "a=1 a=2");
    for (i = 0; i < 5; i++) {
        io_sim_advance(f.conf.io, SECOND);
        background(&f);
    }
    assert_string_equal(all(&f, "t"), "a=2");
    topic_unref(&t);
    cut(&f);
    assert_string_equal(all(&f, "t"), "a=2");
    end(&f);
}

/* What retention takes away and what compaction does go together. */
static void test_both(void **state)
{
    struct plog_info i;
    struct topic *t;
    int64_t now;
    struct fx f;

    start(&f);
    now = io_wall_ms(f.conf.io);
    t = make(&f, "t", 1, "cleanup.policy=compact,delete;retention.ms=100000");
    put_at(&f, t, "a", "1", now - 90000);
    put_at(&f, t, "b", "1", now - 90000);
    put_at(&f, t, "a", "2", now - 90000);
    seal(&f);
    assert_string_equal(all(&f, "t"), "b=1 a=2");
    put_at(&f, t, "c", "1", now);
    background(&f);
    io_sim_advance(f.conf.io, 50 * SECOND); /* half of what records stay */
    background(&f);
    plog_info_get(partition_log(topic_partition(t, 0)), &i);
    assert_int_equal(i.start_offset, 3);
    assert_string_equal(all(&f, "t"), "c=1");
    topic_unref(&t);
    cut(&f);
    assert_string_equal(all(&f, "t"), "c=1");
    end(&f);
}

/* Readers that begin in a gap, by offset, position and time; and one that is under way meanwhile. */
static void test_gaps(void **state)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = 0};
    struct append_place place[6];
    struct reader *r, *under_way;
    struct reader_record rec;
    struct topic *t;
    struct fx f;
    int i;

    start(&f);
    t = make(&f, "t", 1, "cleanup.policy=compact");
    for (i = 0; i < 6; i++) {
        char value[4] = {(char)('0' + i), 0};

        place[i] = put_at(&f, t, i < 5 ? "a" : "b", value, 1000 + i);
    }
    under_way = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_next(under_way, "0");
    seal(&f);
    assert_string_equal(all(&f, "t"), "a=4 b=5");
    for (i = 0; i < 6; i++) {
        int k;

        rc.offset = i;
        rc.position = place[i].position;
        rc.time_ms = 1000 + i;
        for (k = 0; k < 3; k++) {
            rc.from = k == 0 ? READ_FROM_OFFSET : k == 1 ? READ_FROM_POSITION : READ_FROM_TIME;
            assert_int_equal(reader_open(f.b, &rc, &r, NULL), ERR_OK);
            assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
            assert_int_equal(rec.offset, i < 5 ? 4 : 5);
            assert_int_equal(rec.position, place[i < 5 ? 4 : 5].position);
            reader_close(&r);
        }
    }
    while (reader_next(under_way, &rec, NULL) == ERR_OK) /* it had read ahead */
        i = (int)rec.offset;
    assert_int_equal(i, 5);
    reader_close(&under_way);
    topic_unref(&t);
    end(&f);
}

/* ---- against a map ---- */

#define KEYS  12
#define PARTS 2

struct written {
    char key, value[12]; /* empty: a tombstone */
    uint64_t position;
};

struct model {
    struct fx f;
    struct topic *t;
    struct written *w[PARTS];
    int64_t n[PARTS];
    uint64_t rng;
    int serial;
};

static unsigned rnd(struct model *m, unsigned n)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return (unsigned)(m->rng >> 20) % n;
}

static void step_put(struct model *m)
{
    struct append *a = append_new(m->f.b, NULL, NULL);
    unsigned n = 1 + rnd(m, 8), i;
    struct written w[8];
    struct append_slot slot[8];
    static char big[3000];

    memset(big, 'b', sizeof big - 1);
    for (i = 0; i < n; i++) {
        struct record_header h = {SLICE_LIT("x"), slice_of(big, rnd(m, sizeof big))};
        struct append_record r = {.timestamp_ms = -1, .headers = &h, .headers_n = 1};

        w[i].key = (char)('a' + rnd(m, KEYS));
        snprintf(w[i].value, sizeof w[i].value, "%d", ++m->serial);
        if (rnd(m, 5) == 0)
            w[i].value[0] = 0;
        r.key = slice_of(&w[i].key, 1);
        r.value = w[i].value[0] ? slice_str(w[i].value) : SLICE_NULL;
        assert_int_equal(append_record(a, m->t, -1, &r, &slot[i], NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    for (i = 0; i < n; i++) {
        struct append_place p;
        int part;

        assert_int_equal(append_place(a, slot[i], &p), ERR_OK);
        part = p.partition;
        assert_int_equal(p.offset, m->n[part]);
        w[i].position = p.position;
        m->w[part] = xrealloc(m->w[part], (size_t)(m->n[part] + 1) * sizeof *m->w[part]);
        m->w[part][m->n[part]++] = w[i];
    }
    append_free(&a);
}

/* Everything that is read was written there; the newest of each key is read. Returns the records. */
static int64_t check(struct model *m, int part)
{
    struct reader_conf rc = {
        .selector = SLICE_LIT("t"), .partition = part, .from = READ_FROM_START};
    int64_t newest[KEYS], seen[KEYS], i, n = 0;
    struct reader_record rec;
    struct reader *r;

    memset(seen, -1, sizeof seen);
    memset(newest, -1, sizeof newest);
    for (i = 0; i < m->n[part]; i++)
        newest[m->w[part][i].key - 'a'] = i;
    assert_int_equal(reader_open(m->f.b, &rc, &r, NULL), ERR_OK);
    for (; reader_next(r, &rec, NULL) == ERR_OK; n++) {
        const struct written *w = &m->w[part][rec.offset];

        assert_true(rec.offset < m->n[part]);
        assert_int_equal(rec.position, w->position);
        assert_int_equal(rec.key.ptr[0], w->key);
        assert_int_equal(slice_is_null(rec.value), w->value[0] == 0);
        assert_true(slice_eq_str(rec.value, w->value));
        assert_true(rec.offset > seen[w->key - 'a']);
        seen[w->key - 'a'] = rec.offset;
    }
    reader_close(&r);
    for (i = 0; i < KEYS; i++)
        if (newest[i] >= 0 && m->w[part][newest[i]].value[0])
            assert_int_equal(seen[i], newest[i]);
    return n;
}

static void step(struct model *m)
{
    unsigned what = rnd(m, 100), i;

    if (what < 60) {
        step_put(m);
    } else if (what < 80) {
        for (i = rnd(m, 20); i && broker_background(m->f.b); i--)
            broker_step(m->f.b);
    } else if (what < 90) {
        io_sim_advance(m->f.conf.io, rnd(m, 3000) * 1000000ull);
    } else if (what < 93) {
        topic_unref(&m->t);
        cut(&m->f);
        m->t = topic_find(m->f.b, SLICE_LIT("t"));
    } else if (what < 95) {
        fx_checkpoint(&m->f);
    } else {
        journal_compact_limits(broker_journal(m->f.b), rnd(m, 3) ? 0 : 1 + rnd(m, 10),
                               rnd(m, 2) ? 0 : 5000);
        check(m, (int)rnd(m, PARTS));
    }
}

static void test_model(void **state)
{
    uint64_t seed, done = 0;
    static struct model m;
    struct compact_stats st;
    int64_t left;
    int i;

    for (seed = 1; seed <= 5; seed++) {
        memset(&m, 0, sizeof m);
        m.rng = seed * 0x9e3779b97f4a7c15ull;
        start(&m.f);
        m.t = make(&m.f, "t", PARTS,
                   "cleanup.policy=compact;min.cleanable.dirty.ratio=0.2;delete.retention.ms=5000");
        for (i = 0; i < 600; i++)
            step(&m);
        journal_compact_limits(broker_journal(m.f.b), 0, 0);
        io_sim_advance(m.f.conf.io, 100 * SECOND);
        for (i = 0; i < 3; i++)
            seal(&m.f);
        left = check(&m, 0) + check(&m, 1);
        assert_true(left < 4 * KEYS); /* all but what is not sealed, or a fifth of it */
        journal_compact_stats(broker_journal(m.f.b), &st);
        done += st.jobs;
        assert_true(m.n[0] + m.n[1] > 500);
        for (i = 0; i < PARTS; i++)
            free(m.w[i]);
        topic_unref(&m.t);
        end(&m.f);
    }
    assert_true(done > 5);
}

/* ---- with threads ---- */

struct busy {
    struct fx *f;
    struct topic *t;
    _Atomic bool stop;
    _Atomic unsigned rounds; /* of reading */
    unsigned last;           /* value that every key has in the end */
};

static void *busy_writer(void *arg)
{
    struct busy *b = arg;
    static char pad[2000];
    unsigned v, k;

    for (v = 1; !atomic_load(&b->stop); v++) {
        struct append *a = append_new(b->f->b, NULL, NULL);

        for (k = 0; k < KEYS; k++) {
            struct record_header h = {SLICE_LIT("pad"), slice_of(pad, sizeof pad)};
            char key = (char)('a' + k);
            struct append_record r = {.timestamp_ms = -1, .headers = &h, .headers_n = 1};

            r.key = slice_of(&key, 1);
            r.value = slice_of(&v, sizeof v);
            MUST(append_record(a, b->t, -1, &r, NULL, NULL) == ERR_OK);
        }
        MUST(append_submit_wait(a, NULL) == ERR_OK);
        append_free(&a);
        b->last = v;
    }
    return NULL;
}

/* Values of a key only grow; every key is there. */
static unsigned read_round(struct busy *b)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_START};
    unsigned seen[KEYS] = {0}, v, k, least = UINT32_MAX;
    struct reader_record rec;
    struct reader *r;

    MUST(reader_open(b->f->b, &rc, &r, NULL) == ERR_OK);
    while (reader_next(r, &rec, NULL) == ERR_OK) {
        memcpy(&v, rec.value.ptr, sizeof v);
        MUST(v > seen[rec.key.ptr[0] - 'a']);
        seen[rec.key.ptr[0] - 'a'] = v;
    }
    reader_close(&r);
    for (k = 0; k < KEYS; k++)
        if (seen[k] < least)
            least = seen[k];
    return least;
}

static void *busy_reader(void *arg)
{
    struct busy *b = arg;
    unsigned was = 0;

    while (!atomic_load(&b->stop)) {
        unsigned is = read_round(b);

        MUST(is >= was);
        was = is;
        atomic_fetch_add(&b->rounds, 1);
    }
    return NULL;
}

/* Writers and readers go on while the background compacts. */
static void test_threads(void **state)
{
    struct busy b = {0};
    pthread_t writer, reader;
    struct fx f;
    int i;

    fx_start(&f, true);
    b.f = &f;
    b.t = make(&f, "t", 2, "cleanup.policy=compact;min.cleanable.dirty.ratio=0.01");
    assert_int_equal(pthread_create(&writer, NULL, busy_writer, &b), 0);
    assert_int_equal(pthread_create(&reader, NULL, busy_reader, &b), 0);
    for (i = 0; i < 600 && (jobs(&f) < 2 || atomic_load(&b.rounds) == 0); i++)
        usleep(100000);
    atomic_store(&b.stop, true);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    assert_true(jobs(&f) >= 2);
    assert_true(atomic_load(&b.rounds) > 0);
    assert_int_equal(read_round(&b), b.last);
    topic_unref(&b.t);
    fx_reopen(&f);
    assert_int_equal(read_round(&b), b.last);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy),  cmocka_unit_test(test_policy_changes),
        cmocka_unit_test(test_ratio),   cmocka_unit_test(test_lags),
        cmocka_unit_test(test_overdue), cmocka_unit_test(test_both),
        cmocka_unit_test(test_gaps),    cmocka_unit_test(test_model),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("broker/compaction", tests, NULL, NULL);
}
