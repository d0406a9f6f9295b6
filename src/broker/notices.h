/* Telling of what happens: records written and groups' doings become events of a topic (weir.events by
 * default), if the configuration asks for it. See notices.c. */
#ifndef WEIR_BROKER_NOTICES_H
#define WEIR_BROKER_NOTICES_H

#include "broker/broker.h"
#include "broker/state.h"

#define NOTICES_MAX      16384u     /* waiting to be told; more are dropped and counted */
#define NOTICES_TEXT_MAX (1u << 20) /* bytes of names that belong to them */
#define NOTICE_KEY_MAX   1024u      /* bytes; a longer key is not told */

enum notice_kind { NOTICE_PRODUCE, NOTICE_COMMIT, NOTICE_JOIN, NOTICE_LEAVE, NOTICE_REBALANCE };

struct notices;

/* Before anything can happen: by conf->notices of the broker, and none if it is 0. ERR_TOPIC_NAME. */
enum err notices_open(struct broker *b, struct errinfo *info);
/* Tells what is still waiting; nothing is taken any more. The journal is still open. */
void notices_stop(struct broker *b);
void notices_free(struct broker *b);
/* Simulation: tells what is waiting; whether there was something. */
bool notices_turn(struct broker *b);
/* Events told, and things that were not told for want of room or because telling failed. */
void notices_count(struct broker *b, uint64_t *told, uint64_t *dropped);

/* The hooks. They copy what they are given into memory that is there, under a lock that is held for no
 * longer than that; they never wait for I/O. */
void notice__produce(struct broker *b, uint32_t topic, int32_t partition, int64_t offset,
                     uint32_t records);
void notice__commit(struct broker *b, const struct entry_group_offset *en);
void notice__group(struct broker *b, enum notice_kind kind, struct slice group, struct slice member,
                   int32_t generation);

/* Writer thread: a batch of so many records is durable. */
#define NOTICE_PRODUCED(b, topic, partition, offset, records)      \
    do {                                                           \
        if ((b)->notices)                                          \
            notice__produce(b, topic, partition, offset, records); \
    } while (0)
/* Writer thread: a group's offset is durable. */
#define NOTICE_COMMITTED(b, en)    \
    do {                           \
        if ((b)->notices)          \
            notice__commit(b, en); \
    } while (0)
/* Any thread, any lock held. member: null for NOTICE_REBALANCE. */
#define NOTICE_GROUP(b, kind, group, member, generation)       \
    do {                                                       \
        if ((b)->notices)                                      \
            notice__group(b, kind, group, member, generation); \
    } while (0)

#endif
