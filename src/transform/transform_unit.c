/* What one step writes, as one atomic append: rows as JSON records, dead letters, and the places at
 * which the next step begins. Worker thread; the rows come on sql's, while the worker waits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "broker/tier.h"
#include "journal/batch.h"
#include "transform/transform_int.h"

#define OWN 5u /* headers of ours in a dead letter */

/* ---- strays ---- */

void strays_add(struct strays *s, int32_t partition, int64_t offset, const char *why)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->v = xrealloc(s->v, s->cap * sizeof *s->v);
    }
    s->v[s->n++] = (struct stray){partition, offset, xstrdup(why)};
}

void strays_fini(struct strays *s)
{
    uint32_t i;

    for (i = 0; i < s->n; i++)
        free(s->v[i].why);
    free(s->v);
    memset(s, 0, sizeof *s);
}

/* ---- rows ---- */

void unit_init(struct unit *u, struct tform *t)
{
    memset(u, 0, sizeof *u);
    u->t = t;
    u->a = append_new(t->m->conf.broker, NULL, NULL);
    rows_writer_init(&u->w, ROWS_NDJSON);
    buf_init(&u->line, LIMIT_APPEND_BYTES);
    buf_init(&u->key, LIMIT_APPEND_BYTES);
}

void unit_fini(struct unit *u)
{
    append_free(&u->a);
    rows_writer_fini(&u->w);
    buf_fini(&u->line);
    buf_fini(&u->key);
}

void unit_reset(struct unit *u)
{
    struct tform *t = u->t;

    unit_fini(u);
    unit_init(u, t);
}

bool unit_columns(void *arg, const struct sql_columns *c)
{
    struct unit *u = arg;
    const char *key = u->t->def->key;

    rows_writer_fini(&u->w);
    rows_writer_init(&u->w, ROWS_NDJSON);
    u->columns = c;
    for (u->key_column = 0; *key && u->key_column < c->n; u->key_column++)
        if (!strcasecmp(c->name[u->key_column], key))
            break;
    if (!*key)
        u->key_column = UINT32_MAX;
    else if (u->key_column == c->n)
        u->e =
            errinfo_set(&u->info, ERR_SQL, "the statement has no column \"%s\" for the key", key);
    u->e = u->e ? u->e : rows_begin(&u->w, NULL, c, &u->line, &u->info);
    return !u->e;
}

static enum err row_add(struct unit *u, const struct sql_chunk *c, uint32_t row)
{
    struct append_record r = {.timestamp_ms = -1};
    struct append_slot slot;
    enum err e;

    buf_clear(&u->line);
    buf_clear(&u->key);
    e = rows_some(&u->w, c, row, row + 1, &u->line);
    if (!e && u->key_column < c->columns_n && sql_valid(&c->column[u->key_column], row)) {
        e = sql_value_text(&c->column[u->key_column], row, &u->key);
        r.key = slice_of(u->key.ptr ? u->key.ptr : (const uint8_t *)"", u->key.len);
    }
    if (e)
        return errinfo_set(&u->info, ERR_LIMIT, "a row is larger than a record may be");
    r.value = slice_of(u->line.ptr, u->line.len - 1); /* without the line's end */
    e = append_record(u->a, u->t->output, -1, &r, &slot, &u->info);
    u->rows += !e;
    u->bytes += e ? 0 : r.value.len;
    return e;
}

bool unit_chunk(void *arg, const struct sql_chunk *c)
{
    struct unit *u = arg;
    uint32_t i;

    for (i = 0; i < c->rows && !u->e; i++)
        u->e = row_add(u, c, i);
    return !u->e;
}

/* ---- dead letters: headers as those of cursors' (broker/cursor_dead.c) ---- */

static enum err dead_topic(struct tform *t, struct errinfo *info)
{
    struct broker *b = t->m->conf.broker;
    struct slice name = slice_str(t->def->dead_letters);
    enum err e;

    if (t->dead_topic && topic_deleted(t->dead_topic))
        topic_unref(&t->dead_topic);
    if (!t->dead_topic)
        t->dead_topic = topic_find(b, name);
    if (t->dead_topic)
        return ERR_OK;
    e = topic_create_wait(b, name, 0, NULL, info);
    if (e && e != ERR_TOPIC_EXISTS)
        return e;
    t->dead_topic = topic_find(b, name);
    return t->dead_topic
               ? ERR_OK
               : errinfo_set(info, ERR_TOPIC_NOT_FOUND, "\"%s\" was deleted", t->def->dead_letters);
}

static enum err dead_add(struct unit *u, const struct stray *s, const struct reader_record *rec,
                         struct errinfo *info)
{
    struct record_header *h = xcalloc(LIMIT_RECORD_HEADERS, sizeof *h);
    char partition[12], offset[24], group[TRANSFORM_NAME_MAX + 16];
    struct append_record r = {
        .timestamp_ms = -1, .key = rec->key, .value = rec->value, .headers = h};
    struct append_slot slot;
    unsigned n = rec->headers_n;
    enum err e;

    snprintf(partition, sizeof partition, "%" PRId32, s->partition);
    snprintf(offset, sizeof offset, "%" PRId64, s->offset);
    snprintf(group, sizeof group, "transform.%s", u->t->name);
    h[0] = (struct record_header){SLICE_LIT("__dlq.errors.topic"), slice_str(u->t->def->input)};
    h[1] = (struct record_header){SLICE_LIT("__dlq.errors.partition"), slice_str(partition)};
    h[2] = (struct record_header){SLICE_LIT("__dlq.errors.offset"), slice_str(offset)};
    h[3] = (struct record_header){SLICE_LIT("__dlq.errors.group"), slice_str(group)};
    h[4] = (struct record_header){SLICE_LIT("__dlq.errors.message"), slice_str(s->why)};
    if (n > LIMIT_RECORD_HEADERS - OWN)
        n = LIMIT_RECORD_HEADERS - OWN;
    if (n)
        memcpy(h + OWN, rec->headers, n * sizeof *h);
    r.headers_n = OWN + n;
    e = append_record(u->a, u->t->dead_topic, -1, &r, &slot, info);
    if (e == ERR_TOO_LARGE || e == ERR_RECORD) { /* where it was tells it, too */
        r.headers_n = OWN;
        r.value = SLICE_NULL;
        r.key = slice_str(offset);
        e = append_record(u->a, u->t->dead_topic, -1, &r, &slot, info);
    }
    free(h);
    return e;
}

/* Waits for what is read from the lake. */
static enum err next_wait(struct reader *r, struct reader_record *rec, struct errinfo *info)
{
    enum err e;

    while ((e = reader_next(r, rec, info)) == ERR_AGAIN && reader_fetching(r))
        reader_block(r, 1000);
    return e;
}

enum err unit_dead_letters(struct unit *u, const struct strays *s, struct errinfo *info)
{
    struct reader_conf rc = {.selector = slice_str(u->t->def->input), .from = READ_FROM_OFFSET};
    struct reader_record rec;
    struct reader *r = NULL;
    enum err e = s->n ? dead_topic(u->t, info) : ERR_OK;
    uint32_t i;

    for (i = 0; i < s->n && !e; i++) {
        if (!r || rc.partition != s->v[i].partition || rec.offset >= s->v[i].offset) {
            reader_close(&r);
            rc.partition = s->v[i].partition;
            rc.offset = s->v[i].offset;
            rec.offset = -1;
            if ((e = reader_open(u->t->m->conf.broker, &rc, &r, info)))
                break;
        }
        while (!(e = next_wait(r, &rec, info)) && rec.offset < s->v[i].offset)
            ;
        if (!e && rec.offset == s->v[i].offset)
            e = dead_add(u, &s->v[i], &rec, info);
        else if (e == ERR_OFFSET_RANGE || e == ERR_AGAIN) /* deleted meanwhile */
            e = ERR_OK, reader_close(&r);
    }
    reader_close(&r);
    return e;
}

/* ---- places ---- */

/* Text of one partition's place: the input topic's id, then numbers. */
static size_t place_write(const struct tform *t, const struct tpart *p, char out[TFORM_PLACE_MAX])
{
    char uuid[33];

    hex_encode(topic_uuid(t->input), 16, uuid);
    uuid[32] = 0;
    return (size_t)snprintf(out, TFORM_PLACE_MAX, "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
                            uuid, p->from, p->read, p->max_us, t->closed_us);
}

bool place_read(const struct tform *t, struct slice value, struct tpart *p, int64_t *closed_us)
{
    char text[TFORM_PLACE_MAX], uuid[33], have[33];

    if (value.len == 0 || value.len >= sizeof text)
        return false;
    memcpy(text, value.ptr, value.len);
    text[value.len] = 0;
    if (sscanf(text, "%32s %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64, uuid, &p->from, &p->read,
               &p->max_us, closed_us) != 5)
        return false;
    hex_encode(topic_uuid(t->input), 16, have);
    have[32] = 0;
    return strcmp(uuid, have) == 0;
}

static enum err place_add(struct unit *u, int32_t i, struct errinfo *info)
{
    char key[TRANSFORM_NAME_MAX + 16], group[TRANSFORM_NAME_MAX + 16], value[TFORM_PLACE_MAX];
    struct tform *t = u->t;
    const struct tpart *p = &t->parts[i];
    int64_t at = transform_windowed(t->def) ? p->from : p->read;
    size_t n = place_write(t, p, value);
    enum err e;

    snprintf(key, sizeof key, "%s/%" PRId32, t->name, i);
    snprintf(group, sizeof group, "transform.%s", t->name);
    e = append_kv(u->a, TRANSFORM_AT_NS, slice_str(key), slice_of(value, n));
    if (!e)
        e = append_offset(u->a, slice_str(group), topic_partition(t->input, i), at, SLICE_NULL);
    return e ? errinfo_set(info, e, "the place could not be stored") : ERR_OK;
}

enum err unit_submit(struct unit *u, struct errinfo *info)
{
    struct tform *t = u->t;
    bool all = t->closed_us != t->saved_closed_us;
    enum err e = ERR_OK;
    int32_t i;

    for (i = 0; i < t->parts_n && !e; i++)
        if (all || t->parts[i].read != t->parts[i].saved_read ||
            t->parts[i].from != t->parts[i].saved_from)
            e = place_add(u, i, info);
    e = e ? e : append_submit_wait(u->a, info);
    if (e)
        return e;
    t->saved_closed_us = t->closed_us;
    for (i = 0; i < t->parts_n; i++) {
        t->parts[i].saved_from = t->parts[i].from;
        t->parts[i].saved_read = t->parts[i].read;
    }
    return ERR_OK;
}
