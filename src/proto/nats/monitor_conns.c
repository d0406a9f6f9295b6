/* /connz, /subsz: connections and subscriptions, as their loops know them. See monitor_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/subject.h"
#include "io/io.h"
#include "proto/nats/monitor_int.h"

#define SUBS_SEEN 262144u      /* subscriptions that a loop looks at for one answer */
#define ROOM      (256u << 10) /* more than a connection or a subscription takes, without a list */

/* What has no room any more is not told, rather than half of it. */
static bool has_room(const struct buf *b)
{
    return b->max - b->len > ROOM;
}

/* ---- texts ---- */

static void subs_write(struct buf *b, struct nconn *c, bool detail)
{
    uint32_t at = 0, seen = 0;
    void *v;

    if (!c->subs.n || !has_room(b))
        return;
    buf_append_str(b, detail ? "\"subscriptions_list_detail\":[" : "\"subscriptions_list\":[");
    while (seen++ < SUBS_SEEN && map_next(&c->subs, &at, NULL, &v)) {
        const struct nsub *s = v;

        if (detail)
            nmonitor_sub(b, s, c);
        else
            json_write_string(b, s->in.subject);
        buf_append_str(b, ",");
        if (!has_room(b))
            break;
    }
    b->ptr[b->len - 1] = ']';
    buf_append_str(b, ",");
}

void nmonitor_sub(struct buf *b, const struct nsub *s, const struct nconn *c)
{
    buf_append_str(b, "{");
    nmon_member(b, "account", slice_str(c->account->name));
    nmon_member(b, "subject", s->in.subject);
    if (s->in.queue.len)
        nmon_member(b, "qgroup", s->in.queue);
    nmon_member(b, "sid", s->sid);
    nmon_member_n(b, "msgs", s->delivered);
    if (s->max)
        nmon_member_n(b, "max", s->max);
    nmon_member_n(b, "cid", c->id);
    nmon_members_end(b);
}

/* All but what depends on when it is asked. */
static void conn_write(struct buf *b, const struct nconn *c, uint64_t now_ms, int64_t wall_ms)
{
    struct naddress a;
    uint64_t rtt = nconn_rtt_us(c);

    nconn_address(c, &a);
    buf_append_str(b, "{");
    nmon_member_n(b, "cid", c->id);
    nmon_member(b, "kind", SLICE_LIT("Client"));
    nmon_member(b, "type", c->ws ? SLICE_LIT("websocket") : SLICE_LIT("nats"));
    nmon_member(b, "ip", slice_str(a.ip));
    nmon_member_n(b, "port", a.port);
    nmon_member_time(b, "start", wall_ms - (int64_t)(now_ms - c->start_ms));
    nmon_member_time(b, "last_activity", wall_ms - (int64_t)(now_ms - c->heard_ms));
    if (rtt)
        nmon_member_us(b, "rtt", rtt);
    nmon_member_span(b, "uptime", now_ms - c->start_ms);
    nmon_member_span(b, "idle", now_ms - c->heard_ms);
    nmon_member_n(b, "pending_bytes", c->c ? conn_queued(c->c) : 0);
    nmon_member_n(b, "in_msgs", c->in_msgs);
    nmon_member_n(b, "out_msgs", c->out_msgs);
    nmon_member_n(b, "in_bytes", c->in_bytes);
    nmon_member_n(b, "out_bytes", c->out_bytes);
    nmon_member_n(b, "subscriptions", c->subs.n);
    if (c->client) {
        static const char *const names[] = {"name", "lang", "version"};
        const char *at = c->client;
        unsigned i;

        for (i = 0; i < 3; i++, at += strlen(at) + 1)
            if (*at)
                nmon_member(b, names[i], slice_str(at));
    }
}

static void open_write(struct nmon_part *p, const struct nconn *c)
{
    const struct nmon_query *q = &p->job->q;
    struct buf *b = &p->text;

    conn_write(b, c, loop_now_ms(p->l->loop), io_wall_ms(p->l->n->conf.io));
    if (q->auth && c->connected) {
        struct slice who = nats_login_name(c);

        if (who.len)
            nmon_member(b, "authorized_user", who);
        nmon_member(b, "account", slice_str(c->account->name));
    }
    if (q->subs || q->detail)
        subs_write(b, (struct nconn *)(uintptr_t)c, q->detail); /* only read */
    nmon_members_end(b);
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
    nmon_member_time(&b, "stop", io_wall_ms(l->n->conf.io));
    nmon_member(&b, "reason", slice_str(nend_reason(c->why)));
    k->text_len = b.len;
    if (c->connected) {
        if (who.len)
            nmon_member(&b, "authorized_user", who);
        nmon_member(&b, "account", slice_str(c->account->name));
    }
    k->all_len = b.len;
    k->user_len = (uint32_t)(who.len < sizeof k->user ? who.len : sizeof k->user);
    if (k->user_len)
        memcpy(k->user, who.ptr, k->user_len);
    k->text = (char *)buf_take(&b, &k->all_len);
}

/* ---- connections ---- */

static int64_t key_of(enum nmon_sort sort, const struct nmon_entry *e, uint64_t now_ms)
{
    const struct nconn *c = e->is_closed ? NULL : e->c;
    const struct nclosed *k = e->is_closed ? e->closed : NULL;

    switch (sort) {
    case NMON_BY_SUBS:
        return -(int64_t)(c ? c->subs.n : k->subs);
    case NMON_BY_PENDING:
        return c ? -(int64_t)conn_queued(c->c) : 0;
    case NMON_BY_OUT_MSGS:
        return -(int64_t)(c ? c->out_msgs : k->out_msgs);
    case NMON_BY_IN_MSGS:
        return -(int64_t)(c ? c->in_msgs : k->in_msgs);
    case NMON_BY_OUT_BYTES:
        return -(int64_t)(c ? c->out_bytes : k->out_bytes);
    case NMON_BY_IN_BYTES:
        return -(int64_t)(c ? c->in_bytes : k->in_bytes);
    case NMON_BY_LAST:
        return -(int64_t)(c ? c->heard_ms : k->last_ms);
    case NMON_BY_IDLE:
        return (int64_t)(c ? c->heard_ms : k->last_ms);
    case NMON_BY_UPTIME:
        return -(int64_t)(c ? now_ms - c->start_ms : k->stop_ms - k->start_ms);
    case NMON_BY_STOP:
        return k ? -(int64_t)k->stop_ms : 0;
    case NMON_BY_REASON:
        return k ? (int64_t)k->why : 0;
    case NMON_BY_RTT:
        return c ? -(int64_t)nconn_rtt_us(c) : 0;
    default:
        return (int64_t)(c ? c->id : k->cid); /* they are given in the order of their beginnings */
    }
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

static bool wanted(const struct nmon_query *q, uint64_t cid, const struct naccount *a,
                   struct slice user)
{
    return (!q->cid || q->cid == cid) && (!q->user.ptr || slice_eq(user, q->user)) &&
           (!q->account.ptr || slice_eq_str(q->account, a->name));
}

static void connz_visit(struct nmon_part *p)
{
    const struct nmon_query *q = &p->job->q;
    uint64_t now = loop_now_ms(p->l->loop);
    struct list_node *at;
    struct nmon_entry *e;
    uint32_t i;

    for (at = p->l->conns.node.next; q->open && at != &p->l->conns.node; at = at->next) {
        struct nconn *c = list_entry(at, struct nconn, all);

        if (!wanted(q, c->id, c->account, nats_login_name(c)) ||
            (q->filter.ptr && !takes(c, q->filter)))
            continue;
        e = nmon_entry_add(p);
        e->c = c;
        e->cid = c->id;
    }
    for (i = 0; q->closed && p->l->closed && i < NATS_CLOSED; i++) {
        const struct nclosed *k = &p->l->closed[i];

        if (!k->text || q->filter.ptr ||
            !wanted(q, k->cid, k->account, slice_of(k->user, k->user_len)))
            continue;
        e = nmon_entry_add(p);
        e->closed = k;
        e->cid = k->cid;
        e->is_closed = true;
    }
    p->total = p->n;
    for (i = 0; i < p->n; i++)
        p->v[i].key = key_of(q->sort, &p->v[i], now);
    if (p->n)
        qsort(p->v, p->n, sizeof *p->v, nmon_entry_order);
    if (p->n > nmon_page_end(q))
        p->n = nmon_page_end(q);
    for (i = 0; i < p->n; i++) {
        size_t from = p->text.len;

        if (!has_room(&p->text)) {
            p->n = i;
        } else if (p->v[i].is_closed) {
            const struct nclosed *k = p->v[i].closed;

            buf_append(&p->text, k->text, q->auth ? k->all_len : k->text_len);
            nmon_members_end(&p->text);
        } else {
            open_write(p, p->v[i].c);
        }
        p->v[i].at = from;
        p->v[i].len = p->text.len - from;
    }
}

static void connz_done(struct nmon_job *j, struct buf *b)
{
    struct buf list;
    uint32_t n, total;

    buf_init(&list, SIZE_MAX);
    n = nmon_page_write(j, &list, &total);
    nmon_head(j->n, b);
    buf_printf(b,
               "\"num_connections\":%u,\"total\":%u,\"offset\":%u,\"limit\":%u,\"connections\":", n,
               total, j->q.offset, j->q.limit);
    buf_append_slice(b, buf_slice(&list));
    buf_append_str(b, "}");
    buf_fini(&list);
}

static bool sort_of(struct slice s, enum nmon_sort *out)
{
    static const char *const names[] = {"cid",       "start",    "subs",       "pending", "msgs_to",
                                        "msgs_from", "bytes_to", "bytes_from", "last",    "idle",
                                        "uptime",    "stop",     "reason",     "rtt"};
    unsigned i;

    *out = NMON_BY_CID;
    for (i = 0; i < NMON_SORTS; i++)
        if (slice_eq_str(s, names[i]))
            *out = (enum nmon_sort)i;
    return !s.len || *out != NMON_BY_CID || slice_eq_str(s, "cid");
}

static bool state_of(struct slice s, struct nmon_query *q)
{
    bool any = slice_eq_str(s, "any") || slice_eq_str(s, "all") || slice_eq_str(s, "ANY");

    q->closed = any || slice_eq_str(s, "closed") || slice_eq_str(s, "CLOSED");
    q->open = any || !s.len || slice_eq_str(s, "open") || slice_eq_str(s, "OPEN");
    return q->open || q->closed;
}

static const char *connz_query(struct nquestion *a, struct nmon_query *q)
{
    struct slice filter = nquestion_param(a, "filter_subject");
    const char *wrong = nmon_page_query(a, q);

    q->detail = slice_eq_str(nquestion_param(a, "subs"), "detail");
    if (wrong)
        return wrong;
    if (!nmon_flag(a, "auth", &q->auth) || (!q->detail && !nmon_flag(a, "subs", &q->subs)))
        return "Error decoding boolean for 'auth' or 'subs'\n";
    if (!nmon_number(a, "cid", UINT64_MAX, &q->cid))
        return "Error decoding uint64 for 'cid'\n";
    if (!state_of(nquestion_param(a, "state"), q))
        return "Error decoding state\n";
    if (!sort_of(nquestion_param(a, "sort"), &q->sort))
        return "invalid sorting option\n";
    if ((q->sort == NMON_BY_STOP || q->sort == NMON_BY_REASON) && q->open)
        return "sort by stop or reason only valid on closed connections\n";
    if (filter.len && !subject_valid(filter))
        return "invalid subject\n";
    if (nquestion_param(a, "user").len && !q->auth)
        return "filter by user only valid with auth option\n";
    nmon_texts(q, nquestion_param(a, "user"), nquestion_param(a, "acc"), filter);
    return NULL;
}

void nmon_connz(struct nats *n, struct nquestion *a)
{
    struct nmon_query q = {0};
    const char *wrong = connz_query(a, &q);

    if (wrong)
        nmon_refuse(a, 400, wrong);
    else
        nmon_job_start(n, a, &q, connz_visit, connz_done);
}

/* ---- subscriptions ---- */

static void subsz_of(struct nmon_part *p, struct nconn *c, uint32_t *seen)
{
    const struct nmon_query *q = &p->job->q;
    uint32_t at = 0;
    void *v;

    while (*seen < SUBS_SEEN && map_next(&c->subs, &at, NULL, &v)) {
        const struct nsub *s = v;
        struct nmon_entry *e;

        ++*seen;
        if (q->filter.ptr && !subject_match(s->in.subject, q->filter))
            continue;
        p->total++;
        if (p->n >= nmon_page_end(q) || !has_room(&p->text))
            continue;
        e = nmon_entry_add(p);
        e->key = (int64_t)c->id;
        e->cid = p->total;
        e->at = p->text.len;
        nmonitor_sub(&p->text, s, c);
        e->len = p->text.len - e->at;
    }
}

static void subsz_visit(struct nmon_part *p)
{
    const struct nmon_query *q = &p->job->q;
    struct list_node *at;
    uint32_t seen = 0;

    for (at = p->l->conns.node.next; at != &p->l->conns.node; at = at->next) {
        struct nconn *c = list_entry(at, struct nconn, all);

        if (!q->account.ptr || slice_eq_str(q->account, c->account->name))
            subsz_of(p, c, &seen);
    }
}

static void subsz_done(struct nmon_job *j, struct buf *b)
{
    struct buf list;
    uint32_t total;
    struct nloop *l;
    uint64_t subs = 0;

    for (l = j->n->loops; l < j->n->loops + j->n->conf.loops_n; l++)
        subs += atomic_load_explicit(&l->subs, memory_order_relaxed);
    nmon_head(j->n, b);
    buf_printf(b,
               "\"num_subscriptions\":%" PRIu64
               ",\"num_cache\":0,\"num_inserts\":0,\"num_removes\":0,"
               "\"num_matches\":0,\"cache_hit_rate\":0,\"max_fanout\":0,\"avg_fanout\":0,",
               subs);
    buf_init(&list, SIZE_MAX);
    (void)nmon_page_write(j, &list, &total);
    buf_printf(b, "\"total\":%u,\"offset\":%u,\"limit\":%u", j->q.subs ? total : 0, j->q.offset,
               j->q.limit);
    if (j->q.subs) {
        buf_append_str(b, ",\"subscriptions_list\":");
        buf_append_slice(b, buf_slice(&list));
    }
    buf_append_str(b, "}");
    buf_fini(&list);
}

void nmon_subsz(struct nats *n, struct nquestion *a)
{
    struct slice test = nquestion_param(a, "test");
    struct nmon_query q = {0};
    const char *wrong = nmon_page_query(a, &q);

    if (!wrong && !nmon_flag(a, "subs", &q.subs))
        wrong = "Error decoding boolean for 'subs'\n";
    if (!wrong && test.len && !subject_literal(test))
        wrong = "invalid test subject, must be valid publish subject\n";
    if (wrong) {
        nmon_refuse(a, 400, wrong);
        return;
    }
    nmon_texts(&q, SLICE_NULL, nquestion_param(a, "acc"), test);
    nmon_job_start(n, a, &q, subsz_visit, subsz_done);
}
