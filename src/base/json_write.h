/* Writing JSON text into a buffer. Strings are escaped as RFC 8259 demands; bytes that are not
 * UTF-8 become U+FFFD. Any thread. */
#ifndef WEIR_BASE_JSON_WRITE_H
#define WEIR_BASE_JSON_WRITE_H

#include "base/buf.h"

/* A quoted string. */
enum err json_write_string(struct buf *b, struct slice s);
enum err json_write_i64(struct buf *b, int64_t v);
enum err json_write_u64(struct buf *b, uint64_t v);

#endif
