/* One step of a transform: what is to be looked at, the statement, and one unit that has it all.
 *
 *   by batch    rows of [read, upto) of each partition; then read = upto
 *   by window   times of [read, upto); the watermark is the least of the partitions' greatest times,
 *               less the lateness. When it has passed the end of windows that are not closed yet,
 *               the statement runs over their records, which are all at or behind `from`: the first
 *               record that may be in a window that is not closed. Nothing but places is kept: what
 *               was aggregated is not, records are read again (docs/why/transforms.md says why).
 *
 * A partition from which nothing came for idle_seconds holds nothing back. Reading again is limited
 * to a tenth of the time: windows are closed no earlier than nine times as long after the last
 * closing as that took.
 *
 * After an error nothing of the step was written; it is tried again later from the same place. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/tier.h"
#include "journal/journal.h"
#include "transform/transform_int.h"

#define READ_BYTES    (256u << 10) /* looked at in one go to find out how much waits */
#define BUDGET_LEAST  1            /* the step then takes one batch */
#define LOOK_LEAST_NS 10000000u    /* while a batch fills: time between looks, */
#define LOOK_MOST_NS  1000000000u  /* from … to */
#define RETRY_NS      1000000000u  /* after the first failure; doubled to */
#define RETRY_MOST_NS 60000000000u
#define MISSING_NS    1000000000u /* between looks for an input that is not there */
#define CLOSE_SHARE   9u
#define STATEMENT_MAX (LIMIT_SQL_TEXT - 1)

struct step {
    struct tform *t;
    struct unit unit;
    struct strays bad, late;
    struct buf text;
    struct sql_range *ranges; /* room for all partitions */
    struct ask_error error;
    struct errinfo info; /* of what is not a statement's */
    int64_t records;
    uint64_t began_ns;
    int64_t watermark_us;
};

/* ---- topics and places ---- */

void tform_drop(struct tform *t)
{
    topic_unref(&t->input);
    topic_unref(&t->output);
    topic_unref(&t->dead_topic);
    free(t->parts);
    t->parts = NULL;
    t->parts_n = 0;
    t->pending = 0;
    t->pending_ns = t->close_free_ns = 0;
    t->closed_us = t->saved_closed_us = INT64_MIN;
}

static enum err output_find(struct tform *t, struct errinfo *info)
{
    struct broker *b = t->m->conf.broker;
    struct slice name = slice_str(t->def->output);
    struct topic_conf conf;
    enum err e;

    t->output = topic_find(b, name);
    if (!t->output) {
        topic_conf_default(b, &conf);
        conf.lake_enable = t->def->lake;
        e = topic_create_wait(b, name, (int32_t)t->def->partitions, &conf, info);
        if (e && e != ERR_TOPIC_EXISTS)
            return e;
        t->output = topic_find(b, name);
    }
    if (!t->output)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "\"%s\" was deleted", t->def->output);
    topic_conf_get(t->output, &conf);
    if (!t->def->lake || conf.lake_enable)
        return ERR_OK;
    conf.lake_enable = 1;
    return topic_alter_wait(b, name, 0, &conf, info);
}

/* Where a partition begins that has no place. */
static void part_start(struct tform *t, int32_t i, bool fresh)
{
    struct partition *p = topic_partition(t->input, i);
    struct tpart *x = &t->parts[i];

    x->from = x->read = t->def->latest && fresh ? partition_lso(p) : partition_start(p);
    x->max_us = INT64_MIN;
    x->saved_from = x->saved_read = -1;
}

/* Places of partitions from parts_n on. */
static enum err parts_find(struct tform *t, struct errinfo *info)
{
    int32_t n = topic_partitions(t->input), i, first = t->parts_n, known = first;
    char key[TRANSFORM_NAME_MAX + 16];
    int64_t closed;
    struct buf v;
    struct unit u;
    enum err e = ERR_OK;

    t->parts = xrealloc(t->parts, (size_t)n * sizeof *t->parts);
    memset(t->parts + first, 0, (size_t)(n - first) * sizeof *t->parts);
    buf_init(&v, LIMIT_KV_VALUE);
    for (i = first; i < n; i++) {
        struct tpart *p = &t->parts[i];

        snprintf(key, sizeof key, "%s/%" PRId32, t->name, i);
        p->saved_from = -2; /* no place */
        if (kv_get(t->m->conf.broker, TRANSFORM_AT_NS, slice_str(key), &v) ||
            !place_read(t, buf_slice(&v), p, &closed))
            continue;
        known++;
        p->saved_from = p->from;
        p->saved_read = p->read;
        if (closed > t->closed_us)
            t->closed_us = t->saved_closed_us = closed;
    }
    buf_fini(&v);
    for (i = first; i < n; i++) {
        if (t->parts[i].saved_from == -2)
            part_start(t, i, known == 0);
        t->parts[i].upto = t->parts[i].read;
        t->parts[i].seen_ns = io_mono_ns(t->m->io);
    }
    t->parts_n = n;
    if (known == 0 && t->def->latest) { /* what comes from now on, also after a crash */
        unit_init(&u, t);
        e = unit_submit(&u, info);
        unit_fini(&u);
    }
    return e;
}

/* ERR_TOPIC_NOT_FOUND: there is no input. */
static enum err find(struct tform *t, struct errinfo *info)
{
    enum err e = ERR_OK;

    if ((t->input && topic_deleted(t->input)) || (t->output && topic_deleted(t->output)))
        tform_drop(t);
    if (!t->input) {
        tform_drop(t);
        t->input = topic_find(t->m->conf.broker, slice_str(t->def->input));
        if (!t->input)
            return errinfo_set(info, ERR_NOT_FOUND, "there is no topic \"%s\"", t->def->input);
    }
    if (!t->output)
        e = output_find(t, info);
    if (!e && topic_partitions(t->input) > t->parts_n)
        e = parts_find(t, info);
    return e;
}

enum err tform_forget(struct tform *t)
{
    struct broker *b = t->m->conf.broker;
    struct append *a = append_new(b, NULL, NULL);
    char key[TRANSFORM_NAME_MAX + 16], group[TRANSFORM_NAME_MAX + 16];
    struct buf v;
    int32_t i;
    enum err e = ERR_OK;

    buf_init(&v, LIMIT_KV_VALUE);
    for (i = 0; !e; i++) {
        snprintf(key, sizeof key, "%s/%" PRId32, t->name, i);
        if (kv_get(b, TRANSFORM_AT_NS, slice_str(key), &v))
            break;
        e = append_kv(a, TRANSFORM_AT_NS, slice_str(key), SLICE_NULL);
    }
    buf_fini(&v);
    e = e ? e : append_submit_wait(a, NULL);
    append_free(&a);
    snprintf(group, sizeof group, "transform.%s", t->name);
    if (!e)
        (void)group_delete(b, slice_str(group), NULL, NULL, NULL);
    return e;
}

/* ---- how much there is ---- */

/* Takes a piece more of one partition, from the lake if it alone has it; ERR_EOF: there is none. */
static enum err piece_take(struct tform *t, int32_t i, struct plog_read *r, struct errinfo *info)
{
    struct partition *p = topic_partition(t->input, i);
    struct tpart *x = &t->parts[i];
    int64_t end = partition_lso(p), left = t->budget - t->pending;
    int64_t at = x->upto;
    unsigned k;
    enum err e;

    if (at >= end || left <= 0)
        return ERR_EOF;
    e = partition_read_wait(p, &at, left < READ_BYTES ? (size_t)left : READ_BYTES, r, info);
    if (e || r->n == 0)
        return e == ERR_TIER ? e : ERR_EOF;
    for (k = 0; k < r->n && (k == 0 || left > 0); k++) {
        x->upto = r->batch[k].last_offset + 1;
        t->pending += (int64_t)r->batch[k].data.len;
        left -= (int64_t)r->batch[k].data.len;
    }
    if (x->upto > end)
        x->upto = end;
    x->seen_ns = io_mono_ns(t->m->io);
    return ERR_OK;
}

/* Moves on past what was deleted before it was looked at, or looked at again; how much that was. */
static int64_t skip_deleted(struct tform *t)
{
    int64_t lost = 0, start;
    int32_t i;

    for (i = 0; i < t->parts_n; i++) {
        struct tpart *x = &t->parts[i];

        start = partition_start(topic_partition(t->input, i));
        if (x->read < start) {
            lost += transform_windowed(t->def) ? 0 : start - x->read;
            x->read = start;
        }
        if (x->from < start) {
            lost += transform_windowed(t->def) ? start - x->from : 0;
            x->from = start;
        }
        if (x->upto < x->read)
            x->upto = x->read;
    }
    return lost;
}

/* ERR_TIER: what comes next is in the lake, which cannot be read now. */
static enum err plan(struct tform *t, struct errinfo *info)
{
    struct plog_read r;
    bool any = true;
    enum err e = ERR_OK;
    int32_t i;

    memset(&r, 0, sizeof r);
    while (any && !e && t->pending < t->budget)
        for (any = false, i = 0; !e && i < t->parts_n; i++) {
            e = piece_take(t, i, &r, info);
            any |= !e;
            e = e == ERR_EOF ? ERR_OK : e;
        }
    plog_read_release(&r);
    free(r.buf);
    if (t->pending && !t->pending_ns)
        t->pending_ns = io_mono_ns(t->m->io);
    return e;
}

static void plan_undo(struct tform *t)
{
    int32_t i;

    for (i = 0; i < t->parts_n; i++)
        t->parts[i].upto = t->parts[i].read;
    t->pending = 0;
    t->pending_ns = 0;
}

/* Ranges from `from` or `read` to `upto` of the partitions where there is something. */
static unsigned ranges_fill(struct step *s, bool whole)
{
    struct tform *t = s->t;
    unsigned n = 0;
    int32_t i;

    for (i = 0; i < t->parts_n; i++) {
        const struct tpart *p = &t->parts[i];
        int64_t from = whole ? p->from : p->read;

        if (from < p->upto)
            s->ranges[n++] = (struct sql_range){i, from, p->upto};
    }
    return n;
}

/* ---- numbers that our own questions are answered with ---- */

#define NUMBERS_MAX 5u
struct numbers {
    void (*row)(void *arg, const int64_t v[NUMBERS_MAX], const bool null[NUMBERS_MAX]);
    void *arg;
};

static bool numbers_chunk(void *arg, const struct sql_chunk *c)
{
    const struct numbers *x = arg;
    int64_t v[NUMBERS_MAX] = {0};
    bool null[NUMBERS_MAX];
    uint32_t row, i;

    for (row = 0; row < c->rows; row++) {
        for (i = 0; i < NUMBERS_MAX; i++) {
            null[i] = i >= c->columns_n || !sql_valid(&c->column[i], row);
            if (!null[i])
                v[i] = ((const int64_t *)c->column[i].data)[row];
        }
        x->row(x->arg, v, null);
    }
    return true;
}

/* Asks s->text; every row's numbers go to row. */
static enum err numbers_ask(struct step *s, unsigned ranges_n,
                            void (*row)(void *, const int64_t[NUMBERS_MAX],
                                        const bool[NUMBERS_MAX]),
                            void *arg)
{
    struct numbers x = {row, arg};
    const struct ask_rows on = {.chunk = numbers_chunk, .arg = &x};

    return tform_ask(s->t, (const char *)s->text.ptr, s->ranges, ranges_n, &on, &s->error);
}

/* ---- by batch ---- */

static enum err step_batch(struct step *s)
{
    enum err e = transform_statement(s->t->def, INT64_MIN, INT64_MAX, &s->text);
    unsigned n = ranges_fill(s, false);

    if (e)
        return errinfo_set(&s->info, ERR_TOO_LARGE, "the statement is too long");
    return tform_rows(&s->unit, (const char *)s->text.ptr, s->ranges, n, &s->bad, &s->error);
}

/* ---- by window ---- */

struct times {
    struct tform *t;
    int64_t least_us; /* of what is new and not late; INT64_MAX: none */
    int64_t late;     /* or without a time */
};

/* partition, greatest time, strays, first offset of the others, their least time */
static void on_times(void *arg, const int64_t v[NUMBERS_MAX], const bool null[NUMBERS_MAX])
{
    struct times *x = arg;
    struct tpart *p = &x->t->parts[v[0]];

    if (!null[1] && v[1] > p->max_us)
        p->max_us = v[1];
    x->late += v[2];
    if (!null[4] && v[4] < x->least_us)
        x->least_us = v[4];
    if (p->from == p->read) /* nothing before it is open */
        p->open = null[3] ? p->upto : v[3];
}

static void on_stray(void *arg, const int64_t v[NUMBERS_MAX], const bool null[NUMBERS_MAX])
{
    struct step *s = arg;

    strays_add(&s->late, (int32_t)v[0], v[1],
               v[2] ? "late: its window was closed" : "it has no time that can be read");
}

static void on_mark(void *arg, const int64_t v[NUMBERS_MAX], const bool null[NUMBERS_MAX])
{
    int64_t *mark = arg;

    mark[0] = null[0] ? INT64_MIN : v[0];
    mark[1] = null[1] ? INT64_MIN : v[1];
    mark[2] = null[2] ? INT64_MIN : v[2];
}

struct opens {
    struct tform *t;
    int64_t closing; /* records in windows that are to be closed */
};

static void on_open(void *arg, const int64_t v[NUMBERS_MAX], const bool null[NUMBERS_MAX])
{
    struct opens *x = arg;

    if (!null[1])
        x->t->parts[v[0]].open = v[1];
    x->closing += v[2];
}

/* The least of the partitions' greatest times; INT64_MIN: not known. *idle_ns: when a partition that
 * holds it back becomes idle. */
static int64_t watermark(struct tform *t, uint64_t now, uint64_t *idle_ns)
{
    int64_t least = INT64_MAX;
    int32_t i;

    for (i = 0; i < t->parts_n; i++) {
        const struct tpart *p = &t->parts[i];
        uint64_t until = p->seen_ns + (uint64_t)t->def->idle_ms * 1000000u;
        bool behind = p->upto < partition_lso(topic_partition(t->input, i));

        if (p->max_us == INT64_MIN && !behind)
            continue; /* it never had anything */
        if (!behind && until <= now)
            continue;
        if (p->max_us < least)
            least = p->max_us;
        if (!behind && until < *idle_ns)
            *idle_ns = until;
    }
    if (least < INT64_MAX)
        return least;
    for (least = INT64_MIN, i = 0; i < t->parts_n; i++) /* all are idle: nothing to wait for */
        if (t->parts[i].max_us > least)
            least = t->parts[i].max_us;
    return least;
}

static enum err new_records(struct step *s, struct times *x)
{
    struct tform *t = s->t;
    unsigned n = ranges_fill(s, false);
    enum err e;
    int32_t i;

    for (i = 0; i < t->parts_n; i++)
        t->parts[i].open =
            t->parts[i].from == t->parts[i].read ? t->parts[i].upto : t->parts[i].from;
    if (n == 0)
        return ERR_OK;
    e = transform_times(t->def, t->closed_us, &s->text);
    e = e ? e : numbers_ask(s, n, on_times, x);
    if (e || x->late == 0)
        return e;
    e = transform_strays(t->def, t->closed_us, &s->text);
    return e ? e : numbers_ask(s, n, on_stray, s);
}

/* Closes the windows before `to`: their rows, and what is open then. */
static enum err close_windows(struct step *s, int64_t to)
{
    struct tform *t = s->t;
    struct opens x = {.t = t};
    unsigned n = ranges_fill(s, true);
    enum err e;
    int32_t i;

    for (i = 0; i < t->parts_n; i++)
        t->parts[i].open = t->parts[i].upto;
    e = transform_opens(t->def, t->closed_us, to, &s->text);
    e = e ? e : numbers_ask(s, n, on_open, &x);
    if (!e && x.closing && !t->def->update) {
        e = transform_statement(t->def, t->closed_us, to, &s->text);
        e = e ? e
              : tform_rows(&s->unit, (const char *)s->text.ptr, s->ranges, n, &s->bad, &s->error);
    }
    if (!e)
        t->closed_us = to;
    return e;
}

static enum err step_window(struct step *s, uint64_t *idle_ns, bool *closed)
{
    struct tform *t = s->t;
    struct times x = {.t = t, .least_us = INT64_MAX};
    int64_t mark[3] = {INT64_MIN, INT64_MIN, INT64_MIN}, greatest;
    uint64_t now = io_mono_ns(t->m->io);
    enum err e = new_records(s, &x);

    greatest = e ? INT64_MIN : watermark(t, now, idle_ns);
    if (e || greatest == INT64_MIN)
        return e;
    e = transform_mark(t->def, greatest, x.least_us == INT64_MAX ? greatest : x.least_us, &s->text);
    e = e ? e : numbers_ask(s, 0, on_mark, mark);
    if (e)
        return e;
    s->watermark_us = mark[0];
    if (t->def->update && x.least_us != INT64_MAX) {
        e = transform_statement(t->def, mark[2] > t->closed_us ? mark[2] : t->closed_us, INT64_MAX,
                                &s->text);
        e = e ? e
              : tform_rows(&s->unit, (const char *)s->text.ptr, s->ranges, ranges_fill(s, true),
                           &s->bad, &s->error);
    }
    *closed = !e && mark[1] > t->closed_us && now >= t->close_free_ns;
    if (*closed)
        e = close_windows(s, mark[1]);
    else if (!e && mark[1] > t->closed_us && t->close_free_ns < *idle_ns)
        *idle_ns = t->close_free_ns;
    return e;
}

/* ---- the whole ---- */

/* Writes what the step has, and moves on. */
static enum err commit(struct step *s)
{
    struct tform *t = s->t;
    enum err e = unit_dead_letters(&s->unit, &s->bad, &s->info);
    int64_t closed = t->closed_us;
    int32_t i;

    if (!e && !t->def->late_drop)
        e = unit_dead_letters(&s->unit, &s->late, &s->info);
    if (e)
        return e;
    for (i = 0; i < t->parts_n; i++) {
        struct tpart *p = &t->parts[i];

        s->records += p->upto - p->read;
        p->read = p->upto;
        p->from = transform_windowed(t->def) ? p->open : p->upto;
    }
    e = unit_submit(&s->unit, &s->info);
    ASSERT(closed == t->closed_us);
    return e;
}

/* What there is to do now, as far as it can be written: ERR_OK and the next look's time. */
static enum err work(struct step *s, uint64_t *due)
{
    struct tform *t = s->t;
    bool windowed = transform_windowed(t->def), closed = false;
    uint64_t now = io_mono_ns(t->m->io), full_ns, idle_ns = UINT64_MAX;
    enum err e = plan(t, &s->info);

    if (e)
        return e;
    full_ns = t->pending_ns + (uint64_t)t->def->max_ms * 1000000u;
    if (t->pending && t->pending < t->budget && now < full_ns) {
        uint64_t look = (uint64_t)t->def->max_ms * 50000u;

        look = look < LOOK_LEAST_NS ? LOOK_LEAST_NS : look > LOOK_MOST_NS ? LOOK_MOST_NS : look;
        *due = now + look < full_ns ? now + look : full_ns;
        return ERR_OK;
    }
    if (!t->pending && !windowed)
        return ERR_OK;
    s->ranges = xcalloc((size_t)t->parts_n + 1, sizeof *s->ranges);
    e = windowed ? step_window(s, &idle_ns, &closed) : step_batch(s);
    if (!e && (t->pending || closed))
        e = commit(s);
    now = io_mono_ns(t->m->io);
    if (closed)
        t->close_free_ns = now + CLOSE_SHARE * (now - s->began_ns);
    if (!e && t->pending >= t->budget)
        *due = now; /* there may be more */
    else
        *due = idle_ns;
    return e;
}

/* What people see. */
static void tell(struct step *s, enum err e, int64_t lost)
{
    struct tform *t = s->t;
    struct tform_told *o = &t->told;
    const char *why = s->error.code ? s->error.text : s->info.text;
    bool missing = e == ERR_NOT_FOUND && !s->error.code;

    io_mutex_lock(&t->m->lock);
    o->lost += (uint64_t)lost;
    if (t->gone || (e && atomic_load(&t->m->closing))) {
        /* nobody is to know */
    } else if (e) {
        o->errors += !missing;
        o->state = missing ? TFORM_WAITING : TFORM_FAILING;
        snprintf(o->error, sizeof o->error, "%s", *why ? why : err_text(e));
        o->error_ms = io_wall_ms(t->m->io);
    } else if (s->records ||
               !t->pending) { /* else it waits for more, and failed or did not before */
        o->state = TFORM_RUNNING;
        o->error[0] = 0;
        o->steps += s->records > 0;
        o->records_in += (uint64_t)s->records;
        o->rows_out += s->unit.rows;
        o->bytes_out += s->unit.bytes;
        o->dead += s->bad.n;
        o->late += s->late.n;
        if (s->watermark_us != INT64_MIN)
            o->watermark_us = s->watermark_us;
        o->closed_us = t->closed_us;
        if (s->records > 0)
            o->step_ns = io_mono_ns(t->m->io) - s->began_ns;
    }
    io_mutex_unlock(&t->m->lock);
    if (e && !missing && !atomic_load(&t->m->closing))
        LOG(t->m->conf.log, LOG_WARN, "a transform did not get on; it tries again",
            LOG_STR("transform", t->name), LOG_STR("error", *why ? why : err_text(e)));
}

/* After an error: nothing was written, all begins again from the stored places. */
static uint64_t retry(struct step *s, enum err e)
{
    struct tform *t = s->t;
    uint64_t now = io_mono_ns(t->m->io), wait = RETRY_NS;
    int64_t budget = t->budget;
    unsigned i;

    for (i = 0; i < t->fails && wait < RETRY_MOST_NS; i++)
        wait *= 2;
    t->fails++;
    tform_drop(t);
    if (e == ERR_NOT_FOUND && !s->error.code)
        return now + MISSING_NS;
    if ((ask_is_size(&s->error) || e == ERR_LIMIT || e == ERR_TOO_LARGE) &&
        budget > BUDGET_LEAST) { /* with fewer records, if that helps */
        t->budget = budget / 2;
        return now;
    }
    if ((s->error.code == ERR_AGAIN || s->error.code == ERR_OFFSET_RANGE) && t->fails < 8)
        return now; /* a type was learnt; records were deleted meanwhile */
    return now + (wait < RETRY_MOST_NS ? wait : RETRY_MOST_NS);
}

static void step_init(struct step *s, struct tform *t)
{
    memset(s, 0, sizeof *s);
    s->t = t;
    s->began_ns = io_mono_ns(t->m->io);
    s->watermark_us = INT64_MIN;
    unit_init(&s->unit, t);
    buf_init(&s->text, STATEMENT_MAX);
}

static void step_fini(struct step *s)
{
    unit_fini(&s->unit);
    strays_fini(&s->bad);
    strays_fini(&s->late);
    buf_fini(&s->text);
    free(s->ranges);
}

uint64_t tform_step(struct tform *t)
{
    uint64_t due = UINT64_MAX, seen = 0;
    int64_t lost = 0;
    struct step s;
    enum err e;

    waiter_cancel(&t->waiter);
    step_init(&s, t);
    e = find(t, &s.info);
    if (!e) {
        seen = topic_commits(t->input);
        lost = skip_deleted(t);
        e = work(&s, &due);
    }
    tell(&s, e, lost);
    if (e) {
        due = retry(&s, e);
    } else {
        if (s.records || !t->pending)
            t->fails = 0;
        if (s.records) {
            plan_undo(t);
            t->budget = t->def->max_bytes;
        }
        if (due > io_mono_ns(t->m->io) && !t->pending && !topic_wait(t->input, seen, &t->waiter))
            due = io_mono_ns(t->m->io);
    }
    step_fini(&s);
    return due;
}
