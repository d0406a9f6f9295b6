/* Formatting of log lines and holding back of repetition. See log.h. A line is made on the stack;
 * the counters of a call site are atomics, whose races can at worst let a line more or less
 * through. */
#include "base/log.h"

#include <stdio.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char cut_mark[] = " ...";

struct line {
    char *p;
    size_t len, cap; /* cap: without the room for the cut mark and the NUL */
    bool cut;
};

const char *log_level_name(enum log_level level)
{
    return (unsigned)level < 4 ? level_names[level] : "unknown";
}

static void put(struct line *l, const char *s, size_t n)
{
    if (l->cut || n > l->cap - l->len) {
        l->cut = true;
        return;
    }
    memcpy(l->p + l->len, s, n);
    l->len += n;
}

static bool plain(struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f || s.ptr[i] == '"' || s.ptr[i] == '=' ||
            s.ptr[i] == '\\')
            return false;
    return s.len > 0;
}

/* Bytes from 0x80 on go through as they are (UTF-8 in the terminal or journal); control characters,
 * DEL, quotes and backslashes are escaped. */
static void put_quoted(struct line *l, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    size_t i;

    put(l, "\"", 1);
    for (i = 0; i < s.len && !l->cut; i++) {
        uint8_t c = s.ptr[i];
        char t[4] = {'\\', (char)c, 0, 0};

        if (c == '"' || c == '\\') {
            put(l, t, 2);
        } else if (c < 0x20 || c == 0x7f) {
            t[1] = 'x';
            t[2] = hex[c >> 4];
            t[3] = hex[c & 15];
            put(l, t, 4);
        } else {
            put(l, t + 1, 1);
        }
    }
    put(l, "\"", 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char t[24];
    int n = 0;

    put(l, " ", l->len ? 1 : 0);
    put(l, f->key, strlen(f->key));
    put(l, "=", 1);
    switch (f->kind) {
    case LOG_KIND_NONE:
        return;
    case LOG_KIND_STR:
        if (slice_is_null(f->s))
            put(l, "null", 4);
        else if (plain(f->s))
            put(l, (const char *)f->s.ptr, f->s.len);
        else
            put_quoted(l, f->s);
        return;
    case LOG_KIND_I64:
        n = snprintf(t, sizeof t, "%lld", (long long)(int64_t)f->v);
        break;
    case LOG_KIND_U64:
        n = snprintf(t, sizeof t, "%llu", (unsigned long long)f->v);
        break;
    case LOG_KIND_HEX:
        n = snprintf(t, sizeof t, "%016llx", (unsigned long long)f->v);
        break;
    }
    put(l, t, (size_t)n);
}

size_t log_format(char *out, size_t cap, const char *msg, const struct log_field *fields,
                  unsigned n, uint32_t held)
{
    struct line l = {out, 0, 0, false};
    unsigned i;

    if (cap < sizeof cut_mark) {
        if (cap)
            out[0] = 0;
        return 0;
    }
    l.cap = cap - sizeof cut_mark;
    put_field(&l, &(struct log_field){"msg", LOG_KIND_STR, slice_str(msg), 0});
    for (i = 0; i < n; i++)
        put_field(&l, &fields[i]);
    if (held)
        put_field(&l, &(struct log_field){"held_back", LOG_KIND_U64, SLICE_NULL, held});
    if (l.cut) {
        memcpy(out + l.len, cut_mark, sizeof cut_mark - 1);
        l.len += sizeof cut_mark - 1;
    }
    out[l.len] = 0;
    return l.len;
}

/* Whether the site may write now; *held: lines left out since it last did. */
static bool admitted(const struct log *l, struct log_site *site, uint32_t *held)
{
    uint64_t window, was;

    *held = 0;
    if (!site || !l->now_ms)
        return true;
    window = l->now_ms(l->arg) / LOG_SITE_WINDOW_MS + 1;
    was = atomic_load_explicit(&site->window, memory_order_relaxed);
    if (was != window &&
        atomic_compare_exchange_strong_explicit(&site->window, &was, window, memory_order_relaxed,
                                                memory_order_relaxed))
        atomic_store_explicit(&site->lines, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&site->lines, 1, memory_order_relaxed) >= LOG_SITE_BURST) {
        atomic_fetch_add_explicit(&site->held, 1, memory_order_relaxed);
        return false;
    }
    *held = atomic_exchange_explicit(&site->held, 0, memory_order_relaxed);
    return true;
}

void log_write(const struct log *l, struct log_site *site, enum log_level level, const char *msg,
               const struct log_field *fields, unsigned n)
{
    char text[LOG_LINE_MAX];
    uint32_t held;
    size_t len;

    if (!log_wants(l, level) || !admitted(l, site, &held))
        return;
    len = log_format(text, sizeof text, msg, fields, n, held);
    l->sink(l->arg, level, text, len);
}
