/* See wire.h. */
#include "wire.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/varint.h"
#include "measure.h"

enum { API_PRODUCE = 0, API_FETCH = 1, API_VERSIONS = 18, API_CREATE = 19, API_DELETE = 20 };
#define CLIENT_ID  "bench"
#define BATCH_HEAD 61u

/* ---- writing ---- */

static void put16(struct buf *b, uint16_t v)
{
    if (buf_append_be16(b, v))
        die("request", "too large");
}

static void put32(struct buf *b, uint32_t v)
{
    if (buf_append_be32(b, v))
        die("request", "too large");
}

static void put64(struct buf *b, uint64_t v)
{
    if (buf_append_be64(b, v))
        die("request", "too large");
}

static void put(struct buf *b, const void *p, size_t n)
{
    if (buf_append(b, p, n))
        die("request", "too large");
}

static void put_text(struct buf *b, const char *s)
{
    put16(b, (uint16_t)strlen(s));
    put(b, s, strlen(s));
}

/* An empty frame: room for the length, then the request's header (version 1). */
static void begin(struct buf *b, uint16_t api, uint16_t version)
{
    buf_clear(b);
    put32(b, 0);
    put16(b, api);
    put16(b, version);
    put32(b, 1); /* answers come in order: nobody looks at it */
    put_text(b, CLIENT_ID);
}

static void end(struct buf *b)
{
    be32_store(b->ptr, (uint32_t)(b->len - 4));
}

static void put_topic(struct buf *b, const struct wire_topics *t, uint32_t topic)
{
    char name[300];

    snprintf(name, sizeof name, "%s-%u", t->name, topic);
    put_text(b, name);
}

/* ---- batches ---- */

static uint32_t record_size(uint32_t delta, uint32_t size)
{
    return (uint32_t)(1 + varint_size(0) + varint_size((int64_t)delta) + varint_size(-1) +
                      varint_size((int64_t)size) + size + varint_size(0));
}

static void put_varint(struct buf *b, int64_t v)
{
    uint8_t at[VARLONG_MAX];

    put(b, at, varint_write(at, v));
}

size_t wire_stamp_at(uint32_t size)
{
    return BATCH_HEAD + varint_size((int64_t)record_size(0, size)) + 1 + varint_size(0) +
           varint_size(0) + varint_size(-1) + varint_size((int64_t)size);
}

static void put_value(struct buf *b, uint32_t size, uint64_t *seed)
{
    uint32_t i;

    if (buf_reserve(b, size))
        die("request", "too large");
    for (i = 0; i < size; i++) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        b->ptr[b->len++] = (uint8_t)(*seed >> 56);
    }
}

/* The CRC is of all from the attributes on; magic is 2 and there is no producer id. */
static void batch_seal(uint8_t *at, size_t len)
{
    be32_store(at + 17, crc32c(0, at + 21, len - 21));
}

static size_t put_batch(struct buf *b, uint32_t records, uint32_t size)
{
    size_t at = b->len, len;
    uint64_t seed = 1,
             now_ms = (uint64_t)time(NULL) * 1000; /* records of long ago would be deleted */
    uint32_t i;

    put64(b, 0);           /* base offset */
    put32(b, 0);           /* length */
    put32(b, UINT32_MAX);  /* leader epoch */
    put(b, "\2", 1);       /* magic */
    put32(b, 0);           /* checksum */
    put16(b, 0);           /* attributes */
    put32(b, records - 1); /* last offset delta */
    put64(b, now_ms);
    put64(b, now_ms);
    put64(b, UINT64_MAX); /* producer id */
    put16(b, UINT16_MAX); /* its epoch */
    put32(b, UINT32_MAX); /* sequence */
    put32(b, records);
    for (i = 0; i < records; i++) {
        put_varint(b, (int64_t)record_size(i, size));
        put(b, "", 1);
        put_varint(b, 0);
        put_varint(b, i);
        put_varint(b, -1);
        put_varint(b, size);
        put_value(b, size, &seed);
        put_varint(b, 0);
    }
    len = b->len - at;
    be32_store(b->ptr + at + 8, (uint32_t)(len - 12));
    batch_seal(b->ptr + at, len);
    return len;
}

/* ---- Produce ---- */

/* How many of the run's partitions, from the i-th on, belong to one topic. */
static uint32_t topic_run(const struct wire_topics *t, uint32_t first, uint32_t n)
{
    uint32_t room = t->partitions - first % t->partitions;

    return n < room ? n : room;
}

void wire_produce_init(struct wire_produce *r, const struct wire_topics *t, uint32_t first,
                       uint32_t n, uint32_t records, uint32_t size)
{
    struct buf *b = &r->frame, batch;
    uint32_t i, k, run, topics = 0;

    buf_init(&batch, WIRE_REQUEST_MAX);
    put_batch(&batch, records, size);
    r->records = records * n;
    r->payload = r->records * size;
    r->batch_len = batch.len;
    buf_init(b, WIRE_REQUEST_MAX);
    begin(b, API_PRODUCE, 7);
    put16(b, UINT16_MAX); /* no transaction */
    put16(b, UINT16_MAX); /* acks=all */
    put32(b, 30000);
    for (i = 0; i < n; i += topic_run(t, first + i, n - i))
        topics++;
    put32(b, topics);
    for (i = 0; i < n; i += run) {
        run = topic_run(t, first + i, n - i);
        put_topic(b, t, (first + i) / t->partitions);
        put32(b, run);
        for (k = 0; k < run; k++) {
            put32(b, (first + i + k) % t->partitions);
            put32(b, (uint32_t)batch.len);
            if (i + k == 0)
                r->batch_at = b->len;
            put(b, batch.ptr, batch.len);
        }
    }
    end(b);
    buf_fini(&batch);
    r->stamp_at = r->batch_at + wire_stamp_at(size);
}

void wire_produce_fini(struct wire_produce *r)
{
    buf_fini(&r->frame);
}

void wire_produce_stamp(struct wire_produce *r, uint64_t stamp)
{
    be64_store(r->frame.ptr + r->stamp_at, stamp);
    batch_seal(r->frame.ptr + r->batch_at, r->batch_len);
}

/* ---- reading ---- */

struct in {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct in *r, size_t n)
{
    const uint8_t *p = r->at;

    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    r->left -= n;
    return p;
}

static int16_t take16(struct in *r)
{
    const uint8_t *p = take(r, 2);

    return p ? (int16_t)be16_load(p) : 0;
}

static int32_t take32(struct in *r)
{
    const uint8_t *p = take(r, 4);

    return p ? (int32_t)be32_load(p) : 0;
}

static int64_t take64(struct in *r)
{
    const uint8_t *p = take(r, 8);

    return p ? (int64_t)be64_load(p) : 0;
}

static void skip_text(struct in *r)
{
    int16_t n = take16(r);

    if (n > 0)
        take(r, (size_t)n);
}

static struct slice take_bytes(struct in *r)
{
    int32_t n = take32(r);
    const uint8_t *p = n > 0 ? take(r, (size_t)n) : NULL;

    return slice_of(p, p ? (size_t)n : 0);
}

int wire_produce_code(struct slice frame)
{
    struct in r = {frame.ptr, frame.len, false};
    int32_t topics, parts;
    int16_t code = 0;

    take32(&r); /* correlation id */
    for (topics = take32(&r); topics > 0 && !r.bad; topics--) {
        skip_text(&r);
        for (parts = take32(&r); parts > 0 && !r.bad; parts--) {
            int16_t one;

            take32(&r);
            one = take16(&r);
            code = code ? code : one;
            take(&r, 24); /* base offset, append time, start offset */
        }
    }
    return r.bad ? -1 : code;
}

/* ---- Fetch ---- */

static void fetch_begin(struct buf *out, int32_t max_bytes, int32_t wait_ms)
{
    begin(out, API_FETCH, 11);
    put32(out, UINT32_MAX); /* a consumer */
    put32(out, (uint32_t)wait_ms);
    put32(out, 1); /* at least */
    put32(out, (uint32_t)max_bytes);
    put(out, "", 1);        /* uncommitted */
    put32(out, 0);          /* no session */
    put32(out, UINT32_MAX); /* nor a new one */
    put32(out, 1);
}

static void fetch_part(struct buf *out, uint32_t index, int64_t offset, int32_t max_bytes)
{
    put32(out, index);
    put32(out, UINT32_MAX); /* leader epoch */
    put64(out, (uint64_t)offset);
    put64(out, UINT64_MAX);
    put32(out, (uint32_t)max_bytes);
}

static void fetch_end(struct buf *out)
{
    put32(out, 0); /* nothing forgotten */
    put_text(out, "");
    end(out);
}

void wire_fetch(struct buf *out, const struct wire_topics *t, uint32_t partition, int64_t offset,
                int32_t max_bytes, int32_t wait_ms)
{
    fetch_begin(out, max_bytes, wait_ms);
    put_topic(out, t, partition / t->partitions);
    put32(out, 1);
    fetch_part(out, partition % t->partitions, offset, max_bytes);
    fetch_end(out);
}

static struct wire_fetched take_part(struct in *r)
{
    struct wire_fetched f = {0};
    int32_t aborted;

    take32(r);
    f.code = take16(r);
    f.high_watermark = take64(r);
    take64(r); /* last stable offset */
    f.start = take64(r);
    aborted = take32(r);
    if (aborted > 0)
        take(r, (size_t)aborted * 16);
    take32(r); /* replica to prefer */
    f.records = take_bytes(r);
    return f;
}

/* Behind the header, at the topics; its own error code. */
static int take_fetch_head(struct in *r)
{
    int code;

    take32(r); /* correlation id */
    take32(r); /* throttled for */
    code = take16(r);
    take32(r); /* session */
    return code;
}

bool wire_fetched_read(struct slice frame, struct wire_fetched *f)
{
    struct in r = {frame.ptr, frame.len, false};
    int code = take_fetch_head(&r);

    take32(&r);
    skip_text(&r);
    take32(&r);
    *f = take_part(&r);
    if (code)
        f->code = code;
    return !r.bad;
}

bool wire_batch_next(struct slice *rest, struct wire_batch *b)
{
    size_t len;

    if (rest->len < BATCH_HEAD)
        return false;
    len = 12u + (size_t)be32_load(rest->ptr + 8);
    if (len < BATCH_HEAD || len > rest->len)
        return false;
    b->bytes = slice_of(rest->ptr, len);
    b->next_offset =
        (int64_t)be64_load(rest->ptr) + (int64_t)(int32_t)be32_load(rest->ptr + 23) + 1;
    b->records = be32_load(rest->ptr + 57);
    *rest = slice_of(rest->ptr + len, rest->len - len);
    return true;
}

/* ---- what is not measured ---- */

void wire_api_versions(struct buf *out)
{
    begin(out, API_VERSIONS, 0);
    end(out);
}

void wire_create(struct buf *out, const struct wire_topics *t, uint32_t topic)
{
    begin(out, API_CREATE, 4);
    put32(out, 1);
    put_topic(out, t, topic);
    put32(out, t->partitions);
    put16(out, 1); /* replicas */
    put32(out, 0); /* no assignments */
    put32(out, 0); /* no configuration */
    put32(out, 60000);
    put(out, "", 1); /* not only validated */
    end(out);
}

void wire_delete(struct buf *out, const struct wire_topics *t, uint32_t topic)
{
    begin(out, API_DELETE, 3);
    put32(out, 1);
    put_topic(out, t, topic);
    put32(out, 60000);
    end(out);
}

int wire_admin_code(struct slice frame)
{
    struct in r = {frame.ptr, frame.len, false};
    int code;

    take32(&r);
    take32(&r);
    take32(&r);
    skip_text(&r);
    code = take16(&r);
    return r.bad ? -1 : code;
}

void wire_probe(struct buf *out, const struct wire_topics *t, uint32_t topic)
{
    uint32_t i;

    fetch_begin(out, 1 << 20, 0);
    put_topic(out, t, topic);
    put32(out, t->partitions);
    for (i = 0; i < t->partitions; i++)
        fetch_part(out, i, 0, 1 << 10);
    fetch_end(out);
}

int wire_probe_code(struct slice frame)
{
    struct in r = {frame.ptr, frame.len, false};
    int code = take_fetch_head(&r);
    int32_t topics, parts;

    for (topics = take32(&r); topics > 0 && !r.bad; topics--) {
        skip_text(&r);
        for (parts = take32(&r); parts > 0 && !r.bad; parts--) {
            struct wire_fetched f = take_part(&r);

            code = code ? code : f.code;
        }
    }
    return r.bad ? -1 : code;
}
