/* Headers of NATS as text ("NATS/1.0", lines "Key: value", an empty line), taken apart, and made a
 * record's headers; record.h has the way back. Any thread. */
#ifndef WEIR_PROTO_NATS_JS_HEADER_H
#define WEIR_PROTO_NATS_JS_HEADER_H

#include "base/buf.h"
#include "journal/batch.h"

#define NHEADER_LINE "NATS/1.0"

/* Takes the next header off *rest, which begins as all of them: the first line is passed over.
 * False: there is none any more. */
bool nheader_next(struct slice *rest, struct slice *name, struct slice *value);
/* What is in the first line behind NATS/1.0, without blanks; empty: nothing. */
struct slice nheader_status(struct slice headers);
/* Of the first with this name, which is compared exactly; NULL ptr: there is none. */
struct slice nheader_find(struct slice headers, struct slice name);
/* Appends the first line, and the headers whose names `keep` takes; the empty line is the caller's. */
void nheader_copy(struct slice headers, bool (*keep)(void *arg, struct slice name), void *arg,
                  struct buf *out);
/* Appends a line: "name: value". */
void nheader_put(struct buf *out, struct slice name, struct slice value);
/* Into a record's headers: views. False: there are more than max. */
bool nheader_to_record(struct slice headers, struct record_header *out, uint32_t max, uint32_t *n);
/* How long the text of a record's headers is (record_nats_headers of record.h), all but exactly. */
size_t nheader_record_len(const struct record_header *h, uint32_t n);

#endif
