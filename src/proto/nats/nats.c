/* NATS's server as a whole: listening, the end, metrics. See nats.h. */
#include "proto/nats/nats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "io/io.h"
#include "net/http.h"
#include "proto/nats/exports.h"
#include "proto/nats/js.h"
#include "proto/nats/nats_int.h"

#define DRAIN_PASSES 1000u

/* Accounts are never freed before the end, so that readers need no lock. */
static struct naccount *account_add(struct nats *n, const char *name)
{
    size_t len = strlen(name) + 1;
    struct naccount *a = xcalloc(1, sizeof *a + len), *last;

    memcpy(a->name, name, len);
    interest_init(&a->interest, n->seed);
    a->index = atomic_load(&n->accounts_n);
    for (last = n->accounts; last && last->next;)
        last = last->next;
    if (last)
        atomic_store_explicit(&last->next, a, memory_order_release);
    else
        n->accounts = a;
    atomic_store_explicit(&n->accounts_n, a->index + 1, memory_order_release);
    return a;
}

struct naccount *nats_account(struct nats *n, const char *name)
{
    struct naccount *a;

    io_mutex_lock(&n->accounts_lock);
    for (a = n->accounts; a && strcmp(a->name, name) != 0;)
        a = a->next;
    if (!a && (a = account_add(n, name)) && n->js)
        js_account(n->js, a);
    io_mutex_unlock(&n->accounts_lock);
    return a;
}

static struct naccount *account_of(void *arg, const char *name)
{
    return nats_account(arg, name);
}

enum err nats_reload(struct nats *n, struct errinfo *info)
{
    struct nusers *users, *old;
    enum err e;

    if (!n->conf.users || !*n->conf.users)
        return ERR_OK;
    if ((e = nusers_read(n->conf.io, n->conf.users, account_of, n, &users, info)))
        return e;
    io_rwlock_write(&n->users_lock);
    old = n->users;
    n->users = users;
    io_rwlock_unlock(&n->users_lock);
    nusers_unref(&old);
    nexports_apply(n, users);
    if (nusers_system(users))
        nsys_start(n, nusers_system(users));
    atomic_store(&n->loaded_ms, io_mono_ns(n->conf.io) / 1000000 - n->start_ms);
    return ERR_OK;
}

void nats_random_text(struct nats *n, char *out, size_t cap)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t r[64];
    size_t i;

    ASSERT(cap && cap <= sizeof r);
    io_random(n->conf.io, r, sizeof r);
    for (i = 0; i < cap - 1; i++)
        out[i] = digits[r[i] % 32];
    out[i] = '\0';
}

/* As nats-server's: 56 letters and digits that begin with N. */
static void id_make(struct nats *n)
{
    nats_random_text(n, n->id, sizeof n->id);
    n->id[0] = 'N';
}

enum err nats_new(const struct nats_conf *conf, struct nats **out, struct errinfo *info)
{
    struct nats *n = xcalloc(1, sizeof *n);
    struct conn_server_conf cc = {.loops = conf->loops,
                                  .loops_n = conf->loops_n,
                                  .conns_max = conf->conns_max,
                                  .conns_ip_max = conf->conns_ip_max,
                                  .output_max = NATS_OUTPUT,
                                  .send_ms = conf->send_ms,
                                  .on_open = nconn_open,
                                  .ctx = n};
    enum err e;
    unsigned i;

    n->conf = *conf;
    io_random(conf->io, n->seed, sizeof n->seed);
    id_make(n);
    io_mutex_init(&n->accounts_lock);
    n->start_ms = io_mono_ns(conf->io) / 1000000;
    (void)nats_account(n, "$G");
    n->loops = xcalloc(conf->loops_n, sizeof *n->loops);
    for (i = 0; i < conf->loops_n; i++)
        nloop_init(&n->loops[i], n, i);
    io_rwlock_init(&n->users_lock);
    nws_init(n);
    e = nats_reload(n, info);
    if (!e)
        e = conn_server_new(&cc, &n->conns, info);
    if (!e && *conf->topics_account)
        e = ntopics_new(n, account_of(n, conf->topics_account), conf->broker, conf->log, &n->topics,
                        info);
    if (!e && conf->jetstream)
        e = js_new(n, conf->broker, &n->js, info);
    if (e)
        nats_free(&n);
    *out = n;
    return e;
}

static void place_note(const char *addr, uint16_t listening, char *host, size_t cap, uint16_t *port)
{
    const char *colon = strrchr(addr, ':');

    if (*port || !listening || !colon)
        return;
    *port = listening;
    snprintf(host, cap, "%.*s", (int)(colon - addr), addr);
}

enum err nats_listen(struct nats *n, const char *addr, uint16_t *port, struct errinfo *info)
{
    enum err e =
        conn_server_listen(n->conns, addr, n->conf.tls_first ? n->conf.tls : NULL, port, info);

    if (!e)
        place_note(addr, *port, n->host, sizeof n->host, &n->port);
    return e;
}

enum err nats_listen_ws(struct nats *n, const char *addr, uint16_t *port, struct errinfo *info)
{
    enum err e = n->ws ? ERR_OK : nws_new(n, info);

    e = e ? e : http_server_listen(n->ws, addr, n->conf.tls, port, info);
    if (!e)
        place_note(addr, *port, n->ws_host, sizeof n->ws_host, &n->ws_port);
    return e;
}

enum err nats_listen_monitor(struct nats *n, const char *addr, uint16_t *port, struct errinfo *info)
{
    enum err e = n->monitor ? ERR_OK : nmonitor_new(n, info);

    e = e ? e : http_server_listen(n->monitor, addr, NULL, port, info);
    if (!e)
        place_note(addr, *port, n->monitor_host, sizeof n->monitor_host, &n->monitor_port);
    return e;
}

static void drained(void *arg)
{
    (void)arg; /* nats_open says it */
}

void nats_drain(struct nats *n)
{
    conn_server_drain(n->conns, nconn_drain);
    if (n->ws)
        http_server_drain(n->ws, 0, drained, NULL);
    if (n->monitor)
        http_server_drain(n->monitor, 0, drained, NULL);
}

uint64_t nats_open(const struct nats *n)
{
    struct http_stats ws = {0};

    if (n->ws)
        http_server_stats(n->ws, &ws);
    return conn_server_open(n->conns) + ws.conns_open;
}

static bool at_rest(const struct nats *n)
{
    unsigned i;

    for (i = 0; i < n->conf.loops_n; i++)
        if (n->loops[i].round || n->loops[i].gone_subs || n->loops[i].gone_conns)
            return false;
    return atomic_load(&n->monitor_jobs) == 0;
}

void nats_free(struct nats **np)
{
    struct nats *n = *np;
    struct naccount *a;
    unsigned i, pass;

    if (!n)
        return;
    nsys_stop(n);
    nexports_stop(n);
    http_server_free(&n->monitor);
    http_server_free(&n->ws);
    if (n->conns)
        conn_server_free(&n->conns);
    js_free(&n->js);
    if (n->topics)
        ntopics_stop(n->topics);
    for (pass = 0; pass == 0 || (!at_rest(n) && pass < DRAIN_PASSES); pass++)
        for (i = 0; i < n->conf.loops_n; i++)
            nloop_settle(&n->loops[i]);
    ntopics_free(&n->topics);
    for (i = 0; i < n->conf.loops_n; i++)
        nloop_fini(&n->loops[i]);
    io_mutex_fini(&n->accounts_lock);
    while ((a = n->accounts)) {
        n->accounts = a->next;
        interest_fini(&a->interest);
        free(a);
    }
    nusers_unref(&n->users);
    io_rwlock_fini(&n->users_lock);
    free(n->loops);
    free(n);
    *np = NULL;
}

/* ---- metrics ---- */

static uint64_t sum(const struct nats *n, size_t offset)
{
    uint64_t v = 0;
    unsigned i;

    for (i = 0; i < n->conf.loops_n; i++)
        v += atomic_load_explicit(
            (const _Atomic uint64_t *)(const void *)((const char *)&n->loops[i] + offset),
            memory_order_relaxed);
    return v;
}

void nats_sums(const struct nats *n, struct nats_sums *out)
{
    *out = (struct nats_sums){.msgs_in = sum(n, offsetof(struct nloop, msgs_in)),
                              .bytes_in = sum(n, offsetof(struct nloop, bytes_in)),
                              .msgs_out = sum(n, offsetof(struct nloop, msgs_out)),
                              .bytes_out = sum(n, offsetof(struct nloop, bytes_out)),
                              .slow = sum(n, offsetof(struct nloop, slow)),
                              .subs = sum(n, offsetof(struct nloop, subs)),
                              .stale = sum(n, offsetof(struct nloop, stale)),
                              .stalls = sum(n, offsetof(struct nloop, stalls))};
}

void nats_metrics(struct nats *n, struct buf *out)
{
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } m[] = {
        {"messages_received_total", "counter", "Messages published by clients.",
         offsetof(struct nloop, msgs_in)},
        {"received_bytes_total", "counter", "Bytes of their headers and payloads.",
         offsetof(struct nloop, bytes_in)},
        {"messages_sent_total", "counter", "Messages sent to subscribers.",
         offsetof(struct nloop, msgs_out)},
        {"sent_bytes_total", "counter", "Bytes of their headers and payloads.",
         offsetof(struct nloop, bytes_out)},
        {"slow_consumers_total", "counter", "Clients given up for not taking their output.",
         offsetof(struct nloop, slow)},
        {"refused_total", "counter", "Clients that may not connect.",
         offsetof(struct nloop, refused)},
        {"subscriptions", "gauge", "Subscriptions now.", offsetof(struct nloop, subs)},
    };
    unsigned i;

    buf_printf(out,
               "# HELP weir_nats_connections Connections open now.\n"
               "# TYPE weir_nats_connections gauge\nweir_nats_connections %" PRIu64 "\n",
               nats_open(n));
    for (i = 0; i < sizeof m / sizeof *m; i++)
        buf_printf(out,
                   "# HELP weir_nats_%s %s\n# TYPE weir_nats_%s %s\nweir_nats_%s %" PRIu64 "\n",
                   m[i].name, m[i].help, m[i].name, m[i].type, m[i].name, sum(n, m[i].offset));
    if (n->topics)
        ntopics_metrics(n->topics, out);
    if (n->js)
        js_metrics(n->js, out);
}
