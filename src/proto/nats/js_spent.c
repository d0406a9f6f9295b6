/* What was delivered as often as is allowed, in a stream that keeps it until it is acknowledged: it is
 * parked. That is saved as an item of the broker first, then the consumer is done with it, as its
 * cursor is told. It is not delivered again, whatever becomes of the latter: the cursor is told until
 * it knows.
 *
 * What is parked may be acknowledged after all. The item is written without it then, and only when that
 * is durable does the stream let it go and is anybody answered, however often it is acknowledged.
 * On the stream's loop. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_replies.h"

#define PARK_AGAIN_MS 1000u /* what is spent could not be saved */

/* Those that are being saved. */
struct jparked {
    struct jdone d;
    struct jconsumer *c; /* referenced */
    uint32_t n;
    struct jspent v[];
};

struct junparked {
    struct list_node link; /* c->unparking */
    struct jdone d;
    struct jconsumer *c; /* referenced */
    uint64_t seq;
    struct buf replies; /* as the consumer's */
};

static bool is_spent(const struct jconsumer *c, uint64_t seq)
{
    uint32_t i;

    for (i = 0; i < c->spent_n; i++)
        if (c->spent[i] == seq)
            return true;
    return false;
}

static struct junparked *unparking(const struct jconsumer *c, uint64_t seq)
{
    struct junparked *u;

    list_for_each(u, &c->unparking, struct junparked, link)
    {
        if (u->seq == seq)
            return u;
    }
    return NULL;
}

bool jconsumer_parked(const struct jconsumer *c, uint64_t seq)
{
    return is_spent(c, seq) || unparking(c, seq) != NULL;
}

static void add(struct jconsumer *c, uint64_t seq)
{
    c->spent = xrealloc(c->spent, (c->spent_n + 1) * sizeof *c->spent);
    c->spent[c->spent_n++] = seq;
}

static void drop(struct jconsumer *c, uint64_t seq)
{
    uint32_t i, n = 0;

    for (i = 0; i < c->spent_n; i++)
        if (c->spent[i] != seq)
            c->spent[n++] = c->spent[i];
    c->spent_n = n;
}

static void save(struct jconsumer *c, struct jdone *d)
{
    char key[LIMIT_KV_KEY];
    size_t size = c->spent_n * sizeof *c->spent;
    enum err e = size > LIMIT_KV_VALUE
                     ? ERR_LIMIT
                     : kv_put(c->js->b, JSPENT_NS, jconsumer_key(c, key), slice_of(c->spent, size),
                              0, d ? jdone_call : NULL, d, NULL);

    if (e && d)
        jdone_call(d, e, NULL);
}

void jconsumer_part(struct jconsumer *c, uint64_t seq)
{
    /* a dead letter is written where it is rejected */
    jack_queue(c, seq, seq, c->lease.dead_letters[0] ? CURSOR_REJECT : CURSOR_VOID, 0);
}

static void parked(struct jdone *d)
{
    struct jparked *p = list_entry(d, struct jparked, d);
    struct jconsumer *c = p->c;
    uint32_t i;

    c->parking = false;
    for (i = 0; i < p->n && !c->gone && !d->e; i++) {
        if (!jconsumer_parked(c, p->v[i].seq)) /* it is to be delivered anew */
            continue;
        jconsumer_part(c, p->v[i].seq);
        jack_spent(c, p->v[i].seq, p->v[i].deliveries);
    }
    if (d->e)
        jconsumer_due(c, jconsumer_now_ms(c) + PARK_AGAIN_MS);
    jconsumer_unref(c);
    free(p);
}

void jconsumer_park(struct jconsumer *c, const struct jspent *v, uint32_t add_n)
{
    struct jparked *p;
    uint32_t i, n = 0;

    ASSERT(!c->parking);
    for (i = 0; i < c->spent_n; i++) /* those that are not there any more need not be known */
        if (jindex_has(&c->s->index, c->spent[i]))
            c->spent[n++] = c->spent[i];
    c->spent_n = n;
    for (i = 0; i < add_n; i++) /* they may be there, if it failed before */
        if (!jconsumer_parked(c, v[i].seq))
            add(c, v[i].seq);
    c->parking = true;
    p = xcalloc(1, sizeof *p + add_n * sizeof *p->v);
    p->c = c;
    p->n = add_n;
    memcpy(p->v, v, add_n * sizeof *v);
    jconsumer_ref(c);
    jdone_begin(&p->d, c->s, parked);
    save(c, &p->d);
}

static void unparked(struct jdone *d)
{
    struct junparked *u = list_entry(d, struct junparked, d);
    struct jconsumer *c = u->c;

    list_remove(&u->link);
    if (d->e) { /* it stays so */
        if (!c->gone)
            add(c, u->seq);
    } else if (!c->gone) {
        jack_late(c, u->seq, buf_slice(&u->replies));
    }
    buf_fini(&u->replies);
    jconsumer_unref(c);
    free(u);
}

void jconsumer_unpark(struct jconsumer *c, uint64_t seq, struct slice reply)
{
    struct junparked *u = unparking(c, seq);

    if (u) {
        (void)jreplies_add(&u->replies, reply);
        return;
    }
    u = xcalloc(1, sizeof *u);
    u->c = c;
    u->seq = seq;
    buf_init(&u->replies, LIMIT_JS_REPLIES);
    (void)jreplies_add(&u->replies, reply);
    drop(c, seq);
    list_push_back(&c->unparking, &u->link);
    jconsumer_ref(c);
    jdone_begin(&u->d, c->s, unparked);
    save(c, &u->d);
}

void jspent_forget(struct jconsumer *c, uint64_t from)
{
    uint32_t i, n = 0;

    for (i = 0; i < c->spent_n; i++)
        if (c->spent[i] < from)
            c->spent[n++] = c->spent[i];
    if (n == c->spent_n)
        return;
    c->spent_n = n;
    save(c, NULL);
}

void jspent_load(struct jconsumer *c)
{
    char key[LIMIT_KV_KEY];
    struct buf b;

    buf_init(&b, LIMIT_KV_VALUE);
    if (!kv_get(c->js->b, JSPENT_NS, jconsumer_key(c, key), &b) && b.len) {
        c->spent_n = (uint32_t)(b.len / sizeof *c->spent);
        c->spent = xmalloc(c->spent_n * sizeof *c->spent + 1);
        memcpy(c->spent, b.ptr, c->spent_n * sizeof *c->spent);
    }
    buf_fini(&b);
}
