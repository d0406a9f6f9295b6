/* Streams groups by Kafka's requests: members, internal topics, configuration, descriptions, commits. */
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "proto/kafka/admin_int.h"

#include "detached.h"

#define GROUP "app"

struct fx {
    struct dk d;
    struct dconn c;
};

typedef struct kafka_streams_group_heartbeat_request request;
typedef struct kafka_streams_group_heartbeat_response response;

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof *f);

    dk_start(&f->d);
    dconn_open(&f->d, &f->c);
    assert_int_equal(topic_create_wait(f->d.b, SLICE_LIT("lines"), 2, NULL, NULL), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    dk_end(&f->d);
    dconn_fini(&f->c);
    free(f);
    return 0;
}

/* lines -> words (repartition) -> counts (changelog), as a word count says it. */
struct topology {
    struct slice lines, words;
    struct kafka_streams_group_heartbeat_request_key_value compact;
    struct kafka_streams_group_heartbeat_request_topic_info repartition, changelog;
    struct kafka_streams_group_heartbeat_request_subtopology subs[2];
    struct kafka_streams_group_heartbeat_request_topology t;
};

static void topology_fill(struct topology *t)
{
    *t = (struct topology){.lines = SLICE_LIT("lines"),
                           .words = SLICE_LIT("app-words-repartition"),
                           .compact = {SLICE_LIT("cleanup.policy"), SLICE_LIT("compact")}};
    t->repartition.name = t->words;
    t->changelog.name = SLICE_LIT("app-counts-changelog");
    t->changelog.topic_configs = &t->compact;
    t->changelog.topic_configs_n = 1;
    t->subs[0].subtopology_id = SLICE_LIT("0");
    t->subs[0].source_topics = &t->lines;
    t->subs[0].source_topics_n = 1;
    t->subs[0].repartition_sink_topics = &t->words;
    t->subs[0].repartition_sink_topics_n = 1;
    t->subs[1].subtopology_id = SLICE_LIT("1");
    t->subs[1].repartition_source_topics = &t->repartition;
    t->subs[1].repartition_source_topics_n = 1;
    t->subs[1].state_changelog_topics = &t->changelog;
    t->subs[1].state_changelog_topics_n = 1;
    t->t.epoch = 3;
    t->t.subtopologies = t->subs;
    t->t.subtopologies_n = 2;
}

static void joins(request *q, struct topology *t)
{
    topology_fill(t);
    kafka_streams_group_heartbeat_request_init(q);
    q->group_id = SLICE_LIT(GROUP);
    q->member_id = SLICE_LIT("m-1");
    q->process_id = SLICE_LIT("p-1");
    q->rebalance_timeout_ms = 30000;
    q->topology = &t->t;
    q->active_tasks_null = q->standby_tasks_null = q->warmup_tasks_null = false;
}

static void beat(struct fx *f, const request *q, response *s)
{
    dcall(&f->c, 88, streams_group_heartbeat, 0, q, s);
}

static void goes_on(request *q, const response *s)
{
    q->topology = NULL;
    q->process_id = SLICE_NULL;
    q->rebalance_timeout_ms = -1;
    q->active_tasks_null = q->standby_tasks_null = q->warmup_tasks_null = true;
    q->member_epoch = s->member_epoch;
}

static void conf_alter(struct fx *f, struct kafka_incremental_alter_configs_request_config c,
                       int16_t code)
{
    struct kafka_incremental_alter_configs_request_resource r = {
        .resource_type = 32, .resource_name = SLICE_LIT(GROUP), .configs = &c, .configs_n = 1};
    struct kafka_incremental_alter_configs_request q;
    struct kafka_incremental_alter_configs_response s;

    kafka_incremental_alter_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    dcall(&f->c, 44, incremental_alter_configs, 1, &q, &s);
    assert_int_equal(s.responses_n, 1);
    assert_int_equal(s.responses[0].error_code, code);
}

static void conf_set(struct fx *f, const char *name, const char *value, int16_t code)
{
    conf_alter(f,
               (struct kafka_incremental_alter_configs_request_config){.name = slice_str(name),
                                                                       .value = slice_str(value)},
               code);
}

static void conf_clear(struct fx *f, const char *name)
{
    conf_alter(f,
               (struct kafka_incremental_alter_configs_request_config){
                   .name = slice_str(name), .config_operation = 1, .value = SLICE_NULL},
               0);
}

/* Beats until it has tasks; the internal topics are made meanwhile. */
static void until_tasks(struct fx *f, request *q, response *s)
{
    unsigned i;

    for (i = 0; s->active_tasks_n < 2; i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
        goes_on(q, s);
        beat(f, q, s);
        assert_int_equal(s->error_code, 0);
    }
}

static void described(struct fx *f, const char *group,
                      struct kafka_streams_group_describe_response *s)
{
    struct kafka_streams_group_describe_request q;
    struct slice name = slice_str(group);

    kafka_streams_group_describe_request_init(&q);
    q.group_ids = &name;
    q.group_ids_n = 1;
    q.include_authorized_operations = true;
    dcall(&f->c, 89, streams_group_describe, 0, &q, s);
    assert_int_equal(s->groups_n, 1);
    assert_slice(s->groups[0].group_id, group);
}

static void removed(void *arg, enum err e, const struct errinfo *info)
{
    assert_int_equal(e, ERR_OK);
    atomic_store((atomic_bool *)arg, true);
}

static void members(void **state)
{
    struct kafka_streams_group_describe_response ds;
    struct fx *f = *state;
    struct topic_conf conf;
    struct topology t;
    struct topic *made;
    atomic_bool gone = false;
    struct buf kept;
    unsigned i;
    request q;
    response s;

    buf_init(&kept, LIMIT_KV_VALUE);
    conf_set(f, "streams.initial.rebalance.delay.ms", "0", 0);
    conf_set(f, "streams.heartbeat.interval.ms", "700", 0);
    conf_set(f, "streams.num.standby.replicas", "99", KE_INVALID_CONFIG);
    conf_set(f, "streams.session.timeout.ms", "1000", 0);
    conf_set(f, "streams.heartbeat.interval.ms", "1000", KE_INVALID_CONFIG);
    conf_set(f, "streams.session.timeout.ms", "45000", 0);
    joins(&q, &t);
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_slice(s.member_id, "m-1");
    assert_int_equal(s.heartbeat_interval_ms, 700);
    assert_int_equal(s.status_n, 1);
    assert_int_equal(s.status[0].status_code, 3);
    assert_false(s.active_tasks_null);
    until_tasks(f, &q, &s);
    assert_true(s.status_null);
    assert_slice(s.active_tasks[0].subtopology_id, "0");
    assert_slice(s.active_tasks[1].subtopology_id, "1");
    assert_int_equal(s.active_tasks[1].partitions_n, 2);
    made = topic_find(f->d.b, SLICE_LIT("app-counts-changelog"));
    assert_non_null(made);
    assert_int_equal(topic_partitions(made), 2);
    topic_conf_get(made, &conf);
    assert_int_equal(conf.cleanup, TOPIC_CLEANUP_COMPACT);
    topic_unref(&made);
    described(f, GROUP, &ds);
    assert_int_equal(ds.groups[0].error_code, 0);
    assert_slice(ds.groups[0].group_state, "Stable");
    assert_int_equal(ds.groups[0].group_epoch, s.member_epoch);
    assert_int_equal(ds.groups[0].topology->epoch, 3);
    assert_int_equal(ds.groups[0].topology->subtopologies_n, 2);
    assert_int_equal(
        ds.groups[0].topology->subtopologies[1].repartition_source_topics[0].partitions, 2);
    assert_slice(ds.groups[0].members[0].process_id, "p-1");
    assert_int_equal(ds.groups[0].members[0].assignment.active_tasks_n, 2);
    assert_int_equal(ds.groups[0].members[0].target_assignment.active_tasks_n, 2);
    q.member_epoch = -1;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.member_epoch, -1);
    described(f, GROUP, &ds);
    assert_slice(ds.groups[0].group_state, "Empty");
    assert_int_equal(ds.groups[0].topology->epoch, 3); /* it is kept, without members */
    assert_int_equal(ds.groups[0].topology->subtopologies_n, 2);
    assert_slice(ds.groups[0].topology->subtopologies[0].source_topics[0], "lines");
    assert_slice(ds.groups[0].topology->subtopologies[1].state_changelog_topics[0].name,
                 "app-counts-changelog");
    assert_int_equal(group_remove(f->d.b, SLICE_LIT(GROUP), removed, &gone, NULL), ERR_OK);
    for (i = 0; !atomic_load(&gone); i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
    }
    assert_int_equal(kv_get(f->d.b, "group.topology", SLICE_LIT(GROUP), &kept), ERR_NOT_FOUND);
    buf_fini(&kept);
    described(f, "nobody", &ds);
    assert_int_equal(ds.groups[0].error_code, kafka_code(ERR_GROUP_NOT_FOUND));
}

/* A topology too large to be kept: the one before it is not what an empty group is said to have. */
static void kept_no_more(void **state)
{
    enum { MANY = 400 };
    static char text[MANY][200];
    struct kafka_streams_group_heartbeat_request_topic_info logs[MANY];
    struct fx *f = *state;
    struct topology t;
    struct buf kept;
    unsigned i;
    request q;
    response s;

    buf_init(&kept, LIMIT_KV_VALUE);
    conf_set(f, "streams.initial.rebalance.delay.ms", "0", 0);
    joins(&q, &t);
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    goes_on(&q, &s);
    q.member_epoch = -1;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    for (i = 0; kv_get(f->d.b, "group.topology", SLICE_LIT(GROUP), &kept); i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
    }
    for (i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof text[i], "app-%0180u-changelog", i);
        logs[i] = t.changelog;
        logs[i].name = slice_str(text[i]);
    }
    joins(&q, &t);
    t.subs[1].state_changelog_topics = logs;
    t.subs[1].state_changelog_topics_n = MANY;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    for (i = 0; kv_get(f->d.b, "group.topology", SLICE_LIT(GROUP), &kept) != ERR_NOT_FOUND; i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
    }
    buf_fini(&kept);
}

/* Others' topologies take all of their room. */
static void room_fill(struct fx *f)
{
    static uint8_t bytes[LIMIT_KV_VALUE];
    struct topic *t = topic_find(f->d.b, SLICE_LIT("lines"));
    struct slice value = slice_of(bytes, sizeof bytes);
    char group[16];
    unsigned i;
    enum err e;

    for (i = 0;; i++) {
        snprintf(group, sizeof group, "other-%u", i);
        assert_int_equal(
            group_commit_wait(f->d.b, slice_str(group), topic_partition(t, 0), 1, SLICE_NULL, NULL),
            ERR_OK);
        do {
            e = kv_put_wait(f->d.b, "group.topology", slice_str(group), value, 0, NULL);
        } while (e == ERR_LIMIT && (value.len /= 2) > 16);
        if (e == ERR_LIMIT)
            break;
        assert_int_equal(e, ERR_OK);
    }
    topic_unref(&t);
}

/* A topology for which there is no room ends the one before it, too; the group works without. */
static void kept_no_room(void **state)
{
    struct kafka_streams_group_describe_response ds;
    struct fx *f = *state;
    struct topology t;
    struct buf kept;
    unsigned i;
    request q;
    response s;

    buf_init(&kept, LIMIT_KV_VALUE);
    conf_set(f, "streams.initial.rebalance.delay.ms", "0", 0);
    joins(&q, &t);
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    for (i = 0; kv_get(f->d.b, "group.topology", SLICE_LIT(GROUP), &kept); i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
    }
    goes_on(&q, &s);
    q.member_epoch = -1;
    beat(f, &q, &s);
    room_fill(f);
    joins(&q, &t);
    t.t.epoch = 4;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    for (i = 0; kv_get(f->d.b, "group.topology", SLICE_LIT(GROUP), &kept) != ERR_NOT_FOUND; i++) {
        assert_true(i < DK_TURNS);
        usleep(1000);
    }
    until_tasks(f, &q, &s);
    goes_on(&q, &s);
    q.member_epoch = -1;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    described(f, GROUP, &ds);
    assert_int_equal(ds.groups[0].error_code, 0);
    assert_slice(ds.groups[0].group_state, "Empty");
    assert_int_equal(ds.groups[0].topology->subtopologies_n, 0);
    buf_fini(&kept);
}

static void refused(struct fx *f, const request *q, int16_t code)
{
    response s;

    beat(f, q, &s);
    assert_int_equal(s.error_code, code);
    assert_true(s.error_message.len > 0);
    assert_true(s.active_tasks_null);
}

/* Names of topics that Kafka has to itself, wherever they are named. */
static void internal_names(struct fx *f)
{
    struct topology t;
    request q;
    response s;

    joins(&q, &t);
    t.lines = SLICE_LIT("__consumer_offsets");
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 130);
    assert_slice(s.error_message, "Use of Kafka internal topics __consumer_offsets in a Kafka "
                                  "Streams topology is prohibited.");
    joins(&q, &t);
    t.words = t.repartition.name = SLICE_LIT("__share_group_state");
    t.changelog.name = SLICE_LIT("__transaction_state");
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 130);
    assert_slice(s.error_message, "Use of Kafka internal topics __transaction_state,"
                                  "__share_group_state in a Kafka Streams topology is prohibited.");
    joins(&q, &t);
    t.lines = SLICE_LIT("__consumer_offsets_"); /* anybody's */
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    q.member_epoch = -1;
    q.topology = NULL;
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
}

/* An item of the group's configuration, with what it has from where. */
static void shows(struct fx *f, const char *name, const char *value, int8_t source)
{
    struct slice key = slice_str(name);
    struct kafka_describe_configs_request_resource r = {.resource_type = 32,
                                                        .resource_name = SLICE_LIT(GROUP),
                                                        .configuration_keys = &key,
                                                        .configuration_keys_n = 1};
    struct kafka_describe_configs_request q;
    struct kafka_describe_configs_response s;

    kafka_describe_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    dcall(&f->c, 32, describe_configs, 4, &q, &s);
    assert_int_equal(s.results_n, 1);
    assert_int_equal(s.results[0].configs_n, 1);
    assert_slice(s.results[0].configs[0].value, value);
    assert_int_equal(s.results[0].configs[0].config_source, source);
}

/* A group has what the server has, but for what was set for it: that stays, also where it is the same. */
static void server_conf(void **state)
{
    struct fx *f = *state;
    struct group_conf conf;
    struct topology t;
    request q;
    response s;

    conf_set(f, "streams.session.timeout.ms", "45000", 0);
    shows(f, "streams.session.timeout.ms", "45000", KSOURCE_GROUP);
    shows(f, "streams.heartbeat.interval.ms", "5000", KSOURCE_DEFAULT);
    groups_conf_get(f->d.b, &conf);
    conf.streams_session_timeout_ms = 60000;
    conf.streams_heartbeat_ms = 9000;
    conf.streams_initial_delay_ms = 0;
    assert_int_equal(groups_conf_set(f->d.b, &conf, NULL), ERR_OK);
    shows(f, "streams.session.timeout.ms", "45000", KSOURCE_GROUP);
    shows(f, "streams.heartbeat.interval.ms", "9000", KSOURCE_DEFAULT);
    joins(&q, &t);
    beat(f, &q, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.heartbeat_interval_ms, 9000);
    conf_set(f, "streams.session.timeout.ms", "8000", KE_INVALID_CONFIG);
    conf_set(f, "streams.assignment.interval.ms", "3600001", KE_INVALID_CONFIG);
    conf_clear(f, "streams.session.timeout.ms");
    shows(f, "streams.session.timeout.ms", "60000", KSOURCE_DEFAULT);
}

static void refusals(void **state)
{
    struct kafka_streams_group_heartbeat_request_task_offset offset = {SLICE_LIT("0"), 0, 1};
    struct slice regex = SLICE_LIT("l.*"), *many;
    struct fx *f = *state;
    struct topology t;
    unsigned i;
    request q;

    joins(&q, &t);
    q.group_id = SLICE_LIT("");
    refused(f, &q, KE_INVALID_REQUEST);
    joins(&q, &t);
    q.member_id = SLICE_LIT("");
    refused(f, &q, KE_INVALID_REQUEST);
    joins(&q, &t);
    t.subs[0].source_topic_regex = &regex;
    t.subs[0].source_topic_regex_n = 1;
    refused(f, &q, KE_INVALID_REQUEST);
    joins(&q, &t);
    q.task_offsets = &offset;
    q.task_offsets_n = 1;
    q.task_offsets_null = false;
    refused(f, &q, KE_INVALID_REQUEST);
    joins(&q, &t);
    q.standby_tasks_null = true;
    refused(f, &q, KE_INVALID_REQUEST);
    joins(&q, &t);
    t.words = t.repartition.name = SLICE_LIT("no/topic");
    refused(f, &q, 130);
    joins(&q, &t);
    t.changelog.partitions = 2;
    refused(f, &q, 130);
    joins(&q, &t);
    many =
        calloc(LIMIT_STREAMS_TOPICS, sizeof *many); /* refused for their number, not for a name */
    assert_non_null(many);
    for (i = 0; i < LIMIT_STREAMS_TOPICS; i++)
        many[i] = SLICE_LIT("/");
    t.subs[0].repartition_sink_topics = many;
    t.subs[0].repartition_sink_topics_n = LIMIT_STREAMS_TOPICS - 4;
    refused(f, &q, 130);
    t.subs[0].repartition_sink_topics_n = LIMIT_STREAMS_TOPICS - 2;
    refused(f, &q, KE_INVALID_REQUEST);
    free(many);
    joins(&q, &t);
    q.member_epoch = 5;
    q.topology = NULL;
    refused(f, &q, kafka_code(ERR_GROUP_NOT_FOUND));
    internal_names(f);
}

static int16_t commit(struct fx *f, int16_t version, int32_t epoch, const char *member)
{
    struct kafka_offset_commit_request_partition p = {.partition_index = 1, .committed_offset = 7};
    struct kafka_offset_commit_request_topic t = {
        .name = SLICE_LIT("lines"), .partitions = &p, .partitions_n = 1};
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response s;

    kafka_offset_commit_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.member_id = slice_str(member);
    q.generation_id_or_member_epoch = epoch;
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c, 8, offset_commit, version, &q, &s);
    return s.topics[0].partitions[0].error_code;
}

static void offsets(void **state)
{
    struct kafka_list_groups_response ls;
    struct kafka_list_groups_request lq;
    struct slice kind = SLICE_LIT("streams");
    struct fx *f = *state;
    struct topology t;
    request q;
    response s;
    int32_t first;

    conf_set(f, "streams.initial.rebalance.delay.ms", "0", 0);
    conf_set(f, "streams.assignment.interval.ms", "0", 0);
    joins(&q, &t);
    beat(f, &q, &s);
    until_tasks(f, &q, &s);
    first = s.member_epoch;
    assert_int_equal(commit(f, 9, first, "m-1"), 0);
    assert_int_equal(commit(f, 9, first + 1, "m-1"), kafka_code(ERR_STALE_MEMBER_EPOCH));
    assert_int_equal(commit(f, 9, first, "m-2"), kafka_code(ERR_UNKNOWN_MEMBER));
    conf_set(f, "streams.num.standby.replicas", "1", 0);
    goes_on(&q, &s);
    beat(f, &q, &s);
    assert_true(s.member_epoch > first); /* a new assignment: the task stays */
    assert_int_equal(commit(f, 9, first, "m-1"), 0);
    kafka_list_groups_request_init(&lq);
    lq.types_filter = &kind;
    lq.types_filter_n = 1;
    dcall(&f->c, 16, list_groups, 5, &lq, &ls);
    assert_int_equal(ls.groups_n, 1);
    assert_slice(ls.groups[0].group_type, "streams");
    assert_slice(ls.groups[0].protocol_type, "streams");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(members, setup, teardown),
        cmocka_unit_test_setup_teardown(kept_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(kept_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(server_conf, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
