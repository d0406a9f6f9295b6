/* See nkey.h. */
#include "proto/nats/nkey.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"

#define NKEY_BYTES 35u

static uint16_t crc16(const uint8_t *p, size_t n)
{
    uint16_t crc = 0;
    unsigned i;

    while (n--) {
        crc = (uint16_t)(crc ^ (*p++ << 8));
        for (i = 0; i < 8; i++)
            crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

bool nkey_read(struct slice text, uint8_t kind, uint8_t out[32])
{
    uint8_t raw[NKEY_BYTES];
    uint32_t bits = 0, have = 0;
    size_t i, n = 0;

    if (text.len != NKEY_TEXT)
        return false;
    for (i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];

        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c - 'A');
        else if (c >= '2' && c <= '7')
            c = (uint8_t)(c - '2' + 26);
        else
            return false;
        bits = bits << 5 | c;
        have += 5;
        if (have >= 8 && n < sizeof raw) {
            raw[n++] = (uint8_t)(bits >> (have - 8));
            have -= 8;
        }
    }
    if (n != sizeof raw || raw[0] != kind || crc16(raw, 33) != (uint16_t)(raw[33] | raw[34] << 8))
        return false;
    memcpy(out, raw + 1, 32);
    return true;
}

static bool signed_by(const uint8_t key[32], struct slice text, const uint8_t sig[64])
{
    EVP_PKEY *k = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = k && c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, k) == 1 &&
                EVP_DigestVerify(c, sig, 64, text.ptr, text.len) == 1;

    EVP_MD_CTX_free(c);
    EVP_PKEY_free(k);
    return good;
}

bool base64url_read(struct slice text, uint8_t *out, size_t cap, size_t *n)
{
    char *plain;
    size_t i, padded;
    bool good;

    while (text.len && text.ptr[text.len - 1] == '=')
        text.len--;
    padded = (text.len + 3) / 4 * 4;
    if (padded / 4 * 3 > cap + 2 || text.len % 4 == 1)
        return false;
    plain = xmalloc(padded + 1);
    for (i = 0; i < text.len; i++)
        plain[i] = (char)(text.ptr[i] == '-' ? '+' : text.ptr[i] == '_' ? '/' : text.ptr[i]);
    memset(plain + i, '=', padded - i);
    good = base64_decode(plain, padded, out, n);
    free(plain);
    return good;
}

bool nkey_signed(const uint8_t key[32], struct slice text, struct slice sig)
{
    uint8_t bytes[64 + 2];
    size_t n;

    return base64url_read(sig, bytes, 64, &n) && n == 64 && signed_by(key, text, bytes);
}
