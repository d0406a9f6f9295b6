/* Object stores: what is the same for all kinds: keys, locations, options, files of bytes fetched.
 * See store.h. */
#include "lake/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lake/store_int.h"

enum err store_open(const struct store_conf *conf, struct store **out, struct errinfo *info)
{
    *out = NULL;
    if (conf->url && strncmp(conf->url, "file://", 7) == 0)
        return store_dir_open(conf, out, info);
    if (conf->url && (strncmp(conf->url, "s3://", 5) == 0 || strncmp(conf->url, "s3a://", 6) == 0))
        return store_s3_open(conf, out, info);
    return errinfo_set(info, ERR_CONFIG,
                       "\"%.200s\" is not the URL of an object store: file:///DIR or "
                       "s3://BUCKET/PREFIX",
                       conf->url ? conf->url : "");
}

void store_close(struct store **s)
{
    if (*s)
        (*s)->ops->close(*s);
    *s = NULL;
}

const char *store_url(const struct store *s)
{
    return s->url;
}

void store_access_get(const struct store *s, struct store_access *out)
{
    memset(out, 0, sizeof *out);
    out->url = s->url;
    s->ops->access(s, out);
}

/* ---- keys ---- */

static bool segment_ok(const char *s, size_t n)
{
    return n > 0 && !(n == 1 && s[0] == '.') && !(n == 2 && s[0] == '.' && s[1] == '.');
}

static bool key_ok(const char *key)
{
    size_t n = strlen(key), i, from = 0;

    if (n == 0 || n > STORE_KEY_MAX)
        return false;
    for (i = 0; i <= n; i++) {
        if (i < n && (uint8_t)key[i] < 0x20)
            return false;
        if (i < n && key[i] != '/')
            continue;
        if (!segment_ok(key + from, i - from))
            return false;
        from = i + 1;
    }
    return true;
}

static enum err key_check(const char *key, struct errinfo *info)
{
    if (key_ok(key))
        return ERR_OK;
    return errinfo_set(info, ERR_INVALID, "\"%.100s\" is not a key of an object", key);
}

enum err store_location(const struct store *s, const char *key, char out[STORE_LOCATION_MAX + 1],
                        struct errinfo *info)
{
    enum err e = key_check(key, info);
    int n;

    if (e)
        return e;
    n = snprintf(out, STORE_LOCATION_MAX + 1, "%s/%s", s->url, key);
    if (n < 0 || n > (int)STORE_LOCATION_MAX)
        return errinfo_set(info, ERR_INVALID, "\"%.100s\" is too long below %.100s", key, s->url);
    return ERR_OK;
}

/* Behind the scheme: "/dir" of file:, "bucket/prefix" of s3:. NULL: neither. */
static const char *without_scheme(const char *url, bool *s3)
{
    *s3 = strncmp(url, "s3", 2) == 0;
    if (strncmp(url, "s3://", 5) == 0)
        return url + 5;
    if (strncmp(url, "s3a://", 6) == 0 || strncmp(url, "s3n://", 6) == 0)
        return url + 6;
    if (strncmp(url, "file:///", 8) == 0)
        return url + 7;
    if (strncmp(url, "file:/", 6) == 0 && url[6] != '/')
        return url + 5;
    return url[0] == '/' ? url : NULL;
}

const char *store_key(const struct store *s, const char *location)
{
    bool s3, at_s3;
    const char *root = without_scheme(s->url, &s3), *at = without_scheme(location, &at_s3);
    size_t n;

    if (!root || !at || s3 != at_s3)
        return NULL;
    n = strlen(root);
    if (strncmp(root, at, n) != 0 || at[n] != '/' || !key_ok(at + n + 1))
        return NULL;
    return at + n + 1;
}

/* ---- calls ---- */

enum err store_put(struct store *s, const char *key, const struct store_source *src,
                   const struct store_put *how, struct store_stat *out, struct errinfo *info)
{
    static const struct store_put always = {0};
    struct store_stat st;
    enum err e = key_check(key, info);

    if (e)
        return e;
    return s->ops->put(s, key, src, how ? how : &always, out ? out : &st, info);
}

enum err store_get(struct store *s, const char *key, uint64_t off, uint64_t len, struct buf *out,
                   struct store_stat *st, struct errinfo *info)
{
    struct store_stat own;
    enum err e = key_check(key, info);

    return e ? e : s->ops->get(s, key, off, len, out, -1, st ? st : &own, info);
}

enum err store_get_file(struct store *s, const char *key, const char *path, struct store_stat *st,
                        struct errinfo *info)
{
    struct store_stat own;
    enum err e = key_check(key, info);
    int fd;

    if (e)
        return e;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return errinfo_os(info, errno, "making %s", path);
    e = s->ops->get(s, key, 0, STORE_ALL, NULL, fd, st ? st : &own, info);
    if (close(fd) && !e)
        e = errinfo_os(info, errno, "writing %s", path);
    if (e)
        unlink(path);
    return e;
}

enum err store_head(struct store *s, const char *key, struct store_stat *out, struct errinfo *info)
{
    enum err e = key_check(key, info);

    return e ? e : s->ops->head(s, key, out, info);
}

enum err store_list(struct store *s, const char *prefix, const char *after,
                    bool (*fn)(void *arg, const struct store_entry *e), void *arg,
                    struct errinfo *info)
{
    return s->ops->list(s, prefix ? prefix : "", after, fn, arg, info);
}

enum err store_delete(struct store *s, const char *const *keys, size_t n, struct errinfo *info)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && i < n; i++)
        e = key_check(keys[i], info);
    return e || n == 0 ? e : s->ops->remove(s, keys, n, info);
}

enum err store_sweep(struct store *s, int64_t older_than_ms, uint64_t *n, struct errinfo *info)
{
    *n = 0;
    return s->ops->sweep(s, older_than_ms, n, info);
}

void store_stats_get(const struct store *s, struct store_stats *out)
{
    *out = (struct store_stats){.requests = atomic_load(&s->requests),
                                .retries = atomic_load(&s->retries),
                                .failures = atomic_load(&s->failures),
                                .bytes_sent = atomic_load(&s->bytes_sent),
                                .bytes_received = atomic_load(&s->bytes_received)};
}
