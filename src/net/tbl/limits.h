/* Limits of the transport: every quantity that a peer can make grow, and every time that it can
 * take. What an operator may change is in struct http_server_conf (these are its defaults); the
 * rest is fixed. Relations are checked at compile time below. */
#ifndef WEIR_NET_TBL_LIMITS_H
#define WEIR_NET_TBL_LIMITS_H

/* the loop */
#define NET_LOOP_EVENTS 256 /* descriptors reported in one turn */

/* connections */
#define NET_READ_BYTES        (256u << 10) /* read at once, into a buffer of the loop */
#define NET_READ_TURNS        4u           /* reads from one TLS connection before others' turn */
#define NET_SEND_TURN         (256u << 10) /* bytes sent to one connection before others' turn */
#define NET_SEND_SMALL        (16u << 10)  /* bytes queued: more is sent after what others have */
#define NET_LISTENERS         16u          /* addresses of a server */
#define NET_LISTEN_BACKLOG    1024         /* the kernel's queue of new connections */
#define NET_ACCEPT_TURNS      64u          /* connections accepted in one turn */
#define NET_ACCEPT_PAUSE_MS   100u         /* after the process ran out of descriptors */
#define NET_HANDSHAKE_MS      10000u       /* a TLS handshake */
#define NET_FLUSH_MS          5000u        /* for the rest of the output before a connection ends */
#define NET_LINGER_MS         1000u        /* for the peer to read the last answer */
#define NET_LINGER_BYTES      (4u << 20)   /* input thrown away meanwhile */
#define NET_HALF_CLOSED_MS    5000u        /* answers to a peer that has sent its end */
#define NET_SEND_MS_DEFAULT   60000u       /* without a byte of output taken by the peer */
#define NET_CONNS_DEFAULT     20000u       /* connections */
#define NET_OUTPUT_DEFAULT    (1u << 20)   /* bytes of output before its maker has to wait */
#define NET_OUTPUT_HARD_TIMES 16u          /* times output_max … */
#define NET_OUTPUT_HARD_MIN   (64u << 20)  /* … or this, whichever is more: the connection ends */

/* output chunks */
#define NET_CHUNK_SMALL 1024u  /* bytes, with their heading */
#define NET_CHUNK_LARGE 16384u /* bytes, with their heading */
#define NET_POOL_SMALL  1024u  /* free ones kept by a loop */
#define NET_POOL_LARGE  128u   /* free ones kept by a loop */
#define NET_COPY_MAX    1024u  /* bytes: less is copied although it could be lent */
#define NET_IOV         64     /* chunks in one writev */

/* HTTP */
#define HTTP_LINE_DEFAULT      (8u << 10)   /* bytes of a request target */
#define HTTP_HEAD_DEFAULT      (32u << 10)  /* bytes of all headers */
#define HTTP_HEADERS_DEFAULT   100u         /* headers */
#define HTTP_BODY_DEFAULT      (16u << 20)  /* bytes of a body */
#define HTTP_BODIES_DEFAULT    (256u << 20) /* bytes of all bodies that a server holds */
#define HTTP_PIPELINE_DEFAULT  256u         /* unanswered requests of a connection */
#define HTTP_IDLE_MS_DEFAULT   75000u       /* between requests */
#define HTTP_HEAD_MS_DEFAULT   10000u       /* for a request's head */
#define HTTP_BODY_RATE_DEFAULT 100u         /* bytes a second of a body */
#define HTTP_RATE_MS           10000u       /* the time over which that is averaged */
#define HTTP_REQ_ALLOC         (64u << 10)  /* bytes of http_alloc for a request */
#define HTTP_REQ_CHUNK         1024u        /* bytes that its arena grows by */
#define HTTP_REQ_POOL          1024u        /* idle requests kept by a loop */
#define HTTP_KEEP_BYTES        (16u << 10)  /* of a buffer kept in an idle request */
#define HTTP_REST_BYTES        (1u << 20)   /* read, but not parsed while requests wait */
#define HTTP_CHUNK_SLACK       (64u << 10) /* of chunk framing and trailers, and 16 times the body */
#define HTTP_DRAIN_STEP_MS     20u         /* between looks whether all connections are gone */

/* HTTP/2, for each connection */
#define HTTP2_WINDOW            (1u << 20) /* bytes of a stream's body on their way */
#define HTTP2_WINDOW_CONN       (4u << 20) /* of all streams */
#define HTTP2_RESETS_MAX        200u       /* unanswered requests cancelled in a second */
#define HTTP2_CONTROL_MAX       1000u      /* PING, SETTINGS, PRIORITY … frames in a second */
#define HTTP2_EMPTY_MAX         1000u      /* DATA frames without data in a second */
#define HTTP2_ACKS_MAX          100u       /* answers to PING and SETTINGS that wait */
#define HTTP2_CONTINUATIONS_MAX 8u         /* frames of one header block */

/* WebSocket */
#define WS_MESSAGE_DEFAULT (1u << 20) /* bytes of a message */
#define WS_QUEUE_DEFAULT   (1u << 20) /* bytes of output before its maker has to wait */
#define WS_PING_MS_DEFAULT 30000u     /* between pings */
#define WS_PINGS_LOST      2u         /* unanswered pings end the connection */
#define WS_FRAGMENTS_MAX   4096u      /* of one message */
#define WS_CLOSE_MS        5000u      /* for the peer's half of the closing handshake */
#define WS_STREAM_MESSAGE  (1u << 20) /* bytes of a stream that are sent as one message, at most */
#define WS_DEFLATE_LEAST   64u        /* bytes that are worth compressing */
#define WS_DEFLATE_READ    8192u /* read at once where it may be compressed: inflates to 8 MiB */

_Static_assert(NET_CHUNK_SMALL < NET_CHUNK_LARGE, "two classes of chunks");
_Static_assert(NET_COPY_MAX < NET_CHUNK_LARGE / 2, "what is copied fits a chunk");
_Static_assert(NET_OUTPUT_HARD_MIN >= NET_OUTPUT_DEFAULT, "waiting comes before ending");
_Static_assert(HTTP_BODIES_DEFAULT >= HTTP_BODY_DEFAULT, "the largest body fits the budget");
_Static_assert(HTTP2_WINDOW <= HTTP2_WINDOW_CONN, "a stream's window fits the connection's");

#endif
