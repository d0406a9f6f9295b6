/* See js_transform.h. A transform is taken apart anew for each subject: it is short. */
#include "proto/nats/js_transform.h"

#include "base/subject.h"
#include "proto/nats/parse.h"

#define TOKENS_MAX 128u
#define ARGS_MAX   16u

enum what {
    PLAIN,
    WILDCARD,
    PARTITION,
    SPLIT,
    SPLIT_LEFT,
    SPLIT_RIGHT,
    SLICE_LEFT,
    SLICE_RIGHT,
    LEFT,
    RIGHT,
    BAD
};

struct call {
    enum what what;
    struct slice arg[ARGS_MAX];
    unsigned n;
};

static const struct {
    const char *name;
    enum what what;
    unsigned least, most; /* arguments */
} functions[] = {
    {"wildcard", WILDCARD, 1, 1},
    {"partition", PARTITION, 1, ARGS_MAX},
    {"split", SPLIT, 2, 2},
    {"splitfromleft", SPLIT_LEFT, 2, 2},
    {"splitfromright", SPLIT_RIGHT, 2, 2},
    {"slicefromleft", SLICE_LEFT, 2, 2},
    {"slicefromright", SLICE_RIGHT, 2, 2},
    {"left", LEFT, 2, 2},
    {"right", RIGHT, 2, 2},
};

static bool same_word(struct slice s, const char *name)
{
    size_t i;

    if (s.len != strlen(name))
        return false;
    for (i = 0; i < s.len; i++)
        if ((s.ptr[i] | 32) != name[i])
            return false;
    return true;
}

static void args_read(struct slice s, struct call *c)
{
    const uint8_t *comma;

    while (c->n < ARGS_MAX) {
        comma = s.len ? memchr(s.ptr, ',', s.len) : NULL;
        c->arg[c->n++] =
            slice_trim(slice_of(s.ptr, comma ? (size_t)(comma - s.ptr) : s.len), SLICE_LIT(" "));
        if (!comma)
            return;
        s = slice_of(comma + 1, s.len - (size_t)(comma + 1 - s.ptr));
    }
    c->what = BAD;
}

/* A token of the destination. */
static void call_read(struct slice token, struct call *c)
{
    const uint8_t *open;
    size_t i;

    *c = (struct call){.what = PLAIN};
    if (token.len > 1 && *token.ptr == '$') {
        c->arg[c->n++] = slice_of(token.ptr + 1, token.len - 1);
        c->what = nats_number(c->arg[0]) > 0 ? WILDCARD : PLAIN;
        return;
    }
    if (token.len < 5 || memcmp(token.ptr, "{{", 2) != 0)
        return;
    c->what = BAD;
    if (memcmp(token.ptr + token.len - 2, "}}", 2) != 0)
        return;
    token = slice_trim(slice_of(token.ptr + 2, token.len - 4), SLICE_LIT(" "));
    open = token.len ? memchr(token.ptr, '(', token.len) : NULL;
    if (!open || token.ptr[token.len - 1] != ')')
        return;
    for (i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (!same_word(slice_trim(slice_of(token.ptr, (size_t)(open - token.ptr)), SLICE_LIT(" ")),
                       functions[i].name))
            continue;
        c->what = functions[i].what;
        args_read(slice_of(open + 1, token.len - (size_t)(open + 1 - token.ptr) - 1), c);
        if (c->n < functions[i].least || c->n > functions[i].most)
            c->what = BAD;
        return;
    }
}

/* ---- checking ---- */

static bool wildcard_ok(struct slice arg, unsigned wildcards)
{
    int64_t n = nats_number(arg);

    return n > 0 && n <= wildcards;
}

static bool call_ok(const struct call *c, unsigned wildcards)
{
    unsigned i;

    if (c->what == PLAIN || c->what == BAD)
        return c->what == PLAIN;
    if (c->what == PARTITION) {
        for (i = 1; i < c->n; i++)
            if (!wildcard_ok(c->arg[i], wildcards))
                return false;
        return nats_number(c->arg[0]) > 0;
    }
    if (!wildcard_ok(c->arg[0], wildcards))
        return false;
    return c->n < 2 || (c->what == SPLIT ? c->arg[1].len > 0 : nats_number(c->arg[1]) > 0);
}

bool jtransform_valid(struct slice src, struct slice dest)
{
    unsigned wildcards = 0, tokens = 0;
    bool src_rest = !src.len, dest_rest = false;
    struct slice token;
    struct call c;

    if ((src.len && !subject_valid(src)) || !dest.len)
        return false;
    while (src.len && subject_token(&src, &token)) {
        wildcards += token_is(token, '*');
        src_rest = token_is(token, '>');
        if (++tokens > TOKENS_MAX)
            return false;
    }
    while (subject_token(&dest, &token)) {
        call_read(token, &c);
        if (!token.len || token_is(token, '*') || dest_rest || !call_ok(&c, wildcards))
            return false;
        dest_rest = token_is(token, '>');
    }
    return src_rest == dest_rest;
}

/* ---- applying ---- */

struct taken {
    struct slice subject, rest;
    struct slice wild[TOKENS_MAX];
    unsigned n;
};

static bool take(struct slice src, struct taken *t)
{
    struct slice subject = t->subject, pattern, token;

    t->rest = subject;
    while (src.len && subject_token(&src, &pattern)) {
        if (token_is(pattern, '>'))
            return subject.len > 0;
        if (!subject_token(&subject, &token))
            return false;
        if (token_is(pattern, '*') && t->n < TOKENS_MAX)
            t->wild[t->n++] = token;
        else if (!slice_eq(pattern, token))
            return false;
        t->rest = subject;
    }
    return true;
}

static struct slice wild(const struct taken *t, struct slice arg)
{
    int64_t n = nats_number(arg);

    return n > 0 && n <= t->n ? t->wild[n - 1] : SLICE_LIT("");
}

static uint32_t fnv(uint32_t h, struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        h = (h ^ s.ptr[i]) * 16777619u;
    return h;
}

static void partition(const struct taken *t, const struct call *c, struct buf *out)
{
    uint32_t h = 2166136261u;
    unsigned i;

    for (i = 1; i < c->n; i++)
        h = fnv(h, wild(t, c->arg[i]));
    if (c->n == 1)
        h = fnv(h, t->subject);
    buf_printf(out, "%u", h % (uint32_t)nats_number(c->arg[0]));
}

static void split(struct slice s, struct slice by, struct buf *out)
{
    size_t begin = out->len, i = 0;

    while (i < s.len)
        if (s.len - i >= by.len && memcmp(s.ptr + i, by.ptr, by.len) == 0) {
            if (out->len > begin && out->ptr[out->len - 1] != '.')
                buf_append_u8(out, '.');
            i += by.len;
        } else {
            buf_append_u8(out, s.ptr[i++]);
        }
    if (out->len > begin && out->ptr[out->len - 1] == '.')
        out->len--; /* there is no empty token */
}

/* Dots where (i + shift) is a multiple of n. */
static void slices(struct slice s, size_t n, size_t shift, struct buf *out)
{
    size_t i;

    for (i = 0; i < s.len; i++) {
        if (i && (i + shift) % n == 0)
            buf_append_u8(out, '.');
        buf_append_u8(out, s.ptr[i]);
    }
}

static void call_apply(const struct taken *t, const struct call *c, struct buf *out)
{
    struct slice s = c->what == PARTITION ? SLICE_NULL : wild(t, c->arg[0]);
    size_t n = c->n > 1 && c->what != SPLIT ? (size_t)nats_number(c->arg[1]) : 0, at;

    switch (c->what) {
    case PARTITION:
        partition(t, c, out);
        return;
    case SPLIT:
        split(s, c->arg[1], out);
        return;
    case SLICE_LEFT:
    case SLICE_RIGHT:
        slices(s, n, c->what == SLICE_RIGHT ? (n - s.len % n) % n : 0, out);
        return;
    case LEFT:
    case RIGHT:
        at = n < s.len ? n : s.len;
        buf_append_slice(out, slice_of(c->what == LEFT ? s.ptr : s.ptr + s.len - at, at));
        return;
    case SPLIT_LEFT:
    case SPLIT_RIGHT:
        at = n >= s.len ? s.len : c->what == SPLIT_LEFT ? n : s.len - n;
        buf_append_slice(out, slice_of(s.ptr, at));
        if (at < s.len)
            buf_append_u8(out, '.');
        buf_append_slice(out, slice_of(s.ptr + at, s.len - at));
        return;
    default:
        buf_append_slice(out, s);
    }
}

bool jtransform_apply(struct slice src, struct slice dest, struct slice subject, struct buf *out)
{
    struct taken t = {.subject = subject};
    struct slice token;
    struct call c;

    buf_clear(out);
    if (!take(src, &t))
        return false;
    while (subject_token(&dest, &token)) {
        if (out->len)
            buf_append_u8(out, '.');
        call_read(token, &c);
        if (token_is(token, '>'))
            buf_append_slice(out, t.rest);
        else if (c.what == PLAIN)
            buf_append_slice(out, token);
        else
            call_apply(&t, &c, out);
    }
    return true;
}
