/* JetStream: configurations of streams and consumers, as nats-server 2.14 has them (reference:
 * nats-io/jsm.go, schemas jetstream/api/v1/{stream,consumer}_configuration.json).
 *
 * Each is read from JSON by a table of fields and written by the same; texts are copied. A field
 * that is not there, or null, has its zero; the checks put in defaults. What depends on other
 * streams and consumers (subjects that overlap, names that are taken) is not checked here.
 *
 * Durations and times are nanoseconds, as clients give them. No lock: one thread at a time. */
#ifndef WEIR_PROTO_NATS_JS_CONF_H
#define WEIR_PROTO_NATS_JS_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/nats/js_errors.h"

#define JTIME_NONE         INT64_MIN   /* there is no time */
#define JCONF_NAME_MAX     255u        /* bytes of a name, as nats-server's */
#define JCONF_METADATA_MAX (32u << 10) /* bytes: a configuration is one item of the broker */
#define JTIME_TEXT_LEN     30

/* "2026-01-02T03:04:05.678901234Z". */
void jtime_text(int64_t ns, char out[JTIME_TEXT_LEN + 1]);
/* A member with that. */
void jtime_put(json_t *o, const char *name, int64_t ns);
/* Nanoseconds of milliseconds since 1970, as records of other protocols have them: the last or first
 * that there are of what is further away. */
int64_t jtime_ns(int64_t ms);
/* RFC 3339; times before 1970 are 1970's beginning. */
bool jtime_read(struct slice s, int64_t *ns);

/* Elements of one size: texts (char *), durations (int64_t) or structs. */
struct jlist {
    void *v;
    unsigned n;
};
static inline struct slice jlist_text(const struct jlist *l, unsigned i)
{
    return slice_str(((char *const *)l->v)[i]);
}
static inline int64_t jlist_ns(const struct jlist *l, unsigned i)
{
    return ((const int64_t *)l->v)[i];
}

enum jretention { JRETENTION_LIMITS, JRETENTION_INTEREST, JRETENTION_WORKQUEUE };
enum jdiscard { JDISCARD_OLD, JDISCARD_NEW };
enum jstorage { JSTORAGE_FILE, JSTORAGE_MEMORY };
enum jcompression { JCOMPRESSION_NONE, JCOMPRESSION_S2 };
enum jpersist { JPERSIST_DEFAULT, JPERSIST_ASYNC };

struct jtransform {
    char *src, *dest; /* NULL: none */
};
struct jrepublish {
    char *src, *dest;
    bool headers_only;
};
struct jexternal {
    char *api, *deliver;
};
struct jsource_consumer {
    char *name, *deliver_subject;
};
struct jsource {
    char *name;
    uint64_t start_seq;
    int64_t start_time_ns; /* JTIME_NONE */
    char *filter;
    struct jlist transforms; /* struct jtransform */
    struct jexternal *external;
    struct jsource_consumer *consumer;
};
struct jconsumer_limits {
    int64_t inactive_ns, max_ack_pending;
};
struct jplacement {
    char *cluster, *preferred;
    struct jlist tags; /* texts */
};

struct jstream_conf {
    char *name, *description;
    struct jlist subjects;                                 /* texts */
    int retention, discard, storage, compression, persist; /* enums of above */
    int64_t max_consumers, max_msgs, max_bytes, max_age_ns, max_msgs_per_subject, max_msg_size;
    int64_t replicas;
    bool no_ack;
    int64_t duplicates_ns;
    struct jplacement *placement;
    struct jsource *mirror;
    struct jlist sources; /* struct jsource */
    uint64_t first_seq;
    struct jtransform *transform;
    struct jrepublish *republish;
    bool allow_direct, mirror_direct, discard_new_per, sealed, deny_delete, deny_purge;
    bool allow_rollup, allow_ttl, allow_counter, allow_atomic, allow_schedules, allow_batched;
    struct jconsumer_limits limits;
    int64_t marker_ttl_ns;
    json_t *metadata; /* object of texts; NULL: none */
};

enum jdeliver {
    JDELIVER_ALL,
    JDELIVER_LAST,
    JDELIVER_NEW,
    JDELIVER_SEQUENCE,
    JDELIVER_TIME,
    JDELIVER_LAST_PER_SUBJECT
};
enum jack_policy { JACK_NONE, JACK_ALL, JACK_EXPLICIT, JACK_FLOW_CONTROL };
enum jreplay { JREPLAY_INSTANT, JREPLAY_ORIGINAL };
enum jpriority { JPRIORITY_NONE, JPRIORITY_OVERFLOW, JPRIORITY_PINNED, JPRIORITY_PRIORITIZED };

struct jconsumer_conf {
    char *durable, *name, *description;
    int deliver, ack, replay, priority; /* enums of above */
    uint64_t start_seq;
    int64_t start_time_ns; /* JTIME_NONE */
    int64_t ack_wait_ns, max_deliver;
    struct jlist backoff_ns;
    char *filter;
    struct jlist filters; /* texts */
    uint64_t rate_bps;
    char *sample_freq;
    int64_t max_waiting, max_ack_pending;
    bool flow_control, headers_only, mem_storage, direct, sourcing;
    int64_t max_batch, max_expires_ns, max_bytes; /* of one pull; 0: no limit */
    char *deliver_subject, *deliver_group;
    int64_t heartbeat_ns, inactive_ns, replicas;
    json_t *metadata;
    int64_t pause_until_ns;       /* JTIME_NONE */
    struct jlist priority_groups; /* texts */
    int64_t pinned_ttl_ns;
};

/* Reads o, which may be anything: false with the fault. strict: fields that there are not are one
 * too. *c need not be initialised; after false there is nothing in it. */
bool jstream_conf_read(struct jstream_conf *c, const json_t *o, bool strict, struct js_fault *f);
void jstream_conf_fini(struct jstream_conf *c);
/* A new object, with the fields that nats-server would send. */
json_t *jstream_conf_write(const struct jstream_conf *c);
/* *to need not be initialised. */
void jstream_conf_copy(struct jstream_conf *to, const struct jstream_conf *from);
bool jstream_conf_equal(const struct jstream_conf *a, const struct jstream_conf *b);
/* Puts in defaults and checks. pedantic: rather than mending a value, say that it is wrong. */
bool jstream_conf_check(struct jstream_conf *c, bool pedantic, struct js_fault *f);
/* c, checked, is to replace old; puts in what being sealed means. */
bool jstream_conf_update_check(struct jstream_conf *c, const struct jstream_conf *old,
                               struct js_fault *f);

bool jconsumer_conf_read(struct jconsumer_conf *c, const json_t *o, bool strict,
                         struct js_fault *f);
void jconsumer_conf_fini(struct jconsumer_conf *c);
json_t *jconsumer_conf_write(const struct jconsumer_conf *c);
void jconsumer_conf_copy(struct jconsumer_conf *to, const struct jconsumer_conf *from);
bool jconsumer_conf_equal(const struct jconsumer_conf *a, const struct jconsumer_conf *b);
bool jconsumer_conf_check(struct jconsumer_conf *c, const struct jstream_conf *s, bool pedantic,
                          struct js_fault *f);
/* bound: somebody listens to old's deliver subject. */
bool jconsumer_conf_update_check(const struct jconsumer_conf *c, const struct jconsumer_conf *old,
                                 bool bound, struct js_fault *f);
/* Its filters, one or several: how many; the i-th (0: an empty slice if there is none). */
unsigned jconsumer_conf_filters(const struct jconsumer_conf *c);
struct slice jconsumer_conf_filter(const struct jconsumer_conf *c, unsigned i);

/* What a stream or consumer may be called. */
bool jname_valid(struct slice s);

#endif
