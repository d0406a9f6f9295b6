/* Finding the records that a statement fails for. A range that fails is halved; a half that still
 * fails is halved again, down to single records. Two halves that do well while the whole does not
 * (a sum that is too large) are an error of the statement, as is one that fails for each of the first
 * GIVE_UP records. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "transform/transform_int.h"

#define GIVE_UP 100u

struct isolate {
    struct tform *t;
    const char *text;
    struct strays *bad;
    struct ask_error *error; /* the last */
    bool any_good;
    uint32_t bad_before;
};

static int64_t count(const struct sql_range *v, unsigned n)
{
    int64_t sum = 0;
    unsigned i;

    for (i = 0; i < n; i++)
        sum += v[i].to - v[i].from;
    return sum;
}

/* The first k offsets of v go to a, the others to b; each has room for n. */
static void split(const struct sql_range *v, unsigned n, int64_t k, struct sql_range *a,
                  unsigned *a_n, struct sql_range *b, unsigned *b_n)
{
    unsigned i;

    *a_n = *b_n = 0;
    for (i = 0; i < n; i++) {
        int64_t len = v[i].to - v[i].from, take = len < k ? len : k;

        k -= take;
        if (take > 0)
            a[(*a_n)++] = (struct sql_range){v[i].partition, v[i].from, v[i].from + take};
        if (take < len)
            b[(*b_n)++] = (struct sql_range){v[i].partition, v[i].from + take, v[i].to};
    }
}

static enum err narrow(struct isolate *s, const struct sql_range *v, unsigned n);

/* Whether a part fails, and if so for which of its records. */
static enum err part(struct isolate *s, const struct sql_range *v, unsigned n, bool *fails)
{
    if (!tform_ask(s->t, s->text, v, n, NULL, s->error)) {
        s->any_good = true;
        return ERR_OK;
    }
    if (!ask_is_data(s->error))
        return s->error->code;
    *fails = true;
    return narrow(s, v, n);
}

/* v fails; s->error says how. */
static enum err narrow(struct isolate *s, const struct sql_range *v, unsigned n)
{
    int64_t k = count(v, n);
    struct sql_range *a, *b;
    struct ask_error whole = *s->error;
    unsigned a_n, b_n;
    bool fails = false;
    enum err e;

    if (k <= 1) {
        strays_add(s->bad, v[0].partition, v[0].from, s->error->text);
        return !s->any_good && s->bad->n - s->bad_before >= GIVE_UP ? ERR_SQL : ERR_OK;
    }
    a = xcalloc(2 * (size_t)n, sizeof *a);
    b = a + n;
    split(v, n, k / 2, a, &a_n, b, &b_n);
    e = part(s, a, a_n, &fails);
    e = e ? e : part(s, b, b_n, &fails);
    free(a);
    if (!e && !fails) {
        *s->error = whole;
        e = ERR_SQL;
    }
    return e;
}

/* v without the strays from `from` on, which are in order of v; out has room for n + strays. */
static unsigned without(const struct sql_range *v, unsigned n, const struct strays *bad,
                        uint32_t from, struct sql_range *out)
{
    unsigned i, k = 0;

    for (i = 0; i < n; i++) {
        struct sql_range r = v[i];

        for (; from < bad->n && bad->v[from].partition == r.partition &&
               bad->v[from].offset < r.to && bad->v[from].offset >= r.from;
             from++) {
            if (bad->v[from].offset > r.from)
                out[k++] = (struct sql_range){r.partition, r.from, bad->v[from].offset};
            r.from = bad->v[from].offset + 1;
        }
        if (r.from < r.to)
            out[k++] = r;
    }
    return k;
}

/* Asks for the rows. No record, no rows: a statement without GROUP BY would have one. */
static enum err rows_ask(struct unit *u, const char *text, const struct sql_range *v, unsigned n,
                         struct ask_error *error)
{
    uint64_t scanned = 0;
    const struct ask_rows on = {unit_columns, unit_chunk, u, &scanned};
    enum err e = tform_ask(u->t, text, v, n, &on, error);

    if (u->e) { /* a row could not be appended */
        memset(error, 0, sizeof *error);
        error->code = u->e;
        snprintf(error->text, sizeof error->text, "%s", u->info.text);
        return u->e;
    }
    if (!e && scanned == 0)
        unit_reset(u);
    return e;
}

enum err tform_rows(struct unit *u, const char *text, const struct sql_range *ranges, unsigned n,
                    struct strays *bad, struct ask_error *error)
{
    struct isolate s = {.t = u->t, .text = text, .bad = bad, .error = error, .bad_before = bad->n};
    struct sql_range *rest;
    enum err e = rows_ask(u, text, ranges, n, error);

    if (!e || !ask_is_data(error))
        return e;
    unit_reset(u);
    if ((e = narrow(&s, ranges, n)))
        return e;
    rest = xcalloc((size_t)n + bad->n + 1, sizeof *rest);
    n = without(ranges, n, bad, s.bad_before, rest);
    e = rows_ask(u, text, rest, n, error);
    free(rest);
    return e;
}
