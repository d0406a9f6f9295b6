/* Bridges: changes of tables become records of topics that are tables in the lake. A thin layer over an
 * emitter, which gathers records and has them written.
 *
 * b->lock guards the map of tables, which are never taken out, and all counters. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/jtext.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "io/io.h"
#include "lib/lib_int.h"
#include "sql/field.h"

#define TABLES_MAX 100000u
#define DEPTH_MAX  JTEXT_DEPTH_CAP
#define RECORD_MAX ((size_t)2 * LIMIT_TOPIC_MESSAGE_BYTES) /* the log says what is too large */

struct table {
    char *name, *topic;
    uint64_t sent;      /* changes */
    uint64_t committed; /* so many of them are known to be in the lake */
};

struct weir_bridge {
    struct weir *w;
    struct weir_emitter *em;
    struct lib_sink sink;
    char *prefix, *key, *dead_letter;
    bool flat;
    enum weir_verdict (*transform)(void *arg, struct weir_change *change, char why[256]);
    void *transform_arg;
    struct io_mutex lock;
    struct map tables;
    uint64_t taken, dropped, dead;
};

static const char *const op_code[] = {"c", "u", "d"};
static const char *const op_word[] = {"insert", "update", "delete"};

/* ---- opening ---- */

static enum err dead_letter_name(struct weir_bridge *b, const char *given)
{
    char name[TOPIC_NAME_MAX + 16];

    snprintf(name, sizeof name, "%s%s", given ? given : b->prefix, given ? "" : "dead-letter");
    b->dead_letter = xstrdup(name);
    return topic_name_valid(slice_str(name)) ? ERR_OK : ERR_TOPIC_NAME;
}

weir_err weir_bridge_open(struct weir *w, const struct weir_bridge_options *options,
                          struct weir_bridge **out, struct weir_error *error)
{
    struct weir_emitter_options eo = {.size = sizeof eo};
    struct weir_bridge_options o = {0};
    struct errinfo info = {0};
    struct weir_bridge *b;
    uint8_t seed[16];
    weir_err failed;
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    if (e)
        return lib_fail(e, &info, error);
    b = xcalloc(1, sizeof *b);
    b->w = w;
    b->sink = (struct lib_sink){
        .sink = o.sink, .commit_bytes = o.commit_bytes, .commit_seconds = o.commit_seconds};
    b->prefix = xstrdup(o.prefix ? o.prefix : "");
    b->key = o.key ? xstrdup(o.key) : NULL;
    b->flat = o.flat;
    b->transform = o.transform;
    b->transform_arg = o.transform_arg;
    io_mutex_init(&b->lock);
    io_random(io_real(), seed, sizeof seed);
    map_init(&b->tables, TABLES_MAX, seed);
    eo.source = o.source;
    eo.batch_size = o.batch_size;
    eo.flush_interval_ms = o.flush_interval_ms;
    eo.buffer_events = o.buffer_changes;
    eo.on_error = o.on_error;
    eo.arg = o.on_error_arg;
    e = lib_sink_check(w, &b->sink, &info);
    if (!e && (e = dead_letter_name(b, o.dead_letter)))
        errinfo_set(&info, e, "the prefix or the dead letters' topic is no name of a topic");
    if (e) {
        weir_bridge_close(&b, NULL);
        return lib_fail(e, &info, error);
    }
    failed = weir_emitter_new(w, &eo, &b->em, error);
    if (failed)
        weir_bridge_close(&b, NULL);
    *out = b;
    return failed;
}

/* ---- tables ---- */

/* The table's entry, with its topic made. */
static enum err table_of(struct weir_bridge *b, const char *name, struct table **out,
                         struct errinfo *info)
{
    char topic[2 * TOPIC_NAME_MAX + 2];
    struct table *t;
    enum err e = ERR_OK;

    io_mutex_lock(&b->lock);
    *out = map_find(&b->tables, slice_str(name));
    io_mutex_unlock(&b->lock);
    if (*out)
        return ERR_OK;
    snprintf(topic, sizeof topic, "%s%.*s", b->prefix, (int)TOPIC_NAME_MAX + 1, name);
    if (!topic_name_valid(slice_str(topic)))
        return errinfo_set(info, ERR_TOPIC_NAME, "'%.100s' is no name of a topic", topic);
    e = lib_sink_topic(b->w, &b->sink, slice_str(topic), info);
    if (e)
        return e;
    t = xcalloc(1, sizeof *t);
    t->name = xstrdup(name);
    t->topic = xstrdup(topic);
    io_mutex_lock(&b->lock);
    *out = map_find(&b->tables, slice_str(name)); /* another thread was quicker */
    if (!*out && !(e = map_put(&b->tables, slice_str(t->name), t)))
        *out = t;
    io_mutex_unlock(&b->lock);
    if (*out != t) {
        free(t->name);
        free(t->topic);
        free(t);
    }
    return e ? errinfo_set(info, e, "a bridge has at most %u tables", TABLES_MAX) : ERR_OK;
}

/* ---- records ---- */

static struct slice data_of(const struct weir_change *c)
{
    return slice_of(c->data, c->data_len);
}

/* An object's text without its braces and the space at its ends. */
static bool object_inner(struct slice v, struct slice *inner)
{
    static const char space[] = " \t\r\n";

    while (v.len && memchr(space, v.ptr[0], 4))
        v = slice_of(v.ptr + 1, v.len - 1);
    while (v.len && memchr(space, v.ptr[v.len - 1], 4))
        v.len--;
    if (v.len < 2 || v.ptr[0] != '{')
        return false;
    v = slice_of(v.ptr + 1, v.len - 2);
    while (v.len && memchr(space, v.ptr[0], 4))
        v = slice_of(v.ptr + 1, v.len - 1);
    *inner = v;
    return true;
}

/* Is it a change that can be written? data was looked at, or made by transform. */
static enum err change_check(const struct weir_bridge *b, const struct weir_change *c,
                             struct errinfo *info)
{
    struct slice inner;

    if ((unsigned)c->op > WEIR_OP_DELETE)
        return errinfo_set(info, ERR_INVALID, "there is no operation %d", (int)c->op);
    if (!c->table || !c->table[0])
        return errinfo_set(info, ERR_INVALID, "a change needs a table");
    if (!c->data || !jtext_valid(data_of(c), DEPTH_MAX))
        return errinfo_set(info, ERR_INVALID, "the data of a change of '%.100s' is no JSON",
                           c->table);
    if (b->flat && !object_inner(data_of(c), &inner))
        return errinfo_set(info, ERR_INVALID,
                           "the data of a change of '%.100s' is no object: flat records need one",
                           c->table);
    return ERR_OK;
}

static enum err put_head(struct buf *out, const struct weir_change *c, const char *under)
{
    enum err e = buf_printf(out, "{\"%sop\":\"%s\",\"%stable\":", under, op_code[c->op], under);

    e = e ? e : json_write_string(out, slice_str(c->table));
    return e ? e : buf_printf(out, ",\"%sts_ms\":%" PRId64, under, c->ts_ms);
}

static enum err put_data(struct buf *out, const struct weir_change *c)
{
    enum err e = buf_append_str(out, ",\"data\":");

    return e ? e : buf_append_slice(out, data_of(c));
}

static enum err record_make(const struct weir_bridge *b, const struct weir_change *c,
                            struct buf *out)
{
    enum err e = put_head(out, c, b->flat ? "__" : "");
    struct slice inner;

    if (!b->flat || !object_inner(data_of(c), &inner)) {
        e = e ? e : put_data(out, c);
    } else if (inner.len) {
        e = e ? e : buf_append_u8(out, ',');
        e = e ? e : buf_append_slice(out, inner);
    }
    return e ? e : buf_append_u8(out, '}');
}

/* The text of data's member that is the key, appended to out; a string's value, else its JSON. *some:
 * there is one. */
static enum err key_make(const struct weir_bridge *b, const struct weir_change *c, struct buf *out,
                         bool *some)
{
    struct slice name = slice_str(b->key);
    struct field_value v = {.kind = FIELD_MISSING};
    struct field_set set;
    size_t n;
    enum err e;

    *some = false;
    if (!b->key)
        return ERR_OK;
    field_set_init(&set, &name, 1);
    field_set_scan(&set, data_of(c), &v);
    field_set_fini(&set);
    if (v.kind == FIELD_MISSING || v.kind == FIELD_NULL)
        return ERR_OK;
    e = buf_reserve(out, v.text.len + 1);
    if (e)
        return e;
    if (v.kind == FIELD_STRING && v.escaped) {
        n = field_unescape(v.text, out->ptr);
        if (n == SIZE_MAX)
            return ERR_INVALID;
        out->len = n;
    } else {
        e = buf_append_slice(out, v.text);
    }
    *some = !e;
    return e;
}

/* ---- emitting ---- */

static void count(struct weir_bridge *b, uint64_t *counter)
{
    io_mutex_lock(&b->lock);
    b->taken++;
    ++*counter;
    io_mutex_unlock(&b->lock);
}

static enum err send_dead(struct weir_bridge *b, const struct weir_change *c, const char *why,
                          struct errinfo *info)
{
    struct buf out;
    enum err e;

    buf_init(&out, RECORD_MAX);
    e = put_head(&out, c, "");
    e = e ? e : put_data(&out, c);
    e = e ? e : buf_append_str(&out, ",\"error\":");
    e = e ? e : json_write_string(&out, slice_str(why));
    e = e ? e : buf_append_u8(&out, '}');
    e = e ? errinfo_set(info, e, "the change is too large")
          : lib_emit(b->em, "weir.dead-letter", slice_str(b->dead_letter), SLICE_NULL,
                     buf_slice(&out), info);
    buf_fini(&out);
    if (!e)
        count(b, &b->dead);
    return e;
}

static enum err send(struct weir_bridge *b, const struct weir_change *c, struct errinfo *info)
{
    struct table *t;
    struct buf out, key;
    bool keyed = false;
    char type[300];
    enum err e = table_of(b, c->table, &t, info);

    if (e)
        return e;
    buf_init(&out, RECORD_MAX);
    buf_init(&key, RECORD_MAX);
    snprintf(type, sizeof type, "%s.%s", c->table, op_word[c->op]);
    e = record_make(b, c, &out);
    e = e ? e : key_make(b, c, &key, &keyed);
    e = e ? errinfo_set(info, e, "the change is too large, or its key has a wrong escape")
          : lib_emit(b->em, type, slice_str(t->topic),
                     keyed ? slice_of(key.ptr ? (const void *)key.ptr : "", key.len) : SLICE_NULL,
                     buf_slice(&out), info);
    buf_fini(&out);
    buf_fini(&key);
    if (e)
        return e;
    io_mutex_lock(&b->lock);
    t->sent++;
    b->taken++;
    io_mutex_unlock(&b->lock);
    return ERR_OK;
}

static enum err emit(struct weir_bridge *b, const struct weir_change *was, struct errinfo *info)
{
    struct weir_change c = *was;
    enum weir_verdict v = WEIR_KEEP;
    struct errinfo wrong = {0};
    char why[256] = "";
    enum err e = change_check(b, &c, info);

    if (e)
        return e;
    if (b->transform)
        v = b->transform(b->transform_arg, &c, why);
    if (v == WEIR_DROP) {
        count(b, &b->dropped);
        return ERR_OK;
    }
    why[sizeof why - 1] = 0;
    if (v == WEIR_DEAD)
        return send_dead(b, was, why[0] ? why : "refused by the transform", info);
    if (b->transform && change_check(b, &c, &wrong))
        return send_dead(b, was, wrong.text, info);
    return send(b, &c, info);
}

weir_err weir_bridge_emit(struct weir_bridge *b, enum weir_op op, const char *table,
                          const char *data, size_t data_len, struct weir_error *error)
{
    struct weir_change c = {.op = op,
                            .table = table,
                            .data = data,
                            .data_len = data_len,
                            .ts_ms = io_wall_ms(io_real())};
    struct errinfo info = {0};

    return lib_fail(emit(b, &c, &info), &info, error);
}

void weir_bridge_stats_get(struct weir_bridge *b, struct weir_bridge_stats *out)
{
    struct weir_emitter_stats es;

    weir_emitter_stats_get(b->em, &es);
    io_mutex_lock(&b->lock);
    *out = (struct weir_bridge_stats){.taken = b->taken,
                                      .durable = es.durable,
                                      .failed = es.failed,
                                      .refused = es.refused,
                                      .dropped = b->dropped,
                                      .dead = b->dead,
                                      .tables = b->tables.n};
    io_mutex_unlock(&b->lock);
}

/* ---- flushing, closing ---- */

/* A table with how many of its changes a commit is to cover. */
struct goal {
    struct table *t;
    uint64_t sent;
};

/* Tables with changes that are not known to be in the lake; how many. They stay while the bridge does. */
static size_t goals_take(struct weir_bridge *b, struct goal **out)
{
    uint32_t at = 0;
    size_t n = 0;
    void *v;

    io_mutex_lock(&b->lock);
    *out = xcalloc((size_t)b->tables.n + 1, sizeof **out);
    while (map_next(&b->tables, &at, NULL, &v)) {
        struct table *t = v;

        if (t->committed < t->sent)
            (*out)[n++] = (struct goal){t, t->sent};
    }
    io_mutex_unlock(&b->lock);
    return n;
}

static enum err commit(struct weir_bridge *b, const struct goal *goal, size_t n, int64_t timeout_ms,
                       struct errinfo *info)
{
    const char **topics = xcalloc(n + 1, sizeof *topics);
    enum err e;
    size_t i;

    for (i = 0; i < n; i++)
        topics[i] = goal[i].t->topic;
    e = lib_lake_flush(b->w, topics, n, timeout_ms, info);
    io_mutex_lock(&b->lock);
    for (i = 0; !e && i < n; i++)
        if (goal[i].t->committed < goal[i].sent)
            goal[i].t->committed = goal[i].sent;
    io_mutex_unlock(&b->lock);
    free(topics);
    return e;
}

weir_err weir_bridge_flush(struct weir_bridge *b, enum weir_level level, int64_t timeout_ms,
                           struct weir_error *error)
{
    struct errinfo info = {0};
    struct goal *goal = NULL;
    size_t n = 0;
    weir_err e;

    if (level == WEIR_COMMITTED && b->sink.sink != WEIR_SINK_NONE)
        n = goals_take(b, &goal); /* now: what comes later may not be durable behind the flush */
    e = weir_emitter_flush(b->em, error);
    if (!e && n)
        e = lib_fail(commit(b, goal, n, timeout_ms, &info), &info, error);
    free(goal);
    return e;
}

weir_err weir_bridge_close(struct weir_bridge **bp, struct weir_error *error)
{
    struct weir_bridge *b = *bp;
    weir_err e = WEIR_OK;
    uint32_t at = 0;
    void *v;

    if (!b)
        return lib_fail(ERR_OK, NULL, error);
    e = weir_emitter_close(&b->em, error);
    while (map_next(&b->tables, &at, NULL, &v)) {
        struct table *t = v;

        free(t->name);
        free(t->topic);
        free(t);
    }
    map_fini(&b->tables);
    io_mutex_fini(&b->lock);
    free(b->prefix);
    free(b->key);
    free(b->dead_letter);
    free(b);
    *bp = NULL;
    return e;
}
