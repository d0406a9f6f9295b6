/* GET and POST /sql/live: a live query (sql/live.h) as server-sent events or over a WebSocket.
 *
 *            ┌──────── step ────────┐ (worker: writes messages into `out`)
 *            │                      v
 *   begin ─> STEPPING ─ stepped ─> SENDING ─ all sent ─> more: STEPPING; caught up: WAITING
 *            ^                      ^  │ the output is full               │ a record came, and
 *            └──────────────────────┼──┘ until it has drained             │ linger_ms have passed
 *            └──────────────────────┴────────────────────────────────────┘
 *
 * A step's messages are in memory as a whole, and that is bounded: a step is begun only when all of
 * the last one were sent, it stops when it has written live_batch_bytes, and a reader who does not
 * read holds a position and at most these bytes, but no worker. A query that waits costs nothing but
 * memory: a waiter on its topic, and a timer for comments.
 *
 * Messages: see docs/sql.md. Each row with its position; `columns` before the first and when they
 * change; `live` once, when history ends; `lost`; `end`; `problem` (over a WebSocket `error`).
 *
 * Threads: the loop's, but for the sink of the live query (worker, between step and stepped) and the
 * waiter's wake (writer). Whoever posts a task holds the query; so does its connection. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "journal/journal.h"
#include "proto/http/http_int.h"
#include "proto/http/sql_request.h"
#include "rows/form.h"
#include "sql/live.h"

#define PROBLEM_MAX (1u << 20)

enum state { SENDING, STEPPING, WAITING, ENDED };
enum kind { ROW, COLUMNS, LIVE, LOST, END, PROBLEM };
static const char *const kind_names[] = {NULL, "columns", "live", "lost", "end", "problem"};

/* In `out`, before its JSON. */
struct message {
    uint32_t len;
    enum kind kind;
    uint64_t id; /* position to resume behind; UINT64_MAX: none */
};

struct follow {
    struct ctx *ctx;
    struct rq *rq; /* server-sent events; NULL: gone */
    struct ws *ws; /* the other way; NULL: gone */
    struct sql_live *live;
    enum state state;
    unsigned holds;
    bool gone;           /* the connection is, or soon will be */
    bool told;           /* that it is live */
    bool started;        /* the answer was begun */
    bool look;           /* records may have been deleted before they were read */
    uint64_t lost_below; /* that records were deleted below here was said */
    struct topic *topic;
    char token[AUTH_TOKEN_LEN];
    bool has_token;
    struct principal who; /* not changed while STEPPING */

    struct loop_task stepped, woken;
    atomic_bool woke;
    struct waiter waiter;
    bool waiting; /* the waiter was armed since it was cancelled */
    struct loop_timer linger, beat;
    uint64_t began_ms; /* of the last step */

    /* the worker's, while STEPPING */
    struct rows_writer w;
    struct buf columns; /* as told last */
    struct buf out;
    size_t last; /* of out: message that gets the step's position; SIZE_MAX: none */
    size_t at;   /* sent so far */
    enum sql_live_state result;
    enum err failed; /* in a callback */
    enum err error;
};

static void start_or_fail(struct follow *f);

/* ---- messages ---- */

/* Begins a message; its JSON is appended behind. */
static enum err message_begin(struct buf *out, enum kind kind, uint64_t id, size_t *at)
{
    struct message m = {.kind = kind, .id = id};

    *at = out->len;
    return buf_append(out, &m, sizeof m);
}

static void message_end(struct buf *out, size_t at)
{
    struct message m;

    memcpy(&m, out->ptr + at, sizeof m);
    m.len = (uint32_t)(out->len - at - sizeof m);
    memcpy(out->ptr + at, &m, sizeof m);
}

static void message_id(struct buf *out, size_t at, uint64_t id)
{
    memcpy(out->ptr + at + offsetof(struct message, id), &id, sizeof id);
}

static void message_put(struct follow *f, enum kind kind, uint64_t id, const char *json)
{
    size_t at;

    if (!message_begin(&f->out, kind, id, &at) && !buf_append_str(&f->out, json))
        message_end(&f->out, at);
}

/* The end, because of this. */
static void fail_put(struct follow *f, const struct sql_error *x)
{
    size_t at;

    f->result = SQL_LIVE_FAILED;
    f->error = x->code;
    if (f->out.max - f->out.len < PROBLEM_MAX)
        buf_clear(&f->out); /* as much as it may be */
    if (message_begin(&f->out, PROBLEM, UINT64_MAX, &at))
        return;
    sql_problem(x, &f->out);
    message_end(&f->out, at);
}

/* ---- the worker's side ---- */

static bool may_read(void *arg, struct slice topic)
{
    const struct follow *f = arg;

    return auth_permits(&f->who, AUTH_READ, topic);
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct follow *f = arg;
    struct rows_writer head;
    struct errinfo why;
    struct buf b, none;
    size_t at;
    enum err e;

    rows_writer_init(&head, ROWS_JSON);
    buf_init(&b, LIMIT_ROWS_ANSWER_ROW);
    buf_init(&none, LIMIT_ROWS_ANSWER_ROW);
    e = rows_begin(&head, q, c, &b, &why);
    if (!e) {
        b.len -= strlen(",\"rows\":[");
        e = buf_append_u8(&b, '}');
    }
    if (!e && (f->columns.len != b.len || memcmp(f->columns.ptr, b.ptr, b.len) != 0)) {
        buf_clear(&f->columns);
        e = buf_append_slice(&f->columns, buf_slice(&b));
        e = e ? e : message_begin(&f->out, COLUMNS, UINT64_MAX, &at);
        e = e ? e : buf_append_slice(&f->out, buf_slice(&b));
        if (!e)
            message_end(&f->out, at);
    }
    rows_writer_fini(&f->w);
    rows_writer_init(&f->w, ROWS_NDJSON);
    e = e ? e : rows_begin(&f->w, q, c, &none, &why);
    rows_writer_fini(&head);
    buf_fini(&b);
    buf_fini(&none);
    f->failed = e;
    return !e;
}

static enum err key_put(const struct sql_chunk *key, uint32_t row, struct buf *out)
{
    enum err e = buf_append_str(out, "\"key\":[");
    uint32_t k;

    for (k = 0; !e && k < key->columns_n; k++) {
        if (k)
            e = buf_append_u8(out, ',');
        e = e ? e : sql_value_json(&key->column[k], row, out);
    }
    return e ? e : buf_append_u8(out, ']');
}

/* {"position":"evt_…","row":{…}}, and of groups "key":[…] before "row", or "gone":true. */
static enum err row_put(struct follow *f, const struct sql_live_rows *r, uint32_t i)
{
    char id[EVENT_ID_LEN + 1];
    struct buf *out = &f->out;
    size_t at;
    enum err e = message_begin(out, ROW, r->at ? r->at[i] : UINT64_MAX, &at);

    if (r->at) {
        event_id_format(r->at[i], id);
        e = e ? e : buf_printf(out, "{\"position\":\"%s\",", id);
    } else {
        f->last = at;
        e = e ? e : buf_append_u8(out, '{');
        e = e ? e : key_put(r->key, i, out);
        e = e ? e : buf_append_u8(out, ',');
    }
    if (r->gone && r->gone[i]) {
        e = e ? e : buf_append_str(out, "\"gone\":true}");
    } else {
        e = e ? e : buf_append_str(out, "\"row\":");
        e = e ? e : rows_some(&f->w, r->row, i, i + 1, out);
        if (!e) {
            out->len--; /* the line's end */
            e = buf_append_u8(out, '}');
        }
    }
    if (e)
        out->len = at;
    else
        message_end(out, at);
    return e;
}

static uint32_t on_rows(void *arg, const struct sql_live_rows *r)
{
    struct follow *f = arg;
    uint32_t most = f->ctx->proto->conf.limits.live_batch_bytes, i;

    for (i = 0; i < r->row->rows; i++) {
        if (r->at && f->out.len >= most)
            break;
        if ((f->failed = row_put(f, r, i)))
            break;
    }
    return i;
}

static void on_stepped(void *arg, enum sql_live_state state, const struct sql_error *e)
{
    struct follow *f = arg;
    struct http_proto *p = f->ctx->proto;
    struct sql_error own = {.code = f->failed,
                            .message = "the changes are larger than this server sends"};

    f->result = state;
    if (f->failed || e)
        fail_put(f, f->failed ? &own : e);
    loop_post(f->ctx->loop, &f->stepped);
    atomic_fetch_sub(&p->sql_live, 1);
}

static const struct sql_live_sink live_sink = {on_columns, on_rows, on_stepped};

/* ---- life ---- */

static void release(struct follow *f)
{
    ASSERT(f->holds > 0);
    if (--f->holds)
        return;
    ASSERT(f->gone && f->state != STEPPING);
    sql_live_free(&f->live);
    topic_unref(&f->topic);
    rows_writer_fini(&f->w);
    buf_fini(&f->columns);
    buf_fini(&f->out);
    f->ctx->live_queries_n--;
    free(f);
}

/* The connection is gone: whatever is on its way ends by itself. */
static void leave(struct follow *f)
{
    if (f->gone)
        return;
    f->gone = true;
    f->rq = NULL;
    f->ws = NULL;
    loop_timer_cancel(f->ctx->loop, &f->linger);
    loop_timer_cancel(f->ctx->loop, &f->beat);
    if (f->waiting) {
        waiter_cancel(&f->waiter);
        if (!atomic_load(&f->woke)) { /* it will not be: what woken_task was to release */
            ASSERT(f->holds > 1);
            f->holds--;
        }
    }
    if (f->state == STEPPING)
        sql_live_cancel(f->live);
    metric_add(&f->ctx->metrics.live_queries, (uint64_t)-1);
    release(f);
}

/* ---- sending ---- */

static enum err sse_send(struct follow *f, const struct message *m, struct slice json)
{
    struct http_req *req = f->rq->req;
    char head[96], id[EVENT_ID_LEN + 1];
    int n = 0;

    if (http_reply_queued(req) >= f->ctx->proto->output_max)
        return ERR_LIMIT;
    if (m->kind != ROW)
        n += snprintf(head, sizeof head, "event: %s\n", kind_names[m->kind]);
    if (m->id != UINT64_MAX) {
        event_id_format(m->id, id);
        n += snprintf(head + n, sizeof head - (size_t)n, "id: %s\n", id);
    }
    n += snprintf(head + n, sizeof head - (size_t)n, "data: ");
    (void)http_reply_write(req, slice_of(head, (size_t)n));
    (void)http_reply_write(req, json);
    (void)http_reply_write(req, SLICE_LIT("\n\n"));
    return ERR_OK;
}

static enum err ws_put(struct follow *f, const struct message *m, struct slice json)
{
    struct buf b;
    enum err e;

    if (m->kind == ROW)
        return ws_send(f->ws, WS_TEXT, json);
    buf_init(&b, json.len + 64);
    e = buf_printf(&b, "{\"%s\":", m->kind == PROBLEM ? "error" : kind_names[m->kind]);
    e = e ? e : buf_append_slice(&b, json);
    e = e ? e : buf_append_u8(&b, '}');
    e = e ? e : ws_send(f->ws, WS_TEXT, buf_slice(&b));
    buf_fini(&b);
    return e;
}

/* All that is in out, or until the output is full: false. */
static bool send_all(struct follow *f)
{
    struct message m;

    while (!f->gone && f->at < f->out.len) {
        struct slice json;
        enum err e;

        memcpy(&m, f->out.ptr + f->at, sizeof m);
        json = slice_of(f->out.ptr + f->at + sizeof m, m.len);
        e = f->rq ? sse_send(f, &m, json) : ws_put(f, &m, json);
        if (e == ERR_LIMIT)
            return false;
        f->at += sizeof m + m.len;
        if (m.kind == ROW)
            metric_add(&f->ctx->metrics.live_rows, 1);
    }
    f->at = 0;
    if (f->out.cap > RQ_OUT_KEEP) { /* what waits holds no memory */
        buf_fini(&f->out);
        buf_init(&f->out, LIMIT_SQL_LIVE_BATCH);
    }
    buf_clear(&f->out);
    return !f->gone;
}

/* Everything was sent. */
static void end(struct follow *f)
{
    struct rq *rq = f->rq;
    struct http_req *req;
    int code = f->result == SQL_LIVE_ENDED ? 1000 : f->error == ERR_FORBIDDEN ? 1008 : 1011;

    f->state = ENDED;
    if (f->ws) {
        ws_close(f->ws, code, f->error ? err_code(f->error) : "the end");
        return; /* on_close comes */
    }
    req = rq->req;
    rq->gone = NULL;
    rq->state = NULL;
    leave(f);
    rq_free(rq);
    http_reply_end(req);
}

/* ---- steps ---- */

/* Rights are those of now: a token that was taken away ends the query at its next step. */
static bool who_take(struct follow *f)
{
    const struct principal *who;

    if (auth_who(&f->ctx->auth, f->has_token ? slice_of(f->token, AUTH_TOKEN_LEN) : SLICE_NULL,
                 &who, NULL) ||
        (f->topic && !auth_permits(who, AUTH_READ, slice_str(topic_name(f->topic)))))
        return false;
    f->who = *who;
    return true;
}

/* Says that records were deleted which it would have begun with. */
static void lost_look(struct follow *f)
{
    struct reader_conf conf = {.partition = -1, .from = READ_FROM_POSITION};
    char text[64], id[EVENT_ID_LEN + 1];

    if (!f->look || !f->topic)
        return;
    conf.selector = slice_str(topic_name(f->topic));
    conf.position = sql_live_position(f->live);
    if (conf.position < f->lost_below || !selection_lost(f->ctx->proto->conf.broker, &conf))
        return;
    f->lost_below = journal_position_end(broker_journal(f->ctx->proto->conf.broker));
    event_id_format(conf.position ? conf.position - 1 : 0, id);
    snprintf(text, sizeof text, "{\"after\":\"%s\"}", id);
    message_put(f, LOST, UINT64_MAX, text);
}

static void step(struct follow *f)
{
    struct http_proto *p = f->ctx->proto;
    struct errinfo info = {0};
    struct sql_error x;
    enum err e = who_take(f) ? ERR_OK : ERR_FORBIDDEN;

    f->state = STEPPING;
    f->began_ms = loop_now_ms(f->ctx->loop);
    f->failed = ERR_OK;
    f->last = SIZE_MAX;
    if (e) {
        errinfo_set(&info, e, "the token does not permit this any more");
    } else {
        lost_look(f);
        f->holds++;
        atomic_fetch_add(&p->sql_live, 1);
        e = sql_live_step(f->live, &info);
        if (!e)
            return;
        atomic_fetch_sub(&p->sql_live, 1);
        f->holds--;
    }
    f->state = SENDING;
    if (e == ERR_OVERLOADED && f->told) { /* later */
        f->result = SQL_LIVE_MORE;
        loop_timer_arm(f->ctx->loop, &f->linger, 10 * (uint64_t)p->conf.limits.live_linger_ms + 1);
        return;
    }
    x = (struct sql_error){.code = e, .message = info.text};
    fail_put(f, &x);
    start_or_fail(f);
}

/* Steps, but not more often than linger_ms. */
static void step_soon(struct follow *f)
{
    uint64_t now = loop_now_ms(f->ctx->loop), least = f->ctx->proto->conf.limits.live_linger_ms;

    f->state = SENDING;
    if (now - f->began_ms >= least)
        step(f);
    else
        loop_timer_arm(f->ctx->loop, &f->linger, least - (now - f->began_ms));
}

static void linger_over(struct loop_timer *t)
{
    step(list_entry(t, struct follow, linger));
}

/* Writer thread. */
static void wake(struct waiter *w)
{
    struct follow *f = list_entry(w, struct follow, waiter);

    if (!atomic_exchange(&f->woke, true))
        loop_post(f->ctx->loop, &f->woken);
}

static void woken_task(struct loop_task *t)
{
    struct follow *f = list_entry(t, struct follow, woken);

    atomic_store(&f->woke, false);
    f->waiting = false;
    if (!f->gone && f->state == WAITING)
        step_soon(f);
    release(f);
}

/* Sends what there is and goes on. */
static void pump(struct follow *f)
{
    if (f->gone || f->state != SENDING || loop_timer_armed(&f->linger) || !send_all(f))
        return;
    if (f->result == SQL_LIVE_ENDED || f->result == SQL_LIVE_FAILED) {
        end(f);
    } else if (f->result == SQL_LIVE_MORE) {
        step(f);
    } else {
        f->state = WAITING;
        f->holds++; /* for woken_task */
        f->waiting = sql_live_wait(f->live, &f->waiter);
        if (!f->waiting) {
            f->holds--;
            step_soon(f);
        }
    }
}

/* What belongs behind a step's rows. */
static void step_sum_up(struct follow *f)
{
    uint64_t next = sql_live_position(f->live);
    char text[64], id[EVENT_ID_LEN + 1];

    if (!f->topic && sql_live_topic(f->live))
        f->topic = topic_find(f->ctx->proto->conf.broker, slice_str(sql_live_topic(f->live)));
    event_id_format(next ? next - 1 : 0, id);
    if (f->last != SIZE_MAX && f->result != SQL_LIVE_FAILED)
        message_id(&f->out, f->last, next ? next - 1 : 0);
    if (f->result == SQL_LIVE_CAUGHT_UP && !f->told) {
        f->told = f->look = true;
        snprintf(text, sizeof text, "{\"position\":\"%s\"}", id);
        message_put(f, LIVE, next ? next - 1 : 0, text);
    } else if (f->result == SQL_LIVE_ENDED) {
        snprintf(text, sizeof text, "{\"position\":\"%s\"}", id);
        message_put(f, END, next ? next - 1 : 0, text);
    }
}

static void stepped_task(struct loop_task *t)
{
    struct follow *f = list_entry(t, struct follow, stepped);

    f->state = SENDING;
    if (!f->gone) {
        step_sum_up(f);
        start_or_fail(f);
    }
    release(f);
}

/* Comments keep a quiet connection alive. */
static void beat(struct loop_timer *t)
{
    struct follow *f = list_entry(t, struct follow, beat);

    if (f->rq && http_reply_queued(f->rq->req) == 0)
        (void)http_reply_write(f->rq->req, SLICE_LIT(":\n\n"));
    loop_timer_arm(f->ctx->loop, t, f->ctx->proto->conf.limits.heartbeat_ms);
}

/* ---- the connection ---- */

static void on_drain(struct http_req *req)
{
    struct rq *rq = http_user(req);

    if (rq && rq->state)
        pump(rq->state);
}

static void on_gone(struct rq *rq)
{
    struct follow *f = rq->state;

    rq_free(rq);
    leave(f);
}

static void ws_message(struct ws *ws, void *user, enum ws_opcode op, struct slice data)
{
    ws_close(ws, 1003, "a live query takes no messages");
}

static void ws_drain(struct ws *ws, void *user)
{
    pump(user);
}

static void ws_over(struct ws *ws, void *user, int code)
{
    leave(user);
}

static const struct ws_handler ws_live = {
    .on_message = ws_message, .on_drain = ws_drain, .on_close = ws_over, .message_max = 1024};

/* ---- the request ---- */

/* The statement: of the body, or of ?query= and ?params=. */
static enum err asked_parse(struct rq *rq, struct sql_asked *in, struct buf *b,
                            struct errinfo *info)
{
    struct slice query = rq_param(rq, "query"), params = rq_param(rq, "params");
    enum err e;

    if (http_method(rq->req) == HTTP_POST)
        return sql_asked_parse(in, http_header(rq->req, "content-type"), http_body(rq->req), info);
    if (!query.ptr)
        query = rq_param(rq, "q");
    if (!query.ptr)
        return errinfo_set(info, ERR_INVALID, "\"query\" must be the statement's text");
    e = buf_append_str(b, "{\"query\":");
    e = e ? e : json_write_string(b, query);
    if (!e && params.ptr) {
        e = buf_append_str(b, ",\"params\":");
        e = e ? e : buf_append_slice(b, params);
    }
    e = e ? e : buf_append_u8(b, '}');
    return e ? errinfo_set(info, e, "the statement is too long")
             : sql_asked_parse(in, SLICE_LIT("application/json"), buf_slice(b), info);
}

/* Where to begin: as for events; a browser that comes back says what it had. */
static enum err place_take(struct rq *rq, struct follow *f, struct sql_live_conf *conf,
                           struct errinfo *info)
{
    struct reader_conf place = {.from = READ_FROM_END};
    struct slice id = http_header(rq->req, "last-event-id");
    uint64_t had = 0;
    enum err e = selection_place(rq, &place, info);

    if (e)
        return e;
    if (id.len && !event_id_parse(id, &had))
        return errinfo_set(info, ERR_INVALID, "Last-Event-ID is no event id");
    conf->from = place.from == READ_FROM_START  ? SQL_LIVE_BEGINNING
                 : place.from == READ_FROM_TIME ? SQL_LIVE_TIME
                 : place.from == READ_FROM_END  ? SQL_LIVE_END
                                                : SQL_LIVE_POSITION;
    conf->position = place.position;
    conf->time_ms = place.time_ms;
    if (id.len)
        conf->resume = had + (had < UINT64_MAX);
    f->look = conf->from == SQL_LIVE_POSITION || id.len;
    return ERR_OK;
}

static enum err follow_make(struct rq *rq, struct follow *f, struct errinfo *info)
{
    const struct http_limits *limits = &rq->ctx->proto->conf.limits;
    struct sql_live_conf conf = {.groups_max = limits->live_groups_max,
                                 .sink = &live_sink,
                                 .topic_allowed = may_read,
                                 .arg = f};
    struct sql_asked in;
    struct buf b;
    enum err e = place_take(rq, f, &conf, info);

    if (!e)
        e = rq_param_int(rq, "keep_ms", 1, INT64_MAX / 2, 0, &conf.keep_ms, info);
    if (e)
        return e;
    memset(&in, 0, sizeof in);
    buf_init(&b, LIMIT_SQL_TEXT + LIMIT_SQL_PARAM_BYTES);
    e = asked_parse(rq, &in, &b, info);
    conf.text = in.text;
    conf.params = in.params;
    conf.params_n = in.params_n;
    if (!e)
        e = sql_live_new(rq->ctx->proto->conf.sql, &conf, &f->live, info);
    sql_asked_fini(&in);
    buf_fini(&b);
    return e;
}

static struct follow *follow_new(struct rq *rq)
{
    struct follow *f = xcalloc(1, sizeof *f);
    struct slice token = auth_bearer(http_header(rq->req, "authorization"));

    if (!token.ptr)
        token = http_query(rq->req, "access_token");
    if (token.len == AUTH_TOKEN_LEN) {
        f->has_token = true;
        memcpy(f->token, token.ptr, AUTH_TOKEN_LEN);
    }
    f->ctx = rq->ctx;
    f->who = *rq->who;
    f->holds = 1;
    f->state = SENDING;
    f->stepped.fn = stepped_task;
    f->woken.fn = woken_task;
    f->waiter.wake = wake;
    loop_timer_init(&f->linger, linger_over);
    loop_timer_init(&f->beat, beat);
    rows_writer_init(&f->w, ROWS_NDJSON);
    buf_init(&f->columns, LIMIT_ROWS_ANSWER_ROW);
    buf_init(&f->out, LIMIT_SQL_LIVE_BATCH);
    rq->ctx->live_queries_n++;
    return f;
}

/* It was never begun. */
static void follow_drop(struct follow *f)
{
    f->gone = true;
    release(f);
}

static void begin(struct follow *f)
{
    metric_add(&f->ctx->metrics.live_queries, 1);
    step(f);
}

static void begin_ws(struct rq *rq, struct follow *f)
{
    http_user_set(rq->req, NULL);
    f->ws = http_upgrade_ws(rq->req, &ws_live, f, NULL);
    if (!f->ws) {
        follow_drop(f);
        rq_problem(rq, 426, "bad_upgrade", "not a proper WebSocket upgrade", NULL);
        return;
    }
    metrics_answer(&rq->ctx->metrics, (unsigned)rq->route, 101, 0);
    rq->req = NULL;
    rq_free(rq);
    begin(f);
}

/* The answer to a request begins once the statement was seen to be right; otherwise it is a problem
 * document, and browsers do not come back. */
static void start_or_fail(struct follow *f)
{
    struct rq *rq = f->rq;
    char retry[32];
    struct message m;
    enum err e = f->error;

    if (!rq || f->started) {
        pump(f);
        return;
    }
    f->started = true;
    if (f->result == SQL_LIVE_FAILED) {
        rq->gone = NULL;
        rq->state = NULL;
        memcpy(&m, f->out.ptr, sizeof m);
        buf_clear(&rq->out);
        (void)buf_append(&rq->out, f->out.ptr + sizeof m, m.len);
        leave(f);
        rq_reply_out(rq, err_http(e), MEDIA_PROBLEM);
        return;
    }
    rq_stream(rq, 200, "text/event-stream", on_drain);
    snprintf(retry, sizeof retry, "retry: %u\n\n", rq->ctx->proto->conf.limits.retry_ms);
    (void)http_reply_write(rq->req, slice_str(retry));
    loop_timer_arm(f->ctx->loop, &f->beat, f->ctx->proto->conf.limits.heartbeat_ms);
    pump(f);
}

static void begin_sse(struct rq *rq, struct follow *f)
{
    f->rq = rq;
    rq->state = f;
    rq->gone = on_gone;
    begin(f);
}

void route_sql_live(struct rq *rq)
{
    static const char *const offers[] = {"text/event-stream"};
    const struct http_limits *limits = &rq->ctx->proto->conf.limits;
    bool ws = http_method(rq->req) == HTTP_GET && http_is_ws_upgrade(rq->req);
    struct errinfo info = {0};
    struct follow *f;
    enum err e;

    if (!rq->ctx->proto->conf.sql) {
        rq_problem(rq, 501, "unsupported", "this server answers no SQL", NULL);
        return;
    }
    if (!ws && accept_pick(http_header(rq->req, "accept"), offers, 1) < 0) {
        rq_problem(rq, 406, "not_acceptable", "no acceptable media type",
                   "live queries come as text/event-stream, or over a WebSocket");
        return;
    }
    if (http_method(rq->req) == HTTP_HEAD) {
        rq_reply(rq, 200, "text/event-stream", slice_of("", 0));
        return;
    }
    if (rq->ctx->live_queries_n >= limits->live_queries_max) {
        errinfo_set(&info, ERR_OVERLOADED, "there are %u live queries, the most there may be",
                    rq->ctx->live_queries_n);
        rq_fail(rq, ERR_OVERLOADED, &info);
        return;
    }
    f = follow_new(rq);
    e = follow_make(rq, f, &info);
    if (e) {
        follow_drop(f);
        rq_fail(rq, e, &info);
    } else if (ws) {
        begin_ws(rq, f);
    } else {
        begin_sse(rq, f);
    }
}
