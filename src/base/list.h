/* Intrusive doubly linked lists. A node is a member of the listed struct; a head is a node that
 * links to itself when empty. No allocation; no locking: the owner of the head says which lock
 * guards it. */
#ifndef WEIR_BASE_LIST_H
#define WEIR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *prev, *next;
};
struct list_head {
    struct list_node node;
};

#define list_entry(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list_head *h)
{
    h->node.prev = h->node.next = &h->node;
}

static inline bool list_empty(const struct list_head *h)
{
    return h->node.next == &h->node;
}

static inline void list_insert_before(struct list_node *at, struct list_node *n)
{
    n->prev = at->prev;
    n->next = at;
    at->prev->next = n;
    at->prev = n;
}

static inline void list_push_back(struct list_head *h, struct list_node *n)
{
    list_insert_before(&h->node, n);
}

static inline void list_remove(struct list_node *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->prev = n->next = NULL;
}

static inline struct list_node *list_pop_front(struct list_head *h)
{
    struct list_node *n = h->node.next;

    list_remove(n);
    return n;
}

static inline bool list_is_first(const struct list_head *h, const struct list_node *n)
{
    return h->node.next == n;
}

#define list_for_each(var, head, type, member)                                             \
    for (var = list_entry((head)->node.next, type, member); &var->member != &(head)->node; \
         var = list_entry(var->member.next, type, member))

#endif
