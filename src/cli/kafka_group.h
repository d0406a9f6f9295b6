/* A member of a consumer group of Kafka's new protocol (KIP-848: Weir, Apache Kafka 4.0 and newer): the
 * coordinator assigns, the member says by heartbeats what it has. One thread. */
#ifndef WEIR_CLI_KAFKA_GROUP_H
#define WEIR_CLI_KAFKA_GROUP_H

#include "cli/kafka_client.h"
#include "cli/source.h"

struct kafka_group;

/* source: its conf names the group and the topics, its parts become what is assigned. */
struct kafka_group *kafka_group_new(struct kafka_client *c, struct source *source);
/* Sends a heartbeat when it is time, and makes the source's parts so: what goes away is committed
 * first, what comes has the group's offset (p->next -1: it has none). False: fatal, see the client's
 * error. */
bool kafka_group_poll(struct kafka_group *g);
/* True also if a rebalance is in between: it is for later then. */
bool kafka_group_commit(struct kafka_group *g);
/* Leaves, as well as it can, and frees. */
void kafka_group_leave(struct kafka_group **g);

#endif
