/* Which records a flush takes: from the covered offsets to the last stable ones, until a limit is
 * reached, sorted into the partitions of the table ("groups") as runs of offsets. Their values are
 * computed by the same transforms that the table's spec names, record by record, so that a file has
 * exactly the rows that its partition says.
 *
 * Memory: groups and runs are limited; records are looked at where the log has them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lake/lake_int.h"

#define READ_BYTES (1u << 20)
#define KEY_BYTES  (LIMIT_LAKE_SPEC_FIELDS * (5u + 1024u))

struct pass {
    struct lake *l;
    struct table *t;
    struct scan *s;
    struct group *last; /* of the record before: most records are in the same group */
    struct buf key;     /* the group key of the record at hand */
    uint32_t value_at[LIMIT_LAKE_SPEC_FIELDS], value_len[LIMIT_LAKE_SPEC_FIELDS];
    uint64_t limit;
    struct buf text; /* of a value taken out of a record */
};

/* ---- groups ---- */

static enum err value_of(struct pass *p, int32_t column, int32_t partition, const struct record *r,
                         uint64_t position, struct ice_value *v)
{
    const struct lake_parquet *pq = &p->l->conf.parquet;
    const struct lake_column *c;

    memset(v, 0, sizeof *v);
    switch (column) {
    case COLUMN_PARTITION:
        v->i = partition;
        return ERR_OK;
    case COLUMN_OFFSET:
        v->i = r->offset;
        return ERR_OK;
    case COLUMN_POSITION:
        v->i = (int64_t)position;
        return ERR_OK;
    case COLUMN_TIMESTAMP:
        v->i = (int64_t)((uint64_t)r->timestamp_ms * 1000u);
        return ERR_OK;
    case COLUMN_KEY:
        v->bytes = r->key;
        break;
    case COLUMN_VALUE:
        v->bytes = r->value;
        break;
    default:
        c = columns_find(&p->t->columns, column);
        if (!c || (c->source != LAKE_FIELD && c->source != LAKE_CE_TYPE && c->source != LAKE_CE_ID))
            return ERR_UNSUPPORTED;
        return pq->column_value(pq->arg, c, r, v, &p->text);
    }
    v->null = slice_is_null(v->bytes);
    return ERR_OK;
}

/* The values of the table's partition fields, encoded one behind the other. */
static enum err key_make(struct pass *p, int32_t partition, const struct record *r,
                         uint64_t position, struct errinfo *info)
{
    const struct spec *sp = p->t->spec;
    enum err e = ERR_OK;
    uint32_t i;

    buf_clear(&p->key);
    for (i = 0; !e && i < sp->n; i++) {
        const struct spec_field *f = &sp->field[i];
        struct ice_value v, out = ICE_NULL;
        uint8_t scratch[16];

        if (f->transform.kind == TRANSFORM_VOID)
            v = ICE_NULL;
        else if (value_of(p, f->source_id, partition, r, position, &v) ||
                 f->transform.kind == TRANSFORM_UNKNOWN)
            return errinfo_set(info, ERR_UNSUPPORTED,
                               "the table is partitioned by \"%.60s\", which cannot be computed "
                               "from records' own columns",
                               f->name);
        if (!v.null)
            transform_apply(f->transform, f->source, &v, scratch, &out);
        e = buf_append_u8(&p->key, out.null);
        p->value_at[i] = (uint32_t)p->key.len;
        if (!e && !out.null)
            e = ice_value_write(f->result, &out, &p->key);
        p->value_len[i] = (uint32_t)p->key.len - p->value_at[i];
    }
    return e ? errinfo_set(info, e, "a record's partition value is too large") : ERR_OK;
}

static struct group *group_find(struct pass *p)
{
    struct slice key = buf_slice(&p->key);
    struct group *g = p->last;

    if (g && slice_eq(slice_of(g->key, g->key_len), key))
        return g;
    for (g = p->s->groups; g; g = g->next)
        if (slice_eq(slice_of(g->key, g->key_len), key))
            return g;
    return NULL;
}

static struct group *group_add(struct pass *p)
{
    struct group *g = xcalloc(1, sizeof *g);
    const struct spec *sp = p->t->spec;
    uint32_t i;

    g->key_len = (uint32_t)p->key.len;
    g->key = xmalloc(g->key_len + 1);
    if (g->key_len)
        memcpy(g->key, p->key.ptr, g->key_len);
    for (i = 0; i < sp->n; i++) {
        g->value[i] = ICE_NULL;
        if (!g->key[p->value_at[i] - 1])
            ASSERT(ice_value_read(sp->field[i].result,
                                  slice_of(g->key + p->value_at[i], p->value_len[i]),
                                  &g->value[i]));
    }
    for (i = 0; i <= COLUMN_TIMESTAMP; i++) {
        g->min[i] = INT64_MAX;
        g->max[i] = INT64_MIN;
    }
    g->next = p->s->groups;
    p->s->groups = g;
    p->s->groups_n++;
    return g;
}

static void group_widen(struct group *g, int32_t column, int64_t v)
{
    if (v < g->min[column])
        g->min[column] = v;
    if (v > g->max[column])
        g->max[column] = v;
}

static void group_range(struct scan *s, struct group *g, int32_t partition, int64_t offset)
{
    struct lake_range *r = g->ranges_n ? &g->range[g->ranges_n - 1] : NULL;

    if (r && r->partition == partition && r->to == offset) {
        r->to++;
        return;
    }
    if (g->ranges_n == g->ranges_cap) {
        g->ranges_cap = g->ranges_cap ? g->ranges_cap * 2 : 8;
        g->range = xrealloc(g->range, g->ranges_cap * sizeof *g->range);
    }
    g->range[g->ranges_n++] = (struct lake_range){partition, offset, offset + 1};
    s->ranges_n++;
}

/* ---- records ---- */

/* ERR_AGAIN: it would be beyond a limit: the scan ends in front of it. */
static enum err record_take(struct pass *p, int32_t partition, const struct record *r,
                            uint64_t position, struct errinfo *info)
{
    enum err e = key_make(p, partition, r, position, info);
    struct group *g;

    if (e)
        return e;
    g = group_find(p);
    if ((!g && p->s->groups_n == LIMIT_LAKE_GROUPS) || p->s->ranges_n >= LIMIT_LAKE_RANGES ||
        p->s->records >= LIMIT_LAKE_FLUSH_RECORDS)
        return ERR_AGAIN;
    if (!g)
        g = group_add(p);
    p->last = g;
    group_range(p->s, g, partition, r->offset);
    group_widen(g, COLUMN_PARTITION, partition);
    group_widen(g, COLUMN_OFFSET, r->offset);
    group_widen(g, COLUMN_POSITION, (int64_t)position);
    group_widen(g, COLUMN_TIMESTAMP, (int64_t)((uint64_t)r->timestamp_ms * 1000u));
    g->records++;
    p->s->records++;
    if (p->s->fields && !slice_is_null(r->value))
        p->l->conf.parquet.fields_value(p->s->fields, r->value);
    return ERR_OK;
}

/* Records of a batch in [*at, end); *at moves behind what was taken. */
static enum err batch_take(struct pass *p, int32_t partition, const struct read_batch *b,
                           struct buf *scratch, int64_t *at, int64_t end, struct errinfo *info)
{
    struct batch_iter it;
    struct record r;
    enum err e = batch_iter_init(&it, b->data, scratch);

    while (!e && !(it.info.attributes & BATCH_CONTROL)) {
        e = batch_iter_next(&it, &r);
        if (e || r.offset >= end)
            break;
        if (r.offset < *at)
            continue;
        e = record_take(p, partition, &r, b->position + (uint64_t)(r.offset - b->base_offset),
                        info);
        if (e)
            return e;
        *at = r.offset + 1;
    }
    if (e && e != ERR_EOF)
        return errinfo_set(info, ERR_CORRUPT, "the batch at offset %" PRId64 " does not decode",
                           b->base_offset);
    *at = b->last_offset + 1 < end ? b->last_offset + 1 : end;
    return ERR_OK;
}

static enum err batches_take(struct pass *p, int32_t partition, const struct plog_read *rd,
                             struct buf *scratch, int64_t *at, int64_t end, struct errinfo *info)
{
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; !e && i < rd->n && *at < end; i++) {
        if (p->s->bytes >= p->limit)
            return ERR_AGAIN;
        p->s->bytes += rd->batch[i].data.len;
        e = batch_take(p, partition, &rd->batch[i], scratch, at, end, info);
    }
    return e;
}

static enum err partition_take(struct pass *p, struct partition *part, struct errinfo *info)
{
    int32_t index = partition_index(part);
    int64_t at = p->s->covered[index], end = partition_lso(part);
    struct plog_read *rd = xcalloc(1, sizeof *rd);
    struct buf scratch;
    enum err e = ERR_OK;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    while (!e && at < end && !lake_stopping(p->l)) {
        e = plog_read(partition_log(part), at, READ_BYTES, rd, info);
        if (e == ERR_OFFSET_RANGE && rd->start_offset > at) { /* deleted meanwhile */
            p->s->lost += (uint64_t)(rd->start_offset - at);
            at = rd->start_offset;
            e = ERR_OK;
            continue;
        }
        if (!e && rd->n == 0)
            break;
        if (!e)
            e = batches_take(p, index, rd, &scratch, &at, end, info);
    }
    plog_read_release(rd);
    free(rd);
    buf_fini(&scratch);
    p->s->covered[index] = at;
    if (!e && lake_stopping(p->l))
        e = errinfo_set(info, ERR_CANCELLED, "the server stops");
    return e;
}

enum err lake_scan_run(struct lake *l, struct table *t, struct topic *topic, bool fields,
                       uint64_t limit, struct scan *out, struct errinfo *info)
{
    struct pass p = {.l = l, .t = t, .s = out, .limit = limit};
    int32_t i;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    out->covered = xmalloc((size_t)t->partitions_n * sizeof *out->covered + 1);
    memcpy(out->covered, t->covered, (size_t)t->partitions_n * sizeof *out->covered);
    if (fields)
        out->fields = l->conf.parquet.fields_new(l->conf.parquet.arg);
    buf_init(&p.key, KEY_BYTES + (1u << 20));
    buf_init(&p.text, 6 * LIMIT_BATCH_INFLATED);
    for (i = 0; !e && i < t->partitions_n; i++) {
        int32_t k = (int32_t)((t->start + (uint32_t)i) % (uint32_t)t->partitions_n);

        e = partition_take(&p, topic_partition(topic, k), info);
        if (e == ERR_AGAIN) {
            t->start = (uint32_t)k + 1; /* others come first the next time: none is left behind */
            out->full = true;
            e = ERR_OK;
            break;
        }
    }
    buf_fini(&p.key);
    buf_fini(&p.text);
    if (e)
        lake_scan_fini(l, out);
    return e;
}

void lake_scan_fini(struct lake *l, struct scan *s)
{
    struct group *g;

    while ((g = s->groups)) {
        s->groups = g->next;
        free(g->key);
        free(g->range);
        free(g);
    }
    if (s->fields)
        l->conf.parquet.fields_free(s->fields);
    free(s->covered);
    memset(s, 0, sizeof *s);
}
