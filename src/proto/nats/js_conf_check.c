/* What configurations of streams and consumers may say. See js_conf.h; the order of the checks is
 * nats-server's, as clients see which one is said first. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/subject.h"
#include "proto/nats/js_conf.h"

#define MS_NS               1000000ll
#define S_NS                1000000000ll
#define DESCRIPTION_MAX     4096u
#define REPLICAS_MAX        5
#define DUPLICATES_NS       (120 * S_NS)
#define DUPLICATES_NS_LEAST (100 * MS_NS)
#define AGE_NS_LEAST        (100 * MS_NS)
#define HEARTBEAT_NS_LEAST  (100 * MS_NS)
#define FLOW_HEARTBEAT_NS   S_NS /* of consumers that are acked by flow control */
#define ACK_WAIT_NS         (30 * S_NS)
#define ACK_PENDING         1000
#define WAITING             512
#define PINNED_TTL_NS       (120 * S_NS)
#define PRIORITY_GROUP_MAX  16u

static size_t metadata_bytes(json_t *o)
{
    const char *key;
    json_t *v;
    size_t n = 0;

    json_object_foreach(o, key, v) n += strlen(key) + json_string_length(v);
    return n;
}

static struct slice text(const char *s)
{
    return slice_str(s ? s : "");
}

static bool bad_stream(struct js_fault *f, const char *why)
{
    return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s", why);
}

/* What is below the least (and, where none is meant by 0, 0) becomes it. */
static bool mend(int64_t *v, int64_t least, bool zero, bool pedantic, const char *wrong,
                 struct js_fault *f)
{
    if (*v < least && pedantic)
        return js_fault_set(f, JSE_PEDANTIC, "%s", wrong);
    if (*v < least || (zero && *v == 0))
        *v = least;
    return true;
}

/* ---- streams ---- */

static bool stream_names(const struct jstream_conf *c, struct js_fault *f)
{
    if (!jname_valid(text(c->name)))
        return bad_stream(f,
                          "stream name is required and can not contain '.', '*', '>', '\\', '/'");
    if (strlen(c->name) > JCONF_NAME_MAX)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG,
                            "stream name is too long, maximum allowed is %u", JCONF_NAME_MAX);
    if (text(c->description).len > DESCRIPTION_MAX)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG,
                            "stream description is too long, maximum allowed is %u",
                            DESCRIPTION_MAX);
    if (metadata_bytes(c->metadata) > JCONF_METADATA_MAX)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG,
                            "stream metadata exceeds maximum size of %u bytes", JCONF_METADATA_MAX);
    if (c->replicas > REPLICAS_MAX)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "maximum replicas is %d", REPLICAS_MAX);
    if (c->replicas < 0)
        return js_fault_set(f, JSE_REPLICAS_COUNT_CANNOT_BE_NEGATIVE, NULL);
    if (c->replicas > 1)
        return js_fault_set(f, JSE_STREAM_REPLICAS_NOT_SUPPORTED, NULL);
    return true;
}

static bool stream_limits(struct jstream_conf *c, bool pedantic, struct js_fault *f)
{
    if (!mend(&c->max_msgs, -1, true, pedantic, "max_msgs must be set to -1", f) ||
        !mend(&c->max_msgs_per_subject, -1, true, pedantic,
              "max_msgs_per_subject must be set to -1", f) ||
        !mend(&c->max_bytes, -1, true, pedantic, "max_bytes must be set to -1", f) ||
        !mend(&c->max_msg_size, -1, true, pedantic, "max_msg_size must be set to -1", f) ||
        !mend(&c->max_consumers, -1, true, pedantic, "max_consumers must be set to -1", f))
        return false;
    if (c->max_age_ns < 0)
        return bad_stream(f, "max age can not be negative");
    if (c->max_age_ns && c->max_age_ns < AGE_NS_LEAST)
        return bad_stream(f, "max age needs to be >= 100ms");
    return true;
}

static bool stream_duplicates(struct jstream_conf *c, bool pedantic, struct js_fault *f)
{
    if (!c->duplicates_ns && !c->mirror && !c->sources.n) {
        c->duplicates_ns = DUPLICATES_NS;
        if (c->max_age_ns && c->max_age_ns < DUPLICATES_NS) {
            if (pedantic)
                return js_fault_set(f, JSE_PEDANTIC,
                                    "duplicate window cannot be bigger than max age");
            c->duplicates_ns = c->max_age_ns;
        }
    }
    if (c->duplicates_ns < 0)
        return bad_stream(f, "duplicates window can not be negative");
    if (c->max_age_ns && c->duplicates_ns > c->max_age_ns)
        return bad_stream(f, "duplicates window can not be larger then max age");
    if (c->duplicates_ns && c->duplicates_ns < DUPLICATES_NS_LEAST)
        return bad_stream(f, "duplicates window needs to be >= 100ms");
    return true;
}

static bool stream_counter(const struct jstream_conf *c, struct js_fault *f)
{
    if (!c->allow_counter)
        return true;
    if (c->discard == JDISCARD_NEW)
        return bad_stream(f, "counter stream cannot use discard new");
    if (c->allow_ttl)
        return bad_stream(f, "counter stream cannot use message TTLs");
    if (c->allow_schedules)
        return bad_stream(f, "counter stream cannot use message schedules");
    if (c->retention != JRETENTION_LIMITS)
        return bad_stream(f, "counter stream can only use limits retention");
    return true;
}

static bool stream_discard(const struct jstream_conf *c, struct js_fault *f)
{
    if (!c->discard_new_per)
        return true;
    if (c->discard != JDISCARD_NEW)
        return bad_stream(f, "discard new per subject requires discard new policy to be set");
    if (c->max_msgs_per_subject <= 0)
        return bad_stream(f, "discard new per subject requires max msgs per subject > 0");
    return true;
}

/* Some features need others. */
static bool stream_needs(struct jstream_conf *c, bool pedantic, struct js_fault *f)
{
    if (c->marker_ttl_ns < 0)
        return bad_stream(f, "subject delete marker TTL must not be negative");
    if (c->marker_ttl_ns && c->marker_ttl_ns < S_NS)
        return bad_stream(f, "subject delete marker TTL must be at least 1 second");
    if (c->marker_ttl_ns && !c->allow_ttl) {
        if (pedantic)
            return bad_stream(f,
                              "subject delete marker cannot be set if message TTLs are disabled");
        c->allow_ttl = true;
    }
    if (c->allow_schedules && c->discard == JDISCARD_NEW)
        return bad_stream(f, "message scheduling cannot use discard new");
    if ((c->marker_ttl_ns || c->allow_schedules) && !c->allow_rollup) {
        if (pedantic)
            return bad_stream(
                f, c->marker_ttl_ns ? "subject delete marker cannot be set if roll-ups are disabled"
                                    : "message scheduling cannot be set if roll-ups are disabled");
        c->allow_rollup = true;
        c->deny_purge = false;
    }
    if (c->persist == JPERSIST_ASYNC && c->storage != JSTORAGE_FILE)
        return bad_stream(f, "async persist mode is only supported on file storage");
    if (c->persist == JPERSIST_ASYNC && c->allow_atomic)
        return bad_stream(f, "async persist mode is not supported with atomic batch publish");
    return true;
}

/* Faults of a mirror, and the same of a source. */
struct source_faults {
    enum js_error name, filters, filter, overlap, consumer;
};

static bool source_transforms(const struct jsource *s, const struct source_faults *e,
                              struct js_fault *f)
{
    const struct jtransform *t = s->transforms.v;
    unsigned i, j;

    if (s->filter && s->transforms.n)
        return js_fault_set(f, e->filters, NULL);
    for (i = 0; i < s->transforms.n; i++) {
        if (t[i].src && !subject_valid(slice_str(t[i].src)))
            return js_fault_set(f, e->filter, "invalid subject %.100s", t[i].src);
        for (j = 0; j < i; j++)
            if (!t[i].src || !t[j].src || subjects_meet(slice_str(t[i].src), slice_str(t[j].src)))
                return js_fault_set(f, e->overlap, NULL);
    }
    return true;
}

static bool source_check(const struct jsource *s, const struct source_faults *e, struct js_fault *f)
{
    const struct jsource_consumer *c = s->consumer;

    if (!jname_valid(text(s->name)))
        return js_fault_set(f, e->name, NULL);
    if (c && (!jname_valid(text(c->name)) || !subject_literal(text(c->deliver_subject)) ||
              s->start_seq || s->start_time_ns != JTIME_NONE || s->filter))
        return js_fault_set(f, e->consumer, NULL);
    return source_transforms(s, e, f);
}

static bool stream_mirror(const struct jstream_conf *c, struct js_fault *f)
{
    static const struct source_faults faults = {
        JSE_MIRROR_INVALID_STREAM_NAME, JSE_MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED,
        JSE_MIRROR_INVALID_SUBJECT_FILTER, JSE_MIRROR_OVERLAPPING_SUBJECT_FILTERS,
        JSE_MIRROR_DURABLE_CONSUMER_CFG_INVALID};
    enum js_error e = JSE_NONE;

    if (!c->mirror)
        return !c->mirror_direct ||
               bad_stream(f, "stream has no mirror but does have mirror direct");
    if (c->first_seq)
        e = JSE_MIRROR_WITH_FIRST_SEQ;
    else if (c->subjects.n)
        e = JSE_MIRROR_WITH_SUBJECTS;
    else if (c->sources.n)
        e = JSE_MIRROR_WITH_SOURCES;
    else if (c->allow_counter)
        e = JSE_MIRROR_WITH_COUNTERS;
    else if (c->allow_atomic)
        e = JSE_MIRROR_WITH_ATOMIC_PUBLISH;
    else if (c->allow_batched)
        e = JSE_MIRROR_WITH_BATCH_PUBLISH;
    else if (c->allow_schedules)
        e = JSE_MIRROR_WITH_MSG_SCHEDULES;
    if (e)
        return js_fault_set(f, e, NULL);
    if (c->marker_ttl_ns)
        return bad_stream(f, "subject delete markers forbidden on mirrors");
    if (c->mirror->start_seq && c->mirror->start_time_ns != JTIME_NONE)
        return js_fault_set(f, JSE_MIRROR_WITH_START_SEQ_AND_TIME, NULL);
    return source_check(c->mirror, &faults, f);
}

static bool same_source(const struct jsource *a, const struct jsource *b)
{
    return slice_eq(text(a->name), text(b->name)) && slice_eq(text(a->filter), text(b->filter)) &&
           !a->transforms.n && !b->transforms.n &&
           slice_eq(text(a->external ? a->external->api : NULL),
                    text(b->external ? b->external->api : NULL));
}

static bool stream_sources(const struct jstream_conf *c, struct js_fault *f)
{
    static const struct source_faults faults = {
        JSE_SOURCE_INVALID_STREAM_NAME, JSE_SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED,
        JSE_SOURCE_INVALID_SUBJECT_FILTER, JSE_SOURCE_OVERLAPPING_SUBJECT_FILTERS,
        JSE_SOURCE_DURABLE_CONSUMER_CFG_INVALID};
    const struct jsource *s = c->sources.v;
    unsigned i, j;

    if (c->sources.n && c->allow_schedules)
        return js_fault_set(f, JSE_SOURCE_WITH_MSG_SCHEDULES, NULL);
    for (i = 0; i < c->sources.n; i++) {
        if (!source_check(&s[i], &faults, f))
            return false;
        for (j = 0; j < i; j++)
            if (same_source(&s[i], &s[j]))
                return js_fault_set(f, JSE_SOURCE_DUPLICATE_DETECTED, NULL);
    }
    return true;
}

static bool stream_subject(const struct jstream_conf *c, struct slice s, struct js_fault *f)
{
    if (!subject_valid(s))
        return bad_stream(f, "invalid subject");
    if (c->no_ack)
        return true;
    if (slice_eq_str(s, ">"))
        return bad_stream(f, "capturing all subjects requires no-ack to be true");
    if ((subjects_meet(s, SLICE_LIT("$JS.>")) || subjects_meet(s, SLICE_LIT("$JSC.>")) ||
         subjects_meet(s, SLICE_LIT("$NRG.>"))) &&
        !subject_covers(SLICE_LIT("$JS.EVENT.>"), s))
        return bad_stream(f, "subjects that overlap with jetstream api require no-ack to be true");
    if (subjects_meet(s, SLICE_LIT("$SYS.>")) && !subject_covers(SLICE_LIT("$SYS.ACCOUNT.>"), s))
        return bad_stream(f, "subjects that overlap with system api require no-ack to be true");
    return true;
}

static bool stream_subjects(struct jstream_conf *c, struct js_fault *f)
{
    struct slice s, t;
    unsigned i, j;

    if (!c->subjects.n && !c->mirror && !c->sources.n) {
        c->subjects.v = xcalloc(1, sizeof(char *));
        ((char **)c->subjects.v)[0] = xstrdup(c->name);
        c->subjects.n = 1;
    }
    for (i = 0; i < c->subjects.n; i++) {
        s = jlist_text(&c->subjects, i);
        if (!stream_subject(c, s, f))
            return false;
        for (j = 0; j < i; j++) {
            t = jlist_text(&c->subjects, j);
            if (slice_eq(s, t))
                return bad_stream(f, "duplicate subjects detected");
            if (subjects_meet(s, t))
                return js_fault_set(f, JSE_STREAM_INVALID_CONFIG,
                                    "subject \"%.80s\" overlaps with \"%.80s\"",
                                    (const char *)t.ptr, (const char *)s.ptr);
        }
    }
    return true;
}

static bool stream_republish(struct jstream_conf *c, bool pedantic, struct js_fault *f)
{
    struct jrepublish *r = c->republish;
    unsigned i;

    if (!r)
        return true;
    if (!r->src) {
        if (pedantic)
            return js_fault_set(f, JSE_PEDANTIC, "republish source can not be empty");
        r->src = xstrdup(">");
    }
    if (!subject_valid(slice_str(r->src)) || !subject_valid(text(r->dest)))
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG,
                            "stream configuration for republish with transform from '%.80s' to "
                            "'%.80s' not valid",
                            r->src, r->dest ? r->dest : "");
    for (i = 0; i < c->subjects.n; i++)
        if (subjects_meet(slice_str(r->dest), jlist_text(&c->subjects, i)))
            return bad_stream(f, "stream configuration for republish destination forms a cycle");
    return true;
}

bool jstream_conf_check(struct jstream_conf *c, bool pedantic, struct js_fault *f)
{
    if (!stream_names(c, f))
        return false;
    c->replicas = 1;
    if (!stream_limits(c, pedantic, f) || !stream_duplicates(c, pedantic, f))
        return false;
    if (c->deny_purge && c->allow_rollup)
        return bad_stream(f, "roll-ups require the purge permission");
    if (!stream_counter(c, f) || !stream_discard(c, f) || !stream_needs(c, pedantic, f) ||
        !stream_mirror(c, f) || !stream_sources(c, f) || !stream_subjects(c, f))
        return false;
    if (c->transform && c->transform->src && !subject_valid(slice_str(c->transform->src)))
        return js_fault_set(f, JSE_STREAM_TRANSFORM_INVALID_SOURCE, "invalid subject %.100s",
                            c->transform->src);
    if (!stream_republish(c, pedantic, f))
        return false;
    if (c->placement && c->placement->preferred)
        return bad_stream(f, "preferred server not permitted in placement");
    return true;
}

static const char *stream_kept(const struct jstream_conf *c, const struct jstream_conf *old)
{
    if (strcmp(c->name, old->name) != 0)
        return "stream configuration name must match original";
    if (c->storage != old->storage)
        return "stream configuration update can not change storage type";
    if (c->retention != old->retention &&
        (c->retention == JRETENTION_WORKQUEUE || old->retention == JRETENTION_WORKQUEUE))
        return "stream configuration update can not change retention policy to/from workqueue";
    if (old->sealed && !c->sealed)
        return "stream configuration update can not unseal a sealed stream";
    if (old->deny_delete && !c->deny_delete)
        return "stream configuration update can not cancel deny message deletes";
    if (old->deny_purge && !c->deny_purge)
        return "stream configuration update can not cancel deny purge";
    if (old->allow_ttl && !c->allow_ttl)
        return "message TTL status can not be disabled";
    if (old->allow_counter != c->allow_counter)
        return "stream configuration update can not change message counter setting";
    if (old->allow_schedules && !c->allow_schedules)
        return "message schedules can not be disabled";
    if (old->persist != c->persist)
        return "stream configuration update can not change persist mode";
    return NULL;
}

static bool same_mirror(const struct jstream_conf *a, const struct jstream_conf *b)
{
    json_t *x = jstream_conf_write(a), *y = jstream_conf_write(b);
    bool same = b->mirror && json_equal(json_object_get(x, "mirror"), json_object_get(y, "mirror"));

    json_decref(x);
    json_decref(y);
    return same;
}

bool jstream_conf_update_check(struct jstream_conf *c, const struct jstream_conf *old,
                               struct js_fault *f)
{
    const char *kept = stream_kept(c, old);

    if (kept)
        return bad_stream(f, kept);
    if (c->mirror && !same_mirror(c, old))
        return js_fault_set(f, JSE_STREAM_MIRROR_NOT_UPDATABLE, NULL);
    if (c->sealed) {
        c->max_age_ns = 0;
        c->discard = JDISCARD_NEW;
        c->deny_delete = c->deny_purge = true;
        c->allow_rollup = false;
    }
    return true;
}

/* ---- consumers ---- */

static bool consumer_numbers(struct jconsumer_conf *c, bool pedantic, struct js_fault *f)
{
    return mend(&c->max_deliver, -1, true, pedantic, "max_deliver must be set to -1", f) &&
           mend(&c->max_waiting, 0, false, pedantic, "max_waiting must not be negative", f) &&
           mend(&c->max_ack_pending, -1, false, pedantic, "max_ack_pending must be set to -1", f) &&
           mend(&c->max_batch, 0, false, pedantic, "max_batch must not be negative", f) &&
           mend(&c->max_expires_ns, 0, false, pedantic, "max_expires must not be negative", f) &&
           mend(&c->max_bytes, 0, false, pedantic, "max_bytes must not be negative", f) &&
           mend(&c->heartbeat_ns, 0, false, pedantic, "idle_heartbeat must not be negative", f) &&
           mend(&c->inactive_ns, 0, false, pedantic, "inactive_threshold must not be negative",
                f) &&
           mend(&c->pinned_ttl_ns, 0, false, pedantic, "priority_timeout must not be negative", f);
}

static bool consumer_defaults(struct jconsumer_conf *c, const struct jstream_conf *s, bool pedantic,
                              struct js_fault *f)
{
    if (!consumer_numbers(c, pedantic, f))
        return false;
    if (!c->deliver_subject && !c->max_waiting)
        c->max_waiting = WAITING;
    if (!c->ack_wait_ns && (c->ack == JACK_EXPLICIT || c->ack == JACK_ALL))
        c->ack_wait_ns = ACK_WAIT_NS;
    if (c->backoff_ns.n) {
        if (pedantic && c->ack_wait_ns != jlist_ns(&c->backoff_ns, 0))
            return js_fault_set(f, JSE_PEDANTIC, "first backoff value has to equal batch AckWait");
        c->ack_wait_ns = jlist_ns(&c->backoff_ns, 0);
    }
    if (pedantic && !c->max_ack_pending && s->limits.max_ack_pending > 0)
        return js_fault_set(f, JSE_PEDANTIC,
                            "max_ack_pending must be set if it's configured in stream limits");
    if (!c->max_ack_pending)
        c->max_ack_pending = s->limits.max_ack_pending;
    if (pedantic && !c->inactive_ns && s->limits.inactive_ns > 0)
        return js_fault_set(f, JSE_PEDANTIC,
                            "inactive_threshold must be set if it's configured in stream limits");
    if (!c->inactive_ns)
        c->inactive_ns = s->limits.inactive_ns;
    if (!c->max_ack_pending && c->ack != JACK_NONE)
        c->max_ack_pending = ACK_PENDING;
    if (c->priority == JPRIORITY_PINNED && !c->pinned_ttl_ns)
        c->pinned_ttl_ns = PINNED_TTL_NS;
    if (c->ack == JACK_FLOW_CONTROL && !pedantic) {
        c->flow_control = true;
        c->heartbeat_ns = FLOW_HEARTBEAT_NS;
    }
    return true;
}

static bool consumer_names(const struct jconsumer_conf *c, const struct jstream_conf *s,
                           struct js_fault *f)
{
    if (c->name && !jname_valid(slice_str(c->name)))
        return bad_stream(f, "consumer name can not contain '.', '*', '>', '\\', '/'");
    if (c->durable && !jname_valid(slice_str(c->durable)))
        return bad_stream(f, "consumer durable name can not contain '.', '*', '>', '\\', '/'");
    if (text(c->name).len > JCONF_NAME_MAX || text(c->durable).len > JCONF_NAME_MAX)
        return js_fault_set(f, JSE_CONSUMER_NAME_TOO_LONG, "%u", JCONF_NAME_MAX);
    if (c->replicas > s->replicas)
        return js_fault_set(f, JSE_CONSUMER_REPLICAS_EXCEEDS_STREAM, NULL);
    if (c->replicas < 0)
        return js_fault_set(f, JSE_REPLICAS_COUNT_CANNOT_BE_NEGATIVE, NULL);
    return true;
}

static bool consumer_acks(const struct jconsumer_conf *c, struct js_fault *f)
{
    enum js_error e = JSE_NONE;
    unsigned i;

    for (i = 0; i < c->backoff_ns.n; i++)
        if (jlist_ns(&c->backoff_ns, i) < 0)
            return js_fault_set(f, JSE_CONSUMER_BACK_OFF_NEGATIVE, NULL);
    if (c->ack_wait_ns < 0)
        return js_fault_set(f, JSE_CONSUMER_ACK_WAIT_NEGATIVE, NULL);
    if (c->ack == JACK_FLOW_CONTROL) {
        if (!c->deliver_subject)
            e = JSE_CONSUMER_ACK_FC_REQUIRES_PUSH;
        else if (!c->flow_control)
            e = JSE_CONSUMER_ACK_FC_REQUIRES_FC;
        else if (c->heartbeat_ns != FLOW_HEARTBEAT_NS)
            return bad_stream(f, "flow control ack policy heartbeat needs to be 1s");
        else if (c->max_ack_pending <= 0)
            e = JSE_CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING;
        else if (c->ack_wait_ns || c->backoff_ns.n)
            e = JSE_CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT;
        else if (c->max_deliver > 0)
            e = JSE_CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER;
    }
    if (!e && c->backoff_ns.n && c->max_deliver != -1 && c->backoff_ns.n > c->max_deliver)
        e = JSE_CONSUMER_MAX_DELIVER_BACKOFF;
    return !e || js_fault_set(f, e, NULL);
}

static bool consumer_push(const struct jconsumer_conf *c, const struct jstream_conf *s,
                          struct js_fault *f)
{
    struct slice to = slice_str(c->deliver_subject);
    enum js_error e = JSE_NONE;
    unsigned i;

    if (subject_has_wildcard(to))
        return js_fault_set(f, JSE_CONSUMER_DELIVER_TO_WILDCARDS, NULL);
    if (!subject_valid(to))
        return js_fault_set(f, JSE_CONSUMER_INVALID_DELIVER_SUBJECT, NULL);
    for (i = 0; i < s->subjects.n; i++)
        if (subject_match(jlist_text(&s->subjects, i), to))
            return js_fault_set(f, JSE_CONSUMER_DELIVER_CYCLE, NULL);
    if (c->max_waiting)
        e = JSE_CONSUMER_PUSH_MAX_WAITING;
    else if (c->max_ack_pending > 0 && c->ack == JACK_NONE)
        e = JSE_CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED;
    else if (c->heartbeat_ns && c->heartbeat_ns < HEARTBEAT_NS_LEAST)
        e = JSE_CONSUMER_SMALL_HEARTBEAT;
    return !e || js_fault_set(f, e, NULL);
}

static bool consumer_pull(const struct jconsumer_conf *c, const struct jstream_conf *s,
                          struct js_fault *f)
{
    enum js_error e = JSE_NONE;

    if (c->ack == JACK_NONE && s->retention == JRETENTION_WORKQUEUE)
        e = JSE_CONSUMER_PULL_REQUIRES_ACK;
    else if (c->rate_bps)
        e = JSE_CONSUMER_PULL_WITH_RATE_LIMIT;
    else if (c->heartbeat_ns)
        e = JSE_CONSUMER_HB_REQUIRES_PUSH;
    else if (c->flow_control)
        e = JSE_CONSUMER_FC_REQUIRES_PUSH;
    else if (c->max_expires_ns && c->max_expires_ns < MS_NS)
        e = JSE_CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL;
    return !e || js_fault_set(f, e, NULL);
}

static bool consumer_limits(const struct jconsumer_conf *c, const struct jstream_conf *s,
                            struct js_fault *f)
{
    if (s->limits.max_ack_pending > 0 && c->max_ack_pending > s->limits.max_ack_pending)
        return js_fault_set(f, JSE_CONSUMER_MAX_PENDING_ACK_EXCESS, "%lld",
                            (long long)s->limits.max_ack_pending);
    if (s->limits.inactive_ns > 0 && c->inactive_ns > s->limits.inactive_ns)
        return js_fault_set(f, JSE_CONSUMER_INACTIVE_THRESHOLD_EXCESS, "%llds",
                            (long long)(s->limits.inactive_ns / S_NS));
    if (c->direct && !c->deliver_subject)
        return js_fault_set(f, JSE_CONSUMER_DIRECT_REQUIRES_PUSH, NULL);
    if (c->direct && c->durable)
        return js_fault_set(f, JSE_CONSUMER_DIRECT_REQUIRES_EPHEMERAL, NULL);
    return true;
}

static bool consumer_filters(const struct jconsumer_conf *c, struct js_fault *f)
{
    unsigned i, j, n = jconsumer_conf_filters(c);

    if (c->filter && c->filters.n)
        return js_fault_set(f, JSE_CONSUMER_DUPLICATE_FILTER_SUBJECTS, NULL);
    for (i = 0; i < n; i++)
        if (!jconsumer_conf_filter(c, i).len)
            return js_fault_set(f, JSE_CONSUMER_EMPTY_FILTER, NULL);
    for (i = 0; i < n; i++) {
        if (!subject_valid(jconsumer_conf_filter(c, i)))
            return bad_stream(f, "invalid subject");
        for (j = 0; j < n; j++)
            if (j != i && subject_covers(jconsumer_conf_filter(c, j), jconsumer_conf_filter(c, i)))
                return js_fault_set(f, JSE_CONSUMER_OVERLAPPING_SUBJECT_FILTERS, NULL);
    }
    return true;
}

static bool consumer_start(const struct jconsumer_conf *c, struct js_fault *f)
{
    static const char *const names[] = {
        "all", "last", "new", "by start sequence", "by start time", "last per subject"};
    bool seq = c->start_seq > 0, time = c->start_time_ns != JTIME_NONE;
    const char *also = NULL, *missing = NULL;

    if (c->deliver == JDELIVER_SEQUENCE) {
        missing = seq ? NULL : "start sequence";
        also = time ? "time" : NULL;
    } else if (c->deliver == JDELIVER_TIME) {
        missing = time ? NULL : "start time";
        also = seq ? "start sequence" : NULL;
    } else {
        also = seq ? "sequence" : time ? "time" : NULL;
        if (c->deliver == JDELIVER_LAST_PER_SUBJECT && !jconsumer_conf_filters(c))
            missing = "filter subject";
    }
    if (also)
        return js_fault_set(f, JSE_CONSUMER_INVALID_POLICY,
                            "consumer delivery policy is deliver %s, but optional start %s is "
                            "also set",
                            names[c->deliver], also);
    if (missing)
        return js_fault_set(f, JSE_CONSUMER_INVALID_POLICY,
                            "consumer delivery policy is deliver %s, but optional %s is not set",
                            names[c->deliver], missing);
    return true;
}

static bool consumer_sampling(const struct jconsumer_conf *c, struct js_fault *f)
{
    const char *p = c->sample_freq;

    if (!p)
        return true;
    while (isdigit((unsigned char)*p))
        p++;
    if (p > c->sample_freq && p - c->sample_freq <= 9 && (!*p || !strcmp(p, "%")))
        return true;
    return js_fault_set(f, JSE_CONSUMER_INVALID_SAMPLING, "\"%.60s\" is not a percentage",
                        c->sample_freq);
}

static bool group_name_valid(struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        if (!isalnum(s.ptr[i]) && !memchr("-_/=", s.ptr[i], 4))
            return false;
    return s.len <= PRIORITY_GROUP_MAX;
}

static bool consumer_priority(const struct jconsumer_conf *c, struct js_fault *f)
{
    unsigned i;

    if (c->priority == JPRIORITY_NONE) {
        if (c->priority_groups.n)
            return js_fault_set(f, JSE_CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE, NULL);
        return !c->pinned_ttl_ns ||
               js_fault_set(f, JSE_CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE, NULL);
    }
    if (c->deliver_subject)
        return js_fault_set(f, JSE_CONSUMER_PUSH_WITH_PRIORITY_GROUP, NULL);
    if (!c->priority_groups.n)
        return js_fault_set(f, JSE_CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP, NULL);
    for (i = 0; i < c->priority_groups.n; i++) {
        if (!jlist_text(&c->priority_groups, i).len)
            return js_fault_set(f, JSE_CONSUMER_EMPTY_GROUP_NAME, NULL);
        if (!group_name_valid(jlist_text(&c->priority_groups, i)))
            return js_fault_set(f, JSE_CONSUMER_INVALID_GROUP_NAME, NULL);
    }
    return true;
}

bool jconsumer_conf_check(struct jconsumer_conf *c, const struct jstream_conf *s, bool pedantic,
                          struct js_fault *f)
{
    if (!consumer_defaults(c, s, pedantic, f) || !consumer_names(c, s, f) || !consumer_acks(c, f))
        return false;
    if (text(c->description).len > DESCRIPTION_MAX)
        return js_fault_set(f, JSE_CONSUMER_DESCRIPTION_TOO_LONG, "%u", DESCRIPTION_MAX);
    if (!(c->deliver_subject ? consumer_push(c, s, f) : consumer_pull(c, s, f)))
        return false;
    if (!consumer_limits(c, s, f) || !consumer_filters(c, f) || !consumer_start(c, f) ||
        !consumer_sampling(c, f))
        return false;
    if (c->flow_control && !c->heartbeat_ns)
        return js_fault_set(f, JSE_CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS, NULL);
    if (c->durable && c->name && strcmp(c->durable, c->name) != 0)
        return js_fault_set(f, JSE_CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH, NULL);
    if (metadata_bytes(c->metadata) > JCONF_METADATA_MAX)
        return js_fault_set(f, JSE_CONSUMER_METADATA_LENGTH, "%uKB", JCONF_METADATA_MAX / 1024);
    return consumer_priority(c, f);
}

static const char *consumer_kept(const struct jconsumer_conf *c, const struct jconsumer_conf *old)
{
    if (c->deliver != old->deliver)
        return "deliver policy can not be updated";
    if (c->mem_storage != old->mem_storage)
        return "storage type can not be updated";
    if (c->direct != old->direct)
        return "direct can not be updated";
    if (c->sourcing != old->sourcing)
        return "sourcing can not be updated";
    if (c->start_seq != old->start_seq)
        return "start sequence can not be updated";
    if (c->start_time_ns != old->start_time_ns)
        return "start time can not be updated";
    if (c->ack != old->ack)
        return "ack policy can not be updated";
    if (c->replay != old->replay)
        return "replay policy can not be updated";
    if (c->heartbeat_ns != old->heartbeat_ns)
        return "heart beats can not be updated";
    if (c->flow_control != old->flow_control)
        return "flow control can not be updated";
    if (c->deliver_subject && !old->deliver_subject)
        return "can not update pull consumer to push based";
    if (!c->deliver_subject && old->deliver_subject)
        return "can not update push consumer to pull based";
    if (c->max_waiting != old->max_waiting)
        return "max waiting can not be updated";
    return NULL;
}

bool jconsumer_conf_update_check(const struct jconsumer_conf *c, const struct jconsumer_conf *old,
                                 bool bound, struct js_fault *f)
{
    const char *kept = consumer_kept(c, old);

    if (kept)
        return js_fault_set(f, JSE_CONSUMER_CREATE, "%s", kept);
    if (c->deliver_subject && strcmp(c->deliver_subject, old->deliver_subject) != 0 && bound)
        return js_fault_set(f, JSE_CONSUMER_NAME_EXIST, NULL);
    return true;
}
