/* See walk.h. */
#include "cli/walk.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static void space(struct walk *w)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\n' || *w->p == '\r' || *w->p == '\t'))
        w->p++;
}

bool walk_take(struct walk *w, char c)
{
    space(w);
    if (w->p < w->end && *w->p == (uint8_t)c) {
        w->p++;
        return true;
    }
    return false;
}

void walk_need(struct walk *w, char c)
{
    if (!walk_take(w, c))
        w->bad = true;
}

/* Behind the string that begins at p. */
static const uint8_t *string_end(struct walk *w)
{
    const uint8_t *p = w->p + 1;

    while (p < w->end && *p != '"')
        p += *p == '\\' ? 2 : 1;
    if (p >= w->end)
        w->bad = true;
    return p < w->end ? p + 1 : w->end;
}

struct slice walk_value(struct walk *w)
{
    const uint8_t *from;
    unsigned depth = 0;

    space(w);
    from = w->p;
    while (w->p < w->end) {
        uint8_t c = *w->p;

        if (c == '"') {
            w->p = string_end(w);
        } else {
            if (depth == 0 && (c == ',' || c == ']' || c == '}' || c == '\n'))
                break;
            depth += c == '[' || c == '{';
            depth -= c == ']' || c == '}';
            w->p++;
        }
        if (depth == 0 && (c == '"' || c == ']' || c == '}'))
            break;
    }
    if (w->p == from)
        w->bad = true;
    return slice_of(from, (size_t)(w->p - from));
}

static void utf8_put(struct buf *b, uint32_t c)
{
    if (c < 0x80) {
        buf_append_u8(b, (uint8_t)c);
    } else if (c < 0x800) {
        buf_append_u8(b, (uint8_t)(0xc0 | c >> 6));
        buf_append_u8(b, (uint8_t)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        buf_append_u8(b, (uint8_t)(0xe0 | c >> 12));
        buf_append_u8(b, (uint8_t)(0x80 | (c >> 6 & 63)));
        buf_append_u8(b, (uint8_t)(0x80 | (c & 63)));
    } else {
        buf_append_u8(b, (uint8_t)(0xf0 | c >> 18));
        buf_append_u8(b, (uint8_t)(0x80 | (c >> 12 & 63)));
        buf_append_u8(b, (uint8_t)(0x80 | (c >> 6 & 63)));
        buf_append_u8(b, (uint8_t)(0x80 | (c & 63)));
    }
}

static uint32_t hex4(const uint8_t *p, const uint8_t *end)
{
    char text[5] = "";

    if (end - p >= 4)
        memcpy(text, p, 4);
    return (uint32_t)strtoul(text, NULL, 16);
}

/* The character of an escape at *p (behind the backslash); moves *p behind it. */
static uint32_t escape(const uint8_t **p, const uint8_t *end)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    uint32_t c = *(*p)++;
    const char *at;

    if (c != 'u')
        return (at = strchr(from, (int)c)) && c ? (uint32_t)to[at - from] : c;
    c = hex4(*p, end);
    *p += end - *p >= 4 ? 4 : end - *p;
    if (c >= 0xd800 && c < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u') {
        c = 0x10000 + ((c - 0xd800) << 10) + (hex4(*p + 2, end) - 0xdc00);
        *p += 6;
    }
    return c;
}

/* Control characters as something to see. */
static void visible(struct buf *b, uint32_t c)
{
    if (c == '\n')
        buf_append_str(b, "\\n");
    else if (c == '\t')
        buf_append_str(b, "\\t");
    else if (c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0))
        buf_printf(b, "\\x%02X", (unsigned)c);
    else
        utf8_put(b, c);
}

static void content(struct slice v, struct buf *b, void (*put)(struct buf *b, uint32_t c))
{
    const uint8_t *p = v.ptr, *end = p + v.len;

    if (v.len < 2 || *p != '"') {
        buf_append_slice(b, v);
        return;
    }
    for (p++, end--; p < end;) {
        uint32_t c = *p++;

        if (c == '\\' && p < end)
            c = escape(&p, end);
        else if (c >= 0x80) {
            buf_append_u8(b, (uint8_t)c);
            continue;
        }
        put(b, c);
    }
}

void walk_plain(struct slice v, struct buf *b)
{
    content(v, b, visible);
}

void walk_text(struct slice v, struct buf *b)
{
    content(v, b, utf8_put);
}

size_t walk_char(const char *s, mbstate_t *state, unsigned *width)
{
    wchar_t c;
    size_t k = mbrtowc(&c, s, MB_CUR_MAX, state);
    int w;

    if (k == (size_t)-1 || k == (size_t)-2) {
        memset(state, 0, sizeof *state);
        *width = 1;
        return 1;
    }
    w = wcwidth(c);
    *width = w > 0 ? (unsigned)w : 0;
    return k ? k : 1;
}

unsigned walk_width(const char *s)
{
    mbstate_t state;
    unsigned n = 0, w;

    memset(&state, 0, sizeof state);
    while (*s) {
        s += walk_char(s, &state, &w);
        n += w;
    }
    return n;
}
