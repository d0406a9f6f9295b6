/* Settling records: what members say of them, leases that end, and the way of it through the
 * journal. See cursor_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/broker_int.h"

/* ---- a settlement ---- */

struct settle *settle_new(struct cursor *c, broker_done_fn done, void *arg)
{
    struct settle *s = xcalloc(1, sizeof *s);

    s->c = cursor_ref(c);
    s->epoch = c->epoch;
    s->conf = c->conf;
    s->done = done;
    s->arg = arg;
    atomic_init(&s->left, 1);
    return s;
}

void settle_add(struct settle *s, const struct settle_range *x)
{
    struct settle_range *prev = s->n ? &s->v[s->n - 1] : NULL;

    if (prev && prev->last + 1 == x->first && prev->state == x->state && prev->why == x->why &&
        prev->deliveries == x->deliveries && prev->at_ms == x->at_ms) {
        prev->last = x->last;
        return;
    }
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 4;
        s->v = xrealloc(s->v, s->cap * sizeof *s->v);
    }
    s->v[s->n++] = *x;
}

static void settle_end(struct settle *s)
{
    struct errinfo info = {0};
    enum err e = (enum err)atomic_load(&s->result);

    if (e)
        broker_write_error(s->c->b, e, &info);
    if (s->done)
        s->done(s->arg, e, &info);
    cursor_unref(&s->c);
    free(s->v);
    free(s);
}

void settle__left(struct settle *s)
{
    if (atomic_fetch_sub(&s->left, 1) == 1)
        settle_end(s);
}

void settle_mark(struct settle *s)
{
    struct cursor_ranges *r = &s->c->r;
    uint32_t i, k, from, to;

    for (i = 0; i < s->n; i++) {
        cursor_ranges_cut(r, s->v[i].first, s->v[i].last, &from, &to);
        for (k = from; k < to; k++) {
            ASSERT(r->v[k].state != RANGE_DONE);
            r->v[k].settling = true;
        }
        cursor_ranges_merge(r, from, to);
    }
}

/* They are as they were before; a lease that is over is ended by a tick, but not by the one that
 * tried it in vain: while nothing can be written they would follow each other without end. */
static void unmark(struct settle *s, const struct settle_range *v, uint32_t n)
{
    struct cursor *c = s->c;
    struct cursor_ranges *r = &c->r;
    int64_t next_ms = atomic_load(&c->b->cursors.ticked_ms) + CURSORS_TICK_MS;
    uint32_t i, k, from, to;

    cursor__lock(c);
    for (i = 0; i < n && c->epoch == s->epoch && !atomic_load(&c->gone); i++) {
        int64_t first = v[i].first < r->start ? r->start : v[i].first;

        if (first > v[i].last)
            continue;
        cursor_ranges_cut(r, first, v[i].last, &from, &to);
        for (k = from; k < to; k++)
            if (r->v[k].settling) {
                r->v[k].settling = false;
                cursor__timer(c, r->v[k].at_ms > next_ms ? r->v[k].at_ms : next_ms);
            }
        cursor_ranges_merge(r, from, to);
    }
    cursor__unlock(c);
}

static void settle_tell(struct settle *s, const struct settle_range *v, uint32_t n, bool freed)
{
    struct cursor *c = s->c;
    uint32_t i;

    cursor__lock(c);
    for (i = 0; i < n && c->epoch == s->epoch; i++)
        if (v[i].state == CURSOR_ARCHIVED && v[i].why == WHY_DELIVERIES)
            cursor__tell(c, CURSOR_SPENT, v[i].first, v[i].last, v[i].deliveries);
    if (freed)
        cursor__tell(c, CURSOR_FREE, 0, 0, 0);
    cursor__unlock(c);
}

void settle_unit_end(struct settle *s, const struct settle_range *v, uint32_t n, enum err e)
{
    bool woken = atomic_exchange(&s->c->starved, false);
    uint32_t i;

    if (e) {
        atomic_store(&s->result, (int)e);
        unmark(s, v, n);
    }
    for (i = 0; i < n; i++)
        woken = woken || v[i].state == CURSOR_AVAILABLE;
    settle_tell(s, v, e ? 0 : n, woken);
    if (woken)
        cursor__wake(s->c);
    settle__left(s);
}

/* ---- the journal ---- */

size_t settle_entry_size(const struct settle *s, uint32_t n)
{
    struct entry_cursor_ranges e = {.group = cursor_group(s->c), .n = n};

    return entry_cursor_ranges_size(&e);
}

size_t settle_entry_write(const struct settle *s, const struct settle_range *v, uint32_t n,
                          uint8_t *dst)
{
    struct entry_cursor_ranges e = {.epoch = s->epoch,
                                    .topic = s->c->topic->id,
                                    .partition = (uint32_t)s->c->p->index,
                                    .group = cursor_group(s->c),
                                    .n = n};
    uint8_t *at = entry_cursor_ranges_write(dst, &e);
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct cursor_saved_range x = {.first = v[i].first,
                                       .records = (uint32_t)(v[i].last - v[i].first) + 1,
                                       .state = v[i].state,
                                       .deliveries = v[i].deliveries};

        cursor_range_write(at, i, &x);
    }
    return (size_t)(at - dst) + (size_t)n * CURSOR_RANGE_BYTES;
}

struct plain { /* change.extra */
    struct settle *s;
    uint32_t n; /* the first n of s->v */
};

static void plain_commit(struct change *ch, enum err e)
{
    struct plain *pl = ch->extra;
    struct settle *s = pl->s;
    struct entry_cursor_ranges en;
    uint32_t n = pl->n;

    free(pl);
    if (!e) {
        e = entry_cursor_ranges_read(slice_of(ch->data, ch->entry.data.len), &en);
        ASSERT(!e);
        cursor_apply_ranges(ch->b, &en, s->v);
    }
    settle_unit_end(s, s->v, n, e);
}

static void plain_submit(struct settle *s, uint32_t n)
{
    struct change *ch =
        change_new(s->c->b, ENTRY_CURSOR_RANGES, settle_entry_size(s, n), NULL, NULL);
    struct plain *pl = xmalloc(sizeof *pl);
    enum err e;

    *pl = (struct plain){s, n};
    ch->entry.data.len = settle_entry_write(s, s->v, n, ch->data);
    ch->topic = topic_ref(s->c->topic);
    ch->check = change_topic_alive;
    ch->commit = plain_commit;
    ch->extra = pl;
    atomic_fetch_add(&s->left, 1);
    if ((e = change_submit(ch, false, NULL))) {
        free(pl);
        settle_unit_end(s, s->v, n, e);
    }
}

static bool is_dead(const struct settle *s, const struct settle_range *x)
{
    return x->state == CURSOR_ARCHIVED && x->why != WHY_CLIENT && s->conf.dead_letters[0];
}

/* Those with dead letters last; otherwise in order. Returns how many have none. */
static uint32_t dead_last(struct settle *s)
{
    struct settle_range *dead = xmalloc((s->n + 1) * sizeof *dead);
    uint32_t i, k = 0, n = 0;

    for (i = 0; i < s->n; i++)
        if (is_dead(s, &s->v[i]))
            dead[n++] = s->v[i];
        else
            s->v[k++] = s->v[i];
    if (n)
        memcpy(&s->v[k], dead, n * sizeof *dead);
    free(dead);
    return k;
}

static void count(const struct settle *s)
{
    struct cursors *cs = &s->c->b->cursors;
    uint32_t i;

    for (i = 0; i < s->n; i++) {
        uint64_t n = (uint64_t)(s->v[i].last - s->v[i].first) + 1;

        atomic_fetch_add(s->v[i].state == CURSOR_AVAILABLE  ? &cs->st_released
                         : s->v[i].state == CURSOR_ACCEPTED ? &cs->st_accepted
                                                            : &cs->st_archived,
                         n);
    }
}

void settle_submit(struct settle *s)
{
    uint32_t n = dead_last(s);

    count(s);
    if (n)
        plain_submit(s, n);
    if (n < s->n)
        settle_dead(s, s->v + n, s->n - n);
    settle__left(s);
}

/* ---- what is to become of a range ---- */

/* It was delivered and not accepted. */
static void released(const struct settle *s, const struct cursor_range *x, int64_t at_ms,
                     struct settle_range *out)
{
    int32_t most = s->conf.deliveries_max;

    out->deliveries = x->deliveries;
    if (most && x->deliveries >= most) {
        out->state = CURSOR_ARCHIVED;
        out->why = WHY_DELIVERIES;
    } else {
        out->state = CURSOR_AVAILABLE;
        out->at_ms = at_ms;
    }
}

void settle_expire(struct settle *s, const struct cursor_range *x)
{
    struct settle_range o = {.first = x->first, .last = x->last};

    released(s, x, 0, &o);
    atomic_fetch_add(&s->c->b->cursors.st_expired, (uint64_t)(x->last - x->first) + 1);
    settle_add(s, &o);
}

static void acked(struct settle *s, const struct cursor_ack *a, const struct cursor_range *x,
                  int64_t first, int64_t last, int64_t now_ms)
{
    struct settle_range o = {.first = first, .last = last, .deliveries = x->deliveries};

    switch ((enum cursor_settlement)a->what) {
    case CURSOR_ACCEPT:
        o.state = CURSOR_ACCEPTED;
        break;
    case CURSOR_RELEASE:
        released(s, x, a->delay_ms > 0 ? now_ms + a->delay_ms : 0, &o);
        break;
    case CURSOR_REJECT:
        o.state = CURSOR_ARCHIVED;
        o.why = WHY_REJECTED;
        break;
    case CURSOR_VOID:
        o.state = CURSOR_ARCHIVED;
        o.why = WHY_CLIENT;
        break;
    case CURSOR_RENEW:
        return;
    }
    settle_add(s, &o);
}

/* ---- calls ---- */

static bool is_theirs(const struct cursor_range *x, const struct cursor_owner *o,
                      const struct cursor_ack *a)
{
    return x->state == RANGE_ACQUIRED && x->owner == o && !x->settling &&
           (a->deliveries == 0 || a->deliveries == x->deliveries);
}

/* Whether a loose settlement touches it. */
static bool is_open(const struct cursor_range *x, const struct cursor_owner *o,
                    const struct cursor_ack *a)
{
    bool anyones = a->what == CURSOR_ACCEPT || a->what == CURSOR_REJECT || a->what == CURSOR_VOID;

    if (is_theirs(x, o, a))
        return true;
    return anyones && x->state != RANGE_DONE && (x->state == RANGE_AVAILABLE || x->owner == o);
}

/* Cursor locked: may the owner say that of these? */
static enum err acks_check(const struct cursor *c, const struct cursor_owner *o,
                           const struct cursor_ack *a, uint32_t n, struct errinfo *info)
{
    int64_t from = 0, at;
    uint32_t i, k;

    for (i = 0; i < n; i++) {
        if (a[i].first < from || a[i].last < a[i].first || a[i].last == INT64_MAX ||
            a[i].what > CURSOR_VOID)
            return errinfo_set(info, ERR_INVALID, "the ranges are not in order");
        from = a[i].last + 1;
        if (a[i].last < c->r.start || a[i].loose)
            continue;
        if (!o || a[i].last >= c->r.next)
            return errinfo_set(info, ERR_RECORD_STATE, "%s", err_text(ERR_RECORD_STATE));
        at = a[i].first < c->r.start ? c->r.start : a[i].first;
        for (k = cursor_ranges_at(&c->r, at); k < c->r.n && c->r.v[k].first <= a[i].last; k++)
            if (!is_theirs(&c->r.v[k], o, &a[i]))
                return errinfo_set(info, ERR_RECORD_STATE, "%s", err_text(ERR_RECORD_STATE));
    }
    return ERR_OK;
}

/* Cursor locked: what they are to become; leases that begin anew do so here. */
static void acks_gather(struct settle *s, const struct cursor_owner *o, const struct cursor_ack *a,
                        uint32_t n, int64_t now_ms)
{
    struct cursor_ranges *r = &s->c->r;
    int64_t lease_end;
    uint32_t i, k, from, to;

    for (i = 0; i < n; i++) {
        int64_t first = a[i].first < r->start ? r->start : a[i].first, last = a[i].last;

        if (a[i].loose) /* what was given out before a restart */
            cursor_ranges_extend(r, last);
        if (last >= r->next)
            last = r->next - 1;
        if (first > last)
            continue;
        lease_end = now_ms + (a[i].delay_ms ? a[i].delay_ms : s->conf.lease_ms);
        cursor_ranges_cut(r, first, last, &from, &to);
        for (k = from; k < to; k++) {
            if (a[i].loose && !is_open(&r->v[k], o, &a[i]))
                continue;
            if (a[i].what == CURSOR_RENEW) {
                r->v[k].at_ms = lease_end;
                cursor__timer(s->c, lease_end);
            }
            acked(s, &a[i], &r->v[k], r->v[k].first, r->v[k].last, now_ms);
        }
        cursor_ranges_merge(r, from, to);
    }
}

static bool any_dead(const struct settle *s)
{
    uint32_t i;

    for (i = 0; i < s->n; i++)
        if (is_dead(s, &s->v[i]))
            return true;
    return false;
}

/* Frees one that nothing came of. */
static void settle_drop(struct settle *s)
{
    cursor_unref(&s->c);
    free(s->v);
    free(s);
}

enum err cursor_settle(struct cursor *c, struct slice owner, const struct cursor_ack *acks,
                       uint32_t n, int64_t now_ms, broker_done_fn done, void *arg,
                       struct errinfo *info)
{
    const struct cursor_owner *o;
    struct cursor_conf conf;
    struct settle *s = NULL;
    enum err e = ERR_OK;
    struct topic *dead;

    cursor__lock(c);
    conf = c->conf; /* others may be taking with another */
    cursor__unlock(c);
    dead = dead_letters_topic(c->b, &conf);
    cursor__lock(c);
    o = map_find(&c->owners, owner);
    if (atomic_load(&c->gone))
        e = errinfo_set(info, ERR_NOT_FOUND, "the group has no place in this partition");
    if (!e)
        e = acks_check(c, o, acks, n, info);
    if (!e) {
        s = settle_new(c, done, arg);
        acks_gather(s, o, acks, n, now_ms);
        if (!dead && any_dead(s))
            e = errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the dead letter topic is not there");
        else
            settle_mark(s);
    }
    cursor__unlock(c);
    topic_unref(&dead);
    if (e && s)
        settle_drop(s);
    else if (!e)
        settle_submit(s);
    return e;
}

void cursor_release(struct cursor *c, struct slice owner, bool undelivered)
{
    const struct cursor_owner *o;
    struct settle *s = NULL;
    uint32_t i;

    cursor__lock(c);
    o = map_find(&c->owners, owner);
    for (i = 0; o && i < c->r.n && !atomic_load(&c->gone); i++) {
        const struct cursor_range *x = &c->r.v[i];
        struct settle_range r = {.first = x->first, .last = x->last};

        if (x->state != RANGE_ACQUIRED || x->owner != o || x->settling)
            continue;
        s = s ? s : settle_new(c, NULL, NULL);
        if (undelivered) {
            r.state = CURSOR_AVAILABLE;
            r.deliveries = (uint16_t)(x->deliveries - 1);
        } else {
            released(s, x, 0, &r);
        }
        settle_add(s, &r);
    }
    if (s)
        settle_mark(s);
    cursor__unlock(c);
    if (s)
        settle_submit(s);
}
