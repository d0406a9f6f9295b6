/* Storing offsets of groups: OffsetCommit, TxnOffsetCommit. Reading them: group_fetch.c.
 *
 * A commit is one unit of the journal: all offsets of the request that are sound become durable
 * together, then it is answered. Within a transaction they are pending until it ends. A negative
 * offset, by which tools have a group start anew, says that there is none: what is stored is
 * deleted.
 *
 * Codes by version: KafkaApis and OffsetMetadataManager of Apache Kafka 4.2. A handler runs on its
 * request's loop; …_done functions are called by any thread. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/group.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"
#include "proto/kafka/txn_codes.h"

/* ---- what both commits share ---- */

struct commit_part {
    int32_t index;
    int16_t code;
    int64_t offset;
    struct slice metadata;
    struct partition *p; /* code is 0: where it goes */
};
struct commit_topic {
    struct slice name;
    uint8_t id[16];
    struct topic *t; /* referenced until the answer is made, or NULL */
    struct commit_part *parts;
    uint32_t parts_n;
};
struct commit {
    struct commit_topic *topics;
    uint32_t topics_n, good; /* parts whose code is 0 */
    atomic_int e;            /* enum err of the good ones together */
    struct append *a;
    atomic_uint left; /* writes under way, and 1 */
};

/* Gives the parts that are good so far a code. */
static void commit_codes_set(struct commit *c, int16_t code)
{
    uint32_t i, j;

    for (i = 0; i < c->topics_n; i++)
        for (j = 0; j < c->topics[i].parts_n; j++)
            if (!c->topics[i].parts[j].code)
                c->topics[i].parts[j].code = code;
}

/* Finds the topics, and says what is wrong with single parts. */
static void commit_resolve(struct kreq *q, struct commit *c, bool by_id, bool txn)
{
    struct commit_topic *t;
    struct commit_part *o;
    int16_t code;
    uint32_t i, j;

    for (i = 0; i < c->topics_n; i++) {
        t = &c->topics[i];
        t->t = kafka_topic(q, t->name, t->id, by_id, &code);
        if (by_id && t->t)
            t->name = slice_str(topic_name(t->t));
        if ((t->t || !by_id) && !kafka_allowed(q, KOP_READ, KRES_TOPIC, t->name))
            code = KE_TOPIC_AUTHORIZATION_FAILED;
        for (j = 0; j < t->parts_n; j++) {
            o = &t->parts[j];
            o->p = code ? NULL : topic_partition(t->t, o->index);
            if (code)
                o->code = code;
            else if (!o->p)
                o->code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            else if (o->metadata.len > LIMIT_GROUP_METADATA)
                o->code = KE_OFFSET_METADATA_TOO_LARGE;
            else if (o->offset < 0 && txn)
                o->code = KE_INVALID_REQUEST;
            else
                c->good++;
        }
    }
}

/* Whether the member may commit what is good. */
static enum err commit_check(struct kreq *q, const struct commit *c, struct group_member *who,
                             bool txn)
{
    struct partition **parts = xmalloc(c->good * sizeof(struct partition *));
    uint32_t i, j;
    enum err e;

    for (i = 0; i < c->topics_n; i++)
        for (j = 0; j < c->topics[i].parts_n; j++)
            if (!c->topics[i].parts[j].code)
                parts[who->parts_n++] = c->topics[i].parts[j].p;
    who->parts = parts;
    e = group_commit_check(q->b, who, txn, kafka_groups_now(q));
    free(parts);
    return e;
}

static void commit_release(struct commit *c)
{
    uint32_t i;

    for (i = 0; i < c->topics_n; i++)
        topic_unref(&c->topics[i].t);
    if (c->a)
        append_free(&c->a);
}

/* ---- OffsetCommit ---- */

/* A code that clients of this version know. */
static int16_t commit_code(struct kreq *q, enum err e)
{
    if (e == ERR_GROUP_NOT_FOUND && q->version < 9)
        return kafka_code(ERR_ILLEGAL_GENERATION);
    if (e == ERR_STALE_MEMBER_EPOCH && q->version < 9)
        return KE_UNSUPPORTED_VERSION;
    return e == ERR_LIMIT ? KE_POLICY_VIOLATION : kafka_group_code(e);
}

static void commit_reply(struct kreq *q)
{
    struct commit *c = q->state_of;
    struct kafka_offset_commit_response s;
    struct kafka_offset_commit_response_topic *o;
    uint32_t i, j;

    commit_codes_set(c, commit_code(q, (enum err)atomic_load(&c->e)));
    commit_release(c);
    if (!q->kc) {
        kreq_done(q);
        return;
    }
    kafka_offset_commit_response_init(&s);
    if (!(s.topics = kreq_alloc(q, c->topics_n, sizeof *s.topics)))
        return;
    s.topics_n = c->topics_n;
    for (i = 0; i < c->topics_n; i++) {
        o = &s.topics[i];
        o->name = q->version >= 10 ? SLICE_NULL : c->topics[i].name;
        memcpy(o->topic_id, c->topics[i].id, 16);
        if (!(o->partitions = kreq_alloc(q, c->topics[i].parts_n, sizeof *o->partitions)))
            return;
        o->partitions_n = c->topics[i].parts_n;
        for (j = 0; j < o->partitions_n; j++)
            o->partitions[j] = (struct kafka_offset_commit_response_partition){
                c->topics[i].parts[j].index, c->topics[i].parts[j].code};
    }
    KREQ_REPLY(q, offset_commit, &s);
}

static void commit_written(struct kreq *q, enum err e)
{
    struct commit *c = q->state_of;

    if (e)
        atomic_store(&c->e, (int)e);
    if (atomic_fetch_sub(&c->left, 1) == 1)
        kreq_post(q, commit_reply);
}

static void commit_done(struct append *a, void *arg, enum err e)
{
    commit_written(arg, e);
}

static void commit_dropped(void *arg, enum err e, const struct errinfo *info)
{
    commit_written(arg, e);
}

static enum err commit_drop(struct kreq *q, struct commit *c, struct slice group,
                            struct partition *p)
{
    struct group_offset_at at = {.topic = topic_id(partition_topic(p)),
                                 .partition = (uint32_t)partition_index(p)};
    struct errinfo info = {0};
    struct group_offset was;
    enum err e;

    if (group_offset_get(q->b, group, p, &was))
        return ERR_OK;
    at.committed_ms = was.committed_ms;
    atomic_fetch_add(&c->left, 1);
    if ((e = group_offset_drop(q->b, group, &at, commit_dropped, q, &info)))
        atomic_fetch_sub(&c->left, 1);
    return e;
}

static enum err commit_append(struct kreq *q, struct commit *c)
{
    struct errinfo info = {0};
    enum err e;

    if (!c->a)
        return ERR_OK;
    atomic_fetch_add(&c->left, 1);
    if ((e = append_submit(c->a, true, &info)))
        atomic_fetch_sub(&c->left, 1);
    return e;
}

/* Writes what is good. What is under way then calls commit_written. */
static enum err commit_write(struct kreq *q, struct commit *c, struct slice group)
{
    struct commit_part *o;
    uint32_t i, j;
    enum err e = ERR_OK;

    for (i = 0; i < c->topics_n; i++)
        for (j = 0; j < c->topics[i].parts_n && !e; j++) {
            o = &c->topics[i].parts[j];
            if (o->code)
                continue;
            if (o->offset < 0) {
                e = commit_drop(q, c, group, o->p);
                continue;
            }
            if (!c->a)
                c->a = append_new(q->b, commit_done, q);
            e = append_offset(c->a, group, o->p, o->offset, o->metadata);
        }
    return e ? e : commit_append(q, c);
}

/* False: there is no room, the request is over. */
static bool commit_read(struct kreq *q, const struct kafka_offset_commit_request *m,
                        struct commit *c)
{
    const struct kafka_offset_commit_request_partition *p;
    struct commit_topic *t;
    uint32_t i, j;

    if (!(c->topics = kreq_alloc(q, m->topics_n, sizeof *c->topics)))
        return false;
    c->topics_n = m->topics_n;
    for (i = 0; i < m->topics_n; i++) {
        t = &c->topics[i];
        t->name = m->topics[i].name;
        memcpy(t->id, m->topics[i].topic_id, 16);
        if (!(t->parts = kreq_alloc(q, m->topics[i].partitions_n, sizeof *t->parts)))
            return false;
        t->parts_n = m->topics[i].partitions_n;
        for (j = 0; j < t->parts_n; j++) {
            p = &m->topics[i].partitions[j];
            t->parts[j] = (struct commit_part){.index = p->partition_index,
                                               .offset = p->committed_offset,
                                               .metadata = p->committed_metadata};
        }
    }
    return true;
}

void kafka_on_offset_commit(struct kreq *q)
{
    struct kafka_offset_commit_request m;
    struct commit *c = kreq_alloc(q, 1, sizeof *c);
    struct group_member who;
    enum err e;

    if (!c || !KREQ_DECODE(q, offset_commit, &m) || !commit_read(q, &m, c))
        return;
    q->state_of = c;
    who = (struct group_member){.group = m.group_id,
                                .member_id = m.member_id,
                                .instance_id = m.group_instance_id,
                                .generation = m.generation_id_or_member_epoch};
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id))
        commit_codes_set(c, KE_GROUP_AUTHORIZATION_FAILED);
    else
        commit_resolve(q, c, q->version >= 10, false);
    atomic_init(&c->left, 1);
    if (c->good) {
        e = commit_check(q, c, &who, false);
        if (!e)
            e = commit_write(q, c, m.group_id);
        if (e)
            atomic_store(&c->e, (int)e);
    }
    if (atomic_fetch_sub(&c->left, 1) == 1)
        commit_reply(q);
}

/* ---- TxnOffsetCommit ---- */

static void txn_commit_reply(struct kreq *q)
{
    struct commit *c = q->state_of;
    struct kafka_txn_offset_commit_response s;
    struct kafka_txn_offset_commit_response_topic *o;
    enum err e = (enum err)atomic_load(&c->e);
    uint32_t i, j;

    if (e == ERR_GROUP_NOT_FOUND)
        e = ERR_ILLEGAL_GENERATION;
    commit_codes_set(c, kafka_txn_code(e, false));
    commit_release(c);
    if (!q->kc) {
        kreq_done(q);
        return;
    }
    kafka_txn_offset_commit_response_init(&s);
    if (!(s.topics = kreq_alloc(q, c->topics_n, sizeof *s.topics)))
        return;
    s.topics_n = c->topics_n;
    for (i = 0; i < c->topics_n; i++) {
        o = &s.topics[i];
        o->name = c->topics[i].name;
        if (!(o->partitions = kreq_alloc(q, c->topics[i].parts_n, sizeof *o->partitions)))
            return;
        o->partitions_n = c->topics[i].parts_n;
        for (j = 0; j < o->partitions_n; j++)
            o->partitions[j] = (struct kafka_txn_offset_commit_response_partition){
                c->topics[i].parts[j].index, c->topics[i].parts[j].code};
    }
    KREQ_REPLY(q, txn_offset_commit, &s);
}

static void txn_commit_done(void *arg, enum err e, const struct errinfo *info, int64_t producer_id,
                            int16_t epoch)
{
    struct kreq *q = arg;
    struct commit *c = q->state_of;

    atomic_store(&c->e, (int)e);
    kreq_post(q, txn_commit_reply);
}

/* False: there is no room, the request is over. */
static bool txn_commit_read(struct kreq *q, const struct kafka_txn_offset_commit_request *m,
                            struct commit *c)
{
    const struct kafka_txn_offset_commit_request_partition *p;
    struct commit_topic *t;
    uint32_t i, j;

    if (!(c->topics = kreq_alloc(q, m->topics_n, sizeof *c->topics)))
        return false;
    c->topics_n = m->topics_n;
    for (i = 0; i < m->topics_n; i++) {
        t = &c->topics[i];
        t->name = m->topics[i].name;
        if (!(t->parts = kreq_alloc(q, m->topics[i].partitions_n, sizeof *t->parts)))
            return false;
        t->parts_n = m->topics[i].partitions_n;
        for (j = 0; j < t->parts_n; j++) {
            p = &m->topics[i].partitions[j];
            t->parts[j] = (struct commit_part){.index = p->partition_index,
                                               .offset = p->committed_offset,
                                               .metadata = p->committed_metadata};
        }
    }
    return true;
}

/* ERR_OK: txn_commit_done is called. From version 5 on offsets may begin the transaction (KIP-890).
 */
static enum err txn_commit(struct kreq *q, struct commit *c,
                           const struct kafka_txn_offset_commit_request *m,
                           struct txn_commit_offset *offsets)
{
    struct errinfo info = {0};
    uint32_t i, j, n = 0;

    for (i = 0; i < c->topics_n; i++)
        for (j = 0; j < c->topics[i].parts_n; j++)
            if (!c->topics[i].parts[j].code)
                offsets[n++] = (struct txn_commit_offset){c->topics[i].parts[j].p,
                                                          c->topics[i].parts[j].offset,
                                                          c->topics[i].parts[j].metadata};
    return txn_offsets(q->b, m->transactional_id, m->producer_id, m->producer_epoch,
                       q->version >= 5, m->group_id, offsets, n, txn_commit_done, q, &info);
}

void kafka_on_txn_offset_commit(struct kreq *q)
{
    struct kafka_txn_offset_commit_request m;
    struct commit *c = kreq_alloc(q, 1, sizeof *c);
    struct txn_commit_offset *offsets;
    struct group_member who;
    size_t n = 0;
    uint32_t i;
    enum err e;

    if (!c || !KREQ_DECODE(q, txn_offset_commit, &m) || !txn_commit_read(q, &m, c))
        return;
    for (i = 0; i < c->topics_n; i++)
        n += c->topics[i].parts_n;
    if (!(offsets = kreq_alloc(q, n, sizeof *offsets)))
        return;
    q->state_of = c;
    who = (struct group_member){.group = m.group_id,
                                .member_id = m.member_id,
                                .instance_id = m.group_instance_id,
                                .generation = m.generation_id};
    if (!kafka_allowed(q, KOP_WRITE, KRES_TRANSACTIONAL_ID, m.transactional_id))
        commit_codes_set(c, KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    else if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id))
        commit_codes_set(c, KE_GROUP_AUTHORIZATION_FAILED);
    else
        commit_resolve(q, c, false, true);
    if (c->good) {
        e = commit_check(q, c, &who, true);
        if (!e && !(e = txn_commit(q, c, &m, offsets)))
            return; /* txn_commit_done may have been called */
        atomic_store(&c->e, (int)e);
    }
    txn_commit_reply(q);
}
