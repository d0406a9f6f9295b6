/* Weir as a library: a durable event log inside your program.
 *
 * Everything written is on stable storage before a call or callback says so (unless a topic chooses
 * durability `os`). The library installs no signal handlers, never exits, prints nothing. It starts
 * two threads for each open directory, with the lake five, and one for each producer, emitter, bridge,
 * stream and subscription.
 *
 * Errors are values: functions return a weir_err (WEIR_OK is 0) and fill in *error, which may be
 * NULL, with a sentence for people. Unless said otherwise functions may be called from any thread;
 * a consumer is used by one thread at a time. Times are milliseconds since 1970 UTC. Strings are
 * NUL-terminated UTF-8, data are pointer and length; a NULL data pointer means "absent". What is
 * passed in is copied.
 *
 *     struct weir *w;
 *     weir_open("data", NULL, &w, NULL);
 *     struct weir_record r = {.value = "hello", .value_len = 5};
 *     weir_produce(w, "greetings", &r, NULL, NULL);     // durable when it returns
 *     weir_close(&w);
 */
#ifndef WEIR_H
#define WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WEIR_API __attribute__((visibility("default")))
#else
#define WEIR_API
#endif

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0
/* "0.1.0": of the library in use. */
WEIR_API const char *weir_version(void);

/* ---- errors ---- */

/* Numbers are stable within a major version. weir_err_name gives the text by which every interface
 * of Weir calls the same error, such as "topic_not_found". */
typedef enum weir_err {
    WEIR_OK = 0,
    WEIR_ERR_INVALID = 1,   /* an argument is not valid */
    WEIR_ERR_TOO_LARGE = 2, /* larger than a limit */
    WEIR_ERR_TOPIC_NOT_FOUND = 3,
    WEIR_ERR_TOPIC_EXISTS = 4,
    WEIR_ERR_CONFIG = 5,       /* not a valid configuration */
    WEIR_ERR_OFFSET_RANGE = 6, /* not in the log (any more) */
    WEIR_ERR_NOT_FOUND = 7,
    WEIR_ERR_OVERLOADED = 8, /* too much in flight, or a buffer is full: try again */
    WEIR_ERR_TIMEOUT = 9,
    WEIR_ERR_AGAIN = 10, /* nothing there now */
    WEIR_ERR_CLOSED = 11,
    WEIR_ERR_IO = 12,        /* storage failed */
    WEIR_ERR_NO_SPACE = 13,  /* the disk is full; works again once there is room */
    WEIR_ERR_READ_ONLY = 14, /* opened so, or a write failed earlier: open again */
    WEIR_ERR_CORRUPT = 15,   /* stored data is damaged; see weir_check */
    WEIR_ERR_LOCKED = 16,    /* another process has the directory; the sentence has its pid */
    WEIR_ERR_OTHER = 17,
    WEIR_ERR_CONFLICT = 18 /* in conflict with what is so now, such as a group's other members */
} weir_err;

struct weir_error {
    weir_err code;
    char text[256];
};
WEIR_API const char *weir_err_name(weir_err e);
/* A sentence. */
WEIR_API const char *weir_strerror(weir_err e);

/* ---- opening ---- */

struct weir;

/* Zero-initialise; zero means the default. Set size to sizeof(struct weir_options):
 * options whose size is not set are refused (WEIR_ERR_INVALID), here and everywhere. */
struct weir_options {
    size_t size;
    bool read_only;              /* change nothing */
    bool no_auto_create;         /* producing to a missing topic is an error */
    uint64_t journal_file_bytes; /* 128 MiB */
    uint64_t tail_bytes;         /* recent records kept in memory: 64 MiB */
    uint64_t inflight_bytes;     /* accepted but not durable, at most: 64 MiB */
    int64_t retention_ms;        /* of topics without their own: 7 days; -1 for ever */
    int64_t dedup_window_ms;     /* how long event ids are remembered: 10 minutes */
    /* Topics with lake.enable are tables in the lake, too; and what the local log has given up
     * (local.retention.*) is read from there. Three threads more. Not with read_only. Queries see
     * what is in the lake without it, too. */
    bool lake;
    /* Where: file:///DIR or s3://BUCKET/PREFIX (NULL: the folder lake in the directory), and the
     * tables' namespace ("weir"). Of S3: https://HOST[:PORT] and region; NULL, and keys: from the
     * environment, as AWS's tools take them. Copied. */
    const char *lake_url, *lake_namespace, *lake_s3_endpoint, *lake_s3_region;
};

/* Opens or creates the log in a directory. One open at a time, in all processes. On success *out
 * must be closed. WEIR_ERR_LOCKED, WEIR_ERR_CORRUPT, WEIR_ERR_IO, WEIR_ERR_NO_SPACE. */
WEIR_API weir_err weir_open(const char *dir, const struct weir_options *options, struct weir **out,
                            struct weir_error *error);
/* Ends what is under way, saves a checkpoint, frees, sets *w to NULL. Producers, emitters and
 * consumers must be closed before. */
WEIR_API void weir_close(struct weir **w);

struct weir_stats {
    uint64_t position_end; /* position of the next record */
    uint64_t topics, records_written, bytes_written, frames_written, disk_bytes;
    uint64_t last_sync_ns, longest_sync_ns;
};
WEIR_API void weir_stats_get(struct weir *w, struct weir_stats *out);
/* WEIR_OK, or why writes are refused now. */
WEIR_API weir_err weir_writable(struct weir *w, struct weir_error *error);
/* Saves what is known now, so that the next open has less to replay. */
WEIR_API weir_err weir_checkpoint(struct weir *w, struct weir_error *error);

/* ---- topics ---- */

struct weir_setting {
    const char *name; /* as Kafka names them: "retention.ms", "retention.bytes", … */
    const char *value;
};
/* partitions 0: one. */
WEIR_API weir_err weir_topic_create(struct weir *w, const char *topic, int32_t partitions,
                                    const struct weir_setting *settings, size_t settings_n,
                                    struct weir_error *error);
/* partitions 0: unchanged; never fewer than there are. */
WEIR_API weir_err weir_topic_alter(struct weir *w, const char *topic, int32_t partitions,
                                   const struct weir_setting *settings, size_t settings_n,
                                   struct weir_error *error);
WEIR_API weir_err weir_topic_delete(struct weir *w, const char *topic, struct weir_error *error);

struct weir_topic_info {
    int32_t partitions;
    int64_t created_ms;
    uint64_t records, bytes; /* kept now, over all partitions */
};
WEIR_API weir_err weir_topic_describe(struct weir *w, const char *topic,
                                      struct weir_topic_info *out, struct weir_error *error);
struct weir_partition_info {
    int64_t start_offset, end_offset;
    uint64_t bytes;
};
WEIR_API weir_err weir_partition_describe(struct weir *w, const char *topic, int32_t partition,
                                          struct weir_partition_info *out,
                                          struct weir_error *error);
/* Each topic whose name matches the pattern (* and ?; NULL all), by name; fn returns false to stop.
 */
WEIR_API weir_err weir_topic_list(struct weir *w, const char *pattern,
                                  bool (*fn)(void *arg, const char *topic), void *arg,
                                  struct weir_error *error);
/* Each setting of a topic, with its present value. */
WEIR_API weir_err weir_topic_settings(struct weir *w, const char *topic,
                                      void (*fn)(void *arg, const char *name, const char *value,
                                                 bool is_default),
                                      void *arg, struct weir_error *error);
/* Deletes the records of a partition below offset (-1: all that are there). */
WEIR_API weir_err weir_trim(struct weir *w, const char *topic, int32_t partition, int64_t offset,
                            struct weir_error *error);

/* ---- writing ---- */

struct weir_header {
    const char *name;
    const void *value; /* NULL: null */
    size_t value_len;
};
struct weir_record {
    const void *key; /* NULL: none */
    size_t key_len;
    const void *value; /* NULL: none */
    size_t value_len;
    const struct weir_header *headers;
    size_t headers_n;     /* at most 128 */
    int64_t timestamp_ms; /* 0: now */
    int32_t partition_1;  /* 0: by key; else the partition's number plus one */
    const char *dedup_id; /* not NULL: within the window a record of this topic with this id is
                             written once; later ones get the first one's place */
};
struct weir_place {
    int32_t partition;
    int64_t offset;
    uint64_t position; /* total order over all topics */
    int64_t timestamp_ms;
    bool duplicate;
};

/* Writes one record and waits until it is durable. place may be NULL. */
WEIR_API weir_err weir_produce(struct weir *w, const char *topic, const struct weir_record *record,
                               struct weir_place *place, struct weir_error *error);
/* Writes n records as one atomic unit: after a crash all are there or none. places: n of them, or
 * NULL. */
WEIR_API weir_err weir_produce_batch(struct weir *w, const char *topic,
                                     const struct weir_record *records, size_t n,
                                     struct weir_place *places, struct weir_error *error);

/* A producer gathers records into batches: for throughput. Records of one producer to one partition
 * stay in order. */
struct weir_producer;
struct weir_producer_options {
    size_t size;         /* sizeof(struct weir_producer_options) */
    size_t batch_bytes;  /* a batch is handed over at this size: 256 KiB */
    int64_t linger_us;   /* or after this time: 1000 microseconds; -1: only when full or flushed */
    size_t buffer_bytes; /* gathered and not yet durable, at most: 16 MiB; then sending waits */
    const char *compression; /* none, gzip, snappy, lz4, zstd; NULL: the topic's */
};
WEIR_API weir_err weir_producer_new(struct weir *w, const char *topic,
                                    const struct weir_producer_options *options,
                                    struct weir_producer **out, struct weir_error *error);
/* Called once for each record sent with it, when it is durable or has failed: on a thread of the
 * library, or in weir_producer_send or _flush if a batch could not be handed over; must be quick and
 * must not call the producer. place is NULL on failure. */
typedef void (*weir_delivery_fn)(void *arg, weir_err e, const struct weir_place *place);
/* Takes the record; waits while the buffer is full. fn may be NULL: then weir_producer_flush tells
 * of failures. dedup_id is not supported here (WEIR_ERR_INVALID). One thread at a time for each
 * producer. */
WEIR_API weir_err weir_producer_send(struct weir_producer *p, const struct weir_record *record,
                                     weir_delivery_fn fn, void *arg, struct weir_error *error);
/* Waits until all that was sent is durable; the first failure since the last flush is returned. */
WEIR_API weir_err weir_producer_flush(struct weir_producer *p, struct weir_error *error);
/* Flushes, frees, sets *p to NULL. */
WEIR_API weir_err weir_producer_close(struct weir_producer **p, struct weir_error *error);

/* An emitter takes events and forgets them: fire and forget, yet durable, and nothing is lost
 * silently. */
struct weir_emitter;
struct weir_emitter_options {
    size_t size;               /* sizeof(struct weir_emitter_options) */
    const char *source;        /* namespace: stored as ce_source; NULL: none */
    size_t batch_size;         /* events handed over at once: 1000 */
    int64_t flush_interval_ms; /* or after this time: 10 */
    size_t buffer_events;      /* not yet durable, at most: 100,000; then emit answers OVERLOADED */
    /* Called when events could not be written, on a thread of the library. May be NULL. */
    void (*on_error)(void *arg, weir_err e, const char *text, uint64_t events_lost);
    void *arg;
};
WEIR_API weir_err weir_emitter_new(struct weir *w, const struct weir_emitter_options *options,
                                   struct weir_emitter **out, struct weir_error *error);
/* stream: "topic" or "topic:key"; NULL: the first part of the type made plural ("order.created" ->
 * orders). The payload is stored as it is. Never waits for the disk, except that the first event for
 * a topic that does not exist waits until the topic does. WEIR_ERR_OVERLOADED: the buffer is full,
 * the event was not taken. Events of one thread to one stream stay in order. */
WEIR_API weir_err weir_emit(struct weir_emitter *e, const char *type, const char *stream,
                            const void *payload, size_t payload_len, struct weir_error *error);
struct weir_emitter_stats {
    uint64_t taken, durable, failed, refused;
};
WEIR_API void weir_emitter_stats_get(struct weir_emitter *e, struct weir_emitter_stats *out);
/* Waits until all taken so far is durable or failed; WEIR_OK if none failed since the last flush.
 */
WEIR_API weir_err weir_emitter_flush(struct weir_emitter *e, struct weir_error *error);
WEIR_API weir_err weir_emitter_close(struct weir_emitter **e, struct weir_error *error);

/* ---- reading ---- */

/* A record read. Pointers are valid until the next call on the same consumer (or until the callback
 * returns). */
struct weir_message {
    const char *topic;
    int32_t partition;
    int64_t offset;
    uint64_t position;
    int64_t timestamp_ms;
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
    const struct weir_header *headers;
    size_t headers_n;
};

enum weir_from {
    WEIR_FROM_BEGINNING = 0,
    WEIR_FROM_END = 1,
    WEIR_FROM_OFFSET = 2,   /* needs one topic and a partition */
    WEIR_FROM_TIME = 3,     /* first record at or after at_ms */
    WEIR_FROM_POSITION = 4, /* first record at or after this position */
    WEIR_FROM_GROUP = 5     /* where the group has committed, else the beginning */
};

struct weir_consumer;
struct weir_consumer_options {
    size_t size; /* sizeof(struct weir_consumer_options) */
    enum weir_from from;
    int32_t partition_1; /* 0: all; else the partition's number plus one */
    int64_t offset;
    int64_t at_ms;
    uint64_t position;
    const char *group;      /* for commits and WEIR_FROM_GROUP: 1 to 255 bytes; NULL: none */
    int64_t auto_commit_ms; /* commit what was returned, so often, in weir_consumer_next (also while
                               it waits), and at close; 0: never. Needs a group */
};
/* stream: topic, "topic:key", "topic:*" (records with keys) or a pattern ("orders.*"). Records come
 * in one total order, by position. */
WEIR_API weir_err weir_consumer_new(struct weir *w, const char *stream,
                                    const struct weir_consumer_options *options,
                                    struct weir_consumer **out, struct weir_error *error);
/* The next record, waiting for one up to timeout_ms (0: not at all, -1: for ever). WEIR_ERR_AGAIN:
 * none came, or the next one is being read from the lake and not there yet. WEIR_ERR_OFFSET_RANGE:
 * records were deleted by retention before they were read; the next call goes on with the first that is
 * left. WEIR_ERR_CONFLICT: the next record is in the lake alone, and the log was opened without the
 * option lake. WEIR_ERR_IO: the lake cannot be reached, or storage failed; nothing is passed by: try
 * again later. So it is with members, too, and with what looks for a group's place. */
WEIR_API weir_err weir_consumer_next(struct weir_consumer *c, int64_t timeout_ms,
                                     struct weir_message *out, struct weir_error *error);
/* Remembers durably, for the group, that everything returned so far has been dealt with. */
WEIR_API weir_err weir_consumer_commit(struct weir_consumer *c, struct weir_error *error);
/* Goes to a position (see weir_message). */
WEIR_API weir_err weir_consumer_seek(struct weir_consumer *c, uint64_t position,
                                     struct weir_error *error);
/* Where a new consumer would go on. */
WEIR_API uint64_t weir_consumer_position(const struct weir_consumer *c);
WEIR_API void weir_consumer_close(struct weir_consumer **c);

/* ---- reading as a member of a group ---- */

/* Members of a group share its topics' partitions: each partition has one member at a time. Members
 * that come, go, or stay silent for 45 s make the others take over; Kafka consumers of the new
 * protocol (KIP-848) may be members of the same group. */
struct weir_member;
enum weir_rebalance {
    WEIR_ASSIGNED = 0, /* these are the member's now */
    WEIR_REVOKED = 1,  /* these will be another's: what was returned can be committed still */
    WEIR_LOST = 2      /* these are another's already: the member was away for too long */
};
struct weir_topic_partition {
    const char *topic;
    int32_t partition;
};
struct weir_member_options {
    size_t size;       /* sizeof(struct weir_member_options) */
    const char *group; /* 1 to 255 bytes */
    const char *const *topics;
    size_t topics_n;
    const char *topic_regex; /* and the topics whose whole names match; NULL: none */
    const char *assignor;    /* "uniform" (sticky; NULL), "range", "roundrobin" */
    const char *instance_id; /* a member that comes back under it keeps its partitions; or NULL */
    bool from_end;           /* where the group has not committed: begin at the end */
    int64_t auto_commit_ms;  /* as of struct weir_consumer_options; also when revoked */
    /* Called within weir_member_next and weir_member_close. May commit. May be NULL. */
    void (*on_rebalance)(void *arg, struct weir_member *m, enum weir_rebalance what,
                         const struct weir_topic_partition *partitions, size_t n);
    void *arg;
};
WEIR_API weir_err weir_member_new(struct weir *w, const struct weir_member_options *options,
                                  struct weir_member **out, struct weir_error *error);
/* The next record of the member's partitions, in order within each; waits as weir_consumer_next.
 * Must be called at least every 45 s, or the member loses its partitions. */
WEIR_API weir_err weir_member_next(struct weir_member *m, int64_t timeout_ms,
                                   struct weir_message *out, struct weir_error *error);
/* Remembers durably that everything returned so far has been dealt with. WEIR_ERR_CONFLICT: the
 * member was away for too long, others have its partitions. */
WEIR_API weir_err weir_member_commit(struct weir_member *m, struct weir_error *error);
/* Exactly once: writes n records to topic (NULL: none) and commits everything returned so far as one
 * atomic unit. After a crash both are there or neither. places: n of them, or NULL. */
WEIR_API weir_err weir_member_produce(struct weir_member *m, const char *topic,
                                      const struct weir_record *records, size_t n,
                                      struct weir_place *places, struct weir_error *error);
/* The partitions that the member has, at most max; returns how many there are. */
WEIR_API size_t weir_member_assignment(struct weir_member *m, struct weir_topic_partition *out,
                                       size_t max);
/* Commits if auto_commit_ms is set, leaves the group, frees, sets *m to NULL. */
WEIR_API void weir_member_close(struct weir_member **m);

/* Up to limit records of a stream after a position (0: from the beginning), to fn, which returns
 * false to stop. *position (may be NULL): what to pass next time. Waits for older records that the lake
 * alone has, never for new ones; errors as of weir_consumer_next. */
WEIR_API weir_err weir_read(struct weir *w, const char *stream, uint64_t after, size_t limit,
                            bool (*fn)(void *arg, const struct weir_message *m), void *arg,
                            uint64_t *position, struct weir_error *error);

/* ---- cursors ---- */

/* A cursor gives out the records of a topic one by one: each to one taker at a time, for the time of a
 * lease, until it is acknowledged; what is not comes again. It is a durable consumer of JetStream, when
 * the server runs on the directory and the topic is a stream, and is stored as one; the leases are those
 * of Kafka's share groups. Any number may be open of one cursor: they share its records. All functions
 * may be called by any thread. */
struct weir_cursor;
struct weir_cursor_options {
    size_t size; /* sizeof(struct weir_cursor_options) */
    /* Of a cursor that is made; of one that is there, what is not 0 must be so (WEIR_ERR_CONFLICT). */
    int64_t ack_wait_ms; /* how long a lease lasts: 30 s */
    int32_t max_deliver; /* deliveries of a record, at most: 1 to 32,767; 0: no limit */
    int32_t
        max_ack_pending; /* records of a partition that are out, or done behind one that is: 1000 */
    const char *filter;  /* records with such subjects, as NATS has them (docs/nats.md): "orders.*";
                                 NULL: all */
    const char *dead_letters; /* a topic for copies of what was delivered max_deliver times, or
                                 terminated; made if it is not there. NULL: none */
    /* Only of one that is made: where it begins; WEIR_FROM_BEGINNING, _END, _OFFSET (of a topic with one
     * partition) or _TIME. */
    enum weir_from from;
    int64_t offset;
    int64_t at_ms;
    bool no_create; /* WEIR_ERR_NOT_FOUND, if it is not there */
};
/* name: letters, digits, - and _. The topic is made if it is missing and that is allowed.
 * WEIR_ERR_CONFLICT: also a consumer of that name of which a cursor knows nothing here, such as one that
 * pushes, or a stream that keeps its messages until they are acknowledged (docs/c-api.md). */
WEIR_API weir_err weir_cursor_open(struct weir *w, const char *topic, const char *name,
                                   const struct weir_cursor_options *options,
                                   struct weir_cursor **out, struct weir_error *error);
/* What was taken by it is free again for others, except what was settled. Frees, sets *cursor to NULL. */
WEIR_API void weir_cursor_close(struct weir_cursor **cursor);
/* Forgets it, durably. Those that are open answer WEIR_ERR_NOT_FOUND from now on. */
WEIR_API weir_err weir_cursor_delete(struct weir *w, const char *topic, const char *name,
                                     struct weir_error *error);
/* Each cursor of a topic; fn returns false to stop, and must call nothing of Weir. */
WEIR_API weir_err weir_cursor_list(struct weir *w, const char *topic,
                                   bool (*fn)(void *arg, const char *name), void *arg,
                                   struct weir_error *error);

/* A record that was taken. It may be copied; of the message, partition and offset say which it is. */
struct weir_delivery {
    struct weir_message message;
    uint32_t deliveries; /* with this one */
};
struct weir_batch {
    const struct weir_delivery *v;
    size_t n;
};
/* Takes up to max records (of a few MiB in all), waiting for the first up to timeout_ms (0: not at all,
 * -1: for ever). Those of one partition come in order, except what comes again. WEIR_ERR_AGAIN: none
 * came, or max_ack_pending are out. On success *out is freed by weir_batch_free, before or after its
 * records are settled; messages are valid until then. */
WEIR_API weir_err weir_cursor_fetch(struct weir_cursor *cursor, size_t max, int64_t timeout_ms,
                                    struct weir_batch **out, struct weir_error *error);
WEIR_API void weir_batch_free(struct weir_batch **batch);

/* These settle n deliveries of this cursor, those of one partition all or none, and return when that is
 * durable. WEIR_ERR_CONFLICT: the lease of one of them is over, or it was settled: it comes again, or
 * came to somebody else already. Records that were deleted meanwhile are settled already, without an error. */
/* They are done. */
WEIR_API weir_err weir_cursor_ack(struct weir_cursor *cursor, const struct weir_delivery *d,
                                  size_t n, struct weir_error *error);
/* They are to come again, after delay_ms; a delay does not outlive the program. */
WEIR_API weir_err weir_cursor_nak(struct weir_cursor *cursor, const struct weir_delivery *d,
                                  size_t n, int64_t delay_ms, struct weir_error *error);
/* Their leases begin anew: whoever has them is working. */
WEIR_API weir_err weir_cursor_extend(struct weir_cursor *cursor, const struct weir_delivery *d,
                                     size_t n, struct weir_error *error);
/* They are never to come again: dead letters, if there is a topic for them. */
WEIR_API weir_err weir_cursor_terminate(struct weir_cursor *cursor, const struct weir_delivery *d,
                                        size_t n, struct weir_error *error);

struct weir_cursor_info {
    int64_t ack_wait_ms; /* as of the options */
    int32_t max_deliver, max_ack_pending;
    uint64_t leased; /* records that somebody has */
    uint64_t undone; /* they, and those that are to come again */
};
WEIR_API weir_err weir_cursor_info_get(struct weir_cursor *cursor, struct weir_cursor_info *out,
                                       struct weir_error *error);
/* Below this offset all of the partition is done; at *next (may be NULL) the first that was never
 * delivered. */
WEIR_API weir_err weir_cursor_place(struct weir_cursor *cursor, int32_t partition, int64_t *done,
                                    int64_t *next, struct weir_error *error);

/* ---- key-value ---- */

/* A bucket has the newest values of keys, and some older ones. It is the stream KV_<bucket> of NATS, in
 * the topic of that name: what is put here, NATS clients read when the server runs on the directory, and
 * the other way round. Every change has a revision, which grows over the whole bucket. Any thread; a
 * watch is used by one thread at a time. */
struct weir_kv;
struct weir_kv_options {
    size_t size; /* sizeof(struct weir_kv_options) */
    /* Of a bucket that is made; of one that is there, what is not 0 must be so (WEIR_ERR_CONFLICT). */
    int32_t history;         /* revisions kept of each key: 1 to 64; 0: one */
    int64_t ttl_ms;          /* what is older is gone; at least 100; 0: nothing */
    int64_t value_bytes_max; /* 0: as long as a record may be */
    int64_t bytes_max;       /* of all, with about 50 bytes for each revision; 0: no limit */
    bool no_create;          /* WEIR_ERR_NOT_FOUND, if it is not there */
};
/* bucket: letters, digits, - and _. Opening reads the bucket's log. Several may be open of one bucket.
 * WEIR_ERR_CONFLICT: also a stream of that name that is no bucket, or one with settings that are not
 * known here (docs/c-api.md). */
WEIR_API weir_err weir_kv_open(struct weir *w, const char *bucket,
                               const struct weir_kv_options *options, struct weir_kv **out,
                               struct weir_error *error);
/* Frees, sets *kv to NULL. Watches of it must be closed before, and before weir_close. */
WEIR_API void weir_kv_close(struct weir_kv **kv);

enum weir_kv_op {
    WEIR_KV_PUT = 0,
    WEIR_KV_DELETE = 1,
    WEIR_KV_PURGE = 2,
    WEIR_KV_READY = 3 /* of watches: no value; all that was there at the beginning has come */
};
struct weir_kv_entry {
    const char *key;
    const void *value; /* with a NUL behind it */
    size_t value_len;
    uint64_t revision;
    int64_t timestamp_ms;
    enum weir_kv_op op;
};
WEIR_API void weir_kv_entry_free(struct weir_kv_entry **entry);

/* key: letters, digits, and - / _ = . with no dot at its ends and none next to another; 1024 bytes at
 * most. Each of these is durable when it returns; *revision (may be NULL) is that of the change.
 * WEIR_ERR_TOO_LARGE: the value, or the bucket. */
WEIR_API weir_err weir_kv_put(struct weir_kv *kv, const char *key, const void *value,
                              size_t value_len, uint64_t *revision, struct weir_error *error);
/* Only if the key is not there, or deleted: else WEIR_ERR_CONFLICT. */
WEIR_API weir_err weir_kv_create(struct weir_kv *kv, const char *key, const void *value,
                                 size_t value_len, uint64_t *revision, struct weir_error *error);
/* Only if `last` is the key's newest revision (that of a deletion, too), or 0 and there is none: else
 * WEIR_ERR_CONFLICT. */
WEIR_API weir_err weir_kv_update(struct weir_kv *kv, const char *key, const void *value,
                                 size_t value_len, uint64_t last, uint64_t *revision,
                                 struct weir_error *error);
/* The key has no value any more; older revisions stay as history allows. last: as of weir_kv_update,
 * but 0: whatever it is. */
WEIR_API weir_err weir_kv_delete(struct weir_kv *kv, const char *key, uint64_t last,
                                 uint64_t *revision, struct weir_error *error);
/* And older revisions go. */
WEIR_API weir_err weir_kv_purge(struct weir_kv *kv, const char *key, uint64_t last,
                                uint64_t *revision, struct weir_error *error);

/* The newest value. WEIR_ERR_NOT_FOUND: never there, deleted, or too old. Free *out by
 * weir_kv_entry_free. */
WEIR_API weir_err weir_kv_get(struct weir_kv *kv, const char *key, struct weir_kv_entry **out,
                              struct weir_error *error);
/* A revision that is kept, also one that deleted: see op. */
WEIR_API weir_err weir_kv_get_revision(struct weir_kv *kv, const char *key, uint64_t revision,
                                       struct weir_kv_entry **out, struct weir_error *error);
/* Each key that has a value and matches the pattern, by name; fn returns false to stop. pattern: "*"
 * is what is between two dots, ">" at the end all the rest; NULL: all. */
WEIR_API weir_err weir_kv_keys(struct weir_kv *kv, const char *pattern,
                               bool (*fn)(void *arg, const char *key), void *arg,
                               struct weir_error *error);
/* Each revision of a key that is kept, the oldest first. Entries are valid until fn returns. */
WEIR_API weir_err weir_kv_history(struct weir_kv *kv, const char *key,
                                  bool (*fn)(void *arg, const struct weir_kv_entry *entry),
                                  void *arg, struct weir_error *error);

struct weir_kv_status {
    int64_t history, ttl_ms, value_bytes_max, bytes_max; /* as of the options */
    uint64_t revisions;                                  /* kept, deletions too */
    uint64_t keys;                                       /* with a value */
    uint64_t bytes;
    uint64_t last_revision; /* of any change so far; 0: none */
};
WEIR_API weir_err weir_kv_status_get(struct weir_kv *kv, struct weir_kv_status *out,
                                     struct weir_error *error);

struct weir_kv_watch;
struct weir_kv_watch_options {
    size_t size;       /* sizeof(struct weir_kv_watch_options) */
    bool history;      /* begin with all revisions that are kept, not with the newest of each key */
    bool updates_only; /* begin with none */
    bool no_deletes;   /* only values */
};
/* Gives the keys that match, in order of their revisions, then one WEIR_KV_READY, then each change. */
WEIR_API weir_err weir_kv_watch_new(struct weir_kv *kv, const char *pattern,
                                    const struct weir_kv_watch_options *options,
                                    struct weir_kv_watch **out, struct weir_error *error);
/* The next one, waiting for it up to timeout_ms (0: not at all, -1: for ever); valid until the next call.
 * WEIR_ERR_AGAIN: none came. */
WEIR_API weir_err weir_kv_watch_next(struct weir_kv_watch *watch, int64_t timeout_ms,
                                     struct weir_kv_entry *out, struct weir_error *error);
/* Frees, sets *watch to NULL. */
WEIR_API void weir_kv_watch_close(struct weir_kv_watch **watch);

/* ---- SQL ---- */

/* Topics are tables; fields of their JSON values are columns (docs/sql.md). DuckDB does the work: its
 * library (libduckdb.so) is loaded at the first query, from $WEIR_DUCKDB, next to the program, in
 * ../lib/weir and ../lib beside it, or by the system's loader. */
enum weir_type {
    WEIR_NULL = 0,
    WEIR_BOOL = 1,   /* i */
    WEIR_INT = 2,    /* i; d is near it */
    WEIR_DOUBLE = 3, /* d */
    WEIR_TEXT = 4,   /* data, len: UTF-8; also of all types that have none of their own */
    WEIR_BLOB = 5,   /* data, len */
    WEIR_TIME = 6    /* i: milliseconds since 1970 UTC */
};
/* Of a result every value but NULL has its text in data and len, too (a BLOB: its bytes), with a NUL
 * behind it. */
struct weir_value {
    enum weir_type type;
    int64_t i;
    double d;
    const void *data;
    size_t len;
};
struct weir_shard {
    const char *name;    /* for errors */
    const char *url;     /* "https://host:8787" */
    const char *token;   /* NULL: none */
    const char *ca_file; /* who signs its certificate; NULL: whom this system trusts */
};
struct weir_query_options {
    size_t size;        /* sizeof(struct weir_query_options) */
    int64_t timeout_ms; /* 0: a minute; -1: none */
    uint64_t max_rows;  /* the result is cut there; 0: all */
    /* Servers that answer instead, each with its part of the records; their parts are put together
     * here. One that fails is named by the error. */
    const struct weir_shard *shards;
    size_t shards_n; /* at most 256 */
};
/* A result, read by one thread at a time; weir_result_cancel by any. */
struct weir_result;
/* Asks one statement (SELECT, WITH, DESCRIBE, SHOW, EXPLAIN) with values for $1 …, and waits until its
 * columns are known. On success *out must be closed, before w is. WEIR_ERR_INVALID: what is wrong with
 * the statement; WEIR_ERR_TIMEOUT, WEIR_ERR_OVERLOADED, WEIR_ERR_OTHER (no DuckDB: the sentence says
 * where it was looked for). */
WEIR_API weir_err weir_query(struct weir *w, const char *sql, const struct weir_value *params,
                             size_t params_n, const struct weir_query_options *options,
                             struct weir_result **out, struct weir_error *error);
/* Goes to the next row, waiting for it. WEIR_ERR_AGAIN: there are no more. Values are valid until the
 * next call. Rows are made as they are read: who does not read or close holds a query back. */
WEIR_API weir_err weir_result_next(struct weir_result *r, struct weir_error *error);
WEIR_API size_t weir_result_columns(const struct weir_result *r);
/* Name of a column, and its type as SQL names it: "BIGINT", "VARCHAR", "DECIMAL(18,3)". */
WEIR_API const char *weir_result_name(const struct weir_result *r, size_t column);
WEIR_API const char *weir_result_type(const struct weir_result *r, size_t column);
/* Of the row at hand. */
WEIR_API const struct weir_value *weir_result_value(const struct weir_result *r, size_t column);
/* After the last row: max_rows cut it. */
WEIR_API bool weir_result_truncated(const struct weir_result *r);
/* The query ends soon; weir_result_next says so. */
WEIR_API void weir_result_cancel(struct weir_result *r);
/* Cancels what is left, frees, sets *r to NULL. */
WEIR_API void weir_result_close(struct weir_result **r);

/* ---- the lake ---- */

/* Waits until all that the topic has at the time of the call is committed to its table, or put into
 * its folder of JSON lines. timeout_ms -1: for ever; what is under way goes on after WEIR_ERR_TIMEOUT.
 * WEIR_ERR_CONFLICT: options.lake or the topic's lake.enable is false; else what went wrong: Weir
 * tries again by itself. */
WEIR_API weir_err weir_lake_flush(struct weir *w, const char *topic, int64_t timeout_ms,
                                  struct weir_error *error);
/* Calls fn once with the topic's state in the lake as a JSON object (docs/lake.md). */
WEIR_API weir_err weir_lake_status(struct weir *w, const char *topic,
                                   void (*fn)(void *arg, const char *json, size_t len), void *arg,
                                   struct weir_error *error);

/* Where a bridge's tables and a stream's records go, beside the log. */
enum weir_sink {
    WEIR_SINK_ICEBERG = 0, /* an Iceberg table for each topic; needs options.lake */
    WEIR_SINK_JSONL = 1,   /* a folder of JSON lines for each topic; likewise */
    WEIR_SINK_NONE = 2     /* the log alone */
};
/* What a flush waits for. */
enum weir_level {
    WEIR_DURABLE = 0,  /* all taken so far is on stable storage, or has failed */
    WEIR_COMMITTED = 1 /* and it is in the tables; as WEIR_DURABLE with WEIR_SINK_NONE */
};

/* A bridge takes the changes of tables, such as a database makes them, to a topic and an Iceberg table
 * each. A change becomes a record
 *     {"op":"c","table":"orders","ts_ms":1700000000000,"data":{…}}
 * or, flat, {"__op":"c","__table":"orders","__ts_ms":1700000000000,…}, the row's members behind, each a
 * column of the table then; op as Debezium has it: c insert, u update, d delete. The header ce_type is
 * TABLE.insert, TABLE.update or TABLE.delete. */
enum weir_op { WEIR_OP_INSERT = 0, WEIR_OP_UPDATE = 1, WEIR_OP_DELETE = 2 };
struct weir_change {
    enum weir_op op;
    const char *table;
    const char *data; /* a JSON value */
    size_t data_len;
    int64_t ts_ms;
};
enum weir_verdict {
    WEIR_KEEP = 0, /* as *change is now */
    WEIR_DROP = 1, /* it is counted, no more */
    WEIR_DEAD = 2  /* it goes to the dead-letter topic, with the reason */
};
struct weir_bridge;
struct weir_bridge_options {
    size_t size; /* sizeof(struct weir_bridge_options) */
    enum weir_sink sink;
    const char *prefix;        /* of the topics: prefix + table; NULL: none */
    bool flat;                 /* rows' members beside op and table; data must be objects */
    const char *key;           /* member of data that is the record's key: changes of a row stay in
                                  order, whatever partitions the topic has; NULL: records have no key */
    const char *source;        /* stored as ce_source; NULL: none */
    size_t batch_size;         /* changes handed to the log at once: 1000 */
    int64_t flush_interval_ms; /* or after this time: 10 */
    size_t buffer_changes;     /* not yet durable, at most: 100,000; then emit answers OVERLOADED */
    int64_t commit_bytes;      /* the topics' lake.max.bytes, if not 0 */
    int64_t commit_seconds;    /* their lake.max.seconds, if not 0 */
    /* Looks at each change before it is taken, in weir_bridge_emit, by the same thread: it may change
     * all of *change, whose new texts must live until it is called again by that thread, or until
     * weir_bridge_emit returns. why: a reason for WEIR_DEAD, "" at first. It must not call the bridge.
     * May be NULL. */
    enum weir_verdict (*transform)(void *arg, struct weir_change *change, char why[256]);
    void *transform_arg;
    const char *dead_letter; /* topic of what transform refuses, or makes of it that is no JSON:
                                {"op","table","ts_ms","data","error"}; NULL: prefix + "dead-letter" */
    /* Called when changes could not be written, on a thread of the library. May be NULL. */
    void (*on_error)(void *arg, weir_err e, const char *text, uint64_t changes_lost);
    void *on_error_arg;
};
/* WEIR_ERR_CONFLICT: the sink needs options.lake. */
WEIR_API weir_err weir_bridge_open(struct weir *w, const struct weir_bridge_options *options,
                                   struct weir_bridge **out, struct weir_error *error);
/* Takes a change; data is JSON. Never waits for the disk, except that the first change of a table makes
 * its topic, or sets lake.enable and lake.format of one that is there. Changes of one thread to one
 * table stay in order. Any thread. WEIR_ERR_INVALID: data is no JSON, or table makes no name of a
 * topic; WEIR_ERR_OVERLOADED: the buffer is full; then the change was not taken. */
WEIR_API weir_err weir_bridge_emit(struct weir_bridge *b, enum weir_op op, const char *table,
                                   const char *data, size_t data_len, struct weir_error *error);
/* Waits, at most timeout_ms for the tables (-1: for ever). The first failure since the last flush is
 * returned. */
WEIR_API weir_err weir_bridge_flush(struct weir_bridge *b, enum weir_level level,
                                    int64_t timeout_ms, struct weir_error *error);
struct weir_bridge_stats {
    uint64_t taken;   /* what weir_bridge_emit answered WEIR_OK to */
    uint64_t durable; /* of records, dead letters too */
    uint64_t failed, refused, dropped, dead;
    uint64_t tables;
};
WEIR_API void weir_bridge_stats_get(struct weir_bridge *b, struct weir_bridge_stats *out);
/* Flushes (WEIR_DURABLE; the lake goes on by itself while w is open), frees, sets *b to NULL. */
WEIR_API weir_err weir_bridge_close(struct weir_bridge **b, struct weir_error *error);

/* A unified stream is a topic with all that can be done with it in one place: what is emitted goes to
 * the log at once and to the lake in the background; queries see both, each record once; subscribers get
 * what was, then what comes. */
struct weir_stream;
struct weir_stream_options {
    size_t size; /* sizeof(struct weir_stream_options) */
    enum weir_sink sink;
    int32_t partitions; /* of a topic that is made: 0: one */
    const char *source;
    size_t batch_size; /* as of bridges, and the next ones */
    int64_t flush_interval_ms;
    size_t buffer_events;
    int64_t commit_bytes, commit_seconds;
};
WEIR_API weir_err weir_stream_open(struct weir *w, const char *topic,
                                   const struct weir_stream_options *options,
                                   struct weir_stream **out, struct weir_error *error);
/* As weir_emit; key NULL: none. */
WEIR_API weir_err weir_stream_emit(struct weir_stream *s, const char *type, const char *key,
                                   const void *data, size_t data_len, struct weir_error *error);
/* As weir_bridge_flush. */
WEIR_API weir_err weir_stream_flush(struct weir_stream *s, enum weir_level level,
                                    int64_t timeout_ms, struct weir_error *error);
/* As weir_query: the topic is a table by its name. */
WEIR_API weir_err weir_stream_query(struct weir_stream *s, const char *sql,
                                    const struct weir_value *params, size_t params_n,
                                    const struct weir_query_options *options,
                                    struct weir_result **out, struct weir_error *error);

/* A subscription calls fn on a thread of its own: for each record from where `from` says (its group
 * and partition count, too; NULL: the beginning), and when it has read all, for each that comes. m NULL:
 * an error, of which *e tells; after WEIR_ERR_OFFSET_RANGE (records were deleted before they were read)
 * it goes on with the next that is there, after any other it has ended. fn returns false to end it. */
struct weir_subscription;
typedef bool (*weir_record_fn)(void *arg, const struct weir_message *m, const struct weir_error *e);
WEIR_API weir_err weir_stream_subscribe(struct weir_stream *s,
                                        const struct weir_consumer_options *from, weir_record_fn fn,
                                        void *arg, struct weir_subscription **out,
                                        struct weir_error *error);
/* Ends it: when it returns, fn is not called again. Not within fn. Before the stream is closed. Frees,
 * sets *s to NULL. */
WEIR_API void weir_unsubscribe(struct weir_subscription **s);
/* As weir_bridge_close. */
WEIR_API weir_err weir_stream_close(struct weir_stream **s, struct weir_error *error);

/* ---- looking after a directory ---- */

struct weir_check_result {
    uint64_t files, frames, batches, records, bytes, problems;
};
/* Verifies every byte of a directory that is not open, changing nothing. fn (may be NULL) gets each
 * finding and each step. */
WEIR_API weir_err weir_check(const char *dir, void (*fn)(void *arg, bool problem, const char *text),
                             void *arg, struct weir_check_result *out, struct weir_error *error);
/* Mends a directory that weir_open refuses; see `weir repair`. */
WEIR_API weir_err weir_repair(const char *dir, bool dry_run,
                              void (*fn)(void *arg, bool problem, const char *text), void *arg,
                              struct weir_error *error);

#ifdef __cplusplus
}
#endif

#endif
