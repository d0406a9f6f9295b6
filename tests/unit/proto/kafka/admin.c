/* Topics made, changed and deleted by Kafka's requests: what is answered, word for word where
 * clients show it, and what the broker has afterwards. */
#include "detached.h"

struct fx {
    struct dk d;
    struct dconn c;
};

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof *f);

    f->d.week = true;
    dk_start(&f->d);
    dconn_open(&f->d, &f->c);
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

static int32_t partitions_of(struct fx *f, const char *name)
{
    struct topic *t = topic_find(f->d.b, slice_str(name));
    int32_t n = t ? topic_partitions(t) : -1;

    topic_unref(&t);
    return n;
}

/* ---- CreateTopics ---- */

typedef struct kafka_create_topics_request_topic new_topic;

static void create(struct fx *f, int16_t version, const new_topic *topics, uint32_t n,
                   bool validate_only, struct kafka_create_topics_response *s)
{
    struct kafka_create_topics_request m;

    kafka_create_topics_request_init(&m);
    m.topics = (new_topic *)topics;
    m.topics_n = n;
    m.validate_only = validate_only;
    dcall(&f->c, 19, create_topics, version, &m, s);
}

static void make(struct fx *f, const char *name, int32_t partitions)
{
    new_topic t = {.name = slice_str(name), .num_partitions = partitions, .replication_factor = -1};
    struct kafka_create_topics_response s;

    create(f, 7, &t, 1, false, &s);
    assert_int_equal(s.topics_n, 1);
    assert_int_equal(s.topics[0].error_code, 0);
}

static void create_answers(void **state)
{
    struct kafka_create_topics_request_config conf[] = {
        {SLICE_LIT("retention.ms"), SLICE_LIT("5000")},
        {SLICE_LIT("cleanup.policy"), SLICE_LIT("compact")}};
    new_topic t[] = {{.name = SLICE_LIT("a"),
                      .num_partitions = 3,
                      .replication_factor = 1,
                      .configs = conf,
                      .configs_n = 2},
                     {.name = SLICE_LIT("b"), .num_partitions = -1, .replication_factor = -1}};
    struct kafka_create_topics_response s;
    struct topic_conf got;
    struct topic *a;
    uint32_t i, seen = 0;

    create(*state, 7, t, 2, false, &s);
    assert_int_equal(s.topics_n, 2);
    for (i = 0; i < 2; i++) {
        assert_int_equal(s.topics[i].error_code, 0);
        assert_true(slice_is_null(s.topics[i].error_message));
        assert_int_equal(s.topics[i].replication_factor, 1);
        assert_int_equal(s.topics[i].num_partitions, i ? 1 : 3);
    }
    a = topic_find(((struct fx *)*state)->d.b, SLICE_LIT("a"));
    assert_non_null(a);
    assert_memory_equal(s.topics[0].topic_id, topic_uuid(a), 16);
    topic_conf_get(a, &got);
    assert_int_equal(got.retention_ms, 5000);
    assert_int_equal(got.cleanup, TOPIC_CLEANUP_COMPACT);
    assert_int_equal(topic_partitions(a), 3);
    topic_unref(&a);
    for (i = 0; i < s.topics[0].configs_n; i++) {
        struct kafka_create_topics_response_config *c = &s.topics[0].configs[i];

        if (slice_eq_str(c->name, "retention.ms")) {
            assert_slice(c->value, "5000");
            assert_int_equal(c->config_source, 1);
            seen++;
        } else if (slice_eq_str(c->name, "segment.bytes")) {
            assert_slice(c->value, "1073741824");
            assert_int_equal(c->config_source, 5);
            seen++;
        }
    }
    assert_int_equal(seen, 2);
    assert_true(s.topics[0].configs_n > 30);
}

/* Every way to be refused, beside a topic that is made all the same. */
static void create_refused(void **state)
{
    int32_t us[] = {1, 1}, them[] = {7};
    struct kafka_create_topics_request_assignment one = {0, us, 1},
                                                  twice[] = {{0, us, 1}, {0, us, 1}},
                                                  gap[] = {{0, us, 1}, {2, us, 1}},
                                                  two = {0, us, 2}, other = {0, them, 1},
                                                  none = {0, us, 0};
    struct kafka_create_topics_request_config bad = {SLICE_LIT("retention.ms"), SLICE_LIT("x")},
                                              unknown = {SLICE_LIT("no.such"), SLICE_LIT("1")},
                                              null = {SLICE_LIT("retention.ms"), SLICE_NULL};
    const struct {
        new_topic t;
        int16_t code;
        const char *text;
    } rows[] = {
        {{SLICE_LIT("good"), 2, 1, NULL, 0, NULL, 0}, 0, ""},
        {{SLICE_LIT("placed"), -1, -1, &one, 1, NULL, 0}, 0, ""},
        {{SLICE_LIT(""), 1, 1, NULL, 0, NULL, 0}, 17, "is not a topic name"},
        {{SLICE_LIT("a b"), 1, 1, NULL, 0, NULL, 0}, 17, "is not a topic name"},
        {{SLICE_LIT(".."), 1, 1, NULL, 0, NULL, 0}, 17, "is not a topic name"},
        {{SLICE_LIT("there"), 1, 1, NULL, 0, NULL, 0}, 36, "exists already"},
        {{SLICE_LIT("p0"), 0, 1, NULL, 0, NULL, 0}, 37, "non-positive"},
        {{SLICE_LIT("p-2"), -2, 1, NULL, 0, NULL, 0}, 37, "non-positive"},
        {{SLICE_LIT("p10001"), 10001, 1, NULL, 0, NULL, 0}, 37, "at most 10000"},
        {{SLICE_LIT("r0"), 1, 0, NULL, 0, NULL, 0}, 38, "larger than 0"},
        {{SLICE_LIT("r3"), 1, 3, NULL, 0, NULL, 0}, 38, "factor of 3 cannot be reached"},
        {{SLICE_LIT("both"), 1, -1, &one, 1, NULL, 0}, 42, "numPartitions was not set to -1"},
        {{SLICE_LIT("both2"), -1, 1, &one, 1, NULL, 0}, 42, "replication factor was not"},
        {{SLICE_LIT("twice"), -1, -1, twice, 2, NULL, 0}, 39, "multiple manual"},
        {{SLICE_LIT("gap"), -1, -1, gap, 2, NULL, 0}, 39, "consecutive"},
        {{SLICE_LIT("two"), -1, -1, &two, 1, NULL, 0}, 39, "more than once"},
        {{SLICE_LIT("other"), -1, -1, &other, 1, NULL, 0}, 39, "broker 7, but no such"},
        {{SLICE_LIT("none"), -1, -1, &none, 1, NULL, 0}, 39, "empty replica list"},
        {{SLICE_LIT("bad"), 1, 1, NULL, 0, &bad, 1}, 40, "retention.ms cannot be \"x\""},
        {{SLICE_LIT("unk"), 1, 1, NULL, 0, &unknown, 1}, 40, "no topic configuration"},
        {{SLICE_LIT("null"), 1, 1, NULL, 0, &null, 1}, 40, "Null value"},
    };
    struct kafka_create_topics_response s;
    new_topic t[32];
    char text[512];
    size_t i, n = sizeof rows / sizeof *rows;

    make(*state, "there", 1);
    for (i = 0; i < n; i++)
        t[i] = rows[i].t;
    create(*state, 5, t, (uint32_t)n, false, &s);
    assert_int_equal(s.topics_n, n);
    for (i = 0; i < n; i++) {
        struct kafka_create_topics_response_topic *o = &s.topics[i];

        if (o->error_code != rows[i].code)
            fail_msg("%zu: %d %.*s", i, o->error_code, (int)o->error_message.len,
                     (const char *)o->error_message.ptr);
        snprintf(text, sizeof text, "%.*s", (int)o->error_message.len,
                 (const char *)o->error_message.ptr);
        if (!strstr(text, rows[i].text))
            fail_msg("%zu: %s", i, text);
        assert_int_equal(o->num_partitions, rows[i].code ? -1 : (int32_t)(i ? 1 : 2));
    }
    assert_int_equal(topic_count(((struct fx *)*state)->d.b), 3);
}

static void create_twice(void **state)
{
    new_topic t[] = {{.name = SLICE_LIT("x"), .num_partitions = 1, .replication_factor = 1},
                     {.name = SLICE_LIT("y"), .num_partitions = 1, .replication_factor = 1},
                     {.name = SLICE_LIT("x"), .num_partitions = 2, .replication_factor = 1}};
    struct kafka_create_topics_response s;

    create(*state, 2, t, 3, false, &s);
    assert_int_equal(s.topics_n, 2);
    assert_int_equal(s.topics[0].error_code, 42);
    assert_slice(s.topics[0].error_message, "Duplicate topic name.");
    assert_int_equal(s.topics[1].error_code, 0);
    assert_int_equal(partitions_of(*state, "x"), -1);
    assert_int_equal(partitions_of(*state, "y"), 1);
}

static void create_only_checked(void **state)
{
    new_topic t[] = {{.name = SLICE_LIT("v"), .num_partitions = 4, .replication_factor = 1},
                     {.name = SLICE_LIT("w"), .num_partitions = 4, .replication_factor = 2}};
    struct kafka_create_topics_response s;
    static const uint8_t zero[16];

    create(*state, 7, t, 2, true, &s);
    assert_int_equal(s.topics[0].error_code, 0);
    assert_int_equal(s.topics[0].num_partitions, 4);
    assert_memory_equal(s.topics[0].topic_id, zero, 16);
    assert_int_equal(s.topics[1].error_code, 38);
    assert_int_equal(partitions_of(*state, "v"), -1);
}

static void create_many(void **state)
{
    struct kafka_create_topics_response s;
    new_topic t[200];
    char names[200][16];
    uint32_t i;

    for (i = 0; i < 200; i++) {
        snprintf(names[i], sizeof names[i], "many-%u", i);
        t[i] =
            (new_topic){.name = slice_str(names[i]), .num_partitions = 2, .replication_factor = -1};
    }
    create(*state, 7, t, 200, false, &s);
    for (i = 0; i < 200; i++) {
        assert_int_equal(s.topics[i].error_code, 0);
        assert_int_equal(partitions_of(*state, names[i]), 2);
    }
}

/* ---- DeleteTopics ---- */

static void delete_by_name(void **state)
{
    struct slice names[] = {SLICE_LIT("a"), SLICE_LIT("missing"), SLICE_LIT("c"), SLICE_LIT("c")};
    struct kafka_delete_topics_request m;
    struct kafka_delete_topics_response s;

    make(*state, "a", 1);
    make(*state, "c", 1);
    kafka_delete_topics_request_init(&m);
    m.topic_names = names;
    m.topic_names_n = 4;
    m.timeout_ms = 10000;
    dcall(&((struct fx *)*state)->c, 20, delete_topics, 5, &m, &s);
    assert_int_equal(s.responses_n, 3);
    assert_int_equal(s.responses[0].error_code, 0);
    assert_int_equal(s.responses[1].error_code, 3);
    assert_slice(s.responses[1].name, "missing");
    assert_int_equal(s.responses[2].error_code, 42);
    assert_slice(s.responses[2].error_message, "Duplicate topic name.");
    assert_int_equal(partitions_of(*state, "a"), -1);
    assert_int_equal(partitions_of(*state, "c"), 1);
}

static void delete_by_id(void **state)
{
    struct fx *f = *state;
    struct kafka_delete_topics_request_topic want[6];
    struct kafka_delete_topics_request m;
    struct kafka_delete_topics_response s;
    struct topic *t;
    uint32_t i;

    make(f, "a", 1);
    make(f, "b", 1);
    for (i = 0; i < 6; i++)
        want[i] = (struct kafka_delete_topics_request_topic){.name = SLICE_NULL};
    t = topic_find(f->d.b, SLICE_LIT("a"));
    memcpy(want[0].topic_id, topic_uuid(t), 16);
    memcpy(want[3].topic_id, topic_uuid(t), 16);
    want[3].name = SLICE_LIT("a");
    topic_unref(&t);
    memset(want[1].topic_id, 0x77, 16);
    want[2].name = SLICE_LIT("b");
    kafka_delete_topics_request_init(&m);
    m.topics = want;
    m.topics_n = 3;
    m.timeout_ms = 10000;
    dcall(&f->c, 20, delete_topics, 6, &m, &s);
    assert_int_equal(s.responses_n, 3);
    assert_int_equal(s.responses[0].error_code, 0);
    assert_slice(s.responses[0].name, "a");
    assert_int_equal(s.responses[1].error_code, 100);
    assert_int_equal(s.responses[2].error_code, 0);
    assert_int_equal(topic_count(f->d.b), 0);
    m.topics = want + 3; /* both, neither, neither */
    dcall(&f->c, 20, delete_topics, 6, &m, &s);
    assert_int_equal(s.responses_n, 3);
    for (i = 0; i < 3; i++)
        assert_int_equal(s.responses[i].error_code, 42);
    assert_slice(s.responses[0].error_message, "You may not specify both topic name and topic id.");
    assert_slice(s.responses[2].error_message, "Neither topic name nor id were specified.");
}

/* ---- CreatePartitions ---- */

static void partitions_added(void **state)
{
    int32_t us[] = {1}, them[] = {2};
    struct kafka_create_partitions_request_assignment right[] = {{us, 1}, {us, 1}},
                                                      wrong[] = {{us, 1}, {them, 1}};
    struct kafka_create_partitions_request_topic t[] = {
        {SLICE_LIT("a"), 4, NULL, 0, true},   {SLICE_LIT("b"), 4, right, 2, false},
        {SLICE_LIT("c"), 4, right, 1, false}, {SLICE_LIT("d"), 4, wrong, 2, false},
        {SLICE_LIT("e"), 2, NULL, 0, true},   {SLICE_LIT("f"), 1, NULL, 0, true},
        {SLICE_LIT("g"), 3, NULL, 0, true},   {SLICE_LIT("h"), 10001, NULL, 0, true},
        {SLICE_LIT("i"), 3, NULL, 0, true},   {SLICE_LIT("i"), 4, NULL, 0, true}};
    const int16_t codes[] = {0, 0, 39, 39, 37, 37, 3, 37, 42};
    struct kafka_create_partitions_request m = {t, 10, 10000, true};
    struct kafka_create_partitions_response s;
    unsigned i, round;

    for (i = 0; i < 9; i++)
        if (i != 6)
            make(*state, (char[]){(char)('a' + i), 0}, 2);
    for (round = 0; round < 2; round++) {
        m.validate_only = round == 0;
        dcall(&((struct fx *)*state)->c, 37, create_partitions, 3, &m, &s);
        assert_int_equal(s.results_n, 9);
        for (i = 0; i < 9; i++)
            assert_int_equal(s.results[i].error_code, codes[i]);
        assert_int_equal(partitions_of(*state, "a"), round ? 4 : 2);
        assert_int_equal(partitions_of(*state, "b"), round ? 4 : 2);
        assert_int_equal(partitions_of(*state, "c"), 2);
    }
    assert_slice(s.results[4].error_message, "Topic already has 2 partition(s).");
    assert_slice(s.results[5].error_message,
                 "The topic f currently has 2 partition(s); 1 would not be an increase.");
}

/* ---- DeleteRecords ---- */

static void put(struct fx *f, const char *topic, unsigned n)
{
    struct topic *t = topic_find(f->d.b, slice_str(topic));
    struct append *a = append_new(f->d.b, NULL, NULL);
    struct append_record r = {.timestamp_ms = -1, .key = SLICE_LIT("k"), .value = SLICE_LIT("v")};
    struct append_slot slot;
    struct errinfo info = {0};

    while (n--)
        assert_int_equal(append_record(a, t, 0, &r, &slot, &info), ERR_OK);
    assert_int_equal(append_submit_wait(a, &info), ERR_OK);
    append_free(&a);
    topic_unref(&t);
}

static int64_t start_of(struct fx *f, const char *topic)
{
    struct topic *t = topic_find(f->d.b, slice_str(topic));
    struct plog_info now;

    plog_info_get(partition_log(topic_partition(t, 0)), &now);
    topic_unref(&t);
    return now.start_offset;
}

static void trim(struct fx *f, const char *topic, int32_t partition, int64_t offset,
                 struct kafka_delete_records_response_partition *out)
{
    struct kafka_delete_records_request_partition p = {partition, offset};
    struct kafka_delete_records_request_topic t = {slice_str(topic), &p, 1};
    struct kafka_delete_records_request m = {&t, 1, 10000};
    struct kafka_delete_records_response s;

    dcall(&f->c, 21, delete_records, 2, &m, &s);
    assert_int_equal(s.topics_n, 1);
    assert_slice(s.topics[0].name, topic);
    assert_int_equal(s.topics[0].partitions_n, 1);
    *out = s.topics[0].partitions[0];
    assert_int_equal(out->partition_index, partition);
}

static void records_deleted(void **state)
{
    const struct {
        const char *topic;
        int32_t partition;
        int64_t offset;
        int16_t code;
        int64_t low;
    } rows[] = {
        {"a", 0, 4, 0, 4},   {"a", 0, 2, 0, 4},   {"a", 0, 11, 1, -1}, {"a", 0, -2, 1, -1},
        {"a", 1, 0, 0, 0},   {"a", 2, 0, 3, -1},  {"a", -1, 0, 3, -1}, {"missing", 0, 0, 3, -1},
        {"c", 0, 1, 44, -1}, {"a", 0, -1, 0, 10}, {"a", 0, -1, 0, 10},
    };
    struct kafka_create_topics_request_config compact = {SLICE_LIT("cleanup.policy"),
                                                         SLICE_LIT("compact")};
    new_topic c = {.name = SLICE_LIT("c"),
                   .num_partitions = 1,
                   .replication_factor = 1,
                   .configs = &compact,
                   .configs_n = 1};
    struct kafka_delete_records_response_partition o;
    struct kafka_create_topics_response s;
    size_t i;

    make(*state, "a", 2);
    create(*state, 7, &c, 1, false, &s);
    put(*state, "a", 10);
    put(*state, "c", 3);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        trim(*state, rows[i].topic, rows[i].partition, rows[i].offset, &o);
        if (o.error_code != rows[i].code || o.low_watermark != rows[i].low)
            fail_msg("row %zu: %d, %d", i, o.error_code, (int)o.low_watermark);
        if (i == 1)
            assert_int_equal(start_of(*state, "a"), 4);
    }
    assert_int_equal(start_of(*state, "a"), 10);
    assert_int_equal(start_of(*state, "c"), 0);
}

/* ---- DescribeConfigs ---- */

typedef struct kafka_describe_configs_response_config shown;

static void describe(struct fx *f, int8_t type, const char *name, const char *key,
                     struct kafka_describe_configs_response_result *out)
{
    struct slice keys[] = {slice_str(key)};
    struct kafka_describe_configs_request_resource r = {type, slice_str(name), keys, key != NULL,
                                                        key == NULL};
    struct kafka_describe_configs_request m = {&r, 1, true, true};
    struct kafka_describe_configs_response s;

    dcall(&f->c, 32, describe_configs, 4, &m, &s);
    assert_int_equal(s.results_n, 1);
    assert_int_equal(s.results[0].resource_type, type);
    assert_slice(s.results[0].resource_name, name);
    *out = s.results[0];
}

static const shown *shown_find(const struct kafka_describe_configs_response_result *o,
                               const char *name)
{
    uint32_t i;

    for (i = 0; i < o->configs_n; i++)
        if (slice_eq_str(o->configs[i].name, name))
            return &o->configs[i];
    fail_msg("%s is not shown", name);
    return NULL;
}

static void configs_shown(void **state)
{
    struct kafka_create_topics_request_config conf = {SLICE_LIT("retention.ms"), SLICE_LIT("77")};
    new_topic t = {.name = SLICE_LIT("a"),
                   .num_partitions = 1,
                   .replication_factor = 1,
                   .configs = &conf,
                   .configs_n = 1};
    struct kafka_describe_configs_response_result o;
    struct kafka_create_topics_response made;
    const shown *c;

    create(*state, 7, &t, 1, false, &made);
    describe(*state, 2, "a", NULL, &o);
    assert_int_equal(o.error_code, 0);
    assert_true(o.configs_n > 30);
    c = shown_find(&o, "retention.ms");
    assert_slice(c->value, "77");
    assert_int_equal(c->config_source, 1);
    assert_int_equal(c->config_type, 5);
    assert_false(c->read_only);
    assert_int_equal(c->synonyms_n, 2);
    assert_slice(c->synonyms[0].value, "77");
    assert_slice(c->synonyms[1].name, "log.retention.ms");
    assert_slice(c->synonyms[1].value, "604800000");
    assert_int_equal(c->synonyms[1].source, 5);
    assert_true(c->documentation.len > 10);
    c = shown_find(&o, "cleanup.policy");
    assert_slice(c->value, "delete");
    assert_int_equal(c->config_source, 5);
    assert_int_equal(c->config_type, 7);
    describe(*state, 2, "a", "segment.bytes", &o);
    assert_int_equal(o.configs_n, 1);
    assert_slice(o.configs[0].value, "1073741824");
    describe(*state, 2, "missing", NULL, &o);
    assert_int_equal(o.error_code, 3);
}

static void broker_shown(void **state)
{
    struct kafka_describe_configs_response_result o;
    const shown *c;

    describe(*state, 4, "1", NULL, &o);
    assert_int_equal(o.error_code, 0);
    c = shown_find(&o, "delete.topic.enable");
    assert_slice(c->value, "true");
    assert_true(c->read_only);
    assert_int_equal(c->config_type, 1);
    assert_slice(shown_find(&o, "log.dirs")->value, ((struct fx *)*state)->d.dir);
    assert_int_equal(shown_find(&o, "log.dirs")->config_source, 4);
    assert_slice(shown_find(&o, "log.retention.ms")->value, "604800000");
    assert_slice(shown_find(&o, "connections.max.idle.ms")->value, "600000");
    assert_int_equal(shown_find(&o, "connections.max.idle.ms")->config_source, 5);
    describe(*state, 4, "", NULL, &o);
    assert_int_equal(o.error_code, 0);
    assert_int_equal(o.configs_n, 0);
    describe(*state, 4, "2", NULL, &o);
    assert_int_equal(o.error_code, 42);
    describe(*state, 32, "g", NULL, &o);
    assert_slice(shown_find(&o, "consumer.session.timeout.ms")->value, "45000");
    describe(*state, 99, "x", NULL, &o);
    assert_int_equal(o.error_code, 42);
}

/* ---- AlterConfigs ---- */

static struct topic_conf conf_of(struct fx *f, const char *name)
{
    struct topic *t = topic_find(f->d.b, slice_str(name));
    struct topic_conf c;

    assert_non_null(t);
    topic_conf_get(t, &c);
    topic_unref(&t);
    return c;
}

typedef struct kafka_incremental_alter_configs_request_config op;

static int16_t edit(struct fx *f, int8_t type, const char *name, bool validate_only, const op *ops,
                    uint32_t n, const char *text)
{
    struct kafka_incremental_alter_configs_request_resource r = {type, slice_str(name), (op *)ops,
                                                                 n};
    struct kafka_incremental_alter_configs_request m = {&r, 1, validate_only};
    struct kafka_incremental_alter_configs_response s;
    char got[512];

    dcall(&f->c, 44, incremental_alter_configs, 1, &m, &s);
    assert_int_equal(s.responses_n, 1);
    assert_slice(s.responses[0].resource_name, name);
    snprintf(got, sizeof got, "%.*s", (int)s.responses[0].error_message.len,
             (const char *)s.responses[0].error_message.ptr);
    if (!strstr(got, text))
        fail_msg("\"%s\" is not in \"%s\"", text, got);
    return s.responses[0].error_code;
}

static void configs_edited(void **state)
{
    const op set = {SLICE_LIT("retention.ms"), 0, SLICE_LIT("99")},
             bytes = {SLICE_LIT("retention.bytes"), 0, SLICE_LIT("1000")},
             unset = {SLICE_LIT("retention.ms"), 1, SLICE_NULL},
             more = {SLICE_LIT("cleanup.policy"), 2, SLICE_LIT("compact, delete")},
             less = {SLICE_LIT("cleanup.policy"), 3, SLICE_LIT("delete")},
             number = {SLICE_LIT("retention.ms"), 2, SLICE_LIT("1")},
             null = {SLICE_LIT("retention.ms"), 0, SLICE_NULL},
             verb = {SLICE_LIT("retention.ms"), 4, SLICE_LIT("1")},
             missing = {SLICE_LIT("no.such"), 2, SLICE_LIT("1")}, twice[] = {set, unset},
             half[] = {bytes, {SLICE_LIT("segment.ms"), 0, SLICE_LIT("0")}};
    struct fx *f = *state;

    make(f, "a", 1);
    assert_int_equal(edit(f, 2, "a", true, &set, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").retention_ms, 604800000);
    assert_int_equal(edit(f, 2, "a", false, &set, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").retention_ms, 99);
    assert_int_equal(edit(f, 2, "a", false, &bytes, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").retention_ms, 99);
    assert_int_equal(conf_of(f, "a").retention_bytes, 1000);
    assert_int_equal(edit(f, 2, "a", false, &unset, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").retention_ms, 604800000);
    assert_int_equal(edit(f, 2, "a", false, &more, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").cleanup, TOPIC_CLEANUP_COMPACT | TOPIC_CLEANUP_DELETE);
    assert_int_equal(edit(f, 2, "a", false, &less, 1, ""), 0);
    assert_int_equal(conf_of(f, "a").cleanup, TOPIC_CLEANUP_COMPACT);
    assert_int_equal(edit(f, 2, "a", false, &number, 1, "its type is not LIST"), 40);
    assert_int_equal(edit(f, 2, "a", false, &null, 1, "Null value not supported"), 42);
    assert_int_equal(edit(f, 2, "a", false, &verb, 1, "Unknown operation type 4"), 42);
    assert_int_equal(edit(f, 2, "a", false, &missing, 1, "no topic configuration"), 40);
    assert_int_equal(edit(f, 2, "a", false, twice, 2, "duplicate config keys"), 42);
    assert_int_equal(edit(f, 2, "a", false, half, 2, "segment.ms cannot be"), 40);
    assert_int_equal(edit(f, 2, "missing", false, &set, 1, "does not exist"), 3);
    assert_int_equal(edit(f, 4, "1", false, &set, 1, "Cannot update these"), 40);
    assert_int_equal(edit(f, 4, "", false, &set, 1, "Cannot update these"), 40);
    assert_int_equal(edit(f, 4, "7", false, &set, 1, "Unexpected broker id"), 42);
    assert_int_equal(edit(f, 32, "g", false, &set, 1, "Unknown group config"), 40);
    assert_int_equal(edit(f, 5, "g", false, &set, 1, "Unknown resource type"), 42);
}

/* The whole configuration is replaced; a resource named twice is refused, others are not. */
static void configs_replaced(void **state)
{
    struct kafka_alter_configs_request_config one = {SLICE_LIT("retention.bytes"), SLICE_LIT("5")};
    struct kafka_alter_configs_request_resource r[] = {
        {2, SLICE_LIT("a"), &one, 1}, {2, SLICE_LIT("b"), &one, 1}, {2, SLICE_LIT("b"), NULL, 0}};
    const op set = {SLICE_LIT("retention.ms"), 0, SLICE_LIT("99")};
    struct kafka_alter_configs_request m = {r, 3, false};
    struct kafka_alter_configs_response s;
    struct fx *f = *state;

    make(f, "a", 1);
    make(f, "b", 1);
    assert_int_equal(edit(f, 2, "a", false, &set, 1, ""), 0);
    dcall(&f->c, 33, alter_configs, 2, &m, &s);
    assert_int_equal(s.responses_n, 3);
    assert_int_equal(s.responses[0].error_code, 0);
    assert_int_equal(s.responses[1].error_code, 42);
    assert_int_equal(s.responses[2].error_code, 42);
    assert_int_equal(conf_of(f, "a").retention_ms, 604800000);
    assert_int_equal(conf_of(f, "a").retention_bytes, 5);
    assert_int_equal(conf_of(f, "b").retention_bytes, -1);
}

/* Two connections change the same topic at the same time: both changes count. */
static void configs_at_once(void **state)
{
    struct kafka_incremental_alter_configs_request_resource r = {2, SLICE_LIT("a"), NULL, 1};
    struct kafka_incremental_alter_configs_request m = {&r, 1, false};
    struct kafka_incremental_alter_configs_response s;
    struct fx *f = *state;
    struct dconn c[4];
    char text[16];
    int i, round;

    make(f, "a", 1);
    for (i = 0; i < 4; i++)
        dconn_open(&f->d, &c[i]);
    for (round = 1; round < 20; round++) {
        const char *names[] = {"retention.ms", "retention.bytes", "segment.bytes", "flush.ms"};

        snprintf(text, sizeof text, "%d", 2000000 + round);
        for (i = 0; i < 4; i++) {
            op o = {slice_str(names[i]), 0, slice_str(text)};

            r.configs = &o;
            dcall_begin(&c[i], 44, 1);
            kafka_incremental_alter_configs_request_encode(&c[i].w, 1, &m);
            dcall_send(&c[i]);
        }
        for (i = 0; i < 4; i++) {
            dcall_open(&c[i], 44, 1);
            assert_int_equal(
                kafka_incremental_alter_configs_response_decode(&c[i].r, 1, &c[i].arena, &s),
                ERR_OK);
            assert_int_equal(s.responses[0].error_code, 0);
        }
        assert_int_equal(conf_of(f, "a").retention_ms, 2000000 + round);
        assert_int_equal(conf_of(f, "a").retention_bytes, 2000000 + round);
        assert_int_equal(conf_of(f, "a").segment_bytes, 2000000 + round);
        assert_int_equal(conf_of(f, "a").flush_ms, 2000000 + round);
    }
    for (i = 0; i < 4; i++)
        dconn_fini(&c[i]);
}

static void resources_listed(void **state)
{
    int8_t topics[] = {2, 2}, odd[] = {3};
    struct kafka_list_config_resources_request m = {topics, 2};
    struct kafka_list_config_resources_response s;
    struct fx *f = *state;

    make(f, "b", 1);
    make(f, "a", 1);
    dcall(&f->c, 74, list_config_resources, 1, &m, &s);
    assert_int_equal(s.config_resources_n, 2);
    assert_slice(s.config_resources[0].resource_name, "a");
    assert_slice(s.config_resources[1].resource_name, "b");
    m.resource_types_n = 0;
    dcall(&f->c, 74, list_config_resources, 1, &m, &s);
    assert_int_equal(s.config_resources_n, 4);
    dcall(&f->c, 74, list_config_resources, 0, &m, &s);
    assert_int_equal(s.config_resources_n, 0);
    m = (struct kafka_list_config_resources_request){odd, 1};
    dcall(&f->c, 74, list_config_resources, 1, &m, &s);
    assert_int_equal(s.error_code, 35);
}

/* ---- log directories, elections, reassignments ---- */

static void dirs_shown(void **state)
{
    int32_t index[] = {0, 5};
    struct kafka_describe_log_dirs_request_topic t[] = {{SLICE_LIT("a"), index, 2},
                                                        {SLICE_LIT("missing"), index, 1}};
    struct kafka_describe_log_dirs_request m = {NULL, 0, true};
    struct kafka_describe_log_dirs_response s;
    struct fx *f = *state;

    make(f, "a", 2);
    make(f, "b", 1);
    put(f, "a", 50);
    dcall(&f->c, 35, describe_log_dirs, 4, &m, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.results_n, 1);
    assert_slice(s.results[0].log_dir, f->d.dir);
    assert_true(s.results[0].usable_bytes > 0);
    assert_true(s.results[0].total_bytes > s.results[0].usable_bytes);
    assert_int_equal(s.results[0].topics_n, 2);
    assert_int_equal(s.results[0].topics[0].partitions_n, 2);
    assert_true(s.results[0].topics[0].partitions[0].partition_size > 50 * 5);
    assert_int_equal(s.results[0].topics[0].partitions[1].partition_size, 0);
    m = (struct kafka_describe_log_dirs_request){t, 2, false};
    dcall(&f->c, 35, describe_log_dirs, 1, &m, &s);
    assert_int_equal(s.results[0].topics_n, 1);
    assert_int_equal(s.results[0].topics[0].partitions_n, 1);
}

static void nothing_elected(void **state)
{
    int32_t index[] = {0, 3};
    struct kafka_elect_leaders_request_topic_partition t[] = {{SLICE_LIT("a"), index, 2},
                                                              {SLICE_LIT("none"), index, 1}};
    struct kafka_elect_leaders_request m = {0, t, 2, false, 1000};
    struct kafka_elect_leaders_response s;
    struct fx *f = *state;

    make(f, "a", 1);
    dcall(&f->c, 43, elect_leaders, 2, &m, &s);
    assert_int_equal(s.replica_election_results_n, 2);
    assert_int_equal(s.replica_election_results[0].partition_result[0].error_code, 84);
    assert_int_equal(s.replica_election_results[0].partition_result[1].error_code, 3);
    assert_slice(s.replica_election_results[0].partition_result[1].error_message,
                 "No such partition as a-3");
    assert_int_equal(s.replica_election_results[1].partition_result[0].error_code, 3);
    m.topic_partitions_n = 0;
    m.topic_partitions_null = true;
    dcall(&f->c, 43, elect_leaders, 2, &m, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.replica_election_results_n, 0);
}

static void nothing_moved(void **state)
{
    int32_t us[] = {1}, them[] = {2};
    struct kafka_alter_partition_reassignments_request_partition p[] = {
        {0, us, 1, false}, {0, them, 1, false}, {0, NULL, 0, true}, {9, us, 1, false}};
    struct kafka_alter_partition_reassignments_request_topic t = {SLICE_LIT("a"), p, 4};
    struct kafka_alter_partition_reassignments_request m = {1000, true, &t, 1};
    struct kafka_alter_partition_reassignments_response s;
    struct kafka_list_partition_reassignments_request lm = {1000, NULL, 0, true};
    struct kafka_list_partition_reassignments_response ls;
    const int16_t codes[] = {0, 39, 85, 3};
    struct fx *f = *state;
    int i;

    make(f, "a", 1);
    dcall(&f->c, 45, alter_partition_reassignments, 1, &m, &s);
    assert_int_equal(s.responses[0].partitions_n, 4);
    for (i = 0; i < 4; i++)
        assert_int_equal(s.responses[0].partitions[i].error_code, codes[i]);
    dcall(&f->c, 46, list_partition_reassignments, 0, &lm, &ls);
    assert_int_equal(ls.error_code, 0);
    assert_int_equal(ls.topics_n, 0);
}

/* What was answered is there after the directory is opened again. */
static void durable(void **state)
{
    struct kafka_delete_records_response_partition o;
    struct fx *f = *state;

    make(f, "kept", 3);
    put(f, "kept", 5);
    trim(f, "kept", 0, 3, &o);
    dk_close(&f->d);
    dconn_fini(&f->c);
    dk_open(&f->d);
    dconn_open(&f->d, &f->c);
    assert_int_equal(partitions_of(f, "kept"), 3);
    assert_int_equal(start_of(f, "kept"), 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(create_answers),  T(create_refused),   T(create_twice),    T(create_only_checked),
        T(create_many),     T(delete_by_name),   T(delete_by_id),    T(partitions_added),
        T(records_deleted), T(durable),          T(configs_shown),   T(broker_shown),
        T(configs_edited),  T(configs_replaced), T(configs_at_once), T(resources_listed),
        T(dirs_shown),      T(nothing_elected),  T(nothing_moved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
