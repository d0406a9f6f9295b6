/* Key-value buckets as tables: kv.<bucket> has the newest value of each key that has one. The bucket is
 * the topic KV_<bucket> (of another account: ACCOUNT.KV_<bucket>), as src/proto/nats keeps it; rewrite.c
 * makes `kv.settings` the name "settings@kv", and here it becomes a statement over the topic's table.
 *
 * What the stream removed, though its bytes are in the log still, is known from broker/removed.h:
 * weir_removed('KV_settings') has a row for each 64 offsets of which some are removed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/topic_name.h"
#include "broker/removed.h"
#include "sql/duckdb_int.h"

#define STREAM_NS "js.stream" /* items: the account, NUL, the stream; src/proto/nats/js_stream.h */
#define WORD      64u         /* offsets of a row */

/* ---- what was removed ---- */

struct words {
    struct word {
        int64_t at; /* the first offset / WORD */
        uint64_t bits;
    } * v;
    uint64_t n, cap, given;
};

static bool words_add(void *arg, uint64_t block, const uint8_t bits[REMOVED_BYTES])
{
    struct words *w = arg;
    unsigned i, k;

    if (block == REMOVED_BEGIN)
        return true;
    for (i = 0; i < REMOVED_BYTES; i += 8) {
        uint64_t x = 0;

        for (k = 8; k--;)
            x = x << 8 | bits[i + k];
        if (!x)
            continue;
        if (w->n == w->cap) {
            w->cap = w->cap ? w->cap * 2 : 64;
            w->v = xrealloc(w->v, w->cap * sizeof *w->v);
        }
        w->v[w->n++] = (struct word){(int64_t)(block * (REMOVED_BLOCK / WORD) + i / 8), x};
    }
    return true;
}

static void words_free(void *arg)
{
    struct words *w = arg;

    free(w->v);
    free(w);
}

static void removed_column(duckdb_bind_info info, const char *name, duckdb_type type)
{
    duckdb_logical_type t = engine_type(type);

    ddb.bind_add_result_column(info, name, t);
    ddb.destroy_logical_type(&t);
}

static void removed_bind(duckdb_bind_info info)
{
    struct plan *p = engine_plan();
    duckdb_value v = ddb.bind_get_parameter(info, 0);
    char *name = ddb.is_null_value(v) ? NULL : ddb.get_varchar(v);
    struct words *w = xcalloc(1, sizeof *w);
    struct topic *t = NULL;

    ddb.destroy_value(&v);
    removed_column(info, "word", DUCKDB_TYPE_BIGINT);
    removed_column(info, "bits", DUCKDB_TYPE_UBIGINT);
    if (p && name && topic_name_valid(slice_str(name)) && plan_allowed(p, name))
        t = topic_find(p->sql->conf.broker, slice_str(name));
    if (t)
        removed_each(p->sql->conf.broker, topic_id(t), words_add, w);
    topic_unref(&t);
    if (name)
        ddb.free(name);
    ddb.bind_set_bind_data(info, w, words_free);
}

static void removed_init(duckdb_init_info info)
{
    struct words *w = ddb.init_get_bind_data(info);

    w->given = 0; /* one thread gives them */
    ddb.init_set_max_threads(info, 1);
}

static void removed_function(duckdb_function_info info, duckdb_data_chunk out)
{
    struct words *w = ddb.function_get_bind_data(info);
    int64_t *at = ddb.vector_get_data(ddb.data_chunk_get_vector(out, 0));
    uint64_t *bits = ddb.vector_get_data(ddb.data_chunk_get_vector(out, 1)),
             n = w->n - w->given < SCAN_ROWS ? w->n - w->given : SCAN_ROWS, i;

    for (i = 0; i < n; i++) {
        at[i] = w->v[w->given + i].at;
        bits[i] = w->v[w->given + i].bits;
    }
    w->given += n;
    ddb.data_chunk_set_size(out, n);
}

void kv_functions_register(duckdb_connection c)
{
    duckdb_table_function f = ddb.create_table_function();
    duckdb_logical_type t = engine_type(DUCKDB_TYPE_VARCHAR);

    ddb.table_function_set_name(f, "weir_removed");
    ddb.table_function_add_parameter(f, t);
    ddb.destroy_logical_type(&t);
    ddb.table_function_set_bind(f, removed_bind);
    ddb.table_function_set_init(f, removed_init);
    ddb.table_function_set_function(f, removed_function);
    ddb.register_table_function(c, f);
    ddb.destroy_table_function(&f);
}

/* ---- the bucket's statement ---- */

struct bucket {
    char topic[TOPIC_NAME_MAX + 1], prefix[TOPIC_NAME_MAX + 8]; /* "$KV.settings." */
    int64_t first, begin,
        age_ms; /* revision of offset 0; offset of the first; 0: none is too old */
};

/* "settings@kv", "SALES.settings@kv". */
static bool bucket_of(const char *name, struct bucket *b, char key[LIMIT_KV_KEY], size_t *key_len)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name), dot;
    int len;

    if (n < 4 || strcmp(name + n - 3, "@kv") != 0 || n > TOPIC_NAME_MAX - 8)
        return false;
    n -= 3;
    for (dot = n; dot && name[dot - 1] != '.'; dot--)
        ;
    if (strspn(name + dot, allowed) != n - dot || n == dot || dot == 1)
        return false;
    len = dot ? (int)dot - 1 : 0;
    snprintf(b->topic, sizeof b->topic, "%.*sKV_%.*s", (int)dot, name, (int)(n - dot), name + dot);
    snprintf(b->prefix, sizeof b->prefix, "$KV.%.*s.", (int)(n - dot), name + dot);
    *key_len = (size_t)snprintf(key, LIMIT_KV_KEY, "%.*s%cKV_%.*s", len ? len : 2,
                                len ? name : "$G", 0, (int)(n - dot), name + dot);
    return topic_name_valid(slice_str(b->topic));
}

/* What the stream's configuration says of it. */
static void bucket_load(struct broker *b, struct slice key, struct bucket *k)
{
    struct topic *t = topic_find(b, slice_str(k->topic));
    uint8_t begin[REMOVED_KEY];
    json_t *o = NULL, *conf;
    struct buf v;

    k->first = 1;
    buf_init(&v, LIMIT_KV_VALUE);
    if (kv_get(b, STREAM_NS, key, &v) == ERR_OK)
        o = json_loadb((const char *)v.ptr, v.len, 0, NULL);
    conf = json_object_get(o, "config");
    if (json_integer_value(json_object_get(conf, "first_seq")) > 0)
        k->first = json_integer_value(json_object_get(conf, "first_seq"));
    k->age_ms = json_integer_value(json_object_get(conf, "max_age")) / 1000000;
    json_decref(o);
    if (t) {
        removed_key(topic_id(t), REMOVED_BEGIN, begin);
        if (kv_get(b, REMOVED_NS, slice_of(begin, sizeof begin), &v) == ERR_OK && v.len == 8)
            k->begin = (int64_t)(be64_load(v.ptr) - (uint64_t)k->first);
    }
    topic_unref(&t);
    buf_fini(&v);
}

bool kv_source(struct plan *p, const char *name, struct buf *out)
{
    struct bucket b = {.first = 0};
    char key[LIMIT_KV_KEY];
    size_t len;
    enum err e;

    if (!bucket_of(name, &b, key, &len))
        return false;
    bucket_load(p->sql->conf.broker, slice_of(key, len), &b);
    e = buf_printf(
        out,
        "SELECT key, value, revision, created, operation FROM (SELECT substr(m.key, %u) AS key, "
        "m.value AS value, m.\"offset\" + %" PRId64 " AS revision, m.timestamp AS created, "
        "CASE WHEN len([1 for h in m.headers if h.key = 'Nats-Marker-Reason']) > 0 THEN 'DEL' "
        "ELSE coalesce([h.value for h in m.headers if h.key = 'KV-Operation'][1], 'PUT') END "
        "AS operation, row_number() OVER (PARTITION BY m.key ORDER BY m.\"offset\" DESC) AS newest "
        "FROM \"%s\" m LEFT JOIN weir_removed('%s') r ON r.word = m.\"offset\" // %u "
        "AND (r.bits >> CAST(m.\"offset\" %% %u AS UBIGINT)) & 1 = 1 "
        "WHERE r.word IS NULL AND starts_with(m.key, '%s') AND m.\"offset\" >= %" PRId64,
        (unsigned)strlen(b.prefix) + 1, b.first, b.topic, b.topic, WORD, WORD, b.prefix,
        b.begin > 0 ? b.begin : 0);
    if (!e && b.age_ms > 0)
        e = buf_printf(out, " AND m.timestamp > now() - INTERVAL (%" PRId64 ") MILLISECONDS",
                       b.age_ms);
    return !e && !buf_append_str(out, ") WHERE newest = 1 AND operation = 'PUT'");
}
