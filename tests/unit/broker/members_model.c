/* Groups under random members, from a seed: what must hold whatever they do.
 *   classic   generations told never go back, not over a crash either; within one all are told the
 *             same leader and protocol; each member gets, once the leader has spoken, exactly what
 *             it gave to it; every join and sync is answered in the end.
 *   consumer  no partition is in the hands of two members at once; epochs never go back; when it
 *             gets quiet, everything subscribed to is in somebody's hands.
 *   threads   the same calls from several threads at once: all are answered, or cancelled. */
#include "members_fixture.h"

#include "io/thread.h"

static uint64_t rng;
static uint32_t rnd(uint32_t n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

/* ---- classic ---- */

#define CLIENTS     10
#define GENERATIONS 4096

struct told {
    char leader[LIMIT_MEMBER_ID + 1], protocol[16];
    bool spoken; /* the leader's sync went out */
};

struct man {
    struct classic_world *w;
    struct group_wait wait;
    enum { OUT, IDLE, JOINING, JOINED, SYNCING, MEMBER } at;
    char id[LIMIT_MEMBER_ID + 1], instance[8];
    char members[CLIENTS * 2][LIMIT_MEMBER_ID + 1];
    unsigned members_n;
    int32_t generation;
    bool alike; /* it has both protocols */
};

struct classic_world {
    struct mx x;
    struct man man[CLIENTS];
    struct told *told; /* by generation */
    int32_t highest;   /* told so far */
    uint64_t joins, syncs;
};

static void man_joined(void *arg, const struct group_join_result *r)
{
    struct man *m = arg;
    struct told *t;
    unsigned i;

    assert_int_equal(m->at, JOINING);
    m->at = OUT;
    if (r->e == ERR_MEMBER_ID_REQUIRED || r->e == ERR_REBALANCE_IN_PROGRESS)
        m->at = IDLE;
    if (r->e == ERR_MEMBER_ID_REQUIRED)
        text_keep(m->id, sizeof m->id, r->member_id);
    if (r->e) {
        assert_true(r->e == ERR_MEMBER_ID_REQUIRED || r->e == ERR_UNKNOWN_MEMBER ||
                    r->e == ERR_REBALANCE_IN_PROGRESS || r->e == ERR_FENCED_INSTANCE ||
                    r->e == ERR_INCONSISTENT_PROTOCOL || r->e == ERR_COORDINATOR);
        return;
    }
    m->w->joins++;
    m->at = JOINED;
    text_keep(m->id, sizeof m->id, r->member_id);
    assert_true(r->generation < GENERATIONS);
    /* answers of one generation come together: none of an older one after a newer one's */
    assert_true(r->generation >= m->w->highest);
    m->w->highest = r->generation;
    m->generation = r->generation;
    t = &m->w->told[r->generation];
    if (!t->protocol[0]) {
        text_keep(t->leader, sizeof t->leader, r->leader);
        text_keep(t->protocol, sizeof t->protocol, r->protocol_name);
    }
    assert_true(slice_eq_str(r->protocol_name, t->protocol));
    if (t->leader[0] != 'i') /* a static leader may have come back under another id */
        assert_true(slice_eq_str(r->leader, t->leader));
    m->members_n = r->members_n;
    for (i = 0; i < r->members_n; i++)
        text_keep(m->members[i], sizeof m->members[i], r->members[i].member_id);
    if (r->members_n)
        assert_true(slice_eq_str(r->leader, m->id));
}

static void man_synced(void *arg, const struct group_sync_result *r)
{
    char want[LIMIT_MEMBER_ID + 32];
    struct man *m = arg;

    assert_int_equal(m->at, SYNCING);
    m->at = r->e == ERR_REBALANCE_IN_PROGRESS ? IDLE : OUT;
    if (r->e) {
        assert_true(r->e == ERR_UNKNOWN_MEMBER || r->e == ERR_ILLEGAL_GENERATION ||
                    r->e == ERR_REBALANCE_IN_PROGRESS || r->e == ERR_FENCED_INSTANCE ||
                    r->e == ERR_COORDINATOR);
        return;
    }
    m->w->syncs++;
    m->at = MEMBER;
    assert_true(m->w->told[m->generation].spoken);
    /* a static member that came back under a new id has its former self's */
    if (!m->instance[0]) {
        snprintf(want, sizeof want, "%d/%s", m->generation, m->id);
        assert_true(slice_eq_str(r->assignment, want));
    }
}

static void man_join(struct man *m)
{
    struct group_protocol p[2] = {{SLICE_LIT("range"), SLICE_LIT("x")},
                                  {SLICE_LIT("sticky"), SLICE_LIT("y")}};
    struct group_join j = {.group = SLICE_LIT("g"),
                           .member_id = slice_str(m->id),
                           .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                           .client_id = SLICE_LIT("c"),
                           .protocol_type = SLICE_LIT("consumer"),
                           .protocols = p,
                           .protocols_n = m->alike ? 2 : 1,
                           .session_timeout_ms = SESSION_MS,
                           .rebalance_timeout_ms = REBALANCE_MS,
                           .member_id_required = true,
                           .skip_assignment = true};

    m->at = JOINING;
    group_join(m->w->x.f.b, &j, m->w->x.now, &m->wait, man_joined, m);
}

static void man_sync(struct man *m)
{
    struct group_assignment a[CLIENTS * 2];
    char text[CLIENTS * 2][LIMIT_MEMBER_ID + 32];
    struct group_sync y = {.group = SLICE_LIT("g"),
                           .member_id = slice_str(m->id),
                           .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                           .generation = m->generation,
                           .assignments = a,
                           .assignments_n = m->members_n};
    unsigned i;

    for (i = 0; i < m->members_n; i++) {
        snprintf(text[i], sizeof text[i], "%d/%s", m->generation, m->members[i]);
        a[i].member_id = slice_str(m->members[i]);
        a[i].assignment = slice_str(text[i]);
    }
    if (m->members_n)
        m->w->told[m->generation].spoken = true;
    m->at = SYNCING;
    group_sync(m->w->x.f.b, &y, m->w->x.now, &m->wait, man_synced, m);
}

static void man_beat(struct man *m)
{
    struct group_member gm = {.group = SLICE_LIT("g"),
                              .member_id = slice_str(m->id),
                              .instance_id = slice_str(m->instance[0] ? m->instance : NULL),
                              .generation = m->generation};
    enum err e = group_heartbeat(m->w->x.f.b, &gm, m->w->x.now);

    if (e == ERR_REBALANCE_IN_PROGRESS)
        m->at = IDLE;
    else if (e)
        m->at = OUT;
}

/* It goes without a word; a static one comes back as the same. */
static void man_die(struct man *m)
{
    group_wait_cancel(m->w->x.f.b, &m->wait);
    m->at = OUT;
    m->id[0] = 0;
}

static void man_leave(struct man *m)
{
    struct group_leaver l = {.member_id = slice_str(m->id),
                             .instance_id = slice_str(m->instance[0] ? m->instance : NULL)};

    group_wait_cancel(m->w->x.f.b, &m->wait);
    group_leave(m->w->x.f.b, SLICE_LIT("g"), &l, 1, m->w->x.now);
    m->at = OUT;
    m->id[0] = 0;
}

/* What a client would do next. */
static void man_step(struct man *m)
{
    switch (m->at) {
    case OUT:
        m->id[0] = 0;
        m->generation = 0;
        man_join(m);
        break;
    case IDLE:
        man_join(m);
        break;
    case JOINED:
        man_sync(m);
        break;
    case MEMBER:
        man_beat(m);
        break;
    case JOINING:
    case SYNCING:
        break;
    }
}

static void classic_crash(struct classic_world *w)
{
    struct group_conf conf;
    int i;

    for (i = 0; i < CLIENTS; i++) /* what is not durable yet must not have been told */
        man_step(&w->man[i]);
    for (i = 0; i < CLIENTS; i++)
        group_wait_cancel(w->x.f.b, &w->man[i].wait);
    groups_conf_get(w->x.f.b, &conf);
    if (rnd(2))
        fx_checkpoint(&w->x.f);
    fx_crash(&w->x.f);
    assert_int_equal(groups_conf_set(w->x.f.b, &conf, NULL), ERR_OK);
    for (i = 0; i < CLIENTS; i++)
        if (w->man[i].at == JOINING || w->man[i].at == SYNCING)
            w->man[i].at = IDLE; /* the connection broke: again, with the id */
}

static void classic_act(struct classic_world *w)
{
    struct man *m = &w->man[rnd(CLIENTS)];

    switch (rnd(40)) {
    case 0:
        man_die(m);
        break;
    case 1:
        man_leave(m);
        break;
    case 2:
        m->alike = rnd(4) != 0;
        if (m->at == MEMBER)
            man_join(m);
        break;
    case 3:
    case 4:
        mx_pass(&w->x, rnd(8000));
        break;
    case 5:
        if (m->at == JOINING || m->at == SYNCING) { /* a retry by another connection */
            group_wait_cancel(w->x.f.b, &m->wait);
            if (m->at == JOINING)
                man_join(m);
            else
                man_sync(m);
        }
        break;
    case 6:
        if (rnd(30) == 0)
            classic_crash(w);
        break;
    default:
        man_step(m);
        break;
    }
    if (rnd(3))
        broker_step(w->x.f.b);
}

/* Nobody comes or goes any more: all become members of one generation. */
static void classic_quiet(struct classic_world *w)
{
    int round, i;

    for (round = 0; round < 60; round++) {
        for (i = 0; i < CLIENTS; i++) {
            w->man[i].alike = true;
            man_step(&w->man[i]);
            broker_step(w->x.f.b);
        }
        mx_pass(&w->x, 2000);
    }
    for (i = 0; i < CLIENTS; i++) {
        assert_int_equal(w->man[i].at, MEMBER);
        assert_int_equal(w->man[i].generation, w->highest);
    }
}

static void classic_run(uint64_t seed)
{
    struct classic_world *w = calloc(1, sizeof *w);
    int i;

    rng = seed;
    mx_start(&w->x);
    w->told = calloc(GENERATIONS, sizeof *w->told);
    if (rnd(2)) {
        struct group_conf conf;

        groups_conf_get(w->x.f.b, &conf);
        conf.initial_rebalance_delay_ms = 3000;
        groups_conf_set(w->x.f.b, &conf, NULL);
    }
    for (i = 0; i < CLIENTS; i++) {
        w->man[i].w = w;
        w->man[i].alike = rnd(4) != 0;
        if (i < 3)
            snprintf(w->man[i].instance, sizeof w->man[i].instance, "i-%d", i);
    }
    for (i = 0; i < 3000; i++)
        classic_act(w);
    classic_quiet(w);
    assert_true(w->joins > 50 && w->syncs > 20);
    for (i = 0; i < CLIENTS; i++)
        man_die(&w->man[i]);
    mx_pass(&w->x, 600000);
    assert_int_equal(atomic_load(&w->x.f.b->coordinator->live), 0);
    assert_int_equal(atomic_load(&w->x.f.b->coordinator->bytes), 0);
    free(w->told);
    mx_end(&w->x);
    free(w);
}

static void test_classic(void **state)
{
    uint64_t seed;

    for (seed = 1; seed <= 12; seed++)
        classic_run(seed);
}

/* ---- consumer ---- */

#define WORKERS    8
#define TOPICS     3
#define PARTITIONS 12

struct worker {
    struct consumer_world *w;
    struct group_wait wait;
    char id[64], instance[8];
    bool in, deaf; /* deaf: this answer is lost */
    int32_t epoch;
    unsigned topics; /* bits */
    bool regex;
    int64_t beat_ms;
    bool own[TOPICS][PARTITIONS], next[TOPICS][PARTITIONS], has_next;
    enum err e;
};

struct consumer_world {
    struct mx x;
    struct topic *topic[TOPICS];
    struct worker worker[WORKERS];
    int32_t highest; /* epoch told */
    unsigned made;   /* ids */
    uint64_t beats;
};

static const char *const topic_names[TOPICS] = {"ta", "tb", "uc"};

static void owned_check(struct consumer_world *w)
{
    int t, p, i, n;

    for (t = 0; t < TOPICS; t++)
        for (p = 0; p < PARTITIONS; p++) {
            for (i = n = 0; i < WORKERS; i++)
                n += w->worker[i].own[t][p];
            assert_in_range(n, 0, 1);
        }
}

static void abandon(struct worker *k)
{
    k->in = k->has_next = false;
    memset(k->own, 0, sizeof k->own);
}

static void worker_told(void *arg, const struct group_consumer_result *r)
{
    struct worker *k = arg;
    unsigned i, n;
    int t;

    k->e = r->e;
    if (k->deaf)
        return;
    if (r->e) {
        assert_true(r->e == ERR_UNKNOWN_MEMBER || r->e == ERR_FENCED_MEMBER_EPOCH ||
                    r->e == ERR_UNRELEASED_INSTANCE || r->e == ERR_FENCED_INSTANCE);
        abandon(k);
        return;
    }
    if (r->member_epoch < 0)
        return;
    if (r->member_epoch > k->w->highest)
        k->w->highest = r->member_epoch;
    assert_true(r->member_epoch >= k->epoch);
    k->epoch = r->member_epoch;
    k->in = true;
    if (!r->has_assignment)
        return;
    k->has_next = true;
    memset(k->next, 0, sizeof k->next);
    for (i = 0; i < r->assignment_n; i++) {
        for (t = 0; !slice_eq_str(r->assignment[i].topic, topic_names[t]); t++)
            assert_true(t + 1 < TOPICS);
        for (n = 0; n < r->assignment[i].n; n++)
            k->next[t][r->assignment[i].partitions[n]] = true;
    }
}

/* What it was told: gives up what it no longer has, takes what is new. */
static void worker_apply(struct worker *k)
{
    if (!k->has_next)
        return;
    memcpy(k->own, k->next, sizeof k->own);
    k->has_next = false;
    owned_check(k->w);
}

static void worker_beat(struct worker *k, bool full, int32_t epoch)
{
    struct group_topic_partitions owned[TOPICS];
    int32_t parts[TOPICS][PARTITIONS];
    struct slice names[TOPICS];
    struct group_consumer_heartbeat h = {.group = SLICE_LIT("g"),
                                         .member_id = slice_str(k->id),
                                         .member_epoch = epoch,
                                         .instance_id =
                                             slice_str(k->instance[0] ? k->instance : NULL),
                                         .rebalance_timeout_ms = full ? REBALANCE_MS : -1,
                                         .owned = owned};
    int t, p;

    for (t = 0; t < TOPICS; t++) {
        struct group_topic_partitions *o = &owned[h.owned_n];

        o->n = 0;
        for (p = 0; p < PARTITIONS; p++)
            if (k->own[t][p])
                parts[t][o->n++] = p;
        o->partitions = parts[t];
        memcpy(o->topic_uuid, topic_uuid(k->w->topic[t]), 16);
        h.owned_n += o->n > 0;
    }
    if (full) {
        h.topics = names;
        for (t = 0; t < TOPICS; t++)
            if (!k->regex && k->topics >> t & 1)
                names[h.topics_n++] = slice_str(topic_names[t]);
        h.topic_regex = k->regex ? SLICE_LIT("t.*") : SLICE_LIT("");
    }
    k->w->beats++;
    k->beat_ms = k->w->x.now;
    group_consumer_heartbeat(k->w->x.f.b, &h, k->w->x.now, &k->wait, worker_told, k);
    broker_step(k->w->x.f.b);
}

static void worker_enter(struct worker *k, bool same_id)
{
    abandon(k);
    k->epoch = 0;
    if (!same_id)
        snprintf(k->id, sizeof k->id, "w%u", k->w->made++);
    worker_beat(k, true, 0);
}

static void worker_step(struct worker *k)
{
    if (!k->in) {
        worker_enter(k, k->id[0] && rnd(2));
        return;
    }
    worker_apply(k);
    worker_beat(k, rnd(5) == 0, k->epoch);
}

/* Those that said nothing for long must take themselves for out, as real ones do. */
static void late_check(struct consumer_world *w)
{
    int i;

    for (i = 0; i < WORKERS; i++)
        if (w->worker[i].in && w->x.now - w->worker[i].beat_ms >= 20000)
            abandon(&w->worker[i]);
}

static void consumer_act(struct consumer_world *w)
{
    struct worker *k = &w->worker[rnd(WORKERS)];
    int t = (int)rnd(TOPICS);

    switch (rnd(40)) {
    case 0:
        abandon(k); /* dies */
        k->id[0] = 0;
        break;
    case 1:
        if (k->in) {
            memset(k->own, 0, sizeof k->own);
            worker_beat(k, false,
                        k->instance[0] && rnd(2) ? GROUP_EPOCH_LEAVE_STATIC : GROUP_EPOCH_LEAVE);
            abandon(k);
            k->id[0] = 0;
        }
        break;
    case 2:
        k->topics = 1 + rnd(7);
        k->regex = rnd(4) == 0;
        if (k->in) {
            worker_apply(k);
            worker_beat(k, true, k->epoch);
        }
        break;
    case 3:
    case 4:
        mx_pass(&w->x, rnd(6000));
        late_check(w);
        break;
    case 5:
        if (rnd(10) == 0 && topic_partitions(w->topic[t]) < PARTITIONS)
            assert_int_equal(topic_alter_wait(w->x.f.b, slice_str(topic_names[t]),
                                              topic_partitions(w->topic[t]) + 1, NULL, NULL),
                             ERR_OK);
        break;
    case 6:
        if (k->in) { /* the answer is lost: it will say again what it last said */
            k->deaf = true;
            worker_beat(k, false, k->epoch);
            k->deaf = false;
        }
        break;
    default:
        worker_step(k);
        break;
    }
}

static void consumer_quiet(struct consumer_world *w)
{
    unsigned wanted = 0;
    int round, i, t, p, n;

    for (round = 0; round < 60; round++) {
        for (i = 0; i < WORKERS; i++)
            worker_step(&w->worker[i]);
        mx_pass(&w->x, 2000);
    }
    for (i = 0; i < WORKERS; i++) {
        worker_apply(&w->worker[i]);
        assert_true(w->worker[i].in);
        wanted |= w->worker[i].regex ? 3u : w->worker[i].topics;
        assert_int_equal(w->worker[i].epoch, w->highest);
    }
    assert_state(&w->x, "g", GROUP_STABLE);
    for (t = 0; t < TOPICS; t++)
        for (p = 0; p < PARTITIONS; p++) {
            for (i = n = 0; i < WORKERS; i++)
                n += w->worker[i].own[t][p];
            assert_int_equal(n, (wanted >> t & 1) && p < topic_partitions(w->topic[t]));
        }
}

static void consumer_run(uint64_t seed)
{
    struct consumer_world *w = calloc(1, sizeof *w);
    int i;

    rng = seed;
    mx_start(&w->x);
    for (i = 0; i < TOPICS; i++)
        w->topic[i] = fx_topic(&w->x.f, topic_names[i], 1 + (int32_t)rnd(6));
    for (i = 0; i < WORKERS; i++) {
        w->worker[i].w = w;
        w->worker[i].topics = 1 + rnd(7);
        if (i < 3)
            snprintf(w->worker[i].instance, sizeof w->worker[i].instance, "i-%d", i);
    }
    for (i = 0; i < 3000; i++)
        consumer_act(w);
    consumer_quiet(w);
    assert_true(w->beats > 1000 && w->highest > 20);
    mx_pass(&w->x, 600000);
    assert_state(&w->x, "g", GROUP_EMPTY);
    assert_true(group_generation(w->x.f.b, SLICE_LIT("g")) >= w->highest);
    assert_int_equal(atomic_load(&w->x.f.b->coordinator->bytes), 0);
    for (i = 0; i < TOPICS; i++)
        topic_unref(&w->topic[i]);
    mx_end(&w->x);
    free(w);
}

static void test_consumer(void **state)
{
    uint64_t seed;

    for (seed = 1; seed <= 12; seed++)
        consumer_run(seed);
}

/* ---- threads ---- */

#define THREADS 4

struct hand {
    struct fx *f;
    struct group_wait wait;
    struct io_mutex lock;
    struct io_cond cond;
    bool answered;
    enum err e;
    char id[LIMIT_MEMBER_ID + 1];
    int32_t generation;
    unsigned number, waits; /* every fifth is cut short */
    atomic_uint stable;     /* times that it was a member with an assignment */
    atomic_bool *stop;
};

static int64_t mono_ms(void)
{
    return (int64_t)(io_mono_ns(io_real()) / 1000000);
}

static void hand_joined(void *arg, const struct group_join_result *r)
{
    struct hand *h = arg;

    io_mutex_lock(&h->lock);
    h->answered = true;
    h->e = r->e;
    h->generation = r->generation;
    if (r->member_id.len && r->member_id.len < sizeof h->id) {
        memcpy(h->id, r->member_id.ptr, r->member_id.len);
        h->id[r->member_id.len] = 0;
    }
    io_cond_signal(&h->cond);
    io_mutex_unlock(&h->lock);
}

static void hand_synced(void *arg, const struct group_sync_result *r)
{
    struct hand *h = arg;

    io_mutex_lock(&h->lock);
    h->answered = true;
    h->e = r->e;
    io_cond_signal(&h->cond);
    io_mutex_unlock(&h->lock);
}

/* Waits for the answer, a while; then it is cancelled. */
static enum err hand_wait(struct hand *h)
{
    uint64_t end = io_mono_ns(io_real()) + (++h->waits % 5 ? 2000000000u : 5000000u);
    enum err e;

    io_mutex_lock(&h->lock);
    while (!h->answered && io_mono_ns(io_real()) < end)
        io_cond_wait_ns(&h->cond, &h->lock, 5000000);
    io_mutex_unlock(&h->lock);
    group_wait_cancel(h->f->b, &h->wait);
    io_mutex_lock(&h->lock);
    e = h->answered ? h->e : ERR_AGAIN;
    h->answered = false;
    io_mutex_unlock(&h->lock);
    return e;
}

static void hand_turn(struct hand *h)
{
    struct group_protocol p = {SLICE_LIT("range"), SLICE_LIT("x")};
    struct group_join j = {.group = h->number % 2 ? SLICE_LIT("g") : SLICE_LIT("h"),
                           .member_id = slice_str(h->id),
                           .protocol_type = SLICE_LIT("consumer"),
                           .protocols = &p,
                           .protocols_n = 1,
                           .session_timeout_ms = 500,
                           .rebalance_timeout_ms = 300};
    struct group_sync y = {.group = j.group, .member_id = j.member_id};
    struct group_member m = {.group = j.group, .member_id = j.member_id};
    struct group_leaver l = {.member_id = j.member_id};
    enum err e;

    group_join(h->f->b, &j, mono_ms(), &h->wait, hand_joined, h);
    e = hand_wait(h);
    if (e == ERR_UNKNOWN_MEMBER)
        h->id[0] = 0;
    if (e)
        return;
    y.member_id = m.member_id = l.member_id = slice_str(h->id);
    y.generation = m.generation = h->generation;
    group_sync(h->f->b, &y, mono_ms(), &h->wait, hand_synced, h);
    e = hand_wait(h);
    if (e == ERR_OK)
        atomic_fetch_add(&h->stable, 1);
    group_heartbeat(h->f->b, &m, mono_ms());
    group_commit_check(h->f->b, &m, false, mono_ms());
    if (++h->number % 3 == 0) {
        group_leave(h->f->b, j.group, &l, 1, mono_ms());
        h->id[0] = 0;
    }
}

static void hand_run(void *arg)
{
    struct hand *h = arg;
    struct group_description d;

    while (!atomic_load(h->stop)) {
        hand_turn(h);
        MUST(group_describe(h->f->b, SLICE_LIT("g"), &d) == ERR_OK);
        group_description_fini(&d);
    }
}

static void ticker(void *arg)
{
    struct hand *h = arg;

    while (!atomic_load(h->stop)) {
        groups_tick(h->f->b, mono_ms());
        io_mutex_lock(&h->lock);
        io_cond_wait_ns(&h->cond, &h->lock, 5000000);
        io_mutex_unlock(&h->lock);
    }
}

static void test_threads(void **state)
{
    struct io_thread *thread[THREADS + 1];
    struct hand hand[THREADS + 1];
    struct group_conf conf;
    atomic_bool stop = false;
    unsigned i, round, stable = 0;
    struct fx f;

    fx_start(&f, true);
    group_conf_default(&conf);
    conf.initial_rebalance_delay_ms = 10;
    conf.session_timeout_ms_min = 500;
    assert_int_equal(groups_conf_set(f.b, &conf, NULL), ERR_OK);
    memset(hand, 0, sizeof hand);
    for (i = 0; i <= THREADS; i++) {
        hand[i].f = &f;
        hand[i].stop = &stop;
        hand[i].number = i;
        io_mutex_init(&hand[i].lock);
        io_cond_init(&hand[i].cond);
        assert_int_equal(io_thread_start("hand", IO_PRIO_NORMAL, i ? hand_run : ticker, &hand[i],
                                         &thread[i], NULL),
                         ERR_OK);
    }
    for (round = 0; round < 900 && (round < 10 || stable < 4); round++) {
        usleep(100000);
        for (i = stable = 0; i <= THREADS; i++)
            stable += atomic_load(&hand[i].stable);
    }
    atomic_store(&stop, true);
    for (i = 0; i <= THREADS; i++)
        io_thread_join(&thread[i]);
    assert_true(stable >= 4);
    groups_drain(f.b);
    for (i = 0; i <= THREADS; i++) {
        io_cond_fini(&hand[i].cond);
        io_mutex_fini(&hand[i].lock);
    }
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classic),
        cmocka_unit_test(test_consumer),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
