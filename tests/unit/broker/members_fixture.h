/* Shared by the tests of groups with members: a broker without threads, a clock that the test moves,
 * and clients that keep what they were told. */
#ifndef WEIR_TESTS_BROKER_MEMBERS_FIXTURE_H
#define WEIR_TESTS_BROKER_MEMBERS_FIXTURE_H

#include "fixture.h"

#include <sqlite3.h>

#include "base/tbl/limits.h"
#include "broker/broker_int.h"
#include "broker/coordinator_int.h"

#define SESSION_MS   10000
#define REBALANCE_MS 30000

struct mx {
    struct fx f;
    int64_t now;
};

/* A client of the classic protocol. */
struct client {
    struct mx *x;
    const char *group, *instance, *type;
    struct group_protocol protocols[3];
    unsigned protocols_n;
    bool id_required, skip;
    struct group_wait wait;
    char id[LIMIT_MEMBER_ID + 1], leader[LIMIT_MEMBER_ID + 1];
    int joins, syncs; /* answers that came */
    enum err e;
    int32_t generation;
    unsigned members_n; /* that it was told, as leader */
    char members[8][LIMIT_MEMBER_ID + 1], metadata[8][64];
    char protocol[64], assignment[128];
    bool skip_assignment;
};

static inline void text_keep(char *dst, size_t size, struct slice s)
{
    assert_true(s.len < size);
    if (s.len)
        memcpy(dst, s.ptr, s.len);
    dst[s.len] = 0;
}

static inline void mx_start(struct mx *x)
{
    struct group_conf conf;

    memset(x, 0, sizeof *x);
    fx_start(&x->f, false);
    x->now = 1000000;
    groups_conf_get(x->f.b, &conf);
    assert_int_equal(conf.initial_rebalance_delay_ms, 3000);
    conf.initial_rebalance_delay_ms = 0;
    assert_int_equal(groups_conf_set(x->f.b, &conf, NULL), ERR_OK);
}

/* Time goes on, in steps of what is due next. */
static inline void mx_pass(struct mx *x, int64_t ms)
{
    int64_t end = x->now + ms;

    while (groups_deadline_ms(x->f.b) <= end) {
        int64_t at = groups_deadline_ms(x->f.b);

        if (at > x->now)
            x->now = at;
        groups_tick(x->f.b, x->now);
        broker_step(x->f.b);
    }
    x->now = end;
}

static inline struct client client_of(struct mx *x, const char *group)
{
    struct client c = {.x = x, .group = group, .type = "consumer", .id_required = true};

    c.protocols[0] = (struct group_protocol){SLICE_LIT("range"), SLICE_LIT("r")};
    c.protocols[1] = (struct group_protocol){SLICE_LIT("roundrobin"), SLICE_LIT("rr")};
    c.protocols_n = 2;
    return c;
}

static inline void on_join(void *arg, const struct group_join_result *r)
{
    struct client *c = arg;
    unsigned i;

    c->joins++;
    c->e = r->e;
    c->generation = r->generation;
    c->skip_assignment = r->skip_assignment;
    if (r->e == ERR_OK || r->e == ERR_MEMBER_ID_REQUIRED)
        text_keep(c->id, sizeof c->id, r->member_id);
    text_keep(c->leader, sizeof c->leader, r->leader);
    text_keep(c->protocol, sizeof c->protocol, r->protocol_name);
    c->members_n = r->members_n;
    for (i = 0; i < r->members_n && i < 8; i++) {
        text_keep(c->members[i], sizeof c->members[i], r->members[i].member_id);
        text_keep(c->metadata[i], sizeof c->metadata[i], r->members[i].metadata);
    }
    if (r->e) {
        assert_int_equal(r->generation, -1);
        assert_true(slice_is_null(r->leader) && slice_is_null(r->protocol_name));
        assert_int_equal(r->members_n, 0);
    }
}

static inline void on_sync(void *arg, const struct group_sync_result *r)
{
    struct client *c = arg;

    c->syncs++;
    c->e = r->e;
    text_keep(c->assignment, sizeof c->assignment, r->assignment);
}

/* Asks to join; the answer may come later. */
static inline void join_ask(struct client *c)
{
    struct group_join j = {.group = slice_str(c->group),
                           .member_id = slice_str(c->id),
                           .instance_id = slice_str(c->instance),
                           .client_id = SLICE_LIT("client"),
                           .client_host = SLICE_LIT("host"),
                           .protocol_type = slice_str(c->type),
                           .protocols = c->protocols,
                           .protocols_n = c->protocols_n,
                           .session_timeout_ms = SESSION_MS,
                           .rebalance_timeout_ms = REBALANCE_MS,
                           .member_id_required = c->id_required,
                           .skip_assignment = c->skip};

    c->e = ERR_AGAIN;
    group_join(c->x->f.b, &j, c->x->now, &c->wait, on_join, c);
    broker_step(c->x->f.b);
}

/* As a client does: again with the id that it was given. */
static inline void join(struct client *c)
{
    join_ask(c);
    if (c->e == ERR_MEMBER_ID_REQUIRED)
        join_ask(c);
}

/* The leader gives each member the text "a:" and its number; others ask for theirs. */
static inline void sync_ask(struct client *c)
{
    struct group_assignment a[8];
    char text[8][32];
    struct group_sync y = {.group = slice_str(c->group),
                           .member_id = slice_str(c->id),
                           .instance_id = slice_str(c->instance),
                           .generation = c->generation,
                           .protocol_type = slice_str(c->type),
                           .protocol_name = slice_str(c->protocol),
                           .assignments = a,
                           .assignments_n = c->members_n};
    unsigned i;

    for (i = 0; i < c->members_n; i++) {
        snprintf(text[i], sizeof text[i], "a:%u", i);
        a[i].member_id = slice_str(c->members[i]);
        a[i].assignment = slice_str(text[i]);
    }
    c->e = ERR_AGAIN;
    group_sync(c->x->f.b, &y, c->x->now, &c->wait, on_sync, c);
    broker_step(c->x->f.b);
}

static inline struct group_member member_of(struct client *c)
{
    return (struct group_member){.group = slice_str(c->group),
                                 .member_id = slice_str(c->id),
                                 .instance_id = slice_str(c->instance),
                                 .generation = c->generation};
}

static inline enum err beat(struct client *c)
{
    struct group_member m = member_of(c);
    enum err e = group_heartbeat(c->x->f.b, &m, c->x->now);

    broker_step(c->x->f.b);
    return e;
}

static inline enum err leave(struct client *c)
{
    struct group_leaver l = {.member_id = slice_str(c->id), .instance_id = slice_str(c->instance)};
    enum err e = group_leave(c->x->f.b, slice_str(c->group), &l, 1, c->x->now);

    broker_step(c->x->f.b);
    return e ? e : l.e;
}

static inline enum err commits(struct client *c)
{
    struct group_member m = member_of(c);

    return group_commit_check(c->x->f.b, &m, false, c->x->now);
}

static inline enum group_state state_of(struct mx *x, const char *group, unsigned *members)
{
    struct group_description d;
    enum group_state s;

    assert_int_equal(group_describe(x->f.b, slice_str(group), &d), ERR_OK);
    s = d.state;
    if (members)
        *members = d.members_n;
    group_description_fini(&d);
    return s;
}

#define assert_state(x, group, want) assert_int_equal(state_of(x, group, NULL), want)

/* A stable group of n members; the first is the leader. */
static inline void group_stable(struct mx *x, struct client *c, unsigned n)
{
    unsigned i, round;

    for (i = 0; i < n; i++)
        join(&c[i]);
    for (round = 0; round < 2; round++) /* the first was alone in a generation before the others */
        for (i = 0; i < n; i++)
            if (beat(&c[i]) == ERR_REBALANCE_IN_PROGRESS && c[i].e == ERR_OK)
                join(&c[i]);
    for (i = 0; i < n; i++)
        assert_int_equal(c[i].e, ERR_OK);
    for (i = n; i-- > 0;)
        sync_ask(&c[i]);
    for (i = 0; i < n; i++)
        assert_int_equal(c[i].e, ERR_OK);
}

/* The first row of the published table, after a checkpoint, as any reader of it would see it. */
static inline void published(struct mx *x, char *out, size_t size)
{
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    char path[96];

    fx_checkpoint(&x->f);
    snprintf(path, sizeof path, "%s/checkpoint.db", x->f.dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT group_id || '|' || generation || '|' ||"
                                        " ifnull(leader, '') || '|' || members || '|' ||"
                                        " assignment FROM stream_groups",
                                        -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    snprintf(out, size, "%s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    sqlite3_close(db);
}

static inline void mx_end(struct mx *x)
{
    groups_drain(x->f.b);
    broker_step(x->f.b);
    fx_end(&x->f);
}

#endif
