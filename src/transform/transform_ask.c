/* Running a statement for a transform, and waiting for its end. Worker threads. */
#include <stdio.h>
#include <string.h>

#include "transform/transform_int.h"

#define LOOK_NS    100000000u /* how often a waiting worker looks whether all is to end */
#define TIMEOUT_MS 600000

struct ask {
    struct tform *t;
    const struct ask_rows *on;
    struct ask_error *error;
    struct io_mutex lock;
    struct io_cond cond;
    bool done; /* lock */
};

bool ask_is_data(const struct ask_error *e)
{
    /* class 22 of SQL's states, data exceptions; and what has no state of its own */
    return e->code && (!strncmp(e->sqlstate, "22", 2) || e->code == ERR_INTERNAL);
}

bool ask_is_size(const struct ask_error *e)
{
    return e->code == ERR_TIMEOUT || e->code == ERR_NO_MEMORY || e->code == ERR_LIMIT;
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct ask *a = arg;

    return !a->on || !a->on->columns || a->on->columns(a->on->arg, c);
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct ask *a = arg;

    return !a->on || !a->on->chunk || a->on->chunk(a->on->arg, c);
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct ask *a = arg;

    if (error) {
        a->error->code = error->code;
        memcpy(a->error->sqlstate, error->sqlstate, sizeof a->error->sqlstate);
        snprintf(a->error->text, sizeof a->error->text, "%s", error->message);
    }
    if (a->on && a->on->scanned)
        *a->on->scanned = stats->rows_scanned;
    io_mutex_lock(&a->lock);
    a->done = true;
    io_cond_signal(&a->cond);
    io_mutex_unlock(&a->lock);
}

static bool may_read(void *arg, struct slice topic)
{
    const struct ask *a = arg;

    return a->t->def->any_topic || slice_eq_str(topic, a->t->def->input);
}

static void wait(struct ask *a, struct sql_query *q)
{
    io_mutex_lock(&a->lock);
    while (!a->done)
        if (!io_cond_wait_ns(&a->cond, &a->lock, LOOK_NS) && atomic_load(&a->t->m->closing) && q) {
            io_mutex_unlock(&a->lock);
            sql_cancel(q);
            io_mutex_lock(&a->lock);
        }
    io_mutex_unlock(&a->lock);
}

enum err tform_ask(struct tform *t, const char *text, const struct sql_range *ranges,
                   unsigned ranges_n, const struct ask_rows *on, struct ask_error *error)
{
    static const struct sql_sink sink = {on_columns, on_chunk, on_done};
    struct ask a = {.t = t, .on = on, .error = error};
    struct sql_input in = {.name = slice_str(transform_input_name(t->def)),
                           .topic = t->input,
                           .ranges = ranges,
                           .ranges_n = ranges_n};
    struct sql_request rq = {.text = slice_str(text),
                             .timeout_ms = TIMEOUT_MS,
                             .topic_allowed = may_read,
                             .inputs = &in,
                             .inputs_n = 1,
                             .sink = &sink,
                             .arg = &a};
    struct sql_query *q = NULL;
    struct errinfo info = {0};
    enum err e;

    memset(error, 0, sizeof *error);
    io_mutex_init(&a.lock);
    io_cond_init(&a.cond);
    e = sql_run(t->m->conf.sql, &rq, &q, &info);
    if (e) {
        error->code = e;
        snprintf(error->text, sizeof error->text, "%s", info.text);
    } else {
        wait(&a, q);
    }
    sql_release(&q);
    io_cond_fini(&a.cond);
    io_mutex_fini(&a.lock);
    return error->code;
}
