/* See kafka_client.h. Sockets do not block: every wait has an end. */
#include "cli/kafka_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io.h"

#define CONNECT_MS   10000
#define API_KEYS     128 /* known ones are below */
#define CLIENT_ID    SLICE_LIT("weir")
#define HOST_MAX     256
#define REQUEST_MAX  (112u << 20)
#define SASL_TEXT    1024
#define PASSWORD_MAX 500
#define ARENA_CHUNK  65536u
#define SEEDS_MAX    16
#define IO_NEW_BYTES (1u << 20) /* an answer's room grows by it: a length is not believed at once */

struct kafka_conn {
    struct kafka_client *c;
    struct kafka_conn *next;
    int fd;
    SSL *ssl;
    int32_t node; /* -1: a bootstrap address */
    char host[HOST_MAX];
    int port;
    bool dead;
    int32_t sent, received; /* correlation ids */
    struct kwriter w;
    struct buf in;
    struct kreader r;
    int16_t min[API_KEYS], max[API_KEYS]; /* what the broker speaks; max -1: not at all */
};

struct node {
    int32_t id;
    char host[HOST_MAX];
    int port;
};

struct kafka_client {
    struct kafka_conn *conns;
    struct node seeds[SEEDS_MAX], *nodes;
    unsigned seeds_n, nodes_n;
    SSL_CTX *tls;
    const char *user;
    char password[PASSWORD_MAX + 1];
    struct arena arena; /* of answers that end in here */
    char error[400];
};

/* ---- errors ---- */

static const struct {
    int16_t code;
    bool again;
    const char *text;
} errors[] = {
#define KAFKA_ERROR(name, code, again, text) {code, again, text},
#include "cli/tbl/kafka_errors.h"
#undef KAFKA_ERROR
};

const char *kafka_error_text(int16_t code)
{
    size_t i;

    for (i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "the broker refused it";
}

bool kafka_error_again(int16_t code)
{
    size_t i;

    for (i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].again;
    return false;
}

const char *kafka_client_error(const struct kafka_client *c)
{
    return c->error;
}

bool kafka_client_fail(struct kafka_client *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(c->error, sizeof c->error, fmt, ap);
    va_end(ap);
    return false;
}

bool kafka_client_code(struct kafka_client *c, const char *what, int16_t code)
{
    return kafka_client_fail(c, "%s: %s (%d)", what, kafka_error_text(code), code);
}

static bool conn_fail(struct kafka_conn *k, const char *what, const char *why)
{
    k->dead = true;
    return kafka_client_fail(k->c, "%s:%d: %s%s%s", k->host, k->port, what, why ? ": " : "",
                             why ? why : "");
}

/* ---- bytes ---- */

static uint64_t now_ms(void)
{
    return io_mono_ns(io_real()) / 1000000;
}

static bool conn_poll(struct kafka_conn *k, short events, uint64_t until_ms)
{
    struct pollfd p = {.fd = k->fd, .events = events};
    uint64_t now = now_ms();
    int n = poll(&p, 1, until_ms > now ? (int)(until_ms - now) : 0);

    if (n == 0)
        return conn_fail(k, "no answer in time", NULL);
    return n > 0 || errno == EINTR || conn_fail(k, "waiting failed", strerror(errno));
}

/* After an SSL call that gave n <= 0: waits for what it wants. */
static bool tls_wait(struct kafka_conn *k, int n, uint64_t until_ms)
{
    int e = SSL_get_error(k->ssl, n);
    const char *why;

    if (e == SSL_ERROR_WANT_READ)
        return conn_poll(k, POLLIN, until_ms);
    if (e == SSL_ERROR_WANT_WRITE)
        return conn_poll(k, POLLOUT, until_ms);
    if (SSL_get_verify_result(k->ssl) != X509_V_OK)
        why = X509_verify_cert_error_string(SSL_get_verify_result(k->ssl));
    else
        why = ERR_reason_error_string(ERR_peek_error());
    return conn_fail(k, "TLS", why ? why : "the connection was closed");
}

/* Sends all of it. */
static bool conn_write(struct kafka_conn *k, struct slice s, uint64_t until_ms)
{
    while (s.len) {
        size_t part = s.len < (1u << 20) ? s.len : 1u << 20;
        ssize_t n;

        if (k->ssl) {
            ERR_clear_error();
            n = SSL_write(k->ssl, s.ptr, (int)part);
            if (n <= 0 && !tls_wait(k, (int)n, until_ms))
                return false;
        } else {
            n = send(k->fd, s.ptr, part, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN && !conn_poll(k, POLLOUT, until_ms))
                return false;
            if (n < 0 && errno != EAGAIN && errno != EINTR)
                return conn_fail(k, "sending failed", strerror(errno));
        }
        if (n > 0)
            s = slice_of(s.ptr + n, s.len - (size_t)n);
    }
    return true;
}

/* Exactly n more bytes into `in`. */
static bool conn_read(struct kafka_conn *k, size_t n, uint64_t until_ms)
{
    while (n) {
        size_t part = n < IO_NEW_BYTES ? n : IO_NEW_BYTES;
        ssize_t got;

        if (buf_reserve(&k->in, part))
            return conn_fail(k, "the answer is too large", NULL);
        if (k->ssl) {
            ERR_clear_error();
            got = SSL_read(k->ssl, k->in.ptr + k->in.len, (int)part);
            if (got <= 0 && !tls_wait(k, (int)got, until_ms))
                return false;
        } else {
            got = recv(k->fd, k->in.ptr + k->in.len, part, 0);
            if (got == 0)
                return conn_fail(k, "the broker closed the connection", NULL);
            if (got < 0 && errno == EAGAIN && !conn_poll(k, POLLIN, until_ms))
                return false;
            if (got < 0 && errno != EAGAIN && errno != EINTR)
                return conn_fail(k, "receiving failed", strerror(errno));
        }
        if (got > 0) {
            k->in.len += (size_t)got;
            n -= (size_t)got;
        }
    }
    return true;
}

/* ---- requests and answers ---- */

struct kwriter *kafka_conn_begin(struct kafka_conn *k, int16_t key, int16_t version)
{
    kwriter_clear(&k->w);
    kafka_request_begin(&k->w, kafka_api_find(key), version, ++k->sent, CLIENT_ID);
    return &k->w;
}

struct kreader *kafka_conn_reader(struct kafka_conn *k)
{
    return &k->r;
}

bool kafka_conn_send(struct kafka_conn *k, enum err encoded)
{
    struct kwriter_cursor at = {0};
    struct kwriter_part part;
    uint64_t until = now_ms() + KAFKA_TIMEOUT_MS;
    enum err e = kwriter_end(&k->w);

    if (encoded || e)
        return conn_fail(k, "the request cannot be written", err_text(encoded ? encoded : e));
    while (kwriter_part(&k->w, &at, &part))
        if (!conn_write(k, part.bytes, until))
            return false;
    return true;
}

bool kafka_conn_receive(struct kafka_conn *k, int16_t key, int16_t version, int timeout_ms,
                        struct kreader *r)
{
    int16_t head_version = kafka_response_header_version(kafka_api_find(key), version);
    uint64_t until = now_ms() + (uint64_t)timeout_ms;
    struct kafka_response_header head;
    struct arena *arena = &k->c->arena;
    uint32_t len;

    buf_clear(&k->in);
    if (!conn_read(k, 4, until))
        return false;
    len = be32_load(k->in.ptr);
    if (len > KAFKA_ANSWER_MAX - 4 || len < 4)
        return conn_fail(k, "this does not speak Kafka's protocol, or wants TLS", NULL);
    if (!conn_read(k, len, until))
        return false;
    kreader_init(r, slice_of(k->in.ptr + 4, len), KAFKA_ARRAYS_MAX);
    if (kafka_response_header_decode(r, head_version, arena, &head) ||
        head.correlation_id != ++k->received)
        return conn_fail(k, "an answer to something that was not asked", NULL);
    return true;
}

bool kafka_conn_decoded(struct kafka_conn *k, enum err e)
{
    return !e || conn_fail(k, "the answer does not decode", err_text(e));
}

int16_t kafka_conn_version(struct kafka_conn *k, int16_t key, int16_t most)
{
    const struct kafka_api *api = kafka_api_find(key);
    int16_t max = api->max < most ? api->max : most;

    if (key < API_KEYS && k->max[key] < max)
        max = k->max[key];
    if (max >= api->min && max >= k->min[key])
        return max;
    kafka_client_fail(k->c, "%s:%d has no %s of a version that is known here", k->host, k->port,
                      api->name);
    return -1;
}

/* ---- connecting ---- */

static int dial(const struct addrinfo *ai, uint64_t until_ms)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, e = 0;
    socklen_t len = sizeof e;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    uint64_t now = now_ms();

    if (fd < 0)
        return -1;
    if (connect(fd, ai->ai_addr, ai->ai_addrlen)) {
        e = errno;
        if (e == EINPROGRESS && poll(&p, 1, until_ms > now ? (int)(until_ms - now) : 0) == 1 &&
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) == 0 && e == 0)
            errno = 0;
        if (e) {
            close(fd);
            errno = e == EINPROGRESS ? ETIMEDOUT : e;
            return -1;
        }
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static bool conn_dial(struct kafka_conn *k, uint64_t until_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL, *ai;
    char port[8];
    int e;

    snprintf(port, sizeof port, "%d", k->port);
    if ((e = getaddrinfo(k->host, port, &hints, &list)))
        return conn_fail(k, "the name is not known", gai_strerror(e));
    for (ai = list; ai && k->fd < 0; ai = ai->ai_next)
        k->fd = dial(ai, until_ms);
    e = errno;
    freeaddrinfo(list);
    return k->fd >= 0 || conn_fail(k, "no connection", strerror(e));
}

static bool conn_tls(struct kafka_conn *k, uint64_t until_ms)
{
    struct in6_addr address;
    int n;

    if (!k->c->tls)
        return true;
    k->ssl = SSL_new(k->c->tls);
    if (!k->ssl || !SSL_set_fd(k->ssl, k->fd))
        return conn_fail(k, "TLS", "out of memory");
    if (inet_pton(AF_INET, k->host, &address) == 1 || inet_pton(AF_INET6, k->host, &address) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(k->ssl), k->host);
    } else {
        SSL_set1_host(k->ssl, k->host);
        SSL_set_tlsext_host_name(k->ssl, k->host);
    }
    do {
        ERR_clear_error();
        n = SSL_connect(k->ssl);
    } while (n != 1 && tls_wait(k, n, until_ms));
    return n == 1;
}

/* Version 0 is what every broker answers, whatever it is. */
static bool conn_versions(struct kafka_conn *k)
{
    struct kafka_api_versions_request q;
    struct kafka_api_versions_response s;
    uint32_t i;

    for (i = 0; i < API_KEYS; i++)
        k->max[i] = -1;
    kafka_api_versions_request_init(&q);
    if (!KAFKA_CALL(k, 18, 0, api_versions, &q, &k->c->arena, &s, CONNECT_MS))
        return false;
    if (s.error_code)
        return conn_fail(k, "asking for versions", kafka_error_text(s.error_code));
    for (i = 0; i < s.api_keys_n; i++)
        if (s.api_keys[i].api_key >= 0 && s.api_keys[i].api_key < API_KEYS) {
            k->min[s.api_keys[i].api_key] = s.api_keys[i].min_version;
            k->max[s.api_keys[i].api_key] = s.api_keys[i].max_version;
        }
    return true;
}

/* RFC 4616: authorization identity (none), name and password, with NUL between. */
static bool conn_login(struct kafka_conn *k)
{
    struct kafka_sasl_handshake_request hq = {.mechanism = SLICE_LIT("PLAIN")};
    struct kafka_sasl_handshake_response hs;
    struct kafka_sasl_authenticate_request q;
    struct kafka_sasl_authenticate_response s;
    char text[SASL_TEXT];
    int n, v;

    if (!k->c->user)
        return true;
    if (kafka_conn_version(k, 17, 1) != 1 || (v = kafka_conn_version(k, 36, 2)) < 0)
        return conn_fail(k, "the broker takes no login of this kind", NULL);
    if (!KAFKA_CALL(k, 17, 1, sasl_handshake, &hq, &k->c->arena, &hs, CONNECT_MS))
        return false;
    if (hs.error_code)
        return conn_fail(k, "login", kafka_error_text(hs.error_code));
    n = snprintf(text, sizeof text, "%c%s%c%s", 0, k->c->user, 0, k->c->password);
    if (n >= (int)sizeof text)
        return conn_fail(k, "the name or the password is too long", NULL);
    kafka_sasl_authenticate_request_init(&q);
    q.auth_bytes = slice_of(text, (size_t)n);
    if (!KAFKA_CALL(k, 36, (int16_t)v, sasl_authenticate, &q, &k->c->arena, &s, CONNECT_MS))
        return false;
    OPENSSL_cleanse(text, sizeof text);
    return s.error_code == 0 || conn_fail(k, "login", kafka_error_text(s.error_code));
}

static void conn_free(struct kafka_conn *k)
{
    SSL_free(k->ssl);
    if (k->fd >= 0)
        close(k->fd);
    kwriter_fini(&k->w);
    buf_fini(&k->in);
    free(k);
}

static struct kafka_conn *conn_open(struct kafka_client *c, const struct node *at)
{
    struct kafka_conn *k = xcalloc(1, sizeof *k);
    uint64_t until = now_ms() + CONNECT_MS;

    k->c = c;
    k->fd = -1;
    k->node = at->id;
    k->port = at->port;
    memcpy(k->host, at->host, sizeof k->host);
    kwriter_init(&k->w, REQUEST_MAX);
    buf_init(&k->in, KAFKA_ANSWER_MAX + IO_NEW_BYTES);
    arena_reset(&c->arena);
    if (!conn_dial(k, until) || !conn_tls(k, until) || !conn_versions(k) || !conn_login(k)) {
        conn_free(k);
        return NULL;
    }
    k->next = c->conns;
    c->conns = k;
    return k;
}

/* ---- nodes ---- */

static void drop_dead(struct kafka_client *c)
{
    struct kafka_conn **at = &c->conns, *k;

    while ((k = *at)) {
        if (k->dead) {
            *at = k->next;
            conn_free(k);
        } else {
            at = &k->next;
        }
    }
}

static struct kafka_conn *conn_of(struct kafka_client *c, const struct node *at)
{
    struct kafka_conn *k;

    drop_dead(c);
    for (k = c->conns; k; k = k->next)
        if (k->port == at->port && strcmp(k->host, at->host) == 0)
            return k;
    return conn_open(c, at);
}

struct kafka_conn *kafka_client_any(struct kafka_client *c)
{
    struct kafka_conn *k = NULL;
    unsigned i;

    drop_dead(c);
    if (c->conns)
        return c->conns;
    for (i = 0; i < c->seeds_n && !k; i++)
        k = conn_open(c, &c->seeds[i]);
    for (i = 0; i < c->nodes_n && !k; i++)
        k = conn_open(c, &c->nodes[i]);
    return k;
}

struct kafka_conn *kafka_client_node(struct kafka_client *c, int32_t node)
{
    unsigned i;

    for (i = 0; i < c->nodes_n; i++)
        if (c->nodes[i].id == node)
            return conn_of(c, &c->nodes[i]);
    kafka_client_fail(c, "broker %d is not known", node);
    return NULL;
}

void kafka_client_node_set(struct kafka_client *c, int32_t node, struct slice host, int32_t port)
{
    unsigned i;

    if (host.len >= HOST_MAX || port < 1 || port > 65535 || memchr(host.ptr, 0, host.len))
        return;
    for (i = 0; i < c->nodes_n && c->nodes[i].id != node; i++)
        ;
    if (i == c->nodes_n) {
        if (c->nodes_n == KAFKA_NODES_MAX)
            return;
        c->nodes = xrealloc(c->nodes, ++c->nodes_n * sizeof *c->nodes);
    }
    c->nodes[i] = (struct node){.id = node, .port = port};
    memcpy(c->nodes[i].host, host.ptr, host.len);
}

bool kafka_client_metadata(struct kafka_client *c, const char *const *names, unsigned n,
                           bool create, struct arena *arena, struct kafka_metadata_response *out)
{
    struct kafka_conn *k = kafka_client_any(c);
    int16_t v = k ? kafka_conn_version(k, 3, 12) : -1;
    struct kafka_metadata_request q;
    struct kafka_metadata_request_topic *t;
    unsigned i;
    bool ok;

    if (v < 0)
        return false;
    kafka_metadata_request_init(&q);
    t = xcalloc(n ? n : 1, sizeof *t);
    for (i = 0; i < n; i++)
        t[i].name = slice_str(names[i]);
    q.topics = t;
    q.topics_n = n;
    q.topics_null = !names && v > 0;
    q.allow_auto_topic_creation = v < 4 || create;
    ok = KAFKA_CALL(k, 3, v, metadata, &q, arena, out, KAFKA_TIMEOUT_MS);
    free(t);
    for (i = 0; ok && i < out->brokers_n; i++)
        kafka_client_node_set(c, out->brokers[i].node_id, out->brokers[i].host,
                              out->brokers[i].port);
    return ok;
}

/* ---- making one ---- */

/* HOST:PORT or [V6]:PORT; the port may be left out. */
static bool seed_parse(const char *s, size_t len, struct node *out)
{
    const char *colon = memrchr(s, ':', len), *end = s + len;
    size_t host = colon ? (size_t)(colon - s) : len;
    char text[8], *rest;
    long port = 9092;

    if (colon && len && end[-1] != ']') {
        if (end - colon - 1 < 1 || end - colon - 1 > 5)
            return false;
        snprintf(text, sizeof text, "%.*s", (int)(end - colon - 1), colon + 1);
        port = strtol(text, &rest, 10);
        if (*rest || port < 1 || port > 65535)
            return false;
    } else {
        host = len;
    }
    if (host > 2 && s[0] == '[' && s[host - 1] == ']') {
        s++;
        host -= 2;
    }
    if (host == 0 || host >= HOST_MAX)
        return false;
    *out = (struct node){.id = -1, .port = (int)port};
    memcpy(out->host, s, host);
    return true;
}

static bool seeds_parse(struct kafka_client *c, const char *list)
{
    while (*list) {
        size_t n = strcspn(list, ",");

        if (c->seeds_n == SEEDS_MAX || !seed_parse(list, n, &c->seeds[c->seeds_n]))
            return kafka_client_fail(c, "brokers are given as HOST:PORT, not '%.*s'", (int)n, list);
        c->seeds_n++;
        list += n + (list[n] == ',');
    }
    return c->seeds_n > 0 || kafka_client_fail(c, "brokers are given as HOST:PORT");
}

static bool tls_make(struct kafka_client *c, const char *ca)
{
    c->tls = SSL_CTX_new(TLS_client_method());
    if (!c->tls)
        return kafka_client_fail(c, "TLS: out of memory");
    SSL_CTX_set_min_proto_version(c->tls, TLS1_2_VERSION);
    SSL_CTX_set_verify(c->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(c->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (ca ? !SSL_CTX_load_verify_file(c->tls, ca) : !SSL_CTX_set_default_verify_paths(c->tls))
        return kafka_client_fail(c, "%s: no certificates can be read there",
                                 ca ? ca : "the system's authorities");
    return true;
}

/* The first line of the file, or the environment's. */
static bool password_get(struct kafka_client *c, const char *file)
{
    const char *env = getenv("WEIR_KAFKA_PASSWORD");
    FILE *f;

    if (file) {
        if (!(f = fopen(file, "re")) || !fgets(c->password, sizeof c->password, f)) {
            kafka_client_fail(c, "%s: %s", file, errno ? strerror(errno) : "there is no password");
            if (f)
                fclose(f);
            return false;
        }
        fclose(f);
        c->password[strcspn(c->password, "\r\n")] = 0;
        return true;
    }
    if (!env)
        return kafka_client_fail(c, "--user needs --password-file or WEIR_KAFKA_PASSWORD");
    snprintf(c->password, sizeof c->password, "%s", env);
    return true;
}

struct kafka_client *kafka_client_new(const struct args *a)
{
    struct kafka_client *c = xcalloc(1, sizeof *c);
    const char *list = arg_get(a, "kafka"), *ca = arg_get(a, "ca");
    bool ok;

    arena_init(&c->arena, ARENA_CHUNK, KAFKA_ARRAYS_MAX);
    if (!list)
        list = getenv("WEIR_KAFKA");
    c->user = arg_get(a, "user");
    ok = seeds_parse(c, list ? list : "127.0.0.1:9092");
    ok = ok && (!(ca || arg_get(a, "tls")) || tls_make(c, ca));
    ok = ok && (!c->user || password_get(c, arg_get(a, "password-file")));
    if (ok && kafka_client_any(c))
        return c;
    fail("%s", c->error);
    kafka_client_free(&c);
    return NULL;
}

void kafka_client_free(struct kafka_client **cp)
{
    struct kafka_client *c = *cp;
    struct kafka_conn *k;

    if (!c)
        return;
    while ((k = c->conns)) {
        c->conns = k->next;
        conn_free(k);
    }
    SSL_CTX_free(c->tls);
    OPENSSL_cleanse(c->password, sizeof c->password);
    arena_fini(&c->arena);
    free(c->nodes);
    free(c);
    *cp = NULL;
}
