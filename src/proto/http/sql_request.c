/* The body of POST /sql. See sql_request.h. */
#include "proto/http/sql_request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "rows/lex.h"

#define REWRITTEN_MAX (4u * LIMIT_SQL_TEXT)

/* Lists and objects are handed over as their JSON text, which lives in the json_t beside them. */
static enum err param_of(json_t *j, json_t *keep, struct sql_param *p)
{
    *p = (struct sql_param){.type = SQL_NULL};
    if (json_is_boolean(j)) {
        p->type = SQL_BOOLEAN;
        p->i64 = json_is_true(j);
    } else if (json_is_integer(j)) {
        p->type = SQL_BIGINT;
        p->i64 = json_integer_value(j);
    } else if (json_is_real(j)) {
        p->type = SQL_DOUBLE;
        p->f64 = json_real_value(j);
    } else if (json_is_string(j)) {
        p->type = SQL_VARCHAR;
        p->bytes = slice_of(json_string_value(j), json_string_length(j));
    } else if (!json_is_null(j)) {
        char *text = json_dumps(j, JSON_COMPACT);
        json_t *s = text ? json_string(text) : NULL;

        free(text);
        if (!s || json_array_append_new(keep, s))
            return ERR_NO_MEMORY;
        p->type = SQL_VARCHAR;
        p->bytes = slice_of(json_string_value(s), json_string_length(s));
    }
    return ERR_OK;
}

static enum err list_read(struct sql_asked *a, json_t *list, json_t *keep, struct errinfo *info)
{
    size_t i, n = json_array_size(list);
    enum err e = ERR_OK;

    if (n > LIMIT_SQL_PARAMS)
        return errinfo_set(info, ERR_TOO_LARGE, "there are more than %u parameters",
                           LIMIT_SQL_PARAMS);
    a->params = xcalloc(n ? n : 1, sizeof *a->params);
    a->params_n = (unsigned)n;
    for (i = 0; i < n && !e; i++)
        e = param_of(json_array_get(list, i), keep, &a->params[i]);
    return e;
}

/* $name becomes $n, where n counts the names as they first appear. */
static enum err names_replace(struct sql_asked *a, json_t *object, json_t *keep,
                              struct errinfo *info)
{
    struct slice in = a->text, before = in;
    json_t *used = json_array(), *numbers = json_object();
    struct lex_token t, name;
    enum err e = ERR_OK;
    char word[128];

    buf_init(&a->rewritten, REWRITTEN_MAX);
    for (t = lex_next(&in); t.kind != LEX_END && !e; t = lex_next(&in)) {
        json_t *value, *number;

        if (!lex_op(&t, '$'))
            continue;
        name = lex_next(&in);
        if (name.kind != LEX_WORD || name.text.ptr != t.text.ptr + 1 ||
            name.text.len >= sizeof word)
            continue;
        memcpy(word, name.text.ptr, name.text.len);
        word[name.text.len] = 0;
        if (!(value = json_object_get(object, word))) {
            e = errinfo_set(info, ERR_INVALID, "\"params\" has no \"%s\"", word);
            break;
        }
        if (!(number = json_object_get(numbers, word))) {
            json_array_append(used, value);
            number = json_integer((json_int_t)json_array_size(used));
            json_object_set_new(numbers, word, number);
        }
        e = buf_append(&a->rewritten, before.ptr, (size_t)(t.text.ptr - before.ptr));
        e = e ? e : buf_printf(&a->rewritten, "$%d", (int)json_integer_value(number));
        before = in;
    }
    e = e ? e : buf_append_slice(&a->rewritten, before);
    if (!e) {
        a->text = buf_slice(&a->rewritten);
        e = list_read(a, used, keep, info);
    }
    json_array_append_new(keep, used); /* values live as long as the request */
    json_decref(numbers);
    return e;
}

static enum err number(json_t *j, const char *name, int64_t most, int64_t *out,
                       struct errinfo *info)
{
    json_t *v = json_object_get(j, name);

    *out = 0;
    if (!v || json_is_null(v))
        return ERR_OK;
    *out = json_integer_value(v);
    if (!json_is_integer(v) || *out < 1 || *out > most)
        return errinfo_set(info, ERR_INVALID, "\"%s\" must be a whole number from 1 to %lld", name,
                           (long long)most);
    return ERR_OK;
}

/* Exactly one statement. */
static enum err statement_cut(struct sql_asked *a, struct errinfo *info)
{
    struct slice rest = a->text, more;

    if (!lex_statement(&rest, &a->text) || a->text.len == 0)
        return errinfo_set(info, ERR_INVALID, "there is no statement");
    while (lex_statement(&rest, &more))
        if (more.len)
            return errinfo_set(info, ERR_INVALID, "one statement at a time");
    return ERR_OK;
}

/* "shards": a list of names. */
static enum err shards_read(struct sql_asked *a, json_t *list, struct errinfo *info)
{
    size_t i;
    json_t *v;

    if (!list || json_is_null(list))
        return ERR_OK;
    if (!json_is_array(list) || json_array_size(list) == 0 ||
        json_array_size(list) > LIMIT_SQL_SHARDS)
        return errinfo_set(info, ERR_INVALID, "\"shards\" must be a list of 1 to %u names",
                           LIMIT_SQL_SHARDS);
    json_array_foreach(list, i, v)
    {
        if (!json_is_string(v))
            return errinfo_set(info, ERR_INVALID, "\"shards\" must be a list of names");
        a->shard[a->shards_n++] = json_string_value(v);
    }
    return ERR_OK;
}

static enum err json_read(struct sql_asked *a, struct slice body, struct errinfo *info)
{
    json_error_t why;
    json_t *j = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, &why);
    json_t *query = json_object_get(j, "query"), *params = json_object_get(j, "params");
    json_t *keep = json_array();
    int64_t rows = 0;
    enum err e;

    a->json = json_pack("[o?, o]", j, keep);
    if (!j)
        return errinfo_set(info, ERR_CORRUPT_INPUT, "not JSON: %s (line %d)", why.text, why.line);
    if (!json_is_string(query))
        return errinfo_set(info, ERR_INVALID, "\"query\" must be the statement's text");
    a->text = slice_of(json_string_value(query), json_string_length(query));
    if ((e = statement_cut(a, info)) ||
        (e = number(j, "timeout_ms", 86400000, &a->timeout_ms, info)) ||
        (e = number(j, "max_rows", INT64_MAX, &rows, info)) ||
        (e = shards_read(a, json_object_get(j, "shards"), info)))
        return e;
    a->rows_max = (uint64_t)rows;
    if (!params || json_is_null(params))
        return ERR_OK;
    if (json_is_array(params))
        return list_read(a, params, keep, info);
    if (json_is_object(params))
        return names_replace(a, params, keep, info);
    return errinfo_set(info, ERR_INVALID, "\"params\" must be a list or an object");
}

static bool is_json(struct slice type)
{
    static const char json[] = "application/json";

    return type.len >= sizeof json - 1 &&
           strncasecmp((const char *)type.ptr, json, sizeof json - 1) == 0;
}

enum err sql_asked_parse(struct sql_asked *out, struct slice content_type, struct slice body,
                         struct errinfo *info)
{
    memset(out, 0, sizeof *out);
    buf_init(&out->rewritten, REWRITTEN_MAX);
    if (body.len > LIMIT_SQL_TEXT + LIMIT_SQL_PARAM_BYTES)
        return errinfo_set(info, ERR_TOO_LARGE, "the request is too long");
    if (is_json(content_type))
        return json_read(out, body, info);
    out->text = body;
    return statement_cut(out, info);
}

void sql_asked_fini(struct sql_asked *a)
{
    json_decref(a->json);
    free(a->params);
    buf_fini(&a->rewritten);
}
