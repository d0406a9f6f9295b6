/* Fuzzes JetStream behind a whole NATS server on a simulated disk (tests/sim/natsd.h). The input is
 * text: each line is one step of a client.
 *
 *   STREAM.CREATE.A {"name":"A"}   a request to $JS.API.…: the subject's begin, a blank, the body
 *   $JS.ACK.A.c.1.1.1.1.0 +ACK     what begins with $ or a small letter is published as it is
 *   a.b >Nats-Msg-Id: 1>Nats-TTL: 5|payload   with headers, each behind >, up to |
 *   !9                             2^9 ms pass
 *   #                              the server is stopped and started again; ## after a power failure
 *
 * Checked beside the sanitizers: what the server sends is its protocol; what it answers to requests of
 * the API is JSON, or a status; a server that was stopped starts again; memory stays bounded. */
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/sim/natsd.h"
#include "base/assert.h"
#include "broker/broker.h"
#include "io/sim.h"

#define INPUT_MAX  8192u
#define STEPS_MAX  200u
#define LINE_ROOM  4096u
#define MEMORY_MAX ((size_t)512 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* With AddressSanitizer mallinfo2 knows nothing. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t memory_now(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
                                                   : mallinfo2().uordblks;
}

/* Answers of the API come to _R.api, those of direct gets and pulls to _R.any, as messages. */
static void on_message(void *arg, const struct natsd_msg *m)
{
    json_t *o;

    (void)arg;
    if (m->headers.len)
        ASSERT(slice_has_prefix(m->headers, SLICE_LIT("NATS/1.0")));
    if (!slice_eq_str(m->subject, "_R.api") || m->headers.len || !m->payload.len)
        return;
    o = json_loadb((const char *)m->payload.ptr, m->payload.len, 0, NULL);
    ASSERT(json_is_object(o));
    json_decref(o);
}

static void start(struct natsd *d, struct io *io)
{
    struct broker_conf c = {.dir = "/d",
                            .io = io,
                            .journal_file_bytes = 64u << 10,
                            .retention_ms_default = -1,
                            .topics_max = 20,
                            .inflight_bytes = 1u << 20};
    struct errinfo info = {0};

    if (natsd_start(d, &c, &info)) {
        fprintf(stderr, "the server does not start: %s\n", info.text);
        abort();
    }
    natsd_connect(d, 0, 0);
    natsd_send(d, 0, SLICE_LIT("SUB _R.* 1\r\nSUB $JS.EVENT.> 2\r\nSUB a.> 3\r\n"));
}

static void turns(struct natsd *d, unsigned n)
{
    unsigned i;

    while (n--) {
        for (i = 0; i < NATSD_LOOPS; i++)
            natsd_turn(d, i);
        broker_step(d->b);
        ASSERT(!d->broken);
    }
}

static void again(struct natsd *d, struct io *io, bool crash)
{
    if (crash)
        io_sim_crash_at(io, 1); /* stopping does not save anything */
    natsd_stop(d);
    if (crash)
        io_sim_crash(io);
    start(d, io);
}

/* "subject body", or with headers. */
static void publish(struct natsd *d, const char *subject, const char *reply, struct slice body)
{
    const uint8_t *bar = memchr(body.ptr, '|', body.len);
    char line[LINE_ROOM], head[LINE_ROOM];
    size_t n = 0, i;
    struct buf b;
    int len;

    if (!body.len || body.ptr[0] != '>' || !bar || (size_t)(bar - body.ptr) * 2 + 16 > LINE_ROOM) {
        natsd_publish(d, 0, subject, reply, body);
        return;
    }
    n = (size_t)snprintf(head, sizeof head, "NATS/1.0");
    for (i = 0; body.ptr + i < bar; i++) {
        if (body.ptr[i] == '>')
            head[n++] = '\r', head[n++] = '\n';
        else
            head[n++] = (char)body.ptr[i];
    }
    memcpy(head + n, "\r\n\r\n", 4);
    n += 4;
    body = slice_of(bar + 1, body.len - (size_t)(bar + 1 - body.ptr));
    len = snprintf(line, sizeof line, "HPUB %s %s %zu %zu\r\n", subject, reply, n, n + body.len);
    buf_init(&b, 1u << 20);
    buf_append(&b, line, (size_t)len);
    buf_append(&b, head, n);
    buf_append_slice(&b, body);
    buf_append_str(&b, "\r\n");
    natsd_send(d, 0, buf_slice(&b));
    buf_fini(&b);
}

static void step(struct natsd *d, struct io *io, struct slice line)
{
    const uint8_t *blank = memchr(line.ptr, ' ', line.len);
    size_t n = blank ? (size_t)(blank - line.ptr) : line.len, i;
    struct slice body = blank ? slice_of(blank + 1, line.len - n - 1) : SLICE_LIT("");
    char subject[600];
    bool api = line.ptr[0] >= 'A' && line.ptr[0] <= 'Z';

    if (line.ptr[0] == '#') {
        again(d, io, line.len > 1);
        return;
    }
    if (line.ptr[0] == '!') {
        io_sim_advance(io, ((uint64_t)1 << (line.len > 1 ? line.ptr[1] % 22 : 0)) * 1000000u);
        broker_background(d->b);
        return;
    }
    for (i = 0; i < n; i++)
        if (line.ptr[i] < 0x21 || line.ptr[i] > 0x7e)
            return;
    if (!n || n > 512)
        return;
    snprintf(subject, sizeof subject, "%s%.*s", api ? "$JS.API." : "", (int)n,
             (const char *)line.ptr);
    publish(d, subject,
            api && !slice_has_prefix(line, SLICE_LIT("DIRECT.")) &&
                    !slice_has_prefix(line, SLICE_LIT("CONSUMER.MSG."))
                ? "_R.api"
                : "_R.any",
            body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct natsd d = {.message = on_message};
    size_t at = 0, n, base = memory_now();
    const uint8_t *end;
    unsigned steps = 0;
    struct io *io;

    if (size > INPUT_MAX)
        return 0;
    io = io_sim_new(1);
    start(&d, io);
    for (; at < size && steps < STEPS_MAX; at += n + 1, steps++) {
        end = memchr(data + at, '\n', size - at);
        n = end ? (size_t)(end - data) - at : size - at;
        if (!d.client[0].c) {
            turns(&d, 1);
            natsd_connect(&d, 0, 0);
        }
        if (n)
            step(&d, io, slice_of(data + at, n));
        turns(&d, 2);
        ASSERT(memory_now() < base + MEMORY_MAX);
    }
    turns(&d, 4);
    again(&d, io, false);
    turns(&d, 4);
    natsd_stop(&d);
    io_sim_free(&io);
    return 0;
}
