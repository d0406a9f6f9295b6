/* Consumer groups (KIP-848) by scenario, on a clock that the test moves. */
#include "members_fixture.h"

#include "broker/consumer_int.h"

#define PARTS_MAX 64

/* A client of the consumer protocol, as it should be: it owns what it was given, and gives up what
 * it is to, if `obedient`, before its next heartbeat. */
struct consumer {
    struct mx *x;
    const char *group, *instance, *regex, *assignor;
    struct slice topics[4];
    unsigned topics_n;
    bool lazy; /* keeps what it is to give up */
    struct group_wait wait;
    char id[64];
    int32_t epoch;
    enum err e;
    char text[128];
    bool told; /* an assignment */
    struct {
        uint8_t uuid[16];
        char topic[32];
        int32_t partitions[PARTS_MAX];
        unsigned n;
    } owned[4], next[4];
    unsigned owned_n, next_n;
    char shown[256]; /* owned, as text */
};

static struct consumer consumer_of(struct mx *x, const char *id, const char *topic)
{
    struct consumer c = {.x = x, .group = "g"};

    snprintf(c.id, sizeof c.id, "%s", id);
    if (topic) {
        c.topics[0] = slice_str(topic);
        c.topics_n = 1;
    }
    return c;
}

static void shown_make(struct consumer *c)
{
    size_t n = 0;
    unsigned i, k;

    c->shown[0] = 0;
    for (i = 0; i < c->owned_n; i++) {
        n += (size_t)snprintf(c->shown + n, sizeof c->shown - n, "%s:", c->owned[i].topic);
        for (k = 0; k < c->owned[i].n; k++)
            n += (size_t)snprintf(c->shown + n, sizeof c->shown - n, "%s%d", k ? "," : "",
                                  c->owned[i].partitions[k]);
        n += (size_t)snprintf(c->shown + n, sizeof c->shown - n, ";");
    }
}

static void on_beat(void *arg, const struct group_consumer_result *r)
{
    struct consumer *c = arg;
    unsigned i;

    c->e = r->e;
    c->told = r->has_assignment;
    snprintf(c->text, sizeof c->text, "%s", r->text ? r->text : "");
    if (r->e)
        return;
    text_keep(c->id, sizeof c->id, r->member_id);
    c->epoch = r->member_epoch;
    if (!r->has_assignment)
        return;
    c->next_n = r->assignment_n;
    for (i = 0; i < r->assignment_n; i++) {
        memcpy(c->next[i].uuid, r->assignment[i].topic_uuid, 16);
        text_keep(c->next[i].topic, sizeof c->next[i].topic, r->assignment[i].topic);
        assert_in_range(r->assignment[i].n, 1, PARTS_MAX);
        c->next[i].n = r->assignment[i].n;
        memcpy(c->next[i].partitions, r->assignment[i].partitions,
               r->assignment[i].n * sizeof(int32_t));
    }
}

/* One heartbeat. full: all that the client knows of itself. */
static enum err pulse(struct consumer *c, bool full, int32_t epoch)
{
    struct group_topic_partitions owned[4];
    struct group_consumer_heartbeat h = {.group = slice_str(c->group),
                                         .member_id = slice_str(c->id),
                                         .member_epoch = epoch,
                                         .instance_id = slice_str(c->instance),
                                         .client_id = SLICE_LIT("client"),
                                         .client_host = SLICE_LIT("host"),
                                         .rebalance_timeout_ms = full ? REBALANCE_MS : -1,
                                         .owned = owned};
    unsigned i;

    for (i = 0; i < c->owned_n; i++) {
        memcpy(owned[i].topic_uuid, c->owned[i].uuid, 16);
        owned[i].partitions = c->owned[i].partitions;
        owned[i].n = c->owned[i].n;
    }
    h.owned_n = epoch == 0 ? 0 : c->owned_n;
    if (full) {
        h.topics = c->topics_n || !c->regex ? c->topics : NULL;
        h.topics_n = c->topics_n;
        h.topic_regex = slice_str(c->regex);
        h.assignor = slice_str(c->assignor);
    }
    c->e = ERR_AGAIN;
    group_consumer_heartbeat(c->x->f.b, &h, c->x->now, &c->wait, on_beat, c);
    broker_step(c->x->f.b);
    if (c->e == ERR_OK && c->told && !c->lazy) {
        memcpy(c->owned, c->next, sizeof c->owned);
        c->owned_n = c->next_n;
        shown_make(c);
    }
    return c->e;
}

static enum err enter(struct consumer *c)
{
    c->owned_n = 0;
    return pulse(c, true, 0);
}

static enum err alive(struct consumer *c)
{
    return pulse(c, false, c->epoch);
}

/* All beat until nothing changes. */
static void settle(struct consumer **c, unsigned n)
{
    unsigned i, round;

    for (round = 0; round < 8; round++)
        for (i = 0; i < n; i++)
            assert_int_equal(alive(c[i]), ERR_OK);
}

static void test_three_join(void **state)
{
    struct consumer a, b, c, *all[] = {&a, &b, &c};
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 6);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    c = consumer_of(&x, "c", "t");
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(a.epoch, 1);
    assert_string_equal(a.shown, "t:0,1,2,3,4,5;");
    assert_memory_equal(a.owned[0].uuid, topic_uuid(t), 16);
    assert_state(&x, "g", GROUP_STABLE);
    assert_int_equal(alive(&a), ERR_OK);
    assert_false(a.told);
    /* the second waits for what the first is to give up */
    assert_int_equal(enter(&b), ERR_OK);
    assert_int_equal(b.epoch, 2);
    assert_true(b.told);
    assert_string_equal(b.shown, "");
    assert_state(&x, "g", GROUP_RECONCILING);
    a.lazy = true;
    assert_int_equal(alive(&a), ERR_OK);
    assert_int_equal(a.epoch, 1);
    assert_true(a.told);
    assert_int_equal(a.next[0].n, 3);
    assert_int_equal(alive(&b), ERR_OK);
    assert_string_equal(b.shown, "");
    assert_int_equal(alive(&a), ERR_OK); /* it has not given up yet */
    assert_int_equal(a.epoch, 1);
    assert_int_equal(alive(&b), ERR_OK);
    assert_string_equal(b.shown, "");
    a.lazy = false;
    memcpy(a.owned, a.next, sizeof a.owned);
    assert_int_equal(alive(&a), ERR_OK); /* now it has */
    assert_int_equal(a.epoch, 2);
    assert_int_equal(alive(&b), ERR_OK);
    assert_string_equal(b.shown, "t:3,4,5;");
    assert_state(&x, "g", GROUP_STABLE);
    /* the third */
    assert_int_equal(enter(&c), ERR_OK);
    settle(all, 3);
    assert_string_equal(a.shown, "t:0,1;");
    assert_string_equal(b.shown, "t:3,4;");
    assert_string_equal(c.shown, "t:2,5;");
    assert_int_equal(a.epoch, 3);
    /* one leaves, one falls silent */
    assert_int_equal(pulse(&c, false, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(c.epoch, GROUP_EPOCH_LEAVE);
    assert_state(&x, "g", GROUP_ASSIGNING);
    settle(all, 2);
    assert_string_equal(a.shown, "t:0,1,2;");
    assert_int_equal(a.epoch, 4);
    mx_pass(&x, 44000);
    assert_int_equal(alive(&a), ERR_OK);
    mx_pass(&x, 1000);
    assert_int_equal(alive(&b), ERR_UNKNOWN_MEMBER);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "t:0,1,2,3,4,5;");
    mx_pass(&x, 45000);
    assert_state(&x, "g", GROUP_EMPTY);
    assert_int_equal(atomic_load(&x.f.b->coordinator->live), 0);
    assert_int_equal(group_generation(x.f.b, SLICE_LIT("g")), 6);
    topic_unref(&t);
    mx_end(&x);
}

/* Who has what is in the published table soon after a rebalance. */
static void test_published(void **state)
{
    struct consumer a, b, *both[] = {&a, &b};
    char text[512];
    struct topic *t, *u;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 3);
    u = fx_topic(&x.f, "u", 1);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    a.topics[1] = b.topics[1] = SLICE_LIT("u");
    a.topics_n = b.topics_n = 2;
    b.instance = "i-1";
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_OK);
    published(&x, text, sizeof text);
    assert_string_equal(text, "g|2||[]|{}");
    settle(both, 2);
    mx_pass(&x, 1000);
    published(&x, text, sizeof text);
    assert_string_equal(text, "g|2||[{\"id\":\"a\",\"instance\":null,\"client\":\"client\","
                              "\"host\":\"host\"},{\"id\":\"b\",\"instance\":\"i-1\","
                              "\"client\":\"client\",\"host\":\"host\"}]|"
                              "{\"a\":{\"t\":[0,1]},\"b\":{\"t\":[2],\"u\":[0]}}");
    topic_unref(&t);
    topic_unref(&u);
    mx_end(&x);
}

/* A member that does not give up in its rebalance timeout is out. */
static void test_revocation_timeout(void **state)
{
    struct consumer a, b;
    struct topic *t;
    struct mx x;
    int i;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 2);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_OK);
    a.lazy = true;
    for (i = 0; i < REBALANCE_MS; i += 5000) {
        assert_int_equal(alive(&a), ERR_OK);
        assert_int_equal(alive(&b), ERR_OK);
        assert_string_equal(b.shown, "");
        mx_pass(&x, 5000);
    }
    assert_int_equal(alive(&a), ERR_UNKNOWN_MEMBER);
    assert_int_equal(alive(&b), ERR_OK);
    assert_string_equal(b.shown, "t:0,1;");
    /* it comes back as new */
    a.lazy = false;
    assert_int_equal(enter(&a), ERR_OK);
    assert_string_equal(a.shown, "");
    assert_int_equal(alive(&b), ERR_OK);
    assert_int_equal(alive(&b), ERR_OK);
    assert_int_equal(alive(&a), ERR_OK);
    assert_int_equal(a.owned[0].n, 1);
    topic_unref(&t);
    mx_end(&x);
}

static void test_epochs(void **state)
{
    struct consumer a, b;
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 2);
    a = consumer_of(&x, "a", "t");
    a.epoch = 3;
    assert_int_equal(alive(&a), ERR_GROUP_NOT_FOUND);
    assert_int_equal(pulse(&a, false, GROUP_EPOCH_LEAVE), ERR_GROUP_NOT_FOUND);
    assert_int_equal(enter(&a), ERR_OK);
    b = consumer_of(&x, "b", "t");
    b.epoch = 1;
    assert_int_equal(alive(&b), ERR_UNKNOWN_MEMBER);
    assert_int_equal(pulse(&b, false, GROUP_EPOCH_LEAVE), ERR_UNKNOWN_MEMBER);
    /* ahead of what it was told, or too far behind */
    assert_int_equal(pulse(&a, false, 2), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(enter(&b), ERR_OK);
    assert_int_equal(alive(&a), ERR_OK);
    assert_int_equal(alive(&a), ERR_OK);
    assert_int_equal(a.epoch, 2);
    /* the answer with epoch 2 was lost: it says 1 again, with what it had */
    assert_int_equal(pulse(&a, false, 1), ERR_OK);
    assert_int_equal(a.epoch, 2);
    a.owned[0].n = 2;
    a.owned[0].partitions[1] = 1;
    assert_int_equal(pulse(&a, false, 1), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(pulse(&a, true, 0), ERR_FENCED_MEMBER_EPOCH);
    /* the answer to its first heartbeat was lost */
    assert_int_equal(enter(&b), ERR_OK);
    assert_int_equal(b.epoch, 2);
    assert_true(b.told);
    topic_unref(&t);
    mx_end(&x);
}

static void test_invalid(void **state)
{
    struct group_consumer_heartbeat h, ok;
    struct slice topic = SLICE_LIT("t"), bad = SLICE_LIT("");
    struct group_topic_partitions none[1];
    struct consumer c;
    struct mx x;
    unsigned i;
    enum err want[] = {ERR_INVALID,  ERR_INVALID,   ERR_INVALID,
                       ERR_INVALID,  ERR_INVALID,   ERR_INVALID,
                       ERR_INVALID,  ERR_INVALID,   ERR_UNSUPPORTED_ASSIGNOR,
                       ERR_REGEX,    ERR_TOO_LARGE, ERR_GROUP_ID,
                       ERR_TOO_LARGE};

    mx_start(&x);
    c = consumer_of(&x, "c", "t");
    ok = (struct group_consumer_heartbeat){.group = SLICE_LIT("g"),
                                           .member_id = SLICE_LIT("m"),
                                           .rebalance_timeout_ms = 1000,
                                           .topics = &topic,
                                           .topics_n = 1,
                                           .owned = none};
    for (i = 0; i < sizeof want / sizeof want[0]; i++) {
        h = ok;
        switch (i) {
        case 0:
            h.rebalance_timeout_ms = -1;
            break;
        case 1:
            h.owned = NULL;
            break;
        case 2:
            memset(none, 0, sizeof none);
            h.owned_n = 1;
            break;
        case 3:
            h.topics = NULL;
            break;
        case 4:
            h.member_epoch = -3;
            break;
        case 5:
            h.member_epoch = GROUP_EPOCH_LEAVE_STATIC;
            break;
        case 6:
            h.instance_id = SLICE_LIT("");
            break;
        case 7:
            h.member_id = SLICE_LIT("");
            h.member_epoch = 1;
            break;
        case 8:
            h.assignor = SLICE_LIT("sticky");
            break;
        case 9:
            h.topic_regex = SLICE_LIT("(a");
            break;
        case 10:
            h.topics = &bad;
            break;
        case 11:
            h.group = SLICE_LIT("");
            break;
        case 12:
            h.topics_n = LIMIT_MEMBER_TOPICS + 1;
            break;
        }
        c.e = ERR_AGAIN;
        c.text[0] = 0;
        group_consumer_heartbeat(x.f.b, &h, x.now, &c.wait, on_beat, &c);
        broker_step(x.f.b);
        assert_int_equal(c.e, want[i]);
        assert_true(c.text[0] != 0);
        assert_state(&x, "g", GROUP_DEAD);
        assert_int_equal(atomic_load(&x.f.b->coordinator->bytes), 0);
    }
    /* an id is made for who has none */
    h = ok;
    h.member_id = SLICE_LIT("");
    group_consumer_heartbeat(x.f.b, &h, x.now, &c.wait, on_beat, &c);
    broker_step(x.f.b);
    assert_int_equal(c.e, ERR_OK);
    assert_int_equal(strlen(c.id), 36);
    mx_end(&x);
}

static void test_static(void **state)
{
    struct consumer a, b, again, *both[] = {&a, &b};
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 4);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    a.instance = "i-a";
    b.instance = "i-b";
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_OK);
    settle(both, 2);
    assert_string_equal(b.shown, "t:2,3;");
    again = consumer_of(&x, "b2", "t");
    again.instance = "i-b";
    assert_int_equal(enter(&again), ERR_UNRELEASED_INSTANCE);
    again.epoch = 2;
    assert_int_equal(alive(&again), ERR_FENCED_INSTANCE);
    /* it leaves for a moment, and is back under another id, with what it had */
    assert_int_equal(pulse(&b, false, GROUP_EPOCH_LEAVE_STATIC), ERR_OK);
    assert_int_equal(b.epoch, GROUP_EPOCH_LEAVE_STATIC);
    assert_int_equal(pulse(&b, false, 2), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "t:0,1;");
    assert_int_equal(enter(&again), ERR_OK);
    assert_string_equal(again.shown, "t:2,3;");
    assert_int_equal(again.epoch, 2);
    assert_int_equal(pulse(&b, false, 2), ERR_FENCED_INSTANCE);
    assert_int_equal(pulse(&b, false, GROUP_EPOCH_LEAVE), ERR_FENCED_INSTANCE);
    b.instance = "i-c";
    assert_int_equal(pulse(&b, false, 2), ERR_UNKNOWN_MEMBER);
    assert_int_equal(pulse(&b, false, GROUP_EPOCH_LEAVE_STATIC), ERR_UNKNOWN_MEMBER);
    /* it leaves for a moment, and does not come back */
    assert_int_equal(pulse(&again, false, GROUP_EPOCH_LEAVE_STATIC), ERR_OK);
    mx_pass(&x, 44999);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "t:0,1;");
    mx_pass(&x, 1);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "t:0,1,2,3;");
    /* it leaves for good */
    assert_int_equal(pulse(&a, false, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_state(&x, "g", GROUP_EMPTY);
    topic_unref(&t);
    mx_end(&x);
}

static void test_topics_change(void **state)
{
    struct consumer a, b, *both[] = {&a, &b};
    struct topic *t, *u;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 2);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    a.topics[1] = b.topics[1] = SLICE_LIT("u");
    a.topics_n = b.topics_n = 2;
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "t:0;");
    assert_string_equal(b.shown, "t:1;");
    assert_int_equal(a.epoch, 2);
    /* partitions are added */
    assert_int_equal(topic_alter_wait(x.f.b, SLICE_LIT("t"), 4, NULL, NULL), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "t:0,2;");
    assert_string_equal(b.shown, "t:1,3;");
    assert_int_equal(a.epoch, 3);
    /* a topic that was subscribed to before it was there */
    u = fx_topic(&x.f, "u", 2);
    settle(both, 2);
    assert_string_equal(a.shown, "t:0,2;u:0;");
    assert_int_equal(a.epoch, 4);
    /* other topics are of no concern */
    topic_unref(&u);
    u = fx_topic(&x.f, "v", 2);
    settle(both, 2);
    assert_int_equal(a.epoch, 4);
    /* a topic goes */
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("t"), NULL), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "u:0;");
    assert_string_equal(b.shown, "u:1;");
    assert_int_equal(a.epoch, 5);
    /* and another of its name comes */
    topic_unref(&t);
    t = fx_topic(&x.f, "t", 2);
    settle(both, 2);
    assert_string_equal(a.shown, "u:0;t:0;");
    assert_int_equal(a.epoch, 6);
    /* one subscribes to something else */
    b.topics[0] = SLICE_LIT("v");
    b.topics_n = 1;
    assert_int_equal(pulse(&b, true, b.epoch), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "u:0,1;t:0,1;");
    assert_string_equal(b.shown, "v:0,1;");
    topic_unref(&t);
    topic_unref(&u);
    mx_end(&x);
}

static void test_regex(void **state)
{
    struct consumer a, b, *both[] = {&a, &b};
    struct group_description d;
    struct topic *t[4];
    struct mx x;
    int i;

    mx_start(&x);
    t[0] = fx_topic(&x.f, "orders.eu", 1);
    t[1] = fx_topic(&x.f, "orders.us", 1);
    t[2] = fx_topic(&x.f, "xorders.us", 1);
    a = consumer_of(&x, "a", NULL);
    a.regex = "orders\\..*";
    assert_int_equal(enter(&a), ERR_OK);
    assert_string_equal(a.shown, "orders.eu:0;orders.us:0;");
    /* topics that come later */
    t[3] = fx_topic(&x.f, "orders.asia", 1);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "orders.eu:0;orders.us:0;orders.asia:0;");
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("orders.us"), NULL), ERR_OK);
    assert_int_equal(alive(&a), ERR_OK);
    assert_string_equal(a.shown, "orders.eu:0;orders.asia:0;");
    /* names and a regex together; one whose regex does not compile changes nothing */
    b = consumer_of(&x, "b", "xorders.us");
    b.regex = "orders\\.(eu";
    assert_int_equal(enter(&b), ERR_REGEX);
    b.regex = "(?i)ORDERS\\.(eu|no)";
    assert_int_equal(enter(&b), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "orders.eu:0;orders.asia:0;");
    assert_string_equal(b.shown, "xorders.us:0;");
    assert_int_equal(group_describe(x.f.b, SLICE_LIT("g"), &d), ERR_OK);
    assert_int_equal(d.kind, GROUP_CONSUMER);
    assert_int_equal(d.state, GROUP_STABLE);
    assert_int_equal(d.generation, d.assignment_epoch);
    assert_true(slice_eq_str(d.protocol, "uniform"));
    assert_int_equal(d.members_n, 2);
    assert_true(slice_eq_str(d.members[1].member_id, "b"));
    assert_true(slice_eq_str(d.members[1].topic_regex, b.regex));
    assert_int_equal(d.members[1].topics_n, 1);
    assert_true(slice_eq_str(d.members[1].topics[0], "xorders.us"));
    assert_int_equal(d.members[1].assigned_n, 1);
    assert_true(slice_eq_str(d.members[1].assigned[0].topic, "xorders.us"));
    assert_int_equal(d.members[1].target_n, 1);
    assert_int_equal(d.members[0].assigned_n, 2);
    assert_int_equal(d.members[0].epoch, a.epoch);
    group_description_fini(&d);
    /* it gives up its regex */
    a.regex = "";
    a.topics[0] = SLICE_LIT("orders.eu");
    a.topics_n = 1;
    assert_int_equal(pulse(&a, true, a.epoch), ERR_OK);
    settle(both, 2);
    assert_string_equal(a.shown, "orders.eu:0;");
    /* very many topics change between two heartbeats */
    a.regex = "many\\d+";
    assert_int_equal(pulse(&a, true, a.epoch), ERR_OK);
    settle(both, 2);
    for (i = 0; i < 3; i++) {
        topic_unref(&t[i]);
        assert_int_equal(
            topic_create_wait(x.f.b, i ? SLICE_LIT("many2") : SLICE_LIT("many1"), 1, NULL, NULL),
            i == 2 ? ERR_TOPIC_EXISTS : ERR_OK);
    }
    for (i = 0; i < (int)RECENT_MAX + 10; i++)
        recent_add(&x.f.b->recent_topics, 0);
    settle(both, 2);
    assert_string_equal(a.shown, "many1:0;many2:0;");
    assert_string_equal(b.shown, "orders.eu:0;xorders.us:0;");
    topic_unref(&t[3]);
    mx_end(&x);
}

static void test_assignors(void **state)
{
    struct consumer a, b, c, *all[] = {&a, &b, &c};
    struct topic *t, *u;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 3);
    u = fx_topic(&x.f, "u", 3);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    c = consumer_of(&x, "c", "t");
    a.topics[1] = b.topics[1] = c.topics[1] = SLICE_LIT("u");
    a.topics_n = b.topics_n = c.topics_n = 2;
    a.assignor = b.assignor = "range";
    c.assignor = "uniform";
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_OK);
    settle(all, 2);
    assert_string_equal(a.shown, "t:0,1;u:0,1;");
    assert_string_equal(b.shown, "t:2;u:2;");
    /* what most of them want is taken */
    assert_int_equal(enter(&c), ERR_OK);
    settle(all, 3);
    assert_string_equal(a.shown, "t:0;u:0;");
    assert_string_equal(b.shown, "t:1;u:1;");
    assert_string_equal(c.shown, "t:2;u:2;");
    topic_unref(&t);
    topic_unref(&u);
    mx_end(&x);
}

/* Two kinds of members in one group: not at once. */
static void test_kinds(void **state)
{
    struct consumer a;
    struct client c;
    struct topic *t;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    c = client_of(&x, "g");
    group_stable(&x, &c, 1);
    a = consumer_of(&x, "a", "t");
    assert_int_equal(enter(&a), ERR_GROUP_NOT_FOUND);
    assert_int_equal(leave(&c), ERR_OK);
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(a.epoch, 3); /* it goes on from the classic generations */
    c.id[0] = 0;
    join(&c);
    assert_int_equal(c.e, ERR_INCONSISTENT_PROTOCOL);
    c.generation = 3;
    assert_int_equal(beat(&c), ERR_UNKNOWN_MEMBER);
    assert_int_equal(pulse(&a, false, GROUP_EPOCH_LEAVE), ERR_OK);
    join(&c);
    assert_int_equal(c.e, ERR_OK);
    assert_int_equal(c.generation, 5);
    /* an id that was given out, but not used, is in nobody's way */
    assert_int_equal(leave(&c), ERR_OK);
    c.id[0] = 0;
    join_ask(&c);
    assert_int_equal(c.e, ERR_MEMBER_ID_REQUIRED);
    assert_int_equal(enter(&a), ERR_OK);
    topic_unref(&t);
    mx_end(&x);
}

static void test_offsets(void **state)
{
    struct group_member m = {.group = SLICE_LIT("g"), .member_id = SLICE_LIT("a"), .generation = 1};
    int64_t day = 24 * 3600 * 1000, wall;
    struct group_offset o;
    struct consumer a;
    struct topic *t, *u;
    struct mx x;
    enum err e;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    u = fx_topic(&x.f, "u", 1);
    a = consumer_of(&x, "a", "t");
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(group_commit_check(x.f.b, &m, false, x.now), ERR_OK);
    assert_int_equal(group_fetch_check(x.f.b, &m), ERR_OK);
    m.generation = 2;
    assert_int_equal(group_commit_check(x.f.b, &m, false, x.now), ERR_STALE_MEMBER_EPOCH);
    assert_int_equal(group_commit_check(x.f.b, &m, true, x.now), ERR_ILLEGAL_GENERATION);
    assert_int_equal(group_fetch_check(x.f.b, &m), ERR_STALE_MEMBER_EPOCH);
    m.member_id = SLICE_LIT("b");
    assert_int_equal(group_commit_check(x.f.b, &m, false, x.now), ERR_UNKNOWN_MEMBER);
    m.member_id = SLICE_LIT("");
    m.generation = -1;
    assert_int_equal(group_commit_check(x.f.b, &m, false, x.now), ERR_UNKNOWN_MEMBER);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT("g"), topic_partition(t, 0), 1, SLICE_NULL, NULL),
        ERR_OK);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT("g"), topic_partition(u, 0), 1, SLICE_NULL, NULL),
        ERR_OK);
    assert_int_equal(
        group_offset_delete(x.f.b, SLICE_LIT("g"), topic_partition(t, 0), NULL, NULL, NULL),
        ERR_GROUP_SUBSCRIBED);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("g"), NULL, NULL, NULL), ERR_GROUP_NOT_EMPTY);
    /* offsets of what is not subscribed to expire */
    wall = journal_wall_ms(broker_journal(x.f.b));
    groups_retention(x.f.b, wall + 8 * day);
    broker_step(x.f.b);
    e = group_offset_get(x.f.b, SLICE_LIT("g"), topic_partition(t, 0), &o);
    assert_int_equal(e, ERR_OK);
    e = group_offset_get(x.f.b, SLICE_LIT("g"), topic_partition(u, 0), &o);
    assert_int_equal(e, ERR_NOT_FOUND);
    topic_unref(&t);
    topic_unref(&u);
    mx_end(&x);
}

static void test_restart(void **state)
{
    struct consumer a, b, *both[] = {&a, &b};
    struct topic *t;
    struct mx x;
    int i;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 2);
    for (i = 0; i < 4; i++) {
        a = consumer_of(&x, "a", "t");
        b = consumer_of(&x, "b", "t");
        assert_int_equal(enter(&a), ERR_OK);
        assert_int_equal(a.epoch, 2 * i + 1);
        assert_int_equal(enter(&b), ERR_OK);
        settle(both, 2);
        topic_unref(&t);
        if (i % 2)
            fx_checkpoint(&x.f);
        fx_crash(&x.f);
        t = topic_find(x.f.b, SLICE_LIT("t"));
        assert_int_equal(alive(&a), ERR_UNKNOWN_MEMBER);
        assert_int_equal(pulse(&b, false, GROUP_EPOCH_LEAVE), ERR_UNKNOWN_MEMBER);
        assert_state(&x, "g", GROUP_EMPTY);
    }
    topic_unref(&t);
    mx_end(&x);
}

static void test_size(void **state)
{
    struct group_conf conf;
    struct consumer a, b;
    struct mx x;

    mx_start(&x);
    groups_conf_get(x.f.b, &conf);
    conf.consumer_size_max = 1;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    a = consumer_of(&x, "a", "t");
    b = consumer_of(&x, "b", "t");
    assert_int_equal(enter(&a), ERR_OK);
    assert_int_equal(enter(&b), ERR_GROUP_MAX_SIZE);
    assert_int_equal(alive(&a), ERR_OK);
    mx_end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_join),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_revocation_timeout),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_static),
        cmocka_unit_test(test_topics_change),
        cmocka_unit_test(test_regex),
        cmocka_unit_test(test_assignors),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
