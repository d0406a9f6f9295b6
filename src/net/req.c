/* HTTP requests: their memory, their head, and what handlers ask about them. See http.h,
 * http_int.h. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_int.h"

/* ---- memory ---- */

struct http_req *req_new(struct http_loop *hl, struct conn *c)
{
    const struct http_server_conf *conf = &hl->s->conf;
    struct http_req *r;

    if (!list_empty(&hl->pool)) {
        r = list_entry(list_pop_front(&hl->pool), struct http_req, link);
        hl->pool_n--;
    } else {
        r = xcalloc(1, sizeof *r);
        r->hl = hl;
        buf_init(&r->head, (size_t)conf->head_max + conf->line_max);
        buf_init(&r->body, conf->body_max);
        arena_init(&r->mem, HTTP_REQ_CHUNK, HTTP_REQ_ALLOC);
    }
    r->c = c;
    return r;
}

void req_delete(struct http_req *r)
{
    buf_fini(&r->head);
    buf_fini(&r->body);
    arena_fini(&r->mem);
    free(r->hs);
    free(r->hdr);
    free(r);
}

static void buf_recycle(struct buf *b)
{
    buf_clear(b);
    if (b->cap > HTTP_KEEP_BYTES)
        buf_fini(b);
}

void req_free(struct http_req *r)
{
    struct http_loop *hl = r->hl;

    if (r->body.len)
        conn_stat_add(&hl->bodies, -(uint64_t)r->body.len);
    if (r->out.head)
        outq_clear(&r->out, &r->c->cl->pool);
    if (hl->pool_n >= HTTP_REQ_POOL) {
        req_delete(r);
        return;
    }
    if (r->mem.total)
        arena_reset(&r->mem);
    buf_recycle(&r->head);
    buf_recycle(&r->body);
    memset(r, 0, offsetof(struct http_req, hl));
    list_insert_before(hl->pool.node.next, &r->link); /* the last one used is warm */
    hl->pool_n++;
}

/* ---- the head ---- */

int req_target_add(struct http_req *r, struct slice s)
{
    if (r->target.len + s.len > r->hl->s->conf.line_max || buf_append_slice(&r->head, s))
        return 414;
    r->target.len += (uint32_t)s.len;
    return 0;
}

/* fresh: begins a new name or value; else it continues the last one. */
int req_header_add(struct http_req *r, bool name, bool fresh, struct slice s)
{
    struct span *sp;

    if (fresh) {
        if (name && r->hs_n / 2 >= r->hl->s->conf.headers_max)
            return 431;
        if (r->hs_n == r->hs_cap) {
            r->hs_cap = r->hs_cap ? r->hs_cap * 2 : 32;
            r->hs = xrealloc(r->hs, r->hs_cap * sizeof *r->hs);
        }
        r->hs[r->hs_n++] = (struct span){(uint32_t)r->head.len, 0};
    }
    ASSERT(r->hs_n > 0);
    sp = &r->hs[r->hs_n - 1];
    if (r->head.len - r->target.len + s.len > r->hl->s->conf.head_max ||
        buf_append_slice(&r->head, s))
        return 431;
    sp->len += (uint32_t)s.len;
    return 0;
}

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into dst (room for s.len); -1 for a broken escape or a NUL. */
static long decode(uint8_t *dst, struct slice s, bool plus)
{
    size_t i, n = 0;

    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%') {
            int hi = i + 2 < s.len ? hex_of(s.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? hex_of(s.ptr[i + 2]) : -1;

            if (lo < 0 || (hi == 0 && lo == 0))
                return -1;
            dst[n++] = (uint8_t)(hi << 4 | lo);
            i += 2;
        } else {
            dst[n++] = plus && s.ptr[i] == '+' ? ' ' : s.ptr[i];
        }
    }
    return (long)n;
}

/* http://host/path -> /path (RFC 9112 section 3.2.2). */
static bool absolute_form(struct slice *t)
{
    const uint8_t *p = memmem(t->ptr, t->len, "://", 3), *end = t->ptr + t->len;

    if (!p || !((t->ptr[0] | 32) >= 'a' && (t->ptr[0] | 32) <= 'z'))
        return false;
    for (p += 3; p < end && *p != '/' && *p != '?'; p++)
        ;
    *t = p < end ? slice_of(p, (size_t)(end - p)) : SLICE_LIT("/");
    return true;
}

static int path_set(struct http_req *r)
{
    struct slice t = slice_of(r->head.ptr + r->target.at, r->target.len);
    const uint8_t *q;
    uint8_t *p;
    long n;

    if (t.len == 0)
        return 400;
    if (t.ptr[0] != '/' && !(t.len == 1 && t.ptr[0] == '*') && !absolute_form(&t))
        return 400;
    q = memchr(t.ptr, '?', t.len);
    if (q) {
        r->query = slice_of(q + 1, t.len - (size_t)(q + 1 - t.ptr));
        t.len = (size_t)(q - t.ptr);
        if (t.len == 0)
            t = SLICE_LIT("/");
    }
    r->path = r->raw_path = t;
    if (!memchr(t.ptr, '%', t.len))
        return 0;
    p = arena_alloc(&r->mem, t.len);
    if (!p)
        return 414;
    n = decode(p, t, false);
    r->path = slice_of(p, n < 0 ? 0 : (size_t)n);
    return n < 0 ? 400 : 0;
}

int req_head_done(struct http_req *r)
{
    uint32_t i;

    if (r->hs_n / 2 > r->hdr_cap) {
        r->hdr_cap = r->hs_n / 2 + 16;
        r->hdr = xrealloc(r->hdr, r->hdr_cap * sizeof *r->hdr);
    }
    r->hdr_n = r->hs_n / 2;
    for (i = 0; i < r->hdr_n; i++) {
        struct span n = r->hs[2 * i], v = r->hs[2 * i + 1];

        r->hdr[i].name = slice_of(r->head.ptr + n.at, n.len);
        while (v.len &&
               (r->head.ptr[v.at + v.len - 1] == ' ' || r->head.ptr[v.at + v.len - 1] == '\t'))
            v.len--;
        r->hdr[i].value = slice_of(r->head.ptr + v.at, v.len);
    }
    r->head_done = true;
    return path_set(r);
}

int req_body_add(struct http_req *r, struct slice s)
{
    struct http_loop *hl = r->hl;
    const struct http_server_conf *conf = &hl->s->conf;
    uint64_t held = atomic_load_explicit(&hl->bodies, memory_order_relaxed);

    if (s.len > conf->body_max - r->body.len)
        return 413;
    if (held + s.len > conf->bodies_max / conf->loops_n) /* each loop has its share */
        return 503;
    if (buf_append_slice(&r->body, s))
        return 413;
    conn_stat_add(&hl->bodies, s.len);
    return 0;
}

static const char *const methods[] = {"GET",   "HEAD",   "POST",    "PUT",
                                      "PATCH", "DELETE", "OPTIONS", "OTHER"};

enum http_method req_method_of(struct slice name)
{
    unsigned i;

    for (i = 0; i < HTTP_OTHER; i++)
        if (slice_eq_str(name, methods[i]))
            break;
    return (enum http_method)i;
}

/* ---- what handlers ask ---- */

enum http_method http_method(const struct http_req *r)
{
    return r->method;
}

struct slice http_method_text(const struct http_req *r)
{
    return slice_str(methods[r->method]);
}

struct slice http_path(const struct http_req *r)
{
    return r->path;
}

struct slice http_path_raw(const struct http_req *r)
{
    return r->raw_path;
}

struct slice http_target(const struct http_req *r)
{
    return slice_of(r->head.ptr + r->target.at, r->target.len);
}

static struct slice decoded(struct http_req *r, struct slice s)
{
    uint8_t *p;
    long n;

    if (!s.len || (!memchr(s.ptr, '%', s.len) && !memchr(s.ptr, '+', s.len)))
        return s;
    p = http_alloc(r, s.len);
    n = p ? decode(p, s, true) : -1;
    return n < 0 ? s : slice_of(p, (size_t)n);
}

/* Takes the next name=value off *rest. */
static bool query_next(struct slice *rest, struct slice *name, struct slice *value)
{
    const uint8_t *amp, *eq;

    if (rest->len == 0)
        return false;
    amp = memchr(rest->ptr, '&', rest->len);
    *name = slice_of(rest->ptr, amp ? (size_t)(amp - rest->ptr) : rest->len);
    rest->ptr += name->len + (amp != NULL);
    rest->len -= name->len + (amp != NULL);
    eq = memchr(name->ptr, '=', name->len);
    *value = slice_of(name->ptr + name->len, 0);
    if (eq) {
        *value = slice_of(eq + 1, name->len - (size_t)(eq + 1 - name->ptr));
        name->len = (size_t)(eq - name->ptr);
    }
    return true;
}

struct slice http_query(struct http_req *r, const char *want)
{
    struct slice rest = r->query, name, value;

    while (query_next(&rest, &name, &value))
        if (slice_eq_str(decoded(r, name), want))
            return decoded(r, value);
    return SLICE_NULL;
}

void http_query_each(struct http_req *r, bool (*fn)(void *arg, struct slice n, struct slice v),
                     void *arg)
{
    struct slice rest = r->query, name, value;

    while (query_next(&rest, &name, &value))
        if (!fn(arg, decoded(r, name), decoded(r, value)))
            return;
}

struct slice http_header(const struct http_req *r, const char *name)
{
    size_t len = strlen(name);
    uint32_t i;

    for (i = 0; i < r->hdr_n; i++)
        if (r->hdr[i].name.len == len &&
            strncasecmp((const char *)r->hdr[i].name.ptr, name, len) == 0)
            return r->hdr[i].value;
    return SLICE_NULL;
}

size_t http_headers(const struct http_req *r, const struct http_hdr **out)
{
    *out = r->hdr;
    return r->hdr_n;
}

struct slice http_body(const struct http_req *r)
{
    return buf_slice(&r->body);
}

const char *http_remote(const struct http_req *r)
{
    return r->c->remote;
}

bool http_is_tls(const struct http_req *r)
{
    return r->c->ssl != NULL;
}

int http_version(const struct http_req *r)
{
    return r->version;
}

struct loop *http_loop(const struct http_req *r)
{
    return r->hl->loop;
}

void *http_user(const struct http_req *r)
{
    return r->user;
}

void http_user_set(struct http_req *r, void *user)
{
    r->user = user;
}

void *http_alloc(struct http_req *r, size_t n)
{
    return arena_alloc(&r->mem, n);
}
