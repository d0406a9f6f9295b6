/* See point.h. The grammar:
 *
 *   SELECT { * | name {, name} } FROM name WHERE term {AND term} [LIMIT number]
 *   term:  column {= | < | <= | > | >=} value  |  column BETWEEN value AND value
 *
 * with partition (= only), "offset" and timestamp as columns, and numbers, texts and parameters as
 * values. What is not understood in every detail is no look-up. */
#include "sql/point.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sql/token.h"

#define SHAPE_MAX 4096u /* bytes; as many are kept (kept.h) */

struct reader {
    struct slice text;
    struct tokens t;
    uint32_t at;
    const struct sql_param *params;
    unsigned params_n, unnamed; /* ?, so far */
    uint64_t used;              /* a bit for each of the first 64 parameters */
    struct point *out;
};

static struct slice token_text(const struct reader *r, uint32_t i)
{
    return slice_of(r->text.ptr + r->t.v[i].from, r->t.v[i].to - r->t.v[i].from);
}

static bool shape_put(struct reader *r, struct slice s)
{
    return !buf_append_slice(&r->out->shape, s) && !buf_append_u8(&r->out->shape, ' ');
}

/* Passes by a word that must be there. */
static bool word(struct reader *r, const char *w)
{
    return token_is(&r->t, r->at, r->text, w) && shape_put(r, token_text(r, r->at++));
}

/* A name, quoted or not; without its quotes. */
static bool name(struct reader *r, struct slice *out)
{
    struct slice s;

    if (r->at == r->t.n || r->t.v[r->at].kind > TOKEN_QUOTED)
        return false;
    s = token_text(r, r->at);
    if (!shape_put(r, s))
        return false;
    if (r->t.v[r->at++].kind == TOKEN_QUOTED) {
        if (s.len < 3 || s.ptr[s.len - 1] != '"')
            return false;
        s = slice_of(s.ptr + 1, s.len - 2);
    }
    *out = s;
    return !memchr(s.ptr, '"', s.len);
}

static bool columns(struct reader *r)
{
    struct point *p = r->out;
    uint32_t i;

    if (word(r, "*"))
        return p->all = true;
    do {
        if (p->columns_n == POINT_COLUMNS_MAX || !name(r, &p->column[p->columns_n]))
            return false;
        for (i = 0; i < p->columns_n; i++)
            if (slice_eq(p->column[i], p->column[p->columns_n]))
                return false; /* what the second would be called is DuckDB's to say */
        p->columns_n++;
    } while (word(r, ","));
    return true;
}

/* ---- values ---- */

/* As DuckDB reads it, which is narrower than what time_read takes: to the millisecond, in years that
 * both know. */
static bool time_text(struct slice s, int64_t *us)
{
    static const char form[] = "0000-00-00 00:00:00.000";
    size_t i, n = s.len < sizeof form - 1 ? s.len : sizeof form - 1;
    int64_t ms;

    for (i = 0; i < n; i++) {
        bool digit = s.ptr[i] >= '0' && s.ptr[i] <= '9';

        if (form[i] == '0' ? !digit : s.ptr[i] != (uint8_t)form[i] && !(i == 10 && s.ptr[i] == 'T'))
            break;
    }
    if (s.len < 10 || (s.len > 10 && i < 19) || s.ptr[0] < '1' || s.ptr[0] > '2' ||
        (s.len > 10 && s.ptr[17] > '5'))
        return false; /* no seconds, or a leap second */
    if (i < s.len && s.ptr[i] != '+' && s.ptr[i] != '-' && s.ptr[i] != 'Z') /* the zone */
        return false;
    if (!time_read(s, &ms))
        return false;
    *us = ms * 1000;
    return true;
}

static const struct sql_param *param(struct reader *r, struct slice s)
{
    int64_t n = 0;

    if (s.len == 1 && s.ptr[0] == '?')
        n = ++r->unnamed;
    else if (s.ptr[0] != '$' || !field_i64(slice_of(s.ptr + 1, s.len - 1), &n))
        return NULL;
    if (n < 1 || n > r->params_n || n > 64)
        return NULL;
    r->used |= 1ull << (n - 1);
    return &r->params[n - 1];
}

/* A value of the column's type: microseconds for times. */
static bool value(struct reader *r, bool time, int64_t *out)
{
    const struct sql_param *p;
    enum token_kind kind;
    struct slice s;

    if (r->at == r->t.n)
        return false;
    kind = r->t.v[r->at].kind;
    s = token_text(r, r->at++);
    if (kind == TOKEN_NUMBER)
        return !time && field_i64(s, out) && shape_put(r, SLICE_LIT("0"));
    if (kind == TOKEN_STRING)
        return time && s.len > 2 && s.ptr[0] == '\'' &&
               time_text(slice_of(s.ptr + 1, s.len - 2), out) && shape_put(r, SLICE_LIT("''"));
    if (kind != TOKEN_PARAM || !(p = param(r, s)) || !shape_put(r, s))
        return false;
    if (p->type == SQL_VARCHAR)
        return time ? time_text(p->bytes, out) : field_i64(p->bytes, out);
    *out = p->i64;
    return p->type == (time ? SQL_TIMESTAMP_TZ : SQL_BIGINT);
}

/* ---- terms ---- */

enum op { OP_EQ, OP_LT, OP_LE, OP_GT, OP_GE };

static bool operator(struct reader *r, enum op *op)
{
    if (word(r, "=")) {
        *op = OP_EQ;
        return true;
    }
    if (word(r, "<"))
        *op = OP_LT;
    else if (word(r, ">"))
        *op = OP_GT;
    else
        return false;
    if (token_is(&r->t, r->at, r->text, "=")) {
        if (r->t.v[r->at].from != r->t.v[r->at - 1].to || !word(r, "="))
            return false;
        *op = *op == OP_LT ? OP_LE : OP_GE;
    }
    return true;
}

/* What is at least v / unit, and at most, in whole units: x unit >= v, x unit <= v. */
static int64_t ceiling(int64_t v, int64_t unit)
{
    return v / unit + (v % unit > 0);
}

static int64_t floored(int64_t v, int64_t unit)
{
    return v / unit - (v % unit < 0);
}

/* Keeps x in [min, max] where x unit op v. */
static bool narrow(enum op op, int64_t v, int64_t unit, int64_t *min, int64_t *max)
{
    int64_t lo = op == OP_GT ? floored(v, unit) : ceiling(v, unit);
    int64_t hi = op == OP_LT ? ceiling(v, unit) : floored(v, unit);

    if ((op == OP_GT && lo == INT64_MAX) || (op == OP_LT && hi == INT64_MIN))
        return false;
    lo += op == OP_GT;
    hi -= op == OP_LT;
    if (op != OP_LT && op != OP_LE && lo > *min)
        *min = lo;
    if (op != OP_GT && op != OP_GE && hi < *max)
        *max = hi;
    return true;
}

static bool term_apply(struct reader *r, struct slice column, enum op op, int64_t v)
{
    struct sql_bounds *b = &r->out->b;

    if (slice_eq_str(column, "offset"))
        return narrow(op, v, 1, &b->offset_min, &b->offset_max);
    if (slice_eq_str(column, "timestamp"))
        return narrow(op, v, 1000, &b->ts_min_ms, &b->ts_max_ms);
    if (op != OP_EQ || b->partition >= 0 || v < 0 || v >= INT32_MAX)
        return false;
    b->partition = (int32_t)v;
    return true;
}

static bool term(struct reader *r)
{
    struct slice column;
    int64_t v, to;
    bool time;
    enum op op;

    if (!name(r, &column))
        return false;
    time = slice_eq_str(column, "timestamp");
    if (!time && !slice_eq_str(column, "offset") && !slice_eq_str(column, "partition"))
        return false;
    if (word(r, "between"))
        return value(r, time, &v) && word(r, "and") && value(r, time, &to) &&
               term_apply(r, column, OP_GE, v) && term_apply(r, column, OP_LE, to);
    return operator(r, &op) && value(r, time, &v) && term_apply(r, column, op, v);
}

static bool limit(struct reader *r)
{
    int64_t n;

    if (!word(r, "limit"))
        return true;
    if (r->at == r->t.n || r->t.v[r->at].kind != TOKEN_NUMBER || !value(r, false, &n))
        return false;
    r->out->limit = (uint64_t)n;
    return true;
}

static bool statement(struct reader *r)
{
    struct slice table;

    if (!word(r, "select") || !columns(r) || !word(r, "from") || !name(r, &table) ||
        table.len > TOPIC_NAME_MAX)
        return false;
    memcpy(r->out->table, table.ptr, table.len);
    r->out->table[table.len] = 0;
    if (!word(r, "where"))
        return false;
    do
        if (!term(r))
            return false;
    while (word(r, "and"));
    return limit(r) && r->at == r->t.n;
}

bool point_parse(struct point *p, struct slice text, const struct sql_param *params,
                 unsigned params_n)
{
    struct reader r = {.text = text, .params = params, .params_n = params_n, .out = p};
    bool ok;

    memset(p, 0, sizeof *p);
    buf_init(&p->shape, SHAPE_MAX);
    p->b = scan_unbounded;
    p->limit = UINT64_MAX;
    /* What is longer is no look-up; comments are lexed by DuckDB alone. */
    if (text.len > SHAPE_MAX || memmem(text.ptr, text.len, "--", 2) ||
        memmem(text.ptr, text.len, "/*", 2))
        return false;
    tokens_make(&r.t, text);
    ok = statement(&r) && params_n <= 64 &&
         r.used == (params_n == 64 ? UINT64_MAX : (1ull << params_n) - 1);
    free(r.t.v);
    return ok;
}

void point_fini(struct point *p)
{
    buf_fini(&p->shape);
}

static uint32_t column_find(const struct plan_table *t, struct slice column)
{
    uint32_t i;

    for (i = 0; i < t->columns_n && !slice_eq_str(column, t->columns[i].name); i++)
        ;
    return i;
}

bool point_columns(const struct point *p, const struct plan_table *t, uint32_t *out, uint32_t *n)
{
    uint32_t i;

    *n = p->all ? t->columns_n : p->columns_n;
    for (i = 0; i < *n; i++) {
        out[i] = p->all ? i : column_find(t, p->column[i]);
        if (out[i] == t->columns_n)
            return false;
    }
    return true;
}
