/* Who is connected and what they may do: SASL (sasl.c), users (users.c), access rules (acl.c), quotas
 * (quota.c), and the files that these read (security.c). One struct ksec for a server.
 *
 * Locks: `lock` guards what is read for every request and replaced as a whole: keys, the file's
 * users, rules, quotas. It is held for look-ups only, never while the broker is called. */
#ifndef WEIR_PROTO_KAFKA_SECURITY_H
#define WEIR_PROTO_KAFKA_SECURITY_H

#include "auth/users.h"
#include "base/map.h"
#include "io/thread.h"
#include "proto/kafka/jwt.h"
#include "proto/kafka/kafka_int.h"

enum sasl_mech { /* SCRAM's as enum scram_mech */
                 SASL_SCRAM_256 = SCRAM_SHA_256,
                 SASL_SCRAM_512 = SCRAM_SHA_512,
                 SASL_PLAIN = 3,
                 SASL_OAUTH = 4,
                 SASL_MECHS
};

struct acls;
struct quotas;
struct kquota_buckets;

struct ksec {
    struct broker *b;
    const struct kafka_conf *conf;
    unsigned mechs;       /* bits 1 << enum sasl_mech; 0: nobody has to say who they are */
    struct slice *supers; /* names; sorted out of conf's text, which they borrow */
    unsigned supers_n;
    uint8_t secret[32];   /* salts of users that there are not */
    struct io_mutex load; /* held while a table is made anew; before lock */
    struct io_rwlock lock;
    struct jwks *jwks;
    struct file_users *users;
    struct acls *acls;
    struct quotas *quotas;
    struct kquota_buckets *buckets;
    atomic_bool quotas_any, quotas_timed; /* there are some; some are of time */
    struct io_mutex edits_lock;
    struct map edits; /* what is being edited, see kedit_begin */
};

/* ---- security.c ---- */

/* Items that are read, changed and written again: one edit of an item at a time. Begins one, unless
 * another is on its way (false: kgather_again). The key's bytes stay until the edit's end. Any
 * thread. */
bool kedit_begin(struct ksec *s, struct slice key);
void kedit_end(struct ksec *s, struct slice key);

/* ---- sasl.c ---- */

/* "SCRAM-SHA-256" …; 0: no such mechanism. */
enum sasl_mech sasl_mech_of(struct slice name);
const char *sasl_mech_name(enum sasl_mech m);

/* ---- users.c ---- */

/* What was stored, else what the file has; false: there is no such user. */
bool kuser_cred(struct ksec *s, enum scram_mech m, const char *user, struct scram_cred *out);

/* ---- acl.c ---- */

void kacls_load(struct ksec *s);
void kacls_free(struct ksec *s);

/* ---- quota.c ---- */

void kquotas_load(struct ksec *s);
void kquotas_free(struct ksec *s);

#endif
