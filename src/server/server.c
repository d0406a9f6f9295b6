/* Wiring and running the server. See server.h.
 *
 * Threads: the main thread starts everything, then waits for signals (signalfd); loops run in
 * threads of their own; the journal has its two. Shutdown order: stop accepting and let connections
 * finish -> stop loops -> close connections -> protocol -> broker (which saves a checkpoint). */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "broker/broker.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "io/thread.h"
#include "lake/lake.h"
#include "net/http.h"
#include "net/tls.h"
#include "proto/http/http_events.h"
#include "proto/kafka/kafka.h"
#include "proto/nats/nats.h"
#include "proto/pgwire/pgwire.h"
#include "server/lake.h"
#include "server/shards.h"
#include "server/transforms.h"
#include "sql/sql.h"
#include "transform/transforms.h"

#define LOOPS_MAX 256

struct server {
    const struct config *c;
    struct broker *broker;
    struct loop *loops[LOOPS_MAX];
    struct io_thread *threads[LOOPS_MAX];
    unsigned loops_n, started;
    struct tls_conf *tls;
    struct http_proto *proto;
    struct http_server *http;
    struct kafka *kafka;
    struct tls_conf *kafka_tls;
    struct sql *sql;
    struct server_lake *lake;
    struct transforms *transforms;
    struct log log;
    struct pgwire *pgwire;
    struct nats *nats;
    struct tls_conf *nats_tls;
    struct tls_conf *pgwire_tls; /* its own; NULL: that of HTTP */
    const char *cors[64];
    unsigned cors_n;
    int drained[2]; /* pipe: drain is done */
    uint64_t start_ns;
};

/* ---- log ---- */

static const char *const levels[] = {"error", "warn", "info", "debug"};

__attribute__((format(printf, 3, 4))) static void say(const struct config *c, int level,
                                                      const char *fmt, ...)
{
    char text[512], when[TIME_TEXT_LEN + 1];
    struct buf b;
    va_list ap;

    if (level > c->log_level.n)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    time_format(io_wall_ms(io_real()), when);
    if (c->log_format.n == 0) {
        fprintf(stderr, "%s %-5s %s\n", when, levels[level], text);
        return;
    }
    buf_init(&b, 8192);
    buf_printf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when, levels[level]);
    json_write_string(&b, slice_str(text));
    fprintf(stderr, "%.*s}\n", (int)b.len, (const char *)b.ptr);
    buf_fini(&b);
}

/* ---- checks ---- */

static bool is_local(const char *addr)
{
    return strncmp(addr, "127.", 4) == 0 || strncmp(addr, "localhost:", 10) == 0 ||
           strncmp(addr, "[::1]:", 6) == 0 || strncmp(addr, "unix:", 5) == 0;
}

/* Calls fn for each comma-separated part. */
static enum err each_part(const char *list, enum err (*fn)(void *arg, const char *part), void *arg)
{
    char *copy = xstrdup(list), *save = NULL, *p;
    enum err e = ERR_OK;

    for (p = strtok_r(copy, ", ", &save); !e && p; p = strtok_r(NULL, ", ", &save))
        e = fn(arg, p);
    free(copy);
    return e;
}

static enum err note_public(void *arg, const char *part)
{
    if (!is_local(part))
        *(bool *)arg = true;
    return ERR_OK;
}

static bool is_token(void *arg, struct slice key, struct slice value)
{
    if (slice_has_prefix(key, SLICE_LIT("id:")))
        *(bool *)arg = true;
    return !*(bool *)arg;
}

static bool has_tokens(struct broker *b)
{
    bool found = false;

    kv_each(b, "token", is_token, &found);
    return found;
}

static enum err kafka_safety_check(const struct server *s, struct errinfo *info)
{
    bool public_addr = false;

    each_part(s->c->kafka.text, note_public, &public_addr);
    if (!public_addr || s->c->insecure.n || s->c->kafka_tls_ca.n ||
        (s->c->kafka_tls_cert.n && s->c->kafka_sasl.n))
        return ERR_OK;
    return errinfo_set(info, ERR_CONFIG,
                       "%s is reachable by others: use TLS (kafka.tls.cert, kafka.tls.key) and let "
                       "in only clients with certificates (kafka.tls.client_ca) or with passwords "
                       "or tokens (kafka.sasl.mechanisms), or allow it with --insecure",
                       s->c->kafka.text);
}

/* Who comes from elsewhere has to use TLS and to log in. */
static enum err pgwire_safety_check(const struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    bool public_addr = false;

    each_part(c->pgwire.text, note_public, &public_addr);
    if (!public_addr || c->insecure.n ||
        ((c->pgwire_tls_cert.n || c->tls_cert.n) && (c->pgwire_users.n || has_tokens(s->broker))))
        return ERR_OK;
    return errinfo_set(
        info, ERR_CONFIG,
        "%s is reachable by others: set pgwire.tls.cert and pgwire.tls.key, and make "
        "a token (`weir token create --admin --data %s`) or set pgwire.users, or "
        "allow it with --insecure",
        c->pgwire.text, c->data.text);
}

static enum err nats_safety_check(const struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    bool public_addr = false;

    each_part(c->nats_monitor.text, note_public, &public_addr);
    if (public_addr && !c->insecure.n)
        return errinfo_set(info, ERR_CONFIG,
                           "%s is reachable by others, and nats.monitor.listen asks nobody who "
                           "they are: listen on this machine, or allow it with --insecure",
                           c->nats_monitor.text);
    each_part(c->nats.text, note_public, &public_addr);
    each_part(c->nats_ws.text, note_public, &public_addr);
    if (!public_addr || c->insecure.n ||
        (c->nats_tls_cert.n && (c->nats_tls_ca.n || c->nats_users.n || has_tokens(s->broker))))
        return ERR_OK;
    return errinfo_set(info, ERR_CONFIG,
                       "%s%s%s is reachable by others: set nats.tls.cert and nats.tls.key, and "
                       "list users (nats.users), make a token (`weir token create --admin --data "
                       "%s`) or let in only clients with certificates (nats.tls.client_ca), or "
                       "allow it with --insecure",
                       c->nats.text, c->nats.n && c->nats_ws.n ? "," : "", c->nats_ws.text,
                       c->data.text);
}

static enum err safety_check(struct server *s, bool *open_without, struct errinfo *info)
{
    bool public_addr = false;
    enum err e = kafka_safety_check(s, info);

    if (e || (e = pgwire_safety_check(s, info)) || (e = nats_safety_check(s, info)))
        return e;

    each_part(s->c->http.text, note_public, &public_addr);
    *open_without = !public_addr || s->c->insecure.n;
    if (!public_addr || s->c->insecure.n)
        return ERR_OK;
    if (!s->c->tls_cert.n)
        return errinfo_set(
            info, ERR_CONFIG,
            "%s is reachable by others: set http.tls.cert and http.tls.key, or allow it "
            "with --insecure",
            s->c->http.text);
    if (!has_tokens(s->broker))
        return errinfo_set(info, ERR_CONFIG,
                           "%s is reachable by others and there is no token: make one with "
                           "`weir token create --admin --data %s`, or allow it with --insecure",
                           s->c->http.text, s->c->data.text);
    return ERR_OK;
}

/* ---- starting ---- */

static void files_raise(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max > 1048576 ? 1048576 : r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static enum err loops_make(struct server *s, struct errinfo *info)
{
    long n = s->c->loops.n ? (long)s->c->loops.n : sysconf(_SC_NPROCESSORS_ONLN);
    enum err e = ERR_OK;

    n = n < 1 ? 1 : n > LOOPS_MAX ? LOOPS_MAX : n;
    for (s->loops_n = 0; !e && s->loops_n < (unsigned)n; s->loops_n++)
        e = loop_new(&s->loops[s->loops_n], info);
    return e;
}

static enum err cors_add(void *arg, const char *part)
{
    struct server *s = arg;

    if (s->cors_n == sizeof s->cors / sizeof *s->cors)
        return ERR_LIMIT;
    s->cors[s->cors_n++] = xstrdup(part);
    return ERR_OK;
}

static void metrics(void *arg, struct buf *out)
{
    struct server *s = arg;
    struct http_stats st;

    http_server_stats(s->http, &st);
    buf_printf(
        out,
        "# HELP weir_http_connections Connections open now.\n"
        "# TYPE weir_http_connections gauge\nweir_http_connections %" PRIu64 "\n"
        "# HELP weir_http_connections_accepted_total Connections accepted.\n"
        "# TYPE weir_http_connections_accepted_total counter\n"
        "weir_http_connections_accepted_total %" PRIu64 "\n"
        "# HELP weir_http_connections_refused_total Connections refused by a limit.\n"
        "# TYPE weir_http_connections_refused_total counter\n"
        "weir_http_connections_refused_total %" PRIu64 "\n"
        "# HELP weir_http_connection_timeouts_total Connections closed for being idle or slow.\n"
        "# TYPE weir_http_connection_timeouts_total counter\n"
        "weir_http_connection_timeouts_total %" PRIu64 "\n"
        "# HELP weir_http_received_bytes_total Bytes read from peers.\n"
        "# TYPE weir_http_received_bytes_total counter\n"
        "weir_http_received_bytes_total %" PRIu64 "\n"
        "# HELP weir_http_sent_bytes_total Bytes written to peers.\n"
        "# TYPE weir_http_sent_bytes_total counter\nweir_http_sent_bytes_total %" PRIu64 "\n"
        "# HELP process_uptime_seconds Time since the server started.\n"
        "# TYPE process_uptime_seconds gauge\nprocess_uptime_seconds %.3f\n",
        st.conns_open, st.conns_accepted, st.conns_refused, st.timeouts, st.bytes_in, st.bytes_out,
        (double)(io_mono_ns(io_real()) - s->start_ns) * 1e-9);
    if (s->kafka)
        kafka_metrics(s->kafka, out);
    if (server_lake_get(s->lake))
        lake_metrics(server_lake_get(s->lake), out);
    transforms_metrics(s->transforms, out);
    if (s->pgwire)
        pgwire_metrics(s->pgwire, out);
    if (s->nats)
        nats_metrics(s->nats, out);
}

/* What journal.cache_bytes stands for. */
static uint64_t cache_bytes(uint64_t set)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t share = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 16 : 0;

    if (set)
        return set;
    return share < 64u << 20 ? 64u << 20 : share > 4ull << 30 ? 4ull << 30 : share;
}

static enum err broker_start(struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    struct broker_conf bc = {.dir = c->data.text,
                             .io = io_real(),
                             .threads = true,
                             .journal_file_bytes = (uint64_t)c->file_bytes.n,
                             .tail_bytes = (uint64_t)c->tail_bytes.n,
                             .cache_bytes = cache_bytes((uint64_t)c->cache_bytes.n),
                             .inflight_bytes = (uint64_t)c->inflight_bytes.n,
                             .topics_auto_create = c->auto_create.n,
                             .partitions_default = (int32_t)c->partitions.n,
                             .retention_ms_default = c->retention_ms.n,
                             .dedup_window_ms = c->dedup_ms.n,
                             .dedup_ids_max = (uint32_t)c->dedup_max.n,
                             .topics_max = (uint32_t)c->topics_max.n,
                             .notices = (unsigned)c->events_publish.n, /* the choices' order */
                             .notices_topic = c->events_topic.text};
    struct group_conf groups;
    enum err e = broker_open(&bc, &s->broker, info);

    if (e)
        return e;
    config_groups(c, &groups);
    return groups_conf_set(s->broker, &groups, info);
}

static enum err http_start(struct server *s, bool open_without, struct errinfo *info)
{
    const struct config *c = s->c;
    struct http_proto_conf pc = {.broker = s->broker,
                                 .loops = s->loops,
                                 .loops_n = s->loops_n,
                                 .topics_auto_create = c->auto_create.n,
                                 .open_without_tokens = open_without,
                                 .cors_origins = s->cors,
                                 .limits = c->limits,
                                 .sql = s->sql,
                                 .lake = server_lake_get(s->lake),
                                 .transforms = s->transforms,
                                 .iceberg = server_lake_store(s->lake),
                                 .metrics = metrics,
                                 .metrics_arg = s};
    struct http_server_conf hc = {.loops = s->loops,
                                  .loops_n = s->loops_n,
                                  .body_max = (uint32_t)c->body_max.n,
                                  .conns_max = (uint32_t)c->conns_max.n,
                                  .conns_ip_max = (uint32_t)c->conns_ip_max.n,
                                  .idle_ms = (uint32_t)c->idle_ms.n,
                                  .head_ms = (uint32_t)c->head_ms.n};
    enum err e;

    e = each_part(c->cors.text, cors_add, s);
    pc.cors_origins_n = s->cors_n;
    if (e)
        return errinfo_set(info, e, "http.cors: too many origins");
    if ((e = http_proto_new(&pc, &s->proto, info)))
        return e;
    http_proto_serve(s->proto, &hc);
    return http_server_new(&hc, &s->http, info);
}

static enum err kafka_start(struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    struct kafka_conf kc = {.broker = s->broker,
                            .loops = s->loops,
                            .loops_n = s->loops_n,
                            .conns_max = (uint32_t)c->kafka_conns_max.n,
                            .conns_ip_max = (uint32_t)c->kafka_conns_ip_max.n,
                            .idle_ms = (uint32_t)c->kafka_idle_ms.n,
                            .topics_auto_create = c->auto_create.n,
                            .advertised = c->kafka_advertised.text,
                            .sasl_mechanisms = c->kafka_sasl.text,
                            .sasl_users = c->kafka_sasl_users.text,
                            .sasl_jwks = c->kafka_sasl_jwks.text,
                            .sasl_issuer = c->kafka_sasl_issuer.text,
                            .sasl_audience = c->kafka_sasl_audience.text,
                            .reauth_ms = (uint32_t)c->kafka_reauth_ms.n,
                            .acls = c->kafka_acls.n,
                            .acls_else_everyone = c->kafka_acls_everyone.n,
                            .super_users = c->kafka_supers.text};
    enum err e;

    if (!c->kafka.n)
        return ERR_OK;
    if (c->kafka_tls_cert.n &&
        (e = tls_conf_new(c->kafka_tls_cert.text, c->kafka_tls_key.text,
                          c->kafka_tls_ca.n ? c->kafka_tls_ca.text : NULL, &s->kafka_tls, info)))
        return e;
    return kafka_new(&kc, &s->kafka, info);
}

static void log_sink(void *arg, enum log_level level, const char *text, size_t len)
{
    (void)len;
    say(arg, (int)level, "%s", text);
}

static uint64_t log_now_ms(void *arg)
{
    (void)arg;
    return io_mono_ns(io_real()) / 1000000;
}

/* Of a server that was killed in the middle of a query: files, in folders of DuckDB's instances. */
static void spilled_remove(void *arg, const char *name)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s/%s", (const char *)arg, name) < (int)sizeof path)
        io_unlink(io_real(), path, NULL);
}

static void spilled_clear(void *arg, const char *name)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof path, "%s/%s", (const char *)arg, name) < (int)sizeof path)
        io_list(io_real(), path, spilled_remove, path, NULL);
    spilled_remove(arg, name); /* files had no folders once */
}

static enum err sql_start(struct server *s, struct errinfo *info)
{
    char spill[PATH_MAX];
    struct sql_conf sc = {.broker = s->broker,
                          .memory_bytes = (uint64_t)s->c->sql_memory.n,
                          .temp_bytes = (uint64_t)s->c->sql_spill.n,
                          .threads = (unsigned)s->c->sql_threads.n};
    struct sql_shard *shards = NULL;
    enum err e = server_lake_new(s->c, &s->lake, info);

    e = e ? e : shards_list_read(s->c->sql_shards.text, &shards, &sc.shards_n, info);
    if (e)
        return e;
    sc.shards = shards;
    snprintf(spill, sizeof spill, "%s/sql-tmp", s->c->data.text);
    io_list(io_real(), spill, spilled_clear, spill, NULL);
    sc.temp_dir = sc.temp_bytes ? spill : NULL;
    sc.cold = server_lake_cold(s->lake);
    sc.dirs = server_lake_dirs(s->lake, &sc.dirs_n);
    e = sql_open(&sc, &s->sql, info);
    shards_list_free(&shards, sc.shards_n);
    s->log = (struct log){.sink = log_sink,
                          .arg = (void *)(uintptr_t)s->c,
                          .now_ms = log_now_ms,
                          .level = (enum log_level)s->c->log_level.n};
    e = e ? e : server_lake_open(s->lake, s->c, s->broker, s->sql, false, &s->log, info);
    return e ? e : server_transforms_open(s->c, s->broker, s->sql, &s->log, &s->transforms, info);
}

/* Kafka's rules count for its users here, too. */
static bool user_may_read(void *arg, const char *user, const char *host, struct slice topic)
{
    const struct server *s = arg;

    if (!s->kafka)
        return !s->c->kafka_acls.n;
    return kafka_user_may_read(s->kafka, user, host, topic);
}

static enum err pgwire_start(struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    struct pgwire_conf pc = {.broker = s->broker,
                             .sql = s->sql,
                             .auth = http_proto_auth(s->proto),
                             .loops = s->loops,
                             .loops_n = s->loops_n,
                             .conns_max = (uint32_t)c->pgwire_conns_max.n,
                             .conns_ip_max = (uint32_t)c->pgwire_conns_ip_max.n,
                             .idle_ms = (uint32_t)c->pgwire_idle_ms.n,
                             .clear_public = c->insecure.n,
                             .users = c->pgwire_users.text,
                             .user_may_read = user_may_read,
                             .arg = s};
    enum err e;

    if (!c->pgwire.n)
        return ERR_OK;
    if (c->pgwire_tls_cert.n && (e = tls_conf_new(c->pgwire_tls_cert.text, c->pgwire_tls_key.text,
                                                  NULL, &s->pgwire_tls, info)))
        return e;
    pc.tls = s->pgwire_tls ? s->pgwire_tls : s->tls;
    return pgwire_new(&pc, &s->pgwire, info);
}

static enum err nats_start(struct server *s, struct errinfo *info)
{
    const struct config *c = s->c;
    struct nats_conf nc = {.io = io_real(),
                           .auth = http_proto_auth(s->proto),
                           .loops = s->loops,
                           .loops_n = s->loops_n,
                           .conns_max = (uint32_t)c->nats_conns_max.n,
                           .conns_ip_max = (uint32_t)c->nats_conns_ip_max.n,
                           .subs_max = (uint32_t)c->nats_subs_max.n,
                           .payload_max = (uint32_t)c->nats_payload.n,
                           .ping_ms = (uint32_t)c->nats_ping_ms.n,
                           .pings_lost = (uint32_t)c->nats_pings.n,
                           .login_ms = (uint32_t)c->nats_login_ms.n,
                           .send_ms = (uint32_t)c->nats_send_ms.n,
                           .users = c->nats_users.text,
                           .tls_first = c->nats_tls_first.n,
                           .tls_verify = c->nats_tls_ca.n != 0,
                           .ws_origins = c->nats_ws_origins.text,
                           .ws_deflate = c->nats_ws_deflate.n,
                           .broker = s->broker,
                           .log = &s->log,
                           .topics_account = c->nats_topics_account.text,
                           .jetstream = c->nats_jetstream.n};
    enum err e;

    if (!c->nats.n && !c->nats_ws.n && !c->nats_http.n)
        return ERR_OK;
    if (c->nats_http.n && c->nats_tls_ca.n)
        return errinfo_set(info, ERR_CONFIG,
                           "nats.http: HTTP's port does not ask for nats.tls.client_ca");
    if (c->nats_tls_cert.n &&
        (e = tls_conf_new(c->nats_tls_cert.text, c->nats_tls_key.text,
                          c->nats_tls_ca.n ? c->nats_tls_ca.text : NULL, &s->nats_tls, info)))
        return e;
    nc.tls = s->nats_tls;
    e = nats_new(&nc, &s->nats, info);
    if (!e && c->nats_http.n)
        http_proto_path_set(s->proto, "/nats", nats_http, s->nats);
    return e;
}

struct listen_arg {
    struct server *s;
    struct errinfo *info;
};

static enum err listen_one(void *arg, const char *addr)
{
    struct listen_arg *a = arg;
    const char *scheme = a->s->tls ? "https" : "http", *colon = strrchr(addr, ':');
    uint16_t port = 0;
    enum err e = http_server_listen(a->s->http, addr, a->s->tls, &port, a->info);

    if (e)
        return e;
    if (strncmp(addr, "unix:", 5) == 0)
        printf("http listening on %s\n", addr);
    else
        printf("http listening on %s://%.*s:%u\n", scheme, (int)(colon - addr), addr, port);
    return ERR_OK;
}

static enum err kafka_listen_one(void *arg, const char *addr)
{
    struct listen_arg *a = arg;
    const char *colon = strrchr(addr, ':');
    uint16_t port = 0;
    enum err e = kafka_listen(a->s->kafka, addr, a->s->kafka_tls, &port, a->info);

    if (e)
        return e;
    if (strncmp(addr, "unix:", 5) == 0)
        printf("kafka listening on %s\n", addr);
    else
        printf("kafka listening on %s%.*s:%u\n", a->s->kafka_tls ? "ssl://" : "",
               (int)(colon - addr), addr, port);
    return ERR_OK;
}

static enum err pgwire_listen_one(void *arg, const char *addr)
{
    struct listen_arg *a = arg;
    const char *colon = strrchr(addr, ':');
    uint16_t port = 0;
    enum err e = pgwire_listen(a->s->pgwire, addr, &port, a->info);

    if (e)
        return e;
    if (strncmp(addr, "unix:", 5) == 0)
        printf("pgwire listening on %s\n", addr);
    else
        printf("pgwire listening on %.*s:%u\n", (int)(colon - addr), addr, port);
    return ERR_OK;
}

static enum err nats_listen_as(struct listen_arg *a, const char *addr, const char *what,
                               const char *scheme,
                               enum err (*listen_fn)(struct nats *n, const char *addr,
                                                     uint16_t *port, struct errinfo *info))
{
    const char *colon = strrchr(addr, ':');
    uint16_t port = 0;
    enum err e = listen_fn(a->s->nats, addr, &port, a->info);

    if (e)
        return e;
    if (strncmp(addr, "unix:", 5) == 0)
        printf("%s listening on %s\n", what, addr);
    else
        printf("%s listening on %s://%.*s:%u\n", what, scheme, (int)(colon - addr), addr, port);
    return ERR_OK;
}

static enum err nats_listen_one(void *arg, const char *addr)
{
    return nats_listen_as(arg, addr, "nats", "nats", nats_listen);
}

static enum err nats_listen_ws_one(void *arg, const char *addr)
{
    struct listen_arg *a = arg;

    return nats_listen_as(a, addr, "nats websocket", a->s->nats_tls ? "wss" : "ws", nats_listen_ws);
}

static enum err nats_listen_monitor_one(void *arg, const char *addr)
{
    return nats_listen_as(arg, addr, "nats monitor", "http", nats_listen_monitor);
}

static void loop_main(void *arg)
{
    loop_run(arg);
}

static enum err loops_start(struct server *s, struct errinfo *info)
{
    char name[32];
    enum err e = ERR_OK;

    for (; !e && s->started < s->loops_n; s->started++) {
        snprintf(name, sizeof name, "weir-loop-%u", s->started);
        e = io_thread_start(name, IO_PRIO_NORMAL, loop_main, s->loops[s->started],
                            &s->threads[s->started], info);
        if (e)
            break;
    }
    return e;
}

/* Tells a service manager that waits for it (sd_notify protocol, systemd's NOTIFY_SOCKET). */
static void notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd;

    if (!path || strlen(path) >= sizeof a.sun_path)
        return;
    memcpy(a.sun_path, path, strlen(path));
    if (a.sun_path[0] == '@')
        a.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

static enum err start(struct server *s, struct errinfo *info)
{
    struct listen_arg a = {s, info};
    bool open_without = false;
    enum err e;

    if ((e = broker_start(s, info)) || (e = safety_check(s, &open_without, info)))
        return e;
    if (s->c->tls_cert.n &&
        (e = tls_conf_new(s->c->tls_cert.text, s->c->tls_key.text,
                          s->c->tls_ca.n ? s->c->tls_ca.text : NULL, &s->tls, info)))
        return e;
    if ((e = loops_make(s, info)) || (e = sql_start(s, info)) ||
        (e = http_start(s, open_without, info)) || (e = kafka_start(s, info)) ||
        (e = pgwire_start(s, info)) || (e = nats_start(s, info)))
        return e;
    if ((e = each_part(s->c->http.text, listen_one, &a)) ||
        (e = each_part(s->c->kafka.text, kafka_listen_one, &a)) ||
        (e = each_part(s->c->pgwire.text, pgwire_listen_one, &a)) ||
        (e = each_part(s->c->nats.text, nats_listen_one, &a)) ||
        (e = each_part(s->c->nats_ws.text, nats_listen_ws_one, &a)) ||
        (s->nats && (e = each_part(s->c->nats_monitor.text, nats_listen_monitor_one, &a))) ||
        (e = loops_start(s, info)))
        return e;
    fflush(stdout);
    notify("READY=1");
    say(s->c, 2, "serving %s with %u loops; started in %.1f ms", s->c->data.text, s->loops_n,
        (double)(io_mono_ns(io_real()) - s->start_ns) * 1e-6);
    return ERR_OK;
}

/* ---- stopping ---- */

static void on_drained(void *arg)
{
    struct server *s = arg;

    if (write(s->drained[1], "x", 1) < 0)
        say(s->c, 0, "telling that connections are closed failed: %s", strerror(errno));
}

static void stop(struct server *s)
{
    unsigned i;

    for (i = 0; i < s->started; i++)
        loop_stop(s->loops[i]);
    for (i = 0; i < s->started; i++)
        io_thread_join(&s->threads[i]);
    http_server_free(&s->http); /* which may have clients of NATS */
    nats_free(&s->nats);
    pgwire_free(&s->pgwire); /* which asks Kafka's rules */
    kafka_free(&s->kafka);
    http_proto_free(&s->proto);
    transforms_close(&s->transforms);
    server_lake_close(&s->lake);
    sql_close(&s->sql);
    broker_close(&s->broker); /* before the loops: its threads may just be waking one */
    for (i = 0; i < s->loops_n; i++)
        loop_free(&s->loops[i]);
    tls_conf_free(&s->tls);
    tls_conf_free(&s->kafka_tls);
    tls_conf_free(&s->pgwire_tls);
    tls_conf_free(&s->nats_tls);
    for (i = 0; i < s->cors_n; i++)
        free((void *)(uintptr_t)s->cors[i]);
}

/* Connections of Kafka and PostgreSQL answer what is under way, within the grace time. */
static void others_wait(struct server *s)
{
    uint64_t end = io_mono_ns(io_real()) + (uint64_t)s->c->drain_ms.n * 1000000u;
    struct timespec t = {0, 5000000};

    while (((s->kafka && kafka_open(s->kafka)) || (s->pgwire && pgwire_open(s->pgwire)) ||
            (s->nats && nats_open(s->nats))) &&
           io_mono_ns(io_real()) < end)
        nanosleep(&t, NULL);
}

/* SIGHUP. After an error the certificates, or the users and keys, stay as they were. */
static void files_reload(struct server *s)
{
    bool any = s->tls || s->kafka_tls || s->pgwire_tls || s->nats_tls ||
               (s->kafka && s->c->kafka_sasl.n) || (s->pgwire && s->c->pgwire_users.n) ||
               (s->nats && s->c->nats_users.n);
    struct errinfo why = {0};

    if ((s->tls && tls_conf_reload(s->tls, &why)) ||
        (s->kafka_tls && tls_conf_reload(s->kafka_tls, &why)) ||
        (s->pgwire_tls && tls_conf_reload(s->pgwire_tls, &why)) ||
        (s->nats_tls && tls_conf_reload(s->nats_tls, &why)))
        say(s->c, 0, "certificates stay as they were: %s", why.text);
    else if (s->kafka && kafka_reload(s->kafka, &why))
        say(s->c, 0, "Kafka's users and keys stay as they were: %s", why.text);
    else if (s->pgwire && pgwire_reload(s->pgwire, &why))
        say(s->c, 0, "PostgreSQL's users stay as they were: %s", why.text);
    else if (s->nats && nats_reload(s->nats, &why))
        say(s->c, 0, "NATS's users stay as they were: %s", why.text);
    else
        say(s->c, 2, "%s", any ? "files read again" : "SIGHUP: nothing to read again");
}

/* Waits for signals. True: stop in order. */
static void serve(struct server *s, int sigfd)
{
    struct pollfd p[2] = {{.fd = sigfd, .events = POLLIN}, {.fd = s->drained[0], .events = POLLIN}};
    struct signalfd_siginfo si;
    bool stopping = false;

    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return;
        if (p[1].revents) {
            others_wait(s);
            return;
        }
        if (!p[0].revents || read(sigfd, &si, sizeof si) != sizeof si)
            continue;
        if (si.ssi_signo == SIGHUP) {
            files_reload(s);
            continue;
        }
        if (stopping) {
            say(s->c, 1, "second signal: ending at once");
            _exit(130);
        }
        stopping = true;
        notify("STOPPING=1");
        say(s->c, 2, "stopping: connections get %.1f s to finish", (double)s->c->drain_ms.n / 1000);
        if (s->kafka)
            kafka_drain(s->kafka);
        if (s->pgwire)
            pgwire_drain(s->pgwire);
        if (s->nats)
            nats_drain(s->nats);
        http_server_drain(s->http, (uint32_t)s->c->drain_ms.n, on_drained, s);
    }
}

enum err server_run(const struct config *c, struct errinfo *info)
{
    struct server *s = xcalloc(1, sizeof *s);
    sigset_t set;
    int sigfd;
    enum err e;

    s->c = c;
    s->start_ns = io_mono_ns(io_real());
    mallopt(M_ARENA_MAX, 2);
    files_raise();
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigfd = signalfd(-1, &set, SFD_CLOEXEC);
    if (sigfd < 0 || pipe2(s->drained, O_CLOEXEC)) {
        e = errinfo_os(info, errno, "preparing for signals");
        free(s);
        return e;
    }
    e = start(s, info);
    if (!e)
        serve(s, sigfd);
    stop(s);
    if (!e)
        say(c, 2, "stopped");
    close(sigfd);
    close(s->drained[0]);
    close(s->drained[1]);
    free(s);
    return e;
}
