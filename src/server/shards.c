/* See shards.h. */
#include "server/shards.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"

#define WORDS_MAX 4
#define NAME_MAX_ 64
#define URL_MAX   1000

void shards_list_free(struct sql_shard **list, unsigned n)
{
    unsigned i;

    for (i = 0; *list && i < n; i++) {
        free((char *)(uintptr_t)(*list)[i].name);
        free((char *)(uintptr_t)(*list)[i].url);
        free((char *)(uintptr_t)(*list)[i].token);
        free((char *)(uintptr_t)(*list)[i].ca_file);
    }
    free(*list);
    *list = NULL;
}

static bool name_ok(const char *s)
{
    return strlen(s) <= NAME_MAX_ && !strpbrk(s, ",*\"");
}

static bool url_ok(const char *s)
{
    return strlen(s) <= URL_MAX && (!strncmp(s, "http://", 7) || !strncmp(s, "https://", 8));
}

/* False: it is no line of this kind. *n stays at an empty one. */
static bool line_take(char *line, struct sql_shard *list, unsigned *n)
{
    char *word[WORDS_MAX] = {NULL}, *save = NULL, *w;
    unsigned words = 0, i;

    line[strcspn(line, "#\r\n")] = 0;
    for (w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
        if (words == WORDS_MAX)
            return false;
        word[words++] = w;
    }
    if (words == 0)
        return true;
    if (words == 1 || !name_ok(word[0]) || !url_ok(word[1]))
        return false;
    for (i = 0; i < *n; i++)
        if (!strcmp(list[i].name, word[0]))
            return false;
    list[(*n)++] =
        (struct sql_shard){xstrdup(word[0]), xstrdup(word[1]), words > 2 ? xstrdup(word[2]) : NULL,
                           words > 3 ? xstrdup(word[3]) : NULL};
    return true;
}

enum err shards_list_read(const char *path, struct sql_shard **out, unsigned *n,
                          struct errinfo *info)
{
    char line[2048];
    unsigned number = 0;
    FILE *f;
    enum err e = ERR_OK;

    *out = NULL;
    *n = 0;
    if (!*path)
        return ERR_OK;
    f = fopen(path, "re");
    if (!f)
        return errinfo_os(info, errno, "sql.shards: %s cannot be read", path);
    *out = xcalloc(LIMIT_SQL_SHARDS, sizeof **out);
    while (!e && fgets(line, sizeof line, f)) {
        number++;
        if (*n == LIMIT_SQL_SHARDS)
            e = errinfo_set(info, ERR_CONFIG, "sql.shards: more than %u shards", LIMIT_SQL_SHARDS);
        else if (!line_take(line, *out, n))
            e = errinfo_set(info, ERR_CONFIG,
                            "sql.shards: line %u of %s is not NAME URL [TOKEN [CA-FILE]]", number,
                            path);
    }
    fclose(f);
    if (e)
        shards_list_free(out, *n);
    return e;
}
