/* Logging: events with a level, a sentence and key=value pairs, formatted into a bounded buffer on
 * the stack and handed to the host's sink. Without a sink the library is silent. There is no global
 * log: a `struct log` is passed along. A call site that repeats itself is held back (10 lines in a
 * second), and its next line says how many were left out.
 *
 *     LOG(l, LOG_WARN, "the disk is full", LOG_STR("dir", dir), LOG_U64("free_bytes", n));
 *
 * gives the sink `msg="the disk is full" dir=/var/lib/weir free_bytes=0`. Values that are not plain
 * are quoted with escapes, so a line is one line, whatever a peer sent. Any thread; the sink is
 * called on the caller's thread and must be thread-safe itself. */
#ifndef WEIR_BASE_LOG_H
#define WEIR_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum log_level { LOG_ERROR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };
#define LOG_LINE_MAX       1024u /* bytes of a line; longer ones are cut and end in " ..." */
#define LOG_SITE_BURST     10u   /* lines of one call site in LOG_SITE_WINDOW_MS */
#define LOG_SITE_WINDOW_MS 1000u

struct log {
    /* text: NUL-terminated, without time, level or newline. NULL sink: silent. */
    void (*sink)(void *arg, enum log_level level, const char *text, size_t len);
    void *arg;
    /* Milliseconds that only go forward, to hold back repetition; NULL: nothing is held back. */
    uint64_t (*now_ms)(void *arg);
    enum log_level level; /* least important level that is passed on */
};

enum log_kind { LOG_KIND_NONE = 0, LOG_KIND_STR, LOG_KIND_I64, LOG_KIND_U64, LOG_KIND_HEX };
struct log_field {
    const char *key;
    enum log_kind kind;
    struct slice s;
    uint64_t v;
};
#define LOG_STR(k, str)  ((struct log_field){(k), LOG_KIND_STR, slice_str(str), 0})
#define LOG_SLICE(k, sl) ((struct log_field){(k), LOG_KIND_STR, (sl), 0})
#define LOG_I64(k, n)    ((struct log_field){(k), LOG_KIND_I64, SLICE_NULL, (uint64_t)(int64_t)(n)})
#define LOG_U64(k, n)    ((struct log_field){(k), LOG_KIND_U64, SLICE_NULL, (uint64_t)(n)})
#define LOG_HEX(k, n)    ((struct log_field){(k), LOG_KIND_HEX, SLICE_NULL, (uint64_t)(n)})

/* Of one place in the source; zero at the start. */
struct log_site {
    _Atomic uint64_t window; /* number of the time window, plus 1 */
    _Atomic uint32_t lines, held;
};

static inline bool log_wants(const struct log *l, enum log_level level)
{
    return l && l->sink && level <= l->level;
}
/* site may be NULL (not held back). fields: n of them. */
void log_write(const struct log *l, struct log_site *site, enum log_level level, const char *msg,
               const struct log_field *fields, unsigned n);
/* "error", "warn", "info", "debug". */
const char *log_level_name(enum log_level level);
/* Formats as log_write does; returns the length, less than cap. For sinks and tests. */
size_t log_format(char *out, size_t cap, const char *msg, const struct log_field *fields,
                  unsigned n, uint32_t held);

/* The first field is a placeholder so that there may be none. */
#define LOG(l, lvl, msg, ...)                                            \
    do {                                                                 \
        static struct log_site log_site_;                                \
        if (log_wants((l), (lvl))) {                                     \
            const struct log_field log_fields_[] = {{0}, ##__VA_ARGS__}; \
            log_write((l), &log_site_, (lvl), (msg), log_fields_ + 1,    \
                      sizeof log_fields_ / sizeof log_fields_[0] - 1);   \
        }                                                                \
    } while (0)

#endif
