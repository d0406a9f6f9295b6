/* Backups of streams as nats-server writes them since 2.15: entries of an archive ("NATSARC1"), in
 * the framing of S2. What is written is not compressed, which the framing allows; what is read may
 * be. Sources: github.com/google/snappy, framing_format.txt; klauspost/compress, s2; nats-server,
 * server/archive. One thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_ARCHIVE_H
#define WEIR_PROTO_NATS_JS_ARCHIVE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#define JARCHIVE_NAME_MAX  (64u << 10)
#define JARCHIVE_ENTRY_MAX (65u << 20) /* of an entry's headers and payload together */

struct jarchive_entry {
    struct slice name; /* a message's subject */
    int64_t time_ns;
    uint64_t seq; /* 0: it is no message */
    struct slice headers, payload;
};

/* Appends what begins an archive, an entry. */
void jarchive_begin(struct buf *raw);
void jarchive_put(struct buf *raw, const struct jarchive_entry *e);
/* Appends the frames of raw; first: what they begin with, too. */
void jarchive_frame(struct slice raw, bool first, struct buf *out);

struct jarchive {
    struct buf frames, raw; /* that were not looked at, or not all of */
    size_t frames_at, raw_at;
    bool framed, begun;
};
void jarchive_init(struct jarchive *a);
void jarchive_fini(struct jarchive *a);
/* Bytes that come. ERR_TOO_LARGE: more than max wait. */
enum err jarchive_feed(struct jarchive *a, struct slice s, size_t max);
/* The next entry: it is valid until the next call. ERR_AGAIN: more is to come. ERR_CORRUPT_INPUT,
 * ERR_UNSUPPORTED (it is an archive of files, as older servers write), ERR_TOO_LARGE. */
enum err jarchive_next(struct jarchive *a, struct jarchive_entry *e);

#endif
