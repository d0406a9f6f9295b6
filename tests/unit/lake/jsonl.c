/* Topics as folders of JSON lines: the lines, and that each record is in one file once whatever was cut
 * short: puts that a crash left out, merges that it ended in any of their steps, a commit that somebody
 * else has made; old days; a topic made anew; a topic that was a table before. */
#include "fixture.h"

#include "base/hex.h"
#include "lake/jsonl.h"

#define DAY  INT64_C(86400000)
#define NOON (INT64_C(20000) * DAY + DAY / 2) /* 2024-10-04 */

static struct lake_parquet parquet_of(struct fx *f)
{
    (void)f;
    return (struct lake_parquet){0}; /* nobody may ask for Parquet */
}

/* ---- lines ---- */

static void same(struct slice a, struct slice b)
{
    assert_true(slice_is_null(a) == slice_is_null(b) && slice_eq(a, b));
}

/* The record comes back out of its line. */
static void line_back(struct slice text, const struct jsonl_record *line)
{
    struct jsonl_parsed p;
    uint32_t i;

    jsonl_parsed_init(&p);
    assert_true(jsonl_line_parse(text, &p));
    assert_true(p.partition == line->partition && p.r.position == line->position);
    assert_true(p.r.offset == line->r->offset && p.r.timestamp_ms == line->r->timestamp_ms);
    same(p.r.key, line->r->key);
    same(p.r.value, line->r->value);
    assert_int_equal(p.r.headers_n, line->headers_n);
    for (i = 0; i < line->headers_n; i++) {
        same(p.r.headers[i].key, line->headers[i].key);
        same(p.r.headers[i].value, line->headers[i].value);
    }
    text.len -= 2; /* and no line that is cut */
    assert_false(jsonl_line_parse(text, &p));
    jsonl_parsed_fini(&p);
}

static void line_is(const struct record *r, const struct record_header *h, uint32_t n,
                    const char *want)
{
    const struct jsonl_record line = {r, 3, 258, h, n};
    struct buf b;
    size_t max;

    buf_init(&b, 4096);
    assert_int_equal(jsonl_line(&b, &line), ERR_OK);
    line_back(buf_slice(&b), &line);
    max = b.len;
    assert_int_equal(buf_append_u8(&b, 0), ERR_OK);
    assert_string_equal((const char *)b.ptr, want);
    buf_fini(&b);
    buf_init(&b, max - 1);
    assert_int_equal(jsonl_line(&b, &line), ERR_TOO_LARGE);
    buf_fini(&b);
}

#define HEAD                                                                          \
    "{\"partition\":3,\"offset\":7,\"position\":258,\"id\":\"evt_0000000000000102\"," \
    "\"timestamp\":\"2024-10-04T12:00:00.000Z\","

static void test_lines(void **state)
{
    const struct record_header h[] = {{SLICE_LIT("a"), SLICE_LIT("x\n")},
                                      {SLICE_LIT("a"), SLICE_LIT("\xff")},
                                      {SLICE_LIT("\xfe"), SLICE_NULL}};
    struct record r = {
        .offset = 7, .timestamp_ms = NOON, .value = SLICE_LIT("{\"a\" :\r\n[1.50]}")};
    char deep[300];

    (void)state;
    line_is(&r, NULL, 0,
            HEAD "\"key\":null,\"headers\":[],\"value\":{\"a\" :  [1.50]},"
                 "\"value_base64\":\"eyJhIiA6DQpbMS41MF19\"}\n");
    r.key = SLICE_LIT("k\"1");
    r.value = SLICE_LIT("{not json");
    line_is(&r, h, 3,
            HEAD "\"key\":\"k\\\"1\",\"headers\":[{\"name\":\"a\",\"value\":\"x\\n\"},"
                 "{\"name\":\"a\",\"value_base64\":\"/w==\"},"
                 "{\"name_base64\":\"/g==\",\"value\":null}],\"value_text\":\"{not json\"}\n");
    r.key = SLICE_LIT("\x80");
    r.value = SLICE_LIT("\x00\xff");
    line_is(&r, NULL, 0,
            HEAD "\"key_base64\":\"gA==\",\"headers\":[],\"value_base64\":\"AP8=\"}\n");
    r.key = SLICE_LIT("");
    r.value = SLICE_NULL;
    line_is(&r, NULL, 0, HEAD "\"key\":\"\",\"headers\":[]}\n");
    r.value = SLICE_LIT("null");
    line_is(&r, NULL, 0, HEAD "\"key\":\"\",\"headers\":[],\"value\":null}\n");
    r.value = SLICE_LIT("");
    line_is(&r, NULL, 0, HEAD "\"key\":\"\",\"headers\":[],\"value_text\":\"\"}\n");
    memset(deep, '[', 101);
    memset(deep + 101, ']', 101);
    r.value = slice_of(deep, 202);
    {
        struct jsonl_record line = {.r = &r};
        struct buf b;

        buf_init(&b, 4096);
        assert_int_equal(jsonl_line(&b, &line), ERR_OK);
        assert_non_null(memmem(b.ptr, b.len, "\"value_text\":\"[[", 15));
        buf_clear(&b);
        r.value = slice_of(deep + 1, 200);
        r.timestamp_ms = INT64_C(253402300800000);
        assert_int_equal(jsonl_line(&b, &line), ERR_OK);
        assert_non_null(memmem(b.ptr, b.len, "\"value\":[[", 10));
        assert_non_null(memmem(b.ptr, b.len, "\"timestamp_ms\":253402300800000,", 31));
        buf_fini(&b);
    }
}

/* Lines that others wrote. */
static void test_other_lines(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"partition\":0}",
        "{\"partition\":-1,\"offset\":0}",
        "{\"partition\":4294967296,\"offset\":0}", /* is not 0 */
        "{\"partition\":0,\"offset\":-1}",
        "{\"partition\":0,\"offset\":1.0}",
        "{\"partition\":0,\"offset\":0,\"position\":-1}",
        "{\"partition\":0,\"offset\":0,\"key\":1}",
        "{\"partition\":0,\"offset\":0,\"key_base64\":\"*\"}",
        "{\"partition\":0,\"offset\":0,\"headers\":{}}",
        "{\"partition\":0,\"offset\":0,\"headers\":[{}]}",
        "{\"partition\":0,\"offset\":0,\"timestamp\":1}",
        "{\"partition\":0,\"offset\":0,\"value_base64\":null}",
        "{\"partition\":0,\"offset\":0}{}",
    };
    struct jsonl_parsed p;
    size_t i;

    (void)state;
    jsonl_parsed_init(&p);
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        if (jsonl_line_parse(slice_str(bad[i]), &p))
            fail_msg("taken: %s", bad[i]);
    assert_true(jsonl_line_parse(
        SLICE_LIT(" { \"later\" : 1.5 , \"offset\":7, \"partition\":2147483647, \"x\":[{}] } "),
        &p));
    assert_true(p.partition == INT32_MAX && p.r.offset == 7);
    same(p.r.value, SLICE_NULL);
    jsonl_parsed_fini(&p);
}

/* ---- files ---- */

static void jsonl_topic(struct fx *f, int32_t partitions)
{
    struct errinfo info = {0};
    struct topic_conf c;
    struct topic *t;

    topic_make(f, partitions, "lake.format", "jsonl");
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    topic_conf_get(t, &c);
    assert_int_equal(
        topic_conf_set(&c, SLICE_LIT("lake.jsonl.compression"), SLICE_LIT("none"), &info), 0);
    assert_int_equal(topic_conf_set(&c, SLICE_LIT("lake.max.seconds"), SLICE_LIT("86400"), &info),
                     0);
    assert_int_equal(topic_alter_wait(f->b, SLICE_LIT(TOPIC), 0, &c, &info), 0);
    topic_unref(&t);
}

static void setting(struct fx *f, const char *name, const char *value)
{
    struct topic *t = topic_find(f->b, SLICE_LIT(TOPIC));
    struct errinfo info = {0};
    struct topic_conf c;

    topic_conf_get(t, &c);
    assert_int_equal(topic_conf_set(&c, slice_str(name), slice_str(value), &info), 0);
    assert_int_equal(topic_alter_wait(f->b, SLICE_LIT(TOPIC), 0, &c, &info), 0);
    topic_unref(&t);
}

struct look {
    char names[64][160]; /* below the topic's folder, sorted */
    unsigned files;
    unsigned records;
    uint8_t seen[4][256];
};

/* What a reader sees that lists the folder; each record at most once. */
static void look(struct fx *f, struct look *k)
{
    char command[400], line[4096];
    FILE *p;

    memset(k, 0, sizeof *k);
    snprintf(command, sizeof command,
             "cd '%s/lake/weir/" TOPIC "' && find . -name '*.jsonl' | sort | sed 's,^\\./,,'",
             f->dir);
    p = popen(command, "r");
    while (fgets(k->names[k->files], sizeof k->names[0], p)) {
        k->names[k->files][strcspn(k->names[k->files], "\n")] = 0;
        k->files++;
    }
    pclose(p);
    for (unsigned i = 0; i < k->files; i++) {
        snprintf(command, sizeof command, "%s/lake/weir/" TOPIC "/%s", f->dir, k->names[i]);
        p = fopen(command, "r");
        while (fgets(line, sizeof line, p)) {
            json_t *o = json_loads(line, 0, NULL);

            assert_non_null(o);
            assert_int_equal(k->seen[json_integer_value(json_object_get(o, "partition"))]
                                    [json_integer_value(json_object_get(o, "offset"))]++,
                             0);
            k->records++;
            json_decref(o);
        }
        fclose(p);
    }
}

static void names_are(struct fx *f, unsigned records, unsigned n, const char *const *want)
{
    struct look *k = xcalloc(1, sizeof *k);
    unsigned i;

    look(f, k);
    for (i = 0; i < k->files && i < n; i++)
        assert_string_equal(k->names[i], want[i]);
    assert_int_equal(k->files, n);
    assert_int_equal(k->records, records);
    free(k);
}

#define NAMES_ARE(f, records, ...)                                                \
    names_are(f, records, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), \
              (const char *[]){__VA_ARGS__})

static void shell(struct fx *f, const char *what)
{
    char command[1000];

    snprintf(command, sizeof command, "cd '%s/lake/weir/" TOPIC "' && %s", f->dir, what);
    assert_int_equal(system(command), 0);
}

static void reopen(struct fx *f)
{
    fx_close(f);
    fx_open(f);
}

/* Two days whose records are mixed, and two partitions. */
static void days_put(struct fx *f)
{
    put_at(f, 0, NOON, "{\"a\":0}", 1);
    put_at(f, 0, NOON + DAY, "1", 1);
    put_at(f, 0, NOON, "2", 1);
    put_at(f, 1, NOON, "3", 1);
    put_at(f, 0, NOON + DAY, "4", 1);
}

static void test_days(void **state)
{
    struct fx *f = *state;
    json_t *j;

    jsonl_topic(f, 2);
    days_put(f);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 5, "2024/10/04/0-0-2.jsonl", "2024/10/04/1-0-0.jsonl", "2024/10/05/0-1-3.jsonl");
    job_fine(f, LAKE_FLUSH, "flush"); /* nothing new */
    j = status(f);
    assert_int_equal(json_integer_value(json_object_get(j, "snapshot")), 1);
    assert_string_equal(json_string_value(json_object_get(j, "format")), "jsonl");
    assert_int_equal(json_integer_value(json_object_get(j, "records")), 5);
    json_decref(j);
    put_at(f, 1, NOON, "5", 1);
    reopen(f);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 6, "2024/10/04/0-0-2.jsonl", "2024/10/04/1-0-0.jsonl", "2024/10/04/1-1-1.jsonl",
              "2024/10/05/0-1-3.jsonl");
}

/* A crash behind the commit: the files that are missing come with the same names and records. */
static void test_cut_short(void **state)
{
    struct fx *f = *state;

    jsonl_topic(f, 2);
    days_put(f);
    job_fine(f, LAKE_FLUSH, "flush");
    shell(
        f,
        "mkdir ../kept && cp -r 2024 ../kept && rm 2024/10/05/0-1-3.jsonl 2024/10/04/0-0-2.jsonl");
    put_at(f, 0, NOON, "6", 1);
    reopen(f);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 6, "2024/10/04/0-0-2.jsonl", "2024/10/04/0-4-4.jsonl", "2024/10/04/1-0-0.jsonl",
              "2024/10/05/0-1-3.jsonl");
    shell(f, "rm 2024/10/04/0-4-4.jsonl && diff -r 2024 ../kept/2024");
}

/* Somebody else has the next number: what it says is done first, then the flush goes on behind it. */
static void test_taken(void **state)
{
    struct fx *f = *state;

    jsonl_topic(f, 2);
    days_put(f);
    job_fine(f, LAKE_FLUSH, "flush");
    put_at(f, 0, NOON, "7", 1);
    put_at(f, 0, NOON, "8", 1);
    shell(f, "sed 's/\"number\":1,\"covered\":\\[4,1\\].*/\"number\":2,\"covered\":[5,1],\"files\":"
             "[{\"path\":\"2024\\/10\\/04\\/0-4-4.jsonl\",\"partition\":0,\"records\":1,"
             "\"ranges\":[[4,5]]}]}/' _weir/00000000000000000001.commit "
             "> _weir/00000000000000000002.commit");
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 7, "2024/10/04/0-0-2.jsonl", "2024/10/04/0-4-4.jsonl", "2024/10/04/0-5-5.jsonl",
              "2024/10/04/1-0-0.jsonl", "2024/10/05/0-1-3.jsonl");
}

/* ---- maintenance ---- */

static void six_files(struct fx *f)
{
    jsonl_topic(f, 1);
    for (unsigned i = 0; i < 6; i++) {
        put_at(f, 0, NOON, "{\"n\":1}", 1);
        job_fine(f, LAKE_FLUSH, "flush");
    }
}

static void test_compact(void **state)
{
    struct fx *f = *state;

    six_files(f);
    job_fine(f, LAKE_COMPACT, "compact");
    NAMES_ARE(f, 6, "2024/10/04/0-0-5.jsonl");
    shell(f, "test $(ls _weir | grep -vc commit) = 0");
    put_at(f, 0, NOON, "9", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    job_fine(f, LAKE_COMPACT, "compact"); /* two are not worth it */
    NAMES_ARE(f, 7, "2024/10/04/0-0-5.jsonl", "2024/10/04/0-6-6.jsonl");
}

/* What a replay reads: one file with these offsets. */
static void view_is(struct fx *f, int64_t first, int64_t last)
{
    const struct lake_at now = {LAKE_AT_NOW, 0};
    struct topic *t = topic_find(f->b, SLICE_LIT(TOPIC));
    struct errinfo info = {0};
    struct lake_view *v = NULL;

    if (lake_view_get(f->l, t, &now, &v, &info))
        fail_msg("%s", info.text);
    assert_true(v->lines && v->files_n == 1);
    assert_true(v->file[0].offset_min == first && v->file[0].offset_max == last);
    assert_int_equal(v->boundary[0], last + 1);
    lake_view_release(&v);
    topic_unref(&t);
}

/* A crash in each step of a merge: readers never see a record twice, and then all of them once. */
static void test_compact_cut_short(void **state)
{
    struct fx *f = *state;

    six_files(f);
    shell(f, "cp -r 2024 ../small");
    job_fine(f, LAKE_COMPACT, "compact");
    /* the commit is there, small files are left, the large one is not there yet */
    shell(
        f,
        "C=_weir/$(ls _weir | tail -1) && N=$(sed 's/.*\"merged\":\"\\([^\"]*\\)\".*/\\1/' $C) && "
        "cp 2024/10/04/0-0-5.jsonl $N && cp $N ../copy && echo $N > ../name && "
        "rm -r 2024 && mkdir -p 2024/10/04 && cp ../small/10/04/0-3-3.jsonl 2024/10/04");
    view_is(f, 0, 5);
    reopen(f);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 6, "2024/10/04/0-0-5.jsonl");
    shell(f, "test $(ls _weir | grep -vc commit) = 0");
    /* all is done but the removal of the first copy */
    shell(f, "cp ../copy $(cat ../name)");
    reopen(f);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 6, "2024/10/04/0-0-5.jsonl");
    shell(f, "test $(ls _weir | grep -vc commit) = 0");
}

static void test_expire(void **state)
{
    struct fx *f = *state;
    json_t *j;

    jsonl_topic(f, 2);
    days_put(f);
    put_at(f, 1, io_wall_ms(io_real()), "10", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    setting(f, "lake.retention.ms", "864000000");
    shell(f, "touch 2024/10/04/mine.jsonl.txt");
    job_fine(f, LAKE_EXPIRE, "expire");
    {
        struct look *k = xcalloc(1, sizeof *k);

        look(f, k);
        assert_int_equal(k->records, 1);
        free(k);
    }
    shell(f, "test -f 2024/10/04/mine.jsonl.txt");
    reopen(f); /* what went is not put again */
    put_at(f, 1, NOON, "11", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    j = status(f);
    assert_int_equal(json_integer_value(json_object_get(j, "lost")), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "files")), 1);
    json_decref(j);
    job_fine(f, LAKE_EXPIRE, "expire"); /* old commits go but for the newest */
    shell(f, "test $(ls _weir | wc -l) -le 2");
}

/* ---- other topics, other formats ---- */

static void test_anew(void **state)
{
    struct fx *f = *state;
    struct errinfo info = {0};
    char outcome[64];

    jsonl_topic(f, 2);
    days_put(f);
    job_fine(f, LAKE_FLUSH, "flush");
    assert_int_equal(topic_delete_wait(f->b, SLICE_LIT(TOPIC), &info), 0);
    jsonl_topic(f, 2);
    days_put(f);
    job(f, LAKE_FLUSH, "flush", outcome);
    assert_string_equal(outcome, "exists");
    shell(f, "mv 2024 _weir ..");
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 5, "2024/10/04/0-0-2.jsonl", "2024/10/04/1-0-0.jsonl", "2024/10/05/0-1-3.jsonl");
}

static void test_compressed(void **state)
{
    struct fx *f = *state;

    jsonl_topic(f, 1);
    for (unsigned i = 0; i < 8; i++) {
        setting(f, "lake.jsonl.compression", i < 4 ? "gzip" : "zstd");
        put_at(f, 0, NOON, "{\"n\":1}", 1);
        job_fine(f, LAKE_FLUSH, "flush");
    }
    job_fine(f, LAKE_COMPACT, "compact");
    shell(f,
          "cd 2024/10/04 && test $(ls | wc -l) = 2 && test $(zcat 0-0-3.jsonl.gz | wc -l) = 4 && "
          "test -f 0-4-7.jsonl.zst");
}

static void test_table_before(void **state)
{
    struct fx *f = *state;

    jsonl_topic(f, 1);
    put_at(f, 0, NOON, "12", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    view_is(f, 0, 0);
    setting(f, "lake.enable", "false");
    setting(f, "lake.format", "iceberg");
    setting(f, "lake.format", "jsonl");
    setting(f, "lake.enable", "true");
    put_at(f, 0, NOON, "13", 1);
    job_fine(f, LAKE_FLUSH, "flush");
    NAMES_ARE(f, 2, "2024/10/04/0-0-0.jsonl", "2024/10/04/0-1-1.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_other_lines),
        cmocka_unit_test_setup_teardown(test_days, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compact_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compressed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table_before, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
