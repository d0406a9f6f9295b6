/* What every object store keeps, tried on a folder; and on the store of WEIR_TEST_STORE (a URL), for
 * which tests/system/lake_store.py runs this program: in front of a server that is real, or spoilt.
 * WEIR_TEST_STORE_ROUNDS: how often; WEIR_TEST_STORE_SPOILT: a call may answer that it does not know;
 * WEIR_TEST_STORE_SIGNER: the URI of a catalog that signs requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io.h"
#include "io/thread.h"
#include "lake/catalog.h"
#include "lake/signer.h"
#include "lake/store.h"
#include "lake/store_int.h"

static char tmp[256];
static bool spoilt;

static const char *store_env(void)
{
    return getenv("WEIR_TEST_STORE");
}

static struct catalog *signing; /* connection to the catalog that signs; NULL: none does */

static struct signer *signer_opened(void)
{
    struct catalog_rest_conf c = {.uri = getenv("WEIR_TEST_STORE_SIGNER"), .timeout_ms = 5000};
    struct errinfo info = {0};
    struct signer *s = NULL;
    json_t *said;

    if (!c.uri)
        return NULL;
    if (!signing && catalog_rest_open(&c, io_real(), &signing, &info))
        fail_msg("%s", info.text);
    said = json_pack("{s:s, s:s}", "s3.remote-signing-enabled", "true", "uri", c.uri);
    assert_true(signer_wanted(said));
    if (signer_new(signing, said, &s, &info))
        fail_msg("%s", info.text);
    json_decref(said);
    return s;
}

static struct store *opened(void)
{
    char url[300];
    struct store_conf c = {.deadline_ms = 30000, .stall_timeout_ms = 1000};
    struct errinfo info = {0};
    struct store *s = NULL;

    snprintf(url, sizeof url, "file://%s/objects", tmp);
    c.url = store_env() ? store_env() : url;
    c.signer = signer_opened();
    if (store_open(&c, &s, &info))
        fail_msg("%s", info.text);
    return s;
}

static struct store_source text(const char *t)
{
    return (struct store_source){.bytes = slice_str(t)};
}

static void ok(enum err e, const struct errinfo *info)
{
    if (e)
        fail_msg("%s: %s", err_code(e), info->text);
}

static void expect(struct store *s, const char *key, struct slice want)
{
    struct errinfo info = {0};
    struct store_stat st;
    struct buf b;

    buf_init(&b, 64u << 20);
    ok(store_get(s, key, 0, STORE_ALL, &b, &st, &info), &info);
    assert_true(slice_eq(buf_slice(&b), want));
    assert_int_equal(st.size, want.len);
    buf_fini(&b);
}

static void test_put_get(void **state)
{
    struct store *s = *state;
    struct store_source src = text("hello, lake");
    struct store_stat st, again;
    struct errinfo info = {0};
    struct buf b;

    ok(store_put(s, "t/a b+c=\xc3\xa9.txt", &src, NULL, &st, &info), &info);
    assert_int_equal(st.size, 11);
    assert_true(st.etag[0]);
    ok(store_head(s, "t/a b+c=\xc3\xa9.txt", &again, &info), &info);
    assert_string_equal(st.etag, again.etag);
    assert_int_equal(again.size, 11);
    assert_true(again.modified_ms > 1600000000000);
    expect(s, "t/a b+c=\xc3\xa9.txt", SLICE_LIT("hello, lake"));
    buf_init(&b, 100);
    ok(store_get(s, "t/a b+c=\xc3\xa9.txt", 7, 2, &b, &st, &info), &info);
    assert_true(slice_eq_str(buf_slice(&b), "la"));
    assert_int_equal(st.size, 11);
    ok(store_get(s, "t/a b+c=\xc3\xa9.txt", 9, 100, &b, &st, &info), &info);
    assert_true(slice_eq_str(buf_slice(&b), "lake"));
    ok(store_get(s, "t/a b+c=\xc3\xa9.txt", 50, 100, &b, &st, &info), &info);
    assert_int_equal(b.len, 4);
    buf_fini(&b);
    buf_init(&b, 5);
    assert_int_equal(store_get(s, "t/a b+c=\xc3\xa9.txt", 0, STORE_ALL, &b, &st, &info),
                     ERR_TOO_LARGE);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
    src = text("");
    ok(store_put(s, "t/empty", &src, NULL, &st, &info), &info);
    expect(s, "t/empty", SLICE_LIT(""));
}

static void test_missing(void **state)
{
    static const char *const keys[] = {"m/none", "m/none/either"};
    struct store *s = *state;
    struct errinfo info = {0};
    struct store_stat st;
    struct buf b;

    buf_init(&b, 100);
    assert_int_equal(store_get(s, "m/none", 0, STORE_ALL, &b, &st, &info), ERR_NOT_FOUND);
    assert_int_equal(store_head(s, "m/none", &st, &info), ERR_NOT_FOUND);
    ok(store_delete(s, keys, 2, &info), &info);
    buf_fini(&b);
}

static void test_keys(void **state)
{
    static const char *const bad[] = {"", "/a", "a/", "a//b", "a/../b", ".", "..", "a\nb"};
    struct store *s = *state;
    char at[STORE_LOCATION_MAX + 1], long_key[STORE_KEY_MAX + 2], other[600];
    struct store_source src = text("x");
    struct errinfo info = {0};
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(store_put(s, bad[i], &src, NULL, NULL, &info), ERR_INVALID);
    memset(long_key, 'k', sizeof long_key);
    long_key[STORE_KEY_MAX + 1] = 0;
    assert_int_equal(store_put(s, long_key, &src, NULL, NULL, &info), ERR_INVALID);
    ok(store_location(s, "a/b.parquet", at, &info), &info);
    assert_string_equal(store_key(s, at), "a/b.parquet");
    snprintf(other, sizeof other, "%sx/a", store_url(s));
    assert_null(store_key(s, other));
    snprintf(other, sizeof other, "%s/../a", store_url(s));
    assert_null(store_key(s, other));
    if (!store_env()) {
        snprintf(other, sizeof other, "file:%s/objects/a", tmp);
        assert_string_equal(store_key(s, other), "a");
    }
}

/* With a spoilt server an outcome may be unknown: then it is looked at, as the lake does. */
static enum err settled(struct store *s, const char *key, const char *mine, enum err e)
{
    struct buf b;
    struct errinfo info = {0};

    if (e != ERR_UNCERTAIN)
        return e;
    assert_true(spoilt);
    buf_init(&b, 1000);
    e = store_get(s, key, 0, STORE_ALL, &b, NULL, &info);
    if (!e)
        e = slice_eq_str(buf_slice(&b), mine) ? ERR_OK : ERR_EXISTS;
    buf_fini(&b);
    return e;
}

static void test_conditions(void **state)
{
    struct store_put none = {.condition = STORE_IF_NONE}, match = {.condition = STORE_IF_MATCH};
    struct store_source one = text("one"), two = text("two!");
    static const char *const keys[] = {"c/v1"};
    struct store *s = *state;
    struct errinfo info = {0};
    struct store_stat st, st2;
    enum err e;

    ok(store_delete(s, keys, 1, &info), &info);
    match.etag = "\"0123456789abcdef0123456789abcdef\"";
    e = settled(s, "c/v1", "one", store_put(s, "c/v1", &one, &match, &st, &info));
    assert_true(e == ERR_NOT_FOUND || e == ERR_CONFLICT);
    ok(settled(s, "c/v1", "one", store_put(s, "c/v1", &one, &none, &st, &info)), &info);
    assert_int_equal(settled(s, "c/v1", "two!", store_put(s, "c/v1", &two, &none, &st2, &info)),
                     ERR_EXISTS);
    expect(s, "c/v1", SLICE_LIT("one"));
    ok(store_head(s, "c/v1", &st, &info), &info);
    match.etag = st.etag;
    ok(settled(s, "c/v1", "two!", store_put(s, "c/v1", &two, &match, &st2, &info)), &info);
    expect(s, "c/v1", SLICE_LIT("two!"));
    assert_int_equal(settled(s, "c/v1", "one", store_put(s, "c/v1", &one, &match, &st2, &info)),
                     ERR_CONFLICT);
}

struct racer {
    struct store *s;
    unsigned round, n;
    enum err e;
};

static void race(void *arg)
{
    struct racer *r = arg;
    struct store_put none = {.condition = STORE_IF_NONE};
    char key[64], mine[64];
    struct store_source src;
    struct errinfo info = {0};

    snprintf(key, sizeof key, "race/%u", r->round);
    snprintf(mine, sizeof mine, "racer %u", r->n);
    src = text(mine);
    r->e = settled(r->s, key, mine, store_put(r->s, key, &src, &none, NULL, &info));
}

/* Of four writers of one name one wins, and it is the one whose bytes are there. */
static void test_race(void **state)
{
    struct io_thread *t[4];
    struct racer r[4];
    char key[64], mine[64];
    unsigned round, i, won, winner = 0;

    for (round = 0; round < 10; round++) {
        const char *keys[] = {key};

        snprintf(key, sizeof key, "race/%u", round);
        assert_int_equal(store_delete(*state, keys, 1, NULL), ERR_OK);
        for (i = 0; i < 4; i++) {
            r[i] = (struct racer){*state, round, i, ERR_OK};
            assert_int_equal(io_thread_start("race", IO_PRIO_NORMAL, race, &r[i], &t[i], NULL), 0);
        }
        for (i = won = 0; i < 4; i++) {
            io_thread_join(&t[i]);
            assert_true(r[i].e == ERR_OK || r[i].e == ERR_EXISTS);
            won += r[i].e == ERR_OK;
            winner = r[i].e == ERR_OK ? i : winner;
        }
        assert_int_equal(won, 1);
        snprintf(mine, sizeof mine, "racer %u", winner);
        expect(*state, key, slice_str(mine));
    }
}

static void file_make(const char *path, uint8_t **bytes, size_t n)
{
    struct io_file *f = NULL;
    size_t i;

    *bytes = xmalloc(n);
    for (i = 0; i < n; i++)
        (*bytes)[i] = (uint8_t)((i * 2654435761u) >> 13);
    assert_int_equal(io_open(io_real(), path, IO_CREATE | IO_TRUNC, &f, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, *bytes, n, 0, NULL), ERR_OK);
    io_close(&f);
}

/* A file in three parts, from an offset on, and back into a file. */
static void test_files(void **state)
{
    size_t n = (17u << 20) + 12345;
    struct store_put none = {.condition = STORE_IF_NONE};
    static const char *const keys[] = {"big/file"};
    struct store *s = *state;
    struct errinfo info = {0};
    char from[300], to[300];
    struct store_stat st;
    struct store_source src;
    uint8_t *bytes;
    enum err e;

    snprintf(from, sizeof from, "%s/from", tmp);
    snprintf(to, sizeof to, "%s/to", tmp);
    file_make(from, &bytes, n);
    ok(store_delete(s, keys, 1, &info), &info);
    src = (struct store_source){.path = from, .off = 5, .len = n - 5};
    e = store_put(s, "big/file", &src, &none, &st, &info);
    if (e == ERR_UNCERTAIN && spoilt)
        e = store_head(s, "big/file", &st, &info);
    ok(e, &info);
    assert_int_equal(st.size, n - 5);
    expect(s, "big/file", slice_of(bytes + 5, n - 5));
    ok(store_get_file(s, "big/file", to, &st, &info), &info);
    assert_int_equal(st.size, n - 5);
    ok(store_put(s, "big/copy", &(struct store_source){.path = to, .len = n - 5}, NULL, &st, &info),
       &info);
    expect(s, "big/copy", slice_of(bytes + 5, n - 5));
    assert_int_equal(store_get_file(s, "big/none", to, &st, &info), ERR_NOT_FOUND);
    assert_int_not_equal(access(to, F_OK), 0);
    src.len = n;
    assert_int_equal(store_put(s, "big/short", &src, NULL, &st, &info), ERR_EOF);
    assert_int_equal(store_head(s, "big/short", &st, &info), ERR_NOT_FOUND);
    free(bytes);
}

/* A file that is the store's: what cannot be its own is refused as if it were copied. */
static void test_given(void **state)
{
    struct store_source src = {.off = 0, .len = 5000, .given = true};
    struct store_put none = {.condition = STORE_IF_NONE};
    struct store *s = *state;
    struct errinfo info = {0};
    struct store_stat st;
    char from[300];
    uint8_t *bytes;
    enum err e;

    snprintf(from, sizeof from, "%s/given", tmp);
    src.path = from;
    file_make(from, &bytes, 5000);
    e = store_put(s, "given/a", &src, NULL, &st, &info);
    if (e == ERR_UNCERTAIN && spoilt)
        e = store_head(s, "given/a", &st, &info);
    ok(e, &info);
    assert_int_equal(st.size, 5000);
    expect(s, "given/a", slice_of(bytes, 5000));
    free(bytes);
    file_make(from, &bytes, 4999); /* shorter than is said */
    assert_int_equal(store_put(s, "given/b", &src, NULL, &st, &info), ERR_EOF);
    assert_int_equal(store_head(s, "given/b", &st, &info), ERR_NOT_FOUND);
    free(bytes);
    file_make(from, &bytes, 5000);
    e = store_put(s, "given/a", &src, &none, &st, &info); /* it is there already */
    assert_true(e == ERR_EXISTS || (e == ERR_UNCERTAIN && spoilt));
    unlink(from);
    src.path = "/nowhere/given";
    assert_int_not_equal(store_put(s, "given/c", &src, NULL, &st, &info), ERR_OK);
    assert_int_equal(store_head(s, "given/c", &st, &info), ERR_NOT_FOUND);
    free(bytes);
}

struct names {
    char text[4096];
    unsigned n, stop_at;
};

static bool on_name(void *arg, const struct store_entry *e)
{
    struct names *n = arg;

    snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%s:%u ", e->key,
             (unsigned)e->size);
    return ++n->n != n->stop_at;
}

static void test_list(void **state)
{
    static const char *const keys[] = {"l/ab", "l/a/1", "l/a/2", "l/a/sub/x", "l/b", "lx"};
    struct store *s = *state;
    struct store_source src = text("123");
    struct errinfo info = {0};
    struct names all = {.n = 0}, some = {.n = 0}, two = {.stop_at = 2}, none = {.n = 0};
    size_t i;

    for (i = 0; i < 6; i++)
        ok(store_put(s, keys[i], &src, NULL, NULL, &info), &info);
    ok(store_list(s, "l/", NULL, on_name, &all, &info), &info);
    assert_string_equal(all.text, "l/a/1:3 l/a/2:3 l/a/sub/x:3 l/ab:3 l/b:3 ");
    ok(store_list(s, "l/a", "l/a/1", on_name, &some, &info), &info);
    assert_string_equal(some.text, "l/a/2:3 l/a/sub/x:3 l/ab:3 ");
    ok(store_list(s, "l", NULL, on_name, &two, &info), &info);
    assert_string_equal(two.text, "l/a/1:3 l/a/2:3 ");
    ok(store_delete(s, keys, 6, &info), &info);
    ok(store_list(s, "l", NULL, on_name, &none, &info), &info);
    assert_string_equal(none.text, "");
}

/* More than a page, and more than one removal may name. */
static void test_pages(void **state)
{
    const size_t N = store_env() ? 1003 : 30;
    struct store *s = *state;
    struct store_source src = text("x");
    struct errinfo info = {0};
    struct names count = {.n = 0};
    char **keys;
    size_t i;

    if (spoilt)
        skip();
    keys = xcalloc(N, sizeof(char *));
    for (i = 0; i < N; i++) {
        char k[64];

        snprintf(k, sizeof k, "pages/%04zu", i);
        keys[i] = xstrdup(k);
        ok(store_put(s, k, &src, NULL, NULL, &info), &info);
    }
    ok(store_list(s, "pages/", NULL, on_name, &count, &info), &info);
    assert_int_equal(count.n, N);
    ok(store_delete(s, (const char *const *)keys, N, &info), &info);
    count.n = 0;
    ok(store_list(s, "pages/", NULL, on_name, &count, &info), &info);
    assert_int_equal(count.n, 0);
    for (i = 0; i < N; i++)
        free(keys[i]);
    free(keys);
}

static void test_sweep(void **state)
{
    struct store *s = *state;
    struct errinfo info = {0};
    char path[400];
    uint8_t *bytes;
    uint64_t n;

    if (!store_env()) {
        snprintf(path, sizeof path, "%s/objects/.weir-tmp/0123456789abcdef", tmp);
        file_make(path, &bytes, 10);
        free(bytes);
        ok(store_sweep(s, 1000, &n, &info), &info);
        assert_int_equal(n, 0);
        ok(store_sweep(s, io_wall_ms(io_real()) + 3600000, &n, &info), &info);
        assert_int_equal(n, 1);
    } else {
        ok(store_sweep(s, io_wall_ms(io_real()) + 3600000, &n, &info), &info);
    }
}

/* What a signer refuses, or answers with what cannot be sent, tells nothing of the object. */
static void test_signer_refuses(void **state)
{
    static const struct {
        const char *key;
        enum err e;
    } rows[] = {{"refused/404", ERR_FORBIDDEN},       {"refused/409", ERR_FORBIDDEN},
                {"refused/400", ERR_FORBIDDEN},       {"refused/403", ERR_FORBIDDEN},
                {"refused/401", ERR_UNAUTHENTICATED}, {"refused/empty", ERR_FORBIDDEN},
                {"refused/line", ERR_FORBIDDEN},      {"refused/name", ERR_FORBIDDEN},
                {"refused/many", ERR_FORBIDDEN},      {"refused/long", ERR_FORBIDDEN},
                {"refused/file", ERR_FORBIDDEN},      {"refused/list", ERR_FORBIDDEN}};
    struct store_put none = {.condition = STORE_IF_NONE};
    struct store_source src = text("x");
    struct errinfo info = {0};
    struct store_stat st;

    if (!signing)
        skip();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err e = store_head(*state, rows[i].key, &st, &info);

        if (e != rows[i].e)
            fail_msg("%s: %s: %s", rows[i].key, err_code(e), info.text);
        assert_int_equal(store_put(*state, rows[i].key, &src, &none, &st, &info), rows[i].e);
    }
}

/* An answer is used again where the signer allows it; lake_sign.py counts how often it is asked. */
static void test_signer_again(void **state)
{
    struct store_source src = text("again");
    struct errinfo info = {0};

    if (!signing)
        skip();
    ok(store_put(*state, "again", &src, NULL, NULL, &info), &info);
    for (unsigned i = 0; i < 10; i++)
        expect(*state, "again", SLICE_LIT("again"));
}

static void test_signer_urls(void **state)
{
    static const struct {
        const char *said;
        enum err e;
    } rows[] = {
        {"{'uri':'http://a/c/'}", ERR_OK},
        {"{'uri':'http://a/c','s3.signer.uri':'https://b','s3.signer.endpoint':'/x?y=1'}", ERR_OK},
        {"{'uri':'http://a','signer.endpoint':'https://b/sign'}", ERR_OK},
        {"{'uri':'https://a','s3.signer.uri':'http://b'}", ERR_UNSUPPORTED},
        {"{'s3.signer.endpoint':'v1/sign'}", ERR_UNSUPPORTED},
        {"{'uri':'https://a','s3.signer.uri':'file:///b'}", ERR_UNSUPPORTED},
        {"{}", ERR_UNSUPPORTED},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *json = xstrdup(rows[i].said);
        struct signer *s = NULL;
        json_t *said;

        for (char *p = json; *p; p++)
            *p = *p == '\'' ? '"' : *p;
        said = json_loads(json, 0, NULL);
        assert_non_null(said);
        assert_false(signer_wanted(said));
        assert_int_equal(signer_new(NULL, said, &s, NULL), rows[i].e);
        assert_true(!s == (rows[i].e != ERR_OK));
        signer_free(&s);
        json_decref(said);
        free(json);
    }
}

/* ---- without a server ---- */

static void count_text(void *arg, const char *path, struct slice t)
{
    struct names *n = arg;

    snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%s=%.*s;", path,
             (int)t.len, t.ptr ? (const char *)t.ptr : "");
}

static void test_xml(void **state)
{
    struct names n = {.n = 0};
    struct buf b;
    char deep[400] = "";
    int i;

    (void)state;
    assert_int_equal(
        store_xml_each(SLICE_LIT("<A x='1'><B>1 &lt; 2</B>\n<C/></A>"), count_text, &n), ERR_OK);
    assert_string_equal(n.text, "A/B=1 < 2;A/C=;A=;");
    assert_int_equal(store_xml_each(SLICE_LIT("<A><B></A>"), count_text, &n), ERR_CORRUPT_INPUT);
    assert_int_equal(store_xml_each(SLICE_LIT(""), count_text, &n), ERR_CORRUPT_INPUT);
    for (i = 0; i < 60; i++)
        memcpy(deep + strlen(deep), "<a>", 4);
    assert_int_equal(store_xml_each(slice_str(deep), count_text, &n), ERR_CORRUPT_INPUT);
    buf_init(&b, 100);
    assert_int_equal(store_xml_escape(&b, SLICE_LIT("a<b>&\"\x01")), ERR_OK);
    assert_true(slice_eq_str(buf_slice(&b), "a&lt;b&gt;&amp;&quot;&#x1;"));
    buf_fini(&b);
}

static void test_open(void **state)
{
    static const char *const bad[] = {"http://x", "file://rel", "file:///",      "s3://",
                                      "s3:///p",  "",           "file:///a/../b"};
    struct store_conf c = {.access_key = "a", .secret_key = "s"};
    struct store_access a;
    struct errinfo info = {0};
    struct store *s = NULL;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        c.url = bad[i];
        assert_int_equal(store_open(&c, &s, &info), ERR_CONFIG);
        assert_null(s);
    }
    c.url = "s3://bucket/some/prefix/";
    c.region = "eu-central-1";
    c.endpoint = "https://s3.example.com";
    ok(store_open(&c, &s, &info), &info);
    assert_string_equal(store_url(s), "s3://bucket/some/prefix");
    assert_string_equal(store_key(s, "s3a://bucket/some/prefix/x/y"), "x/y");
    store_access_get(s, &a);
    assert_true(a.s3 && a.tls && a.path_style);
    assert_string_equal(a.region, "eu-central-1");
    store_close(&s);
    c.endpoint = "ftp://x";
    assert_int_equal(store_open(&c, &s, &info), ERR_CONFIG);
}

static void test_credentials(void **state)
{
    static const char *const file = "[default]\naws_access_key_id = AK1\n"
                                    "aws_secret_access_key=S1=\n# c\n[other]\n"
                                    "aws_access_key_id=AK2\naws_secret_access_key = S2\n"
                                    "aws_session_token = T2\n[bad]\naws_access_key_id = x\n";
    char path[300];
    struct store_conf c = {.url = "s3://b", .credentials_file = path};
    struct store_creds cr;
    struct errinfo info = {0};
    struct io_file *f = NULL;

    (void)state;
    snprintf(path, sizeof path, "%s/credentials", tmp);
    assert_int_equal(io_open(io_real(), path, IO_CREATE | IO_TRUNC, &f, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, file, strlen(file), 0, NULL), ERR_OK);
    io_close(&f);
    ok(store_creds_find(&c, &cr, &info), &info);
    assert_string_equal(cr.access_key, "AK1");
    assert_string_equal(cr.secret_key, "S1=");
    assert_null(cr.session_token);
    store_creds_fini(&cr);
    c.profile = "other";
    ok(store_creds_find(&c, &cr, &info), &info);
    assert_string_equal(cr.secret_key, "S2");
    assert_string_equal(cr.session_token, "T2");
    store_creds_fini(&cr);
    c.profile = "bad";
    assert_int_equal(store_creds_find(&c, &cr, &info), ERR_UNAUTHENTICATED);
    c.credentials_file = "/nonexistent/credentials";
    assert_int_equal(store_creds_find(&c, &cr, &info), ERR_UNAUTHENTICATED);
}

static int setup(void **state)
{
    *state = opened();
    return 0;
}

static int teardown(void **state)
{
    struct store *s = *state;

    store_close(&s);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signer_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signer_again, setup, teardown),
        cmocka_unit_test(test_signer_urls),
        cmocka_unit_test(test_xml),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_credentials),
    };
    const char *rounds = getenv("WEIR_TEST_STORE_ROUNDS");
    long i, n = rounds ? strtol(rounds, NULL, 10) : 1;
    int rc = 0;
    char command[300];

    spoilt = getenv("WEIR_TEST_STORE_SPOILT") != NULL;
    snprintf(tmp, sizeof tmp, "/tmp/weir-store-XXXXXX");
    if (!mkdtemp(tmp))
        return 1;
    for (i = 0; !rc && i < n; i++)
        rc = cmocka_run_group_tests(tests, NULL, NULL);
    catalog_close(&signing);
    snprintf(command, sizeof command, "rm -rf '%s'", tmp);
    return system(command) || rc;
}
