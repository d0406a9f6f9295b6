/* Limits of events over HTTP. One row: name, default, least, most, unit, why. Included with HTTP_LIMIT
 * defined; see http_events.h. Configuration keys are `http.` and the name. What the transport limits
 * (bodies, headers, connections, slow peers) is net's. */
/*         name                     default    least  most         unit */
HTTP_LIMIT(batch_events_max,        10000,     1,     1000000,     "events",
           "events in one request")
HTTP_LIMIT(event_bytes_max,         1000000,   64,    16777216,    "bytes",
           "one event's JSON, or the body of a binary CloudEvent; a topic's max.message.bytes counts too")
HTTP_LIMIT(depth_max,               64,        1,     1024,        "levels",
           "objects and arrays inside one another in an event")
HTTP_LIMIT(append_bytes,            262144,    4096,  16777216,    "bytes",
           "requests of one loop that are collected into one append before it is submitted")
HTTP_LIMIT(appends_inflight_max,    4,         1,     64,          "appends",
           "collected appends of a loop on their way to the disk; meanwhile more is collected")
HTTP_LIMIT(posts_waiting_max,       16384,     1,     1000000,     "requests",
           "POST requests of a loop that wait for their sync; more are answered 503")
HTTP_LIMIT(topics_created_max,      100,       1,     10000,       "topics",
           "topics that one request may create by first use")
HTTP_LIMIT(read_events_default,     100,       1,     100000,      "events",
           "a page of GET /events without limit")
HTTP_LIMIT(read_events_max,         10000,     1,     100000,      "events",
           "a page of GET /events at most")
HTTP_LIMIT(read_bytes_max,          4194304,   65536, 268435456,   "bytes",
           "a page of GET /events ends after this much; also memory of one read")
HTTP_LIMIT(wait_ms_max,             60000,     0,     600000,      "ms",
           "how long GET /events may wait for an event")
HTTP_LIMIT(reads_max,               10000,     1,     1000000,     "requests",
           "reads of a loop at a time, waiting ones among them")
HTTP_LIMIT(subscribers_max,         20000,     1,     1000000,     "connections",
           "WebSocket and server-sent event readers of a loop")
HTTP_LIMIT(subscriber_buffer_bytes, 1048576,   16384, 16777216,    "bytes",
           "output waiting in a follower's connection before the log is not read for it any more; an "
           "event, or a page, of more than 8 times this is not sent")
HTTP_LIMIT(publishes_max,           64,        1,     10000,       "messages",
           "published on one WebSocket and not yet acknowledged; more are refused")
HTTP_LIMIT(filter_types_max,        32,        1,     256,         "types",
           "types in one filter")
HTTP_LIMIT(scan_records,            4096,      64,    1000000,     "records",
           "looked at for one request before the loop turns to others")
HTTP_LIMIT(turn_bytes,              262144,    4096,  16777216,    "bytes",
           "rendered for one reader before the loop turns to others")
HTTP_LIMIT(heartbeat_ms,            15000,     100,   600000,      "ms",
           "a comment is sent to a quiet server-sent event reader this often")
HTTP_LIMIT(retry_ms,                2000,      0,     600000,      "ms",
           "the browser is told to come back after this time")
HTTP_LIMIT(topics_page_max,         1000,      1,     10000,       "topics",
           "a page of GET /topics")
HTTP_LIMIT(tokens_max,              10000,     1,     100000,      "tokens",
           "tokens that can exist")
HTTP_LIMIT(idempotency_window_ms,   600000,    1000,  86400000,    "ms",
           "how long an Idempotency-Key is remembered; not longer than the broker's dedup window")
HTTP_LIMIT(live_queries_max,        256,       0,     100000,      "queries",
           "live queries of a loop")
HTTP_LIMIT(live_batch_bytes,        1048576,   4096,  67108864,    "bytes",
           "rows of a live query in memory before they are sent; more are asked for when they were")
HTTP_LIMIT(live_groups_max,         10000,     1,     10000000,    "groups",
           "groups that a live query keeps; more end it")
HTTP_LIMIT(live_linger_ms,          20,        0,     60000,       "ms",
           "a live query that is behind asks again this often")
