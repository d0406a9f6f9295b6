/* Atomic batches: messages that are stored together or not at all. See js_batch.h. Source: NATS
 * ADR-50, and what nats-server answers.
 *
 * Messages of a batch carry its id and their number in it; they wait here, in memory, until one says
 * that it is the last. Then all are checked, one behind the other as if those before were stored,
 * and become part of one append (jpublish_all): one unit of the journal, so that a crash leaves all
 * or none. A batch with a gap, one that is too large, or whose next message does not come in time is
 * given up, which an event tells. */
#include "proto/nats/js_batch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_publish.h"

#define ID_MAX     64u   /* bytes, as nats-server's; so are the next two */
#define MSGS_MAX   1000u /* of a batch */
#define TIMEOUT_MS 10000u

struct waiting {
    struct list_node link;
    struct jstream *s;
    struct loop_timer timer;
    struct buf text; /* struct waiting_msg, subject, headers, payload … */
    unsigned n;
    size_t id_len;
    uint8_t id[ID_MAX];
};

struct waiting_msg {
    uint32_t subject, headers, payload;
};

struct jbatches {
    struct list_head list;
    unsigned n;
};

static struct slice id_of(const struct waiting *b)
{
    return slice_of(b->id, b->id_len);
}

static struct waiting *find(struct jstream *s, struct slice id)
{
    struct waiting *b;

    if (!s->batches)
        return NULL;
    list_for_each(b, &s->batches->list, struct waiting, link) if (slice_eq(id_of(b), id)) return b;
    return NULL;
}

static void end(struct waiting *b)
{
    struct jstream *s = b->s;

    loop_timer_cancel(s->l->loop, &b->timer);
    list_remove(&b->link);
    s->batches->n--;
    atomic_fetch_sub_explicit(&s->js->batches, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->js->batch_bytes, b->text.len, memory_order_relaxed);
    buf_fini(&b->text);
    free(b);
}

static void give_up(struct waiting *b, const char *reason)
{
    struct jstream *s = b->s;
    char subject[64 + JCONF_NAME_MAX];

    snprintf(subject, sizeof subject, "ADVISORY.STREAM.BATCH_ABANDONED.%s", s->conf.name);
    js_advise(s, subject, "io.nats.jetstream.advisory.v1.stream_batch_abandoned",
              json_pack("{s:s, s:o, s:s}", "stream", s->conf.name, "batch", js_text(id_of(b)),
                        "reason", reason));
    end(b);
}

static void on_timer(struct loop_timer *t)
{
    give_up(list_entry(t, struct waiting, timer), "timeout");
}

/* NULL: there are too many. */
static struct waiting *begin(struct jstream *s, struct slice id)
{
    struct waiting *b;

    if (!s->batches) {
        s->batches = xcalloc(1, sizeof *s->batches);
        list_init(&s->batches->list);
    }
    if (s->batches->n == LIMIT_JS_STREAM_BATCHES ||
        atomic_load_explicit(&s->js->batches, memory_order_relaxed) >= LIMIT_JS_BATCHES)
        return NULL;
    b = xcalloc(1, sizeof *b);
    b->s = s;
    b->id_len = id.len;
    memcpy(b->id, id.ptr, id.len);
    buf_init(&b->text, SIZE_MAX);
    loop_timer_init(&b->timer, on_timer);
    list_push_back(&s->batches->list, &b->link);
    s->batches->n++;
    atomic_fetch_add_explicit(&s->js->batches, 1, memory_order_relaxed);
    return b;
}

/* False: it takes more room than there is. */
static bool add(struct waiting *b, const struct jmsg *m)
{
    struct js *js = b->s->js;
    struct waiting_msg w = {(uint32_t)m->subject.len, (uint32_t)m->headers.len,
                            (uint32_t)m->payload.len};
    size_t n = sizeof w + m->subject.len + m->headers.len + m->payload.len;

    if (b->text.len + n > LIMIT_JS_BATCH_BYTES ||
        atomic_load_explicit(&js->batch_bytes, memory_order_relaxed) + n > LIMIT_JS_BATCHES_BYTES)
        return false;
    buf_append(&b->text, &w, sizeof w);
    buf_append_slice(&b->text, m->subject);
    buf_append_slice(&b->text, m->headers);
    buf_append_slice(&b->text, m->payload);
    atomic_fetch_add_explicit(&js->batch_bytes, n, memory_order_relaxed);
    b->n++;
    return true;
}

/* The last one's headers say that it ended the batch, also if that was said by a message of its own. */
static struct slice ended(struct slice headers, struct buf *text)
{
    buf_append(text, headers.ptr, headers.len - 2);
    buf_append_str(text, "Nats-Batch-Commit: 1\r\n\r\n");
    return buf_slice(text);
}

/* The message at this place of the text; then it is the next one's. */
static struct jmsg waiting_next(const struct waiting *b, size_t *at)
{
    const uint8_t *p = b->text.ptr + *at;
    struct waiting_msg w;
    struct jmsg m;

    memcpy(&w, p, sizeof w);
    p += sizeof w;
    m = (struct jmsg){.subject = slice_of(p, w.subject),
                      .headers = slice_of(p + w.subject, w.headers),
                      .payload = slice_of(p + w.subject + w.headers, w.payload)};
    *at += sizeof w + w.subject + w.headers + w.payload;
    return m;
}

static void commit(struct waiting *b, bool eob, struct slice reply)
{
    struct jmsg *v = xcalloc(b->n, sizeof *v);
    struct jstream *s = b->s;
    struct js_fault f;
    struct buf tail, last;
    size_t at = 0;
    unsigned i;

    buf_init(&tail, SIZE_MAX);
    buf_init(&last, SIZE_MAX);
    for (i = 0; i < b->n; i++)
        v[i] = waiting_next(b, &at);
    if (eob)
        v[b->n - 1].headers = ended(v[b->n - 1].headers, &last);
    buf_append_str(&tail, ", \"batch\": ");
    json_write_string(&tail, id_of(b));
    buf_printf(&tail, ", \"count\": %u", b->n);
    if (!jpublish_all(s, reply, buf_slice(&tail), v, b->n, &f))
        jpublish_answer(s, reply, &f);
    buf_fini(&tail);
    buf_fini(&last);
    free(v);
    end(b);
}

/* False: the batch is given up, or never began. */
static bool next(struct jstream *s, struct waiting **bp, const struct jwish *w, bool eob,
                 struct js_fault *f)
{
    struct waiting *b = *bp;

    if (!b && w->batch_seq - eob > MSGS_MAX)
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_TOO_LARGE_BATCH, "%u", MSGS_MAX);
    if (!b && w->batch_seq != 1)
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_INCOMPLETE_BATCH, NULL);
    if (!b && !(b = *bp = begin(s, w->batch)))
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_TOO_MANY_INFLIGHT, NULL);
    if (w->commit.ptr && !eob && !slice_eq_str(w->commit, "1")) {
        end(b);
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_INVALID_BATCH_COMMIT, NULL);
    }
    if (w->batch_seq != (uint64_t)b->n + 1 || (eob && !b->n)) {
        give_up(b, "incomplete");
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_INCOMPLETE_BATCH, NULL);
    }
    if (w->batch_seq - eob > MSGS_MAX) {
        give_up(b, "large");
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_TOO_LARGE_BATCH, "%u", MSGS_MAX);
    }
    return true;
}

bool jbatches_ready(struct jstream *s, const struct jwish *w)
{
    struct waiting *b = find(s, w->batch);
    bool ready = !s->conf.allow_counter || !w->commit.ptr || jcounters_ready(s, w->facts.subject);
    size_t at = 0;

    while (ready && s->conf.allow_counter && w->commit.ptr && b && at < b->text.len)
        ready = jcounters_ready(s, waiting_next(b, &at).subject);
    return ready;
}

void jbatches_take(struct jstream *s, const struct jwish *w, const struct jmsg *m,
                   struct slice reply)
{
    const struct jstream_conf *c = &s->conf;
    bool eob = slice_eq_str(w->commit, "eob");
    struct waiting *b = find(s, w->batch);
    struct js_fault f = {0};
    bool ok = false;

    if (c->sealed)
        js_fault_set(&f, JSE_STREAM_SEALED, NULL);
    else if (c->max_msg_size >= 0 && m->headers.len + m->payload.len > (uint64_t)c->max_msg_size)
        js_fault_set(&f, JSE_STREAM_MESSAGE_EXCEEDS_MAXIMUM, NULL);
    else if (!c->allow_atomic)
        js_fault_set(&f, JSE_ATOMIC_PUBLISH_DISABLED, NULL);
    else if (w->batch.len > ID_MAX)
        js_fault_set(&f, JSE_ATOMIC_PUBLISH_INVALID_BATCH_ID, NULL);
    else if (!w->has_batch_seq)
        js_fault_set(&f, JSE_ATOMIC_PUBLISH_MISSING_SEQ, NULL);
    else
        ok = next(s, &b, w, eob, &f);
    if (ok && !eob && !add(b, m)) {
        give_up(b, "large");
        ok = js_fault_set(&f, JSE_ATOMIC_PUBLISH_TOO_LARGE_BATCH, "%u MiB at most",
                          LIMIT_JS_BATCH_BYTES >> 20);
    }
    if (!ok) {
        jpublish_answer(s, reply, &f);
    } else if (w->commit.ptr) {
        commit(b, eob, reply);
    } else {
        loop_timer_arm(s->l->loop, &b->timer, TIMEOUT_MS);
        jpublish_answer(s, reply, NULL);
    }
}

void jbatches_end(struct jstream *s)
{
    struct jbatches *all = s->batches;

    if (!all)
        return;
    while (!list_empty(&all->list))
        end(list_entry(all->list.node.next, struct waiting, link));
    free(all);
    s->batches = NULL;
}
