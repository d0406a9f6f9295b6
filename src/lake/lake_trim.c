/* Rows below the log's start leave the table, when the topic has tiers and lake.retention.ms does not
 * say otherwise: retention.ms and retention.bytes are about all that the topic keeps, and who deletes
 * records means those in the table, too.
 *
 * The start moves first, durably; then files go whose rows are all below it, and of those that have
 * some below it the rest is written anew. A file's bounds say which files to look at; where several
 * partitions share one, their bounds are those of all of them, so the file itself is asked.
 *
 * Threads: the lake's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/tier.h"
#include "lake/lake_int.h"

struct trim {
    struct lake *l;
    struct table *t;
    int64_t *start; /* of each partition */
    int32_t n;
    struct table_survey s;
    const struct table_file **gone;
    const struct table_file **mixed;
    uint32_t gone_n, mixed_n;
};

bool lake_trims(const struct topic_conf *c)
{
    struct topic_conf on = *c; /* what was taken out of the lake is read on, but its table stays */

    on.lake_enable = true;
    return c->lake_retention_ms == -2 && topic_conf_tiered(&on);
}

/* Has the file rows of the partition in [from, to)? */
static enum err has_rows(const struct trim *m, const struct table_file *s, int32_t partition,
                         int64_t from, int64_t to, bool *some, struct errinfo *info)
{
    const struct lake_parquet *pq = &m->l->conf.parquet;
    char at[STORE_LOCATION_MAX + 1], path[512];
    struct lake_cursor_conf c = {.path = path,
                                 .columns = m->t->columns.c,
                                 .columns_n = m->t->columns.n,
                                 .partition = partition,
                                 .from = from,
                                 .to = to,
                                 .ts_min_ms = INT64_MIN,
                                 .places_only = true};
    const struct lake_record *r;
    void *cursor = NULL;
    enum err e;

    snprintf(at, sizeof at, "%.*s", (int)s->file.path.len, (const char *)s->file.path.ptr);
    e = lake_file_pin(m->l, at, (uint64_t)s->file.bytes, path, info);
    if (e)
        return e;
    e = pq->cursor_open(pq->arg, &c, &cursor, info);
    if (!e) {
        e = pq->cursor_next(cursor, &r, info);
        *some = !e;
        pq->cursor_close(cursor);
    }
    lake_file_unpin(m->l, at);
    return e == ERR_EOF ? ERR_OK : e;
}

/* Whether rows of the file are below the starts, and whether others are not. */
static enum err look(const struct trim *m, const struct table_file *s, bool *below, bool *above,
                     struct errinfo *info)
{
    int64_t first, last, min, max, p;
    bool all = true, some = false;
    enum err e = ERR_OK;

    file_bounds(&s->file, COLUMN_PARTITION, ICE_INT, &first, &last);
    file_bounds(&s->file, COLUMN_OFFSET, ICE_LONG, &min, &max);
    *below = *above = false;
    for (p = first < 0 ? 0 : first; p <= last && p < m->n; p++) {
        some = some || m->start[p] > min;
        all = all && m->start[p] > max;
    }
    if (!some || all) {
        *below = some;
        *above = !some;
        return ERR_OK;
    }
    for (p = first < 0 ? 0 : first; !e && p <= last && p < m->n && !(*below && *above); p++) {
        if (!*below && m->start[p] > min)
            e = has_rows(m, s, (int32_t)p, 0, m->start[p], below, info);
        if (!e && !*above && m->start[p] <= max)
            e = has_rows(m, s, (int32_t)p, m->start[p], INT64_MAX, above, info);
    }
    return e;
}

static enum err sort(struct trim *m, struct errinfo *info)
{
    enum err e = ERR_OK;
    bool below, above;
    uint32_t i;

    for (i = 0; !e && i < m->s.n; i++) {
        if (lake_stopping(m->l))
            return errinfo_set(info, ERR_CANCELLED, "the server stops");
        e = look(m, &m->s.seen[i], &below, &above, info);
        if (e || !below)
            continue;
        if (!above)
            m->gone[m->gone_n++] = &m->s.seen[i];
        else if (m->s.seen[i].spec_id == m->t->spec->id) /* else it goes when all of it may */
            m->mixed[m->mixed_n++] = &m->s.seen[i];
    }
    return e;
}

/* The file without what is below the starts. */
static enum err write_rest(struct trim *m, const struct table_file *s, struct errinfo *info)
{
    struct lake_range *drop = xcalloc((size_t)m->n, sizeof *drop);
    int64_t first, last, min, max, p;
    uint32_t n = 0;
    enum err e;

    file_bounds(&s->file, COLUMN_PARTITION, ICE_INT, &first, &last);
    file_bounds(&s->file, COLUMN_OFFSET, ICE_LONG, &min, &max);
    for (p = first < 0 ? 0 : first; p <= last && p < m->n; p++)
        if (m->start[p] > min)
            drop[n++] = (struct lake_range){(int32_t)p, 0, m->start[p]};
    e = files_merge(m->l, m->t, s, 1, drop, n, &m->s.a, info);
    free(drop);
    return e;
}

static enum err remove_all(struct trim *m, struct errinfo *info)
{
    enum err e = files_delete(m->l, m->t, m->gone, m->gone_n, info);
    uint32_t i;

    for (i = 0; !e && m->t->md && i < m->mixed_n; i++)
        e = write_rest(m, m->mixed[i], info);
    return e;
}

static void starts_get(struct trim *m, struct topic *topic)
{
    int32_t i;

    m->n = topic_partitions(topic);
    m->start = xcalloc((size_t)m->n + 1, sizeof *m->start);
    for (i = 0; i < m->n; i++)
        m->start[i] = partition_start(topic_partition(topic, i));
}

/* Nothing moved since the table was trimmed last. */
static bool is_trimmed(const struct trim *m)
{
    return m->t->trimmed && m->t->trimmed_n == m->n &&
           memcmp(m->t->trimmed, m->start, (size_t)m->n * sizeof *m->start) == 0;
}

enum err lake_trim(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    struct trim m = {.l = l, .t = t};
    struct topic_conf c;
    enum err e = ERR_OK;

    topic_conf_get(topic, &c);
    if (!lake_trims(&c) || !l->conf.parquet.cursor_open)
        return ERR_OK;
    starts_get(&m, topic);
    if (!is_trimmed(&m) && !(e = table_load(l, t, topic, info))) {
        e = table_survey_make(l, t, UINT64_MAX, INT64_MAX, NULL, &m.s, info);
        m.gone = xcalloc((size_t)m.s.n + 1, sizeof *m.gone);
        m.mixed = xcalloc((size_t)m.s.n + 1, sizeof *m.mixed);
        e = e ? e : sort(&m, info);
        e = e ? e : remove_all(&m, info);
        table_survey_fini(&m.s);
        free(m.gone);
        free(m.mixed);
    }
    if (e) {
        free(m.start);
        return e;
    }
    free(t->trimmed);
    t->trimmed = m.start;
    t->trimmed_n = m.n;
    return ERR_OK;
}
