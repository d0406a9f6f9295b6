/* Loading and flushing topics that are folders of JSON lines. See jsonl.h. */
#include "lake/jsonl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"

/* ---- ending a commit ---- */

static enum err there(struct lake *l, const char *key, bool *is, struct errinfo *info)
{
    struct store_stat st;
    enum err e = store_head(l->store, key, &st, info);

    *is = e == ERR_OK;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

/* Makes a file of a commit that a crash ended before it was put. */
static enum err make_again(struct lake *l, struct table *t, struct topic *topic,
                           struct jsonl_file *f, struct errinfo *info)
{
    struct jsonl_made made;
    char tmp[512];
    enum err e;

    tmp_path(l, tmp);
    e = jsonl_write(l, topic, f->range, f->ranges_n, jsonl_codec_of(f->path), tmp, &made, info);
    if (e)
        return e;
    memcpy(f->tmp, tmp, sizeof tmp);
    f->bytes = made.bytes;
    if (made.records < f->records)
        table_lost(l, t, f->records - made.records);
    f->records = made.records;
    return ERR_OK;
}

static enum err file_put(struct lake *l, struct table *t, struct jsonl_file *f,
                         struct errinfo *info)
{
    struct store_put how = {.condition = STORE_IF_NONE, .content_type = "application/x-ndjson"};
    struct store_source src = {.path = f->tmp, .len = f->bytes};
    char key[STORE_KEY_MAX + 1];
    enum err e = jsonl_key(t, f->path, key, info);

    if (jsonl_codec_of(f->path) != CODEC_NONE)
        how.content_type =
            jsonl_codec_of(f->path) == CODEC_GZIP ? "application/gzip" : "application/zstd";
    e = e ? e : store_put(l->store, key, &src, &how, NULL, info);
    if (e == ERR_EXISTS) /* an attempt of ours whose answer got lost: a name has one content */
        e = ERR_OK;
    if (!e)
        atomic_fetch_add(&l->bytes, f->bytes);
    return e;
}

static enum err files_finish(struct lake *l, struct table *t, struct topic *topic,
                             struct jsonl_commit *c, struct errinfo *info)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < c->files_n; i++) {
        struct jsonl_file *f = &c->file[i];
        char key[STORE_KEY_MAX + 1];
        bool is = false;

        if (lake_stopping(l))
            return errinfo_set(info, ERR_CANCELLED, "the server stops");
        if (!f->tmp[0]) {
            e = jsonl_key(t, f->path, key, info);
            e = e ? e : there(l, key, &is, info);
            if (e || is)
                continue;
            e = make_again(l, t, topic, f, info);
        }
        if (!e && f->records)
            e = file_put(l, t, f, info);
    }
    return e;
}

/* See jsonl.h: each step is right to take again while the first copy is there. */
static enum err merge_finish(struct lake *l, struct table *t, struct jsonl_commit *c,
                             struct errinfo *info)
{
    char copy[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
    const char *gone = key, *copy_key = copy;
    struct jsonl_file *f = &c->file[0];
    struct store_stat st;
    uint32_t i;
    enum err e = jsonl_key(t, c->merged, copy, info);

    e = e ? e : store_head(l->store, copy, &st, info);
    if (e)
        return e == ERR_NOT_FOUND ? ERR_OK : e; /* that was the last step */
    if (!f->tmp[0]) {
        char tmp[512];

        tmp_path(l, tmp);
        if ((e = store_get_file(l->store, copy, tmp, &st, info)))
            return e;
        memcpy(f->tmp, tmp, sizeof tmp);
        f->bytes = st.size;
    }
    for (i = 0; !e && i < c->gone_n; i++) {
        e = jsonl_key(t, c->gone[i], key, info);
        e = e ? e : store_delete(l->store, &gone, 1, info);
    }
    e = e ? e : file_put(l, t, f, info);
    e = e ? e : store_delete(l->store, &copy_key, 1, info);
    if (!e)
        atomic_fetch_add(&l->compactions, 1);
    return e;
}

enum err jsonl_finish(struct lake *l, struct table *t, struct topic *topic, struct jsonl_commit *c,
                      struct errinfo *info)
{
    return c->merged ? merge_finish(l, t, c, info) : files_finish(l, t, topic, c, info);
}

/* ---- loading ---- */

static enum err base_make(struct lake *l, struct table *t, struct errinfo *info)
{
    static const char *const division[] = {"partition", "day(timestamp)"};
    struct schema *s = columns_first_schema();
    struct buf b;
    size_t len;
    enum err e;

    buf_init(&b, STORE_KEY_MAX);
    e = buf_printf(&b, "%s/%s", l->conf.namespace_, t->name);
    e = e ? e : buf_append_u8(&b, 0);
    if (e)
        buf_fini(&b);
    else
        t->base = (char *)buf_take(&b, &len);
    e = e ? errinfo_set(info, e, "the name of the topic's folder is too long")
          : spec_from_texts(division, 2, s, 0, SPEC_FIRST_FIELD, &t->spec, info);
    schema_free(&s);
    return e;
}

enum err jsonl_load(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    struct jsonl_commit c;
    enum err e;

    if (t->jsonl && t->partitions_n == topic_partitions(topic))
        return ERR_OK;
    if ((e = lake_ready(l, info)))
        return e;
    table_unload(t);
    e = base_make(l, t, info);
    e = e ? e : jsonl_commit_newest(l, t, &c, info);
    if (e == ERR_NOT_FOUND) {
        e = table_covered(t, topic, NULL, info);
    } else if (!e) {
        t->jsonl_number = c.number;
        e = table_covered(t, topic, c.covered, info);
        e = e ? e : jsonl_finish(l, t, topic, &c, info);
        jsonl_commit_fini(&c);
    }
    if (e) {
        table_unload(t);
        return e;
    }
    t->jsonl = true;
    table_covered_show(l, t);
    return ERR_OK;
}

/* ---- a flush ---- */

static char *path_make(const struct group *g, const struct jsonl_made *m, int codec)
{
    static const char *const suffix[] = {
        [LAKE_JSONL_PLAIN] = "", [LAKE_JSONL_GZIP] = ".gz", [LAKE_JSONL_ZSTD] = ".zst"};
    char day[TIME_TEXT_LEN + 1], path[128];

    time_format(g->min[COLUMN_TIMESTAMP] / 1000, day); /* 2026-11-21T… */
    snprintf(path, sizeof path, "%.4s/%.2s/%.2s/%d-%" PRId64 "-%" PRId64 ".jsonl%s", day, day + 5,
             day + 8, (int)g->range[0].partition, m->first, m->last, suffix[codec]);
    return xstrdup(path);
}

static enum err group_make(struct lake *l, struct topic *topic, const struct group *g, int codec,
                           struct jsonl_commit *c, struct errinfo *info)
{
    static const enum codec codecs[] = {[LAKE_JSONL_PLAIN] = CODEC_NONE,
                                        [LAKE_JSONL_GZIP] = CODEC_GZIP,
                                        [LAKE_JSONL_ZSTD] = CODEC_ZSTD};
    struct jsonl_made made;
    struct jsonl_file *f;
    char tmp[512];
    enum err e;

    tmp_path(l, tmp);
    e = jsonl_write(l, topic, g->range, g->ranges_n, codecs[codec], tmp, &made, info);
    if (e || !made.records) {
        io_unlink(io_real(), tmp, NULL);
        return e;
    }
    f = jsonl_commit_add(c);
    memcpy(f->tmp, tmp, sizeof tmp);
    f->path = path_make(g, &made, codec);
    f->range = xmemdup(g->range, g->ranges_n * sizeof *g->range);
    f->ranges_n = g->ranges_n;
    f->records = made.records;
    f->bytes = made.bytes;
    return ERR_OK;
}

static void commit_count(struct lake *l, struct table *t, const struct jsonl_commit *c)
{
    uint64_t rows = 0, bytes = 0;
    uint32_t i;

    for (i = 0; i < c->files_n; i++) {
        rows += c->file[i].records;
        bytes += c->file[i].bytes;
    }
    table_flushed(l, t, c->files_n, rows, bytes);
}

static enum err scan_commit(struct lake *l, struct table *t, struct topic *topic,
                            const struct scan *s, int codec, struct errinfo *info)
{
    struct jsonl_commit c;
    const struct group *g;
    enum err e = ERR_OK;

    jsonl_commit_init(&c, t->jsonl_number + 1, s->covered, t->partitions_n);
    for (g = s->groups; !e && g; g = g->next)
        e = group_make(l, topic, g, codec, &c, info);
    if (!e) {
        e = jsonl_commit_put(l, t, &c, info);
        if (e == ERR_EXISTS)
            e = errinfo_set(info, ERR_CONFLICT, "somebody else has written to the topic's folder");
        e = e ? e : jsonl_finish(l, t, topic, &c, info);
        if (e)
            table_unload(t); /* what there is to be done is found when it is loaded again */
    }
    if (!e) {
        t->jsonl_number = c.number;
        memcpy(t->covered, s->covered, (size_t)t->partitions_n * sizeof *t->covered);
        table_lost(l, t, s->lost);
        table_changed(l, t);
        table_covered_show(l, t);
        commit_count(l, t, &c);
    }
    jsonl_commit_fini(&c);
    return e;
}

enum err jsonl_flush(struct lake *l, struct table *t, struct topic *topic, bool *more,
                     struct errinfo *info)
{
    struct topic_conf conf;
    struct scan s;
    enum err e;

    *more = false;
    topic_conf_get(topic, &conf);
    if ((e = jsonl_load(l, t, topic, info)) ||
        (e = lake_scan_run(l, t, topic, false, LIMIT_LAKE_FLUSH_BYTES, &s, info)))
        return e;
    *more = s.full;
    if (memcmp(t->covered, s.covered, (size_t)t->partitions_n * sizeof *t->covered) != 0)
        e = scan_commit(l, t, topic, &s, conf.lake_jsonl_codec, info);
    lake_scan_fini(l, &s);
    return e;
}
