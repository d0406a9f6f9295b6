/* /topics: list, create, describe, alter, delete, partitions, deletion of records. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "broker/tier.h"
#include "journal/journal.h"
#include "proto/http/http_int.h"

/* ---- writing ---- */

struct conf_out {
    struct buf *out;
    enum err e;
    bool any;
};

static void put_item(void *arg, const char *name, const char *value, bool is_default,
                     const char *prose)
{
    struct conf_out *c = arg;

    if (c->e)
        return;
    c->e = buf_printf(c->out, "%s\"%s\":", c->any ? "," : "", name);
    c->e = c->e ? c->e : json_write_string(c->out, slice_str(value));
    c->any = true;
}

static enum err put_topic(struct rq *rq, struct topic *t)
{
    struct conf_out c = {.out = &rq->out};
    struct topic_conf conf;
    char created[TIME_TEXT_LEN + 1];
    uint64_t records = 0, bytes = 0;

    time_format(topic_created_ms(t), created);
    for (int32_t i = 0; i < topic_partitions(t); i++) {
        struct plog_info now;

        plog_info_get(partition_log(topic_partition(t, i)), &now);
        records += (uint64_t)(now.end_offset - partition_start(topic_partition(t, i)));
        bytes += now.bytes;
    }
    c.e = buf_printf(&rq->out,
                     "{\"name\":\"%s\",\"partitions\":%d,\"created\":\"%s\",\"records\":%llu,"
                     "\"bytes\":%llu,\"config\":{",
                     topic_name(t), (int)topic_partitions(t), created, (unsigned long long)records,
                     (unsigned long long)bytes);
    topic_conf_get(t, &conf);
    topic_conf_each(rq->ctx->proto->conf.broker, &conf, put_item, &c);
    return c.e ? c.e : buf_append_str(&rq->out, "}}");
}

static void reply_topic(struct rq *rq, int status, struct slice name)
{
    struct errinfo info = {0};
    struct topic *t = topic_find(rq->ctx->proto->conf.broker, name);
    enum err e;

    if (!t) {
        rq_fail(rq,
                errinfo_set(&info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"", (int)name.len,
                            (const char *)name.ptr),
                &info);
        return;
    }
    e = put_topic(rq, t);
    topic_unref(&t);
    if (e)
        rq_fail(rq, e, NULL);
    else
        rq_reply_out(rq, status, MEDIA_JSON);
}

/* ---- list ---- */

static bool sees(struct rq *rq, const struct topic *t)
{
    struct slice name = slice_str(topic_name(t));

    return auth_permits(rq->who, AUTH_READ, name) || auth_permits(rq->who, AUTH_WRITE, name);
}

/* Appends up to `limit` topics; *next is the name of the last one looked at, or empty at the end.
 */
static enum err put_list(struct rq *rq, struct slice after, const char *pattern, size_t limit,
                         char next[EVENT_TOPIC_MAX + 1])
{
    struct topic *t[64];
    char at[EVENT_TOPIC_MAX + 1];
    enum err e = ERR_OK;
    size_t n, shown = 0;

    *next = 0;
    do {
        n = topic_list(rq->ctx->proto->conf.broker, after, pattern, t, sizeof t / sizeof t[0]);
        for (size_t i = 0; i < n; i++) {
            if (!e && shown < limit && sees(rq, t[i])) {
                e = shown ? buf_append_u8(&rq->out, ',') : ERR_OK;
                e = e ? e : put_topic(rq, t[i]);
                shown++;
                memcpy(next, topic_name(t[i]), strlen(topic_name(t[i])) + 1);
            } else if (shown == limit) {
                while (i < n)
                    topic_unref(&t[i++]);
                return e; /* there is more: next stays */
            }
            memcpy(at, topic_name(t[i]), strlen(topic_name(t[i])) + 1);
            topic_unref(&t[i]);
        }
        after = slice_str(at);
    } while (!e && n == sizeof t / sizeof t[0]);
    *next = 0;
    return e;
}

void route_topics_list(struct rq *rq)
{
    struct slice pattern = rq_param(rq, "pattern"), after = rq_param(rq, "after");
    char next[EVENT_TOPIC_MAX + 1], glob[EVENT_TOPIC_MAX + 1];
    struct errinfo info = {0};
    int64_t limit;
    enum err e;

    e = rq_param_int(rq, "limit", 1, rq->ctx->proto->conf.limits.topics_page_max, 100, &limit,
                     &info);
    if (!e && (pattern.len > EVENT_TOPIC_MAX || after.len > EVENT_TOPIC_MAX))
        e = errinfo_set(&info, ERR_INVALID, "a name is longer than %d bytes", EVENT_TOPIC_MAX);
    if (!e && !auth_permits_any(rq->who, AUTH_READ) && !auth_permits_any(rq->who, AUTH_WRITE))
        e = errinfo_set(&info, ERR_FORBIDDEN, "the token permits nothing on topics");
    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    if (pattern.len)
        memcpy(glob, pattern.ptr, pattern.len);
    glob[pattern.len] = 0;
    e = buf_append_str(&rq->out, "{\"topics\":[");
    e = e ? e : put_list(rq, after, pattern.len ? glob : NULL, (size_t)limit, next);
    e = e ? e : buf_append_str(&rq->out, "]");
    if (!e && *next)
        e = buf_printf(&rq->out, ",\"next\":\"%s\"", next);
    e = e ? e : buf_append_str(&rq->out, "}");
    if (e)
        rq_fail(rq, e, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* ---- changes ---- */

/* Text of a configuration value that may also be a JSON number or boolean. */
static enum err conf_value(const char *name, const json_t *v, char out[64], struct slice *text,
                           struct errinfo *info)
{
    if (json_is_string(v))
        *text = slice_of(json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        *text = slice_of(out,
                         (size_t)snprintf(out, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(v)));
    else if (json_is_boolean(v))
        *text = json_is_true(v) ? SLICE_LIT("true") : SLICE_LIT("false");
    else
        return errinfo_set(info, ERR_CONFIG, "%s must be text, a whole number or a boolean", name);
    return ERR_OK;
}

static enum err conf_parse(const json_t *config, struct topic_conf *conf, struct errinfo *info)
{
    const char *name;
    const json_t *v;
    enum err e = ERR_OK;

    if (!json_is_object(config))
        return errinfo_set(info, ERR_CONFIG, "\"config\" must be an object");
    json_object_foreach((json_t *)(uintptr_t)config, name, v)
    {
        struct slice text;
        char room[64];

        e = conf_value(name, v, room, &text, info);
        e = e ? e : topic_conf_set(conf, slice_str(name), text, info);
        if (e)
            break;
    }
    return e;
}

/* What a create or alter request asks for. */
struct wish {
    json_t *body;
    const char *name;
    int32_t partitions;
    bool has_conf;
    struct topic_conf conf;
};

static enum err fields_known(const json_t *o, bool create, struct errinfo *info)
{
    const char *name;
    const json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, name, v)
    {
        if (strcmp(name, "partitions") != 0 && strcmp(name, "config") != 0 &&
            !(create && strcmp(name, "name") == 0))
            return errinfo_set(info, ERR_INVALID, "unknown field \"%.64s\"", name);
    }
    return ERR_OK;
}

/* w->conf holds the configuration to start from. The caller decrefs w->body. */
static enum err wish_parse(struct rq *rq, bool create, struct wish *w, struct errinfo *info)
{
    struct slice body = http_body(rq->req);
    json_error_t why;
    const json_t *v;
    enum err e;

    w->body = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(w->body))
        return errinfo_set(info, ERR_CORRUPT_INPUT, "the body is no JSON object: %s",
                           w->body ? "" : why.text);
    if ((e = fields_known(w->body, create, info)))
        return e;
    w->name = json_string_value(json_object_get(w->body, "name"));
    if (create && !w->name)
        return errinfo_set(info, ERR_INVALID, "\"name\" is missing or no text");
    v = json_object_get(w->body, "partitions");
    if (v &&
        (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX))
        return errinfo_set(info, ERR_INVALID, "\"partitions\" must be a whole number from 1 on");
    w->partitions = (int32_t)json_integer_value(v);
    v = json_object_get(w->body, "config");
    w->has_conf = v != NULL;
    return v ? conf_parse(v, &w->conf, info) : ERR_OK;
}

/* The change's topic name is kept in rq->out until the change is durable. */
static void changed(struct rq *rq, int status)
{
    char name[EVENT_TOPIC_MAX + 1];
    size_t n = rq->out.len < sizeof name ? rq->out.len : sizeof name - 1;

    if (!rq->req) {
        rq_free(rq);
        return;
    }
    if (rq->err) {
        rq_fail(rq, rq->err, rq->info.code ? &rq->info : NULL);
        return;
    }
    memcpy(name, rq->out.ptr, n);
    buf_clear(&rq->out);
    reply_topic(rq, status, slice_of(name, n));
}

static void created(struct rq *rq)
{
    changed(rq, 201);
}

static void altered(struct rq *rq)
{
    changed(rq, 200);
}

void route_topic_create(struct rq *rq)
{
    struct broker *b = rq->ctx->proto->conf.broker;
    struct wish w = {0};
    struct errinfo info = {0};
    enum err e;

    topic_conf_default(b, &w.conf);
    e = wish_parse(rq, true, &w, &info);
    e = e ? e : rq_permit(rq, AUTH_ADMIN, slice_str(w.name), &info);
    e = e ? e : buf_append_str(&rq->out, w.name);
    if (!e) {
        rq_begin(rq, created);
        rq_one_more(rq);
        e = topic_create(b, slice_str(w.name), w.partitions, w.has_conf ? &w.conf : NULL, rq_done,
                         rq, &info);
    }
    json_decref(w.body);
    if (e)
        rq_fail(rq, e, &info);
}

void route_topic_get(struct rq *rq)
{
    struct errinfo info = {0};
    enum err e = rq_permit(rq, AUTH_READ, rq->seg[0], &info);

    if (e)
        e = rq_permit(rq, AUTH_WRITE, rq->seg[0], &info);
    if (e)
        rq_fail(rq, e, &info);
    else
        reply_topic(rq, 200, rq->seg[0]);
}

/* The topic of the path, referenced, if the sender may do this to it. */
static enum err topic_of(struct rq *rq, unsigned access, struct topic **t, struct errinfo *info)
{
    enum err e = rq_permit(rq, access, rq->seg[0], info);

    *t = NULL;
    if (e)
        return e;
    *t = topic_find(rq->ctx->proto->conf.broker, rq->seg[0]);
    if (*t)
        return ERR_OK;
    return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                       (int)(rq->seg[0].len < 100 ? rq->seg[0].len : 100),
                       (const char *)rq->seg[0].ptr);
}

void route_topic_alter(struct rq *rq)
{
    struct broker *b = rq->ctx->proto->conf.broker;
    struct errinfo info = {0};
    struct wish w = {0};
    struct topic *t;
    enum err e = topic_of(rq, AUTH_ADMIN, &t, &info);

    if (!e) {
        topic_conf_get(t, &w.conf);
        topic_unref(&t);
        e = wish_parse(rq, false, &w, &info);
    }
    e = e ? e : buf_append_slice(&rq->out, rq->seg[0]);
    if (!e) {
        rq_begin(rq, altered);
        rq_one_more(rq);
        e = topic_alter(b, rq->seg[0], w.partitions, w.has_conf ? &w.conf : NULL, rq_done, rq,
                        &info);
    }
    json_decref(w.body);
    if (e)
        rq_fail(rq, e, &info);
}

void route_topic_delete(struct rq *rq)
{
    struct errinfo info = {0};
    enum err e = rq_permit(rq, AUTH_ADMIN, rq->seg[0], &info);

    if (!e) {
        rq_begin(rq, rq_reply_done);
        rq_one_more(rq);
        e = topic_delete(rq->ctx->proto->conf.broker, rq->seg[0], rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
}

/* ---- partitions and records ---- */

void route_partitions(struct rq *rq)
{
    struct errinfo info = {0};
    struct topic *t;
    enum err e = topic_of(rq, AUTH_READ, &t, &info);

    if (e) {
        rq_fail(rq, e, &info);
        return;
    }
    e = buf_append_str(&rq->out, "{\"partitions\":[");
    for (int32_t i = 0; !e && i < topic_partitions(t); i++) {
        struct plog_info now;

        plog_info_get(partition_log(topic_partition(t, i)), &now);
        e = buf_printf(&rq->out,
                       "%s{\"partition\":%d,\"start\":%lld,\"local_start\":%lld,\"end\":%lld,"
                       "\"bytes\":%llu}",
                       i ? "," : "", (int)i, (long long)partition_start(topic_partition(t, i)),
                       (long long)now.start_offset, (long long)now.end_offset,
                       (unsigned long long)now.bytes);
    }
    topic_unref(&t);
    e = e ? e : buf_append_str(&rq->out, "]}");
    if (e)
        rq_fail(rq, e, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* Trims one partition or all; errors that come at once are passed on like late ones. */
static void trim(struct rq *rq, struct topic *t, int64_t partition, int64_t before)
{
    int32_t n = topic_partitions(t);

    rq_begin(rq, rq_reply_done);
    rq_one_more(rq); /* until all have been started */
    for (int32_t i = 0; i < n; i++) {
        struct errinfo info = {0};
        enum err e;

        if (partition >= 0 && i != partition)
            continue;
        rq_one_more(rq);
        e = partition_trim(topic_partition(t, i), before, rq_done, rq, &info);
        if (e)
            rq_done(rq, e, &info);
    }
    rq_done(rq, ERR_OK, NULL);
}

void route_records_delete(struct rq *rq)
{
    struct errinfo info = {0};
    int64_t partition, before;
    struct topic *t;
    enum err e = topic_of(rq, AUTH_ADMIN, &t, &info);

    e = e ? e : rq_param_int(rq, "partition", 0, INT32_MAX, -1, &partition, &info);
    e = e ? e : rq_param_int(rq, "before", 0, INT64_MAX, -1, &before, &info);
    if (!e && before >= 0 && partition < 0)
        e = errinfo_set(&info, ERR_INVALID, "\"before\" needs \"partition\"");
    if (!e && partition >= topic_partitions(t))
        e = errinfo_set(&info, ERR_PARTITION_NOT_FOUND, "the topic has %d partitions",
                        (int)topic_partitions(t));
    if (e)
        rq_fail(rq, e, &info);
    else
        trim(rq, t, partition, before);
    if (t)
        topic_unref(&t);
}
