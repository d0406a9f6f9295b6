/* Writing flatbuffers (flatbuffers.dev, "Internals"), as much of it as Arrow's messages need: tables,
 * vectors, strings, structs of 8-byte numbers. Everything is written front to back, an object before
 * what it refers to; a reference is filled in when its target is written. Positions count from
 * `base`, which is where alignment counts from, too. Private to src/rows. */
#ifndef WEIR_ROWS_FLAT_H
#define WEIR_ROWS_FLAT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#define FLAT_FIELDS_MAX 8u

struct flat {
    struct buf *out;
    size_t base;
    enum err e; /* the first failure; then nothing more is written */
};

/* A table: where its fields are, 0 for one that is absent. */
struct flat_table {
    size_t at, field[FLAT_FIELDS_MAX];
};

void flat_init(struct flat *f, struct buf *out);
/* Begins a table and fills in the reference at `ref` (0: none). sizes: one letter a field: '0' absent,
 * '1' '2' '4' '8' bytes of a number, 'r' a reference. */
struct flat_table flat_table(struct flat *f, size_t ref, const char *sizes);
void flat_set(struct flat *f, size_t at, uint64_t v, unsigned bytes);
void flat_string(struct flat *f, size_t ref, struct slice s);
/* A vector of n elements of so many bytes each, zero; returns where the first is. */
size_t flat_vector(struct flat *f, size_t ref, size_t n, unsigned bytes);

#endif
