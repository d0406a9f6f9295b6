/* Sessions. See session.h. Settings that drivers ask for have a default here; others that are set are
 * kept and shown, without effect. */
#include "proto/pgwire/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "rows/lex.h"

static const struct {
    const char *name, *value;
    bool reported; /* GUC_REPORT in PostgreSQL */
    bool fixed;
} defaults[] = {
    {"server_version", PG_SERVER_VERSION, true, true},
    {"server_encoding", "UTF8", true, true},
    {"client_encoding", "UTF8", true, false},
    {"application_name", "", true, false},
    {"default_transaction_read_only", "on", true, false},
    {"in_hot_standby", "off", true, true},
    {"is_superuser", "off", true, true},
    {"DateStyle", "ISO, MDY", true, false},
    {"IntervalStyle", "postgres", true, false},
    {"TimeZone", "UTC", true, false},
    {"integer_datetimes", "on", true, true},
    {"standard_conforming_strings", "on", true, false},
    {"server_version_num", PG_SERVER_VERSION_NUM, false, true},
    {"transaction_isolation", "read committed", false, false},
    {"default_transaction_isolation", "read committed", false, false},
    {"transaction_read_only", "on", false, false},
    {"transaction_deferrable", "off", false, false},
    {"search_path", "public", false, false},
    {"statement_timeout", "0", false, false},
    {"lock_timeout", "0", false, false},
    {"idle_in_transaction_session_timeout", "0", false, false},
    {"extra_float_digits", "1", false, false},
    {"bytea_output", "hex", false, false},
    {"client_min_messages", "notice", false, false},
    {"lc_collate", "C.UTF-8", false, true},
    {"lc_ctype", "C.UTF-8", false, true},
    {"lc_messages", "C.UTF-8", false, false},
    {"lc_monetary", "C.UTF-8", false, false},
    {"lc_numeric", "C.UTF-8", false, false},
    {"lc_time", "C.UTF-8", false, false},
    {"max_identifier_length", "63", false, true},
    {"max_index_keys", "32", false, true},
    {"block_size", "8192", false, true},
    {"row_security", "on", false, false},
    {"ssl", "on", false, true},
    {"jit", "off", false, false},
    {"backslash_quote", "safe_encoding", false, false},
    {"synchronous_commit", "on", false, false},
};
#define DEFAULTS (sizeof defaults / sizeof *defaults)

static int default_of(const char *name)
{
    unsigned i;

    for (i = 0; i < DEFAULTS; i++)
        if (strcasecmp(defaults[i].name, name) == 0)
            return (int)i;
    return -1;
}

static struct session_setting *setting_find(const struct session *s, const char *name)
{
    unsigned i;

    for (i = 0; i < s->settings_n; i++)
        if (strcasecmp(s->setting[i].name, name) == 0)
            return (struct session_setting *)(uintptr_t)&s->setting[i];
    return NULL;
}

const char *session_get(const struct session *s, const char *name)
{
    const struct session_setting *x = setting_find(s, name);
    int d = default_of(name);

    if (strcasecmp(name, "session_authorization") == 0)
        return s->user;
    return x ? x->value : d >= 0 ? defaults[d].value : NULL;
}

void session_each(const struct session *s,
                  void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    unsigned i;

    for (i = 0; i < DEFAULTS; i++)
        fn(arg, defaults[i].name, session_get(s, defaults[i].name));
    for (i = 0; i < s->settings_n; i++)
        if (default_of(s->setting[i].name) < 0)
            fn(arg, s->setting[i].name, s->setting[i].value);
}

const char *session_reported(unsigned i)
{
    static const char last[] = "session_authorization";
    unsigned k, n = 0;

    for (k = 0; k < DEFAULTS; k++)
        if (defaults[k].reported && n++ == i)
            return defaults[k].name;
    return n == i ? last : NULL;
}

/* "5000", "5s", "1min": milliseconds; -1: no such time. */
static int64_t duration(const char *text)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    long long n = strtoll(text, &end, 10);
    unsigned i;

    while (*end == ' ')
        end++;
    for (i = 0; i < sizeof units / sizeof *units; i++)
        if (end != text && n >= 0 && n <= 1000000000 && strcmp(end, units[i].unit) == 0)
            return n * units[i].ms;
    return -1;
}

static bool encoding_ok(const char *v)
{
    return strcasecmp(v, "UTF8") == 0 || strcasecmp(v, "UTF-8") == 0 ||
           strcasecmp(v, "UNICODE") == 0 || strcasecmp(v, "SQL_ASCII") == 0 ||
           strcasecmp(v, "DEFAULT") == 0 || strcasecmp(v, "auto") == 0;
}

static void fail(struct session_answer *a, const char *code, const char *message)
{
    a->what = SESSION_FAILED;
    a->code = code;
    a->message = message;
}

/* value NULL: back to the default. */
static void setting_set(struct session *s, const char *name, const char *value,
                        struct session_answer *a)
{
    struct session_setting *x = setting_find(s, name);
    int d = default_of(name);

    if (d >= 0 && defaults[d].fixed && value) {
        fail(a, "55P02", "this parameter cannot be changed");
        return;
    }
    if (value && strcasecmp(name, "client_encoding") == 0 && !encoding_ok(value)) {
        fail(a, "22023", "the only client_encoding is UTF8");
        return;
    }
    if (value && strcasecmp(name, "DateStyle") == 0 && strncasecmp(value, "ISO", 3) != 0 &&
        strcasecmp(value, "default") != 0) {
        fail(a, "22023", "the only DateStyle is ISO");
        return;
    }
    if (strcasecmp(name, "statement_timeout") == 0 &&
        (s->timeout_ms = value ? duration(value) : 0) < 0) {
        s->timeout_ms = 0;
        fail(a, "22023", "statement_timeout is a time such as 5s or 5000");
        return;
    }
    if (value && strcasecmp(value, "default") == 0)
        value = NULL;
    if (d >= 0 && defaults[d].reported)
        a->report = defaults[d].name;
    if (!value) {
        if (x)
            *x = s->setting[--s->settings_n];
        return;
    }
    if (strcasecmp(name, "client_encoding") == 0)
        value = "UTF8";
    if (!x && s->settings_n == SESSION_SETTINGS_MAX)
        return;
    x = x ? x : &s->setting[s->settings_n++];
    snprintf(x->name, sizeof x->name, "%s", d >= 0 ? defaults[d].name : name);
    snprintf(x->value, sizeof x->value, "%s", value);
}

static void copy(char *out, size_t n, struct slice s)
{
    snprintf(out, n, "%.*s", (int)(s.len < n ? s.len : n), s.ptr ? (const char *)s.ptr : "");
}

void session_init(struct session *s, struct slice user, struct slice database)
{
    memset(s, 0, sizeof *s);
    s->txn = 'I';
    copy(s->user, sizeof s->user, user);
    copy(s->database, sizeof s->database, database.len ? database : SLICE_LIT("weir"));
}

void session_startup(struct session *s, struct slice name, struct slice value)
{
    char n[SESSION_NAME_MAX], v[SESSION_VALUE_MAX];
    struct session_answer a = {0};

    if (slice_eq_str(name, "user") || slice_eq_str(name, "database") ||
        slice_eq_str(name, "options") || slice_eq_str(name, "replication") ||
        slice_has_prefix(name, SLICE_LIT("_pq_.")) || name.len >= sizeof n || name.len == 0)
        return;
    copy(n, sizeof n, name);
    copy(v, sizeof v, value);
    setting_set(s, n, v, &a);
}

/* ---- statements ---- */

/* The rest of a SET as one value: words and literals, with commas. */
static void value_read(struct slice in, char *out, size_t n)
{
    struct lex_token t;
    size_t k = 0;

    *out = 0;
    for (t = lex_next(&in); t.kind != LEX_END && k + 1 < n; t = lex_next(&in)) {
        char part[SESSION_VALUE_MAX];

        if (lex_op(&t, ',')) {
            snprintf(part, sizeof part, ", ");
        } else if (!lex_string(&t, part, sizeof part) && t.kind == LEX_QUOTED) {
            lex_name(&t, part, sizeof part);
        } else if (t.kind != LEX_STRING) {
            copy(part, sizeof part, t.text);
        }
        snprintf(out + k, n - k, "%s", part);
        k = strlen(out);
    }
}

/* name, possibly of two parts. Leaves the token behind it in *t. */
static bool name_read(struct slice *in, struct lex_token *t, char *out, size_t n)
{
    size_t k;

    if (!lex_name(t, out, n))
        return false;
    *t = lex_next(in);
    while (lex_op(t, '.') && (k = strlen(out)) + 2 < n) {
        *t = lex_next(in);
        out[k++] = '.';
        if (!lex_name(t, out + k, n - k))
            return false;
        *t = lex_next(in);
    }
    return true;
}

static void do_set(struct session *s, struct slice in, struct session_answer *a)
{
    char name[SESSION_NAME_MAX] = "", value[SESSION_VALUE_MAX];
    struct lex_token t = lex_next(&in);

    a->tag = "SET";
    if (lex_is(&t, "session") || lex_is(&t, "local")) {
        struct slice rest = in;
        struct lex_token then = lex_next(&rest);

        if (lex_is(&then, "characteristics") || lex_is(&then, "authorization"))
            return;
        t = then;
        in = rest;
    }
    if (lex_is(&t, "transaction") || lex_is(&t, "role") || lex_is(&t, "constraints"))
        return;
    if (lex_is(&t, "names")) {
        snprintf(name, sizeof name, "client_encoding");
    } else if (lex_is(&t, "time")) {
        lex_next(&in);
        snprintf(name, sizeof name, "TimeZone");
    } else if (!name_read(&in, &t, name, sizeof name) || (!lex_is(&t, "to") && !lex_op(&t, '='))) {
        fail(a, "42601", "SET is followed by NAME = VALUE");
        return;
    }
    value_read(in, value, sizeof value);
    setting_set(s, name, value, a);
}

static void do_show(const struct session *s, struct slice in, struct session_answer *a)
{
    struct lex_token t = lex_next(&in);
    const char *v;

    a->what = SESSION_QUERY;
    a->tag = "SHOW";
    if (lex_is(&t, "transaction") || lex_is(&t, "time")) {
        bool zone = lex_is(&t, "time");
        struct lex_token second = lex_next(&in);

        if (zone && lex_is(&second, "zone"))
            snprintf(a->column, sizeof a->column, "TimeZone");
        else if (!zone && lex_is(&second, "isolation"))
            snprintf(a->column, sizeof a->column, "transaction_isolation");
        else
            return;
    } else if (!name_read(&in, &t, a->column, sizeof a->column) || t.kind != LEX_END) {
        return;
    }
    if (!(v = session_get(s, a->column)))
        return;
    a->what = SESSION_ROW;
    snprintf(a->value, sizeof a->value, "%s", v);
}

static void do_reset(struct session *s, struct slice in, struct session_answer *a)
{
    char name[SESSION_NAME_MAX];
    struct lex_token t = lex_next(&in);

    a->tag = "RESET";
    if (lex_is(&t, "all")) {
        s->settings_n = 0;
        s->timeout_ms = 0;
    } else if (lex_is(&t, "time")) {
        setting_set(s, "TimeZone", NULL, a);
    } else if (name_read(&in, &t, name, sizeof name)) {
        setting_set(s, name, NULL, a);
    }
}

static void do_begin(struct session *s, struct slice in, struct session_answer *a)
{
    s->txn = s->txn == 'I' ? 'T' : s->txn;
}

static void do_commit(struct session *s, struct slice in, struct session_answer *a)
{
    if (s->txn == 'E')
        a->tag = "ROLLBACK";
    s->txn = 'I';
}

static void do_rollback(struct session *s, struct slice in, struct session_answer *a)
{
    struct lex_token t = lex_next(&in);

    if (lex_is(&t, "work") || lex_is(&t, "transaction"))
        t = lex_next(&in);
    if (lex_is(&t, "to"))
        s->txn = s->txn == 'I' ? 'I' : 'T';
    else
        s->txn = 'I';
}

static void do_close(struct session *s, struct slice in, struct session_answer *a)
{
    struct lex_token t = lex_next(&in);

    if (lex_is(&t, "prepare"))
        t = lex_next(&in);
    if (lex_is(&t, "all"))
        a->tag = a->what == SESSION_CLOSE ? "CLOSE CURSOR ALL" : "DEALLOCATE ALL";
    else
        lex_name(&t, a->value, sizeof a->value);
}

static void do_discard(struct session *s, struct slice in, struct session_answer *a)
{
    struct lex_token t = lex_next(&in);

    if (!lex_is(&t, "all")) {
        a->what = SESSION_DONE; /* PLANS, SEQUENCES, TEMP: there are none */
        return;
    }
    a->tag = "DISCARD ALL";
    s->settings_n = 0;
    s->timeout_ms = 0;
}

static void do_nothing(struct session *s, struct slice in, struct session_answer *a)
{
}

static const struct {
    const char *word, *tag;
    enum session_what what;
    void (*fn)(struct session *s, struct slice in, struct session_answer *a);
} words[] = {
    {"begin", "BEGIN", SESSION_DONE, do_begin},
    {"start", "START TRANSACTION", SESSION_DONE, do_begin},
    {"commit", "COMMIT", SESSION_DONE, do_commit},
    {"end", "COMMIT", SESSION_DONE, do_commit},
    {"rollback", "ROLLBACK", SESSION_DONE, do_rollback},
    {"abort", "ROLLBACK", SESSION_DONE, do_rollback},
    {"set", "SET", SESSION_DONE, do_set},
    {"reset", "RESET", SESSION_DONE, do_reset},
    {"savepoint", "SAVEPOINT", SESSION_DONE, do_nothing},
    {"release", "RELEASE", SESSION_DONE, do_nothing},
    {"discard", "DISCARD", SESSION_DISCARD, do_discard},
    {"deallocate", "DEALLOCATE", SESSION_DEALLOCATE, do_close},
    {"close", "CLOSE CURSOR", SESSION_CLOSE, do_close},
    {"listen", "LISTEN", SESSION_DONE, do_nothing},
    {"unlisten", "UNLISTEN", SESSION_DONE, do_nothing},
};

void session_take(struct session *s, struct slice sql, bool what_only, struct session_answer *a)
{
    struct lex_token t = lex_next(&sql);
    unsigned i;

    memset(a, 0, sizeof *a);
    if (lex_is(&t, "show")) {
        do_show(s, sql, a);
        return;
    }
    for (i = 0; i < sizeof words / sizeof *words; i++)
        if (lex_is(&t, words[i].word)) {
            a->what = words[i].what;
            a->tag = words[i].tag;
            if (what_only)
                return;
            if (s->txn == 'E' && words[i].fn != do_commit && words[i].fn != do_rollback)
                fail(a, "25P02",
                     "the transaction has failed: what follows is ignored until it "
                     "ends");
            else
                words[i].fn(s, sql, a);
            return;
        }
}

const char *session_tag(struct slice sql)
{
    struct lex_token t = lex_next(&sql);

    return lex_is(&t, "explain") ? "EXPLAIN"
           : lex_is(&t, "show")  ? "SHOW"
           : lex_is(&t, "copy")  ? "COPY"
                                 : "SELECT";
}
