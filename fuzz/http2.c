/* HTTP/2: any bytes behind the preface, in one piece and in small ones. */
#include "net_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
    struct slice first = slice_of(preface, sizeof preface); /* with empty SETTINGS */

    if (size > 20000)
        return 0;
    fuzz_run(first, data, size, size ? size : 1);
    fuzz_run(first, data, size, 7);
    return 0;
}
