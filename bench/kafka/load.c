/* The load of an ordinary client, librdkafka with its own settings: many producers with acks=all,
 * consumers from the beginning or at the end, in one process.
 *
 *   bench-kafka-load --brokers HOST:PORT --topic NAME --partitions N --producers N --consumers N …
 *
 * With --rate records are handed over at times fixed beforehand, and a latency counts from the time
 * when its record was due. Consumers are assigned partitions in turn, without a group; with a rate
 * they begin at the end and measure how long ago what they read was due, else at the beginning.
 * Each producer and consumer has a thread and its own counts, under a lock that the main thread
 * takes at the end of a window. */
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "measure.h"

#define CLIENTS_MAX    256
#define BATCH_MAX      1000
#define QUEUE_BYTES    (256u << 20) /* of all producers together */
#define FLUSH_MS       30000
#define LINGER_DEFAULT UINT32_MAX
#define POLL_MS        50
#define RECORD_MAX     (1u << 20)
#define TIMER_ROUND \
    1000000 /* records at least so many nanoseconds apart are waited for one by one */

struct client {
    pthread_t thread;
    pthread_mutex_t lock; /* of counts */
    struct counts counts;
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    uint32_t index;
};

static struct {
    const char *brokers, *topic;
    uint32_t partitions, producers, consumers, windows, linger_ms, record, pid;
    double seconds, warm_s, rate;
    bool idempotent;
} o = {.brokers = "",
       .topic = "bench-0",
       .partitions = 1,
       .windows = 1,
       .linger_ms = LINGER_DEFAULT,
       .record = 1024,
       .seconds = 1};

static struct client clients[CLIENTS_MAX];
static atomic_bool stopping;

/* ---- librdkafka ---- */

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char why[512];

    if (rd_kafka_conf_set(conf, key, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        die(key, why);
}

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    struct client *c = arg;
    uint64_t now = now_ns(), due = (uint64_t)(uintptr_t)m->_private;

    if (m->err && !atomic_load(&stopping))
        die("delivery", rd_kafka_err2str(m->err));
    pthread_mutex_lock(&c->lock);
    c->counts.out_records++;
    c->counts.out_bytes += m->len;
    hist_add(&c->counts.ack, now > due ? now - due : 0);
    pthread_mutex_unlock(&c->lock);
}

static void open_client(struct client *c, rd_kafka_type_t type)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[512], text[32];

    set(conf, "bootstrap.servers", o.brokers);
    rd_kafka_conf_set_opaque(conf, c);
    if (type == RD_KAFKA_PRODUCER) {
        set(conf, "acks", "all");
        snprintf(text, sizeof text, "%u", QUEUE_BYTES / 1024 / o.producers);
        set(conf, "queue.buffering.max.kbytes", text);
        snprintf(text, sizeof text, "%u", o.linger_ms);
        if (o.linger_ms != LINGER_DEFAULT)
            set(conf, "linger.ms", text);
        set(conf, "enable.idempotence", o.idempotent ? "true" : "false");
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    }
    c->rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!c->rk)
        die("librdkafka", why);
    c->topic = rd_kafka_topic_new(c->rk, o.topic, NULL);
}

/* ---- producers ---- */

static void hand_over(struct client *c, uint8_t *value, uint64_t due)
{
    memcpy(value, &due, sizeof due);
    while (rd_kafka_produce(c->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, o.record,
                            NULL, 0, (void *)(uintptr_t)due)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(c->rk, 1);
        if (atomic_load(&stopping))
            return;
    }
}

/* Sleeps until `due`, taking delivery reports meanwhile. */
static void wait_until(struct client *c, double due)
{
    double left = due - (double)now_ns();
    struct timespec t = {0};

    rd_kafka_poll(c->rk, left > 2.0 * TIMER_ROUND ? 1 : 0);
    left = due - (double)now_ns();
    if (left <= 0)
        return;
    t.tv_nsec = (long)(left < TIMER_ROUND ? left : TIMER_ROUND);
    nanosleep(&t, NULL);
}

static void *produce(void *arg)
{
    struct client *c = arg;
    double interval = o.rate > 0 ? 1e9 / o.rate * o.producers : 0;
    double due = (double)now_ns() + interval / o.producers * c->index;
    uint8_t *value = malloc(o.record);
    uint64_t seed = 1, n;
    uint32_t i;

    prctl(PR_SET_TIMERSLACK, 1000);
    for (i = 0; i < o.record; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        value[i] = (uint8_t)(seed >> 56);
    }
    for (n = 0; !atomic_load_explicit(&stopping, memory_order_relaxed); n++) {
        if (o.rate > 0) {
            while ((double)now_ns() < due && !atomic_load(&stopping))
                wait_until(c, due);
            hand_over(c, value, (uint64_t)due);
            due += interval;
        } else {
            hand_over(c, value, now_ns());
        }
        if (n % 64 == 0)
            rd_kafka_poll(c->rk, 0);
    }
    rd_kafka_purge(c->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(c->rk, FLUSH_MS);
    free(value);
    return NULL;
}

/* ---- consumers ---- */

static void consumed(struct client *c, rd_kafka_message_t **m, ssize_t n)
{
    uint64_t now = now_ns(), due;
    ssize_t i;

    pthread_mutex_lock(&c->lock);
    for (i = 0; i < n; i++) {
        if (m[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            c->counts.in_records++;
            c->counts.in_bytes += m[i]->len;
            if (o.rate > 0 && m[i]->len >= sizeof due) {
                memcpy(&due, m[i]->payload, sizeof due);
                hist_add(&c->counts.e2e, now > due ? now - due : 0);
            }
        } else if (m[i]->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            die("consume", rd_kafka_err2str(m[i]->err));
        }
        rd_kafka_message_destroy(m[i]);
    }
    pthread_mutex_unlock(&c->lock);
}

static void *consume(void *arg)
{
    struct client *c = arg;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(c->rk);
    rd_kafka_message_t *m[BATCH_MAX];
    int64_t from = o.rate > 0 ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
    uint32_t p;

    for (p = c->index; p < o.partitions; p += o.consumers)
        if (rd_kafka_consume_start_queue(c->topic, (int32_t)p, from, queue))
            die("consume", rd_kafka_err2str(rd_kafka_last_error()));
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, POLL_MS, m, o.rate > 0 ? 1 : BATCH_MAX);

        if (n > 0)
            consumed(c, m, n);
        rd_kafka_poll(c->rk, 0);
    }
    for (p = c->index; p < o.partitions; p += o.consumers)
        rd_kafka_consume_stop(c->topic, (int32_t)p);
    rd_kafka_queue_destroy(queue);
    return NULL;
}

/* ---- the run ---- */

static void collect(struct counts *all, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        pthread_mutex_lock(&clients[i].lock);
        counts_merge(all, &clients[i].counts);
        memset(&clients[i].counts, 0, sizeof clients[i].counts);
        pthread_mutex_unlock(&clients[i].lock);
    }
}

static void run(void)
{
    static struct counts all;
    struct meter meter;
    bool more = true;
    uint32_t i, n = o.producers + o.consumers;

    for (i = 0; i < n; i++) {
        bool producer = i < o.producers;

        pthread_mutex_init(&clients[i].lock, NULL);
        clients[i].index = producer ? i : i - o.producers;
        open_client(&clients[i], producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER);
    }
    meter_init(&meter, (pid_t)o.pid, o.warm_s, o.seconds, (int)o.windows);
    for (i = 0; i < n; i++)
        if (pthread_create(&clients[i].thread, NULL, i < o.producers ? produce : consume,
                           &clients[i]))
            die("thread", "cannot be started");
    while (more) {
        uint64_t now = now_ns();

        if (!meter_due(&meter, now)) {
            uint64_t left = meter.next_ns - now;
            struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};

            nanosleep(&t, NULL);
            continue;
        }
        collect(&all, n);
        more = meter_window(&meter, &all);
    }
    atomic_store(&stopping, true);
    for (i = 0; i < n; i++)
        pthread_join(clients[i].thread, NULL);
    for (i = 0; i < n; i++) {
        rd_kafka_topic_destroy(clients[i].topic);
        rd_kafka_destroy(clients[i].rk);
    }
}

static const struct choice choices[] = {
    {"--brokers", CHOICE_TEXT, &o.brokers, 0, 0},
    {"--topic", CHOICE_TEXT, &o.topic, 0, 0},
    {"--partitions", CHOICE_COUNT, &o.partitions, 1, 100000},
    {"--producers", CHOICE_COUNT, &o.producers, 0, CLIENTS_MAX / 2},
    {"--consumers", CHOICE_COUNT, &o.consumers, 0, CLIENTS_MAX / 2},
    {"--record", CHOICE_COUNT, &o.record, sizeof(uint64_t), RECORD_MAX}, /* a time goes into it */
    {"--windows", CHOICE_COUNT, &o.windows, 1, 1000},
    {"--seconds", CHOICE_NUMBER, &o.seconds, 0.01, 3600},
    {"--warm", CHOICE_NUMBER, &o.warm_s, 0, 3600},
    {"--rate", CHOICE_NUMBER, &o.rate, 0, 1e9},
    {"--pid", CHOICE_COUNT, &o.pid, 0, 1 << 30},
    {"--linger", CHOICE_COUNT, &o.linger_ms, 0, 900000},
    {"--idempotent", CHOICE_FLAG, &o.idempotent, 0, 0},
    {NULL, CHOICE_FLAG, NULL, 0, 0}};

int main(int argc, char **argv)
{
    choices_read(argc, argv, 1, "producers and consumers by librdkafka", choices);
    if (o.producers + o.consumers == 0)
        die("options", "there is nobody to write or read");
    run();
    return 0;
}
