/* Topics for core subscribers: a record that any protocol appends to the topic `orders` is a message
 * for who subscribes to `orders`, one with the key `new` for who subscribes to `orders.new`
 * (record.h). See topics.c.
 *
 * Messages that come from topics are for clients: subscriptions of the server's own (streams) do not
 * get them.
 *
 * Threads: new and free while the loops do not run; the rest any. */
#ifndef WEIR_PROTO_NATS_TOPICS_H
#define WEIR_PROTO_NATS_TOPICS_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct broker;
struct buf;
struct log;
struct naccount;
struct nats;
struct nloop;
struct ntopics;
struct record_header;

/* log may be NULL. */
enum err ntopics_new(struct nats *n, struct naccount *a, struct broker *b, const struct log *log,
                     struct ntopics **out, struct errinfo *info);
/* Stops following. What is on its way to loops comes back by nloop_settle; then ntopics_free. */
void ntopics_stop(struct ntopics *t);
void ntopics_free(struct ntopics **t);

/* For ntopics_subscribed, taken before the subscription is put into its account's index. */
uint64_t ntopics_since(struct ntopics *t);
/* A client subscribed to a pattern that nobody else in the account has, after `since`. */
void ntopics_subscribed(struct ntopics *t, const struct naccount *a, struct slice pattern,
                        uint64_t since);

/* The records of this topic from offset on are delivered by somebody else (its stream), by
 * ntopics_deliver. Until ntopics_disown or the topic is deleted. */
void ntopics_own(struct ntopics *t, uint32_t topic_id, int64_t offset);
void ntopics_disown(struct ntopics *t, uint32_t topic_id);
/* On l: a durable record that was not published by NATS, to the account's core subscribers. key: of
 * the subject, as subject_of_record makes it; or subject is not empty, and the key is not looked at. */
struct ntopics_record {
    struct slice topic, key, subject, value;
    const struct record_header *headers;
    unsigned headers_n;
};
void ntopics_deliver(struct ntopics *t, struct nloop *l, const struct ntopics_record *r);

void ntopics_metrics(struct ntopics *t, struct buf *out);

#endif
