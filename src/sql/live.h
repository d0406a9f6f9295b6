/* Live queries: a SELECT over one topic that goes on: first over what is there from a position on,
 * then over what comes. Nothing runs between: the asker says when to take the next step, and a step
 * is one query over a range of positions, on a worker like any other. A live query that nobody steps
 * costs nothing but its memory: a position, and the groups where it groups.
 *
 *   sql_live_new ─> sql_live_step ─> (worker) columns, rows … ─> stepped(MORE)       step again
 *                        ^                                         stepped(CAUGHT_UP) sql_live_wait
 *                        └────────────────────────────────────────┘ stepped(ENDED), or an error
 *
 * Rows (no GROUP BY, no aggregate): each record that passes WHERE gives a row once, in order of
 * position; a query that begins behind the position of the last row it was given continues exactly
 * there. Groups: a group's row is given again whenever it changed, with the position up to which all
 * records are counted in. What is below sql_live_position was given, or passed by.
 *
 * Seen are committed records whose position is below every open transaction's first one (as a reader
 * of the topic sees them: in order and once), hot and cold.
 *
 * What cannot be live is refused at the first step, with the reason: all that partial.h refuses, and
 * ORDER BY, OFFSET, DISTINCT, AT; LIMIT with groups. LIMIT n of rows ends it behind the n-th.
 *
 * Threads: a live query belongs to one thread at a time; columns, rows and stepped are called on a
 * worker, between sql_live_step and stepped, and nothing else may be done with it then but
 * sql_live_cancel. */
#ifndef WEIR_SQL_LIVE_H
#define WEIR_SQL_LIVE_H

#include "sql/sql.h"

struct sql_live;
struct waiter;

enum sql_live_from { SQL_LIVE_BEGINNING, SQL_LIVE_END, SQL_LIVE_TIME, SQL_LIVE_POSITION };
enum sql_live_state {
    SQL_LIVE_MORE,      /* there is more: step again */
    SQL_LIVE_CAUGHT_UP, /* all that is there was given */
    SQL_LIVE_ENDED,     /* LIMIT was reached */
    SQL_LIVE_FAILED,
};

/* Some rows. Of rows without groups: at[i] is the position of row i's record, and key is NULL. Of
 * groups: key has their keys' values, in the statement's order; gone[i]: HAVING holds no more, the
 * row's columns do not count. All valid for the call. */
struct sql_live_rows {
    const struct sql_chunk *row, *key;
    const uint64_t *at;
    const bool *gone;
};
struct sql_live_sink {
    /* In every step before its rows. Columns as in struct sql_sink; false: cancel. */
    bool (*columns)(void *arg, struct sql_query *q, const struct sql_columns *columns);
    /* Returns how many of the rows it takes, the first ones. Less than all: the step ends, and the
     * next one begins with the first that was not taken (rows) or the query fails (groups). */
    uint32_t (*rows)(void *arg, const struct sql_live_rows *rows);
    /* The step is over. error only if it failed. The last thing that touches the live query. */
    void (*stepped)(void *arg, enum sql_live_state state, const struct sql_error *error);
};

struct sql_live_conf {
    struct slice text; /* a SELECT */
    const struct sql_param *params;
    unsigned params_n;
    enum sql_live_from from;
    uint64_t position; /* POSITION: the first wanted */
    int64_t time_ms;   /* TIME: records with this timestamp or a later one */
    /* All below was given before; 0: nothing was. Rows go on from here. Groups are counted from `from`
     * on (END: from here on), and given is only what changes from here on. */
    uint64_t resume;
    uint32_t groups_max; /* at most so many are kept; more fail the query */
    /* With groups by date_trunc or time_bucket: those older than the latest by more than this are
     * forgotten, and records that would belong to them passed by. 0: none are. */
    int64_t keep_ms;
    const struct sql_live_sink *sink;
    bool (*topic_allowed)(void *arg, struct slice topic); /* as in struct sql_request */
    void *arg;
};

/* Copies the text and parameters. */
enum err sql_live_new(struct sql *s, const struct sql_live_conf *conf, struct sql_live **out,
                      struct errinfo *info);
/* No step is on its way. */
void sql_live_free(struct sql_live **l);
/* Begins a step; ERR_OVERLOADED: not now, too many queries wait. */
enum err sql_live_step(struct sql_live *l, struct errinfo *info);
/* Makes a step on its way fail soon, with ERR_CANCELLED. Any thread. */
void sql_live_cancel(struct sql_live *l);
/* After CAUGHT_UP: arms w. False: there is something already. The caller cancels it before
 * sql_live_free. */
bool sql_live_wait(struct sql_live *l, struct waiter *w);
/* The first position that was not looked at; after the first step. */
uint64_t sql_live_position(const struct sql_live *l);
/* The topic's name; NULL before the first step. */
const char *sql_live_topic(const struct sql_live *l);

#endif
