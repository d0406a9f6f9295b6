/* TLS: requests over it, protocol versions, ALPN, certificates of clients, exchange of the
 * certificate while running, configurations that are wrong. Certificates are made here. */
#include "net/tls.h"

#include "fixture.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static char dir[] = "/tmp/weir-tls-XXXXXX";
static char cert[64], key[64], ca[64], locked[64], client_cert[64], client_key[64];
static char big[3u << 20];

/* A certificate for cn, signed by itself or by issuer, and its key. */
static void make_cert(const char *cn, const char *cert_file, const char *key_file, X509 *issuer,
                      EVP_PKEY *issuer_key, X509 **out, EVP_PKEY **out_key)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    FILE *f;

    assert_true(k && x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
    X509_set_pubkey(x, k);
    if (out) { /* it is to sign others */
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");

        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, issuer ? issuer_key : k, EVP_sha256()) > 0);
    f = fopen(cert_file, "w");
    assert_true(f && PEM_write_X509(f, x) == 1);
    fclose(f);
    f = fopen(key_file, "w");
    assert_true(f && PEM_write_PrivateKey(f, k, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    if (out) {
        *out = x;
        *out_key = k;
        return;
    }
    X509_free(x);
    EVP_PKEY_free(k);
}

static int make_files(void **state)
{
    EVP_PKEY *k;
    X509 *x;
    FILE *f;

    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(ca, sizeof ca, "%s/ca.pem", dir);
    snprintf(locked, sizeof locked, "%s/locked.pem", dir);
    snprintf(client_cert, sizeof client_cert, "%s/client.pem", dir);
    snprintf(client_key, sizeof client_key, "%s/client.key", dir);
    make_cert("authority", ca, locked, NULL, NULL, &x, &k);
    make_cert("client", client_cert, client_key, x, k, NULL, NULL);
    f = fopen(locked, "w"); /* the authority's key, now encrypted */
    assert_true(f && PEM_write_PrivateKey(f, k, EVP_aes_256_cbc(), (const unsigned char *)"pw", 2,
                                          NULL, NULL) == 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(k);
    make_cert("first", cert, key, NULL, NULL, NULL, NULL);
    return 0;
}

static int remove_files(void **state)
{
    unlink(cert);
    unlink(key);
    unlink(ca);
    unlink(locked);
    unlink(client_cert);
    unlink(client_key);
    rmdir(dir);
    return 0;
}

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
};

/* False: the handshake failed (or, with TLS 1.3, what follows it). */
static bool dial(struct fx *f, struct client *c, int version, const char *alpn, bool with_cert)
{
    c->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(c->ctx, version);
    SSL_CTX_set_max_proto_version(c->ctx, version);
    SSL_CTX_set_security_level(c->ctx, 0);
    if (with_cert) {
        assert_int_equal(SSL_CTX_use_certificate_file(c->ctx, client_cert, SSL_FILETYPE_PEM), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(c->ctx, client_key, SSL_FILETYPE_PEM), 1);
    }
    c->ssl = SSL_new(c->ctx);
    if (alpn)
        SSL_set_alpn_protos(c->ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    c->fd = fx_connect(f);
    SSL_set_fd(c->ssl, c->fd);
    return SSL_connect(c->ssl) == 1;
}

static void hang_up(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->fd);
    ERR_clear_error();
}

static void say(struct client *c, const void *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        int r = SSL_write(c->ssl, (const char *)p + at, (int)(n - at));

        assert_true(r > 0);
        at += (size_t)r;
    }
}

static size_t hear(struct client *c, char *p, size_t n)
{
    size_t at = 0;
    int r;

    while (at < n && (r = SSL_read(c->ssl, p + at, (int)(n - at))) > 0)
        at += (size_t)r;
    return at;
}

/* One request on a connection that ends with it; the answer. */
static const char *ask(struct client *c, const char *req)
{
    say(c, req, strlen(req));
    big[hear(c, big, sizeof big - 1)] = 0;
    return big;
}

static void serve(struct fx *f, struct tls_conf **t, const char *authority)
{
    struct errinfo info = {0};

    if (tls_conf_new(cert, key, authority, t, &info))
        fail_msg("%s", info.text);
    fx_init(f);
    fx_listen_on(f, "127.0.0.1:0", *t);
}

static void requests_over_tls(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_conf *t;
    struct client c;
    struct fx f;
    int i;

    serve(&f, &t, NULL);
    for (i = 0; i < 2; i++) {
        assert_true(dial(&f, &c, versions[i], NULL, false));
        assert_non_null(strstr(ask(&c, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
                               "GET /a /a q= v=11 tls=1"));
        /* the end is said, not just there: nothing was cut */
        assert_int_equal(SSL_get_shutdown(c.ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
        hang_up(&c);
    }
    assert_false(dial(&f, &c, TLS1_1_VERSION, NULL, false));
    hang_up(&c);
    fx_stop(&f);
    tls_conf_free(&t);
    assert_null(t);
}

static void large_bodies_both_ways(void **state)
{
    static char body[2000000];
    char head[100];
    struct tls_conf *t;
    struct client c;
    struct fx f;
    size_t i, n, at;

    serve(&f, &t, NULL);
    assert_true(dial(&f, &c, TLS1_3_VERSION, NULL, false));
    for (i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 31 >> 3);
    n = (size_t)snprintf(head, sizeof head,
                         "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n",
                         sizeof body);
    for (i = 0; i < 3; i++) {
        say(&c, head, n);
        say(&c, body, sizeof body);
        for (at = 0; at < 4 || memcmp(big + at - 4, "\r\n\r\n", 4) != 0; at++)
            assert_int_equal(hear(&c, big + at, 1), 1);
        assert_int_equal(hear(&c, big, sizeof body), sizeof body);
        assert_memory_equal(big, body, sizeof body);
    }
    hang_up(&c);
    fx_stop(&f);
    tls_conf_free(&t);
}

static void alpn(void **state)
{
    struct tls_conf *t;
    struct client c;
    struct fx f;
    const unsigned char *p;
    unsigned n;
    char got[64];

    serve(&f, &t, NULL);
    assert_true(dial(&f, &c, TLS1_3_VERSION, "\x08http/1.1\x02h2", false));
    SSL_get0_alpn_selected(c.ssl, &p, &n);
    assert_true(n == 2 && memcmp(p, "h2", 2) == 0); /* the server's preference */
    say(&c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    assert_int_equal(hear(&c, got, 9), 9);
    assert_int_equal(got[3], 4); /* SETTINGS */
    hang_up(&c);
    assert_true(dial(&f, &c, TLS1_3_VERSION, "\x08http/1.1", false));
    SSL_get0_alpn_selected(c.ssl, &p, &n);
    assert_true(n == 8 && memcmp(p, "http/1.1", 8) == 0);
    hang_up(&c);
    assert_true(dial(&f, &c, TLS1_3_VERSION, "\x03xyz", false)); /* none in common: HTTP/1.1 */
    assert_non_null(strstr(ask(&c, "GET /a HTTP/1.0\r\n\r\n"), "v=10 tls=1"));
    hang_up(&c);
    fx_stop(&f);
    tls_conf_free(&t);
}

static void clients_show_certificates(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_conf *t;
    struct client c;
    struct fx f;
    int i;

    serve(&f, &t, ca);
    for (i = 0; i < 2; i++) {
        bool ok = dial(&f, &c, versions[i], NULL, false);

        if (ok) { /* TLS 1.3 tells it with the first bytes */
            SSL_write(c.ssl, "GET /a HTTP/1.0\r\n\r\n", 19);
            assert_int_equal(hear(&c, big, 100), 0);
        }
        hang_up(&c);
        assert_true(dial(&f, &c, versions[i], NULL, true));
        assert_non_null(strstr(ask(&c, "GET /a HTTP/1.0\r\n\r\n"), "tls=1"));
        hang_up(&c);
    }
    assert_int_equal(f.requests, 2);
    fx_stop(&f);
    tls_conf_free(&t);
}

static void subject(struct client *c, char *p, int n)
{
    X509 *x = SSL_get1_peer_certificate(c->ssl);

    assert_non_null(x);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, p, n);
    X509_free(x);
}

static void certificate_is_exchanged(void **state)
{
    struct errinfo info = {0};
    struct client before, after;
    struct tls_conf *t;
    char name[64];
    struct fx f;
    FILE *file;

    serve(&f, &t, NULL);
    assert_true(dial(&f, &before, TLS1_3_VERSION, NULL, false));
    subject(&before, name, sizeof name);
    assert_string_equal(name, "first");
    make_cert("second", cert, key, NULL, NULL, NULL, NULL);
    assert_int_equal(tls_conf_reload(t, &info), ERR_OK);
    assert_true(dial(&f, &after, TLS1_3_VERSION, NULL, false));
    subject(&after, name, sizeof name);
    assert_string_equal(name, "second");
    assert_non_null(strstr(ask(&before, "GET /a HTTP/1.0\r\n\r\n"), "tls=1")); /* lives on */
    hang_up(&before);
    hang_up(&after);
    file = fopen(cert, "w"); /* what does not load changes nothing */
    fputs("rubbish\n", file);
    fclose(file);
    assert_int_equal(tls_conf_reload(t, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, cert));
    assert_true(dial(&f, &after, TLS1_3_VERSION, NULL, false));
    subject(&after, name, sizeof name);
    assert_string_equal(name, "second");
    hang_up(&after);
    make_cert("first", cert, key, NULL, NULL, NULL, NULL);
    fx_stop(&f);
    tls_conf_free(&t);
}

static void wrong_configurations(void **state)
{
    const struct {
        const char *cert, *key, *ca, *named;
    } t[] = {{"/nowhere.pem", key, NULL, "/nowhere.pem"},
             {cert, "/nowhere.key", NULL, "/nowhere.key"},
             {cert, client_key, NULL, client_key}, /* another's */
             {ca, locked, NULL, locked},           /* needs a password */
             {key, key, NULL, key},
             {cert, key, "/nowhere.ca", "/nowhere.ca"}};
    struct tls_conf *conf;
    struct errinfo info;
    size_t i;

    for (i = 0; i < sizeof t / sizeof *t; i++) {
        conf = (struct tls_conf *)&info;
        info = (struct errinfo){0};
        assert_int_equal(tls_conf_new(t[i].cert, t[i].key, t[i].ca, &conf, &info), ERR_CONFIG);
        assert_null(conf);
        if (!strstr(info.text, t[i].named))
            fail_msg("%s is not named: %s", t[i].named, info.text);
    }
}

static void what_is_not_tls(void **state)
{
    struct tls_conf *t;
    struct fx f;
    int fd, i;

    serve(&f, &t, NULL);
    for (i = 0; i < 3; i++) {
        fd = fx_connect(&f);
        fx_send_str(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        fx_read_all(fd, big, sizeof big); /* an alert, or nothing */
        close(fd);
    }
    fd = fx_connect(&f); /* gone in the middle of the handshake */
    fx_send(fd, "\x16\x03\x01\x02\x00\x01", 6);
    close(fd);
    fx_wait(conn_server_open(http_server_conns(f.s)) == 0);
    assert_int_equal(f.requests, 0);
    fx_stop(&f);
    tls_conf_free(&t);
}

/* A reader that is slow holds back a stream over TLS as well, and gets all of it. */
static void slow_reader(void **state)
{
    static const char req[] = "GET /stream?n=300&size=50000 HTTP/1.0\r\n\r\n";
    struct tls_conf *t;
    struct client c;
    struct fx f;
    size_t n, got = 0;

    if (tls_conf_new(cert, key, NULL, &t, NULL))
        fail();
    fx_init(&f);
    f.conf.output_max = 200000;
    fx_listen_on(&f, "127.0.0.1:0", t);
    assert_true(dial(&f, &c, TLS1_3_VERSION, NULL, false));
    say(&c, req, sizeof req - 1);
    fx_sleep_ms(100);
    while ((n = hear(&c, big, 1000000)) > 0)
        got += n;
    assert_true(got > 300u * 50000u && got < 300u * 50000u + 300);
    assert_true(atomic_load(&f.queued_most) < 260000);
    assert_true(atomic_load(&f.drains) > 0);
    hang_up(&c);
    fx_stop(&f);
    tls_conf_free(&t);
}

static atomic_uint holding, let_on;

/* The loop sees nothing until it is let on. */
static void hold(struct loop_task *t)
{
    atomic_store(&holding, 1);
    while (!atomic_load(&let_on))
        usleep(100);
}

static uint64_t accepted(const struct fx *f)
{
    struct http_stats st;

    http_server_stats(f->s, &st);
    return st.conns_accepted;
}

/* A peer that sends the first bytes of a handshake and resets the connection: the loop sees input and the
 * end at once, while there is no protocol yet. */
static void reset_in_the_handshake(void **state)
{
    static const uint8_t first[] = {0x16, 3, 1, 1, 0, 1};
    struct linger reset = {.l_onoff = 1};
    struct loop_task task = {.fn = hold};
    struct tls_conf *t;
    struct client c;
    struct fx f;
    int fd;

    serve(&f, &t, NULL);
    fd = fx_connect(&f);
    fx_wait(accepted(&f) == 1);
    loop_post(f.loops[0], &task);
    fx_wait(atomic_load(&holding) == 1);
    assert_int_equal(send(fd, first, sizeof first, MSG_NOSIGNAL), sizeof first);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(fd);
    atomic_store(&let_on, 1);
    assert_true(dial(&f, &c, TLS1_3_VERSION, NULL, false)); /* it is still there */
    hang_up(&c);
    fx_stop(&f);
    tls_conf_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_over_tls),
        cmocka_unit_test(large_bodies_both_ways),
        cmocka_unit_test(alpn),
        cmocka_unit_test(clients_show_certificates),
        cmocka_unit_test(certificate_is_exchanged),
        cmocka_unit_test(wrong_configurations),
        cmocka_unit_test(what_is_not_tls),
        cmocka_unit_test(slow_reader),
        cmocka_unit_test(reset_in_the_handshake),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
