/* Loads and stores of fixed-width integers in either byte order, at any alignment. Header only. */
#ifndef WEIR_BASE_ENDIAN_H
#define WEIR_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define ENDIAN_FN(order, bits)                                        \
    static inline uint##bits##_t order##bits##_load(const void *p)    \
    {                                                                 \
        uint##bits##_t v;                                             \
        memcpy(&v, p, sizeof v);                                      \
        return order##bits##toh(v);                                   \
    }                                                                 \
    static inline void order##bits##_store(void *p, uint##bits##_t v) \
    {                                                                 \
        v = hto##order##bits(v);                                      \
        memcpy(p, &v, sizeof v);                                      \
    }

ENDIAN_FN(be, 16)
ENDIAN_FN(be, 32)
ENDIAN_FN(be, 64)
ENDIAN_FN(le, 16)
ENDIAN_FN(le, 32)
ENDIAN_FN(le, 64)
#undef ENDIAN_FN

#endif
