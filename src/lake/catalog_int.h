/* What the kinds of catalogs implement. Private to src/lake/catalog*.c. */
#ifndef WEIR_LAKE_CATALOG_INT_H
#define WEIR_LAKE_CATALOG_INT_H

#include "lake/catalog.h"

struct catalog_ops {
    void (*close)(struct catalog *c);
    enum err (*load)(struct catalog *c, const struct table_name *t, struct metadata **out,
                     struct errinfo *info);
    enum err (*create)(struct catalog *c, const struct table_name *t, const json_t *request,
                       struct metadata **out, struct errinfo *info);
    enum err (*commit)(struct catalog *c, const struct table_name *t, const json_t *requirements,
                       const json_t *updates, struct metadata **out, struct errinfo *info);
    enum err (*drop)(struct catalog *c, const struct table_name *t, bool purge,
                     struct errinfo *info);
    enum err (*adopt)(struct catalog *c, const struct table_name *t, const char *location,
                      struct metadata **out, struct errinfo *info);
    enum err (*tables)(struct catalog *c, const char *space,
                       bool (*fn)(void *arg, const char *name), void *arg, struct errinfo *info);
    enum err (*spaces)(struct catalog *c, bool (*fn)(void *arg, const char *space), void *arg,
                       struct errinfo *info);
    enum err (*space_load)(struct catalog *c, const char *space, json_t **properties,
                           struct errinfo *info);
    enum err (*space_create)(struct catalog *c, const char *space, const json_t *properties,
                             struct errinfo *info);
    enum err (*space_drop)(struct catalog *c, const char *space, struct errinfo *info);
};

struct catalog {
    const struct catalog_ops *ops;
    struct io *io;
};

#endif
