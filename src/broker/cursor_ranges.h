/* The window of a cursor: what is known of the records from `start` up to `next`, as ranges of
 * offsets that are alike. Below start all is done; from next on nothing was delivered yet.
 *
 * Invariants: ranges are in order, without gaps, from start to next - 1; neighbours differ; the first
 * is not done. So there are at most 2 x undone + 1 of them. No locks, no clock, no I/O. */
#ifndef WEIR_BROKER_CURSOR_RANGES_H
#define WEIR_BROKER_CURSOR_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum range_state { RANGE_AVAILABLE, RANGE_ACQUIRED, RANGE_DONE };

struct cursor_owner;

struct cursor_range {
    int64_t first, last;
    int64_t at_ms;              /* acquired: end of the lease; available: not before; 0: at once */
    struct cursor_owner *owner; /* acquired: whose; not counted here */
    uint16_t deliveries;        /* begun so far */
    uint16_t saved;             /* as the journal has it */
    uint8_t state;              /* enum range_state */
    bool settling;              /* a change of it is on its way to the journal */
};

struct cursor_ranges {
    struct cursor_range *v;
    uint32_t n, cap;
    int64_t start, next;
    uint64_t undone; /* records of the window that are not done */
};

void cursor_ranges_init(struct cursor_ranges *r, int64_t start);
void cursor_ranges_fini(struct cursor_ranges *r);
/* Index of the range that holds the offset; start <= offset < next. */
uint32_t cursor_ranges_at(const struct cursor_ranges *r, int64_t offset);
/* Everything up to `last` is in the window; what is new is available. */
void cursor_ranges_extend(struct cursor_ranges *r, int64_t last);
/* Cuts, so that exactly the offsets from first to last are in the ranges *from to *to - 1. Both must
 * be in the window. After changing these in place call cursor_ranges_merge with the same numbers. */
void cursor_ranges_cut(struct cursor_ranges *r, int64_t first, int64_t last, uint32_t *from,
                       uint32_t *to);
/* Unites neighbours that are alike again, and moves start over what is done. */
void cursor_ranges_merge(struct cursor_ranges *r, uint32_t from, uint32_t to);
/* The range is done, if it was not. */
void cursor_ranges_finish(struct cursor_ranges *r, struct cursor_range *x);
/* All below `start` is done and forgotten; the window may begin behind next then. */
void cursor_ranges_advance(struct cursor_ranges *r, int64_t start);

#endif
