/* weir sql: what its files share. One thread, but where said. */
#ifndef WEIR_CLI_SQL_H
#define WEIR_CLI_SQL_H

#include <signal.h>

#include "cli/cli.h"
#include "rows/form.h"

/* Set by SIGINT: the query at hand is cancelled, or the line thrown away. */
extern volatile sig_atomic_t sql_interrupted;

struct sql_failure {
    char message[1024], hint[512];
    uint32_t position; /* character of the statement, from 1; 0: not known */
    long status;       /* of HTTP; 0: there was no answer */
};

/* ---- where queries are asked (sql_source.c) ---- */

struct sql_source;
/* --data in this process, else the server. NULL: said why. */
struct sql_source *sql_source_open(const struct args *a);
void sql_source_close(struct sql_source **s);
/* Runs one statement; fn gets the answer's bytes as they come, on any thread, and answers false to
 * stop. False: *failure says why. */
bool sql_source_run(struct sql_source *s, struct slice statement, enum rows_form form,
                    bool (*fn)(void *arg, struct slice piece), void *arg,
                    struct sql_failure *failure);
/* Asks a server's live query at path until the answer ends or fn returns false; last_id: what was had,
 * or "". True: the answer ended whole, which says nothing of the query. */
bool sql_source_live(struct sql_source *s, const char *path, const char *last_id,
                     struct slice statement, bool (*fn)(void *arg, struct slice piece), void *arg,
                     struct sql_failure *failure);
const char *sql_source_name(const struct sql_source *s);

/* ---- live queries (sql_follow.c) ---- */

struct sql_follow {
    enum rows_form
        form;         /* ROWS_CSV, ROWS_NDJSON; ROWS_FORMS: lines with columns under one another */
    const char *from; /* beginning, latest, an event's id, a time; NULL: latest */
    int64_t keep_ms;  /* 0: all windows */
    uint64_t limit;   /* rows; 0: no end */
};
/* Prints rows to standard output as they come; goes on where it was when the server comes back. Until
 * Ctrl-C, the limit, or the query's own LIMIT: true. False: *failure says why. */
bool sql_follow_run(struct sql_source *s, struct slice statement, const struct sql_follow *how,
                    struct sql_failure *failure);

/* ---- tables (sql_table.c) ---- */

/* Prints an answer in the JSON form (see rows/form.h) as a table at most `width` columns wide, 0: as
 * wide as it is. False: the text is no such answer; failure is set if it ends with an error. */
bool sql_table_print(struct slice json, unsigned width, FILE *out, struct sql_failure *failure);

#endif
