/* Questions to monitoring, over HTTP or as messages: their options by one name. See nats_int.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "net/http.h"
#include "proto/nats/nats_int.h"

/* What options are called in messages, where that is not what HTTP calls them. */
static const struct {
    const char *http, *json;
} names[] = {{"subs", "subscriptions"},
             {"subs", "subscriptions_detail"}, /* true: "detail" */
             {"acc", "account"},
             {"unused", "include_unused"},
             {"consumers", "consumer"}};

static struct slice number_text(struct nquestion *a, json_int_t v)
{
    int n = snprintf(a->text + a->len, sizeof a->text - a->len, "%lld", (long long)v);
    struct slice s = slice_of(a->text + a->len, (size_t)n);

    if (a->len + (size_t)n >= sizeof a->text)
        return SLICE_NULL; /* a handful of them is asked for */
    a->len += (size_t)n;
    return s;
}

static struct slice text_of(struct nquestion *a, const char *name, const json_t *v)
{
    static const char *const states[] = {"open", "closed", "all"};

    if (json_is_string(v))
        return slice_of(json_string_value(v), json_string_length(v));
    if (json_is_true(v))
        return SLICE_LIT("1");
    if (strcmp(name, "state") == 0 && json_is_integer(v))
        return slice_str(json_integer_value(v) >= 0 && json_integer_value(v) < 3
                             ? states[json_integer_value(v)]
                             : "?");
    return json_is_integer(v) ? number_text(a, json_integer_value(v)) : SLICE_NULL;
}

struct slice nquestion_param(struct nquestion *a, const char *name)
{
    struct slice s;
    size_t i;

    if (strcmp(name, "acc") == 0 && a->only)
        return slice_str(a->only->name);
    if (a->r)
        return http_query(a->r, name);
    if (strcmp(name, "subs") == 0 && json_is_true(json_object_get(a->o, "subscriptions_detail")))
        return SLICE_LIT("detail");
    s = text_of(a, name, json_object_get(a->o, name));
    for (i = 0; !s.len && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].http) == 0)
            s = text_of(a, name, json_object_get(a->o, names[i].json));
    return s;
}

bool nquestion_begin(struct nquestion *a, struct nloop *l, struct naccount *account,
                     struct slice reply, struct slice body)
{
    json_error_t je;

    *a = (struct nquestion){.l = l, .account = account, .reply = reply};
    if (!body.len)
        return true;
    a->o = json_loadb((const char *)body.ptr, body.len, 0, &je);
    return a->o != NULL;
}

void nquestion_end(struct nquestion *a)
{
    json_decref(a->o);
    a->o = NULL;
}
