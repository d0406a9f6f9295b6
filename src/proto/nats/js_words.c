/* See js_words.h. */
#include "proto/nats/js_words.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/subject.h"
#include "proto/nats/parse.h"

bool jack_subject_read(struct slice tail, struct jack_subject *out)
{
    struct slice token;

    return subject_token(&tail, &token) && nats_u64(token, &out->deliveries) &&
           subject_token(&tail, &token) && nats_u64(token, &out->seq) &&
           subject_token(&tail, &token) && nats_u64(token, &out->dseq);
}

/* ---- durations ---- */

static double unit_ns(struct slice *s)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"\xce\xbcs", 1e3},
                 {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},        {"h", 3600e9}};
    struct slice name;
    size_t i;

    for (i = 0; i < sizeof units / sizeof *units; i++) {
        name = slice_str(units[i].name);
        if (slice_has_prefix(*s, name)) {
            *s = slice_of(s->ptr + name.len, s->len - name.len);
            return units[i].ns;
        }
    }
    return 0;
}

static bool decimal_read(struct slice *s, double *v)
{
    double scale = 1;
    bool point = false, any = false;

    *v = 0;
    for (; s->len; *s = slice_of(s->ptr + 1, s->len - 1)) {
        if (s->ptr[0] == '.' && !point) {
            point = true;
        } else if (s->ptr[0] >= '0' && s->ptr[0] <= '9') {
            any = true;
            if (point)
                scale /= 10;
            *v = point ? *v + (s->ptr[0] - '0') * scale : *v * 10 + (s->ptr[0] - '0');
        } else {
            break;
        }
    }
    return any;
}

bool jduration_read(struct slice s, int64_t *ns)
{
    double total = 0, v, unit, sign = 1;

    if (s.len && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        sign = s.ptr[0] == '-' ? -1 : 1;
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    if (slice_eq_str(s, "0")) {
        *ns = 0;
        return true;
    }
    if (!s.len)
        return false;
    while (s.len) {
        if (!decimal_read(&s, &v) || !(unit = unit_ns(&s)))
            return false;
        total += v * unit;
    }
    if (!(total < 9e18))
        return false;
    *ns = (int64_t)(sign * (double)(int64_t)(total + 0.5));
    return true;
}

/* ---- acknowledgements ---- */

static int64_t nak_delay(struct slice s)
{
    json_error_t je;
    json_t *o, *v;
    int64_t ns = 0;

    s = slice_trim(s, SLICE_LIT(" \t\r\n"));
    if (!s.len)
        return 0;
    if (s.ptr[0] != '{')
        return jduration_read(s, &ns) && ns > 0 ? ns : 0;
    o = json_loadb((const char *)s.ptr, s.len, 0, &je);
    v = json_object_get(o, "delay");
    if (json_is_integer(v) && json_integer_value(v) > 0)
        ns = json_integer_value(v);
    json_decref(o);
    return ns;
}

static bool begins(struct slice s, const char *word, struct slice *rest)
{
    struct slice w = slice_str(word);

    *rest = SLICE_NULL;
    if (!slice_has_prefix(s, w))
        return false;
    *rest = slice_of(s.ptr + w.len, s.len - w.len);
    return true;
}

void jack_body_read(struct slice body, struct jack_body *out)
{
    struct slice rest;

    *out = (struct jack_body){.what = JACK_NOTHING};
    if (!body.len || slice_eq_str(body, "+ACK") || slice_eq_str(body, "+OK")) {
        out->what = JACK_ACK;
    } else if (begins(body, "+NXT", &rest)) {
        out->what = JACK_NEXT;
        out->rest = rest;
    } else if (begins(body, "-NAK", &rest)) {
        out->what = JACK_NAK;
        out->delay_ns = nak_delay(rest);
    } else if (slice_eq_str(body, "+WPI")) {
        out->what = JACK_PROGRESS;
    } else if (begins(body, "+TERM", &rest)) {
        out->what = JACK_TERM;
        out->rest = slice_trim(rest, SLICE_LIT(" \t\r\n"));
    }
}

/* ---- requests for messages ---- */

static bool refuse(char fault[JPULL_FAULT], const char *why, const char *what)
{
    (void)snprintf(fault, JPULL_FAULT, "Bad Request - %s%s", why, what);
    return false;
}

static bool int_get(const json_t *o, const char *name, int64_t *out, char fault[JPULL_FAULT])
{
    json_t *v = json_object_get(o, name);

    if (!v || json_is_null(v))
        return true;
    if (!json_is_integer(v))
        return refuse(fault, "not a number: ", name);
    *out = json_integer_value(v);
    return true;
}

static bool word_get(const json_t *o, const char *name, char *out, char fault[JPULL_FAULT])
{
    json_t *v = json_object_get(o, name);

    if (!v || json_is_null(v))
        return true;
    if (!json_is_string(v) || json_string_length(v) > JPULL_WORD_MAX)
        return refuse(fault, "not a name: ", name);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return true;
}

static bool object_read(const json_t *o, struct jpull_body *out, char fault[JPULL_FAULT])
{
    json_t *v = json_object_get(o, "no_wait");

    out->batch = 0;
    if (!json_is_object(o))
        return refuse(fault, "not an object", "");
    if (v && !json_is_null(v) && !json_is_boolean(v))
        return refuse(fault, "not true or false: ", "no_wait");
    out->no_wait = json_is_true(v);
    if (!int_get(o, "batch", &out->batch, fault) ||
        !int_get(o, "max_bytes", &out->max_bytes, fault) ||
        !int_get(o, "expires", &out->expires_ns, fault) ||
        !int_get(o, "idle_heartbeat", &out->heartbeat_ns, fault) ||
        !int_get(o, "min_pending", &out->min_pending, fault) ||
        !int_get(o, "min_ack_pending", &out->min_ack_pending, fault) ||
        !int_get(o, "priority", &out->priority, fault) ||
        !word_get(o, "group", out->group, fault) || !word_get(o, "id", out->id, fault))
        return false;
    if (out->heartbeat_ns > 0 && out->heartbeat_ns > out->expires_ns / 2)
        return refuse(fault, "heartbeat value too large", "");
    return true;
}

bool jpull_body_read(struct slice body, struct jpull_body *out, char fault[JPULL_FAULT])
{
    json_error_t je;
    uint64_t n;
    json_t *o;
    bool ok;

    memset(out, 0, sizeof *out);
    out->batch = 1;
    body = slice_trim(body, SLICE_LIT(" \t\r\n"));
    if (body.len > JPULL_BODY_MAX)
        return refuse(fault, "too large", "");
    if (body.len && body.ptr[0] == '{') {
        o = json_loadb((const char *)body.ptr, body.len, 0, &je);
        ok = o ? object_read(o, out, fault) : refuse(fault, "invalid JSON", "");
        json_decref(o);
    } else {
        ok = true;
        if (nats_u64(body, &n) && n <= INT32_MAX)
            out->batch = (int64_t)n;
    }
    if (ok && out->batch < 1) /* nothing said, or nothing wanted: one, as nats-server gives */
        out->batch = 1;
    return ok;
}
