/* Prometheus text of groups: how many by kind and state, their members, generations that began, and
 * how far the groups are behind. The last is for the first groups in order of name only, so that a
 * broker with very many of them is still scraped at once. Any thread; no lock is held while text is
 * written. */
#include <inttypes.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "broker/consumer_int.h"
#include "broker/coordinator_int.h"
#include "broker/group.h"

#define KINDS  (GROUP_KIND_MAX + 1)
#define STATES (GROUP_DEAD + 1)
#define PAGE   256u

struct counts {
    uint64_t groups[KINDS][STATES], members[KINDS], generations[KINDS];
};

/* States that a kind of group can be in: they have a line even if no group is. */
static const uint8_t states_of[KINDS] = {
    [GROUP_CLASSIC] = 1u << GROUP_EMPTY | 1u << GROUP_PREPARING_REBALANCE |
                      1u << GROUP_COMPLETING_REBALANCE | 1u << GROUP_STABLE,
    [GROUP_CONSUMER] =
        1u << GROUP_EMPTY | 1u << GROUP_ASSIGNING | 1u << GROUP_RECONCILING | 1u << GROUP_STABLE,
    [GROUP_SHARE] = 1u << GROUP_EMPTY | 1u << GROUP_STABLE,
    [GROUP_STREAMS] = 1u << GROUP_EMPTY | 1u << GROUP_NOT_READY | 1u << GROUP_ASSIGNING |
                      1u << GROUP_RECONCILING | 1u << GROUP_STABLE,
};

/* Groups that have members by what the coordinator knows, all others by what is durable. */
static void count(struct broker *b, struct counts *c)
{
    struct coordinator *co = b->coordinator;
    unsigned i, k;
    void *v;

    for (k = 0; k < KINDS; k++)
        group_kind_counts(b, (uint8_t)k, &c->groups[k][GROUP_EMPTY], &c->generations[k]);
    for (i = 0; i < GROUP_SHARDS; i++) {
        struct shard *sh = &co->shard[i];
        uint32_t at = 0;

        io_mutex_lock(&sh->lock);
        while (map_next(&sh->groups, &at, NULL, &v)) {
            const struct live_group *g = v;
            enum group_state s = live_state(g);
            int was = group_kind_get(b, live_name(g));

            if (was >= 0 && c->groups[was][GROUP_EMPTY])
                c->groups[was][GROUP_EMPTY]--;
            c->groups[g->kind][s]++;
            c->members[g->kind] += g->members.n;
        }
        io_mutex_unlock(&sh->lock);
    }
}

static enum err put_head(struct buf *o, const char *name, const char *type, const char *help)
{
    return buf_printf(o, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static enum err put_states(struct buf *o, const struct counts *c)
{
    enum err e = put_head(o, "weir_groups", "gauge", "Groups.");
    unsigned k, s;

    for (k = 0; k < KINDS; k++)
        for (s = 0; s < STATES && !e; s++)
            if (c->groups[k][s] || states_of[k] >> s & 1)
                e = buf_printf(o, "weir_groups{kind=\"%s\",state=\"%s\"} %" PRIu64 "\n",
                               group_kind_text((enum group_kind)k),
                               group_state_text((enum group_state)s), c->groups[k][s]);
    return e;
}

static enum err put_kinds(struct buf *o, const char *name, const char *type, const char *help,
                          const uint64_t n[KINDS])
{
    enum err e = put_head(o, name, type, help);
    unsigned k;

    for (k = 0; k < KINDS && !e; k++)
        e = buf_printf(o, "%s{kind=\"%s\"} %" PRIu64 "\n", name,
                       group_kind_text((enum group_kind)k), n[k]);
    return e;
}

/* Records behind the offset, that of a partition which is there. */
static bool lag_of(struct broker *b, const struct group_offset_at *at, uint64_t *lag)
{
    struct topic *t = topic_find_id(b, at->topic);
    struct partition *p = t ? topic_partition(t, (int32_t)at->partition) : NULL;
    struct plog_info now;

    if (p) {
        plog_info_get(partition_log(p), &now);
        *lag += now.end_offset > at->offset ? (uint64_t)(now.end_offset - at->offset) : 0;
    }
    topic_unref(&t);
    return p != NULL;
}

/* False: it has no offset, or *left, those that may be looked at, do not suffice for all. */
static bool group_lag(struct broker *b, struct slice name, size_t *left, uint64_t *lag)
{
    struct group_offset_at at[PAGE];
    int64_t partition = -1;
    uint32_t topic = 0;
    bool some = false;
    size_t i, n;

    *lag = 0;
    do {
        n = group_offsets_get(b, name, topic, partition, at, PAGE);
        if (n > *left)
            return false;
        *left -= n;
        for (i = 0; i < n; i++)
            some = lag_of(b, &at[i], lag) || some;
        if (n) {
            topic = at[n - 1].topic;
            partition = at[n - 1].partition;
        }
    } while (n == PAGE);
    return some;
}

/* A label's value, with what stands for itself only behind a backslash. */
static enum err put_label(struct buf *o, struct slice s)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; i < s.len && !e; i++)
        if (s.ptr[i] == '\n')
            e = buf_append_str(o, "\\n");
        else if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            e = buf_printf(o, "\\%c", s.ptr[i]);
        else
            e = buf_append_u8(o, s.ptr[i]);
    return e;
}

static enum err put_lags(struct broker *b, struct buf *o)
{
    enum err e = put_head(o, "weir_group_lag_records", "gauge",
                          "Records behind the committed offsets, of the first groups by name.");
    struct group_durable d = {.name_len = 0};
    size_t left = LIMIT_METRIC_OFFSETS;
    unsigned n = 0;
    uint64_t lag;

    while (!e && n < LIMIT_METRIC_GROUPS && left &&
           group_durable_next(b, slice_of(d.name, d.name_len), &d)) {
        struct slice name = slice_of(d.name, d.name_len);

        n++;
        if (!d.offsets || !utf8_valid(name) || !group_lag(b, name, &left, &lag))
            continue;
        e = buf_append_str(o, "weir_group_lag_records{group=\"");
        e = e ? e : put_label(o, name);
        e = e ? e : buf_printf(o, "\"} %" PRIu64 "\n", lag);
    }
    return e;
}

enum err group_metrics(struct broker *b, struct buf *o)
{
    struct counts c = {0};
    enum err e;

    count(b, &c);
    e = put_states(o, &c);
    e = e ? e : put_kinds(o, "weir_group_members", "gauge", "Members of groups, now.", c.members);
    e = e ? e
          : put_kinds(o, "weir_group_rebalances_total", "counter",
                      "Generations, or group epochs, that began.", c.generations);
    return e ? e : put_lags(b, o);
}
