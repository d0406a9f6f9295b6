/* COPY … TO STDOUT. See copy.h. */
#include "proto/pgwire/copy.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/endian.h"
#include "proto/pgwire/msg.h"
#include "proto/pgwire/types.h"
#include "rows/lex.h"

/* ---- the statement ---- */

struct parsing {
    struct slice in;
    struct lex_token t; /* the one at hand */
    struct copy *c;
    struct errinfo *info;
    bool null_set, delimiter_set, escape_set, quoting; /* quoting: an option that only CSV has */
};

static void next(struct parsing *p)
{
    p->t = lex_next(&p->in);
}

static enum err wrong(struct parsing *p, const char *what)
{
    return errinfo_set(p->info, ERR_INVALID, "COPY: %s, at \"%.*s\"", what,
                       (int)(p->t.text.len > 40 ? 40 : p->t.text.len), (const char *)p->t.text.ptr);
}

static bool accept(struct parsing *p, const char *word)
{
    if (!lex_is(&p->t, word))
        return false;
    next(p);
    return true;
}

bool copy_is(struct slice sql)
{
    struct lex_token t = lex_next(&sql);

    return lex_is(&t, "copy");
}

/* In front of the query stands as much space as there was text, so that its errors have their places. */
static enum err query_parens(struct parsing *p, struct slice sql, struct buf *query)
{
    const uint8_t *from = p->t.text.ptr + 1, *to;
    unsigned depth = 1;
    enum err e = ERR_OK;
    size_t i;

    do {
        next(p);
        depth += lex_op(&p->t, '(');
        depth -= lex_op(&p->t, ')');
    } while (depth && p->t.kind != LEX_END);
    if (depth)
        return wrong(p, "a ) is missing");
    to = p->t.text.ptr;
    next(p);
    for (i = 0; i < (size_t)(from - sql.ptr) && !e; i++)
        e = buf_append_u8(query, ' ');
    return e ? e : buf_append(query, from, (size_t)(to - from));
}

/* COPY topic, COPY topic (column, …). */
static enum err query_table(struct parsing *p, struct buf *query)
{
    const uint8_t *name = p->t.text.ptr, *end = name, *columns = NULL, *columns_end = NULL;
    enum err e;

    while (p->t.kind == LEX_WORD || p->t.kind == LEX_QUOTED) {
        end = p->t.text.ptr + p->t.text.len;
        next(p);
        if (!lex_op(&p->t, '.'))
            break;
        next(p);
    }
    if (end == name)
        return wrong(p, "a topic or a query in parentheses is expected");
    if (lex_op(&p->t, '(')) {
        columns = p->t.text.ptr + 1;
        while (p->t.kind != LEX_END && !lex_op(&p->t, ')'))
            next(p);
        if (p->t.kind == LEX_END)
            return wrong(p, "a ) is missing");
        columns_end = p->t.text.ptr;
        next(p);
    }
    e = buf_append_str(query, "SELECT ");
    e = e         ? e
        : columns ? buf_append(query, columns, (size_t)(columns_end - columns))
                  : buf_append_str(query, "*");
    e = e ? e : buf_append_str(query, " FROM ");
    return e ? e : buf_append(query, name, (size_t)(end - name));
}

static enum err one_char(struct parsing *p, const char *text, char *out)
{
    if (strlen(text) != 1 || *text == '\n' || *text == '\r')
        return wrong(p, "delimiter, quote and escape are one byte each");
    *out = *text;
    return ERR_OK;
}

static enum err format_set(struct parsing *p, const char *name)
{
    static const char *const forms[] = {"text", "csv", "binary"};
    unsigned i;

    for (i = 0; i < 3; i++)
        if (strcasecmp(name, forms[i]) == 0) {
            p->c->form = (enum copy_form)i;
            return ERR_OK;
        }
    return wrong(p, "the format is text, csv or binary");
}

static enum err header_set(struct parsing *p, const char *v)
{
    bool yes = !*v || !strcasecmp(v, "true") || !strcasecmp(v, "on") || !strcmp(v, "1");

    if (!yes && strcasecmp(v, "false") != 0 && strcasecmp(v, "off") != 0 && strcmp(v, "0") != 0)
        return wrong(p, "HEADER is true or false");
    p->c->header = yes;
    return ERR_OK;
}

/* value: "" where none was given. */
static enum err option_set(struct parsing *p, const char *name, const char *value)
{
    struct copy *c = p->c;

    if (strcmp(name, "format") == 0)
        return format_set(p, value);
    if (strcmp(name, "header") == 0)
        return header_set(p, value);
    if (strcmp(name, "delimiter") == 0) {
        p->delimiter_set = true;
        return one_char(p, value, &c->delimiter);
    }
    if (strcmp(name, "null") == 0) {
        if (strlen(value) + 1 >= sizeof c->null || strpbrk(value, "\r\n"))
            return wrong(p, "NULL is a short text without line ends");
        p->null_set = true;
        snprintf(c->null, sizeof c->null, "%s", value);
        return ERR_OK;
    }
    if (strcmp(name, "quote") == 0) {
        p->quoting = true;
        return one_char(p, value, &c->quote);
    }
    if (strcmp(name, "escape") == 0) {
        p->quoting = p->escape_set = true;
        return one_char(p, value, &c->escape);
    }
    if (strcmp(name, "encoding") == 0 &&
        (!strcasecmp(value, "utf8") || !strcasecmp(value, "utf-8")))
        return ERR_OK;
    return errinfo_set(p->info, ERR_UNSUPPORTED, "COPY's option %s is not supported", name);
}

/* A literal; of E'…' the escapes that a delimiter may need. */
static bool literal(const struct lex_token *t, char *out, size_t n)
{
    static const char letters[] = "bfnrt", plain[] = "\b\f\n\r\t";
    struct lex_token inner = *t;
    char *to = out;
    const char *at;

    if (t->kind != LEX_STRING || t->text.len < 3 || (t->text.ptr[0] | 32) != 'e')
        return lex_string(t, out, n);
    inner.text = slice_of(t->text.ptr + 1, t->text.len - 1);
    if (!lex_string(&inner, out, n))
        return false;
    for (; *out; out++) {
        if (*out == '\\' && out[1])
            *to++ = (at = strchr(letters, *++out)) ? plain[at - letters] : *out;
        else
            *to++ = *out;
    }
    *to = 0;
    return true;
}

/* A word, number or literal, which is taken; "" if there is none. */
static void value_take(struct parsing *p, char *out, size_t n)
{
    *out = 0;
    if (literal(&p->t, out, n) || lex_name(&p->t, out, n)) {
        next(p);
    } else if (p->t.kind == LEX_NUMBER) {
        snprintf(out, n, "%.*s", (int)p->t.text.len, (const char *)p->t.text.ptr);
        next(p);
    }
}

/* (FORMAT csv, HEADER, …) */
static enum err options_list(struct parsing *p)
{
    char name[32], value[COPY_NULL_MAX + 1];
    enum err e;

    do {
        next(p);
        if (p->t.kind != LEX_WORD)
            return wrong(p, "an option is expected");
        lex_name(&p->t, name, sizeof name);
        next(p);
        value_take(p, value, sizeof value);
        if ((e = option_set(p, name, value)))
            return e;
    } while (lex_op(&p->t, ','));
    if (!lex_op(&p->t, ')'))
        return wrong(p, "a ) is missing behind the options");
    next(p);
    return ERR_OK;
}

/* The way before PostgreSQL 9, which psql's \copy still passes on: CSV HEADER DELIMITER AS ';' … */
static enum err options_words(struct parsing *p)
{
    char name[32], value[COPY_NULL_MAX + 1];
    enum err e = ERR_OK;

    while (p->t.kind == LEX_WORD && !e) {
        lex_name(&p->t, name, sizeof name);
        next(p);
        if (strcmp(name, "csv") == 0 || strcmp(name, "binary") == 0) {
            e = format_set(p, name);
        } else if (strcmp(name, "header") == 0) {
            p->c->header = true;
        } else {
            accept(p, "as");
            *value = 0;
            if (!literal(&p->t, value, sizeof value))
                return wrong(p, "a literal is expected");
            next(p);
            e = option_set(p, name, value);
        }
    }
    return e;
}

static enum err options(struct parsing *p)
{
    struct copy *c = p->c;
    enum err e;

    accept(p, "with");
    e = lex_op(&p->t, '(') ? options_list(p) : options_words(p);
    if (e)
        return e;
    if (p->t.kind != LEX_END)
        return wrong(p, "something is behind its end");
    if (c->form == COPY_BINARY && (c->header || p->null_set || p->delimiter_set || p->quoting))
        return wrong(p, "the binary format has no options");
    if (p->quoting && c->form != COPY_CSV)
        return wrong(p, "only the format csv has quotes");
    if (!p->delimiter_set)
        c->delimiter = c->form == COPY_CSV ? ',' : '\t';
    if (!p->null_set)
        snprintf(c->null, sizeof c->null, "%s", c->form == COPY_CSV ? "" : "\\N");
    if (!p->escape_set)
        c->escape = c->quote;
    if (c->form == COPY_CSV && c->delimiter == c->quote)
        return wrong(p, "delimiter and quote are the same");
    if (c->form == COPY_TEXT && strchr("\\abcdefghijklmnopqrstuvwxyz0123456789.", c->delimiter))
        return wrong(p, "this delimiter cannot be told from text");
    return ERR_OK;
}

enum err copy_parse(struct slice sql, struct copy *c, struct buf *query, bool *moved,
                    struct errinfo *info)
{
    struct parsing p = {.in = sql, .c = c, .info = info};
    enum err e;

    *c = (struct copy){.quote = '"'};
    next(&p);
    next(&p); /* COPY */
    *moved = !lex_op(&p.t, '(');
    e = *moved ? query_table(&p, query) : query_parens(&p, sql, query);
    if (e)
        return e;
    if (lex_is(&p.t, "from"))
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "COPY FROM is not supported: topics are written over HTTP or Kafka");
    if (!accept(&p, "to"))
        return wrong(&p, "TO STDOUT is expected");
    if (!accept(&p, "stdout"))
        return errinfo_set(info, ERR_UNSUPPORTED, "COPY goes TO STDOUT only");
    return options(&p);
}

/* ---- rows ---- */

static enum err text_put(const struct copy *c, struct slice s, struct buf *out)
{
    static const char plain[] = "\b\f\n\r\t\v", letters[] = "bfnrtv";
    size_t i, from = 0;
    enum err e = ERR_OK;

    if (s.len == 0)
        return ERR_OK;
    for (i = 0; i < s.len && !e; i++) {
        const char *at = s.ptr[i] < ' ' && s.ptr[i] ? strchr(plain, s.ptr[i]) : NULL;

        if (!at && s.ptr[i] != '\\' && s.ptr[i] != (uint8_t)c->delimiter)
            continue;
        e = buf_append(out, s.ptr + from, i - from);
        e = e ? e : buf_append_u8(out, '\\');
        if (at)
            e = e ? e : buf_append_u8(out, (uint8_t)letters[at - plain]);
        from = i + (at != NULL);
    }
    return e ? e : buf_append(out, s.ptr + from, s.len - from);
}

static enum err csv_put(const struct copy *c, struct slice s, bool alone, struct buf *out)
{
    bool quote = slice_eq_str(s, c->null) || (alone && slice_eq_str(s, "\\."));
    size_t i, from = 0;
    enum err e;

    for (i = 0; i < s.len && !quote; i++)
        quote = s.ptr[i] == (uint8_t)c->delimiter || s.ptr[i] == (uint8_t)c->quote ||
                s.ptr[i] == '\n' || s.ptr[i] == '\r';
    if (!quote)
        return buf_append_slice(out, s);
    e = buf_append_u8(out, (uint8_t)c->quote);
    for (i = 0; i < s.len && !e; i++)
        if (s.ptr[i] == (uint8_t)c->quote || s.ptr[i] == (uint8_t)c->escape) {
            e = buf_append(out, s.ptr + from, i - from);
            e = e ? e : buf_append_u8(out, (uint8_t)c->escape);
            from = i;
        }
    if (!e && s.len)
        e = buf_append(out, s.ptr + from, s.len - from);
    return e ? e : buf_append_u8(out, (uint8_t)c->quote);
}

static enum err value_put(const struct copy *c, struct slice s, bool alone, struct buf *out)
{
    return c->form == COPY_CSV ? csv_put(c, s, alone, out) : text_put(c, s, out);
}

enum err copy_head(const struct copy *c, const struct sql_columns *columns, struct buf *out)
{
    size_t at = pg_begin(out, 'H');
    enum err e = ERR_OK;
    uint32_t i;

    buf_append_u8(out, c->form == COPY_BINARY);
    buf_append_be16(out, (uint16_t)columns->n);
    for (i = 0; i < columns->n; i++)
        buf_append_be16(out, c->form == COPY_BINARY);
    pg_end(out, at);
    if (!c->header)
        return ERR_OK;
    at = out->len;
    e = buf_append(out, "d\0\0\0\0", 5);
    for (i = 0; i < columns->n && !e; i++) {
        if (i)
            e = buf_append_u8(out, (uint8_t)c->delimiter);
        e = e ? e : value_put(c, slice_str(columns->name[i]), columns->n == 1, out);
    }
    return pg_message_end(out, at, e ? e : buf_append_u8(out, '\n'));
}

/* Before the first row: what the format begins with, flags, the length of no more head. Clients want it
 * in the same CopyData, as PostgreSQL gives it. */
static const uint8_t signature[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";

/* Fields stand as in a DataRow. */
static enum err binary_row(const struct sql_chunk *rows, uint32_t row, bool first, struct buf *tmp,
                           struct buf *out)
{
    static const uint8_t binary[2] = {0, 1};
    size_t at = out->len;
    enum err e;

    if (!first) {
        e = pg_data_row(rows, row, binary, 1, out);
        if (!e)
            out->ptr[at] = 'd';
        return e;
    }
    e = pg_data_row(rows, row, binary, 1, tmp);
    e = e ? e : buf_append(out, "d\0\0\0\0", 5);
    e = e ? e : buf_append(out, signature, sizeof signature);
    e = e ? e : buf_append(out, tmp->ptr + 5, tmp->len - 5);
    buf_clear(tmp);
    return pg_message_end(out, at, e);
}

enum err copy_row(const struct copy *c, const struct sql_chunk *rows, uint32_t row, bool first,
                  struct buf *tmp, struct buf *out)
{
    size_t at = out->len;
    enum err e;
    uint32_t i;

    if (c->form == COPY_BINARY)
        return binary_row(rows, row, first, tmp, out);
    e = buf_append(out, "d\0\0\0\0", 5);
    for (i = 0; i < rows->columns_n && !e; i++) {
        if (i)
            e = buf_append_u8(out, (uint8_t)c->delimiter);
        if (e || !sql_valid(&rows->column[i], row)) {
            e = e ? e : buf_append_str(out, c->null);
            continue;
        }
        e = sql_value_text(&rows->column[i], row, tmp);
        e = e ? e : value_put(c, buf_slice(tmp), rows->columns_n == 1, out);
        buf_clear(tmp);
    }
    return pg_message_end(out, at, e ? e : buf_append_u8(out, '\n'));
}

void copy_end(enum copy_form form, bool none, struct buf *out)
{
    size_t at;

    if (form == COPY_BINARY) {
        at = pg_begin(out, 'd');
        if (none)
            buf_append(out, signature, sizeof signature);
        buf_append_be16(out, UINT16_MAX);
        pg_end(out, at);
    }
    pg_empty(out, 'c');
}
