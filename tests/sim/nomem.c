/* `nomem`: each allocation fails in turn, under a whole broker on a real directory.
 *
 *   nomem [--every N] [--dir DIR]
 *
 * A scenario (open, make a topic, append, commit an offset, keep an item, read, close, which saves a
 * checkpoint through SQLite) runs in a child process whose n-th allocation gives NULL, whoever asks:
 * Weir, SQLite or the C library. What must hold: the child ends by itself with errors told, or ends
 * at once saying that there is no memory; it never crashes otherwise and never hangs; and afterwards
 * the directory opens, with every record that was acknowledged there, once and in order. With
 * --every N only each N-th allocation is tried. glibc: allocation functions are put over its own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/broker.h"
#include "io/io.h"
#include "journal/journal.h"

#define RECORDS 12u
#define SECONDS 30

/* ---- allocation that fails ---- */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static unsigned long fail_at, allocations; /* 0: none fails */

static int refused(void)
{
    if (fail_at && ++allocations == fail_at) {
        errno = ENOMEM;
        return 1;
    }
    return 0;
}

void *malloc(size_t n)
{
    return refused() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return refused() ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return refused() ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    if (refused() || !(*p = __libc_memalign(align, n)))
        return ENOMEM;
    return 0;
}

/* ---- the scenario ---- */

static enum err broker_at(const char *dir, struct broker **b, struct errinfo *info)
{
    struct broker_conf c = {
        .dir = dir, .io = io_real(), .journal_file_bytes = 64u << 10, .inflight_bytes = 1u << 20};

    return broker_open(&c, b, info);
}

static bool append_one(struct broker *b, struct topic *t, unsigned i)
{
    char value[32];
    struct append_record r = {.timestamp_ms = 1700000000000 + i, .value = slice_of(value, 0)};
    struct append_slot slot;
    struct append *a = append_new(b, NULL, NULL);
    bool ok;

    r.value.len = (size_t)snprintf(value, sizeof value, "value %u", i);
    ok = !append_record(a, t, 0, &r, &slot, NULL) && !append_submit_wait(a, NULL);
    append_free(&a);
    return ok;
}

static void read_some(struct broker *b)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct reader *r;
    struct errinfo info;

    if (reader_open(b, &rc, &r, &info))
        return;
    while (reader_next(r, &rec, &info) == ERR_OK)
        ;
    reader_close(&r);
}

/* In the child: the number of each acknowledged record goes to fd. */
static void scenario(const char *dir, int fd)
{
    struct broker *b;
    struct errinfo info;
    struct topic *t;
    unsigned i;

    if (broker_at(dir, &b, &info))
        return;
    topic_create_wait(b, SLICE_LIT("t"), 1, NULL, &info);
    t = topic_find(b, SLICE_LIT("t"));
    for (i = 0; t && i < RECORDS; i++)
        if (append_one(b, t, i) && write(fd, &i, sizeof i) != sizeof i)
            break;
    if (t) {
        group_commit_wait(b, SLICE_LIT("g"), topic_partition(t, 0), 3, SLICE_NULL, &info);
        kv_put_wait(b, "test", SLICE_LIT("k"), SLICE_LIT("v"), 0, &info);
        read_some(b);
    }
    topic_unref(&t);
    broker_close(&b);
}

/* ---- the parent ---- */

static _Noreturn void die(unsigned long n, const char *what, const char *more)
{
    fprintf(stderr, "allocation %lu: %s%s%s\n", n, what, more ? ": " : "", more ? more : "");
    exit(1);
}

/* What was acknowledged is there, once and in order. */
static void check(unsigned long n, const char *dir, const bool acked[RECORDS])
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_START};
    bool seen[RECORDS] = {false};
    struct reader *r = NULL;
    struct reader_record rec;
    struct broker *b;
    struct errinfo info = {0};
    long last = -1, i;

    if (broker_at(dir, &b, &info))
        die(n, "the directory does not open again", info.text);
    if (!reader_open(b, &rc, &r, &info)) {
        while (reader_next(r, &rec, &info) == ERR_OK) {
            char text[32] = {0};

            memcpy(text, rec.value.ptr, rec.value.len < 31 ? rec.value.len : 31);
            i = strtol(text + 6, NULL, 10);
            if (strncmp(text, "value ", 6) != 0 || i <= last || i >= (long)RECORDS)
                die(n, "a record that was not written so", text);
            seen[i] = true;
            last = i;
        }
        reader_close(&r);
    }
    for (i = 0; i < (long)RECORDS; i++)
        if (acked[i] && !seen[i])
            die(n, "an acknowledged record is not there", NULL);
    broker_close(&b);
}

/* How the child ended: by itself, or for want of memory with a word about it. */
static void ended(unsigned long n, int status, const char *said)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, "memory"))
        return;
    die(n, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "the child failed", said);
}

/* False: the scenario makes fewer allocations than n. */
static bool run(unsigned long n, const char *dir)
{
    int acks[2], words[2], status;
    bool acked[RECORDS] = {false}, reached = true;
    char said[4096] = "", cmd[512];
    ssize_t got;
    unsigned i;
    pid_t pid;

    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd) || pipe(acks) || pipe(words) || (pid = fork()) < 0)
        die(n, "a child cannot be made", strerror(errno));
    if (pid == 0) {
        dup2(words[1], 2);
        close(words[0]);
        close(acks[0]);
        alarm(SECONDS);
        allocations = 0;
        fail_at = n;
        scenario(dir, acks[1]);
        fail_at = 0;
        if (allocations < n && write(acks[1], "end", 3) != 3)
            _exit(2);
        _exit(0);
    }
    close(acks[1]);
    close(words[1]);
    while ((got = read(acks[0], &i, sizeof i)) == sizeof i)
        if (i < RECORDS)
            acked[i] = true;
    reached = got != 3;
    got = read(words[0], said, sizeof said - 1);
    said[got > 0 ? got : 0] = 0;
    close(acks[0]);
    close(words[0]);
    waitpid(pid, &status, 0);
    ended(n, status, said);
    check(n, dir, acked);
    return reached;
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/weir-nomem-XXXXXX", path[300], cmd[400];
    const char *dir = NULL;
    unsigned long n, every = 1, runs = 0;
    int i;

    for (i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--every") == 0)
            every = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
    }
    if (!dir && !(dir = mkdtemp(made)))
        die(0, "no directory", strerror(errno));
    snprintf(path, sizeof path, "%s/log", dir);
    for (n = 1; run(n, path); n += every ? every : 1)
        runs++;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", path);
    if (system(cmd) == 0 && dir == made)
        rmdir(dir);
    printf("%lu allocations failed in turn: every acknowledged record was there afterwards\n",
           runs);
    return runs ? 0 : 1;
}
