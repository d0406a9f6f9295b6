/* Whole numbers of any size, as decimal text: counters. Nothing is allocated but by the result. Any
 * thread. */
#ifndef WEIR_PROTO_NATS_JS_NUMBER_H
#define WEIR_PROTO_NATS_JS_NUMBER_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

#define JNUMBER_MAX 65536u /* digits that are read */

/* Digits, perhaps with a sign before them. */
bool jnumber_valid(struct slice s);
/* a + b, or a - b, of valid ones, appended: no leading zeros, no plus. Empty ones are 0. */
void jnumber_add(struct slice a, struct slice b, bool minus, struct buf *out);

#endif
