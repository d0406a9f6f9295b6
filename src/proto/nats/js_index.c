/* See js_index.h. */
#include "proto/nats/js_index.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"

#define CHUNK      4096u
#define NONE       UINT32_MAX /* subject of an entry that is not there any more */
#define FAR        UINT32_MAX /* link of an entry: in far_next or far_prev */
#define TIME_SHIFT 12         /* the lowest bits of an entry's time: its place in its chunk */
#define TIME_MAX   ((int64_t)1 << 50)
#define REUSE_MIN  1024u /* numbers of subjects that are not used any more, to be given anew */
#define ENTRIES    4u    /* that a chunk begins with */
#define FAR_MAX    (1u << 30)

struct entry {
    uint32_t subject, bytes;
    uint32_t next, prev; /* distances; 0: none */
    uint64_t time_at;
};
struct jchunk {
    uint32_t n, cap, live;
    struct entry e[];
};
struct jsubject {
    uint64_t first, last, count;
    uint32_t number;
    uint32_t len;
    uint8_t name[];
};

static unsigned at_of(const struct entry *e)
{
    return (unsigned)(e->time_at & (CHUNK - 1));
}

static int64_t time_of(const struct entry *e)
{
    return (int64_t)(e->time_at >> TIME_SHIFT);
}

static uint64_t time_at(int64_t time_ms, unsigned at)
{
    time_ms = time_ms < 0 ? 0 : time_ms > TIME_MAX ? TIME_MAX : time_ms;
    return (uint64_t)time_ms << TIME_SHIFT | at;
}

/* ---- chunks ---- */

static struct jchunk **chunk_slot(const struct jindex *x, uint64_t number)
{
    if (number < x->chunk_first || number - x->chunk_first >= x->chunks_n)
        return NULL;
    return &x->chunks[number - x->chunk_first];
}

static struct jchunk *chunk_of(const struct jindex *x, uint64_t seq)
{
    struct jchunk **slot = chunk_slot(x, seq / CHUNK);

    return slot ? *slot : NULL;
}

/* Number of the first entry whose place is not below `at`. */
static uint32_t entry_from(const struct jchunk *c, unsigned at)
{
    uint32_t lo = 0, hi = c->n;

    if (c->n && at_of(&c->e[0]) <= at && at - at_of(&c->e[0]) < c->n &&
        at_of(&c->e[at - at_of(&c->e[0])]) == at)
        return at - at_of(&c->e[0]); /* nothing is missing before it: the usual case */
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (at_of(&c->e[mid]) < at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct entry *entry_of(const struct jindex *x, uint64_t seq)
{
    struct jchunk *c = chunk_of(x, seq);
    unsigned at = seq % CHUNK;
    uint32_t i;

    if (!c)
        return NULL;
    i = entry_from(c, at);
    return i < c->n && at_of(&c->e[i]) == at && c->e[i].subject != NONE ? &c->e[i] : NULL;
}

static struct jchunk **chunk_make(struct jindex *x, uint64_t number)
{
    uint64_t need;

    if (!x->chunks_n)
        x->chunk_first = number;
    ASSERT(number >= x->chunk_first);
    need = number - x->chunk_first + 1;
    ASSERT(need < UINT32_MAX / 2);
    if (need > x->chunks_cap) {
        uint32_t cap = x->chunks_cap ? x->chunks_cap : 8;

        while (cap < need)
            cap *= 2;
        x->chunks = xrealloc(x->chunks, cap * sizeof(struct jchunk *));
        x->chunks_cap = cap;
    }
    while (x->chunks_n < need)
        x->chunks[x->chunks_n++] = NULL;
    return &x->chunks[need - 1];
}

static struct entry *entry_new(struct jindex *x, uint64_t seq)
{
    struct jchunk **slot = chunk_make(x, seq / CHUNK), *c = *slot;

    if (!c || c->n == c->cap) {
        uint32_t cap = !c ? ENTRIES : c->cap * 2 < CHUNK ? c->cap * 2 : CHUNK;
        bool fresh = !c;

        c = *slot = xrealloc(c, sizeof *c + cap * sizeof *c->e);
        if (fresh)
            c->n = c->live = 0;
        c->cap = cap;
    }
    c->live++;
    return &c->e[c->n++];
}

/* Chunks at the front of which nothing is left. */
static void chunks_shift(struct jindex *x)
{
    uint32_t i = 0;

    while (i < x->chunks_n && !x->chunks[i])
        i++;
    if (i < 16 && i < x->chunks_n)
        return; /* so that moving costs little for each */
    memmove(x->chunks, x->chunks + i, (x->chunks_n - i) * sizeof(struct jchunk *));
    x->chunks_n -= i;
    x->chunk_first += i;
}

static void entry_drop(struct jindex *x, uint64_t seq, struct entry *e)
{
    struct jchunk **slot = chunk_slot(x, seq / CHUNK), *c = *slot;
    uint32_t i, n = 0;

    e->subject = NONE;
    if (--c->live == 0) {
        free(c);
        *slot = NULL;
        if (slot == x->chunks)
            chunks_shift(x);
        return;
    }
    if (c->live > c->n / 2)
        return;
    for (i = 0; i < c->n; i++)
        if (c->e[i].subject != NONE)
            c->e[n++] = c->e[i];
    c->n = n;
    c->cap = n > ENTRIES ? n : ENTRIES;
    *slot = xrealloc(c, sizeof *c + c->cap * sizeof *c->e);
}

/* ---- links from one to the next with the same subject ---- */

static void link_set(struct u64map *far, uint64_t seq, uint32_t *at, uint64_t distance)
{
    if (*at == FAR)
        u64map_remove(far, seq);
    if (distance < FAR) {
        *at = (uint32_t)distance;
        return;
    }
    *at = FAR;
    if (u64map_put(far, seq, (void *)(uintptr_t)distance))
        ASSERT(!"links to far away are few");
}

static uint64_t link_get(const struct u64map *far, uint64_t seq, uint32_t at)
{
    return at == FAR ? (uint64_t)(uintptr_t)u64map_find(far, seq) : at;
}

static uint64_t next_of(const struct jindex *x, uint64_t seq, const struct entry *e)
{
    uint64_t d = link_get(&x->far_next, seq, e->next);

    return d ? seq + d : 0;
}

static uint64_t prev_of(const struct jindex *x, uint64_t seq, const struct entry *e)
{
    uint64_t d = link_get(&x->far_prev, seq, e->prev);

    return d ? seq - d : 0;
}

/* ---- subjects ---- */

static uint32_t number_new(struct jindex *x)
{
    uint32_t *ready = x->ready, cap = x->ready_cap;

    if (!x->ready_n && x->unused_n > REUSE_MIN && x->unused_n > x->subject_n / 2) {
        x->ready = x->unused;
        x->ready_n = x->unused_n;
        x->ready_cap = x->unused_cap;
        x->unused = ready;
        x->unused_cap = cap;
        x->unused_n = 0;
        x->subjects_age++; /* from now on they mean others */
    }
    if (x->ready_n)
        return x->ready[--x->ready_n];
    if (x->subject_n == x->subject_cap) {
        x->subject_cap = x->subject_cap ? x->subject_cap * 2 : 16;
        x->subject = xrealloc(x->subject, x->subject_cap * sizeof(struct jsubject *));
    }
    return x->subject_n++;
}

static struct jsubject *subject_make(struct jindex *x, struct slice name)
{
    struct jsubject *s = map_find(&x->by_name, name);

    if (s)
        return s;
    s = xmalloc(sizeof *s + name.len);
    *s = (struct jsubject){.len = (uint32_t)name.len};
    if (name.len)
        memcpy(s->name, name.ptr, name.len);
    if (map_put(&x->by_name, slice_of(s->name, s->len), s)) {
        free(s);
        return NULL;
    }
    s->number = number_new(x);
    x->subject[s->number] = s;
    x->subjects++;
    return s;
}

static void subject_drop(struct jindex *x, struct jsubject *s)
{
    if (x->unused_n == x->unused_cap) {
        x->unused_cap = x->unused_cap ? x->unused_cap * 2 : 16;
        x->unused = xrealloc(x->unused, x->unused_cap * sizeof *x->unused);
    }
    x->unused[x->unused_n++] = s->number;
    x->subject[s->number] = NULL;
    x->subjects--;
    map_remove(&x->by_name, slice_of(s->name, s->len));
    free(s);
}

struct slice jindex_subject(const struct jindex *x, uint32_t subject)
{
    const struct jsubject *s = subject < x->subject_n ? x->subject[subject] : NULL;

    return s ? slice_of(s->name, s->len) : SLICE_NULL;
}

static const struct jsubject *subject_find(const struct jindex *x, struct slice name)
{
    return map_find(&x->by_name, name);
}

uint64_t jindex_subject_first(const struct jindex *x, struct slice subject)
{
    const struct jsubject *s = subject_find(x, subject);

    return s ? s->first : 0;
}

uint64_t jindex_subject_last(const struct jindex *x, struct slice subject)
{
    const struct jsubject *s = subject_find(x, subject);

    return s ? s->last : 0;
}

uint64_t jindex_subject_count(const struct jindex *x, struct slice subject)
{
    const struct jsubject *s = subject_find(x, subject);

    return s ? s->count : 0;
}

uint64_t jindex_subject_prev(const struct jindex *x, uint64_t seq)
{
    const struct entry *e = entry_of(x, seq);

    return e ? prev_of(x, seq, e) : 0;
}

uint64_t jindex_subject_next(const struct jindex *x, uint64_t seq)
{
    const struct entry *e = entry_of(x, seq);

    return e ? next_of(x, seq, e) : 0;
}

/* ---- the whole ---- */

void jindex_init(struct jindex *x, uint64_t first, const uint8_t *seed)
{
    *x = (struct jindex){.first = first, .last = first - 1};
    ASSERT(first > 0);
    map_init(&x->by_name, LIMIT_JS_SUBJECTS, seed);
    u64map_init(&x->far_next, FAR_MAX, 0);
    u64map_init(&x->far_prev, FAR_MAX, 0);
}

void jindex_fini(struct jindex *x)
{
    uint32_t i;

    for (i = 0; i < x->chunks_n; i++)
        free(x->chunks[i]);
    for (i = 0; i < x->subject_n; i++)
        free(x->subject[i]);
    free(x->chunks);
    free(x->subject);
    free(x->unused);
    free(x->ready);
    map_fini(&x->by_name);
    u64map_fini(&x->far_next);
    u64map_fini(&x->far_prev);
    *x = (struct jindex){0};
}

void jindex_skip(struct jindex *x, uint64_t seq)
{
    if (seq <= x->last + 1)
        return;
    x->last = seq - 1;
    if (!x->msgs)
        x->first = seq;
}

bool jindex_add(struct jindex *x, uint64_t seq, struct slice subject, uint32_t bytes,
                int64_t time_ms)
{
    struct jsubject *s;
    struct entry *e, *before;

    ASSERT(seq > x->last);
    jindex_skip(x, seq);
    if (!(s = subject_make(x, subject)))
        return false;
    e = entry_new(x, seq);
    *e = (struct entry){
        .subject = s->number, .bytes = bytes, .time_at = time_at(time_ms, seq % CHUNK)};
    if (s->count++) {
        link_set(&x->far_prev, seq, &e->prev, seq - s->last);
        before = entry_of(x, s->last);
        ASSERT(before);
        link_set(&x->far_next, s->last, &before->next, seq - s->last);
    } else {
        s->first = seq;
    }
    s->last = seq;
    x->last = seq;
    x->msgs++;
    x->bytes += bytes;
    return true;
}

static void unlink_entry(struct jindex *x, uint64_t seq, struct entry *e, struct jsubject *s)
{
    uint64_t next = next_of(x, seq, e), prev = prev_of(x, seq, e);

    link_set(&x->far_next, seq, &e->next, 0);
    link_set(&x->far_prev, seq, &e->prev, 0);
    if (prev)
        link_set(&x->far_next, prev, &entry_of(x, prev)->next, next ? next - prev : 0);
    else
        s->first = next;
    if (next)
        link_set(&x->far_prev, next, &entry_of(x, next)->prev, prev ? next - prev : 0);
    else
        s->last = prev;
    if (--s->count == 0)
        subject_drop(x, s);
}

bool jindex_remove(struct jindex *x, uint64_t seq)
{
    struct entry *e = entry_of(x, seq);

    if (!e)
        return false;
    x->msgs--;
    x->bytes -= e->bytes;
    unlink_entry(x, seq, e, x->subject[e->subject]);
    entry_drop(x, seq, e);
    if (seq == x->first)
        x->first = x->msgs ? jindex_next(x, NULL, seq) : x->last + 1;
    return true;
}

void jindex_purge(struct jindex *x, uint64_t first)
{
    while (x->msgs && x->first < first)
        jindex_remove(x, x->first);
    if (!x->msgs) {
        jindex_skip(x, first);
        x->first = x->last + 1;
    }
}

bool jindex_has(const struct jindex *x, uint64_t seq)
{
    return entry_of(x, seq) != NULL;
}

bool jindex_get(const struct jindex *x, uint64_t seq, struct jindex_msg *out)
{
    const struct entry *e = entry_of(x, seq);

    if (!e)
        return false;
    *out = (struct jindex_msg){e->subject, e->bytes, time_of(e)};
    return true;
}

/* ---- filters ---- */

enum { UNKNOWN = 0, TAKES, REFUSES };

struct jfilter {
    uint8_t *known; /* by subject's number */
    uint32_t known_n, age;
    unsigned n;
    bool literal; /* no pattern has wildcards */
    struct slice pattern[];
};

struct jfilter *jfilter_new(const struct slice *patterns, unsigned n)
{
    struct jfilter *f = xcalloc(1, sizeof *f + n * sizeof *f->pattern);
    unsigned i;

    f->n = n;
    f->literal = n > 0;
    for (i = 0; i < n; i++) {
        f->pattern[i] = slice_of(xmemdup(patterns[i].ptr, patterns[i].len), patterns[i].len);
        f->literal = f->literal && !subject_has_wildcard(patterns[i]);
    }
    return f;
}

void jfilter_free(struct jfilter **fp)
{
    struct jfilter *f = *fp;
    unsigned i;

    if (!f)
        return;
    for (i = 0; i < f->n; i++)
        free((void *)(uintptr_t)f->pattern[i].ptr);
    free(f->known);
    free(f);
    *fp = NULL;
}

bool jfilter_all(const struct jfilter *f)
{
    return !f || !f->n;
}

bool jfilter_takes_name(const struct jfilter *f, struct slice subject)
{
    unsigned i;

    for (i = 0; i < f->n; i++)
        if (subject_match(f->pattern[i], subject))
            return true;
    return !f->n;
}

bool jfilter_takes(struct jfilter *f, const struct jindex *x, uint32_t subject)
{
    if (!f || !f->n)
        return true;
    if (f->age != x->subjects_age) {
        f->age = x->subjects_age;
        if (f->known)
            memset(f->known, UNKNOWN, f->known_n);
    }
    if (subject >= f->known_n) {
        uint32_t n = f->known_n ? f->known_n * 2 : 64;

        while (n <= subject)
            n *= 2;
        f->known = xrealloc(f->known, n);
        memset(f->known + f->known_n, UNKNOWN, n - f->known_n);
        f->known_n = n;
    }
    if (f->known[subject] == UNKNOWN)
        f->known[subject] = jfilter_takes_name(f, jindex_subject(x, subject)) ? TAKES : REFUSES;
    return f->known[subject] == TAKES;
}

/* ---- looking along sequences ---- */

/* A walk over what is there: seq is its sequence, e NULL at the end. */
struct walk {
    const struct jindex *x;
    uint64_t chunk, seq;
    uint32_t i;
    const struct entry *e;
};

static void walk_on(struct walk *w)
{
    for (; w->chunk < w->x->chunk_first + w->x->chunks_n; w->chunk++, w->i = 0) {
        const struct jchunk *c = *chunk_slot(w->x, w->chunk);

        for (; c && w->i < c->n; w->i++)
            if (c->e[w->i].subject != NONE) {
                w->e = &c->e[w->i];
                w->seq = w->chunk * CHUNK + at_of(w->e);
                return;
            }
    }
    w->e = NULL;
}

static void walk_from(struct walk *w, const struct jindex *x, uint64_t seq)
{
    const struct jchunk *c;

    if (seq < x->first)
        seq = x->first;
    *w = (struct walk){.x = x, .chunk = seq / CHUNK};
    if (!x->msgs || seq > x->last)
        return;
    if (w->chunk < x->chunk_first)
        w->chunk = x->chunk_first;
    else if ((c = chunk_of(x, seq)))
        w->i = entry_from(c, seq % CHUNK);
    walk_on(w);
}

static void walk_next(struct walk *w)
{
    w->i++;
    walk_on(w);
}

/* Of one subject: along its own messages and along all at once, whichever is there first. */
static uint64_t subject_next(const struct jindex *x, struct slice name, uint64_t seq)
{
    const struct jsubject *s = subject_find(x, name);
    const struct entry *e;
    struct walk w;
    uint64_t at;

    if (!s || seq > s->last)
        return 0;
    if (seq <= s->first)
        return s->first;
    if ((e = entry_of(x, seq - 1)) && e->subject == s->number)
        return next_of(x, seq - 1, e);
    walk_from(&w, x, seq);
    for (at = s->first; at < seq; at = next_of(x, at, entry_of(x, at))) {
        if (w.e->subject == s->number)
            return w.seq;
        walk_next(&w);
    }
    return at;
}

static uint64_t subject_prev(const struct jindex *x, struct slice name, uint64_t seq)
{
    const struct jsubject *s = subject_find(x, name);
    uint64_t at;

    if (!s || seq < s->first)
        return 0;
    for (at = s->last; at > seq; at = prev_of(x, at, entry_of(x, at)))
        ;
    return at;
}

uint64_t jindex_next(const struct jindex *x, struct jfilter *f, uint64_t seq)
{
    uint64_t best = 0, at;
    struct walk w;
    unsigned i;

    if (f && f->literal) {
        for (i = 0; i < f->n; i++)
            if ((at = subject_next(x, f->pattern[i], seq)) && (!best || at < best))
                best = at;
        return best;
    }
    for (walk_from(&w, x, seq); w.e; walk_next(&w))
        if (jfilter_all(f) || jfilter_takes(f, x, w.e->subject))
            return w.seq;
    return 0;
}

static uint64_t chunk_prev(const struct jindex *x, struct jfilter *f, uint64_t number, unsigned at)
{
    const struct jchunk *c = *chunk_slot(x, number);
    uint32_t i;

    for (i = c ? c->n : 0; i-- > 0;)
        if (c->e[i].subject != NONE && at_of(&c->e[i]) <= at &&
            jfilter_takes(f, x, c->e[i].subject))
            return number * CHUNK + at_of(&c->e[i]);
    return 0;
}

uint64_t jindex_prev(const struct jindex *x, struct jfilter *f, uint64_t seq)
{
    uint64_t best = 0, at, number;
    unsigned i;

    if (seq > x->last)
        seq = x->last;
    if (!x->msgs || seq < x->first)
        return 0;
    if (f && f->literal) {
        for (i = 0; i < f->n; i++)
            if ((at = subject_prev(x, f->pattern[i], seq)) > best)
                best = at;
        return best;
    }
    number = seq / CHUNK;
    i = seq % CHUNK;
    if (number >= x->chunk_first + x->chunks_n) {
        number = x->chunk_first + x->chunks_n - 1;
        i = CHUNK;
    }
    for (; number >= x->chunk_first; number--, i = CHUNK) {
        if ((at = chunk_prev(x, f, number, i)))
            return at;
        if (!number)
            break;
    }
    return 0;
}

static bool count_subject(void *arg, const struct jindex_subject_info *s)
{
    *(uint64_t *)arg += s->count;
    return true;
}

static uint64_t count_all(const struct jindex *x, struct jfilter *f)
{
    uint64_t n = 0;

    if (jfilter_all(f))
        return x->msgs;
    jindex_subjects(x, f, count_subject, &n);
    return n;
}

/* From a on and below b. */
static uint64_t count_between(const struct jindex *x, struct jfilter *f, uint64_t a, uint64_t b)
{
    uint64_t n = 0;
    struct walk w;

    walk_from(&w, x, a);
    while (w.e && w.seq < b) {
        if (jfilter_all(f) && w.i == 0 && (w.chunk + 1) * CHUNK <= b) { /* a whole chunk */
            n += (*chunk_slot(x, w.chunk))->live;
            w.i = (*chunk_slot(x, w.chunk))->n;
            walk_on(&w);
            continue;
        }
        n += jfilter_all(f) || jfilter_takes(f, x, w.e->subject);
        walk_next(&w);
    }
    return n;
}

uint64_t jindex_count(const struct jindex *x, struct jfilter *f, uint64_t seq)
{
    if (!x->msgs || seq > x->last)
        return 0;
    if (seq <= x->first)
        return count_all(x, f);
    if (x->last - seq < seq - x->first)
        return count_between(x, f, seq, x->last + 1);
    return count_all(x, f) - count_between(x, f, x->first, seq);
}

uint64_t jindex_seek_time(const struct jindex *x, int64_t time_ms)
{
    struct walk w;

    for (walk_from(&w, x, x->first); w.e; walk_next(&w))
        if (time_of(w.e) >= time_ms)
            return w.seq;
    return 0;
}

/* ---- looking along subjects ---- */

static bool tell(const struct jsubject *s,
                 bool (*fn)(void *arg, const struct jindex_subject_info *s), void *arg)
{
    struct jindex_subject_info info = {.name = slice_of(s->name, s->len),
                                       .number = s->number,
                                       .first = s->first,
                                       .last = s->last,
                                       .count = s->count};

    return fn(arg, &info);
}

void jindex_subjects(const struct jindex *x, struct jfilter *f,
                     bool (*fn)(void *arg, const struct jindex_subject_info *s), void *arg)
{
    const struct jsubject *s;
    uint32_t i;

    if (f && f->literal) {
        for (i = 0; i < f->n; i++)
            if ((s = subject_find(x, f->pattern[i])) && !tell(s, fn, arg))
                return;
        return;
    }
    for (i = 0; i < x->subject_n; i++)
        if ((s = x->subject[i]) && jfilter_takes(f, x, i) && !tell(s, fn, arg))
            return;
}
