/* What js.c, js_api.c and the files of streams share; see js_int.h. */
#ifndef WEIR_PROTO_NATS_JS_STREAM_H
#define WEIR_PROTO_NATS_JS_STREAM_H

#include "proto/nats/js_int.h"

#define JS_STREAM_NS "js.stream" /* items: account, NUL, name; what js_stream.c writes */
#define JS_API_LEVEL 3
#define JS_NO_TIME   "0001-01-01T00:00:00Z"

/* ---- js.c ---- */

/* Any thread. ERR_EXISTS, ERR_LIMIT, ERR_CONFLICT: another stream takes some of its subjects. The
 * table refers to s then. */
enum err js_stream_put(struct js *js, struct jstream *s);
/* s is in the table, its conf has new subjects. False: another stream takes some of them. */
bool js_subjects_claim(struct jstream *s);
/* Whether it copies a stream that copies, by others perhaps, this one; s is in the table. */
bool js_origins_cycle(struct jstream *s);
/* Whether it takes messages as large as the streams that it copies do, as far as they have a limit;
 * s is in the table. */
bool js_origins_fit(struct jstream *s);
void js_stream_take(struct js *js, struct jstream *s);
/* Where a stream lives; without a name, where the account's requests are taken. */
struct nloop *js_loop_for(struct js *js, const struct naccount *a, struct slice name);
struct jaccount *js_account_of(struct js *js, const struct naccount *a);

/* ---- js_monitor.c ---- */

extern const struct njs_monitor js_monitor;

/* ---- js_api.c ---- */

void js_api_open(struct jaccount *ja);
/* On s's loop: what waited while it was loaded. */
void jstream_waits_run(struct jstream *s);
/* Goes to each stream of the account, one after the other, on its loop: each() may add to r->json;
 * then r is back where it was, and end takes it. */
void js_visit(struct jreq *r, void (*each)(struct jreq *r, struct jstream *s),
              void (*end)(struct jreq *r));
/* [offset, limit) of a paged request. */
uint64_t js_offset(const struct jreq *r);

/* ---- js_stream.c ---- */

/* On the stream's loop. Takes r. */
void jstream_request(struct jreq *r);
/* A stream that is not in the table, without configuration and topic; a reference. */
struct jstream *jstream_new(struct js *js, struct naccount *a, struct slice name);
/* Its configuration, with what it takes from now on; on ERR_OK fn is called. */
enum err jstream_save(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d));
/* It is whole now: saves that, on ERR_OK fn is called; then it takes messages. */
enum err jstream_save_whole(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d));
void jstream_restored(struct jstream *s);
/* It takes messages; it does not any more. */
void jstream_subs_begin(struct jstream *s);
void jstream_subs_end(struct jstream *s);
/* It goes, and nobody is told. */
void jstream_drop(struct jstream *s);
/* The loops have stopped, or it is gone: nothing more comes to it. */
void jstream_close(struct jstream *s);
void jstream_free(struct jstream *s);
/* Every subject that the stream takes, or took: keys that are such subjects are the subjects of
 * their records. NULL: any are. A new filter. */
struct jfilter *jstream_taken(const struct jstream *s);

/* ---- js_stream_make.c ---- */

/* On the account's loop. Take r. */
void js_stream_create(struct jreq *r);
void js_stream_restore_request(struct jreq *r);
/* Before the loops run: a stream as it was saved. */
void jstream_restore(struct js *js, struct naccount *a, struct slice name, struct slice saved);
/* Its topic, taken; NULL: it has none. False: that has not one partition. */
bool jstream_topic(struct jstream *s, struct topic *t);
/* Loads it: topic and configuration are there. */
void jstream_open(struct jstream *s);
/* What there is no such thing of here is said, rather than taken and not done. */
bool jstream_supported(struct jstream_conf *c, struct js_fault *f);
/* What needs to know the streams that it copies; s is in the table. */
bool jstream_origins_check(struct jstream *s, struct js_fault *f);

/* ---- js_stream_info.c ---- */

/* On the account's loop. Take r. */
void js_stream_names(struct jreq *r);
void js_stream_list(struct jreq *r);
void js_account_info(struct jreq *r);
/* Whether a list that was asked for shows a stream of this configuration. */
bool js_stream_shown(const struct jreq *r, const struct jstream_conf *c);
/* {"config":…,"created":…,"state":…}, a new object. */
json_t *jstream_info(struct jstream *s, const json_t *options);
/* With that. made: and that it is new. Takes r. */
void jstream_answer(struct jreq *r, const char *type, bool made);
/* Tells who watches: "create", "modify", "delete". */
void jstream_advise(struct jstream *s, const char *what);

#endif
