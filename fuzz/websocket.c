/* WebSocket: any bytes behind the handshake, in one piece and byte by byte; both must give the same
 * messages, answers and code at the end. */
#include "net_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char upgrade[] =
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct slice first = slice_of(upgrade, sizeof upgrade - 1);
    struct fuzz_seen a, b;

    if (size > 20000)
        return 0;
    a = fuzz_run(first, data, size, size ? size : 1);
    b = fuzz_run(first, data, size, 1);
    ASSERT(a.hash == b.hash && a.messages == b.messages && a.sent == b.sent);
    ASSERT(a.closes == 1 && b.closes == 1 && a.codes == b.codes);
    return 0;
}
