/* Lines of JSON as the records that they were made of. See jsonl.h.
 *
 * A file is read piece by piece: its members (gzip) or frames (zstd), one behind the other, are
 * inflated into `lines`, which holds a line at least, and no more than the longest that there can be.
 * A file that ends within a member, or within a line, is damaged. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/hex.h"
#include "base/jtext.h"
#include "base/timefmt.h"
#include "journal/compress.h"
#include "lake/jsonl.h"

#define READ_BYTES (256u << 10)
#define STEP_BYTES (256u << 10) /* room for what is inflated at once */
#define LINES_MAX  (6ull * LIMIT_BATCH_INFLATED + (2u << 20))
#define DEPTH_MAX  110u /* what jsonl_line takes, and the line's own */

/* ---- a line ---- */

void jsonl_parsed_init(struct jsonl_parsed *p)
{
    memset(p, 0, sizeof *p);
    buf_init(&p->scratch, LINES_MAX);
}

void jsonl_parsed_fini(struct jsonl_parsed *p)
{
    buf_fini(&p->scratch);
    free(p->header);
}

/* A member's name within its quotes. */
static bool is(struct slice name, const char *want)
{
    return slice_eq_str(name, want);
}

/* A string's bytes. scratch has room for as many bytes as the line has. */
static struct slice text_of(struct jsonl_parsed *p, struct slice raw)
{
    struct slice inner = slice_of(raw.ptr + 1, raw.len - 2), out;

    if (!memchr(inner.ptr, '\\', inner.len))
        return inner;
    out = slice_of(p->scratch.ptr + p->scratch.len,
                   jtext_unescape(inner, p->scratch.ptr + p->scratch.len));
    p->scratch.len += out.len;
    return out;
}

static bool base64_of(struct jsonl_parsed *p, struct slice raw, struct slice *out)
{
    uint8_t *at = p->scratch.ptr + p->scratch.len;
    size_t n;

    if (!base64_decode((const char *)raw.ptr + 1, raw.len - 2, at, &n))
        return false;
    p->scratch.len += n;
    *out = slice_of(at, n);
    return true;
}

/* "NAME":null, "NAME":"text" or "NAME_base64":"…"; true if the member is one of them, and well. */
static bool bytes_take(struct jsonl_parsed *p, const char *want, struct slice name,
                       struct slice raw, enum jtext_type type, struct slice *out)
{
    size_t n = strlen(want);

    if (name.len < n || memcmp(name.ptr, want, n) != 0)
        return false;
    if (name.len == n && type == JTEXT_NULL)
        *out = SLICE_NULL;
    else if (name.len == n && type == JTEXT_STRING)
        *out = text_of(p, raw);
    else
        return is(slice_of(name.ptr + n, name.len - n), "_base64") && type == JTEXT_STRING &&
               base64_of(p, raw, out);
    return true;
}

/* The next member of an object. */
static bool member(struct jtext_scan *s, struct slice *name, struct slice *raw,
                   enum jtext_type *type)
{
    bool escaped;

    return jtext_more(s) && jtext_string(s, name, &escaped) && !escaped &&
           jtext_expect(s, ':', "no colon") && jtext_value(s, raw, type);
}

/* {"name":…,"value":…} */
static bool header_take(struct jsonl_parsed *p, struct jtext_scan *s, struct record_header *h)
{
    struct slice name, raw;
    enum jtext_type type;

    *h = (struct record_header){SLICE_LIT(""), SLICE_NULL};
    if (!jtext_expect(s, '{', "no header"))
        return false;
    do {
        if (!member(s, &name, &raw, &type) || (!bytes_take(p, "name", name, raw, type, &h->key) &&
                                               !bytes_take(p, "value", name, raw, type, &h->value)))
            return false;
    } while (jtext_accept(s, ','));
    return jtext_expect(s, '}', "no end of the header");
}

static bool headers_take(struct jsonl_parsed *p, struct slice raw)
{
    struct jtext_scan s;

    jtext_scan_init(&s, raw, DEPTH_MAX);
    if (!jtext_expect(&s, '[', "no headers"))
        return false;
    if (jtext_accept(&s, ']'))
        return true;
    do {
        if (p->r.headers_n == LIMIT_RECORD_HEADERS)
            return false;
        if (p->r.headers_n == p->headers_cap) {
            p->headers_cap = p->headers_cap ? p->headers_cap * 2 : 8;
            p->header = xrealloc(p->header, p->headers_cap * sizeof *p->header);
        }
        if (!header_take(p, &s, &p->header[p->r.headers_n++]))
            return false;
    } while (jtext_accept(&s, ','));
    return jtext_expect(&s, ']', "no end of headers");
}

struct values {
    struct slice json, text, exact;
};

/* Of those that are known. */
static bool line_number(struct jsonl_parsed *p, struct slice name, struct slice raw)
{
    bool partition = is(name, "partition"), offset = is(name, "offset");
    bool position = is(name, "position");
    int64_t n;

    if (!partition && !offset && !position && !is(name, "timestamp_ms"))
        return true;
    if (!jtext_int(raw, &n))
        return false;
    if (partition)
        p->partition = n >= 0 && n <= INT32_MAX ? (int32_t)n : -1;
    else if (offset)
        p->r.offset = n;
    else if (position)
        p->r.position = (uint64_t)n;
    else
        p->r.timestamp_ms = n;
    return !position || n >= 0;
}

/* One member of the line; what is not known is passed by. */
static bool line_member(struct jsonl_parsed *p, struct slice name, struct slice raw,
                        enum jtext_type type, struct values *v)
{
    if (is(name, "value")) {
        v->json = raw;
        return true;
    }
    if (is(name, "headers"))
        return type == JTEXT_ARRAY && headers_take(p, raw);
    if (is(name, "timestamp")) {
        if (type == JTEXT_STRING)
            (void)time_parse(text_of(p, raw), &p->r.timestamp_ms); /* else timestamp_ms comes */
        return type == JTEXT_STRING;
    }
    if (is(name, "key") || is(name, "key_base64"))
        return bytes_take(p, "key", name, raw, type, &p->r.key);
    if (is(name, "value_text"))
        return bytes_take(p, "value_text", name, raw, type, &v->text);
    if (is(name, "value_base64"))
        return bytes_take(p, "value", name, raw, type, &v->exact);
    return type != JTEXT_NUMBER || line_number(p, name, raw);
}

bool jsonl_line_parse(struct slice line, struct jsonl_parsed *p)
{
    struct values v = {SLICE_NULL, SLICE_NULL, SLICE_NULL};
    struct slice name, raw;
    enum jtext_type type;
    struct jtext_scan s;

    buf_clear(&p->scratch);
    p->partition = -1;
    p->r = (struct lake_record){.offset = -1, .timestamp_ms = -1};
    if (buf_reserve(&p->scratch, line.len + 1))
        return false;
    jtext_scan_init(&s, line, DEPTH_MAX);
    if (!jtext_expect(&s, '{', "no object"))
        return false;
    do {
        if (!member(&s, &name, &raw, &type) || !line_member(p, name, raw, type, &v))
            return false;
    } while (jtext_accept(&s, ','));
    p->r.headers = p->header;
    p->r.value = v.exact.ptr ? v.exact : v.text.ptr ? v.text : v.json;
    return jtext_expect(&s, '}', "no end") && !jtext_more(&s) && p->partition >= 0 &&
           p->r.offset >= 0;
}

/* ---- a file ---- */

struct jsonl_cursor {
    struct lake_cursor_conf conf;
    char *path;
    struct io_file *file;
    enum codec codec;
    z_stream gzip;
    ZSTD_DStream *zstd;
    uint8_t *in;
    size_t in_at, in_n; /* of in */
    uint64_t off;
    bool within; /* a member or frame that has not ended */
    bool ended;
    struct buf lines;
    size_t at; /* in lines: the next line */
    struct jsonl_parsed line;
};

enum codec jsonl_codec_of(const char *name)
{
    size_t n = strlen(name);

    if (n > 3 && strcmp(name + n - 3, ".gz") == 0)
        return CODEC_GZIP;
    return n > 4 && strcmp(name + n - 4, ".zst") == 0 ? CODEC_ZSTD : CODEC_NONE;
}

static enum err damaged(const struct jsonl_cursor *c, const char *what, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT, "%.200s %s", c->path, what);
}

static enum err gunzip(struct jsonl_cursor *c, struct errinfo *info)
{
    int rc;

    c->gzip.next_in = c->in + c->in_at;
    c->gzip.avail_in = (uInt)(c->in_n - c->in_at);
    c->gzip.next_out = c->lines.ptr + c->lines.len;
    c->gzip.avail_out = STEP_BYTES;
    rc = inflate(&c->gzip, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return damaged(c, "is no gzip file, or a damaged one", info);
    c->within = rc != Z_STREAM_END;
    if (rc == Z_STREAM_END)
        inflateReset(&c->gzip);
    c->in_at = c->in_n - c->gzip.avail_in;
    c->lines.len += STEP_BYTES - c->gzip.avail_out;
    return ERR_OK;
}

static enum err unzstd(struct jsonl_cursor *c, struct errinfo *info)
{
    ZSTD_inBuffer in = {c->in, c->in_n, c->in_at};
    ZSTD_outBuffer out = {c->lines.ptr + c->lines.len, STEP_BYTES, 0};
    size_t rc = ZSTD_decompressStream(c->zstd, &out, &in);

    if (ZSTD_isError(rc))
        return damaged(c, "is no zstd file, or a damaged one", info);
    c->within = rc != 0;
    c->in_at = in.pos;
    c->lines.len += out.pos;
    return ERR_OK;
}

static enum err plain(struct jsonl_cursor *c)
{
    size_t n = c->in_n - c->in_at < STEP_BYTES ? c->in_n - c->in_at : STEP_BYTES;

    memcpy(c->lines.ptr + c->lines.len, c->in + c->in_at, n);
    c->in_at += n;
    c->lines.len += n;
    return ERR_OK;
}

/* More of the file into lines. ERR_EOF: that was all. */
static enum err more(struct jsonl_cursor *c, struct errinfo *info)
{
    size_t was;
    enum err e = ERR_OK;

    if (c->at) {
        memmove(c->lines.ptr, c->lines.ptr + c->at, c->lines.len - c->at);
        c->lines.len -= c->at;
        c->at = 0;
    }
    if (buf_reserve(&c->lines, STEP_BYTES))
        return damaged(c, "has a line that is too long", info);
    was = c->lines.len;
    while (!e && c->lines.len == was) {
        if (c->in_at == c->in_n && !c->ended) {
            e = io_pread(c->file, c->in, READ_BYTES, c->off, &c->in_n, info);
            c->in_at = 0;
            c->off += c->in_n;
            c->ended = !e && c->in_n == 0;
            if (e)
                return e;
        }
        if (!c->ended || c->within) /* what is within may wait for room alone */
            e = c->codec == CODEC_GZIP   ? gunzip(c, info)
                : c->codec == CODEC_ZSTD ? unzstd(c, info)
                                         : plain(c);
        if (!e && c->ended && c->lines.len == was)
            return c->within || was ? damaged(c, "ends too early", info) : ERR_EOF;
    }
    return e;
}

enum err jsonl_cursor_open(const struct lake_cursor_conf *conf, enum codec codec,
                           struct jsonl_cursor **out, struct errinfo *info)
{
    struct jsonl_cursor *c = xcalloc(1, sizeof *c);
    enum err e;

    *out = NULL;
    c->conf = *conf;
    c->path = xstrdup(conf->path);
    c->codec = codec;
    c->in = xmalloc(READ_BYTES);
    buf_init(&c->lines, LINES_MAX + STEP_BYTES);
    jsonl_parsed_init(&c->line);
    if (codec == CODEC_GZIP)
        ASSERT(inflateInit2(&c->gzip, 15 + 16) == Z_OK);
    if (codec == CODEC_ZSTD)
        ASSERT((c->zstd = ZSTD_createDStream()));
    e = io_open(io_real(), conf->path, IO_RDONLY, &c->file, info);
    if (e)
        jsonl_cursor_close(&c);
    *out = c;
    return e;
}

static enum err line_next(struct jsonl_cursor *c, struct slice *out, struct errinfo *info)
{
    size_t looked = 0;
    enum err e;

    for (;;) {
        const uint8_t *from = c->lines.ptr + c->at, *end;
        size_t n = c->lines.len - c->at;

        end = n > looked ? memchr(from + looked, '\n', n - looked) : NULL;
        if (end) {
            *out = slice_of(from, (size_t)(end - from));
            c->at += out->len + 1;
            return ERR_OK;
        }
        looked = n;
        e = more(c, info);
        if (e)
            return e;
    }
}

enum err jsonl_cursor_next(struct jsonl_cursor *c, const struct lake_record **out,
                           struct errinfo *info)
{
    const struct lake_record *r = &c->line.r;
    struct slice line;
    enum err e;

    while (!(e = line_next(c, &line, info))) {
        if (!jsonl_line_parse(line, &c->line))
            return damaged(c, "has a line that was not written by Weir", info);
        if (c->line.partition != c->conf.partition || r->offset < c->conf.from ||
            r->offset >= c->conf.to || r->timestamp_ms < c->conf.ts_min_ms ||
            r->position < c->conf.position_min)
            continue;
        *out = r;
        return ERR_OK;
    }
    return e;
}

void jsonl_cursor_close(struct jsonl_cursor **cp)
{
    struct jsonl_cursor *c = *cp;

    if (!c)
        return;
    io_close(&c->file);
    if (c->codec == CODEC_GZIP)
        inflateEnd(&c->gzip);
    ZSTD_freeDStream(c->zstd);
    buf_fini(&c->lines);
    jsonl_parsed_fini(&c->line);
    free(c->path);
    free(c->in);
    free(c);
    *cp = NULL;
}
