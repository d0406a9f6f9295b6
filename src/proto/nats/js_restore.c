/* Taking backups. See js_snapshot.h. Source: what nats-server 2.15 takes, and its clients
 * (jsm.go, "nats stream restore").
 *
 * The stream is made, but takes nothing of its subjects yet. The client sends the backup in chunks to
 * a subject of its own, each is acknowledged when it is used up, and an empty one is the end.
 * Messages get the sequences and times that they had, as a mirror's do (js_source.c): what was
 * removed between them is filled. Consumers come last, as all that is there has to be. A restore that
 * fails, stalls or is cut off by a crash leaves nothing: the saved stream says that it is not whole.
 *
 *   chunk -> later -> work: entries -> jpublish_copy -> (durable) jrestore_came -> work … -> finish */
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "journal/journal.h"
#include "proto/nats/js_archive.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_replies.h"
#include "proto/nats/js_snapshot.h"
#include "proto/nats/js_source.h"

#define STALL_MS  5000u  /* until the next chunk comes */
#define WAIT_MS   30000u /* until what is on its way is in the log */
#define FED_MAX   (64u << 20)
#define FILL_ONCE 65536u

enum stage { STATE, CONSUMERS, MESSAGES, WHOLE, FINISHING };

struct jrestore {
    struct jstream *s; /* not counted: it ends us */
    struct nsub *chunks;
    struct jarchive in;
    struct jarchive_entry entry; /* that is not stored yet */
    bool has_entry, ended, waits;
    enum stage stage;
    uint64_t first, last, consumers_n;
    json_t *consumers;  /* array */
    struct buf replies; /* js_replies.h: of chunks that are to be acknowledged */
    struct buf reply;   /* of the end */
    struct jlater later;
    struct loop_timer timer;
    uint64_t bytes;
    unsigned making;
    int64_t begun_ns;
    enum err e;
};

/* ---- ends ---- */

static void advise(struct jrestore *x, const char *what, const char *type)
{
    struct jstream *s = x->s;
    char subject[64 + JCONF_NAME_MAX], from[JTIME_TEXT_LEN + 1], until[JTIME_TEXT_LEN + 1];

    jtime_text(x->begun_ns, from);
    jtime_text(js_now_ns(s->js), until);
    snprintf(subject, sizeof subject, "ADVISORY.STREAM.%s.%s", what, s->conf.name);
    js_advise(s, subject, type,
              json_pack("{s:s, s:s, s:s, s:I}", "stream", s->conf.name, "start", from, "end", until,
                        "bytes", (json_int_t)x->bytes));
}

void jrestore_end(struct jstream *s)
{
    struct jrestore *x = s->restore;

    if (!x)
        return;
    s->restore = NULL;
    loop_timer_cancel(s->l->loop, &x->timer);
    js_later_cancel(&x->later);
    nats_sub_end(x->chunks, s->account);
    jarchive_fini(&x->in);
    buf_fini(&x->replies);
    buf_fini(&x->reply);
    json_decref(x->consumers);
    free(x);
}

static void answer(struct jrestore *x, struct slice to, json_t *o)
{
    char *text;

    json_object_set_new(o, "type", json_string("io.nats.jetstream.api.v1.stream_create_response"));
    text = json_dumps(o, JSON_COMPACT);
    if (to.len && text)
        js_send(x->s->l, x->s->account, to, to, SLICE_NULL, SLICE_NULL, slice_str(text));
    free(text);
    json_decref(o);
}

/* The client is told by an answer to its last chunk; the stream goes, and x with it. */
static void fail(struct jrestore *x, const char *why)
{
    struct slice to = buf_slice(&x->reply);
    struct jstream *s = x->s;
    struct js_fault f;
    size_t at = 0;

    while (!x->reply.len && jreplies_next(buf_slice(&x->replies), &at, &to))
        ;
    js_fault_set(&f, JSE_STREAM_RESTORE, "%s", why);
    answer(x, to, json_pack("{s:o}", "error", js_error_json(&f)));
    advise(x, "RESTORE_COMPLETE", "io.nats.jetstream.advisory.v1.restore_complete");
    jstream_drop(s);
}

/* ---- consumers ---- */

static void finish(struct jrestore *x);

static void consumer_made(void *arg, enum err e)
{
    struct jstream *s = arg;
    struct jrestore *x = s->restore;

    if (x) {
        x->making--;
        x->e = x->e ? x->e : e;
        js_later(js_loop(s->js, s->l), &x->later);
    }
    jstream_unref(s);
}

/* False: it cannot be one. */
static bool consumer_make(struct jrestore *x, const json_t *o)
{
    json_t *floor = json_object_get(json_object_get(o, "state"), "ack_floor");
    json_int_t seq = json_integer_value(json_object_get(floor, "stream_seq"));
    json_int_t dseq = json_integer_value(json_object_get(floor, "consumer_seq"));
    struct jstream *s = x->s;
    struct jconsumer_conf conf;
    struct js_fault f;

    if (!jconsumer_conf_read(&conf, json_object_get(o, "config"), false, &f))
        return false;
    if (!jconsumer_conf_check(&conf, &s->conf, false, &f) || (!conf.name && !conf.durable)) {
        jconsumer_conf_fini(&conf);
        return false;
    }
    if (!conf.name)
        conf.name = xstrdup(conf.durable);
    if (jconsumer_find(s, slice_str(conf.name))) {
        jconsumer_conf_fini(&conf);
        return false;
    }
    x->making++;
    jconsumer_make(
        jconsumer_at(s, &conf, seq > 0 ? (uint64_t)seq + 1 : 0, dseq > 0 ? (uint64_t)dseq + 1 : 1),
        consumer_made, jstream_ref(s));
    return true;
}

/* ---- the end of one that is whole ---- */

static void saved(struct jdone *d)
{
    struct jstream *s = d->s;
    struct jrestore *x = s->restore;
    enum err e = d->e;

    free(d);
    if (!x)
        return;
    if (e) {
        fail(x, err_text(e));
        return;
    }
    jstream_restored(s);
    if (json_array_size(x->consumers))
        jstream_interest_less(s);
    answer(x, buf_slice(&x->reply), jstream_info(s, NULL));
    advise(x, "RESTORE_COMPLETE", "io.nats.jetstream.advisory.v1.restore_complete");
    jrestore_end(s);
}

static void finish(struct jrestore *x)
{
    struct jstream *s = x->s;
    size_t i, n = json_array_size(x->consumers);
    struct jdone *d;
    enum err e;

    if (x->stage == WHOLE) {
        x->stage = FINISHING;
        x->making = 1;
        for (i = 0; i < n; i++)
            if (!consumer_make(x, json_array_get(x->consumers, i))) {
                fail(x, "a consumer's configuration is not valid");
                return;
            }
        x->making--;
    }
    if (x->making)
        return;
    e = x->e ? x->e : jsources_based(s, x->last + 1);
    x->making = 1; /* finish is not called any more */
    d = xcalloc(1, sizeof *d);
    if (!e && !(e = jstream_save_whole(s, d, saved)))
        return;
    free(d);
    fail(x, err_text(e));
}

/* ---- entries ---- */

static uint64_t number(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v > 0 ? (uint64_t)v : 0;
}

static const char *state_take(struct jrestore *x)
{
    struct slice p = x->entry.payload;
    json_t *o = json_loadb((const char *)p.ptr, p.len, 0, NULL);

    x->first = number(o, "first_seq");
    x->last = number(o, "last_seq");
    x->consumers_n = number(o, "consumer_count");
    json_decref(o);
    if (!o || !slice_eq_str(x->entry.name, "state.json"))
        return "expected state.json first";
    if (!x->first)
        x->first = 1;
    if (x->first > INT64_MAX || x->last > INT64_MAX || x->first > x->last + 1 ||
        x->consumers_n > LIMIT_JS_CONSUMERS)
        return "its state is not valid";
    x->stage = x->consumers_n ? CONSUMERS : MESSAGES;
    if (jsources_base_set(x->s, x->first))
        return "it cannot be stored";
    return NULL;
}

static const char *consumer_take(struct jrestore *x)
{
    struct slice p = x->entry.payload;
    json_t *o = json_loadb((const char *)p.ptr, p.len, 0, NULL);

    if (!o || !slice_has_prefix(x->entry.name, SLICE_LIT("consumers/"))) {
        json_decref(o);
        return "expected a consumer";
    }
    json_array_append_new(x->consumers, o);
    if (json_array_size(x->consumers) == x->consumers_n)
        x->stage = MESSAGES;
    return NULL;
}

/* Sequences below seq that the log has not; false: some have to wait. */
static bool fill(struct jrestore *x, uint64_t seq)
{
    uint64_t next;

    while ((next = jpublish_next(x->s)) < seq)
        if (jpublish_fill(x->s, seq - next < FILL_ONCE ? seq - next : FILL_ONCE)) {
            x->waits = true;
            return false;
        }
    return true;
}

static const char *message_take(struct jrestore *x)
{
    const struct jarchive_entry *e = &x->entry;
    struct jmsg m = {.seq = e->seq,
                     .time_ns = e->time_ns,
                     .subject = e->name,
                     .headers = e->headers,
                     .payload = e->payload};
    enum jcopied c;

    if (!e->seq) {
        if (e->time_ns || e->headers.len || e->payload.len)
            return "expected a message's sequence";
        if (fill(x, x->last + 1))
            x->stage = WHOLE;
        return NULL;
    }
    if (e->seq < x->first || e->seq > x->last || e->seq < jpublish_next(x->s))
        return "a message is out of order";
    if (!fill(x, e->seq))
        return NULL;
    c = jpublish_copy(x->s, &m, true);
    x->waits = c == JCOPY_LATER;
    return c == JCOPY_PASSED ? "a message cannot be stored in the stream" : NULL;
}

static const char *entry_take(struct jrestore *x)
{
    x->waits = false;
    return x->stage == STATE       ? state_take(x)
           : x->stage == CONSUMERS ? consumer_take(x)
           : x->stage == MESSAGES  ? message_take(x)
                                   : "there is more behind its end";
}

/* Why it cannot go on; NULL: it can. */
static const char *entries_take(struct jrestore *x)
{
    const char *why = NULL;
    enum err e = ERR_OK;

    while (!why) {
        if (!x->has_entry && (e = jarchive_next(&x->in, &x->entry)))
            break;
        why = entry_take(x);
        x->has_entry = x->waits;
        if (x->waits)
            break;
    }
    if (why || !e || e == ERR_AGAIN)
        return why;
    return e == ERR_UNSUPPORTED ? "it is no archive of messages as nats-server writes since 2.15"
                                : err_text(e);
}

/* ---- chunks ---- */

static void replies_send(struct jrestore *x)
{
    struct slice to;
    size_t at = 0;

    while (jreplies_next(buf_slice(&x->replies), &at, &to))
        js_send(x->s->l, x->s->account, to, to, SLICE_NULL, SLICE_NULL, SLICE_NULL);
    buf_clear(&x->replies);
}

static void on_later(struct jlater *j)
{
    struct jrestore *x = list_entry(j, struct jrestore, later);
    struct jstream *s = x->s;
    const char *why = NULL;

    if (x->stage < FINISHING)
        why = x->e ? err_text(x->e) : entries_take(x);
    if (!why && x->ended && !x->waits && x->stage < WHOLE)
        why = "it ends before its end";
    if (why) {
        fail(x, why);
        return;
    }
    loop_timer_arm(s->l->loop, &x->timer, x->waits || x->ended ? WAIT_MS : STALL_MS);
    if (!x->waits)
        replies_send(x);
    if (x->stage == FINISHING ||
        (x->stage == WHOLE && x->ended && s->index.last + 1 == jpublish_next(s)))
        finish(x);
}

static void on_chunk(struct nsub *sub, struct nmsg *m)
{
    struct jrestore *x = sub->arg;
    struct slice body = slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len);

    if (x->ended || !m->reply.len)
        return;
    if (!body.len) {
        x->ended = true;
        buf_append_slice(&x->reply, m->reply);
    } else {
        x->bytes += body.len;
        if (!x->e)
            x->e = jarchive_feed(&x->in, body, FED_MAX);
        if (!jreplies_add(&x->replies, m->reply) && !x->e)
            x->e = ERR_LIMIT;
    }
    js_later(js_loop(x->s->js, x->s->l), &x->later);
}

static void on_timer(struct loop_timer *t)
{
    struct jrestore *x = list_entry(t, struct jrestore, timer);

    fail(x, "it is stalled");
}

void jrestore_came(struct jstream *s, enum err e)
{
    struct jrestore *x = s->restore;

    if (!x)
        return;
    x->e = x->e ? x->e : e;
    js_later(js_loop(s->js, s->l), &x->later);
}

/* ---- beginning ---- */

void jrestore_begin(struct jreq *r)
{
    struct jstream *s = r->stream;
    struct jrestore *x = s->restore = xcalloc(1, sizeof *x);
    char id[JS_ID_LEN + 1], subject[JCONF_NAME_MAX + 64];
    const char *why = NULL;
    struct plog_info log;

    x->s = s;
    x->begun_ns = js_now_ns(s->js);
    x->consumers = json_array();
    x->later.fn = on_later;
    loop_timer_init(&x->timer, on_timer);
    jarchive_init(&x->in);
    buf_init(&x->replies, FED_MAX);
    buf_init(&x->reply, UINT16_MAX);
    js_id_make(s->js, id);
    snprintf(subject, sizeof subject, "$JS.SNAPSHOT.RESTORE.%s.%s", s->conf.name, id);
    x->chunks =
        nats_sub_new(s->l, s->account, slice_str(subject), SLICE_NULL, on_chunk, x, &s->pressed);
    plog_info_get(partition_log(s->p), &log);
    if (log.end_offset)
        why = "the topic has records";
    else if (!x->chunks)
        why = "there are too many subscriptions";
    if (why) {
        js_fail(r, "stream_restore", JSE_STREAM_RESTORE, "%s", why);
        fail(x, why);
        return;
    }
    loop_timer_arm(s->l->loop, &x->timer, STALL_MS);
    advise(x, "RESTORE_CREATE", "io.nats.jetstream.advisory.v1.restore_create");
    js_answer(r, "stream_restore", json_pack("{s:s}", "deliver_subject", subject));
}
