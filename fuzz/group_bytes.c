/* Fuzzing of what members of groups send as bytes: regular expressions over topic names, and the
 * metadata and assignments of protocol type "consumer".
 *
 * An input is two pieces, separated by the first NUL: an expression and a name; the second is also
 * taken as metadata and as an assignment, with the first as the topic. Checked beside the
 * sanitizers: expressions that must mean the same do; a name quoted matches itself; what names a
 * topic says so also when read as JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/tbl/limits.h"
#include "broker/coordinator_int.h"
#include "broker/topic_regex.h"

#define INPUT_MAX 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1 matches, 0 does not, -1 is not valid; of the pattern between two texts. */
static int match(const char *before, struct slice pattern, const char *after, struct slice name)
{
    struct topic_regex *r;
    struct buf b;
    int m = -1;

    buf_init(&b, LIMIT_REGEX_BYTES);
    if (!buf_append_str(&b, before) && !buf_append_slice(&b, pattern) &&
        !buf_append_str(&b, after) && !topic_regex_new(buf_slice(&b), &r, NULL)) {
        ASSERT(topic_regex_bytes(r) < 1u << 20);
        m = topic_regex_match(r, name);
        topic_regex_free(&r);
    }
    buf_fini(&b);
    return m;
}

static bool has(struct slice s, const char *word)
{
    return s.len && memmem(s.ptr, s.len, word, strlen(word)) != NULL;
}

static void regex(struct slice pattern, struct slice name)
{
    int m = match("", pattern, "", name), also;

    if (!has(name, "\\E"))
        ASSERT(match("\\Q", name, "\\E", name) == 1);
    if (m < 0)
        return;
    ASSERT(match("", pattern, "", name) == m);
    also = match("(?:", pattern, ")", name);
    ASSERT(also < 0 || also == m);
    also = match("(?:x|", pattern, ")", name);
    ASSERT(also < 0 || also == (m || slice_eq_str(name, "x")));
    also = match("(?:", pattern, ")?", name);
    ASSERT(also < 0 || also == (m || name.len == 0));
    also = match("(?:", pattern, ")*", name);
    ASSERT(also < 0 || also >= m);
}

static void bytes(struct slice topic, struct slice s)
{
    int found = subscription_has(s, topic);
    struct buf b;

    ASSERT(found >= -1 && found <= 1);
    ASSERT(s.len >= 6 || found == -1);
    buf_init(&b, 64);
    if (assignment_json(s, &b))
        ASSERT(b.len >= 2 && b.ptr[0] == '{' && b.ptr[b.len - 1] == '}');
    else
        ASSERT(b.len == 0);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    struct slice a, b;

    if (!nul || size > INPUT_MAX)
        return 0;
    a = slice_of(data, (size_t)(nul - data));
    b = slice_of(nul + 1, size - a.len - 1);
    regex(a, b);
    bytes(a, b);
    return 0;
}
