/* What the handlers of groups share. Not for anyone else. */
#ifndef WEIR_PROTO_KAFKA_GROUPS_H
#define WEIR_PROTO_KAFKA_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct group_description;
struct kreq;

/* The coordinator's clock, monotonic milliseconds. */
int64_t kafka_groups_now(struct kreq *q);
/* The code of what the coordinator answered. */
int16_t kafka_group_code(enum err e);

/* May the client see every topic that the members speak of: that they subscribe to, have, or are to
 * have? */
bool kafka_group_topics_allowed(struct kreq *q, const struct group_description *d);

#endif
