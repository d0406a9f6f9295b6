/* Measures a server from outside, over loopback: the time from its start to its first answer, its
 * memory when idle, and how long an event takes from the post to every WebSocket reader. The floor
 * of the last is one synced 4 KiB write to the same directory and one round trip of a loopback
 * connection, measured in the same run.
 *
 *   bench-live --weir BINARY --dir DIR [--seconds N] [--rounds N]
 *
 * Two threads: one posts, one reads for all readers. DIR/bench-live is removed at the end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "choice.h"

#define ROUNDS_MAX 15
#define BLOCK      4096
#define IN_BYTES   65536
#define SAMPLES    (1u << 24)
#define DRAIN_S    5.0 /* after the last post, for what is still under way */

static const char *weir = "build/weir", *base = ".";
static char dir[512];
static double seconds = 2;
static uint32_t rounds = 5;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, order);
    return v[n / 2];
}

static void wipe(void)
{
    char cmd[600];

    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd) != 0)
        die("removing", dir);
}

/* ---- the server ---- */

struct server {
    pid_t pid;
    FILE *out;
    uint16_t port;
};

/* Starts it and waits for the line that says where it listens. */
static void server_start(struct server *s)
{
    char line[256], *at;
    int fd[2];

    if (pipe(fd))
        die("pipe", strerror(errno));
    s->pid = fork();
    if (s->pid < 0)
        die("fork", strerror(errno));
    if (s->pid == 0) {
        dup2(fd[1], 1);
        close(fd[0]);
        close(fd[1]);
        execl(weir, weir, "serve", "--data", dir, "--http", "127.0.0.1:0", "--set",
              "log.level=warn", (char *)NULL);
        die(weir, strerror(errno));
    }
    close(fd[1]);
    s->out = fdopen(fd[0], "r");
    if (!s->out || !fgets(line, sizeof line, s->out) || !(at = strrchr(line, ':')))
        die(weir, "does not start");
    s->port = (uint16_t)strtoul(at + 1, NULL, 10);
}

static void server_stop(struct server *s)
{
    int status;

    kill(s->pid, SIGTERM);
    waitpid(s->pid, &status, 0);
    fclose(s->out);
}

static long server_kib(const struct server *s)
{
    char path[64], line[256];
    long kib = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%ld/status", (long)s->pid);
    if (!(f = fopen(path, "r")))
        die(path, strerror(errno));
    while (fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    fclose(f);
    return kib;
}

/* ---- connections ---- */

static int dial(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a))
        die("connecting", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void put(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);

        if (k < 0 && errno != EINTR)
            die("writing", strerror(errno));
        if (k > 0) {
            p += k;
            n -= (size_t)k;
        }
    }
}

/* Reads an answer's head; its first line must have this status. What comes after it stays unread. */
static void head_expect(int fd, const char *status)
{
    char text[4096];
    size_t n = 0;

    while (n < 4 || memcmp(text + n - 4, "\r\n\r\n", 4) != 0) {
        if (n == sizeof text - 1 || read(fd, text + n, 1) != 1)
            die("the server's answer", "ends early");
        n++;
    }
    text[n] = 0;
    if (!strstr(text, status))
        die("the server's answer", text);
}

static void get_health(uint16_t port)
{
    int fd = dial(port);
    const char *text = "GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

    put(fd, text, strlen(text));
    head_expect(fd, " 200 ");
    close(fd);
}

static int post_text(char *out, size_t max, const char *stream, uint64_t data)
{
    char body[160];
    int n =
        snprintf(body, sizeof body,
                 "{\"type\":\"bench.live\",\"stream\":\"%s\",\"data\":%" PRIu64 "}", stream, data);

    return snprintf(out, max,
                    "POST /events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                    "Content-Length: %d\r\n\r\n%s",
                    n, body);
}

static int follow(uint16_t port, const char *stream)
{
    int fd = dial(port);
    char text[400];
    int n = snprintf(text, sizeof text,
                     "GET /events?stream=%s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                     stream);

    put(fd, text, (size_t)n);
    head_expect(fd, " 101 ");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* ---- posting ---- */

struct poster {
    int fd;
    const char *stream;
    unsigned rate; /* events a second */
    uint64_t n;    /* in all */
};

/* Answers are only read so that the server can go on. */
static void answers_drop(int fd)
{
    char mem[16384];

    while (recv(fd, mem, sizeof mem, MSG_DONTWAIT) > 0)
        ;
}

/* Each millisecond what is due by then, one request an event, pipelined. */
static void *post_all(void *arg)
{
    struct poster *p = arg;
    struct timespec ms = {0, 1000000};
    uint64_t start = now_ns(), sent = 0, due;
    char text[65536];

    while (sent < p->n) {
        size_t at = 0;

        due = (now_ns() - start) * p->rate / 1000000000u;
        for (; sent < due && sent < p->n && at < sizeof text - 512; sent++)
            at += (size_t)post_text(text + at, sizeof text - at, p->stream, now_ns());
        put(p->fd, text, at);
        answers_drop(p->fd);
        nanosleep(&ms, NULL);
    }
    return NULL;
}

/* ---- reading ---- */

struct reader {
    int fd;
    uint8_t in[IN_BYTES];
    size_t n;
    uint64_t events;
};

static double *sample; /* milliseconds */
static size_t samples;

/* One message of the server: the event's data is the time of its post. */
static void message(struct reader *r, const uint8_t *p, size_t n)
{
    const uint8_t *at = memmem(p, n, "\"data\":", 7);
    uint64_t posted;

    if (!at)
        die("a reader got", "something that is no event: it is too slow");
    posted = strtoull((const char *)at + 7, NULL, 10);
    r->events++;
    if (posted && samples < SAMPLES)
        sample[samples++] = (double)(now_ns() - posted) * 1e-6;
}

/* Takes the whole frames that are in. RFC 6455, 5.2: a server's have no mask. */
static void frames(struct reader *r)
{
    size_t at = 0, head, len;

    for (;; at += head + len) {
        const uint8_t *p = r->in + at;

        if (r->n - at < 2)
            break;
        head = p[1] == 126 ? 4 : p[1] == 127 ? 10 : 2;
        if (r->n - at < head)
            break;
        len = p[1] == 126 ? (size_t)p[2] << 8 | p[3] : p[1];
        if (p[1] == 127 || head + len > IN_BYTES)
            die("a reader got", "a frame that is too large");
        if (r->n - at < head + len)
            break;
        if ((p[0] & 15) == 1)
            message(r, p + head, len);
        else if ((p[0] & 15) == 8)
            die("a reader", "was sent away");
    }
    memmove(r->in, r->in + at, r->n - at);
    r->n -= at;
}

static void reader_turn(struct reader *r)
{
    ssize_t k = read(r->fd, r->in + r->n, sizeof r->in - r->n);

    if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
        die("a reader's connection", k ? strerror(errno) : "was closed");
    if (k > 0) {
        r->n += (size_t)k;
        frames(r);
    }
}

/* Until all readers have all events, or it takes too long. Events that did not come. */
static uint64_t read_all(struct reader *r, int ep, unsigned readers, uint64_t each, double most)
{
    uint64_t end = now_ns() + (uint64_t)(most * 1e9), had = 0;
    struct epoll_event ev[256];
    unsigned i;

    while (had < each * readers && now_ns() < end) {
        int n = epoll_wait(ep, ev, 256, 100), k;

        for (k = 0; k < n; k++)
            reader_turn(ev[k].data.ptr);
        for (had = 0, i = 0; i < readers; i++)
            had += r[i].events;
    }
    return each * readers - had;
}

/* ---- rows ---- */

static double floor_ms(void)
{
    static _Alignas(BLOCK) char block[BLOCK];
    double v[200];
    char path[600], c = 0;
    int pair[2], listener, fd, i;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;

    snprintf(path, sizeof path, "%s/floor", dir);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&a, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&a, &len))
        die("listening", strerror(errno));
    pair[0] = dial(ntohs(a.sin_port));
    pair[1] = accept(listener, NULL, NULL);
    fd = open(path, O_RDWR | O_CREAT | O_DSYNC | O_DIRECT, 0600);
    if (fd < 0)
        fd = open(path, O_RDWR | O_CREAT | O_DSYNC, 0600);
    for (i = 0; i < 200; i++) {
        uint64_t t = now_ns();

        if (write(pair[0], &c, 1) != 1 || read(pair[1], &c, 1) != 1 ||
            pwrite(fd, block, BLOCK, i % 16 * BLOCK) != BLOCK || write(pair[1], &c, 1) != 1 ||
            read(pair[0], &c, 1) != 1)
            die("the floor", strerror(errno));
        v[i] = (double)(now_ns() - t) * 1e-6;
    }
    close(fd);
    close(listener);
    close(pair[0]);
    close(pair[1]);
    return median(v, 200);
}

static void fan_out(const struct server *s, unsigned readers, unsigned rate, const char *goal)
{
    struct reader *r = calloc(readers, sizeof *r);
    struct poster p = {.fd = dial(s->port), .rate = rate};
    char stream[64], text[512];
    double floor = floor_ms();
    uint64_t missing;
    pthread_t t;
    unsigned i;
    int ep = epoll_create1(0);

    snprintf(stream, sizeof stream, "fan-%u-%u", readers, rate);
    put(p.fd, text, (size_t)post_text(text, sizeof text, stream, 0)); /* makes the topic */
    head_expect(p.fd, " 201 ");
    for (i = 0; r && i < readers; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &r[i]};

        r[i].fd = follow(s->port, stream);
        epoll_ctl(ep, EPOLL_CTL_ADD, r[i].fd, &ev);
    }
    samples = 0;
    p.stream = stream;
    p.n = (uint64_t)(seconds * rate);
    pthread_create(&t, NULL, post_all, &p);
    missing = read_all(r, ep, readers, p.n, seconds + DRAIN_S);
    pthread_join(t, NULL);
    if (!samples)
        die("the readers", "got nothing");
    qsort(sample, samples, sizeof *sample, order);
    printf("live, %5u readers, %6u events/s: p50 %8.2f ms   p99 %8.2f ms   floor %.2f ms   "
           "ratio %.1f   (%s)\n",
           readers, rate, sample[samples / 2], sample[samples * 99 / 100], floor,
           sample[samples / 2] / floor, goal);
    if (missing)
        printf("  %" PRIu64 " deliveries were not there %.0f s after the last post\n", missing,
               DRAIN_S);
    for (i = 0; i < readers; i++)
        close(r[i].fd);
    close(ep);
    close(p.fd);
    free(r);
}

static void start_rows(void)
{
    double ms[ROUNDS_MAX], kib[ROUNDS_MAX];
    struct timespec quiet = {0, 300000000};
    struct server s;
    uint32_t i;

    for (i = 0; i < rounds; i++) {
        uint64_t t = now_ns();

        server_start(&s);
        get_health(s.port);
        ms[i] = (double)(now_ns() - t) * 1e-6;
        nanosleep(&quiet, NULL);
        kib[i] = (double)server_kib(&s);
        server_stop(&s);
        wipe();
    }
    printf("start to first answer, new directory: %.1f ms   (at most 50)\n", median(ms, rounds));
    printf("idle server: %.0f KiB resident   (at most 15360)\n", median(kib, rounds));
}

static void files_raise(void)
{
    struct rlimit l;

    getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = l.rlim_max < 8192 ? l.rlim_max : 8192;
    setrlimit(RLIMIT_NOFILE, &l);
}

static const struct choice choices[] = {{"--weir", CHOICE_TEXT, &weir, 0, 0},
                                        {"--dir", CHOICE_TEXT, &base, 0, 0},
                                        {"--seconds", CHOICE_NUMBER, &seconds, 0.01, 3600},
                                        {"--rounds", CHOICE_COUNT, &rounds, 1, ROUNDS_MAX},
                                        {NULL, CHOICE_FLAG, NULL, 0, 0}};

int main(int argc, char **argv)
{
    struct server s;

    choices_read(argc, argv, 1, "start, idle server, and events to WebSocket readers", choices);
    snprintf(dir, sizeof dir, "%s/bench-live", base);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    files_raise();
    sample = malloc(SAMPLES * sizeof *sample);
    wipe();
    start_rows();
    server_start(&s);
    fan_out(&s, 10, 10000, "p99 at most 2 ms");
    fan_out(&s, 1000, 100, "reported");
    fan_out(&s, 1000, 1000, "reported");
    server_stop(&s);
    wipe();
    free(sample);
    return 0;
}
