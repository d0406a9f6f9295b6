/* When topics are compacted. The work itself is the journal's: journal/compact.h. */
#ifndef WEIR_BROKER_COMPACTION_H
#define WEIR_BROKER_COMPACTION_H

#include <stdint.h>

struct broker;

/* Background thread, about once a second: begins a compaction if something is worth it and none is
 * under way. */
void compaction_tick(struct broker *b, int64_t wall_ms);

#endif
