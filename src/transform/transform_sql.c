/* The statements that a transform runs: people's own, over records that are narrowed to windows and
 * whose columns are given types, and our questions about records' times.
 *
 *   __records__ -> (times within the windows) -> (columns given types) -> __input__ -> statement */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "transform/transform_def.h"

static bool wrapped(const struct transform_def *d)
{
    return transform_windowed(d) || d->columns[0];
}

const char *transform_input_name(const struct transform_def *d)
{
    return wrapped(d) ? TRANSFORM_RECORDS : TRANSFORM_INPUT;
}

/* ---- columns with types ---- */

/* The next "name TYPE" of a list; false at its end. A name may be in double quotes. */
static bool column_next(const char **at, struct slice *name, struct slice *type)
{
    const char *p = *at, *from;
    bool quoted;
    int depth = 0;

    while (*p == ' ' || *p == ',')
        p++;
    if (!*p)
        return false;
    quoted = *p == '"';
    from = p += quoted;
    while (*p && (quoted ? *p != '"' : *p != ' ' && *p != ','))
        p++;
    *name = slice_of(from, (size_t)(p - from));
    p += quoted && *p;
    while (*p == ' ')
        p++;
    for (from = p; *p && (depth > 0 || *p != ','); p++)
        depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
    *type = slice_of(from, (size_t)(p - from));
    *at = p;
    return true;
}

/* Text between quotes of one kind, which are doubled inside. */
static enum err put_quoted(struct buf *out, struct slice s, char quote, bool lower)
{
    enum err e = buf_append_u8(out, (uint8_t)quote);
    size_t i;

    for (i = 0; i < s.len && !e; i++) {
        if (s.ptr[i] == (uint8_t)quote)
            e = buf_append_u8(out, (uint8_t)quote);
        e = e ? e : buf_append_u8(out, lower ? (uint8_t)tolower(s.ptr[i]) : s.ptr[i]);
    }
    return e ? e : buf_append_u8(out, (uint8_t)quote);
}

/* value ->> 'name', by a path in which nothing has a meaning. tolerant: what fails is NULL. */
static enum err put_typed(struct buf *out, struct slice name, struct slice type, bool tolerant)
{
    enum err e =
        buf_append_str(out, tolerant ? ", TRY(CAST((value ->> '$.\"" : ", CAST((value ->> '$.\"");
    size_t i;

    for (i = 0; i < name.len && !e; i++) {
        if (name.ptr[i] == '\'')
            e = buf_append_u8(out, '\'');
        e = e ? e : buf_append_u8(out, name.ptr[i]);
    }
    e = e ? e : buf_append_str(out, "\"') AS ");
    e = e ? e : buf_append_slice(out, type.len ? type : SLICE_LIT("VARCHAR"));
    e = e ? e : buf_append_str(out, tolerant ? ")) AS " : ") AS ");
    return e ? e : put_quoted(out, name, '"', false);
}

/* SELECT of all columns, with those of the types that are said, FROM what is to follow. */
static enum err put_columns(const struct transform_def *d, bool tolerant, struct buf *out)
{
    const char *at;
    struct slice name, type;
    enum err e;
    unsigned n = 0;

    if (!d->columns[0])
        return buf_append_str(out, "SELECT * FROM ");
    e = buf_append_str(out, "SELECT COLUMNS(lambda c: lower(c) NOT IN (");
    for (at = d->columns; !e && column_next(&at, &name, &type);) {
        e = n++ ? buf_append_str(out, ", ") : ERR_OK;
        e = e ? e : put_quoted(out, name, '\'', true);
    }
    e = e ? e : buf_append_str(out, "))");
    for (at = d->columns; !e && column_next(&at, &name, &type);)
        e = put_typed(out, name, type, tolerant);
    return e ? e : buf_append_str(out, " FROM ");
}

/* The records, for questions about their times: no value makes them fail. */
static enum err put_source(const struct transform_def *d, struct buf *out)
{
    enum err e;

    if (!d->columns[0])
        return buf_append_str(out, TRANSFORM_RECORDS);
    e = buf_append_u8(out, '(');
    e = e ? e : put_columns(d, true, out);
    return e ? e : buf_append_str(out, TRANSFORM_RECORDS ")");
}

/* ---- times ---- */

/* NULL where there is none; an error of the expression is none. */
static enum err put_time(const struct transform_def *d, struct buf *out)
{
    return buf_printf(out, "TRY(CAST((%s) AS TIMESTAMPTZ))", d->time);
}

static enum err put_span(const struct transform_def *d, int64_t from_us, int64_t to_us,
                         struct buf *out)
{
    enum err e = buf_append_str(out, " WHERE ");

    e = e ? e : put_time(d, out);
    e = e ? e : buf_append_str(out, " IS NOT NULL");
    if (!e && from_us > INT64_MIN) {
        e = buf_append_str(out, " AND ");
        e = e ? e : put_time(d, out);
        e = e ? e : buf_printf(out, " >= make_timestamptz(%" PRId64 ")", from_us);
    }
    if (!e && to_us < INT64_MAX) {
        e = buf_append_str(out, " AND ");
        e = e ? e : put_time(d, out);
        e = e ? e : buf_printf(out, " < make_timestamptz(%" PRId64 ")", to_us);
    }
    return e;
}

/* Where the statement proper begins: behind space and comments. */
static const char *skip_space(const char *p)
{
    for (;;) {
        while (isspace((unsigned char)*p))
            p++;
        if (p[0] == '-' && p[1] == '-') {
            while (*p && *p != '\n')
                p++;
        } else if (p[0] == '/' && p[1] == '*') {
            const char *end = strstr(p + 2, "*/");

            p = end ? end + 2 : p + strlen(p);
        } else {
            return p;
        }
    }
}

static const char *skip_word(const char *p, const char *word)
{
    size_t n = strlen(word);

    if (strncasecmp(p, word, n) != 0 || isalnum((unsigned char)p[n]) || p[n] == '_')
        return NULL;
    return skip_space(p + n);
}

enum err transform_statement(const struct transform_def *d, int64_t from_us, int64_t to_us,
                             struct buf *out)
{
    const char *rest = skip_space(d->sql), *with, *recursive;
    enum err e;

    buf_clear(out);
    if (!wrapped(d)) {
        e = buf_append_str(out, d->sql);
        return e ? e : buf_append_u8(out, 0);
    }
    with = skip_word(rest, "WITH");
    recursive = with ? skip_word(with, "RECURSIVE") : NULL;
    e = buf_printf(out, "WITH %s" TRANSFORM_INPUT " AS (", recursive ? "RECURSIVE " : "");
    e = e ? e : put_columns(d, false, out);
    if (!e && transform_windowed(d)) { /* those of other windows need no cast to succeed */
        e = buf_append_str(out, "(SELECT * FROM ");
        e = e ? e : put_source(d, out);
        e = e ? e : put_span(d, from_us, to_us, out);
        e = e ? e : buf_append_u8(out, ')');
    } else if (!e) {
        e = buf_append_str(out, TRANSFORM_RECORDS);
    }
    e = e ? e : buf_append_str(out, with ? "), " : ") ");
    e = e ? e : buf_append_str(out, recursive ? recursive : with ? with : rest);
    return e ? e : buf_append_u8(out, 0);
}

/* ---- questions ---- */

/* FROM (SELECT partition, "offset", TIME AS t FROM source) */
static enum err put_from_times(const struct transform_def *d, struct buf *out)
{
    enum err e = buf_append_str(out, " FROM (SELECT partition, \"offset\", ");

    e = e ? e : put_time(d, out);
    e = e ? e : buf_append_str(out, " AS t FROM ");
    e = e ? e : put_source(d, out);
    return e ? e : buf_append_str(out, ")");
}

enum err transform_times(const struct transform_def *d, int64_t closed_us, struct buf *out)
{
    char fits[96] = "t IS NOT NULL";
    enum err e;

    if (closed_us > INT64_MIN)
        snprintf(fits, sizeof fits, "t >= make_timestamptz(%" PRId64 ")", closed_us);
    buf_clear(out);
    e = buf_printf(out,
                   "SELECT CAST(partition AS BIGINT), epoch_us(max(t)), "
                   "count(*) - count(*) FILTER (WHERE %s), min(\"offset\") FILTER (WHERE %s), "
                   "epoch_us(min(t) FILTER (WHERE %s))",
                   fits, fits, fits);
    e = e ? e : put_from_times(d, out);
    e = e ? e : buf_append_str(out, " GROUP BY partition");
    return e ? e : buf_append_u8(out, 0);
}

enum err transform_strays(const struct transform_def *d, int64_t closed_us, struct buf *out)
{
    enum err e;

    buf_clear(out);
    e = buf_append_str(out, "SELECT CAST(partition AS BIGINT), \"offset\", "
                            "CAST(t IS NOT NULL AS BIGINT)");
    e = e ? e : put_from_times(d, out);
    e = e ? e : buf_append_str(out, " WHERE t IS NULL");
    if (!e && closed_us > INT64_MIN)
        e = buf_printf(out, " OR t < make_timestamptz(%" PRId64 ")", closed_us);
    e = e ? e : buf_append_str(out, " ORDER BY 1, 2");
    return e ? e : buf_append_u8(out, 0);
}

enum err transform_opens(const struct transform_def *d, int64_t closed_us, int64_t to_us,
                         struct buf *out)
{
    char closing[160];
    enum err e;

    snprintf(closing, sizeof closing, "t < make_timestamptz(%" PRId64 ")", to_us);
    if (closed_us > INT64_MIN)
        snprintf(closing, sizeof closing,
                 "t < make_timestamptz(%" PRId64 ") AND t >= make_timestamptz(%" PRId64 ")", to_us,
                 closed_us);
    buf_clear(out);
    e = buf_printf(out,
                   "SELECT CAST(partition AS BIGINT), min(\"offset\") FILTER (WHERE t >= "
                   "make_timestamptz(%" PRId64 ")), count(*) FILTER (WHERE %s)",
                   to_us, closing);
    e = e ? e : put_from_times(d, out);
    e = e ? e : buf_append_str(out, " GROUP BY partition");
    return e ? e : buf_append_u8(out, 0);
}

enum err transform_mark(const struct transform_def *d, int64_t greatest_us, int64_t least_us,
                        struct buf *out)
{
    enum err e;

    buf_clear(out);
    e = buf_printf(out,
                   "SELECT epoch_us(m), epoch_us(time_bucket(INTERVAL '%s', m)), "
                   "epoch_us(time_bucket(INTERVAL '%s', make_timestamptz(%" PRId64 "))) "
                   "FROM (SELECT make_timestamptz(%" PRId64 ") - INTERVAL '%s' AS m)",
                   d->window, d->window, least_us, greatest_us,
                   d->lateness[0] ? d->lateness : "0 seconds");
    return e ? e : buf_append_u8(out, 0);
}
