/* Producers' states in partitions, and the partitions' transactions. See producer.h. */
#include "broker/producer.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/transaction.h"

#define EXPIRE_MS   (24ll * 3600 * 1000) /* producer.id.expiration.ms of Kafka */
#define TICK_STATES 1000u
#define BATCH_BYTES 24u /* of one in the column `batches` */

static const struct producer_core core_none = {.epoch = -1, .last_offset = -1, .txn_first = -1};

bool producer_batch_of(const struct batch_info *bi, struct producer_batch *out)
{
    *out = (struct producer_batch){.producer_id = bi->producer_id,
                                   .epoch = bi->producer_epoch,
                                   .transactional = bi->attributes & BATCH_TRANSACTIONAL,
                                   .sequence = bi->base_sequence,
                                   .count = bi->last_offset_delta + 1,
                                   .max_ts = bi->max_ts};
    return bi->producer_id >= 0;
}

/* Sequence numbers go from INT32_MAX on to 0. */
static int32_t sequence_add(int32_t s, int32_t n)
{
    return (int32_t)(((uint32_t)s + (uint32_t)n) & INT32_MAX);
}

/* ---- a core ---- */

static enum err core_check(const struct producer_core *c, const struct producer_batch *pb,
                           int64_t *duplicate)
{
    const struct producer_written *w;
    unsigned i;

    *duplicate = -1;
    if (pb->epoch < c->epoch)
        return ERR_PRODUCER_EPOCH;
    if (pb->epoch > c->epoch)
        return c->epoch >= 0 && pb->sequence != 0 ? ERR_SEQUENCE_ORDER : ERR_OK;
    for (i = 0; i < c->n; i++) {
        w = &c->batch[i];
        if (w->sequence == pb->sequence && w->count == pb->count) {
            *duplicate = w->base_offset;
            return w->base_offset < 0 ? ERR_SEQUENCE_ORDER : ERR_OK; /* twice in one unit */
        }
    }
    if (c->n == 0)
        return pb->sequence == 0 || c->last_offset < 0 ? ERR_OK : ERR_SEQUENCE_ORDER;
    w = &c->batch[c->n - 1];
    return sequence_add(w->sequence, w->count) == pb->sequence ? ERR_OK : ERR_SEQUENCE_ORDER;
}

static void core_add(struct producer_core *c, const struct producer_batch *pb, int64_t base_offset)
{
    if (pb->epoch != c->epoch) {
        c->epoch = pb->epoch;
        c->n = 0;
    }
    if (c->n == PRODUCER_BATCHES)
        memmove(c->batch, c->batch + 1, --c->n * sizeof *c->batch);
    c->batch[c->n++] = (struct producer_written){base_offset, pb->max_ts, pb->sequence, pb->count};
}

static void core_placed(struct producer_core *c, const struct producer_batch *pb,
                        int64_t base_offset, uint64_t position)
{
    c->last_offset = base_offset + pb->count - 1;
    if (pb->transactional && c->txn_first < 0) {
        c->txn_first = base_offset;
        c->txn_position = position;
    }
}

static void core_mark(struct producer_core *c, int16_t epoch, int64_t offset)
{
    if (epoch > c->epoch) {
        c->epoch = epoch;
        c->n = 0;
    }
    c->txn_first = -1;
    c->txn_position = 0;
    c->last_offset = offset;
}

/* ---- a partition's transactions; lock held ---- */

static struct ptxn *ptxn_get(struct partition *p)
{
    struct ptxn *t = p->txn;

    if (t)
        return t;
    t = xcalloc(1, sizeof *t);
    t->p = p;
    list_init(&t->open);
    list_push_back(&p->topic->broker->producers.ptxns, &t->all);
    p->txn = t;
    return t;
}

/* The partition's first unstable offset anew. */
static void ptxn_update(struct producers *ps, struct ptxn *t)
{
    int64_t first = INT64_MAX;
    struct pstate *s;

    list_for_each(s, &t->open, struct pstate, part_link) if (s->now.txn_first < first) first =
        s->now.txn_first;
    atomic_store(&t->p->unstable, first == INT64_MAX ? 0 : first + 1);
    if (first == INT64_MAX && t->link.next) {
        list_remove(&t->link);
        atomic_fetch_sub(&ps->open_n, 1);
    } else if (first != INT64_MAX && !t->link.next) {
        list_push_back(&ps->open, &t->link);
        atomic_fetch_add(&ps->open_n, 1);
    }
}

/* Puts the state on the lists of open transactions, or takes it off, as now.txn_first says. */
static void pstate_links(struct broker *b, struct pstate *s)
{
    bool open = s->now.txn_first >= 0;
    struct ptxn *t;

    if (!open && !s->part_link.next)
        return;
    t = ptxn_get(s->p);
    if (open && !s->part_link.next)
        list_push_back(&t->open, &s->part_link);
    else if (!open)
        list_remove(&s->part_link);
    txn_state_link(b, s, open);
    ptxn_update(&b->producers, t);
}

static void aborted_dirty(struct producers *ps, struct ptxn *t)
{
    if (t->dirty)
        return;
    t->dirty = true;
    list_push_back(&ps->aborted_dirty, &t->dirty_link);
}

static void aborted_add(struct producers *ps, struct ptxn *t, const struct txn_aborted *a)
{
    if (t->aborted_n && t->aborted[t->aborted_n - 1].last_offset >= a->last_offset)
        return;
    if (t->aborted_n == t->aborted_cap) {
        t->aborted_cap = t->aborted_cap ? t->aborted_cap * 2 : 4;
        t->aborted = xrealloc(t->aborted, t->aborted_cap * sizeof *t->aborted);
    }
    t->aborted[t->aborted_n++] = *a;
    aborted_dirty(ps, t);
}

/* Those whose markers are below the log's start are wanted no more. */
static void aborted_trim(struct producers *ps, struct ptxn *t)
{
    struct plog_info now;
    uint32_t n = 0;

    plog_info_get(t->p->log, &now);
    while (n < t->aborted_n && t->aborted[n].last_offset < now.start_offset)
        n++;
    if (n == 0)
        return;
    t->aborted_n -= n;
    memmove(t->aborted, t->aborted + n, t->aborted_n * sizeof *t->aborted);
    t->saved_n = 0; /* written anew: the rows below go with that */
    aborted_dirty(ps, t);
}

void ptxn_free(struct ptxn **tp)
{
    struct ptxn *t = *tp;
    struct producers *ps;

    if (!t)
        return;
    ps = &t->p->topic->broker->producers;
    io_mutex_lock(&ps->lock);
    ASSERT(list_empty(&t->open));
    if (t->dirty)
        list_remove(&t->dirty_link);
    list_remove(&t->all);
    if (t->aborted_n)
        ps->orphans = true;
    io_mutex_unlock(&ps->lock);
    free(t->aborted);
    free(t);
    *tp = NULL;
}

/* ---- states; lock held ---- */

static void key_make(uint8_t key[12], uint32_t uid, int64_t id)
{
    be32_store(key, uid);
    be64_store(key + 4, (uint64_t)id);
}

static struct pstate *pstate_find(struct producers *ps, const struct partition *p, int64_t id)
{
    uint8_t key[12];

    key_make(key, p->uid, id);
    return map_find(&ps->states, slice_of(key, sizeof key));
}

static void pstate_dirty(struct producers *ps, struct pstate *s)
{
    if (s->dirty == DIRTY)
        return;
    if (s->dirty == SENT)
        list_remove(&s->dirty_link);
    s->dirty = DIRTY;
    list_push_back(&ps->dirty, &s->dirty_link);
}

static void pstate_touch(struct producers *ps, struct pstate *s, int64_t wall_ms)
{
    list_remove(&s->lru);
    list_push_back(&ps->lru, &s->lru);
    s->last_ms = wall_ms;
}

static bool pstate_idle(const struct pstate *s)
{
    return s->pins == 0 && s->now.txn_first < 0 && s->durable.txn_first < 0;
}

/* Takes it out of the index; the row of the checkpoint goes with the next one. Its topic's
 * reference stays until pstate_free. */
static void pstate_forget(struct producers *ps, struct pstate *s)
{
    map_remove(&ps->states, slice_of(s->key, sizeof s->key));
    list_remove(&s->lru);
    s->gone = true;
    pstate_dirty(ps, s);
}

/* Without the lock: the topic may go. */
static void pstate_free(struct pstate *s)
{
    struct topic *t = s->p->topic;

    free(s);
    topic_unref(&t);
}

/* Room for one more: the one idle longest is forgotten. */
static bool pstate_room(struct producers *ps)
{
    struct pstate *s;
    unsigned looked = 0;

    if (ps->states.n < ps->states_max)
        return true;
    list_for_each(s, &ps->lru, struct pstate, lru)
    {
        if (pstate_idle(s)) {
            pstate_forget(ps, s);
            return true;
        }
        if (++looked == TICK_STATES)
            break;
    }
    return false;
}

/* NULL: no room. */
static struct pstate *pstate_get(struct producers *ps, struct partition *p, int64_t id)
{
    struct pstate *s = pstate_find(ps, p, id);

    if (s || !pstate_room(ps))
        return s;
    s = xcalloc(1, sizeof *s);
    key_make(s->key, p->uid, id);
    s->p = p;
    s->id = id;
    s->now = s->durable = core_none;
    topic_ref(p->topic);
    list_push_back(&ps->lru, &s->lru);
    if (map_put(&ps->states, slice_of(s->key, sizeof s->key), s))
        ASSERT(!"a producer's state is there already");
    return s;
}

/* ---- batches on their way ---- */

/* What was noted of units that were given up did not happen. */
static void pstate_settle(struct broker *b, struct pstate *s)
{
    uint64_t giveups = journal_giveups(b->journal);

    if (s->giveups == giveups)
        return;
    s->giveups = giveups;
    s->now = s->durable;
    pstate_links(b, s);
}

enum err producer_sequence(struct broker *b, struct partition *p, const struct producer_batch *pb,
                           int64_t wall_ms, struct pstate **out, int64_t *duplicate)
{
    struct producers *ps = &b->producers;
    struct pstate *s;
    enum err e = ERR_OK;

    *out = NULL;
    *duplicate = -1;
    io_mutex_lock(&ps->lock);
    s = pstate_get(ps, p, pb->producer_id);
    if (!s) {
        io_mutex_unlock(&ps->lock);
        return ERR_LIMIT;
    }
    pstate_settle(b, s);
    e = core_check(&s->now, pb, duplicate);
    if (!e && *duplicate < 0 && !pb->transactional && s->now.txn_first >= 0)
        e = ERR_TXN_STATE; /* in the middle of a transaction of its own */
    if (!e && *duplicate < 0 && pb->transactional)
        e = txn_batch_check(b, s, pb);
    if (!e && *duplicate < 0) {
        core_add(&s->now, pb, -1);
        s->pins++;
        pstate_touch(ps, s, wall_ms);
        *out = s;
    }
    io_mutex_unlock(&ps->lock);
    if (!e && *duplicate >= 0)
        atomic_fetch_add_explicit(&ps->st_duplicates, 1, memory_order_relaxed);
    return e;
}

void producer_sequenced(struct broker *b, struct pstate *s, const struct producer_batch *pb,
                        int64_t base_offset, uint64_t position)
{
    struct producers *ps = &b->producers;
    unsigned i;

    io_mutex_lock(&ps->lock);
    for (i = 0; i < s->now.n; i++) /* not there: more batches of its unit have pushed it out */
        if (s->now.batch[i].base_offset < 0 && s->now.batch[i].sequence == pb->sequence)
            s->now.batch[i].base_offset = base_offset;
    core_placed(&s->now, pb, base_offset, position);
    if (pb->transactional)
        pstate_links(b, s);
    io_mutex_unlock(&ps->lock);
}

void producer_done(struct broker *b, struct pstate *s, const struct producer_batch *pb,
                   int64_t base_offset, uint64_t position, enum err e)
{
    struct producers *ps = &b->producers;

    io_mutex_lock(&ps->lock);
    if (!e) {
        core_add(&s->durable, pb, base_offset);
        core_placed(&s->durable, pb, base_offset, position);
        pstate_dirty(ps, s);
    }
    s->pins--;
    /* others under way: pstate_settle puts `now` right when the next is sequenced */
    if (e && s->pins == 0) {
        s->now = s->durable;
        pstate_links(b, s);
    }
    io_mutex_unlock(&ps->lock);
}

void producer_marked(struct broker *b, struct pstate *s, int16_t epoch, bool commit, int64_t offset)
{
    struct producers *ps = &b->producers;
    struct txn_aborted a = {s->id, s->durable.txn_first, offset};

    if (!commit && a.first_offset >= 0)
        aborted_add(ps, ptxn_get(s->p), &a);
    core_mark(&s->durable, epoch, offset);
    core_mark(&s->now, epoch, offset);
    pstate_links(b, s);
    pstate_dirty(ps, s);
}

/* ---- recovery ---- */

/* Type of a control batch's first record: its key is i16 version, i16 type (0 abort, 1 commit). */
static bool marker_type(struct slice data, bool *commit)
{
    struct batch_iter it;
    struct record rec;
    struct buf scratch;
    bool ok;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    ok = !batch_iter_init(&it, data, &scratch) && !batch_iter_next(&it, &rec) && rec.key.len >= 4;
    if (ok) {
        uint16_t type = be16_load(rec.key.ptr + 2);

        *commit = type == 1;
        ok = type <= 1;
    }
    buf_fini(&scratch);
    return ok;
}

static void replay_data(struct broker *b, struct pstate *s, const struct producer_batch *pb,
                        int64_t base_offset, uint64_t position)
{
    if (pb->epoch < s->durable.epoch)
        return;
    core_add(&s->durable, pb, base_offset);
    core_placed(&s->durable, pb, base_offset, position);
    s->now = s->durable;
    if (pb->transactional)
        txn_replay_batch(b, s, pb->epoch);
}

void producers_replay(void *broker, void *partition, struct slice data, uint64_t position,
                      int64_t wall_ms)
{
    struct broker *b = broker;
    struct partition *p = partition;
    struct producers *ps = &b->producers;
    struct producer_batch pb;
    struct batch_info bi;
    struct pstate *s;
    bool commit = false;

    if (batch_parse(data, &bi) || !producer_batch_of(&bi, &pb))
        return;
    io_mutex_lock(&ps->lock);
    if (ps->next_id <= pb.producer_id)
        ps->next_id = pb.producer_id + 1;
    s = pstate_get(ps, p, pb.producer_id);
    if (s && bi.base_offset > s->durable.last_offset) {
        if (!(bi.attributes & BATCH_CONTROL))
            replay_data(b, s, &pb, bi.base_offset, position);
        else if (marker_type(data, &commit))
            producer_marked(b, s, pb.epoch, commit, bi.base_offset);
        pstate_links(b, s);
        pstate_touch(ps, s, wall_ms);
        pstate_dirty(ps, s);
    }
    io_mutex_unlock(&ps->lock);
}

/* A log may end before what the checkpoint remembers (durability `os`). */
static bool core_clip(struct producer_core *c, int64_t end)
{
    if (c->last_offset < end)
        return false;
    while (c->n && c->batch[c->n - 1].base_offset >= end)
        c->n--;
    if (c->txn_first >= end)
        c->txn_first = -1;
    c->last_offset = end - 1;
    return true;
}

enum err producers_recovered(struct broker *b, struct errinfo *info)
{
    struct producers *ps = &b->producers;
    struct pstate *s;
    struct plog_info now;
    bool clipped = false;

    io_mutex_lock(&ps->lock);
    list_for_each(s, &ps->lru, struct pstate, lru)
    {
        plog_info_get(s->p->log, &now);
        if (!core_clip(&s->durable, now.end_offset))
            continue;
        clipped = true;
        s->now = s->durable;
        pstate_links(b, s);
        pstate_dirty(ps, s);
    }
    io_mutex_unlock(&ps->lock);
    /* or the next recovery takes what is written from now on for known already */
    return clipped && !b->conf.read_only ? journal_checkpoint(b->journal, info) : ERR_OK;
}

/* ---- what readers need ---- */

int64_t partition_unstable(const struct partition *p)
{
    int64_t first = atomic_load(&((struct partition *)(uintptr_t)p)->unstable);

    return first ? first - 1 : INT64_MAX;
}

int64_t partition_lso(struct partition *p)
{
    struct plog_info now;
    int64_t first;

    plog_info_get(p->log, &now); /* first: a transaction that begins later begins behind it */
    first = partition_unstable(p);
    if (first < now.start_offset) /* what it wrote first was deleted */
        first = now.start_offset;
    return first < now.end_offset ? first : now.end_offset;
}

uint64_t producers_open_position(struct broker *b, bool (*fn)(void *, const struct partition *),
                                 void *arg)
{
    struct producers *ps = &b->producers;
    uint64_t least = UINT64_MAX;
    struct ptxn *t;
    struct pstate *s;

    if (atomic_load(&ps->open_n) == 0)
        return least;
    io_mutex_lock(&ps->lock);
    list_for_each(t, &ps->open, struct ptxn, link)
    {
        if (topic_deleted(t->p->topic) || !fn(arg, t->p))
            continue; /* nothing of a deleted topic is to come */
        list_for_each(s, &t->open, struct pstate, part_link) if (s->now.txn_position < least)
            least = s->now.txn_position;
    }
    io_mutex_unlock(&ps->lock);
    return least;
}

/* Index of the first aborted transaction that ends at or after the offset. */
static uint32_t aborted_seek(const struct ptxn *t, int64_t offset)
{
    uint32_t lo = 0, hi = t->aborted_n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (t->aborted[mid].last_offset < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool partition_aborted_batch(struct partition *p, int64_t producer_id, int64_t base_offset)
{
    struct producers *ps = &p->topic->broker->producers;
    bool found = false;
    uint32_t i;

    io_mutex_lock(&ps->lock);
    if (p->txn)
        for (i = aborted_seek(p->txn, base_offset); !found && i < p->txn->aborted_n; i++)
            found = p->txn->aborted[i].producer_id == producer_id &&
                    p->txn->aborted[i].first_offset <= base_offset;
    io_mutex_unlock(&ps->lock);
    return found;
}

size_t partition_aborted(struct partition *p, int64_t from, int64_t to, struct aborted_txn *out,
                         size_t max)
{
    struct producers *ps = &p->topic->broker->producers;
    size_t n = 0;
    uint32_t i;

    io_mutex_lock(&ps->lock);
    if (p->txn)
        for (i = aborted_seek(p->txn, from); n < max && i < p->txn->aborted_n; i++)
            if (p->txn->aborted[i].first_offset < to)
                out[n++] = (struct aborted_txn){p->txn->aborted[i].producer_id,
                                                p->txn->aborted[i].first_offset};
    io_mutex_unlock(&ps->lock);
    return n;
}

size_t partition_producers(struct partition *p, struct producer_info *out, size_t max)
{
    struct producers *ps = &p->topic->broker->producers;
    struct pstate *s;
    size_t n = 0;

    io_mutex_lock(&ps->lock);
    list_for_each(s, &ps->lru, struct pstate, lru)
    {
        const struct producer_core *c = &s->durable;

        if (s->p != p || c->epoch < 0)
            continue;
        if (n == max)
            break;
        out[n++] = (struct producer_info){
            .producer_id = s->id,
            .epoch = c->epoch,
            .last_sequence =
                c->n ? sequence_add(c->batch[c->n - 1].sequence, c->batch[c->n - 1].count - 1) : -1,
            .last_ms = c->n ? c->batch[c->n - 1].max_ts : -1,
            .txn_first_offset = c->txn_first};
    }
    io_mutex_unlock(&ps->lock);
    return n;
}

/* ---- upkeep ---- */

/* The partitions take turns: those looked at go to the end. */
static void aborted_tick(struct producers *ps)
{
    unsigned looked;
    struct ptxn *t;

    for (looked = 0; looked < TICK_STATES && !list_empty(&ps->ptxns); looked++) {
        t = list_entry(list_pop_front(&ps->ptxns), struct ptxn, all);
        list_push_back(&ps->ptxns, &t->all);
        if (!topic_deleted(t->p->topic))
            aborted_trim(ps, t);
    }
}

/* Producers of deleted topics, wherever they are in the order of use: the index is walked a part at
 * a time. (What moves in it meanwhile may be passed over: it comes with the next round.) */
static void deleted_tick(struct broker *b)
{
    struct producers *ps = &b->producers;
    struct pstate *gone[TICK_STATES];
    unsigned looked, n = 0, i;
    void *v;

    for (looked = 0; looked < TICK_STATES; looked++) {
        if (!map_next(&ps->states, &ps->sweep_at, NULL, &v)) {
            ps->sweep_at = 0;
            break;
        }
        gone[n] = v;
        if (gone[n]->pins == 0 && topic_deleted(gone[n]->p->topic))
            n++;
    }
    for (i = 0; i < n; i++) {
        gone[i]->now.txn_first = gone[i]->durable.txn_first = -1;
        pstate_links(b, gone[i]);
        pstate_forget(ps, gone[i]);
    }
}

void producers_tick(struct broker *b, int64_t wall_ms)
{
    struct producers *ps = &b->producers;
    struct pstate *s, *next;
    unsigned looked = 0;

    io_mutex_lock(&ps->lock);
    aborted_tick(ps);
    deleted_tick(b);
    for (s = list_entry(ps->lru.node.next, struct pstate, lru);
         &s->lru != &ps->lru.node && looked++ < TICK_STATES; s = next) {
        next = list_entry(s->lru.next, struct pstate, lru);
        if (pstate_idle(s) && wall_ms - s->last_ms > EXPIRE_MS)
            pstate_forget(ps, s);
    }
    io_mutex_unlock(&ps->lock);
}

void producers_init(struct broker *b)
{
    struct producers *ps = &b->producers;

    io_mutex_init(&ps->lock);
    ps->states_max = LIMIT_PRODUCERS;
    map_init(&ps->states, LIMIT_PRODUCERS + 1, b->hash_seed);
    list_init(&ps->lru);
    list_init(&ps->dirty);
    list_init(&ps->sent);
    list_init(&ps->ptxns);
    list_init(&ps->open);
    list_init(&ps->aborted_dirty);
    txns_init(b);
}

/* Before the topics are freed. */
void producers_fini(struct broker *b)
{
    struct producers *ps = &b->producers;
    struct list_head *gone[] = {&ps->dirty, &ps->sent};
    struct pstate *s;
    unsigned i;

    txns_fini(b);
    while (!list_empty(&ps->ptxns)) {
        struct ptxn *t = list_entry(list_pop_front(&ps->ptxns), struct ptxn, all);

        t->p->txn = NULL;
        free(t->aborted);
        free(t);
    }
    for (i = 0; i < 2; i++)
        while (!list_empty(gone[i])) {
            s = list_entry(list_pop_front(gone[i]), struct pstate, dirty_link);
            s->dirty = CLEAN;
            if (s->gone)
                pstate_free(s);
        }
    while (!list_empty(&ps->lru)) {
        s = list_entry(list_pop_front(&ps->lru), struct pstate, lru);
        pstate_free(s);
    }
    map_fini(&ps->states);
    io_mutex_fini(&ps->lock);
}

/* ---- the checkpoint ---- */

static enum err row_damaged(const char *table, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "checkpoint.db: a row of %s is damaged; run `weir repair`", table);
}

static bool batches_read(struct producer_core *c, struct slice s)
{
    unsigned i;

    if (s.len % BATCH_BYTES || s.len / BATCH_BYTES > PRODUCER_BATCHES)
        return false;
    c->n = (uint8_t)(s.len / BATCH_BYTES);
    for (i = 0; i < c->n; i++) {
        const uint8_t *at = s.ptr + i * BATCH_BYTES;

        c->batch[i] =
            (struct producer_written){(int64_t)le64_load(at), (int64_t)le64_load(at + 16),
                                      (int32_t)le32_load(at + 8), (int32_t)le32_load(at + 12)};
        if (c->batch[i].base_offset < 0 || c->batch[i].sequence < 0 || c->batch[i].count <= 0)
            return false;
    }
    return true;
}

static size_t batches_write(const struct producer_core *c,
                            uint8_t out[PRODUCER_BATCHES * BATCH_BYTES])
{
    unsigned i;

    for (i = 0; i < c->n && i < PRODUCER_BATCHES; i++) {
        uint8_t *at = out + (size_t)i * BATCH_BYTES;

        le64_store(at, (uint64_t)c->batch[i].base_offset);
        le32_store(at + 8, (uint32_t)c->batch[i].sequence);
        le32_store(at + 12, (uint32_t)c->batch[i].count);
        le64_store(at + 16, (uint64_t)c->batch[i].max_ts);
    }
    return c->n * BATCH_BYTES;
}

static enum err state_row(struct broker *b, struct sqlite3_stmt *st, struct errinfo *info)
{
    struct partition *p = topics_partition_uid(b, (uint32_t)sqlite3_column_int64(st, 0));
    int64_t id = sqlite3_column_int64(st, 1), epoch = sqlite3_column_int64(st, 2);
    struct producer_core c = core_none;
    struct pstate *s;

    if (id < 0 || epoch < 0 || epoch > INT16_MAX || !batches_read(&c, state_column(st, 7)))
        return row_damaged("producers", info);
    if (!p) { /* of a topic that is no more */
        b->producers.orphans = true;
        return ERR_OK;
    }
    c.epoch = (int16_t)epoch;
    c.last_offset = sqlite3_column_int64(st, 4);
    c.txn_first = sqlite3_column_int64(st, 5);
    c.txn_position = (uint64_t)sqlite3_column_int64(st, 6);
    io_mutex_lock(&b->producers.lock);
    if ((s = pstate_get(&b->producers, p, id))) {
        s->last_ms = sqlite3_column_int64(st, 3);
        s->now = s->durable = c;
        pstate_links(b, s);
    }
    io_mutex_unlock(&b->producers.lock);
    return ERR_OK;
}

static enum err aborted_row(struct broker *b, struct sqlite3_stmt *st, struct errinfo *info)
{
    struct partition *p = topics_partition_uid(b, (uint32_t)sqlite3_column_int64(st, 0));
    struct txn_aborted a = {sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2),
                            sqlite3_column_int64(st, 3)};

    if (a.producer_id < 0 || a.first_offset < 0 || a.last_offset < a.first_offset)
        return row_damaged("txn_aborted", info);
    if (!p) {
        b->producers.orphans = true;
        return ERR_OK;
    }
    io_mutex_lock(&b->producers.lock);
    aborted_add(&b->producers, ptxn_get(p), &a);
    p->txn->saved_n = p->txn->aborted_n;
    io_mutex_unlock(&b->producers.lock);
    return ERR_OK;
}

enum err producers_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    enum err e = txns_load(b, db, info);

    if (!e)
        e = state_rows(b, db, "producers",
                       "SELECT uid, producer_id, epoch, last_ms, last_offset, txn_first,"
                       " txn_position, batches FROM producers ORDER BY last_ms",
                       state_row, info);
    if (!e)
        e = state_rows(b, db, "txn_aborted",
                       "SELECT uid, producer_id, first_offset, last_offset FROM txn_aborted"
                       " ORDER BY uid, last_offset",
                       aborted_row, info);
    return e;
}

/* A copy of the next dirty state's durable part. */
static bool state_next(struct producers *ps, struct pstate *copy)
{
    struct pstate *s = NULL;

    io_mutex_lock(&ps->lock);
    if (!list_empty(&ps->dirty)) {
        s = list_entry(list_pop_front(&ps->dirty), struct pstate, dirty_link);
        s->dirty = SENT;
        list_push_back(&ps->sent, &s->dirty_link);
        *copy = *s;
    }
    io_mutex_unlock(&ps->lock);
    return s != NULL;
}

static enum err state_save(struct sqlite3 *db, struct sqlite3_stmt *put, struct sqlite3_stmt *del,
                           const struct pstate *s, struct errinfo *info)
{
    uint8_t batches[PRODUCER_BATCHES * BATCH_BYTES];
    const struct producer_core *c = &s->durable;
    struct sqlite3_stmt *st = s->gone || c->epoch < 0 ? del : put;

    sqlite3_bind_int64(st, 1, be32_load(s->key));
    sqlite3_bind_int64(st, 2, s->id);
    if (st == put) {
        sqlite3_bind_int64(st, 3, c->epoch);
        sqlite3_bind_int64(st, 4, s->last_ms);
        sqlite3_bind_int64(st, 5, c->last_offset);
        sqlite3_bind_int64(st, 6, c->txn_first);
        sqlite3_bind_int64(st, 7, (int64_t)c->txn_position);
        state_bind_blob(st, 8, slice_of(batches, batches_write(c, batches)));
    }
    return state_step(db, st, info);
}

/* What one partition's aborted transactions are, copied. */
struct aborted_copy {
    uint32_t uid, from, n;
    struct txn_aborted *a;
};

static bool aborted_next(struct producers *ps, struct aborted_copy *c)
{
    struct ptxn *t = NULL;

    io_mutex_lock(&ps->lock);
    if (!list_empty(&ps->aborted_dirty)) {
        t = list_entry(list_pop_front(&ps->aborted_dirty), struct ptxn, dirty_link);
        t->dirty = false;
        c->uid = t->p->uid;
        c->from = t->saved_n;
        c->n = t->aborted_n - t->saved_n;
        c->a = c->n ? xmemdup(t->aborted + t->saved_n, c->n * sizeof *c->a) : NULL;
        t->saved_n = t->aborted_n;
    }
    io_mutex_unlock(&ps->lock);
    return t != NULL;
}

static enum err aborted_save(struct sqlite3 *db, struct sqlite3_stmt *put, struct sqlite3_stmt *del,
                             const struct aborted_copy *c, struct errinfo *info)
{
    enum err e = ERR_OK;
    uint32_t i;

    if (c->from == 0) { /* all of them: others are no more */
        sqlite3_bind_int64(del, 1, c->uid);
        e = state_step(db, del, info);
    }
    for (i = 0; !e && i < c->n; i++) {
        sqlite3_bind_int64(put, 1, c->uid);
        sqlite3_bind_int64(put, 2, c->a[i].producer_id);
        sqlite3_bind_int64(put, 3, c->a[i].first_offset);
        sqlite3_bind_int64(put, 4, c->a[i].last_offset);
        e = state_step(db, put, info);
    }
    return e;
}

static enum err save_states(struct producers *ps, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *put = NULL, *del = NULL;
    struct pstate copy;
    enum err e =
        state_prepare(db,
                      "INSERT OR REPLACE INTO producers(uid, producer_id, epoch, last_ms,"
                      " last_offset, txn_first, txn_position, batches) VALUES(?,?,?,?,?,?,?,?)",
                      &put, info);

    if (!e)
        e = state_prepare(db, "DELETE FROM producers WHERE uid = ? AND producer_id = ?", &del,
                          info);
    while (!e && state_next(ps, &copy))
        e = state_save(db, put, del, &copy, info);
    sqlite3_finalize(put);
    sqlite3_finalize(del);
    return e;
}

/* Rows of partitions that are no more. After the topics were saved. */
static enum err save_orphans(struct producers *ps, struct sqlite3 *db, struct errinfo *info)
{
    static const char *const sql[] = {
        "DELETE FROM producers WHERE uid NOT IN (SELECT uid FROM partitions)",
        "DELETE FROM txn_aborted WHERE uid NOT IN (SELECT uid FROM partitions)"};
    struct sqlite3_stmt *del;
    enum err e = ERR_OK;
    bool orphans;
    unsigned i;

    io_mutex_lock(&ps->lock);
    orphans = ps->orphans;
    ps->orphans = false;
    io_mutex_unlock(&ps->lock);
    for (i = 0; orphans && !e && i < 2; i++) {
        del = NULL;
        e = state_prepare(db, sql[i], &del, info);
        if (!e)
            e = state_step(db, del, info);
        sqlite3_finalize(del);
    }
    return e;
}

static enum err save_aborted(struct producers *ps, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *put = NULL, *del = NULL;
    struct aborted_copy c;
    enum err e = state_prepare(db,
                               "INSERT OR REPLACE INTO txn_aborted(uid, producer_id, first_offset,"
                               " last_offset) VALUES(?,?,?,?)",
                               &put, info);

    if (!e)
        e = state_prepare(db, "DELETE FROM txn_aborted WHERE uid = ?", &del, info);
    while (!e && aborted_next(ps, &c)) {
        e = aborted_save(db, put, del, &c, info);
        free(c.a);
    }
    sqlite3_finalize(put);
    sqlite3_finalize(del);
    return e;
}

enum err producers_save(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct producers *ps = &b->producers;
    enum err e = save_states(ps, db, info);

    if (!e)
        e = save_aborted(ps, db, info);
    if (!e)
        e = save_orphans(ps, db, info);
    if (!e)
        e = txns_save(b, db, info);
    return e;
}

/* After a checkpoint that failed all aborted transactions are written anew with the next. */
static void aborted_unsave(struct broker *b)
{
    struct producers *ps = &b->producers;
    struct ptxn *t;

    ps->orphans = true;
    list_for_each(t, &ps->ptxns, struct ptxn, all)
    {
        t->saved_n = 0;
        aborted_dirty(ps, t);
    }
}

void producers_saved(struct broker *b, bool committed)
{
    struct producers *ps = &b->producers;
    struct list_head gone;
    struct pstate *s;

    list_init(&gone);
    io_mutex_lock(&ps->lock);
    while (!list_empty(&ps->sent)) {
        s = list_entry(ps->sent.node.prev, struct pstate, dirty_link);
        list_remove(&s->dirty_link);
        s->dirty = committed ? CLEAN : DIRTY;
        if (!committed) /* in front: one that was forgotten may be there anew */
            list_insert_before(ps->dirty.node.next, &s->dirty_link);
        else if (s->gone)
            list_push_back(&gone, &s->dirty_link);
    }
    if (!committed)
        aborted_unsave(b);
    io_mutex_unlock(&ps->lock);
    while (!list_empty(&gone))
        pstate_free(list_entry(list_pop_front(&gone), struct pstate, dirty_link));
    txns_saved(b, committed);
}
