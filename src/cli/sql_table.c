/* Answers of SQL as tables drawn with lines. The JSON text is walked, not parsed into a tree: so numbers
 * are printed as the server wrote them. Control characters are shown, not obeyed. */
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/mem.h"
#include "cli/sql.h"
#include "cli/walk.h"

#define CELL_MAX   (64u << 20)
#define CELL_LEAST 4u /* columns of the terminal that a narrowed cell keeps */

struct cell {
    char *text;
    unsigned width; /* columns of a terminal */
    bool null;
};

struct table {
    struct cell *cell; /* names, types, then rows */
    size_t cells, cap;
    unsigned columns_n;
    bool *number; /* by column: to the right */
    unsigned *width;
    struct sql_failure *failure;
    bool failed;
};

/* ---- the table ---- */

static void cell_add(struct table *t, struct slice v)
{
    struct buf b;
    struct cell *c;

    if (t->cells == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 256;
        t->cell = xrealloc(t->cell, t->cap * sizeof *t->cell);
    }
    c = &t->cell[t->cells++];
    c->null = slice_eq_str(v, "null");
    buf_init(&b, CELL_MAX);
    if (c->null)
        buf_append_str(&b, "NULL");
    else
        walk_plain(v, &b);
    c->text = xcalloc(1, b.len + 1);
    if (b.len)
        memcpy(c->text, b.ptr, b.len);
    buf_fini(&b);
    c->width = walk_width(c->text);
}

static bool is_number(const char *type)
{
    static const char *const words[] = {"INT", "DOUBLE", "FLOAT", "DECIMAL", "BIGNUM"};
    unsigned i;

    if (strchr(type, '[') || strncmp(type, "INTERVAL", 8) == 0 || strncmp(type, "STRUCT", 6) == 0 ||
        strncmp(type, "MAP", 3) == 0)
        return false;
    for (i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(type, words[i]))
            return true;
    return false;
}

/* "columns":[{"name":…,"type":…},…]: names first, then types. */
static void columns_read(struct walk *w, struct table *t)
{
    struct slice *types = NULL;
    unsigned i, cap = 0;

    walk_need(w, '[');
    while (!w->bad && !walk_take(w, ']')) {
        if (t->columns_n == cap)
            types = xrealloc(types, (cap = cap ? cap * 2 : 16) * sizeof *types);
        walk_need(w, '{');
        walk_value(w);
        walk_need(w, ':');
        cell_add(t, walk_value(w));
        walk_need(w, ',');
        walk_value(w);
        walk_need(w, ':');
        types[t->columns_n++] = walk_value(w);
        walk_need(w, '}');
        walk_take(w, ',');
    }
    t->number = xcalloc(t->columns_n + 1, sizeof *t->number);
    t->width = xcalloc(t->columns_n + 1, sizeof *t->width);
    for (i = 0; i < t->columns_n && !w->bad; i++) {
        cell_add(t, types[i]);
        t->number[i] = is_number(t->cell[t->cells - 1].text);
    }
    free(types);
}

static void rows_read(struct walk *w, struct table *t)
{
    unsigned i;

    walk_need(w, '[');
    while (!w->bad && !walk_take(w, ']')) {
        walk_need(w, '[');
        for (i = 0; i < t->columns_n && !w->bad; i++) {
            if (i)
                walk_need(w, ',');
            cell_add(t, walk_value(w));
        }
        walk_need(w, ']');
        walk_take(w, ',');
    }
}

static void error_read(struct walk *w, struct table *t)
{
    struct buf text;

    t->failed = true;
    walk_need(w, '{');
    while (!w->bad && !walk_take(w, '}')) {
        struct slice key = walk_value(w), v;

        walk_need(w, ':');
        v = walk_value(w);
        buf_init(&text, CELL_MAX);
        walk_plain(v, &text);
        if (slice_eq_str(key, "\"message\""))
            snprintf(t->failure->message, sizeof t->failure->message, "%.*s", (int)text.len,
                     (const char *)text.ptr);
        else if (slice_eq_str(key, "\"hint\""))
            snprintf(t->failure->hint, sizeof t->failure->hint, "%.*s", (int)text.len,
                     (const char *)text.ptr);
        buf_fini(&text);
        walk_take(w, ',');
    }
}

static bool answer_read(struct slice json, struct table *t)
{
    struct walk w = {json.ptr, json.ptr + json.len, false};

    walk_need(&w, '{');
    while (!w.bad && !walk_take(&w, '}')) {
        struct slice key = walk_value(&w);

        walk_need(&w, ':');
        if (slice_eq_str(key, "\"columns\"") && !t->width)
            columns_read(&w, t);
        else if (slice_eq_str(key, "\"rows\"") && t->width)
            rows_read(&w, t);
        else if (slice_eq_str(key, "\"error\""))
            error_read(&w, t);
        else
            walk_value(&w);
        walk_take(&w, ',');
    }
    return !w.bad && t->width;
}

/* ---- drawing ---- */

/* Narrows the widest columns until all fit. */
static void widths_set(struct table *t, unsigned most)
{
    unsigned i, total = 1;
    size_t k;

    for (k = 0; k < t->cells; k++)
        if ((k < t->columns_n || k >= 2 * (size_t)t->columns_n) &&
            t->cell[k].width > t->width[k % t->columns_n])
            t->width[k % t->columns_n] = t->cell[k].width;
    for (i = 0; i < t->columns_n; i++)
        total += t->width[i] + 3;
    while (most && total > most) {
        unsigned widest = 0;

        for (i = 1; i < t->columns_n; i++)
            if (t->width[i] > t->width[widest])
                widest = i;
        if (t->width[widest] <= CELL_LEAST)
            break;
        t->width[widest]--;
        total--;
    }
}

static void line(const struct table *t, const char *left, const char *mid, const char *right,
                 FILE *out)
{
    unsigned i, k;

    fputs(left, out);
    for (i = 0; i < t->columns_n; i++) {
        for (k = 0; k < t->width[i] + 2; k++)
            fputs("─", out);
        fputs(i + 1 < t->columns_n ? mid : right, out);
    }
    fputc('\n', out);
}

/* At most so many columns of the terminal; an ellipsis for what is left out. */
static void cut_put(const char *s, unsigned width, FILE *out)
{
    mbstate_t state;
    unsigned n = 0, w;

    memset(&state, 0, sizeof state);
    while (*s) {
        size_t k = walk_char(s, &state, &w);

        if (n + w + 1 > width)
            break;
        n += w;
        fwrite(s, 1, k, out);
        s += k;
    }
    fputs("…", out);
    for (n++; n < width; n++)
        fputc(' ', out);
}

static void cell_put(const struct table *t, unsigned i, const struct cell *c, FILE *out)
{
    unsigned pad = c->width < t->width[i] ? t->width[i] - c->width : 0;

    if (c->width > t->width[i])
        cut_put(c->text, t->width[i], out);
    else if (t->number[i])
        fprintf(out, "%*s%s", (int)pad, "", c->text);
    else
        fprintf(out, "%s%*s", c->text, (int)pad, "");
}

static void row_put(const struct table *t, const struct cell *cells, FILE *out)
{
    unsigned i;

    for (i = 0; i < t->columns_n; i++) {
        fputs("│ ", out);
        cell_put(t, i, &cells[i], out);
        fputc(' ', out);
    }
    fputs("│\n", out);
}

static void draw(const struct table *t, FILE *out)
{
    size_t rows, k;

    if (t->columns_n == 0)
        return;
    rows = t->cells / t->columns_n - 2;
    line(t, "┌", "┬", "┐", out);
    row_put(t, t->cell, out);
    line(t, "├", "┼", "┤", out);
    for (k = 0; k < rows; k++)
        row_put(t, t->cell + (k + 2) * t->columns_n, out);
    line(t, "└", "┴", "┘", out);
    fprintf(out, "%zu row%s\n", rows, rows == 1 ? "" : "s");
}

bool sql_table_print(struct slice json, unsigned width, FILE *out, struct sql_failure *failure)
{
    struct table t = {.failure = failure};
    bool ok = answer_read(json, &t);
    size_t k;

    if (ok) {
        if (t.columns_n)
            widths_set(&t, width);
        draw(&t, out);
    } else if (!t.failed) {
        snprintf(failure->message, sizeof failure->message, "the answer was cut off");
    }
    for (k = 0; k < t.cells; k++)
        free(t.cell[k].text);
    free(t.cell);
    free(t.number);
    free(t.width);
    return ok && !t.failed;
}
