/* Cursors: what is saved of them, opening, settling. See cursor_int.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "base/timefmt.h"
#include "base/topic_name.h"
#include "broker/tier.h"
#include "io/io.h"
#include "lib/cursor_int.h"
#include "lib/scan.h"

#define CONSUMER_NS  "js.consumer" /* items: the account, NUL, the stream, NUL, the consumer */
#define PLACE_NS     "js.place"
#define SPENT_NS     "js.spent"
#define GROUP_PREFIX "$JS." LIB_ACCOUNT "."
#define NAME_MAX     200u
#define ACK_WAIT_MS  30000
#define PENDING      1000
#define DELIVERIES   32767
#define MS_NS        1000000

/* ---- waiting for the broker ---- */

void lib_done_init(struct lib_done *d)
{
    *d = (struct lib_done){.e = ERR_OK};
    io_event_init(&d->event);
}

void lib_done_call(void *arg, enum err e, const struct errinfo *info)
{
    struct lib_done *d = arg;

    d->e = e;
    if (e && info)
        d->info = *info;
    io_event_signal(&d->event);
}

enum err lib_done_wait(struct lib_done *d, enum err e, struct errinfo *info)
{
    if (!e) {
        while (!io_event_wait(&d->event, UINT64_MAX))
            ;
        e = d->e;
        if (e)
            *info = d->info;
    }
    io_event_fini(&d->event);
    return e;
}

/* ---- what is saved ---- */

static struct slice key_of(const char *topic, const char *name, char out[LIMIT_KV_KEY])
{
    size_t n = lib_stream_key(topic, out);

    out[n++] = 0;
    memcpy(out + n, name, strlen(name));
    return slice_of(out, n + strlen(name));
}

static json_t *item_of(struct weir *w, const char *ns, struct slice key)
{
    struct buf v;
    json_t *o = NULL;

    buf_init(&v, LIMIT_KV_VALUE);
    if (kv_get(w->b, ns, key, &v) == ERR_OK)
        o = json_loadb((const char *)v.ptr, v.len, 0, NULL);
    buf_fini(&v);
    return o;
}

/* What of the stream matters: where it counts from, and what its subjects are. */
static enum err stream_load(struct weir_cursor *c, struct errinfo *info)
{
    char key[LIMIT_KV_KEY];
    const char *retention;
    json_t *o, *v;
    size_t i;
    enum err e = ERR_OK;

    c->first = 1;
    o = item_of(c->w, LIB_STREAM_NS, slice_of(key, lib_stream_key(topic_name(c->t), key)));
    if (o && json_integer_value(json_object_get(o, "id")) == (json_int_t)topic_id(c->t)) {
        c->stream = true;
        v = json_object_get(o, "config");
        retention = json_string_value(json_object_get(v, "retention"));
        if (retention && strcmp(retention, "limits") != 0)
            e = errinfo_set(info, ERR_CONFLICT,
                            "the stream keeps its messages until they are acknowledged (%s)",
                            retention);
        if (json_integer_value(json_object_get(v, "first_seq")) > 0)
            c->first = (uint64_t)json_integer_value(json_object_get(v, "first_seq"));
        v = json_object_get(o, "taken");
        c->any = json_is_true(json_object_get(o, "any"));
        c->taken = xcalloc(json_array_size(v) + 1, sizeof *c->taken);
        for (i = 0; i < json_array_size(v); i++)
            if (json_is_string(json_array_get(v, i)))
                c->taken[c->taken_n++] = xstrdup(json_string_value(json_array_get(v, i)));
    }
    json_decref(o);
    return e;
}

static json_t *config_of(const struct weir_cursor *c, const char *name,
                         const struct weir_cursor_options *o, int64_t start)
{
    char at[TIME_TEXT_LEN + 1];
    json_t *v = json_pack(
        "{s:s, s:s, s:s, s:I, s:i, s:s, s:i, s:i, s:i}", "durable_name", name, "name", name,
        "ack_policy", "explicit", "ack_wait", (json_int_t)c->conf.lease_ms * MS_NS, "max_deliver",
        c->conf.deliveries_max ? (int)c->conf.deliveries_max : -1, "replay_policy", "instant",
        "max_waiting", 512, "max_ack_pending", (int)c->conf.records_max, "num_replicas", 0);

    if (c->filter)
        json_object_set_new(v, "filter_subject", json_string(c->filter));
    if (c->dead_letters)
        json_object_set_new(v, "metadata",
                            json_pack("{s:s}", "weir.dead_letters", c->dead_letters));
    json_object_set_new(v, "deliver_policy",
                        json_string(o->from == WEIR_FROM_END      ? "new"
                                    : o->from == WEIR_FROM_OFFSET ? "by_start_sequence"
                                    : o->from == WEIR_FROM_TIME   ? "by_start_time"
                                                                  : "all"));
    if (o->from == WEIR_FROM_OFFSET)
        json_object_set_new(v, "opt_start_seq", json_integer(start + (json_int_t)c->first));
    if (o->from == WEIR_FROM_TIME) {
        time_format(o->at_ms, at);
        json_object_set_new(v, "opt_start_time", json_string(at));
    }
    return v;
}

static enum err item_save(struct weir_cursor *c, const char *name,
                          const struct weir_cursor_options *o, int64_t start, struct errinfo *info)
{
    char key[LIMIT_KV_KEY], *text;
    json_t *v = json_pack("{s:o, s:I, s:I, s:I}", "config", config_of(c, name, o, start), "created",
                          (json_int_t)io_wall_ms(io_real()) * MS_NS, "start",
                          start + (json_int_t)c->first, "topic", (json_int_t)topic_id(c->t));
    enum err e;

    text = json_dumps(v, JSON_COMPACT);
    json_decref(v);
    e = kv_put_wait(c->w->b, CONSUMER_NS, key_of(topic_name(c->t), name, key), slice_str(text), 0,
                    info);
    free(text);
    return e;
}

/* What a consumer has of which a cursor knows nothing here. */
static const char *foreign(const json_t *v)
{
    static const char *const unknown[] = {"deliver_subject", "priority_groups", "backoff",
                                          "filter_subjects", "headers_only",    "rate_limit_bps"};
    const char *ack = json_string_value(json_object_get(v, "ack_policy"));
    size_t i;

    for (i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (json_object_get(v, unknown[i]))
            return unknown[i];
    return ack && strcmp(ack, "explicit") == 0 ? NULL : "ack_policy";
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void conf_load(struct weir_cursor *c, const json_t *v)
{
    const json_t *meta = json_object_get(v, "metadata");
    const char *filter = json_string_value(json_object_get(v, "filter_subject")),
               *dead = json_string_value(json_object_get(meta, "weir.dead_letters")),
               *pause = json_string_value(json_object_get(v, "pause_until"));
    json_int_t wait = json_integer_value(json_object_get(v, "ack_wait")) / MS_NS,
               most = json_integer_value(json_object_get(v, "max_deliver")),
               pending = json_integer_value(json_object_get(v, "max_ack_pending"));

    c->conf.lease_ms = wait > 0 && wait < INT32_MAX ? (int32_t)wait : ACK_WAIT_MS;
    c->conf.deliveries_max = most > 0 && most <= DELIVERIES ? (int32_t)most : 0;
    c->conf.records_max =
        pending > 0 && pending < LIMIT_JS_ACK_PENDING ? (int32_t)pending : LIMIT_JS_ACK_PENDING;
    if (filter && filter[0] && strcmp(filter, ">") != 0)
        c->filter = xstrdup(filter);
    if (dead && topic_name_valid(slice_str(dead)))
        c->dead_letters = xstrdup(dead);
    if (pause && !time_parse(slice_str(pause), &c->pause_until_ms))
        c->pause_until_ms = 0;
}

static enum err agree(const struct weir_cursor *c, const char *name,
                      const struct weir_cursor_options *o, const json_t *v, struct errinfo *info)
{
    const char *what = foreign(v);

    if (what)
        return errinfo_set(info, ERR_CONFLICT, "%s of the consumer %s is not as cursors have it",
                           what, name);
    if (o->ack_wait_ms && o->ack_wait_ms != c->conf.lease_ms)
        what = "ack_wait_ms";
    else if (o->max_deliver && o->max_deliver != c->conf.deliveries_max)
        what = "max_deliver";
    else if (o->max_ack_pending && o->max_ack_pending != c->conf.records_max)
        what = "max_ack_pending";
    else if (o->filter && !same_text(o->filter, c->filter ? c->filter : ">"))
        what = "filter";
    else if (o->dead_letters && !same_text(o->dead_letters, c->dead_letters))
        what = "dead_letters";
    return what ? errinfo_set(info, ERR_CONFLICT, "the cursor %s is there with another %s", name,
                              what)
                : ERR_OK;
}

/* ---- partitions ---- */

/* The partition's cursor is there, to begin at `start` if it is made. */
static enum err part_make(struct weir_cursor *c, struct partition *p, int64_t start,
                          struct cursor **out, struct errinfo *info)
{
    struct slice group = slice_str(c->group);
    struct lib_done d;
    enum err e;

    *out = cursor_find(c->w->b, group, p);
    if (*out)
        return ERR_OK;
    lib_done_init(&d);
    e = cursor_make(c->w->b, group, p, start, &c->conf, lib_done_call, &d, info);
    e = lib_done_wait(&d, e, info);
    *out = e ? NULL : cursor_find(c->w->b, group, p);
    return e || *out ? e : errinfo_set(info, ERR_NOT_FOUND, "the cursor was deleted");
}

static void part_add(struct weir_cursor *c, struct partition *p, struct cursor *cur)
{
    c->parts = xrealloc(c->parts, ((size_t)c->parts_n + 1) * sizeof *c->parts);
    c->parts[c->parts_n++] = (struct cursor_part){p, cur};
}

/* Takes in the partitions up to the i-th, those that are there, unless the cursor was deleted. */
static enum err parts_more(struct weir_cursor *c, int32_t i, struct errinfo *info)
{
    struct cursor *made;
    struct partition *p;
    enum err e = ERR_OK;

    io_mutex_lock(&c->w->buckets_lock); /* so that it is not deleted meanwhile */
    if (!cursor_live(c->parts[0].c))
        e = errinfo_set(info, ERR_NOT_FOUND, "the cursor was deleted");
    while (!e && i >= c->parts_n && c->parts_n < topic_partitions(c->t)) {
        p = topic_partition(c->t, c->parts_n);
        e = part_make(c, p, 0, &made, info);
        if (!e)
            part_add(c, p, made);
    }
    io_mutex_unlock(&c->w->buckets_lock);
    return e;
}

enum err lib_cursor_part(struct weir_cursor *c, int32_t i, struct cursor_part *out,
                         struct errinfo *info)
{
    enum err e = ERR_OK;

    if (topic_deleted(c->t))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted");
    io_mutex_lock(&c->lock);
    if (i >= c->parts_n && c->parts_n < topic_partitions(c->t))
        e = parts_more(c, i, info);
    if (!e && i >= c->parts_n)
        e = ERR_AGAIN;
    if (!e) {
        *out = c->parts[i];
        if (cursor_live(out->c))
            cursor_ref(out->c);
        else
            e = errinfo_set(info, ERR_NOT_FOUND, "the cursor was deleted");
    }
    io_mutex_unlock(&c->lock);
    return e;
}

static enum err start_of(struct partition *p, const struct weir_cursor_options *o, int64_t *out,
                         struct errinfo *info)
{
    *out = partition_start(p);
    switch (o->from) {
    case WEIR_FROM_BEGINNING:
        return ERR_OK;
    case WEIR_FROM_END:
        *out = lib_scan_end(p);
        return ERR_OK;
    case WEIR_FROM_OFFSET:
        *out = o->offset;
        return ERR_OK;
    case WEIR_FROM_TIME:
        return partition_seek_wait(p, TIER_BY_TIME, o->at_ms, out, info);
    case WEIR_FROM_POSITION:
    case WEIR_FROM_GROUP:
        break;
    }
    return errinfo_set(info, ERR_INVALID, "a cursor cannot begin there");
}

/* ---- opening ---- */

static enum err options_check(const char *topic, const char *name,
                              const struct weir_cursor_options *o, struct errinfo *info)
{
    if (!topic || !topic_name_valid(slice_str(topic)))
        return errinfo_set(info, ERR_TOPIC_NAME, "a cursor needs the name of a topic");
    if (!lib_name_valid(name, NAME_MAX))
        return errinfo_set(info, ERR_INVALID,
                           "a cursor's name is letters, digits, - and _, %u at most", NAME_MAX);
    if (o->ack_wait_ms < 0 || o->ack_wait_ms > INT32_MAX)
        return errinfo_set(info, ERR_INVALID, "ack_wait_ms is 1 to %d", INT32_MAX);
    if (o->max_deliver < 0 || o->max_deliver > DELIVERIES)
        return errinfo_set(info, ERR_INVALID, "max_deliver is 0 to %d", DELIVERIES);
    if (o->max_ack_pending < 0 || o->max_ack_pending > LIMIT_JS_ACK_PENDING)
        return errinfo_set(info, ERR_INVALID, "max_ack_pending is 1 to %d", LIMIT_JS_ACK_PENDING);
    if (o->filter && !subject_valid(slice_str(o->filter)))
        return errinfo_set(info, ERR_INVALID, "the filter is no pattern of subjects");
    if (o->dead_letters && !topic_name_valid(slice_str(o->dead_letters)))
        return errinfo_set(info, ERR_INVALID, "dead_letters is not the name of a topic");
    return ERR_OK;
}

static void conf_of(struct weir_cursor *c, const struct weir_cursor_options *o)
{
    c->conf.lease_ms = o->ack_wait_ms ? (int32_t)o->ack_wait_ms : ACK_WAIT_MS;
    c->conf.deliveries_max = o->max_deliver;
    c->conf.records_max = o->max_ack_pending ? o->max_ack_pending : PENDING;
    c->filter = o->filter && strcmp(o->filter, ">") != 0 ? xstrdup(o->filter) : NULL;
    c->dead_letters = o->dead_letters ? xstrdup(o->dead_letters) : NULL;
}

/* Those from `asked` on begin where they begin, as those do that come while it is open. */
static enum err parts_make(struct weir_cursor *c, const struct weir_cursor_options *o,
                           int32_t asked, struct errinfo *info)
{
    int32_t i, n = topic_partitions(c->t);
    struct partition *p;
    struct cursor *made;
    int64_t start;
    enum err e = ERR_OK;

    for (i = 0; !e && i < n; i++) {
        p = topic_partition(c->t, i);
        start = 0;
        e = i < asked ? start_of(p, o, &start, info) : ERR_OK;
        e = e ? e : part_make(c, p, start, &made, info);
        if (!e)
            part_add(c, p, made);
    }
    return e;
}

static enum err load_or_make(struct weir_cursor *c, const char *name, struct weir_cursor_options *o,
                             struct errinfo *info)
{
    char key[LIMIT_KV_KEY];
    json_t *v = item_of(c->w, CONSUMER_NS, key_of(topic_name(c->t), name, key)),
           *conf = json_object_get(v, "config");
    int32_t asked = topic_partitions(c->t);
    int64_t start = 0;
    enum err e = ERR_OK;
    bool there =
        conf && json_integer_value(json_object_get(v, "topic")) == (json_int_t)topic_id(c->t);

    if (there) {
        conf_load(c, conf);
        e = agree(c, name, o, conf, info);
        o->from = WEIR_FROM_OFFSET; /* if a crash kept its cursors from being made */
        o->offset = json_integer_value(json_object_get(v, "start")) - (int64_t)c->first;
        asked = 1; /* it is the first one's; others that are missing came since */
    } else if (o->no_create) {
        e = errinfo_set(info, ERR_NOT_FOUND, "there is no cursor %s", name);
    } else {
        conf_of(c, o);
        if (o->from == WEIR_FROM_OFFSET && (topic_partitions(c->t) != 1 || o->offset < 0))
            e = errinfo_set(info, ERR_INVALID, "an offset to begin at is of one partition");
        e = e ? e : start_of(topic_partition(c->t, 0), o, &start, info);
        e = e ? e : item_save(c, name, o, start, info);
    }
    json_decref(v);
    if (c->dead_letters)
        snprintf(c->conf.dead_letters, sizeof c->conf.dead_letters, "%s", c->dead_letters);
    return e ? e : parts_make(c, o, asked, info);
}

static void close_all(struct weir_cursor *c)
{
    struct slice owner = slice_str(c->owner);
    unsigned i;

    while (c->parts_n) {
        struct cursor_part *p = &c->parts[--c->parts_n];

        cursor_release(p->c, owner, false);
        cursor_unref(&p->c);
    }
    for (i = 0; i < c->taken_n; i++)
        free(c->taken[i]);
    free(c->taken);
    free(c->parts);
    free(c->group);
    free(c->filter);
    free(c->dead_letters);
    topic_unref(&c->t);
    io_mutex_fini(&c->lock);
    free(c);
}

static enum err open_it(struct weir *w, const char *topic, const char *name,
                        struct weir_cursor_options *o, struct weir_cursor **out,
                        struct errinfo *info)
{
    struct weir_cursor *c = xcalloc(1, sizeof *c);
    size_t room = sizeof GROUP_PREFIX + strlen(name);
    enum err e = ERR_OK;

    c->w = w;
    c->group = xmalloc(room);
    snprintf(c->group, room, GROUP_PREFIX "%s", name);
    snprintf(c->owner, sizeof c->owner, "%" PRIxPTR, (uintptr_t)c);
    cursor_conf_default(&c->conf);
    io_mutex_init(&c->lock);
    if (!o->no_create)
        e = lib_topic(w, slice_str(topic), &c->t, info);
    else if (!(c->t = topic_find(w->b, slice_str(topic))))
        e = errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic %s", topic);
    e = e ? e : stream_load(c, info);
    e = e ? e : load_or_make(c, name, o, info);
    if (e)
        close_all(c);
    else
        *out = c;
    return e;
}

weir_err weir_cursor_open(struct weir *w, const char *topic, const char *name,
                          const struct weir_cursor_options *options, struct weir_cursor **out,
                          struct weir_error *error)
{
    struct weir_cursor_options o = {0};
    struct errinfo info = {0};
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    e = e ? e : options_check(topic, name, &o, &info);
    if (!e) {
        io_mutex_lock(&w->buckets_lock); /* one makes it, the others find it */
        e = open_it(w, topic, name, &o, out, &info);
        io_mutex_unlock(&w->buckets_lock);
    }
    return lib_read_fail(w, e, &info, error);
}

void weir_cursor_close(struct weir_cursor **cursor)
{
    if (*cursor)
        close_all(*cursor);
    *cursor = NULL;
}

/* ---- deleting, listing ---- */

static enum err drop(struct weir *w, struct topic *t, const char *name, struct errinfo *info)
{
    static const char *const spaces[] = {PLACE_NS, SPENT_NS, CONSUMER_NS};
    char key[LIMIT_KV_KEY], group[sizeof GROUP_PREFIX + NAME_MAX];
    struct slice k = key_of(topic_name(t), name, key);
    json_t *v = item_of(w, CONSUMER_NS, k);
    struct lib_done d;
    enum err e = v ? ERR_OK : errinfo_set(info, ERR_NOT_FOUND, "there is no cursor %s", name);
    int32_t i;

    json_decref(v);
    snprintf(group, sizeof group, GROUP_PREFIX "%s", name);
    for (i = 0; !e && i < topic_partitions(t); i++) {
        lib_done_init(&d);
        e = cursor_delete(w->b, slice_str(group), topic_partition(t, i), lib_done_call, &d, info);
        e = lib_done_wait(&d, e, info);
        if (e == ERR_NOT_FOUND)
            e = ERR_OK;
    }
    for (i = 0; !e && i < 3; i++)
        e = kv_put_wait(w->b, spaces[i], k, SLICE_NULL, 0, info);
    return e;
}

weir_err weir_cursor_delete(struct weir *w, const char *topic, const char *name,
                            struct weir_error *error)
{
    struct weir_cursor_options o = {0};
    struct errinfo info = {0};
    enum err e = options_check(topic, name, &o, &info);
    struct topic *t = e ? NULL : topic_find(w->b, slice_str(topic));

    if (!e && !t)
        e = errinfo_set(&info, ERR_TOPIC_NOT_FOUND, "there is no topic %s", topic);
    if (!e) {
        io_mutex_lock(&w->buckets_lock);
        e = drop(w, t, name, &info);
        io_mutex_unlock(&w->buckets_lock);
    }
    topic_unref(&t);
    return lib_fail(e, &info, error);
}

struct listing {
    struct slice prefix; /* of the items, with the NUL */
    json_int_t topic;    /* other items are of one that was deleted */
    bool (*fn)(void *arg, const char *name);
    void *arg;
};

static bool list_one(void *arg, struct slice key, struct slice value)
{
    const struct listing *l = arg;
    char name[LIMIT_KV_KEY];
    json_t *v;
    bool its;

    if (!slice_has_prefix(key, l->prefix))
        return true;
    v = json_loadb((const char *)value.ptr, value.len, 0, NULL);
    its = v && json_integer_value(json_object_get(v, "topic")) == l->topic;
    json_decref(v);
    if (!its)
        return true;
    snprintf(name, sizeof name, "%.*s", (int)(key.len - l->prefix.len),
             (const char *)key.ptr + l->prefix.len);
    return l->fn(l->arg, name);
}

weir_err weir_cursor_list(struct weir *w, const char *topic,
                          bool (*fn)(void *arg, const char *name), void *arg,
                          struct weir_error *error)
{
    struct weir_cursor_options o = {0};
    struct errinfo info = {0};
    struct listing l = {.fn = fn, .arg = arg};
    char key[LIMIT_KV_KEY];
    enum err e = options_check(topic, "x", &o, &info);
    struct topic *t = e ? NULL : topic_find(w->b, slice_str(topic));

    if (t) {
        l.topic = (json_int_t)topic_id(t);
        l.prefix = slice_of(key, key_of(topic, "", key).len);
        kv_each(w->b, CONSUMER_NS, list_one, &l);
    }
    topic_unref(&t);
    return lib_fail(e, &info, error);
}

/* ---- looking ---- */

weir_err weir_cursor_info_get(struct weir_cursor *c, struct weir_cursor_info *out,
                              struct weir_error *error)
{
    struct errinfo info = {0};
    struct cursor_part part = {0};
    struct cursor_info ci;
    enum err e = ERR_OK;
    int32_t i;

    *out = (struct weir_cursor_info){.ack_wait_ms = c->conf.lease_ms,
                                     .max_deliver = c->conf.deliveries_max,
                                     .max_ack_pending = c->conf.records_max};
    for (i = 0; !(e = lib_cursor_part(c, i, &part, &info)); i++) {
        cursor_info_get(part.c, &ci);
        out->leased += ci.acquired;
        out->undone += ci.undone;
        cursor_unref(&part.c);
    }
    return lib_fail(e == ERR_AGAIN ? ERR_OK : e, &info, error);
}

weir_err weir_cursor_place(struct weir_cursor *c, int32_t partition, int64_t *done, int64_t *next,
                           struct weir_error *error)
{
    struct errinfo info = {0};
    struct cursor_part part = {0};
    struct cursor_info ci;
    enum err e = ERR_AGAIN;

    if (partition >= 0)
        e = lib_cursor_part(c, partition, &part, &info);
    if (e == ERR_AGAIN)
        e = errinfo_set(&info, ERR_PARTITION_NOT_FOUND, "there is no such partition");
    if (!e) {
        cursor_info_get(part.c, &ci);
        cursor_unref(&part.c);
        *done = ci.start;
        if (next)
            *next = ci.next;
    }
    return lib_fail(e, &info, error);
}

/* ---- settling ---- */

static int by_place(const void *a, const void *b)
{
    const struct weir_message *x = &((const struct weir_delivery *)a)->message,
                              *y = &((const struct weir_delivery *)b)->message;

    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* v: of one partition, in order. */
static enum err settle_part(struct weir_cursor *c, const struct weir_delivery *v, size_t n,
                            struct cursor_ack a, struct errinfo *info)
{
    struct cursor_ack *acks;
    struct cursor_part part = {0};
    struct lib_done d;
    size_t i;
    enum err e;

    if (n > LIMIT_JS_ACK_PENDING)
        return errinfo_set(info, ERR_TOO_LARGE, "so many are never out at once");
    acks = xcalloc(n, sizeof *acks);
    e = v->message.partition < 0 ? ERR_AGAIN
                                 : lib_cursor_part(c, v->message.partition, &part, info);

    for (i = 0; i < n; i++) {
        acks[i] = a;
        acks[i].first = acks[i].last = v[i].message.offset;
        acks[i].deliveries = (uint16_t)v[i].deliveries;
    }
    if (e == ERR_AGAIN)
        e = errinfo_set(info, ERR_PARTITION_NOT_FOUND, "there is no such partition");
    if (!e) {
        lib_done_init(&d);
        e = cursor_settle(part.c, slice_str(c->owner), acks, (uint32_t)n, lib_now_ms(),
                          lib_done_call, &d, info);
        e = lib_done_wait(&d, e, info);
        cursor_unref(&part.c);
    }
    free(acks);
    return e;
}

static weir_err settle(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                       struct cursor_ack a, struct weir_error *error)
{
    struct weir_delivery *v;
    struct errinfo info = {0};
    size_t i, to;
    enum err e = ERR_OK;

    if (!n)
        return lib_fail(ERR_OK, NULL, error);
    v = xmalloc(n * sizeof *v);
    memcpy(v, d, n * sizeof *v);
    qsort(v, n, sizeof *v, by_place);
    for (i = 0; !e && i < n; i = to) {
        for (to = i + 1; to < n && v[to].message.partition == v[i].message.partition; to++)
            ;
        e = settle_part(c, v + i, to - i, a, &info);
    }
    free(v);
    if (e == ERR_RECORD_STATE)
        e = errinfo_set(&info, ERR_CONFLICT, "the lease is over, or the record was settled");
    return lib_fail(e, &info, error);
}

weir_err weir_cursor_ack(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                         struct weir_error *error)
{
    return settle(c, d, n, (struct cursor_ack){.what = CURSOR_ACCEPT}, error);
}

weir_err weir_cursor_nak(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                         int64_t delay_ms, struct weir_error *error)
{
    struct errinfo info = {0};

    if (delay_ms < 0 || delay_ms > INT32_MAX)
        return lib_fail(errinfo_set(&info, ERR_INVALID, "delay_ms is 0 to %d", INT32_MAX), &info,
                        error);
    return settle(
        c, d, n, (struct cursor_ack){.what = CURSOR_RELEASE, .delay_ms = (int32_t)delay_ms}, error);
}

weir_err weir_cursor_extend(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                            struct weir_error *error)
{
    return settle(c, d, n, (struct cursor_ack){.what = CURSOR_RENEW, .delay_ms = c->conf.lease_ms},
                  error);
}

weir_err weir_cursor_terminate(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                               struct weir_error *error)
{
    return settle(c, d, n, (struct cursor_ack){.what = CURSOR_REJECT}, error);
}
