/* `weir consume --data`: a data directory that this process has opened, so nothing is added meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/tier.h"
#include "cli/local.h"
#include "cli/source.h"
#include "journal/journal.h"

#define READ_BYTES  (1u << 20)
#define READ_MAX    (READ_BYTES + LIMIT_BATCH_BYTES)
#define ABORTED_MAX 10000u

struct local_source {
    struct source source; /* first */
    struct broker *b;
    struct plog_read read;
    struct buf batches; /* of one read, behind one another */
    struct aborted_txn aborted[ABORTED_MAX];
};

static bool say(enum err e, const struct errinfo *info)
{
    if (e)
        fail("%s", info->text[0] ? info->text : err_text(e));
    return !e;
}

/* Is where reading begins in the lake, which is not open here? */
static enum err place_check(const struct part *part, bool by_time, struct partition *p,
                            const struct plog_info *now, struct errinfo *info)
{
    bool older = by_time ? now->gone_ts < 0 || part->since_ms <= now->gone_ts
                         : part->next < now->start_offset;

    if (!older || partition_start(p) >= now->start_offset)
        return ERR_OK;
    return errinfo_set(info, ERR_TIER,
                       "%s [%d]: offsets %lld to %lld are in the lake alone; a server reads them, "
                       "or begin at offset %lld",
                       part->topic, (int)part->index, (long long)partition_start(p),
                       (long long)now->start_offset - 1, (long long)now->start_offset);
}

static enum err place(struct local_source *l, struct part *part, struct partition *p,
                      struct errinfo *info)
{
    const struct source_conf *c = l->source.conf;
    int64_t start = partition_start(p);
    struct group_offset stored;
    struct plog_info now;
    enum err e = ERR_OK;

    plog_info_get(partition_log(p), &now);
    part->end = c->committed ? partition_lso(p) : now.end_offset;
    part->since_ms = -1;
    if (c->group && group_offset_get(l->b, slice_str(c->group), p, &stored) == ERR_OK) {
        part->next = part->committed = stored.offset;
        return place_check(part, false, p, &now, info);
    }
    part->next = c->from == FROM_START    ? start
                 : c->from == FROM_OFFSET ? c->from_value
                 : c->from == FROM_LAST   ? part->end - c->from_value
                                          : part->end;
    if (c->from == FROM_LAST && part->next < start)
        part->next = start;
    if (c->from == FROM_TIME) {
        part->since_ms = c->from_value;
        e = plog_seek_time(partition_log(p), c->from_value, &part->next, info);
    }
    return e ? e : place_check(part, c->from == FROM_TIME, p, &now, info);
}

static bool parts_add(struct local_source *l, const char *name)
{
    const struct source_conf *c = l->source.conf;
    struct topic *t = topic_find(l->b, slice_str(name));
    struct errinfo info = {0};
    enum err e = ERR_OK;
    int32_t i;

    if (!t)
        return say(errinfo_set(&info, ERR_TOPIC_NOT_FOUND, "there is no topic '%s'", name), &info);
    for (i = 0; i < topic_partitions(t) && !e; i++)
        if (c->partition < 0 || c->partition == i)
            e = place(l, source_part_add(&l->source, slice_str(name), i), topic_partition(t, i),
                      &info);
    if (!e && c->partition >= topic_partitions(t))
        e = errinfo_set(&info, ERR_PARTITION_NOT_FOUND, "%s has partitions 0 to %d", name,
                        (int)topic_partitions(t) - 1);
    topic_unref(&t);
    return say(e, &info);
}

/* One read of a partition. */
static bool part_poll(struct local_source *l, struct part *part, struct partition *p,
                      source_batches_fn fn, void *arg, bool *more)
{
    struct errinfo info = {0};
    size_t n = 0;
    unsigned i;
    enum err e = plog_read(partition_log(p), part->next, READ_BYTES, &l->read, &info);

    if (e == ERR_OFFSET_RANGE) {
        int64_t to = part->next < l->read.start_offset ? l->read.start_offset : part->end;

        fail("%s [%d]: offset %lld is not there; going on at %lld", part->topic, (int)part->index,
             (long long)part->next, (long long)to);
        part->next = to;
        return true;
    }
    if (!say(e, &info))
        return false;
    if (l->read.n == 0)
        part->next = part->end;
    else if (l->source.conf->committed)
        n = partition_aborted(p, part->next, l->read.batch[l->read.n - 1].last_offset + 1,
                              l->aborted, ABORTED_MAX);
    buf_clear(&l->batches);
    for (i = 0; i < l->read.n && !e; i++)
        e = buf_append_slice(&l->batches, l->read.batch[i].data);
    plog_read_release(&l->read);
    if (!e && l->batches.len)
        *more = fn(arg, part, buf_slice(&l->batches), l->aborted, n);
    return say(e, &info);
}

static bool poll_source(struct source *s, source_batches_fn fn, void *arg)
{
    struct local_source *l = (struct local_source *)s;
    bool more = true, ok = true;
    unsigned i;

    for (i = 0; i < s->parts_n && more && ok; i++) {
        struct topic *t;

        if (part_at_end(&s->parts[i]))
            continue;
        t = topic_find(l->b, slice_str(s->parts[i].topic));
        ok = part_poll(l, &s->parts[i], topic_partition(t, s->parts[i].index), fn, arg, &more);
        topic_unref(&t);
    }
    return ok;
}

static bool commit(struct source *s)
{
    struct local_source *l = (struct local_source *)s;
    struct errinfo info = {0};
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; i < s->parts_n && s->conf->group && !e; i++) {
        struct part *p = &s->parts[i];
        struct topic *t;

        if (p->next < 0 || p->next == p->committed)
            continue;
        t = topic_find(l->b, slice_str(p->topic));
        e = group_commit_wait(l->b, slice_str(s->conf->group), topic_partition(t, p->index),
                              p->next, SLICE_LIT(""), &info);
        p->committed = e ? p->committed : p->next;
        topic_unref(&t);
    }
    return say(e, &info);
}

static void close_source(struct source *s)
{
    struct local_source *l = (struct local_source *)s;

    while (s->parts_n)
        source_part_remove(s, s->parts_n - 1);
    free(s->parts);
    buf_fini(&l->batches);
    broker_close(&l->b);
    free(l);
}

static const struct source_ops ops = {poll_source, commit, close_source};

struct source *local_source_open(const struct source_conf *conf)
{
    struct local_source *l = xcalloc(1, sizeof *l);
    unsigned i;
    bool ok = true;

    l->source.ops = &ops;
    l->source.conf = conf;
    l->source.settled = true;
    buf_init(&l->batches, READ_MAX);
    if (!(l->b = local_open(conf->a, conf->group == NULL))) {
        free(l);
        return NULL;
    }
    for (i = 0; i < conf->topics_n && ok; i++)
        ok = parts_add(l, conf->topics[i]);
    if (ok)
        return &l->source;
    close_source(&l->source);
    return NULL;
}
