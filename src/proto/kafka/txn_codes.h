/* Kafka's error codes of groups and transactions that are not in the broker's table, and the mapping
 * of those that depend on what a client knows. Source: org.apache.kafka.common.protocol.Errors. */
#ifndef WEIR_PROTO_KAFKA_TXN_CODES_H
#define WEIR_PROTO_KAFKA_TXN_CODES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    KE_OFFSET_METADATA_TOO_LARGE = 12,
    KE_POLICY_VIOLATION = 44,
    KE_OPERATION_NOT_ATTEMPTED = 55,
    KE_TRANSACTION_ABORTABLE = 120,
};

/* The code of what a call of the broker's transactions answered. fenced_known: this version of the
 * API has PRODUCER_FENCED; before it INVALID_PRODUCER_EPOCH said the same. */
int16_t kafka_txn_code(enum err e, bool fenced_known);

#endif
