/* Splitting a SELECT over one topic so that it can be answered in parts: by ranges of the topic one
 * after the other (live queries, transforms), or by servers side by side (the coordinator). This is
 * the only place that knows how an aggregate is put together from parts.
 *
 * partial_make gives three statements:
 *
 *   partial   over the topic:           rows of group keys _g0, _g1 … and states _a0, _a1 …
 *   merge     over a table `partials`:  the same columns, one row a group: of the rows of any number
 *                                       of partials, or of merges, in any order and any nesting
 *   finish    over a table `merged`:    what the statement asks for: its columns by its names (as
 *                                       DuckDB writes them where it gives none), HAVING, DISTINCT,
 *                                       ORDER BY, LIMIT
 *
 * so that  finish(merge(partial(A), partial(B)))  is the statement over A and B together, for
 * whatever way the topic's records are divided into A and B, each record in one. A merge of nothing
 * is right, too: no groups, or the one row of counts 0 where there is no GROUP BY. The three can be
 * put together as they are: WITH partials AS (…), merged AS (merge) finish. All are plain SELECTs
 * that sql_run takes (`partials` and `merged` as topics or inputs of these names, or tables); they
 * have no parameters: those of the statement were put in as constants.
 *
 * Types: a column of merge has the same type as that of partial, whatever that is (sum of integers:
 * HUGEINT; of DECIMAL(p,s): DECIMAL(38,s); sql_describe of `partial` tells them all).
 *
 * A statement without GROUP BY and aggregates (PARTIAL_ROWS) has the rows themselves as its partial:
 * with ORDER BY and LIMIT n the n first of each part, and of them the n first by merge and finish.
 * The columns that are only sorted by are _o0, _o1 … there.
 *
 * What is split: one SELECT from one topic (under an alias if wanted; also AT, see rewrite.c), WHERE,
 * GROUP BY of expressions, names, positions or ALL, HAVING, DISTINCT, ORDER BY, LIMIT and OFFSET as
 * numbers, expressions over aggregates; and these aggregates, with FILTER where given: tbl/aggregates.h.
 * All else is refused with the reason: joins, subqueries, WITH, UNION, window functions, SAMPLE,
 * ROLLUP, DISTINCT ON, aggregates that depend on the order of rows; and count(DISTINCT …) and aggregates
 * that need all values, but for servers side by side (the request's shards): there the state is the
 * list of them.
 *
 * A name in GROUP BY that is the alias of a column of the select list stands for that column's
 * expression, unless the expression itself mentions this name: then it is the topic's column, as in
 * SELECT upper(s) AS s … GROUP BY s.
 *
 * approx_quantile(x, q): its state counts values by powers of 1.0202, as DDSketch does; the answer is
 * within 1 % of a value whose rank is q (0 and both signs included; |x| between 1e-12 and 1e12, others
 * count as those), a DOUBLE whatever x is. median and quantile_cont need all values and are refused.
 *
 * Threads: any but a loop: partial_make loads DuckDB's library and asks it. A struct partial is only
 * read afterwards. */
#ifndef WEIR_SQL_PARTIAL_H
#define WEIR_SQL_PARTIAL_H

#include "base/err.h"
#include "sql/sql.h"

enum partial_kind { PARTIAL_ROWS, PARTIAL_GROUPS };

struct partial_output {
    char *name;
    int32_t group; /* it is group key _gN as it is; -1: it is not */
};
struct partial {
    enum partial_kind kind;
    char *topic; /* in FROM; with AT: as rewrite.c writes it (orders@v=5) */
    char *partial, *merge, *finish;
    /* PARTIAL_GROUPS: keys of the partial's first columns, as SQL over the topic. The columns are
     * called _g0 … and, behind them, _a0 … */
    char **group;
    uint32_t groups_n, states_n;
    int32_t bucket; /* the first key that is date_trunc or time_bucket; -1: none is */
    /* Columns of the answer; none for PARTIAL_ROWS with a star. */
    struct partial_output *output;
    uint32_t outputs_n;
    /* For those who give groups one at a time. `values`: SELECT over `merged` of its group keys as
     * _g0 …, whether HAVING holds as _having, then the statement's columns; all rows, in any
     * order. */
    char *values;
    bool has_having, has_order, has_distinct;
    int64_t limit, offset; /* limit -1: none */
    /* The pieces of `partial`: SELECT … FROM …, the condition or NULL, what follows it. */
    char *head, *where, *tail;
};

/* Of rq: text and params. ERR_SQL: the statement is wrong, or cannot be split: info says why;
 * ERR_UNSUPPORTED: there is no DuckDB. On success the caller ends it with partial_fini. */
enum err partial_make(struct sql *s, const struct sql_request *rq, struct partial *out,
                      struct errinfo *info);
void partial_fini(struct partial *p);
/* The text of `partial` with one more condition over the topic (NULL: none); the caller frees. For
 * ranges: "position >= 10 AND position < 20". */
char *partial_where(const struct partial *p, const char *condition);

#endif
