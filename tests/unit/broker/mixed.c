/* Groups on their way from the classic protocol to the consumer protocol and back, member by member:
 * by scenario, and with random members, of whom no two may have a partition at once. */
#include "members_fixture.h"

#include "broker/consumer_int.h"

#define PARTITIONS 6
#define MEN        6

static uint64_t rng;
static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

/* A client of either protocol that subscribes to the topic "t". */
struct man {
    struct mx *x;
    struct group_wait wait;
    bool heartbeats;  /* the consumer protocol */
    bool cooperative; /* classic: keeps its partitions while it joins again */
    char id[LIMIT_MEMBER_ID + 1], instance[8];
    enum { OUT, JOINED, IN } at;
    int32_t epoch;
    enum err e;
    bool own[PARTITIONS], next[PARTITIONS], told;
    char members[16][LIMIT_MEMBER_ID + 1];
    unsigned members_n;
    int64_t beat_ms;
    struct man *all; /* MEN of them; NULL: alone */
    struct topic *topic;
};

static void put16(uint8_t **p, unsigned v)
{
    *(*p)++ = (uint8_t)(v >> 8);
    *(*p)++ = (uint8_t)v;
}

static void put32(uint8_t **p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p, v & 0xffff);
}

/* Topic "t" with these partitions, if there are any. */
static void put_parts(uint8_t **p, const bool *own)
{
    uint32_t n = 0, i;

    for (i = 0; i < PARTITIONS; i++)
        n += own[i];
    put32(p, n > 0);
    if (n == 0)
        return;
    put16(p, 1);
    *(*p)++ = 't';
    put32(p, n);
    for (i = 0; i < PARTITIONS; i++)
        if (own[i])
            put32(p, i);
}

/* A subscription: version 1 if it says what it owns, else 0. */
static struct slice metadata_of(struct man *m, uint8_t *buf)
{
    uint8_t *p = buf;

    put16(&p, m->cooperative);
    put32(&p, 1);
    put16(&p, 1);
    *p++ = 't';
    put32(&p, UINT32_MAX);
    if (m->cooperative)
        put_parts(&p, m->own);
    return slice_of(buf, (size_t)(p - buf));
}

static void owned_check(struct man *m)
{
    int i, k, n;

    for (i = 0; m->all && i < PARTITIONS; i++) {
        for (k = n = 0; k < MEN; k++)
            n += m->all[k].own[i];
        assert_in_range(n, 0, 1);
    }
}

static void abandon(struct man *m)
{
    m->at = OUT;
    m->told = false;
    memset(m->own, 0, sizeof m->own);
}

/* ---- the classic protocol ---- */

static void joined(void *arg, const struct group_join_result *r)
{
    struct man *m = arg;
    unsigned i;

    m->e = r->e;
    if (r->e == ERR_OK || r->e == ERR_MEMBER_ID_REQUIRED)
        text_keep(m->id, sizeof m->id, r->member_id);
    m->members_n = r->members_n;
    for (i = 0; i < r->members_n; i++)
        text_keep(m->members[i], sizeof m->members[i], r->members[i].member_id);
    if (r->e == ERR_OK) {
        m->epoch = r->generation;
        m->at = JOINED;
    } else if (r->e != ERR_MEMBER_ID_REQUIRED && r->e != ERR_REBALANCE_IN_PROGRESS) {
        abandon(m);
        m->id[0] = 0;
    }
}

static void taken(void *arg, struct slice name, int32_t partition)
{
    struct man *m = arg;

    assert_true(slice_eq_str(name, "t"));
    m->next[partition] = true;
}

static void synced(void *arg, const struct group_sync_result *r)
{
    struct man *m = arg;

    m->e = r->e;
    if (r->e && r->e != ERR_REBALANCE_IN_PROGRESS) {
        abandon(m);
        m->id[0] = 0;
    }
    if (r->e)
        return;
    memset(m->next, 0, sizeof m->next);
    if (r->assignment.len)
        assert_true(assignment_read(r->assignment, taken, m));
    memcpy(m->own, m->next, sizeof m->own);
    m->at = IN;
    owned_check(m);
}

static void join_now(struct man *m)
{
    uint8_t buf[128];
    struct group_protocol p = {SLICE_LIT("a"), metadata_of(m, buf)};
    struct group_join j = {.group = SLICE_LIT("g"),
                           .member_id = slice_str(m->id),
                           .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                           .protocol_type = SLICE_LIT("consumer"),
                           .protocols = &p,
                           .protocols_n = 1,
                           .session_timeout_ms = SESSION_MS,
                           .rebalance_timeout_ms = REBALANCE_MS,
                           .member_id_required = true};

    if (!m->cooperative)
        memset(m->own, 0, sizeof m->own);
    p.metadata = metadata_of(m, buf);
    m->beat_ms = m->x->now;
    m->e = ERR_AGAIN;
    group_join(m->x->f.b, &j, m->x->now, &m->wait, joined, m);
    broker_step(m->x->f.b);
    if (m->e == ERR_MEMBER_ID_REQUIRED) {
        j.member_id = slice_str(m->id);
        m->e = ERR_AGAIN;
        group_join(m->x->f.b, &j, m->x->now, &m->wait, joined, m);
        broker_step(m->x->f.b);
    }
}

/* The leader of a classic group gives partition i to member i % n; cooperative leaders do so, too,
 * which is right because here nobody keeps anything through a rebalance of a classic group. */
static void sync_now(struct man *m)
{
    struct group_assignment a[16];
    uint8_t buf[16][64];
    struct group_sync y = {.group = SLICE_LIT("g"),
                           .member_id = slice_str(m->id),
                           .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                           .generation = m->epoch,
                           .assignments = a,
                           .assignments_n = m->members_n};
    unsigned i, k;

    for (i = 0; i < m->members_n; i++) {
        bool part[PARTITIONS] = {false};
        uint8_t *p = buf[i];

        for (k = 0; k < (unsigned)topic_partitions(m->topic); k++)
            part[k] = k % m->members_n == i;
        put16(&p, 0);
        put_parts(&p, part);
        put32(&p, UINT32_MAX);
        a[i].member_id = slice_str(m->members[i]);
        a[i].assignment = slice_of(buf[i], (size_t)(p - buf[i]));
    }
    m->e = ERR_AGAIN;
    group_sync(m->x->f.b, &y, m->x->now, &m->wait, synced, m);
    broker_step(m->x->f.b);
}

static enum err beat_now(struct man *m)
{
    struct group_member gm = {.group = SLICE_LIT("g"),
                              .member_id = slice_str(m->id),
                              .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                              .generation = m->epoch};
    enum err e = group_heartbeat(m->x->f.b, &gm, m->x->now);

    broker_step(m->x->f.b);
    m->beat_ms = m->x->now;
    if (e && e != ERR_REBALANCE_IN_PROGRESS) {
        abandon(m);
        m->id[0] = 0;
    }
    return e;
}

static enum err leave_now(struct man *m)
{
    struct group_leaver l = {.member_id = slice_str(m->id),
                             .instance_id = slice_str(m->instance[0] ? m->instance : NULL)};
    enum err e;

    abandon(m);
    e = group_leave(m->x->f.b, SLICE_LIT("g"), &l, 1, m->x->now);
    broker_step(m->x->f.b);
    m->id[0] = 0;
    return e ? e : l.e;
}

/* ---- the consumer protocol ---- */

static void told(void *arg, const struct group_consumer_result *r)
{
    struct man *m = arg;
    unsigned i;

    m->e = r->e;
    if (r->e) {
        abandon(m);
        return;
    }
    m->epoch = r->member_epoch;
    if (r->member_epoch < 0)
        return;
    m->at = IN;
    if (!r->has_assignment)
        return;
    m->told = true;
    memset(m->next, 0, sizeof m->next);
    for (i = 0; r->assignment_n && i < r->assignment[0].n; i++)
        m->next[r->assignment[0].partitions[i]] = true;
}

static enum err pulse(struct man *m, int32_t epoch)
{
    static unsigned made;
    struct slice topic = SLICE_LIT("t");
    struct group_topic_partitions own = {.n = 0};
    int32_t parts[PARTITIONS], i;
    struct group_consumer_heartbeat h = {.group = SLICE_LIT("g"),
                                         .member_epoch = epoch,
                                         .instance_id =
                                             slice_str(m->instance[0] ? m->instance : NULL),
                                         .rebalance_timeout_ms = epoch == 0 ? REBALANCE_MS : -1,
                                         .topics = epoch == 0 ? &topic : NULL,
                                         .topics_n = epoch == 0,
                                         .owned = &own};

    if (epoch == 0) {
        abandon(m);
        snprintf(m->id, sizeof m->id, "h%u", made++);
    }
    h.member_id = slice_str(m->id);
    if (m->told) {
        memcpy(m->own, m->next, sizeof m->own);
        m->told = false;
        owned_check(m);
    }
    for (i = 0; i < PARTITIONS; i++)
        if (m->own[i])
            parts[own.n++] = i;
    own.partitions = parts;
    memcpy(own.topic_uuid, topic_uuid(m->topic), 16);
    h.owned_n = own.n > 0;
    m->e = ERR_AGAIN;
    m->beat_ms = m->x->now;
    group_consumer_heartbeat(m->x->f.b, &h, m->x->now, &m->wait, told, m);
    broker_step(m->x->f.b);
    return m->e;
}

/* What the client would do next. */
static void step(struct man *m)
{
    if (m->heartbeats) {
        pulse(m, m->at == IN ? m->epoch : 0);
        return;
    }
    if (m->wait.state)
        return;
    if (m->at == JOINED && m->e == ERR_OK)
        sync_now(m);
    else if (m->at == IN && m->e == ERR_OK && beat_now(m) == ERR_OK)
        return;
    else
        join_now(m);
}

static void settle(struct man *m, int n)
{
    int round, i;

    for (round = 0; round < 30; round++)
        for (i = 0; i < n; i++)
            step(&m[i]);
    for (i = 0; i < n; i++) {
        if (m[i].told)
            memcpy(m[i].own, m[i].next, sizeof m[i].own);
        m[i].told = false;
    }
}

static const char *shown(const struct man *m)
{
    static char text[8][32];
    static unsigned at;
    char *s = text[at++ % 8];
    int i, n = 0;

    s[0] = 0;
    for (i = 0; i < PARTITIONS; i++)
        if (m->own[i])
            n += snprintf(s + n, 32 - (size_t)n, "%d ", i);
    return s;
}

static enum group_kind kind_of(struct mx *x)
{
    struct group_description d;
    enum group_kind k;

    assert_int_equal(group_describe(x->f.b, SLICE_LIT("g"), &d), ERR_OK);
    k = d.kind;
    group_description_fini(&d);
    return k;
}

static void men_start(struct mx *x, struct man *m, int n, const char *kinds)
{
    struct topic *t;
    int i;

    mx_start(x);
    t = fx_topic(&x->f, "t", PARTITIONS);
    memset(m, 0, (size_t)n * sizeof *m);
    for (i = 0; i < n; i++) {
        m[i].x = x;
        m[i].topic = t;
        m[i].heartbeats = kinds[i] == 'h';
        m[i].cooperative = kinds[i] == 'c';
    }
}

static void men_end(struct mx *x, struct man *m)
{
    topic_unref(&m[0].topic);
    mx_end(x);
}

static void test_upgrade(void **state)
{
    struct group_description d;
    struct man m[3];
    struct mx x;
    int32_t before;

    men_start(&x, m, 3, "ceh");
    settle(m, 2);
    assert_string_equal(shown(&m[0]), "0 2 4 ");
    assert_string_equal(shown(&m[1]), "1 3 5 ");
    before = m[0].epoch;
    /* one comes by heartbeat: the others are to join again, with what they had */
    assert_int_equal(pulse(&m[2], 0), ERR_OK);
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    assert_int_equal(m[2].epoch, before + 1);
    assert_int_equal(group_describe(x.f.b, SLICE_LIT("g"), &d), ERR_OK);
    assert_int_equal(d.members_n, 3);
    assert_true(d.members[0].classic && d.members[1].classic && !d.members[2].classic);
    assert_int_equal(d.members[0].assigned[0].n, 3);
    group_description_fini(&d);
    assert_int_equal(beat_now(&m[0]), ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(pulse(&m[2], m[2].epoch), ERR_OK);
    assert_string_equal(shown(&m[2]), "");
    /* the cooperative one is told first what to give up */
    join_now(&m[0]);
    assert_int_equal(m[0].e, ERR_OK);
    assert_int_equal(m[0].epoch, before);
    sync_now(&m[0]);
    assert_string_equal(shown(&m[0]), "0 2 ");
    pulse(&m[2], m[2].epoch);
    pulse(&m[2], m[2].epoch);
    assert_string_equal(shown(&m[2]), "");
    assert_int_equal(beat_now(&m[0]), ERR_REBALANCE_IN_PROGRESS);
    join_now(&m[0]);
    assert_int_equal(m[0].epoch, before + 1);
    sync_now(&m[0]);
    assert_int_equal(beat_now(&m[0]), ERR_OK);
    pulse(&m[2], m[2].epoch);
    pulse(&m[2], m[2].epoch);
    assert_string_equal(shown(&m[2]), "4 ");
    /* the eager one gave up everything before it joined */
    settle(m, 3);
    assert_string_equal(shown(&m[0]), "0 2 ");
    assert_string_equal(shown(&m[1]), "1 3 ");
    assert_string_equal(shown(&m[2]), "4 5 ");
    /* the others go over one by one */
    assert_int_equal(leave_now(&m[0]), ERR_OK);
    m[0].heartbeats = true;
    settle(m, 3);
    assert_int_equal(leave_now(&m[1]), ERR_OK);
    m[1].heartbeats = true;
    settle(m, 3);
    assert_int_equal(group_describe(x.f.b, SLICE_LIT("g"), &d), ERR_OK);
    assert_int_equal(d.state, GROUP_STABLE);
    assert_int_equal(d.kind, GROUP_CONSUMER);
    assert_int_equal(d.members_n, 3);
    group_description_fini(&d);
    men_end(&x, m);
}

static void test_downgrade(void **state)
{
    struct man m[3];
    struct mx x;

    men_start(&x, m, 3, "hhe");
    settle(m, 3); /* one of the classic protocol joins a consumer group */
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    assert_int_equal(m[2].at, IN);
    assert_int_equal(strlen(shown(&m[2])), 4);
    assert_int_equal(pulse(&m[0], GROUP_EPOCH_LEAVE), ERR_OK);
    abandon(&m[0]);
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    m[0].heartbeats = false;
    settle(m, 3);
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    /* the last one of the new protocol goes silently */
    abandon(&m[1]);
    m[1].heartbeats = false;
    mx_pass(&x, 40000);
    m[0].at = m[2].at = OUT; /* their sessions were over before */
    m[0].id[0] = m[1].id[0] = m[2].id[0] = 0;
    settle(m, 3);
    mx_pass(&x, 5000);
    settle(m, 3);
    assert_int_equal(kind_of(&x), GROUP_CLASSIC);
    assert_state(&x, "g", GROUP_STABLE);
    assert_int_equal(strlen(shown(&m[0])) + strlen(shown(&m[1])) + strlen(shown(&m[2])), 12);
    men_end(&x, m);
}

/* The last one of the new protocol leaves: those of the old one are to join again. */
static void test_downgrade_leave(void **state)
{
    struct man m[2];
    struct mx x;
    int32_t before;

    men_start(&x, m, 2, "he");
    settle(m, 2);
    before = m[1].epoch;
    assert_int_equal(pulse(&m[0], GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(kind_of(&x), GROUP_CLASSIC);
    assert_state(&x, "g", GROUP_PREPARING_REBALANCE);
    assert_int_equal(beat_now(&m[1]), ERR_REBALANCE_IN_PROGRESS);
    settle(&m[1], 1);
    assert_string_equal(shown(&m[1]), "0 1 2 3 4 5 ");
    assert_true(m[1].epoch > before);
    men_end(&x, m);
}

/* A static member changes its protocol, and back. */
static void test_static(void **state)
{
    struct man m[3];
    struct mx x;

    men_start(&x, m, 3, "eee");
    snprintf(m[0].instance, sizeof m[0].instance, "i-0");
    snprintf(m[1].instance, sizeof m[1].instance, "i-1");
    settle(m, 2);
    assert_string_equal(shown(&m[0]), "0 2 4 ");
    /* it stops without leaving, and comes back by heartbeat, with what it had */
    m[0].heartbeats = true;
    assert_int_equal(pulse(&m[0], 0), ERR_OK);
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    settle(m, 2);
    assert_string_equal(shown(&m[0]), "0 2 4 ");
    assert_string_equal(shown(&m[1]), "1 3 5 ");
    /* and by join: the only one that heartbeat */
    m[0].heartbeats = false;
    m[0].id[0] = 0;
    abandon(&m[0]);
    join_now(&m[0]);
    assert_int_equal(kind_of(&x), GROUP_CLASSIC);
    settle(m, 2);
    assert_int_equal(m[0].at, IN);
    assert_int_equal(m[1].at, IN);
    assert_state(&x, "g", GROUP_STABLE);
    /* an instance that a member of the new protocol has is not to be had by another of it */
    m[0].heartbeats = true;
    assert_int_equal(pulse(&m[0], 0), ERR_OK);
    snprintf(m[2].instance, sizeof m[2].instance, "i-0");
    m[2].heartbeats = true;
    assert_int_equal(pulse(&m[2], 0), ERR_UNRELEASED_INSTANCE);
    men_end(&x, m);
}

/* Members of the classic protocol have their rebalance timeout to join, and to sync. */
static void test_timeouts(void **state)
{
    struct man m[3];
    struct mx x;
    unsigned n;
    int i;

    men_start(&x, m, 3, "eeh");
    settle(m, 2);
    assert_int_equal(pulse(&m[2], 0), ERR_OK);
    assert_int_equal(beat_now(&m[1]), ERR_REBALANCE_IN_PROGRESS);
    join_now(&m[1]);
    assert_int_equal(m[1].e, ERR_OK); /* but it never syncs */
    for (i = 0; i < REBALANCE_MS; i += 5000) {
        assert_int_equal(beat_now(&m[0]), ERR_REBALANCE_IN_PROGRESS);
        assert_int_equal(beat_now(&m[1]), ERR_OK);
        assert_int_equal(pulse(&m[2], m[2].epoch), ERR_OK);
        mx_pass(&x, 5000);
    }
    assert_int_equal(beat_now(&m[0]), ERR_UNKNOWN_MEMBER);
    assert_int_equal(beat_now(&m[1]), ERR_UNKNOWN_MEMBER);
    state_of(&x, "g", &n);
    assert_int_equal(n, 1);
    settle(&m[2], 1);
    assert_string_equal(shown(&m[2]), "0 1 2 3 4 5 ");
    men_end(&x, m);
}

static void test_checks(void **state)
{
    struct group_conf conf;
    struct client other;
    struct man m[2];
    struct mx x;
    int32_t right;

    men_start(&x, m, 2, "eh");
    groups_conf_get(x.f.b, &conf);
    conf.upgrade = false;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    settle(m, 1);
    assert_int_equal(pulse(&m[1], 0), ERR_GROUP_NOT_FOUND);
    assert_int_equal(kind_of(&x), GROUP_CLASSIC);
    conf.upgrade = true;
    conf.downgrade = false;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    assert_int_equal(pulse(&m[1], 0), ERR_OK);
    settle(m, 2);
    /* another protocol than the members have; other bytes than consumers write */
    other = client_of(&x, "g");
    join(&other);
    assert_int_equal(other.e, ERR_INCONSISTENT_PROTOCOL);
    other.type = "connect";
    join(&other);
    assert_int_equal(other.e, ERR_INCONSISTENT_PROTOCOL);
    /* generations and ids */
    right = m[0].epoch;
    {
        struct group_member gm = {
            .group = SLICE_LIT("g"), .member_id = slice_str(m[0].id), .generation = right + 1};

        assert_int_equal(group_heartbeat(x.f.b, &gm, x.now), ERR_ILLEGAL_GENERATION);
        assert_int_equal(group_commit_check(x.f.b, &gm, false, x.now), ERR_ILLEGAL_GENERATION);
        gm.generation = right;
        assert_int_equal(group_commit_check(x.f.b, &gm, false, x.now), ERR_OK);
        gm.member_id = slice_str(m[1].id); /* that one speaks the other protocol */
        assert_int_equal(group_heartbeat(x.f.b, &gm, x.now), ERR_UNKNOWN_MEMBER);
        gm.instance_id = SLICE_LIT("none");
        assert_int_equal(group_heartbeat(x.f.b, &gm, x.now), ERR_UNKNOWN_MEMBER);
    }
    m[0].epoch++;
    sync_now(&m[0]);
    assert_int_equal(m[0].e, ERR_ILLEGAL_GENERATION);
    settle(m, 2);
    /* no downgrade: the group stays what it is */
    assert_int_equal(pulse(&m[1], GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(kind_of(&x), GROUP_CONSUMER);
    men_end(&x, m);
}

/* ---- random ---- */

/* Who said nothing for long takes itself for out, as a real client does. */
static void late_check(struct man *m)
{
    int i;

    for (i = 0; i < MEN; i++)
        if (m[i].at != OUT && m[i].x->now - m[i].beat_ms >= 8000 && !m[i].wait.state) {
            abandon(&m[i]);
            m[i].id[0] = 0;
        }
}

static void change(struct man *m)
{
    group_wait_cancel(m->x->f.b, &m->wait);
    if (rnd(3) && m->at != OUT) {
        if (m->heartbeats)
            pulse(m, GROUP_EPOCH_LEAVE);
        else
            leave_now(m);
    }
    abandon(m);
    m->id[0] = 0;
    m->heartbeats = rnd(2);
    m->cooperative = false;
}

/* Returns the kinds of group that it was, as bits. */
static int run(uint64_t seed)
{
    struct man m[MEN];
    int i, p, n, kinds = 0;
    struct mx x;

    rng = seed;
    men_start(&x, m, MEN, "eheheh");
    for (i = 0; i < MEN; i++) {
        m[i].all = m;
        if (i < 2)
            snprintf(m[i].instance, sizeof m[i].instance, "i-%d", i);
    }
    for (i = 0; i < 2000; i++) {
        struct man *one = &m[rnd(MEN)];

        switch (rnd(30)) {
        case 0:
            change(one);
            break;
        case 1:
        case 2:
            mx_pass(&x, rnd(3000));
            late_check(m);
            break;
        default:
            step(one);
            break;
        }
        if (i % 100 == 0)
            kinds |= 1 << kind_of(&x);
    }
    for (i = 0; i < 60; i++) {
        for (n = 0; n < MEN; n++)
            step(&m[n]);
        mx_pass(&x, 1000);
    }
    settle(m, MEN);
    for (p = 0; p < PARTITIONS; p++) {
        for (i = n = 0; i < MEN; i++)
            n += m[i].own[p];
        assert_int_equal(n, 1);
    }
    assert_state(&x, "g", GROUP_STABLE);
    for (i = 0; i < MEN; i++)
        group_wait_cancel(x.f.b, &m[i].wait);
    mx_pass(&x, 600000);
    assert_int_equal(atomic_load(&x.f.b->coordinator->bytes), 0);
    men_end(&x, m);
    return kinds;
}

static void test_random(void **state)
{
    uint64_t seed;
    int both = 0;

    for (seed = 1; seed <= 12; seed++)
        both += run(seed) == (1 << GROUP_CLASSIC | 1 << GROUP_CONSUMER);
    assert_true(both > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upgrade),         cmocka_unit_test(test_downgrade),
        cmocka_unit_test(test_downgrade_leave), cmocka_unit_test(test_static),
        cmocka_unit_test(test_timeouts),        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
