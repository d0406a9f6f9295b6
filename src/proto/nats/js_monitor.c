/* What monitoring tells of JetStream: /jsz, /varz, /accountz. See struct njs_monitor of nats_int.h.
 *
 * Streams belong to loops, and questions come on any: so each stream notes its figures where every
 * thread may read them (jstream_note), one by one; together they need not be of one moment. Details
 * each loop writes of its own streams. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_stream.h"

void jstream_note(struct jstream *s)
{
    struct jstream_figures *f = &s->figures;
    int64_t max = s->conf.max_bytes;

    atomic_store_explicit(&f->msgs, s->index.msgs, memory_order_relaxed);
    atomic_store_explicit(&f->bytes, s->index.bytes, memory_order_relaxed);
    atomic_store_explicit(&f->first, s->index.first, memory_order_relaxed);
    atomic_store_explicit(&f->last, s->index.last, memory_order_relaxed);
    atomic_store_explicit(&f->consumers, jconsumers_count(s), memory_order_relaxed);
    atomic_store_explicit(&f->reserved, max > 0 ? (uint64_t)max : 0, memory_order_relaxed);
    atomic_store_explicit(&f->memory, s->conf.storage == JSTORAGE_MEMORY, memory_order_relaxed);
}

static uint64_t of(const _Atomic uint64_t *v)
{
    return atomic_load_explicit(v, memory_order_relaxed);
}

static bool add(void *arg, struct jstream *s)
{
    const struct jstream_figures *f = &s->figures;
    bool memory = atomic_load_explicit(&f->memory, memory_order_relaxed);
    struct njs_figures *out = arg;

    *(memory ? &out->memory : &out->storage) += of(&f->bytes);
    *(memory ? &out->reserved_memory : &out->reserved_storage) += of(&f->reserved);
    out->streams++;
    out->consumers += of(&f->consumers);
    out->messages += of(&f->msgs);
    out->bytes += of(&f->bytes);
    return true;
}

/* The next account of that name (NULL: any) behind this one. Accounts stay as long as js does. */
static struct jaccount *next(struct js *js, const struct jaccount *ja, const struct slice *name)
{
    struct jaccount *v;

    io_mutex_lock(&js->lock);
    v = ja ? ja->next : js->accounts;
    while (v && name && !slice_eq_str(*name, v->account->name))
        v = v->next;
    io_mutex_unlock(&js->lock);
    return v;
}

static void add_account(struct js *js, const struct jaccount *ja, struct njs_figures *out)
{
    out->accounts++;
    out->api_total += of(&ja->requests);
    out->api_errors += of(&ja->errors);
    js_streams_each(js, ja->account, add, out);
}

static void figures(struct nats *n, const struct slice *account, struct njs_figures *out)
{
    const struct jaccount *ja = NULL;

    *out = (struct njs_figures){.memory_max = -1, .storage_max = -1, .api_level = JS_API_LEVEL};
    while ((ja = next(n->js, ja, account)))
        add_account(n->js, ja, out);
}

/* ---- details ----
 *
 * Each loop writes what it has of its streams: account, name, JSON, each behind its length (u32). */

struct visiting {
    struct nloop *l;
    const struct njs_query *q;
    struct buf *out;
};

static void put(struct buf *out, struct slice s)
{
    uint32_t n = (uint32_t)s.len;

    buf_append(out, &n, sizeof n);
    buf_append_slice(out, s);
}

static bool get(const struct buf *b, size_t *at, struct slice *out)
{
    uint32_t n;

    if (b->len - *at < sizeof n)
        return false;
    memcpy(&n, b->ptr + *at, sizeof n);
    if (b->len - *at - sizeof n < n)
        return false; /* there was no room for all of it */
    *out = slice_of(b->ptr + *at + sizeof n, n);
    *at += sizeof n + n;
    return true;
}

static json_t *consumers(struct jstream *s, bool config)
{
    json_t *v = json_array(), *o;
    uint32_t at = 0;
    void *c;

    while (map_next(&s->consumers, &at, NULL, &c)) {
        o = jconsumer_info(c);
        if (!config)
            json_object_del(o, "config");
        json_array_append_new(v, o);
    }
    return v;
}

static bool visit_stream(void *arg, struct jstream *s)
{
    const struct visiting *w = arg;
    json_t *o;
    char *text;

    if (s->l != w->l || s->loading || s->gone)
        return true;
    o = jstream_info(s, NULL);
    json_object_set_new(o, "name", json_string(s->conf.name));
    json_object_set_new(o, "cluster", json_pack("{s:s}", "leader", "weir"));
    json_object_del(o, "ts");
    if (!w->q->config)
        json_object_del(o, "config");
    if (w->q->consumers && jconsumers_count(s))
        json_object_set_new(o, "consumer_detail", consumers(s, w->q->config));
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    put(w->out, slice_str(s->account->name));
    put(w->out, jstream_name(s));
    put(w->out, slice_str(text ? text : "{}"));
    free(text);
    return true;
}

static void visit(struct nloop *l, const struct njs_query *q, struct buf *out)
{
    struct visiting w = {l, q, out};

    js_streams_each(l->n->js, NULL, visit_stream, &w);
}

struct told {
    struct slice account, name, json;
};

static int by_name(const void *pa, const void *pb)
{
    const struct told *a = pa, *b = pb;
    size_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
    int c = memcmp(a->name.ptr, b->name.ptr, n);

    return c ? c : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static struct told *told_all(const struct buf **parts, unsigned n, size_t *count)
{
    struct told *v = NULL, t;
    size_t k = 0, cap = 0, at;
    unsigned i;

    for (i = 0; i < n; i++)
        for (at = 0; get(parts[i], &at, &t.account) && get(parts[i], &at, &t.name) &&
                     get(parts[i], &at, &t.json);) {
            if (k == cap) {
                cap = cap ? cap * 2 : 16;
                v = xrealloc(v, cap * sizeof *v);
            }
            v[k++] = t;
        }
    if (k)
        qsort(v, k, sizeof *v, by_name);
    *count = k;
    return v;
}

static void write_account(struct js *js, const struct jaccount *ja, const struct njs_query *q,
                          const struct told *v, size_t n, struct buf *b)
{
    struct slice name = slice_str(ja->account->name);
    struct njs_figures f = {.api_level = JS_API_LEVEL};
    const char *comma = "";
    size_t i;

    add_account(js, ja, &f);
    f.accounts = 0;
    buf_append_str(b, b->ptr[b->len - 1] == '[' ? "{\"name\":" : ",{\"name\":");
    json_write_string(b, name);
    buf_append_str(b, ",\"id\":");
    json_write_string(b, name);
    buf_append_str(b, ",");
    nmonitor_js(b, &f);
    if (q->streams) {
        buf_append_str(b, ",\"stream_detail\":[");
        for (i = 0; i < n; i++)
            if (slice_eq(v[i].account, name)) {
                buf_append_str(b, comma);
                buf_append_slice(b, v[i].json);
                comma = ",";
            }
        buf_append_str(b, "]");
    }
    buf_append_str(b, "}");
}

static int by_account(const void *pa, const void *pb)
{
    const struct jaccount *a = *(const struct jaccount *const *)pa;
    const struct jaccount *b = *(const struct jaccount *const *)pb;

    return strcmp(a->account->name, b->account->name);
}

static void details(struct nats *n, const struct njs_query *q, const struct buf **parts,
                    unsigned parts_n, struct buf *out)
{
    const struct slice *name = q->account.len ? &q->account : NULL;
    const struct jaccount *ja = NULL, **list = NULL;
    size_t told_n, accounts = 0, i;
    struct told *v = told_all(parts, parts_n, &told_n);

    while ((ja = next(n->js, ja, name))) {
        list = xrealloc(list, (accounts + 1) * sizeof *list);
        list[accounts++] = ja;
    }
    if (accounts)
        qsort(list, accounts, sizeof *list, by_account);
    buf_append_str(out, "\"account_details\":[");
    for (i = q->offset; i < accounts && i - q->offset < q->limit; i++)
        write_account(n->js, list[i], q, v, told_n, out);
    buf_append_str(out, "]");
    free(list);
    free(v);
}

const struct njs_monitor js_monitor = {.figures = figures, .visit = visit, .details = details};
