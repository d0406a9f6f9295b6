/* Writing flatbuffers. See flat.h. */
#include "rows/flat.h"

#include "base/assert.h"

void flat_init(struct flat *f, struct buf *out)
{
    *f = (struct flat){out, out->len, ERR_OK};
}

static size_t here(const struct flat *f)
{
    return f->out->len - f->base;
}

static void zeros(struct flat *f, size_t n)
{
    if (!f->e && !(f->e = buf_reserve(f->out, n)) && n) {
        memset(f->out->ptr + f->out->len, 0, n);
        f->out->len += n;
    }
}

/* Such that `ahead` bytes further on the position is a multiple of `to`. */
static void align(struct flat *f, size_t to, size_t ahead)
{
    size_t over = (here(f) + ahead) % to;

    zeros(f, over ? to - over : 0);
}

void flat_set(struct flat *f, size_t at, uint64_t v, unsigned bytes)
{
    uint8_t *p;

    if (f->e)
        return;
    ASSERT(at + bytes <= here(f));
    for (p = f->out->ptr + f->base + at; bytes--; v >>= 8)
        *p++ = (uint8_t)v;
}

static void refer(struct flat *f, size_t ref)
{
    if (ref)
        flat_set(f, ref, here(f) - ref, 4);
}

struct flat_table flat_table(struct flat *f, size_t ref, const char *sizes)
{
    struct flat_table t = {0};
    size_t n = strlen(sizes), end = 4, vtable, i;
    uint16_t offset[FLAT_FIELDS_MAX] = {0};

    ASSERT(n <= FLAT_FIELDS_MAX);
    for (i = 0; i < n; i++) {
        size_t size = sizes[i] == 'r' ? 4 : (size_t)(sizes[i] - '0');

        if (!size)
            continue;
        end = (end + size - 1) / size * size;
        offset[i] = (uint16_t)end;
        end += size;
    }
    align(f, 8, 4 + 2 * n); /* the table stands behind its vtable, on a multiple of 8 */
    vtable = here(f);
    zeros(f, 4 + 2 * n);
    refer(f, ref);
    t.at = here(f);
    zeros(f, end);
    flat_set(f, vtable, 4 + 2 * n, 2);
    flat_set(f, vtable + 2, end, 2);
    for (i = 0; i < n; i++) {
        flat_set(f, vtable + 4 + 2 * i, offset[i], 2);
        t.field[i] = offset[i] ? t.at + offset[i] : 0;
    }
    flat_set(f, t.at, t.at - vtable, 4);
    return t;
}

void flat_string(struct flat *f, size_t ref, struct slice s)
{
    align(f, 4, 0);
    refer(f, ref);
    zeros(f, 4);
    flat_set(f, here(f) - 4, s.len, 4);
    if (!f->e && s.len)
        f->e = buf_append_slice(f->out, s);
    zeros(f, 1);
}

size_t flat_vector(struct flat *f, size_t ref, size_t n, unsigned bytes)
{
    size_t at;

    align(f, bytes > 4 ? 8 : 4, 4);
    refer(f, ref);
    at = here(f);
    zeros(f, 4 + n * bytes);
    flat_set(f, at, n, 4);
    return at + 4;
}
