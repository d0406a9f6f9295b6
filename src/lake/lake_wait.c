/* Waiting for a job of the lake. See lake.h. */
#include "lake/lake_int.h"

#define LOOK_NS 500000000u /* the topic may go, or leave the lake, meanwhile */

/* May the job still be done? */
static enum err look(struct lake *l, struct slice name, struct errinfo *info)
{
    int len = (int)(name.len < 100 ? name.len : 100);
    struct topic *topic = topic_find(l->conf.broker, name);
    struct topic_conf c;

    if (!topic)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic \"%.*s\" was deleted", len,
                           (const char *)name.ptr);
    topic_conf_get(topic, &c);
    topic_unref(&topic);
    return c.lake_enable ? ERR_OK
                         : errinfo_set(info, ERR_CONFLICT, "the topic \"%.*s\" has left the lake",
                                       len, (const char *)name.ptr);
}

/* Waits for a while; then *over says whether the answer is the job's. */
static enum err wait_some(struct lake *l, struct slice topic, enum lake_job job, uint64_t ticket,
                          uint64_t ns, bool *over, struct errinfo *info)
{
    enum err e = ERR_OK;
    struct table *t;

    io_mutex_lock(&l->lock);
    t = lake_table_find(l, topic);
    if (t && t->job[job].done < ticket)
        io_cond_wait_ns(&l->jobs_change, &l->lock, ns < LOOK_NS ? ns : LOOK_NS);
    if (!t)
        e = errinfo_set(info, ERR_NOT_FOUND, "no job was asked for");
    *over = !t || t->job[job].done >= ticket;
    if (t && *over && (e = t->job[job].last))
        errinfo_set(info, e, "%s", t->error == e && t->why[0] ? t->why : err_text(e));
    io_mutex_unlock(&l->lock);
    return e;
}

enum err lake_wait(struct lake *l, struct slice topic, enum lake_job job, uint64_t ticket,
                   int64_t timeout_ms, struct errinfo *info)
{
    uint64_t now = io_mono_ns(io_real()), end = UINT64_MAX;
    bool over = false;
    enum err e;

    if (timeout_ms >= 0 && (uint64_t)timeout_ms < (UINT64_MAX - now) / 1000000u)
        end = now + (uint64_t)timeout_ms * 1000000u;
    for (;;) {
        e = wait_some(l, topic, job, ticket, end - now, &over, info);
        if (over || (e = look(l, topic, info)))
            return e;
        now = io_mono_ns(io_real());
        if (now >= end)
            return errinfo_set(info, ERR_TIMEOUT, "the lake was not done in time");
    }
}
