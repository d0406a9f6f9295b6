/* Who is there and what there is: ApiVersions, Metadata, DescribeCluster, DescribeTopicPartitions,
 * FindCoordinator. There is one broker, this one: node 1 leads every partition and coordinates every
 * group and transaction. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/ordered.h"
#include "proto/kafka/kafka_int.h"

#define LIST_TOPICS    256u
#define NAMELESS_SINCE 12 /* version of Metadata that may leave a topic's name out */

static const int32_t node = KAFKA_NODE_ID;

/* ---- where we are ---- */

/* The address that the client came to, as the socket says. */
static bool local_address(struct kreq *q, struct slice *host, int32_t *port)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char text[INET6_ADDRSTRLEN] = "";
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;

    if (!q->kc || q->kc->c->fd.fd < 0 || getsockname(q->kc->c->fd.fd, (struct sockaddr *)&a, &n))
        return false;
    if (a.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        *port = ntohs(v4->sin_port);
    } else if (a.ss_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);

        if (mapped)
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof text);
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        *port = ntohs(v6->sin6_port);
    } else {
        return false;
    }
    *host = kreq_printf(q, "%s", text);
    return true;
}

void kafka_address(struct kreq *q, struct slice *host, int32_t *port)
{
    const char *a = q->k->advertised, *colon = strrchr(a, ':');

    *host = SLICE_LIT("localhost");
    *port = 9092;
    if (colon) {
        size_t n = (size_t)(colon - a);
        bool v6 = n > 2 && a[0] == '[' && a[n - 1] == ']';

        *host = v6 ? slice_of(a + 1, n - 2) : slice_of(a, n);
        *port = (int32_t)strtol(colon + 1, NULL, 10);
        return;
    }
    local_address(q, host, port);
}

/* ---- ApiVersions ---- */

static const struct {
    const char *name;
    int16_t min, max;
} features[] = {
    {"group.version", 0, 1},   {"metadata.version", 7, 29},   {"share.version", 0, 1},
    {"streams.version", 0, 1}, {"transaction.version", 0, 2},
};
#define FEATURES_N (sizeof features / sizeof *features)

static void api_versions_fill(struct kreq *q, struct kafka_api_versions_response *s)
{
    size_t i;

    s->api_keys = kreq_alloc(q, kafka_apis_n, sizeof *s->api_keys);
    s->supported_features = kreq_alloc(q, FEATURES_N, sizeof *s->supported_features);
    s->finalized_features = kreq_alloc(q, FEATURES_N, sizeof *s->finalized_features);
    if (q->state == KREQ_DONE)
        return;
    for (i = 0; i < kafka_apis_n; i++)
        if (kafka_handler_of(kafka_apis[i].key))
            s->api_keys[s->api_keys_n++] = (struct kafka_api_versions_response_api){
                kafka_apis[i].key, kafka_apis[i].advertised_min, kafka_apis[i].max};
    for (i = 0; i < FEATURES_N; i++) {
        struct slice name = slice_str(features[i].name);

        /* Before version 4 a minimum of 0 is not understood (KAFKA-17011). */
        if (features[i].min > 0 || q->version >= 4)
            s->supported_features[s->supported_features_n++] =
                (struct kafka_api_versions_response_supported_feature){name, features[i].min,
                                                                       features[i].max};
        s->finalized_features[s->finalized_features_n++] =
            (struct kafka_api_versions_response_finalized_feature){name, features[i].max,
                                                                   features[i].max};
    }
    s->finalized_features_epoch = 1;
}

void kafka_on_api_versions(struct kreq *q)
{
    struct kafka_api_versions_response s;
    struct kafka_api_versions_request m;

    kafka_api_versions_response_init(&s);
    if (!kafka_api_has(q->api, q->version)) {
        q->version = 0; /* the client tries again with a version that it is told of here */
        s.error_code = KE_UNSUPPORTED_VERSION;
    } else if (!KREQ_DECODE(q, api_versions, &m)) {
        return;
    }
    api_versions_fill(q, &s);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, api_versions, &s);
}

/* ---- topics ---- */

struct topic *kafka_topic(struct kreq *q, struct slice name, const uint8_t *id, bool by_id,
                          int16_t *code)
{
    struct topic *t = by_id ? topic_find_uuid(q->b, id) : topic_find(q->b, name);

    *code = KE_NONE;
    if (!t)
        *code = by_id ? KE_UNKNOWN_TOPIC_ID : KE_UNKNOWN_TOPIC_OR_PARTITION;
    return t;
}

/* ---- Metadata ---- */

/* Topics are written one by one as they are looked at, into a writer of their own, so that an answer
 * takes the memory that it has bytes, whatever number of topics there are. */
struct metadata {
    struct kafka_metadata_request m;
    struct kafka_metadata_response s;
    struct kwriter made; /* topics */
    struct kafka_metadata_response_partition *parts;
    int32_t parts_n;
    uint32_t at;                    /* of the topics asked for: the next */
    char after[TOPIC_NAME_MAX + 1]; /* of all: the last that was looked at */
    atomic_uint creating;           /* topics being made, and 1 */
};

static void metadata_reply(struct kreq *q);

/* The first n partitions of a topic: they are the same for all. NULL: the request failed. */
static struct kafka_metadata_response_partition *parts_get(struct kreq *q, struct metadata *md,
                                                           int32_t n)
{
    int32_t i, cap = n < 16 ? 16 : n;

    if (n <= md->parts_n)
        return md->parts;
    if (cap < LIMIT_PARTITIONS / 2)
        cap *= 2;
    md->parts = kreq_alloc(q, (size_t)cap, sizeof *md->parts);
    md->parts_n = md->parts ? cap : 0;
    for (i = 0; i < md->parts_n; i++)
        md->parts[i] =
            (struct kafka_metadata_response_partition){.partition_index = i,
                                                       .leader_id = node,
                                                       .leader_epoch = 0,
                                                       .replica_nodes = (int32_t *)(uintptr_t)&node,
                                                       .replica_nodes_n = 1,
                                                       .isr_nodes = (int32_t *)(uintptr_t)&node,
                                                       .isr_nodes_n = 1};
    return md->parts;
}

/* t: NULL, or the topic that o is about. */
static void metadata_add(struct kreq *q, struct metadata *md, struct topic *t,
                         struct kafka_metadata_response_topic *o)
{
    if (t) {
        o->name = slice_str(topic_name(t));
        memcpy(o->topic_id, topic_uuid(t), 16);
        o->partitions_n = (uint32_t)topic_partitions(t);
        if (md->m.include_topic_authorized_operations)
            o->topic_authorized_operations = kafka_operations(q, KRES_TOPIC, o->name);
        if (!(o->partitions = parts_get(q, md, (int32_t)o->partitions_n)))
            return;
    }
    kafka_metadata_response_topic_write(&md->made, q->version, o);
    md->s.topics_made_n++;
    if (md->made.err)
        kreq_fail(q, md->made.err);
}

static void metadata_release(struct kreq *q)
{
    struct metadata *md = q->state_of;

    kwriter_fini(&md->made);
}

/* False: the rest is for the next turn. */
static bool metadata_all(struct kreq *q, struct metadata *md)
{
    struct topic *list[LIST_TOPICS];
    size_t i, n;

    do {
        n = topic_list(q->b, slice_str(md->after), NULL, list, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            struct slice name = slice_str(topic_name(list[i]));
            struct kafka_metadata_response_topic o;

            kafka_metadata_response_topic_init(&o);
            if (q->state != KREQ_DONE && kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, name))
                metadata_add(q, md, list[i], &o);
            if (i == n - 1)
                memcpy(md->after, name.ptr, name.len + 1);
            topic_unref(&list[i]);
        }
        if (n == LIST_TOPICS && q->state != KREQ_DONE && kreq_yield(q, metadata_reply))
            return false;
    } while (n == LIST_TOPICS && q->state != KREQ_DONE);
    return true;
}

static void metadata_one(struct kreq *q, struct metadata *md,
                         const struct kafka_metadata_request_topic *want)
{
    bool by_id = !kafka_uuid_is_zero(want->topic_id);
    struct kafka_metadata_response_topic o;
    struct topic *t;
    int16_t code;

    kafka_metadata_response_topic_init(&o);
    o.name = slice_is_null(want->name) && q->version < NAMELESS_SINCE ? SLICE_LIT("") : want->name;
    memcpy(o.topic_id, want->topic_id, 16);
    t = kafka_topic(q, want->name, want->topic_id, by_id, &code);
    o.error_code = code;
    if (t && !kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, slice_str(topic_name(t)))) {
        o.error_code = by_id ? KE_UNKNOWN_TOPIC_ID : KE_TOPIC_AUTHORIZATION_FAILED;
        topic_unref(&t);
    } else if (!t && !by_id && !topic_name_valid(want->name)) {
        o.error_code = KE_INVALID_TOPIC;
    }
    metadata_add(q, md, t, &o);
    topic_unref(&t);
}

/* Those that were asked for by name or id. False: the rest is for the next turn. */
static bool metadata_some(struct kreq *q, struct metadata *md)
{
    while (md->at < md->m.topics_n && q->state != KREQ_DONE) {
        metadata_one(q, md, &md->m.topics[md->at++]);
        if (md->at < md->m.topics_n && q->state != KREQ_DONE && kreq_yield(q, metadata_reply))
            return false;
    }
    return true;
}

static void metadata_reply(struct kreq *q)
{
    struct metadata *md = q->state_of;
    bool all = md->m.topics_null || (q->version == 0 && md->m.topics_n == 0);
    struct kafka_metadata_response_broker *br;

    if (!(all ? metadata_all(q, md) : metadata_some(q, md)) || q->state == KREQ_DONE ||
        !(br = kreq_alloc(q, 1, sizeof *br)))
        return;
    br->node_id = node;
    kafka_address(q, &br->host, &br->port);
    md->s.brokers = br;
    md->s.brokers_n = 1;
    md->s.cluster_id = slice_str(q->k->cluster_id);
    md->s.controller_id = node;
    if (md->m.include_cluster_authorized_operations)
        md->s.cluster_authorized_operations = kafka_cluster_operations(q);
    md->s.topics_made = buf_slice(&md->made.buf);
    KREQ_REPLY(q, metadata, &md->s);
}

static void created(void *arg, enum err e, const struct errinfo *info)
{
    struct kreq *q = arg;
    struct metadata *md = q->state_of;

    /* An error shows when the topic is looked for. */
    if (atomic_fetch_sub(&md->creating, 1) == 1)
        kreq_post(q, metadata_reply);
}

/* Makes the topics that are asked for and not there, as auto.create.topics.enable says. */
static void metadata_create(struct kreq *q, struct metadata *md)
{
    struct errinfo info;
    struct topic *t;
    uint32_t i;

    for (i = 0; i < md->m.topics_n; i++) {
        struct slice name = md->m.topics[i].name;

        if (!kafka_uuid_is_zero(md->m.topics[i].topic_id) || slice_is_null(name) ||
            !topic_name_valid(name))
            continue;
        if (!kafka_allowed(q, KOP_CREATE, KRES_CLUSTER, KAFKA_CLUSTER_NAME) &&
            !kafka_allowed(q, KOP_CREATE, KRES_TOPIC, name))
            continue;
        atomic_fetch_add(&md->creating, 1);
        t = NULL;
        if (topic_find_or_create(q->b, name, &t, created, q, &info) || t)
            atomic_fetch_sub(&md->creating, 1);
        topic_unref(&t);
    }
}

void kafka_on_metadata(struct kreq *q)
{
    struct metadata *md = kreq_alloc(q, 1, sizeof *md);

    if (!md || !KREQ_DECODE(q, metadata, &md->m))
        return;
    q->state_of = md;
    kafka_metadata_response_init(&md->s);
    kwriter_init(&md->made, LIMIT_KAFKA_ANSWER);
    q->release = metadata_release;
    atomic_init(&md->creating, 1);
    if (q->k->conf.topics_auto_create && !md->m.topics_null &&
        (q->version < 4 || md->m.allow_auto_topic_creation))
        metadata_create(q, md);
    if (atomic_fetch_sub(&md->creating, 1) == 1)
        metadata_reply(q);
}

/* ---- DescribeCluster ---- */

enum { ENDPOINT_BROKER = 1, ENDPOINT_CONTROLLER = 2 };
enum { KE_MISMATCHED_ENDPOINT_TYPE = 114, KE_UNSUPPORTED_ENDPOINT_TYPE = 115 };

void kafka_on_describe_cluster(struct kreq *q)
{
    struct kafka_describe_cluster_response_broker br;
    struct kafka_describe_cluster_response s;
    struct kafka_describe_cluster_request m;

    if (!KREQ_DECODE(q, describe_cluster, &m))
        return;
    kafka_describe_cluster_response_init(&s);
    kafka_describe_cluster_response_broker_init(&br);
    s.cluster_id = slice_str(q->k->cluster_id);
    if (m.include_cluster_authorized_operations)
        s.cluster_authorized_operations = kafka_cluster_operations(q);
    if (q->version >= 1 && m.endpoint_type != ENDPOINT_BROKER) {
        s.error_code = m.endpoint_type == ENDPOINT_CONTROLLER ? KE_MISMATCHED_ENDPOINT_TYPE
                                                              : KE_UNSUPPORTED_ENDPOINT_TYPE;
        s.error_message = SLICE_LIT("this is a broker, not a controller's endpoint");
        KREQ_REPLY(q, describe_cluster, &s);
        return;
    }
    br.broker_id = node;
    kafka_address(q, &br.host, &br.port);
    s.controller_id = node;
    s.brokers = &br;
    s.brokers_n = 1;
    KREQ_REPLY(q, describe_cluster, &s);
}

/* ---- DescribeTopicPartitions ---- */

static void described_fill(struct kreq *q, struct topic *t, int32_t from, int32_t to,
                           struct kafka_describe_topic_partitions_response_topic *o)
{
    int32_t i;

    memcpy(o->topic_id, topic_uuid(t), 16);
    o->partitions = kreq_alloc(q, (size_t)(to - from), sizeof *o->partitions);
    if (!o->partitions)
        return;
    o->partitions_n = (uint32_t)(to - from);
    /* There are no eligible leaders, but there is a list: the Java client wants one. */
    for (i = from; i < to; i++)
        o->partitions[i - from] = (struct kafka_describe_topic_partitions_response_partition){
            .partition_index = i,
            .leader_id = node,
            .replica_nodes = (int32_t *)(uintptr_t)&node,
            .replica_nodes_n = 1,
            .isr_nodes = (int32_t *)(uintptr_t)&node,
            .isr_nodes_n = 1};
}

static int name_order(const void *a, const void *b)
{
    const struct kafka_describe_topic_partitions_request_topic *x = a, *y = b;

    return ordered_compare(x->name, y->name);
}

/* All topics as if they had been asked for by name. */
static void described_all(struct kreq *q, struct kafka_describe_topic_partitions_request *m)
{
    struct slice after = m->cursor ? m->cursor->topic_name : SLICE_LIT("");
    struct topic *list[LIST_TOPICS], *first = NULL;
    size_t i, n;

    m->topics = kreq_alloc(q, LIST_TOPICS + 1, sizeof *m->topics);
    if (!m->topics)
        return;
    if (m->cursor && (first = topic_find(q->b, after)))
        m->topics[m->topics_n++].name = after;
    topic_unref(&first);
    n = topic_list(q->b, after, NULL, list, LIST_TOPICS);
    for (i = 0; i < n; i++) {
        m->topics[m->topics_n++].name = arena_dup(&q->arena, slice_str(topic_name(list[i])));
        topic_unref(&list[i]);
    }
}

static void described_one(struct kreq *q, const struct kafka_describe_topic_partitions_request *m,
                          struct slice name, int32_t *room,
                          struct kafka_describe_topic_partitions_response *s)
{
    struct kafka_describe_topic_partitions_response_topic *o = &s->topics[s->topics_n];
    struct topic *t = topic_find(q->b, name);
    int32_t from = 0, to, n = t ? topic_partitions(t) : 0;

    if (m->cursor && slice_eq(m->cursor->topic_name, name))
        from = m->cursor->partition_index < 0 ? 0 : m->cursor->partition_index;
    from = from > n ? n : from;
    to = n - from > *room ? from + *room : n;
    kafka_describe_topic_partitions_response_topic_init(o);
    o->name = name;
    s->topics_n++;
    if (!t) {
        o->error_code = topic_name_valid(name) ? KE_UNKNOWN_TOPIC_OR_PARTITION : KE_INVALID_TOPIC;
    } else if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, name)) {
        o->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
    } else {
        o->topic_authorized_operations = kafka_operations(q, KRES_TOPIC, name);
        described_fill(q, t, from, to, o);
        *room -= to - from;
        if (to < n && (s->next_cursor = kreq_alloc(q, 1, sizeof *s->next_cursor)))
            *s->next_cursor = (struct kafka_describe_topic_partitions_response_cursor){o->name, to};
    }
    topic_unref(&t);
}

void kafka_on_describe_topic_partitions(struct kreq *q)
{
    struct kafka_describe_topic_partitions_response s;
    struct kafka_describe_topic_partitions_request m;
    int32_t room;
    uint32_t i;

    if (!KREQ_DECODE(q, describe_topic_partitions, &m))
        return;
    room = m.response_partition_limit;
    room = room < 1 ? 1 : room > 2000 ? 2000 : room; /* max.request.partition.size.limit */
    kafka_describe_topic_partitions_response_init(&s);
    if (m.topics_n == 0)
        described_all(q, &m);
    else
        qsort(m.topics, m.topics_n, sizeof *m.topics, name_order);
    if (q->state == KREQ_DONE || !(s.topics = kreq_alloc(q, m.topics_n, sizeof *s.topics)))
        return;
    for (i = 0; i < m.topics_n && q->state != KREQ_DONE && !s.next_cursor; i++) {
        if (m.cursor && ordered_compare(m.topics[i].name, m.cursor->topic_name) < 0)
            continue;
        if (room == 0) {
            s.next_cursor = kreq_alloc(q, 1, sizeof *s.next_cursor);
            if (s.next_cursor)
                s.next_cursor->topic_name = m.topics[i].name;
            break;
        }
        described_one(q, &m, m.topics[i].name, &room, &s);
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_topic_partitions, &s);
}

/* ---- FindCoordinator ---- */

static int16_t coordinator_code(struct kreq *q, int8_t type, struct slice key)
{
    bool group = type == 0;

    if (type != 0 && type != 1)
        return KE_INVALID_REQUEST;
    if (!kafka_allowed(q, KOP_DESCRIBE, group ? KRES_GROUP : KRES_TRANSACTIONAL_ID, key))
        return group ? KE_GROUP_AUTHORIZATION_FAILED : KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    return KE_NONE;
}

void kafka_on_find_coordinator(struct kreq *q)
{
    struct kafka_find_coordinator_response s;
    struct kafka_find_coordinator_request m;
    struct slice host;
    int32_t port;
    uint32_t i;

    if (!KREQ_DECODE(q, find_coordinator, &m))
        return;
    kafka_find_coordinator_response_init(&s);
    kafka_address(q, &host, &port);
    if (q->version < 4) {
        s.error_code = coordinator_code(q, m.key_type, m.key);
        s.node_id = s.error_code ? -1 : node;
        s.host = s.error_code ? SLICE_LIT("") : host;
        s.port = s.error_code ? -1 : port;
        KREQ_REPLY(q, find_coordinator, &s);
        return;
    }
    s.coordinators = kreq_alloc(q, m.coordinator_keys_n, sizeof *s.coordinators);
    if (!s.coordinators)
        return;
    s.coordinators_n = m.coordinator_keys_n;
    for (i = 0; i < s.coordinators_n; i++) {
        int16_t code = coordinator_code(q, m.key_type, m.coordinator_keys[i]);

        s.coordinators[i] = (struct kafka_find_coordinator_response_coordinator){
            .key = m.coordinator_keys[i],
            .node_id = code ? -1 : node,
            .host = code ? SLICE_LIT("") : host,
            .port = code ? -1 : port,
            .error_code = code};
    }
    KREQ_REPLY(q, find_coordinator, &s);
}
