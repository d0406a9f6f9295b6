/* Queries of a connection: the worker's side makes messages of rows (struct maker), which come to the
 * loop's side (struct prun) through a pipe.
 *
 * A maker belongs to the query from sql_run to its done callback, which frees it. Nothing of the
 * connection is touched there; what it needs is copied. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/pgwire/pgwire_int.h"

#define TEXT_MAX (32u << 20)

struct maker {
    struct pgwire *p;
    struct rows_pipe *pipe;
    uint8_t *formats;
    uint16_t formats_n;
    bool everything;         /* all topics may be read */
    struct principal who;    /* else by its grants, or … */
    char user[256];          /* … as this user, … */
    char host[64];           /* … who is there */
    bool rewritten, copying; /* copying: rows as COPY gives them */
    struct copy copy;
    bool rows; /* there was one */
    struct buf out, tmp;
    uint32_t columns_n;
    enum err failed; /* in a callback, which ended the query */
};

/* ---- the worker's side ---- */

static bool may_read(void *arg, struct slice topic)
{
    const struct maker *m = arg;
    const struct pgwire_conf *conf = &m->p->conf;

    if (m->everything)
        return true;
    if (m->user[0])
        return !conf->user_may_read || conf->user_may_read(conf->arg, m->user, m->host, topic);
    return auth_permits(&m->who, AUTH_READ, topic);
}

static void row_description(const struct sql_columns *c, const uint8_t *formats, uint16_t n,
                            struct buf *out)
{
    size_t at = pg_begin(out, 'T');
    uint32_t i;

    buf_append_be16(out, (uint16_t)c->n);
    for (i = 0; i < c->n; i++) {
        struct pg_type t = pg_type_of(&c->type[i]);

        pg_column(out, slice_str(c->name[i]), t.oid, t.len, t.mod, pg_format(formats, n, i));
    }
    pg_end(out, at);
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct maker *m = arg;

    m->columns_n = c->n;
    if (c->n > INT16_MAX) {
        m->failed = ERR_TOO_LARGE;
        return false;
    }
    if (!m->copying)
        row_description(c, m->formats, m->formats_n, &m->out);
    else if ((m->failed = copy_head(&m->copy, c, &m->out)))
        return false;
    return rows_pipe_put(m->pipe, &m->out, PRUN_HEAD);
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct maker *m = arg;
    uint32_t i;

    for (i = 0; i < c->rows; i++) {
        m->failed = m->copying ? copy_row(&m->copy, c, i, !m->rows, &m->tmp, &m->out)
                               : pg_data_row(c, i, m->formats, m->formats_n, &m->out);
        if (m->failed)
            return false;
        m->rows = true;
        if (m->out.len >= LIMIT_PGWIRE_PIECE && !rows_pipe_put(m->pipe, &m->out, PRUN_ROWS))
            return false;
    }
    return rows_pipe_put(m->pipe, &m->out, PRUN_ROWS);
}

static const char *state_of(enum err e)
{
    static const struct {
        enum err e;
        const char *state;
    } states[] = {
        {ERR_TIMEOUT, "57014"},         {ERR_CANCELLED, "57014"},
        {ERR_FORBIDDEN, "42501"},       {ERR_NO_MEMORY, "53200"},
        {ERR_NO_SPACE, "53100"},        {ERR_OVERLOADED, "53300"},
        {ERR_UNSUPPORTED, "0A000"},     {ERR_TOO_LARGE, "54000"},
        {ERR_UNAUTHENTICATED, "28000"}, {ERR_IO, "58030"},
        {ERR_TOPIC_NOT_FOUND, "42P01"}, {ERR_INVALID, "22023"},
        {ERR_CLOSED, "57P01"},          {ERR_SQL, "42000"},
    };
    unsigned i;

    for (i = 0; i < sizeof states / sizeof *states; i++)
        if (states[i].e == e)
            return states[i].state;
    return "XX000";
}

void prun_error(const struct sql_error *e, bool rewritten, struct buf *out)
{
    struct pg_error x = {.severity = "ERROR",
                         .code = e->sqlstate[0] ? e->sqlstate : state_of(e->code),
                         .message = e->message ? e->message : err_text(e->code),
                         .hint = e->hint,
                         .position = rewritten ? 0 : e->position};

    pg_error(out, &x);
}

static void maker_free(struct maker *m)
{
    buf_fini(&m->out);
    buf_fini(&m->tmp);
    free(m->formats);
    free(m);
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct maker *m = arg;
    struct pgwire *p = m->p;
    struct sql_error own = {.code = m->failed, .message = "a row is larger than a message may be"};

    if (m->failed)
        error = &own;
    buf_clear(&m->out);
    if (error) {
        atomic_fetch_add(&p->errors, 1);
        prun_error(error, m->rewritten, &m->out);
        rows_pipe_put(m->pipe, &m->out, PRUN_FAILED);
    } else {
        buf_append_u8(&m->out, 0);
        rows_pipe_put(m->pipe, &m->out, PRUN_OVER);
    }
    rows_pipe_end(&m->pipe);
    maker_free(m);
    atomic_fetch_sub(&p->live, 1);
}

static const struct sql_sink sink = {on_columns, on_chunk, on_done};

/* ---- the loop's side ---- */

static void on_wake(void *arg)
{
    struct prun *r = arg;

    pconn_go(r->pc);
}

/* The address as rules name it: without port and brackets. */
static void host_of(const struct conn *c, char *out, size_t n)
{
    const char *r = c->remote, *colon = strrchr(r, ':');
    size_t len = colon ? (size_t)(colon - r) : strlen(r);

    if (len > 2 && r[0] == '[' && r[len - 1] == ']') {
        r++;
        len -= 2;
    }
    snprintf(out, n, "%.*s", (int)len, r);
}

/* The rights of whoever is connected, as they are now. False: said that there are none. */
static bool maker_rights(struct pconn *pc, struct maker *m)
{
    const struct principal *who = NULL;
    struct errinfo info = {0};

    if (login_check(pc, &who, &info)) {
        query_fail(pc, "28000", info.text, NULL);
        return false;
    }
    if (pc->by_user) {
        snprintf(m->user, sizeof m->user, "%s", pc->s.user);
        host_of(pc->c, m->host, sizeof m->host);
    }
    if (!pc->by_user)
        m->who = *who;
    m->everything = !pc->by_user && auth_permits_all(who, AUTH_READ);
    return true;
}

static struct maker *maker_new(struct pconn *pc, const uint8_t *formats, uint16_t n)
{
    struct maker *m = xcalloc(1, sizeof *m);

    m->p = pc->p;
    buf_init(&m->out, LIMIT_PGWIRE_ROW);
    buf_init(&m->tmp, LIMIT_PGWIRE_ROW);
    if (!maker_rights(pc, m)) {
        maker_free(m);
        return NULL;
    }
    if (n) {
        m->formats = xmemdup(formats, 2u * n);
        m->formats_n = n;
    }
    return m;
}

static bool text_of(struct pconn *pc, const struct pstatement *st, struct slice sql,
                    struct buf *text, bool *changed)
{
    buf_init(text, TEXT_MAX);
    *changed = false;
    if (!catalog_rewrite(pc, st, sql, text, changed))
        return true;
    buf_fini(text);
    query_fail(pc, "54000", "the statement is too long", NULL);
    return false;
}

/* The text that is to be asked: the statement's, or COPY's query. False: said what is wrong. */
static bool ask_of(struct pconn *pc, struct portal *po, struct maker *m, struct buf *text)
{
    struct slice sql = slice_of(po->st->sql, po->st->len);
    struct errinfo info = {0};
    struct buf query;
    bool ok, moved;
    enum err e;

    if (!copy_is(sql))
        return text_of(pc, po->st, sql, text, &m->rewritten);
    buf_init(&query, TEXT_MAX);
    e = copy_parse(sql, &m->copy, &query, &moved, &info);
    if (e)
        query_fail(pc, e == ERR_INVALID ? "42601" : state_of(e),
                   info.text[0] ? info.text : err_text(e), NULL);
    ok = !e && text_of(pc, po->st, buf_slice(&query), text, &m->rewritten);
    buf_fini(&query);
    m->rewritten = m->rewritten || moved;
    m->copying = po->copying = true;
    po->copy_form = m->copy.form;
    return ok;
}

bool prun_start(struct pconn *pc, struct portal *po)
{
    struct maker *m = maker_new(pc, po->formats, po->formats_n);
    struct sql_request rq = {.params = po->params,
                             .params_n = po->params_n,
                             .timeout_ms = pc->s.timeout_ms,
                             .topic_allowed = may_read,
                             .sink = &sink,
                             .arg = m};
    struct errinfo info = {0};
    struct buf text;
    struct prun *r;
    enum err e;

    if (!m)
        return false;
    if (!ask_of(pc, po, m, &text)) {
        maker_free(m);
        return false;
    }
    r = xcalloc(1, sizeof *r);
    r->pc = pc;
    buf_init(&r->failed, 1u << 20);
    r->pipe = m->pipe = rows_pipe_new(pc->pl->loop, LIMIT_PGWIRE_AHEAD, on_wake, r);
    rq.text = buf_slice(&text);
    atomic_fetch_add(&pc->p->live, 1);
    atomic_fetch_add(&pc->p->queries, 1);
    e = sql_run(pc->p->conf.sql, &rq, &r->q, &info);
    buf_fini(&text);
    if (!e) {
        po->run = r;
        pconn_cancellable(pc, r->q);
        return true;
    }
    atomic_fetch_sub(&pc->p->live, 1);
    rows_pipe_end(&m->pipe);
    maker_free(m);
    prun_free(&r);
    query_fail(pc, state_of(e), info.text[0] ? info.text : err_text(e), NULL);
    return false;
}

void prun_free(struct prun **rp)
{
    struct prun *r = *rp;

    if (!r)
        return;
    *rp = NULL;
    if (r->q) {
        pconn_cancellable(r->pc, NULL);
        if (!r->ended)
            sql_cancel(r->q);
        sql_release(&r->q);
    }
    rows_pipe_close(&r->pipe);
    rows_piece_free(r->head);
    rows_piece_free(r->piece);
    buf_fini(&r->failed);
    free(r);
}

void prun_look(struct prun *r)
{
    bool ended = false;
    struct rows_piece *x;

    while (!r->piece && !r->ended && (x = rows_pipe_take(r->pipe, &ended))) {
        if (x->kind == PRUN_ROWS) {
            r->piece = x;
            return;
        }
        if (x->kind == PRUN_HEAD) {
            r->head = x;
            return;
        }
        r->ended = true;
        if (x->kind == PRUN_FAILED)
            buf_append(&r->failed, x->ptr, x->len);
        rows_piece_free(x);
    }
}

/* ---- what a statement is like ---- */

struct pdescribe {
    struct maker m;      /* rights; first, as it is the request's arg */
    struct pconn *pc;    /* NULL: it does not wait any more; the loop's */
    struct sql_query *q; /* the loop's */
    struct loop_task task;
    struct loop *loop;
    uint32_t *oids;
    unsigned oids_n;
    struct buf columns, failed;
};

static void describe_free(struct pdescribe *d)
{
    struct pgwire *p = d->m.p;

    sql_release(&d->q);
    free(d->oids);
    buf_fini(&d->columns);
    buf_fini(&d->failed);
    buf_fini(&d->m.out);
    free(d);
    atomic_fetch_sub(&p->live, 1);
}

/* The client's own types stay; others are as SQL found them. */
static void statement_learn(struct pstatement *st, const struct pdescribe *d)
{
    unsigned i, n = st->params_n > d->oids_n ? st->params_n : d->oids_n;
    uint32_t *oids = xcalloc(n ? n : 1, sizeof *oids);

    for (i = 0; i < n; i++)
        oids[i] = i < st->oids_n && st->oids[i] ? st->oids[i]
                  : i < d->oids_n               ? d->oids[i]
                                                : PG_TEXT;
    free(st->oids);
    st->oids = oids;
    st->oids_n = st->params_n = n;
    buf_clear(&st->columns);
    if (d->columns.len)
        buf_append_slice(&st->columns, buf_slice(&d->columns));
    st->described = true;
}

/* On the loop: the answer is there. */
static void described(struct loop_task *t)
{
    struct pdescribe *d = list_entry(t, struct pdescribe, task);
    struct pconn *pc = d->pc;

    if (!pc) {
        describe_free(d);
        return;
    }
    pconn_cancellable(pc, NULL);
    pc->describing = NULL;
    if (d->failed.len)
        query_fail_with(pc, buf_slice(&d->failed));
    else
        statement_learn(pc->described_for, d);
    pstatement_unref(pc->described_for);
    pc->described_for = NULL;
    describe_free(d);
    pconn_go(pc);
}

static void on_described(void *arg, const struct sql_error *error, const struct sql_columns *params,
                         const struct sql_columns *columns)
{
    struct pdescribe *d = arg;
    uint32_t i;

    if (error) {
        atomic_fetch_add(&d->m.p->errors, 1);
        prun_error(error, d->m.rewritten, &d->failed);
    } else {
        d->oids_n = params->n;
        d->oids = xcalloc(params->n ? params->n : 1, sizeof *d->oids);
        for (i = 0; i < params->n; i++)
            d->oids[i] = pg_type_of(&params->type[i]).oid;
        if (columns->n <= INT16_MAX)
            row_description(columns, NULL, 0, &d->columns);
    }
    loop_post(d->loop, &d->task);
}

bool pdescribe_start(struct pconn *pc, struct pstatement *st)
{
    struct pdescribe *d = xcalloc(1, sizeof *d);
    struct sql_request rq = {.timeout_ms = pc->s.timeout_ms, .topic_allowed = may_read, .arg = d};
    struct errinfo info = {0};
    struct buf text;
    enum err e;

    d->m.p = pc->p;
    d->pc = pc;
    d->loop = pc->pl->loop;
    d->task.fn = described;
    buf_init(&d->m.out, 1);
    buf_init(&d->columns, LIMIT_PGWIRE_ROW);
    buf_init(&d->failed, 1u << 20);
    atomic_fetch_add(&pc->p->live, 1);
    if (!maker_rights(pc, &d->m) ||
        !text_of(pc, st, slice_of(st->sql, st->len), &text, &d->m.rewritten)) {
        describe_free(d);
        return false;
    }
    rq.text = buf_slice(&text);
    e = sql_describe(pc->p->conf.sql, &rq, on_described, &d->q, &info);
    buf_fini(&text);
    if (e) {
        describe_free(d);
        query_fail(pc, state_of(e), info.text[0] ? info.text : err_text(e), NULL);
        return false;
    }
    st->refs++;
    pc->described_for = st;
    pc->describing = d;
    pconn_cancellable(pc, d->q);
    return true;
}

void pdescribe_forget(struct pconn *pc)
{
    if (!pc->describing)
        return;
    pconn_cancellable(pc, NULL);
    sql_cancel(pc->describing->q);
    pc->describing->pc = NULL;
    pc->describing = NULL;
    pstatement_unref(pc->described_for);
    pc->described_for = NULL;
}
