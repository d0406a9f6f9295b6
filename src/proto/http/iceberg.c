/* The REST catalog: routes, and the threads that calls run on. See iceberg.h.
 *
 * Threads: at most THREADS, started when the first call comes, so that a server that nobody asks for
 * its tables has none. Lock: ice->lock guards the queue, the threads' number and stop; store and
 * catalog are opened under it and then constant. */
#include "proto/http/iceberg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "io/thread.h"
#include "proto/http/http_int.h"

#define THREADS   2u
#define QUEUE_MAX 256u
#define OUT_BYTES (300u << 20) /* of an answer: a table's metadata and some more */

struct iceberg {
    struct store_conf conf;
    struct io *io;
    struct io_mutex lock;
    struct io_cond more;
    struct ice_call *first, **last; /* lock */
    unsigned waiting, threads_n;    /* lock */
    bool stop;                      /* lock */
    struct io_thread *threads[THREADS];
    struct store *store;
    struct catalog *catalog;
};

struct iceberg *iceberg_new(const struct store_conf *conf, struct io *io)
{
    struct iceberg *ice = xcalloc(1, sizeof *ice);

    ice->conf = *conf;
    ice->io = io;
    ice->last = &ice->first;
    io_mutex_init(&ice->lock);
    io_cond_init(&ice->more);
    return ice;
}

void iceberg_free(struct iceberg **pp)
{
    struct iceberg *ice = *pp;

    if (!ice)
        return;
    io_mutex_lock(&ice->lock);
    ice->stop = true;
    io_cond_broadcast(&ice->more);
    io_mutex_unlock(&ice->lock);
    for (unsigned i = 0; i < ice->threads_n; i++)
        io_thread_join(&ice->threads[i]);
    ASSERT(!ice->first);
    catalog_close(&ice->catalog);
    store_close(&ice->store);
    io_cond_fini(&ice->more);
    io_mutex_fini(&ice->lock);
    free(ice);
    *pp = NULL;
}

/* ---- threads ---- */

/* With the lock held. */
static enum err catalog_ready(struct iceberg *ice, struct errinfo *info)
{
    enum err e = ice->store ? ERR_OK : store_open(&ice->conf, &ice->store, info);

    if (!e && !ice->catalog)
        e = catalog_dir_open(ice->store, ice->io, &ice->catalog, info);
    return e;
}

static void run_one(struct iceberg *ice, struct ice_call *c)
{
    struct errinfo info = {0};
    enum err e;

    io_mutex_lock(&ice->lock);
    e = catalog_ready(ice, &info);
    io_mutex_unlock(&ice->lock);
    c->catalog = ice->catalog;
    c->store = ice->store;
    if (e)
        ice_fail(c, e, NULL, info.text);
    else
        ice_call_run(c);
    loop_post(c->rq->ctx->loop, &c->task);
}

static void thread_main(void *arg)
{
    struct iceberg *ice = arg;

    io_mutex_lock(&ice->lock);
    while (ice->first || !ice->stop) {
        struct ice_call *c = ice->first;

        if (!c) {
            io_cond_wait(&ice->more, &ice->lock);
            continue;
        }
        ice->first = c->next;
        if (!ice->first)
            ice->last = &ice->first;
        ice->waiting--;
        io_mutex_unlock(&ice->lock);
        run_one(ice, c);
        io_mutex_lock(&ice->lock);
    }
    io_mutex_unlock(&ice->lock);
}

static enum err call_queue(struct iceberg *ice, struct ice_call *c, struct errinfo *info)
{
    enum err e = ERR_OK;

    io_mutex_lock(&ice->lock);
    if (ice->waiting == QUEUE_MAX)
        e = errinfo_set(info, ERR_OVERLOADED, "%u calls wait for the catalog", QUEUE_MAX);
    if (!e && ice->threads_n < THREADS && ice->threads_n <= ice->waiting)
        e = io_thread_start("iceberg", IO_PRIO_NORMAL, thread_main, ice,
                            &ice->threads[ice->threads_n], info);
    if (!e) {
        ice->threads_n += ice->threads_n < THREADS && ice->threads[ice->threads_n];
        *ice->last = c;
        ice->last = &c->next;
        ice->waiting++;
        io_cond_signal(&ice->more);
    }
    io_mutex_unlock(&ice->lock);
    return e;
}

/* ---- calls ---- */

static void call_free(struct ice_call *c)
{
    for (unsigned i = 0; i < c->segments; i++)
        free(c->segment[i]);
    free(c->body);
    free(c->page_token);
    free(c->none_match);
    buf_fini(&c->out);
    free(c);
}

static void release(void *arg)
{
    call_free(arg);
}

/* On the request's loop, or in the route itself. */
static void answer(struct ice_call *c)
{
    struct rq *rq = c->rq;
    struct slice body = c->out.len ? buf_slice(&c->out) : SLICE_LIT("");
    const char *media = c->out.len ? MEDIA_JSON : NULL;

    if (!rq->req) {
        rq_free(rq);
        call_free(c);
        return;
    }
    if (*c->etag)
        rq_header(rq, "ETag", slice_str(c->etag));
    if (c->status == 401)
        rq_header(rq, "WWW-Authenticate", SLICE_LIT("Bearer"));
    rq_reply(rq, c->status, media, body);
    release(c);
}

static void answer_task(struct loop_task *t)
{
    answer(list_entry(t, struct ice_call, task));
}

static char *text_of(struct slice s)
{
    char *p;

    if (!s.ptr)
        return NULL;
    p = xmalloc(s.len + 1);
    memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}

/* Cuts the path behind /iceberg/v1/ at its slashes; false: it has too many parts. */
static bool path_cut(struct ice_call *c, struct slice path)
{
    while (c->segments < ICE_SEGMENTS) {
        const uint8_t *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;
        size_t n = slash ? (size_t)(slash - path.ptr) : path.len;

        c->segment[c->segments++] = text_of(slice_of(path.ptr, n));
        if (!slash)
            return true;
        path = slice_of(slash + 1, path.len - n - 1);
    }
    return false;
}

static bool word_is(struct slice s, const char *word)
{
    return s.len == strlen(word) && strncasecmp((const char *)s.ptr, word, s.len) == 0;
}

static struct ice_call *call_new(struct rq *rq)
{
    struct ice_call *c = xcalloc(1, sizeof *c);
    struct slice body = http_body(rq->req);

    c->rq = rq;
    c->task.fn = answer_task;
    c->method = http_method(rq->req);
    c->body = text_of(body.ptr ? body : SLICE_LIT(""));
    c->body_len = body.len;
    c->page_token = text_of(rq_param(rq, "pageToken"));
    c->none_match = text_of(http_header(rq->req, "if-none-match"));
    c->purge = word_is(rq_param(rq, "purgeRequested"), "true"); /* pyiceberg says True */
    c->refs_only = word_is(rq_param(rq, "snapshots"), "refs");
    buf_init(&c->out, OUT_BYTES);
    return c;
}

void route_iceberg(struct rq *rq)
{
    struct iceberg *ice = rq->ctx->proto->iceberg;
    struct ice_call *c = call_new(rq);
    const struct principal *who;
    struct errinfo info = {0};
    enum err e;

    e = auth_who(&rq->ctx->auth, auth_bearer(http_header(rq->req, "authorization")), &who, &info);
    if (!e) {
        c->who = *who;
        c->everything = auth_permits_all(who, AUTH_ADMIN);
        e = rq_param_int(rq, "pageSize", 1, 1000000, 0, &c->page_size, &info);
    }
    if (!e && !path_cut(c, rq->seg[0]))
        e = errinfo_set(&info, ERR_NOT_FOUND, "the catalog has no such path");
    if (!e && !ice)
        e = errinfo_set(&info, ERR_NOT_FOUND, "this server has no catalog");
    e = e ? e : call_queue(ice, c, &info);
    if (e) {
        ice_fail(c, e, NULL, info.text);
        answer(c);
    }
}
