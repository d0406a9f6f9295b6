/* The server as a whole: the table of handlers, listening, the end. See kafka.h. */
#include "proto/kafka/kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "journal/journal.h"
#include "proto/kafka/kafka_int.h"

#define HANDLERS_MAX 128

kafka_handler kafka_handler_of(int16_t key)
{
    static const kafka_handler handlers[HANDLERS_MAX] = {
#define HANDLER(key, name) [key] = kafka_on_##name,
#include "proto/kafka/tbl/handlers.h"
#undef HANDLER
    };

    return key >= 0 && key < HANDLERS_MAX ? handlers[key] : NULL;
}

int16_t kafka_code(enum err e)
{
    static const int16_t codes[] = {
        [ERR_OK] = 0,
#define ERR_ROW(name, code, http, kafka, text) [name] = kafka,
#include "base/tbl/errors.h"
#undef ERR_ROW
    };

    return (size_t)e < sizeof codes / sizeof *codes ? codes[e] : KE_UNKNOWN;
}

static void cluster_id_make(struct kafka *k)
{
    char text[32], *p;

    base64_encode(journal_id(broker_journal(k->broker)), 16, text);
    for (p = text; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    memcpy(k->cluster_id, text, 22); /* without the padding */
}

/* ---- what loops keep for reuse ---- */

struct append *kloop_append_get(struct kreq *q, append_done_fn done)
{
    struct kloop *kl = q->kl;

    if (kl->appends_n) {
        struct append *a = kl->appends[--kl->appends_n];

        append_retarget(a, done, q);
        return a;
    }
    return append_new(q->b, done, q);
}

void kloop_append_put(struct kloop *kl, struct append *a)
{
    if (kl->appends_n == LIMIT_KAFKA_FREE_APPENDS) {
        append_free(&a);
        return;
    }
    append_reset(a);
    kl->appends[kl->appends_n++] = a;
}

static void kloop_fini(struct kloop *kl)
{
    while (kl->appends_n)
        append_free(&kl->appends[--kl->appends_n]);
    kloop_free_requests(kl);
    kloop_free_reads(kl);
    buf_fini(&kl->scratch);
    kframes_fini(kl);
}

/* ---- the server ---- */

enum err kafka_new(const struct kafka_conf *conf, struct kafka **out, struct errinfo *info)
{
    struct kafka *k = xcalloc(1, sizeof *k);
    struct conn_server_conf cc = {.loops = conf->loops,
                                  .loops_n = conf->loops_n,
                                  .conns_max = conf->conns_max,
                                  .conns_ip_max = conf->conns_ip_max,
                                  .output_max = LIMIT_KAFKA_OUTPUT,
                                  .send_ms = 60000,
                                  .on_open = kconn_open,
                                  .ctx = k};
    enum err e = ERR_OK;
    unsigned i;

    k->conf = *conf;
    k->broker = conf->broker;
    if (conf->advertised)
        snprintf(k->advertised, sizeof k->advertised, "%s", conf->advertised);
    cluster_id_make(k);
    k->loops = xcalloc(conf->loops_n, sizeof *k->loops);
    for (i = 0; i < conf->loops_n; i++) {
        k->loops[i].k = k;
        k->loops[i].loop = conf->loops[i];
        k->loops[i].index = i;
        list_init(&k->loops[i].free);
        list_init(&k->loops[i].reads);
        buf_init(&k->loops[i].scratch, LIMIT_BATCH_INFLATED);
        kbudget_init(&k->loops[i], conf->loops_n);
        kframes_init(&k->loops[i]);
    }
    e = workers_new(&k->readers, "weir-fetch", LIMIT_KAFKA_READ_THREADS, info);
    if (!e)
        e = ksec_new(k, info);
    if (!e)
        e = conn_server_new(&cc, &k->conns, info);
    if (!e)
        e = kgroups_new(k, info);
    if (e)
        kafka_free(&k);
    *out = k;
    return e;
}

enum err kafka_listen(struct kafka *k, const char *addr, struct tls_conf *tls, uint16_t *port,
                      struct errinfo *info)
{
    return conn_server_listen(k->conns, addr, tls, port, info);
}

void kafka_drain(struct kafka *k)
{
    atomic_store(&k->draining, true);
    kgroups_drain(k);
    conn_server_drain(k->conns, kconn_drain);
}

uint64_t kafka_open(const struct kafka *k)
{
    return conn_server_open(k->conns);
}

/* The loops have stopped, the connections are gone. Requests that still run wait for the broker,
 * which answers each. */
static void kloop_settle(struct kloop *kl)
{
    const struct timespec pause = {0, 1000000};

    loop_drain(kl->loop);
    while (kl->live) {
        nanosleep(&pause, NULL);
        loop_drain(kl->loop);
    }
}

void kafka_free(struct kafka **kp)
{
    struct kafka *k = *kp;
    unsigned i;

    if (!k)
        return;
    kgroups_free(k);
    if (k->conns)
        conn_server_free(&k->conns);
    for (i = 0; i < k->conf.loops_n; i++) {
        kloop_settle(&k->loops[i]);
        kloop_fini(&k->loops[i]);
    }
    workers_free(&k->readers);
    ksec_free(k);
    free(k->loops);
    free(k);
    *kp = NULL;
}

void kafka_metrics(struct kafka *k, struct buf *out)
{
    uint64_t requests = 0, errors = 0;
    struct conn_stats st;
    unsigned i;

    for (i = 0; i < k->conf.loops_n; i++) {
        requests += atomic_load_explicit(&k->loops[i].requests, memory_order_relaxed);
        errors += atomic_load_explicit(&k->loops[i].errors, memory_order_relaxed);
    }
    conn_server_stats(k->conns, &st);
    buf_printf(out,
               "# HELP weir_kafka_connections Connections open now.\n"
               "# TYPE weir_kafka_connections gauge\nweir_kafka_connections %" PRIu64 "\n"
               "# HELP weir_kafka_requests_total Requests received.\n"
               "# TYPE weir_kafka_requests_total counter\nweir_kafka_requests_total %" PRIu64 "\n"
               "# HELP weir_kafka_bad_requests_total Requests that could not be answered.\n"
               "# TYPE weir_kafka_bad_requests_total counter\n"
               "weir_kafka_bad_requests_total %" PRIu64 "\n"
               "# HELP weir_kafka_received_bytes_total Bytes read from peers.\n"
               "# TYPE weir_kafka_received_bytes_total counter\n"
               "weir_kafka_received_bytes_total %" PRIu64 "\n"
               "# HELP weir_kafka_sent_bytes_total Bytes written to peers.\n"
               "# TYPE weir_kafka_sent_bytes_total counter\n"
               "weir_kafka_sent_bytes_total %" PRIu64 "\n",
               st.open, requests, errors, st.bytes_in, st.bytes_out);
}
