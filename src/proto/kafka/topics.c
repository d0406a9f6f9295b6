/* Topics made, deleted and given partitions; records deleted: CreateTopics, DeleteTopics,
 * CreatePartitions, DeleteRecords. All changes of a request are under way together, and answered
 * when they are durable (admin_int.h). Errors and their words are those of Kafka's controller
 * (org.apache.kafka.controller.ReplicationControlManager). */
#include <inttypes.h>
#include <string.h>

#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/tier.h"
#include "journal/journal.h"
#include "proto/kafka/admin_int.h"

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
        code = kafka_replicas_check(q, a->broker_ids, a->broker_ids_n, message);
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
            *message =
                kreq_printf(q, "Null value not supported for topic configs: %.*s",
                            (int)(in->configs[i].name.len < 256 ? in->configs[i].name.len : 256),
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

/* ---- DeleteTopics ---- */

struct delete
{
    struct kafka_delete_topics_request m;
    struct kafka_delete_topics_response s;
};

static void delete_refuse(struct kafka_delete_topics_response_topic *o, int16_t code,
                          struct slice message)
{
    o->error_code = code;
    o->error_message = message;
}

/* The topic named or numbered in o, and its name put there; NULL: refused. A topic that the client
 * may not see is as good as not there, and its name is not told. */
static struct topic *delete_find(struct kreq *q, struct kafka_delete_topics_response_topic *o)
{
    bool by_id = !kafka_uuid_is_zero(o->topic_id);
    struct slice name;
    struct topic *t;
    int16_t code;

    if (by_id == !slice_is_null(o->name)) {
        delete_refuse(o, KE_INVALID_REQUEST,
                      by_id ? SLICE_LIT("You may not specify both topic name and topic id.")
                            : SLICE_LIT("Neither topic name nor id were specified."));
        return NULL;
    }
    if (!by_id && !kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, o->name)) {
        delete_refuse(o, KE_TOPIC_AUTHORIZATION_FAILED, SLICE_NULL);
        return NULL;
    }
    if (!(t = kafka_topic(q, o->name, o->topic_id, by_id, &code))) {
        delete_refuse(o, code,
                      by_id ? SLICE_LIT("This server does not host this topic ID.")
                            : SLICE_LIT("This server does not host this topic-partition."));
        return NULL;
    }
    name = slice_str(topic_name(t));
    if (by_id && !kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, name)) {
        delete_refuse(o, KE_TOPIC_AUTHORIZATION_FAILED, SLICE_NULL);
        topic_unref(&t);
        return NULL;
    }
    o->name = arena_dup(&q->arena, name);
    memcpy(o->topic_id, topic_uuid(t), 16);
    if (!kafka_allowed(q, KOP_DELETE, KRES_TOPIC, name)) {
        delete_refuse(o, KE_TOPIC_AUTHORIZATION_FAILED, SLICE_NULL);
        topic_unref(&t);
    }
    return t;
}

static void delete_one(struct kreq *q, struct kgather_job *job,
                       struct kafka_delete_topics_response_topic *o)
{
    struct topic *t = delete_find(q, o);
    struct errinfo info = {0};
    enum err e;

    if (!t)
        return;
    kgather_begin(job);
    e = topic_delete(q->b, slice_str(topic_name(t)), kgather_done, job, &info);
    if (e)
        kgather_done(job, e, &info);
    topic_unref(&t);
}

static void delete_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct delete *d = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < d->s.responses_n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code)
            delete_refuse(&d->s.responses[i], code, message);
    }
    KREQ_REPLY(q, delete_topics, &d->s);
}

/* What tells apart the topics asked for: names, and ids behind a byte that no name has. */
static struct slice *delete_keys(struct kreq *q, const struct kafka_delete_topics_request *m,
                                 uint32_t n)
{
    struct slice *keys = kreq_alloc(q, n, sizeof *keys);
    uint32_t i;

    for (i = 0; keys && i < n; i++) {
        if (q->version < 6) {
            keys[i] = m->topic_names[i];
        } else if (kafka_uuid_is_zero(m->topics[i].topic_id)) {
            keys[i] = m->topics[i].name;
        } else {
            uint8_t *key = kreq_alloc(q, 1, 17);

            if (!key)
                return NULL;
            memcpy(key + 1, m->topics[i].topic_id, 16);
            keys[i] = slice_of(key, 17);
        }
    }
    return keys;
}

void kafka_on_delete_topics(struct kreq *q)
{
    struct delete *d = kreq_alloc(q, 1, sizeof *d);
    struct slice *keys;
    struct kgather *g;
    uint8_t *times;
    uint32_t i, n;

    if (!d || !KREQ_DECODE(q, delete_topics, &d->m))
        return;
    kafka_delete_topics_response_init(&d->s);
    n = q->version < 6 ? d->m.topic_names_n : d->m.topics_n;
    if (!(keys = delete_keys(q, &d->m, n)) || !(times = kafka_names_count(q, keys, n)) ||
        !(d->s.responses = kreq_alloc(q, n, sizeof *d->s.responses)) ||
        !(g = kgather_new(q, n, delete_reply, d)))
        return;
    for (i = 0; i < n; i++) {
        struct kafka_delete_topics_response_topic *o = &d->s.responses[d->s.responses_n];
        bool null = q->version >= 6 && slice_is_null(keys[i]);

        if (times[i] == KNAME_AGAIN && !null)
            continue;
        kafka_delete_topics_response_topic_init(o);
        o->name = q->version < 6 ? keys[i] : d->m.topics[i].name;
        if (q->version >= 6)
            memcpy(o->topic_id, d->m.topics[i].topic_id, 16);
        if (times[i] == KNAME_FIRST && !null)
            delete_refuse(o, KE_INVALID_REQUEST,
                          keys[i].len == 17 && keys[i].ptr[0] == 0
                              ? SLICE_LIT("Duplicate topic id.")
                              : SLICE_LIT("Duplicate topic name."));
        else
            delete_one(q, &g->jobs[d->s.responses_n], o);
        d->s.responses_n++;
    }
    kgather_wait(g, d->m.timeout_ms);
}

/* ---- CreatePartitions ---- */

struct extend {
    struct kafka_create_partitions_request m;
    struct kafka_create_partitions_response s;
    int32_t *counts; /* of the answer's topics */
};

static int16_t extend_check(struct kreq *q, const struct kafka_create_partitions_request_topic *in,
                            struct slice *message)
{
    struct topic *t = topic_find(q->b, in->name);
    int32_t now = t ? topic_partitions(t) : 0;
    int16_t code = KE_NONE;
    uint32_t i;

    topic_unref(&t);
    if (!now)
        return KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (in->count == now)
        *message = kreq_printf(q, "Topic already has %" PRId32 " partition(s).", now);
    else if (in->count < now)
        *message = kreq_printf(q,
                               "The topic %.*s currently has %" PRId32 " partition(s); %" PRId32
                               " would not be an increase.",
                               (int)in->name.len, (const char *)in->name.ptr, now, in->count);
    else if (in->count > LIMIT_PARTITIONS)
        *message = kreq_printf(q, "a topic has at most %d partitions", LIMIT_PARTITIONS);
    if (!slice_is_null(*message))
        return KE_INVALID_PARTITIONS;
    if (!in->assignments_null && (int64_t)in->assignments_n != in->count - now) {
        *message = kreq_printf(q,
                               "Attempted to add %" PRId32 " additional partition(s), but only "
                               "%" PRIu32 " assignment(s) were specified.",
                               in->count - now, in->assignments_n);
        return KE_INVALID_REPLICA_ASSIGNMENT;
    }
    for (i = 0; !in->assignments_null && i < in->assignments_n && !code; i++)
        code = kafka_replicas_check(q, in->assignments[i].broker_ids,
                                    in->assignments[i].broker_ids_n, message);
    return code;
}

/* Job i of the request: topic i of the answer, whose name and number of partitions it has. */
static void extend_try(struct kgather_job *job)
{
    struct extend *x = job->g->state;
    uint32_t i = (uint32_t)(job - job->g->jobs);
    struct errinfo info = {0};
    enum err e;

    e = topic_alter(job->g->q->b, x->s.results[i].name, x->counts[i], NULL, kgather_done, job,
                    &info);
    if (e == ERR_CONFLICT)
        kgather_again(job, extend_try);
    else if (e)
        kgather_done(job, e, &info);
}

static void extend_one(struct kreq *q, const struct kafka_create_partitions_request_topic *in,
                       bool validate_only, struct kgather_job *job,
                       struct kafka_create_partitions_response_result *o)
{
    struct extend *x = job->g->state;

    o->error_code = kafka_allowed(q, KOP_ALTER, KRES_TOPIC, in->name)
                        ? extend_check(q, in, &o->error_message)
                        : KE_TOPIC_AUTHORIZATION_FAILED;
    if (o->error_code || validate_only)
        return;
    x->counts[job - job->g->jobs] = in->count;
    kgather_begin(job);
    extend_try(job);
}

static void extend_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct extend *x = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < x->s.results_n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code) {
            x->s.results[i].error_code = code;
            x->s.results[i].error_message = message;
        }
    }
    KREQ_REPLY(q, create_partitions, &x->s);
}

void kafka_on_create_partitions(struct kreq *q)
{
    struct extend *x = kreq_alloc(q, 1, sizeof *x);
    struct slice *names;
    struct kgather *g;
    uint8_t *times;
    uint32_t i, n;

    if (!x || !KREQ_DECODE(q, create_partitions, &x->m))
        return;
    n = x->m.topics_n;
    kafka_create_partitions_response_init(&x->s);
    if (!(names = kreq_alloc(q, n, sizeof *names)))
        return;
    for (i = 0; i < n; i++)
        names[i] = x->m.topics[i].name;
    if (!(times = kafka_names_count(q, names, n)) ||
        !(x->s.results = kreq_alloc(q, n, sizeof *x->s.results)) ||
        !(x->counts = kreq_alloc(q, n, sizeof *x->counts)) ||
        !(g = kgather_new(q, n, extend_reply, x)))
        return;
    for (i = 0; i < n; i++) {
        struct kafka_create_partitions_response_result *o = &x->s.results[x->s.results_n];

        if (times[i] == KNAME_AGAIN)
            continue;
        kafka_create_partitions_response_result_init(o);
        o->name = names[i];
        if (times[i] == KNAME_FIRST) {
            o->error_code = KE_INVALID_REQUEST;
            o->error_message = SLICE_LIT("Duplicate topic name.");
        } else {
            extend_one(q, &x->m.topics[i], x->m.validate_only, &g->jobs[x->s.results_n], o);
        }
        x->s.results_n++;
    }
    kgather_wait(g, x->m.timeout_ms);
}

/* ---- DeleteRecords ---- */

struct trim {
    struct kafka_delete_records_request m;
    struct kafka_delete_records_response s;
};

static void trim_one(struct kreq *q, struct topic *t, int64_t offset, struct kgather_job *job,
                     struct kafka_delete_records_response_partition *o)
{
    struct partition *p = topic_partition(t, o->partition_index);
    struct errinfo info = {0};
    struct plog_info now;
    enum err e;

    if (!p) {
        o->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    plog_info_get(partition_log(p), &now);
    if (offset == -1)
        offset = now.end_offset;
    if (offset < 0 || offset > now.end_offset) {
        o->error_code = KE_OFFSET_OUT_OF_RANGE;
        return;
    }
    o->low_watermark = offset > partition_start(p) ? offset : partition_start(p);
    kgather_begin(job);
    e = partition_trim(p, offset, kgather_done, job, &info);
    if (e)
        kgather_done(job, e, &info);
}

static void trim_topic(struct kreq *q, const struct kafka_delete_records_request_topic *in,
                       struct kgather_job *jobs, struct kafka_delete_records_response_topic *o)
{
    struct topic_conf conf;
    struct topic *t = NULL;
    int16_t code = KE_NONE;
    uint32_t i;

    o->name = in->name;
    if (!(o->partitions = kreq_alloc(q, in->partitions_n, sizeof *o->partitions)))
        return;
    o->partitions_n = in->partitions_n;
    if (!kafka_allowed(q, KOP_DELETE, KRES_TOPIC, in->name))
        code = KE_TOPIC_AUTHORIZATION_FAILED;
    else if ((t = kafka_topic(q, in->name, NULL, false, &code)))
        topic_conf_get(t, &conf);
    if (t && conf.cleanup == TOPIC_CLEANUP_COMPACT)
        code = KE_POLICY_VIOLATION;
    for (i = 0; i < in->partitions_n; i++) {
        o->partitions[i] = (struct kafka_delete_records_response_partition){
            .partition_index = in->partitions[i].partition_index,
            .low_watermark = -1,
            .error_code = code};
        if (!code)
            trim_one(q, t, in->partitions[i].offset, &jobs[i], &o->partitions[i]);
    }
    topic_unref(&t);
}

static void trim_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct trim *tr = g->state;
    struct kgather_job *job = g->jobs;
    struct slice message;
    uint32_t i, j;

    for (i = 0; i < tr->s.topics_n; i++)
        for (j = 0; j < tr->s.topics[i].partitions_n; j++, job++) {
            struct kafka_delete_records_response_partition *o = &tr->s.topics[i].partitions[j];
            int16_t code = kgather_result(q, job, &message);

            if (code) {
                o->error_code = code;
                o->low_watermark = -1;
            }
        }
    KREQ_REPLY(q, delete_records, &tr->s);
}

void kafka_on_delete_records(struct kreq *q)
{
    struct trim *tr = kreq_alloc(q, 1, sizeof *tr);
    struct kgather *g;
    uint32_t i, n = 0;

    if (!tr || !KREQ_DECODE(q, delete_records, &tr->m))
        return;
    kafka_delete_records_response_init(&tr->s);
    for (i = 0; i < tr->m.topics_n; i++)
        n += tr->m.topics[i].partitions_n;
    if (!(tr->s.topics = kreq_alloc(q, tr->m.topics_n, sizeof *tr->s.topics)) ||
        !(g = kgather_new(q, n, trim_reply, tr)))
        return;
    tr->s.topics_n = tr->m.topics_n;
    for (i = 0, n = 0; i < tr->m.topics_n && q->state != KREQ_DONE; i++) {
        trim_topic(q, &tr->m.topics[i], g->jobs + n, &tr->s.topics[i]);
        n += tr->m.topics[i].partitions_n;
    }
    kgather_wait(g, tr->m.timeout_ms);
}
