/* Requests: their memory, answers and parameters. See http_int.h.
 *
 * Invariant: a struct rq is either idle in its context's pool, or owned by the route that runs it;
 * every route ends in exactly one of rq_reply…, rq_fail…, rq_problem or rq_free. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "io/io.h"
#include "proto/http/http_int.h"

#define OUT_MAX (1u << 30) /* of one answer; routes have their own limits far below */

struct rq *rq_new(struct ctx *ctx, struct http_req *req)
{
    struct rq *rq;

    if (ctx->rq_idle_n) {
        ctx->rq_idle_n--;
        rq = list_entry(list_pop_front(&ctx->rq_idle), struct rq, link);
    } else {
        rq = xcalloc(1, sizeof *rq);
        rq->ctx = ctx;
        buf_init(&rq->out, OUT_MAX);
    }
    ctx->rq_n++;
    rq->req = req;
    rq->route = -1;
    rq->extra_n = 0;
    rq->gone = NULL;
    rq->state = NULL;
    rq->who = NULL;
    rq->start_ns = io_mono_ns(broker_io(ctx->proto->conf.broker));
    http_user_set(req, rq);
    return rq;
}

void rq_free(struct rq *rq)
{
    struct ctx *ctx = rq->ctx;

    ASSERT(ctx->rq_n > 0);
    ctx->rq_n--;
    if (rq->req)
        http_user_set(rq->req, NULL);
    rq->req = NULL;
    if (ctx->rq_idle_n == RQ_POOL_MAX) {
        buf_fini(&rq->out);
        free(rq);
        return;
    }
    if (rq->out.cap > RQ_OUT_KEEP)
        buf_fini(&rq->out);
    buf_clear(&rq->out);
    ctx->rq_idle_n++;
    list_insert_before(ctx->rq_idle.node.next, &rq->link); /* the warmest first */
}

void rq_header(struct rq *rq, const char *name, struct slice value)
{
    ASSERT(rq->extra_n < RQ_EXTRA_MAX);
    rq->extra[rq->extra_n++] = (struct http_hdr){slice_str(name), value};
}

static void count(struct rq *rq, int status)
{
    metrics_answer(&rq->ctx->metrics, rq->route < 0 ? METRIC_ROUTES - 1 : (unsigned)rq->route,
                   status, io_mono_ns(broker_io(rq->ctx->proto->conf.broker)) - rq->start_ns);
}

void rq_reply(struct rq *rq, int status, const char *media, struct slice body)
{
    struct http_hdr h[RQ_EXTRA_MAX + 2];
    unsigned n = 0;
    struct http_req *req = rq->req;

    count(rq, status);
    if (!req) {
        rq_free(rq);
        return;
    }
    if (media)
        h[n++] = (struct http_hdr){SLICE_LIT("Content-Type"), slice_str(media)};
    if (status == 503)
        h[n++] = (struct http_hdr){SLICE_LIT("Retry-After"), SLICE_LIT("1")};
    for (unsigned i = 0; i < rq->extra_n; i++)
        h[n++] = rq->extra[i];
    http_user_set(req, NULL);
    http_reply(req, status, h, n, body);
    rq->req = NULL;
    rq_free(rq);
}

void rq_reply_out(struct rq *rq, int status, const char *media)
{
    rq_reply(rq, status, media, buf_slice(&rq->out));
}

void rq_reply_empty(struct rq *rq, int status)
{
    rq_reply(rq, status, NULL, slice_of("", 0));
}

void rq_stream(struct rq *rq, int status, const char *media, void (*on_drain)(struct http_req *))
{
    struct http_hdr h[RQ_EXTRA_MAX + 2];
    unsigned n = 0;

    count(rq, status);
    h[n++] = (struct http_hdr){SLICE_LIT("Content-Type"), slice_str(media)};
    h[n++] = (struct http_hdr){SLICE_LIT("Cache-Control"), SLICE_LIT("no-store")};
    for (unsigned i = 0; i < rq->extra_n; i++)
        h[n++] = rq->extra[i];
    http_reply_start(rq->req, status, h, n, on_drain);
}

/* ---- problems ---- */

static enum err problem_put(struct buf *out, int status, const char *code, const char *title,
                            const char *detail, int64_t index)
{
    enum err e = buf_printf(out, "{\"type\":\"urn:weir:%s\",\"title\":", code);

    e = e ? e : json_write_string(out, slice_str(title));
    e = e ? e : buf_printf(out, ",\"status\":%d,\"code\":\"%s\"", status, code);
    if (!e && detail && *detail) {
        e = buf_append_str(out, ",\"detail\":");
        e = e ? e : json_write_string(out, slice_str(detail));
    }
    if (!e && index >= 0)
        e = buf_printf(out, ",\"index\":%lld", (long long)index);
    return e ? e : buf_append_str(out, "}");
}

enum err problem_write(struct buf *out, enum err e, const struct errinfo *info, int64_t index)
{
    return problem_put(out, err_http(e), err_code(e), err_text(e), info ? info->text : NULL, index);
}

void rq_fail_index(struct rq *rq, enum err e, const struct errinfo *info, int64_t index)
{
    ASSERT(e);
    buf_clear(&rq->out);
    if (problem_write(&rq->out, e, info, index))
        rq_reply_empty(rq, 500);
    else
        rq_reply_out(rq, err_http(e), MEDIA_PROBLEM);
}

void rq_fail(struct rq *rq, enum err e, const struct errinfo *info)
{
    rq_fail_index(rq, e, info, -1);
}

void rq_problem(struct rq *rq, int status, const char *code, const char *title, const char *detail)
{
    buf_clear(&rq->out);
    if (problem_put(&rq->out, status, code, title, detail, -1))
        rq_reply_empty(rq, 500);
    else
        rq_reply_out(rq, status, MEDIA_PROBLEM);
}

/* ---- changes at the broker ---- */

static void change_run(struct loop_task *t)
{
    struct rq *rq = list_entry(t, struct rq, task);

    rq->then(rq);
}

void rq_begin(struct rq *rq, void (*then)(struct rq *rq))
{
    rq->task.fn = change_run;
    rq->then = then;
    rq->err = ERR_OK;
    rq->info = (struct errinfo){0};
    atomic_store(&rq->pending, 0);
    atomic_flag_clear(&rq->failed);
}

void rq_one_more(struct rq *rq)
{
    atomic_fetch_add(&rq->pending, 1);
}

/* Any thread. The first error is kept; the last call posts the task, which orders the writes. */
void rq_done(void *arg, enum err e, const struct errinfo *info)
{
    struct rq *rq = arg;

    if (e && !atomic_flag_test_and_set(&rq->failed)) {
        rq->err = e;
        if (info && info->code)
            rq->info = *info;
    }
    if (atomic_fetch_sub(&rq->pending, 1) == 1)
        loop_post(rq->ctx->loop, &rq->task);
}

void rq_reply_done(struct rq *rq)
{
    if (rq->err)
        rq_fail(rq, rq->err, rq->info.code ? &rq->info : NULL);
    else
        rq_reply_empty(rq, 204);
}

/* ---- parameters ---- */

struct slice rq_param(struct rq *rq, const char *name)
{
    return http_query(rq->req, name);
}

enum err rq_param_int(struct rq *rq, const char *name, int64_t least, int64_t most, int64_t def,
                      int64_t *out, struct errinfo *info)
{
    struct slice v = rq_param(rq, name);

    *out = def;
    if (!v.ptr)
        return ERR_OK;
    if (!jtext_int(v, out) || *out < least || *out > most)
        return errinfo_set(info, ERR_INVALID, "\"%s\" must be a whole number from %lld to %lld",
                           name, (long long)least, (long long)most);
    return ERR_OK;
}

bool rq_param_bool(struct rq *rq, const char *name)
{
    struct slice v = rq_param(rq, name);

    return v.ptr && (v.len == 0 || slice_eq_str(v, "true") || slice_eq_str(v, "1"));
}

enum err rq_permit(struct rq *rq, unsigned access, struct slice topic, struct errinfo *info)
{
    if (auth_permits(rq->who, access, topic))
        return ERR_OK;
    return errinfo_set(info, ERR_FORBIDDEN, "the token does not permit %s on \"%.*s\"",
                       auth_access_name(access), (int)topic.len, (const char *)topic.ptr);
}
