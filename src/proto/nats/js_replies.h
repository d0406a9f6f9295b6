/* Reply subjects that are to be answered later, one behind the other in a buffer: u16 length, subject.
 * One thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_REPLIES_H
#define WEIR_PROTO_NATS_JS_REPLIES_H

#include "base/buf.h"

/* False, and nothing is added: it is empty, longer than a line of a client's, or there is no room. */
bool jreplies_add(struct buf *b, struct slice reply);
/* The one at this place (0: the first), which is the next one's then; false: there is none. */
bool jreplies_next(struct slice replies, size_t *at, struct slice *out);

#endif
