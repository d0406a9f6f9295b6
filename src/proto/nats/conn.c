/* A client's connection: INFO, CONNECT, what it publishes and subscribes to, pings. See nats_int.h.
 *
 * Lines are taken from the loop's buffer where they lie; only one that is cut by the end of a read
 * is kept, and completed by the next. Errors are told in nats-server's words, which clients compare
 * with; after most of them the connection ends, as there. */
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/subject.h"
#include "io/io.h"
#include "proto/nats/nats_int.h"

#define IN_KEPT     4096u /* bytes of memory that a connection keeps for cut lines */
#define SUBS_LIMIT  10000000u
#define CLIENT_TEXT 256u /* bytes of what a client says that it is */
#define CLOSE_AFTER true /* what is queued is sent first */

/* ---- answers ---- */

static void say(struct nconn *nc, struct slice text)
{
    conn_send(nc->c, text);
}

static void say_error(struct nconn *nc, const char *text)
{
    char line[NATS_LINE_MAX + 64];
    int n = snprintf(line, sizeof line, "-ERR '%s'\r\n", text);

    say(nc, slice_of(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1));
}

static const struct {
    const char *reason, *error;
    int code;
} ends[] = {
#define X(name, reason, error, code) {reason, error, code},
    NENDS(X)
#undef X
};

const char *nend_reason(enum nend why)
{
    return ends[why].reason;
}

void nconn_address(const struct nconn *nc, struct naddress *out)
{
    const char *remote = nc->c->remote, *colon = strrchr(remote, ':');
    size_t n = colon ? (size_t)(colon - remote) : strlen(remote);

    if (n > 1 && remote[0] == '[') {
        remote++;
        n -= 2;
    }
    snprintf(out->ip, sizeof out->ip, "%.*s", (int)n, remote);
    out->port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

uint64_t nconn_rtt_us(const struct nconn *nc)
{
    struct tcp_info t;
    socklen_t n = sizeof t;

    if (!nc->c || nc->c->fd.fd < 0 || getsockopt(nc->c->fd.fd, IPPROTO_TCP, TCP_INFO, &t, &n) != 0)
        return 0;
    return t.tcpi_rtt;
}

void nconn_end(struct nconn *nc, enum nend why)
{
    if (conn_closing(nc->c))
        return;
    if (!nc->why)
        nc->why = why;
    if (ends[why].error)
        say_error(nc, ends[why].error);
    if (nc->ws)
        nws_finish(nc->ws, ends[why].code, ends[why].reason);
    else
        conn_close(nc->c, CLOSE_AFTER, why == NEND_CLIENT ? CONN_PEER : CONN_LOCAL);
}

static void ok(struct nconn *nc)
{
    if (nc->verbose)
        say(nc, SLICE_LIT("+OK\r\n"));
}

/* About something that the client may not do; the connection goes on. */
static void violation(struct nconn *nc, const char *what, struct slice subject)
{
    char text[NATS_LINE_MAX + 64];

    snprintf(text, sizeof text, "Permissions Violation for %s \"%.*s\"", what, (int)subject.len,
             (const char *)subject.ptr);
    say_error(nc, text);
}

/* 0: no limit. */
static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a && (!b || a < b) ? a : b;
}

static uint32_t payload_max(const struct nconn *nc)
{
    return smaller(nc->l->n->conf.payload_max, nc->user ? nc->user->payload_max : 0);
}

static void say_info(struct nconn *nc)
{
    const struct nats *n = nc->l->n;
    struct naddress at;
    struct buf b;

    buf_init(&b, 8192);
    buf_printf(&b, "INFO {\"server_id\":\"%s\",\"server_name\":\"weir\",\"version\":\"%s\",", n->id,
               NATS_VERSION);
    buf_append_str(&b, "\"proto\":1,\"go\":\"\",\"git_commit\":\"\",\"host\":");
    json_write_string(&b, slice_str(n->host));
    buf_printf(&b, ",\"port\":%u,\"headers\":true,\"max_payload\":%u,\"client_id\":%llu", n->port,
               payload_max(nc), (unsigned long long)nc->id);
    buf_append_str(&b, ",\"client_ip\":");
    nconn_address(nc, &at);
    json_write_string(&b, slice_str(at.ip));
    if (n->js)
        buf_append_str(&b, ",\"jetstream\":true");
    if (nats_login_needed(nc->l))
        buf_append_str(&b, ",\"auth_required\":true");
    buf_printf(&b, ",\"nonce\":\"%s\"", nc->nonce);
    if (n->conf.tls)
        buf_append_str(&b, ",\"tls_required\":true");
    if (n->conf.tls_verify)
        buf_append_str(&b, ",\"tls_verify\":true");
    if (nc->lame)
        buf_append_str(&b, ",\"ldm\":true");
    buf_append_str(&b, "}\r\n");
    say(nc, buf_slice(&b));
    buf_fini(&b);
}

/* ---- subscriptions ---- */

void nsub_end(struct nsub *s)
{
    struct nconn *nc = s->c;

    atomic_store_explicit(&s->gone, true, memory_order_release);
    interest_remove(&nc->account->interest, &s->in);
    map_remove(&nc->subs, s->sid);
    nstat_add(&nc->l->subs, (uint64_t)-1);
    nats_retire_sub(nc->l, s);
}

static void subs_end(struct nconn *nc)
{
    uint32_t at = 0;
    void *s;

    while (map_next(&nc->subs, &at, NULL, &s)) {
        nsub_end(s);
        at = 0;
    }
}

static struct nsub *sub_new(struct nconn *nc, const struct nats_line *line)
{
    size_t n = line->subject.len + line->queue.len + line->sid.len;
    struct nsub *s = xcalloc(1, sizeof *s + n);
    char *at = s->text;

    s->l = nc->l;
    s->c = nc;
    s->pressed = &nc->pressed;
    memcpy(at, line->subject.ptr, line->subject.len);
    s->in.subject = slice_of(at, line->subject.len);
    at += line->subject.len;
    memcpy(at, line->sid.ptr, line->sid.len);
    s->sid = slice_of(at, line->sid.len);
    at += line->sid.len;
    if (line->queue.len) {
        memcpy(at, line->queue.ptr, line->queue.len);
        s->in.queue = slice_of(at, line->queue.len);
    }
    atomic_init(&s->gone, false);
    return s;
}

static void on_sub(struct nconn *nc, const struct nats_line *line)
{
    struct ntopics *topics = nc->l->n->topics;
    uint32_t max = smaller(nc->l->n->conf.subs_max, nc->user ? nc->user->subs_max : 0);
    uint64_t since = topics ? ntopics_since(topics) : 0;
    struct nsub *s;

    if (!subject_valid(line->subject)) {
        say_error(nc, "Invalid Subject");
        return;
    }
    if (!nats_may_subscribe(nc, line->subject)) {
        violation(nc, "Subscription to", line->subject);
        return;
    }
    if (map_find(&nc->subs, line->sid)) { /* as it was */
        ok(nc);
        return;
    }
    if (max && nc->subs.n >= max) {
        nconn_end(nc, NEND_SUBS);
        return;
    }
    s = sub_new(nc, line);
    s->filtered = nats_sub_filtered(nc, line->subject);
    if (map_put(&nc->subs, s->sid, s)) {
        free(s);
        nconn_end(nc, NEND_SUBS);
        return;
    }
    if (interest_add(&nc->account->interest, &s->in)) {
        map_remove(&nc->subs, s->sid);
        free(s);
        nconn_end(nc, NEND_SUBS);
        return;
    }
    if (topics && s->in.first)
        ntopics_subscribed(topics, nc->account, s->in.subject, since);
    nstat_add(&nc->l->subs, 1);
    ok(nc);
}

static void on_unsub(struct nconn *nc, const struct nats_line *line)
{
    struct nsub *s = map_find(&nc->subs, line->sid);

    if (s && line->max > 0 && (uint64_t)line->max > s->delivered)
        s->max = (uint64_t)line->max;
    else if (s)
        nsub_end(s);
    ok(nc);
}

/* ---- publishing ---- */

/* Nobody is there to answer: the one who asks is told, if it wants to be. */
static void no_responders(struct nconn *nc, const struct nats_line *line)
{
    static const char head[] = "NATS/1.0 503\r\nNats-Subject: ";
    struct nsub *s = nats_own_sub(nc, line->reply);
    struct buf b;
    size_t n;

    if (!s)
        return;
    n = sizeof head - 1 + line->subject.len + 4;
    buf_init(&b, 4 * NATS_LINE_MAX);
    buf_append_str(&b, "HMSG ");
    buf_append_slice(&b, line->reply);
    buf_append_str(&b, " ");
    buf_append_slice(&b, s->sid);
    buf_printf(&b, " %zu %zu\r\n%s", n, n, head);
    buf_append_slice(&b, line->subject);
    buf_append_str(&b, "\r\n\r\n\r\n");
    say(nc, buf_slice(&b));
    buf_fini(&b);
    if (++s->delivered == s->max)
        nsub_end(s);
}

/* Where the account's mappings send it, by a copy that lives until the next one of the loop. */
static struct slice mapped(struct nconn *nc, struct slice subject)
{
    struct nloop *l = nc->l;

    if (!nc->user || !nc->user->mappings_n || !subject_literal(subject) ||
        !nuser_map(nc->user, subject, rng_next(&l->rng), &l->mapped) ||
        l->mapped.len > NATS_LINE_MAX / 2)
        return subject;
    return buf_slice(&l->mapped);
}

static void on_pub(struct nconn *nc, const struct nats_line *whole)
{
    struct nats_line to = *whole;
    const struct nats_line *line = &to;
    struct nloop *l = nc->l;
    struct nmsg m = {.reply = to.reply, .body = to.body, .header_len = to.header_len, .from = nc};

    if (line->op == NATS_HPUB && !nc->headers) {
        nconn_end(nc, NEND_HEADERS);
        return;
    }
    m.subject = to.subject = mapped(nc, whole->subject);
    nc->in_msgs++;
    nc->in_bytes += line->body.len;
    nstat_add(&l->msgs_in, 1);
    nstat_add(&l->bytes_in, line->body.len);
    if (nc->pedantic && !subject_literal(line->subject))
        say_error(nc, "Invalid Publish Subject");
    if (!nats_may_publish(nc, line->subject)) {
        violation(nc, "Publish to", line->subject);
        return;
    }
    ok(nc);
    if (line->subject.ptr[0] == '$' &&
        nsys_take(nc, line->subject, line->reply,
                  slice_of(line->body.ptr + line->header_len, line->body.len - line->header_len)))
        return;
    if (nats_route(l, nc->account, &m) == 0 && line->reply.len && nc->no_responders)
        no_responders(nc, line);
}

/* ---- CONNECT ---- */

static bool flag(json_t *o, const char *name, bool otherwise)
{
    json_t *v = json_object_get(o, name);

    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* What the client says that it is, for who watches; what is too long is cut. */
static void note_client(struct nconn *nc, json_t *o)
{
    static const char *const names[] = {"name", "lang", "version"};
    char text[3 * (CLIENT_TEXT + 1)];
    size_t n = 0, len;
    unsigned i;

    for (i = 0; i < 3; i++) {
        const char *s = json_string_value(json_object_get(o, names[i]));

        len = s ? strnlen(s, CLIENT_TEXT) : 0;
        if (len)
            memcpy(text + n, s, len);
        text[n + len] = '\0';
        n += len + 1;
    }
    free(nc->client);
    nc->client = n > 3 ? xmalloc(n) : NULL;
    if (nc->client)
        memcpy(nc->client, text, n);
}

static void options(struct nconn *nc, json_t *o)
{
    note_client(nc, o);
    nc->verbose = flag(o, "verbose", nc->verbose);
    nc->pedantic = flag(o, "pedantic", nc->pedantic);
    nc->echo = flag(o, "echo", nc->echo);
    nc->headers = flag(o, "headers", nc->headers);
    nc->no_responders = flag(o, "no_responders", nc->no_responders);
    nc->protocol = (int)json_integer_value(json_object_get(o, "protocol"));
}

static void refuse(struct nconn *nc, enum nend why)
{
    nstat_add(&nc->l->refused, 1);
    nconn_end(nc, why);
}

/* The next PING, or the end of what it logged in with. */
static void deadline(struct nconn *nc)
{
    uint64_t ms = nc->l->n->conf.ping_ms, left = nats_login_left_ms(nc);

    conn_deadline(nc->c, left && left < ms ? left : ms);
}

static void on_connect(struct nconn *nc, const struct nats_line *line)
{
    json_error_t why;
    json_t *o = json_loadb((const char *)line->json.ptr, line->json.len, 0, &why);
    enum err e;

    if (!json_is_object(o)) {
        json_decref(o);
        nconn_end(nc, NEND_PARSE);
        return;
    }
    if (nc->connected)
        subs_end(nc); /* it may be somebody else from now on */
    options(nc, o);
    e = nats_login(nc, o);
    if (e) {
        refuse(nc, e == ERR_LIMIT ? NEND_CONNS : NEND_LOGIN);
    } else if (nc->protocol < 0 || nc->protocol > 1) {
        nconn_end(nc, NEND_VERSION);
    } else if (nc->no_responders && !nc->headers) {
        nconn_end(nc, NEND_RESPONDERS);
    } else {
        nc->connected = true;
        if (nc->user && nc->user->payload_max && nc->protocol >= 1)
            say_info(nc); /* with a smaller max_payload */
        deadline(nc);
        nsys_connected(nc);
        ok(nc);
    }
    json_decref(o);
}

/* ---- lines ---- */

static void on_bad(struct nconn *nc, enum nats_op op)
{
    if (op == NATS_LONG_LINE)
        nconn_end(nc, NEND_LINE);
    else if (op == NATS_LARGE)
        nconn_end(nc, NEND_PAYLOAD);
    else
        nconn_end(nc, NEND_PARSE);
}

static void on_line(struct nconn *nc, const struct nats_line *line)
{
    if (!nc->connected && line->op != NATS_CONNECT && nats_login_needed(nc->l)) {
        refuse(nc, NEND_LOGIN);
        return;
    }
    switch (line->op) {
    case NATS_PUB:
    case NATS_HPUB:
        on_pub(nc, line);
        break;
    case NATS_SUB:
        on_sub(nc, line);
        break;
    case NATS_UNSUB:
        on_unsub(nc, line);
        break;
    case NATS_PING:
        say(nc, SLICE_LIT("PONG\r\n"));
        break;
    case NATS_PONG:
        nc->pings = 0;
        break;
    case NATS_CONNECT:
        on_connect(nc, line);
        break;
    case NATS_ERR:
        nconn_end(nc, NEND_CLIENT);
        break;
    case NATS_OK:
        break;
    default:
        on_bad(nc, line->op);
    }
}

/* Parses one line; false: there is none (more input is needed) or the connection ends. */
static bool take(struct nconn *nc, struct slice in, size_t *used)
{
    struct nats_line line;

    *used = nats_parse(in, NATS_LINE_MAX, payload_max(nc), &line);
    nc->need = line.need;
    if (line.op == NATS_MORE)
        return false;
    on_line(nc, &line);
    return *used && !conn_closing(nc->c);
}

/* Completes the line that is in nc->in from *data. False: all of it is used up, or all is over. */
static bool complete(struct nconn *nc, struct slice *data)
{
    while (nc->in.len && data->len) {
        const uint8_t *nl = nc->need ? NULL : memchr(data->ptr, '\n', data->len);
        size_t n = nc->need ? nc->need - nc->in.len : nl ? (size_t)(nl - data->ptr) + 1 : data->len;
        size_t used;

        n = n < data->len ? n : data->len;
        if (!nc->need && n > 2 * NATS_LINE_MAX)
            n = 2 * NATS_LINE_MAX; /* enough to say that the line is too long */
        if (buf_append(&nc->in, data->ptr, n)) {
            nconn_end(nc, NEND_PAYLOAD);
            return false;
        }
        *data = slice_of(data->ptr + n, data->len - n);
        if (take(nc, buf_slice(&nc->in), &used))
            buf_clear(&nc->in);
        else if (conn_closing(nc->c))
            return false;
    }
    return data->len != 0;
}

void nconn_data(struct nconn *nc, struct slice data)
{
    size_t used;

    nc->heard_ms = loop_now_ms(nc->l->loop);
    if (data.len && (!nc->in.len || complete(nc, &data))) {
        while (data.len && take(nc, data, &used))
            data = slice_of(data.ptr + used, data.len - used);
        if (data.len && !conn_closing(nc->c))
            buf_append_slice(&nc->in, data); /* fits: less than a line */
    }
    if (!nc->in.len && nc->in.cap > IN_KEPT)
        buf_fini(&nc->in);
    if (nc->l->pressed)
        nats_stall(nc);
    else
        nc->stall_ms = 0;
}

/* ---- the connection ---- */

void nconn_drained(struct nconn *nc)
{
    atomic_store_explicit(&nc->pressed, false, memory_order_relaxed);
}

void nconn_timeout(struct nconn *nc)
{
    const struct nats_conf *conf = &nc->l->n->conf;

    if (!nc->connected && nats_login_needed(nc->l)) {
        refuse(nc, NEND_LOGIN_TIMEOUT);
        return;
    }
    if (!nats_login_valid(nc)) {
        refuse(nc, NEND_EXPIRED);
        return;
    }
    if (loop_now_ms(nc->l->loop) - nc->heard_ms < conf->ping_ms) {
        nc->pings = 0;
    } else if (nc->pings >= conf->pings_lost) {
        nconn_end(nc, NEND_STALE);
        return;
    } else {
        nc->pings++;
        say(nc, SLICE_LIT("PING\r\n"));
    }
    deadline(nc);
}

static void account_counts(struct nconn *nc)
{
    struct naccount *a = nc->account;

    atomic_fetch_add_explicit(&a->gone_in_msgs, nc->in_msgs, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->gone_in_bytes, nc->in_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->gone_out_msgs, nc->out_msgs, memory_order_relaxed);
    atomic_fetch_add_explicit(&a->gone_out_bytes, nc->out_bytes, memory_order_relaxed);
}

void nconn_closed(struct nconn *nc)
{
    if (nc->c->why == CONN_SLOW || nc->c->why == CONN_LIMIT) {
        nc->why = nc->c->why == CONN_SLOW ? NEND_DEADLINE : NEND_PENDING;
        nstat_add(&nc->l->slow, 1);
        atomic_fetch_add(&nc->account->slow, 1);
    } else if (!nc->why) {
        nc->why = nc->c->why == CONN_PEER ? NEND_CLIENT : NEND_READ;
    }
    if (nc->why == NEND_STALE)
        nstat_add(&nc->l->stale, 1);
    list_remove(&nc->all);
    nmonitor_closed(nc);
    nsys_gone(nc);
    account_counts(nc);
    free(nc->client);
    nc->client = NULL;
    nats_unstall(nc);
    subs_end(nc);
    map_fini(&nc->subs);
    buf_fini(&nc->in);
    nats_logout(nc);
    nc->c = NULL;
    nats_retire_conn(nc->l, nc);
}

struct nconn *nconn_new(struct nats *n, unsigned loop)
{
    struct nconn *nc = xcalloc(1, sizeof *nc);

    nc->l = &n->loops[loop];
    nc->account = n->accounts;
    nc->verbose = nc->pedantic = nc->echo = true; /* until CONNECT says otherwise */
    nc->heard_ms = loop_now_ms(nc->l->loop);
    buf_init(&nc->in, (size_t)NATS_LINE_MAX * 3 + n->conf.payload_max);
    map_init(&nc->subs, SUBS_LIMIT, n->seed);
    atomic_init(&nc->pressed, false);
    return nc;
}

void nconn_start(struct nconn *nc, struct conn *c, struct ws *ws)
{
    struct nats *n = nc->l->n;

    nc->c = c;
    nc->ws = ws;
    nc->id = atomic_fetch_add(&n->next_id, 1) + 1;
    nc->start_ms = nc->heard_ms;
    list_push_back(&nc->l->conns, &nc->all);
    nats_nonce(nc);
    c->output_max = NATS_OUTPUT;
    conn_deadline(c, nats_login_needed(nc->l) ? n->conf.login_ms : n->conf.ping_ms);
    say_info(nc);
}

void nconn_stop(struct nconn *nc)
{
    nc->lame = true;
    if (nc->protocol >= 1)
        say_info(nc);
    nconn_end(nc, NEND_STOP);
}

/* ---- on a socket of its own ---- */

static void on_data(struct conn *c, struct slice data)
{
    nconn_data(c->state, data);
}

static void on_drain(struct conn *c)
{
    nconn_drained(c->state);
}

static void on_timeout(struct conn *c)
{
    nconn_timeout(c->state);
}

static void on_close(struct conn *c)
{
    nconn_closed(c->state);
}

static const struct conn_proto proto = {
    .on_data = on_data,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_close = on_close,
};

void nconn_open(void *ctx, unsigned loop, struct conn *c, const char *alpn)
{
    struct nats *n = ctx;

    (void)alpn;
    c->proto = &proto;
    c->state = nconn_new(n, loop);
    nconn_start(c->state, c, NULL);
    if (n->conf.tls && !n->conf.tls_first)
        conn_tls_start(c, n->conf.tls);
}

void nconn_drain(struct conn *c)
{
    if (c->proto == &proto)
        nconn_stop(c->state);
}
