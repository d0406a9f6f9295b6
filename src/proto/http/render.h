/* A record as the JSON object that readers get, over every transport the same:
 *
 *   {"id":"evt_…","type":…,"stream":"orders","key":"c-1","ts":"…Z","partition":0,"offset":12,
 *    "event_id":…,"source":…,"datacontenttype":…,"data":…,"headers":[{"name":…,"value":…}]}
 *
 * Nothing is lost: what is not UTF-8 comes as base64 under a name that says so; a payload that is
 * JSON stands there as its own bytes. Pure; any thread. */
#ifndef WEIR_PROTO_HTTP_RENDER_H
#define WEIR_PROTO_HTTP_RENDER_H

#include "broker/broker.h"
#include "journal/batch.h"

/* Line feeds in the payload (white space, it being JSON) become spaces: NDJSON and server-sent
 * events need one line. */
#define RENDER_ONE_LINE 1u

/* Bytes that render_event needs at most. */
size_t render_event_max(const struct reader_record *r);
/* Writes the object; returns the end. */
uint8_t *render_event(uint8_t *out, const struct reader_record *r, unsigned flags);

/* The value of the header, NULL ptr if there is none (or it is null). The first counts. */
struct slice record_header_find(const struct reader_record *r, const char *name);

/* A copy of a string literal; returns the end. */
#define PUT_LIT(out, s) ((uint8_t *)memcpy((out), "" s, sizeof(s) - 1) + sizeof(s) - 1)

#endif
