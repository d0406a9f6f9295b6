/* Settings in a key-value bucket: a change that must not be lost to another's, history, and a watch.
 *
 *     ./kv data
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

static const char *const op_name[] = {"put", "delete", "purge"};

static bool show(void *arg, const struct weir_kv_entry *e)
{
    (void)arg;
    printf("  %" PRIu64 ": %s %s %s\n", e->revision, op_name[e->op], e->key,
           (const char *)e->value);
    return true;
}

/* Sets the light one step brighter, whoever else changes it meanwhile. */
static int brighter(struct weir_kv *kv)
{
    struct weir_kv_entry *e;
    struct weir_error error;
    char text[16];
    int level;
    weir_err got;

    do {
        if (weir_kv_get(kv, "lamp.level", &e, &error))
            return failed("get", &error);
        if (sscanf(e->value, "%d", &level) != 1)
            level = 0;
        snprintf(text, sizeof text, "%d", level + 1);
        got = weir_kv_update(kv, "lamp.level", text, strlen(text), e->revision, NULL, &error);
        weir_kv_entry_free(&e);
    } while (got == WEIR_ERR_CONFLICT); /* somebody was quicker: look again */
    return got ? failed("update", &error) : 0;
}

static int watch(struct weir_kv *kv)
{
    struct weir_kv_watch *x;
    struct weir_kv_entry e;
    struct weir_error error;
    weir_err got;

    if (weir_kv_watch_new(kv, "lamp.*", NULL, &x, &error))
        return failed("watch", &error);
    while ((got = weir_kv_watch_next(x, 1000, &e, &error)) == WEIR_OK && e.op != WEIR_KV_READY)
        show(NULL, &e);
    weir_kv_watch_close(&x);
    return got ? failed("watch", &error) : 0;
}

int main(int argc, char **argv)
{
    struct weir_kv_options o = {.size = sizeof o, .history = 5};
    struct weir_error error;
    struct weir_kv *kv;
    struct weir *w;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: kv DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    if (weir_kv_open(w, "settings", &o, &kv, &error))
        return failed("bucket", &error);
    if (weir_kv_put(kv, "lamp.level", "1", 1, NULL, &error) ||
        weir_kv_create(kv, "lamp.colour", "warm", 4, NULL, &error) ||
        weir_kv_put(kv, "door", "shut", 4, NULL, &error) ||
        weir_kv_delete(kv, "door", 0, NULL, &error))
        return failed("put", &error);
    if (weir_kv_create(kv, "lamp.colour", "cold", 4, NULL, &error) == WEIR_ERR_CONFLICT)
        printf("the colour is there already\n");
    rc = brighter(kv);
    printf("the door:\n");
    if (!rc && weir_kv_history(kv, "door", show, NULL, &error))
        rc = failed("history", &error);
    printf("the lamp:\n");
    rc = rc ? rc : watch(kv);
    weir_kv_close(&kv);
    weir_close(&w);
    return rc;
}
