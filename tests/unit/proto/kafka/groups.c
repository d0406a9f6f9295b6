/* Groups by Kafka's requests: members of both protocols, offsets, what is told of groups. Every
 * version of each API is spoken at least once. */
#include "broker/coordinator.h"

#include "detached.h"

#define MEMBERS 3

struct fx {
    struct dk d;
    struct dconn c[MEMBERS];
};

static void topic_make(struct fx *f, const char *name, int32_t partitions)
{
    struct errinfo info = {0};

    if (topic_create_wait(f->d.b, slice_str(name), partitions, NULL, &info))
        fail_msg("%s: %s", name, info.text);
}

static void fx_open(struct fx *f)
{
    struct errinfo info = {0};
    struct group_conf gc;
    unsigned i;

    groups_conf_get(f->d.b, &gc);
    gc.initial_rebalance_delay_ms = 0;
    gc.session_timeout_ms_min = 50;
    assert_int_equal(groups_conf_set(f->d.b, &gc, &info), ERR_OK);
    for (i = 0; i < MEMBERS; i++)
        dconn_open(&f->d, &f->c[i]);
}

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof *f);

    dk_start(&f->d);
    fx_open(f);
    topic_make(f, "t", 4);
    topic_make(f, "u", 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;
    unsigned i;

    dk_end(&f->d);
    for (i = 0; i < MEMBERS; i++)
        dconn_fini(&f->c[i]);
    free(f);
    return 0;
}

static struct slice kept(struct slice s, char *room, size_t size)
{
    assert_true(s.len < size);
    memcpy(room, s.ptr, s.len);
    return slice_of(room, s.len);
}

/* ---- classic members ---- */

struct member {
    struct dconn *c;
    char id_room[400];
    struct slice id;
    int32_t generation;
};

static void join_send(struct member *m, int16_t v, const char *group, const char *instance,
                      int32_t session_ms, const char *metadata)
{
    struct kafka_join_group_request_protocol p = {SLICE_LIT("range"), slice_str(metadata)};
    struct kafka_join_group_request q;

    kafka_join_group_request_init(&q);
    q.group_id = slice_str(group);
    q.session_timeout_ms = session_ms;
    if (v >= 1)
        q.rebalance_timeout_ms = 10000;
    q.member_id = m->id;
    if (instance)
        q.group_instance_id = slice_str(instance);
    q.protocol_type = SLICE_LIT("consumer");
    q.protocols = &p;
    q.protocols_n = 1;
    dcall_begin(m->c, 11, v);
    kafka_join_group_request_encode(&m->c->w, v, &q);
    dcall_send(m->c);
}

static void join_got(struct member *m, int16_t v, struct kafka_join_group_response *s)
{
    dcall_open(m->c, 11, v);
    assert_int_equal(kafka_join_group_response_decode(&m->c->r, v, &m->c->arena, s), ERR_OK);
    assert_int_equal(kreader_left(&m->c->r), 0);
    m->id = kept(s->member_id, m->id_room, sizeof m->id_room);
    m->generation = s->generation_id;
}

/* Joins as the version demands it: from 4 on a first join only gives the id. */
static void join(struct member *m, int16_t v, const char *group,
                 struct kafka_join_group_response *s)
{
    join_send(m, v, group, NULL, 30000, "meta");
    join_got(m, v, s);
    if (v < 4)
        return;
    assert_int_equal(s->error_code, kafka_code(ERR_MEMBER_ID_REQUIRED));
    assert_int_equal(s->generation_id, -1);
    assert_true(s->member_id.len > 0);
    join_send(m, v, group, NULL, 30000, "meta");
    join_got(m, v, s);
}

static void sync_send(struct member *m, int16_t v, const char *group,
                      const struct kafka_sync_group_request_assignment *a, uint32_t n)
{
    struct kafka_sync_group_request q;

    kafka_sync_group_request_init(&q);
    q.group_id = slice_str(group);
    q.generation_id = m->generation;
    q.member_id = m->id;
    if (v >= 5) {
        q.protocol_type = SLICE_LIT("consumer");
        q.protocol_name = SLICE_LIT("range");
    }
    q.assignments = (struct kafka_sync_group_request_assignment *)a;
    q.assignments_n = n;
    dcall_begin(m->c, 14, v);
    kafka_sync_group_request_encode(&m->c->w, v, &q);
    dcall_send(m->c);
}

static int16_t sync_got(struct member *m, int16_t v, const char *assignment)
{
    struct kafka_sync_group_response s;

    dcall_open(m->c, 14, v);
    assert_int_equal(kafka_sync_group_response_decode(&m->c->r, v, &m->c->arena, &s), ERR_OK);
    if (assignment)
        assert_slice(s.assignment, assignment);
    if (v >= 5 && !s.error_code)
        assert_slice(s.protocol_name, "range");
    return s.error_code;
}

static int16_t beat(struct member *m, int16_t v, const char *group)
{
    struct kafka_heartbeat_request q;
    struct kafka_heartbeat_response s;

    kafka_heartbeat_request_init(&q);
    q.group_id = slice_str(group);
    q.generation_id = m->generation;
    q.member_id = m->id;
    dcall(m->c, 12, heartbeat, v, &q, &s);
    return s.error_code;
}

static int16_t leave(struct member *m, int16_t v, const char *group)
{
    struct kafka_leave_group_request_member one = {.member_id = m->id};
    struct kafka_leave_group_request q;
    struct kafka_leave_group_response s;

    kafka_leave_group_request_init(&q);
    q.group_id = slice_str(group);
    if (v < 3) {
        q.member_id = m->id;
    } else {
        q.members = &one;
        q.members_n = 1;
    }
    dcall(m->c, 13, leave_group, v, &q, &s);
    if (v < 3 || s.error_code)
        return s.error_code;
    assert_int_equal(s.members_n, 1);
    assert_true(slice_eq(s.members[0].member_id, m->id));
    return s.members[0].error_code;
}

/* A group with one member by every version of the classic requests, from first join to leaving. */
static void classic_versions(void **state)
{
    struct fx *f = *state;
    struct kafka_join_group_response s;
    int16_t v;

    for (v = 0; v <= 9; v++) {
        struct member m = {.c = &f->c[0]};
        struct kafka_sync_group_request_assignment a;
        char group[16];

        snprintf(group, sizeof group, "g%d", v);
        join(&m, v, group, &s);
        assert_int_equal(s.error_code, 0);
        assert_int_equal(s.generation_id, 1);
        assert_true(slice_eq(s.leader, m.id));
        assert_slice(s.protocol_name, "range");
        if (v >= 7)
            assert_slice(s.protocol_type, "consumer");
        assert_int_equal(s.members_n, 1);
        assert_slice(s.members[0].metadata, "meta");
        a = (struct kafka_sync_group_request_assignment){m.id, SLICE_LIT("yours")};
        sync_send(&m, v < 5 ? v : 5, group, &a, 1);
        assert_int_equal(sync_got(&m, v < 5 ? v : 5, "yours"), 0);
        assert_int_equal(beat(&m, v < 4 ? v : 4, group), 0);
        m.generation++;
        assert_int_equal(beat(&m, v < 4 ? v : 4, group), kafka_code(ERR_ILLEGAL_GENERATION));
        assert_int_equal(leave(&m, v < 5 ? v : 5, group), 0);
        assert_int_equal(leave(&m, v < 5 ? v : 5, group), kafka_code(ERR_UNKNOWN_MEMBER));
        assert_int_equal(beat(&m, v < 4 ? v : 4, group), kafka_code(ERR_UNKNOWN_MEMBER));
    }
}

/* Joins of three that wait for one another; the leader's assignment reaches each. */
static void rebalances(void **state)
{
    struct fx *f = *state;
    struct kafka_sync_group_request_assignment a[MEMBERS];
    struct member m[MEMBERS] = {{.c = &f->c[0]}, {.c = &f->c[1]}, {.c = &f->c[2]}};
    struct kafka_join_group_response s;
    char words[MEMBERS][8];
    unsigned i;

    join(&m[0], 5, "three", &s);
    sync_send(&m[0], 3, "three", NULL, 0);
    assert_int_equal(sync_got(&m[0], 3, ""), 0);
    for (i = 1; i < MEMBERS; i++) {
        join_send(&m[i], 5, "three", NULL, 30000, "meta");
        join_got(&m[i], 5, &s);
        join_send(&m[i], 5, "three", NULL, 30000, "meta");
    }
    while (beat(&m[0], 3, "three") == 0)
        usleep(1000);
    assert_int_equal(beat(&m[0], 3, "three"), kafka_code(ERR_REBALANCE_IN_PROGRESS));
    assert_false(dcall_answered(m[1].c));
    join_send(&m[0], 5, "three", NULL, 30000, "meta");
    for (i = 1; i < MEMBERS; i++) {
        join_got(&m[i], 5, &s);
        assert_int_equal(s.error_code, 0);
        assert_int_equal(s.members_n, 0);
    }
    join_got(&m[0], 5, &s);
    assert_int_equal(s.members_n, 3);
    assert_int_equal(s.generation_id, 2);
    for (i = 0; i < MEMBERS; i++) {
        snprintf(words[i], sizeof words[i], "for%u", i);
        a[i] = (struct kafka_sync_group_request_assignment){m[i].id, slice_str(words[i])};
    }
    sync_send(&m[1], 3, "three", NULL, 0);
    sync_send(&m[2], 3, "three", NULL, 0);
    loop_turn(f->d.loop, false);
    assert_false(dcall_answered(m[1].c));
    sync_send(&m[0], 3, "three", a, MEMBERS);
    for (i = 0; i < MEMBERS; i++)
        assert_int_equal(sync_got(&m[i], 3, words[i]), 0);
    assert_int_equal(leave(&m[2], 3, "three"), 0);
    assert_int_equal(beat(&m[1], 3, "three"), kafka_code(ERR_REBALANCE_IN_PROGRESS));
}

/* A connection ends while its join waits: the join is forgotten, the others go on. */
static void join_cancelled(void **state)
{
    struct fx *f = *state;
    struct member m[2] = {{.c = &f->c[0]}, {.c = &f->c[1]}};
    struct kafka_join_group_response s;
    unsigned i;

    join(&m[0], 3, "cancel", &s);
    sync_send(&m[0], 2, "cancel", NULL, 0);
    assert_int_equal(sync_got(&m[0], 2, ""), 0);
    join_send(&m[1], 3, "cancel", NULL, 200, "meta");
    while (beat(&m[0], 2, "cancel") == 0)
        usleep(1000);
    conn_close(m[1].c->c, false, CONN_LOCAL);
    m[1].c->c = NULL;
    for (i = 0; i < 10; i++)
        loop_turn(f->d.loop, false);
    join_send(&m[0], 3, "cancel", NULL, 30000, "meta");
    join_got(&m[0], 3, &s);
    assert_int_equal(s.error_code, 0);
    /* its session ends; the group rebalances without it */
    sync_send(&m[0], 2, "cancel", NULL, 0);
    sync_got(&m[0], 2, NULL);
    do {
        join_send(&m[0], 3, "cancel", NULL, 30000, "meta");
        join_got(&m[0], 3, &s);
        sync_send(&m[0], 2, "cancel", NULL, 0);
        sync_got(&m[0], 2, NULL);
        usleep(20000);
    } while (s.members_n != 1);
}

/* A server that drains does not keep its clients waiting. */
static void join_drained(void **state)
{
    struct fx *f = *state;
    struct member m[2] = {{.c = &f->c[0]}, {.c = &f->c[1]}};
    struct kafka_join_group_response s;

    join(&m[0], 3, "drain", &s);
    join_send(&m[1], 3, "drain", NULL, 30000, "meta");
    loop_turn(f->d.loop, false);
    assert_false(dcall_answered(m[1].c));
    atomic_store(&f->d.k->draining, true);
    kgroups_drain(f->d.k);
    join_got(&m[1], 3, &s);
    assert_int_equal(s.error_code, KE_COORDINATOR_NOT_AVAILABLE);
}

static void static_member(void **state)
{
    struct fx *f = *state;
    struct member old = {.c = &f->c[0]}, new = {.c = &f->c[1]};
    struct kafka_leave_group_request_member one = {.group_instance_id = SLICE_LIT("i")};
    struct kafka_leave_group_request q;
    struct kafka_leave_group_response ls;
    struct kafka_heartbeat_request h;
    struct kafka_heartbeat_response hs;
    struct kafka_join_group_response s;

    join_send(&old, 5, "static", "i", 30000, "meta");
    join_got(&old, 5, &s);
    assert_int_equal(s.error_code, 0);
    assert_slice(s.members[0].group_instance_id, "i");
    sync_send(&old, 3, "static", NULL, 0);
    assert_int_equal(sync_got(&old, 3, ""), 0);
    join_send(&new, 5, "static", "i", 30000, "meta");
    join_got(&new, 5, &s);
    assert_int_equal(s.error_code, 0);
    kafka_heartbeat_request_init(&h);
    h.group_id = SLICE_LIT("static");
    h.generation_id = old.generation;
    h.member_id = old.id;
    h.group_instance_id = SLICE_LIT("i");
    dcall(&f->c[0], 12, heartbeat, 4, &h, &hs);
    assert_int_equal(hs.error_code, kafka_code(ERR_FENCED_INSTANCE));
    kafka_leave_group_request_init(&q);
    q.group_id = SLICE_LIT("static");
    q.members = &one;
    q.members_n = 1;
    dcall(&f->c[0], 13, leave_group, 5, &q, &ls);
    assert_int_equal(ls.error_code, 0);
    assert_int_equal(ls.members[0].error_code, 0);
    assert_slice(ls.members[0].group_instance_id, "i");
    assert_int_equal(beat(&new, 4, "static"), kafka_code(ERR_UNKNOWN_MEMBER));
}

/* ---- names that are no groups' ---- */

static void bad_names(void **state)
{
    struct fx *f = *state;
    struct kafka_delete_groups_request dq;
    struct kafka_delete_groups_response ds;
    struct kafka_describe_groups_request gq;
    struct kafka_describe_groups_response gs;
    struct kafka_sync_group_request y;
    struct kafka_sync_group_response ys;
    struct kafka_join_group_response s;
    char name[302];
    struct slice n;
    struct member m = {.c = &f->c[0]};
    unsigned i;

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (i = 0; i < 2; i++) {
        const char *group = i ? name : "";

        n = slice_str(group);
        m.id = SLICE_NULL;
        join_send(&m, 3, group, NULL, 30000, "meta");
        join_got(&m, 3, &s);
        assert_int_equal(s.error_code, kafka_code(ERR_GROUP_ID));
        assert_int_equal(beat(&m, 3, group), kafka_code(ERR_GROUP_ID));
        assert_int_equal(leave(&m, 3, group), kafka_code(ERR_GROUP_ID));
        kafka_delete_groups_request_init(&dq);
        dq.groups_names = &n;
        dq.groups_names_n = 1;
        dcall(&f->c[0], 42, delete_groups, 2, &dq, &ds);
        assert_int_equal(ds.results[0].error_code, kafka_code(ERR_GROUP_ID));
        kafka_describe_groups_request_init(&gq);
        gq.groups = &n;
        gq.groups_n = 1;
        dcall(&f->c[0], 15, describe_groups, 5, &gq, &gs);
        assert_int_equal(gs.groups[0].error_code, kafka_code(ERR_GROUP_ID));
        kafka_sync_group_request_init(&y);
        y.group_id = n;
        dcall(&f->c[0], 14, sync_group, 3, &y, &ys);
        assert_int_equal(ys.error_code, kafka_code(ERR_GROUP_ID));
        /* version 5 says what it syncs for, before anything else is looked at */
        dcall(&f->c[0], 14, sync_group, 5, &y, &ys);
        assert_int_equal(ys.error_code, kafka_code(ERR_INCONSISTENT_PROTOCOL));
    }
}

/* ---- offsets ---- */

struct at {
    int32_t partition;
    int64_t offset;
    const char *metadata;
};

/* Commits to one topic; *code per partition. */
static void commit(struct fx *f, int16_t v, const char *group, struct slice member, int32_t gen,
                   const char *topic, const struct at *at, uint32_t n, int16_t *code)
{
    struct kafka_offset_commit_request_partition p[8];
    struct kafka_offset_commit_request_topic t = {.name = slice_str(topic), .partitions = p};
    struct topic *found = topic_find(f->d.b, slice_str(topic));
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response s;
    uint32_t i;

    if (found)
        memcpy(t.topic_id, topic_uuid(found), 16);
    else
        memset(t.topic_id, 7, 16);
    topic_unref(&found);
    t.partitions_n = n;
    for (i = 0; i < n; i++) {
        kafka_offset_commit_request_partition_init(&p[i]);
        p[i].partition_index = at[i].partition;
        p[i].committed_offset = at[i].offset;
        p[i].committed_metadata = slice_str(at[i].metadata);
    }
    kafka_offset_commit_request_init(&q);
    q.group_id = slice_str(group);
    q.member_id = member;
    q.generation_id_or_member_epoch = gen;
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c[0], 8, offset_commit, v, &q, &s);
    assert_int_equal(s.topics_n, 1);
    assert_int_equal(s.topics[0].partitions_n, n);
    if (v >= 10)
        assert_memory_equal(s.topics[0].topic_id, t.topic_id, 16);
    else
        assert_slice(s.topics[0].name, topic);
    for (i = 0; i < n; i++) {
        assert_int_equal(s.topics[0].partitions[i].partition_index, at[i].partition);
        code[i] = s.topics[0].partitions[i].error_code;
    }
}

/* Asks for partitions 0 to n-1 of a topic: answers as those of version 8, whatever v is. */
static int16_t offsets_ask(struct fx *f, int16_t v, const char *group, const char *topic, int32_t n,
                           bool stable, struct kafka_offset_fetch_response_group_partition *out)
{
    int32_t index[8];
    struct kafka_offset_fetch_request_topic t = {slice_str(topic), index, (uint32_t)n};
    struct kafka_offset_fetch_request_group_topic gt = {
        .name = slice_str(topic), .partition_indexes = index, .partition_indexes_n = (uint32_t)n};
    struct kafka_offset_fetch_request_group g = {
        .group_id = slice_str(group), .member_epoch = -1, .topics = &gt, .topics_n = 1};
    struct topic *found = topic_find(f->d.b, slice_str(topic));
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response s;
    int32_t i;

    memset(gt.topic_id, 7, 16);
    if (found)
        memcpy(gt.topic_id, topic_uuid(found), 16);
    topic_unref(&found);
    for (i = 0; i < n; i++)
        index[i] = i;
    kafka_offset_fetch_request_init(&q);
    q.require_stable = stable;
    if (v < 8) {
        q.group_id = slice_str(group);
        q.topics = &t;
        q.topics_n = 1;
    } else {
        q.groups = &g;
        q.groups_n = 1;
    }
    dcall(&f->c[0], 9, offset_fetch, v, &q, &s);
    if (v < 8) {
        if (s.error_code)
            return s.error_code;
        assert_int_equal(s.topics[0].partitions_n, n);
        for (i = 0; i < n; i++)
            out[i] = (struct kafka_offset_fetch_response_group_partition){
                s.topics[0].partitions[i].partition_index,
                s.topics[0].partitions[i].committed_offset,
                s.topics[0].partitions[i].committed_leader_epoch,
                s.topics[0].partitions[i].metadata, s.topics[0].partitions[i].error_code};
        return 0;
    }
    assert_slice(s.groups[0].group_id, group);
    if (s.groups[0].error_code)
        return s.groups[0].error_code;
    assert_int_equal(s.groups[0].topics[0].partitions_n, n);
    memcpy(out, s.groups[0].topics[0].partitions, (size_t)n * sizeof *out);
    return 0;
}

static void offsets_versions(void **state)
{
    struct fx *f = *state;
    struct kafka_offset_fetch_response_group_partition p[4];
    int16_t code[2], v, w;

    for (v = 2; v <= 10; v++) {
        struct at at[2] = {{1, 100 + v, "note"}, {3, 200 + v, ""}};

        commit(f, v, "solo", SLICE_LIT(""), -1, "t", at, 2, code);
        assert_int_equal(code[0], 0);
        assert_int_equal(code[1], 0);
        for (w = 1; w <= 10; w++) {
            assert_int_equal(offsets_ask(f, w, "solo", "t", 4, false, p), 0);
            assert_int_equal(p[0].committed_offset, -1);
            assert_slice(p[0].metadata, "");
            assert_int_equal(p[1].committed_offset, 100 + v);
            assert_slice(p[1].metadata, "note");
            assert_int_equal(p[2].committed_offset, -1);
            assert_int_equal(p[3].committed_offset, 200 + v);
            assert_int_equal(p[0].error_code | p[1].error_code | p[3].error_code, 0);
        }
    }
    /* what is stored outlives the server */
    dk_close(&f->d);
    for (v = 0; v < MEMBERS; v++)
        dconn_fini(&f->c[v]);
    dk_open(&f->d);
    fx_open(f);
    assert_int_equal(offsets_ask(f, 8, "solo", "t", 4, true, p), 0);
    assert_int_equal(p[1].committed_offset, 110);
    assert_slice(p[1].metadata, "note");
}

/* Each partition has its own answer; what is sound is stored all the same. */
static void offsets_refused(void **state)
{
    struct fx *f = *state;
    struct kafka_offset_fetch_response_group_partition p[4];
    char meta[LIMIT_GROUP_METADATA + 2], most[LIMIT_GROUP_METADATA + 1];
    struct at at[4] = {{0, 7, most}, {4, 8, ""}, {1, 9, meta}, {-1, 3, ""}};
    int16_t code[4];

    memset(meta, 'm', LIMIT_GROUP_METADATA + 1);
    meta[LIMIT_GROUP_METADATA + 1] = 0;
    memset(most, 'o', LIMIT_GROUP_METADATA);
    most[LIMIT_GROUP_METADATA] = 0;
    commit(f, 8, "mixed", SLICE_LIT(""), -1, "t", at, 4, code);
    assert_int_equal(code[0], 0);
    assert_int_equal(code[1], KE_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(code[2], 12); /* OFFSET_METADATA_TOO_LARGE */
    assert_int_equal(code[3], KE_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(offsets_ask(f, 8, "mixed", "t", 4, false, p), 0);
    assert_int_equal(p[0].committed_offset, 7);
    assert_slice(p[0].metadata, most);
    assert_int_equal(p[1].committed_offset, -1);
    commit(f, 9, "mixed", SLICE_LIT(""), -1, "none", at, 1, code);
    assert_int_equal(code[0], KE_UNKNOWN_TOPIC_OR_PARTITION);
    commit(f, 10, "mixed", SLICE_LIT(""), -1, "none", at, 1, code);
    assert_int_equal(code[0], KE_UNKNOWN_TOPIC_ID);
    /* one who says that it is a member, of a group that there is not */
    commit(f, 8, "nobody", SLICE_LIT("x"), 3, "t", at, 1, code);
    assert_int_equal(code[0], kafka_code(ERR_ILLEGAL_GENERATION));
    commit(f, 9, "nobody", SLICE_LIT("x"), 3, "t", at, 1, code);
    assert_int_equal(code[0], kafka_code(ERR_GROUP_NOT_FOUND));
    commit(f, 9, "", SLICE_LIT(""), -1, "t", at, 1, code);
    assert_int_equal(code[0], kafka_code(ERR_GROUP_ID));
    /* a negative offset takes away what was there */
    at[0].offset = -2;
    commit(f, 9, "mixed", SLICE_LIT(""), -1, "t", at, 1, code);
    assert_int_equal(code[0], 0);
    assert_int_equal(offsets_ask(f, 8, "mixed", "t", 4, false, p), 0);
    assert_int_equal(p[0].committed_offset, -1);
    commit(f, 9, "mixed", SLICE_LIT(""), -1, "t", at, 1, code);
    assert_int_equal(code[0], 0);
    /* asking */
    assert_int_equal(offsets_ask(f, 7, "none", "none", 2, false, p), 0);
    assert_int_equal(p[0].committed_offset, -1);
    assert_int_equal(p[0].error_code, 0);
    assert_int_equal(offsets_ask(f, 10, "none", "none", 2, false, p), 0);
    assert_int_equal(p[0].error_code, KE_UNKNOWN_TOPIC_ID);
    assert_int_equal(offsets_ask(f, 8, "", "t", 2, false, p), kafka_code(ERR_GROUP_ID));
    assert_int_equal(offsets_ask(f, 2, "", "t", 2, false, p), kafka_code(ERR_GROUP_ID));
    assert_int_equal(offsets_ask(f, 1, "", "t", 2, false, p), 0);
    assert_int_equal(p[1].error_code, kafka_code(ERR_GROUP_ID));
}

/* Only members may commit while there are some, in their generation. */
static void offsets_of_members(void **state)
{
    struct fx *f = *state;
    struct kafka_join_group_response s;
    struct member m = {.c = &f->c[0]};
    struct at at = {2, 5, ""};
    int16_t code;

    join(&m, 5, "owned", &s);
    sync_send(&m, 3, "owned", NULL, 0);
    sync_got(&m, 3, "");
    commit(f, 8, "owned", SLICE_LIT(""), -1, "t", &at, 1, &code);
    assert_int_equal(code, kafka_code(ERR_UNKNOWN_MEMBER));
    commit(f, 8, "owned", m.id, m.generation + 1, "t", &at, 1, &code);
    assert_int_equal(code, kafka_code(ERR_ILLEGAL_GENERATION));
    commit(f, 8, "owned", m.id, m.generation, "t", &at, 1, &code);
    assert_int_equal(code, 0);
}

static void offsets_all(void **state)
{
    struct fx *f = *state;
    struct kafka_offset_fetch_request_group g[2] = {
        {.group_id = SLICE_LIT("many"), .member_epoch = -1, .topics_null = true},
        {.group_id = SLICE_LIT("other"), .member_epoch = -1, .topics_null = true}};
    struct at at[2] = {{0, 1, ""}, {1, 2, "x"}};
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response s;
    struct topic *u;
    int16_t code[2], v;

    commit(f, 9, "many", SLICE_LIT(""), -1, "u", at, 2, code);
    commit(f, 9, "many", SLICE_LIT(""), -1, "t", at, 2, code);
    for (v = 2; v <= 7; v++) {
        kafka_offset_fetch_request_init(&q);
        q.group_id = SLICE_LIT("many");
        q.topics_null = true;
        dcall(&f->c[0], 9, offset_fetch, v, &q, &s);
        assert_int_equal(s.topics_n, 2);
        assert_slice(s.topics[0].name, "t");
        assert_slice(s.topics[1].name, "u");
        assert_int_equal(s.topics[1].partitions_n, 2);
        assert_int_equal(s.topics[1].partitions[1].committed_offset, 2);
        assert_slice(s.topics[1].partitions[1].metadata, "x");
    }
    for (v = 8; v <= 10; v++) {
        kafka_offset_fetch_request_init(&q);
        q.groups = g;
        q.groups_n = 2;
        dcall(&f->c[0], 9, offset_fetch, v, &q, &s);
        assert_int_equal(s.groups_n, 2);
        assert_int_equal(s.groups[0].topics_n, 2);
        assert_int_equal(s.groups[0].topics[0].partitions[0].committed_offset, 1);
        assert_slice(s.groups[1].group_id, "other");
        assert_int_equal(s.groups[1].topics_n, 0);
    }
    u = topic_find(f->d.b, SLICE_LIT("u"));
    assert_memory_equal(s.groups[0].topics[1].topic_id, topic_uuid(u), 16);
    topic_unref(&u);
}

static void offsets_deleted(void **state)
{
    struct fx *f = *state;
    struct kafka_offset_delete_request_partition p[2] = {{0}, {9}};
    struct kafka_offset_delete_request_topic t[2] = {{SLICE_LIT("t"), p, 2},
                                                     {SLICE_LIT("none"), p, 1}};
    struct kafka_offset_fetch_response_group_partition got[2];
    struct kafka_offset_delete_request q;
    struct kafka_offset_delete_response s;
    struct at at[2] = {{0, 1, ""}, {1, 2, ""}};
    int16_t code[2];

    commit(f, 9, "del", SLICE_LIT(""), -1, "t", at, 2, code);
    kafka_offset_delete_request_init(&q);
    q.group_id = SLICE_LIT("del");
    q.topics = t;
    q.topics_n = 2;
    dcall(&f->c[0], 47, offset_delete, 0, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.topics_n, 2);
    assert_int_equal(s.topics[0].partitions[0].error_code, 0);
    assert_int_equal(s.topics[0].partitions[1].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(s.topics[1].partitions[0].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
    offsets_ask(f, 8, "del", "t", 2, false, got);
    assert_int_equal(got[0].committed_offset, -1);
    assert_int_equal(got[1].committed_offset, 2);
    q.group_id = SLICE_LIT("never");
    dcall(&f->c[0], 47, offset_delete, 0, &q, &s);
    assert_int_equal(s.error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    assert_int_equal(s.topics_n, 0);
}

/* ---- looking, deleting ---- */

static void describe(struct fx *f, int16_t v, const char *group,
                     struct kafka_describe_groups_response *s)
{
    struct slice name = slice_str(group);
    struct kafka_describe_groups_request q;

    kafka_describe_groups_request_init(&q);
    q.groups = &name;
    q.groups_n = 1;
    q.include_authorized_operations = v >= 3;
    dcall(&f->c[0], 15, describe_groups, v, &q, s);
    assert_int_equal(s->groups_n, 1);
    assert_slice(s->groups[0].group_id, group);
}

static void described(void **state)
{
    struct fx *f = *state;
    struct kafka_describe_groups_response s;
    struct kafka_join_group_response j;
    struct kafka_sync_group_request_assignment a;
    struct member m = {.c = &f->c[1]};
    int16_t v;

    join(&m, 5, "seen", &j);
    describe(f, 3, "seen", &s);
    assert_slice(s.groups[0].group_state, "CompletingRebalance");
    a = (struct kafka_sync_group_request_assignment){m.id, SLICE_LIT("mine")};
    sync_send(&m, 3, "seen", &a, 1);
    assert_int_equal(sync_got(&m, 3, "mine"), 0);
    for (v = 0; v <= 6; v++) {
        describe(f, v, "seen", &s);
        assert_int_equal(s.groups[0].error_code, 0);
        assert_slice(s.groups[0].group_state, "Stable");
        assert_slice(s.groups[0].protocol_type, "consumer");
        assert_slice(s.groups[0].protocol_data, "range");
        assert_int_equal(s.groups[0].members_n, 1);
        assert_true(slice_eq(s.groups[0].members[0].member_id, m.id));
        assert_slice(s.groups[0].members[0].client_id, "test");
        assert_slice(s.groups[0].members[0].member_metadata, "meta");
        assert_slice(s.groups[0].members[0].member_assignment, "mine");
        if (v >= 3) /* read, delete, describe, describe and alter configs */
            assert_int_equal(s.groups[0].authorized_operations,
                             1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11);
    }
    describe(f, 5, "unseen", &s);
    assert_int_equal(s.groups[0].error_code, 0);
    assert_slice(s.groups[0].group_state, "Dead");
    describe(f, 6, "unseen", &s);
    assert_int_equal(s.groups[0].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    assert_slice(s.groups[0].group_state, "Dead");
    assert_true(s.groups[0].error_message.len > 0);
}

/* How many groups are listed; the first one's words must be these. */
static uint32_t list(struct fx *f, int16_t v, const char *state, const char *type, const char *name,
                     const char *its_state)
{
    struct slice states = slice_str(state), types = slice_str(type);
    struct kafka_list_groups_request q;
    struct kafka_list_groups_response s;

    kafka_list_groups_request_init(&q);
    if (state) {
        q.states_filter = &states;
        q.states_filter_n = 1;
    }
    if (type) {
        q.types_filter = &types;
        q.types_filter_n = 1;
    }
    dcall(&f->c[0], 16, list_groups, v, &q, &s);
    assert_int_equal(s.error_code, 0);
    if (s.groups_n) {
        assert_slice(s.groups[0].group_id, name);
        if (v >= 4)
            assert_slice(s.groups[0].group_state, its_state);
        if (v >= 5)
            assert_slice(s.groups[0].group_type, "classic");
    }
    return s.groups_n;
}

static void listed_and_deleted(void **state)
{
    struct fx *f = *state;
    struct slice names[3] = {SLICE_LIT("a"), SLICE_LIT("b"), SLICE_LIT("c")};
    struct kafka_delete_groups_request q;
    struct kafka_delete_groups_response s;
    struct kafka_join_group_response j;
    struct member m = {.c = &f->c[1]};
    struct at at = {0, 1, ""};
    int16_t code, v;

    commit(f, 9, "a", SLICE_LIT(""), -1, "t", &at, 1, &code);
    join(&m, 5, "b", &j);
    sync_send(&m, 3, "b", NULL, 0);
    sync_got(&m, 3, "");
    for (v = 0; v <= 5; v++)
        assert_int_equal(list(f, v, NULL, NULL, "a", "Empty"), 2);
    assert_int_equal(list(f, 4, "Stable", NULL, "b", "Stable"), 1);
    assert_int_equal(list(f, 5, "empty", "Classic", "a", "Empty"), 1);
    assert_int_equal(list(f, 5, NULL, "consumer", "", ""), 0);
    for (v = 0; v <= 2; v++) {
        kafka_delete_groups_request_init(&q);
        q.groups_names = names;
        q.groups_names_n = 3;
        dcall(&f->c[0], 42, delete_groups, v, &q, &s);
        assert_int_equal(s.results_n, 3);
        assert_int_equal(s.results[0].error_code, v ? kafka_code(ERR_GROUP_NOT_FOUND) : 0);
        assert_int_equal(s.results[1].error_code, kafka_code(ERR_GROUP_NOT_EMPTY));
        assert_slice(s.results[2].group_id, "c");
        assert_int_equal(s.results[2].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    }
    assert_int_equal(list(f, 5, NULL, NULL, "b", "Stable"), 1);
}

/* ---- consumer groups ---- */

static void consumer_beat(struct fx *f, int16_t v,
                          const struct kafka_consumer_group_heartbeat_request *q,
                          struct kafka_consumer_group_heartbeat_response *s)
{
    dcall(&f->c[0], 68, consumer_group_heartbeat, v, q, s);
}

/* The words of one that joins. */
static void consumer_joins(struct kafka_consumer_group_heartbeat_request *q, struct slice *topic)
{
    kafka_consumer_group_heartbeat_request_init(q);
    q->group_id = SLICE_LIT("new");
    q->rebalance_timeout_ms = 30000;
    q->subscribed_topic_names = topic;
    q->subscribed_topic_names_n = 1;
    q->subscribed_topic_names_null = q->topic_partitions_null = false;
}

/* Beats until the member has partitions, as many as it is to have. */
static void consumer_until(struct fx *f, struct kafka_consumer_group_heartbeat_request *q,
                           struct kafka_consumer_group_heartbeat_response *s, uint32_t want)
{
    unsigned i;

    for (i = 0; !s->assignment || !s->assignment->topic_partitions_n ||
                s->assignment->topic_partitions[0].partitions_n != want;
         i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
        q->subscribed_topic_names_null = q->topic_partitions_null = true;
        q->rebalance_timeout_ms = -1;
        q->member_epoch = s->member_epoch;
        consumer_beat(f, 1, q, s);
        assert_int_equal(s->error_code, 0);
    }
}

static void consumer_members(void **state)
{
    struct fx *f = *state;
    struct slice topic = SLICE_LIT("t"), group = SLICE_LIT("new");
    struct kafka_consumer_group_heartbeat_request q;
    struct kafka_consumer_group_heartbeat_response s;
    struct kafka_consumer_group_describe_request dq;
    struct kafka_consumer_group_describe_response ds;
    struct topic *t = topic_find(f->d.b, topic);
    struct at at = {0, 5, ""};
    char id[100];
    int16_t v, code;

    consumer_joins(&q, &topic);
    consumer_beat(f, 0, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_true(s.member_epoch > 0);
    assert_int_equal(s.heartbeat_interval_ms, 5000);
    q.member_id = kept(s.member_id, id, sizeof id);
    consumer_until(f, &q, &s, 4);
    assert_memory_equal(s.assignment->topic_partitions[0].topic_id, topic_uuid(t), 16);
    assert_int_equal(s.assignment->topic_partitions[0].partitions[3], 3);
    kafka_consumer_group_describe_request_init(&dq);
    dq.group_ids = &group;
    dq.group_ids_n = 1;
    dq.include_authorized_operations = true;
    for (v = 0; v <= 1; v++) {
        dcall(&f->c[1], 69, consumer_group_describe, v, &dq, &ds);
        assert_int_equal(ds.groups[0].error_code, 0);
        assert_slice(ds.groups[0].assignor_name, "uniform");
        assert_int_equal(ds.groups[0].members_n, 1);
        assert_true(slice_eq(ds.groups[0].members[0].member_id, q.member_id));
        assert_slice(ds.groups[0].members[0].subscribed_topic_names[0], "t");
        assert_slice(ds.groups[0].members[0].target_assignment.topic_partitions[0].topic_name, "t");
        assert_int_equal(ds.groups[0].members[0].target_assignment.topic_partitions[0].partitions_n,
                         4);
        assert_int_equal(ds.groups[0].members[0].member_type, v ? 1 : -1);
    }
    /* its epoch is what it commits by */
    commit(f, 9, "new", q.member_id, s.member_epoch + 1, "t", &at, 1, &code);
    assert_int_not_equal(code, 0);
    commit(f, 9, "new", q.member_id, s.member_epoch, "t", &at, 1, &code);
    assert_int_equal(code, 0);
    q.member_epoch = GROUP_EPOCH_LEAVE;
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.member_epoch, GROUP_EPOCH_LEAVE);
    dcall(&f->c[1], 69, consumer_group_describe, 1, &dq, &ds);
    assert_int_equal(ds.groups[0].members_n, 0);
    topic_unref(&t);
}

/* A member of the old protocol stays in its group when one of the new protocol joins. */
static void consumer_joins_classic(void **state)
{
    static const uint8_t subscription[] = {0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff};
    struct fx *f = *state;
    struct kafka_join_group_request_protocol p = {SLICE_LIT("range"),
                                                  slice_of(subscription, sizeof subscription)};
    struct slice topic = SLICE_LIT("t"), group = SLICE_LIT("new");
    struct kafka_consumer_group_heartbeat_request q;
    struct kafka_consumer_group_heartbeat_response s;
    struct kafka_consumer_group_describe_request dq;
    struct kafka_consumer_group_describe_response ds;
    struct kafka_describe_groups_response old;
    struct kafka_join_group_request j;
    struct kafka_join_group_response js;
    struct member m = {.c = &f->c[1]};

    kafka_join_group_request_init(&j);
    j.group_id = group;
    j.session_timeout_ms = j.rebalance_timeout_ms = 30000;
    j.protocol_type = SLICE_LIT("consumer");
    j.protocols = &p;
    j.protocols_n = 1;
    dcall(m.c, 11, join_group, 3, &j, &js);
    assert_int_equal(js.error_code, 0);
    m.id = kept(js.member_id, m.id_room, sizeof m.id_room);
    m.generation = js.generation_id;
    sync_send(&m, 2, "new", NULL, 0);
    sync_got(&m, 2, NULL);
    consumer_joins(&q, &topic);
    q.member_id = SLICE_LIT("modern");
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, 0);
    kafka_consumer_group_describe_request_init(&dq);
    dq.group_ids = &group;
    dq.group_ids_n = 1;
    dcall(&f->c[2], 69, consumer_group_describe, 1, &dq, &ds);
    assert_int_equal(ds.groups[0].error_code, 0);
    assert_int_equal(ds.groups[0].members_n, 2);
    assert_true(slice_eq(ds.groups[0].members[0].member_id, m.id) ||
                slice_eq(ds.groups[0].members[1].member_id, m.id));
    assert_int_equal(ds.groups[0].members[0].member_type,
                     slice_eq(ds.groups[0].members[0].member_id, m.id) ? 0 : 1);
    assert_int_equal(ds.groups[0].members[1].member_type,
                     slice_eq(ds.groups[0].members[1].member_id, m.id) ? 0 : 1);
    describe(f, 6, "new", &old);
    assert_int_equal(old.groups[0].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
}

static void consumer_refused(void **state)
{
    struct fx *f = *state;
    struct slice topic = SLICE_LIT("t"), names[2] = {SLICE_LIT("never"), SLICE_LIT("old")};
    struct kafka_consumer_group_heartbeat_request q;
    struct kafka_consumer_group_heartbeat_response s;
    struct kafka_consumer_group_describe_request dq;
    struct kafka_consumer_group_describe_response ds;
    struct at at = {0, 5, ""};
    int16_t code;

    consumer_joins(&q, &topic);
    consumer_beat(f, 1, &q, &s); /* without an id, which the client is to make since version 1 */
    assert_int_equal(s.error_code, KE_INVALID_REQUEST);
    assert_true(s.error_message.len > 0);
    q.member_id = SLICE_LIT("m");
    q.group_id = SLICE_LIT("");
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, KE_INVALID_REQUEST);
    consumer_joins(&q, &topic);
    q.member_id = SLICE_LIT("m");
    q.server_assignor = SLICE_LIT("magic");
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, kafka_code(ERR_UNSUPPORTED_ASSIGNOR));
    q.server_assignor = SLICE_NULL;
    q.subscribed_topic_regex = SLICE_LIT("(");
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, kafka_code(ERR_REGEX));
    q.subscribed_topic_regex = SLICE_NULL;
    q.member_epoch = 7;
    consumer_beat(f, 1, &q, &s);
    assert_int_equal(s.error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    commit(f, 9, "old", SLICE_LIT(""), -1, "t", &at, 1, &code);
    kafka_consumer_group_describe_request_init(&dq);
    dq.group_ids = names;
    dq.group_ids_n = 2;
    dcall(&f->c[0], 69, consumer_group_describe, 1, &dq, &ds);
    assert_int_equal(ds.groups[0].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    assert_int_equal(ds.groups[1].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
    assert_slice(ds.groups[1].group_id, "old");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(classic_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(rebalances, setup, teardown),
        cmocka_unit_test_setup_teardown(join_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(join_drained, setup, teardown),
        cmocka_unit_test_setup_teardown(static_member, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_names, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_of_members, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_all, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(described, setup, teardown),
        cmocka_unit_test_setup_teardown(listed_and_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(consumer_members, setup, teardown),
        cmocka_unit_test_setup_teardown(consumer_joins_classic, setup, teardown),
        cmocka_unit_test_setup_teardown(consumer_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
