/* Iceberg's REST catalog over a real connection: namespaces, tables, commits that hold and that do not,
 * pages, tokens, the form of errors. */
#include "fixture.h"

#include <stdatomic.h>

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

/* ---- a server that spoils commits, before the real one ---- */

enum spoil { SPOIL_NOT, SPOIL_AFTER, SPOIL_BEFORE, SPOIL_CUT, SPOIL_BUSY };

struct spoiler {
    int fd;
    uint16_t port;
    pthread_t thread;
    atomic_int how, left; /* the next `left` commits are spoilt */
    atomic_int commits;   /* that came */
};

/* Reads one request; false: the peer has gone. body points into text. */
static bool request_read(int fd, char *text, size_t cap, char **body)
{
    size_t n = 0, want = 0;

    while (n + 1 < cap) {
        ssize_t r = recv(fd, text + n, cap - n - 1, 0);
        const char *len;

        if (r <= 0)
            return false;
        n += (size_t)r;
        text[n] = 0;
        *body = strstr(text, "\r\n\r\n");
        if (!*body)
            continue;
        *body += 4;
        len = strcasestr(text, "content-length:");
        want = len ? strtoul(len + 15, NULL, 10) : 0;
        if (strlen(*body) >= want)
            return true;
    }
    return false;
}

static void say(int fd, int status, const char *body)
{
    char head[128];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
                     strlen(body));

    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) == n)
        (void)!send(fd, body, strlen(body), MSG_NOSIGNAL);
}

static void spoil_one(struct spoiler *sp, int fd)
{
    static char text[1u << 18];
    char method[16], target[512], *body;
    enum spoil how = SPOIL_NOT;
    struct reply r;

    if (!request_read(fd, text, sizeof text, &body) ||
        sscanf(text, "%15s %511s", method, target) != 2)
        return;
    if (strcmp(method, "POST") == 0 && strstr(target, "/tables/")) {
        atomic_fetch_add(&sp->commits, 1);
        if (atomic_load(&sp->left) > 0 && atomic_fetch_sub(&sp->left, 1) > 0)
            how = (enum spoil)atomic_load(&sp->how);
    }
    if (how == SPOIL_BEFORE || how == SPOIL_BUSY) {
        say(fd, how == SPOIL_BUSY ? 503 : 500, "{}");
        return;
    }
    r = request(&fx, method, target, "Content-Type: application/json\r\n", body);
    if (how == SPOIL_NOT)
        say(fd, r.status, r.body);
    else if (how == SPOIL_AFTER)
        say(fd, 502, "bad gateway");
    reply_free(&r);
}

static void *spoiler_run(void *arg)
{
    struct spoiler *sp = arg;

    for (;;) {
        int fd = accept(sp->fd, NULL, NULL);

        if (fd < 0)
            return NULL;
        spoil_one(sp, fd);
        close(fd);
    }
}

static void spoiler_start(struct spoiler *sp)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;

    memset(sp, 0, sizeof *sp);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sp->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(sp->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(sp->fd, 16), 0);
    assert_int_equal(getsockname(sp->fd, (struct sockaddr *)&a, &n), 0);
    sp->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&sp->thread, NULL, spoiler_run, sp), 0);
}

static void spoiler_stop(struct spoiler *sp)
{
    shutdown(sp->fd, SHUT_RDWR);
    pthread_join(sp->thread, NULL);
    close(sp->fd);
}

/* Whatever is spoilt, a commit is in the table once, and whoever sent it knows. */
static void unknown_outcomes(void **state)
{
    static const struct {
        enum spoil how;
        int times;
        enum err want;
    } rows[] = {{SPOIL_AFTER, 1, ERR_OK}, {SPOIL_BEFORE, 1, ERR_OK}, {SPOIL_CUT, 1, ERR_OK},
                {SPOIL_BUSY, 2, ERR_OK},  {SPOIL_BEFORE, 2, ERR_OK}, {SPOIL_AFTER, 3, ERR_OK},
                {SPOIL_NOT, 0, ERR_OK}};
    struct table_name t = {"spoil", "orders"};
    struct catalog_rest_conf conf = {0};
    struct errinfo info = {0};
    struct data_file file = {.path = SLICE_LIT("file:///elsewhere/x.parquet"),
                             .format = SLICE_LIT("PARQUET"),
                             .records = 5,
                             .sort_order_id = -1};
    struct snapshot_change change = {.operation = SNAPSHOT_APPEND, .added = &file, .added_n = 1};
    struct lake_env env = {.io = io_real()};
    struct metadata *md = NULL;
    struct spoiler sp;
    struct catalog *c;
    char uri[64];
    json_t *o;

    spoiler_start(&sp);
    snprintf(uri, sizeof uri, "http://127.0.0.1:%d/iceberg", sp.port);
    conf.uri = uri;
    assert_int_equal(catalog_rest_open(&conf, io_real(), &c, &info), ERR_OK);
    assert_int_equal(store_open(&store, &env.store, &info), ERR_OK);
    assert_int_equal(catalog_space_create(c, "spoil", NULL, &info), ERR_OK);
    o = json_loads("{\"schema\":" SCHEMA "}", 0, NULL);
    assert_int_equal(catalog_create(c, &t, o, &md, &info), ERR_OK);
    json_decref(o);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum err e;

        atomic_store(&sp.how, (int)rows[i].how);
        atomic_store(&sp.left, rows[i].times);
        e = snapshot_commit(&env, c, &t, &md, &change, NULL, NULL, &info);
        if (e != rows[i].want)
            fail_msg("row %zu: %s: %s", i, err_code(e), info.text);
        assert_int_equal(json_array_size(json_object_get(md->doc, "snapshots")), i + 1);
    }
    metadata_free(&md);
    assert_int_equal(catalog_load(c, &t, &md, &info), ERR_OK);
    assert_int_equal(json_array_size(json_object_get(md->doc, "snapshots")), 7);
    metadata_free(&md);
    catalog_close(&c);
    store_close(&env.store);
    spoiler_stop(&sp);
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
        cmocka_unit_test(namespaces), cmocka_unit_test(tables), cmocka_unit_test(staged),
        cmocka_unit_test(pages),      cmocka_unit_test(client), cmocka_unit_test(unknown_outcomes),
        cmocka_unit_test(tokens), /* last: from then on tokens are needed */
    };

    return cmocka_run_group_tests(tests, up, down);
}
