/* Preloaded into a server: a disk that pauses. A synced write sleeps for as many seconds as the
 * file that $WEIR_STALL names has bytes, which it takes away: one pause for each time it is made. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static void pause_once(int fd)
{
    const char *path = getenv("WEIR_STALL");
    struct stat st;

    if (!(fcntl(fd, F_GETFL) & O_DSYNC) || !path || stat(path, &st) || unlink(path))
        return;
    sleep((unsigned)st.st_size);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);

    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    pause_once(fd);
    return real(fd, buf, n, off);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off_t off)
{
    return pwrite(fd, buf, n, off);
}
