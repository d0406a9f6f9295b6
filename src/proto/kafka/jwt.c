/* JWT: see jwt.h. The mathematics are OpenSSL's, the JSON is Jansson's. */
#include "proto/kafka/jwt.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include "base/hex.h"
#include "base/mem.h"

#define KEYS_MAX     64u
#define TOKEN_MAX    (32u << 10)
#define SECRET_MIN   32u /* bytes: RFC 7518 section 3.2 */
#define KEY_ID_MAX   255u
#define EC_POINT_LEN 32u /* of P-256 */

enum jwt_alg { RS256, ES256, HS256, ALGS };
static const char *const alg_names[ALGS] = {"RS256", "ES256", "HS256"};

struct jwk {
    enum jwt_alg alg;
    char id[KEY_ID_MAX + 1]; /* "" none */
    EVP_PKEY *key;           /* RS256, ES256 */
    uint8_t *secret;         /* HS256 */
    size_t secret_len;
};

struct jwks {
    unsigned n;
    struct jwk key[KEYS_MAX];
};

/* base64url without padding (RFC 7515 section 2). NULL: it is not. The caller frees. */
static uint8_t *b64url(struct slice s, size_t *len)
{
    size_t i, n = (s.len + 3) / 4 * 4;
    char *text = xmalloc(n + 1);
    uint8_t *out = xmalloc(n + 1);

    for (i = 0; i < s.len; i++) {
        char c = (char)s.ptr[i];

        text[i] = c == '-' ? '+' : c == '_' ? '/' : c == '+' || c == '/' || c == '=' ? ' ' : c;
    }
    memset(text + s.len, '=', n - s.len);
    if (s.len % 4 == 1 || !base64_decode(text, n, out, len)) {
        free(out);
        out = NULL;
    }
    free(text);
    return out;
}

/* ---- keys ---- */

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));

    return s ? s : "";
}

static uint8_t *bytes_of(const json_t *o, const char *name, size_t *len)
{
    const char *s = text_of(o, name);

    return *s && strlen(s) < TOKEN_MAX ? b64url(slice_str(s), len) : NULL;
}

static EVP_PKEY *key_make(const char *type, OSSL_PARAM_BLD *b)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *rsa_read(const json_t *o)
{
    size_t n_len = 0, e_len = 0;
    uint8_t *n = bytes_of(o, "n", &n_len), *e = bytes_of(o, "e", &e_len);
    BIGNUM *bn = n ? BN_bin2bn(n, (int)n_len, NULL) : NULL;
    BIGNUM *be = e ? BN_bin2bn(e, (int)e_len, NULL) : NULL;
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;

    if (bn && be && b && BN_num_bits(bn) >= 2048 &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, bn) &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, be))
        key = key_make("RSA", b);
    OSSL_PARAM_BLD_free(b);
    BN_free(bn);
    BN_free(be);
    free(n);
    free(e);
    return key;
}

static EVP_PKEY *ec_read(const json_t *o)
{
    uint8_t point[1 + 2 * EC_POINT_LEN] = {4}; /* not compressed */
    size_t x_len = 0, y_len = 0;
    uint8_t *x = bytes_of(o, "x", &x_len), *y = bytes_of(o, "y", &y_len);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;

    if (b && x && y && x_len == EC_POINT_LEN && y_len == EC_POINT_LEN &&
        strcmp(text_of(o, "crv"), "P-256") == 0) {
        memcpy(point + 1, x, EC_POINT_LEN);
        memcpy(point + 1 + EC_POINT_LEN, y, EC_POINT_LEN);
        if (OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
            OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point))
            key = key_make("EC", b); /* a point that is not on the curve is refused */
    }
    OSSL_PARAM_BLD_free(b);
    free(x);
    free(y);
    return key;
}

static bool jwk_read(const json_t *o, struct jwk *k)
{
    const char *type = text_of(o, "kty"), *alg = text_of(o, "alg"), *use = text_of(o, "use");

    memset(k, 0, sizeof *k);
    if (strlen(text_of(o, "kid")) > KEY_ID_MAX || (*use && strcmp(use, "sig") != 0))
        return false;
    memcpy(k->id, text_of(o, "kid"), strlen(text_of(o, "kid")) + 1);
    if (strcmp(type, "RSA") == 0) {
        k->alg = RS256;
    } else if (strcmp(type, "EC") == 0) {
        k->alg = ES256;
    } else if (strcmp(type, "oct") == 0) {
        k->alg = HS256;
    } else {
        return false;
    }
    if (*alg && strcmp(alg, alg_names[k->alg]) != 0)
        return false;
    if (k->alg == HS256) {
        k->secret = bytes_of(o, "k", &k->secret_len);
        if (k->secret && k->secret_len < SECRET_MIN) {
            free(k->secret);
            k->secret = NULL;
        }
        return k->secret != NULL;
    }
    k->key = k->alg == RS256 ? rsa_read(o) : ec_read(o);
    return k->key != NULL;
}

enum err jwks_new(struct slice text, struct jwks **out, struct errinfo *info)
{
    json_t *o = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *keys = json_object_get(o, "keys"), *one;
    struct jwks *ks = xcalloc(1, sizeof *ks);
    size_t i;

    json_array_foreach(keys, i, one)
    {
        if (ks->n < KEYS_MAX && jwk_read(one, &ks->key[ks->n]))
            ks->n++;
    }
    json_decref(o);
    *out = ks;
    if (ks->n)
        return ERR_OK;
    jwks_free(out);
    return errinfo_set(info, ERR_CONFIG,
                       "no key to check signatures with: {\"keys\": […]} with RSA (2048 bits or "
                       "more), EC (P-256) or oct (32 bytes or more) keys is wanted");
}

void jwks_free(struct jwks **ksp)
{
    struct jwks *ks = *ksp;
    unsigned i;

    for (i = 0; ks && i < ks->n; i++) {
        EVP_PKEY_free(ks->key[i].key);
        if (ks->key[i].secret)
            OPENSSL_cleanse(ks->key[i].secret, ks->key[i].secret_len);
        free(ks->key[i].secret);
    }
    free(ks);
    *ksp = NULL;
}

/* ---- signatures ---- */

/* ES256 has r and s behind one another, 32 bytes each; OpenSSL wants them in DER. */
static unsigned char *ec_der(struct slice sig, int *len)
{
    unsigned char *der = NULL;
    ECDSA_SIG *s = ECDSA_SIG_new();
    BIGNUM *r, *v;

    *len = -1;
    if (!s || sig.len != 2 * EC_POINT_LEN) {
        ECDSA_SIG_free(s);
        return NULL;
    }
    r = BN_bin2bn(sig.ptr, EC_POINT_LEN, NULL);
    v = BN_bin2bn(sig.ptr + EC_POINT_LEN, EC_POINT_LEN, NULL);
    if (r && v && ECDSA_SIG_set0(s, r, v)) {
        *len = i2d_ECDSA_SIG(s, &der);
    } else {
        BN_free(r);
        BN_free(v);
    }
    ECDSA_SIG_free(s);
    return *len > 0 ? der : NULL;
}

static bool public_ok(EVP_PKEY *key, struct slice data, const uint8_t *sig, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestVerify(ctx, sig, len, data.ptr, data.len) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool signed_by(const struct jwk *k, struct slice data, struct slice sig)
{
    unsigned char mac[EVP_MAX_MD_SIZE], *der;
    unsigned n = 0;
    bool ok;
    int len;

    if (k->alg == RS256)
        return public_ok(k->key, data, sig.ptr, sig.len);
    if (k->alg == HS256)
        return HMAC(EVP_sha256(), k->secret, (int)k->secret_len, data.ptr, data.len, mac, &n) &&
               n == sig.len && CRYPTO_memcmp(mac, sig.ptr, n) == 0;
    der = ec_der(sig, &len);
    ok = der && public_ok(k->key, data, der, (size_t)len);
    OPENSSL_free(der);
    return ok;
}

/* ---- tokens ---- */

/* A part of the token as JSON; NULL: it is not. */
static json_t *part_json(struct slice part)
{
    size_t len = 0;
    uint8_t *text = b64url(part, &len);
    json_t *o = NULL;

    if (text)
        o = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    if (o && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

static bool signature_ok(const struct jwks *ks, const json_t *head, struct slice data,
                         struct slice sig_text)
{
    const char *alg = text_of(head, "alg"), *id = text_of(head, "kid");
    size_t len = 0;
    uint8_t *sig = b64url(sig_text, &len);
    bool ok = false;
    unsigned i;

    if (json_object_get(head, "crit")) { /* extensions that must be understood: none is */
        free(sig);
        return false;
    }
    for (i = 0; sig && !ok && i < ks->n; i++) {
        const struct jwk *k = &ks->key[i];

        if (strcmp(alg, alg_names[k->alg]) == 0 && (!*id || !*k->id || strcmp(id, k->id) == 0))
            ok = signed_by(k, data, slice_of(sig, len));
    }
    free(sig);
    return ok;
}

static bool audience_ok(const json_t *claims, const char *want)
{
    const json_t *aud = json_object_get(claims, "aud"), *one;
    const char *s = json_string_value(aud);
    size_t i;

    if (s)
        return strcmp(s, want) == 0;
    json_array_foreach(aud, i, one)
    {
        if (json_is_string(one) && strcmp(json_string_value(one), want) == 0)
            return true;
    }
    return false;
}

/* Seconds, maybe with a fraction, to milliseconds; false: not there, or no sensible time. */
static bool time_of(const json_t *claims, const char *name, int64_t *out)
{
    const json_t *v = json_object_get(claims, name);
    double s = json_number_value(v);

    if (!json_is_number(v) || !(s >= 0 && s < 1e12))
        return false;
    *out = (int64_t)(s * 1000);
    return true;
}

static enum err claims_check(const json_t *c, const struct jwt_want *want, int64_t now_ms,
                             struct jwt_claims *out, struct errinfo *info)
{
    const char *sub = text_of(c, "sub");
    int64_t t;

    if (!time_of(c, "exp", &out->expires_ms))
        return errinfo_set(info, ERR_UNAUTHENTICATED, "the token does not say when it ends (exp)");
    if (out->expires_ms + JWT_SKEW_MS <= now_ms)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "the token has expired");
    if (json_object_get(c, "nbf") && (!time_of(c, "nbf", &t) || t - JWT_SKEW_MS > now_ms))
        return errinfo_set(info, ERR_UNAUTHENTICATED, "the token is not valid yet");
    if (want->issuer && *want->issuer && strcmp(text_of(c, "iss"), want->issuer) != 0)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "the token is of another issuer");
    if (want->audience && *want->audience && !audience_ok(c, want->audience))
        return errinfo_set(info, ERR_UNAUTHENTICATED, "the token is for another audience");
    if (!*sub || strlen(sub) > JWT_SUBJECT_MAX)
        return errinfo_set(info, ERR_UNAUTHENTICATED,
                           "the token does not say for whom it is (sub)");
    memcpy(out->subject, sub, strlen(sub) + 1);
    return ERR_OK;
}

enum err jwt_check(const struct jwks *ks, struct slice token, const struct jwt_want *want,
                   int64_t now_ms, struct jwt_claims *out, struct errinfo *info)
{
    const uint8_t *dot = token.len ? memchr(token.ptr, '.', token.len) : NULL, *dot2 = NULL;
    size_t head_len = dot ? (size_t)(dot - token.ptr) : 0;
    json_t *head = NULL, *claims = NULL;
    struct slice body, sig;
    enum err e;

    if (dot)
        dot2 = memchr(dot + 1, '.', token.len - head_len - 1);
    if (!dot2 || token.len > TOKEN_MAX)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "that is not a signed JWT");
    body = slice_of(dot + 1, (size_t)(dot2 - dot - 1));
    sig = slice_of(dot2 + 1, token.len - head_len - body.len - 2);
    head = part_json(slice_of(token.ptr, head_len));
    if (!head || !signature_ok(ks, head, slice_of(token.ptr, head_len + 1 + body.len), sig))
        e = errinfo_set(info, ERR_UNAUTHENTICATED, "the token's signature is not one of our keys'");
    else if (!(claims = part_json(body)))
        e = errinfo_set(info, ERR_UNAUTHENTICATED, "the token's claims are not JSON");
    else
        e = claims_check(claims, want, now_ms, out, info);
    json_decref(head);
    json_decref(claims);
    return e;
}
