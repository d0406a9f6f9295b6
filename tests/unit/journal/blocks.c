/* Blocks of files in memory: shared, bounded, read once; what is damaged is never served from them;
 * slow readers hold no more than a bounded part of the tail and of the blocks. What was just written is
 * kept while there are readers, in the room that blocks leave. */
#include "journal/blocks.h"

#include <unistd.h>

#include "fixture.h"
#include "journal/keep.h"
#include "journal/slab.h"

#define MIB       (1u << 20)
#define BATCH     16000u
#define LOG_BYTES (8u * MIB)

static void begin_with(struct fx *f, uint64_t seed, uint64_t cache_bytes, uint32_t frame_bytes)
{
    memset(f, 0, sizeof *f);
    f->frame_bytes = frame_bytes;
    f->io = io_sim_new(seed);
    f->dir = "/d";
    f->file_bytes = LOG_BYTES;
    f->cache_bytes = cache_bytes;
    fx_open(f);
    fx_logs(f, 2);
}

static void begin(struct fx *f, uint64_t seed, uint64_t cache_bytes)
{
    begin_with(f, seed, cache_bytes, 0);
}

static void end(struct fx *f)
{
    fx_close(f);
    io_sim_free(&f->io);
}

/* n batches for each of two logs, by turns: they lie between each other in the file. */
static void fill(struct fx *f, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        assert_int_equal(fx_put(f, 1, BATCH, false), ERR_OK);
        assert_int_equal(fx_put(f, 2, BATCH, false), ERR_OK);
    }
}

static uint64_t cache_bytes(struct fx *f)
{
    struct journal_stats st;

    journal_stats_get(f->j, &st);
    return st.cache_bytes;
}

static uint64_t tail_bytes(struct fx *f)
{
    struct journal_stats st;

    journal_stats_get(f->j, &st);
    return st.tail_bytes;
}

/* Reads a log from its start; how many batches. Each is whole, and in order. */
static int64_t read_all(struct fx *f, uint32_t uid, size_t bytes, struct plog_read *r)
{
    int64_t at = 0;
    unsigned i;

    for (;;) {
        assert_int_equal(plog_read(f->log[uid], at, bytes, r, &f->info), ERR_OK);
        if (r->n == 0)
            return at;
        for (i = 0; i < r->n; i++) {
            assert_int_equal(r->batch[i].base_offset, at);
            assert_true(batch_crc_ok(r->batch[i].data));
            at = r->batch[i].last_offset + 1;
        }
    }
}

/* Batches come from blocks, also those that lie in two, byte for byte as they are in the file. */
static void the_same_bytes(void **state)
{
    struct plog_read r = {0}, own = {.once = true};
    struct fx f;
    int64_t at;
    unsigned i;

    begin(&f, 1, 0);
    fill(&f, 120);
    assert_int_equal(cache_bytes(&f), 0);
    for (at = 0; at < 110; at += 5) {
        assert_int_equal(plog_read(f.log[1], at, 5 * (BATCH + 100), &r, &f.info), ERR_OK);
        assert_int_equal(plog_read(f.log[1], at, 5 * (BATCH + 100), &own, &f.info), ERR_OK);
        assert_int_equal(r.n, own.n);
        for (i = 0; i < r.n; i++)
            assert_true(slice_eq(r.batch[i].data, own.batch[i].data));
    }
    assert_true(cache_bytes(&f) >= 3 * MIB);
    plog_read_release(&r);
    plog_read_release(&own);
    end(&f);
}

/* A block of the file that is being written grows with it. */
static void the_active_file(void **state)
{
    struct plog_read r = {0};
    struct fx f;
    int i;

    begin(&f, 2, 4 * MIB);
    for (i = 1; i <= 12; i++) {
        fill(&f, 10);
        assert_int_equal(read_all(&f, 1, MIB, &r), 10 * i);
        assert_int_equal(read_all(&f, 2, 100000, &r), 10 * i);
    }
    plog_read_release(&r);
    end(&f);
}

/* Sealed, recycled and used again: no block tells of a file's earlier life. */
static void files_that_go(void **state)
{
    struct plog_read r = {0};
    int64_t done = 0;
    struct fx f;
    int i, k;

    begin(&f, 3, 4 * MIB);
    for (i = 0; i < 6; i++) {
        fill(&f, 300); /* more than a file */
        fx_background(&f);
        for (k = 1; k <= 2; k++) {
            int64_t at = done;

            while (at < fx_end(&f, (uint32_t)k)) {
                assert_int_equal(plog_read(f.log[k], at, MIB, &r, &f.info), ERR_OK);
                assert_true(r.n > 0 && r.batch[0].base_offset == at);
                at = r.batch[r.n - 1].last_offset + 1;
            }
            plog_read_recycle(&r, 0);
            fx_trim(&f, (uint32_t)k, at);
            if (k == 2)
                done = at;
        }
        journal_checkpoint(f.j, NULL);
        fx_background(&f);
    }
    end(&f);
}

/* What is damaged on the disk is not served, neither when the block is read anew nor from one that
 * was good; what is before it is. */
static void damage(void **state)
{
    struct plog_read r = {0};
    uint8_t byte;
    char path[300];
    struct fx f;
    int64_t at;
    enum err e = ERR_OK;

    begin(&f, 4, 0);
    fill(&f, 120);
    fx_file(&f, ".log", 0, path);
    fx_read_at(&f, path, 2 * MIB + 77, &byte, 1);
    byte ^= 0x10;
    fx_write_at(&f, path, 2 * MIB + 77, &byte, 1);
    for (at = 0; !e && at < 120;) {
        e = plog_read(f.log[1], at, MIB, &r, &f.info);
        at = !e && r.n ? r.batch[r.n - 1].last_offset + 1 : at;
    }
    if (!e) { /* it was in one of the other's */
        for (at = 0; !e && at < 120;) {
            e = plog_read(f.log[2], at, MIB, &r, &f.info);
            at = !e && r.n ? r.batch[r.n - 1].last_offset + 1 : at;
        }
    }
    assert_int_equal(e, ERR_CORRUPT);
    assert_in_range(at, 30, 90);
    byte ^= 0x10; /* mended: served again */
    fx_write_at(&f, path, 2 * MIB + 77, &byte, 1);
    assert_int_equal(read_all(&f, 1, MIB, &r), 120);
    assert_int_equal(read_all(&f, 2, MIB, &r), 120);
    plog_read_release(&r);
    end(&f);
}

/* Blocks are bounded, and readers that keep theirs leave enough for others. */
static void slow_readers(void **state)
{
    struct plog_read *kept = xcalloc(60, sizeof *kept), r = {0};
    unsigned held = 0;
    struct fx f;
    int i;

    begin(&f, 5, 4 * MIB);
    fill(&f, 230);
    for (i = 0; i < 60; i++) {
        assert_int_equal(plog_read(f.log[1 + i % 2], i / 2 * 6, 100000, &kept[i], &f.info), ERR_OK);
        assert_true(kept[i].n > 0);
        held += kept[i].blocks_n;
    }
    assert_in_range(held, 3, 45);
    assert_int_equal(kept[59].blocks_n, 0); /* a copy: the others hold the four that there are */
    assert_int_equal(cache_bytes(&f), 4 * MIB);
    assert_int_equal(read_all(&f, 1, MIB, &r), 230);
    for (i = 0; i < 60; i++) {
        assert_int_equal(kept[i].batch[0].base_offset, i / 2 * 6);
        assert_true(batch_crc_ok(kept[i].batch[0].data));
        plog_read_release(&kept[i]);
    }
    free(kept);
    plog_read_release(&r);
    end(&f);
}

/* Frames that left the tail are held up to its size by readers, with the slabs that they lie in; then
 * readers get copies. */
static void slow_readers_of_the_tail(void **state)
{
    struct plog_read *kept = xcalloc(100, sizeof *kept);
    unsigned i, held = 0;
    struct fx f;

    begin_with(&f, 6, 0, 8192); /* the tail has 32 KiB, a slab 16 */
    for (i = 0; i < 100; i++) {
        assert_int_equal(fx_put(&f, 1, 3000, false), ERR_OK);
        kept[i].memory_only = true;
        assert_int_equal(plog_read(f.log[1], i, 1, &kept[i], &f.info), ERR_OK);
        assert_int_equal(kept[i].n, 1);
        held += kept[i].pins_n;
    }
    assert_in_range(held, 4, 40);
    assert_in_range(atomic_load(&f.j->evicted_bytes), 64 * 1024, 128 * 1024);
    for (i = 0; i < 100; i++) {
        assert_int_equal(kept[i].batch[0].base_offset, i);
        assert_true(batch_crc_ok(kept[i].batch[0].data));
        plog_read_release(&kept[i]);
    }
    kept[0].memory_only = true;
    assert_int_equal(plog_read(f.log[1], 99, 1, &kept[0], &f.info), ERR_OK);
    assert_int_equal(kept[0].pins_n, 1);                             /* room again */
    assert_true(atomic_load(&f.j->evicted_bytes) < slab_bytes(f.j)); /* where the tail begins */
    plog_read_release(&kept[0]);
    free(kept);
    end(&f);
}

/* Memory of blocks that nobody used for a while is given back. */
static void given_back(void **state)
{
    struct plog_read r = {0};
    struct fx f;

    begin(&f, 7, 0);
    fill(&f, 100);
    read_all(&f, 1, MIB, &r);
    assert_true(cache_bytes(&f) > 0);
    plog_read_recycle(&r, 0);
    io_sim_advance(f.io, BLOCKS_IDLE_NS + 2000000000u);
    fx_background(&f);
    assert_int_equal(cache_bytes(&f), 0);
    read_all(&f, 1, MIB, &r);
    plog_read_release(&r);
    end(&f);
}

/* What will be asked for is there before. */
static void read_ahead(void **state)
{
    struct plog_read r = {0};
    struct fx f;

    begin(&f, 8, 0);
    fill(&f, 200);
    plog_read_ahead(f.log[1], 0, 2 * MIB);
    assert_true(cache_bytes(&f) >= 2 * MIB);
    plog_read_ahead(f.log[1], 200, MIB); /* the end */
    plog_read_ahead(f.log[1], 199, MIB); /* in the tail */
    assert_int_equal(read_all(&f, 1, MIB, &r), 200);
    plog_read_release(&r);
    end(&f);
}

static struct jfile *first_file(struct fx *f)
{
    return list_entry(f->j->files.node.next, struct jfile, link);
}

/* As time goes on for the keeper. */
static void keep_turns(struct fx *f, int n)
{
    for (; n; n--) {
        io_sim_advance(f->io, 20000000u);
        keep_step(f->j);
    }
}

/* What was written while somebody reads stays in the tail, which has more room then; what nobody reads
 * does not, and the room is given back when nobody has read for a while. */
static void just_written(void **state)
{
    struct plog_read r = {.memory_only = true}, own = {.once = true};
    uint64_t more = 4 * MIB;
    struct fx f;
    int i;

    begin(&f, 9, BLOCKS_FIRST_BYTES + more); /* the tail has 32 KiB */
    fill(&f, 4);
    keep_turns(&f, 10);
    assert_true(tail_bytes(&f) < 64 * 1024);
    assert_int_equal(plog_read(f.log[2], 3, MIB, &r, &f.info), ERR_OK); /* a reader */
    for (i = 4; i < 100; i++) {
        keep_turns(&f, 1);
        fill(&f, 1);
    }
    assert_in_range(tail_bytes(&f), 96 * 2 * BATCH, 100 * 2 * (BATCH + 8192));
    for (i = 4; i < 100; i++) {
        assert_int_equal(plog_read(f.log[1], i, 1, &r, &f.info), ERR_OK);
        assert_int_equal(r.n, 1);
        assert_int_equal(plog_read(f.log[1], i, 1, &own, &f.info), ERR_OK);
        assert_true(slice_eq(r.batch[0].data, own.batch[0].data));
    }
    assert_int_equal(plog_read(f.log[1], 0, 1, &r, &f.info), ERR_AGAIN);
    for (; i < 300; i++) { /* more than it may have */
        keep_turns(&f, 1);
        fill(&f, 1);
    }
    assert_in_range(tail_bytes(&f), more - 64 * 1024, more + 64 * 1024);
    plog_read_recycle(&r, 0);
    io_sim_advance(f.io, BLOCKS_IDLE_NS);
    keep_turns(&f, 1);
    assert_true(tail_bytes(&f) <= 32768 + 64 * 1024);
    assert_int_equal(plog_read(f.log[1], 200, 1, &r, &f.info), ERR_AGAIN);
    plog_read_release(&r);
    plog_read_release(&own);
    end(&f);
}

/* Beside writers, what is kept grows by what they earned, which is less where memory is dear. */
static void earned(void **state)
{
    struct plog_read r = {.memory_only = true};
    uint64_t more;
    struct fx f;
    int i;

    begin(&f, 13, 2 * BLOCKS_FIRST_BYTES + 8 * MIB);
    fill(&f, 1);
    assert_int_equal(plog_read(f.log[2], 0, MIB, &r, &f.info), ERR_OK);
    for (i = 0; i < 2400; i++) {
        fill(&f, 1);
        io_sim_advance(f.io, 15000000u); /* they are at it */
        f.j->keep_cost_ns = 2 * slab_bytes(f.j);
        keep_step(f.j);
        assert_true(f.j->keep_more <= f.j->st_written / 16);
    }
    assert_true(f.j->keep_more >= 2 * slab_bytes(f.j));
    more = f.j->keep_more;
    keep_turns(&f, 100); /* they have stopped */
    assert_in_range(f.j->keep_more, more, more + slab_bytes(f.j));
    more = f.j->keep_more;
    for (i = 0; i < 200; i++) { /* where memory costs nothing */
        fill(&f, 1);
        keep_step(f.j);
        io_sim_advance(f.io, 15000000u);
        f.j->keep_cost_ns = 0;
    }
    assert_in_range(f.j->keep_more, more + 5 * MIB, more + 9 * MIB);
    plog_read_release(&r);
    end(&f);
}

/* Frames of all sizes: several in a slab, one in it alone, and one larger than a slab. */
static void frames_in_slabs(void **state)
{
    static const size_t sizes[] = {100, 7000, 9000, 100, 30000, 16000, 100, 20000, 12000};
    struct plog_read r = {.memory_only = true}, own = {0};
    unsigned i, n = 0;
    struct fx f;

    begin_with(&f, 11, 0, 8192);
    for (i = 0; i < 200; i++) {
        assert_int_equal(fx_put(&f, 1, sizes[i * 7 % 9], false), ERR_OK);
        assert_int_equal(plog_read(f.log[1], i, 1, &r, &f.info), ERR_OK);
        assert_int_equal(r.n, 1);
        assert_true(batch_crc_ok(r.batch[0].data));
    }
    for (i = 200; i > 0 && plog_read(f.log[1], i - 1, 1, &r, &f.info) == ERR_OK; i--)
        n++;
    assert_in_range(n, 1, 9);
    assert_true(tail_bytes(&f) <= 32768 + 8192);
    plog_read_release(&r);
    assert_true(f.j->pool_n <= SLAB_POOL_MAX);
    slab_pool_shrink(f.j);
    assert_int_equal(read_all(&f, 1, MIB, &own), 200);
    plog_read_release(&own);
    end(&f);
}

/* Blocks become more when what went is asked for again, not for what is read once, and not beyond what
 * the tail leaves. */
static void grows_by_use(void **state)
{
    struct blocks *c;
    struct fx f;
    uint32_t i;

    begin(&f, 10, 0);
    fill(&f, 230); /* seven blocks of one file */
    c = f.j->blocks;
    blocks_limit(c, 4 * MIB);
    for (i = 0; i < 4; i++)
        blocks_ahead(c, first_file(&f), i);
    assert_false(blocks_grow(c, 0));
    assert_true(blocks_has(c, first_file(&f), 3, MIB));
    assert_false(blocks_has(c, first_file(&f), 40, 0));
    blocks_ahead(c, first_file(&f), 4);
    assert_false(blocks_short(c)); /* once */
    for (i = 0; i < 5; i++)
        blocks_ahead(c, first_file(&f), i); /* one of them went */
    assert_int_equal(blocks_bytes(c), 4 * MIB);
    assert_true(blocks_short(c));
    assert_false(blocks_short(c));
    for (i = 0; i < 5; i++)
        blocks_ahead(c, first_file(&f), i);
    blocks_limit(c, 8 * MIB);
    assert_false(blocks_grow(c, 1000000)); /* dearer than reading again */
    assert_true(blocks_grow(c, 0));
    assert_false(blocks_grow(c, 0));
    assert_int_equal(blocks_bytes(c), 6 * MIB);
    end(&f);
}

/* The tail and the blocks share what there is: readers who come back to files get up to a half of what
 * the tail took before. */
static void shared_out(void **state)
{
    struct plog_read r = {.memory_only = true};
    struct jfile *file;
    struct fx f;
    uint64_t most;
    uint32_t i;
    int turn;

    begin(&f, 12, 2 * BLOCKS_FIRST_BYTES + 8 * MIB);
    fill(&f, 1);
    assert_int_equal(plog_read(f.log[2], 0, MIB, &r, &f.info), ERR_OK);
    for (i = 0; i < 2400; i++) { /* some 78 MB */
        fill(&f, 1);
        keep_turns(&f, 1);
    }
    most = f.j->keep_more;
    assert_in_range(most, BLOCKS_FIRST_BYTES + 6 * MIB, BLOCKS_FIRST_BYTES + 8 * MIB);
    for (turn = 0; turn < 2; turn++) {
        list_for_each(file, &f.j->files, struct jfile, link) for (i = 0; i < 8; i++)
            blocks_ahead(f.j->blocks, file, i);
        assert_in_range(blocks_bytes(f.j->blocks), BLOCKS_FIRST_BYTES,
                        BLOCKS_FIRST_BYTES + 2 * MIB);
        keep_turns(&f, 1);
    }
    assert_int_equal(f.j->keep_more, most - slab_bytes(f.j));
    assert_true(tail_bytes(&f) <= 32768 + f.j->keep_more);
    plog_read_release(&r);
    end(&f);
}

/* Those who can wait for the disk are no reason to keep more. */
static void patient(void **state)
{
    struct plog_read r = {.memory_only = true, .patient = true};
    struct fx f;
    int i;

    begin(&f, 12, 2 * BLOCKS_FIRST_BYTES + 8 * MIB);
    fill(&f, 1);
    assert_int_equal(plog_read(f.log[2], 0, MIB, &r, &f.info), ERR_OK);
    for (i = 0; i < 200; i++) {
        fill(&f, 1);
        keep_turns(&f, 1);
    }
    assert_int_equal(f.j->keep_more, 0);
    r.patient = false;
    assert_int_equal(plog_read(f.log[2], 0, MIB, &r, &f.info),
                     ERR_AGAIN); /* it has left the tail */
    for (i = 0; i < 200; i++) {
        fill(&f, 1);
        keep_turns(&f, 1);
    }
    assert_true(f.j->keep_more > 0);
    plog_read_release(&r);
    end(&f);
}

/* ---- threads ---- */

#define READERS 4

struct reading {
    struct fx *f;
    uint32_t uid;
    int64_t batches;
    bool ok;
};

/* Reads all, ahead too, with blocks for less than there is. */
static void read_thread(void *arg)
{
    struct reading *t = arg;
    struct plog_read r = {0};
    struct errinfo info;
    int64_t at = 0;
    unsigned i;

    t->ok = true;
    while (t->ok && at < t->batches) {
        t->ok = plog_read(t->f->log[t->uid], at, 300000, &r, &info) == ERR_OK && r.n > 0;
        for (i = 0; t->ok && i < r.n; i++) {
            t->ok = r.batch[i].base_offset == at && batch_crc_ok(r.batch[i].data);
            at = r.batch[i].last_offset + 1;
        }
        plog_read_ahead(t->f->log[t->uid], at, 300000);
    }
    plog_read_release(&r);
}

static void remove_one(void *arg, const char *name)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    if (io_unlink(io_real(), path, NULL))
        rmdir(path);
}

static void many_threads(void **state)
{
    char dir[] = "/tmp/weir-test-XXXXXX", log[64];
    struct fx f = {.io = io_real(), .file_bytes = LOG_BYTES, .cache_bytes = 4 * MIB};
    struct io_thread *threads[READERS];
    struct reading t[READERS];
    unsigned i;

    assert_non_null(f.dir = mkdtemp(dir));
    fx_open(&f);
    fx_logs(&f, 2);
    fill(&f, 200);
    for (i = 0; i < READERS; i++) {
        t[i] = (struct reading){.f = &f, .uid = 1 + i % 2, .batches = 200};
        assert_int_equal(
            io_thread_start("reader", IO_PRIO_NORMAL, read_thread, &t[i], &threads[i], NULL),
            ERR_OK);
    }
    for (i = 0; i < 100; i++) { /* the keeper, too */
        fill(&f, 1);
        journal_background(f.j);
    }
    for (i = 0; i < READERS; i++) {
        io_thread_join(&threads[i]);
        assert_true(t[i].ok);
    }
    assert_true(cache_bytes(&f) <= 4 * MIB);
    fx_close(&f);
    snprintf(log, sizeof log, "%s/log", dir);
    io_list(f.io, log, remove_one, log, NULL);
    io_list(f.io, dir, remove_one, dir, NULL);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bytes), cmocka_unit_test(the_active_file),
        cmocka_unit_test(files_that_go),  cmocka_unit_test(damage),
        cmocka_unit_test(slow_readers),   cmocka_unit_test(slow_readers_of_the_tail),
        cmocka_unit_test(given_back),     cmocka_unit_test(read_ahead),
        cmocka_unit_test(just_written),   cmocka_unit_test(earned),
        cmocka_unit_test(grows_by_use),   cmocka_unit_test(frames_in_slabs),
        cmocka_unit_test(shared_out),     cmocka_unit_test(patient),
        cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
