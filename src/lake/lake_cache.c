/* Local copies of objects, in the lake's folder, for those who read files: of the whole object, or of
 * the row groups that a look-up wants (parquet_part.h). Copies that nobody uses go, those used longest
 * ago first, when there are more bytes of them than conf.cache_bytes. Footers of objects that were read
 * in part stay in memory: objects never change.
 *
 * cache_lock guards the lists, not the copying: a copy is made by the first who wants it, and who comes
 * meanwhile waits. Several objects are fetched at the same time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lake/lake_int.h"
#include "lake/parquet_part.h"

#define PART_LEAST    (1u << 20)  /* a smaller object is fetched whole */
#define TAIL_BYTES    (64u << 10) /* of an object, in which its footer is looked for */
#define FOOTER_MOST   (16u << 20)
#define FOOTERS_BYTES (16u << 20) /* of footers in memory */
#define PIECE_BYTES   (8u << 20)  /* of a range at a time */
#define FETCHERS_MAX  8u

struct cached {
    struct cached *next; /* the one used last comes first */
    char *name, *path;   /* name: the location, and for a part the numbers of its groups */
    uint64_t bytes;
    uint32_t pins; /* whoever makes it or waits for it has one */
    bool there;    /* the copy is made */
    bool making;
};
struct footer {
    struct footer *next; /* the one used last comes first */
    char *location;
    uint8_t *bytes;
    size_t len;
};

static void cached_free(struct lake *l, struct cached *c)
{
    io_unlink(io_real(), c->path, NULL);
    l->cache_bytes -= c->bytes;
    free(c->name);
    free(c->path);
    free(c);
}

static void footer_free(struct lake *l, struct footer *f)
{
    l->footers_bytes -= f->len;
    free(f->location);
    free(f->bytes);
    free(f);
}

void lake_cache_fini(struct lake *l)
{
    struct cached *c;
    struct footer *f;

    while ((c = l->cache)) {
        l->cache = c->next;
        cached_free(l, c);
    }
    while ((f = l->footers)) {
        l->footers = f->next;
        footer_free(l, f);
    }
}

/* ---- copies ---- */

/* Takes it out of the list; NULL: it is not there. */
static struct cached *cached_take(struct lake *l, const char *name)
{
    struct cached **at, *c;

    for (at = &l->cache; (c = *at); at = &c->next)
        if (strcmp(c->name, name) == 0) {
            *at = c->next;
            return c;
        }
    return NULL;
}

static void cached_first(struct lake *l, struct cached *c)
{
    c->next = l->cache;
    l->cache = c;
}

/* The last of those that nobody uses goes, as long as there is too much. */
static void cache_trim(struct lake *l)
{
    while (l->cache_bytes > l->conf.cache_bytes) {
        struct cached **at, **last = NULL, *c;

        for (at = &l->cache; *at; at = &(*at)->next)
            if ((*at)->pins == 0)
                last = at;
        if (!last)
            return;
        c = *last;
        *last = c->next;
        cached_free(l, c);
    }
}

static struct cached *cached_new(struct lake *l, const char *name, uint64_t bytes)
{
    struct cached *c = xcalloc(1, sizeof *c);
    char path[512];

    tmp_path(l, path);
    c->name = xstrdup(name);
    c->path = xstrdup(path);
    c->bytes = bytes;
    l->cache_bytes += bytes;
    return c;
}

/* Who pinned it does no more. Lock held. */
static void cached_unpin(struct lake *l, struct cached *c)
{
    c->pins--;
    if (c->pins == 0 && !c->there)
        cached_free(l, cached_take(l, c->name));
    cache_trim(l);
}

/* What is to be copied. */
struct wish {
    struct store *store;
    const char *key;
    uint64_t bytes;
    const struct parquet_part *part; /* NULL: the whole object */
    uint64_t footer_at;              /* of the part */
};

static enum err range_fetch(const struct wish *w, struct io_file *f, struct part_range r,
                            struct buf *piece, struct errinfo *info)
{
    enum err e = ERR_OK;
    uint64_t n;

    for (; !e && r.from < r.to; r.from += n) {
        n = r.to - r.from < PIECE_BYTES ? r.to - r.from : PIECE_BYTES;
        buf_clear(piece);
        e = store_get(w->store, w->key, r.from, n, piece, NULL, info);
        if (!e && piece->len != n)
            e = errinfo_set(info, ERR_CORRUPT, "%.150s is shorter than its table says", w->key);
        if (!e)
            e = io_pwrite(f, piece->ptr, piece->len, r.from, info);
    }
    return e;
}

static enum err part_fetch(const struct wish *w, const char *path, struct errinfo *info)
{
    const struct parquet_part *p = w->part;
    uint32_t len = (uint32_t)p->footer.len, i;
    const uint8_t tail[PARQUET_TAIL] = {(uint8_t)len,
                                        (uint8_t)(len >> 8),
                                        (uint8_t)(len >> 16),
                                        (uint8_t)(len >> 24),
                                        'P',
                                        'A',
                                        'R',
                                        '1'};
    struct io_file *f = NULL;
    struct buf piece;
    enum err e = io_open(io_real(), path, IO_CREATE | IO_TRUNC, &f, info);

    buf_init(&piece, PIECE_BYTES);
    if (!e)
        e = io_pwrite(f, "PAR1", 4, 0, info);
    for (i = 0; !e && i < p->ranges_n; i++)
        e = range_fetch(w, f, p->range[i], &piece, info);
    if (!e)
        e = io_pwrite(f, p->footer.ptr, p->footer.len, w->footer_at, info);
    if (!e)
        e = io_pwrite(f, tail, sizeof tail, w->footer_at + p->footer.len, info);
    buf_fini(&piece);
    io_close(&f);
    return e;
}

/* Pins the copy of this name, and makes it if it is not there. */
static enum err copy_get(struct lake *l, const char *name, const struct wish *w, char path[512],
                         struct errinfo *info)
{
    uint64_t bytes = w->part ? w->part->bytes + w->part->footer.len : w->bytes;
    struct cached *c;
    enum err e = ERR_OK;

    io_mutex_lock(&l->cache_lock);
    c = cached_take(l, name);
    if (!c)
        c = cached_new(l, name, bytes);
    cached_first(l, c);
    c->pins++;
    while (c->making)
        io_cond_wait(&l->cache_change, &l->cache_lock);
    if (!c->there) {
        c->making = true;
        io_mutex_unlock(&l->cache_lock);
        e = w->part ? part_fetch(w, c->path, info)
                    : store_get_file(w->store, w->key, c->path, NULL, info);
        io_mutex_lock(&l->cache_lock);
        c->making = false;
        c->there = !e;
        if (!e)
            atomic_fetch_add(&l->fetched, bytes);
        io_cond_broadcast(&l->cache_change);
    }
    snprintf(path, 512, "%s", c->path);
    if (e)
        cached_unpin(l, c);
    else
        cache_trim(l);
    io_mutex_unlock(&l->cache_lock);
    return e;
}

/* ---- footers ---- */

static void footer_keep(struct lake *l, const char *location, struct slice bytes)
{
    struct footer *f = xcalloc(1, sizeof *f), **at;

    f->location = xstrdup(location);
    f->bytes = xmemdup(bytes.ptr, bytes.len);
    f->len = bytes.len;
    io_mutex_lock(&l->cache_lock);
    f->next = l->footers;
    l->footers = f;
    l->footers_bytes += f->len;
    while (l->footers_bytes > FOOTERS_BYTES) {
        for (at = &l->footers; (*at)->next; at = &(*at)->next)
            ;
        f = *at;
        *at = NULL;
        footer_free(l, f);
    }
    io_mutex_unlock(&l->cache_lock);
}

static bool footer_find(struct lake *l, const char *location, struct buf *out)
{
    struct footer **at, *f;
    bool found = false;

    io_mutex_lock(&l->cache_lock);
    for (at = &l->footers; (f = *at) && strcmp(f->location, location) != 0; at = &f->next)
        ;
    if (f) {
        *at = f->next;
        f->next = l->footers;
        l->footers = f;
        found = !buf_append(out, f->bytes, f->len);
    }
    io_mutex_unlock(&l->cache_lock);
    return found;
}

/* The object's footer, without its tail, at the beginning of out. */
static enum err footer_get(struct lake *l, const char *location, const struct wish *w,
                           struct buf *out, struct errinfo *info)
{
    uint64_t n = w->bytes < TAIL_BYTES ? w->bytes : TAIL_BYTES, len;
    const uint8_t *tail;
    enum err e;

    if (footer_find(l, location, out))
        return ERR_OK;
    e = store_get(w->store, w->key, w->bytes - n, n, out, NULL, info);
    if (e)
        return e;
    atomic_fetch_add(&l->fetched, n);
    tail = out->ptr + out->len - PARQUET_TAIL;
    if (out->len != n || memcmp(tail + 4, "PAR1", 4) != 0)
        return ERR_UNSUPPORTED; /* who reads it will say so */
    len = (uint64_t)tail[0] | (uint64_t)tail[1] << 8 | (uint64_t)tail[2] << 16 |
          (uint64_t)tail[3] << 24;
    if (len > FOOTER_MOST || len + PARQUET_TAIL > w->bytes)
        return ERR_UNSUPPORTED;
    if (len + PARQUET_TAIL <= n) {
        memmove(out->ptr, out->ptr + out->len - PARQUET_TAIL - len, len);
        out->len = len;
    } else {
        buf_clear(out);
        e = store_get(w->store, w->key, w->bytes - PARQUET_TAIL - len, len, out, NULL, info);
    }
    if (!e && out->len == len)
        footer_keep(l, location, buf_slice(out));
    return e;
}

/* ---- pinning ---- */

/* A part of the object, if that is much less than all of it. ERR_UNSUPPORTED: it is not. */
static enum err part_pin(struct lake *l, const char *location, struct wish *w,
                         const struct lake_wanted *wanted, struct lake_file *f,
                         struct errinfo *info)
{
    struct parquet_part *part = xmalloc(sizeof *part);
    struct buf footer, name;
    enum err e;

    buf_init(&footer, FOOTER_MOST);
    buf_init(&name, 2u << 20);
    e = footer_get(l, location, w, &footer, info);
    if (e) {
        buf_fini(&footer);
        free(part);
        return e;
    }
    w->footer_at = w->bytes - PARQUET_TAIL - footer.len;
    e = parquet_part_make(part, buf_slice(&footer), w->footer_at, wanted);
    if (!e && part->bytes > w->bytes / 2)
        e = ERR_UNSUPPORTED;
    if (!e && (buf_printf(&name, "%s#%.*s", location, (int)part->groups.len,
                          part->groups.len ? (const char *)part->groups.ptr : "") ||
               buf_append_u8(&name, 0)))
        e = ERR_UNSUPPORTED;
    if (!e) {
        w->part = part;
        e = copy_get(l, (const char *)name.ptr, w, f->path, info);
        w->part = NULL;
    }
    if (!e)
        f->name = xstrdup((const char *)name.ptr);
    parquet_part_fini(part);
    buf_fini(&footer);
    buf_fini(&name);
    free(part);
    return e;
}

static bool copy_there(struct lake *l, const char *location)
{
    const struct cached *c;

    io_mutex_lock(&l->cache_lock);
    for (c = l->cache; c && strcmp(c->name, location) != 0; c = c->next)
        ;
    io_mutex_unlock(&l->cache_lock);
    return c != NULL;
}

static enum err file_pin(struct lake *l, struct lake_file *f, const struct lake_wanted *wanted,
                         struct errinfo *info)
{
    struct place *place = place_of(l, f->location);
    struct wish w = {.store = place_store(l, place), .bytes = f->bytes};
    const char *url = store_url(w.store);
    enum err e = ERR_UNSUPPORTED;

    f->name = NULL;
    w.key = store_key(w.store, f->location);
    if (strncmp(url, "file://", 7) == 0) { /* the lake's own: it has no place */
        if (!w.key ||
            (size_t)snprintf(f->path, sizeof f->path, "%s/%s", url + 7, w.key) >= sizeof f->path)
            return errinfo_set(info, ERR_UNSUPPORTED, "%.150s is outside of the store, or too long",
                               f->location);
        return ERR_OK;
    }
    if (!w.key) {
        errinfo_set(info, e, "%.150s is outside of the store", f->location);
    } else {
        if (wanted && f->bytes >= PART_LEAST && !copy_there(l, f->location))
            e = part_pin(l, f->location, &w, wanted, f, info);
        if (e == ERR_UNSUPPORTED) {
            e = copy_get(l, f->location, &w, f->path, info);
            if (!e)
                f->name = xstrdup(f->location);
        }
    }
    place_unref(&place);
    return e;
}

struct pinning {
    struct lake *l;
    struct lake_file *file;
    uint32_t n;
    const struct lake_wanted *wanted;
    _Atomic uint32_t next;
    _Atomic bool failed;
    struct io_mutex lock; /* of what follows: the first error */
    enum err e;
    struct errinfo info;
};

static void pinning_main(void *arg)
{
    struct pinning *p = arg;
    struct errinfo info;
    uint32_t i;
    enum err e;

    while (!atomic_load(&p->failed) && (i = atomic_fetch_add(&p->next, 1)) < p->n) {
        memset(&info, 0, sizeof info);
        e = file_pin(p->l, &p->file[i], p->wanted, &info);
        p->file[i].pinned = !e;
        if (!e)
            continue;
        io_mutex_lock(&p->lock);
        if (!p->e) {
            p->e = e;
            p->info = info;
        }
        io_mutex_unlock(&p->lock);
        atomic_store(&p->failed, true);
    }
}

enum err lake_files_pin(struct lake *l, struct lake_file *file, uint32_t n,
                        const struct lake_wanted *wanted, struct errinfo *info)
{
    struct pinning p = {.l = l, .file = file, .n = n, .wanted = wanted};
    struct io_thread *t[FETCHERS_MAX - 1];
    uint32_t i, threads = 0;
    enum err e = lake_ready(l, info);

    if (e)
        return e;
    io_mutex_init(&p.lock);
    if (strncmp(store_url(l->store), "file://", 7) != 0)
        while (threads + 1 < n && threads < FETCHERS_MAX - 1 &&
               !io_thread_start("weir-lake-get", IO_PRIO_BACKGROUND, pinning_main, &p, &t[threads],
                                NULL))
            threads++;
    pinning_main(&p);
    for (i = 0; i < threads; i++)
        io_thread_join(&t[i]);
    io_mutex_fini(&p.lock);
    if (p.e) {
        lake_files_unpin(l, file, n);
        if (info)
            *info = p.info;
    }
    return p.e;
}

void lake_files_unpin(struct lake *l, struct lake_file *file, uint32_t n)
{
    struct cached *c;
    uint32_t i;

    for (i = 0; i < n; i++) {
        if (file[i].pinned && file[i].name) {
            io_mutex_lock(&l->cache_lock);
            for (c = l->cache; c && strcmp(c->name, file[i].name) != 0; c = c->next)
                ;
            if (c)
                cached_unpin(l, c);
            io_mutex_unlock(&l->cache_lock);
        }
        free(file[i].name);
        file[i].name = NULL;
        file[i].pinned = false;
    }
}

enum err lake_file_pin(struct lake *l, const char *location, uint64_t bytes, char path[512],
                       struct errinfo *info)
{
    struct lake_file f = {.location = location, .bytes = bytes};
    enum err e = lake_files_pin(l, &f, 1, NULL, info);

    snprintf(path, 512, "%s", f.path);
    free(f.name); /* the location */
    return e;
}

void lake_file_unpin(struct lake *l, const char *location)
{
    struct cached *c;

    io_mutex_lock(&l->cache_lock);
    for (c = l->cache; c && strcmp(c->name, location) != 0; c = c->next)
        ;
    if (c && c->pins)
        cached_unpin(l, c);
    io_mutex_unlock(&l->cache_lock);
}
