/* What a statement reads: its tables, each with the view of the moment at which it was first
 * mentioned, narrowed to what the statement can want (bounds.c). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/topic_name.h"
#include "broker/tier.h"
#include "sql/sql_int.h"

/* ---- faults ---- */

void fault_clear(struct fault *f)
{
    free(f->message);
    free(f->hint);
    memset(f, 0, sizeof *f);
}

static char *format(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));
static char *format(const char *fmt, va_list ap)
{
    char *out = NULL;

    if (vasprintf(&out, fmt, ap) < 0)
        return xstrdup("out of memory");
    return out;
}

void fault_set(struct fault *f, enum err code, const char *sqlstate, const char *fmt, ...)
{
    va_list ap;
    char *message;

    va_start(ap, fmt);
    message = format(fmt, ap);
    va_end(ap);
    fault_clear(f);
    f->code = code;
    f->message = message;
    snprintf(f->sqlstate, sizeof f->sqlstate, "%s", sqlstate);
}

void fault_hint(struct fault *f, const char *fmt, ...)
{
    va_list ap;

    free(f->hint);
    va_start(ap, fmt);
    f->hint = format(fmt, ap);
    va_end(ap);
}

static const char *sqlstate_of(enum err e)
{
    switch (e) {
    case ERR_FORBIDDEN:
        return "42501";
    case ERR_TOPIC_NOT_FOUND:
        return "42P01";
    case ERR_TIMEOUT:
    case ERR_CANCELLED:
        return "57014";
    case ERR_NO_MEMORY:
        return "53200";
    case ERR_OVERLOADED:
        return "53300";
    case ERR_UNSUPPORTED:
        return "0A000";
    case ERR_INVALID:
        return "22023";
    case ERR_TOO_LARGE:
    case ERR_LIMIT:
        return "54000";
    case ERR_CORRUPT:
    case ERR_IO:
        return "58030";
    default:
        return "XX000";
    }
}

void fault_err(struct fault *f, enum err code, const struct errinfo *info)
{
    fault_set(f, code, sqlstate_of(code), "%s",
              info && info->text[0] ? info->text : err_text(code));
}

void plan_fault(struct plan *p, enum err code, const struct errinfo *info)
{
    io_mutex_lock(&p->lock);
    if (!p->fault.code)
        fault_err(&p->fault, code, info);
    io_mutex_unlock(&p->lock);
}

/* ---- plans ---- */

void plan_init(struct plan *p, struct sql *s, const struct sql_request *rq)
{
    memset(p, 0, sizeof *p);
    p->sql = s;
    p->rq = rq;
    io_mutex_init(&p->lock);
}

static void table_free(struct plan_table *t)
{
    struct sql *s = t->plan->sql;

    if (t->has_cold)
        s->conf.cold->release(s->conf.cold->arg, &t->cold);
    columns_free(&t->columns, t->columns_n);
    if (t->cut.part)
        scan_view_fini(&t->cut);
    if (t->view.part)
        scan_view_fini(&t->view);
    free(t->name);
    free(t);
}

void plan_fini(struct plan *p)
{
    uint32_t i;

    for (i = 0; i < p->tables_n; i++)
        table_free(p->tables[i]);
    for (i = 0; i < p->bounds_n; i++)
        free(p->bounds[i].name);
    free(p->bounds);
    fault_clear(&p->fault);
    io_mutex_fini(&p->lock);
}

bool plan_allowed(const struct plan *p, const char *topic)
{
    return !p->rq->topic_allowed || p->rq->topic_allowed(p->rq->arg, slice_str(topic));
}

struct plan_table *plan_table_new(struct plan *p, const char *name)
{
    struct plan_table *t;

    if (p->tables_n == PLAN_TABLES_MAX) {
        fault_set(&p->fault, ERR_LIMIT, "54000", "a statement reads at most %u topics",
                  PLAN_TABLES_MAX);
        return NULL;
    }
    t = xcalloc(1, sizeof *t);
    t->plan = p;
    t->name = xstrdup(name);
    p->tables[p->tables_n++] = t;
    return t;
}

static const struct plan_bounds *bounds_of(const struct plan *p, const char *name)
{
    uint32_t i;

    for (i = 0; i < p->bounds_n; i++)
        if (!strcmp(p->bounds[i].name, name))
            return &p->bounds[i];
    return NULL;
}

/* ---- tables ---- */

static const struct sql_input *input_find(const struct plan *p, const char *name)
{
    unsigned i;

    for (i = 0; i < p->rq->inputs_n; i++)
        if (p->rq->inputs[i].name.len == strlen(name) &&
            !strncasecmp((const char *)p->rq->inputs[i].name.ptr, name, strlen(name)))
            return &p->rq->inputs[i];
    return NULL;
}

static enum err table_of_input(struct plan *p, const struct sql_input *in, struct plan_table *t)
{
    struct errinfo why;
    enum err e;

    e = scan_view_ranges(&t->view, p->sql->conf.broker, in->topic, in->ranges, in->ranges_n, &why);
    if (!e)
        e = scan_view_cut(&t->view, &scan_unbounded, NULL, NULL, 0, NULL, &t->cut, &why);
    if (e)
        fault_err(&p->fault, e, &why);
    else
        schema_columns(p->sql, &t->view, NULL, p->thoroughly, &t->columns, &t->columns_n,
                       &t->learnt_from);
    return e;
}

static const struct sql_at at_now = {.kind = SQL_AT_NOW};

/* There are no files: then the local log must have all that the topic has. */
static enum err all_is_local(const struct plan_table *t, struct errinfo *why)
{
    struct topic *topic = t->view.topic;
    struct plog_info now;
    int32_t i;

    for (i = 0; i < topic_partitions(topic) && !t->view.older; i++) {
        struct partition *p = topic_partition(topic, i);

        plog_info_get(partition_log(p), &now);
        if (partition_start(p) < now.start_offset)
            return errinfo_set(why, ERR_TIER,
                               "records of \"%s\" partition %d below offset %lld are in the lake "
                               "alone, and its table is not there",
                               topic_name(topic), (int)i, (long long)now.start_offset);
    }
    return ERR_OK;
}

static enum err cold_take(struct plan_table *t, const struct sql_at *at, const struct sql_bounds *b,
                          struct errinfo *why)
{
    const struct sql_cold *cold = t->plan->sql->conf.cold;
    enum err e;

    if (!cold && at->kind == SQL_AT_SNAPSHOT)
        return errinfo_set(why, ERR_UNSUPPORTED, "\"%s\" has no snapshots to look back to",
                           topic_name(t->view.topic));
    if (!cold)
        return all_is_local(t, why);
    e = cold->snapshot(cold->arg, t->view.topic, at->kind == SQL_AT_POSITION ? &at_now : at, b,
                       &t->cold, why);
    if (e == ERR_NOT_FOUND && at->kind != SQL_AT_NOW && at->kind != SQL_AT_SNAPSHOT) {
        struct errinfo other;

        /* No table, or none yet at that time? */
        e = cold->snapshot(cold->arg, t->view.topic, &at_now, b, &t->cold, &other);
        if (!e) {
            cold->release(cold->arg, &t->cold);
            return ERR_NOT_FOUND;
        }
    }
    if (e == ERR_NOT_FOUND && at->kind != SQL_AT_SNAPSHOT)
        return all_is_local(t, why);
    t->has_cold = !e;
    t->view.strict = t->has_cold; /* what is deleted now is in newer files: plan again */
    return e;
}

/* What is seen of the past, where it is no snapshot: up to a record, or a time of records. */
static void past_set(struct plan_table *t, const struct sql_at *at, struct sql_bounds *b)
{
    if (at->kind == SQL_AT_POSITION) {
        t->past = *at;
        if ((uint64_t)at->value < b->position_max)
            b->position_max = (uint64_t)at->value;
    } else if (at->kind == SQL_AT_TIME_MS && !t->has_cold) {
        t->past = *at;
        if (at->value < b->ts_max_ms)
            b->ts_max_ms = at->value;
    }
}

static enum err table_of_topic(struct plan *p, struct topic *topic, const struct plan_bounds *pb,
                               const struct sql_at *at, struct plan_table *t)
{
    struct sql_bounds own = pb ? pb->b : scan_unbounded, *b = &own;
    struct errinfo why;
    enum err e;

    memset(&why, 0, sizeof why);
    /* The log's ends first: the files may have more than that, but nothing between is missing. */
    scan_view_take(&t->view, p->sql->conf.broker, topic);
    e = cold_take(t, at, b, &why);
    past_set(t, at, b);
    if (!e)
        e = scan_view_cut(&t->view, b, t->has_cold ? t->cold.boundary : NULL,
                          t->has_cold ? t->cold.end : NULL, t->has_cold ? t->cold.partitions_n : 0,
                          p->sql->zones, &t->cut, &why);
    if (e) {
        fault_err(&p->fault, e, &why);
        return e;
    }
    schema_columns(p->sql, &t->view, t->has_cold ? &t->cold : NULL, p->thoroughly, &t->columns,
                   &t->columns_n, &t->learnt_from);
    t->learns = true;
    if (t->has_cold && t->cold.files_n == 0) { /* read_parquet wants one at least */
        p->sql->conf.cold->release(p->sql->conf.cold->arg, &t->cold);
        t->has_cold = false;
    }
    return ERR_OK;
}

enum err plan_topic_columns(struct plan *p, struct topic *topic, struct sql_column **out,
                            uint32_t *n)
{
    struct plan_table *t = xcalloc(1, sizeof *t); /* of no statement */
    struct errinfo why;
    enum err e;

    t->plan = p;
    scan_view_take(&t->view, p->sql->conf.broker, topic);
    e = cold_take(t, &at_now, &scan_unbounded, &why);
    if (!e)
        schema_columns(p->sql, &t->view, t->has_cold ? &t->cold : NULL, false, &t->columns,
                       &t->columns_n, &t->learnt_from);
    *out = t->columns;
    *n = t->columns_n;
    t->columns = NULL;
    table_free(t);
    return e;
}

static enum err topic_of(struct plan *p, const char *name, struct topic **out)
{
    *out = NULL;
    if (strlen(name) > TOPIC_NAME_MAX || !topic_name_valid(slice_str(name)))
        return ERR_OK;
    if (!plan_allowed(p, name)) {
        fault_set(&p->fault, ERR_FORBIDDEN, "42501", "these credentials may not read \"%s\"", name);
        return ERR_FORBIDDEN;
    }
    *out = topic_find(p->sql->conf.broker, slice_str(name));
    return ERR_OK;
}

/* orders@v=5 of rewrite.c: the topic's name without it, and what it says. */
static void at_split(const char *name, char topic[TOPIC_NAME_MAX + 64], struct sql_at *at)
{
    const char *sign = strrchr(name, '@');

    *at = (struct sql_at){.kind = SQL_AT_NOW};
    snprintf(topic, TOPIC_NAME_MAX + 64, "%s", name);
    if (!sign || !sign[1] || sign[2] != '=' || sign - name > TOPIC_NAME_MAX ||
        !field_i64(slice_str(sign + 3), &at->value))
        return;
    topic[sign - name] = 0;
    at->kind = sign[1] == 'v'   ? SQL_AT_SNAPSHOT
               : sign[1] == 't' ? SQL_AT_TIME_MS
               : sign[1] == 'p' ? SQL_AT_POSITION
                                : SQL_AT_NOW;
}

enum err plan_table_find(struct plan *p, const char *name, struct plan_table **out, uint32_t *index)
{
    char topic_text[TOPIC_NAME_MAX + 64];
    struct sql_at at;
    const struct sql_input *in = input_find(p, name);
    struct topic *topic = NULL;
    uint32_t i;
    enum err e = ERR_OK;

    *out = NULL;
    for (i = 0; i < p->tables_n; i++) {
        if (!strcmp(p->tables[i]->name, name)) {
            *out = p->tables[i];
            *index = i;
            return ERR_OK;
        }
    }
    at_split(name, topic_text, &at);
    if (!in && (e = topic_of(p, topic_text, &topic)))
        return e;
    if (!in && !topic)
        return ERR_OK;
    *index = p->tables_n;
    *out = plan_table_new(p, name);
    if (!*out)
        e = ERR_LIMIT;
    else
        e = in ? table_of_input(p, in, *out)
               : table_of_topic(p, topic, bounds_of(p, name), &at, *out);
    topic_unref(&topic);
    if (e && *out) { /* nobody finds half of one */
        table_free(*out);
        p->tables_n--;
        *out = NULL;
    }
    return e;
}

/* One topic of stream_messages. */
static enum err member_find(struct plan *p, struct topic *topic, const struct plan_bounds *pb,
                            uint32_t *index)
{
    char name[TOPIC_NAME_MAX + 32];
    struct plan_table *t;

    snprintf(name, sizeof name, "stream_messages/%s", topic_name(topic));
    for (*index = 0; *index < p->tables_n; (*index)++)
        if (!strcmp(p->tables[*index]->name, name))
            return ERR_OK;
    t = plan_table_new(p, name);
    if (t)
        return table_of_topic(p, topic, pb, &at_now, t);
    fault_hint(&p->fault, "name one: WHERE topic = 'orders'");
    return ERR_LIMIT;
}

enum err plan_messages(struct plan *p, enum err (*fn)(void *arg, struct plan_table *t, uint32_t i),
                       void *arg)
{
    const struct plan_bounds *pb = bounds_of(p, "stream_messages");
    struct topic *t[64];
    char after[TOPIC_NAME_MAX + 1] = "";
    size_t n, i;
    uint32_t index;
    enum err e = ERR_OK;

    do {
        n = topic_list(p->sql->conf.broker, slice_str(after), NULL, t, 64);
        for (i = 0; i < n; i++) {
            snprintf(after, sizeof after, "%s", topic_name(t[i]));
            if (!e && (!pb || !*pb->topic || !strcmp(pb->topic, after)) && plan_allowed(p, after)) {
                e = member_find(p, t[i], pb, &index);
                if (!e)
                    e = fn(arg, p->tables[index], index);
            }
            topic_unref(&t[i]);
        }
    } while (n == 64 && !e);
    return e;
}

enum err plan_scan_open(struct plan *p, const char *name, const struct sql_bounds *b,
                        struct plan_table **out)
{
    struct errinfo why;
    struct topic *topic;
    struct plan_table *t;
    enum err e = topic_of(p, name, &topic);

    if (!e && !topic) {
        fault_set(&p->fault, ERR_SQL, "42P01", "there is no topic \"%.*s\"", TOPIC_NAME_MAX, name);
        e = ERR_SQL;
    }
    if (e)
        return e;
    t = plan_table_new(p, ""); /* no name finds it */
    if (t) {
        scan_view_take(&t->view, p->sql->conf.broker, topic);
        e = scan_view_cut(&t->view, b, NULL, NULL, 0, p->sql->zones, &t->cut, &why);
        if (e)
            fault_err(&p->fault, e, &why);
        t->columns = columns_record(true, &t->columns_n);
        t->learnt_from = t->columns_n;
    }
    topic_unref(&topic);
    *out = t;
    return t ? e : ERR_LIMIT;
}

/* ---- what may have been meant ---- */

/* Edits from one to the other, at most `most`; in any case. */
static unsigned distance(const char *a, const char *b, unsigned most)
{
    unsigned row[128], la = (unsigned)strlen(a), lb = (unsigned)strlen(b), i, k, diag, up;

    if (la > 120 || lb > 120 || la > lb + most || lb > la + most)
        return most + 1;
    for (k = 0; k <= lb; k++)
        row[k] = k;
    for (i = 1; i <= la; i++) {
        diag = row[0];
        row[0] = i;
        for (k = 1; k <= lb; k++) {
            up = row[k];
            row[k] = diag + ((a[i - 1] | 32) != (b[k - 1] | 32));
            if (up + 1 < row[k])
                row[k] = up + 1;
            if (row[k - 1] + 1 < row[k])
                row[k] = row[k - 1] + 1;
            diag = up;
        }
    }
    return row[lb];
}

#define NEAR_MAX 3u
struct near {
    const char *want;
    char name[NEAR_MAX][TOPIC_NAME_MAX + 40];
    unsigned d[NEAR_MAX], n;
};

static void near_offer(struct near *x, const char *name)
{
    unsigned most = (unsigned)strlen(x->want) / 3 + 1, d = distance(x->want, name, most), i, k;

    if (strcasestr(name, x->want) && strlen(x->want) > 2 && d > 1)
        d = 1; /* part of it: "orders" of "shop.orders" */
    if (d > most)
        return;
    for (i = 0; i < x->n && x->d[i] <= d; i++)
        ;
    if (i == NEAR_MAX)
        return;
    for (k = x->n < NEAR_MAX ? x->n : NEAR_MAX - 1; k > i; k--) {
        x->d[k] = x->d[k - 1];
        memcpy(x->name[k], x->name[k - 1], sizeof x->name[k]);
    }
    x->d[i] = d;
    snprintf(x->name[i], sizeof x->name[i], "%s", name);
    if (x->n < NEAR_MAX)
        x->n++;
}

static void near_text(const struct near *x, char *out, size_t cap)
{
    size_t n = 0;
    unsigned i;

    out[0] = 0;
    for (i = 0; i < x->n && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s\"%s\"", i ? ", " : "", x->name[i]);
}

void plan_near(struct plan *p, const char *name, char *out, size_t cap)
{
    struct near x = {.want = name};
    struct topic *t[64];
    char after[TOPIC_NAME_MAX + 1] = "";
    size_t n, i, looked = 0;

    do {
        n = topic_list(p->sql->conf.broker, slice_str(after), NULL, t, 64);
        for (i = 0; i < n; i++) {
            if (plan_allowed(p, topic_name(t[i])))
                near_offer(&x, topic_name(t[i]));
            snprintf(after, sizeof after, "%s", topic_name(t[i]));
            topic_unref(&t[i]);
        }
        looked += n;
    } while (n == 64 && looked < LIMIT_SQL_TOPICS);
    near_text(&x, out, cap);
}

void plan_near_columns(struct plan *p, const char *name, char *out, size_t cap)
{
    struct near x = {.want = name};
    uint32_t i, c;

    for (i = 0; i < p->tables_n; i++)
        for (c = 0; c < p->tables[i]->columns_n; c++)
            if (strlen(p->tables[i]->columns[c].name) < sizeof x.name[0])
                near_offer(&x, p->tables[i]->columns[c].name);
    near_text(&x, out, cap);
}
