/* Topics made, deleted and given partitions; records deleted: CreateTopics, DeleteTopics,
 * CreatePartitions, DeleteRecords. All changes of a request are under way together, and answered
 * when they are durable (admin_int.h). Errors and their words are those of Kafka's controller
 * (org.apache.kafka.controller.ReplicationControlManager). */
#include <inttypes.h>
#include <string.h>

#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "journal/journal.h"
#include "proto/kafka/admin_int.h"

/* ---- replicas ---- */

/* May a partition be placed on these brokers? There is only this one. */
static int16_t replicas_check(struct kreq *q, const int32_t *ids, uint32_t n, struct slice *message)
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

/* ---- CreateTopics ---- */

struct create {
    struct kafka_create_topics_request m;
    struct kafka_create_topics_response s;
};

static int16_t assignments_check(struct kreq *q, const struct kafka_create_topics_request_topic *in,
                                 struct slice *message)
{
    uint32_t i, n = in->assignments_n;
    int16_t code = KE_NONE;
    bool *seen;

    if (in->replication_factor != -1 || in->num_partitions != -1) {
        *message =
            kreq_printf(q,
                        "A manual partition assignment was specified, but %s was not set "
                        "to -1.",
                        in->replication_factor != -1 ? "replication factor" : "numPartitions");
        return KE_INVALID_REQUEST;
    }
    if (!(seen = kreq_alloc(q, n, sizeof *seen)))
        return KE_UNKNOWN;
    for (i = 0; i < n && !code; i++) {
        const struct kafka_create_topics_request_assignment *a = &in->assignments[i];

        if (a->partition_index < 0 || (uint32_t)a->partition_index >= n) {
            *message = SLICE_LIT("partitions should be a consecutive 0-based integer sequence");
            return KE_INVALID_REPLICA_ASSIGNMENT;
        }
        if (seen[a->partition_index]) {
            *message = kreq_printf(q,
                                   "Found multiple manual partition assignments for partition "
                                   "%" PRId32,
                                   a->partition_index);
            return KE_INVALID_REPLICA_ASSIGNMENT;
        }
        seen[a->partition_index] = true;
        code = replicas_check(q, a->broker_ids, a->broker_ids_n, message);
    }
    return code;
}

/* How many partitions it is to have, in *n. */
static int16_t shape_check(struct kreq *q, const struct kafka_create_topics_request_topic *in,
                           int32_t *n, struct slice *message)
{
    *n = in->assignments_n ? (int32_t)in->assignments_n : in->num_partitions;
    if (*n == -1)
        *n = broker_partitions_default(q->b);
    if (in->assignments_n) {
        int16_t code = assignments_check(q, in, message);

        if (code)
            return code;
    } else if (in->replication_factor < -1 || in->replication_factor == 0) {
        *message = SLICE_LIT("Replication factor must be larger than 0, or -1 to use the default "
                             "value.");
        return KE_INVALID_REPLICATION_FACTOR;
    } else if (*n <= 0) {
        *message = SLICE_LIT("Number of partitions was set to an invalid non-positive value.");
        return KE_INVALID_PARTITIONS;
    } else if (in->replication_factor > 1) {
        *message = kreq_printf(q,
                               "Unable to replicate the partition %d time(s): The target "
                               "replication factor of %d cannot be reached because only 1 "
                               "broker(s) are registered.",
                               in->replication_factor, in->replication_factor);
        return KE_INVALID_REPLICATION_FACTOR;
    }
    if (*n > LIMIT_PARTITIONS) {
        *message = kreq_printf(q, "a topic has at most %d partitions", LIMIT_PARTITIONS);
        return KE_INVALID_PARTITIONS;
    }
    return KE_NONE;
}

static int16_t conf_read(struct kreq *q, const struct kafka_create_topics_request_topic *in,
                         struct topic_conf *conf, struct slice *message)
{
    struct errinfo info = {0};
    enum err e = ERR_OK;
    uint32_t i;

    topic_conf_default(q->b, conf);
    for (i = 0; i < in->configs_n && !e; i++) {
        if (slice_is_null(in->configs[i].value)) {
            *message = kreq_printf(q, "Null value not supported for topic configs: %.*s",
                                   (int)(in->configs[i].name.len % 256),
                                   (const char *)in->configs[i].name.ptr);
            return KE_INVALID_CONFIG;
        }
        e = topic_conf_set(conf, in->configs[i].name, in->configs[i].value, &info);
    }
    if (e)
        *message = kreq_printf(q, "%s", info.text);
    return kafka_admin_code(e);
}

/* What the new topic is like, as far as the version has it and the client may see it. */
static void create_describe(struct kreq *q, const struct topic_conf *conf, int32_t n,
                            struct kafka_create_topics_response_topic *o)
{
    struct topic_conf_item it;
    unsigned i;

    if (q->version < 5)
        return;
    if (!kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_TOPIC, o->name)) {
        o->topic_config_error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        o->configs_null = true;
        return;
    }
    o->num_partitions = n;
    o->replication_factor = 1;
    for (i = 0; topic_conf_item_at(q->b, conf, i, &it); i++)
        ;
    if (!(o->configs = kreq_alloc(q, i, sizeof *o->configs)))
        return;
    for (i = 0; topic_conf_item_at(q->b, conf, i, &it); i++)
        o->configs[i] = (struct kafka_create_topics_response_config){
            .name = slice_str(it.name),
            .value = arena_dup(&q->arena, slice_str(it.value)),
            .config_source = it.is_default ? KSOURCE_DEFAULT : KSOURCE_TOPIC};
    o->configs_n = i;
}

static void create_refuse(struct kafka_create_topics_response_topic *o, int16_t code,
                          struct slice message)
{
    struct slice name = o->name;

    kafka_create_topics_response_topic_init(o);
    o->name = name;
    o->error_code = code;
    o->error_message = message;
}

static bool create_allowed(struct kreq *q, struct slice name)
{
    return kafka_allowed(q, KOP_CREATE, KRES_CLUSTER, KAFKA_CLUSTER_NAME) ||
           kafka_allowed(q, KOP_CREATE, KRES_TOPIC, name);
}

/* Starts to make a topic, or checks that it could be made. */
static void create_one(struct kreq *q, const struct kafka_create_topics_request_topic *in,
                       bool validate_only, struct kgather_job *job,
                       struct kafka_create_topics_response_topic *o)
{
    struct slice message = SLICE_NULL;
    struct errinfo info = {0};
    struct topic_conf conf;
    int32_t n = 0;
    int16_t code;
    enum err e;

    if (!create_allowed(q, in->name)) {
        create_refuse(o, KE_TOPIC_AUTHORIZATION_FAILED, SLICE_LIT("Authorization failed."));
        return;
    }
    topic_conf_default(q->b, &conf);
    e = topic_create_check(q->b, in->name, 0, NULL, &info);
    code = e ? kafka_admin_code(e) : shape_check(q, in, &n, &message);
    if (!code)
        code = conf_read(q, in, &conf, &message);
    if (!code)
        code = kafka_admin_code(topic_create_check(q->b, in->name, n, &conf, &info));
    if (code) {
        create_refuse(o, code, slice_is_null(message) ? kreq_printf(q, "%s", info.text) : message);
        return;
    }
    create_describe(q, &conf, n, o);
    if (validate_only)
        return;
    kgather_begin(job);
    e = topic_create(q->b, in->name, n, &conf, kgather_done, job, &info);
    if (e)
        kgather_done(job, e, &info);
}

static void create_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct create *c = g->state;
    struct slice message;
    struct topic *t;
    uint32_t i;

    for (i = 0; i < c->s.topics_n; i++) {
        struct kafka_create_topics_response_topic *o = &c->s.topics[i];
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code)
            create_refuse(o, code, message);
        else if (!o->error_code && !c->m.validate_only && (t = topic_find(q->b, o->name))) {
            memcpy(o->topic_id, topic_uuid(t), 16);
            topic_unref(&t);
        }
    }
    KREQ_REPLY(q, create_topics, &c->s);
}

void kafka_on_create_topics(struct kreq *q)
{
    struct create *c = kreq_alloc(q, 1, sizeof *c);
    struct slice *names;
    struct kgather *g;
    uint8_t *times;
    uint32_t i;

    if (!c || !KREQ_DECODE(q, create_topics, &c->m))
        return;
    kafka_create_topics_response_init(&c->s);
    if (!(names = kreq_alloc(q, c->m.topics_n, sizeof *names)))
        return;
    for (i = 0; i < c->m.topics_n; i++)
        names[i] = c->m.topics[i].name;
    if (!(times = kafka_names_count(q, names, c->m.topics_n)) ||
        !(c->s.topics = kreq_alloc(q, c->m.topics_n, sizeof *c->s.topics)) ||
        !(g = kgather_new(q, c->m.topics_n, create_reply, c)))
        return;
    for (i = 0; i < c->m.topics_n; i++) {
        struct kafka_create_topics_response_topic *o = &c->s.topics[c->s.topics_n];

        if (times[i] == KNAME_AGAIN)
            continue;
        kafka_create_topics_response_topic_init(o);
        o->error_message = SLICE_NULL;
        o->name = names[i];
        if (times[i] == KNAME_FIRST)
            create_refuse(o, KE_INVALID_REQUEST, SLICE_LIT("Duplicate topic name."));
        else
            create_one(q, &c->m.topics[i], c->m.validate_only, &g->jobs[c->s.topics_n], o);
        c->s.topics_n++;
    }
    kgather_wait(g, c->m.timeout_ms);
}
