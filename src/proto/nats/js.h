/* JetStream: streams, which are topics of one partition, and their consumers. See js_int.h for how
 * it is made and docs/nats.md for what there is.
 *
 * Threads: new and free while the loops do not run; account: any; turn_end: the loop's. */
#ifndef WEIR_PROTO_NATS_JS_H
#define WEIR_PROTO_NATS_JS_H

#include "base/err.h"

struct broker;
struct buf;
struct js;
struct naccount;
struct nats;
struct nloop;

/* Begins to load what streams there are; they are ready a little later, and what is asked of them
 * meanwhile waits. */
enum err js_new(struct nats *n, struct broker *b, struct js **out, struct errinfo *info);
/* Waits for what is under way. */
void js_free(struct js **js);
/* There is a new account. */
void js_account(struct js *js, struct naccount *a);
/* A turn of the loop ends: what came in it is written, what is to be answered is sent. */
void js_turn_end(struct js *js, struct nloop *l);
/* Prometheus text (names weir_nats_jetstream_…), appended. */
void js_metrics(struct js *js, struct buf *out);

#endif
