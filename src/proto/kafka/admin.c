/* What is asked of a cluster's replicas and disks, answered for one broker with one directory:
 * DescribeLogDirs, ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments. Errors and
 * their words are those of Kafka's controller (ReplicationControlManager). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/topic_name.h"
#include "io/io.h"
#include "journal/journal.h"
#include "proto/kafka/admin_int.h"

#define LIST_TOPICS 256u

int16_t kafka_replicas_check(struct kreq *q, const int32_t *ids, uint32_t n, struct slice *message)
{
    uint32_t i;

    if (n == 0) {
        *message = SLICE_LIT("The manual partition assignment includes an empty replica list.");
        return KE_INVALID_REPLICA_ASSIGNMENT;
    }
    for (i = 0; i < n; i++)
        if (ids[i] != KAFKA_NODE_ID) {
            *message = kreq_printf(q,
                                   "The manual partition assignment includes broker %" PRId32
                                   ", but no such broker is registered.",
                                   ids[i]);
            return KE_INVALID_REPLICA_ASSIGNMENT;
        }
    if (n > 1) {
        *message = kreq_printf(q,
                               "The manual partition assignment includes the broker %d more than "
                               "once.",
                               KAFKA_NODE_ID);
        return KE_INVALID_REPLICA_ASSIGNMENT;
    }
    return KE_NONE;
}

/* Calls fn for each topic, in order of name. */
static void topics_each(struct kreq *q, void (*fn)(struct kreq *q, struct topic *t, void *arg),
                        void *arg)
{
    struct topic *list[LIST_TOPICS];
    char after[TOPIC_NAME_MAX + 1] = "";
    size_t i, n;

    do {
        n = topic_list(q->b, slice_str(after), NULL, list, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            if (q->state != KREQ_DONE)
                fn(q, list[i], arg);
            if (i == n - 1)
                snprintf(after, sizeof after, "%s", topic_name(list[i]));
            topic_unref(&list[i]);
        }
    } while (n == LIST_TOPICS && q->state != KREQ_DONE);
}

/* ---- DescribeLogDirs ---- */

struct dirs {
    struct kafka_describe_log_dirs_response_result one;
    uint32_t cap;
};

static struct kafka_describe_log_dirs_response_topic *dirs_add(struct kreq *q, struct dirs *d)
{
    uint32_t cap = d->cap ? d->cap * 2 : 64;
    struct kafka_describe_log_dirs_response_topic *more;

    if (d->one.topics_n == d->cap) {
        if (!(more = kreq_alloc(q, cap, sizeof *more)))
            return NULL;
        if (d->cap)
            memcpy(more, d->one.topics, d->cap * sizeof *more);
        d->one.topics = more;
        d->cap = cap;
    }
    return &d->one.topics[d->one.topics_n++];
}

static void dir_partition(struct topic *t, int32_t index,
                          struct kafka_describe_log_dirs_response_topic *o)
{
    struct partition *p = topic_partition(t, index);
    struct plog_info now;

    if (!p) /* as Kafka: what is not in the directory is left out */
        return;
    plog_info_get(partition_log(p), &now);
    o->partitions[o->partitions_n++] = (struct kafka_describe_log_dirs_response_partition){
        .partition_index = index, .partition_size = (int64_t)now.bytes};
}

static void dir_whole(struct kreq *q, struct topic *t, void *arg)
{
    struct kafka_describe_log_dirs_response_topic *o = dirs_add(q, arg);
    int32_t i, n = topic_partitions(t);

    if (!o)
        return;
    *o = (struct kafka_describe_log_dirs_response_topic){
        .name = arena_dup(&q->arena, slice_str(topic_name(t)))};
    if ((o->partitions = kreq_alloc(q, (size_t)n, sizeof *o->partitions)))
        for (i = 0; i < n; i++)
            dir_partition(t, i, o);
}

static void dir_part(struct kreq *q, const struct kafka_describe_log_dirs_request_topic *in,
                     struct dirs *d)
{
    struct topic *t = topic_find(q->b, in->topic);
    struct kafka_describe_log_dirs_response_topic *o = t ? dirs_add(q, d) : NULL;
    uint32_t i;

    if (o) {
        *o = (struct kafka_describe_log_dirs_response_topic){.name = in->topic};
        if ((o->partitions = kreq_alloc(q, in->partitions_n, sizeof *o->partitions)))
            for (i = 0; i < in->partitions_n; i++)
                dir_partition(t, in->partitions[i], o);
    }
    topic_unref(&t);
}

/* The directory, and the bytes that it could hold: what is free and what it holds. */
static void dir_fill(struct kreq *q, struct kafka_describe_log_dirs_response_result *o)
{
    const char *dir = broker_dir(q->b);
    struct journal_stats st;
    uint64_t room = 0;

    o->log_dir = slice_str(dir);
    journal_stats_get(broker_journal(q->b), &st);
    if (io_free_space(broker_io(q->b), dir, &room, NULL))
        return; /* -1: unknown */
    o->usable_bytes = (int64_t)room;
    o->total_bytes = (int64_t)(room + st.disk_bytes);
}

void kafka_on_describe_log_dirs(struct kreq *q)
{
    struct kafka_describe_log_dirs_response s;
    struct kafka_describe_log_dirs_request m;
    struct dirs d = {.cap = 0};
    uint32_t i;

    if (!KREQ_DECODE(q, describe_log_dirs, &m))
        return;
    kafka_describe_log_dirs_response_init(&s);
    kafka_describe_log_dirs_response_result_init(&d.one);
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
        KREQ_REPLY(q, describe_log_dirs, &s);
        return;
    }
    dir_fill(q, &d.one);
    if (m.topics_null)
        topics_each(q, dir_whole, &d);
    for (i = 0; i < m.topics_n && q->state != KREQ_DONE; i++)
        dir_part(q, &m.topics[i], &d);
    s.results = &d.one;
    s.results_n = 1;
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_log_dirs, &s);
}

/* ---- ElectLeaders ---- */

static void elect_topic(struct kreq *q,
                        const struct kafka_elect_leaders_request_topic_partition *in, int8_t type,
                        struct kafka_elect_leaders_response_topic *o)
{
    struct topic *t = topic_find(q->b, in->topic);
    int len = (int)(in->topic.len < 300 ? in->topic.len : 300);
    const char *name = (const char *)in->topic.ptr;
    uint32_t i;

    o->topic = in->topic;
    o->partition_result = kreq_alloc(q, in->partitions_n, sizeof *o->partition_result);
    for (i = 0; o->partition_result && i < in->partitions_n; i++) {
        struct kafka_elect_leaders_response_partition *p = &o->partition_result[i];

        p->partition_id = in->partitions[i];
        if (type != 0 && type != 1) {
            p->error_code = KE_INVALID_REQUEST;
            p->error_message = kreq_printf(q, "Unknown election type %d", type);
        } else if (!t) {
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            p->error_message = kreq_printf(q, "No such topic as %.*s", len, name);
        } else if (!topic_partition(t, p->partition_id)) {
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            p->error_message =
                kreq_printf(q, "No such partition as %.*s-%" PRId32, len, name, p->partition_id);
        } else {
            p->error_code = KE_ELECTION_NOT_NEEDED;
            p->error_message = SLICE_LIT("Leader election not needed for topic partition.");
        }
        o->partition_result_n++;
    }
    topic_unref(&t);
}

/* Asked about all partitions, Kafka tells of those that had an election: none. */
void kafka_on_elect_leaders(struct kreq *q)
{
    struct kafka_elect_leaders_response s;
    struct kafka_elect_leaders_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, elect_leaders, &m))
        return;
    kafka_elect_leaders_response_init(&s);
    if (!kafka_allowed(q, KOP_ALTER, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
        KREQ_REPLY(q, elect_leaders, &s);
        return;
    }
    if (m.election_type != 0 && m.election_type != 1)
        s.error_code = KE_INVALID_REQUEST;
    s.replica_election_results =
        kreq_alloc(q, m.topic_partitions_n, sizeof *s.replica_election_results);
    if (!s.replica_election_results)
        return;
    for (i = 0; i < m.topic_partitions_n && q->state != KREQ_DONE; i++)
        elect_topic(q, &m.topic_partitions[i], m.election_type,
                    &s.replica_election_results[s.replica_election_results_n++]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, elect_leaders, &s);
}

/* ---- reassignments ---- */

static void move_topic(struct kreq *q,
                       const struct kafka_alter_partition_reassignments_request_topic *in,
                       struct kafka_alter_partition_reassignments_response_topic *o)
{
    struct topic *t = topic_find(q->b, in->name);
    int len = (int)(in->name.len < 300 ? in->name.len : 300);
    const char *name = (const char *)in->name.ptr;
    uint32_t i;

    o->name = in->name;
    o->partitions = kreq_alloc(q, in->partitions_n, sizeof *o->partitions);
    for (i = 0; o->partitions && i < in->partitions_n; i++) {
        const struct kafka_alter_partition_reassignments_request_partition *want =
            &in->partitions[i];
        struct kafka_alter_partition_reassignments_response_partition *p = &o->partitions[i];

        p->partition_index = want->partition_index;
        if (!t) {
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            p->error_message = kreq_printf(q, "Unable to find a topic named %.*s.", len, name);
        } else if (!topic_partition(t, want->partition_index)) {
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            p->error_message = kreq_printf(q, "Unable to find partition %.*s:%" PRId32 ".", len,
                                           name, want->partition_index);
        } else if (want->replicas_null) {
            p->error_code = KE_NO_REASSIGNMENT_IN_PROGRESS;
        } else {
            p->error_code =
                kafka_replicas_check(q, want->replicas, want->replicas_n, &p->error_message);
        }
        o->partitions_n++;
    }
    topic_unref(&t);
}

void kafka_on_alter_partition_reassignments(struct kreq *q)
{
    struct kafka_alter_partition_reassignments_response s;
    struct kafka_alter_partition_reassignments_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, alter_partition_reassignments, &m))
        return;
    kafka_alter_partition_reassignments_response_init(&s);
    s.error_message = SLICE_NULL;
    s.allow_replication_factor_change = m.allow_replication_factor_change;
    if (!kafka_allowed(q, KOP_ALTER, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
        KREQ_REPLY(q, alter_partition_reassignments, &s);
        return;
    }
    if (!(s.responses = kreq_alloc(q, m.topics_n, sizeof *s.responses)))
        return;
    for (i = 0; i < m.topics_n && q->state != KREQ_DONE; i++)
        move_topic(q, &m.topics[i], &s.responses[s.responses_n++]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, alter_partition_reassignments, &s);
}

void kafka_on_list_partition_reassignments(struct kreq *q)
{
    struct kafka_list_partition_reassignments_response s;
    struct kafka_list_partition_reassignments_request m;

    if (!KREQ_DECODE(q, list_partition_reassignments, &m))
        return;
    kafka_list_partition_reassignments_response_init(&s);
    s.error_message = SLICE_NULL;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_CLUSTER, KAFKA_CLUSTER_NAME))
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
    KREQ_REPLY(q, list_partition_reassignments, &s);
}
