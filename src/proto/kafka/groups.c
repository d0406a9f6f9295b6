/* Members of groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, ConsumerGroupHeartbeat.
 *
 * A join, a sync or a consumer's heartbeat may wait. The coordinator's answer comes on any thread and
 * is valid during the call only, the request's arena belongs to its loop: so the answer is copied to
 * the heap, and encoded on the loop (kafka_wait_copied). When the connection ends the wait is
 * cancelled; if the answer was faster it is on its way to the loop, which then throws it away.
 *
 * Codes by version: KafkaApis and GroupCoordinatorService of Apache Kafka 4.2. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"

int64_t kafka_groups_now(struct kreq *q)
{
    return (int64_t)(io_mono_ns(broker_io(q->b)) / 1000000u);
}

int16_t kafka_group_code(enum err e)
{
    switch (e) {
    case ERR_OVERLOADED:
    case ERR_CLOSED:
    case ERR_IO:
    case ERR_NO_SPACE:
    case ERR_READ_ONLY:
        return KE_COORDINATOR_NOT_AVAILABLE; /* clients try again */
    case ERR_TOO_LARGE:
        return KE_UNKNOWN;
    default:
        return kafka_code(e);
    }
}

struct slice kafka_client_host(struct kreq *q)
{
    const char *host = q->kc->c->remote; /* ADDRESS:PORT, [ADDRESS]:PORT or a word */
    const char *end = strrchr(host, ':');

    if (!end)
        return kreq_printf(q, "/%s", host);
    if (*host == '[')
        host++, end--;
    return kreq_printf(q, "/%.*s", (int)(end - host), host);
}

/* ---- waiting ---- */

static void wait_cancel(struct kreq *q)
{
    struct kafka_wait *w = q->state_of;

    group_wait_cancel(q->b, &w->w);
    if (!atomic_load(&w->answered))
        kreq_done(q); /* it will not be */
}

struct kafka_wait *kafka_wait_new(struct kreq *q, void (*reply)(struct kreq *q))
{
    struct kafka_wait *w = kreq_alloc(q, 1, sizeof *w);

    if (!w)
        return NULL;
    w->reply = reply;
    q->state_of = w;
    q->cancel = wait_cancel;
    return w;
}

static void wait_run(struct kreq *q)
{
    struct kafka_wait *w = q->state_of;
    void (*drop)(void *copy) = w->drop ? w->drop : free;
    void *copy = w->copy;

    if (q->kc)
        w->reply(q);
    else
        kreq_done(q);
    drop(copy);
}

void kafka_wait_copied(struct kreq *q, void *copy)
{
    struct kafka_wait *w = q->state_of;

    w->copy = copy;
    atomic_store(&w->answered, true);
    kreq_post(q, wait_run);
}

/* Copies s to *at, which moves behind it. */
static struct slice put(uint8_t **at, struct slice s)
{
    struct slice out;

    if (slice_is_null(s))
        return s;
    out = slice_of(*at, s.len);
    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

/* ---- JoinGroup ---- */

static void join_answer(struct kreq *q, const struct group_join_result *r,
                        struct kafka_join_group_response_member *members, int16_t code)
{
    struct kafka_join_group_response s;

    kafka_join_group_response_init(&s);
    s.error_code = code;
    s.generation_id = r->generation;
    s.protocol_type = r->protocol_type;
    s.protocol_name = r->protocol_name;
    if (slice_is_null(s.protocol_name) && q->version < 7)
        s.protocol_name = SLICE_LIT("");
    s.leader = r->leader;
    s.skip_assignment = r->skip_assignment;
    s.member_id = r->member_id;
    s.members = members;
    s.members_n = r->members_n;
    KREQ_REPLY(q, join_group, &s);
}

static void join_refuse(struct kreq *q, const struct kafka_join_group_request *m, int16_t code)
{
    struct group_join_result r = {.generation = -1, .member_id = m->member_id};

    join_answer(q, &r, NULL, code);
}

static void join_reply(struct kreq *q)
{
    const struct kafka_wait *w = q->state_of;
    const struct group_join_result *r = w->copy;
    struct kafka_join_group_response_member *members = kreq_alloc(q, r->members_n, sizeof *members);
    unsigned i;

    if (!members)
        return;
    for (i = 0; i < r->members_n; i++)
        members[i] = (struct kafka_join_group_response_member){
            r->members[i].member_id, r->members[i].instance_id, r->members[i].metadata};
    join_answer(q, r, members, kafka_group_code(r->e));
}

static void join_done(void *arg, const struct group_join_result *r)
{
    size_t n = r->protocol_type.len + r->protocol_name.len + r->leader.len + r->member_id.len;
    struct group_join_member *m;
    struct group_join_result *c;
    uint8_t *at;
    unsigned i;

    for (i = 0; i < r->members_n; i++)
        n += sizeof *m + r->members[i].member_id.len + r->members[i].instance_id.len +
             r->members[i].metadata.len;
    c = xmalloc(sizeof *c + n);
    m = (struct group_join_member *)(c + 1);
    at = (uint8_t *)(m + r->members_n);
    *c = *r;
    c->members = m;
    c->protocol_type = put(&at, r->protocol_type);
    c->protocol_name = put(&at, r->protocol_name);
    c->leader = put(&at, r->leader);
    c->member_id = put(&at, r->member_id);
    for (i = 0; i < r->members_n; i++)
        m[i] = (struct group_join_member){put(&at, r->members[i].member_id),
                                          put(&at, r->members[i].instance_id),
                                          put(&at, r->members[i].metadata)};
    kafka_wait_copied(arg, c);
}

void kafka_on_join_group(struct kreq *q)
{
    struct kafka_join_group_request m;
    struct group_protocol *protocols;
    struct group_join j;
    struct kafka_wait *w;
    uint32_t i;

    if (!KREQ_DECODE(q, join_group, &m))
        return;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id)) {
        join_refuse(q, &m, KE_GROUP_AUTHORIZATION_FAILED);
        return;
    }
    if (!(protocols = kreq_alloc(q, m.protocols_n, sizeof *protocols)) ||
        !(w = kafka_wait_new(q, join_reply)))
        return;
    for (i = 0; i < m.protocols_n; i++)
        protocols[i] = (struct group_protocol){m.protocols[i].name, m.protocols[i].metadata};
    j = (struct group_join){.group = m.group_id,
                            .member_id = m.member_id,
                            .instance_id = m.group_instance_id,
                            .client_id = q->head.client_id,
                            .client_host = kafka_client_host(q),
                            .protocol_type = m.protocol_type,
                            .protocols = protocols,
                            .protocols_n = m.protocols_n,
                            .session_timeout_ms = m.session_timeout_ms,
                            .rebalance_timeout_ms = m.rebalance_timeout_ms,
                            .member_id_required =
                                q->version >= 4 && slice_is_null(m.group_instance_id),
                            .skip_assignment = q->version >= 9};
    group_join(q->b, &j, kafka_groups_now(q), &w->w, join_done, q);
}

/* ---- SyncGroup ---- */

static void sync_answer(struct kreq *q, const struct group_sync_result *r, int16_t code)
{
    struct kafka_sync_group_response s;

    kafka_sync_group_response_init(&s);
    s.error_code = code;
    s.protocol_type = r->protocol_type;
    s.protocol_name = r->protocol_name;
    s.assignment = r->assignment;
    KREQ_REPLY(q, sync_group, &s);
}

static void sync_reply(struct kreq *q)
{
    const struct kafka_wait *w = q->state_of;
    const struct group_sync_result *r = w->copy;

    sync_answer(q, r, kafka_group_code(r->e));
}

static void sync_done(void *arg, const struct group_sync_result *r)
{
    struct group_sync_result *c =
        xmalloc(sizeof *c + r->protocol_type.len + r->protocol_name.len + r->assignment.len);
    uint8_t *at = (uint8_t *)(c + 1);

    *c = *r;
    c->protocol_type = put(&at, r->protocol_type);
    c->protocol_name = put(&at, r->protocol_name);
    c->assignment = put(&at, r->assignment);
    kafka_wait_copied(arg, c);
}

void kafka_on_sync_group(struct kreq *q)
{
    const struct group_sync_result none = {.e = ERR_OK};
    struct kafka_sync_group_request m;
    struct group_assignment *assignments;
    struct group_sync y;
    struct kafka_wait *w;
    uint32_t i;

    if (!KREQ_DECODE(q, sync_group, &m))
        return;
    if (q->version >= 5 && (slice_is_null(m.protocol_type) || slice_is_null(m.protocol_name))) {
        sync_answer(q, &none, kafka_code(ERR_INCONSISTENT_PROTOCOL));
        return;
    }
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id)) {
        sync_answer(q, &none, KE_GROUP_AUTHORIZATION_FAILED);
        return;
    }
    if (!(assignments = kreq_alloc(q, m.assignments_n, sizeof *assignments)) ||
        !(w = kafka_wait_new(q, sync_reply)))
        return;
    for (i = 0; i < m.assignments_n; i++)
        assignments[i] =
            (struct group_assignment){m.assignments[i].member_id, m.assignments[i].assignment};
    y = (struct group_sync){.group = m.group_id,
                            .member_id = m.member_id,
                            .instance_id = m.group_instance_id,
                            .generation = m.generation_id,
                            .protocol_type = m.protocol_type,
                            .protocol_name = m.protocol_name,
                            .assignments = assignments,
                            .assignments_n = m.assignments_n};
    group_sync(q->b, &y, kafka_groups_now(q), &w->w, sync_done, q);
}

/* ---- Heartbeat ---- */

void kafka_on_heartbeat(struct kreq *q)
{
    struct kafka_heartbeat_response s;
    struct kafka_heartbeat_request m;
    struct group_member who;

    if (!KREQ_DECODE(q, heartbeat, &m))
        return;
    kafka_heartbeat_response_init(&s);
    who = (struct group_member){.group = m.group_id,
                                .member_id = m.member_id,
                                .instance_id = m.group_instance_id,
                                .generation = m.generation_id};
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id))
        s.error_code = KE_GROUP_AUTHORIZATION_FAILED;
    else
        s.error_code = kafka_group_code(group_heartbeat(q->b, &who, kafka_groups_now(q)));
    KREQ_REPLY(q, heartbeat, &s);
}

/* ---- LeaveGroup ---- */

/* Before version 3 there is one, which has no entry of its own in the answer. */
static void leave_answer(struct kreq *q, const struct group_leaver *leavers, unsigned n,
                         int16_t code)
{
    struct kafka_leave_group_response s;
    unsigned i;

    kafka_leave_group_response_init(&s);
    s.error_code = code;
    if (q->version < 3) {
        if (!code && n)
            s.error_code = kafka_group_code(leavers[0].e);
    } else if (!code) {
        if (!(s.members = kreq_alloc(q, n, sizeof *s.members)))
            return;
        s.members_n = n;
        for (i = 0; i < n; i++)
            s.members[i] = (struct kafka_leave_group_response_member){
                leavers[i].member_id, leavers[i].instance_id, kafka_group_code(leavers[i].e)};
    }
    KREQ_REPLY(q, leave_group, &s);
}

void kafka_on_leave_group(struct kreq *q)
{
    struct kafka_leave_group_request m;
    struct group_leaver *leavers;
    unsigned i, n;
    enum err e;

    if (!KREQ_DECODE(q, leave_group, &m))
        return;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id)) {
        leave_answer(q, NULL, 0, KE_GROUP_AUTHORIZATION_FAILED);
        return;
    }
    n = q->version < 3 ? 1 : m.members_n;
    if (!(leavers = kreq_alloc(q, n, sizeof *leavers)))
        return;
    if (q->version < 3)
        leavers[0].member_id = m.member_id;
    for (i = 0; i < n && q->version >= 3; i++)
        leavers[i] = (struct group_leaver){.member_id = m.members[i].member_id,
                                           .instance_id = m.members[i].group_instance_id};
    e = group_leave(q->b, m.group_id, leavers, n, kafka_groups_now(q));
    if (e == ERR_UNKNOWN_MEMBER && q->version >= 3)
        e = ERR_OK; /* each of them is told so */
    leave_answer(q, leavers, n, kafka_group_code(e));
}

/* ---- ConsumerGroupHeartbeat ---- */

static void beat_refuse(struct kreq *q, int16_t code, const char *text)
{
    struct kafka_consumer_group_heartbeat_response s;

    kafka_consumer_group_heartbeat_response_init(&s);
    s.error_code = code;
    s.error_message = slice_str(text);
    KREQ_REPLY(q, consumer_group_heartbeat, &s);
}

static void beat_reply(struct kreq *q)
{
    const struct kafka_wait *w = q->state_of;
    const struct group_consumer_result *r = w->copy;
    struct kafka_consumer_group_heartbeat_response_assignment a = {NULL, 0};
    struct kafka_consumer_group_heartbeat_response s;
    unsigned i;

    if (r->e) {
        beat_refuse(q, r->e == ERR_TOO_LARGE ? KE_INVALID_REQUEST : kafka_group_code(r->e),
                    r->text);
        return;
    }
    kafka_consumer_group_heartbeat_response_init(&s);
    s.member_id = r->member_id;
    s.member_epoch = r->member_epoch;
    s.heartbeat_interval_ms = r->heartbeat_ms;
    if (r->has_assignment) {
        if (!(a.topic_partitions = kreq_alloc(q, r->assignment_n, sizeof *a.topic_partitions)))
            return;
        a.topic_partitions_n = r->assignment_n;
        for (i = 0; i < r->assignment_n; i++) {
            memcpy(a.topic_partitions[i].topic_id, r->assignment[i].topic_uuid, 16);
            a.topic_partitions[i].partitions = (int32_t *)(uintptr_t)r->assignment[i].partitions;
            a.topic_partitions[i].partitions_n = r->assignment[i].n;
        }
        s.assignment = &a;
    }
    KREQ_REPLY(q, consumer_group_heartbeat, &s);
}

static void beat_done(void *arg, const struct group_consumer_result *r)
{
    size_t text = r->text ? strlen(r->text) + 1 : 0, n = text + r->member_id.len;
    struct group_topic_partitions *tp;
    struct group_consumer_result *c;
    int32_t *parts;
    uint8_t *at;
    unsigned i;

    for (i = 0; i < r->assignment_n; i++)
        n += sizeof *tp + r->assignment[i].n * sizeof *parts;
    c = xmalloc(sizeof *c + n);
    tp = (struct group_topic_partitions *)(c + 1);
    parts = (int32_t *)(tp + r->assignment_n);
    *c = *r;
    c->assignment = tp;
    for (i = 0; i < r->assignment_n; i++) {
        tp[i] = r->assignment[i];
        tp[i].topic = SLICE_NULL; /* ids say it */
        tp[i].partitions = parts;
        memcpy(parts, r->assignment[i].partitions, r->assignment[i].n * sizeof *parts);
        parts += r->assignment[i].n;
    }
    at = (uint8_t *)parts;
    c->member_id = put(&at, r->member_id);
    if (r->text)
        c->text = memcpy(at, r->text, text);
    kafka_wait_copied(arg, c);
}

/* The answer's code if it is refused as KafkaApis does, before the group is asked. */
static int16_t beat_check(struct kreq *q, const struct kafka_consumer_group_heartbeat_request *m,
                          const char **text)
{
    uint32_t i;

    *text = NULL;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m->group_id))
        return KE_GROUP_AUTHORIZATION_FAILED;
    for (i = 0; i < m->subscribed_topic_names_n; i++)
        if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, m->subscribed_topic_names[i]))
            return KE_TOPIC_AUTHORIZATION_FAILED;
    if (m->group_id.len == 0)
        *text = "GroupId can't be empty.";
    else if (q->version >= 1 && m->member_id.len == 0)
        *text = "MemberId can't be empty.";
    return *text ? KE_INVALID_REQUEST : KE_NONE;
}

/* False: there is no room, the request is over. */
static bool beat_fill(struct kreq *q, const struct kafka_consumer_group_heartbeat_request *m,
                      struct group_consumer_heartbeat *h)
{
    static const struct slice no_topics[1];
    struct group_topic_partitions *owned;
    uint32_t i;

    *h = (struct group_consumer_heartbeat){.group = m->group_id,
                                           .member_id = m->member_id,
                                           .member_epoch = m->member_epoch,
                                           .instance_id = m->instance_id,
                                           .rack_id = m->rack_id,
                                           .client_id = q->head.client_id,
                                           .client_host = kafka_client_host(q),
                                           .rebalance_timeout_ms = m->rebalance_timeout_ms,
                                           .topic_regex = m->subscribed_topic_regex,
                                           .assignor = m->server_assignor};
    if (!m->subscribed_topic_names_null) {
        h->topics = m->subscribed_topic_names_n ? m->subscribed_topic_names : no_topics;
        h->topics_n = m->subscribed_topic_names_n;
    }
    if (m->topic_partitions_null)
        return true;
    if (!(owned = kreq_alloc(q, m->topic_partitions_n, sizeof *owned)))
        return false;
    for (i = 0; i < m->topic_partitions_n; i++) {
        memcpy(owned[i].topic_uuid, m->topic_partitions[i].topic_id, 16);
        owned[i].partitions = m->topic_partitions[i].partitions;
        owned[i].n = m->topic_partitions[i].partitions_n;
    }
    h->owned = owned;
    h->owned_n = m->topic_partitions_n;
    return true;
}

void kafka_on_consumer_group_heartbeat(struct kreq *q)
{
    struct kafka_consumer_group_heartbeat_request m;
    struct group_consumer_heartbeat h;
    struct kafka_wait *w;
    const char *text;
    int16_t code;

    if (!KREQ_DECODE(q, consumer_group_heartbeat, &m))
        return;
    if ((code = beat_check(q, &m, &text))) {
        beat_refuse(q, code, text);
        return;
    }
    if (!beat_fill(q, &m, &h) || !(w = kafka_wait_new(q, beat_reply)))
        return;
    group_consumer_heartbeat(q->b, &h, kafka_groups_now(q), &w->w, beat_done, q);
}

/* ---- ShareGroupHeartbeat ---- */

static void share_beat_refuse(struct kreq *q, int16_t code, const char *text)
{
    struct kafka_share_group_heartbeat_response s;

    kafka_share_group_heartbeat_response_init(&s);
    s.error_code = code;
    s.error_message = slice_str(text);
    KREQ_REPLY(q, share_group_heartbeat, &s);
}

static void share_beat_reply(struct kreq *q)
{
    const struct kafka_wait *w = q->state_of;
    const struct group_consumer_result *r = w->copy;
    struct kafka_share_group_heartbeat_response_assignment a = {NULL, 0};
    struct kafka_share_group_heartbeat_response s;
    unsigned i;

    if (r->e) {
        share_beat_refuse(q, r->e == ERR_TOO_LARGE ? KE_INVALID_REQUEST : kafka_group_code(r->e),
                          r->text);
        return;
    }
    kafka_share_group_heartbeat_response_init(&s);
    s.member_id = r->member_id;
    s.member_epoch = r->member_epoch;
    s.heartbeat_interval_ms = r->heartbeat_ms;
    if (r->has_assignment) {
        if (!(a.topic_partitions = kreq_alloc(q, r->assignment_n, sizeof *a.topic_partitions)))
            return;
        a.topic_partitions_n = r->assignment_n;
        for (i = 0; i < r->assignment_n; i++) {
            memcpy(a.topic_partitions[i].topic_id, r->assignment[i].topic_uuid, 16);
            a.topic_partitions[i].partitions = (int32_t *)(uintptr_t)r->assignment[i].partitions;
            a.topic_partitions[i].partitions_n = r->assignment[i].n;
        }
        s.assignment = &a;
    }
    KREQ_REPLY(q, share_group_heartbeat, &s);
}

static int16_t share_beat_check(struct kreq *q, const struct kafka_share_group_heartbeat_request *m,
                                const char **text)
{
    uint32_t i;

    *text = NULL;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m->group_id))
        return KE_GROUP_AUTHORIZATION_FAILED;
    for (i = 0; i < m->subscribed_topic_names_n; i++)
        if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, m->subscribed_topic_names[i]))
            return KE_TOPIC_AUTHORIZATION_FAILED;
    if (m->group_id.len == 0)
        *text = "GroupId can't be empty.";
    return *text ? KE_INVALID_REQUEST : KE_NONE;
}

void kafka_on_share_group_heartbeat(struct kreq *q)
{
    struct kafka_share_group_heartbeat_request m;
    static const struct slice no_topics[1];
    struct group_share_heartbeat h;
    struct kafka_wait *w;
    const char *text;
    int16_t code;

    if (!KREQ_DECODE(q, share_group_heartbeat, &m))
        return;
    if ((code = share_beat_check(q, &m, &text))) {
        share_beat_refuse(q, code, text);
        return;
    }
    h = (struct group_share_heartbeat){.group = m.group_id,
                                       .member_id = m.member_id,
                                       .member_epoch = m.member_epoch,
                                       .rack_id = m.rack_id,
                                       .client_id = q->head.client_id,
                                       .client_host = kafka_client_host(q)};
    if (!m.subscribed_topic_names_null) {
        h.topics = m.subscribed_topic_names_n ? m.subscribed_topic_names : no_topics;
        h.topics_n = m.subscribed_topic_names_n;
    }
    if (!(w = kafka_wait_new(q, share_beat_reply)))
        return;
    group_share_heartbeat(q->b, &h, kafka_groups_now(q), &w->w, beat_done, q);
}
