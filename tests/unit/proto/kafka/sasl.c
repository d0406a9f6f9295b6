/* Saying who one is: every mechanism as a client does it, with a client written here from the RFCs,
 * the vectors of RFC 5802 and RFC 7677, tokens signed by fresh keys; what is refused, and how. */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "auth/scram.h"
#include "base/hex.h"
#include "detached.h"
#include "proto/kafka/jwt.h"

/* ---- SCRAM by itself ---- */

/* RFC 7677 section 3 */
static void vector_rfc7677(void **state)
{
    static const char first[] = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                      final[] = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    uint8_t salt[18], secret[32] = {0}, nonce[18] = {0};
    struct scram_cred cred;
    struct scram s;
    struct buf out;
    size_t n;

    assert_true(base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==", 24, salt, &n));
    scram_cred_make(SCRAM_SHA_256, SLICE_LIT("pencil"), slice_of(salt, n), 4096, &cred);
    assert_true(scram_password_ok(SCRAM_SHA_256, &cred, SLICE_LIT("pencil")));
    assert_false(scram_password_ok(SCRAM_SHA_256, &cred, SLICE_LIT("Pencil")));
    scram_init(&s, SCRAM_SHA_256);
    buf_init(&out, 4096);
    assert_int_equal(scram_first(&s, slice_str(first)), ERR_OK);
    assert_string_equal(s.user, "user");
    scram_challenge(&s, &cred, secret, nonce, &out);
    /* the server's nonce is random: put the RFC's in its place */
    buf_clear(&s.nonce);
    buf_append_str(&s.nonce, "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    buf_clear(&s.server);
    buf_append_str(&s.server, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                              "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    buf_clear(&out);
    assert_int_equal(scram_final(&s, slice_str(final), &out), ERR_OK);
    assert_slice(buf_slice(&out), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    buf_fini(&out);
    scram_fini(&s);
}

/* The server's nonce has to come back, behind the client's (once, or twice as librdkafka 2.0 has it). */
static void nonce_checked(void **state)
{
    static const struct {
        const char *nonce;
        enum err e;
    } rows[] = {{"abc%s", ERR_UNAUTHENTICATED}, /* for its proof, which is none */
                {"abcabc%s", ERR_UNAUTHENTICATED}, {"%s", ERR_CORRUPT_INPUT},
                {"abd%s", ERR_CORRUPT_INPUT},      {"abc%sx", ERR_CORRUPT_INPUT},
                {"abc", ERR_CORRUPT_INPUT}};
    uint8_t secret[32] = {0}, nonce[18] = {7};
    char own[32], all[64], text[200];
    struct scram s;
    struct buf out;
    size_t i;

    base64_encode(nonce, sizeof nonce, own);
    buf_init(&out, 4096);
    scram_init(&s, SCRAM_SHA_256);
    assert_int_equal(scram_first(&s, SLICE_LIT("n,,n=user,r=abc")), ERR_OK);
    scram_challenge(&s, NULL, secret, nonce, &out);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *at = strstr(rows[i].nonce, "%s");

        snprintf(all, sizeof all, "%.*s%s%s",
                 at ? (int)(at - rows[i].nonce) : (int)strlen(rows[i].nonce), rows[i].nonce,
                 at ? own : "", at ? at + 2 : "");
        snprintf(text, sizeof text, "c=biws,r=%s,p=%s", all,
                 "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        if (scram_final(&s, slice_str(text), &out) != rows[i].e)
            fail_msg("%s", all);
    }
    scram_fini(&s);
    buf_fini(&out);
}

static void credentials_stored(void **state)
{
    enum scram_mech m;

    for (m = SCRAM_SHA_256; m <= SCRAM_SHA_512; m++) {
        struct scram_cred a, b;
        uint8_t text[SCRAM_STORED_MAX];
        size_t n;

        scram_cred_make(m, SLICE_LIT("secret"), SLICE_LIT("salty salt"), 5000, &a);
        n = scram_cred_write(m, &a, text);
        assert_true(scram_cred_read(m, slice_of(text, n), &b));
        assert_memory_equal(&a, &b, sizeof a);
        assert_false(scram_cred_read(m, slice_of(text, n - 1), &b));
        assert_false(scram_cred_read(m == SCRAM_SHA_256 ? SCRAM_SHA_512 : SCRAM_SHA_256,
                                     slice_of(text, n), &b));
        text[0]++;
        assert_false(scram_cred_read(m, slice_of(text, n), &b));
    }
}

static void first_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,n=,r=abc",
        "n,,r=abc,n=user",
        "n,,n=user,r=",
        "x,,n=user,r=abc",
        "p=tls-unique,,n=user,r=abc",
        "n,a=other,n=user,r=abc",
        "n,b=user,n=user,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=us=2Der,r=abc",
        "n,,n=user=2,r=abc",
        "n,,n=user,r=abc,tokenauth=true",
        "n,,m=x,n=user,r=abc",
    };
    static const struct {
        const char *text, *user;
    } good[] = {{"n,,n=user,r=abc", "user"},
                {"y,,n=user,r=abc", "user"},
                {"n,a=user,n=user,r=abc", "user"},
                {"n,,n=a=2Cb=3Dc,r=abc", "a,b=c"}};
    char text[400];
    struct scram s;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        scram_init(&s, SCRAM_SHA_256);
        if (scram_first(&s, slice_str(bad[i])) != ERR_CORRUPT_INPUT)
            fail_msg("%s", bad[i]);
        scram_fini(&s);
    }
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        scram_init(&s, SCRAM_SHA_256);
        assert_int_equal(scram_first(&s, slice_str(good[i].text)), ERR_OK);
        assert_string_equal(s.user, good[i].user);
        scram_fini(&s);
    }
    memset(text, 'u', sizeof text); /* a name that is too long */
    memcpy(text, "n,,n=", 5);
    memcpy(text + sizeof text - 7, ",r=abc", 7);
    scram_init(&s, SCRAM_SHA_256);
    assert_int_equal(scram_first(&s, slice_str(text)), ERR_CORRUPT_INPUT);
    scram_fini(&s);
}

/* ---- a client of SCRAM ---- */

struct client {
    const EVP_MD *md;
    unsigned len;
    char first[600], server[600], expect[300];
};

static void client_first(struct client *c, const char *user, int bits, char out[700])
{
    c->md = bits == 512 ? EVP_sha512() : EVP_sha256();
    c->len = (unsigned)bits / 8;
    snprintf(c->first, sizeof c->first, "n=%s,r=fyko+d2lbbFgONRv9qkxdawL", user);
    snprintf(out, 700, "n,,%s", c->first);
}

static void mac(struct client *c, const uint8_t *key, const char *text, uint8_t *out)
{
    unsigned n;

    HMAC(c->md, key, (int)c->len, (const uint8_t *)text, strlen(text), out, &n);
}

static void client_final(struct client *c, const char *password, struct slice server,
                         char out[1200])
{
    uint8_t salt[256], salted[64], key[64], stored[64], sign[64], server_key[64];
    char nonce[300], salt64[400], auth[2400], text[200];
    int iterations;
    size_t n;
    unsigned i;

    snprintf(c->server, sizeof c->server, "%.*s", (int)server.len, (const char *)server.ptr);
    assert_int_equal(sscanf(c->server, "r=%299[^,],s=%399[^,],i=%d", nonce, salt64, &iterations),
                     3);
    assert_true(strncmp(nonce, "fyko+d2lbbFgONRv9qkxdawL", 24) == 0 && strlen(nonce) > 40);
    assert_true(base64_decode(salt64, strlen(salt64), salt, &n));
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)n, iterations, c->md, (int)c->len,
                      salted);
    mac(c, salted, "Client Key", key);
    EVP_Digest(key, c->len, stored, NULL, c->md, NULL);
    snprintf(auth, sizeof auth, "%s,%s,c=biws,r=%s", c->first, c->server, nonce);
    mac(c, stored, auth, sign);
    for (i = 0; i < c->len; i++)
        key[i] ^= sign[i];
    base64_encode(key, c->len, text);
    snprintf(out, 1200, "c=biws,r=%s,p=%s", nonce, text);
    mac(c, salted, "Server Key", server_key);
    mac(c, server_key, auth, sign);
    base64_encode(sign, c->len, text);
    snprintf(c->expect, sizeof c->expect, "v=%s", text);
}

/* ---- a server ---- */

struct fx {
    struct dk d;
    struct dconn c;
    char users[96], keys[96];
};

static void file_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct fx *fx_new(const char *mechs)
{
    struct fx *f = calloc(1, sizeof *f);

    snprintf(f->users, sizeof f->users, "/tmp/weir-users-%d", (int)getpid());
    file_write(f->users, "# who may come in\nalice:wonder:land\nbob:builder\r\n\n");
    f->d.kc.sasl_mechanisms = mechs;
    f->d.kc.sasl_users = f->users;
    return f;
}

static void fx_go(struct fx *f, void **state)
{
    dk_start(&f->d);
    dconn_open(&f->d, &f->c);
    *state = f;
}

static int setup(void **state)
{
    fx_go(fx_new("PLAIN, SCRAM-SHA-256,SCRAM-SHA-512"), state);
    return 0;
}

static int setup_reauth(void **state)
{
    struct fx *f = fx_new("PLAIN,SCRAM-SHA-256");

    f->d.kc.reauth_ms = 3600000;
    fx_go(f, state);
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    dk_end(&f->d);
    dconn_fini(&f->c);
    unlink(f->users);
    if (f->keys[0])
        unlink(f->keys);
    free(f);
    return 0;
}

/* Another connection, the only one. */
static void again(struct fx *f)
{
    if (conn_server_open(f->d.k->conns)) {
        conn_close(f->c.c, false, CONN_LOCAL);
        loop_turn(f->d.loop, false);
        loop_turn(f->d.loop, false);
    }
    assert_int_equal(conn_server_open(f->d.k->conns), 0);
    dconn_fini(&f->c);
    dconn_open(&f->d, &f->c);
}

static int16_t handshake(struct fx *f, const char *mech)
{
    struct kafka_sasl_handshake_request m = {slice_str(mech)};
    struct kafka_sasl_handshake_response s;

    dcall(&f->c, 17, sasl_handshake, 1, &m, &s);
    return s.error_code;
}

static struct kafka_sasl_authenticate_response step(struct fx *f, struct slice bytes)
{
    struct kafka_sasl_authenticate_request m = {bytes};
    struct kafka_sasl_authenticate_response s;

    dcall(&f->c, 36, sasl_authenticate, 2, &m, &s);
    return s;
}

/* Is a request that needs a trusted connection answered? */
static bool served(struct fx *f)
{
    struct kafka_list_groups_request m;

    kafka_list_groups_request_init(&m);
    dcall_begin(&f->c, 16, 4);
    kafka_list_groups_request_encode(&f->c.w, 4, &m);
    dcall_send(&f->c);
    return dcall_wait(&f->c);
}

/* After a refusal the server ends the connection. */
static void assert_ended(struct fx *f)
{
    unsigned i;

    for (i = 0; i < 10; i++)
        loop_turn(f->d.loop, false);
    assert_int_equal(conn_server_open(f->d.k->conns), 0);
    again(f);
}

static int16_t plain(struct fx *f, const char *authz, const char *user, const char *password)
{
    char text[300];
    size_t n = (size_t)snprintf(text, sizeof text, "%s%c%s%c%s", authz, 0, user, 0, password);

    assert_int_equal(handshake(f, "PLAIN"), 0);
    return step(f, slice_of(text, n)).error_code;
}

static void nobody_is_refused(void **state)
{
    assert_false(served(*state));
    assert_ended(*state);
}

static void plain_passwords(void **state)
{
    struct fx *f = *state;

    assert_int_equal(plain(f, "", "alice", "wonder:land"), 0);
    assert_true(served(f));
    again(f);
    assert_int_equal(plain(f, "bob", "bob", "builder"), 0);
    assert_true(served(f));
}

static void plain_refused(void **state)
{
    static const char *const rows[][3] = {{"", "alice", "wonder"},
                                          {"", "alice", ""},
                                          {"", "eve", "builder"},
                                          {"", "", "builder"},
                                          {"bob", "alice", "wonder:land"}};
    struct fx *f = *state;
    size_t i;

    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(plain(f, rows[i][0], rows[i][1], rows[i][2]), 58);
        assert_ended(f);
    }
    assert_int_equal(handshake(f, "PLAIN"), 0);
    assert_int_equal(step(f, SLICE_LIT("alice")).error_code, 58);
    assert_ended(f);
}

static int16_t scram(struct fx *f, int bits, const char *user, const char *password)
{
    struct kafka_sasl_authenticate_response s;
    char mech[32], text[1200];
    struct client c;

    snprintf(mech, sizeof mech, "SCRAM-SHA-%d", bits);
    assert_int_equal(handshake(f, mech), 0);
    client_first(&c, user, bits, text);
    s = step(f, slice_str(text));
    assert_int_equal(s.error_code, 0);
    client_final(&c, password, s.auth_bytes, text);
    s = step(f, slice_str(text));
    if (!s.error_code)
        assert_slice(s.auth_bytes, c.expect);
    return s.error_code;
}

static void scram_users(void **state)
{
    struct fx *f = *state;
    int bits;

    for (bits = 256; bits <= 512; bits += 256) {
        assert_int_equal(scram(f, bits, "bob", "builder"), 0);
        assert_true(served(f));
        again(f);
        assert_int_equal(scram(f, bits, "bob", "Builder"), 58);
        assert_ended(f);
        assert_int_equal(scram(f, bits, "nobody", "builder"), 58);
        assert_ended(f);
    }
}

/* A name that nobody has always gets the same salt, as one that somebody has. */
static void scram_hides_names(void **state)
{
    struct kafka_sasl_authenticate_response s;
    char text[1200], salt[2][400], nonce[300];
    struct fx *f = *state;
    struct client c;
    int i, n;

    for (i = 0; i < 2; i++) {
        assert_int_equal(handshake(f, "SCRAM-SHA-256"), 0);
        client_first(&c, "nobody", 256, text);
        s = step(f, slice_str(text));
        snprintf(text, sizeof text, "%.*s", (int)s.auth_bytes.len, (const char *)s.auth_bytes.ptr);
        assert_int_equal(sscanf(text, "r=%299[^,],s=%399[^,],i=%d", nonce, salt[i], &n), 3);
        again(f);
    }
    assert_string_equal(salt[0], salt[1]);
}

static void states_refused(void **state)
{
    struct fx *f = *state;

    assert_int_equal(step(f, SLICE_LIT("x")).error_code, 34); /* no handshake */
    assert_ended(f);
    assert_int_equal(handshake(f, "OAUTHBEARER"), 33); /* not offered */
    assert_ended(f);
    assert_int_equal(handshake(f, "GSSAPI"), 33);
    assert_ended(f);
    assert_int_equal(handshake(f, "PLAIN"), 0);
    assert_int_equal(handshake(f, "PLAIN"), 34);
    assert_ended(f);
    assert_int_equal(plain(f, "", "bob", "builder"), 0); /* sessions have no end: not again */
    assert_int_equal(handshake(f, "PLAIN"), 34);
    assert_ended(f);
}

/* Before anybody is known a frame is small. */
static void frames_small(void **state)
{
    struct fx *f = *state;
    uint8_t head[] = {0, 1, 0, 1};

    conn_feed(f->c.c, slice_of(head, 4));
    assert_ended(f);
}

/* The way of handshake version 0: the mechanism's bytes without a request. */
static void without_requests(void **state)
{
    struct kafka_sasl_handshake_request m = {SLICE_LIT("PLAIN")};
    static const char good[] = "\0\0\0\x0c\0bob\0builder", bad[] = "\0\0\0\x0c\0bob\0Builder";
    struct kafka_sasl_handshake_response s;
    struct fx *f = *state;

    dcall(&f->c, 17, sasl_handshake, 0, &m, &s);
    assert_int_equal(s.error_code, 0);
    buf_clear(&f->c.out);
    conn_feed(f->c.c, slice_of(good, 16));
    assert_true(dcall_wait(&f->c));
    assert_int_equal(f->c.out.len, 4);
    assert_true(served(f));
    again(f);
    dcall(&f->c, 17, sasl_handshake, 0, &m, &s);
    buf_clear(&f->c.out);
    conn_feed(f->c.c, slice_of(bad, 16));
    assert_false(dcall_wait(&f->c));
    assert_int_equal(f->c.out.len, 0);
    assert_ended(f);
}

/* ---- sessions that end ---- */

/* As if the session's time were over. */
static void time_over(struct fx *f)
{
    struct kconn *kc = f->c.c->state;

    assert_true(kc->session_end_ms > loop_now_ms(f->d.loop));
    kc->session_end_ms = 1;
}

static void session_ends(void **state)
{
    struct kafka_sasl_authenticate_response s;
    struct fx *f = *state;

    assert_int_equal(handshake(f, "PLAIN"), 0);
    s = step(f, SLICE_LIT("\0bob\0builder"));
    assert_int_equal(s.error_code, 0);
    assert_int_equal(s.session_lifetime_ms, 3600000);
    assert_true(served(f));
    assert_int_equal(plain(f, "", "bob", "builder"), 0); /* again, in time */
    assert_true(served(f));
    time_over(f);
    assert_int_equal(plain(f, "", "bob", "builder"), 0); /* again, late */
    assert_true(served(f));
    time_over(f);
    assert_false(served(f));
    assert_ended(f);
    assert_int_equal(plain(f, "", "bob", "builder"), 0);
    assert_int_equal(plain(f, "", "alice", "wonder:land"), 58); /* as somebody else */
    assert_ended(f);
    assert_int_equal(plain(f, "", "bob", "builder"), 0);
    assert_int_equal(handshake(f, "SCRAM-SHA-256"), 34); /* in another way */
    assert_ended(f);
}

/* ---- users that are stored ---- */

typedef struct kafka_alter_user_scram_credentials_request_upsertion upsertion;

static upsertion upsertion_of(const char *user, int mech, const char *password, uint8_t salted[64])
{
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), (const uint8_t *)"saltsalt", 8, 4096,
                      mech == 1 ? EVP_sha256() : EVP_sha512(), mech == 1 ? 32 : 64, salted);
    return (upsertion){slice_str(user), (int8_t)mech, 4096, SLICE_LIT("saltsalt"),
                       slice_of(salted, mech == 1 ? 32 : 64)};
}

static void users_stored(void **state)
{
    struct kafka_alter_user_scram_credentials_request_deletion del[] = {{SLICE_LIT("carol"), 1},
                                                                        {SLICE_LIT("nobody"), 1}};
    struct kafka_describe_user_scram_credentials_request dm = {NULL, 0, true};
    struct kafka_describe_user_scram_credentials_response ds;
    struct kafka_alter_user_scram_credentials_response s;
    struct kafka_alter_user_scram_credentials_request m;
    uint8_t salted[6][64];
    upsertion up[] = {
        upsertion_of("carol", 1, "sings", salted[0]), upsertion_of("carol", 2, "sings", salted[1]),
        upsertion_of("", 1, "x", salted[2]),          upsertion_of("dave", 1, "x", salted[3]),
        upsertion_of("erin", 1, "x", salted[4]),      upsertion_of("fred", 1, "x", salted[5])};
    const int16_t codes[] = {0, 93, 93, 33, 93};
    struct fx *f = *state;
    int i;

    up[3].iterations = 4095;
    up[4].mechanism = 3;
    up[5].salted_password.len = 31;
    assert_int_equal(plain(f, "", "bob", "builder"), 0);
    m = (struct kafka_alter_user_scram_credentials_request){NULL, 0, up, 6};
    dcall(&f->c, 51, alter_user_scram_credentials, 0, &m, &s);
    assert_int_equal(s.results_n, 5);
    for (i = 0; i < 5; i++)
        assert_int_equal(s.results[i].error_code, codes[i]);
    dcall(&f->c, 50, describe_user_scram_credentials, 0, &dm, &ds);
    assert_int_equal(ds.results_n, 1);
    assert_slice(ds.results[0].user, "carol");
    assert_int_equal(ds.results[0].credential_infos_n, 2);
    assert_int_equal(ds.results[0].credential_infos[1].mechanism, 2);
    assert_int_equal(ds.results[0].credential_infos[1].iterations, 4096);
    dk_close(&f->d); /* they are durable */
    dconn_fini(&f->c);
    dk_open(&f->d);
    dconn_open(&f->d, &f->c);
    assert_int_equal(scram(f, 512, "carol", "sings"), 0);
    again(f);
    assert_int_equal(plain(f, "", "carol", "sings"), 0);
    m = (struct kafka_alter_user_scram_credentials_request){del, 2, NULL, 0};
    dcall(&f->c, 51, alter_user_scram_credentials, 0, &m, &s);
    assert_int_equal(s.results[0].error_code, 0);
    assert_int_equal(s.results[1].error_code, 91);
    up[1].mechanism = 2;
    m = (struct kafka_alter_user_scram_credentials_request){
        (struct kafka_alter_user_scram_credentials_request_deletion[]){{SLICE_LIT("carol"), 2}}, 1,
        &up[1], 1};
    dcall(&f->c, 51, alter_user_scram_credentials, 0, &m, &s);
    assert_int_equal(s.results_n, 1);
    assert_int_equal(s.results[0].error_code, 92);
    again(f);
    assert_int_equal(scram(f, 256, "carol", "sings"), 58);
    assert_ended(f);
    assert_int_equal(scram(f, 512, "carol", "sings"), 0);
}

/* The file is read again; one that is wrong changes nothing. */
static void users_file(void **state)
{
    struct errinfo info = {0};
    struct fx *f = *state;

    file_write(f->users, "alice:new\n");
    assert_int_equal(kafka_reload(f->d.k, &info), ERR_OK);
    assert_int_equal(plain(f, "", "bob", "builder"), 58);
    assert_ended(f);
    assert_int_equal(plain(f, "", "alice", "new"), 0);
    file_write(f->users, "alice:newer\nbob\n");
    assert_int_equal(kafka_reload(f->d.k, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "line 2"));
    again(f);
    assert_int_equal(plain(f, "", "alice", "new"), 0);
}

/* ---- tokens ---- */

static EVP_PKEY *rsa, *ec;
static const char secret[] = "a secret of more than thirty-two bytes";

static char *b64url(const void *p, size_t n, char *out)
{
    char *c;

    base64_encode(p, n, out);
    for (c = out; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    while (c > out && c[-1] == '=')
        *--c = 0;
    return out;
}

static void number_b64(EVP_PKEY *key, const char *name, char *out)
{
    BIGNUM *n = NULL;
    uint8_t bytes[512];

    assert_true(EVP_PKEY_get_bn_param(key, name, &n));
    b64url(bytes, (size_t)BN_bn2bin(n, bytes), out);
    BN_free(n);
}

static void coordinate_b64(const char *name, char *out)
{
    BIGNUM *n = NULL;
    uint8_t bytes[32];

    assert_true(EVP_PKEY_get_bn_param(ec, name, &n));
    assert_int_equal(BN_bn2binpad(n, bytes, 32), 32);
    b64url(bytes, 32, out);
    BN_free(n);
}

static const char *keys_text(void)
{
    static char text[4096];
    char n[1000], e[100], x[100], y[100], k[100];

    if (!rsa) {
        rsa = EVP_RSA_gen(2048);
        ec = EVP_EC_gen("P-256");
    }
    number_b64(rsa, OSSL_PKEY_PARAM_RSA_N, n);
    number_b64(rsa, OSSL_PKEY_PARAM_RSA_E, e);
    coordinate_b64(OSSL_PKEY_PARAM_EC_PUB_X, x);
    coordinate_b64(OSSL_PKEY_PARAM_EC_PUB_Y, y);
    b64url(secret, sizeof secret - 1, k);
    snprintf(text, sizeof text,
             "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r\",\"use\":\"sig\",\"n\":\"%s\",\"e\":\"%s\"},"
             "{\"kty\":\"EC\",\"kid\":\"c\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"},"
             "{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"%s\"},"
             "{\"kty\":\"OKP\",\"kid\":\"no\"}]}",
             n, e, x, y, k);
    return text;
}

static void sign(const char *alg, const char *data, char *out)
{
    uint8_t sig[600], raw[64];
    size_t n = sizeof sig;
    unsigned len;

    if (strcmp(alg, "HS256") == 0) {
        HMAC(EVP_sha256(), secret, sizeof secret - 1, (const uint8_t *)data, strlen(data), sig,
             &len);
        b64url(sig, len, out);
        return;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_ec = strcmp(alg, "ES256") == 0;

    assert_true(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, is_ec ? ec : rsa));
    assert_true(EVP_DigestSign(ctx, sig, &n, (const uint8_t *)data, strlen(data)));
    EVP_MD_CTX_free(ctx);
    if (is_ec) {
        const uint8_t *p = sig;
        ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);

        BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + 32, 32);
        ECDSA_SIG_free(s);
        b64url(raw, 64, out);
        return;
    }
    b64url(sig, n, out);
}

/* alg: what the header says; by: whose signature it has. */
static const char *token(const char *alg, const char *by, const char *kid, const char *claims)
{
    static char out[4000];
    char head[200], h64[300], c64[2000], sig[1000];

    snprintf(head, sizeof head, "{\"alg\":\"%s\"%s%s%s}", alg, *kid ? ",\"kid\":\"" : "", kid,
             *kid ? "\"" : "");
    b64url(head, strlen(head), h64);
    b64url(claims, strlen(claims), c64);
    snprintf(out, sizeof out, "%s.%s", h64, c64);
    sign(by, out, sig);
    strncat(out, ".", 2);
    strncat(out, sig, 1000);
    return out;
}

#define NOW  1700000000000
#define GOOD "{\"sub\":\"sue\",\"iss\":\"i\",\"aud\":[\"x\",\"weir\"],\"exp\":1700000100}"
#define GOOD_ID \
    "{\"sub\":\"sue\",\"iss\":\"i\",\"aud\":\"weir\",\"exp\":1700000100.5,\"nbf\":1699999999}"

static void tokens_checked(void **state)
{
    const struct {
        const char *alg, *by, *kid, *claims, *why;
    } rows[] = {
        {"RS256", "RS256", "r", GOOD, NULL},
        {"ES256", "ES256", "c", GOOD_ID, NULL},
        {"HS256", "HS256", "", GOOD, NULL},
        {"RS256", "RS256", "", GOOD, NULL},
        {"RS256", "RS256", "other", GOOD, "signature"},
        {"RS256", "ES256", "r", GOOD, "signature"},
        {"ES256", "RS256", "c", GOOD, "signature"},
        {"HS256", "RS256", "r", GOOD, "signature"},
        {"none", "RS256", "", GOOD, "signature"},
        {"RS512", "RS256", "", GOOD, "signature"},
        {"HS256", "HS256", "", "not json", "not JSON"},
        {"HS256", "HS256", "", "[1]", "not JSON"},
        {"HS256", "HS256", "", "{\"sub\":\"s\",\"iss\":\"i\",\"aud\":\"weir\"}", "(exp)"},
        {"HS256", "HS256", "", "{\"sub\":\"s\",\"iss\":\"i\",\"aud\":\"weir\",\"exp\":1699999970}",
         "expired"},
        {"HS256", "HS256", "",
         "{\"sub\":\"s\",\"iss\":\"i\",\"aud\":\"weir\",\"exp\":\"1800000000\"}", "(exp)"},
        {"HS256", "HS256", "",
         "{\"sub\":\"s\",\"iss\":\"i\",\"aud\":\"weir\",\"exp\":1700000100,\"nbf\":1700000031}",
         "not valid yet"},
        {"HS256", "HS256", "", "{\"sub\":\"s\",\"iss\":\"j\",\"aud\":\"weir\",\"exp\":1700000100}",
         "issuer"},
        {"HS256", "HS256", "", "{\"sub\":\"s\",\"iss\":\"i\",\"aud\":[\"w\"],\"exp\":1700000100}",
         "audience"},
        {"HS256", "HS256", "", "{\"iss\":\"i\",\"aud\":\"weir\",\"exp\":1700000100}", "(sub)"},
    };
    struct jwt_want want = {"i", "weir"};
    struct jwt_claims claims;
    struct errinfo info;
    struct jwks *ks;
    size_t i;

    assert_int_equal(jwks_new(slice_str(keys_text()), &ks, &info), ERR_OK);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *t = token(rows[i].alg, rows[i].by, rows[i].kid, rows[i].claims);
        enum err e = jwt_check(ks, slice_str(t), &want, NOW, &claims, &info);

        if ((e != ERR_OK) != (rows[i].why != NULL))
            fail_msg("row %zu: %s", i, e ? info.text : "passed");
        if (e && !strstr(info.text, rows[i].why))
            fail_msg("row %zu: %s", i, info.text);
        if (!e)
            assert_string_equal(claims.subject, "sue");
    }
    assert_int_equal(claims.expires_ms / 1000, 1700000100);
    jwks_free(&ks);
}

/* Every byte of a token counts. */
static void tokens_changed(void **state)
{
    struct jwt_want want = {NULL, NULL};
    struct jwt_claims claims;
    struct errinfo info;
    struct jwks *ks;
    char text[4000];
    size_t i, n;

    assert_int_equal(jwks_new(slice_str(keys_text()), &ks, &info), ERR_OK);
    snprintf(text, sizeof text, "%s", token("ES256", "ES256", "c", GOOD));
    n = strlen(text);
    assert_int_equal(jwt_check(ks, slice_of(text, n), &want, NOW, &claims, &info), ERR_OK);
    for (i = 0; i < n; i++) {
        char was = text[i];

        text[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(jwt_check(ks, slice_of(text, n), &want, NOW, &claims, &info),
                         ERR_UNAUTHENTICATED);
        text[i] = was;
        assert_int_equal(jwt_check(ks, slice_of(text, i), &want, NOW, &claims, &info),
                         ERR_UNAUTHENTICATED);
    }
    jwks_free(&ks);
}

static void keys_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"keys\":[]}",
        "{\"keys\":7}",
        "{\"keys\":[{\"kty\":\"RSA\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}]}", /* short */
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\",\"y\":"
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\"}]}", /* not on the curve */
    };
    struct errinfo info;
    struct jwks *ks;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (jwks_new(slice_str(bad[i]), &ks, &info) != ERR_CONFIG)
            fail_msg("%s", bad[i]);
        assert_null(ks);
    }
}

static int setup_oauth(void **state)
{
    struct fx *f = fx_new("OAUTHBEARER");

    snprintf(f->keys, sizeof f->keys, "/tmp/weir-keys-%d", (int)getpid());
    file_write(f->keys, keys_text());
    f->d.kc.sasl_jwks = f->keys;
    f->d.kc.sasl_audience = "weir";
    f->d.kc.reauth_ms = 3600000;
    fx_go(f, state);
    return 0;
}

static struct kafka_sasl_authenticate_response bearer(struct fx *f, const char *head, const char *t)
{
    char text[5000];

    snprintf(text, sizeof text, "%s\1auth=Bearer %s\1host=h\1\1", head, t);
    assert_int_equal(handshake(f, "OAUTHBEARER"), 0);
    return step(f, slice_str(text));
}

static void tokens_let_in(void **state)
{
    struct kafka_sasl_authenticate_response s;
    struct fx *f = *state;
    char claims[200];

    snprintf(claims, sizeof claims, "{\"sub\":\"sue\",\"aud\":\"weir\",\"exp\":%lld}",
             (long long)time(NULL) + 100);
    s = bearer(f, "n,,", token("RS256", "RS256", "r", claims));
    assert_int_equal(s.error_code, 0);
    assert_slice(s.auth_bytes, "");
    assert_in_range(s.session_lifetime_ms, 90000, 100999);
    assert_true(served(f));
    again(f);
    s = bearer(f, "n,a=sue,", token("ES256", "ES256", "c", claims));
    assert_int_equal(s.error_code, 0);
    again(f);
    s = bearer(f, "n,a=tom,", token("ES256", "ES256", "c", claims));
    assert_slice(s.auth_bytes, "{\"status\":\"invalid_token\"}");
    assert_false(served(f));
    assert_ended(f);
    s = bearer(f, "n,,", "x.y.z");
    assert_slice(s.auth_bytes, "{\"status\":\"invalid_token\"}");
    s = step(f, SLICE_LIT("\1"));
    assert_int_equal(s.error_code, 58);
    assert_ended(f);
    s = bearer(f, "p=x,,", token("ES256", "ES256", "c", claims));
    assert_int_equal(s.error_code, 58);
    assert_ended(f);
}

/* ---- configuration ---- */

static void configuration_refused(void **state)
{
    struct kafka_conf bad[] = {{.sasl_mechanisms = "PLAIN,GSSAPI"},
                               {.sasl_mechanisms = "OAUTHBEARER"},
                               {.super_users = "admin"},
                               {.sasl_users = "/does/not/exist"},
                               {.sasl_jwks = "/dev/null"}};
    struct errinfo info;
    struct kafka *k;
    struct fx *f = *state;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        bad[i].broker = f->d.b;
        bad[i].loops = &f->d.loop;
        bad[i].loops_n = 1;
        bad[i].conns_max = 1;
        assert_int_not_equal(kafka_new(&bad[i], &k, &info), ERR_OK);
        assert_null(k);
    }
}

#define T(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_rfc7677),
        cmocka_unit_test(nonce_checked),
        cmocka_unit_test(credentials_stored),
        cmocka_unit_test(first_refused),
        T(nobody_is_refused, setup),
        T(plain_passwords, setup),
        T(plain_refused, setup),
        T(scram_users, setup),
        T(scram_hides_names, setup),
        T(states_refused, setup),
        T(frames_small, setup),
        T(without_requests, setup),
        T(session_ends, setup_reauth),
        T(users_stored, setup),
        T(users_file, setup),
        cmocka_unit_test(tokens_checked),
        cmocka_unit_test(tokens_changed),
        cmocka_unit_test(keys_refused),
        T(tokens_let_in, setup_oauth),
        T(configuration_refused, setup),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    return failed;
}
