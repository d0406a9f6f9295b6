/* An ordered index of the caller's objects by a byte-string key: a treap whose nodes are embedded
 * in the objects. Search, insert, remove and "next after" in O(log n) expected; priorities come
 * from a seeded generator, so no choice of keys makes it deep. Keys are unique, compared as
 * unsigned bytes, and must stay unchanged while the node is in. No locks: the caller's. No
 * allocation. */
#ifndef WEIR_BROKER_ORDERED_H
#define WEIR_BROKER_ORDERED_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct ordered_node {
    struct ordered_node *left, *right;
    struct slice key; /* borrowed from the object */
    uint64_t prio;
};

struct ordered {
    struct ordered_node *root;
    size_t n;
    uint64_t rng;
};

#define ORDERED_ENTRY(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

void ordered_init(struct ordered *x, uint64_t seed);
/* node->key is set by the caller; no equal key may be in. */
void ordered_insert(struct ordered *x, struct ordered_node *node);
void ordered_remove(struct ordered *x, struct ordered_node *node);
struct ordered_node *ordered_find(const struct ordered *x, struct slice key);
/* The first node whose key is > key. NULL: none. */
struct ordered_node *ordered_after(const struct ordered *x, struct slice key);
struct ordered_node *ordered_first(const struct ordered *x);
/* Three-way comparison of keys. */
int ordered_compare(struct slice a, struct slice b);

#endif
