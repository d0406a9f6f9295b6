/* HTTP/1: what is a request and what is none, in one piece and byte by byte; order of answers;
 * bodies; streams. Without sockets: see server.c for those. */
#include "fixture.h"

#define HOST  "Host: h\r\n"
#define CLOSE "connection: close\r\n"

/* One input, its answer. */
struct row {
    const char *name, *in;
    int status;      /* of the first answer; 0: none, more is awaited */
    bool stays;      /* the connection does */
    const char *has; /* in the output; may be NULL */
};

static const struct row rows[] = {
    {"plain", "GET /a HTTP/1.1\r\n" HOST "\r\n", 200, true, "GET /a /a q= v=11 tls=0 [Host=h]"},
    {"1.0 closes", "GET /a HTTP/1.0\r\n\r\n", 200, false, "v=10"},
    {"1.0 keep-alive", "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, true,
     "connection: keep-alive"},
    {"close", "GET /a HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, false, CLOSE},
    {"empty lines first", "\r\n\r\nGET /a HTTP/1.1\r\n" HOST "\r\n", 200, true, "GET /a"},
    {"head", "HEAD /echo HTTP/1.1\r\n" HOST "\r\n", 200, true, "content-length: 0\r\n"},
    {"query", "GET /a%20b?x=1&q=%41+b%2B HTTP/1.1\r\n" HOST "\r\n", 200, true,
     "GET /a b /a%20b q=A b+ v=11"},
    {"absolute", "GET http://h.example/p?q=z HTTP/1.1\r\n" HOST "\r\n", 200, true, "GET /p /p q=z"},
    {"absolute without path", "GET http://h.example HTTP/1.1\r\n" HOST "\r\n", 200, true,
     "GET / / q="},
    {"absolute with query only", "GET http://h.example?q=z HTTP/1.1\r\n" HOST "\r\n", 200, true,
     "GET / / q=z"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 200, true, "OPTIONS * *"},
    {"header trimmed", "GET /a HTTP/1.1\r\n" HOST "X:  \t v \t \r\n\r\n", 200, true, "[X=v]"},
    {"header empty", "GET /a HTTP/1.1\r\n" HOST "X:\r\nY:   \r\nZ: z\r\n\r\n", 200, true,
     "[X=] [Y=] [Z=z]"},
    {"body", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200, true,
     "\r\n\r\nhello"},
    {"body of nothing", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200, true,
     "content-length: 0"},
    {"body on get", "GET /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", 200, true,
     "\r\n\r\nhi"},
    {"chunked",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "4\r\nwiki\r\n5;x=\"y\"\r\npedia\r\n0\r\n\r\n",
     200, true, "\r\n\r\nwikipedia"},
    {"chunked, capital",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"
     "A\r\n0123456789\r\n0\r\n\r\n",
     200, true, "0123456789"},
    {"trailers",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\r\nX-Trailer: 1\r\nHost: evil\r\nContent-Length: 9\r\n\r\n"
     "GET /a HTTP/1.1\r\n" HOST "\r\n",
     200, true, "\r\n\r\naHTTP/1.1 200 OK"},
    {"in pieces", "GET /text HTTP/1.1\r\n" HOST "\r\n", 200, true,
     "transfer-encoding: chunked\r\n\r\n4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n"},
    {"in pieces, 1.0", "GET /text HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false,
     CLOSE "\r\none,two"},
    {"204", "GET /status?code=204 HTTP/1.1\r\n" HOST "\r\nGET /a HTTP/1.1\r\n" HOST "\r\n", 204,
     true, "204 No Content\r\n\r\nHTTP/1.1 200"},
    {"304", "GET /status?code=304 HTTP/1.1\r\n" HOST "\r\nGET /a HTTP/1.1\r\n" HOST "\r\n", 304,
     true, "304 Not Modified\r\n\r\nHTTP/1.1 200"},
    {"unknown status", "GET /status?code=299 HTTP/1.1\r\n" HOST "\r\n", 299, true, "299 Unknown"},
    {"no injection", "GET /inject HTTP/1.1\r\n" HOST "\r\n", 200, true,
     "x-a: 1  x-evil: 2\r\nx-b  x-worse: 3\r\n"},
    {"upgrade ignored",
     "GET /a HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
     "GET /b HTTP/1.1\r\n" HOST "\r\n",
     200, true, "GET /b /b"},
    {"incomplete", "GET /a HTTP/1.1\r\n" HOST, 0, true, NULL},
    {"incomplete body", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell", 0, true,
     NULL},
    {"continue", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
     100, true, "HTTP/1.1 100 Continue\r\n\r\n"},
    {"continue, no body", "GET /a HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n", 200, true,
     NULL},
    {"refused by status", "GET /head/401 HTTP/1.1\r\n" HOST "\r\nGET /a HTTP/1.1\r\n" HOST "\r\n",
     401, true, "}\nHTTP/1.1 200 OK"},
    {"refused with body", "POST /head/401 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 401,
     false, CLOSE},
    {"refused before continue",
     "POST /head/401 HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", 401,
     false, "application/problem+json"},
    {"refused by own answer", "POST /head/own HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
     403, false, "www-authenticate: Bearer\r\n"},
    {"own answer, no body", "GET /head/own HTTP/1.1\r\n" HOST "\r\nGET /a HTTP/1.1\r\n" HOST "\r\n",
     403, true, "\r\n\r\nownHTTP/1.1 200 OK"},

    {"no host", "GET / HTTP/1.1\r\n\r\n", 400, false, "exactly one Host"},
    {"two hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400, false, "exactly one Host"},
    {"both framings",
     "POST /echo HTTP/1.1\r\n" HOST
     "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, false, NULL},
    {"both, other order",
     "POST /echo HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     400, false, NULL},
    {"two lengths",
     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400,
     false, NULL},
    {"two equal lengths",
     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400,
     false, NULL},
    {"list of lengths", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400,
     false, NULL},
    {"length plus", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400, false,
     NULL},
    {"length minus", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\nhello", 400, false,
     NULL},
    {"length hex", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", 400, false,
     NULL},
    {"length split", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1 2\r\n\r\nhello", 400, false,
     NULL},
    {"length empty", "POST /echo HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\nhello", 400, false,
     NULL},
    {"length huge",
     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\nhello", 400,
     false, NULL},
    {"too large", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n", 413, false,
     "larger than the limit"},
    {"too large in chunks",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "3e9\r\n" /* 1001 bytes, of which 1001 are sent by the test */,
     0, true, NULL},
    {"two encodings",
     "POST /echo HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, false, NULL},
    {"encoding list",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, false,
     NULL},
    {"encoding with tab",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \tchunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200,
     true, "\r\n\r\na"},
    {"encoding unknown", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", 501,
     false, NULL},
    {"encoding on 1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
     false, NULL},
    {"space before colon", "GET / HTTP/1.1\r\n" HOST "X : 1\r\n\r\n", 400, false, NULL},
    {"space before colon of length",
     "POST /echo HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello", 400, false, NULL},
    {"folded", "GET / HTTP/1.1\r\n" HOST "X: 1\r\n 2\r\n\r\n", 400, false, "folded"},
    {"folded by tab", "GET / HTTP/1.1\r\n" HOST "X: 1\r\n\t2\r\n\r\n", 400, false, "folded"},
    {"space first", " GET / HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"lone LF", "GET / HTTP/1.1\n" HOST "\r\n", 400, false, "CRLF"},
    {"lone LF in headers", "GET / HTTP/1.1\r\nHost: h\n\r\n", 400, false, "CRLF"},
    {"lone LF at the end", "GET / HTTP/1.1\r\n" HOST "\n", 400, false, "CRLF"},
    {"lone CR", "GET / HTTP/1.1\r\n" HOST "X: 1\rY: 2\r\n\r\n", 400, false, "CRLF"},
    {"CR CR LF", "GET / HTTP/1.1\r\n" HOST "X: 1\r\r\n\r\n", 400, false, "CRLF"},
    {"empty name", "GET / HTTP/1.1\r\n" HOST ": 1\r\n\r\n", 400, false, NULL},
    {"no colon", "GET / HTTP/1.1\r\n" HOST "nonsense\r\n\r\n", 400, false, NULL},
    {"control in name", "GET / HTTP/1.1\r\n" HOST "X\x01: 1\r\n\r\n", 400, false, NULL},
    {"control in value",
     "GET / HTTP/1.1\r\n" HOST "X: a\x01"
     "b\r\n\r\n",
     400, false, NULL},
    {"delete in value",
     "GET / HTTP/1.1\r\n" HOST "X: a\x7f"
     "b\r\n\r\n",
     400, false, NULL},
    {"control in target", "GET /a\x01 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"escape of NUL", "GET /a%00 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"broken escape", "GET /a%4 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"broken escape 2", "GET /a%zz HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"relative target", "GET a HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"no version", "GET /\r\n" HOST "\r\n", 505, false, NULL},
    {"0.9", "GET / HTTP/0.9\r\n" HOST "\r\n", 505, false, NULL},
    {"1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", 505, false, NULL},
    {"2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", 505, false, NULL},
    {"3.0", "GET / HTTP/3.0\r\n" HOST "\r\n", 505, false, NULL},
    {"lower case version", "GET / http/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"unknown method", "BREW / HTTP/1.1\r\n" HOST "\r\n", 501, false, NULL},
    {"lower case method", "get / HTTP/1.1\r\n" HOST "\r\n", 501, false, NULL},
    {"known, not here", "PROPFIND / HTTP/1.1\r\n" HOST "\r\n", 501, false, "method"},
    {"connect", "CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"connect to a path", "CONNECT /x HTTP/1.1\r\n" HOST "\r\n", 501, false, NULL},
    {"other expectation", "GET / HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n", 417, false, NULL},
    {"chunk size missing", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n\r\n",
     400, false, NULL},
    {"chunk size not hex",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "g\r\n\r\n",
     400, false, NULL},
    {"chunk size 0x",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "0x1\r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk size minus",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "-1\r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk size space",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1 \r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk size overflows",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "11111111111111111\r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk longer than said",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\nab\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk line LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"chunk end LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\n0\r\n\r\n",
     400, false, NULL},
    {"last chunk LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\n\r\n",
     400, false, NULL},
    {"end of chunks LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\r\n\n",
     400, false, NULL},
    {"extension with LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1;a\nb\r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"extension with CR",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1;a\rb\r\na\r\n0\r\n\r\n",
     400, false, NULL},
    {"trailer LF",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\r\nX: 1\n\r\n",
     400, false, NULL},
    {"trailer CR",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\r\nX: 1\rY: 2\r\n\r\n",
     400, false, NULL},
    {"trailer NUL-free but nameless",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n: 1\r\n\r\n",
     400, false, NULL},
    {"trailer folded",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n0\r\nX: 1\r\n 2\r\n\r\n",
     400, false, NULL},
    {"tls hello", "\x16\x03\x01\x02\x01\x01\r\n\r\n", 400, false, NULL},
    {"nearly HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400, false, NULL},
    {"P", "P", 0, true, NULL},
    {"PRI as a word", "PRIVATE / HTTP/1.1\r\n\r\n", 501, false, NULL},
};

static int status_of(const char *out)
{
    int s = 0;

    if (strncmp(out, "HTTP/1.", 7) == 0)
        sscanf(out + 9, "%d", &s);
    return s;
}

static unsigned wrong;
#define WRONG(...) (wrong++, print_error(__VA_ARGS__))

/* Gives the input in pieces of `piece` bytes; the output is the caller's to free. */
static char *run_row(const struct row *r, size_t piece)
{
    struct fx f;
    char *out;

    fx_init(&f);
    f.conf.body_max = 1000;
    fx_start(&f);
    fx_feed_n(&f, r->in, strlen(r->in), piece);
    out = xstrdup(fx_text(&f));
    if (status_of(out) != r->status)
        WRONG("%s (pieces of %zu): not %d: %s\n", r->name, piece, r->status, out);
    if (r->has && !strstr(out, r->has))
        WRONG("%s (pieces of %zu): no \"%s\" in %s\n", r->name, piece, r->has, out);
    if (fx_is_open(&f) != r->stays)
        WRONG("%s (pieces of %zu): the connection %s\n", r->name, piece,
              r->stays ? "ended" : "stays");
    if (r->status >= 400 && !r->stays && !strstr(r->in, "/head/own") &&
        (!strstr(out, "application/problem+json") || !strstr(out, CLOSE)))
        WRONG("%s: no problem document that closes: %s\n", r->name, out);
    fx_stop(&f);
    return out;
}

static void requests_of_all_kinds(void **state)
{
    size_t i;

    wrong = 0;
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *whole = run_row(&rows[i], strlen(rows[i].in)), *bytes = run_row(&rows[i], 1);

        if (strcmp(whole, bytes) != 0)
            WRONG("%s: byte by byte: %s instead of %s\n", rows[i].name, bytes, whole);
        free(whole);
        free(bytes);
    }
    assert_int_equal(wrong, 0);
}

/* All pairs of pieces of a stream with every kind of framing in it. */
static void split_anywhere(void **state)
{
    static const char in[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
                             "\r\nGET /a%41?q=1 HTTP/1.1\r\nHost: h\r\nX-Long: some value\r\n\r\n"
                             "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\nabc\r\n10;e=1\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n"
                             "GET /text HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    char *want = NULL;
    size_t i;

    for (i = 0; i < sizeof in - 1; i++) {
        struct fx f;

        fx_init(&f);
        fx_start(&f);
        if (i)
            fx_feed_n(&f, in, i, i);
        fx_feed_n(&f, in + i, sizeof in - 1 - i, sizeof in);
        assert_int_equal(f.requests, 4);
        if (!want)
            want = xstrdup(fx_text(&f));
        else
            assert_string_equal(fx_text(&f), want);
        assert_false(fx_is_open(&f));
        fx_stop(&f);
    }
    assert_non_null(strstr(want, "\r\n\r\nbodyHTTP/1.1 200 OK"));
    assert_non_null(strstr(want, "GET /aA /a%41 q=1"));
    assert_non_null(strstr(want, "\r\n\r\nabc0123456789abcdefHTTP/1.1"));
    free(want);
}

static void nul_in_head(void **state)
{
    static const char in[] = "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n";
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed_n(&f, in, sizeof in - 1, sizeof in);
    assert_int_equal(status_of(fx_text(&f)), 400);
    assert_int_equal(f.requests, 0);
    fx_stop(&f);
}

/* A hidden second request is neither run nor answered. */
static void nothing_is_smuggled(void **state)
{
    static const char *const ins[] = {
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\x0b"
        "chunked\r\n\r\n"
        "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX: 1\nGET /evil HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX:\r\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /head/401 HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n"
        "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /evil HTTP/1.1\r\nHost: "
        "h\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1;\nxx\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n",
    };
    size_t i, piece;

    for (i = 0; i < sizeof ins / sizeof *ins; i++)
        for (piece = 1; piece < 1000; piece = piece * 7) {
            struct fx f;

            fx_init(&f);
            fx_start(&f);
            fx_feed_n(&f, ins[i], strlen(ins[i]), piece);
            if (strstr(fx_text(&f), "/evil") || strstr(f.info, "evil"))
                fail_msg("%zu: %s", i, fx_text(&f));
            assert_false(fx_is_open(&f));
            fx_stop(&f);
        }
}

/* ---- order ---- */

static void answers_keep_the_order(void **state)
{
    struct fx f;
    const char *p;
    unsigned i;
    char t[32];

    fx_init(&f);
    fx_start(&f);
    for (i = 0; i < 100; i++)
        fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(fx_text(&f), "");
    fx_feed(&f, "GET /text HTTP/1.1\r\n" HOST "\r\nGET /release HTTP/1.1\r\n" HOST "\r\n");
    p = fx_text(&f); /* answered from the last to the first, sent from the first to the last */
    for (i = 0; i < 100; i++) {
        snprintf(t, sizeof t, "\r\n\r\nheld %u", i);
        p = strstr(p, t);
        assert_non_null(p);
    }
    p = strstr(p, "one,");
    assert_non_null(p);
    assert_non_null(strstr(p, "\r\n\r\nreleased"));
    assert_true(fx_is_open(&f));
    fx_stop(&f);
}

static void pipeline_has_a_limit(void **state)
{
    struct buf in;
    struct fx f;
    unsigned i;

    buf_init(&in, 1u << 20);
    for (i = 0; i < 50; i++)
        assert_int_equal(buf_append_str(&in, "GET /hold HTTP/1.1\r\n" HOST "\r\n"), ERR_OK);
    fx_init(&f);
    f.conf.pipeline_max = 8;
    fx_start(&f);
    fx_feed_n(&f, in.ptr, in.len, in.len);
    assert_int_equal(f.requests, 8);
    assert_true(f.c->paused);
    for (i = 8; i < 50; i += 8) {
        fx_answer_held(&f);
        fx_turn(&f, 3);
        assert_int_equal(f.requests, i + 8 < 50 ? i + 8 : 50);
    }
    fx_answer_held(&f);
    fx_turn(&f, 3);
    assert_false(f.c->paused);
    assert_int_equal(f.held_n, 0);
    fx_feed(&f, "GET /a HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(fx_text(&f), "GET /a"));
    buf_fini(&in);
    fx_stop(&f);
}

/* What is read after a pause is handled before the tick hooks of its turn, not behind them. */
static unsigned hook_requests;
static void on_tick(void *arg)
{
    hook_requests = ((struct fx *)arg)->requests;
}

static void resumes_before_tick_hooks(void **state)
{
    struct loop_hook h = {.fn = on_tick};
    struct fx f;

    fx_init(&f);
    f.conf.pipeline_max = 1;
    fx_start(&f);
    h.arg = &f;
    loop_hook_add(f.loops[0], &h, false);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /hold HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(f.requests, 1);
    fx_answer_held(&f);
    fx_turn(&f, 1);
    assert_int_equal(f.requests, 2);
    assert_int_equal(hook_requests, 2);
    loop_hook_del(&h);
    fx_stop(&f);
}

static void bodies_that_wait_have_a_limit(void **state)
{
    struct fx f;
    struct buf in;
    unsigned i;

    buf_init(&in, 1u << 20);
    for (i = 0; i < 10; i++) {
        assert_int_equal(
            buf_append_str(&in, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 600\r\n\r\n"),
            ERR_OK);
        assert_int_equal(buf_reserve(&in, 600), ERR_OK);
        memset(in.ptr + in.len, 'b', 600);
        in.len += 600;
    }
    fx_init(&f);
    f.conf.body_max = 1000;
    fx_start(&f);
    fx_feed_n(&f, in.ptr, in.len, in.len);
    assert_int_equal(f.requests, 2); /* 600 < 1000 <= 1200 */
    for (i = 0; i < 5; i++) {
        fx_answer_held(&f);
        fx_turn(&f, 3);
    }
    assert_int_equal(f.requests, 10);
    buf_fini(&in);
    fx_stop(&f);
}

static void server_has_a_budget_for_bodies(void **state)
{
    struct http_stats st;
    struct fx f;
    struct conn *first;

    fx_init(&f);
    f.conf.body_max = 1000;
    f.conf.bodies_max = 1000;
    fx_start(&f);
    first = f.c;
    fx_feed(&f, "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 6\r\n\r\nsixsix");
    f.c = conn_detached(http_server_conns(f.s), 0, "");
    fx_feed(&f, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    {
        char big[995];

        memset(big, 'b', sizeof big);
        fx_feed_n(&f, big, sizeof big, sizeof big);
    }
    assert_int_equal(status_of(fx_text(&f)), 503);
    http_server_stats(f.s, &st);
    assert_int_equal(st.body_bytes, 6);
    f.c = first;
    fx_answer_held(&f);
    fx_turn(&f, 2);
    http_server_stats(f.s, &st);
    assert_int_equal(st.body_bytes, 0);
    fx_stop(&f);
}

/* ---- limits ---- */

static char *long_request(const char *before, size_t n, const char *after)
{
    char *p = xmalloc(strlen(before) + n + strlen(after) + 1), *at = p + strlen(before);

    memcpy(p, before, strlen(before));
    memset(at, 'x', n);
    memcpy(at + n, after, strlen(after) + 1);
    return p;
}

static void expect(const char *in, int status)
{
    size_t pieces[] = {1, 100, 100000}, i;

    for (i = 0; i < 3; i++) {
        struct fx f;

        fx_init(&f);
        f.conf.line_max = 500;
        f.conf.head_max = 2000;
        f.conf.headers_max = 20;
        f.conf.body_max = 1000;
        fx_start(&f);
        fx_feed_n(&f, in, strlen(in), pieces[i]);
        if (status_of(fx_text(&f)) != status)
            fail_msg("not %d: %.300s for %.50s…", status, fx_text(&f), in);
        fx_stop(&f);
    }
}

static void heads_have_limits(void **state)
{
    static const struct {
        const char *before;
        size_t n;
        const char *after;
        int status;
    } t[] = {
        {"GET /", 499, " HTTP/1.1\r\n" HOST "\r\n", 200},
        {"GET /", 500, " HTTP/1.1\r\n" HOST "\r\n", 414},
        {"GET /", 500000, " HTTP/1.1\r\n" HOST "\r\n", 414},
        {"GET / HTTP/1.1\r\n" HOST "X: ", 1994, "\r\n\r\n", 200},
        {"GET / HTTP/1.1\r\n" HOST "X: ", 1995, "\r\n\r\n", 431},
        {"GET / HTTP/1.1\r\n" HOST "X: ", 500000, "\r\n\r\n", 431},
        {"GET / HTTP/1.1\r\n" HOST "X", 3000, ": 1\r\n\r\n", 431},
        {"GET / HTTP/1.1\r\n" HOST "X", 300000, "", 431},
    };
    size_t i;
    char *p;

    for (i = 0; i < sizeof t / sizeof *t; i++) {
        p = long_request(t[i].before, t[i].n, t[i].after);
        expect(p, t[i].status);
        free(p);
    }
    p = xcalloc(1, 100000);
    strncpy(p, "GET / HTTP/1.1\r\n" HOST, 100);
    for (i = 0; i < 19; i++)
        strncat(p, "A: b\r\n", 7);
    strncat(p, "\r\n", 3);
    expect(p, 200);
    strncpy(p + strlen(p) - 2, "A: b\r\n\r\n", 9);
    expect(p, 431);
    free(p);
}

static void bodies_have_limits(void **state)
{
    char *p = long_request("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n", 1000, "");

    expect(p, 200);
    free(p);
    p = long_request("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
                     1000, "\r\n0\r\n\r\n");
    expect(p, 200);
    free(p);
    p = long_request("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3e9\r\n",
                     1001, "\r\n0\r\n\r\n");
    expect(p, 413);
    free(p);
}

/* Framing without end and almost no body costs no memory, but it is refused all the same. */
static void chunk_framing_has_a_limit(void **state)
{
    char *p = long_request("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;",
                           200000, "\r\na\r\n0\r\n\r\n");
    struct fx f;

    expect(p, 400);
    free(p);
    p = long_request("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                     "1\r\na\r\n0\r\nT: ",
                     200000, "\r\n\r\n");
    expect(p, 400);
    free(p);
    fx_init(&f); /* small chunks alone are no offence */
    fx_start(&f);
    fx_feed(&f, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 50000; i++)
        conn_feed(f.c, SLICE_LIT("1\r\nz\r\n"));
    fx_feed(&f, "0\r\n\r\n");
    assert_int_equal(status_of(fx_text(&f)), 200);
    assert_non_null(strstr(fx_text(&f), "content-length: 50000"));
    fx_stop(&f);
}

/* Makes the connection's deadline pass now. */
static void time_out(struct fx *f)
{
    fx_sleep_ms(3);
    f->c->deadline_ms = 1;
    loop_timer_arm(f->loops[0], &f->c->timer, 0);
    fx_sleep_ms(3);
    fx_turn(f, 3);
}

static void slow_bodies_get_408(void **state)
{
    struct fx f;
    unsigned i;

    fx_init(&f);
    f.conf.body_rate_min = 1; /* 10 bytes are plenty for some milliseconds */
    fx_start(&f);
    fx_feed(&f, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\n");
    for (i = 0; i < 3; i++) {
        fx_feed(&f, "0123456789");
        time_out(&f);
        assert_true(fx_is_open(&f));
    }
    time_out(&f); /* nothing came since: what came before does not count */
    assert_int_equal(status_of(fx_text(&f)), 408);
    assert_false(fx_is_open(&f));
    assert_int_equal(f.requests, 0);
    fx_stop(&f);
}

/* While it is the server that does not read, the peer is not to blame. */
static void waiting_for_the_server_is_not_slow(void **state)
{
    struct fx f;

    fx_init(&f);
    f.conf.pipeline_max = 2;
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nPOST /echo HTTP/1.1\r\n" HOST
                "Content-Length: 2\r\n\r\no");
    fx_feed(&f, "k");
    time_out(&f);
    time_out(&f);
    assert_string_equal(fx_text(&f), "");
    fx_answer_held(&f);
    fx_turn(&f, 4);
    assert_non_null(strstr(fx_text(&f), "held 0HTTP/1.1 200 OK"));
    assert_non_null(strstr(fx_text(&f), "\r\n\r\nok"));
    fx_stop(&f);
}

/* ---- answers ---- */

static void owned_bodies_are_released_once(void **state)
{
    static const unsigned sizes[] = {0, 10, 1024, 1025, 5000000};
    struct fx f;
    unsigned i;
    char t[100];

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\n"); /* so that the others wait */
    for (i = 0; i < 5; i++) {
        snprintf(t, sizeof t, "GET /owned?size=%u HTTP/1.1\r\n" HOST "\r\n", sizes[i]);
        fx_feed(&f, t);
    }
    fx_feed(&f, "HEAD /owned?size=9999 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(f.requests, 6); /* the one of 5 MB is above output_max: the next one waits */
    fx_answer_held(&f);
    fx_turn(&f, 4);
    assert_int_equal(f.requests, 7);
    assert_int_equal(f.releases, 6);
    assert_true(f.out.len > 5000000 + 1024 + 1025 + 10);
    assert_non_null(memmem(f.out.ptr, f.out.len, "content-length: 9999\r\n\r\n", 24));
    buf_clear(&f.out);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /owned?size=70000 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(f.releases, 6);
    fx_stop(&f); /* and at the end, what was not sent */
    assert_int_equal(f.releases, 7);
    assert_int_equal(f.closes, 1);
}

/* The hard maximum: answers that nobody can take end the connection instead of growing. */
static void held_answers_have_a_limit(void **state)
{
    struct fx f;
    unsigned i;

    fx_init(&f);
    f.conf.output_max = 1000;
    fx_start(&f);
    for (i = 0; i < 21;
         i++) /* 21 requests that will be answered by 4 MB each, behind one that waits */
        fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    for (i = 20; i > 0; i--) {
        struct http_req *r = f.held[--f.held_n];
        uint8_t *p = xcalloc(1, 4000000);

        http_reply(r, 200, NULL, 0, slice_of(p, 4000000));
        free(p);
    }
    fx_turn(&f, 2);
    assert_false(fx_is_open(&f));
    assert_int_equal(f.closes, 1); /* the first one; the others were answered */
    fx_stop(&f);
}

static void close_is_told_once(void **state)
{
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /hold HTTP/1.1\r\n" HOST
                "\r\nPOST /echo HTTP/1.1\r\n");
    conn_close(f.c, false, CONN_PEER);
    assert_int_equal(f.closes, 0); /* not from inside */
    fx_ok(f.held[--f.held_n], SLICE_LIT("too late"));
    fx_turn(&f, 1);
    assert_int_equal(f.closes, 1);
    assert_int_equal(f.held_n, 0);
    assert_string_equal(fx_text(&f), "");
    fx_stop(&f);
}

static void error_waits_for_earlier_answers(void **state)
{
    struct fx f;
    const char *p;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /a HTTP/1.1\r\n" HOST "\r\nrubbish\r\n\r\n");
    assert_string_equal(fx_text(&f), "");
    fx_answer_held(&f);
    fx_turn(&f, 2);
    p = strstr(fx_text(&f), "held 0");
    assert_non_null(p);
    p = strstr(p, "GET /a");
    assert_non_null(p);
    assert_non_null(strstr(p, "HTTP/1.1 501"));
    assert_false(fx_is_open(&f));
    fx_stop(&f);
}

static void continue_waits_for_its_turn(void **state)
{
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nPOST /echo HTTP/1.1\r\n" HOST
                "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_string_equal(fx_text(&f), "");
    fx_answer_held(&f);
    fx_turn(&f, 2);
    assert_non_null(strstr(fx_text(&f), "held 0HTTP/1.1 100 Continue\r\n\r\n"));
    fx_feed(&f, "ok");
    assert_non_null(strstr(fx_text(&f), "\r\n\r\nok"));
    fx_stop(&f);
}

/* Who stops answers all that it has taken; the last answer says that it is the last. */
static void draining_answers_all(void **state)
{
    const char *p;
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /hold HTTP/1.1\r\n" HOST
                "\r\nGET /hold HTTP/1.1\r\n" HOST "\r\nPOST /echo HTTP/1.1\r\n" HOST
                "Content-Length: 4\r\n\r\nla");
    http_server_drain(f.s, 1000, NULL, NULL);
    fx_turn(&f, 2);
    assert_true(fx_is_open(&f));
    fx_ok(f.held[0], SLICE_LIT("first"));
    f.held_n--;
    memmove(f.held, f.held + 1, f.held_n * sizeof *f.held);
    fx_turn(&f, 1);
    assert_non_null(strstr(fx_text(&f), "first"));
    assert_true(fx_is_open(&f));
    fx_feed(&f, "stGET /a HTTP/1.1\r\n" HOST "\r\n");
    fx_answer_held(&f);
    fx_turn(&f, 2);
    p = strstr(fx_text(&f), "held 1");
    assert_non_null(p);
    assert_null(strstr(f.info, "/a")); /* not taken any more */
    p = strstr(fx_text(&f), CLOSE);
    assert_true(p && strstr(p, "\r\n\r\nlast"));
    assert_null(strstr(p + 1, CLOSE));
    assert_false(fx_is_open(&f));
    assert_int_equal(f.closes, 0);
    fx_stop(&f);
}

static void accessors_and_memory(void **state)
{
    struct http_req *r;
    struct fx f;
    void *p;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold?a=1&b=%20x&a=2&c&d= HTTP/1.1\r\n" HOST
                "X-Thing: One\r\nx-thing: Two\r\n\r\n");
    r = f.held[0];
    assert_true(slice_eq_str(http_query(r, "a"), "1"));
    assert_true(slice_eq_str(http_query(r, "b"), " x"));
    assert_true(http_query(r, "c").ptr && http_query(r, "c").len == 0);
    assert_true(http_query(r, "d").ptr && http_query(r, "d").len == 0);
    assert_null(http_query(r, "e").ptr);
    assert_true(slice_eq_str(http_header(r, "X-THING"), "One"));
    assert_null(http_header(r, "x-thin").ptr);
    assert_true(slice_eq_str(http_target(r), "/hold?a=1&b=%20x&a=2&c&d="));
    assert_string_equal(http_remote(r), "detached");
    assert_ptr_equal(http_loop(r), f.loops[0]);
    p = http_alloc(r, 40000);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    assert_null(http_alloc(r, 40000));
    assert_non_null(http_alloc(r, 1));
    fx_answer_held(&f);
    fx_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_of_all_kinds),
        cmocka_unit_test(split_anywhere),
        cmocka_unit_test(nul_in_head),
        cmocka_unit_test(nothing_is_smuggled),
        cmocka_unit_test(answers_keep_the_order),
        cmocka_unit_test(pipeline_has_a_limit),
        cmocka_unit_test(resumes_before_tick_hooks),
        cmocka_unit_test(bodies_that_wait_have_a_limit),
        cmocka_unit_test(server_has_a_budget_for_bodies),
        cmocka_unit_test(heads_have_limits),
        cmocka_unit_test(bodies_have_limits),
        cmocka_unit_test(chunk_framing_has_a_limit),
        cmocka_unit_test(slow_bodies_get_408),
        cmocka_unit_test(waiting_for_the_server_is_not_slow),
        cmocka_unit_test(owned_bodies_are_released_once),
        cmocka_unit_test(held_answers_have_a_limit),
        cmocka_unit_test(close_is_told_once),
        cmocka_unit_test(error_waits_for_earlier_answers),
        cmocka_unit_test(continue_waits_for_its_turn),
        cmocka_unit_test(draining_answers_all),
        cmocka_unit_test(accessors_and_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
