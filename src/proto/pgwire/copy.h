/* COPY … TO STDOUT (PostgreSQL documentation, "COPY"): the statement, and rows as CopyData in its text,
 * CSV and binary formats. No state but what the caller holds; any thread. */
#ifndef WEIR_PROTO_PGWIRE_COPY_H
#define WEIR_PROTO_PGWIRE_COPY_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "sql/sql.h"

#define COPY_NULL_MAX 64u

enum copy_form { COPY_TEXT, COPY_CSV, COPY_BINARY };

struct copy {
    enum copy_form form;
    bool header;
    char delimiter, quote, escape;
    char null[COPY_NULL_MAX]; /* what stands for NULL */
};

bool copy_is(struct slice sql);
/* The statement taken apart; its query is appended to *query. *moved: positions in it are not those
 * of sql. ERR_INVALID with a sentence: a wrong statement; ERR_UNSUPPORTED: another COPY than this;
 * ERR_TOO_LARGE. */
enum err copy_parse(struct slice sql, struct copy *c, struct buf *query, bool *moved,
                    struct errinfo *info);
/* CopyOutResponse and what comes before the first row, appended. */
enum err copy_head(const struct copy *c, const struct sql_columns *columns, struct buf *out);
/* A row as one CopyData, appended; first: of the result. tmp is for its use, empty before and after.
 * ERR_TOO_LARGE. */
enum err copy_row(const struct copy *c, const struct sql_chunk *rows, uint32_t row, bool first,
                  struct buf *tmp, struct buf *out);
/* What comes behind the last row, with CopyDone; none: there was no row. */
void copy_end(enum copy_form form, bool none, struct buf *out);

#endif
