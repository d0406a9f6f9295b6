/* Places: the stores that tables' objects are in.
 *
 * A table of a folder or bucket of ours lies below lake.url, in the lake's own store; its place is
 * NULL. A catalog of others says itself where a table lies, and may give credentials that hold for a
 * while (vended credentials), or sign each request (signer.h): then the table has a store of its own,
 * whose URL is the table's location. When credentials are about to end, or the catalog should be asked
 * again for its signer, the place is old: the table is loaded anew, and the catalog gives others. Who
 * still uses the old place keeps it, by reference.
 *
 * Settings of lake.s3 come before what the catalog says, but for keys: those that it gives are
 * for its table. Files are only read and written below lake.url, whatever a catalog says.
 *
 * Lock: lake->lock guards the list, which has the newest place of each location. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/json.h"
#include "lake/lake_int.h"
#include "lake/signer.h"

#define EARLY_MS  60000
#define UNTOLD_MS 900000 /* credentials whose end is not told are asked for again after it */
#define SIGN_MS   10000  /* to sign one request; it is asked again */

bool place_old(const struct place *p)
{
    return p && p->until_ms && io_wall_ms(io_real()) > p->until_ms - EARLY_MS;
}

struct place *place_ref(struct place *p)
{
    if (p)
        atomic_fetch_add(&p->refs, 1);
    return p;
}

void place_unref(struct place **pp)
{
    struct place *p = *pp;

    *pp = NULL;
    if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    store_close(&p->store);
    json_decref(p->said);
    free(p->base);
    free(p);
}

void places_fini(struct lake *l)
{
    struct place *p;

    while ((p = l->places)) {
        l->places = p->next;
        place_unref(&p);
    }
}

/* lake->lock is held. */
static struct place **place_at(struct lake *l, const char *base)
{
    struct place **at = &l->places;

    while (*at && strcmp((*at)->base, base) != 0)
        at = &(*at)->next;
    return at;
}

struct place *place_of(struct lake *l, const char *location)
{
    struct place *p;

    io_mutex_lock(&l->lock);
    for (p = l->places; p && !store_key(p->store, location); p = p->next)
        ;
    place_ref(p);
    io_mutex_unlock(&l->lock);
    return p;
}

struct store *place_store(const struct lake *l, const struct place *p)
{
    return p ? p->store : l->store;
}

enum err place_unlisted(const struct place *p, enum err e)
{
    return p && p->given && e == ERR_FORBIDDEN ? ERR_OK : e;
}

/* ---- making one ---- */

/* The connection is the signers' own: what they wait for holds up no commit, nor the other way round. */
static enum err place_signer(struct lake *l, const json_t *said, struct signer **out,
                             struct errinfo *info)
{
    struct catalog_rest_conf cc = l->conf.catalog;
    enum err e = ERR_OK;

    cc.stop = &l->stop;
    cc.delegation = NULL;
    cc.timeout_ms = SIGN_MS;
    io_mutex_lock(&l->ready_lock);
    if (!l->signing)
        e = catalog_rest_open(&cc, io_real(), &l->signing, info);
    io_mutex_unlock(&l->ready_lock);
    return e ? e : signer_new(l->signing, said, out, info);
}

static enum err place_open(struct lake *l, const char *base, json_t *said, struct place **out,
                           struct errinfo *info)
{
    const char *bucket = strstr(base, "://"), *style = json_get_text(said, "s3.path-style-access");
    const char *until = json_get_text(said, "s3.session-token-expires-at-ms");
    struct store_conf sc = l->conf.store;
    char url[STORE_LOCATION_MAX + 8];
    struct place *p;
    enum err e;

    snprintf(url, sizeof url, "s3%s", bucket);
    sc.url = url;
    sc.stop = &l->stop;
    sc.endpoint = sc.endpoint ? sc.endpoint : json_get_text(said, "s3.endpoint");
    sc.region = sc.region ? sc.region : json_get_text(said, "s3.region");
    sc.region = sc.region ? sc.region : json_get_text(said, "client.region");
    sc.access_key = json_get_text(said, "s3.access-key-id");
    sc.secret_key = json_get_text(said, "s3.secret-access-key");
    sc.session_token = json_get_text(said, "s3.session-token");
    if (sc.path_style == STORE_AUTO && style && strcmp(style, "true") == 0)
        sc.path_style = STORE_ON;
    if (!sc.access_key && signer_wanted(said) && (e = place_signer(l, said, &sc.signer, info)))
        return e;
    p = xcalloc(1, sizeof *p);
    e = store_open(&sc, &p->store, info);
    if (e) {
        free(p);
        return e;
    }
    atomic_init(&p->refs, 1);
    p->base = xstrdup(base);
    p->said = json_incref(said);
    p->given = sc.access_key || sc.signer;
    if (p->given)
        p->until_ms = until ? strtoll(until, NULL, 10) : io_wall_ms(io_real()) + UNTOLD_MS;
    *out = p;
    return ERR_OK;
}

/* Takes p's first reference for the list. */
static void place_keep(struct lake *l, struct place *p)
{
    struct place **at, *old;

    io_mutex_lock(&l->lock);
    at = place_at(l, p->base);
    old = *at;
    p->next = old ? old->next : NULL;
    *at = p;
    io_mutex_unlock(&l->lock);
    place_unref(&old);
}

/* The place in the list, if the catalog says the same of it still. */
static struct place *place_known(struct lake *l, const char *base, const json_t *said)
{
    struct place *p;

    io_mutex_lock(&l->lock);
    p = *place_at(l, base);
    if (p && json_equal(p->said, said) && !place_old(p))
        place_ref(p);
    else
        p = NULL;
    io_mutex_unlock(&l->lock);
    return p;
}

enum err place_get(struct lake *l, const struct metadata *md, struct place **out,
                   struct errinfo *info)
{
    json_t *said = md->config;
    char base[STORE_LOCATION_MAX + 1];
    bool given = json_get_text(said, "s3.access-key-id") || signer_wanted(said);
    size_t n;
    enum err e;

    *out = NULL;
    snprintf(base, sizeof base, "%s", metadata_base(md));
    for (n = strlen(base); n && base[n - 1] == '/';)
        base[--n] = 0;
    if (!given && store_key(l->store, base))
        return ERR_OK;
    if (!said || strncmp(base, "s3", 2) != 0 || !strstr(base, "://"))
        return errinfo_set(info, ERR_UNSUPPORTED, "the table lies at %.100s, outside of %.80s",
                           base, store_url(l->store));
    *out = place_known(l, base, said);
    if (*out)
        return ERR_OK;
    e = place_open(l, base, said, out, info);
    if (!e)
        place_keep(l, place_ref(*out));
    return e;
}
