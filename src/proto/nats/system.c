/* What nats-server's system account has, as far as one server needs it: who am I for every client, who
 * comes and goes for those of the system account, and what monitoring tells, asked by messages. See
 * nats_int.h.
 *
 *   $SYS.REQ.USER.INFO                     a client's own user, account and permissions
 *   $SYS.REQ.SERVER.PING[.STATSZ]          this server's figures; also with its id for PING
 *   $SYS.REQ.SERVER.PING.VARZ, .CONNZ …    the pages of monitoring, with their options as JSON, .IDZ
 *   $SYS.REQ.ACCOUNT.<account>.CONNZ …     of one account; .STATZ
 *   $SYS.REQ.ACCOUNT.PING.CONNZ, .STATZ    what every account may ask of itself
 *   $SYS.ACCOUNT.<account>.CONNECT, .DISCONNECT
 *
 * Threads: a client's loop; what is asked of the server, the first loop. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/timefmt.h"
#include "io/io.h"
#include "proto/nats/nats_int.h"

#define TEXT_MAX 262144u
#define EVENT    "io.nats.server.advisory.v1."

static void time_write(struct buf *b, const char *name, int64_t ms)
{
    char t[TIME_TEXT_LEN + 1];

    time_format(ms, t);
    buf_printf(b, "\"%s\":\"%s\"", name, t);
}

static void server_write(struct nats *n, struct buf *b)
{
    bool js = n->js_monitor != NULL;

    buf_append_str(b, "\"server\":{\"name\":\"weir\",\"host\":");
    json_write_string(b, slice_str(n->host));
    buf_printf(b,
               ",\"id\":\"%s\",\"ver\":\"%s\",\"jetstream\":%s,\"flags\":%d,\"seq\":%" PRIu64 ",",
               n->id, NATS_VERSION, js ? "true" : "false", js,
               (uint64_t)atomic_fetch_add(&n->events, 1) + 1);
    time_write(b, "time", io_wall_ms(n->conf.io));
    buf_append_str(b, "}");
}

static void say_to(struct nloop *l, struct naccount *a, struct slice subject, const struct buf *b)
{
    struct nmsg m = {.subject = subject, .body = buf_slice(b)};

    (void)nats_route(l, a, &m);
}

void nsys_answer(struct nloop *l, struct naccount *a, struct slice reply, struct slice data)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    buf_append_str(&b, "{");
    server_write(l->n, &b);
    buf_append_str(&b, ",\"data\":");
    buf_append_slice(&b, data);
    buf_append_str(&b, "}");
    say_to(l, a, reply, &b);
    buf_fini(&b);
}

void nsys_refuse(struct nloop *l, struct naccount *a, struct slice reply, int code,
                 const char *text)
{
    struct buf b;

    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{");
    server_write(l->n, &b);
    buf_printf(&b, ",\"error\":{\"code\":%d,\"description\":", code);
    json_write_string(&b, slice_of(text, strcspn(text, "\n")));
    buf_append_str(&b, "}}");
    say_to(l, a, reply, &b);
    buf_fini(&b);
}

/* only: nothing else's is told; NULL: all. */
static void ask_page(struct nloop *l, struct naccount *account, const struct naccount *only,
                     struct slice page, struct slice reply, struct slice body)
{
    struct nquestion a;

    if (nquestion_begin(&a, l, account, reply, body)) {
        a.only = only;
        (void)nmonitor_page(l->n, &a, page); /* what is not known is not answered */
    } else {
        nsys_refuse(l, account, reply, 400, "the request is no JSON");
    }
    nquestion_end(&a);
}

/* ---- a client's own ---- */

static void patterns_write(struct buf *b, const char *name, const struct npatterns *p,
                           const char **comma)
{
    uint32_t i;

    if (!p->n)
        return;
    buf_printf(b, "%s\"%s\":[", *comma, name);
    for (i = 0; i < p->n; i++) {
        buf_append_str(b, i ? "," : "");
        json_write_string(b, p->v[i]);
    }
    buf_append_str(b, "]");
    *comma = ",";
}

static void rule_write(struct buf *b, const char *name, const struct nrule *r)
{
    const char *comma = "";

    buf_printf(b, "\"%s\":{", name);
    patterns_write(b, "allow", &r->allow, &comma);
    patterns_write(b, "deny", &r->deny, &comma);
    buf_append_str(b, "},");
}

static void user_write(const struct nconn *c, struct buf *b)
{
    uint64_t left_ms = nats_login_left_ms(c);

    buf_append_str(b, "\"data\":{\"user\":");
    json_write_string(b, nats_login_name(c));
    buf_append_str(b, ",\"account\":");
    json_write_string(b, slice_str(c->account->name));
    buf_append_str(b, ",\"account_name\":");
    json_write_string(b, slice_str(c->account->name));
    if (c->user && c->user->limited) {
        buf_append_str(b, ",\"permissions\":{");
        rule_write(b, "publish", &c->user->publish);
        rule_write(b, "subscribe", &c->user->subscribe);
        if (c->user->responses)
            buf_printf(b, "\"responses\":{\"max\":%u,\"ttl\":%" PRIu64 "},", c->user->responses,
                       (uint64_t)c->user->response_ms * 1000000);
        b->ptr[b->len - 1] = '}';
    }
    if (left_ms)
        buf_printf(b, ",\"expires\":%" PRIu64, left_ms * 1000000);
    buf_append_str(b, "}");
}

static void user_info(struct nconn *c, struct slice reply)
{
    struct buf b;

    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{");
    server_write(c->l->n, &b);
    buf_append_str(&b, ",");
    user_write(c, &b);
    buf_append_str(&b, "}");
    say_to(c->l, c->account, reply, &b);
    buf_fini(&b);
}

/* What every account may ask of its own. */
static const struct {
    const char *subject, *page;
} own[] = {{"$SYS.REQ.ACCOUNT.PING.CONNZ", "connz"},
           {"$SYS.REQ.SERVER.PING.CONNZ", "connz"},
           {"$SYS.REQ.ACCOUNT.PING.STATZ", "accstatz"}};

bool nsys_take(struct nconn *c, struct slice subject, struct slice reply, struct slice body)
{
    const struct naccount *system = atomic_load_explicit(&c->l->n->system, memory_order_acquire);
    size_t i;

    if (!reply.len)
        return false;
    if (slice_eq_str(subject, "$SYS.REQ.USER.INFO")) {
        user_info(c, reply);
        return true;
    }
    for (i = 0; c->account != system && i < sizeof own / sizeof *own; i++)
        if (slice_eq_str(subject, own[i].subject)) {
            ask_page(c->l, c->account, c->account, slice_str(own[i].page), reply, body);
            return true;
        }
    return false;
}

/* ---- coming and going ---- */

static void client_write(const struct nconn *c, struct buf *b, bool stopped)
{
    static const char *const names[] = {"name", "lang", "ver"};
    int64_t wall = io_wall_ms(c->l->n->conf.io);
    uint64_t rtt = nconn_rtt_us(c);
    const char *at = c->client;
    struct naddress a;
    unsigned i;

    nconn_address(c, &a);
    buf_append_str(b, "\"client\":{");
    time_write(b, "start", wall - (int64_t)(loop_now_ms(c->l->loop) - c->start_ms));
    buf_append_str(b, ",\"host\":");
    json_write_string(b, slice_str(a.ip));
    buf_printf(b, ",\"id\":%" PRIu64 ",\"acc\":", c->id);
    json_write_string(b, slice_str(c->account->name));
    buf_append_str(b, ",\"user\":");
    json_write_string(b, nats_login_name(c));
    for (i = 0; at && i < 3; i++, at += strlen(at) + 1)
        if (*at) {
            buf_printf(b, ",\"%s\":", names[i]);
            json_write_string(b, slice_str(at));
        }
    if (rtt)
        buf_printf(b, ",\"rtt\":%" PRIu64, rtt * 1000);
    if (stopped) {
        buf_append_str(b, ",");
        time_write(b, "stop", wall);
    }
    buf_printf(b, ",\"kind\":\"Client\",\"client_type\":\"%s\"}", c->ws ? "websocket" : "nats");
}

static void event(struct nconn *c, const char *what, const char *type, bool stopped)
{
    struct nats *n = c->l->n;
    struct naccount *system = atomic_load_explicit(&n->system, memory_order_acquire);
    char subject[NATS_LINE_MAX], id[23] = "";
    struct buf b;
    int len;

    if (!system || !c->connected)
        return;
    len = snprintf(subject, sizeof subject, "$SYS.ACCOUNT.%s.%s", c->account->name, what);
    if (len < 0 || (size_t)len >= sizeof subject ||
        !interest_any(&system->interest, slice_of(subject, (size_t)len)))
        return;
    nats_random_text(n, id, sizeof id);
    buf_init(&b, TEXT_MAX);
    buf_printf(&b, "{\"type\":\"" EVENT "%s\",\"id\":\"%s\",", type, id);
    time_write(&b, "timestamp", io_wall_ms(n->conf.io));
    buf_append_str(&b, ",");
    server_write(n, &b);
    buf_append_str(&b, ",");
    client_write(c, &b, stopped);
    if (stopped)
        buf_printf(&b,
                   ",\"sent\":{\"msgs\":%" PRIu64 ",\"bytes\":%" PRIu64
                   "},\"received\":{\"msgs\":%" PRIu64 ",\"bytes\":%" PRIu64 "},\"reason\":\"%s\"",
                   c->out_msgs, c->out_bytes, c->in_msgs, c->in_bytes, nend_reason(c->why));
    buf_append_str(&b, "}");
    say_to(c->l, system, slice_of(subject, (size_t)len), &b);
    buf_fini(&b);
}

void nsys_connected(struct nconn *c)
{
    event(c, "CONNECT", "client_connect", false);
}

void nsys_gone(struct nconn *c)
{
    event(c, "DISCONNECT", "client_disconnect", true);
}

/* ---- the server ---- */

static void statsz_write(struct nats *n, struct buf *b)
{
    struct nats_sums s;
    int64_t now = io_wall_ms(n->conf.io);
    uint64_t up = io_mono_ns(n->conf.io) / 1000000 - n->start_ms;

    nats_sums(n, &s);
    buf_append_str(b, "\"statsz\":{");
    time_write(b, "start", now - (int64_t)up);
    buf_printf(b,
               ",\"mem\":%" PRIu64 ",\"cores\":%u,\"cpu\":%.1f,\"connections\":%" PRIu64
               ",\"total_connections\":%" PRIu64
               ",\"active_accounts\":%u,\"subscriptions\":%" PRIu64 ",\"sent\":{\"msgs\":%" PRIu64
               ",\"bytes\":%" PRIu64 "},\"received\":{\"msgs\":%" PRIu64 ",\"bytes\":%" PRIu64
               "},\"slow_consumers\":%" PRIu64 ",\"stale_connections\":%" PRIu64
               ",\"stalled_clients\":%" PRIu64 ",\"active_servers\":1}",
               nmonitor_memory(n), n->conf.loops_n, nmonitor_processor(up), nats_open(n),
               (uint64_t)atomic_load(&n->next_id), atomic_load(&n->accounts_n), s.subs, s.msgs_out,
               s.bytes_out, s.msgs_in, s.bytes_in, s.slow, s.stale, s.stalls);
}

static void ping_answer(struct nloop *l, struct slice reply)
{
    struct nats *n = l->n;
    struct buf b;

    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{");
    server_write(n, &b);
    buf_append_str(&b, ",");
    statsz_write(n, &b);
    buf_append_str(&b, "}");
    say_to(l, n->system, reply, &b);
    buf_fini(&b);
}

static void id_answer(struct nloop *l, struct slice reply)
{
    struct buf b;

    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{\"name\":\"weir\",\"host\":");
    json_write_string(&b, slice_str(l->n->host));
    buf_printf(&b, ",\"id\":\"%s\"}", l->n->id);
    say_to(l, l->n->system, reply, &b);
    buf_fini(&b);
}

static struct slice payload_of(const struct nmsg *m)
{
    return slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len);
}

static void on_request(struct nsub *s, struct nmsg *m)
{
    struct nats *n = s->arg;
    struct slice rest = slice_of(m->subject.ptr + 16, m->subject.len - 16),
                 token; /* $SYS.REQ.SERVER. */

    if (!m->reply.len || !subject_token(&rest, &token) ||
        (!slice_eq_str(token, "PING") && !slice_eq_str(token, n->id)))
        return;
    if (!rest.len || slice_eq_str(rest, "STATSZ"))
        ping_answer(s->l, m->reply);
    else if (slice_eq_str(rest, "IDZ"))
        id_answer(s->l, m->reply);
    else
        ask_page(s->l, n->system, NULL, rest, m->reply, payload_of(m));
}

static const struct naccount *account_of(struct nats *n, struct slice name)
{
    const struct naccount *a = n->accounts;

    while (a && !slice_eq_str(name, a->name))
        a = atomic_load_explicit(&a->next, memory_order_acquire);
    return a;
}

/* $SYS.REQ.ACCOUNT.<account>.<what>, or PING for all. */
static void on_account_request(struct nsub *s, struct nmsg *m)
{
    struct nats *n = s->arg;
    struct slice rest = slice_of(m->subject.ptr + 17, m->subject.len - 17), name;
    const struct naccount *only;

    if (!m->reply.len || !subject_token(&rest, &name) || !rest.len)
        return;
    only = account_of(n, name);
    if (!only && !slice_eq_str(name, "PING"))
        return;
    if (slice_eq_str(rest, "STATZ"))
        rest = SLICE_LIT("accstatz");
    ask_page(s->l, n->system, only, rest, m->reply, payload_of(m));
}

void nsys_start(struct nats *n, struct naccount *system)
{
    if (atomic_load(&n->system) == system)
        return;
    if (n->system_sub)
        return; /* another one takes a restart */
    n->system_sub = nats_sub_new(&n->loops[0], system, SLICE_LIT("$SYS.REQ.SERVER.>"), SLICE_NULL,
                                 on_request, n, &n->never);
    n->system_accounts_sub = nats_sub_new(&n->loops[0], system, SLICE_LIT("$SYS.REQ.ACCOUNT.>"),
                                          SLICE_NULL, on_account_request, n, &n->never);
    if (n->system_sub && n->system_accounts_sub)
        atomic_store_explicit(&n->system, system, memory_order_release);
}

void nsys_stop(struct nats *n)
{
    nats_sub_end(n->system_sub, n->system);
    nats_sub_end(n->system_accounts_sub, n->system);
    n->system_sub = n->system_accounts_sub = NULL;
}
