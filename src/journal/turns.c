/* Turns at the disk: see turns.h. A turn is given by the one that passes its own, so that none who comes
 * meanwhile takes it. */
#include "journal/turns.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

struct turns {
    struct io_mutex lock;
    struct list_head waiting; /* struct turn, in the order of their coming */
    unsigned waiting_n, reading;
    unsigned given; /* to those who waited */
};

struct turn {
    struct list_node link;
    uint64_t at;
    struct io_event given;
};

struct turns *turns_new(void)
{
    struct turns *t = xcalloc(1, sizeof *t);

    io_mutex_init(&t->lock);
    list_init(&t->waiting);
    return t;
}

void turns_free(struct turns **tp)
{
    struct turns *t = *tp;

    if (!t)
        return;
    ASSERT(t->reading == 0 && t->waiting_n == 0);
    io_mutex_fini(&t->lock);
    free(t);
    *tp = NULL;
}

static void turn_wait(struct turns *t, uint64_t at)
{
    struct turn mine = {.at = at};

    io_event_init(&mine.given);
    list_push_back(&t->waiting, &mine.link);
    t->waiting_n++;
    io_mutex_unlock(&t->lock);
    while (!io_event_wait(&mine.given, UINT64_MAX))
        ;
    io_mutex_lock(&t->lock); /* whoever gave it is done with `mine` */
    io_event_fini(&mine.given);
}

void turns_take(struct turns *t, uint64_t at, unsigned at_once)
{
    io_mutex_lock(&t->lock);
    if (t->reading < at_once)
        t->reading++;
    else
        turn_wait(t, at);
    io_mutex_unlock(&t->lock);
}

static struct turn *next(struct turns *t)
{
    struct turn *first = list_entry(t->waiting.node.next, struct turn, link);
    struct list_node *n;

    if (++t->given % TURNS_OLDEST == 0)
        return first;
    for (n = first->link.next; n != &t->waiting.node; n = n->next)
        if (list_entry(n, struct turn, link)->at < first->at)
            first = list_entry(n, struct turn, link);
    return first;
}

void turns_pass(struct turns *t, unsigned at_once)
{
    io_mutex_lock(&t->lock);
    ASSERT(t->reading > 0);
    t->reading--;
    for (; t->waiting_n && t->reading < at_once; t->reading++) {
        struct turn *n = next(t);

        list_remove(&n->link);
        t->waiting_n--;
        io_event_signal(&n->given);
    }
    io_mutex_unlock(&t->lock);
}

unsigned turns_waiting(struct turns *t)
{
    unsigned n;

    io_mutex_lock(&t->lock);
    n = t->waiting_n;
    io_mutex_unlock(&t->lock);
    return n;
}
