/* The least that a server does which answers fetches: what the same client, on the same machine, can
 * read at most. It holds the records that the client asks for, made beforehand, and neither looks them
 * up nor checks them.
 *
 *   bench-kafka-floor --port PORT --mode memory|file|splice --dir DIR --bytes N --partitions N
 *
 * memory: sent from huge pages. file: sendfile from the page cache. splice: pages of memory are lent to
 * the socket (vmsplice); a server could never use such memory again, for nobody tells it when the
 * reader has it. A file of DIR without a name holds the records of mode `file`.
 *
 * Each thread has a poller, and the connections that it accepted. Only ApiVersions, to be waited for,
 * and Fetch 11 of one partition are answered (wire.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/mem.h"
#include "measure.h"
#include "wire.h"

#define REQUEST_MAX 4096u
#define HEAD_MAX    512u
#define PIPE_BYTES  (1u << 20)
#define THREADS_MAX 64u
#define EVENTS      64
#define API_FETCH   1

enum mode { MEMORY, PAGES_OF_FILE, SPLICE };

struct conn {
    int fd, pipe[2];
    size_t in_len, head_len, head_at;
    uint64_t at, end; /* of the records, to be sent */
    size_t piped;     /* bytes in the pipe */
    uint8_t in[REQUEST_MAX], head[HEAD_MAX];
};

static struct {
    uint32_t port, partitions, record, batch, threads;
    double bytes;
    const char *mode, *dir;
} o = {.partitions = 1, .record = 1024, .batch = 16, .threads = 2, .bytes = 1e9, .mode = "memory"};

static enum mode mode;
static uint8_t *all; /* of one partition after the other */
static int file = -1, listener;
static size_t batch_len;
static uint64_t batches; /* of each partition */

/* ---- records ---- */

static void records_make(void)
{
    struct wire_topics t = {"floor", 1, 1};
    struct wire_produce r = {0};
    uint64_t i, n;

    wire_produce_init(&r, &t, 0, 1, o.batch, o.record);
    batch_len = r.batch_len;
    batches = (uint64_t)(o.bytes / o.partitions / ((double)o.batch * o.record));
    n = batches * o.partitions;
    all = huge_new((n * batch_len + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
    if (!all || batches == 0)
        die("records", "there is no memory for so many, or too few were asked for");
    for (i = 0; i < n; i++) {
        memcpy(all + i * batch_len, r.frame.ptr + r.batch_at, batch_len);
        be64_store(all + i * batch_len, i % batches * o.batch);
    }
    wire_produce_fini(&r);
}

static void file_make(void)
{
    uint64_t at = 0, n = batches * o.partitions * batch_len;

    file = open(o.dir ? o.dir : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    while (file >= 0 && at < n) {
        ssize_t got = write(file, all + at, n - at < HUGE_BYTES ? n - at : HUGE_BYTES);

        if (got <= 0)
            break;
        at += (uint64_t)got;
    }
    if (at < n)
        die("file", strerror(errno));
    huge_free(all, (n + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
}

/* ---- a connection ---- */

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    be32_store(p, v);
    return p + 4;
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
    be64_store(p, v);
    return p + 8;
}

static uint8_t *put16(uint8_t *p, uint16_t v)
{
    be16_store(p, v);
    return p + 2;
}

/* r: behind the client's name. What is told of the partition, before its records. */
static void fetch_answer(struct conn *c, const uint8_t *r, uint8_t *p)
{
    size_t name = be16_load(r + 29);
    const uint8_t *part = r + 31 + name + 4;
    uint32_t index = be32_load(part) % o.partitions, max = be32_load(part + 24);
    uint64_t first = be64_load(part + 8) / o.batch, n = max / batch_len;

    n = n > batches - first ? batches - first : n;
    c->at = (index * batches + first) * batch_len;
    c->end = c->at + n * batch_len;
    p = put32(put16(put32(p, 0), 0), 0); /* not throttled, no error, no session */
    p = put16(put32(p, 1), (uint16_t)name);
    memcpy(p, r + 31, name);
    p = put16(put32(put32(p + name, 1), index), 0);
    p = put64(put64(put64(p, batches * o.batch), batches * o.batch), 0);
    p = put32(put32(put32(p, UINT32_MAX), UINT32_MAX), (uint32_t)(c->end - c->at));
    c->head_len = (size_t)(p - c->head);
}

static void answer(struct conn *c)
{
    const uint8_t *r = c->in + 4;
    uint8_t *p = put32(c->head + 4, be32_load(r + 4)); /* correlation id */
    size_t name = be16_load(r + 8);

    c->head_at = 0;
    c->at = c->end = 0;
    if (be16_load(r) == API_FETCH)
        fetch_answer(c, r + 10 + name, p);
    else
        c->head_len = (size_t)(put32(put16(p, 0), 0) - c->head);
    be32_store(c->head, (uint32_t)(c->head_len - 4 + (c->end - c->at)));
    c->in_len = 0;
}

static ssize_t send_memory(struct conn *c)
{
    struct iovec v[2] = {{c->head + c->head_at, c->head_len - c->head_at},
                         {all + c->at, c->end - c->at}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    ssize_t n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t head;

    if (n <= 0)
        return n;
    head = (size_t)n < v[0].iov_len ? (size_t)n : v[0].iov_len;
    c->head_at += head;
    c->at += (size_t)n - head;
    return n;
}

static ssize_t send_pages(struct conn *c)
{
    struct iovec v = {all + c->at, c->end - c->at};
    ssize_t n;

    if (c->piped == 0 && c->at < c->end) {
        n = vmsplice(c->pipe[1], &v, 1, SPLICE_F_NONBLOCK);
        if (n <= 0)
            die("vmsplice", strerror(errno));
        c->piped = (size_t)n;
    }
    n = splice(c->pipe[0], NULL, c->fd, NULL, c->piped,
               SPLICE_F_NONBLOCK | (c->end - c->at > c->piped ? SPLICE_F_MORE : 0));
    if (n > 0) {
        c->piped -= (size_t)n;
        c->at += (size_t)n;
    }
    return n;
}

static ssize_t send_file(struct conn *c)
{
    off_t at = (off_t)c->at;
    ssize_t n = sendfile(c->fd, file, &at, c->end - c->at);

    c->at += n > 0 ? (size_t)n : 0;
    return n;
}

/* False: the connection is over. */
static bool send_some(struct conn *c)
{
    ssize_t n = 1;

    while (n > 0 && (c->head_at < c->head_len || c->at < c->end)) {
        if (mode == MEMORY) {
            n = send_memory(c);
        } else if (c->head_at < c->head_len) {
            n = send(c->fd, c->head + c->head_at, c->head_len - c->head_at,
                     MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE);
            c->head_at += n > 0 ? (size_t)n : 0;
        } else {
            n = mode == SPLICE ? send_pages(c) : send_file(c);
        }
    }
    return n > 0 || errno == EAGAIN;
}

/* A client has one request under way. */
static bool receive(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, MSG_DONTWAIT);

    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->in_len += (size_t)n;
    if (c->in_len >= 4 && c->in_len >= 4 + be32_load(c->in))
        answer(c);
    return c->in_len < sizeof c->in;
}

/* ---- threads ---- */

static void accept_one(int poller)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
    struct conn *c;

    if (fd < 0)
        return;
    c = xcalloc(1, sizeof *c);
    c->fd = fd;
    c->pipe[0] = c->pipe[1] = -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (mode == SPLICE &&
        (pipe2(c->pipe, O_CLOEXEC | O_NONBLOCK) || fcntl(c->pipe[1], F_SETPIPE_SZ, PIPE_BYTES) < 0))
        die("pipe", strerror(errno));
    e.data.ptr = c;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static void drop(struct conn *c)
{
    close(c->fd);
    if (c->pipe[0] >= 0) {
        close(c->pipe[0]);
        close(c->pipe[1]);
    }
    free(c);
}

static void *serve(void *arg)
{
    struct epoll_event e[EVENTS], in = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    int poller = epoll_create1(EPOLL_CLOEXEC), i, n;

    (void)arg;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &in);
    for (;;) {
        n = epoll_wait(poller, e, EVENTS, -1);
        for (i = 0; i < n; i++) {
            struct conn *c = e[i].data.ptr;

            if (!c)
                accept_one(poller);
            else if (!receive(c) || !send_some(c))
                drop(c);
        }
    }
    return NULL;
}

static void listen_on(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port)};
    int one = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || bind(listener, (struct sockaddr *)&to, sizeof to) || listen(listener, 64))
        die("listen", strerror(errno));
}

static const struct choice choices[] = {{"--port", CHOICE_COUNT, &o.port, 1, 65535},
                                        {"--partitions", CHOICE_COUNT, &o.partitions, 1, 100000},
                                        {"--record", CHOICE_COUNT, &o.record, 8, 64 << 20},
                                        {"--batch", CHOICE_COUNT, &o.batch, 1, 1e6},
                                        {"--threads", CHOICE_COUNT, &o.threads, 1, THREADS_MAX},
                                        {"--bytes", CHOICE_NUMBER, &o.bytes, 1, 1e12},
                                        {"--mode", CHOICE_TEXT, &o.mode, 0, 0},
                                        {"--dir", CHOICE_TEXT, &o.dir, 0, 0},
                                        {NULL, CHOICE_FLAG, NULL, 0, 0}};

int main(int argc, char **argv)
{
    pthread_t t;
    uint32_t i;

    choices_read(argc, argv, 1, "a server that only sends: --mode memory, file or splice", choices);
    mode = strcmp(o.mode, "file") == 0     ? PAGES_OF_FILE
           : strcmp(o.mode, "splice") == 0 ? SPLICE
                                           : MEMORY;
    records_make();
    if (mode == PAGES_OF_FILE)
        file_make();
    listen_on();
    for (i = 1; i < o.threads; i++)
        if (pthread_create(&t, NULL, serve, NULL))
            die("thread", "none");
    serve(NULL);
    return 0;
}
