/* S3-compatible storage as object store (Amazon S3 API reference; as AWS, Cloudflare R2, MinIO,
 * SeaweedFS and Ceph understand it). Requests go by store_s3_http.c.
 *
 * Each put carries a random token as metadata (x-amz-meta-weir-put). When an answer got lost, or a
 * conditional put that was sent again is refused, the object is looked at: with our token the put
 * had worked. So a writer never takes its own object for another's, nor another's for its own.
 *
 * Sources larger than a part go up in parts; a part is retried by itself; when the whole fails the
 * upload is aborted, and what even that leaves behind a sweep removes.
 *
 * Any thread. */
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "io/io.h"
#include "lake/signer.h"
#include "lake/sigv4.h"
#include "lake/store_s3_int.h"

#define PART_BYTES_MIN (5u << 20)
#define PARTS_MAX      10000u
#define DELETE_MAX     1000u
#define TOKEN_LEN      32
#define LOOK_MS        10000u /* to find out what became of a put */

static struct s3_store *s3_of(const struct store *s)
{
    return (struct s3_store *)(uintptr_t)s;
}

/* ---- errors ---- */

static void text_copy(char *out, size_t cap, struct slice s)
{
    size_t n = s.len < cap ? s.len : cap - 1;

    if (n)
        memcpy(out, s.ptr, n);
    out[n] = 0;
}

static void on_error_text(void *arg, const char *path, struct slice text)
{
    struct s3_answer *a = arg;

    if (strcmp(path, "Error/Code") == 0)
        text_copy(a->code, sizeof a->code, text);
    else if (strcmp(path, "Error/Message") == 0)
        text_copy(a->message, sizeof a->message, text);
    else if (strcmp(path, "Error/Region") == 0)
        text_copy(a->region, sizeof a->region, text);
}

void s3_error_parse(struct slice doc, struct s3_answer *a)
{
    if (doc.len && doc.ptr[0] == '<')
        (void)store_xml_each(doc, on_error_text, a);
}

static enum err status_error(const struct s3_answer *a)
{
    switch (a->status) {
    case 404:
        return ERR_NOT_FOUND;
    case 412:
        return ERR_EXISTS;
    case 401:
        return ERR_UNAUTHENTICATED;
    case 403:
        return ERR_FORBIDDEN;
    case 409:
        return ERR_CONFLICT;
    case 507:
        return ERR_NO_SPACE;
    case 501:
        return ERR_UNSUPPORTED;
    case 429:
    case 503:
        return ERR_OVERLOADED;
    case 408:
    case 504:
        return ERR_TIMEOUT;
    default:
        return a->status >= 500 ? ERR_NETWORK : ERR_INVALID;
    }
}

/* What to do, for the errors that people meet. */
static const char *advice(const struct s3_answer *a)
{
    static const struct {
        const char *code, *text;
    } rows[] = {
        {"NoSuchBucket", "; make the bucket first"},
        {"SignatureDoesNotMatch", "; check the secret key and the region"},
        {"InvalidAccessKeyId", "; check the access key"},
        {"RequestTimeTooSkewed", "; set this machine's clock"},
        {"ExpiredToken", "; the session token has expired"},
        {"AuthorizationHeaderMalformed", "; check the region"},
        {"PermanentRedirect", "; check the endpoint and the region"},
        {"AccessDenied", "; these credentials may not do that in this bucket"},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(a->code, rows[i].code) == 0)
            return rows[i].text;
    return a->status == 301 || a->status == 307 ? "; check the endpoint and the region" : "";
}

enum err s3_error(const struct s3_store *s, const struct s3_request *r, const struct s3_answer *a,
                  struct errinfo *info)
{
    enum err e = status_error(a);

    if (e == ERR_NOT_FOUND && strcmp(a->code, "NoSuchBucket") == 0)
        e = ERR_CONFIG;
    return errinfo_set(info, e, "%.60s: %s %.80s: status %ld %.40s%s%.80s%s", s->base.url,
                       r->method, r->key ? r->key : "", a->status, a->code,
                       a->message[0] ? ": " : "", a->message, advice(a));
}

/* ---- putting ---- */

static uint64_t source_len(const struct store_source *src)
{
    return src->path ? src->len : src->bytes.len;
}

static void token_make(char out[TOKEN_LEN + 1])
{
    uint8_t r[TOKEN_LEN / 2];

    io_random(io_real(), r, sizeof r);
    hex_encode(r, sizeof r, out);
}

static void put_headers(struct s3_store *s, struct s3_request *r, const struct store_put *how,
                        const char *token)
{
    const char *cls = how->storage_class ? how->storage_class : s->storage_class;

    s3_header(r, "x-amz-meta-weir-put", token);
    if (cls)
        s3_header(r, "x-amz-storage-class", cls);
}

static void condition_headers(struct s3_request *r, const struct store_put *how)
{
    if (how->condition == STORE_IF_NONE)
        s3_header(r, "if-none-match", "*");
    else if (how->condition == STORE_IF_MATCH)
        s3_header(r, "if-match", how->etag ? how->etag : "\"\"");
}

static enum err head_answer(struct s3_store *s, const char *key, struct s3_answer *a,
                            struct errinfo *info)
{
    struct s3_request r = {.method = "HEAD", .key = key, .fd = -1};

    return s3_call(s, &r, a, info);
}

/* A put or the end of an upload failed with e after something of it may have been carried out, or
 * a condition refused what may be our own: look. */
static enum err outcome_find(struct s3_store *s, const char *key, const char *token,
                             const struct store_put *how, enum err e, struct store_stat *out,
                             struct errinfo *info)
{
    struct s3_request r = {.method = "HEAD", .key = key, .fd = -1, .deadline_ms = LOOK_MS};
    struct errinfo why = {0};
    struct s3_answer a;
    enum err h = s3_call(s, &r, &a, &why);

    if (!h && strcmp(a.token, token) == 0) {
        *out = a.st;
        return ERR_OK;
    }
    if (e == ERR_EXISTS && !h)
        return how->condition == STORE_IF_MATCH
                   ? errinfo_set(info, ERR_CONFLICT, "\"%.150s\" has changed", key)
                   : e;
    return errinfo_set(info, ERR_UNCERTAIN,
                       "putting %.80s to %.60s: no answer came, and it may be done yet or not: "
                       "%.80s",
                       key, s->base.url, h && h != ERR_NOT_FOUND ? why.text : "not seen so far");
}

/* The end of a put, of either kind. */
static enum err put_end(struct s3_store *s, const char *key, const char *token,
                        const struct store_put *how, const struct s3_answer *a, enum err e,
                        struct store_stat *out, struct errinfo *info)
{
    if (!e || !a->lost) {
        if (!e)
            *out = a->st;
        if (e == ERR_EXISTS && how->condition == STORE_IF_MATCH)
            e = errinfo_set(info, ERR_CONFLICT, "\"%.150s\" has changed", key);
        return e;
    }
    return outcome_find(s, key, token, how, e, out, info);
}

static enum err put_one(struct s3_store *s, const char *key, const struct store_source *src,
                        const struct store_put *how, struct store_stat *out, struct errinfo *info)
{
    char token[TOKEN_LEN + 1];
    struct s3_request r = {.method = "PUT",
                           .key = key,
                           .body = *src,
                           .has_body = true,
                           .checksum = true,
                           .change = true,
                           .fd = -1};
    struct s3_answer a;
    enum err e;

    token_make(token);
    put_headers(s, &r, how, token);
    condition_headers(&r, how);
    if (how->content_type)
        s3_header(&r, "content-type", how->content_type);
    e = put_end(s, key, token, how, &a, s3_call(s, &r, &a, info), out, info);
    if (!e)
        out->size = source_len(src);
    return e;
}

/* ---- in parts ---- */

struct upload {
    struct s3_store *s;
    const char *key;
    const struct store_source *src;
    char id[1024];
    char token[TOKEN_LEN + 1];
    struct buf done; /* the document that completes it */
};

static void on_upload_text(void *arg, const char *path, struct slice text)
{
    struct upload *u = arg;

    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0)
        text_copy(u->id, sizeof u->id, text);
}

static enum err upload_begin(struct upload *u, const struct store_put *how, struct errinfo *info)
{
    struct s3_request r = {.method = "POST", .key = u->key, .fd = -1, .has_body = true};
    struct s3_answer a;
    struct buf doc;
    enum err e;

    buf_init(&doc, LIMIT_STORE_ANSWER);
    r.out = &doc;
    s3_query(&r, "uploads", "");
    put_headers(u->s, &r, how, u->token);
    if (how->content_type)
        s3_header(&r, "content-type", how->content_type);
    if (u->s->checksums)
        s3_header(&r, "x-amz-checksum-algorithm", "CRC32C");
    e = s3_call(u->s, &r, &a, info);
    if (!e && (store_xml_each(buf_slice(&doc), on_upload_text, u) || !u->id[0]))
        e = errinfo_set(info, ERR_NETWORK, "%.100s began no upload in parts", u->s->base.url);
    buf_fini(&doc);
    return e;
}

static enum err part_note(struct upload *u, unsigned n, const struct s3_answer *a)
{
    enum err e = buf_printf(&u->done, "<Part><PartNumber>%u</PartNumber><ETag>", n);

    if (!e)
        e = store_xml_escape(&u->done, slice_str(a->st.etag));
    if (!e)
        e = buf_append_str(&u->done, "</ETag>");
    if (!e && a->crc[0])
        e = buf_printf(&u->done, "<ChecksumCRC32C>%s</ChecksumCRC32C>", a->crc);
    return e ? e : buf_append_str(&u->done, "</Part>");
}

static enum err part_put(struct upload *u, unsigned n, uint64_t off, uint64_t len,
                         struct errinfo *info)
{
    struct s3_request r = {.method = "PUT",
                           .key = u->key,
                           .body = *u->src,
                           .has_body = true,
                           .checksum = true,
                           .fd = -1};
    struct s3_answer a;
    char number[16];
    enum err e;

    if (u->src->path) {
        r.body.off += off;
        r.body.len = len;
    } else {
        r.body.bytes = slice_of(u->src->bytes.ptr + off, (size_t)len);
    }
    snprintf(number, sizeof number, "%u", n);
    s3_query(&r, "partNumber", number);
    s3_query(&r, "uploadId", u->id);
    e = s3_call(u->s, &r, &a, info);
    return e ? e : part_note(u, n, &a);
}

static enum err parts_put(struct upload *u, struct errinfo *info)
{
    uint64_t size = source_len(u->src), part = u->s->part_bytes, off;
    enum err e = buf_append_str(&u->done, "<CompleteMultipartUpload "
                                          "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    unsigned n = 1;

    while (part * PARTS_MAX < size)
        part *= 2;
    for (off = 0; !e && off < size; off += part, n++)
        e = part_put(u, n, off, size - off < part ? size - off : part, info);
    return e ? e : buf_append_str(&u->done, "</CompleteMultipartUpload>");
}

struct completed {
    struct s3_answer *a;
    bool error;
};

static void on_complete_text(void *arg, const char *path, struct slice text)
{
    struct completed *c = arg;

    if (strcmp(path, "Error") == 0)
        c->error = true;
    else if (strcmp(path, "CompleteMultipartUploadResult/ETag") == 0)
        text_copy(c->a->st.etag, sizeof c->a->st.etag, text);
    on_error_text(c->a, path, text);
}

/* The answer's status may be 200 although it failed: then the document is an error. */
static enum err upload_complete(struct upload *u, const struct store_put *how, struct s3_answer *a,
                                struct errinfo *info)
{
    struct s3_request r = {.method = "POST",
                           .key = u->key,
                           .body = {.bytes = buf_slice(&u->done)},
                           .has_body = true,
                           .change = true,
                           .fd = -1};
    struct completed c = {.a = a};
    struct buf doc;
    enum err e;

    buf_init(&doc, LIMIT_STORE_ANSWER);
    r.out = &doc;
    s3_query(&r, "uploadId", u->id);
    condition_headers(&r, how);
    e = s3_call(u->s, &r, a, info);
    if (!e && store_xml_each(buf_slice(&doc), on_complete_text, &c))
        c.error = true;
    if (!e && c.error) {
        a->lost = true;
        e = errinfo_set(info, ERR_NETWORK, "%.60s: ending the upload of %.80s: %.40s %.60s",
                        u->s->base.url, u->key, a->code, a->message);
    }
    if (e == ERR_NOT_FOUND) /* ended by an attempt whose answer was lost, or swept */
        a->lost = true;
    buf_fini(&doc);
    return e;
}

static void upload_abort(struct s3_store *s, const char *key, const char *id)
{
    struct s3_request r = {.method = "DELETE", .key = key, .fd = -1};
    struct s3_answer a;

    s3_query(&r, "uploadId", id);
    (void)s3_call(s, &r, &a, NULL); /* a sweep removes what is left */
}

static enum err put_parts(struct s3_store *s, const char *key, const struct store_source *src,
                          const struct store_put *how, struct store_stat *out, struct errinfo *info)
{
    struct upload u = {.s = s, .key = key, .src = src};
    struct s3_answer a = {0};
    enum err e;

    token_make(u.token);
    if ((e = upload_begin(&u, how, info)))
        return e;
    buf_init(&u.done, LIMIT_STORE_ANSWER);
    e = parts_put(&u, info);
    if (!e) {
        e = upload_complete(&u, how, &a, info);
        e = put_end(s, key, u.token, how, &a, e, out, info);
    }
    if (e && e != ERR_UNCERTAIN)
        upload_abort(s, key, u.id);
    if (!e)
        out->size = source_len(src);
    buf_fini(&u.done);
    return e;
}

static enum err s3_put(struct store *st, const char *key, const struct store_source *src,
                       const struct store_put *how, struct store_stat *out, struct errinfo *info)
{
    struct s3_store *s = s3_of(st);

    memset(out, 0, sizeof *out);
    return source_len(src) > s->part_bytes ? put_parts(s, key, src, how, out, info)
                                           : put_one(s, key, src, how, out, info);
}

/* ---- getting ---- */

static enum err s3_get(struct store *st, const char *key, uint64_t off, uint64_t len,
                       struct buf *out, int fd, struct store_stat *stat, struct errinfo *info)
{
    struct s3_request r = {.method = "GET", .key = key, .out = out, .fd = fd};
    size_t before = out ? out->len : 0;
    struct s3_answer a;
    char range[64];
    enum err e;

    if (len == 0)
        return st->ops->head(st, key, stat, info);
    if (off && len == STORE_ALL)
        snprintf(range, sizeof range, "bytes=%" PRIu64 "-", off);
    else
        snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, off,
                 off > UINT64_MAX - len ? UINT64_MAX : off + len - 1);
    if (off || len != STORE_ALL)
        s3_header(&r, "range", range);
    r.len = len == STORE_ALL ? (1u << 30) : len;
    e = s3_call(s3_of(st), &r, &a, info);
    if (e == ERR_INVALID && a.status == 416) /* behind the end */
        return st->ops->head(st, key, stat, info);
    if (e)
        return e;
    *stat = a.st;
    if (a.range_total != UINT64_MAX)
        stat->size = a.range_total;
    if (a.status == 200 && (off || len != STORE_ALL) && out) { /* the range was not heeded */
        uint64_t got = out->len - before;

        len = off >= got ? 0 : len > got - off ? got - off : len;
        memmove(out->ptr + before, out->ptr + before + (len ? off : 0), (size_t)len);
        out->len = before + (size_t)len;
    }
    return ERR_OK;
}

static enum err s3_head(struct store *st, const char *key, struct store_stat *out,
                        struct errinfo *info)
{
    struct s3_answer a;
    enum err e = head_answer(s3_of(st), key, &a, info);

    if (!e)
        *out = a.st;
    return e;
}

/* ---- listing ---- */

struct page {
    const char *strip; /* the store's prefix */
    bool (*fn)(void *arg, const struct store_entry *e);
    void *arg;
    char key[STORE_LOCATION_MAX + 1];
    uint64_t size;
    int64_t modified_ms;
    char next[2048];
    bool truncated, more;
};

static void page_entry(struct page *p)
{
    size_t n = strlen(p->strip);
    struct store_entry e = {p->key + n, p->size, p->modified_ms};

    if (p->more && strncmp(p->key, p->strip, n) == 0 && p->key[n])
        p->more = p->fn(p->arg, &e);
}

static void on_list_text(void *arg, const char *path, struct slice text)
{
    struct page *p = arg;
    char num[32];

    if (strcmp(path, "ListBucketResult/Contents/Key") == 0) {
        text_copy(p->key, sizeof p->key, text);
    } else if (strcmp(path, "ListBucketResult/Contents/Size") == 0) {
        text_copy(num, sizeof num, text);
        p->size = strtoull(num, NULL, 10);
    } else if (strcmp(path, "ListBucketResult/Contents/LastModified") == 0) {
        if (!time_parse(text, &p->modified_ms))
            p->modified_ms = 0;
    } else if (strcmp(path, "ListBucketResult/Contents") == 0) {
        page_entry(p);
    } else if (strcmp(path, "ListBucketResult/IsTruncated") == 0) {
        p->truncated = slice_eq_str(text, "true");
    } else if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0) {
        text_copy(p->next, sizeof p->next, text);
    }
}

static enum err page_get(struct s3_store *s, struct page *p, const char *prefix, const char *after,
                         struct errinfo *info)
{
    struct s3_request r = {.method = "GET", .fd = -1};
    char token[sizeof p->next];
    struct s3_answer a;
    struct buf doc;
    enum err e;

    memcpy(token, p->next, sizeof token);
    buf_init(&doc, LIMIT_STORE_ANSWER);
    r.out = &doc;
    if (token[0])
        s3_query(&r, "continuation-token", token);
    s3_query(&r, "list-type", "2");
    s3_query(&r, "prefix", prefix);
    if (after && !token[0])
        s3_query(&r, "start-after", after);
    e = s3_call(s, &r, &a, info);
    p->next[0] = 0;
    p->truncated = false;
    if (!e && store_xml_each(buf_slice(&doc), on_list_text, p))
        e = errinfo_set(info, ERR_NETWORK, "%.100s: the listing does not parse", s->base.url);
    buf_fini(&doc);
    return e;
}

static enum err s3_list(struct store *st, const char *prefix, const char *after,
                        bool (*fn)(void *arg, const struct store_entry *e), void *arg,
                        struct errinfo *info)
{
    struct s3_store *s = s3_of(st);
    struct page *p = xcalloc(1, sizeof *p);
    char whole[STORE_LOCATION_MAX + 1], from[STORE_LOCATION_MAX + 1];
    enum err e = ERR_OK;

    snprintf(whole, sizeof whole, "%s%.900s", s->prefix, prefix);
    snprintf(from, sizeof from, "%s%.900s", s->prefix, after ? after : "");
    *p = (struct page){.strip = s->prefix, .fn = fn, .arg = arg, .more = true};
    do {
        e = page_get(s, p, whole, after ? from : NULL, info);
    } while (!e && p->more && p->truncated && p->next[0]);
    free(p);
    return e;
}

/* ---- removing ---- */

struct removal {
    char key[S3_TEXT_MAX], code[S3_TEXT_MAX], message[S3_TEXT_MAX];
    unsigned failed;
};

static void on_delete_text(void *arg, const char *path, struct slice text)
{
    struct removal *d = arg;

    if (strcmp(path, "DeleteResult/Error/Key") == 0)
        text_copy(d->key, sizeof d->key, text);
    else if (strcmp(path, "DeleteResult/Error/Code") == 0)
        text_copy(d->code, sizeof d->code, text);
    else if (strcmp(path, "DeleteResult/Error/Message") == 0)
        text_copy(d->message, sizeof d->message, text);
    else if (strcmp(path, "DeleteResult/Error") == 0 && strcmp(d->code, "NoSuchKey") != 0)
        d->failed++;
}

static enum err delete_doc(struct s3_store *s, const char *const *keys, size_t n, struct buf *doc)
{
    enum err e = buf_append_str(doc, "<Delete><Quiet>true</Quiet>");
    size_t i;

    for (i = 0; !e && i < n; i++) {
        e = buf_append_str(doc, "<Object><Key>");
        if (!e)
            e = store_xml_escape(doc, slice_str(s->prefix));
        if (!e)
            e = store_xml_escape(doc, slice_str(keys[i]));
        if (!e)
            e = buf_append_str(doc, "</Key></Object>");
    }
    return e ? e : buf_append_str(doc, "</Delete>");
}

static enum err delete_some(struct s3_store *s, const char *const *keys, size_t n,
                            struct errinfo *info)
{
    struct s3_request r = {.method = "POST", .has_body = true, .fd = -1};
    struct removal d = {.failed = 0};
    struct buf doc, answer;
    struct s3_answer a;
    uint8_t md[EVP_MAX_MD_SIZE];
    char md5[BASE64_LEN(16) + 1];
    unsigned len = 0;
    enum err e;

    buf_init(&doc, LIMIT_STORE_ANSWER);
    buf_init(&answer, LIMIT_STORE_ANSWER);
    e = delete_doc(s, keys, n, &doc);
    if (!e && !EVP_Digest(doc.ptr, doc.len, md, &len, EVP_md5(), NULL))
        e = ERR_INTERNAL;
    if (e) {
        errinfo_set(info, e, "making a request to remove objects: %s", err_text(e));
    } else {
        base64_encode(md, 16, md5);
        r.body.bytes = buf_slice(&doc);
        r.out = &answer;
        s3_query(&r, "delete", "");
        s3_header(&r, "content-md5", md5);
        e = s3_call(s, &r, &a, info);
    }
    if (!e && answer.len && store_xml_each(buf_slice(&answer), on_delete_text, &d))
        e = errinfo_set(info, ERR_NETWORK, "%.100s: the answer to a removal does not parse",
                        s->base.url);
    if (!e && d.failed)
        e = errinfo_set(info, strcmp(d.code, "AccessDenied") == 0 ? ERR_FORBIDDEN : ERR_NETWORK,
                        "%.60s: %u of %zu objects were not removed, such as %.60s: %.30s %.40s",
                        s->base.url, d.failed, n, d.key, d.code, d.message);
    buf_fini(&doc);
    buf_fini(&answer);
    return e;
}

static enum err delete_one(struct s3_store *s, const char *key, struct errinfo *info)
{
    struct s3_request r = {.method = "DELETE", .key = key, .fd = -1};
    struct s3_answer a;
    enum err e = s3_call(s, &r, &a, info);

    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err s3_remove(struct store *st, const char *const *keys, size_t n, struct errinfo *info)
{
    enum err e = ERR_OK;
    size_t at, some;

    /* A signer looks whether the URL is one of its table's: a removal of many names only the bucket. */
    for (at = 0; s3_of(st)->signer && !e && at < n; at++)
        e = delete_one(s3_of(st), keys[at], info);
    if (s3_of(st)->signer)
        return e;
    for (at = 0; !e && at < n; at += some) {
        some = n - at < DELETE_MAX ? n - at : DELETE_MAX;
        e = delete_some(s3_of(st), keys + at, some, info);
    }
    return e;
}

/* ---- abandoned uploads ---- */

struct uploads {
    struct s3_store *s;
    int64_t older_than_ms, begun_ms;
    char key[STORE_LOCATION_MAX + 1], id[1024];
    uint64_t *n;
};

static void on_sweep_text(void *arg, const char *path, struct slice text)
{
    struct uploads *u = arg;
    size_t n = strlen(u->s->prefix);

    if (strcmp(path, "ListMultipartUploadsResult/Upload/Key") == 0)
        text_copy(u->key, sizeof u->key, text);
    else if (strcmp(path, "ListMultipartUploadsResult/Upload/UploadId") == 0)
        text_copy(u->id, sizeof u->id, text);
    else if (strcmp(path, "ListMultipartUploadsResult/Upload/Initiated") == 0) {
        if (!time_parse(text, &u->begun_ms))
            u->begun_ms = INT64_MAX;
    } else if (strcmp(path, "ListMultipartUploadsResult/Upload") == 0 && u->id[0] &&
               u->begun_ms < u->older_than_ms && strncmp(u->key, u->s->prefix, n) == 0) {
        upload_abort(u->s, u->key + n, u->id);
        ++*u->n;
    }
}

/* The first thousand: what is left is for the next sweep. */
static enum err s3_sweep(struct store *st, int64_t older_than_ms, uint64_t *n, struct errinfo *info)
{
    struct s3_store *s = s3_of(st);
    struct s3_request r = {.method = "GET", .fd = -1};
    struct uploads *u = xcalloc(1, sizeof *u);
    struct s3_answer a;
    struct buf doc;
    enum err e;

    *u = (struct uploads){.s = s, .older_than_ms = older_than_ms, .n = n};
    buf_init(&doc, LIMIT_STORE_ANSWER);
    r.out = &doc;
    s3_query(&r, "prefix", s->prefix);
    s3_query(&r, "uploads", "");
    e = s3_call(s, &r, &a, info);
    if (!e && store_xml_each(buf_slice(&doc), on_sweep_text, u))
        e = errinfo_set(info, ERR_NETWORK, "%.100s: the list of uploads does not parse",
                        s->base.url);
    buf_fini(&doc);
    free(u);
    return e;
}

static void s3_access(const struct store *st, struct store_access *out)
{
    const struct s3_store *s = s3_of(st);

    out->s3 = true;
    out->tls = s->tls;
    out->path_style = s->path_style;
    out->endpoint = s->endpoint;
    out->region = s->region;
    out->access_key = s->creds.access_key;
    out->secret_key = s->creds.secret_key;
    out->session_token = s->creds.session_token;
}

/* ---- opening ---- */

static void s3_close(struct store *st)
{
    struct s3_store *s = s3_of(st);

    while (s->idle_n)
        curl_easy_cleanup(s->idle[--s->idle_n]);
    io_mutex_fini(&s->lock);
    signer_free(&s->signer);
    store_creds_fini(&s->creds);
    free(s->scheme_host);
    free(s->host);
    free(s->base_path);
    free(s->prefix);
    free(s->endpoint);
    free(s->bucket);
    free(s->region);
    free(s->ca_file);
    free(s->storage_class);
    free(s->base.url);
    free(s);
}

static const struct store_ops s3_ops = {.close = s3_close,
                                        .put = s3_put,
                                        .get = s3_get,
                                        .head = s3_head,
                                        .list = s3_list,
                                        .remove = s3_remove,
                                        .sweep = s3_sweep,
                                        .access = s3_access};

static const char *pick(const char *given, const char *env_a, const char *env_b)
{
    const char *v = given;

    if (!v)
        v = getenv(env_a);
    if (!v || !v[0])
        v = getenv(env_b);
    return v && v[0] ? v : NULL;
}

__attribute__((format(printf, 1, 2))) static char *text_make(const char *fmt, ...)
{
    char out[2048];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(out, sizeof out, fmt, ap);
    va_end(ap);
    return xstrdup(out);
}

/* Bucket and prefix out of s3://BUCKET/PREFIX. */
static enum err url_split(struct s3_store *s, const char *url, struct errinfo *info)
{
    const char *p = strstr(url, "://") + 3, *slash = strchr(p, '/');
    size_t n = slash ? (size_t)(slash - p) : strlen(p), len;
    const char *prefix = slash ? slash + 1 : "";

    len = strlen(prefix);
    while (len && prefix[len - 1] == '/')
        len--;
    if (n < 1 || n > 63 || len > 120 ||
        strspn(p, "abcdefghijklmnopqrstuvwxyz"
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") < n ||
        strstr(prefix, "//") || prefix[0] == '/')
        return errinfo_set(info, ERR_CONFIG,
                           "\"%.200s\": s3://BUCKET/PREFIX has a bucket of 1 to 63 letters, "
                           "digits, dots and dashes, and a prefix of at most 120 bytes",
                           url);
    s->bucket = text_make("%.*s", (int)n, p);
    s->prefix = len ? text_make("%.*s/", (int)len, prefix) : xstrdup("");
    s->base.url = text_make("s3://%s%s%.*s", s->bucket, len ? "/" : "", (int)len, prefix);
    return ERR_OK;
}

static enum err endpoint_set(struct s3_store *s, const struct store_conf *conf,
                             struct errinfo *info)
{
    const char *ep = pick(conf->endpoint, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), *host;
    size_t n;

    s->path_style = conf->path_style == STORE_ON ||
                    (conf->path_style == STORE_AUTO && (ep || strchr(s->bucket, '.')));
    s->endpoint = ep ? text_make("%s", ep) : text_make("https://s3.%s.amazonaws.com", s->region);
    n = strlen(s->endpoint);
    while (n && s->endpoint[n - 1] == '/')
        s->endpoint[--n] = 0;
    s->tls = strncmp(s->endpoint, "https://", 8) == 0;
    host = strstr(s->endpoint, "://");
    if ((!s->tls && strncmp(s->endpoint, "http://", 7) != 0) || !host[3] || strchr(host + 3, '/') ||
        strchr(host + 3, '@') || n > 255)
        return errinfo_set(info, ERR_CONFIG,
                           "\"%.150s\" is not an endpoint: https://HOST or http://HOST:PORT",
                           s->endpoint);
    s->host = s->path_style ? xstrdup(host + 3) : text_make("%s.%s", s->bucket, host + 3);
    s->scheme_host = text_make("%s://%s", s->tls ? "https" : "http", s->host);
    s->base_path = s->path_style ? text_make("/%s", s->bucket) : xstrdup("");
    return ERR_OK;
}

static enum err options_set(struct s3_store *s, const struct store_conf *c, struct errinfo *info)
{
    const char *region = pick(c->region, "AWS_REGION", "AWS_DEFAULT_REGION");
    enum err e = url_split(s, c->url, info);

    s->region = xstrdup(region ? region : "us-east-1");
    if (!e)
        e = endpoint_set(s, c, info);
    s->anonymous = c->anonymous;
    s->checksums = c->checksums != STORE_OFF;
    s->sign_payload = c->sign_payload == STORE_ON || (c->sign_payload == STORE_AUTO && !s->tls);
    s->connect_timeout_ms = c->connect_timeout_ms ? c->connect_timeout_ms : 5000;
    s->stall_timeout_ms = c->stall_timeout_ms ? c->stall_timeout_ms : 15000;
    s->deadline_ms = c->deadline_ms ? c->deadline_ms : 60000;
    s->part_bytes = c->part_bytes ? c->part_bytes : 8u << 20;
    s->stop = c->stop;
    s->ca_file = c->ca_file ? xstrdup(c->ca_file) : NULL;
    s->storage_class = c->storage_class ? xstrdup(c->storage_class) : NULL;
    if (!e && s->part_bytes < PART_BYTES_MIN)
        e = errinfo_set(info, ERR_CONFIG, "a part is %u bytes at least", PART_BYTES_MIN);
    if (!e && !s->anonymous && !s->signer)
        e = store_creds_find(c, &s->creds, info);
    return e;
}

enum err store_s3_open(const struct store_conf *conf, struct store **out, struct errinfo *info)
{
    struct s3_store *s = xcalloc(1, sizeof *s);
    enum err e;

    s->base.ops = &s3_ops;
    s->signer = conf->signer;
    io_mutex_init(&s->lock);
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        e = errinfo_set(info, ERR_INTERNAL, "libcurl does not start");
    else
        e = options_set(s, conf, info);
    if (e)
        s3_close(&s->base);
    else
        *out = &s->base;
    return e;
}
