/* /accountz, /accstatz: what is there by account. See monitor_int.h. */
#include "base/mem.h"
#include "io/io.h"
#include "proto/nats/monitor_int.h"

static void accounts_visit(struct nmon_part *p)
{
    struct list_node *at;

    p->sums = xcalloc(p->job->accounts_n, sizeof *p->sums);
    for (at = p->l->conns.node.next; at != &p->l->conns.node; at = at->next) {
        const struct nconn *c = list_entry(at, struct nconn, all);
        struct nmon_sum *s;

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

static struct nmon_sum account_sum(const struct nmon_job *j, const struct naccount *a)
{
    struct nmon_sum s = {.in_msgs = atomic_load(&a->gone_in_msgs),
                         .in_bytes = atomic_load(&a->gone_in_bytes),
                         .out_msgs = atomic_load(&a->gone_out_msgs),
                         .out_bytes = atomic_load(&a->gone_out_bytes)};
    unsigned k;

    for (k = 0; k < j->parts_n; k++) {
        const struct nmon_sum *p = &j->parts[k].sums[a->index];

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
static const struct naccount *account_next(const struct nmon_job *j, const struct naccount *a)
{
    a = a ? atomic_load_explicit(&a->next, memory_order_acquire) : j->n->accounts;
    return a && a->index < j->accounts_n ? a : NULL;
}

static void accstatz_done(struct nmon_job *j, struct buf *b)
{
    const struct naccount *a = NULL;
    const char *comma = "";

    nmon_head(j->n, b);
    buf_append_str(b, "\"account_statz\":[");
    while ((a = account_next(j, a))) {
        struct nmon_sum s = account_sum(j, a);

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

static void accountz_done(struct nmon_job *j, struct buf *b)
{
    const struct naccount *a = NULL, *found = NULL;

    nmon_head(j->n, b);
    if (j->n->system)
        nmon_member(b, "system_account", slice_str(j->n->system->name));
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
        struct nmon_sum s = account_sum(j, found);

        buf_append_str(b, "\"account_detail\":{");
        nmon_member(b, "account_name", slice_str(found->name));
        nmon_member_time(b, "update_time",
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
    nmon_members_end(b);
}

static void accounts(struct nats *n, struct nquestion *a,
                     void (*done)(struct nmon_job *j, struct buf *b))
{
    struct nmon_query q = {0};

    if (!nmon_flag(a, "unused", &q.subs)) {
        nmon_refuse(a, 400, "Error decoding boolean for 'unused'\n");
        return;
    }
    nmon_texts(&q, SLICE_NULL, nquestion_param(a, "acc"), SLICE_NULL);
    nmon_job_start(n, a, &q, accounts_visit, done);
}

void nmon_accountz(struct nats *n, struct nquestion *a)
{
    accounts(n, a, accountz_done);
}

void nmon_accstatz(struct nats *n, struct nquestion *a)
{
    accounts(n, a, accstatz_done);
}
