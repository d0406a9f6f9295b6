/* What a transform is to do: its definition, as people write it and as it is stored.
 *
 * A file of SQL with a header of comments, `-- key: value`, or a JSON object with the same keys and
 * "sql". Keys are the rows of the table in transform_def.c; docs/transforms.md says what they mean.
 * Stored (broker's key-value space "transform", key: the name) is the JSON object.
 *
 * Any thread, one at a time for a definition. */
#ifndef WEIR_TRANSFORM_TRANSFORM_DEF_H
#define WEIR_TRANSFORM_TRANSFORM_DEF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "base/topic_name.h"

#define TRANSFORM_NAME_MAX     100u
#define TRANSFORM_INTERVAL_MAX 63u
#define TRANSFORM_KEY_MAX      280u

struct transform_def {
    char name[TRANSFORM_NAME_MAX + 1];
    char input[TOPIC_NAME_MAX + 1], output[TOPIC_NAME_MAX + 1];
    char dead_letters[TOPIC_NAME_MAX + 1];
    char key[TRANSFORM_KEY_MAX + 1];           /* column of the output; "": records have no key */
    char window[TRANSFORM_INTERVAL_MAX + 1];   /* interval of SQL; "": by batch */
    char lateness[TRANSFORM_INTERVAL_MAX + 1]; /* the same; "": none */
    char *time;                                /* expression of the event's time; never NULL */
    char *columns;                             /* "name TYPE, …"; "": as inferred */
    char *sql;
    int64_t max_bytes, max_ms, idle_ms, partitions; /* partitions 0: the server's default */
    bool latest, lake, late_drop, update, paused;
    bool any_topic; /* who applied it may read all topics, so may the statement */
};

void transform_def_init(struct transform_def *d);
void transform_def_fini(struct transform_def *d);
/* Sets one item from text. ERR_CONFIG: a sentence that names key, value and what is allowed. */
enum err transform_def_set(struct transform_def *d, struct slice key, struct slice value,
                           struct errinfo *info);
/* A file: header and statement. */
enum err transform_def_file(struct transform_def *d, struct slice text, struct errinfo *info);
enum err transform_def_json(struct transform_def *d, struct slice json, struct errinfo *info);
/* All that it needs is there and fits; fills in the dead letters' topic if none was named. */
enum err transform_def_check(struct transform_def *d, struct errinfo *info);
/* The JSON object without its closing brace, appended. state: with "paused" and "any_topic". */
enum err transform_def_write(const struct transform_def *d, bool state, struct buf *out);
/* Does the same to the same? (paused or not) */
bool transform_def_same(const struct transform_def *a, const struct transform_def *b);

static inline bool transform_windowed(const struct transform_def *d)
{
    return d->window[0] != 0;
}

/* ---- the statements that are run ---- */

/* The input is mentioned by the name TRANSFORM_RECORDS if the statement is wrapped, else by the one
 * that people use: __input__. */
#define TRANSFORM_INPUT   "__input__"
#define TRANSFORM_RECORDS "__records__"
const char *transform_input_name(const struct transform_def *d);
/* The statement over the records whose time t is from_us <= t < to_us (INT64_MIN, INT64_MAX: no
 * bound; without a window the bounds do not count). NUL-terminated in out. */
enum err transform_statement(const struct transform_def *d, int64_t from_us, int64_t to_us,
                             struct buf *out);
/* What the records' times say, by partition: partition, greatest time in microseconds, records
 * before closed_us or without a time, first offset of the others, least time of the others. */
enum err transform_times(const struct transform_def *d, int64_t closed_us, struct buf *out);
/* partition, offset, has a time: of records before closed_us or without a time. */
enum err transform_strays(const struct transform_def *d, int64_t closed_us, struct buf *out);
/* partition, first offset of a record whose time is to_us or later, records from closed_us to it. */
enum err transform_opens(const struct transform_def *d, int64_t closed_us, int64_t to_us,
                         struct buf *out);
/* The watermark for the greatest time seen, and the start of the window that it is in; and the
 * start of the window that `least_us` is in. Microseconds. */
enum err transform_mark(const struct transform_def *d, int64_t greatest_us, int64_t least_us,
                        struct buf *out);

#endif
