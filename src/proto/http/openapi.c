/* See openapi.h; openapi.S has the bytes. */
#include "proto/http/openapi.h"

extern const uint8_t weir_openapi[] __attribute__((visibility("hidden")));
extern const uint64_t weir_openapi_len __attribute__((visibility("hidden")));

struct slice openapi_document(void)
{
    return slice_of(weir_openapi, weir_openapi_len);
}
