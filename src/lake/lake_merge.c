/* The records of one partition out of many files, in order of offset, for whoever replays them.
 *
 * Files are opened in order of their first offsets, each when its turn comes. Files may overlap (a
 * table that is divided by times or keys): the record with the least offset of all that are open comes
 * next. Within Weir's own files a partition's records lie by offset; others' are sorted when they are
 * read.
 *
 * Where more than OPEN_MAX overlap, they are read one after the other instead: what has the least
 * offsets and fits in conf.merge_bytes is copied (a window), sorted and given; then comes the next
 * window. So neither open files nor memory grow with the number of files. A window is read up to
 * twice what the last one held, for each file is opened again for each of them.
 *
 *   merging --more than OPEN_MAX at the next offset: window_begin--> windows
 *   windows --a window is over, and fewer overlap behind it: merge_next--> merging
 *
 * Threads: one at a time. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lake/jsonl.h"

#define OPEN_MAX 64u

struct source {
    struct lake_cursor cursor;
    const struct lake_record *head; /* NULL: the cursor is to be asked */
    int64_t last;                   /* offset given last, or one in front of all */
};

/* A record with all it points to, in one piece. */
struct copied {
    struct lake_record r;
    size_t bytes;
};

struct window {
    struct copied **at; /* while it is filled a heap, the greatest offset first; then by offset */
    uint32_t n, cap, given;
    size_t bytes;
    int64_t to;   /* it has all records below; 0: there is none */
    int64_t span; /* how many offsets the next one is to have */
};

struct merge {
    struct lake *l;
    const struct lake_view *view;
    int32_t partition;
    int64_t next, to;
    const struct lake_view_file **files; /* those wanted, by offset_min */
    uint32_t files_n, files_at;          /* to be opened next */
    struct source open[OPEN_MAX];
    uint32_t open_n;
    struct source *given; /* whose head was given; NULL: none */
    struct window w;
};

/* ---- which files ---- */

static bool has(const struct lake_view_file *f, int32_t partition, int64_t from, int64_t to)
{
    return f->partition_min <= partition && partition <= f->partition_max && f->offset_min < to &&
           f->offset_max >= from;
}

static int file_order(const void *a, const void *b)
{
    const struct lake_view_file *x = *(const struct lake_view_file *const *)a;
    const struct lake_view_file *y = *(const struct lake_view_file *const *)b;

    return x->offset_min < y->offset_min ? -1 : x->offset_min > y->offset_min;
}

const struct lake_view_file **lake_files_of(const struct lake_view *v, int32_t partition,
                                            int64_t from, int64_t to, uint32_t *n)
{
    const struct lake_view_file **out = xcalloc((size_t)v->files_n + 1, sizeof *out);
    uint32_t i;

    *n = 0;
    for (i = 0; i < v->files_n; i++)
        if (has(&v->file[i], partition, from, to))
            out[(*n)++] = &v->file[i];
    qsort(out, *n, sizeof *out, file_order);
    return out;
}

/* ---- one file ---- */

enum err lake_cursor_open(struct lake *l, const struct lake_view *v, const struct lake_view_file *f,
                          struct lake_cursor_conf *c, struct lake_cursor *out, struct errinfo *info)
{
    char path[512];
    enum err e = lake_file_pin(l, f->location, f->bytes, path, info);

    *out = (struct lake_cursor){.file = NULL};
    if (e)
        return e;
    c->path = path;
    c->columns = v->column;
    c->columns_n = v->columns_n;
    e = v->lines ? jsonl_cursor_open(c, jsonl_codec_of(f->location), &out->lines, info)
                 : l->conf.parquet.cursor_open(l->conf.parquet.arg, c, &out->parquet, info);
    if (e)
        lake_file_unpin(l, f->location);
    else
        out->file = f;
    return e;
}

enum err lake_cursor_next(struct lake *l, struct lake_cursor *c, const struct lake_record **out,
                          struct errinfo *info)
{
    return c->lines ? jsonl_cursor_next(c->lines, out, info)
                    : l->conf.parquet.cursor_next(c->parquet, out, info);
}

void lake_cursor_close(struct lake *l, struct lake_cursor *c)
{
    if (!c->file)
        return;
    if (c->parquet)
        l->conf.parquet.cursor_close(c->parquet);
    jsonl_cursor_close(&c->lines);
    lake_file_unpin(l, c->file->location);
    *c = (struct lake_cursor){.file = NULL};
}

/* Weir's own files, flushed or compacted, have a partition's records in order of offset; they have names
 * that nobody else gives. Those in a sort order of the table have not. */
static bool is_ours(const struct lake_view_file *f)
{
    const char *slash = strrchr(f->location, '/'), *name = slash ? slash + 1 : f->location;

    return strspn(name, "0123456789abcdef") == 32 && strcmp(name + 32, ".parquet") == 0;
}

static enum err source_open(struct merge *m, const struct lake_view_file *f, int64_t to,
                            struct source *out, struct errinfo *info)
{
    struct lake_cursor_conf c = {.partition = m->partition,
                                 .from = m->next,
                                 .to = to,
                                 .ts_min_ms = INT64_MIN,
                                 .sorted = f->sorted || !is_ours(f)};

    *out = (struct source){.last = m->next - 1};
    return lake_cursor_open(m->l, m->view, f, &c, &out->cursor, info);
}

static void source_close(struct merge *m, struct source *o)
{
    lake_cursor_close(m->l, &o->cursor);
}

/* The source's next record into head; ERR_EOF. */
static enum err source_next(struct merge *m, struct source *o, struct errinfo *info)
{
    enum err e = lake_cursor_next(m->l, &o->cursor, &o->head, info);

    if (!e && o->head->offset <= o->last)
        e = errinfo_set(info, ERR_CORRUPT,
                        "%.150s has offset %" PRId64 " of a partition behind offset %" PRId64,
                        o->cursor.file->location, o->head->offset, o->last);
    if (e)
        o->head = NULL;
    else
        o->last = o->head->offset;
    return e;
}

/* ---- merging ---- */

static void sources_close(struct merge *m)
{
    while (m->open_n)
        source_close(m, &m->open[--m->open_n]);
    m->given = NULL;
}

/* Not opened yet, and may have records from next up to `offset`. */
static bool is_due(const struct merge *m, const struct lake_view_file *f, int64_t offset)
{
    return f->offset_min <= offset && f->offset_max >= m->next;
}

/* Opens what may have records at or below `offset`. ERR_LIMIT: there would be too many. */
static enum err sources_open(struct merge *m, int64_t offset, struct errinfo *info)
{
    uint32_t i, n = m->open_n;
    enum err e = ERR_OK;

    for (i = m->files_at; i < m->files_n && m->files[i]->offset_min <= offset; i++)
        n += is_due(m, m->files[i], offset);
    if (n > OPEN_MAX)
        return ERR_LIMIT;
    for (; !e && m->files_at < i; m->files_at += !e) {
        const struct lake_view_file *f = m->files[m->files_at];

        if (!is_due(m, f, offset))
            continue;
        e = source_open(m, f, m->to, &m->open[m->open_n], info);
        m->open_n += !e;
    }
    return e;
}

/* The open source whose record comes first; NULL in *out: all are at their end. */
static enum err sources_least(struct merge *m, struct source **out, struct errinfo *info)
{
    uint32_t i = 0;
    enum err e;

    *out = NULL;
    while (i < m->open_n) {
        struct source *o = &m->open[i];

        e = o->head ? ERR_OK : source_next(m, o, info);
        if (e == ERR_EOF) {
            source_close(m, o);
            *o = m->open[--m->open_n];
            *out = NULL; /* it may have moved */
            i = 0;
            continue;
        }
        if (e)
            return e;
        if (!*out || o->head->offset < (*out)->head->offset)
            *out = o;
        i++;
    }
    return ERR_OK;
}

/* The source with the next record. ERR_EOF; ERR_LIMIT: too many files overlap. */
static enum err source_find(struct merge *m, struct source **out, struct errinfo *info)
{
    enum err e;

    for (;;) {
        e = sources_least(m, out, info);
        if (e)
            return e;
        if (*out &&
            (m->files_at == m->files_n || m->files[m->files_at]->offset_min > (*out)->head->offset))
            return ERR_OK;
        if (!*out && m->files_at == m->files_n)
            return ERR_EOF;
        e = sources_open(m, *out ? (*out)->head->offset : m->files[m->files_at]->offset_min, info);
        if (e)
            return e;
    }
}

/* ---- windows ---- */

static uint8_t *bytes_copy(struct slice *s, uint8_t *at)
{
    if (!s->ptr) /* null */
        return at;
    if (s->len)
        memcpy(at, s->ptr, s->len);
    *s = slice_of(at, s->len);
    return at + s->len;
}

static struct copied *record_copy(const struct lake_record *r)
{
    size_t headers = r->headers_n * sizeof *r->headers, bytes = r->key.len + r->value.len;
    struct record_header *h;
    struct copied *c;
    uint8_t *at;
    unsigned i;

    for (i = 0; i < r->headers_n; i++)
        bytes += r->headers[i].key.len + r->headers[i].value.len;
    bytes += sizeof *c + headers + 1;
    c = xmalloc(bytes);
    c->bytes = bytes;
    c->r = *r;
    h = (struct record_header *)(c + 1);
    if (headers)
        memcpy(h, r->headers, headers);
    c->r.headers = h;
    at = (uint8_t *)h + headers;
    at = bytes_copy(&c->r.key, at);
    at = bytes_copy(&c->r.value, at);
    for (i = 0; i < r->headers_n; i++) {
        at = bytes_copy(&h[i].key, at);
        at = bytes_copy(&h[i].value, at);
    }
    ASSERT((size_t)(at - (uint8_t *)c) <= bytes);
    return c;
}

static void window_swap(struct window *w, uint32_t a, uint32_t b)
{
    struct copied *c = w->at[a];

    w->at[a] = w->at[b];
    w->at[b] = c;
}

static int64_t window_offset(const struct window *w, uint32_t i)
{
    return w->at[i]->r.offset;
}

static void window_put(struct window *w, const struct lake_record *r)
{
    uint32_t i = w->n++;

    if (i == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 1024;
        w->at = xrealloc(w->at, w->cap * sizeof *w->at);
    }
    w->at[i] = record_copy(r);
    w->bytes += w->at[i]->bytes;
    for (; i && window_offset(w, i) > window_offset(w, (i - 1) / 2); i = (i - 1) / 2)
        window_swap(w, i, (i - 1) / 2);
}

/* The record with the greatest offset goes; what is behind it is not wanted any more, either. */
static void window_drop(struct window *w)
{
    uint32_t i = 0, child;

    w->to = window_offset(w, 0);
    w->bytes -= w->at[0]->bytes;
    free(w->at[0]);
    w->at[0] = w->at[--w->n];
    while ((child = 2 * i + 1) < w->n) {
        if (child + 1 < w->n && window_offset(w, child + 1) > window_offset(w, child))
            child++;
        if (window_offset(w, child) <= window_offset(w, i))
            break;
        window_swap(w, i, child);
        i = child;
    }
}

static void window_clear(struct window *w)
{
    for (; w->given < w->n; w->given++)
        free(w->at[w->given]);
    w->n = w->given = 0;
    w->bytes = 0;
}

static int copied_order(const void *a, const void *b)
{
    const struct copied *x = *(const struct copied *const *)a;
    const struct copied *y = *(const struct copied *const *)b;

    return x->r.offset < y->r.offset ? -1 : x->r.offset > y->r.offset;
}

/* The file's records that belong into the window, which gets narrower when it is full. */
static enum err window_file(struct merge *m, const struct lake_view_file *f, struct errinfo *info)
{
    struct window *w = &m->w;
    struct source o;
    enum err e = source_open(m, f, w->to, &o, info);

    if (e)
        return e;
    while (!(e = source_next(m, &o, info)) && o.head->offset < w->to) {
        window_put(w, o.head);
        while (w->bytes > m->l->conf.merge_bytes && w->n > 1)
            window_drop(w);
    }
    source_close(m, &o);
    return e == ERR_EOF ? ERR_OK : e;
}

/* All records from m->next on that fit. None in it: there are none below w.to. */
static enum err window_fill(struct merge *m, struct errinfo *info)
{
    struct window *w = &m->w;
    enum err e = ERR_OK;
    uint32_t i;

    window_clear(w);
    w->to = m->to - m->next > w->span ? m->next + w->span : m->to;
    for (i = 0; !e && i < m->files_n && m->files[i]->offset_min < w->to; i++)
        if (m->files[i]->offset_max >= m->next)
            e = window_file(m, m->files[i], info);
    if (e) {
        window_clear(w);
        w->to = 0;
        return e;
    }
    w->span = (w->to > m->next ? w->to - m->next : 1) * 2;
    qsort(w->at, w->n, sizeof *w->at, copied_order);
    return ERR_OK;
}

/* From merging to windows. */
static enum err window_begin(struct merge *m, struct errinfo *info)
{
    sources_close(m);
    if (!m->w.span)
        m->w.span = m->to - m->next; /* it gets narrower by itself */
    return window_fill(m, info);
}

/* The window's next record. ERR_EOF: it is over, and m->next behind it. */
static enum err window_next(struct merge *m, const struct lake_record **out)
{
    struct window *w = &m->w;

    if (w->given)
        free(w->at[w->given - 1]);
    if (w->given < w->n) {
        *out = &w->at[w->given++]->r;
        return ERR_OK;
    }
    w->n = w->given = 0;
    w->bytes = 0;
    if (m->next < w->to)
        m->next = w->to;
    return ERR_EOF;
}

/* Behind a window: are there few enough files now? */
static bool is_few(const struct merge *m)
{
    uint32_t i, n = 0;

    for (i = 0; i < m->files_n && m->files[i]->offset_min <= m->next; i++)
        n += is_due(m, m->files[i], m->next);
    return n <= OPEN_MAX;
}

/* ---- all ---- */

struct merge *merge_new(struct lake *l, const struct lake_view *v, int32_t partition, int64_t from,
                        int64_t to)
{
    struct merge *m = xcalloc(1, sizeof *m);

    m->l = l;
    m->view = v;
    m->partition = partition;
    m->next = from;
    m->to = to;
    m->files = lake_files_of(v, partition, from, to, &m->files_n);
    return m;
}

void merge_free(struct merge **mp)
{
    struct merge *m = *mp;

    if (!m)
        return;
    sources_close(m);
    if (m->w.given) /* the one given last is still there */
        m->w.given--;
    window_clear(&m->w);
    free(m->w.at);
    free(m->files);
    free(m);
    *mp = NULL;
}

static enum err record_find(struct merge *m, const struct lake_record **out, struct errinfo *info)
{
    enum err e;

    if (m->given)
        m->given->head = NULL;
    m->given = NULL;
    for (;;) {
        e = m->w.to ? window_next(m, out) : source_find(m, &m->given, info);
        if (!e && !m->w.to)
            *out = m->given->head;
        if (m->w.to && e == ERR_EOF) {
            if (m->next >= m->to)
                return e;
            m->files_at = 0;
            if (is_few(m))
                m->w.to = 0;
            else if ((e = window_fill(m, info)))
                return e;
        } else if (!m->w.to && e == ERR_LIMIT) {
            if ((e = window_begin(m, info)))
                return e;
        } else {
            return e;
        }
    }
}

enum err merge_next(struct merge *m, const struct lake_record **out, struct errinfo *info)
{
    enum err e = record_find(m, out, info);

    if (!e && (*out)->offset < m->next)
        return errinfo_set(info, ERR_CORRUPT, "the table has offset %" PRId64 " twice",
                           (*out)->offset);
    if (!e)
        m->next = (*out)->offset + 1;
    return e;
}
