/* The server as a whole: listening, users, the end. See pgwire.h. */
#include "proto/pgwire/pgwire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/pgwire/pgwire_int.h"

enum err pgwire_reload(struct pgwire *p, struct errinfo *info)
{
    struct file_users *users = NULL, *old;
    enum err e;

    if (!p->conf.users || !*p->conf.users)
        return ERR_OK;
    if ((e = file_users_read(broker_io(p->conf.broker), p->conf.users, &users, info)))
        return e;
    io_rwlock_write(&p->users_lock);
    old = p->users;
    p->users = users;
    io_rwlock_unlock(&p->users_lock);
    file_users_free(&old);
    return ERR_OK;
}

enum err pgwire_new(const struct pgwire_conf *conf, struct pgwire **out, struct errinfo *info)
{
    struct pgwire *p = xcalloc(1, sizeof *p);
    struct conn_server_conf cc = {.loops = conf->loops,
                                  .loops_n = conf->loops_n,
                                  .conns_max = conf->conns_max,
                                  .conns_ip_max = conf->conns_ip_max,
                                  .output_max = LIMIT_PGWIRE_OUTPUT,
                                  .send_ms = 60000,
                                  .on_open = pconn_open,
                                  .ctx = p};
    enum err e;
    unsigned i;

    p->conf = *conf;
    io_random(broker_io(conf->broker), p->secret, sizeof p->secret);
    io_mutex_init(&p->slots_lock);
    io_rwlock_init(&p->users_lock);
    p->slots_n = conf->conns_max + 64; /* those on their way out keep theirs a moment longer */
    p->slot = xcalloc(p->slots_n, sizeof *p->slot);
    p->loops = xcalloc(conf->loops_n, sizeof *p->loops);
    for (i = 0; i < conf->loops_n; i++) {
        p->loops[i] = (struct ploop){.p = p, .loop = conf->loops[i]};
        auth_view_init(&p->loops[i].auth, conf->auth);
    }
    e = pgwire_reload(p, info);
    if (!e)
        e = conn_server_new(&cc, &p->conns, info);
    if (e)
        pgwire_free(&p);
    *out = p;
    return e;
}

enum err pgwire_listen(struct pgwire *p, const char *addr, uint16_t *port, struct errinfo *info)
{
    return conn_server_listen(p->conns, addr, NULL, port, info);
}

void pgwire_drain(struct pgwire *p)
{
    atomic_store(&p->draining, true);
    conn_server_drain(p->conns, pconn_drain);
}

uint64_t pgwire_open(const struct pgwire *p)
{
    return conn_server_open(p->conns);
}

void pgwire_free(struct pgwire **pp)
{
    const struct timespec pause = {0, 1000000};
    struct pgwire *p = *pp;
    unsigned i;

    if (!p)
        return;
    if (p->conns)
        conn_server_free(&p->conns); /* which cancels their queries */
    while (atomic_load(&p->live)) {
        nanosleep(&pause, NULL);
        for (i = 0; i < p->conf.loops_n; i++)
            loop_drain(p->loops[i].loop);
    }
    for (i = 0; i < p->conf.loops_n; i++) {
        loop_drain(p->loops[i].loop);
        auth_view_fini(&p->loops[i].auth);
    }
    file_users_free(&p->users);
    io_rwlock_fini(&p->users_lock);
    io_mutex_fini(&p->slots_lock);
    free(p->loops);
    free(p->slot);
    free(p);
    *pp = NULL;
}

void pgwire_metrics(struct pgwire *p, struct buf *out)
{
    struct conn_stats st;

    conn_server_stats(p->conns, &st);
    buf_printf(out,
               "# HELP weir_pgwire_connections Connections open now.\n"
               "# TYPE weir_pgwire_connections gauge\nweir_pgwire_connections %" PRIu64 "\n"
               "# HELP weir_pgwire_queries_total Queries begun.\n"
               "# TYPE weir_pgwire_queries_total counter\nweir_pgwire_queries_total %" PRIu64 "\n"
               "# HELP weir_pgwire_failed_queries_total Queries that ended with an error.\n"
               "# TYPE weir_pgwire_failed_queries_total counter\n"
               "weir_pgwire_failed_queries_total %" PRIu64 "\n"
               "# HELP weir_pgwire_failed_logins_total Logins refused.\n"
               "# TYPE weir_pgwire_failed_logins_total counter\n"
               "weir_pgwire_failed_logins_total %" PRIu64 "\n",
               st.open, atomic_load(&p->queries), atomic_load(&p->errors),
               atomic_load(&p->logins_failed));
}
