/* See js_zone.h. */
#include "proto/nats/js_zone.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/thread.h"

#define DIRECTORY  "/usr/share/zoneinfo/"
#define LOCAL      "/etc/localtime"
#define NAME_BYTES 64u
#define ZONES_MAX  1024u /* the database has some 600 */

struct zone {
    struct tz *tz;
    size_t name_len;
    char name[NAME_BYTES + 1];
};

struct jzones {
    struct io *io;
    struct io_mutex lock; /* of what follows */
    struct map by_name;
};

struct jzones *jzones_new(struct io *io)
{
    struct jzones *z = xcalloc(1, sizeof *z);

    z->io = io;
    io_mutex_init(&z->lock);
    map_init(&z->by_name, ZONES_MAX, NULL);
    return z;
}

void jzones_free(struct jzones **zp)
{
    struct jzones *z = *zp;
    struct slice name;
    uint32_t at = 0;
    void *v;

    *zp = NULL;
    if (!z)
        return;
    while (map_next(&z->by_name, &at, &name, &v)) {
        tz_free(&((struct zone *)v)->tz);
        free(v);
    }
    map_fini(&z->by_name);
    io_mutex_fini(&z->lock);
    free(z);
}

static bool name_ok(struct slice s)
{
    size_t i;

    if (!s.len || s.len > NAME_BYTES || s.ptr[0] == '/')
        return false;
    for (i = 0; i < s.len; i++)
        if (!isalnum(s.ptr[i]) && !memchr("_+-/", s.ptr[i], 4))
            return false;
    return true;
}

static struct zone *zone_read(struct jzones *z, struct slice name)
{
    struct zone *o = xcalloc(1, sizeof *o);
    char path[sizeof DIRECTORY + NAME_BYTES];
    struct buf file;

    o->name_len = name.len;
    memcpy(o->name, name.ptr, name.len);
    (void)snprintf(path, sizeof path, "%s%s", DIRECTORY, o->name);
    buf_init(&file, TZ_FILE_MAX);
    if (io_text(z->io, slice_eq_str(name, "Local") ? LOCAL : path, &file, NULL) ||
        tz_new(buf_slice(&file), &o->tz) || map_put(&z->by_name, slice_of(o->name, name.len), o)) {
        tz_free(&o->tz);
        free(o);
        o = NULL;
    }
    buf_fini(&file);
    return o;
}

bool jzone_find(struct jzones *z, struct slice name, const struct tz **out)
{
    struct zone *o;

    *out = NULL;
    if (slice_eq_str(name, "UTC"))
        return true;
    if (!name_ok(name))
        return false;
    io_mutex_lock(&z->lock);
    o = map_find(&z->by_name, name);
    if (!o)
        o = zone_read(z, name);
    io_mutex_unlock(&z->lock);
    if (o)
        *out = o->tz;
    return o;
}
