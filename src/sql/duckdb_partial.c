/* What splitting a statement (partial.c) asks of DuckDB: its tree, and the text of trees. */
#include <stdlib.h>

#include "base/mem.h"
#include "sql/duckdb_int.h"
#include "sql/partial_int.h"

#define TREE_MAX (256u << 20)

static enum err tree_text(void *arg, struct slice tree, struct buf *out, struct errinfo *info)
{
    char *error;
    enum err e = engine_ask(arg, "SELECT json_deserialize_sql($1::JSON)", tree, out, &error);

    if (e)
        errinfo_set(info, e = ERR_SQL, "%.200s", error ? error : "the statement is too large");
    free(error);
    return e;
}

struct opening {
    struct sql *sql;
    struct errinfo info;
    enum err e;
};

static void opening_main(void *arg)
{
    struct opening *o = arg;
    duckdb_connection c = NULL;
    struct engine *e;

    if (!o->sql->conf.foreground)
        io_thread_confine(o->sql->conf.threads);
    o->e = engine_shared(o->sql, &e, &c, &o->info);
    if (!o->e)
        engine_disconnect(e, &c);
}

/* The shared instance; if it is not open yet, a thread of low priority opens it: DuckDB's threads
 * inherit that and the processors that it keeps to, and the caller may be any. */
static enum err engine_find(struct sql *s, struct engine **out, duckdb_connection *c,
                            struct errinfo *info)
{
    struct opening o = {.sql = s};
    struct io_thread *t;
    enum err e =
        io_thread_start("weir-sql-open", s->conf.foreground ? IO_PRIO_NORMAL : IO_PRIO_BACKGROUND,
                        opening_main, &o, &t, info);

    if (e)
        return e;
    io_thread_join(&t);
    if (o.e)
        return errinfo_set(info, o.e, "%s", o.info.text);
    return engine_shared(s, out, c, info);
}

enum err partial_make(struct sql *s, const struct sql_request *rq, struct partial *out,
                      struct errinfo *info)
{
    duckdb_connection c = NULL;
    struct engine *engine = NULL;
    struct rewrite text;
    struct buf tree;
    char *error;
    enum err e;

    memset(out, 0, sizeof *out);
    if (rq->text.len > LIMIT_SQL_TEXT)
        return errinfo_set(info, ERR_TOO_LARGE, "the statement is longer than %u bytes",
                           LIMIT_SQL_TEXT);
    e = engine_find(s, &engine, &c, info);
    if (e)
        return e;
    buf_init(&tree, TREE_MAX);
    rewrite_make(&text, rq->text);
    e = engine_ask(c, "SELECT json_serialize_sql($1::VARCHAR)",
                   slice_of(text.full, strlen(text.full)), &tree, &error);
    if (e)
        errinfo_set(info, e = ERR_SQL, "%.200s", error ? error : "the statement is too large");
    else
        e = partial_split(buf_slice(&tree), rq, tree_text, c, out, info);
    free(error);
    rewrite_fini(&text);
    buf_fini(&tree);
    engine_disconnect(engine, &c);
    return e;
}
