/* Working straight on a data directory: the same broker as the server's, opened in this process. */
#include "cli/local.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "broker/broker.h"
#include "io/io.h"
#include "proto/http/event.h"
#include "proto/http/render.h"

#define EVENT_MAX (64u << 20)

struct broker *local_open(const struct args *a, bool read_only)
{
    struct broker_conf conf = {.dir = arg_get(a, "data"),
                               .io = io_real(),
                               .threads = true,
                               .read_only = read_only,
                               .topics_auto_create = true};
    struct errinfo info = {0};
    struct broker *b = NULL;
    enum err e = broker_open(&conf, &b, &info);

    if (e)
        fail("%s", info.text[0] ? info.text : err_text(e));
    return b;
}

/* ---- emit ---- */

static enum err write_event(struct broker *b, const struct event *ev, struct append_place *place,
                            struct errinfo *info)
{
    struct append_record r = {.timestamp_ms = ev->timestamp_ms,
                              .key = ev->key,
                              .value = ev->value,
                              .headers = ev->headers,
                              .headers_n = ev->headers_n,
                              .dedup_id = ev->dedup_id};
    struct append_slot slot;
    struct append *ap;
    struct topic *t;
    enum err e;

    e = topic_create_wait(b, ev->topic, 0, NULL, info);
    if (e && e != ERR_TOPIC_EXISTS)
        return e;
    if (!(t = topic_find(b, ev->topic)))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic is gone");
    ap = append_new(b, NULL, NULL);
    e = append_record(ap, t, -1, &r, &slot, info);
    if (!e)
        e = append_submit_wait(ap, info);
    if (!e)
        e = append_place(ap, slot, place);
    append_free(&ap);
    topic_unref(&t);
    return e;
}

int local_emit(const struct args *a, struct slice data)
{
    const char *stream = arg_get(a, "stream"), *id = arg_get(a, "id");
    struct append_place place;
    struct errinfo info = {0};
    struct event_parser *p = xcalloc(1, sizeof *p);
    struct jtext_scan scan;
    struct event ev;
    struct broker *b;
    struct buf text;
    char evt[EVENT_ID_LEN + 1];
    enum err e;
    int rc;

    buf_init(&text, EVENT_MAX + 65536);
    buf_append_str(&text, "{\"type\":");
    json_write_string(&text, slice_str(a->pos[0]));
    if (stream) {
        buf_append_str(&text, ",\"stream\":");
        json_write_string(&text, slice_str(stream));
    }
    if (id) {
        buf_append_str(&text, ",\"id\":");
        json_write_string(&text, slice_str(id));
    }
    if (data.len) {
        buf_append_str(&text, ",\"data\":");
        buf_append_slice(&text, data);
    }
    buf_append_str(&text, "}");
    event_parser_init(p, 64, EVENT_MAX);
    jtext_scan_init(&scan, buf_slice(&text), 64);
    e = event_parse(p, &scan, false, &ev, &info);
    b = e ? NULL : local_open(a, false);
    if (!e && b)
        e = write_event(b, &ev, &place, &info);
    if (e)
        fail("%s", info.text[0] ? info.text : err_text(e));
    if (!e && b) {
        event_id_format(place.position, evt);
        printf("{\"id\":\"%s\",\"stream\":\"%.*s\",\"partition\":%d,\"offset\":%" PRId64
               ",\"position\":%" PRIu64 "%s}\n",
               evt, (int)ev.topic.len, (const char *)ev.topic.ptr, place.partition, place.offset,
               place.position, place.duplicate ? ",\"duplicate\":true" : "");
    }
    rc = !e && b ? EXIT_FINE : EXIT_FAILED;
    broker_close(&b);
    event_parser_fini(p);
    free(p);
    buf_fini(&text);
    return rc;
}

/* ---- read ---- */

/* Is the event's type one of the comma-separated ones? `order.*` is a prefix. */
static bool type_wanted(const char *types, struct slice type)
{
    const char *p = types;

    while (types && *p) {
        size_t n = strcspn(p, ",");

        if (n && p[n - 1] == '*' ? slice_has_prefix(type, slice_of(p, n - 1))
                                 : slice_eq(type, slice_of(p, n)))
            return true;
        p += n + (p[n] == ',');
    }
    return !types;
}

static enum err where(const struct args *a, struct reader_conf *rc, struct errinfo *info)
{
    const char *after = arg_get(a, "after"), *from = arg_get(a, "from");

    if (after) {
        rc->from = READ_FROM_POSITION;
        if (!event_id_parse(slice_str(after), &rc->position))
            return errinfo_set(info, ERR_INVALID, "'%s' is not an event's id", after);
        rc->position++;
    } else if (from && strcmp(from, "LATEST") == 0) {
        rc->from = READ_FROM_END;
    } else if (from && strcmp(from, "TRIM_HORIZON") != 0) {
        rc->from = READ_FROM_TIME;
        if (!time_parse(slice_str(from), &rc->time_ms))
            return errinfo_set(info, ERR_INVALID, "'%s' is not a time such as 2026-01-31T12:00:00Z",
                               from);
    }
    return ERR_OK;
}

static enum err read_all(struct broker *b, const struct args *a, struct reader_conf *rc,
                         bool (*fn)(void *arg, struct slice line), void *arg, struct errinfo *info)
{
    struct reader *r = NULL;
    struct reader_record rec;
    struct buf line;
    bool more = true;
    enum err e = reader_open(b, rc, &r, info);

    buf_init(&line, 2 * EVENT_MAX);
    while (!e && more) {
        e = reader_next(r, &rec, info);
        if (e == ERR_OFFSET_RANGE) {
            e = ERR_OK;
            continue;
        }
        if (e || !type_wanted(arg_get(a, "type"), record_header_find(&rec, "ce_type")))
            continue;
        buf_clear(&line);
        if ((e = buf_reserve(&line, render_event_max(&rec))))
            break;
        line.len = (size_t)(render_event(line.ptr, &rec, RENDER_ONE_LINE) - line.ptr);
        more = fn(arg, buf_slice(&line));
    }
    reader_close(&r);
    buf_fini(&line);
    return e == ERR_AGAIN ? ERR_OK : e;
}

int local_read(const struct args *a, bool (*fn)(void *arg, struct slice line), void *arg)
{
    struct reader_conf rc = {.selector = slice_str(a->pos[0]), .partition = -1};
    struct errinfo info = {0};
    struct broker *b;
    enum err e;

    e = where(a, &rc, &info);
    if (!e && !(b = local_open(a, true)))
        return EXIT_FAILED;
    if (!e) {
        e = read_all(b, a, &rc, fn, arg, &info);
        broker_close(&b);
    }
    if (e)
        fail("%s%s", info.text[0] ? info.text : err_text(e),
             e == ERR_TIER ? "; a server reads them" : "");
    return e ? EXIT_FAILED : EXIT_FINE;
}
