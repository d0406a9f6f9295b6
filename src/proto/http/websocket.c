/* GET /events with a WebSocket upgrade: following, and publishing on the same connection.
 *
 *   to the client    an event object a message; {"lag":{…}}, {"lost":{…}}, {"error":{…}},
 *                    {"ack":{"ref":…,…}}
 *   from the client  {"type":…,"data":…,"ref":…} or {"events":[…],"ref":…}
 *
 * Answers to publishing that find the output full wait in `answers` until it drains; with what is
 * on its way to the disk they are at most publishes_max. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/http/live_int.h"

#define REF_MAX       256u
#define MESSAGE_SLACK 4096u

struct wsock {
    struct follower f; /* first: freed with it */
    struct ws *ws;     /* NULL: closed */
    struct list_head answers;
    unsigned publishes; /* on their way, or their answers waiting */
};

/* A published message on its way. */
struct publish {
    struct post post;
    struct wsock *w;
    struct list_node link; /* answers */
    struct buf answer;
    size_t ref_len, body_len;
    char ref[REF_MAX]; /* its JSON */
    uint8_t body[];
};

static struct wsock *wsock_of(struct follower *f)
{
    return list_entry(f, struct wsock, f);
}

static enum sent sent_of(enum err e)
{
    return e == ERR_OK ? SENT : e == ERR_LIMIT ? FULL : GONE;
}

static enum sent ws_event(struct follower *f, struct item *it)
{
    struct wsock *w = wsock_of(f);
    struct errinfo info;

    if (!w->ws)
        return GONE;
    if (it->text->len > (size_t)f->ctx->proto->output_max * OUTPUT_TIMES_MAX) {
        errinfo_set(&info, ERR_TOO_LARGE, "an event is larger than this server sends");
        f->kind->end(f, ERR_TOO_LARGE, &info);
        return GONE;
    }
    return sent_of(ws_send_shared(w->ws, item_frame(it)));
}

static enum sent ws_note(struct follower *f, const char *name, struct slice json)
{
    struct wsock *w = wsock_of(f);
    struct buf *b = &f->ctx->scratch;

    if (!w->ws)
        return GONE;
    buf_clear(b);
    ASSERT(buf_printf(b, "{\"%s\":%.*s}", name, (int)json.len, (const char *)json.ptr) == ERR_OK);
    return sent_of(ws_send(w->ws, WS_TEXT, buf_slice(b)));
}

static void ws_end(struct follower *f, enum err e, const struct errinfo *info)
{
    struct wsock *w = wsock_of(f);
    struct buf *b = &f->ctx->scratch;

    if (!w->ws)
        return;
    buf_clear(b);
    ASSERT(buf_append_str(b, "{\"error\":") == ERR_OK);
    ASSERT(problem_write(b, e, info, -1) == ERR_OK && buf_append_str(b, "}") == ERR_OK);
    (void)ws_send(w->ws, WS_TEXT, buf_slice(b));
    ws_close(w->ws, e == ERR_FORBIDDEN ? 1008 : e == ERR_TOO_LARGE ? 1009 : 1011, err_code(e));
}

static const struct follower_kind ws_kind = {ws_event, ws_note, ws_end};

/* ---- publishing ---- */

static void publish_free(struct publish *p)
{
    struct wsock *w = p->w;

    w->publishes--;
    buf_fini(&p->answer);
    free(p);
    follower_release(&w->f);
}

/* Sends the answers that wait; false: the output is full again. */
static bool answers_send(struct wsock *w)
{
    while (w->ws && !list_empty(&w->answers)) {
        struct publish *p = list_entry(w->answers.node.next, struct publish, link);

        if (ws_send(w->ws, WS_TEXT, buf_slice(&p->answer)) == ERR_LIMIT)
            return false;
        list_remove(&p->link);
        publish_free(p);
    }
    return true;
}

/* `{"error":{"ref":…,` and the problem's members. */
static enum err answer_error(struct buf *out, struct slice ref, enum err e,
                             const struct errinfo *info, int64_t index)
{
    struct buf problem;
    enum err err;

    buf_init(&problem, 4096);
    err = problem_write(&problem, e, info, index);
    if (!err)
        err = buf_printf(out, "{\"error\":{%s%.*s%s%.*s}", ref.len ? "\"ref\":" : "", (int)ref.len,
                         (const char *)ref.ptr, ref.len ? "," : "", (int)problem.len - 1,
                         (char *)problem.ptr + 1);
    buf_fini(&problem);
    return err;
}

static void answer(struct wsock *w, struct publish *p)
{
    list_push_back(&w->answers, &p->link);
    if (w->ws) {
        (void)answers_send(w);
        return;
    }
    list_remove(&p->link);
    publish_free(p);
}

static void publish_finish(struct post *post)
{
    struct publish *p = list_entry(post, struct publish, post);
    struct slice ref = slice_of(p->ref, p->ref_len);
    enum err e = post->err;

    if (!e) {
        e = buf_printf(&p->answer, "{\"ack\":{%s%.*s%s", ref.len ? "\"ref\":" : "", (int)ref.len,
                       (const char *)ref.ptr, ref.len ? "," : "");
        e = e ? e : post_answer_members(post, &p->answer);
        e = e ? e : buf_append_str(&p->answer, "}}");
    }
    if (!e)
        metric_add(&post->ctx->metrics.events_written, post->accepted);
    if (e) {
        buf_clear(&p->answer);
        if (!post->info.code)
            errinfo_set(&post->info, e, "%s", err_text(e));
        ASSERT(answer_error(&p->answer, ref, e, &post->info, post->index) == ERR_OK);
    }
    post_fini(post);
    answer(p->w, p);
}

/* What a message is made of. */
struct message {
    struct slice ref, events;
    const uint8_t *ref_from, *ref_to; /* the member, with a comma */
};

/* One member. False: not JSON (s->why says), or *e is set. */
static bool message_member(struct jtext_scan *s, const uint8_t *comma, struct message *m,
                           enum err *e, struct errinfo *info)
{
    struct slice name, raw;
    enum jtext_type type;
    const uint8_t *from;
    bool escaped;

    (void)jtext_more(s);
    from = s->p;
    if (!jtext_string(s, &name, &escaped) || !jtext_expect(s, ':', "a colon is expected") ||
        !jtext_value(s, &raw, &type))
        return false;
    if (slice_eq_str(name, "events")) {
        m->events = raw;
    } else if (slice_eq_str(name, "ref")) {
        if (m->ref.ptr || raw.len > REF_MAX || type >= JTEXT_OBJECT) {
            *e = errinfo_set(info, ERR_INVALID,
                             "\"ref\" is one string or number of at most %u bytes", REF_MAX);
            return false;
        }
        m->ref = raw;
        m->ref_from = comma ? comma : from;
        m->ref_to = s->p;
    }
    return true;
}

static enum err message_scan(struct slice text, unsigned depth, struct message *m,
                             struct errinfo *info)
{
    const uint8_t *comma = NULL;
    struct jtext_scan s;
    enum err e = ERR_OK;

    *m = (struct message){0};
    jtext_scan_init(&s, text, depth);
    if (jtext_expect(&s, '{', "an object is expected") && !jtext_accept(&s, '}')) {
        while (message_member(&s, comma, m, &e, info) && jtext_more(&s) && *s.p == ',')
            comma = s.p++;
        if (!e && !s.why)
            (void)jtext_expect(&s, '}', "a comma or } is expected");
    }
    if (e)
        return e;
    if (s.why || jtext_more(&s))
        return errinfo_set(info, ERR_CORRUPT_INPUT, "not JSON: %s, at byte %zu",
                           s.why ? s.why : "text after the object", (size_t)(s.p - s.start));
    return ERR_OK;
}

/* Copies the event without its "ref": the payload's bytes are left as they are. */
static void body_fill(struct publish *p, struct slice text, const struct message *m)
{
    struct slice from = m->events.ptr ? m->events : text;

    memcpy(p->body, from.ptr, from.len);
    p->body_len = from.len;
    if (m->ref.ptr && !m->events.ptr) {
        size_t at = (size_t)(m->ref_from - text.ptr), to = (size_t)(m->ref_to - text.ptr);

        memset(p->body + at, ' ', to - at);
        if (text.ptr[at] != ',') { /* the first member: the comma behind it goes */
            while (to < from.len && p->body[to] != ',' && p->body[to] != '}')
                to++;
            if (to < from.len && p->body[to] == ',')
                p->body[to] = ' ';
        }
    }
}

static void publish(struct wsock *w, struct slice text)
{
    const struct http_limits *l = &w->f.ctx->proto->conf.limits;
    struct errinfo info = {0};
    struct message m;
    struct publish *p;
    enum err e;

    e = message_scan(text, l->depth_max + 1, &m, &info);
    if (!e && w->publishes >= l->publishes_max)
        e = errinfo_set(&info, ERR_OVERLOADED, "%u messages wait for their answer already",
                        w->publishes);
    if (e && w->publishes >= 2 * l->publishes_max) {
        w->f.kind->end(&w->f, ERR_OVERLOADED, &info); /* it does not read its answers */
        return;
    }
    p = xcalloc(1, sizeof *p + text.len);
    p->w = w;
    w->publishes++;
    follower_hold(&w->f);
    buf_init(&p->answer, 16u << 20);
    if (m.ref.len && m.ref.len <= REF_MAX) {
        memcpy(p->ref, m.ref.ptr, m.ref.len);
        p->ref_len = m.ref.len;
    }
    p->post.ctx = w->f.ctx;
    p->post.index = -1;
    p->post.finish = publish_finish;
    if (!e && !follower_permitted(&w->f, 0, SLICE_NULL, &p->post.who))
        e = errinfo_set(&info, ERR_UNAUTHENTICATED, "the token is not valid any more");
    if (e) {
        ASSERT(answer_error(&p->answer, slice_of(p->ref, p->ref_len), e, &info, -1) == ERR_OK);
        answer(w, p);
        return;
    }
    body_fill(p, text, &m);
    p->post.form = POST_JSON;
    p->post.body = slice_of(p->body, p->body_len);
    post_start(&p->post);
}

/* ---- the connection ---- */

static void on_message(struct ws *ws, void *user, enum ws_opcode op, struct slice data)
{
    struct wsock *w = user;

    if (op == WS_TEXT)
        publish(w, data);
    else
        ws_close(ws, 1003, "messages are text");
}

static void on_drain(struct ws *ws, void *user)
{
    struct wsock *w = user;

    if (answers_send(w))
        follower_drained(&w->f);
}

static void on_close(struct ws *ws, void *user, int code)
{
    struct wsock *w = user;

    w->ws = NULL;
    while (!list_empty(&w->answers)) {
        struct publish *p = list_entry(list_pop_front(&w->answers), struct publish, link);

        publish_free(p);
    }
    follower_close(&w->f);
}

void ws_handler_fill(struct ctx *ctx)
{
    const struct http_limits *l = &ctx->proto->conf.limits;

    ctx->ws = (struct ws_handler){
        .on_message = on_message,
        .on_drain = on_drain,
        .on_close = on_close,
        .message_max = l->event_bytes_max * 4 + MESSAGE_SLACK,
        .queue_max = l->subscriber_buffer_bytes,
    };
}

void route_events_ws(struct rq *rq)
{
    struct errinfo info = {0};
    struct selection sel;
    struct wsock *w;
    bool follows = rq_param(rq, "stream").ptr || rq_param(rq, "topic").ptr;
    enum err e = ERR_OK;

    if (follows)
        e = selection_parse(rq, READ_FROM_END, &sel, &info);
    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    w = xcalloc(1, sizeof *w);
    w->f.kind = &ws_kind;
    w->f.ctx = rq->ctx;
    list_init(&w->answers);
    e = follower_init(&w->f, rq, follows ? &sel : NULL, &info);
    if (e) {
        free(w);
        rq_fail(rq, e, &info);
        return;
    }
    http_user_set(rq->req, NULL);
    w->ws = http_upgrade_ws(rq->req, &rq->ctx->ws, w, NULL);
    if (!w->ws) {
        follower_fini(&w->f);
        rq_problem(rq, 426, "bad_upgrade", "not a proper WebSocket upgrade", NULL);
        return;
    }
    metrics_answer(&rq->ctx->metrics, (unsigned)rq->route, 101, 0);
    w->f.open = &rq->ctx->metrics.ws_open;
    rq->req = NULL;
    rq_free(rq);
    follower_start(&w->f);
}
