/* Fuzzing of the configuration: a file of any bytes, then settings one by one.
 *
 * An input is a YAML file; what follows the first NUL is lines `key=value`, set as flags are.
 * Checked beside the sanitizers: whatever comes, every setting is within what its row allows and
 * its number is that of its text; a refusal has its words; and a configuration written as a file
 * and read again is the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "server/config.h"

#define INPUT_MAX 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;
static char path[64];

/* A file in memory. */
static enum err read_file(struct config *c, struct slice text, struct errinfo *info)
{
    size_t at = 0;
    ssize_t n;

    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    ASSERT(fd >= 0 && ftruncate(fd, 0) == 0);
    for (; at < text.len; at += (size_t)n)
        ASSERT((n = pwrite(fd, text.ptr + at, text.len - at, (off_t)at)) > 0);
    return config_file(c, path, info);
}

/* Numbers have bounds that need no looking up. */
static void row_check(const struct config_row *r, const struct config_value *v)
{
    ASSERT(v->text && v->from);
    if (strcmp(r->kind, "boolean") == 0)
        ASSERT(v->n == 0 || v->n == 1);
    else if (strcmp(r->kind, "choice") == 0)
        ASSERT(v->n >= 0 && strstr(r->unit, v->text));
    else
        ASSERT(v->n >= r->least && v->n <= r->most);
    if (strcmp(r->kind, "text") == 0)
        ASSERT((size_t)v->n == strlen(v->text));
}

/* Whether a value can stand in a YAML file at all: text, without what YAML calls unprintable. */
static bool printable(struct slice s)
{
    size_t i;

    if (!utf8_valid(s))
        return false;
    for (i = 0; i < s.len; i++)
        if (s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return false;
    for (i = 0; i + 1 < s.len; i++) /* U+0080 to U+009F */
        if (s.ptr[i] == 0xc2 && s.ptr[i + 1] < 0xa0)
            return false;
    for (i = 0; i + 2 < s.len; i++) /* U+FEFF, U+FFFE, U+FFFF */
        if (s.ptr[i] == 0xef && (memcmp(s.ptr + i, "\xef\xbb\xbf", 3) == 0 ||
                                 (s.ptr[i + 1] == 0xbf && s.ptr[i + 2] >= 0xbe)))
            return false;
    return true;
}

struct writer {
    struct buf out;
};

static void limit_write(void *arg, const char *name, uint32_t value, uint32_t def, uint32_t least,
                        uint32_t most, const char *unit, const char *why)
{
    struct writer *w = arg;

    ASSERT(value >= least && value <= most);
    ASSERT(
        !buf_printf(&w->out, "http.%s: %u%s\n", name, value, strcmp(unit, "ms") == 0 ? "ms" : ""));
}

/* JSON strings are YAML strings. */
static void written_again(const struct config *c)
{
    const struct config_value *v, *u;
    struct errinfo info = {0};
    struct config_row row;
    struct config d;
    struct writer w;
    unsigned i;

    buf_init(&w.out, 1u << 20);
    for (i = 0; config_row(c, i, &row, &v); i++) {
        row_check(&row, v);
        if (!printable(slice_str(v->text)))
            continue;
        ASSERT(!buf_printf(&w.out, "%s: ", row.key));
        ASSERT(!json_write_string(&w.out, slice_str(v->text)) && !buf_append_str(&w.out, "\n"));
    }
    http_limits_each(&c->limits, limit_write, &w);
    config_init(&d);
    if (read_file(&d, slice_of(w.out.ptr, w.out.len), &info)) {
        fprintf(stderr, "%s\n", info.text);
        abort();
    }
    for (i = 0; config_row(c, i, &row, &v); i++) {
        config_row(&d, i, &row, &u);
        ASSERT(!printable(slice_str(v->text)) || (u->n == v->n && !strcmp(u->text, v->text)));
    }
    ASSERT(memcmp(&c->limits, &d.limits, sizeof d.limits) == 0);
    config_fini(&d);
    buf_fini(&w.out);
}

static void refused(const struct errinfo *info, enum err e)
{
    ASSERT(e == ERR_OK || (e == ERR_CONFIG && info->text[0] && info->code == e));
}

/* Lines `key=value`. */
static void flags(struct config *c, char *text)
{
    struct errinfo info = {0};
    char *line, *value;

    while ((line = strsep(&text, "\n"))) {
        value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = 0;
        refused(&info, config_set(c, line, value, "flag", &info));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t yaml = nul ? (size_t)(nul - data) : size;
    struct errinfo info = {0};
    struct config c;
    char *rest;

    if (size > INPUT_MAX)
        return 0;
    config_init(&c);
    refused(&info, read_file(&c, slice_of(data, yaml), &info));
    written_again(&c);
    if (nul) {
        rest = xcalloc(1, size - yaml);
        memcpy(rest, nul + 1, size - yaml - 1);
        flags(&c, rest);
        free(rest);
        written_again(&c);
    }
    refused(&info, config_check(&c, &info));
    config_fini(&c);
    return 0;
}
