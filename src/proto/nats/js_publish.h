/* What is published to a stream: checks, appends, PubAcks. See js_publish_int.h. On the stream's loop. */
#ifndef WEIR_PROTO_NATS_JS_PUBLISH_H
#define WEIR_PROTO_NATS_JS_PUBLISH_H

#include "proto/nats/js_stream.h"

/* Takes a message for one of the stream's subjects. */
void jpublish_handle(struct nsub *sub, struct nmsg *m);
/* A message of the stream's own making, at the end of the turn; nobody is told. */
void jpublish_own(struct jstream *s, struct slice subject, struct slice headers,
                  struct slice payload);
/* Stores all n messages in one unit, or none; the last one's PubAck goes to reply, with tail put in.
 * False: one of them cannot be, and nobody was answered. */
bool jpublish_all(struct jstream *s, struct slice reply, struct slice tail, const struct jmsg *v,
                  unsigned n, struct js_fault *f);
/* Answers behind what came before; f NULL: an empty message. */
void jpublish_answer(struct jstream *s, struct slice reply, const struct js_fault *f);
enum jcopied { JCOPIED, JCOPY_PASSED, JCOPY_LATER };
/* A message of another stream, as it is to be here, at the end of the turn. mirror: its time is kept;
 * its sequence is to be the next one. PASSED: it cannot be in this stream, or was there before;
 * LATER: there is no room for it now. */
enum jcopied jpublish_copy(struct jstream *s, const struct jmsg *m, bool mirror);
/* What a schedule makes, with an item (key empty: none) in the same unit, at the end of the turn.
 * jschedules_note, or jschedules_failed, tells what becomes of it. PASSED: it cannot be stored. */
enum jcopied jpublish_scheduled(struct jstream *s, const struct jmsg *m, const char *ns,
                                struct slice key, struct slice value);
/* The last message of a subject (or pattern), of those on their way to the log too; 0: none. */
uint64_t jpublish_last(struct jstream *s, struct slice subject);
/* So many sequences of a mirror are not there. */
enum err jpublish_fill(struct jstream *s, uint64_t n);
/* The next sequence of what jpublish_copy copies. */
uint64_t jpublish_next(const struct jstream *s);
/* An item that becomes durable with what was copied in this turn; jsources_came tells of what is
 * answered. NULL: nothing was copied, or it is too much. */
const void *jpublish_copied(struct jstream *s, const char *ns, struct slice key,
                            struct slice value);
/* The last message of a subject is gone for this reason, which stays to be seen for a while. */
void jpublish_marker(struct jstream *s, struct slice subject, const char *reason);
/* The index has more of what others appended. */
void jpublish_followed(struct jstream *s);
/* Whether messages are on their way to the log. */
bool jpublish_under_way(const struct jstream *s);

/* What jcounters_add waited for is there. */
void jpublish_go_on(struct jstream *s);
/* Messages that come while the stream is being loaded are held until jpublish_loaded. */
void jpublish_begin(struct jstream *s);
void jpublish_loaded(struct jstream *s);
/* The configuration is another one. */
void jpublish_changed(struct jstream *s);
/* Nothing is begun any more; what was not begun is answered with an error. */
void jpublish_stop(struct jstream *s);
void jpublish_free(struct jstream *s);

#endif
