/* Iceberg's REST catalog over a real connection: namespaces, tables, commits that hold and that do not,
 * pages, tokens, the form of errors. */
#include "fixture.h"

#include "lake/snapshot.h"

static struct fix fx;
static struct store_conf store;
static char url[96];

static void with_catalog(struct fix *f)
{
    snprintf(url, sizeof url, "file://%s/lake", f->dir);
    store.url = url;
    f->conf.iceberg = &store;
}

static int up(void **state)
{
    fix_start(&fx, with_catalog);
    return 0;
}

static int down(void **state)
{
    fix_stop(&fx);
    return 0;
}

/* The answer's JSON; fails if the status is another. */
static json_t *ask(const char *method, const char *path, const char *headers, const char *body,
                   int status)
{
    char target[256];
    struct reply r;
    json_t *o;

    snprintf(target, sizeof target, "/iceberg/v1/%s", path);
    r = request(&fx, method, target, headers, body);
    if (r.status != status)
        fail_msg("%s %s: %d, not %d: %s", method, path, r.status, status, r.body);
    o = r.body_n ? json_loads(r.body, 0, NULL) : json_null();
    assert_non_null(o);
    if (status >= 400 && strcmp(method, "HEAD") != 0) {
        const json_t *e = json_object_get(o, "error");

        assert_int_equal(json_integer_value(json_object_get(e, "code")), status);
        assert_true(json_is_string(json_object_get(e, "type")));
        assert_true(json_is_string(json_object_get(e, "message")));
    }
    reply_free(&r);
    return o;
}

static void expect(const char *method, const char *path, const char *body, int status)
{
    json_decref(ask(method, path, "", body, status));
}

static void expect_error(const char *method, const char *path, const char *body, int status,
                         const char *type)
{
    json_t *o = ask(method, path, "", body, status);

    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "error"), "type")),
                        type);
    json_decref(o);
}

#define SCHEMA                                                            \
    "{\"type\":\"struct\",\"schema-id\":0,\"fields\":["                   \
    "{\"id\":1,\"name\":\"offset\",\"required\":true,\"type\":\"long\"}," \
    "{\"id\":2,\"name\":\"n\",\"required\":false,\"type\":\"int\"}]}"

static void namespaces(void **state)
{
    json_t *o = ask("GET", "config", "", NULL, 200);

    assert_true(json_array_size(json_object_get(o, "endpoints")) > 8);
    json_decref(o);
    o = ask("GET", "namespaces", "", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(o, "namespaces")), 0);
    json_decref(o);
    expect_error("GET", "namespaces/none", NULL, 404, "NoSuchNamespaceException");
    expect_error("GET", "namespaces/a%1Fb", NULL, 404, "NoSuchNamespaceException");
    expect("HEAD", "namespaces/none", NULL, 404);
    expect_error("GET", "namespaces/none/tables", NULL, 404, "NoSuchNamespaceException");
    expect_error("POST", "namespaces/none/tables", "{\"name\":\"t\",\"schema\":" SCHEMA "}", 404,
                 "NoSuchNamespaceException");
    expect("POST", "namespaces", "{\"namespace\":[\"sales\"],\"properties\":{\"a\":\"b\"}}", 200);
    expect_error("POST", "namespaces", "{\"namespace\":[\"sales\"]}", 409,
                 "AlreadyExistsException");
    expect_error("POST", "namespaces", "{\"namespace\":[\"a\",\"b\"]}", 400, "BadRequestException");
    expect_error("POST", "namespaces", "nonsense", 400, "BadRequestException");
    o = ask("GET", "namespaces/sales", "", NULL, 200);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "properties"), "a")),
                        "b");
    json_decref(o);
    expect("HEAD", "namespaces/sales", NULL, 204);
    expect("DELETE", "namespaces/sales", NULL, 204);
    expect("HEAD", "namespaces/sales", NULL, 404);
    expect_error("GET", "nothing/of/this", NULL, 406, "UnsupportedOperationException");
}

static void tables(void **state)
{
    char body[1024], header[128];
    const char *etag;
    struct reply r;
    json_t *o;

    expect("POST", "namespaces", "{\"namespace\":[\"weir\"]}", 200);
    o = ask("POST", "namespaces/weir/tables", "", "{\"name\":\"orders\",\"schema\":" SCHEMA "}",
            200);
    snprintf(body, sizeof body,
             "{\"requirements\":[{\"type\":\"assert-table-uuid\",\"uuid\":\"%s\"},"
             "{\"type\":\"assert-current-schema-id\",\"current-schema-id\":0}],"
             "\"updates\":[{\"action\":\"set-properties\",\"updates\":{\"k\":\"v\"}}]}",
             json_string_value(json_object_get(json_object_get(o, "metadata"), "table-uuid")));
    json_decref(o);
    expect_error("POST", "namespaces/weir/tables", "{\"name\":\"orders\",\"schema\":" SCHEMA "}",
                 409, "AlreadyExistsException");
    expect_error("GET", "namespaces/weir/tables/none", NULL, 404, "NoSuchTableException");
    expect("HEAD", "namespaces/weir/tables/none", NULL, 404);
    expect("HEAD", "namespaces/weir/tables/orders", NULL, 204);

    r = request(&fx, "GET", "/iceberg/v1/namespaces/weir/tables/orders", "", NULL);
    assert_int_equal(r.status, 200);
    etag = strstr(r.head, "ETag: ");
    assert_non_null(etag);
    snprintf(header, sizeof header, "If-None-Match: %.*s\r\n", (int)strcspn(etag + 6, "\r"),
             etag + 6);
    reply_free(&r);
    json_decref(ask("GET", "namespaces/weir/tables/orders", header, NULL, 304));
    o = ask("POST", "namespaces/weir/tables/orders", "", body, 200);
    assert_string_equal(json_string_value(json_object_get(
                            json_object_get(json_object_get(o, "metadata"), "properties"), "k")),
                        "v");
    assert_non_null(strstr(json_string_value(json_object_get(o, "metadata-location")), "/v2."));
    json_decref(o);
    json_decref(ask("GET", "namespaces/weir/tables/orders", header, NULL, 200)); /* it changed */
    expect_error(
        "POST", "namespaces/weir/tables/orders",
        "{\"requirements\":[{\"type\":\"assert-current-schema-id\",\"current-schema-id\":7}],"
        "\"updates\":[]}",
        409, "CommitFailedException");
    expect_error(
        "POST", "namespaces/weir/tables/orders",
        "{\"requirements\":[],\"updates\":[{\"action\":\"set-current-schema\",\"schema-id\":9}]}",
        400, "BadRequestException");
    expect_error("POST", "namespaces/weir/tables/orders",
                 "{\"requirements\":[],\"updates\":[{\"action\":\"enable-row-lineage\"}]}", 406,
                 "UnsupportedOperationException");
    expect_error("POST", "namespaces/weir/tables/none", "{\"requirements\":[],\"updates\":[]}", 404,
                 "NoSuchTableException");
    expect_error("DELETE", "namespaces/weir", NULL, 409, "NamespaceNotEmptyException");
    expect("POST", "namespaces/weir/tables/orders/metrics", "{}", 204);
    expect("DELETE", "namespaces/weir/tables/orders?purgeRequested=true", NULL, 204);
    expect("HEAD", "namespaces/weir/tables/orders", NULL, 404);
    expect("DELETE", "namespaces/weir", NULL, 204);
}

/* A table whose first commit makes it, as engines do it that write files first. */
static void staged(void **state)
{
    char body[2048];
    json_t *o, *md;

    expect("POST", "namespaces", "{\"namespace\":[\"st\"]}", 200);
    o = ask("POST", "namespaces/st/tables", "",
            "{\"name\":\"t\",\"stage-create\":true,\"schema\":" SCHEMA "}", 200);
    md = json_object_get(o, "metadata");
    assert_null(json_object_get(o, "metadata-location"));
    expect("HEAD", "namespaces/st/tables/t", NULL, 404);
    snprintf(body, sizeof body,
             "{\"requirements\":[{\"type\":\"assert-create\"}],\"updates\":["
             "{\"action\":\"assign-uuid\",\"uuid\":\"%s\"},"
             "{\"action\":\"upgrade-format-version\",\"format-version\":2},"
             "{\"action\":\"add-schema\",\"schema\":" SCHEMA ",\"last-column-id\":2},"
             "{\"action\":\"set-current-schema\",\"schema-id\":-1},"
             "{\"action\":\"add-spec\",\"spec\":{\"spec-id\":0,\"fields\":[]}},"
             "{\"action\":\"set-default-spec\",\"spec-id\":-1},"
             "{\"action\":\"add-sort-order\",\"sort-order\":{\"order-id\":0,\"fields\":[]}},"
             "{\"action\":\"set-default-sort-order\",\"sort-order-id\":-1},"
             "{\"action\":\"set-location\",\"location\":\"%s\"}]}",
             json_string_value(json_object_get(md, "table-uuid")),
             json_string_value(json_object_get(md, "location")));
    json_decref(ask("POST", "namespaces/st/tables/t", "", body, 200));
    expect("HEAD", "namespaces/st/tables/t", NULL, 204);
    expect_error("POST", "namespaces/st/tables/t", body, 409, "CommitFailedException");
    /* half a table is none */
    expect_error("POST", "namespaces/st/tables/u",
                 "{\"requirements\":[{\"type\":\"assert-create\"}],\"updates\":[]}", 400,
                 "BadRequestException");
    expect("HEAD", "namespaces/st/tables/u", NULL, 404);
    json_decref(o);
}

/* Names that sort otherwise as keys than as words: every page has its own, none is left out. */
static void pages(void **state)
{
    static const char *const names[] = {"a", "a-b", "a.b", "a_b", "ab", "b"};
    char path[256] = "namespaces/pages/tables?pageSize=2&pageToken=";
    unsigned seen = 0, rounds = 0;
    const char *token;

    expect("POST", "namespaces", "{\"namespace\":[\"pages\"]}", 200);
    for (size_t i = 0; i < 6; i++) {
        char body[512];

        snprintf(body, sizeof body, "{\"name\":\"%s\",\"schema\":" SCHEMA "}", names[i]);
        expect("POST", "namespaces/pages/tables", body, 200);
    }
    do {
        json_t *o = ask("GET", path, "", NULL, 200), *one;
        size_t i;

        json_array_foreach(json_object_get(o, "identifiers"), i, one)
        {
            const char *name = json_string_value(json_object_get(one, "name"));

            for (unsigned k = 0; k < 6; k++) {
                if (strcmp(names[k], name) == 0) {
                    assert_false(seen & 1u << k);
                    seen |= 1u << k;
                }
            }
        }
        token = json_string_value(json_object_get(o, "next-page-token"));
        if (token)
            snprintf(path, sizeof path, "namespaces/pages/tables?pageSize=2&pageToken=%s", token);
        else
            *path = 0;
        json_decref(o);
    } while (*path && ++rounds < 10);
    assert_int_equal(seen, 63);
    assert_int_equal(rounds, 2);
}

static bool count_name(void *arg, const char *name)
{
    ++*(int *)arg;
    return true;
}

/* The client of such catalogs against this server: a table's life, conflicts, lists of more pages than
 * one. */
static void client(void **state)
{
    struct table_name t = {"cl", "orders"};
    struct errinfo info = {0};
    struct metadata *md = NULL, *stale;
    struct catalog_rest_conf conf = {0};
    struct data_file file = {.path = SLICE_LIT("file:///elsewhere/x.parquet"),
                             .format = SLICE_LIT("PARQUET"),
                             .records = 5,
                             .bytes = 50,
                             .sort_order_id = -1};
    struct snapshot_change change = {.operation = SNAPSHOT_APPEND, .added = &file, .added_n = 1};
    struct lake_env env = {.io = io_real()};
    struct catalog *c;
    char uri[64];
    json_t *o;
    int n = 0;

    snprintf(uri, sizeof uri, "http://127.0.0.1:%d/iceberg/", fx.port);
    conf.uri = "ftp://x";
    assert_int_equal(catalog_rest_open(&conf, io_real(), &c, &info), ERR_CONFIG);
    conf.uri = uri;
    assert_int_equal(catalog_rest_open(&conf, io_real(), &c, &info), ERR_OK);
    assert_int_equal(store_open(&store, &env.store, &info), ERR_OK);
    assert_int_equal(catalog_space_load(c, "cl", &o, &info), ERR_NOT_FOUND);
    assert_int_equal(catalog_space_create(c, "cl", NULL, &info), ERR_OK);
    assert_int_equal(catalog_space_create(c, "cl", NULL, &info), ERR_EXISTS);
    assert_int_equal(catalog_load(c, &t, &md, &info), ERR_NOT_FOUND);
    o = json_loads("{\"schema\":" SCHEMA "}", 0, NULL);
    if (catalog_create(c, &t, o, &md, &info))
        fail_msg("%s", info.text);
    assert_int_equal(catalog_create(c, &t, o, NULL, &info), ERR_EXISTS);
    json_decref(o);
    stale = metadata_clone(md);
    for (int i = 0; i < 3; i++) {
        if (snapshot_commit(&env, c, &t, &md, &change, NULL, NULL, &info))
            fail_msg("%s", info.text);
    }
    assert_int_equal(json_array_size(json_object_get(md->doc, "snapshots")), 3);
    /* who is behind is told so, loads, and goes on */
    assert_int_equal(snapshot_commit(&env, c, &t, &stale, &change, NULL, NULL, &info), ERR_OK);
    assert_int_equal(json_array_size(json_object_get(stale->doc, "snapshots")), 4);
    metadata_free(&stale);
    o = json_loads("[{\"action\":\"set-current-schema\",\"schema-id\":9}]", 0, NULL);
    assert_int_equal(catalog_commit(c, &t, NULL, o, NULL, &info), ERR_INVALID);
    json_decref(o);
    assert_int_equal(catalog_tables(c, "cl", count_name, &n, &info), ERR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(catalog_spaces(c, count_name, &n, &info), ERR_OK);
    assert_true(n > 1);
    assert_int_equal(
        catalog_register(c, &(struct table_name){"cl", "again"}, md->location, NULL, &info),
        ERR_OK);
    assert_int_equal(catalog_space_drop(c, "cl", &info), ERR_CONFLICT);
    assert_int_equal(catalog_drop(c, &t, true, &info), ERR_OK);
    assert_int_equal(catalog_drop(c, &t, true, &info), ERR_NOT_FOUND);
    metadata_free(&md);
    catalog_close(&c);
    store_close(&env.store);
    /* nobody answers */
    conf.uri = "http://127.0.0.1:1";
    conf.timeout_ms = 1000;
    assert_int_equal(catalog_rest_open(&conf, io_real(), &c, &info), ERR_OK);
    assert_int_equal(catalog_load(c, &t, &md, &info), ERR_NETWORK);
    catalog_close(&c);
}

static void header_of(char out[128], const char *grants)
{
    char body[256];
    struct reply r;
    json_t *o;
    static char admin[128];

    snprintf(body, sizeof body, "{\"grants\":[%s]}", grants);
    r = request(&fx, "POST", "/tokens", admin, body);
    assert_int_equal(r.status, 201);
    o = json_loads(r.body, 0, NULL);
    snprintf(out, 128, "Authorization: Bearer %s\r\n",
             json_string_value(json_object_get(o, "token")));
    if (!*admin)
        snprintf(admin, sizeof admin, "%s", out);
    json_decref(o);
    reply_free(&r);
}

static void tokens(void **state)
{
    char admin[128], reader[128], owner[128], none[] = "Authorization: Bearer weir_x\r\n";
    json_t *o;

    expect("POST", "namespaces", "{\"namespace\":[\"tok\"]}", 200);
    expect("POST", "namespaces/tok/tables", "{\"name\":\"orders\",\"schema\":" SCHEMA "}", 200);
    expect("POST", "namespaces/tok/tables", "{\"name\":\"secret\",\"schema\":" SCHEMA "}", 200);
    header_of(admin, "{\"access\":\"admin\"}");
    header_of(reader, "{\"access\":\"read\",\"prefix\":\"orders\"}");
    header_of(owner, "{\"access\":\"admin\",\"prefix\":\"orders\"}");
    json_decref(ask("GET", "namespaces", none, NULL, 401));
    expect_error("GET", "config", NULL, 401, "NotAuthorizedException");
    o = ask("GET", "namespaces/tok/tables", reader, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(o, "identifiers")), 1);
    json_decref(o);
    json_decref(ask("GET", "namespaces/tok/tables/orders", reader, NULL, 200));
    json_decref(ask("GET", "namespaces/tok/tables/secret", reader, NULL, 403));
    json_decref(ask("POST", "namespaces/tok/tables/orders", reader,
                    "{\"requirements\":[],\"updates\":[]}", 403));
    json_decref(ask("POST", "namespaces", owner, "{\"namespace\":[\"x\"]}", 403));
    json_decref(ask("POST", "namespaces/tok/tables/orders", owner,
                    "{\"requirements\":[],\"updates\":[]}", 200));
    json_decref(ask("DELETE", "namespaces/tok/tables/secret", owner, NULL, 403));
    json_decref(ask("DELETE", "namespaces/tok/tables/secret", admin, NULL, 204));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(namespaces),
        cmocka_unit_test(tables),
        cmocka_unit_test(staged),
        cmocka_unit_test(pages),
        cmocka_unit_test(client),
        cmocka_unit_test(tokens), /* last: from then on tokens are needed */
    };

    return cmocka_run_group_tests(tests, up, down);
}
