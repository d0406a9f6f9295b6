/* Sending backups. See js_snapshot.h. Source: what nats-server 2.15 sends, and its clients
 * (jsm.go, "nats stream backup").
 *
 * A backup is an archive (js_archive.h): what the stream's state is, its consumers, its messages,
 * an end. It goes out in chunks; each is acknowledged, and so many of them may be on their way. What
 * is stored meanwhile is not in it, what is removed meanwhile may be missing.
 *
 *   request -> answer -> go: read, chunk, wait for acks … -> status 204 */
#include "proto/nats/js_snapshot.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_archive.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_header.h"

#define CHUNK_BYTES  (128 << 10)
#define WINDOW_BYTES (8 << 20)
#define CHUNK_LEAST  1024
#define CHUNK_MAX    (1 << 20)
#define WINDOW_MAX   (32 << 20)
#define FRAME_BYTES  65536u
#define TURN_BYTES   (1u << 20) /* sent in one go, before others have their turn */
#define ACK_MS       5000u
#define LOOK_MS      100u /* for somebody who listens: */
#define LOOKS_MAX    20u

struct snapshot {
    struct list_node link;
    struct jstream *s; /* referenced */
    struct nsub *acks;
    struct jreader *reader;
    struct loop_timer timer;
    struct jlater later;
    struct buf raw, out;
    size_t out_at;
    uint64_t next, last;
    size_t chunk;
    unsigned room, sent, looks;
    int64_t begun_ns;
    bool framed, reading, all;
    char *deliver;
    char prefix[JCONF_NAME_MAX + 64]; /* of the subjects for acks */
};

static void go(struct snapshot *sn);

static void end(struct snapshot *sn, const char *status)
{
    struct jstream *s = sn->s;
    struct slice to = slice_str(sn->deliver);
    char subject[64 + JCONF_NAME_MAX], from[JTIME_TEXT_LEN + 1], until[JTIME_TEXT_LEN + 1];

    if (status && !s->gone) {
        js_send_status(s->l, s->account, to, status, NULL);
        jtime_text(sn->begun_ns, from);
        jtime_text(js_now_ns(s->js), until);
        snprintf(subject, sizeof subject, "ADVISORY.STREAM.SNAPSHOT_COMPLETE.%s", s->conf.name);
        js_advise(
            s, subject, "io.nats.jetstream.advisory.v1.snapshot_complete",
            json_pack("{s:s, s:s, s:s}", "stream", s->conf.name, "start", from, "end", until));
    }
    list_remove(&sn->link);
    s->snapshots_n--;
    loop_timer_cancel(s->l->loop, &sn->timer);
    js_later_cancel(&sn->later);
    nats_sub_end(sn->acks, s->account);
    jreader_free(&sn->reader);
    buf_fini(&sn->raw);
    buf_fini(&sn->out);
    free(sn->deliver);
    free(sn);
    jstream_unref(s);
}

void jsnapshots_end(struct jstream *s)
{
    while (!list_empty(&s->snapshots))
        end(list_entry(s->snapshots.node.next, struct snapshot, link), NULL);
}

/* ---- what is in it ---- */

static void put_json(struct snapshot *sn, const char *name, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);

    jarchive_put(&sn->raw, &(struct jarchive_entry){.name = slice_str(name),
                                                    .time_ns = js_now_ns(sn->s->js),
                                                    .payload = slice_str(text)});
    free(text);
    json_decref(o);
}

static json_t *place(uint64_t dseq, uint64_t seq)
{
    return json_pack("{s:I, s:I}", "consumer_seq", (json_int_t)dseq, "stream_seq", (json_int_t)seq);
}

/* Consumers begin again behind what is acknowledged as a whole. */
static void put_consumers(struct snapshot *sn)
{
    char name[JCONF_NAME_MAX + sizeof "consumers/"];
    struct jconsumer *c;
    struct jfloor floor;
    uint32_t at = 0;
    void *v;

    while (map_next(&sn->s->consumers, &at, NULL, &v)) {
        c = v;
        floor = jconsumer_floor(c);
        snprintf(name, sizeof name, "consumers/%s", c->conf.name);
        put_json(sn, name,
                 json_pack("{s:o, s:{s:o, s:o}}", "config", jconsumer_conf_write(&c->conf), "state",
                           "delivered", place(floor.dseq, floor.seq), "ack_floor",
                           place(floor.dseq, floor.seq)));
    }
}

static void frame(struct snapshot *sn)
{
    jarchive_frame(buf_slice(&sn->raw), !sn->framed, &sn->out);
    sn->framed = true;
    buf_clear(&sn->raw);
}

static void on_read(void *arg)
{
    struct snapshot *sn = arg;

    sn->reading = false;
    go(sn);
}

/* Puts more into out. ERR_AGAIN: it is being read. */
static enum err fill(struct snapshot *sn)
{
    struct jindex *x = &sn->s->index;
    struct jmsg m;
    uint64_t seq;
    enum err e;

    if (sn->out_at == sn->out.len) {
        buf_clear(&sn->out);
        sn->out_at = 0;
    }
    while (sn->raw.len < FRAME_BYTES) {
        seq = jindex_next(x, NULL, sn->next);
        if (!seq || seq > sn->last) {
            jarchive_put(&sn->raw, &(struct jarchive_entry){0});
            sn->all = true;
            break;
        }
        e = jreader_get(sn->reader, seq, &m, on_read, sn);
        if (e && e != ERR_NOT_FOUND)
            return e;
        sn->next = seq + 1;
        if (!e)
            jarchive_put(&sn->raw, &(struct jarchive_entry){.name = m.subject,
                                                            .time_ns = m.time_ns,
                                                            .seq = m.seq,
                                                            .headers = m.headers,
                                                            .payload = m.payload});
    }
    frame(sn);
    return ERR_OK;
}

/* ---- sending ---- */

static size_t send_chunk(struct snapshot *sn)
{
    struct jstream *s = sn->s;
    size_t n = sn->out.len - sn->out_at;
    struct slice to = slice_str(sn->deliver);
    char ack[sizeof sn->prefix + 48];
    int len;

    n = n < sn->chunk ? n : sn->chunk;
    len = snprintf(ack, sizeof ack, "%s.%zu.%u", sn->prefix, n, ++sn->sent);
    js_send(s->l, s->account, to, to, slice_of(ack, (size_t)len), SLICE_NULL,
            slice_of(sn->out.ptr + sn->out_at, n));
    sn->out_at += n;
    sn->room--;
    loop_timer_arm(s->l->loop, &sn->timer, ACK_MS);
    return n;
}

/* Somebody listens. The nats tool subscribes when it has the answer, and has a pattern for answers that
 * takes the subject, too: so at first a subscription to just this subject is waited for. False: sn may be
 * gone. */
static bool heard(struct snapshot *sn)
{
    struct interest *in = &sn->s->account->interest;
    struct slice to = slice_str(sn->deliver);

    if (!sn->sent && sn->looks < LOOKS_MAX && !interest_exact(in, to)) {
        sn->looks++;
        loop_timer_arm(sn->s->l->loop, &sn->timer, LOOK_MS);
        return false;
    }
    if (!interest_any(in, to)) {
        end(sn, NHEADER_LINE " 408 No Interest");
        return false;
    }
    return true;
}

static void go(struct snapshot *sn)
{
    size_t sent = 0;
    enum err e;

    while (!sn->reading) {
        if (!sn->all && sn->out.len - sn->out_at < sn->chunk) {
            e = fill(sn);
            sn->reading = e == ERR_AGAIN;
            if (e && e != ERR_AGAIN) {
                end(sn, NHEADER_LINE " 500 the stream cannot be read");
                return;
            }
            continue;
        }
        if (!sn->room || !heard(sn))
            return; /* acks come, or the timer */
        if (sn->out_at == sn->out.len) {
            end(sn, NHEADER_LINE " 204");
            return;
        }
        sent += send_chunk(sn);
        if (sent >= TURN_BYTES) {
            js_later(js_loop(sn->s->js, sn->s->l), &sn->later);
            return;
        }
    }
}

static void on_later(struct jlater *j)
{
    go(list_entry(j, struct snapshot, later));
}

static void on_timer(struct loop_timer *t)
{
    struct snapshot *sn = list_entry(t, struct snapshot, timer);

    if (!sn->sent)
        go(sn);
    else if (!sn->room)
        end(sn, NHEADER_LINE " 408 No Flow Response");
}

static void on_ack(struct nsub *sub, struct nmsg *m)
{
    struct snapshot *sn = sub->arg;

    (void)m;
    sn->room++;
    js_later(js_loop(sn->s->js, sn->s->l), &sn->later);
}

/* ---- beginning ---- */

static long clamped(const json_t *o, const char *name, long usual, long least, long most)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v == 0 ? usual : v < least ? least : v > most ? most : (long)v;
}

static void begin(struct jreq *r, const char *deliver, json_t *state)
{
    struct jstream *s = r->stream;
    struct snapshot *sn = xcalloc(1, sizeof *sn);
    char id[JS_ID_LEN + 1];
    long chunk = clamped(r->json, "chunk_size", CHUNK_BYTES, CHUNK_LEAST, CHUNK_MAX);
    long window = clamped(r->json, "window_size", WINDOW_BYTES, CHUNK_LEAST, WINDOW_MAX);
    char subject[sizeof sn->prefix + 2];

    sn->s = jstream_ref(s);
    sn->deliver = xstrdup(deliver);
    sn->chunk = (size_t)chunk;
    sn->room = window > chunk ? (unsigned)(window / chunk) : 1;
    sn->next = s->index.first;
    sn->last = s->index.last;
    sn->reader = jreader_new(s);
    sn->later.fn = on_later;
    sn->begun_ns = js_now_ns(s->js);
    loop_timer_init(&sn->timer, on_timer);
    buf_init(&sn->raw, SIZE_MAX);
    buf_init(&sn->out, SIZE_MAX);
    js_id_make(s->js, id);
    snprintf(sn->prefix, sizeof sn->prefix, "$JS.SNAPSHOT.ACK.%s.%s", s->conf.name, id);
    snprintf(subject, sizeof subject, "%s.>", sn->prefix);
    list_push_back(&s->snapshots, &sn->link);
    s->snapshots_n++;
    sn->acks =
        nats_sub_new(s->l, s->account, slice_str(subject), SLICE_NULL, on_ack, sn, &s->pressed);
    jarchive_begin(&sn->raw);
    put_json(sn, "state.json", json_incref(state));
    if (!json_is_true(json_object_get(r->json, "no_consumers")))
        put_consumers(sn);
    frame(sn);
    js_later(js_loop(s->js, s->l), &sn->later);
}

void jsnapshot_request(struct jreq *r)
{
    const char *deliver = json_string_value(json_object_get(r->json, "deliver_subject"));
    bool consumers = !json_is_true(json_object_get(r->json, "no_consumers"));
    struct jstream *s = r->stream;
    char subject[64 + JCONF_NAME_MAX];
    json_t *info, *state;

    if (!r->json) {
        js_fail(r, "stream_snapshot", JSE_BAD_REQUEST, NULL);
        return;
    }
    if (!deliver || !subject_literal(slice_str(deliver))) {
        js_fail(r, "stream_snapshot", JSE_SNAPSHOT_DELIVER_SUBJECT_INVALID, NULL);
        return;
    }
    if (s->snapshots_n == LIMIT_JS_SNAPSHOTS || s->restore) {
        js_fail(r, "stream_snapshot", JSE_STREAM_SNAPSHOT, "%s",
                s->restore ? "the stream is being restored" : "too many at once");
        return;
    }
    info = jstream_info(s, NULL);
    state = json_object_get(info, "state");
    if (!consumers)
        json_object_set_new(state, "consumer_count", json_integer(0));
    begin(r, deliver, state);
    snprintf(subject, sizeof subject, "ADVISORY.STREAM.SNAPSHOT_CREATE.%s", s->conf.name);
    js_advise(s, subject, "io.nats.jetstream.advisory.v1.snapshot_create",
              json_pack("{s:s, s:O}", "stream", s->conf.name, "state", state));
    js_answer(r, "stream_snapshot",
              json_pack("{s:O, s:O}", "config", json_object_get(info, "config"), "state", state));
    json_decref(info);
}
