/* SCRAM: see scram.h. Message grammar: RFC 5802 section 7. */
#include "auth/scram.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/hex.h"

#define MESSAGE_MAX   (64u << 10)
#define NONCE_LEN     18u
#define FAKE_SALT_LEN 16u

const char *scram_name(int mech)
{
    return mech == SCRAM_SHA_256 ? "SCRAM-SHA-256" : mech == SCRAM_SHA_512 ? "SCRAM-SHA-512" : NULL;
}

unsigned scram_hash_len(enum scram_mech m)
{
    return m == SCRAM_SHA_512 ? 64 : 32;
}

static const EVP_MD *digest(enum scram_mech m)
{
    return m == SCRAM_SHA_512 ? EVP_sha512() : EVP_sha256();
}

static void hmac(enum scram_mech m, const uint8_t *key, struct slice data, uint8_t *out)
{
    unsigned n = 0;

    ASSERT(HMAC(digest(m), key, (int)scram_hash_len(m), data.ptr, data.len, out, &n));
    ASSERT(n == scram_hash_len(m));
}

static void hash(enum scram_mech m, const uint8_t *in, uint8_t *out)
{
    ASSERT(EVP_Digest(in, scram_hash_len(m), out, NULL, digest(m), NULL));
}

/* ---- credentials ---- */

void scram_cred_from_salted(enum scram_mech m, struct slice salt, uint32_t iterations,
                            const uint8_t *salted, struct scram_cred *out)
{
    uint8_t client_key[SCRAM_HASH_MAX];

    ASSERT(salt.len <= SCRAM_SALT_MAX);
    memset(out, 0, sizeof *out);
    out->iterations = iterations;
    out->salt_len = (uint8_t)salt.len;
    if (salt.len)
        memcpy(out->salt, salt.ptr, salt.len);
    hmac(m, salted, SLICE_LIT("Client Key"), client_key);
    hash(m, client_key, out->stored_key);
    hmac(m, salted, SLICE_LIT("Server Key"), out->server_key);
    OPENSSL_cleanse(client_key, sizeof client_key);
}

void scram_cred_make(enum scram_mech m, struct slice password, struct slice salt,
                     uint32_t iterations, struct scram_cred *out)
{
    uint8_t salted[SCRAM_HASH_MAX];

    ASSERT(password.len < MESSAGE_MAX && iterations > 0);
    ASSERT(PKCS5_PBKDF2_HMAC((const char *)password.ptr, (int)password.len, salt.ptr, (int)salt.len,
                             (int)iterations, digest(m), (int)scram_hash_len(m), salted));
    scram_cred_from_salted(m, salt, iterations, salted, out);
    OPENSSL_cleanse(salted, sizeof salted);
}

bool scram_password_ok(enum scram_mech m, const struct scram_cred *c, struct slice password)
{
    struct scram_cred got;
    bool ok;

    if (password.len >= MESSAGE_MAX)
        return false;
    scram_cred_make(m, password, slice_of(c->salt, c->salt_len), c->iterations, &got);
    ok = CRYPTO_memcmp(got.stored_key, c->stored_key, scram_hash_len(m)) == 0;
    OPENSSL_cleanse(&got, sizeof got);
    return ok;
}

size_t scram_cred_write(enum scram_mech m, const struct scram_cred *c, uint8_t *out)
{
    unsigned n = scram_hash_len(m);
    uint8_t *p = out;

    *p++ = 1; /* format */
    be32_store(p, c->iterations);
    p += 4;
    *p++ = c->salt_len;
    memcpy(p, c->salt, c->salt_len);
    p += c->salt_len;
    memcpy(p, c->stored_key, n);
    memcpy(p + n, c->server_key, n);
    return (size_t)(p - out) + 2 * n;
}

bool scram_cred_read(enum scram_mech m, struct slice s, struct scram_cred *out)
{
    unsigned n = scram_hash_len(m);

    memset(out, 0, sizeof *out);
    if (s.len < 6 || s.ptr[0] != 1 || s.len != 6u + s.ptr[5] + 2 * n)
        return false;
    out->iterations = be32_load(s.ptr + 1);
    out->salt_len = s.ptr[5];
    memcpy(out->salt, s.ptr + 6, out->salt_len);
    memcpy(out->stored_key, s.ptr + 6 + out->salt_len, n);
    memcpy(out->server_key, s.ptr + 6 + out->salt_len + n, n);
    return out->iterations > 0;
}

/* ---- the exchange ---- */

void scram_init(struct scram *s, enum scram_mech m)
{
    memset(s, 0, sizeof *s);
    s->mech = m;
    buf_init(&s->gs2, MESSAGE_MAX);
    buf_init(&s->nonce, MESSAGE_MAX);
    buf_init(&s->first, MESSAGE_MAX);
    buf_init(&s->server, 2 * MESSAGE_MAX);
}

void scram_fini(struct scram *s)
{
    buf_fini(&s->gs2);
    buf_fini(&s->nonce);
    buf_fini(&s->first);
    buf_fini(&s->server);
    OPENSSL_cleanse(&s->cred, sizeof s->cred);
}

/* The part of *in before the next comma, which is taken; all of it if there is none. */
static struct slice part_take(struct slice *in)
{
    const uint8_t *comma = in->len ? memchr(in->ptr, ',', in->len) : NULL;
    struct slice part = slice_of(in->ptr, comma ? (size_t)(comma - in->ptr) : in->len);

    *in = comma ? slice_of(comma + 1, in->len - part.len - 1) : slice_of(in->ptr + in->len, 0);
    return part;
}

/* Takes "x=value". */
static bool attr_take(struct slice *in, char name, struct slice *value)
{
    struct slice part = part_take(in);

    if (part.len < 2 || part.ptr[0] != (uint8_t)name || part.ptr[1] != '=')
        return false;
    *value = slice_of(part.ptr + 2, part.len - 2);
    return true;
}

/* A saslname: "=2C" is a comma, "=3D" an equals sign. */
static bool name_decode(struct slice in, char out[SCRAM_USER_MAX + 1])
{
    size_t i, n = 0;

    for (i = 0; i < in.len; i++, n++) {
        if (n == SCRAM_USER_MAX || in.ptr[i] == 0)
            return false;
        out[n] = (char)in.ptr[i];
        if (in.ptr[i] != '=')
            continue;
        if (in.len - i < 3 || in.ptr[i + 1] < '2' || in.ptr[i + 1] > '3' ||
            in.ptr[i + 2] != (in.ptr[i + 1] == '2' ? 'C' : 'D'))
            return false;
        out[n] = in.ptr[i + 1] == '2' ? ',' : '=';
        i += 2;
    }
    out[n] = 0;
    return n > 0;
}

/* named: the user is known already. */
static enum err first(struct scram *s, struct slice in, bool named)
{
    struct slice all = in, flag = part_take(&in), authz = part_take(&in), user, nonce;
    char as[SCRAM_USER_MAX + 1] = "";

    if (in.len == 0 || flag.len != 1 || (flag.ptr[0] != 'n' && flag.ptr[0] != 'y'))
        return ERR_CORRUPT_INPUT; /* channel binding ("p=…") is not offered */
    if (authz.len && (authz.len < 3 || authz.ptr[0] != 'a' || authz.ptr[1] != '=' ||
                      !name_decode(slice_of(authz.ptr + 2, authz.len - 2), as)))
        return ERR_CORRUPT_INPUT;
    if (buf_append(&s->gs2, all.ptr, all.len - in.len) || buf_append_slice(&s->first, in))
        return ERR_CORRUPT_INPUT;
    if (!attr_take(&in, 'n', &user) || (!named && !name_decode(user, s->user)) ||
        !attr_take(&in, 'r', &nonce) || nonce.len == 0 || in.len) /* delegation tokens come here */
        return ERR_CORRUPT_INPUT;
    if (as[0] && strcmp(as, s->user) != 0)
        return ERR_CORRUPT_INPUT;
    return buf_append_slice(&s->nonce, nonce) ? ERR_CORRUPT_INPUT : ERR_OK;
}

enum err scram_first(struct scram *s, struct slice in)
{
    return first(s, in, false);
}

enum err scram_first_named(struct scram *s, struct slice in, const char *user)
{
    if (strlen(user) > SCRAM_USER_MAX)
        return ERR_CORRUPT_INPUT;
    memcpy(s->user, user, strlen(user) + 1);
    return first(s, in, true);
}

/* A salt and iterations that the name always has. */
static void fake_cred(struct scram *s, const uint8_t *secret)
{
    uint8_t mac[SCRAM_HASH_MAX];
    unsigned n = 0;

    ASSERT(HMAC(EVP_sha256(), secret, 32, (const uint8_t *)s->user, strlen(s->user), mac, &n));
    s->cred.iterations = SCRAM_ITERATIONS_MIN;
    s->cred.salt_len = FAKE_SALT_LEN;
    memcpy(s->cred.salt, mac, FAKE_SALT_LEN);
}

void scram_challenge(struct scram *s, const struct scram_cred *cred, const uint8_t *secret,
                     const uint8_t *nonce, struct buf *out)
{
    char text[BASE64_LEN(SCRAM_SALT_MAX) + 1];

    if ((s->known = cred != NULL))
        s->cred = *cred;
    else
        fake_cred(s, secret);
    base64_encode(nonce, NONCE_LEN, text);
    buf_append_str(&s->nonce, text);
    base64_encode(s->cred.salt, s->cred.salt_len, text);
    buf_printf(&s->server, "r=%.*s,s=%s,i=%u", (int)s->nonce.len, (const char *)s->nonce.ptr, text,
               (unsigned)s->cred.iterations);
    buf_append_slice(out, buf_slice(&s->server));
}

/* The client's own nonce and the server's. librdkafka 2.0 puts its own before that once more; Apache
 * Kafka lets it, as what matters is that the server's comes back. */
static bool nonce_ok(const struct scram *s, struct slice r)
{
    size_t own = BASE64_LEN(NONCE_LEN);

    return r.len >= s->nonce.len &&
           memcmp(r.ptr + r.len - own, s->nonce.ptr + s->nonce.len - own, own) == 0 &&
           memcmp(r.ptr, s->nonce.ptr, s->nonce.len - own) == 0;
}

/* Is it the base64 of the header that the exchange began with? */
static bool binding_ok(const struct scram *s, struct slice c)
{
    struct buf text;
    bool ok;

    buf_init(&text, 2 * MESSAGE_MAX);
    ok = !buf_reserve(&text, BASE64_LEN(s->gs2.len) + 1);
    if (ok) {
        base64_encode(s->gs2.ptr, s->gs2.len, (char *)text.ptr);
        ok = slice_eq_str(c, (const char *)text.ptr);
    }
    buf_fini(&text);
    return ok;
}

/* Whose ClientKey is that? */
static bool proof_ok(struct scram *s, const uint8_t *proof, struct slice auth)
{
    uint8_t key[SCRAM_HASH_MAX], sign[SCRAM_HASH_MAX];
    unsigned i, n = scram_hash_len(s->mech);
    bool ok;

    hmac(s->mech, s->cred.stored_key, auth, sign);
    for (i = 0; i < n; i++)
        sign[i] ^= proof[i];
    hash(s->mech, sign, key);
    ok = CRYPTO_memcmp(key, s->cred.stored_key, n) == 0;
    OPENSSL_cleanse(sign, sizeof sign);
    return ok & s->known;
}

enum err scram_final(struct scram *s, struct slice in, struct buf *out)
{
    uint8_t proof[SCRAM_HASH_MAX + 3], sign[SCRAM_HASH_MAX];
    char text[BASE64_LEN(SCRAM_HASH_MAX) + 1];
    unsigned n = scram_hash_len(s->mech);
    struct slice all = in, c, r, p;
    enum err e = ERR_UNAUTHENTICATED;
    size_t without, len = 0;
    struct buf auth;

    if (!attr_take(&in, 'c', &c) || !binding_ok(s, c) || !attr_take(&in, 'r', &r) ||
        !nonce_ok(s, r))
        return ERR_CORRUPT_INPUT;
    without = (size_t)(r.ptr + r.len - all.ptr);
    if (!attr_take(&in, 'p', &p) || in.len || p.len != BASE64_LEN(n) ||
        !base64_decode((const char *)p.ptr, p.len, proof, &len) || len != n)
        return ERR_CORRUPT_INPUT;
    buf_init(&auth, 8 * MESSAGE_MAX);
    if (!buf_append_slice(&auth, buf_slice(&s->first)) && !buf_append_u8(&auth, ',') &&
        !buf_append_slice(&auth, buf_slice(&s->server)) && !buf_append_u8(&auth, ',') &&
        !buf_append(&auth, all.ptr, without) && proof_ok(s, proof, buf_slice(&auth))) {
        hmac(s->mech, s->cred.server_key, buf_slice(&auth), sign);
        base64_encode(sign, n, text);
        e = buf_append_str(out, "v=") || buf_append_str(out, text) ? ERR_TOO_LARGE : ERR_OK;
    }
    buf_fini(&auth);
    return e;
}
