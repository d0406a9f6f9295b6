/* A topic's configuration: names, values, ranges, text. The table is tbl/topic_configs.h. Pure
 * functions, any thread. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "broker/broker_int.h"
#include "journal/compress.h"

enum kind {
    INT,
    LONG,
    RATIO,
    BOOL,
    LEVEL_GZIP, /* INT without 0 */
    WORDS_DURABILITY,
    WORDS_COMPRESSION,
    WORDS_TIMESTAMP,
    WORDS_LAKE_FORMAT,
    WORDS_LAKE_JSONL,
    LIST_CLEANUP,
    LIST_REPLICAS,
    TEXT
};

#define COMPRESSION_PRODUCER     0
#define COMPRESSION_UNCOMPRESSED 5

#define WORDS_MAX 6
static const char *const words[][WORDS_MAX] = {
    [BOOL] = {"false", "true"},
    [WORDS_DURABILITY] = {"fsync", "os"},
    [WORDS_COMPRESSION] = {"producer", "gzip", "snappy", "lz4", "zstd", "uncompressed"},
    [WORDS_TIMESTAMP] = {"CreateTime", "LogAppendTime"},
    [WORDS_LAKE_FORMAT] = {"iceberg", "jsonl"},
    [WORDS_LAKE_JSONL] = {"none", "gzip", "zstd"},
    [LIST_CLEANUP] = {"", "delete", "compact", "compact,delete"},
    [LIST_REPLICAS] = {"", "*"},
};

static const enum topic_conf_type types[] = {
    [INT] = TOPIC_CONF_INT,
    [LONG] = TOPIC_CONF_LONG,
    [RATIO] = TOPIC_CONF_DOUBLE,
    [BOOL] = TOPIC_CONF_BOOLEAN,
    [LEVEL_GZIP] = TOPIC_CONF_INT,
    [WORDS_DURABILITY] = TOPIC_CONF_STRING,
    [WORDS_COMPRESSION] = TOPIC_CONF_STRING,
    [WORDS_TIMESTAMP] = TOPIC_CONF_STRING,
    [WORDS_LAKE_FORMAT] = TOPIC_CONF_STRING,
    [WORDS_LAKE_JSONL] = TOPIC_CONF_STRING,
    [LIST_CLEANUP] = TOPIC_CONF_LIST,
    [LIST_REPLICAS] = TOPIC_CONF_LIST,
    [TEXT] = TOPIC_CONF_STRING,
};

struct row {
    uint8_t code;
    const char *name, *server;
    enum kind kind;
    int64_t least, most, fallback;
    const char *prose;
    const char *text; /* TEXT: the default, */
    size_t at;        /* and where it is in struct topic_conf */
};

static const struct row rows[] = {
#define CONF_ROW(code, name, server, field, kind, least, most, fallback, prose) \
    {code, name, server, kind, least, most, fallback, prose, NULL, 0},
#define CONF_TEXT(code, name, server, field, fallback, prose) \
    {code, name, server, TEXT, 0, 0, 0, prose, fallback, offsetof(struct topic_conf, field)},
#include "broker/tbl/topic_configs.h"
#undef CONF_ROW
#undef CONF_TEXT
};
#define TEXTS  2 /* rows of that kind */
#define PIECE  7u
#define PIECES (TOPIC_CONF_WORD_MAX / PIECE)
#define ROWS   (sizeof rows / sizeof rows[0])
_Static_assert(ROWS + TEXTS * PIECES <= CONF_ITEMS_MAX, "an entry must hold every item");
_Static_assert(ROWS < 64, "topic_conf.given has a bit for each code");
_Static_assert(CONF_ITEMS_MAX * 9 + 300 < ENTRY_SMALL_MAX, "an entry has room for every item");
_Static_assert(ROWS * 72 + TEXTS * TOPIC_CONF_WORD_MAX < TOPIC_CONF_TEXT_MAX,
               "the text has room for every item");
_Static_assert(TOPIC_CONF_WORD_MAX < TOPIC_CONF_VALUE_MAX, "a value has room for text");

#define CONF_TEXT(code, name, server, field, fallback, prose)
static int64_t value_get(const struct topic_conf *c, uint8_t code)
{
    switch (code) {
#define CONF_ROW(code, name, server, field, kind, least, most, fallback, prose) \
    case code:                                                                  \
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
#define CONF_ROW(code, name, server, field, kind, least, most, fallback, prose) \
    case code:                                                                  \
        c->field = (__typeof__(c->field))v;                                     \
        break;
#include "broker/tbl/topic_configs.h"
#undef CONF_ROW
    default:
        break;
    }
}

#undef CONF_TEXT

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

static bool has_words(const struct row *r)
{
    return r->kind == BOOL || (r->kind >= WORDS_DURABILITY && r->kind != TEXT);
}

/* 0.5, 1.0, 0.000000001 */
static void ratio_text(int64_t v, char out[TOPIC_CONF_VALUE_MAX])
{
    size_t n = (size_t)snprintf(out, TOPIC_CONF_VALUE_MAX, "%" PRId64 ".%09" PRId64,
                                v / TOPIC_RATIO_ONE, v % TOPIC_RATIO_ONE);

    while (out[n - 1] == '0' && out[n - 2] != '.')
        out[--n] = 0;
}

static void value_text(const struct row *r, int64_t v, char out[TOPIC_CONF_VALUE_MAX])
{
    if (has_words(r) && v >= 0 && v < WORDS_MAX && words[r->kind][v])
        snprintf(out, TOPIC_CONF_VALUE_MAX, "%s", words[r->kind][v]);
    else if (r->kind == RATIO && v >= 0)
        ratio_text(v, out);
    else
        snprintf(out, TOPIC_CONF_VALUE_MAX, "%" PRId64, v);
}

/* ---- items that are text ---- */

static char *text_at(struct topic_conf *c, const struct row *r)
{
    return (char *)c + r->at;
}

static const char *text_in(const struct topic_conf *c, const struct row *r)
{
    return (const char *)c + r->at;
}

static bool text_ok(struct slice s)
{
    size_t i;

    for (i = 0; i < s.len && s.ptr[i] >= ' ' && s.ptr[i] != 0x7f; i++)
        ;
    return s.len > 0 && i == s.len && s.len <= TOPIC_CONF_WORD_MAX;
}

static void text_put(struct topic_conf *c, const struct row *r, struct slice s)
{
    char *at = text_at(c, r);

    memset(at, 0, TOPIC_CONF_WORD_MAX + 1);
    memcpy(at, s.ptr, s.len);
}

/* A piece in an item's value: its number from 1 on in the first byte, then 7 bytes of the text. */
static void pieces_add(const struct topic_conf *c, const struct row *r, struct conf_items *out)
{
    const char *text = text_in(c, r);
    size_t n = strlen(text), i, k;

    for (i = 0; i * PIECE < n; i++) {
        uint64_t v = i + 1;

        for (k = 0; k < PIECE; k++)
            v = v << 8 | (i * PIECE + k < n ? (uint8_t)text[i * PIECE + k] : 0);
        out->item[out->n++] = (struct conf_item){r->code, (int64_t)v};
    }
}

/* Values without a number are of before: one of these words. */
static enum err piece_take(struct topic_conf *c, const struct row *r, int64_t value)
{
    static const char *const before[] = {"hour(timestamp)", "day(timestamp)",  "month(timestamp)",
                                         "partition",       "bucket[16](key)", "none"};
    uint64_t v = (uint64_t)value, i = v >> 56;
    char *at = text_at(c, r);
    size_t k;

    if (i == 0 && v < sizeof before / sizeof *before) {
        text_put(c, r, slice_str(before[v]));
        return ERR_OK;
    }
    if (i == 0 || i > PIECES)
        return ERR_CORRUPT;
    if (i == 1)
        memset(at, 0, TOPIC_CONF_WORD_MAX + 1);
    for (k = 0; k < PIECE; k++)
        at[(i - 1) * PIECE + k] = (char)(v >> 8 * (PIECE - 1 - k));
    return text_ok(slice_str(at)) ? ERR_OK : ERR_CORRUPT;
}

/* ---- items of either kind ---- */

static uint64_t bit(const struct row *r)
{
    return (uint64_t)1 << r->code;
}

/* Is it what the defaults have, and was not set to that? */
static bool row_default(const struct topic_conf *c, const struct topic_conf *defaults,
                        const struct row *r)
{
    if (c->given & bit(r))
        return false;
    if (r->kind == TEXT)
        return strcmp(text_in(c, r), text_in(defaults, r)) == 0;
    return value_get(c, r->code) == value_get(defaults, r->code);
}

static void row_text(const struct topic_conf *c, const struct row *r,
                     char out[TOPIC_CONF_VALUE_MAX])
{
    if (r->kind == TEXT)
        snprintf(out, TOPIC_CONF_VALUE_MAX, "%s", text_in(c, r));
    else
        value_text(r, value_get(c, r->code), out);
}

void topic_conf_init(struct topic_conf *out)
{
    size_t i;

    memset(out, 0, sizeof *out);
    for (i = 0; i < ROWS; i++)
        if (rows[i].kind == TEXT)
            text_put(out, &rows[i], slice_str(rows[i].text));
        else
            value_put(out, rows[i].code, rows[i].fallback);
}

void topic_conf_default(struct broker *b, struct topic_conf *out)
{
    *out = b->defaults;
}

bool topic_conf_tiered(const struct topic_conf *c)
{
    return c->lake_enable && c->cleanup == TOPIC_CLEANUP_DELETE &&
           (c->local_retention_ms != -2 || c->local_retention_bytes != -2);
}

int topic_conf_codec(const struct topic_conf *c)
{
    bool none =
        c->compression == COMPRESSION_PRODUCER || c->compression == COMPRESSION_UNCOMPRESSED;

    return none ? CODEC_NONE : c->compression;
}

int8_t topic_conf_recode(const struct topic_conf *c)
{
    return c->compression == COMPRESSION_PRODUCER ? -1 : (int8_t)topic_conf_codec(c);
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

/* A decimal number from 0 to 1, also with an exponent, in units of 1/TOPIC_RATIO_ONE; digits below
 * that are cut. */
static bool ratio_parse(struct slice s, int64_t *out)
{
    int64_t v = 0, exp = 0, scale = 9; /* the value is v * 10^(scale - 9) units */
    bool dot = false, digit = false;
    size_t i;

    for (i = 0; i < s.len && (s.ptr[i] == '.' || (s.ptr[i] >= '0' && s.ptr[i] <= '9')); i++) {
        if (s.ptr[i] == '.') {
            if (dot)
                return false;
            dot = true;
            continue;
        }
        digit = true;
        if (v <= INT64_MAX / 100) {
            v = v * 10 + (s.ptr[i] - '0');
            scale -= dot;
        } else {
            scale += !dot;
        }
    }
    if (!digit)
        return false;
    if (i < s.len &&
        ((s.ptr[i] | 32) != 'e' || !number_parse(slice_of(s.ptr + i + 1, s.len - i - 1), &exp) ||
         exp < -99 || exp > 99))
        return false;
    for (scale += exp; scale > 0 && v; scale--)
        if ((v *= 10) > 10 * (int64_t)TOPIC_RATIO_ONE)
            return false;
    for (; scale < 0 && v; scale++)
        v /= 10;
    *out = v;
    return true;
}

/* Words separated by commas; *out has their bits (word i of the row has bit i - 1). */
static bool list_parse(const struct row *r, struct slice s, int64_t *out)
{
    *out = 0;
    while (s.len) {
        const uint8_t *comma = memchr(s.ptr, ',', s.len);
        struct slice word = slice_of(s.ptr, comma ? (size_t)(comma - s.ptr) : s.len);
        int64_t bit;

        s = comma ? slice_of(comma + 1, s.len - word.len - 1) : slice_of(s.ptr, 0);
        word = slice_trim(word, SLICE_LIT(" \t"));
        for (bit = 1; bit <= r->most && !slice_eq_str(word, words[r->kind][bit]); bit *= 2)
            ;
        if (bit > r->most)
            return false;
        *out |= bit;
    }
    return true;
}

static bool word_parse(const struct row *r, struct slice s, int64_t *out)
{
    int64_t v;

    if (r->kind == WORDS_COMPRESSION && slice_eq_str(s, "none"))
        s = slice_str(words[r->kind][COMPRESSION_UNCOMPRESSED]);
    for (v = 0; v < WORDS_MAX && words[r->kind][v]; v++)
        if (s.len == strlen(words[r->kind][v]) &&
            (r->kind == BOOL ? strncasecmp((const char *)s.ptr, words[r->kind][v], s.len) == 0
                             : slice_eq_str(s, words[r->kind][v])))
            break;
    *out = v;
    return v < WORDS_MAX && words[r->kind][v];
}

static bool value_parse(const struct row *r, struct slice s, int64_t *out)
{
    switch (r->kind) {
    case INT:
    case LONG:
    case LEVEL_GZIP:
        return number_parse(s, out);
    case RATIO:
        return ratio_parse(s, out);
    case LIST_CLEANUP:
    case LIST_REPLICAS:
        return list_parse(r, s, out);
    default:
        return word_parse(r, s, out);
    }
}

static bool value_ok(const struct row *r, int64_t v)
{
    return v >= r->least && v <= r->most && (r->kind != LEVEL_GZIP || v != 0);
}

static enum err bad_value(const struct row *r, struct slice value, struct errinfo *info)
{
    char allowed[128];
    size_t n = 0;
    int64_t v;

    if (r->kind == TEXT) {
        snprintf(allowed, sizeof allowed, "text of up to %u characters", TOPIC_CONF_WORD_MAX);
    } else if (r->kind == RATIO) {
        snprintf(allowed, sizeof allowed, "a number from 0 to 1");
    } else if (!has_words(r)) {
        snprintf(allowed, sizeof allowed, "a whole number from %" PRId64 " to %" PRId64 "%s",
                 r->least, r->most, r->kind == LEVEL_GZIP ? ", not 0" : "");
    } else {
        allowed[0] = 0;
        for (v = r->least; v <= r->most && n < sizeof allowed; v++)
            n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", v > r->least ? ", " : "",
                                  words[r->kind][v][0] ? words[r->kind][v] : "nothing");
    }
    return errinfo_set(info, ERR_CONFIG, "%s cannot be \"%.*s\"; allowed: %s", r->name,
                       (int)(value.len < 64 ? value.len : 64), (const char *)value.ptr, allowed);
}

static enum err row_missing(struct slice name, struct errinfo *info)
{
    return errinfo_set(info, ERR_CONFIG, "there is no topic configuration \"%.*s\"",
                       (int)(name.len < 64 ? name.len : 64), (const char *)name.ptr);
}

enum err topic_conf_set(struct topic_conf *c, struct slice name, struct slice value,
                        struct errinfo *info)
{
    const struct row *r = row_by_name(name);
    int64_t v = 0;

    if (!r)
        return row_missing(name, info);
    value = slice_trim(value, SLICE_LIT(" \t"));
    if (r->kind == TEXT) {
        if (!text_ok(value))
            return bad_value(r, value, info);
        text_put(c, r, value);
        c->given |= bit(r);
        return ERR_OK;
    }
    if (!value_parse(r, value, &v) || !value_ok(r, v))
        return bad_value(r, value, info);
    value_put(c, r->code, v);
    c->given |= bit(r);
    return ERR_OK;
}

enum err topic_conf_unset(struct broker *b, struct topic_conf *c, struct slice name,
                          struct errinfo *info)
{
    const struct row *r = row_by_name(name);

    if (!r)
        return row_missing(name, info);
    c->given &= ~bit(r);
    if (r->kind == TEXT)
        text_put(c, r, slice_str(text_in(&b->defaults, r)));
    else
        value_put(c, r->code, value_get(&b->defaults, r->code));
    return ERR_OK;
}

static void item_fill(struct broker *b, const struct topic_conf *c, const struct row *r,
                      struct topic_conf_item *out)
{
    *out = (struct topic_conf_item){.name = r->name,
                                    .server_name = r->server,
                                    .prose = r->prose,
                                    .type = types[r->kind],
                                    .is_default = row_default(c, &b->defaults, r)};
    row_text(c, r, out->value);
    row_text(&b->defaults, r, out->fallback);
}

bool topic_conf_item_at(struct broker *b, const struct topic_conf *c, unsigned i,
                        struct topic_conf_item *out)
{
    if (i < ROWS)
        item_fill(b, c, &rows[i], out);
    return i < ROWS;
}

bool topic_conf_item_find(struct broker *b, const struct topic_conf *c, struct slice name,
                          struct topic_conf_item *out)
{
    const struct row *r = row_by_name(name);

    if (r)
        item_fill(b, c, r, out);
    return r != NULL;
}

void topic_conf_each(struct broker *b, const struct topic_conf *c,
                     void (*fn)(void *arg, const char *name, const char *value, bool is_default,
                                const char *prose),
                     void *arg)
{
    struct topic_conf_item it;
    unsigned i;

    for (i = 0; topic_conf_item_at(b, c, i, &it); i++)
        fn(arg, it.name, it.value, it.is_default, it.prose);
}

enum err topic_conf_check(const struct topic_conf *c, struct errinfo *info)
{
    char text[TOPIC_CONF_VALUE_MAX];
    size_t i;

    for (i = 0; i < ROWS; i++) {
        if (rows[i].kind == TEXT ? !text_ok(slice_str(text_in(c, &rows[i])))
                                 : !value_ok(&rows[i], value_get(c, rows[i].code))) {
            row_text(c, &rows[i], text);
            return bad_value(&rows[i], slice_str(text), info);
        }
    }
    if (c->min_compaction_lag_ms > c->max_compaction_lag_ms)
        return errinfo_set(info, ERR_CONFIG,
                           "min.compaction.lag.ms (%" PRId64
                           ") cannot be more than max.compaction.lag.ms (%" PRId64 ")",
                           c->min_compaction_lag_ms, c->max_compaction_lag_ms);
    return ERR_OK;
}

void topic_conf_diff(const struct topic_conf *defaults, const struct topic_conf *c,
                     struct conf_items *out)
{
    size_t i;

    out->n = 0;
    for (i = 0; i < ROWS; i++) {
        if (row_default(c, defaults, &rows[i]))
            continue;
        if (rows[i].kind == TEXT)
            pieces_add(c, &rows[i], out);
        else
            out->item[out->n++] = (struct conf_item){rows[i].code, value_get(c, rows[i].code)};
    }
}

enum err topic_conf_items(const struct topic_conf *defaults, const struct conf_items *items,
                          struct topic_conf *out)
{
    unsigned i;

    *out = *defaults;
    for (i = 0; i < items->n; i++) {
        const struct row *r = row_by_code(items->item[i].code);

        if (!r || (r->kind == TEXT ? piece_take(out, r, items->item[i].value) != ERR_OK
                                   : !value_ok(r, items->item[i].value)))
            return ERR_CORRUPT;
        out->given |= bit(r);
        if (r->kind == TEXT)
            continue;
        value_put(out, r->code, items->item[i].value);
    }
    return ERR_OK;
}

size_t topic_conf_text(const struct topic_conf *defaults, const struct topic_conf *c,
                       char out[TOPIC_CONF_TEXT_MAX])
{
    char text[TOPIC_CONF_VALUE_MAX];
    size_t i, n = 0;

    out[0] = 0;
    for (i = 0; i < ROWS; i++) {
        if (row_default(c, defaults, &rows[i]))
            continue;
        row_text(c, &rows[i], text);
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
