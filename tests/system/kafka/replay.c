/* Records written and read again by librdkafka, by digest: `replay BOOTSTRAP TOPIC odd N` writes N records
 * of every shape, in transactions of which some are aborted; `replay BOOTSTRAP TOPIC lines FILE` a file's
 * lines, keyed by their number; `replay BOOTSTRAP TOPIC read` reads all that there is. Each prints, for
 * each partition that has records, "partition records digest": over offset, timestamp, key, value and
 * headers of each record, in order of offset. On stderr: what was wrong, or bytes and seconds. */
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PARTITIONS_MAX 64
#define CHUNK          100
#define TS             1700000000000LL

struct digest {
    uint64_t n, sum;
};
static struct digest done[PARTITIONS_MAX], chunk[PARTITIONS_MAX];
static uint64_t bytes;
static bool ended[PARTITIONS_MAX];

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void mix(uint64_t *h, const void *p, int64_t n)
{
    const uint8_t *b = p;
    int64_t i;

    *h = (*h ^ (uint64_t)n) * 1099511628211u; /* -1: null */
    for (i = 0; i < n; i++)
        *h = (*h ^ b[i]) * 1099511628211u;
}

static void take(struct digest *d, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t type;
    int64_t ts = rd_kafka_message_timestamp(m, &type);
    rd_kafka_headers_t *hs = NULL;
    const char *name;
    const void *value;
    uint64_t *h = &d[m->partition].sum;
    size_t i, n;

    mix(h, &m->offset, sizeof m->offset);
    mix(h, &ts, sizeof ts);
    mix(h, m->key, m->key ? (int64_t)m->key_len : -1);
    mix(h, m->payload, m->payload ? (int64_t)m->len : -1);
    if (!rd_kafka_message_headers(m, &hs))
        for (i = 0; !rd_kafka_header_get_all(hs, i, &name, &value, &n); i++) {
            mix(h, name, (int64_t)strlen(name));
            mix(h, value, value ? (int64_t)n : -1);
        }
    d[m->partition].n++;
    bytes += m->len + m->key_len;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err)
        fail("delivery", rd_kafka_err2str(m->err));
    take(chunk, m);
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *bootstrap, const char *const (*set)[2])
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char err[300];
    rd_kafka_t *rk;

    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, err, sizeof err))
        fail("conf", err);
    for (; (*set)[0]; set++)
        if (rd_kafka_conf_set(conf, (*set)[0], (*set)[1], err, sizeof err))
            fail((*set)[0], err);
    if (!(rk = rd_kafka_new(type, conf, err, sizeof err)))
        fail("client", err);
    return rk;
}

static void send_one(rd_kafka_t *rk, const char *topic, int64_t ts, const void *key, size_t key_len,
                     const void *value, size_t len, rd_kafka_headers_t *hs)
{
    rd_kafka_resp_err_t e;

    do {
        e = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(key, key_len),
                              RD_KAFKA_V_VALUE((void *)(uintptr_t)value, len),
                              RD_KAFKA_V_TIMESTAMP(ts), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                              RD_KAFKA_V_HEADERS(hs), RD_KAFKA_V_END);
        if (e == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            rd_kafka_poll(rk, 50);
    } while (e == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    if (e)
        fail("produce", rd_kafka_err2str(e));
    rd_kafka_poll(rk, 0);
}

/* The n-th record of the shapes that there are. */
static void send_odd(rd_kafka_t *rk, const char *topic, unsigned n)
{
    static char value[70000];
    rd_kafka_headers_t *hs = rd_kafka_headers_new(4);
    size_t len = n % 97 == 0 ? sizeof value : n % 13 * 7;
    char key[32];
    size_t i;

    for (i = 0; i < len; i++)
        value[i] = (char)(n * 31 + i * 7); /* not UTF-8, zeros too */
    snprintf(key, sizeof key, "k\xff%u", n % 50);
    if (n % 5 == 1) {
        rd_kafka_header_add(hs, "same", -1, "1", 1);
        rd_kafka_header_add(hs, "other", -1, NULL, 0);
        rd_kafka_header_add(hs, "same", -1, "\0\xfe", 2);
        rd_kafka_header_add(hs, "", -1, "", 0);
    }
    send_one(rk, topic, TS + (int64_t)n * 977 % 86400000,
             n % 7 == 3   ? NULL
             : n % 7 == 4 ? ""
                          : key,
             n % 7 == 3 || n % 7 == 4 ? 0 : strlen(key), n % 11 == 5 ? NULL : value,
             n % 11 == 5 ? 0 : len, hs);
}

static void check(const char *what, rd_kafka_error_t *e)
{
    if (e)
        fail(what, rd_kafka_error_string(e));
}

static void odd(const char *bootstrap, const char *topic, unsigned n)
{
    const char *const set[][2] = {
        {"transactional.id", topic}, {"linger.ms", "5"}, {"partitioner", "murmur2"}, {NULL, NULL}};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, bootstrap, set);
    unsigned i, at = 0, round;

    check("init", rd_kafka_init_transactions(rk, 30000));
    for (round = 0; at < n; round++) {
        check("begin", rd_kafka_begin_transaction(rk));
        memcpy(chunk, done, sizeof chunk);
        for (i = 0; i < CHUNK && at < n; i++)
            send_odd(rk, topic, at++);
        if (rd_kafka_flush(rk, 30000))
            fail("flush", "it took too long");
        if (round % 4 == 2) {
            check("abort", rd_kafka_abort_transaction(rk, 30000));
            continue;
        }
        check("commit", rd_kafka_commit_transaction(rk, 30000));
        memcpy(done, chunk, sizeof done);
    }
    rd_kafka_destroy(rk);
}

static void lines(const char *bootstrap, const char *topic, const char *path)
{
    const char *const set[][2] = {{"enable.idempotence", "true"}, {"linger.ms", "20"},
                                  {"partitioner", "murmur2"},     {"compression.type", "lz4"},
                                  {"batch.size", "1000000"},      {NULL, NULL}};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, bootstrap, set);
    FILE *f = fopen(path, "r");
    char *line = NULL, key[32];
    size_t cap = 0;
    ssize_t n;
    unsigned i = 0;

    if (!f)
        fail(path, "cannot be opened");
    while ((n = getline(&line, &cap, f)) > 0) {
        snprintf(key, sizeof key, "%u", i++);
        send_one(rk, topic, TS + i, key, strlen(key), line, (size_t)n - (line[n - 1] == '\n'),
                 NULL);
    }
    free(line);
    fclose(f);
    if (rd_kafka_flush(rk, 120000))
        fail("flush", "it took too long");
    memcpy(done, chunk, sizeof done);
    rd_kafka_destroy(rk);
}

/* Until each partition said that it is at its end. */
static void read_all(const char *bootstrap, const char *topic, int partitions)
{
    const char *const set[][2] = {{"group.id", "replay"},
                                  {"enable.auto.commit", "false"},
                                  {"enable.partition.eof", "true"},
                                  {"auto.offset.reset", "error"},
                                  {"check.crcs", "true"},
                                  {"queued.min.messages", "10000000"}, /* never idle */
                                  {"queued.max.messages.kbytes", "1000000"},
                                  {"fetch.message.max.bytes", "4000000"},
                                  {NULL, NULL}};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, bootstrap, set);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    time_t heard = time(NULL);
    int left = partitions, i;

    for (i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
    rd_kafka_poll_set_consumer(rk);
    if (rd_kafka_assign(rk, list))
        fail("assign", "it was refused");
    while (left) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 1000);

        if (!m || (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)) {
            if (m && (m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
                      m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET))
                fail("consume", rd_kafka_message_errstr(m));
            if (time(NULL) - heard > 60)
                fail("consume", m ? rd_kafka_message_errstr(m) : "nothing came for a minute");
        } else if (m->err) {
            left -= !ended[m->partition];
            ended[m->partition] = true;
        } else {
            take(done, m);
            heard = time(NULL);
        }
        if (m)
            rd_kafka_message_destroy(m);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

int main(int argc, char **argv)
{
    struct timespec a, b;
    int i;

    if (argc != 5)
        fail("usage", "replay BOOTSTRAP TOPIC odd N | lines FILE | read PARTITIONS");
    clock_gettime(CLOCK_MONOTONIC, &a);
    if (strcmp(argv[3], "odd") == 0)
        odd(argv[1], argv[2], (unsigned)strtoul(argv[4], NULL, 10));
    else if (strcmp(argv[3], "lines") == 0)
        lines(argv[1], argv[2], argv[4]);
    else
        read_all(argv[1], argv[2], (int)strtol(argv[4], NULL, 10));
    clock_gettime(CLOCK_MONOTONIC, &b);
    for (i = 0; i < PARTITIONS_MAX; i++)
        if (done[i].n)
            printf("%d %llu %016llx\n", i, (unsigned long long)done[i].n,
                   (unsigned long long)done[i].sum);
    fprintf(stderr, "%llu %.3f\n", (unsigned long long)bytes,
            (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    return 0;
}
