/* Streams as events name them: `topic` or `topic:key`, or nothing, and then the topic comes from
 * the event's type. The same for every way in. Pure; any thread. */
#ifndef WEIR_BASE_STREAM_NAME_H
#define WEIR_BASE_STREAM_NAME_H

#include <stdbool.h>

#include "base/slice.h"
#include "base/topic_name.h"

/* `orders` or `orders:c-1` into its parts; key is NULL without a colon. False: empty part. */
bool stream_split(struct slice stream, struct slice *topic, struct slice *key);
/* The topic for a type: its first part (up to the first dot), made plural; out has room for
 * TOPIC_NAME_MAX + 1. Returns the length; 0: there is none. */
size_t stream_from_type(struct slice type, char *out);
/* English plural by a few rules; out has room for cap. 0: does not fit. */
size_t plural(struct slice word, char *out, size_t cap);

#endif
