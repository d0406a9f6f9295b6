/* Fuzzing of a whole Kafka server: a broker on a simulated disk, the protocol, connections without
 * sockets.
 *
 * The first byte chooses how the server is set up, how input is cut into pieces and how the broker
 * ends (closed or crashed). The rest are steps: a request on one of three connections, whose fields
 * are made from the input (kafka_input.h) and may be damaged behind its header; bytes as they are; a
 * connection that ends; time that passes. A step may leave the server no turn, so that requests
 * queue.
 *
 * Checked beside the sanitizers: every answer decodes, to its end, with the client's side of the
 * codec; answers come in the order of the requests, none is left out but where the protocol has none;
 * memory stays below a bound that does not depend on what is declared; whatever waits ends when its
 * connection does; the broker opens again with the topics, the ends of their logs and the items that
 * were there. */
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/coordinator.h"
#include "io/sim.h"
#include "journal/journal.h"
#include "kafka_input.h"
#include "proto/kafka/kafka_int.h"

#define INPUT_MAX  4096u
#define CONNS      3u
#define SENT_MAX   256u /* requests of a connection that may be under way */
#define TURNS_MAX  2000u
#define MEMORY_MAX ((size_t)256 << 20)
#define TOPICS_MAX 20u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* With AddressSanitizer mallinfo2 knows nothing. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* A request that an answer is expected for. */
struct sent {
    const struct kafka_message *response;
    int16_t version;
    int32_t id;
    bool maybe; /* there need not be one: acks=0, or what was sent may not decode */
};

struct client {
    struct conn *c; /* NULL: the server closed it */
    struct buf out;
    struct sent sent[SENT_MAX];
    unsigned sent_n;
    bool raw; /* got bytes that are no frames: what it answers means nothing */
};

struct world {
    struct io *io;
    struct broker *broker;
    struct loop *loop;
    struct kafka *kafka;
    struct client clients[CONNS];
    struct memory known;
    struct arena arena;
    struct loop_hook look;
    uint8_t flags;
    int32_t id;
    bool throttled; /* a quota may be set: answers may wait longer than we do */
    size_t base;    /* memory in use before */
};

static size_t memory_now(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
                                                   : mallinfo2().uordblks;
}

/* ---- the server ---- */

static void sink(void *arg, struct conn *c, struct slice data)
{
    struct world *w = arg;
    unsigned i;

    for (i = 0; i < CONNS; i++)
        if (w->clients[i].c == c)
            ASSERT(buf_append_slice(&w->clients[i].out, data) == ERR_OK);
}

static void clients_look(void *arg);

static void server_start(struct world *w)
{
    bool sasl = (w->flags & 96) == 96;
    struct broker_conf bc = {.dir = "/d",
                             .io = w->io,
                             .topics_auto_create = true,
                             .journal_file_bytes = 64u << 10,
                             .inflight_bytes = 1u << 20,
                             .topics_max = TOPICS_MAX};
    struct kafka_conf kc = {.loops = &w->loop,
                            .loops_n = 1,
                            .conns_max = CONNS + 1,
                            .idle_ms = 600000,
                            .topics_auto_create = true,
                            .sasl_mechanisms = sasl ? "PLAIN,SCRAM-SHA-256" : NULL,
                            .acls = w->flags & 16,
                            .acls_else_everyone = true};
    struct errinfo info = {0};

    ASSERT(loop_new(&w->loop, NULL) == ERR_OK);
    w->look = (struct loop_hook){.fn = clients_look, .arg = w};
    loop_hook_add(w->loop, &w->look, false);
    if (broker_open(&bc, &w->broker, &info)) {
        fprintf(stderr, "the broker does not open: %s\n", info.text);
        abort();
    }
    kc.broker = w->broker;
    if (kafka_new(&kc, &w->kafka, &info)) {
        fprintf(stderr, "the server does not start: %s\n", info.text);
        abort();
    }
    conn_sink_set(w->kafka->conns, sink, w);
}

static void server_stop(struct world *w, bool crash)
{
    kafka_free(&w->kafka);
    if (crash)
        io_sim_crash(w->io);
    broker_close(&w->broker);
    loop_free(&w->loop);
}

/* ---- what it answers ---- */

static void answer_check(struct world *w, const struct sent *s, struct kreader *r)
{
    void *m = arena_alloc(&w->arena, s->response->layout->size);

    ASSERT(m && s->response->decode(r, s->version, &w->arena, m) == ERR_OK);
    ASSERT(kreader_left(r) == 0);
    known_struct(&w->known, s->response->layout, m);
}

static void frame_check(struct world *w, struct client *k, struct slice frame)
{
    const struct kafka_api *api;
    struct kafka_response_header h;
    struct kreader r;
    struct sent s;
    int32_t id;
    unsigned i;

    ASSERT(frame.len >= 4);
    id = (int32_t)be32_load(frame.ptr);
    for (i = 0; i < k->sent_n && k->sent[i].id != id; i++)
        ASSERT(k->sent[i].maybe); /* left out */
    ASSERT(i < k->sent_n);
    s = k->sent[i++];
    k->sent_n -= i;
    memmove(k->sent, k->sent + i, k->sent_n * sizeof *k->sent);
    api = kafka_api_find(s.response->key);
    kreader_init(&r, frame, 64u << 20);
    arena_reset(&w->arena);
    ASSERT(kafka_response_header_decode(&r, kafka_response_header_version(api, s.version),
                                        &w->arena, &h) == ERR_OK);
    answer_check(w, &s, &r);
}

static void answers_check(struct world *w, struct client *k)
{
    size_t at = 0, n;

    if (!k->c || k->raw)
        return;
    while (k->out.len - at >= 4) {
        n = be32_load(k->out.ptr + at);
        ASSERT(n <= LIMIT_KAFKA_ANSWER);
        if (k->out.len - at - 4 < n)
            break;
        frame_check(w, k, slice_of(k->out.ptr + at + 4, n));
        at += 4 + n;
    }
    if (at) {
        memmove(k->out.ptr, k->out.ptr + at, k->out.len - at);
        k->out.len -= at;
    }
}

/* ---- time ---- */

/* A closed connection is freed at the end of the turn: it is forgotten before, also by the loop's own
 * hook, as what the turn does may close it. */
static void clients_look(void *arg)
{
    struct world *w = arg;
    unsigned i;

    for (i = 0; i < CONNS; i++) {
        answers_check(w, &w->clients[i]);
        if (w->clients[i].c && conn_closing(w->clients[i].c))
            w->clients[i].c = NULL;
    }
}

static void turn(struct world *w, unsigned n)
{
    while (n--) {
        clients_look(w);
        loop_turn(w->loop, false);
        broker_step(w->broker);
    }
    clients_look(w);
    ASSERT(memory_now() < w->base + MEMORY_MAX);
}

static void time_pass(struct world *w, uint8_t how)
{
    io_sim_advance(w->io, ((uint64_t)1 << how % 32) * 1000000u);
    groups_tick(w->broker, (int64_t)(io_mono_ns(w->io) / 1000000u));
    broker_background(w->broker);
    turn(w, 2);
}

/* ---- steps ---- */

static struct client *client_of(struct world *w, unsigned i)
{
    struct client *k = &w->clients[i % CONNS];

    if (!k->c) {
        turn(w, 1); /* the one before is freed */
        buf_clear(&k->out);
        k->sent_n = 0;
        k->raw = (w->flags & 96) == 96; /* what a mechanism says has no header */
        k->c = conn_detached(w->kafka->conns, 0, "");
    }
    return k;
}

static void feed(struct world *w, struct client *k, struct slice s)
{
    static const size_t pieces[] = {INPUT_MAX, 1000, 50, 7};
    size_t at, piece = pieces[w->flags / 2 % 4];

    for (at = 0; at < s.len && k->c && !conn_closing(k->c); at += piece) {
        conn_feed(k->c, slice_of(s.ptr + at, s.len - at < piece ? s.len - at : piece));
        if (piece < INPUT_MAX)
            turn(w, 1);
    }
}

static const struct kafka_message *message_find(int16_t key, bool response)
{
    size_t i;

    for (i = 0; i < kafka_messages_n; i++)
        if (kafka_messages[i].key == key && kafka_messages[i].response == response)
            return &kafka_messages[i];
    return NULL;
}

static void damage(struct input *in, struct buf *frame, size_t body)
{
    uint8_t c = take(in);
    size_t at;

    if (frame->len == body)
        return;
    at = body + take(in) % (frame->len - body);
    if (c % 4 == 0)
        be32_store(frame->ptr, (uint32_t)((frame->len = at) - 4));
    else if (c % 4 == 1)
        memset(frame->ptr + at, 0xff, frame->len - at < 4 ? frame->len - at : 4);
    else
        frame->ptr[at] ^= (uint8_t)(c | 1);
}

static void expect(struct client *k, const struct kafka_api *api, int16_t version, int32_t id,
                   bool maybe)
{
    if (k->sent_n == SENT_MAX)
        k->raw = true; /* not looked at from now on */
    else
        k->sent[k->sent_n++] = (struct sent){message_find(api->key, true), version, id, maybe};
}

/* A version that there is none of: ApiVersions is answered by version 0, all else by the end. */
static void request_alien(struct world *w, struct client *k, const struct kafka_api *api,
                          uint8_t version)
{
    uint8_t frame[14] = {0, 0, 0, 10};

    be16_store(frame + 4, (uint16_t)api->key);
    be16_store(frame + 6, (uint16_t)(api->max + 1 + version));
    be32_store(frame + 8, (uint32_t)++w->id);
    if (api->key == 18)
        expect(k, api, 0, w->id, false);
    feed(w, k, slice_of(frame, sizeof frame));
}

/* The API that a byte means. One that is added is not among those whose number the byte is taken by:
 * the corpus would mean something else. */
static const struct kafka_api *api_of(uint8_t byte)
{
    size_t i, n = 0, added = 0;

    for (i = 0; i < kafka_apis_n; i++)
        added += kafka_apis[i].key == 88 || kafka_apis[i].key == 89;
    if (byte >= 248)
        n = byte % added + 1;
    else
        byte %= kafka_apis_n - added;
    for (i = 0; i < kafka_apis_n; i++) {
        bool is_added = kafka_apis[i].key == 88 || kafka_apis[i].key == 89;

        if (n ? is_added && --n == 0 : !is_added && byte-- == 0)
            break;
    }
    ASSERT(i < kafka_apis_n);
    return &kafka_apis[i];
}

static void request(struct world *w, struct input *in, struct client *k, bool damaged)
{
    const struct kafka_api *api = api_of(take(in));
    uint8_t v = take(in);
    int16_t version = (int16_t)(api->min + v % (api->max - api->min + 1));
    struct maker x = {in, &w->known, &w->arena, version,
                      journal_wall_ms(broker_journal(w->broker))};
    const struct kafka_message *msg = message_find(api->key, false);
    struct kwriter kw;
    struct buf frame;
    size_t body;
    void *m;

    if (v >= 250) {
        request_alien(w, k, api, v);
        return;
    }
    arena_reset(&w->arena);
    m = make_message(&x, msg);
    kwriter_init(&kw, 4u << 20);
    buf_init(&frame, 4u << 20);
    kafka_request_begin(&kw, api, version, ++w->id, SLICE_LIT("c"));
    body = kw.buf.len;
    msg->encode(&kw, version, m);
    if (kwriter_end(&kw) == ERR_OK && kwriter_flatten(&kw, &frame) == ERR_OK) {
        bool mute = api->key == 0 && ((struct kafka_produce_request *)m)->acks == 0;

        w->throttled = w->throttled || api->key == 49;
        if (damaged)
            damage(in, &frame, body);
        expect(k, api, version, w->id, mute || damaged);
        feed(w, k, buf_slice(&frame));
    }
    buf_fini(&frame);
    kwriter_fini(&kw);
}

static void step(struct world *w, struct input *in)
{
    uint8_t op = take(in);
    struct client *k = client_of(w, op >> 5);

    switch (op % 16) {
    case 0:
        k->raw = true;
        feed(w, k, take_bytes(in, take(in)));
        break;
    case 1:
        conn_close(k->c, op & 16, CONN_PEER);
        break;
    case 2:
        time_pass(w, take(in));
        break;
    case 3:
        request(w, in, k, true);
        break;
    default:
        request(w, in, k, false);
    }
    if (op & 16)
        turn(w, 3);
}

/* ---- the end ---- */

/* Does it have to be answered by now? Some wait for others, or for real time. */
static bool overdue(const struct world *w, const struct client *k)
{
    int16_t key;

    if (!k->c || k->raw || k->sent_n == 0 || k->sent[0].maybe || w->throttled)
        return false;
    key = k->sent[0].response->key;
    return key != 1 && key != 11 && key != 14 && key != 78;
}

static void finish(struct world *w)
{
    unsigned i, n, late;

    turn(w, 20);
    for (n = 0, late = 1; late && n < TURNS_MAX; n++) {
        turn(w, 1);
        for (i = late = 0; i < CONNS; i++)
            late += overdue(w, &w->clients[i]);
        if (late)
            usleep(200); /* a request that did not get through is tried again after 2 ms */
    }
    ASSERT(!late);
    for (i = 0; i < CONNS; i++)
        if (w->clients[i].c)
            conn_close(w->clients[i].c, false, CONN_PEER);
    for (n = 0; n < TURNS_MAX && (kafka_open(w->kafka) || w->kafka->loops[0].live); n++) {
        turn(w, 1);
        time_pass(w, 10); /* a second: members that are gone leave their groups */
        if (n > 20)
            usleep(200);
    }
    ASSERT(kafka_open(w->kafka) == 0 && w->kafka->loops[0].live == 0);
    turn(w, 20);
}

struct counts {
    size_t topics, items, bytes;
    int64_t ends;
};

static bool item_one(void *arg, struct slice key, struct slice value)
{
    struct counts *c = arg;

    c->items++;
    c->bytes += key.len + value.len;
    return true;
}

static struct counts count(struct world *w)
{
    static const char *const spaces[] = {"acl", "quota", "scram"};
    struct topic *list[TOPICS_MAX];
    struct counts c = {.topics = topic_list(w->broker, SLICE_LIT(""), NULL, list, TOPICS_MAX)};
    struct plog_info now;
    int32_t p;
    size_t i;

    for (i = 0; i < sizeof spaces / sizeof *spaces; i++)
        kv_each(w->broker, spaces[i], item_one, &c);
    for (i = 0; i < c.topics; i++) {
        for (p = 0; p < topic_partitions(list[i]); p++) {
            plog_info_get(partition_log(topic_partition(list[i], p)), &now);
            c.ends += now.end_offset;
        }
        c.bytes += (size_t)p;
        topic_unref(&list[i]);
    }
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *w;
    struct counts a, b;
    struct input in = {data + 1, data + size};
    unsigned i;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    w = calloc(1, sizeof *w);
    ASSERT(w);
    w->flags = data[0];
    w->base = memory_now();
    w->io = io_sim_new(1);
    arena_init(&w->arena, 64u << 10, 64u << 20);
    for (i = 0; i < CONNS; i++)
        buf_init(&w->clients[i].out, LIMIT_KAFKA_ANSWER);
    server_start(w);
    while (in.p < in.end)
        step(w, &in);
    finish(w);
    a = count(w);
    server_stop(w, data[0] & 1);
    server_start(w);
    b = count(w);
    ASSERT(a.topics == b.topics && a.items == b.items && a.bytes == b.bytes && a.ends == b.ends);
    server_stop(w, false);
    for (i = 0; i < CONNS; i++)
        buf_fini(&w->clients[i].out);
    arena_fini(&w->arena);
    io_sim_free(&w->io);
    free(w);
    return 0;
}
