/* HTTP/1: any bytes, in one piece and byte by byte; both must show the handler the same requests
 * and get as many bytes of answers (those to what is no request may word the reason differently).
 */
#include "net_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_seen a, b;

    if (size > 20000)
        return 0;
    a = fuzz_run(SLICE_NULL, data, size, size ? size : 1);
    b = fuzz_run(SLICE_NULL, data, size, 1);
    /* HTTP/2 gives its windows and acknowledgements by the piece. */
    if (size >= 3 && memcmp(data, "PRI", 3) == 0)
        return 0;
    ASSERT(a.hash == b.hash && a.requests == b.requests && a.messages == b.messages);
    ASSERT(a.errors == b.errors && (a.errors || a.sent == b.sent || fuzz_by_piece(&a, &b)));
    return 0;
}
