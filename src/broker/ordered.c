/* The treap of ordered.h. Invariants: in-order keys ascend; a node's prio is not below its
 * children's. Iterative throughout: depth never reaches the C stack. */
#include "broker/ordered.h"

#include <string.h>

#include "base/assert.h"

int ordered_compare(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* xorshift64*: fast, and good enough to keep the tree flat. */
static uint64_t next_prio(struct ordered *x)
{
    x->rng ^= x->rng >> 12;
    x->rng ^= x->rng << 25;
    x->rng ^= x->rng >> 27;
    return x->rng * 0x2545f4914f6cdd1dull;
}

void ordered_init(struct ordered *x, uint64_t seed)
{
    x->root = NULL;
    x->n = 0;
    x->rng = seed ? seed : 1;
}

void ordered_insert(struct ordered *x, struct ordered_node *node)
{
    struct ordered_node **at = &x->root, *rest, **lo, **hi;

    node->prio = next_prio(x);
    while (*at && (*at)->prio >= node->prio) {
        int c = ordered_compare(node->key, (*at)->key);

        ASSERT(c != 0);
        at = c < 0 ? &(*at)->left : &(*at)->right;
    }
    rest = *at;
    *at = node;
    lo = &node->left;
    hi = &node->right;
    while (rest) { /* split what was here around the new key */
        int c = ordered_compare(rest->key, node->key);

        ASSERT(c != 0);
        if (c < 0) {
            *lo = rest;
            lo = &rest->right;
            rest = rest->right;
        } else {
            *hi = rest;
            hi = &rest->left;
            rest = rest->left;
        }
    }
    *lo = *hi = NULL;
    x->n++;
}

void ordered_remove(struct ordered *x, struct ordered_node *node)
{
    struct ordered_node **at = &x->root, *a, *b;

    while (*at != node) {
        ASSERT(*at != NULL);
        at = ordered_compare(node->key, (*at)->key) < 0 ? &(*at)->left : &(*at)->right;
    }
    a = node->left;
    b = node->right;
    while (a && b) { /* join the two subtrees */
        if (a->prio >= b->prio) {
            *at = a;
            at = &a->right;
            a = a->right;
        } else {
            *at = b;
            at = &b->left;
            b = b->left;
        }
    }
    *at = a ? a : b;
    node->left = node->right = NULL;
    x->n--;
}

struct ordered_node *ordered_find(const struct ordered *x, struct slice key)
{
    struct ordered_node *n = x->root;

    while (n) {
        int c = ordered_compare(key, n->key);

        if (c == 0)
            return n;
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

struct ordered_node *ordered_after(const struct ordered *x, struct slice key)
{
    struct ordered_node *n = x->root, *best = NULL;

    while (n) {
        if (ordered_compare(n->key, key) > 0) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

struct ordered_node *ordered_first(const struct ordered *x)
{
    struct ordered_node *n = x->root;

    while (n && n->left)
        n = n->left;
    return n;
}
