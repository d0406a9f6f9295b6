/* What POST /sql is asked: {"query", "params", "timeout_ms", "max_rows", "shards"} as JSON, or a statement as
 * text. Any thread. */
#ifndef WEIR_PROTO_HTTP_SQL_REQUEST_H
#define WEIR_PROTO_HTTP_SQL_REQUEST_H

#include "base/buf.h"
#include "base/tbl/limits.h"
#include "sql/sql.h"

struct sql_asked {
    struct slice text; /* one statement, without a semicolon behind it */
    struct sql_param *params;
    unsigned params_n;
    int64_t timeout_ms;                  /* 0: the server's */
    uint64_t rows_max;                   /* 0: all */
    const char *shard[LIMIT_SQL_SHARDS]; /* their names; borrowed from json */
    unsigned shards_n;
    void *json; /* what text and params lie in */
    struct buf rewritten;
};

/* Fills *out, to be ended by sql_asked_fini whatever is returned. text and params borrow from body.
 * params: a list for $1 …, or an object for $name …. ERR_INVALID, ERR_CORRUPT_INPUT. */
enum err sql_asked_parse(struct sql_asked *out, struct slice content_type, struct slice body,
                         struct errinfo *info);
void sql_asked_fini(struct sql_asked *a);

/* RFC 9457, with what else is known of the error; appended, or nothing if it does not fit. */
void sql_problem(const struct sql_error *x, struct buf *out);

#endif
