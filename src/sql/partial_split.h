/* A statement while it is split: what partial.c, partial_tree.c and partial_terms.c share. One
 * thread's. */
#ifndef WEIR_SQL_PARTIAL_SPLIT_H
#define WEIR_SQL_PARTIAL_SPLIT_H

#include <jansson.h>

#include "sql/partial_int.h"

#define SPLIT_TEXT_MAX   (64u << 20)
#define SPLIT_GROUPS_MAX 64u
#define SPLIT_TERMS_MAX  256u

/* A column of the select list. */
struct item {
    json_t *tree;  /* canonical */
    char *name;    /* of the answer's column */
    bool alias;    /* the name was given */
    bool star;     /* more columns than one, maybe */
    json_t *final; /* PARTIAL_GROUPS: over `merged` */
};
struct split {
    const struct sql_request *rq;
    partial_text_fn text;
    void *text_arg;
    struct errinfo *info;
    struct partial *out;
    json_t *node; /* of the SELECT */
    const char *table;
    struct item *item;
    uint32_t items_n;
    json_t *group[SPLIT_GROUPS_MAX];
    uint32_t groups_n;
    json_t *term[SPLIT_TERMS_MAX];
    uint32_t terms_n, states_n;
    struct buf from;                   /* FROM … WHERE … */
    struct buf states, merges, values; /* each ", text AS _xN" */
    struct buf orders;                 /* " ORDER BY …"; over `merged` */
    struct buf hidden, hidden_names;   /* of PARTIAL_ROWS */
    uint32_t hidden_n;
    char *having;
    bool full; /* a buffer is */
};

/* ---- texts (partial_tree.c) ---- */

/* Appends; s->full is set if it does not fit. */
void split_put(struct split *s, struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What is in it is a string from now on. */
void split_terminate(struct split *s, struct buf *b);
/* That string; "" if there is nothing. */
const char *split_sofar(struct buf *b);
/* ERR_SQL: "`what` cannot be answered in parts: `why`". */
enum err split_refuse(struct split *s, const char *what, const char *why);
/* An expression as SQL; the caller frees. */
enum err split_text(struct split *s, const json_t *n, char **out);

/* ---- trees (partial_tree.c); all give new references ---- */

/* Takes child. */
json_t *split_cast(json_t *child, const char *type);
/* The column whose name fmt makes of i. */
json_t *split_column(const char *fmt, unsigned i);
/* A copy of an expression in which each node for which fn gives one (a new reference) is replaced by
 * it. NULL: fn set *e. */
typedef json_t *(*split_swap_fn)(struct split *s, const json_t *n, enum err *e);
json_t *split_swapped(struct split *s, const json_t *n, split_swap_fn fn, int depth, enum err *e);
/* A split_swap_fn: parameters are replaced by their values. */
json_t *split_plain_node(struct split *s, const json_t *n, enum err *e);
/* Columns by small letters and without the table's name, no alias: equal if the same is meant. */
json_t *split_canonical(struct split *s, const json_t *n, enum err *e);
/* Takes the places in the text out of the tree. */
void split_places_drop(json_t *n, int depth);
/* The first node of the tree that fn wants; NULL: none. Borrowed. */
typedef bool (*split_want_fn)(const json_t *n);
const json_t *split_found(const json_t *n, split_want_fn fn, int depth);

/* ---- aggregates (partial_terms.c) ---- */

struct aggregate;
/* What the call n is; NULL: no aggregate. */
const struct aggregate *split_aggregate(const json_t *n);
bool split_is_aggregate(const json_t *n);
/* Appends the states and the value of the term that was counted last. */
enum err split_term(struct split *s, const json_t *n, const struct aggregate *g);

#endif
