/* What monitoring tells of JetStream: /jsz, /varz, /accountz. See struct njs_monitor of nats_int.h.
 *
 * Streams belong to loops, and questions come on any: so each stream notes its figures where every
 * thread may read them (jstream_note), one by one; together they need not be of one moment. */
#include <inttypes.h>

#include "base/json_write.h"
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

    *out = (struct njs_figures){.memory_max = -1, .storage_max = -1};
    while ((ja = next(n->js, ja, account)))
        add_account(n->js, ja, out);
}

/* ---- details ---- */

static bool write_stream(void *arg, struct jstream *s)
{
    const struct jstream_figures *f = &s->figures;
    char created[JTIME_TEXT_LEN + 1];
    struct buf *b = arg;

    jtime_text(s->created_ns, created);
    buf_append_str(b, b->ptr[b->len - 1] == '[' ? "{\"name\":" : ",{\"name\":");
    json_write_string(b, slice_str(s->key + strlen(s->key) + 1));
    buf_printf(b,
               ",\"created\":\"%s\",\"state\":{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"consumer_count\":%" PRIu64
               "},\"cluster\":{\"leader\":\"weir\"}}",
               created, of(&f->msgs), of(&f->bytes), of(&f->first), of(&f->last),
               of(&f->consumers));
    return true;
}

static void write_account(struct js *js, const struct jaccount *ja, bool streams, struct buf *b)
{
    struct njs_figures f = {0};

    add_account(js, ja, &f);
    buf_append_str(b, b->ptr[b->len - 1] == '[' ? "{\"name\":" : ",{\"name\":");
    json_write_string(b, slice_str(ja->account->name));
    buf_append_str(b, ",\"id\":");
    json_write_string(b, slice_str(ja->account->name));
    buf_printf(b,
               ",\"memory\":%" PRIu64 ",\"storage\":%" PRIu64 ",\"reserved_memory\":%" PRIu64
               ",\"reserved_storage\":%" PRIu64 ",\"accounts\":0,\"ha_assets\":0,\"api\":"
               "{\"level\":%d,\"total\":%" PRIu64 ",\"errors\":%" PRIu64 "}",
               f.memory, f.storage, f.reserved_memory, f.reserved_storage, JS_API_LEVEL,
               f.api_total, f.api_errors);
    if (streams) {
        buf_append_str(b, ",\"stream_detail\":[");
        js_streams_each(js, ja->account, write_stream, b);
        buf_append_str(b, "]");
    }
    buf_append_str(b, "}");
}

static bool asked(struct nquestion *a, const char *name)
{
    struct slice v = nquestion_param(a, name);

    return v.len && !slice_eq_str(v, "0") && !slice_eq_str(v, "false");
}

static void details(struct nats *n, struct nquestion *a, struct buf *out)
{
    struct slice name = nquestion_param(a, "acc");
    bool streams = asked(a, "streams");
    const struct jaccount *ja = NULL;

    if (!name.len && !streams && !asked(a, "accounts"))
        return;
    buf_append_str(out, ",\"account_details\":[");
    while ((ja = next(n->js, ja, name.len ? &name : NULL)))
        write_account(n->js, ja, streams, out);
    buf_append_str(out, "]");
}

const struct njs_monitor js_monitor = {.figures = figures, .details = details};
