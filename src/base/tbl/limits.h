/* Limits: every quantity that comes from outside or grows has its maximum here, with unit and reason.
 * Relations between them are checked at compile time below. */
#ifndef WEIR_BASE_TBL_LIMITS_H
#define WEIR_BASE_TBL_LIMITS_H

#define LIMIT_BATCH_BYTES (64u << 20)        /* a stored batch, whatever the topic says */
#define LIMIT_MESSAGE_BYTES_DEFAULT 1048588  /* max.message.bytes, as Kafka's default */
#define LIMIT_BATCH_RECORDS (1u << 20)       /* records declared by a batch */
#define LIMIT_BATCH_INFLATED (256u << 20)    /* bytes of a batch's records decompressed */
#define LIMIT_RECORD_HEADERS 1024u           /* headers of a record */
#define LIMIT_HEADER_BYTES (64u << 10)       /* name and value of a header */
#define LIMIT_PARTITIONS 10000               /* of a topic */
#define LIMIT_TOPICS_DEFAULT 1000000u        /* topics_max */
#define LIMIT_GROUP_NAME 255u                /* bytes */
#define LIMIT_GROUP_METADATA 255u            /* bytes kept with a committed offset */
#define LIMIT_KV_KEY 1024u                   /* bytes */
#define LIMIT_KV_VALUE (64u << 10)           /* bytes */
#define LIMIT_EVENT_ID 256u                  /* bytes of an event's own id */

_Static_assert(LIMIT_MESSAGE_BYTES_DEFAULT < LIMIT_BATCH_BYTES, "a default message fits a batch");

#endif
