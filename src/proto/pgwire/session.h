/* What a session knows and the statements that are about it alone: SET, SHOW, RESET, transactions,
 * DISCARD, DEALLOCATE and the like, which drivers and pools send. Queries are read-only and each sees
 * one moment, so transactions have a state but no effect. One thread: the connection's loop. */
#ifndef WEIR_PROTO_PGWIRE_SESSION_H
#define WEIR_PROTO_PGWIRE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define PG_SERVER_VERSION     "15.0"
#define PG_SERVER_VERSION_NUM "150000"
#define SESSION_SETTINGS_MAX  64u
#define SESSION_NAME_MAX      64u
#define SESSION_VALUE_MAX     256u

struct session_setting {
    char name[SESSION_NAME_MAX], value[SESSION_VALUE_MAX];
};

struct session {
    char user[256], database[256];
    char txn;            /* 'I' none, 'T' in one, 'E' in one that failed */
    int64_t timeout_ms;  /* statement_timeout; 0: the server's */
    unsigned settings_n; /* those that differ from the default */
    struct session_setting setting[SESSION_SETTINGS_MAX];
};

enum session_what {
    SESSION_QUERY,      /* not about the session: SQL is to be asked */
    SESSION_DONE,       /* tag says what was done */
    SESSION_ROW,        /* SHOW: one row of one text */
    SESSION_FAILED,     /* code, message */
    SESSION_DEALLOCATE, /* value: the statement's name, "" for all */
    SESSION_CLOSE,      /* value: the portal's name, "" for all */
    SESSION_DISCARD     /* all statements and portals go */
};

struct session_answer {
    enum session_what what;
    const char *tag;
    char column[SESSION_NAME_MAX], value[SESSION_VALUE_MAX];
    const char *code, *message;
    const char *report; /* a ParameterStatus is due for this setting; NULL: none */
};

void session_init(struct session *s, struct slice user, struct slice database);
/* A parameter of the start-up message. */
void session_startup(struct session *s, struct slice name, struct slice value);
/* NULL: no such setting. */
const char *session_get(const struct session *s, const char *name);
/* Each setting that there is, once. */
void session_each(const struct session *s,
                  void (*fn)(void *arg, const char *name, const char *value), void *arg);
/* Looks at one statement and does it if it is about the session. what only: nothing is done, but the
 * answer's `what` is right: for Describe. */
void session_take(struct session *s, struct slice sql, bool what_only, struct session_answer *a);
/* The settings that are told to the client when it has come; NULL at the end. */
const char *session_reported(unsigned i);
/* The first word of the command tag of a query. */
const char *session_tag(struct slice sql);

#endif
