/* What a reader wants, from its query parameters; which media type it gets. See http_int.h. */
#include <stdio.h>
#include <string.h>

#include "base/timefmt.h"
#include "base/topic_name.h"
#include "broker/tier.h"
#include "journal/journal.h"
#include "proto/http/http_int.h"

#define TOPICS_PAGE 64

/* `from`: a word, the first event wanted, or a time. In a query "+" may have become a space: the zone of a time gets it
 * back. */
static enum err from_parse(struct slice from, struct reader_conf *c, struct errinfo *info)
{
    char text[64];
    struct slice t = slice_of(text, from.len);

    if (from.len < sizeof text) {
        memcpy(text, from.ptr, from.len);
        if (from.len > 19) {
            char *space = memchr(text + 19, ' ', from.len - 19);

            if (space)
                *space = '+';
        }
        if (slice_eq_str(t, "TRIM_HORIZON") || slice_eq_str(t, "beginning")) {
            c->from = READ_FROM_START;
            return ERR_OK;
        }
        if (slice_eq_str(t, "LATEST") || slice_eq_str(t, "latest")) {
            c->from = READ_FROM_END;
            return ERR_OK;
        }
        if (event_id_parse(t, &c->position)) {
            c->from = READ_FROM_POSITION;
            return ERR_OK;
        }
        if (time_parse(t, &c->time_ms)) {
            c->from = READ_FROM_TIME;
            return ERR_OK;
        }
    }
    return errinfo_set(info, ERR_INVALID,
                       "\"from\" must be TRIM_HORIZON (or beginning), LATEST (or latest), an event "
                       "id or an ISO 8601 time");
}

/* The count of types is bounded; an empty one matches nothing and is a mistake. */
static enum err types_check(struct slice types, unsigned max, struct errinfo *info)
{
    unsigned n = 1;

    for (size_t i = 0; i < types.len; i++)
        n += types.ptr[i] == ',';
    if (types.len == 0 || n > max)
        return errinfo_set(info, ERR_INVALID, "\"type\" must be 1 to %u types, comma-separated",
                           max);
    return ERR_OK;
}

enum err selection_place(struct rq *rq, struct reader_conf *c, struct errinfo *info)
{
    struct slice after = rq_param(rq, "after"), from = rq_param(rq, "from");

    if (after.ptr && from.ptr)
        return errinfo_set(info, ERR_INVALID, "\"after\" and \"from\" exclude each other");
    if (from.ptr)
        return from_parse(from, c, info);
    if (!after.ptr)
        return ERR_OK;
    if (!event_id_parse(after, &c->position))
        return errinfo_set(info, ERR_INVALID, "\"after\" is no event id (evt_ and 16 digits)");
    c->position += c->position < UINT64_MAX;
    c->from = READ_FROM_POSITION;
    return ERR_OK;
}

enum err selection_parse(struct rq *rq, int from_default, struct selection *out,
                         struct errinfo *info)
{
    struct slice stream = rq_param(rq, "stream"), types = rq_param(rq, "type"), topic, key;
    enum err e;

    *out = (struct selection){.conf = {.partition = -1}};
    if (!stream.ptr)
        stream = rq_param(rq, "topic");
    if (!stream.ptr)
        stream = SLICE_LIT("*");
    if (!types.ptr)
        types = rq_param(rq, "types");
    if (types.ptr && (e = types_check(types, rq->ctx->proto->conf.limits.filter_types_max, info)))
        return e;
    out->types = types;
    out->conf.selector = stream;
    out->conf.from = from_default;
    if (!stream_split(stream, &topic, &key))
        return errinfo_set(info, ERR_INVALID,
                           "\"stream\" must be topic or topic:key, neither part empty");
    if ((e = rq_permit(rq, AUTH_READ, topic, info)))
        return e;
    return selection_place(rq, &out->conf, info);
}

static bool topic_lost(struct topic *t, const struct reader_conf *c)
{
    int32_t n = topic_partitions(t), i;
    struct plog_info now;

    for (i = 0; i < n; i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &now);
        if (partition_start(topic_partition(t, i)) < now.start_offset)
            continue; /* what is gone here is in the lake */
        if (c->from == READ_FROM_POSITION ? c->position < now.gone_position
                                          : c->time_ms <= now.gone_ts)
            return true;
    }
    return false;
}

bool selection_lost(struct broker *b, const struct reader_conf *conf)
{
    char pattern[TOPIC_NAME_MAX + 1], after[TOPIC_NAME_MAX + 1] = "";
    struct topic *page[TOPICS_PAGE];
    struct slice topic, key;
    bool lost = false;
    size_t n, i;

    if ((conf->from != READ_FROM_POSITION && conf->from != READ_FROM_TIME) ||
        !stream_split(conf->selector, &topic, &key) || topic.len > TOPIC_NAME_MAX)
        return false;
    memcpy(pattern, topic.ptr, topic.len);
    pattern[topic.len] = 0;
    if (!strpbrk(pattern, "*?")) {
        struct topic *t = topic_find(b, topic);

        lost = t && topic_lost(t, conf);
        topic_unref(&t);
        return lost;
    }
    do {
        n = topic_list(b, slice_str(after), pattern, page, TOPICS_PAGE);
        for (i = 0; i < n; i++) {
            lost = lost || topic_lost(page[i], conf);
            snprintf(after, sizeof after, "%s", topic_name(page[i]));
            topic_unref(&page[i]);
        }
    } while (!lost && n == TOPICS_PAGE);
    return lost;
}

static bool type_fits(struct slice want, struct slice type)
{
    if (want.len && want.ptr[want.len - 1] == '*')
        return slice_has_prefix(type, slice_of(want.ptr, want.len - 1));
    return slice_eq(want, type);
}

bool types_match(struct slice types, const struct reader_record *r)
{
    struct slice type = {0};

    if (!types.len)
        return true;
    for (unsigned i = 0; i < r->headers_n && !type.ptr; i++) {
        if (slice_eq(r->headers[i].key, SLICE_LIT("ce_type")))
            type = r->headers[i].value;
    }
    if (!type.ptr)
        return false;
    while (types.len) {
        const uint8_t *comma = memchr(types.ptr, ',', types.len);
        size_t n = comma ? (size_t)(comma - types.ptr) : types.len;

        if (type_fits(slice_of(types.ptr, n), type))
            return true;
        types = comma ? slice_of(comma + 1, types.len - n - 1) : SLICE_NULL;
    }
    return false;
}

/* ---- Accept (RFC 9110, 12.5.1) ---- */

static struct slice cut(struct slice *s, uint8_t at)
{
    const uint8_t *p = s->len ? memchr(s->ptr, at, s->len) : NULL;
    struct slice head = slice_of(s->ptr, p ? (size_t)(p - s->ptr) : s->len);

    *s = p ? slice_of(p + 1, s->len - head.len - 1) : slice_of(s->ptr + s->len, 0);
    return slice_trim(head, SLICE_LIT(" \t"));
}

/* A quality in thousandths, 1000 if the parameters have none. */
static int quality(struct slice params)
{
    while (params.len) {
        struct slice p = cut(&params, ';');
        int v = 0, scale = 100;

        if (p.len < 3 || (p.ptr[0] | 0x20) != 'q' || p.ptr[1] != '=')
            continue;
        if (p.ptr[2] == '1')
            return 1000;
        for (size_t i = 4; i < p.len && scale; i++, scale /= 10)
            v += p.ptr[i] >= '0' && p.ptr[i] <= '9' ? (p.ptr[i] - '0') * scale : 0;
        return v;
    }
    return 1000;
}

/* 0: no; 1: by * / *; 2: by type / *; 3: exactly. */
static int range_fits(struct slice range, const char *offer)
{
    size_t n = strlen(offer), slash = (size_t)(strchr(offer, '/') - offer);

    if (slice_eq_str(range, "*/*"))
        return 1;
    if (range.len == slash + 2 && range.ptr[slash + 1] == '*' &&
        strncasecmp((const char *)range.ptr, offer, slash + 1) == 0)
        return 2;
    return range.len == n && strncasecmp((const char *)range.ptr, offer, n) == 0 ? 3 : 0;
}

int accept_pick(struct slice accept, const char *const *offers, unsigned n)
{
    int best = -1, best_q = 0;

    if (!slice_trim(accept, SLICE_LIT(" \t")).len)
        return 0;
    for (unsigned i = 0; i < n; i++) {
        struct slice rest = accept;
        int fit = 0, q = 0;

        while (rest.len) {
            struct slice one = cut(&rest, ','), range = cut(&one, ';');
            int f = range_fits(range, offers[i]);

            if (f > fit) {
                fit = f;
                q = quality(one);
            }
        }
        if (q > best_q) {
            best = (int)i;
            best_q = q;
        }
    }
    return best;
}
