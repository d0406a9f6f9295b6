/* See parse.h. */
#include "proto/nats/parse.h"

#include <strings.h>

#define FIELDS     4u
#define DIGITS     9u
#define DIGITS_U64 19u

static bool digits(struct slice s, size_t most, uint64_t *out)
{
    uint64_t v = 0;
    size_t i;

    if (s.len == 0 || s.len > most)
        return false;
    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    *out = v;
    return true;
}

int64_t nats_number(struct slice s)
{
    uint64_t v;

    return digits(s, DIGITS, &v) ? (int64_t)v : -1;
}

bool nats_u64(struct slice s, uint64_t *out)
{
    return digits(s, DIGITS_U64, out);
}

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* At most FIELDS; more are FIELDS + 1. */
static unsigned split(struct slice line, struct slice f[FIELDS])
{
    const uint8_t *p = line.ptr, *end = p + line.len, *from;
    unsigned n = 0;

    for (;;) {
        while (p < end && blank(*p))
            p++;
        if (p == end)
            return n;
        if (n == FIELDS)
            return FIELDS + 1;
        for (from = p; p < end && !blank(*p);)
            p++;
        f[n++] = slice_of(from, (size_t)(p - from));
    }
}

static struct slice trimmed(struct slice s)
{
    while (s.len && blank(s.ptr[0]))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static size_t bad(struct nats_line *out, enum nats_op op)
{
    out->op = op;
    return 0;
}

/* The payload behind a line of `line` bytes with its end. */
static size_t payload(struct slice in, size_t line, size_t size, size_t max, enum nats_op op,
                      struct nats_line *out)
{
    const uint8_t *end;

    if (size > max)
        return bad(out, NATS_LARGE);
    if (in.len - line < size + 2) {
        out->need = line + size + 2;
        return bad(out, NATS_MORE);
    }
    end = in.ptr + line + size;
    if (end[0] != '\r' || end[1] != '\n')
        return bad(out, NATS_UNKNOWN);
    out->op = op;
    out->body = slice_of(in.ptr + line, size);
    return line + size + 2;
}

static size_t pub(struct slice in, size_t line, struct slice args, size_t max,
                  struct nats_line *out)
{
    struct slice f[FIELDS];
    unsigned n = split(args, f);
    int64_t size;

    if (n < 2 || n > 3 || (size = nats_number(f[n - 1])) < 0)
        return bad(out, NATS_UNKNOWN);
    out->subject = f[0];
    if (n == 3)
        out->reply = f[1];
    return payload(in, line, (size_t)size, max, NATS_PUB, out);
}

static size_t hpub(struct slice in, size_t line, struct slice args, size_t max,
                   struct nats_line *out)
{
    struct slice f[FIELDS];
    unsigned n = split(args, f);
    int64_t header, size;

    if (n < 3 || n > 4 || (header = nats_number(f[n - 2])) < 0 ||
        (size = nats_number(f[n - 1])) < header)
        return bad(out, NATS_UNKNOWN);
    out->subject = f[0];
    if (n == 4)
        out->reply = f[1];
    out->header_len = (size_t)header;
    return payload(in, line, (size_t)size, max, NATS_HPUB, out);
}

static size_t sub(size_t line, struct slice args, struct nats_line *out)
{
    struct slice f[FIELDS];
    unsigned n = split(args, f);

    if (n < 2 || n > 3)
        return bad(out, NATS_UNKNOWN);
    out->op = NATS_SUB;
    out->subject = f[0];
    out->sid = f[n - 1];
    if (n == 3)
        out->queue = f[1];
    return line;
}

static size_t unsub(size_t line, struct slice args, struct nats_line *out)
{
    struct slice f[FIELDS];
    unsigned n = split(args, f);

    if (n < 1 || n > 2)
        return bad(out, NATS_UNKNOWN);
    out->op = NATS_UNSUB;
    out->sid = f[0];
    if (n == 2) /* what is no number counts as none, as in nats-server */
        out->max = nats_number(f[1]);
    return line;
}

static bool verb_is(struct slice verb, const char *name)
{
    return verb.len == strlen(name) && strncasecmp((const char *)verb.ptr, name, verb.len) == 0;
}

/* PING and PONG may have anything behind them. */
static enum nats_op plain_verb(struct slice verb)
{
    if (verb_is(verb, "PING"))
        return NATS_PING;
    if (verb_is(verb, "PONG"))
        return NATS_PONG;
    if (verb_is(verb, "CONNECT"))
        return NATS_CONNECT;
    if (verb_is(verb, "INFO") || verb_is(verb, "+OK"))
        return NATS_OK;
    if (verb_is(verb, "-ERR"))
        return NATS_ERR;
    return NATS_UNKNOWN;
}

/* A verb cannot begin so: known before its line is there. */
static bool hopeless(struct slice in)
{
    static const char *const verbs[] = {"PUB",  "HPUB",    "SUB",  "UNSUB", "PING",
                                        "PONG", "CONNECT", "INFO", "+OK",   "-ERR"};
    size_t i, n = 0;

    while (n < in.len && n < 8 && !blank(in.ptr[n]) && in.ptr[n] != '\r' && in.ptr[n] != '\n')
        n++;
    for (i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (n <= strlen(verbs[i]) && strncasecmp((const char *)in.ptr, verbs[i], n) == 0)
            return false;
    return true;
}

size_t nats_parse(struct slice in, size_t line_max, size_t payload_max, struct nats_line *out)
{
    const uint8_t *end;
    struct slice verb, args;
    size_t line, i;

    *out = (struct nats_line){0};
    if (in.len == 0)
        return bad(out, NATS_MORE);
    end = memchr(in.ptr, '\n', in.len < line_max + 2 ? in.len : line_max + 2);
    if (!end) {
        if (hopeless(in))
            return bad(out, NATS_UNKNOWN);
        return bad(out, in.len >= line_max + 2 ? NATS_LONG_LINE : NATS_MORE);
    }
    line = (size_t)(end - in.ptr) + 1;
    verb = slice_of(in.ptr, line - 1);
    if (verb.len && verb.ptr[verb.len - 1] == '\r')
        verb.len--;
    for (i = 0; i < verb.len && !blank(verb.ptr[i]);)
        i++;
    args = slice_of(verb.ptr + i, verb.len - i);
    verb.len = i;
    if (verb_is(verb, "PUB"))
        return pub(in, line, args, payload_max, out);
    if (verb_is(verb, "HPUB"))
        return hpub(in, line, args, payload_max, out);
    if (verb_is(verb, "SUB"))
        return sub(line, args, out);
    if (verb_is(verb, "UNSUB"))
        return unsub(line, args, out);
    out->op = plain_verb(verb);
    out->json = trimmed(args);
    return out->op == NATS_UNKNOWN ? 0 : line;
}
