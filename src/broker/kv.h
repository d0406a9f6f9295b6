/* Key-value items. See kv.c. */
#ifndef WEIR_BROKER_KV_H
#define WEIR_BROKER_KV_H

#include "base/list.h"
#include "broker/ordered.h"
#include "broker/state.h"
#include "broker/topic.h"

struct kv_item;

/* Items of one namespace. */
struct kv_part {
    uint32_t n;
    uint64_t bytes;
};

struct kvs {
    struct ordered items;
    struct list_head dirty, sent;
    struct kv_item **expiry; /* binary heap: the item that expires first is [0] */
    uint32_t expiry_n, expiry_cap;
    uint32_t live;
    uint64_t bytes; /* of keys and values of live items */
    /* Of STREAMS_TOPOLOGY_NS, counted in those: what is there, and what is on its way. */
    struct kv_part topologies, topologies_coming;
};

void kvs_init(struct broker *b);
void kvs_fini(struct broker *b);
enum err kv_check(struct broker *b, const char *ns, struct slice key, struct slice value,
                  struct errinfo *info);
/* Makes an item's after-image so, but for a topology of a group that is not there: that says
 * nothing. Writer thread or recovery. */
void kv_apply(struct broker *b, const struct entry_kv *en);
enum err kvs_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err kvs_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void kvs_saved(struct broker *b, bool committed);
/* Drops what expired; at most `max` items. */
void kvs_expire(struct broker *b, int64_t wall_ms, unsigned max);

#endif
