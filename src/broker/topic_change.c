/* Changes of the catalogue: creating, altering and deleting topics, trimming partitions. Each is
 * one change (broker_int.h): checked and reserved by the caller's thread, journalled, made visible
 * on the writer thread. See topic.c for a topic's life. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/topic_name.h"
#include "broker/topic_int.h"

/* ---- creating ---- */

/* Somebody who waits for a creation that another caller began. */
struct creation_wait {
    struct creation_wait *next;
    broker_done_fn done;
    void *arg;
};

struct creation {
    struct ordered_node node; /* in topics.creating; the key is the topic's name */
    struct creation_wait *waits;
    int32_t partitions;
};

static void creation_end(struct broker *b, struct creation *cr, enum err e)
{
    struct creation_wait *w, *next;
    struct errinfo info = {0};

    if (e)
        broker_write_error(b, e, &info);
    for (w = cr->waits; w; w = next) {
        next = w->next;
        w->done(w->arg, e, &info);
        free(w);
    }
    free(cr);
}

static void create_commit(struct change *c, enum err e)
{
    struct creation *cr = c->extra;
    struct broker *b = c->b;

    io_mutex_lock(&b->topics_lock);
    ordered_remove(&b->topics.creating, &cr->node);
    if (!e) {
        topics__publish(b, topic_ref(c->topic), cr->partitions);
        topic__dirty(c->topic);
    }
    io_mutex_unlock(&b->topics_lock);
    if (!e)
        broker_topic_changed(b, c->topic);
    creation_end(b, cr, e);
}

static enum err create_check(struct broker *b, struct slice name, int32_t partitions,
                             const struct topic_conf *conf, struct errinfo *info)
{
    if (b->conf.read_only)
        return errinfo_set(info, ERR_READ_ONLY, "the data directory was opened read-only");
    if (!topic_name_valid(name))
        return errinfo_set(info, ERR_TOPIC_NAME,
                           "\"%.*s\" is not a topic name: 1 to %d of A-Z a-z 0-9 . _ - and "
                           "neither . nor ..",
                           (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr,
                           (int)TOPIC_NAME_MAX);
    if (partitions < 0 || partitions > (int32_t)LIMIT_PARTITIONS)
        return errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions, not %d",
                           (int)LIMIT_PARTITIONS, (int)partitions);
    return topic_conf_check(conf, info);
}

/* Is there room for a topic of this name? ERR_TOPIC_EXISTS when it is there or being made; in the
 * latter case *pending is the creation. topics_lock held. */
static enum err create_room(struct broker *b, struct slice name, uint32_t partitions,
                            struct creation **pending, struct errinfo *info)
{
    struct topics *ts = &b->topics;
    struct ordered_node *n = ordered_find(&ts->creating, name);

    *pending = n ? ORDERED_ENTRY(n, struct creation, node) : NULL;
    if (n || topics__name_find(b, name))
        return errinfo_set(info, ERR_TOPIC_EXISTS, "the topic \"%.*s\" exists already",
                           (int)name.len, (const char *)name.ptr);
    if (ts->by_name.n + ts->creating.n >= b->conf.topics_max)
        return errinfo_set(info, ERR_LIMIT, "there are %u topics, the most that is allowed",
                           (unsigned)b->conf.topics_max);
    if (ts->next_id == UINT32_MAX || ts->next_uid > UINT32_MAX - partitions)
        return errinfo_set(info, ERR_LIMIT, "all topic and partition numbers are used up");
    return ERR_OK;
}

/* Reserves the name and numbers; otherwise as create_room. */
static enum err create_reserve(struct broker *b, struct slice name, uint32_t partitions,
                               uint32_t *id, uint32_t *uid, struct creation **pending,
                               struct errinfo *info)
{
    struct topics *ts = &b->topics;
    enum err e = create_room(b, name, partitions, pending, info);

    if (e)
        return e;
    *id = ts->next_id++;
    *uid = ts->next_uid;
    ts->next_uid += partitions;
    return ERR_OK;
}

enum err topic_create_check(struct broker *b, struct slice name, int32_t partitions,
                            const struct topic_conf *conf, struct errinfo *info)
{
    enum err e = create_check(b, name, partitions, conf ? conf : &b->defaults, info);
    struct creation *pending;

    if (e)
        return e;
    partitions = partitions ? partitions : b->conf.partitions_default;
    io_mutex_lock(&b->topics_lock);
    e = create_room(b, name, (uint32_t)partitions, &pending, info);
    io_mutex_unlock(&b->topics_lock);
    return e;
}

static void create_write(struct change *c, const struct topic_conf *conf, uint32_t uid,
                         uint32_t partitions)
{
    struct entry_topic_create en = {.id = c->topic->id,
                                    .first_uid = uid,
                                    .partitions = partitions,
                                    .created_ms = c->topic->created_ms,
                                    .name = c->topic->by_name.key};

    memcpy(en.uuid, c->topic->uuid, 16);
    topic_conf_diff(&c->b->defaults, conf, &en.conf);
    c->entry.data.len = entry_topic_create_write(c->data, &en);
}

/* RFC 9562 version 4. */
static void uuid_make(struct broker *b, uint8_t uuid[16])
{
    io_random(b->conf.io, uuid, 16);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

/* wait: join a creation that is on its way instead of ERR_TOPIC_EXISTS. */
static enum err create(struct broker *b, struct slice name, int32_t partitions,
                       const struct topic_conf *conf, bool block, bool join, broker_done_fn done,
                       void *arg, struct errinfo *info)
{
    uint32_t n = (uint32_t)(partitions ? partitions : b->conf.partitions_default);
    struct creation *cr, *pending;
    struct creation_wait *w;
    struct topic *t;
    uint32_t id = 0, uid = 0;
    uint8_t uuid[16];
    struct change *c;
    enum err e;

    conf = conf ? conf : &b->defaults;
    if ((e = create_check(b, name, partitions, conf, info)))
        return e;
    uuid_make(b, uuid);
    cr = xcalloc(1, sizeof *cr);
    c = change_new(b, ENTRY_TOPIC_CREATE, ENTRY_SMALL_MAX, done, arg);
    io_mutex_lock(&b->topics_lock);
    e = create_reserve(b, name, n, &id, &uid, &pending, info);
    if (!e) {
        c->topic = topic__new(b, id, name, uuid, journal_wall_ms(b->journal), conf);
        cr->node.key = c->topic->by_name.key;
        ordered_insert(&b->topics.creating, &cr->node);
    } else if (pending && join) {
        w = xmalloc(sizeof *w);
        *w = (struct creation_wait){pending->waits, done, arg};
        pending->waits = w;
        e = ERR_AGAIN;
    }
    io_mutex_unlock(&b->topics_lock);
    if (e) {
        free(cr);
        change_free(c);
        return e == ERR_AGAIN ? ERR_OK : e;
    }
    c->topic->partitions_first = cr->partitions = (int32_t)n;
    topic__partitions_make(c->topic, 0, (int32_t)n, uid);
    create_write(c, conf, uid, n);
    c->commit = create_commit;
    c->extra = cr;
    t = topic_ref(c->topic); /* the name must outlive the change */
    e = change_submit(c, block, info);
    if (e) {
        io_mutex_lock(&b->topics_lock);
        ordered_remove(&b->topics.creating, &cr->node);
        io_mutex_unlock(&b->topics_lock);
        creation_end(b, cr, e);
    }
    topic_unref(&t);
    return e;
}

enum err topic_create(struct broker *b, struct slice name, int32_t partitions,
                      const struct topic_conf *conf, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    return create(b, name, partitions, conf, false, false, done, arg, info);
}

enum err topic__create_join(struct broker *b, struct slice name, broker_done_fn done, void *arg,
                            struct errinfo *info)
{
    return create(b, name, 0, NULL, false, true, done, arg, info);
}

enum err topic_create_wait(struct broker *b, struct slice name, int32_t partitions,
                           const struct topic_conf *conf, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = create(b, name, partitions, conf, true, false, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

static enum err ensure(struct broker *b, struct slice name, bool block, struct topic **out,
                       broker_done_fn done, void *arg, struct errinfo *info)
{
    enum err e;

    for (;;) {
        if ((*out = topic_find(b, name)))
            return ERR_OK;
        if (!b->conf.topics_auto_create)
            return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                               (int)(name.len < 200 ? name.len : 200), (const char *)name.ptr);
        e = create(b, name, 0, NULL, block, true, done, arg, info);
        if (e != ERR_TOPIC_EXISTS) /* it came into being since we looked */
            return e;
    }
}

enum err topic_find_or_create(struct broker *b, struct slice name, struct topic **out,
                              broker_done_fn done, void *arg, struct errinfo *info)
{
    return ensure(b, name, false, out, done, arg, info);
}

enum err topic_find_or_create_wait(struct broker *b, struct slice name, struct topic **out,
                                   struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = ensure(b, name, true, out, sync_wait_done, &w, info);
    if (e || *out)
        return sync_wait_drop(&w, e);
    if ((e = sync_wait_end(&w, info)))
        return e;
    *out = topic_find(b, name);
    return *out ? ERR_OK : errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted at once");
}

/* ---- altering ---- */

struct alteration {
    int32_t partitions;
    bool has_conf;
    struct topic_conf conf;
};

static void alter_commit(struct change *c, enum err e)
{
    struct alteration *al = c->extra;
    struct topic *t = c->topic;
    struct broker *b = c->b;
    int32_t i, before = topic_partitions(t);

    io_mutex_lock(&b->topics_lock);
    t->changing = false;
    if (!e && !t->deleted) {
        if (al->has_conf)
            topic__conf_install(t, &al->conf);
        for (i = before; i < al->partitions; i++)
            topics__uids_add(&b->topics, topic_partition_at(t, i));
        if (al->partitions > before) {
            atomic_store(&t->scattered, true);
            atomic_store(&t->scattered_saved, true);
            atomic_store_explicit(&t->partitions_n, al->partitions, memory_order_release);
        }
        topic__dirty(t);
    }
    io_mutex_unlock(&b->topics_lock);
    if (e) /* partitions made but not used; a later alter makes others */
        for (i = before; i < al->partitions; i++)
            plog_free(&topic_partition_at(t, i)->log);
    if (!e)
        broker_topic_changed(b, t);
    free(al);
}

static enum err alter_reserve(struct topic *t, int32_t *partitions, uint32_t *uid,
                              struct errinfo *info)
{
    struct topics *ts = &t->broker->topics;
    int32_t now = topic_partitions(t);

    if (t->changing)
        return errinfo_set(info, ERR_CONFLICT, "the topic \"%s\" is being altered already",
                           t->name);
    *partitions = *partitions ? *partitions : now;
    if (*partitions < now)
        return errinfo_set(info, ERR_INVALID, "a topic cannot have fewer partitions than now (%d)",
                           (int)now);
    if (*partitions > (int32_t)LIMIT_PARTITIONS)
        return errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions",
                           (int)LIMIT_PARTITIONS);
    if (ts->next_uid > UINT32_MAX - (uint32_t)(*partitions - now))
        return errinfo_set(info, ERR_LIMIT, "all partition numbers are used up");
    *uid = *partitions > now ? ts->next_uid : 0;
    ts->next_uid += (uint32_t)(*partitions - now);
    t->changing = true;
    return ERR_OK;
}

static struct topic *find_or_say(struct broker *b, struct slice name, struct errinfo *info)
{
    struct topic *t = topic_find(b, name);

    if (!t)
        errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                    (int)(name.len < 200 ? name.len : 200), (const char *)name.ptr);
    return t;
}

static void alter_undo(struct topic *t, struct alteration *al)
{
    int32_t i;

    for (i = topic_partitions(t); i < al->partitions; i++)
        plog_free(&topic_partition_at(t, i)->log);
    io_mutex_lock(&t->broker->topics_lock);
    t->changing = false;
    io_mutex_unlock(&t->broker->topics_lock);
    free(al);
}

/* What is to become of a topic. */
struct alter_call {
    int32_t partitions;            /* 0: as many as now */
    const struct topic_conf *conf; /* NULL: as now, then edit */
    topic_edit_fn edit;            /* NULL: no change */
    void *edit_arg;
};

/* Records that only the lake has could not be read any more if the topic had another format. */
static enum err alter_format(struct topic *t, const struct topic_conf *want, struct errinfo *info)
{
    struct plog_info now;
    struct topic_conf c;
    int32_t i;

    topic_conf_get(t, &c);
    if (want->lake_format == c.lake_format)
        return ERR_OK;
    for (i = 0; i < topic_partitions(t); i++) {
        struct partition *p = topic_partition_at(t, i);

        plog_info_get(p->log, &now);
        if (partition_start(p) < now.start_offset)
            return errinfo_set(info, ERR_CONFIG,
                               "lake.format cannot become %s: records of partition %d below "
                               "offset %" PRId64 " are in the %s alone; delete them first",
                               want->lake_format == LAKE_JSONL ? "jsonl" : "iceberg", (int)i,
                               now.start_offset,
                               c.lake_format == LAKE_JSONL ? "JSON lines" : "table");
    }
    return ERR_OK;
}

/* The configuration wanted, for a topic that nobody else can change. */
static enum err alter_conf(struct topic *t, const struct alter_call *call, struct alteration *al,
                           struct errinfo *info)
{
    enum err e;

    if (call->conf)
        al->conf = *call->conf;
    else
        topic_conf_get(t, &al->conf);
    al->has_conf = call->conf || call->edit;
    if (call->edit && (e = call->edit(call->edit_arg, &al->conf, info)))
        return e;
    e = al->has_conf ? topic_conf_check(&al->conf, info) : ERR_OK;
    return !e && al->has_conf ? alter_format(t, &al->conf, info) : e;
}

static enum err alter_begin(struct topic *t, const struct alter_call *call, bool block,
                            broker_done_fn done, void *arg, struct errinfo *info)
{
    struct broker *b = t->broker;
    struct entry_topic_alter en = {.id = t->id};
    struct alteration *al;
    struct change *c;
    enum err e;

    al = xcalloc(1, sizeof *al);
    al->partitions = call->partitions;
    io_mutex_lock(&b->topics_lock);
    e = alter_reserve(t, &al->partitions, &en.first_uid, info);
    io_mutex_unlock(&b->topics_lock);
    if (e) {
        free(al);
        return e;
    }
    en.partitions = (uint32_t)al->partitions;
    en.added = (uint32_t)(al->partitions - topic_partitions(t));
    topic__partitions_make(t, topic_partitions(t), (int32_t)en.added, en.first_uid);
    if ((e = alter_conf(t, call, al, info))) {
        alter_undo(t, al);
        return e;
    }
    if ((en.has_conf = al->has_conf))
        topic_conf_diff(&b->defaults, &al->conf, &en.conf);
    c = change_new(b, ENTRY_TOPIC_ALTER, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_topic_alter_write(c->data, &en);
    c->topic = topic_ref(t);
    c->check = change_topic_alive;
    c->commit = alter_commit;
    c->extra = al;
    if ((e = change_submit(c, block, info)))
        alter_undo(t, al);
    return e;
}

static enum err alter(struct broker *b, struct slice name, const struct alter_call *call,
                      bool block, broker_done_fn done, void *arg, struct errinfo *info)
{
    struct topic *t;
    enum err e;

    if (call->partitions < 0)
        return errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions",
                           (int)LIMIT_PARTITIONS);
    if (call->conf && (e = topic_conf_check(call->conf, info)))
        return e;
    if (!(t = find_or_say(b, name, info)))
        return ERR_TOPIC_NOT_FOUND;
    e = alter_begin(t, call, block, done, arg, info);
    topic_unref(&t);
    return e;
}

enum err topic_alter(struct broker *b, struct slice name, int32_t partitions,
                     const struct topic_conf *conf, broker_done_fn done, void *arg,
                     struct errinfo *info)
{
    struct alter_call call = {.partitions = partitions, .conf = conf};

    return alter(b, name, &call, false, done, arg, info);
}

enum err topic_edit(struct broker *b, struct slice name, topic_edit_fn edit, void *edit_arg,
                    broker_done_fn done, void *arg, struct errinfo *info)
{
    struct alter_call call = {.edit = edit, .edit_arg = edit_arg};

    return alter(b, name, &call, false, done, arg, info);
}

enum err topic_alter_wait(struct broker *b, struct slice name, int32_t partitions,
                          const struct topic_conf *conf, struct errinfo *info)
{
    struct alter_call call = {.partitions = partitions, .conf = conf};
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = alter(b, name, &call, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

void topic_scattered_set(struct topic *t)
{
    struct broker *b = t->broker;

    atomic_store(&t->scattered, true);
    io_mutex_lock(&b->topics_lock);
    if (!atomic_exchange(&t->scattered_saved, true) && !t->deleted)
        topic__dirty(t);
    io_mutex_unlock(&b->topics_lock);
}

/* ---- deleting ---- */

/* Journal lock. */
static enum err delete_check(struct change *c)
{
    if (atomic_exchange(&c->topic->deleting, true))
        return ERR_TOPIC_NOT_FOUND;
    return ERR_OK;
}

static void delete_commit(struct change *c, enum err e)
{
    struct broker *b = c->b;
    struct topic *t = c->topic, *held = t;

    if (e) {
        atomic_store(&t->deleting, false);
        return;
    }
    io_mutex_lock(&b->topics_lock);
    topics__unpublish(b, t);
    topic__dirty(t);
    io_mutex_unlock(&b->topics_lock);
    broker_topic_changed(b, t);
    topic_unref(&held); /* the catalogue's; the change has its own */
}

static enum err delete (struct broker *b, struct slice name, bool block, broker_done_fn done,
                        void *arg, struct errinfo *info) {
    struct topic *t = find_or_say(b, name, info); struct change * c;

    if (!t) return ERR_TOPIC_NOT_FOUND;
    c = change_new(b, ENTRY_TOPIC_DELETE, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_topic_delete_write(c->data, t->id);
    c->topic = t;
    c->check = delete_check;
    c->commit = delete_commit;
    return change_submit(c, block, info);
}

enum err topic_delete(struct broker *b, struct slice name, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    return delete (b, name, false, done, arg, info);
}

enum err topic_delete_wait(struct broker *b, struct slice name, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = delete (b, name, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

/* ---- trimming ---- */

void partition_trimmed(struct partition *p, int64_t start, uint64_t ticket)
{
    struct broker *b = p->topic->broker;

    io_mutex_lock(&b->topics_lock);
    if (start > p->start_saved)
        partition__trim_note(p, start, ticket);
    io_mutex_unlock(&b->topics_lock);
    atomic_fetch_add_explicit(&b->st_trims, 1, memory_order_relaxed);
}

int64_t partition_start(const struct partition *p)
{
    int64_t tier = atomic_load(&p->tier_start); /* first: it never moves beyond what is said next */
    struct plog_info now;

    plog_info_get(p->log, &now);
    return tier >= 0 && tier < now.start_offset ? tier : now.start_offset;
}

void partition_expired(struct partition *p, int64_t offset)
{
    atomic_store(&p->expired, offset);
}

void partition_tier_raise(struct partition *p, int64_t start, bool saved)
{
    struct broker *b = p->topic->broker;

    io_mutex_lock(&b->topics_lock);
    if (start > atomic_load(&p->tier_start))
        atomic_store(&p->tier_start, start);
    if (saved)
        topic__dirty(p->topic);
    io_mutex_unlock(&b->topics_lock);
}

/* A trim's unit: the local log's new start, if it moves, and the one of what is in the lake. */
struct trim_data {
    struct journal_entry entry[2];
    struct partition *p;
    int64_t offset;
    bool local, tier;
    uint8_t start[8], tier_start[ENTRY_TIER_START_BYTES];
};

static void trim_commit(struct change *c, enum err e)
{
    struct trim_data *d = (struct trim_data *)c->data;

    if (!e && d->local)
        partition_trimmed(d->p, d->offset, c->ticket);
    if (!e && d->tier)
        partition_tier_raise(d->p, d->offset, true);
}

static void trim_entries(struct change *c, struct partition *p, int64_t offset, bool local,
                         bool tier)
{
    struct trim_data *d = (struct trim_data *)c->data;
    struct entry_tier_start ts = {p->topic->id, (uint32_t)p->index, offset};

    *d = (struct trim_data){.p = p, .offset = offset, .local = local, .tier = tier};
    c->unit.entries = d->entry;
    c->unit.n = 0;
    le64_store(d->start, (uint64_t)offset);
    if (local)
        d->entry[c->unit.n++] = (struct journal_entry){
            .type = ENTRY_LOG_START, .plog = p->log, .data = slice_of(d->start, 8)};
    entry_tier_start_write(d->tier_start, &ts);
    if (tier)
        d->entry[c->unit.n++] = (struct journal_entry){
            .type = ENTRY_TIER_START, .data = slice_of(d->tier_start, sizeof d->tier_start)};
}

static enum err trim(struct partition *p, int64_t offset, bool block, broker_done_fn done,
                     void *arg, struct errinfo *info)
{
    struct broker *b = p->topic->broker;
    int64_t start = partition_start(p);
    struct topic_conf conf;
    struct plog_info now;
    struct change *c;

    plog_info_get(p->log, &now);
    if (offset == -1)
        offset = now.end_offset;
    if (offset < 0 || offset > now.end_offset)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " is not in the log (%" PRId64 " to %" PRId64 ")",
                           offset, start, now.end_offset);
    if (topic_deleted(p->topic))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted");
    if (offset <= start) {
        struct errinfo none = {0};

        if (done)
            done(arg, ERR_OK, &none);
        return ERR_OK;
    }
    topic_conf_get(p->topic, &conf);
    c = change_new(b, ENTRY_LOG_START, sizeof(struct trim_data), done, arg);
    trim_entries(c, p, offset, offset > now.start_offset,
                 conf.lake_enable || atomic_load(&p->tier_start) >= 0);
    c->topic = topic_ref(p->topic);
    c->check = change_topic_alive;
    c->commit = trim_commit;
    return change_submit(c, block, info);
}

enum err partition_trim(struct partition *p, int64_t offset, broker_done_fn done, void *arg,
                        struct errinfo *info)
{
    return trim(p, offset, false, done, arg, info);
}

enum err partition_trim_wait(struct partition *p, int64_t offset, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, p->topic->broker);
    e = trim(p, offset, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}
