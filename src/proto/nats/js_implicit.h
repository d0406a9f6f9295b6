/* Streams that nobody made: topics of one partition, as JetStream shows them. See js_implicit.c. */
#ifndef WEIR_PROTO_NATS_JS_IMPLICIT_H
#define WEIR_PROTO_NATS_JS_IMPLICIT_H

#include "proto/nats/js_stream.h"

/* Before the loops run: those that have consumers are loaded. */
void jimplicit_start(struct js *js);
void jimplicit_stop(struct js *js);
/* The stream of this name: one that is in the table, or a topic's, which is put there and loaded.
 * Referenced; NULL: there is none, and *why, if not NULL, says so. Any thread. */
struct jstream *jimplicit_find(struct js *js, struct naccount *a, struct slice name,
                               struct js_fault *why);
/* On its loop: it is loaded; from now on it goes when nobody asks for it for a while. */
void jimplicit_loaded(struct jstream *s);
/* Adds those of a page to r->gathered: their names, or what STREAM.LIST tells of each. */
void jimplicit_list(struct jreq *r, uint64_t limit, bool names);
/* On its loop. False: it is such a stream, which this request would change: it was answered. */
bool jimplicit_allows(struct jreq *r);

#endif
