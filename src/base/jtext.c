/* The strict JSON scanner and the small writers. See jtext.h.
 *
 * The scanner is a loop with one bit a level (object or array), so a deep text costs no stack.
 * Inside strings it goes 16 bytes at a time where the machine has SSE2 and stops only at what needs
 * a look: quotes, backslashes, control characters, bytes of multi-byte UTF-8.
 *
 * Invariants: p never passes end; after false, why is set and nothing is consumed any more. */
#include "base/jtext.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"
#include "base/utf8.h"

/* ---- scanning ---- */

static bool bad(struct jtext_scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return false;
}

void jtext_scan_init(struct jtext_scan *s, struct slice text, unsigned depth_max)
{
    if (!text.ptr)
        text = SLICE_LIT("");
    *s = (struct jtext_scan){
        .start = text.ptr,
        .p = text.ptr,
        .end = text.ptr + text.len,
        .depth_max = depth_max < JTEXT_DEPTH_CAP ? depth_max : JTEXT_DEPTH_CAP,
    };
}

static inline bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline void skip_space(struct jtext_scan *s)
{
    while (s->p < s->end && is_space(*s->p))
        s->p++;
}

bool jtext_more(struct jtext_scan *s)
{
    skip_space(s);
    return s->p < s->end;
}

bool jtext_accept(struct jtext_scan *s, uint8_t c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

bool jtext_expect(struct jtext_scan *s, uint8_t c, const char *why)
{
    return jtext_accept(s, c) || bad(s, s->p == s->end ? "the text ends early" : why);
}

/* First byte from p on that is a quote, a backslash, below 0x20 or above 0x7f; end if none. */
static inline const uint8_t *plain_end(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i low = _mm_set1_epi8(0x1f);

    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));
        int mask;

        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(v, low), v));
        mask = _mm_movemask_epi8(_mm_or_si128(hit, v)); /* v itself: its high bits */
        if (mask)
            return p + __builtin_ctz((unsigned)mask);
        p += 16;
    }
#endif
    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p (which has them in reach); -1: not so. */
static int hex4(const uint8_t *p, const uint8_t *end)
{
    int v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(p[i]);

        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* Length of the escape at p ('\\'); 0: not one. */
static unsigned escape_len(const uint8_t *p, const uint8_t *end)
{
    int u;

    if (end - p < 2)
        return 0;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        u = hex4(p + 2, end);
        if (u < 0 || (u >= 0xdc00 && u <= 0xdfff))
            return 0;
        if (u < 0xd800 || u > 0xdbff)
            return 6;
        if (end - p < 12 || p[6] != '\\' || p[7] != 'u')
            return 0;
        u = hex4(p + 8, end);
        return u >= 0xdc00 && u <= 0xdfff ? 12 : 0;
    default:
        return 0;
    }
}

/* At the first byte inside the quotes; passes the closing quote. */
static bool string_rest(struct jtext_scan *s, bool *escaped)
{
    const uint8_t *p = s->p;

    for (;;) {
        unsigned n;

        p = plain_end(p, s->end);
        s->p = p;
        if (p == s->end)
            return bad(s, "a string does not end");
        if (*p == '"') {
            s->p = p + 1;
            return true;
        }
        if (*p == '\\') {
            *escaped = true;
            n = escape_len(p, s->end);
            if (!n)
                return bad(s, "a string has a wrong escape");
        } else if (*p < 0x20) {
            return bad(s, "a string has a control character that is not escaped");
        } else {
            n = (unsigned)utf8_next(slice_of(p, (size_t)(s->end - p)));
            if (!n)
                return bad(s, "a string is not UTF-8");
        }
        p += n;
    }
}

bool jtext_string(struct jtext_scan *s, struct slice *inner, bool *escaped)
{
    const uint8_t *from;

    if (!jtext_expect(s, '"', "a string is expected"))
        return false;
    from = s->p;
    *escaped = false;
    if (!string_rest(s, escaped))
        return false;
    *inner = slice_of(from, (size_t)(s->p - 1 - from));
    return true;
}

static inline const uint8_t *digits(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static bool number(struct jtext_scan *s)
{
    const uint8_t *p = s->p, *q;

    if (*p == '-')
        p++;
    q = digits(p, s->end);
    if (q == p || (*p == '0' && q - p > 1))
        return bad(s, "a number is malformed");
    p = q;
    if (p < s->end && *p == '.') {
        q = digits(p + 1, s->end);
        if (q == p + 1)
            return bad(s, "a number is malformed");
        p = q;
    }
    if (p < s->end && (*p | 0x20) == 'e') {
        p++;
        if (p < s->end && (*p == '+' || *p == '-'))
            p++;
        q = digits(p, s->end);
        if (q == p)
            return bad(s, "a number is malformed");
        p = q;
    }
    s->p = p;
    return true;
}

static bool word(struct jtext_scan *s, const char *w, size_t n)
{
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0)
        return bad(s, "a value is expected");
    s->p += n;
    return true;
}

/* A value that is no container, at s->p < s->end. */
static bool scalar(struct jtext_scan *s, enum jtext_type *type)
{
    bool escaped;

    switch (*s->p) {
    case '"':
        *type = JTEXT_STRING;
        s->p++;
        return string_rest(s, &escaped);
    case 'n':
        *type = JTEXT_NULL;
        return word(s, "null", 4);
    case 't':
        *type = JTEXT_TRUE;
        return word(s, "true", 4);
    case 'f':
        *type = JTEXT_FALSE;
        return word(s, "false", 5);
    default:
        *type = JTEXT_NUMBER;
        if (*s->p != '-' && (*s->p < '0' || *s->p > '9'))
            return bad(s, "a value is expected");
        return number(s);
    }
}

/* After '{' or ',' in an object: passes the key and the colon. */
static bool member_key(struct jtext_scan *s)
{
    struct slice key;
    bool escaped;

    return jtext_string(s, &key, &escaped) && jtext_expect(s, ':', "a colon is expected");
}

/* Which container is open at each level: bit set = object. */
struct nest {
    uint64_t bit[JTEXT_DEPTH_CAP / 64];
    unsigned depth;
};

static bool nest_push(struct jtext_scan *s, struct nest *n, bool object)
{
    uint64_t mask = 1ull << (n->depth % 64);

    if (n->depth >= s->depth_max)
        return bad(s, "nested too deeply");
    if (object)
        n->bit[n->depth / 64] |= mask;
    else
        n->bit[n->depth / 64] &= ~mask;
    n->depth++;
    s->p++;
    return true;
}

static inline bool nest_object(const struct nest *n)
{
    return n->bit[(n->depth - 1) / 64] >> ((n->depth - 1) % 64) & 1;
}

/* After a value inside a container: closes what ends here; false with why set on error, false
 * without it when the outermost container closed; true when another value follows. */
static bool nest_next(struct jtext_scan *s, struct nest *n)
{
    while (n->depth > 0) {
        bool object = nest_object(n);

        if (jtext_accept(s, ',')) {
            if (object)
                return member_key(s);
            return true;
        }
        if (!jtext_expect(s, object ? '}' : ']',
                          object ? "a comma or } is expected" : "a comma or ] is expected"))
            return false;
        n->depth--;
    }
    return false;
}

static bool container(struct jtext_scan *s)
{
    struct nest n;
    enum jtext_type type;

    n.depth = 0;
    for (;;) {
        if (!jtext_more(s))
            return bad(s, "the text ends early");
        if (*s->p == '{' || *s->p == '[') {
            bool object = *s->p == '{';

            if (!nest_push(s, &n, object))
                return false;
            if (jtext_accept(s, object ? '}' : ']')) {
                n.depth--;
            } else if (object) {
                if (!member_key(s))
                    return false;
                continue;
            } else {
                continue;
            }
        } else if (!scalar(s, &type)) {
            return false;
        }
        if (!nest_next(s, &n))
            return s->why == NULL;
    }
}

bool jtext_value(struct jtext_scan *s, struct slice *raw, enum jtext_type *type)
{
    const uint8_t *from;
    bool ok;

    if (!jtext_more(s))
        return bad(s, "the text ends early");
    from = s->p;
    if (*from == '{' || *from == '[') {
        *type = *from == '{' ? JTEXT_OBJECT : JTEXT_ARRAY;
        ok = container(s);
    } else {
        ok = scalar(s, type);
    }
    *raw = slice_of(from, (size_t)(s->p - from));
    return ok;
}

bool jtext_valid(struct slice text, unsigned depth_max)
{
    struct jtext_scan s;
    struct slice raw;
    enum jtext_type type;

    jtext_scan_init(&s, text, depth_max);
    return jtext_value(&s, &raw, &type) && !jtext_more(&s);
}

/* ---- values ---- */

static uint8_t *utf8_put(uint8_t *out, uint32_t u)
{
    if (u < 0x80) {
        *out++ = (uint8_t)u;
    } else if (u < 0x800) {
        *out++ = (uint8_t)(0xc0 | u >> 6);
        *out++ = (uint8_t)(0x80 | (u & 0x3f));
    } else if (u < 0x10000) {
        *out++ = (uint8_t)(0xe0 | u >> 12);
        *out++ = (uint8_t)(0x80 | (u >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (u & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | u >> 18);
        *out++ = (uint8_t)(0x80 | (u >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (u >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (u & 0x3f));
    }
    return out;
}

/* The character of the validated escape at p, n bytes long. */
static uint32_t escape_value(const uint8_t *p, unsigned n)
{
    switch (p[1]) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'u':
        if (n == 12)
            return 0x10000 + (((uint32_t)hex4(p + 2, p + 6) - 0xd800) << 10) +
                   ((uint32_t)hex4(p + 8, p + 12) - 0xdc00);
        return (uint32_t)hex4(p + 2, p + 6);
    default:
        return p[1];
    }
}

size_t jtext_unescape(struct slice inner, uint8_t *out)
{
    const uint8_t *p = inner.ptr, *end = inner.ptr + inner.len;
    uint8_t *o = out;

    while (p < end) {
        unsigned n;

        if (*p != '\\') {
            *o++ = *p++;
            continue;
        }
        n = escape_len(p, end);
        ASSERT(n);
        o = utf8_put(o, escape_value(p, n));
        p += n;
    }
    ASSERT((size_t)(o - out) <= inner.len);
    return (size_t)(o - out);
}

bool jtext_int(struct slice raw, int64_t *out)
{
    bool minus = raw.len && raw.ptr[0] == '-';
    uint64_t v = 0, most = minus ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    size_t i = minus;

    if (i == raw.len)
        return false;
    for (; i < raw.len; i++) {
        unsigned d = (unsigned)raw.ptr[i] - '0';

        if (d > 9 || v > (most - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* ---- writing ---- */

static uint8_t *escape_put(uint8_t *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letter[] = "btn\0fr"; /* 8 to 13 */

    *out++ = '\\';
    if (c == '"' || c == '\\') {
        *out++ = c;
    } else if (c >= 8 && c <= 13 && c != 11) {
        *out++ = (uint8_t)letter[c - 8];
    } else {
        memcpy(out, "u00", 3);
        out[3] = (uint8_t)hex[c >> 4];
        out[4] = (uint8_t)hex[c & 15];
        out += 5;
    }
    return out;
}

uint8_t *jtext_escape(uint8_t *out, struct slice s)
{
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;

    *out++ = '"';
    while (p < end) {
        const uint8_t *q = plain_end(p, end);

        if (q > p)
            memcpy(out, p, (size_t)(q - p));
        out += q - p;
        p = q;
        while (p < end && (*p >= 0x80 || *p < 0x20 || *p == '"' || *p == '\\')) {
            if (*p >= 0x80)
                *out++ = *p;
            else
                out = escape_put(out, *p);
            p++;
        }
    }
    *out++ = '"';
    return out;
}

uint8_t *jtext_u64(uint8_t *out, uint64_t v)
{
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334"
        "3536373839404142434445464748495051525354555657585960616263646566676869"
        "707172737475767778798081828384858687888990919293949596979899";
    uint8_t tmp[20];
    size_t i = sizeof tmp;

    while (v >= 100) {
        i -= 2;
        memcpy(tmp + i, pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        i -= 2;
        memcpy(tmp + i, pairs + v * 2, 2);
    } else {
        tmp[--i] = (uint8_t)('0' + v);
    }
    memcpy(out, tmp + i, sizeof tmp - i);
    return out + (sizeof tmp - i);
}

uint8_t *jtext_i64(uint8_t *out, int64_t v)
{
    if (v >= 0)
        return jtext_u64(out, (uint64_t)v);
    *out++ = '-';
    return jtext_u64(out, 0 - (uint64_t)v);
}
