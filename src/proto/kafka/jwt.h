/* JSON Web Tokens (RFC 7515, 7519) signed with RS256, ES256 or HS256 by a key of a JWKS file (RFC
 * 7517), as SASL's OAUTHBEARER brings them. A key says by its type which algorithm it is for: a
 * token cannot choose another one. Keys never change once read; any thread may check with them. */
#ifndef WEIR_PROTO_KAFKA_JWT_H
#define WEIR_PROTO_KAFKA_JWT_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct jwks;

#define JWT_SUBJECT_MAX 255u
#define JWT_SKEW_MS     30000 /* by which clocks may differ, as Kafka's default */

struct jwt_want {
    const char *issuer, *audience; /* NULL or "": any */
};
struct jwt_claims {
    char subject[JWT_SUBJECT_MAX + 1];
    int64_t expires_ms;
};

/* Keys of other types, and those that are not for signing, are left out; ERR_CONFIG if none is left
 * or the text is no JWKS. */
enum err jwks_new(struct slice text, struct jwks **out, struct errinfo *info);
void jwks_free(struct jwks **ks);
/* ERR_UNAUTHENTICATED with the reason: what is wrong, never a part of the token. */
enum err jwt_check(const struct jwks *ks, struct slice token, const struct jwt_want *want,
                   int64_t now_ms, struct jwt_claims *out, struct errinfo *info);

#endif
