/* See field.h. Keys are compared first with the name that followed the last one found (records of
 * one kind have their members in one order), then by a small hash table. */
#include "sql/field.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

/* ---- scanning ---- */

static inline const uint8_t *skip_space(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

/* The first of '"' and '\\' from p on; end if there is none. */
static inline const uint8_t *find_quote(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), back = _mm_set1_epi8('\\');

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        int m = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, back)));

        if (m)
            return p + __builtin_ctz((unsigned)m);
    }
#endif
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* p: behind the opening quote. The closing quote; NULL if there is none. */
static inline const uint8_t *string_end(const uint8_t *p, const uint8_t *end, bool *escaped)
{
    *escaped = false;
    for (;;) {
        p = find_quote(p, end);
        if (p >= end)
            return NULL;
        if (*p == '"')
            return p;
        *escaped = true;
        if (end - p < 2)
            return NULL;
        p += 2;
    }
}

/* The first of '"', '{', '}', '[', ']' from p on. */
static inline const uint8_t *find_structure(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), low = _mm_set1_epi8(0x20);
    const __m128i open = _mm_set1_epi8('{'), close = _mm_set1_epi8('}');

    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p), u = _mm_or_si128(v, low);
        int m = _mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(v, quote),
                         _mm_or_si128(_mm_cmpeq_epi8(u, open), _mm_cmpeq_epi8(u, close))));

        if (m)
            return p + __builtin_ctz((unsigned)m);
    }
#endif
    while (p < end && *p != '"' && (*p | 0x20) != '{' && (*p | 0x20) != '}')
        p++;
    return p;
}

/* p: at '{' or '['. Behind its end; NULL if it has none. */
static const uint8_t *skip_nested(const uint8_t *p, const uint8_t *end)
{
    size_t depth = 0;
    bool escaped;

    for (;;) {
        p = find_structure(p, end);
        if (p >= end)
            return NULL;
        if (*p == '"') {
            p = string_end(p + 1, end, &escaped);
            if (!p)
                return NULL;
        } else if ((*p | 0x20) == '{') {
            depth++;
        } else if (--depth == 0) {
            return p + 1;
        }
        p++;
    }
}

static inline bool number_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
}

/* A value at p; behind it, or NULL. */
static inline const uint8_t *take_value(const uint8_t *p, const uint8_t *end, struct field_value *v)
{
    const uint8_t *at = p;
    size_t len = 0;

    v->escaped = false;
    switch (p < end ? *p : 0) {
    case '"':
        at = string_end(p + 1, end, &v->escaped);
        v->kind = FIELD_STRING;
        v->text = slice_of(p + 1, at ? (size_t)(at - p - 1) : 0);
        return at ? at + 1 : NULL;
    case '{':
    case '[':
        v->kind = *p == '{' ? FIELD_OBJECT : FIELD_ARRAY;
        at = skip_nested(p, end);
        v->text = slice_of(p, at ? (size_t)(at - p) : 0);
        return at;
    case 't':
        v->kind = FIELD_TRUE;
        len = end - p >= 4 && !memcmp(p, "true", 4) ? 4 : 0;
        break;
    case 'f':
        v->kind = FIELD_FALSE;
        len = end - p >= 5 && !memcmp(p, "false", 5) ? 5 : 0;
        break;
    case 'n':
        v->kind = FIELD_NULL;
        len = end - p >= 4 && !memcmp(p, "null", 4) ? 4 : 0;
        break;
    default:
        v->kind = FIELD_NUMBER;
        while (at < end && number_char(*at))
            at++;
        len = (size_t)(at - p);
    }
    v->text = slice_of(p, len);
    return len ? p + len : NULL;
}

bool field_members_init(struct field_members *m, struct slice value)
{
    m->end = value.ptr + value.len;
    m->p = skip_space(value.ptr, m->end);
    if (m->p >= m->end || *m->p != '{')
        return false;
    m->p = skip_space(m->p + 1, m->end);
    return true;
}

static inline bool members_next(struct field_members *m, struct slice *key, bool *key_escaped,
                                struct field_value *v)
{
    const uint8_t *p = m->p, *end = m->end, *q;

    if (p >= end || *p != '"')
        return false;
    q = string_end(p + 1, end, key_escaped);
    if (!q)
        return false;
    *key = slice_of(p + 1, (size_t)(q - p - 1));
    p = skip_space(q + 1, end);
    if (p >= end || *p != ':')
        return false;
    p = take_value(skip_space(p + 1, end), end, v);
    if (!p)
        return false;
    p = skip_space(p, end);
    m->p = end; /* unless there is more */
    if (p >= end || (*p != ',' && *p != '}'))
        return v->kind != FIELD_NUMBER || p < end; /* "12" may have been more digits */
    if (*p == ',')
        m->p = skip_space(p + 1, end);
    return true;
}

bool field_members_next(struct field_members *m, struct slice *key, bool *key_escaped,
                        struct field_value *v)
{
    return members_next(m, key, key_escaped, v);
}

/* ---- sets ---- */

static uint32_t name_hash(struct slice s)
{
    return (uint32_t)hash64(s.ptr, s.len, 0x5eed);
}

void field_set_init(struct field_set *s, const struct slice *names, uint32_t n)
{
    uint32_t i, b, cap = 4;

    memset(s, 0, sizeof *s);
    while (cap < n * 2)
        cap *= 2;
    s->n = n;
    s->mask = cap - 1;
    s->name = xcalloc(n ? n : 1, sizeof *s->name);
    s->bucket = xcalloc(cap, sizeof *s->bucket);
    for (i = 0; i < n; i++) {
        s->name[i] = names[i];
        for (b = name_hash(names[i]) & s->mask; s->bucket[b]; b = (b + 1) & s->mask)
            ;
        s->bucket[b] = i + 1;
    }
}

void field_set_fini(struct field_set *s)
{
    free(s->name);
    free(s->bucket);
    memset(s, 0, sizeof *s);
}

static inline bool name_is(const struct field_set *s, uint32_t i, struct slice key)
{
    return s->name[i].len == key.len && !memcmp(s->name[i].ptr, key.ptr, key.len);
}

static inline uint32_t set_find(struct field_set *s, struct slice key)
{
    uint32_t b, i;

    if (s->next < s->n && name_is(s, s->next, key))
        return s->next;
    if (s->n <= 4) {
        for (i = 0; i < s->n; i++)
            if (name_is(s, i, key))
                return i;
        return s->n;
    }
    for (b = name_hash(key) & s->mask; s->bucket[b]; b = (b + 1) & s->mask)
        if (name_is(s, s->bucket[b] - 1, key))
            return s->bucket[b] - 1;
    return s->n;
}

void field_set_scan(struct field_set *s, struct slice value, struct field_value *out)
{
    struct field_members m;
    struct field_value v;
    struct slice key;
    uint8_t tmp[FIELD_KEY_MAX];
    uint32_t left = s->n, i;
    bool escaped;

    for (i = 0; i < s->n; i++)
        out[i].kind = FIELD_MISSING;
    if (!field_members_init(&m, value))
        return;
    s->next = 0;
    while (left && members_next(&m, &key, &escaped, &v)) {
        if (escaped) {
            size_t len = key.len <= sizeof tmp ? field_unescape(key, tmp) : SIZE_MAX;

            if (len == SIZE_MAX)
                continue;
            key = slice_of(tmp, len);
        }
        i = set_find(s, key);
        if (i == s->n || out[i].kind != FIELD_MISSING)
            continue;
        out[i] = v;
        s->next = i + 1;
        left--;
    }
}

/* ---- values ---- */

bool field_i64(struct slice t, int64_t *out)
{
    const uint8_t *p = t.ptr, *end = t.ptr + t.len;
    bool neg = p < end && *p == '-';
    uint64_t v = 0;

    p += neg;
    if (p >= end || end - p > 19 || (*p == '0' && end - p > 1))
        return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    if (v > (uint64_t)INT64_MAX + neg)
        return false;
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* The numbers that C reads in the same way everywhere. Made once, never freed. */
static double slow_f64(struct slice t)
{
    static _Atomic(locale_t) c_locale;
    char tmp[64], *big = NULL, *s = tmp;
    locale_t l = c_locale, none = (locale_t)0;
    double v;

    if (!l) {
        l = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (!__atomic_compare_exchange_n((locale_t *)(void *)&c_locale, &none, l, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            freelocale(l);
            l = c_locale;
        }
    }
    if (t.len >= sizeof tmp)
        s = big = xmalloc(t.len + 1);
    memcpy(s, t.ptr, t.len);
    s[t.len] = 0;
    v = strtod_l(s, NULL, l);
    free(big);
    return v;
}

/* Digits from p on: at least one; *v, if it is not full; *scale counts them. */
static const uint8_t *digits(const uint8_t *p, const uint8_t *end, uint64_t *v, int *n)
{
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if (*n < 19)
            *v = *v * 10 + (uint64_t)(*p - '0');
        (*n)++;
    }
    return p;
}

bool field_f64(struct slice t, double *out)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const uint8_t *p = t.ptr, *end = t.ptr + t.len, *q;
    bool neg = p < end && *p == '-', eneg = false;
    uint64_t v = 0, e = 0;
    int n = 0, en = 0, point = 0, exp;

    p += neg;
    q = digits(p, end, &v, &n);
    if (q == p || (*p == '0' && q - p > 1))
        return false;
    p = q;
    if (p < end && *p == '.') {
        q = digits(p + 1, end, &v, &n);
        if (q == p + 1)
            return false;
        point = (int)(q - p - 1);
        p = q;
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        eneg = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        q = digits(p, end, &e, &en);
        if (q == p)
            return false;
        p = q;
    }
    if (p != end)
        return false;
    exp = (e > 9999 ? 9999 : (int)e) * (eneg ? -1 : 1) - point;
    if (n <= 19 && v < (1ull << 53) && exp >= -22 && exp <= 22)
        *out = exp < 0 ? (double)v / ten[-exp] : (double)v * ten[exp];
    else {
        *out = slow_f64(t);
        return true;
    }
    *out = neg ? -*out : *out;
    return true;
}

static int hex4(const uint8_t *p, const uint8_t *end)
{
    int v = 0, i;

    if (end - p < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        int c = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9')
            v = v * 16 + p[i] - '0';
        else if (c >= 'a' && c <= 'f')
            v = v * 16 + c - 'a' + 10;
        else
            return -1;
    }
    return v;
}

static size_t put_utf8(uint8_t *d, uint32_t c)
{
    if (c < 0x80) {
        d[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        d[0] = (uint8_t)(0xc0 | c >> 6);
        d[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        d[0] = (uint8_t)(0xe0 | c >> 12);
        d[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        d[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    d[0] = (uint8_t)(0xf0 | c >> 18);
    d[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    d[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    d[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

/* p: behind "\u". *c is set; behind it, or NULL. A lone surrogate becomes U+FFFD. */
static const uint8_t *take_u(const uint8_t *p, const uint8_t *end, uint32_t *c)
{
    int hi = hex4(p, end), lo;

    if (hi < 0)
        return NULL;
    p += 4;
    *c = (uint32_t)hi;
    if (hi < 0xd800 || hi > 0xdfff)
        return p;
    *c = 0xfffd;
    if (hi < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
        lo = hex4(p + 2, end);
        if (lo >= 0xdc00 && lo <= 0xdfff) {
            *c = 0x10000 + (((uint32_t)hi & 0x3ff) << 10) + ((uint32_t)lo & 0x3ff);
            p += 6;
        }
    }
    return p;
}

size_t field_unescape(struct slice t, uint8_t *dst)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const uint8_t *p = t.ptr, *end = t.ptr + t.len;
    uint8_t *d = dst;
    const char *at;
    uint32_t c;

    while (p < end) {
        if (*p != '\\') {
            *d++ = *p++;
            continue;
        }
        if (++p >= end)
            return SIZE_MAX;
        if (*p == 'u') {
            p = take_u(p + 1, end, &c);
            if (!p)
                return SIZE_MAX;
            d += put_utf8(d, c);
            continue;
        }
        at = *p ? strchr(from, *p) : NULL;
        if (!at)
            return SIZE_MAX;
        *d++ = (uint8_t)to[at - from];
        p++;
    }
    return (size_t)(d - dst);
}

bool text_valid(struct slice s)
{
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;

#ifdef __SSE2__
    for (; end - p >= 16; p += 16)
        if (_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)p)))
            return utf8_valid(slice_of(p, (size_t)(end - p)));
#endif
    for (; p < end; p++)
        if (*p & 0x80)
            return utf8_valid(slice_of(p, (size_t)(end - p)));
    return true;
}
