/* GET /events/stream: following by server-sent events (WHATWG HTML, "Server-sent events"). A
 * message has the event's id and, as data, the event object; comments keep a quiet connection
 * alive; notes are messages of types lag, lost and problem. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/http/live_int.h"

struct sse {
    struct follower f; /* first: freed with it */
    struct rq *rq;     /* NULL: ended */
};

static struct sse *sse_of(struct follower *f)
{
    return list_entry(f, struct sse, f);
}

static enum sent put(struct sse *s, struct slice text)
{
    if (!s->rq)
        return GONE;
    if (http_reply_write(s->rq->req, text) >= s->f.ctx->proto->output_max)
        return SENT_FULL;
    return SENT;
}

static enum sent sse_event(struct follower *f, struct item *it)
{
    struct slice text = item_sse(it);
    struct errinfo info;

    if (text.len > (size_t)f->ctx->proto->output_max * OUTPUT_TIMES_MAX) {
        errinfo_set(&info, ERR_TOO_LARGE, "an event is larger than this server sends");
        f->kind->end(f, ERR_TOO_LARGE, &info);
        return GONE;
    }
    return put(sse_of(f), text);
}

static enum sent sse_note(struct follower *f, const char *name, struct slice json)
{
    struct buf *b = &f->ctx->scratch;

    buf_clear(b);
    ASSERT(buf_printf(b, "event: %s\ndata: %.*s\n\n", name, (int)json.len,
                      (const char *)json.ptr) == ERR_OK);
    return put(sse_of(f), buf_slice(b)) == GONE ? GONE : SENT;
}

/* Ends the stream; the follower is closed in a task of its own, as its caller may be using it. */
static void sse_end(struct follower *f, enum err e, const struct errinfo *info)
{
    struct sse *s = sse_of(f);
    struct rq *rq = s->rq;
    struct buf *b = &f->ctx->scratch;
    struct http_req *req;

    if (!rq)
        return;
    buf_clear(b);
    ASSERT(buf_append_str(b, "event: problem\ndata: ") == ERR_OK);
    ASSERT(problem_write(b, e, info, -1) == ERR_OK && buf_append_str(b, "\n\n") == ERR_OK);
    (void)http_reply_write(rq->req, buf_slice(b));
    s->rq = NULL;
    req = rq->req;
    rq_free(rq);
    http_reply_end(req);
    follower_close_later(f);
}

const struct follower_kind sse_kind = {sse_event, sse_note, sse_end};

void sse_heartbeat(struct follower *f)
{
    struct sse *s = sse_of(f);

    if (s->rq && f->state != PAUSED && http_reply_queued(s->rq->req) == 0)
        (void)http_reply_write(s->rq->req, SLICE_LIT(":\n\n"));
}

static void on_drain(struct http_req *req)
{
    struct rq *rq = http_user(req);

    if (rq)
        follower_drained(&((struct sse *)rq->state)->f);
}

static void on_gone(struct rq *rq)
{
    struct sse *s = rq->state;

    s->rq = NULL;
    rq_free(rq);
    follower_close(&s->f);
}

/* Browsers send the last id that they had when they come back. */
static enum err last_event_id(struct rq *rq, struct selection *sel, struct errinfo *info)
{
    struct slice id = http_header(rq->req, "last-event-id");

    if (!id.len)
        return ERR_OK;
    if (!event_id_parse(id, &sel->conf.position))
        return errinfo_set(info, ERR_INVALID, "Last-Event-ID is no event id");
    sel->conf.position += sel->conf.position < UINT64_MAX;
    sel->conf.from = READ_FROM_POSITION;
    return ERR_OK;
}

void route_events_stream(struct rq *rq)
{
    static const char *const offers[] = {"text/event-stream"};
    struct errinfo info = {0};
    struct selection sel;
    char retry[32];
    struct sse *s;
    enum err e;

    if (accept_pick(http_header(rq->req, "accept"), offers, 1) < 0) {
        rq_problem(rq, 406, "not_acceptable", "no acceptable media type",
                   "this path answers text/event-stream");
        return;
    }
    e = selection_parse(rq, READ_FROM_END, &sel, &info);
    e = e ? e : last_event_id(rq, &sel, &info);
    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    s = xcalloc(1, sizeof *s);
    s->f.kind = &sse_kind;
    s->f.ctx = rq->ctx;
    s->rq = rq;
    e = follower_init(&s->f, rq, &sel, &info);
    if (e || http_method(rq->req) == HTTP_HEAD) {
        if (e)
            free(s);
        else
            follower_fini(&s->f);
        if (e)
            rq_fail(rq, e, &info);
        else
            rq_reply(rq, 200, "text/event-stream", slice_of("", 0));
        return;
    }
    rq->state = s;
    rq->gone = on_gone;
    s->f.open = &rq->ctx->metrics.sse_open;
    rq_stream(rq, 200, "text/event-stream", on_drain);
    snprintf(retry, sizeof retry, "retry: %u\n\n", rq->ctx->proto->conf.limits.retry_ms);
    (void)http_reply_write(rq->req, slice_str(retry));
    follower_start(&s->f);
}
