/* weir serve, weir config: settings from all their places, and the server. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "server/server.h"

static enum err set_pair(struct config *c, const char *pair, struct errinfo *info)
{
    const char *eq = strchr(pair, '=');
    char key[128];

    if (!eq || (size_t)(eq - pair) >= sizeof key)
        return errinfo_set(info, ERR_CONFIG, "--set takes KEY=VALUE, not '%s'", pair);
    snprintf(key, sizeof key, "%.*s", (int)(eq - pair), pair);
    return config_set(c, key, eq + 1, "flag", info);
}

static enum err set_flag(struct config *c, const struct args *a, const char *flag, const char *key,
                         struct errinfo *info)
{
    const char *v = arg_get(a, flag);

    return v ? config_set(c, key, v, "flag", info) : ERR_OK;
}

enum err settings_read(struct config *c, const struct args *a, struct errinfo *info)
{
    const char *file = arg_get(a, "config");
    enum err e = ERR_OK;
    unsigned i;

    if (!file)
        file = getenv("WEIR_CONFIG");
    if (file)
        e = config_file(c, file, info);
    if (!e)
        e = config_env(c, info);
    for (i = 0; !e && i < a->sets_n; i++)
        e = set_pair(c, a->sets[i], info);
    return e ? e : set_flag(c, a, "data", "data", info);
}

static enum err settings(struct config *c, const struct args *a, struct errinfo *info)
{
    enum err e = settings_read(c, a, info);

    if (!e)
        e = set_flag(c, a, "http", "http.listen", info);
    if (!e)
        e = set_flag(c, a, "kafka", "kafka.listen", info);
    if (!e)
        e = set_flag(c, a, "pgwire", "pgwire.listen", info);
    if (!e)
        e = set_flag(c, a, "nats", "nats.listen", info);
    if (!e)
        e = set_flag(c, a, "nats-websocket", "nats.websocket.listen", info);
    if (!e)
        e = set_flag(c, a, "nats-monitor", "nats.monitor.listen", info);
    if (!e)
        e = set_flag(c, a, "tls-cert", "http.tls.cert", info);
    if (!e)
        e = set_flag(c, a, "tls-key", "http.tls.key", info);
    if (!e && arg_get(a, "insecure"))
        e = config_set(c, "insecure", "true", "flag", info);
    return e ? e : config_check(c, info);
}

int cmd_serve(const struct args *a)
{
    struct errinfo info = {0};
    struct config c;
    enum err e;

    config_init(&c);
    e = settings(&c, a, &info);
    if (!e)
        e = server_run(&c, &info);
    if (e)
        fail("%s", info.text[0] ? info.text : err_text(e));
    config_fini(&c);
    return e == ERR_OK ? EXIT_FINE : e == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
}

static void print_limit(void *arg, const char *name, uint32_t value, uint32_t def, uint32_t least,
                        uint32_t most, const char *unit, const char *why)
{
    if (*(bool *)arg)
        printf("| `http.%s` | %u | %u to %u %s | %s |\n", name, def, least, most, unit, why);
    else
        printf("%-28s %-18u %-12s %s (%s)\n", name, value, value == def ? "default" : "set", why,
               unit);
}

static void print_markdown(const struct config *c)
{
    const struct config_value *v;
    struct config_row r;
    bool md = true;
    unsigned i;

    printf("# Configuration\n\nSettings come from, each overriding the ones before: defaults, a "
           "YAML file "
           "(`weir serve --config FILE`\nor `WEIR_CONFIG`), the environment, flags (`--set "
           "KEY=VALUE`, or the "
           "short ones of `weir serve --help`).\n`weir config show` prints the settings in force, "
           "`weir "
           "config check FILE` names the line at fault.\nThis page is made by `weir config show "
           "--markdown`.\n\n```yaml\ndata: /var/lib/weir\nhttp:\n  listen: "
           "[\"127.0.0.1:8787\"]\ntopics:\n  "
           "partitions: 1\n  retention: 7d\n```\n\n| key | environment | default | what "
           "|\n|---|---|---|---|\n");
    for (i = 0; config_row(c, i, &r, &v); i++)
        printf("| `%s` | `%s` | `%s` | %s%s%s |\n", r.key, r.env, r.def, r.prose,
               strcmp(r.kind, "choice") == 0 ? " One of " : "",
               strcmp(r.kind, "choice") == 0 ? "the listed words." : "");
    printf(
        "\nLimits of events over HTTP:\n\n| key | default | range | what |\n|---|---|---|---|\n");
    http_limits_each(&c->limits, print_limit, &md);
}

static void print_settings(const struct config *c)
{
    const struct config_value *v;
    struct config_row r;
    bool md = false;
    unsigned i;

    for (i = 0; config_row(c, i, &r, &v); i++)
        printf("%-28s %-18s %-12s %s\n", r.key, v->text[0] ? v->text : "\"\"", v->from, r.prose);
    printf("\nLimits, as http.NAME:\n");
    http_limits_each(&c->limits, print_limit, &md);
}

int cmd_config(const struct args *a)
{
    struct errinfo info = {0};
    struct config c;
    enum err e = ERR_OK;

    config_init(&c);
    if (strcmp(a->pos[0], "check") == 0 && a->pos_n == 2) {
        e = config_file(&c, a->pos[1], &info);
        if (!e)
            e = config_check(&c, &info);
        if (!e)
            printf("%s: fine\n", a->pos[1]);
    } else if (strcmp(a->pos[0], "show") == 0 && a->pos_n == 1) {
        if (arg_get(a, "markdown"))
            print_markdown(&c);
        else if (!(e = settings(&c, a, &info)))
            print_settings(&c);
    } else {
        config_fini(&c);
        return usage_fail(a, "say `show`, or `check FILE`");
    }
    if (e)
        fail("%s", info.text);
    config_fini(&c);
    return e ? EXIT_FAILED : EXIT_FINE;
}
