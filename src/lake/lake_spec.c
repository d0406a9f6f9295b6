/* How a topic's table is divided: lake.partition as a spec, and the table that follows it.
 *
 * The setting is a list of terms (transform.h). A term whose column the table does not have yet, a
 * field of JSON values mostly, waits until it has. Which terms a spec was made of is in the table's
 * property weir.partition: only when they are others than that the table gets another spec, so what
 * somebody else decides for the table stays until the setting changes. Files keep the spec they were
 * written with; fields of the same column and transform keep their ids. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/catalog.h"
#include "lake/json.h"
#include "lake/lake_int.h"

static enum err term_add(const char *setting, struct terms *t, struct slice s, struct errinfo *info)
{
    while (s.len && s.ptr[0] == ' ')
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len && s.ptr[s.len - 1] == ' ')
        s.len--;
    if (!s.len || s.len > TOPIC_CONF_WORD_MAX)
        return errinfo_set(info, ERR_CONFIG, "%s has an empty term, or one too long", setting);
    if (t->n == LIMIT_LAKE_SPEC_FIELDS)
        return errinfo_set(info, ERR_CONFIG, "%s has more than %u terms", setting,
                           LIMIT_LAKE_SPEC_FIELDS);
    memcpy(t->at[t->n], s.ptr, s.len);
    t->at[t->n++][s.len] = 0;
    return ERR_OK;
}

enum err terms_parse(const char *setting, const char *text, struct terms *out, struct errinfo *info)
{
    json_t *list = text[0] == '[' ? json_loads(text, 0, NULL) : NULL, *one;
    enum err e = ERR_OK;
    size_t i;

    out->n = 0;
    if (text[0] == '[' && !json_is_array(list))
        e = errinfo_set(info, ERR_CONFIG, "%s is no JSON list: %.100s", setting, text);
    json_array_foreach(list, i, one)
    {
        const char *s = json_string_value(one);

        e = e ? e : term_add(setting, out, slice_str(s ? s : ""), info);
    }
    json_decref(list);
    if (text[0] == '[' || strcmp(text, "none") == 0)
        return e;
    while (!e) {
        size_t n = strcspn(text, ",");

        e = term_add(setting, out, slice_of(text, n), info);
        if (!text[n])
            break;
        text += n + 1;
    }
    return e;
}

enum err spec_wanted(const char *text, const struct schema *s, struct spec **out,
                     char applied[TOPIC_CONF_WORD_MAX + 1], struct errinfo *info)
{
    const char *there[LIMIT_LAKE_SPEC_FIELDS];
    struct terms *t = xcalloc(1, sizeof *t);
    enum err e = terms_parse("lake.partition", text, t, info);
    size_t len = 0;
    unsigned i, n = 0;

    *out = NULL;
    applied[0] = 0;
    for (i = 0; !e && i < t->n; i++) {
        e = spec_text_check(t->at[i], s, info);
        if (e == ERR_NOT_FOUND) {
            e = ERR_OK;
            continue;
        }
        there[n++] = t->at[i];
        len += (size_t)snprintf(applied + len, TOPIC_CONF_WORD_MAX + 1 - len, "%s%s",
                                len ? "," : "", t->at[i]);
        ASSERT(len <= TOPIC_CONF_WORD_MAX); /* parts of text */
    }
    if (!e)
        e = spec_from_texts(there, n, s, 0, SPEC_FIRST_FIELD, out, info);
    free(t);
    return e;
}

/* Ids that the table has given before to the same fields; new ones behind the last. */
static void ids_reuse(const struct metadata *md, struct spec *spec)
{
    int32_t last = (int32_t)json_int_or(md->doc, "last-partition-id", SPEC_FIRST_FIELD - 1);
    const json_t *one, *f;
    size_t i, k;
    uint32_t n;

    for (n = 0; n < spec->n; n++) {
        struct spec_field *to = &spec->field[n];

        to->field_id = 0;
        json_array_foreach(json_object_get(md->doc, "partition-specs"), i, one)
        {
            json_array_foreach(json_object_get(one, "fields"), k, f)
            {
                const char *word = json_get_text(f, "transform"), *name = json_get_text(f, "name");

                if (word && name && strcmp(word, to->transform_word) == 0 &&
                    strcmp(name, to->name) == 0 && json_int_or(f, "source-id", -1) == to->source_id)
                    to->field_id = (int32_t)json_int_or(f, "field-id", 0);
            }
        }
        if (!to->field_id)
            to->field_id = ++last;
    }
}

static enum err spec_commit(struct lake *l, struct table *t, struct spec *spec, const char *applied,
                            struct errinfo *info)
{
    json_t *requirements, *updates;

    ids_reuse(t->md, spec);
    spec->id = metadata_next_id(t->md, "partition-specs", "spec-id");
    requirements = json_pack(
        "[{s:s, s:s}, {s:s, s:i}, {s:s, s:I}]", "type", "assert-table-uuid", "uuid",
        metadata_uuid(t->md), "type", "assert-default-spec-id", "default-spec-id", (int)t->spec->id,
        "type", "assert-last-assigned-partition-id", "last-assigned-partition-id",
        (json_int_t)json_int_or(t->md->doc, "last-partition-id", SPEC_FIRST_FIELD - 1));
    updates = json_pack("[{s:s, s:o}, {s:s, s:i}, {s:s, s:{s:s}}]", "action", "add-spec", "spec",
                        spec_json(spec), "action", "set-default-spec", "spec-id", -1, "action",
                        "set-properties", "updates", PROPERTY_PARTITION, applied);
    return table_update(l, t, requirements, updates, info);
}

enum err table_spec_follow(struct lake *l, struct table *t, struct topic *topic,
                           struct errinfo *info)
{
    char applied[TOPIC_CONF_WORD_MAX + 1];
    const char *was = metadata_property(t->md, PROPERTY_PARTITION);
    struct schema *s = NULL;
    struct spec *spec = NULL;
    struct topic_conf c;
    enum err e = metadata_schema(t->md, -1, &s, info);

    topic_conf_get(topic, &c);
    if (!e)
        e = spec_wanted(c.lake_partition, s, &spec, applied, info);
    if (!e && !(was && strcmp(was, applied) == 0) && !spec_same(spec, t->spec)) {
        e = spec_commit(l, t, spec, applied, info);
        if (!e)
            e = table_load(l, t, topic, info);
    }
    spec_free(&spec);
    schema_free(&s);
    return e;
}
