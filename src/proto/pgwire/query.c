/* What clients ask once they are in: Query, and Parse, Bind, Describe, Execute, Close, Sync, Flush. See
 * pgwire_int.h for how a handler waits. After an error of the second kind all is skipped up to Sync. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "proto/pgwire/pgwire_int.h"
#include "rows/lex.h"

#define ARENA_CHUNK    4096u
#define LISTS_LOOK_MAX (64u << 20) /* bytes of statements that a Bind looks at for lists */

/* ---- errors ---- */

void query_failed(struct pconn *pc)
{
    if (pc->s.txn == 'T')
        pc->s.txn = 'E';
    if (pc->simple)
        pc->simple_failed = true;
    else
        pc->skip = true;
}

void query_fail(struct pconn *pc, const char *code, const char *message, const char *hint)
{
    struct pg_error e = {.severity = "ERROR", .code = code, .message = message, .hint = hint};

    pg_error(&pc->out, &e);
    query_failed(pc);
}

void query_fail_with(struct pconn *pc, struct slice response)
{
    buf_append_slice(&pc->out, response);
    query_failed(pc);
    pc->failed = true;
}

/* ---- statements and portals ---- */

void pstatement_unref(struct pstatement *st)
{
    if (--st->refs)
        return;
    free(st->name);
    free(st->sql);
    free(st->oids);
    buf_fini(&st->columns);
    free(st);
}

struct pstatement *pstatement_new(struct slice name, struct slice sql)
{
    struct pstatement *st = xcalloc(1, sizeof *st);

    st->refs = 1;
    st->name = xcalloc(1, name.len + 1);
    if (name.len)
        memcpy(st->name, name.ptr, name.len);
    st->sql = xcalloc(1, sql.len + 1);
    if (sql.len)
        memcpy(st->sql, sql.ptr, sql.len);
    st->len = sql.len;
    buf_init(&st->columns, LIMIT_PGWIRE_ROW);
    return st;
}

void portal_free(struct portal *po)
{
    prun_free(&po->run);
    pstatement_unref(po->st);
    arena_fini(&po->arena);
    free(po->name);
    free(po);
}

struct portal *portal_new(struct slice name, struct pstatement *st)
{
    struct portal *po = xcalloc(1, sizeof *po);

    po->name = xcalloc(1, name.len + 1);
    if (name.len)
        memcpy(po->name, name.ptr, name.len);
    po->st = st;
    st->refs++;
    arena_init(&po->arena, ARENA_CHUNK, 3 * LIMIT_PGWIRE_MESSAGE);
    return po;
}

static void statement_drop(struct pconn *pc, struct slice name)
{
    struct pstatement *st = map_remove(&pc->statements, name);

    if (!st)
        return;
    pc->statement_bytes -= st->len;
    pstatement_unref(st);
}

void portal_drop(struct pconn *pc, struct slice name)
{
    struct portal *po = map_remove(&pc->portals, name);

    if (po)
        portal_free(po);
}

static void all_drop(struct pconn *pc, bool statements)
{
    struct map *m = statements ? &pc->statements : &pc->portals;
    struct slice key;
    uint32_t at = 0;
    void *value;

    while (m->n) {
        at = 0;
        if (!map_next(m, &at, &key, &value))
            return;
        if (statements)
            statement_drop(pc, key);
        else
            portal_drop(pc, key);
    }
}

/* Portals end, all or those of cursors; but not what is held. */
static void portals_end(struct pconn *pc, bool cursors)
{
    const struct portal *po;
    struct slice key;
    uint32_t at = 0;
    void *value;

    while (map_next(&pc->portals, &at, &key, &value)) {
        po = value;
        if (po->held || (cursors && !po->cursor))
            continue;
        portal_drop(pc, key);
        at = 0;
    }
}

static void cursors_close(struct pconn *pc)
{
    struct slice key;
    uint32_t at = 0;
    void *value;

    while (map_next(&pc->portals, &at, &key, &value)) {
        struct portal *po = value;

        po->held = po->held && !po->cursor;
    }
    portals_end(pc, true);
}

void cursor_txn_ended(struct pconn *pc, bool committed)
{
    struct slice key;
    uint32_t at = 0;
    void *value;

    while (committed && map_next(&pc->portals, &at, &key, &value)) {
        struct portal *po = value;

        po->held = po->hold;
    }
    portals_end(pc, true);
}

void query_fini(struct pconn *pc)
{
    pdescribe_forget(pc);
    if (pc->simple_portal)
        portal_free(pc->simple_portal);
    pc->simple_portal = NULL;
    all_drop(pc, false);
    all_drop(pc, true);
}

/* ---- statements about the session ---- */

static struct slice text_of(const struct pstatement *st)
{
    return slice_of(st->sql, st->len);
}

static void text_column(struct pconn *pc, const char *name)
{
    size_t at = pg_begin(&pc->out, 'T');

    buf_append_be16(&pc->out, 1);
    pg_column(&pc->out, slice_str(name), PG_TEXT, -1, -1, 0);
    pg_end(&pc->out, at);
}

static void text_row(struct pconn *pc, const char *value)
{
    size_t at = pg_begin(&pc->out, 'D');

    buf_append_be16(&pc->out, 1);
    buf_append_be32(&pc->out, (uint32_t)strlen(value));
    buf_append_str(&pc->out, value);
    pg_end(&pc->out, at);
}

/* Does it, and answers all but the description of SHOW's row. False: it is a query. */
static bool session_do(struct pconn *pc, struct slice sql, bool describe)
{
    struct session_answer a;
    char was = pc->s.txn;

    session_take(&pc->s, sql, false, &a);
    if (was != 'I' && pc->s.txn == 'I')
        cursor_txn_ended(pc, strcmp(a.tag, "COMMIT") == 0);
    switch (a.what) {
    case SESSION_QUERY:
        return false;
    case SESSION_FAILED:
        query_fail(pc, a.code, a.message, NULL);
        return true;
    case SESSION_ROW:
        if (describe)
            text_column(pc, a.column);
        text_row(pc, a.value);
        break;
    case SESSION_DEALLOCATE:
        if (a.value[0])
            statement_drop(pc, slice_str(a.value));
        else
            all_drop(pc, true);
        break;
    case SESSION_CLOSE:
        if (!a.value[0])
            cursors_close(pc);
        else if (!cursor_close(pc, a.value))
            return true;
        break;
    case SESSION_DISCARD:
        cursors_close(pc);
        all_drop(pc, true);
        break;
    case SESSION_DONE:
        break;
    }
    if (a.report)
        pg_parameter(&pc->out, a.report, session_get(&pc->s, a.report));
    pg_complete(&pc->out, a.tag);
    return true;
}

/* ---- rows ---- */

static void piece_sent(void *arg)
{
    rows_piece_free(arg);
}

/* Gives out rows of the piece at hand, at most po->left if that is not 0. */
static void piece_give(struct pconn *pc, struct portal *po)
{
    struct rows_piece *x = po->run->piece;
    size_t from = x->at;
    uint32_t n = 0;

    while (x->at < x->len && (!po->left || n < po->left)) {
        x->at += 1 + (size_t)be32_load(x->ptr + x->at + 1);
        n++;
    }
    po->sent += n;
    pconn_flush(pc);
    if (po->moving && x->at == x->len) {
        po->run->piece = NULL;
        rows_piece_free(x);
    } else if (!po->moving && x->at < x->len) {
        conn_send(pc->c, slice_of(x->ptr + from, x->at - from));
    } else if (!po->moving) {
        po->run->piece = NULL;
        conn_send_lent(pc->c, slice_of(x->ptr + from, x->len - from), piece_sent, x);
    }
    if (po->left)
        po->left = po->left == n ? UINT32_MAX : po->left - n; /* UINT32_MAX: none are left */
}

enum pump query_pump(struct pconn *pc, struct portal *po, bool describe)
{
    struct prun *r = po->run;

    for (;;) {
        if (po->left == UINT32_MAX)
            return PUMP_SUSPENDED;
        if (conn_full(pc->c))
            return PUMP_WAIT;
        if (!r->head)
            prun_look(r);
        if ((describe || po->copying) && r->head && !r->head_sent) {
            buf_append(&pc->out, r->head->ptr, r->head->len);
            r->head_sent = true;
        }
        if (r->head)
            prun_look(r);
        if (r->piece) {
            piece_give(pc, po);
            continue;
        }
        if (!r->ended)
            return PUMP_WAIT;
        if (r->failed.len == 0)
            return PUMP_OVER;
        buf_append_slice(&pc->out, buf_slice(&r->failed));
        query_failed(pc);
        return PUMP_FAILED;
    }
}

static void complete(struct pconn *pc, const struct portal *po)
{
    const char *word = session_tag(text_of(po->st));
    char tag[64];

    if (po->copying)
        copy_end(po->copy_form, po->sent == 0, &pc->out);
    if (po->copying || strcmp(word, "SELECT") == 0)
        snprintf(tag, sizeof tag, "%s %llu", word, (unsigned long long)po->sent);
    else
        snprintf(tag, sizeof tag, "%s", word);
    pg_complete(&pc->out, tag);
}

/* ---- Query ---- */

static void simple_begin(struct pconn *pc, struct slice sql)
{
    struct pstatement *st;

    if (cursor_begin(pc, sql, NULL) || session_do(pc, sql, true))
        return;
    if (pc->s.txn == 'E') {
        query_fail(pc, "25P02", FAILED_TXN, NULL);
        return;
    }
    st = pstatement_new(SLICE_LIT(""), sql);
    pc->simple_portal = portal_new(SLICE_LIT(""), st);
    pstatement_unref(st);
    if (prun_start(pc, pc->simple_portal))
        return;
    portal_free(pc->simple_portal);
    pc->simple_portal = NULL;
}

static enum pg_result simple_rows(struct pconn *pc)
{
    enum pump p = query_pump(pc, pc->simple_portal, true);

    if (p == PUMP_WAIT)
        return PG_WAIT;
    if (p == PUMP_OVER)
        complete(pc, pc->simple_portal);
    portal_free(pc->simple_portal);
    pc->simple_portal = NULL;
    return PG_DONE;
}

static enum pg_result on_query(struct pconn *pc, struct slice body)
{
    struct slice text, rest, now;

    if (pg_text_decode(body, &text)) {
        pconn_fatal(pc, "08P01", "a query does not decode", NULL);
        return PG_DONE;
    }
    if (!pc->simple) {
        pc->simple = true;
        pc->simple_any = pc->simple_failed = false;
        pc->simple_at = 0;
        portal_drop(pc, SLICE_LIT(""));
    }
    for (;;) {
        if ((pc->simple_portal && simple_rows(pc) == PG_WAIT) || cursor_go(pc, true) == PG_WAIT)
            return PG_WAIT;
        rest = slice_of(text.ptr + pc->simple_at, text.len - pc->simple_at);
        if (pc->simple_failed || !lex_statement(&rest, &now))
            break;
        pc->simple_at = (size_t)(rest.ptr - text.ptr);
        if (now.len == 0)
            continue;
        pc->simple_any = true;
        simple_begin(pc, now);
    }
    if (!pc->simple_any && !pc->simple_failed)
        pg_empty(&pc->out, 'I');
    pc->simple = false;
    pg_ready(&pc->out, pc->s.txn);
    return PG_DONE;
}

/* ---- Parse, Bind ---- */

static void garbled(struct pconn *pc)
{
    query_fail(pc, "08P01", "a message does not decode", NULL);
}

static bool is_one_statement(struct slice sql, struct slice *one)
{
    struct slice more;

    if (!lex_statement(&sql, one))
        *one = SLICE_LIT("");
    while (lex_statement(&sql, &more))
        if (more.len)
            return false;
    return true;
}

static void on_parse(struct pconn *pc, struct slice body)
{
    struct pstatement *st;
    struct pg_parse m;
    struct slice sql;
    unsigned i;

    if (pg_parse_decode(body, &m)) {
        garbled(pc);
        return;
    }
    if (!is_one_statement(m.sql, &sql)) {
        query_fail(pc, "42601", "a prepared statement is one statement", NULL);
        return;
    }
    if (m.name.len == 0)
        statement_drop(pc, m.name);
    if (map_find(&pc->statements, m.name)) {
        query_fail(pc, "42P05", "there is a prepared statement of this name", NULL);
        return;
    }
    if (pc->statements.n >= LIMIT_PGWIRE_STATEMENTS ||
        pc->statement_bytes + sql.len > LIMIT_PGWIRE_STATEMENT_BYTES) {
        query_fail(pc, "53400", "this connection has too many prepared statements", NULL);
        return;
    }
    st = pstatement_new(m.name, sql);
    st->params_n = lex_params(sql);
    st->oids_n = m.oids_n;
    st->oids = xcalloc(m.oids_n + 1u, sizeof *st->oids);
    for (i = 0; i < m.oids_n; i++)
        st->oids[i] = be32_load(m.oids + 4 * (size_t)i);
    if (map_put(&pc->statements, slice_str(st->name), st)) {
        pstatement_unref(st);
        query_fail(pc, "53400", "this connection has too many prepared statements", NULL);
        return;
    }
    pc->statement_bytes += sql.len;
    pg_empty(&pc->out, '1');
}

/* A binary value whose type the client did not give: what it must be is to be asked. */
static bool needs_types(const struct pstatement *st, const struct pg_bind *m)
{
    unsigned i;

    for (i = 0; i < m->params_n && !st->described; i++)
        if (pg_format(m->formats, m->formats_n, i) == 1 && (i >= st->oids_n || !st->oids[i]))
            return true;
    return false;
}

/* {…} as a text whose type the client did not give, where the statement wants a list. */
static bool is_array_text(const struct pstatement *st, const struct pg_bind *m, unsigned i,
                          struct slice v)
{
    return v.len >= 2 && v.ptr[0] == '{' && st->len * st->params_n <= LISTS_LOOK_MAX &&
           pg_format(m->formats, m->formats_n, i) == 0 &&
           (i >= st->oids_n || !pg_list_type(st->oids[i])) &&
           catalog_param_is_list(text_of(st), i + 1);
}

static bool params_read(struct pconn *pc, struct portal *po, const struct pg_bind *m)
{
    const struct pstatement *st = po->st;
    struct slice rest = m->params, v, kept;
    struct errinfo info = {0};
    enum err e = ERR_OK;
    unsigned i;

    po->params_n = m->params_n;
    po->params = arena_zalloc(&po->arena, m->params_n + 1u, sizeof *po->params);
    po->formats_n = m->results_n;
    po->formats =
        (uint8_t *)(uintptr_t)arena_dup(&po->arena, slice_of(m->results, 2u * m->results_n)).ptr;
    if (!po->params || (m->results_n && !po->formats))
        e = ERR_TOO_LARGE;
    for (i = 0; i < m->params_n && !e; i++) {
        v = pg_bind_param(&rest);
        kept = arena_dup(&po->arena, v);
        if (slice_is_null(kept) && !slice_is_null(v))
            e = ERR_TOO_LARGE;
        else if (is_array_text(st, m, i, kept))
            e = pg_array_read(0, 0, kept, &po->arena, &po->params[i], &info);
        else
            e = pg_param_read(i < st->oids_n ? st->oids[i] : 0,
                              pg_format(m->formats, m->formats_n, i), kept, &po->arena,
                              &po->params[i], &info);
    }
    if (!e)
        return true;
    query_fail(pc,
               e == ERR_UNSUPPORTED ? "0A000"
               : e == ERR_TOO_LARGE ? "54000"
                                    : "22P02",
               info.text[0] ? info.text : err_text(e), NULL);
    return false;
}

static bool bind_ok(struct pconn *pc, const struct pstatement *st, const struct pg_bind *m)
{
    char text[128];

    if (m->params_n != st->params_n) {
        snprintf(text, sizeof text, "%u parameters were bound, the statement has %u", m->params_n,
                 st->params_n);
        query_fail(pc, "08P01", text, NULL);
        return false;
    }
    return true;
}

/* A query of a transaction that has failed: this was said. Not to Bind yet: pg8000 sends one together
 * with the Describe that fails, behind the Sync, and would take the answer for that to its ROLLBACK. */
static bool is_ignored(struct pconn *pc, const struct pstatement *st)
{
    struct session_answer a;

    if (pc->s.txn != 'E')
        return false;
    session_take(&pc->s, text_of(st), true, &a);
    if (a.what != SESSION_QUERY)
        return false;
    query_fail(pc, "25P02", FAILED_TXN, NULL);
    return true;
}

static enum pg_result on_bind(struct pconn *pc, struct slice body)
{
    struct pstatement *st;
    struct pg_bind m;
    struct portal *po;

    if (pc->describing)
        return PG_WAIT;
    if (pg_bind_decode(body, &m)) {
        garbled(pc);
        return PG_DONE;
    }
    st = map_find(&pc->statements, m.statement);
    if (!st) {
        query_fail(pc, "26000", "there is no prepared statement of this name", NULL);
        return PG_DONE;
    }
    if (!bind_ok(pc, st, &m))
        return PG_DONE;
    if (needs_types(st, &m))
        return pdescribe_start(pc, st) ? PG_WAIT : PG_DONE;
    if (m.portal.len == 0)
        portal_drop(pc, m.portal);
    po = portal_new(m.portal, st);
    if (!params_read(pc, po, &m)) {
        portal_free(po);
        return PG_DONE;
    }
    if (map_put(&pc->portals, slice_str(po->name), po)) {
        portal_free(po);
        query_fail(pc, "42P03", "there is a portal of this name, or there are too many", NULL);
        return PG_DONE;
    }
    pg_empty(&pc->out, '2');
    return PG_DONE;
}

/* ---- Describe, Execute, Close ---- */

static void oids_put(struct pconn *pc, const struct pstatement *st, bool none)
{
    size_t at = pg_begin(&pc->out, 't');
    unsigned i, n = none ? 0 : st->params_n;

    buf_append_be16(&pc->out, (uint16_t)n);
    for (i = 0; i < n; i++)
        buf_append_be32(&pc->out, i < st->oids_n ? st->oids[i] : 0);
    pg_end(&pc->out, at);
}

/* True: the statement is about the session, and was described. */
static bool session_describe(struct pconn *pc, const struct pstatement *st, bool params)
{
    struct session_answer a;
    struct cursor_stmt c;

    session_take(&pc->s, text_of(st), true, &a);
    cursor_parse(text_of(st), &c);
    if (a.what == SESSION_QUERY && st->len && !copy_is(text_of(st)) && c.what == CURSOR_NONE)
        return false;
    if (params)
        oids_put(pc, st, c.what == CURSOR_NONE);
    if (cursor_describe(pc, text_of(st)))
        return true;
    if (a.what == SESSION_ROW)
        text_column(pc, a.column);
    else
        pg_empty(&pc->out, 'n');
    return true;
}

static enum pg_result describe_statement(struct pconn *pc, struct slice name)
{
    struct pstatement *st = map_find(&pc->statements, name);

    if (pc->describing)
        return PG_WAIT;
    if (!st) {
        query_fail(pc, "26000", "there is no prepared statement of this name", NULL);
        return PG_DONE;
    }
    if (session_describe(pc, st, true))
        return PG_DONE;
    if (!st->described)
        return pdescribe_start(pc, st) ? PG_WAIT : PG_DONE;
    oids_put(pc, st, false);
    if (st->columns.len)
        buf_append_slice(&pc->out, buf_slice(&st->columns));
    else
        pg_empty(&pc->out, 'n');
    return PG_DONE;
}

static enum pg_result describe_portal(struct pconn *pc, struct slice name)
{
    struct portal *po = map_find(&pc->portals, name);

    if (!po) {
        query_fail(pc, "34000", "there is no portal of this name", NULL);
        return PG_DONE;
    }
    if (is_ignored(pc, po->st) || session_describe(pc, po->st, false))
        return PG_DONE;
    if (!po->run && !prun_start(pc, po))
        return PG_DONE;
    if (!po->run->head)
        prun_look(po->run);
    if (po->run->head) {
        buf_append(&pc->out, po->run->head->ptr, po->run->head->len);
    } else if (po->run->failed.len) {
        buf_append_slice(&pc->out, buf_slice(&po->run->failed));
        query_failed(pc);
    } else {
        return PG_WAIT;
    }
    return PG_DONE;
}

static enum pg_result on_describe(struct pconn *pc, struct slice body)
{
    struct pg_target m;

    if (pg_target_decode(body, &m)) {
        garbled(pc);
        return PG_DONE;
    }
    return m.kind == 'S' ? describe_statement(pc, m.name) : describe_portal(pc, m.name);
}

static enum pg_result execute_query(struct pconn *pc, struct portal *po, uint32_t rows)
{
    enum pump p;

    if (po->over) {
        po->sent = 0;
        complete(pc, po);
        return PG_DONE;
    }
    if (!po->run && !prun_start(pc, po))
        return PG_DONE;
    if (!po->began) {
        po->began = true;
        po->left = po->copying ? 0 : rows;
        po->sent = 0;
        pconn_cancellable(pc, po->run->q);
        if (rows)
            rows_pipe_max(po->run->pipe, LIMIT_PGWIRE_PORTAL_AHEAD);
    }
    p = query_pump(pc, po, false);
    if (p == PUMP_WAIT)
        return PG_WAIT;
    po->began = false;
    po->left = 0;
    po->over = p != PUMP_SUSPENDED;
    if (p == PUMP_SUSPENDED)
        pg_empty(&pc->out, 's');
    else if (p == PUMP_OVER)
        complete(pc, po);
    return PG_DONE;
}

static enum pg_result on_execute(struct pconn *pc, struct slice body)
{
    struct pg_execute m;
    struct portal *po;

    if (pg_execute_decode(body, &m)) {
        garbled(pc);
        return PG_DONE;
    }
    po = map_find(&pc->portals, m.portal);
    if (!po) {
        query_fail(pc, "34000", "there is no portal of this name", NULL);
        return PG_DONE;
    }
    if (po->st->len == 0) {
        pg_empty(&pc->out, 'I');
        return PG_DONE;
    }
    if (pc->cursor || (!po->cursor && cursor_begin(pc, text_of(po->st), po)))
        return cursor_go(pc, false);
    if (!po->run && !po->over && session_do(pc, text_of(po->st), false))
        return PG_DONE;
    if (!po->began && is_ignored(pc, po->st))
        return PG_DONE;
    return execute_query(pc, po, m.rows);
}

static void on_close(struct pconn *pc, struct slice body)
{
    struct pg_target m;

    if (pg_target_decode(body, &m)) {
        garbled(pc);
        return;
    }
    if (m.kind == 'S')
        statement_drop(pc, m.name);
    else
        portal_drop(pc, m.name);
    pg_empty(&pc->out, '3');
}

static void on_sync(struct pconn *pc)
{
    pc->skip = false;
    if (pc->s.txn == 'I')
        portals_end(pc, false);
    pg_ready(&pc->out, pc->s.txn);
}

/* ---- all ---- */

static enum pg_result extended(struct pconn *pc, uint8_t type, struct slice body)
{
    switch (type) {
    case 'P':
        on_parse(pc, body);
        return PG_DONE;
    case 'B':
        return on_bind(pc, body);
    case 'D':
        return on_describe(pc, body);
    case 'E':
        return on_execute(pc, body);
    default:
        on_close(pc, body);
        return PG_DONE;
    }
}

enum pg_result query_message(struct pconn *pc, uint8_t type, struct slice body)
{
    switch (type) {
    case 'Q':
        pc->skip = false;
        return on_query(pc, body);
    case 'S':
        on_sync(pc);
        return PG_DONE;
    case 'X':
        conn_close(pc->c, true, CONN_LOCAL);
        return PG_DONE;
    case 'H': /* everything is sent at once anyway */
    case 'd':
    case 'c':
    case 'f':
        return PG_DONE;
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        return pc->skip ? PG_DONE : extended(pc, type, body);
    case 'F':
        query_fail(pc, "0A000", "function calls are not served: ask with SELECT", NULL);
        pc->skip = false;
        pg_ready(&pc->out, pc->s.txn);
        return PG_DONE;
    default:
        pconn_fatal(pc, "08P01", "a message of an unknown type", NULL);
        return PG_DONE;
    }
}
