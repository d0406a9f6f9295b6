/* Share groups: who is a member, who looks at which partitions, epochs, kinds, restarts. */
#include "broker/assign.h"
#include "members_fixture.h"

#define G "sharers"

struct sharer {
    struct mx *x;
    const char *group, *id;
    struct group_wait wait;
    enum err e;
    int32_t epoch;
    bool told;
    char text[128];
    unsigned n; /* partitions, of all topics */
    int32_t parts[16];
};

static void on_beat(void *arg, const struct group_consumer_result *r)
{
    struct sharer *s = arg;
    unsigned i, k;

    s->e = r->e;
    s->told = r->has_assignment;
    snprintf(s->text, sizeof s->text, "%s", r->text ? r->text : "");
    if (r->e)
        return;
    assert_true(slice_eq_str(r->member_id, s->id));
    s->epoch = r->member_epoch;
    if (!r->has_assignment)
        return;
    s->n = 0;
    for (i = 0; i < r->assignment_n; i++)
        for (k = 0; k < r->assignment[i].n; k++)
            s->parts[s->n++] = r->assignment[i].partitions[k];
}

static enum err beat_as(struct sharer *s, int32_t epoch, const char *topic)
{
    struct slice name = slice_str(topic);
    struct group_share_heartbeat h = {.group = slice_str(s->group),
                                      .member_id = slice_str(s->id),
                                      .member_epoch = epoch,
                                      .topics = topic ? &name : NULL,
                                      .topics_n = topic != NULL};

    s->e = ERR_INTERNAL;
    group_share_heartbeat(s->x->f.b, &h, s->x->now, &s->wait, on_beat, s);
    broker_step(s->x->f.b);
    return s->e;
}

static struct sharer share_join(struct mx *x, const char *id, const char *topic)
{
    struct sharer s = {.x = x, .group = G, .id = id};

    if (beat_as(&s, GROUP_EPOCH_JOIN, topic))
        fail_msg("join: %s: %s", err_code(s.e), s.text);
    return s;
}

#define share_beat(s) assert_int_equal(beat_as(s, (s)->epoch, NULL), ERR_OK)

static void test_members(void **state)
{
    struct sharer a, b, c;
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "jobs", 2);
    a = share_join(&x, "a", "jobs");
    assert_int_equal(a.n, 2);
    b = share_join(&x, "b", "jobs");
    assert_true(b.epoch > a.epoch);
    assert_int_equal(b.n, 1);
    share_beat(&a);
    assert_true(a.told);
    assert_int_equal(a.epoch, b.epoch);
    assert_int_equal(a.n, 1);
    assert_int_not_equal(a.parts[0], b.parts[0]);
    /* more members than partitions: they share */
    c = share_join(&x, "c", "jobs");
    assert_int_equal(c.n, 1);
    share_beat(&a);
    share_beat(&b);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 1);
    share_beat(&a);
    assert_false(a.told); /* nothing new */
    /* one leaves, one is silent: the last has all */
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE, NULL), ERR_OK);
    mx_pass(&x, 30000);
    share_beat(&a);
    mx_pass(&x, 20000);
    share_beat(&a);
    assert_int_equal(a.n, 2);
    assert_int_equal(beat_as(&c, c.epoch, NULL), ERR_UNKNOWN_MEMBER);
    /* partitions are added */
    assert_int_equal(topic_alter_wait(x.f.b, SLICE_LIT("jobs"), 5, NULL, NULL), ERR_OK);
    share_beat(&a);
    assert_int_equal(a.n, 5);
    topic_unref(&t);
    fx_end(&x.f);
}

static void test_epochs(void **state)
{
    struct sharer a, b, none;
    struct topic *t;
    int32_t old;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "jobs", 1);
    a = share_join(&x, "a", "jobs");
    b = share_join(&x, "b", "jobs");
    old = a.epoch;
    share_beat(&a);
    assert_int_equal(beat_as(&a, old, NULL), ERR_OK); /* the answer was lost */
    assert_int_equal(beat_as(&a, a.epoch + 1, NULL), ERR_FENCED_MEMBER_EPOCH);
    share_join(&x, "c", "jobs");
    share_beat(&a);
    assert_int_equal(beat_as(&a, old, NULL), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN, "jobs"), ERR_OK);
    assert_true(a.told);
    assert_int_equal(beat_as(&a, -2, NULL), ERR_INVALID);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN, NULL), ERR_INVALID);
    none = (struct sharer){.x = &x, .group = G, .id = ""};
    assert_int_equal(beat_as(&none, GROUP_EPOCH_JOIN, "jobs"), ERR_INVALID);
    none = (struct sharer){.x = &x, .group = "elsewhere", .id = "z"};
    assert_int_equal(beat_as(&none, 3, NULL), ERR_GROUP_NOT_FOUND);
    none = (struct sharer){.x = &x, .group = "", .id = "z"};
    assert_int_equal(beat_as(&none, 0, "jobs"), ERR_GROUP_ID);
    /* epochs do not go back over a restart; members join again */
    old = a.epoch;
    fx_crash(&x.f);
    assert_int_equal(beat_as(&a, a.epoch, NULL), ERR_UNKNOWN_MEMBER);
    b = share_join(&x, "b", "jobs");
    assert_true(b.epoch > old);
    topic_unref(&t);
    fx_end(&x.f);
}

static void listed(void *arg, const struct group_listing *g)
{
    ++*(int *)arg;
    assert_true(slice_eq_str(g->group, G));
    assert_true(slice_eq_str(g->protocol_type, "share"));
    assert_int_equal(g->kind, GROUP_SHARE);
}

/* A share group is no other kind of group, with members or without. */
static void kinds(struct mx *x, bool members)
{
    const struct group_topic_partitions nothing = {.n = 0};
    struct slice type = SLICE_LIT("share"), topic = SLICE_LIT("jobs");
    struct group_filter f = {.kinds = &type, .kinds_n = 1};
    struct group_consumer_heartbeat h = {.group = SLICE_LIT(G),
                                         .member_id = SLICE_LIT("new"),
                                         .rebalance_timeout_ms = 1000,
                                         .topics = &topic,
                                         .topics_n = 1,
                                         .owned = &nothing};
    struct group_member nobody = {.group = SLICE_LIT(G), .generation = -1};
    struct client classic = client_of(x, G);
    struct sharer s = {.x = x, .id = "new"};
    struct group_description d;
    int n = 0;

    groups_list(x->f.b, &f, listed, &n);
    assert_int_equal(n, 1);
    group_consumer_heartbeat(x->f.b, &h, x->now, &s.wait, on_beat, &s);
    assert_int_equal(s.e, ERR_GROUP_NOT_FOUND);
    join_ask(&classic);
    assert_int_equal(classic.e, ERR_INCONSISTENT_PROTOCOL);
    assert_int_equal(group_commit_check(x->f.b, &nobody, false, x->now), ERR_GROUP_NOT_FOUND);
    assert_int_equal(group_describe(x->f.b, SLICE_LIT(G), &d), ERR_OK);
    assert_int_equal(d.kind, GROUP_SHARE);
    assert_int_equal(d.state, members ? GROUP_STABLE : GROUP_EMPTY);
    assert_int_equal(d.members_n, members);
    if (members) {
        assert_true(slice_eq_str(d.protocol, "simple"));
        assert_int_equal(d.members[0].assigned_n, 1);
        assert_int_equal(d.members[0].assigned[0].n, 2);
        assert_int_equal(d.generation, d.assignment_epoch);
    }
    group_description_fini(&d);
}

static void test_kinds(void **state)
{
    struct sharer a, other;
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "jobs", 2);
    a = share_join(&x, "a", "jobs");
    kinds(&x, true);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT(G), NULL, NULL, NULL), ERR_GROUP_NOT_EMPTY);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE, NULL), ERR_OK);
    kinds(&x, false);
    fx_crash(&x.f);
    kinds(&x, false);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT(G), NULL, NULL, NULL), ERR_OK);
    broker_step(x.f.b);
    /* and no other is a share group */
    topic_unref(&t);
    t = fx_topic(&x.f, "jobs", 2);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT("plain"), topic_partition(t, 0), 1, SLICE_LIT(""), NULL),
        ERR_OK);
    other = (struct sharer){.x = &x, .group = "plain", .id = "z"};
    assert_int_equal(beat_as(&other, GROUP_EPOCH_JOIN, "jobs"), ERR_GROUP_NOT_FOUND);
    topic_unref(&t);
    fx_end(&x.f);
}

static void test_size(void **state)
{
    struct group_conf conf;
    struct sharer b;
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "jobs", 1);
    groups_conf_get(x.f.b, &conf);
    assert_int_equal(conf.share_size_max, 200);
    conf.share_size_max = 1;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    share_join(&x, "a", "jobs");
    b = (struct sharer){.x = &x, .group = G, .id = "b"};
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN, "jobs"), ERR_GROUP_MAX_SIZE);
    topic_unref(&t);
    fx_end(&x.f);
}

/* Every partition has a member, every member a partition, numbers differ by one at most. */
static void check_share(int32_t partitions, uint32_t n)
{
    const struct assign_topic topics[] = {{4, partitions}, {9, 1}};
    const uint32_t ids[] = {4, 9};
    struct assign_member *m = calloc(n, sizeof *m);
    char(*names)[8] = calloc(n, sizeof *names);
    uint32_t i, least = UINT32_MAX, most = 0;
    int32_t p;

    for (i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "m%u", i);
        m[i] = (struct assign_member){
            .id = slice_str(names[i]), .topics = ids, .topics_n = i == 0 ? 2 : 1};
    }
    assign_share(topics, 2, m, n);
    for (p = 0; p < partitions; p++) {
        for (i = 0; i < n; i++) {
            part_set_sort(&m[i].gets);
            if (part_set_has(&m[i].gets, (struct topic_part){4, p}))
                break;
        }
        assert_true(i < n);
    }
    for (i = 0; i < n; i++) {
        uint32_t has = m[i].gets.n - part_set_has(&m[i].gets, (struct topic_part){9, 0});

        assert_true(part_set_has(&m[i].gets, (struct topic_part){9, 0}) == (i == 0));
        least = has < least ? has : least;
        most = has > most ? has : most;
        part_set_fini(&m[i].gets);
    }
    assert_true(least >= 1 && most - least <= 1);
    free(names);
    free(m);
}

static void test_assignor(void **state)
{
    int32_t p;
    uint32_t n;

    for (n = 1; n <= 9; n++)
        for (p = 1; p <= 9; p++)
            check_share(p, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),  cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_kinds),    cmocka_unit_test(test_size),
        cmocka_unit_test(test_assignor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
