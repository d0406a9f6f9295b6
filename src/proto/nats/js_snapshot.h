/* Backups of streams, sent and taken over messages: $JS.API.STREAM.SNAPSHOT and RESTORE. See
 * js_snapshot.c and js_restore.c. On the stream's loop. */
#ifndef WEIR_PROTO_NATS_JS_SNAPSHOT_H
#define WEIR_PROTO_NATS_JS_SNAPSHOT_H

#include "proto/nats/js_stream.h"

/* A request for one. Takes r. */
void jsnapshot_request(struct jreq *r);
/* None is sent on. */
void jsnapshots_end(struct jstream *s);

/* r->stream was made to take a backup, and is empty. Takes r, whose r->gathered is what the backup
 * says of itself. */
void jrestore_begin(struct jreq *r);
/* What was put into the log is in the index, or failed. */
void jrestore_came(struct jstream *s, enum err e);
/* Nothing is taken any more. */
void jrestore_end(struct jstream *s);

#endif
