/* Key-value buckets: writing and asking. See kv_int.h.
 *
 * Who writes a key comes in turn by a ticket: looks at the index, if the change is conditional not before
 * all earlier changes of the key are in it, and hands its record over, which sequences it. Then the next
 * one has its turn, while this one waits for the disk: changes of one bucket share syncs. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "journal/batch.h"
#include "lib/kv_int.h"

#define KEY_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_=."
#define TRIES     16

/* ---- opening ---- */

weir_err weir_kv_open(struct weir *w, const char *bucket, const struct weir_kv_options *options,
                      struct weir_kv **out, struct weir_error *error)
{
    struct weir_kv_options o = {0};
    struct kv_bucket *b = NULL;
    struct errinfo info = {0};
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    e = e ? e : kv_bucket_open(w, bucket, &o, &b, &info);
    if (!e) {
        *out = xcalloc(1, sizeof **out);
        (*out)->b = b;
    }
    return lib_read_fail(w, e, &info, error);
}

void weir_kv_close(struct weir_kv **kv)
{
    if (!*kv)
        return;
    kv_bucket_close(&(*kv)->b);
    free(*kv);
    *kv = NULL;
}

/* ---- keys ---- */

static enum err key_check(const char *key, struct errinfo *info)
{
    size_t n = key ? strlen(key) : 0;

    if (n > LIMIT_BUCKET_KEY)
        return errinfo_set(info, ERR_TOO_LARGE, "a key has %u bytes at most", LIMIT_BUCKET_KEY);
    if (!n || strspn(key, KEY_CHARS) != n || key[0] == '.' || key[n - 1] == '.' ||
        strstr(key, ".."))
        return errinfo_set(info, ERR_INVALID, "'%.100s' is not a valid key", key ? key : "");
    return ERR_OK;
}

enum err kv_pattern_check(const char *pattern, struct errinfo *info)
{
    size_t n = strlen(pattern);

    if (n > LIMIT_BUCKET_KEY || !n || strspn(pattern, KEY_CHARS "*>") != n || pattern[0] == '.' ||
        pattern[n - 1] == '.' || strstr(pattern, ".."))
        return errinfo_set(info, ERR_INVALID, "'%.100s' is not a valid pattern of keys", pattern);
    return ERR_OK;
}

/* ---- writing ---- */

enum when { ALWAYS, ABSENT, AT };

struct change {
    const char *key;
    struct slice value;
    enum weir_kv_op op;
    enum when when;
    uint64_t last; /* AT */
};

static enum err condition(const struct change *c, const struct kv_rev *last, struct errinfo *info)
{
    uint64_t at = last ? last->revision : 0;

    if (c->when == ABSENT && last && last->op == WEIR_KV_PUT)
        return errinfo_set(info, ERR_CONFLICT, "the key is there, at revision %llu",
                           (unsigned long long)at);
    if (c->when == AT && c->last != at)
        return errinfo_set(info, ERR_CONFLICT, "the key is at revision %llu, not %llu",
                           (unsigned long long)at, (unsigned long long)c->last);
    return ERR_OK;
}

/* What the change adds to the bucket must fit, less what it puts out. */
static enum err room(const struct kv_bucket *b, const struct kv_key *k, uint32_t bytes,
                     struct errinfo *info)
{
    uint64_t all = b->bytes + b->bytes_under_way + bytes;

    if (b->conf.bytes_max && k->n >= b->conf.history)
        all -= k->revs[0].bytes;
    if (b->conf.bytes_max && all > (uint64_t)b->conf.bytes_max)
        return errinfo_set(info, ERR_TOO_LARGE, "the bucket is full");
    return ERR_OK;
}

/* A change on its way. */
struct going {
    struct kv_key *k;
    struct append *a;
    struct append_slot slot;
    struct io_event done;
    enum err e;
    uint32_t bytes;
};

static void going_done(struct append *a, void *arg, enum err e)
{
    struct going *g = arg;

    (void)a;
    g->e = e;
    io_event_signal(&g->done);
}

static enum err encode(struct kv_bucket *b, const struct change *c, struct going *g,
                       struct errinfo *info)
{
    const struct record_header purges[] = {{SLICE_LIT("KV-Operation"), SLICE_LIT("PURGE")},
                                           {SLICE_LIT("Nats-Rollup"), SLICE_LIT("sub")}},
                               deletes[] = {{SLICE_LIT("KV-Operation"), SLICE_LIT("DEL")}};
    struct append_record r = {.timestamp_ms = -1, .value = c->value};
    struct buf key;
    enum err e;

    if (c->op != WEIR_KV_PUT) {
        r.headers = c->op == WEIR_KV_PURGE ? purges : deletes;
        r.headers_n = c->op == WEIR_KV_PURGE ? 2 : 1;
    }
    buf_init(&key, SIZE_MAX);
    buf_append_str(&key, b->prefix);
    buf_append_str(&key, c->key);
    r.key = buf_slice(&key);
    g->bytes = kv_bytes(key.len, r.headers, r.headers_n, r.value.len);
    g->a = append_new(b->w->b, going_done, g);
    e = append_record(g->a, b->t, 0, &r, &g->slot, info);
    buf_fini(&key);
    return e;
}

/* Waits for the turn; locked. The condition is looked at when all earlier changes are in the index. */
static enum err hand_over(struct kv_bucket *b, const struct change *c, struct going *g,
                          struct errinfo *info)
{
    struct kv_key *k = g->k;
    uint64_t ticket = k->tickets++;
    enum err e;

    while (k->serving != ticket || (c->when != ALWAYS && k->under_way))
        io_cond_wait(&b->turn, &b->lock);
    e = kv_bucket_follow(b, info);
    if (!e && c->when != ALWAYS && b->scan.next < b->written)
        e = errinfo_set(info, ERR_OVERLOADED, "a transaction on the bucket's topic is open");
    e = e ? e : condition(c, kv_key_last(b, k), info);
    e = e ? e : room(b, k, g->bytes, info);
    e = e ? e : append_submit(g->a, false, info);
    if (!e) {
        k->under_way++;
        b->bytes_under_way += g->bytes;
    }
    k->serving++;
    io_cond_broadcast(&b->turn);
    return e;
}

/* It is durable, or has failed; locked. */
static enum err arrive(struct kv_bucket *b, struct going *g, uint64_t *revision,
                       struct errinfo *info)
{
    struct append_place place;
    enum err e = g->e ? errinfo_set(info, g->e, "%s", err_text(g->e)) : ERR_OK;

    e = e ? e : append_place(g->a, g->slot, &place);
    if (!e) {
        *revision = (uint64_t)place.offset + (uint64_t)b->conf.first;
        if (b->written <= place.offset)
            b->written = place.offset + 1;
        kv_bucket_follow(b, NULL); /* if it cannot be read, the next one says so */
    }
    g->k->under_way--;
    b->bytes_under_way -= g->bytes;
    io_cond_broadcast(&b->turn);
    return e;
}

static enum err change(struct kv_bucket *b, const struct change *c, uint64_t *revision,
                       struct errinfo *info)
{
    struct going g = {0};
    enum err e = key_check(c->key, info);

    if (!e && !c->value.ptr)
        e = errinfo_set(info, ERR_INVALID, "a pointer is NULL but its length is not 0");
    if (!e && b->conf.value_bytes_max && c->value.len > (uint64_t)b->conf.value_bytes_max)
        e = errinfo_set(info, ERR_TOO_LARGE, "the bucket takes values of %lld bytes at most",
                        (long long)b->conf.value_bytes_max);
    if (e)
        return e;
    io_event_init(&g.done);
    e = encode(b, c, &g, info);
    io_mutex_lock(&b->lock);
    e = e ? e : kv_key_enter(b, slice_str(c->key), &g.k, info);
    if (!e && !(e = hand_over(b, c, &g, info))) {
        io_mutex_unlock(&b->lock);
        while (!io_event_wait(&g.done, UINT64_MAX))
            ;
        io_mutex_lock(&b->lock);
        e = arrive(b, &g, revision, info);
    }
    if (g.k)
        kv_key_leave(b, g.k);
    io_mutex_unlock(&b->lock);
    append_free(&g.a);
    io_event_fini(&g.done);
    kv_bucket_note(b, false);
    return e;
}

static weir_err run(struct weir_kv *kv, const struct change *c, uint64_t *revision,
                    struct weir_error *error)
{
    struct errinfo info = {0};
    uint64_t got = 0;
    enum err e = change(kv->b, c, &got, &info);

    if (revision)
        *revision = got;
    return lib_read_fail(kv->b->w, e, &info, error);
}

/* NULL with a length stays NULL. */
static struct slice value_of(const void *value, size_t len)
{
    return value || len ? slice_of(value, len) : SLICE_LIT("");
}

weir_err weir_kv_put(struct weir_kv *kv, const char *key, const void *value, size_t value_len,
                     uint64_t *revision, struct weir_error *error)
{
    struct change c = {.key = key, .value = value_of(value, value_len)};

    return run(kv, &c, revision, error);
}

weir_err weir_kv_create(struct weir_kv *kv, const char *key, const void *value, size_t value_len,
                        uint64_t *revision, struct weir_error *error)
{
    struct change c = {.key = key, .value = value_of(value, value_len), .when = ABSENT};

    return run(kv, &c, revision, error);
}

weir_err weir_kv_update(struct weir_kv *kv, const char *key, const void *value, size_t value_len,
                        uint64_t last, uint64_t *revision, struct weir_error *error)
{
    struct change c = {.key = key, .value = value_of(value, value_len), .when = AT, .last = last};

    return run(kv, &c, revision, error);
}

weir_err weir_kv_delete(struct weir_kv *kv, const char *key, uint64_t last, uint64_t *revision,
                        struct weir_error *error)
{
    struct change c = {.key = key,
                       .value = SLICE_LIT(""),
                       .op = WEIR_KV_DELETE,
                       .when = last ? AT : ALWAYS,
                       .last = last};

    return run(kv, &c, revision, error);
}

weir_err weir_kv_purge(struct weir_kv *kv, const char *key, uint64_t last, uint64_t *revision,
                       struct weir_error *error)
{
    struct change c = {.key = key,
                       .value = SLICE_LIT(""),
                       .op = WEIR_KV_PURGE,
                       .when = last ? AT : ALWAYS,
                       .last = last};

    return run(kv, &c, revision, error);
}

/* ---- asking ---- */

/* The newest revision of a key that has a value. */
static enum err last_value(struct kv_bucket *b, const char *key, uint64_t *revision,
                           struct errinfo *info)
{
    const struct kv_rev *last;
    enum err e;

    io_mutex_lock(&b->lock);
    e = kv_bucket_follow(b, info);
    last = e ? NULL : kv_key_last(b, kv_key_find(b, slice_str(key)));
    if (last && last->op == WEIR_KV_PUT)
        *revision = last->revision;
    else if (!e)
        e = errinfo_set(info, ERR_NOT_FOUND, "the key has no value");
    io_mutex_unlock(&b->lock);
    return e;
}

weir_err weir_kv_get(struct weir_kv *kv, const char *key, struct weir_kv_entry **out,
                     struct weir_error *error)
{
    struct errinfo info = {0};
    uint64_t revision = 0;
    unsigned i;
    enum err e;

    *out = NULL;
    e = key_check(key, &info);
    /* a revision that is overwritten now may go before it is read */
    for (i = 0; !e && !*out && i < TRIES; i++) {
        e = last_value(kv->b, key, &revision, &info);
        e = e ? e : kv_bucket_read(kv->b, revision, out, &info);
        if (e == ERR_NOT_FOUND && revision && i + 1 < TRIES) {
            revision = 0;
            e = ERR_OK;
        }
    }
    return lib_read_fail(kv->b->w, e, &info, error);
}

/* The kept revisions of a key: *out is the caller's. */
static enum err revisions(struct kv_bucket *b, const char *key, uint64_t **out, uint32_t *n,
                          struct errinfo *info)
{
    struct kv_key *k;
    enum err e;
    uint32_t i;

    *out = NULL;
    *n = 0;
    io_mutex_lock(&b->lock);
    e = kv_bucket_follow(b, info);
    k = e ? NULL : kv_key_find(b, slice_str(key));
    if (kv_key_last(b, k)) {
        *n = k->n;
        *out = xmalloc(k->n * sizeof **out);
        for (i = 0; i < k->n; i++)
            (*out)[i] = k->revs[i].revision;
    }
    io_mutex_unlock(&b->lock);
    return e;
}

weir_err weir_kv_get_revision(struct weir_kv *kv, const char *key, uint64_t revision,
                              struct weir_kv_entry **out, struct weir_error *error)
{
    struct errinfo info = {0};
    uint64_t *kept = NULL;
    uint32_t n = 0, i = 0;
    enum err e;

    *out = NULL;
    e = key_check(key, &info);
    e = e ? e : revisions(kv->b, key, &kept, &n, &info);
    while (i < n && kept[i] != revision)
        i++;
    free(kept);
    if (!e)
        e = i < n ? kv_bucket_read(kv->b, revision, out, &info) : ERR_NOT_FOUND;
    if (e == ERR_NOT_FOUND)
        errinfo_set(&info, e, "the key has no such revision");
    return lib_read_fail(kv->b->w, e, &info, error);
}

weir_err weir_kv_history(struct weir_kv *kv, const char *key,
                         bool (*fn)(void *arg, const struct weir_kv_entry *entry), void *arg,
                         struct weir_error *error)
{
    struct weir_kv_entry *entry;
    struct errinfo info = {0};
    uint64_t *kept = NULL;
    uint32_t n = 0, i;
    bool more = true;
    enum err e;

    e = key_check(key, &info);
    e = e ? e : revisions(kv->b, key, &kept, &n, &info);
    for (i = 0; !e && more && i < n; i++) {
        e = kv_bucket_read(kv->b, kept[i], &entry, &info);
        if (e == ERR_NOT_FOUND) {
            e = ERR_OK; /* it has gone since */
            continue;
        }
        if (!e)
            more = fn(arg, entry);
        weir_kv_entry_free(&entry);
    }
    free(kept);
    return lib_read_fail(kv->b->w, e, &info, error);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Copies of the keys with values that match. Locked. */
static char **keys_of(struct kv_bucket *b, struct slice pattern, size_t *n)
{
    const struct kv_rev *last;
    char **v = NULL;
    size_t cap = 0;
    uint32_t at = 0;
    void *value;

    *n = 0;
    while (map_next(&b->keys, &at, NULL, &value)) {
        struct kv_key *k = value;

        last = k->n ? &k->revs[k->n - 1] : NULL;
        if (!last || last->op != WEIR_KV_PUT ||
            (pattern.ptr && !subject_match(pattern, slice_of(k->text, k->len))))
            continue;
        if (*n == cap) {
            cap = cap ? cap * 2 : 64;
            v = xrealloc(v, cap * sizeof *v);
        }
        v[(*n)++] = xstrdup(k->text);
    }
    return v;
}

weir_err weir_kv_keys(struct weir_kv *kv, const char *pattern,
                      bool (*fn)(void *arg, const char *key), void *arg, struct weir_error *error)
{
    struct kv_bucket *b = kv->b;
    struct errinfo info = {0};
    char **keys = NULL;
    size_t n = 0, i;
    bool more = true;
    enum err e = pattern ? kv_pattern_check(pattern, &info) : ERR_OK;

    if (!e) {
        io_mutex_lock(&b->lock);
        if (!(e = kv_bucket_follow(b, &info))) {
            kv_bucket_sweep(b);
            keys = keys_of(b, slice_str(pattern), &n);
        }
        io_mutex_unlock(&b->lock);
    }
    if (n)
        qsort(keys, n, sizeof *keys, by_name);
    for (i = 0; i < n; i++) {
        more = more && fn(arg, keys[i]);
        free(keys[i]);
    }
    free(keys);
    return lib_read_fail(b->w, e, &info, error);
}

weir_err weir_kv_status_get(struct weir_kv *kv, struct weir_kv_status *out,
                            struct weir_error *error)
{
    struct kv_bucket *b = kv->b;
    struct errinfo info = {0};
    uint32_t at = 0;
    void *value;
    enum err e;

    io_mutex_lock(&b->lock);
    e = kv_bucket_follow(b, &info);
    kv_bucket_sweep(b);
    *out = (struct weir_kv_status){.history = b->conf.history,
                                   .ttl_ms = b->conf.ttl_ms,
                                   .value_bytes_max = b->conf.value_bytes_max,
                                   .bytes_max = b->conf.bytes_max,
                                   .revisions = b->live,
                                   .bytes = b->bytes};
    if (b->scan.next)
        out->last_revision = (uint64_t)(b->scan.next + b->conf.first - 1);
    while (map_next(&b->keys, &at, NULL, &value)) {
        const struct kv_key *k = value;

        out->keys += k->n && k->revs[k->n - 1].op == WEIR_KV_PUT;
    }
    io_mutex_unlock(&b->lock);
    return lib_read_fail(b->w, e, &info, error);
}
