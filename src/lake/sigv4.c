/* Signature V4: canonical request -> string to sign -> signature with a key derived from date,
 * region and service. See sigv4.h. */
#include "lake/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/hex.h"
#include "base/timefmt.h"

#define CANONICAL_MAX (64u << 10)

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_LEN + 1])
{
    char t[TIME_TEXT_LEN + 1];
    size_t i, n = 0;

    time_format(wall_ms, t); /* 2013-05-24T00:00:00.000Z */
    for (i = 0; t[i] != '.' && n < SIGV4_DATE_LEN - 1; i++)
        if (t[i] != '-' && t[i] != ':')
            out[n++] = t[i];
    out[n++] = 'Z';
    out[n] = 0;
}

enum err sigv4_encode(struct buf *out, struct slice s, bool keep_slash)
{
    static const char hex[] = "0123456789ABCDEF";
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (keep_slash && c == '/');
        char code[3] = {'%', hex[c >> 4], hex[c & 15]};

        e = plain ? buf_append_u8(out, c) : buf_append(out, code, 3);
    }
    return e;
}

enum err sigv4_sha256_hex(struct slice s, char out[SIGV4_HEX_LEN + 1])
{
    uint8_t md[32];
    unsigned n = 0;

    if (!EVP_Digest(s.ptr ? s.ptr : (const uint8_t *)"", s.len, md, &n, EVP_sha256(), NULL) ||
        n != sizeof md)
        return ERR_INTERNAL;
    hex_encode(md, sizeof md, out);
    return ERR_OK;
}

static bool hmac(const uint8_t *key, size_t key_len, struct slice data, uint8_t out[32])
{
    unsigned n = 0;

    return HMAC(EVP_sha256(), key, (int)key_len, data.ptr, data.len, out, &n) && n == 32;
}

static enum err signed_names(const struct sigv4_request *r, struct buf *out)
{
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; !e && i < r->headers_n; i++)
        e = buf_printf(out, "%s%s", i ? ";" : "", r->headers[i].name);
    return e;
}

static enum err canonical_hash(const struct sigv4_request *r, char out[SIGV4_HEX_LEN + 1])
{
    struct buf b;
    enum err e;
    unsigned i;

    buf_init(&b, CANONICAL_MAX);
    e = buf_printf(&b, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (i = 0; !e && i < r->headers_n; i++)
        e = buf_printf(&b, "%s:%s\n", r->headers[i].name, r->headers[i].value);
    if (!e)
        e = buf_append_str(&b, "\n");
    if (!e)
        e = signed_names(r, &b);
    if (!e)
        e = buf_printf(&b, "\n%s", r->payload_hash);
    if (!e)
        e = sigv4_sha256_hex(buf_slice(&b), out);
    buf_fini(&b);
    return e;
}

static bool signing_key(const struct sigv4_request *r, uint8_t out[32])
{
    struct buf first;
    bool ok;

    buf_init(&first, 1024);
    ok = !buf_printf(&first, "AWS4%s", r->secret_key) &&
         hmac(first.ptr, first.len, slice_of(r->date, 8), out) &&
         hmac(out, 32, slice_str(r->region), out) && hmac(out, 32, slice_str(r->service), out) &&
         hmac(out, 32, SLICE_LIT("aws4_request"), out);
    if (first.ptr)
        OPENSSL_cleanse(first.ptr, first.cap);
    buf_fini(&first);
    return ok;
}

enum err sigv4_sign(const struct sigv4_request *r, struct buf *out)
{
    char hash[SIGV4_HEX_LEN + 1], hex[SIGV4_HEX_LEN + 1];
    uint8_t key[32], mac[32];
    struct buf text;
    enum err e;

    if ((e = canonical_hash(r, hash)))
        return e;
    buf_init(&text, 4096);
    e = buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", r->date, r->date,
                   r->region, r->service, hash);
    if (!e && (!signing_key(r, key) || !hmac(key, sizeof key, buf_slice(&text), mac)))
        e = ERR_INTERNAL;
    OPENSSL_cleanse(key, sizeof key);
    buf_fini(&text);
    if (e)
        return e;
    hex_encode(mac, sizeof mac, hex);
    e = buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=",
                   r->access_key, r->date, r->region, r->service);
    if (!e)
        e = signed_names(r, out);
    return e ? e : buf_printf(out, ",Signature=%s", hex);
}
