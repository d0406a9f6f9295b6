/* What the files of the C library share. Private to src/lib. */
#ifndef WEIR_LIB_INT_H
#define WEIR_LIB_INT_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "broker/broker.h"
#include "io/thread.h"
#include "weir.h"

struct weir {
    struct broker *b;
    struct io_mutex tick_lock;    /* one member at a time runs what is due in the groups */
    struct io_mutex sql_lock;     /* guards sql */
    struct sql *sql;              /* NULL until the first query, or until the lake is opened */
    struct lib_lake *lake;        /* NULL: without */
    struct lib_lake *look;        /* without: for queries alone */
    struct io_mutex buckets_lock; /* guards buckets; cursors are made under it */
    struct list_head buckets;     /* key-value buckets that are open: kv_bucket.c */
    size_t gather_bytes_max; /* of records gathered into one unit: surely fits a journal file */
};

/* The public code of an error, and *out filled in (may be NULL) from info, or from e alone. */
weir_err lib_fail(enum err e, const struct errinfo *info, struct weir_error *out);
weir_err lib_code(enum err e);
/* Copies options of a caller, whose struct may be shorter (an older program) or longer than ours;
 * NULL leaves *to as it is. ERR_INVALID if its first member, the size, was not set: then nothing
 * of what the caller wants would be seen. */
enum err lib_options(void *to, size_t to_size, const void *from, struct errinfo *info);
/* The topic, made if it is missing and that is allowed; referenced. */
enum err lib_topic(struct weir *w, struct slice name, struct topic **out, struct errinfo *info);
/* Makes a topic, and waits for one that another thread is making. conf NULL: the defaults. */
enum err lib_topic_create(struct weir *w, struct slice name, int32_t partitions,
                          const struct topic_conf *conf, struct errinfo *info);
/* weir_emit, its stream taken apart. type and topic are right. */
enum err lib_emit(struct weir_emitter *em, const char *type, struct slice topic, struct slice key,
                  struct slice payload, struct errinfo *info);

/* Monotonic, as groups and cursors count. */
int64_t lib_now_ms(void);
/* Letters, digits, - and _; 1 to max. */
bool lib_name_valid(const char *s, size_t max);

/* ---- what the server's JetStream knows of the directory ---- */

#define LIB_ACCOUNT "$G" /* of those who do not say */
#define LIB_STREAM_NS \
    "js.stream" /* items, as src/proto/nats/js_stream.h: the account, NUL, the stream */
/* The key of a stream's item, at most LIMIT_KV_KEY; its length. */
size_t lib_stream_key(const char *stream, char *out);

/* ---- the lake: lake.c ---- */

/* Opens sql with it, if the options say so. */
enum err lib_lake_open(struct weir *w, const struct weir_options *o, struct errinfo *info);
/* Without the option: opens sql with what lies in the lake, for queries alone. */
enum err lib_lake_look(struct weir *w, struct errinfo *info);
/* Before sql is closed. */
void lib_lake_close(struct weir *w);
/* How topics go to the lake. */
struct lib_sink {
    enum weir_sink sink;
    int32_t partitions; /* of a topic that is made; 0: one */
    int64_t commit_bytes, commit_seconds;
};
/* Whether that can be with this log: ERR_CONFLICT, ERR_INVALID. */
enum err lib_sink_check(struct weir *w, const struct lib_sink *s, struct errinfo *info);
/* The topic is there, with such settings. */
enum err lib_sink_topic(struct weir *w, const struct lib_sink *s, struct slice topic,
                        struct errinfo *info);
/* Waits until what the topics have now is in the lake; timeout_ms for all of them. */
enum err lib_lake_flush(struct weir *w, const char *const *topics, size_t n, int64_t timeout_ms,
                        struct errinfo *info);

/* ---- older records, which the lake alone has: lake.c ---- */

struct plog_read;
/* Waits until something was committed since broker_commits was `seen`, which is also said when older
 * records have come; at most so long. */
void lib_wait(struct weir *w, uint64_t seen, uint64_t timeout_ms);
/* lib_fail of what reads: without the lake it names the option that is missing. */
weir_err lib_read_fail(struct weir *w, enum err e, const struct errinfo *info,
                       struct weir_error *out);

/* Fills in a broker record; h has room for LIB_HEADERS_MAX. ERR_INVALID for null pointers with a
 * length, ERR_PARTITION_NOT_FOUND for a negative partition. */
struct record_header;
enum err lib_record(const struct weir_record *r, struct record_header *h, struct append_record *out,
                    struct errinfo *info);
/* Encodes n records into the append; slots has room for n. */
enum err lib_encode_all(struct append *a, struct topic *t, const struct weir_record *r, size_t n,
                        struct append_slot *slots, struct errinfo *info);
void lib_place_out(struct weir_place *out, const struct append_place *p);
/* Memory of the message that was returned last. */
struct lib_message {
    struct weir_header *headers;
    unsigned headers_cap;
    struct buf names; /* of the headers */
};
void lib_message_init(struct lib_message *b);
void lib_message_fini(struct lib_message *b);
void lib_message_out(struct lib_message *b, const struct reader_record *r, struct weir_message *m);
#define LIB_HEADERS_MAX 128u /* of a record written; any number that was stored is read */

#endif
