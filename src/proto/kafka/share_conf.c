/* Group configurations: text in, text out. See share_conf.h. */
#include "proto/kafka/share_conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"

void share_conf_default(struct share_conf *c)
{
    memset(c, 0, sizeof *c);
    cursor_conf_default(&c->cursor);
    snprintf(c->reset_text, sizeof c->reset_text, "latest");
    c->renew = true;
    c->streams_session_timeout_ms = c->streams_heartbeat_ms = c->streams_standby_replicas =
        c->streams_initial_delay_ms = c->streams_interval_ms = -1;
}

void share_conf_fill(struct share_conf *c, const struct group_conf *server)
{
    if (c->streams_session_timeout_ms < 0)
        c->streams_session_timeout_ms = server->streams_session_timeout_ms;
    if (c->streams_heartbeat_ms < 0)
        c->streams_heartbeat_ms = server->streams_heartbeat_ms;
    if (c->streams_standby_replicas < 0)
        c->streams_standby_replicas = server->streams_standby_replicas;
    if (c->streams_initial_delay_ms < 0)
        c->streams_initial_delay_ms = server->streams_initial_delay_ms;
    if (c->streams_interval_ms < 0)
        c->streams_interval_ms = server->streams_interval_ms;
}

/* ---- values ---- */

/* A number of digits, with a fraction if `unit` is seconds; as milliseconds. */
static bool number_of(struct slice *s, int64_t unit_ms, int64_t *ms)
{
    int64_t v = 0, scale = unit_ms;
    bool any = false, point = false;

    for (; s->len; s->ptr++, s->len--) {
        if (*s->ptr == '.' && unit_ms == 1000 && any && !point) {
            point = true;
            continue;
        }
        if (*s->ptr < '0' || *s->ptr > '9')
            break;
        any = true;
        if (point) {
            scale /= 10;
            *ms += (*s->ptr - '0') * scale;
        } else if ((v = v * 10 + (*s->ptr - '0')) > 1000000000) {
            return false;
        }
    }
    *ms += v * unit_ms;
    return any;
}

/* ISO 8601, PnDTnHnMn.nS, each part once and in this order. */
static bool duration_of(struct slice s, int64_t *ms)
{
    static const struct {
        char letter;
        bool time;
        int64_t ms;
    } parts[] = {
        {'D', false, 86400000}, {'H', true, 3600000}, {'M', true, 60000}, {'S', true, 1000}};
    bool in_time = false, any = false;
    unsigned i = 0;

    *ms = 0;
    if (s.len < 3 || *s.ptr != 'P')
        return false;
    s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len) {
        struct slice at = s;
        int64_t v = 0;

        if (*s.ptr == 'T' && !in_time) {
            in_time = true;
            s = slice_of(s.ptr + 1, s.len - 1);
            continue;
        }
        while (at.len && ((*at.ptr >= '0' && *at.ptr <= '9') || *at.ptr == '.'))
            at = slice_of(at.ptr + 1, at.len - 1);
        while (i < 4 && (!at.len || parts[i].letter != *at.ptr || parts[i].time != in_time))
            i++;
        if (i == 4 || !number_of(&s, parts[i].ms, &v) || s.ptr != at.ptr)
            return false;
        *ms += v;
        any = true;
        i++;
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    return any;
}

static bool reset_set(struct share_conf *c, struct slice v)
{
    struct slice by = SLICE_LIT("by_duration:");

    if (slice_eq_str(v, "latest"))
        c->reset = SHARE_LATEST;
    else if (slice_eq_str(v, "earliest"))
        c->reset = SHARE_EARLIEST;
    else if (slice_has_prefix(v, by) && v.len < sizeof c->reset_text &&
             duration_of(slice_of(v.ptr + by.len, v.len - by.len), &c->reset_ms))
        c->reset = SHARE_DURATION;
    else
        return false;
    snprintf(c->reset_text, sizeof c->reset_text, "%.*s", (int)v.len, (const char *)v.ptr);
    return true;
}

static bool text_set(struct share_conf *c, struct slice name, struct slice v)
{
    if (slice_eq_str(name, "share.auto.offset.reset"))
        return reset_set(c, v);
    if (slice_eq_str(name, "share.isolation.level")) {
        c->committed = slice_eq_str(v, "read_committed");
        return c->committed || slice_eq_str(v, "read_uncommitted");
    }
    if (v.len && !topic_name_valid(v))
        return false;
    memcpy(c->cursor.dead_letters, v.len ? (const char *)v.ptr : "", v.len);
    c->cursor.dead_letters[v.len] = 0;
    return true;
}

static const char *text_of(const struct share_conf *c, const char *name)
{
    if (strcmp(name, "share.auto.offset.reset") == 0)
        return c->reset_text;
    if (strcmp(name, "share.isolation.level") == 0)
        return c->committed ? "read_committed" : "read_uncommitted";
    return c->cursor.dead_letters;
}

static bool int_set(int32_t *field, struct slice v, int32_t least, int32_t most)
{
    char text[16], *end;
    long n;

    if (v.len == 0 || v.len >= sizeof text)
        return false;
    memcpy(text, v.ptr, v.len);
    text[v.len] = 0;
    n = strtol(text, &end, 10);
    if (*end || n < least || n > most)
        return false;
    *field = (int32_t)n;
    return true;
}

static bool bool_set(bool *field, struct slice v)
{
    *field = slice_eq_str(v, "true");
    return *field || slice_eq_str(v, "false");
}

/* ---- items ---- */

/* False: not a value for it. */
static bool item_set(struct share_conf *c, struct slice name, struct slice v)
{
#define GROUP_INT(item, field, least, most, prose) \
    if (slice_eq_str(name, item))                  \
        return int_set(&c->field, v, least, most);
#define GROUP_BOOL(item, field, prose) \
    if (slice_eq_str(name, item))      \
        return bool_set(&c->field, v);
#define GROUP_TEXT(item, prose)   \
    if (slice_eq_str(name, item)) \
        return text_set(c, name, v);
#include "proto/kafka/tbl/group_configs.h"
#undef GROUP_INT
#undef GROUP_BOOL
#undef GROUP_TEXT
    return false;
}

static bool item_at(const struct share_conf *c, unsigned i, struct share_conf_item *out)
{
    unsigned n = 0;

#define ITEM(item, kind, text, ...)                                  \
    if (i == n++) {                                                  \
        *out = (struct share_conf_item){.name = item, .type = kind}; \
        out->prose = text;                                           \
        snprintf(out->value, sizeof out->value, __VA_ARGS__);        \
        return true;                                                 \
    }
#define GROUP_INT(item, field, least, most, prose) \
    ITEM(item, TOPIC_CONF_INT, prose, "%" PRId32, c->field)
#define GROUP_BOOL(item, field, prose) \
    ITEM(item, TOPIC_CONF_BOOLEAN, prose, "%s", c->field ? "true" : "false")
#define GROUP_TEXT(item, prose) ITEM(item, TOPIC_CONF_STRING, prose, "%s", text_of(c, item))
#include "proto/kafka/tbl/group_configs.h"
#undef GROUP_INT
#undef GROUP_BOOL
#undef GROUP_TEXT
#undef ITEM
    return false;
}

bool share_conf_item_at(const struct share_conf *c, unsigned i, struct share_conf_item *out)
{
    if (!item_at(c, i, out))
        return false;
    ASSERT(i < 8 * sizeof c->set);
    out->is_default = !(c->set >> i & 1);
    return true;
}

/* Item number i is again as if nobody had set it. */
static void item_clear(struct share_conf *c, unsigned i)
{
    struct share_conf d;
    unsigned n = 0;

    share_conf_default(&d);
#define GROUP_INT(item, field, least, most, prose) \
    if (i == n++)                                  \
        c->field = d.field;
#define GROUP_BOOL(item, field, prose) \
    if (i == n++)                      \
        c->field = d.field;
#define GROUP_TEXT(item, prose) \
    if (i == n++)               \
        text_set(c, SLICE_LIT(item), slice_str(text_of(&d, item)));
#include "proto/kafka/tbl/group_configs.h"
#undef GROUP_INT
#undef GROUP_BOOL
#undef GROUP_TEXT
    c->set &= ~(1u << i);
}

/* -1: there is no such item. */
static int item_find(struct slice name)
{
    int n = 0;

#define ITEM(item)                \
    if (slice_eq_str(name, item)) \
        return n;                 \
    n++;
#define GROUP_INT(item, field, least, most, prose) ITEM(item)
#define GROUP_BOOL(item, field, prose)             ITEM(item)
#define GROUP_TEXT(item, prose)                    ITEM(item)
#include "proto/kafka/tbl/group_configs.h"
#undef GROUP_INT
#undef GROUP_BOOL
#undef GROUP_TEXT
#undef ITEM
    return -1;
}

enum err share_conf_set(struct share_conf *c, struct slice name, struct slice value,
                        struct errinfo *info)
{
    int i = item_find(name), len = (int)(name.len < 80 ? name.len : 80);

    if (i < 0)
        return errinfo_set(info, ERR_CONFIG, "Unknown group config name: %.*s", len,
                           (const char *)name.ptr);
    if (slice_is_null(value)) {
        item_clear(c, (unsigned)i);
        return ERR_OK;
    }
    if (!item_set(c, name, value))
        return errinfo_set(info, ERR_CONFIG, "Invalid value %.*s for configuration %.*s",
                           (int)(value.len < 80 ? value.len : 80), (const char *)value.ptr, len,
                           (const char *)name.ptr);
    c->set |= 1u << i;
    return ERR_OK;
}

struct slice share_conf_text(const struct share_conf *c, char out[SHARE_CONF_TEXT_MAX])
{
    struct share_conf_item it;
    size_t n = 0;
    unsigned i;

    for (i = 0; share_conf_item_at(c, i, &it); i++)
        if (!it.is_default)
            n += (size_t)snprintf(out + n, SHARE_CONF_TEXT_MAX - n, "%s=%s\n", it.name, it.value);
    ASSERT(n < SHARE_CONF_TEXT_MAX);
    return slice_of(out, n);
}

void share_conf_get(struct broker *b, struct slice group, struct share_conf *out)
{
    struct slice left, line;
    struct buf text;

    share_conf_default(out);
    buf_init(&text, LIMIT_KV_VALUE);
    if (kv_get(b, GROUP_CONF_NS, group, &text) == ERR_OK) {
        left = buf_slice(&text);
        while (left.len) {
            const uint8_t *end = memchr(left.ptr, '\n', left.len), *eq;

            line = slice_of(left.ptr, end ? (size_t)(end - left.ptr) : left.len);
            left =
                slice_of(left.ptr + line.len + (end != NULL), left.len - line.len - (end != NULL));
            if ((eq = memchr(line.ptr, '=', line.len)))
                share_conf_set(out, slice_of(line.ptr, (size_t)(eq - line.ptr)),
                               slice_of(eq + 1, (size_t)(line.ptr + line.len - eq) - 1), NULL);
        }
    }
    buf_fini(&text);
}
