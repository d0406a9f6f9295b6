/* Working straight on a data directory. */
#ifndef WEIR_CLI_LOCAL_H
#define WEIR_CLI_LOCAL_H

#include "cli/cli.h"

/* Opens --data, writes the event of `weir emit`, prints its place. */
int local_emit(const struct args *a, struct slice data);
/* Every event of a->pos[0] as a JSON line (without newline), as --after, --from and --type say. */
int local_read(const struct args *a, bool (*fn)(void *arg, struct slice line), void *arg);

#endif
