/* The Arrow IPC stream. See arrow_ipc.h.
 *
 * A message is 0xFFFFFFFF, the metadata's length, the metadata (a flatbuffer, padded to 8 bytes), the
 * body: the arrays' buffers, each padded to 8 bytes, in the order of the schema's tree. What a buffer
 * holds follows from the format string of its field. */
#include "rows/arrow_ipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rows/flat.h"
#include "sql/sql.h"

#define DEPTH_MAX 32u

enum { HEADER_SCHEMA = 1, HEADER_DICTIONARY = 2, HEADER_BATCH = 3, VERSION_V5 = 4 };
enum { /* of union Type */
       T_NULL = 1,
       T_INT,
       T_FLOAT,
       T_BINARY,
       T_UTF8,
       T_BOOL,
       T_DECIMAL,
       T_DATE,
       T_TIME,
       T_TIMESTAMP,
       T_INTERVAL,
       T_LIST,
       T_STRUCT,
       T_UNION,
       T_FIXED_BINARY,
       T_FIXED_LIST,
       T_MAP,
       T_DURATION,
       T_LARGE_BINARY,
       T_LARGE_UTF8,
       T_LARGE_LIST
};

/* How the buffers of a field are made. */
enum layout {
    L_NONE,
    L_BITS,
    L_FIXED,
    L_TEXT32,
    L_TEXT64,
    L_LIST32,
    L_LIST64,
    L_CHILDREN,
    L_UNION
};

struct field_type {
    uint8_t type; /* T_… */
    enum layout layout;
    uint32_t width; /* L_FIXED: bytes */
    /* what the type's table says */
    int64_t a, b, c; /* numbers, in the order of the table */
    struct slice text;
    bool dense;
};

/* ---- format strings ---- */

static const struct {
    const char *format;
    struct field_type t;
} simple[] = {
    {"n", {T_NULL, L_NONE, 0, 0, 0, 0, {0}, 0}},
    {"b", {T_BOOL, L_BITS, 0, 0, 0, 0, {0}, 0}},
    {"c", {T_INT, L_FIXED, 1, 8, 1, 0, {0}, 0}},
    {"C", {T_INT, L_FIXED, 1, 8, 0, 0, {0}, 0}},
    {"s", {T_INT, L_FIXED, 2, 16, 1, 0, {0}, 0}},
    {"S", {T_INT, L_FIXED, 2, 16, 0, 0, {0}, 0}},
    {"i", {T_INT, L_FIXED, 4, 32, 1, 0, {0}, 0}},
    {"I", {T_INT, L_FIXED, 4, 32, 0, 0, {0}, 0}},
    {"l", {T_INT, L_FIXED, 8, 64, 1, 0, {0}, 0}},
    {"L", {T_INT, L_FIXED, 8, 64, 0, 0, {0}, 0}},
    {"e", {T_FLOAT, L_FIXED, 2, 0, 0, 0, {0}, 0}},
    {"f", {T_FLOAT, L_FIXED, 4, 1, 0, 0, {0}, 0}},
    {"g", {T_FLOAT, L_FIXED, 8, 2, 0, 0, {0}, 0}},
    {"z", {T_BINARY, L_TEXT32, 0, 0, 0, 0, {0}, 0}},
    {"Z", {T_LARGE_BINARY, L_TEXT64, 0, 0, 0, 0, {0}, 0}},
    {"u", {T_UTF8, L_TEXT32, 0, 0, 0, 0, {0}, 0}},
    {"U", {T_LARGE_UTF8, L_TEXT64, 0, 0, 0, 0, {0}, 0}},
    {"tdD", {T_DATE, L_FIXED, 4, 0, 0, 0, {0}, 0}},
    {"tdm", {T_DATE, L_FIXED, 8, 1, 0, 0, {0}, 0}},
    {"tts", {T_TIME, L_FIXED, 4, 0, 32, 0, {0}, 0}},
    {"ttm", {T_TIME, L_FIXED, 4, 1, 32, 0, {0}, 0}},
    {"ttu", {T_TIME, L_FIXED, 8, 2, 64, 0, {0}, 0}},
    {"ttn", {T_TIME, L_FIXED, 8, 3, 64, 0, {0}, 0}},
    {"tDs", {T_DURATION, L_FIXED, 8, 0, 0, 0, {0}, 0}},
    {"tDm", {T_DURATION, L_FIXED, 8, 1, 0, 0, {0}, 0}},
    {"tDu", {T_DURATION, L_FIXED, 8, 2, 0, 0, {0}, 0}},
    {"tDn", {T_DURATION, L_FIXED, 8, 3, 0, 0, {0}, 0}},
    {"tiM", {T_INTERVAL, L_FIXED, 4, 0, 0, 0, {0}, 0}},
    {"tiD", {T_INTERVAL, L_FIXED, 8, 1, 0, 0, {0}, 0}},
    {"tin", {T_INTERVAL, L_FIXED, 16, 2, 0, 0, {0}, 0}},
    {"+l", {T_LIST, L_LIST32, 0, 0, 0, 0, {0}, 0}},
    {"+L", {T_LARGE_LIST, L_LIST64, 0, 0, 0, 0, {0}, 0}},
    {"+s", {T_STRUCT, L_CHILDREN, 0, 0, 0, 0, {0}, 0}},
    {"+m", {T_MAP, L_LIST32, 0, 0, 0, 0, {0}, 0}},
};

/* "d:18,3", "w:16", "+w:3", "tsu:UTC", "+ud:0,1" */
static bool with_argument(const char *f, struct field_type *t)
{
    long long p = 0, s = 0, bits = 128;
    static const char units[] = "smun";

    *t = (struct field_type){0};
    if (f[0] == 'd' && sscanf(f, "d:%lld,%lld,%lld", &p, &s, &bits) >= 2) {
        *t = (struct field_type){.type = T_DECIMAL, .layout = L_FIXED, .a = p, .b = s, .c = bits};
        t->width = bits == 256 ? 32 : bits == 128 ? 16 : bits == 64 ? 8 : 4;
    } else if (f[0] == 'w' && sscanf(f, "w:%lld", &p) == 1) {
        *t = (struct field_type){.type = T_FIXED_BINARY, .layout = L_FIXED, .a = p};
        t->width = (uint32_t)p;
    } else if (strncmp(f, "+w:", 3) == 0 && sscanf(f, "+w:%lld", &p) == 1) {
        *t = (struct field_type){.type = T_FIXED_LIST, .layout = L_CHILDREN, .a = p};
    } else if (strncmp(f, "ts", 2) == 0 && f[2] && strchr(units, f[2]) && f[3] == ':') {
        *t = (struct field_type){.type = T_TIMESTAMP, .layout = L_FIXED, .width = 8};
        t->a = strchr(units, f[2]) - units;
        t->text = slice_str(f + 4);
    } else if (strncmp(f, "+ud:", 4) == 0 || strncmp(f, "+us:", 4) == 0) {
        *t = (struct field_type){.type = T_UNION, .layout = L_UNION};
        t->dense = f[2] == 'd';
        t->text = slice_str(f + 4);
    }
    return t->type != 0;
}

static enum err type_of(const char *format, struct field_type *t, struct errinfo *info)
{
    size_t i;

    for (i = 0; i < sizeof simple / sizeof *simple; i++)
        if (strcmp(simple[i].format, format) == 0) {
            *t = simple[i].t;
            return ERR_OK;
        }
    if (with_argument(format, t))
        return ERR_OK;
    return errinfo_set(info, ERR_UNSUPPORTED,
                       "a column's Arrow format \"%.32s\" is not written here", format);
}

/* ---- schema ---- */

static void union_put(struct flat *f, size_t ref, const struct field_type *t)
{
    struct flat_table x = flat_table(f, ref, "2r");
    const char *p = (const char *)t->text.ptr;
    size_t n = t->text.len > 0, at, i;

    for (i = 0; i < t->text.len; i++)
        n += p[i] == ',';
    flat_set(f, x.field[0], t->dense, 2);
    at = flat_vector(f, x.field[1], n, 4);
    for (i = 0; i < n; i++) {
        char *end;

        flat_set(f, at + 4 * i, (uint64_t)strtol(p, &end, 10), 4);
        p = *end == ',' ? end + 1 : end;
    }
}

static void type_put(struct flat *f, size_t ref, const struct field_type *t)
{
    static const char *const tables[] = {
        [T_NULL] = "",       [T_INT] = "41",       [T_FLOAT] = "2",        [T_BINARY] = "",
        [T_UTF8] = "",       [T_BOOL] = "",        [T_DECIMAL] = "444",    [T_DATE] = "2",
        [T_TIME] = "24",     [T_INTERVAL] = "2",   [T_LIST] = "",          [T_STRUCT] = "",
        [T_DURATION] = "2",  [T_FIXED_LIST] = "4", [T_FIXED_BINARY] = "4", [T_MAP] = "1",
        [T_LARGE_LIST] = "", [T_LARGE_UTF8] = "",  [T_LARGE_BINARY] = ""};
    const int64_t values[] = {t->a, t->b, t->c};
    struct flat_table x;
    const char *sizes;
    unsigned i;

    if (t->type == T_UNION) {
        union_put(f, ref, t);
        return;
    }
    if (t->type == T_TIMESTAMP) {
        x = flat_table(f, ref, t->text.len ? "2r" : "2");
        flat_set(f, x.field[0], (uint64_t)t->a, 2);
        if (t->text.len)
            flat_string(f, x.field[1], t->text);
        return;
    }
    sizes = tables[t->type];
    x = flat_table(f, ref, sizes);
    for (i = 0; sizes[i]; i++)
        flat_set(f, x.field[i], (uint64_t)values[i], (unsigned)(sizes[i] - '0'));
}

/* The C interface's metadata: a count, then lengths and bytes of keys and values. */
static void metadata_put(struct flat *f, size_t ref, const char *m)
{
    int32_t n, len, i, k;
    size_t at;

    memcpy(&n, m, 4);
    m += 4;
    at = flat_vector(f, ref, (size_t)n, 4);
    for (i = 0; i < n; i++) {
        struct flat_table kv = flat_table(f, at + 4 * (size_t)i, "rr");

        for (k = 0; k < 2; k++) {
            memcpy(&len, m, 4);
            flat_string(f, kv.field[k], slice_of(m + 4, (size_t)len));
            m += 4 + len;
        }
    }
}

struct ids { /* numbers dictionaries in the order of the tree */
    int64_t next;
};

static enum err field_put(struct flat *f, size_t ref, const struct ArrowSchema *s, unsigned depth,
                          struct ids *ids, struct errinfo *info);

static enum err children_put(struct flat *f, size_t ref, const struct ArrowSchema *s,
                             unsigned depth, struct ids *ids, struct errinfo *info)
{
    size_t at = flat_vector(f, ref, (size_t)s->n_children, 4);
    enum err e = ERR_OK;
    int64_t i;

    for (i = 0; i < s->n_children && !e; i++)
        e = field_put(f, at + 4 * (size_t)i, s->children[i], depth + 1, ids, info);
    return e;
}

static enum err field_put(struct flat *f, size_t ref, const struct ArrowSchema *s, unsigned depth,
                          struct ids *ids, struct errinfo *info)
{
    const struct ArrowSchema *v = s->dictionary ? s->dictionary : s; /* the type of the values */
    char sizes[] = "r11r0r0";
    struct field_type t, index;
    struct flat_table x, d;
    enum err e;

    if (depth > DEPTH_MAX)
        return errinfo_set(info, ERR_UNSUPPORTED, "a column is nested too deeply for Arrow");
    if ((e = type_of(v->format, &t, info)) || (e = type_of(s->format, &index, info)))
        return e;
    if (s->dictionary)
        sizes[4] = 'r';
    if (s->metadata)
        sizes[6] = 'r';
    x = flat_table(f, ref, sizes);
    flat_set(f, x.field[1], (s->flags & ARROW_FLAG_NULLABLE) != 0, 1);
    flat_set(f, x.field[2], t.type, 1);
    flat_string(f, x.field[0], slice_str(s->name ? s->name : ""));
    type_put(f, x.field[3], &t);
    if (s->dictionary) {
        d = flat_table(f, x.field[4], "8r1");
        flat_set(f, d.field[0], (uint64_t)ids->next++, 8);
        type_put(f, d.field[1], &index);
    }
    if (s->metadata)
        metadata_put(f, x.field[6], s->metadata);
    e = children_put(f, x.field[5], v, depth, ids, info);
    return e ? e : f->e;
}

/* ---- messages ---- */

/* Begins a message whose header is to be written at the reference that is returned. */
static size_t message_begin(struct flat *f, struct buf *out, unsigned header, size_t *body_len)
{
    struct flat_table m;
    size_t root;

    f->e = buf_append(out, "\xff\xff\xff\xff\0\0\0\0", 8);
    f->out = out;
    f->base = out->len;
    if (!f->e)
        f->e = buf_append(out, "\0\0\0\0", 4); /* the root's reference */
    root = 0;
    m = flat_table(f, 0, "21r8");
    flat_set(f, root, m.at, 4);
    flat_set(f, m.field[0], VERSION_V5, 2);
    flat_set(f, m.field[1], header, 1);
    *body_len = m.field[3];
    return m.field[2];
}

static enum err pad(struct buf *out, size_t base)
{
    static const uint8_t zero[8];
    size_t over = (out->len - base) % 8;

    return over ? buf_append(out, zero, 8 - over) : ERR_OK;
}

static enum err message_metadata_end(struct flat *f)
{
    enum err e = f->e ? f->e : pad(f->out, f->base);
    uint32_t n;

    if (e)
        return e;
    n = (uint32_t)(f->out->len - f->base);
    memcpy(f->out->ptr + f->base - 4, &n, 4); /* little-endian hosts only, as all of the engine */
    return ERR_OK;
}

enum err arrow_ipc_put_schema(const struct ArrowSchema *s, struct buf *out, struct errinfo *info)
{
    struct ids ids = {0};
    struct flat_table x;
    struct flat f;
    size_t ref, body;
    enum err e;

    ref = message_begin(&f, out, HEADER_SCHEMA, &body);
    x = flat_table(&f, ref, "2r");
    e = children_put(&f, x.field[1], s, 0, &ids, info);
    return e ? e : message_metadata_end(&f);
}

/* ---- record batches ---- */

struct piece {
    const void *ptr;
    size_t len;
};

struct batch {
    int64_t (*node)[2];
    struct piece *piece;
    size_t nodes_n, nodes_cap, pieces_n, pieces_cap, body;
};

static void *grow(void *p, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return p;
    *cap = *cap ? *cap * 2 : 32;
    return xrealloc(p, *cap * size);
}

static void piece_add(struct batch *b, const void *p, size_t n)
{
    b->piece = grow(b->piece, b->pieces_n, &b->pieces_cap, sizeof *b->piece);
    b->piece[b->pieces_n++] = (struct piece){p, p ? n : 0};
    b->body += ((p ? n : 0) + 7) / 8 * 8;
}

static size_t text_bytes(const struct field_type *t, const void *offsets, size_t rows)
{
    if (!offsets || !rows)
        return 0;
    return t->layout == L_TEXT32 ? (size_t)((const int32_t *)offsets)[rows]
                                 : (size_t)((const int64_t *)offsets)[rows];
}

static void own_buffers(struct batch *b, const struct ArrowArray *a, const struct field_type *t)
{
    size_t n = (size_t)a->length, bits = (n + 7) / 8;
    size_t offset = t->layout == L_TEXT64 || t->layout == L_LIST64 ? 8 : 4;

    if (t->layout == L_NONE)
        return;
    if (t->layout == L_UNION) {
        piece_add(b, a->buffers[0], n);
        if (t->dense)
            piece_add(b, a->buffers[1], 4 * n);
        return;
    }
    piece_add(b, a->null_count == 0 ? NULL : a->buffers[0], bits);
    if (t->layout == L_BITS)
        piece_add(b, a->buffers[1], bits);
    else if (t->layout == L_FIXED)
        piece_add(b, a->buffers[1], n * t->width);
    else if (t->layout != L_CHILDREN)
        piece_add(b, a->buffers[1], n ? (n + 1) * offset : 0);
    if (t->layout == L_TEXT32 || t->layout == L_TEXT64)
        piece_add(b, a->buffers[2], text_bytes(t, a->buffers[1], n));
}

static int64_t nulls(const struct ArrowArray *a, const struct field_type *t)
{
    const uint8_t *bits = a->n_buffers ? a->buffers[0] : NULL;
    int64_t i, n = 0;

    if (a->null_count >= 0 || t->layout == L_UNION)
        return a->null_count < 0 ? 0 : a->null_count;
    if (t->layout == L_NONE)
        return a->length;
    for (i = 0; bits && i < a->length; i++)
        n += !(bits[i / 8] >> (i % 8) & 1);
    return n;
}

/* The nodes and buffers of one array. dictionaries are written as messages of their own. */
static enum err array_add(struct batch *b, const struct ArrowSchema *s, const struct ArrowArray *a,
                          struct errinfo *info)
{
    struct field_type t;
    enum err e = type_of(s->format, &t, info);
    int64_t i;

    if (!e && a->offset)
        e = errinfo_set(info, ERR_UNSUPPORTED, "a column is a slice, which is not written here");
    if (e)
        return e;
    b->node = grow(b->node, b->nodes_n, &b->nodes_cap, sizeof *b->node);
    b->node[b->nodes_n][0] = a->length;
    b->node[b->nodes_n++][1] = nulls(a, &t);
    own_buffers(b, a, &t);
    for (i = 0; i < a->n_children && !e; i++)
        e = array_add(b, s->children[i], a->children[i], info);
    return e;
}

static void batch_fini(struct batch *b)
{
    free(b->node);
    free(b->piece);
}

/* The table RecordBatch. */
static void batch_head(struct flat *f, size_t ref, const struct batch *b, int64_t rows)
{
    struct flat_table x = flat_table(f, ref, "8rr");
    size_t at, i, offset = 0;

    flat_set(f, x.field[0], (uint64_t)rows, 8);
    at = flat_vector(f, x.field[1], b->nodes_n, 16);
    for (i = 0; i < b->nodes_n; i++) {
        flat_set(f, at + 16 * i, (uint64_t)b->node[i][0], 8);
        flat_set(f, at + 16 * i + 8, (uint64_t)b->node[i][1], 8);
    }
    at = flat_vector(f, x.field[2], b->pieces_n, 16);
    for (i = 0; i < b->pieces_n; i++) {
        flat_set(f, at + 16 * i, offset, 8);
        flat_set(f, at + 16 * i + 8, b->piece[i].len, 8);
        offset += (b->piece[i].len + 7) / 8 * 8;
    }
}

static enum err body_put(const struct batch *b, struct buf *out)
{
    size_t i, base = out->len;
    enum err e = ERR_OK;

    for (i = 0; i < b->pieces_n && !e; i++) {
        if (b->piece[i].len)
            e = buf_append(out, b->piece[i].ptr, b->piece[i].len);
        e = e ? e : pad(out, base);
    }
    return e;
}

/* dictionary: its number, or -1 for a batch of the columns. */
static enum err batch_put(const struct batch *b, int64_t rows, int64_t dictionary, struct buf *out)
{
    struct flat_table d;
    struct flat f;
    size_t ref, body_len;
    enum err e;

    ref = message_begin(&f, out, dictionary < 0 ? HEADER_BATCH : HEADER_DICTIONARY, &body_len);
    flat_set(&f, body_len, b->body, 8);
    if (dictionary >= 0) {
        d = flat_table(&f, ref, "8r1");
        flat_set(&f, d.field[0], (uint64_t)dictionary, 8);
        ref = d.field[1];
    }
    batch_head(&f, ref, b, rows);
    e = message_metadata_end(&f);
    return e ? e : body_put(b, out);
}

static enum err dictionaries_put(const struct ArrowSchema *s, const struct ArrowArray *a,
                                 struct ids *ids, struct buf *out, struct errinfo *info)
{
    struct batch b = {0};
    enum err e = ERR_OK;
    int64_t i;

    if (s->dictionary) {
        int64_t id = ids->next++;

        e = array_add(&b, s->dictionary, a->dictionary, info);
        e = e ? e : batch_put(&b, a->dictionary->length, id, out);
        batch_fini(&b);
    }
    for (i = 0; i < s->n_children && !e; i++)
        e = dictionaries_put(s->children[i], a->children[i], ids, out, info);
    return e;
}

enum err arrow_ipc_put_batch(const struct ArrowSchema *s, const struct ArrowArray *a,
                             struct buf *out, struct errinfo *info)
{
    struct ids ids = {0};
    struct batch b = {0};
    enum err e = dictionaries_put(s, a, &ids, out, info);
    int64_t i;

    for (i = 0; i < s->n_children && !e; i++)
        e = array_add(&b, s->children[i], a->children[i], info);
    e = e ? e : batch_put(&b, a->length, -1, out);
    batch_fini(&b);
    return e;
}

enum err arrow_ipc_end(struct buf *out)
{
    return buf_append(out, "\xff\xff\xff\xff\0\0\0\0", 8);
}

/* ---- of a query ---- */

enum err arrow_ipc_schema(struct sql_query *q, struct buf *out, struct errinfo *info)
{
    struct ArrowSchema s = {0};
    enum err e = sql_columns_arrow(q, &s, info);

    e = e ? e : arrow_ipc_put_schema(&s, out, info);
    if (s.release)
        s.release(&s);
    return e;
}

enum err arrow_ipc_batch(struct sql_query *q, const struct sql_chunk *c, struct buf *out,
                         struct errinfo *info)
{
    struct ArrowSchema s = {0};
    struct ArrowArray a = {0};
    enum err e = sql_columns_arrow(q, &s, info);

    e = e ? e : sql_chunk_arrow(q, c, &a, info);
    e = e ? e : arrow_ipc_put_batch(&s, &a, out, info);
    if (a.release)
        a.release(&a);
    if (s.release)
        s.release(&s);
    return e;
}
