/* Looking after folders of JSON lines: small files of a day become one, on request; days that are too
 * old go. See jsonl.h. What has not the name of a file of lines is left alone. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/timefmt.h"
#include "broker/tier.h"
#include "lake/jsonl.h"

#define FILES_MAX   256u /* into one */
#define FILES_LEAST 4u   /* fewer are not worth a merge */
#define MERGES_MAX  64u  /* in a turn */
#define SEEN_MAX    1000000u
#define COPY_BYTES  (1u << 20)

struct seen {
    char *path;
    struct jsonl_name name;
    uint64_t bytes;
};
struct survey {
    size_t prefix;
    uint64_t bytes_max;  /* larger ones are left out */
    int64_t day_end_max; /* not INT64_MAX: only days that end before */
    struct seen *seen;
    size_t n, cap;
};

/* ---- looking at the files ---- */

static bool on_object(void *arg, const struct store_entry *e)
{
    struct survey *s = arg;
    struct seen f = {.bytes = e->size, .path = xstrdup(e->key + s->prefix)};

    if (!jsonl_name_parse(f.path, &f.name) || f.bytes > s->bytes_max ||
        jsonl_day_end(f.path) > s->day_end_max) {
        free(f.path);
        return true;
    }
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->seen = xrealloc(s->seen, s->cap * sizeof *s->seen);
    }
    s->seen[s->n++] = f;
    return s->n < SEEN_MAX;
}

/* What may go together comes together. */
static int kind_order(const struct seen *a, const struct seen *b)
{
    int c = strcmp(a->name.day, b->name.day);

    if (c || a->name.partition != b->name.partition)
        return c ? c : a->name.partition < b->name.partition ? -1 : 1;
    return strcmp(a->name.suffix, b->name.suffix);
}

static int seen_order(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;
    int c = kind_order(a, b);

    if (c)
        return c;
    return a->name.first < b->name.first ? -1 : a->name.first > b->name.first;
}

static enum err survey_make(struct lake *l, struct table *t, struct survey *s, struct errinfo *info)
{
    char prefix[STORE_KEY_MAX + 1];
    enum err e = jsonl_key(t, "", prefix, info);

    s->prefix = strlen(prefix);
    if (!e)
        e = store_list(l->store, prefix, NULL, on_object, s, info);
    if (s->n)
        qsort(s->seen, s->n, sizeof *s->seen, seen_order);
    return e;
}

static void survey_fini(struct survey *s)
{
    while (s->n)
        free(s->seen[--s->n].path);
    free(s->seen);
}

/* ---- merging ---- */

static enum err append_file(struct io_file *to, const char *path, uint64_t *at, uint8_t *piece,
                            struct errinfo *info)
{
    struct io_file *from = NULL;
    uint64_t off = 0;
    size_t got = 1;
    enum err e = io_open(io_real(), path, IO_RDONLY, &from, info);

    while (!e && got) {
        e = io_pread(from, piece, COPY_BYTES, off, &got, info);
        if (!e && got)
            e = io_pwrite(to, piece, got, *at, info);
        off += got;
        *at += got;
    }
    io_close(&from);
    return e;
}

/* The files one behind the other at path; *bytes is how many. */
static enum err join(struct lake *l, const struct table *t, const struct seen *s, uint32_t n,
                     const char *path, uint64_t *bytes, struct errinfo *info)
{
    uint8_t *piece = xmalloc(COPY_BYTES);
    char key[STORE_KEY_MAX + 1], tmp[512];
    struct io_file *to = NULL;
    enum err e = io_open(io_real(), path, IO_CREATE | IO_TRUNC, &to, info);
    uint32_t i;

    *bytes = 0;
    for (i = 0; !e && i < n; i++) {
        if (lake_stopping(l))
            e = errinfo_set(info, ERR_CANCELLED, "the server stops");
        e = e ? e : jsonl_key(t, s[i].path, key, info);
        tmp_path(l, tmp);
        e = e ? e : store_get_file(l->store, key, tmp, NULL, info);
        if (e)
            break;
        e = append_file(to, tmp, bytes, piece, info);
        io_unlink(io_real(), tmp, NULL);
    }
    io_close(&to);
    free(piece);
    if (e)
        io_unlink(io_real(), path, NULL);
    return e;
}

static enum err copy_put(struct lake *l, const struct table *t, const struct jsonl_commit *c,
                         struct errinfo *info)
{
    struct store_source src = {.path = c->file[0].tmp, .len = c->file[0].bytes};
    char key[STORE_KEY_MAX + 1];
    enum err e = jsonl_key(t, c->merged, key, info);

    return e ? e : store_put(l->store, key, &src, NULL, NULL, info);
}

/* Describes the merge, and makes its file. */
static enum err merge_make(struct lake *l, const struct table *t, const struct seen *s, uint32_t n,
                           struct jsonl_commit *c, struct errinfo *info)
{
    struct jsonl_file *f = jsonl_commit_add(c);
    int64_t last = s[0].name.last;
    char text[160], tmp[512];
    uint8_t id[8];
    uint32_t i;
    enum err e;

    c->gone = xcalloc(n, sizeof *c->gone);
    for (i = 0; i < n; i++) {
        c->gone[c->gone_n++] = xstrdup(s[i].path);
        last = s[i].name.last > last ? s[i].name.last : last;
    }
    snprintf(text, sizeof text, "%s/%d-%" PRId64 "-%" PRId64 "%s", s[0].name.day,
             (int)s[0].name.partition, s[0].name.first, last, s[0].name.suffix);
    f->path = xstrdup(text);
    io_random(io_real(), id, sizeof id);
    memcpy(text, JSONL_HIDDEN, sizeof JSONL_HIDDEN);
    hex_encode(id, sizeof id, text + strlen(text));
    c->merged = xstrdup(text);
    tmp_path(l, tmp);
    e = join(l, t, s, n, tmp, &f->bytes, info);
    if (!e)
        memcpy(f->tmp, tmp, sizeof tmp);
    return e;
}

static enum err merge(struct lake *l, struct table *t, struct topic *topic, const struct seen *s,
                      uint32_t n, struct errinfo *info)
{
    struct jsonl_commit c;
    enum err e;

    jsonl_commit_init(&c, t->jsonl_number + 1, t->covered, t->partitions_n);
    e = merge_make(l, t, s, n, &c, info);
    e = e ? e : copy_put(l, t, &c, info);
    if (!e) {
        e = jsonl_commit_put(l, t, &c, info);
        if (e == ERR_EXISTS)
            e = errinfo_set(info, ERR_CONFLICT, "somebody else has written to the topic's folder");
        e = e ? e : jsonl_finish(l, t, topic, &c, info);
        if (e)
            table_unload(t);
        else
            t->jsonl_number = c.number;
    }
    table_changed(l, t);
    if (!e)
        table_covered_show(l, t);
    jsonl_commit_fini(&c);
    return e;
}

/* How many files from s on go together. */
static uint32_t merge_size(const struct lake *l, const struct seen *s, size_t left)
{
    uint64_t bytes = 0;
    uint32_t n;

    for (n = 0; n < left && n < FILES_MAX && kind_order(&s[n], s) == 0; n++) {
        bytes += s[n].bytes;
        if (n && bytes > l->conf.file_bytes)
            break;
    }
    return n;
}

enum err jsonl_compact(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    struct survey s = {.bytes_max = l->conf.file_bytes / 2, .day_end_max = INT64_MAX};
    uint32_t n, merges = 0;
    size_t i;
    enum err e = jsonl_load(l, t, topic, info);

    if (e)
        return e;
    e = survey_make(l, t, &s, info);
    for (i = 0; !e && i < s.n && merges < MERGES_MAX; i += n) {
        n = merge_size(l, &s.seen[i], s.n - i);
        if (n < FILES_LEAST)
            continue;
        e = merge(l, t, topic, &s.seen[i], n, info);
        merges++;
    }
    survey_fini(&s);
    return e;
}

/* ---- what is too old ---- */

/* The newest commit's files must not be taken for files that are to be put still. */
static enum err commit_close(struct lake *l, struct table *t, struct errinfo *info)
{
    struct jsonl_commit c;
    enum err e;

    jsonl_commit_init(&c, t->jsonl_number + 1, t->covered, t->partitions_n);
    e = jsonl_commit_put(l, t, &c, info);
    if (e == ERR_EXISTS)
        e = errinfo_set(info, ERR_CONFLICT, "somebody else has written to the topic's folder");
    if (e)
        table_unload(t);
    else
        t->jsonl_number = c.number;
    jsonl_commit_fini(&c);
    return e;
}

/* Are all records of the file below the log's start? */
static bool is_below(struct topic *topic, const struct jsonl_name *n)
{
    return n->partition >= 0 && n->partition < topic_partitions(topic) &&
           n->last < partition_start(topic_partition(topic, n->partition));
}

/* Files of days that are over go, or those below the log's start. */
static enum err files_expire(struct lake *l, struct table *t, struct topic *topic,
                             int64_t before_ms, bool below, struct errinfo *info)
{
    struct survey s = {.bytes_max = UINT64_MAX, .day_end_max = before_ms};
    char key[STORE_KEY_MAX + 1];
    const char *one = key;
    size_t i, n = 0;
    enum err e;

    e = survey_make(l, t, &s, info);
    for (i = 0; i < s.n; i++) {
        if (!below || is_below(topic, &s.seen[i].name))
            s.seen[n++] = s.seen[i];
        else
            free(s.seen[i].path);
    }
    s.n = n;
    if (!e && s.n)
        e = commit_close(l, t, info);
    for (i = 0; !e && i < s.n; i++) {
        if (lake_stopping(l))
            e = errinfo_set(info, ERR_CANCELLED, "the server stops");
        e = e ? e : jsonl_key(t, s.seen[i].path, key, info);
        e = e ? e : store_delete(l->store, &one, 1, info);
    }
    if (s.n)
        table_changed(l, t);
    survey_fini(&s);
    return e;
}

enum err jsonl_expire(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    int64_t now = io_wall_ms(io_real()), old = now - l->conf.orphan_age_ms;
    struct topic_conf c;
    uint64_t n = 0;
    enum err e = jsonl_load(l, t, topic, info);

    topic_conf_get(topic, &c);
    if (!e && c.lake_retention_ms >= 0 && c.lake_retention_ms < now)
        e = files_expire(l, t, topic, now - c.lake_retention_ms, false, info);
    if (!e && lake_trims(&c))
        e = files_expire(l, t, topic, INT64_MAX, true, info);
    e = e ? e : jsonl_commit_sweep(l, t, old, info);
    return e ? e : store_sweep(l->store, old, &n, info);
}
