/* A borrowed run of bytes: pointer and length, never owned, never NUL-terminated by promise.
 * Header only; no I/O; any thread. */
#ifndef WEIR_BASE_SLICE_H
#define WEIR_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr; /* may be NULL: "absent" (a null key or value), length 0 */
    size_t len;
};

#define SLICE_NULL ((struct slice){NULL, 0})
/* A string literal as a slice, without its NUL. */
#define SLICE_LIT(s) ((struct slice){(const uint8_t *)("" s), sizeof(s) - 1})

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){(const uint8_t *)ptr, len};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, s ? strlen(s) : 0};
}

static inline bool slice_is_null(struct slice s)
{
    return s.ptr == NULL;
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
    return slice_eq(a, slice_str(s));
}

static inline bool slice_has_prefix(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

/* Without the bytes at both ends that are among `blanks`. */
static inline struct slice slice_trim(struct slice s, struct slice blanks)
{
    while (s.len && memchr(blanks.ptr, *s.ptr, blanks.len))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && memchr(blanks.ptr, s.ptr[s.len - 1], blanks.len))
        s.len--;
    return s;
}

#endif
