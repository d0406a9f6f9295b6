/* What nats-server's monitoring tells, in its JSON: /varz, /connz, /subsz, /accountz, /accstatz, /jsz,
 * /healthz, and those of clusters, which are empty. See nats_int.h.
 *
 * What is asked of connections only their loops know: a request becomes a job that visits all loops,
 * and is answered on its own loop when the last one is back. Each loop finds what matches, sorts it
 * and writes down as many as could be on the page that is asked for, so the work for a page is
 * bounded by offset and limit, but for looking at all once. Jobs under way have a limit, too.
 *
 * Threads: a job's part is of the loop that it visits; the rest of the job of the loop that asks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/timefmt.h"
#include "io/io.h"
#include "net/http.h"
#include "proto/nats/nats_int.h"

#define PAGE_LIMIT 1024u  /* connections or subscriptions on a page, unless `limit` says more … */
#define PAGE_MOST  65536u /* … and at most */
#define JOBS_MAX   8u     /* under way */
#define TEXT_MOST  (64u << 20) /* bytes that a loop writes for one answer */
#define SUBS_SEEN  262144u     /* subscriptions that a loop looks at for one answer */

enum sort {
    BY_CID,
    BY_START,
    BY_SUBS,
    BY_PENDING,
    BY_OUT_MSGS,
    BY_IN_MSGS,
    BY_OUT_BYTES,
    BY_IN_BYTES,
    BY_LAST,
    BY_IDLE,
    BY_UPTIME,
    BY_STOP,
    BY_REASON,
    BY_RTT,
    SORTS
};

struct query {
    enum sort sort;
    bool open, closed;       /* connections */
    bool auth, subs, detail; /* what is told of them */
    uint64_t cid;
    uint32_t offset, limit;
    struct slice user, account, filter; /* null: any; in `text` */
    char *text;
};

struct entry {
    int64_t key;
    uint64_t cid;
    union {
        const struct nconn *c;
        const struct nclosed *closed;
        size_t at;
    };
    size_t len; /* 0: not written, a connection or one that was */
    bool is_closed;
    const struct buf *text;
};

struct account_sum {
    uint64_t conns, subs, in_msgs, in_bytes, out_msgs, out_bytes;
};

struct job;
struct part {
    struct loop_task task, back;
    struct job *job;
    struct nloop *l;
    struct entry *v;
    uint32_t n, cap, total;
    struct buf text;
    struct account_sum *sums;
    bool over; /* there is more than is told */
};

struct job {
    struct nats *n;
    struct nloop *home;
    struct http_req *req; /* NULL: it is gone, or a message asked */
    uint8_t *reply;       /* of that one; NULL: none */
    size_t reply_len;
    struct naccount *account; /* where it goes */
    struct query q;
    void (*visit)(struct part *p);
    void (*done)(struct job *j, struct buf *out);
    uint32_t accounts_n;
    unsigned waits, parts_n;
    struct part parts[];
};

/* ---- texts ---- */

static void member(struct buf *b, const char *name, struct slice value)
{
    buf_printf(b, "\"%s\":", name);
    json_write_string(b, value);
    buf_append_str(b, ",");
}

static void member_time(struct buf *b, const char *name, int64_t ms)
{
    char t[TIME_TEXT_LEN + 1];

    time_format(ms, t);
    buf_printf(b, "\"%s\":\"%s\",", name, t);
}

static void member_span(struct buf *b, const char *name, uint64_t ms)
{
    uint64_t s = ms / 1000, m = s / 60, h = m / 60, d = h / 24, y = d / 365;

    buf_printf(b, "\"%s\":\"", name);
    if (y)
        buf_printf(b, "%" PRIu64 "y", y);
    if (d)
        buf_printf(b, "%" PRIu64 "d", d % 365);
    if (h)
        buf_printf(b, "%" PRIu64 "h", h % 24);
    if (m)
        buf_printf(b, "%" PRIu64 "m", m % 60);
    buf_printf(b, "%" PRIu64 "s\",", s % 60);
}

static void member_us(struct buf *b, const char *name, uint64_t us)
{
    if (us >= 1000000)
        buf_printf(b, "\"%s\":\"%.3fs\",", name, (double)us / 1e6);
    else if (us >= 1000)
        buf_printf(b, "\"%s\":\"%.3fms\",", name, (double)us / 1e3);
    else
        buf_printf(b, "\"%s\":\"%" PRIu64 "µs\",", name, us);
}

static void member_n(struct buf *b, const char *name, uint64_t v)
{
    buf_printf(b, "\"%s\":%" PRIu64 ",", name, v);
}

/* The comma behind the last member becomes the end. */
static void members_end(struct buf *b)
{
    if (b->len && b->ptr[b->len - 1] == ',')
        b->ptr[b->len - 1] = '}';
    else
        buf_append_str(b, "}");
}

static void head(struct nats *n, struct buf *b)
{
    buf_printf(b, "{\"server_id\":\"%s\",", n->id);
    member_time(b, "now", io_wall_ms(n->conf.io));
}

/* ---- connections ---- */

static void subs_write(struct buf *b, struct nconn *c, bool detail)
{
    uint32_t at = 0, seen = 0;
    void *v;

    if (!c->subs.n)
        return;
    buf_append_str(b, detail ? "\"subscriptions_list_detail\":[" : "\"subscriptions_list\":[");
    while (seen++ < SUBS_SEEN && map_next(&c->subs, &at, NULL, &v)) {
        const struct nsub *s = v;

        if (detail)
            nmonitor_sub(b, s, c);
        else
            json_write_string(b, s->in.subject);
        buf_append_str(b, ",");
    }
    b->ptr[b->len - 1] = ']';
    buf_append_str(b, ",");
}

void nmonitor_sub(struct buf *b, const struct nsub *s, const struct nconn *c)
{
    buf_append_str(b, "{");
    member(b, "account", slice_str(c->account->name));
    member(b, "subject", s->in.subject);
    if (s->in.queue.len)
        member(b, "qgroup", s->in.queue);
    member(b, "sid", s->sid);
    member_n(b, "msgs", s->delivered);
    if (s->max)
        member_n(b, "max", s->max);
    member_n(b, "cid", c->id);
    members_end(b);
}

/* All but what depends on when it is asked. */
static void conn_write(struct buf *b, const struct nconn *c, uint64_t now_ms, int64_t wall_ms)
{
    struct naddress a;
    uint64_t rtt = nconn_rtt_us(c);

    nconn_address(c, &a);
    buf_append_str(b, "{");
    member_n(b, "cid", c->id);
    member(b, "kind", SLICE_LIT("Client"));
    member(b, "type", c->ws ? SLICE_LIT("websocket") : SLICE_LIT("nats"));
    member(b, "ip", slice_str(a.ip));
    member_n(b, "port", a.port);
    member_time(b, "start", wall_ms - (int64_t)(now_ms - c->start_ms));
    member_time(b, "last_activity", wall_ms - (int64_t)(now_ms - c->heard_ms));
    if (rtt)
        member_us(b, "rtt", rtt);
    member_span(b, "uptime", now_ms - c->start_ms);
    member_span(b, "idle", now_ms - c->heard_ms);
    member_n(b, "pending_bytes", c->c ? conn_queued(c->c) : 0);
    member_n(b, "in_msgs", c->in_msgs);
    member_n(b, "out_msgs", c->out_msgs);
    member_n(b, "in_bytes", c->in_bytes);
    member_n(b, "out_bytes", c->out_bytes);
    member_n(b, "subscriptions", c->subs.n);
    if (c->client) {
        static const char *const names[] = {"name", "lang", "version"};
        const char *at = c->client;
        unsigned i;

        for (i = 0; i < 3; i++, at += strlen(at) + 1)
            if (*at)
                member(b, names[i], slice_str(at));
    }
}

static void open_write(struct part *p, const struct nconn *c)
{
    const struct query *q = &p->job->q;
    struct buf *b = &p->text;

    conn_write(b, c, loop_now_ms(p->l->loop), io_wall_ms(p->l->n->conf.io));
    if (q->auth && c->connected) {
        struct slice who = nats_login_name(c);

        if (who.len)
            member(b, "authorized_user", who);
        member(b, "account", slice_str(c->account->name));
    }
    if (q->subs || q->detail)
        subs_write(b, (struct nconn *)(uintptr_t)c, q->detail); /* only read */
    members_end(b);
}

void nmonitor_closed(struct nconn *c)
{
    struct nloop *l = c->l;
    struct nclosed *k;
    struct slice who = nats_login_name(c);
    struct buf b;

    if (!l->n->monitor)
        return;
    if (!l->closed)
        l->closed = xcalloc(NATS_CLOSED, sizeof *l->closed);
    k = &l->closed[l->closed_n++ % NATS_CLOSED];
    free(k->text);
    buf_init(&b, 65536);
    *k = (struct nclosed){.cid = c->id,
                          .account = c->account,
                          .start_ms = c->start_ms,
                          .last_ms = c->heard_ms,
                          .stop_ms = loop_now_ms(l->loop),
                          .in_msgs = c->in_msgs,
                          .in_bytes = c->in_bytes,
                          .out_msgs = c->out_msgs,
                          .out_bytes = c->out_bytes,
                          .subs = c->subs.n,
                          .why = c->why};
    conn_write(&b, c, k->stop_ms, io_wall_ms(l->n->conf.io));
    member_time(&b, "stop", io_wall_ms(l->n->conf.io));
    member(&b, "reason", slice_str(nend_reason(c->why)));
    k->text_len = b.len;
    if (c->connected) {
        if (who.len)
            member(&b, "authorized_user", who);
        member(&b, "account", slice_str(c->account->name));
    }
    k->all_len = b.len;
    k->user_len = (uint32_t)(who.len < sizeof k->user ? who.len : sizeof k->user);
    if (k->user_len)
        memcpy(k->user, who.ptr, k->user_len);
    k->text = (char *)buf_take(&b, &k->all_len);
}

static int64_t key_of(enum sort sort, const struct entry *e, uint64_t now_ms)
{
    const struct nconn *c = e->is_closed ? NULL : e->c;
    const struct nclosed *k = e->is_closed ? e->closed : NULL;

    switch (sort) {
    case BY_SUBS:
        return -(int64_t)(c ? c->subs.n : k->subs);
    case BY_PENDING:
        return c ? -(int64_t)conn_queued(c->c) : 0;
    case BY_OUT_MSGS:
        return -(int64_t)(c ? c->out_msgs : k->out_msgs);
    case BY_IN_MSGS:
        return -(int64_t)(c ? c->in_msgs : k->in_msgs);
    case BY_OUT_BYTES:
        return -(int64_t)(c ? c->out_bytes : k->out_bytes);
    case BY_IN_BYTES:
        return -(int64_t)(c ? c->in_bytes : k->in_bytes);
    case BY_LAST:
        return -(int64_t)(c ? c->heard_ms : k->last_ms);
    case BY_IDLE:
        return (int64_t)(c ? c->heard_ms : k->last_ms);
    case BY_UPTIME:
        return -(int64_t)(c ? now_ms - c->start_ms : k->stop_ms - k->start_ms);
    case BY_STOP:
        return k ? -(int64_t)k->stop_ms : 0;
    case BY_REASON:
        return k ? (int64_t)k->why : 0;
    case BY_RTT:
        return c ? -(int64_t)nconn_rtt_us(c) : 0;
    default:
        return (int64_t)(c ? c->id : k->cid); /* they are given in the order of their beginnings */
    }
}

static int entry_order(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a->cid < b->cid ? -1 : a->cid > b->cid;
}

static struct entry *entry_add(struct part *p)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->v = xrealloc(p->v, p->cap * sizeof *p->v);
    }
    p->v[p->n] = (struct entry){.text = &p->text};
    return &p->v[p->n++];
}

static bool takes(struct nconn *c, struct slice filter)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&c->subs, &at, NULL, &v))
        if (subjects_meet(((const struct nsub *)v)->in.subject, filter))
            return true;
    return false;
}

static bool wanted(const struct query *q, uint64_t cid, const struct naccount *a, struct slice user)
{
    return (!q->cid || q->cid == cid) && (!q->user.ptr || slice_eq(user, q->user)) &&
           (!q->account.ptr || slice_eq_str(q->account, a->name));
}

static uint32_t page_end(const struct query *q)
{
    return q->offset + q->limit; /* both have a limit */
}

static void connz_visit(struct part *p)
{
    const struct query *q = &p->job->q;
    uint64_t now = loop_now_ms(p->l->loop);
    struct list_node *at;
    struct entry *e;
    uint32_t i;

    for (at = p->l->conns.node.next; q->open && at != &p->l->conns.node; at = at->next) {
        struct nconn *c = list_entry(at, struct nconn, all);

        if (!wanted(q, c->id, c->account, nats_login_name(c)) ||
            (q->filter.ptr && !takes(c, q->filter)))
            continue;
        e = entry_add(p);
        e->c = c;
        e->cid = c->id;
    }
    for (i = 0; q->closed && p->l->closed && i < NATS_CLOSED; i++) {
        const struct nclosed *k = &p->l->closed[i];

        if (!k->text || q->filter.ptr ||
            !wanted(q, k->cid, k->account, slice_of(k->user, k->user_len)))
            continue;
        e = entry_add(p);
        e->closed = k;
        e->cid = k->cid;
        e->is_closed = true;
    }
    p->total = p->n;
    for (i = 0; i < p->n; i++)
        p->v[i].key = key_of(q->sort, &p->v[i], now);
    if (p->n)
        qsort(p->v, p->n, sizeof *p->v, entry_order);
    if (p->n > page_end(q))
        p->n = page_end(q);
    for (i = 0; i < p->n; i++) {
        size_t from = p->text.len;

        if (p->v[i].is_closed) {
            const struct nclosed *k = p->v[i].closed;

            buf_append(&p->text, k->text, q->auth ? k->all_len : k->text_len);
            members_end(&p->text);
        } else {
            open_write(p, p->v[i].c);
        }
        p->v[i].at = from;
        p->v[i].len = p->text.len - from;
    }
}

/* The loops' entries, in order, the page of them written as a list. Answers how many are on it. */
static uint32_t page_write(struct job *j, struct buf *b, uint32_t *total)
{
    struct entry *all;
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
        qsort(all, n, sizeof *all, entry_order);
    end = page_end(&j->q) < n ? page_end(&j->q) : n;
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

static void connz_done(struct job *j, struct buf *b)
{
    struct buf list;
    uint32_t n, total;

    buf_init(&list, SIZE_MAX);
    n = page_write(j, &list, &total);
    head(j->n, b);
    buf_printf(b,
               "\"num_connections\":%u,\"total\":%u,\"offset\":%u,\"limit\":%u,\"connections\":", n,
               total, j->q.offset, j->q.limit);
    buf_append_slice(b, buf_slice(&list));
    buf_append_str(b, "}");
    buf_fini(&list);
}

/* ---- subscriptions ---- */

static void subsz_of(struct part *p, struct nconn *c, uint32_t *seen)
{
    const struct query *q = &p->job->q;
    uint32_t at = 0;
    void *v;

    while (*seen < SUBS_SEEN && map_next(&c->subs, &at, NULL, &v)) {
        const struct nsub *s = v;
        struct entry *e;

        ++*seen;
        if (q->filter.ptr && !subject_match(s->in.subject, q->filter))
            continue;
        p->total++;
        if (p->n >= page_end(q))
            continue;
        e = entry_add(p);
        e->key = (int64_t)c->id;
        e->cid = p->total;
        e->at = p->text.len;
        nmonitor_sub(&p->text, s, c);
        e->len = p->text.len - e->at;
    }
}

static void subsz_visit(struct part *p)
{
    const struct query *q = &p->job->q;
    struct list_node *at;
    uint32_t seen = 0;

    for (at = p->l->conns.node.next; at != &p->l->conns.node; at = at->next) {
        struct nconn *c = list_entry(at, struct nconn, all);

        if (!q->account.ptr || slice_eq_str(q->account, c->account->name))
            subsz_of(p, c, &seen);
    }
}

static void subsz_done(struct job *j, struct buf *b)
{
    struct buf list;
    uint32_t total;
    struct nloop *l;
    uint64_t subs = 0;

    for (l = j->n->loops; l < j->n->loops + j->n->conf.loops_n; l++)
        subs += atomic_load_explicit(&l->subs, memory_order_relaxed);
    head(j->n, b);
    buf_printf(b,
               "\"num_subscriptions\":%" PRIu64
               ",\"num_cache\":0,\"num_inserts\":0,\"num_removes\":0,"
               "\"num_matches\":0,\"cache_hit_rate\":0,\"max_fanout\":0,\"avg_fanout\":0,",
               subs);
    buf_init(&list, SIZE_MAX);
    (void)page_write(j, &list, &total);
    buf_printf(b, "\"total\":%u,\"offset\":%u,\"limit\":%u", j->q.subs ? total : 0, j->q.offset,
               j->q.limit);
    if (j->q.subs) {
        buf_append_str(b, ",\"subscriptions_list\":");
        buf_append_slice(b, buf_slice(&list));
    }
    buf_append_str(b, "}");
    buf_fini(&list);
}

/* ---- accounts ---- */

static void accounts_visit(struct part *p)
{
    struct list_node *at;

    p->sums = xcalloc(p->job->accounts_n, sizeof *p->sums);
    for (at = p->l->conns.node.next; at != &p->l->conns.node; at = at->next) {
        const struct nconn *c = list_entry(at, struct nconn, all);
        struct account_sum *s;

        if (!c->connected || c->account->index >= p->job->accounts_n)
            continue; /* an account that came since the job began */
        s = &p->sums[c->account->index];
        s->conns++;
        s->subs += c->subs.n;
        s->in_msgs += c->in_msgs;
        s->in_bytes += c->in_bytes;
        s->out_msgs += c->out_msgs;
        s->out_bytes += c->out_bytes;
    }
}

static struct account_sum account_sum(const struct job *j, const struct naccount *a)
{
    struct account_sum s = {.in_msgs = atomic_load(&a->gone_in_msgs),
                            .in_bytes = atomic_load(&a->gone_in_bytes),
                            .out_msgs = atomic_load(&a->gone_out_msgs),
                            .out_bytes = atomic_load(&a->gone_out_bytes)};
    unsigned k;

    for (k = 0; k < j->parts_n; k++) {
        const struct account_sum *p = &j->parts[k].sums[a->index];

        s.conns += p->conns;
        s.subs += p->subs;
        s.in_msgs += p->in_msgs;
        s.in_bytes += p->in_bytes;
        s.out_msgs += p->out_msgs;
        s.out_bytes += p->out_bytes;
    }
    return s;
}

/* NULL before the first, and behind the last that the job knows. */
static const struct naccount *account_next(const struct job *j, const struct naccount *a)
{
    a = a ? atomic_load_explicit(&a->next, memory_order_acquire) : j->n->accounts;
    return a && a->index < j->accounts_n ? a : NULL;
}

static void accstatz_done(struct job *j, struct buf *b)
{
    const struct naccount *a = NULL;
    const char *comma = "";

    head(j->n, b);
    buf_append_str(b, "\"account_statz\":[");
    while ((a = account_next(j, a))) {
        struct account_sum s = account_sum(j, a);

        if ((!j->q.subs && !s.conns && !s.in_msgs && !s.out_msgs) || /* subs: unused=1 */
            (j->q.account.ptr && !slice_eq_str(j->q.account, a->name)))
            continue;
        buf_printf(b, "%s{\"acc\":", comma);
        json_write_string(b, slice_str(a->name));
        buf_append_str(b, ",\"name\":");
        json_write_string(b, slice_str(a->name));
        buf_printf(b,
                   ",\"conns\":%" PRIu64 ",\"leafnodes\":0,\"total_conns\":%" PRIu64
                   ",\"num_subscriptions\":%" PRIu64 ",\"sent\":{\"msgs\":%" PRIu64
                   ",\"bytes\":%" PRIu64 "},\"received\":{\"msgs\":%" PRIu64 ",\"bytes\":%" PRIu64
                   "},\"slow_consumers\":%" PRIu64 "}",
                   s.conns, s.conns, s.subs, s.out_msgs, s.out_bytes, s.in_msgs, s.in_bytes,
                   (uint64_t)atomic_load(&a->slow));
        comma = ",";
    }
    buf_append_str(b, "]}");
}

static void accountz_done(struct job *j, struct buf *b)
{
    const struct naccount *a = NULL, *found = NULL;

    head(j->n, b);
    if (j->n->system)
        member(b, "system_account", slice_str(j->n->system->name));
    if (!j->q.account.ptr) {
        buf_append_str(b, "\"accounts\":[");
        while ((a = account_next(j, a))) {
            json_write_string(b, slice_str(a->name));
            buf_append_str(b, ",");
        }
        b->ptr[b->len - 1] = ']';
        buf_append_str(b, "}");
        return;
    }
    while (!found && (a = account_next(j, a)))
        if (slice_eq_str(j->q.account, a->name))
            found = a;
    if (found) {
        struct account_sum s = account_sum(j, found);

        buf_append_str(b, "\"account_detail\":{");
        member(b, "account_name", slice_str(found->name));
        member_time(b, "update_time",
                    io_wall_ms(j->n->conf.io) -
                        (int64_t)(loop_now_ms(j->home->loop) - j->n->start_ms -
                                  atomic_load(&j->n->loaded_ms)));
        buf_printf(b, "\"is_system\":%s,", found == j->n->system ? "true" : "false");
        buf_append_str(b, "\"expired\":false,\"complete\":true,\"jetstream_enabled\":");
        buf_append_str(b, j->n->js_monitor ? "true," : "false,");
        buf_printf(b,
                   "\"leafnode_connections\":0,\"client_connections\":%" PRIu64
                   ",\"subscriptions\":%" PRIu64 "},",
                   s.conns, s.subs);
    }
    members_end(b);
}

/* ---- jobs ---- */

static void job_free(struct job *j)
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

static void answer(struct http_req *r, int status, struct slice body)
{
    struct http_hdr h[2] = {{SLICE_LIT("content-type"), SLICE_LIT("application/json")},
                            {SLICE_LIT("cache-control"), SLICE_LIT("no-store")}};

    http_reply(r, status, h, 2, body);
}

static void refuse(struct http_req *r, int status, const char *text)
{
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("text/plain; charset=utf-8")};

    http_reply(r, status, &h, 1, slice_str(text));
}

static void nquestion_refuse(struct nquestion *a, int status, const char *text)
{
    if (a->r)
        refuse(a->r, status, text);
    else
        nsys_refuse(a->l, a->account, a->reply, status, text);
}

static void on_back(struct loop_task *t)
{
    struct job *j = list_entry(t, struct part, back)->job;
    struct buf b;

    if (--j->waits)
        return;
    if (j->req || j->reply) {
        buf_init(&b, SIZE_MAX);
        j->done(j, &b);
        if (j->req)
            answer(j->req, 200, buf_slice(&b));
        else
            nsys_answer(j->home, j->account, slice_of(j->reply, j->reply_len), buf_slice(&b));
        buf_fini(&b);
    }
    job_free(j);
}

static void on_visit(struct loop_task *t)
{
    struct part *p = list_entry(t, struct part, task);

    p->job->visit(p);
    loop_post(p->job->home->loop, &p->back);
}

static void job_start(struct nats *n, struct nquestion *a, struct query *q,
                      void (*visit)(struct part *p), void (*done)(struct job *j, struct buf *b))
{
    unsigned i, loops = n->conf.loops_n;
    struct job *j;

    if (atomic_fetch_add(&n->monitor_jobs, 1) >= JOBS_MAX) {
        atomic_fetch_sub(&n->monitor_jobs, 1);
        free(q->text);
        nquestion_refuse(a, 503, "too many requests at a time\n");
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
        struct part *p = &j->parts[i];

        p->task.fn = on_visit;
        p->back.fn = on_back;
        p->job = j;
        p->l = &n->loops[i];
        buf_init(&p->text, TEXT_MOST);
        loop_post(p->l->loop, &p->task);
    }
}

/* ---- /varz and others that no loop is asked for ---- */

uint64_t nmonitor_memory(struct nats *n)
{
    char text[256], *end;
    struct io_file *f = NULL;
    size_t got = 0;

    if (io_open(n->conf.io, "/proc/self/statm", IO_RDONLY, &f, NULL))
        return 0;
    if (io_pread(f, text, sizeof text - 1, 0, &got, NULL))
        got = 0;
    io_close(&f);
    text[got] = '\0';
    strtoull(text, &end, 10); /* all of it, then what is in memory */
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Percent of one processor, since the server began. */
double nmonitor_processor(uint64_t uptime_ms)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) || !uptime_ms)
        return 0;
    return ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
            (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3) *
           100 / (double)uptime_ms;
}

static void varz_options(struct nats *n, struct buf *b)
{
    const struct nats_conf *c = &n->conf;

    if (nats_login_needed(&n->loops[0]))
        buf_append_str(b, "\"auth_required\":true,");
    if (c->tls)
        buf_append_str(b, "\"tls_required\":true,");
    member_n(b, "max_connections", c->conns_max);
    if (c->subs_max)
        member_n(b, "max_subscriptions", c->subs_max);
    member_n(b, "ping_interval", (uint64_t)c->ping_ms * 1000000);
    member_n(b, "ping_max", c->pings_lost);
    member(b, "http_host", slice_str(n->monitor_host));
    member_n(b, "http_port", n->monitor_port);
    buf_printf(b, "\"http_base_path\":\"\",\"https_port\":0,\"auth_timeout\":%.3f,",
               c->login_ms / 1e3);
    member_n(b, "max_control_line", NATS_LINE_MAX);
    member_n(b, "max_payload", c->payload_max);
    member_n(b, "max_pending", 64u << 20);
    buf_append_str(b, "\"cluster\":{},\"gateway\":{},\"leaf\":{},\"mqtt\":{},\"websocket\":{");
    if (n->ws_port) {
        buf_printf(b, "\"host\":\"%s\",\"port\":%u,", n->ws_host, n->ws_port);
        buf_printf(b, "\"no_tls\":%s,\"compression\":%s", c->tls ? "false" : "true",
                   c->ws_deflate ? "true" : "false");
    }
    buf_append_str(b, "},");
    buf_printf(b, "\"tls_timeout\":0,\"write_deadline\":%" PRIu64 ",",
               (uint64_t)c->send_ms * 1000000);
}

static void varz_counts(struct nats *n, struct buf *b)
{
    struct nats_sums s;
    static const char *const zero[] = {"routes", "remotes", "leafnodes"};
    unsigned i;

    nats_sums(n, &s);
    member_n(b, "connections", nats_open(n));
    member_n(b, "total_connections", atomic_load(&n->next_id));
    for (i = 0; i < 3; i++)
        member_n(b, zero[i], 0);
    member_n(b, "in_msgs", s.msgs_in);
    member_n(b, "in_bytes", s.bytes_in);
    member_n(b, "in_client_msgs", s.msgs_in);
    member_n(b, "in_client_bytes", s.bytes_in);
    member_n(b, "out_msgs", s.msgs_out);
    member_n(b, "out_bytes", s.bytes_out);
    member_n(b, "out_client_msgs", s.msgs_out);
    member_n(b, "out_client_bytes", s.bytes_out);
    member_n(b, "slow_consumers", s.slow);
    member_n(b, "stale_connections", s.stale);
    member_n(b, "stalled_clients", s.stalls);
    member_n(b, "subscriptions", s.subs);
    buf_printf(
        b,
        "\"slow_consumer_stats\":{\"clients\":%" PRIu64
        ",\"routes\":0,\"gateways\":0,\"leafs\":0},\"stale_connection_stats\":{\"clients\":%" PRIu64
        ",\"routes\":0,\"gateways\":0,\"leafs\":0},",
        s.slow, s.stale);
}

static void js_write(struct nats *n, struct buf *b, const struct njs_figures *f)
{
    (void)n;
    buf_printf(b,
               "\"memory\":%" PRIu64 ",\"storage\":%" PRIu64 ",\"reserved_memory\":%" PRIu64
               ",\"reserved_storage\":%" PRIu64 ",\"accounts\":%" PRIu64
               ",\"ha_assets\":0,\"api\":{\"level\":0,\"total\":%" PRIu64 ",\"errors\":%" PRIu64
               "}",
               f->memory, f->storage, f->reserved_memory, f->reserved_storage, f->accounts,
               f->api_total, f->api_errors);
}

static void js_config_write(struct buf *b, const struct njs_figures *f)
{
    buf_printf(b, "{\"max_memory\":%" PRId64 ",\"max_storage\":%" PRId64 ",\"store_dir\":",
               f->memory_max, f->storage_max);
    json_write_string(b, slice_str(f->store_dir ? f->store_dir : ""));
    buf_append_str(b, ",\"sync_interval\":0}");
}

static void varz(struct nats *n, struct nquestion *a, struct buf *b)
{
    int64_t now = io_wall_ms(n->conf.io);
    uint64_t up = io_mono_ns(n->conf.io) / 1000000 - n->start_ms;
    struct njs_figures f = {0};
    unsigned i;

    (void)a;
    buf_printf(b,
               "{\"server_id\":\"%s\",\"server_name\":\"weir\",\"version\":\"%s\",\"proto\":1,"
               "\"go\":\"\",",
               n->id, NATS_VERSION);
    member(b, "host", slice_str(n->host));
    member_n(b, "port", n->port);
    varz_options(n, b);
    buf_append_str(b, "\"jetstream\":{");
    if (n->js_monitor) {
        n->js_monitor->figures(n, NULL, &f);
        buf_append_str(b, "\"config\":");
        js_config_write(b, &f);
        buf_append_str(b, ",\"stats\":{");
        js_write(n, b, &f);
        buf_append_str(b, "}");
    }
    buf_append_str(b, "},");
    member_time(b, "start", now - (int64_t)up);
    member_time(b, "now", now);
    member_span(b, "uptime", up);
    member_n(b, "mem", nmonitor_memory(n));
    member_n(b, "cores", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    member_n(b, "gomaxprocs", n->conf.loops_n);
    buf_printf(b, "\"cpu\":%.1f,", nmonitor_processor(up));
    varz_counts(n, b);
    buf_append_str(b, "\"http_req_stats\":{");
    for (i = 0; i < NMONITOR_PATHS; i++)
        if (i)
            buf_printf(b, "\"%s\":%" PRIu64 ",", nmonitor_path(i),
                       (uint64_t)atomic_load(&n->monitor_asked[i]));
    members_end(b);
    buf_append_str(b, ",");
    member_time(b, "config_load_time", now - (int64_t)up + (int64_t)atomic_load(&n->loaded_ms));
    if (n->system)
        member(b, "system_account", slice_str(n->system->name));
    buf_append_str(b, "\"config_digest\":\"\"}");
}

static void routez(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    head(n, b);
    buf_append_str(b, "\"server_name\":\"weir\",\"num_routes\":0,\"routes\":[]}");
}

static void gatewayz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    head(n, b);
    buf_append_str(b, "\"outbound_gateways\":{},\"inbound_gateways\":{}}");
}

static void leafz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)a;
    head(n, b);
    buf_append_str(b, "\"leafnodes\":0,\"leafs\":[]}");
}

/* Without its end; what there is in all of JetStream, or an account of it. */
static void jsz_begin(struct nats *n, struct slice account, struct buf *b)
{
    struct njs_figures f = {0};

    head(n, b);
    if (n->js_monitor)
        n->js_monitor->figures(n, account.len ? &account : NULL, &f);
    else
        buf_append_str(b, "\"disabled\":true,");
    js_write(n, b, &f);
    buf_append_str(b, ",\"config\":");
    js_config_write(b, &f);
    buf_printf(b,
               ",\"streams\":%" PRIu64 ",\"consumers\":%" PRIu64 ",\"messages\":%" PRIu64
               ",\"bytes\":%" PRIu64 ",\"total\":%" PRIu64,
               f.streams, f.consumers, f.messages, f.bytes, f.accounts);
}

/* open: details are asked for; subs: of streams; detail: of their consumers; auth: configurations. */
static struct njs_query jsz_wish(const struct job *j)
{
    return (struct njs_query){j->q.account, j->q.subs,   j->q.detail,
                              j->q.auth,    j->q.offset, j->q.limit};
}

static void jsz_visit(struct part *p)
{
    struct njs_query q = jsz_wish(p->job);

    if (q.streams && p->job->n->js_monitor)
        p->job->n->js_monitor->visit(p->l, &q, &p->text);
}

static void jsz_done(struct job *j, struct buf *b)
{
    const struct buf **v = xcalloc(j->parts_n, sizeof *v);
    struct njs_query q = jsz_wish(j);
    unsigned i;

    for (i = 0; i < j->parts_n; i++)
        v[i] = &j->parts[i].text;
    jsz_begin(j->n, q.account, b);
    if (j->q.open && j->n->js_monitor) {
        buf_append_str(b, ",");
        j->n->js_monitor->details(j->n, &q, v, j->parts_n, b);
    }
    buf_append_str(b, "}");
    free(v);
}

static void healthz(struct nats *n, struct nquestion *a, struct buf *b)
{
    (void)n;
    (void)a;
    buf_append_str(b, "{\"status\":\"ok\",\"status_code\":200}");
}

/* ---- parameters ---- */

static bool flag(struct nquestion *a, const char *name, bool *out)
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

static bool number(struct nquestion *a, const char *name, uint64_t most, uint64_t *out)
{
    struct slice s = nquestion_param(a, name);
    size_t i;

    *out = 0;
    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || i > 18)
            return false;
        *out = *out * 10 + (s.ptr[i] - '0');
    }
    if (*out > most)
        *out = most;
    return true;
}

static bool sort_of(struct slice s, enum sort *out)
{
    static const char *const names[] = {"cid",       "start",    "subs",       "pending", "msgs_to",
                                        "msgs_from", "bytes_to", "bytes_from", "last",    "idle",
                                        "uptime",    "stop",     "reason",     "rtt"};
    unsigned i;

    *out = BY_CID;
    for (i = 0; i < SORTS; i++)
        if (slice_eq_str(s, names[i]))
            *out = (enum sort)i;
    return !s.len || *out != BY_CID || slice_eq_str(s, "cid");
}

static bool state_of(struct slice s, struct query *q)
{
    bool any = slice_eq_str(s, "any") || slice_eq_str(s, "all") || slice_eq_str(s, "ANY");

    q->closed = any || slice_eq_str(s, "closed") || slice_eq_str(s, "CLOSED");
    q->open = any || !s.len || slice_eq_str(s, "open") || slice_eq_str(s, "OPEN");
    return q->open || q->closed;
}

/* Copies what outlives the request. */
static void texts(struct query *q, struct slice user, struct slice account, struct slice filter)
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

/* What is wrong, or NULL. */
static const char *page_query(struct nquestion *a, struct query *q)
{
    uint64_t offset, limit;

    if (!number(a, "offset", 1u << 30, &offset) || !number(a, "limit", PAGE_MOST, &limit))
        return "Error decoding int for 'offset' or 'limit'\n";
    q->offset = (uint32_t)offset;
    q->limit = limit ? (uint32_t)limit : PAGE_LIMIT;
    return NULL;
}

static const char *connz_query(struct nquestion *a, struct query *q)
{
    struct slice filter = nquestion_param(a, "filter_subject");
    const char *wrong = page_query(a, q);

    q->detail = slice_eq_str(nquestion_param(a, "subs"), "detail");
    if (wrong)
        return wrong;
    if (!flag(a, "auth", &q->auth) || (!q->detail && !flag(a, "subs", &q->subs)))
        return "Error decoding boolean for 'auth' or 'subs'\n";
    if (!number(a, "cid", UINT64_MAX, &q->cid))
        return "Error decoding uint64 for 'cid'\n";
    if (!state_of(nquestion_param(a, "state"), q))
        return "Error decoding state\n";
    if (!sort_of(nquestion_param(a, "sort"), &q->sort))
        return "invalid sorting option\n";
    if ((q->sort == BY_STOP || q->sort == BY_REASON) && q->open)
        return "sort by stop or reason only valid on closed connections\n";
    if (filter.len && !subject_valid(filter))
        return "invalid subject\n";
    if (nquestion_param(a, "user").len && !q->auth)
        return "filter by user only valid with auth option\n";
    texts(q, nquestion_param(a, "user"), nquestion_param(a, "acc"), filter);
    return NULL;
}

static void connz(struct nats *n, struct nquestion *a)
{
    struct query q = {0};
    const char *wrong = connz_query(a, &q);

    if (wrong)
        nquestion_refuse(a, 400, wrong);
    else
        job_start(n, a, &q, connz_visit, connz_done);
}

static void subsz(struct nats *n, struct nquestion *a)
{
    struct slice test = nquestion_param(a, "test");
    struct query q = {0};
    const char *wrong = page_query(a, &q);

    if (!wrong && !flag(a, "subs", &q.subs))
        wrong = "Error decoding boolean for 'subs'\n";
    if (!wrong && test.len && !subject_literal(test))
        wrong = "invalid test subject, must be valid publish subject\n";
    if (wrong) {
        nquestion_refuse(a, 400, wrong);
        return;
    }
    texts(&q, SLICE_NULL, nquestion_param(a, "acc"), test);
    job_start(n, a, &q, subsz_visit, subsz_done);
}

static void jsz(struct nats *n, struct nquestion *a)
{
    struct query q = {0};
    const char *wrong = page_query(a, &q);

    if (!wrong && (!flag(a, "accounts", &q.open) || !flag(a, "streams", &q.subs) ||
                   !flag(a, "consumers", &q.detail) || !flag(a, "config", &q.auth)))
        wrong = "Error decoding boolean for 'accounts', 'streams', 'consumers' or 'config'\n";
    if (wrong) {
        nquestion_refuse(a, 400, wrong);
        return;
    }
    q.subs |= q.detail;
    q.open |= q.subs || nquestion_param(a, "acc").len;
    texts(&q, SLICE_NULL, nquestion_param(a, "acc"), SLICE_NULL);
    job_start(n, a, &q, jsz_visit, jsz_done);
}

static void accounts(struct nats *n, struct nquestion *a,
                     void (*done)(struct job *j, struct buf *b))
{
    struct query q = {0};

    if (!flag(a, "unused", &q.subs)) {
        nquestion_refuse(a, 400, "Error decoding boolean for 'unused'\n");
        return;
    }
    texts(&q, SLICE_NULL, nquestion_param(a, "acc"), SLICE_NULL);
    job_start(n, a, &q, accounts_visit, done);
}

static void accountz(struct nats *n, struct nquestion *a)
{
    accounts(n, a, accountz_done);
}

static void accstatz(struct nats *n, struct nquestion *a)
{
    accounts(n, a, accstatz_done);
}

/* ---- the listener ---- */

static const struct {
    const char *path;
    void (*page)(struct nats *n, struct nquestion *a, struct buf *b);
    void (*start)(struct nats *n, struct nquestion *a);
} pages[NMONITOR_PATHS] = {
    {"/", NULL, NULL},         {"/varz", varz, NULL},         {"/connz", NULL, connz},
    {"/routez", routez, NULL}, {"/gatewayz", gatewayz, NULL}, {"/leafz", leafz, NULL},
    {"/subsz", NULL, subsz},   {"/accountz", NULL, accountz}, {"/accstatz", NULL, accstatz},
    {"/jsz", NULL, jsz},       {"/healthz", healthz, NULL},
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
    buf_init(&b, TEXT_MOST);
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
        refuse(r, 404, "404 page not found\n");
        return;
    }
    if (http_method(r) != HTTP_GET && http_method(r) != HTTP_HEAD) {
        refuse(r, 405, "only GET is known here\n");
        return;
    }
    atomic_fetch_add(&n->monitor_asked[i], 1);
    if (i == 0) {
        index_page(r);
    } else if (pages[i].start) {
        pages[i].start(n, &a);
    } else {
        buf_init(&b, TEXT_MOST);
        pages[i].page(n, &a, &b);
        answer(r, 200, buf_slice(&b));
        buf_fini(&b);
    }
}

static void on_close(void *ctx, unsigned loop, struct http_req *r)
{
    struct job *j = http_user(r);

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
