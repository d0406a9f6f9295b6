/* POST /events: from the request's headers to a post, and from its end to the answer. */
#include <string.h>

#include "base/assert.h"
#include "proto/http/http_int.h"

static bool media_eq(struct slice media, const char *name)
{
    const uint8_t *semi = media.len ? memchr(media.ptr, ';', media.len) : NULL;
    size_t n = strlen(name);

    if (semi)
        media.len = (size_t)(semi - media.ptr);
    while (media.len && media.ptr[media.len - 1] == ' ')
        media.len--;
    return media.len == n && strncasecmp((const char *)media.ptr, name, n) == 0;
}

/* What the body is. */
static enum err form_of(struct rq *rq, struct slice media, enum post_form *form,
                        struct errinfo *info)
{
    static const char *const lines[] = {"application/x-ndjson", "application/ndjson",
                                        "application/jsonl", "application/x-jsonlines"};

    *form = POST_JSON;
    if (slice_eq_str(media, MEDIA_JSON) && !http_header(rq->req, "ce-type").ptr)
        return ERR_OK;
    if (media_eq(media, "application/cloudevents+json"))
        *form = POST_CE;
    else if (media_eq(media, "application/cloudevents-batch+json"))
        *form = POST_CE_BATCH;
    else if (http_header(rq->req, "ce-type").ptr || http_header(rq->req, "ce-specversion").ptr)
        *form = POST_CE_BINARY;
    else if (!media.len || media_is_json(media))
        *form = POST_JSON;
    else {
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            if (media_eq(media, lines[i])) {
                *form = POST_NDJSON;
                return ERR_OK;
            }
        }
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "events are application/json, application/x-ndjson or CloudEvents, "
                           "not %.*s",
                           (int)(media.len < 80 ? media.len : 80), (const char *)media.ptr);
    }
    return ERR_OK;
}

static enum err binary_attributes(struct post *p, struct event_parser *parser, struct event *e,
                                  struct errinfo *info)
{
    struct rq *rq = list_entry(p, struct rq, post);
    const struct http_hdr *h;
    size_t n;

    if (!rq->req)
        return errinfo_set(info, ERR_CANCELLED, "the sender has gone");
    n = http_headers(rq->req, &h);
    for (size_t i = 0; i < n; i++) {
        enum err err;

        if (h[i].name.len <= 3 || strncasecmp((const char *)h[i].name.ptr, "ce-", 3) != 0)
            continue;
        err = event_binary_attribute(parser, e, slice_of(h[i].name.ptr + 3, h[i].name.len - 3),
                                     h[i].value, info);
        if (err)
            return err;
    }
    return ERR_OK;
}

static void finish(struct post *p)
{
    struct rq *rq = list_entry(p, struct rq, post);
    enum err e = p->err;

    if (!e && rq->req) {
        e = post_answer(p, &rq->out);
        if (e)
            errinfo_set(&p->info, e, "%s", err_text(e));
    }
    if (!e)
        metric_add(&rq->ctx->metrics.events_written, p->accepted);
    if (!rq->req) {
        post_fini(p);
        rq_free(rq);
        return;
    }
    post_fini(p);
    if (e) {
        rq_fail_index(rq, e, &p->info, p->index);
        return;
    }
    if (p->replayed)
        rq_header(rq, "Idempotency-Replayed", SLICE_LIT("true"));
    rq_reply_out(rq, p->written ? 201 : p->accepted ? 200 : 400, MEDIA_JSON);
}

/* The peer has gone and the body with it: what is in an append already goes on, what waits for a
 * topic ends. */
static void gone(struct rq *rq)
{
    rq->post.body = slice_of("", 0);
    rq->post.stream = rq->post.media = SLICE_NULL;
    if (rq->post.key.ptr)
        rq->post.key = slice_of("", 0); /* its hash is what counts from here */
}

static enum err idempotency_key(struct rq *rq, struct post *p, struct errinfo *info)
{
    struct slice key = http_header(rq->req, "idempotency-key");

    if (!key.ptr)
        return ERR_OK;
    if (key.len == 0 || key.len > 255)
        return errinfo_set(info, ERR_INVALID, "Idempotency-Key must have 1 to 255 bytes");
    p->key = key;
    memcpy(p->owner, rq->who->id, sizeof rq->who->id);
    return ERR_OK;
}

void route_events_post(struct rq *rq)
{
    struct slice media = http_header(rq->req, "content-type");
    struct slice coding = http_header(rq->req, "content-encoding");
    struct post *p = &rq->post;
    struct errinfo info = {0};
    enum err e;

    memset(p, 0, sizeof *p);
    p->ctx = rq->ctx;
    p->who = rq->who;
    p->body = http_body(rq->req);
    p->media = media;
    p->finish = finish;
    p->attributes = binary_attributes;
    e = form_of(rq, media, &p->form, &info);
    if (!e && coding.len && !slice_eq_str(coding, "identity"))
        e = errinfo_set(&info, ERR_UNSUPPORTED, "bodies are taken without Content-Encoding");
    if (!e)
        e = idempotency_key(rq, p, &info);
    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    p->partial = rq_param_bool(rq, "partial");
    p->stream = rq_param(rq, "stream");
    rq->gone = gone;
    post_start(p);
}
