/* Errors as values. `enum err` is what every fallible call returns; ERR_OK is 0. The table
 * tbl/errors.h gives each its public code, HTTP status and Kafka code, so that a protocol never
 * invents a mapping. `struct errinfo` adds the cause in words, for people. No I/O, any thread. */
#ifndef WEIR_BASE_ERR_H
#define WEIR_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

enum err {
    ERR_OK = 0,
#define ERR_ROW(name, code, http, kafka, text) name,
#include "base/tbl/errors.h"
#undef ERR_ROW
    ERR_N
};

/* A cause in words: what failed, where, and what to do. `text` is always NUL-terminated. */
struct errinfo {
    enum err code;
    int os; /* errno of the cause, 0 if none */
    char text[256];
};

/* Public code such as "topic_not_found"; "ok" for ERR_OK. Never NULL. */
const char *err_code(enum err e);
/* Sentence for people. Never NULL. */
const char *err_text(enum err e);
/* HTTP status (200 for ERR_OK) and Kafka error code (0 for ERR_OK). */
int err_http(enum err e);
int err_kafka(enum err e);
/* The error that an errno stands for: ENOSPC/EDQUOT -> ERR_NO_SPACE, ENOMEM -> ERR_NO_MEMORY,
 * ENOENT -> ERR_NOT_FOUND, EEXIST -> ERR_EXISTS, others ERR_IO. */
enum err err_from_errno(int os);

/* Fills *info (may be NULL) and returns `code`, so that `return errinfo_set(info, ERR_X, …)` reads
 * well. Truncates. */
enum err errinfo_set(struct errinfo *info, enum err code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* As above, adding errno and its text. Code is err_from_errno(os). */
enum err errinfo_os(struct errinfo *info, int os, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
