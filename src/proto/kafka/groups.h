/* What the handlers of groups share. Not for anyone else. */
#ifndef WEIR_PROTO_KAFKA_GROUPS_H
#define WEIR_PROTO_KAFKA_GROUPS_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct kreq;

/* The coordinator's clock, monotonic milliseconds. */
int64_t kafka_groups_now(struct kreq *q);
/* The code of what the coordinator answered. */
int16_t kafka_group_code(enum err e);

/* What the client may do with the group, as bits by AclOperation. */
int32_t kafka_group_operations(struct kreq *q, struct slice group);

#endif
