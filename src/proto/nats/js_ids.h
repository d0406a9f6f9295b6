/* A window of duplicates: ids of messages that came lately, or are on their way. One thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_IDS_H
#define WEIR_PROTO_NATS_JS_IDS_H

#include "base/map.h"

#define JIDS_UNDER_WAY UINT64_MAX

struct jids {
    struct map by_id;
    struct jid *first, **last; /* in the order in which they came */
};

/* seed: 16 random bytes. */
void jids_init(struct jids *x, const uint8_t *seed);
void jids_fini(struct jids *x);
/* Those that came before this time are forgotten, but for what is under way, and what is behind that. */
void jids_expire(struct jids *x, int64_t before_ms);
/* Sequence of the message with this id; 0: there is none. */
uint64_t jids_find(const struct jids *x, struct slice id);
/* A message is under way with this id, which is not known. */
void jids_begin(struct jids *x, struct slice id, int64_t time_ms);
/* … it did not come to be. */
void jids_cancel(struct jids *x, struct slice id);
/* … or has this sequence. also_new: of one that was not under way, too. */
void jids_note(struct jids *x, struct slice id, uint64_t seq, int64_t time_ms, bool also_new);

#endif
