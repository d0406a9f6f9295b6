/* /transforms: list, show, apply, delete, pause, resume, test. docs/transforms.md.
 *
 * Who applies one must be allowed to read its input, and to administer its output and its dead
 * letters, which it makes when they are not there; the same to pause, resume and delete it. Only who
 * may read all topics can have a statement that reads others than its input. */
#include <stdlib.h>
#include <string.h>

#include "base/tbl/limits.h"
#include "proto/http/http_int.h"
#include "transform/transforms.h"

#define TRIAL_RECORDS 1000

static struct transforms *transforms_of(struct rq *rq, struct errinfo *info)
{
    struct transforms *m = rq->ctx->proto->conf.transforms;

    if (!m)
        errinfo_set(info, ERR_UNSUPPORTED, "this server runs no transforms");
    return m;
}

static bool sees(void *arg, struct slice input)
{
    struct rq *rq = arg;

    return auth_permits(rq->who, AUTH_READ, input);
}

void route_transforms_list(struct rq *rq)
{
    struct errinfo info = {0};
    struct transforms *m = transforms_of(rq, &info);
    enum err e = m ? ERR_OK : ERR_UNSUPPORTED;

    if (!e && !auth_permits_any(rq->who, AUTH_READ))
        e = errinfo_set(&info, ERR_FORBIDDEN, "the token permits reading nothing");
    if (!e)
        e = transforms_list(m, sees, rq, &rq->out);
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* The definition that is stored, if the sender may do this to its input. */
static enum err stored(struct rq *rq, struct transforms **m, struct transform_def *d,
                       struct errinfo *info)
{
    enum err e;

    *m = transforms_of(rq, info);
    if (!*m)
        return ERR_UNSUPPORTED;
    if ((e = transforms_get(*m, rq->seg[0], d, info)))
        return e;
    e = rq_permit(rq, AUTH_READ, slice_str(d->input), info);
    if (e)
        transform_def_fini(d);
    return e;
}

void route_transform_get(struct rq *rq)
{
    struct errinfo info = {0};
    struct transform_def d;
    struct transforms *m;
    enum err e = stored(rq, &m, &d, &info);

    if (!e) {
        transform_def_fini(&d);
        e = transforms_show(m, rq->seg[0], &rq->out, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

static enum err permit_change(struct rq *rq, const struct transform_def *d, struct errinfo *info)
{
    enum err e = rq_permit(rq, AUTH_READ, slice_str(d->input), info);

    e = e ? e : rq_permit(rq, AUTH_ADMIN, slice_str(d->output), info);
    return e ? e : rq_permit(rq, AUTH_ADMIN, slice_str(d->dead_letters), info);
}

/* The definition in the body: a JSON object, or a file of SQL. d is to be ended in any case. */
static enum err body_parse(struct rq *rq, struct transform_def *d, struct errinfo *info)
{
    struct slice type = http_header(rq->req, "content-type"), body = http_body(rq->req);
    bool json = slice_has_prefix(type, SLICE_LIT("application/json")) ||
                (type.len == 0 && body.len && body.ptr[0] == '{');
    enum err e = transform_def_set(d, SLICE_LIT("name"), rq->seg[0], info);

    if (!e)
        e = json ? transform_def_json(d, body, info) : transform_def_file(d, body, info);
    if (!e && !slice_eq_str(rq->seg[0], d->name))
        e = errinfo_set(info, ERR_CONFIG, "the definition's name is \"%s\"", d->name);
    d->paused = false;
    d->any_topic = auth_permits_all(rq->who, AUTH_READ);
    return e ? e : transform_def_check(d, info);
}

/* The name is kept in rq->out until the change is durable. */
static void changed(struct rq *rq, int status)
{
    char name[TRANSFORM_NAME_MAX + 1];
    struct errinfo info = {0};
    size_t n = rq->out.len < sizeof name ? rq->out.len : sizeof name - 1;
    enum err e = rq->err;

    if (!rq->req) {
        rq_free(rq);
        return;
    }
    memcpy(name, rq->out.ptr, n);
    if (!e) {
        buf_clear(&rq->out);
        e = transforms_show(rq->ctx->proto->conf.transforms, slice_of(name, n), &rq->out, &info);
    } else if (rq->info.code) {
        info = rq->info;
    }
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, status, MEDIA_JSON);
}

static void created_now(struct rq *rq)
{
    changed(rq, 201);
}

static void altered(struct rq *rq)
{
    changed(rq, 200);
}

void route_transform_put(struct rq *rq)
{
    struct errinfo info = {0};
    struct transforms *m = transforms_of(rq, &info);
    struct transform_def d;
    bool created = false;
    enum err e;

    transform_def_init(&d);
    e = m ? body_parse(rq, &d, &info) : ERR_UNSUPPORTED;
    e = e ? e : permit_change(rq, &d, &info);
    e = e ? e : buf_append_slice(&rq->out, rq->seg[0]);
    if (!e) {
        struct transform_def was;

        created = transforms_get(m, rq->seg[0], &was, NULL) != ERR_OK;
        if (!created) { /* what it did so far must be theirs to change, too */
            e = permit_change(rq, &was, &info);
            transform_def_fini(&was);
        }
    }
    if (!e) {
        rq_begin(rq, created ? created_now : altered);
        rq_one_more(rq);
        e = transforms_apply(m, &d, &created, rq_done, rq, &info);
    }
    transform_def_fini(&d);
    if (e)
        rq_fail(rq, e, &info);
}

void route_transform_delete(struct rq *rq)
{
    struct errinfo info = {0};
    struct transform_def d;
    struct transforms *m;
    enum err e = stored(rq, &m, &d, &info);

    if (!e) {
        e = permit_change(rq, &d, &info);
        transform_def_fini(&d);
    }
    if (!e) {
        rq_begin(rq, rq_reply_done);
        rq_one_more(rq);
        e = transforms_delete(m, rq->seg[0], rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
}

/* ---- actions ---- */

static void pause_or_resume(struct rq *rq, bool pause)
{
    struct errinfo info = {0};
    struct transform_def d;
    struct transforms *m;
    enum err e = stored(rq, &m, &d, &info);

    if (!e) {
        e = permit_change(rq, &d, &info);
        transform_def_fini(&d);
    }
    e = e ? e : buf_append_slice(&rq->out, rq->seg[0]);
    if (!e) {
        rq_begin(rq, altered);
        rq_one_more(rq);
        e = transforms_pause(m, rq->seg[0], pause, rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
}

/* Rows of a definition that is in the body, or stored, over the newest records; nothing is written. */
static void trial(struct rq *rq)
{
    struct errinfo info = {0};
    struct transforms *m = transforms_of(rq, &info);
    struct transform_def d;
    struct sql_input in = {.topic = NULL};
    struct buf text;
    int64_t records;
    int form = -1;
    enum err e = m ? rq_param_int(rq, "records", 1, 10000000, TRIAL_RECORDS, &records, &info)
                   : ERR_UNSUPPORTED;

    buf_init(&text, LIMIT_SQL_TEXT);
    transform_def_init(&d);
    if (!e && http_body(rq->req).len)
        e = body_parse(rq, &d, &info);
    else if (!e)
        transform_def_fini(&d), e = transforms_get(m, rq->seg[0], &d, &info);
    e = e ? e : rq_permit(rq, AUTH_READ, slice_str(d.input), &info);
    e = e ? e : transforms_trial(m, &d, records, &text, &in, &info);
    if (e)
        rq_fail(rq, e, &info);
    else if ((form = rq_rows_form(rq)) >= 0) {
        const struct sql_request r = {
            .text = slice_str((const char *)text.ptr), .inputs = &in, .inputs_n = 1};

        rq_sql(rq, &r, (enum rows_form)form);
    }
    topic_unref(&in.topic);
    free((void *)(uintptr_t)in.ranges);
    transform_def_fini(&d);
    buf_fini(&text);
}

void route_transform_act(struct rq *rq)
{
    struct errinfo info = {0};

    if (slice_eq_str(rq->seg[1], "pause") || slice_eq_str(rq->seg[1], "resume")) {
        pause_or_resume(rq, slice_eq_str(rq->seg[1], "pause"));
        return;
    }
    if (slice_eq_str(rq->seg[1], "test")) {
        trial(rq);
        return;
    }
    rq_fail(rq,
            errinfo_set(&info, ERR_NOT_FOUND, "there is no action \"%.*s\": pause, resume or test",
                        (int)(rq->seg[1].len < 40 ? rq->seg[1].len : 40),
                        (const char *)rq->seg[1].ptr),
            &info);
}
