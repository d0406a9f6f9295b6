/* Working straight on a data directory. */
#ifndef WEIR_CLI_LOCAL_H
#define WEIR_CLI_LOCAL_H

#include <jansson.h>

#include "cli/cli.h"

struct broker;

/* Opens --data; NULL after saying why not. */
struct broker *local_open(const struct args *a, bool read_only);

/* Opens --data, writes the event of `weir emit`, prints its place. */
int local_emit(const struct args *a, struct slice data);
/* Every event of a->pos[0] as a JSON line (without newline), as --after, --from and --type say. */
int local_read(const struct args *a, bool (*fn)(void *arg, struct slice line), void *arg);
/* The tokens of --data: what the server would answer to the same (for json_decref); NULL after
 * saying why not. body: JSON, as POST /tokens takes it. */
json_t *local_tokens(const struct args *a);
json_t *local_token_create(const struct args *a, const char *body);
json_t *local_token_revoke(const struct args *a, const char *id);

#endif
