/* Results as an Arrow IPC stream: encapsulated messages of a schema, then of dictionaries and record
 * batches, as arrow.apache.org/docs/format/Columnar.html ("Serialization and Interprocess
 * Communication") and the flatbuffers schemas Schema.fbs and Message.fbs of Apache Arrow 4.0 and
 * later say (metadata version V5), little-endian, without compression. Input is the C data interface
 * (sql/arrow.h). Worker thread, inside the sink's callbacks. */
#ifndef WEIR_ROWS_ARROW_IPC_H
#define WEIR_ROWS_ARROW_IPC_H

#include "base/buf.h"
#include "base/err.h"
#include "sql/arrow.h"

/* Of any schema (a struct of columns) and an array of it: ERR_UNSUPPORTED for layouts that are not
 * written here (views, run-end encoding, slices with an offset). */
enum err arrow_ipc_put_schema(const struct ArrowSchema *s, struct buf *out, struct errinfo *info);
enum err arrow_ipc_put_batch(const struct ArrowSchema *s, const struct ArrowArray *a,
                             struct buf *out, struct errinfo *info);
enum err arrow_ipc_end(struct buf *out);

/* Of a query. */
enum err arrow_ipc_schema(struct sql_query *q, struct buf *out, struct errinfo *info);
enum err arrow_ipc_batch(struct sql_query *q, const struct sql_chunk *c, struct buf *out,
                         struct errinfo *info);

#endif
