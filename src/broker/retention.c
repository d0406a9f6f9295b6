/* Retention: removing what the topics' rules no longer keep. Once a second the background thread
 * looks at the next part of the topics (all of them about every 30 s, at least TOPICS_MIN a turn),
 * asks each log where it may begin, and appends one unit with the new starts. A unit that is
 * refused (too much in flight, disk full) is left for the next turn. Topics whose cleanup.policy is
 * only compact are not touched. Of topics that are in the lake, what is not there yet stays.
 *
 * A record's age is its timestamp's, which its writer may set: copies of old data would be gone before
 * anybody had read them. So age ends only what was here for five minutes (Apache Kafka looks that
 * seldom), or half of retention.ms.
 *
 * Tiers: with local.retention.ms or local.retention.bytes the local log keeps less than the topic does;
 * what it gives up stays readable in the lake (tier.h). One unit has both starts, the local log's and
 * the one in the lake, so no crash comes between. The lake's thread says how far retention.ms and
 * retention.bytes have come there (partition_expired); only when nothing is left in the lake do they
 * reach into the local log. */
#include <stdlib.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"

#define TOPICS_MIN 1024u
#define TURNS      30u
#define STEP       256u  /* topics at a time */
#define TRIMS_MAX  4096u /* in one unit */
#define SETTLE_MS  300000

struct trims {
    struct journal_unit unit; /* first */
    struct broker *b;
    uint64_t ticket;
    uint32_t n;
    struct journal_entry *entries; /* two for each of parts */
    struct partition **parts;      /* their topics are referenced */
    uint8_t (*starts)[8];
    uint8_t (*tiers)[ENTRY_TIER_START_BYTES];
};

static void trims_free(struct trims *ts)
{
    uint32_t i;

    for (i = 0; i < ts->n; i++) {
        struct topic *t = partition_topic(ts->parts[i]);

        topic_unref(&t);
    }
    free(ts->entries);
    free(ts->parts);
    free(ts->starts);
    free(ts->tiers);
    free(ts);
}

static enum err trims_sequence(struct journal_unit *u)
{
    struct trims *ts = (struct trims *)u;
    uint32_t i, left = 0;

    for (i = 0; i < ts->n; i++) {
        bool gone = atomic_load(&ts->parts[i]->topic->deleting);

        ts->entries[2 * i].skip = gone || !ts->entries[2 * i].plog;
        ts->entries[2 * i + 1].skip = gone || ts->entries[2 * i + 1].type != ENTRY_TIER_START;
        left += !gone;
    }
    if (!left)
        return ERR_TOPIC_NOT_FOUND;
    ts->ticket = broker_ticket_take(ts->b);
    return ERR_OK;
}

static void trims_done(struct journal_unit *u, enum err e)
{
    struct trims *ts = (struct trims *)u;
    uint32_t i;

    broker_frame_visible(ts->b, e);
    for (i = 0; !e && i < ts->n; i++) {
        if (!ts->entries[2 * i].skip)
            partition_trimmed(ts->parts[i], (int64_t)le64_load(ts->starts[i]), ts->ticket);
        if (!ts->entries[2 * i + 1].skip)
            partition_tier_raise(ts->parts[i], (int64_t)le64_load(ts->tiers[i] + 8), true);
    }
    broker_ticket_end(ts->b, ts->ticket);
    trims_free(ts);
}

static struct trims *trims_new(struct broker *b)
{
    struct trims *ts = xcalloc(1, sizeof *ts);

    ts->b = b;
    ts->entries = xcalloc(TRIMS_MAX, 2 * sizeof *ts->entries);
    ts->parts = xcalloc(TRIMS_MAX, sizeof(struct partition *));
    ts->starts = xcalloc(TRIMS_MAX, sizeof *ts->starts);
    ts->tiers = xcalloc(TRIMS_MAX, sizeof *ts->tiers);
    ts->unit.entries = ts->entries;
    ts->unit.sequence = trims_sequence;
    ts->unit.done = trims_done;
    return ts;
}

static void trims_submit(struct trims **tsp)
{
    struct trims *ts = *tsp;

    *tsp = NULL;
    if (!ts)
        return;
    ts->unit.n = 2 * ts->n;
    if (journal_append(ts->b->journal, &ts->unit, JOURNAL_NONBLOCK))
        trims_free(ts);
}

/* Where the partition is to begin: here (local 0: as it is), and in the lake (tier -1: as it is). */
static void trims_add(struct broker *b, struct trims **ts, struct partition *p, int64_t local,
                      int64_t tier)
{
    struct entry_tier_start en = {p->topic->id, (uint32_t)p->index, tier};
    struct journal_entry *entry;
    uint32_t i;

    if (!*ts)
        *ts = trims_new(b);
    i = (*ts)->n++;
    entry = &(*ts)->entries[2 * i];
    topic_ref(p->topic);
    (*ts)->parts[i] = p;
    le64_store((*ts)->starts[i], (uint64_t)local);
    entry_tier_start_write((*ts)->tiers[i], &en);
    if (local)
        entry[0] = (struct journal_entry){
            .type = ENTRY_LOG_START, .plog = p->log, .data = slice_of((*ts)->starts[i], 8)};
    if (tier >= 0)
        entry[1] = (struct journal_entry){
            .type = ENTRY_TIER_START, .data = slice_of((*ts)->tiers[i], ENTRY_TIER_START_BYTES)};
    if ((*ts)->n == TRIMS_MAX)
        trims_submit(ts);
}

/* What a rule may keep: older than ms and beyond bytes go (each -1: no rule). */
struct rule {
    int64_t ms, bytes;
};

static int64_t rule_offset(struct partition *p, struct rule r, int64_t wall_ms,
                           int64_t keep_records)
{
    int64_t from_ms = r.ms < 0 ? -1 : wall_ms - r.ms;

    if (r.ms < 0 && r.bytes < 0)
        return 0;
    return plog_retention_offset(p->log, from_ms < -1 ? -1 : from_ms,
                                 r.bytes < 0 ? UINT64_MAX : (uint64_t)r.bytes, keep_records);
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What is before this was here for so long that its age may end it. */
static int64_t settled_end(struct partition *p, int64_t end, int64_t retention_ms, int64_t wall_ms)
{
    if (wall_ms < p->seen[1].wall_ms - SETTLE_MS) /* the clock was ahead: it counts from now */
        p->seen[1].wall_ms = wall_ms;
    if (p->seen[1].wall_ms == 0 ||
        wall_ms - p->seen[1].wall_ms >= least(retention_ms / 2, SETTLE_MS)) {
        p->seen[0] = p->seen[1];
        p->seen[1].wall_ms = wall_ms;
        p->seen[1].end = end;
    }
    return p->seen[0].end;
}

/* By the topic's own rule. */
static int64_t topic_offset(struct partition *p, const struct topic_conf *c, int64_t end,
                            int64_t wall_ms)
{
    struct rule both = {c->retention_ms, c->retention_bytes}, bytes = {-1, c->retention_bytes};
    int64_t at = rule_offset(p, both, wall_ms, c->retention_records_min), settled;

    if (both.ms < 0)
        return at;
    settled = settled_end(p, end, both.ms, wall_ms);
    if (at <= settled)
        return at;
    return most(settled, rule_offset(p, bytes, wall_ms, c->retention_records_min));
}

/* A partition of which the lake has more than the local log, or is to have. */
static void tier_retain(struct broker *b, struct partition *p, const struct topic_conf *c,
                        const struct plog_info *now, int64_t wall_ms, struct trims **ts)
{
    struct rule here = {c->retention_ms, c->retention_bytes};
    int64_t own = topic_offset(p, c, now->end_offset, wall_ms);
    int64_t hold = c->lake_enable ? atomic_load(&p->hold) : INT64_MAX;
    int64_t tier = partition_start(p), local = now->start_offset, was = tier;

    if (c->local_retention_ms != -2)
        here.ms = c->local_retention_ms;
    if (c->local_retention_bytes != -2)
        here.bytes = c->local_retention_bytes;
    if (topic_conf_tiered(c))
        local = most(local, least(rule_offset(p, here, wall_ms, 0), hold));
    tier = most(tier, least(atomic_load(&p->expired), now->start_offset));
    if (tier >= now->start_offset) /* nothing is left in the lake */
        tier = most(tier, least(own, hold));
    local = most(local, tier);
    if (local == now->start_offset && tier == was)
        return;
    /* before the local log begins later: readers ask for what is then in the lake */
    partition_tier_raise(p, was, false);
    trims_add(b, ts, p, local > now->start_offset ? local : 0, tier);
}

static void topic_retain(struct broker *b, struct topic *t, int64_t wall_ms, struct trims **ts)
{
    struct topic_conf c;
    struct plog_info now;
    int64_t keep;
    int32_t i;

    topic_conf_get(t, &c);
    if (!(c.cleanup & TOPIC_CLEANUP_DELETE))
        return;
    for (i = 0; i < topic_partitions(t); i++) {
        struct partition *p = topic_partition_at(t, i);

        plog_info_get(p->log, &now);
        if (topic_conf_tiered(&c) || partition_start(p) < now.start_offset) {
            tier_retain(b, p, &c, &now, wall_ms, ts);
            continue;
        }
        if (now.start_offset == now.end_offset)
            continue;
        keep = topic_offset(p, &c, now.end_offset, wall_ms);
        if (c.lake_enable)
            keep = least(keep, atomic_load(&p->hold));
        if (keep > now.start_offset)
            trims_add(b, ts, p, keep, atomic_load(&p->tier_start) >= 0 ? keep : -1);
    }
}

void partition_hold(struct partition *p, int64_t offset)
{
    atomic_store(&p->hold, offset);
}

int64_t partition_covered(const struct partition *p)
{
    return atomic_load(&p->hold);
}

void retention_tick(struct broker *b, int64_t wall_ms)
{
    struct topic *list[STEP];
    struct trims *ts = NULL;
    uint32_t left;
    size_t i, n;

    io_mutex_lock(&b->topics_lock);
    left = b->topics.next_id / TURNS;
    io_mutex_unlock(&b->topics_lock);
    left = left < TOPICS_MIN ? TOPICS_MIN : left;
    while (left) {
        uint32_t step = left < STEP ? left : STEP;

        n = topics_walk(b, &b->retention_at, step, list, STEP);
        for (i = 0; i < n; i++) {
            topic_retain(b, list[i], wall_ms, &ts);
            topic_unref(&list[i]);
        }
        left -= step;
        if (b->retention_at == 0)
            break; /* once around */
    }
    trims_submit(&ts);
}
