/* Reading single messages, for requests. See js_get.c. On the stream's loop; all take r. */
#ifndef WEIR_PROTO_NATS_JS_GET_H
#define WEIR_PROTO_NATS_JS_GET_H

#include "proto/nats/js_stream.h"

void jget_msg(struct jreq *r);    /* STREAM.MSG.GET */
void jget_delete(struct jreq *r); /* STREAM.MSG.DELETE */
void jget_direct(struct jreq *r); /* DIRECT.GET */

#endif
