/* What servers answer, as a table (weir_feed): rows by the thousand, nulls, texts of all kinds, answers
 * that are none. Two servers of a few lines, each a thread, answer POST /sql out of the same broker. */
#include "fixture.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/json_write.h"

enum spoil { FINE, SHORT_ROW, NO_ROW, CUT };

struct server {
    struct sql *sql;
    int listener;
    struct io_thread *thread;
    char url[64];
    _Atomic int spoil; /* what becomes of rows */
    _Atomic bool stop;
};

/* ---- its answers ---- */

struct lines {
    struct io_mutex lock;
    struct io_cond cond;
    bool done, failed;
    struct buf out;
    const struct sql_columns *columns;
};

static bool lines_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    ((struct lines *)arg)->columns = c;
    return true;
}

static bool lines_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct lines *l = arg;
    uint32_t i, k;

    for (i = 0; i < c->rows; i++) {
        for (k = 0; k < c->columns_n; k++) {
            buf_append_u8(&l->out, k ? ',' : '{');
            json_write_string(&l->out, slice_str(l->columns->name[k]));
            buf_append_u8(&l->out, ':');
            sql_value_json(&c->column[k], i, &l->out);
        }
        buf_append_str(&l->out, "}\n");
    }
    return true;
}

static void lines_done(void *arg, struct sql_query *q, const struct sql_error *e,
                       const struct sql_stats *stats)
{
    struct lines *l = arg;

    io_mutex_lock(&l->lock);
    l->failed = e != NULL;
    l->done = true;
    io_cond_signal(&l->cond);
    io_mutex_unlock(&l->lock);
}

static const struct sql_sink lines_sink = {lines_columns, lines_chunk, lines_done};

static void lines_run(struct server *s, const char *text, struct lines *l)
{
    struct sql_request rq = {.text = slice_str(text), .sink = &lines_sink, .arg = l};
    struct errinfo info;

    *l = (struct lines){.done = false};
    io_mutex_init(&l->lock);
    io_cond_init(&l->cond);
    buf_init(&l->out, 64u << 20);
    /* `done` is lines_done's from here on: it may be called before this returns. */
    if (sql_run(s->sql, &rq, NULL, &info)) {
        l->failed = true;
        return;
    }
    io_mutex_lock(&l->lock);
    while (!l->done)
        io_cond_wait(&l->cond, &l->lock);
    io_mutex_unlock(&l->lock);
}

/* ---- the servers ---- */

static void send_all(int fd, const void *p, size_t n)
{
    const uint8_t *at = p;
    ssize_t sent;

    while (n && (sent = send(fd, at, n, MSG_NOSIGNAL)) > 0) {
        at += sent;
        n -= (size_t)sent;
    }
}

static void answer_send(struct server *s, int fd, const char *text)
{
    bool rows = strncmp(text, "DESCRIBE", 8) != 0;
    int spoil = rows ? atomic_load(&s->spoil) : FINE;
    struct lines l;
    char head[128];

    lines_run(s, text, &l);
    if (spoil == SHORT_ROW)
        buf_append_str(&l.out, "{\"r\":[\"1\"]}\n");
    if (spoil == NO_ROW)
        buf_append_str(&l.out, "hello\n");
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
             l.failed ? "500 No" : "200 OK", l.out.len + (spoil == CUT));
    send_all(fd, head, strlen(head));
    send_all(fd, l.out.ptr, l.out.len);
    buf_fini(&l.out);
    io_cond_fini(&l.cond);
    io_mutex_fini(&l.lock);
}

static void serve_one(struct server *s, int fd)
{
    size_t cap = 1u << 20, n = 0, want = 0;
    char *in = xcalloc(1, cap + 1), *body = NULL, *length;
    ssize_t got;
    json_t *j;

    while ((!body || n < want) && n < cap && (got = recv(fd, in + n, cap - n, 0)) > 0) {
        n += (size_t)got;
        if (!body && (body = strstr(in, "\r\n\r\n"))) {
            length = strcasestr(in, "content-length:");
            body += 4;
            want = (size_t)(body - in) + (length ? strtoul(length + 15, NULL, 10) : 0);
        }
    }
    j = body && n >= want ? json_loads(body, 0, NULL) : NULL;
    if (json_object_get(j, "query"))
        answer_send(s, fd, json_string_value(json_object_get(j, "query")));
    json_decref(j);
    free(in);
    close(fd);
}

static void server_main(void *arg)
{
    struct server *s = arg;
    int fd;

    while (!atomic_load(&s->stop) && (fd = accept(s->listener, NULL, NULL)) >= 0)
        serve_one(s, fd);
}

static void server_open(struct server *s, struct sql *sql)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    struct errinfo info;

    *s = (struct server){.sql = sql, .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(a.sin_port));
    assert_int_equal(
        io_thread_start("test-server", IO_PRIO_NORMAL, server_main, s, &s->thread, &info), ERR_OK);
}

static void server_close(struct server *s)
{
    if (!s->thread) /* it was not opened */
        return;
    atomic_store(&s->stop, true);
    shutdown(s->listener, SHUT_RDWR); /* ends accept */
    io_thread_join(&s->thread);
    close(s->listener);
}

/* ---- asking them ---- */

struct two {
    struct fx f;
    struct server s[2];
    struct sql_shard shard[2];
    struct sql *there; /* theirs: threads that wait for them must not be those they need */
};

static int two_new(void **state)
{
    *state = xcalloc(1, sizeof(struct two));
    return 0;
}

/* By each test, as one that cannot have DuckDB is skipped here. */
static struct two *two_open(void **state)
{
    struct sql_conf conf = {.threads = 2, .foreground = true};
    struct two *t = *state;
    struct errinfo info;
    int i;

    fx_start(&t->f);
    conf.broker = t->f.b;
    assert_int_equal(sql_open(&conf, &t->there, &info), ERR_OK);
    for (i = 0; i < 2; i++) {
        server_open(&t->s[i], t->there);
        t->shard[i] = (struct sql_shard){.name = i ? "east" : "west", .url = t->s[i].url};
    }
    return t;
}

/* Also after a test that failed. */
static int two_free(void **state)
{
    struct two *t = *state;

    server_close(&t->s[0]);
    server_close(&t->s[1]);
    sql_close(&t->there);
    if (t->f.b)
        fx_end(&t->f);
    free(t);
    return 0;
}

static void two_ask(struct two *t, const char *text, struct answer *a)
{
    struct sql_request rq = {.text = slice_str(text), .shards = t->shard, .shards_n = 2};

    answer_init(a);
    fx_ask(&t->f, &rq, a);
}

static void two_expect(struct two *t, const char *text, const char *rows)
{
    struct answer a;

    two_ask(t, text, &a);
    if (a.code)
        fail_msg("%s: %s", text, text_of(&a.error));
    assert_string_equal(text_of(&a.rows), rows);
    answer_fini(&a);
}

/* More rows than a chunk has, from both, in the types that they have there. */
static void test_many(void **state)
{
    struct topic *topic;
    struct answer a;
    struct two *t = two_open(state);
    size_t i, lines = 0;

    topic = fx_topic(&t->f, "t", 1);
    fx_fill(&t->f, topic, 0, 5000, 100, "{\"n\":%lld,\"half\":0.5}");
    two_expect(t, "SELECT count(*), sum(n)::BIGINT, max(half) FROM t", "10000|24995000|0.5\n");
    two_ask(t, "SELECT n, half FROM t ORDER BY n", &a);
    assert_int_equal(a.code, ERR_OK);
    assert_string_equal(text_of(&a.types), "BIGINT|DOUBLE");
    for (i = 0; i < a.rows.len; i++)
        lines += a.rows.ptr[i] == '\n';
    assert_int_equal(lines, 10000);
    assert_memory_equal(a.rows.ptr, "0|0.5\n0|0.5\n1|0.5\n", 18);
    answer_fini(&a);
    topic_unref(&topic);
}

/* Null is not the empty text; what JSON escapes comes back, however long it is. */
static void test_texts(void **state)
{
    static char big[300000];
    struct topic *topic;
    struct two *t = two_open(state);

    topic = fx_topic(&t->f, "t", 1);
    fx_put(&t->f, topic, 0, "a", "{\"n\":1,\"s\":\"\"}");
    fx_put(&t->f, topic, 0, "b", "{\"n\":2}");
    fx_put(&t->f, topic, 0, "c", "{\"n\":3,\"s\":\"q\\\"\\\\\\n\\u0001\\ud83d\\ude00\"}");
    memset(big, 'x', sizeof big - 1);
    memcpy(big, "{\"n\":4,\"s\":\"", 12);
    memcpy(big + sizeof big - 3, "\"}", 2);
    fx_put(&t->f, topic, 0, "d", big);
    two_expect(t, "SELECT n, s FROM t WHERE n < 4 ORDER BY n, s",
               "1|\n1|\n2|~\n2|~\n3|q\"\\\n\x01\xf0\x9f\x98\x80\n3|q\"\\\n\x01\xf0\x9f\x98\x80\n");
    two_expect(t, "SELECT length(s), s = repeat('x', 299985) FROM t WHERE n = 4",
               "299985|t\n299985|t\n");
    two_expect(t, "SELECT n, s FROM t WHERE n > 4", "");
    topic_unref(&topic);
}

/* Lines of which few are held at once: one that is longer than the rest of that room, behind one that
 * is shorter, must not stop its server for good. */
static void test_long(void **state)
{
    struct two *t = two_open(state);
    struct topic *topic = fx_topic(&t->f, "t", 1);
    const size_t sizes[2] = {400000, 1000000};
    char *text = xmalloc(sizes[1] + 1);
    struct answer a;
    int i;

    for (i = 0; i < 16; i++) {
        size_t n = sizes[i % 2];

        memset(text, 'x', n);
        text[n] = 0;
        memcpy(text, "{\"s\":\"", 6);
        memcpy(text + n - 2, "\"}", 2);
        fx_put(&t->f, topic, 0, "k", text);
    }
    free(text);
    two_ask(t, "SELECT s FROM t", &a);
    if (a.code)
        fail_msg("%s", text_of(&a.error));
    assert_int_equal(a.rows.len, 16 * (sizes[0] + sizes[1] - 16 + 2)); /* 8 of each, twice */
    answer_fini(&a);
    topic_unref(&topic);
}

static void spoilt(struct two *t, enum spoil how, const char *word)
{
    struct answer a;

    atomic_store(&t->s[1].spoil, how);
    two_ask(t, "SELECT n, half FROM t", &a);
    assert_true(a.code != ERR_OK);
    if (!strstr(text_of(&a.error), "east") || !strstr((char *)a.error.ptr, word))
        fail_msg("%s", (char *)a.error.ptr);
    answer_fini(&a);
    atomic_store(&t->s[1].spoil, FINE);
}

/* An answer that is none is an error that names the server, also behind thousands of good rows. */
static void test_spoilt(void **state)
{
    struct topic *topic;
    struct two *t = two_open(state);

    topic = fx_topic(&t->f, "t", 1);
    fx_fill(&t->f, topic, 0, 5000, 100, "{\"n\":%lld,\"half\":0.5}");
    spoilt(t, SHORT_ROW, "does not answer as Weir does");
    spoilt(t, NO_ROW, "does not answer as Weir does");
    spoilt(t, CUT, t->s[1].url);
    two_expect(t, "SELECT count(*) FROM t", "10000\n");
    fx_refused(&t->f, "SELECT * FROM weir_feed()", ERR_FORBIDDEN, "weir_feed");
    topic_unref(&topic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many, two_new, two_free),
        cmocka_unit_test_setup_teardown(test_texts, two_new, two_free),
        cmocka_unit_test_setup_teardown(test_long, two_new, two_free),
        cmocka_unit_test_setup_teardown(test_spoilt, two_new, two_free),
    };

    return cmocka_run_group_tests_name("sql/feed", tests, NULL, NULL);
}
