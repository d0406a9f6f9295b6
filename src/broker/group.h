/* Consumer groups: their committed offsets, and what of their membership is durable. See group.c;
 * the members themselves are the coordinator's. */
#ifndef WEIR_BROKER_GROUP_H
#define WEIR_BROKER_GROUP_H

#include "base/buf.h"
#include "base/list.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/ordered.h"
#include "broker/state.h"
#include "broker/topic.h"

struct groups {
    struct ordered by_name;
    struct list_head dirty, sent;             /* struct group, changed or deleted */
    uint32_t offsets_n;                       /* in all groups */
    size_t metadata_bytes;                    /* of those offsets */
    size_t image_bytes;                       /* of the published texts in memory */
    uint32_t kind_n[GROUP_KIND_MAX + 1];      /* groups of each kind */
    uint64_t generations[GROUP_KIND_MAX + 1]; /* that began since the log was opened */
};

/* What is known of a group without its members. */
struct group_durable {
    char name[LIMIT_GROUP_NAME + 1];
    size_t name_len;
    int32_t generation;
    uint8_t kind;     /* enum group_kind */
    int64_t empty_ms; /* wall clock; since when it has no members, 0: it had some when last heard */
    bool offsets;     /* it has committed offsets */
    char protocol_type[LIMIT_GROUP_WORD + 1];
};
/* False: there is no such group (*out is then as of a new one). */
bool group_durable_get(struct broker *b, struct slice name, struct group_durable *out);
/* The first group after this name; false: none. */
bool group_durable_next(struct broker *b, struct slice after, struct group_durable *out);
/* What stream_groups has of a group: copies, which the caller clears and frees. */
struct group_published {
    struct buf group, leader, members, assignment; /* empty: none is published */
    int32_t generation;
    int64_t updated_ms;
};
/* That of the first group after this name; false: none. */
bool group_published_next(struct broker *b, struct slice after, struct group_published *out);
int32_t group_generation(struct broker *b, struct slice name); /* 0: none */
int group_kind_get(struct broker *b, struct slice name);       /* enum group_kind; -1: none */
bool groups_have(struct broker *b, struct slice name);         /* items_lock held */
/* Groups of this kind, and their generations that began since the log was opened. */
void group_kind_counts(struct broker *b, uint8_t kind, uint64_t *groups, uint64_t *generations);

/* The committed offsets of a group after a place (topic, partition; 0, -1: from the start), in
 * order; returns how many, at most max. */
struct group_offset_at {
    uint32_t topic, partition;
    int64_t offset, committed_ms;
};
size_t group_offsets_get(struct broker *b, struct slice name, uint32_t topic, int64_t partition,
                         struct group_offset_at *out, size_t max);
/* Deletes the offset if it is still that of this time. */
enum err group_offset_drop(struct broker *b, struct slice group, const struct group_offset_at *o,
                           broker_done_fn done, void *arg, struct errinfo *info);

void groups_init(struct broker *b);
void groups_fini(struct broker *b);
void groups_recovered(struct broker *b); /* the log was read: counting begins */
enum err group_check(struct broker *b, struct slice group, int64_t offset, struct slice metadata,
                     struct errinfo *info);
/* Make after-images so. Writer thread or recovery. */
void group_apply_offset(struct broker *b, const struct entry_group_offset *en);
void group_apply_delete(struct broker *b, struct slice group);
void group_apply_state(struct broker *b, const struct entry_group_state *en);
void group_apply_offset_delete(struct broker *b, const struct entry_group_offset *en);
enum err groups_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err groups_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void groups_saved(struct broker *b, bool committed);
enum err group_metrics(struct broker *b, struct buf *out); /* Prometheus text, appended */
/* Drops offsets of topics that are no more, looking at `max` groups. */
void groups_sweep(struct broker *b, unsigned max);

#endif
