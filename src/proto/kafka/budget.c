/* What all connections may hold together: frames that are being collected, wait or are worked on, and
 * answers that their peers have not taken. Each loop has its share of LIMIT_KAFKA_HELD_IN and _OUT.
 *
 * Frames. Past the share a connection that holds more than LIMIT_KAFKA_FRAME_STEP is not read. It
 * waits in a line and goes on, first come, first served, as memory comes free: its peer finds that
 * its bytes are not taken. When all is held by peers of whose frames a part is missing, nothing would
 * come free. So one of the line, whose turn it is, may go past the share until its frame is there;
 * when that has been answered, it is the next one's turn. A peer that sends nothing for STALL_MS
 * though it is its turn, or is not done after TURN_MS, loses its connection: else each that had a
 * turn could add to what is held, for ever. So at most the shares, a frame for each loop, and
 * LIMIT_KAFKA_FRAME_STEP for each connection are held.
 *
 * Answers. Past the share answers are made smaller: see kbudget_answer_max, which fetches ask; and a
 * connection whose peer has not taken what it was sent before gets no further large one made. Peers
 * that read are served all the time. Those that do not are found by their deadline.
 *
 * All on the loop. */
#include "proto/kafka/kafka_int.h"

#define STALL_MS 10000u
#define TURN_MS  60000u
#define LOOK_MS  20u
#define PIECE    (256u << 10) /* that a connection may read before it is asked again */

static size_t own_frames(const struct kconn *kc)
{
    return kc->reqs_bytes + (kc->part ? kc->part->counted_in : 0);
}

static bool is_over(const struct kbudget *bu)
{
    return bu->held > bu->max;
}

static void wake(struct kloop *kl, uint32_t ms)
{
    if (!loop_timer_armed(&kl->wake))
        loop_timer_arm(kl->loop, &kl->wake, ms);
}

static void count(struct kloop *kl, struct kbudget *bu, size_t *counted, size_t bytes)
{
    bool less = bytes < *counted;

    bu->held += bytes - *counted;
    *counted = bytes;
    if (less && !list_empty(&bu->waiting)) {
        loop_timer_cancel(kl->loop, &kl->wake);
        loop_timer_arm(kl->loop, &kl->wake, 0);
    }
}

void kbudget_count(struct kreq *q, size_t frame, size_t answer)
{
    struct kloop *kl = q->kl;

    if (q == kl->turn_frame && !frame)
        kl->turn_frame = NULL;
    count(kl, &kl->in, &q->counted_in, frame);
    count(kl, &kl->out, &q->counted_out, answer);
}

static bool wait(struct kloop *kl, struct kbudget *bu, struct kwait *w)
{
    if (!w->waits) {
        w->waits = true;
        list_push_back(&bu->waiting, &w->link);
        wake(kl, LOOK_MS);
    }
    return true;
}

bool kbudget_stops_reading(struct kconn *kc)
{
    struct kloop *kl = kc->kl;

    return is_over(&kl->in) && kl->turn != kc && own_frames(kc) > LIMIT_KAFKA_FRAME_STEP &&
           wait(kl, &kl->in, &kc->wait_in);
}

bool kbudget_stops_start(struct kconn *kc, int16_t api)
{
    struct kloop *kl = kc->kl;
    bool large = api == 1 || api == 3 || api == 78; /* Fetch, Metadata, ShareFetch */

    return large && is_over(&kl->out) && conn_queued(kc->c) && wait(kl, &kl->out, &kc->wait_out);
}

size_t kbudget_answer_max(const struct kloop *kl)
{
    const struct kbudget *bu = &kl->out;

    if (bu->held < bu->max)
        return LIMIT_KAFKA_FETCH_BYTES;
    return bu->held < 2 * bu->max ? 1u << 20 : 64u << 10;
}

static void leave(struct kwait *w)
{
    if (w->waits)
        list_remove(&w->link);
    w->waits = false;
}

void kbudget_leave(struct kconn *kc)
{
    struct kloop *kl = kc->kl;

    leave(&kc->wait_in);
    leave(&kc->wait_out);
    if (kl->turn == kc)
        kl->turn = NULL;
    if (!list_empty(&kl->in.waiting))
        wake(kl, LOOK_MS);
}

void kbudget_frame(struct kconn *kc, struct kreq *q)
{
    if (kc->kl->turn != kc)
        return;
    kc->kl->turn = NULL;
    kc->kl->turn_frame = q;
}

static struct kconn *first_in(struct kloop *kl)
{
    struct kconn *kc = list_entry(kl->in.waiting.node.next, struct kconn, wait_in.link);

    leave(&kc->wait_in);
    return kc;
}

/* The first that is in the middle of a frame: requests that are there come to an end by themselves. */
static void turn_begin(struct kloop *kl, uint64_t now)
{
    struct kconn *kc;

    list_for_each(kc, &kl->in.waiting, struct kconn, wait_in.link)
    {
        if (!kc->part)
            continue;
        leave(&kc->wait_in);
        kl->turn = kc;
        kl->turn_began_ms = kl->turn_moved_ms = now;
        kl->turn_bytes = kc->c->bytes_in;
        kconn_go(kc);
        return;
    }
}

/* Whose turn it is has to use it. */
static void turn_look(struct kloop *kl, uint64_t now)
{
    struct kconn *kc = kl->turn;

    if (kc->c->paused) /* for other reasons, which are not the peer's */
        kl->turn_began_ms = now;
    if (kc->c->paused || kc->c->bytes_in != kl->turn_bytes)
        kl->turn_moved_ms = now;
    kl->turn_bytes = kc->c->bytes_in;
    if (now - kl->turn_moved_ms > kl->stall_ms || now - kl->turn_began_ms > TURN_MS)
        conn_close(kc->c, false, CONN_SLOW);
}

static void reading_goes_on(struct kloop *kl)
{
    uint64_t now = loop_now_ms(kl->loop);
    size_t n;

    if (!is_over(&kl->in)) {
        kl->turn = NULL;
        for (n = (kl->in.max - kl->in.held) / PIECE + 1; n && !list_empty(&kl->in.waiting); n--)
            kconn_go(first_in(kl));
        return;
    }
    if (kl->turn)
        turn_look(kl, now);
    if (!kl->turn && !kl->turn_frame)
        turn_begin(kl, now);
}

static void woken(struct loop_timer *t)
{
    struct kloop *kl = list_entry(t, struct kloop, wake);
    struct kconn *kc, *last = NULL;

    reading_goes_on(kl);
    if (!list_empty(&kl->out.waiting))
        last = list_entry(kl->out.waiting.node.prev, struct kconn, wait_out.link);
    while (last && !list_empty(&kl->out.waiting)) { /* who still may not waits again behind it */
        kc = list_entry(kl->out.waiting.node.next, struct kconn, wait_out.link);
        leave(&kc->wait_out);
        kconn_go(kc);
        if (kc == last)
            break;
    }
    if (!list_empty(&kl->in.waiting) || !list_empty(&kl->out.waiting) || kl->turn)
        wake(kl, LOOK_MS);
}

void kbudget_init(struct kloop *kl, unsigned loops)
{
    kl->in.max = LIMIT_KAFKA_HELD_IN / loops;
    kl->out.max = LIMIT_KAFKA_HELD_OUT / loops;
    kl->stall_ms = STALL_MS;
    list_init(&kl->in.waiting);
    list_init(&kl->out.waiting);
    loop_timer_init(&kl->wake, woken);
}
