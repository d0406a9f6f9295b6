/* Cursors: portals that DECLARE makes and FETCH takes rows of. Between FETCHes the query's maker sleeps
 * on its pipe, which holds LIMIT_PGWIRE_PORTAL_AHEAD at most. A cursor ends with its transaction; WITH
 * HOLD it stays after COMMIT, which costs nothing more, as a query sees one moment for as long as it
 * runs. Rows are made in order, so a cursor goes forward only. */
#include "proto/pgwire/cursor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/pgwire/pgwire_int.h"
#include "rows/lex.h"

#define ROWS_MOST (UINT32_MAX - 1)

/* ---- statements ---- */

static void wrong(struct cursor_stmt *c, const char *code, const char *message)
{
    c->code = code;
    c->message = message;
}

static void declare_parse(struct slice in, struct cursor_stmt *c)
{
    struct lex_token t = lex_next(&in);
    bool no = false, with = false;

    if (!lex_name(&t, c->name, sizeof c->name) || !*c->name) {
        wrong(c, "42601", "DECLARE is followed by a name");
        return;
    }
    for (t = lex_next(&in); !lex_is(&t, "cursor"); t = lex_next(&in)) {
        if (lex_is(&t, "scroll") && !no)
            wrong(c, "0A000", "cursors go forward only: declare it with NO SCROLL");
        else if (lex_is(&t, "binary"))
            c->binary = true;
        else if (!lex_is(&t, "no") && !lex_is(&t, "scroll") && !lex_is(&t, "insensitive") &&
                 !lex_is(&t, "asensitive"))
            wrong(c, "42601", "a cursor is declared as DECLARE name CURSOR FOR SELECT");
        no = lex_is(&t, "no");
        if (c->code)
            return;
    }
    t = lex_next(&in);
    if (lex_is(&t, "with") || lex_is(&t, "without")) {
        with = lex_is(&t, "with");
        t = lex_next(&in);
        if (!lex_is(&t, "hold")) {
            wrong(c, "42601", "WITH and WITHOUT are followed by HOLD");
            return;
        }
        t = lex_next(&in);
    }
    c->hold = with;
    c->query = in;
    if (!lex_is(&t, "for"))
        wrong(c, "42601", "a cursor is declared as DECLARE name CURSOR FOR SELECT");
    t = lex_next(&in);
    if (!c->code && (t.kind == LEX_END || lex_is(&t, "copy")))
        wrong(c, "42601", "a cursor is declared for a query");
}

/* A number behind the words; false: there is none. */
static bool rows_read(struct slice *in, struct lex_token *t, struct cursor_stmt *c)
{
    char text[24], *end;
    unsigned long long n;

    if (t->kind != LEX_NUMBER || t->text.len >= sizeof text)
        return false;
    memcpy(text, t->text.ptr, t->text.len);
    text[t->text.len] = 0;
    n = strtoull(text, &end, 10);
    c->rows = n > ROWS_MOST ? ROWS_MOST : (uint32_t)n;
    if (*end)
        wrong(c, "42601", "the number of rows is an integer");
    else if (n == 0)
        wrong(c, "55000", "a cursor goes forward only: it cannot give its present row again");
    *t = lex_next(in);
    return true;
}

static void fetch_parse(struct slice in, struct cursor_stmt *c)
{
    static const char *const others[] = {"prior",    "first",    "last",
                                         "absolute", "relative", "backward"};
    struct lex_token t = lex_next(&in);
    unsigned i;

    c->rows = 1;
    for (i = 0; i < sizeof others / sizeof *others; i++)
        if (lex_is(&t, others[i]) || lex_op(&t, '-')) {
            wrong(c, "55000", "a cursor goes forward only: NEXT, a number, FORWARD or ALL");
            return;
        }
    if (lex_is(&t, "next")) {
        t = lex_next(&in);
    } else {
        if (lex_is(&t, "forward"))
            t = lex_next(&in);
        if (lex_is(&t, "all")) {
            c->rows = 0;
            t = lex_next(&in);
        } else if (lex_op(&t, '-')) {
            wrong(c, "55000", "a cursor goes forward only: NEXT, a number, FORWARD or ALL");
            return;
        } else {
            rows_read(&in, &t, c);
        }
    }
    if (lex_is(&t, "from") || lex_is(&t, "in"))
        t = lex_next(&in);
    if (!lex_name(&t, c->name, sizeof c->name) || lex_next(&in).kind != LEX_END)
        wrong(c, "42601", "FETCH and MOVE end with FROM and the name of a cursor");
}

void cursor_parse(struct slice sql, struct cursor_stmt *out)
{
    struct lex_token t = lex_next(&sql);

    memset(out, 0, sizeof *out);
    if (lex_is(&t, "declare")) {
        out->what = CURSOR_DECLARE;
        declare_parse(sql, out);
    } else if (lex_is(&t, "fetch") || lex_is(&t, "move")) {
        out->what = lex_is(&t, "fetch") ? CURSOR_FETCH : CURSOR_MOVE;
        fetch_parse(sql, out);
    }
}

/* ---- what they do ---- */

static struct portal *find(struct pconn *pc, const char *name)
{
    struct portal *po = map_find(&pc->portals, slice_str(name));
    char text[CURSOR_NAME_MAX + 40];

    if (po && po->cursor)
        return po;
    snprintf(text, sizeof text, "cursor \"%s\" does not exist", name);
    query_fail(pc, "34000", text, NULL);
    return NULL;
}

/* The query with space for what is in front of it, so that its errors have their places. */
static struct pstatement *statement_of(struct slice sql, struct slice query)
{
    struct pstatement *st = pstatement_new(SLICE_LIT(""), sql);

    memset(st->sql, ' ', (size_t)(query.ptr - sql.ptr));
    return st;
}

/* from: what it was bound in, whose parameters it takes; NULL: there are none. */
static void declare(struct pconn *pc, const struct cursor_stmt *c, struct slice sql,
                    struct portal *from)
{
    static const uint8_t binary[2] = {0, 1};
    struct pstatement *st;
    struct portal *po;

    if (!c->hold && pc->s.txn == 'I') {
        query_fail(pc, "25P01", "DECLARE CURSOR can only be used in transaction blocks",
                   "BEGIN first, or declare it WITH HOLD");
        return;
    }
    st = statement_of(sql, c->query);
    po = portal_new(slice_str(c->name), st);
    pstatement_unref(st);
    po->cursor = true;
    po->hold = c->hold;
    po->held = pc->s.txn == 'I';
    if (map_put(&pc->portals, slice_str(po->name), po)) {
        portal_free(po);
        query_fail(pc, "42P03", "there is a cursor of this name, or there are too many", NULL);
        return;
    }
    if (from) {
        struct arena was = po->arena;

        po->arena = from->arena;
        from->arena = was;
        po->params = from->params;
        po->params_n = from->params_n;
        from->params = NULL;
        from->params_n = 0;
        from->formats = NULL; /* they lay in the arena too */
        from->formats_n = 0;
    }
    if (c->binary) {
        po->formats = (uint8_t *)(uintptr_t)arena_dup(&po->arena, slice_of(binary, 2)).ptr;
        po->formats_n = po->formats ? 1 : 0;
    }
    if (!prun_start(pc, po)) {
        portal_drop(pc, slice_str(c->name));
        return;
    }
    rows_pipe_max(po->run->pipe, LIMIT_PGWIRE_PORTAL_AHEAD);
    pc->cursor = po;
    pc->cursor_what = CURSOR_DECLARE;
}

static void fetch(struct pconn *pc, const struct cursor_stmt *c)
{
    struct portal *po = find(pc, c->name);

    if (!po)
        return;
    po->left = c->rows;
    po->sent = 0;
    po->moving = c->what == CURSOR_MOVE;
    po->run->head_sent = false;
    pconn_cancellable(pc, po->run->q);
    pc->cursor = po;
    pc->cursor_what = c->what;
}

bool cursor_begin(struct pconn *pc, struct slice sql, struct portal *from)
{
    struct cursor_stmt c;

    cursor_parse(sql, &c);
    if (c.what == CURSOR_NONE)
        return false;
    if (pc->s.txn == 'E')
        query_fail(pc, "25P02", FAILED_TXN, NULL);
    else if (c.code)
        query_fail(pc, c.code, c.message, NULL);
    else if (c.what == CURSOR_DECLARE)
        declare(pc, &c, sql, from);
    else
        fetch(pc, &c);
    return true;
}

/* What the query is like, or that it cannot be, is waited for. */
static enum pg_result declared(struct pconn *pc)
{
    struct portal *po = pc->cursor;
    struct prun *r = po->run;

    if (!r->head)
        prun_look(r);
    if (!r->head && !r->ended)
        return PG_WAIT;
    if (r->head) {
        pg_complete(&pc->out, "DECLARE CURSOR");
        return PG_DONE;
    }
    buf_append_slice(&pc->out, buf_slice(&r->failed));
    query_failed(pc);
    portal_drop(pc, slice_str(po->name));
    return PG_DONE;
}

static enum pg_result fetched(struct pconn *pc, bool describe)
{
    bool move = pc->cursor_what == CURSOR_MOVE;
    char tag[32];

    switch (query_pump(pc, pc->cursor, describe && !move)) {
    case PUMP_WAIT:
        return PG_WAIT;
    case PUMP_FAILED:
        break;
    default:
        snprintf(tag, sizeof tag, "%s %llu", move ? "MOVE" : "FETCH",
                 (unsigned long long)pc->cursor->sent);
        pg_complete(&pc->out, tag);
    }
    return PG_DONE;
}

enum pg_result cursor_go(struct pconn *pc, bool describe)
{
    enum pg_result r;

    if (!pc->cursor)
        return PG_DONE;
    r = pc->cursor_what == CURSOR_DECLARE ? declared(pc) : fetched(pc, describe);
    if (r == PG_WAIT)
        return r;
    pc->cursor = NULL;
    pconn_cancellable(pc, NULL);
    return r;
}

bool cursor_describe(struct pconn *pc, struct slice sql)
{
    struct cursor_stmt c;
    struct portal *po;

    cursor_parse(sql, &c);
    if (c.what == CURSOR_NONE)
        return false;
    if (c.what != CURSOR_FETCH)
        pg_empty(&pc->out, 'n');
    else if (c.code)
        query_fail(pc, c.code, c.message, NULL);
    else if ((po = find(pc, c.name)))
        buf_append(&pc->out, po->run->head->ptr, po->run->head->len);
    return true;
}

bool cursor_close(struct pconn *pc, const char *name)
{
    if (!find(pc, name))
        return false;
    portal_drop(pc, slice_str(name));
    return true;
}
