/* Reading the configuration. See config.h. YAML is parsed by libyaml's event interface, whose marks
 * give line and column for every complaint. */
#include "server/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/mem.h"
#include "broker/coordinator.h"

#define KEY_MAX   128
#define DEPTH_MAX 8
#define LIST_MAX  4096 /* longer than the longest setting */

extern char **environ;

static const struct row {
    const char *key, *def, *unit, *prose;
    enum config_kind kind;
    int64_t least, most;
    size_t at;
} rows[] = {
#define CONFIG(field, key, kind, def, least, most, unit, prose) \
    {key, def, unit, prose, CONFIG_##kind, least, most, offsetof(struct config, field)},
#include "server/tbl/config.h"
#undef CONFIG
};
#define ROWS (sizeof rows / sizeof *rows)

static struct config_value *value_at(const struct config *c, const struct row *r)
{
    return (struct config_value *)(void *)((char *)(uintptr_t)c + r->at);
}

/* ---- values ---- */

static bool number(const char *s, int64_t *n, const char **rest)
{
    char *end;

    errno = 0;
    *n = strtoll(s, &end, 10);
    *rest = end;
    return end != s && errno == 0;
}

static bool scaled(const char *s, const char *const *units, const int64_t *scales, int64_t *n)
{
    const char *rest;
    int i;

    if (!number(s, n, &rest))
        return false;
    for (i = 0; units[i]; i++)
        if (strcasecmp(rest, units[i]) == 0) {
            if (*n > INT64_MAX / scales[i] || *n < INT64_MIN / scales[i])
                return false;
            *n *= *n == -1 ? 1 : scales[i];
            return true;
        }
    return false;
}

static bool parse_size(const char *s, int64_t *n)
{
    static const char *const u[] = {"",  "B",  "KiB", "K", "kB", "MiB",
                                    "M", "MB", "GiB", "G", "GB", NULL};
    static const int64_t f[] = {1,       1,       1024,    1024,    1000,      1 << 20,
                                1 << 20, 1000000, 1 << 30, 1 << 30, 1000000000};

    return scaled(s, u, f, n);
}

static bool parse_time(const char *s, int64_t *n)
{
    static const char *const u[] = {"", "ms", "s", "m", "min", "h", "d", NULL};
    static const int64_t f[] = {1, 1, 1000, 60000, 60000, 3600000, 86400000};

    return scaled(s, u, f, n);
}

static bool parse_bool(const char *s, int64_t *n)
{
    static const char *const yes[] = {"true", "yes", "on", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "0", NULL};
    int i;

    for (i = 0; yes[i]; i++) {
        if (strcasecmp(s, yes[i]) == 0) {
            *n = 1;
            return true;
        }
        if (strcasecmp(s, no[i]) == 0) {
            *n = 0;
            return true;
        }
    }
    return false;
}

/* unit is "a|b|c". */
static bool parse_choice(const char *s, const char *unit, int64_t *n)
{
    size_t len = strlen(s);

    for (*n = 0; *unit; (*n)++) {
        size_t k = strcspn(unit, "|");

        if (k == len && strncmp(unit, s, k) == 0)
            return true;
        unit += k + (unit[k] == '|');
    }
    return false;
}

static enum err bad_value(const struct row *r, const char *value, struct errinfo *info)
{
    static const char *const kinds[] = {"text",
                                        "a number",
                                        "a size such as 512, 64KiB or 1GiB",
                                        "a time such as 500ms, 30s, 10m, 1h or 7d",
                                        "true or false",
                                        "one of "};

    if (r->kind == CONFIG_CHOICE || r->kind == CONFIG_BOOL || r->kind == CONFIG_TEXT)
        return errinfo_set(info, ERR_CONFIG, "%s cannot be '%.60s': give %s%s", r->key, value,
                           r->kind == CONFIG_TEXT ? "a shorter text" : kinds[r->kind],
                           r->kind == CONFIG_CHOICE ? r->unit : "");
    return errinfo_set(info, ERR_CONFIG, "%s cannot be '%.60s': give %s from %lld to %lld", r->key,
                       value, kinds[r->kind], (long long)r->least, (long long)r->most);
}

static bool parse(const struct row *r, const char *s, int64_t *n)
{
    const char *rest;

    switch (r->kind) {
    case CONFIG_TEXT:
        *n = (int64_t)strlen(s);
        break;
    case CONFIG_NUMBER:
        if (!number(s, n, &rest) || *rest)
            return false;
        break;
    case CONFIG_SIZE:
        if (!parse_size(s, n))
            return false;
        break;
    case CONFIG_TIME:
        if (!parse_time(s, n))
            return false;
        break;
    case CONFIG_BOOL:
        return parse_bool(s, n);
    case CONFIG_CHOICE:
        return parse_choice(s, r->unit, n);
    }
    return *n >= r->least && *n <= r->most;
}

/* ---- keys ---- */

static unsigned distance(const char *a, const char *b)
{
    unsigned row[KEY_MAX + 1], i, j, la = (unsigned)strlen(a), lb = (unsigned)strlen(b);

    if (la > KEY_MAX || lb > KEY_MAX)
        return KEY_MAX;
    for (j = 0; j <= lb; j++)
        row[j] = j;
    for (i = 1; i <= la; i++) {
        unsigned diag = row[0];

        row[0] = i;
        for (j = 1; j <= lb; j++) {
            unsigned up = row[j], best = diag + (a[i - 1] != b[j - 1]);

            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diag = up;
            row[j] = best;
        }
    }
    return row[lb];
}

static const struct row *find(const char *key)
{
    size_t i;

    for (i = 0; i < ROWS; i++)
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

static enum err unknown(const char *key, struct errinfo *info)
{
    size_t i, best = 0;

    for (i = 1; i < ROWS; i++)
        if (distance(key, rows[i].key) < distance(key, rows[best].key))
            best = i;
    if (distance(key, rows[best].key) <= 4)
        return errinfo_set(info, ERR_CONFIG, "there is no setting '%.60s'; did you mean '%s'?", key,
                           rows[best].key);
    return errinfo_set(info, ERR_CONFIG,
                       "there is no setting '%.60s'; `weir config show` lists all of them", key);
}

struct limit_find {
    const char *name;
    bool found, time;
};

static void limit_seen(void *arg, const char *name, uint32_t value, uint32_t def, uint32_t least,
                       uint32_t most, const char *unit, const char *why)
{
    struct limit_find *f = arg;

    if (strcmp(name, f->name) == 0) {
        f->found = true;
        f->time = strcmp(unit, "ms") == 0;
    }
}

/* `http.` and the name of one of the protocol's limits. Its unit decides what a suffix means: 10m
 * is ten minutes of a time and 10 MiB of anything else. */
static enum err limit_set(struct config *c, const char *key, const char *value,
                          struct errinfo *info)
{
    struct limit_find f = {0};
    int64_t n = 0;

    if (strncmp(key, "http.", 5) == 0) {
        f.name = key + 5;
        http_limits_each(&c->limits, limit_seen, &f);
    }
    if (!f.found)
        return unknown(key, info);
    if (!(f.time ? parse_time(value, &n) : parse_size(value, &n)) || n < 0)
        return errinfo_set(info, ERR_CONFIG, "%s cannot be '%.60s': give %s", key, value,
                           f.time ? "a time such as 500ms, 30s or 10m"
                                  : "a number, or a size such as 64KiB");
    return http_limits_set(&c->limits, slice_str(f.name), (uint64_t)n, info);
}

static void put(struct config_value *v, const char *text, int64_t n, const char *from)
{
    char *t = xstrdup(text);

    free(v->text);
    v->text = t;
    v->n = n;
    v->from = from;
}

enum err config_set(struct config *c, const char *key, const char *value, const char *from,
                    struct errinfo *info)
{
    const struct row *r = find(key);
    int64_t n = 0;

    if (!r)
        return limit_set(c, key, value, info);
    if (!parse(r, value, &n))
        return bad_value(r, value, info);
    put(value_at(c, r), value, n, from);
    return ERR_OK;
}

void config_init(struct config *c)
{
    size_t i;

    memset(c, 0, sizeof *c);
    http_limits_default(&c->limits);
    for (i = 0; i < ROWS; i++)
        if (config_set(c, rows[i].key, rows[i].def, "default", NULL))
            abort(); /* a default that its own row refuses: found by the first test */
}

void config_fini(struct config *c)
{
    size_t i;

    for (i = 0; i < ROWS; i++)
        free(value_at(c, &rows[i])->text);
    memset(c, 0, sizeof *c);
}

bool config_row(const struct config *c, unsigned i, struct config_row *row,
                const struct config_value **value)
{
    static const char *const kinds[] = {"text", "number", "size", "time", "boolean", "choice"};
    static _Thread_local char env[KEY_MAX + 8];
    size_t k;

    if (i >= ROWS)
        return false;
    snprintf(env, sizeof env, "WEIR_%s", rows[i].key);
    for (k = 5; env[k]; k++)
        env[k] = env[k] == '.' ? '_' : (char)toupper((unsigned char)env[k]);
    *row = (struct config_row){rows[i].key,   kinds[rows[i].kind], rows[i].def,
                               rows[i].unit,  rows[i].prose,       env,
                               rows[i].least, rows[i].most};
    if (c && value)
        *value = value_at(c, &rows[i]);
    return true;
}

/* ---- YAML ---- */

struct reader {
    struct config *c;
    const char *path;
    yaml_parser_t p;
    char key[KEY_MAX]; /* of the map being read, with dots */
    char list[LIST_MAX];
};

static enum err at_mark(const struct reader *r, yaml_mark_t m, const char *what,
                        struct errinfo *info)
{
    return errinfo_set(info, ERR_CONFIG, "%s:%zu:%zu: %s", r->path, m.line + 1, m.column + 1, what);
}

/* A scalar as a string; NULL if it has a NUL, which would hide what follows it. */
static const char *text_of(const yaml_event_t *ev)
{
    const char *s = (const char *)ev->data.scalar.value;

    return strlen(s) == ev->data.scalar.length ? s : NULL;
}

static enum err set_at(struct reader *r, yaml_mark_t m, const char *value, struct errinfo *info)
{
    struct errinfo why;

    if (!value)
        return at_mark(r, m, "a value cannot have a NUL", info);
    if (config_set(r->c, r->key, value, "file", &why))
        return at_mark(r, m, why.text, info);
    return ERR_OK;
}

static enum err next(struct reader *r, yaml_event_t *ev, struct errinfo *info)
{
    yaml_mark_t m;

    if (yaml_parser_parse(&r->p, ev))
        return ERR_OK;
    m = r->p.problem_mark;
    return at_mark(r, m, r->p.problem ? r->p.problem : "not YAML", info);
}

static enum err list_add(struct reader *r, const yaml_event_t *ev, struct errinfo *info)
{
    size_t n = strlen(r->list);
    const char *s = text_of(ev);

    if (!s)
        return at_mark(r, ev->start_mark, "a value cannot have a NUL", info);
    if (n + strlen(s) + 2 > sizeof r->list)
        return at_mark(r, ev->start_mark, "this list is too long", info);
    snprintf(r->list + n, sizeof r->list - n, "%s%s", n ? "," : "", s);
    return ERR_OK;
}

static enum err read_list(struct reader *r, yaml_mark_t start, struct errinfo *info)
{
    yaml_event_t ev;
    enum err e = ERR_OK;
    bool end = false;

    r->list[0] = 0;
    while (!e && !end) {
        if ((e = next(r, &ev, info)))
            return e;
        end = ev.type == YAML_SEQUENCE_END_EVENT;
        if (ev.type == YAML_SCALAR_EVENT)
            e = list_add(r, &ev, info);
        else if (!end)
            e = at_mark(r, ev.start_mark, "a list may have plain values only", info);
        yaml_event_delete(&ev);
    }
    return e ? e : set_at(r, start, r->list, info);
}

static enum err read_map(struct reader *r, unsigned depth, struct errinfo *info);

static enum err read_value(struct reader *r, unsigned depth, struct errinfo *info)
{
    yaml_event_t ev;
    enum err e = next(r, &ev, info);

    if (e)
        return e;
    if (ev.type == YAML_SCALAR_EVENT)
        e = set_at(r, ev.start_mark, text_of(&ev), info);
    else if (ev.type == YAML_SEQUENCE_START_EVENT)
        e = read_list(r, ev.start_mark, info);
    else if (ev.type == YAML_MAPPING_START_EVENT && depth < DEPTH_MAX)
        e = read_map(r, depth + 1, info);
    else
        e = at_mark(r, ev.start_mark, "a value was expected", info);
    yaml_event_delete(&ev);
    return e;
}

static enum err read_map(struct reader *r, unsigned depth, struct errinfo *info)
{
    size_t base = strlen(r->key);
    yaml_event_t ev;
    enum err e = ERR_OK;

    while (!e) {
        if ((e = next(r, &ev, info)))
            return e;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            return ERR_OK;
        }
        if (ev.type != YAML_SCALAR_EVENT || !text_of(&ev))
            e = at_mark(r, ev.start_mark, "the name of a setting was expected", info);
        else if (base + strlen((const char *)ev.data.scalar.value) + 2 > sizeof r->key)
            e = at_mark(r, ev.start_mark, "this name is too long", info);
        else
            snprintf(r->key + base, sizeof r->key - base, "%s%s", base ? "." : "",
                     (const char *)ev.data.scalar.value);
        yaml_event_delete(&ev);
        if (!e)
            e = read_value(r, depth, info);
        r->key[base] = 0;
    }
    return e;
}

static enum err read_document(struct reader *r, struct errinfo *info)
{
    yaml_event_t ev;
    enum err e = ERR_OK;
    int type;

    do {
        if ((e = next(r, &ev, info)))
            return e;
        type = ev.type;
        if (type == YAML_MAPPING_START_EVENT)
            e = read_map(r, 1, info);
        else if (type == YAML_SEQUENCE_START_EVENT ||
                 (type == YAML_SCALAR_EVENT && ev.data.scalar.length))
            e = at_mark(r, ev.start_mark, "settings were expected, such as `data: /var/lib/weir`",
                        info);
        yaml_event_delete(&ev);
    } while (!e && type != YAML_STREAM_END_EVENT);
    return e;
}

enum err config_file(struct config *c, const char *path, struct errinfo *info)
{
    struct reader r = {.c = c, .path = path};
    FILE *f = fopen(path, "r");
    enum err e;

    if (!f)
        return errinfo_os(info, errno, "opening %s", path);
    if (!yaml_parser_initialize(&r.p)) {
        fclose(f);
        return ERR_NO_MEMORY;
    }
    yaml_parser_set_input_file(&r.p, f);
    e = read_document(&r, info);
    yaml_parser_delete(&r.p);
    fclose(f);
    return e;
}

/* ---- environment and the whole ---- */

enum err config_env(struct config *c, struct errinfo *info)
{
    struct config_row row;
    struct errinfo why;
    const char *v;
    unsigned i;

    for (i = 0; config_row(c, i, &row, NULL); i++) {
        v = getenv(row.env);
        if (v && config_set(c, row.key, v, "environment", &why))
            return errinfo_set(info, ERR_CONFIG, "%s: %s", row.env, why.text);
    }
    return ERR_OK;
}

void config_groups(const struct config *c, struct group_conf *out)
{
    enum { UPGRADE = 1, DOWNGRADE = 2 }; /* the choices' order: neither, one, the other, both */

    *out = (struct group_conf){.initial_rebalance_delay_ms = (int32_t)c->group_delay_ms.n,
                               .session_timeout_ms_min = (int32_t)c->group_session_least_ms.n,
                               .session_timeout_ms_max = (int32_t)c->group_session_most_ms.n,
                               .size_max = (int32_t)c->group_size.n,
                               .consumer_session_timeout_ms = (int32_t)c->consumer_session_ms.n,
                               .consumer_heartbeat_ms = (int32_t)c->consumer_heartbeat_ms.n,
                               .consumer_size_max = (int32_t)c->consumer_size.n,
                               .share_session_timeout_ms = (int32_t)c->share_session_ms.n,
                               .share_heartbeat_ms = (int32_t)c->share_heartbeat_ms.n,
                               .share_size_max = (int32_t)c->share_size.n,
                               .streams_session_timeout_ms = (int32_t)c->streams_session_ms.n,
                               .streams_heartbeat_ms = (int32_t)c->streams_heartbeat_ms.n,
                               .streams_size_max = (int32_t)c->streams_size.n,
                               .streams_standby_replicas = (int32_t)c->streams_standbys.n,
                               .streams_initial_delay_ms = (int32_t)c->streams_delay_ms.n,
                               .streams_interval_ms = (int32_t)c->streams_interval_ms.n,
                               .upgrade = c->consumer_migration.n & UPGRADE,
                               .downgrade = c->consumer_migration.n & DOWNGRADE,
                               .offsets_retention_minutes = (int32_t)c->offsets_retention.n,
                               .offsets_retention_check_ms = (int32_t)c->offsets_check_ms.n};
}

enum err config_check(const struct config *c, struct errinfo *info)
{
    struct group_conf groups;

    if ((c->tls_cert.n == 0) != (c->tls_key.n == 0))
        return errinfo_set(info, ERR_CONFIG,
                           "http.tls.cert and http.tls.key go together: %s is not set",
                           c->tls_cert.n ? "http.tls.key" : "http.tls.cert");
    if (c->tls_ca.n && !c->tls_cert.n)
        return errinfo_set(info, ERR_CONFIG,
                           "http.tls.client_ca needs http.tls.cert and http.tls.key");
    if ((c->pgwire_tls_cert.n == 0) != (c->pgwire_tls_key.n == 0))
        return errinfo_set(info, ERR_CONFIG,
                           "pgwire.tls.cert and pgwire.tls.key go together: %s is not set",
                           c->pgwire_tls_cert.n ? "pgwire.tls.key" : "pgwire.tls.cert");
    if ((c->nats_tls_cert.n == 0) != (c->nats_tls_key.n == 0))
        return errinfo_set(info, ERR_CONFIG,
                           "nats.tls.cert and nats.tls.key go together: %s is not set",
                           c->nats_tls_cert.n ? "nats.tls.key" : "nats.tls.cert");
    if (c->nats_tls_ca.n && !c->nats_tls_cert.n)
        return errinfo_set(info, ERR_CONFIG,
                           "nats.tls.client_ca needs nats.tls.cert and nats.tls.key");
    if (c->file_bytes.n % 4096)
        return errinfo_set(info, ERR_CONFIG, "journal.file_bytes must be a multiple of 4 KiB");
    config_groups(c, &groups);
    return group_conf_check(&groups, info);
}
