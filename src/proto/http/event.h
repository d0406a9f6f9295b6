/* An event as HTTP and WebSocket clients write it, and what it becomes: a topic, a key, a value and
 * headers. Three spellings: Weir's plain JSON object, a CloudEvents 1.0 JSON object (structured
 * mode) and CloudEvents HTTP headers with the body as data (binary mode). docs/http.md is the
 * description for people.
 *
 *   plain       {"type", "stream"?, "key"?, "data"|"payload"?, "id"?, "ts"?, "source"?}
 *   structured  {"specversion":"1.0", "type", "source", "id", "time"?, "subject"?,
 * "datacontenttype"?, "dataschema"?, "data"|"data_base64"?, extensions…}
 *
 * The payload's bytes are stored exactly as they stand in the text. Spec sources: CloudEvents 1.0.2
 * core, JSON format and HTTP protocol binding (binary mode), Kafka protocol binding (header names).
 *
 * Pure but for the parser's own memory; one thread for each parser. */
#ifndef WEIR_PROTO_HTTP_EVENT_H
#define WEIR_PROTO_HTTP_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/jtext.h"
#include "base/slice.h"
#include "base/stream_name.h"
#include "journal/batch.h"

/* Lengths in bytes of decoded text. Topic names have Kafka's own limit, checked by the broker. */
#define EVENT_TYPE_MAX      255
#define EVENT_ID_MAX        255
#define EVENT_SOURCE_MAX    1024
#define EVENT_TOPIC_MAX     249
#define EVENT_KEY_MAX       1024
#define EVENT_ATTRIBUTE_MAX 1024
#define EVENT_HEADERS_MAX   32
#define EVENT_SCRATCH_BYTES (16 * 1024)

struct event {
    struct slice topic; /* never empty */
    struct slice key;   /* NULL: none */
    struct slice value; /* NULL: no data */
    struct slice type;
    struct slice id;       /* NULL: none given */
    struct slice dedup_id; /* from id (and source); NULL: none given */
    int64_t timestamp_ms;  /* -1: none given */
    struct record_header headers[EVENT_HEADERS_MAX];
    unsigned headers_n;
};

/* What a parse may use and what it must not exceed. Views in a struct event point into the text or
 * into the parser and are valid until its next parse. */
struct event_parser {
    unsigned depth_max;
    size_t event_bytes_max;      /* of one event's text */
    struct slice stream_default; /* for events that name none; empty: derived from the type */
    uint8_t *big;                /* decoded data_base64 or text */
    size_t big_cap;
    size_t used;
    uint8_t scratch[EVENT_SCRATCH_BYTES];
};

void event_parser_init(struct event_parser *p, unsigned depth_max, size_t event_bytes_max);
void event_parser_fini(struct event_parser *p);

/* Parses the object at s (passing it). ERR_INVALID, ERR_CORRUPT_INPUT (not JSON), ERR_TOO_LARGE;
 * info has the reason. */
enum err event_parse(struct event_parser *p, struct jtext_scan *s, bool cloudevents,
                     struct event *out, struct errinfo *info);

/* Binary mode: begin, one call for each ce-* header (name without "ce-", any case), end. */
void event_binary_begin(struct event_parser *p, struct event *out);
enum err event_binary_attribute(struct event_parser *p, struct event *out, struct slice name,
                                struct slice value, struct errinfo *info);
enum err event_binary_end(struct event_parser *p, struct event *out, struct slice content_type,
                          struct slice body, struct errinfo *info);

/* Whether a media type is JSON: application/json, text/json, anything +json; parameters ignored. */
bool media_is_json(struct slice type);
/* Whether it says text in UTF-8 that is not JSON: text/…, application/xml, anything +xml, unless a
 * charset says otherwise. */
bool media_is_text(struct slice type);

#endif
