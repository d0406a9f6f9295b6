/* Fuzzing of small texts: names of topics and streams, globs, times, hexadecimal, base64, UTF-8.
 *
 * An input is two pieces, separated by the first NUL. Checked beside the sanitizers: what is made
 * from a text is of the form that its own reader takes; a time written and read is the same; bytes
 * encoded and decoded are the same; globs agree with a matcher that tries everything. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/stream_name.h"
#include "base/timefmt.h"
#include "base/utf8.h"

#define INPUT_MAX 4096u
#define GLOB_MAX  40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stream(struct slice s)
{
    char out[TOPIC_NAME_MAX + 1], again[TOPIC_NAME_MAX + 1];
    struct slice topic, key;
    size_t n;

    if (stream_split(s, &topic, &key)) {
        ASSERT(topic.len > 0 && !memchr(topic.ptr, ':', topic.len));
        ASSERT(key.ptr ? key.len > 0 && topic.len + 1 + key.len == s.len : slice_eq(topic, s));
    }
    if ((n = stream_from_type(s, out))) {
        ASSERT(n <= TOPIC_NAME_MAX && out[n] == 0 && strlen(out) == n);
        ASSERT(topic_name_valid(slice_of(out, n)));
        ASSERT(stream_from_type(slice_of(out, n), again) > 0 || n + 2 > TOPIC_NAME_MAX);
    }
    if (topic_name_valid(s)) {
        ASSERT(s.len > 0 && s.len <= TOPIC_NAME_MAX && utf8_valid(s));
        ASSERT(stream_split(s, &topic, &key) && slice_is_null(key));
    }
}

/* The definition, as directly as it can be said. */
static bool glob_slow(const char *p, const char *t)
{
    if (*p == '*')
        return glob_slow(p + 1, t) || (*t && glob_slow(p, t + 1));
    if (!*p || !*t)
        return *p == *t;
    return (*p == '?' || *p == *t) && glob_slow(p + 1, t + 1);
}

static void glob(struct slice pattern, struct slice text)
{
    char *p, *t;
    unsigned stars = 0;

    p = xcalloc(1, pattern.len + 1);
    t = xcalloc(1, text.len + 1);
    memcpy(p, pattern.ptr, pattern.len);
    memcpy(t, text.ptr, text.len);
    for (size_t i = 0; p[i]; i++)
        stars += p[i] == '*';
    if (stars <= 4 && strlen(t) <= GLOB_MAX && strlen(p) <= GLOB_MAX)
        ASSERT(glob_match(p, t) == glob_slow(p, t));
    else
        glob_match(p, t);
    if (!strpbrk(p, "*?"))
        ASSERT(glob_match(p, t) == (strcmp(p, t) == 0));
    ASSERT(glob_match("*", t));
    free(p);
    free(t);
}

static void time_of(struct slice s)
{
    char out[TIME_TEXT_LEN + 1];
    int64_t ms, again;

    if (time_parse(s, &ms)) {
        ASSERT(s.len >= 10 && time_format(ms, out) == TIME_TEXT_LEN);
        ASSERT(time_parse(slice_of(out, TIME_TEXT_LEN), &again));
        /* a zone may lead out of the years that have four digits: then it is the nearest */
        ASSERT(again == ms || (again < ms) == (ms > 0));
    }
    if (s.len >= 8) {
        memcpy(&ms, s.ptr, 8);
        ASSERT(time_format(ms, out) == TIME_TEXT_LEN && out[TIME_TEXT_LEN] == 0);
        ASSERT(time_parse(slice_of(out, TIME_TEXT_LEN), &again));
        ms %= 62167219200000;
        time_format(ms, out);
        ASSERT(time_parse(slice_of(out, TIME_TEXT_LEN), &again) && again == ms);
    }
}

static void hex(struct slice s)
{
    uint8_t *raw = xmalloc(s.len + 1), *again = xmalloc(s.len + 1);
    char *text = xmalloc(2 * s.len + 4);
    size_t n = 0, k;

    hex_encode(s.ptr, s.len, text);
    ASSERT(strlen(text) == 2 * s.len && hex_decode(text, s.len, raw));
    ASSERT(memcmp(raw, s.ptr, s.len) == 0);
    hex_decode((const char *)s.ptr, s.len / 2, raw);
    base64_encode(s.ptr, s.len, text);
    ASSERT(strlen(text) == BASE64_LEN(s.len) && base64_decode(text, strlen(text), again, &n));
    ASSERT(n == s.len && memcmp(again, s.ptr, n) == 0);
    if (base64_decode((const char *)s.ptr, s.len, raw, &n)) {
        ASSERT(s.len % 4 == 0 && n <= s.len / 4 * 3);
        base64_encode(raw, n, text);
        ASSERT(strlen(text) == s.len && base64_decode(text, s.len, again, &k));
        ASSERT(k == n && memcmp(again, raw, n) == 0);
    }
    free(raw);
    free(again);
    free(text);
}

static void utf8(struct slice s)
{
    bool all = utf8_valid(s);
    size_t n;

    while (s.len && (n = utf8_next(s))) {
        ASSERT(n <= 4 && n <= s.len && utf8_valid(slice_of(s.ptr, n)));
        s = slice_of(s.ptr + n, s.len - n);
    }
    ASSERT(all == (s.len == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    struct slice a = slice_of(data, nul ? (size_t)(nul - data) : size), b = slice_of(data, 0);

    if (size == 0 || size > INPUT_MAX)
        return 0;
    if (nul)
        b = slice_of(nul + 1, size - a.len - 1);
    stream(a);
    stream(b);
    glob(a, b);
    time_of(a);
    time_of(slice_of(data, size));
    hex(a);
    hex(slice_of(data, size));
    utf8(slice_of(data, size));
    return 0;
}
