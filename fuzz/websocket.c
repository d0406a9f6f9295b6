/* WebSocket: any bytes behind the handshake, in one piece and byte by byte; both must give the same
 * messages and the same code at the end. (Not the same bytes: pongs that wait when a close frame
 * comes are not sent.) */
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
    ASSERT(a.hash == b.hash && a.messages == b.messages);
    ASSERT(a.closes == 1 && b.closes == 1);
    ASSERT(a.codes == b.codes || fuzz_by_piece(&a, &b));
    return 0;
}
