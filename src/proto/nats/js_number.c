/* See js_number.h. */
#include "proto/nats/js_number.h"

#include <stdlib.h>

struct number {
    const uint8_t *digit; /* the first is not 0 */
    size_t n;
    bool negative;
};

static struct number number_of(struct slice s)
{
    struct number v = {s.ptr, s.len, false};

    if (v.n && (*v.digit == '-' || *v.digit == '+')) {
        v.negative = *v.digit == '-';
        v.digit++;
        v.n--;
    }
    while (v.n && *v.digit == '0') {
        v.digit++;
        v.n--;
    }
    return v;
}

bool jnumber_valid(struct slice s)
{
    size_t i = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+'), from = i;

    for (; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > from && s.len - from <= JNUMBER_MAX;
}

/* The i-th from the end. */
static int digit(const struct number *v, size_t i)
{
    return i < v->n ? v->digit[v->n - 1 - i] - '0' : 0;
}

static bool less(const struct number *a, const struct number *b)
{
    return a->n != b->n ? a->n < b->n : a->n && memcmp(a->digit, b->digit, a->n) < 0;
}

/* |a| + |b|, or |a| - |b| where a is not less; into the n bytes before end, how many there are. */
static size_t digits(const struct number *a, const struct number *b, bool minus, uint8_t *end,
                     size_t n)
{
    size_t i, used = 0;
    int carry = 0, d;

    for (i = 0; i < n; i++) {
        d = digit(a, i) + (minus ? -digit(b, i) : digit(b, i)) + carry;
        carry = d < 0 ? -1 : d > 9;
        d -= carry * 10;
        *--end = (uint8_t)('0' + d);
        if (d)
            used = i + 1;
    }
    return used;
}

void jnumber_add(struct slice as, struct slice bs, bool minus, struct buf *out)
{
    struct number a = number_of(as), b = number_of(bs), larger = a;
    size_t n = (a.n > b.n ? a.n : b.n) + 1, used;
    uint8_t *end;

    if (minus)
        b.negative = !b.negative;
    if (less(&a, &b))
        larger = b;
    if (buf_reserve(out, n + 1))
        abort(); /* no memory */
    end = out->ptr + out->len + 1 + n;
    used = digits(&larger, less(&a, &b) ? &a : &b, a.negative != b.negative, end, n);
    if (!used) {
        buf_append_u8(out, '0');
        return;
    }
    if (larger.negative)
        out->ptr[out->len++] = '-';
    memmove(out->ptr + out->len, end - used, used);
    out->len += used;
}
