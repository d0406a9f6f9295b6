/* Walking JSON that a server wrote, without a tree of it: so numbers stay as they were written, and
 * names that come twice stay in order. Text that is no JSON sets `bad`; nothing reads behind `end`.
 * No state, any thread. */
#ifndef WEIR_CLI_WALK_H
#define WEIR_CLI_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <wchar.h>

#include "base/buf.h"

struct walk {
    const uint8_t *p, *end;
    bool bad;
};

/* Steps over the character c, and what space is before it; false: another one is there. */
bool walk_take(struct walk *w, char c);
/* The same; another one is bad. */
void walk_need(struct walk *w, char c);
/* Any value, as it is written; a name too. */
struct slice walk_value(struct walk *w);
/* A string's content, with control characters made visible; other values as they are written. */
void walk_plain(struct slice v, struct buf *b);
/* A string's content; other values as they are written. */
void walk_text(struct slice v, struct buf *b);
/* Bytes of the first character of s, which is not empty, and the columns of a terminal that it takes;
 * what is no character is one byte and one column. state is zeroed before the first. */
size_t walk_char(const char *s, mbstate_t *state, unsigned *width);
/* Columns of a terminal that a text takes. */
unsigned walk_width(const char *s);

#endif
