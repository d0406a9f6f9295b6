/* Shared by the tests of producers and transactions: batches made by hand, sent in one append or
 * several, and the calls about transactions as if they were synchronous. Without threads. */
#ifndef WEIR_TESTS_BROKER_PRODUCE_H
#define WEIR_TESTS_BROKER_PRODUCE_H

#include "fixture.h"

#include "broker/broker_int.h"
#include "broker/transaction.h"
#include "io/io_int.h"
#include "journal/batch.h"

/* The real files, with no room for new ones on demand. */
static struct io_ops pr_ops;
static struct io pr_io;
static bool pr_no_room;

static inline enum err pr_open(struct io *io, const char *path, unsigned flags,
                               struct io_file **out, struct errinfo *info)
{
    enum err e;

    if (pr_no_room && flags & IO_CREATE)
        return errinfo_set(info, ERR_NO_SPACE, "no room (told so)");
    e = io_real()->ops->open(io_real(), path, flags, out, info);
    if (!e)
        (*out)->ops = &pr_ops;
    return e;
}

static inline enum err pr_rename(struct io *io, const char *from, const char *to,
                                 struct errinfo *info)
{
    if (pr_no_room)
        return errinfo_set(info, ERR_NO_SPACE, "no room (told so)");
    return io_real()->ops->rename(io_real(), from, to, info);
}

/* A broker with small files whose disk can be full. */
static inline void pr_start_full(struct fx *f)
{
    pr_ops = *io_real()->ops;
    pr_ops.open = pr_open;
    pr_ops.rename = pr_rename;
    pr_io.ops = &pr_ops;
    pr_no_room = false;
    fx_start(f, false);
    fx_end(f); /* begin anew with small files */
    f->conf.io = &pr_io;
    f->conf.journal_file_bytes = 64u << 10;
    fx_open(f);
}

struct batch_of {
    int64_t id; /* producer */
    int16_t epoch;
    int32_t sequence;
    int32_t records;
    bool txn;
    const char *value; /* of each record */
};

static inline struct batch_of pb(int64_t id, int16_t epoch, int32_t sequence, int32_t records)
{
    return (struct batch_of){id, epoch, sequence, records, false, "v"};
}

static inline struct batch_of with(struct batch_of b, const char *value)
{
    b.value = value;
    return b;
}

/* A record of a transaction. */
static inline struct batch_of tb(int64_t id, int16_t epoch, int32_t sequence, const char *value)
{
    return (struct batch_of){id, epoch, sequence, 1, true, value};
}

#define SENT_MAX 16

/* An append of batches made by hand: being put together, in flight or done. */
struct sent {
    struct append *a;
    struct append_slot slot[SENT_MAX];
    struct batch_builder bb[SENT_MAX]; /* an append borrows its batches until it is submitted */
    int n, calls;
    enum err e;
    int order; /* in which it was answered */
};

static int pr_answers; /* counts */

static inline void pr_done(struct append *a, void *arg, enum err e)
{
    struct sent *s = arg;

    s->calls++;
    s->e = e;
    s->order = ++pr_answers;
}

static inline void pr_begin(struct fx *f, struct sent *s)
{
    memset(s, 0, sizeof *s);
    s->a = append_new(f->b, pr_done, s);
}

static inline void pr_add(struct sent *s, struct partition *p, struct batch_of b)
{
    struct batch_builder *bb = &s->bb[s->n];
    struct errinfo info = {0};
    struct slice bytes;
    int32_t i;

    assert_true(s->n < SENT_MAX);
    batch_builder_init(bb, CODEC_NONE, 1u << 20);
    for (i = 0; i < b.records; i++)
        assert_int_equal(batch_builder_add(bb, 1700000000000 + b.sequence, SLICE_NULL,
                                           slice_str(b.value), NULL, 0, NULL),
                         ERR_OK);
    assert_int_equal(batch_builder_finish(bb, b.txn ? BATCH_TRANSACTIONAL : 0, b.id, b.epoch,
                                          b.sequence, &bytes),
                     ERR_OK);
    if (append_batch(s->a, p, bytes, &s->slot[s->n++], &info))
        fail_msg("append_batch: %s", info.text);
}

/* The outcome of the i-th batch. */
static inline enum err pr_place(const struct sent *s, int i, struct append_place *at)
{
    struct append_place here;

    return append_place(s->a, s->slot[i], at ? at : &here);
}

static inline void pr_free(struct sent *s)
{
    int i;

    append_free(&s->a);
    for (i = 0; i < s->n; i++)
        batch_builder_fini(&s->bb[i]);
}

/* Hands one batch in and does not wait. starts: it may begin its transaction. */
static inline void pr_send(struct fx *f, struct sent *s, struct partition *p, struct batch_of b)
{
    struct errinfo info = {0};

    pr_begin(f, s);
    append_txn_starts(s->a);
    pr_add(s, p, b);
    if (append_submit(s->a, true, &info))
        fail_msg("append_submit: %s", info.text);
}

/* Writes one batch; its own outcome. at may be NULL. */
static inline enum err pr_put(struct fx *f, struct partition *p, struct batch_of b,
                              struct append_place *at)
{
    struct sent s;
    enum err e;

    pr_send(f, &s, p, b);
    while (s.calls == 0)
        broker_step(f->b);
    assert_int_equal(s.calls, 1);
    e = s.e ? s.e : pr_place(&s, 0, at);
    pr_free(&s);
    return e;
}

/* It is written now, at this offset. */
#define assert_put(f, p, offset_, ...)                                 \
    do {                                                               \
        struct append_place at_ = {0};                                 \
        assert_int_equal(pr_put(f, p, pb(__VA_ARGS__), &at_), ERR_OK); \
        assert_false(at_.duplicate);                                   \
        assert_int_equal(at_.offset, offset_);                         \
    } while (0)
/* It was written before, at this offset. */
#define assert_dup(f, p, offset_, ...)                                 \
    do {                                                               \
        struct append_place at_ = {0};                                 \
        assert_int_equal(pr_put(f, p, pb(__VA_ARGS__), &at_), ERR_OK); \
        assert_true(at_.duplicate);                                    \
        assert_int_equal(at_.offset, offset_);                         \
    } while (0)
#define assert_refused(f, p, e_, ...) assert_int_equal(pr_put(f, p, pb(__VA_ARGS__), NULL), e_)

static inline int64_t pr_end(struct partition *p)
{
    struct plog_info now;

    plog_info_get(partition_log(p), &now);
    return now.end_offset;
}

/* Whether the metrics have this line. */
static inline void pr_metric(struct fx *f, const char *line)
{
    char want[128];
    struct buf o;

    buf_init(&o, 1u << 20);
    snprintf(want, sizeof want, "\n%s\n", line);
    assert_int_equal(broker_metrics(f->b, &o), ERR_OK);
    assert_int_equal(buf_append_u8(&o, 0), ERR_OK);
    if (!strstr((const char *)o.ptr, want))
        fail_msg("no %s in %s", line, (const char *)o.ptr);
    buf_fini(&o);
}

/* Fills the open journal file, so that the next frame needs a new one. */
static inline void pr_fill(struct fx *f)
{
    static char big[40000];
    struct append_record r = {.timestamp_ms = -1, .value = slice_of(big, sizeof big)};
    struct topic *t = fx_topic(f, "fill", 1);
    struct append *a = append_new(f->b, NULL, NULL);

    assert_int_equal(append_record(a, t, 0, &r, NULL, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    topic_unref(&t);
}

/* The disk has room again: tries until the log takes writes. */
static inline void pr_room_again(struct fx *f)
{
    int i;

    pr_no_room = false;
    for (i = 0; i < 1500 && broker_writable(f->b, NULL); i++) {
        usleep(20000);
        kv_put_wait(f->b, "ns", SLICE_LIT("try"), SLICE_LIT("v"), 0, NULL);
    }
    assert_int_equal(broker_writable(f->b, NULL), ERR_OK);
}

#endif
