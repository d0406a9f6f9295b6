/* Counters: streams whose messages are sums of what was published. See js_counter.c. On the
 * stream's loop. */
#ifndef WEIR_PROTO_NATS_JS_COUNTER_H
#define WEIR_PROTO_NATS_JS_COUNTER_H

#include "proto/nats/js_facts.h"
#include "proto/nats/js_stream.h"

/* What a publisher says of counters; its payload has so many bytes. */
bool jcounters_check(const struct jstream *s, const struct jwish *w, size_t payload,
                     struct js_fault *f);
/* m, of a publisher or (copied) of another stream, becomes the message that has the sum: its headers
 * and payload are views of text; w says what the sum is. ERR_AGAIN: the last one is being read, or on
 * its way to the log; jpublish_go_on is called then, or the next batch is there. ERR_INVALID: f. */
enum err jcounters_add(struct jstream *s, struct jwish *w, struct jmsg *m, bool copied,
                       struct buf *text, struct js_fault *f);
/* Whether jcounters_add would not answer ERR_AGAIN. */
bool jcounters_ready(struct jstream *s, struct slice subject);
/* The message that w says is to have this sequence. */
void jcounters_note(struct jstream *s, const struct jwish *w, uint64_t seq);
/* What was noted of this subject (NULL ptr: of all) may not have come to the log. */
void jcounters_forget(struct jstream *s, struct slice subject);
/* Nothing is read any more. */
void jcounters_end(struct jstream *s);
void jcounters_free(struct jstream *s);

#endif
