/* Results as bytes, in the forms that HTTP and the command line give: JSON, NDJSON, CSV and an Arrow
 * IPC stream. A form is written piece by piece: begin, rows for each chunk, end. One thread at a
 * time: the query's worker.
 *
 *   JSON    {"columns":[{"name":…,"type":…}],"rows":[[…]],"row_count":N,"truncated":false}
 *           an error behind the first byte ends it as …],"error":{…}}
 *   NDJSON  {"name":value,…} a line; an error as a last line {"error":{…}}
 *   CSV     RFC 4180 with a line of names; NULL is an empty field, an empty text ""
 *   Arrow   schema, record batches, end of stream (arrow.apache.org/docs/format/Columnar.html) */
#ifndef WEIR_ROWS_FORM_H
#define WEIR_ROWS_FORM_H

#include "base/buf.h"
#include "sql/sql.h"

enum rows_form { ROWS_JSON, ROWS_NDJSON, ROWS_CSV, ROWS_ARROW, ROWS_FORMS };
/* "json" …; NULL behind the last. */
const char *rows_form_name(enum rows_form f);
const char *rows_form_media(enum rows_form f);

struct rows_writer {
    enum rows_form form;
    uint64_t rows;
    struct buf keys; /* NDJSON: each column's `"name":` with a NUL behind it */
    bool begun;
};
void rows_writer_init(struct rows_writer *w, enum rows_form f);
void rows_writer_fini(struct rows_writer *w);
enum err rows_begin(struct rows_writer *w, struct sql_query *q, const struct sql_columns *columns,
                    struct buf *out, struct errinfo *info);
/* ERR_TOO_LARGE: a row does not fit into what out may hold. */
enum err rows_chunk(struct rows_writer *w, struct sql_query *q, const struct sql_chunk *chunk,
                    struct buf *out, struct errinfo *info);
/* Rows from..to of a chunk, not of Arrow's form. */
enum err rows_some(struct rows_writer *w, const struct sql_chunk *chunk, uint32_t from, uint32_t to,
                   struct buf *out);
/* error NULL: all went well. Nothing is added if begin was not called. */
enum err rows_end(struct rows_writer *w, const struct sql_error *error,
                  const struct sql_stats *stats, struct buf *out);
/* A field of CSV that is not NULL, quoted where it must be. */
enum err rows_csv_field(struct slice s, struct buf *out);
/* {"code":…,"sqlstate":…,"message":…,"position":…,"hint":…} */
enum err rows_error_json(const struct sql_error *e, struct buf *out);

#endif
