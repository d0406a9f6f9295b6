/* What the files of monitoring know of each other. See nats_int.h.
 *
 *   monitor.c           the listener, and a table of the pages
 *   monitor_ask.c       questions, over HTTP or as messages: their options by one name
 *   monitor_job.c       going to all loops for an answer; what several pages' options are
 *   monitor_conns.c     /connz, /subsz
 *   monitor_accounts.c  /accountz, /accstatz
 *   monitor_server.c    /varz, /jsz, /healthz, and those of clusters, which are empty
 *   monitor_text.c      members of JSON objects
 *
 * What is asked of connections only their loops know: a request becomes a job that visits all loops,
 * and is answered on its own loop when the last one is back. Each loop finds what matches, sorts it
 * and writes down as many as could be on the page that is asked for, so the work for a page is
 * bounded by offset and limit, but for looking at all once. Jobs under way have a limit, too.
 *
 * Threads: a job's part is of the loop that it visits; the rest of the job of the loop that asks. */
#ifndef WEIR_PROTO_NATS_MONITOR_INT_H
#define WEIR_PROTO_NATS_MONITOR_INT_H

#include <inttypes.h>

#include "base/json_write.h"
#include "proto/nats/nats_int.h"

#define NMON_TEXT_MOST (64u << 20) /* bytes that a loop writes for one answer */

enum nmon_sort {
    NMON_BY_CID,
    NMON_BY_START,
    NMON_BY_SUBS,
    NMON_BY_PENDING,
    NMON_BY_OUT_MSGS,
    NMON_BY_IN_MSGS,
    NMON_BY_OUT_BYTES,
    NMON_BY_IN_BYTES,
    NMON_BY_LAST,
    NMON_BY_IDLE,
    NMON_BY_UPTIME,
    NMON_BY_STOP,
    NMON_BY_REASON,
    NMON_BY_RTT,
    NMON_SORTS
};

struct nmon_query {
    enum nmon_sort sort;
    bool open, closed;       /* connections */
    bool auth, subs, detail; /* what is told of them */
    uint64_t cid;
    uint32_t offset, limit;
    struct slice user, account, filter; /* null: any; in `text` */
    char *text;
};

struct nmon_entry {
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

struct nmon_sum {
    uint64_t conns, subs, in_msgs, in_bytes, out_msgs, out_bytes;
};

struct nmon_job;
struct nmon_part {
    struct loop_task task, back;
    struct nmon_job *job;
    struct nloop *l;
    struct nmon_entry *v;
    uint32_t n, cap, total;
    struct buf text;
    struct nmon_sum *sums;
};

struct nmon_job {
    struct nats *n;
    struct nloop *home;
    struct http_req *req; /* NULL: it is gone, or a message asked */
    uint8_t *reply;       /* of that one; NULL: none */
    size_t reply_len;
    struct naccount *account; /* where it goes */
    struct nmon_query q;
    void (*visit)(struct nmon_part *p);
    void (*done)(struct nmon_job *j, struct buf *out);
    uint32_t accounts_n;
    unsigned waits, parts_n;
    struct nmon_part parts[];
};

/* ---- monitor_job.c ---- */

/* Goes to all loops: visit is called on each, with its part, then done on the one that asks, which
 * writes the answer. Takes q's text. */
void nmon_job_start(struct nats *n, struct nquestion *a, struct nmon_query *q,
                    void (*visit)(struct nmon_part *p),
                    void (*done)(struct nmon_job *j, struct buf *b));
struct nmon_entry *nmon_entry_add(struct nmon_part *p);
/* For qsort: by key, then by number. */
int nmon_entry_order(const void *a, const void *b);
/* How many entries of one loop may be on the page. */
uint32_t nmon_page_end(const struct nmon_query *q);
/* The loops' entries, in order, the page of them written as a list. Answers how many are on it. */
uint32_t nmon_page_write(struct nmon_job *j, struct buf *b, uint32_t *total);
void nmon_reply(struct http_req *r, int status, struct slice body);
void nmon_refuse_http(struct http_req *r, int status, const char *text);
void nmon_refuse(struct nquestion *a, int status, const char *text);
/* Options. False: it is none. */
bool nmon_flag(struct nquestion *a, const char *name, bool *out);
bool nmon_number(struct nquestion *a, const char *name, uint64_t most, uint64_t *out);
/* offset and limit; what is wrong, or NULL. */
const char *nmon_page_query(struct nquestion *a, struct nmon_query *q);
/* Copies what outlives the request. */
void nmon_texts(struct nmon_query *q, struct slice user, struct slice account, struct slice filter);

/* ---- monitor_text.c ---- */

/* "name":value, with a comma. */
void nmon_member(struct buf *b, const char *name, struct slice value);
void nmon_member_n(struct buf *b, const char *name, uint64_t v);
/* Milliseconds since 1970. */
void nmon_member_time(struct buf *b, const char *name, int64_t ms);
/* How long something took, or takes. */
void nmon_member_span(struct buf *b, const char *name, uint64_t ms);
void nmon_member_us(struct buf *b, const char *name, uint64_t us);
/* The comma behind the last member becomes the end. */
void nmon_members_end(struct buf *b);
/* What all pages begin with. */
void nmon_head(struct nats *n, struct buf *b);

/* ---- pages: those that visit loops, and those that need not ---- */

void nmon_connz(struct nats *n, struct nquestion *a);
void nmon_subsz(struct nats *n, struct nquestion *a);
void nmon_accountz(struct nats *n, struct nquestion *a);
void nmon_accstatz(struct nats *n, struct nquestion *a);
void nmon_jsz(struct nats *n, struct nquestion *a);
void nmon_varz(struct nats *n, struct nquestion *a, struct buf *b);
void nmon_routez(struct nats *n, struct nquestion *a, struct buf *b);
void nmon_gatewayz(struct nats *n, struct nquestion *a, struct buf *b);
void nmon_leafz(struct nats *n, struct nquestion *a, struct buf *b);
void nmon_healthz(struct nats *n, struct nquestion *a, struct buf *b);

#endif
