/* Quotas: how many bytes a second a user or client may produce and fetch, and what share of a
 * thread's time its requests may take. DescribeClientQuotas, AlterClientQuotas, and the counting.
 *
 * A quota is of an entity: a user, a client id, or both, each by name or as default for all that have
 * no quota of their own. Of those that fit a request the most precise one counts, as Apache Kafka
 * orders them. What is used is counted in buckets, one for each kind of quota and user, client or
 * both (whatever the quota names): a bucket fills at the quota's rate up to what comes in a second.
 * Who takes more than there is gets the answer at once, with the time until the bucket is level
 * again; until then no request of that connection starts.
 *
 * Quotas are stored as key-value items (namespace "quota"). The table is made anew when one changes,
 * and replaced under ksec's lock. Buckets have a lock of their own. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/kafka/admin_int.h"
#include "proto/kafka/security.h"

#define NS               "quota"
#define NAME_LEN_MAX     500u /* two of them and what stands before fit a key */
#define BUCKETS_MAX      100000u
#define THROTTLE_MS_MAX  30000u
#define THROTTLE_TIME_MS 1000u /* for time: quota.window.size.seconds */

static const char *const keys[KQUOTAS] = {"producer_byte_rate", "consumer_byte_rate",
                                          "request_percentage"};

enum part { PART_NONE, PART_DEFAULT, PART_NAME };
enum { USER, CLIENT, PARTS };
static const char *const part_names[PARTS] = {"user", "client-id"};

struct entity {
    uint8_t part[PARTS]; /* enum part */
    struct slice name[PARTS];
};

struct row {
    struct entity of;
    bool has[KQUOTAS];
    double value[KQUOTAS];
};

struct bucket {
    double left; /* may be below 0 */
    uint64_t ms;
    size_t key_len;
    uint8_t key[]; /* of the map */
};

struct quotas {
    struct row *row; /* in order of their stored keys */
    uint32_t n;
    struct buf text;
};

struct kquota_buckets {
    struct io_mutex lock;
    struct map map;
};

/* ---- as stored ---- */

#define KEY_MAX   (2u + 2u + PARTS * NAME_LEN_MAX)
#define VALUE_LEN (2u + 8u * KQUOTAS)

/* Kinds, length of the user's name, both names. */
static struct slice entity_write(const struct entity *en, uint8_t out[KEY_MAX])
{
    uint8_t *p = out + 4;
    int i;

    out[0] = en->part[USER];
    out[1] = en->part[CLIENT];
    be16_store(out + 2, (uint16_t)en->name[USER].len);
    for (i = 0; i < PARTS; i++)
        if (en->name[i].len) {
            memcpy(p, en->name[i].ptr, en->name[i].len);
            p += en->name[i].len;
        }
    return slice_of(out, (size_t)(p - out));
}

static bool entity_read(struct slice s, struct entity *en)
{
    size_t n = s.len < 4 ? 0 : be16_load(s.ptr + 2);

    if (s.len < 4 || n > s.len - 4 || s.ptr[0] > PART_NAME || s.ptr[1] > PART_NAME)
        return false;
    en->part[USER] = s.ptr[0];
    en->part[CLIENT] = s.ptr[1];
    en->name[USER] = slice_of(s.ptr + 4, n);
    en->name[CLIENT] = slice_of(s.ptr + 4 + n, s.len - 4 - n);
    return true;
}

static void values_write(const struct row *r, uint8_t out[VALUE_LEN])
{
    uint64_t bits;
    int i;

    out[0] = 1; /* format */
    out[1] = 0;
    for (i = 0; i < KQUOTAS; i++) {
        out[1] |= (uint8_t)(r->has[i] << i);
        memcpy(&bits, &r->value[i], 8);
        be64_store(out + 2 + 8 * i, bits);
    }
}

static bool values_read(struct slice s, struct row *r)
{
    uint64_t bits;
    int i;

    if (s.len != VALUE_LEN || s.ptr[0] != 1)
        return false;
    for (i = 0; i < KQUOTAS; i++) {
        r->has[i] = s.ptr[1] >> i & 1;
        bits = be64_load(s.ptr + 2 + 8 * i);
        memcpy(&r->value[i], &bits, 8);
    }
    return true;
}

/* ---- the table ---- */

static bool item_collect(void *arg, struct slice key, struct slice value)
{
    struct quotas *t = arg;

    buf_append_be16(&t->text, (uint16_t)key.len);
    buf_append_slice(&t->text, key);
    buf_append_be16(&t->text, (uint16_t)value.len);
    buf_append_slice(&t->text, value);
    t->n++;
    return true;
}

static struct slice word_next(struct slice *s)
{
    struct slice w = slice_of(s->ptr + 2, be16_load(s->ptr));

    *s = slice_of(w.ptr + w.len, s->len - 2 - w.len);
    return w;
}

static struct quotas *table_new(struct broker *b)
{
    struct quotas *t = xcalloc(1, sizeof *t);
    uint32_t i, n = 0;
    struct slice s;

    buf_init(&t->text, LIMIT_KV_BYTES * 2);
    kv_each(b, NS, item_collect, t);
    t->row = xcalloc(t->n ? t->n : 1, sizeof *t->row);
    s = buf_slice(&t->text);
    for (i = 0; i < t->n; i++) {
        struct slice key = word_next(&s), value = word_next(&s);

        if (entity_read(key, &t->row[n].of) && values_read(value, &t->row[n]))
            n++;
    }
    t->n = n;
    return t;
}

static void table_free(struct quotas *t)
{
    if (!t)
        return;
    buf_fini(&t->text);
    free(t->row);
    free(t);
}

void kquotas_load(struct ksec *s)
{
    struct quotas *t, *old;
    uint32_t i;
    bool timed = false;

    io_mutex_lock(&s->load); /* the table that stays is the one that was made last */
    t = table_new(s->b);
    for (i = 0; i < t->n; i++)
        timed |= t->row[i].has[KQUOTA_TIME];
    if (!s->buckets) {
        uint8_t seed[16];

        s->buckets = xcalloc(1, sizeof *s->buckets);
        io_random(broker_io(s->b), seed, sizeof seed);
        io_mutex_init(&s->buckets->lock);
        map_init(&s->buckets->map, BUCKETS_MAX, seed);
    }
    io_rwlock_write(&s->lock);
    old = s->quotas;
    s->quotas = t;
    io_rwlock_unlock(&s->lock);
    atomic_store(&s->quotas_any, t->n > 0);
    atomic_store(&s->quotas_timed, timed);
    io_mutex_unlock(&s->load);
    table_free(old);
}

static void buckets_clear(struct map *m)
{
    uint32_t at = 0;
    void *b;

    while (map_next(m, &at, NULL, &b))
        free(b);
    map_fini(m);
}

void kquotas_free(struct ksec *s)
{
    table_free(s->quotas);
    s->quotas = NULL;
    if (!s->buckets)
        return;
    buckets_clear(&s->buckets->map);
    io_mutex_fini(&s->buckets->lock);
    free(s->buckets);
    s->buckets = NULL;
}

/* ---- counting ---- */

/* How precise a quota is for a user and client: 0 does not fit. The order is Kafka's. */
static int rank_of(const struct entity *en, const struct slice who[PARTS])
{
    static const int ranks[3][3] = {
        /* client:          none default name */
        [PART_NONE] = {0, 1, 2},
        [PART_DEFAULT] = {3, 4, 5},
        [PART_NAME] = {6, 7, 8},
    };
    int i;

    for (i = 0; i < PARTS; i++)
        if (en->part[i] == PART_NAME && !slice_eq(en->name[i], who[i]))
            return 0;
    return ranks[en->part[USER]][en->part[CLIENT]];
}

/* The rate that counts, and in key (KEY_MAX + 1) the bucket; false: there is no quota. */
static bool rate_find(struct ksec *s, enum kquota q, const struct slice who[PARTS], double *rate,
                      uint8_t *key, size_t *key_len)
{
    struct entity of = {{0}, {SLICE_NULL, SLICE_NULL}};
    int best = 0, rank, p;
    uint32_t i;

    io_rwlock_read(&s->lock);
    for (i = 0; i < s->quotas->n; i++) {
        const struct row *r = &s->quotas->row[i];

        if (!r->has[q] || (rank = rank_of(&r->of, who)) <= best)
            continue;
        best = rank;
        *rate = r->value[q];
        memcpy(of.part, r->of.part, sizeof of.part);
    }
    io_rwlock_unlock(&s->lock);
    if (!best)
        return false;
    for (p = 0; p < PARTS; p++)
        if (of.part[p] != PART_NONE) {
            of.part[p] = PART_NAME;
            of.name[p] =
                slice_of(who[p].ptr, who[p].len < NAME_LEN_MAX ? who[p].len : NAME_LEN_MAX);
        }
    key[0] = (uint8_t)q;
    *key_len = 1 + entity_write(&of, key + 1).len;
    return true;
}

/* Too many buckets: all begin anew. Holds the lock. */
static struct bucket *bucket_new(struct kquota_buckets *bs, struct slice key, double full,
                                 uint64_t now_ms)
{
    struct bucket *b = xcalloc(1, sizeof *b + key.len);

    b->left = full;
    b->ms = now_ms;
    b->key_len = key.len;
    memcpy(b->key, key.ptr, key.len);
    if (bs->map.n == bs->map.max) {
        uint8_t seed[16];

        memcpy(seed, bs->map.seed, 16);
        buckets_clear(&bs->map);
        map_init(&bs->map, BUCKETS_MAX, seed);
    }
    if (map_put(&bs->map, slice_of(b->key, b->key_len), b)) {
        free(b);
        return NULL;
    }
    return b;
}

/* Milliseconds until the bucket is level. rate: a second. */
static double bucket_take(struct kquota_buckets *bs, struct slice key, double rate, double amount,
                          uint64_t now_ms)
{
    struct bucket *b;
    double wait = 0;

    io_mutex_lock(&bs->lock);
    b = map_find(&bs->map, key);
    if (!b)
        b = bucket_new(bs, key, rate, now_ms);
    if (b) {
        if (now_ms > b->ms) {
            b->left += rate * (double)(now_ms - b->ms) / 1000;
            b->ms = now_ms;
        }
        b->left = (b->left > rate ? rate : b->left) - amount;
        wait = b->left < 0 ? -b->left / rate * 1000 : 0;
    }
    io_mutex_unlock(&bs->lock);
    return wait;
}

bool kquota_timed(const struct kafka *k)
{
    return atomic_load_explicit(&k->sec->quotas_timed, memory_order_relaxed);
}

/* Counts; the milliseconds until the quota is kept again, if there is one. */
static uint32_t charge(struct kconn *kc, enum kquota quota, struct slice client, double amount)
{
    uint64_t now_ms, most = quota == KQUOTA_TIME ? THROTTLE_TIME_MS : THROTTLE_MS_MAX;
    struct ksec *s = kc->k->sec;
    struct slice who[PARTS];
    uint8_t key[KEY_MAX + 1];
    double rate = 0, wait;
    uint32_t ms;
    size_t n;

    who[USER] = slice_str(kc->user);
    who[CLIENT] = client;
    if (!rate_find(s, quota, who, &rate, key, &n))
        return 0;
    if (quota == KQUOTA_TIME)
        rate /= 100; /* seconds of a thread */
    now_ms = io_mono_ns(broker_io(s->b)) / 1000000;
    wait = bucket_take(s->buckets, slice_of(key, n), rate, amount, now_ms);
    if (wait < 1)
        return 0;
    ms = (uint32_t)(wait < (double)most ? wait : (double)most);
    kconn_mute(kc, ms);
    return ms;
}

uint32_t kquota_charge(struct kconn *kc, enum kquota quota, struct slice client, double amount)
{
    uint32_t ms;
    uint64_t now;

    if (!kc || !atomic_load_explicit(&kc->k->sec->quotas_any, memory_order_relaxed))
        return 0;
    ms = charge(kc, quota, client, amount);
    now = loop_now_ms(kc->kl->loop);
    /* its time may have been charged meanwhile: the answer tells the longer of both */
    return kc->muted_ms > now + ms ? (uint32_t)(kc->muted_ms - now) : ms;
}

/* ---- DescribeClientQuotas ---- */

struct want {
    int match[PARTS]; /* -1: the type is not named */
    struct slice name[PARTS];
    bool strict;
};
enum { MATCH_NOT = -1, MATCH_EXACT = 0, MATCH_DEFAULT = 1, MATCH_ANY = 2 };

static int part_of(struct slice name)
{
    return slice_eq_str(name, part_names[USER])     ? USER
           : slice_eq_str(name, part_names[CLIENT]) ? CLIENT
                                                    : PARTS;
}

/* NULL, or what is wrong. `ip`: the filter names it; there are no quotas of addresses. */
static const char *want_read(const struct kafka_describe_client_quotas_request *m, struct want *w,
                             bool *ip)
{
    uint32_t i;

    *w = (struct want){.match = {MATCH_NOT, MATCH_NOT}, .strict = m->strict};
    *ip = false;
    for (i = 0; i < m->components_n; i++) {
        const struct kafka_describe_client_quotas_request_component *c = &m->components[i];
        int p = part_of(c->entity_type);

        if (p == PARTS && slice_eq_str(c->entity_type, "ip")) {
            *ip = true;
            continue;
        }
        if (p == PARTS)
            return "Custom entity type not supported";
        if (w->match[p] != MATCH_NOT)
            return "Duplicate filter component entity type";
        if (c->match_type < MATCH_EXACT || c->match_type > MATCH_ANY)
            return "Unexpected match type";
        if ((c->match_type == MATCH_EXACT) == slice_is_null(c->match))
            return "a name is given if, and only if, it is to match exactly";
        w->match[p] = c->match_type;
        w->name[p] = c->match;
    }
    return NULL;
}

static bool row_wanted(const struct want *w, const struct row *r)
{
    int p;

    for (p = 0; p < PARTS; p++) {
        int part = r->of.part[p];

        if (w->match[p] == MATCH_NOT     ? w->strict && part != PART_NONE
            : w->match[p] == MATCH_EXACT ? part != PART_NAME || !slice_eq(w->name[p], r->of.name[p])
            : w->match[p] == MATCH_DEFAULT ? part != PART_DEFAULT
                                           : part == PART_NONE)
            return false;
    }
    return true;
}

/* False: there is no room. */
static bool row_show(struct arena *a, const struct row *r,
                     struct kafka_describe_client_quotas_response_entry *o)
{
    int i;

    o->entity = arena_zalloc(a, PARTS, sizeof *o->entity);
    o->values = arena_zalloc(a, KQUOTAS, sizeof *o->values);
    if (!o->entity || !o->values)
        return false;
    for (i = 0; i < PARTS; i++) {
        if (r->of.part[i] == PART_NONE)
            continue;
        o->entity[o->entity_n].entity_type = slice_str(part_names[i]);
        o->entity[o->entity_n].entity_name =
            r->of.part[i] == PART_NAME ? arena_dup(a, r->of.name[i]) : SLICE_NULL;
        o->entity_n++;
    }
    for (i = 0; i < KQUOTAS; i++)
        if (r->has[i])
            o->values[o->values_n++] = (struct kafka_describe_client_quotas_response_value){
                slice_str(keys[i]), r->value[i]};
    return true;
}

static void rows_show(struct kreq *q, const struct want *w,
                      struct kafka_describe_client_quotas_response *s)
{
    struct ksec *sec = q->k->sec;
    bool room = true;
    uint32_t i;

    io_rwlock_read(&sec->lock);
    s->entries = arena_zalloc(&q->arena, sec->quotas->n ? sec->quotas->n : 1, sizeof *s->entries);
    for (i = 0; s->entries && room && i < sec->quotas->n; i++)
        if (row_wanted(w, &sec->quotas->row[i]))
            room = row_show(&q->arena, &sec->quotas->row[i], &s->entries[s->entries_n++]);
    io_rwlock_unlock(&sec->lock);
    if (!s->entries || !room)
        kreq_fail(q, ERR_TOO_LARGE);
}

void kafka_on_describe_client_quotas(struct kreq *q)
{
    struct kafka_describe_client_quotas_response s;
    struct kafka_describe_client_quotas_request m;
    const char *wrong;
    struct want w;
    bool ip;

    if (!KREQ_DECODE(q, describe_client_quotas, &m))
        return;
    kafka_describe_client_quotas_response_init(&s);
    s.error_message = SLICE_NULL;
    if (!kafka_allowed(q, KOP_DESCRIBE_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
        s.entries_null = true;
    } else if ((wrong = want_read(&m, &w, &ip))) {
        s.error_code = KE_INVALID_REQUEST;
        s.error_message = slice_str(wrong);
        s.entries_null = true;
    } else if (!ip) {
        rows_show(q, &w, &s);
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_client_quotas, &s);
}

/* ---- AlterClientQuotas ---- */

/* One entity of a request. */
struct edit {
    struct kreq *q;
    struct kgather_job *job;
    const struct kafka_alter_client_quotas_request_entry *in;
    struct kafka_alter_client_quotas_response_entry *o;
    struct entity of;
    struct slice key; /* for kedit_begin: the namespace, then as stored */
};

struct alter {
    struct kafka_alter_client_quotas_request m;
    struct kafka_alter_client_quotas_response s;
    struct edit *edits; /* of the entries, as the jobs are */
};

static const char *entity_parse(const struct kafka_alter_client_quotas_request_entry *in,
                                struct entity *out)
{
    uint32_t i;

    memset(out, 0, sizeof *out);
    for (i = 0; i < in->entity_n; i++) {
        const struct kafka_alter_client_quotas_request_entity *en = &in->entity[i];
        int p = part_of(en->entity_type);

        if (p == PARTS && slice_eq_str(en->entity_type, "ip"))
            return "quotas of addresses are not supported: the server's configuration limits "
                   "connections of one address";
        if (p == PARTS)
            return "Unhandled client quota entity type";
        if (out->part[p] != PART_NONE)
            return "Duplicate client quota entity type";
        if (!slice_is_null(en->entity_name) &&
            (en->entity_name.len == 0 || en->entity_name.len > NAME_LEN_MAX))
            return "an entity's name has 1 to 500 bytes";
        out->part[p] = slice_is_null(en->entity_name) ? PART_DEFAULT : PART_NAME;
        out->name[p] = en->entity_name;
    }
    return in->entity_n ? NULL : "Invalid empty client quota entity";
}

static const char *op_apply(const struct kafka_alter_client_quotas_request_op *op, struct row *r)
{
    int i = 0;

    while (i < KQUOTAS && !slice_eq_str(op->key, keys[i]))
        i++;
    if (i == KQUOTAS)
        return slice_eq_str(op->key, "controller_mutation_rate") ||
                       slice_eq_str(op->key, "connection_creation_rate")
                   ? "this quota is not supported"
                   : "Invalid configuration key";
    r->has[i] = !op->remove;
    r->value[i] = op->remove ? 0 : op->value;
    if (op->remove)
        return NULL;
    if (!(op->value > 0) || !isfinite(op->value))
        return "a quota must be greater than 0";
    return i != KQUOTA_TIME && op->value != floor(op->value)
               ? "a quota of bytes cannot be a fractional value"
               : NULL;
}

static struct slice stored_key(const struct edit *x)
{
    return slice_of(x->key.ptr + sizeof NS, x->key.len - sizeof NS);
}

/* What the entity has now: as it is stored, for the table may be of a moment ago. */
static void row_now(const struct edit *x, struct row *out)
{
    struct buf value;

    *out = (struct row){.of = x->of};
    buf_init(&value, LIMIT_KV_VALUE);
    if (kv_get(x->q->b, NS, stored_key(x), &value) || !values_read(buf_slice(&value), out))
        *out = (struct row){.of = x->of};
    buf_fini(&value);
}

/* What it is to have. False: that cannot be. */
static bool row_edit(const struct edit *x, struct row *out)
{
    const char *wrong = NULL;
    uint32_t i;

    row_now(x, out);
    for (i = 0; i < x->in->ops_n && !wrong; i++)
        wrong = op_apply(&x->in->ops[i], out);
    if (wrong) {
        x->o->error_code = KE_INVALID_REQUEST;
        x->o->error_message = slice_str(wrong);
    }
    return !wrong;
}

static void edit_done(void *arg, enum err e, const struct errinfo *info)
{
    struct edit *x = arg;

    kedit_end(x->q->k->sec, x->key);
    kgather_done(x->job, e, info);
}

static void edit_try(struct kgather_job *job)
{
    struct alter *a = job->g->state;
    struct edit *x = &a->edits[job - job->g->jobs];
    struct errinfo info = {0};
    uint8_t value[VALUE_LEN];
    bool any = false;
    struct row r;
    enum err e;
    int i;

    if (!kedit_begin(x->q->k->sec, x->key)) {
        kgather_again(job, edit_try);
        return;
    }
    if (!row_edit(x, &r)) {
        edit_done(x, ERR_OK, &info);
        return;
    }
    for (i = 0; i < KQUOTAS; i++)
        any |= r.has[i];
    values_write(&r, value);
    e = kv_put(x->q->b, NS, stored_key(x), any ? slice_of(value, VALUE_LEN) : SLICE_NULL, 0,
               edit_done, x, &info);
    if (e)
        edit_done(x, e, &info);
}

static void alter_one(struct kreq *q, struct edit *x, bool validate_only)
{
    uint8_t key[sizeof NS + KEY_MAX];
    const char *wrong = entity_parse(x->in, &x->of);
    struct row r;

    if (wrong) {
        x->o->error_code = KE_INVALID_REQUEST;
        x->o->error_message = slice_str(wrong);
        return;
    }
    memcpy(key, NS, sizeof NS);
    x->key = kreq_keep(q, slice_of(key, sizeof NS + entity_write(&x->of, key + sizeof NS).len));
    if (slice_is_null(x->key))
        return;
    if (validate_only) {
        row_edit(x, &r);
        return;
    }
    kgather_begin(x->job);
    edit_try(x->job);
}

static void quotas_reload(struct kreq *q)
{
    kquotas_load(q->k->sec);
}

static void alter_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct alter *a = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < a->s.entries_n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code) {
            a->s.entries[i].error_code = code;
            a->s.entries[i].error_message = message;
        }
    }
    KREQ_REPLY(q, alter_client_quotas, &a->s);
}

void kafka_on_alter_client_quotas(struct kreq *q)
{
    bool allowed = kafka_allowed(q, KOP_ALTER_CONFIGS, KRES_CLUSTER, KAFKA_CLUSTER_NAME);
    struct alter *a = kreq_alloc(q, 1, sizeof *a);
    struct kgather *g;
    uint32_t i, j;

    if (!a || !KREQ_DECODE(q, alter_client_quotas, &a->m))
        return;
    kafka_alter_client_quotas_response_init(&a->s);
    if (!(a->s.entries = kreq_alloc(q, a->m.entries_n, sizeof *a->s.entries)) ||
        !(a->edits = kreq_alloc(q, a->m.entries_n, sizeof *a->edits)) ||
        !(g = kgather_new(q, a->m.entries_n, alter_reply, a)))
        return;
    g->ended = quotas_reload;
    for (i = 0; i < a->m.entries_n; i++) {
        const struct kafka_alter_client_quotas_request_entry *in = &a->m.entries[i];
        struct kafka_alter_client_quotas_response_entry *o = &a->s.entries[i];

        o->error_message = SLICE_NULL;
        if (!(o->entity = kreq_alloc(q, in->entity_n, sizeof *o->entity)))
            break;
        for (j = 0; j < in->entity_n; j++)
            o->entity[o->entity_n++] = (struct kafka_alter_client_quotas_response_entity){
                in->entity[j].entity_type, in->entity[j].entity_name};
        a->s.entries_n++;
        a->edits[i] = (struct edit){.q = q, .job = &g->jobs[i], .in = in, .o = o};
        if (allowed)
            alter_one(q, &a->edits[i], a->m.validate_only);
        else
            o->error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
    }
    kgather_wait(g, 30000);
}
