/* Makes the topics that bench/lake/run.py asks about, straight into a data directory that no server
 * has open. What is in a record follows from its number alone, so that runs are alike and a second
 * call can go on where the first ended.
 *
 *   bench-lake-fill DIR TOPIC PARTITIONS KIND FIRST END
 *
 * KIND: events     JSON objects of five fields, a key, a header; a millisecond apart
 *       customers  JSON objects of three fields, one for each of the events' customers
 *       blobs      100 bytes that are no text
 * Prints what the values have in bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "io/io.h"
#include "journal/batch.h"

#define CUSTOMERS  1000
#define BATCH      5000
#define BLOB_BYTES 100
#define BEGAN_MS   1767225600000 /* 2026-01-01 */

struct made {
    char key[24], value[256];
    struct record_header header;
    struct append_record r;
};
typedef void (*make_fn)(int64_t i, struct made *m);

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-lake-fill: %s: %s\n", what, why);
    exit(1);
}

/* Spreads consecutive numbers over all 64 bits. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void event(int64_t i, struct made *m)
{
    static const char *const countries[] = {"AT", "BE", "DE", "ES", "FR", "IT", "NL", "PL"};
    static const char *const states[] = {"open", "paid", "done", "done"};
    uint64_t x = mix((uint64_t)i);

    snprintf(m->key, sizeof m->key, "c-%d", (int)(x % CUSTOMERS));
    snprintf(m->value, sizeof m->value,
             "{\"id\":%lld,\"status\":\"%s\",\"customer\":\"customer-%d\",\"amount\":%d.%02d,"
             "\"country\":\"%s\"}",
             (long long)i, states[x >> 32 & 3], (int)(x % CUSTOMERS), (int)(x >> 20 & 511),
             (int)(x >> 40) % 100, countries[x >> 50 & 7]);
    m->header = (struct record_header){SLICE_LIT("h"), SLICE_LIT("bench")};
    m->r.key = slice_str(m->key);
    m->r.value = slice_str(m->value);
    m->r.headers = &m->header;
    m->r.headers_n = 1;
}

static void customer(int64_t i, struct made *m)
{
    snprintf(m->key, sizeof m->key, "c-%d", (int)i);
    snprintf(m->value, sizeof m->value,
             "{\"customer\":\"customer-%d\",\"name\":\"Customer number %d\",\"region\":\"%s\"}",
             (int)i, (int)i, i % 3 ? "north" : "south");
    m->r.key = slice_str(m->key);
    m->r.value = slice_str(m->value);
}

static void blob(int64_t i, struct made *m)
{
    uint64_t x = 0;
    size_t k;

    for (k = 0; k < BLOB_BYTES; k++) {
        if (k % 8 == 0)
            x = mix((uint64_t)i * 16 + k / 8);
        m->value[k] = (char)(k % 2 ? x >> (k % 8 * 8) : 0x80); /* half of it is the same */
    }
    snprintf(m->key, sizeof m->key, "c-%d", (int)(i % CUSTOMERS));
    m->r.key = slice_str(m->key);
    m->r.value = slice_of(m->value, BLOB_BYTES);
}

static make_fn make_of(const char *kind)
{
    return !strcmp(kind, "events") ? event : !strcmp(kind, "customers") ? customer : blob;
}

static uint64_t fill(struct broker *b, struct topic *t, make_fn make, int64_t first, int64_t end)
{
    int64_t i = first, stop;
    uint64_t bytes = 0;

    while (i < end) {
        struct append *a = append_new(b, NULL, NULL);
        struct errinfo info;

        for (stop = i + BATCH < end ? i + BATCH : end; i < stop; i++) {
            struct made m = {.r.timestamp_ms = BEGAN_MS + i};
            struct append_slot slot;

            make(i, &m);
            bytes += m.r.value.len;
            if (append_record(a, t, (int)(i / BATCH % topic_partitions(t)), &m.r, &slot, &info))
                die("append", info.text);
        }
        if (append_submit_wait(a, &info))
            die("append", info.text);
        append_free(&a);
    }
    return bytes;
}

int main(int argc, char **argv)
{
    struct broker_conf bc = {.io = io_real(), .threads = true};
    struct topic_conf tc;
    struct errinfo info;
    struct broker *b;
    struct topic *t;

    if (argc != 7)
        die("arguments", "DIR TOPIC PARTITIONS KIND FIRST END");
    bc.dir = argv[1];
    if (broker_open(&bc, &b, &info))
        die("open", info.text);
    t = topic_find(b, slice_str(argv[2]));
    if (!t) {
        topic_conf_default(b, &tc);
        tc.retention_ms = -1;
        if (topic_create_wait(b, slice_str(argv[2]), (int)strtol(argv[3], NULL, 10), &tc, &info))
            die("topic", info.text);
        t = topic_find(b, slice_str(argv[2]));
    }
    printf("%llu\n", (unsigned long long)fill(b, t, make_of(argv[4]), strtoll(argv[5], NULL, 10),
                                              strtoll(argv[6], NULL, 10)));
    topic_unref(&t);
    broker_close(&b);
    return 0;
}
