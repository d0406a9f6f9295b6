/* PostgreSQL's wire protocol, served: SQL over topics for psql, JDBC, psycopg, Grafana and the rest.
 * Messages are decoded on the connections' loops; queries run on SQL's workers, whose rows come back
 * through a pipe (rows/pipe.h), so that no loop waits and a slow client holds back its query only.
 *
 * Who may connect: as over HTTP. While there is no token and the server is open to its own machine,
 * everybody may; else the user `token` gives a token as password, and any other user the password of
 * a SCRAM user (auth/users.h).
 *
 * Threads: new, listen and free while the loops do not run; drain, reload and metrics any. */
#ifndef WEIR_PROTO_PGWIRE_PGWIRE_H
#define WEIR_PROTO_PGWIRE_PGWIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct auth;
struct broker;
struct buf;
struct loop;
struct pgwire;
struct sql;
struct tls_conf;

struct pgwire_conf {
    struct broker *broker;
    struct sql *sql;
    struct auth *auth;
    struct loop *const *loops;
    unsigned loops_n;
    uint32_t conns_max, conns_ip_max; /* ip 0: no limit */
    uint32_t idle_ms;     /* a connection without a message is closed after it; 0: never */
    struct tls_conf *tls; /* NULL: none is offered */
    bool clear_public;    /* others than this machine may come without TLS */
    const char *users;    /* file of name:password, "" or NULL: none; if there is one,
                                         everybody has to log in */
    /* Whether a SCRAM user, coming from an address, may read the topic; any thread. NULL: users may read all. */
    bool (*user_may_read)(void *arg, const char *user, const char *host, struct slice topic);
    void *arg;
};

enum err pgwire_new(const struct pgwire_conf *conf, struct pgwire **out, struct errinfo *info);
/* addr as conn_server_listen. */
enum err pgwire_listen(struct pgwire *p, const char *addr, uint16_t *port, struct errinfo *info);
/* Once: stops listening; connections end when their queries have. */
void pgwire_drain(struct pgwire *p);
uint64_t pgwire_open(const struct pgwire *p);
/* Reads the file of users again; after an error nothing has changed. */
enum err pgwire_reload(struct pgwire *p, struct errinfo *info);
/* The loops have stopped. Waits for queries that still end. */
void pgwire_free(struct pgwire **p);
/* Prometheus text (names weir_pgwire_…), appended. */
void pgwire_metrics(struct pgwire *p, struct buf *out);

#endif
