/* docs/openapi.yaml, built into the program. */
#ifndef WEIR_PROTO_HTTP_OPENAPI_H
#define WEIR_PROTO_HTTP_OPENAPI_H

#include "base/slice.h"

struct slice openapi_document(void);

#endif
