/* Message schedules: messages that make others when they are due. See js_schedule.c. On the
 * stream's loop, if nothing else is said. */
#ifndef WEIR_PROTO_NATS_JS_SCHEDULE_H
#define WEIR_PROTO_NATS_JS_SCHEDULE_H

#include "proto/nats/js_facts.h"
#include "proto/nats/js_stream.h"

/* Whether what a publisher says of schedules may be stored; of the message's last subject. */
bool jschedules_check(struct jstream *s, const struct jwish *w, struct js_fault *f);

/* A message is in the index; while the stream is opened, on the worker that does it. What it says to
 * be removed is for the caller: the messages before it of the subject that is returned, empty: none. */
struct slice jschedules_note(struct jstream *s, uint64_t seq, const struct jfacts *f);
/* One is about to leave the index; all below first have. */
void jschedules_removed(struct jstream *s, uint64_t seq);
void jschedules_purged(struct jstream *s, uint64_t first);
/* What the schedule of this subject made could not be stored. */
void jschedules_failed(struct jstream *s, struct slice subject);

/* The stream is loaded: what is due is made from now on. */
void jschedules_begin(struct jstream *s);
/* The configuration is another one. */
void jschedules_changed(struct jstream *s);
/* Nothing is begun any more. */
void jschedules_end(struct jstream *s);
/* What is saved of it is not needed any more: the stream is being deleted. */
void jschedules_forget(struct jstream *s);
void jschedules_free(struct jstream *s);

#endif
