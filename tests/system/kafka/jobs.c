/* Jobs that go on while their server is killed and started again:
 *
 *   jobs produce BOOTSTRAP TOPIC FIRST      numbers FIRST, FIRST+1 … by an idempotent producer until
 *                                           standard input ends; prints each that was acknowledged
 *   jobs fill BOOTSTRAP TOPIC FIRST END     the same for a range, and ends by itself
 *   jobs copy BOOTSTRAP IN OUT NAME COUNT   consume, transform, produce in transactions until the
 *                                           group NAME has COUNT records of IN behind it
 *
 * Exits with 3 when only a new process can go on (another one has its place). */
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS    60000
#define BATCH      100
#define BATCH_MS   30
#define PARTITIONS 2

static void die(const char *what, const char *why)
{
    fprintf(stderr, "jobs: %s: %s\n", what, why);
    exit(1);
}

static long long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char err[300];

    if (rd_kafka_conf_set(conf, key, value, err, sizeof err) != RD_KAFKA_CONF_OK)
        die(key, err);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *bootstrap)
{
    char err[300];
    rd_kafka_t *rk;

    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "log_level", "2"); /* that the server goes away is no news */
    set(conf, "reconnect.backoff.ms", "20");
    set(conf, "reconnect.backoff.max.ms", "200");
    rk = rd_kafka_new(type, conf, err, sizeof err);
    if (!rk)
        die("client", err);
    return rk;
}

/* ---- produce ---- */

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err)
        die("delivery", rd_kafka_err2str(m->err));
    printf("%.*s\n", (int)m->len, (const char *)m->payload);
}

static bool input_ended(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    char c;

    return poll(&p, 1, 0) == 1 && read(0, &c, 1) <= 0;
}

/* end < 0: until standard input ends, not too fast. */
static void produce(const char *bootstrap, const char *topic, long first, long end)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *rk;
    char value[40];
    long n;

    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "2");
    set(conf, "message.timeout.ms", "0");
    set(conf, "retry.backoff.ms", "20");
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rk = client(RD_KAFKA_PRODUCER, conf, bootstrap);
    for (n = first; end < 0 ? !input_ended() : n < end; n++) {
        rd_kafka_resp_err_t e;

        snprintf(value, sizeof value, "%ld", n);
        do {
            e = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic),
                                  RD_KAFKA_V_PARTITION((int32_t)(n % PARTITIONS)),
                                  RD_KAFKA_V_VALUE(value, strlen(value)),
                                  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
            rd_kafka_poll(rk, e ? 10 : 0);
        } while (e == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        if (e)
            die("produce", rd_kafka_err2str(e));
        if (end < 0)
            usleep(100);
    }
    if (rd_kafka_flush(rk, WAIT_MS))
        die("flush", "not all were delivered");
    rd_kafka_destroy(rk);
}

/* ---- copy ---- */

struct copy {
    const char *in, *out, *name;
    long count;
    rd_kafka_t *from, *to;
    rd_kafka_topic_partition_list_t *next; /* offsets behind what is in the transaction */
};

/* An error of a transaction: again, abort, or over. */
enum outcome { FINE, ABORT };

static enum outcome outcome(rd_kafka_error_t *e, const char *what)
{
    bool abort, fatal;

    if (!e)
        return FINE;
    fprintf(stderr, "jobs: %s: %s\n", what, rd_kafka_error_string(e));
    abort = rd_kafka_error_txn_requires_abort(e);
    fatal = rd_kafka_error_is_fatal(e);
    rd_kafka_error_destroy(e);
    if (fatal)
        exit(3);
    if (!abort)
        die(what, "neither to be tried again nor to be aborted");
    return ABORT;
}

/* What may be tried again is, as often as it takes. */
#define AGAIN(call, what)                                        \
    __extension__({                                              \
        rd_kafka_error_t *e_;                                    \
        while ((e_ = (call)) && rd_kafka_error_is_retriable(e_)) \
            rd_kafka_error_destroy(e_);                          \
        outcome(e_, what);                                       \
    })

/* Back to where the group is. */
static void rewind_to_committed(struct copy *c)
{
    rd_kafka_topic_partition_list_t *l;
    rd_kafka_error_t *e;
    int i;

    if (rd_kafka_assignment(c->from, &l) || l->cnt == 0)
        return;
    while (rd_kafka_committed(c->from, l, 5000))
        ;
    for (i = 0; i < l->cnt; i++)
        if (l->elems[i].offset < 0)
            l->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
    e = rd_kafka_seek_partitions(c->from, l, 5000);
    if (e)
        rd_kafka_error_destroy(e);
    rd_kafka_topic_partition_list_destroy(l);
}

static void send_one(struct copy *c, const rd_kafka_message_t *m)
{
    rd_kafka_resp_err_t e;
    char value[60];

    snprintf(value, sizeof value, "copy %.*s", (int)m->len, (const char *)m->payload);
    do {
        e = rd_kafka_producev(c->to, RD_KAFKA_V_TOPIC(c->out), RD_KAFKA_V_PARTITION(m->partition),
                              RD_KAFKA_V_VALUE(value, strlen(value)),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        rd_kafka_poll(c->to, e == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 10 : 0);
    } while (e == RD_KAFKA_RESP_ERR__QUEUE_FULL);
}

/* Reads and sends some; false: there was nothing. */
static bool send_some(struct copy *c)
{
    long long end = now_ms() + BATCH_MS;
    bool any = false;
    int i, n = 0;

    for (i = 0; i < PARTITIONS; i++)
        rd_kafka_topic_partition_list_set_offset(c->next, c->in, i, RD_KAFKA_OFFSET_INVALID);
    while (n < BATCH && now_ms() < end) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(c->from, 10);

        if (!m)
            continue;
        if (!m->err) {
            if (!any && outcome(rd_kafka_begin_transaction(c->to), "begin"))
                exit(3);
            any = true;
            send_one(c, m);
            rd_kafka_topic_partition_list_set_offset(c->next, c->in, m->partition, m->offset + 1);
            n++;
        }
        rd_kafka_message_destroy(m);
    }
    return any;
}

static enum outcome finish(struct copy *c)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(PARTITIONS);
    rd_kafka_consumer_group_metadata_t *meta = rd_kafka_consumer_group_metadata(c->from);
    enum outcome o;
    int i;

    for (i = 0; i < PARTITIONS; i++)
        if (c->next->elems[i].offset >= 0)
            rd_kafka_topic_partition_list_add(l, c->in, i)->offset = c->next->elems[i].offset;
    o = AGAIN(rd_kafka_send_offsets_to_transaction(c->to, l, meta, 5000), "offsets");
    if (!o)
        o = AGAIN(rd_kafka_commit_transaction(c->to, 5000), "commit");
    rd_kafka_consumer_group_metadata_destroy(meta);
    rd_kafka_topic_partition_list_destroy(l);
    return o;
}

static long behind(struct copy *c)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(PARTITIONS);
    long n = 0;
    int i;

    for (i = 0; i < PARTITIONS; i++)
        rd_kafka_topic_partition_list_add(l, c->in, i);
    if (!rd_kafka_committed(c->from, l, 5000))
        for (i = 0; i < PARTITIONS; i++)
            n += l->elems[i].offset > 0 ? (long)l->elems[i].offset : 0;
    rd_kafka_topic_partition_list_destroy(l);
    return n;
}

static void copy_open(struct copy *c, const char *bootstrap)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int i;

    set(conf, "transactional.id", c->name);
    set(conf, "linger.ms", "1");
    set(conf, "retry.backoff.ms", "20");
    c->to = client(RD_KAFKA_PRODUCER, conf, bootstrap);
    conf = rd_kafka_conf_new();
    set(conf, "group.id", c->name);
    set(conf, "group.instance.id", c->name);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.commit", "false");
    set(conf, "session.timeout.ms", "6000");
    set(conf, "heartbeat.interval.ms", "200");
    c->from = client(RD_KAFKA_CONSUMER, conf, bootstrap);
    rd_kafka_poll_set_consumer(c->from);
    c->next = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (i = 0; i < PARTITIONS; i++)
        rd_kafka_topic_partition_list_add(c->next, c->in, i);
    if (AGAIN(rd_kafka_init_transactions(c->to, 5000), "init"))
        exit(3);
    rd_kafka_topic_partition_list_add(l, c->in, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(c->from, l))
        die("subscribe", c->in);
    rd_kafka_topic_partition_list_destroy(l);
}

static void copy(struct copy *c, const char *bootstrap)
{
    long done = 0, aborted = 0;

    copy_open(c, bootstrap);
    for (;;) {
        if (!send_some(c)) {
            if (behind(c) >= c->count)
                break;
        } else if (finish(c) == FINE) {
            if (++done == 1) {
                puts("started");
                fflush(stdout);
            }
        } else {
            if (AGAIN(rd_kafka_abort_transaction(c->to, 5000), "abort"))
                exit(3);
            rewind_to_committed(c);
            aborted++;
        }
    }
    printf("%ld committed %ld aborted\n", done, aborted);
    rd_kafka_consumer_close(c->from);
    rd_kafka_topic_partition_list_destroy(c->next);
    rd_kafka_destroy(c->from);
    rd_kafka_destroy(c->to);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "produce") == 0) {
        produce(argv[2], argv[3], strtol(argv[4], NULL, 10), -1);
    } else if (argc == 6 && strcmp(argv[1], "fill") == 0) {
        produce(argv[2], argv[3], strtol(argv[4], NULL, 10), strtol(argv[5], NULL, 10));
    } else if (argc == 7 && strcmp(argv[1], "copy") == 0) {
        struct copy c = {argv[3], argv[4], argv[5], strtol(argv[6], NULL, 10), NULL, NULL, NULL};

        copy(&c, argv[2]);
    } else {
        return 2;
    }
    return 0;
}
