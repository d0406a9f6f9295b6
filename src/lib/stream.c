/* Unified streams: an emitter, SQL and consumers on one topic. A subscription is a thread with a consumer:
 * it waits for records in steps, so that it sees when it is to end. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/topic_name.h"
#include "lib/lib_int.h"

#define STEP_MS 100

struct weir_stream {
    struct weir *w;
    struct weir_emitter *em;
    struct lib_sink sink;
    char *topic;
};

struct weir_subscription {
    struct weir_consumer *c;
    weir_record_fn fn;
    void *arg;
    struct io_thread *thread;
    _Atomic bool stop;
};

weir_err weir_stream_open(struct weir *w, const char *topic,
                          const struct weir_stream_options *options, struct weir_stream **out,
                          struct weir_error *error)
{
    struct weir_emitter_options eo = {.size = sizeof eo};
    struct weir_stream_options o = {0};
    struct errinfo info = {0};
    struct weir_stream *s;
    weir_err failed;
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    if (!e && (!topic || !topic_name_valid(slice_str(topic))))
        e = errinfo_set(&info, ERR_TOPIC_NAME, "a stream needs the name of a topic");
    if (e)
        return lib_fail(e, &info, error);
    s = xcalloc(1, sizeof *s);
    s->w = w;
    s->topic = xstrdup(topic);
    s->sink = (struct lib_sink){.sink = o.sink,
                                .partitions = o.partitions,
                                .commit_bytes = o.commit_bytes,
                                .commit_seconds = o.commit_seconds};
    eo.source = o.source;
    eo.batch_size = o.batch_size;
    eo.flush_interval_ms = o.flush_interval_ms;
    eo.buffer_events = o.buffer_events;
    e = lib_sink_check(w, &s->sink, &info);
    e = e ? e : lib_sink_topic(w, &s->sink, slice_str(topic), &info);
    if (e) {
        weir_stream_close(&s, NULL);
        return lib_fail(e, &info, error);
    }
    failed = weir_emitter_new(w, &eo, &s->em, error);
    if (failed)
        weir_stream_close(&s, NULL);
    *out = s;
    return failed;
}

weir_err weir_stream_emit(struct weir_stream *s, const char *type, const char *key,
                          const void *data, size_t data_len, struct weir_error *error)
{
    struct errinfo info = {0};
    enum err e = ERR_OK;

    if (!type || !type[0] || strlen(type) > 255)
        e = errinfo_set(&info, ERR_INVALID, "an event needs a type of 1 to 255 bytes");
    else if (!data && data_len)
        e = errinfo_set(&info, ERR_INVALID, "the data is NULL but its length is not 0");
    e = e ? e
          : lib_emit(s->em, type, slice_str(s->topic), slice_str(key), slice_of(data, data_len),
                     &info);
    return lib_fail(e, &info, error);
}

weir_err weir_stream_flush(struct weir_stream *s, enum weir_level level, int64_t timeout_ms,
                           struct weir_error *error)
{
    weir_err failed = weir_emitter_flush(s->em, error);

    if (failed || level == WEIR_DURABLE || s->sink.sink == WEIR_SINK_NONE)
        return failed;
    return weir_lake_flush(s->w, s->topic, timeout_ms, error);
}

weir_err weir_stream_query(struct weir_stream *s, const char *sql, const struct weir_value *params,
                           size_t params_n, const struct weir_query_options *options,
                           struct weir_result **out, struct weir_error *error)
{
    return weir_query(s->w, sql, params, params_n, options, out, error);
}

weir_err weir_stream_close(struct weir_stream **sp, struct weir_error *error)
{
    struct weir_stream *s = *sp;
    weir_err e;

    if (!s)
        return lib_fail(ERR_OK, NULL, error);
    e = weir_emitter_close(&s->em, error);
    free(s->topic);
    free(s);
    *sp = NULL;
    return e;
}

/* ---- subscriptions ---- */

static void subscription_main(void *arg)
{
    struct weir_subscription *sub = arg;
    struct weir_message m;
    struct weir_error error;
    bool more = true;
    weir_err e;

    while (more && !atomic_load(&sub->stop)) {
        e = weir_consumer_next(sub->c, STEP_MS, &m, &error);
        if (e == WEIR_ERR_AGAIN)
            continue;
        more = sub->fn(sub->arg, e ? NULL : &m, e ? &error : NULL) &&
               (!e || e == WEIR_ERR_OFFSET_RANGE);
    }
}

weir_err weir_stream_subscribe(struct weir_stream *s, const struct weir_consumer_options *from,
                               weir_record_fn fn, void *arg, struct weir_subscription **out,
                               struct weir_error *error)
{
    struct weir_subscription *sub = xcalloc(1, sizeof *sub);
    struct errinfo info = {0};
    weir_err failed;
    enum err e;

    *out = NULL;
    sub->fn = fn;
    sub->arg = arg;
    failed = weir_consumer_new(s->w, s->topic, from, &sub->c, error);
    if (failed) {
        free(sub);
        return failed;
    }
    e = io_thread_start("weir-subscriber", IO_PRIO_NORMAL, subscription_main, sub, &sub->thread,
                        &info);
    if (e)
        weir_unsubscribe(&sub);
    *out = sub;
    return lib_fail(e, &info, error);
}

void weir_unsubscribe(struct weir_subscription **sp)
{
    struct weir_subscription *sub = *sp;

    *sp = NULL;
    if (!sub)
        return;
    atomic_store(&sub->stop, true);
    if (sub->thread)
        io_thread_join(&sub->thread);
    weir_consumer_close(&sub->c);
    free(sub);
}
