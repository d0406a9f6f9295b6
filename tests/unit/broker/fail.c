/* Failed writes: what was not made durable must not show, must be answered as failed, and, where
 * the failure passes (a full disk), must be possible again. The real files, with writes that fail
 * on demand. */
#include "fixture.h"

#include "broker/broker_int.h"
#include "io/io_int.h"

static struct io_ops ops;
static struct io failing;
static bool fail_write, fail_room;

static enum err my_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                        struct errinfo *info)
{
    enum err e;

    if (fail_room && flags & IO_CREATE)
        return errinfo_set(info, ERR_NO_SPACE, "no room (told so)");
    e = io_real()->ops->open(io_real(), path, flags, out, info);
    if (!e)
        (*out)->ops = &ops;
    return e;
}

static enum err my_pwrite(struct io_file *f, const void *buf, size_t n, uint64_t off, bool durable,
                          struct errinfo *info)
{
    if (fail_write)
        return errinfo_set(info, ERR_IO, "write failed (told so)");
    return io_real()->ops->pwrite(f, buf, n, off, durable, info);
}

static enum err my_rename(struct io *io, const char *from, const char *to, struct errinfo *info)
{
    if (fail_room)
        return errinfo_set(info, ERR_NO_SPACE, "no room (told so)");
    return io_real()->ops->rename(io_real(), from, to, info);
}

static void start(struct fx *f)
{
    ops = *io_real()->ops;
    ops.open = my_open;
    ops.pwrite = my_pwrite;
    ops.rename = my_rename;
    failing.ops = &ops;
    fail_write = fail_room = false;
    fx_start(f, false);
    fx_end(f); /* begin anew with small files */
    f->conf.io = &failing;
    f->conf.journal_file_bytes = 64u << 10;
    fx_open(f);
}

struct outcome {
    int calls;
    enum err e;
    char text[256];
};

static void note(void *arg, enum err e, const struct errinfo *info)
{
    struct outcome *o = arg;

    o->calls++;
    o->e = e;
    snprintf(o->text, sizeof o->text, "%s", info->text);
}

static void append_note(struct append *a, void *arg, enum err e)
{
    struct outcome *o = arg;

    o->calls++;
    o->e = e;
}

static struct append *append_of(struct fx *f, struct topic *t, const char *value, const char *id,
                                struct append_slot *slot, struct outcome *o)
{
    struct append *a = append_new(f->b, append_note, o);
    struct append_record r = rec_of(NULL, value, id);

    assert_int_equal(append_record(a, t, -1, &r, slot, NULL), ERR_OK);
    return a;
}

/* One of everything is under way; it fails with e; nothing of it shows. */
static void everything_fails(struct fx *f, struct topic *t, enum err e, void (*go)(struct fx *f))
{
    struct outcome o[8];
    struct append_place p;
    struct append_slot s1, s2;
    struct append *a, *b;
    struct topic *u = NULL;
    struct reader *r;
    struct buf v;
    int i;

    memset(o, 0, sizeof o);
    buf_init(&v, 1000);
    a = append_of(f, t, "lost", "id", &s1, &o[0]);
    b = append_of(f, t, "lost too", "id", &s2, &o[1]);
    assert_int_equal(append_kv(a, "ns", SLICE_LIT("ak"), SLICE_LIT("v")), ERR_OK);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    assert_int_equal(append_submit(b, true, NULL), ERR_OK);
    assert_int_equal(topic_create(f->b, SLICE_LIT("new"), 3, NULL, note, &o[2], NULL), ERR_OK);
    assert_int_equal(topic_find_or_create(f->b, SLICE_LIT("new"), &u, note, &o[3], NULL), ERR_OK);
    assert_int_equal(topic_alter(f->b, SLICE_LIT("t"), 5, NULL, note, &o[4], NULL), ERR_OK);
    assert_int_equal(kv_put(f->b, "ns", SLICE_LIT("k"), SLICE_LIT("v"), 0, note, &o[5], NULL),
                     ERR_OK);
    assert_int_equal(
        group_commit(f->b, SLICE_LIT("g"), topic_partition(t, 0), 1, SLICE_NULL, note, &o[6], NULL),
        ERR_OK);
    assert_int_equal(topic_delete(f->b, SLICE_LIT("t"), note, &o[7], NULL), ERR_OK);
    go(f);
    for (i = 0; i < 8; i++) {
        assert_int_equal(o[i].calls, 1);
        assert_int_equal(o[i].e, e);
    }
    assert_non_null(strstr(o[2].text, "told so"));
    assert_int_equal(append_place(a, s1, &p), e);
    assert_int_equal(append_place(b, s2, &p), e);
    append_free(&a);
    append_free(&b);
    assert_null(topic_find(f->b, SLICE_LIT("new")));
    assert_int_equal(topic_partitions(t), 1);
    assert_false(topic_deleted(t));
    assert_int_equal(kv_get(f->b, "ns", SLICE_LIT("k"), &v), ERR_NOT_FOUND);
    assert_int_equal(kv_get(f->b, "ns", SLICE_LIT("ak"), &v), ERR_NOT_FOUND);
    assert_int_equal(f->b->groups.by_name.n, 0);
    assert_int_equal(dedup_count(f->b->dedup), 0);
    r = fx_reader(f, "t", READ_FROM_START, 0);
    assert_next(r, "kept");
    assert_drained(r);
    reader_close(&r);
    buf_fini(&v);
}

static void fail_and_step(struct fx *f)
{
    fail_write = true;
    broker_step(f->b);
    fail_write = false;
}

static void test_write_error(void **state)
{
    struct errinfo info = {0};
    struct outcome o = {0};
    struct append_slot s;
    struct append *a;
    struct topic *t;
    struct fx f;

    start(&f);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, NULL, "kept", NULL);
    everything_fails(&f, t, ERR_IO, fail_and_step);
    assert_int_equal(broker_writable(f.b, &info), ERR_READ_ONLY);
    assert_non_null(strstr(info.text, "told so"));
    a = append_of(&f, t, "refused", "id", &s, &o);
    assert_int_equal(append_submit(a, true, &info), ERR_READ_ONLY);
    assert_int_equal(o.calls, 0);
    append_free(&a);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("new"), 1, NULL, &info), ERR_READ_ONLY);
    topic_unref(&t);
    fx_reopen(&f); /* a restart mends it */
    t = topic_find(f.b, SLICE_LIT("t"));
    assert_false(fx_put(&f, t, 0, NULL, "after", "id").duplicate);
    topic_unref(&t);
    fx_end(&f);
}

/* Fills the file, so that the next frame needs a new one. */
static void no_room_and_step(struct fx *f)
{
    fail_room = true;
    broker_step(f->b);
    fail_room = false;
}

static void test_full_disk(void **state)
{
    static char big[40000];
    struct errinfo info = {0};
    struct append_record r = {.timestamp_ms = -1, .value = slice_of(big, sizeof big)};
    struct append *a;
    struct topic *t, *fill;
    struct reader *rd;
    struct fx f;
    int i;

    start(&f);
    t = fx_topic(&f, "t", 1);
    fill = fx_topic(&f, "fill", 1);
    fx_put(&f, t, 0, NULL, "kept", NULL);
    a = append_new(f.b, NULL, NULL);
    assert_int_equal(append_record(a, fill, 0, &r, NULL, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_reset(a);
    assert_int_equal(append_record(a, fill, 0, &r, NULL, NULL), ERR_OK);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK); /* does not fit the file any more */
    everything_fails(&f, t, ERR_NO_SPACE, no_room_and_step);
    append_free(&a);
    assert_int_equal(broker_writable(f.b, &info), ERR_NO_SPACE);
    for (i = 0; i < 1500 && broker_writable(f.b, NULL); i++) { /* there is room again */
        struct errinfo why;

        usleep(20000);
        kv_put_wait(f.b, "ns", SLICE_LIT("try"), SLICE_LIT("v"), 0, &why);
    }
    assert_int_equal(broker_writable(f.b, NULL), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("new"), 2, NULL, &info), ERR_OK);
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("t"), 2, NULL, &info), ERR_OK);
    assert_false(fx_put(&f, t, 0, NULL, "after", "id").duplicate);
    assert_true(fx_put(&f, t, 0, NULL, "after!", "id").duplicate);
    topic_unref(&t);
    topic_unref(&fill);
    fx_crash(&f);
    rd = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_next(rd, "kept");
    assert_next(rd, "after");
    assert_drained(rd);
    reader_close(&rd);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_error),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests_name("broker/fail", tests, NULL, NULL);
}
