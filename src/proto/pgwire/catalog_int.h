/* A statement while its catalogue is put in: what catalog.c and catalog_tokens.c share. One
 * connection's loop. */
#ifndef WEIR_PROTO_PGWIRE_CATALOG_INT_H
#define WEIR_PROTO_PGWIRE_CATALOG_INT_H

#include "proto/pgwire/pgwire_int.h"
#include "rows/lex.h"

#define CATALOG_WORD_MAX 256u /* of a name */
#define CATALOG_OPEN_MAX 64u  /* brackets in brackets; deeper ones are not looked into */

#define CATALOG_RELATIONS_MAX 192u

enum catalog_uses {
    CATALOG_PG = 1,      /* types */
    CATALOG_CLASS = 2,   /* topics */
    CATALOG_COLUMNS = 4, /* and what DESCRIBE says of them */
    CATALOG_NAMED = 8,   /* names of topics as people write them */
    CATALOG_SIZES = 16,  /* and how much is in them */
    CATALOG_SETTINGS = 32,
    CATALOG_ONE = 64 /* the statement names a topic: only its columns */
};
enum catalog_clause { CLAUSE_OTHER, CLAUSE_LIST, CLAUSE_FROM };
enum catalog_operand { OPERAND_NONE, OPERAND_STRING, OPERAND_COLUMN, OPERAND_OTHER };

/* A bracket that is open. */
struct catalog_open {
    size_t operand; /* where the operand begins that ends with the bracket */
    size_t inside;  /* behind the bracket */
    enum catalog_clause clause;
    bool cast; /* of CAST ( */
};

struct rewriting {
    struct pconn *pc;
    struct slice sql, in;
    const uint32_t *oids; /* of parameters, as far as the client said */
    unsigned oids_n;
    struct buf *out;
    struct lex_token t; /* the one at hand */
    /* What was put last: where the operand begins that ends there, and the one in front of the
     * operator that ends there. */
    size_t operand, left;
    enum catalog_operand kind;
    size_t left_end;
    bool last_dot, matching;   /* the last token was "."; was ~ */
    bool folded, operand_item; /* ~*; the operand begins an item */
    bool item;                 /* what follows begins an item of a list or FROM */
    bool distinct;             /* the last keyword was DISTINCT */
    struct catalog_open open[CATALOG_OPEN_MAX];
    unsigned opens, depth; /* depth: of calls in calls */
    bool catalogue;        /* the statement seems to be about it */
    bool changed;
    unsigned uses;
    uint64_t mentioned[CATALOG_RELATIONS_MAX / 64]; /* by their place in the table */
    enum err e;
};

void catalog_say(struct rewriting *r, const char *text);
void catalog_say_literal(struct rewriting *r, const char *text);
/* The number of a topic. */
uint32_t catalog_oid(const char *topic);

/* ---- catalog_tokens.c ---- */

/* Takes r->in to its end, appending what SQL is to get. */
void catalog_tokens(struct rewriting *r);

/* ---- catalog.c ---- */

/* Notes that the relation is mentioned. True: there is one of the name. info: of information_schema. */
bool catalog_mention(struct rewriting *r, const char *name, bool info);

#endif
