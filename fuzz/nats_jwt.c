/* Fuzzes tokens of accounts and users: the operator's and an account's, from a file, and a user's, from
 * a connection. The input is up to three texts with a line feed between them. One that begins with {
 * is taken as the claims of a token, which is signed here with a key that is always the same (the
 * corpus names them as issuers), so that what is behind the signature is reached. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "proto/nats/jwt.h"
#include "proto/nats/nats_int.h"

#define INPUT_MAX   8192u
#define OPERATOR    "oooooooooooooooooooooooooooooooo" /* private keys */
#define ACCOUNT     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define USER        "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu"
#define ACCOUNT_KEY "ACXQNI7DFELRJZHTK3AZZGYVZUMVD3DOMZRKU556A5KH6KETQM2B2LMB"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct naccount *an_account(void *arg, const char *name)
{
    (void)name;
    return arg;
}

static void base64url(struct buf *out, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    unsigned n = 0;
    size_t i;

    for (i = 0; i < s.len; i++) {
        bits = bits << 8 | s.ptr[i];
        for (n += 8; n >= 6; n -= 6)
            buf_append(out, &digits[bits >> (n - 6) & 63], 1);
    }
    if (n)
        buf_append(out, &digits[bits << (6 - n) & 63], 1);
}

static void sign(struct buf *out, const char *seed)
{
    EVP_PKEY *key =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)seed, 32);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    uint8_t sig[64];
    size_t n = sizeof sig;

    ASSERT(key && c && EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 &&
           EVP_DigestSign(c, sig, &n, out->ptr, out->len) == 1);
    EVP_MD_CTX_free(c);
    EVP_PKEY_free(key);
    buf_append_str(out, ".");
    base64url(out, slice_of(sig, n));
}

/* The text as it is, if it may be a token, or as the claims of one. */
static void token(struct buf *out, struct slice text, const char *seed)
{
    buf_clear(out);
    if (!text.len || text.ptr[0] != '{') {
        buf_append_slice(out, text);
        return;
    }
    base64url(out, SLICE_LIT("{\"typ\":\"JWT\",\"alg\":\"ed25519-nkey\"}"));
    buf_append_str(out, ".");
    base64url(out, text);
    sign(out, seed);
}

/* The user's, of the nonce. */
static void signature(struct buf *out, struct slice nonce)
{
    size_t n;

    buf_clear(out);
    buf_append_slice(out, nonce);
    sign(out, USER);
    n = nonce.len + 1; /* the dot */
    memmove(out->ptr, out->ptr + n, out->len - n);
    out->len -= n;
}

static struct slice next(struct slice *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    struct slice s = slice_of(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);

    *rest = slice_of(rest->ptr + s.len + (end != NULL), rest->len - s.len - (end != NULL));
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    static struct naccount account;
    struct noperator *op = NULL;
    struct nlogin *l = NULL;
    struct errinfo info = {0};
    struct buf b, sig;

    if (!size || size > INPUT_MAX)
        return 0;
    buf_init(&b, 1u << 20);
    buf_init(&sig, 256);
    token(&b, next(&rest), OPERATOR);
    (void)njwt_within(buf_slice(&b));
    if (!noperator_new(buf_slice(&b), &op, &info)) {
        token(&b, next(&rest), OPERATOR);
        (void)noperator_add(op, SLICE_LIT(ACCOUNT_KEY), buf_slice(&b), an_account, &account, &info);
        token(&b, next(&rest), ACCOUNT);
        struct njwt_ask ask = {.jwt = buf_slice(&b),
                               .sig = SLICE_LIT("c2ln"),
                               .nonce = SLICE_LIT("nonce"),
                               .now_ms = 1700000000000};
        signature(&sig, ask.nonce);
        ask.sig = buf_slice(&sig);
        if (!njwt_login(op, &ask, &l)) {
            ASSERT(l && nlogin_user(l));
            (void)nlogin_conns_max(l);
            (void)nlogin_valid(l, op, ask.now_ms + 86400000);
        }
        nlogin_free(&l);
        (void)noperator_system(op);
    }
    noperator_free(&op);
    buf_fini(&b);
    buf_fini(&sig);
    return 0;
}
