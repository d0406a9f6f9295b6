/* See client.h. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int load_port;

void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t r = write(fd, p, n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            die("write");
        p += r;
        n -= (size_t)r;
    }
}

/* Reads until the text comes. */
static void expect(int fd, const char *text)
{
    char buf[8192];
    size_t n = 0;

    while (n < sizeof buf - 1) {
        ssize_t r = read(fd, buf + n, sizeof buf - 1 - n);

        if (r <= 0)
            die("the server closed the connection");
        n += (size_t)r;
        buf[n] = '\0';
        if (strstr(buf, text))
            return;
        if (strstr(buf, "-ERR"))
            die(buf);
    }
    die("no answer");
}

void sync_up(int fd)
{
    send_all(fd, "PING\r\n", 6);
    expect(fd, "PONG\r\n");
}

int dial(void)
{
    static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                                "\"no_responders\":true,\"protocol\":1}\r\n";
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load_port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    expect(fd, "\r\n");
    send_all(fd, hello, sizeof hello - 1);
    sync_up(fd);
    sync_up(fd); /* nats-server sends another INFO behind the first PONG */
    return fd;
}

void subscribe(int fd, const char *subject, const char *queue, int sid)
{
    char line[200];

    send_all(fd, line,
             (size_t)snprintf(line, sizeof line, "SUB %s %s %d\r\n", subject, queue, sid));
}
