/* The files of a folder of JSON lines at one moment, for readers. See jsonl.h.
 *
 * A listing alone does not tell: files of the newest commit may be missing still, and while small ones
 * are joined some are gone and their first copy is hidden. So the newest commit is read before the
 * listing and looked for after it; if there is another, it is done again. Small files go only after a
 * commit that says so, so a listing that lies between two looks at the same commit misses none that it
 * does not name. Files that the commit has joined are left out, and the joined one, or else its first
 * copy, stands for them.
 *
 * Threads: any. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "lake/jsonl.h"

#define DAY_MS        86400000
#define FIRST_DAY_END (TIME_MS_MIN + DAY_MS) /* of the days that have names */
#define LAST_DAY_END  (TIME_MS_MAX + 1)
#define TRIES_MAX     100u

bool jsonl_name_parse(const char *path, struct jsonl_name *out)
{
    int at = 0;
    size_t i;

    for (i = 0; i < 11; i++)
        if (path[i] == 0 ||
            (i == 4 || i == 7 || i == 10 ? path[i] != '/' : path[i] < '0' || path[i] > '9'))
            return false;
    if (sscanf(path + 11, "%" SCNd32 "-%" SCNd64 "-%" SCNd64 "%n", &out->partition, &out->first,
               &out->last, &at) != 3 ||
        at == 0)
        return false;
    out->suffix = path + 11 + at;
    memcpy(out->day, path, 10);
    out->day[10] = 0;
    return strcmp(out->suffix, ".jsonl") == 0 || strcmp(out->suffix, ".jsonl.gz") == 0 ||
           strcmp(out->suffix, ".jsonl.zst") == 0;
}

int64_t jsonl_day_end(const char *path)
{
    char text[11];
    int64_t ms;

    snprintf(text, sizeof text, "%.4s-%.2s-%.2s", path, path + 5, path + 8);
    return time_parse(slice_str(text), &ms) ? ms + DAY_MS : INT64_MAX;
}

struct look {
    struct lake *l;
    struct lake_view *v;
    uint32_t *cap;
    struct arena *arena;
    struct jsonl_commit c;
    size_t prefix;
    bool merged; /* the joined file is there */
    bool full;
};

static bool is_gone(const struct jsonl_commit *c, const char *path)
{
    uint32_t i;

    for (i = 0; i < c->gone_n; i++)
        if (strcmp(c->gone[i], path) == 0)
            return true;
    return false;
}

/* key: of the object; the name tells what it has. */
static void file_add(struct look *k, const char *key, const struct jsonl_name *n, const char *day,
                     uint64_t bytes)
{
    size_t len = strlen(store_url(k->l->store)) + 1 + strlen(key);
    int64_t end = jsonl_day_end(day);
    struct lake_view_file *f;
    char *location = arena_alloc(k->arena, len + 1);

    if (!location) {
        k->full = true;
        return;
    }
    snprintf(location, len + 1, "%s/%s", store_url(k->l->store), key);
    if (k->v->files_n == *k->cap) {
        *k->cap = *k->cap ? *k->cap * 2 : 64;
        k->v->file = xrealloc(k->v->file, *k->cap * sizeof *k->v->file);
    }
    f = &k->v->file[k->v->files_n++];
    *f = (struct lake_view_file){.location = location,
                                 .bytes = bytes,
                                 .partition_min = n->partition,
                                 .partition_max = n->partition,
                                 .offset_min = n->first,
                                 .offset_max = n->last,
                                 .position_min = INT64_MIN,
                                 .position_max = INT64_MAX,
                                 .time_min_us = INT64_MIN,
                                 .time_max_us = INT64_MAX};
    if (end != INT64_MAX) {
        /* the first and the last day have all times before and after them */
        f->time_min_us = end <= FIRST_DAY_END ? INT64_MIN : (end - DAY_MS) * 1000;
        f->time_max_us = end >= LAST_DAY_END ? INT64_MAX : end * 1000 - 1;
    }
}

static bool on_object(void *arg, const struct store_entry *e)
{
    const char *path;
    struct look *k = arg;
    struct jsonl_name n;

    path = e->key + k->prefix;
    if (!jsonl_name_parse(path, &n) || is_gone(&k->c, path))
        return true;
    if (k->c.merged && strcmp(path, k->c.file[0].path) == 0)
        k->merged = true;
    file_add(k, e->key, &n, path, e->size);
    return !k->full;
}

/* The first copy of what is being joined, for the file that is not there yet. */
static enum err copy_add(struct look *k, const struct table *t, struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    struct store_stat st;
    struct jsonl_name n;
    enum err e = jsonl_key(t, k->c.merged, key, info);

    e = e ? e : store_head(k->l->store, key, &st, info);
    if (e)
        return e == ERR_NOT_FOUND ? ERR_AGAIN : e; /* it has its place by now */
    if (!jsonl_name_parse(k->c.file[0].path, &n))
        return errinfo_set(info, ERR_CORRUPT, "a commit names the file %.100s", k->c.file[0].path);
    file_add(k, key, &n, k->c.file[0].path, st.size);
    return ERR_OK;
}

/* One try. ERR_AGAIN: there is another commit now. */
static enum err look(struct look *k, const struct table *t, struct errinfo *info)
{
    char prefix[STORE_KEY_MAX + 1];
    struct jsonl_commit after;
    enum err e = jsonl_key(t, "", prefix, info);

    k->v->files_n = 0;
    k->merged = k->full = false;
    k->prefix = strlen(prefix);
    e = e ? e : jsonl_commit_newest(k->l, t, &k->c, info);
    if (e)
        return e;
    e = store_list(k->l->store, prefix, NULL, on_object, k, info);
    if (!e && k->full)
        e = errinfo_set(info, ERR_LIMIT, "the topic's folder has too many files");
    if (!e && k->c.merged && !k->merged)
        e = copy_add(k, t, info);
    if (!e && !(e = jsonl_commit_newest(k->l, t, &after, info))) {
        e = after.number == k->c.number ? ERR_OK : ERR_AGAIN;
        jsonl_commit_fini(&after);
    }
    return e;
}

static void covered_get(struct look *k)
{
    uint32_t i;

    k->v->snapshot_id = (int64_t)k->c.number;
    k->v->boundary_n = (uint32_t)json_array_size(k->c.covered);
    k->v->boundary = xcalloc((size_t)k->v->boundary_n + 1, sizeof *k->v->boundary);
    for (i = 0; i < k->v->boundary_n; i++)
        k->v->boundary[i] = json_integer_value(json_array_get(k->c.covered, i));
}

enum err jsonl_view_fill(struct lake *l, struct topic *topic, struct lake_view *v, uint32_t *cap,
                         struct arena *arena, struct errinfo *info)
{
    struct look k = {.l = l, .v = v, .cap = cap, .arena = arena};
    char base[STORE_KEY_MAX + 1];
    struct table *t = xcalloc(1, sizeof *t); /* as much of one as names and checks want */
    unsigned tries = 0;
    enum err e = lake_ready(l, info);

    if (!e && snprintf(base, sizeof base, "%s/%s", l->conf.namespace_, topic_name(topic)) >
                  (int)STORE_KEY_MAX)
        e = errinfo_set(info, ERR_TOO_LARGE, "the name of the topic's folder is too long");
    t->name = (char *)(uintptr_t)topic_name(topic);
    t->base = base;
    memcpy(t->uuid, topic_uuid(topic), sizeof t->uuid);
    while (!e && (e = look(&k, t, info)) == ERR_AGAIN && ++tries < TRIES_MAX) {
        jsonl_commit_fini(&k.c);
        e = ERR_OK;
    }
    if (!e)
        covered_get(&k);
    else if (e == ERR_AGAIN)
        e = errinfo_set(info, ERR_TIMEOUT, "the topic's folder changes all the time");
    if (k.c.covered)
        jsonl_commit_fini(&k.c);
    free(t);
    return e;
}
