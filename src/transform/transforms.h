/* Transforms: statements that run by themselves over what comes into a topic, and write their rows to
 * another, each record counted exactly once. docs/transforms.md says what they do for users,
 * docs/why/transforms.md why they do it so.
 *
 * One step of a transform takes a range of offsets of each partition of its input, runs the statement
 * over it, and appends in ONE unit of the journal: the rows, the dead letters, and where the next step
 * begins (key-value space "transform.at", key "name/partition"). That place is the truth; the same
 * unit commits it as the offset of the group `transform.NAME`, for tools that show lag.
 *
 * Definitions are in the key-value space "transform". Topics are made by the first step that needs
 * them.
 *
 * Threads: all functions are thread-safe. None blocks but transforms_close and those that say so.
 * Steps run on at most LIMIT_TRANSFORM_WORKERS threads at low priority, started when needed. */
#ifndef WEIR_TRANSFORM_TRANSFORMS_H
#define WEIR_TRANSFORM_TRANSFORMS_H

#include "broker/broker.h"
#include "sql/sql.h"
#include "transform/transform_def.h"

struct log;
struct transforms;

struct transforms_conf {
    struct broker *broker;
    struct sql *sql;
    const struct log *log; /* may be NULL */
};
/* Begins to run what is stored. */
enum err transforms_open(const struct transforms_conf *conf, struct transforms **out,
                         struct errinfo *info);
/* Ends steps that run (they leave nothing half done), waits for them. Before sql_close; NULL is
 * fine. */
void transforms_close(struct transforms **m);

/* Adds or replaces; checks the definition first, also that transforms do not feed each other in a
 * circle: ERR_CONFLICT. It is in force when it is durable; then done (writer thread). A transform
 * that is replaced goes on from where it is, paused if it was. created: there was none of this name.
 */
enum err transforms_apply(struct transforms *m, struct transform_def *d, bool *created,
                          broker_done_fn done, void *arg, struct errinfo *info);
/* The same, waiting; nothing is written if it is there as it is. */
enum err transforms_apply_wait(struct transforms *m, struct transform_def *d, struct errinfo *info);
/* ERR_NOT_FOUND. What was written stays; the place is forgotten. */
enum err transforms_delete(struct transforms *m, struct slice name, broker_done_fn done, void *arg,
                           struct errinfo *info);
/* Pauses or resumes (at once, also after errors). ERR_NOT_FOUND. */
enum err transforms_pause(struct transforms *m, struct slice name, bool pause, broker_done_fn done,
                          void *arg, struct errinfo *info);
/* A copy of the definition, to be ended by transform_def_fini. ERR_NOT_FOUND. */
enum err transforms_get(struct transforms *m, struct slice name, struct transform_def *out,
                        struct errinfo *info);

/* A JSON object of definition and state, appended. ERR_NOT_FOUND. */
enum err transforms_show(struct transforms *m, struct slice name, struct buf *out,
                         struct errinfo *info);
/* The same of all whose input sees() admits, in order of name: {"transforms":[…]}. */
enum err transforms_list(struct transforms *m, bool (*sees)(void *arg, struct slice input),
                         void *arg, struct buf *out);

/* For a trial: the definition's statement over the last `records` records of each partition of its
 * input. out_input's ranges are heap memory of the caller's, and its topic is referenced. text is
 * NUL-terminated. ERR_TOPIC_NOT_FOUND. */
enum err transforms_trial(struct transforms *m, const struct transform_def *d, int64_t records,
                          struct buf *text, struct sql_input *out_input, struct errinfo *info);

/* Prometheus text, appended. */
void transforms_metrics(struct transforms *m, struct buf *out);

#endif
