/* JSON for the hot path: a strict scanner that finds the extent of values without building a tree,
 * and the few writers that answers need. RFC 8259, and stricter where readers downstream would trip
 * over what it allows: UTF-8 must be well formed (RFC 3629), surrogate escapes must be paired,
 * nesting has a limit. Numbers keep their text; their range is not looked at.
 *
 * Why not a library: docs/why/json.md. Pure functions; no I/O; any thread. */
#ifndef WEIR_BASE_JTEXT_H
#define WEIR_BASE_JTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct buf;

/* More than this deep is never accepted, whatever a configuration says. */
#define JTEXT_DEPTH_CAP 1024

enum jtext_type {
    JTEXT_NULL,
    JTEXT_FALSE,
    JTEXT_TRUE,
    JTEXT_NUMBER,
    JTEXT_STRING,
    JTEXT_OBJECT,
    JTEXT_ARRAY,
};

/* A position in a text. `why` is the first thing that was wrong (a constant string), `p` the place.
 */
struct jtext_scan {
    const uint8_t *start, *p, *end;
    unsigned depth_max; /* containers inside one another, in what jtext_value skips */
    const char *why;
};

void jtext_scan_init(struct jtext_scan *s, struct slice text, unsigned depth_max);
/* Passes white space; true if something is left. */
bool jtext_more(struct jtext_scan *s);
/* Validates and passes one value of any type (white space before it too). raw: its bytes, a string
 * with its quotes. */
bool jtext_value(struct jtext_scan *s, struct slice *raw, enum jtext_type *type);
/* Passes a string; inner: the bytes between the quotes, escaped: whether it has escapes. */
bool jtext_string(struct jtext_scan *s, struct slice *inner, bool *escaped);
/* Passes white space and the byte c, or fails with why. */
bool jtext_expect(struct jtext_scan *s, uint8_t c, const char *why);
/* Passes white space and the byte c if it is next. */
bool jtext_accept(struct jtext_scan *s, uint8_t c);

/* Decodes the inside of a validated string to UTF-8; out needs room for inner.len bytes. Returns
 * the length. */
size_t jtext_unescape(struct slice inner, uint8_t *out);
/* An integer's value; false if the number has a fraction or exponent or leaves int64. */
bool jtext_int(struct slice raw, int64_t *out);
/* Whether all of `text` is one JSON value (and UTF-8). */
bool jtext_valid(struct slice text, unsigned depth_max);

/* ---- writing ---- */

/* Room that jtext_escape needs in the worst case. */
#define JTEXT_ESCAPE_MAX(len) ((len)*6 + 2)
/* Writes s (UTF-8) as a JSON string with quotes; returns the end. */
uint8_t *jtext_escape(uint8_t *out, struct slice s);
/* Decimal; at most 20 bytes; returns the end. */
uint8_t *jtext_u64(uint8_t *out, uint64_t v);
uint8_t *jtext_i64(uint8_t *out, int64_t v);

#endif
