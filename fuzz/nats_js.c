/* What clients say to JetStream: acknowledgements, requests for messages, configurations. What is taken
 * is written and read again, and is the same. */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/nats/js_conf.h"
#include "proto/nats/js_words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void words(struct slice s)
{
    char fault[JPULL_FAULT];
    struct jack_subject at;
    struct jpull_body p;
    struct jack_body b;
    int64_t ns;

    jack_body_read(s, &b);
    ASSERT(b.delay_ns >= 0 && b.rest.len <= s.len);
    if (jack_subject_read(s, &at))
        ASSERT(s.len >= 5);
    (void)jduration_read(s, &ns);
    if (jpull_body_read(s, &p, fault))
        ASSERT(p.batch >= 1);
    if (jtime_read(s, &ns)) {
        char text[JTIME_TEXT_LEN + 1];
        int64_t again;

        jtime_text(ns, text);
        ASSERT(jtime_read(slice_str(text), &again));
    }
}

static void stream(const json_t *o, bool strict)
{
    struct jstream_conf c, d;
    struct js_fault f;

    if (!jstream_conf_read(&c, o, strict, &f))
        return;
    jstream_conf_copy(&d, &c);
    ASSERT(jstream_conf_equal(&c, &d));
    if (jstream_conf_check(&c, false, &f))
        (void)jstream_conf_update_check(&d, &c, &f);
    jstream_conf_fini(&c);
    jstream_conf_fini(&d);
}

static void consumer(const json_t *o, bool strict)
{
    struct jstream_conf s = {.replicas = 1};
    struct jconsumer_conf c, d;
    struct js_fault f;

    if (!jconsumer_conf_read(&c, o, strict, &f))
        return;
    jconsumer_conf_copy(&d, &c);
    ASSERT(jconsumer_conf_equal(&c, &d));
    if (jconsumer_conf_check(&c, &s, strict, &f))
        (void)jconsumer_conf_update_check(&c, &c, false, &f);
    jconsumer_conf_fini(&c);
    jconsumer_conf_fini(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_error_t e;
    json_t *o;

    if (!size)
        return 0;
    words(slice_of(data + 1, size - 1));
    o = json_loadb((const char *)data + 1, size - 1, 0, &e);
    if (o && data[0] & 1)
        stream(o, data[0] & 2);
    else if (o)
        consumer(o, data[0] & 2);
    json_decref(o);
    return 0;
}
