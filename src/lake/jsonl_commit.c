/* Commits of topics that are folders of JSON lines. See jsonl.h.
 *
 *   {"version":1,"topic":"orders","topic_id":"…32 hex digits","number":12,"covered":[100,97],
 *    "files":[{"path":"2026/11/21/0-90-99.jsonl.zst","partition":0,"records":10,"ranges":[[90,100]]}],
 *    "merged":"NAME","gone":["path", …]}       the last two of compactions
 *
 * Numbers go up by one; the newest alone is ever looked at again. Older ones stay for a while, so
 * that a put that was on its way for long cannot take a number that was given before. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "lake/jsonl.h"

#define SUFFIX      ".commit"
#define DIGITS      20
#define COMMIT_MAX  (64u << 20) /* bytes */
#define FILES_LIMIT 65536u

void jsonl_commit_init(struct jsonl_commit *c, uint64_t number, const int64_t *covered, int32_t n)
{
    int32_t i;

    memset(c, 0, sizeof *c);
    c->number = number;
    c->covered = json_array();
    for (i = 0; i < n; i++)
        json_array_append_new(c->covered, json_integer(covered[i]));
}

void jsonl_commit_fini(struct jsonl_commit *c)
{
    uint32_t i;

    for (i = 0; i < c->files_n; i++) {
        if (c->file[i].tmp[0])
            io_unlink(io_real(), c->file[i].tmp, NULL);
        free(c->file[i].path);
        free(c->file[i].range);
    }
    for (i = 0; i < c->gone_n; i++)
        free(c->gone[i]);
    free(c->gone);
    free(c->file);
    free(c->merged);
    json_decref(c->covered);
    memset(c, 0, sizeof *c);
}

struct jsonl_file *jsonl_commit_add(struct jsonl_commit *c)
{
    if (c->files_n == c->files_cap) {
        c->files_cap = c->files_cap ? c->files_cap * 2 : 8;
        c->file = xrealloc(c->file, c->files_cap * sizeof *c->file);
    }
    memset(&c->file[c->files_n], 0, sizeof *c->file);
    return &c->file[c->files_n++];
}

enum err jsonl_key(const struct table *t, const char *path, char out[STORE_KEY_MAX + 1],
                   struct errinfo *info)
{
    int n = snprintf(out, STORE_KEY_MAX + 1, "%s/%s", t->base, path);

    return n > 0 && (unsigned)n <= STORE_KEY_MAX
               ? ERR_OK
               : errinfo_set(info, ERR_TOO_LARGE, "the names of the topic's files are too long");
}

/* ---- as JSON ---- */

static json_t *file_json(const struct jsonl_file *f)
{
    json_t *ranges = json_array();
    uint32_t i;

    for (i = 0; i < f->ranges_n; i++)
        json_array_append_new(
            ranges, json_pack("[II]", (json_int_t)f->range[i].from, (json_int_t)f->range[i].to));
    return json_pack("{s:s, s:i, s:I, s:o}", "path", f->path, "partition",
                     f->ranges_n ? (int)f->range[0].partition : -1, "records",
                     (json_int_t)f->records, "ranges", ranges);
}

static json_t *commit_json(const struct table *t, const struct jsonl_commit *c)
{
    json_t *files = json_array(), *gone, *o;
    char id[33];
    uint32_t i;

    hex_encode(t->uuid, 16, id);
    for (i = 0; i < c->files_n; i++)
        json_array_append_new(files, file_json(&c->file[i]));
    o = json_pack("{s:i, s:s, s:s, s:I, s:O, s:o}", "version", 1, "topic", t->name, "topic_id", id,
                  "number", (json_int_t)c->number, "covered", c->covered, "files", files);
    if (!c->merged)
        return o;
    gone = json_array();
    for (i = 0; i < c->gone_n; i++)
        json_array_append_new(gone, json_string(c->gone[i]));
    json_object_set_new(o, "merged", json_string(c->merged));
    json_object_set_new(o, "gone", gone);
    return o;
}

static bool file_parse(const json_t *o, struct jsonl_file *f)
{
    const json_t *ranges = json_object_get(o, "ranges"), *r;
    const char *path = json_string_value(json_object_get(o, "path"));
    json_int_t partition = json_integer_value(json_object_get(o, "partition"));
    size_t i;

    if (!path || !json_is_array(ranges) || json_array_size(ranges) > LIMIT_LAKE_RANGES)
        return false;
    f->path = xstrdup(path);
    f->records = (uint64_t)json_integer_value(json_object_get(o, "records"));
    f->range = xcalloc(json_array_size(ranges) + 1, sizeof *f->range);
    json_array_foreach(ranges, i, r) f->range[f->ranges_n++] =
        (struct lake_range){(int32_t)partition, json_integer_value(json_array_get(r, 0)),
                            json_integer_value(json_array_get(r, 1))};
    return true;
}

static bool commit_parse(const json_t *o, struct jsonl_commit *c)
{
    const json_t *files = json_object_get(o, "files"), *gone = json_object_get(o, "gone"), *v;
    const char *merged = json_string_value(json_object_get(o, "merged"));
    size_t i;

    if (json_integer_value(json_object_get(o, "version")) != 1 || !json_is_array(files) ||
        !json_is_array(json_object_get(o, "covered")) || json_array_size(files) > FILES_LIMIT ||
        json_array_size(gone) > FILES_LIMIT)
        return false;
    c->covered = json_incref(json_object_get(o, "covered"));
    json_array_foreach(files, i, v) if (!file_parse(v, jsonl_commit_add(c))) return false;
    if (!merged)
        return true;
    c->merged = xstrdup(merged);
    c->gone = xcalloc(json_array_size(gone) + 1, sizeof *c->gone);
    json_array_foreach(gone, i, v) if (json_is_string(v)) c->gone[c->gone_n++] =
        xstrdup(json_string_value(v));
    return c->files_n == 1;
}

/* ---- in the store ---- */

static enum err commit_key(const struct table *t, uint64_t number, char out[STORE_KEY_MAX + 1],
                           struct errinfo *info)
{
    char name[DIGITS + sizeof JSONL_HIDDEN SUFFIX];

    snprintf(name, sizeof name, JSONL_HIDDEN "%0*" PRIu64 SUFFIX, DIGITS, number);
    return jsonl_key(t, name, out, info);
}

enum err jsonl_commit_put(struct lake *l, const struct table *t, const struct jsonl_commit *c,
                          struct errinfo *info)
{
    struct store_put how = {.condition = STORE_IF_NONE, .content_type = "application/json"};
    char key[STORE_KEY_MAX + 1];
    struct store_source src = {0};
    json_t *o = commit_json(t, c);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    enum err e = commit_key(t, c->number, key, info);

    json_decref(o);
    if (!e && !text)
        e = errinfo_set(info, ERR_INTERNAL, "a commit cannot be built");
    if (!e) {
        src.bytes = slice_str(text);
        e = store_put(l->store, key, &src, &how, NULL, info);
    }
    free(text);
    return e;
}

struct newest {
    size_t prefix;
    uint64_t number;
    bool any;
};

/* The number in a commit's key behind the prefix. */
static bool number_of(const char *name, uint64_t *number)
{
    char *end;

    if (strlen(name) != DIGITS + sizeof SUFFIX - 1 || strspn(name, "0123456789") != DIGITS ||
        strcmp(name + DIGITS, SUFFIX) != 0)
        return false;
    *number = strtoull(name, &end, 10);
    return true;
}

static bool on_commit(void *arg, const struct store_entry *e)
{
    struct newest *n = arg;
    uint64_t number;

    if (number_of(e->key + n->prefix, &number) && (!n->any || number > n->number)) {
        n->number = number;
        n->any = true;
    }
    return true;
}

static enum err topic_check(const struct table *t, const json_t *o, struct errinfo *info)
{
    const char *is = json_string_value(json_object_get(o, "topic_id"));
    char id[33];

    hex_encode(t->uuid, 16, id);
    return is && strcmp(is, id) == 0
               ? ERR_OK
               : errinfo_set(info, ERR_EXISTS,
                             "the folder \"%.100s\" belongs to another topic, that had this name "
                             "before: move or delete it, or write to a topic of another name",
                             t->base);
}

static enum err commit_get(struct lake *l, const struct table *t, struct jsonl_commit *out,
                           struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    json_t *o = NULL;
    struct buf b;
    enum err e = commit_key(t, out->number, key, info);

    buf_init(&b, COMMIT_MAX);
    e = e ? e : store_get(l->store, key, 0, STORE_ALL, &b, NULL, info);
    if (!e && !(o = json_loadb((const char *)b.ptr, b.len, 0, NULL)))
        e = errinfo_set(info, ERR_CORRUPT, "%s is no JSON", key);
    e = e ? e : topic_check(t, o, info);
    if (!e && !commit_parse(o, out))
        e = errinfo_set(info, ERR_CORRUPT, "%s is no commit of this version of Weir", key);
    json_decref(o);
    buf_fini(&b);
    return e;
}

enum err jsonl_commit_newest(struct lake *l, const struct table *t, struct jsonl_commit *out,
                             struct errinfo *info)
{
    char prefix[STORE_KEY_MAX + 1];
    struct newest n = {0};
    enum err e = jsonl_key(t, JSONL_HIDDEN, prefix, info);

    memset(out, 0, sizeof *out);
    n.prefix = strlen(prefix);
    if (!e)
        e = store_list(l->store, prefix, NULL, on_commit, &n, info);
    if (!e && !n.any)
        return ERR_NOT_FOUND;
    out->number = n.number;
    e = e ? e : commit_get(l, t, out, info);
    if (e)
        jsonl_commit_fini(out);
    return e;
}

/* ---- old ones ---- */

struct sweep {
    size_t prefix;
    int64_t older_than_ms;
    uint64_t keep;
    char **key;
    size_t n, cap;
};

static bool on_old(void *arg, const struct store_entry *e)
{
    struct sweep *s = arg;
    uint64_t number;

    if (e->modified_ms >= s->older_than_ms ||
        (number_of(e->key + s->prefix, &number) && number >= s->keep))
        return true;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->key = xrealloc(s->key, s->cap * sizeof *s->key);
    }
    s->key[s->n++] = xstrdup(e->key);
    return s->n < FILES_LIMIT;
}

enum err jsonl_commit_sweep(struct lake *l, const struct table *t, int64_t older_than_ms,
                            struct errinfo *info)
{
    struct sweep s = {.older_than_ms = older_than_ms, .keep = t->jsonl_number};
    char prefix[STORE_KEY_MAX + 1];
    enum err e = jsonl_key(t, JSONL_HIDDEN, prefix, info);

    s.prefix = strlen(prefix);
    if (!e)
        e = store_list(l->store, prefix, NULL, on_old, &s, info);
    if (!e && s.n)
        e = store_delete(l->store, (const char *const *)s.key, s.n, info);
    if (!e)
        atomic_fetch_add(&l->orphans, s.n);
    while (s.n)
        free(s.key[--s.n]);
    free(s.key);
    return e;
}
