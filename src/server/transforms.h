/* Wires transforms, and applies those of the folder transforms.dir. */
#ifndef WEIR_SERVER_TRANSFORMS_H
#define WEIR_SERVER_TRANSFORMS_H

#include "base/err.h"
#include "server/config.h"

struct broker;
struct log;
struct sql;
struct transforms;

/* Blocks until the folder's files are stored. A file that cannot be applied is an error that names
 * it. */
enum err server_transforms_open(const struct config *c, struct broker *b, struct sql *sql,
                                const struct log *log, struct transforms **out,
                                struct errinfo *info);

#endif
