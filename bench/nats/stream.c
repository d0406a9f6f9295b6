/* A load for servers that speak JetStream, the same for each, over plain sockets. Used by run.py.
 *
 *   stream PORT publish  CONNS WINDOW SIZE MESSAGES   so many unanswered publishes a connection
 *   stream PORT pull     BATCH ACK SIZE MESSAGES      of a stream that was filled before; ACK 0 or 1
 *   stream PORT put      CONNS WINDOW SIZE MESSAGES   as publish, over 1,000 keys of a bucket
 *   stream PORT get      CONNS WINDOW SIZE MESSAGES   the newest values of these keys, directly
 *
 * Prints one line: seconds and messages, and with one connection and a window of 1 the 50th and 99th
 * of the times in microseconds, too. Each connection has a thread. An error in an answer ends it. */
#include "client.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT (4u << 20)
#define KEYS  1000u

/* ---- what comes ---- */

struct input {
    int fd;
    char *buf;
    size_t at, have;
};

struct msg {
    const char *reply; /* up to the next blank; NULL: none */
    size_t reply_len, len;
    const char *body; /* headers, too */
};

static void input_init(struct input *in, int fd)
{
    in->fd = fd;
    in->buf = malloc(INPUT + 1);
    in->at = in->have = 0;
    if (!in->buf)
        die("memory");
}

static void more(struct input *in)
{
    ssize_t r;

    memmove(in->buf, in->buf + in->at, in->have - in->at);
    in->have -= in->at;
    in->at = 0;
    r = read(in->fd, in->buf + in->have, INPUT - in->have);
    if (r <= 0)
        die("the server closed the connection");
    in->have += (size_t)r;
    in->buf[in->have] = '\0';
}

/* Fields of the line from p to nl: MSG subject sid [reply] size, HMSG … header-size size. */
static void fields(struct msg *m, const char *p, const char *nl)
{
    const char *field[8];
    int n = 0, plain = *p == 'M' ? 4 : 5;

    while (p < nl && n < 8) {
        field[n++] = p;
        while (p < nl && *p != ' ')
            p++;
        while (p < nl && *p == ' ')
            p++;
    }
    m->reply = n > plain ? field[3] : NULL;
    m->reply_len = n > plain ? strcspn(field[3], " ") : 0;
    m->len = strtoul(field[n - 1], NULL, 10);
}

/* The next message, valid until the next call. wait: false, *m is of what has come already, if any. */
static int next_msg(struct input *in, struct msg *m, int wait)
{
    for (;;) {
        const char *p = in->buf + in->at;
        const char *nl = in->have > in->at ? memchr(p, '\n', in->have - in->at) : NULL;

        if (nl && *p != 'M' && *p != 'H') { /* PING and the like */
            if (*p == '-')
                die(p);
            in->at = (size_t)(nl + 1 - in->buf);
            continue;
        }
        if (nl) {
            fields(m, p, nl - 1);
            if ((size_t)(nl + 1 - in->buf) + m->len + 2 <= in->have) {
                m->body = nl + 1;
                in->at = (size_t)(nl + 1 - in->buf) + m->len + 2;
                return 1;
            }
        }
        if (!wait)
            return 0;
        more(in);
    }
}

/* One request and its answer, which must not be an error. */
static void api(const char *subject, const char *body)
{
    char line[2048];
    struct input in;
    struct msg m;

    input_init(&in, dial());
    subscribe(in.fd, "_INBOX.api", "", 1);
    send_all(in.fd, line,
             (size_t)snprintf(line, sizeof line, "PUB $JS.API.%s _INBOX.api %zu\r\n%s\r\n", subject,
                              strlen(body), body));
    next_msg(&in, &m, 1);
    snprintf(line, sizeof line, "%.*s", (int)m.len, m.body);
    if (strstr(line, "\"error\""))
        die(line);
    close(in.fd);
    free(in.buf);
}

/* ---- publishing and getting: requests with so many unanswered ---- */

enum what { PUBLISH, PUT, GET };

struct client {
    pthread_t thread;
    enum what what;
    struct input in;
    int id;
    unsigned window, size;
    uint64_t n;
    float *us; /* NULL: not wanted */
};

static size_t request_make(const struct client *c, char *out, uint64_t i)
{
    unsigned key = (unsigned)((i * 7919 + (unsigned)c->id) % KEYS);
    size_t n;

    if (c->what == GET)
        return (size_t)sprintf(out, "PUB $JS.API.DIRECT.GET.KV_b.$KV.b.k%u _INBOX.%d.x 0\r\n\r\n",
                               key, c->id);
    n = c->what == PUT
            ? (size_t)sprintf(out, "PUB $KV.b.k%u _INBOX.%d.x %u\r\n", key, c->id, c->size)
            : (size_t)sprintf(out, "PUB js.b _INBOX.%d.x %u\r\n", c->id, c->size);
    memset(out + n, 'x', c->size);
    memcpy(out + n + c->size, "\r\n", 2);
    return n + c->size + 2;
}

static void answer_check(const struct client *c, const struct msg *m)
{
    static const char none[] = "NATS/1.0 ";

    if (c->what != GET ? (m->len < 10 || memcmp(m->body, "{\"error\"", 8) == 0 || *m->body != '{')
                       : (m->len < c->size || (m->len > 12 && memcmp(m->body, none, 9) == 0 &&
                                               memcmp(m->body + 8, "\r\n", 2) != 0)))
        die(m->body);
}

static void *client_run(void *arg)
{
    struct client *c = arg;
    size_t cap = (size_t)c->window * (c->size + 200), n;
    char *out = malloc(cap);
    uint64_t sent = 0, got = 0;
    struct msg m;

    while (got < c->n) {
        double start = now();

        for (n = 0; sent < c->n && sent - got < c->window; sent++)
            n += request_make(c, out + n, sent);
        if (n)
            send_all(c->in.fd, out, n);
        next_msg(&c->in, &m, 1);
        do {
            answer_check(c, &m);
            got++;
        } while (next_msg(&c->in, &m, 0));
        if (c->us)
            c->us[got - 1] = (float)((now() - start) * 1e6);
    }
    free(out);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    return (*(const float *)a > *(const float *)b) - (*(const float *)a < *(const float *)b);
}

static double clients_run(enum what what, unsigned conns, unsigned window, unsigned size,
                          uint64_t n, float *us)
{
    struct client *c = calloc(conns, sizeof *c);
    char line[64];
    double start;
    unsigned i;

    for (i = 0; i < conns; i++) {
        c[i] = (struct client){
            .what = what, .id = (int)i, .window = window, .size = size, .n = n / conns, .us = us};
        input_init(&c[i].in, dial());
        snprintf(line, sizeof line, "_INBOX.%u.*", i);
        subscribe(c[i].in.fd, line, "", 1);
        sync_up(c[i].in.fd);
    }
    start = now();
    for (i = 0; i < conns; i++)
        if (pthread_create(&c[i].thread, NULL, client_run, &c[i]))
            die("thread");
    for (i = 0; i < conns; i++)
        pthread_join(c[i].thread, NULL);
    start = now() - start;
    for (i = 0; i < conns; i++) {
        close(c[i].in.fd);
        free(c[i].in.buf);
    }
    free(c);
    return start;
}

static void requests(enum what what, unsigned conns, unsigned window, unsigned size, uint64_t n)
{
    uint64_t total = n / conns * conns;
    float *us = conns == 1 && window == 1 ? calloc(total, sizeof *us) : NULL;
    double s;

    if (what == PUBLISH)
        api("STREAM.CREATE.B", "{\"name\":\"B\",\"subjects\":[\"js.>\"],\"num_replicas\":1}");
    else
        api("STREAM.CREATE.KV_b",
            "{\"name\":\"KV_b\",\"subjects\":[\"$KV.b.>\"],\"max_msgs_per_subject\":1,"
            "\"discard\":\"new\",\"deny_delete\":true,\"allow_rollup_hdrs\":true,"
            "\"allow_direct\":true,\"num_replicas\":1}");
    if (what == GET)
        clients_run(PUT, 1, 100, size, KEYS, NULL);
    s = clients_run(what, conns, window, size, n, us);
    printf("%.6f %llu", s, (unsigned long long)total);
    if (us) {
        qsort(us, total, sizeof *us, by_value);
        printf(" %.1f %.1f", us[total / 2], us[total * 99 / 100]);
    }
    printf("\n");
}

/* ---- pulling ---- */

static void ask(struct input *in, unsigned batch)
{
    char line[200], body[64];
    int n = snprintf(body, sizeof body, "{\"batch\":%u,\"expires\":30000000000}", batch);

    send_all(in->fd, line,
             (size_t)snprintf(line, sizeof line,
                              "PUB $JS.API.CONSUMER.MSG.NEXT.B.c _INBOX.0.x %d\r\n%s\r\n", n,
                              body));
}

/* Asks for the next batch when half of one has come. */
static void pull(unsigned batch, unsigned ack, unsigned size, uint64_t n)
{
    static char acks[1 << 20];
    struct input in;
    struct msg m;
    uint64_t got = 0, asked = 0;
    size_t acks_n = 0;
    double start;

    api("STREAM.CREATE.B", "{\"name\":\"B\",\"subjects\":[\"js.>\"],\"num_replicas\":1}");
    clients_run(PUBLISH, 1, 1000, size, n, NULL);
    api("CONSUMER.DURABLE.CREATE.B.c",
        ack ? "{\"stream_name\":\"B\",\"config\":{\"durable_name\":\"c\",\"ack_policy\":"
              "\"explicit\",\"max_ack_pending\":20000,\"deliver_policy\":\"all\"}}"
            : "{\"stream_name\":\"B\",\"config\":{\"durable_name\":\"c\",\"ack_policy\":\"none\","
              "\"deliver_policy\":\"all\"}}");
    input_init(&in, dial());
    subscribe(in.fd, "_INBOX.0.*", "", 1);
    start = now();
    for (; got < n; got++) {
        for (; asked < n && asked < got + batch + batch / 2; asked += batch)
            ask(&in, batch);
        if (!next_msg(&in, &m, 0)) {
            send_all(in.fd, acks, acks_n);
            acks_n = 0;
            next_msg(&in, &m, 1);
        }
        if (!m.reply || m.len != size)
            die(m.body);
        if (!ack)
            continue;
        if (acks_n + m.reply_len + 20 > sizeof acks) {
            send_all(in.fd, acks, acks_n);
            acks_n = 0;
        }
        acks_n +=
            (size_t)sprintf(acks + acks_n, "PUB %.*s 4\r\n+ACK\r\n", (int)m.reply_len, m.reply);
    }
    send_all(in.fd, acks, acks_n);
    sync_up(in.fd);
    printf("%.6f %llu\n", now() - start, (unsigned long long)n);
}

int main(int argc, char **argv)
{
    unsigned long v[4];
    int i;

    if (argc != 7) {
        fprintf(stderr, "stream: see the head of stream.c\n");
        return 2;
    }
    load_port = atoi(argv[1]);
    for (i = 0; i < 4; i++)
        v[i] = strtoul(argv[3 + i], NULL, 10);
    if (strcmp(argv[2], "pull") == 0)
        pull((unsigned)v[0], (unsigned)v[1], (unsigned)v[2], v[3]);
    else
        requests(strcmp(argv[2], "publish") == 0 ? PUBLISH
                 : *argv[2] == 'p'               ? PUT
                                                 : GET,
                 (unsigned)v[0], (unsigned)v[1], (unsigned)v[2], v[3]);
    return 0;
}
