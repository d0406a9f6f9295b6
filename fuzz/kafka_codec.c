/* Fuzzing of the Kafka message codec (proto/kafka/codec.h and what gen.py makes). The first byte is
 * the API's key (or, above them, a message that belongs to none; 255: the rest is a whole request with
 * its header), the second the version, with the highest bit set for a response. Checked beside the
 * sanitizers: what decodes lies within the input and takes memory in proportion to it; it needs all of
 * its bytes; it encodes, to bytes that decode and encode to themselves. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/kafka/kafka_fields.h"

#define FRAME_MAX       ((size_t)4 << 20)
#define ARENA_MAX       ((size_t)64 << 20)
#define MEMORY_PER_BYTE 64u
#define NO_API          0xf0u /* and above: messages without a key, by their place in the table */
#define REQUEST         0xffu

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what was decoded lies within the input ---- */

static void walk(const struct kafka_layout *l, const void *m, struct slice in);

static void inside(struct slice s, struct slice in)
{
    if (s.ptr)
        ASSERT(s.ptr >= in.ptr && s.ptr + s.len <= in.ptr + in.len);
    else
        ASSERT(s.len == 0);
}

static void walk_value(const struct kafka_field *f, const void *p, struct slice in)
{
    if (f->type == KAFKA_STRUCT)
        walk(f->of, p, in);
    else if (f->type == KAFKA_STRING || f->type == KAFKA_BYTES)
        inside(*(const struct slice *)p, in);
    else if (f->type == KAFKA_RECORDS)
        inside(((const struct kafka_records *)p)->bytes, in);
}

static void walk_array(const struct kafka_field *f, const void *m, struct slice in)
{
    const char *p = *(const char *const *)((const char *)m + f->at);
    uint32_t i, n = *(const uint32_t *)((const char *)m + f->at_n);
    size_t size = f->type == KAFKA_STRUCT ? f->of->size : sizeof(struct slice);

    ASSERT(n <= in.len);
    if (f->type == KAFKA_STRUCT || f->type == KAFKA_STRING)
        for (i = 0; i < n; i++)
            walk_value(f, p + i * size, in);
}

/* Defaults are not within the input: only fields that are empty have such. */
static void walk(const struct kafka_layout *l, const void *m, struct slice in)
{
    uint32_t i;

    for (i = 0; i < l->fields_n; i++) {
        const struct kafka_field *f = &l->fields[i];
        const char *p = (const char *)m + f->at;

        if (f->array) {
            walk_array(f, m, in);
        } else if (f->type == KAFKA_STRUCT && f->null_from >= 0) {
            if (*(const void *const *)p)
                walk(f->of, *(const void *const *)p, in);
        } else if (f->type != KAFKA_STRING || ((const struct slice *)p)->len) {
            walk_value(f, p, in);
        }
    }
}

/* ---- there and back ---- */

struct run {
    const struct kafka_message *k;
    int16_t version;
    struct arena arena;
    void *m;
};

/* All of it is needed, none of it is forgotten. *left: bytes behind the message. */
static enum err decode(struct run *x, struct slice in, size_t *left)
{
    struct kreader r;
    enum err e;

    arena_reset(&x->arena);
    kreader_init(&r, in, ARENA_MAX);
    e = x->k->decode(&r, x->version, &x->arena, x->m);
    ASSERT(ARENA_MAX - r.arena_left <= in.len * MEMORY_PER_BYTE);
    ASSERT(e == ERR_OK || e == ERR_CORRUPT_INPUT || e == ERR_UNSUPPORTED);
    *left = kreader_left(&r);
    if (!e)
        walk(x->k->layout, x->m, in);
    return e;
}

static void encode(struct run *x, struct buf *out)
{
    struct kwriter w;

    buf_init(out, FRAME_MAX);
    kwriter_init(&w, FRAME_MAX);
    ASSERT(x->k->encode(&w, x->version, x->m) == ERR_OK);
    ASSERT(kwriter_flatten(&w, out) == ERR_OK);
    kwriter_fini(&w);
}

static void there_and_back(struct run *x, struct slice in)
{
    struct buf once, twice;
    size_t left;

    if (decode(x, in, &left))
        return;
    in.len -= left;
    if (in.len)
        ASSERT(decode(x, slice_of(in.ptr, in.len - 1), &left) == ERR_CORRUPT_INPUT);
    ASSERT(decode(x, in, &left) == ERR_OK && left == 0);
    encode(x, &once);
    ASSERT(once.len <= in.len); /* the shortest form */
    ASSERT(decode(x, buf_slice(&once), &left) == ERR_OK && left == 0);
    encode(x, &twice);
    ASSERT(slice_eq(buf_slice(&once), buf_slice(&twice)));
    buf_fini(&once);
    buf_fini(&twice);
}

static const struct kafka_message *find(int key, bool response, unsigned nth)
{
    size_t i;

    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];

        if (k->key == key && (key < 0 ? nth-- == 0 : k->response == response))
            return k;
    }
    return NULL;
}

/* A request with its header: chooses the message itself. Answers where its body is. */
static struct slice request(struct run *x, struct slice in)
{
    struct kafka_request_header h;
    const struct kafka_api *api;
    struct kreader r;
    enum err e;

    kreader_init(&r, in, ARENA_MAX);
    e = kafka_request_open(&r, &x->arena, &h, &api);
    if (e) {
        ASSERT(e == ERR_CORRUPT_INPUT || e == ERR_UNSUPPORTED);
        return in;
    }
    inside(h.client_id, in);
    ASSERT(api->key == h.request_api_key && kafka_api_has(api, h.request_api_version));
    x->k = find(api->key, false, 0);
    x->version = h.request_api_version;
    ASSERT(x->k);
    return slice_of(r.p, kreader_left(&r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run x = {0};
    struct slice in;

    if (size < 2 || size > FRAME_MAX)
        return 0;
    in = slice_of(data + 2, size - 2);
    arena_init(&x.arena, 4096, ARENA_MAX);
    if (data[0] == REQUEST) {
        in = request(&x, in);
    } else {
        x.version = data[1] & 0x7f;
        x.k =
            data[0] >= NO_API ? find(-1, false, data[0] - NO_API) : find(data[0], data[1] >> 7, 0);
    }
    if (x.k) {
        x.m = malloc(x.k->layout->size);
        there_and_back(&x, in);
        free(x.m);
    }
    arena_fini(&x.arena);
    return 0;
}
