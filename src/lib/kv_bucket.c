/* Buckets: what is saved of them, and the index of their revisions. See kv_int.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/removed.h"
#include "broker/tier.h"
#include "io/io.h"
#include "lib/kv_int.h"

#define HISTORY_MAX     64
#define TTL_MS_LEAST    100
#define DUPLICATES_NS   120000000000 /* as NATS has it where nobody says */
#define READ_BYTES      (1u << 20)
#define NOTE_EACH       4096u /* removed revisions */
#define NOTE_BLOCKS     4096u /* in one unit */
#define SWEEP_LEAST     1024u
#define BUCKET_NAME_MAX 200u

/* ---- keys ---- */

struct kv_key *kv_key_find(struct kv_bucket *b, struct slice key)
{
    return map_find(&b->keys, key);
}

static struct kv_key *key_make(struct kv_bucket *b, struct slice key)
{
    struct kv_key *k = kv_key_find(b, key);

    if (k)
        return k;
    k = xcalloc(1, sizeof *k + key.len + 1);
    k->len = (uint32_t)key.len;
    memcpy(k->text, key.ptr, key.len);
    if (map_put(&b->keys, slice_of(k->text, k->len), k) == ERR_OK)
        return k;
    free(k);
    return NULL;
}

static void key_drop(struct kv_bucket *b, struct kv_key *k)
{
    if (k->n || k->users)
        return;
    map_remove(&b->keys, slice_of(k->text, k->len));
    free(k->revs);
    free(k);
}

enum err kv_key_enter(struct kv_bucket *b, struct slice key, struct kv_key **out,
                      struct errinfo *info)
{
    *out = key_make(b, key);
    if (!*out)
        return errinfo_set(info, ERR_LIMIT, "a bucket has at most %u keys", LIMIT_JS_SUBJECTS);
    (*out)->users++;
    return ERR_OK;
}

void kv_key_leave(struct kv_bucket *b, struct kv_key *k)
{
    k->users--;
    key_drop(b, k);
}

/* ---- what is removed ---- */

static struct kv_gone *gone_of(struct kv_bucket *b, uint64_t block, bool make)
{
    struct kv_gone *g = u64map_find(&b->gone, block);

    if (g || !make)
        return g;
    g = xcalloc(1, sizeof *g);
    if (u64map_put(&b->gone, block, g) == ERR_OK)
        return g;
    free(g); /* too many: they go again when the log is read */
    return NULL;
}

static bool gone_has(struct kv_bucket *b, uint64_t offset)
{
    const struct kv_gone *g = gone_of(b, offset / REMOVED_BLOCK, false);
    uint64_t bit = offset % REMOVED_BLOCK;

    return g && g->bits[bit / 8] & 1u << bit % 8;
}

static void rev_remove(struct kv_bucket *b, struct kv_key *k, uint32_t i)
{
    uint64_t offset = k->revs[i].revision - (uint64_t)b->conf.first;
    struct kv_gone *g = gone_of(b, offset / REMOVED_BLOCK, true);
    uint64_t bit = offset % REMOVED_BLOCK;

    if (g) {
        g->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
        g->dirty = true;
        b->gone_new++;
    }
    b->live--;
    b->bytes -= k->revs[i].bytes;
    memmove(&k->revs[i], &k->revs[i + 1], (--k->n - i) * sizeof *k->revs);
}

static bool too_old(const struct kv_bucket *b, const struct kv_rev *r, int64_t now_ms)
{
    return b->conf.ttl_ms && now_ms - r->time_ms >= b->conf.ttl_ms;
}

static void key_age(struct kv_bucket *b, struct kv_key *k, int64_t now_ms)
{
    uint32_t i = 0;

    while (i < k->n)
        if (too_old(b, &k->revs[i], now_ms))
            rev_remove(b, k, i);
        else
            i++;
}

const struct kv_rev *kv_key_last(struct kv_bucket *b, struct kv_key *k)
{
    if (!k)
        return NULL;
    if (b->conf.ttl_ms)
        key_age(b, k, io_wall_ms(io_real()));
    return k->n ? &k->revs[k->n - 1] : NULL;
}

/* Takes out what is too old; or, if `purged` is not NULL, all of keys that match it (">": all). */
static void sweep(struct kv_bucket *b, const struct slice *purged)
{
    int64_t now_ms = io_wall_ms(io_real());
    struct kv_key **empty = NULL;
    size_t n = 0, cap = 0, i;
    uint32_t at = 0;
    void *v;

    while (map_next(&b->keys, &at, NULL, &v)) {
        struct kv_key *k = v;

        if (!purged)
            key_age(b, k, now_ms);
        else if (subject_match(*purged, slice_of(k->text, k->len)))
            while (k->n)
                rev_remove(b, k, k->n - 1);
        if (k->n || k->users)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            empty = xrealloc(empty, cap * sizeof *empty);
        }
        empty[n++] = k;
    }
    for (i = 0; i < n; i++)
        key_drop(b, empty[i]);
    free(empty);
}

void kv_bucket_sweep(struct kv_bucket *b)
{
    if (b->conf.ttl_ms)
        sweep(b, NULL);
    b->swept = (uint64_t)b->scan.next;
}

static void note_block(struct kv_bucket *b, struct append *a, uint64_t block, struct kv_gone *g)
{
    uint8_t key[REMOVED_KEY];

    removed_key(topic_id(b->t), block, key);
    if (append_kv(a, REMOVED_NS, slice_of(key, sizeof key), slice_of(g->bits, sizeof g->bits)))
        return; /* it stays to be noted */
    g->dirty = false;
}

/* What cannot be written now is not lost: it goes again when the log is read. */
void kv_bucket_note(struct kv_bucket *b, bool all)
{
    struct append *a;
    uint32_t at = 0, n = 0;
    uint64_t block;
    void *v;

    io_mutex_lock(&b->lock);
    if (b->gone_new < (all ? 1 : NOTE_EACH) || topic_deleted(b->t)) {
        io_mutex_unlock(&b->lock);
        return;
    }
    a = append_new(b->w->b, NULL, NULL);
    while (n < NOTE_BLOCKS && u64map_next(&b->gone, &at, &block, &v))
        if (((struct kv_gone *)v)->dirty) {
            note_block(b, a, block, v);
            n++;
        }
    b->gone_new = 0;
    io_mutex_unlock(&b->lock);
    append_submit_wait(a, NULL);
    append_free(&a);
}

/* ---- following the log ---- */

static void apply(struct kv_bucket *b, const struct kv_record *r)
{
    uint64_t revision = r->offset + (uint64_t)b->conf.first;
    struct kv_key *k;

    if (!r->key.ptr || gone_has(b, r->offset))
        return;
    if (r->purges_all)
        sweep(b, &SLICE_LIT(">"));
    if (!(k = key_make(b, r->key)))
        return; /* no room for it: it is there for those who read the log */
    while (r->purges_key && k->n)
        rev_remove(b, k, k->n - 1);
    while (k->n >= b->conf.history)
        rev_remove(b, k, 0);
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 1;
        k->revs = xrealloc(k->revs, k->cap * sizeof *k->revs);
    }
    k->revs[k->n++] = (struct kv_rev){revision, r->time_ms, r->bytes, (uint8_t)r->op};
    b->live++;
    b->bytes += r->bytes;
    if (r->purges_key &&
        subject_has_wildcard(r->key)) /* as streams have it: all that it takes, itself too */
        sweep(b, &r->key);
}

enum err kv_bucket_follow(struct kv_bucket *b, struct errinfo *info)
{
    int64_t to = lib_scan_end(b->p);
    struct kv_record r;
    enum err e = ERR_AGAIN;

    if (topic_deleted(b->t))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the bucket was deleted");
    while (b->scan.next < to &&
           (e = kv_scan_next(&b->scan, slice_str(b->prefix), to, READ_BYTES, &r, info)) == ERR_OK)
        apply(b, &r);
    lib_scan_rest(&b->scan);
    if ((uint64_t)b->scan.next - b->swept > b->live + SWEEP_LEAST)
        kv_bucket_sweep(b);
    return e == ERR_AGAIN ? ERR_OK : e;
}

static bool gone_load(void *arg, uint64_t block, const uint8_t bits[REMOVED_BYTES])
{
    struct kv_gone *g = gone_of(arg, block, true);

    if (g)
        memcpy(g->bits, bits, REMOVED_BYTES);
    return g != NULL;
}

static enum err load(struct kv_bucket *b, struct errinfo *info)
{
    enum err e;

    removed_each(b->w->b, topic_id(b->t), gone_load, b);
    lib_scan_init(&b->scan, b->p, lib_scan_begin(b->w, b->t, b->p, b->conf.first));
    io_mutex_lock(&b->lock);
    e = kv_bucket_follow(b, info);
    kv_bucket_sweep(b);
    io_mutex_unlock(&b->lock);
    return e;
}

/* ---- what is saved ---- */

/* As nats-server completes what clients ask for. */
static json_t *config_of(const struct kv_bucket *b, const char *stream)
{
    json_int_t age = b->conf.ttl_ms * 1000000;
    char subject[BUCKET_NAME_MAX + 16];

    snprintf(subject, sizeof subject, "%s>", b->prefix);
    return json_pack(
        "{s:s, s:[s], s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:s, s:s, s:i, s:I, s:s, s:b, "
        "s:b, s:b}",
        "name", stream, "subjects", subject, "retention", "limits", "max_consumers", -1, "max_msgs",
        -1, "max_bytes", (json_int_t)(b->conf.bytes_max ? b->conf.bytes_max : -1), "max_age", age,
        "max_msgs_per_subject", (json_int_t)b->conf.history, "max_msg_size",
        (json_int_t)(b->conf.value_bytes_max ? b->conf.value_bytes_max : -1), "discard", "new",
        "storage", "file", "num_replicas", 1, "duplicate_window",
        age && age < DUPLICATES_NS ? age : (json_int_t)DUPLICATES_NS, "compression", "none",
        "allow_direct", 1, "deny_delete", 1, "allow_rollup_hdrs", 1);
}

static enum err item_save(struct kv_bucket *b, const char *stream, struct errinfo *info)
{
    char key[LIMIT_KV_KEY], subject[BUCKET_NAME_MAX + 16], *text;
    size_t n = lib_stream_key(stream, key);
    json_t *o;
    enum err e;

    snprintf(subject, sizeof subject, "%s>", b->prefix);
    o = json_pack("{s:o, s:I, s:s, s:I, s:[s], s:b}", "config", config_of(b, stream), "created",
                  (json_int_t)io_wall_ms(io_real()) * 1000000, "topic", topic_name(b->t), "id",
                  (json_int_t)topic_id(b->t), "taken", subject, "any", 0);
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    e = kv_put_wait(b->w->b, LIB_STREAM_NS, slice_of(key, n), slice_str(text), 0, info);
    free(text);
    return e;
}

/* What makes a stream another thing than a bucket, or a bucket one that is not known here. */
static const char *foreign(const json_t *c, const char *prefix)
{
    static const char *const unknown[] = {"mirror",        "sources",
                                          "republish",     "subject_transform",
                                          "allow_msg_ttl", "discard_new_per_subject",
                                          "sealed",        "allow_msg_counter"};
    const char *s = json_string_value(json_array_get(json_object_get(c, "subjects"), 0));
    size_t i, n = strlen(prefix);

    for (i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        const json_t *v = json_object_get(c, unknown[i]);

        if (v && !json_is_false(v) && !json_is_null(v) &&
            !(json_is_array(v) && !json_array_size(v)))
            return unknown[i];
    }
    if (json_array_size(json_object_get(c, "subjects")) != 1 || !s || strncmp(s, prefix, n) != 0 ||
        strcmp(s + n, ">") != 0)
        return "subjects";
    s = json_string_value(json_object_get(c, "retention"));
    if (s && strcmp(s, "limits") != 0)
        return "retention";
    if (json_integer_value(json_object_get(c, "max_msgs")) > 0)
        return "max_msgs";
    s = json_string_value(json_object_get(c, "discard"));
    if (json_integer_value(json_object_get(c, "max_bytes")) > 0 && (!s || strcmp(s, "new") != 0))
        return "discard";
    return NULL;
}

static int64_t limit_of(const json_t *c, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(c, name));

    return v > 0 ? v : 0;
}

/* ERR_NOT_FOUND: nothing is saved, or of a topic that is gone. */
static enum err item_load(struct kv_bucket *b, const char *stream, struct errinfo *info)
{
    char key[LIMIT_KV_KEY];
    size_t n = lib_stream_key(stream, key);
    const char *what;
    json_t *o, *c;
    struct buf v;
    enum err e;

    buf_init(&v, LIMIT_KV_VALUE);
    e = kv_get(b->w->b, LIB_STREAM_NS, slice_of(key, n), &v);
    o = e ? NULL : json_loadb((const char *)v.ptr, v.len, 0, NULL);
    buf_fini(&v);
    c = json_object_get(o, "config");
    if (!e && json_integer_value(json_object_get(o, "id")) != (json_int_t)topic_id(b->t))
        e = ERR_NOT_FOUND;
    if (!e && (what = foreign(c, b->prefix)))
        e = errinfo_set(info, ERR_CONFLICT, "%s of the stream %s is not as buckets have it here",
                        what, stream);
    if (!e)
        b->conf = (struct kv_conf){.history = limit_of(c, "max_msgs_per_subject"),
                                   .ttl_ms = limit_of(c, "max_age") / 1000000,
                                   .value_bytes_max = limit_of(c, "max_msg_size"),
                                   .bytes_max = limit_of(c, "max_bytes"),
                                   .first = limit_of(c, "first_seq")};
    if (!b->conf.first)
        b->conf.first = 1;
    if (!e && !b->conf.history)
        b->conf.history = INT64_MAX;
    json_decref(o);
    return e;
}

/* ---- opening ---- */

static enum err options_check(const struct weir_kv_options *o, struct errinfo *info)
{
    if (o->history < 0 || o->history > HISTORY_MAX)
        return errinfo_set(info, ERR_INVALID, "the history is 1 to %d revisions", HISTORY_MAX);
    if (o->ttl_ms < 0 || (o->ttl_ms && o->ttl_ms < TTL_MS_LEAST) || o->ttl_ms > INT64_MAX / 1000000)
        return errinfo_set(info, ERR_INVALID, "ttl_ms is 0, or %d at least", TTL_MS_LEAST);
    if (o->value_bytes_max < 0 || o->value_bytes_max > INT32_MAX || o->bytes_max < 0)
        return errinfo_set(info, ERR_INVALID, "a limit of bytes is out of its range");
    return ERR_OK;
}

static enum err options_agree(const struct kv_bucket *b, const struct weir_kv_options *o,
                              struct errinfo *info)
{
    const struct kv_conf *c = &b->conf;
    const char *what = NULL;

    if (o->history && o->history != c->history)
        what = "history";
    else if (o->ttl_ms && o->ttl_ms != c->ttl_ms)
        what = "ttl_ms";
    else if (o->value_bytes_max && o->value_bytes_max != c->value_bytes_max)
        what = "value_bytes_max";
    else if (o->bytes_max && o->bytes_max != c->bytes_max)
        what = "bytes_max";
    return what ? errinfo_set(info, ERR_CONFLICT, "the bucket %s is there with another %s", b->name,
                              what)
                : ERR_OK;
}

static enum err topic_of(struct kv_bucket *b, const char *stream, bool make, struct errinfo *info)
{
    struct topic_conf conf;
    enum err e;

    if (!(b->t = topic_find(b->w->b, slice_str(stream)))) {
        if (!make)
            return errinfo_set(info, ERR_NOT_FOUND, "there is no bucket %s", b->name);
        removed_topic_conf(b->w->b, &conf);
        e = lib_topic_create(b->w, slice_str(stream), 1, &conf, info);
        if (e && e != ERR_TOPIC_EXISTS)
            return e;
        b->t = topic_find(b->w->b, slice_str(stream));
    }
    if (!b->t || topic_partitions(b->t) != 1)
        return errinfo_set(info, ERR_CONFLICT, "the topic %s has not one partition", stream);
    b->p = topic_partition(b->t, 0);
    return ERR_OK;
}

static void bucket_free(struct kv_bucket *b)
{
    struct kv_key *k;
    uint32_t at = 0;
    void *v;

    while (map_next(&b->keys, &at, NULL, &v)) {
        k = v;
        free(k->revs);
        free(k);
    }
    for (at = 0; u64map_next(&b->gone, &at, NULL, &v);)
        free(v);
    map_fini(&b->keys);
    u64map_fini(&b->gone);
    if (b->scan.headers)
        lib_scan_fini(&b->scan);
    topic_unref(&b->t);
    io_cond_fini(&b->turn);
    io_mutex_fini(&b->lock);
    free(b->name);
    free(b->prefix);
    free(b);
}

/* Makes it, or loads what is there. w->buckets_lock is held. */
static enum err bucket_new(struct weir *w, const char *name, const struct weir_kv_options *o,
                           struct kv_bucket **out, struct errinfo *info)
{
    struct kv_bucket *b = xcalloc(1, sizeof *b);
    char stream[BUCKET_NAME_MAX + 8];
    uint8_t seed[16];
    enum err e;

    snprintf(stream, sizeof stream, "KV_%s", name);
    b->w = w;
    b->refs = 1;
    b->name = xstrdup(name);
    b->prefix = xcalloc(1, strlen(name) + 8);
    snprintf(b->prefix, strlen(name) + 8, "$KV.%s.", name);
    io_mutex_init(&b->lock);
    io_cond_init(&b->turn);
    io_random(io_real(), seed, sizeof seed);
    map_init(&b->keys, LIMIT_JS_SUBJECTS, seed);
    u64map_init(&b->gone, LIMIT_JS_BLOCKS, 0);
    e = topic_of(b, stream, !o->no_create, info);
    e = e ? e : item_load(b, stream, info);
    if (e == ERR_NOT_FOUND && b->p && !o->no_create) {
        b->conf = (struct kv_conf){.history = o->history ? o->history : 1,
                                   .ttl_ms = o->ttl_ms,
                                   .value_bytes_max = o->value_bytes_max,
                                   .bytes_max = o->bytes_max,
                                   .first = 1};
        e = item_save(b, stream, info);
    } else if (e == ERR_NOT_FOUND) {
        errinfo_set(info, e, "there is no bucket %s", name);
    }
    e = e ? e : options_agree(b, o, info);
    e = e ? e : load(b, info);
    if (e)
        bucket_free(b);
    else
        *out = b;
    return e;
}

enum err kv_bucket_open(struct weir *w, const char *name, const struct weir_kv_options *o,
                        struct kv_bucket **out, struct errinfo *info)
{
    struct kv_bucket *b, *found = NULL;
    enum err e = options_check(o, info);

    if (!e && !lib_name_valid(name, BUCKET_NAME_MAX))
        e = errinfo_set(info, ERR_INVALID,
                        "a bucket's name is letters, digits, - and _, %u at most", BUCKET_NAME_MAX);
    if (e)
        return e;
    io_mutex_lock(&w->buckets_lock);
    list_for_each(b, &w->buckets, struct kv_bucket, link) if (strcmp(b->name, name) == 0) found = b;
    if (found && topic_deleted(found->t)) { /* those who have it are told so */
        list_remove(&found->link);
        found->listed = false;
        found = NULL;
    }
    if (found) {
        if (!(e = options_agree(found, o, info)))
            found->refs++;
    } else if (!(e = bucket_new(w, name, o, &found, info))) {
        list_push_back(&w->buckets, &found->link);
        found->listed = true;
    }
    io_mutex_unlock(&w->buckets_lock);
    *out = e ? NULL : found;
    return e;
}

void kv_bucket_close(struct kv_bucket **bp)
{
    struct kv_bucket *b = *bp;
    struct weir *w;

    *bp = NULL;
    if (!b)
        return;
    w = b->w;
    io_mutex_lock(&w->buckets_lock);
    if (--b->refs) {
        b = NULL;
    } else {
        if (b->listed)
            list_remove(&b->link);
        kv_bucket_note(b, true);
    }
    io_mutex_unlock(&w->buckets_lock);
    if (b)
        bucket_free(b);
}

/* ---- reading ---- */

struct weir_kv_entry *kv_entry_new(const struct kv_bucket *b, const struct kv_record *r)
{
    struct weir_kv_entry *n = xcalloc(1, sizeof *n + r->key.len + r->value.len + 2);
    char *key = (char *)(n + 1), *value = key + r->key.len + 1;

    memcpy(key, r->key.ptr, r->key.len);
    if (r->value.len)
        memcpy(value, r->value.ptr, r->value.len);
    *n = (struct weir_kv_entry){.key = key,
                                .value = value,
                                .value_len = r->value.len,
                                .revision = r->offset + (uint64_t)b->conf.first,
                                .timestamp_ms = r->time_ms,
                                .op = r->op};
    return n;
}

void weir_kv_entry_free(struct weir_kv_entry **entry)
{
    free(*entry);
    *entry = NULL;
}

enum err kv_bucket_read(struct kv_bucket *b, uint64_t revision, struct weir_kv_entry **out,
                        struct errinfo *info)
{
    int64_t offset = (int64_t)(revision - (uint64_t)b->conf.first);
    struct kv_record r;
    struct lib_scan s;
    enum err e;

    *out = NULL;
    if (revision < (uint64_t)b->conf.first || offset < 0 || offset >= lib_scan_end(b->p))
        return ERR_NOT_FOUND;
    lib_scan_init(&s, b->p, offset);
    e = kv_scan_next(&s, slice_str(b->prefix), offset + 1, 1, &r, info);
    if (!e && r.key.ptr)
        *out = kv_entry_new(b, &r);
    else if (!e || e == ERR_AGAIN)
        e = ERR_NOT_FOUND;
    lib_scan_fini(&s);
    return e;
}
