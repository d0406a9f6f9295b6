/* Random changes against a plain model of what must be so, with checkpoints, background work,
 * restarts and crashes in between, in small journal files. Seeds are fixed; WEIR_SEED and
 * WEIR_STEPS choose others. */
#include "fixture.h"

#define TOPICS 6
#define PARTS  4
#define KEYS   8
#define GROUPS 3
#define IDS    64

struct mrec {
    char value[24];
    uint64_t position;
};

struct mpart {
    struct mrec *rec;
    int64_t n, start;
    int64_t offset[GROUPS]; /* -1: none */
};

struct mtopic {
    bool there;
    uint32_t id;
    int parts;
    int64_t retention;
    struct mpart part[PARTS];
    struct append_place id_place[IDS]; /* position 0: not written */
};

struct model {
    struct fx f;
    struct mtopic topic[TOPICS];
    char kv[KEYS][16]; /* empty: none */
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

static struct slice tname(unsigned i)
{
    static char name[TOPICS][8];

    snprintf(name[i], sizeof name[i], "t%u", i);
    return slice_str(name[i]);
}

static void mtopic_clear(struct mtopic *t)
{
    int i, g;

    for (i = 0; i < PARTS; i++) {
        free(t->part[i].rec);
        t->part[i] = (struct mpart){0};
        for (g = 0; g < GROUPS; g++)
            t->part[i].offset[g] = -1;
    }
    memset(t->id_place, 0, sizeof t->id_place);
    t->there = false;
}

static void step_topic(struct model *m, unsigned i)
{
    struct mtopic *mt = &m->topic[i];
    struct topic_conf c;
    struct topic *t;
    unsigned what = rnd(m, 10);

    topic_conf_default(m->f.b, &c);
    if (!mt->there) {
        mtopic_clear(mt);
        mt->parts = 1 + (int)rnd(m, 2);
        mt->retention = c.retention_ms;
        assert_int_equal(topic_create_wait(m->f.b, tname(i), mt->parts, NULL, NULL), ERR_OK);
        t = topic_find(m->f.b, tname(i));
        assert_true(topic_id(t) > mt->id);
        mt->id = topic_id(t);
        mt->there = true;
        topic_unref(&t);
    } else if (what == 0) {
        assert_int_equal(topic_delete_wait(m->f.b, tname(i), NULL), ERR_OK);
        mtopic_clear(mt);
    } else if (what < 3 && mt->parts < PARTS) {
        mt->parts++;
        assert_int_equal(topic_alter_wait(m->f.b, tname(i), mt->parts, NULL, NULL), ERR_OK);
    } else {
        c.retention_ms = mt->retention = 1000000 + (int64_t)rnd(m, 1000);
        assert_int_equal(topic_alter_wait(m->f.b, tname(i), 0, &c, NULL), ERR_OK);
    }
}

static void model_add(struct mtopic *mt, const struct append_place *p, const char *value)
{
    struct mpart *mp = &mt->part[p->partition];

    assert_int_equal(p->offset, mp->n);
    mp->rec = realloc(mp->rec, (size_t)(mp->n + 1) * sizeof *mp->rec);
    snprintf(mp->rec[mp->n].value, sizeof mp->rec[0].value, "%.23s", value);
    mp->rec[mp->n++].position = p->position;
}

/* One append of some records to one topic, some with ids. */
static void step_append(struct model *m, unsigned i)
{
    struct mtopic *mt = &m->topic[i];
    unsigned n = 1 + rnd(m, 20), k;
    struct append_slot slot[20];
    char value[20][24], id[20][8];
    int ids[20];
    struct append_place p;
    struct append *a;
    struct topic *t;

    if (!mt->there)
        return;
    t = topic_find(m->f.b, tname(i));
    a = append_new(m->f.b, NULL, NULL);
    for (k = 0; k < n; k++) {
        struct append_record r = {.timestamp_ms = -1};

        ids[k] = rnd(m, 3) == 0 ? (int)rnd(m, IDS) : -1;
        snprintf(value[k], sizeof value[k], "v%d", m->serial++);
        snprintf(id[k], sizeof id[k], "%d", ids[k]);
        r.value = slice_str(value[k]);
        if (ids[k] >= 0)
            r.dedup_id = slice_str(id[k]);
        assert_int_equal(
            append_record(a, t, (int32_t)rnd(m, (unsigned)mt->parts), &r, &slot[k], NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    for (k = 0; k < n; k++) {
        struct append_place *known = ids[k] >= 0 ? &mt->id_place[ids[k]] : NULL;

        assert_int_equal(append_place(a, slot[k], &p), ERR_OK);
        assert_int_equal(p.duplicate, known && known->position);
        if (p.duplicate) {
            assert_int_equal(p.position, known->position);
            assert_int_equal(p.offset, known->offset);
            assert_int_equal(p.partition, known->partition);
            continue;
        }
        model_add(mt, &p, value[k]);
        if (known)
            *known = p;
    }
    append_free(&a);
    topic_unref(&t);
}

static void step_items(struct model *m, unsigned i)
{
    struct mtopic *mt = &m->topic[i];
    unsigned k = rnd(m, KEYS), part, g;
    char key[4];
    struct topic *t;
    bool del = rnd(m, 3) == 0;

    snprintf(key, sizeof key, "%u", k);
    snprintf(m->kv[k], sizeof m->kv[k], "%.*s", del ? 0 : 15, "value");
    if (!del)
        snprintf(m->kv[k], sizeof m->kv[k], "v%d", m->serial++);
    assert_int_equal(
        kv_put_wait(m->f.b, "ns", slice_str(key), del ? SLICE_NULL : slice_str(m->kv[k]), 0, NULL),
        ERR_OK);
    if (!mt->there)
        return;
    part = rnd(m, (unsigned)mt->parts);
    t = topic_find(m->f.b, tname(i));
    if (rnd(m, 4) == 0) {
        struct mpart *mp = &mt->part[part];

        mp->start += (int64_t)rnd(m, (unsigned)(mp->n - mp->start) + 1);
        assert_int_equal(partition_trim_wait(topic_partition(t, (int32_t)part), mp->start, NULL),
                         ERR_OK);
    } else if (rnd(m, 12) == 0) {
        unsigned a, b;
        enum err e;

        g = rnd(m, GROUPS);
        snprintf(key, sizeof key, "g%u", g);
        e = group_delete(m->f.b, slice_str(key), NULL, NULL, NULL);
        assert_true(e == ERR_OK || e == ERR_NOT_FOUND);
        broker_step(m->f.b);
        for (a = 0; a < TOPICS; a++)
            for (b = 0; b < PARTS; b++)
                m->topic[a].part[b].offset[g] = -1;
    } else {
        g = rnd(m, GROUPS);
        snprintf(key, sizeof key, "g%u", g);
        mt->part[part].offset[g] = (int64_t)rnd(m, 1000);
        assert_int_equal(group_commit_wait(m->f.b, slice_str(key),
                                           topic_partition(t, (int32_t)part),
                                           mt->part[part].offset[g], SLICE_NULL, NULL),
                         ERR_OK);
    }
    topic_unref(&t);
}

static void check_partition(struct model *m, struct topic *t, int i, const struct mpart *mp)
{
    struct reader_conf rc = {
        .selector = slice_str(topic_name(t)), .partition = i, .from = READ_FROM_START};
    struct reader_record rec;
    struct plog_info info;
    struct group_offset go;
    struct reader *r;
    int64_t k;
    char g[4];

    plog_info_get(partition_log(topic_partition(t, i)), &info);
    assert_int_equal(info.start_offset, mp->start);
    assert_int_equal(info.end_offset, mp->n);
    assert_int_equal(reader_open(m->f.b, &rc, &r, NULL), ERR_OK);
    for (k = mp->start; k < mp->n; k++) {
        assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
        assert_int_equal(rec.offset, k);
        assert_int_equal(rec.position, mp->rec[k].position);
        assert_true(slice_eq_str(rec.value, mp->rec[k].value));
    }
    assert_drained(r);
    reader_close(&r);
    for (k = 0; k < GROUPS; k++) {
        snprintf(g, sizeof g, "g%d", (int)k);
        if (group_offset_get(m->f.b, slice_str(g), topic_partition(t, i), &go))
            go.offset = -1;
        assert_int_equal(go.offset, mp->offset[k]);
    }
}

static void check(struct model *m)
{
    struct topic_conf c;
    struct topic *t;
    struct buf v;
    unsigned i;
    char key[4];
    int p;

    buf_init(&v, 1000);
    for (i = 0; i < TOPICS; i++) {
        t = topic_find(m->f.b, tname(i));
        assert_int_equal(t != NULL, m->topic[i].there);
        if (!t)
            continue;
        assert_int_equal(topic_id(t), m->topic[i].id);
        assert_int_equal(topic_partitions(t), m->topic[i].parts);
        topic_conf_get(t, &c);
        assert_int_equal(c.retention_ms, m->topic[i].retention);
        for (p = 0; p < m->topic[i].parts; p++)
            check_partition(m, t, p, &m->topic[i].part[p]);
        topic_unref(&t);
    }
    for (i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "%u", i);
        if (kv_get(m->f.b, "ns", slice_str(key), &v))
            assert_string_equal(m->kv[i], "");
        else
            assert_true(slice_eq_str(buf_slice(&v), m->kv[i]));
    }
    buf_fini(&v);
}

static void run(uint64_t seed, int steps)
{
    static struct model m;
    unsigned i, what;
    int s;

    memset(&m, 0, sizeof m);
    m.rng = seed * 0x9e3779b97f4a7c15ull + 1;
    fx_start(&m.f, false);
    fx_end(&m.f);
    m.f.conf.journal_file_bytes = 64u << 10;
    fx_open(&m.f);
    for (i = 0; i < TOPICS; i++)
        mtopic_clear(&m.topic[i]);
    for (s = 0; s < steps; s++) {
        i = rnd(&m, TOPICS);
        what = rnd(&m, 100);
        if (what < 8)
            step_topic(&m, i);
        else if (what < 60)
            step_append(&m, i);
        else if (what < 84)
            step_items(&m, i);
        else if (what < 94)
            while (broker_background(m.f.b))
                ;
        else if (what < 96)
            fx_checkpoint(&m.f);
        else if (what < 97)
            fx_reopen(&m.f);
        else if (what < 98)
            fx_crash(&m.f);
        else
            check(&m);
    }
    fx_crash(&m.f);
    check(&m);
    fx_end(&m.f);
    for (i = 0; i < TOPICS; i++)
        mtopic_clear(&m.topic[i]);
}

static void test_random(void **state)
{
    const char *seed = getenv("WEIR_SEED"), *steps = getenv("WEIR_STEPS");
    uint64_t s;

    if (seed) {
        run(strtoull(seed, NULL, 10), steps ? (int)strtol(steps, NULL, 10) : 2000);
        return;
    }
    for (s = 1; s <= 6; s++) {
        print_message("seed %d\n", (int)s);
        run(s, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests_name("broker/model", tests, NULL, NULL);
}
