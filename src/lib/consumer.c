/* Consumers: a broker's reader with waiting, groups and commits. One thread at a time.
 *
 * A group's place is kept by partition, as Kafka keeps it: commit writes, for each partition of the
 * stream's topics, the first offset whose position is beyond the last record returned. So another
 * consumer, by whatever protocol, goes on at the same record. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stream_name.h"
#include "base/tbl/limits.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "lib/lib_int.h"

#define PATTERN_PAGE   64u
#define TIMEOUT_MS_MAX 1000000000000 /* 30 years: for ever */

struct weir_consumer {
    struct weir *w;
    struct reader_conf conf;
    char *stream, *group;
    struct reader *r;
    uint64_t next;      /* one past the last record returned; 0: none yet */
    uint64_t committed; /* value of next at the last commit */
    int64_t auto_commit_ms;
    uint64_t committed_ns;
    struct lib_message box;
};

/* ---- groups ---- */

/* Calls fn for each partition that the stream covers. */
static enum err each_partition(struct weir_consumer *c,
                               enum err (*fn)(struct weir_consumer *c, struct partition *p,
                                              void *arg, struct errinfo *info),
                               void *arg, struct errinfo *info)
{
    struct topic *page[PATTERN_PAGE];
    char pattern[TOPIC_NAME_MAX + 1], after[TOPIC_NAME_MAX + 1] = "";
    struct slice topic, key;
    enum err e = ERR_OK;
    size_t n, i;
    int32_t k;

    stream_split(slice_str(c->stream), &topic, &key); /* a reader has taken it: it has a topic */
    ASSERT(topic.len > 0 && topic.len <= TOPIC_NAME_MAX);
    memcpy(pattern, topic.ptr, topic.len);
    pattern[topic.len] = 0;
    do {
        n = topic_list(c->w->b, slice_str(after), pattern, page, PATTERN_PAGE);
        for (i = 0; i < n; i++) {
            memcpy(after, topic_name(page[i]), strlen(topic_name(page[i])) + 1);
            for (k = 0; !e && k < topic_partitions(page[i]); k++)
                if (c->conf.partition < 0 || c->conf.partition == k)
                    e = fn(c, topic_partition(page[i], k), arg, info);
            topic_unref(&page[i]);
        }
    } while (!e && n == PATTERN_PAGE);
    return e;
}

/* Lowest position that the group has not dealt with. */
static enum err find_committed(struct weir_consumer *c, struct partition *p, void *arg,
                               struct errinfo *info)
{
    struct plog *log = partition_log(p);
    uint64_t *lowest = arg, position;
    struct group_offset o;
    struct plog_read r = {0};
    struct plog_info pi;
    int64_t at;
    enum err e = group_offset_get(c->w->b, slice_str(c->group), p, &o);

    plog_info_get(log, &pi);
    at = e == ERR_NOT_FOUND || o.offset < partition_start(p) ? partition_start(p) : o.offset;
    if (at >= pi.end_offset)
        return ERR_OK; /* nothing left in this one */
    e = partition_read_wait(p, &at, 1, &r, info);
    if (!e && r.n) {
        position = r.batch[0].position;
        if (at > r.batch[0].base_offset) /* else there is a gap before it */
            position += (uint64_t)(at - r.batch[0].base_offset);
        if (position < *lowest)
            *lowest = position;
    }
    plog_read_release(&r);
    return e;
}

static enum err commit_one(struct weir_consumer *c, struct partition *p, void *arg,
                           struct errinfo *info)
{
    struct append *a = arg;
    int64_t offset;
    enum err e = partition_seek_wait(p, TIER_BY_POSITION, (int64_t)c->next, &offset, info);

    return e ? e : append_offset(a, slice_str(c->group), p, offset, SLICE_NULL);
}

static enum err commit(struct weir_consumer *c, struct errinfo *info)
{
    struct append *a;
    enum err e;

    if (!c->group)
        return errinfo_set(info, ERR_INVALID, "this consumer has no group");
    if (c->next == c->committed)
        return ERR_OK;
    a = append_new(c->w->b, NULL, NULL);
    e = each_partition(c, commit_one, a, info);
    if (!e)
        e = append_submit_wait(a, info);
    append_free(&a);
    if (!e)
        c->committed = c->next;
    c->committed_ns = io_mono_ns(io_real());
    return e;
}

/* ---- the public part ---- */

/* Where the group goes on. Records that become visible while the partitions are looked at have
 * positions from `end` on, so beginning there at the latest misses none. */
static enum err place_group(struct weir_consumer *c, struct errinfo *info)
{
    struct reader_conf conf = c->conf;
    struct reader *r = NULL;
    uint64_t lowest;
    enum err e;

    if (!c->group)
        return errinfo_set(info, ERR_INVALID, "WEIR_FROM_GROUP needs a group");
    conf.from = READ_FROM_END;
    if ((e = reader_open(c->w->b, &conf, &r, info)))
        return e;
    lowest = reader_position(r);
    reader_close(&r);
    e = each_partition(c, find_committed, &lowest, info);
    c->conf.from = READ_FROM_POSITION;
    c->conf.position = lowest;
    return e;
}

static enum err place_options(struct weir_consumer *c, const struct weir_consumer_options *o,
                              struct errinfo *info)
{
    if (o->partition_1 < 0)
        return errinfo_set(info, ERR_PARTITION_NOT_FOUND, "partition_1 is negative");
    c->conf = (struct reader_conf){.selector = slice_str(c->stream),
                                   .partition = o->partition_1 - 1,
                                   .position = o->position,
                                   .time_ms = o->at_ms,
                                   .offset = o->offset};
    switch (o->from) {
    case WEIR_FROM_BEGINNING:
        c->conf.from = READ_FROM_START;
        break;
    case WEIR_FROM_END:
        c->conf.from = READ_FROM_END;
        break;
    case WEIR_FROM_OFFSET:
        c->conf.from = READ_FROM_OFFSET;
        break;
    case WEIR_FROM_TIME:
        c->conf.from = READ_FROM_TIME;
        break;
    case WEIR_FROM_POSITION:
        c->conf.from = READ_FROM_POSITION;
        break;
    case WEIR_FROM_GROUP:
        return place_group(c, info);
    default:
        return errinfo_set(info, ERR_INVALID, "there is no such place to begin");
    }
    return ERR_OK;
}

static enum err group_check(const struct weir_consumer_options *o, struct errinfo *info)
{
    if (o->group && (!o->group[0] || strlen(o->group) > LIMIT_GROUP_NAME))
        return errinfo_set(info, ERR_INVALID, "a group's name has 1 to %u bytes", LIMIT_GROUP_NAME);
    if (!o->group && o->auto_commit_ms > 0)
        return errinfo_set(info, ERR_INVALID, "auto_commit_ms needs a group");
    return ERR_OK;
}

weir_err weir_consumer_new(struct weir *w, const char *stream,
                           const struct weir_consumer_options *options, struct weir_consumer **out,
                           struct weir_error *error)
{
    struct weir_consumer_options o = {0};
    struct errinfo info = {0};
    struct weir_consumer *c;
    enum err e = lib_options(&o, sizeof o, options, &info);

    *out = NULL;
    if (!e)
        e = group_check(&o, &info);
    if (e)
        return lib_fail(e, &info, error);
    c = xcalloc(1, sizeof *c);
    c->w = w;
    lib_message_init(&c->box);
    c->stream = xstrdup(stream ? stream : "");
    c->group = o.group ? xstrdup(o.group) : NULL;
    c->auto_commit_ms = o.auto_commit_ms;
    c->committed_ns = io_mono_ns(io_real());
    e = place_options(c, &o, &info);
    if (!e)
        e = reader_open(w->b, &c->conf, &c->r, &info);
    if (e) {
        weir_consumer_close(&c);
        return lib_read_fail(w, e, &info, error);
    }
    *out = c;
    return lib_fail(ERR_OK, NULL, error);
}

void lib_message_init(struct lib_message *c)
{
    memset(c, 0, sizeof *c);
    buf_init(&c->names, LIMIT_BATCH_INFLATED);
}

void lib_message_fini(struct lib_message *c)
{
    buf_fini(&c->names);
    free(c->headers);
}

void lib_message_out(struct lib_message *c, const struct reader_record *r, struct weir_message *m)
{
    unsigned i, n = r->headers_n;
    size_t room = 0;

    if (n > c->headers_cap) { /* at most LIMIT_RECORD_HEADERS: the reader checks it */
        c->headers = xrealloc(c->headers, n * sizeof *c->headers);
        c->headers_cap = n;
    }
    for (i = 0; i < n; i++)
        room += r->headers[i].key.len + 1;
    buf_clear(&c->names);
    if (buf_reserve(&c->names, room))
        n = 0;                /* cannot be: a batch is smaller */
    for (i = 0; i < n; i++) { /* names are handed out as C strings */
        c->headers[i].name = (const char *)c->names.ptr + c->names.len;
        buf_append_slice(&c->names, r->headers[i].key);
        buf_append_u8(&c->names, 0);
        c->headers[i].value = r->headers[i].value.ptr;
        c->headers[i].value_len = r->headers[i].value.len;
    }
    *m = (struct weir_message){.topic = topic_name(r->topic),
                               .partition = r->partition,
                               .offset = r->offset,
                               .position = r->position,
                               .timestamp_ms = r->timestamp_ms,
                               .key = r->key.ptr,
                               .key_len = r->key.len,
                               .value = r->value.ptr,
                               .value_len = r->value.len,
                               .headers = c->headers,
                               .headers_n = n};
}

/* Milliseconds until what was returned is to be committed; -1: there is nothing to commit. */
static int64_t auto_commit_due(const struct weir_consumer *c)
{
    uint64_t past;

    if (c->auto_commit_ms <= 0 || c->next == c->committed)
        return -1;
    past = (io_mono_ns(io_real()) - c->committed_ns) / 1000000u;
    return past >= (uint64_t)c->auto_commit_ms ? 0 : c->auto_commit_ms - (int64_t)past;
}

static enum err next(struct weir_consumer *c, int64_t timeout_ms, struct weir_message *out,
                     struct errinfo *info)
{
    uint64_t until = 0;
    struct reader_record r;
    int64_t left, due;
    enum err e;

    if (timeout_ms > TIMEOUT_MS_MAX)
        timeout_ms = -1;
    if (timeout_ms > 0)
        until = io_mono_ns(io_real()) + (uint64_t)timeout_ms * 1000000u;
    for (;;) {
        due = auto_commit_due(c);
        if (due == 0 && (e = commit(c, info)))
            return e;
        e = reader_next(c->r, &r, info);
        if (!e) {
            lib_message_out(&c->box, &r, out);
            c->next = r.position + 1;
            return ERR_OK;
        }
        if (e != ERR_AGAIN || timeout_ms == 0)
            return e;
        left = -1;
        if (timeout_ms > 0) {
            left = ((int64_t)(until - io_mono_ns(io_real())) + 999999) / 1000000;
            if (left <= 0)
                return ERR_AGAIN;
        }
        if (due > 0 && (left < 0 || due < left))
            left = due; /* a commit does not wait for the next record */
        reader_block(c->r, left);
    }
}

weir_err weir_consumer_next(struct weir_consumer *c, int64_t timeout_ms, struct weir_message *out,
                            struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_read_fail(c->w, next(c, timeout_ms, out, &info), &info, error);
}

weir_err weir_consumer_commit(struct weir_consumer *c, struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_read_fail(c->w, commit(c, &info), &info, error);
}

weir_err weir_consumer_seek(struct weir_consumer *c, uint64_t position, struct weir_error *error)
{
    struct reader_conf conf = c->conf;
    struct errinfo info = {0};
    struct reader *r = NULL;
    enum err e;

    conf.from = READ_FROM_POSITION;
    conf.position = position;
    e = reader_open(c->w->b, &conf, &r, &info);
    if (e)
        return lib_fail(e, &info, error);
    reader_close(&c->r);
    c->r = r;
    c->conf = conf;
    c->next = position;
    return lib_fail(ERR_OK, NULL, error);
}

uint64_t weir_consumer_position(const struct weir_consumer *c)
{
    return reader_position(c->r);
}

void weir_consumer_close(struct weir_consumer **cp)
{
    struct weir_consumer *c = *cp;

    if (!c)
        return;
    if (c->r && c->auto_commit_ms > 0)
        commit(c, NULL);
    reader_close(&c->r);
    lib_message_fini(&c->box);
    free(c->stream);
    free(c->group);
    free(c);
    *cp = NULL;
}

weir_err weir_read(struct weir *w, const char *stream, uint64_t after, size_t limit,
                   bool (*fn)(void *arg, const struct weir_message *m), void *arg,
                   uint64_t *position, struct weir_error *error)
{
    struct weir_consumer_options o = {.size = sizeof o,
                                      .from = WEIR_FROM_POSITION,
                                      .position = after == UINT64_MAX ? after : after + 1};
    struct weir_consumer *c;
    struct weir_message m;
    weir_err e = weir_consumer_new(w, stream, &o, &c, error);
    size_t n;

    if (e)
        return e;
    for (n = 0; !e && n < limit;) {
        e = weir_consumer_next(c, 0, &m, error);
        if (e == WEIR_ERR_OFFSET_RANGE) { /* older ones are gone: go on with what is left */
            e = WEIR_OK;
        } else if (e == WEIR_ERR_AGAIN && reader_fetching(c->r)) {
            reader_block(c->r, -1);
            e = WEIR_OK;
        } else if (!e) {
            if (!fn(arg, &m))
                break;
            n++;
        }
    }
    if (position)
        *position = weir_consumer_position(c) - 1;
    weir_consumer_close(&c);
    return e == WEIR_OK || e == WEIR_ERR_AGAIN ? lib_fail(ERR_OK, NULL, error) : e;
}
