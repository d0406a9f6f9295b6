/* Counters. See js_counter.h. Source: NATS ADR-49, and what nats-server answers.
 *
 * A message's payload is {"val":"5"}: the sum of the header Nats-Incr of all of its subject. So the
 * last message of a subject is all that is to be known to add to it, and each is stored in the order
 * in which it was added up, with those on their way to the log taken for what they will be
 * (js_publish.c). Sums that were used lately are kept here; others are read from the log.
 *
 * A message of another stream has that stream's sum: how much that is more than it was before is
 * added, and the sum is noted in Nats-Counter-Sources, by stream and subject. */
#include "proto/nats/js_counter.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_number.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_source.h"

#define SUMS_MAX  65536u
#define BYTES_MAX (128u << 20)
#define SOURCES   "Nats-Counter-Sources"

struct sum {
    struct list_node link; /* by use */
    uint64_t seq;          /* of the message */
    bool broken;           /* it has no sum */
    size_t subject_len, value_len, sources_len;
    uint8_t text[];
};

struct jcounters {
    struct map by_subject;
    struct list_head used; /* the one that was used last is the last */
    size_t bytes;
    struct jreader *reader;
    bool reading;
    struct buf value, sources;
};

static struct jcounters *counters_of(struct jstream *s)
{
    struct jcounters *c = s->counters;

    if (c)
        return c;
    c = s->counters = xcalloc(1, sizeof *c);
    map_init(&c->by_subject, SUMS_MAX, s->js->seed);
    list_init(&c->used);
    buf_init(&c->value, SIZE_MAX);
    buf_init(&c->sources, SIZE_MAX);
    return c;
}

static size_t sum_bytes(const struct sum *m)
{
    return sizeof *m + m->subject_len + m->value_len + m->sources_len;
}

static void sum_drop(struct jcounters *c, struct sum *m)
{
    map_remove(&c->by_subject, slice_of(m->text, m->subject_len));
    list_remove(&m->link);
    c->bytes -= sum_bytes(m);
    free(m);
}

static struct slice sum_value(const struct sum *m)
{
    return slice_of(m->text + m->subject_len, m->value_len);
}

static struct slice sum_sources(const struct sum *m)
{
    return slice_of(m->text + m->subject_len + m->value_len, m->sources_len);
}

static struct sum *sum_put(struct jstream *s, struct slice subject, uint64_t seq,
                           struct slice value, struct slice sources)
{
    struct jcounters *c = counters_of(s);
    struct sum *m = map_find(&c->by_subject, subject);
    enum err e;

    if (m)
        sum_drop(c, m);
    /* what is not in the log yet cannot be read there */
    while ((c->by_subject.n == SUMS_MAX || c->bytes > BYTES_MAX) && !list_empty(&c->used)) {
        m = list_entry(c->used.node.next, struct sum, link);
        if (m->seq > s->index.last)
            break;
        sum_drop(c, m);
    }
    m = xcalloc(1, sizeof *m + subject.len + value.len + sources.len);
    *m = (struct sum){
        .seq = seq, .subject_len = subject.len, .value_len = value.len, .sources_len = sources.len};
    memcpy(m->text, subject.ptr, subject.len);
    if (value.len)
        memcpy(m->text + subject.len, value.ptr, value.len);
    if (sources.len)
        memcpy(m->text + subject.len + value.len, sources.ptr, sources.len);
    e = map_put(&c->by_subject, slice_of(m->text, m->subject_len), m);
    if (e) { /* as many are on their way: whoever wants it waits until it is in the log */
        free(m);
        return NULL;
    }
    list_push_back(&c->used, &m->link);
    c->bytes += sum_bytes(m);
    return m;
}

/* ---- reading ---- */

static bool value_of(struct slice payload, struct buf *out)
{
    json_t *o = json_loadb((const char *)payload.ptr, payload.len, 0, NULL);
    json_t *v = json_object_get(o, "val");
    struct slice text = slice_of(json_string_value(v), json_string_length(v));
    bool ok = v && jnumber_valid(text);

    buf_clear(out);
    if (ok)
        buf_append_slice(out, text);
    json_decref(o);
    return ok;
}

static void on_read(void *arg)
{
    struct jstream *s = arg;

    s->counters->reading = false;
    jpublish_go_on(s);
    jsources_go_on(s);
}

static enum err sum_read(struct jstream *s, struct slice subject, uint64_t seq, struct sum **out)
{
    struct jcounters *c = counters_of(s);
    struct slice sources;
    struct jmsg m;
    bool ok;
    enum err e;

    if (c->reading)
        return ERR_AGAIN;
    if (!c->reader)
        c->reader = jreader_new(s);
    e = jreader_get(c->reader, seq, &m, on_read, s);
    c->reading = e == ERR_AGAIN;
    if (e)
        return e;
    ok = value_of(m.payload, &c->value);
    sources = nheader_find(m.headers, SLICE_LIT(SOURCES));
    *out = sum_put(s, subject, seq, buf_slice(&c->value), sources);
    if (!*out)
        return ERR_LIMIT;
    (*out)->broken = !ok;
    return ERR_OK;
}

/* What there is of a subject; *out NULL: nothing. */
static enum err sum_get(struct jstream *s, struct slice subject, struct sum **out)
{
    uint64_t last = jpublish_last(s, subject);
    struct jcounters *c = counters_of(s);

    *out = NULL;
    if (!last)
        return ERR_OK;
    *out = map_find(&c->by_subject, subject);
    if (*out && (*out)->seq == last) {
        list_remove(&(*out)->link);
        list_push_back(&c->used, &(*out)->link);
        return ERR_OK;
    }
    *out = NULL;
    return last > s->index.last ? ERR_AGAIN : sum_read(s, subject, last, out);
}

bool jcounters_ready(struct jstream *s, struct slice subject)
{
    struct sum *m;

    return sum_get(s, subject, &m) != ERR_AGAIN;
}

/* ---- adding ---- */

bool jcounters_check(const struct jstream *s, const struct jwish *w, size_t payload,
                     struct js_fault *f)
{
    if (!w->incr.len)
        return true;
    if (!jnumber_valid(w->incr))
        return js_fault_set(f, JSE_MESSAGE_INCR_INVALID, NULL);
    if (!s->conf.allow_counter)
        return js_fault_set(f, JSE_MESSAGE_INCR_DISABLED, NULL);
    if (payload)
        return js_fault_set(f, JSE_MESSAGE_INCR_PAYLOAD, NULL);
    if (w->rollup.len || w->expect_stream.len || w->expect_id.len || w->expect_for.len ||
        w->has_last_seq || w->has_subject_seq)
        return js_fault_set(f, JSE_MESSAGE_INCR_INVALID, NULL);
    return true;
}

/* Of Nats-Stream-Source: the stream and, last of five, the subject there. */
static void origin_of(const struct jwish *w, struct buf *stream, struct buf *subject)
{
    struct slice rest = w->stream_source, word = SLICE_NULL;
    const uint8_t *end;
    unsigned n = 0;

    buf_clear(subject);
    for (; rest.len; n++) {
        end = memchr(rest.ptr, ' ', rest.len);
        word = slice_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
        rest = end ? slice_of(end + 1, rest.len - word.len - 1) : SLICE_NULL;
        if (!n)
            buf_append_slice(stream, word);
        else if (n == 4)
            buf_append_slice(subject, word);
    }
    if (n < 5)
        buf_append_slice(subject, w->facts.subject);
    buf_append_u8(stream, 0);
    buf_append_u8(subject, 0);
}

/* What another stream's sum is more than it was, into incr; sources: as they are then. */
static bool differ(const struct jwish *w, const struct sum *m, struct slice payload,
                   struct buf *incr, struct buf *sources)
{
    struct slice was = m ? sum_sources(m) : SLICE_NULL;
    json_t *all = was.len ? json_loadb((const char *)was.ptr, was.len, 0, NULL) : json_object();
    struct buf stream, subject, value;
    json_t *of, *before;
    char *text = NULL;

    buf_init(&stream, SIZE_MAX);
    buf_init(&subject, SIZE_MAX);
    buf_init(&value, SIZE_MAX);
    if (json_is_object(all) && value_of(payload, &value)) {
        origin_of(w, &stream, &subject);
        of = json_object_get(all, (const char *)stream.ptr);
        if (!json_is_object(of)) {
            of = json_object();
            json_object_set_new(all, (const char *)stream.ptr, of);
        }
        before = json_object_get(of, (const char *)subject.ptr);
        was = slice_of(json_string_value(before), json_string_length(before));
        jnumber_add(buf_slice(&value), jnumber_valid(was) ? was : SLICE_NULL, true, incr);
        json_object_set_new(of, (const char *)subject.ptr,
                            json_stringn((const char *)value.ptr, value.len));
        text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    }
    if (text)
        buf_append_str(sources, text);
    free(text);
    json_decref(all);
    buf_fini(&stream);
    buf_fini(&subject);
    buf_fini(&value);
    return sources->len;
}

static bool is_others(void *arg, struct slice name)
{
    (void)arg;
    return !slice_eq_str(name, "Nats-Incr") && !slice_eq_str(name, SOURCES);
}

/* Headers with what was made of these two. */
static void headers_make(struct slice headers, struct slice incr, struct slice sources,
                         struct buf *out)
{
    nheader_copy(headers, is_others, NULL, out);
    nheader_put(out, SLICE_LIT("Nats-Incr"), incr);
    nheader_put(out, SLICE_LIT(SOURCES), sources);
    buf_append_str(out, "\r\n");
}

/* m becomes what is stored, in text: headers, then the payload. */
static void make(struct jwish *w, struct jmsg *m, struct slice incr, struct slice was,
                 struct slice sources, struct buf *text)
{
    size_t head, value, end;

    buf_clear(text);
    if (sources.len)
        headers_make(m->headers, incr, sources, text);
    else
        buf_append_slice(text, m->headers);
    head = text->len;
    buf_append_str(text, "{\"val\":\"");
    value = text->len;
    jnumber_add(was, incr, false, text);
    end = text->len;
    buf_append_str(text, "\"}");
    m->headers = slice_of(text->ptr, head);
    m->payload = slice_of(text->ptr + head, text->len - head);
    w->sum = slice_of(text->ptr + value, end - value);
    w->sum_sources = nheader_find(m->headers, SLICE_LIT(SOURCES));
    w->facts.bytes = jstream_msg_bytes(w->facts.subject.len, m->headers.len, m->payload.len);
}

enum err jcounters_add(struct jstream *s, struct jwish *w, struct jmsg *m, bool copied,
                       struct buf *text, struct js_fault *f)
{
    struct jcounters *c = counters_of(s);
    struct slice incr = w->incr, was;
    struct sum *sum;
    enum err e = sum_get(s, w->facts.subject, &sum);

    if (e == ERR_AGAIN)
        return e;
    if (e && e != ERR_NOT_FOUND) {
        js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
        return ERR_INVALID;
    }
    buf_clear(&c->value);
    buf_clear(&c->sources);
    if (sum && sum_sources(sum).len)
        buf_append_slice(&c->sources, sum_sources(sum));
    if (copied && !(sum && sum->broken)) {
        buf_clear(&c->sources);
        if (!differ(w, sum, m->payload, &c->value, &c->sources))
            e = ERR_INVALID;
        incr = buf_slice(&c->value);
    }
    if (e == ERR_INVALID || (sum && sum->broken)) {
        js_fault_set(f, JSE_MESSAGE_COUNTER_BROKEN, NULL);
        return ERR_INVALID;
    }
    was = sum ? sum_value(sum) : SLICE_NULL;
    make(w, m, incr, was, buf_slice(&c->sources), text);
    if (w->sum.len > JNUMBER_MAX || m->headers.len > UINT16_MAX ||
        (s->conf.max_msg_size >= 0 &&
         m->headers.len + m->payload.len > (uint64_t)s->conf.max_msg_size)) {
        js_fault_set(f, JSE_STREAM_MESSAGE_EXCEEDS_MAXIMUM, NULL);
        return ERR_INVALID;
    }
    return ERR_OK;
}

void jcounters_note(struct jstream *s, const struct jwish *w, uint64_t seq)
{
    if (w->sum.len)
        sum_put(s, w->facts.subject, seq, w->sum, w->sum_sources);
}

void jcounters_forget(struct jstream *s, struct slice subject)
{
    struct jcounters *c = s->counters;
    struct sum *m;

    if (!c)
        return;
    while (slice_is_null(subject) && !list_empty(&c->used))
        sum_drop(c, list_entry(c->used.node.next, struct sum, link));
    if (!slice_is_null(subject) && (m = map_find(&c->by_subject, subject)))
        sum_drop(c, m);
}

void jcounters_end(struct jstream *s)
{
    if (s->counters)
        jreader_free(&s->counters->reader);
}

void jcounters_free(struct jstream *s)
{
    struct jcounters *c = s->counters;

    if (!c)
        return;
    ASSERT(!c->reader);
    jcounters_forget(s, SLICE_NULL);
    map_fini(&c->by_subject);
    buf_fini(&c->value);
    buf_fini(&c->sources);
    free(c);
    s->counters = NULL;
}
