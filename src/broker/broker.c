/* The broker as a whole: opening and closing, the journal's hooks, changes and their tickets,
 * waiting, simulation steps. See broker.h for what it is, broker_int.h for locks and the way of a
 * change. */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/coordinator_int.h"
#include "broker/notices.h"
#include "broker/transaction.h"

#define DEDUP_WINDOW_MS_DEFAULT (10ll * 60 * 1000)
#define EXPIRE_ITEMS            20000u /* key-value items dropped in one tick */
#define SWEEP_GROUPS            64u
#define SWEEP_CURSORS           256u

/* ---- tickets and visibility ---- */

uint64_t broker_ticket_take(struct broker *b)
{
    return ++b->ticket_last;
}

void broker_ticket_end(struct broker *b, uint64_t ticket)
{
    ASSERT(ticket > atomic_load(&b->ticket_done));
    atomic_store(&b->ticket_done, ticket);
    if (!atomic_load(&b->ticket_waited))
        return;
    io_mutex_lock(&b->ticket_lock);
    io_cond_broadcast(&b->ticket_cond);
    io_mutex_unlock(&b->ticket_lock);
}

/* Until every change up to `ticket` is in memory. */
static void tickets_wait(struct broker *b, uint64_t ticket)
{
    io_mutex_lock(&b->ticket_lock);
    atomic_store(&b->ticket_waited, true);
    while (atomic_load(&b->ticket_done) < ticket)
        io_cond_wait(&b->ticket_cond, &b->ticket_lock);
    atomic_store(&b->ticket_waited, false);
    io_mutex_unlock(&b->ticket_lock);
}

void broker_frame_visible(struct broker *b, enum err e)
{
    uint32_t i, n = b->touched_n;

    if (e || n == 0)
        return;
    b->touched_n = 0;
    atomic_store(&b->visible_end, journal_position_end(b->journal));
    for (i = 0; i < n; i++)
        b->touched[i]->touched = false;
    waiters_wake(b, b->touched, n);
    for (i = 0; i < n; i++)
        topic_unref(&b->touched[i]);
}

/* ---- changes ---- */

struct change *change_new(struct broker *b, uint8_t type, size_t room, broker_done_fn done,
                          void *arg)
{
    struct change *c = xcalloc(1, sizeof *c + room);

    c->b = b;
    c->done = done;
    c->arg = arg;
    c->entry.type = type;
    c->entry.data = slice_of(c->data, room);
    c->unit.entries = &c->entry;
    c->unit.n = 1;
    return c;
}

enum err change_topic_alive(struct change *c)
{
    return atomic_load(&c->topic->deleting) ? ERR_TOPIC_NOT_FOUND : ERR_OK;
}

void change_free(struct change *c)
{
    topic_unref(&c->topic);
    free(c);
}

static enum err change_sequence(struct journal_unit *u)
{
    struct change *c = (struct change *)u;
    enum err e = c->check ? c->check(c) : ERR_OK;

    if (!e)
        c->ticket = broker_ticket_take(c->b);
    return e;
}

static void change_done(struct journal_unit *u, enum err e)
{
    struct change *c = (struct change *)u;
    struct errinfo info = {0};
    struct broker *b = c->b;

    broker_frame_visible(b, e);
    if (e)
        broker_write_error(b, e, &info);
    if (c->commit)
        c->commit(c, e);
    if (c->done)
        c->done(c->arg, e, &info);
    broker_ticket_end(b, c->ticket);
    change_free(c);
}

enum err change_submit(struct change *c, bool block, struct errinfo *info)
{
    struct broker *b = c->b;
    enum err e;

    c->unit.sequence = change_sequence;
    c->unit.done = change_done;
    e = journal_append(b->journal, &c->unit, block ? 0 : JOURNAL_NONBLOCK);
    if (e) {
        change_free(c);
        broker_write_error(b, e, info);
    }
    return e;
}

enum err broker_write_error(struct broker *b, enum err e, struct errinfo *info)
{
    struct errinfo why = {0};

    if (!e || !info)
        return e;
    switch (e) {
    case ERR_NO_SPACE:
    case ERR_READ_ONLY:
    case ERR_IO:
        if (journal_state_get(b->journal, &why) != JOURNAL_OK && why.text[0])
            return errinfo_set(info, e, "%s: %.160s", err_text(e), why.text);
        return errinfo_set(info, e, "%s", err_text(e));
    default:
        return errinfo_set(info, e, "%s", err_text(e));
    }
}

enum err broker_writable(struct broker *b, struct errinfo *why)
{
    if (b->conf.read_only)
        return errinfo_set(why, ERR_READ_ONLY, "the data directory was opened read-only");
    return journal_state_err(journal_state_get(b->journal, why));
}

/* ---- waiting for a change ---- */

void sync_wait_init(struct sync_wait *w, struct broker *b)
{
    memset(w, 0, sizeof *w);
    w->b = b;
    io_mutex_init(&w->lock);
    io_cond_init(&w->cond);
}

void sync_wait_done(void *arg, enum err e, const struct errinfo *info)
{
    struct sync_wait *w = arg;

    io_mutex_lock(&w->lock);
    w->finished = true;
    w->e = e;
    if (info)
        w->info = *info;
    io_cond_signal(&w->cond);
    io_mutex_unlock(&w->lock);
}

enum err sync_wait_drop(struct sync_wait *w, enum err e)
{
    io_cond_fini(&w->cond);
    io_mutex_fini(&w->lock);
    return e;
}

enum err sync_wait_end(struct sync_wait *w, struct errinfo *info)
{
    enum err e;

    io_mutex_lock(&w->lock);
    while (!w->finished) {
        if (w->b->conf.threads) {
            io_cond_wait(&w->cond, &w->lock);
            continue;
        }
        io_mutex_unlock(&w->lock);
        journal_step(w->b->journal);
        io_mutex_lock(&w->lock);
    }
    e = w->e;
    if (e && info)
        *info = w->info;
    io_mutex_unlock(&w->lock);
    return sync_wait_drop(w, e);
}

bool broker_simulated(const struct broker *b)
{
    return !b->conf.threads;
}

void broker_step(struct broker *b)
{
    if (b->conf.threads)
        return;
    while (journal_step(b->journal))
        ;
}

bool broker_background(struct broker *b)
{
    bool told = notices_turn(b);

    return !b->conf.threads && (journal_background(b->journal) || told);
}

/* ---- the journal's hooks ---- */

static enum err hook_load(void *arg, struct sqlite3 *db, struct errinfo *info)
{
    struct broker *b = arg;
    bool there;
    enum err e = state_tables_check(db, &there, info);

    if (e || !there)
        return e;
    e = topics_load(b, db, info);
    if (!e)
        e = groups_load(b, db, info);
    if (!e)
        e = cursors_load(b, db, info);
    if (!e)
        e = kvs_load(b, db, info);
    if (!e)
        e = dedup_load(b->dedup, db, info);
    if (!e)
        e = producers_load(b, db, info);
    return e;
}

static enum err apply_dedup(struct broker *b, struct slice data, int64_t wall_ms)
{
    uint32_t places, ids, i;
    struct dedup_place p;
    struct dedup_id d;
    enum err e = entry_dedup_read(data, &places, &ids);

    for (i = 0; !e && i < ids; i++) {
        struct append_place at;

        entry_dedup_id_get(data, places, i, &d);
        entry_dedup_place_get(data, d.place, &p);
        if (p.base_offset < 0)
            continue; /* its batch was left out: the topic was being deleted */
        at = (struct append_place){.partition = (int32_t)p.partition,
                                   .offset = p.base_offset + d.index,
                                   .position = p.position + d.index,
                                   .timestamp_ms = d.timestamp_ms};
        dedup_add(b->dedup, d.hash, &at, wall_ms);
    }
    return e;
}

/* The entries of cursors and of what is in the lake; and those that are not known. */
static enum err apply_cursor(struct broker *b, uint8_t type, struct slice data,
                             struct errinfo *info)
{
    struct entry_cursor_ranges ranges;
    struct entry_cursor cursor;
    enum err e;

    switch (type) {
    case ENTRY_CURSOR:
        if (!(e = entry_cursor_read(data, &cursor)))
            cursor_apply(b, &cursor);
        return e;
    case ENTRY_CURSOR_RANGES:
        if (!(e = entry_cursor_ranges_read(data, &ranges)))
            cursor_apply_ranges(b, &ranges, NULL);
        return e;
    case ENTRY_TIER_START:
        return topics_apply_tier(b, data);
    default:
        return errinfo_set(info, ERR_FORMAT,
                           "the log has an entry of type %u, which this version does not know",
                           type);
    }
}

static enum err hook_apply(void *arg, uint8_t type, struct slice data, int64_t wall_ms,
                           struct errinfo *info)
{
    struct broker *b = arg;
    struct entry_txn_offset txn_off;
    struct entry_group_offset off;
    struct entry_group_state state;
    struct entry_txn txn;
    struct slice group;
    struct entry_kv kv;
    int64_t next_id;
    enum err e;

    if (type < ENTRY_GROUP_OFFSET)
        return topics_apply(b, type, data, info);
    switch (type) {
    case ENTRY_GROUP_OFFSET:
        if (!(e = entry_group_offset_read(data, &off)))
            group_apply_offset(b, &off);
        break;
    case ENTRY_GROUP_DELETE:
        if (!(e = entry_group_delete_read(data, &group)))
            group_apply_delete(b, group);
        break;
    case ENTRY_GROUP_STATE:
        if (!(e = entry_group_state_read(data, &state)))
            group_apply_state(b, &state);
        break;
    case ENTRY_GROUP_OFFSET_DELETE:
        if (!(e = entry_group_offset_delete_read(data, &off)))
            group_apply_offset_delete(b, &off);
        break;
    case ENTRY_KV:
        if (!(e = entry_kv_read(data, &kv)))
            kv_apply(b, &kv);
        break;
    case ENTRY_DEDUP:
        e = apply_dedup(b, data, wall_ms);
        break;
    case ENTRY_PRODUCER_IDS:
        if (!(e = entry_producer_ids_read(data, &next_id)))
            producer_ids_apply(b, next_id);
        break;
    case ENTRY_TXN:
        if (!(e = entry_txn_read(data, &txn)))
            txn_apply(b, &txn);
        break;
    case ENTRY_TXN_OFFSET:
        if (!(e = entry_txn_offset_read(data, &txn_off)))
            txn_offset_apply(b, &txn_off);
        break;
    default:
        e = apply_cursor(b, type, data, info);
        if (e == ERR_FORMAT)
            return e;
    }
    return e ? errinfo_set(info, e, "an entry of type %u is damaged", type) : ERR_OK;
}

static struct plog *hook_plog_find(void *arg, uint32_t uid)
{
    struct partition *p = topics_partition_uid(arg, uid);

    return p ? p->log : NULL;
}

static void hook_committed(void *arg, void *owner)
{
    struct partition *p = owner;
    struct broker *b = arg;
    struct topic *t = p->topic;

    recent_add(&b->recent_parts, p->uid);
    if (t->touched)
        return;
    t->touched = true;
    if (b->touched_n == b->touched_cap) {
        b->touched_cap = b->touched_cap ? b->touched_cap * 2 : 64;
        b->touched = xrealloc(b->touched, b->touched_cap * sizeof(struct topic *));
    }
    b->touched[b->touched_n++] = topic_ref(t);
}

/* Journal lock held. Nothing is copied: see hook_write. */
static void *hook_collect(void *arg)
{
    struct broker *b = arg;
    uint64_t n = (atomic_load(&b->checkpoint) >> 48) + 1;

    atomic_store(&b->checkpoint, ((n & 0xffff) << 48) | CHECKPOINT_TICKET(b->ticket_last));
    return NULL;
}

/* Everything sequenced before the collect is durable by now and, after the wait for its tickets, in
 * memory and on the dirty lists. Later changes may be there, too: their entries are after-images
 * and will be replayed to the same end. Trims and the idempotency window would not bear that (they
 * must agree with batches that a crash may still lose), so they are cut at the ticket. */
static enum err hook_write(void *arg, void *collected, struct sqlite3 *db, struct errinfo *info)
{
    struct broker *b = arg;
    uint64_t checkpoint = atomic_load(&b->checkpoint);
    uint64_t ticket = CHECKPOINT_TICKET(checkpoint);
    enum err e;

    if (b->conf.threads)
        tickets_wait(b, ticket);
    ASSERT(atomic_load(&b->ticket_done) >= ticket);
    dedup_mark(b->dedup, checkpoint);
    e = state_tables_make(db, info);
    if (!e)
        e = topics_save(b, db, ticket, info);
    if (!e)
        e = groups_save(b, db, info);
    if (!e)
        e = cursors_save(b, db, info);
    if (!e)
        e = kvs_save(b, db, info);
    if (!e)
        e = dedup_save(b->dedup, db, info);
    if (!e)
        e = producers_save(b, db, info);
    return e;
}

static void hook_end(void *arg, void *collected, bool committed)
{
    struct broker *b = arg;

    topics_saved(b, committed);
    groups_saved(b, committed);
    cursors_saved(b, committed);
    kvs_saved(b, committed);
    dedup_saved(b->dedup, committed);
    producers_saved(b, committed);
}

static void hook_tick(void *arg, int64_t wall_ms)
{
    struct broker *b = arg;

    dedup_expire(b->dedup, wall_ms);
    kvs_expire(b, wall_ms, EXPIRE_ITEMS);
    groups_sweep(b, SWEEP_GROUPS);
    cursors_sweep(b, SWEEP_CURSORS);
    producers_tick(b, wall_ms);
    txns_tick(b, wall_ms);
    retention_tick(b, wall_ms);
    compaction_tick(b, wall_ms);
    tier_tick(b);
}

static const struct journal_hooks hooks = {
    .load = hook_load,
    .apply = hook_apply,
    .batch = producers_replay,
    .plog_find = hook_plog_find,
    .committed = hook_committed,
    .checkpoint_collect = hook_collect,
    .checkpoint_write = hook_write,
    .checkpoint_end = hook_end,
    .tick = hook_tick,
};

/* ---- opening and closing ---- */

static void conf_defaults(struct broker *b)
{
    struct broker_conf *c = &b->conf;
    struct topic_conf *d = &b->defaults;

    if (c->partitions_default == 0)
        c->partitions_default = 1;
    if (c->dedup_window_ms == 0)
        c->dedup_window_ms = DEDUP_WINDOW_MS_DEFAULT;
    if (c->dedup_ids_max == 0)
        c->dedup_ids_max = LIMIT_DEDUP_IDS_DEFAULT;
    if (c->topics_max == 0)
        c->topics_max = LIMIT_TOPICS_DEFAULT;
    topic_conf_init(d);
    if (c->retention_ms_default)
        d->retention_ms = c->retention_ms_default;
}

static enum err conf_check(const struct broker *b, struct errinfo *info)
{
    const struct broker_conf *c = &b->conf;

    if (c->partitions_default < 1 || c->partitions_default > LIMIT_PARTITIONS)
        return errinfo_set(info, ERR_CONFIG, "the default of partitions is 1 to %d, not %d",
                           LIMIT_PARTITIONS, (int)c->partitions_default);
    if (c->dedup_window_ms < 0)
        return errinfo_set(info, ERR_CONFIG, "the idempotency window is not negative");
    return topic_conf_check(&b->defaults, info);
}

static void broker_free(struct broker *b)
{
    tier_free(b); /* its passes have topics */
    producers_fini(b);
    coordinator_free(&b->coordinator);
    cursors_fini(b);
    topics_fini(b);
    groups_fini(b);
    kvs_fini(b);
    dedup_free(&b->dedup);
    io_mutex_fini(&b->topics_lock);
    io_mutex_fini(&b->items_lock);
    io_mutex_fini(&b->ticket_lock);
    io_mutex_fini(&b->wait_lock);
    io_cond_fini(&b->ticket_cond);
    io_cond_fini(&b->wait_cond);
    free(b->touched);
    free(b->dir);
    b->magic = 0;
    free(b);
}

static struct broker *broker_new(const struct broker_conf *conf)
{
    struct broker *b = xcalloc(1, sizeof *b);

    b->magic = BROKER_MAGIC;
    b->conf = *conf;
    b->dir = xstrdup(conf->dir);
    b->conf.dir = b->dir;
    conf_defaults(b);
    io_random(conf->io, b->hash_seed, sizeof b->hash_seed);
    memcpy(&b->hash_seed_word, b->hash_seed, sizeof b->hash_seed_word);
    io_mutex_init(&b->topics_lock);
    io_mutex_init(&b->items_lock);
    io_mutex_init(&b->ticket_lock);
    io_mutex_init(&b->wait_lock);
    io_cond_init(&b->ticket_cond);
    io_cond_init(&b->wait_cond);
    list_init(&b->pattern_waiters);
    list_init(&b->topic_watches);
    list_init(&b->waking);
    topics_init(b);
    groups_init(b);
    cursors_init(b);
    kvs_init(b);
    producers_init(b);
    b->coordinator = coordinator_new(b);
    b->dedup = dedup_new(b->conf.dedup_ids_max, b->conf.dedup_window_ms);
    return b;
}

enum err broker_open(const struct broker_conf *conf, struct broker **out, struct errinfo *info)
{
    struct broker *b = broker_new(conf);
    struct journal_conf jc = {.dir = b->dir,
                              .io = conf->io,
                              .hooks = &hooks,
                              .hooks_arg = b,
                              .threads = conf->threads,
                              .read_only = conf->read_only,
                              .file_bytes = conf->journal_file_bytes,
                              .tail_bytes = conf->tail_bytes,
                              .cache_bytes = conf->cache_bytes,
                              .inflight_bytes = conf->inflight_bytes};
    enum err e = conf_check(b, info);

    *out = NULL;
    if (!e)
        e = journal_open(&jc, &b->journal, info);
    if (e) {
        broker_free(b);
        return e;
    }
    topics_recovered(b);
    groups_recovered(b);
    if ((e = producers_recovered(b, info))) {
        journal_close(&b->journal);
        broker_free(b);
        return e;
    }
    atomic_store(&b->visible_end, journal_position_end(b->journal));
    if ((e = notices_open(b, info))) {
        journal_close(&b->journal);
        broker_free(b);
        return e;
    }
    *out = b;
    return ERR_OK;
}

void broker_close(struct broker **bp)
{
    struct broker *b = *bp;

    if (!b)
        return;
    ASSERT(b->magic == BROKER_MAGIC && atomic_load(&b->waiters_n) == 0);
    notices_stop(b);
    dead_letters_resume(b, true);
    journal_close(&b->journal);
    notices_free(b);
    broker_free(b);
    *bp = NULL;
}

int32_t broker_partitions_default(const struct broker *b)
{
    return b->conf.partitions_default;
}

const char *broker_dir(const struct broker *b)
{
    return b->conf.dir;
}

struct journal *broker_journal(struct broker *b)
{
    return b->journal;
}

struct io *broker_io(struct broker *b)
{
    return b->conf.io;
}

/* ---- event ids ---- */

void event_id_format(uint64_t position, char out[EVENT_ID_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    int i;

    memcpy(out, "evt_", 4);
    for (i = 0; i < 16; i++)
        out[4 + i] = digits[position >> (60 - 4 * i) & 15];
    out[EVENT_ID_LEN] = 0;
}

bool event_id_parse(struct slice s, uint64_t *position)
{
    uint64_t v = 0;
    size_t i;

    if (s.len != EVENT_ID_LEN || memcmp(s.ptr, "evt_", 4) != 0)
        return false;
    for (i = 4; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *position = v;
    return true;
}
