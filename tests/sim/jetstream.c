/* `jetstream`: work queues and leases over a whole NATS server on a simulated disk, with clients that
 * speak its protocol and a clock of its own, from a seed.
 *
 *   jetstream --seeds N [--seed S] [--verbose]
 *
 * Three streams keep messages as a work queue, by interest, and by limits; each has two consumers.
 * Workers ask for messages, acknowledge, refuse (with and without delay), terminate, ask for more
 * time, forget, die and come back; messages are published and deleted; time passes, in jumps; the disk
 * fills up and fails, the power goes off, a checkpoint is taken now and then. Acknowledgements may
 * be of what was delivered before a restart.
 *
 * A checker knows only what was sent and what was answered. What must hold:
 *  1. a message whose PubAck came is in the stream, at its sequence, once, until it may go: from a
 *     work queue when its acknowledgement was asked for, with interest when that of all consumers
 *     that take it was, otherwise when it was deleted or by limits;
 *  2. what was acknowledged or terminated, and answered, is never delivered again by that consumer,
 *     restarts or not, and is gone where the stream lets it go;
 *  3. within a run of the server a message is not delivered again before its ack wait is over, or
 *     the delay of its refusal; and not after an acknowledgement was sent;
 *  4. each delivery is told as one more than the last one, never more than max_deliver;
 *  5. nobody is given more than was asked for, or what the consumer's filter does not take; no more
 *     than max_ack_pending wait for their acknowledgement; first deliveries are in order;
 *  6. num_pending, num_ack_pending and ack_floor are what they must be, as far as that is known;
 *  7. when nothing goes wrong any more, what is not acknowledged is delivered again as soon as its
 *     ack wait is over, and everything comes to its end.
 * One thread; the same seed does the same. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hex.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "io/sim.h"
#include "journal/journal.h"
#include "natsd.h"
#include "proto/nats/js_words.h"
#include "seed.h"

#define STREAMS   3
#define CONSUMERS 2
#define WORKERS   3u
#define BOSS      WORKERS /* the client that publishes, makes and asks */
#define SEQS      300u
#define CYCLES    5u
#define HELD      64u
#define ASKED     1024u /* requests whose answers are awaited */
#define JUMP_MS   15000
#define LATE_MS   600 /* leases end in steps of 100 ms, loops look and time passes in steps */
#define TURNS     60u /* for an answer */
#define ROUNDS    4u  /* after which what was sent is there, whichever loops it passes */
#define FLIGHT    20u /* messages that are on their way at most */
#define FLIGHT_MS 200 /* that pass at most while something is on its way */

enum { WORK, INTEREST, LIMITS };
static const char stream_name[STREAMS][2] = {"w", "i", "l"};
static const char *const retention[STREAMS] = {"workqueue", "interest", "limits"};
/* What a consumer takes: 0 all. */
static const char filter[STREAMS][CONSUMERS] = {{'a', 'b'}, {0, 'a'}, {0, 'b'}};

/* What is known of a message as far as a consumer is concerned. */
struct place {
    int64_t until; /* not to be delivered again before, in `run` */
    int64_t lease; /* its lease does not end before */
    uint32_t run;  /* of the server that delivered it last; 0: none did */
    uint32_t settlement;
    uint32_t told;  /* deliveries */
    bool end_sent;  /* since the last delivery, to the same run … */
    uint64_t round; /* … in this round */
    bool refused;   /* since the last delivery … */
    uint64_t nak_round;
    int64_t nak_until; /* … until then */
    bool end_asked;    /* ever */
    bool ended;        /* … and answered */
};

struct message {
    uint32_t id; /* 0: not known */
    char letter;
    bool there;   /* it is known to have been stored */
    bool deleted; /* asked for */
    bool gone;    /* … and answered */
};

struct consumer {
    int64_t wait_ms;
    uint32_t deliver_max, pending_max; /* 0: no limit */
    uint64_t fresh[WORKERS];           /* the highest first delivery of this run */
    int64_t credit[WORKERS];
    struct place v[SEQS];
};

struct stream {
    struct message v[SEQS];
    uint64_t high; /* sequence known to be there */
    uint32_t keep; /* max_msgs; 0: no limit */
    struct consumer c[CONSUMERS];
};

/* A message in a worker's hands. */
struct held {
    int stream, consumer;
    uint64_t seq;
    char reply[128];
};

enum kind { NOTHING, PUBLISH, SETTLE, DELETE, ASK };

/* A request whose answer is awaited. */
struct asked {
    uint32_t token;
    enum kind kind;
    int stream, consumer;
    uint64_t seq; /* PUBLISH: the message's id */
    uint32_t settlement;
    enum jack_what what;
    int64_t until; /* SETTLE: NAK, WPI: what holds from the answer on */
};

struct world {
    struct natsd d;
    struct io *io;
    struct seed seed;
    uint32_t run, ids, tokens, settlements;
    bool ready, lossy; /* streams and consumers are there; deliveries may have got lost */
    bool faulty;       /* calls to the disk may fail in this run */
    int64_t turn_ms[NATSD_LOOPS];   /* when the loop's turn began */
    int64_t before_ms[NATSD_LOOPS]; /* … and the one before: what comes was sent later than that */
    uint64_t rounds;                /* in each of which all loops turned */
    unsigned turned;                /* … in this one, as bits */
    unsigned loop_of[WORKERS + 1], life[WORKERS + 1];
    struct stream s[STREAMS];
    struct asked asked[ASKED];
    struct held held[WORKERS][HELD];
    uint32_t held_n[WORKERS];
    struct buf answer; /* of the last ASK */
    uint32_t answer_token;
    bool present[SEQS]; /* as the last audit found */
    uint64_t st_published, st_delivered, st_again, st_ended, st_crashes, st_audits, st_infos;
};

static const char *consumer_text(int s, int c)
{
    static const char *const names[STREAMS][CONSUMERS] = {
        {"w.c0", "w.c1"}, {"i.c0", "i.c1"}, {"l.c0", "l.c1"}};

    return names[s][c];
}

static bool takes(int s, int c, const struct message *m)
{
    return !filter[s][c] || filter[s][c] == m->letter;
}

static bool may_be_spent(const struct world *w, int s, int c, uint64_t seq)
{
    const struct consumer *k = &w->s[s].c[c];
    const struct place *p = &k->v[seq];

    return k->deliver_max && (w->lossy || p->told >= k->deliver_max);
}

/* ---- requests ---- */

static void inbox(char *out, size_t cap, unsigned client, uint32_t token)
{
    snprintf(out, cap, "_R.%u.%u", client, token);
}

static struct asked *request(struct world *w, unsigned client, enum kind kind, const char *subject,
                             struct slice body)
{
    uint32_t token = ++w->tokens;
    struct asked *a = &w->asked[token % ASKED];
    char reply[48];

    inbox(reply, sizeof reply, client, token);
    *a = (struct asked){.token = token, .kind = kind};
    natsd_publish(&w->d, client, subject, reply, body);
    return a;
}

/* The number behind a member's name; -1: it is not there. */
static int64_t member(struct slice json, const char *name)
{
    char text[64];
    const uint8_t *at;
    int n = snprintf(text, sizeof text, "\"%s\":", name);

    at = memmem(json.ptr, json.len, text, (size_t)n);
    return at ? strtoll((const char *)at + n, NULL, 10) : -1;
}

static bool is_error(struct slice json)
{
    return memmem(json.ptr, json.len, "\"error\"", 7) != NULL;
}

static void learn(struct world *w, int s, uint64_t seq, uint32_t id, char letter)
{
    struct message *m;

    if (!seq || seq >= SEQS)
        die(&w->seed, "%s has a sequence %" PRIu64 " that nobody wrote", stream_name[s], seq);
    m = &w->s[s].v[seq];
    if (m->id && (m->id != id || m->letter != letter))
        die(&w->seed, "%s %" PRIu64 " is message %u and message %u", stream_name[s], seq, m->id,
            id);
    m->id = id;
    m->letter = letter;
    m->there = true;
    if (seq > w->s[s].high)
        w->s[s].high = seq;
}

static bool content_read(struct slice payload, uint32_t *id, char *letter)
{
    char text[32] = "";

    memcpy(text, payload.ptr, payload.len < 31 ? payload.len : 31);
    return sscanf(text, "message %u %c", id, letter) == 2;
}

static void settle_answered(struct world *w, const struct asked *a)
{
    struct place *p = &w->s[a->stream].c[a->consumer].v[a->seq];

    if (a->what == JACK_ACK || a->what == JACK_TERM) {
        w->st_ended += !p->ended;
        p->ended = true;
    } else if (p->settlement == a->settlement && p->run == w->run && now_ms(w->io) < p->lease &&
               (a->what == JACK_NAK || (!p->refused && !p->end_sent))) {
        /* more time is given to what is waited for: not to what was refused, or acknowledged, though
         * that may fail */
        p->until = a->until;
        if (a->what == JACK_PROGRESS)
            p->lease = a->until;
    }
}

static void answered(struct world *w, uint32_t token, const struct natsd_msg *m)
{
    struct asked *a = &w->asked[token % ASKED];
    int64_t seq;

    if (a->token != token || a->kind == NOTHING)
        return;
    say(&w->seed, "answer %u: %.*s", token, (int)m->payload.len, (const char *)m->payload.ptr);
    switch (a->kind) {
    case PUBLISH:
        seq = member(m->payload, "seq");
        if (m->headers.len || is_error(m->payload) || seq < 0)
            break;
        learn(w, a->stream, (uint64_t)seq, (uint32_t)a->seq, (char)a->what);
        w->st_published++;
        break;
    case SETTLE:
        if (!m->headers.len)
            settle_answered(w, a);
        break;
    case DELETE:
        w->s[a->stream].v[a->seq].gone |= !m->headers.len && !is_error(m->payload);
        break;
    case ASK:
        buf_clear(&w->answer);
        buf_append_slice(&w->answer, m->headers.len ? SLICE_LIT("\"error\"") : m->payload);
        w->answer_token = token;
        break;
    case NOTHING:
        break;
    }
    a->kind = NOTHING;
}

/* ---- deliveries ---- */

static void window_check(struct world *w, int s, int c)
{
    struct consumer *k = &w->s[s].c[c];
    uint32_t n = 0;
    uint64_t seq;

    for (seq = 1; seq < SEQS; seq++)
        n += k->v[seq].run == w->run && !k->v[seq].end_sent && !w->s[s].v[seq].deleted &&
             !may_be_spent(w, s, c, seq);
    if (k->pending_max && n > k->pending_max && !w->s[s].keep)
        die(&w->seed, "%s: %u wait for their acknowledgement, not %u", consumer_text(s, c), n,
            k->pending_max);
}

static void delivery_check(struct world *w, int s, int c, uint64_t seq, uint32_t count,
                           uint64_t *fresh)
{
    struct consumer *k = &w->s[s].c[c];
    struct place *p = &k->v[seq];
    const char *name = consumer_text(s, c);
    bool same = p->run == w->run;

    if (!takes(s, c, &w->s[s].v[seq]))
        die(&w->seed, "%s: %" PRIu64 " is not to be delivered", name, seq);
    if (p->ended && w->rounds > p->round + ROUNDS)
        die(&w->seed, "%s: %" PRIu64 " is delivered after its end", name, seq);
    if (w->s[s].v[seq].gone)
        die(&w->seed, "%s: %" PRIu64 " is delivered though it was deleted", name, seq);
    if (same && p->end_sent && !w->faulty && w->rounds > p->round + ROUNDS)
        die(&w->seed, "%s: %" PRIu64 " is delivered after its acknowledgement", name, seq);
    if (same && now_ms(w->io) < p->until)
        die(&w->seed, "%s: %" PRIu64 " is delivered at %" PRId64 ", not to be before %" PRId64,
            name, seq, now_ms(w->io), p->until);
    if (k->deliver_max && count > k->deliver_max)
        die(&w->seed, "%s: %" PRIu64 " is delivered for the %uth time", name, seq, count);
    /* what was on its way when the server stopped was counted */
    if (!w->lossy && (count > p->told + (same ? 1 : 2) ||
                      (same && !(w->faulty && p->end_asked) && count != p->told + 1)))
        die(&w->seed, "%s: %" PRIu64 ": delivery %u after %u", name, seq, count, p->told);
    if (count == 1 && !p->told && !w->lossy) {
        if (seq <= *fresh)
            die(&w->seed, "%s: %" PRIu64 " is delivered after %" PRIu64, name, seq, *fresh);
        *fresh = seq;
    }
}

static void delivered(struct world *w, const struct natsd_msg *m, int s, int c)
{
    struct consumer *k = &w->s[s].c[c];
    struct jack_subject at;
    struct slice tail = m->reply;
    struct place *p;
    struct held *h;
    uint32_t id = 0;
    char letter = 0;

    /* $JS.ACK.w.c0. */
    if (tail.len < 13 || tail.ptr[8] != (uint8_t)*stream_name[s] || tail.ptr[11] != '0' + c)
        die(&w->seed, "%s: an acknowledgement of something else", consumer_text(s, c));
    tail = slice_of(tail.ptr + 13, tail.len - 13);
    if (!jack_subject_read(tail, &at) || !content_read(m->payload, &id, &letter))
        die(&w->seed, "%s: a delivery that is none", consumer_text(s, c));
    say(&w->seed, "%" PRId64 ": %s: %" PRIu64 " to worker %u, delivery %" PRIu64, now_ms(w->io),
        consumer_text(s, c), at.seq, m->client, at.deliveries);
    learn(w, s, at.seq, id, letter);
    if (--k->credit[m->client] < 0)
        die(&w->seed, "%s: more than was asked for", consumer_text(s, c));
    delivery_check(w, s, c, at.seq, (uint32_t)at.deliveries, &k->fresh[m->client]);
    p = &k->v[at.seq];
    w->st_delivered++;
    w->st_again += p->told > 0;
    p->run = w->run;
    p->told = (uint32_t)at.deliveries;
    p->until = p->lease = w->before_ms[w->loop_of[m->client]] + k->wait_ms;
    /* what was sent when this was on its way is of this delivery */
    p->end_sent = p->end_sent && w->rounds <= p->round + ROUNDS;
    p->refused = p->refused && w->rounds <= p->nak_round + ROUNDS;
    if (p->refused && p->nak_until < p->until)
        p->until = p->nak_until;
    p->settlement = 0;
    window_check(w, s, c);
    if (w->held_n[m->client] == HELD || m->reply.len >= sizeof h->reply)
        return;
    h = &w->held[m->client][w->held_n[m->client]++];
    *h = (struct held){s, c, at.seq, ""};
    memcpy(h->reply, m->reply.ptr, m->reply.len);
}

/* What came: an answer (_R.<client>.<token>), or a message that was asked for; those come with the
 * subject that they were published to, so the subscription tells whose they are. */
static void on_message(void *arg, const struct natsd_msg *m)
{
    struct world *w = arg;
    unsigned client, token;
    char text[48] = "";
    int s, c;

    if (m->sid == 1) {
        memcpy(text, m->subject.ptr, m->subject.len < 47 ? m->subject.len : 47);
        if (sscanf(text, "_R.%u.%u", &client, &token) != 2)
            die(&w->seed, "an answer to %s", text);
        answered(w, token, m);
        return;
    }
    s = (int)(m->sid - 2) / CONSUMERS;
    c = (int)(m->sid - 2) % CONSUMERS;
    if (s >= STREAMS)
        die(&w->seed, "a message that nobody asked for");
    if (m->reply.len)
        delivered(w, m, s, c);
}

static void on_lost(void *arg, unsigned client)
{
    struct world *w = arg;

    die(&w->seed, "the server closed the connection of %u", client);
}

/* ---- turns ---- */

static void look(struct world *w)
{
    if (w->d.broken)
        die(&w->seed, "the server sends what is not its protocol: %s", w->d.broken);
}

static void turn_loop(struct world *w, unsigned loop)
{
    w->before_ms[loop] = w->turn_ms[loop];
    w->turn_ms[loop] = now_ms(w->io);
    natsd_turn(&w->d, loop);
    look(w);
    w->turned |= 1u << loop;
    if (w->turned == (1u << NATSD_LOOPS) - 1) {
        w->turned = 0;
        w->rounds++;
    }
}

static void settle_down(struct world *w, unsigned n)
{
    unsigned i;

    while (n--) {
        for (i = 0; i < NATSD_LOOPS; i++)
            turn_loop(w, i);
        broker_step(w->d.b);
    }
}

/* What is on its way between loops is not there for long: so it is known when it was sent. */
static void pass(struct world *w, int64_t ms)
{
    unsigned i;

    for (i = 0; i < ROUNDS * NATSD_LOOPS && ms > FLIGHT_MS / 4; i++)
        turn_loop(w, i % NATSD_LOOPS);
    io_sim_advance(w->io, (uint64_t)ms * 1000000u);
}

/* Asks, and waits for the answer; false: there was none, or an error. */
static bool ask(struct world *w, const char *subject, const char *body)
{
    uint32_t token = request(w, BOSS, ASK, subject, slice_str(body))->token;
    unsigned i;

    for (i = 0; i < TURNS && w->answer_token != token; i++)
        settle_down(w, 1);
    if (w->answer_token != token && w->seed.calm)
        die(&w->seed, "%s is not answered", subject);
    return w->answer_token == token && !is_error(buf_slice(&w->answer));
}

static void connect(struct world *w, unsigned client)
{
    char text[400];
    unsigned i;
    int n;

    w->loop_of[client] = (unsigned)rnd(&w->seed, NATSD_LOOPS);
    w->life[client]++;
    natsd_connect(&w->d, client, w->loop_of[client]);
    n = snprintf(text, sizeof text, "SUB _R.%u.* 1\r\n", client);
    for (i = 0; i < STREAMS * CONSUMERS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "SUB _D.%u.%u.%u %u\r\n", client,
                      w->life[client], i, i + 2);
    natsd_send(&w->d, client, slice_of(text, (size_t)n));
}

/* ---- streams and consumers ---- */

static bool make_consumer(struct world *w, int s, int c)
{
    const struct consumer *k = &w->s[s].c[c];
    char subject[64], body[400], f[4] = {*stream_name[s], '.', filter[s][c] ? filter[s][c] : '>'};

    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.CREATE.%s.c%d", stream_name[s], c);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"%s\",\"config\":{\"durable_name\":\"c%d\",\"name\":\"c%d\","
             "\"ack_policy\":\"explicit\",\"ack_wait\":%" PRId64
             ",\"max_deliver\":%d,\"max_ack_pending\":%d,\"filter_subject\":\"%s\"}}",
             stream_name[s], c, c, k->wait_ms * 1000000, k->deliver_max ? (int)k->deliver_max : -1,
             k->pending_max ? (int)k->pending_max : -1, f);
    return ask(w, subject, body);
}

static void setup(struct world *w)
{
    char subject[64], body[256];
    int s, c;

    for (s = 0; s < STREAMS; s++) {
        snprintf(subject, sizeof subject, "$JS.API.STREAM.CREATE.%s", stream_name[s]);
        snprintf(body, sizeof body,
                 "{\"name\":\"%s\",\"subjects\":[\"%s.*\"],\"retention\":\"%s\","
                 "\"storage\":\"file\",\"num_replicas\":1,\"max_msgs\":%d}",
                 stream_name[s], stream_name[s], retention[s],
                 w->s[s].keep ? (int)w->s[s].keep : -1);
        if (!ask(w, subject, body))
            return;
        for (c = 0; c < CONSUMERS; c++)
            if (!make_consumer(w, s, c))
                return;
    }
    w->ready = true;
}

/* ---- what is there ---- */

static bool may_go(const struct world *w, int s, uint64_t seq, int64_t last)
{
    const struct message *m = &w->s[s].v[seq];
    int c;

    if (m->deleted)
        return true;
    if (s == LIMITS)
        return w->s[s].keep && (uint64_t)last + FLIGHT >= seq + w->s[s].keep;
    for (c = 0; c < CONSUMERS; c++)
        if (takes(s, c, m) && !w->s[s].c[c].v[seq].end_asked)
            return false;
    return true;
}

static bool must_go(const struct world *w, int s, uint64_t seq)
{
    const struct message *m = &w->s[s].v[seq];
    int c;

    if (m->gone)
        return true;
    if (s == LIMITS || !m->there)
        return false;
    for (c = 0; c < CONSUMERS; c++)
        if (takes(s, c, m) && !w->s[s].c[c].v[seq].ended)
            return false;
    return true;
}

/* Reads the message there, as it is stored. */
static bool fetch(struct world *w, int s, uint64_t seq, bool *there)
{
    char subject[64], body[32];
    const uint8_t *at;
    struct slice json;
    uint8_t text[64];
    uint32_t id;
    char letter;
    size_t n = 0;

    snprintf(subject, sizeof subject, "$JS.API.STREAM.MSG.GET.%s", stream_name[s]);
    snprintf(body, sizeof body, "{\"seq\":%" PRIu64 "}", seq);
    *there = ask(w, subject, body);
    json = buf_slice(&w->answer);
    if (!*there)
        return w->answer_token == w->tokens &&
               memmem(json.ptr, json.len, "no message found", 16) != NULL;
    if (w->answer_token != w->tokens)
        return false;
    at = memmem(json.ptr, json.len, "\"data\":\"", 8);
    if (!at || !memchr(at + 8, '"', (size_t)(json.ptr + json.len - at - 8)))
        die(&w->seed, "%s %" PRIu64 " has no payload", stream_name[s], seq);
    at += 8;
    n = (size_t)((const uint8_t *)memchr(at, '"', (size_t)(json.ptr + json.len - at)) - at);
    if (n > 80 || !base64_decode((const char *)at, n, text, &n) ||
        !content_read(slice_of(text, n), &id, &letter))
        die(&w->seed, "%s %" PRIu64 " is none of ours", stream_name[s], seq);
    learn(w, s, seq, id, letter);
    return true;
}

/* Grows with all that comes of what is under way. */
static uint64_t happened(const struct world *w)
{
    return w->st_published + w->st_delivered + w->st_ended;
}

/* How many messages the stream says that it has, and the last one; false: it does not answer. */
static bool extent(struct world *w, int s, int64_t *msgs, int64_t *last)
{
    char subject[64];

    snprintf(subject, sizeof subject, "$JS.API.STREAM.INFO.%s", stream_name[s]);
    if (!ask(w, subject, ""))
        return false;
    *last = member(buf_slice(&w->answer), "last_seq");
    *msgs = member(buf_slice(&w->answer), "messages");
    return true;
}

/* Whether it still says so: what was acknowledged without a wish for an answer may go meanwhile, and
 * nobody is told. */
static bool extent_stays(struct world *w, int s, int64_t msgs, int64_t last)
{
    int64_t msgs_now, last_now;

    return extent(w, s, &msgs_now, &last_now) && msgs_now == msgs && last_now == last;
}

/* Everything in a stream is what it is to be; what is there, in w->present. False: it could not be
 * asked. */
static bool audit(struct world *w, int s)
{
    int64_t last, msgs, n = 0;
    uint64_t seq, high = w->s[s].high, was = happened(w);
    bool there, gone;

    memset(w->present, 0, sizeof w->present);
    if (!extent(w, s, &msgs, &last))
        return false;
    if (last < (int64_t)high || last >= (int64_t)SEQS)
        die(&w->seed, "%s ends at %" PRId64 ", not %" PRIu64, stream_name[s], last, high);
    for (seq = 1; seq <= (uint64_t)last; seq++) {
        gone = must_go(w, s, seq); /* what ends while it is asked for may be there or not */
        if (!fetch(w, s, seq, &there))
            return false;
        w->present[seq] = there;
        n += there;
        if (!there && w->s[s].v[seq].there && !may_go(w, s, seq, last))
            die(&w->seed, "%s %" PRIu64 " is lost", stream_name[s], seq);
        if (there && gone)
            die(&w->seed, "%s %" PRIu64 " is there after its end", stream_name[s], seq);
    }
    if (was != happened(w))
        return false; /* it is another one by now */
    if (n != msgs && !extent_stays(w, s, msgs, last))
        return false;
    if (n != msgs)
        die(&w->seed, "%s has %" PRId64 " messages and says %" PRId64, stream_name[s], n, msgs);
    w->st_audits++;
    return true;
}

/* What the consumer says of itself, beside what is in its stream (w->present). */
static void figures(struct world *w, int s, int c, bool *idle, uint64_t was)
{
    char subject[64];
    const char *name = consumer_text(s, c);
    int64_t d, f, a, p, ahead = 0, ahead_most = 0, least = 0, most = 0;
    struct slice json;
    const uint8_t *at;
    uint64_t seq;

    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.INFO.%s.c%d", stream_name[s], c);
    if (!ask(w, subject, "") || was != happened(w))
        return;
    json = buf_slice(&w->answer);
    d = member(json, "stream_seq");
    at = memmem(json.ptr, json.len, "\"ack_floor\"", 11);
    f = at ? member(slice_of(at, (size_t)(json.ptr + json.len - at)), "stream_seq") : -1;
    a = member(json, "num_ack_pending");
    p = member(json, "num_pending");
    for (seq = 1; seq < SEQS; seq++) {
        const struct place *x = &w->s[s].c[c].v[seq];

        if (!w->present[seq] || !takes(s, c, &w->s[s].v[seq]))
            continue;
        if ((int64_t)seq > d) { /* or it was delivered, and acknowledged, before a restart */
            ahead += !x->end_asked;
            ahead_most += !x->ended;
            continue;
        }
        most += !x->ended;
        least += !x->end_asked && !may_be_spent(w, s, c, seq);
        if ((int64_t)seq <= f && !x->end_asked && !may_be_spent(w, s, c, seq))
            die(&w->seed, "%s: the floor %" PRId64 " is above %" PRIu64, name, f, seq);
        if (x->run == w->run && (int64_t)seq > d)
            die(&w->seed, "%s: %" PRIu64 " was delivered, not up to %" PRId64, name, seq, d);
    }
    if (p < ahead || p > ahead_most)
        die(&w->seed,
            "%s: %" PRId64 " messages come behind %" PRId64 ", not %" PRId64 " to %" PRId64, name,
            p, d, ahead, ahead_most);
    if (a < least || a > most)
        die(&w->seed, "%s: %" PRId64 " wait for their acknowledgement, not %" PRId64 " to %" PRId64,
            name, a, least, most);
    w->st_infos++;
    *idle = *idle && !p && !a;
}

/* Looks at one stream, if nothing happens meanwhile. */
static bool inspect(struct world *w, int s)
{
    uint64_t was = happened(w);
    bool idle = true;
    int c;

    if (!audit(w, s) || io_sim_crashed(w->io))
        return false;
    for (c = 0; c < CONSUMERS && was == happened(w); c++)
        figures(w, s, c, &idle, was);
    return idle && was == happened(w);
}

/* ---- what clients do ---- */

static void publish(struct world *w)
{
    int s = (int)rnd(&w->seed, STREAMS);
    unsigned n = 1 + (unsigned)rnd(&w->seed, 4);
    char letter, subject[8], text[64];
    struct asked *a;

    while (w->ready && n-- && w->s[s].high + 60 < SEQS) {
        letter = (char)('a' + rnd(&w->seed, 2));
        snprintf(subject, sizeof subject, "%s.%c", stream_name[s], letter);
        snprintf(text, sizeof text, "message %u %c", ++w->ids, letter);
        a = request(w, BOSS, PUBLISH, subject, slice_str(text));
        a->stream = s;
        a->seq = w->ids;
        a->what = (enum jack_what)letter;
    }
}

static void delete_one(struct world *w)
{
    int s = (int)rnd(&w->seed, STREAMS);
    uint64_t seq = 1 + rnd(&w->seed, SEQS - 1);
    char subject[64], body[32];
    struct asked *a;

    if (!w->s[s].v[seq].there)
        return;
    say(&w->seed, "%s %" PRIu64 " is deleted", stream_name[s], seq);
    w->s[s].v[seq].deleted = true;
    snprintf(subject, sizeof subject, "$JS.API.STREAM.MSG.DELETE.%s", stream_name[s]);
    snprintf(body, sizeof body, "{\"seq\":%" PRIu64 "}", seq);
    a = request(w, BOSS, DELETE, subject, slice_str(body));
    a->stream = s;
    a->seq = seq;
}

static void pull(struct world *w, unsigned k, int s, int c, uint32_t batch, int64_t expires_ms)
{
    char subject[64], reply[64], body[96];

    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.c%d", stream_name[s], c);
    snprintf(reply, sizeof reply, "_D.%u.%u.%d", k, w->life[k], s * CONSUMERS + c);
    snprintf(body, sizeof body, "{\"batch\":%u,\"expires\":%" PRId64 ",\"no_wait\":%s}", batch,
             expires_ms * 1000000, expires_ms ? "false" : "true");
    w->s[s].c[c].credit[k] += batch;
    natsd_publish(&w->d, k, subject, reply, slice_str(body));
}

static void settle(struct world *w, unsigned k, uint32_t i, enum jack_what what, int64_t delay_ms,
                   bool asks)
{
    static const char *const words[] = {"+ACK", "-NAK", "+WPI", "", "+TERM"};
    struct held *h = &w->held[k][i];
    struct place *p = &w->s[h->stream].c[h->consumer].v[h->seq];
    int64_t now = now_ms(w->io), until = 0;
    char text[64];
    struct asked *a;

    say(&w->seed, "%" PRId64 ": worker %u: %s %" PRIu64 ": %s %" PRId64, now, k,
        consumer_text(h->stream, h->consumer), h->seq, words[what], delay_ms);
    if (delay_ms)
        snprintf(text, sizeof text, "-NAK {\"delay\":%" PRId64 "}", delay_ms * 1000000);
    else
        snprintf(text, sizeof text, "%s", words[what]);
    p->settlement = ++w->settlements;
    if (what == JACK_ACK || what == JACK_TERM) {
        p->end_asked = true;
        p->end_sent = true;
        p->round = w->rounds;
    } else if (what == JACK_NAK) {
        until = now + delay_ms;
        if (p->refused) /* it is free already, or this is a second one of the same turn */
            until = p->nak_until < until ? p->nak_until : until;
        else if (p->end_sent && p->run == w->run && p->until < until)
            until = p->until; /* it changes nothing behind an end, which may fail, too */
        p->nak_until = until;
        p->nak_round = w->rounds;
        p->refused = true;
        p->until = until < p->until ? until : p->until;
    } else {
        until = now + w->s[h->stream].c[h->consumer].wait_ms;
    }
    if (!asks) {
        natsd_publish(&w->d, k, h->reply, NULL, slice_str(text));
    } else {
        a = request(w, k, SETTLE, h->reply, slice_str(text));
        a->stream = h->stream;
        a->consumer = h->consumer;
        a->seq = h->seq;
        a->settlement = p->settlement;
        a->what = what;
        a->until = until;
        say(&w->seed, "… is %u", a->token);
    }
    if (what == JACK_NAK || (what != JACK_PROGRESS && rnd(&w->seed, 15)))
        w->held[k][i] = w->held[k][--w->held_n[k]];
}

static void settle_some(struct world *w, unsigned k)
{
    uint64_t what = rnd(&w->seed, 100);
    uint32_t i;
    bool asks = rnd(&w->seed, 4) != 0;

    if (!w->held_n[k])
        return;
    i = (uint32_t)rnd(&w->seed, w->held_n[k]);
    if (what < 55)
        settle(w, k, i, JACK_ACK, 0, asks);
    else if (what < 65)
        settle(w, k, i, JACK_NAK, 0, asks);
    else if (what < 75)
        settle(w, k, i, JACK_NAK, 1 + (int64_t)rnd(&w->seed, 3000), asks);
    else if (what < 81)
        settle(w, k, i, JACK_TERM, 0, asks);
    else if (what < 90)
        settle(w, k, i, JACK_PROGRESS, 0, asks);
    else
        w->held[k][i] = w->held[k][--w->held_n[k]]; /* forgotten */
}

static void credits_drop(struct world *w, unsigned k)
{
    int s, c;

    for (s = 0; s < STREAMS; s++)
        for (c = 0; c < CONSUMERS; c++) {
            w->s[s].c[c].credit[k] = 0;
            w->s[s].c[c].fresh[k] = 0;
        }
}

static void turn_worker(struct world *w, unsigned k)
{
    uint64_t what = rnd(&w->seed, 10);

    if (!w->d.client[k].c) {
        connect(w, k);
    } else if (mishap(&w->seed, 200)) {
        say(&w->seed, "worker %u dies", k);
        natsd_drop(&w->d, k);
        credits_drop(w, k);
        w->lossy = true;
        if (rnd(&w->seed, 2))
            w->held_n[k] = 0;
    } else if (what < 3) {
        pull(w, k, (int)rnd(&w->seed, STREAMS), (int)rnd(&w->seed, CONSUMERS),
             1 + (uint32_t)rnd(&w->seed, 6),
             rnd(&w->seed, 3) ? 100 + (int64_t)rnd(&w->seed, 4000) : 0);
    } else {
        settle_some(w, k);
    }
}

static void turn(struct world *w)
{
    uint64_t what = rnd(&w->seed, 24);

    if (what < 8)
        turn_worker(w, (unsigned)rnd(&w->seed, WORKERS));
    else if (what < 10)
        publish(w);
    else if (what < 15)
        turn_loop(w, (unsigned)rnd(&w->seed, NATSD_LOOPS));
    else if (what < 19)
        broker_step(w->d.b);
    else if (what < 21)
        pass(w, mishap(&w->seed, 60) ? JUMP_MS : (int64_t)rnd(&w->seed, 300));
    else if (what == 21)
        broker_background(w->d.b);
    else if (what == 22 && mishap(&w->seed, 40))
        journal_checkpoint(broker_journal(w->d.b), NULL);
    else if (what == 23 && mishap(&w->seed, 20))
        delete_one(w);
    else if (what == 23 && mishap(&w->seed, 40))
        (void)inspect(w, (int)rnd(&w->seed, STREAMS));
    if (!w->ready && rnd(&w->seed, 20) == 0)
        setup(w);
}

/* ---- the server ---- */

static bool start(struct world *w)
{
    struct broker_conf c = {.dir = "/d",
                            .io = w->io,
                            .journal_file_bytes = 64u << 10,
                            .retention_ms_default = -1,
                            .inflight_bytes = 1u << 20};
    struct errinfo info = {0};
    enum err e = natsd_start(&w->d, &c, &info);
    unsigned k;

    if (e && !io_sim_crashed(w->io) && e != ERR_NO_SPACE && e != ERR_IO)
        die(&w->seed, "does not start: %s: %s", err_code(e), info.text);
    if (e)
        return false;
    w->run++;
    w->rounds += ROUNDS + 1; /* nothing is on its way */
    w->ready = false;
    w->faulty = !w->seed.calm;
    memset(w->asked, 0, sizeof w->asked);
    for (k = 0; k < WORKERS; k++) {
        credits_drop(w, k);
        if (rnd(&w->seed, 2))
            w->held_n[k] = 0;
    }
    connect(w, BOSS);
    setup(w);
    return true;
}

static void cycle(void *world)
{
    struct world *w = world;
    bool clean = rnd(&w->seed, 5) == 0;
    uint32_t i, n = 200 + (uint32_t)rnd(&w->seed, 1000), after = 0;
    int s;

    if (rnd(&w->seed, 6) == 0)
        io_sim_crash_at(w->io, 1 + rnd(&w->seed, 80)); /* while it starts */
    if (start(w)) {
        io_sim_crash_at(w->io, 0);
        say(&w->seed, "run %u", w->run);
        for (s = 0; s < STREAMS && w->ready; s++)
            (void)inspect(w, s);
        w->faulty = !clean;
        if (!clean && !io_sim_crashed(w->io))
            (void)fault_plan(&w->seed, w->io, 400, 1);
        for (i = 0; i < n && after < 50; i++) {
            turn(w);
            after += io_sim_crashed(w->io);
            if (i == n / 2 && rnd(&w->seed, 2)) /* there is room again */
                io_sim_capacity(w->io, UINT64_MAX);
        }
        natsd_stop(&w->d);
    }
    if (!clean || io_sim_crashed(w->io)) {
        io_sim_crash(w->io);
        w->st_crashes++;
    }
    faults_end(w->io);
}

/* ---- the end ---- */

/* What could have been delivered again for some time was. */
static void overdue_check(struct world *w)
{
    int64_t now = now_ms(w->io);
    uint64_t seq;
    int s, c;

    for (s = 0; s < STREAMS; s++)
        for (c = 0; c < CONSUMERS; c++)
            for (seq = 1; seq < SEQS; seq++) {
                const struct place *p = &w->s[s].c[c].v[seq];

                if (p->run == w->run && !p->end_sent && !w->s[s].v[seq].deleted &&
                    !may_be_spent(w, s, c, seq) && !w->s[s].keep && p->until + LATE_MS < now)
                    die(&w->seed,
                        "%s: %" PRIu64 " does not come again, at %" PRId64 " since %" PRId64,
                        consumer_text(s, c), seq, now, p->until);
            }
}

/* Nobody acknowledges for a while, and one worker is always there to take. */
static void let_leases_end(struct world *w)
{
    uint32_t i;
    int s, c;

    for (s = 0; s < STREAMS; s++)
        for (c = 0; c < CONSUMERS; c++)
            pull(w, 0, s, c, 5000, 600000);
    for (i = 0; i < 60; i++) {
        settle_down(w, 2);
        pass(w, 100);
        settle_down(w, 2);
        overdue_check(w);
    }
}

static bool all_idle(struct world *w)
{
    bool idle = true;
    int s;

    for (s = 0; s < STREAMS; s++)
        idle = inspect(w, s) && idle;
    return idle;
}

static void drain(struct world *w)
{
    uint32_t i;

    for (i = 0; i % 40 != 39 || !all_idle(w); i++) {
        unsigned k = (unsigned)rnd(&w->seed, WORKERS);

        if (i > 8000)
            die(&w->seed, "messages have not come to their end");
        while (w->held_n[k] && rnd(&w->seed, 12))
            settle(w, k, w->held_n[k] - 1, JACK_ACK, 0, true);
        w->held_n[k] = 0;
        pull(w, k, (int)rnd(&w->seed, STREAMS), (int)rnd(&w->seed, CONSUMERS), 50, 0);
        settle_down(w, 3);
        pass(w, 50);
    }
}

static void check_end(struct world *w)
{
    uint64_t seq;
    int s, c;

    for (s = 0; s < STREAMS; s++)
        for (seq = 1; seq < SEQS; seq++)
            for (c = 0; c < CONSUMERS; c++) {
                const struct message *m = &w->s[s].v[seq];
                const struct place *p = &w->s[s].c[c].v[seq];

                if (!m->there || m->deleted || !takes(s, c, m) || (s == LIMITS && w->s[s].keep))
                    continue;
                if (!p->end_asked && !may_be_spent(w, s, c, seq))
                    die(&w->seed, "%s: %" PRIu64 " has not come to its end", consumer_text(s, c),
                        seq);
            }
}

/* Nothing goes wrong any more. */
static void finish(void *world)
{
    struct world *w = world;
    uint64_t was;
    unsigned k;
    int s, c;

    w->seed.calm = true;
    if (!start(w) || !w->ready)
        die(&w->seed, "does not start in the end");
    for (k = 0; k < WORKERS; k++)
        connect(w, k);
    let_leases_end(w);
    natsd_drop(&w->d, 0);
    credits_drop(w, 0);
    w->lossy = true;
    settle_down(w, 2);
    connect(w, 0);
    drain(w);
    check_end(w);
    natsd_stop(&w->d);
    if (!start(w) || !w->ready)
        die(&w->seed, "does not start again in the end");
    if (!all_idle(w))
        die(&w->seed, "something waits again");
    was = w->st_delivered;
    connect(w, 0);
    for (s = 0; s < STREAMS; s++)
        for (c = 0; c < CONSUMERS; c++)
            pull(w, 0, s, c, 100, 0);
    settle_down(w, 10);
    if (w->st_delivered != was)
        die(&w->seed, "messages are there again");
    natsd_stop(&w->d);
}

static void begin(void *world)
{
    struct world *w = world;
    int s, c;

    w->io = io_sim_new(w->seed.number ^ 0x6a73);
    w->d.message = on_message;
    w->d.lost = on_lost;
    w->d.arg = w;
    buf_init(&w->answer, 1u << 20);
    w->s[LIMITS].keep = rnd(&w->seed, 3) ? 0 : 20 + (uint32_t)rnd(&w->seed, 40);
    for (s = 0; s < STREAMS; s++)
        for (c = 0; c < CONSUMERS; c++) {
            struct consumer *k = &w->s[s].c[c];

            k->wait_ms = 500 + 100 * (int64_t)rnd(&w->seed, 25);
            k->deliver_max = rnd(&w->seed, 3) ? 0 : 2 + (uint32_t)rnd(&w->seed, 4);
            k->pending_max = rnd(&w->seed, 2) ? 0 : 2 + (uint32_t)rnd(&w->seed, 30);
        }
}

static struct {
    uint64_t published, delivered, again, ended, crashes, audits, infos;
} sums;

static void give_back(void *world)
{
    struct world *w = world;

    sums.published += w->st_published;
    sums.delivered += w->st_delivered;
    sums.again += w->st_again;
    sums.ended += w->st_ended;
    sums.crashes += w->st_crashes;
    sums.audits += w->st_audits;
    sums.infos += w->st_infos;
    buf_fini(&w->answer);
    io_sim_free(&w->io);
}

static void print(void)
{
    printf("%" PRIu64 " messages; %" PRIu64 " deliveries, %" PRIu64 " of them again; %" PRIu64
           " ended; %" PRIu64 " looks at a stream, %" PRIu64 " at a consumer; %" PRIu64
           " crashes\n",
           sums.published, sums.delivered, sums.again, sums.ended, sums.audits, sums.infos,
           sums.crashes);
}

int main(int argc, char **argv)
{
    static const struct seed_program p = {"jetstream",
                                          CYCLES,
                                          sizeof(struct world),
                                          offsetof(struct world, seed),
                                          begin,
                                          cycle,
                                          finish,
                                          give_back,
                                          print};

    return seed_main(&p, argc, argv);
}
