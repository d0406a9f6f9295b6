/* Messages of PostgreSQL's protocol. See msg.h. */
#include "proto/pgwire/msg.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"

/* ---- frames ---- */

enum err pg_frame(struct slice in, bool first, uint32_t max, uint8_t *type, struct slice *body,
                  size_t *used, size_t *need)
{
    size_t head = first ? 4 : 5;
    uint32_t n;

    *need = 0;
    if (in.len < head)
        return ERR_AGAIN;
    *type = first ? 0 : in.ptr[0];
    n = be32_load(in.ptr + head - 4);
    if (n < (first ? PG_STARTUP_HEAD : 4))
        return ERR_CORRUPT_INPUT;
    if (n > max)
        return ERR_TOO_LARGE;
    *need = head - 4 + (size_t)n;
    if (in.len < *need)
        return ERR_AGAIN;
    *used = *need;
    *body = slice_of(in.ptr + head, n - 4);
    return ERR_OK;
}

/* ---- reading ---- */

void pg_reader_init(struct pg_reader *r, struct slice s)
{
    *r = (struct pg_reader){s.ptr, s.ptr ? s.ptr + s.len : NULL, false};
}

static bool has(struct pg_reader *r, size_t n)
{
    if (r->bad || (size_t)(r->end - r->p) < n)
        r->bad = true;
    return !r->bad;
}

uint8_t pg_u8(struct pg_reader *r)
{
    return has(r, 1) ? *r->p++ : 0;
}

uint16_t pg_u16(struct pg_reader *r)
{
    uint16_t v;

    if (!has(r, 2))
        return 0;
    v = be16_load(r->p);
    r->p += 2;
    return v;
}

uint32_t pg_u32(struct pg_reader *r)
{
    uint32_t v;

    if (!has(r, 4))
        return 0;
    v = be32_load(r->p);
    r->p += 4;
    return v;
}

struct slice pg_text(struct pg_reader *r)
{
    const uint8_t *end = has(r, 1) ? memchr(r->p, 0, (size_t)(r->end - r->p)) : NULL;
    struct slice s;

    if (!end) {
        r->bad = true;
        return SLICE_NULL;
    }
    s = slice_of(r->p, (size_t)(end - r->p));
    r->p = end + 1;
    return s;
}

struct slice pg_bytes(struct pg_reader *r, size_t n)
{
    struct slice s;

    if (!has(r, n))
        return SLICE_NULL;
    s = slice_of(r->p, n);
    r->p += n;
    return s;
}

static enum err over(const struct pg_reader *r)
{
    return r->bad || r->p != r->end ? ERR_CORRUPT_INPUT : ERR_OK;
}

/* ---- what a client says ---- */

bool pg_startup_param(struct slice *params, struct slice *name, struct slice *value)
{
    struct pg_reader r;

    pg_reader_init(&r, *params);
    *name = pg_text(&r);
    *value = pg_text(&r);
    if (r.bad)
        return false;
    *params = slice_of(r.p, (size_t)(r.end - r.p));
    return true;
}

enum err pg_startup_decode(struct slice body, struct pg_startup *out)
{
    struct slice rest, name, value;
    struct pg_reader r;

    memset(out, 0, sizeof *out);
    pg_reader_init(&r, body);
    out->code = pg_u32(&r);
    if (out->code == PG_CODE_CANCEL) {
        out->pid = pg_u32(&r);
        out->secret = pg_u32(&r);
        return over(&r);
    }
    if (out->code == PG_CODE_SSL || out->code == PG_CODE_GSS)
        return over(&r);
    if (r.bad || out->code >> 16 != 3)
        return r.bad ? ERR_CORRUPT_INPUT : ERR_UNSUPPORTED;
    if (r.p == r.end || r.end[-1] != 0)
        return ERR_CORRUPT_INPUT;
    rest = out->params = slice_of(r.p, (size_t)(r.end - r.p) - 1);
    while (rest.len) {
        if (!pg_startup_param(&rest, &name, &value))
            return ERR_CORRUPT_INPUT;
        if (slice_eq_str(name, "user"))
            out->user = value;
        else if (slice_eq_str(name, "database"))
            out->db = value;
    }
    return ERR_OK;
}

enum err pg_parse_decode(struct slice body, struct pg_parse *out)
{
    struct pg_reader r;

    pg_reader_init(&r, body);
    out->name = pg_text(&r);
    out->sql = pg_text(&r);
    out->oids_n = pg_u16(&r);
    out->oids = pg_bytes(&r, 4u * out->oids_n).ptr;
    return over(&r);
}

enum err pg_bind_decode(struct slice body, struct pg_bind *out)
{
    const uint8_t *from;
    struct pg_reader r;
    unsigned i;

    pg_reader_init(&r, body);
    out->portal = pg_text(&r);
    out->statement = pg_text(&r);
    out->formats_n = pg_u16(&r);
    out->formats = pg_bytes(&r, 2u * out->formats_n).ptr;
    out->params_n = pg_u16(&r);
    from = r.p;
    for (i = 0; i < out->params_n && !r.bad; i++) {
        uint32_t n = pg_u32(&r);

        if (n != UINT32_MAX)
            pg_bytes(&r, n);
    }
    out->params = slice_of(from, r.bad ? 0 : (size_t)(r.p - from));
    out->results_n = pg_u16(&r);
    out->results = pg_bytes(&r, 2u * out->results_n).ptr;
    if (over(&r) || (out->formats_n > 1 && out->formats_n != out->params_n))
        return ERR_CORRUPT_INPUT;
    return ERR_OK;
}

struct slice pg_bind_param(struct slice *params)
{
    struct pg_reader r;
    struct slice v;
    uint32_t n;

    pg_reader_init(&r, *params);
    n = pg_u32(&r);
    v = n == UINT32_MAX ? SLICE_NULL : pg_bytes(&r, n);
    *params = slice_of(r.p, (size_t)(r.end - r.p));
    return v;
}

uint16_t pg_format(const uint8_t *formats, uint16_t n, unsigned i)
{
    if (n == 0 || (n > 1 && i >= n))
        return 0;
    return be16_load(formats + (n == 1 ? 0 : 2u * i));
}

enum err pg_target_decode(struct slice body, struct pg_target *out)
{
    struct pg_reader r;

    pg_reader_init(&r, body);
    out->kind = pg_u8(&r);
    out->name = pg_text(&r);
    return over(&r) || (out->kind != 'S' && out->kind != 'P') ? ERR_CORRUPT_INPUT : ERR_OK;
}

enum err pg_execute_decode(struct slice body, struct pg_execute *out)
{
    struct pg_reader r;

    pg_reader_init(&r, body);
    out->portal = pg_text(&r);
    out->rows = pg_u32(&r);
    if (out->rows > INT32_MAX) /* negative: no limit */
        out->rows = 0;
    return over(&r);
}

enum err pg_text_decode(struct slice body, struct slice *out)
{
    struct pg_reader r;

    pg_reader_init(&r, body);
    *out = pg_text(&r);
    return over(&r);
}

enum err pg_sasl_initial_decode(struct slice body, struct pg_sasl_initial *out)
{
    struct pg_reader r;
    uint32_t n;

    pg_reader_init(&r, body);
    out->mech = pg_text(&r);
    n = pg_u32(&r);
    out->data = n == UINT32_MAX ? SLICE_NULL : pg_bytes(&r, n);
    return over(&r);
}

/* ---- what a server says ---- */

/* A buffer that runs over is caught where it is emptied: messages are small against its maximum. */
static void put(struct buf *b, const void *p, size_t n)
{
    ASSERT(buf_append(b, p, n) == ERR_OK);
}

static void put_str(struct buf *b, const char *s)
{
    put(b, s, strlen(s) + 1);
}

static void put_u32(struct buf *b, uint32_t v)
{
    uint8_t x[4];

    be32_store(x, v);
    put(b, x, 4);
}

size_t pg_begin(struct buf *b, char type)
{
    size_t at = b->len;
    uint8_t head[5] = {(uint8_t)type, 0, 0, 0, 0};

    put(b, head, sizeof head);
    return at;
}

void pg_end(struct buf *b, size_t at)
{
    be32_store(b->ptr + at + 1, (uint32_t)(b->len - at - 1));
}

enum err pg_message_end(struct buf *out, size_t at, enum err e)
{
    if (!e && out->len - at - 1 > INT32_MAX)
        e = ERR_TOO_LARGE;
    if (e)
        out->len = at;
    else
        be32_store(out->ptr + at + 1, (uint32_t)(out->len - at - 1));
    return e;
}

void pg_empty(struct buf *b, char type)
{
    pg_end(b, pg_begin(b, type));
}

void pg_auth(struct buf *b, uint32_t kind, struct slice data)
{
    size_t at = pg_begin(b, 'R');

    put_u32(b, kind);
    if (data.len)
        put(b, data.ptr, data.len);
    pg_end(b, at);
}

void pg_parameter(struct buf *b, const char *name, const char *value)
{
    size_t at = pg_begin(b, 'S');

    put_str(b, name);
    put_str(b, value);
    pg_end(b, at);
}

void pg_ready(struct buf *b, char state)
{
    size_t at = pg_begin(b, 'Z');

    put(b, &state, 1);
    pg_end(b, at);
}

void pg_complete(struct buf *b, const char *tag)
{
    size_t at = pg_begin(b, 'C');

    put_str(b, tag);
    pg_end(b, at);
}

static void field(struct buf *b, char code, const char *text)
{
    if (!text || !*text)
        return;
    put(b, &code, 1);
    put_str(b, text);
}

void pg_error(struct buf *b, const struct pg_error *e)
{
    bool bad = strcmp(e->severity, "ERROR") == 0 || strcmp(e->severity, "FATAL") == 0 ||
               strcmp(e->severity, "PANIC") == 0;
    size_t at = pg_begin(b, bad ? 'E' : 'N');
    char position[16];

    field(b, 'S', e->severity);
    field(b, 'V', e->severity);
    field(b, 'C', e->code);
    field(b, 'M', *e->message ? e->message : "unknown error");
    field(b, 'D', e->detail);
    field(b, 'H', e->hint);
    snprintf(position, sizeof position, "%u", e->position);
    field(b, 'P', e->position ? position : NULL);
    put(b, "", 1);
    pg_end(b, at);
}

void pg_column(struct buf *b, struct slice name, uint32_t oid, int16_t typlen, int32_t typmod,
               uint16_t format)
{
    const uint8_t *nul = name.len ? memchr(name.ptr, 0, name.len) : NULL;
    uint8_t rest[18] = {0}; /* table and column number: none */

    put(b, name.ptr ? (const char *)name.ptr : "", nul ? (size_t)(nul - name.ptr) : name.len);
    put(b, "", 1);
    be32_store(rest + 6, oid);
    be16_store(rest + 10, (uint16_t)typlen);
    be32_store(rest + 12, (uint32_t)typmod);
    be16_store(rest + 16, format);
    put(b, rest, sizeof rest);
}
