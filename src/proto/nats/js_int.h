/* JetStream: what its files know of each other. See js.h and docs/why/jetstream.md.
 *
 *   js.c           all streams: their table, what is saved of them, start and end
 *   js_api.c       requests to $JS.API.>: which stream they are for, answers, errors
 *   js_conf.c      configurations of streams and consumers, from JSON and to it; js_conf_check.c
 *   js_implicit.c  streams that nobody made: topics of other protocols
 *   js_header.c    headers of NATS: from and to text, from and to a record's headers
 *   js_index.c     which messages a stream has, by sequence and subject
 *   js_stream.c    a stream's life: js_stream.h names its files
 *   js_publish.c   what is published to a stream: js_publish_int.h names its files
 *   js_batch.c     atomic batches: what waits for their end
 *   js_counter.c   streams whose messages are sums; js_number.c
 *   js_schedule.c  messages that make others when they are due; js_cron.c, js_zone.c: when that is
 *   js_snapshot.c  sending backups; js_restore.c: taking them; js_archive.c: what they are
 *   js_source.c    mirrors and sources: streams that copy others
 *   js_store.c     what is durable in its log: js_store_int.h names its files
 *   js_get.c       reading single messages: get, direct get, batches
 *   js_monitor.c   figures for monitoring
 *   js_consumer.c  consumers: js_consumer_int.h names their files
 *
 * A stream is a topic of one partition; a message's sequence is its record's offset plus the
 * stream's first sequence (jstream_seq), its subject is the record's key, NATS headers are the
 * record's headers. Its configuration, and those of its consumers, are items of the broker (kv_put).
 * Which messages were removed from between is an item for each 4,096 of them; from the front they
 * are trimmed away.
 *
 * Threads: a stream, its consumers, its index belong to one loop, and all that happens to them
 * happens there: messages for its subjects come as to any subscription of the server's own
 * (nats_sub_new), requests are posted. Table and names: any thread, under js->lock. Completions of
 * the broker come on the writer thread and are posted to the loop. A stream that is gone stays valid
 * until what is on its way has come back (jstream_ref).
 *
 * What takes a message for a subscription (nats_handle_fn) must not send: it is called while the
 * receivers of a message are walked. What is to be sent waits for the end of the turn (js_later). */
#ifndef WEIR_PROTO_NATS_JS_INT_H
#define WEIR_PROTO_NATS_JS_INT_H

#include <jansson.h>

#include "base/list.h"
#include "broker/broker.h"
#include "io/thread.h"
#include "io/workers.h"
#include "proto/nats/js.h"
#include "proto/nats/js_conf.h"
#include "proto/nats/js_errors.h"
#include "proto/nats/js_index.h"
#include "proto/nats/nats_int.h"

struct jbatches;
struct jclock;
struct jconsumer;
struct jconsumers;
struct jcounters;
struct jimplicit;
struct jpublish;
struct jrestore;
struct jschedules;
struct jsources;
struct jstore;
struct jvisit;
struct jzones;

/* To be called at the end of this turn of a loop, once. */
struct jlater {
    struct list_node link;
    void (*fn)(struct jlater *j);
    bool queued;
};

struct jloop {
    struct js *js;
    struct nloop *l;
    struct list_head later; /* struct jlater */
    struct loop_task wake;  /* so that the next turn does not wait */
    bool awake;
    struct buf scratch; /* for one message to be sent */
};

struct jaccount {
    struct jaccount *next;
    struct js *js;
    struct naccount *account;
    struct nloop *l; /* takes its requests */
    struct nsub *api;
    atomic_bool pressed;
    _Atomic uint64_t requests, errors;
};

struct js {
    struct nats *n;
    struct broker *b;
    struct workers *workers;    /* read files */
    struct jloop *loops;        /* as many as n has */
    _Atomic uint64_t under_way; /* what others than loops have of ours: see js_begin */
    struct jclock *clock;       /* NULL: somebody else's */
    struct jzones *zones;
    struct jimplicit *implicit;            /* js_implicit.c; NULL: no account sees topics */
    _Atomic uint64_t batches, batch_bytes; /* atomic ones that wait for their end */
    atomic_bool ending;                    /* nothing is to be begun any more */
    _Atomic uint64_t lost; /* messages that could not be kept, and nobody was told */
    uint8_t seed[16];      /* of maps */
    struct io_mutex lock;  /* of what follows */
    struct map streams;    /* struct jstream by account, NUL, name; they are referenced */
    struct jaccount *accounts;
};

/* What any thread may know of a stream: js_monitor.c. */
struct jstream_figures {
    _Atomic uint64_t msgs, bytes, first, last, consumers, reserved;
    atomic_bool memory;
};

struct jstream {
    struct js *js;
    struct naccount *account;
    struct jaccount *ja;
    struct nloop *l;
    _Atomic uint32_t refs;
    bool gone;                 /* deleted: nothing is to be begun any more */
    bool loading;              /* index and consumers belong to a worker, requests wait */
    bool implicit;             /* nobody made it: js_implicit.c */
    bool used;                 /* … and it was asked for, since `idle` came */
    struct loop_timer idle;    /* … when it may go */
    _Atomic uint32_t topic_no; /* number of its topic; 0: it is being made */
    struct jstream_conf conf;
    int64_t created_ns;
    uint64_t first_seq;  /* of offset 0 */
    struct topic *topic; /* referenced; NULL: it is being made */
    struct partition *p;
    struct jindex index;
    struct jstream_figures figures;
    struct map consumers;         /* struct jconsumer by name */
    struct jconsumers *jc;        /* js_consumers.c */
    atomic_bool pressed;          /* more is under way than it should be */
    struct list_head waits;       /* struct jreq while it is loading */
    struct jpublish *pub;         /* js_publish.c */
    struct jstore *store;         /* js_store.c */
    struct jbatches *batches;     /* js_batch.c; NULL: none waits */
    struct jcounters *counters;   /* js_counter.c; NULL: it is none */
    struct jschedules *schedules; /* js_schedule.c; NULL: it never had any */
    struct jsources *src;         /* js_source.c; NULL: it never copied any */
    struct jrestore *restore;     /* js_restore.c; NULL: no backup is being taken */
    struct list_head snapshots;   /* js_snapshot.c: backups that are being sent … */
    unsigned snapshots_n;         /* … so many */
    bool restoring;               /* it is not whole: a backup is to come, or comes */
    struct list_head askers;      /* who wait for more of it: js_source.c */
    bool mirrored;      /* it is or was a mirror: records without key and value fill gaps */
    struct nsub **subs; /* by subject of conf */
    unsigned subs_n;
    char **claimed; /* js->lock: subjects that are its own, for checking others' */
    unsigned claimed_n;
    char **origins; /* js->lock: names of the streams that it copies */
    unsigned origins_n;
    int64_t claimed_size; /* js->lock: max_msg_size, for checking who copies it */
    json_t *taken;        /* array: patterns of subjects that it takes, or took */
    bool takes_any;       /* … or any, as they are transformed, or come from other streams */
    size_t key_len;
    char key[]; /* account, NUL, name, NUL */
};

static inline struct slice jstream_name(const struct jstream *s)
{
    return slice_str(s->conf.name);
}
static inline uint64_t jstream_seq(const struct jstream *s, int64_t offset)
{
    return (uint64_t)offset + s->first_seq;
}
static inline int64_t jstream_offset(const struct jstream *s, uint64_t seq)
{
    return (int64_t)(seq - s->first_seq);
}

/* ---- js_monitor.c ---- */

/* The stream's figures are other ones. */
void jstream_note(struct jstream *s);

/* ---- js.c ---- */

struct jloop *js_loop(struct js *js, const struct nloop *l);
/* j->fn is called at the end of the turn that is under way on this loop, or of the next one. */
void js_later(struct jloop *jl, struct jlater *j);
void js_later_cancel(struct jlater *j);
/* Something of JetStream's is with the writer thread or a worker, and comes back: js_free waits. */
static inline void js_begin(struct js *js)
{
    atomic_fetch_add_explicit(&js->under_way, 1, memory_order_relaxed);
}
static inline void js_end(struct js *js)
{
    atomic_fetch_sub_explicit(&js->under_way, 1, memory_order_release);
}
/* Referenced; NULL: there is none. Any thread. */
struct jstream *js_stream_find(struct js *js, const struct naccount *a, struct slice name);
struct jstream *jstream_ref(struct jstream *s);
/* Any thread. */
void jstream_unref(struct jstream *s);
/* fn, for each stream of the account (NULL: of all), in order of name; referenced during the call.
 * No lock is held then. */
void js_streams_each(struct js *js, const struct naccount *a,
                     bool (*fn)(void *arg, struct jstream *s), void *arg);
/* Upwards, for qsort and bsearch: uint64_t. */
int js_by_number(const void *a, const void *b);
/* Milliseconds, nanoseconds since 1970. */
int64_t js_now_ms(const struct js *js);
int64_t js_now_ns(const struct js *js);
/* A change of state that the log confirms: fn is called on the stream's loop. Put it into a struct
 * of its own, give jdone_call and it to a function of the broker's that takes a broker_done_fn after
 * jdone_begin; jdone_cancel if that function returned an error instead. The stream is referenced
 * meanwhile. */
struct jdone {
    struct loop_task task;
    struct jstream *s;
    enum err e;
    void (*fn)(struct jdone *d);
};
void jdone_begin(struct jdone *d, struct jstream *s, void (*fn)(struct jdone *d));
void jdone_cancel(struct jdone *d);
void jdone_call(void *arg, enum err e, const struct errinfo *info);

/* ---- the API: js_api.c ---- */

/* A request to $JS.API.<subject>. Copied; lives until js_answer or js_fail takes it. */
struct jreq {
    struct loop_task task;
    struct list_node link;
    struct js *js;
    struct jaccount *ja;
    struct naccount *account;
    struct nloop *l;      /* where it is handled now */
    struct slice subject; /* behind "$JS.API." */
    struct slice headers; /* NATS/1.0…, or empty */
    struct slice reply, body;
    json_t *json;           /* of body; NULL: it is empty */
    struct jstream *stream; /* referenced; NULL: it is not about one */
    int64_t came_ns;
    json_t *gathered;     /* while going to each stream; see js_visit */
    struct jvisit *visit; /* private to js_api.c, as is run */
    void (*run)(struct jreq *r), (*then)(struct jreq *r);
    uint8_t text[];
};

/* All take r. type: "stream_info", for io.nats.jetstream.api.v1.stream_info_response. o: taken, may
 * be NULL. fmt replaces what stands in braces in the error's text; NULL: nothing. */
void js_answer(struct jreq *r, const char *type, json_t *o);
/* Takes a request that is asked where nobody is: 503, as for any subject without subscribers. */
void js_nobody(struct jreq *r);
void js_fail(struct jreq *r, const char *type, enum js_error e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void js_fault(struct jreq *r, const char *type, const struct js_fault *f);
/* Runs on loop l, or on r->stream's once that is loaded. */
void js_post(struct jreq *r, struct nloop *l, void (*run)(struct jreq *r));
void js_post_stream(struct jreq *r, void (*run)(struct jreq *r));
/* No answer. */
void jreq_free(struct jreq *r);
/* A string of what clients sent: bytes that are not UTF-8 become U+FFFD. */
json_t *js_text(struct slice s);
/* {"code":…,"err_code":…,"description":…}, a new object. */
json_t *js_error_json(const struct js_fault *f);
/* Sends on loop l: to who listens to `to`, as a message with this subject. Headers that lie before
 * the payload are not copied. How many got it. Not from a nats_handle_fn. */
uint32_t js_send(struct nloop *l, struct naccount *a, struct slice to, struct slice subject,
                 struct slice reply, struct slice headers, struct slice payload);
/* A status without payload: "NATS/1.0 404 Message Not Found". more: further lines "Key: value\r\n". */
uint32_t js_send_status(struct nloop *l, struct naccount *a, struct slice to, const char *status,
                        const char *more);
/* An event: $JS.EVENT.<subject> (ADVISORY.… or METRIC.…), on the stream's loop, at the end of the
 * turn. type: io.nats.jetstream.advisory.v1.…, in full; o: taken; id, timestamp, type are put in. */
void js_advise(struct jstream *s, const char *subject, const char *type, json_t *o);
#define JS_ID_LEN 22
/* Letters and digits by chance. */
void js_id_make(struct js *js, char out[JS_ID_LEN + 1]);
/* The token number i of a subject, from 0 on; empty: it has not so many. */
struct slice js_token(struct slice subject, unsigned i);

/* ---- messages: js_get.c ---- */

struct jmsg {
    uint64_t seq;
    int64_t time_ns;
    struct slice subject;
    struct slice headers; /* NATS/1.0…, right before payload, or empty */
    struct slice payload;
};
/* Messages of a stream, from memory, or by a worker when a file has to be read. One for each that
 * reads in order (a consumer), so that batches are taken apart once. */
struct jreader;
struct jreader *jreader_new(struct jstream *s);
/* ready is not called any more. */
void jreader_free(struct jreader **r);
/* ERR_OK: *out is valid until the next call on r. ERR_AGAIN: it is being read: ready(arg) is called
 * on the stream's loop, then ask again. ERR_NOT_FOUND: it is not there any more. Others: the log
 * cannot be read there. */
enum err jreader_get(struct jreader *r, uint64_t seq, struct jmsg *out, void (*ready)(void *arg),
                     void *arg);

/* ---- js_clock.c ---- */

/* While the loops do not run. */
void js_clock_start(struct js *js);
void js_clock_stop(struct js *js);

/* ---- what the stream tells its consumers (js_consumers.c) ---- */

/* Messages from first to last are durable and in the index (some may be removed again already). */
void jconsumers_stored(struct jstream *s, uint64_t first, uint64_t last);
/* One that was there is removed (limits, API, by an ack of another consumer, expiry). Called before
 * it leaves the index. */
void jconsumers_removed(struct jstream *s, uint64_t seq);
/* All below first are. */
void jconsumers_purged(struct jstream *s, uint64_t first);
/* The stream's configuration changed; it is being deleted. */
void jconsumers_changed(struct jstream *s);
void jconsumers_end(struct jstream *s);
/* Whether some consumer still wants it (retention by interest): not acked by one that takes it. */
bool jconsumers_want(struct jstream *s, uint64_t seq);
/* Whether there is a consumer that takes this subject (retention by interest: otherwise it is not
 * kept). */
bool jconsumers_take(struct jstream *s, struct slice subject);
/* Consumers saved before, when the stream is loaded; on its loop, its index is there. */
enum err jconsumers_load(struct jstream *s, struct errinfo *info);
/* A request whose subject begins with CONSUMER. and names this stream. Takes r. */
void jconsumer_request(struct jreq *r);
uint32_t jconsumers_count(const struct jstream *s);
/* Frees them: the loops have stopped, or the stream is gone and nothing refers to it. */
void jconsumers_fini(struct jstream *s);

/* ---- what consumers tell the stream (js_store.c) ---- */

/* A consumer is done with it (acked, terminated, deliveries exceeded does not count): with retention
 * by interest or as a work queue it is removed once nobody wants it. */
void jstream_acked(struct jstream *s, uint64_t seq);
/* A consumer is about to be deleted, whose cursor is what remembers which messages were removed:
 * d->fn is called when that is saved otherwise (perhaps before this returns). */
void jstream_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d));
/* A consumer was deleted: what only it wanted is removed. */
void jstream_interest_less(struct jstream *s);

#endif
