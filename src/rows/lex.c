/* SQL as tokens. See lex.h. */
#include "rows/lex.h"

#include <stdlib.h>
#include <strings.h>

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_start(uint8_t c)
{
    return ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || c >= 128;
}

static bool is_part(uint8_t c)
{
    return is_start(c) || is_digit(c) || c == '$';
}

/* Behind a comment that begins at i; i itself if none does. Comments of the second kind nest. */
static size_t comment_end(struct slice s, size_t i)
{
    unsigned depth = 0;

    if (i + 1 >= s.len)
        return i;
    if (s.ptr[i] == '-' && s.ptr[i + 1] == '-') {
        while (i < s.len && s.ptr[i] != '\n')
            i++;
        return i;
    }
    if (s.ptr[i] != '/' || s.ptr[i + 1] != '*')
        return i;
    while (i < s.len) {
        bool two = i + 1 < s.len;

        if (two && s.ptr[i] == '/' && s.ptr[i + 1] == '*') {
            depth++;
            i += 2;
        } else if (two && s.ptr[i] == '*' && s.ptr[i + 1] == '/') {
            i += 2;
            if (--depth == 0)
                break;
        } else {
            i++;
        }
    }
    return i;
}

static size_t space_end(struct slice s)
{
    size_t i = 0, j;

    for (;;) {
        while (i < s.len && is_space(s.ptr[i]))
            i++;
        j = comment_end(s, i);
        if (j == i)
            return i;
        i = j;
    }
}

/* Behind the closing quote of the literal whose opening one is at i; doubled quotes are inside. */
static size_t quoted_end(struct slice s, size_t i, bool backslash)
{
    uint8_t q = s.ptr[i++];

    for (; i < s.len; i++) {
        if (backslash && s.ptr[i] == '\\') {
            i++;
        } else if (s.ptr[i] == q) {
            if (i + 1 >= s.len || s.ptr[i + 1] != q)
                return i + 1;
            i++;
        }
    }
    return s.len;
}

/* $tag$…$tag$; 0: it is none. */
static size_t dollar_end(struct slice s)
{
    size_t tag = 1;
    const uint8_t *end;

    while (tag < s.len && is_part(s.ptr[tag]) && s.ptr[tag] != '$')
        tag++;
    if (tag >= s.len || s.ptr[tag] != '$' || is_digit(s.ptr[1]))
        return 0;
    tag++;
    end = memmem(s.ptr + tag, s.len - tag, s.ptr, tag);
    return end ? (size_t)(end - s.ptr) + tag : s.len;
}

static size_t word_end(struct slice s)
{
    size_t i = 1;

    while (i < s.len && is_part(s.ptr[i]))
        i++;
    return i;
}

static size_t number_end(struct slice s)
{
    size_t i = 0;

    while (i < s.len && (is_part(s.ptr[i]) || s.ptr[i] == '.' ||
                         ((s.ptr[i] == '+' || s.ptr[i] == '-') && (s.ptr[i - 1] | 32) == 'e')))
        i++;
    return i;
}

static size_t token_end(struct slice s, enum lex_kind *kind)
{
    uint8_t c = s.ptr[0], d = s.len > 1 ? s.ptr[1] : 0;
    size_t n;

    if (c == '\'' || ((c | 32) == 'e' && d == '\'')) {
        *kind = LEX_STRING;
        return quoted_end(s, c != '\'', c != '\'');
    }
    if (c == '"') {
        *kind = LEX_QUOTED;
        return quoted_end(s, 0, false);
    }
    if (c == '$' && is_digit(d)) {
        *kind = LEX_PARAM;
        for (n = 1; n < s.len && is_digit(s.ptr[n]); n++)
            ;
        return n;
    }
    if (c == '$' && (n = dollar_end(s))) {
        *kind = LEX_STRING;
        return n;
    }
    if (is_start(c)) {
        *kind = LEX_WORD;
        return word_end(s);
    }
    if (is_digit(c) || (c == '.' && is_digit(d))) {
        *kind = LEX_NUMBER;
        return number_end(s);
    }
    *kind = LEX_OTHER;
    return c == ':' && d == ':' ? 2 : 1;
}

struct lex_token lex_next(struct slice *in)
{
    struct lex_token t = {LEX_END, SLICE_NULL};
    size_t n = space_end(*in);

    *in = slice_of(in->ptr + n, in->len - n);
    t.text = slice_of(in->ptr, 0);
    if (in->len == 0)
        return t;
    n = token_end(*in, &t.kind);
    t.text = slice_of(in->ptr, n);
    *in = slice_of(in->ptr + n, in->len - n);
    return t;
}

bool lex_is(const struct lex_token *t, const char *word)
{
    return t->kind == LEX_WORD && strlen(word) == t->text.len &&
           strncasecmp((const char *)t->text.ptr, word, t->text.len) == 0;
}

bool lex_op(const struct lex_token *t, char c)
{
    return t->kind == LEX_OTHER && t->text.len == 1 && t->text.ptr[0] == (uint8_t)c;
}

bool lex_name(const struct lex_token *t, char *out, size_t n)
{
    size_t i, k = 0, from = t->kind == LEX_QUOTED, to = t->text.len - from;

    if (t->kind != LEX_WORD && t->kind != LEX_QUOTED)
        return false;
    for (i = from; i < to && k + 1 < n; i++) {
        uint8_t c = t->text.ptr[i];

        if (from && c == '"')
            i++;
        out[k++] = (char)(!from && c >= 'A' && c <= 'Z' ? c | 32 : c);
    }
    out[k] = 0;
    return true;
}

bool lex_string(const struct lex_token *t, char *out, size_t n)
{
    size_t i, k = 0;

    if (t->kind != LEX_STRING || t->text.len < 2 || t->text.ptr[0] != '\'')
        return false;
    for (i = 1; i + 1 < t->text.len && k + 1 < n; i++) {
        out[k++] = (char)t->text.ptr[i];
        if (t->text.ptr[i] == '\'')
            i++;
    }
    out[k] = 0;
    return true;
}

bool lex_statement(struct slice *in, struct slice *out)
{
    size_t n = space_end(*in);
    struct lex_token t;
    const uint8_t *end;

    *in = slice_of(in->ptr + n, in->len - n);
    if (in->len == 0)
        return false;
    *out = *in;
    end = in->ptr;
    for (t = lex_next(in); t.kind != LEX_END && !lex_op(&t, ';'); t = lex_next(in))
        end = t.text.ptr + t.text.len;
    out->len = (size_t)(end - out->ptr);
    return true;
}

unsigned lex_params(struct slice text)
{
    struct lex_token t;
    unsigned long n, max = 0;

    for (t = lex_next(&text); t.kind != LEX_END; t = lex_next(&text)) {
        if (t.kind != LEX_PARAM || t.text.len > 6)
            continue;
        n = strtoul((const char *)t.text.ptr + 1, NULL, 10);
        max = n > max ? n : max;
    }
    return (unsigned)(max > 65535 ? 65535 : max);
}
