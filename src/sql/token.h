/* The words of a statement, for those who need not understand all of it: rewrite.c and point.c. Comments
 * and blanks are left out; what is in quotes is one token. Private to src/sql. Any thread. */
#ifndef WEIR_SQL_TOKEN_H
#define WEIR_SQL_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum token_kind {
    TOKEN_NAME,
    TOKEN_QUOTED,
    TOKEN_STRING,
    TOKEN_NUMBER,
    TOKEN_PARAM,
    TOKEN_ARROW,
    TOKEN_OTHER
};
struct token {
    enum token_kind kind;
    uint32_t from, to;
    uint32_t group; /* of an arrow's right side: token with which the whole begins, plus 1 */
};
struct tokens {
    struct token *v;
    uint32_t n, cap;
};

/* All of the text's; t is zeroed before, and t->v is the caller's to free. */
void tokens_make(struct tokens *t, struct slice s);
/* Is the i-th this word, in any case? */
bool token_is(const struct tokens *t, uint32_t i, struct slice s, const char *word);

#endif
