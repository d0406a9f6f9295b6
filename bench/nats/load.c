/* A load for servers that speak NATS's core protocol, the same for each: publishers, subscribers and
 * requesters over plain sockets, which cost less than any client library. Used by run.py.
 *
 *   load PORT pubsub  PUBS SUBS SIZE MESSAGES     each subscriber gets all
 *   load PORT queue   PUBS SUBS SIZE MESSAGES     each message goes to one subscriber
 *   load PORT request CONNS RESPONDERS SIZE REQUESTS
 *   load PORT wild    SUBSCRIPTIONS SIZE MESSAGES  patterns w.NNNNNN.*, each message to one of them
 *   load PORT idle    CONNS SUBS_EACH              then waits for a line on standard input
 *
 * Prints one line: seconds and messages (deliveries, or answered requests); for requests the 50th
 * and 99th of the times in microseconds, too. Publishers are a thread each, all receivers one. */
#include "client.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH (64u << 10)

/* ---- publishers ---- */

struct publisher {
    pthread_t thread;
    int fd;
    uint64_t messages, from;
    unsigned size, subjects; /* subjects 0: "b.x"; else w.NNNNNN.x in turn */
};

static size_t line_make(char *out, const struct publisher *p, uint64_t i)
{
    size_t n;

    if (p->subjects)
        n = (size_t)sprintf(out, "PUB w.%06u.x %u\r\n",
                            (unsigned)((p->from + i * 7919) % p->subjects), p->size);
    else
        n = (size_t)sprintf(out, "PUB b.x %u\r\n", p->size);
    memset(out + n, 'x', p->size);
    n += p->size;
    memcpy(out + n, "\r\n", 2);
    return n + 2;
}

static void *publish(void *arg)
{
    struct publisher *p = arg;
    char *batch = malloc(BATCH + p->size + 100);
    uint64_t i;
    size_t n = 0;

    for (i = 0; i < p->messages; i++) {
        n += line_make(batch + n, p, i);
        if (n >= BATCH) {
            send_all(p->fd, batch, n);
            n = 0;
        }
    }
    send_all(p->fd, batch, n);
    free(batch);
    return NULL;
}

/* ---- receivers: all on one thread, counted by bytes; a PING of the server counts for six ---- */

static void receive(int epfd, uint64_t bytes)
{
    static char buf[1 << 20];
    struct epoll_event ev[256];
    uint64_t got = 0;
    int n, i;

    while (got < bytes) {
        n = epoll_wait(epfd, ev, 256, 10000);
        if (n == 0)
            die("nothing came for 10 s");
        for (i = 0; i < n; i++) {
            ssize_t r = recv(ev[i].data.fd, buf, sizeof buf, MSG_DONTWAIT);

            if (r < 0 && errno == EAGAIN)
                continue;
            if (r <= 0)
                die("a subscriber was disconnected");
            got += (uint64_t)r;
        }
    }
}

static void watch(int epfd, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev))
        die("epoll");
}

static void run(struct publisher *p, unsigned pubs, int epfd, uint64_t bytes, uint64_t deliveries)
{
    double start = now();
    unsigned i;

    for (i = 0; i < pubs; i++)
        if (pthread_create(&p[i].thread, NULL, publish, &p[i]))
            die("thread");
    receive(epfd, bytes);
    printf("%.6f %llu\n", now() - start, (unsigned long long)deliveries);
    for (i = 0; i < pubs; i++)
        pthread_join(p[i].thread, NULL);
}

static void pubsub(unsigned pubs, unsigned subs, unsigned size, uint64_t messages, int queue)
{
    struct publisher *p = calloc(pubs, sizeof *p);
    int epfd = epoll_create1(0);
    uint64_t each = messages / pubs, n = each * pubs * (queue ? 1 : subs);
    char line[100];
    unsigned i;

    for (i = 0; i < subs; i++) {
        int fd = dial();

        subscribe(fd, "b.x", queue ? "q" : "", 1);
        sync_up(fd);
        watch(epfd, fd);
    }
    for (i = 0; i < pubs; i++)
        p[i] = (struct publisher){.fd = dial(), .messages = each, .size = size};
    run(p, pubs, epfd,
        n * ((uint64_t)snprintf(line, sizeof line, "MSG b.x 1 %u\r\n", size) + size + 2), n);
}

static void wild(unsigned subscriptions, unsigned size, uint64_t messages)
{
    struct publisher p = {.messages = messages, .size = size, .subjects = subscriptions};
    int epfd = epoll_create1(0), fd = dial();
    char line[100];
    unsigned i;

    for (i = 0; i < subscriptions; i++) {
        snprintf(line, sizeof line, "w.%06u.*", i);
        subscribe(fd, line, "", (int)(100000 + i));
    }
    sync_up(fd);
    watch(epfd, fd);
    p.fd = dial();
    run(&p, 1, epfd,
        messages * ((uint64_t)snprintf(line, sizeof line, "MSG w.000000.x 100000 %u\r\n", size) +
                    size + 2),
        messages);
}

/* ---- requests ---- */

struct requester {
    pthread_t thread;
    int fd, id;
    unsigned size;
    uint64_t n;
    float *us;
};

/* Answers whatever comes: reads whole messages, one answer each. */
static void *respond(void *arg)
{
    int fd = *(int *)arg;
    char buf[65536], *nl, *reply, line[256];
    size_t have = 0;

    for (;;) {
        ssize_t r = read(fd, buf + have, sizeof buf - 1 - have);
        char *p = buf;

        if (r <= 0)
            return NULL;
        have += (size_t)r;
        buf[have] = '\0';
        while ((nl = strstr(p, "\r\n"))) {
            char *sp = nl;
            unsigned size;

            if (memcmp(p, "MSG ", 4) != 0) { /* PING, INFO */
                p = nl + 2;
                continue;
            }
            while (*sp != ' ')
                sp--;
            size = (unsigned)atoi(sp + 1);
            if ((size_t)(nl + 2 - buf) + size + 2 > have)
                break;
            *sp = '\0';
            reply = strrchr(p, ' ') + 1;
            send_all(fd, line, (size_t)snprintf(line, sizeof line, "PUB %s 2\r\nok\r\n", reply));
            p = nl + 2 + size + 2;
        }
        have -= (size_t)(p - buf);
        memmove(buf, p, have);
    }
}

static void *ask(void *arg)
{
    struct requester *q = arg;
    char line[256], *payload = calloc(1, q->size + 3), buf[512];
    uint64_t i;
    int n;

    memset(payload, 'x', q->size);
    memcpy(payload + q->size, "\r\n", 2);
    for (i = 0; i < q->n; i++) {
        double start = now();
        size_t have = 0;

        n = snprintf(line, sizeof line, "PUB svc _INBOX.%d.%llu %u\r\n%s", q->id,
                     (unsigned long long)i % 10, q->size, payload);
        send_all(q->fd, line, (size_t)n);
        do {
            ssize_t r = read(q->fd, buf + have, sizeof buf - have);

            if (r <= 0)
                die("a requester was disconnected");
            have += (size_t)r;
        } while (have < 6 || memcmp(buf + have - 6, "\r\nok\r\n", 6) != 0);
        q->us[i] = (float)((now() - start) * 1e6);
    }
    free(payload);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b);
}

static void request(unsigned conns, unsigned responders, unsigned size, uint64_t requests)
{
    struct requester *q = calloc(conns, sizeof *q);
    uint64_t each = requests / conns, total = each * conns;
    int *fds = calloc(responders, sizeof *fds);
    float *us = calloc(total, sizeof *us);
    pthread_t t;
    char line[64];
    double start;
    unsigned i;

    for (i = 0; i < responders; i++) {
        fds[i] = dial();
        subscribe(fds[i], "svc", "q", 1);
        sync_up(fds[i]);
        pthread_create(&t, NULL, respond, &fds[i]);
    }
    for (i = 0; i < conns; i++) {
        q[i] = (struct requester){
            .fd = dial(), .id = (int)i, .size = size, .n = each, .us = us + i * each};
        snprintf(line, sizeof line, "_INBOX.%u.*", i);
        subscribe(q[i].fd, line, "", 1);
        sync_up(q[i].fd);
    }
    start = now();
    for (i = 0; i < conns; i++)
        pthread_create(&q[i].thread, NULL, ask, &q[i]);
    for (i = 0; i < conns; i++)
        pthread_join(q[i].thread, NULL);
    start = now() - start;
    qsort(us, total, sizeof *us, by_value);
    printf("%.6f %llu %.1f %.1f\n", start, (unsigned long long)total, us[total / 2],
           us[total * 99 / 100]);
}

static void idle(unsigned conns, unsigned subs)
{
    char line[100];
    unsigned i, k;

    for (i = 0; i < conns; i++) {
        int fd = dial();

        for (k = 0; k < subs; k++) {
            snprintf(line, sizeof line, "_INBOX.%06u.%06u", i, k);
            subscribe(fd, line, "", (int)k + 1);
        }
        sync_up(fd);
    }
    printf("ready\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return;
}

int main(int argc, char **argv)
{
    unsigned long v[4] = {0};
    int i;

    if (argc < 5) {
        fprintf(stderr, "load: see the head of load.c\n");
        return 2;
    }
    load_port = atoi(argv[1]);
    for (i = 3; i < argc && i < 7; i++)
        v[i - 3] = strtoul(argv[i], NULL, 10);
    if (strcmp(argv[2], "pubsub") == 0 || strcmp(argv[2], "queue") == 0)
        pubsub((unsigned)v[0], (unsigned)v[1], (unsigned)v[2], v[3], argv[2][0] == 'q');
    else if (strcmp(argv[2], "request") == 0)
        request((unsigned)v[0], (unsigned)v[1], (unsigned)v[2], v[3]);
    else if (strcmp(argv[2], "wild") == 0)
        wild((unsigned)v[0], (unsigned)v[1], v[2]);
    else
        idle((unsigned)v[0], (unsigned)v[1]);
    return 0;
}
