/* JSON text. See json_write.h. */
#include "base/json_write.h"

#include "base/endian.h"
#include "base/hex.h"
#include "base/utf8.h"

static enum err escaped(struct buf *b, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t t[6] = {'\\', 0, '0', '0', 0, 0};

    switch (c) {
    case '"':
    case '\\':
        t[1] = c;
        return buf_append(b, t, 2);
    case '\n':
        t[1] = 'n';
        return buf_append(b, t, 2);
    case '\r':
        t[1] = 'r';
        return buf_append(b, t, 2);
    case '\t':
        t[1] = 't';
        return buf_append(b, t, 2);
    default:
        t[1] = 'u';
        t[4] = (uint8_t)hex[c >> 4];
        t[5] = (uint8_t)hex[c & 15];
        return buf_append(b, t, 6);
    }
}

/* Whether any of the eight bytes is a control character, a quote, a backslash or above ASCII. */
static bool special(uint64_t x)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t q = x ^ '"' * ones, b = x ^ '\\' * ones;

    return (((x - 0x20 * ones) | (q - ones) | (b - ones) | x) & high) != 0;
}

/* Length of the run at p that needs no change. */
static size_t plain_run(const uint8_t *p, size_t n)
{
    size_t i = 0, k;

    while (i < n) {
        if (n - i >= 8 && !special(le64_load(p + i))) {
            i += 8;
            continue;
        }
        if (p[i] < 0x80) {
            if (p[i] < 0x20 || p[i] == '"' || p[i] == '\\')
                break;
            i++;
            continue;
        }
        k = utf8_next(slice_of(p + i, n - i));
        if (k == 0)
            break;
        i += k;
    }
    return i;
}

enum err json_write_string(struct buf *b, struct slice s)
{
    const uint8_t *p = s.ptr;
    size_t n = s.len, run;
    enum err e = buf_append_u8(b, '"');

    while (!e && n) {
        run = plain_run(p, n);
        e = buf_append(b, p, run);
        p += run;
        n -= run;
        if (e || n == 0)
            break;
        e = *p < 0x80 ? escaped(b, *p) : buf_append(b, "\xef\xbf\xbd", 3);
        p++;
        n--;
    }
    return e ? e : buf_append_u8(b, '"');
}

enum err json_write_u64(struct buf *b, uint64_t v)
{
    char t[20];
    int i = sizeof t;

    do {
        t[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return buf_append(b, t + i, sizeof t - (size_t)i);
}

enum err json_write_base64(struct buf *b, struct slice s)
{
    enum err e = buf_reserve(b, BASE64_LEN(s.len) + 3);

    if (e)
        return e;
    b->ptr[b->len++] = '"';
    base64_encode(s.ptr, s.len, (char *)b->ptr + b->len);
    b->len += BASE64_LEN(s.len);
    b->ptr[b->len++] = '"';
    return ERR_OK;
}

enum err json_write_bytes(struct buf *b, const char *name, struct slice s)
{
    enum err e;

    if (slice_is_null(s))
        return buf_printf(b, "\"%s\":null", name);
    if (utf8_valid(s)) {
        e = buf_printf(b, "\"%s\":", name);
        return e ? e : json_write_string(b, s);
    }
    e = buf_printf(b, "\"%s_base64\":", name);
    return e ? e : json_write_base64(b, s);
}

enum err json_write_i64(struct buf *b, int64_t v)
{
    enum err e = ERR_OK;

    if (v < 0) {
        e = buf_append_u8(b, '-');
        return e ? e : json_write_u64(b, 0 - (uint64_t)v);
    }
    return json_write_u64(b, (uint64_t)v);
}
