/* The configuration of share groups and streams groups: see tbl/group_configs.h. It is kept among
 * the broker's items (namespace "group.conf", key: the group, value: lines name=value of what was
 * set). Any thread. */
#ifndef WEIR_PROTO_KAFKA_SHARE_CONF_H
#define WEIR_PROTO_KAFKA_SHARE_CONF_H

#include "broker/coordinator.h"
#include "broker/cursor.h"
#include "proto/kafka/kafka_int.h"

#define GROUP_CONF_NS "group.conf"

enum share_reset { SHARE_LATEST, SHARE_EARLIEST, SHARE_DURATION };

struct share_conf {
    struct cursor_conf cursor;
    enum share_reset reset;
    int64_t reset_ms; /* SHARE_DURATION: so long before now */
    char reset_text[64];
    bool committed; /* read_committed */
    bool renew;
    /* of streams groups; -1: as the server has it (group_conf) */
    int32_t streams_session_timeout_ms, streams_heartbeat_ms, streams_standby_replicas,
        streams_initial_delay_ms, streams_interval_ms;
    uint32_t set; /* one bit for each item that clients gave a value, in the table's order */
};
void share_conf_default(struct share_conf *c);
/* What the group has of its own, and the defaults. */
void share_conf_get(struct broker *b, struct slice group, struct share_conf *out);
/* Puts in what the server has for what the group has not: what holds for it. */
void share_conf_fill(struct share_conf *c, const struct group_conf *server);
/* ERR_CONFIG with a sentence. A null value: the default. */
enum err share_conf_set(struct share_conf *c, struct slice name, struct slice value,
                        struct errinfo *info);

#define SHARE_CONF_VALUE_MAX 256u
struct share_conf_item {
    const char *name, *prose;
    int8_t type;     /* enum topic_conf_type */
    bool is_default; /* not set by a client */
    char value[SHARE_CONF_VALUE_MAX];
};
/* Item number i from 0 on; false behind the last. */
bool share_conf_item_at(const struct share_conf *c, unsigned i, struct share_conf_item *out);
/* Lines of what is set. */
#define SHARE_CONF_TEXT_MAX 2048u
struct slice share_conf_text(const struct share_conf *c, char out[SHARE_CONF_TEXT_MAX]);

#endif
