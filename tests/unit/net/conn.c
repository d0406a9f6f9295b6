/* The connection layer with a protocol of its own: frames of a length byte and so many bytes,
 * answered reversed. Addresses, limits of connections, spreading, half-closed and slow peers, lack
 * of descriptors. */
#include "net/conn.h"

#include "fixture.h"
#include "net/tbl/limits.h"

#include <sys/resource.h>
#include <sys/un.h>

struct peer {
    struct buf in;
    struct cx *x;
};

struct cx {
    struct loop *loops[4];
    pthread_t threads[4];
    unsigned n;
    struct conn_server *s;
    struct conn_server_conf conf;
    uint16_t port;
    bool half_closed_ends;
    atomic_uint opened[4], closed, eofs, timeouts, drains;
    atomic_int why;
    uint32_t deadline_ms;
    size_t flood; /* bytes sent on opening */
};

static void on_data(struct conn *c, struct slice d)
{
    struct peer *p = c->state;
    size_t at = 0, i;

    MUST(buf_append_slice(&p->in, d) == ERR_OK);
    while (at < p->in.len && p->in.len - at > p->in.ptr[at]) {
        uint8_t n = p->in.ptr[at], *out = conn_out(c, (size_t)n + 1);

        if (!out)
            return;
        out[0] = n;
        for (i = 0; i < n; i++)
            out[1 + i] = p->in.ptr[at + n - i];
        conn_out_done(c, (size_t)n + 1);
        at += 1u + n;
        if (n == 1 && out[1] == 'q')
            conn_close(c, true, CONN_LOCAL);
    }
    memmove(p->in.ptr, p->in.ptr + at, p->in.len - at);
    p->in.len -= at;
}

static void on_eof(struct conn *c)
{
    atomic_fetch_add(&((struct peer *)c->state)->x->eofs, 1);
    conn_close(c, true, CONN_PEER);
}

static void on_drain(struct conn *c)
{
    atomic_fetch_add(&((struct peer *)c->state)->x->drains, 1);
}

static void on_timeout(struct conn *c)
{
    atomic_fetch_add(&((struct peer *)c->state)->x->timeouts, 1);
    conn_close(c, false, CONN_TIMEOUT);
}

static void on_close(struct conn *c)
{
    struct peer *p = c->state;

    atomic_store(&p->x->why, (int)c->why);
    atomic_fetch_add(&p->x->closed, 1);
    buf_fini(&p->in);
    free(p);
}

static const struct conn_proto reverse = {.on_data = on_data,
                                          .on_eof = on_eof,
                                          .on_drain = on_drain,
                                          .on_timeout = on_timeout,
                                          .on_close = on_close};

static void nothing(void *arg)
{
}

static void on_open(void *ctx, unsigned loop, struct conn *c, const char *alpn)
{
    static uint8_t zeros[1u << 20];
    struct cx *x = ctx;
    struct peer *p = calloc(1, sizeof *p);

    p->x = x;
    buf_init(&p->in, 1u << 20);
    c->proto = &reverse;
    c->state = p;
    atomic_fetch_add(&x->opened[loop], 1);
    if (x->deadline_ms)
        conn_deadline(c, x->deadline_ms);
    for (size_t at = 0; at < x->flood; at += sizeof zeros)
        conn_send_lent(c, slice_of(zeros, sizeof zeros), nothing, NULL);
}

/* All but the threads. */
static void prepare(struct cx *x, const char *addr)
{
    struct errinfo info = {0};
    unsigned i;

    if (!x->n)
        x->n = 1;
    for (i = 0; i < x->n; i++)
        assert_int_equal(loop_new(&x->loops[i], &info), ERR_OK);
    x->conf.loops = x->loops;
    x->conf.loops_n = x->n;
    x->conf.conns_max = x->conf.conns_max ? x->conf.conns_max : 1000;
    x->conf.output_max = x->conf.output_max ? x->conf.output_max : 1u << 20;
    x->conf.send_ms = x->conf.send_ms ? x->conf.send_ms : 10000;
    x->conf.on_open = on_open;
    x->conf.ctx = x;
    assert_int_equal(conn_server_new(&x->conf, &x->s, &info), ERR_OK);
    if (conn_server_listen(x->s, addr, NULL, &x->port, &info))
        fail_msg("%s", info.text);
}

static void start(struct cx *x, const char *addr)
{
    unsigned i;

    prepare(x, addr);
    for (i = 0; i < x->n; i++)
        assert_int_equal(pthread_create(&x->threads[i], NULL, fx_run, x->loops[i]), 0);
}

static void stop(struct cx *x)
{
    unsigned i;

    for (i = 0; i < x->n; i++) {
        loop_stop(x->loops[i]);
        pthread_join(x->threads[i], NULL);
    }
    conn_server_free(&x->s);
    assert_null(x->s);
    for (i = 0; i < x->n; i++)
        loop_free(&x->loops[i]);
}

static int dial(const struct cx *x)
{
    struct fx f = {.port = x->port};

    return fx_connect(&f);
}

static bool ends(int fd)
{
    char c;

    return recv(fd, &c, 1, 0) <= 0;
}

static void talk(int fd)
{
    char t[6];

    fx_send(fd, "\5hello", 6);
    assert_int_equal(recv(fd, t, 6, MSG_WAITALL), 6);
    assert_memory_equal(t, "\5olleh", 6);
}

static void frames_come_back(void **state)
{
    struct cx x = {0};
    uint8_t many[6000], got[6000];
    unsigned i;
    int fd;

    start(&x, "127.0.0.1:0");
    fd = dial(&x);
    talk(fd);
    for (i = 0; i < 1000; i++) {
        memcpy(many + i * 6, "\5abcde", 6);
        many[i * 6 + 1] = (uint8_t)i;
    }
    for (i = 0; i < 6000; i += 7) /* in pieces that fit no frame */
        fx_send(fd, many + i, 6000 - i < 7 ? 6000 - i : 7);
    assert_int_equal(recv(fd, got, 6000, MSG_WAITALL), 6000);
    for (i = 0; i < 1000; i++)
        assert_int_equal(got[i * 6 + 5], (uint8_t)i);
    fx_send(fd, "\1q", 2);
    assert_int_equal(recv(fd, got, 2, MSG_WAITALL), 2);
    assert_true(ends(fd));
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.why, CONN_LOCAL);
    close(fd);
    stop(&x);
}

static void half_closed_peer_is_answered(void **state)
{
    struct cx x = {0};
    char t[6];
    int fd;

    start(&x, "127.0.0.1:0");
    fd = dial(&x);
    fx_send(fd, "\5hello", 6);
    shutdown(fd, SHUT_WR);
    assert_int_equal(recv(fd, t, 6, MSG_WAITALL), 6);
    assert_true(ends(fd));
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.eofs, 1);
    assert_int_equal(x.why, CONN_PEER);
    close(fd);
    stop(&x);
}

static void reset_is_noticed(void **state)
{
    struct linger l = {1, 0};
    struct cx x = {0};
    int fd;

    start(&x, "127.0.0.1:0");
    fd = dial(&x);
    talk(fd);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    close(fd);
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.eofs, 0);
    fx_wait(conn_server_open(x.s) == 0);
    stop(&x);
}

static void deadline_ends(void **state)
{
    struct cx x = {.deadline_ms = 50};
    uint64_t t0;
    int fd;

    start(&x, "127.0.0.1:0");
    t0 = fx_now_ms();
    fd = dial(&x);
    assert_true(ends(fd));
    assert_true(fx_now_ms() - t0 >= 50);
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.timeouts, 1);
    assert_int_equal(x.why, CONN_TIMEOUT);
    close(fd);
    stop(&x);
}

/* Who takes nothing is dropped; who takes slowly is not. */
static void slow_readers(void **state)
{
    struct cx x = {.flood = 32u << 20, .conf.send_ms = 2000};
    static char t[1u << 20];
    size_t got = 0;
    ssize_t r;
    unsigned i;
    int stuck, slow;

    start(&x, "127.0.0.1:0");
    stuck = dial(&x);
    slow = dial(&x);
    for (i = 0; i < 10; i++) { /* 2.5 s, more than send_ms, but it moves */
        fx_sleep_ms(250);
        got += (size_t)recv(slow, t, sizeof t, MSG_WAITALL);
    }
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.why, CONN_SLOW);
    while (got < x.flood && (r = recv(slow, t, sizeof t, 0)) > 0)
        got += (size_t)r;
    assert_int_equal(got, x.flood);
    fx_wait(atomic_load(&x.drains) == 1);
    talk(slow);
    close(stuck);
    close(slow);
    stop(&x);
}

static uint64_t sent_by(const struct cx *x)
{
    struct conn_stats st;

    conn_server_stats(x->s, &st);
    return st.bytes_out;
}

/* Nobody waits until all of a long answer is copied to its socket. */
static void long_answers_take_turns(void **state)
{
    static uint8_t got[64u << 10];
    struct cx x = {.flood = 4u << 20};
    uint64_t before, come = 0;
    int fd;
    ssize_t n;

    prepare(&x, "127.0.0.1:0");
    fd = dial(&x);
    while (come < x.flood) {
        before = sent_by(&x);
        loop_turn(x.loops[0], come == sent_by(&x));
        assert_in_range(sent_by(&x) - before, 0, NET_SEND_TURN);
        while ((n = recv(fd, got, sizeof got, MSG_DONTWAIT)) > 0)
            come += (uint64_t)n;
    }
    assert_int_equal(come, x.flood);
    assert_int_equal(sent_by(&x), x.flood);
    close(fd);
    conn_server_free(&x.s);
    loop_free(&x.loops[0]);
}

static void output_has_a_hard_maximum(void **state)
{
    struct cx x = {.flood = 80u << 20};
    int fd;

    start(&x, "127.0.0.1:0");
    fd = dial(&x);
    fx_wait(atomic_load(&x.closed) == 1);
    assert_int_equal(x.why, CONN_LIMIT);
    close(fd);
    stop(&x);
}

static void connections_have_a_maximum(void **state)
{
    struct cx x = {.conf.conns_max = 3, .n = 2};
    struct conn_stats st;
    int fd[3], i, more;

    start(&x, "127.0.0.1:0");
    for (i = 0; i < 3; i++) {
        fd[i] = dial(&x);
        talk(fd[i]);
    }
    more = dial(&x);
    assert_true(ends(more));
    close(more);
    close(fd[1]);
    fx_wait(conn_server_open(x.s) == 2);
    fd[1] = dial(&x); /* there is room again */
    talk(fd[1]);
    fx_wait((conn_server_stats(x.s, &st), st.bytes_out == 24)); /* counted just behind the send */
    assert_int_equal(st.bytes_in, 24);
    assert_int_equal(st.accepted, 4);
    assert_int_equal(st.refused, 1);
    assert_int_equal(st.open, 3);
    for (i = 0; i < 3; i++)
        close(fd[i]);
    stop(&x);
}

static int dial_from(const struct cx *x, const char *ip)
{
    struct sockaddr_in a = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct timeval tv = {10, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    inet_pton(AF_INET, ip, &a.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    to.sin_port = htons(x->port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void an_address_has_a_maximum(void **state)
{
    struct cx x = {.conf.conns_ip_max = 2, .n = 3};
    int a[2], other, more;

    start(&x, "127.0.0.1:0");
    talk(a[0] = dial_from(&x, "127.0.0.5"));
    talk(a[1] = dial_from(&x, "127.0.0.5"));
    more = dial_from(&x, "127.0.0.5");
    assert_true(ends(more));
    talk(other = dial_from(&x, "127.0.0.6"));
    close(more);
    close(a[0]);
    fx_wait(conn_server_open(x.s) == 2);
    talk(more = dial_from(&x, "127.0.0.5"));
    close(more);
    close(a[1]);
    close(other);
    stop(&x);
}

static void connections_are_spread_evenly(void **state)
{
    struct cx x = {.n = 4};
    int fd[40], i;

    start(&x, "127.0.0.1:0");
    for (i = 0; i < 8; i++)
        talk(fd[i] = dial(&x));
    for (i = 0; i < 4; i++)
        assert_int_equal(x.opened[i], 2);
    for (i = 0; i < 8; i += 4) /* what one loop had ends: the new ones go there */
        close(fd[i]);
    fx_wait(conn_server_open(x.s) == 6);
    for (i = 0; i < 8; i += 4)
        talk(fd[i] = dial(&x));
    assert_int_equal(x.opened[0], 4);
    for (i = 0; i < 8; i++)
        close(fd[i]);
    stop(&x);
}

/* Without descriptors the server waits (instead of spinning), then serves again. */
static void no_descriptors_left(void **state)
{
    struct rlimit old, low;
    struct cx x = {0};
    struct timespec cpu0, cpu1;
    int fd[64], n = 0, i;

    start(&x, "127.0.0.1:0");
    getrlimit(RLIMIT_NOFILE, &old);
    fd[n++] = dial(&x);
    talk(fd[0]);
    for (i = 0; i < 8; i++) { /* sockets made now, connected when there is no descriptor left */
        fd[n] = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd[n] >= 0);
        n++;
    }
    low = old;
    low.rlim_cur = (rlim_t)fd[n - 1] + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (i = 1; i < n; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(x.port)};

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(connect(fd[i], (struct sockaddr *)&a, sizeof a), 0);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu0);
    fx_sleep_ms(300);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu1);
    assert_true((cpu1.tv_sec - cpu0.tv_sec) * 1000 + (cpu1.tv_nsec - cpu0.tv_nsec) / 1000000 < 150);
    talk(fd[0]); /* those there are served */
    setrlimit(RLIMIT_NOFILE, &old);
    for (i = 1; i < n; i++)
        talk(fd[i]);
    for (i = 0; i < n; i++)
        close(fd[i]);
    stop(&x);
}

static void unix_sockets(void **state)
{
    char dir[] = "/tmp/weir-net-XXXXXX", addr[80], path[64];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct cx x = {0}, y = {0};
    struct errinfo info = {0};
    FILE *f;
    int fd;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(addr, sizeof addr, "unix:%s", path);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0); /* a dead one is in the way */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    start(&x, addr);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    talk(fd);
    close(fd);
    /* a living one is left alone */
    assert_int_equal(loop_new(&y.loops[0], NULL), ERR_OK);
    y.conf = x.conf;
    y.conf.loops = y.loops;
    assert_int_equal(conn_server_new(&y.conf, &y.s, NULL), ERR_OK);
    assert_int_not_equal(conn_server_listen(y.s, addr, NULL, NULL, &info), ERR_OK);
    stop(&x);
    assert_int_not_equal(access(path, F_OK), 0);
    f = fopen(path, "w"); /* and so is a file */
    assert_non_null(f);
    fclose(f);
    assert_int_not_equal(conn_server_listen(y.s, addr, NULL, NULL, &info), ERR_OK);
    assert_int_equal(access(path, F_OK), 0);
    conn_server_free(&y.s);
    loop_free(&y.loops[0]);
    unlink(path);
    rmdir(dir);
}

static void ipv6(void **state)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct cx x = {.conf.conns_ip_max = 1};
    int fd = socket(AF_INET6, SOCK_STREAM, 0), more;

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a))
        skip(); /* the machine has none */
    close(fd);
    start(&x, "[::1]:0");
    a.sin6_port = htons(x.port);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    talk(fd);
    more = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(more, (struct sockaddr *)&a, sizeof a), 0);
    assert_true(ends(more));
    close(fd);
    close(more);
    stop(&x);
}

static void addresses(void **state)
{
    static const char *const bad[] = {"",
                                      "8787",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:x",
                                      "127.0.0.1:1x",
                                      "127.0.0.1:65536",
                                      "host:1",
                                      "::1:80",
                                      "[::1]",
                                      "[::1]:",
                                      "[]:1",
                                      "[x]:1",
                                      "unix:",
                                      "127.0.0.1:-1",
                                      "127.0.0.1: 1"};
    struct cx x = {0};
    struct errinfo info;
    char path[200];
    uint16_t port = 0;
    size_t i;

    start(&x, "localhost:0");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        info = (struct errinfo){0};
        if (conn_server_listen(x.s, bad[i], NULL, &port, &info) != ERR_CONFIG || !info.text[0])
            fail_msg("%s is taken", bad[i]);
    }
    memset(path, 'a', sizeof path);
    memcpy(path, "unix:/", 6);
    path[sizeof path - 1] = 0;
    assert_int_equal(conn_server_listen(x.s, path, NULL, &port, &info), ERR_CONFIG);
    snprintf(path, sizeof path, "127.0.0.1:%u", x.port);
    assert_int_not_equal(conn_server_listen(x.s, path, NULL, &port, &info), ERR_OK); /* in use */
    assert_non_null(strstr(info.text, path));
    stop(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(half_closed_peer_is_answered),
        cmocka_unit_test(reset_is_noticed),
        cmocka_unit_test(deadline_ends),
        cmocka_unit_test(slow_readers),
        cmocka_unit_test(long_answers_take_turns),
        cmocka_unit_test(output_has_a_hard_maximum),
        cmocka_unit_test(connections_have_a_maximum),
        cmocka_unit_test(an_address_has_a_maximum),
        cmocka_unit_test(connections_are_spread_evenly),
        cmocka_unit_test(no_descriptors_left),
        cmocka_unit_test(unix_sockets),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
