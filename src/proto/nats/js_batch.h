/* Atomic batches of messages. See js_batch.c. On the stream's loop. */
#ifndef WEIR_PROTO_NATS_JS_BATCH_H
#define WEIR_PROTO_NATS_JS_BATCH_H

#include "proto/nats/js_facts.h"
#include "proto/nats/js_stream.h"

/* A message with a batch's id: it waits for the batch's end, or is it. m: with its subject here. */
void jbatches_take(struct jstream *s, const struct jwish *w, const struct jmsg *m,
                   struct slice reply);
/* Whether what w ends can be stored now: sums of counters are known, also for its own subject. */
bool jbatches_ready(struct jstream *s, const struct jwish *w);
/* What waits is given up, without a word. */
void jbatches_end(struct jstream *s);

#endif
