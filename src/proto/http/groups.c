/* /groups: consumer groups, whatever protocol their members speak: list, describe with the lag of
 * each partition, delete. */
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/timefmt.h"
#include "broker/coordinator.h"
#include "journal/journal.h"
#include "proto/http/http_int.h"

struct out {
    struct rq *rq;
    enum err e;
    unsigned n;
    int64_t lag;
};

static enum err put_text(struct buf *b, const char *name, struct slice v)
{
    enum err e = buf_printf(b, ",\"%s\":", name);

    if (e)
        return e;
    return slice_is_null(v) ? buf_append_str(b, "null") : json_write_string(b, v);
}

/* ---- list ---- */

static void put_listing(void *arg, const struct group_listing *g)
{
    struct out *o = arg;
    struct buf *b = &o->rq->out;

    if (o->e)
        return;
    o->e = buf_append_str(b, o->n++ ? ",{\"group\":" : "{\"group\":");
    o->e = o->e ? o->e : json_write_string(b, g->group);
    o->e = o->e ? o->e : put_text(b, "type", slice_str(group_kind_text(g->kind)));
    o->e = o->e ? o->e : put_text(b, "state", slice_str(group_state_text(g->state)));
    o->e = o->e ? o->e : put_text(b, "protocol_type", g->protocol_type);
    o->e = o->e ? o->e : buf_append_u8(b, '}');
}

void route_groups_list(struct rq *rq)
{
    struct out o = {.rq = rq};

    if (!auth_permits_any(rq->who, AUTH_READ)) {
        rq_fail(rq, ERR_FORBIDDEN, NULL);
        return;
    }
    o.e = buf_append_str(&rq->out, "{\"groups\":[");
    groups_list(rq->ctx->proto->conf.broker, NULL, put_listing, &o);
    o.e = o.e ? o.e : buf_append_str(&rq->out, "]}");
    if (o.e)
        rq_fail(rq, o.e, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* ---- one group ---- */

static enum err put_partitions(struct buf *b, const struct group_topic_partitions *t, unsigned n)
{
    enum err e = buf_append_str(b, ",\"assignment\":[");
    unsigned i, k, shown = 0;

    for (i = 0; i < n; i++)
        for (k = 0; !e && k < t[i].n; k++) {
            e = buf_append_str(b, shown++ ? ",{\"topic\":" : "{\"topic\":");
            e = e ? e : json_write_string(b, t[i].topic);
            e = e ? e : buf_printf(b, ",\"partition\":%d}", (int)t[i].partitions[k]);
        }
    return e ? e : buf_append_u8(b, ']');
}

static enum err put_member(struct buf *b, enum group_kind kind,
                           const struct group_description_member *m, bool first)
{
    enum err e = buf_append_str(b, first ? "{\"member\":" : ",{\"member\":");

    e = e ? e : json_write_string(b, m->member_id);
    e = e ? e : put_text(b, "instance", m->instance_id);
    e = e ? e : put_text(b, "client", m->client_id);
    e = e ? e : put_text(b, "host", m->client_host);
    if (!e && kind != GROUP_CLASSIC)
        e = put_partitions(b, m->assigned, m->assigned_n);
    return e ? e : buf_append_u8(b, '}');
}

static void put_offset(void *arg, const char *group, struct topic *t, int32_t partition,
                       const struct group_offset *go)
{
    struct out *o = arg;
    struct partition *p = topic_partition(t, partition);
    struct buf *b = &o->rq->out;
    char when[TIME_TEXT_LEN + 1];
    struct plog_info now = {0};
    int64_t lag;

    if (o->e || !p)
        return;
    plog_info_get(partition_log(p), &now);
    lag = now.end_offset > go->offset ? now.end_offset - go->offset : 0;
    o->lag += lag;
    time_format(go->committed_ms, when);
    o->e = buf_printf(b,
                      "%s{\"topic\":\"%s\",\"partition\":%d,\"offset\":%lld,\"end\":%lld,"
                      "\"lag\":%lld,\"committed\":\"%s\"",
                      o->n++ ? "," : "", topic_name(t), (int)partition, (long long)go->offset,
                      (long long)now.end_offset, (long long)lag, when);
    o->e = o->e ? o->e : put_text(b, "metadata", go->metadata);
    o->e = o->e ? o->e : buf_append_u8(b, '}');
}

static enum err put_group(struct rq *rq, struct slice group, const struct group_description *d)
{
    struct out o = {.rq = rq};
    struct buf *b = &rq->out;
    unsigned i;

    o.e = buf_append_str(b, "{\"group\":");
    o.e = o.e ? o.e : json_write_string(b, group);
    o.e = o.e ? o.e : put_text(b, "type", slice_str(group_kind_text(d->kind)));
    o.e = o.e ? o.e : put_text(b, "state", slice_str(group_state_text(d->state)));
    o.e = o.e ? o.e : put_text(b, "protocol_type", d->protocol_type);
    o.e = o.e ? o.e : put_text(b, "protocol", d->protocol);
    o.e = o.e ? o.e : buf_printf(b, ",\"generation\":%d,\"members\":[", (int)d->generation);
    for (i = 0; !o.e && i < d->members_n; i++)
        o.e = put_member(b, d->kind, &d->members[i], i == 0);
    o.e = o.e ? o.e : buf_append_str(b, "],\"offsets\":[");
    if (!o.e)
        group_each_of(rq->ctx->proto->conf.broker, group, put_offset, &o);
    return o.e ? o.e : buf_printf(b, "],\"lag\":%lld}", (long long)o.lag);
}

void route_group_get(struct rq *rq)
{
    struct broker *b = rq->ctx->proto->conf.broker;
    struct group_description d = {0};
    struct errinfo info = {0};
    enum err e = ERR_OK;

    if (!auth_permits_any(rq->who, AUTH_READ))
        e = errinfo_set(&info, ERR_FORBIDDEN, "the token permits nothing on groups");
    if (!e)
        e = group_describe(b, rq->seg[0], &d);
    if (!e && d.state == GROUP_DEAD)
        e = errinfo_set(&info, ERR_GROUP_NOT_FOUND, "there is no group \"%.*s\"",
                        (int)(rq->seg[0].len < 100 ? rq->seg[0].len : 100),
                        (const char *)rq->seg[0].ptr);
    if (!e)
        e = put_group(rq, rq->seg[0], &d);
    group_description_fini(&d);
    if (e)
        rq_fail(rq, e, info.code ? &info : NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

void route_group_delete(struct rq *rq)
{
    struct errinfo info = {0};
    enum err e = rq_permit(rq, AUTH_ADMIN, SLICE_LIT(""), &info);

    if (!e) {
        rq_begin(rq, rq_reply_done);
        rq_one_more(rq);
        e = group_remove(rq->ctx->proto->conf.broker, rq->seg[0], rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, info.code ? &info : NULL);
}
