/* Subjects of NATS: tokens between dots; in patterns `*` stands for one token and `>`, as the last
 * one, for one or more. A `*` or `>` beside other characters is just a character, as nats-server
 * has it. Source: nats-io/nats.docs, "Subject-Based Messaging".
 *
 * Any thread. */
#ifndef WEIR_BASE_SUBJECT_H
#define WEIR_BASE_SUBJECT_H

#include <stdbool.h>

#include "base/slice.h"

struct buf;

#define SUBJECT_OF_RECORD_MAX 2048u /* bytes; half a control line of NATS */

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

/* Appends the subject of a record of a topic: the topic's name and, of a key that is not empty, one
 * token more, in which what may not be in a token (dots, blanks, controls, `*`, `>`, `%`, bytes that
 * are not UTF-8) is %XX with upper-case digits. False: there is none, as the topic's name is no
 * subject or all is longer than SUBJECT_OF_RECORD_MAX. */
bool subject_of_record(struct slice topic, struct slice key, struct buf *out);
/* Appends %XX. */
void subject_escape(struct buf *out, uint8_t c);

#endif
