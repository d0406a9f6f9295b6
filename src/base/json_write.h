/* Writing JSON text into a buffer. Strings are escaped as RFC 8259 demands; bytes that are not
 * UTF-8 become U+FFFD. Any thread. */
#ifndef WEIR_BASE_JSON_WRITE_H
#define WEIR_BASE_JSON_WRITE_H

#include "base/buf.h"

/* A quoted string. */
enum err json_write_string(struct buf *b, struct slice s);
/* A quoted string of base64. */
enum err json_write_base64(struct buf *b, struct slice s);
/* Bytes as a member, without a comma: "NAME":null, "NAME":"text", or "NAME_base64":"…" of what is not
 * UTF-8. NAME is written as it is. */
enum err json_write_bytes(struct buf *b, const char *name, struct slice s);
enum err json_write_i64(struct buf *b, int64_t v);
enum err json_write_u64(struct buf *b, uint64_t v);

#endif
