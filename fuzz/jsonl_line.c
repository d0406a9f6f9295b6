/* Fuzzes the lake's lines of JSON, which anybody may write into its store. What is read of a line lies
 * within it or the reader's own memory, and is, written as a line and read again, the same. */
#include <stdlib.h>

#include "base/assert.h"
#include "lake/jsonl.h"

#define LINE_MAX (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct slice a, struct slice b)
{
    ASSERT(slice_is_null(a) == slice_is_null(b) && slice_eq(a, b));
}

static void check(const struct jsonl_parsed *a, const struct jsonl_parsed *b)
{
    unsigned i;

    ASSERT(a->partition == b->partition && a->r.position == b->r.position);
    ASSERT(a->r.offset == b->r.offset && a->r.timestamp_ms == b->r.timestamp_ms);
    same(a->r.key, b->r.key);
    same(a->r.value, b->r.value);
    ASSERT(a->r.headers_n == b->r.headers_n);
    for (i = 0; i < a->r.headers_n; i++) {
        same(a->r.headers[i].key, b->r.headers[i].key);
        same(a->r.headers[i].value, b->r.headers[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jsonl_parsed p, again;
    struct buf line;

    jsonl_parsed_init(&p);
    jsonl_parsed_init(&again);
    buf_init(&line, LINE_MAX);
    if (jsonl_line_parse(slice_of(data, size), &p)) {
        const struct record r = {.offset = p.r.offset,
                                 .timestamp_ms = p.r.timestamp_ms,
                                 .key = p.r.key,
                                 .value = p.r.value};
        const struct jsonl_record made = {&r, p.partition, p.r.position, p.r.headers,
                                          p.r.headers_n};

        ASSERT(p.partition >= 0 && p.r.offset >= 0);
        ASSERT(jsonl_line(&line, &made) == ERR_OK);
        ASSERT(memchr(line.ptr, '\n', line.len) == line.ptr + line.len - 1);
        ASSERT(jsonl_line_parse(slice_of(line.ptr, line.len - 1), &again));
        check(&p, &again);
    }
    buf_fini(&line);
    jsonl_parsed_fini(&again);
    jsonl_parsed_fini(&p);
    return 0;
}
