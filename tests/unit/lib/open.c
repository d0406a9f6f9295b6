/* Opening and what belongs to it: options, errors as text, the lock, read-only, statistics,
 * checkpoints, checking and mending a damaged directory. */
#include "fixture.h"

#include <dirent.h>
#include <sys/stat.h>

static void test_errors(void **state)
{
    char version[32];
    int i, k;

    snprintf(version, sizeof version, "%d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR,
             WEIR_VERSION_PATCH);
    assert_string_equal(weir_version(), version);
    assert_string_equal(weir_err_name(WEIR_ERR_TOPIC_NOT_FOUND), "topic_not_found");
    assert_string_equal(weir_err_name(WEIR_ERR_INVALID), "invalid_argument");
    assert_string_equal(weir_strerror(WEIR_ERR_TOPIC_NOT_FOUND), "no such topic");
    for (i = WEIR_ERR_INVALID; i <= WEIR_ERR_OTHER; i++) {
        assert_true(strlen(weir_err_name(i)) > 1);
        assert_true(strlen(weir_strerror(i)) > 5);
        for (k = WEIR_OK; k < i; k++)
            assert_string_not_equal(weir_err_name(i), weir_err_name(k));
    }
}

static void test_arguments(void **state)
{
    struct weir_options o = {.size = sizeof o, .read_only = true};
    struct weir *w = (struct weir *)&o;
    struct fx f;

    FAILS(WEIR_ERR_INVALID, weir_open(NULL, NULL, &w, &err));
    assert_null(w);
    FAILS(WEIR_ERR_INVALID, weir_open("", NULL, &w, &err));
    assert_int_equal(weir_open("", NULL, &w, NULL), WEIR_ERR_INVALID); /* error may be NULL */
    FAILS(WEIR_ERR_INVALID, weir_check(NULL, NULL, NULL, NULL, &err));
    FAILS(WEIR_ERR_INVALID, weir_repair("", true, NULL, NULL, &err));
    weir_close(&w); /* NULL: nothing */

    fx_start(&f);
    put(f.w, "t", NULL, "a");
    weir_close(&f.w);
    o.size = 0; /* forgotten: read_only must not be overlooked */
    FAILS(WEIR_ERR_INVALID, weir_open(f.dir, &o, &w, &err));
    o.size = offsetof(struct weir_options, journal_file_bytes); /* an older program's */
    o.journal_file_bytes = 12345;                               /* beyond it: not looked at */
    OK(weir_open(f.dir, &o, &w, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_topic_create(w, "u", 0, NULL, 0, &err));
    weir_close(&w);
    fx_end(&f);
}

static void test_defaults(void **state)
{
    struct fx f;

    fx_start(&f);
    weir_close(&f.w);
    fx_remove(f.dir); /* made again */
    OK(weir_open(f.dir, NULL, &f.w, &err));
    put(f.w, "t", NULL, "a");
    weir_close(&f.w);
    OK(weir_open(f.dir, NULL, &f.w, &err));
    assert_int_equal(records(f.w, "t"), 1);
    fx_end(&f);
}

static void test_locked(void **state)
{
    struct weir_check_result r;
    struct weir *w;
    char pid[32];
    struct fx f;

    fx_start(&f);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    FAILS(WEIR_ERR_LOCKED, weir_open(f.dir, NULL, &w, &err));
    assert_null(w);
    assert_non_null(strstr(err.text, pid));
    FAILS(WEIR_ERR_LOCKED, weir_check(f.dir, NULL, NULL, &r, &err));
    FAILS(WEIR_ERR_LOCKED, weir_repair(f.dir, true, NULL, NULL, &err));
    put(f.w, "t", NULL, "a"); /* the holder is not disturbed */
    weir_close(&f.w);
    OK(weir_open(f.dir, NULL, &w, &err));
    assert_int_equal(records(w, "t"), 1);
    weir_close(&w);
    fx_end(&f);
}

/* A sum over names, sizes and bytes of the files of a directory but the lock. */
static uint64_t files_sum(const char *dir)
{
    uint64_t sum = 0, one;
    struct dirent *e;
    char path[512];
    DIR *d = opendir(dir);
    FILE *f;
    int c;
    const char *p;

    assert_non_null(d);
    while ((e = readdir(d))) {
        struct stat st;

        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, "lock") == 0 || stat(path, &st) || !S_ISREG(st.st_mode))
            continue;
        one = (uint64_t)st.st_size;
        for (p = e->d_name; *p; p++)
            one = one * 31 + (uint8_t)*p;
        f = fopen(path, "r");
        assert_non_null(f);
        while ((c = getc_unlocked(f)) != EOF)
            one = one * 31 + (uint64_t)c;
        fclose(f);
        sum += one;
    }
    closedir(d);
    return sum;
}

static uint64_t dir_sum(const char *dir)
{
    char log[128];

    snprintf(log, sizeof log, "%s/log", dir);
    return files_sum(dir) * 7 + files_sum(log);
}

static void read_only(struct fx *f)
{
    struct weir_record r = rec("k", "v");
    struct weir_setting s = {"retention.ms", "1000"};
    struct weir_emitter *em;
    struct weir_producer *p;
    struct weir_consumer *c;
    int i;

    f->o.read_only = true;
    fx_open(f);
    FAILS(WEIR_ERR_READ_ONLY, weir_writable(f->w, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_produce(f->w, "t", &r, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_produce(f->w, "other", &r, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_topic_create(f->w, "u", 1, NULL, 0, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_topic_alter(f->w, "t", 0, &s, 1, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_topic_delete(f->w, "t", &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_trim(f->w, "t", 0, -1, &err));
    OK(weir_producer_new(f->w, "t", NULL, &p, &err));
    OK(weir_producer_send(p, &r, NULL, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_producer_flush(p, &err));
    OK(weir_producer_close(&p, &err));
    OK(weir_emitter_new(f->w, NULL, &em, &err));
    OK(weir_emit(em, "x", "t", "v", 1, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_emitter_close(&em, &err));
    assert_null(em);
    c = consumer(f->w, "t", WEIR_FROM_GROUP, "g");
    for (i = 0; i < 20; i++) {
        char want[16];

        snprintf(want, sizeof want, "v%d", i);
        assert_next(c, want);
    }
    assert_drained(c);
    FAILS(WEIR_ERR_READ_ONLY, weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    weir_close(&f->w);
    f->o.read_only = false;
}

static void test_read_only(void **state)
{
    uint64_t before;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 20);
    weir_close(&f.w);
    before = dir_sum(f.dir);
    read_only(&f);
    assert_true(dir_sum(f.dir) == before);

    fx_open(&f); /* a crashed one is read as recovery would leave it, and left so */
    fx_crash(&f);
    before = dir_sum(f.dir);
    read_only(&f);
    assert_true(dir_sum(f.dir) == before);
    fx_open(&f);
    OK(weir_writable(f.w, &err));
    assert_int_equal(records(f.w, "t"), 20);
    fx_end(&f);
}

static void test_stats(void **state)
{
    struct weir_stats a, b;
    struct weir_place p;
    struct fx f;

    fx_start(&f);
    weir_stats_get(f.w, &a);
    assert_int_equal(a.topics, 0);
    put_n(f.w, "t", "v", 9);
    p = put(f.w, "u", NULL, "last");
    weir_stats_get(f.w, &b);
    assert_int_equal(b.topics, 2);
    assert_int_equal(b.records_written, a.records_written + 10);
    assert_int_equal(b.position_end, a.position_end + 10);
    assert_int_equal(b.position_end, p.position + 1);
    assert_true(b.frames_written > a.frames_written);
    assert_true(b.bytes_written >= a.bytes_written + 10 * 4096); /* each waited for its frame */
    assert_true(b.disk_bytes >= 4u << 20);
    assert_true(b.last_sync_ns > 0 && b.longest_sync_ns >= b.last_sync_ns);
    OK(weir_checkpoint(f.w, &err));
    fx_crash(&f);
    fx_open(&f);
    assert_int_equal(records(f.w, "t"), 9);
    weir_stats_get(f.w, &b);
    assert_int_equal(b.position_end, p.position + 1);
    fx_end(&f);
}

/* ---- damage ---- */

struct said {
    int problems, steps;
    char all[8192];
};

static void hear(void *arg, bool problem, const char *text)
{
    struct said *s = arg;
    size_t n = strlen(s->all);

    if (problem)
        s->problems++;
    else
        s->steps++;
    snprintf(s->all + n, sizeof s->all - n, "%s\n", text);
}

/* Changes one byte of the only place where text is in the first log file. */
static void damage(const char *dir, const char *text)
{
    size_t len = strlen(text), n, i;
    char path[128], *bytes = malloc(4u << 20);
    int hits = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/log/0000000000000001.log", dir);
    f = fopen(path, "r+");
    assert_non_null(f);
    n = fread(bytes, 1, 4u << 20, f);
    for (i = 0; i + len <= n; i++)
        if (memcmp(bytes + i, text, len) == 0) {
            fseek(f, (long)i, SEEK_SET);
            fputc(text[0] ^ 1, f);
            hits++;
        }
    fclose(f);
    free(bytes);
    assert_int_equal(hits, 1);
}

static void test_damage(void **state)
{
    struct weir_check_result r;
    struct weir_consumer *c;
    struct weir_message m;
    struct said s = {0};
    int n = 0;
    struct fx f;
    weir_err e;

    fx_start(&f);
    put_n(f.w, "t", "the value of number ", 30);
    fx_crash(&f);
    OK(weir_check(f.dir, hear, &s, &r, &err));
    if (r.problems)
        fail_msg("%s", s.all);
    assert_true(s.steps > 0);
    assert_int_equal(r.records, 30);
    assert_true(r.files > 0 && r.frames >= 30 && r.batches == 30 && r.bytes > 30 * 100);

    damage(f.dir, "the value of number 17"); /* what follows proves that it was durable */
    FAILS(WEIR_ERR_CORRUPT, weir_open(f.dir, &f.o, &f.w, &err));
    assert_non_null(strstr(err.text, "weir repair"));
    memset(&s, 0, sizeof s);
    OK(weir_check(f.dir, hear, &s, &r, &err));
    assert_true(r.problems > 0);
    assert_int_equal(s.problems, r.problems);
    OK(weir_check(f.dir, NULL, NULL, NULL, &err)); /* nobody need listen */

    memset(&s, 0, sizeof s);
    OK(weir_repair(f.dir, true, hear, &s, &err)); /* says, does not */
    assert_true(s.all[0] != 0);
    FAILS(WEIR_ERR_CORRUPT, weir_open(f.dir, &f.o, &f.w, &err));
    OK(weir_repair(f.dir, false, NULL, NULL, &err));
    fx_open(&f);
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    while ((e = weir_consumer_next(c, 0, &m, &err)) == WEIR_OK || e == WEIR_ERR_OFFSET_RANGE) {
        if (e == WEIR_OK) {
            assert_false(value_is(&m, "the value of number 17"));
            n++;
        }
    }
    assert_int_equal(e, WEIR_ERR_AGAIN);
    assert_true(n >= 17);
    weir_consumer_close(&c);
    put(f.w, "t", NULL, "and on");
    fx_end(&f);
}

static void test_not_a_log(void **state)
{
    struct weir_check_result r;
    struct weir *w;
    char path[128];
    struct fx f;
    FILE *file;

    fx_start(&f);
    put(f.w, "t", NULL, "a");
    weir_close(&f.w);
    snprintf(path, sizeof path, "%s/checkpoint.db", f.dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("this is no database; this is no database; this is no database", file);
    fclose(file);
    FAILS(WEIR_ERR_CORRUPT, weir_open(f.dir, NULL, &w, &err));
    assert_null(w);
    OK(weir_check(f.dir, NULL, NULL, &r, &err));
    assert_true(r.problems > 0);
    snprintf(path, sizeof path, "%s/lock/below/a/file", f.dir); /* cannot be made */
    FAILS(WEIR_ERR_IO, weir_open(path, NULL, &w, &err));
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),    cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_locked),
        cmocka_unit_test(test_read_only), cmocka_unit_test(test_stats),
        cmocka_unit_test(test_damage),    cmocka_unit_test(test_not_a_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
