/* Connections and listeners. See conn.h.
 *
 * Listening sockets belong to the first loop, which accepts and hands connections round robin to all
 * loops, so that few connections are spread as evenly as many. */
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/tls.h"

#define SCRATCH (256u << 10)
#define LISTENERS_MAX 16
#define BACKLOG 1024
#define FLUSH_MS 5000
#define HANDSHAKE_MS 10000
#define HARD_MAX_MIN (64u << 20)
#define OUT_KEEP (64u << 10) /* an empty output buffer larger than this is given back */
#define ACCEPT_BURST 64

struct listener {
    struct loop_fd fd;
    struct conn_server *s;
    struct tls_conf *tls;
    char *unix_path;
    bool open;
};

struct conn_server {
    struct conn_server_conf conf;
    struct conn_loop *cl;
    struct listener listeners[LISTENERS_MAX];
    unsigned listeners_n;
    unsigned next_loop;
    atomic_uint_fast64_t open;
    struct drain {
        struct loop_task task;
        struct conn_loop *cl;
        void (*on_conn)(struct conn *c);
    } *drains;
};

/* ---- output -------------------------------------------------------------------------------------- */

static void mark_dirty(struct conn *c)
{
    if (c->is_dirty)
        return;
    c->is_dirty = true;
    list_push_back(&c->cl->dirty, &c->dirty);
}

uint8_t *conn_out(struct conn *c, size_t n)
{
    if (c->closed)
        return NULL;
    if (c->out_at && c->out.len + n > c->out.cap) {
        memmove(c->out.ptr, c->out.ptr + c->out_at, c->out.len - c->out_at);
        c->out.len -= c->out_at;
        c->out_at = 0;
    }
    if (buf_reserve(&c->out, n)) {
        conn_close(c, false);
        return NULL;
    }
    return c->out.ptr + c->out.len;
}

void conn_out_done(struct conn *c, size_t n)
{
    c->out.len += n;
    mark_dirty(c);
}

void conn_send(struct conn *c, struct slice data)
{
    uint8_t *p = conn_out(c, data.len);

    if (!p)
        return;
    memcpy(p, data.ptr, data.len);
    conn_out_done(c, data.len);
}

bool conn_full(struct conn *c)
{
    if (conn_queued(c) < c->cl->s->conf.output_max)
        return false;
    c->was_full = true;
    return true;
}

static void interest(struct conn *c)
{
    uint32_t ev = 0;

    if (c->closed)
        return;
    if (!c->paused && !c->closing && !c->eof)
        ev |= EPOLLIN;
    if (conn_queued(c) || c->want_write)
        ev |= EPOLLOUT;
    loop_fd_mod(c->cl->loop, &c->fd, ev);
}

void conn_pause(struct conn *c, bool pause)
{
    if (c->paused == pause)
        return;
    c->paused = pause;
    if (!c->closed)
        mark_dirty(c); /* interest is set, and buffered TLS input looked at, when it is flushed */
}

static long raw_write(struct conn *c, const void *p, size_t n)
{
    return c->ssl ? tls_write(c->ssl, p, n) : send(c->fd.fd, p, n, MSG_NOSIGNAL);
}

/* Writes what the socket takes. False: the connection is gone. */
static bool flush_some(struct conn *c)
{
    while (conn_queued(c)) {
        long r = raw_write(c, c->out.ptr + c->out_at, conn_queued(c));

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN)
            return true;
        if (r <= 0)
            return false;
        c->out_at += (size_t)r;
        c->cl->st.bytes_out += (uint64_t)r;
    }
    c->out.len = c->out_at = 0;
    if (c->out.cap > OUT_KEEP)
        buf_fini(&c->out);
    return true;
}

static void flush(struct conn *c)
{
    if (c->closed || c->handshake)
        return;
    if (!flush_some(c)) {
        conn_close(c, false);
        return;
    }
    if (c->closing && conn_queued(c) == 0) {
        conn_close(c, false);
        return;
    }
    interest(c);
    if (c->was_full && conn_queued(c) < c->cl->s->conf.output_max / 4) {
        c->was_full = false;
        c->proto->on_drain(c);
    }
}

static void conn_free(struct conn *c)
{
    buf_fini(&c->out);
    free(c);
}

/* End of a loop's turn: output leaves, closed connections are freed. Flushing may make more dirty. */
static void on_turn_end(void *arg)
{
    struct conn_loop *cl = arg;
    struct conn *c;

    while (!list_empty(&cl->dirty)) {
        c = list_entry(list_pop_front(&cl->dirty), struct conn, dirty);
        c->is_dirty = false;
        flush(c);
    }
    while (!list_empty(&cl->dead)) {
        c = list_entry(list_pop_front(&cl->dead), struct conn, link);
        conn_free(c);
    }
}

/* ---- closing and deadlines ----------------------------------------------------------------------- */

static void close_now(struct conn *c)
{
    struct conn_loop *cl = c->cl;

    c->closed = true;
    loop_timer_cancel(cl->loop, &c->timer);
    loop_fd_del(cl->loop, &c->fd);
    if (c->proto)
        c->proto->on_close(c);
    if (c->ssl) {
        if (!c->handshake)
            tls_bye(c->ssl);
        tls_session_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->fd.fd);
    if (c->is_dirty) {
        list_remove(&c->dirty);
        c->is_dirty = false;
    }
    list_remove(&c->link);
    list_push_back(&cl->dead, &c->link);
    cl->st.open--;
    atomic_fetch_sub(&cl->s->open, 1);
}

void conn_close(struct conn *c, bool flush_first)
{
    if (c->closed)
        return;
    if (flush_first && conn_queued(c) && !c->handshake) {
        c->closing = true;
        conn_deadline(c, FLUSH_MS);
        mark_dirty(c);
        return;
    }
    close_now(c);
}

void conn_deadline(struct conn *c, uint64_t ms)
{
    uint64_t now = loop_now_ms(c->cl->loop);

    if (c->closed)
        return;
    c->deadline_ms = ms ? now + ms : 0;
    /* A timer that is due earlier looks at the deadline again; only an earlier one must be moved. */
    if (ms && (!loop_timer_armed(&c->timer) || c->timer.due_ms > c->deadline_ms + 1))
        loop_timer_arm(c->cl->loop, &c->timer, ms);
}

static void on_timer(struct loop_timer *t)
{
    struct conn *c = (struct conn *)(void *)((char *)t - offsetof(struct conn, timer));
    uint64_t now = loop_now_ms(c->cl->loop);

    if (!c->deadline_ms)
        return;
    if (now < c->deadline_ms) {
        loop_timer_arm(c->cl->loop, t, c->deadline_ms - now);
        return;
    }
    c->deadline_ms = 0;
    c->cl->st.timeouts++;
    if (c->closing || c->handshake || !c->proto)
        conn_close(c, false);
    else
        c->proto->on_timeout(c);
}

/* ---- input --------------------------------------------------------------------------------------- */

static long raw_read(struct conn *c, void *p, size_t n)
{
    return c->ssl ? tls_read(c->ssl, p, n, &c->want_write) : recv(c->fd.fd, p, n, 0);
}

static void handshake(struct conn *c)
{
    int r = tls_handshake(c->ssl, &c->want_write);

    if (r < 0) {
        conn_close(c, false);
        return;
    }
    if (r == 0) {
        interest(c);
        return;
    }
    c->handshake = c->want_write = false;
    conn_deadline(c, 0);
    c->cl->s->conf.on_open(c->cl->s->conf.ctx, c->cl->index, c, tls_alpn(c->ssl));
    mark_dirty(c);
}

static void on_readable(struct conn *c)
{
    unsigned turns;
    long r;

    for (turns = 0; turns < 4 && !c->closed && !c->paused && !c->closing; turns++) {
        c->want_write = false;
        r = raw_read(c, c->cl->scratch, SCRATCH);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN)
            return;
        if (r <= 0) {
            conn_close(c, false);
            return;
        }
        c->cl->st.bytes_in += (uint64_t)r;
        c->proto->on_data(c, slice_of(c->cl->scratch, (size_t)r));
        if (!c->ssl && (size_t)r < SCRATCH)
            return; /* the socket is empty; if not, it is reported again */
    }
    if (c->ssl && !c->closed)
        mark_dirty(c);
}

static void on_event(struct loop_fd *f, uint32_t events)
{
    struct conn *c = (struct conn *)(void *)((char *)f - offsetof(struct conn, fd));

    if (c->handshake) {
        handshake(c);
        if (c->closed || c->handshake)
            return;
    }
    if (events & EPOLLOUT)
        mark_dirty(c);
    if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
        conn_close(c, false);
        return;
    }
    if (events & EPOLLIN || c->want_write)
        on_readable(c);
}

/* ---- accepting ----------------------------------------------------------------------------------- */

static void remote_text(const struct sockaddr_storage *a, struct conn *c)
{
    char ip[INET6_ADDRSTRLEN] = "";

    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;

        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(c->remote, sizeof c->remote, "%s:%u", ip, ntohs(in->sin_port));
        c->remote_ip[1] = in->sin_addr.s_addr;
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)a;

        inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof ip);
        snprintf(c->remote, sizeof c->remote, "[%s]:%u", ip, ntohs(in->sin6_port));
        memcpy(c->remote_ip, &in->sin6_addr, 16);
    } else {
        snprintf(c->remote, sizeof c->remote, "unix");
    }
}

struct handover {
    struct loop_task task;
    struct conn *c;
    struct tls_conf *tls;
};

static bool too_many_of_ip(struct conn *c)
{
    uint32_t max = c->cl->s->conf.conns_ip_max, n = 0;
    struct conn *o;

    if (!max)
        return false;
    /* Each loop counts its own share: connections are spread evenly. */
    max = (max + c->cl->s->conf.loops_n - 1) / c->cl->s->conf.loops_n;
    list_for_each(o, &c->cl->conns, struct conn, link)
        n += memcmp(o->remote_ip, c->remote_ip, 16) == 0;
    return n >= max;
}

static void adopt(struct loop_task *t)
{
    struct handover *h = (struct handover *)t;
    struct conn *c = h->c;
    struct conn_loop *cl = c->cl;
    struct tls_conf *tls = h->tls;
    struct errinfo info;

    free(h);
    if (cl->draining || too_many_of_ip(c) ||
        (tls && !(c->ssl = tls_session_new(tls, c->fd.fd))) ||
        loop_fd_add(cl->loop, &c->fd, EPOLLIN, &info)) {
        cl->st.refused++;
        atomic_fetch_sub(&cl->s->open, 1);
        if (c->ssl)
            tls_session_free(c->ssl);
        close(c->fd.fd);
        conn_free(c);
        return;
    }
    cl->st.accepted++;
    cl->st.open++;
    list_push_back(&cl->conns, &c->link);
    if (c->ssl) {
        c->handshake = true;
        conn_deadline(c, HANDSHAKE_MS);
        handshake(c);
    } else {
        cl->s->conf.on_open(cl->s->conf.ctx, cl->index, c, "");
    }
}

static void hand_over(struct listener *ln, int fd, const struct sockaddr_storage *addr)
{
    struct conn_server *s = ln->s;
    struct conn_loop *cl = &s->cl[s->next_loop++ % s->conf.loops_n];
    struct handover *h = xcalloc(1, sizeof *h);
    struct conn *c = xcalloc(1, sizeof *c);
    size_t hard = (size_t)s->conf.output_max * 16;
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->cl = cl;
    c->fd = (struct loop_fd){.fd = fd, .fn = on_event};
    loop_timer_init(&c->timer, on_timer);
    buf_init(&c->out, hard > HARD_MAX_MIN ? hard : HARD_MAX_MIN);
    remote_text(addr, c);
    h->c = c;
    h->tls = ln->tls;
    h->task.fn = adopt;
    if (cl->index == 0)
        adopt(&h->task);
    else
        loop_post(cl->loop, &h->task);
}

static void on_accept(struct loop_fd *f, uint32_t events)
{
    struct listener *ln = (struct listener *)(void *)f;
    struct conn_server *s = ln->s;
    unsigned i;

    for (i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_storage a;
        socklen_t len = sizeof a;
        int fd = accept4(f->fd, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
            return; /* nothing there, or no descriptors left: it is reported again */
        if (atomic_fetch_add(&s->open, 1) >= s->conf.conns_max) {
            atomic_fetch_sub(&s->open, 1);
            s->cl[0].st.refused++;
            close(fd);
            continue;
        }
        hand_over(ln, fd, &a);
    }
}

/* "host:port", "[v6]:port" or "unix:/path". */
static enum err parse_addr(const char *addr, struct sockaddr_storage *out, socklen_t *len,
                           struct errinfo *info)
{
    struct sockaddr_in *in = (void *)out;
    struct sockaddr_in6 *in6 = (void *)out;
    struct sockaddr_un *un = (void *)out;
    const char *colon = strrchr(addr, ':');
    char host[128], *end;
    unsigned long port;

    memset(out, 0, sizeof *out);
    if (strncmp(addr, "unix:", 5) == 0 && strlen(addr + 5) < sizeof un->sun_path) {
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, addr + 5, strlen(addr + 5) + 1);
        *len = sizeof *un;
        return ERR_OK;
    }
    port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || (size_t)(colon - addr) >= sizeof host || *end || end == colon + 1 || port > 65535)
        return errinfo_set(info, ERR_CONFIG, "%s is not an address: give HOST:PORT", addr);
    snprintf(host, sizeof host, "%.*s", (int)(colon - addr), addr);
    if (strcmp(host, "localhost") == 0)
        snprintf(host, sizeof host, "127.0.0.1");
    if (inet_pton(AF_INET, host[0] ? host : "0.0.0.0", &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *len = sizeof *in;
        return ERR_OK;
    }
    if (host[0] == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = 0;
        if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1) {
            in6->sin6_family = AF_INET6;
            in6->sin6_port = htons((uint16_t)port);
            *len = sizeof *in6;
            return ERR_OK;
        }
    }
    return errinfo_set(info, ERR_CONFIG, "%s is not an IP address: give 127.0.0.1:8787 or [::1]:8787",
                       addr);
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;

    if (getsockname(fd, (struct sockaddr *)&a, &len))
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
                 : a.ss_family == AF_INET ? ((struct sockaddr_in *)(void *)&a)->sin_port
                                          : 0);
}

enum err conn_server_listen(struct conn_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info)
{
    struct listener *ln = &s->listeners[s->listeners_n];
    struct sockaddr_storage a;
    socklen_t len = 0;
    int one = 1, fd;
    enum err e;

    if (s->listeners_n == LISTENERS_MAX)
        return errinfo_set(info, ERR_LIMIT, "more than %d addresses", LISTENERS_MAX);
    if ((e = parse_addr(addr, &a, &len, info)))
        return e;
    fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errinfo_os(info, errno, "making a socket for %s", addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.ss_family == AF_UNIX)
        unlink(addr + 5);
    if (bind(fd, (struct sockaddr *)&a, len) || listen(fd, BACKLOG)) {
        e = errinfo_os(info, errno, "listening on %s", addr);
        close(fd);
        return e;
    }
    *ln = (struct listener){.fd = {.fd = fd, .fn = on_accept}, .s = s, .tls = tls, .open = true};
    if (a.ss_family == AF_UNIX)
        ln->unix_path = xstrdup(addr + 5);
    if ((e = loop_fd_add(s->cl[0].loop, &ln->fd, EPOLLIN, info))) {
        close(fd);
        return e;
    }
    s->listeners_n++;
    if (port)
        *port = bound_port(fd);
    return ERR_OK;
}

/* ---- the server ---------------------------------------------------------------------------------- */

enum err conn_server_new(const struct conn_server_conf *conf, struct conn_server **out,
                         struct errinfo *info)
{
    struct conn_server *s = xcalloc(1, sizeof *s);
    unsigned i;

    ASSERT(conf->loops_n > 0 && conf->output_max > 0);
    s->conf = *conf;
    s->cl = xcalloc(conf->loops_n, sizeof *s->cl);
    s->drains = xcalloc(conf->loops_n, sizeof *s->drains);
    for (i = 0; i < conf->loops_n; i++) {
        struct conn_loop *cl = &s->cl[i];

        cl->s = s;
        cl->loop = conf->loops[i];
        cl->index = i;
        cl->scratch = xmalloc(SCRATCH);
        list_init(&cl->conns);
        list_init(&cl->dirty);
        list_init(&cl->dead);
        cl->hook = (struct loop_hook){.fn = on_turn_end, .arg = cl};
        loop_hook_add(cl->loop, &cl->hook, true);
    }
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
        next = n->next;
        if (!list_entry(n, struct conn, link)->handshake)
            d->on_conn(list_entry(n, struct conn, link));
        else
            conn_close(list_entry(n, struct conn, link), false);
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
    for (i = 0; i < s->conf.loops_n; i++) {
        struct conn_loop *cl = &s->cl[i];

        while (!list_empty(&cl->conns))
            close_now(list_entry(cl->conns.node.next, struct conn, link));
        on_turn_end(cl);
        loop_hook_del(&cl->hook);
        free(cl->scratch);
    }
    free(s->drains);
    free(s->cl);
    free(s);
    *sp = NULL;
}

/* Counters are written by their loops; a reading thread may see them a moment late. */
void conn_server_stats(const struct conn_server *s, struct conn_stats *out)
{
    unsigned i;

    memset(out, 0, sizeof *out);
    for (i = 0; i < s->conf.loops_n; i++) {
        const struct conn_stats *st = &s->cl[i].st;

        out->accepted += st->accepted;
        out->refused += st->refused;
        out->open += st->open;
        out->bytes_in += st->bytes_in;
        out->bytes_out += st->bytes_out;
        out->timeouts += st->timeouts;
    }
}

uint64_t conn_server_open(const struct conn_server *s)
{
    return atomic_load(&((struct conn_server *)(uintptr_t)s)->open);
}
