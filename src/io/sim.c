/* The simulated disk. See sim.h.
 *
 * A file (inode) has two images: what the running machine sees, and what is certain after a crash;
 * a bitmap says which 512-byte sectors differ. A crash decides each such sector. Names are a list
 * of entries, each with the inode that it stands for now and after a crash (NULL: no such name);
 * they differ until the directory is synced. */
#include "io/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/io_int.h"

#define SECTOR    512u
#define NAMES_MAX 4096u
#define MUTATING  true

struct inode {
    struct list_node link;
    uint8_t *now, *sure;
    uint64_t size, sure_size, cap;
    uint8_t *dirty; /* a byte a sector */
    unsigned names, handles;
    bool dir;
};

struct name {
    char path[200];
    struct inode *now, *sure;
};

struct sim {
    struct io base;
    uint64_t rng;
    struct list_head inodes;
    struct name names[NAMES_MAX];
    unsigned names_n;
    uint64_t calls, fail_at, crash_at, capacity;
    enum err fail_with;
    bool fail_forever, crashed;
    unsigned life; /* handles of an earlier one are dead */
    uint64_t mono_ns;
    bool locked;
};

struct sim_file {
    struct io_file base;
    struct sim *s;
    struct inode *in;
    unsigned life;
    bool dsync, direct;
};

struct sim_lock {
    struct io_lock base;
    struct sim *s;
    unsigned life;
};

static const struct io_ops sim_ops;

static struct sim *sim_of(const struct io *io)
{
    return (struct sim *)(uintptr_t)io;
}

static uint64_t rnd(struct sim *s) /* splitmix64 */
{
    return rng_next(&s->rng);
}

static bool chance(struct sim *s, unsigned percent)
{
    return rnd(s) % 100 < percent;
}

/* ---- faults ---- */

/* Counts a call. ERR_OK, or how it fails; *partly: after doing some of its work. */
static enum err fault(struct sim *s, bool mutating, bool *partly, struct errinfo *info)
{
    s->calls++;
    s->mono_ns += 1000;
    *partly = false;
    if (s->crashed)
        return errinfo_set(info, ERR_IO, "the simulated machine is off");
    if (s->crash_at && s->calls >= s->crash_at) {
        s->crashed = true;
        *partly = true;
        return errinfo_set(info, ERR_IO, "the simulated machine stops");
    }
    if (s->fail_at && s->calls >= s->fail_at &&
        (mutating || (s->calls == s->fail_at && s->fail_with != ERR_NO_SPACE))) {
        if (!s->fail_forever)
            s->fail_at = 0;
        *partly = chance(s, 50);
        return errinfo_set(info, s->fail_with, "simulated failure");
    }
    return ERR_OK;
}

static enum err alive(struct sim_file *f, struct errinfo *info)
{
    return f->life == f->s->life ? ERR_OK
                                 : errinfo_set(info, ERR_IO, "a handle of before the crash");
}

/* ---- inodes ---- */

static struct inode *inode_new(struct sim *s)
{
    struct inode *in = xcalloc(1, sizeof *in);

    list_push_back(&s->inodes, &in->link);
    return in;
}

static void inode_drop(struct inode *in)
{
    if (in->names || in->handles)
        return;
    list_remove(&in->link);
    free(in->now);
    free(in->sure);
    free(in->dirty);
    free(in);
}

static void inode_room(struct inode *in, uint64_t size)
{
    uint64_t cap = in->cap ? in->cap : 4096;

    while (cap < size)
        cap *= 2;
    if (cap == in->cap)
        return;
    in->now = xrealloc(in->now, cap);
    in->sure = xrealloc(in->sure, cap);
    in->dirty = xrealloc(in->dirty, cap / SECTOR);
    memset(in->now + in->cap, 0, cap - in->cap);
    memset(in->sure + in->cap, 0, cap - in->cap);
    memset(in->dirty + in->cap / SECTOR, 0, (cap - in->cap) / SECTOR);
    in->cap = cap;
}

static uint64_t used(struct sim *s)
{
    struct inode *in;
    uint64_t n = 0;

    list_for_each(in, &s->inodes, struct inode, link) n += in->size;
    return n;
}

static void sector_sure(struct inode *in, uint64_t i)
{
    memcpy(in->sure + i * SECTOR, in->now + i * SECTOR, SECTOR);
    in->dirty[i] = 0;
}

/* The crash decides about one sector. */
static void sector_decide(struct sim *s, struct inode *in, uint64_t i)
{
    uint64_t r = rnd(s) % 100, k;

    if (r < 45) {
        sector_sure(in, i);
    } else if (r < 50) {
        for (k = 0; k < SECTOR; k++)
            in->sure[i * SECTOR + k] = (uint8_t)rnd(s);
    } /* else it is lost: what was sure stays */
    in->dirty[i] = 0;
}

static void inode_crash(struct sim *s, struct inode *in)
{
    uint64_t i;

    for (i = 0; i < in->cap / SECTOR; i++)
        if (in->dirty[i])
            sector_decide(s, in, i);
    if (in->size != in->sure_size && chance(s, 50))
        in->sure_size = in->size;
    in->size = in->sure_size;
    if (in->cap == 0)
        return;
    memset(in->sure + in->size, 0, in->cap - in->size); /* a file that grows again reads zeros */
    memcpy(in->now, in->sure, in->cap);
}

static void inode_sure(struct inode *in)
{
    uint64_t i;

    for (i = 0; i < in->cap / SECTOR; i++)
        if (in->dirty[i])
            sector_sure(in, i);
    in->sure_size = in->size;
    if (in->cap)
        memset(in->sure + in->size, 0, in->cap - in->size);
}

/* Until it is synced a crash may undo it: then what was cut off is there again, as it was. */
static void inode_resize(struct inode *in, uint64_t size)
{
    uint64_t i;

    if (size < in->size) {
        memset(in->now + size, 0, in->size - size);
        for (i = (size + SECTOR - 1) / SECTOR; i < in->cap / SECTOR; i++)
            in->dirty[i] = 0;
    }
    in->size = size;
}

static void inode_write(struct inode *in, const uint8_t *p, uint64_t n, uint64_t off)
{
    uint64_t i;

    if (n == 0)
        return;
    inode_room(in, off + n);
    memcpy(in->now + off, p, n);
    for (i = off / SECTOR; i <= (off + n - 1) / SECTOR; i++)
        in->dirty[i] = 1;
    if (off + n > in->size)
        in->size = off + n;
}

/* ---- names ---- */

static struct name *name_find(struct sim *s, const char *path, bool make)
{
    unsigned i, hole = NAMES_MAX;

    for (i = 0; i < s->names_n; i++) {
        if (strcmp(s->names[i].path, path) == 0)
            return &s->names[i];
        if (!s->names[i].now && !s->names[i].sure && hole == NAMES_MAX)
            hole = i;
    }
    if (!make)
        return NULL;
    if (hole == NAMES_MAX) {
        ASSERT(s->names_n < NAMES_MAX);
        hole = s->names_n++;
    }
    ASSERT(strlen(path) < sizeof s->names[0].path);
    memset(&s->names[hole], 0, sizeof s->names[0]);
    memcpy(s->names[hole].path, path, strlen(path) + 1);
    return &s->names[hole];
}

static void point(struct inode **at, struct inode *to)
{
    struct inode *old = *at;

    if (to)
        to->names++;
    *at = to;
    if (old) {
        old->names--;
        inode_drop(old);
    }
}

static bool in_dir(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

/* ---- operations ---- */

static enum err s_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                       struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct name *n = name_find(s, path, false);
    struct sim_file *f;
    bool partly;
    enum err e = fault(s, flags & IO_CREATE, &partly, info);

    if (e)
        return e;
    if (n && n->now && flags & IO_EXCL)
        return errinfo_set(info, ERR_EXISTS, "%s", path);
    if ((!n || !n->now) && !(flags & IO_CREATE))
        return errinfo_set(info, ERR_NOT_FOUND, "opening %s: no such file", path);
    if (!n || !n->now) {
        n = name_find(s, path, true);
        point(&n->now, inode_new(s));
    }
    if (flags & IO_TRUNC)
        inode_resize(n->now, 0);
    f = xcalloc(1, sizeof *f);
    f->base.ops = &sim_ops;
    f->s = s;
    f->in = n->now;
    f->in->handles++;
    f->life = s->life;
    f->dsync = flags & IO_DSYNC;
    f->direct = flags & IO_DIRECT;
    *out = &f->base;
    return ERR_OK;
}

static void s_close(struct io_file *bf)
{
    struct sim_file *f = (struct sim_file *)bf;

    f->in->handles--;
    inode_drop(f->in);
    free(f);
}

static enum err s_pread(struct io_file *bf, void *buf, size_t n, uint64_t off, size_t *got,
                        struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    bool partly;
    enum err e = alive(f, info);

    if (!e)
        e = fault(f->s, !MUTATING, &partly, info);
    if (e)
        return e;
    if (off >= f->in->size)
        return ERR_OK;
    *got = n < f->in->size - off ? n : f->in->size - off;
    memcpy(buf, f->in->now + off, *got);
    return ERR_OK;
}

static enum err s_pwrite(struct io_file *bf, const void *buf, size_t n, uint64_t off, bool durable,
                         struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    uint64_t i, grows = off + n > f->in->size ? off + n - f->in->size : 0;
    bool partly = false;
    enum err e = alive(f, info);

    ASSERT(!f->direct || ((n | off | (uintptr_t)buf) & 4095) == 0);
    if (!e)
        e = fault(f->s, MUTATING, &partly, info);
    if (e) {
        if (e == ERR_IO && f->life == f->s->life && partly) /* all or some of it, unsynced */
            inode_write(f->in, buf, chance(f->s, 50) ? n : rnd(f->s) % (n + 1), off);
        return e;
    }
    if (grows && used(f->s) + grows > f->s->capacity)
        return errinfo_set(info, ERR_NO_SPACE, "the simulated disk is full");
    inode_write(f->in, buf, n, off);
    if (durable && f->dsync) {
        for (i = off / SECTOR; n && i <= (off + n - 1) / SECTOR; i++)
            sector_sure(f->in, i);
        if (f->in->size > f->in->sure_size)
            f->in->sure_size = f->in->size;
    } else if (durable) {
        inode_sure(f->in);
    }
    return ERR_OK;
}

static enum err s_sync(struct io_file *bf, struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    bool partly;
    uint64_t i;
    enum err e = alive(f, info);

    if (!e)
        e = fault(f->s, MUTATING, &partly, info);
    if (!e)
        inode_sure(f->in);
    else if (!f->s->crashed && f->life == f->s->life && !f->direct)
        for (i = 0; i < f->in->cap / SECTOR; i++)
            if (f->in->dirty[i] && chance(f->s, 50))
                f->in->dirty[i] = 0; /* dropped from the cache: a later sync will not write it */
    return e;
}

static enum err s_size(struct io_file *bf, uint64_t *size, struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    bool partly;
    enum err e = alive(f, info);

    if (!e)
        e = fault(f->s, !MUTATING, &partly, info);
    *size = f->in->size;
    return e;
}

static enum err s_truncate(struct io_file *bf, uint64_t size, struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    bool partly;
    enum err e = alive(f, info);

    if (!e)
        e = fault(f->s, MUTATING, &partly, info);
    if (e)
        return e;
    inode_room(f->in, size ? size : 1);
    inode_resize(f->in, size);
    return ERR_OK;
}

static enum err s_allocate(struct io_file *bf, uint64_t off, uint64_t len, struct errinfo *info)
{
    struct sim_file *f = (struct sim_file *)bf;
    bool partly;
    enum err e = alive(f, info);

    if (!e)
        e = fault(f->s, MUTATING, &partly, info);
    if (e)
        return e;
    if (off + len > f->in->size) {
        if (used(f->s) + (off + len - f->in->size) > f->s->capacity)
            return errinfo_set(info, ERR_NO_SPACE, "the simulated disk is full");
        inode_room(f->in, off + len);
        f->in->size = off + len;
    }
    return ERR_OK;
}

static enum err s_rename(struct io *io, const char *from, const char *to, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct name *a, *b;
    bool partly;
    enum err e = fault(s, MUTATING, &partly, info);

    if (e)
        return e;
    a = name_find(s, from, false);
    if (!a || !a->now)
        return errinfo_set(info, ERR_NOT_FOUND, "renaming %s: no such file", from);
    b = name_find(s, to, true);
    if (a == b)
        return ERR_OK;
    point(&b->now, a->now);
    point(&a->now, NULL);
    return ERR_OK;
}

static enum err s_unlink(struct io *io, const char *path, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct name *n = name_find(s, path, false);
    bool partly;
    enum err e = fault(s, MUTATING, &partly, info);

    if (e)
        return e;
    if (!n || !n->now)
        return errinfo_set(info, ERR_NOT_FOUND, "removing %s: no such file", path);
    point(&n->now, NULL);
    return ERR_OK;
}

static enum err s_mkdir(struct io *io, const char *path, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct name *n;
    bool partly;
    enum err e = fault(s, MUTATING, &partly, info);

    if (e)
        return e;
    n = name_find(s, path, true);
    if (!n->now) {
        point(&n->now, inode_new(s));
        n->now->dir = true;
        point(&n->sure, n->now); /* directories are made once; their loss is not of interest */
    }
    return ERR_OK;
}

static enum err s_sync_dir(struct io *io, const char *path, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    bool partly;
    unsigned i;
    enum err e = fault(s, MUTATING, &partly, info);

    if (e)
        return e;
    for (i = 0; i < s->names_n; i++)
        if (in_dir(s->names[i].path, path) && s->names[i].sure != s->names[i].now)
            point(&s->names[i].sure, s->names[i].now);
    return ERR_OK;
}

static int path_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err s_list(struct io *io, const char *dir, void (*cb)(void *arg, const char *name),
                       void *arg, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    char **found;
    bool partly;
    unsigned i, n = 0;
    enum err e = fault(s, !MUTATING, &partly, info);

    if (e)
        return e;
    found = xcalloc(s->names_n + 1, sizeof *found);
    for (i = 0; i < s->names_n; i++)
        if (s->names[i].now && in_dir(s->names[i].path, dir))
            found[n++] = xstrdup(s->names[i].path + strlen(dir) + 1);
    qsort(found, n, sizeof *found, path_order);
    for (i = 0; i < n; i++) {
        cb(arg, found[i]);
        free(found[i]);
    }
    free(found);
    return ERR_OK;
}

static enum err s_stat(struct io *io, const char *path, uint64_t *size, bool *exists,
                       struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct name *n = name_find(s, path, false);
    bool partly;
    enum err e = fault(s, !MUTATING, &partly, info);

    *exists = !e && n && n->now;
    *size = *exists ? n->now->size : 0;
    return e;
}

static enum err s_free_space(struct io *io, const char *path, uint64_t *bytes, struct errinfo *info)
{
    struct sim *s = sim_of(io);
    uint64_t u = used(s);

    *bytes = s->capacity == UINT64_MAX ? 1ull << 40 : s->capacity > u ? s->capacity - u : 0;
    return ERR_OK;
}

static enum err s_lock(struct io *io, const char *path, struct io_lock **out, long *pid,
                       struct errinfo *info)
{
    struct sim *s = sim_of(io);
    struct sim_lock *l;

    if (s->locked) {
        *pid = 1;
        return errinfo_set(info, ERR_LOCKED, "%s is held", path);
    }
    s->locked = true;
    l = xcalloc(1, sizeof *l);
    l->base.ops = &sim_ops;
    l->s = s;
    l->life = s->life;
    *out = &l->base;
    return ERR_OK;
}

static void s_unlock(struct io_lock *bl)
{
    struct sim_lock *l = (struct sim_lock *)bl;

    if (l->life == l->s->life)
        l->s->locked = false;
    free(l);
}

static int64_t s_wall_ms(struct io *io)
{
    return 1700000000000 + (int64_t)(sim_of(io)->mono_ns / 1000000);
}

static uint64_t s_mono_ns(struct io *io)
{
    return sim_of(io)->mono_ns += 100;
}

static void s_random(struct io *io, void *buf, size_t n)
{
    uint8_t *p = buf;

    while (n--)
        *p++ = (uint8_t)rnd(sim_of(io));
}

static const struct io_ops sim_ops = {
    .open = s_open,
    .close = s_close,
    .pread = s_pread,
    .pread_now = s_pread, /* what is on this disk is in memory */
    .pwrite = s_pwrite,
    .sync = s_sync,
    .size = s_size,
    .truncate = s_truncate,
    .allocate = s_allocate,
    .rename = s_rename,
    .unlink = s_unlink,
    .mkdir = s_mkdir,
    .sync_dir = s_sync_dir,
    .list = s_list,
    .stat = s_stat,
    .free_space = s_free_space,
    .lock = s_lock,
    .unlock = s_unlock,
    .wall_ms = s_wall_ms,
    .mono_ns = s_mono_ns,
    .random = s_random,
};

/* ---- what tests do ---- */

struct io *io_sim_new(uint64_t seed)
{
    struct sim *s = xcalloc(1, sizeof *s);

    s->base.ops = &sim_ops;
    s->rng = seed;
    s->capacity = UINT64_MAX;
    s->mono_ns = 1000000000;
    list_init(&s->inodes);
    return &s->base;
}

void io_sim_free(struct io **io)
{
    struct sim *s = sim_of(*io);
    unsigned i;

    for (i = 0; i < s->names_n; i++) {
        point(&s->names[i].now, NULL);
        point(&s->names[i].sure, NULL);
    }
    ASSERT(list_empty(&s->inodes)); /* every handle was closed */
    free(s);
    *io = NULL;
}

uint64_t io_sim_calls(const struct io *io)
{
    return sim_of(io)->calls;
}

void io_sim_fail(struct io *io, uint64_t n, enum err e, bool forever)
{
    struct sim *s = sim_of(io);

    s->fail_at = n ? s->calls + n : 0;
    s->fail_with = e;
    s->fail_forever = forever;
}

void io_sim_crash_at(struct io *io, uint64_t n)
{
    sim_of(io)->crash_at = n ? sim_of(io)->calls + n : 0;
}

bool io_sim_crashed(const struct io *io)
{
    return sim_of(io)->crashed;
}

/* Changes of names that were not synced are kept or lost together: a file system orders them, so
 * that a later renaming never survives without an earlier one. */
static void names_crash(struct sim *s)
{
    bool kept = chance(s, 50);
    unsigned i;

    for (i = 0; i < s->names_n; i++)
        if (s->names[i].now != s->names[i].sure && kept)
            point(&s->names[i].sure, s->names[i].now);
    for (i = 0; i < s->names_n; i++)
        point(&s->names[i].now, s->names[i].sure);
}

void io_sim_crash(struct io *io)
{
    struct sim *s = sim_of(io);
    struct inode *in;

    names_crash(s);
    list_for_each(in, &s->inodes, struct inode, link) inode_crash(s, in);
    s->crashed = false;
    s->crash_at = s->fail_at = 0;
    s->locked = false;
    s->life++;
}

void io_sim_advance(struct io *io, uint64_t ns)
{
    sim_of(io)->mono_ns += ns;
}

void io_sim_capacity(struct io *io, uint64_t bytes)
{
    sim_of(io)->capacity = bytes;
}

bool io_sim_flip(struct io *io, const char *path, uint64_t byte, unsigned bit)
{
    struct name *n = name_find(sim_of(io), path, false);

    if (!n || !n->now || byte >= n->now->size)
        return false;
    inode_room(n->now, byte + 1);
    n->now->now[byte] ^= (uint8_t)(1u << bit);
    n->now->sure[byte] ^= (uint8_t)(1u << bit);
    return true;
}

void io_sim_each(struct io *io, void (*fn)(void *arg, const char *path, uint64_t size), void *arg)
{
    struct sim *s = sim_of(io);
    unsigned i;

    for (i = 0; i < s->names_n; i++)
        if (s->names[i].now && !s->names[i].now->dir)
            fn(arg, s->names[i].path, s->names[i].now->size);
}
