/* librdkafka under a quota: `quota BOOTSTRAP TOPIC CLIENT produce|consume SECONDS BYTES`. Produces
 * values of so many bytes, or consumes from the beginning, as fast as it is let, for so long. The
 * first seconds do not count: what a quota gives in advance, and what was on its way when it was
 * found to be too much, is over then. Prints bytes of values that were acknowledged (or consumed),
 * microseconds, how many answers told of throttling, and the longest time that one told. */
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAD_US 4000000

static int64_t bytes, throttles, longest;

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void throttled(rd_kafka_t *rk, const char *broker, int32_t id, int ms, void *arg)
{
    (void)rk, (void)broker, (void)id, (void)arg;
    if (ms > 0)
        throttles++;
    if (ms > longest)
        longest = ms;
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk, (void)arg;
    if (m->err) {
        fprintf(stderr, "not delivered: %s\n", rd_kafka_err2str(m->err));
        exit(1);
    }
    bytes += (int64_t)m->len;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char why[200];

    if (rd_kafka_conf_set(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
}

static void produce(rd_kafka_t *rk, const char *topic, const char *value, size_t n)
{
    if (rd_kafka_outq_len(rk) < 200)
        rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic),
                          RD_KAFKA_V_VALUE((void *)(uintptr_t)value, n),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    rd_kafka_poll(rk, rd_kafka_outq_len(rk) < 200 ? 0 : 10);
}

static void consume(rd_kafka_t *rk)
{
    rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);

    if (m && !m->err)
        bytes += (int64_t)m->len;
    if (m)
        rd_kafka_message_destroy(m);
}

int main(int argc, char **argv)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool producer = argc == 7 && strcmp(argv[4], "produce") == 0;
    int64_t from = 0, start, end, n = argc == 7 ? atoll(argv[6]) : 0;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    char why[200], *value = calloc(1, (size_t)n + 1);
    rd_kafka_t *rk;

    if (argc != 7)
        return 2;
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "client.id", argv[3]);
    rd_kafka_conf_set_throttle_cb(conf, throttled);
    if (producer) {
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        set(conf, "batch.size", "50000");
        set(conf, "linger.ms", "1");
    } else {
        set(conf, "group.id", argv[3]);
        set(conf, "auto.offset.reset", "earliest");
        set(conf, "fetch.message.max.bytes", "50000");
        set(conf, "queued.max.messages.kbytes", "100");
        set(conf, "fetch.max.bytes", "60000");
        set(conf, "message.max.bytes", "60000");
    }
    rk = rd_kafka_new(producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!rk) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    if (!producer) {
        rd_kafka_topic_partition_list_add(list, argv[2], 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
        rd_kafka_poll_set_consumer(rk);
        rd_kafka_assign(rk, list);
    }
    for (start = now_us(); bytes == 0;) /* until the first is through */
        producer ? produce(rk, argv[2], value, (size_t)n) : consume(rk);
    start = now_us() + HEAD_US;
    end = start + atoll(argv[5]) * 1000000;
    while (now_us() < end) {
        producer ? produce(rk, argv[2], value, (size_t)n) : consume(rk);
        if (now_us() < start)
            from = bytes;
    }
    printf("%lld %lld %lld %lld\n", (long long)(bytes - from), (long long)(now_us() - start),
           (long long)throttles, (long long)longest);
    fflush(stdout);
    _Exit(0); /* what is still waiting is not waited for */
}
