/* The lake's thread, topics, requests and status. See lake.h.
 *
 *   round   each ROUND_MS, or when woken: some more topics are looked at for lake.enable, then every
 *           topic that has it gets its turn:
 *           jobs that were asked for -> a flush if it is due -> maintenance if it is due
 *   failure the topic waits, longer each time (1 s to 5 min); others go on; what to do is in its
 *           status and in the log
 *
 * One thread for all topics bounds what the lake takes of the machine: one flush at a time, one
 * Parquet writer, one upload. */
#include "lake/lake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/timefmt.h"
#include "base/topic_name.h"
#include "broker/tier.h"
#include "lake/catalog.h"
#include "lake/jsonl.h"
#include "lake/lake_int.h"

#define ROUND_MS      200u
#define IDLE_MS       1000u
#define TOPICS_STEP   256u /* looked at for lake.enable in a round */
#define FLUSHES_MAX   16u  /* of a topic in a round, when much waits */
#define BACKOFF_S_MAX 300u
#define COMPACT_EVERY 16u /* commits */
#define EXPIRE_NS     (600ull * 1000000000u)
#define RETAIN_NS     (5ull * 1000000000u)
#define TRIM_NS       (60ull * 1000000000u)

static const char *const job_names[LAKE_JOBS] = {"flush", "compact", "expire"};

static uint64_t now_ns(void)
{
    return io_mono_ns(io_real());
}

/* ---- opening ---- */

enum err lake_ready(struct lake *l, struct errinfo *info)
{
    struct catalog_rest_conf cc = l->conf.catalog;
    struct store_conf sc = l->conf.store;
    enum err e = ERR_OK;

    sc.stop = &l->stop;
    io_mutex_lock(&l->ready_lock);
    if (!l->store) {
        if (!l->conf.read_only || strncmp(sc.url, "file://", 7) != 0)
            e = io_mkdir(io_real(), l->conf.dir, info);
        if (!e)
            e = store_open(&sc, &l->store, info);
    }
    cc.stop = &l->stop;
    if (!e && !l->catalog)
        e = cc.uri ? catalog_rest_open(&cc, io_real(), &l->catalog, info)
                   : catalog_dir_open(l->store, io_real(), &l->catalog, info);
    io_mutex_unlock(&l->ready_lock);
    return e;
}

static void leftover_remove(void *arg, const char *name)
{
    const struct lake *l = arg;
    char path[600];
    size_t n = strlen(name);

    if (n > 8 && strcmp(name + n - 8, ".parquet") == 0) {
        snprintf(path, sizeof path, "%s/%s", l->conf.dir, name);
        io_unlink(io_real(), path, NULL);
    }
}

struct table *lake_table_find(struct lake *l, struct slice name)
{
    struct table *t;

    for (t = l->tables; t; t = t->next)
        if (slice_eq_str(name, t->name))
            return t;
    return NULL;
}

static void table_free(struct table *t)
{
    table_unload(t);
    if (t->view)
        lake_view_unref(t->view);
    free(t->shown);
    free(t->trimmed);
    free(t->kept);
    free(t->name);
    free(t);
}

struct table *lake_table_of(struct lake *l, struct topic *topic)
{
    struct table *t;
    uint32_t n = 0;

    io_mutex_lock(&l->lock);
    t = lake_table_find(l, slice_str(topic_name(topic)));
    if (!t) {
        for (t = l->tables; t; t = t->next)
            n++;
        if (n < LIMIT_LAKE_TOPICS) {
            t = xcalloc(1, sizeof *t);
            t->name = xstrdup(topic_name(topic));
            t->snapshot_id = -1;
            t->next = l->tables;
            l->tables = t;
        }
    }
    if (t)
        t->enabled = true;
    io_mutex_unlock(&l->lock);
    return t;
}

static bool topic_enabled(struct topic *t)
{
    struct topic_conf c;

    topic_conf_get(t, &c);
    return c.lake_enable;
}

/* ---- a topic's turn ---- */

/* What is not in the table yet, in records and (by the log's average) bytes. The table was looked at. */
static void pending(const struct table *t, struct topic *topic, uint64_t *records, uint64_t *bytes)
{
    struct plog_info now;
    int32_t i;

    *records = *bytes = 0;
    for (i = 0; i < topic_partitions(topic); i++) {
        struct partition *p = topic_partition(topic, i);
        int64_t from, end = partition_lso(p);
        double all;

        plog_info_get(partition_log(p), &now);
        from = t->covered && i < t->partitions_n ? t->covered[i] : now.start_offset;
        if (from < now.start_offset)
            from = now.start_offset;
        if (end <= from)
            continue;
        all = (double)(now.end_offset - now.start_offset);
        *records += (uint64_t)(end - from);
        *bytes += (uint64_t)((double)now.bytes * (double)(end - from) / all);
    }
}

static bool has_records(struct topic *topic)
{
    struct plog_info now;
    int32_t i;

    for (i = 0; i < topic_partitions(topic); i++) {
        plog_info_get(partition_log(topic_partition(topic, i)), &now);
        if (now.start_offset < now.end_offset)
            return true;
    }
    return false;
}

static void lag_note(struct lake *l, struct table *t, uint64_t records)
{
    io_mutex_lock(&l->lock);
    t->lag_records = (int64_t)records;
    io_mutex_unlock(&l->lock);
}

static bool flush_due(struct lake *l, struct table *t, struct topic *topic,
                      const struct topic_conf *c)
{
    uint64_t records, bytes, now = now_ns();

    pending(t, topic, &records, &bytes);
    lag_note(l, t, records);
    if (records == 0) {
        t->waiting_ns = 0;
        return false;
    }
    if (t->waiting_ns == 0)
        t->waiting_ns = now;
    return bytes >= (uint64_t)c->lake_max_bytes ||
           now - t->waiting_ns >= (uint64_t)c->lake_max_s * 1000000000u;
}

/* Notes how a step ended; false: the topic waits before the next. */
static bool outcome(struct lake *l, struct table *t, const char *what, enum err e,
                    const struct errinfo *info)
{
    uint64_t wait_s;

    if (e == ERR_CANCELLED)
        return false;
    io_mutex_lock(&l->lock);
    t->error = e;
    snprintf(t->why, sizeof t->why, "%s", e ? info->text : "");
    t->failures += e != ERR_OK;
    io_mutex_unlock(&l->lock);
    if (!e) {
        t->failed = 0;
        return true;
    }
    atomic_fetch_add(&l->failures, 1);
    wait_s = 1ull << (t->failed < 10 ? t->failed : 10);
    wait_s = wait_s > BACKOFF_S_MAX ? BACKOFF_S_MAX : wait_s;
    t->failed++;
    t->not_before_ns = now_ns() + wait_s * 1000000000u;
    LOG(l->conf.log, LOG_WARN, "the lake did not get on; it tries again", LOG_STR("topic", t->name),
        LOG_STR("step", what), LOG_STR("error", info->text), LOG_U64("wait_seconds", wait_s));
    return false;
}

/* ---- a topic's turn: tables and folders of lines ---- */

static bool is_jsonl(struct topic *topic)
{
    struct topic_conf c;

    topic_conf_get(topic, &c);
    return c.lake_format == LAKE_JSONL;
}

static enum err compact(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    t->commits_since = 0;
    return is_jsonl(topic) ? jsonl_compact(l, t, topic, info) : table_compact(l, t, topic, info);
}

static enum err expire(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    t->maintained_ns = now_ns();
    return is_jsonl(topic) ? jsonl_expire(l, t, topic, info) : table_expire(l, t, topic, info);
}

static enum err flush_all(struct lake *l, struct table *t, struct topic *topic, unsigned most,
                          struct errinfo *info)
{
    bool more = true, anew = false;
    enum err e = ERR_OK;

    while (!e && more && most--) {
        e = is_jsonl(topic) ? jsonl_flush(l, t, topic, &more, info)
                            : table_flush(l, t, topic, &more, info);
        /* somebody else's commit came between: look again, at once */
        if (e == ERR_CONFLICT && most)
            e = ERR_OK, more = true;
        if (e == ERR_NOT_FOUND &&
            !anew) /* the table at hand is old: others expired its snapshots */
            e = ERR_OK, more = anew = true;
    }
    if (!e && !more)
        t->waiting_ns = 0;
    return e;
}

static enum err job_run(struct lake *l, struct table *t, struct topic *topic, enum lake_job job,
                        struct errinfo *info)
{
    switch (job) {
    case LAKE_FLUSH:
        return flush_all(l, t, topic, UINT32_MAX, info);
    case LAKE_COMPACT:
        return compact(l, t, topic, info);
    default:
        return expire(l, t, topic, info);
    }
}

/* What was asked for. False: one failed. */
static bool jobs_run(struct lake *l, struct table *t, struct topic *topic)
{
    struct errinfo info = {0};
    uint64_t given;
    bool fine = true;
    enum err e;
    int j;

    for (j = 0; j < LAKE_JOBS; j++) {
        io_mutex_lock(&l->lock);
        given = t->job[j].given;
        e = given == t->job[j].done ? ERR_OK : ERR_AGAIN;
        io_mutex_unlock(&l->lock);
        if (!e)
            continue;
        e = job_run(l, t, topic, (enum lake_job)j, &info);
        fine = outcome(l, t, job_names[j], e, &info) && fine;
        io_mutex_lock(&l->lock);
        t->job[j].done = given;
        t->job[j].last = e;
        io_cond_broadcast(&l->jobs_change);
        io_mutex_unlock(&l->lock);
    }
    return fine;
}

static void maintain(struct lake *l, struct table *t, struct topic *topic)
{
    struct errinfo info = {0};

    if (t->md && t->commits_since >= COMPACT_EVERY &&
        !outcome(l, t, "compact", compact(l, t, topic, &info), &info))
        return;
    if (t->maintained_ns == 0)
        t->maintained_ns = now_ns();
    if ((t->md || t->jsonl) && now_ns() - t->maintained_ns > EXPIRE_NS)
        outcome(l, t, "expire", expire(l, t, topic, &info), &info);
}

static enum err look(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    return is_jsonl(topic) ? jsonl_load(l, t, topic, info) : table_look(l, t, topic, info);
}

static void turn(struct lake *l, struct table *t, struct topic *topic)
{
    struct errinfo info = {0};
    struct topic_conf c;
    enum err e;

    topic_conf_get(topic, &c);
    io_mutex_lock(&l->lock);
    t->enabled = c.lake_enable;
    t->shown_jsonl = c.lake_format == LAKE_JSONL;
    io_mutex_unlock(&l->lock);
    if (memcmp(t->uuid, topic_uuid(topic), sizeof t->uuid) != 0 ||
        (t->base && t->jsonl != (c.lake_format == LAKE_JSONL))) {
        table_unload(t);
        table_changed(l, t);
        t->trimmed_n = t->kept_n = 0;
        memcpy(t->uuid, topic_uuid(topic), sizeof t->uuid);
    }
    if (!c.lake_enable || !jobs_run(l, t, topic) || now_ns() < t->not_before_ns)
        return;
    /* what it covers, before it is said what is not in it; retention waits for that, too */
    if (!t->covered && !t->absent && has_records(topic) && (e = look(l, t, topic, &info))) {
        outcome(l, t, "load", e, &info);
        return;
    }
    if (flush_due(l, t, topic, &c) &&
        !outcome(l, t, "flush", flush_all(l, t, topic, FLUSHES_MAX, &info), &info))
        return;
    if (now_ns() - t->retained_ns > RETAIN_NS) {
        t->retained_ns = now_ns();
        lake_tier_retain(l, t, topic, &c);
    }
    if (lake_trims(&c) && t->md && now_ns() - t->trimmed_ns > TRIM_NS) {
        t->trimmed_ns = now_ns();
        outcome(l, t, "trim", lake_trim(l, t, topic, &info), &info);
    }
    maintain(l, t, topic);
}

/* ---- the thread ---- */

/* Looks at the next topics by name. */
static void discover(struct lake *l, char after[TOPIC_NAME_MAX + 1])
{
    struct topic *list[TOPICS_STEP];
    size_t i, n = topic_list(l->conf.broker, slice_str(after), NULL, list, TOPICS_STEP);

    after[0] = 0;
    for (i = 0; i < n; i++) {
        if (topic_enabled(list[i]))
            lake_table_of(l, list[i]);
        if (n == TOPICS_STEP && i == n - 1)
            snprintf(after, TOPIC_NAME_MAX + 1, "%s", topic_name(list[i]));
        topic_unref(&list[i]);
    }
}

static void round_run(struct lake *l)
{
    struct topic *topic;
    struct table *t;

    io_mutex_lock(&l->lock);
    t = l->tables;
    io_mutex_unlock(&l->lock);
    for (; t && !lake_stopping(l); t = t->next) { /* entries stay, new ones come in front */
        topic = topic_find(l->conf.broker, slice_str(t->name));
        if (topic) {
            turn(l, t, topic);
        } else {
            io_mutex_lock(&l->lock);
            t->enabled = false;
            io_mutex_unlock(&l->lock);
            table_unload(t);
        }
        topic_unref(&topic);
    }
}

static void lake_main(void *arg)
{
    char after[TOPIC_NAME_MAX + 1] = "";
    struct lake *l = arg;
    bool any;

    io_thread_confine(0);
    io_list(io_real(), l->conf.dir, leftover_remove, l, NULL);
    while (!lake_stopping(l)) {
        discover(l, after);
        round_run(l);
        io_mutex_lock(&l->lock);
        any = l->tables != NULL;
        io_mutex_unlock(&l->lock);
        io_event_wait(&l->wake, (any ? ROUND_MS : IDLE_MS) * 1000000ull);
    }
}

enum err lake_open(const struct lake_conf *conf, struct lake **out, struct errinfo *info)
{
    struct lake *l = xcalloc(1, sizeof *l);
    enum err e = ERR_OK;

    l->conf = *conf;
    if (!l->conf.file_bytes)
        l->conf.file_bytes = 128u << 20;
    if (!l->conf.orphan_age_ms)
        l->conf.orphan_age_ms = 86400000;
    if (!l->conf.cache_bytes)
        l->conf.cache_bytes = 1u << 30;
    if (!l->conf.merge_bytes)
        l->conf.merge_bytes = 16u << 20;
    io_mutex_init(&l->lock);
    io_cond_init(&l->jobs_change);
    io_mutex_init(&l->ready_lock);
    io_mutex_init(&l->cache_lock);
    io_cond_init(&l->cache_change);
    io_event_init(&l->wake);
    if (!l->conf.read_only)
        e = io_thread_start("weir-lake", IO_PRIO_BACKGROUND, lake_main, l, &l->thread, info);
    if (!e && !l->conf.read_only && l->conf.parquet.cursor_open)
        e = lake_tier_start(l, info);
    *out = l;
    if (e)
        lake_close(out);
    return e;
}

void lake_close(struct lake **lp)
{
    struct lake *l = *lp;
    struct table *t;

    *lp = NULL;
    if (!l)
        return;
    atomic_store(&l->stop, true);
    io_event_signal(&l->wake);
    if (l->thread)
        io_thread_join(&l->thread);
    if (!l->conf.read_only)
        tier_stop(l->conf.broker);
    while ((t = l->tables)) {
        l->tables = t->next;
        table_free(t);
    }
    lake_cache_fini(l);
    places_fini(l);
    catalog_close(&l->signing);
    catalog_close(&l->catalog);
    store_close(&l->store);
    io_event_fini(&l->wake);
    io_cond_fini(&l->jobs_change);
    io_mutex_fini(&l->lock);
    io_mutex_fini(&l->ready_lock);
    io_cond_fini(&l->cache_change);
    io_mutex_fini(&l->cache_lock);
    free(l);
}

/* ---- requests and status ---- */

static enum err topic_get(struct lake *l, struct slice name, struct topic **out,
                          struct errinfo *info)
{
    *out = topic_find(l->conf.broker, name);
    if (*out)
        return ERR_OK;
    return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                       (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr);
}

enum err lake_request(struct lake *l, struct slice name, enum lake_job job, uint64_t *ticket,
                      struct errinfo *info)
{
    struct topic *topic;
    struct table *t = NULL;
    enum err e = topic_get(l, name, &topic, info);

    if (e)
        return e;
    if (!topic_enabled(topic))
        e = errinfo_set(info, ERR_CONFLICT,
                        "the topic \"%s\" is not in the lake: set its lake.enable to true",
                        topic_name(topic));
    else if (!(t = lake_table_of(l, topic)))
        e = errinfo_set(info, ERR_LIMIT, "more than %u topics are in the lake", LIMIT_LAKE_TOPICS);
    topic_unref(&topic);
    if (e)
        return e;
    io_mutex_lock(&l->lock);
    *ticket = ++t->job[job].given;
    io_mutex_unlock(&l->lock);
    io_event_signal(&l->wake);
    return ERR_OK;
}

static enum err put_text(struct buf *out, const char *name, const char *value)
{
    enum err e = buf_printf(out, ",\"%s\":", name);

    return e ? e : json_write_string(out, slice_str(value));
}

static enum err put_jobs(const struct table *t, struct buf *out)
{
    enum err e = buf_append_str(out, ",\"jobs\":{");
    int j;

    for (j = 0; !e && j < LAKE_JOBS; j++)
        e = buf_printf(
            out, "%s\"%s\":{\"requested\":%" PRIu64 ",\"done\":%" PRIu64 ",\"outcome\":\"%s\"}",
            j ? "," : "", job_names[j], t->job[j].given, t->job[j].done, err_code(t->job[j].last));
    return e ? e : buf_append_str(out, "}");
}

/* Of each partition: the log's start, the local log's, what the table covers, the end. */
static enum err put_partitions(const struct lake *l, const struct table *t, struct buf *out)
{
    struct topic *topic = topic_find(l->conf.broker, slice_str(t->name));
    enum err e = buf_append_str(out, ",\"partitions\":[");
    int32_t i;

    for (i = 0; !e && topic && i < topic_partitions(topic); i++) {
        struct partition *p = topic_partition(topic, i);
        int64_t start = partition_start(p);
        struct plog_info now;

        plog_info_get(partition_log(p), &now);
        e = buf_printf(out,
                       "%s{\"partition\":%d,\"start\":%" PRId64 ",\"local_start\":%" PRId64
                       ",\"covered\":%" PRId64 ",\"end\":%" PRId64 "}",
                       i ? "," : "", (int)i, start, now.start_offset,
                       (uint32_t)i < t->shown_n ? t->shown[i] : start, now.end_offset);
    }
    topic_unref(&topic);
    return e ? e : buf_append_str(out, "]");
}

/* l->lock is held. */
static enum err put_table(const struct lake *l, const struct table *t, struct buf *out)
{
    char when[TIME_TEXT_LEN + 1];
    enum err e = buf_append_str(out, "{\"topic\":");
    uint32_t i;

    if (!e)
        e = json_write_string(out, slice_str(t->name));
    if (!e)
        e = buf_printf(out, ",\"enabled\":%s,\"format\":\"%s\",\"table\":\"%s.%s\",\"snapshot\":",
                       t->enabled ? "true" : "false", t->shown_jsonl ? "jsonl" : "iceberg",
                       l->conf.namespace_, t->name);
    if (!e)
        e = t->snapshot_id < 0 ? buf_append_str(out, "null")
                               : buf_printf(out, "%" PRId64, t->snapshot_id);
    if (!e)
        e = buf_append_str(out, ",\"covered\":[");
    for (i = 0; !e && i < t->shown_n; i++)
        e = buf_printf(out, "%s%" PRId64, i ? "," : "", t->shown[i]);
    if (!e)
        e = buf_printf(out,
                       "],\"lag\":%" PRId64 ",\"commits\":%" PRIu64 ",\"files\":%" PRIu64
                       ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"failures\":%" PRIu64
                       ",\"lost\":%" PRIu64,
                       t->lag_records, t->commits, t->files, t->records, t->bytes, t->failures,
                       t->lost);
    if (!e && t->last_commit_ms) {
        time_format(t->last_commit_ms, when);
        e = put_text(out, "last_commit", when);
    }
    if (!e && t->error)
        e = put_text(out, "error", err_code(t->error));
    if (!e && t->error)
        e = put_text(out, "message", t->why);
    if (!e)
        e = buf_printf(out,
                       ",\"table_records\":%" PRId64 ",\"table_files\":%" PRId64
                       ",\"table_bytes\":%" PRId64,
                       t->rows_all, t->files_all, t->bytes_all);
    if (!e)
        e = put_partitions(l, t, out);
    if (!e)
        e = put_jobs(t, out);
    return e ? e : buf_append_str(out, "}");
}

enum err lake_status(struct lake *l, struct slice name, struct buf *out, struct errinfo *info)
{
    struct topic *topic;
    struct table *t;
    enum err e = topic_get(l, name, &topic, info);

    if (e)
        return e;
    topic_unref(&topic);
    io_mutex_lock(&l->lock);
    t = lake_table_find(l, name);
    if (t)
        e = put_table(l, t, out);
    else
        e = errinfo_set(info, ERR_CONFLICT,
                        "the topic \"%.*s\" is not in the lake: set its lake.enable to true",
                        (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr);
    io_mutex_unlock(&l->lock);
    return e;
}

enum err lake_status_all(struct lake *l, bool (*allowed)(void *arg, struct slice topic), void *arg,
                         struct buf *out)
{
    enum err e = buf_append_str(out, "{\"topics\":[");
    const struct table *t;
    bool any = false;

    io_mutex_lock(&l->lock);
    for (t = l->tables; !e && t; t = t->next) {
        if (!allowed(arg, slice_str(t->name)))
            continue;
        if (any)
            e = buf_append_u8(out, ',');
        any = true;
        if (!e)
            e = put_table(l, t, out);
    }
    io_mutex_unlock(&l->lock);
    return e ? e : buf_append_str(out, "]}");
}

static enum err put_counter(struct buf *out, const char *name, const char *help, uint64_t v)
{
    return buf_printf(out, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n", name, help, name,
                      name, v);
}

static enum err put_lags(struct lake *l, struct buf *out)
{
    enum err e = buf_append_str(out, "# HELP weir_lake_lag_records Records not in the table yet.\n"
                                     "# TYPE weir_lake_lag_records gauge\n");
    const struct table *t;
    uint32_t n = 0;

    io_mutex_lock(&l->lock);
    for (t = l->tables; !e && t && n < LIMIT_METRIC_GROUPS; t = t->next, n++)
        if (t->enabled)
            e = buf_printf(out, "weir_lake_lag_records{topic=\"%s\"} %" PRId64 "\n", t->name,
                           t->lag_records);
    io_mutex_unlock(&l->lock);
    return e;
}

enum err lake_metrics(struct lake *l, struct buf *out)
{
    static const char *const names[][2] = {
        {"weir_lake_commits_total", "Snapshots committed."},
        {"weir_lake_failures_total", "Steps of the lake that failed."},
        {"weir_lake_records_total", "Records written to tables."},
        {"weir_lake_bytes_total", "Bytes of Parquet files uploaded."},
        {"weir_lake_compactions_total", "Compactions committed."},
        {"weir_lake_expired_snapshots_total", "Snapshots expired."},
        {"weir_lake_orphans_total", "Files removed that no snapshot had."},
        {"weir_lake_replayed_records_total", "Records read from tables for readers of the log."},
        {"weir_lake_replayed_bytes_total", "Bytes of the batches made of them."},
        {"weir_lake_replay_failures_total", "Reads of older records that failed."},
        {"weir_lake_fetched_bytes_total", "Bytes of objects copied for queries."}};
    struct tier_stats tier;
    enum err e = ERR_OK;
    size_t i;

    tier_stats_get(l->conf.broker, &tier);
    const uint64_t v[] = {atomic_load(&l->commits),
                          atomic_load(&l->failures),
                          atomic_load(&l->records),
                          atomic_load(&l->bytes),
                          atomic_load(&l->compactions),
                          atomic_load(&l->expired),
                          atomic_load(&l->orphans),
                          tier.records,
                          tier.bytes,
                          tier.failures,
                          atomic_load(&l->fetched)};
    for (i = 0; !e && i < sizeof v / sizeof *v; i++)
        e = put_counter(out, names[i][0], names[i][1], v[i]);
    if (!e)
        e = buf_printf(out,
                       "# HELP weir_lake_replay_cache_bytes Batches made of older records, in "
                       "memory.\n# TYPE weir_lake_replay_cache_bytes gauge\n"
                       "weir_lake_replay_cache_bytes %" PRIu64 "\n",
                       tier.cached_bytes);
    return e ? e : put_lags(l, out);
}
