/* UTF-8 validity (RFC 3629: no surrogates, no overlong forms, up to U+10FFFF). Any thread. */
#ifndef WEIR_BASE_UTF8_H
#define WEIR_BASE_UTF8_H

#include <stdbool.h>

#include "base/slice.h"

bool utf8_valid(struct slice s);
/* Bytes of the valid character at the start of s, 0 if there is none. */
size_t utf8_next(struct slice s);

#endif
