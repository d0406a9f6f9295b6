/* Catalogs: names are checked here, the rest is the kind's own. See catalog.h. */
#include "lake/catalog.h"

#include <string.h>

#include "lake/catalog_int.h"

bool catalog_name_ok(const char *text)
{
    size_t n = 0;

    for (; text[n]; n++) {
        char c = text[n];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return n > 0 && n <= CATALOG_NAME_MAX && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static enum err space_check(const char *space, struct errinfo *info)
{
    return catalog_name_ok(space) ? ERR_OK
                                  : errinfo_set(info, ERR_INVALID, "not a name of a namespace");
}

static enum err name_check(const struct table_name *t, struct errinfo *info)
{
    enum err e = space_check(t->space, info);

    if (e)
        return e;
    return catalog_name_ok(t->name) ? ERR_OK
                                    : errinfo_set(info, ERR_INVALID, "not a name of a table");
}

void catalog_close(struct catalog **c)
{
    if (*c)
        (*c)->ops->close(*c);
    *c = NULL;
}

enum err catalog_load(struct catalog *c, const struct table_name *t, struct metadata **out,
                      struct errinfo *info)
{
    enum err e = name_check(t, info);

    *out = NULL;
    return e ? e : c->ops->load(c, t, out, info);
}

/* The caller that does not want the table need not free it. */
static enum err keep(enum err e, struct metadata *md, struct metadata **out)
{
    if (out)
        *out = md;
    else
        metadata_free(&md);
    return e;
}

enum err catalog_create(struct catalog *c, const struct table_name *t, const json_t *request,
                        struct metadata **out, struct errinfo *info)
{
    struct metadata *md = NULL;
    enum err e = name_check(t, info);

    e = e ? e : c->ops->create(c, t, request, &md, info);
    return keep(e, md, out);
}

enum err catalog_commit(struct catalog *c, const struct table_name *t, const json_t *requirements,
                        const json_t *updates, struct metadata **out, struct errinfo *info)
{
    struct metadata *md = NULL;
    enum err e = name_check(t, info);

    e = e ? e : c->ops->commit(c, t, requirements, updates, &md, info);
    return keep(e, md, out);
}

enum err catalog_register(struct catalog *c, const struct table_name *t,
                          const char *metadata_location, struct metadata **out,
                          struct errinfo *info)
{
    struct metadata *md = NULL;
    enum err e = name_check(t, info);

    e = e ? e : c->ops->adopt(c, t, metadata_location, &md, info);
    return keep(e, md, out);
}

enum err catalog_drop(struct catalog *c, const struct table_name *t, bool purge,
                      struct errinfo *info)
{
    enum err e = name_check(t, info);

    return e ? e : c->ops->drop(c, t, purge, info);
}

enum err catalog_tables(struct catalog *c, const char *space,
                        bool (*fn)(void *arg, const char *name), void *arg, struct errinfo *info)
{
    enum err e = space_check(space, info);

    return e ? e : c->ops->tables(c, space, fn, arg, info);
}

enum err catalog_spaces(struct catalog *c, bool (*fn)(void *arg, const char *space), void *arg,
                        struct errinfo *info)
{
    return c->ops->spaces(c, fn, arg, info);
}

enum err catalog_space_load(struct catalog *c, const char *space, json_t **properties,
                            struct errinfo *info)
{
    enum err e = space_check(space, info);

    *properties = NULL;
    return e ? e : c->ops->space_load(c, space, properties, info);
}

enum err catalog_space_create(struct catalog *c, const char *space, const json_t *properties,
                              struct errinfo *info)
{
    enum err e = space_check(space, info);

    return e ? e : c->ops->space_create(c, space, properties, info);
}

enum err catalog_space_drop(struct catalog *c, const char *space, struct errinfo *info)
{
    enum err e = space_check(space, info);

    return e ? e : c->ops->space_drop(c, space, info);
}
