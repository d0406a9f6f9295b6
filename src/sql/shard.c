/* See shard.h. One connection of libcurl a server, all in one multi handle, driven by whoever waits
 * for a line:
 *
 *   shards_ask ─> request ─> on_body (in) ─> shards_next: line, line … ─> its end
 *                              │ more than SHARD_AHEAD is held: paused until lines were taken
 *
 * Whoever finds no line pauses none: what is held may be most of a long line, whose end must come.
 *
 * A failure comes as another status with a problem document, as a last line {"error":…} behind rows,
 * or as a connection that ends early. */
#include "sql/shard.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "base/mem.h"

#define LINE_MAX_BYTES (64u << 20)
#define BODY_MAX       (32u << 20)
#define CONNECT_MS     10000L
#define LOOK_MS        100 /* between looks whether the query is over */
#define COMPACT        (256u << 10)

struct shard {
    struct shards *all;
    struct sql_shard conf; /* strings are copies */
    CURL *curl;
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    struct buf in;     /* from `at` on it was not taken */
    size_t at, looked; /* looked: there is no line end before it */
    bool asking, paused, too_long;
    long status; /* of the answer; 0: not known yet */
    uint64_t deadline_ns, began_ns;
};
struct shards {
    struct io *io;
    CURLM *multi;
    struct shard *v;
    unsigned n, turn; /* whose line is next */
    bool (*over)(void *arg);
    void *arg;
};

/* ---- opening and closing ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct shard *x = arg;

    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &x->status);
    if (x->in.len - x->at > SHARD_AHEAD && memchr(x->in.ptr + x->at, '\n', x->in.len - x->at)) {
        x->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (buf_append(&x->in, data, size * n) == ERR_OK)
        return size * n;
    x->too_long = true;
    return 0;
}

static enum err shard_init(struct shards *s, struct shard *x, const struct sql_shard *conf,
                           struct errinfo *info)
{
    char header[600];

    x->all = s;
    x->conf = (struct sql_shard){xstrdup(conf->name), xstrdup(conf->url),
                                 conf->token ? xstrdup(conf->token) : NULL,
                                 conf->ca_file ? xstrdup(conf->ca_file) : NULL};
    buf_init(&x->in, LINE_MAX_BYTES);
    x->curl = curl_easy_init();
    if (!x->curl)
        return errinfo_set(info, ERR_NO_MEMORY, "no memory for a connection to a shard");
    x->headers = curl_slist_append(NULL, "content-type: application/json");
    x->headers = curl_slist_append(x->headers, "accept: application/x-ndjson");
    x->headers = curl_slist_append(x->headers, "expect:");
    if (x->conf.token) {
        snprintf(header, sizeof header, "authorization: Bearer %.500s", x->conf.token);
        x->headers = curl_slist_append(x->headers, header);
    }
    return ERR_OK;
}

enum err shards_open(struct io *io, const struct sql_shard *list, unsigned n,
                     bool (*over)(void *arg), void *arg, struct shards **out, struct errinfo *info)
{
    struct shards *s = xcalloc(1, sizeof *s);
    enum err e = ERR_OK;
    unsigned i;

    s->io = io;
    s->over = over;
    s->arg = arg;
    s->n = n;
    s->v = xcalloc(n, sizeof *s->v);
    s->multi = curl_multi_init();
    if (!s->multi)
        e = errinfo_set(info, ERR_NO_MEMORY, "no memory for connections to shards");
    for (i = 0; i < n && !e; i++)
        e = shard_init(s, &s->v[i], &list[i], info);
    if (e)
        shards_close(&s);
    *out = s;
    return e;
}

void shards_close(struct shards **sp)
{
    struct shards *s = *sp;
    unsigned i;

    if (!s)
        return;
    for (i = 0; i < s->n; i++) {
        struct shard *x = &s->v[i];

        if (x->curl && x->asking)
            curl_multi_remove_handle(s->multi, x->curl);
        if (x->curl)
            curl_easy_cleanup(x->curl);
        curl_slist_free_all(x->headers);
        buf_fini(&x->in);
        free((char *)(uintptr_t)x->conf.name);
        free((char *)(uintptr_t)x->conf.url);
        free((char *)(uintptr_t)x->conf.token);
        free((char *)(uintptr_t)x->conf.ca_file);
    }
    if (s->multi)
        curl_multi_cleanup(s->multi);
    free(s->v);
    free(s);
    *sp = NULL;
}

/* ---- asking ---- */

static uint64_t left_ms(const struct shards *s, uint64_t deadline_ns)
{
    uint64_t now = io_mono_ns(s->io);

    return deadline_ns <= now ? 1 : (deadline_ns - now) / 1000000 + 1;
}

static enum err body_make(const struct shards *s, struct slice statement, uint64_t deadline_ns,
                          struct buf *out)
{
    enum err e = buf_append_str(out, "{\"query\":");

    e = e ? e : json_write_string(out, statement);
    if (!e && deadline_ns != UINT64_MAX)
        e = buf_printf(out, ",\"timeout_ms\":%" PRIu64, left_ms(s, deadline_ns));
    return e ? e : buf_append_u8(out, '}');
}

static void options_set(struct shard *x, const struct buf *body)
{
    size_t len = strlen(x->conf.url);
    char url[1100];

    while (len && x->conf.url[len - 1] == '/')
        len--;
    snprintf(url, sizeof url, "%.*s/sql", (int)len, x->conf.url);
    curl_easy_reset(x->curl); /* keeps the connection */
    curl_easy_setopt(x->curl, CURLOPT_URL, url);
    curl_easy_setopt(x->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(x->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    if (x->deadline_ns != UINT64_MAX)
        curl_easy_setopt(x->curl, CURLOPT_TIMEOUT_MS, (long)left_ms(x->all, x->deadline_ns));
    curl_easy_setopt(x->curl, CURLOPT_ERRORBUFFER, x->why);
    curl_easy_setopt(x->curl, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(x->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(x->curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->curl, CURLOPT_PRIVATE, x);
    curl_easy_setopt(x->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
    curl_easy_setopt(x->curl, CURLOPT_COPYPOSTFIELDS, body->ptr);
    if (x->conf.ca_file && *x->conf.ca_file)
        curl_easy_setopt(x->curl, CURLOPT_CAINFO, x->conf.ca_file);
}

enum err shards_ask(struct shards *s, unsigned i, struct slice statement, uint64_t deadline_ns,
                    struct errinfo *info)
{
    struct shard *x = &s->v[i];
    struct buf body;

    ASSERT(!x->asking);
    buf_init(&body, BODY_MAX);
    if (body_make(s, statement, deadline_ns, &body)) {
        buf_fini(&body);
        return errinfo_set(info, ERR_TOO_LARGE, "the statement is too large for a shard");
    }
    buf_clear(&x->in);
    x->at = x->looked = 0;
    x->why[0] = 0;
    x->too_long = false;
    x->status = 0;
    x->deadline_ns = deadline_ns;
    x->began_ns = io_mono_ns(s->io);
    options_set(x, &body);
    buf_fini(&body);
    if (curl_multi_add_handle(s->multi, x->curl))
        return errinfo_set(info, ERR_NO_MEMORY, "no memory for a request to a shard");
    x->asking = true;
    return ERR_OK;
}

/* ---- what went wrong ---- */

static enum err code_of(long status)
{
    switch (status) {
    case 400:
        return ERR_SQL;
    case 401:
    case 403:
        return ERR_FORBIDDEN;
    case 404:
        return ERR_NOT_FOUND;
    case 503:
        return ERR_OVERLOADED;
    case 504:
        return ERR_TIMEOUT;
    default:
        return ERR_NETWORK;
    }
}

static const char *member(const json_t *j, const char *name, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(j, name));

    return s && *s ? s : otherwise;
}

/* From a problem document or the last line; status 0: behind rows. */
static enum err failed_there(struct shard *x, long status, const json_t *j, struct fault *f)
{
    const char *detail = member(j, "detail", member(j, "message", member(j, "title", NULL)));
    const char *code = member(j, "code", "");
    enum err e = status ? code_of(status) : ERR_SQL;

    if (!strcmp(code, err_code(ERR_NO_MEMORY)))
        e = ERR_NO_MEMORY;
    else if (!strcmp(code, err_code(ERR_TIMEOUT)))
        e = ERR_TIMEOUT;
    if (status)
        fault_set(f, e, member(j, "sqlstate", "08006"), "shard %s (%s): %ld %s", x->conf.name,
                  x->conf.url, status, detail ? detail : "no reason given");
    else
        fault_set(f, e, member(j, "sqlstate", "08006"), "shard %s (%s): %s", x->conf.name,
                  x->conf.url, detail ? detail : "no reason given");
    return e;
}

static enum err failed_on_the_way(struct shard *x, CURLcode rc, struct fault *f)
{
    uint64_t ms = (io_mono_ns(x->all->io) - x->began_ns) / 1000000;

    if (x->too_long)
        fault_set(f, ERR_TOO_LARGE, "54000", "shard %s (%s): a row is larger than %u bytes",
                  x->conf.name, x->conf.url, LINE_MAX_BYTES);
    else if (rc == CURLE_OPERATION_TIMEDOUT)
        fault_set(f, ERR_TIMEOUT, "57014",
                  "shard %s (%s): the answer did not end within %" PRIu64 " ms", x->conf.name,
                  x->conf.url, ms);
    else
        fault_set(f, ERR_NETWORK, "08006", "shard %s (%s): %s", x->conf.name, x->conf.url,
                  x->why[0] ? x->why : curl_easy_strerror(rc));
    return f->code;
}

/* A request has ended. */
static enum err ended(struct shard *x, CURLcode rc, struct fault *f)
{
    long status = 0;
    json_t *j;
    enum err e;

    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(x->all->multi, x->curl);
    x->asking = x->paused = false;
    if (rc != CURLE_OK || x->too_long) /* of what came as it went on, libcurl may not tell */
        return failed_on_the_way(x, rc, f);
    if (status == 200)
        return ERR_OK;
    j = json_loadb((const char *)x->in.ptr + x->at, x->in.len - x->at, 0, NULL);
    e = failed_there(x, status, j, f);
    json_decref(j);
    return e;
}

/* ---- lines ---- */

/* The next line of x, if it has come: SLICE_NULL: it has not. */
static struct slice line_take(struct shard *x)
{
    size_t from = x->looked > x->at ? x->looked : x->at;
    bool rows = x->status == 200 && from < x->in.len;
    const uint8_t *end = rows ? memchr(x->in.ptr + from, '\n', x->in.len - from) : NULL;
    struct slice line;

    if (!end) {
        x->looked = x->in.len;
        return SLICE_NULL;
    }
    line = slice_of(x->in.ptr + x->at, (size_t)(end - (x->in.ptr + x->at)));
    x->at = (size_t)(end - x->in.ptr) + 1;
    return line;
}

/* What libcurl kept back may come at once, and pause x again. */
static void go_on(struct shard *x)
{
    if (!x->paused)
        return;
    x->paused = false;
    curl_easy_pause(x->curl, CURLPAUSE_CONT);
}

/* Lines that were given out are not needed any more. */
static void lines_drop(struct shard *x)
{
    if (x->at == x->in.len) {
        buf_clear(&x->in);
        x->at = x->looked = 0;
    } else if (x->at > COMPACT) {
        memmove(x->in.ptr, x->in.ptr + x->at, x->in.len - x->at);
        x->in.len -= x->at;
        x->looked = x->looked > x->at ? x->looked - x->at : 0;
        x->at = 0;
    }
    if (x->in.len - x->at < SHARD_AHEAD / 2)
        go_on(x);
}

static bool is_error(struct slice line)
{
    static const char start[] = "{\"error\":{";

    return line.len > sizeof start && memcmp(line.ptr, start, sizeof start - 1) == 0;
}

/* A line that is there already. ERR_AGAIN: none. */
static enum err line_find(struct shards *s, unsigned *shard, struct slice *line, struct fault *f)
{
    unsigned i, k;
    json_t *j;
    enum err e;

    for (i = 0; i < s->n; i++) {
        k = (s->turn + i) % s->n;
        *line = line_take(&s->v[k]);
        if (slice_is_null(*line))
            continue;
        s->turn = k + 1;
        *shard = k;
        if (!is_error(*line))
            return ERR_OK;
        j = json_loadb((const char *)line->ptr, line->len, 0, NULL);
        e = failed_there(&s->v[k], 0, json_object_get(j, "error"), f);
        json_decref(j);
        return e;
    }
    return ERR_AGAIN;
}

/* Requests that have ended. ERR_OK: those went well. */
static enum err ends_take(struct shards *s, unsigned *shard, struct fault *f)
{
    CURLMsg *m;
    void *x;
    int left;
    enum err e = ERR_OK;

    while (!e && (m = curl_multi_info_read(s->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
        *shard = (unsigned)((struct shard *)x - s->v);
        e = ended(x, m->data.result, f);
    }
    return e;
}

enum err shards_next(struct shards *s, bool wait, unsigned *shard, struct slice *line,
                     struct fault *f)
{
    unsigned i, asking;
    int running;
    enum err e;

    for (i = 0; i < s->n; i++)
        lines_drop(&s->v[i]);
    for (;;) {
        if ((e = line_find(s, shard, line, f)) != ERR_AGAIN)
            return e;
        for (i = 0; i < s->n; i++)
            go_on(&s->v[i]);
        curl_multi_perform(s->multi, &running);
        if ((e = ends_take(s, shard, f)))
            return e;
        if ((e = line_find(s, shard, line, f)) != ERR_AGAIN)
            return e;
        for (asking = 0, i = 0; i < s->n; i++)
            asking += s->v[i].asking;
        if (!asking)
            return ERR_EOF;
        if (s->over(s->arg)) {
            fault_set(f, ERR_CANCELLED, "57014", "the query was cancelled");
            return ERR_CANCELLED;
        }
        if (!wait)
            return ERR_AGAIN;
        curl_multi_poll(s->multi, NULL, 0, LOOK_MS, NULL);
    }
}
