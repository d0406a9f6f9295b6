/* See coordinator.h. */
#include "sql/coordinator.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/jtext.h"
#include "base/mem.h"
#include "sql/partial.h"
#include "sql/shard.h"

#define TEXT_MAX    (4u * LIMIT_SQL_TEXT)
#define COLUMNS_MAX 4096u

struct column {
    char *name, *type;
};
struct columns {
    struct column *v;
    uint32_t n;
};
struct part {
    struct columns columns; /* of its answer */
    struct columns topic;   /* of its topic; only if a shard misses a column */
    char *prefix;           /* WITH …, that adds what is missing; "" */
};
struct fan {
    struct sql_query *q;
    struct partial split;
    struct shards *shards;
    struct part *part; /* one a shard */
    unsigned n;
    struct columns columns; /* of all */
    struct buf text;
    struct buf row; /* a row's texts without escapes */
    struct slice *cells;
    uint64_t deadline_ns;
    bool asked;
};

/* ---- columns ---- */

static void columns_add(struct columns *c, const char *name, const char *type)
{
    c->v = xrealloc(c->v, (c->n + 1u) * sizeof *c->v);
    c->v[c->n++] = (struct column){xstrdup(name), xstrdup(type)};
}

static void columns_clear(struct columns *c)
{
    uint32_t i;

    for (i = 0; i < c->n; i++) {
        free(c->v[i].name);
        free(c->v[i].type);
    }
    free(c->v);
    *c = (struct columns){NULL, 0};
}

/* The k-th column of this name; UINT32_MAX: there are fewer. */
static uint32_t columns_find(const struct columns *c, const char *name, uint32_t k)
{
    uint32_t i;

    for (i = 0; i < c->n; i++)
        if (!strcasecmp(c->v[i].name, name) && k-- == 0)
            return i;
    return UINT32_MAX;
}

/* How many columns before i have its name. */
static uint32_t columns_same(const struct columns *c, uint32_t i)
{
    uint32_t k, n = 0;

    for (k = 0; k < i; k++)
        n += !strcasecmp(c->v[k].name, c->v[i].name);
    return n;
}

/* 1 a whole number, 2 another; 0 none. */
static int number_kind(const char *type)
{
    static const char *const whole[] = {"TINYINT",  "SMALLINT",  "INTEGER",  "BIGINT",  "HUGEINT",
                                        "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"};
    size_t i;

    for (i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!strcmp(whole[i], type))
            return 1;
    return !strcmp(type, "FLOAT") || !strcmp(type, "DOUBLE") || !strncmp(type, "DECIMAL(", 8) ? 2
                                                                                              : 0;
}

static bool is_list(const char *type, char *element, size_t n)
{
    size_t len = strlen(type);

    if (len < 3 || strcmp(type + len - 2, "[]") != 0)
        return false;
    snprintf(element, n, "%.*s", (int)(len - 2), type);
    return true;
}

/* The type of a column that is of both. */
static const char *type_both(const char *a, const char *b)
{
    int x = number_kind(a), y = number_kind(b);
    char of_a[64], of_b[64];

    if (strcmp(a, b) != 0 && is_list(a, of_a, sizeof of_a) && is_list(b, of_b, sizeof of_b)) {
        const char *both = type_both(of_a, of_b);

        return !strcmp(both, "HUGEINT")  ? "HUGEINT[]"
               : !strcmp(both, "DOUBLE") ? "DOUBLE[]"
               : !strcmp(both, of_a)     ? a
               : !strcmp(both, of_b)     ? b
                                         : "VARCHAR[]";
    }
    if (!strcmp(a, b) || !strcmp(b, "\"NULL\"") || !strcmp(b, "NULL"))
        return a;
    if (!strcmp(a, "\"NULL\"") || !strcmp(a, "NULL"))
        return b;
    if (x == 1 && y == 1)
        return "HUGEINT";
    return x && y ? "DOUBLE" : "VARCHAR";
}

static void columns_join(struct columns *all, const struct columns *some)
{
    uint32_t i, at;
    char *type;

    for (i = 0; i < some->n; i++) {
        at = columns_find(all, some->v[i].name, columns_same(some, i));
        if (at == UINT32_MAX) {
            columns_add(all, some->v[i].name, some->v[i].type);
            continue;
        }
        type = xstrdup(type_both(all->v[at].type, some->v[i].type));
        free(all->v[at].type);
        all->v[at].type = type;
    }
}

static enum err quoted(struct buf *out, const char *name)
{
    enum err e = buf_append_u8(out, '"');

    for (; !e && *name; name++) {
        if (*name == '"')
            e = buf_append_u8(out, '"');
        e = e ? e : buf_append_u8(out, (uint8_t)*name);
    }
    return e ? e : buf_append_u8(out, '"');
}

/* ---- DESCRIBE ---- */

static bool over(void *arg)
{
    const struct sql_query *q = arg;

    return atomic_load(&q->cancelled) || atomic_load(&q->timed_out);
}

static bool failed(struct fault *f, enum err code, const struct errinfo *info)
{
    fault_err(f, code, info);
    return false;
}

static bool column_read(struct columns *out, struct slice line)
{
    json_t *j = json_loadb((const char *)line.ptr, line.len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "column_name"));
    const char *type = json_string_value(json_object_get(j, "column_type"));
    bool ok = name && type && out->n < COLUMNS_MAX;

    if (ok)
        columns_add(out, name, type);
    json_decref(j);
    return ok;
}

/* Asks each shard; what: of its part (else of its topic). */
static bool describe(struct fan *f, bool parts, struct fault *fault)
{
    struct errinfo info;
    struct slice line;
    struct buf b;
    unsigned i;
    enum err e = ERR_OK;

    buf_init(&b, TEXT_MAX);
    for (i = 0; i < f->n && !e; i++) {
        struct part *x = &f->part[i];

        columns_clear(parts ? &x->columns : &x->topic);
        buf_clear(&b);
        e = buf_append_str(&b, "DESCRIBE ");
        if (!e && parts)
            e = buf_printf(&b, "%s%s", x->prefix, f->split.partial);
        else if (!e)
            e = quoted(&b, f->split.topic);
        e = e ? errinfo_set(&info, e, "the statement is too large")
              : shards_ask(f->shards, i, buf_slice(&b), f->deadline_ns, &info);
    }
    buf_fini(&b);
    if (e)
        return failed(fault, e, &info);
    while (!(e = shards_next(f->shards, true, &i, &line, fault)))
        if (!column_read(parts ? &f->part[i].columns : &f->part[i].topic, line)) {
            fault_set(fault, ERR_NETWORK, "08P01", "shard %s (%s) does not answer as Weir does",
                      f->q->rq.shards[i].name, f->q->rq.shards[i].url);
            return false;
        }
    return e == ERR_EOF;
}

/* What other shards' topics have and this one's has not is NULL here. */
static enum err prefix_make(struct fan *f, struct part *x, const struct columns *all)
{
    struct buf b;
    uint32_t i;
    enum err e = ERR_OK;

    buf_init(&b, TEXT_MAX);
    for (i = 0; i < all->n && !e; i++) {
        if (columns_find(&x->topic, all->v[i].name, 0) != UINT32_MAX)
            continue;
        if (b.len == 0) {
            e = buf_append_str(&b, "WITH ");
            e = e ? e : quoted(&b, f->split.topic);
            e = e ? e : buf_append_str(&b, " AS (SELECT *");
        }
        e = e ? e : buf_printf(&b, ", NULL::%s AS ", all->v[i].type);
        e = e ? e : quoted(&b, all->v[i].name);
    }
    if (b.len && !e) {
        e = buf_append_str(&b, " FROM ");
        e = e ? e : quoted(&b, f->split.topic);
        e = e ? e : buf_append_str(&b, ") ");
    }
    e = e ? e : buf_append_u8(&b, 0);
    if (!e) {
        free(x->prefix);
        x->prefix = xstrdup((const char *)b.ptr);
    }
    buf_fini(&b);
    return e;
}

static bool describe_filled(struct fan *f, struct fault *fault)
{
    struct columns all = {NULL, 0};
    unsigned i;
    enum err e = ERR_OK;

    shards_close(&f->shards); /* requests may be under way */
    e = shards_open(f->q->sql->io, f->q->rq.shards, f->n, over, f->q, &f->shards, NULL);
    if (e || !describe(f, false, fault)) {
        if (e)
            fault_err(fault, e, NULL);
        return false;
    }
    for (i = 0; i < f->n; i++)
        columns_join(&all, &f->part[i].topic);
    for (i = 0; i < f->n && !e; i++)
        e = prefix_make(f, &f->part[i], &all);
    columns_clear(&all);
    return e ? failed(fault, e, NULL) : describe(f, true, fault);
}

/* ---- opening ---- */

static bool allowed(const struct fan *f, struct fault *fault)
{
    const struct sql_request *rq = &f->q->rq;
    const char *sign = strrchr(f->split.topic, '@'); /* orders@v=5: rewrite.c */
    struct slice topic = slice_str(f->split.topic);

    if (sign && sign[1] && sign[2] == '=')
        topic.len = (size_t)(sign - f->split.topic);
    if (!rq->topic_allowed || rq->topic_allowed(rq->arg, topic))
        return true;
    fault_set(fault, ERR_FORBIDDEN, "42501", "these credentials may not read \"%.*s\"",
              (int)topic.len, (const char *)topic.ptr);
    return false;
}

static bool split(struct fan *f, struct fault *fault)
{
    struct errinfo info = {.code = ERR_OK};
    enum err e = partial_make(f->q->sql, &f->q->rq, &f->split, &info);

    if (!e)
        e = buf_printf(&f->text, "WITH merged AS (%s) %s", f->split.merge, f->split.finish);
    if (!e)
        return true;
    fault_set(fault, e, e == ERR_SQL || e == ERR_UNSUPPORTED ? "0A000" : "XX000", "%s",
              info.text[0] ? info.text : err_text(e));
    return false;
}

static uint64_t deadline_of(const struct sql_query *q)
{
    uint64_t now = io_mono_ns(q->sql->io);

    if (q->deadline_ns == UINT64_MAX)
        return UINT64_MAX;
    /* A little earlier than the query's own, so that the error names who was too slow. */
    return q->deadline_ns > now ? q->deadline_ns - (q->deadline_ns - now) / 10 : now;
}

bool fan_open(struct sql_query *q, struct fan **out, struct fault *fault)
{
    struct fan *f = xcalloc(1, sizeof *f);
    struct errinfo info;
    unsigned i;
    enum err e;

    *out = f;
    f->q = q;
    f->n = q->rq.shards_n;
    f->part = xcalloc(f->n, sizeof *f->part);
    f->deadline_ns = deadline_of(q);
    buf_init(&f->text, TEXT_MAX);
    buf_init(&f->row, UINT32_MAX);
    for (i = 0; i < f->n; i++)
        f->part[i].prefix = xstrdup("");
    if (!split(f, fault) || !allowed(f, fault))
        return false;
    q->rq.params_n = 0;
    e = shards_open(q->sql->io, q->rq.shards, f->n, over, q, &f->shards, &info);
    if (e)
        return failed(fault, e, &info);
    if (!describe(f, true, fault) &&
        (strcmp(fault->sqlstate, "42703") != 0 || !describe_filled(f, fault)))
        return false;
    fault_clear(fault);
    for (i = 0; i < f->n; i++)
        columns_join(&f->columns, &f->part[i].columns);
    f->cells = xcalloc(f->columns.n + 1u, sizeof *f->cells);
    return true;
}

void fan_close(struct fan **fp)
{
    struct fan *f = *fp;
    unsigned i;

    if (!f)
        return;
    shards_close(&f->shards);
    for (i = 0; i < f->n; i++) {
        columns_clear(&f->part[i].columns);
        columns_clear(&f->part[i].topic);
        free(f->part[i].prefix);
    }
    columns_clear(&f->columns);
    partial_fini(&f->split);
    buf_fini(&f->text);
    buf_fini(&f->row);
    free(f->cells);
    free(f->part);
    free(f);
    *fp = NULL;
}

struct slice fan_text(const struct fan *f)
{
    return buf_slice(&f->text);
}

uint32_t fan_columns(const struct fan *f)
{
    return f->columns.n;
}

enum err fan_source(const struct fan *f, struct buf *out)
{
    enum err e = buf_append_str(out, "SELECT ");
    uint32_t i;

    for (i = 0; i < f->columns.n && !e; i++) {
        e = buf_printf(out, "%sCAST(c%u AS %s) AS ", i ? ", " : "", (unsigned)i,
                       f->columns.v[i].type);
        e = e ? e : quoted(out, f->columns.v[i].name);
    }
    return e ? e : buf_append_str(out, " FROM weir_feed()");
}

/* ---- rows ---- */

/* SELECT [c0::VARCHAR, NULL, …] AS r FROM (part) AS t(c0, …): a list in the order of f->columns. */
static enum err rows_statement(const struct fan *f, const struct part *x, struct buf *out)
{
    uint32_t i, at;
    enum err e = buf_append_str(out, "SELECT [");

    for (i = 0; i < f->columns.n && !e; i++) {
        at = columns_find(&x->columns, f->columns.v[i].name, columns_same(&f->columns, i));
        e = at == UINT32_MAX ? buf_printf(out, "%sNULL::VARCHAR", i ? ", " : "")
                             : buf_printf(out, "%sc%u::VARCHAR", i ? ", " : "", (unsigned)at);
    }
    e = e ? e : buf_printf(out, "] AS r FROM (%s%s) AS t(", x->prefix, f->split.partial);
    for (i = 0; i < x->columns.n && !e; i++)
        e = buf_printf(out, "%sc%u", i ? ", " : "", (unsigned)i);
    return e ? e : buf_append_u8(out, ')');
}

static enum err rows_ask(struct fan *f, struct fault *fault)
{
    struct errinfo info;
    struct buf b;
    unsigned i;
    enum err e = ERR_OK;

    buf_init(&b, TEXT_MAX);
    for (i = 0; i < f->n && !e; i++) {
        buf_clear(&b);
        e = rows_statement(f, &f->part[i], &b);
        e = e ? errinfo_set(&info, e, "the statement is too large")
              : shards_ask(f->shards, i, buf_slice(&b), f->deadline_ns, &info);
    }
    buf_fini(&b);
    if (e)
        fault_err(fault, e, &info);
    f->asked = true;
    return e;
}

/* {"r":["text",null,…]} */
static bool row_read(struct fan *f, struct slice line)
{
    struct jtext_scan s;
    struct slice name;
    bool escaped;
    uint32_t i;

    jtext_scan_init(&s, line, 4);
    f->row.len = 0;
    if (buf_reserve(&f->row, line.len) || !jtext_expect(&s, '{', "no row") ||
        !jtext_string(&s, &name, &escaped) || !jtext_expect(&s, ':', "no row") ||
        !jtext_expect(&s, '[', "no row"))
        return false;
    for (i = 0; i < f->columns.n; i++) {
        struct slice raw;
        enum jtext_type type;
        uint8_t *to = f->row.ptr + f->row.len;

        if ((i && !jtext_expect(&s, ',', "no comma")) || !jtext_value(&s, &raw, &type) ||
            (type != JTEXT_NULL && type != JTEXT_STRING))
            return false;
        f->cells[i] = SLICE_NULL;
        if (type == JTEXT_NULL)
            continue;
        f->cells[i].ptr = to;
        f->cells[i].len = jtext_unescape(slice_of(raw.ptr + 1, raw.len - 2), to);
        f->row.len += f->cells[i].len;
    }
    return jtext_expect(&s, ']', "too many values");
}

enum err fan_next(struct fan *f, bool wait, const struct slice **cells, struct fault *fault)
{
    struct slice line;
    unsigned i;
    enum err e = f->asked ? ERR_OK : rows_ask(f, fault);

    if (e || (e = shards_next(f->shards, wait, &i, &line, fault)))
        return e;
    *cells = f->cells;
    if (row_read(f, line))
        return ERR_OK;
    fault_set(fault, ERR_NETWORK, "08P01", "shard %s (%s) does not answer as Weir does",
              f->q->rq.shards[i].name, f->q->rq.shards[i].url);
    return ERR_NETWORK;
}
