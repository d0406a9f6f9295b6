/* See parquet_part.h. Bounds are checked everywhere: a footer is others' data. */
#include "lake/parquet_part.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lake/lake_int.h"

#define DEPTH_MAX    16u
#define LEAVES_MAX   4096u
#define FOOTER_MAX   (64u << 20)
#define RANGES_APART (64u << 10) /* a gap that is fetched rather than asked around */
#define MICROS       10          /* ConvertedType TIMESTAMP_MICROS */

/* ---- Thrift's compact protocol ---- */

enum thrift_type {
    T_TRUE = 1,
    T_FALSE,
    T_I8,
    T_I16,
    T_I32,
    T_I64,
    T_DOUBLE,
    T_BINARY,
    T_LIST,
    T_SET,
    T_MAP,
    T_STRUCT
};

struct thrift {
    const uint8_t *p, *end;
    bool bad;
};
struct field {
    int32_t id; /* 0 before the first */
    uint8_t type;
};

static uint64_t varint(struct thrift *t)
{
    uint64_t v = 0;
    unsigned shift = 0;

    while (t->p < t->end && shift < 64) {
        uint8_t b = *t->p++;

        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128))
            return v;
        shift += 7;
    }
    t->bad = true;
    return 0;
}

static int64_t whole(struct thrift *t)
{
    uint64_t v = varint(t);

    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static uint8_t byte(struct thrift *t)
{
    if (t->p < t->end)
        return *t->p++;
    t->bad = true;
    return 0;
}

static void pass(struct thrift *t, uint64_t n)
{
    if (n > (uint64_t)(t->end - t->p))
        t->bad = true;
    else
        t->p += n;
}

/* The struct's next field; false at its end. Ids are of 16 bits. */
static bool field_next(struct thrift *t, struct field *f)
{
    uint8_t b = byte(t);
    int64_t id;

    f->type = b & 15;
    if (t->bad || f->type == 0)
        return false;
    id = b >> 4 ? f->id + (b >> 4) : whole(t);
    t->bad = t->bad || id < INT16_MIN || id > INT16_MAX;
    f->id = t->bad ? 0 : (int32_t)id;
    return !t->bad;
}

/* How many elements a list has, each of which takes a byte at least. */
static uint32_t list_begin(struct thrift *t, uint8_t *type)
{
    uint8_t b = byte(t);
    uint64_t n = b >> 4 == 15 ? varint(t) : b >> 4;

    *type = b & 15;
    if (n > (uint64_t)(t->end - t->p))
        t->bad = true;
    return t->bad ? 0 : (uint32_t)n;
}

static void skip(struct thrift *t, uint8_t type, unsigned depth);

static void skip_many(struct thrift *t, uint8_t type, unsigned depth)
{
    uint8_t of, value = 0;
    uint64_t n;

    if (type == T_MAP) {
        n = varint(t);
        of = n ? byte(t) : 0;
        value = of & 15;
        of >>= 4;
    } else {
        n = list_begin(t, &of);
    }
    while (n-- && !t->bad) {
        if (of <= T_FALSE)
            pass(t, 1); /* in a list a bool is a byte */
        else
            skip(t, of, depth);
        if (value)
            skip(t, value <= T_FALSE ? T_I8 : value, depth);
    }
}

static void skip(struct thrift *t, uint8_t type, unsigned depth)
{
    struct field f = {0};

    if (depth == DEPTH_MAX) {
        t->bad = true;
        return;
    }
    switch (type) {
    case T_TRUE:
    case T_FALSE:
        break;
    case T_I8:
        pass(t, 1);
        break;
    case T_I16:
    case T_I32:
    case T_I64:
        varint(t);
        break;
    case T_DOUBLE:
        pass(t, 8);
        break;
    case T_BINARY:
        pass(t, varint(t));
        break;
    case T_LIST:
    case T_SET:
    case T_MAP:
        skip_many(t, type, depth + 1);
        break;
    case T_STRUCT:
        while (field_next(t, &f))
            skip(t, f.type, depth + 1);
        break;
    default:
        t->bad = true;
    }
}

/* ---- the schema: which leaf is which column ---- */

struct leaf {
    int32_t id;
    bool micros;
};
struct reading {
    struct thrift t;
    struct leaf *leaf;
    uint32_t leaves_n;
    const struct lake_wanted *wanted;
    uint64_t data_end;
    struct parquet_part *out;
    uint32_t groups_n, kept_n; /* seen, and kept */
    int64_t rows;              /* of those kept */
    struct buf kept;
};

static void schema_element(struct reading *r)
{
    struct field f = {0};
    struct leaf x = {0};
    int64_t children = 0;

    while (field_next(&r->t, &f)) {
        if (f.id == 5 && f.type == T_I32)
            children = whole(&r->t);
        else if (f.id == 6 && f.type == T_I32)
            x.micros = whole(&r->t) == MICROS;
        else if (f.id == 9 && f.type == T_I32)
            x.id = (int32_t)whole(&r->t);
        else
            skip(&r->t, f.type, 0);
    }
    if (children || r->t.bad)
        return;
    if (r->leaves_n == LEAVES_MAX)
        r->t.bad = true;
    else
        r->leaf[r->leaves_n++] = x;
}

static void schema(struct reading *r)
{
    uint8_t type;
    uint32_t n = list_begin(&r->t, &type);

    r->t.bad = r->t.bad || type != T_STRUCT;
    while (n-- && !r->t.bad)
        schema_element(r);
}

/* ---- row groups ---- */

struct chunk {
    struct slice min, max; /* NULL: not told */
    int64_t data, dictionary, bytes, bloom, bloom_bytes;
};

static struct slice binary(struct thrift *t)
{
    uint64_t n = varint(t);
    const uint8_t *p = t->p;

    pass(t, n);
    return t->bad ? SLICE_NULL : slice_of(p, n);
}

static void statistics(struct thrift *t, struct chunk *c)
{
    struct field f = {0};

    while (field_next(t, &f)) {
        if (f.id == 5 && f.type == T_BINARY)
            c->max = binary(t);
        else if (f.id == 6 && f.type == T_BINARY)
            c->min = binary(t);
        else
            skip(t, f.type, 0);
    }
}

static void column_metadata(struct thrift *t, struct chunk *c)
{
    struct field f = {0};

    while (field_next(t, &f)) {
        if (f.id == 12 && f.type == T_STRUCT)
            statistics(t, c);
        else if (f.type != T_I64 && f.type != T_I32)
            skip(t, f.type, 0);
        else {
            int64_t v = whole(t);

            if (f.id == 7)
                c->bytes = v;
            else if (f.id == 9)
                c->data = v;
            else if (f.id == 11)
                c->dictionary = v;
            else if (f.id == 14)
                c->bloom = v;
            else if (f.id == 15)
                c->bloom_bytes = v;
        }
    }
}

static void column_chunk(struct thrift *t, struct chunk *c)
{
    struct field f = {0};

    memset(c, 0, sizeof *c);
    while (field_next(t, &f)) {
        if (f.id == 3 && f.type == T_STRUCT)
            column_metadata(t, c);
        else if (f.id == 1)
            t->bad = true; /* its data is in another file */
        else
            skip(t, f.type, 0);
    }
}

/* Little-endian, of 4 or 8 bytes. */
static bool number(struct slice s, int64_t *out)
{
    uint64_t v = 0;
    size_t i;

    if (slice_is_null(s) || (s.len != 4 && s.len != 8))
        return false;
    for (i = s.len; i--;)
        v = v << 8 | s.ptr[i];
    *out = s.len == 4 ? (int32_t)(uint32_t)v : (int64_t)v;
    return true;
}

/* May the column's values, as far as its statistics tell, be among those wanted? */
static bool chunk_wanted(const struct leaf *l, const struct chunk *c, const struct lake_wanted *w)
{
    int64_t min, max;

    if (!number(c->min, &min) || !number(c->max, &max))
        return true;
    switch (l->id) {
    case COLUMN_PARTITION:
        return w->partition < 0 || (min <= w->partition && w->partition <= max);
    case COLUMN_OFFSET:
        return min <= w->offset_max && w->offset_min <= max;
    case COLUMN_POSITION:
        return min <= w->position_max && w->position_min <= max;
    case COLUMN_TIMESTAMP:
        return !l->micros || (min <= w->time_max_us && w->time_min_us <= max);
    default:
        return true;
    }
}

static void range_add(struct reading *r, int64_t from, int64_t bytes)
{
    struct parquet_part *p = r->out;

    if (from < 4 || bytes < 0 || (uint64_t)from > r->data_end ||
        (uint64_t)bytes > r->data_end - (uint64_t)from || p->ranges_n == PART_RANGES_MAX) {
        r->t.bad = true;
        return;
    }
    p->range[p->ranges_n++] = (struct part_range){(uint64_t)from, (uint64_t)(from + bytes)};
}

static void group_keep(struct reading *r, const struct chunk *chunks, struct slice text)
{
    int64_t from = INT64_MAX, to = 0;
    uint32_t i;

    for (i = 0; i < r->leaves_n; i++) {
        const struct chunk *c = &chunks[i];
        int64_t at = c->dictionary > 0 && c->dictionary < c->data ? c->dictionary : c->data;

        if (at < 4 || c->bytes < 0 || c->bytes > INT64_MAX - at || (c->bloom && !c->bloom_bytes))
            r->t.bad = true; /* how long a filter is may be left out */
        else if (c->bloom)
            range_add(r, c->bloom, c->bloom_bytes);
        if (r->t.bad)
            return;
        from = at < from ? at : from;
        to = at + c->bytes > to ? at + c->bytes : to;
    }
    if (r->leaves_n)
        range_add(r, from, to - from);
    if (buf_append_slice(&r->kept, text) ||
        buf_printf(&r->out->groups, "%s%u", r->kept_n ? "," : "", (unsigned)r->groups_n))
        r->t.bad = true;
    r->kept_n++;
}

static void row_group(struct reading *r, struct chunk *chunks)
{
    const uint8_t *begin = r->t.p;
    struct field f = {0};
    uint32_t i, n = 0;
    int64_t rows = 0;
    bool wanted = true;
    uint8_t type;

    while (field_next(&r->t, &f)) {
        if (f.id == 1 && f.type == T_LIST) {
            n = list_begin(&r->t, &type);
            r->t.bad = r->t.bad || n != r->leaves_n || type != T_STRUCT;
            for (i = 0; i < n && !r->t.bad; i++) {
                column_chunk(&r->t, &chunks[i]);
                wanted = wanted && chunk_wanted(&r->leaf[i], &chunks[i], r->wanted);
            }
        } else if (f.id == 3 && f.type == T_I64) {
            rows = whole(&r->t);
        } else {
            skip(&r->t, f.type, 0);
        }
    }
    r->t.bad = r->t.bad || n != r->leaves_n || rows < 0 || rows > INT64_MAX - r->rows;
    if (wanted && !r->t.bad) {
        r->rows += rows;
        group_keep(r, chunks, slice_of(begin, (size_t)(r->t.p - begin)));
    }
    r->groups_n++;
}

static void row_groups(struct reading *r)
{
    struct chunk *chunks = xcalloc(r->leaves_n + 1u, sizeof *chunks);
    uint8_t type;
    uint32_t n = list_begin(&r->t, &type);

    r->t.bad = r->t.bad || type != T_STRUCT;
    while (n-- && !r->t.bad)
        row_group(r, chunks);
    free(chunks);
}

/* ---- the whole ---- */

static void varint_put(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;

    do {
        bytes[n++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    buf_append(b, bytes, n);
}

/* What is between the places at which rows and groups stand is copied. */
static void footer_write(struct reading *r, struct slice all, const uint8_t *rows_at,
                         const uint8_t *rows_end, const uint8_t *groups_at,
                         const uint8_t *groups_end)
{
    struct buf *b = &r->out->footer;

    buf_append(b, all.ptr, (size_t)(rows_at - all.ptr));
    varint_put(b, (uint64_t)r->rows << 1);
    buf_append(b, rows_end, (size_t)(groups_at - rows_end));
    if (r->kept_n < 15) {
        buf_append_u8(b, (uint8_t)(r->kept_n << 4 | T_STRUCT));
    } else {
        buf_append_u8(b, 0xf0 | T_STRUCT);
        varint_put(b, r->kept_n);
    }
    buf_append_slice(b, buf_slice(&r->kept));
    buf_append(b, groups_end, (size_t)(all.ptr + all.len - groups_end));
}

static int range_order(const void *a, const void *b)
{
    const struct part_range *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}

static void ranges_join(struct parquet_part *p)
{
    uint32_t i, n = 0;

    qsort(p->range, p->ranges_n, sizeof *p->range, range_order);
    for (i = 1; i < p->ranges_n; i++) {
        if (p->range[i].from > p->range[n].to + RANGES_APART)
            p->range[++n] = p->range[i];
        else if (p->range[i].to > p->range[n].to)
            p->range[n].to = p->range[i].to;
    }
    p->ranges_n = p->ranges_n ? n + 1 : 0;
    for (i = 0; i < p->ranges_n; i++)
        p->bytes += p->range[i].to - p->range[i].from;
}

static bool footer_read(struct reading *r, struct slice all)
{
    const uint8_t *rows_at = NULL, *rows_end = NULL, *groups_at = NULL, *groups_end = NULL;
    struct field f = {0};

    while (field_next(&r->t, &f)) {
        if (f.id == 2 && f.type == T_LIST) {
            schema(r);
        } else if (f.id == 3 && f.type == T_I64 && !groups_at) {
            rows_at = r->t.p;
            whole(&r->t);
            rows_end = r->t.p;
        } else if (f.id == 4 && f.type == T_LIST && rows_at && r->leaves_n && !groups_at) {
            groups_at = r->t.p;
            row_groups(r);
            groups_end = r->t.p;
        } else if (f.id == 8 || (f.id == 3 && groups_at)) {
            return false; /* encrypted; rows that are counted behind the groups */
        } else {
            skip(&r->t, f.type, 0);
        }
    }
    if (r->t.bad || !groups_at)
        return false;
    footer_write(r, all, rows_at, rows_end, groups_at, groups_end);
    ranges_join(r->out);
    return true;
}

enum err parquet_part_make(struct parquet_part *p, struct slice footer, uint64_t data_end,
                           const struct lake_wanted *wanted)
{
    struct reading r = {.t = {footer.ptr, footer.ptr + footer.len, false},
                        .wanted = wanted,
                        .data_end = data_end,
                        .out = p};
    bool ok;

    memset(p, 0, sizeof *p);
    buf_init(&p->footer, FOOTER_MAX);
    buf_init(&p->groups, 1u << 20);
    if (footer.len > FOOTER_MAX / 2)
        return ERR_UNSUPPORTED;
    buf_init(&r.kept, FOOTER_MAX);
    r.leaf = xcalloc(LEAVES_MAX, sizeof *r.leaf);
    ok = footer_read(&r, footer);
    free(r.leaf);
    buf_fini(&r.kept);
    return ok ? ERR_OK : ERR_UNSUPPORTED;
}

void parquet_part_fini(struct parquet_part *p)
{
    buf_fini(&p->footer);
    buf_fini(&p->groups);
}
