/* compression.type: a topic may say in which codec its batches are, whoever made them. As Kafka's
 * broker does, one that comes in another is packed again; what it says (offsets, timestamps,
 * headers, its producer and sequence) stays as it is. Any thread; takes long: of more than
 * LIMIT_CHECK_QUICK bytes not on a loop. */
#ifndef WEIR_BROKER_BATCH_RECODE_H
#define WEIR_BROKER_BATCH_RECODE_H

#include "broker/broker.h"

struct batch_checked;
struct buf;

/* batch, c, inflated: as batch_check took and left them. *own is null if the batch is as the topic
 * wants it; else the batch to take instead, in memory that the caller frees, and *c is about that.
 * ERR_TOO_LARGE: it would be larger than the topic takes. */
enum err batch_recode(struct topic *t, struct slice batch, const struct buf *inflated,
                      struct batch_checked *c, struct slice *own, struct errinfo *info);

#endif
