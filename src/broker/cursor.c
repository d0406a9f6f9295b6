/* Cursors: the index, and taking records. See cursor.h for what they are, cursor_int.h for locks and
 * the way of a settlement. */
#include "broker/cursor.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/coordinator_int.h"

#define TICK_CURSORS 1024u
#define DELIVERIES   INT16_MAX /* counted up to here: what Kafka's protocol can tell */

/* ---- configuration ---- */

void cursor_conf_default(struct cursor_conf *c)
{
    *c = (struct cursor_conf){
        .lease_ms = 30000, .deliveries_max = 5, .records_max = 2000, .dead_letters_copy = true};
}

enum err cursor_conf_check(const struct cursor_conf *c, struct errinfo *info)
{
    struct slice dead = slice_str(c->dead_letters);

    if (c->lease_ms < 1)
        return errinfo_set(info, ERR_CONFIG, "a lease lasts at least 1 ms");
    if (c->deliveries_max < 0 || c->deliveries_max > DELIVERIES)
        return errinfo_set(info, ERR_CONFIG, "the limit of deliveries is 0 (none) to %d",
                           DELIVERIES);
    if (c->records_max < 1 || c->records_max > LIMIT_CURSOR_RECORDS)
        return errinfo_set(info, ERR_CONFIG, "1 to %d records are in flight, not %d",
                           LIMIT_CURSOR_RECORDS, (int)c->records_max);
    if (dead.len && !topic_name_valid(dead))
        return errinfo_set(info, ERR_CONFIG, "the dead letter topic's name is not valid");
    return ERR_OK;
}

/* ---- the index ---- */

size_t cursor__key(uint8_t key[CURSOR_KEY_MAX], struct slice group, uint32_t topic,
                   uint32_t partition)
{
    ASSERT(group.len <= LIMIT_GROUP_NAME);
    if (group.len)
        memcpy(key, group.ptr, group.len);
    key[group.len] = 0;
    be32_store(key + group.len + 1, topic);
    be32_store(key + group.len + 5, partition);
    return group.len + CURSOR_KEY_TAIL;
}

static struct cursor *cursor_of(struct ordered_node *n)
{
    return n ? ORDERED_ENTRY(n, struct cursor, node) : NULL;
}

struct cursor *cursor__find(struct broker *b, struct slice key)
{
    struct cursor *c;

    io_mutex_lock(&b->cursors.lock);
    c = cursor_of(ordered_find(&b->cursors.by_key, key));
    if (c)
        cursor_ref(c);
    io_mutex_unlock(&b->cursors.lock);
    return c;
}

struct cursor *cursor_find(struct broker *b, struct slice group, struct partition *p)
{
    uint8_t key[CURSOR_KEY_MAX];

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME)
        return NULL;
    return cursor__find(b,
                        slice_of(key, cursor__key(key, group, p->topic->id, (uint32_t)p->index)));
}

struct cursor *cursor_ref(struct cursor *c)
{
    ASSERT(c->magic == CURSOR_MAGIC);
    atomic_fetch_add(&c->refs, 1);
    return c;
}

bool cursor_live(const struct cursor *c)
{
    return !atomic_load(&((struct cursor *)(uintptr_t)c)->gone);
}

static void cursor_free(struct cursor *c)
{
    uint32_t at = 0;
    void *o;

    while (map_next(&c->owners, &at, NULL, &o))
        free(o);
    map_fini(&c->owners);
    atomic_fetch_sub(&c->b->cursors.undone, c->counted);
    cursor_ranges_fini(&c->r);
    topic_unref(&c->topic);
    io_mutex_fini(&c->lock);
    c->magic = 0;
    free(c);
}

void cursor_unref(struct cursor **cp)
{
    struct cursor *c = *cp;

    if (c && atomic_fetch_sub(&c->refs, 1) == 1)
        cursor_free(c);
    *cp = NULL;
}

struct cursor *cursor__add(struct broker *b, struct slice key, struct topic *t, struct partition *p,
                           uint64_t epoch, int64_t start)
{
    struct cursor *c = xcalloc(1, sizeof *c + key.len);

    c->magic = CURSOR_MAGIC;
    atomic_init(&c->refs, 2);
    c->b = b;
    c->topic = t;
    c->p = p;
    c->epoch = epoch;
    cursor_conf_default(&c->conf);
    atomic_init(&c->timer_ms, CURSOR_TIMER_OFF);
    io_mutex_init(&c->lock);
    cursor_ranges_init(&c->r, start);
    map_init(&c->owners, LIMIT_CURSOR_RECORDS * 2, b->hash_seed);
    memcpy(c->key, key.ptr, key.len);
    c->key_len = key.len;
    c->node.key = slice_of(c->key, key.len);
    io_mutex_lock(&b->cursors.lock);
    ordered_insert(&b->cursors.by_key, &c->node);
    io_mutex_unlock(&b->cursors.lock);
    return c;
}

/* Index locked. Tombstones in front, so that a row is deleted before its cursor is saved anew. */
static void dirty(struct cursor *c)
{
    struct list_head *d = &c->b->cursors.dirty;

    if (c->dirty != CLEAN)
        list_remove(&c->dirty_link);
    else
        cursor_ref(c);
    c->dirty = DIRTY;
    list_insert_before(atomic_load(&c->gone) ? d->node.next : &d->node, &c->dirty_link);
}

void cursor__dirty(struct cursor *c)
{
    struct cursors *cs = &c->b->cursors;

    io_mutex_lock(&cs->lock);
    if (c->dirty != DIRTY && !atomic_load(&c->gone))
        dirty(c);
    io_mutex_unlock(&cs->lock);
}

void cursor__drop(struct cursor *c)
{
    struct cursors *cs = &c->b->cursors;
    bool was;

    io_mutex_lock(&cs->lock);
    was = !atomic_load(&c->gone);
    if (was) {
        ordered_remove(&cs->by_key, &c->node);
        atomic_store(&c->gone, true);
        dirty(c);
    }
    io_mutex_unlock(&cs->lock);
    if (!was)
        return;
    cursor__wake(c);
    cursor_unref(&c);
}

void cursor_each(struct broker *b, struct slice group,
                 void (*fn)(void *arg, struct cursor *c, struct partition *p), void *arg)
{
    uint8_t at[CURSOR_KEY_MAX];
    struct slice prefix;
    size_t len;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME)
        return;
    len = cursor__key(at, group, 0, 0);
    prefix = slice_of(at, group.len + 1);
    for (;;) {
        struct cursor *c;

        io_mutex_lock(&b->cursors.lock);
        c = cursor_of(ordered_after(&b->cursors.by_key, slice_of(at, len)));
        if (c && c->key_len == len && slice_has_prefix(c->node.key, prefix))
            cursor_ref(c);
        else
            c = NULL;
        io_mutex_unlock(&b->cursors.lock);
        if (!c)
            return;
        memcpy(at, c->key, len);
        if (!topic_deleted(c->topic))
            fn(arg, c, c->p);
        cursor_unref(&c);
    }
}

static void is_there(void *arg, struct cursor *c, struct partition *p)
{
    *(bool *)arg = true;
}

bool cursors_of_group(struct broker *b, struct slice group)
{
    bool there = false;

    cursor_each(b, group, is_there, &there);
    return there;
}

void cursors_sweep(struct broker *b, unsigned max)
{
    struct cursors *cs = &b->cursors;

    for (; max; max--) {
        struct cursor *c;

        io_mutex_lock(&cs->lock);
        c = cursor_of(ordered_after(&cs->by_key, slice_of(cs->sweep, cs->sweep_len)));
        if (c)
            cursor_ref(c);
        io_mutex_unlock(&cs->lock);
        cs->sweep_len = 0;
        if (!c)
            return;
        memcpy(cs->sweep, c->key, c->key_len);
        cs->sweep_len = c->key_len;
        if (topic_deleted(c->topic))
            cursor__drop(c);
        cursor_unref(&c);
    }
}

void cursors_init(struct broker *b)
{
    io_mutex_init(&b->cursors.lock);
    ordered_init(&b->cursors.by_key, b->hash_seed_word + 7);
    list_init(&b->cursors.dirty);
    list_init(&b->cursors.sent);
    list_init(&b->cursors.timed);
    list_init(&b->cursors.parked);
}

void cursors_fini(struct broker *b)
{
    struct list_head *lists[] = {&b->cursors.dirty, &b->cursors.sent};
    struct cursor *c;
    int i;

    for (i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            c = list_entry(list_pop_front(lists[i]), struct cursor, dirty_link);
            cursor_unref(&c);
        }
    while (!list_empty(&b->cursors.timed)) {
        c = list_entry(list_pop_front(&b->cursors.timed), struct cursor, timed_link);
        cursor_unref(&c);
    }
    while ((c = cursor_of(b->cursors.by_key.root))) {
        ordered_remove(&b->cursors.by_key, &c->node);
        cursor_unref(&c);
    }
    io_mutex_fini(&b->cursors.lock);
}

/* ---- the lock, and what goes with it ---- */

void cursor__lock(struct cursor *c)
{
    ASSERT(c->magic == CURSOR_MAGIC);
    io_mutex_lock(&c->lock);
}

void cursor__unlock(struct cursor *c)
{
    uint64_t undone = c->r.undone;

    if (undone != c->counted)
        atomic_fetch_add(&c->b->cursors.undone, undone - c->counted);
    c->counted = undone;
    io_mutex_unlock(&c->lock);
}

void cursor__timer(struct cursor *c, int64_t at_ms)
{
    struct cursors *cs = &c->b->cursors;

    if (at_ms >= atomic_load(&c->timer_ms))
        return;
    atomic_store(&c->timer_ms, at_ms);
    io_mutex_lock(&cs->lock);
    if (!c->timed) {
        c->timed = true;
        list_push_back(&cs->timed, &c->timed_link);
        cursor_ref(c);
    }
    io_mutex_unlock(&cs->lock);
    if (c->b->coordinator) /* recovery is before */
        coordinator_due(c->b->coordinator, at_ms);
}

void cursor__disown(struct cursor *c, struct cursor_range *x)
{
    uint64_t n = (uint64_t)(x->last - x->first) + 1;

    if (x->state != RANGE_ACQUIRED)
        return;
    ASSERT(x->owner && x->owner->records >= n && c->acquired >= n);
    c->acquired -= n;
    x->owner->records -= n;
    if (x->owner->records == 0) {
        map_remove(&c->owners, slice_of(x->owner->name, x->owner->len));
        free(x->owner);
    }
    x->owner = NULL;
}

void cursor__advance(struct cursor *c, int64_t start)
{
    uint32_t i;

    if (start <= c->r.start)
        return;
    if (c->r.n && start < c->r.next) {
        uint32_t from, to;

        cursor_ranges_cut(&c->r, c->r.start, start - 1, &from, &to);
        for (i = from; i < to; i++)
            cursor__disown(c, &c->r.v[i]);
    } else {
        for (i = 0; i < c->r.n; i++)
            cursor__disown(c, &c->r.v[i]);
    }
    cursor_ranges_advance(&c->r, start);
}

void cursor__wake(struct cursor *c)
{
    if (c->topic)
        waiters_wake(c->b, &c->topic, 1);
}

/* ---- taking ---- */

/* How many records may be taken that were never delivered. */
static uint64_t fresh_room(const struct cursor *c)
{
    uint64_t all = atomic_load(&c->b->cursors.undone), most = (uint64_t)c->conf.records_max;

    if (all >= LIMIT_CURSOR_RECORDS_ALL)
        return c->r.undone == 0; /* each gets on, if slowly */
    return c->r.undone < most ? most - c->r.undone : 0;
}

static bool is_free(const struct cursor_range *x, int64_t now_ms)
{
    return x->state == RANGE_AVAILABLE && !x->settling && x->at_ms <= now_ms;
}

int64_t cursor_next(struct cursor *c, const struct cursor_conf *conf, int64_t now_ms)
{
    int64_t at = -1, start = partition_start(c->p);
    uint32_t i;

    cursor__lock(c);
    if (!atomic_load(&c->gone)) {
        c->conf = *conf;
        if (start > c->r.start) {
            cursor__advance(c, start);
            cursor__dirty(c);
        }
        for (i = 0; i < c->r.n && at < 0; i++)
            if (is_free(&c->r.v[i], now_ms))
                at = c->r.v[i].first;
        if (at < 0 && fresh_room(c))
            at = c->r.next;
        if (at < 0)
            atomic_store(&c->starved, true);
    }
    cursor__unlock(c);
    return at;
}

int64_t cursor_free_from(struct cursor *c, int64_t from, int64_t now_ms)
{
    int64_t at = -1;
    uint32_t i;

    cursor__lock(c);
    if (from < c->r.start)
        from = c->r.start;
    if (from < c->r.next && !atomic_load(&c->gone)) {
        for (i = cursor_ranges_at(&c->r, from); i < c->r.n && at < 0; i++)
            if (is_free(&c->r.v[i], now_ms))
                at = c->r.v[i].first > from ? c->r.v[i].first : from;
    }
    cursor__unlock(c);
    return at;
}

static struct cursor_owner *owner_get(struct cursor *c, struct slice name)
{
    struct cursor_owner *o = map_find(&c->owners, name);

    if (o)
        return o;
    o = xcalloc(1, sizeof *o + name.len);
    o->len = name.len;
    if (name.len)
        memcpy(o->name, name.ptr, name.len);
    if (map_put(&c->owners, slice_of(o->name, o->len), o)) {
        free(o);
        return NULL; /* so many owners as records may be in flight */
    }
    return o;
}

/* What is taken, piece by piece. */
struct taking {
    struct cursor *c;
    struct cursor_owner *o;
    int64_t lease_end;
    struct cursor_taken *out;
    uint32_t n, max, records, left;
};

/* Takes from a range, which is free, the part from first to last. False: there is no room. */
static bool take_piece(struct taking *t, int64_t first, int64_t last)
{
    struct cursor_ranges *r = &t->c->r;
    struct cursor_taken *prev = t->n ? &t->out[t->n - 1] : NULL;
    struct cursor_range *x;
    uint32_t from, to, count;

    if ((uint64_t)(last - first) >= t->left)
        last = first + t->left - 1;
    count = (uint32_t)(last - first) + 1;
    x = &r->v[cursor_ranges_at(r, first)];
    if (prev && (prev->last + 1 != first || prev->deliveries != x->deliveries + 1))
        prev = NULL;
    if (!prev && t->n == t->max)
        return false;
    cursor_ranges_cut(r, first, last, &from, &to);
    x = &r->v[from];
    ASSERT(to == from + 1 && x->state == RANGE_AVAILABLE && !x->settling);
    if (x->deliveries)
        atomic_fetch_add(&t->c->b->cursors.st_redelivered, count);
    if (x->deliveries < DELIVERIES)
        x->deliveries++;
    x->state = RANGE_ACQUIRED;
    x->owner = t->o;
    x->at_ms = t->lease_end;
    t->o->records += count;
    t->c->acquired += count;
    t->records += count;
    t->left -= count;
    if (prev)
        prev->last = last;
    else
        t->out[t->n++] = (struct cursor_taken){first, last, x->deliveries};
    cursor_ranges_merge(r, from, to);
    return true;
}

/* Cursor locked. */
static void take(struct taking *t, int64_t first, int64_t last, int64_t now_ms)
{
    struct cursor_ranges *r = &t->c->r;
    uint64_t room = fresh_room(t->c);
    int64_t at = first < r->start ? r->start : first, end;

    if (last >= r->next && room) {
        end = r->next + (int64_t)(room < t->left ? room : t->left) - 1;
        if (at > r->next) /* what is before was not asked for */
            end = r->next + (int64_t)room - 1;
        cursor_ranges_extend(r, last < end ? last : end);
    }
    while (at <= last && at < r->next && t->left) {
        const struct cursor_range *x = &r->v[cursor_ranges_at(r, at)];

        end = x->last < last ? x->last : last;
        if (is_free(x, now_ms) && !take_piece(t, at, end))
            break;
        at = t->n && t->out[t->n - 1].last >= at ? t->out[t->n - 1].last + 1 : end + 1;
    }
}

uint32_t cursor_take(struct cursor *c, struct slice owner, int64_t first, int64_t last,
                     uint32_t max, const struct cursor_conf *conf, int64_t now_ms,
                     struct cursor_taken *out, uint32_t out_max, uint32_t *records)
{
    struct taking t = {
        .c = c, .lease_end = now_ms + conf->lease_ms, .out = out, .max = out_max, .left = max};

    *records = 0;
    if (first > last || max == 0 || out_max == 0)
        return 0;
    cursor__lock(c);
    c->conf = *conf;
    if (!atomic_load(&c->gone) && (t.o = owner_get(c, owner))) {
        take(&t, first, last, now_ms);
        if (t.o->records == 0) {
            map_remove(&c->owners, owner);
            free(t.o);
        }
        if (t.n)
            cursor__timer(c, t.lease_end);
    }
    cursor__unlock(c);
    atomic_fetch_add(&c->b->cursors.st_taken, t.records);
    *records = t.records;
    return t.n;
}

void cursor_skip(struct cursor *c, int64_t first, int64_t last)
{
    uint32_t from, to, i;

    cursor__lock(c);
    if (first < c->r.start)
        first = c->r.start;
    if (first <= last && !atomic_load(&c->gone)) {
        /* a gap may be as wide as it likes: what is done takes no room */
        cursor_ranges_extend(&c->r, last);
        cursor_ranges_cut(&c->r, first, last, &from, &to);
        for (i = from; i < to; i++)
            if (c->r.v[i].state == RANGE_AVAILABLE && !c->r.v[i].settling)
                cursor_ranges_finish(&c->r, &c->r.v[i]);
        cursor_ranges_merge(&c->r, from, to);
        cursor__dirty(c);
    }
    cursor__unlock(c);
}

void cursor_watch(struct cursor *c, cursor_watch_fn fn, void *arg)
{
    cursor__lock(c);
    c->watch = fn;
    c->watch_arg = arg;
    cursor__unlock(c);
}

/* ---- looking ---- */

void cursor_info_get(struct cursor *c, struct cursor_info *out)
{
    cursor__lock(c);
    *out = (struct cursor_info){c->r.start, c->r.next, c->r.undone, c->acquired};
    cursor__unlock(c);
}

bool cursor_record_get(struct cursor *c, int64_t offset, uint16_t *deliveries, bool *acquired)
{
    const struct cursor_range *x;
    bool there = false;

    cursor__lock(c);
    if (offset >= c->r.start && offset < c->r.next) {
        x = &c->r.v[cursor_ranges_at(&c->r, offset)];
        there = x->state != RANGE_DONE;
        if (deliveries)
            *deliveries = x->deliveries;
        if (acquired)
            *acquired = x->state == RANGE_ACQUIRED;
    }
    cursor__unlock(c);
    return there;
}

/* ---- time ---- */

/* Leases and delays of one cursor. */
static void look(struct cursor *c, int64_t now_ms)
{
    struct settle *s = NULL;
    bool woken = false;
    int64_t next = CURSOR_TIMER_OFF;
    uint32_t i;

    cursor__lock(c);
    atomic_store(&c->timer_ms, CURSOR_TIMER_OFF);
    for (i = 0; i < c->r.n && !atomic_load(&c->gone); i++) {
        struct cursor_range *x = &c->r.v[i];
        bool over = x->at_ms <= now_ms;

        if (x->settling || x->state == RANGE_DONE || x->at_ms == 0)
            continue;
        if (!over) {
            next = x->at_ms < next ? x->at_ms : next;
        } else if (x->state == RANGE_AVAILABLE) {
            x->at_ms = 0;
            woken = true;
        } else {
            s = s ? s : settle_new(c, NULL, NULL);
            settle_expire(s, x);
        }
    }
    if (woken) {
        cursor_ranges_merge(&c->r, 0, c->r.n);
        cursor__tell(c, CURSOR_FREE, 0, 0, 0);
    }
    if (s)
        settle_mark(s);
    cursor__timer(c, next);
    cursor__unlock(c);
    if (s)
        settle_submit(s);
    if (woken)
        cursor__wake(c);
}

/* Those whose time has come, referenced. */
static unsigned timers_due(struct cursors *cs, int64_t now_ms, struct cursor **out, unsigned max)
{
    struct list_node *at, *next;
    unsigned n = 0;

    io_mutex_lock(&cs->lock);
    for (at = cs->timed.node.next; at != &cs->timed.node && n < max; at = next) {
        struct cursor *c = list_entry(at, struct cursor, timed_link);

        next = at->next;
        if (atomic_load(&c->timer_ms) > now_ms)
            continue;
        list_remove(at);
        c->timed = false;
        out[n++] = c; /* with the list's reference */
    }
    io_mutex_unlock(&cs->lock);
    return n;
}

int64_t cursors_deadline_ms(struct broker *b)
{
    struct cursors *cs = &b->cursors;
    int64_t first = CURSOR_TIMER_OFF, at_ms;
    struct list_node *at;

    io_mutex_lock(&cs->lock);
    if (dead_letters_parked(b))
        first = 0; /* at the next tick */
    for (at = cs->timed.node.next; at != &cs->timed.node; at = at->next) {
        at_ms = atomic_load(&list_entry(at, struct cursor, timed_link)->timer_ms);
        if (at_ms < first)
            first = at_ms;
    }
    io_mutex_unlock(&cs->lock);
    return first;
}

void cursors_tick(struct broker *b, int64_t now_ms)
{
    struct cursor *due[TICK_CURSORS];
    unsigned i, n;

    atomic_store(&b->cursors.ticked_ms, now_ms);
    n = timers_due(&b->cursors, now_ms, due, TICK_CURSORS);

    for (i = 0; i < n; i++) {
        look(due[i], now_ms);
        cursor_unref(&due[i]);
    }
    dead_letters_resume(b, false);
}
