/* Which records a flush takes: from the covered offsets to the last stable ones, until a limit is
 * reached, sorted into the partitions of the table ("groups") as runs of offsets. Their values are
 * computed by the same transforms that the table's spec names, record by record, so that a file has
 * exactly the rows that its partition says.
 *
 * The topic's partitions are read a piece at a time in order of position, as the log's files have
 * them side by side: so each file is read once for all of them, and what a flush takes is one stretch
 * of the log, which is still in memory when the file is written, partition by partition.
 *
 * Memory: groups and runs are limited; records are looked at where the log has them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "lake/lake_int.h"

#define READ_BYTES (1u << 20)
#define READ_LEAST (64u << 10)
#define READ_SHARE 4u /* of the limit, for a piece of each partition */
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
        v->i = time_us(r->timestamp_ms);
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
    group_widen(g, COLUMN_TIMESTAMP, time_us(r->timestamp_ms));
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

/* ---- partitions ---- */

struct source {
    struct partition *partition;
    int64_t end;
    uint64_t position; /* of what follows; 0: not known yet */
};

/* Those that have something left, as a heap: the lowest position is the first one. */
struct sources {
    struct source *v;
    uint32_t n;
    size_t piece;
    struct plog_read read;
    struct buf scratch;
};

static void source_sink(struct sources *ss)
{
    uint32_t i = 0, least;
    struct source x;

    for (;; i = least) {
        least = 2 * i + 1;
        if (least + 1 < ss->n && ss->v[least + 1].position < ss->v[least].position)
            least++;
        if (least >= ss->n || ss->v[i].position <= ss->v[least].position)
            return;
        x = ss->v[i];
        ss->v[i] = ss->v[least];
        ss->v[least] = x;
    }
}

/* The next piece of the source. */
static enum err source_take(struct pass *p, struct sources *ss, struct source *src,
                            struct errinfo *info)
{
    int32_t index = partition_index(src->partition);
    int64_t at = p->s->covered[index];
    struct plog_read *rd = &ss->read;
    enum err e = plog_read(partition_log(src->partition), at, ss->piece, rd, info);

    if (e == ERR_OFFSET_RANGE && rd->start_offset > at) { /* deleted meanwhile */
        p->s->lost += (uint64_t)(rd->start_offset - at);
        p->s->covered[index] = rd->start_offset;
        return ERR_OK;
    }
    if (e)
        return e;
    if (rd->n) {
        const struct read_batch *last = &rd->batch[rd->n - 1];

        src->position = last->position + (uint64_t)(last->last_offset - last->base_offset) + 1;
        e = batches_take(p, index, rd, &ss->scratch, &at, src->end, info);
    } else {
        src->end = at;
    }
    p->s->covered[index] = at;
    return e;
}

/* Takes from the first source until nothing is left of any, or a limit is reached (ERR_AGAIN);
 * *index: of the partition that came last. */
static enum err sources_take(struct pass *p, struct sources *ss, int32_t *index,
                             struct errinfo *info)
{
    enum err e = ERR_OK;

    while (!e && ss->n) {
        struct source *first = &ss->v[0];

        if (lake_stopping(p->l))
            return errinfo_set(info, ERR_CANCELLED, "the server stops");
        *index = partition_index(first->partition);
        e = source_take(p, ss, first, info);
        if (p->s->covered[*index] >= first->end)
            *first = ss->v[--ss->n];
        source_sink(ss);
    }
    return e;
}

/* Nothing is known of where they are: all have a turn before one has two, others first than the last
 * time. */
static void sources_init(struct pass *p, struct sources *ss, struct topic *topic)
{
    uint32_t i, n = (uint32_t)p->t->partitions_n;
    size_t piece = p->limit / READ_SHARE / (n + 1u);

    memset(ss, 0, sizeof *ss);
    ss->piece = piece > READ_BYTES ? READ_BYTES : piece < READ_LEAST ? READ_LEAST : piece;
    ss->read.patient = true;
    ss->v = xcalloc(n + 1u, sizeof *ss->v);
    buf_init(&ss->scratch, LIMIT_BATCH_INFLATED);
    for (i = 0; i < n; i++) {
        int32_t k = (int32_t)((p->t->start + i) % n);
        struct partition *part = topic_partition(topic, k);
        int64_t end = partition_lso(part);

        if (p->s->covered[k] < end)
            ss->v[ss->n++] = (struct source){.partition = part, .end = end};
    }
}

static void sources_fini(struct sources *ss)
{
    plog_read_release(&ss->read);
    buf_fini(&ss->scratch);
    free(ss->v);
}

static int range_order(const void *va, const void *vb)
{
    const struct lake_range *a = va, *b = vb;

    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    return (a->from > b->from) - (a->from < b->from);
}

/* One partition behind the other, runs as long as can be. */
static void ranges_order(struct group *g)
{
    uint32_t i, n = 0;

    qsort(g->range, g->ranges_n, sizeof *g->range, range_order);
    for (i = 1; i < g->ranges_n; i++) {
        if (g->range[i].partition == g->range[n].partition && g->range[i].from == g->range[n].to)
            g->range[n].to = g->range[i].to;
        else
            g->range[++n] = g->range[i];
    }
    g->ranges_n = n + 1;
}

enum err lake_scan_run(struct lake *l, struct table *t, struct topic *topic, bool fields,
                       uint64_t limit, struct scan *out, struct errinfo *info)
{
    struct pass p = {.l = l, .t = t, .s = out, .limit = limit};
    struct sources *ss = xmalloc(sizeof *ss);
    struct group *g;
    int32_t last = 0;
    enum err e;

    memset(out, 0, sizeof *out);
    out->covered = xmalloc((size_t)t->partitions_n * sizeof *out->covered + 1);
    memcpy(out->covered, t->covered, (size_t)t->partitions_n * sizeof *out->covered);
    if (fields)
        out->fields = l->conf.parquet.fields_new(l->conf.parquet.arg);
    buf_init(&p.key, KEY_BYTES + (1u << 20));
    buf_init(&p.text, 6 * LIMIT_BATCH_INFLATED);
    sources_init(&p, ss, topic);
    e = sources_take(&p, ss, &last, info);
    if (e == ERR_AGAIN) {
        t->start = (uint32_t)last + 1; /* others come first the next time: none is left behind */
        out->full = true;
        e = ERR_OK;
    }
    for (g = out->groups; g; g = g->next)
        ranges_order(g);
    sources_fini(ss);
    free(ss);
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
