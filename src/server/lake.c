/* The lake's settings. See lake.h. */
#include "server/lake.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/topic_name.h"
#include "broker/broker.h"
#include "journal/journal.h"
#include "lake/lake.h"
#include "table/table.h"

#define TOPICS_STEP 64u

struct server_lake {
    struct tables *tables;
    struct store_conf store;
    bool elsewhere; /* the tables are in another catalog */
};

static const char *text_or_null(const struct config_value *v)
{
    return v->text && v->text[0] ? v->text : NULL;
}

static struct store_conf store_of(const struct config *c, const struct server_lake *l)
{
    return (struct store_conf){.url = tables_url(l->tables),
                               .endpoint = text_or_null(&c->lake_endpoint),
                               .region = text_or_null(&c->lake_region),
                               .credentials_file = text_or_null(&c->lake_credentials),
                               .profile = text_or_null(&c->lake_profile),
                               .path_style = (enum store_switch)c->lake_path_style.n,
                               .checksums = (enum store_switch)c->lake_checksums.n,
                               .ca_file = text_or_null(&c->lake_ca),
                               .storage_class = text_or_null(&c->lake_storage_class),
                               .stall_timeout_ms = (uint32_t)c->lake_stall_ms.n,
                               .deadline_ms = (uint32_t)c->lake_deadline_ms.n};
}

static struct catalog_rest_conf catalog_of(const struct config *c)
{
    /* by lake.catalog.access; a catalog that can do both decides */
    static const char *const delegation[] = {"vended-credentials,remote-signing", "remote-signing",
                                             NULL};

    return (struct catalog_rest_conf){.uri = text_or_null(&c->lake_catalog_uri),
                                      .warehouse = text_or_null(&c->lake_catalog_warehouse),
                                      .prefix = text_or_null(&c->lake_catalog_prefix),
                                      .token_file = text_or_null(&c->lake_catalog_token),
                                      .credential_file = text_or_null(&c->lake_catalog_credential),
                                      .oauth2_uri = text_or_null(&c->lake_catalog_oauth2),
                                      .scope = text_or_null(&c->lake_catalog_scope),
                                      .delegation = delegation[c->lake_catalog_access.n],
                                      .ca_file = text_or_null(&c->lake_catalog_ca)};
}

enum err server_lake_new(const struct config *c, struct server_lake **out, struct errinfo *info)
{
    struct server_lake *l = xcalloc(1, sizeof *l);
    enum err e = tables_new(c->data.text, c->lake_url.text, &l->tables, info);

    *out = l;
    if (e)
        server_lake_close(out);
    else
        l->store = store_of(c, l);
    return e;
}

const struct sql_cold *server_lake_cold(struct server_lake *l)
{
    return tables_cold(l->tables);
}

const char *const *server_lake_dirs(struct server_lake *l, unsigned *n)
{
    return tables_dirs(l->tables, n);
}

enum err server_lake_open(struct server_lake *l, const struct config *c, struct broker *b,
                          struct sql *sql, bool read_only, const struct log *log,
                          struct errinfo *info)
{
    struct lake_conf lc = {.broker = b,
                           .store = l->store,
                           .catalog = catalog_of(c),
                           .namespace_ = c->lake_namespace.text,
                           .log = log,
                           .file_bytes = (uint64_t)c->lake_file_bytes.n,
                           .archive = text_or_null(&c->lake_archive),
                           .archive_class = text_or_null(&c->lake_archive_class),
                           .cache_bytes = (uint64_t)c->lake_cache_bytes.n,
                           .orphan_age_ms = c->lake_orphan_ms.n,
                           .read_only = read_only};

    l->elsewhere = lc.catalog.uri != NULL;
    return tables_open(l->tables, &lc, (uint64_t)c->lake_memory.n, sql, info);
}

/* Why its table cannot be read, in info; false: it can, or need not. */
static bool is_missing(struct server_lake *l, struct topic *t, struct errinfo *info)
{
    const struct lake_at now = {LAKE_AT_NOW, 0};
    struct lake_view *v = NULL;
    struct topic_conf c;
    struct plog_info log;
    bool lost = false;
    int32_t i;

    topic_conf_get(t, &c);
    for (i = 0; c.lake_enable && i < topic_partitions(t); i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &log);
        lost = lost || log.start_offset > 0;
    }
    lost = lost && lake_view_get(server_lake_get(l), t, &now, &v, info);
    lake_view_release(&v);
    return lost;
}

void server_lake_missing(struct server_lake *l, struct broker *b,
                         void (*fn)(void *arg, const char *topic, const char *why), void *arg)
{
    char after[TOPIC_NAME_MAX + 1] = "";
    struct topic *list[TOPICS_STEP];
    struct errinfo info;
    size_t i, n;

    do {
        n = topic_list(b, slice_str(after), NULL, list, TOPICS_STEP);
        for (i = 0; i < n; i++) {
            if (is_missing(l, list[i], &info))
                fn(arg, topic_name(list[i]), info.text);
            snprintf(after, sizeof after, "%s", topic_name(list[i]));
            topic_unref(&list[i]);
        }
    } while (n == TOPICS_STEP);
}

void server_lake_close(struct server_lake **lp)
{
    struct server_lake *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    tables_close(&l->tables);
    free(l);
}

struct lake *server_lake_get(struct server_lake *l)
{
    return l ? tables_lake(l->tables) : NULL;
}

const struct store_conf *server_lake_store(const struct server_lake *l)
{
    return l->elsewhere ? NULL : &l->store;
}
