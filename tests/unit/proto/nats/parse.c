/* Lines of clients: a table of what each is; a stream of lines cut at every byte; errors told as
 * early as they are known. */
#include "proto/nats/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define LINE    4096
#define PAYLOAD 1024

/* What was found, as text. */
static size_t parse(const char *in, size_t n, char *out, size_t room)
{
    struct nats_line l;
    size_t used = nats_parse(slice_of(in, n), LINE, PAYLOAD, &l);

#define S(x) (int)l.x.len, (const char *)l.x.ptr
    snprintf(out, room, "%d s=%.*s r=%.*s q=%.*s i=%.*s b=%.*s h=%zu m=%lld j=%.*s", (int)l.op,
             S(subject), S(reply), S(queue), S(sid), S(body), l.header_len, (long long)l.max,
             S(json));
    return used;
}

static void test_lines(void **state)
{
    static const struct {
        const char *in, *out;
        enum nats_op op;
    } t[] = {
        {"PUB a 2\r\nhi\r\n", "s=a r= q= i= b=hi h=0 m=0 j=", NATS_PUB},
        {"pub\ta.b  \t r 0 \r\n\r\n", "s=a.b r=r q= i= b= h=0 m=0 j=", NATS_PUB},
        {"PUB a 2\nhi\r\n", "s=a r= q= i= b=hi h=0 m=0 j=", NATS_PUB},
        {"HPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
         "s=a r= q= i= b=NATS/1.0\r\n\r\nx h=12 m=0 j=", NATS_HPUB},
        {"hpub a r 0 1\r\nx\r\n", "s=a r=r q= i= b=x h=0 m=0 j=", NATS_HPUB},
        {"SUB a 1\r\n", "s=a r= q= i=1 b= h=0 m=0 j=", NATS_SUB},
        {"sUb a.> q 22\r\n", "s=a.> r= q=q i=22 b= h=0 m=0 j=", NATS_SUB},
        {"UNSUB 1\r\n", "s= r= q= i=1 b= h=0 m=0 j=", NATS_UNSUB},
        {"UNSUB 1 5\r\n", "s= r= q= i=1 b= h=0 m=5 j=", NATS_UNSUB},
        {"UNSUB 1 x\r\n", "s= r= q= i=1 b= h=0 m=-1 j=", NATS_UNSUB},
        {"PING\r\n", "s= r= q= i= b= h=0 m=0 j=", NATS_PING},
        {"ping now\r\n", "s= r= q= i= b= h=0 m=0 j=now", NATS_PING},
        {"PONG\n", "s= r= q= i= b= h=0 m=0 j=", NATS_PONG},
        {"CONNECT  {\"a\": 1} \r\n", "s= r= q= i= b= h=0 m=0 j={\"a\": 1}", NATS_CONNECT},
        {"INFO {}\r\n", "s= r= q= i= b= h=0 m=0 j={}", NATS_OK},
        {"+OK\r\n", "s= r= q= i= b= h=0 m=0 j=", NATS_OK},
        {"-ERR 'x'\r\n", "s= r= q= i= b= h=0 m=0 j='x'", NATS_ERR},
    };
    char got[512], want[512];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(parse(t[i].in, strlen(t[i].in), got, sizeof got), strlen(t[i].in));
        snprintf(want, sizeof want, "%d %s", (int)t[i].op, t[i].out);
        assert_string_equal(got, want);
    }
}

static void test_errors(void **state)
{
    static const struct {
        const char *in;
        enum nats_op op;
    } t[] = {
        {"GET / HTTP/1.1\r\n", NATS_UNKNOWN},
        {"G", NATS_UNKNOWN},
        {"\r\n", NATS_UNKNOWN},
        {"PUBX a 1\r\n", NATS_UNKNOWN},
        {"PUB a\r\n", NATS_UNKNOWN},
        {"PUB a b c 1\r\n", NATS_UNKNOWN},
        {"PUB a -1\r\n", NATS_UNKNOWN},
        {"PUB a 99999999999999999999\r\n", NATS_UNKNOWN},
        {"PUB a 1x\r\n", NATS_UNKNOWN},
        {"PUB a 2\r\nhix\r\n", NATS_UNKNOWN},
        {"PUB a 1025\r\n", NATS_LARGE},
        {"HPUB a 5 4\r\n", NATS_UNKNOWN},
        {"HPUB a 4\r\n", NATS_UNKNOWN},
        {"HPUB a 1 1025\r\n", NATS_LARGE},
        {"SUB a\r\n", NATS_UNKNOWN},
        {"SUB a b c d\r\n", NATS_UNKNOWN},
        {"UNSUB\r\n", NATS_UNKNOWN},
        {"UNSUB a b c\r\n", NATS_UNKNOWN},
        {"PUB a b c d e f g h i 1\r\n", NATS_UNKNOWN},
    };
    struct nats_line l;
    char longest[LINE + 100];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(nats_parse(slice_str(t[i].in), LINE, PAYLOAD, &l), 0);
        assert_int_equal(l.op, t[i].op);
    }
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "SUB ", 4);
    assert_int_equal(nats_parse(slice_of(longest, sizeof longest), LINE, PAYLOAD, &l), 0);
    assert_int_equal(l.op, NATS_LONG_LINE);
    assert_int_equal(nats_parse(slice_of(longest, LINE), LINE, PAYLOAD, &l), 0);
    assert_int_equal(l.op, NATS_MORE);
}

/* Whatever is cut off, the rest is waited for, and `need` is right once it is known. */
static void test_cut(void **state)
{
    static const char *const lines[] = {"PUB a.b reply 5\r\nhello\r\n",
                                        "HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                                        "SUB a q 1\r\n",
                                        "UNSUB 1 2\r\n",
                                        "CONNECT {}\r\n",
                                        "PING\r\n"};
    struct nats_line l;
    size_t i, n, len;

    (void)state;
    for (i = 0; i < sizeof lines / sizeof *lines; i++) {
        len = strlen(lines[i]);
        for (n = 0; n < len; n++) {
            assert_int_equal(nats_parse(slice_of(lines[i], n), LINE, PAYLOAD, &l), 0);
            assert_int_equal(l.op, NATS_MORE);
            assert_true(l.need == 0 || l.need == len);
            assert_int_equal(l.need != 0, memchr(lines[i], '\n', n) != NULL);
        }
        assert_int_equal(nats_parse(slice_of(lines[i], n), LINE, PAYLOAD, &l), len);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(nats_number(SLICE_LIT("0")), 0);
    assert_int_equal(nats_number(SLICE_LIT("999999999")), 999999999);
    assert_int_equal(nats_number(SLICE_LIT("1000000000")), -1);
    assert_int_equal(nats_number(SLICE_LIT("")), -1);
    assert_int_equal(nats_number(SLICE_LIT("+1")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
