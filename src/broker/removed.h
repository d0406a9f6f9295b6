/* Records that a topic's owner removed one by one (a stream of JetStream its messages), though they
 * are still in the log: bits in key-value items, so they are as durable as what kv_put and
 * append_kv write. Compaction of a topic with compaction.by.offset gives their room back. For topics
 * of one partition.
 *
 * A bit that is set stays set until the records of its whole block are below the log's start; then
 * the owner may delete the item. Any thread. */
#ifndef WEIR_BROKER_REMOVED_H
#define WEIR_BROKER_REMOVED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct broker;
struct topic_conf;

#define REMOVED_NS    "removed" /* of the items */
#define REMOVED_BLOCK 4096u     /* offsets of one item; the first is a multiple of it */
#define REMOVED_BYTES (REMOVED_BLOCK / 8)
#define REMOVED_KEY   12u
/* Instead of a block: the item's value says where the owner's records begin, as it counts them (a
 * stream: its first sequence), 8 bytes. */
#define REMOVED_BEGIN UINT64_MAX

/* The key of the item with this number of block; its value is REMOVED_BYTES: bit i, least first, is
 * of offset block * REMOVED_BLOCK + i. */
void removed_key(uint32_t topic_id, uint64_t block, uint8_t out[REMOVED_KEY]);
/* False: nothing of the block is removed, bits is unchanged. */
bool removed_get(struct broker *b, uint32_t topic_id, uint64_t block, uint8_t bits[REMOVED_BYTES]);
/* How such a topic is made: only what its owner removes goes. */
void removed_topic_conf(struct broker *b, struct topic_conf *c);
/* The blocks of a topic, in order; fn returns false to stop. Holds a lock: fn must not call the
 * broker. */
void removed_each(struct broker *b, uint32_t topic_id,
                  bool (*fn)(void *arg, uint64_t block, const uint8_t bits[REMOVED_BYTES]),
                  void *arg);

#endif
