/* Limits: every quantity that comes from outside or grows has its maximum here, with unit and reason.
 * Relations between them are checked at compile time below. */
#ifndef WEIR_BASE_TBL_LIMITS_H
#define WEIR_BASE_TBL_LIMITS_H

#define LIMIT_BATCH_BYTES (64u << 20)        /* a stored batch, whatever the topic says */
#define LIMIT_MESSAGE_BYTES_DEFAULT 1048588  /* max.message.bytes, as Kafka's default */
#define LIMIT_BATCH_RECORDS (1u << 20)       /* records declared by a batch */
#define LIMIT_BATCH_INFLATED (256u << 20)    /* bytes of a batch's records decompressed */
#define LIMIT_CLIENT_INFLATED_TIMES 32u      /* … of a client's: so many max.message.bytes, … */
#define LIMIT_CLIENT_INFLATED_LEAST (4u << 20) /* … or so many bytes if that is more */
#define LIMIT_CHECK_QUICK (1u << 20)         /* bytes of a batch's records that a loop checks itself */
#define LIMIT_CHECK_QUICK_PACKED (256u << 10) /* … compressed */
#define LIMIT_RECORD_HEADERS 1024u           /* headers of a record */
#define LIMIT_HEADER_BYTES (64u << 10)       /* name and value of a header */
#define LIMIT_PARTITIONS 10000               /* of a topic */
#define LIMIT_TOPICS_DEFAULT 1000000u        /* topics_max */
#define LIMIT_GROUP_NAME 255u                /* bytes */
#define LIMIT_GROUP_METADATA 4096u           /* bytes kept with a committed offset, as Kafka */
#define LIMIT_KV_KEY 1024u                   /* bytes */
#define LIMIT_KV_VALUE (64u << 10)           /* bytes */
#define LIMIT_EVENT_ID 256u                  /* bytes of an event's own id */
#define LIMIT_TOPIC_MESSAGE_BYTES (32u << 20)  /* max.message.bytes at most: half a unit */
#define LIMIT_BUCKET_KEY 1024u               /* bytes of a key in a bucket, as the C library takes it */
#define LIMIT_KV_NS 32u                      /* characters of a namespace of items */
#define LIMIT_KV_ITEMS 1000000u              /* items of all namespaces */
#define LIMIT_KV_BYTES (256ull << 20)        /* their keys and values, in memory */
#define LIMIT_GROUP_OFFSETS 1000000u         /* committed offsets of all groups */
#define LIMIT_GROUP_METADATA_BYTES (256u << 20) /* metadata of all committed offsets, in memory */
#define LIMIT_METRIC_GROUPS 1000u            /* whose lag is told, the first by name */
#define LIMIT_METRIC_OFFSETS 100000u         /* looked at for that */
#define LIMIT_GROUP_MEMBERS 10000            /* of a group, those that were only given an id too */
#define LIMIT_GROUP_PROTOCOLS 64u            /* that a member offers */
#define LIMIT_GROUP_WORD 255u                /* bytes: protocol, client, host, rack, instance */
#define LIMIT_MEMBER_ID 300u                 /* bytes: LIMIT_GROUP_WORD and a UUID */
#define LIMIT_MEMBER_BYTES (4u << 20)        /* metadata of all protocols; an assignment */
#define LIMIT_GROUP_ASSIGNMENT (64u << 20)   /* assignments of all members of a group, in bytes */
#define LIMIT_MEMBER_TOPICS 20000u           /* names that a member subscribes to */
#define LIMIT_STREAMS_SUBTOPOLOGIES 1000u    /* of a topology that members run */
#define LIMIT_STREAMS_TOPICS 20000u          /* that a topology names, each as often as it does */
#define LIMIT_STREAMS_BYTES (4u << 20)       /* of a topology, in memory */
#define LIMIT_STREAMS_TASKS 20000u           /* of a group, without their standbys */
#define LIMIT_STREAMS_ENDPOINTS (16u << 20)  /* bytes that say who reads what; else it is not told */
#define LIMIT_STREAMS_MAKES 100u             /* topics that a heartbeat makes; later ones the rest */
#define LIMIT_STREAMS_STANDBYS 16            /* of a task */
#define LIMIT_STREAMS_TAGS 64u               /* of a member */
#define LIMIT_STREAMS_KEPT 100000u           /* topologies kept for groups without members: of the */
#define LIMIT_STREAMS_KEPT_BYTES (64u << 20) /* room of items (LIMIT_KV_…); more are not kept */
#define LIMIT_GROUPS_LIVE 100000u            /* groups that have members */
#define LIMIT_GROUPS_BYTES (512ull << 20)    /* what all members and their groups take in memory */
#define LIMIT_GROUP_IMAGE (256u << 10)       /* published text of members or assignment; else none */
#define LIMIT_GROUP_IMAGES (64u << 20)       /* those texts of all groups, in memory */
#define LIMIT_CURSORS 1000000u               /* groups times the partitions that they share */
#define LIMIT_CURSOR_RECORDS 10000           /* in flight for one cursor */
#define LIMIT_CURSOR_RECORDS_ALL 4000000u    /* for all cursors; some 100 bytes each at worst */
#define LIMIT_CURSOR_DEAD_BYTES (1u << 20)   /* dead letters in one unit, beyond the first */
#define LIMIT_REGEX_BYTES 1024u              /* a subscription's regular expression */
#define LIMIT_REGEX_STATES 2048u             /* of its automaton, repetitions written out */
#define LIMIT_APPEND_BYTES (48u << 20)       /* encoded, of one atomic append */
#define LIMIT_APPEND_PARTS 65536u            /* batches of one append */
#define LIMIT_APPEND_BATCH_BYTES (512u << 10) /* a part goes on in a new batch beyond this */
#define LIMIT_DEDUP_IDS_DEFAULT 1000000u     /* ids remembered; 64 bytes each */
#define LIMIT_TXN_NAME 255u                  /* bytes of a transactional id */
#define LIMIT_TXNS 100000u                   /* transactional ids known */
#define LIMIT_TXN_PARTS 20000u               /* partitions that one transaction writes to */
#define LIMIT_TXN_OFFSETS 100000u            /* offsets pending in one transaction */
#define LIMIT_TXN_OFFSETS_ALL 1000000u       /* offsets pending in all of them */
#define LIMIT_TXN_OFFSET_BYTES (256u << 20)  /* and what they take in memory, names and metadata */
#define LIMIT_TXN_TIMEOUT_MS 900000          /* transaction.max.timeout.ms, as Kafka's default */
#define LIMIT_PRODUCERS 1000000u             /* producers of all partitions that are remembered */
#define LIMIT_COMPACT_KEYS (3u << 20)        /* keys of one pass of compaction, 32 bytes each */
#define LIMIT_COMPACT_PRODUCERS (1u << 20)   /* producers that compaction tells apart in a log */
#define LIMIT_COMPACT_ABORTED (1u << 20)     /* aborted transactions of one pass of compaction */
#define LIMIT_READER_BYTES (4u << 20)        /* batches that one reader holds */
#define LIMIT_READER_BUFFERS 1024u           /* partitions for which it holds some */
#define LIMIT_KAFKA_FRAME (100u << 20)       /* socket.request.max.bytes, as Kafka's default */
#define LIMIT_KAFKA_FRAME_UNTRUSTED (64u << 10) /* before authentication */
#define LIMIT_KAFKA_FRAME_STEP (64u << 10)   /* memory taken for a frame before its bytes are there */
#define LIMIT_KAFKA_ARENA (64u << 20)        /* decoded arrays and what an answer is made of */
#define LIMIT_KAFKA_ANSWER (128u << 20)      /* of one request, record batches included */
#define LIMIT_KAFKA_REQUESTS 64u             /* of one connection that wait or run */
#define LIMIT_KAFKA_REQUEST_BYTES (32u << 20) /* and their frames together, beyond the first */
#define LIMIT_KAFKA_OUTPUT (16u << 20)       /* answers not taken: requests wait from there on */
#define LIMIT_KAFKA_HELD_IN (128u << 20)     /* frames of all connections: see kafka/budget.c */
#define LIMIT_KAFKA_HELD_OUT (256u << 20)    /* and answers that are not taken */
#define LIMIT_KAFKA_FETCH_BYTES (16u << 20)  /* record batches of one fetch answer, beyond the first */
#define LIMIT_KAFKA_FETCH_PARTITIONS 100000u /* of one fetch session */
#define LIMIT_KAFKA_SHARE_SESSIONS 16u       /* of one connection; a consumer has one */
#define LIMIT_KAFKA_FREE_READS 256u          /* as the next two: kept by a loop for reuse */
#define LIMIT_KAFKA_FREE_READ_BUFFERS 32u    /* of those reads that keep their buffers */
#define LIMIT_KAFKA_FREE_APPENDS 64u
#define LIMIT_KAFKA_READ_THREADS 12u         /* that read files for fetches, most of them waiting for others */
#define LIMIT_KAFKA_READ_AHEADS 16u          /* pieces of work that read what will be asked for */
#define LIMIT_KAFKA_FREE_FRAMES 64u          /* buffers of large requests, and their bytes, */
#define LIMIT_KAFKA_FREE_FRAME_BYTES (16u << 20) /* kept by a loop while large requests come */
#define LIMIT_KAFKA_FREE_REQUESTS 256u       /* kept by a loop for reuse */
#define LIMIT_SQL_SHARDS 256u                /* servers that one statement asks */
#define LIMIT_SQL_TEXT (1u << 20)            /* bytes of a statement */
#define LIMIT_SQL_PARAMS 65535u              /* of a statement, as PostgreSQL's protocol allows */
#define LIMIT_SQL_PARAM_BYTES (16u << 20)    /* of all parameters of a statement */
#define LIMIT_SQL_FIELDS 1000u               /* JSON fields of a topic that are columns */
#define LIMIT_SQL_FIELD_NAME 255u            /* bytes of the name of such a field */
#define LIMIT_SQL_SOURCE (16u << 20)         /* text that stands for a topic with its files */
#define LIMIT_SQL_LIVE_BATCH (64u << 20)     /* bytes of a live query's groups that change at once */
#define LIMIT_SQL_TOPICS 10000u              /* that one statement mentions */
#define LIMIT_TRANSFORMS 1000u               /* definitions */
#define LIMIT_TRANSFORM_WORKERS 2u           /* threads: steps that run at once */
#define LIMIT_LAKE_COLUMNS 4000u             /* of a topic's table; further fields stay in the value alone */
#define LIMIT_LAKE_GROUPS 256u               /* partitions of a table that one commit writes to */
#define LIMIT_LAKE_RANGES 65536u             /* runs of offsets that one commit takes */
#define LIMIT_LAKE_FLUSH_RECORDS (2u << 20)  /* records of one commit */
#define LIMIT_LAKE_FLUSH_BYTES (48u << 20)   /* and bytes of their batches */
#define LIMIT_TIER_CACHE (64u << 20)         /* bytes of batches made of older records, in memory */
#define LIMIT_TIER_OPEN 24u                  /* passes over older records with files open */
#define LIMIT_TIER_PASSES 1024u              /* and in all */
#define LIMIT_TIER_SEARCHES 256u             /* results of searches in older records, kept */
#define LIMIT_LAKE_TOPICS 10000u             /* topics with lake.enable */
#define LIMIT_STORE_LIST 5000000u            /* files of a local folder that one listing may name */
#define LIMIT_STORE_ANSWER (8u << 20)        /* XML of one answer of an S3 store */
#define LIMIT_STORE_CONNS 16u                /* connections to a store that are kept */
#define LIMIT_LAKE_FIELDS 10000u             /* of a table's schema, nested ones too */
#define LIMIT_LAKE_SPEC_FIELDS 16u           /* by which a table is partitioned or sorted */
#define LIMIT_LAKE_METADATA (256u << 20)     /* bytes of a table's metadata file */
#define LIMIT_LAKE_MANIFEST (256u << 20)     /* bytes of a manifest or manifest list, inflated too */
#define LIMIT_LAKE_MANIFESTS 100000u         /* of a snapshot */
#define LIMIT_LAKE_SNAPSHOTS 100000u         /* that a table's metadata lists */
#define LIMIT_PGWIRE_STARTUP 10000u          /* bytes of PostgreSQL's first message, as PostgreSQL's */
#define LIMIT_PGWIRE_LOGIN (64u << 10)       /* bytes of a message before authentication */
#define LIMIT_PGWIRE_LOGIN_MS 15000u         /* from the first byte to the end of authentication */
#define LIMIT_PGWIRE_MESSAGE (32u << 20)     /* bytes of a message after it */
#define LIMIT_PGWIRE_WAITING (256u << 10)    /* bytes of messages read while a query runs */
#define LIMIT_PGWIRE_STATEMENTS 2000u        /* prepared statements of a connection … */
#define LIMIT_PGWIRE_STATEMENT_BYTES (32u << 20) /* … and their texts together */
#define LIMIT_PGWIRE_PORTALS 100u            /* of a connection */
#define LIMIT_PGWIRE_OUTPUT (1u << 20)       /* bytes not taken by the client: rows wait from there on */
#define LIMIT_PGWIRE_PIECE (32u << 10)       /* bytes of rows passed from a query at once */
#define LIMIT_PGWIRE_AHEAD (1u << 20)        /* bytes of rows that a query is ahead of its client */
#define LIMIT_PGWIRE_PORTAL_AHEAD (16u << 20) /* the same where the client fetches in parts */
#define LIMIT_PGWIRE_ROW (256u << 20)        /* bytes of a row */
#define LIMIT_ROWS_AHEAD (1u << 20)          /* the same of an HTTP answer */
#define LIMIT_ROWS_PIECE (64u << 10)         /* bytes of an HTTP answer passed from a query at once */
#define LIMIT_ROWS_ANSWER_ROW (256u << 20)   /* bytes of a row, and of what a chunk becomes in Arrow */
#define LIMIT_JS_SUBJECTS (64u << 20)        /* subjects with messages of a stream */
#define LIMIT_JS_STREAMS 100000u             /* of all accounts */
#define LIMIT_JS_CONSUMERS 100000u           /* of a stream */
#define LIMIT_JS_READ_THREADS 2u             /* that read files for streams */
#define LIMIT_JS_BLOCKS (1u << 28)           /* entries of a stream's small tables */
#define LIMIT_JS_IDS (4u << 20)              /* in a stream's window of duplicates */
#define LIMIT_JS_SNAPSHOTS 4u                /* backups of a stream that are sent at once */
#define LIMIT_JS_SCHEDULES (1u << 20)         /* scheduled messages of a stream */
#define LIMIT_JS_STREAM_BATCHES 50u          /* atomic batches of a stream that wait for their end */
#define LIMIT_JS_BATCHES 1000u               /* those of all streams */
#define LIMIT_JS_BATCH_BYTES (16u << 20)     /* of one of them */
#define LIMIT_JS_BATCHES_BYTES (256u << 20)  /* of all of them */
#define LIMIT_JS_ACK_PENDING 65536            /* messages that a consumer waits for, whatever it says */
#define LIMIT_JS_REPLIES (16u << 20)         /* bytes of subjects that wait for one settlement */

_Static_assert(LIMIT_STREAMS_KEPT * 2 <= LIMIT_KV_ITEMS && LIMIT_STREAMS_KEPT_BYTES * 2 <= LIMIT_KV_BYTES,
               "topologies leave most of the room to other items");
_Static_assert(LIMIT_MESSAGE_BYTES_DEFAULT < LIMIT_BATCH_BYTES, "a default message fits a batch");
_Static_assert(LIMIT_TOPIC_MESSAGE_BYTES <= LIMIT_APPEND_BYTES, "any topic's batch fits an append");
_Static_assert(LIMIT_APPEND_BYTES < LIMIT_BATCH_BYTES, "an append fits a unit of the journal");

#endif
