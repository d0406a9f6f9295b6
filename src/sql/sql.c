/* Queries: their queue, the workers that run them, and the watch that ends those whose time is over.
 *
 *   sql_run -> WAITING -> (a worker takes it) RUNNING -> DONE
 *                 |  cancelled, or its time is over: the watch ends it
 *
 * A worker is started when a query waits and none is idle, up to conf.workers_max; it stays. An
 * interrupt may fall between two statements of a query and be lost, so the watch repeats it every
 * few milliseconds until the query is done. */
#include "sql/sql.h"

#include <stdlib.h>

#include "base/mem.h"
#include "sql/sql_int.h"

#define WORKERS_DEFAULT 16u
#define WORKERS_MOST    1024u
#define QUEUE_DEFAULT   256u
#define TIMEOUT_DEFAULT 60000
#define REPEAT_NS       5000000u /* interrupts */
#define LATER_NS        5000000000u

struct sql_worker {
    struct sql *sql;
    struct io_thread *thread;
};

/* ---- opening and closing ---- */

static char *dup_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

enum err sql_open(const struct sql_conf *conf, struct sql **out, struct errinfo *info)
{
    struct sql *s = xcalloc(1, sizeof *s);
    const char **dirs = xcalloc(conf->dirs_n + 1u, sizeof *dirs);
    struct sql_shard *shards = xcalloc(conf->shards_n + 1u, sizeof *shards);
    uint8_t seed[16];
    unsigned i;

    s->magic = SQL_MAGIC;
    s->conf = *conf;
    s->conf.library = dup_or_null(conf->library);
    s->conf.temp_dir = dup_or_null(conf->temp_dir);
    for (i = 0; i < conf->dirs_n; i++)
        dirs[i] = xstrdup(conf->dirs[i]);
    s->conf.dirs = dirs;
    s->conf.shards = shards;
    for (i = 0; i < conf->shards_n; i++)
        shards[i] = (struct sql_shard){xstrdup(conf->shards[i].name), xstrdup(conf->shards[i].url),
                                       dup_or_null(conf->shards[i].token),
                                       dup_or_null(conf->shards[i].ca_file)};
    if (!s->conf.workers_max)
        s->conf.workers_max = WORKERS_DEFAULT;
    if (s->conf.workers_max > WORKERS_MOST)
        s->conf.workers_max = WORKERS_MOST;
    if (!s->conf.queue_max)
        s->conf.queue_max = QUEUE_DEFAULT;
    if (!s->conf.timeout_ms)
        s->conf.timeout_ms = TIMEOUT_DEFAULT;
    s->io = broker_io(conf->broker);
    s->workers = xcalloc(s->conf.workers_max, sizeof *s->workers);
    list_init(&s->waiting);
    list_init(&s->running);
    io_mutex_init(&s->lock);
    io_cond_init(&s->idle);
    io_cond_init(&s->change);
    io_mutex_init(&s->engine_lock);
    schemas_init(s);
    io_random(s->io, seed, sizeof seed);
    kept_init(&s->shapes, &kept_shapes, seed);
    kept_init(&s->trees, &kept_trees, seed);
    s->zones = zones_new(s->io);
    *out = s;
    return ERR_OK;
}

static void interrupt(struct sql_query *q)
{
    io_mutex_lock(&q->run_lock);
    if (q->interrupt)
        q->interrupt(q->run);
    io_mutex_unlock(&q->run_lock);
}

void sql_close(struct sql **sp)
{
    struct sql *s = *sp;
    struct sql_query *q;
    unsigned i;

    if (!s)
        return;
    ASSERT(s->magic == SQL_MAGIC);
    io_mutex_lock(&s->lock);
    s->closing = true;
    list_for_each(q, &s->waiting, struct sql_query, link) atomic_store(&q->cancelled, true);
    list_for_each(q, &s->running, struct sql_query, link) atomic_store(&q->cancelled, true);
    io_cond_broadcast(&s->idle);
    io_cond_broadcast(&s->change);
    io_mutex_unlock(&s->lock);
    for (i = 0; i < s->workers_n; i++)
        io_thread_join(&s->workers[i].thread);
    if (s->watch)
        io_thread_join(&s->watch);
    engine_close(&s->engine);
    schemas_fini(s);
    kept_fini(&s->shapes);
    kept_fini(&s->trees);
    zones_free(&s->zones);
    for (i = 0; i < s->conf.dirs_n; i++)
        free((char *)(uintptr_t)s->conf.dirs[i]);
    free((void *)(uintptr_t)s->conf.dirs);
    for (i = 0; i < s->conf.shards_n; i++) {
        free((char *)(uintptr_t)s->conf.shards[i].name);
        free((char *)(uintptr_t)s->conf.shards[i].url);
        free((char *)(uintptr_t)s->conf.shards[i].token);
        free((char *)(uintptr_t)s->conf.shards[i].ca_file);
    }
    free((void *)(uintptr_t)s->conf.shards);
    free((char *)(uintptr_t)s->conf.library);
    free((char *)(uintptr_t)s->conf.temp_dir);
    free(s->workers);
    io_mutex_fini(&s->engine_lock);
    io_cond_fini(&s->idle);
    io_cond_fini(&s->change);
    io_mutex_fini(&s->lock);
    s->magic = 0;
    free(s);
    *sp = NULL;
}

/* ---- queries ---- */

static void query_unref(struct sql_query *q)
{
    if (atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    q->magic = 0;
    io_mutex_fini(&q->run_lock);
    free(q->copies);
    free(q);
}

enum err sql_shards_named(struct sql *s, const char *const *names, unsigned n,
                          struct sql_shard *out, unsigned *out_n, struct errinfo *info)
{
    unsigned i, k;

    *out_n = 0;
    if (n == 1 && !strcmp(names[0], "*")) {
        for (i = 0; i < s->conf.shards_n && i < LIMIT_SQL_SHARDS; i++)
            out[(*out_n)++] = s->conf.shards[i];
        return i ? ERR_OK : errinfo_set(info, ERR_INVALID, "this server knows no shards");
    }
    for (i = 0; i < n; i++) {
        for (k = 0; k < s->conf.shards_n && strcmp(names[i], s->conf.shards[k].name) != 0; k++)
            ;
        if (k == s->conf.shards_n)
            return errinfo_set(info, ERR_INVALID, "this server knows no shard \"%.60s\"", names[i]);
        out[(*out_n)++] = s->conf.shards[k];
    }
    return ERR_OK;
}

static size_t text_size(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static size_t copies_size(const struct sql_request *rq)
{
    size_t n = rq->text.len + rq->params_n * sizeof *rq->params + rq->inputs_n * sizeof *rq->inputs;
    unsigned i;

    for (i = 0; i < rq->params_n; i++)
        n += rq->params[i].bytes.len;
    for (i = 0; i < rq->shards_n; i++)
        n += sizeof *rq->shards + 64 + text_size(rq->shards[i].name) +
             text_size(rq->shards[i].url) + text_size(rq->shards[i].token) +
             text_size(rq->shards[i].ca_file);
    for (i = 0; i < rq->inputs_n; i++)
        n += rq->inputs[i].name.len + 16 + rq->inputs[i].ranges_n * sizeof *rq->inputs[i].ranges;
    return n + 64;
}

static void *put(uint8_t **at, const void *from, size_t n)
{
    uint8_t *p = *at;

    if (n)
        memcpy(p, from, n);
    *at += (n + 15) & ~(size_t)15;
    return p;
}

static const char *text_put(uint8_t **at, const char *s)
{
    return s ? put(at, s, strlen(s) + 1) : NULL;
}

static void shards_copy(struct sql_request *rq, uint8_t **at)
{
    struct sql_shard *x = put(at, rq->shards, rq->shards_n * sizeof *x);
    unsigned i;

    rq->shards = x;
    for (i = 0; i < rq->shards_n; i++)
        x[i] = (struct sql_shard){text_put(at, x[i].name), text_put(at, x[i].url),
                                  text_put(at, x[i].token), text_put(at, x[i].ca_file)};
}

void *sql_request_copy(struct sql_request *rq)
{
    size_t room = copies_size(rq) + 16 * (3 + (size_t)rq->params_n + 2 * (size_t)rq->inputs_n);
    uint8_t *copies = xmalloc(room), *at = copies;
    struct sql_param *params;
    struct sql_input *inputs;
    unsigned i;

    params = put(&at, rq->params, rq->params_n * sizeof *params);
    inputs = put(&at, rq->inputs, rq->inputs_n * sizeof *inputs);
    rq->params = params;
    rq->inputs = inputs;
    for (i = 0; i < rq->params_n; i++)
        if (params[i].type == SQL_VARCHAR || params[i].type == SQL_BLOB)
            params[i].bytes.ptr = put(&at, params[i].bytes.ptr, params[i].bytes.len);
    for (i = 0; i < rq->inputs_n; i++) {
        inputs[i].name.ptr = put(&at, inputs[i].name.ptr, inputs[i].name.len);
        inputs[i].ranges =
            put(&at, inputs[i].ranges, inputs[i].ranges_n * sizeof *inputs[i].ranges);
    }
    shards_copy(rq, &at);
    rq->text.ptr = put(&at, rq->text.ptr, rq->text.len);
    ASSERT(at <= copies + room);
    return copies;
}

enum err sql_request_check(const struct sql_request *rq, struct errinfo *info)
{
    size_t bytes = 0;
    unsigned i;

    if (rq->text.len > LIMIT_SQL_TEXT)
        return errinfo_set(info, ERR_TOO_LARGE, "the statement is longer than %u bytes",
                           LIMIT_SQL_TEXT);
    if (rq->shards_n > LIMIT_SQL_SHARDS)
        return errinfo_set(info, ERR_TOO_LARGE, "more than %u shards", LIMIT_SQL_SHARDS);
    if (rq->params_n > LIMIT_SQL_PARAMS)
        return errinfo_set(info, ERR_TOO_LARGE, "more than %u parameters", LIMIT_SQL_PARAMS);
    for (i = 0; i < rq->params_n; i++)
        if (rq->params[i].type == SQL_VARCHAR || rq->params[i].type == SQL_BLOB)
            bytes += rq->params[i].bytes.len;
    if (bytes > LIMIT_SQL_PARAM_BYTES)
        return errinfo_set(info, ERR_TOO_LARGE, "the parameters are larger than %u bytes",
                           LIMIT_SQL_PARAM_BYTES);
    return ERR_OK;
}

static struct sql_query *query_new(struct sql *s, const struct sql_request *rq)
{
    struct sql_query *q = xcalloc(1, sizeof *q);
    int64_t timeout = rq->timeout_ms ? rq->timeout_ms : s->conf.timeout_ms;

    q->magic = SQL_QUERY_MAGIC;
    q->sql = s;
    atomic_store(&q->refs, 1);
    io_mutex_init(&q->run_lock);
    q->rq = *rq;
    q->copies = sql_request_copy(&q->rq);
    q->queued_ns = io_mono_ns(s->io);
    q->deadline_ns = timeout < 0 ? UINT64_MAX : q->queued_ns + (uint64_t)timeout * 1000000u;
    return q;
}

/* ---- threads ---- */

static void worker_main(void *arg)
{
    struct sql *s = ((struct sql_worker *)arg)->sql;
    struct sql_query *q;

    if (!s->conf.foreground)
        io_thread_confine(s->conf.threads);
    io_mutex_lock(&s->lock);
    for (;;) {
        while (list_empty(&s->waiting) && !s->closing) {
            s->workers_idle++;
            io_cond_wait(&s->idle, &s->lock);
            s->workers_idle--;
        }
        if (list_empty(&s->waiting))
            break;
        q = list_entry(list_pop_front(&s->waiting), struct sql_query, link);
        s->waiting_n--;
        q->state = QUERY_RUNNING;
        list_push_back(&s->running, &q->link);
        s->running_n++;
        io_mutex_unlock(&s->lock);
        if (q->work)
            q->work(q);
        else
            query_run(q);
        io_mutex_lock(&s->lock);
        list_remove(&q->link);
        s->running_n--;
        q->state = QUERY_DONE;
        if (s->closing) /* the watch ends with the last query */
            io_cond_broadcast(&s->change);
        io_mutex_unlock(&s->lock);
        query_unref(q);
        io_mutex_lock(&s->lock);
    }
    io_mutex_unlock(&s->lock);
}

/* Ends one waiting query that is over; true if there was one. Lock held, given up meanwhile. */
static bool waiting_end(struct sql *s, uint64_t now)
{
    struct sql_query *q;

    list_for_each(q, &s->waiting, struct sql_query, link)
    {
        if (now >= q->deadline_ns)
            atomic_store(&q->timed_out, true);
        if (!atomic_load(&q->cancelled) && !atomic_load(&q->timed_out))
            continue;
        list_remove(&q->link);
        s->waiting_n--;
        q->state = QUERY_DONE;
        io_mutex_unlock(&s->lock);
        query_refuse(q);
        query_unref(q);
        io_mutex_lock(&s->lock);
        return true;
    }
    return false;
}

/* Interrupts what is over; when to look again. Lock held. */
static uint64_t running_end(struct sql *s, uint64_t now)
{
    uint64_t next = now + LATER_NS;
    struct sql_query *q;

    list_for_each(q, &s->running, struct sql_query, link)
    {
        if (now >= q->deadline_ns)
            atomic_store(&q->timed_out, true);
        if (atomic_load(&q->cancelled) || atomic_load(&q->timed_out)) {
            interrupt(q);
            next = now + REPEAT_NS < next ? now + REPEAT_NS : next;
        } else if (q->deadline_ns < next) {
            next = q->deadline_ns;
        }
    }
    list_for_each(q, &s->waiting, struct sql_query, link) if (q->deadline_ns < next) next =
        q->deadline_ns;
    return next;
}

static void watch_main(void *arg)
{
    struct sql *s = arg;
    uint64_t now, next, rest = io_mono_ns(s->io) + LATER_NS;

    io_mutex_lock(&s->lock);
    while (!s->closing || s->running_n || s->waiting_n) {
        now = io_mono_ns(s->io);
        if (waiting_end(s, now))
            continue;
        if (now >= rest) {
            io_mutex_unlock(&s->lock);
            rest = engine_rest(s);
            io_mutex_lock(&s->lock);
            rest = rest < now + LATER_NS ? rest : now + LATER_NS;
            continue;
        }
        next = running_end(s, now);
        s->watch_ns = next = rest < next ? rest : next;
        if (!s->closing || s->running_n || s->waiting_n)
            io_cond_wait_ns(&s->change, &s->lock, next > now ? next - now : 1);
    }
    io_mutex_unlock(&s->lock);
}

/* Lock held. ERR_OK also if there is one to spare. */
static enum err threads_start(struct sql *s, struct errinfo *info)
{
    struct sql_worker *w = &s->workers[s->workers_n];
    enum err e = ERR_OK;

    if (!s->watch)
        e = io_thread_start("weir-sql-watch", IO_PRIO_NORMAL, watch_main, s, &s->watch, info);
    if (e || s->workers_idle > s->waiting_n || s->workers_n == s->conf.workers_max)
        return e;
    w->sql = s;
    e = io_thread_start("weir-sql", s->conf.foreground ? IO_PRIO_NORMAL : IO_PRIO_BACKGROUND,
                        worker_main, w, &w->thread, info);
    if (!e)
        s->workers_n++;
    return s->workers_n ? ERR_OK : e;
}

static enum err query_submit(struct sql *s, struct sql_query *q, struct sql_query **out,
                             struct errinfo *info)
{
    enum err e = ERR_OK;

    io_mutex_lock(&s->lock);
    if (s->closing)
        e = errinfo_set(info, ERR_CLOSED, "the server is ending");
    else if (s->waiting_n >= s->conf.queue_max)
        e = errinfo_set(info, ERR_OVERLOADED, "%u queries wait already", s->conf.queue_max);
    else
        e = threads_start(s, info);
    if (!e) {
        if (out) {
            atomic_fetch_add(&q->refs, 1);
            *out = q;
        }
        list_push_back(&s->waiting, &q->link);
        s->waiting_n++;
        if (q->deadline_ns < s->watch_ns)
            io_cond_broadcast(&s->change);
    }
    io_mutex_unlock(&s->lock);
    if (!e)
        io_cond_signal(&s->idle); /* a worker that woke before would wait for the lock */
    if (e)
        query_unref(q);
    else
        atomic_fetch_add(&s->st_queries, 1);
    return e;
}

enum err sql_run(struct sql *s, const struct sql_request *rq, struct sql_query **out,
                 struct errinfo *info)
{
    enum err e = sql_request_check(rq, info);

    ASSERT(s->magic == SQL_MAGIC && rq->sink);
    return e ? e : query_submit(s, query_new(s, rq), out, info);
}

enum err sql_describe(struct sql *s, const struct sql_request *rq, sql_described_fn done,
                      struct sql_query **out, struct errinfo *info)
{
    enum err e = sql_request_check(rq, info);
    struct sql_query *q;

    ASSERT(s->magic == SQL_MAGIC && done);
    if (e)
        return e;
    q = query_new(s, rq);
    q->described = done;
    return query_submit(s, q, out, info);
}

enum err sql_run_work(struct sql *s, const struct sql_request *rq,
                      void (*work)(struct sql_query *q), struct sql_query **out,
                      struct errinfo *info)
{
    enum err e = sql_request_check(rq, info);
    struct sql_query *q;

    ASSERT(s->magic == SQL_MAGIC && rq->sink && work);
    if (e)
        return e;
    q = query_new(s, rq);
    q->work = work;
    return query_submit(s, q, out, info);
}

void sql_cancel(struct sql_query *q)
{
    ASSERT(q->magic == SQL_QUERY_MAGIC);
    atomic_store(&q->cancelled, true);
    io_mutex_lock(&q->sql->lock);
    if (q->state != QUERY_DONE)
        io_cond_broadcast(&q->sql->change);
    io_mutex_unlock(&q->sql->lock);
}

void sql_release(struct sql_query **q)
{
    if (*q)
        query_unref(*q);
    *q = NULL;
}

enum err sql_library_check(struct sql *s, struct errinfo *info)
{
    return library_load(s->conf.library, info);
}

const char *sql_library_version(struct sql *s)
{
    return library_version();
}

void sql_totals_get(struct sql *s, struct sql_totals *out)
{
    *out = (struct sql_totals){.queries = atomic_load(&s->st_queries),
                               .failed = atomic_load(&s->st_failed),
                               .cancelled = atomic_load(&s->st_cancelled),
                               .rows = atomic_load(&s->st_rows),
                               .rows_scanned = atomic_load(&s->st_rows_scanned),
                               .bytes_scanned = atomic_load(&s->st_bytes_scanned),
                               .loaded = library_version() != NULL};
    io_mutex_lock(&s->lock);
    out->running = s->running_n;
    out->waiting = s->waiting_n;
    io_mutex_unlock(&s->lock);
}
