/* Headers of what is published to streams: as text, taken apart, made a record's headers and text again,
 * which is what it stays from then on; and what they ask a stream for. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/buf.h"
#include "proto/nats/js_facts.h"
#include "proto/nats/js_header.h"
#include "proto/nats/record.h"

#define MANY 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct slice in, struct slice s)
{
    ASSERT(!s.len || (s.ptr >= in.ptr && s.ptr + s.len <= in.ptr + in.len));
}

/* The same by way of a record; false: it has too many. */
static bool again(struct slice text, struct buf *out)
{
    struct record_header h[MANY];
    uint32_t n, i;

    buf_clear(out);
    if (!nheader_to_record(text, h, MANY, &n))
        return false;
    for (i = 0; i < n; i++)
        inside(text, h[i].value);
    ASSERT(record_nats_headers(h, n, out) == out->len);
    return true;
}

static void wishes(struct slice text)
{
    struct jwish w = {.facts.subject = SLICE_LIT("a")};

    jwish_read(&w, text);
    inside(text, w.facts.msg_id);
    inside(text, w.expect_stream);
    inside(text, w.expect_id);
    inside(text, w.expect_for);
    inside(text, w.rollup);
    ASSERT(w.ttl_bad || w.facts.ttl_s >= -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size), rest = text, name, value;
    struct buf b[3];
    unsigned i;
    bool ok = true;

    inside(text, nheader_status(text));
    while (nheader_next(&rest, &name, &value)) {
        inside(text, name);
        inside(text, value);
        ASSERT(name.len);
    }
    wishes(text);
    for (i = 0; i < 3; i++) {
        buf_init(&b[i], SIZE_MAX);
        ok = ok && again(i ? buf_slice(&b[i - 1]) : text, &b[i]);
    }
    /* the first time controls become blanks, the second time those at an end go */
    ASSERT(!ok || slice_eq(buf_slice(&b[1]), buf_slice(&b[2])));
    for (i = 0; i < 3; i++)
        buf_fini(&b[i]);
    return 0;
}
