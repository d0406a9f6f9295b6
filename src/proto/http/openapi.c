/* See openapi.h; openapi.S has the bytes. */
#include "proto/http/openapi.h"

extern const uint8_t weir_openapi_begin[] __attribute__((visibility("hidden")));
extern const uint8_t weir_openapi_end[] __attribute__((visibility("hidden")));

struct slice openapi_document(void)
{
    return slice_of(weir_openapi_begin, (size_t)(weir_openapi_end - weir_openapi_begin));
}
