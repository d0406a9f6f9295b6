/* What the files of src/proto/nats know of each other. See nats.h.
 *
 *   conn.c      a connection: lines in, INFO, CONNECT, pings, its subscriptions
 *   ws.c        the same in a WebSocket
 *   monitor.c   what is told of all that over HTTP: monitor_int.h names its files
 *   system.c    … and by messages
 *   exports.c   what accounts let others have
 *   route.c     a message to those who want it, on this loop and others
 *   parse.c     lines; subject.c and interest.c: subjects and who wants them
 *   login.c     who may connect, and what they may do
 *
 * Threads: a struct nloop, its connections and their subscriptions belong to one loop. Other loops
 * see of a subscription what never changes, and `pressed` of its connection. */
#ifndef WEIR_PROTO_NATS_NATS_INT_H
#define WEIR_PROTO_NATS_NATS_INT_H

#include <jansson.h>
#include <stdatomic.h>

#include "auth/auth.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "net/conn.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/ws.h"
#include "proto/nats/interest.h"
#include "proto/nats/nats.h"
#include "proto/nats/parse.h"
#include "proto/nats/topics.h"
#include "proto/nats/users.h"

/* Clients turn features on by it: those of this version and before work. */
#define NATS_VERSION "2.11.9"

#define NATS_LINE_MAX     4096u      /* bytes of a control line, as nats-server's default */
#define NATS_OUTPUT       (4u << 20) /* queued to a connection before publishers are slowed down */
#define NATS_OUTBOX_HIGH  (8u << 20) /* on its way to another loop, before publishers wait */
#define NATS_CACHE        1024u      /* subjects whose receivers a loop remembers; power of two */
#define NATS_CACHE_KEPT   (1u << 20) /* receivers in all of them */
#define NATS_SHARED_LEAST (8u << 10) /* bytes of a payload that several connections share */
#define NATS_REPLIES      256u       /* unanswered messages that a limited client may answer to */
#define NATS_STALL_MS     1u         /* a publisher waits for slow receivers, at first … */
#define NATS_STALL_MS_MAX 16u        /* … and at most */

#define NATS_CLOSED 1024u /* connections that ended and a loop can tell of */

struct naccount {
    struct naccount *_Atomic next;
    struct interest interest;
    unsigned index; /* from 0 on */
    _Atomic uint64_t gone_in_msgs, gone_in_bytes, gone_out_msgs,
        gone_out_bytes; /* of closed ones */
    _Atomic uint64_t slow;
    _Atomic uint64_t conns; /* that logged in */
    char name[];
};

struct js;
struct nconn;
struct nmsg;
struct nsub;

/* Takes a message for a subscription of the server's own, on the subscription's loop. What m points
 * to is valid during the call. */
typedef void (*nats_handle_fn)(struct nsub *s, struct nmsg *m);

struct nsub {
    struct interest_sub in; /* first; its text is behind this struct */
    struct nloop *l;        /* whose it is */
    struct nconn *c;        /* NULL: the server's own, taken by handle */
    nats_handle_fn handle;
    void *arg;            /* handle's */
    atomic_bool *pressed; /* its receiver is slow: publishers are to slow down */
    struct slice sid;
    uint64_t delivered, max; /* max 0: no limit */
    struct nsub *next;       /* of those that are gone */
    atomic_bool gone;        /* nothing is delivered any more */
    bool filtered;           /* see nats_sub_filtered */
    char text[];
};

/* Why a connection ends, in the words of nats-server: the client is told `error` (NULL: nothing), who
 * watches the server `reason`, and a WebSocket is closed with `code`. */
#define NENDS(X)                                                                        \
    X(OPEN, "", NULL, 1000)                                                             \
    X(CLIENT, "Client Closed", NULL, 1000)                                              \
    X(LOGIN_TIMEOUT, "Authentication Timeout", "Authentication Timeout", 1008)          \
    X(LOGIN, "Authentication Failure", "Authorization Violation", 1008)                 \
    X(EXPIRED, "Authentication Expired", "User Authentication Expired", 1008)           \
    X(PENDING, "Slow Consumer (Pending Bytes)", NULL, 1008)                             \
    X(DEADLINE, "Slow Consumer (Write Deadline)", NULL, 1008)                           \
    X(READ, "Read Error", NULL, 1001)                                                   \
    X(PARSE, "Parse Error", "Unknown Protocol Operation", 1002)                         \
    X(STALE, "Stale Connection", "Stale Connection", 1001)                              \
    X(VERSION, "Bad Client Protocol Version", "invalid client protocol", 1002)          \
    X(RESPONDERS, "Protocol Violation", "no responders requires headers support", 1002) \
    X(HEADERS, "Protocol Violation", "message headers not supported", 1002)             \
    X(PAYLOAD, "Maximum Message Payload Exceeded", "Maximum Payload Violation", 1009)   \
    X(LINE, "Maximum Control Line Exceeded", "maximum control line exceeded", 1008)     \
    X(SUBS, "Maximum Subscriptions Exceeded", "maximum subscriptions exceeded", 1008)   \
    X(CONNS, "Maximum Account Connections Exceeded",                                    \
      "maximum account active connections exceeded", 1008)                              \
    X(STOP, "Server Shutdown", NULL, 1001)
enum nend {
#define X(name, reason, error, code) NEND_##name,
    NENDS(X)
#undef X
};

struct nconn {
    struct conn *c; /* NULL: closed */
    struct ws *ws;  /* NULL: not in one */
    struct nloop *l;
    struct naccount *account;
    uint64_t id;
    struct buf in; /* a line that is not complete */
    size_t need;   /* bytes that it has, if that is known */
    struct map subs;
    struct nconn *next; /* of those that are gone, or that wait */
    uint64_t in_msgs, in_bytes, out_msgs, out_bytes;
    struct list_node all; /* of the loop's */
    char *
        client; /* what it says that it is: name, lang, version, each with its NUL; NULL: nothing */
    uint64_t start_ms, heard_ms; /* when it began, and something came last */
    uint32_t pings;              /* unanswered */
    uint32_t stall_ms;
    bool connected, verbose, pedantic, echo, headers, no_responders, lame;
    bool stalled;
    enum nend why;
    int protocol;
    atomic_bool pressed;      /* others' publishers are to slow down */
    struct nusers *users;     /* that it logged in with; NULL: a token, or nobody in particular */
    const struct nuser *user; /* of those, or of login */
    struct nlogin *login;     /* NULL: it showed no token of an account's */
    bool counted;             /* in account->conns */
    struct nreplies *replies; /* NULL: none yet */
    bool has_token;
    char token[AUTH_TOKEN_LEN];
    char nonce[24];
};

struct naddress {
    char ip[64];
    unsigned port;
};

/* One that ended: the text that /connz tells of it, and what it is found and sorted by. */
struct nclosed {
    char *text; /* NULL: none yet */
    size_t text_len, all_len;
    uint64_t cid;
    const struct naccount *account;
    uint64_t start_ms, last_ms, stop_ms, in_msgs, in_bytes, out_msgs, out_bytes;
    uint32_t subs, user_len;
    enum nend why;
    char user[64];
};

/* A message on its way. */
struct nmsg {
    struct slice subject, reply, body;
    struct slice to; /* not empty: goes to who wants this subject, whatever `subject` says */
    size_t header_len;
    struct nconn *from;     /* NULL: another loop's, or the server's */
    struct nshared *shared; /* the body, if several hold it */
    bool share;             /* there are several receivers */
    bool record;            /* of a topic: not for subscriptions of the server's own */
    uint32_t hops;          /* members of a queue group that were tried on other loops */
};

struct nfound { /* in a loop's cache */
    const struct naccount *account;
    uint64_t hash, stamp;
    struct buf subject;
    struct interest_found found;
};

struct nloop {
    struct nats *n;
    struct loop *loop;
    unsigned index;
    struct auth_view auth;
    struct nfound *cache; /* NATS_CACHE */
    uint64_t cached;      /* receivers in it */
    uint64_t rng;
    struct buf mapped;   /* a subject as an account's mappings have it */
    struct noutbox **to; /* by loop; NULL: nothing for it in this turn */
    struct loop_hook hook;
    _Atomic uint64_t *under_way; /* bytes posted to each other loop and not yet taken */
    bool pressed;                /* a receiver of what is being published is slow */
    struct nconn *stalled;
    struct loop_timer stall;
    struct nsub *gone_subs; /* since the round that is under way began */
    struct nconn *gone_conns;
    struct ngone *round; /* waits for all loops */
    struct list_head conns;
    struct nclosed *closed; /* NATS_CLOSED, the next at closed_n; NULL: none */
    uint64_t closed_n;
    _Atomic uint64_t msgs_in, bytes_in, msgs_out, bytes_out, slow, subs, refused, stale, stalls;
};

struct nats_sums {
    uint64_t msgs_in, bytes_in, msgs_out, bytes_out, slow, subs, stale, stalls;
};

/* Figures of JetStream for monitoring. */
struct njs_figures {
    uint64_t memory, storage, reserved_memory, reserved_storage; /* bytes */
    uint64_t accounts, api_total, api_errors, streams, consumers, messages, bytes;
    unsigned api_level;
    int64_t memory_max, storage_max; /* bytes; -1: no limit */
    const char *store_dir;           /* NULL: not told */
};

/* A question to monitoring. */
struct nquestion {
    struct http_req *r; /* over HTTP; NULL: as a message, and the rest is set */
    json_t *o;          /* its options; NULL: none */
    struct nloop *l;
    struct naccount *account; /* where the answer goes */
    struct slice reply;
    const struct naccount *only; /* nothing but this account's is told; NULL: all */
    char text[256];              /* of numbers */
    size_t len;
};

/* Which details of accounts are asked for. */
struct njs_query {
    struct slice account; /* empty: all, a page of them */
    bool streams, consumers, config;
    uint32_t offset, limit;
};

/* Filled in by JetStream; called on any loop. */
struct njs_monitor {
    /* account NULL: of all. */
    void (*figures)(struct nats *n, const struct slice *account, struct njs_figures *out);
    /* On loop l: what there is to tell of its streams, for details. */
    void (*visit)(struct nloop *l, const struct njs_query *q, struct buf *out);
    /* Appends `"account_details":[…]` of what visit wrote, in n buffers. */
    void (*details)(struct nats *n, const struct njs_query *q, const struct buf **v, unsigned parts,
                    struct buf *out);
};

#define NMONITOR_PATHS 11u

struct nats {
    struct nats_conf conf;
    struct js *js; /* NULL: without */
    struct conn_server *conns;
    struct http_server *ws; /* NULL: none */
    struct ws_handler ws_handler;
    struct http_server *monitor; /* NULL: none */
    const struct njs_monitor *js_monitor;
    struct naccount *_Atomic system; /* NULL: none */
    struct nsub *system_sub, *system_accounts_sub;
    struct nbridge *bridges; /* imports, the last one first */
    uint32_t bridges_n;
    unsigned bridges_made;
    atomic_bool never;       /* false: `pressed` of what is always taken */
    _Atomic uint64_t events; /* that were told of */
    _Atomic uint64_t monitor_asked[NMONITOR_PATHS];
    atomic_uint monitor_jobs, accounts_n;
    _Atomic uint64_t loaded_ms; /* since start_ms: when the users were read */
    uint64_t start_ms;
    char ws_host[64], monitor_host[64];
    uint16_t ws_port, monitor_port;
    struct nloop *loops;
    struct naccount *accounts;     /* the first is $G */
    struct io_mutex accounts_lock; /* for adding */
    struct ntopics *topics;        /* NULL: their records go to no account */
    struct io_rwlock users_lock;
    struct nusers *users; /* NULL: no file */
    uint8_t seed[16];
    char id[57];
    char host[64];
    uint16_t port;
    _Atomic uint64_t next_id;
};

static inline void nstat_add(_Atomic uint64_t *s, uint64_t v)
{
    atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + v,
                          memory_order_relaxed);
}

/* ---- conn.c ---- */

void nconn_open(void *ctx, unsigned loop, struct conn *c, const char *alpn);
/* Memory only, to be freed by free() as long as it is not started: that says INFO. ws: NULL, c is a
 * socket's. */
struct nconn *nconn_new(struct nats *n, unsigned loop);
void nconn_start(struct nconn *nc, struct conn *c, struct ws *ws);
/* As struct conn_proto's; closed: nc is not to be used any more. */
void nconn_data(struct nconn *nc, struct slice data);
void nconn_drained(struct nconn *nc);
void nconn_timeout(struct nconn *nc);
void nconn_closed(struct nconn *nc);
const char *nend_reason(enum nend why);
/* Where the client is; it must not be closed. */
void nconn_address(const struct nconn *nc, struct naddress *out);
/* As the kernel measures it; 0: it does not say. */
uint64_t nconn_rtt_us(const struct nconn *nc);
/* Says why, and ends the connection when its output is sent. */
void nconn_end(struct nconn *nc, enum nend why);
/* Lame duck: the client is told, and closed when it has its output. */
void nconn_stop(struct nconn *nc);
void nconn_drain(struct conn *c);
/* Takes a subscription out; its memory goes when no loop can have it any more. */
void nsub_end(struct nsub *s);

/* ---- ws.c ---- */

/* Sends what is queued and a close frame. */
void nws_finish(struct ws *ws, int code, const char *reason);
void nws_init(struct nats *n);
/* The listener of its own. */
enum err nws_new(struct nats *n, struct errinfo *info);

/* ---- monitor.c ---- */

enum err nmonitor_new(struct nats *n, struct errinfo *info);
const char *nmonitor_path(unsigned i);
/* c is about to be forgotten. */
void nmonitor_closed(struct nconn *c);
/* Members of an object, without a comma behind the last. */
void nmonitor_js(struct buf *b, const struct njs_figures *f);
/* As an object. */
void nmonitor_sub(struct buf *b, const struct nsub *s, const struct nconn *c);

/* Answers a message that asks for the page of monitoring with this name (VARZ, CONNZ …), perhaps later;
 * false: there is none. */
bool nmonitor_page(struct nats *n, struct nquestion *a, struct slice name);
/* Bytes in memory; percent of a processor. */
uint64_t nmonitor_memory(struct nats *n);
double nmonitor_processor(uint64_t uptime_ms);

/* ---- monitor_ask.c ---- */

/* What HTTP calls so, of either kind of question; empty: nothing is said. Valid until nquestion_end. */
struct slice nquestion_param(struct nquestion *a, const char *name);
/* Of a message. False: its body is no JSON. */
bool nquestion_begin(struct nquestion *a, struct nloop *l, struct naccount *account,
                     struct slice reply, struct slice body);
void nquestion_end(struct nquestion *a);

/* ---- system.c ---- */

/* Answer a question. data: JSON. */
void nsys_answer(struct nloop *l, struct naccount *a, struct slice reply, struct slice data);
void nsys_refuse(struct nloop *l, struct naccount *a, struct slice reply, int code,
                 const char *text);
/* Whether the message was for the server itself, which has answered then. */
bool nsys_take(struct nconn *c, struct slice subject, struct slice reply, struct slice body);
/* Tells who watches. Of one that is not connected, nothing. */
void nsys_connected(struct nconn *c);
void nsys_gone(struct nconn *c);
/* There is a system account, from now on; the first one stays. */
void nsys_start(struct nats *n, struct naccount *system);
/* The loops have stopped. */
void nsys_stop(struct nats *n);

/* ---- nats.c ---- */

/* Letters and digits, ended by NUL. */
void nats_random_text(struct nats *n, char *out, size_t cap);

void nats_sums(const struct nats *n, struct nats_sums *out);
/* Makes it unless it is there. Any thread. */
struct naccount *nats_account(struct nats *n, const char *name);

/* ---- route.c ---- */

void nloop_init(struct nloop *l, struct nats *n, unsigned index);
/* The loops have stopped and their connections are closed. */
void nloop_fini(struct nloop *l);
/* They have: runs what was posted, so that nothing is on its way any more. */
void nloop_settle(struct nloop *l);
/* To all who want it but for those whom the account's or the connection's rules leave out. How many
 * that were. */
uint32_t nats_route(struct nloop *l, struct naccount *a, struct nmsg *m);
/* A subscription of the server's own; subject and queue (may be empty) are copied. Messages are
 * handled on l. NULL: there are too many. pressed: set by the handler's side while publishers are to
 * slow down, read by any thread, and longer there than the subscription is. Any thread. */
struct nsub *nats_sub_new(struct nloop *l, struct naccount *a, struct slice subject,
                          struct slice queue, nats_handle_fn handle, void *arg,
                          atomic_bool *pressed);
/* On its loop: nothing is handled any more. NULL: nothing. */
void nats_sub_end(struct nsub *s, struct naccount *a);
/* Whether somebody listens to the subject; remembered as what nats_route finds. */
bool nats_wanted(struct nloop *l, struct naccount *a, struct slice subject);
/* The subscription of c, if there is one, that takes the subject. */
struct nsub *nats_own_sub(struct nconn *c, struct slice subject);
/* c is to be read no more for a moment. */
void nats_stall(struct nconn *c);
void nats_unstall(struct nconn *c);
/* s, c: not to be used after all loops have looked up from what they do. */
void nats_retire_sub(struct nloop *l, struct nsub *s);
void nats_retire_conn(struct nloop *l, struct nconn *c);

/* ---- login.c ---- */

/* Answers a CONNECT: sets account, perms and who. ERR_UNAUTHENTICATED; ERR_LIMIT: its account has as
 * many connections as it may. */
enum err nats_login(struct nconn *c, json_t *connect);
void nats_logout(struct nconn *c);
/* Until what it logged in with ends; 0: it does not. */
uint64_t nats_login_left_ms(const struct nconn *c);
/* Who that is, or nothing. A token is not told. */
struct slice nats_login_name(const struct nconn *c);
/* Whether who c logged in as is still to be let in; its permissions are those of now then. */
bool nats_login_valid(struct nconn *c);
/* Whether somebody who gives no credentials may not connect. */
bool nats_login_needed(struct nloop *l);
/* What clients with keys are to sign. */
void nats_nonce(struct nconn *c);
bool nats_may_publish(struct nconn *c, struct slice subject);
bool nats_may_subscribe(const struct nconn *c, struct slice pattern);
/* Of what c may subscribe to: whether messages are to be looked at, as some subject is denied … */
bool nats_sub_filtered(const struct nconn *c, struct slice pattern);
/* … and whether this one is not. */
bool nats_may_receive(const struct nconn *c, struct slice subject);
/* c, whose user has `responses`, is sent a message with this reply subject. */
void nats_note_reply(struct nconn *c, struct slice reply);
/* The users as the file had them when it was read last; NULL: there is none. To be unref'd. */
struct nusers *nats_users(struct nats *n);

#endif
