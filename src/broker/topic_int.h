/* What topic.c, topic_change.c and topic_state.c share. topics_lock is held by the caller of all
 * these, except topic__new and topic__partitions_make for a topic that nobody else knows yet. */
#ifndef WEIR_BROKER_TOPIC_INT_H
#define WEIR_BROKER_TOPIC_INT_H

#include "broker/broker_int.h"

struct topic *topics__name_find(struct broker *b, struct slice name);
struct topic *topics__id_find(struct broker *b, uint32_t id);
struct topic *topic__new(struct broker *b, uint32_t id, struct slice name, const uint8_t *uuid,
                         int64_t created_ms, const struct topic_conf *c);
/* A partition, not yet visible: partitions_n is the caller's to raise. */
struct partition *topic__partition_make(struct topic *t, int32_t index, uint32_t uid,
                                        int64_t start);
/* n of them from index `from` on, with uids from `uid` on. */
void topic__partitions_make(struct topic *t, int32_t from, int32_t n, uint32_t uid);
void topic__conf_install(struct topic *t, const struct topic_conf *c);
/* topic_create by the defaults; one that is on its way already is waited for, and ends as that does. */
enum err topic__create_join(struct broker *b, struct slice name, broker_done_fn done, void *arg,
                            struct errinfo *info);
/* Into all maps; takes over the caller's reference. */
void topics__publish(struct broker *b, struct topic *t, int32_t partitions);
/* Out of the maps, deleted; the catalogue's reference becomes the caller's. */
void topics__unpublish(struct broker *b, struct topic *t);
/* To be saved with the next checkpoint. */
void topic__dirty(struct topic *t);
void topics__uids_add(struct topics *ts, struct partition *p);
struct partition *topics__uid_find(const struct topics *ts, uint32_t uid); /* NULL: none */
/* Uids from `first` on are not given out again. */
void topics__uid_used(struct topics *ts, uint32_t first, uint32_t n);
/* The checkpoint whose last ticket is `ticket` or later saves this start. */
void partition__trim_note(struct partition *p, int64_t start, uint64_t ticket);

#endif
