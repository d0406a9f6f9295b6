/* A group remembers how far it has read: after a restart its consumer goes on there. What was read
 * but not committed comes again.
 *
 *     ./consumer_resume data
 */
#include <stdio.h>
#include <string.h>

#include <weir.h>

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

static int write_jobs(struct weir *w)
{
    const char *jobs[] = {"one", "two", "three", "four", "five"};
    struct weir_record r[5] = {{0}};
    struct weir_error error;
    int i;

    for (i = 0; i < 5; i++) {
        r[i].value = jobs[i];
        r[i].value_len = strlen(jobs[i]);
    }
    /* One atomic unit: after a crash all five are there, or none. */
    return weir_produce_batch(w, "jobs", r, 5, NULL, &error) ? failed("produce", &error) : 0;
}

/* Reads up to n records as the group, then commits if asked. */
static int work(struct weir *w, int n, bool commit)
{
    struct weir_consumer_options options = {
        .size = sizeof options, .from = WEIR_FROM_GROUP, .group = "workers"};
    struct weir_consumer *c;
    struct weir_message m;
    struct weir_error error;
    weir_err e = WEIR_OK;
    int rc = 0;

    if (weir_consumer_new(w, "jobs", &options, &c, &error))
        return failed("consumer", &error);
    while (n-- > 0 && (e = weir_consumer_next(c, 0, &m, &error)) == WEIR_OK)
        printf("  %.*s\n", (int)m.value_len, (const char *)m.value);
    if (e && e != WEIR_ERR_AGAIN)
        rc = failed("read", &error);
    else if (commit && weir_consumer_commit(c, &error))
        rc = failed("commit", &error);
    weir_consumer_close(&c);
    return rc;
}

/* One life of the program: opens, works, closes. */
static int run(const char *dir, const char *what, bool first, int n, bool commit)
{
    struct weir_error error;
    struct weir *w;
    int rc;

    if (weir_open(dir, NULL, &w, &error))
        return failed("open", &error);
    rc = first ? write_jobs(w) : 0;
    if (!rc) {
        printf("%s\n", what);
        rc = work(w, n, commit);
    }
    weir_close(&w);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: consumer_resume DIRECTORY\n");
        return 2;
    }
    return run(argv[1], "two jobs, committed:", true, 2, true) ||
           run(argv[1], "one more, not committed:", false, 1, false) ||
           run(argv[1], "the rest, with that one again:", false, 10, true) ||
           run(argv[1], "nothing is left:", false, 10, true);
}
