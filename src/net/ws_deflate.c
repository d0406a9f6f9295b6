/* permessage-deflate over zlib. See ws_deflate.h. */
#include "net/ws_deflate.h"

#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "net/tbl/limits.h"

#define BITS     15 /* of the window */
#define LEVEL    1
#define PIECE    16384u
#define TAIL     4u /* 00 00 ff ff: not sent (RFC 7692 section 7.2.1) */
#define INVALID  1007
#define TOO_MUCH 1009

struct ws_deflate {
    z_stream z;
    struct buf out;
    bool begun;
};

struct ws_inflate {
    z_stream z;
    uint64_t left;
    bool ended;
};

/* ---- what is offered ---- */

/* Cuts what is before the next `end` off *rest. */
static struct slice part(struct slice *rest, char end)
{
    const uint8_t *at = rest->len ? memchr(rest->ptr, end, rest->len) : NULL;
    struct slice s = *rest;

    if (at) {
        s.len = (size_t)(at - rest->ptr);
        *rest = slice_of(at + 1, rest->len - s.len - 1);
    } else {
        *rest = SLICE_NULL;
    }
    return slice_trim(s, SLICE_LIT(" \t"));
}

static bool is(struct slice s, const char *name)
{
    return s.len == strlen(name) && strncasecmp((const char *)s.ptr, name, s.len) == 0;
}

static bool keeps_to(struct slice offer)
{
    struct slice param, name, value;

    if (!is(part(&offer, ';'), "permessage-deflate"))
        return false;
    while (offer.len) {
        value = param = part(&offer, ';');
        name = part(&value, '=');
        if (is(name, "server_no_context_takeover") || is(name, "client_no_context_takeover") ||
            is(name, "client_max_window_bits"))
            continue;
        if (!is(name, "server_max_window_bits") ||
            (!slice_eq_str(value, "15") && !slice_eq_str(value, "\"15\"")))
            return false;
    }
    return true;
}

bool ws_deflate_offered(struct slice extensions)
{
    while (extensions.len)
        if (keeps_to(part(&extensions, ',')))
            return true;
    return false;
}

/* ---- to the peer ---- */

struct ws_deflate *ws_deflate_new(void)
{
    struct ws_deflate *d = xcalloc(1, sizeof *d);

    ASSERT(deflateInit2(&d->z, LEVEL, Z_DEFLATED, -BITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    buf_init(&d->out, SIZE_MAX);
    return d;
}

void ws_deflate_free(struct ws_deflate **dp)
{
    struct ws_deflate *d = *dp;

    *dp = NULL;
    if (!d)
        return;
    deflateEnd(&d->z);
    buf_fini(&d->out);
    free(d);
}

static void run(struct ws_deflate *d, int flush)
{
    do {
        if (buf_reserve(&d->out, PIECE))
            abort(); /* no memory */
        d->z.next_out = d->out.ptr + d->out.len;
        d->z.avail_out = PIECE;
        ASSERT(deflate(&d->z, flush) != Z_STREAM_ERROR);
        d->out.len += PIECE - d->z.avail_out;
    } while (d->z.avail_out == 0);
}

void ws_deflate_add(struct ws_deflate *d, struct slice data)
{
    if (!d->begun) {
        ASSERT(deflateReset(&d->z) == Z_OK);
        buf_clear(&d->out);
        d->begun = true;
    }
    d->z.next_in = (Bytef *)(uintptr_t)data.ptr; /* only read */
    d->z.avail_in = (uInt)data.len;
    run(d, Z_NO_FLUSH);
}

struct slice ws_deflate_end(struct ws_deflate *d)
{
    run(d, Z_SYNC_FLUSH);
    ASSERT(d->begun && d->out.len > TAIL);
    d->begun = false;
    return slice_of(d->out.ptr, d->out.len - TAIL);
}

/* ---- from the peer ---- */

struct ws_inflate *ws_inflate_new(uint64_t max)
{
    struct ws_inflate *f = xcalloc(1, sizeof *f);

    f->left = max;
    ASSERT(inflateInit2(&f->z, -BITS) == Z_OK);
    return f;
}

void ws_inflate_free(struct ws_inflate **fp)
{
    struct ws_inflate *f = *fp;

    *fp = NULL;
    if (!f)
        return;
    inflateEnd(&f->z);
    free(f);
}

static int feed(struct ws_inflate *f, struct slice data,
                void (*take)(void *arg, struct slice piece), void *arg)
{
    uint8_t piece[PIECE];
    size_t n;
    int r;

    f->z.next_in = (Bytef *)(uintptr_t)data.ptr; /* only read */
    f->z.avail_in = (uInt)data.len;
    do {
        f->z.next_out = piece;
        f->z.avail_out = sizeof piece;
        r = f->ended ? Z_STREAM_END : inflate(&f->z, Z_SYNC_FLUSH);
        n = sizeof piece - f->z.avail_out;
        if (r == Z_STREAM_END)
            f->ended = true;
        else if (r != Z_OK && r != Z_BUF_ERROR)
            return INVALID;
        if (n > f->left)
            return TOO_MUCH;
        f->left -= n;
        if (n)
            take(arg, slice_of(piece, n));
    } while (!f->ended && f->z.avail_out == 0);
    /* A block that is the last of a deflate stream may be followed by the tail, nothing else. */
    return f->ended && f->z.avail_in > TAIL + 1 ? INVALID : 0;
}

int ws_inflate_add(struct ws_inflate *f, struct slice data, bool last,
                   void (*take)(void *arg, struct slice piece), void *arg)
{
    int code = data.len ? feed(f, data, take, arg) : 0;

    if (!code && last && !f->ended)
        code = feed(f, SLICE_LIT("\x00\x00\xff\xff"), take, arg);
    return code;
}
