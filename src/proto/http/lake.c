/* /lake: the state of the topics' tables, and jobs: flush, compact, expire. A job is asked for and
 * answered at once with a ticket; when `done` of the job in the topic's state has reached the ticket
 * it is over. */
#include <inttypes.h>
#include <string.h>

#include "lake/lake.h"
#include "proto/http/http_int.h"

static struct lake *lake_of(struct rq *rq, struct errinfo *info)
{
    struct lake *l = rq->ctx->proto->conf.lake;

    if (!l)
        errinfo_set(info, ERR_UNSUPPORTED, "this server has no lake");
    return l;
}

static bool sees(void *arg, struct slice topic)
{
    struct rq *rq = arg;

    return auth_permits(rq->who, AUTH_READ, topic);
}

void route_lake_list(struct rq *rq)
{
    struct errinfo info = {0};
    struct lake *l = lake_of(rq, &info);
    enum err e = l ? ERR_OK : ERR_UNSUPPORTED;

    if (!e && !auth_permits_any(rq->who, AUTH_READ))
        e = errinfo_set(&info, ERR_FORBIDDEN, "the token permits reading nothing");
    if (!e)
        e = lake_status_all(l, sees, rq, &rq->out);
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

void route_lake_get(struct rq *rq)
{
    struct errinfo info = {0};
    struct lake *l = lake_of(rq, &info);
    enum err e = l ? rq_permit(rq, AUTH_READ, rq->seg[0], &info) : ERR_UNSUPPORTED;

    if (!e)
        e = lake_status(l, rq->seg[0], &rq->out, &info);
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

void route_lake_job(struct rq *rq)
{
    static const char *const names[LAKE_JOBS] = {"flush", "compact", "expire"};
    struct errinfo info = {0};
    struct lake *l = lake_of(rq, &info);
    enum err e = l ? rq_permit(rq, AUTH_ADMIN, rq->seg[0], &info) : ERR_UNSUPPORTED;
    const char *name = NULL;
    uint64_t ticket = 0;
    int j, job = 0;

    for (j = 0; j < LAKE_JOBS; j++)
        if (slice_eq_str(rq->seg[1], names[j]))
            name = names[job = j];
    if (!e && !name)
        e = errinfo_set(&info, ERR_NOT_FOUND, "there is no job \"%.*s\": flush, compact or expire",
                        (int)(rq->seg[1].len < 40 ? rq->seg[1].len : 40),
                        (const char *)rq->seg[1].ptr);
    if (!e)
        e = lake_request(l, rq->seg[0], (enum lake_job)job, &ticket, &info);
    if (!e)
        e = buf_printf(&rq->out, "{\"job\":\"%s\",\"ticket\":%" PRIu64 "}", name, ticket);
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 202, MEDIA_JSON);
}
