/* The HTTP client of the command line, over libcurl with one kept connection. */
#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "cli/cli.h"

#define REPLY_MAX (64u << 20)

struct client {
    CURL *curl;
    char *url, *token;
    char err[CURL_ERROR_SIZE];
    char cursor[64], last_id[64];
    /* of a streaming call */
    bool (*fn)(void *arg, struct slice piece);
    void *arg;
    struct buf *into;
    bool stopped;
    const volatile sig_atomic_t *stop; /* ends a call when it is set; NULL: nothing does */
};

struct client *client_new(const struct args *a)
{
    const char *url = arg_get(a, "server"), *token = arg_get(a, "token");
    struct client *c = xcalloc(1, sizeof *c);
    size_t n;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!url)
        url = getenv("WEIR_SERVER");
    if (!url)
        url = "http://127.0.0.1:8787";
    if (!token)
        token = getenv("WEIR_TOKEN");
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        fail("the server is given as http://HOST:PORT or https://HOST:PORT, not '%s'", url);
        free(c);
        return NULL;
    }
    c->url = xstrdup(url);
    for (n = strlen(c->url); n && c->url[n - 1] == '/'; n--)
        c->url[n - 1] = 0;
    c->token = token ? xstrdup(token) : NULL;
    c->curl = curl_easy_init();
    return c;
}

void client_free(struct client **cp)
{
    struct client *c = *cp;

    if (!c)
        return;
    curl_easy_cleanup(c->curl);
    free(c->url);
    free(c->token);
    free(c);
    *cp = NULL;
}

const char *client_url(const struct client *c)
{
    return c->url;
}

const char *client_cursor(const struct client *c)
{
    return c->cursor;
}

void client_resume(struct client *c, const char *id)
{
    snprintf(c->last_id, sizeof c->last_id, "%s", id);
}

void url_encode(struct buf *b, struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++) {
        uint8_t ch = s.ptr[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
            strchr("-._~", ch))
            buf_append_u8(b, ch);
        else
            buf_printf(b, "%%%02X", ch);
    }
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    long status = 0;

    n *= size;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (c->fn && status == 200) {
        if (c->fn(c->arg, slice_of(p, n)))
            return n;
        c->stopped = true;
        return 0;
    }
    return buf_append(c->into, p, n) ? 0 : n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    static const char name[] = "weir-next:";

    n *= size;
    if (n > sizeof name && strncasecmp(p, name, sizeof name - 1) == 0)
        snprintf(c->cursor, sizeof c->cursor, "%.*s", (int)strcspn(p + sizeof name, "\r\n"),
                 p + sizeof name);
    return n;
}

static int on_progress(void *arg, curl_off_t down, curl_off_t down_now, curl_off_t up,
                       curl_off_t up_now)
{
    const struct client *c = arg;

    return c->stop && *c->stop;
}

static struct curl_slist *headers(struct client *c, const char *type, const char *accept)
{
    struct curl_slist *h = NULL;
    char line[300];

    if (type) {
        snprintf(line, sizeof line, "Content-Type: %s", type);
        h = curl_slist_append(h, line);
    }
    if (accept) {
        snprintf(line, sizeof line, "Accept: %s", accept);
        h = curl_slist_append(h, line);
    }
    if (c->token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", c->token);
        h = curl_slist_append(h, line);
    }
    if (c->last_id[0]) {
        snprintf(line, sizeof line, "Last-Event-ID: %s", c->last_id);
        h = curl_slist_append(h, line);
    }
    return curl_slist_append(h, "Expect:");
}

static CURLcode perform(struct client *c, const char *method, const char *path, const char *type,
                        const char *accept, struct slice body, long *status)
{
    struct curl_slist *h = headers(c, type, accept);
    size_t n = strlen(c->url) + strlen(path) + 1;
    char *url = xmalloc(n);
    CURLcode r;

    snprintf(url, n, "%s%s", c->url, path);
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, h);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->err);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, c);
    if (c->stop) {
        curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    }
    if (type) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body.ptr ? (const char *)body.ptr : "");
    }
    c->err[0] = c->cursor[0] = 0;
    r = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, status);
    curl_slist_free_all(h);
    free(url);
    return r;
}

static void say_unreachable(struct client *c, CURLcode r)
{
    fail("%s: %s%s", c->url, c->err[0] ? c->err : curl_easy_strerror(r),
         r == CURLE_COULDNT_CONNECT ? "; is `weir serve` running there?" : "");
}

bool client_call(struct client *c, const char *method, const char *path, const char *content_type,
                 struct slice body, struct client_reply *reply)
{
    CURLcode r;

    buf_init(&reply->body, REPLY_MAX);
    c->into = &reply->body;
    c->fn = NULL;
    r = perform(c, method, path, content_type, NULL, body, &reply->status);
    if (r == CURLE_OK)
        return true;
    say_unreachable(c, r);
    buf_fini(&reply->body);
    return false;
}

bool client_stream(struct client *c, const char *path, const char *accept,
                   bool (*fn)(void *arg, struct slice piece), void *arg)
{
    struct client_reply reply = {0};
    bool ok;
    CURLcode r;

    buf_init(&reply.body, REPLY_MAX);
    c->into = &reply.body;
    c->fn = fn;
    c->arg = arg;
    c->stopped = false;
    r = perform(c, "GET", path, NULL, accept, SLICE_NULL, &reply.status);
    ok = c->stopped || (r == CURLE_OK && reply.status == 200);
    if (!ok && r != CURLE_OK)
        say_unreachable(c, r);
    else if (!ok)
        client_problem(c, &reply);
    buf_fini(&reply.body);
    return ok;
}

bool client_ask(struct client *c, const char *path, const char *content_type, struct slice body,
                const char *accept, bool (*fn)(void *arg, struct slice piece), void *arg,
                const volatile sig_atomic_t *stop, struct client_reply *r, char *why, size_t why_n)
{
    CURLcode code;

    buf_init(&r->body, REPLY_MAX);
    c->into = &r->body;
    c->fn = fn;
    c->arg = arg;
    c->stop = stop;
    c->stopped = false;
    code = perform(c, "POST", path, content_type, accept, body, &r->status);
    c->fn = NULL;
    c->stop = NULL;
    if (code == CURLE_OK)
        return true;
    if (code == CURLE_ABORTED_BY_CALLBACK)
        snprintf(why, why_n, "cancelled");
    else if (r->status == 200)
        snprintf(why, why_n, c->stopped ? "writing the answer failed" : "the answer was cut off");
    else
        snprintf(why, why_n, "%s: %s%s", c->url, c->err[0] ? c->err : curl_easy_strerror(code),
                 code == CURLE_COULDNT_CONNECT ? "; is `weir serve` running there?" : "");
    return false;
}

int client_problem(struct client *c, const struct client_reply *r)
{
    json_t *j = json_loadb((const char *)r->body.ptr, r->body.len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *detail = json_string_value(json_object_get(j, "detail"));
    const char *title = json_string_value(json_object_get(j, "title"));

    fail("%s answers %ld: %s%s", c->url, r->status,
         detail  ? detail
         : title ? title
                 : "(no reason given)",
         r->status == 401 ? "; give a token with --token or WEIR_TOKEN" : "");
    json_decref(j);
    return EXIT_FAILED;
}
