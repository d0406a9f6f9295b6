/* Fuzzing of the reader of S3's XML answers. Checked beside the sanitizers: paths and texts are
 * within their limits; what is escaped reads as what it was. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "lake/store_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    unsigned n;
    struct slice want; /* NULL: anything */
};

static void element(void *arg, const char *path, struct slice text)
{
    struct seen *s = arg;

    s->n++;
    ASSERT(strlen(path) < 512 && text.len <= 65536);
    if (s->want.ptr)
        ASSERT(!strcmp(path, "a") && slice_eq(text, s->want));
}

/* Text without what XML cannot say (control characters), and without line ends, which it changes. */
static bool plain(struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        if (s.ptr[i] < 0x20 || s.ptr[i] >= 0x7f)
            return false;
    return s.len > 0 && s.len < 60000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen s = {0, SLICE_NULL};
    struct slice in = slice_of(data, size);
    struct buf doc;

    (void)store_xml_each(in, element, &s);
    if (!plain(in))
        return 0;
    buf_init(&doc, 1u << 20);
    ASSERT(!buf_append_str(&doc, "<a>") && !store_xml_escape(&doc, in) &&
           !buf_append_str(&doc, "</a>"));
    s = (struct seen){0, in};
    ASSERT(!store_xml_each(buf_slice(&doc), element, &s) && s.n == 1);
    buf_fini(&doc);
    return 0;
}
