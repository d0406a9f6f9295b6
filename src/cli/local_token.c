/* weir token --data: the tokens of a data directory that no server runs on. */
#include <stdatomic.h>

#include <openssl/crypto.h>

#include "auth/auth.h"
#include "base/timefmt.h"
#include "broker/broker.h"
#include "cli/local.h"
#include "io/thread.h"

#define TOKENS_MAX 100000u /* as the server's greatest */

struct waiting {
    struct io_event event;
    atomic_bool over;
    enum err e;
    struct errinfo info;
};

/* The writer's thread. */
static void stored(void *arg, enum err e, const struct errinfo *info)
{
    struct waiting *w = arg;

    w->e = e;
    if (e && info)
        w->info = *info;
    atomic_store(&w->over, true);
    io_event_signal(&w->event);
}

static json_t *token_json(const struct principal *p)
{
    json_t *j = json_object(), *grants = json_array();
    char created[TIME_TEXT_LEN + 1];
    unsigned i;

    time_format(p->created_ms, created);
    for (i = 0; i < p->grants_n; i++) {
        json_t *g = json_object();

        json_object_set_new(g, "access", json_string(auth_access_name(p->grants[i].access)));
        json_object_set_new(g, "prefix",
                            json_stringn(p->grants[i].prefix, p->grants[i].prefix_len));
        json_array_append_new(grants, g);
    }
    json_object_set_new(j, "id", json_string(p->id));
    json_object_set_new(j, "name", json_string(p->name));
    json_object_set_new(j, "created", json_string(created));
    json_object_set_new(j, "grants", grants);
    return j;
}

static enum err begin(struct broker *b, struct auth **auth, struct waiting *w)
{
    io_event_init(&w->event);
    return auth_open(b, true, TOKENS_MAX, auth, &w->info);
}

/* Waits for a change that was handed over (e), closes all, says what failed. */
static bool finish(struct broker **b, struct auth **auth, struct waiting *w, enum err e)
{
    if (!e) {
        while (!atomic_load(&w->over))
            io_event_wait(&w->event, UINT64_MAX);
        e = w->e;
    }
    broker_close(b); /* and with it the thread that calls stored() */
    auth_close(auth);
    io_event_fini(&w->event);
    if (e)
        fail("%s", w->info.text[0] ? w->info.text : err_text(e));
    return e == ERR_OK;
}

json_t *local_token_create(const struct args *a, const char *body)
{
    struct broker *b = local_open(a, false);
    struct waiting w = {.e = ERR_OK};
    char text[AUTH_TOKEN_LEN + 1] = "";
    struct auth *auth = NULL;
    struct principal p;
    json_t *j = NULL;
    enum err e;

    if (!b)
        return NULL;
    e = begin(b, &auth, &w);
    if (!e)
        e = auth_make(auth, slice_str(body), &p, text, &w.info);
    if (!e)
        e = auth_put(auth, &p, stored, &w, &w.info);
    if (finish(&b, &auth, &w, e)) {
        j = token_json(&p);
        json_object_set_new(j, "token", json_string(text));
    }
    OPENSSL_cleanse(text, sizeof text);
    return j;
}

json_t *local_token_revoke(const struct args *a, const char *id)
{
    struct broker *b = local_open(a, false);
    struct waiting w = {.e = ERR_OK};
    struct auth *auth = NULL;
    enum err e;

    if (!b)
        return NULL;
    e = begin(b, &auth, &w);
    if (!e)
        e = auth_revoke(auth, slice_str(id), stored, &w, &w.info);
    return finish(&b, &auth, &w, e) ? json_object() : NULL;
}

static void list_one(void *arg, const struct principal *p)
{
    json_array_append_new(arg, token_json(p));
}

json_t *local_tokens(const struct args *a)
{
    struct broker *b = local_open(a, true);
    struct auth_view view;
    struct auth *auth = NULL;
    struct errinfo info = {0};
    json_t *j = NULL, *list = json_array();

    if (b && auth_open(b, true, TOKENS_MAX, &auth, &info)) {
        fail("%s", info.text);
    } else if (b) {
        auth_view_init(&view, auth);
        auth_each(&view, list_one, list);
        auth_view_fini(&view);
        j = json_pack("{s:O}", "tokens", list);
    }
    json_decref(list);
    broker_close(&b);
    auth_close(&auth);
    return j;
}
