/* Assignors: who gets which partitions. Pure functions of what they are given, the same answer for
 * the same question, whatever the order of the members in it.
 *
 *   range    of each topic, its subscribers get contiguous ranges of nearly equal length, in order
 *            of instance id (members with one come first), then of member id. Topics with equally
 *            many partitions and the same subscribers are cut alike.
 *   uniform  members get nearly equal numbers of partitions, and keep of what they have as much as
 *            that allows. If all subscribe to the same topics, the numbers differ by one at most.
 *   roundrobin  partitions, topic by topic, go to the members in turn, leaving out those that do not
 *            subscribe to the topic. Not known to Kafka: for the C library.
 *
 *   share    for groups whose members share partitions: each partition goes to a member at least, and
 *            each member gets one at least, of every topic that it subscribes to.
 *
 * But for that, every partition of a topic that somebody subscribes to goes to exactly one of its subscribers. */
#ifndef WEIR_BROKER_ASSIGN_H
#define WEIR_BROKER_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct topic_part {
    uint32_t topic;
    int32_t partition;
};

/* A set of partitions: ascending by topic, then partition. */
struct part_set {
    struct topic_part *v;
    uint32_t n, cap;
};
void part_set_fini(struct part_set *s);
void part_set_add(struct part_set *s, struct topic_part p); /* at the end, unordered */
void part_set_sort(struct part_set *s);                     /* and each once */
bool part_set_has(const struct part_set *s, struct topic_part p);
bool part_set_same(const struct part_set *a, const struct part_set *b);
void part_set_copy(struct part_set *dst, const struct part_set *src);
/* dst, which must be empty, gets what is in a and (both: also; not both: not) in b. */
void part_set_pick(struct part_set *dst, const struct part_set *a, const struct part_set *b,
                   bool both);

struct assign_topic {
    uint32_t id;
    int32_t partitions;
};
struct assign_member {
    struct slice id, instance_id; /* instance_id null: none */
    const uint32_t *topics;       /* subscribed to: ids, ascending, all among the topics given */
    uint32_t topics_n;
    const struct part_set *has; /* by the last assignment; NULL: nothing */
    struct part_set gets;       /* out, sorted; empty when it is called */
};
void assign_roundrobin(const struct assign_topic *topics, uint32_t topics_n,
                       struct assign_member *m, uint32_t n);
void assign_share(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                  uint32_t n);
/* topics: ascending by id. same: all members subscribe to the same topics. */
void assign_range(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                  uint32_t n);
void assign_uniform(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                    uint32_t n, bool same);

#endif
