/* Share groups' requests (KIP-932): what share_session.c, share_ack.c and share_fetch.c share. Not
 * for anyone else. All on the loop of the request, but where said. */
#ifndef WEIR_PROTO_KAFKA_SHARE_H
#define WEIR_PROTO_KAFKA_SHARE_H

#include "broker/cursor.h"
#include "proto/kafka/kafka_int.h"
#include "proto/kafka/share_conf.h"

enum kafka_share_error {
    KE_INVALID_RECORD_STATE = 121,
    KE_SHARE_SESSION_NOT_FOUND = 122,
    KE_INVALID_SHARE_SESSION_EPOCH = 123,
    KE_SHARE_SESSION_LIMIT_REACHED = 133
};
#define SHARE_EPOCH_FIRST 0
#define SHARE_EPOCH_LAST  (-1)

/* ---- sessions: share_session.c ---- */

/* A partition that a session looks at, or did. */
struct share_part {
    struct list_node link; /* in the order of reading: those with data go to the end */
    uint8_t key[20];       /* topic's id, index big-endian */
    int32_t index;
    bool wanted;      /* false: forgotten, but the member may have records still */
    struct topic *t;  /* referenced; NULL: not there, or not allowed */
    struct cursor *c; /* referenced; NULL: not found yet */
    uint32_t row;     /* of the request under way */
    int64_t since_ms; /* SHARE_DURATION: records from then on; 0: not asked yet */
};

/* A member's session belongs to its connection, and ends with it; then what it has is free again.
 * Its leases are in its own name, so that one after it has nothing to do with them. */
struct share_session {
    struct share_session *next; /* kconn.shares */
    struct slice group, member; /* own memory */
    int32_t epoch;              /* expected next */
    struct map parts;
    struct list_head order;
    char owner[17];
};

/* The session that a request of this epoch is for; SHARE_EPOCH_FIRST makes a new one, if `fetches`.
 * A code: it is refused. */
int16_t share_session_open(struct kreq *q, struct slice group, struct slice member, int32_t epoch,
                           bool fetches, struct share_session **out);
/* The member is done: what it has is free again, as if not delivered. */
void share_session_close(struct kconn *kc, struct share_session **ss);
struct share_part *share_part_find(struct share_session *ss, const uint8_t id[16], int32_t index);
/* NULL: the session is full. */
struct share_part *share_part_add(struct share_session *ss, const uint8_t id[16], int32_t index);
static inline struct slice share_owner(const struct share_session *ss)
{
    return slice_of(ss->owner, 16);
}

/* ---- acknowledgements: share_ack.c ---- */

struct share_acks;
struct share_ack {
    struct share_acks *all;
    uint8_t id[16];
    int32_t index;
    int16_t code; /* of its outcome, once all are over */
    struct cursor_ack *ranges;
    uint32_t ranges_n;
};
struct share_acks {
    struct kreq *q;
    void (*then)(struct kreq *q);
    atomic_uint left; /* on their way, and 1 */
    struct share_ack *v;
    uint32_t n;
};
/* Settles what the topics say; `then` runs on the loop when all of it is over, at the earliest
 * before this returns. topics: as ShareAcknowledge has them (ShareFetch has the same). False: there
 * is no room, the request is over. */
bool share_acks_begin(struct share_acks *a, struct kreq *q, struct share_session *ss,
                      const struct share_conf *conf,
                      const struct kafka_share_acknowledge_request_topic *topics, uint32_t n,
                      void (*then)(struct kreq *q));

/* What a cursor's error is to a client. */
int16_t share_code(enum err e);

#endif
