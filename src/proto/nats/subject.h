/* Subjects of NATS: tokens between dots; in patterns `*` stands for one token and `>`, as the last
 * one, for one or more. A `*` or `>` beside other characters is just a character, as nats-server
 * has it. Source: nats-io/nats.docs, "Subject-Based Messaging".
 *
 * No memory is taken; any thread. */
#ifndef WEIR_PROTO_NATS_SUBJECT_H
#define WEIR_PROTO_NATS_SUBJECT_H

#include <stdbool.h>

#include "base/slice.h"

/* At least one token, none empty, no blank or control character, `>` nowhere but at the end. */
bool subject_valid(struct slice s);
/* … and no wildcard. */
bool subject_literal(struct slice s);
bool subject_has_wildcard(struct slice s);
/* Whether the pattern takes the subject; both valid, the second without wildcards (those in it
 * count as plain tokens). */
bool subject_match(struct slice pattern, struct slice subject);
/* Whether `all` takes every subject that `part`, a pattern too, takes. */
bool subject_covers(struct slice all, struct slice part);
/* Whether there is a subject that both take. */
bool subjects_meet(struct slice a, struct slice b);

/* Cuts the first token off *rest; false when none is left. */
static inline bool subject_token(struct slice *rest, struct slice *token)
{
    const uint8_t *dot;

    if (slice_is_null(*rest))
        return false;
    dot = rest->len ? memchr(rest->ptr, '.', rest->len) : NULL;
    if (!dot) {
        *token = *rest;
        *rest = SLICE_NULL;
        return true;
    }
    *token = slice_of(rest->ptr, (size_t)(dot - rest->ptr));
    *rest = slice_of(dot + 1, rest->len - token->len - 1);
    return true;
}

static inline bool token_is(struct slice token, char wildcard)
{
    return token.len == 1 && token.ptr[0] == (uint8_t)wildcard;
}

#endif
