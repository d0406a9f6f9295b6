/* Idempotency keys of requests on their way, over all loops. What has become durable is in the
 * broker's key-value space "idem"; this closes the gap before that: two requests with one key and
 * different bodies at the same time. Lock: idem->lock, held for one bucket's walk. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/http/http_int.h"

struct entry {
    struct list_node link;
    uint8_t key[16], fingerprint[32];
    unsigned refs;
};

void idem_init(struct idem *i)
{
    io_mutex_init(&i->lock);
    for (size_t k = 0; k < IDEM_BUCKETS; k++)
        list_init(&i->bucket[k]);
}

void idem_fini(struct idem *i)
{
    for (size_t k = 0; k < IDEM_BUCKETS; k++)
        ASSERT(list_empty(&i->bucket[k]));
    io_mutex_fini(&i->lock);
}

/* Lock held. key is a hash already. */
static struct entry *find(struct idem *i, const uint8_t key[16])
{
    struct entry *e;

    list_for_each(e, &i->bucket[key[0]], struct entry, link)
    {
        if (memcmp(e->key, key, sizeof e->key) == 0)
            return e;
    }
    return NULL;
}

bool idem_enter(struct idem *i, const uint8_t key[16], const uint8_t fingerprint[32])
{
    struct entry *e;
    bool same = true;

    io_mutex_lock(&i->lock);
    e = find(i, key);
    if (e) {
        same = memcmp(e->fingerprint, fingerprint, sizeof e->fingerprint) == 0;
        e->refs += same;
    } else {
        e = xcalloc(1, sizeof *e);
        memcpy(e->key, key, sizeof e->key);
        memcpy(e->fingerprint, fingerprint, sizeof e->fingerprint);
        e->refs = 1;
        list_push_back(&i->bucket[key[0]], &e->link);
    }
    io_mutex_unlock(&i->lock);
    return same;
}

void idem_leave(struct idem *i, const uint8_t key[16])
{
    struct entry *e;

    io_mutex_lock(&i->lock);
    e = find(i, key);
    ASSERT(e && e->refs > 0);
    if (--e->refs == 0) {
        list_remove(&e->link);
        free(e);
    }
    io_mutex_unlock(&i->lock);
}
