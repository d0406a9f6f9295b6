/* What nats-server's monitoring tells, in its JSON: the listener, and a table of the pages. See
 * monitor_int.h. */
#include <string.h>
#include <strings.h>

#include "net/http.h"
#include "proto/nats/monitor_int.h"

static const struct {
    const char *path;
    void (*page)(struct nats *n, struct nquestion *a, struct buf *b);
    void (*start)(struct nats *n, struct nquestion *a);
} pages[NMONITOR_PATHS] = {
    {"/", NULL, NULL},
    {"/varz", nmon_varz, NULL},
    {"/connz", NULL, nmon_connz},
    {"/routez", nmon_routez, NULL},
    {"/gatewayz", nmon_gatewayz, NULL},
    {"/leafz", nmon_leafz, NULL},
    {"/subsz", NULL, nmon_subsz},
    {"/accountz", NULL, nmon_accountz},
    {"/accstatz", NULL, nmon_accstatz},
    {"/jsz", NULL, nmon_jsz},
    {"/healthz", nmon_healthz, NULL},
};

const char *nmonitor_path(unsigned i)
{
    return pages[i].path;
}

bool nmonitor_page(struct nats *n, struct nquestion *a, struct slice name)
{
    struct buf b;
    unsigned i;

    for (i = 1; i < NMONITOR_PATHS; i++)
        if (name.len == strlen(pages[i].path) - 1 &&
            strncasecmp((const char *)name.ptr, pages[i].path + 1, name.len) == 0)
            break;
    if (i == NMONITOR_PATHS)
        return false;
    if (pages[i].start) {
        pages[i].start(n, a);
        return true;
    }
    buf_init(&b, NMON_TEXT_MOST);
    pages[i].page(n, a, &b);
    nsys_answer(a->l, a->account, a->reply, buf_slice(&b));
    buf_fini(&b);
    return true;
}

static void index_page(struct http_req *r)
{
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("text/html; charset=utf-8")};
    struct buf b;
    unsigned i;

    buf_init(&b, 16384);
    buf_append_str(
        &b, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>weir: NATS</title>"
            "<h1>NATS on weir</h1><ul>");
    for (i = 1; i < NMONITOR_PATHS; i++)
        buf_printf(&b, "<li><a href=\".%s\">%s</a>", pages[i].path, pages[i].path + 1);
    buf_append_str(&b, "</ul></html>\n");
    http_reply(r, 200, &h, 1, buf_slice(&b));
    buf_fini(&b);
}

static void on_request(void *ctx, unsigned loop, struct http_req *r)
{
    struct nats *n = ctx;
    struct slice path = http_path(r);
    struct nquestion a = {.r = r, .l = &n->loops[loop]};
    struct buf b;
    unsigned i;

    if (slice_eq_str(path, "/subscriptionsz"))
        path = SLICE_LIT("/subsz");
    for (i = 0; i < NMONITOR_PATHS && !slice_eq_str(path, pages[i].path);)
        i++;
    if (i == NMONITOR_PATHS) {
        nmon_refuse_http(r, 404, "404 page not found\n");
        return;
    }
    if (http_method(r) != HTTP_GET && http_method(r) != HTTP_HEAD) {
        nmon_refuse_http(r, 405, "only GET is known here\n");
        return;
    }
    atomic_fetch_add(&n->monitor_asked[i], 1);
    if (i == 0) {
        index_page(r);
    } else if (pages[i].start) {
        pages[i].start(n, &a);
    } else {
        buf_init(&b, NMON_TEXT_MOST);
        pages[i].page(n, &a, &b);
        nmon_reply(r, 200, buf_slice(&b));
        buf_fini(&b);
    }
}

static void on_close(void *ctx, unsigned loop, struct http_req *r)
{
    struct nmon_job *j = http_user(r);

    (void)ctx;
    (void)loop;
    if (j)
        j->req = NULL;
}

enum err nmonitor_new(struct nats *n, struct errinfo *info)
{
    struct http_server_conf hc = {.loops = n->conf.loops,
                                  .loops_n = n->conf.loops_n,
                                  .body_max = 1024,
                                  .conns_max = 256,
                                  .output_max = 1u << 20,
                                  .send_ms = n->conf.send_ms,
                                  .ctx = n,
                                  .on_request = on_request,
                                  .on_close = on_close};

    return http_server_new(&hc, &n->monitor, info);
}
