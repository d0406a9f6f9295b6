/* SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), the server's side, and the credentials that
 * it checks. A password is never kept: a credential is the salt, the iterations, H(ClientKey) and
 * ServerKey. Secrets are compared in constant time. No I/O; any thread, one at a time on a value.
 *
 *   client-first  -> scram_first:  user, nonce
 *                 <- scram_challenge, with the user's credential, or one that nobody has
 *   client-final  -> scram_final:  proof; true and the server's own proof, or false */
#ifndef WEIR_AUTH_SCRAM_H
#define WEIR_AUTH_SCRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum scram_mech {
    SCRAM_NONE = 0,
    SCRAM_SHA_256 = 1,
    SCRAM_SHA_512 = 2
}; /* as Kafka numbers them */

#define SCRAM_HASH_MAX       64u
#define SCRAM_SALT_MAX       255u
#define SCRAM_ITERATIONS_MIN 4096
#define SCRAM_ITERATIONS_MAX 16384
#define SCRAM_USER_MAX       255u

struct scram_cred {
    uint32_t iterations;
    uint8_t salt_len;
    uint8_t salt[SCRAM_SALT_MAX], stored_key[SCRAM_HASH_MAX], server_key[SCRAM_HASH_MAX];
};

/* "SCRAM-SHA-256"; NULL if there is no such number. */
const char *scram_name(int mech);
unsigned scram_hash_len(enum scram_mech m);
/* From what PBKDF2 made of the password: scram_hash_len bytes. salt at most SCRAM_SALT_MAX. */
void scram_cred_from_salted(enum scram_mech m, struct slice salt, uint32_t iterations,
                            const uint8_t *salted, struct scram_cred *out);
/* Runs PBKDF2: some milliseconds. */
void scram_cred_make(enum scram_mech m, struct slice password, struct slice salt,
                     uint32_t iterations, struct scram_cred *out);
bool scram_password_ok(enum scram_mech m, const struct scram_cred *c, struct slice password);
/* As it is stored; SCRAM_STORED_MAX bytes at most, returns how many. */
#define SCRAM_STORED_MAX (1u + 4u + 1u + SCRAM_SALT_MAX + 2u * SCRAM_HASH_MAX)
size_t scram_cred_write(enum scram_mech m, const struct scram_cred *c, uint8_t *out);
bool scram_cred_read(enum scram_mech m, struct slice s, struct scram_cred *out);

struct scram {
    enum scram_mech mech;
    char user[SCRAM_USER_MAX + 1];
    struct scram_cred cred;
    bool known;                           /* the credential is the user's */
    struct buf gs2, nonce, first, server; /* header, whole nonce, client-first-bare, server-first */
};

void scram_init(struct scram *s, enum scram_mech m);
void scram_fini(struct scram *s);
/* ERR_CORRUPT_INPUT: not such a message, or it wants what there is not. */
enum err scram_first(struct scram *s, struct slice in);
/* The same where the name came before, as in PostgreSQL's protocol, whose clients leave it empty
 * here: what the message has for a name does not count. */
enum err scram_first_named(struct scram *s, struct slice in, const char *user);
/* cred NULL: the user is unknown; goes on with a salt made from `secret` (32 bytes) and the name, so
 * that it does not show. nonce: 18 random bytes. Appends server-first. */
void scram_challenge(struct scram *s, const struct scram_cred *cred, const uint8_t *secret,
                     const uint8_t *nonce, struct buf *out);
/* ERR_UNAUTHENTICATED, ERR_CORRUPT_INPUT; else appends server-final. */
enum err scram_final(struct scram *s, struct slice in, struct buf *out);

#endif
