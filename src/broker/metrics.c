/* Prometheus text (exposition format 0.0.4) of broker and journal: names weir_…, base units (bytes,
 * seconds). Any thread. */
#include <inttypes.h>

#include "base/buf.h"
#include "broker/broker_int.h"
#include "broker/notices.h"
#include "journal/compact.h"

static enum err metric(struct buf *out, enum err e, const char *name, const char *type,
                       const char *help, double value)
{
    return e ? e
             : buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type,
                          name, value);
}

static enum err journal_metrics(struct broker *b, struct buf *o)
{
    struct journal_stats s;
    enum err e = ERR_OK;

    journal_stats_get(b->journal, &s);
    e = metric(o, e, "weir_journal_frames_total", "counter", "Frames written.", (double)s.frames);
    e = metric(o, e, "weir_journal_entries_total", "counter", "Entries written.",
               (double)s.entries);
    e = metric(o, e, "weir_journal_used_bytes_total", "counter", "Bytes of frames without padding.",
               (double)s.bytes_used);
    e = metric(o, e, "weir_journal_written_bytes_total", "counter",
               "Bytes written, with padding and rewriting.", (double)s.bytes_written);
    e = metric(o, e, "weir_journal_sync_last_seconds", "gauge", "Duration of the last frame write.",
               (double)s.sync_ns_last / 1e9);
    e = metric(o, e, "weir_journal_sync_max_seconds", "gauge",
               "Longest frame write since the start.", (double)s.sync_ns_max / 1e9);
    e = metric(o, e, "weir_journal_disk_bytes", "gauge", "Bytes of all data files.",
               (double)s.disk_bytes);
    e = metric(o, e, "weir_journal_files", "gauge", "Data files.", s.files);
    e = metric(o, e, "weir_journal_segments", "gauge", "Rewritten files.", s.segments);
    e = metric(o, e, "weir_journal_tail_bytes", "gauge", "Frames kept in memory for readers.",
               (double)s.tail_bytes);
    e = metric(o, e, "weir_journal_cache_bytes", "gauge", "Of files, kept in memory for readers.",
               (double)s.cache_bytes);
    e = metric(o, e, "weir_journal_inflight_bytes", "gauge", "Bytes accepted but not yet durable.",
               (double)journal_inflight(b->journal));
    e = metric(o, e, "weir_position_end", "gauge", "First position not used yet.",
               (double)s.position_end);
    return e;
}

static enum err compaction_metrics(struct broker *b, struct buf *o)
{
    struct compact_stats s;
    enum err e = ERR_OK;

    journal_compact_stats(b->journal, &s);
    e = metric(o, e, "weir_compactions_total", "counter", "Compactions done.", (double)s.jobs);
    e = metric(o, e, "weir_compaction_failures_total", "counter",
               "Compactions given up: damage, a full disk, a failed write.", (double)s.failed);
    e = metric(o, e, "weir_compaction_partitions_total", "counter", "Partitions compacted.",
               (double)s.logs);
    e = metric(o, e, "weir_compaction_removed_records_total", "counter",
               "Records that compaction removed.", (double)(s.records_in - s.records_out));
    e = metric(o, e, "weir_compaction_read_bytes_total", "counter",
               "Bytes of batches that compaction read.", (double)s.bytes_in);
    return metric(o, e, "weir_compaction_written_bytes_total", "counter",
                  "Bytes of segments that compaction wrote.", (double)s.bytes_out);
}

static enum err cursor_metrics(struct broker *b, struct buf *o)
{
    struct cursors *cs = &b->cursors;
    const struct {
        const char *name, *help;
        _Atomic uint64_t *n;
    } rows[] = {
        {"weir_cursor_taken_total", "Records given out with a lease.", &cs->st_taken},
        {"weir_cursor_redelivered_total", "Of them, not for the first time.", &cs->st_redelivered},
        {"weir_cursor_accepted_total", "Records accepted.", &cs->st_accepted},
        {"weir_cursor_released_total", "Records to be delivered again.", &cs->st_released},
        {"weir_cursor_archived_total", "Records rejected, or delivered too often.",
         &cs->st_archived},
        {"weir_cursor_expired_total", "Records whose lease ended.", &cs->st_expired},
        {"weir_cursor_dead_letters_total", "Records copied to dead letter topics.",
         &cs->st_dead_letters},
        {"weir_cursor_dead_letters_lost_total", "Records that could not be copied.",
         &cs->st_dead_letters_lost},
    };
    size_t i, n;
    enum err e = ERR_OK;

    io_mutex_lock(&cs->lock);
    n = cs->by_key.n;
    io_mutex_unlock(&cs->lock);
    e = metric(o, e, "weir_cursors", "gauge", "Groups times the partitions that they share.",
               (double)n);
    e = metric(o, e, "weir_cursor_records", "gauge", "Records in flight.",
               (double)atomic_load(&cs->undone));
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        e = metric(o, e, rows[i].name, "counter", rows[i].help, (double)atomic_load(rows[i].n));
    return e;
}

static enum err producer_metrics(struct broker *b, struct buf *o)
{
    struct producers *ps = &b->producers;
    enum err e;

    e = metric(o, ERR_OK, "weir_producer_duplicates_total", "counter",
               "Batches of idempotent producers not written because they were there.",
               (double)atomic_load(&ps->st_duplicates));
    e = metric(o, e, "weir_transactions_committed_total", "counter", "Transactions committed.",
               (double)atomic_load(&ps->st_committed));
    return metric(o, e, "weir_transactions_aborted_total", "counter",
                  "Transactions aborted, by their producers or for them.",
                  (double)atomic_load(&ps->st_aborted));
}

enum err broker_metrics(struct broker *b, struct buf *o)
{
    uint64_t offsets, metadata, items, item_bytes, told, dropped;
    enum err e = ERR_OK;

    io_mutex_lock(&b->items_lock);
    offsets = b->groups.offsets_n;
    metadata = b->groups.metadata_bytes;
    items = b->kvs.live;
    item_bytes = b->kvs.bytes;
    io_mutex_unlock(&b->items_lock);
    e = metric(o, e, "weir_writable", "gauge", "1 if writes are accepted.",
               broker_writable(b, NULL) == ERR_OK);
    e = metric(o, e, "weir_topics", "gauge", "Topics.", (double)topic_count(b));
    e = metric(o, e, "weir_appends_total", "counter", "Atomic appends made durable.",
               (double)atomic_load(&b->st_appends));
    e = metric(o, e, "weir_append_errors_total", "counter", "Atomic appends that failed.",
               (double)atomic_load(&b->st_append_errors));
    e = metric(o, e, "weir_append_records_total", "counter", "Records made durable.",
               (double)atomic_load(&b->st_records));
    e = metric(o, e, "weir_append_bytes_total", "counter", "Encoded bytes of those records.",
               (double)atomic_load(&b->st_bytes));
    e = metric(o, e, "weir_append_duplicates_total", "counter",
               "Records not written because their id was there.",
               (double)atomic_load(&b->st_duplicates));
    e = metric(o, e, "weir_dedup_ids", "gauge", "Ids remembered.", (double)dedup_count(b->dedup));
    e = metric(o, e, "weir_readers", "gauge", "Open readers.", (double)atomic_load(&b->st_readers));
    e = metric(o, e, "weir_waiters", "gauge", "Readers waiting for records.",
               atomic_load(&b->waiters_n));
    e = metric(o, e, "weir_trims_total", "counter", "Times a partition's start moved up.",
               (double)atomic_load(&b->st_trims));
    e = metric(o, e, "weir_group_offsets", "gauge", "Committed offsets.", (double)offsets);
    e = metric(o, e, "weir_group_metadata_bytes", "gauge", "Bytes of metadata stored with them.",
               (double)metadata);
    e = e ? e : group_metrics(b, o);
    e = metric(o, e, "weir_kv_items", "gauge", "Key-value items.", (double)items);
    e = metric(o, e, "weir_kv_bytes", "gauge", "Bytes of key-value items.", (double)item_bytes);
    notices_count(b, &told, &dropped);
    e = metric(o, e, "weir_notices_total", "counter",
               "Events told in the topic of events (events.publish).", (double)told);
    e = metric(o, e, "weir_notices_dropped_total", "counter",
               "Events not told: too many were waiting, or writing them failed.", (double)dropped);
    e = e ? e : producer_metrics(b, o);
    e = e ? e : cursor_metrics(b, o);
    e = e ? e : compaction_metrics(b, o);
    return e ? e : journal_metrics(b, o);
}
