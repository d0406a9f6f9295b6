/* Who may do what: each kind of rule and what it decides, by requests of users that it is about; the
 * rules themselves made, listed and deleted; quotas likewise, and that they slow clients down. */
#include <time.h>

#include "detached.h"

struct fx {
    struct dk d;
    struct dconn admin, user;
    char users[96];
};

static void as_user(struct fx *f, struct dconn *c, const char *user)
{
    struct kafka_sasl_handshake_request hm = {SLICE_LIT("PLAIN")};
    struct kafka_sasl_handshake_response hs;
    struct kafka_sasl_authenticate_request m;
    struct kafka_sasl_authenticate_response s;
    char text[64];

    if (c->c)
        dconn_fini(c);
    dconn_open(&f->d, c);
    m.auth_bytes = slice_of(text, (size_t)snprintf(text, sizeof text, "%c%s%cpw", 0, user, 0));
    dcall(c, 17, sasl_handshake, 1, &hm, &hs);
    dcall(c, 36, sasl_authenticate, 2, &m, &s);
    assert_int_equal(s.error_code, 0);
}

static struct fx *fx_new(void)
{
    struct fx *f = calloc(1, sizeof *f);
    FILE *o;

    snprintf(f->users, sizeof f->users, "/tmp/weir-acl-users-%d", (int)getpid());
    o = fopen(f->users, "w");
    assert_non_null(o);
    fputs("root:pw\nann:pw\nben:pw\n", o);
    fclose(o);
    f->d.kc.sasl_mechanisms = "PLAIN";
    f->d.kc.sasl_users = f->users;
    f->d.kc.super_users = "User:root;User:other";
    f->d.kc.acls = true;
    return f;
}

static int start(struct fx *f, void **state)
{
    dk_start(&f->d);
    as_user(f, &f->admin, "root");
    as_user(f, &f->user, "ann");
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return start(fx_new(), state);
}

static int setup_everyone(void **state)
{
    struct fx *f = fx_new();

    f->d.kc.acls_else_everyone = true;
    return start(f, state);
}

static int setup_off(void **state)
{
    struct fx *f = fx_new();

    f->d.kc.acls = false;
    return start(f, state);
}

static int teardown(void **state)
{
    struct fx *f = *state;

    dk_end(&f->d);
    dconn_fini(&f->admin);
    dconn_fini(&f->user);
    unlink(f->users);
    free(f);
    return 0;
}

enum { TOPIC = 2, GROUP = 3, CLUSTER = 4 };
enum { LITERAL = 3, PREFIXED = 4 };
enum { ALL = 2, READ = 3, WRITE = 4, CREATE = 5, DELETE = 6, ALTER = 7, DESCRIBE = 8 };
enum { DENY = 2, ALLOW = 3 };

static struct kafka_create_acls_request_creation rule(int type, const char *name, int pattern,
                                                      const char *principal, const char *host,
                                                      int op, int permit)
{
    return (struct kafka_create_acls_request_creation){
        (int8_t)type,    slice_str(name), (int8_t)pattern, slice_str(principal),
        slice_str(host), (int8_t)op,      (int8_t)permit};
}

static int16_t add(struct dconn *c, struct kafka_create_acls_request_creation r)
{
    struct kafka_create_acls_request m = {&r, 1};
    struct kafka_create_acls_response s;

    dcall(c, 30, create_acls, 3, &m, &s);
    assert_int_equal(s.results_n, 1);
    return s.results[0].error_code;
}

static void topic(struct fx *f, const char *name)
{
    struct errinfo info;

    assert_int_equal(topic_create_wait(f->d.b, slice_str(name), 1, NULL, &info), ERR_OK);
}

/* Describing a topic's configuration stands for an operation that a client does. */
static int16_t metadata(struct fx *f, const char *name)
{
    struct kafka_metadata_request_topic t = {.name = slice_str(name)};
    struct kafka_metadata_request m;
    struct kafka_metadata_response s;

    kafka_metadata_request_init(&m);
    m.topics = &t;
    m.topics_n = 1;
    dcall(&f->user, 3, metadata, 9, &m, &s);
    assert_int_equal(s.topics_n, 1);
    return s.topics[0].error_code;
}

static int16_t make(struct dconn *c, const char *name)
{
    struct kafka_create_topics_request_topic t = {
        .name = slice_str(name), .num_partitions = 1, .replication_factor = 1};
    struct kafka_create_topics_request m = {&t, 1, 10000, false};
    struct kafka_create_topics_response s;

    dcall(c, 19, create_topics, 5, &m, &s);
    return s.topics[0].error_code;
}

static int16_t drop(struct fx *f, const char *name)
{
    struct slice names[] = {slice_str(name)};
    struct kafka_delete_topics_request m = {NULL, 0, names, 1, 10000};
    struct kafka_delete_topics_response s;

    dcall(&f->user, 20, delete_topics, 5, &m, &s);
    return s.responses[0].error_code;
}

/* ---- decisions ---- */

static void denied_by_default(void **state)
{
    struct fx *f = *state;

    topic(f, "t");
    assert_int_equal(metadata(f, "t"), 29);
    assert_int_equal(make(&f->user, "u"), 29);
    assert_int_equal(make(&f->admin, "u"), 0); /* super */
    assert_int_equal(add(&f->user, rule(TOPIC, "t", LITERAL, "User:ann", "*", READ, ALLOW)), 31);
}

static void rules_decide(void **state)
{
    static const struct {
        int type;
        const char *name;
        int pattern;
        const char *principal, *host;
        int op, permit;
        const char *asked; /* topic to be described */
        int16_t code;
    } rows[] = {
        {TOPIC, "a-lit", LITERAL, "User:ann", "*", DESCRIBE, ALLOW, "a-lit", 0},
        {TOPIC, "b-read", LITERAL, "User:ann", "*", READ, ALLOW, "b-read", 0},
        {TOPIC, "c-write", LITERAL, "User:ann", "*", WRITE, ALLOW, "c-write", 0},
        {TOPIC, "d-all", LITERAL, "User:*", "*", ALL, ALLOW, "d-all", 0},
        {TOPIC, "e-create", LITERAL, "User:ann", "*", CREATE, ALLOW, "e-create", 29},
        {TOPIC, "f-ben", LITERAL, "User:ben", "*", ALL, ALLOW, "f-ben", 29},
        {TOPIC, "g-role", LITERAL, "Role:ann", "*", ALL, ALLOW, "g-role", 29},
        {TOPIC, "h-host", LITERAL, "User:ann", "10.0.0.1", ALL, ALLOW, "h-host", 29},
        {TOPIC, "i-pre", PREFIXED, "User:ann", "*", READ, ALLOW, "i-pre-fix", 0},
        {TOPIC, "i-pre", PREFIXED, "User:ann", "*", READ, ALLOW, "i-pre", 0},
        {TOPIC, "j-pre", PREFIXED, "User:ann", "*", READ, ALLOW, "j-pr", 29},
        {TOPIC, "k-", LITERAL, "User:ann", "*", READ, ALLOW, "k-x", 29},
        {GROUP, "l-group", LITERAL, "User:ann", "*", READ, ALLOW, "l-group", 29},
        /* what denies wins, however it is put */
        {TOPIC, "a-lit", LITERAL, "User:ann", "*", DESCRIBE, DENY, "a-lit", 29},
        {TOPIC, "b-re", PREFIXED, "User:*", "*", ALL, DENY, "b-read", 29},
        /* to be denied reading is not to be denied describing */
        {TOPIC, "c-write", LITERAL, "User:ann", "*", READ, DENY, "c-write", 0},
        {TOPIC, "*", LITERAL, "User:ann", "*", READ, ALLOW, "k-x", 0},
        {TOPIC, "*", LITERAL, "User:ann", "*", READ, ALLOW, "a-lit", 29},
        {TOPIC, "*", LITERAL, "User:ann", "*", DESCRIBE, DENY, "k-x", 29},
    };
    struct fx *f = *state;
    struct errinfo info;
    size_t i;

    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        (void)topic_create_wait(f->d.b, slice_str(rows[i].asked), 1, NULL, &info);
        assert_int_equal(
            add(&f->admin, rule(rows[i].type, rows[i].name, rows[i].pattern, rows[i].principal,
                                rows[i].host, rows[i].op, rows[i].permit)),
            0);
        if (metadata(f, rows[i].asked) != rows[i].code)
            fail_msg("row %zu: %s", i, rows[i].asked);
    }
}

static void operations_differ(void **state)
{
    struct fx *f = *state;

    topic(f, "t");
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ann", "*", READ, ALLOW)), 0);
    assert_int_equal(drop(f, "t"), 29);
    assert_int_equal(make(&f->user, "n"), 29);
    assert_int_equal(add(&f->admin, rule(TOPIC, "n", PREFIXED, "User:ann", "*", CREATE, ALLOW)), 0);
    assert_int_equal(make(&f->user, "n"), 0);
    assert_int_equal(make(&f->user, "new"), 0);
    assert_int_equal(make(&f->user, "m"), 29);
    assert_int_equal(
        add(&f->admin, rule(CLUSTER, "kafka-cluster", LITERAL, "User:ann", "*", CREATE, ALLOW)), 0);
    assert_int_equal(make(&f->user, "m"), 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ann", "*", DELETE, ALLOW)), 0);
    assert_int_equal(drop(f, "t"), 0);
}

/* allow.everyone.if.no.acl.found: only where there is no rule at all. */
static void everyone_else(void **state)
{
    struct fx *f = *state;

    topic(f, "t");
    topic(f, "u");
    assert_int_equal(metadata(f, "t"), 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ben", "*", READ, ALLOW)), 0);
    assert_int_equal(metadata(f, "t"), 29);
    assert_int_equal(metadata(f, "u"), 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "u", LITERAL, "User:ben", "*", READ, DENY)), 0);
    assert_int_equal(metadata(f, "u"), 29);
}

/* A producer without a transaction needs to be allowed to write somewhere. */
static void producers_allowed(void **state)
{
    struct kafka_init_producer_id_request m;
    struct kafka_init_producer_id_response s;
    struct fx *f = *state;

    kafka_init_producer_id_request_init(&m);
    m.transactional_id = SLICE_NULL;
    dcall(&f->user, 22, init_producer_id, 4, &m, &s);
    assert_int_equal(s.error_code, 31);
    assert_int_equal(add(&f->admin, rule(TOPIC, "w", LITERAL, "User:ann", "*", WRITE, ALLOW)), 0);
    dcall(&f->user, 22, init_producer_id, 4, &m, &s);
    assert_int_equal(s.error_code, 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "*", LITERAL, "User:ann", "*", WRITE, DENY)), 0);
    dcall(&f->user, 22, init_producer_id, 4, &m, &s);
    assert_int_equal(s.error_code, 31);
}

static void off(void **state)
{
    struct kafka_describe_acls_request m = {1, SLICE_NULL, 1, SLICE_NULL, SLICE_NULL, 1, 1};
    struct kafka_describe_acls_response s;
    struct fx *f = *state;

    topic(f, "t");
    assert_int_equal(metadata(f, "t"), 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ann", "*", READ, ALLOW)), 54);
    dcall(&f->admin, 29, describe_acls, 3, &m, &s);
    assert_int_equal(s.error_code, 54);
}

/* ---- the rules ---- */

static void rules_refused(void **state)
{
    struct kafka_create_acls_request_creation r[] = {
        rule(1, "t", LITERAL, "User:a", "*", READ, ALLOW),
        rule(8, "t", LITERAL, "User:a", "*", READ, ALLOW),
        rule(TOPIC, "", LITERAL, "User:a", "*", READ, ALLOW),
        rule(TOPIC, "t", 2, "User:a", "*", READ, ALLOW),
        rule(TOPIC, "t", LITERAL, "a", "*", READ, ALLOW),
        rule(TOPIC, "t", LITERAL, ":a", "*", READ, ALLOW),
        rule(TOPIC, "t", LITERAL, "User:a", "", READ, ALLOW),
        rule(TOPIC, "t", LITERAL, "User:a", "*", 1, ALLOW),
        rule(TOPIC, "t", LITERAL, "User:a", "*", READ, 1),
        rule(CLUSTER, "other", LITERAL, "User:a", "*", READ, ALLOW),
        rule(TOPIC, "good", LITERAL, "User:a", "*", READ, ALLOW),
    };
    struct kafka_create_acls_request m = {r, 11};
    struct kafka_create_acls_response s;
    struct fx *f = *state;
    unsigned i;

    dcall(&f->admin, 30, create_acls, 2, &m, &s);
    assert_int_equal(s.results_n, 11);
    for (i = 0; i < 11; i++)
        assert_int_equal(s.results[i].error_code, i == 10 ? 0 : 42);
}

/* How many rules match, as "resources/rules". */
static const char *found(struct fx *f, struct kafka_describe_acls_request m)
{
    struct kafka_describe_acls_response s;
    static char text[32];
    uint32_t i, n = 0;

    dcall(&f->admin, 29, describe_acls, 3, &m, &s);
    if (s.error_code)
        return "refused";
    for (i = 0; i < s.resources_n; i++)
        n += s.resources[i].acls_n;
    snprintf(text, sizeof text, "%u/%u", s.resources_n, n);
    return text;
}

#define N SLICE_NULL

static void rules_found(void **state)
{
    struct fx *f = *state;
    struct kafka_delete_acls_request_filter del[] = {{TOPIC, SLICE_LIT("x-1"), 2, N, N, 1, 1},
                                                     {TOPIC, SLICE_LIT("none"), 3, N, N, 1, 1},
                                                     {0, N, 1, N, N, 1, 1}};
    struct kafka_delete_acls_request dm = {del, 3};
    struct kafka_delete_acls_response ds;

    add(&f->admin, rule(TOPIC, "x-1", LITERAL, "User:ann", "*", READ, ALLOW));
    add(&f->admin, rule(TOPIC, "x-1", LITERAL, "User:ann", "*", READ, ALLOW)); /* the same */
    add(&f->admin, rule(TOPIC, "x-1", LITERAL, "User:ben", "10.1.1.1", WRITE, DENY));
    add(&f->admin, rule(TOPIC, "x-", PREFIXED, "User:ann", "*", WRITE, ALLOW));
    add(&f->admin, rule(TOPIC, "*", LITERAL, "User:ben", "*", READ, ALLOW));
    add(&f->admin, rule(TOPIC, "y", LITERAL, "User:ben", "*", READ, ALLOW));
    add(&f->admin, rule(GROUP, "x-1", LITERAL, "User:ben", "*", READ, ALLOW));
#define FOUND(want, ...) \
    assert_string_equal(found(f, (struct kafka_describe_acls_request){__VA_ARGS__}), want)
    FOUND("5/6", 1, N, 1, N, N, 1, 1);
    FOUND("4/5", TOPIC, N, 1, N, N, 1, 1);
    FOUND("1/2", TOPIC, SLICE_LIT("x-1"), 3, N, N, 1, 1);
    FOUND("1/2", TOPIC, SLICE_LIT("x-1"), 1, N, N, 1, 1);
    FOUND("3/4", TOPIC, SLICE_LIT("x-1"), 2, N, N, 1, 1);
    FOUND("0/0", TOPIC, SLICE_LIT("x-1"), 4, N, N, 1, 1);
    FOUND("1/1", TOPIC, SLICE_LIT("x-"), 4, N, N, 1, 1);
    FOUND("2/2", 1, N, 1, SLICE_LIT("User:ann"), N, 1, 1);
    FOUND("1/1", 1, N, 1, N, SLICE_LIT("10.1.1.1"), 1, 1);
    FOUND("4/4", 1, N, 1, N, N, READ, 1);
    FOUND("1/1", 1, N, 1, N, N, 1, DENY);
    FOUND("refused", 0, N, 1, N, N, 1, 1);
    dk_close(&f->d); /* they are durable */
    dconn_fini(&f->admin);
    dconn_fini(&f->user);
    f->admin.c = f->user.c = NULL;
    dk_open(&f->d);
    as_user(f, &f->admin, "root");
    as_user(f, &f->user, "ann");
    FOUND("5/6", 1, N, 1, N, N, 1, 1);
    topic(f, "x-2");
    assert_int_equal(metadata(f, "x-2"), 0);
    dcall(&f->admin, 31, delete_acls, 3, &dm, &ds);
    assert_int_equal(ds.filter_results_n, 3);
    assert_int_equal(ds.filter_results[0].matching_acls_n, 4);
    assert_int_equal(ds.filter_results[0].matching_acls[3].error_code, 0);
    assert_int_equal(ds.filter_results[1].matching_acls_n, 0);
    assert_int_equal(ds.filter_results[2].error_code, 42);
    FOUND("2/2", 1, N, 1, N, N, 1, 1);
    assert_int_equal(metadata(f, "x-2"), 29);
}

/* ---- quotas ---- */

static int16_t quota(struct fx *f, const char *user, const char *client, const char *key,
                     double value)
{
    struct kafka_alter_client_quotas_request_entity en[2];
    struct kafka_alter_client_quotas_request_op op = {slice_str(key), value, value == 0};
    struct kafka_alter_client_quotas_request_entry e = {en, 0, &op, 1};
    struct kafka_alter_client_quotas_request m = {&e, 1, false};
    struct kafka_alter_client_quotas_response s;

    if (user)
        en[e.entity_n++] = (struct kafka_alter_client_quotas_request_entity){
            SLICE_LIT("user"), *user ? slice_str(user) : N};
    if (client)
        en[e.entity_n++] = (struct kafka_alter_client_quotas_request_entity){
            SLICE_LIT("client-id"), *client ? slice_str(client) : N};
    dcall(&f->admin, 49, alter_client_quotas, 1, &m, &s);
    assert_int_equal(s.entries_n, 1);
    return s.entries[0].error_code;
}

static uint32_t quotas(struct fx *f, int user, const char *name, bool strict,
                       struct kafka_describe_client_quotas_response *s)
{
    struct kafka_describe_client_quotas_request_component c = {SLICE_LIT("user"), (int8_t)user,
                                                               slice_str(name)};
    struct kafka_describe_client_quotas_request m = {&c, user >= 0, strict};

    dcall(&f->admin, 48, describe_client_quotas, 1, &m, s);
    assert_int_equal(s->error_code, 0);
    return s->entries_n;
}

static void quotas_kept(void **state)
{
    struct kafka_describe_client_quotas_response s;
    struct fx *f = *state;

    assert_int_equal(quota(f, "ann", NULL, "producer_byte_rate", 1000), 0);
    assert_int_equal(quota(f, "ann", NULL, "request_percentage", 12.5), 0);
    assert_int_equal(quota(f, "", NULL, "producer_byte_rate", 2000), 0);
    assert_int_equal(quota(f, "ann", "", "consumer_byte_rate", 3000), 0);
    assert_int_equal(quota(f, NULL, "app", "consumer_byte_rate", 4000), 0);
    assert_int_equal(quota(f, "ann", NULL, "producer_byte_rate", 1.5), 42);
    assert_int_equal(quota(f, "ann", NULL, "producer_byte_rate", -1), 42);
    assert_int_equal(quota(f, "ann", NULL, "no_such_rate", 1), 42);
    assert_int_equal(quota(f, NULL, NULL, "producer_byte_rate", 1), 42);
    assert_int_equal(quotas(f, -1, NULL, false, &s), 4);
    assert_int_equal(quotas(f, 0, "ann", false, &s), 2);
    assert_int_equal(quotas(f, 0, "ann", true, &s), 1);
    assert_int_equal(s.entries[0].values_n, 2);
    assert_slice(s.entries[0].values[1].key, "request_percentage");
    assert_true(s.entries[0].values[1].value == 12.5);
    assert_int_equal(quotas(f, 1, NULL, false, &s), 1);
    assert_true(slice_is_null(s.entries[0].entity[0].entity_name));
    assert_int_equal(quotas(f, 2, NULL, false, &s), 3);
    assert_int_equal(quota(f, "ann", NULL, "producer_byte_rate", 0), 0); /* removed */
    assert_int_equal(quota(f, "ann", NULL, "request_percentage", 0), 0);
    assert_int_equal(quotas(f, 0, "ann", true, &s), 0);
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Charges as a produce request does, then asks for something: how long that takes, in ms. */
static uint64_t waited(struct fx *f, struct dconn *c, enum kquota what, double amount,
                       uint32_t *throttle)
{
    struct kafka_api_versions_request m = {SLICE_LIT("c"), SLICE_LIT("1")};
    struct kafka_api_versions_response s;
    uint64_t start = now_ms();

    loop_turn(f->d.loop, false);
    *throttle = kquota_charge(c->c->state, what, SLICE_LIT("app"), amount);
    dcall(c, 18, api_versions, 3, &m, &s);
    return now_ms() - start;
}

static void quotas_slow_down(void **state)
{
    struct fx *f = *state;
    uint64_t start, ms;
    uint32_t throttle;

    start = now_ms();
    assert_int_equal(quota(f, "ann", NULL, "producer_byte_rate", 1000), 0);
    assert_int_equal(quota(f, "", NULL, "producer_byte_rate", 1000000), 0);
    waited(f, &f->user, KQUOTA_PRODUCE, 900, &throttle); /* a second's worth is there */
    assert_int_equal(throttle, 0);
    ms = waited(f, &f->user, KQUOTA_PRODUCE, 400, &throttle);
    assert_true(throttle <= 300 && throttle + (now_ms() - start) >= 300);
    assert_true(ms + 10 >= throttle);
    waited(f, &f->user, KQUOTA_FETCH, 1e9, &throttle); /* another quota */
    assert_int_equal(throttle, 0);
    waited(f, &f->admin, KQUOTA_PRODUCE, 5000, &throttle); /* another user */
    assert_int_equal(throttle, 0);
    assert_int_equal(quota(f, "ann", "app", "producer_byte_rate", 1e6), 0); /* more precise */
    waited(f, &f->user, KQUOTA_PRODUCE, 5000, &throttle);
    assert_int_equal(throttle, 0);
    start = now_ms();
    assert_int_equal(quota(f, "ann", NULL, "request_percentage", 50), 0);
    waited(f, &f->user, KQUOTA_TIME, 0.7, &throttle); /* seconds, of 0.5 that are there */
    assert_true(throttle <= 400 + (now_ms() - start) && throttle + (now_ms() - start) >= 400);
}

/* A client that fetches more than its quota is told so, and waits for its next answer. */
static void fetching_slowed_down(void **state)
{
    struct kafka_fetch_request_partition p;
    struct kafka_fetch_request_topic t = {
        .topic = SLICE_LIT("t"), .partitions = &p, .partitions_n = 1};
    struct fx *f = *state;
    struct append *a = append_new(f->d.b, NULL, NULL);
    struct kafka_fetch_request m;
    struct kafka_fetch_response s;
    char value[1500] = "v";
    struct append_record r = {.timestamp_ms = -1, .value = slice_of(value, sizeof value)};
    struct append_slot slot;
    struct errinfo info;
    struct topic *tp;
    uint32_t throttle;
    uint64_t start;
    unsigned i = 0;

    topic(f, "t");
    tp = topic_find(f->d.b, SLICE_LIT("t"));
    assert_int_equal(append_record(a, tp, 0, &r, &slot, &info), ERR_OK);
    assert_int_equal(append_submit_wait(a, &info), ERR_OK);
    append_free(&a);
    topic_unref(&tp);
    assert_int_equal(quota(f, NULL, "test", "consumer_byte_rate", 5000), 0);
    kafka_fetch_request_init(&m);
    kafka_fetch_request_partition_init(&p);
    p.partition_max_bytes = 1 << 20;
    m.topics = &t;
    m.topics_n = 1;
    m.max_bytes = 1 << 20;
    m.min_bytes = 1;
    m.max_wait_ms = 100;
    do {
        start = now_ms();
        dcall(&f->user, 1, fetch, 11, &m, &s);
        assert_int_equal(s.responses_n, 1);
        assert_true(s.responses[0].partitions[0].records.bytes.len > 1500);
        assert_true(++i < 1000);
        throttle = (uint32_t)s.throttle_time_ms;
    } while (throttle == 0);
    assert_in_range(throttle, 1, 1600);
    dcall(&f->user, 1, fetch, 11, &m, &s);
    assert_true(now_ms() - start + 10 >= throttle);
}

/* ---- groups ---- */

/* A member of a share group and one of a consumer group, which subscribe to t and u. */
static void members(struct fx *f)
{
    struct slice topics[] = {SLICE_LIT("t"), SLICE_LIT("u")};
    struct kafka_consumer_group_heartbeat_response cs;
    struct kafka_consumer_group_heartbeat_request c;
    struct kafka_share_group_heartbeat_response ss;
    struct kafka_share_group_heartbeat_request s;

    kafka_share_group_heartbeat_request_init(&s);
    s.group_id = SLICE_LIT("sharers");
    s.member_id = SLICE_LIT("m");
    s.subscribed_topic_names_null = false;
    s.subscribed_topic_names = topics;
    s.subscribed_topic_names_n = 2;
    dcall(&f->admin, 76, share_group_heartbeat, 1, &s, &ss);
    assert_int_equal(ss.error_code, 0);
    kafka_consumer_group_heartbeat_request_init(&c);
    c.group_id = SLICE_LIT("consumers");
    c.member_id = SLICE_LIT("m");
    c.rebalance_timeout_ms = 30000;
    c.subscribed_topic_names_null = c.topic_partitions_null = false;
    c.subscribed_topic_names = topics;
    c.subscribed_topic_names_n = 2;
    dcall(&f->admin, 68, consumer_group_heartbeat, 1, &c, &cs);
    assert_int_equal(cs.error_code, 0);
}

/* Both kinds of groups must answer with this code, and show members only if it is 0. */
static void described(struct fx *f, int16_t code)
{
    struct slice sharers = SLICE_LIT("sharers"), consumers = SLICE_LIT("consumers");
    struct kafka_consumer_group_describe_response cs;
    struct kafka_consumer_group_describe_request c;
    struct kafka_share_group_describe_response ss;
    struct kafka_share_group_describe_request s;

    kafka_share_group_describe_request_init(&s);
    s.group_ids = &sharers;
    s.group_ids_n = 1;
    dcall(&f->user, 77, share_group_describe, 1, &s, &ss);
    assert_int_equal(ss.groups[0].error_code, code);
    assert_int_equal(ss.groups[0].members_n, code == 0);
    kafka_consumer_group_describe_request_init(&c);
    c.group_ids = &consumers;
    c.group_ids_n = 1;
    dcall(&f->user, 69, consumer_group_describe, 1, &c, &cs);
    assert_int_equal(cs.groups[0].error_code, code);
    assert_int_equal(cs.groups[0].members_n, code == 0);
}

/* Whoever may not see all topics of a group may not see its members. */
static void groups_described(void **state)
{
    struct fx *f = *state;

    topic(f, "t");
    topic(f, "u");
    members(f);
    described(f, 30);
    assert_int_equal(add(&f->admin, rule(GROUP, "*", LITERAL, "User:ann", "*", DESCRIBE, ALLOW)),
                     0);
    described(f, 29);
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ann", "*", DESCRIBE, ALLOW)),
                     0);
    described(f, 29);
    assert_int_equal(add(&f->admin, rule(TOPIC, "u", LITERAL, "User:ann", "*", DESCRIBE, ALLOW)),
                     0);
    described(f, 0);
    assert_int_equal(add(&f->admin, rule(TOPIC, "t", LITERAL, "User:ann", "*", DESCRIBE, DENY)), 0);
    described(f, 29);
}

#define T(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(denied_by_default, setup),
        T(rules_decide, setup),
        T(groups_described, setup),
        T(operations_differ, setup),
        T(everyone_else, setup_everyone),
        T(producers_allowed, setup),
        T(off, setup_off),
        T(rules_refused, setup),
        T(rules_found, setup),
        T(quotas_kept, setup),
        T(quotas_slow_down, setup),
        T(fetching_slowed_down, setup_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
