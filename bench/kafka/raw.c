/* A load that costs its own side as little as possible, so that the server is what is measured: one
 * thread, requests built beforehand and pipelined over many connections, answers counted.
 *
 *   bench-kafka-raw create|delete|wait --port PORT [--topic NAME --topics N --partitions N]
 *   bench-kafka-raw run --port PORT --topic NAME …
 *
 * Writers send as fast as `--depth` requests each allow, or, with --rate, at times fixed beforehand:
 * a latency counts from the time when the request was due, so a server that stalls is charged for
 * all that had to wait. Readers fetch from the beginning, once; when all have come to the end and nobody
 * writes, it is over. --apart gives readers a process of their own, of low priority: what they do with
 * what they read is not what writers wait for, as if they were on another machine; when they have read
 * all, it is over, writers or not. Tails fetch from the end, and with a rate they measure how long ago what
 * they read was due. With --touch the measurement begins when each of the requests has been answered a few
 * times, or after so many seconds: the first writes to a partition may cost far more than the others.
 * `wait` returns when the server answers. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/mem.h"
#include "measure.h"
#include "wire.h"

#define DEPTH_MAX           64u
#define CONNS_MAX           1024u
#define ANSWER_MAX          (256u << 20)
#define WRITER_IN           (64u << 10)
#define TAIL_WAIT           500
#define TURN                (128u << 10) /* read at once beside writers, whose answers wait meanwhile */
#define EVENTS              64
#define OFFSET_OUT_OF_RANGE 1
#define PROBE_TRIES         600
#define NICE_APART          10
#define TOUCHES             8 /* Kafka makes a partition's index when 4 KiB were written, not at once */

enum role { WRITER, READER, TAIL };

struct conn {
    int fd;
    enum role role;
    struct buf in;
    bool waits_out; /* its socket takes no more for now */
    /* writers */
    struct wire_produce own; /* with stamps; else the shared ones are sent */
    const struct wire_produce *sending;
    size_t sent;
    uint32_t next, step; /* of the shared requests */
    uint64_t due[DEPTH_MAX];
    const struct wire_produce *what[DEPTH_MAX];
    unsigned head, n;
    double next_due;
    /* readers */
    uint32_t partition;
    int64_t offset; /* -1: the end, which is not known yet */
    bool done;
};

static struct {
    struct wire_topics topics;
    uint32_t port, pid, writers, readers, tails, depth, record, batch, spread, windows, fetch_bytes;
    double seconds, warm_s, rate, touch_s;
    bool apart;
} o = {.topics = {"bench", 1, 1},
       .depth = 5,
       .record = 1024,
       .batch = 16,
       .spread = 1,
       .windows = 1,
       .fetch_bytes = 1u << 20,
       .seconds = 1};

static struct conn *conns;
static unsigned conns_n;
static struct wire_produce *shared;
static uint32_t shared_n;
static uint8_t *touched; /* how often each was answered, up to TOUCHES */
static uint32_t untouched;
static struct counts counts;
static struct meter meter;
static struct buf request; /* a Fetch that is being sent */
static int poller;
static unsigned readers_left;
static int apart_fd = -1; /* what the process of the readers says at its end */

/* ---- sockets ---- */

static int dial(bool must)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        die("socket", strerror(errno));
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
        if (must)
            die("connect", strerror(errno));
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static bool read_all(int fd, void *p, size_t n)
{
    ssize_t got;

    for (; n; n -= (size_t)got, p = (uint8_t *)p + got)
        if ((got = read(fd, p, n)) <= 0)
            return false;
    return true;
}

/* Sends a request and waits for its answer, which replaces it in *b; false: no connection. */
static bool ask(int fd, struct buf *b)
{
    uint8_t head[4];
    size_t at = 0;
    ssize_t n;

    for (; at < b->len; at += (size_t)n)
        if ((n = write(fd, b->ptr + at, b->len - at)) <= 0)
            return false;
    if (!read_all(fd, head, sizeof head))
        return false;
    buf_clear(b);
    if (buf_reserve(b, be32_load(head)))
        die("answer", "too large");
    b->len = be32_load(head);
    return read_all(fd, b->ptr, b->len);
}

/* ---- what is not measured ---- */

static void probe(int fd, uint32_t topic)
{
    struct buf b;
    int i, code = -1;

    buf_init(&b, ANSWER_MAX);
    for (i = 0; code && i < PROBE_TRIES; i++) {
        wire_probe(&b, &o.topics, topic);
        if (!ask(fd, &b))
            die("topic", "the connection ended");
        code = wire_probe_code(buf_slice(&b));
        if (code)
            usleep(100000);
    }
    if (code)
        die("topic", "its partitions do not come");
    buf_fini(&b);
}

static void admin(bool create)
{
    int fd = dial(true), code;
    struct buf b;
    uint32_t i;

    buf_init(&b, ANSWER_MAX);
    for (i = 0; i < o.topics.topics; i++) {
        if (create)
            wire_create(&b, &o.topics, i);
        else
            wire_delete(&b, &o.topics, i);
        if (!ask(fd, &b))
            die("topic", "the connection ended");
        code = wire_admin_code(buf_slice(&b));
        if (code) {
            fprintf(stderr, "bench: topic %u: code %d\n", i, code);
            exit(1);
        }
    }
    for (i = 0; create && i < o.topics.topics; i++)
        probe(fd, i);
    buf_fini(&b);
    close(fd);
}

static void wait_answer(void)
{
    uint64_t until = now_ns() + 120000000000u;
    struct buf b;
    bool ok = false;
    int fd;

    buf_init(&b, ANSWER_MAX);
    while (!ok && now_ns() < until) {
        fd = dial(false);
        if (fd >= 0) {
            wire_api_versions(&b);
            ok = ask(fd, &b);
            close(fd);
        }
        if (!ok)
            usleep(500);
    }
    if (!ok)
        die("server", "it does not answer");
    buf_fini(&b);
}

/* ---- sending ---- */

static void want_out(struct conn *c, bool on)
{
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0u), .data.ptr = c};

    if (c->waits_out == on)
        return;
    c->waits_out = on;
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* True: all of it was taken. */
static bool send_rest(struct conn *c)
{
    const struct buf *b = &c->sending->frame;

    while (c->sent < b->len) {
        ssize_t n = send(c->fd, b->ptr + c->sent, b->len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            want_out(c, true);
            return false;
        }
        if (n < 0)
            die("send", strerror(errno));
        c->sent += (size_t)n;
    }
    want_out(c, false);
    c->sending = NULL;
    return true;
}

static bool send_next(struct conn *c, uint64_t due)
{
    unsigned at = (c->head + c->n) % DEPTH_MAX;

    if (shared) {
        c->sending = &shared[c->next];
        c->next = (c->next + c->step) % shared_n;
    } else {
        wire_produce_stamp(&c->own, due);
        c->sending = &c->own;
    }
    c->sent = 0;
    c->due[at] = due;
    c->what[at] = c->sending;
    c->n++;
    return send_rest(c);
}

static void writer_go(struct conn *c)
{
    double interval = o.rate > 0 ? 1e9 / o.rate * o.writers : 0;
    uint64_t now;

    if (c->sending && !send_rest(c))
        return;
    while (c->n < o.depth) {
        now = now_ns();
        if (o.rate > 0) {
            if ((double)now < c->next_due)
                return;
            now = (uint64_t)c->next_due;
            c->next_due += interval;
        }
        if (!send_next(c, now))
            return;
    }
}

static void reader_ask(struct conn *c)
{
    size_t at = 0;
    int64_t from = c->offset < 0 ? 0 : c->offset;

    wire_fetch(&request, &o.topics, c->partition, from, c->offset < 0 ? 1 : (int32_t)o.fetch_bytes,
               c->role == TAIL && c->offset >= 0 ? TAIL_WAIT : 0);
    while (at < request.len) { /* small: the socket takes it */
        ssize_t n = send(c->fd, request.ptr + at, request.len - at, MSG_NOSIGNAL);

        if (n < 0)
            die("send", strerror(errno));
        at += (size_t)n;
    }
}

/* ---- answers ---- */

static void code_check(int code)
{
    if (code == 0)
        return;
    fprintf(stderr, "bench: the server answered error %d\n", code);
    exit(1);
}

static void touched_note(const struct wire_produce *w)
{
    if (shared && touched[w - shared] < TOUCHES)
        untouched -= ++touched[w - shared] == TOUCHES;
}

static void writer_answer(struct conn *c, struct slice frame)
{
    uint64_t now = now_ns(), due = c->due[c->head];

    code_check(wire_produce_code(frame));
    if (c->n == 0)
        die("answer", "to nothing");
    counts.out_bytes += c->what[c->head]->payload;
    counts.out_records += c->what[c->head]->records;
    counts.out_requests++;
    touched_note(c->what[c->head]);
    hist_add(&counts.ack, now > due ? now - due : 0);
    c->head = (c->head + 1) % DEPTH_MAX;
    c->n--;
}

static void tail_stamp(const struct wire_batch *b, uint64_t now)
{
    size_t at = wire_stamp_at(o.record);
    uint64_t due;

    if (at + 8 > b->bytes.len)
        die("batch", "not one of ours");
    due = be64_load(b->bytes.ptr + at);
    hist_add(&counts.e2e, now > due ? now - due : 0);
}

static void reader_answer(struct conn *c, struct slice frame)
{
    uint64_t now = now_ns();
    struct wire_fetched f;
    struct wire_batch b;

    if (!wire_fetched_read(frame, &f))
        die("answer", "it cannot be read");
    if (f.code == OFFSET_OUT_OF_RANGE && c->offset == 0 &&
        f.start > 0) { /* what was there has been deleted */
        c->offset = f.start;
        return;
    }
    code_check(f.code);
    if (c->offset < 0) {
        c->offset = f.high_watermark;
        return;
    }
    while (wire_batch_next(&f.records, &b)) {
        if (c->offset > b.next_offset)
            die("batch", "it lies before what was asked for");
        c->offset = b.next_offset;
        counts.in_records += b.records;
        counts.in_bytes += (uint64_t)b.records * o.record;
        if (c->role == TAIL && o.rate > 0)
            tail_stamp(&b, now);
    }
    if (c->role != READER || c->offset < f.high_watermark)
        return;
    c->done = true;
    readers_left--;
}

/* Answers that have come whole. */
static void answers(struct conn *c)
{
    size_t at = 0, len;

    while (c->in.len - at >= 4) {
        struct slice frame;

        len = be32_load(c->in.ptr + at);
        if (len > ANSWER_MAX)
            die("answer", "too large");
        if (c->in.len - at < 4 + len) {
            if (buf_reserve(&c->in, at + 4 + len - c->in.len))
                die("answer", "too large");
            break;
        }
        frame = slice_of(c->in.ptr + at + 4, len);
        at += 4 + len;
        if (c->role == WRITER) {
            writer_answer(c, frame);
        } else {
            reader_answer(c, frame);
            if (!c->done)
                reader_ask(c);
        }
    }
    memmove(c->in.ptr, c->in.ptr + at, c->in.len - at);
    c->in.len -= at;
}

static void input(struct conn *c)
{
    size_t room = c->in.cap - c->in.len;
    ssize_t n =
        recv(c->fd, c->in.ptr + c->in.len, o.writers && room > TURN ? TURN : room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n <= 0)
        die("receive", n ? strerror(errno) : "the server closed the connection");
    c->in.len += (size_t)n;
    answers(c);
}

/* ---- the run ---- */

static void requests_make(void)
{
    uint32_t all = o.topics.topics * o.topics.partitions, i;

    if (o.tails && o.rate > 0) /* each writer has its own, to put stamps into */
        return;
    shared_n = all / o.spread;
    if (shared_n == 0)
        die("spread", "more partitions than there are");
    untouched = shared_n;
    touched = xcalloc(shared_n, sizeof *touched);
    shared = xcalloc(shared_n, sizeof *shared);
    for (i = 0; i < shared_n; i++)
        wire_produce_init(&shared[i], &o.topics, i * o.spread, o.spread, o.batch, o.record);
}

static void conn_make(unsigned i)
{
    struct conn *c = &conns[i];
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    uint32_t all = o.topics.topics * o.topics.partitions;

    c->role = i < o.writers ? WRITER : i < o.writers + o.readers ? READER : TAIL;
    c->fd = dial(true);
    buf_init(&c->in, ANSWER_MAX);
    if (buf_reserve(&c->in, c->role == WRITER ? WRITER_IN : o.fetch_bytes + (64u << 10)))
        die("memory", "none");
    if (c->role == WRITER) {
        if (!shared)
            wire_produce_init(&c->own, &o.topics, i % all, 1, o.batch, o.record);
        c->next = shared ? i % shared_n : 0;
        c->step = o.writers;
    } else {
        c->partition = (i - (c->role == READER ? o.writers : o.writers + o.readers)) % all;
        c->offset = c->role == TAIL ? -1 : 0;
        readers_left += c->role == READER;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void conns_make(void)
{
    double start;
    unsigned i;

    conns_n = o.writers + o.readers + o.tails;
    conns = xcalloc(conns_n, sizeof *conns);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (i = 0; i < conns_n; i++)
        conn_make(i);
    start = (double)now_ns() + 1e6;
    for (i = 0; i < o.writers && o.rate > 0; i++)
        conns[i].next_due = start + i * 1e9 / o.rate;
}

/* Nanoseconds until something is due without an answer. */
static uint64_t idle_ns(void)
{
    uint64_t now = now_ns(), at = meter.next_ns;
    unsigned i;

    for (i = 0; i < o.writers && o.rate > 0; i++)
        if (conns[i].n < o.depth && !conns[i].sending && conns[i].next_due < (double)at)
            at = (uint64_t)conns[i].next_due;
    return at > now ? at - now : 0;
}

/* The readers' process has read all. */
static void apart_done(void)
{
    struct counts read_apart;

    if (read(apart_fd, &read_apart, sizeof read_apart) != (ssize_t)sizeof read_apart)
        die("readers", "they ended before they had read all");
    close(apart_fd);
    wait(NULL); /* for what it used */
    apart_fd = -1;
    counts_merge(&counts, &read_apart);
}

static void turn(void)
{
    struct epoll_event e[EVENTS];
    uint64_t ns = idle_ns();
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    int i, n = epoll_pwait2(poller, e, EVENTS, &t, NULL);
    unsigned k;

    for (i = 0; i < n; i++) {
        struct conn *c = e[i].data.ptr;

        if (!c) {
            apart_done();
            continue;
        }
        if (e[i].events & ~EPOLLOUT)
            input(c);
        if (c->role == WRITER)
            writer_go(c);
    }
    for (k = 0; k < o.writers && o.rate > 0; k++)
        writer_go(&conns[k]);
}

/* While partitions are left that had fewer than TOUCHES writes, warming up is not over. */
static void touch(uint64_t until)
{
    if (meter.warm && untouched && now_ns() < until)
        meter.next_ns = now_ns() + (uint64_t)(o.warm_s * 1e9);
}

static void begin(void)
{
    unsigned i;

    prctl(PR_SET_TIMERSLACK, 1000);
    buf_init(&request, ANSWER_MAX);
    requests_make();
    conns_make();
    meter_init(&meter, (pid_t)o.pid, o.warm_s, o.seconds, (int)o.windows);
    for (i = 0; i < conns_n; i++) {
        if (conns[i].role == WRITER)
            writer_go(&conns[i]);
        else
            reader_ask(&conns[i]);
    }
}

static void end(void)
{
    unsigned i;

    for (i = 0; i < conns_n; i++) {
        close(conns[i].fd);
        buf_fini(&conns[i].in);
        if (!shared && conns[i].role == WRITER)
            wire_produce_fini(&conns[i].own);
    }
    for (i = 0; i < shared_n; i++)
        wire_produce_fini(&shared[i]);
    free(shared);
    free(touched);
    free(conns);
    buf_fini(&request);
    close(poller);
}

/* The process of the readers: tells what it read by fd. */
__attribute__((noreturn)) static void read_apart(int fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (nice(NICE_APART) == -1)
        die("nice", strerror(errno));
    o.writers = o.tails = 0;
    begin();
    meter.next_ns = UINT64_MAX; /* the windows are the other process's */
    while (readers_left)
        turn();
    end();
    if (write(fd, &counts, sizeof counts) != (ssize_t)sizeof counts)
        die("write", strerror(errno));
    _exit(0);
}

static void readers_apart(void)
{
    int fd[2];
    pid_t pid;

    if (pipe(fd) || (pid = fork()) < 0)
        die("readers", strerror(errno));
    if (pid == 0)
        read_apart(fd[1]);
    close(fd[1]);
    apart_fd = fd[0];
    o.readers = 0;
}

static void run(void)
{
    uint64_t touch_until = now_ns() + (uint64_t)(o.touch_s * 1e9);
    bool more = true, over = false;

    if (o.apart)
        readers_apart();
    begin();
    if (o.apart &&
        epoll_ctl(poller, EPOLL_CTL_ADD, apart_fd, &(struct epoll_event){.events = EPOLLIN}))
        die("epoll", strerror(errno));
    while (more) {
        turn();
        touch(touch_until);
        if (o.readers)
            over = readers_left == 0 && !o.writers;
        else if (o.apart)
            over = apart_fd < 0;
        if (meter_due(&meter, now_ns()) || over)
            more = meter_window(&meter, &counts) && !over;
    }
    end();
}

/* ---- options ---- */

static const struct choice choices[] = {
    {"--port", CHOICE_COUNT, &o.port, 1, 65535},
    {"--topic", CHOICE_TEXT, &o.topics.name, 0, 0},
    {"--topics", CHOICE_COUNT, &o.topics.topics, 1, 100000},
    {"--partitions", CHOICE_COUNT, &o.topics.partitions, 1, 100000},
    {"--writers", CHOICE_COUNT, &o.writers, 0, CONNS_MAX},
    {"--readers", CHOICE_COUNT, &o.readers, 0, CONNS_MAX},
    {"--tails", CHOICE_COUNT, &o.tails, 0, CONNS_MAX},
    {"--depth", CHOICE_COUNT, &o.depth, 1, DEPTH_MAX},
    {"--record", CHOICE_COUNT, &o.record, 8, 64 << 20}, /* a time goes into it */
    {"--batch", CHOICE_COUNT, &o.batch, 1, 1e6},
    {"--spread", CHOICE_COUNT, &o.spread, 1, 10000},
    {"--windows", CHOICE_COUNT, &o.windows, 1, 1000},
    {"--seconds", CHOICE_NUMBER, &o.seconds, 0.01, 3600},
    {"--warm", CHOICE_NUMBER, &o.warm_s, 0, 3600},
    {"--touch", CHOICE_NUMBER, &o.touch_s, 0, 3600},
    {"--rate", CHOICE_NUMBER, &o.rate, 0, 1e9},
    {"--pid", CHOICE_COUNT, &o.pid, 0, 1 << 30},
    {"--fetch-bytes", CHOICE_COUNT, &o.fetch_bytes, 1024, 64 << 20},
    {"--apart", CHOICE_FLAG, &o.apart, 0, 0},
    {NULL, CHOICE_FLAG, NULL, 0, 0}};

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    choices_read(
        argc, argv, 2,
        "create, delete, wait or run, then options: a client of Kafka's protocol that costs "
        "little itself",
        choices);
    if (strcmp(what, "create") == 0 || strcmp(what, "delete") == 0)
        admin(*what == 'c');
    else if (strcmp(what, "wait") == 0)
        wait_answer();
    else if (strcmp(what, "run") == 0)
        run();
    else
        die("usage", "create, delete, wait or run; --help lists options");
    return 0;
}
