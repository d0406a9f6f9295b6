/* For fuzzing Kafka's server: makes any message from the input's bytes by the layouts that gen.py
 * makes (kafka_fields.h), and remembers what answers said: a field's value may be the one that an
 * answer had last under the same name (a member's id, a topic's, a producer's, an epoch), so that
 * requests belong to one another. Input that is used up gives zeros, which mean defaults and empty
 * arrays: every input ends. */
#ifndef WEIR_FUZZ_KAFKA_INPUT_H
#define WEIR_FUZZ_KAFKA_INPUT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/assert.h"
#include "journal/batch.h"
#include "proto/kafka/kafka_fields.h"

#define KNOWN_MAX   128u
#define KNOWN_BYTES 64u

struct input {
    const uint8_t *p, *end;
};

static inline uint8_t take(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static inline struct slice take_bytes(struct input *in, size_t n)
{
    struct slice s = {in->p, n};

    if (s.len > (size_t)(in->end - in->p))
        s.len = (size_t)(in->end - in->p);
    in->p += s.len;
    return s;
}

/* ---- what answers said ---- */

struct known {
    const char *name; /* the field's */
    uint8_t bytes[KNOWN_BYTES];
    size_t len;
    bool number; /* bytes: an int64_t */
};

struct memory {
    struct known v[KNOWN_MAX];
    unsigned n;
};

static inline struct known *known_find(struct memory *m, const char *name, bool number)
{
    unsigned i;

    for (i = 0; i < m->n; i++)
        if (m->v[i].number == number && strcmp(m->v[i].name, name) == 0)
            return &m->v[i];
    return NULL;
}

static inline void known_put(struct memory *m, const char *name, bool number, const void *p,
                             size_t n)
{
    struct known *k = known_find(m, name, number);

    if (n > KNOWN_BYTES || (!k && m->n == KNOWN_MAX))
        return;
    if (!k)
        k = &m->v[m->n++];
    *k = (struct known){.name = name, .len = n, .number = number};
    if (n)
        memcpy(k->bytes, p, n);
}

/* Bytes of a number; 0: it is none. */
static inline size_t number_size(enum kafka_type t)
{
    switch (t) {
    case KAFKA_INT8:
        return 1;
    case KAFKA_INT16:
    case KAFKA_UINT16:
        return 2;
    case KAFKA_INT32:
        return 4;
    case KAFKA_INT64:
    case KAFKA_FLOAT64:
        return 8;
    default:
        return 0;
    }
}

/* Little-endian machines only, as all that Weir runs on. */
static inline void known_value(struct memory *m, const struct kafka_field *f, const void *p)
{
    const struct slice *s = p;
    int64_t n = 0;

    if (number_size(f->type)) {
        memcpy(&n, p, number_size(f->type));
        known_put(m, f->name, true, &n, sizeof n);
    } else if (f->type == KAFKA_UUID) {
        known_put(m, f->name, false, p, 16);
    } else if ((f->type == KAFKA_STRING || f->type == KAFKA_BYTES) && s->len) {
        known_put(m, f->name, false, s->ptr, s->len);
    }
}

static inline size_t field_size(const struct kafka_field *f)
{
    switch (f->type) {
    case KAFKA_STRUCT:
        return f->of->size;
    case KAFKA_STRING:
    case KAFKA_BYTES:
        return sizeof(struct slice);
    case KAFKA_RECORDS:
        return sizeof(struct kafka_records);
    case KAFKA_UUID:
        return 16;
    case KAFKA_BOOL:
        return sizeof(bool);
    default:
        return number_size(f->type);
    }
}

static inline bool field_has_null(const struct kafka_field *f)
{
    return f->type == KAFKA_STRUCT && !f->array && f->null_from >= 0;
}

static inline void known_struct(struct memory *m, const struct kafka_layout *l, const void *s)
{
    uint32_t i, k, n;

    for (i = 0; i < l->fields_n; i++) {
        const struct kafka_field *f = &l->fields[i];
        const char *p = (const char *)s + f->at;

        n = 1;
        if (f->array) {
            n = *(const uint32_t *)((const char *)s + f->at_n);
            p = *(const char *const *)p;
        } else if (field_has_null(f) && !(p = *(const char *const *)p)) {
            continue;
        }
        for (k = 0; k < n && k < 8; k++, p += field_size(f))
            if (f->type == KAFKA_STRUCT)
                known_struct(m, f->of, p);
            else
                known_value(m, f, p);
    }
}

/* ---- a message from bytes ---- */

struct maker {
    struct input *in;
    struct memory *known;
    struct arena *arena;
    int16_t version;
    int64_t now_ms;
};

static inline void *maker_alloc(struct maker *x, size_t n)
{
    void *p = arena_zalloc(x->arena, 1, n ? n : 1);

    ASSERT(p);
    return p;
}

static inline void make_number(struct maker *x, const struct kafka_field *f, void *p)
{
    static const int64_t usual[] = {0,         1,         2,     3,    5,     10,       100,
                                    1000,      6000,      30000, -1,   -2,    -3,       -4,
                                    INT32_MAX, INT32_MIN, 65536, 1024, 45000, INT64_MAX};
    const struct known *k = known_find(x->known, f->name, true);
    uint8_t c = take(x->in);
    int64_t n = 0;

    if (c % 4 == 0) {
        if (!k)
            return; /* the default */
        memcpy(&n, k->bytes, sizeof n);
        n += c / 4 < 8 ? c / 4 : 0; /* the next ones, as epochs and sequences have it */
    } else if (c % 4 == 1) {
        n = usual[c / 4 % (sizeof usual / sizeof *usual)];
    } else if (c % 4 == 2) {
        n = (int8_t)take(x->in);
    } else {
        struct slice s = take_bytes(x->in, number_size(f->type));

        memcpy(&n, s.ptr, s.len);
    }
    memcpy(p, &n, number_size(f->type));
}

static inline struct slice make_text(struct maker *x, const struct kafka_field *f)
{
    static const char *const usual[] = {"t0",
                                        "t1",
                                        "t2",
                                        "g0",
                                        "g1",
                                        "x0",
                                        "consumer",
                                        "range",
                                        "uniform",
                                        "",
                                        "retention.ms",
                                        "cleanup.policy",
                                        "compact",
                                        "100",
                                        "max.message.bytes",
                                        "User:a",
                                        "kafka-cluster",
                                        "*",
                                        "user",
                                        "client-id",
                                        "a",
                                        "PLAIN",
                                        "SCRAM-SHA-256",
                                        "t.*",
                                        "consumer_byte_rate",
                                        "compression.type",
                                        "gzip",
                                        "min.cleanable.dirty.ratio",
                                        "0.5",
                                        "m"};
    const struct known *k = known_find(x->known, f->name, false);
    uint8_t c = take(x->in);

    if (c % 4 == 0 && k)
        return slice_of(k->bytes, k->len);
    if (c % 4 == 3)
        return take_bytes(x->in, take(x->in));
    return slice_str(usual[c / 4 % (sizeof usual / sizeof *usual)]);
}

/* One batch or two, with all of their fields from the input; or anything. */
static inline struct slice make_records(struct maker *x)
{
    uint8_t c = take(x->in), n = take(x->in), i;
    struct known *id = known_find(x->known, "producer_id", true);
    struct known *epoch = known_find(x->known, "producer_epoch", true);
    int64_t pid = -1, pepoch = -1;
    struct batch_builder b;
    struct slice s, out;

    if (c % 16 == 15)
        return take_bytes(x->in, n);
    if (c & 16 && id && epoch) {
        memcpy(&pid, id->bytes, sizeof pid);
        memcpy(&pepoch, epoch->bytes, sizeof pepoch);
    }
    batch_builder_init(&b, (enum codec)(c % 5), 1u << 20);
    for (i = 0; i < 1 + n % 8; i++) {
        s = take_bytes(x->in, take(x->in) % 32);
        ASSERT(batch_builder_add(&b, x->now_ms + i, n & 64 ? SLICE_NULL : s, s, NULL, 0, NULL) ==
               ERR_OK);
    }
    ASSERT(batch_builder_finish(&b, (int16_t)(c & 32 ? BATCH_TRANSACTIONAL : 0), pid,
                                (int16_t)pepoch, pid < 0 ? -1 : n / 8 % 4, &out) == ERR_OK);
    out = arena_dup(x->arena, out);
    if (c & 64)
        ((uint8_t *)(uintptr_t)out.ptr)[take(x->in) % out.len] ^= take(x->in);
    batch_builder_fini(&b);
    return out;
}

static inline void make_struct(struct maker *x, const struct kafka_layout *l, void *m);

static inline void make_value(struct maker *x, const struct kafka_field *f, void *p)
{
    const struct known *k;
    struct slice s;

    switch (f->type) {
    case KAFKA_STRING:
    case KAFKA_BYTES:
        *(struct slice *)p = make_text(x, f);
        break;
    case KAFKA_RECORDS:
        *(struct kafka_records *)p = (struct kafka_records){.bytes = make_records(x)};
        break;
    case KAFKA_UUID:
        k = known_find(x->known, f->name, false);
        s = k ? slice_of(k->bytes, 16) : slice_of(x->in->p, 0);
        if (take(x->in) % 4 == 3)
            s = take_bytes(x->in, 16);
        memcpy(p, s.ptr, s.len);
        break;
    case KAFKA_STRUCT:
        f->of->init(p);
        make_struct(x, f->of, p);
        break;
    case KAFKA_BOOL:
        *(bool *)p = take(x->in) & 1;
        break;
    default:
        make_number(x, f, p);
    }
}

static inline void make_array(struct maker *x, const struct kafka_field *f, void *m, uint32_t n)
{
    char *p = maker_alloc(x, n * field_size(f));
    uint32_t i;

    *(void **)((char *)m + f->at) = p;
    *(uint32_t *)((char *)m + f->at_n) = n;
    if (f->at_null)
        *(bool *)((char *)m + f->at_null) = false;
    for (i = 0; i < n; i++)
        make_value(x, f, p + i * field_size(f));
}

static inline void make_null(const struct kafka_field *f, void *m)
{
    void *p = (char *)m + f->at;

    if (f->array)
        *(bool *)((char *)m + f->at_null) = true;
    else if (f->type == KAFKA_STRUCT)
        *(void **)p = NULL;
    else if (f->type == KAFKA_RECORDS)
        *(struct kafka_records *)p = (struct kafka_records){0};
    else
        *(struct slice *)p = SLICE_NULL;
}

static inline void make_field(struct maker *x, const struct kafka_field *f, void *m)
{
    bool null = x->version >= f->null_from && x->version <= f->null_to && f->null_from >= 0;
    void *p = (char *)m + f->at;
    uint8_t c;

    if (null && take(x->in) % 4 == 1) {
        make_null(f, m);
    } else if (f->array) {
        c = take(x->in);
        make_array(x, f, m, c < 250 ? c % 4 : c);
    } else if (field_has_null(f)) {
        *(void **)p = maker_alloc(x, f->of->size);
        make_value(x, f, *(void **)p);
    } else {
        make_value(x, f, p);
    }
}

static inline void make_struct(struct maker *x, const struct kafka_layout *l, void *m)
{
    uint32_t i;

    for (i = 0; i < l->fields_n && x->in->p < x->in->end; i++) {
        const struct kafka_field *f = &l->fields[i];

        if (x->version >= f->from && x->version <= f->to && (f->tag < 0 || take(x->in) % 2))
            make_field(x, f, m);
    }
}

static inline void *make_message(struct maker *x, const struct kafka_message *k)
{
    void *m = maker_alloc(x, k->layout->size);

    k->layout->init(m);
    make_struct(x, k->layout, m);
    return m;
}

#endif
