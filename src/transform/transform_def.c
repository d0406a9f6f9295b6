/* See transform_def.h: the items as a table, and the two forms that they are written in. */
#include "transform/transform_def.h"

#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "sql/field.h"

enum kind {
    KIND_TEXT,    /* char[max + 1] */
    KIND_TOPIC,   /* the same: name of a topic */
    KIND_LONG,    /* char *, at most `most` bytes */
    KIND_NUMBER,  /* int64_t */
    KIND_SECONDS, /* int64_t of milliseconds, written in seconds */
    KIND_CHOICE,  /* bool: one of two words */
};

static const struct item {
    const char *name;
    enum kind kind;
    size_t at;
    int64_t least, most;
    const char *words[2];
} items[] = {
#define AT(field) offsetof(struct transform_def, field)
    {"name", KIND_TOPIC, AT(name), 1, TRANSFORM_NAME_MAX, {0}},
    {"input", KIND_TOPIC, AT(input), 1, TOPIC_NAME_MAX, {0}},
    {"output", KIND_TOPIC, AT(output), 1, TOPIC_NAME_MAX, {0}},
    {"key", KIND_TEXT, AT(key), 0, TRANSFORM_KEY_MAX, {0}},
    {"columns", KIND_LONG, AT(columns), 0, 8192, {0}},
    {"window", KIND_TEXT, AT(window), 0, TRANSFORM_INTERVAL_MAX, {0}},
    {"time", KIND_LONG, AT(time), 1, 1024, {0}},
    {"lateness", KIND_TEXT, AT(lateness), 0, TRANSFORM_INTERVAL_MAX, {0}},
    {"idle_seconds", KIND_SECONDS, AT(idle_ms), 0, 86400000, {0}},
    {"emit", KIND_CHOICE, AT(update), 0, 0, {"close", "update"}},
    {"late", KIND_CHOICE, AT(late_drop), 0, 0, {"dead_letters", "drop"}},
    {"max_bytes", KIND_NUMBER, AT(max_bytes), 1024, 1 << 28, {0}},
    {"max_seconds", KIND_SECONDS, AT(max_ms), 0, 86400000, {0}},
    {"start", KIND_CHOICE, AT(latest), 0, 0, {"earliest", "latest"}},
    {"partitions", KIND_NUMBER, AT(partitions), 0, 10000, {0}},
    {"lake", KIND_CHOICE, AT(lake), 0, 0, {"false", "true"}},
    {"dead_letters", KIND_TOPIC, AT(dead_letters), 1, TOPIC_NAME_MAX, {0}},
#undef AT
};
#define ITEMS_N (sizeof items / sizeof *items)

void transform_def_init(struct transform_def *d)
{
    memset(d, 0, sizeof *d);
    d->time = xstrdup("timestamp");
    d->columns = xstrdup("");
    d->sql = xstrdup("");
    d->max_bytes = 4 << 20;
    d->max_ms = 1000;
    d->idle_ms = 60000;
}

void transform_def_fini(struct transform_def *d)
{
    free(d->time);
    free(d->columns);
    free(d->sql);
    memset(d, 0, sizeof *d);
}

/* ---- one item ---- */

static char *dup_slice(struct slice s)
{
    char *t = xmalloc(s.len + 1);

    if (s.len)
        memcpy(t, s.ptr, s.len);
    t[s.len] = 0;
    return t;
}

static enum err text_set(const struct item *it, char *to, struct slice v, struct errinfo *info)
{
    if (v.len > (size_t)it->most || memchr(v.ptr ? v.ptr : (const uint8_t *)"", 0, v.len))
        return errinfo_set(info, ERR_CONFIG, "\"%s\" has at most %d bytes", it->name,
                           (int)it->most);
    if (it->kind == KIND_TOPIC && !topic_name_valid(v))
        return errinfo_set(info, ERR_CONFIG,
                           "\"%s\" must be a name of letters, digits, '.', '_' and '-', not "
                           "\"%.*s\"",
                           it->name, (int)(v.len < 60 ? v.len : 60), (const char *)v.ptr);
    if (v.len)
        memcpy(to, v.ptr, v.len);
    to[v.len] = 0;
    return ERR_OK;
}

static enum err number_set(const struct item *it, int64_t *to, struct slice v, struct errinfo *info)
{
    int64_t scale = it->kind == KIND_SECONDS ? 1000 : 1;
    double x;

    if (!field_f64(v, &x) || x * (double)scale < (double)it->least ||
        x * (double)scale > (double)it->most || (scale == 1 && x != (double)(int64_t)x))
        return errinfo_set(info, ERR_CONFIG,
                           "\"%s\" must be a number from %" PRId64 " to %" PRId64 ", not \"%.*s\"",
                           it->name, it->least / scale, it->most / scale,
                           (int)(v.len < 60 ? v.len : 60), (const char *)v.ptr);
    *to = (int64_t)(x * (double)scale);
    return ERR_OK;
}

static enum err item_set(const struct item *it, struct transform_def *d, struct slice v,
                         struct errinfo *info)
{
    char *at = (char *)d + it->at;

    switch (it->kind) {
    case KIND_LONG:
        if (v.len > (size_t)it->most || v.len < (size_t)it->least)
            return errinfo_set(info, ERR_CONFIG, "\"%s\" has %d to %d bytes", it->name,
                               (int)it->least, (int)it->most);
        free(*(char **)(void *)at);
        *(char **)(void *)at = dup_slice(v);
        return ERR_OK;
    case KIND_NUMBER:
    case KIND_SECONDS:
        return number_set(it, (int64_t *)(void *)at, v, info);
    case KIND_CHOICE:
        if (!slice_eq_str(v, it->words[0]) && !slice_eq_str(v, it->words[1]))
            return errinfo_set(info, ERR_CONFIG, "\"%s\" must be %s or %s, not \"%.*s\"", it->name,
                               it->words[0], it->words[1], (int)(v.len < 60 ? v.len : 60),
                               (const char *)v.ptr);
        *(bool *)at = slice_eq_str(v, it->words[1]);
        return ERR_OK;
    default:
        return text_set(it, at, v, info);
    }
}

static const struct item *item_find(struct slice name)
{
    size_t i;

    for (i = 0; i < ITEMS_N; i++)
        if (slice_eq_str(name, items[i].name))
            return &items[i];
    return NULL;
}

enum err transform_def_set(struct transform_def *d, struct slice key, struct slice value,
                           struct errinfo *info)
{
    const struct item *it = item_find(key);
    char names[256] = "";
    size_t i, n = 0;

    if (it)
        return item_set(it, d, value, info);
    for (i = 0; i < ITEMS_N && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", items[i].name);
    return errinfo_set(info, ERR_CONFIG, "there is no setting \"%.*s\"; there are %s",
                       (int)(key.len < 40 ? key.len : 40), (const char *)key.ptr, names);
}

/* ---- files ---- */

static struct slice trimmed(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        end--;
    return slice_of(p, (size_t)(end - p));
}

/* A line of the header: `key: value` behind the dashes. Others are comments. */
static enum err header_line(struct transform_def *d, struct slice line, struct errinfo *info)
{
    const uint8_t *p = line.ptr + 2, *end = line.ptr + line.len, *key;

    while (p < end && *p == ' ')
        p++;
    key = p;
    while (p < end && ((*p >= 'a' && *p <= 'z') || *p == '_'))
        p++;
    if (p == key || p == end || *p != ':')
        return ERR_OK;
    return transform_def_set(d, slice_of(key, (size_t)(p - key)), trimmed(p + 1, end), info);
}

enum err transform_def_file(struct transform_def *d, struct slice text, struct errinfo *info)
{
    const uint8_t *p = text.ptr, *end = text.ptr + text.len, *nl;
    enum err e = ERR_OK;

    if (text.len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        p += 3;
    for (; p < end && !e; p = nl < end ? nl + 1 : end) {
        struct slice line;

        nl = memchr(p, '\n', (size_t)(end - p));
        nl = nl ? nl : end;
        line = trimmed(p, nl);
        if (line.len == 0)
            continue;
        if (line.len < 2 || line.ptr[0] != '-' || line.ptr[1] != '-')
            break;
        e = header_line(d, line, info);
    }
    if (e)
        return e;
    while (end > p && (end[-1] == ';' || end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' ||
                       end[-1] == '\t'))
        end--;
    free(d->sql);
    d->sql = dup_slice(slice_of(p, (size_t)(end - p)));
    return ERR_OK;
}

/* ---- JSON ---- */

static enum err member_set(struct transform_def *d, const char *name, const json_t *v,
                           struct errinfo *info)
{
    char room[64];

    if (!strcmp(name, "paused") || !strcmp(name, "any_topic")) {
        if (!json_is_boolean(v))
            return errinfo_set(info, ERR_CONFIG, "\"%s\" must be true or false", name);
        *(name[0] == 'p' ? &d->paused : &d->any_topic) = json_is_true(v);
        return ERR_OK;
    }
    if (!strcmp(name, "sql") && json_is_string(v)) {
        free(d->sql);
        d->sql = dup_slice(slice_of(json_string_value(v), json_string_length(v)));
        return ERR_OK;
    }
    if (json_is_string(v))
        return transform_def_set(d, slice_str(name),
                                 slice_of(json_string_value(v), json_string_length(v)), info);
    if (json_is_integer(v))
        snprintf(room, sizeof room, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        snprintf(room, sizeof room, "%.15g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(room, sizeof room, "%s", json_is_true(v) ? "true" : "false");
    else
        return errinfo_set(info, ERR_CONFIG, "\"%.64s\" must be text, a number or a boolean", name);
    return transform_def_set(d, slice_str(name), slice_str(room), info);
}

enum err transform_def_json(struct transform_def *d, struct slice json, struct errinfo *info)
{
    json_error_t why;
    json_t *o = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &why);
    const char *name;
    const json_t *v;
    enum err e = ERR_OK;

    if (!json_is_object(o)) {
        json_decref(o);
        return errinfo_set(info, ERR_CORRUPT_INPUT, "a transform is a JSON object: %s",
                           o ? "" : why.text);
    }
    json_object_foreach(o, name, v)
    {
        e = member_set(d, name, v, info);
        if (e)
            break;
    }
    json_decref(o);
    return e;
}

static enum err item_write(const struct item *it, const struct transform_def *d, struct buf *out)
{
    const char *at = (const char *)d + it->at;

    switch (it->kind) {
    case KIND_LONG:
        return json_write_string(out, slice_str(*(char *const *)(const void *)at));
    case KIND_NUMBER:
        return json_write_i64(out, *(const int64_t *)(const void *)at);
    case KIND_SECONDS:
        return buf_printf(out, "%.15g", (double)*(const int64_t *)(const void *)at / 1000);
    case KIND_CHOICE:
        if (it->words[0][0] == 'f') /* a boolean, not a word */
            return buf_append_str(out, it->words[*(const bool *)at]);
        return json_write_string(out, slice_str(it->words[*(const bool *)at]));
    default:
        return json_write_string(out, slice_str(at));
    }
}

/* Texts that are not there are left out. */
static bool item_empty(const struct item *it, const struct transform_def *d)
{
    const char *at = (const char *)d + it->at;

    if (it->kind == KIND_LONG)
        return **(char *const *)(const void *)at == 0;
    return (it->kind == KIND_TEXT || it->kind == KIND_TOPIC) && *at == 0;
}

enum err transform_def_write(const struct transform_def *d, bool state, struct buf *out)
{
    enum err e = buf_append_str(out, "{");
    size_t i, n = 0;

    for (i = 0; i < ITEMS_N && !e; i++) {
        if (item_empty(&items[i], d))
            continue;
        e = buf_printf(out, "%s\"%s\":", n++ ? "," : "", items[i].name);
        e = e ? e : item_write(&items[i], d, out);
    }
    e = e ? e : buf_append_str(out, ",\"sql\":");
    e = e ? e : json_write_string(out, slice_str(d->sql));
    if (!e && state)
        e = buf_printf(out, ",\"paused\":%s,\"any_topic\":%s", d->paused ? "true" : "false",
                       d->any_topic ? "true" : "false");
    return e;
}

bool transform_def_same(const struct transform_def *a, const struct transform_def *b)
{
    struct buf x, y;
    bool same;

    buf_init(&x, LIMIT_KV_VALUE);
    buf_init(&y, LIMIT_KV_VALUE);
    same = !transform_def_write(a, false, &x) && !transform_def_write(b, false, &y) &&
           slice_eq(buf_slice(&x), buf_slice(&y)) && a->any_topic == b->any_topic;
    buf_fini(&x);
    buf_fini(&y);
    return same;
}

/* ---- the whole ---- */

static enum err window_check(const struct transform_def *d, struct errinfo *info)
{
    if (strpbrk(d->window, "'\\") || strpbrk(d->lateness, "'\\"))
        return errinfo_set(info, ERR_CONFIG,
                           "write window and lateness as in INTERVAL '…': "
                           "1 minute, 90 seconds, 1 day");
    if (!transform_windowed(d) && (d->update || d->lateness[0] || d->late_drop))
        return errinfo_set(info, ERR_CONFIG, "\"lateness\", \"late\" and \"emit\" need \"window\"");
    return ERR_OK;
}

enum err transform_def_check(struct transform_def *d, struct errinfo *info)
{
    struct buf b;
    enum err e;

    if (!d->name[0] || !d->input[0] || !d->output[0])
        return errinfo_set(info, ERR_CONFIG, "a transform needs \"%s\"",
                           !d->name[0]    ? "name"
                           : !d->input[0] ? "input"
                                          : "output");
    if (!d->sql[0])
        return errinfo_set(info, ERR_CONFIG, "a transform needs a statement");
    if (!strcasestr(d->sql, TRANSFORM_INPUT))
        return errinfo_set(info, ERR_CONFIG, "the statement must read from " TRANSFORM_INPUT);
    if (!d->dead_letters[0]) {
        int n = snprintf(d->dead_letters, sizeof d->dead_letters, "%s.dead-letters", d->name);

        if (n < 0 || n > TOPIC_NAME_MAX)
            return errinfo_set(info, ERR_CONFIG,
                               "name \"dead_letters\": the transform's own name "
                               "is too long for it");
    }
    if (!strcmp(d->input, d->output) || !strcmp(d->input, d->dead_letters) ||
        !strcmp(d->output, d->dead_letters))
        return errinfo_set(info, ERR_CONFIG,
                           "input, output and dead letters must be different topics");
    if ((e = window_check(d, info)))
        return e;
    buf_init(&b, LIMIT_KV_VALUE - 64);
    if (transform_def_write(d, true, &b))
        e = errinfo_set(info, ERR_TOO_LARGE, "a transform has at most %u bytes",
                        LIMIT_KV_VALUE - 64);
    buf_fini(&b);
    return e;
}
