/* Where credentials for an S3 store come from: the configuration, the environment, or the file that
 * AWS's tools share ("[profile]" sections of "name = value"). See store_int.h. One thread. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/io.h"
#include "lake/secret.h"
#include "lake/store_int.h"

#define FILE_MAX  (256u << 10)
#define VALUE_MAX 4096u

static void secret_free(char **s)
{
    if (*s)
        OPENSSL_cleanse(*s, strlen(*s));
    free(*s);
    *s = NULL;
}

void store_creds_fini(struct store_creds *c)
{
    secret_free(&c->access_key);
    secret_free(&c->secret_key);
    secret_free(&c->session_token);
}

static const char *env(const char *name)
{
    const char *v = getenv(name);

    return v && v[0] ? v : NULL;
}

static void creds_set(struct store_creds *c, const char *access, const char *secret,
                      const char *token)
{
    c->access_key = xstrdup(access);
    c->secret_key = xstrdup(secret);
    c->session_token = token ? xstrdup(token) : NULL;
}

static struct slice trimmed(struct slice s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len &&
           (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' || s.ptr[s.len - 1] == '\r'))
        s.len--;
    return s;
}

static void value_take(char **to, struct slice value)
{
    char *p = xmalloc(value.len + 1);

    memcpy(p, value.ptr, value.len);
    p[value.len] = 0;
    secret_free(to);
    *to = p;
}

/* One line of the file. *here: it is in the profile wanted. */
static void line_take(struct store_creds *c, struct slice line, const char *profile, bool *here)
{
    const uint8_t *eq;
    struct slice name, value;

    line = trimmed(line);
    if (line.len > 1 && line.ptr[0] == '[') {
        line.len -= line.ptr[line.len - 1] == ']';
        *here = slice_eq_str(trimmed(slice_of(line.ptr + 1, line.len - 1)), profile);
        return;
    }
    eq = line.len ? memchr(line.ptr, '=', line.len) : NULL;
    if (!*here || !eq || line.ptr[0] == '#' || line.ptr[0] == ';')
        return;
    name = trimmed(slice_of(line.ptr, (size_t)(eq - line.ptr)));
    value = trimmed(slice_of(eq + 1, line.len - (size_t)(eq + 1 - line.ptr)));
    if (value.len == 0 || value.len > VALUE_MAX)
        return;
    if (slice_eq_str(name, "aws_access_key_id"))
        value_take(&c->access_key, value);
    else if (slice_eq_str(name, "aws_secret_access_key"))
        value_take(&c->secret_key, value);
    else if (slice_eq_str(name, "aws_session_token"))
        value_take(&c->session_token, value);
}

static enum err file_creds(const char *path, const char *profile, struct store_creds *c,
                           struct errinfo *info)
{
    struct slice rest;
    bool here = false;
    struct buf text;
    enum err e;

    buf_init(&text, FILE_MAX + 1);
    e = secret_read(path, &text, info);
    rest = buf_slice(&text);
    while (!e && rest.len) {
        const uint8_t *nl = memchr(rest.ptr, '\n', rest.len);
        size_t n = nl ? (size_t)(nl - rest.ptr) : rest.len;

        line_take(c, slice_of(rest.ptr, n), profile, &here);
        n += nl != NULL;
        rest = slice_of(rest.ptr + n, rest.len - n);
    }
    secret_fini(&text);
    if (!e && (!c->access_key || !c->secret_key))
        e = errinfo_set(info, ERR_UNAUTHENTICATED,
                        "%s has no aws_access_key_id and aws_secret_access_key for profile %s",
                        path, profile);
    return e;
}

enum err store_creds_find(const struct store_conf *conf, struct store_creds *out,
                          struct errinfo *info)
{
    const char *file = conf->credentials_file, *profile = conf->profile, *home = getenv("HOME");
    char path[512];
    enum err e;

    memset(out, 0, sizeof *out);
    if (conf->access_key && conf->secret_key) {
        creds_set(out, conf->access_key, conf->secret_key, conf->session_token);
        return ERR_OK;
    }
    if (!file && env("AWS_ACCESS_KEY_ID") && env("AWS_SECRET_ACCESS_KEY")) {
        creds_set(out, env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"),
                  env("AWS_SESSION_TOKEN"));
        return ERR_OK;
    }
    if (!file)
        file = env("AWS_SHARED_CREDENTIALS_FILE");
    if (!file) {
        snprintf(path, sizeof path, "%s/.aws/credentials", home ? home : "");
        file = path;
    }
    if (!profile)
        profile = env("AWS_PROFILE") ? env("AWS_PROFILE") : "default";
    e = file_creds(file, profile, out, info);
    if (e == ERR_NOT_FOUND)
        e = errinfo_set(info, ERR_UNAUTHENTICATED,
                        "no credentials for %s: set the access and secret key, or "
                        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write %s",
                        conf->url, file);
    if (e)
        store_creds_fini(out);
    return e;
}
