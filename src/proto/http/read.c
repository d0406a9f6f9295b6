/* GET /events: a page of events, or the wait for one.
 *
 *   route ─> turn: read and render, at most turn_bytes and scan_records at a time
 *              ├─ page full, or the end with events ──────────────> answer
 *              ├─ more work than one turn may do: again in the next turn
 *              └─ the end without events, and wait: ── woken by a commit ──> turn
 *                                                   └─ time is over ──────> answer
 *
 * Threads: the loop's, but for woken(), which runs on the writer thread and only posts the task.
 * Invariant: the task is posted at most once at a time (`posted`); while it is, the read is not
 * freed, but marked `over`. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "broker/tier.h"
#include "net/ws.h"
#include "proto/http/http_int.h"
#include "proto/http/render.h"

struct read {
    struct ctx *ctx;
    struct rq *rq;
    struct reader *reader;
    struct waiter waiter;
    struct loop_task task;
    struct loop_timer timer;
    atomic_bool posted;
    bool over, waiting, lines, lost;
    char *types; /* NULL: all */
    size_t types_len;
    uint64_t deadline_ms; /* 0: no wait */
    unsigned limit, n;
    char next[EVENT_ID_LEN + 1];
};

static void turn(struct read *r);

static void release(struct read *r)
{
    ASSERT(r->ctx->reads_n > 0);
    r->ctx->reads_n--;
    free(r->types);
    free(r);
}

static void read_free(struct read *r)
{
    r->over = true;
    loop_timer_cancel(r->ctx->loop, &r->timer);
    if (r->waiting)
        waiter_cancel(&r->waiter);
    reader_close(&r->reader);
    if (!atomic_load(&r->posted))
        release(r); /* otherwise task_run does */
}

/* The peer has gone. */
static void read_gone(struct rq *rq)
{
    read_free(rq->state);
    rq_free(rq);
}

static void task_run(struct loop_task *t)
{
    struct read *r = list_entry(t, struct read, task);

    atomic_store(&r->posted, false);
    r->waiting = false;
    if (r->over)
        release(r);
    else
        turn(r);
}

static void again(struct read *r)
{
    if (!atomic_exchange(&r->posted, true))
        loop_post(r->ctx->loop, &r->task);
}

/* Writer thread. */
static void woken(struct waiter *w)
{
    struct read *r = list_entry(w, struct read, waiter);

    again(r);
}

static void answer(struct read *r)
{
    struct rq *rq = r->rq;
    uint64_t at = reader_position(r->reader);
    struct errinfo info = {0};
    bool lines = r->lines;
    enum err e = ERR_OK;

    event_id_format(at ? at - 1 : 0, r->next);
    if (lines) {
        char *next = http_alloc(rq->req, sizeof r->next);

        if (next) {
            memcpy(next, r->next, sizeof r->next);
            rq_header(rq, "Weir-Next", slice_str(next));
        }
        if (r->lost)
            rq_header(rq, "Weir-Lost", SLICE_LIT("true"));
    } else {
        e = buf_printf(&rq->out, "],\"next\":\"%s\"%s}", r->next, r->lost ? ",\"lost\":true" : "");
    }
    metric_add(&rq->ctx->metrics.events_read, r->n);
    read_free(r);
    if (!e && rq->out.len > (size_t)rq->ctx->proto->output_max * OUTPUT_TIMES_MAX)
        e = errinfo_set(&info, ERR_TOO_LARGE, "an event is larger than this server sends");
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, lines ? MEDIA_NDJSON : MEDIA_JSON);
}

static void fail(struct read *r, enum err e, const struct errinfo *info)
{
    struct rq *rq = r->rq;

    read_free(r);
    rq_fail(rq, e, info);
}

static enum err put(struct read *r, const struct reader_record *rec)
{
    struct buf *out = &r->rq->out;
    enum err e = buf_reserve(out, render_event_max(rec) + 2);
    uint8_t *o;

    if (e)
        return e;
    o = out->ptr + out->len;
    if (!r->lines && r->n)
        *o++ = ',';
    o = render_event(o, rec, r->lines ? RENDER_ONE_LINE : 0);
    if (r->lines)
        *o++ = '\n';
    out->len = (size_t)(o - out->ptr);
    r->n++;
    return ERR_OK;
}

/* What comes next is read from the lake, which is no end of the page. */
static void wait_fetched(struct read *r)
{
    r->waiting = reader_wait(r->reader, &r->waiter);
    if (!r->waiting)
        again(r);
}

/* The end of the log without an event for this page. */
static void wait_or_answer(struct read *r)
{
    if (r->deadline_ms && loop_now_ms(r->rq->ctx->loop) < r->deadline_ms) {
        r->waiting = reader_wait(r->reader, &r->waiter);
        if (!r->waiting)
            again(r);
        return;
    }
    answer(r);
}

/* A page ends here; and well below what the server sends at once. */
static size_t page_bytes(const struct read *r)
{
    size_t most = (size_t)r->ctx->proto->output_max * OUTPUT_TIMES_MAX / 2;
    size_t conf = r->ctx->proto->conf.limits.read_bytes_max;

    return conf < most ? conf : most;
}

static void turn(struct read *r)
{
    const struct http_limits *l = &r->rq->ctx->proto->conf.limits;
    size_t from = r->rq->out.len;

    for (;;) {
        struct reader_record rec;
        struct errinfo info = {0};
        enum err e;

        if (r->n >= r->limit || r->rq->out.len >= page_bytes(r)) {
            answer(r);
            return;
        }
        if (r->rq->out.len - from >= l->turn_bytes) {
            again(r);
            return;
        }
        e = reader_next(r->reader, &rec, &info);
        if (e == ERR_OFFSET_RANGE) {
            r->lost = true;
            continue;
        }
        if (e == ERR_AGAIN) {
            if (reader_busy(r->reader))
                again(r);
            else if (reader_fetching(r->reader))
                wait_fetched(r);
            else if (r->n)
                answer(r);
            else
                wait_or_answer(r);
            return;
        }
        if (!e && types_match(slice_of(r->types, r->types_len), &rec))
            e = put(r, &rec);
        if (e) {
            fail(r, e, &info);
            return;
        }
    }
}

static void timeout(struct loop_timer *t)
{
    struct read *r = list_entry(t, struct read, timer);

    if (!atomic_load(&r->posted))
        answer(r); /* otherwise the turn to come sees that the time is over */
}

/* "5", "0.5", "500ms", "5s". */
static enum err wait_parse(struct slice v, uint32_t most, uint64_t *ms, struct errinfo *info)
{
    uint64_t whole = 0, scale = 1000, part = 0;
    size_t i = 0;

    *ms = 0;
    if (!v.ptr)
        return ERR_OK;
    if (v.len > 2 && memcmp(v.ptr + v.len - 2, "ms", 2) == 0) {
        scale = 1;
        v.len -= 2;
    } else if (v.len > 1 && v.ptr[v.len - 1] == 's') {
        v.len--;
    }
    for (; i < v.len && i < 9 && v.ptr[i] >= '0' && v.ptr[i] <= '9'; i++)
        whole = whole * 10 + (v.ptr[i] - '0');
    if (i && i < v.len && v.ptr[i] == '.' && scale == 1000) {
        unsigned unit = 100;

        for (i++; i < v.len && v.ptr[i] >= '0' && v.ptr[i] <= '9'; i++, unit /= 10)
            part += (uint64_t)(v.ptr[i] - '0') * unit;
    }
    *ms = whole * scale + part;
    if (i == 0 || i != v.len || *ms > most)
        return errinfo_set(info, ERR_INVALID,
                           "\"wait\" must be 0 to %u seconds (5, 0.5, 500ms, 5s)", most / 1000);
    return ERR_OK;
}

/* 0: JSON; above: NDJSON; -1: neither is acceptable. */
static int form_wanted(struct rq *rq)
{
    static const char *const offers[] = {MEDIA_JSON, MEDIA_NDJSON, "application/ndjson",
                                         "application/jsonl"};

    return accept_pick(http_header(rq->req, "accept"), offers, 4);
}

static enum err read_new(struct rq *rq, bool lines, struct read **out, struct errinfo *info)
{
    const struct http_limits *l = &rq->ctx->proto->conf.limits;
    struct selection sel;
    uint64_t wait_ms;
    int64_t limit;
    struct read *r;
    enum err e;

    if ((e = selection_parse(rq, READ_FROM_START, &sel, info)) ||
        (e = rq_param_int(rq, "limit", 1, l->read_events_max, l->read_events_default, &limit,
                          info)) ||
        (e = wait_parse(rq_param(rq, "wait"), l->wait_ms_max, &wait_ms, info)))
        return e;
    if (rq->ctx->reads_n >= l->reads_max)
        return errinfo_set(info, ERR_OVERLOADED, "too many reads are under way");
    r = xcalloc(1, sizeof *r);
    e = reader_open(rq->ctx->proto->conf.broker, &sel.conf, &r->reader, info);
    if (e) {
        free(r);
        return e;
    }
    rq->ctx->reads_n++;
    reader_scan_limit(r->reader, l->scan_records);
    r->ctx = rq->ctx;
    r->rq = rq;
    r->lines = lines;
    r->limit = (unsigned)limit;
    r->lost = selection_lost(rq->ctx->proto->conf.broker, &sel.conf);
    r->task.fn = task_run;
    r->waiter.wake = woken;
    loop_timer_init(&r->timer, timeout);
    if (sel.types.len) {
        r->types = xmemdup(sel.types.ptr, sel.types.len);
        r->types_len = sel.types.len;
    }
    if (wait_ms && http_method(rq->req) == HTTP_GET) {
        r->deadline_ms = loop_now_ms(rq->ctx->loop) + wait_ms;
        loop_timer_arm(rq->ctx->loop, &r->timer, wait_ms);
    }
    *out = r;
    return ERR_OK;
}

void route_events_get(struct rq *rq)
{
    struct errinfo info = {0};
    struct read *r = NULL;
    int form;
    enum err e;

    if (http_is_ws_upgrade(rq->req)) {
        route_events_ws(rq);
        return;
    }
    if (slice_eq_str(http_header(rq->req, "upgrade"), "websocket")) {
        rq_header(rq, "Sec-WebSocket-Version", SLICE_LIT("13"));
        rq_problem(rq, 426, "bad_upgrade", "not a proper WebSocket upgrade", NULL);
        return;
    }
    form = form_wanted(rq);
    if (form < 0) {
        rq_problem(rq, 406, "not_acceptable", "no acceptable media type",
                   "events come as application/json or application/x-ndjson");
        return;
    }
    e = read_new(rq, form > 0, &r, &info);
    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    rq->state = r;
    rq->gone = read_gone;
    if (!r->lines)
        (void)buf_append_str(&rq->out, "{\"events\":[");
    turn(r);
}
