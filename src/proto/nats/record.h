/* A record of a topic as a message: its headers; its subject see base/subject.h. See record.c.
 *
 * Any thread. */
#ifndef WEIR_PROTO_NATS_RECORD_H
#define WEIR_PROTO_NATS_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct buf;
struct record_header;

/* A header of this name holds what follows "NATS/1.0 " in the first line: status and text. */
#define RECORD_STATUS ":status"

/* Appends headers as a message has them, "NATS/1.0" to the empty line; nothing if n is 0. They keep
 * their order. What would end a line or a name is left out of reach: controls in a value become
 * blanks, what may not be in a name becomes %XX, headers without a name are left out. Returns the
 * bytes appended. */
size_t record_nats_headers(const struct record_header *h, unsigned n, struct buf *out);

#endif
