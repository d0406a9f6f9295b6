/* Keys of NATS's users, accounts and operators: Ed25519. As text they are base32 (RFC 4648, without
 * padding) of a byte that says whose key it is, the key and a CRC-16 (XMODEM), as nats-io/nkeys writes
 * them. Any thread. */
#ifndef WEIR_PROTO_NATS_NKEY_H
#define WEIR_PROTO_NATS_NKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define NKEY_TEXT     56u
#define NKEY_USER     0xa0u /* U… */
#define NKEY_ACCOUNT  0x00u /* A… */
#define NKEY_OPERATOR 0x70u /* O… */

/* False: no public key of that kind. */
bool nkey_read(struct slice text, uint8_t kind, uint8_t out[32]);
/* sig: base64url, padded or not. */
bool nkey_signed(const uint8_t key[32], struct slice text, struct slice sig);
/* Padded or not; out has two bytes more than cap. False: it is none, or does not fit. */
bool base64url_read(struct slice text, uint8_t *out, size_t cap, size_t *n);

#endif
