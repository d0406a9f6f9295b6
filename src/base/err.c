/* The error table and errinfo. See err.h. Invariant: rows[] has one row for each enum value. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *code;
    const char *text;
    int http;
    int kafka;
} rows[ERR_N] = {
    [ERR_OK] = {"ok", "no error", 200, 0},
#define ERR_ROW(name, code, http, kafka, text) [name] = {code, text, http, kafka},
#include "base/tbl/errors.h"
#undef ERR_ROW
};

static enum err known(enum err e)
{
    return (unsigned)e < ERR_N ? e : ERR_INTERNAL;
}

const char *err_code(enum err e)
{
    return rows[known(e)].code;
}

const char *err_text(enum err e)
{
    return rows[known(e)].text;
}

int err_http(enum err e)
{
    return rows[known(e)].http;
}

int err_kafka(enum err e)
{
    return rows[known(e)].kafka;
}

enum err err_from_errno(int os)
{
    switch (os) {
    case 0:
        return ERR_OK;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    default:
        return ERR_IO;
    }
}

enum err errinfo_set(struct errinfo *info, enum err code, const char *fmt, ...)
{
    va_list ap;

    if (!info)
        return code;
    info->code = code;
    info->os = 0;
    va_start(ap, fmt);
    vsnprintf(info->text, sizeof info->text, fmt, ap);
    va_end(ap);
    return code;
}

enum err errinfo_os(struct errinfo *info, int os, const char *fmt, ...)
{
    va_list ap;
    char why[64];
    size_t n;

    if (!info)
        return err_from_errno(os);
    info->code = err_from_errno(os);
    info->os = os;
    va_start(ap, fmt);
    vsnprintf(info->text, sizeof info->text, fmt, ap);
    va_end(ap);
    n = strlen(info->text);
    snprintf(info->text + n, sizeof info->text - n, ": %s", strerror_r(os, why, sizeof why));
    return info->code;
}
