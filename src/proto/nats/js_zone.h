/* Time zones by name, of the machine's tz database; each is read once. Any thread. */
#ifndef WEIR_PROTO_NATS_JS_ZONE_H
#define WEIR_PROTO_NATS_JS_ZONE_H

#include <stdbool.h>

#include "base/slice.h"
#include "base/tz.h"

struct io;
struct jzones;

struct jzones *jzones_new(struct io *io);
void jzones_free(struct jzones **z);
/* False: there is none of this name. *out stays valid until jzones_free; NULL: UTC. */
bool jzone_find(struct jzones *z, struct slice name, const struct tz **out);

#endif
