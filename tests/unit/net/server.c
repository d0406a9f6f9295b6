/* The HTTP server with real sockets: times, slow and half-closed peers, back-pressure, many
 * connections, draining, statistics. */
#include "fixture.h"

#define REQ(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

static char big[1u << 20];

static unsigned closed_of(struct fx *f, enum conn_why why)
{
    struct conn_stats st;

    conn_server_stats(http_server_conns(f->s), &st);
    return (unsigned)st.closed[why];
}

/* ---- time ---- */

static void slow_heads_get_408(void **state)
{
    struct fx f;
    uint64_t t0;
    int fd, i;
    ssize_t r = 0;

    fx_init(&f);
    f.conf.head_ms = 300;
    fx_listen(&f);
    fd = fx_connect(&f);
    t0 = fx_now_ms();
    fx_send_str(fd, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (i = 0; i < 1000 && r == 0; i++) { /* a header now and then helps nothing */
        struct pollfd p = {.fd = fd, .events = POLLIN};

        fx_send_str(fd, "X: y\r\n");
        r = poll(&p, 1, 50);
    }
    assert_true(fx_now_ms() - t0 >= 300);
    fx_read_all(fd, big, sizeof big);
    assert_non_null(strstr(big, "HTTP/1.1 408 Request Timeout\r\n"));
    assert_non_null(strstr(big, "connection: close\r\n"));
    fx_wait(closed_of(&f, CONN_TIMEOUT) == 1);
    close(fd);
    fx_stop(&f);
}

static void idle_connections_end(void **state)
{
    struct http_stats st;
    struct fx f;
    int fresh, used;

    fx_init(&f);
    f.conf.idle_ms = 1000;
    fx_listen(&f);
    fresh = fx_connect(&f);
    used = fx_connect(&f);
    fx_send_str(used, REQ("/echo"));
    fx_read_until(used, big, sizeof big, "content-length: 0\r\n\r\n");
    assert_int_equal(recv(fresh, big, 1, 0), 0);
    assert_int_equal(recv(used, big, 1, 0), 0);
    fx_wait(closed_of(&f, CONN_TIMEOUT) == 2);
    http_server_stats(f.s, &st);
    assert_int_equal(st.timeouts, 2);
    close(fresh);
    close(used);
    fx_stop(&f);
}

/* A handler that takes its time is no idleness. */
static void waiting_is_not_idle(void **state)
{
    struct fx f;
    int a, b;

    fx_init(&f);
    f.conf.idle_ms = f.conf.head_ms = 500;
    fx_listen(&f);
    a = fx_connect(&f);
    fx_send_str(a, REQ("/hold"));
    fx_wait(atomic_load(&f.requests) == 1);
    fx_sleep_ms(1500);
    b = fx_connect(&f);
    fx_send_str(b, REQ("/release"));
    fx_read_until(a, big, sizeof big, "held 0");
    close(a);
    close(b);
    fx_stop(&f);
}

/* ---- ends ---- */

static void half_closed_peers_get_their_answers(void **state)
{
    struct fx f;
    int fd, other;

    fx_init(&f);
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, REQ("/hold") REQ("/a"));
    shutdown(fd, SHUT_WR);
    fx_wait(atomic_load(&f.requests) == 2);
    other = fx_connect(&f);
    fx_send_str(other, REQ("/release"));
    fx_read_all(fd, big, sizeof big);
    assert_non_null(strstr(big, "held 0HTTP/1.1 200"));
    assert_non_null(strstr(big, "GET /a"));
    assert_int_equal(f.closes, 0);
    close(fd);
    close(other);
    fx_stop(&f);
}

static void gone_peers_are_told_to_the_handler(void **state)
{
    struct linger l = {1, 0};
    struct fx f;
    int fd;

    fx_init(&f);
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, REQ("/hold") REQ("/hold"));
    fx_wait(atomic_load(&f.requests) == 2);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l); /* a reset */
    close(fd);
    fx_wait(atomic_load(&f.closes) == 2);
    fx_stop(&f);
}

/* The answer to what is refused arrives although the peer is still sending. */
static void refusals_are_readable(void **state)
{
    char head[200];
    struct fx f;
    int fd, i;

    fx_init(&f);
    f.conf.body_max = 1000;
    fx_listen(&f);
    memset(big, 'x', sizeof big);
    for (i = 0; i < 20; i++) {
        fd = fx_connect(&f);
        snprintf(head, sizeof head,
                 "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n");
        fx_send_str(fd, head);
        fx_send(fd, big, 1000000);
        fx_read_all(fd, big, 4000);
        assert_non_null(strstr(big, "HTTP/1.1 413 "));
        close(fd);
    }
    fx_stop(&f);
}

/* ---- back-pressure ---- */

static void streams_wait_for_slow_readers(void **state)
{
    size_t want = 2000u * 50000u, got = 0, i;
    struct fx f;
    ssize_t r;
    int fd;

    fx_init(&f);
    f.conf.output_max = 200000;
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, "GET /stream?n=2000&size=50000 HTTP/1.0\r\n\r\n");
    fx_sleep_ms(200); /* nothing is read: what is queued stays within the bound */
    assert_true(atomic_load(&f.queued_most) < 200000 + 60000);
    fx_read_until(fd, big, 300, "\r\n\r\n");
    got = strlen(strstr(big, "\r\n\r\n") + 4);
    for (i = 0; (r = recv(fd, big, sizeof big, 0)) > 0; i++)
        got += (size_t)r;
    assert_int_equal(got, want);
    assert_true(atomic_load(&f.queued_most) < 200000 + 60000);
    assert_true(atomic_load(&f.drains) > 10);
    close(fd);
    fx_stop(&f);
}

/* Asking without reading: requests are not taken any more, and nothing grows. */
static void pipelines_wait_for_slow_readers(void **state)
{
    static const char one[] = "GET /owned?size=100000 HTTP/1.1\r\nHost: h\r\n\r\n";
    unsigned sent = 0, i, at;
    size_t got = 0;
    struct fx f;
    ssize_t r;
    int fd;

    fx_init(&f);
    f.conf.output_max = 500000;
    fx_listen(&f);
    fd = fx_connect(&f);
    for (i = 0; i < 20; i++) {
        for (at = 0; at < 20; at++)
            memcpy(big + at * (sizeof one - 1), one, sizeof one - 1);
        fx_send(fd, big, 20 * (sizeof one - 1));
        sent += 20;
    }
    fx_sleep_ms(200);
    i = atomic_load(&f.requests);
    assert_true(i < 200); /* output_max, and what fits the kernel's buffers */
    shutdown(fd, SHUT_WR);
    while ((r = recv(fd, big, sizeof big, 0)) > 0)
        got += (size_t)r;
    assert_int_equal(atomic_load(&f.requests), sent);
    assert_int_equal(atomic_load(&f.releases), sent);
    assert_true(got > sent * 100000u);
    close(fd);
    fx_stop(&f);
}

static void stuck_readers_are_dropped(void **state)
{
    struct http_stats st;
    struct fx f;
    int fd;

    fx_init(&f);
    f.conf.send_ms = 300;
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, REQ("/stream?n=1000&size=100000"));
    fx_wait(closed_of(&f, CONN_SLOW) == 1);
    fx_wait(atomic_load(&f.closes) == 1);
    http_server_stats(f.s, &st);
    assert_int_equal(st.slow, 1);
    close(fd);
    fx_stop(&f);
}

/* ---- many ---- */

static void many_pipelined_connections(void **state)
{
    enum { CONNS = 32, DEPTH = 50, ROUNDS = 20 };
    struct http_stats st;
    struct buf req;
    struct fx f;
    int fd[CONNS], i, k;
    size_t answer = 0;

    fx_init(&f);
    f.loops_n = 3;
    fx_listen(&f);
    buf_init(&req, 1u << 20);
    for (i = 0; i < DEPTH; i++)
        assert_int_equal(buf_append_str(&req, "POST /echo HTTP/1.1\r\nHost: h\r\n"
                                              "Content-Length: 11\r\n\r\nhello world"),
                         ERR_OK);
    for (i = 0; i < CONNS; i++)
        fd[i] = fx_connect(&f);
    for (k = 0; k < ROUNDS; k++) {
        for (i = 0; i < CONNS; i++)
            fx_send(fd[i], req.ptr, req.len);
        for (i = 0; i < CONNS; i++) {
            size_t have = 0;

            if (!answer) { /* how long is one? */
                have = fx_read_until(fd[i], big, sizeof big, "hello world");
                answer = (size_t)(strstr(big, "hello world") + 11 - big);
            }
            while (have < answer * DEPTH) {
                ssize_t r = recv(fd[i], big + have, answer * DEPTH - have, 0);

                assert_true(r > 0);
                have += (size_t)r;
            }
            assert_memory_equal(big + answer * DEPTH - 11, "hello world", 11);
        }
    }
    do /* a counter changes just behind what it counts */
        http_server_stats(f.s, &st);
    while (st.bytes_out < (uint64_t)answer * DEPTH * CONNS * ROUNDS);
    assert_int_equal(st.requests, CONNS * DEPTH * ROUNDS);
    assert_int_equal(st.conns_open, CONNS);
    assert_int_equal(st.conns_accepted, CONNS);
    assert_int_equal(st.bytes_in, (uint64_t)req.len * CONNS * ROUNDS);
    assert_int_equal(st.bytes_out, (uint64_t)answer * DEPTH * CONNS * ROUNDS);
    for (i = 0; i < 3; i++)
        assert_true(f.by_loop[i] >= 10 * DEPTH * ROUNDS);
    for (i = 0; i < CONNS; i++)
        close(fd[i]);
    buf_fini(&req);
    fx_stop(&f);
}

/* ---- the end ---- */

static void on_drained(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void drain_lets_requests_finish(void **state)
{
    atomic_uint done = 0;
    struct fx f;
    int idle, busy, half;

    fx_init(&f);
    fx_listen(&f);
    idle = fx_connect(&f);
    busy = fx_connect(&f);
    half = fx_connect(&f);
    fx_send_str(idle, REQ("/a"));
    fx_read_until(idle, big, sizeof big, "Host=h]");
    fx_send_str(busy, REQ("/hold"));
    fx_send_str(half, "POST /release HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
    fx_wait(atomic_load(&f.requests) == 2 && atomic_load(&f.heads) == 3);
    http_server_drain(f.s, 120000, on_drained, &done);
    assert_int_equal(recv(idle, big, 1, 0), 0);
    fx_sleep_ms(100);
    assert_int_equal(atomic_load(&done), 0);
    fx_send_str(half, "x");
    fx_read_all(half, big, sizeof big);
    assert_non_null(strstr(big, "connection: close\r\n"));
    assert_non_null(strstr(big, "released"));
    fx_read_all(busy, big, sizeof big);
    assert_non_null(strstr(big, "connection: close\r\n"));
    assert_non_null(strstr(big, "held 0"));
    fx_wait(atomic_load(&done) == 1);
    close(idle);
    close(busy);
    close(half);
    idle = socket(AF_INET, SOCK_STREAM, 0); /* nobody listens */
    {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f.port)};

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(connect(idle, (struct sockaddr *)&a, sizeof a), -1);
    }
    close(idle);
    fx_stop(&f);
}

static void drain_has_an_end(void **state)
{
    atomic_uint done = 0;
    struct fx f;
    uint64_t t0;
    int fd;

    fx_init(&f);
    f.loops_n = 2;
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, REQ("/hold"));
    fx_wait(atomic_load(&f.requests) == 1);
    t0 = fx_now_ms();
    http_server_drain(f.s, 200, on_drained, &done);
    fx_wait(atomic_load(&done) == 1);
    assert_true(fx_now_ms() - t0 >= 200);
    assert_int_equal(f.closes, 0);
    fx_stop(&f); /* which ends it */
    assert_int_equal(f.closes, 1);
    close(fd);
}

static void answers_carry_the_date(void **state)
{
    struct tm tm = {0};
    struct fx f;
    int fd;

    fx_init(&f);
    fx_listen(&f);
    fd = fx_connect(&f);
    fx_send_str(fd, REQ("/echo"));
    fx_read_until(fd, big, sizeof big, "\r\n\r\n");
    assert_non_null(strptime(strstr(big, "date: ") + 6, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    assert_true(llabs((long long)(timegm(&tm) - time(NULL))) <= 2);
    close(fd);
    fx_stop(&f);
}

static void wrong_configurations(void **state)
{
    struct http_server_conf conf = {0};
    struct http_server *s = (struct http_server *)&conf;
    struct errinfo info = {0};

    assert_int_equal(http_server_new(&conf, &s, &info), ERR_INVALID);
    assert_null(s);
    http_server_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_heads_get_408),
        cmocka_unit_test(idle_connections_end),
        cmocka_unit_test(waiting_is_not_idle),
        cmocka_unit_test(half_closed_peers_get_their_answers),
        cmocka_unit_test(gone_peers_are_told_to_the_handler),
        cmocka_unit_test(refusals_are_readable),
        cmocka_unit_test(streams_wait_for_slow_readers),
        cmocka_unit_test(pipelines_wait_for_slow_readers),
        cmocka_unit_test(stuck_readers_are_dropped),
        cmocka_unit_test(many_pipelined_connections),
        cmocka_unit_test(drain_lets_requests_finish),
        cmocka_unit_test(drain_has_an_end),
        cmocka_unit_test(answers_carry_the_date),
        cmocka_unit_test(wrong_configurations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
