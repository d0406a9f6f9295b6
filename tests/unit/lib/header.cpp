/* The header from C++: every type is complete enough to be used, and calls link without mangling. */
#include <weir.h>

#include <cstdio>
#include <cstring>

static weir_verdict keep(void *, weir_change *, char *)
{
    return WEIR_KEEP;
}

int main()
{
    weir_bridge_options bridge = {};
    weir_stream_options stream = {};
    weir_options options = {};
    weir_bridge *b = nullptr;
    weir_stream *s = nullptr;
    weir_subscription *sub = nullptr;
    weir_error error;

    bridge.size = sizeof bridge;
    bridge.transform = keep;
    stream.size = sizeof stream;
    options.size = sizeof options;
    options.lake = true;
    weir_unsubscribe(&sub);
    if (weir_bridge_close(&b, &error) || weir_stream_close(&s, &error))
        return 1;
    std::printf("%s\n", weir_version());
    return std::strcmp(weir_err_name(WEIR_ERR_LOCKED), "locked");
}
