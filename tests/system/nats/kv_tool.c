/* A key-value bucket by the C library, for nats_kv_c of the system tests: kv_tool DIRECTORY write|BUCKET
 *
 * write makes the bucket C and puts into it; a bucket's name prints what is there, and puts one more. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <weir.h>

static struct weir_error error;

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error.code), error.text);
    return 1;
}

static bool print_entry(void *arg, const struct weir_kv_entry *e)
{
    (void)arg;
    printf("%" PRIu64 " %d %s=%s\n", e->revision, (int)e->op, e->key, (const char *)e->value);
    return true;
}

static bool print_key(void *arg, const char *key)
{
    (void)arg;
    printf("key %s\n", key);
    return true;
}

static int put(struct weir_kv *kv, const char *key, const char *value)
{
    return weir_kv_put(kv, key, value, strlen(value), NULL, &error) ? failed("put") : 0;
}

static int write_all(struct weir *w)
{
    struct weir_kv_options o = {.size = sizeof o, .history = 3};
    struct weir_kv *kv;
    int rc;

    if (weir_kv_open(w, "C", &o, &kv, &error))
        return failed("open");
    rc = put(kv, "a", "1") || put(kv, "a", "2") || put(kv, "a", "3") || put(kv, "a", "4") ||
         put(kv, "x.y", "there") || put(kv, "gone", "1") || put(kv, "purged", "1") ||
         put(kv, "purged", "2");
    if (!rc && (weir_kv_delete(kv, "gone", 0, NULL, &error) ||
                weir_kv_purge(kv, "purged", 0, NULL, &error)))
        rc = failed("delete");
    weir_kv_close(&kv);
    return rc;
}

static int read_all(struct weir *w, const char *name)
{
    struct weir_kv_options o = {.size = sizeof o, .no_create = true};
    struct weir_kv_status st;
    struct weir_kv *kv;
    int rc = 0;

    if (weir_kv_open(w, name, &o, &kv, &error))
        return failed("open");
    if (weir_kv_status_get(kv, &st, &error) ||
        weir_kv_history(kv, "a", print_entry, NULL, &error) ||
        weir_kv_history(kv, "gone", print_entry, NULL, &error) ||
        weir_kv_history(kv, "purged", print_entry, NULL, &error) ||
        weir_kv_keys(kv, NULL, print_key, NULL, &error))
        rc = failed("read");
    printf("history %d ttl %d revisions %d bytes %" PRIu64 "\n", (int)st.history, (int)st.ttl_ms,
           (int)st.revisions, st.bytes);
    rc = rc || put(kv, "c", "by C");
    weir_kv_close(&kv);
    return rc;
}

int main(int argc, char **argv)
{
    struct weir *w;
    int rc;

    if (argc != 3) {
        fprintf(stderr, "usage: kv_tool DIRECTORY write|BUCKET\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open");
    rc = strcmp(argv[2], "write") == 0 ? write_all(w) : read_all(w, argv[2]);
    weir_close(&w);
    return rc;
}
