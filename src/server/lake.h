/* Wires the lake: the server's settings for what src/table joins. */
#ifndef WEIR_SERVER_LAKE_H
#define WEIR_SERVER_LAKE_H

#include "base/err.h"
#include "server/config.h"

struct broker;
struct lake;
struct log;
struct sql;
struct sql_cold;
struct server_lake;
struct store_conf;

/* Before sql is opened, which asks the lake for tables: its functions, and the folders of their
 * files. */
enum err server_lake_new(const struct config *c, struct server_lake **out, struct errinfo *info);
const struct sql_cold *server_lake_cold(struct server_lake *l);
const char *const *server_lake_dirs(struct server_lake *l, unsigned *n);
/* Then; sql outlives it. Quick: neither library nor store is touched before a topic is in the lake.
 * read_only: for queries alone. */
enum err server_lake_open(struct server_lake *l, const struct config *c, struct broker *b,
                          struct sql *sql, bool read_only, const struct log *log,
                          struct errinfo *info);
/* Topics that are in the lake, whose log has lost records, and whose table cannot be read. */
void server_lake_missing(struct server_lake *l, struct broker *b,
                         void (*fn)(void *arg, const char *topic, const char *why), void *arg);
/* Queries have ended; *l may be NULL. */
void server_lake_close(struct server_lake **l);
struct lake *server_lake_get(struct server_lake *l);
/* Where the tables lie, as long as l; NULL: in another catalog. */
const struct store_conf *server_lake_store(const struct server_lake *l);

#endif
