/* The server: the only place that wires broker, loops and protocols together. */
#ifndef WEIR_SERVER_SERVER_H
#define WEIR_SERVER_SERVER_H

#include "base/err.h"
#include "server/config.h"

/* Opens the log, listens, prints one line for each address to standard output
 * ("http listening on http://127.0.0.1:8787"), and serves until SIGTERM or SIGINT; then connections
 * finish, a checkpoint is saved, and it returns. SIGHUP reads certificates again. A second SIGTERM
 * or SIGINT ends the process at once. Errors say what to do. */
enum err server_run(const struct config *c, struct errinfo *info);

#endif
