/* SQL as tokens (PostgreSQL documentation, "Lexical Structure"): enough to tell statements apart, to
 * see what a statement begins with, and to put other names for some. Tokens are views into the text;
 * comments and space between them are skipped. A literal that does not end ends with the text. */
#ifndef WEIR_ROWS_LEX_H
#define WEIR_ROWS_LEX_H

#include <stdbool.h>

#include "base/slice.h"

enum lex_kind {
    LEX_END,
    LEX_WORD,   /* an identifier or keyword */
    LEX_QUOTED, /* "…" */
    LEX_STRING, /* '…', E'…', $tag$…$tag$ */
    LEX_NUMBER,
    LEX_PARAM, /* $1 */
    LEX_OTHER  /* one character of all else; "::" is one token */
};

struct lex_token {
    enum lex_kind kind;
    struct slice text; /* as written, quotes included */
};

/* Takes the next token off in. */
struct lex_token lex_next(struct slice *in);
/* A word, of any case. */
bool lex_is(const struct lex_token *t, const char *word);
/* A word or quoted identifier as it counts: folded or unquoted, in out (cut to n - 1 bytes). */
bool lex_name(const struct lex_token *t, char *out, size_t n);
/* A string literal's value, in out (cut); false: it is none. */
bool lex_string(const struct lex_token *t, char *out, size_t n);
bool lex_op(const struct lex_token *t, char c);
/* Takes the next statement off in, without its semicolon and space around it; false: none is left.
 * It may be empty. */
bool lex_statement(struct slice *in, struct slice *out);
/* The highest $n. */
unsigned lex_params(struct slice text);

#endif
