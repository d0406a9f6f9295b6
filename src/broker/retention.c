/* Retention: removing what the topics' rules no longer keep. Once a second the background thread
 * looks at the next part of the topics (all of them about every 30 s, at least TOPICS_MIN a turn),
 * asks each log where it may begin, and appends one unit with the new starts. A unit that is
 * refused (too much in flight, disk full) is left for the next turn. Topics whose cleanup.policy is
 * only compact are not touched. Of topics that are in the lake, what is not there yet stays. */
#include <stdlib.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"

#define TOPICS_MIN 1024u
#define TURNS      30u
#define STEP       256u  /* topics at a time */
#define TRIMS_MAX  4096u /* in one unit */

struct trims {
    struct journal_unit unit; /* first */
    struct broker *b;
    uint64_t ticket;
    uint32_t n;
    struct journal_entry *entries;
    struct partition **parts; /* their topics are referenced */
    uint8_t (*starts)[8];
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
    free(ts);
}

static enum err trims_sequence(struct journal_unit *u)
{
    struct trims *ts = (struct trims *)u;
    uint32_t i, left = 0;

    for (i = 0; i < ts->n; i++) {
        ts->entries[i].skip = atomic_load(&ts->parts[i]->topic->deleting);
        left += !ts->entries[i].skip;
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
    for (i = 0; !e && i < ts->n; i++)
        if (!ts->entries[i].skip)
            partition_trimmed(ts->parts[i], (int64_t)le64_load(ts->starts[i]), ts->ticket);
    broker_ticket_end(ts->b, ts->ticket);
    trims_free(ts);
}

static struct trims *trims_new(struct broker *b)
{
    struct trims *ts = xcalloc(1, sizeof *ts);

    ts->b = b;
    ts->entries = xcalloc(TRIMS_MAX, sizeof *ts->entries);
    ts->parts = xcalloc(TRIMS_MAX, sizeof(struct partition *));
    ts->starts = xcalloc(TRIMS_MAX, 8);
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
    ts->unit.n = ts->n;
    if (journal_append(ts->b->journal, &ts->unit, JOURNAL_NONBLOCK))
        trims_free(ts);
}

static void trims_add(struct broker *b, struct trims **ts, struct partition *p, int64_t start)
{
    uint32_t i;

    if (!*ts)
        *ts = trims_new(b);
    i = (*ts)->n++;
    topic_ref(p->topic);
    (*ts)->parts[i] = p;
    le64_store((*ts)->starts[i], (uint64_t)start);
    (*ts)->entries[i] = (struct journal_entry){
        .type = ENTRY_LOG_START, .plog = p->log, .data = slice_of((*ts)->starts[i], 8)};
    if ((*ts)->n == TRIMS_MAX)
        trims_submit(ts);
}

static void topic_retain(struct broker *b, struct topic *t, int64_t wall_ms, struct trims **ts)
{
    struct topic_conf c;
    struct plog_info now;
    int64_t from_ms, keep;
    uint64_t bytes;
    int32_t i;

    topic_conf_get(t, &c);
    if (!(c.cleanup & TOPIC_CLEANUP_DELETE) || (c.retention_ms < 0 && c.retention_bytes < 0))
        return;
    from_ms = c.retention_ms < 0 ? -1 : wall_ms - c.retention_ms;
    if (from_ms < -1)
        from_ms = -1;
    bytes = c.retention_bytes < 0 ? UINT64_MAX : (uint64_t)c.retention_bytes;
    for (i = 0; i < topic_partitions(t); i++) {
        struct partition *p = topic_partition_at(t, i);

        plog_info_get(p->log, &now);
        if (now.start_offset == now.end_offset)
            continue;
        keep = plog_retention_offset(p->log, from_ms, bytes, c.retention_records_min);
        if (c.lake_enable && keep > atomic_load(&p->hold))
            keep = atomic_load(&p->hold);
        if (keep > now.start_offset)
            trims_add(b, ts, p, keep);
    }
}

void partition_hold(struct partition *p, int64_t offset)
{
    atomic_store(&p->hold, offset);
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
