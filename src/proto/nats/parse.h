/* The lines that clients of NATS send, taken apart. Source: nats-io/nats.docs, "Client Protocol";
 * where it is silent, what nats-server answers.
 *
 *   PUB subject [reply] size            HPUB subject [reply] header-size size
 *   SUB subject [queue] sid             UNSUB sid [max]
 *   CONNECT {…}   PING   PONG   INFO {…}   +OK   -ERR text
 *
 * Verbs in any case, blanks and tabs between fields, lines end with LF or CR LF, payloads with CR
 * LF. Nothing is copied or allocated: what is found points into the input. Any thread. */
#ifndef WEIR_PROTO_NATS_PARSE_H
#define WEIR_PROTO_NATS_PARSE_H

#include <stdbool.h>

#include "base/slice.h"

enum nats_op {
    NATS_MORE, /* the rest is to come: `need` bytes in all, 0: not known yet */
    NATS_PUB,
    NATS_HPUB,
    NATS_SUB,
    NATS_UNSUB,
    NATS_PING,
    NATS_PONG,
    NATS_CONNECT,
    NATS_OK,        /* +OK and INFO, which need no answer */
    NATS_ERR,       /* -ERR */
    NATS_UNKNOWN,   /* no such verb, or fields that are not its */
    NATS_LONG_LINE, /* longer than line_max */
    NATS_LARGE,     /* the payload is larger than payload_max */
};

struct nats_line {
    enum nats_op op;
    size_t need;
    struct slice subject, reply, queue, sid; /* empty: not there */
    struct slice body;                       /* headers and payload */
    size_t header_len;                       /* HPUB: of body */
    int64_t max;                             /* UNSUB; 0: not there */
    struct slice json;                       /* CONNECT; what is behind -ERR */
};

/* Takes one line, with its payload, from the beginning of `in`: how many bytes it has, 0 with
 * NATS_MORE and the errors. payload_max in bytes, headers counted. */
size_t nats_parse(struct slice in, size_t line_max, size_t payload_max, struct nats_line *out);

/* A number of digits only, at most nine of them; -1 otherwise. */
int64_t nats_number(struct slice s);
/* The same of 19 at most. False: it is none, and *out stays as it is. */
bool nats_u64(struct slice s, uint64_t *out);

#endif
