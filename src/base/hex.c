/* Hexadecimal and base64. See hex.h. */
#include "base/hex.h"

static const char digit[] = "0123456789abcdef";
static const char sixty[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_encode(const void *p, size_t n, char *out)
{
    const uint8_t *d = p;
    size_t i;

    for (i = 0; i < n; i++) {
        out[2 * i] = digit[d[i] >> 4];
        out[2 * i + 1] = digit[d[i] & 15];
    }
    out[2 * n] = 0;
}

static int value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *s, size_t n, uint8_t *out)
{
    size_t i;

    for (i = 0; i < n; i++) {
        int hi = value(s[2 * i]), lo = hi < 0 ? -1 : value(s[2 * i + 1]);

        if (lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

void base64_encode(const void *p, size_t n, char *out)
{
    const uint8_t *d = p;

    for (; n >= 3; n -= 3, d += 3) {
        *out++ = sixty[d[0] >> 2];
        *out++ = sixty[(d[0] & 3) << 4 | d[1] >> 4];
        *out++ = sixty[(d[1] & 15) << 2 | d[2] >> 6];
        *out++ = sixty[d[2] & 63];
    }
    if (n) {
        uint8_t second = n == 2 ? d[1] : 0;

        *out++ = sixty[d[0] >> 2];
        *out++ = sixty[(d[0] & 3) << 4 | second >> 4];
        *out++ = n == 2 ? sixty[(second & 15) << 2] : '=';
        *out++ = '=';
    }
    *out = 0;
}

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *s, size_t len, uint8_t *out, size_t *out_len)
{
    size_t i, pad = 0, n = 0;

    if (len % 4)
        return false;
    while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
        pad++;
    for (i = 0; i < len; i += 4) {
        size_t k, take = i + 4 == len ? 4 - pad : 4;
        uint32_t v = 0;

        for (k = 0; k < 4; k++) {
            int x = k < take ? sextet(s[i + k]) : 0;

            if (x < 0)
                return false;
            v = v << 6 | (uint32_t)x;
        }
        if (take < 4 && (v & (take == 2 ? 0xffffu : 0xffu)))
            return false; /* bits that belong to no byte: only one spelling is accepted */
        for (k = 0; k + 1 < take; k++)
            out[n++] = (uint8_t)(v >> (16 - 8 * k));
    }
    *out_len = n;
    return true;
}
