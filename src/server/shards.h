/* The file sql.shards: other servers that queries may ask, a line each: NAME URL [TOKEN [CA-FILE]];
 * a # begins a comment. Threads: none of its own. */
#ifndef WEIR_SERVER_SHARDS_H
#define WEIR_SERVER_SHARDS_H

#include "sql/sql.h"

/* *out: the caller's, shards_list_free. An empty path is an empty list. ERR_CONFIG names the line. */
enum err shards_list_read(const char *path, struct sql_shard **out, unsigned *n,
                          struct errinfo *info);
void shards_list_free(struct sql_shard **list, unsigned n);

#endif
