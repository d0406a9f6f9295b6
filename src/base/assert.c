/* Where failed assertions end. See assert.h. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_fail(const char *file, int line, const char *expr)
{
    fprintf(stderr, "weir: %s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
