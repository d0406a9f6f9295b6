/* Loading DuckDB's shared library when it is first needed: the server starts without it, and runs
 * without it. One library for the whole process; it is never unloaded, as its threads and
 * thread-local memory may outlive any of our calls. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sql/duckdb_int.h"

#define LIBRARY  "libduckdb.so"
#define PATH_CAP 4096
#define WHY_CAP  128

struct duckdb_api ddb;

/* Guards loading; `loaded` may be read by anyone. */
static struct io_mutex load_lock = {PTHREAD_MUTEX_INITIALIZER};
static _Atomic bool loaded;

const char *library_version(void)
{
    return atomic_load(&loaded) ? ddb.library_version() : NULL;
}

static bool api_fill(void *lib, const char **missing)
{
    static const struct {
        const char *name;
        size_t at;
    } f[] = {
#define F(n) {"duckdb_" #n, offsetof(struct duckdb_api, n)},
#include "sql/tbl/duckdb.h"
#undef F
    };
    size_t i;

    for (i = 0; i < sizeof f / sizeof *f; i++) {
        void *p = dlsym(lib, f[i].name);

        if (!p) {
            *missing = f[i].name;
            return false;
        }
        memcpy((char *)&ddb + f[i].at, &p, sizeof p);
    }
    return true;
}

/* The folder of the running program, with its '/'; empty if it cannot be told. */
static void program_dir(char out[PATH_CAP])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_CAP - 1);
    char *slash;

    out[n > 0 ? n : 0] = 0;
    slash = strrchr(out, '/');
    out[slash ? slash - out + 1 : 0] = 0;
}

static void *library_open(const char *path, char why[WHY_CAP])
{
    static const char *const beside[] = {"", "../lib/weir/", "../lib/"};
    char dir[PATH_CAP], full[PATH_CAP + 64];
    const char *env = getenv("WEIR_DUCKDB"), *error;
    size_t i;
    void *lib;

    if (!path)
        path = env && *env ? env : NULL;
    program_dir(dir);
    for (i = 0; !path && *dir && i < sizeof beside / sizeof *beside; i++) {
        snprintf(full, sizeof full, "%s%s%s", dir, beside[i], LIBRARY);
        if (access(full, R_OK) == 0)
            path = full;
    }
    if (!path)
        path = LIBRARY;
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    error = lib ? NULL : dlerror();
    if (!lib)
        snprintf(why, WHY_CAP, "%.*s", (int)WHY_CAP - 1, error ? error : path);
    return lib;
}

enum err library_load(const char *path, struct errinfo *info)
{
    char why[WHY_CAP];
    const char *missing = NULL;
    enum err e = ERR_OK;
    void *lib;

    if (atomic_load(&loaded))
        return ERR_OK;
    io_mutex_lock(&load_lock);
    if (!atomic_load(&loaded)) {
        lib = library_open(path, why);
        if (!lib)
            e = errinfo_set(info, ERR_UNSUPPORTED,
                            "SQL needs DuckDB's " LIBRARY ": %.120s; put it next to the program or "
                            "name it (--duckdb, WEIR_DUCKDB)",
                            why);
        else if (!api_fill(lib, &missing)) {
            e = errinfo_set(info, ERR_UNSUPPORTED,
                            LIBRARY " is too old: it has no %s; 1.4 or later is needed", missing);
            dlclose(lib);
        } else {
            memory_guard(lib);
            atomic_store(&loaded, true);
        }
    }
    io_mutex_unlock(&load_lock);
    return e;
}
