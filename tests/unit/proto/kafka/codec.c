/* The Kafka codec: every message in every version there and back, as Kafka's own classes write it,
 * fields that a version does not have, every truncation, counts and lengths that lie, tagged fields,
 * splices, frames and headers. */
#include "proto/kafka/codec.h"

#include "layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ARENA_MAX ((size_t)4 << 20)
#define FRAME_MAX ((size_t)1 << 20)

static const char *vectors_path;

static const struct kafka_message *message(const char *name)
{
    size_t i;

    for (i = 0; i < kafka_messages_n; i++)
        if (strcmp(kafka_messages[i].name, name) == 0)
            return &kafka_messages[i];
    fail_msg("no message %s", name);
    return NULL;
}

/* What one test of many messages needs. */
struct bench {
    struct arena filled, decoded;
    struct kwriter w;
    struct buf bytes;
    void *m; /* room for any message */
};

static void bench_init(struct bench *b)
{
    size_t i, size = 0;

    for (i = 0; i < kafka_messages_n; i++)
        if (kafka_messages[i].layout->size > size)
            size = kafka_messages[i].layout->size;
    arena_init(&b->filled, 1 << 16, ARENA_MAX);
    arena_init(&b->decoded, 1 << 16, ARENA_MAX);
    kwriter_init(&b->w, FRAME_MAX);
    buf_init(&b->bytes, FRAME_MAX);
    b->m = malloc(size);
    assert_non_null(b->m);
}

static void bench_fini(struct bench *b)
{
    arena_fini(&b->filled);
    arena_fini(&b->decoded);
    kwriter_fini(&b->w);
    buf_fini(&b->bytes);
    free(b->m);
}

/* m as bytes in b->bytes. */
static enum err encode(struct bench *b, const struct kafka_message *k, int16_t v, const void *m)
{
    enum err e;

    kwriter_clear(&b->w);
    buf_clear(&b->bytes);
    e = k->encode(&b->w, v, m);
    if (!e)
        assert_int_equal(kwriter_flatten(&b->w, &b->bytes), ERR_OK);
    return e;
}

/* Decodes from memory of exactly that size, so that a sanitizer sees a read behind it. *r is left for
 * questions that need no input. What was decoded lies in *copy. */
static enum err decode_copy(struct bench *b, const struct kafka_message *k, int16_t v,
                            struct slice bytes, struct kreader *r, uint8_t **copy)
{
    *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(*copy);
    if (bytes.len)
        memcpy(*copy, bytes.ptr, bytes.len);
    arena_reset(&b->decoded);
    kreader_init(r, slice_of(*copy, bytes.len), ARENA_MAX / 2);
    return k->decode(r, v, &b->decoded, b->m);
}

static enum err decode(struct bench *b, const struct kafka_message *k, int16_t v,
                       struct slice bytes)
{
    struct kreader r;
    uint8_t *copy;
    enum err e = decode_copy(b, k, v, bytes, &r, &copy);

    free(copy);
    return e;
}

static enum err decode_hex(struct bench *b, const char *name, int16_t v, const char *hex)
{
    size_t len;
    uint8_t *p = vectors_hex(hex, &len);
    enum err e = decode(b, message(name), v, slice_of(p, len));

    free(p);
    return e;
}

/* bytes (of a message of kind k) decode to what `want` is and encode to the same bytes. */
static void check_bytes(struct bench *b, const struct kafka_message *k, int16_t v,
                        struct slice bytes, const void *want)
{
    struct kreader r;
    uint8_t *copy;

    assert_int_equal(decode_copy(b, k, v, bytes, &r, &copy), ERR_OK);
    assert_int_equal(kreader_left(&r), 0);
    if (want)
        assert_true(same_struct(k->layout, v, want, b->m));
    assert_int_equal(encode(b, k, v, b->m), ERR_OK);
    assert_int_equal(b->bytes.len, bytes.len);
    assert_memory_equal(b->bytes.ptr ? b->bytes.ptr : copy, copy, bytes.len);
    free(copy);
}

static void there_and_back(void **state)
{
    struct fill x = {.seed = test_seed(), .poison = -1};
    struct bench b;
    unsigned round, n = 0;
    size_t i;
    int16_t v;

    bench_init(&b);
    x.arena = &b.filled;
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];

        for (v = k->min; v <= k->max; v++) {
            for (round = 0; round < 12; round++, n++) {
                struct buf first;
                void *m;

                arena_reset(&b.filled);
                x.version = v;
                x.rich = round == 0;
                m = fill_message(&x, k);
                assert_int_equal(encode(&b, k, v, m), ERR_OK);
                first = b.bytes;
                buf_init(&b.bytes, FRAME_MAX);
                check_bytes(&b, k, v, buf_slice(&first), m);
                buf_fini(&first);
            }
        }
    }
    assert_true(n > 5000);
    bench_fini(&b);
}

/* A message of defaults: what the init functions set is what decoding gives. */
static void defaults(void **state)
{
    struct bench b;
    struct buf first;
    size_t i;
    int16_t v;

    bench_init(&b);
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];
        void *m = malloc(k->layout->size);

        assert_non_null(m);
        k->layout->init(m);
        for (v = k->min; v <= k->max; v++) {
            enum err e = encode(&b, k, v, m);

            if (e == ERR_OK) {
                first = b.bytes;
                buf_init(&b.bytes, FRAME_MAX);
                assert_int_equal(decode(&b, k, v, buf_slice(&first)), ERR_OK);
                check_bytes(&b, k, v, buf_slice(&first), NULL);
                buf_fini(&first);
            } else { /* the default is null, which this version has not */
                fail_msg("%s %d: the defaults do not encode", k->name, v);
            }
        }
        free(m);
    }
    bench_fini(&b);
}

/* Gives the so many-th field that version v lacks a value. False: there are not so many. */
static bool check_absent(struct bench *b, const struct kafka_message *k, int16_t v, int which,
                         uint64_t seed)
{
    struct fill x = {.seed = seed, .arena = &b->filled, .version = v, .rich = true};
    struct buf plain;
    void *m;

    arena_reset(&b->filled);
    x.poison = -1;
    m = fill_message(&x, k);
    assert_int_equal(encode(b, k, v, m), ERR_OK);
    plain = b->bytes;
    buf_init(&b->bytes, FRAME_MAX);
    x.seed = seed;
    x.poison = which;
    m = fill_message(&x, k);
    if (x.poisoned) {
        enum err e = encode(b, k, v, m);

        if (e != (x.ignorable ? ERR_OK : ERR_INVALID))
            fail_msg("%s %d: %s answers %s", k->name, v, x.who, err_code(e));
        if (x.ignorable) {
            assert_int_equal(plain.len, b->bytes.len);
            assert_memory_equal(plain.ptr, b->bytes.ptr, plain.len);
        }
    }
    buf_fini(&plain);
    return x.poisoned;
}

static void fields_absent(void **state)
{
    uint64_t seed = test_seed();
    struct bench b;
    unsigned n = 0;
    size_t i;
    int16_t v;
    int which;

    bench_init(&b);
    for (i = 0; i < kafka_messages_n; i++)
        for (v = kafka_messages[i].min; v <= kafka_messages[i].max; v++)
            for (which = 0; check_absent(&b, &kafka_messages[i], v, which, seed); which++)
                n++;
    assert_true(n > 500);
    bench_fini(&b);
}

/* No beginning of a message is a message, and bytes behind it are counted. */
static void truncated(void **state)
{
    struct fill x = {.seed = test_seed(), .poison = -1, .rich = true};
    struct bench b;
    size_t i, len;
    int16_t v;

    bench_init(&b);
    x.arena = &b.filled;
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];

        for (v = k->min; v <= k->max; v++) {
            struct kreader r;
            uint8_t *copy;

            arena_reset(&b.filled);
            x.version = v;
            assert_int_equal(encode(&b, k, v, fill_message(&x, k)), ERR_OK);
            for (len = 0; len < b.bytes.len; len++)
                assert_int_equal(decode(&b, k, v, slice_of(b.bytes.ptr, len)), ERR_CORRUPT_INPUT);
            assert_int_equal(buf_append(&b.bytes, "abc", 3), ERR_OK);
            assert_int_equal(decode_copy(&b, k, v, buf_slice(&b.bytes), &r, &copy), ERR_OK);
            assert_int_equal(kreader_left(&r), 3);
            free(copy);
        }
    }
    bench_fini(&b);
}

/* Any count or length replaced by one that lies: memory stays within a multiple of the input. */
static void lies(void **state)
{
    static const char *const with[] = {"7fffffff",   "fffffffe", "80000000", "ffffffff0f",
                                       "808080807f", "ffff",     "00",       "ffffffffff"};
    struct fill x = {.seed = test_seed(), .poison = -1, .rich = true};
    struct bench b;
    size_t i, at, n, worst = 0;
    unsigned k;

    bench_init(&b);
    x.arena = &b.filled;
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *m = &kafka_messages[i];
        struct kreader r;
        uint8_t *copy, *lie;
        struct buf bytes;

        arena_reset(&b.filled);
        x.version = i % 2 ? m->max : m->min;
        assert_int_equal(encode(&b, m, x.version, fill_message(&x, m)), ERR_OK);
        for (k = 0; k < sizeof with / sizeof with[0]; k++) {
            lie = vectors_hex(with[k], &n);
            for (at = 0; at + n <= b.bytes.len; at++) {
                buf_init(&bytes, FRAME_MAX);
                assert_int_equal(buf_append_slice(&bytes, buf_slice(&b.bytes)), ERR_OK);
                memcpy(bytes.ptr + at, lie, n);
                decode_copy(&b, m, x.version, buf_slice(&bytes), &r, &copy);
                assert_in_range(ARENA_MAX / 2 - r.arena_left, 0, bytes.len * 64);
                if ((ARENA_MAX / 2 - r.arena_left) / bytes.len > worst)
                    worst = (ARENA_MAX / 2 - r.arena_left) / bytes.len;
                free(copy);
                buf_fini(&bytes);
            }
            free(lie);
        }
    }
    printf("at most %zu bytes for one of the input\n", worst);
    bench_fini(&b);
}

/* Counts and lengths that the bytes cannot hold are refused before anything is allocated. */
static void hostile_counts(void **state)
{
    static const struct {
        const char *name;
        int16_t version;
        const char *hex;
    } rows[] = {{"MetadataRequest", 1, "7fffffff"},
                {"MetadataRequest", 1, "fffffffe"},
                {"MetadataRequest", 1, "80000000"},
                {"MetadataRequest", 0, "ffffffff"},
                {"MetadataRequest", 1, "000000020000"},
                {"MetadataRequest", 9, "ffffffff0f"},
                {"MetadataRequest", 9, "ffffffff1f"},
                {"MetadataRequest", 9, "808080801001000000"},
                {"MetadataRequest", 9, "8080808080"},
                {"MetadataRequest", 9, "808080808000"},
                {"MetadataRequest", 9, "05010101"},
                {"ListConfigResourcesRequest", 1, "ffffffff07"},
                {"ListConfigResourcesRequest", 1, "00"},
                {"MetadataRequest", 1, "00000001fffe"},
                {"MetadataRequest", 1, "000000017fff61"},
                {"MetadataRequest", 1, "00000001ffff"},
                {"SaslAuthenticateRequest", 0, "ffffffff"},
                {"SaslAuthenticateRequest", 0, "fffffffe"},
                {"SaslAuthenticateRequest", 0, "7fffffff00"},
                {"SaslAuthenticateRequest", 2, "0000"},
                {"SaslHandshakeRequest", 0, "ffff"},
                {"ProduceRequest", 3, "ffff0001000000057fffffff"},
                {"ProduceRequest", 3, "ffff000100000005000000010001610000000100000000fffffffe"},
                {"ProduceRequest", 3, "ffff0001000000050000000100016100000001000000007fffffff61"},
                {"ProduceRequest", 9, "00000100000005ffffffff0f"},
                {"ProduceRequest", 9, "000001000000050202610200000000ffffffff0f"}};
    struct bench b;
    size_t i;

    bench_init(&b);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t before = b.decoded.total;

        if (decode_hex(&b, rows[i].name, rows[i].version, rows[i].hex) != ERR_CORRUPT_INPUT)
            fail_msg("%s %d %s decodes", rows[i].name, rows[i].version, rows[i].hex);
        if (i < 13)
            assert_int_equal(b.decoded.total, before);
    }
    /* a string of 32,767 bytes is the longest, compact or not */
    buf_clear(&b.bytes);
    assert_int_equal(buf_append(&b.bytes, "\x80\x80\x02", 3), ERR_OK);
    for (i = 0; i < KAFKA_STRING_MAX + 1; i++)
        assert_int_equal(buf_append_u8(&b.bytes, 'a'), ERR_OK);
    b.bytes.ptr[b.bytes.len - 1] = 0;
    assert_int_equal(decode(&b, message("ConsumerGroupDescribeRequest"), 0, SLICE_LIT("\x01\0\0")),
                     ERR_OK);
    assert_int_equal(decode(&b, message("SaslAuthenticateRequest"), 2, buf_slice(&b.bytes)),
                     ERR_OK);
    assert_int_equal(decode(&b, message("InitProducerIdRequest"), 2, buf_slice(&b.bytes)),
                     ERR_CORRUPT_INPUT); /* there the string is fine, but the rest is missing */
    b.bytes.ptr[0] = 0x81;
    assert_int_equal(buf_append(&b.bytes, "\0\0\0\0\0", 5), ERR_OK);
    assert_int_equal(decode(&b, message("InitProducerIdRequest"), 2, buf_slice(&b.bytes)),
                     ERR_CORRUPT_INPUT);
    b.bytes.ptr[0] = 0x80;
    assert_int_equal(decode(&b, message("InitProducerIdRequest"), 2, buf_slice(&b.bytes)), ERR_OK);
    bench_fini(&b);
}

static void arena_limit(void **state)
{
    struct kafka_metadata_request q;
    struct kreader r;
    struct arena a;
    uint8_t in[4 + 2 * 1000] = {0, 0, 1000 >> 8, 1000 & 255}; /* 1,000 empty names */

    arena_init(&a, 4096, 1 << 20);
    kreader_init(&r, slice_of(in, sizeof in), 1000 * sizeof *q.topics);
    assert_int_equal(kafka_metadata_request_decode(&r, 1, &a, &q), ERR_OK);
    assert_int_equal(q.topics_n, 1000);
    assert_int_equal(r.arena_left, 0);
    kreader_init(&r, slice_of(in, sizeof in), 1000 * sizeof *q.topics - 1);
    assert_int_equal(kafka_metadata_request_decode(&r, 1, &a, &q), ERR_TOO_LARGE);
    assert_null(q.topics);
    assert_int_equal(q.topics_n, 0);
    assert_true(q.allow_auto_topic_creation); /* as initialised */
    arena_fini(&a);
    arena_init(&a, 4096, 8192);
    kreader_init(&r, slice_of(in, sizeof in), SIZE_MAX);
    assert_int_equal(kafka_metadata_request_decode(&r, 1, &a, &q), ERR_TOO_LARGE);
    arena_fini(&a);
}

static void versions(void **state)
{
    struct bench b;
    size_t i;

    bench_init(&b);
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];

        k->layout->init(b.m);
        assert_int_equal(encode(&b, k, (int16_t)(k->min - 1), b.m), ERR_UNSUPPORTED);
        assert_int_equal(encode(&b, k, (int16_t)(k->max + 1), b.m), ERR_UNSUPPORTED);
        assert_int_equal(decode(&b, k, (int16_t)(k->min - 1), SLICE_LIT("\0\0\0\0")),
                         ERR_UNSUPPORTED);
        assert_int_equal(decode(&b, k, (int16_t)(k->max + 1), SLICE_LIT("\0\0\0\0")),
                         ERR_UNSUPPORTED);
    }
    bench_fini(&b);
}

/* ApiVersionsRequest 3 is two strings and tagged fields, none of which is known. */
static void tags_unknown(void **state)
{
    static const struct {
        const char *tags;
        enum err e;
    } rows[] = {
        {"00", ERR_OK},
        {"010000", ERR_OK},
        {"0105026162", ERR_OK},
        {"0205026162070161", ERR_OK},
        {"02ff0100ffffffff0f00", ERR_OK},
        {"020500050161", ERR_CORRUPT_INPUT},   /* twice */
        {"02050004016161", ERR_CORRUPT_INPUT}, /* going down */
        {"010503616", ERR_CORRUPT_INPUT},
        {"0105036162", ERR_CORRUPT_INPUT}, /* longer than what is left */
        {"0105ffffffff0f61", ERR_CORRUPT_INPUT},
        {"02050161", ERR_CORRUPT_INPUT}, /* one is missing */
        {"ffffffff0f", ERR_CORRUPT_INPUT},
        {"ffffffff1f", ERR_CORRUPT_INPUT},
        {"01ffffffffff0100", ERR_CORRUPT_INPUT},
        {"8080808010", ERR_CORRUPT_INPUT}, /* 0, if it had 32 bits */
        {"", ERR_CORRUPT_INPUT},
    };
    struct bench b;
    char hex[64];
    size_t i;

    bench_init(&b);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(hex, sizeof hex, "02610262%s%s", rows[i].tags,
                 strlen(rows[i].tags) % 2 ? "1" : "");
        if (decode_hex(&b, "ApiVersionsRequest", 3, hex) != rows[i].e)
            fail_msg("tags %s: not %s", rows[i].tags, err_code(rows[i].e));
    }
    bench_fini(&b);
}

/* FetchRequest 15 has a string and a struct as tagged fields 0 and 1. */
static void tags_known(void **state)
{
    static const char body[] = "000000010000000200000003000000000000000000010101";
    static const struct {
        const char *tags;
        enum err e;
    } rows[] = {
        {"0100020161", ERR_CORRUPT_INPUT}, /* the value is shorter than its length */
        {"01000403616263", ERR_CORRUPT_INPUT},
        {"01000504616263ff", ERR_CORRUPT_INPUT},
        {"010003046162", ERR_CORRUPT_INPUT}, /* longer */
        {"0100020261", ERR_OK},
        {"01000100", ERR_OK}, /* null */
        {"02000202610002ff00", ERR_CORRUPT_INPUT},
        {"010100", ERR_CORRUPT_INPUT},
        {"01010c00000007000000000000000800", ERR_CORRUPT_INPUT},
        {"01010d00000007000000000000000800", ERR_OK},
        {"01010e0000000700000000000000080000", ERR_CORRUPT_INPUT},
        {"01010f000000070000000000000008010000", ERR_OK}, /* with an unknown tag in it */
        {"0200020261010d00000007000000000000000800", ERR_OK},
        {"02010d000000070000000000000008000002026100", ERR_CORRUPT_INPUT},
    };
    struct bench b;
    char hex[160];
    size_t i;

    bench_init(&b);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct kafka_fetch_request *q = b.m;

        snprintf(hex, sizeof hex, "%s%s", body, rows[i].tags);
        if (decode_hex(&b, "FetchRequest", 15, hex) != rows[i].e)
            fail_msg("tags %s: not %s", rows[i].tags, err_code(rows[i].e));
        if (rows[i].e == ERR_OK && strstr(rows[i].tags, "000000070000"))
            assert_true(q->replica_state.replica_id == 7 && q->replica_state.replica_epoch == 8);
        if (rows[i].e)
            assert_true(q->replica_state.replica_id == -1 && q->max_wait_ms == 0);
    }
    bench_fini(&b);
}

static void check_tag_of(struct bench *b, const uint8_t *id, size_t len)
{
    const struct kafka_message *k = message("FetchRequest");
    struct kafka_fetch_request q;
    struct buf first;

    kafka_fetch_request_init(&q);
    q.cluster_id = slice_of(id, len);
    q.rack_id = SLICE_LIT("r");
    q.replica_state.replica_epoch = 5;
    assert_int_equal(encode(b, k, 18, &q), ERR_OK);
    first = b->bytes;
    buf_init(&b->bytes, FRAME_MAX);
    check_bytes(b, k, 18, buf_slice(&first), &q);
    buf_fini(&first);
}

/* A tagged field of more than 127 bytes moves to make room for its length. */
static void tags_long(void **state)
{
    struct bench b;
    uint8_t id[16500];
    size_t len;

    bench_init(&b);
    for (len = 0; len < sizeof id; len++)
        id[len] = (uint8_t)(len * 7);
    for (len = 100; len < 140; len++)
        check_tag_of(&b, id, len);
    for (len = 16370; len < 16400; len++)
        check_tag_of(&b, id, len);
    bench_fini(&b);
}

static void nulls(void **state)
{
    struct kafka_metadata_response_topic t;
    struct kafka_metadata_response s;
    struct kafka_metadata_request q;
    struct bench b;
    uint8_t longest[KAFKA_STRING_MAX + 1] = {0};

    bench_init(&b);
    kafka_metadata_request_init(&q);
    q.topics_null = true;
    assert_int_equal(encode(&b, message("MetadataRequest"), 0, &q), ERR_INVALID);
    assert_int_equal(encode(&b, message("MetadataRequest"), 1, &q), ERR_OK);
    assert_int_equal(b.bytes.len, 4);
    assert_memory_equal(b.bytes.ptr, "\xff\xff\xff\xff", 4);
    kafka_metadata_response_init(&s);
    kafka_metadata_response_topic_init(&t);
    t.name = SLICE_NULL;
    s.topics = &t;
    s.topics_n = 1;
    assert_int_equal(encode(&b, message("MetadataResponse"), 11, &s), ERR_INVALID);
    assert_int_equal(encode(&b, message("MetadataResponse"), 12, &s), ERR_OK);
    t.name = slice_of(longest, KAFKA_STRING_MAX);
    assert_int_equal(encode(&b, message("MetadataResponse"), 1, &s), ERR_OK);
    assert_int_equal(encode(&b, message("MetadataResponse"), 12, &s), ERR_OK);
    t.name.len++;
    assert_int_equal(encode(&b, message("MetadataResponse"), 1, &s), ERR_INVALID);
    assert_int_equal(encode(&b, message("MetadataResponse"), 12, &s), ERR_INVALID);
    bench_fini(&b);
}

/* A response with three runs of records, two of them borrowed. */
static enum err fetch_response(struct kwriter *w, struct kafka_span *spans)
{
    struct kafka_fetch_response_partition p;
    struct kafka_fetch_response_topic t;
    struct kafka_fetch_response s;

    kafka_fetch_response_partition_init(&p);
    kafka_fetch_response_topic_init(&t);
    kafka_fetch_response_init(&s);
    p.records = (struct kafka_records){.spans = spans, .spans_n = 3};
    t.topic = SLICE_LIT("t");
    t.partitions = &p;
    t.partitions_n = 1;
    s.responses = &t;
    s.responses_n = 1;
    kafka_response_begin(w, kafka_api_find(KAFKA_API_FETCH), 12, 77);
    kafka_fetch_response_encode(w, 12, &s);
    return kwriter_end(w);
}

static void splices(void **state)
{
    struct kafka_span spans[] = {{SLICE_LIT("0123456789"), &spans[0]},
                                 {SLICE_LIT("ab"), &spans[1]},
                                 {SLICE_LIT("ABCDE"), NULL}};
    struct kafka_fetch_response s;
    struct kwriter_cursor c = {0};
    struct kwriter_part part;
    struct kwriter w;
    struct kreader r;
    struct arena a;
    struct buf all;

    arena_init(&a, 4096, 1 << 16);
    buf_init(&all, 1 << 16);
    kwriter_init(&w, 1 << 16);
    w.inline_max = 2;
    assert_int_equal(fetch_response(&w, spans), ERR_OK);
    assert_int_equal(w.splices_n, 2);
    assert_int_equal(w.spliced, 15);
    assert_true(kwriter_part(&w, &c, &part) && !part.spliced && part.bytes.ptr == w.buf.ptr);
    assert_true(kwriter_part(&w, &c, &part) && part.spliced && part.owner == &spans[0]);
    assert_true(part.bytes.ptr == spans[0].bytes.ptr && part.bytes.len == 10);
    assert_true(kwriter_part(&w, &c, &part) && !part.spliced && slice_eq_str(part.bytes, "ab"));
    assert_true(kwriter_part(&w, &c, &part) && part.spliced && part.owner == NULL);
    assert_true(kwriter_part(&w, &c, &part) && !part.spliced);
    assert_false(kwriter_part(&w, &c, &part));
    assert_int_equal(kwriter_flatten(&w, &all), ERR_OK);
    assert_int_equal(all.len, kwriter_size(&w));
    assert_int_equal(be32_load(all.ptr), all.len - 4);
    assert_int_equal(be32_load(all.ptr + 4), 77);
    assert_int_equal(all.ptr[8], 0); /* no tagged fields in the header */
    kreader_init(&r, slice_of(all.ptr + 9, all.len - 9), 1 << 16);
    assert_int_equal(kafka_fetch_response_decode(&r, 12, &a, &s), ERR_OK);
    assert_int_equal(kreader_left(&r), 0);
    assert_true(slice_eq_str(s.responses[0].partitions[0].records.bytes, "0123456789abABCDE"));
    kwriter_fini(&w);
    buf_fini(&all);
    arena_fini(&a);
}

/* Frames in a row; one that fails leaves those before it as they were. */
static void frames(void **state)
{
    struct kafka_span spans[] = {
        {SLICE_LIT("0123456789"), NULL}, {SLICE_LIT("ab"), NULL}, {SLICE_LIT("ABCDE"), NULL}};
    const struct kafka_api *api = kafka_api_find(KAFKA_API_SASL_AUTHENTICATE);
    struct kafka_sasl_authenticate_response s = {.auth_bytes = SLICE_LIT("0123456789")};
    struct kafka_fetch_request q;
    struct kwriter w;
    size_t one, max;

    kwriter_init(&w, 1 << 16);
    assert_int_equal(fetch_response(&w, spans), ERR_OK);
    one = kwriter_size(&w);
    assert_int_equal(fetch_response(&w, spans), ERR_OK);
    assert_int_equal(kwriter_size(&w), 2 * one);
    kafka_fetch_request_init(&q);
    q.replica_state.replica_id = 3;
    kafka_request_begin(&w, kafka_api_find(KAFKA_API_FETCH), 5, 1, SLICE_LIT("c"));
    assert_int_equal(kafka_fetch_request_encode(&w, 5, &q), ERR_INVALID);
    assert_int_equal(kwriter_end(&w), ERR_INVALID);
    assert_int_equal(kwriter_size(&w), 2 * one);
    assert_int_equal(w.splices_n, 6);
    assert_int_equal(fetch_response(&w, spans), ERR_OK);
    assert_int_equal(kwriter_size(&w), 3 * one);
    kwriter_fini(&w);
    for (max = 0; max < one; max++) { /* however small the maximum, it holds */
        kwriter_init(&w, max);
        assert_int_equal(fetch_response(&w, spans), ERR_TOO_LARGE);
        assert_int_equal(kwriter_size(&w), 0);
        assert_int_equal(w.splices_n, 0);
        kafka_response_begin(&w, api, 0, 1);
        kafka_sasl_authenticate_response_encode(&w, 0, &s);
        assert_int_equal(kwriter_end(&w), max < 26 ? ERR_TOO_LARGE : ERR_OK);
        kwriter_fini(&w);
    }
    kwriter_init(&w, one);
    assert_int_equal(fetch_response(&w, spans), ERR_OK);
    kwriter_fini(&w);
}

/* What is spliced is not looked at: lengths beyond what a frame can say need no such memory. */
static void frame_too_long(void **state)
{
    static const uint8_t byte[1];
    struct kafka_span half = {slice_of(byte, (1u << 30) + 1), NULL}, twice[2] = {half, half};
    struct kafka_fetch_response_partition p[2];
    struct kafka_fetch_response_topic t;
    struct kafka_fetch_response s;
    struct kwriter w;
    uint32_t n;

    kwriter_init(&w, SIZE_MAX / 2);
    kafka_fetch_response_topic_init(&t);
    kafka_fetch_response_init(&s);
    for (n = 0; n < 2; n++) {
        kafka_fetch_response_partition_init(&p[n]);
        p[n].records = (struct kafka_records){.spans = twice, .spans_n = 1};
    }
    t.partitions = p;
    s.responses = &t;
    s.responses_n = 1;
    for (n = 0; n < 3; n++) { /* partitions of half of the most each */
        t.partitions_n = n;
        kwriter_begin(&w);
        assert_int_equal(kafka_fetch_response_encode(&w, 12, &s), ERR_OK);
        assert_int_equal(kwriter_end(&w), n < 2 ? ERR_OK : ERR_TOO_LARGE);
        kwriter_clear(&w);
    }
    p[0].records.spans_n = 2; /* in one field */
    t.partitions_n = 1;
    kwriter_begin(&w);
    assert_int_equal(kafka_fetch_response_encode(&w, 12, &s), ERR_TOO_LARGE);
    assert_int_equal(kwriter_end(&w), ERR_TOO_LARGE);
    kwriter_fini(&w);
}

static void check_frame(struct kwriter *w, const char *hex)
{
    size_t len;
    uint8_t *p = vectors_hex(hex, &len);

    assert_int_equal(kwriter_end(w), ERR_OK);
    assert_int_equal(w->buf.len, len);
    assert_memory_equal(w->buf.ptr, p, len);
    kwriter_clear(w);
    free(p);
}

static void splices_max(void **state)
{
    struct kafka_span *spans = calloc(KAFKA_SPLICES_MAX + 1, sizeof *spans);
    struct kafka_records rec = {.spans = spans, .spans_n = KAFKA_SPLICES_MAX};
    struct kwriter w;
    uint32_t i;

    assert_non_null(spans);
    for (i = 0; i <= KAFKA_SPLICES_MAX; i++)
        spans[i].bytes = SLICE_LIT("x");
    kwriter_init(&w, 1 << 24);
    kwriter_begin(&w);
    kwriter_records(&w, &rec, true, true);
    assert_int_equal(kwriter_end(&w), ERR_OK);
    kwriter_clear(&w);
    rec.spans_n++;
    kwriter_begin(&w);
    kwriter_records(&w, &rec, true, true);
    assert_int_equal(kwriter_end(&w), ERR_TOO_LARGE);
    kwriter_fini(&w);
    free(spans);
}

/* Whole frames as the protocol's guide lays them out. */
static void known_frames(void **state)
{
    struct kafka_api_versions_response_api api = {.api_key = 18, .max_version = 4};
    struct kafka_api_versions_response s;
    struct kafka_api_versions_request q;
    const struct kafka_api *k = kafka_api_find(KAFKA_API_API_VERSIONS);
    struct kwriter w;

    kwriter_init(&w, 4096);
    kafka_api_versions_request_init(&q);
    kafka_request_begin(&w, k, 0, 1, SLICE_NULL);
    kafka_api_versions_request_encode(&w, 0, &q);
    check_frame(&w, "0000000a0012000000000001ffff");
    q.client_software_name = SLICE_LIT("kcat");
    q.client_software_version = SLICE_LIT("1.7");
    kafka_request_begin(&w, k, 3, 2, SLICE_LIT("rd"));
    kafka_api_versions_request_encode(&w, 3, &q);
    check_frame(&w, "0000001700120003000000020002726400056b63617404312e3700");
    kafka_api_versions_response_init(&s);
    s.error_code = 35;
    s.api_keys = &api;
    s.api_keys_n = 1;
    kafka_response_begin(&w, k, 0, 3);
    kafka_api_versions_response_encode(&w, 0, &s);
    check_frame(&w, "0000001000000003002300000001001200000004");
    kafka_response_begin(&w, k, 3, 3); /* header 0 all the same */
    kafka_api_versions_response_encode(&w, 3, &s);
    check_frame(&w, "00000013000000030023020012000000040000000000"
                    "00");
    kwriter_fini(&w);
}

static void requests(void **state)
{
    static const struct {
        const char *hex;
        enum err e;
        int key, version, id;
    } rows[] = {
        {"001200000000000100026162", ERR_OK, 18, 0, 1},
        {"0012000000000001ffff", ERR_OK, 18, 0, 1},
        {"0012000300000002000261620003610131", ERR_OK, 18, 3, 2},
        {"0012000300000002ffff01090161", ERR_OK, 18, 3, 2}, /* a tagged field in the header */
        {"0012006300000005ffff00", ERR_UNSUPPORTED, 18, 99, 5},
        {"0000000200000005ffff00", ERR_UNSUPPORTED, 0, 2, 5}, /* advertised, but not there */
        {"7fff000000000005ffff00", ERR_UNSUPPORTED, 0x7fff, 0, 5},
        {"ffff000000000005ffff00", ERR_UNSUPPORTED, -1, 0, 5},
        {"00120000000000", ERR_CORRUPT_INPUT, 18, 0, 0},
        {"001200000000000100036162", ERR_CORRUPT_INPUT, 0, 0, 0},
        {"", ERR_CORRUPT_INPUT, 0, 0, 0},
    };
    struct kafka_request_header h;
    const struct kafka_api *api;
    struct kreader r;
    struct arena a;
    size_t i, len;

    arena_init(&a, 4096, 4096);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *p = vectors_hex(rows[i].hex, &len);

        kreader_init(&r, slice_of(p, len), 4096);
        assert_int_equal(kafka_request_open(&r, &a, &h, &api), rows[i].e);
        if (rows[i].e != ERR_CORRUPT_INPUT) {
            assert_int_equal(h.request_api_key, rows[i].key);
            assert_int_equal(h.request_api_version, rows[i].version);
            assert_int_equal(h.correlation_id, rows[i].id);
            assert_ptr_equal(api, kafka_api_find((int16_t)rows[i].key));
        }
        if (rows[i].e == ERR_OK)
            assert_int_equal(kreader_left(&r), i == 2 ? 4 : 0);
        free(p);
    }
    arena_fini(&a);
}

static void apis(void **state)
{
    const struct kafka_api *api;
    size_t i;

    for (i = 0; i < kafka_apis_n; i++) {
        api = &kafka_apis[i];
        assert_ptr_equal(kafka_api_find(api->key), api);
        assert_true(i == 0 || api->key > kafka_apis[i - 1].key);
        assert_true(api->min <= api->max && api->advertised_min <= api->min);
    }
    assert_int_equal(kafka_apis_n, 59);
    assert_null(kafka_api_find(27));
    assert_null(kafka_api_find(-1));
    assert_null(kafka_api_find(93));
    api = kafka_api_find(KAFKA_API_PRODUCE);
    assert_true(api->min == 3 && api->max == 13 && api->advertised_min == 0);
    assert_string_equal(api->name, "Produce");
    assert_int_equal(kafka_request_header_version(api, 8), 1);
    assert_int_equal(kafka_request_header_version(api, 9), 2);
    assert_int_equal(kafka_response_header_version(api, 8), 0);
    assert_int_equal(kafka_response_header_version(api, 9), 1);
    api = kafka_api_find(KAFKA_API_API_VERSIONS);
    assert_int_equal(kafka_request_header_version(api, 3), 2);
    assert_int_equal(kafka_response_header_version(api, 3), 0);
    api = kafka_api_find(KAFKA_API_SASL_HANDSHAKE);
    assert_int_equal(kafka_request_header_version(api, 1), 1);
    api = kafka_api_find(KAFKA_API_INIT_PRODUCER_ID);
    assert_int_equal(api->max, 5);
}

/* Does m have a value other than its default in each field of version v? */
static bool all_set(const struct kafka_layout *l, int16_t v, const void *m)
{
    void *plain = calloc(1, l->size);
    bool ok = plain != NULL;
    uint32_t i;

    l->init(plain);
    for (i = 0; i < l->fields_n && ok; i++) {
        const struct kafka_field *f = &l->fields[i];
        const char *p = (const char *)m + f->at;

        if (!field_in(f, v))
            continue;
        if (f->array)
            ok = array_n(f, m) && (f->type != KAFKA_STRUCT || all_set(f->of, v, *(void *const *)p));
        else if (field_pointer(f))
            ok = all_set(f->of, v, *(void *const *)p);
        else if (f->type == KAFKA_STRUCT)
            ok = all_set(f->of, v, p);
        else
            ok = !same_value(f, v, p, (const char *)plain + f->at);
    }
    free(plain);
    return ok;
}

/* Each line of vectors.txt: a message, a version, bytes that Kafka 4.2 reads and writes as they are. */
static void kafkas_bytes(void **state)
{
    FILE *f = fopen(vectors_path, "r");
    char *line = NULL, *col[3];
    size_t cap = 0, len, i, want = 0;
    struct bench b;

    assert_non_null(f);
    bench_init(&b);
    for (i = 0; i < kafka_messages_n; i++)
        want += (size_t)(kafka_messages[i].max - kafka_messages[i].min + 1);
    while (vectors_row(f, &line, &cap, col, 3) == 3) {
        const struct kafka_message *k = message(col[0]);
        int16_t v = (int16_t)strtol(col[1], NULL, 10);
        uint8_t *p = vectors_hex(col[2], &len);
        struct kreader r;

        check_bytes(&b, k, v, slice_of(p, len), NULL);
        kreader_init(&r, slice_of(p, len), ARENA_MAX / 2);
        arena_reset(&b.decoded);
        assert_int_equal(k->decode(&r, v, &b.decoded, b.m), ERR_OK);
        assert_true(all_set(k->layout, v, b.m));
        free(p);
        want--;
    }
    assert_int_equal(want, 0);
    bench_fini(&b);
    free(line);
    fclose(f);
}

/* Makes vectors.txt; with a seed other messages, also with nulls and empty arrays. */
static int print_vectors(const char *seed)
{
    struct fill x = {.seed = seed ? strtoull(seed, NULL, 0) : 1, .poison = -1, .rich = !seed};
    struct bench b;
    size_t i, at;

    bench_init(&b);
    x.arena = &b.filled;
    for (i = 0; i < kafka_messages_n; i++) {
        const struct kafka_message *k = &kafka_messages[i];

        for (x.version = k->min; x.version <= k->max; x.version++) {
            arena_reset(&b.filled);
            if (encode(&b, k, x.version, fill_message(&x, k)))
                return 1;
            printf("%s,%d,", k->name, x.version);
            for (at = 0; at < b.bytes.len; at++)
                printf("%02x", b.bytes.ptr[at]);
            printf("\n");
        }
    }
    bench_fini(&b);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(defaults),
        cmocka_unit_test(fields_absent),  cmocka_unit_test(truncated),
        cmocka_unit_test(lies),           cmocka_unit_test(hostile_counts),
        cmocka_unit_test(arena_limit),    cmocka_unit_test(versions),
        cmocka_unit_test(tags_unknown),   cmocka_unit_test(tags_known),
        cmocka_unit_test(tags_long),      cmocka_unit_test(nulls),
        cmocka_unit_test(splices),        cmocka_unit_test(frames),
        cmocka_unit_test(frame_too_long), cmocka_unit_test(splices_max),
        cmocka_unit_test(known_frames),   cmocka_unit_test(requests),
        cmocka_unit_test(apis),           cmocka_unit_test(kafkas_bytes),
    };

    if (argc < 2)
        return 2;
    if (strcmp(argv[1], "print") == 0)
        return print_vectors(argc > 2 ? argv[2] : NULL);
    vectors_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
