/* A database's changes become Iceberg tables, and a stream is followed: history, then what comes.
 *
 *     ./bridge data
 */
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include <weir.h>

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

/* Leaves out what is private, refuses what cannot be. */
static enum weir_verdict look(void *arg, struct weir_change *change, char why[256])
{
    (void)arg;
    if (strcmp(change->table, "secrets") == 0)
        return WEIR_DROP;
    if (strstr(change->data, "\"total\":-")) {
        snprintf(why, 256, "a negative total");
        return WEIR_DEAD;
    }
    return WEIR_KEEP;
}

static int changes_send(struct weir *w)
{
    static const struct {
        enum weir_op op;
        const char *table, *row;
    } changes[] = {
        {WEIR_OP_INSERT, "orders", "{\"id\":1,\"total\":12.5}"},
        {WEIR_OP_INSERT, "orders", "{\"id\":2,\"total\":-1}"},
        {WEIR_OP_UPDATE, "orders", "{\"id\":1,\"total\":14}"},
        {WEIR_OP_INSERT, "secrets", "{\"id\":1}"},
        {WEIR_OP_INSERT, "customers", "{\"id\":7,\"name\":\"Ada\"}"},
    };
    struct weir_bridge_options o = {
        .size = sizeof o, .sink = WEIR_SINK_ICEBERG, .flat = true, .key = "id", .transform = look};
    struct weir_bridge_stats st;
    struct weir_bridge *bridge;
    struct weir_error error;
    size_t i;

    if (weir_bridge_open(w, &o, &bridge, &error))
        return failed("open bridge", &error);
    for (i = 0; i < sizeof changes / sizeof *changes; i++)
        if (weir_bridge_emit(bridge, changes[i].op, changes[i].table, changes[i].row,
                             strlen(changes[i].row), &error))
            return failed("emit", &error);
    if (weir_bridge_flush(bridge, WEIR_COMMITTED, -1,
                          &error)) /* in the tables, not only in the log */
        return failed("flush", &error);
    weir_bridge_stats_get(bridge, &st);
    printf("%" PRIu64 " taken, %" PRIu64 " dropped, %" PRIu64 " dead\n", st.taken, st.dropped,
           st.dead);
    if (weir_bridge_close(&bridge, &error))
        return failed("close bridge", &error);
    return 0;
}

/* ---- a stream ---- */

struct follower {
    int left;
    sem_t over;
};

/* On a thread of the library. */
static bool on_event(void *arg, const struct weir_message *m, const struct weir_error *error)
{
    struct follower *f = arg;

    if (!m) {
        fprintf(stderr, "%s\n", error->text);
        return true;
    }
    printf("offset %" PRId64 ": %.*s\n", m->offset, (int)m->value_len, (const char *)m->value);
    if (--f->left > 0)
        return true;
    sem_post(&f->over);
    return false;
}

static int events_follow(struct weir *w)
{
    struct weir_stream_options o = {.size = sizeof o, .sink = WEIR_SINK_JSONL};
    struct weir_subscription *sub;
    struct weir_stream *s;
    struct weir_result *r;
    struct follower f = {.left = 2};
    struct weir_error error;

    sem_init(&f.over, 0, 0);
    if (weir_stream_open(w, "events", &o, &s, &error) ||
        weir_stream_emit(s, "event.made", NULL, "{\"n\":1}", 7, &error) ||
        weir_stream_flush(s, WEIR_COMMITTED, -1, &error))
        return failed("stream", &error);
    if (weir_stream_subscribe(s, NULL, on_event, &f, &sub, &error))
        return failed("subscribe", &error);
    if (weir_stream_emit(s, "event.made", NULL, "{\"n\":2}", 7, &error) ||
        weir_stream_flush(s, WEIR_DURABLE, -1, &error))
        return failed("emit", &error);
    sem_wait(&f.over);
    weir_unsubscribe(&sub);
    if (weir_stream_query(s, "SELECT sum(n)::BIGINT FROM events", NULL, 0, NULL, &r, &error) ||
        weir_result_next(r, &error))
        return failed("query", &error);
    printf("sum %" PRId64 "\n", weir_result_value(r, 0)->i);
    weir_result_close(&r);
    sem_destroy(&f.over);
    return weir_stream_close(&s, &error) ? failed("close", &error) : 0;
}

int main(int argc, char **argv)
{
    struct weir_options o = {.size = sizeof o, .lake = true};
    struct weir_error error;
    struct weir *w;
    int bad;

    if (weir_open(argc > 1 ? argv[1] : "data", &o, &w, &error))
        return failed("open", &error);
    bad = changes_send(w) || events_follow(w);
    weir_close(&w);
    return bad;
}
