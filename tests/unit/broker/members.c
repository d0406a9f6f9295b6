/* Classic groups with members, by scenario, on a clock that the test moves. */
#include "journal/journal_int.h"
#include "members_fixture.h"

static void test_three_members(void **state)
{
    struct client c[3];
    struct mx x;
    unsigned n;
    int i;

    mx_start(&x);
    for (i = 0; i < 3; i++)
        c[i] = client_of(&x, "g");
    assert_state(&x, "g", GROUP_DEAD);
    join_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_MEMBER_ID_REQUIRED);
    assert_int_equal(strncmp(c[0].id, "client-", 7), 0);
    assert_int_equal(strlen(c[0].id), 7 + 36);
    assert_state(&x, "g", GROUP_EMPTY);
    join_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[0].generation, 1);
    assert_string_equal(c[0].leader, c[0].id);
    assert_int_equal(c[0].members_n, 1);
    assert_string_equal(c[0].protocol, "range");
    assert_string_equal(c[0].metadata[0], "r");
    assert_state(&x, "g", GROUP_COMPLETING_REBALANCE);
    assert_int_equal(beat(&c[0]), ERR_OK);
    assert_int_equal(commits(&c[0]), ERR_REBALANCE_IN_PROGRESS);
    sync_ask(&c[0]);
    assert_string_equal(c[0].assignment, "a:0");
    assert_state(&x, "g", GROUP_STABLE);
    assert_int_equal(commits(&c[0]), ERR_OK);

    /* the second one's join waits for the first */
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_AGAIN);
    assert_state(&x, "g", GROUP_PREPARING_REBALANCE);
    assert_int_equal(beat(&c[0]), ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(commits(&c[0]), ERR_OK);
    sync_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_REBALANCE_IN_PROGRESS);
    join(&c[2]);
    join(&c[0]);
    for (i = 0; i < 3; i++) {
        assert_int_equal(c[i].e, ERR_OK);
        assert_int_equal(c[i].generation, 2);
        assert_string_equal(c[i].leader, c[0].id);
        assert_int_equal(c[i].members_n, i == 0 ? 3 : 0);
    }
    /* who asks before the leader has spoken waits */
    sync_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_AGAIN);
    assert_int_equal(beat(&c[2]), ERR_OK);
    sync_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[1].e, ERR_OK);
    sync_ask(&c[2]);
    for (i = 0; i < 3; i++) {
        char want[8];

        snprintf(want, sizeof want, "a:%d", i);
        assert_string_equal(c[i].assignment, want);
    }
    /* one leaves, one falls silent */
    assert_int_equal(leave(&c[1]), ERR_OK);
    assert_int_equal(leave(&c[1]), ERR_UNKNOWN_MEMBER);
    assert_int_equal(beat(&c[1]), ERR_UNKNOWN_MEMBER);
    assert_int_equal(beat(&c[0]), ERR_REBALANCE_IN_PROGRESS);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_AGAIN);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[0].generation, 3);
    assert_int_equal(c[0].members_n, 1);
    assert_int_equal(beat(&c[2]), ERR_UNKNOWN_MEMBER);
    sync_ask(&c[0]);
    state_of(&x, "g", &n);
    assert_int_equal(n, 1);
    /* nobody says anything any more */
    mx_pass(&x, SESSION_MS);
    assert_state(&x, "g", GROUP_EMPTY);
    assert_int_equal(group_generation(x.f.b, SLICE_LIT("g")), 4);
    assert_int_equal(atomic_load(&x.f.b->coordinator->live), 0);
    mx_end(&x);
}

static void test_initial_delay(void **state)
{
    struct group_conf conf;
    struct client c[3];
    struct mx x;
    int i;

    mx_start(&x);
    group_conf_default(&conf);
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    for (i = 0; i < 3; i++)
        c[i] = client_of(&x, "g");
    join(&c[0]);
    mx_pass(&x, 2999);
    assert_int_equal(c[0].e, ERR_AGAIN);
    join(&c[1]); /* it comes just in time: another delay */
    mx_pass(&x, 1);
    assert_int_equal(c[0].e, ERR_AGAIN);
    mx_pass(&x, 2999);
    assert_int_equal(c[0].e, ERR_AGAIN);
    mx_pass(&x, 1);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[1].e, ERR_OK);
    assert_int_equal(c[0].generation, 1);
    assert_int_equal(c[0].members_n, 2);
    /* a group that has members is not delayed */
    sync_ask(&c[0]);
    sync_ask(&c[1]);
    join(&c[2]);
    join(&c[1]);
    join(&c[0]);
    assert_int_equal(c[2].e, ERR_OK);
    mx_end(&x);
}

/* The delay is extended for the longest rebalance timeout at most. */
static void test_initial_delay_ends(void **state)
{
    struct group_conf conf;
    struct client c[20];
    int64_t began;
    struct mx x;
    int i;

    mx_start(&x);
    group_conf_default(&conf);
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    began = x.now;
    for (i = 0; i < 20; i++) {
        c[i] = client_of(&x, "g");
        join(&c[i]);
        if (c[0].e == ERR_OK)
            break;
        mx_pass(&x, 2000);
    }
    assert_true(x.now - began >= REBALANCE_MS && x.now - began <= REBALANCE_MS + 2000);
    assert_int_equal(c[0].members_n, 15);
    mx_end(&x);
}

static void test_rebalance_timeout(void **state)
{
    struct client c[3];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 3; i++)
        c[i] = client_of(&x, "g");
    group_stable(&x, c, 2);
    join(&c[2]);
    /* the second beats, but does not join: it is dropped when the time is over */
    for (i = 0; i < REBALANCE_MS; i += 5000) {
        assert_int_equal(beat(&c[1]), ERR_REBALANCE_IN_PROGRESS);
        if (i == 5000)
            join(&c[0]);
        else if (i < 5000)
            beat(&c[0]);
        assert_int_equal(c[2].e, ERR_AGAIN);
        mx_pass(&x, 5000);
    }
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[2].e, ERR_OK);
    assert_int_equal(c[0].members_n, 2);
    assert_int_equal(beat(&c[1]), ERR_UNKNOWN_MEMBER);
    mx_end(&x);
}

/* A leader that does not join again is not the leader any more, nor one that is gone. */
static void test_leader(void **state)
{
    struct client c[3];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 3; i++)
        c[i] = client_of(&x, "g");
    group_stable(&x, c, 3);
    assert_string_equal(c[1].leader, c[0].id);
    /* its metadata is the same: followers only ask, the leader starts a rebalance */
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_OK);
    assert_state(&x, "g", GROUP_STABLE);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_AGAIN);
    join(&c[1]);
    join(&c[2]);
    assert_int_equal(c[0].e, ERR_OK);
    assert_state(&x, "g", GROUP_COMPLETING_REBALANCE);
    /* it dies before it syncs: the others wait, and are told to join again */
    sync_ask(&c[1]);
    sync_ask(&c[2]);
    assert_int_equal(c[1].e, ERR_AGAIN);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(c[1].e, ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(c[2].e, ERR_REBALANCE_IN_PROGRESS);
    join(&c[2]);
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_OK);
    assert_string_equal(c[2].leader, c[1].id);
    assert_int_equal(c[1].members_n, 2);
    sync_ask(&c[1]);
    sync_ask(&c[2]);
    assert_string_equal(c[2].assignment, "a:1");
    mx_end(&x);
}

/* Who joined, but does not sync, is removed after the rebalance timeout. */
static void test_sync_timeout(void **state)
{
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 2; i++)
        c[i] = client_of(&x, "g");
    group_stable(&x, c, 2);
    join(&c[0]);
    join(&c[1]);
    sync_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_OK);
    for (i = 0; i < REBALANCE_MS - 5000; i += 5000) {
        mx_pass(&x, 5000);
        assert_int_equal(beat(&c[0]), ERR_OK);
        assert_int_equal(beat(&c[1]), ERR_OK);
    }
    mx_pass(&x, 5000);
    assert_int_equal(beat(&c[1]), ERR_UNKNOWN_MEMBER);
    assert_int_equal(beat(&c[0]), ERR_REBALANCE_IN_PROGRESS);
    mx_end(&x);
}

static void test_metadata(void **state)
{
    struct client c[3];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 3; i++)
        c[i] = client_of(&x, "g");
    /* they like different protocols best; what most like is taken, if all have it */
    c[1].protocols[0] = (struct group_protocol){SLICE_LIT("roundrobin"), SLICE_LIT("x")};
    c[1].protocols[1] = (struct group_protocol){SLICE_LIT("range"), SLICE_LIT("y")};
    c[2].protocols[0] = (struct group_protocol){SLICE_LIT("sticky"), SLICE_LIT("s")};
    c[2].protocols[1] = (struct group_protocol){SLICE_LIT("roundrobin"), SLICE_LIT("t")};
    c[2].protocols[2] = (struct group_protocol){SLICE_LIT("range"), SLICE_LIT("u")};
    c[2].protocols_n = 3;
    group_stable(&x, c, 3);
    assert_string_equal(c[0].protocol, "roundrobin");
    assert_string_equal(c[0].metadata[0], "rr");
    assert_string_equal(c[0].metadata[1], "x");
    assert_string_equal(c[0].metadata[2], "t");
    /* a follower's metadata changes: all join again */
    c[1].protocols[0].metadata = SLICE_LIT("z");
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_AGAIN);
    join(&c[2]);
    join(&c[0]);
    assert_string_equal(c[0].metadata[1], "z");
    /* in the middle of it again, the same or changed */
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_OK);
    sync_ask(&c[2]);
    c[1].protocols[0].metadata = SLICE_LIT("w");
    join(&c[1]);
    assert_int_equal(c[2].e, ERR_REBALANCE_IN_PROGRESS);
    /* what does not fit is refused */
    group_wait_cancel(x.f.b, &c[1].wait);
    c[1].protocols[0] = (struct group_protocol){SLICE_LIT("other"), SLICE_LIT("z")};
    c[1].protocols_n = 1;
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_INCONSISTENT_PROTOCOL);
    c[1].protocols_n = 0;
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_INCONSISTENT_PROTOCOL);
    c[1] = client_of(&x, "g");
    c[1].type = "connect";
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_INCONSISTENT_PROTOCOL);
    c[1] = client_of(&x, "new");
    c[1].type = "";
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_INCONSISTENT_PROTOCOL);
    assert_int_equal(atomic_load(&x.f.b->coordinator->live), 1);
    mx_end(&x);
}

static void test_static_members(void **state)
{
    struct client c[2], again, other;
    struct group_leaver l[3];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 2; i++) {
        c[i] = client_of(&x, "g");
        c[i].instance = i ? "i-1" : "i-0";
        c[i].skip = true;
    }
    /* a static member needs no id first */
    join_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(strncmp(c[0].id, "i-0-", 4), 0);
    group_stable(&x, c, 2);
    /* a restart: the same instance, no id. Its assignment stays, nobody joins again */
    again = client_of(&x, "g");
    again.instance = "i-1";
    join_ask(&again);
    assert_int_equal(again.e, ERR_OK);
    assert_int_equal(again.generation, c[0].generation);
    assert_string_not_equal(again.id, c[1].id);
    sync_ask(&again);
    assert_string_equal(again.assignment, c[1].assignment);
    assert_int_equal(beat(&c[0]), ERR_OK);
    /* what it was before is fenced, and unknown without its instance id */
    assert_int_equal(beat(&c[1]), ERR_FENCED_INSTANCE);
    sync_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_FENCED_INSTANCE);
    join_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_FENCED_INSTANCE);
    assert_int_equal(commits(&c[1]), ERR_FENCED_INSTANCE);
    assert_int_equal(leave(&c[1]), ERR_FENCED_INSTANCE);
    c[1].instance = NULL;
    assert_int_equal(beat(&c[1]), ERR_UNKNOWN_MEMBER);
    other = client_of(&x, "g");
    other.instance = "i-9";
    text_keep(other.id, sizeof other.id, SLICE_LIT("no"));
    assert_int_equal(beat(&other), ERR_UNKNOWN_MEMBER);
    /* the leader restarts: it is the leader still, and is told to keep the assignment */
    c[1] = again;
    again = client_of(&x, "g");
    again.instance = "i-0";
    again.skip = true;
    join_ask(&again);
    assert_int_equal(again.e, ERR_OK);
    assert_true(again.skip_assignment);
    assert_string_equal(again.leader, again.id);
    assert_int_equal(again.members_n, 2);
    again.members_n = 0;
    sync_ask(&again);
    assert_string_equal(again.assignment, "a:0");
    c[0] = again;
    /* the leader restarts, an old client: it must not take itself for the leader */
    again = client_of(&x, "g");
    again.instance = "i-0";
    join_ask(&again);
    assert_false(again.skip_assignment);
    assert_string_equal(again.leader, c[0].id);
    assert_int_equal(again.members_n, 0);
    c[0] = again;
    /* a restart with another choice of protocol is a rebalance */
    again = client_of(&x, "g");
    again.instance = "i-1";
    again.protocols[0].name = SLICE_LIT("roundrobin");
    again.protocols_n = 1;
    join_ask(&again);
    assert_int_equal(again.e, ERR_AGAIN);
    assert_state(&x, "g", GROUP_PREPARING_REBALANCE);
    /* and once more while that waits: the one that waited is fenced */
    other = client_of(&x, "g");
    other.instance = "i-1";
    join_ask(&other);
    assert_int_equal(again.e, ERR_FENCED_INSTANCE);
    join(&c[0]);
    assert_int_equal(other.e, ERR_OK);
    /* an administrator removes it by its instance */
    l[0] = (struct group_leaver){.member_id = SLICE_LIT(""), .instance_id = SLICE_LIT("i-1")};
    l[1] = (struct group_leaver){.member_id = SLICE_LIT(""), .instance_id = SLICE_LIT("i-7")};
    l[2] = (struct group_leaver){.member_id = SLICE_LIT("who")};
    assert_int_equal(group_leave(x.f.b, SLICE_LIT("g"), l, 3, x.now), ERR_OK);
    assert_int_equal(l[0].e, ERR_OK);
    assert_int_equal(l[1].e, ERR_UNKNOWN_MEMBER);
    assert_int_equal(l[2].e, ERR_UNKNOWN_MEMBER);
    assert_state(&x, "g", GROUP_PREPARING_REBALANCE);
    mx_end(&x);
}

/* A static member that does not rejoin in time stays until its session is over. */
static void test_static_member_late(void **state)
{
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 2; i++)
        c[i] = client_of(&x, "g");
    c[1].instance = "i";
    group_stable(&x, c, 2);
    join(&c[0]);
    for (i = 0; i < REBALANCE_MS; i += 5000) {
        beat(&c[1]);
        mx_pass(&x, 5000);
    }
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[0].members_n, 2);
    assert_int_equal(beat(&c[1]), ERR_ILLEGAL_GENERATION);
    mx_end(&x);
}

/* A static leader that only beats stays a member, but not the leader. */
static void test_static_leader_late(void **state)
{
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 2; i++)
        c[i] = client_of(&x, "g");
    c[0].instance = "i";
    group_stable(&x, c, 2);
    assert_string_equal(c[1].leader, c[0].id);
    c[1].protocols[0].metadata = SLICE_LIT("changed");
    join(&c[1]);
    for (i = 0; i < REBALANCE_MS; i += 5000) {
        beat(&c[0]);
        mx_pass(&x, 5000);
    }
    assert_int_equal(c[1].e, ERR_OK);
    assert_string_equal(c[1].leader, c[1].id);
    assert_int_equal(c[1].members_n, 2);
    mx_end(&x);
}

/* Nobody joins again, and all are static: the rebalance goes on until sessions end. */
static void test_nobody_joins(void **state)
{
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 2; i++) {
        c[i] = client_of(&x, "g");
        c[i].instance = i ? "i-1" : "i-0";
    }
    group_stable(&x, c, 2);
    c[1].protocols[0].metadata = SLICE_LIT("changed");
    join(&c[1]);
    assert_int_equal(leave(&c[1]), ERR_OK);
    assert_int_equal(c[1].e, ERR_UNKNOWN_MEMBER);
    for (i = 0; i < 2 * REBALANCE_MS; i += 5000) {
        assert_int_equal(beat(&c[0]), ERR_REBALANCE_IN_PROGRESS);
        mx_pass(&x, 5000);
    }
    assert_state(&x, "g", GROUP_PREPARING_REBALANCE);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_OK);
    mx_end(&x);
}

static void test_pending_ids(void **state)
{
    struct client c[2];
    struct mx x;

    mx_start(&x);
    c[0] = client_of(&x, "g");
    c[1] = client_of(&x, "g");
    group_stable(&x, c, 1);
    join_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_MEMBER_ID_REQUIRED);
    assert_state(&x, "g", GROUP_STABLE);
    /* a rebalance waits for the id to be used, or to expire */
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_AGAIN);
    mx_pass(&x, SESSION_MS - 1);
    assert_int_equal(c[0].e, ERR_AGAIN);
    mx_pass(&x, 1);
    assert_int_equal(c[0].e, ERR_OK);
    join_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_UNKNOWN_MEMBER);
    /* an id can be given back */
    c[1].id[0] = 0;
    join_ask(&c[1]);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_OK); /* COMPLETING: the same metadata */
    sync_ask(&c[0]);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_AGAIN);
    assert_int_equal(leave(&c[1]), ERR_OK);
    assert_int_equal(c[0].e, ERR_OK);
    /* ids that nobody uses are forgotten with their group */
    c[1] = client_of(&x, "h");
    join_ask(&c[1]);
    assert_int_equal(atomic_load(&x.f.b->coordinator->live), 2);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(atomic_load(&x.f.b->coordinator->live), 0);
    mx_end(&x);
}

static void test_unknown(void **state)
{
    struct group_leaver l = {.member_id = SLICE_LIT("m")};
    char longname[LIMIT_GROUP_NAME + 2];
    struct client c;
    struct mx x;

    mx_start(&x);
    c = client_of(&x, "g");
    text_keep(c.id, sizeof c.id, SLICE_LIT("somebody"));
    c.generation = 1;
    join_ask(&c);
    assert_int_equal(c.e, ERR_UNKNOWN_MEMBER);
    c.generation = 1;
    sync_ask(&c);
    assert_int_equal(c.e, ERR_UNKNOWN_MEMBER);
    assert_int_equal(beat(&c), ERR_UNKNOWN_MEMBER);
    assert_int_equal(commits(&c), ERR_GROUP_NOT_FOUND);
    assert_int_equal(group_leave(x.f.b, SLICE_LIT("g"), &l, 1, x.now), ERR_UNKNOWN_MEMBER);
    assert_state(&x, "g", GROUP_DEAD);
    c = client_of(&x, "");
    join_ask(&c);
    assert_int_equal(c.e, ERR_GROUP_ID);
    sync_ask(&c);
    assert_int_equal(c.e, ERR_GROUP_ID);
    assert_int_equal(beat(&c), ERR_GROUP_ID);
    assert_int_equal(commits(&c), ERR_GROUP_ID);
    memset(longname, 'g', sizeof longname);
    longname[LIMIT_GROUP_NAME + 1] = 0;
    c = client_of(&x, longname);
    join_ask(&c);
    assert_int_equal(c.e, ERR_GROUP_ID);
    longname[LIMIT_GROUP_NAME] = 0;
    join(&c);
    assert_int_equal(c.e, ERR_OK);
    /* a wrong generation, a wrong protocol */
    c.generation++;
    assert_int_equal(beat(&c), ERR_ILLEGAL_GENERATION);
    assert_int_equal(commits(&c), ERR_ILLEGAL_GENERATION);
    sync_ask(&c);
    assert_int_equal(c.e, ERR_ILLEGAL_GENERATION);
    c.generation--;
    c.protocol[0] = 'x';
    sync_ask(&c);
    assert_int_equal(c.e, ERR_INCONSISTENT_PROTOCOL);
    mx_end(&x);
}

static void test_commit_check(void **state)
{
    struct group_member anybody = {
        .group = SLICE_LIT("g"), .member_id = SLICE_LIT(""), .generation = -1};
    struct topic *t;
    struct client c;
    struct mx x;

    mx_start(&x);
    /* without membership: while nobody is a member */
    assert_int_equal(group_commit_check(x.f.b, &anybody, false, x.now), ERR_OK);
    c = client_of(&x, "g");
    join_ask(&c);
    assert_int_equal(group_commit_check(x.f.b, &anybody, false, x.now), ERR_OK);
    join_ask(&c);
    assert_int_equal(group_commit_check(x.f.b, &anybody, false, x.now), ERR_UNKNOWN_MEMBER);
    assert_int_equal(group_commit_check(x.f.b, &anybody, true, x.now), ERR_OK);
    sync_ask(&c);
    assert_int_equal(group_commit_check(x.f.b, &anybody, false, x.now), ERR_UNKNOWN_MEMBER);
    assert_int_equal(commits(&c), ERR_OK);
    /* commits keep the session alive */
    mx_pass(&x, SESSION_MS - 1);
    assert_int_equal(commits(&c), ERR_OK);
    mx_pass(&x, SESSION_MS - 1);
    assert_int_equal(beat(&c), ERR_OK);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(beat(&c), ERR_UNKNOWN_MEMBER);
    assert_int_equal(commits(&c), ERR_UNKNOWN_MEMBER);
    assert_int_equal(group_commit_check(x.f.b, &anybody, false, x.now), ERR_OK);
    /* reading is for everybody */
    anybody.member_id = SLICE_NULL;
    assert_int_equal(group_fetch_check(x.f.b, &anybody), ERR_OK);
    t = fx_topic(&x.f, "t", 1);
    topic_unref(&t);
    mx_end(&x);
}

static void test_limits(void **state)
{
    struct group_conf conf;
    struct group_join j;
    struct client c[4];
    struct mx x;
    int i;

    mx_start(&x);
    groups_conf_get(x.f.b, &conf);
    conf.size_max = 2;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    for (i = 0; i < 4; i++)
        c[i] = client_of(&x, "g");
    group_stable(&x, c, 2);
    join(&c[2]);
    assert_int_equal(c[2].e, ERR_GROUP_MAX_SIZE);
    /* members that are in it may join again; the last to do so is out */
    conf.size_max = 1;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    join(&c[0]);
    assert_int_equal(c[0].e, ERR_AGAIN);
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_GROUP_MAX_SIZE);
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[0].members_n, 1);
    /* sizes */
    memset(&j, 0, sizeof j);
    conf.size_max = 0;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_CONFIG);
    conf.size_max = LIMIT_GROUP_MEMBERS + 1;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_CONFIG);
    c[3].protocols[0].metadata = slice_of(calloc(1, LIMIT_MEMBER_BYTES), LIMIT_MEMBER_BYTES);
    join(&c[3]);
    assert_int_equal(c[3].e, ERR_TOO_LARGE);
    free((void *)c[3].protocols[0].metadata.ptr);
    mx_end(&x);
}

static void test_session_timeouts(void **state)
{
    struct client c;
    struct group_join j;
    struct mx x;
    int i;
    static const int32_t bad[] = {-1, 0, 5999, 1800001};

    mx_start(&x);
    c = client_of(&x, "g");
    for (i = 0; i < 4; i++) {
        j = (struct group_join){.group = SLICE_LIT("g"),
                                .protocol_type = SLICE_LIT("consumer"),
                                .protocols = c.protocols,
                                .protocols_n = 1,
                                .session_timeout_ms = bad[i]};
        c.e = ERR_AGAIN;
        group_join(x.f.b, &j, x.now, &c.wait, on_join, &c);
        assert_int_equal(c.e, ERR_SESSION_TIMEOUT);
    }
    mx_end(&x);
}

/* A waiting join or sync whose caller goes away: not called back; the member expires. */
static void test_cancel(void **state)
{
    struct client c[2];
    struct mx x;
    int joins, i;

    mx_start(&x);
    for (i = 0; i < 2; i++)
        c[i] = client_of(&x, "g");
    group_stable(&x, c, 1);
    join(&c[1]);
    assert_int_equal(c[1].e, ERR_AGAIN);
    joins = c[1].joins;
    group_wait_cancel(x.f.b, &c[1].wait);
    group_wait_cancel(x.f.b, &c[1].wait);
    join(&c[0]); /* it counts as joined, as its connection may only be slow */
    assert_int_equal(c[0].e, ERR_OK);
    assert_int_equal(c[0].members_n, 2);
    assert_int_equal(c[1].joins, joins);
    /* it comes back with its id, by another connection */
    join_ask(&c[1]);
    assert_int_equal(c[1].e, ERR_OK);
    sync_ask(&c[1]);
    group_wait_cancel(x.f.b, &c[1].wait);
    sync_ask(&c[0]);
    assert_int_equal(c[1].syncs, 0);
    assert_int_equal(c[1].e, ERR_AGAIN);
    mx_pass(&x, SESSION_MS);
    assert_state(&x, "g", GROUP_EMPTY);
    /* cancelled while the generation is on its way to the disk */
    c[0] = client_of(&x, "h");
    join_ask(&c[0]);
    {
        struct group_join j = {.group = SLICE_LIT("h"),
                               .member_id = slice_str(c[0].id),
                               .protocol_type = SLICE_LIT("consumer"),
                               .protocols = c[0].protocols,
                               .protocols_n = 1,
                               .session_timeout_ms = SESSION_MS,
                               .rebalance_timeout_ms = -1};

        joins = c[0].joins;
        group_join(x.f.b, &j, x.now, &c[0].wait, on_join, &c[0]);
        assert_int_equal(c[0].joins, joins);
        group_wait_cancel(x.f.b, &c[0].wait);
        broker_step(x.f.b);
        assert_int_equal(c[0].joins, joins);
    }
    mx_end(&x);
}

/* A second join of a member takes the place of the first, which is answered. */
static void test_join_twice(void **state)
{
    struct client c[2], again;
    struct mx x;

    mx_start(&x);
    c[0] = client_of(&x, "g");
    c[1] = client_of(&x, "g");
    group_stable(&x, c, 1);
    join(&c[1]);
    again = c[1];
    again.wait.state = NULL;
    join_ask(&again);
    assert_int_equal(c[1].e, ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(again.e, ERR_AGAIN);
    join(&c[0]);
    assert_int_equal(again.e, ERR_OK);
    sync_ask(&again);
    c[1] = again;
    c[1].wait.state = NULL;
    sync_ask(&c[1]);
    assert_int_equal(again.e, ERR_REBALANCE_IN_PROGRESS);
    sync_ask(&c[0]);
    assert_int_equal(c[1].e, ERR_OK);
    mx_end(&x);
}

/* A new member whose join waits is dropped after five minutes; one that was told a generation is
 * not, whatever the wait. */
static void test_long_wait(void **state)
{
    struct client c[2];
    struct mx x;
    struct group_join j;
    int i;

    mx_start(&x);
    c[0] = client_of(&x, "g");
    c[1] = client_of(&x, "g");
    j = (struct group_join){.group = SLICE_LIT("g"),
                            .protocol_type = SLICE_LIT("consumer"),
                            .protocols = c[0].protocols,
                            .protocols_n = 2,
                            .session_timeout_ms = SESSION_MS,
                            .rebalance_timeout_ms = 1200000};
    group_join(x.f.b, &j, x.now, &c[0].wait, on_join, &c[0]);
    broker_step(x.f.b);
    sync_ask(&c[0]);
    join(&c[1]);
    for (i = 0; i < 300000; i += 5000) {
        assert_int_equal(c[1].e, ERR_AGAIN);
        mx_pass(&x, 5000);
        assert_int_equal(beat(&c[0]), ERR_REBALANCE_IN_PROGRESS);
    }
    assert_int_equal(c[1].e, ERR_UNKNOWN_MEMBER);
    mx_end(&x);
}

static void test_restart(void **state)
{
    struct group_durable d;
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    for (i = 0; i < 4; i++) {
        struct group_conf conf;

        c[0] = client_of(&x, "g");
        c[1] = client_of(&x, "g");
        group_stable(&x, c, 2);
        assert_int_equal(c[0].generation, 2 * i + 2);
        if (i % 2)
            fx_checkpoint(&x.f);
        fx_crash(&x.f);
        groups_conf_get(x.f.b, &conf);
        conf.initial_rebalance_delay_ms = 0;
        assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
        assert_int_equal(beat(&c[0]), ERR_UNKNOWN_MEMBER);
        assert_int_equal(commits(&c[0]), ERR_UNKNOWN_MEMBER);
        join_ask(&c[0]);
        assert_int_equal(c[0].e, ERR_UNKNOWN_MEMBER);
        assert_state(&x, "g", GROUP_EMPTY);
        assert_true(group_durable_get(x.f.b, SLICE_LIT("g"), &d));
        assert_int_equal(d.generation, 2 * i + 2);
        assert_string_equal(d.protocol_type, "consumer");
        assert_int_equal(d.empty_ms, 0);
    }
    mx_end(&x);
}

/* Nobody is told a generation that could be lost: with a journal that fails, joins do. */
static void test_durable_first(void **state)
{
    struct group_join j;
    struct client c;
    struct mx x;

    mx_start(&x);
    c = client_of(&x, "g");
    c.id_required = false;
    j = (struct group_join){.group = SLICE_LIT("g"),
                            .protocol_type = SLICE_LIT("consumer"),
                            .protocols = c.protocols,
                            .protocols_n = 2,
                            .session_timeout_ms = SESSION_MS,
                            .rebalance_timeout_ms = REBALANCE_MS};
    c.e = ERR_AGAIN;
    group_join(x.f.b, &j, x.now, &c.wait, on_join, &c);
    assert_int_equal(c.e, ERR_AGAIN);
    assert_int_equal(group_generation(x.f.b, SLICE_LIT("g")), 0);
    broker_step(x.f.b);
    assert_int_equal(c.e, ERR_OK);
    assert_int_equal(group_generation(x.f.b, SLICE_LIT("g")), 1);
    mx_end(&x);
}

/* Members are not silent while the log stands still: it is what they wait for. */
static void test_log_stands_still(void **state)
{
    struct journal *j;
    struct client c;
    struct mx x;

    mx_start(&x);
    j = x.f.b->journal;
    c = client_of(&x, "g");
    join(&c);
    sync_ask(&c);
    assert_int_equal(c.e, ERR_OK);
    atomic_store(&j->put_since_ns, io_mono_ns(j->io) - STILL_NS);
    mx_pass(&x, 3 * SESSION_MS);
    assert_true(groups_deadline_ms(x.f.b) > x.now);
    atomic_store(&j->still_ns, STILL_AFTER_MAX_NS);
    atomic_store(&j->still_end_ns, io_mono_ns(j->io));
    atomic_store(&j->put_since_ns, 0);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(beat(&c), ERR_OK);
    atomic_store(&j->still_ns, 0);
    mx_pass(&x, SESSION_MS - 1);
    assert_int_equal(beat(&c), ERR_OK);
    mx_pass(&x, SESSION_MS + 1);
    assert_int_equal(beat(&c), ERR_UNKNOWN_MEMBER);
    mx_end(&x);
}

static void list_add(void *arg, const struct group_listing *g)
{
    char one[96];

    snprintf(one, sizeof one, "%.*s/%.*s/%s/%s;", (int)g->group.len, (const char *)g->group.ptr,
             (int)g->protocol_type.len, (const char *)g->protocol_type.ptr,
             group_kind_text(g->kind), group_state_text(g->state));
    strcat(arg, one);
}

static void done_err(void *arg, enum err e, const struct errinfo *info)
{
    *(enum err *)arg = e;
}

static void test_list_describe_delete(void **state)
{
    struct slice states[] = {SLICE_LIT("stable"), SLICE_LIT("EMPTY")};
    struct slice kinds[] = {SLICE_LIT("Consumer")};
    struct group_filter filter = {.states = states, .states_n = 1};
    struct group_description d;
    struct client c[3];
    char text[512];
    struct topic *t;
    enum err e = ERR_AGAIN;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT("b"), topic_partition(t, 0), 1, SLICE_NULL, NULL),
        ERR_OK);
    c[0] = client_of(&x, "a");
    c[1] = client_of(&x, "c");
    c[2] = client_of(&x, "d");
    c[1].type = "connect";
    group_stable(&x, &c[0], 1);
    join(&c[1]);
    join_ask(&c[2]);
    text[0] = 0;
    groups_list(x.f.b, NULL, list_add, text);
    assert_string_equal(text, "a/consumer/classic/Stable;b//classic/Empty;"
                              "c/connect/classic/CompletingRebalance;d//classic/Empty;");
    text[0] = 0;
    groups_list(x.f.b, &filter, list_add, text);
    assert_string_equal(text, "a/consumer/classic/Stable;");
    filter.states_n = 2;
    text[0] = 0;
    groups_list(x.f.b, &filter, list_add, text);
    assert_string_equal(text, "a/consumer/classic/Stable;b//classic/Empty;d//classic/Empty;");
    filter.kinds = kinds;
    filter.kinds_n = 1;
    text[0] = 0;
    groups_list(x.f.b, &filter, list_add, text);
    assert_string_equal(text, "");

    assert_int_equal(group_describe(x.f.b, SLICE_LIT("a"), &d), ERR_OK);
    assert_int_equal(d.state, GROUP_STABLE);
    assert_int_equal(d.generation, 1);
    assert_true(slice_eq_str(d.protocol_type, "consumer"));
    assert_true(slice_eq_str(d.protocol, "range"));
    assert_int_equal(d.members_n, 1);
    assert_true(slice_eq_str(d.members[0].member_id, c[0].id));
    assert_true(slice_is_null(d.members[0].instance_id));
    assert_true(slice_eq_str(d.members[0].client_id, "client"));
    assert_true(slice_eq_str(d.members[0].client_host, "host"));
    assert_true(slice_eq_str(d.members[0].metadata, "r"));
    assert_true(slice_eq_str(d.members[0].assignment, "a:0"));
    group_description_fini(&d);

    /* deletion: not while it has members */
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("a"), done_err, &e, NULL), ERR_GROUP_NOT_EMPTY);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("no"), done_err, &e, NULL), ERR_GROUP_NOT_FOUND);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("d"), done_err, &e, NULL), ERR_OK);
    assert_int_equal(e, ERR_OK);
    assert_state(&x, "d", GROUP_DEAD);
    assert_int_equal(leave(&c[0]), ERR_OK);
    assert_state(&x, "a", GROUP_EMPTY);
    e = ERR_AGAIN;
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("a"), done_err, &e, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_int_equal(e, ERR_OK);
    assert_state(&x, "a", GROUP_DEAD);
    topic_unref(&t);
    mx_end(&x);
}

/* A subscription's metadata, version 0: topics and no user data. */
static size_t subscription_write(uint8_t *p, const char *topic)
{
    size_t n = strlen(topic);

    memset(p, 0, 8);
    p[5] = 1;
    p[7] = (uint8_t)n;
    memcpy(p + 8, topic, n);
    memset(p + 8 + n, 0xff, 4);
    return 12 + n;
}

static void test_offset_delete(void **state)
{
    struct topic *t, *u;
    struct partition *p;
    uint8_t meta[64];
    struct group_offset o;
    struct client c;
    enum err e = ERR_AGAIN;
    struct mx x;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    u = fx_topic(&x.f, "u", 1);
    p = topic_partition(t, 0);
    assert_int_equal(group_offset_delete(x.f.b, SLICE_LIT("g"), p, done_err, &e, NULL),
                     ERR_GROUP_NOT_FOUND);
    assert_int_equal(group_commit_wait(x.f.b, SLICE_LIT("g"), p, 5, SLICE_NULL, NULL), ERR_OK);
    c = client_of(&x, "g");
    c.protocols[0].metadata = slice_of(meta, subscription_write(meta, "t"));
    c.protocols_n = 1;
    group_stable(&x, &c, 1);
    assert_int_equal(group_offset_delete(x.f.b, SLICE_LIT("g"), p, done_err, &e, NULL),
                     ERR_GROUP_SUBSCRIBED);
    /* not subscribed to, nothing there */
    assert_int_equal(
        group_offset_delete(x.f.b, SLICE_LIT("g"), topic_partition(u, 0), done_err, &e, NULL),
        ERR_OK);
    assert_int_equal(e, ERR_OK);
    /* metadata that does not decode might be a subscription to anything */
    c.protocols[0].metadata = slice_of(meta, 8);
    join(&c);
    sync_ask(&c);
    assert_int_equal(
        group_offset_delete(x.f.b, SLICE_LIT("g"), topic_partition(u, 0), done_err, &e, NULL),
        ERR_GROUP_SUBSCRIBED);
    assert_int_equal(leave(&c), ERR_OK);
    e = ERR_AGAIN;
    assert_int_equal(group_offset_delete(x.f.b, SLICE_LIT("g"), p, done_err, &e, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_int_equal(e, ERR_OK);
    assert_int_equal(group_offset_get(x.f.b, SLICE_LIT("g"), p, &o), ERR_NOT_FOUND);
    fx_checkpoint(&x.f);
    topic_unref(&t);
    topic_unref(&u);
    fx_crash(&x.f);
    t = topic_find(x.f.b, SLICE_LIT("t"));
    assert_int_equal(group_offset_get(x.f.b, SLICE_LIT("g"), topic_partition(t, 0), &o),
                     ERR_NOT_FOUND);
    topic_unref(&t);
    /* members of another type: the group must be empty */
    t = fx_topic(&x.f, "t", 1);
    c = client_of(&x, "k");
    c.type = "connect";
    join(&c);
    mx_pass(&x, 3000);
    assert_int_equal(c.e, ERR_OK);
    assert_int_equal(
        group_offset_delete(x.f.b, SLICE_LIT("k"), topic_partition(t, 0), done_err, &e, NULL),
        ERR_GROUP_NOT_EMPTY);
    topic_unref(&t);
    mx_end(&x);
}

static bool has_offset(struct mx *x, const char *group, struct topic *t)
{
    struct group_offset o;

    return group_offset_get(x->f.b, slice_str(group), topic_partition(t, 0), &o) == ERR_OK;
}

static void test_retention(void **state)
{
    const char *groups[] = {"simple", "left", "stable"};
    int64_t day = 24 * 3600 * 1000, wall;
    uint8_t meta[64];
    struct topic *t, *u;
    struct client c[2];
    struct mx x;
    int i;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    u = fx_topic(&x.f, "u", 1);
    c[0] = client_of(&x, "left");
    c[1] = client_of(&x, "stable");
    c[1].protocols[0].metadata = slice_of(meta, subscription_write(meta, "t"));
    c[1].protocols_n = 1;
    for (i = 0; i < 3; i++) {
        assert_int_equal(group_commit_wait(x.f.b, slice_str(groups[i]), topic_partition(t, 0), 5,
                                           SLICE_NULL, NULL),
                         ERR_OK);
        assert_int_equal(group_commit_wait(x.f.b, slice_str(groups[i]), topic_partition(u, 0), 5,
                                           SLICE_NULL, NULL),
                         ERR_OK);
    }
    group_stable(&x, &c[0], 1);
    group_stable(&x, &c[1], 1);
    assert_int_equal(leave(&c[0]), ERR_OK);
    wall = journal_wall_ms(broker_journal(x.f.b));
    groups_retention(x.f.b, wall + 7 * day - 60000);
    broker_step(x.f.b);
    assert_true(has_offset(&x, "left", t) && has_offset(&x, "stable", u));
    groups_retention(x.f.b, wall + 7 * day + 60000);
    broker_step(x.f.b);
    /* all of the group that is empty; of the stable one what it does not subscribe to */
    assert_false(has_offset(&x, "left", t) || has_offset(&x, "left", u));
    assert_true(has_offset(&x, "stable", t));
    assert_false(has_offset(&x, "stable", u));
    assert_true(has_offset(&x, "simple", t) && has_offset(&x, "simple", u));
    assert_state(&x, "left", GROUP_EMPTY);
    groups_retention(x.f.b, wall + 7 * day + 60000);
    broker_step(x.f.b);
    assert_state(&x, "left", GROUP_DEAD);
    assert_state(&x, "simple", GROUP_EMPTY);
    assert_state(&x, "stable", GROUP_STABLE);
    topic_unref(&t);
    topic_unref(&u);
    mx_end(&x);
}

/* What the published table says, after a checkpoint. */
static void test_published(void **state)
{
    uint8_t a[64] = {0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
    struct group_assignment ga;
    struct group_sync y;
    struct client c;
    char text[512], want[512];
    struct mx x;
    int i;

    mx_start(&x);
    c = client_of(&x, "g");
    c.instance = "i-1";
    join(&c);
    ga = (struct group_assignment){.member_id = slice_str(c.id), .assignment = slice_of(a, 25)};
    y = (struct group_sync){.group = SLICE_LIT("g"),
                            .member_id = slice_str(c.id),
                            .instance_id = SLICE_LIT("i-1"),
                            .generation = 1,
                            .assignments = &ga,
                            .assignments_n = 1};
    group_sync(x.f.b, &y, x.now, &c.wait, on_sync, &c);
    broker_step(x.f.b);
    snprintf(want, sizeof want,
             "g|1|%s|[{\"id\":\"%s\",\"instance\":\"i-1\",\"client\":\"client\","
             "\"host\":\"host\"}]|{\"%s\":{\"t\":[0,1]}}",
             c.id, c.id, c.id);
    for (i = 0; i < 2; i++) { /* again, after what was loaded was saved */
        published(&x, text, sizeof text);
        assert_string_equal(text, want);
        fx_crash(&x.f);
    }
    assert_int_equal(group_generation(x.f.b, SLICE_LIT("g")), 1);
    mx_end(&x);
}

static void test_drain(void **state)
{
    struct client c[2];
    struct mx x;

    mx_start(&x);
    c[0] = client_of(&x, "g");
    c[1] = client_of(&x, "g");
    group_stable(&x, c, 1);
    join(&c[1]);
    groups_drain(x.f.b);
    assert_int_equal(c[1].e, ERR_COORDINATOR);
    join_ask(&c[0]);
    assert_int_equal(c[0].e, ERR_COORDINATOR);
    mx_end(&x);
}

static void woken(void *arg)
{
    ++*(int *)arg;
}

/* Who runs the clock sleeps until something is due, and is woken once if that comes to be earlier. */
static void test_sleep(void **state)
{
    struct client c;
    struct mx x;
    int n = 0;

    mx_start(&x);
    groups_wake_set(x.f.b, woken, &n);
    c = client_of(&x, "g");
    join_ask(&c); /* nobody sleeps yet */
    assert_int_equal(n, 0);
    mx_pass(&x, 600000); /* the member never came */
    groups_tick(x.f.b, x.now);
    assert_true(groups_sleep(x.f.b, x.now) > x.now + 60000); /* retention alone */
    assert_int_equal(n, 0);
    c = client_of(&x, "g");
    join_ask(&c);
    broker_step(x.f.b);
    assert_int_equal(n, 1);
    join_ask(&c);
    broker_step(x.f.b);
    assert_int_equal(n, 1); /* awake it is already */
    assert_true(groups_deadline_ms(x.f.b) < x.now + 600000);
    assert_int_equal(groups_sleep(x.f.b, x.now), groups_deadline_ms(x.f.b));
    c = client_of(&x, "h"); /* due later than what is waited for */
    join_ask(&c);
    broker_step(x.f.b);
    assert_int_equal(n, 1);
    groups_wake_set(x.f.b, NULL, NULL);
    mx_pass(&x, 600000);
    groups_sleep(x.f.b, x.now);
    c = client_of(&x, "i");
    join_ask(&c);
    assert_int_equal(n, 1);
    mx_end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_members),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_initial_delay),
        cmocka_unit_test(test_initial_delay_ends),
        cmocka_unit_test(test_rebalance_timeout),
        cmocka_unit_test(test_leader),
        cmocka_unit_test(test_sync_timeout),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_static_members),
        cmocka_unit_test(test_static_member_late),
        cmocka_unit_test(test_static_leader_late),
        cmocka_unit_test(test_nobody_joins),
        cmocka_unit_test(test_pending_ids),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_commit_check),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_session_timeouts),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_join_twice),
        cmocka_unit_test(test_long_wait),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_durable_first),
        cmocka_unit_test(test_log_stands_still),
        cmocka_unit_test(test_list_describe_delete),
        cmocka_unit_test(test_offset_delete),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_drain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
