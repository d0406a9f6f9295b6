/* The lake in the C library: opening it beside the log, topics that go to it, and records that come
 * from it. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/journal.h"
#include "lake/lake.h"
#include "lib/lib_int.h"
#include "sql/sql.h"
#include "table/table.h"

#define MEMORY_BYTES (512u << 20) /* for Parquet, as the server's default */
#define STEP_MS      1000u

struct lib_lake {
    struct tables *tables;                      /* NULL: not opened */
    char *url, *namespace_, *endpoint, *region; /* the store's conf points to them */
};

/* ---- opening ---- */

static char *text_or_null(const char *s)
{
    return s && s[0] ? xstrdup(s) : NULL;
}

static struct lib_lake *lake_new(const struct weir_options *o)
{
    struct lib_lake *l = xcalloc(1, sizeof *l);

    l->url = text_or_null(o->lake_url);
    l->namespace_ = text_or_null(o->lake_namespace ? o->lake_namespace : "weir");
    l->endpoint = text_or_null(o->lake_s3_endpoint);
    l->region = text_or_null(o->lake_s3_region);
    return l;
}

/* Opens sql with it. */
static enum err lake_start(struct weir *w, struct lib_lake *l, bool read_only, struct errinfo *info)
{
    struct lake_conf lc = {.broker = w->b,
                           .store = {.endpoint = l->endpoint, .region = l->region},
                           .namespace_ = l->namespace_,
                           .read_only = read_only};
    struct sql_conf sc = {.broker = w->b};
    enum err e;

    if (!l->namespace_)
        return errinfo_set(info, ERR_INVALID, "the lake's namespace is empty");
    if ((e = tables_new(broker_dir(w->b), l->url, &l->tables, info)))
        return e;
    sc.cold = tables_cold(l->tables);
    sc.dirs = tables_dirs(l->tables, &sc.dirs_n);
    e = sql_open(&sc, &w->sql, info);
    return e ? e : tables_open(l->tables, &lc, MEMORY_BYTES, w->sql, info);
}

static void lake_free(struct lib_lake **lp)
{
    struct lib_lake *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    tables_close(&l->tables);
    free(l->url);
    free(l->namespace_);
    free(l->endpoint);
    free(l->region);
    free(l);
}

enum err lib_lake_open(struct weir *w, const struct weir_options *o, struct errinfo *info)
{
    if (!o->lake) {
        w->look = lake_new(o);
        return ERR_OK;
    }
    if (o->read_only)
        return errinfo_set(info, ERR_INVALID, "the lake needs a log that may be written to");
    w->lake = lake_new(o);
    return lake_start(w, w->lake, false, info);
}

enum err lib_lake_look(struct weir *w, struct errinfo *info)
{
    enum err e = lake_start(w, w->look, true, info);

    if (!e)
        return ERR_OK;
    tables_close(&w->look->tables);
    sql_close(&w->sql);
    return e;
}

void lib_lake_close(struct weir *w)
{
    lake_free(&w->lake);
    lake_free(&w->look);
}

static enum err lake_of(struct weir *w, struct lake **out, struct errinfo *info)
{
    *out = w->lake ? tables_lake(w->lake->tables) : NULL;
    return *out ? ERR_OK
                : errinfo_set(info, ERR_CONFLICT,
                              "the directory was opened without the lake: set the option lake");
}

/* ---- topics in it ---- */

enum err lib_sink_check(struct weir *w, const struct lib_sink *s, struct errinfo *info)
{
    struct lake *l;

    if ((unsigned)s->sink > WEIR_SINK_NONE)
        return errinfo_set(info, ERR_INVALID, "there is no sink %d", (int)s->sink);
    return s->sink == WEIR_SINK_NONE ? ERR_OK : lake_of(w, &l, info);
}

static enum err set_number(struct topic_conf *c, const char *name, int64_t v, struct errinfo *info)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)v);
    return v ? topic_conf_set(c, slice_str(name), slice_str(text), info) : ERR_OK;
}

static enum err conf_set(const struct lib_sink *s, struct topic_conf *c, struct errinfo *info)
{
    const char *format = s->sink == WEIR_SINK_JSONL ? "jsonl" : "iceberg";
    enum err e;

    if (s->sink == WEIR_SINK_NONE)
        return ERR_OK;
    e = topic_conf_set(c, SLICE_LIT("lake.enable"), SLICE_LIT("true"), info);
    e = e ? e : topic_conf_set(c, SLICE_LIT("lake.format"), slice_str(format), info);
    e = e ? e : set_number(c, "lake.max.bytes", s->commit_bytes, info);
    return e ? e : set_number(c, "lake.max.seconds", s->commit_seconds, info);
}

static bool same(const struct topic_conf *a, const struct topic_conf *b)
{
    return a->lake_enable == b->lake_enable && a->lake_format == b->lake_format &&
           a->lake_max_bytes == b->lake_max_bytes && a->lake_max_s == b->lake_max_s;
}

enum err lib_sink_topic(struct weir *w, const struct lib_sink *s, struct slice topic,
                        struct errinfo *info)
{
    struct topic *t = topic_find(w->b, topic);
    struct topic_conf was, c;
    enum err e;

    if (!t) {
        topic_conf_default(w->b, &c);
        e = conf_set(s, &c, info);
        e = e ? e : lib_topic_create(w, topic, s->partitions, &c, info);
        if (e != ERR_TOPIC_EXISTS || !(t = topic_find(w->b, topic)))
            return e;
    }
    topic_conf_get(t, &was);
    c = was;
    topic_unref(&t);
    e = conf_set(s, &c, info);
    if (e || same(&was, &c))
        return e;
    return topic_alter_wait(w->b, topic, 0, &c, info);
}

/* ---- flushing ---- */

enum err lib_lake_flush(struct weir *w, const char *const *topics, size_t n, int64_t timeout_ms,
                        struct errinfo *info)
{
    uint64_t *ticket = xcalloc(n + 1, sizeof *ticket), began = io_mono_ns(io_real());
    struct lake *l = NULL;
    enum err e = lake_of(w, &l, info);
    size_t i;

    for (i = 0; !e && i < n; i++)
        e = lake_request(l, slice_str(topics[i]), LAKE_FLUSH, &ticket[i], info);
    for (i = 0; !e && i < n; i++) {
        int64_t left = timeout_ms;

        if (timeout_ms >= 0)
            left -= (int64_t)((io_mono_ns(io_real()) - began) / 1000000u);
        e = lake_wait(l, slice_str(topics[i]), LAKE_FLUSH, ticket[i],
                      timeout_ms >= 0 && left < 0 ? 0 : left, info);
    }
    free(ticket);
    return e;
}

weir_err weir_lake_flush(struct weir *w, const char *topic, int64_t timeout_ms,
                         struct weir_error *error)
{
    struct errinfo info = {0};
    enum err e = topic ? lib_lake_flush(w, &topic, 1, timeout_ms, &info)
                       : errinfo_set(&info, ERR_INVALID, "a topic is needed");

    return lib_fail(e, &info, error);
}

weir_err weir_lake_status(struct weir *w, const char *topic,
                          void (*fn)(void *arg, const char *json, size_t len), void *arg,
                          struct weir_error *error)
{
    struct errinfo info = {0};
    struct lake *l = NULL;
    struct buf b;
    enum err e;

    buf_init(&b, 1u << 20);
    e = topic ? lake_of(w, &l, &info) : errinfo_set(&info, ERR_INVALID, "a topic is needed");
    e = e ? e : lake_status(l, slice_str(topic), &b, &info);
    if (!e)
        fn(arg, (const char *)b.ptr, b.len);
    buf_fini(&b);
    return lib_fail(e, &info, error);
}

/* ---- waiting ---- */

struct wake {
    struct waiter w; /* first */
    struct io_event event;
};

static void woken(struct waiter *w)
{
    io_event_signal(&((struct wake *)w)->event);
}

void lib_wait(struct weir *w, uint64_t seen, uint64_t timeout_ms)
{
    struct wake k = {.w.wake = woken};

    io_event_init(&k.event);
    if (broker_wait(w->b, seen, &k.w))
        io_event_wait(&k.event, timeout_ms * 1000000u);
    waiter_cancel(&k.w);
    io_event_fini(&k.event);
}

weir_err lib_read_fail(struct weir *w, enum err e, const struct errinfo *info,
                       struct weir_error *out)
{
    struct errinfo named = {0};

    if (e != ERR_TIER || w->lake)
        return lib_fail(e, info, out);
    errinfo_set(&named, ERR_CONFLICT, "%s: open the directory with the option lake", info->text);
    return lib_fail(ERR_CONFLICT, &named, out);
}
