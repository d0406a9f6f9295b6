/* Bits of removed records. See removed.h. */
#include "broker/removed.h"

#include "base/buf.h"
#include "base/endian.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"

void removed_key(uint32_t topic_id, uint64_t block, uint8_t out[REMOVED_KEY])
{
    be32_store(out, topic_id);
    be64_store(out + 4, block);
}

bool removed_get(struct broker *b, uint32_t topic_id, uint64_t block, uint8_t bits[REMOVED_BYTES])
{
    uint8_t key[REMOVED_KEY];
    struct buf value;
    bool any;

    removed_key(topic_id, block, key);
    buf_init(&value, REMOVED_BYTES);
    any = kv_get(b, REMOVED_NS, slice_of(key, sizeof key), &value) == ERR_OK &&
          value.len == REMOVED_BYTES;
    if (any)
        memcpy(bits, value.ptr, REMOVED_BYTES);
    buf_fini(&value);
    return any;
}

void removed_topic_conf(struct broker *b, struct topic_conf *c)
{
    topic_conf_default(b, c);
    c->retention_ms = -1;
    c->retention_bytes = -1;
    c->cleanup = TOPIC_CLEANUP_COMPACT;
    c->compaction_by_offset = true;
    c->compaction_records = 0;
    c->max_message_bytes = LIMIT_TOPIC_MESSAGE_BYTES;
}

struct each {
    uint32_t topic_id;
    bool (*fn)(void *arg, uint64_t block, const uint8_t *bits);
    void *arg;
};

static bool one(void *arg, struct slice key, struct slice value)
{
    struct each *e = arg;

    if (key.len != REMOVED_KEY || value.len != REMOVED_BYTES || be32_load(key.ptr) < e->topic_id)
        return true;
    return be32_load(key.ptr) == e->topic_id && e->fn(e->arg, be64_load(key.ptr + 4), value.ptr);
}

void removed_each(struct broker *b, uint32_t topic_id,
                  bool (*fn)(void *arg, uint64_t block, const uint8_t bits[REMOVED_BYTES]),
                  void *arg)
{
    struct each e = {topic_id, fn, arg};

    kv_each(b, REMOVED_NS, one, &e);
}
