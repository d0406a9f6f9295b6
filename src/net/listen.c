/* Servers: listening sockets, and the spreading of connections over loops. See conn.h.
 *
 * Listening sockets belong to the first loop, which accepts and hands each connection to the loop
 * that has the fewest, so that four connections are spread as evenly as four thousand. When the
 * process is out of descriptors, listening rests for a moment instead of spinning. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/thread.h"
#include "net/conn.h"
#include "net/tbl/limits.h"
#include "net/tls.h"

struct listener {
    struct loop_fd fd;
    struct loop_timer rest; /* armed: not accepting for a moment */
    struct conn_server *s;
    struct tls_conf *tls;
    char *unix_path;
    bool open;
};

struct ip_count {
    uint8_t ip[16];
    uint32_t n;
};

struct conn_server {
    struct conn_server_conf conf;
    struct conn_loop *cl;
    struct listener listeners[NET_LISTENERS];
    unsigned listeners_n;
    unsigned turn; /* of equals, the next loop */
    atomic_uint_fast64_t open;
    struct io_mutex lock; /* guards ips */
    struct map ips;       /* ip -> struct ip_count, if there is a limit */
    struct drain {
        struct loop_task task;
        struct conn_loop *cl;
        void (*on_conn)(struct conn *c);
    } * drains;
    void (*sink)(void *arg, struct conn *c, struct slice data);
    void *sink_arg;
};

const struct conn_server_conf *conn_server_conf(const struct conn_server *s)
{
    return &s->conf;
}

/* ---- counting ---- */

/* An IPv6 address counts as its /64: its owner has them all. */
static struct slice ip_key(const uint8_t ip[16])
{
    static const uint8_t v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return slice_of(ip, memcmp(ip, v4, 12) == 0 ? 16 : 8);
}

static bool ip_enter(struct conn_server *s, const uint8_t ip[16])
{
    struct ip_count *n;
    bool ok;

    io_mutex_lock(&s->lock);
    n = map_find(&s->ips, ip_key(ip));
    if (!n) {
        n = xcalloc(1, sizeof *n);
        memcpy(n->ip, ip, 16);
        ASSERT(map_put(&s->ips, ip_key(n->ip), n) == ERR_OK); /* at most conns_max */
    }
    ok = n->n < s->conf.conns_ip_max;
    n->n += ok;
    io_mutex_unlock(&s->lock);
    return ok;
}

static void ip_leave(struct conn_server *s, const uint8_t ip[16])
{
    struct ip_count *n;

    io_mutex_lock(&s->lock);
    n = map_find(&s->ips, ip_key(ip));
    ASSERT(n && n->n > 0);
    if (--n->n == 0) {
        map_remove(&s->ips, ip_key(ip));
        free(n);
    }
    io_mutex_unlock(&s->lock);
}

void conn_server__left(struct conn *c)
{
    struct conn_server *s = c->cl->s;

    if (c->has_ip && s->conf.conns_ip_max)
        ip_leave(s, c->remote_ip);
    atomic_fetch_sub(&c->cl->load, 1);
    atomic_fetch_sub(&s->open, 1);
}

/* ---- accepting ---- */

static void remote_set(const struct sockaddr_storage *a, struct conn *c)
{
    static const uint8_t v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char ip[INET6_ADDRSTRLEN] = "";

    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;

        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(c->remote, sizeof c->remote, "%s:%u", ip, ntohs(in->sin_port));
        memcpy(c->remote_ip, v4, 12);
        memcpy(c->remote_ip + 12, &in->sin_addr, 4);
        c->has_ip = true;
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)a;

        inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof ip);
        snprintf(c->remote, sizeof c->remote, "[%s]:%u", ip, ntohs(in->sin6_port));
        memcpy(c->remote_ip, &in->sin6_addr, 16);
        c->has_ip = true;
    } else {
        snprintf(c->remote, sizeof c->remote, "unix");
    }
}

struct handover {
    struct loop_task task;
    struct conn *c;
    struct tls_conf *tls;
};

static void adopt(struct conn *c, struct tls_conf *tls)
{
    void *ssl = NULL;

    if (c->cl->draining || (tls && !(ssl = tls_session_new(tls, c->fd.fd)))) {
        conn_abandon(c);
        return;
    }
    if (loop_fd_add(c->cl->loop, &c->fd, EPOLLIN, NULL)) {
        if (ssl)
            tls_session_free(ssl);
        conn_abandon(c);
        return;
    }
    conn_start(c, ssl);
}

static void adopt_task(struct loop_task *t)
{
    struct handover *h = (struct handover *)(void *)t;
    struct conn *c = h->c;
    struct tls_conf *tls = h->tls;

    free(h);
    adopt(c, tls);
}

static struct conn_loop *loop_pick(struct conn_server *s)
{
    struct conn_loop *best = NULL;
    unsigned i, least = 0;

    for (i = 0; i < s->conf.loops_n; i++) {
        struct conn_loop *cl = &s->cl[(s->turn + i) % s->conf.loops_n];
        unsigned load = atomic_load(&cl->load);

        if (!best || load < least) {
            best = cl;
            least = load;
        }
    }
    s->turn = (best->index + 1) % s->conf.loops_n;
    atomic_fetch_add(&best->load, 1);
    return best;
}

static void hand_over(struct listener *ln, int fd, const struct sockaddr_storage *addr)
{
    struct conn_server *s = ln->s;
    struct conn *c = conn_new(loop_pick(s), fd);
    struct handover *h;
    int one = 1;

    remote_set(addr, c);
    if (c->has_ip && s->conf.conns_ip_max && !ip_enter(s, c->remote_ip)) {
        c->has_ip = false; /* it is not counted */
        conn_abandon(c);
        return;
    }
    if (addr->ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->cl->index == 0) {
        adopt(c, ln->tls);
        return;
    }
    h = xcalloc(1, sizeof *h);
    h->task.fn = adopt_task;
    h->c = c;
    h->tls = ln->tls;
    loop_post(c->cl->loop, &h->task);
}

static void on_rested(struct loop_timer *t)
{
    struct listener *ln = list_entry(t, struct listener, rest);

    loop_fd_mod(ln->s->cl[0].loop, &ln->fd, EPOLLIN);
}

static void on_accept(struct loop_fd *f, uint32_t events)
{
    struct listener *ln = list_entry(f, struct listener, fd);
    struct conn_server *s = ln->s;
    unsigned i;

    for (i = 0; i < NET_ACCEPT_TURNS; i++) {
        struct sockaddr_storage a;
        socklen_t len = sizeof a;
        int fd = accept4(f->fd, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0) { /* no descriptors, or no memory */
            loop_fd_mod(s->cl[0].loop, f, 0);
            loop_timer_arm(s->cl[0].loop, &ln->rest, NET_ACCEPT_PAUSE_MS);
            return;
        }
        if (atomic_fetch_add(&s->open, 1) >= s->conf.conns_max) {
            atomic_fetch_sub(&s->open, 1);
            conn_stat_add(&s->cl[0].st.refused, 1);
            close(fd);
            continue;
        }
        hand_over(ln, fd, &a);
    }
}

/* ---- addresses ---- */

static enum err parse_unix(const char *path, struct sockaddr_un *un, struct errinfo *info)
{
    if (!*path || strlen(path) >= sizeof un->sun_path)
        return errinfo_set(info, ERR_CONFIG, "unix:%s: the path has 1 to %zu bytes", path,
                           sizeof un->sun_path - 1);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    return ERR_OK;
}

/* "host:port", "[v6]:port" or "unix:/path". */
static enum err parse_addr(const char *addr, struct sockaddr_storage *out, socklen_t *len,
                           struct errinfo *info)
{
    struct sockaddr_in *in = (void *)out;
    struct sockaddr_in6 *in6 = (void *)out;
    const char *colon = strrchr(addr, ':');
    char host[INET6_ADDRSTRLEN + 2], *end = NULL;
    unsigned long port;
    size_t n;

    memset(out, 0, sizeof *out);
    if (strncmp(addr, "unix:", 5) == 0) {
        *len = sizeof(struct sockaddr_un);
        return parse_unix(addr + 5, (void *)out, info);
    }
    port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 65536;
    if (port > 65535 || *end || (n = (size_t)(colon - addr)) >= sizeof host)
        return errinfo_set(info, ERR_CONFIG, "%s is not an address: give HOST:PORT", addr);
    memcpy(host, addr, n);
    host[n] = 0;
    if (strcmp(host, "localhost") == 0)
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    if (inet_pton(AF_INET, host[0] ? host : "0.0.0.0", &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *len = sizeof *in;
        return ERR_OK;
    }
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1) {
            in6->sin6_family = AF_INET6;
            in6->sin6_port = htons((uint16_t)port);
            *len = sizeof *in6;
            return ERR_OK;
        }
    }
    return errinfo_set(info, ERR_CONFIG,
                       "%s is not an IP address: give 127.0.0.1:8787 or [::1]:8787", addr);
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;

    if (getsockname(fd, (struct sockaddr *)&a, &len))
        return 0;
    return ntohs(a.ss_family == AF_INET6  ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
                 : a.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&a)->sin_port
                                          : 0);
}

/* A socket that a dead process left behind is removed; anything else there is not ours. */
static void unix_clear(const struct sockaddr_storage *a, socklen_t len)
{
    const struct sockaddr_un *un = (const void *)a;
    struct stat st;
    int fd;

    if (lstat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)a, len) && errno == ECONNREFUSED)
        unlink(un->sun_path);
    close(fd);
}

static enum err bind_to(const char *addr, int *out, char **unix_path, struct errinfo *info)
{
    struct sockaddr_storage a;
    socklen_t len = 0;
    int one = 1, fd;
    enum err e;

    if ((e = parse_addr(addr, &a, &len, info)))
        return e;
    fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errinfo_os(info, errno, "making a socket for %s", addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (a.ss_family == AF_UNIX)
        unix_clear(&a, len);
    if (bind(fd, (struct sockaddr *)&a, len) || listen(fd, NET_LISTEN_BACKLOG)) {
        e = errinfo_os(info, errno, "listening on %s", addr);
        close(fd);
        return e;
    }
    *out = fd;
    *unix_path = a.ss_family == AF_UNIX ? xstrdup(addr + 5) : NULL;
    return ERR_OK;
}

enum err conn_server_listen(struct conn_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info)
{
    struct listener *ln;
    char *path = NULL;
    enum err e;
    int fd = -1;

    if (s->listeners_n == NET_LISTENERS)
        return errinfo_set(info, ERR_LIMIT, "more than %u addresses", NET_LISTENERS);
    if ((e = bind_to(addr, &fd, &path, info)))
        return e;
    ln = &s->listeners[s->listeners_n];
    *ln = (struct listener){.fd = {.fd = fd, .fn = on_accept}, .s = s, .tls = tls};
    loop_timer_init(&ln->rest, on_rested);
    if ((e = loop_fd_add(s->cl[0].loop, &ln->fd, EPOLLIN, info))) {
        close(fd);
        free(path);
        return e;
    }
    ln->unix_path = path;
    ln->open = true;
    s->listeners_n++;
    if (port)
        *port = bound_port(fd);
    return ERR_OK;
}

/* ---- the server ---- */

enum err conn_server_new(const struct conn_server_conf *conf, struct conn_server **out,
                         struct errinfo *info)
{
    struct conn_server *s = xcalloc(1, sizeof *s);
    uint8_t seed[16];
    unsigned i;

    ASSERT(conf->loops_n > 0 && conf->output_max > 0 && conf->conns_max > 0 && conf->send_ms > 0);
    s->conf = *conf;
    s->cl = xcalloc(conf->loops_n, sizeof *s->cl);
    s->drains = xcalloc(conf->loops_n, sizeof *s->drains);
    io_mutex_init(&s->lock);
    io_random(io_real(), seed, sizeof seed);
    map_init(&s->ips, conf->conns_max < 1u << 29 ? conf->conns_max + 1 : 1u << 30, seed);
    for (i = 0; i < conf->loops_n; i++)
        conn_loop_init(&s->cl[i], s, conf->loops[i], i);
    *out = s;
    return ERR_OK;
}

static void listeners_close(struct conn_server *s)
{
    unsigned i;

    for (i = 0; i < s->listeners_n; i++) {
        struct listener *ln = &s->listeners[i];

        if (!ln->open)
            continue;
        ln->open = false;
        loop_timer_cancel(s->cl[0].loop, &ln->rest);
        loop_fd_del(s->cl[0].loop, &ln->fd);
        close(ln->fd.fd);
        if (ln->unix_path)
            unlink(ln->unix_path);
        free(ln->unix_path);
    }
}

static void drain_loop(struct loop_task *t)
{
    struct drain *d = (struct drain *)(void *)t;
    struct list_node *n, *next;

    d->cl->draining = true;
    if (d->cl->index == 0)
        listeners_close(d->cl->s);
    for (n = d->cl->conns.node.next; n != &d->cl->conns.node; n = next) {
        struct conn *c = list_entry(n, struct conn, link);

        next = n->next;
        if (c->handshake)
            conn_close(c, false, CONN_LOCAL);
        else if (!c->closing)
            d->on_conn(c);
    }
}

void conn_server_drain(struct conn_server *s, void (*on_conn)(struct conn *c))
{
    unsigned i;

    for (i = 0; i < s->conf.loops_n; i++) {
        s->drains[i].task.fn = drain_loop;
        s->drains[i].cl = &s->cl[i];
        s->drains[i].on_conn = on_conn;
        loop_post(s->cl[i].loop, &s->drains[i].task);
    }
}

void conn_server_free(struct conn_server **sp)
{
    struct conn_server *s = *sp;
    unsigned i;

    if (!s)
        return;
    listeners_close(s);
    for (i = 0; i < s->conf.loops_n; i++) { /* connections on their way to it are there now */
        s->cl[i].draining = true;
        loop_drain(s->cl[i].loop);
    }
    for (i = 0; i < s->conf.loops_n; i++)
        conn_loop_fini(&s->cl[i]);
    ASSERT(s->ips.n == 0 && atomic_load(&s->open) == 0);
    map_fini(&s->ips);
    io_mutex_fini(&s->lock);
    free(s->drains);
    free(s->cl);
    free(s);
    *sp = NULL;
}

static uint64_t get(const conn_stat *s)
{
    return atomic_load_explicit((conn_stat *)(uintptr_t)s, memory_order_relaxed);
}

void conn_server_stats(const struct conn_server *s, struct conn_stats *out)
{
    unsigned i, k;

    memset(out, 0, sizeof *out);
    for (i = 0; i < s->conf.loops_n; i++) {
        const struct conn_loop_stats *st = &s->cl[i].st;

        out->accepted += get(&st->accepted);
        out->refused += get(&st->refused);
        out->open += get(&st->open);
        out->bytes_in += get(&st->bytes_in);
        out->bytes_out += get(&st->bytes_out);
        for (k = 0; k < CONN_WHY_N; k++)
            out->closed[k] += get(&st->closed[k]);
    }
}

uint64_t conn_server_open(const struct conn_server *s)
{
    return atomic_load(&((struct conn_server *)(uintptr_t)s)->open);
}

/* ---- without sockets ---- */

struct conn *conn_detached(struct conn_server *s, unsigned loop, const char *alpn)
{
    struct conn *c = conn_new(&s->cl[loop], -1);

    atomic_fetch_add(&s->open, 1);
    atomic_fetch_add(&c->cl->load, 1);
    snprintf(c->remote, sizeof c->remote, "detached");
    conn_stat_add(&c->cl->st.accepted, 1);
    conn_stat_add(&c->cl->st.open, 1);
    list_push_back(&c->cl->conns, &c->link);
    s->conf.on_open(s->conf.ctx, loop, c, alpn);
    return c;
}

void conn_sink_set(struct conn_server *s,
                   void (*sink)(void *arg, struct conn *c, struct slice data), void *arg)
{
    s->sink = sink;
    s->sink_arg = arg;
}

void conn_server__sunk(struct conn *c, struct slice data)
{
    struct conn_server *s = c->cl->s;

    if (s->sink)
        s->sink(s->sink_arg, c, data);
}
