/* What the files of cursors share. Private to src/lib.
 *
 * A cursor is a consumer of JetStream, as src/proto/nats/js_consumer.c has it: a cursor of the broker for
 * each partition, of the group `$JS.$G.<name>`, and an item with its configuration. The item is there for
 * topics that are no streams, too, so that it is found by its name, and by JetStream when the topic becomes
 * one. A directory is open in one process only, so the server and the library never have it at once.
 *
 * Each weir_cursor is an owner of its own to the broker: what one has taken another does not settle. */
#ifndef WEIR_LIB_CURSOR_INT_H
#define WEIR_LIB_CURSOR_INT_H

#include "broker/cursor.h"
#include "lib/lib_int.h"

struct cursor_part {
    struct partition *p;
    struct cursor *c; /* referenced */
};

struct weir_cursor {
    struct weir *w;
    struct topic *t; /* referenced */
    char *group, *filter, *dead_letters;
    char owner[24];
    struct cursor_conf conf;
    int64_t pause_until_ms; /* wall clock */
    /* of the stream, if the topic is one */
    bool stream, any; /* any: keys that are subjects are the subjects of their records */
    char **taken;     /* or those that one of these takes */
    unsigned taken_n;
    uint64_t first; /* sequence of offset 0 */
    struct io_mutex lock;
    /* lock */
    struct cursor_part *parts;
    int32_t parts_n;
    uint32_t turn; /* the partition that is looked at first */
};

/* What waits for the broker. */
struct lib_done {
    struct io_event event;
    enum err e;
    struct errinfo info;
};
void lib_done_init(struct lib_done *d);
void lib_done_call(void *arg, enum err e, const struct errinfo *info); /* a broker_done_fn */
/* e: of the call that was given it; if that is an error, nothing comes. Ends d. */
enum err lib_done_wait(struct lib_done *d, enum err e, struct errinfo *info);

/* Partitions that came since are taken in, and *out is the i-th, its cursor referenced; ERR_AGAIN: there
 * are no more. */
enum err lib_cursor_part(struct weir_cursor *c, int32_t i, struct cursor_part *out,
                         struct errinfo *info);

#endif
