/* Signed HTTP requests by libcurl: attempts, timeouts, retries. See store_s3_int.h.
 *
 * A connection (curl handle) is used by one thread at a time and kept for the next. Nothing but
 * headers, bodies and the error text passes between attempts: what one attempt put into the
 * destination is taken back before the next. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/hex.h"
#include "base/mem.h"
#include "io/io.h"
#include "lake/signer.h"
#include "lake/sigv4.h"
#include "lake/store_s3_int.h"

#define URL_MAX        8192u
#define PIECE          (256u << 10)
#define BACKOFF_MS     100u
#define BACKOFF_MS_MAX 8000u
#define BYTES_A_MS     2097u /* 2 MiB/s: what the deadline allows for bytes */
#define ERROR_DOC_MAX  (64u << 10)

struct attempt {
    struct s3_store *s;
    const struct s3_request *r;
    struct s3_answer *a;
    CURL *curl;
    struct curl_slist *headers;
    struct buf error; /* the body of an answer that is no success */
    FILE *body;
    uint64_t sent, got, deadline_ns;
    unsigned
        sends; /* libcurl sends again by itself when a kept connection turns out to be closed */
    size_t out_len; /* of r->out in front of this attempt */
    enum err sink;  /* why taking the answer failed */
    bool kept;      /* signed by a signer for an earlier request */
    bool anew;      /* and refused: the signer is to be asked */
    char why[CURL_ERROR_SIZE];
};

void s3_query(struct s3_request *r, const char *name, const char *value)
{
    r->query[r->query_n++] = (struct s3_pair){name, value};
}

void s3_header(struct s3_request *r, const char *name, const char *value)
{
    r->header[r->header_n++] = (struct s3_pair){name, value};
}

static uint64_t now_ns(void)
{
    return io_mono_ns(io_real());
}

static bool stopped(const struct s3_store *s)
{
    return s->stop && atomic_load(s->stop);
}

/* ---- handles ---- */

static CURL *handle_take(struct s3_store *s)
{
    CURL *c = NULL;

    io_mutex_lock(&s->lock);
    if (s->idle_n)
        c = s->idle[--s->idle_n];
    io_mutex_unlock(&s->lock);
    return c ? c : curl_easy_init();
}

static void handle_give(struct s3_store *s, CURL *c)
{
    curl_easy_reset(c); /* keeps connections */
    io_mutex_lock(&s->lock);
    if (s->idle_n < LIMIT_STORE_CONNS) {
        s->idle[s->idle_n++] = c;
        c = NULL;
    }
    io_mutex_unlock(&s->lock);
    if (c)
        curl_easy_cleanup(c);
}

/* ---- the body: its hash and checksum ---- */

static uint64_t body_len(const struct s3_request *r)
{
    return !r->has_body ? 0 : r->body.path ? r->body.len : r->body.bytes.len;
}

struct digest {
    EVP_MD_CTX *sha;
    uint32_t crc;
};

static enum err digest_file(const struct store_source *src, struct digest *d, struct errinfo *info)
{
    uint8_t *piece = xmalloc(PIECE);
    uint64_t off = src->off, left = src->len;
    struct io_file *f = NULL;
    enum err e = io_open(io_real(), src->path, IO_RDONLY, &f, info);
    size_t got;

    while (!e && left) {
        e = io_pread(f, piece, left < PIECE ? (size_t)left : PIECE, off, &got, info);
        if (!e && got == 0)
            e = errinfo_set(info, ERR_EOF, "%s is shorter than was said", src->path);
        if (e)
            break;
        if (d->sha)
            EVP_DigestUpdate(d->sha, piece, got);
        d->crc = crc32c(d->crc, piece, got);
        off += got;
        left -= got;
    }
    io_close(&f);
    free(piece);
    return e;
}

/* hash: hex or the word for unsigned. crc: base64. */
static enum err body_digest(struct s3_store *s, const struct s3_request *r,
                            char hash[SIGV4_HEX_LEN + 1], char crc[16], struct errinfo *info)
{
    struct digest d = {0};
    uint8_t md[EVP_MAX_MD_SIZE], be[4];
    unsigned n = 0;
    enum err e = ERR_OK;

    crc[0] = 0;
    if (!r->has_body || body_len(r) == 0)
        memcpy(hash, SIGV4_EMPTY_HASH, sizeof SIGV4_EMPTY_HASH);
    else
        memcpy(hash, SIGV4_UNSIGNED, sizeof SIGV4_UNSIGNED);
    if (r->has_body && body_len(r) && s->sign_payload && !s->anonymous && !s->signer) {
        d.sha = EVP_MD_CTX_new();
        if (!d.sha || !EVP_DigestInit_ex(d.sha, EVP_sha256(), NULL))
            e = errinfo_set(info, ERR_INTERNAL, "SHA-256 is not to be had");
    }
    if (!e && r->has_body && r->body.path && (d.sha || r->checksum)) {
        e = digest_file(&r->body, &d, info);
    } else if (!e && r->has_body) {
        if (d.sha)
            EVP_DigestUpdate(d.sha, r->body.bytes.ptr, r->body.bytes.len);
        d.crc = crc32c(0, r->body.bytes.ptr, r->body.bytes.len);
    }
    if (!e && d.sha && EVP_DigestFinal_ex(d.sha, md, &n))
        hex_encode(md, n, hash);
    EVP_MD_CTX_free(d.sha);
    if (!e && r->checksum && s->checksums) {
        be32_store(be, d.crc);
        base64_encode(be, sizeof be, crc);
    }
    return e;
}

/* ---- one attempt: the request ---- */

/* Path and query as sent and signed. */
static enum err target(const struct s3_store *s, const struct s3_request *r, struct buf *path,
                       struct buf *query)
{
    enum err e = buf_append_str(path, s->base_path);
    unsigned i;

    if (!e)
        e = buf_append_str(path, "/");
    if (!e && r->key)
        e = sigv4_encode(path, slice_str(s->prefix), true);
    if (!e && r->key)
        e = sigv4_encode(path, slice_str(r->key), true);
    for (i = 0; !e && i < r->query_n; i++) {
        if (i)
            e = buf_append_str(query, "&");
        if (!e)
            e = sigv4_encode(query, slice_str(r->query[i].name), false);
        if (!e)
            e = buf_append_str(query, "=");
        if (!e)
            e = sigv4_encode(query, slice_str(r->query[i].value), false);
    }
    if (!e)
        e = buf_append(path, "", 1);
    return e ? e : buf_append(query, "", 1);
}

static int header_order(const void *a, const void *b)
{
    return strcmp(((const struct sigv4_header *)a)->name, ((const struct sigv4_header *)b)->name);
}

static void header_send(struct attempt *t, const char *name, const char *value)
{
    char line[4096];

    snprintf(line, sizeof line, "%s: %s", name, value);
    t->headers = curl_slist_append(t->headers, line);
}

/* The request's own headers, without what a signature adds. */
static unsigned headers_own(const struct attempt *t, const char *crc, struct sigv4_header *h)
{
    unsigned n = 0;

    if (crc[0])
        h[n++] = (struct sigv4_header){"x-amz-checksum-crc32c", crc};
    for (unsigned i = 0; i < t->r->header_n; i++)
        h[n++] = (struct sigv4_header){t->r->header[i].name, t->r->header[i].value};
    return n;
}

/* All headers; those of AWS's own and the host are signed. */
static enum err sign_here(struct attempt *t, const char *path, const char *query, const char *hash,
                          const char *crc)
{
    struct sigv4_header h[S3_HEADERS_MAX + 6];
    struct s3_store *s = t->s;
    char date[SIGV4_DATE_LEN + 1];
    unsigned n = headers_own(t, crc, h), i;
    struct buf auth;
    enum err e;

    sigv4_date(io_wall_ms(io_real()), date);
    h[n++] = (struct sigv4_header){"host", s->host};
    h[n++] = (struct sigv4_header){"x-amz-content-sha256", hash};
    h[n++] = (struct sigv4_header){"x-amz-date", date};
    if (s->creds.session_token)
        h[n++] = (struct sigv4_header){"x-amz-security-token", s->creds.session_token};
    qsort(h, n, sizeof *h, header_order);
    for (i = 0; i < n; i++)
        if (strcmp(h[i].name, "host") != 0)
            header_send(t, h[i].name, h[i].value);
    if (s->anonymous)
        return ERR_OK;
    buf_init(&auth, 4096);
    e = sigv4_sign(&(struct sigv4_request){.method = t->r->method,
                                           .path = path,
                                           .query = query,
                                           .headers = h,
                                           .headers_n = n,
                                           .payload_hash = hash,
                                           .access_key = s->creds.access_key,
                                           .secret_key = s->creds.secret_key,
                                           .region = s->region,
                                           .service = "s3",
                                           .date = date},
                   &auth);
    if (!e)
        e = buf_append(&auth, "", 1);
    if (!e)
        header_send(t, "Authorization", (const char *)auth.ptr);
    buf_fini(&auth);
    return e;
}

/* What the signer is asked; h has room for all of the request's own headers. */
static struct signer_request signing_of(const struct attempt *t, const char *url, const char *crc,
                                        struct sigv4_header *own, struct signer_header *h)
{
    unsigned n = headers_own(t, crc, own);

    qsort(own, n, sizeof *own, header_order);
    for (unsigned i = 0; i < n; i++)
        h[i] = (struct signer_header){own[i].name, own[i].value};
    return (struct signer_request){t->r->method, url, t->s->region, h, n};
}

static bool answer_has(const struct signer_answer *a, const char *name)
{
    for (unsigned i = 0; i < a->header_n; i++)
        if (strcasecmp(a->header[i].name, name) == 0)
            return true;
    return false;
}

/* The signer's headers, and those of ours that it did not give back. url: becomes the signer's. */
static enum err sign_there(struct attempt *t, char url[URL_MAX], const char *crc,
                           struct errinfo *info)
{
    struct sigv4_header own[S3_HEADERS_MAX + 6];
    struct signer_header h[S3_HEADERS_MAX + 6];
    struct signer_request q = signing_of(t, url, crc, own, h);
    struct signer_answer a;
    enum err e;

    if (t->anew)
        signer_forget(t->s->signer, &q);
    t->anew = false;
    if ((e = signer_sign(t->s->signer, &q, &a, info)))
        return e;
    for (unsigned i = 0; i < q.header_n; i++)
        if (!answer_has(&a, h[i].name))
            header_send(t, h[i].name, h[i].value);
    for (unsigned i = 0; i < a.header_n; i++)
        header_send(t, a.header[i].name, a.header[i].value);
    snprintf(url, URL_MAX, "%s", a.url);
    t->kept = a.kept;
    signer_answer_fini(&a);
    return ERR_OK;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct attempt *t = arg;
    uint64_t left = body_len(t->r) - t->sent;
    size_t want = size * n;

    if (want > left)
        want = (size_t)left;
    if (t->body && want && fread(to, 1, want, t->body) != want)
        return CURL_READFUNC_ABORT;
    if (!t->body)
        memcpy(to, t->r->body.bytes.ptr + t->sent, want);
    t->sent += want;
    return want;
}

static int on_seek(void *arg, curl_off_t off, int origin)
{
    struct attempt *t = arg;

    if (origin != SEEK_SET || off < 0 || (uint64_t)off > body_len(t->r) ||
        (t->body && fseeko(t->body, (off_t)t->r->body.off + off, SEEK_SET)))
        return CURL_SEEKFUNC_FAIL;
    t->sent = (uint64_t)off;
    return CURL_SEEKFUNC_OK;
}

/* ---- one attempt: the answer ---- */

static enum err sink_file(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_from_errno(errno);
        p += w;
        n -= (size_t)w;
    }
    return ERR_OK;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
    struct attempt *t = arg;
    long status = 0;

    n *= size;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        size_t room = t->error.max - t->error.len;

        (void)buf_append(&t->error, p, n < room ? n : room);
        return n;
    }
    if (t->r->out)
        t->sink = buf_append(t->r->out, p, n);
    else if (t->r->fd >= 0)
        t->sink = sink_file(t->r->fd, p, n);
    t->got += n;
    return t->sink ? 0 : n;
}

/* The value of the header, if the line is one of that name; copied and cut to cap. */
static bool header_take(const char *line, size_t n, const char *name, char *out, size_t cap)
{
    size_t len = strlen(name), i;

    if (n <= len || line[len] != ':' || strncasecmp(line, name, len) != 0)
        return false;
    for (i = len + 1; i < n && (line[i] == ' ' || line[i] == '\t'); i++)
        ;
    while (n > i && isspace((unsigned char)line[n - 1]))
        n--;
    len = n - i < cap ? n - i : cap - 1;
    memcpy(out, line + i, len);
    out[len] = 0;
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct attempt *t = arg;
    struct s3_answer *a = t->a;
    char v[S3_TEXT_MAX];

    n *= size;
    if (header_take(line, n, "etag", v, sizeof v))
        snprintf(a->st.etag, sizeof a->st.etag, "%.*s", (int)STORE_ETAG_MAX, v);
    else if (header_take(line, n, "content-length", v, sizeof v))
        a->st.size = strtoull(v, NULL, 10);
    else if (header_take(line, n, "last-modified", v, sizeof v))
        a->st.modified_ms = (int64_t)curl_getdate(v, NULL) * 1000;
    else if (header_take(line, n, "content-range", v, sizeof v))
        a->range_total = strrchr(v, '/') ? strtoull(strrchr(v, '/') + 1, NULL, 10) : UINT64_MAX;
    else if (header_take(line, n, "retry-after", v, sizeof v))
        a->retry_after_s = (int)strtol(v, NULL, 10);
    else if (!header_take(line, n, "x-amz-meta-weir-put", a->token, sizeof a->token))
        header_take(line, n, "x-amz-bucket-region", a->region, sizeof a->region);
    return n;
}

static int on_send(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    ((struct attempt *)arg)->sends++;
    return CURL_PREREQFUNC_OK;
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut, curl_off_t un)
{
    const struct attempt *t = arg;

    (void)dt, (void)dn, (void)ut, (void)un;
    return stopped(t->s) || now_ns() > t->deadline_ns;
}

/* ---- one attempt ---- */

static bool typed(const struct s3_request *r)
{
    unsigned i;

    for (i = 0; i < r->header_n; i++)
        if (strcmp(r->header[i].name, "content-type") == 0)
            return true;
    return false;
}

static void options(struct attempt *t, const char *url)
{
    const struct s3_request *r = t->r;
    CURL *c = t->curl;
    long stall_s = (long)(t->s->stall_timeout_ms + 999) / 1000;

    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)t->s->connect_timeout_ms);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, stall_s);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(c, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    if (t->s->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, t->s->ca_file);
    if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (r->has_body) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, t);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, t);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)body_len(r));
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    t->headers = curl_slist_append(t->headers, "Expect:");
    t->headers = curl_slist_append(t->headers, "Transfer-Encoding:");
    if (r->has_body && !typed(r))
        t->headers = curl_slist_append(t->headers, "Content-Type: application/octet-stream");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
}

/* Takes back what an attempt put into the destination. */
static enum err sink_reset(struct attempt *t, struct errinfo *info)
{
    if (t->r->out)
        t->r->out->len = t->out_len;
    else if (t->r->fd >= 0 && (lseek(t->r->fd, 0, SEEK_SET) < 0 || ftruncate(t->r->fd, 0)))
        return errinfo_os(info, errno, "starting a file of fetched bytes anew");
    t->got = t->sent = 0;
    t->sends = 0;
    t->sink = ERR_OK;
    buf_clear(&t->error);
    return ERR_OK;
}

static enum err body_open(struct attempt *t, struct errinfo *info)
{
    if (!t->r->has_body || !t->r->body.path)
        return ERR_OK;
    t->body = fopen(t->r->body.path, "rbe");
    if (!t->body || fseeko(t->body, (off_t)t->r->body.off, SEEK_SET))
        return errinfo_os(info, errno, "opening %s", t->r->body.path);
    return ERR_OK;
}

static enum err attempt_prepare(struct attempt *t, const char *hash, const char *crc,
                                struct errinfo *info)
{
    char url[URL_MAX];
    struct buf path, query;
    enum err e;

    buf_init(&path, URL_MAX / 2);
    buf_init(&query, URL_MAX / 2);
    e = target(t->s, t->r, &path, &query);
    if (!e) {
        snprintf(url, sizeof url, "%s%s%s%s", t->s->scheme_host, (const char *)path.ptr,
                 query.len > 1 ? "?" : "", (const char *)query.ptr);
        if (!t->s->signer)
            e = sign_here(t, (const char *)path.ptr, (const char *)query.ptr, hash, crc);
    }
    buf_fini(&path);
    buf_fini(&query);
    if (e)
        return errinfo_set(info, e, "signing a request to %s: %s", t->s->base.url, err_text(e));
    if (t->s->signer && (e = sign_there(t, url, crc, info)))
        return e;
    if ((e = body_open(t, info)))
        return e;
    options(t, url);
    return ERR_OK;
}

/* Sends once. *rc is curl's; an answer's status is in a->status. */
static enum err attempt_run(struct attempt *t, const char *hash, const char *crc, CURLcode *rc,
                            struct errinfo *info)
{
    enum err e = sink_reset(t, info);

    if (e)
        return e;
    t->a->status = 0;
    memset(&t->a->st, 0, sizeof t->a->st);
    t->a->range_total = UINT64_MAX;
    t->a->retry_after_s = 0;
    t->a->code[0] = t->a->message[0] = t->a->token[0] = t->why[0] = 0;
    t->curl = handle_take(t->s);
    if (!t->curl)
        return errinfo_set(info, ERR_NO_MEMORY, "no memory for a request");
    e = attempt_prepare(t, hash, crc, info);
    if (!e) {
        *rc = curl_easy_perform(t->curl);
        curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->a->status);
        atomic_fetch_add(&t->s->base.requests, 1);
        atomic_fetch_add(&t->s->base.bytes_sent, t->sent);
        atomic_fetch_add(&t->s->base.bytes_received, t->got);
        s3_error_parse(buf_slice(&t->error), t->a);
    }
    if (t->body)
        fclose(t->body);
    t->body = NULL;
    handle_give(t->s, t->curl);
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    return e;
}

/* ---- what came of it ---- */

static bool status_later(const struct s3_answer *a)
{
    return a->status == 429 || a->status == 500 || a->status == 502 || a->status == 503 ||
           a->status == 504 || a->status == 408 || strcmp(a->code, "RequestTimeout") == 0 ||
           strcmp(a->code, "OperationAborted") == 0 ||
           strcmp(a->code, "ConditionalRequestConflict") == 0;
}

/* Nothing was sent: the request cannot have been carried out. */
static bool not_sent(CURLcode rc)
{
    return rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
           rc == CURLE_COULDNT_RESOLVE_PROXY || rc == CURLE_SSL_CONNECT_ERROR;
}

static bool rc_later(CURLcode rc)
{
    switch (rc) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

static enum err rc_error(const struct attempt *t, CURLcode rc, struct errinfo *info)
{
    const char *why = t->why[0] ? t->why : curl_easy_strerror(rc);
    enum err e = ERR_NETWORK;

    if (stopped(t->s))
        return errinfo_set(info, ERR_CANCELLED, "%s: given up, as the server stops",
                           t->s->base.url);
    if (t->sink)
        return errinfo_set(info, t->sink, "taking what %s sent: %s", t->s->base.url,
                           err_text(t->sink));
    if (rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_ABORTED_BY_CALLBACK)
        e = ERR_TIMEOUT;
    if (rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE)
        e = ERR_TLS;
    return errinfo_set(info, e, "%s %.80s at %.80s: %.100s", t->r->method,
                       t->r->key ? t->r->key : "", t->s->scheme_host, why);
}

/* Sleeps before attempt number n + 1; false: the deadline comes first, or the server stops. */
static bool backoff(const struct attempt *t, unsigned n)
{
    uint64_t most = (uint64_t)BACKOFF_MS << (n > 10 ? 10 : n), rnd, end;
    struct timespec nap = {0, 20000000};

    if (most > BACKOFF_MS_MAX)
        most = BACKOFF_MS_MAX;
    io_random(io_real(), &rnd, sizeof rnd);
    end = now_ns() + (rnd % most + 1) * 1000000;
    if (t->a->retry_after_s > 0 && t->a->retry_after_s < 3600)
        end += (uint64_t)t->a->retry_after_s * 1000000000;
    if (end > t->deadline_ns)
        return false;
    while (now_ns() < end && !stopped(t->s))
        nanosleep(&nap, NULL);
    return !stopped(t->s);
}

/* Is the answer whole? A length that the server did not keep is a broken connection to us. */
static bool answer_whole(const struct attempt *t)
{
    return strcmp(t->r->method, "GET") != 0 || t->a->st.size == 0 || t->got == t->a->st.size;
}

/* After an attempt. ERR_AGAIN: try again (info says why). */
static enum err judge(struct attempt *t, CURLcode rc, struct errinfo *info)
{
    bool later;
    enum err e;

    t->a->lost = t->a->lost || (t->r->change && t->sends > 1);
    if (rc == CURLE_OK && t->a->status >= 200 && t->a->status < 300 && answer_whole(t))
        return ERR_OK;
    if (rc == CURLE_OK && t->a->status >= 200 && t->a->status < 300) {
        e = errinfo_set(info, ERR_NETWORK, "GET %.80s at %.80s: the answer is cut short",
                        t->r->key ? t->r->key : "", t->s->scheme_host);
        later = true;
    } else if (rc == CURLE_OK) {
        e = s3_error(t->s, t->r, t->a, info);
        t->anew = t->kept && (t->a->status == 400 || t->a->status == 401 || t->a->status == 403);
        later = status_later(t->a) || t->anew;
        t->a->lost = t->a->lost || (later && t->a->status >= 500 && t->r->change);
    } else {
        e = rc_error(t, rc, info);
        later = rc_later(rc) && !stopped(t->s) && !t->sink;
        t->a->lost = t->a->lost || (t->r->change && !not_sent(rc));
    }
    return later ? ERR_AGAIN : e;
}

enum err s3_call(struct s3_store *s, const struct s3_request *r, struct s3_answer *a,
                 struct errinfo *info)
{
    char hash[SIGV4_HEX_LEN + 1], crc[16];
    struct attempt t = {.s = s, .r = r, .a = a};
    struct errinfo why = {0};
    unsigned n = 0;
    CURLcode rc = CURLE_OK;
    enum err e;

    memset(a, 0, sizeof *a);
    t.deadline_ns = now_ns() + ((r->deadline_ms ? r->deadline_ms : s->deadline_ms) +
                                (body_len(r) + r->len) / BYTES_A_MS) *
                                   1000000ull;
    t.out_len = r->out ? r->out->len : 0;
    buf_init(&t.error, ERROR_DOC_MAX);
    e = body_digest(s, r, hash, crc, &why);
    while (!e) {
        e = attempt_run(&t, hash, crc, &rc, &why);
        if (e)
            break;
        e = judge(&t, rc, &why);
        if (e != ERR_AGAIN)
            break;
        e = why.code;
        if (now_ns() > t.deadline_ns || !backoff(&t, n++))
            break;
        atomic_fetch_add(&s->base.retries, 1);
        e = ERR_OK;
    }
    memcpy(a->crc, crc, sizeof crc);
    if (e && e != ERR_NOT_FOUND && e != ERR_EXISTS)
        atomic_fetch_add(&s->base.failures, 1);
    if (e)
        (void)sink_reset(&t, NULL);
    if (e && info)
        *info = why;
    buf_fini(&t.error);
    return e;
}
