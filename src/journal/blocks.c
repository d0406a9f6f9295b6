/* Blocks of data files in memory: see blocks.h.
 *
 * Memory comes in slabs of two blocks, one huge page. A block is spare (in nobody's name), named (in
 * the table, by file and number) or both loading and named. Which one goes when another is needed:
 * one picked by chance among those that were not used lately. So of a set that does not fit, read
 * over and over in the same order, a part stays, where going by age would always throw away what is
 * read next.
 *
 * Memory grows to what may be used (bytes_max) when it is of use: readers take the first FIRST_SLABS
 * themselves. More come from the keeper (keep.c), when blocks are asked for that went not long ago
 * (`gone`), and to read them again took as long as to make memory for two: a file that is read once,
 * however large, does not make it grow.
 * For memory that is new to a process can be dearer than a read from the disk, above all on a virtual
 * machine whose host has to find it first; a reader would wait for that. */
#include "journal/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/turns.h"

#define SLAB_BLOCKS 2u
#define SLAB_BYTES  (SLAB_BLOCKS * BLOCK_BYTES)
#define PROBES      16u
#define WANTS       256u              /* blocks of which it is known how much was wanted */
#define WANT_EACH   (BLOCK_BYTES / 4) /* four batches are worth a block, … */
#define WANT_TIMES  8u                /* … or an eighth of its bytes */
#define DIRECT      4096u
#define PIECE       (512u << 10)
#define AT_ONCE     4u /* blocks that are read; */
#define AT_ONCE_SHY 1u /* while there are writers */
#define FIRST_SLABS (BLOCKS_FIRST_BYTES / SLAB_BYTES)
#define GONE        4096u /* blocks that went, of which it is known; a power of two */

struct block {
    struct block *next; /* in its bucket */
    uint64_t file_id;
    uint32_t no, valid;
    uint32_t refs;
    bool named, loading;
    uint64_t used; /* c->loads then */
    uint64_t used_ns;
    uint8_t *mem; /* NULL: none now */
};

struct want {
    uint64_t file_id;
    uint32_t no;
    uint64_t weight;
};

struct blocks {
    struct io *io;
    struct io_event *hungry; /* or NULL */
    struct turns *turns;     /* at the disk */
    struct io_mutex lock;    /* of all below */
    struct io_cond loaded;
    struct block *v;  /* SLAB_BLOCKS of each slab in a row */
    uint32_t n, most; /* of them; that may have memory now */
    struct block **buckets;
    uint32_t buckets_n;   /* a power of two */
    uint32_t slabs, held; /* held: blocks in use */
    uint32_t nameless;    /* that have memory */
    uint32_t hint;        /* where the last slab was added */
    uint32_t top;         /* none behind it has memory */
    uint64_t loads, chance;
    uint64_t load_ns;   /* what a read takes, of late, */
    uint64_t regret_ns; /* and what those took that more room had spared, */
    uint64_t price_ns;  /* which is due when they come to this */
    struct want wants[WANTS];
    uint64_t gone[GONE]; /* hashes of their names */
};

struct blocks *blocks_new(struct io *io, uint64_t bytes_max, struct io_event *hungry)
{
    struct blocks *c = xcalloc(1, sizeof *c);

    c->io = io;
    c->hungry = hungry;
    c->n = c->most = (uint32_t)(bytes_max / SLAB_BYTES) * SLAB_BLOCKS;
    c->v = xcalloc(c->n ? c->n : 1, sizeof *c->v);
    for (c->buckets_n = 16; c->buckets_n < c->n; c->buckets_n *= 2)
        ;
    c->buckets = xcalloc(c->buckets_n, sizeof *c->buckets);
    c->chance = 88172645463325252u;
    io_mutex_init(&c->lock);
    io_cond_init(&c->loaded);
    c->turns = turns_new();
    return c;
}

void blocks_free(struct blocks **cp)
{
    struct blocks *c = *cp;
    uint32_t i;

    if (!c)
        return;
    ASSERT(c->held == 0);
    for (i = 0; i < c->n; i += SLAB_BLOCKS)
        huge_free(c->v[i].mem, SLAB_BYTES);
    turns_free(&c->turns);
    io_cond_fini(&c->loaded);
    io_mutex_fini(&c->lock);
    free(c->buckets);
    free(c->v);
    free(c);
    *cp = NULL;
}

const uint8_t *block_mem(const struct block *b)
{
    return b->mem;
}

/* ---- the table ---- */

static uint64_t mix(uint64_t file_id, uint32_t no)
{
    uint64_t h = (file_id * 0x9e3779b97f4a7c15u) ^ no;

    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}

static struct block **bucket_of(struct blocks *c, uint64_t file_id, uint32_t no)
{
    return &c->buckets[mix(file_id, no) & (c->buckets_n - 1)];
}

static struct block *find(struct blocks *c, uint64_t file_id, uint32_t no)
{
    struct block *b = *bucket_of(c, file_id, no);

    while (b && (b->file_id != file_id || b->no != no))
        b = b->next;
    return b;
}

static void name_drop(struct blocks *c, struct block *b)
{
    struct block **at = bucket_of(c, b->file_id, b->no);

    if (!b->named)
        return;
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    b->named = false;
    c->nameless++;
}

static void name_give(struct blocks *c, struct block *b, uint64_t file_id, uint32_t no)
{
    struct block **at = bucket_of(c, file_id, no);

    b->file_id = file_id;
    b->no = no;
    b->valid = 0;
    b->named = true;
    b->next = *at;
    *at = b;
    c->nameless--;
}

/* ---- room ---- */

static uint32_t by_chance(struct blocks *c, uint32_t n)
{
    c->chance ^= c->chance << 13;
    c->chance ^= c->chance >> 7;
    c->chance ^= c->chance << 17;
    return (uint32_t)(c->chance >> 16) % n;
}

/* The memory of two blocks, one huge page, becomes theirs. NULL: there may be no more. */
static struct block *slab_take(struct blocks *c, uint8_t *mem)
{
    struct block *first = NULL;
    uint32_t i;

    for (i = 0; i < c->n && !first; i += SLAB_BLOCKS)
        first = c->v[i].mem ? NULL : &c->v[i];
    if (!first)
        return NULL;
    for (i = 0; i < SLAB_BLOCKS; i++)
        first[i].mem = mem + (size_t)i * BLOCK_BYTES;
    c->slabs++;
    c->nameless += SLAB_BLOCKS;
    c->hint = (uint32_t)(first - c->v);
    if (c->top < c->hint + SLAB_BLOCKS)
        c->top = c->hint + SLAB_BLOCKS;
    return first;
}

static bool may_grow(const struct blocks *c)
{
    return c->slabs * SLAB_BLOCKS < c->most;
}

static struct block *slab_add(struct blocks *c)
{
    uint8_t *mem = may_grow(c) ? huge_new(SLAB_BYTES) : NULL;

    return mem ? slab_take(c, mem) : NULL;
}

static bool is_free(const struct block *b)
{
    return b->mem && b->refs == 0 && !b->loading;
}

/* One that has no name. */
static struct block *spare_find(struct blocks *c)
{
    uint32_t i;

    for (i = 0; i < c->top && c->nameless; i++) {
        struct block *b = &c->v[(c->hint + i) % c->top];

        if (is_free(b) && !b->named)
            return b;
    }
    return NULL;
}

/* One that nobody uses, if possible none that was used lately. */
static struct block *victim(struct blocks *c)
{
    struct block *best = NULL;
    uint32_t i;

    for (i = 0; i < PROBES; i++) {
        struct block *b = &c->v[by_chance(c, c->top)];

        if (!is_free(b))
            continue;
        if (!b->named || c->loads - b->used > c->slabs)
            return b;
        if (!best || b->used < best->used)
            best = b;
    }
    for (i = 0; i < c->top && !best; i++)
        if (is_free(&c->v[(c->hint + i) % c->top]))
            best = &c->v[(c->hint + i) % c->top];
    return best;
}

static struct block *room(struct blocks *c)
{
    struct block *b;

    b = spare_find(c);
    if (!b && c->slabs < FIRST_SLABS)
        b = slab_add(c);
    if (!b && c->top)
        b = victim(c);
    if (!b)
        b = slab_add(c);
    if (b && b->named) {
        c->gone[mix(b->file_id, b->no) % GONE] = mix(b->file_id, b->no);
        name_drop(c, b);
    }
    return b;
}

/* ---- reading ---- */

/* Reads [from, to) of the block; while there are writers, in pieces, so that a write waits behind one
 * piece at most: disks may do one thing after the other, and behind a read of a MiB a write of 0.1 ms
 * takes 0.7. */
static enum err load_pieces(struct jfile *f, struct io_file *fd, struct block *b, size_t from,
                            size_t to, size_t *got, struct errinfo *info)
{
    uint64_t start = (uint64_t)b->no * BLOCK_BYTES;
    size_t n, part = 0;
    enum err e = ERR_OK;

    for (*got = 0, n = 0; !e && from < to && part == n; from += n) {
        n = to - from > PIECE && writers_about(f->j) ? PIECE : to - from;
        e = io_pread(fd, b->mem + from, n, start + from, &part, info);
        *got += part;
    }
    return e;
}

/* Reads what the file has of the block behind its first `from` bytes. */
static enum err load(struct blocks *c, struct jfile *f, struct block *b, uint32_t from,
                     uint32_t *valid, struct errinfo *info)
{
    uint64_t start = (uint64_t)b->no * BLOCK_BYTES, used = atomic_load(&f->used), end;
    struct io_file *fd = NULL;
    char path[512];
    size_t got = 0;
    enum err e;

    end = used < start + BLOCK_BYTES ? used : start + BLOCK_BYTES;
    *valid = from;
    if (end <= start + from || from % DIRECT)
        return ERR_OK;
    jfile_path(f->j, f->id, f->kind, false, path, sizeof path);
    e = io_open(c->io, path, IO_RDONLY | IO_DIRECT, &fd, info);
    if (!e)
        e = load_pieces(f, fd, b, from, (end - start + DIRECT - 1) & ~(size_t)(DIRECT - 1), &got,
                        info);
    io_close(&fd);
    if (e)
        return e;
    *valid = start + from + got < end ? from + (uint32_t)got : (uint32_t)(end - start);
    return ERR_OK;
}

static unsigned at_once(const struct jfile *f)
{
    return writers_about(f->j) ? AT_ONCE_SHY : AT_ONCE;
}

/* In its turn (turns.h); without threads there is nobody to wait for. */
static enum err load_in_turn(struct blocks *c, struct jfile *f, struct block *b, uint32_t from,
                             uint32_t *valid, struct errinfo *info)
{
    bool turns = f->j->conf.threads;
    enum err e;

    if (turns)
        turns_take(c->turns, f->id << 32 | b->no, at_once(f));
    e = load(c, f, b, from, valid, info);
    if (turns)
        turns_pass(c->turns, at_once(f));
    return e;
}

/* b is the caller's; the lock is held, but not while it is read. */
static enum err fill(struct blocks *c, struct jfile *f, struct block *b, struct errinfo *info)
{
    uint32_t from = b->valid, valid;
    uint64_t began = io_mono_ns(c->io);
    enum err e;

    b->loading = true;
    c->loads++;
    io_mutex_unlock(&c->lock);
    e = load_in_turn(c, f, b, from, &valid, info);
    io_mutex_lock(&c->lock);
    c->load_ns = (7 * c->load_ns + io_mono_ns(c->io) - began) / 8;
    b->loading = false;
    if (e)
        name_drop(c, b);
    else
        b->valid = valid;
    io_cond_broadcast(&c->loaded);
    return e;
}

/* A block is read that was there a short while ago. */
static void regret(struct blocks *c)
{
    uint64_t before = c->regret_ns;

    if (c->slabs * SLAB_BLOCKS >= c->n)
        return;
    c->regret_ns += c->load_ns;
    if (c->hungry && before <= c->price_ns && c->regret_ns > c->price_ns)
        io_event_signal(c->hungry);
}

/* For what a reader wants. */
static void named_new(struct blocks *c, struct block *b, uint64_t file_id, uint32_t no)
{
    uint64_t h = mix(file_id, no);

    if (c->gone[h % GONE] == h)
        regret(c);
    name_give(c, b, file_id, no);
}

static void hold(struct blocks *c, struct block *b)
{
    c->held += b->refs++ == 0;
    b->used = c->loads;
}

static void let_go(struct blocks *c, struct block *b)
{
    ASSERT(b->refs > 0);
    if (--b->refs == 0) {
        c->held--;
        b->used_ns = io_mono_ns(c->io);
    }
}

enum err blocks_get(struct blocks *c, struct jfile *f, uint32_t no, uint32_t need, bool load_it,
                    struct block **out, struct errinfo *info)
{
    struct block *b;
    enum err e = ERR_OK;

    *out = NULL;
    io_mutex_lock(&c->lock);
    b = find(c, f->id, no);
    if (!b && load_it && (b = room(c)))
        named_new(c, b, f->id, no);
    if (!b) {
        io_mutex_unlock(&c->lock);
        return ERR_AGAIN;
    }
    hold(c, b);
    while (b->loading && b->valid < need && load_it)
        io_cond_wait(&c->loaded, &c->lock);
    if (b->valid < need && b->named && load_it)
        e = fill(c, f, b, info);
    if (!e && b->valid < need)
        e = ERR_AGAIN;
    if (e)
        let_go(c, b);
    else
        *out = b;
    io_mutex_unlock(&c->lock);
    return e;
}

void blocks_ahead(struct blocks *c, struct jfile *f, uint32_t no)
{
    struct block *b;

    io_mutex_lock(&c->lock);
    if (c->held < c->n / 2 && !find(c, f->id, no) && (b = room(c))) {
        named_new(c, b, f->id, no);
        hold(c, b);
        fill(c, f, b, NULL);
        let_go(c, b);
    }
    io_mutex_unlock(&c->lock);
}

bool blocks_has(struct blocks *c, const struct jfile *f, uint32_t no, uint32_t need)
{
    const struct block *b;
    bool has;

    io_mutex_lock(&c->lock);
    b = find(c, f->id, no);
    has = b && b->valid >= need;
    io_mutex_unlock(&c->lock);
    return has;
}

/* ---- more and less ---- */

bool blocks_grow(struct blocks *c, uint64_t price_ns)
{
    uint8_t *mem = NULL;
    size_t i;
    bool due;

    io_mutex_lock(&c->lock);
    c->price_ns = price_ns;
    due = c->regret_ns > price_ns && may_grow(c) && c->nameless == 0;
    if (may_grow(c) && (due || c->nameless))
        c->regret_ns = 0;
    io_mutex_unlock(&c->lock);
    if (due)
        mem = huge_new(SLAB_BYTES);
    if (!mem)
        return false;
    for (i = 0; i < SLAB_BYTES; i += DIRECT)
        ((volatile uint8_t *)mem)[i] = 0;
    io_mutex_lock(&c->lock);
    if (!may_grow(c) || !slab_take(c, mem)) {
        huge_free(mem, SLAB_BYTES);
        due = false;
    }
    io_mutex_unlock(&c->lock);
    return due;
}

bool blocks_short(struct blocks *c)
{
    bool is;

    io_mutex_lock(&c->lock);
    is = c->regret_ns > c->price_ns && !may_grow(c);
    if (is)
        c->regret_ns = 0;
    io_mutex_unlock(&c->lock);
    return is;
}

void blocks_limit(struct blocks *c, uint64_t bytes_max)
{
    uint64_t n = bytes_max / SLAB_BYTES * SLAB_BLOCKS;

    io_mutex_lock(&c->lock);
    c->most = n < c->n ? (uint32_t)n : c->n;
    io_mutex_unlock(&c->lock);
}

void block_unref(struct blocks *c, struct block *b)
{
    io_mutex_lock(&c->lock);
    let_go(c, b);
    io_mutex_unlock(&c->lock);
}

/* ---- what is worth it ---- */

bool blocks_worth(struct blocks *c, const struct jfile *f, uint32_t no, unsigned n, size_t bytes)
{
    uint64_t more = (uint64_t)n * WANT_EACH > bytes * WANT_TIMES ? (uint64_t)n * WANT_EACH
                                                                 : (uint64_t)bytes * WANT_TIMES;
    struct want *w;
    bool worth;

    io_mutex_lock(&c->lock);
    w = &c->wants[mix(f->id, no) % WANTS];
    if (w->file_id != f->id || w->no != no)
        *w = (struct want){f->id, no, 0};
    w->weight += more;
    worth = w->weight >= BLOCK_BYTES;
    io_mutex_unlock(&c->lock);
    return worth;
}

bool blocks_scarce(struct blocks *c)
{
    bool scarce;

    io_mutex_lock(&c->lock);
    scarce = c->held > c->n / 4 * 3;
    io_mutex_unlock(&c->lock);
    return scarce;
}

void blocks_forget(struct blocks *c, uint64_t file_id, uint32_t no)
{
    struct block *b;

    io_mutex_lock(&c->lock);
    if ((b = find(c, file_id, no)) && !b->loading)
        name_drop(c, b);
    io_mutex_unlock(&c->lock);
}

void blocks_forget_file(struct blocks *c, uint64_t file_id)
{
    uint32_t i;

    io_mutex_lock(&c->lock);
    for (i = 0; i < c->n; i++)
        if (c->v[i].named && c->v[i].file_id == file_id && !c->v[i].loading)
            name_drop(c, &c->v[i]);
    io_mutex_unlock(&c->lock);
}

/* ---- memory given back ---- */

static bool slab_idle(const struct block *first, uint64_t now_ns)
{
    uint32_t i;

    for (i = 0; i < SLAB_BLOCKS; i++)
        if (!is_free(&first[i]) || (first[i].named && now_ns - first[i].used_ns < BLOCKS_IDLE_NS))
            return false;
    return true;
}

void blocks_shrink(struct blocks *c, uint64_t now_ns)
{
    uint32_t i, k;

    io_mutex_lock(&c->lock);
    for (i = 0; i < c->n && c->slabs; i += SLAB_BLOCKS) {
        if (!slab_idle(&c->v[i], now_ns))
            continue;
        huge_free(c->v[i].mem, SLAB_BYTES);
        for (k = i; k < i + SLAB_BLOCKS; k++) {
            name_drop(c, &c->v[k]);
            c->v[k].mem = NULL;
        }
        c->slabs--;
        c->nameless -= SLAB_BLOCKS;
    }
    while (c->top && !c->v[c->top - 1].mem)
        c->top--;
    io_mutex_unlock(&c->lock);
}

uint64_t blocks_bytes(struct blocks *c)
{
    uint64_t n;

    io_mutex_lock(&c->lock);
    n = (uint64_t)c->slabs * SLAB_BYTES;
    io_mutex_unlock(&c->lock);
    return n;
}
