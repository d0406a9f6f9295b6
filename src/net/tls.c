/* TLS sessions over OpenSSL. See tls.h, conn.h. The SSL_CTX of a configuration is replaced as a
 * whole on reload; sessions hold their own reference. Sockets are read and written by a BIO of our
 * own, as OpenSSL's would raise SIGPIPE when the peer is gone. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/mem.h"
#include "io/thread.h"
#include "net/conn.h"

struct tls_conf {
    struct io_mutex lock; /* guards ctx */
    SSL_CTX *ctx;
    BIO_METHOD *method;
    char *cert, *key, *ca;
};

/* ---- the socket as a BIO ---- */

static int fd_of(BIO *b)
{
    return (int)(intptr_t)BIO_get_data(b);
}

static int bio_result(BIO *b, ssize_t r, int retry)
{
    BIO_clear_retry_flags(b);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_flags(b, retry | BIO_FLAGS_SHOULD_RETRY);
    if (r == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return (int)r;
}

static int bio_write(BIO *b, const char *p, int n)
{
    return bio_result(b, send(fd_of(b), p, (size_t)n, MSG_NOSIGNAL), BIO_FLAGS_WRITE);
}

static int bio_read(BIO *b, char *p, int n)
{
    return bio_result(b, recv(fd_of(b), p, (size_t)n, 0), BIO_FLAGS_READ);
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "weir socket");

    ASSERT(m && BIO_meth_set_write(m, bio_write) && BIO_meth_set_read(m, bio_read) &&
           BIO_meth_set_ctrl(m, bio_ctrl));
    return m;
}

/* ---- configurations ---- */

static const unsigned char protos[] = "\x02h2\x08http/1.1";

/* The only one that the session may have, if there is such. */
static int choose_only(const char *want, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len)
{
    size_t n = strlen(want);
    unsigned i;

    for (i = 0; i < in_len && i + 1u + in[i] <= in_len; i += 1u + in[i])
        if (in[i] == n && memcmp(in + i + 1, want, n) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                  const unsigned char *in, unsigned in_len, void *arg)
{
    const char *only = SSL_get_app_data(ssl);
    unsigned char *picked;

    if (only)
        return choose_only(only, out, out_len, in, in_len);
    if (SSL_select_next_proto(&picked, out_len, protos, sizeof protos - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = picked;
    return SSL_TLSEXT_ERR_OK;
}

static enum err failed(const char *what, const char *file, struct errinfo *info)
{
    char why[160] = "unknown reason";
    unsigned long e = ERR_peek_last_error();

    if (e)
        ERR_error_string_n(e, why, sizeof why);
    ERR_clear_error();
    return errinfo_set(info, ERR_CONFIG, "TLS %s %s: %s", what, file, why);
}

/* Encrypted keys: nobody is there to be asked. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
    return -1;
}

static enum err clients_set(SSL_CTX *ctx, const char *ca, struct errinfo *info)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);

    if (!names || SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return failed("client authority", ca, info);
    }
    SSL_CTX_set_client_CA_list(ctx, names); /* taken */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return ERR_OK;
}

static enum err ctx_make(const struct tls_conf *t, SSL_CTX **out, struct errinfo *info)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    enum err e = ERR_OK;

    if (!ctx)
        return ERR_NO_MEMORY;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_alpn_select_cb(ctx, choose, NULL);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"weir", 4);
    if (SSL_CTX_use_certificate_chain_file(ctx, t->cert) != 1)
        e = failed("certificate", t->cert, info);
    else if (SSL_CTX_use_PrivateKey_file(ctx, t->key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ctx) != 1)
        e = failed("key", t->key, info);
    else if (t->ca)
        e = clients_set(ctx, t->ca, info);
    if (e)
        SSL_CTX_free(ctx);
    else
        *out = ctx;
    return e;
}

enum err tls_conf_new(const char *cert_file, const char *key_file, const char *client_ca,
                      struct tls_conf **out, struct errinfo *info)
{
    struct tls_conf *t = xcalloc(1, sizeof *t);
    enum err e;

    io_mutex_init(&t->lock);
    t->cert = xstrdup(cert_file);
    t->key = xstrdup(key_file);
    t->ca = client_ca ? xstrdup(client_ca) : NULL;
    t->method = method_new();
    e = ctx_make(t, &t->ctx, info);
    if (e)
        tls_conf_free(&t);
    *out = t;
    return e;
}

enum err tls_conf_reload(struct tls_conf *t, struct errinfo *info)
{
    SSL_CTX *ctx = NULL, *old;
    enum err e = ctx_make(t, &ctx, info);

    if (e)
        return e;
    io_mutex_lock(&t->lock);
    old = t->ctx;
    t->ctx = ctx;
    io_mutex_unlock(&t->lock);
    SSL_CTX_free(old);
    return ERR_OK;
}

void tls_conf_free(struct tls_conf **tp)
{
    struct tls_conf *t = *tp;

    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    BIO_meth_free(t->method);
    io_mutex_fini(&t->lock);
    free(t->cert);
    free(t->key);
    free(t->ca);
    free(t);
    *tp = NULL;
}

/* ---- sessions ---- */

void *tls_session_new(struct tls_conf *t, int fd)
{
    BIO *b = BIO_new(t->method);
    SSL *ssl;

    io_mutex_lock(&t->lock);
    ssl = b ? SSL_new(t->ctx) : NULL;
    io_mutex_unlock(&t->lock);
    if (!ssl) {
        BIO_free(b);
        return NULL;
    }
    BIO_set_data(b, (void *)(intptr_t)fd);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    SSL_set_accept_state(ssl);
    return ssl;
}

void tls_session_alpn(void *ssl, const char *alpn)
{
    SSL_set_app_data(ssl, (void *)(uintptr_t)alpn);
}

void tls_session_free(void *ssl)
{
    SSL_free(ssl);
}

/* A peer that offers no protocol at all does not come to choose. */
static bool alpn_chosen(SSL *ssl)
{
    const unsigned char *p;
    unsigned n = 0;

    SSL_get0_alpn_selected(ssl, &p, &n);
    return n > 0;
}

int tls_handshake(void *ssl, bool *want_write)
{
    int r;

    ERR_clear_error();
    r = SSL_do_handshake(ssl);
    if (r == 1)
        return SSL_get_app_data(ssl) && !alpn_chosen(ssl) ? -1 : 1;
    r = SSL_get_error(ssl, r);
    *want_write = r == SSL_ERROR_WANT_WRITE;
    return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static long result(SSL *ssl, int r, bool *want_write)
{
    int e = SSL_get_error(ssl, r);

    if (r > 0)
        return r;
    if (e == SSL_ERROR_ZERO_RETURN)
        return 0;
    *want_write = e == SSL_ERROR_WANT_WRITE;
    errno = e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

long tls_read(void *ssl, void *p, size_t n, bool *want_write)
{
    ERR_clear_error();
    return result(ssl, SSL_read(ssl, p, n > 1u << 30 ? 1 << 30 : (int)n), want_write);
}

long tls_write(void *ssl, const void *p, size_t n)
{
    bool ignored;

    ERR_clear_error();
    return result(ssl, SSL_write(ssl, p, n > 1u << 30 ? 1 << 30 : (int)n), &ignored);
}

bool tls_pending(void *ssl)
{
    /* Not SSL_has_pending: half a record is no reason to call again. */
    return SSL_pending(ssl) > 0;
}

const char *tls_alpn(void *ssl)
{
    const unsigned char *p = NULL;
    unsigned n = 0;

    SSL_get0_alpn_selected(ssl, &p, &n);
    return n == 2 && memcmp(p, "h2", 2) == 0 ? "h2" : "";
}

void tls_bye(void *ssl)
{
    ERR_clear_error();
    SSL_shutdown(ssl);
}
