/* A NATS server as a whole on a simulated disk, and one client of it: what tests of streams share. All
 * takes place when the test says so: turns of the loops, what the disk does, time. */
#ifndef WEIR_TESTS_UNIT_NATS_SERVED_H
#define WEIR_TESTS_UNIT_NATS_SERVED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/sim/natsd.h"
#include "base/hex.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "io/sim.h"

#define SERVED_TURNS 400u /* for an answer; what is asked of the disk is done in some of them */

struct served_heard {
    uint32_t request; /* 0: an event */
    char *subject, *payload;
};

struct served {
    struct natsd d;
    struct io *io;
    uint32_t sent; /* requests; each one's answers come to a subject of its number */
    struct served_heard *heard;
    uint32_t heard_n;
};

static inline void served_message(void *arg, const struct natsd_msg *m)
{
    struct served *f = arg;
    char subject[256];

    assert_true(m->subject.len < sizeof subject);
    memcpy(subject, m->subject.ptr, m->subject.len);
    subject[m->subject.len] = 0;
    f->heard = xrealloc(f->heard, (f->heard_n + 1) * sizeof *f->heard);
    f->heard[f->heard_n].request =
        strncmp(subject, "_R.", 3) == 0 ? (uint32_t)strtoul(subject + 3, NULL, 10) : 0;
    f->heard[f->heard_n].subject = xstrdup(subject);
    f->heard[f->heard_n].payload = xcalloc(1, m->payload.len + 1);
    memcpy(f->heard[f->heard_n++].payload, m->payload.ptr, m->payload.len);
}

static inline void served_forget(struct served *f)
{
    while (f->heard_n) {
        free(f->heard[--f->heard_n].subject);
        free(f->heard[f->heard_n].payload);
    }
}

/* The loops' turns, of what the disk has done already. */
static inline void served_loops(struct served *f, unsigned n)
{
    unsigned i;

    while (n--)
        for (i = 0; i < NATSD_LOOPS; i++)
            natsd_turn(&f->d, i);
    assert_null(f->d.broken);
}

static inline void served_turns(struct served *f, unsigned n)
{
    while (n--) {
        served_loops(f, 1);
        broker_step(f->d.b);
    }
}

static inline void served_start(struct served *f)
{
    const struct broker_conf c = {.dir = "/d",
                                  .io = f->io,
                                  .journal_file_bytes = 1u << 20,
                                  .retention_ms_default = -1,
                                  .topics_max = 200,
                                  .inflight_bytes = 64u << 20};
    struct errinfo info = {0};

    f->d.message = served_message;
    f->d.arg = f;
    if (natsd_start(&f->d, &c, &info))
        fail_msg("the server does not start: %s", info.text);
    natsd_connect(&f->d, 0, 0);
    natsd_send(&f->d, 0, SLICE_LIT("SUB _R.* 1\r\nSUB $JS.EVENT.> 2\r\n"));
}

/* seed: what a crash leaves of what was not synced. */
static inline void served_open(struct served *f, uint64_t seed)
{
    *f = (struct served){.io = io_sim_new(seed)};
    served_start(f);
}

static inline void served_close(struct served *f)
{
    natsd_stop(&f->d);
    io_sim_free(&f->io);
    served_forget(f);
    free(f->heard);
}

/* Power off and on. */
static inline void served_crash(struct served *f)
{
    io_sim_crash_at(f->io, 1); /* stopping does not save anything */
    natsd_stop(&f->d);
    io_sim_crash(f->io);
    served_forget(f);
    served_start(f);
}

static inline void served_wait(struct served *f, uint64_t ms)
{
    io_sim_advance(f->io, ms * 1000000u);
    served_turns(f, 4);
}

/* Sends a message; headers: lines, each with its end, or NULL. The number of its answer. */
static inline uint32_t served_pub(struct served *f, const char *subject, const char *headers,
                                  struct slice payload)
{
    char reply[32];
    size_t head = headers ? strlen(headers) + sizeof "NATS/1.0\r\n\r\n" - 1 : 0;
    struct buf b;

    snprintf(reply, sizeof reply, "_R.%" PRIu32, ++f->sent);
    if (!headers) {
        natsd_publish(&f->d, 0, subject, reply, payload);
        return f->sent;
    }
    buf_init(&b, SIZE_MAX);
    buf_printf(&b, "HPUB %s %s %zu %zu\r\nNATS/1.0\r\n%s\r\n", subject, reply, head,
               head + payload.len, headers);
    buf_append_slice(&b, payload);
    buf_append_str(&b, "\r\n");
    natsd_send(&f->d, 0, buf_slice(&b));
    buf_fini(&b);
    return f->sent;
}

/* The answer so far; NULL: there is none. */
static inline const char *served_heard(const struct served *f, uint32_t request)
{
    uint32_t i;

    for (i = 0; i < f->heard_n; i++)
        if (f->heard[i].request == request)
            return f->heard[i].payload;
    return NULL;
}

/* How many events came whose subject has this part; *payload: the last one's. */
static inline unsigned served_events(const struct served *f, const char *part, const char **payload)
{
    unsigned n = 0;
    uint32_t i;

    for (i = 0; i < f->heard_n; i++)
        if (!f->heard[i].request && strstr(f->heard[i].subject, part)) {
            *payload = f->heard[i].payload;
            n++;
        }
    return n;
}

static inline const char *served_answer(struct served *f, uint32_t request)
{
    const char *text;
    unsigned i;

    for (i = 0; !(text = served_heard(f, request)) && i < SERVED_TURNS; i++)
        served_turns(f, 1);
    if (!text)
        fail_msg("request %" PRIu32 " was not answered", request);
    return text;
}

/* A member's number; dots lead into objects. -1: it is not there. */
static inline int64_t served_number(const char *text, const char *path)
{
    json_t *root = json_loads(text, JSON_DECODE_ANY, NULL), *o = root;
    char name[64];
    int64_t n = -1;
    size_t len;

    for (; o && *path; path += len + (path[len] == '.')) {
        len = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        o = json_object_get(o, name);
    }
    if (json_is_integer(o))
        n = json_integer_value(o);
    json_decref(root);
    return n;
}

/* A request to the API; its answer, valid until served_forget. */
static inline const char *served_api(struct served *f, const char *subject, const char *body)
{
    char to[256];

    snprintf(to, sizeof to, "$JS.API.%s", subject);
    return served_answer(f, served_pub(f, to, NULL, slice_str(body)));
}

/* … that is not refused. */
static inline const char *served_good(struct served *f, const char *subject, const char *body)
{
    const char *text = served_api(f, subject, body);

    if (served_number(text, "error.err_code") >= 0)
        fail_msg("%s %s: %s", subject, body, text);
    return text;
}

/* A number of the stream's state. */
static inline int64_t served_state(struct served *f, const char *stream, const char *what)
{
    char subject[80], path[80];

    snprintf(subject, sizeof subject, "STREAM.INFO.%s", stream);
    snprintf(path, sizeof path, "state.%s", what);
    return served_number(served_good(f, subject, ""), path);
}

/* Appends a member of a message, which is base64, as text. */
static inline void served_part(const json_t *m, const char *name, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(m, name));
    size_t n = strlen(out), len = 0;
    uint8_t raw[4096];

    if (!text)
        return;
    assert_true(strlen(text) <= sizeof raw);
    assert_true(base64_decode(text, strlen(text), raw, &len));
    snprintf(out + n, cap - n, "%.*s", (int)len, (const char *)raw);
}

/* "SUBJECT HEADERS PAYLOAD" of a message, "" if it is not there. */
static inline void served_get(struct served *f, const char *stream, uint64_t seq, char *out,
                              size_t cap)
{
    char subject[80], body[80];
    json_t *o, *m;

    snprintf(subject, sizeof subject, "STREAM.MSG.GET.%s", stream);
    snprintf(body, sizeof body, "{\"seq\":%" PRIu64 "}", seq);
    o = json_loads(served_api(f, subject, body), 0, NULL);
    m = json_object_get(o, "message");
    out[0] = 0;
    if (m) {
        snprintf(out, cap, "%s ", json_string_value(json_object_get(m, "subject")));
        served_part(m, "hdrs", out, cap);
        served_part(m, "data", out, cap);
    }
    json_decref(o);
}

#endif
