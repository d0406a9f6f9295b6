/* What the files of proto/pgwire share. Private.
 *
 * A connection takes its messages one after the other. A handler that has to wait, for a query or
 * for what a statement looks like, answers PG_WAIT and is called again with the same message when
 * something has changed (pconn_go): so it keeps no state but what it finds in the statement, the
 * portal or the connection.
 *
 *   start-up -> (TLS ->) login -> ready <-> waiting -> closed
 *
 * All on the connection's loop, but the struct maker of run.c. */
#ifndef WEIR_PROTO_PGWIRE_PGWIRE_INT_H
#define WEIR_PROTO_PGWIRE_PGWIRE_INT_H

#include <stdatomic.h>

#include "auth/auth.h"
#include "auth/users.h"
#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "io/thread.h"
#include "net/conn.h"
#include "proto/pgwire/copy.h"
#include "proto/pgwire/cursor.h"
#include "proto/pgwire/msg.h"
#include "proto/pgwire/pgwire.h"
#include "proto/pgwire/session.h"
#include "proto/pgwire/types.h"
#include "rows/pipe.h"
#include "sql/sql.h"

struct prun;

struct ploop {
    struct pgwire *p;
    struct loop *loop;
    struct auth_view auth;
};

struct pgwire {
    struct pgwire_conf conf;
    struct ploop *loops;
    struct conn_server *conns;
    uint8_t secret[32]; /* salts of users that there are not */
    atomic_bool draining;
    atomic_uint live; /* queries and descriptions that have not ended */
    _Atomic uint64_t queries, errors, logins_failed;
    struct io_rwlock users_lock;
    struct file_users *users; /* users_lock */
    struct io_mutex slots_lock;
    struct pconn **slot;       /* slots_lock: by process number less 1, for CancelRequest */
    uint32_t slots_n, slot_at; /* slots_lock */
};

/* ---- statements and portals ---- */

struct pstatement {
    char *name;
    char *sql;
    size_t len;
    unsigned refs;
    unsigned oids_n;    /* known types of parameters, as the client gave them; then as told */
    uint32_t *oids;     /* 0: not known */
    bool described;     /* oids has all of them, columns is right */
    struct buf columns; /* RowDescription, all as text; empty: no rows */
    unsigned params_n;
};

struct portal {
    char *name;
    struct pstatement *st;
    struct arena arena; /* parameters, formats */
    struct sql_param *params;
    unsigned params_n;
    uint8_t *formats;
    uint16_t formats_n;
    struct prun *run;
    bool over;  /* it has given all: Execute again gives no rows */
    bool began; /* the present Execute has begun: `left` counts down */
    uint32_t left;
    uint64_t sent;
    bool copying; /* its rows are CopyData; known once it runs */
    enum copy_form copy_form;
    bool cursor;     /* of DECLARE */
    bool hold, held; /* WITH HOLD; its transaction has been committed */
    bool moving;     /* rows are passed over */
};

enum pg_result { PG_DONE, PG_WAIT };

struct pdescribe;

struct pconn {
    struct pgwire *p;
    struct ploop *pl;
    struct conn *c;
    enum { P_STARTUP, P_PASSWORD, P_SASL, P_SASL_FINAL, P_REFUSED, P_READY } at;
    struct buf in;
    size_t in_at;   /* messages before it are done */
    struct buf out; /* small answers, sent at the end of a step */
    uint32_t slot, secret;
    struct session s;
    char token[AUTH_TOKEN_LEN + 1]; /* "": none */
    bool by_user;                   /* logged in as a SCRAM user */
    struct scram scram;
    struct loop_timer delay;
    bool running, skip, failed;
    struct map statements, portals;
    size_t statement_bytes;
    struct pdescribe *describing;
    struct pstatement *described_for; /* referenced while describing */
    /* Query: how far its text was taken, and the statement that runs */
    bool simple, simple_any, simple_failed;
    size_t simple_at;
    struct portal *simple_portal;
    /* DECLARE, FETCH, MOVE that waits, and the cursor, which lies in portals; NULL: none */
    struct portal *cursor;
    enum cursor_what cursor_what;
    struct sql_query *cancellable; /* slots_lock: what a CancelRequest ends */
};

/* ---- conn.c ---- */

void pconn_open(void *ctx, unsigned loop, struct conn *c, const char *alpn);
void pconn_drain(struct conn *c);
/* Goes on with messages: something that was waited for has come. */
void pconn_go(struct pconn *pc);
void pconn_flush(struct pconn *pc);
/* Says it and ends the connection. */
void pconn_fatal(struct pconn *pc, const char *code, const char *message, const char *hint);
/* What a CancelRequest of this number and secret is to end. Any loop. */
void pgwire_cancel(struct pgwire *p, uint32_t pid, uint32_t secret);
void pconn_cancellable(struct pconn *pc, struct sql_query *q);

/* ---- login.c ---- */

void login_begin(struct pconn *pc, const struct pg_startup *m);
void login_message(struct pconn *pc, uint8_t type, struct slice body);
/* Whether whoever logged in may still ask: tokens may have been revoked. *who NULL: everything. */
enum err login_check(struct pconn *pc, const struct principal **who, struct errinfo *info);

/* ---- query.c ---- */

enum pg_result query_message(struct pconn *pc, uint8_t type, struct slice body);
void query_fini(struct pconn *pc);
/* Errors of the message at hand. */
void query_fail(struct pconn *pc, const char *code, const char *message, const char *hint);
/* The same with an ErrorResponse that was made elsewhere, while the message waits: it is over. */
void query_fail_with(struct pconn *pc, struct slice response);
/* An ErrorResponse was appended: the transaction and the message have failed. */
void query_failed(struct pconn *pc);
#define FAILED_TXN "the transaction has failed: what follows is ignored until it ends"
struct pstatement *pstatement_new(struct slice name, struct slice sql);
void pstatement_unref(struct pstatement *st);
/* References the statement. Whoever puts it into pc->portals has given it up. */
struct portal *portal_new(struct slice name, struct pstatement *st);
void portal_free(struct portal *po);
void portal_drop(struct pconn *pc, struct slice name);
enum pump { PUMP_WAIT, PUMP_OVER, PUMP_SUSPENDED, PUMP_FAILED };
/* Gives out what there is of a portal that runs, as many rows as it has left. describe: its columns
 * first, once. After PUMP_FAILED the error was said. */
enum pump query_pump(struct pconn *pc, struct portal *po, bool describe);

/* ---- cursor.c ---- */

/* Begins what the statement says, or says its error; then cursor_go, as often as it waits. from: the
 * portal that it was bound in, NULL: none. False: it is not about a cursor. */
bool cursor_begin(struct pconn *pc, struct slice sql, struct portal *from);
/* describe: FETCH's rows come with their description. */
enum pg_result cursor_go(struct pconn *pc, bool describe);
/* What executing it would give. False: it is not about a cursor. */
bool cursor_describe(struct pconn *pc, struct slice sql);
/* False: there is none of the name, and this was said. */
bool cursor_close(struct pconn *pc, const char *name);
/* The transaction has ended: its cursors do, but those that are held. */
void cursor_txn_ended(struct pconn *pc, bool committed);

/* ---- run.c ---- */

enum prun_kind { PRUN_HEAD = 1, PRUN_ROWS, PRUN_FAILED, PRUN_OVER };

/* A query that runs, as its connection sees it. */
struct prun {
    struct pconn *pc;
    struct rows_pipe *pipe;
    struct sql_query *q;
    struct rows_piece *head;  /* RowDescription, once it is there */
    bool head_sent;           /* to a Query; Describe asks for it */
    struct rows_piece *piece; /* what is being given out */
    struct buf failed;        /* ErrorResponse; empty: none */
    bool ended;
};

/* Starts the portal's query. False: it failed at once, and this was said. */
bool prun_start(struct pconn *pc, struct portal *po);
void prun_free(struct prun **r);
/* Looks at what has come: the head, if it is next. */
void prun_look(struct prun *r);
/* The error as an ErrorResponse. rewritten: positions are not those of the client's text. */
void prun_error(const struct sql_error *e, bool rewritten, struct buf *out);
/* Asks what st is like; pconn_go is called when it is known. */
bool pdescribe_start(struct pconn *pc, struct pstatement *st);
void pdescribe_forget(struct pconn *pc);

/* ---- catalog.c ---- */

/* sql, st's text or a part of it, as SQL understands it, appended to out; *changed: it is another text
 * than was sent. */
enum err catalog_rewrite(struct pconn *pc, const struct pstatement *st, struct slice sql,
                         struct buf *out, bool *changed);
/* Whether $n is cast to an array, or a list that something is compared with. */
bool catalog_param_is_list(struct slice sql, unsigned n);

#endif
