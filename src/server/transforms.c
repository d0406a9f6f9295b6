/* See transforms.h. Files are applied in order of name; those that are in force as they are change
 * nothing. Main thread, before the loops run. */
#include "server/transforms.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/tbl/limits.h"
#include "transform/transforms.h"

static int is_sql(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return n > 4 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 4, ".sql");
}

static enum err file_read(const char *path, struct buf *out, struct errinfo *info)
{
    FILE *f = fopen(path, "r");
    char piece[4096];
    enum err e = ERR_OK;
    size_t n;

    if (!f)
        return errinfo_os(info, errno, "%s", path);
    while (!e && (n = fread(piece, 1, sizeof piece, f)) > 0)
        e = buf_append(out, piece, n);
    if (!e && ferror(f))
        e = errinfo_os(info, errno, "%s", path);
    else if (e)
        errinfo_set(info, e, "%s is larger than a transform may be", path);
    fclose(f);
    return e;
}

/* The name is the file's, unless the file says another. */
static enum err file_apply(struct transforms *m, const char *dir, const char *file,
                           struct errinfo *info)
{
    char path[1024];
    struct transform_def d;
    struct errinfo why = {0};
    struct buf text;
    enum err e;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    buf_init(&text, LIMIT_KV_VALUE);
    transform_def_init(&d);
    e = file_read(path, &text, &why);
    if (!e) {
        d.any_topic = true; /* who writes there runs the server */
        e = transform_def_set(&d, SLICE_LIT("name"), slice_of(file, strlen(file) - 4), &why);
        e = e ? e : transform_def_file(&d, buf_slice(&text), &why);
        e = e ? e : transforms_apply_wait(m, &d, &why);
        if (e)
            errinfo_set(info, e, "%s: %s", path, why.text[0] ? why.text : err_text(e));
    } else if (info) {
        *info = why;
    }
    transform_def_fini(&d);
    buf_fini(&text);
    return e;
}

static enum err folder_apply(struct transforms *m, const char *dir, struct errinfo *info)
{
    struct dirent **v;
    int n = scandir(dir, &v, is_sql, alphasort), i;
    enum err e = ERR_OK;

    if (n < 0)
        return errinfo_os(info, errno, "transforms.dir: %s", dir);
    for (i = 0; i < n; i++) {
        if (!e)
            e = file_apply(m, dir, v[i]->d_name, info);
        free(v[i]);
    }
    free(v);
    return e;
}

enum err server_transforms_open(const struct config *c, struct broker *b, struct sql *sql,
                                const struct log *log, struct transforms **out,
                                struct errinfo *info)
{
    const struct transforms_conf conf = {.broker = b, .sql = sql, .log = log};
    enum err e = transforms_open(&conf, out, info);

    if (!e && c->transforms_dir.n)
        e = folder_apply(*out, c->transforms_dir.text, info);
    return e;
}
