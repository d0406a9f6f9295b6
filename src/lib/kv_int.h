/* What the files of key-value buckets share. Private to src/lib.
 *
 * A bucket is a stream of JetStream as NATS clients make it: the topic KV_<bucket> of one partition, a
 * record for each revision with the key `$KV.<bucket>.<key>`; a revision is the record's offset plus the
 * stream's first sequence. The stream's configuration is an item of the broker that src/proto/nats/js_stream.c
 * reads when the server starts on the directory, and writes when a client makes the bucket.
 *
 * A directory is open in one process only, so the server and the library never have a bucket at once.
 * Within the process a bucket that is open several times is one struct kv_bucket; its lock guards all that
 * is in it but what never changes. The index has, of each key, the revisions that are kept; it follows the
 * log before it is asked. What goes out of it (history, age, purges) goes again when the log is read anew;
 * it is noted as removed (broker/removed.h) too, now and then, so that compaction gives its room back. */
#ifndef WEIR_LIB_KV_INT_H
#define WEIR_LIB_KV_INT_H

#include "base/list.h"
#include "base/map.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "lib/lib_int.h"
#include "lib/scan.h"

/* ---- records in order: kv_scan.c ---- */

struct kv_record {
    struct slice key; /* without its prefix; NULL ptr: not of the bucket */
    struct slice value;
    uint64_t offset;
    int64_t time_ms;
    uint32_t bytes; /* as NATS counts them */
    enum weir_kv_op op;
    bool purges_key, purges_all;
};
/* The next record below `to`, valid until the next call. ERR_AGAIN: there is none. bytes: to read. */
enum err kv_scan_next(struct lib_scan *s, struct slice prefix, int64_t to, size_t bytes,
                      struct kv_record *out, struct errinfo *info);
/* Of a record with such headers. */
uint32_t kv_bytes(size_t key, const struct record_header *h, uint32_t n, size_t value);

/* ---- buckets: kv_bucket.c ---- */

struct kv_conf {
    int64_t history, ttl_ms, value_bytes_max, bytes_max; /* 0 of the last three: no limit */
    int64_t first;                                       /* revision of offset 0 */
};
struct kv_rev {
    uint64_t revision;
    int64_t time_ms;
    uint32_t bytes;
    uint8_t op;
};
struct kv_key {
    struct kv_rev *revs; /* ascending */
    uint32_t n, cap;
    uint32_t users;            /* calls that have it: it stays */
    uint32_t under_way;        /* of them, whose records are not in the index yet */
    uint64_t tickets, serving; /* who writes comes in turn */
    uint32_t len;
    char text[]; /* with a NUL */
};
struct kv_gone { /* removed offsets of a block */
    bool dirty;  /* not as its item says */
    uint8_t bits[512];
};
struct kv_bucket {
    struct list_node link; /* of w->buckets; guarded by w->buckets_lock, as refs and listed */
    uint32_t refs;
    bool listed;
    struct weir *w;
    char *name, *prefix;
    struct topic *t;
    struct partition *p;
    struct kv_conf conf;
    struct io_mutex lock;
    struct io_cond turn;  /* serving or under_way of a key changed */
    struct lib_scan scan; /* the index has what is before it */
    struct map keys;
    struct u64map gone;
    uint64_t live, bytes; /* revisions */
    uint64_t bytes_under_way;
    int64_t written;   /* offset behind the last record written here */
    uint32_t gone_new; /* since noted */
    uint64_t swept;    /* offset at which what is too old was looked for */
};

/* Referenced; made if it is not there. */
enum err kv_bucket_open(struct weir *w, const char *name, const struct weir_kv_options *o,
                        struct kv_bucket **out, struct errinfo *info);
void kv_bucket_close(struct kv_bucket **b);
/* The index as of now. Locked. */
enum err kv_bucket_follow(struct kv_bucket *b, struct errinfo *info);
/* Locked. NULL: there is none. */
struct kv_key *kv_key_find(struct kv_bucket *b, struct slice key);
/* Locked. Made if it is not there; kv_key_leave it. ERR_LIMIT. */
enum err kv_key_enter(struct kv_bucket *b, struct slice key, struct kv_key **out,
                      struct errinfo *info);
void kv_key_leave(struct kv_bucket *b, struct kv_key *k);
/* Locked. Its newest revision, or NULL; what is too old is taken out before. */
const struct kv_rev *kv_key_last(struct kv_bucket *b, struct kv_key *k);
/* Locked. Takes out what is too old, everywhere. */
void kv_bucket_sweep(struct kv_bucket *b);
/* Not locked. Notes what was removed, if that is much, or all. */
void kv_bucket_note(struct kv_bucket *b, bool all);
/* Not locked. Reads one revision, whatever became of it; *out is freed by weir_kv_entry_free.
 * ERR_NOT_FOUND. */
enum err kv_bucket_read(struct kv_bucket *b, uint64_t revision, struct weir_kv_entry **out,
                        struct errinfo *info);
/* Copies. */
struct weir_kv_entry *kv_entry_new(const struct kv_bucket *b, const struct kv_record *r);
enum err kv_pattern_check(const char *pattern, struct errinfo *info);

struct weir_kv {
    struct kv_bucket *b;
};

#endif
