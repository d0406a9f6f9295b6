/* Configuration files: what is taken, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "broker/coordinator.h"
#include "server/config.h"

static struct config conf;
static struct errinfo info;

static int setup(void **state)
{
    config_init(&conf);
    memset(&info, 0, sizeof info);
    return 0;
}

static int teardown(void **state)
{
    config_fini(&conf);
    return 0;
}

static enum err file_of(const char *text, size_t n)
{
    char path[] = "/tmp/weir-config-XXXXXX";
    int fd = mkstemp(path);
    enum err e;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    close(fd);
    e = config_file(&conf, path, &info);
    unlink(path);
    return e;
}

static enum err file(const char *text)
{
    return file_of(text, strlen(text));
}

static void refuses(const char *text, const char *words)
{
    assert_int_equal(file(text), ERR_CONFIG);
    if (!strstr(info.text, words))
        fail_msg("\"%s\" is not in: %s", words, info.text);
}

static void test_nested_and_dotted(void **state)
{
    assert_int_equal(file("http:\n  listen: [a:1, 'b:2']\n  tls: {cert: c, key: k}\n"
                          "journal.file_bytes: 1MiB\n"),
                     ERR_OK);
    assert_string_equal(conf.http.text, "a:1,b:2");
    assert_string_equal(conf.http.from, "file");
    assert_string_equal(conf.tls_cert.text, "c");
    assert_string_equal(conf.tls_key.text, "k");
    assert_int_equal(conf.file_bytes.n, 1 << 20);
    assert_string_equal(conf.data.from, "default");
}

/* A suffix means what the limit's unit says: m is minutes of a time, MiB of a size. */
static void test_units_of_limits(void **state)
{
    assert_int_equal(file("http:\n  idempotency_window_ms: 10m\n  heartbeat_ms: 1m\n"
                          "  read_bytes_max: 10m\n  retry_ms: 250\n"),
                     ERR_OK);
    assert_int_equal(conf.limits.idempotency_window_ms, 600000);
    assert_int_equal(conf.limits.heartbeat_ms, 60000);
    assert_int_equal(conf.limits.read_bytes_max, 10 << 20);
    assert_int_equal(conf.limits.retry_ms, 250);
    refuses("http.retry_ms: soon", "a time such as");
    refuses("http.retry_ms: 1MiB", "a time such as");
    refuses("http.depth_max: 1h", "a size such as");
    refuses("http.depth_max: -1", "cannot be '-1'");
    refuses("http.depth_max: 5000", "5000 is not 1 to 1024");
    assert_int_equal(conf.limits.depth_max, 64);
}

/* A list that does not fit is refused, not cut; one as long as a setting may be is taken whole. */
static void test_long_list(void **state)
{
    char text[8192] = "http.cors: [";
    size_t n = strlen(text);
    unsigned i;

    for (i = 0; i < 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%sx%018u", i ? "," : "", i);
    snprintf(text + n, sizeof text - n, "]\n");
    assert_int_equal(file(text), ERR_OK);
    assert_int_equal(strlen(conf.cors.text), 100 * 20 - 1);
    assert_non_null(strstr(conf.cors.text, ",x000000000000000099"));
    for (; i < 300; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%sx%018u", i ? "," : "", i);
    snprintf(text + n, sizeof text - n, "]\n");
    refuses(text, "this list is too long");
}

/* Nothing hides behind a NUL. */
static void test_nul(void **state)
{
    refuses("data: \"a\\0b\"\n", ":1:7: a value cannot have a NUL");
    refuses("http.listen: [\"a\\0b\"]\n", "a value cannot have a NUL");
    refuses("\"data\\0x\": a\n", "the name of a setting was expected");
    assert_int_equal(file_of("data: a\0b\n", 10), ERR_CONFIG);
    assert_string_equal(conf.data.text, "weir-data");
}

/* Keys named as Kafka's are the groups' configuration, and its defaults are theirs. */
static void test_groups(void **state)
{
    struct group_conf g, def;

    config_groups(&conf, &g);
    group_conf_default(&def);
    assert_memory_equal(&g, &def, offsetof(struct group_conf, upgrade));
    assert_int_equal(g.upgrade, def.upgrade);
    assert_int_equal(g.downgrade, def.downgrade);
    assert_int_equal(g.offsets_retention_minutes, def.offsets_retention_minutes);
    assert_int_equal(g.offsets_retention_check_ms, def.offsets_retention_check_ms);
    assert_int_equal(file("group:\n  streams:\n    session.timeout.ms: 20000\n"
                          "    heartbeat.interval.ms: 4s\n    max.size: 7\n"
                          "    num.standby.replicas: 2\n    assignment.interval.ms: 250\n"
                          "  consumer.migration.policy: upgrade\n"
                          "group.streams.initial.rebalance.delay.ms: 0\n"
                          "group.share.max.size: 3\noffsets.retention.minutes: 60\n"),
                     ERR_OK);
    config_groups(&conf, &g);
    assert_int_equal(g.streams_session_timeout_ms, 20000);
    assert_int_equal(g.streams_heartbeat_ms, 4000);
    assert_int_equal(g.streams_size_max, 7);
    assert_int_equal(g.streams_standby_replicas, 2);
    assert_int_equal(g.streams_interval_ms, 250);
    assert_int_equal(g.streams_initial_delay_ms, 0);
    assert_int_equal(g.share_size_max, 3);
    assert_int_equal(g.offsets_retention_minutes, 60);
    assert_true(g.upgrade && !g.downgrade);
    assert_int_equal(config_check(&conf, &info), ERR_OK);
    refuses("group.streams.max.size: 10001\n", "from 1 to 10000");
    refuses("group.streams.num.standby.replicas: 17\n", "from 0 to 16");
    assert_int_equal(file("group.streams.heartbeat.interval.ms: 21s\n"), ERR_OK);
    assert_int_equal(config_check(&conf, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "group.streams.heartbeat.interval.ms is 1 to 20000"));
}

static void test_refusals(void **state)
{
    refuses("- a\n", "settings were expected");
    refuses("just text\n", "settings were expected");
    refuses("log.levle: info\n", "did you mean 'log.level'");
    refuses("zzzzzzzzzz: 1\n", "there is no setting 'zzzzzzzzzz'");
    refuses("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", "a value was expected");
    refuses("data: *x\n", "a value was expected");
    refuses("loops: 257\n", "from 0 to 256");
    refuses("loops: \n", "loops cannot be ''");
    refuses("data: [a, [b]]\n", "a list may have plain values only");
    refuses("{data: x\n", ":");
    assert_int_equal(config_file(&conf, "/nowhere/weir.yaml", &info), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nested_and_dotted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_units_of_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nul, setup, teardown),
        cmocka_unit_test_setup_teardown(test_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
