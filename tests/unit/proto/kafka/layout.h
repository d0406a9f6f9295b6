/* For tests of the Kafka codec: fills any message with values, and compares two of them, by the
 * layouts that gen.py makes (kafka_fields.h). Memory comes from an arena; the same seed gives the same
 * message. */
#ifndef WEIR_TESTS_KAFKA_LAYOUT_H
#define WEIR_TESTS_KAFKA_LAYOUT_H

#include "../../vectors.h"
#include "base/arena.h"
#include "base/assert.h"
#include "proto/kafka/kafka_fields.h"

struct fill {
    uint64_t seed;
    struct arena *arena;
    int16_t version;
    bool rich;       /* no null, no empty array, each tagged field there */
    int poison;      /* the so many-th field that is absent gets a value all the same; -1: none */
    bool poisoned;   /* it was there */
    bool ignorable;  /* and may be left out */
    const char *who; /* its name */
};

static inline bool field_in(const struct kafka_field *f, int16_t v)
{
    return v >= f->from && v <= f->to;
}
static inline bool field_nullable(const struct kafka_field *f, int16_t v)
{
    return v >= f->null_from && v <= f->null_to;
}
/* A struct by pointer, as some version has null for it. */
static inline bool field_pointer(const struct kafka_field *f)
{
    return f->type == KAFKA_STRUCT && !f->array && f->null_from >= 0;
}
static inline size_t type_size(const struct kafka_field *f)
{
    static const size_t sizes[] = {[KAFKA_BOOL] = sizeof(bool),
                                   [KAFKA_INT8] = 1,
                                   [KAFKA_INT16] = 2,
                                   [KAFKA_UINT16] = 2,
                                   [KAFKA_INT32] = 4,
                                   [KAFKA_INT64] = 8,
                                   [KAFKA_FLOAT64] = 8,
                                   [KAFKA_STRING] = sizeof(struct slice),
                                   [KAFKA_BYTES] = sizeof(struct slice),
                                   [KAFKA_RECORDS] = sizeof(struct kafka_records),
                                   [KAFKA_UUID] = 16};

    return f->type == KAFKA_STRUCT ? f->of->size : sizes[f->type];
}
static inline uint32_t array_n(const struct kafka_field *f, const void *m)
{
    return *(const uint32_t *)((const char *)m + f->at_n);
}
static inline bool array_null(const struct kafka_field *f, const void *m)
{
    return f->at_null && *(const bool *)((const char *)m + f->at_null);
}

/* ---- filling ---- */

static inline void fill_struct(struct fill *x, const struct kafka_layout *l, void *m);

static inline void *fill_alloc(struct fill *x, size_t n)
{
    void *p = arena_zalloc(x->arena, 1, n ? n : 1);

    ASSERT(p);
    return p;
}

static inline struct slice fill_bytes(struct fill *x, bool text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz-._0123456789";
    size_t len = x->rich ? 1 + test_below(&x->seed, 5) : test_below(&x->seed, 9), i;
    uint8_t *p;

    if (!x->rich && test_below(&x->seed, 30) == 0)
        len = 126 + test_below(&x->seed, 4); /* where a compact length grows */
    p = fill_alloc(x, len);
    for (i = 0; i < len; i++)
        p[i] = text ? (uint8_t)letters[test_below(&x->seed, sizeof letters - 1)]
                    : (uint8_t)test_random(&x->seed);
    return slice_of(p, len);
}

static inline struct kafka_records fill_records(struct fill *x)
{
    struct kafka_records rec = {.bytes = fill_bytes(x, false)};
    struct kafka_span *spans;
    uint32_t i;

    if (test_below(&x->seed, 2))
        return rec;
    rec.spans_n = 1 + (uint32_t)test_below(&x->seed, 3);
    rec.spans = spans = fill_alloc(x, rec.spans_n * sizeof *spans);
    for (i = 0; i < rec.spans_n; i++)
        spans[i] = (struct kafka_span){fill_bytes(x, false), &spans[i]};
    rec.bytes = SLICE_NULL;
    return rec;
}

/* An even number other than 0, and so never a default (-1, the largest, the smallest). */
static inline void fill_number(struct fill *x, const struct kafka_field *f, void *p)
{
    uint64_t v = (test_random(&x->seed) >> test_below(&x->seed, 60)) & ~(uint64_t)3;
    double d;

    v |= 2;
    switch (f->type) {
    case KAFKA_BOOL:
        *(bool *)p = x->rich ? !*(bool *)p : test_below(&x->seed, 2);
        break;
    case KAFKA_FLOAT64:
        d = (double)(int64_t)v / 1024;
        memcpy(p, &d, sizeof d);
        break;
    default:
        memcpy(p, &v, type_size(f)); /* little-endian machines only, as all that Weir runs on */
    }
}

static inline void fill_value(struct fill *x, const struct kafka_field *f, void *p)
{
    switch (f->type) {
    case KAFKA_STRING:
    case KAFKA_BYTES:
        *(struct slice *)p = fill_bytes(x, f->type == KAFKA_STRING);
        break;
    case KAFKA_RECORDS:
        *(struct kafka_records *)p = fill_records(x);
        break;
    case KAFKA_UUID:
        be64_store(p, test_random(&x->seed) | 1);
        be64_store((char *)p + 8, test_random(&x->seed));
        break;
    case KAFKA_STRUCT:
        f->of->init(p);
        fill_struct(x, f->of, p);
        break;
    default:
        fill_number(x, f, p);
    }
}

static inline void fill_array(struct fill *x, const struct kafka_field *f, void *m, uint32_t n)
{
    char *p = fill_alloc(x, n * type_size(f));
    uint32_t i;

    *(void **)((char *)m + f->at) = p;
    *(uint32_t *)((char *)m + f->at_n) = n;
    if (f->at_null)
        *(bool *)((char *)m + f->at_null) = false;
    for (i = 0; i < n; i++)
        fill_value(x, f, p + i * type_size(f));
}

static inline void fill_null(const struct kafka_field *f, void *m)
{
    void *p = (char *)m + f->at;

    if (f->array)
        *(bool *)((char *)m + f->at_null) = true;
    else if (field_pointer(f))
        *(void **)p = NULL;
    else if (f->type == KAFKA_RECORDS)
        *(struct kafka_records *)p = (struct kafka_records){0};
    else
        *(struct slice *)p = SLICE_NULL;
}

static inline void fill_field(struct fill *x, const struct kafka_field *f, void *m)
{
    void *p = (char *)m + f->at;

    if (field_nullable(f, x->version) && !x->rich && test_below(&x->seed, 3) == 0) {
        fill_null(f, m);
    } else if (f->array) {
        fill_array(x, f, m, x->rich ? 2 : (uint32_t)test_below(&x->seed, 4));
    } else if (field_pointer(f)) {
        *(void **)p = fill_alloc(x, f->of->size);
        fill_value(x, f, *(void **)p);
    } else {
        fill_value(x, f, p);
    }
}

/* A value other than the default for a field that the version does not have; no random numbers, so
 * that all else stays the same. */
static inline void fill_poison(struct fill *x, const struct kafka_field *f, void *m)
{
    uint64_t keep = x->seed;
    bool rich = x->rich;

    x->poisoned = x->rich = true;
    x->ignorable = f->ignorable;
    x->who = f->name;
    x->poison = -1;
    if (f->type == KAFKA_STRUCT && !f->array && !field_pointer(f))
        fill_poison(x, &f->of->fields[0], (char *)m + f->at);
    else
        fill_field(x, f, m);
    x->ignorable = f->ignorable;
    x->rich = rich;
    x->seed = keep;
}

/* m was initialised. */
static inline void fill_struct(struct fill *x, const struct kafka_layout *l, void *m)
{
    uint32_t i;

    for (i = 0; i < l->fields_n; i++) {
        const struct kafka_field *f = &l->fields[i];

        if (field_in(f, x->version)) {
            if (f->tag < 0 || x->rich || test_below(&x->seed, 2))
                fill_field(x, f, m);
        } else if (x->poison >= 0 && x->poison-- == 0) {
            fill_poison(x, f, m);
        }
    }
}

/* A message of this kind, initialised and filled. */
static inline void *fill_message(struct fill *x, const struct kafka_message *k)
{
    void *m = fill_alloc(x, k->layout->size);

    k->layout->init(m);
    fill_struct(x, k->layout, m);
    return m;
}

/* ---- comparing ---- */

static inline bool same_struct(const struct kafka_layout *l, int16_t v, const void *a,
                               const void *b);

static inline bool same_slice(struct slice a, struct slice b)
{
    return slice_is_null(a) == slice_is_null(b) && slice_eq(a, b);
}

static inline bool same_records(const struct kafka_records *a, const struct kafka_records *b)
{
    size_t at = 0;
    uint32_t i;

    if (b->spans_n)
        return false; /* what was decoded is in one piece */
    if (a->spans_n == 0)
        return same_slice(a->bytes, b->bytes);
    for (i = 0; i < a->spans_n; at += a->spans[i++].bytes.len)
        if (at + a->spans[i].bytes.len > b->bytes.len ||
            !slice_eq(a->spans[i].bytes, slice_of(b->bytes.ptr + at, a->spans[i].bytes.len)))
            return false;
    return at == b->bytes.len;
}

static inline bool same_value(const struct kafka_field *f, int16_t v, const void *a, const void *b)
{
    switch (f->type) {
    case KAFKA_STRING:
    case KAFKA_BYTES:
        return same_slice(*(const struct slice *)a, *(const struct slice *)b);
    case KAFKA_RECORDS:
        return same_records(a, b);
    case KAFKA_STRUCT:
        return same_struct(f->of, v, a, b);
    default:
        return memcmp(a, b, type_size(f)) == 0;
    }
}

static inline bool same_array(const struct kafka_field *f, int16_t v, const void *a, const void *b)
{
    const char *p = *(const char *const *)((const char *)a + f->at);
    const char *q = *(const char *const *)((const char *)b + f->at);
    uint32_t i, n = array_n(f, a);

    if (array_null(f, a) || array_null(f, b))
        return array_null(f, a) && array_null(f, b) && array_n(f, b) == 0;
    if (n != array_n(f, b))
        return false;
    for (i = 0; i < n; i++)
        if (!same_value(f, v, p + i * type_size(f), q + i * type_size(f)))
            return false;
    return true;
}

/* Is b, decoded as version v, what a was? Fields that v does not have must have their defaults. */
static inline bool same_struct(const struct kafka_layout *l, int16_t v, const void *a,
                               const void *b)
{
    void *plain = calloc(1, l->size);
    bool same = true;
    uint32_t i;

    ASSERT(plain);
    l->init(plain);
    for (i = 0; i < l->fields_n && same; i++) {
        const struct kafka_field *f = &l->fields[i];
        const char *p = field_in(f, v) ? a : plain, *q = b;

        if (f->array) {
            same = same_array(f, v, p, q);
        } else if (field_pointer(f)) {
            const void *s = *(void *const *)(p + f->at), *t = *(void *const *)(q + f->at);

            same = s && t ? same_struct(f->of, v, s, t) : s == t;
        } else {
            same = same_value(f, v, p + f->at, q + f->at);
        }
        if (!same)
            printf("%s.%s differs in version %d\n", l->name, f->name, v);
    }
    free(plain);
    return same;
}

#endif
