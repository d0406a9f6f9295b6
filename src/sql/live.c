/* Live queries. See live.h.
 *
 * A step's range begins at `next` and ends at the bound of what can be read, or before: the range is
 * `width` positions wide at most, and a LIMIT cuts the rows (top-n by position, which DuckDB does in
 * memory for n rows, however many the range has). Both grow while steps give little, and shrink when
 * one gave as much as it may; so the history of a topic is read in pieces of bounded memory although
 * nothing tells how its positions are spread. Groups need none of that: their memory is that of the
 * groups, so history is one step.
 *
 * Groups are kept in tables of a connection of their own (struct sql_merge, duckdb_query.c):
 *
 *   live new     the partial of this step's range
 *   live merged  the groups of it, merged with what was kept of them: the state after the step
 *   live next    all groups after the step; it becomes `live state` when the step is over
 *
 * What is given of a step are the rows of `live merged` that differ from those of `live state`.
 * Spaces in the names: no topic is called so. */
#include "sql/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/timefmt.h"
#include "sql/partial.h"
#include "sql/sql_int.h"

#define LIVE_MAGIC  0x53514c4cu
#define WIDTH_LEAST 4096u
#define WIDTH_MOST  (UINT64_C(1) << 48)
#define ROWS_LEAST  64u
#define ROWS_MOST   16384u
#define ROWS_BYTES  (1u << 20) /* of a step's rows, about */

struct sql_live {
    uint32_t magic;
    struct sql *sql;
    struct sql_live_conf conf; /* text and params are copies */
    void *copies;
    struct partial p;
    bool planned;
    unsigned steps; /* done; the first is dry: it finds what is wrong with the statement */
    struct topic *topic;
    uint64_t commits;   /* of the topic, read before the bound */
    uint64_t next;      /* all below was looked at */
    uint64_t bound, to; /* of the step */
    uint64_t width;
    uint32_t rows_max;  /* of the step */
    uint64_t step_rows; /* taken in the step */
    uint64_t rows;      /* taken in all */
    uint64_t last;      /* position of the row taken last */
    bool cut;           /* the sink did not take all */
    char *text;         /* of the step */
    struct sql_merge merge;
    struct sql_query *q;
};

/* ---- planning ---- */

static enum err refuse(struct errinfo *info, const char *what, const char *why)
{
    return errinfo_set(info, ERR_SQL, "a live query cannot have %s: %s", what, why);
}

static enum err plan_check(const struct partial *p, struct errinfo *info)
{
    if (strchr(p->topic, '@'))
        return refuse(info, "AT", "what comes is not in the past");
    if (p->has_distinct)
        return refuse(info, "DISTINCT", "GROUP BY gives each group as it changes");
    if (p->has_order)
        return refuse(info, "ORDER BY",
                      p->kind == PARTIAL_ROWS ? "rows come by position"
                                              : "groups come as they change");
    if (p->offset)
        return refuse(info, "OFFSET", "begin at another position");
    if (p->kind == PARTIAL_GROUPS && p->limit >= 0)
        return refuse(info, "LIMIT with groups", "HAVING says which are wanted");
    return ERR_OK;
}

static enum err topic_take(struct sql_live *l, struct errinfo *info)
{
    if (l->conf.topic_allowed && !l->conf.topic_allowed(l->conf.arg, slice_str(l->p.topic)))
        return errinfo_set(info, ERR_FORBIDDEN, "these credentials may not read \"%.200s\"",
                           l->p.topic);
    l->topic = topic_find(l->sql->conf.broker, slice_str(l->p.topic));
    if (!l->topic)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.200s\"", l->p.topic);
    return ERR_OK;
}

/* The condition that two tables' rows are of the same group. */
static void keys_put(const struct partial *p, struct buf *b, const char *x, const char *y)
{
    uint32_t i;

    if (!p->groups_n)
        buf_append_str(b, "true");
    for (i = 0; i < p->groups_n; i++)
        buf_printf(b, "%s%s._g%u IS NOT DISTINCT FROM %s._g%u", i ? " AND " : "", x, i, y, i);
}

static char *text_end(struct buf *b)
{
    char *out = buf_append_u8(b, 0) ? NULL : xstrdup((char *)b->ptr);

    buf_fini(b);
    return out;
}

/* Groups that are too old by the latest that `of` has; NULL: none ever are. */
static char *late_text(const struct sql_live *l, const char *from, const char *of)
{
    char *out = NULL;

    if (l->p.bucket < 0 || l->conf.keep_ms <= 0)
        return NULL;
    if (asprintf(
            &out,
            "DELETE FROM \"%s\" WHERE _g%d < (SELECT max(_g%d) FROM \"%s\") - INTERVAL '%" PRId64
            " milliseconds'",
            from, (int)l->p.bucket, (int)l->p.bucket, of, l->conf.keep_ms) < 0)
        return NULL;
    return out;
}

static char *final_text(const struct partial *p)
{
    struct buf b;
    uint32_t i;

    buf_init(&b, LIMIT_SQL_SOURCE);
    if (p->has_having)
        buf_append_str(&b, "SELECT v.* FROM (");
    buf_append_str(&b, "WITH merged AS (SELECT * FROM \"live merged\" EXCEPT SELECT * FROM \"live "
                       "state\") ");
    buf_append_str(&b, p->values);
    if (p->has_having) {
        buf_append_str(&b,
                       ") AS v WHERE v._having OR EXISTS (SELECT 1 FROM (WITH merged AS (SELECT "
                       "* FROM \"live state\") ");
        buf_append_str(&b, p->values);
        buf_append_str(&b, ") AS b WHERE b._having AND ");
        keys_put(p, &b, "b", "v");
        buf_append_str(&b, ")");
    }
    for (i = 0; i < p->groups_n; i++)
        buf_printf(&b, "%s%u", i ? ", " : " ORDER BY ", i + 1);
    return text_end(&b);
}

static enum err merge_make(struct sql_live *l, struct errinfo *info)
{
    const struct partial *p = &l->p;
    struct sql_merge *m = &l->merge;
    struct buf b;

    buf_init(&b, LIMIT_SQL_SOURCE);
    buf_append_str(&b,
                   "CREATE OR REPLACE TEMP TABLE \"live merged\" AS WITH partials AS (SELECT * "
                   "FROM \"live state\" AS s WHERE EXISTS (SELECT 1 FROM \"live new\" AS n WHERE ");
    keys_put(p, &b, "n", "s");
    buf_append_str(&b, ") UNION ALL SELECT * FROM \"live new\") ");
    buf_append_str(&b, p->merge);
    m->merged = text_end(&b);
    buf_init(&b, LIMIT_SQL_SOURCE);
    buf_append_str(&b,
                   "CREATE OR REPLACE TEMP TABLE \"live next\" AS SELECT * FROM \"live state\" AS "
                   "s WHERE NOT EXISTS (SELECT 1 FROM \"live merged\" AS n WHERE ");
    keys_put(p, &b, "n", "s");
    buf_append_str(&b, ") UNION ALL SELECT * FROM \"live merged\"");
    m->next = text_end(&b);
    m->final = final_text(p);
    m->late = late_text(l, "live new", "live state");
    m->forget = late_text(l, "live next", "live next");
    m->groups_max = l->conf.groups_max ? l->conf.groups_max : UINT32_MAX;
    if (!m->merged || !m->next || !m->final)
        return errinfo_set(info, ERR_TOO_LARGE, "the statement is too large");
    return ERR_OK;
}

static enum err plan(struct sql_live *l, struct errinfo *info)
{
    struct sql_request rq = {
        .text = l->conf.text, .params = l->conf.params, .params_n = l->conf.params_n};
    enum err e = partial_make(l->sql, &rq, &l->p, info);

    if (e)
        return e;
    e = plan_check(&l->p, info);
    if (!e)
        e = topic_take(l, info);
    if (!e && l->p.kind == PARTIAL_GROUPS)
        e = merge_make(l, info);
    if (e) {
        partial_fini(&l->p);
        topic_unref(&l->topic);
    }
    l->planned = !e;
    return e;
}

/* ---- steps ---- */

/* The end of what can be read. */
static enum err bound_take(struct sql_live *l, struct errinfo *info)
{
    struct reader_conf conf = {
        .selector = slice_str(topic_name(l->topic)), .partition = -1, .from = READ_FROM_END};
    struct reader *r;
    enum err e;

    if (topic_deleted(l->topic))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic \"%.200s\" was deleted",
                           topic_name(l->topic));
    l->commits = topic_commits(l->topic);
    e = reader_open(l->sql->conf.broker, &conf, &r, info);
    if (!e) {
        l->bound = reader_position(r);
        reader_close(&r);
    }
    return e;
}

static void begin(struct sql_live *l)
{
    uint64_t resume = l->conf.resume;

    l->next = l->conf.from == SQL_LIVE_END        ? (resume ? resume : l->bound)
              : l->conf.from == SQL_LIVE_POSITION ? l->conf.position
                                                  : 0;
    if (l->p.kind == PARTIAL_ROWS && resume > l->next)
        l->next = resume;
    if (l->next > INT64_MAX)
        l->next = INT64_MAX;
    l->width = WIDTH_LEAST;
    l->rows_max = ROWS_LEAST;
}

/* Where this step ends. */
static void range_choose(struct sql_live *l)
{
    l->to = l->bound > l->next ? l->bound : l->next;
    l->merge.silent = false;
    l->merge.dry = l->steps == 0;
    if (l->steps == 0) {
        l->to = l->next;
        return;
    }
    if (l->p.kind == PARTIAL_GROUPS) {
        l->merge.silent = l->conf.resume > l->next;
        if (l->merge.silent && l->conf.resume < l->to)
            l->to = l->conf.resume;
        return;
    }
    if (l->to - l->next > l->width)
        l->to = l->next + l->width;
    if (l->p.limit >= 0 && l->rows_max > (uint64_t)l->p.limit - l->rows)
        l->rows_max = (uint32_t)((uint64_t)l->p.limit - l->rows);
}

/* The query over the range. */
static void text_make(struct sql_live *l)
{
    char range[160], time[TIME_TEXT_LEN + 1];
    int n = snprintf(range, sizeof range, "position >= %" PRIu64 " AND position < %" PRIu64,
                     l->next, l->to);

    if (l->conf.from == SQL_LIVE_TIME) {
        time_format(l->conf.time_ms, time);
        snprintf(range + n, sizeof range - (size_t)n,
                 " AND \"timestamp\" >= CAST('%s' AS TIMESTAMP WITH TIME ZONE)", time);
    }
    free(l->text);
    l->text = NULL;
    if (l->p.kind == PARTIAL_GROUPS) {
        l->text = partial_where(&l->p, range);
    } else if (asprintf(&l->text,
                        "SELECT position AS _position, %s WHERE %s%s%s%s ORDER BY 1 LIMIT %u",
                        l->p.head + strlen("SELECT "), l->p.where ? "(" : "",
                        l->p.where ? l->p.where : "", l->p.where ? ") AND " : "", range,
                        l->rows_max) < 0) {
        l->text = xstrdup("");
    }
}

static const struct sql_sink live_sink;

/* The query's argument is the live query, not the asker's. */
static bool allowed(void *arg, struct slice topic)
{
    struct sql_live *l = arg;

    return !l->conf.topic_allowed || l->conf.topic_allowed(l->conf.arg, topic);
}

static void fail(struct sql_query *q, const struct errinfo *info)
{
    struct fault f = {.code = ERR_OK};
    struct sql_error error;
    struct sql_stats none = {.rows = 0};

    fault_err(&f, info->code, info);
    error = (struct sql_error){.code = f.code, .message = f.message};
    memcpy(error.sqlstate, f.sqlstate, sizeof error.sqlstate);
    if (f.code == ERR_SQL)
        memcpy(error.sqlstate, "0A000", 6);
    live_sink.done(q->rq.arg, q, &error, &none);
    fault_clear(&f);
}

/* Worker thread. */
static void work(struct sql_query *q)
{
    struct sql_live *l = q->rq.arg;
    struct sql_stats none = {.rows = 0};
    struct errinfo info = {0};
    enum err e = l->planned ? ERR_OK : plan(l, &info);

    ASSERT(l->magic == LIVE_MAGIC);
    /* The dry step's bound holds for the first count too: a group query that begins at the end has
     * counted nothing when it is said to be live, so whoever comes back can begin at that place. */
    if (!e && !(l->p.kind == PARTIAL_GROUPS && l->steps == 1))
        e = bound_take(l, &info);
    if (e) {
        info.code = e;
        fail(q, &info);
        return;
    }
    if (l->steps == 0)
        begin(l);
    range_choose(l);
    l->step_rows = 0;
    l->cut = false;
    if (l->to == l->next && l->steps > (l->p.kind == PARTIAL_GROUPS)) {
        live_sink.done(l, q, NULL, &none);
        return;
    }
    text_make(l);
    q->rq.text = slice_str(l->text);
    q->merge = l->p.kind == PARTIAL_GROUPS ? &l->merge : NULL;
    query_run(q);
}

/* ---- what the query gives ---- */

/* How many columns stand before those of the statement. */
static uint32_t own_columns(const struct sql_live *l)
{
    return l->p.kind == PARTIAL_GROUPS ? l->p.groups_n + 1 : 1;
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct sql_live *l = arg;
    uint32_t own = own_columns(l);
    struct sql_columns rest = {.n = c->n - own, .name = c->name + own, .type = c->type + own};

    ASSERT(c->n >= own);
    return l->conf.sink->columns(l->conf.arg, q, &rest);
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct sql_live *l = arg;
    uint32_t own = own_columns(l), took, i;
    struct sql_chunk row = *c, key = *c;
    bool *gone = NULL;
    struct sql_live_rows rows = {.row = &row};

    row.columns_n -= own;
    row.column += own;
    if (l->p.kind == PARTIAL_GROUPS) {
        const struct sql_vector *having = &c->column[own - 1];

        key.columns_n = own - 1;
        gone = xcalloc(c->rows, sizeof *gone);
        for (i = 0; i < c->rows; i++)
            gone[i] = !((const uint8_t *)having->data)[i];
        rows.key = &key;
        rows.gone = gone;
    } else {
        rows.at = c->column[0].data;
    }
    took = l->conf.sink->rows(l->conf.arg, &rows);
    free(gone);
    ASSERT(took <= c->rows);
    l->step_rows += took;
    if (took && rows.at)
        l->last = rows.at[took - 1];
    l->cut = took < c->rows;
    return !l->cut;
}

/* Makes the next step as large as memory allows, by what this one gave. */
static void adapt(struct sql_live *l, const struct sql_stats *stats, bool full)
{
    uint64_t each = stats->rows ? stats->bytes / stats->rows + 64 : 0;
    uint64_t most = each ? ROWS_BYTES / each : ROWS_MOST;

    if (full && l->last >= l->next)
        l->width = 2 * (l->last - l->next) + WIDTH_LEAST;
    else if (l->width < WIDTH_MOST)
        l->width *= 4;
    if (most > ROWS_MOST)
        most = ROWS_MOST;
    if (most > 4 * (uint64_t)l->rows_max && l->rows_max >= ROWS_LEAST)
        most = 4 * (uint64_t)l->rows_max;
    l->rows_max = most < ROWS_LEAST ? ROWS_LEAST : (uint32_t)most;
}

static enum sql_live_state step_over(struct sql_live *l, const struct sql_stats *stats)
{
    bool full = l->p.kind == PARTIAL_ROWS && (l->cut || l->step_rows >= l->rows_max);

    l->rows += l->step_rows;
    if (l->p.kind == PARTIAL_ROWS && l->steps)
        adapt(l, stats, full);
    if (full)
        l->next = l->step_rows ? l->last + 1 : l->next;
    else
        l->next = l->to;
    if (l->p.kind == PARTIAL_ROWS && l->p.limit >= 0 && l->rows >= (uint64_t)l->p.limit)
        return SQL_LIVE_ENDED;
    if (l->steps++ == 0 && l->p.kind == PARTIAL_GROUPS)
        return SQL_LIVE_MORE;
    return full || l->to < l->bound ? SQL_LIVE_MORE : SQL_LIVE_CAUGHT_UP;
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct sql_live *l = arg;
    enum sql_live_state state = SQL_LIVE_FAILED;
    struct sql_error told;

    if (error && error->code == ERR_CANCELLED && l->cut && l->p.kind == PARTIAL_ROWS)
        error = NULL; /* by on_chunk */
    if (!error)
        state = step_over(l, stats);
    if (error) {
        told = *error;
        told.position = 0; /* it is of a text that the asker did not write */
        error = &told;
    }
    l->conf.sink->stepped(l->conf.arg, state, error);
}

static const struct sql_sink live_sink = {on_columns, on_chunk, on_done};

/* ---- from outside ---- */

enum err sql_live_new(struct sql *s, const struct sql_live_conf *conf, struct sql_live **out,
                      struct errinfo *info)
{
    struct sql_live *l;
    struct sql_request rq = {
        .text = conf->text, .params = conf->params, .params_n = conf->params_n};
    enum err e = sql_request_check(&rq, info);

    ASSERT(conf->sink);
    if (e)
        return e;
    l = xcalloc(1, sizeof *l);
    l->magic = LIVE_MAGIC;
    l->sql = s;
    l->conf = *conf;
    l->copies = sql_request_copy(&rq);
    l->conf.text = rq.text;
    l->conf.params = rq.params;
    *out = l;
    return ERR_OK;
}

void sql_live_free(struct sql_live **lp)
{
    struct sql_live *l = *lp;

    if (!l)
        return;
    ASSERT(l->magic == LIVE_MAGIC);
    sql_release(&l->q);
    query_merge_end(&l->merge);
    free(l->merge.merged);
    free(l->merge.next);
    free(l->merge.final);
    free(l->merge.late);
    free(l->merge.forget);
    if (l->planned)
        partial_fini(&l->p);
    topic_unref(&l->topic);
    free(l->text);
    free(l->copies);
    l->magic = 0;
    free(l);
    *lp = NULL;
}

enum err sql_live_step(struct sql_live *l, struct errinfo *info)
{
    struct sql_request rq = {.text = l->conf.text,
                             .timeout_ms = -1,
                             .topic_allowed = allowed,
                             .sink = &live_sink,
                             .arg = l};

    ASSERT(l->magic == LIVE_MAGIC);
    sql_release(&l->q);
    return sql_run_work(l->sql, &rq, work, &l->q, info);
}

void sql_live_cancel(struct sql_live *l)
{
    if (l->q)
        sql_cancel(l->q);
}

bool sql_live_wait(struct sql_live *l, struct waiter *w)
{
    return topic_wait(l->topic, l->commits, w);
}

uint64_t sql_live_position(const struct sql_live *l)
{
    return l->next;
}

const char *sql_live_topic(const struct sql_live *l)
{
    return l->topic ? topic_name(l->topic) : NULL;
}
