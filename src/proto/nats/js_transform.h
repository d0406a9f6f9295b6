/* Transforms of subjects: what a pattern takes becomes another subject, made of the tokens that its
 * wildcards stand for. Source: NATS ADR-30, and nats.docs, "Subject mapping and partitioning".
 *
 *   $1 or {{wildcard(1)}}    the first wildcard's token
 *   {{partition(n,1,2)}}     a number below n, by FNV-1a of these wildcards' tokens (none: of all)
 *   {{split(1,-)}}           the token, with dots for the delimiter
 *   {{splitfromleft(1,n)}}   a dot behind its first n characters; {{splitfromright(1,n)}}: before its last
 *   {{slicefromleft(1,n)}}   a dot after each n characters; {{slicefromright(1,n)}}: counted from its end
 *   {{left(1,n)}}            its first n characters; {{right(1,n)}}: its last
 *   >                        what the pattern's > stands for
 *
 * Any thread. */
#ifndef WEIR_PROTO_NATS_JS_TRANSFORM_H
#define WEIR_PROTO_NATS_JS_TRANSFORM_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

/* src empty: ">". Whether dest can be made of what src takes. */
bool jtransform_valid(struct slice src, struct slice dest);
/* A valid one: false if src does not take the subject; else what it becomes is put into out, cleared
 * first. */
bool jtransform_apply(struct slice src, struct slice dest, struct slice subject, struct buf *out);

#endif
