/* Every setting of the server, as data. One row drives the YAML file, the environment (WEIR_ and the key
 * in capitals with underscores), the flags (--set KEY=VALUE and the short ones), `weir config show` and
 * docs/configuration.md. Included with CONFIG defined.
 *
 * CONFIG(field, key, kind, default as text, least, most, unit, prose) */
CONFIG(data, "data", TEXT, "weir-data", 1, 400, "path", "Directory of the log. Made if it is not there.")
CONFIG(http, "http.listen", TEXT, "127.0.0.1:8787", 0, 1000, "addresses",
       "Where HTTP and WebSocket are served: HOST:PORT, [V6]:PORT or unix:/PATH, several with commas; port 0 asks the system. Empty: nowhere.")
CONFIG(tls_cert, "http.tls.cert", TEXT, "", 0, 400, "path",
       "PEM file with the certificate and its chain: HTTP becomes HTTPS. Read again on SIGHUP.")
CONFIG(tls_key, "http.tls.key", TEXT, "", 0, 400, "path", "PEM file with the certificate's private key.")
CONFIG(tls_ca, "http.tls.client_ca", TEXT, "", 0, 400, "path",
       "PEM file with authorities: clients must show a certificate that one of them signed.")
CONFIG(cors, "http.cors", TEXT, "", 0, 2000, "origins",
       "Origins of web pages that may call, with commas; * for all. Empty: none but the same.")
CONFIG(body_max, "http.body.max", SIZE, "16MiB", 1024, 1073741824, "bytes", "Largest request body.")
CONFIG(conns_max, "http.connections.max", NUMBER, "20000", 1, 1000000, "connections", "Open at once; more are closed.")
CONFIG(conns_ip_max, "http.connections.ip_max", NUMBER, "0", 0, 1000000, "connections",
       "Of one address; 0 for no limit.")
CONFIG(idle_ms, "http.idle", TIME, "75s", 100, 86400000, "time", "A connection without a request is closed after it.")
CONFIG(head_ms, "http.head_time", TIME, "10s", 100, 3600000, "time", "From a request's first byte to the end of its headers.")
CONFIG(kafka, "kafka.listen", TEXT, "", 0, 1000, "addresses",
       "Where Kafka's protocol is served: HOST:PORT, several with commas; port 0 asks the system. Empty: nowhere.")
CONFIG(kafka_advertised, "kafka.advertised", TEXT, "", 0, 290, "address",
       "HOST:PORT that Kafka clients are told to connect to. Empty: the address that they came to.")
CONFIG(kafka_tls_cert, "kafka.tls.cert", TEXT, "", 0, 400, "path",
       "PEM file with the certificate and its chain: Kafka's port speaks TLS. Read again on SIGHUP.")
CONFIG(kafka_tls_key, "kafka.tls.key", TEXT, "", 0, 400, "path", "PEM file with the certificate's private key.")
CONFIG(kafka_tls_ca, "kafka.tls.client_ca", TEXT, "", 0, 400, "path",
       "PEM file with authorities: Kafka clients must show a certificate that one of them signed.")
CONFIG(kafka_conns_max, "kafka.connections.max", NUMBER, "20000", 1, 1000000, "connections", "Open at once; more are closed.")
CONFIG(kafka_conns_ip_max, "kafka.connections.ip_max", NUMBER, "0", 0, 1000000, "connections",
       "Of one address; 0 for no limit.")
CONFIG(kafka_idle_ms, "kafka.idle", TIME, "10m", 1000, 86400000, "time", "A connection without a request is closed after it.")
CONFIG(kafka_sasl, "kafka.sasl.mechanisms", TEXT, "", 0, 200, "names",
       "How Kafka clients say who they are: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, several with commas. Empty: they need not.")
CONFIG(kafka_sasl_users, "kafka.sasl.users", TEXT, "", 0, 400, "path",
       "File of lines NAME:PASSWORD, beside the users that Kafka's tools store. Read again on SIGHUP.")
CONFIG(kafka_sasl_jwks, "kafka.sasl.oauth.keys", TEXT, "", 0, 400, "path",
       "JWKS file with the keys that sign tokens of OAUTHBEARER: RS256, ES256, HS256. Read again on SIGHUP.")
CONFIG(kafka_sasl_issuer, "kafka.sasl.oauth.issuer", TEXT, "", 0, 400, "text", "What a token's iss must be. Empty: anything.")
CONFIG(kafka_sasl_audience, "kafka.sasl.oauth.audience", TEXT, "", 0, 400, "text",
       "What a token's aud must be or have among others. Empty: anything.")
CONFIG(kafka_reauth_ms, "kafka.sasl.session_max", TIME, "0ms", 0, 2147483647, "time",
       "Longest session: a client authenticates again before its end, or is disconnected. A token may end it earlier. 0: no end.")
CONFIG(kafka_acls, "kafka.acl.enabled", BOOL, "false", 0, 0, "",
       "Rules say who may do what: all is denied but to super users, and what a rule allows.")
CONFIG(kafka_acls_everyone, "kafka.acl.else_everyone", BOOL, "false", 0, 0, "",
       "Where there is no rule at all about a resource everybody may do everything.")
CONFIG(kafka_supers, "kafka.acl.super_users", TEXT, "", 0, 2000, "names",
       "User:NAME, several with semicolons: they may do everything. A certificate's name is its subject: User:CN=ann,O=Weir.")
CONFIG(group_delay_ms, "group.initial.rebalance.delay.ms", TIME, "3s", 0, 2147483647, "time",
       "What the first rebalance of an empty classic group waits for more members.")
CONFIG(group_session_least_ms, "group.min.session.timeout.ms", TIME, "6s", 1, 2147483647, "time",
       "Shortest session timeout that members of the classic protocol may ask for.")
CONFIG(group_session_most_ms, "group.max.session.timeout.ms", TIME, "30m", 1, 2147483647, "time", "And the longest.")
CONFIG(group_size, "group.max.size", NUMBER, "10000", 1, 10000, "members", "Of a classic group.")
CONFIG(consumer_session_ms, "group.consumer.session.timeout.ms", TIME, "45s", 1, 2147483647, "time",
       "A member of a consumer group (KIP-848) that is silent for it is out.")
CONFIG(consumer_heartbeat_ms, "group.consumer.heartbeat.interval.ms", TIME, "5s", 1, 2147483647, "time",
       "How often members of consumer groups are to send heartbeats.")
CONFIG(consumer_size, "group.consumer.max.size", NUMBER, "10000", 1, 10000, "members", "Of a consumer group.")
CONFIG(consumer_migration, "group.consumer.migration.policy", CHOICE, "bidirectional", 0, 0, "disabled|upgrade|downgrade|bidirectional",
       "Whether a classic group becomes a consumer group when a member joins by that protocol (upgrade), and the other way when the last such leaves (downgrade).")
CONFIG(share_session_ms, "group.share.session.timeout.ms", TIME, "45s", 1, 2147483647, "time",
       "A member of a share group that is silent for it is out.")
CONFIG(share_heartbeat_ms, "group.share.heartbeat.interval.ms", TIME, "5s", 1, 2147483647, "time",
       "How often members of share groups are to send heartbeats.")
CONFIG(share_size, "group.share.max.size", NUMBER, "200", 1, 10000, "members", "Of a share group.")
CONFIG(streams_session_ms, "group.streams.session.timeout.ms", TIME, "45s", 1, 2147483647, "time",
       "A member of a streams group (KIP-1071) that is silent for it is out. This and the next ones but the size hold for groups without a configuration of their own, such as streams.session.timeout.ms.")
CONFIG(streams_heartbeat_ms, "group.streams.heartbeat.interval.ms", TIME, "5s", 1, 2147483647, "time",
       "How often members of streams groups are to send heartbeats.")
CONFIG(streams_size, "group.streams.max.size", NUMBER, "10000", 1, 10000, "members", "Of a streams group.")
CONFIG(streams_standbys, "group.streams.num.standby.replicas", NUMBER, "0", 0, 16, "members",
       "That keep the state of a task besides the one that runs it.")
CONFIG(streams_delay_ms, "group.streams.initial.rebalance.delay.ms", TIME, "3s", 0, 2147483647, "time",
       "What the first assignment of an empty streams group waits for more members.")
CONFIG(streams_interval_ms, "group.streams.assignment.interval.ms", TIME, "1s", 0, 2147483647, "time",
       "Between two assignments of a streams group, at least; changes in between are taken together. 0: each change is an assignment.")
CONFIG(offsets_retention, "offsets.retention.minutes", NUMBER, "10080", 1, 2147483647, "minutes",
       "A group without members keeps its offsets for it, if it ever had members.")
CONFIG(offsets_check_ms, "offsets.retention.check.interval.ms", TIME, "10m", 1, 2147483647, "time", "How often that is looked at.")
CONFIG(pgwire, "pgwire.listen", TEXT, "", 0, 1000, "addresses",
       "Where PostgreSQL's protocol is served, for SQL: HOST:PORT, several with commas; port 0 asks the system. Empty: nowhere.")
CONFIG(pgwire_tls_cert, "pgwire.tls.cert", TEXT, "", 0, 400, "path",
       "PEM file with the certificate and its chain, for clients that ask for TLS. Empty: http.tls.cert. Read again on SIGHUP.")
CONFIG(pgwire_tls_key, "pgwire.tls.key", TEXT, "", 0, 400, "path", "PEM file with the certificate's private key.")
CONFIG(pgwire_users, "pgwire.users", TEXT, "", 0, 400, "path",
       "File of lines NAME:PASSWORD: PostgreSQL clients must log in, as one of them, as a SCRAM user that Kafka's tools stored, or as `token`. Read again on SIGHUP.")
CONFIG(pgwire_conns_max, "pgwire.connections.max", NUMBER, "1000", 1, 100000, "connections", "Open at once; more are closed.")
CONFIG(pgwire_conns_ip_max, "pgwire.connections.ip_max", NUMBER, "0", 0, 100000, "connections",
       "Of one address; 0 for no limit.")
CONFIG(pgwire_idle_ms, "pgwire.idle", TIME, "1h", 0, 604800000, "time", "A connection without a message is closed after it; 0: never.")
CONFIG(nats, "nats.listen", TEXT, "", 0, 1000, "addresses",
       "Where NATS is served: HOST:PORT, several with commas; port 0 asks the system. Empty: nowhere.")
CONFIG(nats_ws, "nats.websocket.listen", TEXT, "", 0, 1000, "addresses",
       "Where NATS is served in WebSockets, for browsers; with nats.tls.cert over TLS. Empty: nowhere.")
CONFIG(nats_http, "nats.http", BOOL, "false", 0, 0, "",
       "Serve NATS in WebSockets at /nats of the HTTP listeners, too; they need not be nats.listen's.")
CONFIG(nats_ws_origins, "nats.websocket.origins", TEXT, "", 0, 2000, "origins",
       "Whose pages may connect: `same` for those of the host that is asked, or origins such as https://example.com, with commas. Empty: all.")
CONFIG(nats_ws_deflate, "nats.websocket.compression", BOOL, "false", 0, 0, "",
       "Messages are compressed for clients that offer it (permessage-deflate).")
CONFIG(nats_monitor, "nats.monitor.listen", TEXT, "", 0, 1000, "addresses",
       "Where nats-server's monitoring (/varz, /connz and others) is served, over HTTP, to whoever can reach it. Empty: nowhere.")
CONFIG(nats_tls_cert, "nats.tls.cert", TEXT, "", 0, 400, "path",
       "PEM file with the certificate and its chain: clients must use TLS. Empty: NATS is served in the clear. Read again on SIGHUP.")
CONFIG(nats_tls_key, "nats.tls.key", TEXT, "", 0, 400, "path", "PEM file with the certificate's private key.")
CONFIG(nats_tls_ca, "nats.tls.client_ca", TEXT, "", 0, 400, "path",
       "PEM file with the authorities that clients' certificates must come from.")
CONFIG(nats_tls_first, "nats.tls.first", BOOL, "false", 0, 0, "",
       "The handshake comes before the server's INFO; clients must be told so, too.")
CONFIG(nats_users, "nats.users", TEXT, "", 0, 400, "path",
       "YAML file of users with accounts and permissions; who is not in it, and has no token, is refused. Read again on SIGHUP.")
CONFIG(nats_conns_max, "nats.connections.max", NUMBER, "65536", 1, 1000000, "connections", "Open at once; more are closed.")
CONFIG(nats_conns_ip_max, "nats.connections.ip_max", NUMBER, "0", 0, 1000000, "connections",
       "Of one address; 0 for no limit.")
CONFIG(nats_subs_max, "nats.subscriptions.max", NUMBER, "0", 0, 10000000, "subscriptions", "Of one connection; 0 for no limit.")
CONFIG(nats_payload, "nats.max_payload", SIZE, "1MiB", 1, 67108864, "size", "A message, its headers counted.")
CONFIG(nats_ping_ms, "nats.ping.interval", TIME, "2m", 100, 86400000, "time", "Silent clients are sent a PING.")
CONFIG(nats_pings, "nats.ping.max", NUMBER, "2", 1, 100, "pings", "Without an answer, before a connection is closed.")
CONFIG(nats_login_ms, "nats.auth.timeout", TIME, "2s", 100, 3600000, "time", "For a client to log in, where it must.")
CONFIG(nats_send_ms, "nats.write_deadline", TIME, "10s", 100, 3600000, "time",
       "A client that takes none of its output for so long is closed as a slow consumer.")
CONFIG(nats_jetstream, "nats.jetstream", BOOL, "true", 0, 0, "", "Serve JetStream: streams, consumers, key-value and object stores.")
CONFIG(nats_topics_account, "nats.topics.account", TEXT, "$G", 0, 200, "account",
       "Whose subscribers see the records of topics as messages. Empty: nobody's.")
CONFIG(loops, "loops", NUMBER, "0", 0, 256, "threads", "Event loops; 0: one for each processor.")
CONFIG(insecure, "insecure", BOOL, "false", 0, 0, "",
       "Allow a public address without TLS and tokens.")
CONFIG(auto_create, "topics.auto_create", BOOL, "true", 0, 0, "", "Topics are made when first written to.")
CONFIG(partitions, "topics.partitions", NUMBER, "1", 1, 10000, "partitions", "Of topics made without saying how many.")
CONFIG(retention_ms, "topics.retention", TIME, "7d", -1, 3153600000000, "time",
       "Records of topics without their own retention.ms are kept for it; -1 for ever.")
CONFIG(topics_max, "topics.max", NUMBER, "1000000", 1, 10000000, "topics", "Topics there may be.")
CONFIG(dedup_ms, "dedup.window", TIME, "10m", 1000, 604800000, "time", "Event ids and idempotency keys are remembered for it.")
CONFIG(dedup_max, "dedup.ids", NUMBER, "1000000", 1000, 100000000, "ids", "Event ids remembered at most.")
CONFIG(events_publish, "events.publish", CHOICE, "none", 0, 0, "none|groups|produce|all",
       "What becomes events of a topic: groups' joins, leaves, rebalances and commits, or each record written, or both.")
CONFIG(events_topic, "events.topic", TEXT, "weir.events", 1, 249, "topic", "That topic; it is made when there is something to tell.")
CONFIG(file_bytes, "journal.file_bytes", SIZE, "128MiB", 65536, 4294963200, "bytes", "Size of a journal file, a multiple of 4 KiB.")
CONFIG(tail_bytes, "journal.tail_bytes", SIZE, "64MiB", 65536, 68719476736, "bytes", "Recent records kept in memory for readers at the end.")
CONFIG(cache_bytes, "journal.cache_bytes", SIZE, "0", 0, 1099511627776, "bytes", "Records that readers come back to, and what was written lately while there are readers, are kept in memory, for a minute after their use, at most; 0: a sixteenth of the machine's memory, 64 MiB to 4 GiB.")
CONFIG(inflight_bytes, "journal.inflight_bytes", SIZE, "64MiB", 1048576, 4294967296, "bytes", "Accepted but not yet durable, at most; then senders are held back.")
CONFIG(lake_url, "lake.url", TEXT, "", 0, 400, "url",
       "Where topics with lake.enable have their tables: file:///DIR or s3://BUCKET/PREFIX. Empty: the folder lake in the data directory.")
CONFIG(lake_namespace, "lake.namespace", TEXT, "weir", 1, 200, "name", "Namespace of the tables.")
CONFIG(lake_catalog_uri, "lake.catalog.uri", TEXT, "", 0, 400, "url",
       "Iceberg REST catalog that the tables are made in, without /v1. Empty: the tables are found in lake.url itself, and served below /iceberg.")
CONFIG(lake_catalog_warehouse, "lake.catalog.warehouse", TEXT, "", 0, 400, "name", "What that catalog calls the warehouse; many need it.")
CONFIG(lake_catalog_prefix, "lake.catalog.prefix", TEXT, "", 0, 200, "name", "Of the catalog's paths, if its own configuration does not say.")
CONFIG(lake_catalog_token, "lake.catalog.token_file", TEXT, "", 0, 400, "path", "File with a bearer token for the catalog. Read again when the token is refused.")
CONFIG(lake_catalog_credential, "lake.catalog.credential_file", TEXT, "", 0, 400, "path", "File with ID:SECRET, for which OAuth 2 gives tokens (client credentials). Read for each token.")
CONFIG(lake_catalog_oauth2, "lake.catalog.oauth2_uri", TEXT, "", 0, 400, "url", "Token endpoint. Empty: v1/oauth/tokens of the catalog.")
CONFIG(lake_catalog_scope, "lake.catalog.scope", TEXT, "", 0, 200, "text", "Scope of the tokens asked for. Empty: catalog.")
CONFIG(lake_catalog_access, "lake.catalog.access", CHOICE, "vended", 0, 0, "vended|signed|own",
       "How the tables' storage is reached: by keys that the catalog gives, else by requests that it signs, else by own ones; only by what it signs, else by own ones; or by those of lake.s3.")
CONFIG(lake_catalog_ca, "lake.catalog.ca", TEXT, "", 0, 400, "path", "PEM file with authorities that sign the catalog's certificate. Empty: the system's.")
CONFIG(lake_endpoint, "lake.s3.endpoint", TEXT, "", 0, 255, "url",
       "https://HOST[:PORT] of S3-compatible storage. Empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS of the region.")
CONFIG(lake_region, "lake.s3.region", TEXT, "", 0, 64, "name", "Region that requests are signed for (auto for R2). Empty: AWS_REGION, else us-east-1.")
CONFIG(lake_credentials, "lake.s3.credentials", TEXT, "", 0, 400, "path",
       "File as AWS's tools share it. Empty: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else ~/.aws/credentials.")
CONFIG(lake_profile, "lake.s3.profile", TEXT, "", 0, 64, "name", "Section of that file. Empty: AWS_PROFILE, else default.")
CONFIG(lake_path_style, "lake.s3.path_style", CHOICE, "auto", 0, 0, "auto|off|on",
       "ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY; auto: if an endpoint is given.")
CONFIG(lake_checksums, "lake.s3.checksums", CHOICE, "auto", 0, 0, "auto|off|on", "Send a CRC32C with what is put; off for stores that refuse it.")
CONFIG(lake_ca, "lake.s3.ca", TEXT, "", 0, 400, "path", "PEM file with authorities that sign the endpoint's certificate. Empty: the system's.")
CONFIG(lake_storage_class, "lake.s3.storage_class", TEXT, "", 0, 64, "name", "Of new objects, such as STANDARD_IA. Empty: the bucket's.")
CONFIG(lake_archive, "lake.archive.folder", TEXT, "archive", 1, 80, "name", "Folder below a table's data folder for files that lake.archive.after.ms of their topic moves there.")
CONFIG(lake_archive_class, "lake.archive.storage_class", TEXT, "", 0, 64, "name", "Of those files on S3, such as GLACIER_IR. Empty: as of all others.")
CONFIG(lake_stall_ms, "lake.s3.stall", TIME, "15s", 1000, 600000, "time", "Without a byte for it, a request is given up and sent again.")
CONFIG(lake_deadline_ms, "lake.s3.deadline", TIME, "60s", 1000, 3600000, "time", "A request with all its attempts takes no longer, but for what large bodies need at 2 MiB/s.")
CONFIG(lake_memory, "lake.memory", SIZE, "512MiB", 67108864, 1099511627776, "bytes", "For writing Parquet files.")
CONFIG(lake_file_bytes, "lake.file_bytes", SIZE, "128MiB", 1048576, 4294967296, "bytes", "Size of file that compaction aims at.")
CONFIG(lake_cache_bytes, "lake.cache_bytes", SIZE, "1GiB", 1048576, 1099511627776, "bytes", "Copies of objects on S3 that queries asked for, kept in the data directory.")
CONFIG(lake_orphan_ms, "lake.orphan_age", TIME, "1d", 1000, 3153600000000, "time",
       "Files of a table that no snapshot has are removed when so old; more than any write takes.")
CONFIG(sql_memory, "sql.memory", SIZE, "0", 0, 1099511627776, "bytes", "Of all queries together; 0: a quarter of the machine's. What does not fit goes to the data directory.")
CONFIG(sql_spill, "sql.spill_bytes", SIZE, "10GiB", 0, 1099511627776, "bytes", "That queries put into the data directory at most, while they run; 0: a query that does not fit into memory fails.")
CONFIG(sql_threads, "sql.threads", NUMBER, "0", 0, 1024, "threads",
       "That queries use in all; 0: one for each processor of half of them. "
       "Queries keep to half of the processors, or to so many if that is more, and leave the others to "
       "producers and consumers.")
CONFIG(sql_shards, "sql.shards", TEXT, "", 0, 400, "path",
       "File of lines NAME URL [TOKEN [CA-FILE]]: other servers that a query may ask beside one another. Empty: none.")
CONFIG(transforms_dir, "transforms.dir", TEXT, "", 0, 400, "path",
       "Folder whose *.sql files are applied as transforms when the server starts. Empty: none; those that were applied before run in any case.")
CONFIG(log_level, "log.level", CHOICE, "info", 0, 0, "error|warn|info|debug", "Least important messages that are written to standard error.")
CONFIG(log_format, "log.format", CHOICE, "text", 0, 0, "text|json", "Form of the messages.")
CONFIG(drain_ms, "shutdown.grace", TIME, "10s", 0, 3600000, "time", "Time that connections get to finish when the server stops.")
