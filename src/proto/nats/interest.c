/* Subscriptions by subject. See interest.h.
 *
 * A leaf has those of one subject or pattern: plain ones in an array, queue groups by name. The
 * pattern `a.*.>` is the leaf `rest` of the node a -> `*`. Nodes without children and leaves are
 * taken out again. The walk goes as deep as a subject has tokens, which a control line bounds. */
#include "proto/nats/interest.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"

#define SUBS_MAX (1u << 28)

struct group {
    struct interest_sub **v; /* all have the same queue */
    uint32_t n, cap;
};

struct interest_leaf {
    struct interest_sub **plain; /* one: &only */
    struct interest_sub *only;
    struct group *groups;
    uint32_t n, cap, groups_n;
    uint32_t len;
    struct interest_node *node; /* of patterns: whose it is */
    uint8_t subject[];          /* of others */
};

struct interest_node {
    struct interest_node *parent;
    struct map children; /* node by token */
    struct interest_node *star;
    struct interest_leaf *here, *rest; /* the pattern ends here; with `>` behind it */
    uint32_t len;
    uint8_t token[];
};

void interest_init(struct interest *in, const uint8_t seed[16])
{
    unsigned i;

    *in = (struct interest){0};
    io_rwlock_init(&in->lock);
    memcpy(in->seed, seed, 16);
    map_init(&in->exact, SUBS_MAX, in->seed);
    atomic_init(&in->stamp_all, 0);
    for (i = 0; i < INTEREST_STAMPS; i++)
        atomic_init(&in->stamp[i], 0);
    atomic_init(&in->count, 0);
}

void interest_fini(struct interest *in)
{
    ASSERT(in->subs == 0 && !in->wild);
    map_fini(&in->exact);
    io_rwlock_fini(&in->lock);
}

/* ---- stamps ---- */

static unsigned stamp_of(struct slice subject)
{
    const uint8_t *dot = subject.len ? memchr(subject.ptr, '.', subject.len) : NULL;

    return (unsigned)hash64(subject.ptr, dot ? (size_t)(dot - subject.ptr) : subject.len, 0) &
           (INTEREST_STAMPS - 1);
}

/* Both only grow, so their sum says whether one of them changed. */
uint64_t interest_stamp(const struct interest *in, struct slice subject)
{
    return atomic_load_explicit(&in->stamp_all, memory_order_acquire) +
           atomic_load_explicit(&in->stamp[stamp_of(subject)], memory_order_acquire);
}

static void stamp_change(struct interest *in, struct slice subject)
{
    bool wild = subject.ptr[0] == '*' || subject.ptr[0] == '>';

    atomic_fetch_add_explicit(wild ? &in->stamp_all : &in->stamp[stamp_of(subject)], 1,
                              memory_order_release);
}

static void put(struct map *m, struct slice key, void *value)
{
    enum err e = map_put(m, key, value);

    ASSERT(e == ERR_OK); /* it was not there, and subscriptions are counted */
}

/* ---- leaves ---- */

static struct interest_leaf *leaf_new(struct slice subject, struct interest_node *node)
{
    struct interest_leaf *l = xcalloc(1, sizeof *l + subject.len);

    l->len = (uint32_t)subject.len;
    l->node = node;
    if (subject.len)
        memcpy(l->subject, subject.ptr, subject.len);
    return l;
}

static void leaf_free(struct interest_leaf *l)
{
    if (l->cap)
        free(l->plain);
    free(l->groups);
    free(l);
}

static bool leaf_empty(const struct interest_leaf *l)
{
    return l->n == 0 && l->groups_n == 0;
}

static void plain_add(struct interest_leaf *l, struct interest_sub *s)
{
    s->slot = l->n;
    if (l->n == 0 && l->cap == 0) {
        l->only = s;
        l->plain = &l->only;
        l->n = 1;
        return;
    }
    if (l->cap == 0) {
        l->plain = xmalloc(4 * sizeof(struct interest_sub *));
        l->plain[0] = l->only;
        l->cap = 4;
    } else if (l->n == l->cap) {
        l->cap *= 2;
        l->plain = xrealloc(l->plain, l->cap * sizeof(struct interest_sub *));
    }
    l->plain[l->n++] = s;
}

static void group_add(struct interest_leaf *l, struct interest_sub *s)
{
    struct group *g = NULL;
    uint32_t i;

    for (i = 0; !g && i < l->groups_n; i++)
        if (slice_eq(l->groups[i].v[0]->queue, s->queue))
            g = &l->groups[i];
    if (!g) {
        l->groups = xrealloc(l->groups, (l->groups_n + 1) * sizeof *l->groups);
        g = &l->groups[l->groups_n++];
        *g = (struct group){0};
    }
    if (g->n == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 2;
        g->v = xrealloc(g->v, g->cap * sizeof(struct interest_sub *));
    }
    s->slot = g->n;
    g->v[g->n++] = s;
}

static void leaf_add(struct interest_leaf *l, struct interest_sub *s)
{
    s->leaf = l;
    s->first = leaf_empty(l);
    if (s->queue.len)
        group_add(l, s);
    else
        plain_add(l, s);
}

/* The last one takes the place of the one that goes. */
static void leaf_drop(struct interest_leaf *l, struct interest_sub *s)
{
    uint32_t i;

    if (!s->queue.len) {
        ASSERT(l->plain[s->slot] == s);
        l->plain[s->slot] = l->plain[--l->n];
        l->plain[s->slot]->slot = s->slot;
        return;
    }
    for (i = 0; i < l->groups_n; i++) {
        struct group *g = &l->groups[i];

        if (s->slot >= g->n || g->v[s->slot] != s)
            continue;
        g->v[s->slot] = g->v[--g->n];
        g->v[s->slot]->slot = s->slot;
        if (g->n == 0) {
            free(g->v);
            *g = l->groups[--l->groups_n];
        }
        return;
    }
    ASSERT(false);
}

/* ---- the tree of patterns ---- */

static struct interest_node *node_new(struct interest *in, struct interest_node *parent,
                                      struct slice token)
{
    struct interest_node *n = xcalloc(1, sizeof *n + token.len);

    n->parent = parent;
    n->len = (uint32_t)token.len;
    if (token.len)
        memcpy(n->token, token.ptr, token.len);
    map_init(&n->children, SUBS_MAX, in->seed);
    return n;
}

/* Takes out what has nothing below it any more. */
static void node_prune(struct interest *in, struct interest_node *n)
{
    while (n && !n->star && !n->here && !n->rest && n->children.n == 0) {
        struct interest_node *up = n->parent;

        if (!up)
            in->wild = NULL;
        else if (up->star == n)
            up->star = NULL;
        else
            map_remove(&up->children, slice_of(n->token, n->len));
        map_fini(&n->children);
        free(n);
        n = up;
    }
}

static struct interest_leaf *wild_leaf(struct interest *in, struct slice pattern)
{
    struct interest_node *n, *next;
    struct slice token;

    if (!in->wild)
        in->wild = node_new(in, NULL, SLICE_NULL);
    n = in->wild;
    while (subject_token(&pattern, &token)) {
        if (token_is(token, '>')) {
            if (!n->rest)
                n->rest = leaf_new(SLICE_NULL, n);
            return n->rest;
        }
        if (token_is(token, '*')) {
            if (!n->star)
                n->star = node_new(in, n, SLICE_NULL);
            n = n->star;
            continue;
        }
        next = map_find(&n->children, token);
        if (!next) {
            next = node_new(in, n, token);
            put(&n->children, slice_of(next->token, next->len), next);
        }
        n = next;
    }
    if (!n->here)
        n->here = leaf_new(SLICE_NULL, n);
    return n->here;
}

/* ---- coming and going ---- */

enum err interest_add(struct interest *in, struct interest_sub *s)
{
    bool wild = subject_has_wildcard(s->subject);
    struct interest_leaf *l;
    enum err e = ERR_OK;

    io_rwlock_write(&in->lock);
    if (in->subs >= SUBS_MAX) {
        e = ERR_LIMIT;
    } else if (wild) {
        leaf_add(wild_leaf(in, s->subject), s);
    } else {
        l = map_find(&in->exact, s->subject);
        if (!l) {
            l = leaf_new(s->subject, NULL);
            put(&in->exact, slice_of(l->subject, l->len), l);
        }
        leaf_add(l, s);
    }
    if (!e) {
        atomic_store_explicit(&in->count, ++in->subs, memory_order_release);
        stamp_change(in, s->subject);
    }
    io_rwlock_unlock(&in->lock);
    return e;
}

void interest_remove(struct interest *in, struct interest_sub *s)
{
    struct interest_leaf *l = s->leaf;
    struct interest_node *n = l->node;

    io_rwlock_write(&in->lock);
    leaf_drop(l, s);
    if (leaf_empty(l)) {
        if (!n)
            map_remove(&in->exact, slice_of(l->subject, l->len));
        else if (n->here == l)
            n->here = NULL;
        else
            n->rest = NULL;
        leaf_free(l);
        if (n)
            node_prune(in, n);
    }
    s->leaf = NULL;
    atomic_store_explicit(&in->count, --in->subs, memory_order_release);
    stamp_change(in, s->subject);
    io_rwlock_unlock(&in->lock);
}

/* ---- matching ---- */

static void room(struct interest_sub ***v, uint32_t n, uint32_t more, uint32_t *cap)
{
    if (*cap - n >= more)
        return;
    while (*cap - n < more)
        *cap = *cap ? *cap * 2 : 4;
    *v = xrealloc(*v, *cap * sizeof(struct interest_sub *));
}

/* A group of this name that is there already gets the members; it is moved behind the others. */
static void group_take(struct interest_found *f, const struct group *g)
{
    uint32_t i, from, to, n;

    room(&f->queued, f->queued_n, g->n, &f->queued_cap);
    for (i = 0; i < f->groups_n; i++)
        if (slice_eq(f->queued[f->group[i]]->queue, g->v[0]->queue))
            break;
    if (i < f->groups_n) {
        from = f->group[i];
        to = i + 1 < f->groups_n ? f->group[i + 1] : f->queued_n;
        n = to - from;
        memmove(f->queued + from + n + g->n, f->queued + to,
                (f->queued_n - to) * sizeof(struct interest_sub *));
        memcpy(f->queued + to, g->v, g->n * sizeof(struct interest_sub *));
        f->queued_n += g->n;
        while (++i < f->groups_n)
            f->group[i] += g->n;
        return;
    }
    if (f->groups_n == f->groups_cap) {
        f->groups_cap = f->groups_cap ? f->groups_cap * 2 : 2;
        f->group = xrealloc(f->group, f->groups_cap * sizeof *f->group);
    }
    f->group[f->groups_n++] = f->queued_n;
    memcpy(f->queued + f->queued_n, g->v, g->n * sizeof(struct interest_sub *));
    f->queued_n += g->n;
}

static void leaf_take(struct interest_found *f, const struct interest_leaf *l)
{
    uint32_t i;

    if (l->n) {
        room(&f->plain, f->plain_n, l->n, &f->plain_cap);
        memcpy(f->plain + f->plain_n, l->plain, l->n * sizeof(struct interest_sub *));
        f->plain_n += l->n;
    }
    for (i = 0; i < l->groups_n; i++)
        group_take(f, &l->groups[i]);
}

static void wild_match(const struct interest_node *n, struct slice subject,
                       struct interest_found *f)
{
    struct slice token;

    for (;;) {
        if (!subject_token(&subject, &token)) {
            if (n->here)
                leaf_take(f, n->here);
            return;
        }
        if (n->rest)
            leaf_take(f, n->rest);
        if (n->star)
            wild_match(n->star, subject, f);
        n = n->children.n ? map_find(&n->children, token) : NULL;
        if (!n)
            return;
    }
}

void interest_match(struct interest *in, struct slice subject, struct interest_found *out)
{
    const struct interest_leaf *l;

    out->plain_n = out->queued_n = out->groups_n = 0;
    if (interest_none(in) || !subject_valid(subject))
        return;
    io_rwlock_read(&in->lock);
    if ((l = map_find(&in->exact, subject)))
        leaf_take(out, l);
    if (in->wild)
        wild_match(in->wild, subject, out);
    io_rwlock_unlock(&in->lock);
}

void interest_found_fini(struct interest_found *f)
{
    free(f->plain);
    free(f->queued);
    free(f->group);
    *f = (struct interest_found){0};
}

/* ---- patterns against patterns ---- */

static bool node_any(const struct interest_node *n, struct slice rest)
{
    struct slice token, after = rest, key;
    uint32_t at = 0;
    void *child;

    if (!subject_token(&after, &token))
        return n->here != NULL;
    if (n->rest || (token_is(token, '>') && (n->star || n->children.n)))
        return true; /* whatever is below takes something of it */
    if (token_is(token, '>'))
        return false;
    if (n->star && node_any(n->star, after))
        return true;
    if (!token_is(token, '*')) {
        child = map_find(&n->children, token);
        return child && node_any(child, after);
    }
    while (map_next(&n->children, &at, &key, &child))
        if (node_any(child, after))
            return true;
    return false;
}

bool interest_exact(struct interest *in, struct slice subject)
{
    bool any;

    io_rwlock_read(&in->lock);
    any = map_find(&in->exact, subject) != NULL;
    io_rwlock_unlock(&in->lock);
    return any;
}

bool interest_any(struct interest *in, struct slice pattern)
{
    struct slice subject;
    uint32_t at = 0;
    bool any = false;
    void *l;

    io_rwlock_read(&in->lock);
    if (!subject_has_wildcard(pattern))
        any = map_find(&in->exact, pattern) != NULL;
    else
        while (!any && map_next(&in->exact, &at, &subject, &l))
            any = subject_match(pattern, subject);
    if (!any && in->wild)
        any = node_any(in->wild, pattern);
    io_rwlock_unlock(&in->lock);
    return any;
}
