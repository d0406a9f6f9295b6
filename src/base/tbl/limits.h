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
#define LIMIT_TOPIC_MESSAGE_BYTES (32u << 20)  /* max.message.bytes at most: half a unit */
#define LIMIT_KV_NS 32u                      /* characters of a namespace of items */
#define LIMIT_KV_ITEMS 1000000u              /* items of all namespaces */
#define LIMIT_KV_BYTES (256ull << 20)        /* their keys and values, in memory */
#define LIMIT_GROUP_OFFSETS 1000000u         /* committed offsets of all groups */
#define LIMIT_APPEND_BYTES (48u << 20)       /* encoded, of one atomic append */
#define LIMIT_APPEND_PARTS 65536u            /* batches of one append */
#define LIMIT_APPEND_BATCH_BYTES (512u << 10) /* a part goes on in a new batch beyond this */
#define LIMIT_DEDUP_IDS_DEFAULT 1000000u     /* ids remembered; 64 bytes each */
#define LIMIT_READER_BYTES (4u << 20)        /* batches that one reader holds */
#define LIMIT_READER_BUFFERS 1024u           /* partitions for which it holds some */

_Static_assert(LIMIT_MESSAGE_BYTES_DEFAULT < LIMIT_BATCH_BYTES, "a default message fits a batch");
_Static_assert(LIMIT_TOPIC_MESSAGE_BYTES <= LIMIT_APPEND_BYTES, "any topic's batch fits an append");
_Static_assert(LIMIT_APPEND_BYTES < LIMIT_BATCH_BYTES, "an append fits a unit of the journal");

#endif
