/* See system.h. Rows are copies: nothing of the broker is held when a statement goes on. */
#include "sql/system.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hex.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "broker/coordinator.h"
#include "broker/group.h"
#include "broker/tier.h"

#define LIST_TOPICS 64u
#define TEXT_MAX    (16u << 20)

/* ---- cells ---- */

void cells_init(struct cells *c, size_t bytes_max)
{
    memset(c, 0, sizeof *c);
    arena_init(&c->arena, 64u << 10, bytes_max);
}

void cells_fini(struct cells *c)
{
    arena_fini(&c->arena);
    free(c->v);
}

static struct cell *cell_add(struct cells *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 256;
        c->v = xrealloc(c->v, c->cap * sizeof *c->v);
    }
    c->v[c->n] = (struct cell){.null = true};
    return &c->v[c->n++];
}

static void put_i64(struct cells *c, int64_t v)
{
    *cell_add(c) = (struct cell){.i64 = v};
}

static void put_null(struct cells *c)
{
    cell_add(c);
}

/* Milliseconds; negative: null. */
static void put_time(struct cells *c, int64_t ms)
{
    if (ms < 0)
        put_null(c);
    else
        put_i64(c, time_us(ms));
}

static void put_text(struct cells *c, struct slice s)
{
    struct cell *x = cell_add(c);

    if (slice_is_null(s))
        return;
    x->text = arena_dup(&c->arena, s.len ? s : SLICE_LIT(""));
    if (s.len == 0)
        x->text = SLICE_LIT("");
    x->null = slice_is_null(x->text);
    c->full = c->full || x->null;
}

/* ---- topics ---- */

static void topics_each(struct plan *p, struct cells *out,
                        void (*fn)(struct plan *p, struct topic *t, struct cells *out))
{
    struct topic *t[LIST_TOPICS];
    char after[256] = "";
    size_t n, i;

    do {
        n = topic_list(p->sql->conf.broker, slice_str(after), NULL, t, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            snprintf(after, sizeof after, "%s", topic_name(t[i]));
            if (!out->full && plan_allowed(p, after))
                fn(p, t[i], out);
            topic_unref(&t[i]);
        }
    } while (n == LIST_TOPICS);
}

static void topic_row(struct plan *p, struct topic *t, struct cells *out)
{
    char id[33];
    struct topic_conf conf;
    struct plog_info now;
    int64_t records = 0, last = -1;
    uint64_t bytes = 0;
    int32_t i, n = topic_partitions(t);

    for (i = 0; i < n; i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &now);
        records += now.end_offset - partition_start(topic_partition(t, i));
        bytes += now.bytes;
        last = now.max_timestamp_ms > last ? now.max_timestamp_ms : last;
    }
    topic_conf_get(t, &conf);
    hex_encode(topic_uuid(t), 16, id);
    put_text(out, slice_str(topic_name(t)));
    put_i64(out, n);
    put_i64(out, records);
    put_i64(out, (int64_t)bytes);
    put_time(out, topic_created_ms(t));
    put_time(out, last);
    put_i64(out, conf.retention_ms);
    put_i64(out, conf.retention_bytes);
    put_text(out, conf.cleanup == TOPIC_CLEANUP_COMPACT  ? SLICE_LIT("compact")
                  : conf.cleanup == TOPIC_CLEANUP_DELETE ? SLICE_LIT("delete")
                                                         : SLICE_LIT("compact,delete"));
    put_text(out, slice_of(id, 32));
}

static const struct system_column topics_columns[] = {
    {"topic", SQL_VARCHAR},           {"partitions", SQL_INTEGER},
    {"records", SQL_BIGINT},          {"bytes", SQL_BIGINT},
    {"created_at", SQL_TIMESTAMP_TZ}, {"last_timestamp", SQL_TIMESTAMP_TZ},
    {"retention_ms", SQL_BIGINT},     {"retention_bytes", SQL_BIGINT},
    {"cleanup_policy", SQL_VARCHAR},  {"topic_id", SQL_VARCHAR}};

static void topics_collect(struct plan *p, struct cells *out)
{
    topics_each(p, out, topic_row);
}

static void partition_rows(struct plan *p, struct topic *t, struct cells *out)
{
    struct plog_info now;
    int32_t i, n = topic_partitions(t);

    for (i = 0; i < n; i++) {
        struct partition *part = topic_partition(t, i);

        plog_info_get(partition_log(part), &now);
        put_text(out, slice_str(topic_name(t)));
        put_i64(out, i);
        put_i64(out, partition_start(part));
        put_i64(out, now.end_offset);
        put_i64(out, partition_lso(part));
        put_i64(out, (int64_t)now.bytes);
        if (now.position_end)
            put_i64(out, (int64_t)now.position_end - 1);
        else
            put_null(out);
        put_time(out, now.max_timestamp_ms);
    }
}

static const struct system_column partitions_columns[] = {
    {"topic", SQL_VARCHAR},         {"partition", SQL_INTEGER},
    {"start_offset", SQL_BIGINT},   {"end_offset", SQL_BIGINT},
    {"stable_offset", SQL_BIGINT},  {"bytes", SQL_BIGINT},
    {"last_position", SQL_UBIGINT}, {"last_timestamp", SQL_TIMESTAMP_TZ}};

static void partitions_collect(struct plan *p, struct cells *out)
{
    topics_each(p, out, partition_rows);
}

/* ---- groups ---- */

struct collecting {
    struct plan *plan;
    struct cells *out;
};

static void offset_row(void *arg, const char *group, struct topic *t, int32_t partition,
                       const struct group_offset *o)
{
    struct collecting *c = arg;

    if (c->out->full || !plan_allowed(c->plan, topic_name(t)))
        return;
    put_text(c->out, slice_str(group));
    put_text(c->out, slice_str(topic_name(t)));
    put_i64(c->out, partition);
    put_i64(c->out, o->offset);
    if (text_valid(o->metadata))
        put_text(c->out, slice_is_null(o->metadata) ? SLICE_LIT("") : o->metadata);
    else
        put_null(c->out);
    put_time(c->out, o->committed_ms);
}

static const struct system_column offsets_columns[] = {
    {"group_id", SQL_VARCHAR}, {"topic", SQL_VARCHAR},    {"partition", SQL_INTEGER},
    {"offset", SQL_BIGINT},    {"metadata", SQL_VARCHAR}, {"committed_at", SQL_TIMESTAMP_TZ}};

static void offsets_collect(struct plan *p, struct cells *out)
{
    struct collecting c = {p, out};

    group_each(p->sql->conf.broker, offset_row, &c);
}

/* [{"member_id":…,"client_id":…,"host":…}, …] */
static enum err members_json(const struct group_description *d, struct buf *b)
{
    enum err e = buf_append_u8(b, '[');
    unsigned i;

    for (i = 0; !e && i < d->members_n; i++) {
        e = buf_append_str(b, i ? ",{\"member_id\":" : "{\"member_id\":");
        if (!e)
            e = json_write_string(b, d->members[i].member_id);
        if (!e)
            e = buf_append_str(b, ",\"client_id\":");
        if (!e)
            e = json_write_string(b, d->members[i].client_id);
        if (!e)
            e = buf_append_str(b, ",\"host\":");
        if (!e)
            e = json_write_string(b, d->members[i].client_host);
        if (!e)
            e = buf_append_u8(b, '}');
    }
    return e ? e : buf_append_u8(b, ']');
}

static void group_row(void *arg, const struct group_listing *g)
{
    struct collecting *c = arg;
    struct broker *b = c->plan->sql->conf.broker;
    struct group_description d;
    struct group_durable known;
    struct buf text;

    if (c->out->full || group_describe(b, g->group, &d))
        return;
    buf_init(&text, TEXT_MAX);
    put_text(c->out, g->group);
    put_i64(c->out, d.generation);
    put_text(c->out, slice_str(group_kind_text(g->kind)));
    put_text(c->out, slice_str(group_state_text(g->state)));
    put_text(c->out, d.protocol);
    if (members_json(&d, &text) == ERR_OK)
        put_text(c->out, buf_slice(&text));
    else
        put_null(c->out);
    put_i64(c->out, d.members_n);
    if (group_durable_get(b, g->group, &known) && known.empty_ms)
        put_time(c->out, known.empty_ms);
    else
        put_null(c->out);
    buf_fini(&text);
    group_description_fini(&d);
}

static const struct system_column groups_columns[] = {
    {"group_id", SQL_VARCHAR},     {"generation", SQL_INTEGER},      {"kind", SQL_VARCHAR},
    {"state", SQL_VARCHAR},        {"protocol", SQL_VARCHAR},        {"members", SQL_VARCHAR},
    {"members_count", SQL_BIGINT}, {"empty_since", SQL_TIMESTAMP_TZ}};

static void groups_collect(struct plan *p, struct cells *out)
{
    struct collecting c = {p, out};
    static const struct group_filter all = {.states_n = 0};

    groups_list(p->sql->conf.broker, &all, group_row, &c);
}

static void text_or_null(struct cells *out, const struct buf *b)
{
    put_text(out, b->len ? buf_slice(b) : SLICE_NULL);
}

static const struct system_column published_columns[] = {
    {"group_id", SQL_VARCHAR}, {"generation", SQL_INTEGER}, {"leader", SQL_VARCHAR},
    {"members", SQL_VARCHAR},  {"assignment", SQL_VARCHAR}, {"updated_at", SQL_TIMESTAMP_TZ}};

static void published_collect(struct plan *p, struct cells *out)
{
    struct group_published g;
    struct buf *b[] = {&g.group, &g.leader, &g.members, &g.assignment};
    char after[LIMIT_GROUP_NAME + 1];
    size_t i, len = 0;

    for (i = 0; i < 4; i++)
        buf_init(b[i], TEXT_MAX);
    while (!out->full && group_published_next(p->sql->conf.broker, slice_of(after, len), &g)) {
        len = g.group.len < sizeof after ? g.group.len : sizeof after;
        memcpy(after, g.group.ptr, len);
        put_text(out, buf_slice(&g.group));
        put_i64(out, g.generation);
        text_or_null(out, &g.leader);
        text_or_null(out, &g.members);
        text_or_null(out, &g.assignment);
        put_time(out, g.updated_ms);
    }
    for (i = 0; i < 4; i++)
        buf_fini(b[i]);
}

/* ---- snapshots ---- */

static bool snapshot_allowed(void *arg, struct slice topic)
{
    const struct plan *p = arg;

    return !p->rq->topic_allowed || p->rq->topic_allowed(p->rq->arg, topic);
}

static void snapshot_row(void *arg, const struct sql_snapshot_row *r)
{
    struct cells *out = arg;

    put_text(out, r->topic);
    put_i64(out, r->snapshot_id);
    if (r->parent_id < 0)
        put_null(out);
    else
        put_i64(out, r->parent_id);
    put_i64(out, r->sequence);
    put_time(out, r->committed_ms);
    put_i64(out, r->schema_id);
    put_text(out, r->operation);
    put_i64(out, r->records);
    put_i64(out, r->files);
    put_i64(out, r->bytes);
    put_text(out, r->summary);
}

static const struct system_column snapshots_columns[] = {{"topic", SQL_VARCHAR},
                                                         {"snapshot_id", SQL_BIGINT},
                                                         {"parent_id", SQL_BIGINT},
                                                         {"sequence", SQL_BIGINT},
                                                         {"committed_at", SQL_TIMESTAMP_TZ},
                                                         {"schema_id", SQL_BIGINT},
                                                         {"operation", SQL_VARCHAR},
                                                         {"records", SQL_BIGINT},
                                                         {"files", SQL_BIGINT},
                                                         {"bytes", SQL_BIGINT},
                                                         {"summary", SQL_VARCHAR}};

static void snapshots_collect(struct plan *p, struct cells *out)
{
    const struct sql_cold *cold = p->sql->conf.cold;

    if (cold && cold->snapshots)
        cold->snapshots(cold->arg, snapshot_allowed, p, snapshot_row, out);
}

/* ---- tables and columns ---- */

static void table_row(struct cells *out, const char *schema, const char *name, const char *type)
{
    put_text(out, SLICE_LIT("weir"));
    put_text(out, slice_str(schema));
    put_text(out, slice_str(name));
    put_text(out, slice_str(type));
    put_text(out, SLICE_LIT("NO"));
}

static void topic_table_row(struct plan *p, struct topic *t, struct cells *out)
{
    table_row(out, "main", topic_name(t), "BASE TABLE");
}

static const struct system_column tables_columns[] = {{"table_catalog", SQL_VARCHAR},
                                                      {"table_schema", SQL_VARCHAR},
                                                      {"table_name", SQL_VARCHAR},
                                                      {"table_type", SQL_VARCHAR},
                                                      {"is_insertable_into", SQL_VARCHAR}};

/* Behind "weir." in a name of a system table; the name itself: it is in the schema main. */
static const char *schema_split(const char *name, const char **rest)
{
    bool own = !strncmp(name, "weir.", 5);

    *rest = own ? name + 5 : name;
    return own ? "weir" : "main";
}

static void tables_collect(struct plan *p, struct cells *out)
{
    const char *name, *schema;
    uint32_t i;

    topics_each(p, out, topic_table_row);
    for (i = 0; i < system_tables_n; i++) {
        schema = schema_split(system_tables[i].name, &name);
        table_row(out, schema, name, "VIEW");
    }
    table_row(out, "main", "stream_messages", "VIEW");
}

static void column_row(struct cells *out, const char *schema, const char *table, const char *column,
                       uint32_t number, const char *type)
{
    put_text(out, SLICE_LIT("weir"));
    put_text(out, slice_str(schema));
    put_text(out, slice_str(table));
    put_text(out, slice_str(column));
    put_i64(out, (int64_t)number + 1);
    put_null(out);
    put_text(out, SLICE_LIT("YES"));
    put_text(out, slice_str(type));
}

static const char *type_name(const struct sql_column *c)
{
    return c->type == SQL_TIMESTAMP_TZ ? "TIMESTAMP WITH TIME ZONE" : column_type_name(c);
}

static void topic_column_rows(struct plan *p, struct topic *t, struct cells *out)
{
    struct sql_column *c;
    uint32_t n, i;

    if (plan_topic_columns(p, t, &c, &n))
        return; /* its lake's metadata cannot be read now: those of others can */
    for (i = 0; i < n; i++)
        column_row(out, "main", topic_name(t), c[i].name, i, type_name(&c[i]));
    columns_free(&c, n);
}

static const struct system_column columns_columns[] = {
    {"table_catalog", SQL_VARCHAR},   {"table_schema", SQL_VARCHAR},
    {"table_name", SQL_VARCHAR},      {"column_name", SQL_VARCHAR},
    {"ordinal_position", SQL_BIGINT}, {"column_default", SQL_VARCHAR},
    {"is_nullable", SQL_VARCHAR},     {"data_type", SQL_VARCHAR}};

static void columns_collect(struct plan *p, struct cells *out)
{
    const struct system_table *t;
    const char *name, *schema;
    uint32_t i, k;

    topics_each(p, out, topic_column_rows);
    for (i = 0; i < system_tables_n; i++) {
        t = &system_tables[i];
        schema = schema_split(t->name, &name);
        for (k = 0; k < t->columns_n; k++) {
            const struct sql_column c = {.type = t->column[k].type};

            column_row(out, schema, name, t->column[k].name, k, type_name(&c));
        }
    }
}

#define TABLE(name, function, x)                                                           \
    {                                                                                      \
        name, function, x##_columns, sizeof x##_columns / sizeof *x##_columns, x##_collect \
    }
const struct system_table system_tables[] = {
    TABLE("weir.topics", "weir_topics", topics),
    TABLE("weir.partitions", "weir_partitions", partitions),
    TABLE("weir.groups", "weir_groups", groups),
    TABLE("weir.snapshots", "weir_snapshots", snapshots),
    TABLE("weir.tables", "weir_tables", tables),
    TABLE("weir.columns", "weir_columns", columns),
    TABLE("stream_offsets", "weir_offsets", offsets),
    TABLE("stream_groups", "weir_published", published),
};
const uint32_t system_tables_n = sizeof system_tables / sizeof *system_tables;
