/* Connections: messages in, one after the other. See pgwire_int.h.
 *
 * Memory of a connection is bounded: a message's buffer grows with the bytes that came, up to the
 * limit that its state has; while a query runs at most LIMIT_PGWIRE_WAITING bytes of further
 * messages are read; rows wait while LIMIT_PGWIRE_OUTPUT bytes are not taken. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/pgwire/pgwire_int.h"

#define OUT_MAX (64u << 20)

/* ---- cancelling ---- */

static void slot_take(struct pconn *pc)
{
    struct pgwire *p = pc->p;
    uint32_t i;

    io_random(broker_io(p->conf.broker), &pc->secret, sizeof pc->secret);
    io_mutex_lock(&p->slots_lock);
    for (i = 0; i < p->slots_n && p->slot[p->slot_at]; i++)
        p->slot_at = (p->slot_at + 1) % p->slots_n;
    pc->slot = p->slot_at;
    if (!p->slot[pc->slot])
        p->slot[pc->slot] = pc;
    p->slot_at = (p->slot_at + 1) % p->slots_n;
    io_mutex_unlock(&p->slots_lock);
}

static void slot_leave(struct pconn *pc)
{
    struct pgwire *p = pc->p;

    io_mutex_lock(&p->slots_lock);
    if (p->slot[pc->slot] == pc)
        p->slot[pc->slot] = NULL;
    io_mutex_unlock(&p->slots_lock);
}

void pconn_cancellable(struct pconn *pc, struct sql_query *q)
{
    io_mutex_lock(&pc->p->slots_lock);
    pc->cancellable = q;
    io_mutex_unlock(&pc->p->slots_lock);
}

void pgwire_cancel(struct pgwire *p, uint32_t pid, uint32_t secret)
{
    struct pconn *pc;

    io_mutex_lock(&p->slots_lock);
    pc = pid && pid <= p->slots_n ? p->slot[pid - 1] : NULL;
    if (pc && pc->secret == secret && pc->cancellable)
        sql_cancel(pc->cancellable);
    io_mutex_unlock(&p->slots_lock);
}

/* ---- output ---- */

void pconn_flush(struct pconn *pc)
{
    if (pc->out.len)
        conn_send(pc->c, buf_slice(&pc->out));
    buf_clear(&pc->out);
    if (pc->out.cap > 65536)
        buf_fini(&pc->out);
}

void pconn_fatal(struct pconn *pc, const char *code, const char *message, const char *hint)
{
    struct pg_error e = {.severity = "FATAL", .code = code, .message = message, .hint = hint};

    pg_error(&pc->out, &e);
    pconn_flush(pc);
    conn_close(pc->c, true, CONN_LOCAL);
}

/* ---- start-up ---- */

/* Loopback and Unix sockets: bytes that nobody on the way can read. */
static bool is_local(const struct conn *c)
{
    static const uint8_t v6[16] = {[15] = 1}, v4[13] = {[10] = 0xff, 0xff, 127};

    return !c->has_ip || memcmp(c->remote_ip, v6, 16) == 0 || memcmp(c->remote_ip, v4, 13) == 0;
}

static void tls_asked(struct pconn *pc, bool tls)
{
    bool more = pc->in_at < pc->in.len; /* what came in the clear behind it is not trusted */

    tls = tls && pc->p->conf.tls && !pc->c->ssl;
    buf_append_u8(&pc->out, tls ? 'S' : 'N');
    pconn_flush(pc);
    if (tls && more)
        conn_close(pc->c, false, CONN_ERROR);
    else if (tls)
        conn_tls_start(pc->c, pc->p->conf.tls);
}

static void on_tls(struct conn *c)
{
    conn_deadline(c, LIMIT_PGWIRE_LOGIN_MS);
}

static void startup_message(struct pconn *pc, struct slice body)
{
    struct pg_startup m;
    enum err e = pg_startup_decode(body, &m);

    if (e) {
        pconn_fatal(pc, "0A000",
                    e == ERR_UNSUPPORTED ? "version 3.0 of the protocol is spoken here"
                                         : "the first message does not decode",
                    NULL);
        return;
    }
    if (m.code == PG_CODE_SSL || m.code == PG_CODE_GSS) {
        tls_asked(pc, m.code == PG_CODE_SSL);
        return;
    }
    if (m.code == PG_CODE_CANCEL) {
        pgwire_cancel(pc->p, m.pid, m.secret);
        conn_close(pc->c, false, CONN_LOCAL);
        return;
    }
    if (!pc->c->ssl && !is_local(pc->c) && !pc->p->conf.clear_public)
        pconn_fatal(pc, "28000", "connections from other machines need TLS", "use sslmode=require");
    else if (m.user.len == 0)
        pconn_fatal(pc, "28000", "no user name was given", NULL);
    else
        login_begin(pc, &m);
}

/* ---- messages ---- */

static enum pg_result message(struct pconn *pc, uint8_t type, struct slice body)
{
    switch (pc->at) {
    case P_STARTUP:
        startup_message(pc, body);
        return PG_DONE;
    case P_READY:
        return query_message(pc, type, body);
    case P_REFUSED:
        return PG_DONE;
    default:
        login_message(pc, type, body);
        return PG_DONE;
    }
}

/* The message at the front; false: it is not there yet, or the connection ends. */
static bool front(struct pconn *pc, uint8_t *type, struct slice *body, size_t *used)
{
    struct slice rest = slice_of(pc->in.ptr + pc->in_at, pc->in.len - pc->in_at);
    uint32_t max = pc->at == P_STARTUP ? LIMIT_PGWIRE_STARTUP
                   : pc->at == P_READY ? LIMIT_PGWIRE_MESSAGE
                                       : LIMIT_PGWIRE_LOGIN;
    size_t need;
    enum err e;

    if (rest.len == 0)
        return false;
    e = pg_frame(rest, pc->at == P_STARTUP, max, type, body, used, &need);
    if (e && e != ERR_AGAIN)
        pconn_fatal(pc, "08P01",
                    e == ERR_TOO_LARGE ? "a message is longer than is allowed"
                                       : "a message does not decode",
                    NULL);
    return !e;
}

static void input_trim(struct pconn *pc)
{
    size_t left = pc->in.len - pc->in_at;

    if (pc->in_at == 0)
        return;
    if (left == 0) {
        if (pc->in.cap > 65536)
            buf_fini(&pc->in);
        buf_clear(&pc->in);
    } else {
        memmove(pc->in.ptr, pc->in.ptr + pc->in_at, left);
        pc->in.len = left;
    }
    pc->in_at = 0;
}

/* Takes messages until one has to wait. */
static void run(struct pconn *pc)
{
    enum pg_result r = PG_DONE;
    struct slice body;
    size_t used = 0;
    uint8_t type = 0;

    pc->running = true;
    while (!conn_closing(pc->c) && !pc->c->handshake && !conn_full(pc->c) &&
           front(pc, &type, &body, &used)) {
        bool first = pc->at == P_STARTUP;

        if (first)
            pc->in_at += used; /* tls_asked looks at what is behind it */
        r = pc->failed ? PG_DONE : message(pc, type, body);
        pconn_flush(pc);
        if (r == PG_WAIT && !pc->failed)
            break;
        pc->failed = false;
        r = PG_DONE;
        if (!first)
            pc->in_at += used;
    }
    if (r != PG_WAIT)
        input_trim(pc);
    pc->running = false;
    if (conn_closing(pc->c))
        return;
    conn_pause(pc->c,
               (r == PG_WAIT || conn_full(pc->c)) && pc->in.len - pc->in_at > LIMIT_PGWIRE_WAITING);
    if (atomic_load(&pc->p->draining) && r == PG_DONE && pc->in.len == 0 && pc->at == P_READY)
        pconn_fatal(pc, "57P01", "the server stops", NULL);
    else if (pc->at == P_READY)
        conn_deadline(pc->c, r == PG_WAIT ? 0 : pc->p->conf.idle_ms);
}

void pconn_go(struct pconn *pc)
{
    if (!pc->running && !conn_closing(pc->c))
        run(pc);
}

static void on_data(struct conn *c, struct slice data)
{
    struct pconn *pc = c->state;

    if (data.len && buf_append_slice(&pc->in, data)) {
        pconn_fatal(pc, "54000", "too many messages wait", NULL);
        return;
    }
    pconn_go(pc);
}

static void on_drain(struct conn *c)
{
    pconn_go(c->state);
}

static void on_timeout(struct conn *c)
{
    struct pconn *pc = c->state;

    pconn_fatal(pc, "57P05",
                pc->at == P_READY ? "the connection was idle for too long"
                                  : "logging in took too long",
                NULL);
}

static void on_close(struct conn *c)
{
    struct pconn *pc = c->state;

    pc->running = true;
    slot_leave(pc);
    query_fini(pc);
    loop_timer_cancel(pc->pl->loop, &pc->delay);
    scram_fini(&pc->scram);
    map_fini(&pc->statements);
    map_fini(&pc->portals);
    buf_fini(&pc->in);
    buf_fini(&pc->out);
    free(pc);
    c->state = NULL;
}

static const struct conn_proto pgwire_proto = {
    .on_data = on_data,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_tls = on_tls,
    .on_close = on_close,
};

void pconn_open(void *ctx, unsigned loop, struct conn *c, const char *alpn)
{
    struct pgwire *p = ctx;
    struct pconn *pc = xcalloc(1, sizeof *pc);

    pc->p = p;
    pc->pl = &p->loops[loop];
    pc->c = c;
    buf_init(&pc->in, LIMIT_PGWIRE_MESSAGE + LIMIT_PGWIRE_WAITING + (1u << 20));
    buf_init(&pc->out, OUT_MAX);
    map_init(&pc->statements, LIMIT_PGWIRE_STATEMENTS, p->secret);
    map_init(&pc->portals, LIMIT_PGWIRE_PORTALS, p->secret);
    loop_timer_init(&pc->delay, NULL);
    scram_init(&pc->scram, SCRAM_SHA_256);
    slot_take(pc);
    c->proto = &pgwire_proto;
    c->state = pc;
    c->output_max = LIMIT_PGWIRE_OUTPUT;
    conn_deadline(c, LIMIT_PGWIRE_LOGIN_MS);
    if (p->conf.tls)
        conn_tls_expect(c, p->conf.tls, "postgresql"); /* sslnegotiation=direct */
}

void pconn_drain(struct conn *c)
{
    struct pconn *pc = c->state;

    if (pc && pc->at != P_READY)
        conn_close(c, true, CONN_LOCAL);
    else if (pc)
        pconn_go(pc);
}
