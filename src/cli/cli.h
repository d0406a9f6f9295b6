/* The command line: commands as data. A command is a row with its options, its help and its
 * function; parsing, help, man pages and shell completion are made from the rows. One thread. */
#ifndef WEIR_CLI_CLI_H
#define WEIR_CLI_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

#define OPTS_MAX 24
#define ARGS_MAX 64
#define SETS_MAX 64

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct opt {
    const char *name; /* without the dashes; NULL ends the list */
    const char *arg;  /* what it takes, for the help; NULL: a switch */
    const char *help;
};

struct args {
    const struct command *cmd;
    const char *value[OPTS_MAX]; /* by place in cmd->opts; "" for a switch that is on */
    const char *sets[SETS_MAX];  /* --set KEY=VALUE, or --header, in order */
    unsigned sets_n;
    const char *pos[ARGS_MAX];
    unsigned pos_n;
};

struct command {
    const char *name, *usage, *summary, *text, *examples;
    const struct opt *opts;
    unsigned pos_least, pos_most;
    int (*run)(const struct args *a);
};

extern const struct command commands[];
extern const unsigned commands_n;

/* Value of an option; NULL if it was not given. */
const char *arg_get(const struct args *a, const char *name);
/* Number from an option, def if absent; exits with usage if it is not one in the range. */
int64_t arg_number(const struct args *a, const char *name, int64_t def, int64_t least,
                   int64_t most);
/* Says what went wrong on standard error; returns EXIT_FAILED or EXIT_USAGE. */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int usage_fail(const struct args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The nearest of the names if it is near enough, else NULL. */
const char *nearest(const char *word, const char *(*name)(unsigned i, void *arg), void *arg);
bool colours(FILE *f);

struct config; /* server/config.h */
/* The server's settings: --config or WEIR_CONFIG, the environment, --set, --data. Not checked. */
enum err settings_read(struct config *c, const struct args *a, struct errinfo *info);

/* ---- HTTP client (client.c) ---- */

struct client;
struct client_reply {
    long status;
    struct buf body;
};
/* From --server, WEIR_SERVER or the default, and --token or WEIR_TOKEN. NULL: said why. */
struct client *client_new(const struct args *a);
void client_free(struct client **c);
/* content_type NULL: no body. Returns false and says why when there was no answer at all. The
 * reply's body is at most 64 MiB and must be freed by buf_fini. */
bool client_call(struct client *c, const char *method, const char *path, const char *content_type,
                 struct slice body, struct client_reply *r);
/* GET whose body is given on piece by piece until it ends or fn returns false. Status is checked
 * first: anything but 200 is said and false is returned. */
bool client_stream(struct client *c, const char *path, const char *accept,
                   bool (*fn)(void *arg, struct slice piece), void *arg);
/* POST whose answer, if its status is 200, is given on piece by piece until it ends or fn returns
 * false; other answers come in r->body, to be freed by buf_fini in any case. stop (may be NULL):
 * the call ends when it is not 0. False: there was no whole answer; why says so. */
bool client_ask(struct client *c, const char *path, const char *content_type, struct slice body,
                const char *accept, bool (*fn)(void *arg, struct slice piece), void *arg,
                const volatile sig_atomic_t *stop, struct client_reply *r, char *why, size_t why_n);
/* Last-Event-ID of the calls that follow; "": none. */
void client_resume(struct client *c, const char *id);
/* Says a problem answer in words; returns EXIT_FAILED. */
int client_problem(struct client *c, const struct client_reply *r);
const char *client_url(const struct client *c);
/* Percent-encodes for a path or query. */
void url_encode(struct buf *b, struct slice s);
/* Value of a header of the last reply ("" if none). */
const char *client_cursor(const struct client *c);

/* commands */
int cmd_serve(const struct args *a);
int cmd_config(const struct args *a);
int cmd_emit(const struct args *a);
int cmd_read(const struct args *a);
int cmd_tail(const struct args *a);
int cmd_topics(const struct args *a);
int cmd_groups(const struct args *a);
int cmd_lake(const struct args *a);
int cmd_produce(const struct args *a);
int cmd_consume(const struct args *a);
int cmd_import(const struct args *a);
int cmd_export(const struct args *a);
int cmd_check(const struct args *a);
int cmd_repair(const struct args *a);
int cmd_bench(const struct args *a);
int cmd_sql(const struct args *a);
int cmd_transforms(const struct args *a);
int cmd_token(const struct args *a);
int cmd_checkpoint(const struct args *a);
int cmd_completion(const struct args *a);
int cmd_version(const struct args *a);
int cmd_help(const struct args *a);

#endif
