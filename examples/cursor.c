/* A queue of jobs: each is one worker's until it says so or its time is over; what fails comes again a
 * few times, then lies in a topic for somebody to look at.
 *
 *     ./cursor data
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <weir.h>

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

/* Jobs that are called "bad" fail. */
static int do_job(struct weir_cursor *jobs, const struct weir_delivery *d, struct weir_error *error)
{
    const struct weir_message *m = &d->message;
    bool bad = m->value_len >= 3 && memcmp(m->value, "bad", 3) == 0;

    printf("%.*s, delivery %" PRIu32 ": %s\n", (int)m->value_len, (const char *)m->value,
           d->deliveries, bad ? "failed" : "done");
    if (bad)
        return weir_cursor_nak(jobs, d, 1, 10, error) ? failed("nak", error) : 0;
    return weir_cursor_ack(jobs, d, 1, error) ? failed("ack", error) : 0;
}

static int work(struct weir_cursor *jobs)
{
    struct weir_error error;
    struct weir_batch *b;
    weir_err got;
    int rc = 0;
    size_t i;

    while (!rc && (got = weir_cursor_fetch(jobs, 10, 500, &b, &error)) == WEIR_OK) {
        for (i = 0; !rc && i < b->n; i++)
            rc = do_job(jobs, &b->v[i], &error);
        weir_batch_free(&b);
    }
    return rc || got == WEIR_ERR_AGAIN ? rc : failed("fetch", &error);
}

static bool show(void *arg, const struct weir_message *m)
{
    (void)arg;
    printf("given up: %.*s\n", (int)m->value_len, (const char *)m->value);
    return true;
}

int main(int argc, char **argv)
{
    struct weir_cursor_options o = {
        .size = sizeof o, .ack_wait_ms = 10000, .max_deliver = 2, .dead_letters = "jobs-failed"};
    static const char *const all[] = {"resize a.png", "bad b.png", "resize c.png"};
    struct weir_cursor *jobs;
    struct weir_error error;
    struct weir *w;
    size_t i;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: cursor DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    for (i = 0; i < 3; i++) {
        struct weir_record r = {.value = all[i], .value_len = strlen(all[i])};

        if (weir_produce(w, "jobs", &r, NULL, &error))
            return failed("produce", &error);
    }
    if (weir_cursor_open(w, "jobs", "resizer", &o, &jobs, &error))
        return failed("cursor", &error);
    rc = work(jobs);
    weir_cursor_close(&jobs);
    if (!rc && weir_read(w, "jobs-failed", 0, 10, show, NULL, NULL, &error))
        rc = failed("read", &error);
    weir_close(&w);
    return rc;
}
