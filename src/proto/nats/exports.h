/* What accounts let others have: services that they answer and streams of messages that they publish.
 *
 *   accounts:
 *     SALES:
 *       exports:
 *         - {service: price.*}                       # to every account
 *         - {stream: orders.>, accounts: [AUDIT]}    # to these
 *     AUDIT:
 *       imports:
 *         - {service: price.*, account: SALES, to: ask.price.*}
 *         - {stream: orders.new, account: SALES, prefix: sales}
 *
 * An import is a subscription of the server's own that passes messages on, under the subject that the
 * importer has for them: wildcards stand for the same tokens in order. A request gets a reply subject in
 * the exporting account, `_R_.<import>.<seal>.<until>.<reply>`, that only the server can make, for that
 * reply and a time; what is answered to it goes back. Nothing else passes between accounts.
 *
 * Threads: apply: one at a time; messages are passed on on the import's loop. */
#ifndef WEIR_PROTO_NATS_EXPORTS_H
#define WEIR_PROTO_NATS_EXPORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct naccount;
struct nats;
struct nusers;

struct nexport {
    bool service;
    struct naccount *of;
    struct slice subject;
    struct slice *accounts; /* names; NULL: all */
    uint32_t accounts_n;
};

struct nimport {
    bool service;
    struct naccount *from, *into;
    struct slice subject, to; /* in from, in into */
    const char *into_name;
    size_t line; /* of the file */
};

/* Whether what one pattern takes can be said by the other: as many wildcards, of the same kinds. */
bool subject_maps(struct slice from, struct slice to);
/* subject, which `from` takes, said by `to`; how many bytes, 0: more than cap. */
size_t subject_map(struct slice from, struct slice to, struct slice subject, uint8_t *out,
                   size_t cap);

/* Each import has an export, and none leads back to itself; else ERR_CONFIG, *line says where. */
enum err nimports_check(const struct nexport *exports, uint32_t exports_n,
                        const struct nimport *imports, uint32_t imports_n, size_t *line,
                        const char **why);

/* From now on these are the imports. */
void nexports_apply(struct nats *n, struct nusers *u);
/* The loops have stopped. */
void nexports_stop(struct nats *n);

#endif
