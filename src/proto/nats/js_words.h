/* What clients say to consumers: acknowledgements, requests for messages. From text to structs; no
 * memory is taken but by JSON's parser. Source: nats-io/nats-architecture-and-design, ADR-15, ADR-37,
 * ADR-42; nats.docs, "Pull consumers". Any thread. */
#ifndef WEIR_PROTO_NATS_JS_WORDS_H
#define WEIR_PROTO_NATS_JS_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define JPULL_BODY_MAX 4096u /* bytes of a request for messages */
#define JPULL_WORD_MAX 64u   /* bytes of a group's name, of a pin */
#define JPULL_FAULT    96u

enum jack_what { JACK_ACK, JACK_NAK, JACK_PROGRESS, JACK_NEXT, JACK_TERM, JACK_NOTHING };

/* Which message is meant: <delivered>.<stream seq>.<consumer seq>.<time>.<pending>, the end of the
 * subject "$JS.ACK.<stream>.<consumer>…". */
struct jack_subject {
    uint64_t deliveries, seq, dseq;
};
bool jack_subject_read(struct slice tail, struct jack_subject *out);

struct jack_body {
    enum jack_what what;
    int64_t delay_ns;  /* NAK */
    struct slice rest; /* TERM: the reason; NEXT: a request */
};
/* JACK_NOTHING: it is none of them. */
void jack_body_read(struct slice body, struct jack_body *out);

/* Go's notation: "1h2m3.5s", "100ms", "-1us". */
bool jduration_read(struct slice s, int64_t *ns);

struct jpull_body {
    int64_t batch, max_bytes, expires_ns, heartbeat_ns;
    bool no_wait;
    int64_t min_pending, min_ack_pending, priority;
    char group[JPULL_WORD_MAX + 1], id[JPULL_WORD_MAX + 1];
};
/* False: fault says why, as clients are told. */
bool jpull_body_read(struct slice body, struct jpull_body *out, char fault[JPULL_FAULT]);

#endif
