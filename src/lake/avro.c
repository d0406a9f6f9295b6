/* Avro object container files. See avro.h.
 *
 * File: "Obj" 1, metadata (a map of bytes), 16 bytes of sync; then blocks: records (long), bytes
 * (long), the records compressed, sync. Integers are zigzag varints.
 *
 * Invariants while reading: a block's records lie within its bytes; an item of an array takes at
 * least one byte, so counts are bounded by what remains. */
#include "lake/avro.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zlib.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "base/varint.h"
#include "journal/compress.h"

#define MAGIC          "Obj\1"
#define BLOCK_BYTES    (64u << 10) /* a block is written out when it has so many */
#define META_MAX       64u
#define TYPES_BYTES    (16u << 20) /* what a schema may take in memory */
#define DEPTH_MAX      64u
#define SCHEMA_BYTES   (8u << 20)
#define DEFLATE_MEMORY 8

static const char *const codec_words[] = {"null", "deflate", "zstandard", "snappy"};

/* ---- compression: Avro's deflate has no header, its snappy a checksum behind it ---- */

static enum err deflate_raw(struct slice in, struct buf *out)
{
    z_stream z = {0};
    enum err e;
    int rc;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, DEFLATE_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return ERR_NO_MEMORY;
    e = buf_reserve(out, deflateBound(&z, in.len));
    if (!e) {
        z.next_in = (Bytef *)(uintptr_t)in.ptr;
        z.avail_in = (uInt)in.len;
        z.next_out = out->ptr + out->len;
        z.avail_out = (uInt)(out->cap - out->len);
        rc = deflate(&z, Z_FINISH);
        ASSERT(rc == Z_STREAM_END);
        out->len += z.total_out;
    }
    deflateEnd(&z);
    return e;
}

static enum err inflate_raw(struct slice in, struct buf *out)
{
    z_stream z = {0};
    enum err e = ERR_OK;
    int rc = Z_OK;

    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return ERR_NO_MEMORY;
    z.next_in = (Bytef *)(uintptr_t)in.ptr;
    z.avail_in = (uInt)in.len;
    while (rc == Z_OK) {
        size_t room, had;

        e = buf_reserve(out, out->max - out->len < 65536 ? out->max - out->len + 1 : 65536);
        if (e)
            break;
        room = out->cap - out->len < UINT32_MAX ? out->cap - out->len : UINT32_MAX;
        z.next_out = out->ptr + out->len;
        z.avail_out = (uInt)room;
        had = z.avail_in;
        rc = inflate(&z, Z_NO_FLUSH);
        out->len += room - z.avail_out;
        if (rc == Z_OK && had == z.avail_in && z.avail_out == room)
            rc = Z_BUF_ERROR;
    }
    /* Bytes behind the stream's end are ignored: pyiceberg leaves part of zlib's checksum there. */
    e = e ? e : rc == Z_STREAM_END ? ERR_OK : ERR_CORRUPT_INPUT;
    inflateEnd(&z);
    return e;
}

static enum err inflate_snappy(struct slice in, struct buf *out)
{
    size_t had = out->len;
    enum err e;

    if (in.len < 4)
        return ERR_CORRUPT_INPUT;
    e = codec_inflate(CODEC_SNAPPY, slice_of(in.ptr, in.len - 4), out);
    if (!e && crc32(crc32(0, NULL, 0), out->ptr + had, (uInt)(out->len - had)) !=
                  be32_load(in.ptr + in.len - 4))
        e = ERR_CORRUPT_INPUT;
    return e;
}

/* ---- writing ---- */

static void put(struct avro_writer *w, const void *p, size_t n)
{
    if (!w->e)
        w->e = buf_append(&w->block, p, n);
}

static enum err long_to(struct buf *b, int64_t v)
{
    uint8_t raw[VARLONG_MAX];

    return buf_append(b, raw, varint_write(raw, v));
}

static enum err bytes_to(struct buf *b, struct slice s)
{
    enum err e = long_to(b, (int64_t)s.len);

    return e ? e : buf_append_slice(b, s);
}

void avro_begin(struct avro_writer *w, struct buf *out, enum avro_codec codec,
                const uint8_t sync[16], struct slice schema, const struct avro_meta *meta,
                unsigned meta_n)
{
    enum err e;

    ASSERT(codec != AVRO_SNAPPY);
    *w = (struct avro_writer){.out = out, .codec = codec};
    memcpy(w->sync, sync, 16);
    buf_init(&w->block, LIMIT_LAKE_MANIFEST);
    buf_init(&w->packed, LIMIT_LAKE_MANIFEST);
    e = buf_append(out, MAGIC, 4);
    e = e ? e : long_to(out, (int64_t)meta_n + 2);
    e = e ? e : bytes_to(out, SLICE_LIT("avro.schema"));
    e = e ? e : bytes_to(out, schema);
    e = e ? e : bytes_to(out, SLICE_LIT("avro.codec"));
    e = e ? e : bytes_to(out, slice_str(codec_words[codec]));
    for (unsigned i = 0; i < meta_n; i++) {
        e = e ? e : bytes_to(out, slice_str(meta[i].key));
        e = e ? e : bytes_to(out, meta[i].value);
    }
    e = e ? e : long_to(out, 0);
    w->e = e ? e : buf_append(out, w->sync, 16);
}

void avro_put_bool(struct avro_writer *w, bool v)
{
    put(w, v ? "\1" : "\0", 1);
}

void avro_put_long(struct avro_writer *w, int64_t v)
{
    if (!w->e)
        w->e = long_to(&w->block, v);
}

void avro_put_float(struct avro_writer *w, float v)
{
    uint8_t raw[4];
    uint32_t bits;

    memcpy(&bits, &v, 4);
    le32_store(raw, bits);
    put(w, raw, 4);
}

void avro_put_double(struct avro_writer *w, double v)
{
    uint8_t raw[8];
    uint64_t bits;

    memcpy(&bits, &v, 8);
    le64_store(raw, bits);
    put(w, raw, 8);
}

void avro_put_bytes(struct avro_writer *w, struct slice s)
{
    if (!w->e)
        w->e = bytes_to(&w->block, s);
}

void avro_put_fixed(struct avro_writer *w, struct slice s)
{
    put(w, s.ptr, s.len);
}

void avro_put_array(struct avro_writer *w, size_t n)
{
    if (n)
        avro_put_long(w, (int64_t)n);
}

void avro_put_array_end(struct avro_writer *w, size_t n)
{
    avro_put_long(w, 0);
}

static enum err pack(struct avro_writer *w, struct slice *out)
{
    enum err e = ERR_OK;

    *out = buf_slice(&w->block);
    if (w->codec == AVRO_PLAIN)
        return ERR_OK;
    buf_clear(&w->packed);
    if (w->codec == AVRO_DEFLATE)
        e = deflate_raw(*out, &w->packed);
    else
        e = codec_deflate(CODEC_ZSTD, *out, &w->packed);
    *out = buf_slice(&w->packed);
    return e;
}

static void block_write(struct avro_writer *w)
{
    struct slice bytes;

    if (w->e || !w->records)
        return;
    w->e = pack(w, &bytes);
    w->e = w->e ? w->e : long_to(w->out, (int64_t)w->records);
    w->e = w->e ? w->e : bytes_to(w->out, bytes);
    w->e = w->e ? w->e : buf_append(w->out, w->sync, 16);
    w->records = 0;
    buf_clear(&w->block);
}

void avro_record_end(struct avro_writer *w)
{
    w->records++;
    if (w->block.len >= BLOCK_BYTES)
        block_write(w);
}

enum err avro_end(struct avro_writer *w)
{
    block_write(w);
    buf_fini(&w->block);
    buf_fini(&w->packed);
    return w->e;
}

/* ---- schemas ---- */

struct parsing {
    struct avro_reader *r;
    struct map names; /* full name -> struct avro_type */
};

static const char *const kind_words[] = {"null",   "boolean", "int",    "long",   "float",
                                         "double", "bytes",   "string", "record", "enum",
                                         "array",  "map",     "",       "fixed"};

static enum err type_parse(struct parsing *p, const json_t *o, const char *space, unsigned depth,
                           const struct avro_type **out);

/* "space.name", or name alone if it has a dot or there is no space; NULL: no memory left. */
static const char *full_name(struct parsing *p, const char *space, const char *name)
{
    size_t a = strlen(space), b = strlen(name);
    char *s;

    if (strchr(name, '.') || !a)
        return arena_str(&p->r->types, slice_of(name, b));
    s = arena_alloc(&p->r->types, a + b + 2);
    if (s) {
        memcpy(s, space, a);
        s[a] = '.';
        memcpy(s + a + 1, name, b + 1);
    }
    return s;
}

static struct avro_type *type_new(struct parsing *p, enum avro_kind kind, size_t fields)
{
    struct avro_type *t = arena_zalloc(&p->r->types, 1, sizeof *t);

    if (!t)
        return NULL;
    t->kind = kind;
    t->n = (uint32_t)fields;
    t->field = fields ? arena_zalloc(&p->r->types, fields, sizeof *t->field) : NULL;
    return fields && !t->field ? NULL : t;
}

/* A name that stands for a type. */
static enum err named(struct parsing *p, const char *word, const char *space,
                      const struct avro_type **out)
{
    const char *name;

    for (enum avro_kind k = AVRO_NULL; k < AVRO_PRIMITIVES; k++) {
        if (strcmp(word, kind_words[k]) == 0) {
            *out = type_new(p, k, 0);
            return *out ? ERR_OK : ERR_TOO_LARGE;
        }
    }
    name = full_name(p, space, word);
    if (!name)
        return ERR_TOO_LARGE;
    *out = map_find(&p->names, slice_str(name));
    if (!*out)
        *out = map_find(&p->names, slice_str(word));
    return *out ? ERR_OK : ERR_CORRUPT;
}

static int32_t id_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX
               ? (int32_t)json_integer_value(v)
               : -1;
}

/* Gives a record, enum or fixed its name. *space becomes the one for names within it. */
static enum err name_put(struct parsing *p, const json_t *o, struct avro_type *t,
                         const char **space)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    const char *own = json_string_value(json_object_get(o, "namespace")), *full, *dot;

    if (!name)
        return ERR_CORRUPT;
    full = full_name(p, own ? own : *space, name);
    if (!full)
        return ERR_TOO_LARGE;
    dot = strrchr(full, '.');
    *space = dot ? arena_str(&p->r->types, slice_of(full, (size_t)(dot - full))) : "";
    if (!*space)
        return ERR_TOO_LARGE;
    return map_put(&p->names, slice_str(full), t) ? ERR_CORRUPT : ERR_OK;
}

static enum err record_parse(struct parsing *p, const json_t *o, const char *space, unsigned depth,
                             const struct avro_type **out)
{
    const json_t *fields = json_object_get(o, "fields");
    struct avro_type *t = type_new(p, AVRO_RECORD, json_array_size(fields));
    enum err e;

    if (!t || !json_is_array(fields))
        return t ? ERR_CORRUPT : ERR_TOO_LARGE;
    e = name_put(p, o, t, &space);
    for (uint32_t i = 0; !e && i < t->n; i++) {
        const json_t *one = json_array_get(fields, i);
        const char *name = json_string_value(json_object_get(one, "name"));

        t->field[i].id = id_of(one, "field-id");
        t->field[i].name = name ? arena_str(&p->r->types, slice_str(name)) : NULL;
        e = t->field[i].name
                ? type_parse(p, json_object_get(one, "type"), space, depth + 1, &t->field[i].type)
                : ERR_CORRUPT;
    }
    *out = t;
    return e;
}

static enum err union_parse(struct parsing *p, const json_t *o, const char *space, unsigned depth,
                            const struct avro_type **out)
{
    struct avro_type *t = type_new(p, AVRO_UNION, json_array_size(o));
    enum err e = t ? ERR_OK : ERR_TOO_LARGE;

    for (uint32_t i = 0; !e && i < t->n; i++)
        e = type_parse(p, json_array_get(o, i), space, depth + 1, &t->field[i].type);
    *out = t;
    return e;
}

static enum err complex_parse(struct parsing *p, const json_t *o, const char *word,
                              const char *space, unsigned depth, const struct avro_type **out)
{
    bool array = strcmp(word, "array") == 0;
    struct avro_type *t;
    enum err e;

    if (array || strcmp(word, "map") == 0) {
        t = type_new(p, array ? AVRO_ARRAY : AVRO_MAP, 1);
        *out = t;
        if (!t)
            return ERR_TOO_LARGE;
        t->field[0].id = id_of(o, array ? "element-id" : "value-id");
        return type_parse(p, json_object_get(o, array ? "items" : "values"), space, depth + 1,
                          &t->field[0].type);
    }
    if (strcmp(word, "enum") == 0 || strcmp(word, "fixed") == 0) {
        int32_t size = id_of(o, "size");

        t = type_new(p, *word == 'e' ? AVRO_ENUM : AVRO_FIXED, 0);
        *out = t;
        if (!t || (t->kind == AVRO_FIXED && size < 0))
            return t ? ERR_CORRUPT : ERR_TOO_LARGE;
        t->n = t->kind == AVRO_FIXED ? (uint32_t)size
                                     : (uint32_t)json_array_size(json_object_get(o, "symbols"));
        e = name_put(p, o, t, &space);
        return e;
    }
    return named(p, word, space, out);
}

static enum err type_parse(struct parsing *p, const json_t *o, const char *space, unsigned depth,
                           const struct avro_type **out)
{
    const json_t *inner = json_object_get(o, "type");

    *out = NULL;
    if (depth > DEPTH_MAX)
        return ERR_CORRUPT;
    if (json_is_string(o))
        return named(p, json_string_value(o), space, out);
    if (json_is_array(o))
        return union_parse(p, o, space, depth, out);
    if (!json_is_string(inner)) /* a type within a type */
        return inner ? type_parse(p, inner, space, depth + 1, out) : ERR_CORRUPT;
    if (strcmp(json_string_value(inner), "record") == 0)
        return record_parse(p, o, space, depth, out);
    return complex_parse(p, o, json_string_value(inner), space, depth, out);
}

static enum err schema_read(struct avro_reader *r, struct slice text, struct errinfo *info)
{
    struct parsing p = {.r = r};
    json_error_t why;
    json_t *o;
    enum err e;

    if (!text.ptr || text.len > SCHEMA_BYTES)
        return errinfo_set(info, ERR_CORRUPT, "Avro: no schema, or too long a one");
    o = json_loadb((const char *)text.ptr, text.len, JSON_DECODE_ANY, &why);
    if (!o)
        return errinfo_set(info, ERR_CORRUPT, "Avro: the schema is not JSON: %s", why.text);
    map_init(&p.names, LIMIT_LAKE_FIELDS, NULL);
    e = type_parse(&p, o, "", 0, &r->root);
    if (!e && r->root->kind != AVRO_RECORD)
        e = ERR_CORRUPT;
    map_fini(&p.names);
    json_decref(o);
    return e ? errinfo_set(info, ERR_CORRUPT, "Avro: the schema is not one of records") : ERR_OK;
}

/* ---- reading ---- */

/* Bytes that are being decoded. */
struct input {
    const uint8_t *p, *end;
    struct arena *a;
};

static bool take_long(struct input *in, int64_t *v)
{
    size_t n = varlong_read(in->p, (size_t)(in->end - in->p), v);

    in->p += n;
    return n > 0;
}

static bool take(struct input *in, size_t n, struct slice *out)
{
    if (n > (size_t)(in->end - in->p))
        return false;
    *out = slice_of(in->p, n);
    in->p += n;
    return true;
}

static bool take_bytes(struct input *in, struct slice *out)
{
    int64_t n;

    return take_long(in, &n) && n >= 0 && take(in, (size_t)n, out);
}

/* The count of the next run of items (0: no more), which need a byte each at least. */
static bool take_count(struct input *in, uint64_t *n)
{
    int64_t v, bytes;

    if (!take_long(in, &v))
        return false;
    if (v < 0) { /* then the bytes follow that one could skip */
        if (v == INT64_MIN || !take_long(in, &bytes) || bytes < 0)
            return false;
        v = -v;
    }
    *n = (uint64_t)v;
    return *n <= (uint64_t)(in->end - in->p);
}

static enum err value_read(struct input *in, const struct avro_type *t, unsigned depth,
                           struct avro_value *v);

static enum err record_read(struct input *in, const struct avro_type *t, unsigned depth,
                            struct avro_value *v)
{
    enum err e = ERR_OK;

    v->n = t->n;
    v->item = arena_zalloc(in->a, t->n, sizeof *v->item);
    if (!v->item)
        return ERR_TOO_LARGE;
    for (uint32_t i = 0; !e && i < t->n; i++)
        e = value_read(in, t->field[i].type, depth + 1, &v->item[i]);
    return e;
}

/* Items of an array, or keys and values of a map (each: how many values an item is). */
static enum err items_read(struct input *in, const struct avro_type *t, unsigned depth,
                           struct avro_value *v)
{
    uint32_t each = t->kind == AVRO_MAP ? 2 : 1;
    static const struct avro_type string = {.kind = AVRO_STRING};
    uint64_t n;

    for (;;) {
        struct avro_value *more;

        if (!take_count(in, &n))
            return ERR_CORRUPT;
        if (n == 0)
            return ERR_OK;
        if (n > UINT32_MAX / 2 - v->n)
            return ERR_TOO_LARGE;
        more = arena_zalloc(in->a, v->n + n * each, sizeof *more);
        if (!more)
            return ERR_TOO_LARGE;
        if (v->n)
            memcpy(more, v->item, v->n * sizeof *more);
        v->item = more;
        while (n--) {
            const uint8_t *from = in->p;
            enum err e = ERR_OK;

            if (each == 2)
                e = value_read(in, &string, depth + 1, &v->item[v->n++]);
            e = e ? e : value_read(in, t->field[0].type, depth + 1, &v->item[v->n++]);
            if (e || in->p == from)
                return e ? e : ERR_CORRUPT;
        }
    }
}

static enum err number_read(struct input *in, const struct avro_type *t, struct avro_value *v)
{
    struct slice s;
    uint32_t bits;
    float f;

    if (t->kind == AVRO_FLOAT) {
        if (!take(in, 4, &s))
            return ERR_CORRUPT;
        bits = le32_load(s.ptr);
        memcpy(&f, &bits, 4);
        v->d = (double)f;
        return ERR_OK;
    }
    if (t->kind == AVRO_DOUBLE) {
        uint64_t wide;

        if (!take(in, 8, &s))
            return ERR_CORRUPT;
        wide = le64_load(s.ptr);
        memcpy(&v->d, &wide, 8);
        return ERR_OK;
    }
    if (t->kind == AVRO_BOOLEAN) {
        if (!take(in, 1, &s) || s.ptr[0] > 1)
            return ERR_CORRUPT;
        v->i = s.ptr[0];
        return ERR_OK;
    }
    if (!take_long(in, &v->i) || (t->kind == AVRO_INT && (v->i < INT32_MIN || v->i > INT32_MAX)) ||
        (t->kind == AVRO_ENUM && (v->i < 0 || v->i >= (int64_t)t->n)))
        return ERR_CORRUPT;
    return ERR_OK;
}

static enum err value_read(struct input *in, const struct avro_type *t, unsigned depth,
                           struct avro_value *v)
{
    int64_t branch;

    if (depth > DEPTH_MAX)
        return ERR_CORRUPT;
    v->type = t;
    switch (t->kind) {
    case AVRO_NULL:
        return ERR_OK;
    case AVRO_BYTES:
    case AVRO_STRING:
        return take_bytes(in, &v->bytes) ? ERR_OK : ERR_CORRUPT;
    case AVRO_FIXED:
        return take(in, t->n, &v->bytes) ? ERR_OK : ERR_CORRUPT;
    case AVRO_RECORD:
        return record_read(in, t, depth, v);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return items_read(in, t, depth, v);
    case AVRO_UNION:
        if (!take_long(in, &branch) || branch < 0 || branch >= (int64_t)t->n)
            return ERR_CORRUPT;
        return value_read(in, t->field[branch].type, depth + 1, v);
    default:
        return number_read(in, t, v);
    }
}

/* ---- the container ---- */

static enum err meta_read(struct avro_reader *r, struct input *in, struct errinfo *info)
{
    uint64_t n;

    r->meta = arena_zalloc(&r->types, META_MAX, sizeof *r->meta);
    ASSERT(r->meta);
    while (take_count(in, &n)) {
        if (n == 0)
            return ERR_OK;
        if (n > META_MAX - r->meta_n)
            break;
        while (n--) {
            struct slice key;

            if (!take_bytes(in, &key) || !take_bytes(in, &r->meta[r->meta_n].value))
                return errinfo_set(info, ERR_CORRUPT, "Avro: the header ends early");
            r->meta[r->meta_n].key = arena_str(&r->types, key);
            if (!r->meta[r->meta_n].key)
                return errinfo_set(info, ERR_CORRUPT, "Avro: the header is too long");
            r->meta_n++;
        }
    }
    return errinfo_set(info, ERR_CORRUPT, "Avro: the header does not decode");
}

struct slice avro_meta_get(const struct avro_reader *r, const char *key)
{
    for (uint32_t i = 0; i < r->meta_n; i++) {
        if (strcmp(r->meta[i].key, key) == 0)
            return r->meta[i].value;
    }
    return SLICE_NULL;
}

static enum err header_read(struct avro_reader *r, struct errinfo *info)
{
    struct input in = {.p = r->file.ptr, .end = r->file.ptr + r->file.len};
    struct slice s;
    enum err e;

    if (!take(&in, 4, &s) || memcmp(s.ptr, MAGIC, 4) != 0)
        return errinfo_set(info, ERR_CORRUPT, "not an Avro file");
    e = meta_read(r, &in, info);
    if (e)
        return e;
    if (!take(&in, 16, &s))
        return errinfo_set(info, ERR_CORRUPT, "Avro: the header ends early");
    r->sync = s.ptr;
    r->at = (size_t)(in.p - r->file.ptr);
    s = avro_meta_get(r, "avro.codec");
    for (r->codec = AVRO_PLAIN; s.len && r->codec <= AVRO_SNAPPY; r->codec++) {
        if (slice_eq_str(s, codec_words[r->codec]))
            break;
    }
    if (r->codec > AVRO_SNAPPY)
        return errinfo_set(info, ERR_UNSUPPORTED, "Avro: codec \"%.*s\" is not supported",
                           s.len > 32 ? 32 : (int)s.len, (const char *)s.ptr);
    return schema_read(r, avro_meta_get(r, "avro.schema"), info);
}

enum err avro_open(struct avro_reader *r, struct slice file, struct errinfo *info)
{
    enum err e;

    *r = (struct avro_reader){.file = file};
    arena_init(&r->types, 16u << 10, TYPES_BYTES);
    buf_init(&r->inflated, LIMIT_LAKE_MANIFEST);
    e = header_read(r, info);
    if (e)
        avro_close(r);
    return e;
}

void avro_close(struct avro_reader *r)
{
    arena_fini(&r->types);
    buf_fini(&r->inflated);
}

static enum err block_inflate(struct avro_reader *r, struct slice bytes, struct errinfo *info)
{
    enum err e;

    if (r->codec == AVRO_PLAIN) {
        r->block = bytes;
        return ERR_OK;
    }
    buf_clear(&r->inflated);
    if (r->codec == AVRO_DEFLATE)
        e = inflate_raw(bytes, &r->inflated);
    else if (r->codec == AVRO_SNAPPY)
        e = inflate_snappy(bytes, &r->inflated);
    else
        e = codec_inflate(CODEC_ZSTD, bytes, &r->inflated);
    r->inflated_all += r->inflated.len;
    if (!e && r->inflated_all > LIMIT_LAKE_MANIFEST)
        e = ERR_TOO_LARGE;
    r->block = buf_slice(&r->inflated);
    if (e == ERR_NO_MEMORY || e == ERR_TOO_LARGE)
        return errinfo_set(info, e, "Avro: a block inflates to too much");
    return e ? errinfo_set(info, ERR_CORRUPT, "Avro: a block does not inflate") : ERR_OK;
}

static enum err block_open(struct avro_reader *r, struct errinfo *info)
{
    struct input in = {.p = r->file.ptr + r->at, .end = r->file.ptr + r->file.len};
    struct slice bytes, sync;
    int64_t n;

    if (!take_long(&in, &n) || n < 0 || !take_bytes(&in, &bytes) || !take(&in, 16, &sync) ||
        memcmp(sync.ptr, r->sync, 16) != 0)
        return errinfo_set(info, ERR_CORRUPT, "Avro: a block is damaged at byte %zu", r->at);
    r->at = (size_t)(in.p - r->file.ptr);
    r->records = (uint64_t)n;
    return block_inflate(r, bytes, info);
}

enum err avro_next(struct avro_reader *r, struct arena *a, struct avro_value **out,
                   struct errinfo *info)
{
    struct input in = {.a = a};
    enum err e;

    *out = NULL;
    while (r->records == 0) {
        if (r->block.len)
            return errinfo_set(info, ERR_CORRUPT, "Avro: a block has more bytes than records");
        if (r->at == r->file.len)
            return ERR_OK;
        e = block_open(r, info);
        if (e)
            return e;
    }
    in.p = r->block.ptr;
    in.end = r->block.ptr + r->block.len;
    *out = arena_zalloc(a, 1, sizeof **out);
    e = *out ? value_read(&in, r->root, 0, *out) : ERR_TOO_LARGE;
    if (!e && in.p == r->block.ptr)
        e = ERR_CORRUPT;
    if (e) {
        *out = NULL;
        return errinfo_set(info, e, "Avro: a record %s",
                           e == ERR_TOO_LARGE ? "is too large" : "does not decode");
    }
    r->block = slice_of(in.p, (size_t)(in.end - in.p));
    r->records--;
    return ERR_OK;
}

const struct avro_value *avro_get(const struct avro_value *record, int32_t field_id)
{
    if (record->type->kind != AVRO_RECORD)
        return NULL;
    for (uint32_t i = 0; i < record->n; i++) {
        if (record->type->field[i].id == field_id)
            return record->item[i].type->kind == AVRO_NULL ? NULL : &record->item[i];
    }
    return NULL;
}
