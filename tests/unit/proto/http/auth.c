/* Tokens: who may do what, over HTTP. */
#include "fixture.h"

#include "auth/auth.h"

static struct fix fx;

static int setup(void **state)
{
    fix_start(&fx, NULL);
    return 0;
}

static int teardown(void **state)
{
    fix_stop(&fx);
    return 0;
}

static int status(const char *method, const char *target, const char *token, const char *body)
{
    char headers[256] = "";
    struct reply r;
    int s;

    if (token)
        snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n" JSON_TYPE, token);
    else
        snprintf(headers, sizeof headers, JSON_TYPE);
    r = request(&fx, method, target, headers, body);
    s = r.status;
    reply_free(&r);
    return s;
}

static void make(const char *with, const char *grants, char token[64], char id[32])
{
    char headers[256], body[512];
    struct reply r;
    json_t *j;

    snprintf(headers, sizeof headers, JSON_TYPE "%s%s%s", with ? "Authorization: Bearer " : "",
             with ? with : "", with ? "\r\n" : "");
    snprintf(body, sizeof body, "{\"name\":\"n\",\"grants\":%s}", grants);
    r = request(&fx, "POST", "/tokens", headers, body);
    j = reply_json(&r, 201);
    snprintf(token, 64, "%s", text_of(j, "token"));
    snprintf(id, 32, "%s", text_of(j, "id"));
    assert_int_equal(strlen(token), AUTH_TOKEN_LEN);
    assert_memory_equal(token, "weir_", 5);
    json_decref(j);
}

static void test_tokens(void **state)
{
    static const char event_a[] = "{\"type\":\"a\",\"stream\":\"app-a\"}";
    static const char event_b[] = "{\"type\":\"a\",\"stream\":\"other\"}";
    char admin[64], admin_id[32], reader[64], reader_id[32], writer[64], writer_id[32];
    struct reply r;
    json_t *j;
    char headers[128], *v;

    /* without a token everyone may do everything; the first one must be an admin */
    assert_int_equal(status("POST", "/events", NULL, event_b), 201);
    assert_int_equal(status("POST", "/tokens", NULL, "{\"grants\":[{\"access\":\"read\"}]}"), 409);
    assert_int_equal(status("POST", "/tokens", NULL, "{\"grants\":[]}"), 400);
    assert_int_equal(status("POST", "/tokens", NULL, "{\"grants\":[{\"access\":\"all\"}]}"), 400);
    assert_int_equal(status("POST", "/tokens", NULL, "{"), 400);
    make(NULL, "[{\"access\":\"admin\"}]", admin, admin_id);

    /* from now on nothing goes without */
    r = request(&fx, "POST", "/events", JSON_TYPE, event_a);
    v = head_get(r.head, "www-authenticate");
    assert_string_equal(v, "Bearer");
    free(v);
    expect_problem(&r, 401, "unauthenticated");
    assert_int_equal(status("GET", "/events?stream=other",
                            "weir_0000000000000000000000000000000000000000000", NULL),
                     401);
    assert_int_equal(status("GET", "/events?stream=other", "short", NULL), 401);
    assert_int_equal(status("GET", "/metrics", NULL, NULL), 401);
    assert_int_equal(status("GET", "/tokens", NULL, NULL), 401);
    assert_int_equal(status("GET", "/healthz", NULL, NULL), 200);
    assert_int_equal(status("GET", "/readyz", NULL, NULL), 200);

    make(admin, "[{\"access\":\"write\",\"prefix\":\"app-\"}]", writer, writer_id);
    make(admin, "[{\"access\":\"read\",\"prefix\":\"app-\"}]", reader, reader_id);
    assert_int_equal(status("POST", "/events", writer, event_a), 201);
    assert_int_equal(status("POST", "/events", writer, event_b), 403);
    assert_int_equal(status("POST", "/events", reader, event_a), 403);
    assert_int_equal(status("GET", "/events?stream=app-a", reader, NULL), 200);
    assert_int_equal(status("GET", "/events?stream=app-*", reader, NULL), 200);
    assert_int_equal(status("GET", "/events?stream=app-a:k", reader, NULL), 200);
    assert_int_equal(status("GET", "/events?stream=app-a", writer, NULL), 403);
    assert_int_equal(status("GET", "/events?stream=ap*", reader, NULL), 403); /* may match more */
    assert_int_equal(status("GET", "/events?stream=*", reader, NULL), 403);
    assert_int_equal(status("GET", "/events", reader, NULL), 403);
    assert_int_equal(status("GET", "/events?stream=other", reader, NULL), 403);
    assert_int_equal(status("GET", "/events/stream?stream=other", reader, NULL), 403);
    assert_int_equal(
        status("PUT", "/checkpoints/c/other", reader, "{\"after\":\"evt_0000000000000001\"}"), 403);
    assert_int_equal(
        status("PUT", "/checkpoints/c/app-a", reader, "{\"after\":\"evt_0000000000000001\"}"), 200);
    assert_int_equal(status("POST", "/topics", writer, "{\"name\":\"app-b\"}"), 403);
    assert_int_equal(status("DELETE", "/topics/app-a", writer, NULL), 403);
    assert_int_equal(status("GET", "/topics/other", writer, NULL), 403);
    assert_int_equal(status("GET", "/topics/app-a", writer, NULL), 200);
    assert_int_equal(status("GET", "/tokens", reader, NULL), 403);
    assert_int_equal(
        status("POST", "/events?partial=true", writer,
               "[{\"type\":\"a\",\"stream\":\"app-a\"},{\"type\":\"a\",\"stream\":\"other\"}]"),
        201);

    /* a list shows what the token may see, and no secrets */
    snprintf(headers, sizeof headers, "Authorization: bearer %s\r\n", reader);
    r = request(&fx, "GET", "/topics", headers, NULL);
    j = reply_json(&r, 200);
    assert_int_equal(json_array_size(json_object_get(j, "topics")), 1);
    json_decref(j);
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", admin);
    r = request(&fx, "GET", "/tokens", headers, NULL);
    assert_null(strstr(r.body, "weir_"));
    j = reply_json(&r, 200);
    assert_int_equal(json_array_size(json_object_get(j, "tokens")), 3);
    json_decref(j);

    /* revoked: at once */
    snprintf(headers, sizeof headers, "/tokens/%s", writer_id);
    assert_int_equal(status("DELETE", headers, reader, NULL), 403);
    assert_int_equal(status("DELETE", headers, admin, NULL), 204);
    assert_int_equal(status("DELETE", headers, admin, NULL), 404);
    assert_int_equal(status("POST", "/events", writer, event_a), 401);
    assert_int_equal(status("GET", "/events?stream=app-a", reader, NULL), 200);

    /* browsers: in the query, for the two that cannot set headers */
    assert_int_equal(status("GET", "/topics?access_token=", NULL, NULL), 401);
    snprintf(headers, sizeof headers, "/events/stream?stream=app-a&access_token=%s", reader);
    assert_int_equal(status("HEAD", headers, NULL, NULL), 200);
    snprintf(headers, sizeof headers, "/events?stream=app-a&access_token=%s", reader);
    assert_int_equal(status("GET", headers, NULL, NULL), 401);

    /* all of it is there after a restart */
    {
        char dir[64];

        snprintf(dir, sizeof dir, "%s", fx.dir);
        fix_halt(&fx);
        fix_start_in(&fx, dir, NULL);
    }
    assert_int_equal(status("GET", "/events?stream=app-a", NULL, NULL), 401);
    assert_int_equal(status("GET", "/events?stream=app-a", reader, NULL), 200);
    assert_int_equal(status("GET", "/events?stream=app-a", writer, NULL), 401);
}

/* A follower whose token is revoked is sent away. */
static void quick(struct fix *f)
{
    f->conf.limits.heartbeat_ms = 100;
}

static void test_revoked_follower(void **state)
{
    char admin[64], admin_id[32], reader[64], reader_id[32], target[160];
    struct client c;
    json_t *j;
    int op;
    char *t;

    fix_stop(&fx);
    fix_start(&fx, quick);
    emit(&fx, "{\"type\":\"a\",\"stream\":\"s\"}");
    make(NULL, "[{\"access\":\"admin\"}]", admin, admin_id);
    make(admin, "[{\"access\":\"read\"}]", reader, reader_id);
    snprintf(target, sizeof target, "/events?stream=s&from=TRIM_HORIZON&access_token=%s", reader);
    ws_connect(&c, &fx, target, "");
    json_decref(ws_json(&c));
    ws_text(&c, "{\"type\":\"a\",\"stream\":\"s\",\"ref\":1}");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "forbidden");
    json_decref(j);
    snprintf(target, sizeof target, "/tokens/%s", reader_id);
    assert_int_equal(status("DELETE", target, admin, NULL), 204);
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "forbidden");
    json_decref(j);
    t = ws_frame(&c, &op);
    assert_int_equal(op, 8);
    free(t);
    client_close(&c);
}

static void closed(struct fix *f)
{
    f->conf.open_without_tokens = false;
}

static void test_not_open(void **state)
{
    fix_stop(&fx);
    fix_start(&fx, closed);
    assert_int_equal(status("GET", "/topics", NULL, NULL), 401);
    assert_int_equal(status("POST", "/tokens", NULL, "{\"grants\":[{\"access\":\"admin\"}]}"), 401);
}

#define LARGEST (64u << 10)

/* As many grants as may be, of bytes that JSON writes longest, are stored and come back. */
static void test_largest(void **state)
{
    char *body = calloc(1, LARGEST), admin[64], admin_id[32], headers[128], dir[64];
    size_t n = 0, i, k;
    struct reply r;
    json_t *j, *list;

    fix_stop(&fx);
    fix_start(&fx, NULL);
    make(NULL, "[{\"access\":\"admin\"}]", admin, admin_id);
    n += (size_t)snprintf(body + n, LARGEST - n, "{\"name\":\"n\",\"grants\":[");
    for (i = 0; i < AUTH_GRANTS_MAX; i++) {
        n += (size_t)snprintf(body + n, LARGEST - n, "%s{\"access\":\"write\",\"prefix\":\"",
                              i ? "," : "");
        for (k = 0; k < AUTH_PREFIX_MAX; k++)
            n += (size_t)snprintf(body + n, LARGEST - n, "\\u0001");
        n += (size_t)snprintf(body + n, LARGEST - n, "\"}");
    }
    snprintf(body + n, LARGEST - n, "]}");
    assert_int_equal(status("POST", "/tokens", admin, body), 201);
    snprintf(dir, sizeof dir, "%s", fx.dir);
    fix_halt(&fx);
    fix_start_in(&fx, dir, NULL);
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", admin);
    r = request(&fx, "GET", "/tokens", headers, NULL);
    j = reply_json(&r, 200);
    list = json_object_get(json_array_get(json_object_get(j, "tokens"), 0), "grants");
    if (json_array_size(list) == 1) /* the admin's */
        list = json_object_get(json_array_get(json_object_get(j, "tokens"), 1), "grants");
    assert_int_equal(json_array_size(list), AUTH_GRANTS_MAX);
    assert_int_equal(json_string_length(json_object_get(json_array_get(list, 15), "prefix")),
                     AUTH_PREFIX_MAX);
    json_decref(j);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_revoked_follower),
        cmocka_unit_test(test_not_open),
        cmocka_unit_test(test_largest),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
