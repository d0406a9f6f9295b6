/* See token.h. */
#include "sql/token.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static bool name_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c >= 0x80;
}

/* Behind a run that ends with `quote`, which doubled stands for itself. */
static size_t quoted_end(struct slice s, size_t i, uint8_t quote, bool backslash)
{
    for (i++; i < s.len; i++) {
        if (backslash && s.ptr[i] == '\\')
            i++;
        else if (s.ptr[i] == quote) {
            if (i + 1 < s.len && s.ptr[i + 1] == quote)
                i++;
            else
                return i + 1;
        }
    }
    return s.len;
}

/* $tag$ … $tag$; 0: it is not one. */
static size_t dollar_end(struct slice s, size_t i)
{
    size_t k = i + 1, len;
    const uint8_t *hit;

    while (k < s.len && s.ptr[k] != '$' && name_char(s.ptr[k]))
        k++;
    if (k >= s.len || s.ptr[k] != '$' || (k > i + 1 && s.ptr[i + 1] <= '9'))
        return 0;
    len = k + 1 - i;
    hit = memmem(s.ptr + k + 1, s.len - k - 1, s.ptr + i, len);
    return hit ? (size_t)(hit - s.ptr) + len : s.len;
}

static size_t comment_end(struct slice s, size_t i)
{
    size_t depth = 0;

    if (s.ptr[i] == '-') {
        while (i < s.len && s.ptr[i] != '\n')
            i++;
        return i;
    }
    for (; i + 1 < s.len; i++) {
        if (s.ptr[i] == '/' && s.ptr[i + 1] == '*') {
            depth++;
            i++;
        } else if (s.ptr[i] == '*' && s.ptr[i + 1] == '/') {
            i++;
            if (--depth == 0)
                return i + 1;
        }
    }
    return s.len;
}

static void token_add(struct tokens *t, enum token_kind kind, size_t from, size_t to)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->v = xrealloc(t->v, t->cap * sizeof *t->v);
    }
    t->v[t->n++] = (struct token){kind, (uint32_t)from, (uint32_t)to, 0};
}

/* The token at i; returns where it ends. */
static size_t token_take(struct tokens *t, struct slice s, size_t i)
{
    uint8_t c = s.ptr[i], next = i + 1 < s.len ? s.ptr[i + 1] : 0;
    size_t end = i + 1;
    enum token_kind kind = TOKEN_OTHER;

    if (c == '\'' || c == '"') {
        end = quoted_end(s, i, c, false);
        kind = c == '"' ? TOKEN_QUOTED : TOKEN_STRING;
    } else if ((c | 32) == 'e' && next == '\'') {
        end = quoted_end(s, i + 1, '\'', true);
        kind = TOKEN_STRING;
    } else if (c == '$') {
        end = dollar_end(s, i);
        kind = end ? TOKEN_STRING : TOKEN_PARAM;
        for (end = end ? end : i + 1; kind == TOKEN_PARAM && end < s.len && name_char(s.ptr[end]);)
            end++;
    } else if (c == '?') {
        while (end < s.len && s.ptr[end] >= '0' && s.ptr[end] <= '9')
            end++;
        kind = TOKEN_PARAM;
    } else if (name_char(c)) {
        kind = c >= '0' && c <= '9' ? TOKEN_NUMBER : TOKEN_NAME;
        while (end < s.len &&
               (name_char(s.ptr[end]) || (kind == TOKEN_NUMBER && s.ptr[end] == '.')))
            end++;
    } else if (c == '-' && next == '>') {
        end = i + 2 + (i + 2 < s.len && s.ptr[i + 2] == '>');
        kind = TOKEN_ARROW;
    } else if (c == ':' && next == ':') {
        end = i + 2;
    }
    token_add(t, kind, i, end);
    return end;
}

void tokens_make(struct tokens *t, struct slice s)
{
    size_t i = 0;

    while (i < s.len) {
        uint8_t c = s.ptr[i], next = i + 1 < s.len ? s.ptr[i + 1] : 0;

        if (c <= ' ')
            i++;
        else if ((c == '-' && next == '-') || (c == '/' && next == '*'))
            i = comment_end(s, i);
        else
            i = token_take(t, s, i);
    }
}

bool token_is(const struct tokens *t, uint32_t i, struct slice s, const char *word)
{
    size_t n = strlen(word);

    return i < t->n && t->v[i].to - t->v[i].from == n &&
           !strncasecmp((const char *)s.ptr + t->v[i].from, word, n);
}
