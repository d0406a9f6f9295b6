/* Joins the lake and SQL, neither of which knows the other: Parquet files by DuckDB for the lake, the
 * lake's tables for queries. Used by the server and by the C library.
 *
 *   tables_new -> sql_open with tables_cold and tables_dirs -> tables_open -> … -> tables_close -> sql_close
 *
 * Threads: opened and closed by one; what is given to sql and lake is called by their threads. */
#ifndef WEIR_TABLE_TABLE_H
#define WEIR_TABLE_TABLE_H

#include "base/err.h"
#include "lake/lake.h"

struct sql;
struct sql_cold;
struct tables;

/* data_dir: of the log, which is there. url: of the store; NULL or "": the folder lake in data_dir. */
enum err tables_new(const char *data_dir, const char *url, struct tables **out,
                    struct errinfo *info);
/* What sql is opened with: the functions, and the folders of files that it must be able to read. */
const struct sql_cold *tables_cold(struct tables *t);
const char *const *tables_dirs(struct tables *t, unsigned *n);
/* As it was given, or made up. Lives as long as t. */
const char *tables_url(const struct tables *t);
/* Opens the lake; dir, store.url and parquet of conf are filled in here. memory_bytes: for writing
 * Parquet. sql outlives t. Quick: neither library nor store is touched before a topic is in the lake.
 */
enum err tables_open(struct tables *t, const struct lake_conf *conf, uint64_t memory_bytes,
                     struct sql *sql, struct errinfo *info);
/* Queries have ended; *t may be NULL. */
void tables_close(struct tables **t);
/* NULL before tables_open. */
struct lake *tables_lake(struct tables *t);

#endif
