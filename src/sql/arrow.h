/* The Arrow C data interface, as its specification lays the two structs out
 * (arrow.apache.org/docs/format/CDataInterface.html), and chunks of a result in it. Buffers are
 * private copies: release() frees them. Worker thread, inside the sink's callbacks. */
#ifndef WEIR_SQL_ARROW_H
#define WEIR_SQL_ARROW_H

#include <stdint.h>

#include "base/err.h"
#include "sql/value.h"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE           2
#define ARROW_FLAG_MAP_KEYS_SORTED    4
struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};
struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};
#endif

struct sql_query;
/* The result's schema (a struct of its columns) and a chunk as a struct array of it. The caller
 * calls out->release. Only inside the callbacks of q's sink. */
enum err sql_columns_arrow(struct sql_query *q, struct ArrowSchema *out, struct errinfo *info);
enum err sql_chunk_arrow(struct sql_query *q, const struct sql_chunk *c, struct ArrowArray *out,
                         struct errinfo *info);

#endif
