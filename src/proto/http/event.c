/* Parsing of events and the small rules about them. See event.h.
 *
 * Fields are a table: name, which spelling has it, how its value is taken. A known field given
 * twice is refused (two readers would disagree on which counts); inside the payload that is the
 * sender's own affair. An unknown field is refused in a plain event, because it is nearly always a
 * slip of the pen that would lose data silently; in a CloudEvent it is an extension and kept as a
 * header. */
#include "proto/http/event.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/sha.h>

#include "base/assert.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "base/utf8.h"

enum field {
    F_TYPE,
    F_STREAM,
    F_KEY,
    F_DATA,
    F_ID,
    F_TS,
    F_SOURCE,
    F_SPECVERSION,
    F_TIME,
    F_SUBJECT,
    F_DATACONTENTTYPE,
    F_DATASCHEMA,
    F_DATA_BASE64,
    F_N,
    F_UNKNOWN = F_N,
};

#define IN_PLAIN 1u
#define IN_CE    2u

static const struct {
    struct slice name;
    enum field field;
    unsigned in;
} fields[] = {
#define FIELD(n, f, i)                              \
    {                                               \
        {(const uint8_t *)(n), sizeof(n) - 1}, f, i \
    }
    FIELD("type", F_TYPE, IN_PLAIN | IN_CE),
    FIELD("data", F_DATA, IN_PLAIN | IN_CE),
    FIELD("stream", F_STREAM, IN_PLAIN | IN_CE),
    FIELD("id", F_ID, IN_PLAIN | IN_CE),
    FIELD("ts", F_TS, IN_PLAIN),
    FIELD("payload", F_DATA, IN_PLAIN),
    FIELD("key", F_KEY, IN_PLAIN),
    FIELD("source", F_SOURCE, IN_PLAIN | IN_CE),
    FIELD("time", F_TIME, IN_CE),
    FIELD("specversion", F_SPECVERSION, IN_CE),
    FIELD("subject", F_SUBJECT, IN_CE),
    FIELD("datacontenttype", F_DATACONTENTTYPE, IN_CE),
    FIELD("dataschema", F_DATASCHEMA, IN_CE),
    FIELD("data_base64", F_DATA_BASE64, IN_CE),
    FIELD("partitionkey", F_KEY, IN_CE), /* the Partitioning extension */
#undef FIELD
};

/* Fields as found; strings decoded, data raw. */
struct found {
    struct slice text[F_N];
    enum jtext_type type[F_N];
    bool set[F_N];
    bool escaped_data; /* data is a string with escapes */
};

void event_parser_init(struct event_parser *p, unsigned depth_max, size_t event_bytes_max)
{
    memset(p, 0, offsetof(struct event_parser, scratch));
    p->depth_max = depth_max;
    p->event_bytes_max = event_bytes_max;
}

void event_parser_fini(struct event_parser *p)
{
    free(p->big);
    p->big = NULL;
    p->big_cap = 0;
}

/* ---- memory of one event ---- */

static uint8_t *scratch(struct event_parser *p, size_t n)
{
    uint8_t *at = p->scratch + p->used;

    if (n > sizeof p->scratch - p->used)
        return NULL;
    p->used += n;
    return at;
}

/* Room for n bytes of decoded payload; n is below the limit of an event already. */
static uint8_t *big(struct event_parser *p, size_t n)
{
    ASSERT(n <= p->event_bytes_max);
    if (!p->big || n > p->big_cap) { /* never NULL: empty data is not absent data */
        free(p->big);
        p->big_cap = n < 1024 ? 1024 : n;
        p->big = xmalloc(p->big_cap);
    }
    return p->big;
}

static enum err too_long(struct errinfo *info, struct slice name, size_t max)
{
    return errinfo_set(info, ERR_TOO_LARGE, "\"%.*s\" is longer than %zu bytes", (int)name.len,
                       (const char *)name.ptr, max);
}

/* The inside of a JSON string as UTF-8 of 1 to max bytes without control characters. */
static enum err take_text(struct event_parser *p, struct slice name, struct slice inner,
                          bool escaped, size_t max, struct slice *out, struct errinfo *info)
{
    struct slice t = inner;

    if (escaped) {
        uint8_t *to = inner.len <= max * 6 ? scratch(p, inner.len) : NULL;

        if (!to)
            return too_long(info, name, max);
        t = slice_of(to, jtext_unescape(inner, to));
    }
    if (t.len > max)
        return too_long(info, name, max);
    if (t.len == 0)
        return errinfo_set(info, ERR_INVALID, "\"%.*s\" is empty", (int)name.len,
                           (const char *)name.ptr);
    for (size_t i = 0; i < t.len; i++) {
        if (t.ptr[i] < 0x20 || t.ptr[i] == 0x7f)
            return errinfo_set(info, ERR_INVALID, "\"%.*s\" has a control character", (int)name.len,
                               (const char *)name.ptr);
    }
    *out = t;
    return ERR_OK;
}

static size_t field_max(enum field f)
{
    switch (f) {
    case F_TYPE:
        return EVENT_TYPE_MAX;
    case F_ID:
        return EVENT_ID_MAX;
    case F_SOURCE:
        return EVENT_SOURCE_MAX;
    case F_STREAM:
        return EVENT_TOPIC_MAX + 1 + EVENT_KEY_MAX;
    case F_KEY:
        return EVENT_KEY_MAX;
    default:
        return EVENT_ATTRIBUTE_MAX;
    }
}

/* ---- headers ---- */

static enum err put_header(struct event *e, struct slice name, struct slice value,
                           struct errinfo *info)
{
    if (e->headers_n == EVENT_HEADERS_MAX)
        return errinfo_set(info, ERR_LIMIT, "more than %d attributes", EVENT_HEADERS_MAX);
    e->headers[e->headers_n++] = (struct record_header){.key = name, .value = value};
    return ERR_OK;
}

/* CloudEvents: lower-case letters and digits; other attributes than data. */
static bool attribute_name(struct slice n)
{
    if (n.len == 0 || n.len > 64)
        return false;
    for (size_t i = 0; i < n.len; i++) {
        uint8_t c = n.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            return false;
    }
    return !slice_eq_str(n, "data");
}

/* An extension attribute as header ce_<name>. */
static enum err put_extension(struct event_parser *p, struct event *e, struct slice name,
                              struct slice value, struct errinfo *info)
{
    uint8_t *h;

    if (!attribute_name(name))
        return errinfo_set(info, ERR_INVALID,
                           "\"%.*s\" is no CloudEvents attribute name (a-z and 0-9)",
                           (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
    for (unsigned i = 0; i < e->headers_n; i++) {
        if (e->headers[i].key.len == name.len + 3 &&
            memcmp(e->headers[i].key.ptr + 3, name.ptr, name.len) == 0)
            return errinfo_set(info, ERR_INVALID, "\"%.*s\" is given twice", (int)name.len,
                               (const char *)name.ptr);
    }
    h = scratch(p, name.len + 3);
    if (!h)
        return errinfo_set(info, ERR_TOO_LARGE, "the attributes are longer than %d bytes",
                           EVENT_SCRATCH_BYTES);
    memcpy(h, "ce_", 3);
    memcpy(h + 3, name.ptr, name.len);
    return put_header(e, slice_of(h, name.len + 3), value, info);
}

/* ---- reading the object ---- */

static enum err bad_json(const struct jtext_scan *s, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT_INPUT, "not JSON: %s, at byte %zu",
                       s->why ? s->why : "a value is expected", (size_t)(s->p - s->start));
}

static enum field field_find(struct slice name, unsigned in)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if ((fields[i].in & in) && fields[i].name.len == name.len &&
            memcmp(fields[i].name.ptr, name.ptr, name.len) == 0)
            return fields[i].field;
    }
    return F_UNKNOWN;
}

static enum err unknown_field(struct slice name, struct errinfo *info)
{
    if (slice_eq_str(name, "specversion"))
        return errinfo_set(info, ERR_INVALID,
                           "this is a CloudEvent: send it as application/cloudevents+json");
    return errinfo_set(
        info, ERR_INVALID,
        "unknown field \"%.*s\"; an event has type, stream, key, data, id, ts, source",
        (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
}

static enum err extension_json(struct event_parser *p, struct event *e, struct slice name,
                               struct slice raw, enum jtext_type type, struct errinfo *info)
{
    struct slice text = raw;
    enum err err;

    switch (type) {
    case JTEXT_NULL:
        return ERR_OK;
    case JTEXT_STRING:
        text = slice_of(raw.ptr + 1, raw.len - 2);
        err = take_text(p, name, text, memchr(text.ptr, '\\', text.len) != NULL,
                        EVENT_ATTRIBUTE_MAX, &text, info);
        if (err)
            return err;
        break;
    case JTEXT_NUMBER:
    case JTEXT_TRUE:
    case JTEXT_FALSE:
        break;
    default:
        return errinfo_set(info, ERR_INVALID,
                           "extension \"%.*s\" must be a string, a number or a boolean",
                           (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
    }
    return put_extension(p, e, name, text, info);
}

/* Stores the value of known field f. */
static enum err take_field(struct event_parser *p, struct found *fd, enum field f,
                           struct slice name, struct slice raw, enum jtext_type type,
                           struct errinfo *info)
{
    struct slice inner;

    if (fd->set[f])
        return errinfo_set(info, ERR_INVALID,
                           f == F_DATA ? "\"data\" (or \"payload\") is given twice"
                                       : "\"%.*s\" is given twice",
                           (int)name.len, (const char *)name.ptr);
    fd->set[f] = true;
    fd->type[f] = type;
    fd->text[f] = raw;
    if (f == F_DATA)
        return ERR_OK;
    if (f == F_TS && type == JTEXT_NUMBER)
        return ERR_OK;
    if (type == JTEXT_NULL && f != F_TYPE) {
        fd->set[f] = false; /* null is the same as absent */
        return ERR_OK;
    }
    if (type != JTEXT_STRING)
        return errinfo_set(info, ERR_INVALID, "\"%.*s\" must be a string", (int)name.len,
                           (const char *)name.ptr);
    inner = slice_of(raw.ptr + 1, raw.len - 2);
    if (f == F_DATA_BASE64) {
        fd->text[f] = inner;
        return ERR_OK;
    }
    return take_text(p, name, inner, memchr(inner.ptr, '\\', inner.len) != NULL, field_max(f),
                     &fd->text[f], info);
}

static enum err read_object(struct event_parser *p, struct jtext_scan *s, unsigned in,
                            struct found *fd, struct event *e, struct errinfo *info)
{
    struct slice name, raw;
    enum jtext_type type;
    bool escaped;
    enum err err;

    if (!jtext_expect(s, '{', "an event is an object"))
        return bad_json(s, info);
    if (jtext_accept(s, '}'))
        return ERR_OK;
    do {
        enum field f;

        if (!jtext_string(s, &name, &escaped) || !jtext_expect(s, ':', "a colon is expected") ||
            !jtext_value(s, &raw, &type))
            return bad_json(s, info);
        f = field_find(name, in);
        if (f == F_UNKNOWN)
            err = in == IN_CE ? extension_json(p, e, name, raw, type, info)
                              : unknown_field(name, info);
        else
            err = take_field(p, fd, f, name, raw, type, info);
        if (err)
            return err;
    } while (jtext_accept(s, ','));
    if (!jtext_expect(s, '}', "a comma or } is expected"))
        return bad_json(s, info);
    return ERR_OK;
}

/* ---- from fields to event ---- */

static enum err set_stream(struct event_parser *p, struct event *e, const struct found *fd,
                           struct errinfo *info)
{
    struct slice stream = fd->set[F_STREAM] ? fd->text[F_STREAM] : p->stream_default;

    if (stream.len) {
        if (!stream_split(stream, &e->topic, &e->key))
            return errinfo_set(info, ERR_INVALID,
                               "\"stream\" must be topic or topic:key, neither part empty");
        if (e->topic.len > EVENT_TOPIC_MAX)
            return too_long(info, SLICE_LIT("stream"), EVENT_TOPIC_MAX);
    } else {
        char *name = (char *)scratch(p, EVENT_TOPIC_MAX + 1);
        size_t n = name ? stream_from_type(e->type, name) : 0;

        if (n == 0)
            return errinfo_set(info, ERR_INVALID,
                               "\"stream\" is missing and the type does not give a topic name");
        e->topic = slice_of(name, n);
    }
    if (fd->set[F_KEY]) {
        if (e->key.ptr && !slice_eq(e->key, fd->text[F_KEY]))
            return errinfo_set(info, ERR_INVALID, "\"key\" differs from the key in \"stream\"");
        e->key = fd->text[F_KEY];
    }
    return ERR_OK;
}

static enum err set_time(struct event *e, const struct found *fd, bool ce, struct errinfo *info)
{
    enum field f = ce ? F_TIME : F_TS;

    e->timestamp_ms = -1;
    if (!fd->set[f])
        return ERR_OK;
    if (fd->type[f] == JTEXT_NUMBER) {
        if (!jtext_int(fd->text[f], &e->timestamp_ms) || e->timestamp_ms < 0)
            return errinfo_set(info, ERR_INVALID,
                               "\"ts\" as a number is whole milliseconds since 1970");
        return ERR_OK;
    }
    if (!time_parse(fd->text[f], &e->timestamp_ms) || e->timestamp_ms < 0)
        return errinfo_set(info, ERR_INVALID, "\"%s\" is not an ISO 8601 time since 1970",
                           ce ? "time" : "ts");
    return ERR_OK;
}

/* The id's scope is its source, as CloudEvents has it. */
static void set_dedup(struct event_parser *p, struct event *e, struct slice source)
{
    uint8_t *both;
    size_t n;

    e->dedup_id = e->id;
    if (!e->id.len || !source.len)
        return;
    n = e->id.len + 1 + source.len;
    both = scratch(p, n + SHA256_DIGEST_LENGTH + 1);
    if (!both)
        return; /* many long attributes: the id alone is the stricter rule */
    memcpy(both, e->id.ptr, e->id.len);
    both[e->id.len] = 0x1f;
    memcpy(both + e->id.len + 1, source.ptr, source.len);
    if (n > EVENT_ID_MAX) { /* more than the broker takes: its hash instead */
        both[n] = 0x02;     /* which no text begins with */
        SHA256(both, n, both + n + 1);
        both += n;
        n = SHA256_DIGEST_LENGTH + 1;
    }
    e->dedup_id = slice_of(both, n);
}

static enum err set_headers(struct event *e, const struct found *fd, bool ce, struct errinfo *info)
{
    static const struct {
        enum field f;
        struct slice name;
    } of[] = {
        {F_ID, {(const uint8_t *)"ce_id", 5}},
        {F_SOURCE, {(const uint8_t *)"ce_source", 9}},
        {F_TIME, {(const uint8_t *)"ce_time", 7}},
        {F_SUBJECT, {(const uint8_t *)"ce_subject", 10}},
        {F_DATASCHEMA, {(const uint8_t *)"ce_dataschema", 13}},
        {F_SPECVERSION, {(const uint8_t *)"ce_specversion", 14}},
    };
    enum err err = put_header(e, SLICE_LIT("ce_type"), e->type, info);

    for (size_t i = 0; !err && i < (ce ? sizeof of / sizeof of[0] : 2); i++) {
        if (fd->set[of[i].f])
            err = put_header(e, of[i].name, fd->text[of[i].f], info);
    }
    if (!err && fd->set[F_DATACONTENTTYPE] &&
        !slice_eq_str(fd->text[F_DATACONTENTTYPE], "application/json"))
        err = put_header(e, SLICE_LIT("content-type"), fd->text[F_DATACONTENTTYPE], info);
    return err;
}

/* CloudEvents JSON format, section 3.1: what the value's bytes are. */
static enum err set_value(struct event_parser *p, struct event *e, const struct found *fd,
                          struct errinfo *info)
{
    bool json = !fd->set[F_DATACONTENTTYPE] || media_is_json(fd->text[F_DATACONTENTTYPE]);
    struct slice t;
    uint8_t *bytes;

    if (fd->set[F_DATA_BASE64]) {
        size_t n;

        if (fd->set[F_DATA])
            return errinfo_set(info, ERR_INVALID, "both \"data\" and \"data_base64\" are given");
        t = fd->text[F_DATA_BASE64];
        if (t.len > p->event_bytes_max ||
            !base64_decode((const char *)t.ptr, t.len, big(p, t.len), &n))
            return errinfo_set(info, ERR_INVALID, "\"data_base64\" is not base64");
        e->value = slice_of(p->big, n);
        return ERR_OK;
    }
    e->value = fd->set[F_DATA] ? fd->text[F_DATA] : SLICE_NULL;
    if (json || !fd->set[F_DATA] || fd->type[F_DATA] != JTEXT_STRING)
        return ERR_OK;
    t = slice_of(e->value.ptr + 1, e->value.len - 2);
    if (t.len > p->event_bytes_max)
        return errinfo_set(info, ERR_TOO_LARGE, "the event is larger than %zu bytes",
                           p->event_bytes_max);
    bytes = big(p, t.len);
    e->value = slice_of(bytes, jtext_unescape(t, bytes));
    return ERR_OK;
}

static enum err require_ce(const struct found *fd, struct errinfo *info)
{
    if (!fd->set[F_SPECVERSION] || !slice_eq_str(fd->text[F_SPECVERSION], "1.0"))
        return errinfo_set(info, ERR_INVALID, "a CloudEvent needs \"specversion\" 1.0");
    if (!fd->set[F_ID] || !fd->set[F_SOURCE])
        return errinfo_set(info, ERR_INVALID, "a CloudEvent needs \"id\" and \"source\"");
    return ERR_OK;
}

/* All but the extensions and the value. */
static enum err assemble(struct event_parser *p, struct event *e, struct found *fd, bool ce,
                         struct errinfo *info)
{
    enum err err;

    if (!fd->set[F_TYPE])
        return errinfo_set(info, ERR_INVALID, "\"type\" is missing");
    if (ce && (err = require_ce(fd, info)))
        return err;
    e->type = fd->text[F_TYPE];
    e->id = fd->set[F_ID] ? fd->text[F_ID] : SLICE_NULL;
    if ((err = set_stream(p, e, fd, info)) || (err = set_time(e, fd, ce, info)) ||
        (err = set_headers(e, fd, ce, info)))
        return err;
    set_dedup(p, e, fd->set[F_SOURCE] ? fd->text[F_SOURCE] : SLICE_NULL);
    return ERR_OK;
}

static void begin(struct event_parser *p, struct event *e)
{
    p->used = 0;
    e->topic = e->key = e->value = e->type = e->id = e->dedup_id = SLICE_NULL;
    e->timestamp_ms = -1;
    e->headers_n = 0;
}

enum err event_parse(struct event_parser *p, struct jtext_scan *s, bool cloudevents,
                     struct event *out, struct errinfo *info)
{
    struct found fd;
    const uint8_t *from;
    enum err err;

    memset(fd.set, 0, sizeof fd.set);
    begin(p, out);
    (void)jtext_more(s);
    from = s->p;
    err = read_object(p, s, cloudevents ? IN_CE : IN_PLAIN, &fd, out, info);
    if (err)
        return err;
    if ((size_t)(s->p - from) > p->event_bytes_max)
        return errinfo_set(info, ERR_TOO_LARGE, "the event is larger than %zu bytes",
                           p->event_bytes_max);
    err = assemble(p, out, &fd, cloudevents, info);
    return err ? err : set_value(p, out, &fd, info);
}

/* ---- binary mode ---- */

/* During binary mode the attributes wait in out->headers under their own names. */
void event_binary_begin(struct event_parser *p, struct event *out)
{
    begin(p, out);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes (HTTP binding, section 3.1.3.2); malformed escapes stay as they are. */
static size_t percent_decode(struct slice in, uint8_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        int hi, lo;

        if (in.ptr[i] == '%' && i + 2 < in.len && (hi = hex_digit(in.ptr[i + 1])) >= 0 &&
            (lo = hex_digit(in.ptr[i + 2])) >= 0) {
            out[n++] = (uint8_t)(hi << 4 | lo);
            i += 2;
        } else {
            out[n++] = in.ptr[i];
        }
    }
    return n;
}

enum err event_binary_attribute(struct event_parser *p, struct event *out, struct slice name,
                                struct slice value, struct errinfo *info)
{
    uint8_t *n = name.len <= 64 ? scratch(p, name.len) : NULL;
    uint8_t *v = value.len <= EVENT_ATTRIBUTE_MAX * 3 ? scratch(p, value.len) : NULL;
    struct slice key, text;

    if (!n || !v)
        return errinfo_set(info, ERR_TOO_LARGE, "the ce- headers are too long");
    for (size_t i = 0; i < name.len; i++)
        n[i] =
            (uint8_t)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] | 0x20 : name.ptr[i]);
    key = slice_of(n, name.len);
    text = slice_of(v, percent_decode(value, v));
    if (!utf8_valid(text))
        return errinfo_set(info, ERR_INVALID, "header ce-%.*s is not UTF-8", (int)key.len,
                           (const char *)key.ptr);
    for (unsigned i = 0; i < out->headers_n; i++) {
        if (slice_eq(out->headers[i].key, key))
            return errinfo_set(info, ERR_INVALID, "header ce-%.*s is given twice", (int)key.len,
                               (const char *)key.ptr);
    }
    return put_header(out, key, text, info);
}

enum err event_binary_end(struct event_parser *p, struct event *out, struct slice content_type,
                          struct slice body, struct errinfo *info)
{
    struct record_header given[EVENT_HEADERS_MAX];
    unsigned n = out->headers_n;
    bool known[EVENT_HEADERS_MAX] = {false};
    struct found fd;
    enum err err;

    if (body.len > p->event_bytes_max)
        return errinfo_set(info, ERR_TOO_LARGE, "the event is larger than %zu bytes",
                           p->event_bytes_max);
    memcpy(given, out->headers, n * sizeof given[0]);
    memset(fd.set, 0, sizeof fd.set);
    out->headers_n = 0;
    for (unsigned i = 0; i < n; i++) {
        enum field f = field_find(given[i].key, IN_CE);

        if (f == F_UNKNOWN || f == F_DATA || f == F_DATA_BASE64 || f == F_DATACONTENTTYPE)
            continue;
        known[i] = true;
        fd.set[f] = true;
        fd.type[f] = JTEXT_STRING;
        err = take_text(p, given[i].key, given[i].value, false, field_max(f), &fd.text[f], info);
        if (err)
            return err;
    }
    if (content_type.len) {
        fd.set[F_DATACONTENTTYPE] = true;
        if (!utf8_valid(content_type))
            return errinfo_set(info, ERR_INVALID, "Content-Type is not UTF-8");
        err = take_text(p, SLICE_LIT("content-type"), content_type, false, EVENT_ATTRIBUTE_MAX,
                        &fd.text[F_DATACONTENTTYPE], info);
        if (err)
            return err;
        if (media_is_json(content_type) && body.len && !jtext_valid(body, p->depth_max))
            return errinfo_set(info, ERR_CORRUPT_INPUT, "the body is not JSON");
    }
    if ((err = assemble(p, out, &fd, true, info)))
        return err;
    for (unsigned i = 0; i < n; i++) {
        struct slice text;

        if (known[i])
            continue;
        err = take_text(p, given[i].key, given[i].value, false, EVENT_ATTRIBUTE_MAX, &text, info);
        if (err || (err = put_extension(p, out, given[i].key, text, info)))
            return err;
    }
    out->value = body.len ? body : SLICE_NULL;
    return ERR_OK;
}

static bool eq_nocase(struct slice a, const char *b)
{
    if (a.len != strlen(b))
        return false;
    for (size_t i = 0; i < a.len; i++) {
        uint8_t c = a.ptr[i];

        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != (uint8_t)b[i])
            return false;
    }
    return true;
}

/* The type before its parameters; *rest begins with them, or is empty. */
static struct slice media_type(struct slice s, struct slice *rest)
{
    const uint8_t *semi = s.len ? memchr(s.ptr, ';', s.len) : NULL;
    size_t n = semi ? (size_t)(semi - s.ptr) : s.len;

    *rest = semi ? slice_of(semi + 1, s.len - n - 1) : slice_of("", 0);
    return slice_trim(slice_of(s.ptr, n), SLICE_LIT(" \t"));
}

static bool ends_nocase(struct slice s, const char *end)
{
    size_t n = strlen(end);

    return s.len > n && eq_nocase(slice_of(s.ptr + s.len - n, n), end);
}

bool media_is_json(struct slice type)
{
    struct slice rest, t = media_type(type, &rest);

    return ends_nocase(t, "+json") || eq_nocase(t, "application/json") || eq_nocase(t, "text/json");
}

bool media_is_text(struct slice type)
{
    struct slice rest, t = media_type(type, &rest), p;

    if (media_is_json(type) || !((t.len > 5 && eq_nocase(slice_of(t.ptr, 5), "text/")) ||
                                 eq_nocase(t, "application/xml") || ends_nocase(t, "+xml")))
        return false;
    while (rest.len) {
        p = media_type(rest, &rest);
        if (p.len < 8 || !eq_nocase(slice_of(p.ptr, 8), "charset="))
            continue;
        p = slice_of(p.ptr + 8, p.len - 8);
        if (p.len > 1 && p.ptr[0] == '"' && p.ptr[p.len - 1] == '"')
            p = slice_of(p.ptr + 1, p.len - 2);
        if (!eq_nocase(p, "utf-8") && !eq_nocase(p, "us-ascii"))
            return false;
    }
    return true;
}
