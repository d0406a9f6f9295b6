/* Names of topics, by Kafka's rules (org.apache.kafka.common.internals.Topic). Any thread. */
#ifndef WEIR_BASE_TOPIC_NAME_H
#define WEIR_BASE_TOPIC_NAME_H

#include <stdbool.h>

#include "base/slice.h"

#define TOPIC_NAME_MAX 249

/* 1 to 249 characters of a-z A-Z 0-9 . _ -, neither "." nor "..". */
bool topic_name_valid(struct slice name);
/* Glob: `*` any run of characters, `?` one; everything else itself. Linear in practice: one step
 * back at most for each character. */
bool glob_match(const char *pattern, const char *text);

#endif
