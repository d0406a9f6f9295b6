/* Parsing the command line, help, man pages and completion, all from the table. See cli.h. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define SERVER_OPTS                                                                   \
    {"server", "URL", "the server (default http://127.0.0.1:8787, or $WEIR_SERVER)"}, \
    {                                                                                 \
        "token", "TOKEN", "bearer token (or $WEIR_TOKEN)"                             \
    }
#define DATA_OPT                                                       \
    {                                                                  \
        "data", "DIR", "work on this data directory, without a server" \
    }
#define END_OPTS         \
    {                    \
        NULL, NULL, NULL \
    }

static const struct opt serve_opts[] = {
    {"data", "DIR", "directory of the log (default weir-data)"},
    {"http", "ADDR:PORT", "where HTTP and WebSocket are served (default 127.0.0.1:8787)"},
    {"kafka", "ADDR:PORT", "where Kafka's protocol is served (default nowhere)"},
    {"pgwire", "ADDR:PORT", "where PostgreSQL's protocol is served (default nowhere)"},
    {"nats", "ADDR:PORT", "where NATS is served (default nowhere)"},
    {"nats-monitor", "ADDR:PORT", "where NATS's monitoring is served (default nowhere)"},
    {"nats-websocket", "ADDR:PORT", "where NATS is served in WebSockets (default nowhere)"},
    {"config", "FILE", "YAML file with settings"},
    {"set", "KEY=VALUE", "any setting of `weir config show`; may be repeated"},
    {"tls-cert", "FILE", "certificate chain, PEM"},
    {"tls-key", "FILE", "private key, PEM"},
    {"insecure", NULL, "allow a public address without TLS and tokens"},
    END_OPTS};
static const struct opt config_opts[] = {{"config", "FILE", "YAML file with settings"},
                                         {"set", "KEY=VALUE", "a setting; may be repeated"},
                                         {"markdown", NULL, "as a page of documentation"},
                                         END_OPTS};
static const struct opt emit_opts[] = {
    SERVER_OPTS,
    DATA_OPT,
    {"stream", "STREAM", "topic or topic:key (default: from the type)"},
    {"id", "ID", "makes a retry harmless"},
    END_OPTS};
static const struct opt read_opts[] = {
    SERVER_OPTS,
    DATA_OPT,
    {"after", "EVENT-ID", "only what comes after it"},
    {"from", "PLACE", "TRIM_HORIZON (default), LATEST or an ISO time"},
    {"type", "TYPES", "only these, with commas; order.* is a prefix"},
    {"limit", "N", "at most so many events (default: all)"},
    {"values", NULL, "only the payloads, one a line"},
    END_OPTS};
static const struct opt tail_opts[] = {
    SERVER_OPTS,
    {"after", "EVENT-ID", "only what comes after it"},
    {"from", "PLACE", "LATEST (default), TRIM_HORIZON or an ISO time"},
    {"type", "TYPES", "only these, with commas; order.* is a prefix"},
    {"limit", "N", "end after so many events"},
    {"json", NULL, "one JSON object a line, also on a terminal"},
    END_OPTS};
static const struct opt groups_opts[] = {
    SERVER_OPTS, {"json", NULL, "JSON instead of a table"}, END_OPTS};

static const struct opt transforms_opts[] = {
    SERVER_OPTS,
    {"json", NULL, "JSON instead of a table"},
    {"records", "N", "test: newest records of each partition; 1000"},
    END_OPTS};
static const struct opt lake_opts[] = {
    SERVER_OPTS,
    {"json", NULL, "JSON instead of a table"},
    {"no-wait", NULL, "ask for the job, do not wait for its end"},
    END_OPTS};

#define KAFKA_OPTS                                                                             \
    {"kafka", "HOST:PORT", "Kafka's protocol there (default 127.0.0.1:9092, or $WEIR_KAFKA)"}, \
        DATA_OPT, {"tls", NULL, "by TLS, as the system's authorities say"},                    \
        {"ca", "FILE", "by TLS, as the authorities in this PEM file say"},                     \
        {"user", "NAME", "login by SASL PLAIN"},                                               \
    {                                                                                          \
        "password-file", "FILE", "its first line (or $WEIR_KAFKA_PASSWORD)"                    \
    }
static const struct opt produce_opts[] = {
    KAFKA_OPTS,
    {"key-delimiter", "TEXT", "what comes before it in a line is the key; \\t is a tab"},
    {"key", "KEY", "of records that have none of their own"},
    {"header", "NAME=VALUE", "for each record; may be repeated"},
    {"partition", "N", "instead of by key"},
    {"compression", "CODEC", "none, gzip, snappy, lz4 or zstd"},
    {"null", NULL, "what is empty is null"},
    {"json", NULL, "lines are objects with key, value, headers and timestamp"},
    END_OPTS};
static const struct opt consume_opts[] = {
    KAFKA_OPTS,
    {"from", "PLACE", "beginning (default), end, an offset, -N or an ISO time"},
    {"group", "NAME", "as a member of the group, which remembers the place"},
    {"partition", "N", "only this one"},
    {"count", "N", "end after so many records"},
    {"exit", NULL, "end when there is nothing more"},
    {"isolation", "LEVEL", "committed (default) or uncommitted"},
    {"format", "TEXT", "of a record: %t %p %o %k %K %s %S %R %h %T %%"},
    {"key-delimiter", "TEXT", "print the key and it before the value"},
    {"null", NULL, "print NULL for what is null"},
    {"json", NULL, "one JSON object a line"},
    END_OPTS};
static const struct opt sql_opts[] = {
    SERVER_OPTS,
    DATA_OPT,
    {"config", "FILE", "for --data: YAML file with the server's settings: where the lake is"},
    {"set", "KEY=VALUE", "for --data: a setting, as lake.url; may be repeated"},
    {"command", "TEXT", "run these statements and end"},
    {"format", "FORM", "table (default), json, ndjson, csv or arrow"},
    {"shards", "NAMES",
     "servers that answer instead, with commas, as the server's sql.shards names them; * for all"},
    {"timing", NULL, "say how long each statement took"},
    {"follow", NULL, "go on: print rows as they come, or groups as they change"},
    {"from", "PLACE", "for --follow: latest (default), beginning, an event id or an ISO time"},
    {"limit", "N", "for --follow: end after so many rows"},
    {"keep-ms", "N", "for --follow: forget windows that are older than the latest by more"},
    END_OPTS};
static const struct opt topics_opts[] = {
    SERVER_OPTS,
    {"partitions", "N", "for create and alter"},
    {"set", "KEY=VALUE", "topic configuration; may be repeated"},
    {"describe", NULL, "as describe; without a name, of every topic"},
    {"json", NULL, "JSON instead of a table"},
    END_OPTS};
static const struct opt import_opts[] = {
    SERVER_OPTS,
    {"stream", "STREAM", "topic to write to (default: file's name)"},
    {"key", "FIELD", "field of each object that is the key"},
    {"type", "TYPE", "type of the events (default import)"},
    {"batch", "N", "events a request (default 1000)"},
    {"skip-bad", NULL, "leave out lines that are no JSON"},
    {"quiet", NULL, "no progress"},
    END_OPTS};
static const struct opt export_opts[] = {SERVER_OPTS,
                                         DATA_OPT,
                                         {"after", "EVENT-ID", "only what comes after it"},
                                         {"output", "FILE", "instead of standard output"},
                                         {"values", NULL, "only the payloads, one a line"},
                                         {"quiet", NULL, "no progress"},
                                         END_OPTS};
static const struct opt check_opts[] = {{"data", "DIR", "the data directory (default weir-data)"},
                                        {"quiet", NULL, "problems only"},
                                        END_OPTS};
static const struct opt repair_opts[] = {{"data", "DIR", "the data directory (default weir-data)"},
                                         {"dry-run", NULL, "say what would be done"},
                                         END_OPTS};
static const struct opt bench_opts[] = {SERVER_OPTS,
                                        {"stream", "TOPIC", "topic to write to (default bench)"},
                                        {"seconds", "N", "duration (default 5)"},
                                        {"size", "BYTES", "payload of an event (default 100)"},
                                        {"batch", "N", "events a request (default 1000)"},
                                        END_OPTS};
static const struct opt token_opts[] = {
    SERVER_OPTS,
    {"data", "DIR", "work on this data directory, without a server"},
    {"name", "NAME", "what it is for"},
    {"read", "PREFIX", "topics that may be read (* for all)"},
    {"write", "PREFIX", "topics that may be written (* for all)"},
    {"admin", NULL, "everything is permitted"},
    {"json", NULL, "JSON instead of a table"},
    END_OPTS};
static const struct opt server_opts[] = {SERVER_OPTS, END_OPTS};
static const struct opt no_opts[] = {END_OPTS};
static const struct opt help_opts[] = {{"man", NULL, "as a manual page (troff)"}, END_OPTS};

const struct command commands[] = {
    {"serve", "[--data DIR] [--http ADDR:PORT] …", "run the server",
     "Serves a data directory until SIGTERM or SIGINT. Settings come from defaults, the file of "
     "--config,\n"
     "the environment (WEIR_HTTP_LISTEN=…) and flags, each overriding the ones before.\n"
     "SIGHUP reads certificates again.",
     "weir serve\nweir serve --data /var/lib/weir --http 127.0.0.1:8787\nweir serve --config "
     "weir.yaml --set topics.partitions=4",
     serve_opts, 0, 0, cmd_serve},
    {"emit", "TYPE [DATA] …", "write one event",
     "DATA is JSON; - or nothing at all reads it from standard input. Prints the event's id and "
     "place once it is\n"
     "durable.",
     "weir emit order.created '{\"total\":12.5}'\nweir emit order.created --stream orders:c-1 "
     "'{\"total\":3}'",
     emit_opts, 1, 2, cmd_emit},
    {"tail", "STREAM …", "follow a stream live",
     "STREAM is a topic, topic:key, topic:* or a pattern such as orders.*. Ends with Ctrl-C.",
     "weir tail orders\nweir tail 'orders:*' --type order.created --json", tail_opts, 1, 1,
     cmd_tail},
    {"read", "STREAM …", "print what a stream holds",
     "One JSON object a line, oldest first, to standard output.",
     "weir read orders --limit 10\nweir read orders:c-1 --data weir-data --values", read_opts, 1, 1,
     cmd_read},
    {"topics", "[list [PATTERN] | create NAME | describe NAME | alter NAME | delete NAME] …",
     "list and change topics",
     "Without anything: list. describe shows the configuration and each partition's offsets.",
     "weir topics\nweir topics create orders --partitions 4 --set retention.ms=86400000\nweir "
     "topics describe orders\nweir topics --describe",
     topics_opts, 0, 2, cmd_topics},
    {"groups", "[list | describe NAME | delete NAME] …", "list and look at consumer groups",
     "Without anything: list. Groups of every protocol: Kafka's, the C library's, checkpoints of "
     "other programs.",
     "weir groups\nweir groups describe billing", groups_opts, 0, 2, cmd_groups},
    {"lake", "[status [TOPIC] | flush TOPIC | compact TOPIC | expire TOPIC | backfill TOPIC] …",
     "topics as Iceberg tables",
     "Without anything: the state of all. flush commits what waits; compact makes large files of\n"
     "small ones; expire drops old snapshots and files; backfill sets lake.enable and flushes.",
     "weir lake\nweir lake backfill orders\nweir lake status orders --json", lake_opts, 0, 2,
     cmd_lake},
    {"transforms",
     "[list | show NAME | status NAME | apply FILE|DIR … | test FILE | pause NAME | resume NAME | "
     "delete NAME] …",
     "statements that run over what comes into a topic",
     "Without anything: list. apply takes files of SQL with a header of `-- key: value` lines, or\n"
     "all *.sql of a folder; test shows the rows over the newest records and writes nothing.",
     "weir transforms apply transforms/\nweir transforms test by-minute.sql --records 100000\n"
     "weir transforms status by-minute",
     transforms_opts, 0, ARGS_MAX, cmd_transforms},
    {"produce", "TOPIC [FILE …] …", "write lines as records, by Kafka's protocol",
     "Lines of the files (- or nothing: of standard input) become records, to any Kafka broker or\n"
     "with --data to a directory. Ends when they are durable; exit status 1 if one is not.\n"
     "Records with a key go to the partition that Kafka's clients choose.",
     "echo 'c-1:{\"total\":12.5}' | weir produce orders -K :\nweir produce log access.log "
     "--compression zstd\nweir consume orders --exit --json | weir produce copy --json",
     produce_opts, 1, ARGS_MAX, cmd_produce},
    {"consume", "TOPIC …", "print records, by Kafka's protocol",
     "Values, one a line, or as --format says: %t topic, %p partition, %o offset, %k key, %s "
     "value,\n"
     "%h headers, %T timestamp, %K and %S lengths (-1: null), %R the value's as 4 bytes; \\n, "
     "\\t,\n"
     "\\xHH. Follows the topics until Ctrl-C, or as --count and --exit say; with --data to the "
     "end.\n"
     "Groups are of Kafka's new protocol (KIP-848). What was printed is committed every second\n"
     "and at the end.",
     "weir consume orders --exit\nweir consume orders --group billing\nweir consume orders "
     "payments "
     "--from 2026-01-31T12:00:00Z --format '%t[%p]@%o %k=%s\\n'",
     consume_opts, 1, ARGS_MAX, cmd_consume},
    {"sql", "[STATEMENT] …", "ask topics with SQL",
     "Topics are tables, the fields of their JSON values columns. On a terminal lines are edited "
     "and\n"
     "remembered ($WEIR_SQL_HISTORY, default ~/.weir_sql_history); from a pipe statements are run "
     "one\n"
     "after the other until one fails. Statements end with a semicolon. \\d lists topics, \\d "
     "NAME\n"
     "the columns of one, \\? all such commands. Ctrl-C cancels a query.\n"
     "With --data the directory is read in this process, without a server, and its topics' tables "
     "in\n"
     "the lake.\n"
     "With --follow one SELECT goes on: first over what is there from --from on, then over what "
     "comes.\n"
     "When the server is away it is asked again, and goes on where it was. Ctrl-C ends it.",
     "weir sql\nweir sql --follow --from beginning 'SELECT id, total FROM orders WHERE total > "
     "20'\nweir sql -c 'SELECT count(*) FROM orders'\nweir sql --data weir-data --format csv "
     "-c "
     "'SELECT * FROM orders' > orders.csv\necho 'SELECT 1; SELECT 2' | weir sql --format ndjson",
     sql_opts, 0, 1, cmd_sql},
    {"import", "FILE …", "write a file's records as events",
     "FILE has one JSON value a line, or is one JSON array; - is standard input. Every value "
     "becomes one\n"
     "event; order is kept. Prints a summary with the last event's id.",
     "weir import flights.ndjson --stream flights --key origin\ncat log.ndjson | weir import - "
     "--stream log",
     import_opts, 1, 1, cmd_import},
    {"export", "STREAM …", "write a stream to a file",
     "One JSON object a line. --values writes only the payloads, so that `weir import` takes it "
     "back.",
     "weir export orders --output orders.ndjson", export_opts, 1, 1, cmd_export},
    {"checkpoint",
     "get CONSUMER [STREAM] | set CONSUMER STREAM EVENT-ID | delete CONSUMER STREAM …",
     "remember how far a consumer has read",
     "Checkpoints are durable and belong to a consumer's name.",
     "weir checkpoint set billing orders evt_000000000000002a\nweir checkpoint get billing orders",
     server_opts, 2, 4, cmd_checkpoint},
    {"check", "[--data DIR]", "verify every byte of a data directory",
     "Reads everything that has a checksum and changes nothing. The server must not be running on "
     "it.\n"
     "Exit status 1 if there is a problem.",
     "weir check --data weir-data", check_opts, 0, 0, cmd_check},
    {"repair", "[--data DIR] [--dry-run]", "mend a damaged data directory",
     "Makes a directory that the server refuses usable again. What cannot be read is moved to\n"
     "DIR/damaged; nothing is deleted.",
     "weir repair --data weir-data --dry-run", repair_opts, 0, 0, cmd_repair},
    {"bench", "…", "measure a server",
     "Writes batches of events for a while and reads them back; prints rates.",
     "weir bench --seconds 10 --size 200", bench_opts, 0, 0, cmd_bench},
    {"token", "create | list | revoke ID …", "manage bearer tokens",
     "A token is shown once, when it is made; the server keeps a hash. With --data no server may\n"
     "run on the directory: so a first token is there before the server is.",
     "weir token create --name ci --write orders\nweir token create --admin --data weir-data\n"
     "weir token list",
     token_opts, 0, 2, cmd_token},
    {"config", "show | check FILE …", "show or check settings",
     "show prints every setting with its value, where it came from and what it is for.\n"
     "check reads a file and names the line at fault.",
     "weir config show\nweir config check weir.yaml", config_opts, 1, 2, cmd_config},
    {"completion", "bash | zsh | fish", "print a shell completion script", "",
     "source <(weir completion bash)", no_opts, 1, 1, cmd_completion},
    {"version", "", "print the version", "", "weir version", no_opts, 0, 0, cmd_version},
    {"help", "[COMMAND]", "explain a command", "", "weir help import", help_opts, 0, 1, cmd_help},
};
const unsigned commands_n = sizeof commands / sizeof *commands;

/* ---- saying ---- */

int fail(const char *fmt, ...)
{
    va_list ap;

    fputs("weir: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return EXIT_FAILED;
}

int usage_fail(const struct args *a, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "weir %s: ", a->cmd->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nUsage: weir %s %s\nTry `weir help %s`.\n", a->cmd->name, a->cmd->usage,
            a->cmd->name);
    return EXIT_USAGE;
}

bool colours(FILE *f)
{
    return isatty(fileno(f)) && !getenv("NO_COLOR");
}

static unsigned distance(const char *a, const char *b)
{
    unsigned row[65], i, j, la = (unsigned)strnlen(a, 64), lb = (unsigned)strnlen(b, 64);

    for (j = 0; j <= lb; j++)
        row[j] = j;
    for (i = 1; i <= la; i++) {
        unsigned diag = row[0];

        row[0] = i;
        for (j = 1; j <= lb; j++) {
            unsigned best = diag + (a[i - 1] != b[j - 1]);

            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diag = row[j];
            row[j] = best;
        }
    }
    return row[lb];
}

const char *nearest(const char *word, const char *(*name)(unsigned i, void *arg), void *arg)
{
    const char *best = NULL, *n;
    unsigned i, d, least = 3;

    for (i = 0; (n = name(i, arg)); i++)
        if ((d = distance(word, n)) < least) {
            least = d;
            best = n;
        }
    return best;
}

/* ---- parsing ---- */

/* What kcat writes with one dash, for the commands that are like it. */
static const struct letter {
    char letter;
    const char *name;
} letters[] = {{'b', "kafka"},     {'K', "key-delimiter"}, {'k', "key"},  {'H', "header"},
               {'p', "partition"}, {'z', "compression"},   {'Z', "null"}, {'o', "from"},
               {'G', "group"},     {'c', "count"},         {'e', "exit"}, {'f', "format"},
               {'J', "json"},      {'c', "command"},       {'n', "limit"}};

static int opt_find(const struct command *c, const char *name, size_t len);

static bool has_letters(const struct command *c)
{
    return opt_find(c, "key-delimiter", strlen("key-delimiter")) >= 0 ||
           opt_find(c, "command", strlen("command")) >= 0;
}

/* 0: the option has none. */
static char letter_of(const struct command *c, const char *name)
{
    size_t i;

    for (i = 0; i < sizeof letters / sizeof *letters && has_letters(c); i++)
        if (strcmp(letters[i].name, name) == 0)
            return letters[i].letter;
    return 0;
}

static int opt_find(const struct command *c, const char *name, size_t len)
{
    int i;

    for (i = 0; c->opts[i].name; i++)
        if (strlen(c->opts[i].name) == len && strncmp(c->opts[i].name, name, len) == 0)
            return i;
    return -1;
}

const char *arg_get(const struct args *a, const char *name)
{
    int i = opt_find(a->cmd, name, strlen(name));

    return i < 0 ? NULL : a->value[i];
}

int64_t arg_number(const struct args *a, const char *name, int64_t def, int64_t least, int64_t most)
{
    const char *s = arg_get(a, name);
    char *end;
    long long v;

    if (!s)
        return def;
    v = strtoll(s, &end, 10);
    if (end == s || *end || v < least || v > most)
        exit(usage_fail(a, "--%s takes a number from %lld to %lld, not '%s'", name,
                        (long long)least, (long long)most, s));
    return v;
}

static const char *opt_name(unsigned i, void *arg)
{
    return ((const struct command *)arg)->opts[i].name;
}

static const char *command_name(unsigned i, void *arg)
{
    return i < commands_n ? commands[i].name : NULL;
}

static int unknown_option(struct args *a, const char *word)
{
    const char *near = nearest(word, opt_name, (void *)(uintptr_t)a->cmd);

    return near ? usage_fail(a, "there is no option --%s; did you mean --%s?", word, near)
                : usage_fail(a, "there is no option --%s", word);
}

static int set_option(struct args *a, int o, const char *v)
{
    const char *name = a->cmd->opts[o].name;

    a->value[o] = v;
    if (strcmp(name, "set") == 0 || strcmp(name, "header") == 0) {
        if (a->sets_n == SETS_MAX)
            return usage_fail(a, "more than %d times --%s", SETS_MAX, name);
        a->sets[a->sets_n++] = v;
    }
    return 0;
}

/* -c10, -c 10 or -e. */
static int take_letter(struct args *a, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t n;
    int o = -1;

    for (n = 0; n < sizeof letters / sizeof *letters && has_letters(a->cmd) && o < 0; n++)
        if (letters[n].letter == word[1])
            o = opt_find(a->cmd, letters[n].name, strlen(letters[n].name));
    if (o < 0)
        return usage_fail(a, "options are written with two dashes, not '%s'", word);
    if (!a->cmd->opts[o].arg)
        return word[2] ? usage_fail(a, "-%c takes no value", word[1]) : set_option(a, o, "");
    if (!word[2] && *i + 1 >= argc)
        return usage_fail(a, "-%c needs %s", word[1], a->cmd->opts[o].arg);
    return set_option(a, o, word[2] ? word + 2 : argv[++*i]);
}

/* Takes the option at argv[*i]. */
static int take_option(struct args *a, int argc, char **argv, int *i)
{
    const char *word = argv[*i] + 2, *eq = strchr(word, '=');
    size_t len = eq ? (size_t)(eq - word) : strlen(word);
    int o = opt_find(a->cmd, word, len);
    const char *v = "";

    if (o < 0)
        return unknown_option(a, word);
    if (a->cmd->opts[o].arg) {
        if (!eq && *i + 1 >= argc)
            return usage_fail(a, "--%s needs %s", a->cmd->opts[o].name, a->cmd->opts[o].arg);
        v = eq ? eq + 1 : argv[++*i];
    } else if (eq) {
        return usage_fail(a, "--%s takes no value", a->cmd->opts[o].name);
    }
    return set_option(a, o, v);
}

static void print_help(const struct command *c, FILE *f);

static int parse(struct args *a, int argc, char **argv)
{
    bool only_args = false;
    int i, r;

    for (i = 0; i < argc; i++) {
        if (!only_args && strcmp(argv[i], "--") == 0) {
            only_args = true;
        } else if (!only_args && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(a->cmd, stdout);
            exit(EXIT_FINE);
        } else if (!only_args && strncmp(argv[i], "--", 2) == 0) {
            if ((r = take_option(a, argc, argv, &i)))
                return r;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
            if ((r = take_letter(a, argc, argv, &i)))
                return r;
        } else if (a->pos_n == ARGS_MAX || a->pos_n >= a->cmd->pos_most) {
            return usage_fail(a, "'%s' is one too many", argv[i]);
        } else {
            a->pos[a->pos_n++] = argv[i];
        }
    }
    if (a->pos_n < a->cmd->pos_least)
        return usage_fail(a, "something is missing");
    return 0;
}

/* ---- help ---- */

static void indent(const char *text, FILE *f)
{
    const char *p = text;

    while (*p) {
        size_t n = strcspn(p, "\n");

        fprintf(f, "  %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static void print_help(const struct command *c, FILE *f)
{
    const struct opt *o;
    char left[64];

    fprintf(f, "weir %s: %s\n\nUsage:\n  weir %s %s\n", c->name, c->summary, c->name, c->usage);
    if (c->text[0]) {
        fputc('\n', f);
        indent(c->text, f);
    }
    if (c->opts[0].name)
        fprintf(f, "\nOptions:\n");
    for (o = c->opts; o->name; o++) {
        char letter[5] = {'-', letter_of(c, o->name), ',', ' ', 0};

        snprintf(left, sizeof left, "%s--%s%s%s", letter[1] ? letter : "", o->name,
                 o->arg ? " " : "", o->arg ? o->arg : "");
        fprintf(f, "  %-22s %s\n", left, o->help);
    }
    fprintf(f, "  %-22s %s\n\nExamples:\n", "--help", "this text");
    indent(c->examples, f);
}

static void print_overview(FILE *f)
{
    unsigned i;

    fprintf(f,
            "weir %s: event streaming without infrastructure\n\nUsage:\n  weir COMMAND "
            "…\n\nCommands:\n",
            WEIR_VERSION);
    for (i = 0; i < commands_n; i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\n`weir help COMMAND` or `weir COMMAND --help` explains one.\n");
}

static const struct command *command_find(const char *name)
{
    unsigned i;

    for (i = 0; i < commands_n; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *near = nearest(name, command_name, NULL);

    if (near)
        fail("there is no command '%s'; did you mean '%s'?", name, near);
    else
        fail("there is no command '%s'; `weir help` lists them", name);
    return EXIT_USAGE;
}

/* troff: a line may not begin with a dot or a quote; dashes are to stay dashes. */
static void man_text(const char *s)
{
    bool start = true;

    for (; *s; s++) {
        if (start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        start = *s == '\n';
        if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\\')
            fputs("\\\\", stdout);
        else
            fputc(*s, stdout);
    }
}

static void man_command(const struct command *c)
{
    const struct opt *o;

    printf(".TH WEIR-%s 1 \"\" \"weir %s\" \"Weir\"\n.SH NAME\nweir\\-%s \\- ", c->name,
           WEIR_VERSION, c->name);
    man_text(c->summary);
    printf("\n.SH SYNOPSIS\n.B weir %s\n", c->name);
    man_text(c->usage);
    printf("\n");
    if (c->text[0]) {
        printf(".SH DESCRIPTION\n");
        man_text(c->text);
        printf("\n");
    }
    if (c->opts[0].name)
        printf(".SH OPTIONS\n");
    for (o = c->opts; o->name; o++) {
        char letter = letter_of(c, o->name);

        printf(".TP\n.B ");
        if (letter)
            printf("\\-%c, ", letter);
        printf("\\-\\-%s%s%s\n", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        man_text(o->help);
        printf("\n");
    }
    printf(".SH EXAMPLES\n.nf\n");
    man_text(c->examples);
    printf("\n.fi\n.SH SEE ALSO\n.BR weir (1)\n");
}

static void man_overview(void)
{
    unsigned i;

    printf(".TH WEIR 1 \"\" \"weir %s\" \"Weir\"\n.SH NAME\nweir \\- event streaming without "
           "infrastructure\n.SH SYNOPSIS\n.B weir\nCOMMAND …\n.SH COMMANDS\n",
           WEIR_VERSION);
    for (i = 0; i < commands_n; i++) {
        printf(".TP\n.BR weir\\-%s (1)\n", commands[i].name);
        man_text(commands[i].summary);
        printf("\n");
    }
}

int cmd_help(const struct args *a)
{
    const struct command *c = a->pos_n ? command_find(a->pos[0]) : NULL;

    if (a->pos_n && !c)
        return unknown_command(a->pos[0]);
    if (arg_get(a, "man")) {
        if (c)
            man_command(c);
        else
            man_overview();
    } else if (c) {
        print_help(c, stdout);
    } else {
        print_overview(stdout);
    }
    return EXIT_FINE;
}

int cmd_version(const struct args *a)
{
    printf("weir %s\n", WEIR_VERSION);
    return EXIT_FINE;
}

static void completion_bash(void)
{
    const struct opt *o;
    unsigned i;

    printf("_weir() {\n  local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[1]}\n"
           "  if [ \"$COMP_CWORD\" = 1 ]; then\n    COMPREPLY=($(compgen -W \"");
    for (i = 0; i < commands_n; i++)
        printf("%s ", commands[i].name);
    printf("\" -- \"$cur\"))\n    return\n  fi\n  case $cmd in\n");
    for (i = 0; i < commands_n; i++) {
        printf("    %s) COMPREPLY=($(compgen -W \"", commands[i].name);
        for (o = commands[i].opts; o->name; o++)
            printf("--%s ", o->name);
        printf("--help\" -- \"$cur\")) ;;\n");
    }
    printf("  esac\n  [ -n \"${COMPREPLY[*]}\" ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n"
           "complete -F _weir weir\n");
}

static void completion_zsh(void)
{
    const struct opt *o;
    unsigned i;

    printf("#compdef weir\n_weir() {\n  if (( CURRENT == 2 )); then\n    local -a c=(\n");
    for (i = 0; i < commands_n; i++)
        printf("      '%s:%s'\n", commands[i].name, commands[i].summary);
    printf("    )\n    _describe command c\n    return\n  fi\n  case $words[2] in\n");
    for (i = 0; i < commands_n; i++) {
        printf("    %s) compadd -- ", commands[i].name);
        for (o = commands[i].opts; o->name; o++)
            printf("--%s ", o->name);
        printf("--help; _files ;;\n");
    }
    printf("  esac\n}\ncompdef _weir weir\n");
}

static void completion_fish(void)
{
    const struct opt *o;
    unsigned i;

    for (i = 0; i < commands_n; i++) {
        printf("complete -c weir -n __fish_use_subcommand -f -a %s -d \"%s\"\n", commands[i].name,
               commands[i].summary);
        for (o = commands[i].opts; o->name; o++)
            printf("complete -c weir -n \"__fish_seen_subcommand_from %s\" -l %s%s -d \"%s\"\n",
                   commands[i].name, o->name, o->arg ? " -r" : "", o->help);
    }
}

int cmd_completion(const struct args *a)
{
    if (strcmp(a->pos[0], "bash") == 0)
        completion_bash();
    else if (strcmp(a->pos[0], "zsh") == 0)
        completion_zsh();
    else if (strcmp(a->pos[0], "fish") == 0)
        completion_fish();
    else
        return usage_fail(a, "'%s' is not a shell known here: bash, zsh, fish", a->pos[0]);
    return EXIT_FINE;
}

int main(int argc, char **argv)
{
    struct args a = {0};
    int r;

    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return EXIT_FINE;
    }
    a.cmd = command_find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!a.cmd)
        return unknown_command(argv[1]);
    if ((r = parse(&a, argc - 2, argv + 2)))
        return r;
    r = a.cmd->run(&a);
    if (fflush(stdout) && r == EXIT_FINE)
        r = fail("writing to standard output failed");
    return r;
}
