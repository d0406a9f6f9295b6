/* Wires the lake: its settings, and Parquet by DuckDB (src/sql), so that neither the lake nor sql
 * knows the other. */
#ifndef WEIR_SERVER_LAKE_H
#define WEIR_SERVER_LAKE_H

#include "base/err.h"
#include "server/config.h"

struct broker;
struct lake;
struct log;
struct sql;
struct server_lake;

/* sql outlives it. Quick: neither library nor store is touched before a topic is in the lake. */
enum err server_lake_open(const struct config *c, struct broker *b, struct sql *sql,
                          const struct log *log, struct server_lake **out, struct errinfo *info);
void server_lake_close(struct server_lake **l);
struct lake *server_lake_get(struct server_lake *l);

#endif
