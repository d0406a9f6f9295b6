/* A topic's configuration: names, values, ranges, text. The table is tbl/topic_configs.h. Pure
 * functions, any thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker_int.h"

enum kind { NUMBER, WORDS_DURABILITY, WORDS_COMPRESSION, WORDS_CLEANUP, WORDS_TIMESTAMP };

#define WORDS_MAX 5
static const char *const words[][WORDS_MAX] = {
    [NUMBER] = {NULL},
    [WORDS_DURABILITY] = {"fsync", "os"},
    [WORDS_COMPRESSION] = {"none", "gzip", "snappy", "lz4", "zstd"},
    [WORDS_CLEANUP] = {"", "delete", "compact", "compact,delete"},
    [WORDS_TIMESTAMP] = {"CreateTime", "LogAppendTime"},
};

struct row {
    uint8_t code;
    const char *name;
    enum kind kind;
    int64_t least, most;
    const char *prose;
};

static const struct row rows[] = {
#define CONF_ROW(code, name, field, kind, least, most, prose) \
    {code, name, kind, least, most, prose},
#include "broker/tbl/topic_configs.h"
#undef CONF_ROW
};
#define ROWS (sizeof rows / sizeof rows[0])
_Static_assert(ROWS <= CONF_ITEMS_MAX, "an entry must be able to hold every item");

static int64_t value_get(const struct topic_conf *c, uint8_t code)
{
    switch (code) {
#define CONF_ROW(code, name, field, kind, least, most, prose) \
    case code:                                                \
        return c->field;
#include "broker/tbl/topic_configs.h"
#undef CONF_ROW
    default:
        return 0;
    }
}

static void value_put(struct topic_conf *c, uint8_t code, int64_t v)
{
    switch (code) {
#define CONF_ROW(code, name, field, kind, least, most, prose) \
    case code:                                                \
        c->field = (__typeof__(c->field))v;                   \
        break;
#include "broker/tbl/topic_configs.h"
#undef CONF_ROW
    default:
        break;
    }
}

static const struct row *row_by_code(uint8_t code)
{
    size_t i;

    for (i = 0; i < ROWS; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

static const struct row *row_by_name(struct slice name)
{
    size_t i;

    for (i = 0; i < ROWS; i++)
        if (slice_eq_str(name, rows[i].name))
            return &rows[i];
    return NULL;
}

#define VALUE_TEXT_MAX 32u

static void value_text(const struct row *r, int64_t v, char out[VALUE_TEXT_MAX])
{
    if (r->kind != NUMBER && v >= 0 && v < WORDS_MAX && words[r->kind][v])
        snprintf(out, VALUE_TEXT_MAX, "%s", words[r->kind][v]);
    else
        snprintf(out, VALUE_TEXT_MAX, "%" PRId64, v);
}

void topic_conf_default(struct broker *b, struct topic_conf *out)
{
    *out = b->defaults;
}

/* Decimal integer, all of the text, in int64's range. */
static bool number_parse(struct slice s, int64_t *out)
{
    uint64_t v = 0, most = (uint64_t)INT64_MAX;
    bool neg = s.len > 0 && s.ptr[0] == '-';
    size_t i = neg;

    if (s.len == i || s.len > 20)
        return false;
    for (; i < s.len; i++) {
        unsigned d = (unsigned)(s.ptr[i] - '0');

        if (s.ptr[i] < '0' || d > 9 || v > (most - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = neg ? -(int64_t)v : (int64_t)v;
    return true;
}

static enum err bad_value(const struct row *r, struct slice value, struct errinfo *info)
{
    char allowed[128];
    size_t n = 0;
    int64_t v;

    if (r->kind == NUMBER) {
        snprintf(allowed, sizeof allowed, "a whole number from %" PRId64 " to %" PRId64, r->least,
                 r->most);
    } else {
        allowed[0] = 0;
        for (v = r->least; v <= r->most && n < sizeof allowed; v++)
            n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", v > r->least ? ", " : "",
                                  words[r->kind][v]);
    }
    return errinfo_set(info, ERR_CONFIG, "%s cannot be \"%.*s\"; allowed: %s", r->name,
                       (int)(value.len < 64 ? value.len : 64), (const char *)value.ptr, allowed);
}

enum err topic_conf_set(struct topic_conf *c, struct slice name, struct slice value,
                        struct errinfo *info)
{
    const struct row *r = row_by_name(name);
    int64_t v = 0;

    if (!r)
        return errinfo_set(info, ERR_CONFIG, "there is no topic configuration \"%.*s\"",
                           (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
    if (r->kind == NUMBER) {
        if (!number_parse(value, &v) || v < r->least || v > r->most)
            return bad_value(r, value, info);
    } else {
        for (v = r->least; v <= r->most && !slice_eq_str(value, words[r->kind][v]); v++)
            ;
        if (v > r->most)
            return bad_value(r, value, info);
    }
    value_put(c, r->code, v);
    return ERR_OK;
}

void topic_conf_each(struct broker *b, const struct topic_conf *c,
                     void (*fn)(void *arg, const char *name, const char *value, bool is_default,
                                const char *prose),
                     void *arg)
{
    char text[VALUE_TEXT_MAX];
    size_t i;

    for (i = 0; i < ROWS; i++) {
        int64_t v = value_get(c, rows[i].code);

        value_text(&rows[i], v, text);
        fn(arg, rows[i].name, text, v == value_get(&b->defaults, rows[i].code), rows[i].prose);
    }
}

enum err topic_conf_check(const struct topic_conf *c, struct errinfo *info)
{
    char text[VALUE_TEXT_MAX];
    size_t i;

    for (i = 0; i < ROWS; i++) {
        int64_t v = value_get(c, rows[i].code);

        if (v < rows[i].least || v > rows[i].most) {
            value_text(&rows[i], v, text);
            return bad_value(&rows[i], slice_str(text), info);
        }
    }
    return ERR_OK;
}

void topic_conf_diff(const struct topic_conf *defaults, const struct topic_conf *c,
                     struct conf_items *out)
{
    size_t i;

    out->n = 0;
    for (i = 0; i < ROWS; i++) {
        int64_t v = value_get(c, rows[i].code);

        if (v != value_get(defaults, rows[i].code))
            out->item[out->n++] = (struct conf_item){rows[i].code, v};
    }
}

enum err topic_conf_items(const struct topic_conf *defaults, const struct conf_items *items,
                          struct topic_conf *out)
{
    unsigned i;

    *out = *defaults;
    for (i = 0; i < items->n; i++) {
        const struct row *r = row_by_code(items->item[i].code);

        if (!r || items->item[i].value < r->least || items->item[i].value > r->most)
            return ERR_CORRUPT;
        value_put(out, r->code, items->item[i].value);
    }
    return ERR_OK;
}

size_t topic_conf_text(const struct topic_conf *defaults, const struct topic_conf *c,
                       char out[TOPIC_CONF_TEXT_MAX])
{
    char text[VALUE_TEXT_MAX];
    size_t i, n = 0;

    out[0] = 0;
    for (i = 0; i < ROWS; i++) {
        int64_t v = value_get(c, rows[i].code);

        if (v == value_get(defaults, rows[i].code))
            continue;
        value_text(&rows[i], v, text);
        n += (size_t)snprintf(out + n, TOPIC_CONF_TEXT_MAX - n, "%s=%s\n", rows[i].name, text);
        ASSERT(n < TOPIC_CONF_TEXT_MAX);
    }
    return n;
}

enum err topic_conf_parse(const struct topic_conf *defaults, struct slice text,
                          struct topic_conf *out, struct errinfo *info)
{
    enum err e = ERR_OK;

    *out = *defaults;
    while (!e && text.len) {
        const uint8_t *nl = memchr(text.ptr, '\n', text.len);
        size_t line = nl ? (size_t)(nl - text.ptr) : text.len;
        const uint8_t *eq = memchr(text.ptr, '=', line);

        if (!eq)
            return errinfo_set(info, ERR_CORRUPT, "checkpoint.db: a topic's conf has no \"=\"");
        e = topic_conf_set(out, slice_of(text.ptr, (size_t)(eq - text.ptr)),
                           slice_of(eq + 1, line - (size_t)(eq + 1 - text.ptr)), info);
        line += nl != NULL;
        text = slice_of(text.ptr + line, text.len - line);
    }
    return e;
}
