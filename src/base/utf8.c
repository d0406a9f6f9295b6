/* UTF-8 validity. See utf8.h. */
#include "base/utf8.h"

#include "base/endian.h"

static bool cont(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

size_t utf8_next(struct slice s)
{
    const uint8_t *p = s.ptr;

    if (s.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        return s.len >= 2 && cont(p[1]) ? 2 : 0;
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        if (s.len < 3 || !cont(p[1]) || !cont(p[2]) || (p[0] == 0xe0 && p[1] < 0xa0) ||
            (p[0] == 0xed && p[1] > 0x9f))
            return 0;
        return 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if (s.len < 4 || !cont(p[1]) || !cont(p[2]) || !cont(p[3]) ||
            (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
            return 0;
        return 4;
    }
    return 0;
}

bool utf8_valid(struct slice s)
{
    size_t i = 0, n;

    while (i < s.len) {
        if (s.len - i >= 8 && (le64_load(s.ptr + i) & 0x8080808080808080ull) == 0) {
            i += 8;
            continue;
        }
        n = utf8_next(slice_of(s.ptr + i, s.len - i));
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
