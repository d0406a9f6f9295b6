/* Mirrors and sources: streams that copy others of the same account. See js_source.c. On the
 * stream's loop, if nothing else is said. */
#ifndef WEIR_PROTO_NATS_JS_SOURCE_H
#define WEIR_PROTO_NATS_JS_SOURCE_H

#include "proto/nats/js_stream.h"

/* Sequence of offset 0, if the stream is or was a mirror that has messages; 0: it is not. */
uint64_t jsources_base(const struct jstream *s);
/* The stream is loaded: begins to copy, as its configuration says. */
void jsources_begin(struct jstream *s);
/* The configuration is another one: what is as it was goes on. */
void jsources_changed(struct jstream *s);
/* Nothing is begun any more; who copies from this stream is told that it is gone. */
void jsources_end(struct jstream *s);
/* Messages were stored in this stream: who copies from it gets them. */
void jsources_stored(struct jstream *s);
/* The append that jpublish_copied answered is durable and in the index, or failed. */
void jsources_came(struct jstream *s, const void *batch, enum err e);
/* What jpublish_copy answered LATER for is there. */
void jsources_go_on(struct jstream *s);
/* Deletes what is saved of it, in the same unit. */
enum err jsources_forget(const struct jstream *s, struct append *a);
/* "mirror" or "sources", if it has some, into o. */
void jsources_info(struct jstream *s, json_t *o);
/* The stream, which is empty, begins with this sequence, as a mirror does; it has all below next. */
enum err jsources_base_set(struct jstream *s, uint64_t first);
enum err jsources_based(struct jstream *s, uint64_t next);
/* What cannot be copied is said; c was checked. */
bool jsources_supported(const struct jstream_conf *c, struct js_fault *f);

#endif
