/* Emitters: events go into an open append under a lock; the emitter's thread hands it over when it
 * holds batch_size events or flush_interval_ms have passed. What fails is counted and told, never
 * retried: after a failure of the log nothing can be written anyway.
 *
 * e->lock guards the open append and the counters. e->order is held from taking the open append to
 * handing it over, so that appends are sequenced in the order in which they were filled, whoever
 * hands them over; it is taken before e->lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stream_name.h"
#include "io/io.h"
#include "journal/batch.h"
#include "lib/lib_int.h"

#define BATCH_DEFAULT       1000u
#define INTERVAL_MS_DEFAULT 10
#define BUFFER_DEFAULT      100000u
#define APPEND_BYTES        (4u << 20)
#define TOPICS_CACHED       64u

struct ebatch {
    struct list_node link; /* pool */
    struct weir_emitter *e;
    struct append *a;
    uint64_t events;
    uint64_t since_ns; /* when it was opened, monotonic */
};

struct weir_emitter {
    struct weir *w;
    char *source;
    size_t batch_size, buffer_events;
    size_t append_bytes; /* an append is handed over at this size */
    uint64_t interval_ns;
    void (*on_error)(void *arg, weir_err e, const char *text, uint64_t lost);
    void *arg;
    struct io_mutex order, lock;
    struct io_cond settled;
    struct io_event wake;
    struct io_thread *thread;
    bool stop;
    struct ebatch *open;
    struct list_head pool;
    struct topic *topics[TOPICS_CACHED]; /* referenced */
    unsigned topics_n;
    struct weir_emitter_stats st;
    enum err failed;
    struct errinfo why;
};

static void settle(struct ebatch *b, enum err e, const struct errinfo *why)
{
    struct weir_emitter *em = b->e;
    uint64_t n = b->events;

    if (e && em->on_error)
        em->on_error(em->arg, lib_code(e), why->text, n);
    io_mutex_lock(&em->lock);
    if (e) {
        em->st.failed += n;
        if (!em->failed) {
            em->failed = e;
            em->why = *why;
        }
    } else {
        em->st.durable += n;
    }
    list_push_back(&em->pool, &b->link);
    io_cond_broadcast(&em->settled);
    io_mutex_unlock(&em->lock);
}

static void batch_done(struct append *a, void *arg, enum err e)
{
    struct errinfo why;

    errinfo_set(&why, e, "%s", err_text(e));
    settle(arg, e, &why);
}

/* Lock held. */
static struct ebatch *batch_get(struct weir_emitter *em)
{
    struct ebatch *b;

    if (!list_empty(&em->pool)) {
        b = list_entry(list_pop_front(&em->pool), struct ebatch, link);
        append_reset(b->a);
    } else {
        b = xcalloc(1, sizeof *b);
        b->e = em;
        b->a = append_new(em->w->b, batch_done, b);
    }
    b->events = 0;
    b->since_ns = io_mono_ns(io_real());
    return b;
}

/* Hands the open append over, if there is one. */
static void hand_over(struct weir_emitter *em)
{
    struct errinfo why = {0};
    struct ebatch *b;
    enum err e;

    io_mutex_lock(&em->order);
    io_mutex_lock(&em->lock);
    b = em->open;
    em->open = NULL;
    io_mutex_unlock(&em->lock);
    e = b ? append_submit(b->a, false, &why) : ERR_OK;
    io_mutex_unlock(&em->order);
    if (e)
        settle(b, e, &why);
}

/* Lock held. */
static bool is_due(struct weir_emitter *em)
{
    return em->open &&
           (em->open->events >= em->batch_size || append_bytes(em->open->a) >= em->append_bytes);
}

/* Lock held. How long the open append still waits for more; UINT64_MAX without one. Told from the
 * append itself: a flush may have handed over the one that the thread was woken for. */
static uint64_t time_left(struct weir_emitter *em)
{
    uint64_t age;

    if (!em->open)
        return UINT64_MAX;
    age = io_mono_ns(io_real()) - em->open->since_ns;
    return is_due(em) || age >= em->interval_ns ? 0 : em->interval_ns - age;
}

static void emitter_main(void *arg)
{
    struct weir_emitter *em = arg;
    uint64_t left;
    bool stop;

    do {
        io_mutex_lock(&em->lock);
        stop = em->stop;
        left = time_left(em);
        io_mutex_unlock(&em->lock);
        if (stop || !left)
            hand_over(em);
        else
            io_event_wait(&em->wake, left); /* a new append, a full one, or the end */
    } while (!stop);
}

weir_err weir_emitter_new(struct weir *w, const struct weir_emitter_options *options,
                          struct weir_emitter **out, struct weir_error *error)
{
    struct weir_emitter_options o = {0};
    struct errinfo info = {0};
    struct weir_emitter *em;
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    if (e)
        return lib_fail(e, &info, error);
    em = xcalloc(1, sizeof *em);
    em->w = w;
    em->source = o.source ? xstrdup(o.source) : NULL;
    em->batch_size = o.batch_size ? o.batch_size : BATCH_DEFAULT;
    em->buffer_events = o.buffer_events ? o.buffer_events : BUFFER_DEFAULT;
    em->append_bytes =
        w->gather_bytes_max / 4 < APPEND_BYTES ? w->gather_bytes_max / 4 : APPEND_BYTES;
    em->interval_ns =
        (uint64_t)(o.flush_interval_ms > 0 ? o.flush_interval_ms : INTERVAL_MS_DEFAULT) * 1000000u;
    em->on_error = o.on_error;
    em->arg = o.arg;
    list_init(&em->pool);
    io_mutex_init(&em->order);
    io_mutex_init(&em->lock);
    io_cond_init(&em->settled);
    io_event_init(&em->wake);
    e = io_thread_start("weir-emitter", IO_PRIO_NORMAL, emitter_main, em, &em->thread, &info);
    if (e) {
        weir_emitter_close(&em, NULL);
        return lib_fail(e, &info, error);
    }
    *out = em;
    return lib_fail(ERR_OK, NULL, error);
}

/* The topic from the cache, or found (made if missing) and cached. */
static enum err topic_of(struct weir_emitter *em, struct slice name, struct topic **out,
                         struct errinfo *info)
{
    unsigned i;
    enum err e;

    io_mutex_lock(&em->lock);
    for (i = 0; i < em->topics_n; i++)
        if (slice_eq_str(name, topic_name(em->topics[i])) && !topic_deleted(em->topics[i])) {
            *out = topic_ref(em->topics[i]);
            io_mutex_unlock(&em->lock);
            return ERR_OK;
        }
    io_mutex_unlock(&em->lock);
    if ((e = lib_topic(em->w, name, out, info)))
        return e;
    io_mutex_lock(&em->lock);
    i = em->topics_n < TOPICS_CACHED ? em->topics_n++ : (unsigned)em->st.taken % TOPICS_CACHED;
    topic_unref(&em->topics[i]);
    em->topics[i] = topic_ref(*out);
    io_mutex_unlock(&em->lock);
    return ERR_OK;
}

static enum err name_stream(const char *type, const char *stream, char *name, struct slice *topic,
                            struct slice *key, struct errinfo *info)
{
    size_t n;

    if (!type || !type[0] || strlen(type) > 255)
        return errinfo_set(info, ERR_INVALID, "an event needs a type of 1 to 255 bytes");
    *key = SLICE_NULL;
    if (stream)
        return stream_split(slice_str(stream), topic, key)
                   ? ERR_OK
                   : errinfo_set(info, ERR_INVALID, "'%.100s' is not topic or topic:key", stream);
    n = stream_from_type(slice_str(type), name);
    *topic = slice_of(name, n);
    return n ? ERR_OK
             : errinfo_set(info, ERR_INVALID,
                           "no stream can be made from the type '%.100s': give one", type);
}

/* Lock held. The events not durable are bounded in number, those not handed over in bytes as well:
 * they are what grows while the emitter's thread waits for the disk. */
static bool is_full(struct weir_emitter *em, const struct append_record *r)
{
    uint64_t pending = em->st.taken - em->st.durable - em->st.failed;
    size_t more = record_size_max(r->key, r->value, r->headers, r->headers_n);

    return pending >= em->buffer_events ||
           (em->open && em->open->events &&
            append_bytes(em->open->a) + more > em->w->gather_bytes_max);
}

static enum err take(struct weir_emitter *em, struct topic *t, const struct append_record *r,
                     bool *wake, struct errinfo *info)
{
    struct append_slot slot;
    enum err e = ERR_LIMIT;

    io_mutex_lock(&em->lock);
    if (!is_full(em, r)) {
        if (!em->open)
            em->open = batch_get(em);
        e = append_record(em->open->a, t, -1, r, &slot, info);
    }
    if (!e) {
        em->open->events++;
        em->st.taken++;
    } else if (e == ERR_LIMIT) {
        em->st.refused++;
        e = errinfo_set(info, ERR_OVERLOADED, "the emitter's buffer is full: %zu events at most",
                        em->buffer_events);
    }
    *wake = em->open && (em->open->events == 1 || is_due(em));
    io_mutex_unlock(&em->lock);
    return e;
}

enum err lib_emit(struct weir_emitter *em, const char *type, struct slice topic, struct slice key,
                  struct slice payload, struct errinfo *info)
{
    struct record_header h[2] = {{SLICE_LIT("ce_type"), slice_str(type)},
                                 {SLICE_LIT("ce_source"), slice_str(em->source)}};
    struct append_record r = {.timestamp_ms = -1,
                              .key = key,
                              .value = payload,
                              .headers = h,
                              .headers_n = em->source ? 2 : 1};
    struct topic *t = NULL;
    bool wake = false;
    enum err e = topic_of(em, topic, &t, info);

    if (!e)
        e = take(em, t, &r, &wake, info);
    topic_unref(&t);
    if (wake)
        io_event_signal(&em->wake);
    return e;
}

weir_err weir_emit(struct weir_emitter *em, const char *type, const char *stream,
                   const void *payload, size_t payload_len, struct weir_error *error)
{
    struct slice topic = SLICE_NULL, key = SLICE_NULL;
    char name[TOPIC_NAME_MAX + 1];
    struct errinfo info = {0};
    enum err e = name_stream(type, stream, name, &topic, &key, &info);

    if (!e && !payload && payload_len)
        e = errinfo_set(&info, ERR_INVALID, "the payload is NULL but its length is not 0");
    if (!e)
        e = lib_emit(em, type, topic, key, slice_of(payload, payload_len), &info);
    return lib_fail(e, &info, error);
}

void weir_emitter_stats_get(struct weir_emitter *em, struct weir_emitter_stats *out)
{
    io_mutex_lock(&em->lock);
    *out = em->st;
    io_mutex_unlock(&em->lock);
}

weir_err weir_emitter_flush(struct weir_emitter *em, struct weir_error *error)
{
    struct errinfo why;
    uint64_t goal;
    enum err e;

    hand_over(em);
    io_mutex_lock(&em->lock);
    goal = em->st.taken;
    while (em->st.durable + em->st.failed < goal) {
        if (em->open) { /* taken meanwhile by others */
            io_mutex_unlock(&em->lock);
            hand_over(em);
            io_mutex_lock(&em->lock);
            continue;
        }
        io_cond_wait(&em->settled, &em->lock);
    }
    e = em->failed;
    why = em->why;
    em->failed = ERR_OK;
    io_mutex_unlock(&em->lock);
    return lib_fail(e, &why, error);
}

weir_err weir_emitter_close(struct weir_emitter **emp, struct weir_error *error)
{
    struct weir_emitter *em = *emp;
    weir_err e = WEIR_OK;
    unsigned i;

    if (!em)
        return lib_fail(ERR_OK, NULL, error);
    if (em->thread) {
        e = weir_emitter_flush(em, error);
        io_mutex_lock(&em->lock);
        em->stop = true;
        io_mutex_unlock(&em->lock);
        io_event_signal(&em->wake);
        io_thread_join(&em->thread);
    }
    while (!list_empty(&em->pool)) {
        struct ebatch *b = list_entry(list_pop_front(&em->pool), struct ebatch, link);

        append_free(&b->a);
        free(b);
    }
    for (i = 0; i < em->topics_n; i++)
        topic_unref(&em->topics[i]);
    io_event_fini(&em->wake);
    io_cond_fini(&em->settled);
    io_mutex_fini(&em->lock);
    io_mutex_fini(&em->order);
    free(em->source);
    free(em);
    *emp = NULL;
    return e;
}
