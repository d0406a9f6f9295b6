/* Connections. See conn.h.
 *
 * What a turn does to a connection is collected: `dirty` has those to be looked at at the end of
 * the turn (output to be written, interest to be set, an end to be made), `later` those to be
 * called in the next one (input left over, output drained). So a protocol is never called while it
 * is at work. */
#include "net/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/tbl/limits.h"

#define TLS_HANDSHAKE 0x16 /* a record's type, RFC 8446 section 5.1 */

static void on_event(struct loop_fd *f, uint32_t events);
static void on_timer(struct loop_timer *t);

const char *conn_why_text(enum conn_why why)
{
    static const char *const text[] = {"open",    "local", "peer",  "error",
                                       "timeout", "slow",  "limit", "refused"};

    return text[why];
}

static void mark_dirty(struct conn *c)
{
    if (c->is_dirty || c->closed)
        return;
    c->is_dirty = true;
    list_push_back(&c->cl->dirty, &c->dirty);
}

static void mark_later(struct conn *c)
{
    struct conn_loop *cl = c->cl;

    if (c->is_later || c->closed)
        return;
    c->is_later = true;
    list_push_back(&cl->later, &c->later);
    if (!cl->work_posted) {
        cl->work_posted = true;
        loop_post(cl->loop, &cl->work);
    }
}

/* ---- output ---- */

size_t conn_hard_max(const struct conn *c)
{
    size_t max = (size_t)conn_server_conf(c->cl->s)->output_max * NET_OUTPUT_HARD_TIMES;

    return max > NET_OUTPUT_HARD_MIN ? max : NET_OUTPUT_HARD_MIN;
}

/* May n more bytes be queued? */
static bool may_send(struct conn *c, size_t n)
{
    if (c->closing || c->closed)
        return false;
    if (n > NET_OUTPUT_HARD_MIN || c->out.bytes > NET_OUTPUT_HARD_MIN - n) {
        size_t max = conn_hard_max(c);

        if (n > max || c->out.bytes > max - n) {
            conn_close(c, false, CONN_LIMIT);
            return false;
        }
    }
    return true;
}

static void queued_more(struct conn *c)
{
    if (conn_full(c))
        c->was_full = true;
    mark_dirty(c);
}

uint8_t *conn_out(struct conn *c, size_t n)
{
    return may_send(c, n) ? outq_room(&c->out, &c->cl->pool, n) : NULL;
}

void conn_out_done(struct conn *c, size_t n)
{
    outq_done(&c->out, n);
    queued_more(c);
}

void conn_send(struct conn *c, struct slice data)
{
    if (!data.len || !may_send(c, data.len))
        return;
    outq_copy(&c->out, &c->cl->pool, data);
    queued_more(c);
}

void conn_send_lent(struct conn *c, struct slice data, void (*release)(void *arg), void *arg)
{
    if (!data.len || !may_send(c, data.len)) {
        release(arg);
        return;
    }
    outq_lend(&c->out, &c->cl->pool, data, release, arg);
    queued_more(c);
}

void conn_send_queue(struct conn *c, struct outq *q)
{
    if (!q->bytes || !may_send(c, q->bytes)) {
        outq_clear(q, &c->cl->pool);
        return;
    }
    outq_move(&c->out, q, &c->cl->pool);
    queued_more(c);
}

static void interest(struct conn *c)
{
    uint32_t ev = 0;

    if (c->closed || c->fd.fd < 0)
        return;
    if (c->lingering || (!c->paused && !c->closing && !c->eof))
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
    mark_dirty(c); /* interest is set, and input that TLS holds looked at, at the end of the turn */
}

void conn_touch(struct conn *c)
{
    mark_dirty(c);
}

void conn_later(struct conn *c)
{
    c->later_data = true;
    mark_later(c);
}

/* Cuts what is `most` bytes and more; how many pieces are left. */
static int iov_cut(struct iovec *iov, int n, size_t most)
{
    int i;

    for (i = 0; i < n; i++) {
        if (iov[i].iov_len >= most) {
            iov[i].iov_len = most;
            return i + 1;
        }
        most -= iov[i].iov_len;
    }
    return n;
}

/* Up to `most` bytes, at least 1. */
static long raw_write(struct conn *c, size_t most)
{
    struct iovec iov[NET_IOV];
    struct msghdr m = {.msg_iov = iov};
    int n = outq_iov(&c->out, iov, c->ssl || c->fd.fd < 0 ? 1 : NET_IOV);

    if (c->fd.fd < 0) {
        conn_server__sunk(c, slice_of(iov[0].iov_base, iov[0].iov_len));
        return (long)iov[0].iov_len;
    }
    if (c->ssl) /* a record at most */
        return tls_write(c->ssl, iov[0].iov_base, iov[0].iov_len);
    n = iov_cut(iov, n, most);
    if (n == 1)
        return send(c->fd.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
    m.msg_iovlen = (size_t)n;
    return sendmsg(c->fd.fd, &m, MSG_NOSIGNAL);
}

/* Writes what the socket takes, up to a turn's share: the rest follows in the next one, so that a
 * short answer to another connection does not wait until all of a long one is copied. False: the
 * connection is gone. */
static bool write_some(struct conn *c)
{
    bool moved = false;
    size_t sent = 0;

    while (conn_queued(c) && sent < NET_SEND_TURN) {
        long r = raw_write(c, NET_SEND_TURN - sent);

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN)
            break;
        if (r <= 0)
            return false;
        outq_drop(&c->out, &c->cl->pool, (size_t)r);
        sent += c->fd.fd < 0 ? 0 : (size_t)r;
        c->bytes_out += (uint64_t)r;
        conn_stat_add(&c->cl->st.bytes_out, (uint64_t)r);
        moved = true;
    }
    if (!conn_queued(c))
        c->stall_ms = 0;
    else if (moved || !c->stall_ms)
        c->stall_ms = loop_now_ms(c->cl->loop) + conn_server_conf(c->cl->s)->send_ms;
    return true;
}

void conn_tls_start(struct conn *c, struct tls_conf *tls)
{
    if (conn_closing(c) || c->ssl)
        return;
    if (c->fd.fd < 0 || !write_some(c) || conn_queued(c) ||
        !(c->ssl = tls_session_new(tls, c->fd.fd))) {
        conn_close(c, false, CONN_ERROR);
        return;
    }
    c->handshake = true;
    conn_deadline(c, NET_HANDSHAKE_MS);
}

void conn_tls_expect(struct conn *c, struct tls_conf *tls, const char *alpn)
{
    c->expected = tls;
    c->expected_alpn = alpn;
}

/* ---- deadlines ---- */

/* The timer is due when the first of the two deadlines is, or earlier: then it is armed again. */
static void timer_set(struct conn *c)
{
    uint64_t now = loop_now_ms(c->cl->loop), due = c->deadline_ms;

    if (c->stall_ms && (!due || c->stall_ms < due))
        due = c->stall_ms;
    if (!due || c->closed)
        return;
    if (!loop_timer_armed(&c->timer) || c->timer.due_ms > due + 1)
        loop_timer_arm(c->cl->loop, &c->timer, due > now ? due - now : 0);
}

void conn_deadline(struct conn *c, uint64_t ms)
{
    if (c->closing || c->closed)
        return;
    c->deadline_ms = ms ? loop_now_ms(c->cl->loop) + ms : 0;
    if (ms)
        timer_set(c);
}

static void on_timer(struct loop_timer *t)
{
    struct conn *c = list_entry(t, struct conn, timer);
    uint64_t now = loop_now_ms(c->cl->loop);

    if (c->stall_ms && now >= c->stall_ms) {
        conn_close(c, false, CONN_SLOW);
        return;
    }
    if (c->deadline_ms && now >= c->deadline_ms) {
        c->deadline_ms = 0;
        if (c->closing || c->handshake)
            conn_close(c, false, CONN_TIMEOUT);
        else
            c->proto->on_timeout(c);
    }
    timer_set(c);
}

/* ---- closing ---- */

void conn_close(struct conn *c, bool flush, enum conn_why why)
{
    if (c->closed)
        return;
    if (!c->closing) {
        c->why = why;
        c->flush_first = flush;
        if (flush)
            conn_deadline(c, NET_FLUSH_MS);
        c->closing = true;
    } else if (!flush) {
        c->flush_first = false;
    }
    mark_dirty(c);
}

static void proto_end(struct conn *c)
{
    const struct conn_proto *p = c->proto;

    c->proto = NULL;
    if (p)
        p->on_close(c);
}

static void close_now(struct conn *c)
{
    struct conn_loop *cl = c->cl;

    c->closing = c->closed = true;
    loop_timer_cancel(cl->loop, &c->timer);
    if (c->fd.fd >= 0)
        loop_fd_del(cl->loop, &c->fd);
    proto_end(c);
    if (c->ssl) {
        if (!c->handshake && !c->lingering && c->why != CONN_ERROR)
            tls_bye(c->ssl);
        tls_session_free(c->ssl);
        c->ssl = NULL;
    }
    if (c->fd.fd >= 0)
        close(c->fd.fd);
    if (c->is_dirty)
        list_remove(&c->dirty);
    if (c->is_later)
        list_remove(&c->later);
    c->is_dirty = c->is_later = false;
    outq_clear(&c->out, &cl->pool);
    list_remove(&c->link);
    list_push_back(&cl->dead, &c->link);
    conn_stat_add(&cl->st.open, (uint64_t)-1);
    conn_stat_add(&cl->st.closed[c->why], 1);
    conn_server__left(c);
}

/* All is sent. The peer's end is waited for a moment: closing with unread input would make the
 * kernel send a reset, which can destroy the answer that the peer has yet to read. */
static void linger(struct conn *c)
{
    if (c->lingering)
        return;
    if (c->eof || c->fd.fd < 0) {
        close_now(c);
        return;
    }
    proto_end(c);
    if (c->ssl)
        tls_bye(c->ssl);
    c->lingering = true;
    shutdown(c->fd.fd, SHUT_WR);
    c->deadline_ms = loop_now_ms(c->cl->loop) + NET_LINGER_MS;
    timer_set(c);
    interest(c);
}

/* Reads and throws away, past TLS, until the peer's end. */
static void linger_read(struct conn *c)
{
    long r = recv(c->fd.fd, c->cl->scratch, NET_READ_BYTES, 0);

    if (r < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (r > 0)
        c->lingered += (uint32_t)r;
    if (r <= 0 || c->lingered > NET_LINGER_BYTES)
        conn_close(c, false, c->why);
}

/* ---- the end of a turn ---- */

static void settle(struct conn *c)
{
    if (c->closing && (!c->flush_first || c->handshake)) {
        close_now(c);
        return;
    }
    if (c->handshake || c->lingering)
        return;
    if (!c->closing && c->proto->on_flush)
        c->proto->on_flush(c);
    if (!write_some(c)) {
        c->why = c->closing ? c->why : CONN_ERROR;
        close_now(c);
        return;
    }
    if (c->closing && !conn_queued(c)) {
        linger(c);
        return;
    }
    if (c->stall_ms)
        timer_set(c);
    interest(c);
    if (c->was_full && conn_queued(c) < c->output_max / 4) {
        c->was_full = false;
        c->later_drain = true;
        mark_later(c);
    }
    if (c->ssl && !c->paused && !c->closing && !c->eof && tls_pending(c->ssl))
        mark_later(c);
}

static void free_dead(struct conn_loop *cl)
{
    while (!list_empty(&cl->dead))
        free(list_entry(list_pop_front(&cl->dead), struct conn, link));
}

/* Those with little to send come first: a long answer takes as long as hundreds of short ones. */
static void on_turn_end(void *arg)
{
    struct conn_loop *cl = arg;
    struct list_head *from, large;

    list_init(&large);
    while (!list_empty(&cl->dirty) ||
           !list_empty(&large)) { /* on_close of one may make others dirty */
        struct conn *c;

        from = list_empty(&cl->dirty) ? &large : &cl->dirty;
        c = list_entry(list_pop_front(from), struct conn, dirty);
        if (from == &cl->dirty && conn_queued(c) > NET_SEND_SMALL) {
            list_push_back(&large, &c->dirty);
            continue;
        }
        c->is_dirty = false;
        settle(c);
    }
    free_dead(cl);
}

/* ---- input ---- */

static void handshake(struct conn *c)
{
    int r = tls_handshake(c->ssl, &c->want_write);

    if (r < 0) {
        conn_close(c, false, CONN_ERROR);
        return;
    }
    if (r == 0) {
        interest(c);
        return;
    }
    c->handshake = c->want_write = false;
    conn_deadline(c, 0);
    mark_dirty(c); /* TLS may hold input already */
    if (c->proto) {
        if (c->proto->on_tls)
            c->proto->on_tls(c);
        return;
    }
    conn_server_conf(c->cl->s)->on_open(conn_server_conf(c->cl->s)->ctx, c->cl->index, c,
                                        tls_alpn(c->ssl));
}

static void ended(struct conn *c)
{
    c->eof = true;
    if (c->proto->on_eof)
        c->proto->on_eof(c);
    else
        conn_close(c, false, CONN_PEER);
    mark_dirty(c);
}

/* Looks at the first byte that came and leaves it where it is. True: it is not to be read now. */
static bool tls_begins(struct conn *c)
{
    struct tls_conf *tls = c->expected;
    uint8_t first;
    long r = recv(c->fd.fd, &first, 1, MSG_PEEK);

    if (r != 1)
        return r < 0 && (errno == EAGAIN || errno == EINTR); /* else reading says what it is */
    c->expected = NULL;
    if (first != TLS_HANDSHAKE)
        return false;
    conn_tls_start(c, tls);
    if (c->closing || c->closed)
        return true;
    tls_session_alpn(c->ssl, c->expected_alpn);
    handshake(c);
    return true;
}

static long raw_read(struct conn *c, void *p, size_t n)
{
    return c->ssl ? tls_read(c->ssl, p, n, &c->want_write) : recv(c->fd.fd, p, n, 0);
}

static void on_readable(struct conn *c)
{
    unsigned turns = c->ssl ? NET_READ_TURNS : 1;

    if (c->expected && tls_begins(c))
        return;
    while (turns-- && !c->closing && !c->paused && !c->eof) {
        size_t n = 0;
        uint8_t *to = c->proto->room ? c->proto->room(c, &n) : NULL;
        long r;

        c->want_write = false;
        r = raw_read(c, to ? to : c->cl->scratch, to ? n : NET_READ_BYTES);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN)
            break;
        if (r < 0) {
            conn_close(c, false, CONN_ERROR);
            return;
        }
        if (r == 0) {
            ended(c);
            return;
        }
        c->bytes_in += (uint64_t)r;
        conn_stat_add(&c->cl->st.bytes_in, (uint64_t)r);
        c->proto->on_data(c, slice_of(to ? to : c->cl->scratch, (size_t)r));
    }
    if (c->ssl)
        mark_dirty(c); /* what it wants may have changed, and it may hold more */
}

static void on_event(struct loop_fd *f, uint32_t events)
{
    struct conn *c = list_entry(f, struct conn, fd);

    if (c->closed)
        return;
    if (c->handshake && !c->closing && (events & EPOLLIN || !(events & (EPOLLERR | EPOLLHUP)))) {
        handshake(c); /* says what is wrong if the peer is gone; there is no protocol yet to ask */
        if (c->closing || c->handshake)
            return;
    }
    if (events & (EPOLLERR | EPOLLHUP) && (c->lingering || !(events & EPOLLIN))) {
        conn_close(c, false, CONN_PEER);
        return;
    }
    if (events & EPOLLOUT)
        mark_dirty(c);
    if (c->lingering)
        linger_read(c);
    else if (events & EPOLLIN || c->want_write)
        on_readable(c);
}

/* What the last turn left to this one. Those that are added meanwhile wait for the next. */
static void on_work(struct loop_task *t)
{
    struct conn_loop *cl = list_entry(t, struct conn_loop, work);
    struct list_head now;

    cl->work_posted = false;
    list_init(&now);
    while (!list_empty(&cl->later))
        list_push_back(&now, list_pop_front(&cl->later));
    while (!list_empty(&now)) {
        struct conn *c = list_entry(list_pop_front(&now), struct conn, later);
        bool data = c->later_data, drain = c->later_drain;

        c->is_later = c->later_data = c->later_drain = false;
        if (c->closing || c->closed)
            continue;
        if (drain)
            c->proto->on_drain(c);
        if (data && !c->closing)
            c->proto->on_data(c, SLICE_NULL);
        if (c->ssl && !c->closing)
            on_readable(c);
    }
}

/* ---- beginning and end ---- */

struct conn *conn_new(struct conn_loop *cl, int fd)
{
    struct conn *c = xcalloc(1, sizeof *c);

    c->cl = cl;
    c->fd = (struct loop_fd){.fd = fd, .fn = on_event};
    c->output_max = conn_server_conf(cl->s)->output_max;
    loop_timer_init(&c->timer, on_timer);
    return c;
}

void conn_start(struct conn *c, void *ssl)
{
    struct conn_loop *cl = c->cl;
    const struct conn_server_conf *conf = conn_server_conf(cl->s);

    conn_stat_add(&cl->st.accepted, 1);
    conn_stat_add(&cl->st.open, 1);
    list_push_back(&cl->conns, &c->link);
    c->ssl = ssl;
    if (ssl) {
        c->handshake = true;
        conn_deadline(c, NET_HANDSHAKE_MS);
        handshake(c);
    } else {
        conf->on_open(conf->ctx, cl->index, c, "");
    }
}

void conn_abandon(struct conn *c)
{
    conn_stat_add(&c->cl->st.refused, 1);
    conn_server__left(c);
    if (c->fd.fd >= 0)
        close(c->fd.fd);
    free(c);
}

void conn_feed(struct conn *c, struct slice data)
{
    if (c->closing || c->closed || c->eof || !data.len)
        return;
    c->bytes_in += data.len;
    c->proto->on_data(c, data);
}

void conn_loop_init(struct conn_loop *cl, struct conn_server *s, struct loop *l, unsigned index)
{
    cl->s = s;
    cl->loop = l;
    cl->index = index;
    cl->scratch = xmalloc(NET_READ_BYTES);
    list_init(&cl->conns);
    list_init(&cl->dirty);
    list_init(&cl->later);
    list_init(&cl->dead);
    cl->work.fn = on_work;
    cl->hook = (struct loop_hook){.fn = on_turn_end, .arg = cl};
    loop_hook_add(l, &cl->hook, true);
}

void conn_loop_fini(struct conn_loop *cl)
{
    while (!list_empty(&cl->conns)) {
        struct conn *c = list_entry(cl->conns.node.next, struct conn, link);

        if (!c->closing)
            c->why = CONN_LOCAL;
        close_now(c);
    }
    on_turn_end(cl);
    loop_hook_del(&cl->hook);
    out_pool_fini(&cl->pool);
    free(cl->scratch);
}
