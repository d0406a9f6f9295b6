/* Events over HTTP: the protocol object, the loops' contexts, routes and dispatch. See
 * http_events.h.
 *
 * A request runs on its connection's loop: http_proto_serve's callbacks find the loop's context, a
 * struct rq is taken from its pool, the route's function runs and answers now or later. */
#include "proto/http/http_events.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/ws.h"
#include "proto/http/http_int.h"
#include "proto/http/iceberg.h"

/* ---- limits ---- */

static const struct {
    const char *name;
    size_t offset;
    uint32_t def, least, most;
    const char *unit, *why;
} limits[] = {
#define HTTP_LIMIT(name, def, least, most, unit, why) \
    {#name, offsetof(struct http_limits, name), def, least, most, unit, why},
#include "proto/http/tbl/limits.h"
#undef HTTP_LIMIT
};
#define LIMITS_N (sizeof limits / sizeof limits[0])

static uint32_t *limit_at(struct http_limits *l, size_t i)
{
    return (uint32_t *)(void *)((char *)l + limits[i].offset);
}

void http_limits_default(struct http_limits *l)
{
    for (size_t i = 0; i < LIMITS_N; i++)
        *limit_at(l, i) = limits[i].def;
}

enum err http_limits_set(struct http_limits *l, struct slice name, uint64_t value,
                         struct errinfo *info)
{
    for (size_t i = 0; i < LIMITS_N; i++) {
        if (!slice_eq_str(name, limits[i].name))
            continue;
        if (value < limits[i].least || value > limits[i].most)
            return errinfo_set(info, ERR_CONFIG, "http.%s: %llu is not %u to %u %s", limits[i].name,
                               (unsigned long long)value, limits[i].least, limits[i].most,
                               limits[i].unit);
        *limit_at(l, i) = (uint32_t)value;
        return ERR_OK;
    }
    return errinfo_set(info, ERR_NOT_FOUND, "there is no setting http.%.*s", (int)name.len,
                       (const char *)name.ptr);
}

void http_limits_each(const struct http_limits *l,
                      void (*fn)(void *arg, const char *name, uint32_t value, uint32_t def,
                                 uint32_t least, uint32_t most, const char *unit, const char *why),
                      void *arg)
{
    struct http_limits copy = *l;

    for (size_t i = 0; i < LIMITS_N; i++)
        fn(arg, limits[i].name, *limit_at(&copy, i), limits[i].def, limits[i].least, limits[i].most,
           limits[i].unit, limits[i].why);
}

/* ---- contexts ---- */

struct topic *ctx_topic(struct ctx *ctx, struct slice name)
{
    uint32_t h = 2166136261u;
    struct topic **slot;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ name.ptr[i]) * 16777619u;
    slot = &ctx->topics[(h ^ h >> 16) % TOPIC_CACHE];
    if (*slot && slice_eq_str(name, topic_name(*slot)) && !topic_deleted(*slot))
        return *slot;
    if (*slot)
        topic_unref(slot);
    *slot = topic_find(ctx->proto->conf.broker, name);
    return *slot;
}

static void flush_timer(struct loop_timer *t)
{
    /* the tick hook of the turn that this timer made does the work */
}

static void turn_end(void *arg)
{
    struct ctx *ctx = arg;

    if (publisher_flush(ctx->publisher) && !loop_timer_armed(&ctx->flush_timer))
        loop_timer_arm(ctx->loop, &ctx->flush_timer, 1);
}

static void ctx_init(struct ctx *ctx, struct http_proto *p, struct loop *loop)
{
    ctx->proto = p;
    ctx->loop = loop;
    list_init(&ctx->rq_idle);
    auth_view_init(&ctx->auth, p->auth);
    buf_init(&ctx->scratch, 1u << 20);
    event_parser_init(&ctx->parser, p->conf.limits.depth_max, p->conf.limits.event_bytes_max);
    ctx->publisher = publisher_new(ctx);
    ctx->live = live_new(ctx);
    ws_handler_fill(ctx);
    loop_timer_init(&ctx->flush_timer, flush_timer);
    ctx->hook = (struct loop_hook){.fn = turn_end, .arg = ctx};
    loop_hook_add(loop, &ctx->hook, false);
}

static void ctx_fini(struct ctx *ctx)
{
    loop_hook_del(&ctx->hook);
    loop_timer_cancel(ctx->loop, &ctx->flush_timer);
    live_free(&ctx->live);
    publisher_free(&ctx->publisher);
    while (ctx->rq_idle_n) {
        struct rq *rq = list_entry(list_pop_front(&ctx->rq_idle), struct rq, link);

        ctx->rq_idle_n--;
        buf_fini(&rq->out);
        free(rq);
    }
    for (size_t i = 0; i < TOPIC_CACHE; i++) {
        if (ctx->topics[i])
            topic_unref(&ctx->topics[i]);
    }
    auth_view_fini(&ctx->auth);
    event_parser_fini(&ctx->parser);
    buf_fini(&ctx->scratch);
}

enum err http_proto_new(const struct http_proto_conf *conf, struct http_proto **out,
                        struct errinfo *info)
{
    struct http_proto *p = xcalloc(1, sizeof *p);
    enum err e;

    p->conf = *conf;
    e = auth_open(conf->broker, conf->open_without_tokens, conf->limits.tokens_max, &p->auth, info);
    if (e) {
        free(p);
        return e;
    }
    idem_init(&p->idem);
    if (conf->iceberg)
        p->iceberg = iceberg_new(conf->iceberg, broker_io(conf->broker));
    p->ctx = xcalloc(conf->loops_n, sizeof *p->ctx);
    p->ctx_n = conf->loops_n;
    for (unsigned i = 0; i < p->ctx_n; i++)
        ctx_init(&p->ctx[i], p, conf->loops[i]);
    *out = p;
    return ERR_OK;
}

/* The loop has been stopped, but tasks for it may still come from the writer thread: it is run
 * until nothing is on its way. */
struct settle {
    struct loop_timer timer;
    struct ctx *ctx;
};

static void settle_look(struct loop_timer *t)
{
    struct settle *s = list_entry(t, struct settle, timer);

    if (s->ctx->rq_n == 0 && publisher_idle(s->ctx->publisher) && live_idle(s->ctx->live))
        loop_stop(s->ctx->loop);
    else
        loop_timer_arm(s->ctx->loop, t, 1);
}

static void ctx_settle(struct ctx *ctx)
{
    struct settle s = {.ctx = ctx};

    if (ctx->rq_n == 0 && publisher_idle(ctx->publisher) && live_idle(ctx->live))
        return;
    loop_timer_init(&s.timer, settle_look);
    loop_timer_arm(ctx->loop, &s.timer, 1);
    loop_run(ctx->loop);
}

struct auth *http_proto_auth(struct http_proto *p)
{
    return p->auth;
}

/* Queries whose askers have gone end by themselves. */
static void sql_settle(struct http_proto *p)
{
    const struct timespec pause = {0, 1000000};

    while (atomic_load(&p->sql_live))
        nanosleep(&pause, NULL);
    for (unsigned i = 0; i < p->ctx_n; i++)
        loop_drain(p->ctx[i].loop);
}

void http_proto_free(struct http_proto **pp)
{
    struct http_proto *p = *pp;

    if (!p)
        return;
    for (unsigned i = 0; i < p->ctx_n; i++)
        ctx_settle(&p->ctx[i]);
    sql_settle(p);
    for (unsigned i = 0; i < p->ctx_n; i++)
        ctx_fini(&p->ctx[i]);
    iceberg_free(&p->iceberg);
    auth_close(&p->auth);
    idem_fini(&p->idem);
    free(p->ctx);
    free(p);
    *pp = NULL;
}

/* ---- routes ---- */

#define OPEN 1u /* no token needed */

static const struct route {
    enum http_method method;
    const char *name;
    const char *path; /* {x} is one segment; {stream} and {rest}, at the end, all the rest */
    void (*fn)(struct rq *rq);
    unsigned flags;
} routes[] = {
    {HTTP_POST, "POST", "/events", route_events_post, 0}, /* first: the hot one */
    {HTTP_GET, "GET", "/events", route_events_get, 0},
    {HTTP_GET, "GET", "/events/stream", route_events_stream, 0},
    {HTTP_GET, "GET", "/checkpoints/{consumer}", route_checkpoints_list, 0},
    {HTTP_GET, "GET", "/checkpoints/{consumer}/{stream}", route_checkpoint_get, 0},
    {HTTP_PUT, "PUT", "/checkpoints/{consumer}/{stream}", route_checkpoint_put, 0},
    {HTTP_DELETE, "DELETE", "/checkpoints/{consumer}/{stream}", route_checkpoint_delete, 0},
    {HTTP_GET, "GET", "/topics", route_topics_list, 0},
    {HTTP_POST, "POST", "/topics", route_topic_create, 0},
    {HTTP_GET, "GET", "/topics/{name}", route_topic_get, 0},
    {HTTP_PATCH, "PATCH", "/topics/{name}", route_topic_alter, 0},
    {HTTP_DELETE, "DELETE", "/topics/{name}", route_topic_delete, 0},
    {HTTP_GET, "GET", "/topics/{name}/partitions", route_partitions, 0},
    {HTTP_DELETE, "DELETE", "/topics/{name}/records", route_records_delete, 0},
    {HTTP_GET, "GET", "/groups", route_groups_list, 0},
    {HTTP_GET, "GET", "/groups/{name}", route_group_get, 0},
    {HTTP_DELETE, "DELETE", "/groups/{name}", route_group_delete, 0},
    {HTTP_GET, "GET", "/lake", route_lake_list, 0},
    {HTTP_GET, "GET", "/lake/{name}", route_lake_get, 0},
    {HTTP_POST, "POST", "/lake/{name}/{job}", route_lake_job, 0},
    /* the token is asked for by the catalog itself, whose errors have a form of their own */
    {HTTP_GET, "GET", "/iceberg/v1/{rest}", route_iceberg, OPEN},
    {HTTP_POST, "POST", "/iceberg/v1/{rest}", route_iceberg, OPEN},
    {HTTP_DELETE, "DELETE", "/iceberg/v1/{rest}", route_iceberg, OPEN},
    {HTTP_GET, "GET", "/tokens", route_tokens_list, 0},
    {HTTP_POST, "POST", "/tokens", route_token_create, 0},
    {HTTP_DELETE, "DELETE", "/tokens/{id}", route_token_delete, 0},
    {HTTP_POST, "POST", "/sql", route_sql, 0},
    {HTTP_GET, "GET", "/sql/live", route_sql_live, 0},
    {HTTP_POST, "POST", "/sql/live", route_sql_live, 0},
    {HTTP_GET, "GET", "/transforms", route_transforms_list, 0},
    {HTTP_GET, "GET", "/transforms/{name}", route_transform_get, 0},
    {HTTP_PUT, "PUT", "/transforms/{name}", route_transform_put, 0},
    {HTTP_DELETE, "DELETE", "/transforms/{name}", route_transform_delete, 0},
    {HTTP_POST, "POST", "/transforms/{name}/{action}", route_transform_act, 0},
    {HTTP_GET, "GET", "/healthz", route_health, OPEN},
    {HTTP_GET, "GET", "/readyz", route_ready, OPEN},
    {HTTP_GET, "GET", "/metrics", route_metrics, 0},
    {HTTP_GET, "GET", "/openapi.yaml", route_openapi, OPEN},
    {HTTP_GET, "GET", "/", route_hello, OPEN},
};
#define ROUTES_N (sizeof routes / sizeof routes[0])
_Static_assert(ROUTES_N < METRIC_ROUTES, "every route has its counters");

unsigned routes_count(void)
{
    return ROUTES_N;
}

const char *route_method(unsigned i)
{
    return i < ROUTES_N ? routes[i].name : "";
}

const char *route_path(unsigned i)
{
    return i < ROUTES_N ? routes[i].path : "";
}

/* Whether path fits the pattern; fills seg. */
static bool path_fits(const char *pattern, struct slice path, struct slice seg[2])
{
    const uint8_t *p = path.ptr, *end = path.ptr + path.len;
    unsigned n = 0;

    while (*pattern) {
        const uint8_t *from = p;
        bool rest;

        if (*pattern != '{') {
            if (p == end || *p++ != (uint8_t)*pattern++)
                return false;
            continue;
        }
        rest = strcmp(pattern, "{stream}") == 0 || strcmp(pattern, "{rest}") == 0;
        while (p < end && (rest || *p != '/'))
            p++;
        if (p == from)
            return false;
        ASSERT(n < 2);
        seg[n++] = slice_of(from, (size_t)(p - from));
        pattern = strchr(pattern, '}') + 1;
    }
    return p == end;
}

static int route_find(enum http_method m, struct slice path, struct slice seg[2])
{
    for (size_t i = 0; i < ROUTES_N; i++) {
        if (routes[i].method == m && path_fits(routes[i].path, path, seg))
            return (int)i;
    }
    return -1;
}

/* The methods that the path has, as an Allow value; empty: there is no such path. */
static void methods_of(struct slice path, char out[64])
{
    struct slice seg[2];
    size_t n = 0;

    for (size_t i = 0; i < ROUTES_N; i++) {
        if (path_fits(routes[i].path, path, seg))
            n += (size_t)snprintf(out + n, 64 - n, "%s%s%s", n ? ", " : "",
                                  routes[i].method == HTTP_GET ? "HEAD, " : "", routes[i].name);
    }
    if (n)
        snprintf(out + n, 64 - n, ", OPTIONS");
    else
        *out = 0;
}

/* ---- origins ---- */

static bool origin_listed(const struct http_proto *p, struct slice origin, bool *any)
{
    *any = false;
    for (unsigned i = 0; i < p->conf.cors_origins_n; i++) {
        if (strcmp(p->conf.cors_origins[i], "*") == 0) {
            *any = true;
            return true;
        }
        if (slice_eq_str(origin, p->conf.cors_origins[i]))
            return true;
    }
    return false;
}

/* "http://host:port" of this very server. */
static bool origin_own(const struct http_req *req, struct slice origin)
{
    struct slice host = http_header(req, "host");
    const char *scheme = http_is_tls(req) ? "https://" : "http://";
    size_t n = strlen(scheme);

    return host.len && origin.len == n + host.len && memcmp(origin.ptr, scheme, n) == 0 &&
           strncasecmp((const char *)origin.ptr + n, (const char *)host.ptr, host.len) == 0;
}

/* Adds what CORS wants. False: a page of another origin asks for what it may not; without this a
 * page on the internet could write to a server on the reader's own machine. */
static bool origin_check(struct rq *rq)
{
    struct slice origin = http_header(rq->req, "origin");
    enum http_method m = http_method(rq->req);
    bool any;

    if (!origin.ptr)
        return true;
    if (origin_listed(rq->ctx->proto, origin, &any)) {
        rq_header(rq, "Access-Control-Allow-Origin", any ? SLICE_LIT("*") : origin);
        rq_header(rq, "Access-Control-Expose-Headers",
                  SLICE_LIT("Weir-Next, Idempotency-Replayed, Retry-After"));
        if (!any)
            rq_header(rq, "Vary", SLICE_LIT("Origin"));
        return true;
    }
    if (origin_own(rq->req, origin))
        return true;
    return (m == HTTP_GET || m == HTTP_HEAD || m == HTTP_OPTIONS) && !http_is_ws_upgrade(rq->req);
}

static void options(struct rq *rq, const char *allow)
{
    struct slice asked = http_header(rq->req, "access-control-request-headers");

    rq_header(rq, "Allow", slice_str(allow));
    if (rq->extra_n > 1 && http_header(rq->req, "access-control-request-method").ptr) {
        rq_header(rq, "Access-Control-Allow-Methods", slice_str(allow));
        if (asked.ptr && rq->extra_n < RQ_EXTRA_MAX)
            rq_header(rq, "Access-Control-Allow-Headers", asked);
    }
    rq_reply_empty(rq, 204);
}

/* ---- dispatch ---- */

/* Sets rq->who. The token may be in the query where a browser cannot set headers. */
static enum err who(struct rq *rq, bool browser, struct errinfo *info)
{
    struct slice token = auth_bearer(http_header(rq->req, "authorization"));

    if (!token.ptr && browser)
        token = http_query(rq->req, "access_token");
    return auth_who(&rq->ctx->auth, token, &rq->who, info);
}

static void no_route(struct rq *rq)
{
    char allow[64];

    methods_of(http_path(rq->req), allow);
    if (!*allow) {
        rq_problem(rq, 404, "not_found", "not found", "there is nothing at this path");
        return;
    }
    if (http_method(rq->req) == HTTP_OPTIONS) {
        options(rq, allow);
        return;
    }
    rq_header(rq, "Allow", slice_str(allow));
    rq_problem(rq, 405, "method_not_allowed", "the path does not have this method",
               "see the Allow header");
}

static int hot_route(enum http_method m, struct slice path)
{
    return m == HTTP_POST && path.len == 7 && memcmp(path.ptr, "/events", 7) == 0 ? 0 : -1;
}

void rq_dispatch(struct rq *rq)
{
    enum http_method m = http_method(rq->req);
    struct slice path = http_path(rq->req);
    struct errinfo info = {0};
    bool browser;
    enum err e;

    rq->route = hot_route(m, path);
    if (rq->route < 0)
        rq->route = route_find(m == HTTP_HEAD ? HTTP_GET : m, path, rq->seg);
    if (!origin_check(rq)) {
        rq_problem(rq, 403, "origin_not_allowed", "pages of this origin may not do this",
                   "allow the origin in the server's CORS setting");
        return;
    }
    if (rq->route < 0) {
        no_route(rq);
        return;
    }
    if (!(routes[rq->route].flags & OPEN)) {
        browser = routes[rq->route].fn == route_events_stream || http_is_ws_upgrade(rq->req);
        e = who(rq, browser, &info);
        if (e) {
            rq_header(rq, "WWW-Authenticate", SLICE_LIT("Bearer"));
            rq_fail(rq, e, &info);
            return;
        }
    }
    routes[rq->route].fn(rq);
}

static void on_request(void *arg, unsigned loop, struct http_req *req)
{
    struct http_proto *p = arg;

    ASSERT(loop < p->ctx_n);
    if (p->other && slice_eq_str(http_path(req), p->other_path)) {
        p->other(p->other_arg, loop, req);
        return;
    }
    rq_dispatch(rq_new(&p->ctx[loop], req));
}

static void on_close(void *arg, unsigned loop, struct http_req *req)
{
    struct rq *rq = http_user(req);

    if (!rq)
        return;
    rq->req = NULL;
    if (rq->gone)
        rq->gone(rq);
}

void http_proto_path_set(struct http_proto *p, const char *path,
                         void (*fn)(void *arg, unsigned loop, struct http_req *req), void *arg)
{
    p->other_path = path;
    p->other = fn;
    p->other_arg = arg;
}

void http_proto_serve(struct http_proto *p, struct http_server_conf *conf)
{
    p->output_max = conf->output_max ? conf->output_max : p->conf.limits.subscriber_buffer_bytes;
    conf->output_max = p->output_max;
    conf->ctx = p;
    conf->on_request = on_request;
    conf->on_head = NULL;
    conf->on_close = on_close;
}
