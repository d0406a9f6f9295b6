/* Going to all loops for an answer, and the pages of what they wrote. See monitor_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/http.h"
#include "proto/nats/monitor_int.h"

#define PAGE_LIMIT 1024u  /* connections or subscriptions on a page, unless `limit` says more … */
#define PAGE_MOST  65536u /* … and at most */
#define JOBS_MAX   8u     /* under way */

/* ---- answers ---- */

void nmon_reply(struct http_req *r, int status, struct slice body)
{
    struct http_hdr h[2] = {{SLICE_LIT("content-type"), SLICE_LIT("application/json")},
                            {SLICE_LIT("cache-control"), SLICE_LIT("no-store")}};

    http_reply(r, status, h, 2, body);
}

void nmon_refuse_http(struct http_req *r, int status, const char *text)
{
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("text/plain; charset=utf-8")};

    http_reply(r, status, &h, 1, slice_str(text));
}

void nmon_refuse(struct nquestion *a, int status, const char *text)
{
    if (a->r)
        nmon_refuse_http(a->r, status, text);
    else
        nsys_refuse(a->l, a->account, a->reply, status, text);
}

/* ---- jobs ---- */

static void job_free(struct nmon_job *j)
{
    unsigned i;

    for (i = 0; i < j->parts_n; i++) {
        free(j->parts[i].v);
        free(j->parts[i].sums);
        buf_fini(&j->parts[i].text);
    }
    free(j->reply);
    free(j->q.text);
    atomic_fetch_sub(&j->n->monitor_jobs, 1);
    free(j);
}

static void on_back(struct loop_task *t)
{
    struct nmon_job *j = list_entry(t, struct nmon_part, back)->job;
    struct buf b;

    if (--j->waits)
        return;
    if (j->req || j->reply) {
        buf_init(&b, SIZE_MAX);
        j->done(j, &b);
        if (j->req)
            nmon_reply(j->req, 200, buf_slice(&b));
        else
            nsys_answer(j->home, j->account, slice_of(j->reply, j->reply_len), buf_slice(&b));
        buf_fini(&b);
    }
    job_free(j);
}

static void on_visit(struct loop_task *t)
{
    struct nmon_part *p = list_entry(t, struct nmon_part, task);

    p->job->visit(p);
    loop_post(p->job->home->loop, &p->back);
}

void nmon_job_start(struct nats *n, struct nquestion *a, struct nmon_query *q,
                    void (*visit)(struct nmon_part *p),
                    void (*done)(struct nmon_job *j, struct buf *b))
{
    unsigned i, loops = n->conf.loops_n;
    struct nmon_job *j;

    if (atomic_fetch_add(&n->monitor_jobs, 1) >= JOBS_MAX) {
        atomic_fetch_sub(&n->monitor_jobs, 1);
        free(q->text);
        nmon_refuse(a, 503, "too many requests at a time\n");
        return;
    }
    j = xcalloc(1, sizeof *j + loops * sizeof *j->parts);
    j->n = n;
    j->home = a->l;
    j->req = a->r;
    j->account = a->account;
    if (!a->r) {
        j->reply = xmalloc(a->reply.len);
        memcpy(j->reply, a->reply.ptr, a->reply.len);
        j->reply_len = a->reply.len;
    }
    j->q = *q;
    j->visit = visit;
    j->done = done;
    j->waits = j->parts_n = loops;
    j->accounts_n = atomic_load_explicit(&n->accounts_n, memory_order_acquire);
    if (a->r)
        http_user_set(a->r, j);
    for (i = 0; i < loops; i++) {
        struct nmon_part *p = &j->parts[i];

        p->task.fn = on_visit;
        p->back.fn = on_back;
        p->job = j;
        p->l = &n->loops[i];
        buf_init(&p->text, NMON_TEXT_MOST);
        loop_post(p->l->loop, &p->task);
    }
}

/* ---- pages ---- */

int nmon_entry_order(const void *pa, const void *pb)
{
    const struct nmon_entry *a = pa, *b = pb;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->cid < b->cid ? -1 : a->cid > b->cid;
}

struct nmon_entry *nmon_entry_add(struct nmon_part *p)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->v = xrealloc(p->v, p->cap * sizeof *p->v);
    }
    p->v[p->n] = (struct nmon_entry){.text = &p->text};
    return &p->v[p->n++];
}

uint32_t nmon_page_end(const struct nmon_query *q)
{
    return q->offset + q->limit; /* both have a limit */
}

uint32_t nmon_page_write(struct nmon_job *j, struct buf *b, uint32_t *total)
{
    struct nmon_entry *all;
    uint32_t n = 0, i, end;
    unsigned k;

    *total = 0;
    for (k = 0; k < j->parts_n; k++) {
        n += j->parts[k].n;
        *total += j->parts[k].total;
    }
    all = xmalloc(n * sizeof *all + 1);
    for (n = 0, k = 0; k < j->parts_n; n += j->parts[k++].n)
        if (j->parts[k].n)
            memcpy(all + n, j->parts[k].v, j->parts[k].n * sizeof *all);
    if (n)
        qsort(all, n, sizeof *all, nmon_entry_order);
    end = nmon_page_end(&j->q) < n ? nmon_page_end(&j->q) : n;
    buf_append_str(b, "[");
    for (i = j->q.offset; i < end; i++) {
        if (i > j->q.offset)
            buf_append_str(b, ",");
        buf_append(b, all[i].text->ptr + all[i].at, all[i].len);
    }
    buf_append_str(b, "]");
    free(all);
    return end > j->q.offset ? end - j->q.offset : 0;
}

/* ---- options ---- */

bool nmon_flag(struct nquestion *a, const char *name, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"}, *const no[] = {
                                                                                  "",      "0",
                                                                                  "f",     "F",
                                                                                  "false", "FALSE",
                                                                                  "False"};
    struct slice s = nquestion_param(a, name);
    unsigned i;

    *out = false;
    for (i = 0; i < 6; i++)
        if (slice_eq_str(s, yes[i]))
            *out = true;
    for (i = 0; i < 7 && !*out; i++)
        if (slice_eq_str(s, no[i]))
            return true;
    return *out;
}

bool nmon_number(struct nquestion *a, const char *name, uint64_t most, uint64_t *out)
{
    struct slice s = nquestion_param(a, name);

    *out = 0;
    if (s.len && !nats_u64(s, out))
        return false;
    if (*out > most)
        *out = most;
    return true;
}

void nmon_texts(struct nmon_query *q, struct slice user, struct slice account, struct slice filter)
{
    struct slice *to[] = {&q->user, &q->account, &q->filter}, from[] = {user, account, filter};
    char *at = q->text = xmalloc(user.len + account.len + filter.len + 1);
    unsigned i;

    for (i = 0; i < 3; i++) {
        *to[i] = SLICE_NULL;
        if (!from[i].len)
            continue;
        memcpy(at, from[i].ptr, from[i].len);
        *to[i] = slice_of(at, from[i].len);
        at += from[i].len;
    }
}

const char *nmon_page_query(struct nquestion *a, struct nmon_query *q)
{
    uint64_t offset, limit;

    if (!nmon_number(a, "offset", 1u << 30, &offset) || !nmon_number(a, "limit", PAGE_MOST, &limit))
        return "Error decoding int for 'offset' or 'limit'\n";
    q->offset = (uint32_t)offset;
    q->limit = limit ? (uint32_t)limit : PAGE_LIMIT;
    return NULL;
}
