/* Watches of key-value buckets: what is there from the index, then what comes from the log. See kv_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "lib/kv_int.h"

#define READ_BYTES     (256u << 10)
#define TIMEOUT_MS_MAX 1000000000000 /* 30 years: for ever */

struct weir_kv_watch {
    struct kv_bucket *b;
    char *pattern; /* NULL: all */
    bool no_deletes, ready;
    uint64_t *first; /* revisions that were there, ascending */
    size_t first_n, at;
    struct lib_scan scan;
    struct weir_kv_entry *entry; /* returned last */
};

static bool wanted(const struct weir_kv_watch *x, struct slice key, enum weir_kv_op op)
{
    if (x->no_deletes && op != WEIR_KV_PUT)
        return false;
    return !x->pattern || subject_match(slice_str(x->pattern), key);
}

static int by_revision(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Notes what is there, and where the log goes on. Locked, the index is as of now. */
static void begin(struct weir_kv_watch *x, const struct weir_kv_watch_options *o)
{
    struct kv_bucket *b = x->b;
    size_t cap = 0;
    uint32_t at = 0, i;
    void *v;

    kv_bucket_sweep(b);
    while (!o->updates_only && map_next(&b->keys, &at, NULL, &v)) {
        const struct kv_key *k = v;

        for (i = o->history || !k->n ? 0 : k->n - 1; i < k->n; i++) {
            if (!wanted(x, slice_of(k->text, k->len), k->revs[i].op))
                continue;
            if (x->first_n == cap) {
                cap = cap ? cap * 2 : 64;
                x->first = xrealloc(x->first, cap * sizeof *x->first);
            }
            x->first[x->first_n++] = k->revs[i].revision;
        }
    }
    if (x->first_n)
        qsort(x->first, x->first_n, sizeof *x->first, by_revision);
    lib_scan_init(&x->scan, b->p, b->scan.next);
}

weir_err weir_kv_watch_new(struct weir_kv *kv, const char *pattern,
                           const struct weir_kv_watch_options *options, struct weir_kv_watch **out,
                           struct weir_error *error)
{
    struct weir_kv_watch_options o = {0};
    struct errinfo info = {0};
    struct weir_kv_watch *x;
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    if (!e && pattern)
        e = kv_pattern_check(pattern, &info);
    if (e)
        return lib_fail(e, &info, error);
    x = xcalloc(1, sizeof *x);
    x->b = kv->b;
    x->pattern = pattern ? xstrdup(pattern) : NULL;
    x->no_deletes = o.no_deletes;
    io_mutex_lock(&x->b->lock);
    if (!(e = kv_bucket_follow(x->b, &info)))
        begin(x, &o);
    io_mutex_unlock(&x->b->lock);
    if (e)
        weir_kv_watch_close(&x);
    *out = x;
    return lib_read_fail(kv->b->w, e, &info, error);
}

/* Whether a revision is kept still. */
static bool kept(struct kv_bucket *b, const struct weir_kv_entry *entry)
{
    struct kv_key *k;
    bool is = false;
    uint32_t i;

    io_mutex_lock(&b->lock);
    k = kv_key_find(b, slice_str(entry->key));
    if (kv_key_last(b, k))
        for (i = 0; i < k->n; i++)
            is = is || k->revs[i].revision == entry->revision;
    io_mutex_unlock(&b->lock);
    return is;
}

/* Of what was there; ERR_AGAIN: that was all. */
static enum err next_first(struct weir_kv_watch *x, struct errinfo *info)
{
    enum err e;

    while (x->at < x->first_n) {
        e = kv_bucket_read(x->b, x->first[x->at++], &x->entry, info);
        if (e == ERR_NOT_FOUND)
            continue;
        if (e || kept(x->b, x->entry))
            return e;
        weir_kv_entry_free(&x->entry);
    }
    free(x->first);
    x->first = NULL;
    return ERR_AGAIN;
}

static enum err next_update(struct weir_kv_watch *x, struct errinfo *info)
{
    int64_t to = lib_scan_end(x->b->p);
    struct kv_record r;
    enum err e;

    if (topic_deleted(x->b->t))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the bucket was deleted");
    while ((e = kv_scan_next(&x->scan, slice_str(x->b->prefix), to, READ_BYTES, &r, info)) ==
           ERR_OK)
        if (r.key.ptr && wanted(x, r.key, r.op)) {
            x->entry = kv_entry_new(x->b, &r);
            break;
        }
    return e;
}

static enum err next(struct weir_kv_watch *x, struct weir_kv_entry *out, struct errinfo *info)
{
    enum err e = ERR_AGAIN;

    weir_kv_entry_free(&x->entry);
    if (!x->ready)
        e = next_first(x, info);
    if (e == ERR_AGAIN && !x->ready) {
        x->ready = true;
        *out = (struct weir_kv_entry){.key = "", .value = "", .op = WEIR_KV_READY};
        return ERR_OK;
    }
    if (e == ERR_AGAIN)
        e = next_update(x, info);
    if (!e)
        *out = *x->entry;
    return e;
}

weir_err weir_kv_watch_next(struct weir_kv_watch *x, int64_t timeout_ms, struct weir_kv_entry *out,
                            struct weir_error *error)
{
    uint64_t began = io_mono_ns(io_real()), seen;
    struct errinfo info = {0};
    int64_t left = 0;
    enum err e;

    if (timeout_ms < 0 || timeout_ms > TIMEOUT_MS_MAX)
        timeout_ms = TIMEOUT_MS_MAX;
    for (;;) {
        seen = broker_commits(x->b->w->b);
        e = next(x, out, &info);
        left = timeout_ms - (int64_t)((io_mono_ns(io_real()) - began) / 1000000u);
        if (e != ERR_AGAIN || left <= 0)
            return lib_read_fail(x->b->w, e, &info, error);
        lib_wait(x->b->w, seen, (uint64_t)left);
    }
}

void weir_kv_watch_close(struct weir_kv_watch **watch)
{
    struct weir_kv_watch *x = *watch;

    *watch = NULL;
    if (!x)
        return;
    if (x->scan.headers)
        lib_scan_fini(&x->scan);
    weir_kv_entry_free(&x->entry);
    free(x->first);
    free(x->pattern);
    free(x);
}
