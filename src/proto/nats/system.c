/* What nats-server's system account has, as far as one server needs it: who am I for every client, who
 * comes and goes for those of the system account, and what monitoring tells, asked by messages. See
 * nats_int.h.
 *
 *   $SYS.REQ.USER.INFO                     a client's own user, account and permissions
 *   $SYS.REQ.SERVER.PING[.STATSZ]          this server's figures; also with its id for PING
 *   $SYS.REQ.SERVER.PING.VARZ, .IDZ, .HEALTHZ, .JSZ
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

bool nsys_take(struct nconn *c, struct slice subject, struct slice reply)
{
    struct buf b;

    if (!slice_eq_str(subject, "$SYS.REQ.USER.INFO") || !reply.len)
        return false;
    buf_init(&b, TEXT_MAX);
    buf_append_str(&b, "{");
    server_write(c->l->n, &b);
    buf_append_str(&b, ",");
    user_write(c, &b);
    buf_append_str(&b, "}");
    say_to(c->l, c->account, reply, &b);
    buf_fini(&b);
    return true;
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

/* What is behind $SYS.REQ.SERVER.PING. or …<id>. ; false: nothing that is known. */
static bool answer_write(struct nats *n, struct slice what, struct buf *b)
{
    buf_append_str(b, "{");
    if (!what.len || slice_eq_str(what, "STATSZ")) {
        server_write(n, b);
        buf_append_str(b, ",");
        statsz_write(n, b);
    } else if (slice_eq_str(what, "IDZ")) {
        buf_append_str(b, "\"name\":\"weir\",\"host\":");
        json_write_string(b, slice_str(n->host));
        buf_printf(b, ",\"id\":\"%s\"", n->id);
    } else {
        server_write(n, b);
        buf_append_str(b, ",\"data\":");
        if (!nmonitor_page(n, what, b))
            return false;
    }
    buf_append_str(b, "}");
    return true;
}

static void on_request(struct nsub *s, struct nmsg *m)
{
    struct nats *n = s->arg;
    struct slice rest = slice_of(m->subject.ptr + 16, m->subject.len - 16),
                 token; /* $SYS.REQ.SERVER. */
    struct buf b;

    if (!m->reply.len || !subject_token(&rest, &token) ||
        (!slice_eq_str(token, "PING") && !slice_eq_str(token, n->id)))
        return;
    buf_init(&b, TEXT_MAX);
    if (answer_write(n, rest, &b))
        say_to(s->l, n->system, m->reply, &b);
    buf_fini(&b);
}

void nsys_start(struct nats *n, struct naccount *system)
{
    if (atomic_load(&n->system) == system)
        return;
    if (n->system_sub)
        return; /* another one takes a restart */
    n->system_sub = nats_sub_new(&n->loops[0], system, SLICE_LIT("$SYS.REQ.SERVER.>"), SLICE_NULL,
                                 on_request, n, &n->never);
    if (n->system_sub)
        atomic_store_explicit(&n->system, system, memory_order_release);
}

void nsys_stop(struct nats *n)
{
    if (n->system_sub)
        nats_sub_end(n->system_sub, n->system);
    n->system_sub = NULL;
}
