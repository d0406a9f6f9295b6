/* The lake's writer with a stand-in for Parquet: files of text, a line a record. Records come to the
 * table once each whatever fails: Parquet, the store, other writers' commits, restarts; a topic made
 * anew does not get the old one's table; rules of retention; columns that grow. */
#include "fixture.h"

#include "broker/tier.h"

/* ---- the stand-in for Parquet ---- */

static enum err copy_range(FILE *out, struct topic *t, const struct lake_range *r, uint64_t *rows,
                           struct errinfo *info)
{
    struct plog_read rd = {0};
    int64_t at = r->from;
    struct buf scratch;
    enum err e = ERR_OK;

    buf_init(&scratch, 1u << 20);
    while (!e && at < r->to) {
        unsigned i;

        e = plog_read(partition_log(topic_partition(t, r->partition)), at, 65536, &rd, info);
        for (i = 0; !e && i < rd.n; i++) {
            struct batch_iter it;
            struct record rec;

            e = batch_iter_init(&it, rd.batch[i].data, &scratch);
            while (!e && !(e = batch_iter_next(&it, &rec)))
                if (rec.offset >= at && rec.offset < r->to) {
                    fprintf(out, "%d %" PRId64 " %.*s\n", (int)r->partition, rec.offset,
                            (int)rec.value.len, (const char *)rec.value.ptr);
                    ++*rows;
                }
            e = e == ERR_EOF ? ERR_OK : e;
        }
        at = rd.n ? rd.batch[rd.n - 1].last_offset + 1 : r->to;
    }
    plog_read_release(&rd);
    buf_fini(&scratch);
    return e;
}

/* The file has all columns; a list's values are in the structs' two fields. */
static enum err done(FILE *f, uint64_t rows, const struct lake_column *c, uint32_t columns_n,
                     struct lake_file_stats *out)
{
    uint32_t i, k;

    out->rows = rows;
    out->bytes = (uint64_t)ftell(f);
    out->leaf = xcalloc(2 * columns_n + 1, sizeof *out->leaf);
    for (i = 0; i < columns_n; i++)
        for (k = c[i].child_id[0] ? 1 : 0; k < (c[i].child_id[0] ? 3 : 1); k++)
            out->leaf[out->leaves_n++] = (struct lake_leaf){
                .id = k ? c[i].child_id[k] : c[i].id, .values = rows, .bytes = out->bytes};
    fclose(f);
    return ERR_OK;
}

static bool fails(struct fx *f)
{
    unsigned n = atomic_load(&f->fail_writes);

    while (n && !atomic_compare_exchange_weak(&f->fail_writes, &n, n - 1))
        ;
    return n > 0;
}

static enum err write_file(void *arg, struct topic *t, const struct lake_range *r, uint32_t n,
                           const struct lake_column *c, uint32_t columns_n,
                           const struct lake_order *order, uint32_t order_n, const char *path,
                           struct lake_file_stats *out, struct errinfo *info)
{
    struct fx *f = arg;
    uint64_t rows = 0;
    enum err e = ERR_OK;
    FILE *file;
    uint32_t i;

    atomic_fetch_add(&f->writes, 1);
    if (fails(f))
        return errinfo_set(info, ERR_NO_MEMORY, "no memory for Parquet");
    file = fopen(path, "wx");
    for (i = 0; !e && i < n; i++)
        e = copy_range(file, t, &r[i], &rows, info);
    return e ? e : done(file, rows, c, columns_n, out);
}

static bool is_dropped(const struct lake_rewrite *w, const char *line)
{
    char *end;
    long partition = strtol(line, &end, 10);
    int64_t offset = strtoll(end, NULL, 10);
    uint32_t i;

    for (i = 0; i < w->drop_n; i++)
        if (w->drop[i].partition == partition && w->drop[i].from <= offset &&
            offset < w->drop[i].to)
            return true;
    return false;
}

static enum err rewrite_files(void *arg, const struct lake_rewrite *w, struct lake_file_stats *out,
                              struct errinfo *info)
{
    FILE *to = fopen(w->path, "wx");
    struct fx *f = arg;
    uint64_t rows = 0;
    char line[4096];
    uint32_t i;

    (void)info;
    atomic_fetch_add(&f->rewrites, 1);
    for (i = 0; i < w->files_n; i++) {
        FILE *from = fopen(w->files[i], "r");

        while (fgets(line, sizeof line, from)) {
            if (is_dropped(w, line))
                continue;
            fputs(line, to);
            rows++;
        }
        fclose(from);
    }
    return done(to, rows, w->columns, w->columns_n, out);
}

static void stats_fini(void *arg, struct lake_file_stats *s)
{
    (void)arg;
    free(s->leaf);
    memset(s, 0, sizeof *s);
}

struct fields {
    unsigned a, b;
};
static void *fields_new(void *arg)
{
    (void)arg;
    return xcalloc(1, sizeof(struct fields));
}
static void fields_value(void *fields, struct slice value)
{
    struct fields *f = fields;

    if (value.len && value.ptr[0] == 'w')
        f->a |= LAKE_SEEN_WHOLE;
    else if (value.len && value.ptr[0] == 's')
        f->a |= LAKE_SEEN_STRING;
    else if (value.len && value.ptr[0] == 'b')
        f->b |= LAKE_SEEN_BOOLEAN;
}
static void fields_each(void *fields, void (*fn)(void *fn_arg, const char *name, unsigned seen),
                        void *fn_arg)
{
    const struct fields *f = fields;

    fn(fn_arg, "a", f->a);
    fn(fn_arg, "Offset", f->b);
}

static struct lake_parquet parquet_of(struct fx *f)
{
    return (struct lake_parquet){.arg = f,
                                 .write = write_file,
                                 .rewrite = rewrite_files,
                                 .stats_fini = stats_fini,
                                 .fields_new = fields_new,
                                 .fields_value = fields_value,
                                 .fields_each = fields_each,
                                 .fields_free = free};
}

static void put(struct fx *f, int32_t partition, const char *value, unsigned times)
{
    put_at(f, partition, -1, value, times);
}

static struct lake_view *view(struct fx *f)
{
    struct topic *t = topic_find(f->b, SLICE_LIT(TOPIC));
    struct lake_at now = {LAKE_AT_NOW, 0};
    struct errinfo info = {0};
    struct lake_view *v = NULL;

    if (lake_view_get(f->l, t, &now, &v, &info))
        fail_msg("%s", info.text);
    topic_unref(&t);
    return v;
}

/* Each offset below the boundaries is in a file once, and no other; how many there are. */
static uint64_t exactly_once(struct fx *f, uint32_t *files)
{
    static uint8_t seen[8][4096];
    struct lake_view *v = view(f);
    char path[512], line[4096];
    struct errinfo info = {0};
    uint64_t rows = 0, want = 0;
    uint32_t i;
    int64_t o;

    memset(seen, 0, sizeof seen);
    for (i = 0; i < v->files_n; i++) {
        FILE *file;
        int partition;

        assert_int_equal(lake_file_pin(f->l, v->file[i].location, v->file[i].bytes, path, &info),
                         0);
        file = fopen(path, "r");
        assert_non_null(file);
        while (fgets(line, sizeof line, file)) {
            char *end;

            partition = (int)strtol(line, &end, 10);
            o = strtoll(end, NULL, 10);
            assert_int_equal(seen[partition][o]++, 0);
            assert_true(o < v->boundary[partition]);
            rows++;
        }
        fclose(file);
        lake_file_unpin(f->l, v->file[i].location);
    }
    for (i = 0; i < v->boundary_n; i++)
        want += (uint64_t)v->boundary[i];
    assert_int_equal(rows, want);
    if (files)
        *files = v->files_n;
    lake_view_release(&v);
    return rows;
}

/* ---- tests ---- */

static void test_flush(void **state)
{
    struct fx *f = *state;
    uint32_t files;

    topic_make(f, 3, "lake.partition", "partition");
    put(f, 0, "x", 10);
    put(f, 2, "y", 5);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, &files), 15);
    assert_int_equal(files, 2);
    job_fine(f, LAKE_FLUSH, "flush"); /* nothing new: no commit */
    assert_int_equal(atomic_load(&f->writes), 2);
    put(f, 1, "z", 7);
    fx_close(f);
    fx_open(f);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, &files), 22);
    assert_int_equal(files, 3);
}

/* How many partitions are in a file; its lines are in their order and that of offsets. */
static unsigned partitions_in(const char *path)
{
    FILE *file = fopen(path, "r");
    long partition = -1, next;
    int64_t offset = -1, o;
    char line[4096], *end;
    unsigned n = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        next = strtol(line, &end, 10);
        o = strtoll(end, NULL, 10);
        assert_true(next > partition || (next == partition && o == offset + 1));
        n += next != partition;
        partition = next;
        offset = o;
    }
    fclose(file);
    return n;
}

/* More than one flush takes: each has a stretch of the log, with records of all partitions. */
static void test_stretches(void **state)
{
    struct fx *f = *state;
    char value[3901], path[512];
    struct errinfo info = {0};
    struct lake_view *v;
    uint32_t files, i;

    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    topic_make(f, 5, "lake.max.bytes", "1073741824");
    for (i = 0; i < 5 * 150; i++)
        put_at(f, (int32_t)(i % 5), 1767225600000, value, 20);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, &files), 5 * 150 * 20);
    assert_int_equal(files, 2);
    v = view(f);
    for (i = 0; i < v->files_n; i++) {
        assert_int_equal(lake_file_pin(f->l, v->file[i].location, v->file[i].bytes, path, &info),
                         0);
        assert_int_equal(partitions_in(path), 5);
        lake_file_unpin(f->l, v->file[i].location);
    }
    lake_view_release(&v);
}

/* The first lag that is told; -1: none is yet. */
static int64_t lag_told(struct fx *f)
{
    struct errinfo info;
    int64_t lag = -1;
    struct buf b;
    json_t *j;

    buf_init(&b, 1u << 20);
    if (!lake_status(f->l, SLICE_LIT(TOPIC), &b, &info)) {
        j = json_loadb((const char *)b.ptr, b.len, 0, NULL);
        if (json_integer_value(json_object_get(j, "lag")) > 0)
            lag = json_integer_value(json_object_get(j, "lag"));
        assert_int_equal(json_integer_value(json_object_get(j, "commits")), 0);
        json_decref(j);
    }
    buf_fini(&b);
    return lag;
}

/* After a start the table is looked at before it is said what it lacks, and nothing is flushed for it. */
static void test_lag(void **state)
{
    struct fx *f = *state;
    struct topic *t;
    int64_t lag;

    topic_make(f, 1, "lake.max.seconds", "86400");
    put(f, 0, "x", 10);
    job_fine(f, LAKE_FLUSH, "flush");
    put(f, 0, "y", 3);
    fx_close(f);
    fx_open(f);
    while ((lag = lag_told(f)) < 0)
        usleep(1000);
    assert_int_equal(lag, 3);
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    assert_int_equal(partition_covered(topic_partition(t, 0)), 10);
    topic_unref(&t);
}

static void test_failures(void **state)
{
    struct fx *f = *state;
    char outcome[64], path[200];
    json_t *j;

    topic_make(f, 1, "lake.partition", "none");
    put(f, 0, "x", 10);
    atomic_store(&f->fail_writes, 1);
    job(f, LAKE_FLUSH, "flush", outcome);
    assert_string_equal(outcome, "no_memory");
    j = status(f);
    assert_string_equal(json_string_value(json_object_get(j, "message")), "no memory for Parquet");
    json_decref(j);
    job_fine(f, LAKE_FLUSH, "flush");
    j = status(f);
    assert_null(json_object_get(j, "message"));
    json_decref(j);
    put(f, 0, "y", 3);
    snprintf(path, sizeof path, "%s/lake/weir/" TOPIC "/metadata", f->dir);
    assert_int_equal(chmod(path, 0500), 0);
    if (getuid() != 0) { /* nobody keeps root out */
        job(f, LAKE_FLUSH, "flush", outcome);
        assert_string_not_equal(outcome, "ok");
    }
    assert_int_equal(chmod(path, 0700), 0);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, NULL), 13);
}

static void test_compact(void **state)
{
    struct fx *f = *state;
    uint32_t files, i;

    topic_make(f, 2, "lake.partition", "partition");
    for (i = 0; i < 6; i++) {
        put(f, 0, "x", 3);
        if (i < 3)
            put(f, 1, "y", 2);
        job_fine(f, LAKE_FLUSH, "flush");
    }
    assert_int_equal(exactly_once(f, &files), 24);
    assert_int_equal(files, 9);
    job_fine(f, LAKE_COMPACT, "compact");
    assert_int_equal(atomic_load(&f->rewrites), 1); /* three files are not worth it */
    assert_int_equal(exactly_once(f, &files), 24);
    assert_int_equal(files, 4);
    job_fine(f, LAKE_EXPIRE, "expire");
    assert_int_equal(exactly_once(f, &files), 24);
    put(f, 0, "x", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, NULL), 25);
}

static const struct lake_column *column(const struct lake_view *v, const char *name)
{
    uint32_t i;

    for (i = 0; i < v->columns_n; i++)
        if (strcmp(v->column[i].name, name) == 0)
            return &v->column[i];
    return NULL;
}

static void test_columns(void **state)
{
    const struct lake_column *c;
    struct fx *f = *state;
    struct lake_view *v;
    uint32_t files, i;

    topic_make(f, 1, "lake.partition", "hour(timestamp)");
    put(f, 0, "whole", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    v = view(f);
    c = column(v, "a");
    assert_true(c && c->source == LAKE_FIELD && c->kind == ICE_LONG && c->id == 13);
    assert_null(column(v, "a_text"));
    assert_true(v->uniform);
    lake_view_release(&v);
    put(f, 0, "string", 1);
    put(f, 0, "bool", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    fx_close(f);
    fx_open(f);
    put(f, 0, "string", 1); /* nothing changes any more */
    job_fine(f, LAKE_FLUSH, "flush");
    v = view(f);
    assert_int_equal(v->columns_n, 12);
    c = column(v, "a_text");
    assert_true(c && c->source == LAKE_MISFIT && c->kind == ICE_STRING && c->kind_of == ICE_LONG);
    assert_string_equal(c->field, "a");
    c = column(v, "value_Offset"); /* offset is a record's own column, in any case */
    assert_true(c && c->source == LAKE_FIELD && c->kind == ICE_BOOLEAN);
    assert_string_equal(c->field, "Offset");
    assert_false(v->uniform); /* the first files do not have it */
    lake_view_release(&v);
    assert_int_equal(exactly_once(f, NULL), 4);
    for (i = 0; i < 3; i++) {
        put(f, 0, "string", 1);
        job_fine(f, LAKE_FLUSH, "flush");
    }
    job_fine(f, LAKE_COMPACT, "compact");
    assert_int_equal(exactly_once(f, &files), 7);
    v = view(f);
    assert_true(files == 1 && v->uniform); /* written anew with all columns */
    lake_view_release(&v);
}

static void test_made_anew(void **state)
{
    struct fx *f = *state;
    struct errinfo info = {0};
    char outcome[64];
    json_t *j;

    topic_make(f, 1, "lake.partition", "none");
    put(f, 0, "x", 2);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(topic_delete_wait(f->b, SLICE_LIT(TOPIC), &info), ERR_OK);
    topic_make(f, 1, "lake.partition", "none");
    put(f, 0, "new", 1);
    job(f, LAKE_FLUSH, "flush", outcome);
    assert_string_equal(outcome, "exists");
    j = status(f);
    assert_non_null(strstr(json_string_value(json_object_get(j, "message")), "another topic"));
    json_decref(j);
}

static void test_requests(void **state)
{
    struct fx *f = *state;
    struct errinfo info = {0};
    uint64_t ticket;
    struct buf b;

    buf_init(&b, 1000);
    assert_int_equal(lake_request(f->l, SLICE_LIT("none"), LAKE_FLUSH, &ticket, &info),
                     ERR_TOPIC_NOT_FOUND);
    assert_int_equal(lake_status(f->l, SLICE_LIT("none"), &b, &info), ERR_TOPIC_NOT_FOUND);
    assert_int_equal(topic_create_wait(f->b, SLICE_LIT("plain"), 1, NULL, &info), ERR_OK);
    assert_int_equal(lake_request(f->l, SLICE_LIT("plain"), LAKE_FLUSH, &ticket, &info),
                     ERR_CONFLICT);
    assert_int_equal(lake_status(f->l, SLICE_LIT("plain"), &b, &info), ERR_CONFLICT);
    buf_fini(&b);
}

static int64_t start_offset(struct fx *f)
{
    struct topic *t = topic_find(f->b, SLICE_LIT(TOPIC));
    struct plog_info now;

    plog_info_get(partition_log(topic_partition(t, 0)), &now);
    topic_unref(&t);
    return now.start_offset;
}

/* Retention deletes what is in the table, and nothing that is not. */
static void test_retention(void **state)
{
    const struct timespec nap = {0, 50000000}, while_it_runs = {2, 500000000};
    struct fx *f = *state;
    struct errinfo info = {0};
    struct topic_conf c;
    struct topic *t;

    topic_make(f, 1, "lake.partition", "none");
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    topic_conf_get(t, &c);
    topic_unref(&t);
    c.retention_ms = 1;
    c.lake_max_s = 86400;
    assert_int_equal(topic_alter_wait(f->b, SLICE_LIT(TOPIC), 0, &c, &info), ERR_OK);
    put(f, 0, "x", 10);
    nanosleep(&while_it_runs, NULL);
    assert_int_equal(start_offset(f), 0);
    job_fine(f, LAKE_FLUSH, "flush");
    while (start_offset(f) != 10)
        nanosleep(&nap, NULL);
    put(f, 0, "y", 5);
    nanosleep(&while_it_runs, NULL);
    assert_int_equal(start_offset(f), 10);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(exactly_once(f, NULL), 15);
}

struct reading {
    struct fx *f;
    _Atomic bool stop;
};

static void read_views(void *arg)
{
    struct reading *r = arg;
    struct topic *t = topic_find(r->f->b, SLICE_LIT(TOPIC));
    struct lake_at now = {LAKE_AT_NOW, 0};
    struct lake_view *v;
    uint64_t rows, want;
    uint32_t i;

    while (!atomic_load(&r->stop)) {
        if (lake_view_get(r->f->l, t, &now, &v, NULL))
            continue;
        for (i = 0, rows = 0; i < v->files_n; i++)
            rows += v->file[i].rows;
        for (i = 0, want = 0; i < v->boundary_n; i++)
            want += (uint64_t)v->boundary[i];
        if (rows != want)
            abort(); /* files and boundaries are not of one state */
        lake_view_release(&v);
    }
    topic_unref(&t);
}

/* Readers see one state of the table while it changes. */
static void test_readers(void **state)
{
    struct reading r = {.f = *state};
    struct io_thread *t;
    unsigned i;

    topic_make(r.f, 2, "lake.partition", "partition");
    put(r.f, 0, "x", 1);
    job_fine(r.f, LAKE_FLUSH, "flush");
    assert_int_equal(io_thread_start("reader", IO_PRIO_NORMAL, read_views, &r, &t, NULL), ERR_OK);
    for (i = 0; i < 8; i++) {
        put(r.f, (int32_t)(i % 2), "x", 3);
        job_fine(r.f, LAKE_FLUSH, "flush");
    }
    job_fine(r.f, LAKE_COMPACT, "compact");
    atomic_store(&r.stop, true);
    io_thread_join(&t);
    assert_int_equal(exactly_once(r.f, NULL), 25);
}

/* Old files go to the archive, each once; merges leave them there. */
static void test_archive(void **state)
{
    const int64_t day = 86400000;
    struct fx *f = *state;
    struct errinfo info = {0};
    struct topic_conf c;
    struct lake_view *v;
    struct topic *t;
    int64_t snapshot;
    uint32_t i, n;

    topic_make(f, 1, "lake.partition", "day(timestamp)");
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    topic_conf_get(t, &c);
    assert_int_equal(
        topic_conf_set(&c, SLICE_LIT("lake.archive.after.ms"), SLICE_LIT("864000000"), &info), 0);
    assert_int_equal(topic_alter_wait(f->b, SLICE_LIT(TOPIC), 0, &c, &info), 0);
    topic_unref(&t);
    for (i = 0; i < 6; i++) {
        put_at(f, 0, 20000 * day, "old", 3);
        put(f, 0, "new", 1);
        job_fine(f, LAKE_FLUSH, "flush");
    }
    job_fine(f, LAKE_EXPIRE, "expire");
    assert_int_equal(exactly_once(f, NULL), 24);
    for (n = 0; n < 2; n++) {
        uint32_t old = 0;

        v = view(f);
        for (i = 0; i < v->files_n; i++) {
            bool archived = strstr(v->file[i].location, "/data/archive/") != NULL;

            assert_int_equal(archived, v->file[i].rows % 3 == 0 && v->file[i].rows < 6);
            old += archived;
        }
        snapshot = v->snapshot_id;
        lake_view_release(&v);
        assert_int_equal(old, 6);
        job_fine(f, n ? LAKE_EXPIRE : LAKE_COMPACT, n ? "expire" : "compact");
        assert_int_equal(exactly_once(f, NULL), 24);
    }
    v = view(f); /* nothing was left to be done */
    assert_int_equal(v->snapshot_id, snapshot);
    lake_view_release(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stretches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lag, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_archive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_made_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
