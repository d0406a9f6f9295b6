/* Share sessions: which partitions a member reads, request by request, as KIP-932 has them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/io.h"
#include "proto/kafka/share.h"

static void part_free(struct share_part *sp)
{
    cursor_unref(&sp->c);
    topic_unref(&sp->t);
    free(sp);
}

/* undelivered: what the member has does not count as a delivery. */
static void session_free(struct share_session *ss, bool undelivered)
{
    struct share_part *sp;

    while (!list_empty(&ss->order)) {
        sp = list_entry(list_pop_front(&ss->order), struct share_part, link);
        if (sp->c)
            cursor_release(sp->c, share_owner(ss), undelivered);
        part_free(sp);
    }
    map_fini(&ss->parts);
    free((void *)ss->group.ptr);
    free((void *)ss->member.ptr);
    free(ss);
}

void share_session_close(struct kconn *kc, struct share_session **ss)
{
    struct share_session **at = &kc->shares;

    while (*at != *ss)
        at = &(*at)->next;
    *at = (*ss)->next;
    session_free(*ss, true);
    *ss = NULL;
}

void share_sessions_free(struct kconn *kc)
{
    struct share_session *ss;

    while ((ss = kc->shares)) {
        kc->shares = ss->next;
        session_free(ss, false); /* whether they were processed nobody knows */
    }
}

static struct share_session *session_find(struct kconn *kc, struct slice group, struct slice member)
{
    struct share_session *ss = kc->shares;

    while (ss && (!slice_eq(ss->group, group) || !slice_eq(ss->member, member)))
        ss = ss->next;
    return ss;
}

static struct share_session *session_new(struct kreq *q, struct slice group, struct slice member)
{
    struct share_session *ss = xcalloc(1, sizeof *ss);
    uint8_t seed[16];

    io_random(broker_io(q->b), seed, sizeof seed);
    map_init(&ss->parts, LIMIT_KAFKA_FETCH_PARTITIONS, seed);
    io_random(broker_io(q->b), seed, 8);
    hex_encode(seed, 8, ss->owner);
    list_init(&ss->order);
    ss->group = slice_of(xmemdup(group.ptr, group.len), group.len);
    ss->member = slice_of(xmemdup(member.ptr, member.len), member.len);
    ss->epoch = 1;
    ss->next = q->kc->shares;
    q->kc->shares = ss;
    return ss;
}

int16_t share_session_open(struct kreq *q, struct slice group, struct slice member, int32_t epoch,
                           bool fetches, struct share_session **out)
{
    struct share_session *ss = session_find(q->kc, group, member);
    unsigned n = 0;

    *out = NULL;
    if (group.len == 0 || group.len > LIMIT_GROUP_NAME || member.len == 0 ||
        member.len > LIMIT_MEMBER_ID)
        return KE_INVALID_REQUEST;
    if (epoch == SHARE_EPOCH_FIRST && !fetches)
        return KE_INVALID_SHARE_SESSION_EPOCH;
    if (epoch == SHARE_EPOCH_FIRST) {
        if (ss)
            share_session_close(q->kc, &ss);
        for (ss = q->kc->shares; ss; ss = ss->next)
            n++;
        if (n >= LIMIT_KAFKA_SHARE_SESSIONS)
            return KE_SHARE_SESSION_LIMIT_REACHED;
        *out = session_new(q, group, member);
        return KE_NONE;
    }
    if (!ss)
        return KE_SHARE_SESSION_NOT_FOUND;
    if (epoch != SHARE_EPOCH_LAST) {
        if (epoch != ss->epoch)
            return KE_INVALID_SHARE_SESSION_EPOCH;
        ss->epoch = epoch == INT32_MAX ? 1 : epoch + 1;
    }
    *out = ss;
    return KE_NONE;
}

static struct slice part_key(uint8_t key[20], const uint8_t id[16], int32_t index)
{
    memcpy(key, id, 16);
    be32_store(key + 16, (uint32_t)index);
    return slice_of(key, 20);
}

struct share_part *share_part_find(struct share_session *ss, const uint8_t id[16], int32_t index)
{
    uint8_t key[20];

    return map_find(&ss->parts, part_key(key, id, index));
}

struct share_part *share_part_add(struct share_session *ss, const uint8_t id[16], int32_t index)
{
    struct share_part *sp = share_part_find(ss, id, index);

    if (!sp) {
        sp = xcalloc(1, sizeof *sp);
        sp->index = index;
        if (map_put(&ss->parts, part_key(sp->key, id, index), sp)) {
            free(sp);
            return NULL;
        }
        list_push_back(&ss->order, &sp->link);
    }
    return sp;
}
