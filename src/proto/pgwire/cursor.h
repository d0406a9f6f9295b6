/* The statements DECLARE, FETCH and MOVE (PostgreSQL documentation, "DECLARE", "FETCH"), taken apart.
 * What they do is in cursor.c; CLOSE is session.h's. No state; any thread. */
#ifndef WEIR_PROTO_PGWIRE_CURSOR_H
#define WEIR_PROTO_PGWIRE_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define CURSOR_NAME_MAX 256u

enum cursor_what { CURSOR_NONE, CURSOR_DECLARE, CURSOR_FETCH, CURSOR_MOVE };

struct cursor_stmt {
    enum cursor_what what;
    const char *code, *message; /* SQLSTATE and sentence of what is wrong; NULL: nothing */
    char name[CURSOR_NAME_MAX];
    bool hold, binary;  /* DECLARE */
    struct slice query; /* DECLARE: the end of the statement */
    uint32_t rows;      /* FETCH, MOVE; 0: all */
};

/* CURSOR_NONE: it is another statement. */
void cursor_parse(struct slice sql, struct cursor_stmt *out);

#endif
