/* What clients of protocol type "consumer" write into the opaque bytes of the classic protocol, as
 * far as the broker must understand it, and the texts that the published table has of a group.
 *
 * Formats (Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment, version 0, which
 * every later version begins with), integers big-endian:
 *   subscription  i16 version, i32 n, n x { i16 length, name }, i32 length (-1: none), user data,
 *                 from version 1 on i32 n, n x { i16 length, name, i32 m, m x i32 partition }, …
 *   assignment    i16 version, i32 n, n x { i16 length, name, i32 m, m x i32 partition }, …
 * Nothing is allocated by a declared count; what does not decode is told apart from what is absent.
 * No state: any thread; group_images under the lock of the group's shard. */
#include "base/buf.h"
#include "base/endian.h"
#include "base/hex.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/rd.h"
#include "broker/consumer_int.h"
#include "broker/coordinator_int.h"
#include "broker/streams_int.h"

#include <stdlib.h>

static int32_t rd_i32(struct rd *r)
{
    const uint8_t *p = rd_take(r, 4);

    return p ? (int32_t)be32_load(p) : -1;
}

static int16_t rd_i16(struct rd *r)
{
    const uint8_t *p = rd_take(r, 2);

    return p ? (int16_t)be16_load(p) : -1;
}

static struct slice rd_name(struct rd *r)
{
    int16_t n = rd_i16(r);

    if (n < 0)
        r->bad = true;
    return rd_bytes(r, n < 0 ? 0 : (size_t)n);
}

/* The count of what follows, each of at least `each` bytes. */
static int32_t rd_count(struct rd *r, size_t each)
{
    int32_t n = rd_i32(r);

    if (n < 0 || (size_t)n > r->left / each)
        r->bad = true;
    return r->bad ? 0 : n;
}

/* Topics, each with partitions. */
static void rd_parts(struct rd *r, void (*fn)(void *arg, struct slice name, int32_t partition),
                     void *arg)
{
    int32_t n, m, p;

    for (n = rd_count(r, 6); n > 0 && !r->bad; n--) {
        struct slice name = rd_name(r);

        for (m = rd_count(r, 4); m > 0 && !r->bad; m--) {
            p = rd_i32(r);
            if (fn && !r->bad)
                fn(arg, name, p);
        }
    }
}

int subscription_read(struct slice metadata, void (*topic)(void *arg, struct slice name),
                      void (*owned)(void *arg, struct slice name, int32_t partition), void *arg)
{
    struct rd r = rd_of(metadata);
    int version = rd_i16(&r);
    int32_t n;

    if (version < 0)
        return -1;
    for (n = rd_count(&r, 2); n > 0 && !r.bad; n--) {
        struct slice name = rd_name(&r);

        if (topic && !r.bad)
            topic(arg, name);
    }
    if (version > 0 && owned) {
        n = rd_i32(&r);
        rd_take(&r, n > 0 ? (size_t)n : 0);
        rd_parts(&r, owned, arg);
    }
    return r.bad ? -1 : version;
}

bool assignment_read(struct slice assignment,
                     void (*part)(void *arg, struct slice name, int32_t partition), void *arg)
{
    struct rd r = rd_of(assignment);

    if (rd_i16(&r) < 0)
        return false;
    rd_parts(&r, part, arg);
    return !r.bad;
}

struct has {
    struct slice topic;
    bool found;
};

static void has_topic(void *arg, struct slice name)
{
    struct has *h = arg;

    h->found |= slice_eq(name, h->topic);
}

int subscription_has(struct slice metadata, struct slice topic)
{
    struct has h = {.topic = topic};

    return subscription_read(metadata, has_topic, NULL, &h) < 0 ? -1 : h.found;
}

static enum err json_topic(struct rd *r, struct buf *out)
{
    enum err e = json_write_string(out, rd_name(r));
    int32_t n = rd_count(r, 4);
    bool first = true;

    if (!e)
        e = buf_append_str(out, ":[");
    for (; n > 0 && !e; n--) {
        if (!first)
            e = buf_append_u8(out, ',');
        first = false;
        if (!e)
            e = json_write_i64(out, rd_i32(r));
    }
    return e ? e : buf_append_u8(out, ']');
}

bool assignment_json(struct slice assignment, struct buf *out)
{
    struct rd r = rd_of(assignment);
    size_t len = out->len;
    bool first = true;
    enum err e;
    int32_t n;

    if (rd_i16(&r) < 0)
        r.bad = true;
    e = buf_append_u8(out, '{');
    for (n = rd_count(&r, 6); n > 0 && !r.bad && !e; n--) {
        if (!first)
            e = buf_append_u8(out, ',');
        first = false;
        if (!e)
            e = json_topic(&r, out);
    }
    if (!e)
        e = buf_append_u8(out, '}');
    if (e || r.bad)
        out->len = len;
    return !e && !r.bad;
}

/* ---- the published texts ---- */

static enum err json_base64(struct buf *out, struct slice s)
{
    size_t n = BASE64_LEN(s.len);
    enum err e = buf_append_u8(out, '"');

    if (!e)
        e = buf_reserve(out, n + 1);
    if (e)
        return e;
    base64_encode(s.ptr, s.len, (char *)out->ptr + out->len);
    out->len += n;
    return buf_append_u8(out, '"');
}

enum err json_member(struct buf *out, bool first, struct slice id, struct slice instance_id,
                     struct slice client_id, struct slice client_host)
{
    const struct {
        const char *name;
        struct slice s;
    } part[] = {{"{\"id\":", id},
                {",\"instance\":", instance_id},
                {",\"client\":", client_id},
                {",\"host\":", client_host}};
    enum err e = first ? ERR_OK : buf_append_u8(out, ',');
    size_t i;

    for (i = 0; i < sizeof part / sizeof part[0] && !e; i++) {
        e = buf_append_str(out, part[i].name);
        if (!e)
            e = slice_is_null(part[i].s) ? buf_append_str(out, "null")
                                         : json_write_string(out, part[i].s);
    }
    return e ? e : buf_append_u8(out, '}');
}

enum err json_member_key(struct buf *out, bool first, struct slice id)
{
    enum err e = first ? ERR_OK : buf_append_u8(out, ',');

    if (!e)
        e = json_write_string(out, id);
    return e ? e : buf_append_u8(out, ':');
}

static enum err classic_images(const struct live_group *g, struct buf *members,
                               struct buf *assignment)
{
    bool decode = classic_is_consumer_type(g), first = true;
    const struct classic_member *m;
    enum err e = ERR_OK;

    list_for_each(m, &g->list, struct classic_member, link)
    {
        struct slice a = blob_slice(m->assignment);

        e = json_member(members, first, m->id, m->instance_id, m->client_id, m->client_host);
        if (!e)
            e = json_member_key(assignment, first, m->id);
        if (!e && a.len == 0)
            e = buf_append_str(assignment, "{}");
        else if (!e && !(decode && assignment_json(a, assignment)))
            e = json_base64(assignment, a);
        if (e)
            return e;
        first = false;
    }
    return e;
}

void group_images(const struct live_group *g, struct buf *members, struct buf *assignment)
{
    enum err e = ERR_OK;

    if (g->members.n == 0)
        return;
    if (buf_append_u8(members, '[') || buf_append_u8(assignment, '{'))
        e = ERR_TOO_LARGE;
    if (!e)
        e = g->kind == GROUP_CLASSIC   ? classic_images(g, members, assignment)
            : g->kind == GROUP_STREAMS ? streams_images(g, members, assignment)
                                       : consumer_images(g, members, assignment);
    if (e || buf_append_u8(members, ']') || buf_append_u8(assignment, '}')) {
        buf_clear(members);
        buf_clear(assignment);
    }
}
