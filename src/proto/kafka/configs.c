/* Configuration of topics and groups, changed and shown; that of the broker, shown:
 * DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources. A topic's items are
 * those of broker/tbl/topic_configs.h; a group's are tbl/group_configs.h; the broker's are
 * tbl/broker_configs.h, set when the server starts and not changed by a client. Errors and their
 * words are those of Kafka's ConfigAdminManager and ConfigurationControlManager. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/coordinator.h"
#include "proto/kafka/admin_int.h"
#include "proto/kafka/security.h"
#include "proto/kafka/share_conf.h"

enum resource { /* ConfigResource.Type */
                RES_TOPIC = 2,
                RES_BROKER = 4,
                RES_BROKER_LOGGER = 8,
                RES_CLIENT_METRICS = 16,
                RES_GROUP = 32,
};

/* ---- what a broker and a group have ---- */

enum { BROKER_ITEMS_MAX = 128, CONF_SHORT = 4 /* a type that no topic's item has */ };

struct item {
    const char *name, *prose;
    int8_t type;     /* enum topic_conf_type, CONF_SHORT */
    bool is_default; /* the value is Kafka's default */
    bool own;        /* of this group, changed by clients */
    struct slice value;
};

struct items {
    struct item item[BROKER_ITEMS_MAX];
    unsigned n;
};

static void item_add(struct items *s, const char *name, int8_t type, bool is_default,
                     struct slice value, const char *prose)
{
    if (s->n < BROKER_ITEMS_MAX && !slice_is_null(value))
        s->item[s->n++] = (struct item){
            .name = name, .prose = prose, .type = type, .is_default = is_default, .value = value};
}

static struct slice number(struct kreq *q, int64_t v)
{
    return kreq_printf(q, "%" PRId64, v);
}

static struct slice yes_no(bool v)
{
    return v ? SLICE_LIT("true") : SLICE_LIT("false");
}

static void broker_items(struct kreq *q, struct items *s)
{
    const struct kafka_conf *c = &q->k->conf;
    struct topic_conf_item it;
    struct topic_conf defaults;
    struct group_conf g;
    struct slice host;
    int32_t port;
    unsigned i;

    kafka_address(q, &host, &port);
    groups_conf_get(q->b, &g);
#define BROKER_INT(name, expr, fallback, prose) \
    item_add(s, name, TOPIC_CONF_INT, (expr) == (fallback), number(q, expr), prose);
#define BROKER_SHORT(name, expr, fallback, prose) \
    item_add(s, name, CONF_SHORT, (expr) == (fallback), number(q, expr), prose);
#define BROKER_LONG(name, expr, fallback, prose) \
    item_add(s, name, TOPIC_CONF_LONG, (expr) == (fallback), number(q, expr), prose);
#define BROKER_BOOL(name, expr, fallback, prose) \
    item_add(s, name, TOPIC_CONF_BOOLEAN, (expr) == (fallback), yes_no(expr), prose);
#define BROKER_LIST(name, expr, prose) item_add(s, name, TOPIC_CONF_LIST, false, expr, prose);
#include "proto/kafka/tbl/broker_configs.h"
#undef BROKER_INT
#undef BROKER_SHORT
#undef BROKER_LONG
#undef BROKER_BOOL
#undef BROKER_LIST
    topic_conf_default(q->b, &defaults);
    for (i = 0; topic_conf_item_at(q->b, &defaults, i, &it); i++)
        if (*it.server_name)
            item_add(s, it.server_name, it.type, true, arena_dup(&q->arena, slice_str(it.fallback)),
                     it.prose);
}

/* What applies to all groups, and what a share group has of its own. */
static void group_items(struct kreq *q, struct slice group, struct items *s)
{
    struct share_conf_item it;
    struct share_conf conf;
    struct group_conf g;
    unsigned i;

    groups_conf_get(q->b, &g);
    item_add(s, "consumer.session.timeout.ms", TOPIC_CONF_INT, true,
             number(q, g.consumer_session_timeout_ms), "group.consumer.session.timeout.ms");
    item_add(s, "consumer.heartbeat.interval.ms", TOPIC_CONF_INT, true,
             number(q, g.consumer_heartbeat_ms), "group.consumer.heartbeat.interval.ms");
    item_add(s, "share.session.timeout.ms", TOPIC_CONF_INT, true,
             number(q, g.share_session_timeout_ms), "group.share.session.timeout.ms");
    item_add(s, "share.heartbeat.interval.ms", TOPIC_CONF_INT, true,
             number(q, g.share_heartbeat_ms), "group.share.heartbeat.interval.ms");
    share_conf_get(q->b, group, &conf);
    share_conf_fill(&conf, &g);
    for (i = 0; share_conf_item_at(&conf, i, &it); i++) {
        item_add(s, it.name, (int8_t)it.type, it.is_default,
                 arena_dup(&q->arena, slice_str(it.value)), it.prose);
        s->item[s->n - 1].own = true;
    }
}

/* ---- DescribeConfigs ---- */

static bool is_wanted(const struct kafka_describe_configs_request_resource *in, const char *name)
{
    uint32_t i;

    /* An empty list is all, too: Kafka takes it so. */
    if (in->configuration_keys_null || in->configuration_keys_n == 0)
        return true;
    for (i = 0; i < in->configuration_keys_n; i++)
        if (slice_eq_str(in->configuration_keys[i], name))
            return true;
    return false;
}

static void synonym_add(struct kreq *q, struct kafka_describe_configs_response_config *o,
                        struct slice name, struct slice value, int8_t source)
{
    if (!o->synonyms)
        o->synonyms = kreq_alloc(q, 2, sizeof *o->synonyms);
    if (o->synonyms)
        o->synonyms[o->synonyms_n++] =
            (struct kafka_describe_configs_response_synonym){name, value, source};
}

static void topic_item(struct kreq *q, const struct kafka_describe_configs_request *m,
                       const struct topic_conf_item *it,
                       struct kafka_describe_configs_response_config *o)
{
    kafka_describe_configs_response_config_init(o);
    o->name = slice_str(it->name);
    o->value = arena_dup(&q->arena, slice_str(it->value));
    o->config_source = it->is_default ? KSOURCE_DEFAULT : KSOURCE_TOPIC;
    o->config_type = (int8_t)it->type;
    o->documentation = m->include_documentation ? slice_str(it->prose) : SLICE_NULL;
    if (!m->include_synonyms)
        return;
    if (!it->is_default)
        synonym_add(q, o, o->name, o->value, KSOURCE_TOPIC);
    if (*it->server_name)
        synonym_add(q, o, slice_str(it->server_name), arena_dup(&q->arena, slice_str(it->fallback)),
                    KSOURCE_DEFAULT);
}

static void describe_topic(struct kreq *q, const struct kafka_describe_configs_request *m,
                           const struct kafka_describe_configs_request_resource *in,
                           struct kafka_describe_configs_response_result *o)
{
    struct topic_conf_item it;
    struct topic_conf conf;
    struct topic *t;
    unsigned i;

    if (!kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_TOPIC, in->resource_name)) {
        o->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        return;
    }
    t = kafka_topic(q, in->resource_name, NULL, false, &o->error_code);
    if (!t && !topic_name_valid(in->resource_name))
        o->error_code = KE_INVALID_TOPIC;
    if (!t)
        return;
    topic_conf_get(t, &conf);
    topic_unref(&t);
    for (i = 0; topic_conf_item_at(q->b, &conf, i, &it); i++)
        ;
    if (!(o->configs = kreq_alloc(q, i, sizeof *o->configs)))
        return;
    for (i = 0; topic_conf_item_at(q->b, &conf, i, &it) && q->state != KREQ_DONE; i++)
        if (is_wanted(in, it.name))
            topic_item(q, m, &it, &o->configs[o->configs_n++]);
}

static void describe_items(struct kreq *q, const struct kafka_describe_configs_request *m,
                           const struct kafka_describe_configs_request_resource *in,
                           const struct items *s, struct kafka_describe_configs_response_result *o)
{
    unsigned i;

    if (!(o->configs = kreq_alloc(q, s->n, sizeof *o->configs)))
        return;
    for (i = 0; i < s->n && q->state != KREQ_DONE; i++) {
        struct kafka_describe_configs_response_config *c = &o->configs[o->configs_n];
        const struct item *it = &s->item[i];

        if (!is_wanted(in, it->name))
            continue;
        kafka_describe_configs_response_config_init(c);
        c->name = slice_str(it->name);
        c->value = it->value;
        c->read_only = !it->own;
        c->config_source = it->is_default ? KSOURCE_DEFAULT
                           : it->own      ? KSOURCE_GROUP
                                          : KSOURCE_STATIC_BROKER;
        c->config_type = (int8_t)it->type;
        c->documentation = m->include_documentation ? slice_str(it->prose) : SLICE_NULL;
        if (m->include_synonyms)
            synonym_add(q, c, c->name, c->value, c->config_source);
        o->configs_n++;
    }
}

static bool is_this_broker(struct slice name)
{
    return slice_eq_str(name, KAFKA_NODE_TEXT);
}

static int16_t broker_name_check(struct kreq *q, struct slice name, struct slice *message)
{
    if (name.len == 0 || is_this_broker(name))
        return KE_NONE;
    *message = kreq_printf(
        q, "Unexpected broker id, expected " KAFKA_NODE_TEXT " or empty string, but received %.*s",
        (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr);
    return KE_INVALID_REQUEST;
}

static void describe_one(struct kreq *q, const struct kafka_describe_configs_request *m,
                         const struct kafka_describe_configs_request_resource *in,
                         struct kafka_describe_configs_response_result *o)
{
    bool group = in->resource_type == RES_GROUP;
    struct items s = {.n = 0};

    if (in->resource_type == RES_TOPIC) {
        describe_topic(q, m, in, o);
        return;
    }
    if (group ? !kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_GROUP, in->resource_name)
              : !kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        o->error_code = group ? KE_GROUP_AUTHORIZATION_FAILED : KE_CLUSTER_AUTHORIZATION_FAILED;
        return;
    }
    switch (in->resource_type) {
    case RES_BROKER: /* "" is what was set for all brokers by a client: nothing can be */
        o->error_code = broker_name_check(q, in->resource_name, &o->error_message);
        if (!o->error_code && in->resource_name.len)
            broker_items(q, &s);
        break;
    case RES_BROKER_LOGGER:
    case RES_CLIENT_METRICS:
    case RES_GROUP:
        if (in->resource_name.len == 0) {
            o->error_code = KE_INVALID_REQUEST;
            o->error_message = SLICE_LIT("the resource's name must not be empty");
        } else if (group) {
            group_items(q, in->resource_name, &s);
        }
        break;
    default:
        o->error_code = KE_INVALID_REQUEST;
        o->error_message = kreq_printf(q, "Unsupported resource type: %d", in->resource_type);
    }
    if (!o->error_code)
        describe_items(q, m, in, &s, o);
}

void kafka_on_describe_configs(struct kreq *q)
{
    struct kafka_describe_configs_response s;
    struct kafka_describe_configs_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, describe_configs, &m))
        return;
    kafka_describe_configs_response_init(&s);
    if (!(s.results = kreq_alloc(q, m.resources_n, sizeof *s.results)))
        return;
    s.results_n = m.resources_n;
    for (i = 0; i < s.results_n && q->state != KREQ_DONE; i++) {
        kafka_describe_configs_response_result_init(&s.results[i]);
        s.results[i].error_message = SLICE_NULL;
        s.results[i].resource_type = m.resources[i].resource_type;
        s.results[i].resource_name = m.resources[i].resource_name;
        describe_one(q, &m, &m.resources[i], &s.results[i]);
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_configs, &s);
}

/* ---- AlterConfigs, IncrementalAlterConfigs ---- */

#define ALTER_TIMEOUT_MS 30000 /* these requests bring none: Kafka's broker waits so long, too */

enum alter_kind { ALTER_SET, ALTER_DELETE, ALTER_APPEND, ALTER_SUBTRACT };

struct alter_op {
    struct slice name, value;
    int8_t kind;
};

/* One resource; both requests come to this. */
struct alter {
    struct kreq *q;
    int8_t type;
    bool replace; /* what is not named becomes the default */
    struct slice name;
    struct alter_op *ops;
    uint32_t ops_n;
    int16_t code;
    struct slice message;
    struct slice edit; /* of a group: for kedit_begin */
};

struct alters {
    struct alter *res;
    uint32_t n;
    bool validate_only;
};

static void alter_refuse(struct alter *a, int16_t code, struct slice message)
{
    a->code = code;
    a->message = message;
}

/* The next of the words separated by commas, without spaces around it; false at the end. */
static bool word_next(struct slice *left, struct slice *word)
{
    while (left->len) {
        const uint8_t *comma = memchr(left->ptr, ',', left->len);
        size_t n = comma ? (size_t)(comma - left->ptr) : left->len;

        *word = slice_of(left->ptr, n);
        *left = slice_of(left->ptr + n + (comma != NULL), left->len - n - (comma != NULL));
        while (word->len && *word->ptr == ' ')
            *word = slice_of(word->ptr + 1, word->len - 1);
        while (word->len && word->ptr[word->len - 1] == ' ')
            word->len--;
        if (word->len)
            return true;
    }
    return false;
}

/* The value of a list with words added or taken out. */
static enum err list_change(struct kreq *q, const char *now, const struct alter_op *op,
                            struct slice *out)
{
    size_t cap = strlen(now) + op->value.len + 2;
    struct slice left = slice_str(now), add = op->value, word;
    char *text = kreq_alloc(q, 1, cap);
    size_t n = 0;

    if (!text)
        return ERR_TOO_LARGE;
    while (word_next(&left, &word)) {
        struct slice words = op->value, w;
        bool same = false;

        while (!same && word_next(&words, &w))
            same = slice_eq(w, word);
        if (!same)
            n += (size_t)snprintf(text + n, cap - n, "%s%.*s", n ? "," : "", (int)word.len,
                                  (const char *)word.ptr);
    }
    while (op->kind == ALTER_APPEND && word_next(&add, &word))
        n += (size_t)snprintf(text + n, cap - n, "%s%.*s", n ? "," : "", (int)word.len,
                              (const char *)word.ptr);
    *out = slice_of(text, n);
    return ERR_OK;
}

static enum err list_op(struct kreq *q, const struct alter_op *op, struct topic_conf *c,
                        struct errinfo *info)
{
    const char *verb = op->kind == ALTER_APPEND ? "APPEND to" : "SUBTRACT from";
    struct topic_conf_item it;
    struct slice value;

    if (!topic_conf_item_find(q->b, c, op->name, &it))
        return topic_conf_unset(q->b, c, op->name, info); /* says that there is none */
    if (it.type != TOPIC_CONF_LIST)
        return errinfo_set(info, ERR_CONFIG, "Can't %s key %s because its type is not LIST.", verb,
                           it.name);
    if (list_change(q, it.value, op, &value))
        return errinfo_set(info, ERR_TOO_LARGE, "the request takes too much memory");
    return topic_conf_set(c, op->name, value, info);
}

/* A topic_edit_fn: the operations in the order given. */
static enum err alter_edit(void *arg, struct topic_conf *c, struct errinfo *info)
{
    struct alter *a = arg;
    enum err e = ERR_OK;
    uint32_t i;

    if (a->replace)
        topic_conf_default(a->q->b, c);
    for (i = 0; i < a->ops_n && !e; i++) {
        const struct alter_op *op = &a->ops[i];

        if (op->kind == ALTER_SET)
            e = topic_conf_set(c, op->name, op->value, info);
        else if (op->kind == ALTER_DELETE) /* what there is not is deleted already */
            (void)topic_conf_unset(a->q->b, c, op->name, NULL);
        else
            e = list_op(a->q, op, c, info);
    }
    return e ? e : topic_conf_check(c, info);
}

static void alter_try(struct kgather_job *job)
{
    struct alters *as = job->g->state;
    struct alter *a = &as->res[job - job->g->jobs];
    struct errinfo info = {0};
    enum err e = topic_edit(a->q->b, a->name, alter_edit, a, kgather_done, job, &info);

    if (e == ERR_CONFLICT)
        kgather_again(job, alter_try);
    else if (e)
        kgather_done(job, e, &info);
}

static void alter_topic(struct alters *as, struct alter *a, struct kgather_job *job)
{
    struct errinfo info = {0};
    struct topic_conf conf;
    struct topic *t;
    enum err e;

    if (!kafka_allowed(a->q, KOP_ALTER_CONFIGS, KRES_TOPIC, a->name)) {
        alter_refuse(a, KE_TOPIC_AUTHORIZATION_FAILED, SLICE_NULL);
        return;
    }
    if (!topic_name_valid(a->name)) {
        alter_refuse(a, KE_INVALID_TOPIC, SLICE_LIT("not a valid name of a topic"));
        return;
    }
    if (!(t = topic_find(a->q->b, a->name))) {
        alter_refuse(a, KE_UNKNOWN_TOPIC_OR_PARTITION,
                     kreq_printf(a->q, "The topic '%.*s' does not exist.",
                                 (int)(a->name.len < 300 ? a->name.len : 300),
                                 (const char *)a->name.ptr));
        return;
    }
    topic_conf_get(t, &conf);
    topic_unref(&t);
    if ((e = alter_edit(a, &conf, &info))) {
        alter_refuse(a, kafka_admin_code(e), kreq_printf(a->q, "%s", info.text));
    } else if (!as->validate_only) {
        kgather_begin(job);
        alter_try(job);
    }
}

/* Nothing of the broker's can be changed while it runs: it is refused, and said where it is set. */
static void alter_broker(struct alter *a)
{
    if (!kafka_allowed(a->q, KOP_ALTER_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME))
        alter_refuse(a, KE_CLUSTER_AUTHORIZATION_FAILED, SLICE_NULL);
    else if ((a->code = broker_name_check(a->q, a->name, &a->message)))
        ;
    else if (a->ops_n)
        alter_refuse(a, KE_INVALID_CONFIG,
                     kreq_printf(a->q,
                                 "Cannot update these configs dynamically: %.*s. The server's "
                                 "configuration is set when it starts.",
                                 (int)(a->ops[0].name.len < 100 ? a->ops[0].name.len : 100),
                                 (const char *)a->ops[0].name.ptr));
}

static enum err group_edit(const struct alter *a, struct share_conf *c, struct errinfo *info)
{
    struct share_conf whole;
    struct group_conf g;
    enum err e = ERR_OK;
    uint32_t i;

    if (a->replace)
        share_conf_default(c);
    for (i = 0; i < a->ops_n && !e; i++) {
        const struct alter_op *op = &a->ops[i];

        if (op->kind == ALTER_SET || op->kind == ALTER_DELETE)
            e = share_conf_set(c, op->name, op->kind == ALTER_SET ? op->value : SLICE_NULL, info);
        else
            e = errinfo_set(info, ERR_CONFIG, "no configuration of a group is a list");
    }
    groups_conf_get(a->q->b, &g);
    whole = *c;
    share_conf_fill(&whole, &g);
    if (!e && whole.streams_heartbeat_ms >= whole.streams_session_timeout_ms)
        e = errinfo_set(info, ERR_CONFIG,
                        "streams.heartbeat.interval.ms is to be less than "
                        "streams.session.timeout.ms");
    return e;
}

static void group_done(void *arg, enum err e, const struct errinfo *info)
{
    struct kgather_job *job = arg;
    struct alters *as = job->g->state;

    kedit_end(job->g->q->k->sec, as->res[job - job->g->jobs].edit);
    kgather_done(job, e, info);
}

static void group_try(struct kgather_job *job)
{
    struct alters *as = job->g->state;
    struct alter *a = &as->res[job - job->g->jobs];
    char text[SHARE_CONF_TEXT_MAX];
    struct errinfo info = {0};
    struct share_conf conf;
    struct slice value;
    enum err e;

    if (!kedit_begin(a->q->k->sec, a->edit)) {
        kgather_again(job, group_try);
        return;
    }
    share_conf_get(a->q->b, a->name, &conf);
    if (!(e = group_edit(a, &conf, &info))) {
        value = share_conf_text(&conf, text);
        e = kv_put(a->q->b, GROUP_CONF_NS, a->name, value.len ? value : SLICE_NULL, 0, group_done,
                   job, &info);
    }
    if (e)
        group_done(job, e, &info);
}

static void alter_group(struct alters *as, struct alter *a, struct kgather_job *job)
{
    struct errinfo info = {0};
    struct share_conf conf;
    enum err e;

    if (!kafka_allowed(a->q, KOP_ALTER_CONFIGS, KRES_GROUP, a->name)) {
        alter_refuse(a, KE_GROUP_AUTHORIZATION_FAILED, SLICE_NULL);
        return;
    }
    if (a->name.len == 0 || a->name.len > LIMIT_GROUP_NAME) {
        alter_refuse(a, KE_INVALID_REQUEST, SLICE_LIT("not a valid name of a group"));
        return;
    }
    share_conf_get(a->q->b, a->name, &conf);
    if ((e = group_edit(a, &conf, &info))) {
        alter_refuse(a, kafka_admin_code(e), kreq_printf(a->q, "%s", info.text));
        return;
    }
    if (as->validate_only)
        return;
    a->edit = kreq_printf(a->q, GROUP_CONF_NS " %.*s", (int)a->name.len, (const char *)a->name.ptr);
    if (slice_is_null(a->edit)) {
        kreq_fail(a->q, ERR_TOO_LARGE);
        return;
    }
    kgather_begin(job);
    group_try(job);
}

/* Are the operations well-formed? */
static bool ops_check(struct kreq *q, struct alter *a)
{
    struct slice *names = kreq_alloc(q, a->ops_n, sizeof *names);
    uint8_t *times;
    uint32_t i;

    if (!names)
        return false;
    for (i = 0; i < a->ops_n; i++)
        names[i] = a->ops[i].name;
    if (!(times = kafka_names_count(q, names, a->ops_n)))
        return false;
    for (i = 0; i < a->ops_n; i++) {
        const struct alter_op *op = &a->ops[i];

        if (times[i] != KNAME_ONCE)
            alter_refuse(a, KE_INVALID_REQUEST, SLICE_LIT("Error due to duplicate config keys"));
        else if (op->kind < ALTER_SET || op->kind > ALTER_SUBTRACT)
            alter_refuse(a, KE_INVALID_REQUEST,
                         kreq_printf(q, "Unknown operation type %d", op->kind));
        else if (op->kind != ALTER_DELETE && slice_is_null(op->value))
            alter_refuse(a, KE_INVALID_REQUEST,
                         kreq_printf(q, "Null value not supported for : %.*s",
                                     (int)(op->name.len < 300 ? op->name.len : 300),
                                     (const char *)op->name.ptr));
    }
    return a->code == KE_NONE;
}

static void alter_one(struct alters *as, struct alter *a, struct kgather_job *job)
{
    if (!ops_check(a->q, a))
        return;
    switch (a->type) {
    case RES_TOPIC:
        alter_topic(as, a, job);
        break;
    case RES_BROKER:
        alter_broker(a);
        break;
    case RES_GROUP:
        alter_group(as, a, job);
        break;
    case RES_BROKER_LOGGER:
    case RES_CLIENT_METRICS:
        if (!kafka_allowed(a->q, KOP_ALTER_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME))
            alter_refuse(a, KE_CLUSTER_AUTHORIZATION_FAILED, SLICE_NULL);
        else
            alter_refuse(
                a, KE_INVALID_CONFIG,
                SLICE_LIT("only topics and groups have a configuration that clients change"));
        break;
    default:
        alter_refuse(a, KE_INVALID_REQUEST, kreq_printf(a->q, "Unknown resource type %d", a->type));
    }
}

/* A resource named twice is refused wherever it is. */
static uint8_t *resources_count(struct kreq *q, const struct alters *as)
{
    struct slice *keys = kreq_alloc(q, as->n, sizeof *keys);
    uint32_t i;

    for (i = 0; keys && i < as->n; i++) {
        uint8_t *key = kreq_alloc(q, 1, as->res[i].name.len + 1);

        if (!key)
            return NULL;
        key[0] = (uint8_t)as->res[i].type;
        if (as->res[i].name.len)
            memcpy(key + 1, as->res[i].name.ptr, as->res[i].name.len);
        keys[i] = slice_of(key, as->res[i].name.len + 1);
    }
    return keys ? kafka_names_count(q, keys, as->n) : NULL;
}

static void alter_run(struct kreq *q, struct alters *as, void (*reply)(struct kreq *q))
{
    struct kgather *g = kgather_new(q, as->n, reply, as);
    uint8_t *times = g ? resources_count(q, as) : NULL;
    uint32_t i;

    if (!times)
        return;
    for (i = 0; i < as->n && q->state != KREQ_DONE; i++) {
        as->res[i].q = q;
        if (times[i] != KNAME_ONCE)
            alter_refuse(&as->res[i], KE_INVALID_REQUEST,
                         SLICE_LIT("Each resource must appear at most once."));
        else
            alter_one(as, &as->res[i], &g->jobs[i]);
    }
    kgather_wait(g, ALTER_TIMEOUT_MS);
}

/* How each resource ended. */
static void alter_results(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct alters *as = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < as->n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code)
            alter_refuse(&as->res[i], code, message);
    }
}

/* The two requests differ in names only. */
#define ALTER_HANDLER(api, kind_of, whole)                                               \
    static void api##_reply(struct kreq *q)                                              \
    {                                                                                    \
        struct alters *as = ((struct kgather *)q->state_of)->state;                      \
        struct kafka_##api##_response s;                                                 \
        uint32_t i;                                                                      \
                                                                                         \
        alter_results(q);                                                                \
        kafka_##api##_response_init(&s);                                                 \
        if (!(s.responses = kreq_alloc(q, as->n, sizeof *s.responses)))                  \
            return;                                                                      \
        s.responses_n = as->n;                                                           \
        for (i = 0; i < as->n; i++)                                                      \
            s.responses[i] = (struct kafka_##api##_response_result){                     \
                as->res[i].code, as->res[i].message, as->res[i].type, as->res[i].name};  \
        KREQ_REPLY(q, api, &s);                                                          \
    }                                                                                    \
                                                                                         \
    void kafka_on_##api(struct kreq *q)                                                  \
    {                                                                                    \
        struct alters *as = kreq_alloc(q, 1, sizeof *as);                                \
        struct kafka_##api##_request m;                                                  \
        uint32_t i, j;                                                                   \
                                                                                         \
        if (!as || !KREQ_DECODE(q, api, &m) ||                                           \
            !(as->res = kreq_alloc(q, m.resources_n, sizeof *as->res)))                  \
            return;                                                                      \
        as->n = m.resources_n;                                                           \
        as->validate_only = m.validate_only;                                             \
        for (i = 0; i < as->n; i++) {                                                    \
            struct kafka_##api##_request_resource *in = &m.resources[i];                 \
            struct alter *a = &as->res[i];                                               \
                                                                                         \
            a->type = in->resource_type;                                                 \
            a->name = in->resource_name;                                                 \
            a->replace = whole;                                                          \
            if (!(a->ops = kreq_alloc(q, in->configs_n, sizeof *a->ops)))                \
                return;                                                                  \
            a->ops_n = in->configs_n;                                                    \
            for (j = 0; j < a->ops_n; j++)                                               \
                a->ops[j] = (struct alter_op){in->configs[j].name, in->configs[j].value, \
                                              kind_of(in->configs[j])};                  \
        }                                                                                \
        alter_run(q, as, api##_reply);                                                   \
    }

#define KIND_SET(config)   ALTER_SET
#define KIND_GIVEN(config) (config).config_operation
ALTER_HANDLER(alter_configs, KIND_SET, true)
ALTER_HANDLER(incremental_alter_configs, KIND_GIVEN, false)

/* ---- ListConfigResources ---- */

struct listing {
    struct kafka_list_config_resources_response s;
    uint32_t cap;
};

static void listing_add(struct kreq *q, struct listing *l, struct slice name, int8_t type)
{
    struct kafka_list_config_resources_response_config_resource *more;

    if (l->s.config_resources_n == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 64;

        if (!(more = kreq_alloc(q, cap, sizeof *more)))
            return;
        if (l->cap)
            memcpy(more, l->s.config_resources, l->cap * sizeof *more);
        l->s.config_resources = more;
        l->cap = cap;
    }
    l->s.config_resources[l->s.config_resources_n++] =
        (struct kafka_list_config_resources_response_config_resource){name, type};
}

static void listing_topics(struct kreq *q, struct listing *l)
{
    struct topic *list[256];
    char after[TOPIC_NAME_MAX + 1] = "";
    size_t i, n;

    do {
        n = topic_list(q->b, slice_str(after), NULL, list, 256);
        for (i = 0; i < n; i++) {
            const char *name = topic_name(list[i]);

            if (q->state != KREQ_DONE)
                listing_add(q, l, arena_dup(&q->arena, slice_str(name)), RES_TOPIC);
            if (i == n - 1)
                snprintf(after, sizeof after, "%s", name);
            topic_unref(&list[i]);
        }
    } while (n == 256 && q->state != KREQ_DONE);
}

/* A lock is held. */
static bool listing_group(void *arg, struct slice key, struct slice value)
{
    return !buf_append_be16(arg, (uint16_t)key.len) && !buf_append_slice(arg, key);
}

static void listing_groups(struct kreq *q, struct listing *l)
{
    struct slice left;
    struct buf names;

    buf_init(&names, LIMIT_KAFKA_ARENA);
    kv_each(q->b, GROUP_CONF_NS, listing_group, &names);
    for (left = buf_slice(&names); left.len && q->state != KREQ_DONE;) {
        size_t n = be16_load(left.ptr);

        listing_add(q, l, arena_dup(&q->arena, slice_of(left.ptr + 2, n)), RES_GROUP);
        left = slice_of(left.ptr + 2 + n, left.len - 2 - n);
    }
    buf_fini(&names);
}

static void listing_type(struct kreq *q, struct listing *l, int8_t type)
{
    switch (type) {
    case RES_TOPIC:
        listing_topics(q, l);
        break;
    case RES_BROKER:
    case RES_BROKER_LOGGER:
        listing_add(q, l, SLICE_LIT(KAFKA_NODE_TEXT), type);
        break;
    case RES_GROUP:
        listing_groups(q, l);
        break;
    case RES_CLIENT_METRICS: /* there are none */
        break;
    default:
        l->s.error_code = KE_UNSUPPORTED_VERSION;
    }
}

void kafka_on_list_config_resources(struct kreq *q)
{
    static const int8_t all[] = {RES_TOPIC, RES_BROKER, RES_BROKER_LOGGER, RES_GROUP};
    struct kafka_list_config_resources_request m;
    struct listing l = {.cap = 0};
    uint64_t seen[4] = {0}; /* a type once, however often it is asked for */
    uint32_t i;

    if (!KREQ_DECODE(q, list_config_resources, &m))
        return;
    kafka_list_config_resources_response_init(&l.s);
    if (!kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        l.s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
    } else if (q->version >= 1 && m.resource_types_n == 0) {
        for (i = 0; i < sizeof all; i++)
            listing_type(q, &l, all[i]);
    }
    for (i = 0; i < m.resource_types_n && !l.s.error_code && q->state != KREQ_DONE; i++) {
        uint8_t t = (uint8_t)m.resource_types[i];

        if (!(seen[t / 64] >> t % 64 & 1))
            listing_type(q, &l, m.resource_types[i]);
        seen[t / 64] |= 1ull << t % 64;
    }
    if (l.s.error_code)
        l.s.config_resources_n = 0;
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, list_config_resources, &l.s);
}
