/* The server's configuration: defaults, then a YAML file, the environment, and flags, each
 * overriding the ones before. tbl/config.h is the list. One thread. */
#ifndef WEIR_SERVER_CONFIG_H
#define WEIR_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/http/http_events.h"

enum config_kind {
    CONFIG_TEXT,
    CONFIG_NUMBER,
    CONFIG_SIZE,
    CONFIG_TIME,
    CONFIG_BOOL,
    CONFIG_CHOICE
};

struct config_value {
    char *text;       /* as given */
    int64_t n;        /* number, bytes, milliseconds, 0 or 1, or the index of the choice */
    const char *from; /* "default", "file", "environment", "flag" */
};

struct config {
#define CONFIG(field, key, kind, def, least, most, unit, prose) struct config_value field;
#include "server/tbl/config.h"
#undef CONFIG
    struct http_limits limits; /* keys `http.` and the limit's name */
};

void config_init(struct config *c);
void config_fini(struct config *c);
/* Sets one by key ("http.listen"). ERR_CONFIG: the sentence names key, value and what is allowed,
 * or the nearest known key. from: static text. */
enum err config_set(struct config *c, const char *key, const char *value, const char *from,
                    struct errinfo *info);
/* YAML: nested maps or dotted keys, scalars and lists of scalars. Errors name file, line and
 * column. */
enum err config_file(struct config *c, const char *path, struct errinfo *info);
/* All WEIR_… variables that name a key; others that start with WEIR_ and are not known to be the
 * command line's own (WEIR_SERVER, WEIR_TOKEN) are refused. */
enum err config_env(struct config *c, struct errinfo *info);
/* Settings that contradict each other. */
enum err config_check(const struct config *c, struct errinfo *info);

/* What the keys group.… and offsets.… say. */
struct group_conf;
void config_groups(const struct config *c, struct group_conf *out);

struct config_row {
    const char *key, *kind, *def, *unit, *prose, *env;
    int64_t least, most;
};
/* Row and value number i; false past the end. c may be NULL. */
bool config_row(const struct config *c, unsigned i, struct config_row *row,
                const struct config_value **value);

#endif
