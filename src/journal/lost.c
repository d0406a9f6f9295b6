/* Offsets and positions that a repair must not let be used again. See lost.h. */
#include "journal/lost.h"

#include <sqlite3.h>
#include <stdlib.h>

#include "base/mem.h"

#define ENDS_MAX (1u << 30)

struct lost_end {
    int64_t next;
    uint64_t position;
};

void lost_init(struct lost *l)
{
    *l = (struct lost){0};
    u64map_init(&l->ends, ENDS_MAX, 0);
}

void lost_fini(struct lost *l)
{
    uint32_t at = 0;
    uint64_t uid;
    void *end;

    while (u64map_next(&l->ends, &at, &uid, &end))
        free(end);
    u64map_fini(&l->ends);
    free(l->range);
    l->range = NULL;
    l->n = l->cap = 0;
}

void lost_witness(struct lost *l, uint32_t uid, int64_t end_offset, uint64_t position_end)
{
    struct lost_end *e = u64map_find(&l->ends, uid);

    if (!e) {
        e = xcalloc(1, sizeof *e);
        if (u64map_put(&l->ends, uid, e)) {
            free(e);
            return;
        }
    }
    if (end_offset > e->next)
        e->next = end_offset;
    if (position_end > e->position)
        e->position = position_end;
}

void lost_add(struct lost *l, uint64_t from, uint64_t to)
{
    if (from >= to)
        return;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->range = xrealloc(l->range, l->cap * sizeof *l->range);
    }
    l->range[l->n++] = (struct lost_range){from, to};
}

/* How many positions from `position` on are lost. */
static uint64_t lost_after(const struct lost *l, uint64_t position)
{
    uint64_t n = 0, from;
    uint32_t i;

    for (i = 0; i < l->n; i++) {
        from = l->range[i].from > position ? l->range[i].from : position;
        n += l->range[i].to > from ? l->range[i].to - from : 0;
    }
    return n;
}

/* ---- the tables ---- */

static enum err row_put(struct checkpoint *c, const char *sql, uint64_t a, uint64_t b, uint64_t d,
                        struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    bool ok;

    ok = sqlite3_prepare_v2(checkpoint_db(c), sql, -1, &st, NULL) == SQLITE_OK;
    if (ok) {
        sqlite3_bind_int64(st, 1, (int64_t)a);
        sqlite3_bind_int64(st, 2, (int64_t)b);
        if (sqlite3_bind_parameter_count(st) == 3)
            sqlite3_bind_int64(st, 3, (int64_t)d);
        ok = sqlite3_step(st) == SQLITE_DONE;
    }
    sqlite3_finalize(st);
    return ok ? ERR_OK : checkpoint_error(c, "what was lost cannot be noted", info);
}

static enum err end_put(struct checkpoint *c, uint64_t uid, int64_t next, uint64_t position,
                        struct errinfo *info)
{
    return row_put(c,
                   "INSERT INTO ends VALUES(?, ?, ?) ON CONFLICT(uid) DO UPDATE SET"
                   " next = max(next, excluded.next), position = max(position, excluded.position)",
                   uid, (uint64_t)next, position, info);
}

enum err lost_save(const struct lost *l, struct checkpoint *c, struct errinfo *info)
{
    enum err e = ERR_OK;
    uint32_t at = 0, i;
    uint64_t uid;
    void *v;

    for (i = 0; !e && i < l->n; i++)
        e = row_put(c,
                    "INSERT INTO lost VALUES(?, ?) ON CONFLICT(position) DO UPDATE SET"
                    " position_end = max(position_end, excluded.position_end)",
                    l->range[i].from, l->range[i].to, 0, info);
    while (!e && u64map_next(&l->ends, &at, &uid, &v))
        e = end_put(c, uid, ((struct lost_end *)v)->next, ((struct lost_end *)v)->position, info);
    return e;
}

static enum err load(struct lost *l, struct checkpoint *c, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(checkpoint_db(c),
                                "SELECT 0, position, position_end FROM lost UNION ALL"
                                " SELECT uid, next, position FROM ends",
                                -1, &st, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
            break;
        if (sqlite3_column_int64(st, 0) == 0)
            lost_add(l, (uint64_t)sqlite3_column_int64(st, 1),
                     (uint64_t)sqlite3_column_int64(st, 2));
        else
            lost_witness(l, (uint32_t)sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                         (uint64_t)sqlite3_column_int64(st, 2));
    }
    sqlite3_finalize(st);
    return rc == SQLITE_DONE ? ERR_OK : checkpoint_error(c, "the checkpoint cannot be read", info);
}

/* ---- opening ---- */

/* Where the log goes on. */
static int64_t next_of(const struct lost *l, const struct plog *p)
{
    const struct lost_end *e = u64map_find(&l->ends, p->uid);
    int64_t next = e && e->next > p->end_offset ? e->next : p->end_offset;
    uint64_t position = e && e->position > p->position_end ? e->position : p->position_end;
    uint64_t after = lost_after(l, position);

    return after < (uint64_t)(INT64_MAX / 2 - next) ? next + (int64_t)after : INT64_MAX / 2;
}

/* The notes from now on: one for each log that has no batch yet where it goes on. */
static enum err settle(struct journal *j, const struct lost *l, struct errinfo *info)
{
    struct plog *p;
    enum err e = checkpoint_begin(j->ckpt, info);

    if (!e && sqlite3_exec(checkpoint_db(j->ckpt), "DELETE FROM lost; DELETE FROM ends", NULL, NULL,
                           NULL) != SQLITE_OK)
        e = checkpoint_error(j->ckpt, "what was lost cannot be noted", info);
    list_for_each(p, &j->plogs, struct plog, link) if (!e && next_of(l, p) > p->end_offset) e =
        end_put(j->ckpt, p->uid, next_of(l, p), j->next_position, info);
    if (!e)
        e = checkpoint_commit(j->ckpt, info);
    if (e)
        checkpoint_rollback(j->ckpt);
    return e;
}

enum err lost_apply(struct journal *j, struct errinfo *info)
{
    struct lost l;
    struct plog *p;
    uint32_t used = 0;
    enum err e;

    lost_init(&l);
    e = load(&l, j->ckpt, info);
    if (e || (!l.n && !l.ends.n))
        goto out;
    list_for_each(p, &j->plogs, struct plog, link) used += next_of(&l, p) > p->end_offset;
    if (!j->conf.read_only && (l.n || l.ends.n != used))
        e = settle(j, &l, info);
    if (!e)
        list_for_each(p, &j->plogs, struct plog, link) p->end_offset = next_of(&l, p);
out:
    lost_fini(&l);
    return e;
}
