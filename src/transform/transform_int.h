/* What the files of src/transform share. Not for others.
 *
 *   struct transforms  one; `lock` guards the list, definitions and what is told of state
 *   struct tform       one transform. `busy`: a worker runs a step and alone touches the fields below
 *                      `def`; the definition does not change meanwhile, a new one waits in `next`
 *
 * The lock is never held while the broker or sql is called. */
#ifndef WEIR_TRANSFORM_INT_H
#define WEIR_TRANSFORM_INT_H

#include "base/assert.h"
#include "base/list.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "io/thread.h"
#include "rows/form.h"
#include "transform/transforms.h"

#define TRANSFORM_NS    "transform"
#define TRANSFORM_AT_NS "transform.at"
#define TFORM_MAGIC     0x54464f52u

/* A partition of the input. */
struct tpart {
    int64_t from;     /* windows: records from here on may be in windows that are not closed */
    int64_t read;     /* records below were looked at; batches: and are in the output */
    int64_t upto;     /* the present step looks at what is below */
    int64_t max_us;   /* greatest time seen; INT64_MIN: none */
    uint64_t seen_ns; /* when something new was there last */
    int64_t open;     /* the present step's new `from` */
    int64_t saved_from, saved_read;
};

/* What people see of it. */
enum tform_state { TFORM_STARTING, TFORM_RUNNING, TFORM_WAITING, TFORM_FAILING, TFORM_PAUSED };

struct tform_told {
    enum tform_state state;
    char error[512]; /* "": the last step went well */
    int64_t error_ms;
    uint64_t steps, errors, records_in, rows_out, bytes_out, dead, late, lost, step_ns;
    int64_t watermark_us, closed_us; /* INT64_MIN: none */
};

struct tform {
    uint32_t magic;
    struct list_node link; /* transforms.list, by name */
    struct transforms *m;
    char name[TRANSFORM_NAME_MAX + 1];

    /* transforms.lock */
    struct transform_def *def;  /* NULL: deleted, the place is to be forgotten */
    struct transform_def *next; /* instead of def, once not busy */
    bool busy, gone, reload;
    uint64_t due_ns; /* when to look again; UINT64_MAX: when woken */
    struct tform_told told;
    bool visited; /* by the search for circles */

    /* the worker's */
    struct waiter waiter;
    struct topic *input, *output, *dead_topic; /* referenced; NULL: not looked for so far */
    struct tpart *parts;
    int32_t parts_n;
    int64_t closed_us; /* windows before it are closed; INT64_MIN: none is */
    int64_t saved_closed_us;
    int64_t budget;         /* bytes of one step: less than max_bytes after a step was too much */
    int64_t pending;        /* bytes of [read, upto) */
    uint64_t pending_ns;    /* since when there are some */
    uint64_t close_free_ns; /* windows are closed no earlier */
    unsigned fails;
};

struct transforms {
    struct transforms_conf conf;
    struct io *io;
    struct io_mutex lock;
    struct io_cond work;
    struct list_head list; /* struct tform, by name */
    struct io_thread *workers[LIMIT_TRANSFORM_WORKERS];
    unsigned workers_n;
    _Atomic bool closing;
};

/* ---- transform_step.c ---- */

/* Runs what is due; returns when to look again. Worker. */
uint64_t tform_step(struct tform *t);
/* Lets go of topics and places; the next step finds them again. */
void tform_drop(struct tform *t);
/* Forgets the place of a transform that is no more. */
enum err tform_forget(struct tform *t);

/* ---- transform_ask.c ---- */

struct ask_error {
    enum err code;
    char sqlstate[6];
    char text[400];
};
/* The statement may do better with other records (a value that cannot be cast), or never. */
bool ask_is_data(const struct ask_error *e);
/* It may do better with fewer records. */
bool ask_is_size(const struct ask_error *e);

/* Runs a statement over ranges of the input and waits. columns and chunk may be NULL. */
struct ask_rows {
    bool (*columns)(void *arg, const struct sql_columns *c);
    bool (*chunk)(void *arg, const struct sql_chunk *c);
    void *arg;
    uint64_t *scanned; /* records looked at; may be NULL */
};
enum err tform_ask(struct tform *t, const char *text, const struct sql_range *ranges,
                   unsigned ranges_n, const struct ask_rows *on, struct ask_error *error);

/* ---- transform_unit.c: what one step writes ---- */

/* A record that is no row of the output. */
struct stray {
    int32_t partition;
    int64_t offset;
    char *why; /* heap */
};
struct strays {
    struct stray *v;
    uint32_t n, cap;
};
void strays_add(struct strays *s, int32_t partition, int64_t offset, const char *why);
void strays_fini(struct strays *s);

struct unit {
    struct tform *t;
    struct append *a;
    struct rows_writer w;
    struct buf line, key;
    const struct sql_columns *columns;
    uint32_t key_column; /* UINT32_MAX: none */
    uint64_t rows, bytes;
    enum err e;
    struct errinfo info;
};
void unit_init(struct unit *u, struct tform *t);
void unit_fini(struct unit *u);
/* Without what was added so far. */
void unit_reset(struct unit *u);
/* As ask_rows' callbacks. */
bool unit_columns(void *arg, const struct sql_columns *c);
bool unit_chunk(void *arg, const struct sql_chunk *c);
enum err unit_dead_letters(struct unit *u, const struct strays *s, struct errinfo *info);
/* The places of all partitions that moved; then waits until all of it is durable. */
enum err unit_submit(struct unit *u, struct errinfo *info);
/* What it says of one partition, and back; false: it is of another topic, or nothing. */
#define TFORM_PLACE_MAX 192u
bool place_read(const struct tform *t, struct slice value, struct tpart *p, int64_t *closed_us);

/* ---- transform_isolate.c ---- */

/* Runs a statement over ranges into u; records that it fails for are left out and added to bad. */
enum err tform_rows(struct unit *u, const char *text, const struct sql_range *ranges, unsigned n,
                    struct strays *bad, struct ask_error *error);

#endif
