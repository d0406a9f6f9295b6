/* The file of users: what it says, what is wrong with it and in which line; keys and permissions. */
#include "proto/nats/users.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "io/io.h"

/* The key that nkeys' documentation shows. */
#define NKEY "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

static char path[] = "/tmp/weir-test-users-XXXXXX";

static struct naccount *account(void *arg, const char *name)
{
    (void)arg;
    return (struct naccount *)(void *)(uintptr_t)(strcmp(name, "A") == 0 ? 16 : 32);
}

static struct nusers *read_text(const char *text, enum err want, const char *says)
{
    struct nusers *u = NULL;
    struct errinfo info = {0};
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(nusers_read(io_real(), path, account, NULL, &u, &info), want);
    if (says && !strstr(info.text, says))
        fail_msg("\"%s\" does not say \"%s\"", info.text, says);
    return u;
}

static void test_found(void **state)
{
    struct nusers *u = read_text("no_auth_user: b\n"
                                 "accounts:\n"
                                 "  A:\n"
                                 "    users:\n"
                                 "      - {user: a, password: x}\n"
                                 "      - {token: t}\n"
                                 "      - {nkey: " NKEY "}\n"
                                 "  B:\n"
                                 "    users:\n"
                                 "      - {user: b, pass: y}\n",
                                 ERR_OK, NULL);
    const struct nuser *a = nusers_by_password(u, SLICE_LIT("a"), SLICE_LIT("x"));

    (void)state;
    assert_ptr_equal(a->account, 16);
    assert_false(a->limited);
    assert_ptr_equal(nusers_guest(u)->account, 32);
    assert_null(nusers_by_password(u, SLICE_LIT("a"), SLICE_LIT("y")));
    assert_null(nusers_by_password(u, SLICE_LIT(""), SLICE_LIT("")));
    assert_non_null(nusers_by_token(u, SLICE_LIT("t")));
    assert_null(nusers_by_token(u, SLICE_LIT("")));
    assert_ptr_equal(nusers_same(u, a), a);
    assert_null(nusers_by_nkey(u, SLICE_LIT(NKEY), SLICE_LIT("nonce"), SLICE_LIT("AAAA")));
    assert_null(nusers_by_nkey(u, slice_of(NKEY, 55), SLICE_LIT("nonce"), SLICE_LIT("AAAA")));
    nusers_unref(&u);
}

static void test_wrong(void **state)
{
    static const struct {
        const char *text, *says;
    } t[] = {
        {"", "is empty"},
        {"- a\n", "line 1: names with values"},
        {"accounts: [\n", "line"},
        {"acounts: {}\n", "only accounts, system_account"},
        {"no_auth_user: x\naccounts: {A: {users: []}}\n", "names no user"},
        {"accounts:\n  A:\n    user: []\n", "line 3: only users, exports, imports"},
        {"accounts:\n  A:\n    users: x\n", "a list of users"},
        {"accounts:\n  A:\n    mappings: [a]\n", "line 3: subjects with destinations"},
        {"accounts:\n  A:\n    mappings: {a.*: b.$2}\n", "no subject that can be made"},
        {"accounts:\n  A:\n    limits: {max_payload: x}\n", "a number of at least 1"},
        {"accounts:\n  A:\n    users:\n      - {user: a}\n", "line 4: this user has no password"},
        {"accounts:\n  A:\n    users:\n      - {password: a}\n", "one of user, token and nkey"},
        {"accounts:\n  A:\n    users:\n      - {user: a, token: b}\n", "one of user, token"},
        {"accounts:\n  A:\n    users:\n      - {nkey: UABC}\n", "a public key"},
        {"accounts:\n  A:\n    users:\n      - {user: a, password: b, permissions: {publish: "
         "[a..b]}}\n",
         "a subject is expected"},
        {"accounts:\n  A:\n    users:\n      - {user: a, password: b, permissions: {pub: {alow: "
         "a}}}\n",
         "only allow and deny"},
        {"accounts:\n  A:\n    users:\n      - {token: b, permissions: {allow_responses: {max: "
         "0}}}\n",
         "between 1 and 1000"},
        {"accounts:\n  A:\n    users:\n      - {token: b, permissions: {allow_responses: {expires: "
         "2w}}}\n",
         "a time such as 2m"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof t / sizeof *t; i++)
        assert_null(read_text(t[i].text, ERR_CONFIG, t[i].says));
}

static void test_permissions(void **state)
{
    struct nusers *u = read_text("accounts:\n  A:\n    users:\n"
                                 "      - token: t\n"
                                 "        permissions:\n"
                                 "          publish: {allow: [orders.>, a], deny: orders.void}\n"
                                 "          subscribe: {deny: [secret.>]}\n"
                                 "          allow_responses: {max: 3, expires: 90s}\n",
                                 ERR_OK, NULL);
    const struct nuser *t = nusers_by_token(u, SLICE_LIT("t"));

    (void)state;
    assert_true(t->limited);
    assert_int_equal(t->responses, 3);
    assert_int_equal(t->response_ms, 90000);
    assert_true(nrule_permits(&t->publish, SLICE_LIT("orders.a.b")));
    assert_true(nrule_permits(&t->publish, SLICE_LIT("a")));
    assert_false(nrule_permits(&t->publish, SLICE_LIT("orders.void")));
    assert_false(nrule_permits(&t->publish, SLICE_LIT("b")));
    assert_true(nrule_permits(&t->subscribe, SLICE_LIT(">")));
    assert_true(nrule_denies(&t->subscribe, SLICE_LIT(">")));
    assert_false(nrule_denies(&t->subscribe, SLICE_LIT("open.*")));
    assert_false(nrule_permits(&t->subscribe, SLICE_LIT("secret.*")));
    assert_false(nrule_permits(&t->subscribe, SLICE_LIT("secret.a")));
    nusers_unref(&u);
}

static int made(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int gone(void **state)
{
    (void)state;
    return unlink(path);
}

static void maps(const struct nuser *u, const char *subject, uint64_t drawn, const char *wanted)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    assert_int_equal(nuser_map(u, slice_str(subject), drawn, &b), wanted != NULL);
    if (wanted)
        assert_true(slice_eq_str(buf_slice(&b), wanted));
    buf_fini(&b);
}

static void test_account(void **state)
{
    struct nusers *u =
        read_text("accounts:\n"
                  "  A:\n"
                  "    mappings:\n"
                  "      old.*: new.$1\n"
                  "      w: [{destination: x, weight: 20%}, {destination: y, weight: 30}]\n"
                  "    users: [{user: a, password: x}]\n"
                  "    limits: {max_connections: 3, max_payload: 7}\n"
                  "  B: {users: [{user: b, password: x}]}\n",
                  ERR_OK, NULL);
    const struct nuser *a = nusers_by_password(u, SLICE_LIT("a"), SLICE_LIT("x")),
                       *b = nusers_by_password(u, SLICE_LIT("b"), SLICE_LIT("x"));

    (void)state;
    assert_int_equal(a->conns_max, 3);
    assert_int_equal(a->payload_max, 7);
    assert_int_equal(b->conns_max + b->payload_max + b->mappings_n, 0);
    maps(a, "old.t", 99, "new.t");
    maps(a, "old.t.u", 0, NULL);
    maps(a, "w", 119, "x");
    maps(a, "w", 20, "y");
    maps(a, "w", 49, "y");
    maps(a, "w", 50, NULL);
    maps(b, "w", 0, NULL);
    nusers_unref(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_account),
    };

    return cmocka_run_group_tests(tests, made, gone);
}
