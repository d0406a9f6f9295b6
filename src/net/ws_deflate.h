/* permessage-deflate (RFC 7692), server side, without context takeover: each message is compressed
 * by itself, so a connection holds memory for it only while a compressed message comes in.
 * Private to src/net; one loop. */
#ifndef WEIR_NET_WS_DEFLATE_H
#define WEIR_NET_WS_DEFLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct buf;
struct ws_deflate; /* a loop's compressor */
struct ws_inflate; /* of a message that is being read */

/* What is answered in Sec-WebSocket-Extensions. */
#define WS_DEFLATE_ANSWER \
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

/* Whether the header's value offers it in a way that this side can keep to. */
bool ws_deflate_offered(struct slice extensions);

struct ws_deflate *ws_deflate_new(void);
void ws_deflate_free(struct ws_deflate **d); /* may be NULL */
/* Appends a message's bytes to d's own buffer. */
void ws_deflate_add(struct ws_deflate *d, struct slice data);
/* The whole message; the buffer is d's, until the next one begins. */
struct slice ws_deflate_end(struct ws_deflate *d);

/* max: bytes that the message may have. */
struct ws_inflate *ws_inflate_new(uint64_t max);
void ws_inflate_free(struct ws_inflate **f); /* may be NULL */
/* Gives the inflated bytes to take(arg), in pieces. last: these are the message's last bytes. 0, or the
 * code to close with: 1007 no deflate, 1009 too large. */
int ws_inflate_add(struct ws_inflate *f, struct slice data, bool last,
                   void (*take)(void *arg, struct slice piece), void *arg);

#endif
