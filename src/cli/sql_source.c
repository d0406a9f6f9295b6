/* Where weir sql asks: POST /sql of a server, or a data directory opened in this process. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "cli/local.h"
#include "cli/sql.h"
#include "io/thread.h"
#include "server/lake.h"

#define ANSWER_MAX (256u << 20)
#define LOOK_NS    50000000u /* between looks whether Ctrl-C was pressed */

struct sql_source {
    struct client *client; /* one of the two */
    struct broker *broker;
    struct sql *sql;
    struct server_lake *lake;
    struct config *conf; /* of the lake */
    const char *name;
    const char *shards; /* names with commas; NULL: the server itself answers */
};

static void lake_miss(void *arg, const char *topic, const char *why)
{
    (void)arg;
    fprintf(
        stderr,
        "note: what only the lake has of %s is left out: %s (--set lake.url=… says where the lake "
        "is)\n",
        topic, why);
}

static enum err local_open_sql(struct sql_source *s, const struct args *a, struct errinfo *info)
{
    struct sql_conf conf = {.foreground = true, .broker = s->broker};
    enum err e;

    s->conf = xcalloc(1, sizeof *s->conf);
    config_init(s->conf);
    e = settings_read(s->conf, a, info);
    e = e ? e : server_lake_new(s->conf, &s->lake, info);
    if (e)
        return e;
    conf.cold = server_lake_cold(s->lake);
    conf.dirs = server_lake_dirs(s->lake, &conf.dirs_n);
    e = sql_open(&conf, &s->sql, info);
    e = e ? e : server_lake_open(s->lake, s->conf, s->broker, s->sql, true, NULL, info);
    if (!e)
        server_lake_missing(s->lake, s->broker, lake_miss, NULL);
    return e;
}

struct sql_source *sql_source_open(const struct args *a)
{
    struct sql_source *s = xcalloc(1, sizeof *s);
    struct errinfo info = {0};
    enum err e = ERR_OK;

    s->shards = arg_get(a, "shards");
    if (s->shards && arg_get(a, "data")) {
        fail("--shards are asked by a server, not by --data");
        sql_source_close(&s);
        return NULL;
    }
    if (!arg_get(a, "data")) {
        s->client = client_new(a);
        s->name = s->client ? client_url(s->client) : NULL;
    } else if ((s->broker = local_open(a, true))) {
        s->name = arg_get(a, "data");
        e = local_open_sql(s, a, &info);
    }
    if (e)
        fail("%s", info.text[0] ? info.text : err_text(e));
    if (e || (!s->client && !s->sql))
        sql_source_close(&s);
    return s;
}

void sql_source_close(struct sql_source **sp)
{
    struct sql_source *s = *sp;

    if (!s)
        return;
    server_lake_close(&s->lake);
    if (s->sql)
        sql_close(&s->sql);
    if (s->conf)
        config_fini(s->conf);
    free(s->conf);
    if (s->broker)
        broker_close(&s->broker);
    client_free(&s->client);
    free(s);
    *sp = NULL;
}

const char *sql_source_name(const struct sql_source *s)
{
    return s->name;
}

/* ---- a server ---- */

static void failure_of(const struct client_reply *r, struct sql_failure *f)
{
    json_t *j = json_loadb((const char *)r->body.ptr, r->body.len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *detail = json_string_value(json_object_get(j, "detail"));
    const char *title = json_string_value(json_object_get(j, "title"));
    const char *hint = json_string_value(json_object_get(j, "hint"));

    snprintf(f->message, sizeof f->message, "%s",
             detail  ? detail
             : title ? title
                     : "no reason given");
    snprintf(f->hint, sizeof f->hint, "%s",
             r->status == 401 ? "give a token with --token or WEIR_TOKEN"
             : hint           ? hint
                              : "");
    f->position = (uint32_t)json_integer_value(json_object_get(j, "position"));
    json_decref(j);
}

/* ,"shards":["a","b"] */
static bool shards_put(const struct sql_source *s, struct buf *out)
{
    const char *at = s->shards, *end;
    bool ok = !at || !buf_append_str(out, ",\"shards\":[");

    for (; ok && at && *at; at = *end ? end + 1 : end) {
        end = strchrnul(at, ',');
        ok = (at == s->shards || !buf_append_u8(out, ',')) &&
             !json_write_string(out, slice_of(at, (size_t)(end - at)));
    }
    return ok && (!at || !buf_append_u8(out, ']'));
}

static bool remote_ask(struct sql_source *s, const char *path, struct slice statement,
                       const char *accept, bool (*fn)(void *arg, struct slice piece), void *arg,
                       struct sql_failure *f)
{
    struct client_reply r = {0};
    struct buf body;
    bool ok;

    buf_init(&body, 32u << 20);
    ok = !buf_append_str(&body, "{\"query\":") && !json_write_string(&body, statement) &&
         shards_put(s, &body) && !buf_append_str(&body, "}");
    if (!ok)
        snprintf(f->message, sizeof f->message, "the statement is too long");
    ok = ok && client_ask(s->client, path, "application/json", buf_slice(&body), accept, fn, arg,
                          &sql_interrupted, &r, f->message, sizeof f->message);
    buf_fini(&body);
    f->status = r.status;
    if (ok && r.status != 200) {
        failure_of(&r, f);
        ok = false;
    }
    buf_fini(&r.body);
    return ok;
}

bool sql_source_live(struct sql_source *s, const char *path, const char *last_id,
                     struct slice statement, bool (*fn)(void *arg, struct slice piece), void *arg,
                     struct sql_failure *failure)
{
    memset(failure, 0, sizeof *failure);
    client_resume(s->client, last_id);
    return remote_ask(s, path, statement, "text/event-stream", fn, arg, failure);
}

/* ---- a directory ---- */

struct local_run {
    struct rows_writer w;
    struct buf out;
    bool (*fn)(void *arg, struct slice piece);
    void *arg;
    struct sql_failure *failure;
    struct io_mutex lock;
    struct io_cond over;
    bool done; /* lock */
    bool ok;
    enum err failed;
    struct errinfo why;
};

static bool pass(struct local_run *r)
{
    bool ok = r->out.len == 0 || r->fn(r->arg, buf_slice(&r->out));

    buf_clear(&r->out);
    return ok;
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct local_run *r = arg;

    return !(r->failed = rows_begin(&r->w, q, c, &r->out, &r->why));
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct local_run *r = arg;

    return !(r->failed = rows_chunk(&r->w, q, c, &r->out, &r->why)) && pass(r);
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct local_run *r = arg;
    struct sql_failure *f = r->failure;

    if (!error && !r->failed && !(r->failed = rows_end(&r->w, NULL, stats, &r->out)))
        r->ok = pass(r);
    if (r->failed)
        snprintf(f->message, sizeof f->message, "%s",
                 r->why.text[0] ? r->why.text : err_text(r->failed));
    else if (error) {
        snprintf(f->message, sizeof f->message, "%s", error->message);
        snprintf(f->hint, sizeof f->hint, "%s", error->hint ? error->hint : "");
        f->position = error->position;
    }
    io_mutex_lock(&r->lock);
    r->done = true;
    io_cond_signal(&r->over);
    io_mutex_unlock(&r->lock);
}

static const struct sql_sink sink = {on_columns, on_chunk, on_done};

static bool local_run(struct sql_source *s, struct slice statement, enum rows_form form,
                      bool (*fn)(void *arg, struct slice piece), void *arg, struct sql_failure *f)
{
    struct local_run r = {.fn = fn, .arg = arg, .failure = f};
    struct sql_request rq = {.text = statement, .timeout_ms = -1, .sink = &sink, .arg = &r};
    struct sql_query *q = NULL;
    struct errinfo info = {0};
    enum err e;

    rows_writer_init(&r.w, form);
    buf_init(&r.out, ANSWER_MAX);
    io_mutex_init(&r.lock);
    io_cond_init(&r.over);
    e = sql_run(s->sql, &rq, &q, &info);
    if (e)
        snprintf(f->message, sizeof f->message, "%s", info.text[0] ? info.text : err_text(e));
    io_mutex_lock(&r.lock);
    while (!e && !r.done) {
        io_cond_wait_ns(&r.over, &r.lock, LOOK_NS);
        if (sql_interrupted)
            sql_cancel(q);
    }
    io_mutex_unlock(&r.lock);
    sql_release(&q);
    rows_writer_fini(&r.w);
    buf_fini(&r.out);
    io_cond_fini(&r.over);
    io_mutex_fini(&r.lock);
    return !e && r.ok;
}

bool sql_source_run(struct sql_source *s, struct slice statement, enum rows_form form,
                    bool (*fn)(void *arg, struct slice piece), void *arg,
                    struct sql_failure *failure)
{
    memset(failure, 0, sizeof *failure);
    return s->client ? remote_ask(s, "/sql", statement, rows_form_media(form), fn, arg, failure)
                     : local_run(s, statement, form, fn, arg, failure);
}
