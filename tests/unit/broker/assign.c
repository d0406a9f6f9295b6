/* Assignors: by example, and their promises on random groups. */
#include "fixture.h"

#include "broker/assign.h"

#define MEMBERS_MAX 12
#define TOPICS_MAX  6

struct world {
    struct assign_topic topics[TOPICS_MAX];
    uint32_t topics_n;
    struct assign_member m[MEMBERS_MAX];
    struct part_set has[MEMBERS_MAX];
    uint32_t ids[MEMBERS_MAX][TOPICS_MAX];
    char names[MEMBERS_MAX][16];
    uint32_t n;
    bool same;
};

static void world_init(struct world *w, const struct assign_topic *topics, uint32_t topics_n)
{
    memset(w, 0, sizeof *w);
    memcpy(w->topics, topics, topics_n * sizeof *topics);
    w->topics_n = topics_n;
    w->same = true;
}

/* A member that subscribes to the topics of these bits. */
static void member(struct world *w, const char *id, const char *instance, unsigned topics)
{
    struct assign_member *m = &w->m[w->n];
    uint32_t i;

    snprintf(w->names[w->n], sizeof w->names[0], "%s", id);
    *m = (struct assign_member){.id = slice_str(w->names[w->n]),
                                .instance_id = slice_str(instance),
                                .topics = w->ids[w->n],
                                .has = &w->has[w->n]};
    for (i = 0; i < w->topics_n; i++)
        if (topics >> i & 1)
            w->ids[w->n][m->topics_n++] = w->topics[i].id;
    if (w->n && (m->topics_n != w->m[0].topics_n ||
                 memcmp(m->topics, w->m[0].topics, m->topics_n * sizeof(uint32_t)) != 0))
        w->same = false;
    w->n++;
}

/* The next question: what they got is what they have. */
static void settle(struct world *w)
{
    uint32_t i;

    for (i = 0; i < w->n; i++) {
        part_set_fini(&w->has[i]);
        w->has[i] = w->m[i].gets;
        part_set_sort(&w->has[i]);
        w->m[i].gets = (struct part_set){NULL, 0, 0};
    }
}

static void world_fini(struct world *w)
{
    uint32_t i;

    for (i = 0; i < w->n; i++) {
        part_set_fini(&w->has[i]);
        part_set_fini(&w->m[i].gets);
    }
}

static const char *text_of(const struct part_set *s)
{
    static char text[256];
    uint32_t i;
    size_t n = 0;

    text[0] = 0;
    for (i = 0; i < s->n; i++)
        n +=
            (size_t)snprintf(text + n, sizeof text - n, "%u:%d ", s->v[i].topic, s->v[i].partition);
    return text;
}

static void test_range(void **state)
{
    static const struct assign_topic t[] = {{1, 3}, {2, 3}, {5, 1}};
    struct world w;

    world_init(&w, t, 3);
    member(&w, "b", NULL, 3);
    member(&w, "a", NULL, 7);
    member(&w, "z", "i", 3);
    assign_range(w.topics, w.topics_n, w.m, w.n);
    settle(&w);
    assert_string_equal(text_of(&w.has[2]), "1:0 2:0 ");
    assert_string_equal(text_of(&w.has[1]), "1:1 2:1 5:0 ");
    assert_string_equal(text_of(&w.has[0]), "1:2 2:2 ");
    world_fini(&w);

    world_init(&w, t, 2);
    member(&w, "a", NULL, 3);
    member(&w, "b", NULL, 3);
    assign_range(w.topics, w.topics_n, w.m, w.n);
    settle(&w);
    assert_string_equal(text_of(&w.has[0]), "1:0 1:1 2:0 2:1 ");
    assert_string_equal(text_of(&w.has[1]), "1:2 2:2 ");
    world_fini(&w);
}

static void test_uniform(void **state)
{
    static const struct assign_topic t[] = {{1, 4}, {2, 4}};
    struct world w;

    world_init(&w, t, 2);
    member(&w, "a", NULL, 3);
    assign_uniform(w.topics, w.topics_n, w.m, w.n, true);
    settle(&w);
    assert_string_equal(text_of(&w.has[0]), "1:0 1:1 1:2 1:3 2:0 2:1 2:2 2:3 ");
    /* others come: what stays, stays */
    member(&w, "b", NULL, 3);
    member(&w, "c", NULL, 3);
    assign_uniform(w.topics, w.topics_n, w.m, w.n, true);
    settle(&w);
    assert_string_equal(text_of(&w.has[0]), "1:0 1:1 1:2 ");
    assert_string_equal(text_of(&w.has[1]), "1:3 2:0 2:1 ");
    assert_string_equal(text_of(&w.has[2]), "2:2 2:3 ");
    /* the first goes: its own are shared, the others keep theirs */
    part_set_fini(&w.has[0]);
    w.m[0] = w.m[2];
    w.has[0] = w.has[2];
    w.m[0].has = &w.has[0];
    w.n = 2;
    assign_uniform(w.topics, w.topics_n, w.m, w.n, true);
    settle(&w);
    assert_string_equal(text_of(&w.has[0]), "1:1 1:2 2:2 2:3 ");
    assert_string_equal(text_of(&w.has[1]), "1:0 1:3 2:0 2:1 ");
    world_fini(&w);

    /* not alike: whose topic is asked for by few gets the others' less */
    world_init(&w, t, 2);
    member(&w, "a", NULL, 3);
    member(&w, "b", NULL, 1);
    assign_uniform(w.topics, w.topics_n, w.m, w.n, false);
    settle(&w);
    assert_string_equal(text_of(&w.has[0]), "2:0 2:1 2:2 2:3 ");
    assert_string_equal(text_of(&w.has[1]), "1:0 1:1 1:2 1:3 ");
    world_fini(&w);
}

static uint64_t rng;
static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

/* Every partition of a topic with subscribers has one owner, who subscribes to it. Returns the
 * largest and smallest number of partitions. */
static void check(struct world *w, uint32_t *most, uint32_t *least)
{
    uint8_t seen[TOPICS_MAX][64] = {{0}};
    uint32_t i, k, t, p, subscribers;

    *most = 0;
    *least = UINT32_MAX;
    for (i = 0; i < w->n; i++) {
        *most = w->has[i].n > *most ? w->has[i].n : *most;
        *least = w->has[i].n < *least ? w->has[i].n : *least;
        for (k = 0; k < w->has[i].n; k++) {
            for (t = 0; w->topics[t].id != w->has[i].v[k].topic; t++)
                assert_true(t + 1 < w->topics_n);
            assert_in_range(w->has[i].v[k].partition, 0, w->topics[t].partitions - 1);
            assert_int_equal(seen[t][w->has[i].v[k].partition]++, 0);
            for (p = 0; p < w->m[i].topics_n && w->m[i].topics[p] != w->topics[t].id; p++)
                ;
            assert_true(p < w->m[i].topics_n);
        }
    }
    for (t = 0; t < w->topics_n; t++) {
        for (i = subscribers = 0; i < w->n; i++)
            for (k = 0; k < w->m[i].topics_n; k++)
                subscribers += w->m[i].topics[k] == w->topics[t].id;
        for (p = 0; p < (uint32_t)w->topics[t].partitions; p++)
            assert_int_equal(seen[t][p], subscribers > 0);
    }
}

/* How many partitions have another owner than before. */
static uint32_t moved(const struct world *w, const struct part_set *before)
{
    uint32_t i, k, n = 0;

    for (i = 0; i < w->n; i++)
        for (k = 0; k < before[i].n; k++)
            n += !part_set_has(&w->has[i], before[i].v[k]);
    return n;
}

static void random_world(struct world *w, uint64_t seed, bool alike)
{
    struct assign_topic t[TOPICS_MAX];
    uint32_t n, i, id = 0;
    unsigned all;
    char name[8];

    rng = seed;
    n = 1 + rnd(TOPICS_MAX);
    for (i = 0; i < n; i++)
        t[i] = (struct assign_topic){id += 1 + rnd(5), (int32_t)(1 + rnd(20))};
    world_init(w, t, n);
    all = (1u << n) - 1;
    n = 1 + rnd(MEMBERS_MAX - 1);
    for (i = 0; i < n; i++) {
        snprintf(name, sizeof name, "m%u", i);
        member(w, name, rnd(4) ? NULL : "i", alike ? all : 1 + rnd(all));
    }
}

static void ask(struct world *w, int how)
{
    if (how == 0)
        assign_range(w->topics, w->topics_n, w->m, w->n);
    else if (how == 1)
        assign_roundrobin(w->topics, w->topics_n, w->m, w->n);
    else
        assign_uniform(w->topics, w->topics_n, w->m, w->n, w->same);
    settle(w);
}

static void test_random(void **state)
{
    struct part_set before[MEMBERS_MAX];
    uint32_t most, least, seed, i;
    struct world w;

    for (seed = 1; seed <= 300; seed++) {
        bool alike = seed % 2;
        int how = (int)(seed / 2 % 4); /* 2 and 3: uniform */

        random_world(&w, seed, alike);
        ask(&w, how);
        check(&w, &most, &least);
        if (how > 0 && alike)
            assert_true(most - least <= 1);
        /* the same question again: nothing moves */
        for (i = 0; i < w.n; i++) {
            before[i] = (struct part_set){NULL, 0, 0};
            part_set_copy(&before[i], &w.has[i]);
        }
        ask(&w, how);
        assert_int_equal(moved(&w, before), 0);
        /* one more of the same kind: no more moves than it gets */
        if (how > 1 && alike && w.n < MEMBERS_MAX) {
            member(&w, "new", NULL, (1u << w.topics_n) - 1);
            before[w.n - 1] = (struct part_set){NULL, 0, 0};
            assign_uniform(w.topics, w.topics_n, w.m, w.n, true);
            settle(&w);
            check(&w, &most, &least);
            assert_true(most - least <= 1);
            assert_int_equal(moved(&w, before), w.has[w.n - 1].n);
        }
        for (i = 0; i < w.n; i++)
            part_set_fini(&before[i]);
        world_fini(&w);
    }
}

static void test_sets(void **state)
{
    struct part_set a = {NULL, 0, 0}, b = {NULL, 0, 0}, c = {NULL, 0, 0};

    part_set_sort(&a);
    assert_true(part_set_same(&a, &b));
    part_set_add(&a, (struct topic_part){2, 1});
    part_set_add(&a, (struct topic_part){1, 9});
    part_set_add(&a, (struct topic_part){2, 1});
    part_set_add(&a, (struct topic_part){1, 0});
    part_set_sort(&a);
    assert_string_equal(text_of(&a), "1:0 1:9 2:1 ");
    part_set_add(&b, (struct topic_part){1, 9});
    part_set_add(&b, (struct topic_part){3, 0});
    part_set_pick(&c, &a, &b, true);
    assert_string_equal(text_of(&c), "1:9 ");
    c.n = 0;
    part_set_pick(&c, &a, &b, false);
    assert_string_equal(text_of(&c), "1:0 2:1 ");
    assert_true(part_set_has(&a, (struct topic_part){1, 9}));
    assert_false(part_set_has(&a, (struct topic_part){1, 8}));
    part_set_fini(&a);
    part_set_fini(&b);
    part_set_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
