/* /tokens: for admins of everything. auth.h has the rules. */
#include <string.h>

#include <openssl/crypto.h>

#include "base/json_write.h"
#include "base/timefmt.h"
#include "proto/http/http_int.h"

/* The members of a token object. */
static enum err put_token(struct buf *out, const struct principal *p)
{
    char created[TIME_TEXT_LEN + 1];
    enum err e;

    time_format(p->created_ms, created);
    e = buf_printf(out, "\"id\":\"%s\",\"name\":", p->id);
    e = e ? e : json_write_string(out, slice_str(p->name));
    e = e ? e : buf_printf(out, ",\"created\":\"%s\",\"grants\":[", created);
    for (unsigned i = 0; !e && i < p->grants_n; i++) {
        const struct auth_grant *g = &p->grants[i];

        e = buf_printf(out, "%s{\"access\":\"%s\",\"prefix\":", i ? "," : "",
                       auth_access_name(g->access));
        e = e ? e : json_write_string(out, slice_of(g->prefix, g->prefix_len));
        e = e ? e : buf_append_str(out, "}");
    }
    return e ? e : buf_append_str(out, "]");
}

static bool admin(struct rq *rq)
{
    struct errinfo info;

    if (auth_permits_all(rq->who, AUTH_ADMIN))
        return true;
    rq_fail(rq, errinfo_set(&info, ERR_FORBIDDEN, "only an admin of everything may see tokens"),
            &info);
    return false;
}

struct listing {
    struct buf *out;
    enum err e;
    bool any;
};

static void list_one(void *arg, const struct principal *p)
{
    struct listing *l = arg;

    l->e = l->e ? l->e : buf_append_str(l->out, l->any ? ",{" : "{");
    l->any = true;
    l->e = l->e ? l->e : put_token(l->out, p);
    l->e = l->e ? l->e : buf_append_str(l->out, "}");
}

void route_tokens_list(struct rq *rq)
{
    struct listing l = {.out = &rq->out};

    if (!admin(rq))
        return;
    l.e = buf_append_str(&rq->out, "{\"tokens\":[");
    auth_each(&rq->ctx->auth, list_one, &l);
    l.e = l.e ? l.e : buf_append_str(&rq->out, "]}");
    if (l.e)
        rq_fail(rq, l.e, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* The answer is in rq->out already. */
static void created(struct rq *rq)
{
    if (rq->err)
        rq_fail(rq, rq->err, rq->info.code ? &rq->info : NULL);
    else
        rq_reply_out(rq, 201, MEDIA_JSON);
}

void route_token_create(struct rq *rq)
{
    char text[AUTH_TOKEN_LEN + 1];
    struct errinfo info = {0};
    struct principal p;
    enum err e;

    if (!admin(rq))
        return;
    e = auth_make(rq->ctx->proto->auth, http_body(rq->req), &p, text, &info);
    if (!e) {
        e = buf_printf(&rq->out, "{\"token\":\"%s\",", text);
        e = e ? e : put_token(&rq->out, &p);
        e = e ? e : buf_append_str(&rq->out, "}");
        OPENSSL_cleanse(text, sizeof text);
    }
    if (!e) {
        rq_begin(rq, created);
        rq_one_more(rq);
        e = auth_put(rq->ctx->proto->auth, &p, rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
}

void route_token_delete(struct rq *rq)
{
    struct errinfo info = {0};
    enum err e;

    if (!admin(rq))
        return;
    rq_begin(rq, rq_reply_done);
    rq_one_more(rq);
    e = auth_revoke(rq->ctx->proto->auth, rq->seg[0], rq_done, rq, &info);
    if (e)
        rq_fail(rq, e, &info);
}
