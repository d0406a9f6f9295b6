/* See subject.h. */
#include "base/subject.h"

#include "base/buf.h"
#include "base/utf8.h"

static bool valid(struct slice s, bool *wild)
{
    struct slice token;
    size_t i;

    *wild = false;
    if (s.len == 0)
        return false;
    for (i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] == 0x7f)
            return false;
    while (subject_token(&s, &token)) {
        if (token.len == 0)
            return false;
        if (token_is(token, '>') && !slice_is_null(s))
            return false;
        *wild |= token_is(token, '*') || token_is(token, '>');
    }
    return true;
}

bool subject_valid(struct slice s)
{
    bool wild;

    return valid(s, &wild);
}

bool subject_literal(struct slice s)
{
    bool wild;

    return valid(s, &wild) && !wild;
}

bool subject_has_wildcard(struct slice s)
{
    struct slice token;

    while (subject_token(&s, &token))
        if (token_is(token, '*') || token_is(token, '>'))
            return true;
    return false;
}

bool subject_match(struct slice pattern, struct slice subject)
{
    struct slice p, s;

    while (subject_token(&pattern, &p)) {
        if (token_is(p, '>'))
            return !slice_is_null(subject);
        if (!subject_token(&subject, &s))
            return false;
        if (!token_is(p, '*') && !slice_eq(p, s))
            return false;
    }
    return slice_is_null(subject);
}

bool subject_covers(struct slice all, struct slice part)
{
    struct slice a, p;

    while (subject_token(&all, &a)) {
        if (token_is(a, '>'))
            return !slice_is_null(part);
        if (!subject_token(&part, &p) || token_is(p, '>'))
            return false;
        if (!token_is(a, '*') && (token_is(p, '*') || !slice_eq(a, p)))
            return false;
    }
    return slice_is_null(part);
}

bool subjects_meet(struct slice a, struct slice b)
{
    struct slice s, t;

    for (;;) {
        bool more_a = subject_token(&a, &s), more_b = subject_token(&b, &t);

        if (!more_a || !more_b)
            return more_a == more_b;
        if (token_is(s, '>') || token_is(t, '>'))
            return true;
        if (!token_is(s, '*') && !token_is(t, '*') && !slice_eq(s, t))
            return false;
    }
}

void subject_escape(struct buf *out, uint8_t c)
{
    static const char digits[] = "0123456789ABCDEF";

    buf_append_u8(out, '%');
    buf_append_u8(out, (uint8_t)digits[c >> 4]);
    buf_append_u8(out, (uint8_t)digits[c & 15]);
}

/* Of a subject's token. */
static bool token_char(uint8_t c, bool utf8)
{
    return c > ' ' && c != 0x7f && c != '.' && c != '*' && c != '>' && c != '%' &&
           (c < 0x80 || utf8);
}

bool subject_of_record(struct slice topic, struct slice key, struct buf *out)
{
    bool utf8;
    size_t i;

    if (!subject_literal(topic) || topic.len + key.len + 1 > SUBJECT_OF_RECORD_MAX)
        return false;
    buf_append_slice(out, topic);
    if (key.len == 0)
        return true;
    utf8 = utf8_valid(key);
    buf_append_u8(out, '.');
    for (i = 0; i < key.len; i++)
        if (token_char(key.ptr[i], utf8))
            buf_append_u8(out, key.ptr[i]);
        else
            subject_escape(out, key.ptr[i]);
    return out->len <= SUBJECT_OF_RECORD_MAX;
}
