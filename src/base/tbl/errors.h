/* Every error of Weir, as data. One row: name, public code (the text a caller sees and can compare),
 * HTTP status, Kafka error code, sentence. Included with ERR_ROW defined; see base/err.h.
 * Rows are append-only within a group: the numeric values are never written to disk or wire.
 * HTTP statuses: RFC 9110 section 15. Kafka codes: org.apache.kafka.common.protocol.Errors. */
/*      name                    code                      http kafka sentence */
/* callers' mistakes */
ERR_ROW(ERR_INVALID,            "invalid_argument",        400, 42, "an argument is not valid")
ERR_ROW(ERR_TOO_LARGE,          "too_large",               413, 10, "larger than the limit")
ERR_ROW(ERR_CORRUPT_INPUT,      "corrupt_input",           400,  2, "the data received does not decode")
ERR_ROW(ERR_UNSUPPORTED,        "unsupported",             415, 76, "not supported")
ERR_ROW(ERR_TOPIC_NOT_FOUND,    "topic_not_found",         404,  3, "no such topic")
ERR_ROW(ERR_PARTITION_NOT_FOUND, "partition_not_found",    404,  3, "no such partition")
ERR_ROW(ERR_TOPIC_EXISTS,       "topic_exists",            409, 36, "the topic exists already")
ERR_ROW(ERR_TOPIC_NAME,         "invalid_topic_name",      400, 17, "not a valid topic name")
ERR_ROW(ERR_CONFIG,             "invalid_config",          400, 40, "not a valid configuration")
ERR_ROW(ERR_OFFSET_RANGE,       "offset_out_of_range",     416,  1, "the offset is not in the log")
ERR_ROW(ERR_NOT_FOUND,          "not_found",               404, 69, "not found")
ERR_ROW(ERR_EXISTS,             "exists",                  409, 42, "exists already")
ERR_ROW(ERR_CONFLICT,           "conflict",                409, 42, "in conflict with the present state")
ERR_ROW(ERR_DUPLICATE_SEQUENCE, "duplicate_sequence",      409, 46, "the batch was written already")
ERR_ROW(ERR_SEQUENCE_ORDER,     "out_of_order_sequence",   409, 45, "a batch of this producer is missing")
ERR_ROW(ERR_PRODUCER_FENCED,    "producer_fenced",         409, 90, "a newer producer has this id")
ERR_ROW(ERR_UNAUTHENTICATED,    "unauthenticated",         401, 58, "credentials are missing or wrong")
ERR_ROW(ERR_FORBIDDEN,          "forbidden",               403, 29, "these credentials do not permit this")
ERR_ROW(ERR_IDEMPOTENCY,        "idempotency_mismatch",    422, 42, "the idempotency key came with another request before")
/* load and time */
ERR_ROW(ERR_OVERLOADED,         "overloaded",              503,  7, "too much is in flight; try again")
ERR_ROW(ERR_LIMIT,              "limit_reached",           429, 89, "a configured limit is reached")
ERR_ROW(ERR_TIMEOUT,            "timeout",                 504,  7, "it took too long")
ERR_ROW(ERR_AGAIN,              "again",                   503,  7, "not now; more is to come")
ERR_ROW(ERR_CANCELLED,          "cancelled",               503,  7, "cancelled")
ERR_ROW(ERR_CLOSED,             "closed",                  503, 13, "it is closed")
/* storage */
ERR_ROW(ERR_IO,                 "io_error",                500, 56, "reading or writing storage failed")
ERR_ROW(ERR_NO_SPACE,           "no_space",                507, 56, "the disk is full; free some room")
ERR_ROW(ERR_READ_ONLY,          "read_only",               503, 56, "a write failed earlier: writes are refused until a restart")
ERR_ROW(ERR_CORRUPT,            "corrupt",                 500,  2, "stored data is damaged")
ERR_ROW(ERR_LOCKED,             "locked",                  409, -1, "another process has this data directory open")
ERR_ROW(ERR_FORMAT,             "format",                  500, -1, "not this program's data, or of another version")
ERR_ROW(ERR_EOF,                "end_of_file",             500, -1, "the data ended early")
/* the machine */
ERR_ROW(ERR_NO_MEMORY,          "no_memory",               503, -1, "out of memory")
ERR_ROW(ERR_NETWORK,            "network",                 502, 13, "the connection failed")
ERR_ROW(ERR_TLS,                "tls",                     502, 58, "the TLS handshake or record failed")
ERR_ROW(ERR_INTERNAL,           "internal",                500, -1, "an internal error")
