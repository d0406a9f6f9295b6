/* TLS sessions over OpenSSL. See tls.h, conn.h. The SSL_CTX of a configuration is replaced as a whole on
 * reload; sessions hold their own reference. */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/conn.h"

struct tls_conf {
    pthread_mutex_t lock; /* guards ctx */
    SSL_CTX *ctx;
    char *cert, *key, *ca;
};

static const unsigned char protos[] = "\x02h2\x08http/1.1";

static int choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                  const unsigned char *in, unsigned in_len, void *arg)
{
    unsigned char *picked;

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
    if (SSL_CTX_use_certificate_chain_file(ctx, t->cert) != 1)
        e = failed("certificate", t->cert, info);
    else if (SSL_CTX_use_PrivateKey_file(ctx, t->key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ctx) != 1)
        e = failed("key", t->key, info);
    else if (t->ca && SSL_CTX_load_verify_locations(ctx, t->ca, NULL) != 1)
        e = failed("client authority", t->ca, info);
    if (!e && t->ca)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
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

    pthread_mutex_init(&t->lock, NULL);
    t->cert = xstrdup(cert_file);
    t->key = xstrdup(key_file);
    t->ca = client_ca ? xstrdup(client_ca) : NULL;
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
    pthread_mutex_lock(&t->lock);
    old = t->ctx;
    t->ctx = ctx;
    pthread_mutex_unlock(&t->lock);
    SSL_CTX_free(old);
    return ERR_OK;
}

void tls_conf_free(struct tls_conf **tp)
{
    struct tls_conf *t = *tp;

    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    pthread_mutex_destroy(&t->lock);
    free(t->cert);
    free(t->key);
    free(t->ca);
    free(t);
    *tp = NULL;
}

void *tls_session_new(struct tls_conf *t, int fd)
{
    SSL *ssl;

    pthread_mutex_lock(&t->lock);
    ssl = SSL_new(t->ctx);
    pthread_mutex_unlock(&t->lock);
    if (!ssl)
        return NULL;
    if (SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return ssl;
}

void tls_session_free(void *ssl)
{
    SSL_free(ssl);
}

int tls_handshake(void *ssl, bool *want_write)
{
    int r;

    ERR_clear_error();
    r = SSL_do_handshake(ssl);
    if (r == 1)
        return 1;
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
