/* What the background worker is made of. Private to src/journal. */
#ifndef WEIR_JOURNAL_SEALER_H
#define WEIR_JOURNAL_SEALER_H

#include "journal/journal_int.h"

/* Index and extents for a FULL file. Background thread or recovery. */
enum err seal_file(struct journal *j, struct jfile *f, struct errinfo *info);
/* One rewriting of neighbouring, mostly dead files into a segment; false if none is worth it. */
bool rewrite_step(struct journal *j);
enum err stamp_append(struct journal *j);

#endif
