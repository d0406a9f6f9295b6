/* See js_ids.h. A list in order of time, and a map to it: one that was cancelled is in the list alone,
 * until its time is over. */
#include "proto/nats/js_ids.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"

struct jid {
    struct jid *next;
    uint64_t seq; /* JIDS_UNDER_WAY; 0: cancelled */
    int64_t time_ms;
    size_t len;
    uint8_t text[];
};

void jids_init(struct jids *x, const uint8_t *seed)
{
    map_init(&x->by_id, LIMIT_JS_IDS, seed);
    x->first = NULL;
    x->last = &x->first;
}

void jids_fini(struct jids *x)
{
    struct jid *d;

    map_fini(&x->by_id);
    while ((d = x->first)) {
        x->first = d->next;
        free(d);
    }
}

static struct slice id_of(const struct jid *d)
{
    return slice_of(d->text, d->len);
}

void jids_expire(struct jids *x, int64_t before_ms)
{
    struct jid *d;

    while ((d = x->first) && d->time_ms < before_ms && d->seq != JIDS_UNDER_WAY) {
        if (!(x->first = d->next))
            x->last = &x->first;
        if (map_find(&x->by_id, id_of(d)) == d)
            map_remove(&x->by_id, id_of(d));
        free(d);
    }
}

uint64_t jids_find(const struct jids *x, struct slice id)
{
    const struct jid *d = map_find(&x->by_id, id);

    return d ? d->seq : 0;
}

static void add(struct jids *x, struct slice id, uint64_t seq, int64_t time_ms)
{
    struct jid *d = xmalloc(sizeof *d + id.len);

    *d = (struct jid){.seq = seq, .time_ms = time_ms, .len = id.len};
    memcpy(d->text, id.ptr, id.len);
    if (map_put(&x->by_id, id_of(d), d)) {
        free(d); /* too many in a window: the later ones are not looked for */
        return;
    }
    *x->last = d;
    x->last = &d->next;
}

void jids_begin(struct jids *x, struct slice id, int64_t time_ms)
{
    add(x, id, JIDS_UNDER_WAY, time_ms);
}

void jids_cancel(struct jids *x, struct slice id)
{
    struct jid *d = map_find(&x->by_id, id);

    if (d && d->seq == JIDS_UNDER_WAY) {
        map_remove(&x->by_id, id);
        d->seq = 0; /* it goes with its time */
    }
}

void jids_note(struct jids *x, struct slice id, uint64_t seq, int64_t time_ms, bool also_new)
{
    struct jid *d = map_find(&x->by_id, id);

    if (d && d->seq == JIDS_UNDER_WAY)
        d->seq = seq;
    else if (!d && also_new)
        add(x, id, seq, time_ms);
}
