/* Trees of statements that DuckDB has run, by their text: programs and dashboards ask the same again, and
 * to have a statement parsed into its tree takes as long as to plan it. A tree is made from the text
 * alone, so what is kept is never out of date.
 *
 * Only statements that DuckDB took for one SELECT, and ran, are put: so whoever finds one here knows
 * that it is one.
 *
 * Private to src/sql. Any thread. */
#ifndef WEIR_SQL_TREES_H
#define WEIR_SQL_TREES_H

#include "base/buf.h"
#include "sql/sql_int.h"

#define TREES_MAX        256u
#define TREES_BYTES      (2u << 20) /* of all texts and trees */
#define TREES_BYTES_EACH (64u << 10)

void trees_init(struct trees *t, const uint8_t seed[16]);
void trees_fini(struct trees *t);
/* Appends the text's tree to out. false: it is not known. */
bool trees_get(struct trees *t, struct slice text, struct buf *out);
/* Keeps copies, unless they are too large. What is kept is forgotten when there is no more room. */
void trees_put(struct trees *t, struct slice text, struct slice tree);

#endif
