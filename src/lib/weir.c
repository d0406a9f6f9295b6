/* The C library: opening, topics, simple writing, checking. See include/weir.h for the contract. A
 * thin layer: it turns the public types into the broker's and waits where the public function
 * waits. */
#include "weir.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "lib/lib_int.h"
#include "sql/sql.h"

#define CREATE_POLL_NS 500000u

const char *weir_version(void)
{
    return WEIR_VERSION;
}

/* ---- errors ---- */

static const struct {
    enum err e;
    weir_err code;
} codes[] = {
    {ERR_INVALID, WEIR_ERR_INVALID},
    {ERR_TOPIC_NAME, WEIR_ERR_INVALID},
    {ERR_CORRUPT_INPUT, WEIR_ERR_INVALID},
    {ERR_TOO_LARGE, WEIR_ERR_TOO_LARGE},
    {ERR_LIMIT, WEIR_ERR_TOO_LARGE},
    {ERR_TOPIC_NOT_FOUND, WEIR_ERR_TOPIC_NOT_FOUND},
    {ERR_PARTITION_NOT_FOUND, WEIR_ERR_TOPIC_NOT_FOUND},
    {ERR_TOPIC_EXISTS, WEIR_ERR_TOPIC_EXISTS},
    {ERR_CONFIG, WEIR_ERR_CONFIG},
    {ERR_OFFSET_RANGE, WEIR_ERR_OFFSET_RANGE},
    {ERR_NOT_FOUND, WEIR_ERR_NOT_FOUND},
    {ERR_OVERLOADED, WEIR_ERR_OVERLOADED},
    {ERR_TIMEOUT, WEIR_ERR_TIMEOUT},
    {ERR_AGAIN, WEIR_ERR_AGAIN},
    {ERR_CLOSED, WEIR_ERR_CLOSED},
    {ERR_IO, WEIR_ERR_IO},
    {ERR_TIER, WEIR_ERR_IO},
    {ERR_NO_SPACE, WEIR_ERR_NO_SPACE},
    {ERR_READ_ONLY, WEIR_ERR_READ_ONLY},
    {ERR_CORRUPT, WEIR_ERR_CORRUPT},
    {ERR_FORMAT, WEIR_ERR_CORRUPT},
    {ERR_LOCKED, WEIR_ERR_LOCKED},
    {ERR_RECORD, WEIR_ERR_INVALID},
    {ERR_GROUP_ID, WEIR_ERR_INVALID},
    {ERR_REGEX, WEIR_ERR_INVALID},
    {ERR_UNSUPPORTED_ASSIGNOR, WEIR_ERR_INVALID},
    {ERR_CONFLICT, WEIR_ERR_CONFLICT},
    {ERR_UNKNOWN_MEMBER, WEIR_ERR_CONFLICT},
    {ERR_FENCED_INSTANCE, WEIR_ERR_CONFLICT},
    {ERR_UNRELEASED_INSTANCE, WEIR_ERR_CONFLICT},
    {ERR_FENCED_MEMBER_EPOCH, WEIR_ERR_CONFLICT},
    {ERR_STALE_MEMBER_EPOCH, WEIR_ERR_CONFLICT},
    {ERR_GROUP_NOT_FOUND, WEIR_ERR_CONFLICT},
    {ERR_GROUP_MAX_SIZE, WEIR_ERR_TOO_LARGE},
    {ERR_SQL, WEIR_ERR_INVALID},
};

weir_err lib_code(enum err e)
{
    size_t i;

    if (e == ERR_OK)
        return WEIR_OK;
    for (i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].e == e)
            return codes[i].code;
    return WEIR_ERR_OTHER;
}

static enum err inner(weir_err c)
{
    size_t i;

    for (i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == c)
            return codes[i].e;
    return c == WEIR_OK ? ERR_OK : ERR_INTERNAL;
}

const char *weir_err_name(weir_err c)
{
    return err_code(inner(c));
}

const char *weir_strerror(weir_err c)
{
    return err_text(inner(c));
}

weir_err lib_fail(enum err e, const struct errinfo *info, struct weir_error *out)
{
    if (out) {
        out->code = lib_code(e);
        out->text[0] = 0;
    }
    if (e && out)
        snprintf(out->text, sizeof out->text, "%s",
                 info && info->text[0] ? info->text : err_text(e));
    return e ? lib_code(e) : WEIR_OK;
}

enum err lib_options(void *to, size_t to_size, const void *from, struct errinfo *info)
{
    size_t size;

    if (!from)
        return ERR_OK;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return errinfo_set(info, ERR_INVALID, "the size of the options is not set");
    memcpy(to, from, size < to_size ? size : to_size);
    return ERR_OK;
}

int64_t lib_now_ms(void)
{
    return (int64_t)(io_mono_ns(io_real()) / 1000000u);
}

bool lib_name_valid(const char *s, size_t max)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

    return s && *s && strlen(s) <= max && strspn(s, allowed) == strlen(s);
}

size_t lib_stream_key(const char *stream, char *out)
{
    size_t n = sizeof LIB_ACCOUNT; /* with the NUL */

    memcpy(out, LIB_ACCOUNT, n);
    memcpy(out + n, stream, strlen(stream));
    return n + strlen(stream);
}

/* ---- opening ---- */

static enum err dir_given(const char *dir, struct errinfo *info)
{
    return dir && dir[0] ? ERR_OK : errinfo_set(info, ERR_INVALID, "a directory is needed");
}

weir_err weir_open(const char *dir, const struct weir_options *options, struct weir **out,
                   struct weir_error *error)
{
    struct weir_options o = {0};
    struct errinfo info = {0};
    struct broker_conf conf;
    struct weir *w;
    enum err e;

    *out = NULL;
    if ((e = dir_given(dir, &info)) || (e = lib_options(&o, sizeof o, options, &info)))
        return lib_fail(e, &info, error);
    w = xcalloc(1, sizeof *w);
    io_mutex_init(&w->tick_lock);
    io_mutex_init(&w->sql_lock);
    io_mutex_init(&w->buckets_lock);
    list_init(&w->buckets);
    conf = (struct broker_conf){.dir = dir,
                                .io = io_real(),
                                .threads = true,
                                .read_only = o.read_only,
                                .journal_file_bytes = o.journal_file_bytes,
                                .tail_bytes = o.tail_bytes,
                                .inflight_bytes = o.inflight_bytes,
                                .topics_auto_create = !o.no_auto_create,
                                .retention_ms_default = o.retention_ms,
                                .dedup_window_ms = o.dedup_window_ms};
    e = broker_open(&conf, &w->b, &info);
    if (!e)
        e = lib_lake_open(w, &o, &info);
    if (e) {
        weir_close(&w);
        return lib_fail(e, &info, error);
    }
    w->gather_bytes_max = LIMIT_APPEND_BYTES;
    if (o.journal_file_bytes && o.journal_file_bytes / 2 < LIMIT_APPEND_BYTES)
        w->gather_bytes_max = (size_t)o.journal_file_bytes / 2;
    *out = w;
    return lib_fail(ERR_OK, NULL, error);
}

void weir_close(struct weir **wp)
{
    struct weir *w = *wp;

    if (!w)
        return;
    lib_lake_close(w);
    sql_close(&w->sql);
    if (w->b)
        groups_drain(w->b);
    broker_close(&w->b);
    io_mutex_fini(&w->tick_lock);
    io_mutex_fini(&w->sql_lock);
    io_mutex_fini(&w->buckets_lock);
    free(w);
    *wp = NULL;
}

void weir_stats_get(struct weir *w, struct weir_stats *out)
{
    struct journal_stats s;

    journal_stats_get(broker_journal(w->b), &s);
    *out = (struct weir_stats){.position_end = s.position_end,
                               .topics = topic_count(w->b),
                               .records_written = s.records,
                               .bytes_written = s.bytes_written,
                               .frames_written = s.frames,
                               .disk_bytes = s.disk_bytes,
                               .last_sync_ns = s.sync_ns_last,
                               .longest_sync_ns = s.sync_ns_max};
}

weir_err weir_writable(struct weir *w, struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_fail(broker_writable(w->b, &info), &info, error);
}

weir_err weir_checkpoint(struct weir *w, struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_fail(journal_checkpoint(broker_journal(w->b), &info), &info, error);
}

/* ---- topics ---- */

static enum err settings(struct topic_conf *c, const struct weir_setting *s, size_t n,
                         struct errinfo *info)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && i < n; i++)
        e = s[i].name && s[i].value
                ? topic_conf_set(c, slice_str(s[i].name), slice_str(s[i].value), info)
                : errinfo_set(info, ERR_INVALID, "a setting needs a name and a value");
    return e;
}

/* A topic that another thread is making exists in the sense that it cannot be made, but it cannot be
 * used yet: what comes of it is waited for. */
enum err lib_topic_create(struct weir *w, struct slice name, int32_t partitions,
                          const struct topic_conf *conf, struct errinfo *info)
{
    struct io_event never;
    struct topic *t;
    enum err e;

    io_event_init(&never);
    while ((e = topic_create_wait(w->b, name, partitions, conf, info)) == ERR_TOPIC_EXISTS) {
        if ((t = topic_find(w->b, name))) {
            topic_unref(&t);
            break;
        }
        io_event_wait(&never, CREATE_POLL_NS);
    }
    io_event_fini(&never);
    return e;
}

weir_err weir_topic_create(struct weir *w, const char *topic, int32_t partitions,
                           const struct weir_setting *s, size_t n, struct weir_error *error)
{
    struct errinfo info = {0};
    struct topic_conf c;
    enum err e;

    topic_conf_default(w->b, &c);
    e = settings(&c, s, n, &info);
    if (!e)
        e = lib_topic_create(w, slice_str(topic), partitions, n ? &c : NULL, &info);
    return lib_fail(e, &info, error);
}

static enum err find(struct weir *w, const char *topic, struct topic **out, struct errinfo *info)
{
    *out = topic_find(w->b, slice_str(topic));
    return *out ? ERR_OK
                : errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic '%.100s'",
                              topic ? topic : "");
}

static enum err conf_of(struct weir *w, const char *topic, struct topic_conf *out,
                        struct errinfo *info)
{
    struct topic *t;
    enum err e = find(w, topic, &t, info);

    if (e)
        return e;
    topic_conf_get(t, out);
    topic_unref(&t);
    return ERR_OK;
}

weir_err weir_topic_alter(struct weir *w, const char *topic, int32_t partitions,
                          const struct weir_setting *s, size_t n, struct weir_error *error)
{
    struct errinfo info = {0};
    struct topic_conf c;
    enum err e = conf_of(w, topic, &c, &info);

    if (e)
        return lib_fail(e, &info, error);
    e = settings(&c, s, n, &info);
    if (!e)
        e = topic_alter_wait(w->b, slice_str(topic), partitions, n ? &c : NULL, &info);
    return lib_fail(e, &info, error);
}

weir_err weir_topic_delete(struct weir *w, const char *topic, struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_fail(topic_delete_wait(w->b, slice_str(topic), &info), &info, error);
}

weir_err weir_topic_describe(struct weir *w, const char *topic, struct weir_topic_info *out,
                             struct weir_error *error)
{
    struct errinfo info = {0};
    struct plog_info pi;
    struct topic *t;
    int32_t i;
    enum err e = find(w, topic, &t, &info);

    if (e)
        return lib_fail(e, &info, error);
    *out = (struct weir_topic_info){.partitions = topic_partitions(t),
                                    .created_ms = topic_created_ms(t)};
    for (i = 0; i < out->partitions; i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &pi);
        out->records += (uint64_t)(pi.end_offset - partition_start(topic_partition(t, i)));
        out->bytes += pi.bytes;
    }
    topic_unref(&t);
    return lib_fail(ERR_OK, NULL, error);
}

static enum err partition_of(struct weir *w, const char *topic, int32_t n, struct topic **t,
                             struct partition **p, struct errinfo *info)
{
    enum err e = find(w, topic, t, info);

    if (e)
        return e;
    *p = topic_partition(*t, n);
    if (*p)
        return ERR_OK;
    topic_unref(t);
    return errinfo_set(info, ERR_PARTITION_NOT_FOUND, "'%.100s' has no partition %d", topic, n);
}

weir_err weir_partition_describe(struct weir *w, const char *topic, int32_t partition,
                                 struct weir_partition_info *out, struct weir_error *error)
{
    struct errinfo info = {0};
    struct partition *p;
    struct plog_info pi;
    struct topic *t;
    enum err e = partition_of(w, topic, partition, &t, &p, &info);

    if (e)
        return lib_fail(e, &info, error);
    plog_info_get(partition_log(p), &pi);
    *out = (struct weir_partition_info){partition_start(p), pi.end_offset, pi.bytes};
    topic_unref(&t);
    return lib_fail(ERR_OK, NULL, error);
}

weir_err weir_topic_list(struct weir *w, const char *pattern,
                         bool (*fn)(void *arg, const char *topic), void *arg,
                         struct weir_error *error)
{
    struct topic *page[64];
    char after[256] = "";
    bool more = true;
    size_t n, i;

    do {
        n = topic_list(w->b, slice_str(after), pattern, page, 64);
        for (i = 0; i < n; i++) {
            snprintf(after, sizeof after, "%s", topic_name(page[i]));
            more = more && fn(arg, after);
            topic_unref(&page[i]);
        }
    } while (n && more);
    return lib_fail(ERR_OK, NULL, error);
}

struct setting_call {
    void (*fn)(void *arg, const char *name, const char *value, bool is_default);
    void *arg;
};

static void one_setting(void *arg, const char *name, const char *value, bool is_default,
                        const char *prose)
{
    struct setting_call *c = arg;

    c->fn(c->arg, name, value, is_default);
}

weir_err weir_topic_settings(struct weir *w, const char *topic,
                             void (*fn)(void *arg, const char *name, const char *value,
                                        bool is_default),
                             void *arg, struct weir_error *error)
{
    struct setting_call call = {fn, arg};
    struct errinfo info = {0};
    struct topic_conf c;
    enum err e = conf_of(w, topic, &c, &info);

    if (e)
        return lib_fail(e, &info, error);
    topic_conf_each(w->b, &c, one_setting, &call);
    return lib_fail(ERR_OK, NULL, error);
}

weir_err weir_trim(struct weir *w, const char *topic, int32_t partition, int64_t offset,
                   struct weir_error *error)
{
    struct errinfo info = {0};
    struct partition *p;
    struct topic *t;
    enum err e = partition_of(w, topic, partition, &t, &p, &info);

    if (e)
        return lib_fail(e, &info, error);
    e = partition_trim_wait(p, offset, &info);
    topic_unref(&t);
    return lib_fail(e, &info, error);
}

/* ---- writing ---- */

enum err lib_topic(struct weir *w, struct slice name, struct topic **out, struct errinfo *info)
{
    *out = topic_find(w->b, name);
    return *out ? ERR_OK : topic_find_or_create_wait(w->b, name, out, info);
}

enum err lib_record(const struct weir_record *r, struct record_header *h, struct append_record *out,
                    struct errinfo *info)
{
    size_t i;

    if ((!r->key && r->key_len) || (!r->value && r->value_len) || (!r->headers && r->headers_n))
        return errinfo_set(info, ERR_INVALID, "a pointer is NULL but its length is not 0");
    if (r->headers_n > LIB_HEADERS_MAX)
        return errinfo_set(info, ERR_TOO_LARGE, "a record has at most %u headers", LIB_HEADERS_MAX);
    if (r->partition_1 < 0)
        return errinfo_set(info, ERR_PARTITION_NOT_FOUND, "partition_1 is negative");
    for (i = 0; i < r->headers_n; i++) {
        if (!r->headers[i].name)
            return errinfo_set(info, ERR_INVALID, "a header needs a name");
        if (!r->headers[i].value && r->headers[i].value_len)
            return errinfo_set(info, ERR_INVALID, "the value of header '%.100s' is NULL",
                               r->headers[i].name);
        h[i].key = slice_str(r->headers[i].name);
        h[i].value = slice_of(r->headers[i].value, r->headers[i].value_len);
    }
    *out = (struct append_record){.timestamp_ms = r->timestamp_ms ? r->timestamp_ms : -1,
                                  .key = slice_of(r->key, r->key_len),
                                  .value = slice_of(r->value, r->value_len),
                                  .headers = h,
                                  .headers_n = (unsigned)r->headers_n,
                                  .dedup_id = slice_str(r->dedup_id)};
    return ERR_OK;
}

void lib_place_out(struct weir_place *out, const struct append_place *p)
{
    *out = (struct weir_place){p->partition, p->offset, p->position, p->timestamp_ms, p->duplicate};
}

enum err lib_encode_all(struct append *a, struct topic *t, const struct weir_record *records,
                        size_t n, struct append_slot *slots, struct errinfo *info)
{
    struct record_header h[LIB_HEADERS_MAX];
    struct append_record r;
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && i < n; i++) {
        e = lib_record(&records[i], h, &r, info);
        if (!e)
            e = append_record(a, t, records[i].partition_1 - 1, &r, &slots[i], info);
    }
    return e;
}

weir_err weir_produce_batch(struct weir *w, const char *topic, const struct weir_record *records,
                            size_t n, struct weir_place *places, struct weir_error *error)
{
    struct append_slot one, *slots = &one;
    struct errinfo info = {0};
    struct append_place place;
    struct append *a = NULL;
    struct topic *t = NULL;
    size_t i;
    enum err e = ERR_OK;

    if (!records && n)
        e = errinfo_set(&info, ERR_INVALID, "there is no record");
    else if (n > LIMIT_APPEND_BYTES) /* each takes a byte at least */
        e = errinfo_set(&info, ERR_TOO_LARGE, "these are too many records for one unit");
    if (!e)
        e = lib_topic(w, slice_str(topic), &t, &info);
    if (!e) {
        if (n > 1)
            slots = xmalloc(n * sizeof *slots);
        a = append_new(w->b, NULL, NULL);
        e = lib_encode_all(a, t, records, n, slots, &info);
    }
    if (!e && n)
        e = append_submit_wait(a, &info);
    for (i = 0; !e && places && i < n; i++) {
        e = append_place(a, slots[i], &place);
        if (!e)
            lib_place_out(&places[i], &place);
    }
    append_free(&a);
    topic_unref(&t);
    if (slots != &one)
        free(slots);
    return lib_fail(e, &info, error);
}

weir_err weir_produce(struct weir *w, const char *topic, const struct weir_record *record,
                      struct weir_place *place, struct weir_error *error)
{
    return weir_produce_batch(w, topic, record, 1, place, error);
}

/* ---- looking after ---- */

weir_err weir_check(const char *dir, void (*fn)(void *arg, bool problem, const char *text),
                    void *arg, struct weir_check_result *out, struct weir_error *error)
{
    struct journal_check_result r = {0};
    struct errinfo info = {0};
    enum err e = dir_given(dir, &info);

    if (!e)
        e = journal_check(io_real(), dir, fn, arg, &r, &info);
    if (out)
        *out = (struct weir_check_result){r.files,   r.frames, r.batches,
                                          r.records, r.bytes,  r.problems};
    return lib_fail(e, &info, error);
}

weir_err weir_repair(const char *dir, bool dry_run,
                     void (*fn)(void *arg, bool problem, const char *text), void *arg,
                     struct weir_error *error)
{
    struct errinfo info = {0};
    enum err e = dir_given(dir, &info);

    if (!e)
        e = journal_repair(io_real(), dir, dry_run, fn, arg, &info);
    return lib_fail(e, &info, error);
}
