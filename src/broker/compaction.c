/* Compaction: which logs, and when. Once a second the background thread looks at the next part of
 * the topics whose cleanup.policy has compact, and hands the partitions that are due to the journal:
 *
 *   - more than min.cleanable.dirty.ratio of what is in sealed files was not compacted yet, or the
 *     oldest of it is older than max.compaction.lag.ms;
 *   - what is younger than min.compaction.lag.ms is left alone;
 *   - if there is something older than max.compaction.lag.ms in the file being written, that file is
 *     cut short, at most once in ROLL_MS.
 *
 * Small logs go together into one job, so that they share its segment: up to ITEMS_MAX logs or
 * JOB_BYTES. While a job is under way nothing is looked at. */
#include "broker/compaction.h"

#include "broker/broker_int.h"
#include "broker/removed.h"
#include "journal/batch.h"
#include "journal/compact.h"

#define TOPICS_MIN 1024u /* looked at in one turn */
#define TURNS      30u   /* in which all topics are looked at, if they are more */
#define STEP       256u
#define JOB_BYTES  (256ull << 20)
#define ROLL_MS    60000 /* between files cut short, each of which costs what is left of it */

_Static_assert(REMOVED_BLOCK == COMPACT_BLOCK, "bits of removed records");

struct plan {
    struct compact_item item[COMPACT_ITEMS_MAX];
    struct topic *topic[COMPACT_ITEMS_MAX]; /* referenced until the journal has the log */
    unsigned n;
    uint64_t bytes;
    bool roll; /* some log waits for the file being written to be sealed */
};

/* The oldest record above the clean end, by its batch's first timestamp; INT64_MAX if unknown. */
static int64_t dirty_since(struct plog *log, int64_t clean_end)
{
    struct plog_read r = {0};
    struct batch_info bi;
    int64_t ts = INT64_MAX;

    if (plog_read(log, clean_end, 1, &r, NULL) == ERR_OK && r.n &&
        batch_parse(r.batch[0].data, &bi) == ERR_OK)
        ts = bi.attributes & BATCH_LOG_APPEND_TIME ? bi.max_ts : bi.base_ts;
    plog_read_release(&r);
    return ts;
}

/* A log whose next compaction would come too late: its oldest records are in the file being written,
 * which may take long to fill up. */
static bool overdue(struct plog *log, const struct topic_conf *c,
                    const struct plog_compact_info *now, int64_t wall_ms)
{
    int64_t from = now->sealed_end > now->clean_end ? now->sealed_end : now->clean_end;
    struct plog_info all;

    if (c->max_compaction_lag_ms >= wall_ms)
        return false;
    plog_info_get(log, &all);
    return all.end_offset > from && dirty_since(log, from) < wall_ms - c->max_compaction_lag_ms;
}

static bool due(struct plog *log, const struct topic_conf *c, const struct plog_compact_info *now,
                int64_t wall_ms)
{
    double all = (double)now->clean_bytes + (double)now->dirty_bytes;
    double ratio = (double)c->min_cleanable_ratio / TOPIC_RATIO_ONE;

    if (now->dirty_bytes == 0)
        return false;
    if ((double)now->dirty_bytes > ratio * all)
        return true;
    return c->max_compaction_lag_ms < wall_ms &&
           dirty_since(log, now->clean_end) < wall_ms - c->max_compaction_lag_ms;
}

static bool removed_bits(void *arg, uint64_t id, uint64_t block, uint8_t *bits)
{
    return removed_get(arg, (uint32_t)id, block, bits);
}

/* False: the plan is full. */
static bool plan_add(struct plan *pl, struct partition *p, const struct topic_conf *c,
                     int64_t wall_ms)
{
    struct plog_compact_info now;

    if (plog_compact_waits(p->log) || plog_compact_info_get(p->log, &now, NULL))
        return true;
    pl->roll = pl->roll || overdue(p->log, c, &now, wall_ms);
    if (!due(p->log, c, &now, wall_ms))
        return true;
    pl->item[pl->n] = (struct compact_item){
        .log = p->log,
        .newest_ms = c->min_compaction_lag_ms ? wall_ms - c->min_compaction_lag_ms : INT64_MAX,
        .delete_retention_ms = c->delete_retention_ms,
        .newest = (uint32_t)c->compaction_records};
    if (c->compaction_by_offset) {
        pl->item[pl->n].removed = removed_bits;
        pl->item[pl->n].removed_arg = p->topic->broker;
        pl->item[pl->n].removed_id = p->topic->id;
    }
    pl->topic[pl->n++] = topic_ref(p->topic);
    pl->bytes += now.clean_bytes + now.dirty_bytes;
    return pl->n < COMPACT_ITEMS_MAX && pl->bytes < JOB_BYTES;
}

/* False: the plan is full. Next time the topic goes on behind the partition that filled it. */
static bool topic_plan(struct broker *b, struct topic *t, struct plan *pl, int64_t wall_ms)
{
    struct topic_conf c;
    int32_t i = t->id == b->compaction_topic ? b->compaction_partition : 0;
    int32_t n = topic_partitions(t);

    b->compaction_topic = 0;
    if (!topic_compacted(t))
        return true;
    topic_conf_get(t, &c);
    for (; i < n; i++)
        if (!plan_add(pl, topic_partition_at(t, i), &c, wall_ms)) {
            b->compaction_topic = t->id;
            b->compaction_partition = i + 1;
            return false;
        }
    return true;
}

/* Looks at up to `probes` topics; false: the plan is full or all topics were looked at. */
static bool topics_plan(struct broker *b, uint32_t probes, struct plan *pl, int64_t wall_ms)
{
    struct topic *list[STEP];
    bool room = true;
    size_t i, n = topics_walk(b, &b->compaction_at, probes, list, STEP);

    for (i = 0; i < n; i++) {
        if (room && !topic_plan(b, list[i], pl, wall_ms)) {
            room = false;
            b->compaction_at = list[i]->id; /* goes on in it */
        }
        topic_unref(&list[i]);
    }
    return room && b->compaction_at != 0;
}

void compaction_tick(struct broker *b, int64_t wall_ms)
{
    struct plan pl = {.n = 0};
    uint32_t left;

    if (journal_compacting(b->journal))
        return;
    io_mutex_lock(&b->topics_lock);
    left = b->topics.next_id / TURNS;
    io_mutex_unlock(&b->topics_lock);
    left = left < TOPICS_MIN ? TOPICS_MIN : left;
    while (left && topics_plan(b, left < STEP ? left : STEP, &pl, wall_ms))
        left -= left < STEP ? left : STEP;
    if (pl.roll && wall_ms - b->rolled_ms >= ROLL_MS) {
        b->rolled_ms = wall_ms;
        journal_roll(b->journal);
    }
    if (pl.n)
        journal_compact(b->journal, pl.item, pl.n, wall_ms);
    while (pl.n)
        topic_unref(&pl.topic[--pl.n]);
}
