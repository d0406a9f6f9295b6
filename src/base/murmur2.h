/* Kafka's murmur2 (org.apache.kafka.common.utils.Utils.murmur2), which routes keys to partitions.
 * Vectors: tests/unit/base/murmur2.c. Any thread. */
#ifndef WEIR_BASE_MURMUR2_H
#define WEIR_BASE_MURMUR2_H

#include <stdint.h>

#include "base/slice.h"

uint32_t murmur2(const void *p, size_t n);
/* Partition of a key among n > 0 partitions: toPositive(murmur2(key)) % n. */
int32_t murmur2_partition(struct slice key, int32_t n);

#endif
