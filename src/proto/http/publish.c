/* Writing events. See publish.h for the life of a post.
 *
 * Invariants:
 *  1. A post is finished once, on its loop.
 *  2. publisher->queue holds appends in the order of their requests; the open one, if any, is last.
 *  3. inflight counts submitted appends whose task has not run; only those are touched by the
 * writer.
 *  4. A post that waits for topics holds no append; it is parsed again from its first byte. */
#include "proto/http/publish.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/mem.h"
#include "io/io.h"
#include "proto/http/http_int.h"
#include "proto/http/render.h"

#define IDEM_NS          "idem"
#define IDLE_MAX         8u
#define IDLE_BYTES       (512u << 10) /* a larger append's memory is given back */
#define ERRORS_BYTES_MAX (4u << 20)
#define EMPTY_ERRINFO    ((struct errinfo){.code = ERR_OK})

struct collect {
    struct loop_task task;
    struct list_node link;  /* queue or idle */
    struct list_head posts; /* of a shared append */
    struct publisher *pub;
    struct append *append;
    struct post *own; /* of an append of one post */
    enum err err;
    size_t bytes;
};

/* A topic being created by first use, with the posts that wait for it. */
struct creation {
    struct loop_task task;
    struct list_node link;
    struct publisher *pub;
    struct post **posts;
    unsigned posts_n, posts_cap;
    enum {
        CREATION_WAITS,     /* for the broker to have room */
        CREATION_SUBMITTED, /* the broker will call back */
        CREATION_THERE,     /* nothing more to wait for */
    } state;
    int64_t tried_ms;
    enum err err;
    struct errinfo info;
    char name[EVENT_TOPIC_MAX + 1];
};

struct publisher {
    struct ctx *ctx;
    struct list_head queue, idle, creations;
    struct collect *open;
    unsigned inflight, idle_n, waiting;
};

static void pass(struct post *p);

/* ---- appends ---- */

/* Writer thread. The last of what a post waits for sends the task. */
static void collect_settled(struct collect *c)
{
    if (!c->own || atomic_fetch_sub(&c->own->pending, 1) == 1)
        loop_post(c->pub->ctx->loop, &c->task);
}

static void collect_done(struct append *a, void *arg, enum err e)
{
    struct collect *c = arg;

    c->err = e;
    collect_settled(c);
}

static void collect_run(struct loop_task *t);

static struct collect *collect_get(struct publisher *pub)
{
    struct collect *c;

    if (pub->idle_n) {
        pub->idle_n--;
        return list_entry(list_pop_front(&pub->idle), struct collect, link);
    }
    c = xcalloc(1, sizeof *c);
    c->pub = pub;
    c->task.fn = collect_run;
    c->append = append_new(pub->ctx->proto->conf.broker, collect_done, c);
    list_init(&c->posts);
    return c;
}

static void collect_put(struct collect *c)
{
    struct publisher *pub = c->pub;

    ASSERT(list_empty(&c->posts));
    c->own = NULL;
    if (pub->idle_n == IDLE_MAX || c->bytes > IDLE_BYTES) {
        append_free(&c->append);
        free(c);
        return;
    }
    append_reset(c->append);
    pub->idle_n++;
    list_push_back(&pub->idle, &c->link);
}

static void post_done(struct post *p, enum err e, const struct errinfo *info)
{
    struct ctx *ctx = p->ctx;

    if (e && !p->err) {
        p->err = e;
        if (info && info->code)
            p->info = *info;
        else
            errinfo_set(&p->info, e, "%s", err_text(e));
    }
    if (p->keyed)
        idem_leave(&ctx->proto->idem, p->key_hash);
    p->keyed = false;
    ASSERT(ctx->publisher->waiting > 0);
    ctx->publisher->waiting--;
    p->finish(p);
}

/* On the loop: everything that the append's posts waited for has happened, or failed. */
static void collect_finish(struct collect *c, enum err e, const struct errinfo *info)
{
    struct post *p = c->own;

    c->own = NULL;
    if (p) {
        if (!e)
            e = (enum err)atomic_load(&p->pending_err);
        p->append = c->append;
        post_done(p, e, info);
    }
    while (!list_empty(&c->posts)) {
        p = list_entry(list_pop_front(&c->posts), struct post, link);
        p->append = c->append;
        post_done(p, e, info);
    }
    collect_put(c);
}

static void collect_run(struct loop_task *t)
{
    struct collect *c = list_entry(t, struct collect, task);

    ASSERT(c->pub->inflight > 0);
    c->pub->inflight--;
    collect_finish(c, c->err, NULL);
}

static void idem_stored(void *arg, enum err e, const struct errinfo *info)
{
    struct collect *c = arg;

    if (e)
        atomic_store(&c->own->pending_err, (int)e);
    collect_settled(c);
}

/* Remembers the key's request; the journal keeps the order, so wherever the events are durable this
 * is too. */
static enum err idem_store(struct collect *c, struct errinfo *info)
{
    struct post *p = c->own;
    struct http_proto *proto = p->ctx->proto;
    enum err e;

    atomic_fetch_add(&p->pending, 1);
    e = kv_put(proto->conf.broker, IDEM_NS, slice_of(p->key_hash, sizeof p->key_hash),
               slice_of(p->fingerprint, sizeof p->fingerprint),
               io_wall_ms(broker_io(proto->conf.broker)) + proto->conf.limits.idempotency_window_ms,
               idem_stored, c, info);
    if (e)
        atomic_fetch_sub(&p->pending, 1);
    else
        p->keyed = true;
    return e;
}

/* Submits the queue's first append. False: not now. */
static bool submit_first(struct publisher *pub)
{
    struct collect *c = list_entry(pub->queue.node.next, struct collect, link);
    struct errinfo info = EMPTY_ERRINFO;
    enum err e;

    c->bytes = append_bytes(c->append);
    pub->inflight++;
    list_remove(&c->link); /* done() may come before append_submit returns */
    e = append_submit(c->append, true, &info);
    if (!e) {
        if (pub->open == c)
            pub->open = NULL;
        return true;
    }
    pub->inflight--;
    if (e == ERR_OVERLOADED || e == ERR_AGAIN) {
        list_insert_before(pub->queue.node.next, &c->link);
        return false;
    }
    if (pub->open == c)
        pub->open = NULL;
    if (c->own && atomic_fetch_sub(&c->own->pending, 1) > 1) {
        atomic_store(&c->own->pending_err, (int)e); /* the key's task is still to come */
        c->err = e;
        pub->inflight++;
        return true;
    }
    collect_finish(c, e, &info);
    return true;
}

static void creations_retry(struct publisher *pub);

bool publisher_flush(struct publisher *pub)
{
    creations_retry(pub);
    while (!list_empty(&pub->queue) &&
           pub->inflight < pub->ctx->proto->conf.limits.appends_inflight_max) {
        if (!submit_first(pub))
            break;
    }
    return !list_empty(&pub->creations) || (!list_empty(&pub->queue) && pub->inflight == 0);
}

struct publisher *publisher_new(struct ctx *ctx)
{
    struct publisher *pub = xcalloc(1, sizeof *pub);

    pub->ctx = ctx;
    list_init(&pub->queue);
    list_init(&pub->idle);
    list_init(&pub->creations);
    return pub;
}

bool publisher_idle(const struct publisher *pub)
{
    return pub->inflight == 0 && list_empty(&pub->creations) && list_empty(&pub->queue);
}

void publisher_free(struct publisher **pp)
{
    struct publisher *pub = *pp;

    if (!pub)
        return;
    ASSERT(publisher_idle(pub));
    while (pub->idle_n) {
        struct collect *c = list_entry(list_pop_front(&pub->idle), struct collect, link);

        pub->idle_n--;
        append_free(&c->append);
        free(c);
    }
    free(pub);
    *pp = NULL;
}

/* ---- topics by first use ---- */

static void creation_finish(struct creation *cr)
{
    list_remove(&cr->link);
    for (unsigned i = 0; i < cr->posts_n; i++) {
        struct post *p = cr->posts[i];

        if (cr->err && !p->err) {
            p->err = cr->err;
            p->info = cr->info;
        }
        if (--p->creating > 0)
            continue;
        if (p->err)
            post_done(p, ERR_OK, NULL);
        else
            pass(p);
    }
    free(cr->posts);
    free(cr);
}

static void creation_run(struct loop_task *t)
{
    creation_finish(list_entry(t, struct creation, task));
}

/* Writer thread. */
static void creation_done(void *arg, enum err e, const struct errinfo *info)
{
    struct creation *cr = arg;

    cr->err = e;
    if (info)
        cr->info = *info;
    loop_post(cr->pub->ctx->loop, &cr->task);
}

/* Asks the broker, which joins a creation that is on its way by another loop. ERR_OVERLOADED: try
 * again later. */
static enum err creation_try(struct creation *cr, struct errinfo *info)
{
    struct ctx *ctx = cr->pub->ctx;
    struct topic *t = NULL;
    enum err e;

    cr->tried_ms = (int64_t)loop_now_ms(ctx->loop);
    cr->state = CREATION_SUBMITTED; /* done may come before the call returns */
    e = topic_find_or_create(ctx->proto->conf.broker, slice_str(cr->name), &t, creation_done, cr,
                             info);
    if (e)
        cr->state = CREATION_WAITS;
    if (t) {
        cr->state = CREATION_THERE;
        topic_unref(&t);
    }
    return e;
}

/* Those that the broker had no room for, or that came into being meanwhile. */
static void creations_retry(struct publisher *pub)
{
    struct list_node *n = pub->creations.node.next;

    while (n != &pub->creations.node) {
        struct creation *cr = list_entry(n, struct creation, link);

        n = n->next;
        if (cr->state == CREATION_WAITS && (int64_t)loop_now_ms(pub->ctx->loop) > cr->tried_ms) {
            cr->err = creation_try(cr, &cr->info);
            if (cr->err == ERR_OVERLOADED)
                cr->err = ERR_OK;
            else if (cr->err)
                cr->state = CREATION_THERE;
        }
        if (cr->state == CREATION_THERE)
            creation_finish(cr);
    }
}

static struct creation *creation_find(struct publisher *pub, struct slice name)
{
    struct creation *cr;

    list_for_each(cr, &pub->creations, struct creation, link)
    {
        if (slice_eq_str(name, cr->name))
            return cr;
    }
    return NULL;
}

/* Starts to create the topic, or finds that under way. */
static enum err creation_get(struct post *p, struct slice name, struct creation **out,
                             struct errinfo *info)
{
    struct publisher *pub = p->ctx->publisher;
    struct creation *cr = *out = creation_find(pub, name);
    enum err e;

    if (cr)
        return ERR_OK;
    if (p->creates++ >= p->ctx->proto->conf.limits.topics_created_max)
        return errinfo_set(info, ERR_LIMIT, "the request would create more than %u topics",
                           p->ctx->proto->conf.limits.topics_created_max);
    cr = xcalloc(1, sizeof *cr);
    cr->pub = pub;
    cr->task.fn = creation_run;
    memcpy(cr->name, name.ptr, name.len);
    e = creation_try(cr, info);
    if (e && e != ERR_OVERLOADED) {
        free(cr);
        return e;
    }
    list_push_back(&pub->creations, &cr->link);
    *out = cr;
    return ERR_OK;
}

static enum err creation_wait(struct post *p, struct slice name, struct errinfo *info)
{
    struct creation *cr = NULL;
    enum err e = creation_get(p, name, &cr, info);

    if (e)
        return e;
    if (cr->posts_n && cr->posts[cr->posts_n - 1] == p)
        return ERR_OK; /* another event of the same pass waits for it */
    if (cr->posts_n == cr->posts_cap) {
        cr->posts_cap = cr->posts_cap * 2 + 4;
        cr->posts = xrealloc(cr->posts, cr->posts_cap * sizeof *cr->posts);
    }
    cr->posts[cr->posts_n++] = p;
    p->creating++;
    return ERR_OK;
}

/* ---- one event ---- */

/* The record's dedup id: the event's own, or one from the request's key and the event's index. */
static struct slice dedup_id(struct post *p, const struct event *e, uint8_t room[21])
{
    if (e->dedup_id.ptr || !p->key.ptr)
        return e->dedup_id;
    room[0] = 0x01; /* text never begins with it */
    memcpy(room + 1, p->key_hash, 16);
    be32_store(room + 17, p->next_index);
    return slice_of(room, 21);
}

static struct post_place *place_new(struct post *p)
{
    if (!p->list)
        return &p->one;
    if (p->accepted == p->many_cap) {
        p->many_cap = p->many_cap ? p->many_cap * 2 : 64;
        p->many = xrealloc(p->many, p->many_cap * sizeof *p->many);
    }
    return &p->many[p->accepted];
}

static enum err take_record(struct post *p, struct collect *c, struct topic *t,
                            const struct event *e, struct errinfo *info)
{
    struct post_place *pl = place_new(p);
    uint8_t room[21];
    struct append_record r = {
        .timestamp_ms = e->timestamp_ms,
        .key = e->key,
        .value = e->value,
        .headers = e->headers,
        .headers_n = e->headers_n,
        .dedup_id = dedup_id(p, e, room),
    };
    enum err err = append_record(c->append, t, -1, &r, &pl->slot, info);

    if (err)
        return err;
    pl->topic = t;
    pl->index = p->next_index;
    p->accepted++;
    return ERR_OK;
}

/* A parsed event: permission, topic, record. */
static enum err take_event(struct post *p, struct collect *c, const struct event *e,
                           struct errinfo *info)
{
    struct ctx *ctx = p->ctx;
    struct topic *t;

    if (!p->checked && !auth_permits(p->who, AUTH_WRITE, e->topic))
        return errinfo_set(info, ERR_FORBIDDEN, "the token does not permit writing to \"%.*s\"",
                           (int)e->topic.len, (const char *)e->topic.ptr);
    if (!list_empty(&ctx->publisher->creations) && creation_find(ctx->publisher, e->topic))
        return creation_wait(p, e->topic, info); /* not before those that wait already */
    t = ctx_topic(ctx, e->topic);
    if (!t && !ctx->proto->conf.topics_auto_create)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                           (int)e->topic.len, (const char *)e->topic.ptr);
    if (!t)
        return creation_wait(p, e->topic, info);
    if (p->creating)
        return ERR_OK; /* this pass only looks for what is missing */
    return take_record(p, c, t, e, info);
}

/* Notes a bad event in partial mode. */
static void reject(struct post *p, enum err e, const struct errinfo *info)
{
    uint8_t text[JTEXT_ESCAPE_MAX(sizeof info->text)];
    uint8_t *end = jtext_escape(text, slice_str(info->text));
    enum err full;

    p->rejected++;
    full = buf_printf(&p->errors, "%s{\"index\":%u,\"code\":\"%s\",\"detail\":%.*s}",
                      p->errors.len ? "," : "", p->next_index, err_code(e), (int)(end - text),
                      (char *)text);
    if (full && !p->err) {
        p->err = ERR_LIMIT;
        errinfo_set(&p->info, ERR_LIMIT, "too many events are bad to list them");
    }
}

/* The outcome of one event of a list. True: go on. */
static bool outcome(struct post *p, enum err e, struct errinfo *info)
{
    if (e && p->partial) {
        reject(p, e, info);
    } else if (e) {
        p->err = e;
        p->index = p->next_index;
        errinfo_set(&p->info, e, "event %u: %s", p->next_index, info->text);
    }
    p->next_index++;
    return p->err == ERR_OK;
}

/* ---- a whole body ---- */

static bool too_many(struct post *p)
{
    uint32_t max = p->ctx->proto->conf.limits.batch_events_max;

    if (p->next_index < max)
        return false;
    p->err = errinfo_set(&p->info, ERR_TOO_LARGE, "more than %u events in one request", max);
    return true;
}

static void malformed(struct post *p, const struct jtext_scan *s)
{
    p->err = errinfo_set(&p->info, ERR_CORRUPT_INPUT, "not JSON: %s, at byte %zu",
                         s->why ? s->why : "text after the value", (size_t)(s->p - s->start));
}

static void take_array(struct post *p, struct collect *c, struct jtext_scan *s)
{
    struct ctx *ctx = p->ctx;

    if (jtext_accept(s, ']'))
        return;
    do {
        struct errinfo info = EMPTY_ERRINFO;
        struct jtext_scan from;
        struct slice raw;
        enum jtext_type type;
        enum err e;

        if (too_many(p))
            return;
        from = *s;
        e = event_parse(&ctx->parser, s, p->form == POST_CE_BATCH, &ctx->event, &info);
        if (!e)
            e = take_event(p, c, &ctx->event, &info);
        else if (p->partial) { /* pass the whole value; if that fails so does the request */
            *s = from;
            if (!jtext_value(s, &raw, &type)) {
                malformed(p, s);
                p->index = p->next_index;
                return;
            }
        }
        if (!outcome(p, e, &info))
            return;
    } while (jtext_accept(s, ','));
    if (!jtext_expect(s, ']', "a comma or ] is expected") || jtext_more(s))
        malformed(p, s);
}

static void take_lines(struct post *p, struct collect *c)
{
    struct ctx *ctx = p->ctx;
    const uint8_t *at = p->body.ptr, *end = p->body.len ? at + p->body.len : at;

    while (at < end) {
        const uint8_t *nl = memchr(at, '\n', (size_t)(end - at));
        struct slice line = slice_of(at, (size_t)((nl ? nl : end) - at));
        struct errinfo info = EMPTY_ERRINFO;
        struct jtext_scan s;
        enum err e;

        at = nl ? nl + 1 : end;
        jtext_scan_init(&s, line, ctx->parser.depth_max);
        if (!jtext_more(&s))
            continue;
        if (too_many(p))
            return;
        e = event_parse(&ctx->parser, &s, false, &ctx->event, &info);
        if (!e && jtext_more(&s))
            e = errinfo_set(&info, ERR_CORRUPT_INPUT, "text after the event");
        if (!e)
            e = take_event(p, c, &ctx->event, &info);
        if (!outcome(p, e, &info))
            return;
    }
}

static void take_one(struct post *p, struct collect *c, struct jtext_scan *s)
{
    struct ctx *ctx = p->ctx;
    enum err e;

    e = event_parse(&ctx->parser, s, p->form == POST_CE, &ctx->event, &p->info);
    if (!e && jtext_more(s))
        e = errinfo_set(&p->info, ERR_CORRUPT_INPUT, "text after the event");
    if (!e)
        e = take_event(p, c, &ctx->event, &p->info);
    p->err = e;
}

static void take_binary(struct post *p, struct collect *c)
{
    struct ctx *ctx = p->ctx;

    event_binary_begin(&ctx->parser, &ctx->event);
    p->err = p->attributes(p, &ctx->parser, &ctx->event, &p->info);
    if (!p->err)
        p->err = event_binary_end(&ctx->parser, &ctx->event, p->media, p->body, &p->info);
    if (!p->err)
        p->err = take_event(p, c, &ctx->event, &p->info);
}

static void take_body(struct post *p, struct collect *c)
{
    struct jtext_scan s;

    p->ctx->parser.stream_default = p->stream;
    if (p->form == POST_CE_BINARY) {
        take_binary(p, c);
        return;
    }
    if (p->form == POST_NDJSON) {
        take_lines(p, c);
        return;
    }
    jtext_scan_init(&s, p->body, p->ctx->parser.depth_max);
    if (!p->list) {
        take_one(p, c, &s);
        return;
    }
    if (jtext_expect(&s, '[', "an array is expected"))
        take_array(p, c, &s);
    else
        malformed(p, &s);
}

/* ---- posts ---- */

static struct collect *open_collect(struct publisher *pub)
{
    if (!pub->open) {
        pub->open = collect_get(pub);
        list_push_back(&pub->queue, &pub->open->link);
    }
    return pub->open;
}

/* After a pass that put the post's events into c. */
static void enqueue(struct post *p, struct collect *c)
{
    struct publisher *pub = p->ctx->publisher;
    enum err e;

    if (c == pub->open) {
        list_push_back(&c->posts, &p->link);
        if (append_bytes(c->append) >= p->ctx->proto->conf.limits.append_bytes)
            pub->open = NULL; /* full: the next post opens another */
        return;
    }
    c->own = p;
    atomic_store(&p->pending, 1); /* the append; idem_store adds its own */
    if (p->key.ptr) {
        e = idem_store(c, &p->info);
        if (e) {
            collect_finish(c, e, &p->info);
            return;
        }
    }
    pub->open = NULL; /* keeps the order */
    list_push_back(&pub->queue, &c->link);
}

static void pass_clear(struct post *p)
{
    p->next_index = p->accepted = p->rejected = 0;
    p->creating = 0;
    buf_clear(&p->errors);
}

/* Parses the body into an append. Ends in post_done, in a wait for topics, or in the queue. */
static void pass(struct post *p)
{
    struct publisher *pub = p->ctx->publisher;
    bool shared = !p->list && !p->key.ptr;
    struct collect *c = shared ? open_collect(pub) : collect_get(pub);

    pass_clear(p);
    take_body(p, c);
    p->checked = true;
    if (!p->err && p->next_index == 0 && p->list)
        p->err = errinfo_set(&p->info, ERR_INVALID, "there is no event in the request");
    if (p->err || p->creating || p->accepted == 0) {
        if (!shared)
            collect_put(c);
        if (p->creating == 0)
            post_done(p, ERR_OK, NULL);
        return; /* an error with topics on the way is answered when they have come */
    }
    enqueue(p, c);
}

/* The key's earlier request, if any, must have been the same. */
static enum err check_key(struct post *p, struct errinfo *info)
{
    static const char differs[] = "this Idempotency-Key came with another request";
    struct http_proto *proto = p->ctx->proto;
    struct buf *b = &p->ctx->scratch;
    enum err e;

    buf_clear(b);
    e = kv_get(proto->conf.broker, IDEM_NS, slice_of(p->key_hash, sizeof p->key_hash), b);
    if (!e && !slice_eq(buf_slice(b), slice_of(p->fingerprint, sizeof p->fingerprint)))
        return errinfo_set(info, ERR_IDEMPOTENCY, "%s", differs);
    if (e && e != ERR_NOT_FOUND)
        return e;
    if (!idem_enter(&proto->idem, p->key_hash, p->fingerprint))
        return errinfo_set(info, ERR_IDEMPOTENCY, "%s", differs);
    p->keyed = true;
    return ERR_OK;
}

static void hash_parts(uint8_t out[32], const struct slice *part, size_t n)
{
    EVP_MD_CTX *h = EVP_MD_CTX_new();

    ASSERT(h && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < n; i++)
        ASSERT(EVP_DigestUpdate(h, part[i].ptr, part[i].len) == 1);
    ASSERT(EVP_DigestFinal_ex(h, out, NULL) == 1);
    EVP_MD_CTX_free(h);
}

static void hash_key(struct post *p)
{
    uint8_t full[32], what[2] = {(uint8_t)p->form, p->partial};
    const struct slice key[] = {slice_of(p->owner, sizeof p->owner), p->key};
    const struct slice request[] = {slice_of(what, 2), p->stream, slice_of("", 1), p->body};

    hash_parts(full, key, 2);
    memcpy(p->key_hash, full, sizeof p->key_hash);
    hash_parts(p->fingerprint, request, 4);
}

void post_start(struct post *p)
{
    struct publisher *pub = p->ctx->publisher;
    struct jtext_scan s;
    enum err e = ERR_OK;

    p->index = -1;
    buf_init(&p->errors, ERRORS_BYTES_MAX);
    pub->waiting++;
    if (pub->waiting > p->ctx->proto->conf.limits.posts_waiting_max) {
        e = errinfo_set(&p->info, ERR_OVERLOADED, "too many requests wait for the disk");
        post_done(p, e, &p->info);
        return;
    }
    p->list = p->form == POST_NDJSON || p->form == POST_CE_BATCH;
    if (p->form == POST_JSON) {
        jtext_scan_init(&s, p->body, 1);
        p->list = jtext_more(&s) && *s.p == '[';
    }
    if (p->key.ptr) {
        hash_key(p);
        e = check_key(p, &p->info);
    }
    if (e)
        post_done(p, e, &p->info);
    else
        pass(p);
}

void post_fini(struct post *p)
{
    free(p->many);
    p->many = NULL;
    p->many_cap = 0;
    buf_fini(&p->errors);
}

/* ---- the answer ---- */

#define PLACE_BYTES 256 /* without the topic's name */

/* The members of a place object. */
static uint8_t *put_place(uint8_t *out, const struct post_place *pl, const struct append_place *at)
{
    const char *topic = topic_name(pl->topic);
    size_t n = strlen(topic);

    out = PUT_LIT(out, "\"id\":\"");
    event_id_format(at->position, (char *)out);
    out = PUT_LIT(out + EVENT_ID_LEN, "\",\"stream\":\"");
    memcpy(out, topic, n);
    out = PUT_LIT(out + n, "\",\"partition\":");
    out = jtext_i64(out, at->partition);
    out = PUT_LIT(out, ",\"offset\":");
    out = jtext_i64(out, at->offset);
    out = PUT_LIT(out, ",\"position\":");
    out = jtext_u64(out, at->position);
    return at->duplicate ? PUT_LIT(out, ",\"duplicate\":true") : out;
}

static enum err answer_place(struct post *p, const struct post_place *pl, bool first, bool object,
                             struct buf *out)
{
    uint8_t room[PLACE_BYTES + EVENT_TOPIC_MAX], *o = room;
    struct append_place at;
    enum err e = append_place(p->append, pl->slot, &at);

    if (e)
        return e;
    p->written |= !at.duplicate;
    if (!first)
        *o++ = ',';
    if (object)
        *o++ = '{';
    if (object && p->partial) {
        o = PUT_LIT(o, "\"index\":");
        o = jtext_u64(o, pl->index);
        *o++ = ',';
    }
    o = put_place(o, pl, &at);
    if (object)
        *o++ = '}';
    return buf_append(out, room, (size_t)(o - room));
}

enum err post_answer_members(struct post *p, struct buf *out)
{
    bool first = true;
    enum err e = ERR_OK;

    ASSERT(!p->err);
    if (!p->list) {
        e = answer_place(p, &p->one, true, false, out);
        p->replayed = p->key.ptr && !p->written;
        return e;
    }
    if ((e = buf_append_str(out, "\"events\":[")))
        return e;
    for (unsigned i = 0; i < p->accepted; i++) {
        struct errinfo info = EMPTY_ERRINFO;

        e = answer_place(p, &p->many[i], first, true, out);
        if (e == ERR_TOO_LARGE || (e && !p->partial))
            return e;
        first = first && e;
        if (e) { /* its topic was deleted meanwhile */
            p->next_index = p->many[i].index;
            errinfo_set(&info, e, "%s", err_text(e));
            reject(p, e, &info);
        }
    }
    if ((e = buf_append_str(out, "]")))
        return e;
    if (p->partial && p->rejected)
        e = buf_printf(out, ",\"errors\":[%.*s]", (int)p->errors.len, (char *)p->errors.ptr);
    p->replayed = p->key.ptr && !p->written && p->accepted;
    return e;
}

enum err post_answer(struct post *p, struct buf *out)
{
    enum err e = buf_append_u8(out, '{');

    if (!e)
        e = post_answer_members(p, out);
    return e ? e : buf_append_u8(out, '}');
}
