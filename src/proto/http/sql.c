/* POST /sql: a query, answered in the form that Accept asks for, row by row as they come.
 *
 *   route ─> sql_run ─> worker: columns, chunks, done ─> pipe ─> loop: head, body …, end
 *
 * The worker's side (struct answer) belongs to the query until done, which frees it; the loop's side
 * (struct asked) to the request. An error before the first byte is a problem document; later a JSON
 * answer says it at its end, and others are cut off. If the peer goes away the query is cancelled. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/http/http_int.h"
#include "proto/http/sql_request.h"
#include "rows/form.h"
#include "rows/pipe.h"

enum piece { PIECE_BODY = 1, PIECE_PROBLEM, PIECE_END, PIECE_CUT };

/* The worker's. */
struct answer {
    struct http_proto *proto;
    struct rows_pipe *pipe;
    struct rows_writer w;
    struct buf out;
    struct principal who;
    struct topic *input; /* referenced; NULL: none */
    bool everything;     /* all topics may be read */
    bool sent;           /* something went into the pipe */
    enum err failed;     /* in a callback, which ended the query */
    struct errinfo why;
};

/* The loop's. */
struct asked {
    struct rq *rq;
    struct rows_pipe *pipe;
    struct sql_query *q;
    enum rows_form form;
    bool started, full, over;
};

/* ---- the worker's side ---- */

static bool may_read(void *arg, struct slice topic)
{
    const struct answer *a = arg;

    return a->everything || auth_permits(&a->who, AUTH_READ, topic);
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct answer *a = arg;

    return !(a->failed = rows_begin(&a->w, q, c, &a->out, &a->why));
}

static bool pass(struct answer *a)
{
    a->sent |= a->out.len > 0;
    return rows_pipe_put(a->pipe, &a->out, PIECE_BODY);
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct answer *a = arg;
    uint32_t i;

    if (a->w.form == ROWS_ARROW)
        return !(a->failed = rows_chunk(&a->w, q, c, &a->out, &a->why)) && pass(a);
    for (i = 0; i < c->rows; i++) {
        if ((a->failed = rows_some(&a->w, c, i, i + 1, &a->out)))
            return false;
        if (a->out.len >= LIMIT_ROWS_PIECE && !pass(a))
            return false;
    }
    return pass(a);
}

void sql_problem(const struct sql_error *x, struct buf *out)
{
    size_t from = out->len;
    enum err e;

    e = buf_printf(out, "{\"type\":\"urn:weir:%s\",\"title\":", err_code(x->code));
    e = e ? e : json_write_string(out, slice_str(err_text(x->code)));
    e = e ? e
          : buf_printf(out, ",\"status\":%d,\"code\":\"%s\"", err_http(x->code), err_code(x->code));
    if (!e && x->message) {
        e = buf_append_str(out, ",\"detail\":");
        e = e ? e : json_write_string(out, slice_str(x->message));
    }
    if (!e && x->sqlstate[0])
        e = buf_printf(out, ",\"sqlstate\":\"%s\"", x->sqlstate);
    if (!e && x->position)
        e = buf_printf(out, ",\"position\":%" PRIu32, x->position);
    if (!e && x->hint) {
        e = buf_append_str(out, ",\"hint\":");
        e = e ? e : json_write_string(out, slice_str(x->hint));
    }
    e = e ? e : buf_append_u8(out, '}');
    if (e)
        out->len = from;
}

static void answer_free(struct answer *a)
{
    rows_writer_fini(&a->w);
    buf_fini(&a->out);
    topic_unref(&a->input);
    free(a);
}

static void fail_put(struct answer *a, const struct sql_error *error, const struct sql_stats *stats)
{
    bool in_band = a->w.form == ROWS_JSON || a->w.form == ROWS_NDJSON;

    if (!a->sent) {
        buf_clear(&a->out);
        sql_problem(error, &a->out);
        if (!a->out.len)
            buf_append_str(&a->out, "{}");
        rows_pipe_put(a->pipe, &a->out, PIECE_PROBLEM | (uint32_t)err_http(error->code) << 8);
        return;
    }
    buf_clear(&a->out);
    if (in_band && !rows_end(&a->w, error, stats, &a->out)) {
        rows_pipe_put(a->pipe, &a->out, PIECE_BODY);
        buf_append_u8(&a->out, 0);
        rows_pipe_put(a->pipe, &a->out, PIECE_END);
        return;
    }
    buf_clear(&a->out);
    buf_append_u8(&a->out, 0);
    rows_pipe_put(a->pipe, &a->out, PIECE_CUT);
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct answer *a = arg;
    struct http_proto *p = a->proto;
    struct sql_error own;

    if (!error && !a->failed)
        a->failed = rows_end(&a->w, NULL, stats, &a->out);
    if (a->failed) {
        own = (struct sql_error){.code = a->failed, .message = a->why.text};
        if (!a->why.text[0])
            own.message = "a row is larger than this server sends";
        error = &own;
    }
    if (error) {
        fail_put(a, error, stats);
    } else {
        pass(a);
        buf_append_u8(&a->out, 0);
        rows_pipe_put(a->pipe, &a->out, PIECE_END);
    }
    rows_pipe_end(&a->pipe);
    answer_free(a);
    atomic_fetch_sub(&p->sql_live, 1);
}

static const struct sql_sink sink = {on_columns, on_chunk, on_done};

/* ---- the loop's side ---- */

static void asked_free(struct asked *s)
{
    sql_release(&s->q);
    rows_pipe_close(&s->pipe);
    free(s);
}

static void gone(struct rq *rq)
{
    struct asked *s = rq->state;

    if (s->q)
        sql_cancel(s->q);
    asked_free(s);
    rq_free(rq);
}

static void pump(struct asked *s);

static void on_drain(struct http_req *req)
{
    struct rq *rq = http_user(req);

    if (rq)
        pump(rq->state);
}

/* Begins the answer if that has not been done. */
static void start(struct asked *s)
{
    if (s->started)
        return;
    s->started = true;
    rq_stream(s->rq, 200, rows_form_media(s->form), on_drain);
}

static void finish(struct asked *s, uint32_t kind, struct rows_piece *x)
{
    struct rq *rq = s->rq;
    struct http_req *req = rq->req;

    asked_free(s);
    rq->state = NULL;
    rq->gone = NULL;
    if ((kind & 255) == PIECE_PROBLEM) {
        buf_clear(&rq->out);
        (void)buf_append(&rq->out, x->ptr, x->len);
        rq_reply_out(rq, (int)(kind >> 8), MEDIA_PROBLEM);
        return;
    }
    rq_free(rq);
    if (kind == PIECE_CUT)
        http_reply_abort(req);
    else
        http_reply_end(req);
}

static void pump(struct asked *s)
{
    struct rows_piece *x;
    bool ended;
    uint32_t kind;

    while (!s->started || http_reply_queued(s->rq->req) < s->rq->ctx->proto->output_max) {
        if (!(x = rows_pipe_take(s->pipe, &ended)))
            return;
        kind = x->kind;
        if ((kind & 255) != PIECE_PROBLEM)
            start(s);
        if (kind != PIECE_BODY) {
            finish(s, kind, x);
            rows_piece_free(x);
            return;
        }
        (void)http_reply_write(s->rq->req, slice_of(x->ptr, x->len));
        rows_piece_free(x);
    }
}

static void on_wake(void *arg)
{
    pump(arg);
}

/* ---- the request ---- */

int rq_rows_form(struct rq *rq)
{
    static const char *const offers[] = {
        "application/json",   "application/x-ndjson",
        "application/ndjson", "application/jsonl",
        "text/csv",           "application/vnd.apache.arrow.stream"};
    static const int forms[] = {ROWS_JSON,   ROWS_NDJSON, ROWS_NDJSON,
                                ROWS_NDJSON, ROWS_CSV,    ROWS_ARROW};
    int i = accept_pick(http_header(rq->req, "accept"), offers, 6);

    if (i < 0)
        rq_problem(rq, 406, "not_acceptable", "no acceptable media type",
                   "results come as application/json, application/x-ndjson, text/csv or "
                   "application/vnd.apache.arrow.stream");
    return i < 0 ? i : forms[i];
}

void rq_sql(struct rq *rq, const struct sql_request *ask, enum rows_form form)
{
    struct http_proto *p = rq->ctx->proto;
    struct answer *a = xcalloc(1, sizeof *a);
    struct asked *s = xcalloc(1, sizeof *s);
    struct sql_request r = *ask;
    struct errinfo info = {0};
    enum err e;

    r.topic_allowed = may_read;
    r.sink = &sink;
    r.arg = a;
    a->proto = p;
    a->who = *rq->who;
    a->input = r.inputs_n ? topic_ref(r.inputs[0].topic) : NULL;
    a->everything = auth_permits_all(rq->who, AUTH_READ);
    rows_writer_init(&a->w, form);
    buf_init(&a->out, LIMIT_ROWS_ANSWER_ROW);
    s->rq = rq;
    s->form = form;
    s->pipe = a->pipe = rows_pipe_new(rq->ctx->loop, LIMIT_ROWS_AHEAD, on_wake, s);
    rq->state = s;
    rq->gone = gone;
    atomic_fetch_add(&p->sql_live, 1);
    e = sql_run(p->conf.sql, &r, &s->q, &info);
    if (!e)
        return;
    atomic_fetch_sub(&p->sql_live, 1);
    rows_pipe_end(&a->pipe);
    answer_free(a);
    asked_free(s);
    rq->state = NULL;
    rq->gone = NULL;
    rq_fail(rq, e, &info);
}

static void run(struct rq *rq, const struct sql_asked *in, enum rows_form form)
{
    struct sql_request r = {.text = in->text,
                            .params = in->params,
                            .params_n = in->params_n,
                            .timeout_ms = in->timeout_ms,
                            .rows_max = in->rows_max};
    struct sql_shard shards[LIMIT_SQL_SHARDS];
    struct errinfo info = {0};
    enum err e = in->shards_n ? sql_shards_named(rq->ctx->proto->conf.sql, in->shard, in->shards_n,
                                                 shards, &r.shards_n, &info)
                              : ERR_OK;

    r.shards = shards;
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_sql(rq, &r, form);
}

void route_sql(struct rq *rq)
{
    struct errinfo info = {0};
    struct sql_asked in;
    int form;
    enum err e;

    if (!rq->ctx->proto->conf.sql) {
        rq_problem(rq, 501, "unsupported", "this server answers no SQL", NULL);
        return;
    }
    if ((form = rq_rows_form(rq)) < 0)
        return;
    e = sql_asked_parse(&in, http_header(rq->req, "content-type"), http_body(rq->req), &info);
    if (e)
        rq_fail(rq, e, &info);
    else
        run(rq, &in, (enum rows_form)form);
    sql_asked_fini(&in);
}
