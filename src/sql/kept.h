/* What is kept of statements that DuckDB has run, by text, for programs and dashboards ask the same again:
 *
 *   shapes  those of look-ups (point.h), which are then answered without DuckDB; no value
 *   trees   of SELECTs, as parsing one takes as long as planning it. A tree is made from the text
 *           alone, so what is kept is never out of date.
 *
 * Only of statements that DuckDB took, and ran: so whoever finds one here knows that it is good.
 *
 * Private to src/sql. Any thread. */
#ifndef WEIR_SQL_KEPT_H
#define WEIR_SQL_KEPT_H

#include "base/buf.h"
#include "base/map.h"
#include "io/thread.h"

struct kept_limits {
    uint32_t entries;
    size_t bytes, bytes_each; /* of keys and values */
};

struct kept {
    struct kept_limits limits;
    struct io_mutex lock;
    struct map map;
    size_t bytes;
};

extern const struct kept_limits kept_shapes, kept_trees;

void kept_init(struct kept *k, const struct kept_limits *limits, const uint8_t seed[16]);
void kept_fini(struct kept *k);
/* Appends the key's value to out, if there is an out. false: it is not known. */
bool kept_get(struct kept *k, struct slice key, struct buf *out);
/* Keeps copies, unless they are too large. What is kept is forgotten when there is no more room. */
void kept_put(struct kept *k, struct slice key, struct slice value);

#endif
