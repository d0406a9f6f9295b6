/* Consumer groups: their committed offsets. See group.c. */
#ifndef WEIR_BROKER_GROUP_H
#define WEIR_BROKER_GROUP_H

#include "base/list.h"
#include "broker/ordered.h"
#include "broker/state.h"
#include "broker/topic.h"

struct groups {
    struct ordered by_name;
    struct list_head dirty, sent; /* struct group, changed or deleted */
    uint32_t offsets_n;           /* in all groups */
};

void groups_init(struct broker *b);
void groups_fini(struct broker *b);
enum err group_check(struct broker *b, struct slice group, int64_t offset, struct slice metadata,
                     struct errinfo *info);
/* Make after-images so. Writer thread or recovery. */
void group_apply_offset(struct broker *b, const struct entry_group_offset *en);
void group_apply_delete(struct broker *b, struct slice group);
enum err groups_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err groups_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void groups_saved(struct broker *b, bool committed);
/* Drops offsets of topics that are no more, looking at `max` groups. */
void groups_sweep(struct broker *b, unsigned max);

#endif
