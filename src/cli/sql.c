/* weir sql: statements from a terminal with line editing and history, from a pipe, or from --command.
 *
 * Statements end with a semicolon; what begins with a backslash is about the program. Ctrl-C ends the
 * query that runs, or throws the line away. */
#include <editline/readline.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/sql.h"
#include "io/io.h"
#include "rows/lex.h"

#define TEXT_MAX    (16u << 20)
#define ANSWER_MAX  (1u << 30)
#define HISTORY_MAX 1000
#define ROWS_TABLE  ROWS_FORMS /* beside the forms of bytes */

volatile sig_atomic_t sql_interrupted;

struct shell {
    struct sql_source *src;
    unsigned form;
    bool timing, interactive, quit;
    int status;
};

static void on_interrupt(int sig)
{
    sql_interrupted = 1;
}

static int form_of(const char *name)
{
    int i;

    for (i = 0; rows_form_name((enum rows_form)i); i++)
        if (strcmp(rows_form_name((enum rows_form)i), name) == 0)
            return i;
    return strcmp(name, "table") == 0 ? (int)ROWS_TABLE : -1;
}

/* ---- running ---- */

static unsigned terminal_width(void)
{
    struct winsize w;

    return isatty(1) && ioctl(1, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

static bool gather(void *arg, struct slice piece)
{
    return !buf_append_slice(arg, piece);
}

static bool to_stdout(void *arg, struct slice piece)
{
    return fwrite(piece.ptr, 1, piece.len, stdout) == piece.len;
}

/* The line of the statement that is at fault, and a mark below. */
static void point(struct slice text, uint32_t position)
{
    const uint8_t *p = text.ptr, *end = p + text.len, *line = p, *stop;
    unsigned n;

    for (; p < end && position > 1; p++)
        if ((*p & 0xc0) != 0x80 && --position && *p == '\n')
            line = p + 1;
    while (p < end && (*p & 0xc0) == 0x80)
        p++;
    stop = memchr(line, '\n', (size_t)(end - line));
    fprintf(stderr, "  %.*s\n  ", (int)((stop ? stop : end) - line), (const char *)line);
    for (n = 0; line < p; line++)
        n += (*line & 0xc0) != 0x80;
    fprintf(stderr, "%*s^\n", (int)n, "");
}

static void said(struct slice text, const struct sql_failure *f)
{
    fprintf(stderr, "error: %s\n", f->message[0] ? f->message : "the query failed");
    if (f->position)
        point(text, f->position);
    if (f->hint[0])
        fprintf(stderr, "hint: %s\n", f->hint);
}

static bool table_run(struct shell *s, struct slice text, struct sql_failure *f)
{
    struct buf answer;
    bool ok;

    buf_init(&answer, ANSWER_MAX);
    ok = sql_source_run(s->src, text, ROWS_JSON, gather, &answer, f) &&
         sql_table_print(buf_slice(&answer), terminal_width(), stdout, f);
    buf_fini(&answer);
    return ok;
}

static void statement_run(struct shell *s, struct slice text)
{
    uint64_t start = io_mono_ns(io_real());
    struct sql_failure f = {0};
    bool ok;

    sql_interrupted = 0;
    if (s->form == ROWS_TABLE)
        ok = table_run(s, text, &f);
    else
        ok = sql_source_run(s->src, text, (enum rows_form)s->form, to_stdout, NULL, &f);
    fflush(stdout);
    if (!ok) {
        said(text, &f);
        s->status = EXIT_FAILED;
    }
    if (s->timing)
        fprintf(stderr, "%.1f ms\n", (double)(io_mono_ns(io_real()) - start) * 1e-6);
    sql_interrupted = 0;
}

/* --follow: one statement, until it ends. */
static void follow_text(struct shell *s, const char *command, struct sql_follow *how)
{
    struct slice rest = slice_str(command), one = SLICE_NULL, more = SLICE_NULL;
    struct sql_failure f;

    if (!lex_statement(&rest, &one) || !one.len || (lex_statement(&rest, &more) && more.len)) {
        s->status = fail("--follow takes one statement");
        return;
    }
    how->form = s->form == ROWS_TABLE ? ROWS_FORMS : (enum rows_form)s->form;
    if (!sql_follow_run(s->src, one, how, &f)) {
        said(one, &f);
        s->status = EXIT_FAILED;
    }
}

/* ---- commands about the program ---- */

static void help(void)
{
    puts("Statements end with a semicolon. Topics are tables; fields of their JSON values are "
         "columns.\n"
         "  \\d             topics\n"
         "  \\dt            the same\n"
         "  \\d NAME        columns of a topic\n"
         "  \\format FORM   table, json, ndjson, csv or arrow\n"
         "  \\timing        say how long each statement took, or do not\n"
         "  \\q             end; exit and quit, too\n"
         "Ctrl-C ends a query that runs.");
}

/* name: as it is, or in double quotes as in a statement. */
static void describe(struct shell *s, const char *name)
{
    size_t n = strlen(name);
    bool quoted = n > 1 && name[0] == '"' && name[n - 1] == '"';
    struct buf text;

    if (!*name) {
        statement_run(s, SLICE_LIT("SELECT topic, partitions, records, bytes, last_timestamp FROM "
                                   "weir.topics ORDER BY ALL"));
        return;
    }
    buf_init(&text, 4096);
    buf_append_str(&text, "SELECT column_name, column_type FROM (DESCRIBE ");
    buf_append_str(&text, quoted ? "" : "\"");
    for (; *name; name++) {
        if (*name == '"' && !quoted)
            buf_append_u8(&text, '"');
        buf_append_u8(&text, (uint8_t)*name);
    }
    buf_append_str(&text, quoted ? ")" : "\")");
    statement_run(s, buf_slice(&text));
    buf_fini(&text);
}

static void format_set(struct shell *s, const char *name)
{
    int form = form_of(name);

    if (form < 0)
        fprintf(stderr, "error: the formats are table, json, ndjson, csv and arrow\n");
    else
        s->form = (unsigned)form;
}

static void backslash(struct shell *s, char *line)
{
    size_t n = strcspn(line, " \t"), end;
    char *rest = line + n;

    rest += strspn(rest, " \t");
    for (end = strlen(rest); end && strchr(" \t\r\n;", rest[end - 1]); end--)
        rest[end - 1] = 0;
    line[n] = 0;
    line[strcspn(line, "\r\n;")] = 0;
    if (strcmp(line, "\\q") == 0 || strcmp(line, "\\quit") == 0) {
        s->quit = true;
    } else if (strcmp(line, "\\?") == 0 || strcmp(line, "\\h") == 0) {
        help();
    } else if (strcmp(line, "\\timing") == 0) {
        s->timing = !s->timing;
        printf("timing is %s\n", s->timing ? "on" : "off");
    } else if (strcmp(line, "\\format") == 0) {
        format_set(s, rest);
    } else if (strcmp(line, "\\d") == 0 || strcmp(line, "\\dt") == 0) {
        describe(s, rest);
    } else {
        fprintf(stderr, "error: there is no %s; \\? lists what there is\n", line);
        s->status = EXIT_FAILED;
    }
}

/* ---- input ---- */

/* Runs the statements of text that are complete, or all; throws them away from it. */
static void statements_run(struct shell *s, struct buf *text, bool all)
{
    struct slice rest = buf_slice(text), one;

    while (!s->quit && (s->interactive || s->status == EXIT_FINE)) {
        struct slice before = rest;

        if (!lex_statement(&rest, &one))
            break;
        if (!all && !(rest.ptr > one.ptr + one.len && rest.ptr[-1] == ';')) {
            rest = before;
            break;
        }
        if (one.len)
            statement_run(s, one);
    }
    if (rest.len)
        memmove(text->ptr, rest.ptr, rest.len);
    text->len = rest.len;
}

static void line_take(struct shell *s, struct buf *text, const char *line)
{
    if (text->len == 0 && line[0] == '\\') {
        char *copy = xstrdup(line);

        backslash(s, copy);
        free(copy);
        return;
    }
    if (buf_append_str(text, line) || buf_append_u8(text, '\n')) {
        fprintf(stderr, "error: the statement is too long\n");
        buf_clear(text);
        s->status = EXIT_FAILED;
        return;
    }
    statements_run(s, text, false);
}

/* What people type who have not seen \\? yet, alone on a line. */
static bool word_take(struct shell *s, const char *line)
{
    size_t n;

    line += strspn(line, " \t");
    n = strcspn(line, " \t;");
    if (line[n + strspn(line + n, " \t;")])
        return false;
    if (n == 4 && strncasecmp(line, "help", n) == 0)
        help();
    else if (n == 4 && (strncasecmp(line, "exit", n) == 0 || strncasecmp(line, "quit", n) == 0))
        s->quit = true;
    else
        return false;
    return true;
}

static char *history_path(void)
{
    const char *set = getenv("WEIR_SQL_HISTORY"), *home = getenv("HOME");
    char *path = NULL;

    if (set)
        return *set ? xstrdup(set) : NULL;
    if (!home || asprintf(&path, "%s/.weir_sql_history", home) < 0)
        return NULL;
    return path;
}

static void interact(struct shell *s)
{
    char *path = history_path(), *line;
    struct buf text;

    buf_init(&text, TEXT_MAX);
    stifle_history(HISTORY_MAX);
    if (path)
        read_history(path);
    printf("weir %s, SQL at %s. \\? for help.\n", WEIR_VERSION, sql_source_name(s->src));
    while (!s->quit) {
        line = readline(text.len ? "   ...> " : "weir=> ");
        if (!line && sql_interrupted) {
            sql_interrupted = 0;
            buf_clear(&text);
            putchar('\n');
            continue;
        }
        if (!line)
            break;
        if (*line)
            add_history(line);
        if (text.len || !word_take(s, line))
            line_take(s, &text, line);
        free(line);
    }
    if (path && write_history(path) == 0)
        chmod(path, 0600);
    free(path);
    buf_fini(&text);
    s->status = EXIT_FINE;
}

static void from_pipe(struct shell *s)
{
    struct buf text;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    buf_init(&text, TEXT_MAX);
    while (!s->quit && s->status == EXIT_FINE && (n = getline(&line, &cap, stdin)) >= 0) {
        if (n && line[n - 1] == '\n')
            line[n - 1] = 0;
        line_take(s, &text, line);
    }
    statements_run(s, &text, true);
    free(line);
    buf_fini(&text);
}

static void from_text(struct shell *s, const char *command)
{
    struct buf text;

    buf_init(&text, TEXT_MAX);
    if (command[0] == '\\')
        line_take(s, &text, command);
    else if (buf_append_str(&text, command))
        s->status = fail("the statement is too long");
    else
        statements_run(s, &text, true);
    buf_fini(&text);
}

static void locale_set(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

/* What does not go together; 0: all is well. */
static int options_check(const struct args *a, int form)
{
    bool follow = arg_get(a, "follow") != NULL;
    const char *from = arg_get(a, "from");

    if (form < 0)
        return usage_fail(a, "--format is table, json, ndjson, csv or arrow, not '%s'",
                          arg_get(a, "format"));
    if (form == ROWS_ARROW && isatty(1))
        return usage_fail(a, "Arrow is not for a terminal: send it to a file or a program");
    if (a->pos_n && arg_get(a, "command"))
        return usage_fail(a, "the statement is given twice");
    if (!follow && (from || arg_get(a, "limit") || arg_get(a, "keep-ms")))
        return usage_fail(a, "--from, --limit and --keep-ms belong to --follow");
    if (!follow)
        return 0;
    if (arg_get(a, "data") || arg_get(a, "shards"))
        return usage_fail(a, "--follow asks a server, without --data and --shards");
    if (form == ROWS_ARROW || form == ROWS_JSON)
        return usage_fail(a, "with --follow --format is table, ndjson or csv");
    if (!a->pos_n && !arg_get(a, "command"))
        return usage_fail(a, "--follow needs a statement");
    return 0;
}

int cmd_sql(const struct args *a)
{
    const char *format = arg_get(a, "format"),
               *command = a->pos_n ? a->pos[0] : arg_get(a, "command");
    struct sigaction act = {.sa_handler = on_interrupt};
    struct shell s = {.form = ROWS_TABLE, .timing = arg_get(a, "timing") != NULL};
    int form = format ? form_of(format) : (int)ROWS_TABLE, bad = options_check(a, form);
    struct sql_follow how = {.from = arg_get(a, "from")};

    if (bad)
        return bad;
    s.form = (unsigned)form;
    how.limit = (uint64_t)arg_number(a, "limit", 0, 1, INT64_MAX);
    how.keep_ms = arg_number(a, "keep-ms", 0, 1, INT64_MAX / 2);
    locale_set();
    if (!(s.src = sql_source_open(a)))
        return EXIT_FAILED;
    sigaction(SIGINT, &act, NULL);
    s.interactive = !command && isatty(0) && isatty(1);
    if (arg_get(a, "follow"))
        follow_text(&s, command, &how);
    else if (command)
        from_text(&s, command);
    else if (s.interactive)
        interact(&s);
    else
        from_pipe(&s);
    sql_source_close(&s.src);
    return s.status;
}
