/* /varz, /jsz, /healthz, and what clusters would tell. See monitor_int.h. */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/nats/monitor_int.h"

/* ---- the process ---- */

uint64_t nmonitor_memory(struct nats *n)
{
    char text[256], *end;
    struct io_file *f = NULL;
    size_t got = 0;

    if (io_open(n->conf.io, "/proc/self/statm", IO_RDONLY, &f, NULL))
        return 0;
    if (io_pread(f, text, sizeof text - 1, 0, &got, NULL))
        got = 0;
    io_close(&f);
    text[got] = '\0';
    strtoull(text, &end, 10); /* all of it, then what is in memory */
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Percent of one processor, since the server began. */
double nmonitor_processor(uint64_t uptime_ms)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) || !uptime_ms)
        return 0;
    return ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
            (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3) *
           100 / (double)uptime_ms;
}

/* ---- JetStream ---- */

void nmonitor_js(struct buf *b, const struct njs_figures *f)
{
    buf_printf(b,
               "\"memory\":%" PRIu64 ",\"storage\":%" PRIu64 ",\"reserved_memory\":%" PRIu64
               ",\"reserved_storage\":%" PRIu64 ",\"accounts\":%" PRIu64
               ",\"ha_assets\":0,\"api\":{\"level\":%u,\"total\":%" PRIu64 ",\"errors\":%" PRIu64
               "}",
               f->memory, f->storage, f->reserved_memory, f->reserved_storage, f->accounts,
               f->api_level, f->api_total, f->api_errors);
}

static void js_config_write(struct buf *b, const struct njs_figures *f)
{
    buf_printf(b, "{\"max_memory\":%" PRId64 ",\"max_storage\":%" PRId64 ",\"store_dir\":",
               f->memory_max, f->storage_max);
    json_write_string(b, slice_str(f->store_dir ? f->store_dir : ""));
    buf_append_str(b, ",\"sync_interval\":0}");
}

/* Without its end; what there is in all of JetStream, or an account of it. */
static void jsz_begin(struct nats *n, struct slice account, struct buf *b)
{
    struct njs_figures f = {0};

    nmon_head(n, b);
    if (n->js_monitor)
        n->js_monitor->figures(n, account.len ? &account : NULL, &f);
    else
        buf_append_str(b, "\"disabled\":true,");
    nmonitor_js(b, &f);
    buf_append_str(b, ",\"config\":");
    js_config_write(b, &f);
    buf_printf(b,
               ",\"streams\":%" PRIu64 ",\"consumers\":%" PRIu64 ",\"messages\":%" PRIu64
               ",\"bytes\":%" PRIu64 ",\"total\":%" PRIu64,
               f.streams, f.consumers, f.messages, f.bytes, f.accounts);
}

/* open: details are asked for; subs: of streams; detail: of their consumers; auth: configurations. */
static struct njs_query jsz_wish(const struct nmon_job *j)
{
    return (struct njs_query){j->q.account, j->q.subs,   j->q.detail,
                              j->q.auth,    j->q.offset, j->q.limit};
}

static void jsz_visit(struct nmon_part *p)
{
    struct njs_query q = jsz_wish(p->job);

    if (q.streams && p->job->n->js_monitor)
        p->job->n->js_monitor->visit(p->l, &q, &p->text);
}

static void jsz_done(struct nmon_job *j, struct buf *b)
{
    const struct buf **v = xcalloc(j->parts_n, sizeof *v);
    struct njs_query q = jsz_wish(j);
    unsigned i;

    for (i = 0; i < j->parts_n; i++)
        v[i] = &j->parts[i].text;
    jsz_begin(j->n, q.account, b);
    if (j->q.open && j->n->js_monitor) {
        buf_append_str(b, ",");
        j->n->js_monitor->details(j->n, &q, v, j->parts_n, b);
    }
    buf_append_str(b, "}");
    free(v);
}

void nmon_jsz(struct nats *n, struct nquestion *a)
{
    struct nmon_query q = {0};
    const char *wrong = nmon_page_query(a, &q);

    if (!wrong && (!nmon_flag(a, "accounts", &q.open) || !nmon_flag(a, "streams", &q.subs) ||
                   !nmon_flag(a, "consumers", &q.detail) || !nmon_flag(a, "config", &q.auth)))
        wrong = "Error decoding boolean for 'accounts', 'streams', 'consumers' or 'config'\n";
    if (wrong) {
        nmon_refuse(a, 400, wrong);
        return;
    }
    q.subs |= q.detail;
    q.open |= q.subs || nquestion_param(a, "acc").len;
    nmon_texts(&q, SLICE_NULL, nquestion_param(a, "acc"), SLICE_NULL);
    nmon_job_start(n, a, &q, jsz_visit, jsz_done);
}

/* ---- the server ---- */

static void varz_options(struct nats *n, struct buf *b)
{
    const struct nats_conf *c = &n->conf;

    if (nats_login_needed(&n->loops[0]))
        buf_append_str(b, "\"auth_required\":true,");
    if (c->tls)
        buf_append_str(b, "\"tls_required\":true,");
    nmon_member_n(b, "max_connections", c->conns_max);
    if (c->subs_max)
        nmon_member_n(b, "max_subscriptions", c->subs_max);
    nmon_member_n(b, "ping_interval", (uint64_t)c->ping_ms * 1000000);
    nmon_member_n(b, "ping_max", c->pings_lost);
    nmon_member(b, "http_host", slice_str(n->monitor_host));
    nmon_member_n(b, "http_port", n->monitor_port);
    buf_printf(b, "\"http_base_path\":\"\",\"https_port\":0,\"auth_timeout\":%.3f,",
               c->login_ms / 1e3);
    nmon_member_n(b, "max_control_line", NATS_LINE_MAX);
    nmon_member_n(b, "max_payload", c->payload_max);
    nmon_member_n(b, "max_pending", 64u << 20);
    buf_append_str(b, "\"cluster\":{},\"gateway\":{},\"leaf\":{},\"mqtt\":{},\"websocket\":{");
    if (n->ws_port) {
        buf_printf(b, "\"host\":\"%s\",\"port\":%u,", n->ws_host, n->ws_port);
        buf_printf(b, "\"no_tls\":%s,\"compression\":%s", c->tls ? "false" : "true",
                   c->ws_deflate ? "true" : "false");
    }
    buf_append_str(b, "},");
    buf_printf(b, "\"tls_timeout\":0,\"write_deadline\":%" PRIu64 ",",
               (uint64_t)c->send_ms * 1000000);
}

static void varz_counts(struct nats *n, struct buf *b)
{
    struct nats_sums s;
    static const char *const zero[] = {"routes", "remotes", "leafnodes"};
    unsigned i;

    nats_sums(n, &s);
    nmon_member_n(b, "connections", nats_open(n));
    nmon_member_n(b, "total_connections", atomic_load(&n->next_id));
    for (i = 0; i < 3; i++)
        nmon_member_n(b, zero[i], 0);
    nmon_member_n(b, "in_msgs", s.msgs_in);
    nmon_member_n(b, "in_bytes", s.bytes_in);
    nmon_member_n(b, "in_client_msgs", s.msgs_in);
    nmon_member_n(b, "in_client_bytes", s.bytes_in);
    nmon_member_n(b, "out_msgs", s.msgs_out);
    nmon_member_n(b, "out_bytes", s.bytes_out);
    nmon_member_n(b, "out_client_msgs", s.msgs_out);
    nmon_member_n(b, "out_client_bytes", s.bytes_out);
    nmon_member_n(b, "slow_consumers", s.slow);
    nmon_member_n(b, "stale_connections", s.stale);
    nmon_member_n(b, "stalled_clients", s.stalls);
    nmon_member_n(b, "subscriptions", s.subs);
    buf_printf(
        b,
        "\"slow_consumer_stats\":{\"clients\":%" PRIu64
        ",\"routes\":0,\"gateways\":0,\"leafs\":0},\"stale_connection_stats\":{\"clients\":%" PRIu64
        ",\"routes\":0,\"gateways\":0,\"leafs\":0},",
        s.slow, s.stale);
}

void nmon_varz(struct nats *n, struct nquestion *a, struct buf *b)
{
    int64_t now = io_wall_ms(n->conf.io);
    uint64_t up = io_mono_ns(n->conf.io) / 1000000 - n->start_ms;
    struct njs_figures f = {0};
    unsigned i;

    (void)a;
    buf_printf(b,
               "{\"server_id\":\"%s\",\"server_name\":\"weir\",\"version\":\"%s\",\"proto\":1,"
               "\"go\":\"\",",
               n->id, NATS_VERSION);
    nmon_member(b, "host", slice_str(n->host));
    nmon_member_n(b, "port", n->port);
    varz_options(n, b);
    buf_append_str(b, "\"jetstream\":{");
    if (n->js_monitor) {
        n->js_monitor->figures(n, NULL, &f);
        buf_append_str(b, "\"config\":");
        js_config_write(b, &f);
        buf_append_str(b, ",\"stats\":{");
        nmonitor_js(b, &f);
        buf_append_str(b, "}");
    }
    buf_append_str(b, "},");
    nmon_member_time(b, "start", now - (int64_t)up);
    nmon_member_time(b, "now", now);
    nmon_member_span(b, "uptime", up);
    nmon_member_n(b, "mem", nmonitor_memory(n));
    nmon_member_n(b, "cores", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    nmon_member_n(b, "gomaxprocs", n->conf.loops_n);
    buf_printf(b, "\"cpu\":%.1f,", nmonitor_processor(up));
    varz_counts(n, b);
    buf_append_str(b, "\"http_req_stats\":{");
    for (i = 0; i < NMONITOR_PATHS; i++)
        if (i)
            buf_printf(b, "\"%s\":%" PRIu64 ",", nmonitor_path(i),
                       (uint64_t)atomic_load(&n->monitor_asked[i]));
    nmon_members_end(b);
    buf_append_str(b, ",");
    nmon_member_time(b, "config_load_time",
                     now - (int64_t)up + (int64_t)atomic_load(&n->loaded_ms));
    if (n->system)
        nmon_member(b, "system_account", slice_str(n->system->name));
    buf_append_str(b, "\"config_digest\":\"\"}");
}

void nmon_routez(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    nmon_head(n, b);
    buf_append_str(b, "\"server_name\":\"weir\",\"num_routes\":0,\"routes\":[]}");
}

void nmon_gatewayz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    nmon_head(n, b);
    buf_append_str(b, "\"outbound_gateways\":{},\"inbound_gateways\":{}}");
}

void nmon_leafz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    nmon_head(n, b);
    buf_append_str(b, "\"leafnodes\":0,\"leafs\":[]}");
}

void nmon_healthz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)n;
    (void)a;
    buf_append_str(b, "{\"status\":\"ok\",\"status_code\":200}");
}
