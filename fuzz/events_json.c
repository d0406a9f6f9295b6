/* Fuzzing of events as a client may send them: the JSON scanner and the event parser.
 *
 * The first byte chooses the spelling: plain, CloudEvents structured, or binary (the rest is "name
 * NUL value NUL … NUL NUL body"). Checked beside the sanitizers: what the scanner accepts jansson
 * accepts, and the reverse for texts within the depth that both take; an accepted event has a topic
 * and a type, its JSON value is JSON by itself, and its texts are UTF-8. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "proto/http/event.h"

#define DEPTH     64u
#define EVENT_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* jansson refuses numbers that do not fit its types, objects' duplicate keys not, and counts depth
 * its own way: and takes NUL for the end: only
 * texts without NUL, exponents and long numbers are compared. */
static bool comparable(struct slice text)
{
    unsigned digits = 0, deep = 0;

    for (size_t i = 0; i < text.len; i++) {
        bool digit = text.ptr[i] >= '0' && text.ptr[i] <= '9';

        digits = digit ? digits + 1 : 0;
        deep += text.ptr[i] == '[' || text.ptr[i] == '{';
        if (digits > 15 || text.ptr[i] == 0 || text.ptr[i] == 'e' || text.ptr[i] == 'E' ||
            deep > DEPTH - 1)
            return false;
    }
    return true;
}

static void compare(struct slice text)
{
    json_error_t why;
    json_t *tree;

    if (!comparable(text))
        return;
    tree = json_loadb((const char *)text.ptr, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    ASSERT(jtext_valid(text, DEPTH) == (tree != NULL));
    json_decref(tree);
}

static void check(const struct event *e, bool json_value)
{
    ASSERT(e->topic.len > 0 && e->topic.len <= EVENT_TOPIC_MAX);
    ASSERT(e->type.len > 0 && e->type.len <= EVENT_TYPE_MAX && utf8_valid(e->type));
    ASSERT(e->key.len <= EVENT_KEY_MAX && e->id.len <= EVENT_ID_MAX);
    ASSERT(e->dedup_id.len <= EVENT_ID_MAX + 1);
    ASSERT(e->headers_n > 0 && e->headers_n <= EVENT_HEADERS_MAX);
    for (unsigned i = 0; i < e->headers_n; i++)
        ASSERT(utf8_valid(e->headers[i].key) && utf8_valid(e->headers[i].value));
    if (json_value && e->value.ptr)
        ASSERT(jtext_valid(e->value, JTEXT_DEPTH_CAP));
}

static void parse_json(struct event_parser *p, struct slice text, bool ce)
{
    static struct event e;
    struct errinfo info;
    struct jtext_scan s;

    jtext_scan_init(&s, text, p->depth_max);
    do {
        const uint8_t *from = s.p;

        if (event_parse(p, &s, ce, &e, &info)) {
            ASSERT(memchr(info.text, 0, sizeof info.text));
            return;
        }
        ASSERT(s.p > from && s.p <= s.end);
        check(&e, !ce); /* a CloudEvent's may be decoded text */
    } while (jtext_more(&s));
}

/* The next NUL-terminated piece. */
static struct slice piece(struct slice *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, 0, rest->len) : NULL;
    struct slice s = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_of(rest->ptr + s.len + (end != NULL), rest->len - s.len - (end != NULL));
    return s;
}

static void parse_binary(struct event_parser *p, struct slice rest)
{
    static struct event e;
    struct errinfo info;
    struct slice media = piece(&rest);

    event_binary_begin(p, &e);
    for (;;) {
        struct slice name = piece(&rest), value;

        if (!name.len)
            break;
        value = piece(&rest);
        if (event_binary_attribute(p, &e, name, value, &info))
            return;
    }
    if (event_binary_end(p, &e, media, rest, &info) == ERR_OK)
        check(&e, media.len && media_is_json(media));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct event_parser p;
    struct slice text;

    if (size == 0)
        return 0;
    text = slice_of(data + 1, size - 1);
    event_parser_init(&p, DEPTH, EVENT_MAX);
    if (data[0] & 4)
        p.stream_default = SLICE_LIT("given:key");
    switch (data[0] & 3) {
    case 0:
    case 1:
        compare(text);
        parse_json(&p, text, data[0] & 1);
        break;
    default:
        parse_binary(&p, text);
    }
    event_parser_fini(&p);
    return 0;
}
