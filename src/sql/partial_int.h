/* What partial.c asks of duckdb_partial.c. */
#ifndef WEIR_SQL_PARTIAL_INT_H
#define WEIR_SQL_PARTIAL_INT_H

#include "sql/partial.h"

/* A statement's tree, as json_deserialize_sql reads it, as text; appended to out. */
typedef enum err (*partial_text_fn)(void *arg, struct slice tree, struct buf *out,
                                    struct errinfo *info);
/* Splits the statement of this tree (of json_serialize_sql). */
enum err partial_split(struct slice tree, const struct sql_request *rq, partial_text_fn text,
                       void *arg, struct partial *out, struct errinfo *info);

#endif
