/* Retention of committed offsets, and of groups that have none left. Kafka's rules, with
 * offsets.retention.minutes as the time:
 *   - a classic group that had members, and has none: all its offsets, that long after the last left
 *   - a stable classic group of consumers: offsets of topics that nobody in it subscribes to, that
 *     long after their commit
 *   - a consumer group: offsets of topics that nobody in it subscribes to, that long after their
 *     commit
 * Unlike Kafka, a group that never had members keeps its offsets: they are the places of programs
 * that do without membership, and nothing else would tell that they are still wanted
 * (docs/why/groups.md). A group without members and offsets goes at the next look.
 *
 * A share group stays while it has a cursor, as Kafka's do.
 *
 * An offset is deleted only if it is still the one that was looked at, so a commit that comes
 * meanwhile wins. The tick's thread; locks as in coordinator_int.h. */
#include "broker/consumer_int.h"
#include "broker/coordinator_int.h"
#include "broker/streams_int.h"

#define OFFSETS_AT_ONCE 64u

/* How the offsets of a group expire. */
struct rule {
    bool none;        /* they do not */
    bool by_commit;   /* since their own commit; else since `since_ms` */
    int64_t since_ms; /* wall clock */
};

static struct rule rule_of(const struct turn *t, const struct group_durable *d)
{
    const struct live_group *g = t->g;
    int64_t since = d->empty_ms ? d->empty_ms : t->c->opened_ms;

    if (d->protocol_type[0] == 0 && !g)
        return (struct rule){.none = true};
    if (g ? g->kind != GROUP_CLASSIC : d->kind != GROUP_CLASSIC)
        return (struct rule){.by_commit = true};
    if (!g || g->classic.state == GROUP_EMPTY)
        return (struct rule){.since_ms = since};
    return (struct rule){.none = g->classic.state != GROUP_STABLE || !classic_is_consumer_type(g),
                         .by_commit = true};
}

/* Whether a member of the group subscribes to the topic of this id. A topic that is gone is swept
 * by groups_sweep. */
static bool subscribed(struct turn *t, uint32_t topic)
{
    struct topic *tp;
    bool yes;

    if (!t->g || t->g->members.n == 0)
        return false;
    tp = topic_find_id(t->b, topic);
    if (!tp)
        return true;
    yes = t->g->kind == GROUP_CLASSIC   ? classic_subscribes(t->g, slice_str(topic_name(tp)))
          : t->g->kind == GROUP_STREAMS ? streams_reads(t->g, slice_str(topic_name(tp)))
                                        : consumer_subscribes(t->g, topic);
    topic_unref(&tp);
    return yes;
}

/* Picks what has expired of the next offsets after *topic, *partition, which go on; false: these
 * were the last. */
static bool expired_pick(struct turn *t, struct slice name, const struct rule *rule, int64_t before,
                         uint32_t *topic, int64_t *partition, struct group_offset_at *out,
                         size_t *out_n)
{
    struct group_offset_at at[OFFSETS_AT_ONCE];
    size_t n = group_offsets_get(t->b, name, *topic, *partition, at, OFFSETS_AT_ONCE), i;

    *out_n = 0;
    for (i = 0; i < n; i++) {
        int64_t since = rule->by_commit ? at[i].committed_ms : rule->since_ms;

        if (since <= before && !subscribed(t, at[i].topic))
            out[(*out_n)++] = at[i];
    }
    if (n < OFFSETS_AT_ONCE)
        return false;
    *topic = at[n - 1].topic;
    *partition = at[n - 1].partition;
    return true;
}

static enum err expire_offsets(struct broker *b, const struct group_durable *d, int64_t before)
{
    struct slice name = slice_of(d->name, d->name_len);
    struct group_offset_at out[OFFSETS_AT_ONCE];
    int64_t partition = -1;
    uint32_t topic = 0;
    bool more = true;
    enum err e = ERR_OK;

    while (more && !e) {
        struct rule rule;
        struct turn t;
        size_t n = 0, i;

        turn_begin(&t, b, name, 0);
        rule = rule_of(&t, d);
        more = !rule.none && expired_pick(&t, name, &rule, before, &topic, &partition, out, &n);
        turn_end(&t);
        for (i = 0; i < n && !e; i++)
            e = group_offset_drop(b, name, &out[i], NULL, NULL, NULL);
    }
    return e;
}

/* Nobody is in it, and it has nothing. */
static void expire_group(struct broker *b, const struct group_durable *d, int64_t wall_ms,
                         int64_t check_ms)
{
    struct slice name = slice_of(d->name, d->name_len);
    int64_t since = d->empty_ms ? d->empty_ms : b->coordinator->opened_ms;
    struct turn t;
    bool idle;

    turn_begin(&t, b, name, 0);
    idle = !t.g;
    turn_end(&t);
    if (idle && since <= wall_ms - check_ms)
        group_delete(b, name, NULL, NULL, NULL);
}

void groups_retention(struct broker *b, int64_t wall_ms)
{
    struct group_durable d = {.name_len = 0};
    struct group_conf conf;
    int64_t before;
    enum err e = ERR_OK;

    groups_conf_get(b, &conf);
    before = wall_ms - (int64_t)conf.offsets_retention_minutes * 60000;
    while (!e && group_durable_next(b, slice_of(d.name, d.name_len), &d)) {
        if (d.offsets)
            e = expire_offsets(b, &d, before);
        else if (d.kind != GROUP_SHARE || !cursors_of_group(b, slice_of(d.name, d.name_len)))
            expire_group(b, &d, wall_ms, conf.offsets_retention_check_ms);
    }
}
