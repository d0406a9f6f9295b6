/* What a consumer delivered and still waits for: by sequence in the stream, with the consumer's own
 * number of the delivery. Entries come at the end, nearly always; those that are done leave when all
 * before them are, or when they are more than those that are not. One thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_WINDOW_H
#define WEIR_PROTO_NATS_JS_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct jgiven {
    uint64_t seq, dseq;
    int64_t at_ns;       /* of the last delivery */
    uint32_t deliveries; /* 0: it is done */
};

struct jwindow {
    struct jgiven *v;
    uint32_t head, end, cap; /* v[head] … v[end - 1] */
    uint32_t open;           /* not done */
    uint32_t again;          /* of those, delivered more than once */
};

void jwindow_init(struct jwindow *w);
void jwindow_fini(struct jwindow *w);
/* NULL: it is not there, or done. Valid until the next call that changes w. */
struct jgiven *jwindow_find(const struct jwindow *w, uint64_t seq);
/* The first that is not done, from seq on; NULL: none. */
struct jgiven *jwindow_from(const struct jwindow *w, uint64_t seq);
/* It is delivered (again): dseq is that of its first time. The entry. */
struct jgiven *jwindow_put(struct jwindow *w, uint64_t seq, uint64_t dseq, uint32_t deliveries,
                           int64_t at_ns);
void jwindow_done(struct jwindow *w, struct jgiven *g);

#endif
