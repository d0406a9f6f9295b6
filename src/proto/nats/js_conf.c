/* See js_conf.h. A table for each struct says where its fields are and what they are called; reading,
 * writing and freeing walk the table. */
#include "proto/nats/js_conf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/timefmt.h"
#include "base/utf8.h"

#define LIST_MAX 100000u /* elements */

enum jkind {
    KIND_TEXT,  /* char * */
    KIND_TEXTS, /* struct jlist */
    KIND_BOOL,
    KIND_INT, /* int64_t */
    KIND_UINT,
    KIND_INT32,     /* int64_t of 32 bits */
    KIND_DURATIONS, /* struct jlist */
    KIND_TIME,      /* int64_t, JTIME_NONE */
    KIND_WORD,      /* int: place in words */
    KIND_MAP,       /* json_t *: an object of texts */
    KIND_STRUCT,    /* embedded */
    KIND_POINTER,   /* to a struct, NULL: none */
    KIND_STRUCTS    /* struct jlist */
};

struct jtable;
struct jfield {
    const char *name;
    enum jkind kind;
    size_t at;
    bool always; /* written even if it is zero */
    const char *const *words;
    const struct jtable *table;
};
struct jtable {
    const struct jfield *fields;
    unsigned n;
    size_t size;
};

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define TABLE(t, fields)                 \
    {                                    \
        fields, COUNT(fields), sizeof(t) \
    }
#define FIELD(t, member, name, kind, always)                       \
    {                                                              \
        name, kind, offsetof(struct t, member), always, NULL, NULL \
    }
#define WORD(t, member, name, words, always)                             \
    {                                                                    \
        name, KIND_WORD, offsetof(struct t, member), always, words, NULL \
    }
#define NESTED(t, member, name, kind, table)                        \
    {                                                               \
        name, kind, offsetof(struct t, member), false, NULL, &table \
    }

static const char *const retentions[] = {"limits", "interest", "workqueue", NULL};
static const char *const discards[] = {"old", "new", NULL};
static const char *const storages[] = {"file", "memory", NULL};
static const char *const compressions[] = {"none", "s2", NULL};
static const char *const persists[] = {"default", "async", NULL};
static const char *const delivers[] = {
    "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", NULL};
static const char *const acks[] = {"none", "all", "explicit", "flow_control", NULL};
static const char *const replays[] = {"instant", "original", NULL};
static const char *const priorities[] = {"none", "overflow", "pinned_client", "prioritized", NULL};

static const struct jfield transform_fields[] = {
    FIELD(jtransform, src, "src", KIND_TEXT, true),
    FIELD(jtransform, dest, "dest", KIND_TEXT, true),
};
static const struct jtable transform_table = TABLE(struct jtransform, transform_fields);

static const struct jfield republish_fields[] = {
    FIELD(jrepublish, src, "src", KIND_TEXT, false),
    FIELD(jrepublish, dest, "dest", KIND_TEXT, true),
    FIELD(jrepublish, headers_only, "headers_only", KIND_BOOL, false),
};
static const struct jtable republish_table = TABLE(struct jrepublish, republish_fields);

static const struct jfield external_fields[] = {
    FIELD(jexternal, api, "api", KIND_TEXT, true),
    FIELD(jexternal, deliver, "deliver", KIND_TEXT, true),
};
static const struct jtable external_table = TABLE(struct jexternal, external_fields);

static const struct jfield source_consumer_fields[] = {
    FIELD(jsource_consumer, name, "name", KIND_TEXT, false),
    FIELD(jsource_consumer, deliver_subject, "deliver_subject", KIND_TEXT, false),
};
static const struct jtable source_consumer_table =
    TABLE(struct jsource_consumer, source_consumer_fields);

static const struct jfield source_fields[] = {
    FIELD(jsource, name, "name", KIND_TEXT, true),
    FIELD(jsource, start_seq, "opt_start_seq", KIND_UINT, false),
    FIELD(jsource, start_time_ns, "opt_start_time", KIND_TIME, false),
    FIELD(jsource, filter, "filter_subject", KIND_TEXT, false),
    NESTED(jsource, transforms, "subject_transforms", KIND_STRUCTS, transform_table),
    NESTED(jsource, external, "external", KIND_POINTER, external_table),
    NESTED(jsource, consumer, "consumer", KIND_POINTER, source_consumer_table),
};
static const struct jtable source_table = TABLE(struct jsource, source_fields);

static const struct jfield limits_fields[] = {
    FIELD(jconsumer_limits, inactive_ns, "inactive_threshold", KIND_INT, false),
    FIELD(jconsumer_limits, max_ack_pending, "max_ack_pending", KIND_INT, false),
};
static const struct jtable limits_table = TABLE(struct jconsumer_limits, limits_fields);

static const struct jfield placement_fields[] = {
    FIELD(jplacement, cluster, "cluster", KIND_TEXT, false),
    FIELD(jplacement, tags, "tags", KIND_TEXTS, false),
    FIELD(jplacement, preferred, "preferred", KIND_TEXT, false),
};
static const struct jtable placement_table = TABLE(struct jplacement, placement_fields);

static const struct jfield stream_fields[] = {
    FIELD(jstream_conf, name, "name", KIND_TEXT, true),
    FIELD(jstream_conf, description, "description", KIND_TEXT, false),
    FIELD(jstream_conf, subjects, "subjects", KIND_TEXTS, false),
    WORD(jstream_conf, retention, "retention", retentions, true),
    FIELD(jstream_conf, max_consumers, "max_consumers", KIND_INT, true),
    FIELD(jstream_conf, max_msgs, "max_msgs", KIND_INT, true),
    FIELD(jstream_conf, max_bytes, "max_bytes", KIND_INT, true),
    FIELD(jstream_conf, max_age_ns, "max_age", KIND_INT, true),
    FIELD(jstream_conf, max_msgs_per_subject, "max_msgs_per_subject", KIND_INT, true),
    FIELD(jstream_conf, max_msg_size, "max_msg_size", KIND_INT32, false),
    WORD(jstream_conf, discard, "discard", discards, true),
    WORD(jstream_conf, storage, "storage", storages, true),
    FIELD(jstream_conf, replicas, "num_replicas", KIND_INT, true),
    FIELD(jstream_conf, no_ack, "no_ack", KIND_BOOL, false),
    FIELD(jstream_conf, duplicates_ns, "duplicate_window", KIND_INT, false),
    NESTED(jstream_conf, placement, "placement", KIND_POINTER, placement_table),
    NESTED(jstream_conf, mirror, "mirror", KIND_POINTER, source_table),
    NESTED(jstream_conf, sources, "sources", KIND_STRUCTS, source_table),
    WORD(jstream_conf, compression, "compression", compressions, true),
    FIELD(jstream_conf, first_seq, "first_seq", KIND_UINT, false),
    NESTED(jstream_conf, transform, "subject_transform", KIND_POINTER, transform_table),
    NESTED(jstream_conf, republish, "republish", KIND_POINTER, republish_table),
    FIELD(jstream_conf, allow_direct, "allow_direct", KIND_BOOL, true),
    FIELD(jstream_conf, mirror_direct, "mirror_direct", KIND_BOOL, true),
    FIELD(jstream_conf, discard_new_per, "discard_new_per_subject", KIND_BOOL, false),
    FIELD(jstream_conf, sealed, "sealed", KIND_BOOL, true),
    FIELD(jstream_conf, deny_delete, "deny_delete", KIND_BOOL, true),
    FIELD(jstream_conf, deny_purge, "deny_purge", KIND_BOOL, true),
    FIELD(jstream_conf, allow_rollup, "allow_rollup_hdrs", KIND_BOOL, true),
    {"consumer_limits", KIND_STRUCT, offsetof(struct jstream_conf, limits), true, NULL,
     &limits_table},
    FIELD(jstream_conf, allow_ttl, "allow_msg_ttl", KIND_BOOL, true),
    FIELD(jstream_conf, marker_ttl_ns, "subject_delete_marker_ttl", KIND_INT, false),
    FIELD(jstream_conf, allow_counter, "allow_msg_counter", KIND_BOOL, false),
    FIELD(jstream_conf, allow_atomic, "allow_atomic", KIND_BOOL, false),
    FIELD(jstream_conf, allow_schedules, "allow_msg_schedules", KIND_BOOL, false),
    WORD(jstream_conf, persist, "persist_mode", persists, false),
    FIELD(jstream_conf, allow_batched, "allow_batched", KIND_BOOL, false),
    FIELD(jstream_conf, metadata, "metadata", KIND_MAP, false),
};
static const struct jtable stream_table = TABLE(struct jstream_conf, stream_fields);

static const struct jfield consumer_fields[] = {
    FIELD(jconsumer_conf, durable, "durable_name", KIND_TEXT, false),
    FIELD(jconsumer_conf, name, "name", KIND_TEXT, false),
    FIELD(jconsumer_conf, description, "description", KIND_TEXT, false),
    WORD(jconsumer_conf, deliver, "deliver_policy", delivers, true),
    FIELD(jconsumer_conf, start_seq, "opt_start_seq", KIND_UINT, false),
    FIELD(jconsumer_conf, start_time_ns, "opt_start_time", KIND_TIME, false),
    WORD(jconsumer_conf, ack, "ack_policy", acks, true),
    FIELD(jconsumer_conf, ack_wait_ns, "ack_wait", KIND_INT, false),
    FIELD(jconsumer_conf, max_deliver, "max_deliver", KIND_INT, false),
    FIELD(jconsumer_conf, backoff_ns, "backoff", KIND_DURATIONS, false),
    FIELD(jconsumer_conf, filter, "filter_subject", KIND_TEXT, false),
    FIELD(jconsumer_conf, filters, "filter_subjects", KIND_TEXTS, false),
    WORD(jconsumer_conf, replay, "replay_policy", replays, true),
    FIELD(jconsumer_conf, rate_bps, "rate_limit_bps", KIND_UINT, false),
    FIELD(jconsumer_conf, sample_freq, "sample_freq", KIND_TEXT, false),
    FIELD(jconsumer_conf, max_waiting, "max_waiting", KIND_INT, false),
    FIELD(jconsumer_conf, max_ack_pending, "max_ack_pending", KIND_INT, false),
    FIELD(jconsumer_conf, flow_control, "flow_control", KIND_BOOL, false),
    FIELD(jconsumer_conf, headers_only, "headers_only", KIND_BOOL, false),
    FIELD(jconsumer_conf, max_batch, "max_batch", KIND_INT, false),
    FIELD(jconsumer_conf, max_expires_ns, "max_expires", KIND_INT, false),
    FIELD(jconsumer_conf, max_bytes, "max_bytes", KIND_INT, false),
    FIELD(jconsumer_conf, deliver_subject, "deliver_subject", KIND_TEXT, false),
    FIELD(jconsumer_conf, deliver_group, "deliver_group", KIND_TEXT, false),
    FIELD(jconsumer_conf, heartbeat_ns, "idle_heartbeat", KIND_INT, false),
    FIELD(jconsumer_conf, inactive_ns, "inactive_threshold", KIND_INT, false),
    FIELD(jconsumer_conf, replicas, "num_replicas", KIND_INT, true),
    FIELD(jconsumer_conf, mem_storage, "mem_storage", KIND_BOOL, false),
    FIELD(jconsumer_conf, direct, "direct", KIND_BOOL, false),
    FIELD(jconsumer_conf, sourcing, "sourcing", KIND_BOOL, false),
    FIELD(jconsumer_conf, metadata, "metadata", KIND_MAP, false),
    FIELD(jconsumer_conf, pause_until_ns, "pause_until", KIND_TIME, false),
    FIELD(jconsumer_conf, priority_groups, "priority_groups", KIND_TEXTS, false),
    WORD(jconsumer_conf, priority, "priority_policy", priorities, false),
    FIELD(jconsumer_conf, pinned_ttl_ns, "priority_timeout", KIND_INT, false),
};
static const struct jtable consumer_table = TABLE(struct jconsumer_conf, consumer_fields);

/* ---- errors ---- */

static const struct {
    enum js_error e;
    int code;
    const char *text;
} errors[] = {
#define X(name, code, number, text) {JSE_##name, code, text},
    JS_ERRORS(X)
#undef X
};

static unsigned error_row(enum js_error e)
{
    unsigned lo = 0, hi = COUNT(errors), mid;

    while (lo < hi) {
        mid = (lo + hi) / 2;
        if (errors[mid].e < e)
            lo = mid + 1;
        else
            hi = mid;
    }
    ASSERT(lo < COUNT(errors) && errors[lo].e == e);
    return lo;
}

int js_error_code(enum js_error e)
{
    return errors[error_row(e)].code;
}

bool js_fault_set(struct js_fault *f, enum js_error e, const char *fmt, ...)
{
    const char *text = errors[error_row(e)].text, *open = strchr(text, '{'), *shut;
    char words[sizeof(f->text)] = "";
    va_list ap;

    f->e = e;
    if (fmt) {
        va_start(ap, fmt);
        (void)vsnprintf(words, sizeof(words), fmt, ap);
        va_end(ap);
    }
    if (!open) {
        (void)snprintf(f->text, sizeof(f->text), "%s", text);
        return false;
    }
    shut = strchr(open, '}');
    (void)snprintf(f->text, sizeof(f->text), "%.*s%s%s", (int)(open - text), text, words, shut + 1);
    return false;
}

/* ---- times ---- */

int64_t jtime_ns(int64_t ms)
{
    const int64_t most = INT64_MAX / 1000000;

    return ms > most ? INT64_MAX : ms < -most ? -INT64_MAX : ms * 1000000;
}

void jtime_text(int64_t ns, char out[JTIME_TEXT_LEN + 1])
{
    char ms[TIME_TEXT_LEN + 1];
    int64_t rest = ns % 1000000;

    time_format(ns / 1000000 - (rest < 0), ms);
    (void)snprintf(out, JTIME_TEXT_LEN + 1, "%.*s%06dZ", TIME_TEXT_LEN - 1, ms,
                   (int)(rest < 0 ? rest + 1000000 : rest));
}

void jtime_put(json_t *o, const char *name, int64_t ns)
{
    char text[JTIME_TEXT_LEN + 1];

    jtime_text(ns, text);
    json_object_set_new(o, name, json_string(text));
}

bool jtime_read(struct slice s, int64_t *ns)
{
    const uint8_t *dot = s.len ? memchr(s.ptr, '.', s.len) : NULL;
    const uint8_t *end = s.ptr + s.len;
    int64_t ms, scale = 100000, rest = 0;
    unsigned i;

    if (!time_parse(s, &ms))
        return false;
    for (i = 1; dot && dot + i < end && dot[i] >= '0' && dot[i] <= '9'; i++)
        if (i > 3) {
            rest += (dot[i] - '0') * scale;
            scale /= 10;
        }
    *ns = ms < 0 ? 0 : ms > INT64_MAX / 1000000 - 1 ? INT64_MAX : ms * 1000000 + rest;
    return true;
}

/* ---- freeing ---- */

static void table_fini(const struct jtable *t, void *o);

static void list_fini(const struct jfield *d, struct jlist *l)
{
    unsigned i;

    for (i = 0; i < l->n; i++)
        if (d->kind == KIND_TEXTS)
            free(((char **)l->v)[i]);
        else if (d->kind == KIND_STRUCTS)
            table_fini(d->table, (char *)l->v + i * d->table->size);
    free(l->v);
}

static void table_fini(const struct jtable *t, void *o)
{
    const struct jfield *d;
    void *p;

    for (d = t->fields; d < t->fields + t->n; d++) {
        p = (char *)o + d->at;
        if (d->kind == KIND_TEXT)
            free(*(char **)p);
        else if (d->kind == KIND_MAP)
            json_decref(*(json_t **)p);
        else if (d->kind == KIND_TEXTS || d->kind == KIND_STRUCTS || d->kind == KIND_DURATIONS)
            list_fini(d, p);
        else if (d->kind == KIND_STRUCT)
            table_fini(d->table, p);
        else if (d->kind == KIND_POINTER) {
            if (*(void **)p)
                table_fini(d->table, *(void **)p);
            free(*(void **)p);
        }
    }
    memset(o, 0, t->size);
}

/* ---- reading ---- */

static void table_zero(const struct jtable *t, void *o)
{
    const struct jfield *d;

    memset(o, 0, t->size);
    for (d = t->fields; d < t->fields + t->n; d++)
        if (d->kind == KIND_TIME)
            *(int64_t *)(void *)((char *)o + d->at) = JTIME_NONE;
}

static bool mistyped(const struct jfield *d, struct js_fault *f)
{
    return js_fault_set(f, JSE_INVALID_JSON, "field %s has a value that it can not have", d->name);
}

static bool table_read(const struct jtable *t, void *o, const json_t *j, bool strict,
                       struct js_fault *f);

static bool list_read(const struct jfield *d, struct jlist *l, const json_t *j, bool strict,
                      struct js_fault *f)
{
    size_t n = json_array_size(j), i;
    size_t size = d->kind == KIND_STRUCTS ? d->table->size
                  : d->kind == KIND_TEXTS ? sizeof(char *)
                                          : sizeof(int64_t);
    json_t *e;

    if (!json_is_array(j) || n > LIST_MAX)
        return mistyped(d, f);
    l->v = n ? xcalloc(n, size) : NULL;
    for (i = 0; i < n; i++) {
        e = json_array_get(j, i);
        l->n = (unsigned)i + 1; /* so that what is half read is freed */
        if (d->kind == KIND_STRUCTS) {
            if (!table_read(d->table, (char *)l->v + i * size, e, strict, f))
                return false;
        } else if (d->kind == KIND_TEXTS ? !json_is_string(e) : !json_is_integer(e)) {
            return mistyped(d, f);
        } else if (d->kind == KIND_TEXTS) {
            ((char **)l->v)[i] = xstrdup(json_string_value(e));
        } else {
            ((int64_t *)l->v)[i] = json_integer_value(e);
        }
    }
    return true;
}

static bool map_read(const struct jfield *d, json_t **p, json_t *j, struct js_fault *f)
{
    const char *key;
    json_t *v;

    if (!json_is_object(j))
        return mistyped(d, f);
    json_object_foreach(j, key, v) if (!json_is_string(v)) return mistyped(d, f);
    *p = json_object_size(j) ? json_deep_copy(j) : NULL;
    return true;
}

static bool word_read(const struct jfield *d, int *p, const json_t *j, struct js_fault *f)
{
    const char *text = json_string_value(j);
    int i;

    if (!text)
        return mistyped(d, f);
    for (i = 0; d->words[i]; i++)
        if (!strcmp(d->words[i], text)) {
            *p = i;
            return true;
        }
    if (!*text)
        return true;
    return js_fault_set(f, JSE_INVALID_JSON, "can not unmarshal \"%.60s\" as %s", text, d->name);
}

static bool number_read(const struct jfield *d, void *p, const json_t *j, struct js_fault *f)
{
    json_int_t v = json_integer_value(j);

    if (!json_is_integer(j) || (d->kind == KIND_UINT && v < 0) ||
        (d->kind == KIND_INT32 && (v < INT32_MIN || v > INT32_MAX)))
        return mistyped(d, f);
    if (d->kind == KIND_UINT)
        *(uint64_t *)p = (uint64_t)v;
    else
        *(int64_t *)p = v;
    return true;
}

static bool time_read(const struct jfield *d, int64_t *p, const json_t *j, struct js_fault *f)
{
    struct slice s = slice_of(json_string_value(j), json_string_length(j));

    if (!json_is_string(j))
        return mistyped(d, f);
    if (slice_has_prefix(s, SLICE_LIT("0001-01-01T00:00:00Z")))
        return true; /* how some clients say that there is none */
    return jtime_read(s, p) || mistyped(d, f);
}

static bool field_read(const struct jfield *d, void *p, json_t *j, bool strict, struct js_fault *f)
{
    switch (d->kind) {
    case KIND_TEXT:
        if (!json_is_string(j))
            return mistyped(d, f);
        *(char **)p = json_string_length(j) ? xstrdup(json_string_value(j)) : NULL;
        return true;
    case KIND_BOOL:
        *(bool *)p = json_is_true(j);
        return json_is_boolean(j) || mistyped(d, f);
    case KIND_INT:
    case KIND_INT32:
    case KIND_UINT:
        return number_read(d, p, j, f);
    case KIND_TIME:
        return time_read(d, p, j, f);
    case KIND_WORD:
        return word_read(d, p, j, f);
    case KIND_MAP:
        return map_read(d, p, j, f);
    case KIND_TEXTS:
    case KIND_DURATIONS:
    case KIND_STRUCTS:
        return list_read(d, p, j, strict, f);
    case KIND_STRUCT:
        return table_read(d->table, p, j, strict, f);
    case KIND_POINTER:
        *(void **)p = xcalloc(1, d->table->size);
        return table_read(d->table, *(void **)p, j, strict, f);
    }
    return false;
}

/* Fields that it read before a fault are to be freed by the caller. */
static bool table_read(const struct jtable *t, void *o, const json_t *j, bool strict,
                       struct js_fault *f)
{
    const struct jfield *d;
    size_t known = 0;
    json_t *v;
    const char *key;

    table_zero(t, o);
    if (!json_is_object(j))
        return js_fault_set(f, JSE_INVALID_JSON, "an object is expected");
    for (d = t->fields; d < t->fields + t->n; d++) {
        v = json_object_get(j, d->name);
        known += v != NULL;
        if (v && !json_is_null(v) && !field_read(d, (char *)o + d->at, v, strict, f))
            return false;
    }
    if (!strict || known == json_object_size(j))
        return true;
    json_object_foreach((json_t *)(uintptr_t)j, key, v)
    {
        for (d = t->fields; d < t->fields + t->n && strcmp(d->name, key) != 0; d++)
            ;
        if (d == t->fields + t->n)
            return js_fault_set(f, JSE_INVALID_JSON, "unknown field \"%.60s\"", key);
    }
    return true;
}

/* ---- writing ---- */

static json_t *table_write(const struct jtable *t, const void *o);

static json_t *list_write(const struct jfield *d, const struct jlist *l)
{
    json_t *j;
    unsigned i;

    if (!l->n)
        return NULL;
    j = json_array();
    for (i = 0; i < l->n; i++)
        json_array_append_new(j,
                              d->kind == KIND_TEXTS ? json_string(((char **)l->v)[i])
                              : d->kind == KIND_DURATIONS
                                  ? json_integer(((int64_t *)l->v)[i])
                                  : table_write(d->table, (const char *)l->v + i * d->table->size));
    return j;
}

/* NULL: it is not written. */
static json_t *field_write(const struct jfield *d, const void *p)
{
    char text[JTIME_TEXT_LEN + 1];
    int64_t ns;

    switch (d->kind) {
    case KIND_TEXT:
        if (!*(char *const *)p)
            return d->always ? json_string("") : NULL;
        return json_string(*(char *const *)p);
    case KIND_BOOL:
        return *(const bool *)p || d->always ? json_boolean(*(const bool *)p) : NULL;
    case KIND_INT:
    case KIND_INT32:
        ns = *(const int64_t *)p;
        return ns || d->always ? json_integer(ns) : NULL;
    case KIND_UINT:
        return *(const uint64_t *)p ? json_integer((json_int_t) * (const uint64_t *)p) : NULL;
    case KIND_TIME:
        if (*(const int64_t *)p == JTIME_NONE)
            return NULL;
        jtime_text(*(const int64_t *)p, text);
        return json_string(text);
    case KIND_WORD:
        return *(const int *)p || d->always ? json_string(d->words[*(const int *)p]) : NULL;
    case KIND_MAP:
        return *(json_t *const *)p ? json_deep_copy(*(json_t *const *)p) : NULL;
    case KIND_TEXTS:
    case KIND_DURATIONS:
    case KIND_STRUCTS:
        return list_write(d, p);
    case KIND_STRUCT:
        return table_write(d->table, p);
    case KIND_POINTER:
        return *(void *const *)p ? table_write(d->table, *(void *const *)p) : NULL;
    }
    return NULL;
}

static json_t *table_write(const struct jtable *t, const void *o)
{
    const struct jfield *d;
    json_t *j = json_object(), *v;

    for (d = t->fields; d < t->fields + t->n; d++) {
        v = field_write(d, (const char *)o + d->at);
        if (v)
            json_object_set_new(j, d->name, v);
    }
    return j;
}

static void table_copy(const struct jtable *t, void *to, const void *from)
{
    json_t *j = table_write(t, from);
    struct js_fault f;
    bool ok = table_read(t, to, j, false, &f);

    ASSERT(ok);
    json_decref(j);
}

static bool table_equal(const struct jtable *t, const void *a, const void *b)
{
    json_t *x = table_write(t, a), *y = table_write(t, b);
    bool equal = json_equal(x, y);

    json_decref(x);
    json_decref(y);
    return equal;
}

/* ---- the two ---- */

bool jstream_conf_read(struct jstream_conf *c, const json_t *o, bool strict, struct js_fault *f)
{
    if (table_read(&stream_table, c, o, strict, f))
        return true;
    jstream_conf_fini(c);
    return false;
}

void jstream_conf_fini(struct jstream_conf *c)
{
    table_fini(&stream_table, c);
}

json_t *jstream_conf_write(const struct jstream_conf *c)
{
    return table_write(&stream_table, c);
}

void jstream_conf_copy(struct jstream_conf *to, const struct jstream_conf *from)
{
    table_copy(&stream_table, to, from);
}

bool jstream_conf_equal(const struct jstream_conf *a, const struct jstream_conf *b)
{
    return table_equal(&stream_table, a, b);
}

bool jconsumer_conf_read(struct jconsumer_conf *c, const json_t *o, bool strict, struct js_fault *f)
{
    if (table_read(&consumer_table, c, o, strict, f))
        return true;
    jconsumer_conf_fini(c);
    return false;
}

void jconsumer_conf_fini(struct jconsumer_conf *c)
{
    table_fini(&consumer_table, c);
}

json_t *jconsumer_conf_write(const struct jconsumer_conf *c)
{
    return table_write(&consumer_table, c);
}

void jconsumer_conf_copy(struct jconsumer_conf *to, const struct jconsumer_conf *from)
{
    table_copy(&consumer_table, to, from);
}

bool jconsumer_conf_equal(const struct jconsumer_conf *a, const struct jconsumer_conf *b)
{
    return table_equal(&consumer_table, a, b);
}

unsigned jconsumer_conf_filters(const struct jconsumer_conf *c)
{
    return c->filter ? 1 : c->filters.n;
}

struct slice jconsumer_conf_filter(const struct jconsumer_conf *c, unsigned i)
{
    if (i >= jconsumer_conf_filters(c))
        return SLICE_LIT("");
    return c->filter ? slice_str(c->filter) : jlist_text(&c->filters, i);
}

bool jname_valid(struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        if (!s.ptr[i] || strchr(" \t\r\n\f.*>\\/", s.ptr[i]))
            return false;
    return s.len > 0 && utf8_valid(s); /* it is saved as JSON */
}
