/* Streams groups: topologies and the topics that they need, who gets which task, how tasks go from
 * member to member, what is told, epochs, kinds, restarts. */
#include "broker/streams.h"

#include "base/buf.h"
#include "base/tbl/limits.h"
#include "broker/streams_int.h"
#include "members_fixture.h"

#define G "app"

/* ---- the assignor ---- */

#define MOST 12

struct asker {
    struct streams_assign_sub subs[4];
    uint32_t subs_n, n, processes_n, standbys;
    struct streams_assign_member m[MOST];
    struct task_sets had[MOST];
    char ids[MOST][8];
};

static void ask(struct asker *a, const uint32_t *processes, uint32_t n)
{
    uint32_t i;

    a->n = n;
    a->processes_n = 0;
    for (i = 0; i < n; i++) {
        snprintf(a->ids[i], sizeof a->ids[i], "m%02u", i);
        a->m[i] = (struct streams_assign_member){
            .id = slice_str(a->ids[i]), .process = processes[i], .had = &a->had[i]};
        if (processes[i] >= a->processes_n)
            a->processes_n = processes[i] + 1;
    }
    streams_assign(a->subs, a->subs_n, a->m, n, a->processes_n, a->standbys);
}

/* What was given is what they had. */
static void keep(struct asker *a)
{
    uint32_t i;

    for (i = 0; i < a->n; i++) {
        task_sets_fini(&a->had[i]);
        a->had[i] = a->m[i].gets;
        memset(&a->m[i].gets, 0, sizeof a->m[i].gets);
    }
}

static void asker_fini(struct asker *a)
{
    uint32_t i;

    for (i = 0; i < MOST; i++) {
        task_sets_fini(&a->had[i]);
        task_sets_fini(&a->m[i].gets);
    }
}

static uint32_t tasks_n(const struct task_sets *s)
{
    return s->of[STREAMS_ACTIVE].n + s->of[STREAMS_STANDBY].n + s->of[STREAMS_WARMUP].n;
}

/* Every task once active, as often standby as there are processes for, and once in a process. */
static void complete(const struct asker *a)
{
    uint32_t s, i, least = UINT32_MAX, most = 0, want;
    int32_t p;

    for (s = 0; s < a->subs_n; s++)
        for (p = 0; p < a->subs[s].tasks; p++) {
            uint32_t active = 0, standby = 0, in[MOST] = {0};
            struct topic_part t = {s, p};

            for (i = 0; i < a->n; i++) {
                bool ha = part_set_has(&a->m[i].gets.of[STREAMS_ACTIVE], t);
                bool hs = part_set_has(&a->m[i].gets.of[STREAMS_STANDBY], t);

                active += ha;
                standby += hs;
                in[a->m[i].process] += ha + hs;
            }
            want = a->standbys < a->processes_n - 1 ? a->standbys : a->processes_n - 1;
            assert_int_equal(active, 1);
            assert_int_equal(standby, a->subs[s].stateful ? want : 0);
            for (i = 0; i < a->processes_n; i++)
                assert_in_range(in[i], 0, 1);
        }
    for (i = 0; i < a->n; i++) {
        uint32_t n = a->m[i].gets.of[STREAMS_ACTIVE].n;

        assert_int_equal(a->m[i].gets.of[STREAMS_WARMUP].n, 0);
        least = n < least ? n : least;
        most = n > most ? n : most;
    }
    if (a->standbys == 0)
        assert_true(most - least <= 1);
}

/* Of the active tasks, how many are where they were. */
static uint32_t stayed(const struct asker *a)
{
    uint32_t i, k, n = 0;

    for (i = 0; i < a->n; i++)
        for (k = 0; k < a->m[i].gets.of[STREAMS_ACTIVE].n; k++)
            n += part_set_has(&a->had[i].of[STREAMS_ACTIVE], a->m[i].gets.of[STREAMS_ACTIVE].v[k]);
    return n;
}

static void test_assign_spread(void **state)
{
    static const uint32_t own[] = {0, 1, 2, 3, 4, 5, 6}, one[] = {0, 0, 0};
    struct asker a = {.subs = {{5, true}, {3, false}, {1, true}}, .subs_n = 3};
    uint32_t n;

    for (n = 1; n <= 7; n++) {
        for (a.standbys = 0; a.standbys <= 2; a.standbys++) {
            ask(&a, own, n);
            complete(&a);
            keep(&a);
        }
        asker_fini(&a);
        memset(a.had, 0, sizeof a.had);
    }
    a.standbys = 1; /* one process: nowhere to have a standby */
    ask(&a, one, 3);
    complete(&a);
    asker_fini(&a);
}

static void test_assign_sticky(void **state)
{
    static const uint32_t own[] = {0, 1, 2, 3};
    struct asker a = {.subs = {{6, true}, {6, false}}, .subs_n = 2};

    ask(&a, own, 3);
    keep(&a);
    ask(&a, own, 3); /* nothing has changed */
    complete(&a);
    assert_int_equal(stayed(&a), 12);
    keep(&a);
    ask(&a, own, 4); /* one comes: only what it gets moves */
    complete(&a);
    assert_int_equal(stayed(&a), 9);
    assert_int_equal(a.m[3].gets.of[STREAMS_ACTIVE].n, 3);
    keep(&a);
    ask(&a, own, 3); /* and goes: what others have stays */
    complete(&a);
    assert_int_equal(stayed(&a), 9);
    asker_fini(&a);
}

static void test_assign_standby_takes_over(void **state)
{
    static const uint32_t own[] = {0, 1, 2};
    struct asker a = {.subs = {{6, true}}, .subs_n = 1, .standbys = 1};
    struct part_set gone = {NULL, 0, 0};
    uint32_t i, k, took = 0, full = 0;

    ask(&a, own, 3);
    complete(&a);
    assert_int_equal(tasks_n(&a.m[0].gets), 4);
    keep(&a);
    part_set_copy(&gone, &a.had[2].of[STREAMS_ACTIVE]);
    ask(&a, own, 2);
    complete(&a);
    for (i = 0; i < 2; i++)
        for (k = 0; k < gone.n; k++) {
            if (!part_set_has(&a.had[i].of[STREAMS_STANDBY], gone.v[k]))
                continue;
            took += part_set_has(&a.m[i].gets.of[STREAMS_ACTIVE], gone.v[k]);
            full += a.m[i].gets.of[STREAMS_ACTIVE].n == 3;
        }
    assert_true(took == gone.n || (took > 0 && full > 0)); /* as many as it may have */
    part_set_fini(&gone);
    asker_fini(&a);
}

/* ---- members ---- */

struct runner {
    struct mx *x;
    const char *id, *instance, *process, *host;
    const struct streams_topology *topology;
    struct group_wait wait;
    int32_t epoch, endpoint_epoch, standbys, delay, interval;
    /* the group has no configuration of its own; but for this */
    bool server_conf, own_session;
    bool shutdown;
    /* answers */
    enum err e;
    bool told, endpoints_told;
    unsigned status; /* bits */
    int32_t heartbeat_ms;
    char text[256], detail[512], tasks[STREAMS_ROLES][128], endpoints[256], missing[2048];
};

static void parts_text(struct buf *b, const int32_t *p, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        assert_int_equal(buf_printf(b, "%s%d", i ? "," : "", (int)p[i]), ERR_OK);
}

static void text_of(struct buf *b, char *out, size_t size)
{
    text_keep(out, size, buf_slice(b));
    buf_clear(b);
}

static void tasks_told(struct runner *m, const struct group_streams_result *r, struct buf *b)
{
    unsigned i, k;

    for (i = 0; r->has_tasks && i < STREAMS_ROLES; i++) {
        for (k = 0; k < r->tasks_n[i]; k++) {
            const struct streams_tasks *ts = &r->tasks[i][k];

            buf_printf(b, "%s%.*s:", k ? " " : "", (int)ts->subtopology.len,
                       (const char *)ts->subtopology.ptr);
            parts_text(b, ts->partitions, ts->n);
        }
        text_of(b, m->tasks[i], sizeof m->tasks[i]);
    }
}

static void endpoints_told(struct runner *m, const struct group_streams_result *r, struct buf *b)
{
    unsigned i, k;

    for (i = 0; i < r->endpoints_n; i++) {
        const struct streams_endpoint *e = &r->endpoints[i];

        buf_printf(b, "%s%.*s:%d", i ? "; " : "", (int)e->host.len, (const char *)e->host.ptr,
                   (int)e->port);
        for (k = 0; k < e->active_n; k++) {
            buf_printf(b, " %.*s ", (int)e->active[k].topic.len,
                       (const char *)e->active[k].topic.ptr);
            parts_text(b, e->active[k].partitions, e->active[k].n);
        }
    }
    text_of(b, m->endpoints, sizeof m->endpoints);
}

static void on_beat(void *arg, struct group_streams_result *r)
{
    struct runner *m = arg;
    struct buf b;
    unsigned i;

    m->e = r->e;
    m->heartbeat_ms = r->heartbeat_ms;
    snprintf(m->text, sizeof m->text, "%s", r->text ? r->text : "");
    if (r->e)
        return;
    buf_init(&b, 4096);
    assert_true(slice_eq_str(r->member_id, m->id));
    m->epoch = r->member_epoch;
    m->told = r->has_tasks;
    m->endpoint_epoch = r->endpoint_epoch;
    m->endpoints_told = r->has_endpoints;
    m->status = 0;
    for (i = 0; i < r->status_n; i++) {
        m->status |= 1u << r->status[i].code;
        text_keep(m->detail, sizeof m->detail, r->status[i].text);
    }
    tasks_told(m, r, &b);
    if (r->has_endpoints)
        endpoints_told(m, r, &b);
    for (i = 0; i < r->missing_n; i++)
        buf_printf(&b, "%s%.*s %d", i ? ", " : "", (int)r->missing[i].name.len,
                   (const char *)r->missing[i].name.ptr, (int)r->missing[i].partitions);
    text_of(&b, m->missing, sizeof m->missing);
    buf_fini(&b);
}

#define OWNED_MOST 16

/* Tasks as text, as they were told, are taken apart again: "0:1,2 1:0". */
static unsigned owned_of(const char *text, struct streams_tasks *ts, int32_t *parts)
{
    unsigned n = 0, k = 0;

    while (*text) {
        const char *colon = strchr(text, ':');
        char *end = (char *)(uintptr_t)colon;

        ts[n] = (struct streams_tasks){slice_of(text, (size_t)(colon - text)), &parts[k], 0};
        do {
            parts[k++] = (int32_t)strtol(end + 1, &end, 10);
            ts[n].n++;
        } while (*end == ',');
        assert_true(k < OWNED_MOST);
        text = *end ? end + 1 : end;
        n++;
    }
    return n;
}

/* A heartbeat at this epoch, with these tasks (NULL: not said). */
static enum err beat_with(struct runner *m, int32_t epoch, const char *const owned[STREAMS_ROLES])
{
    struct streams_tasks ts[STREAMS_ROLES][OWNED_MOST];
    int32_t parts[STREAMS_ROLES][OWNED_MOST];
    struct group_streams_heartbeat h = {.group = SLICE_LIT(G),
                                        .member_id = slice_str(m->id),
                                        .member_epoch = epoch,
                                        .endpoint_epoch = m->endpoint_epoch,
                                        .instance_id = slice_str(m->instance),
                                        .client_id = SLICE_LIT("client"),
                                        .client_host = SLICE_LIT("/host"),
                                        .process_id = slice_str(m->process),
                                        .rebalance_timeout_ms = -1,
                                        .endpoint_host = slice_str(m->host),
                                        .endpoint_port = 7000,
                                        .shutdown = m->shutdown,
                                        .session_timeout_ms = SESSION_MS,
                                        .heartbeat_ms = 500,
                                        .standby_replicas = m->standbys,
                                        .initial_delay_ms = m->delay,
                                        .interval_ms = m->interval};
    unsigned r;

    if (m->server_conf)
        h.session_timeout_ms = h.heartbeat_ms = h.standby_replicas = h.initial_delay_ms =
            h.interval_ms = -1;
    if (m->own_session)
        h.session_timeout_ms = SESSION_MS;
    for (r = 0; owned && r < STREAMS_ROLES; r++) {
        h.owned_n[r] = owned_of(owned[r], ts[r], parts[r]);
        h.owned[r] = ts[r];
    }
    if (epoch == GROUP_EPOCH_JOIN) {
        h.topology = m->topology;
        h.rebalance_timeout_ms = REBALANCE_MS;
        for (r = 0; r < STREAMS_ROLES; r++)
            h.owned[r] = ts[r];
    }
    m->e = ERR_INTERNAL;
    group_streams_heartbeat(m->x->f.b, &h, m->x->now, &m->wait, on_beat, m);
    broker_step(m->x->f.b);
    return m->e;
}

static enum err beat_as(struct runner *m, int32_t epoch)
{
    return beat_with(m, epoch, NULL);
}

#define beat(m) assert_int_equal(beat_as((m), (m)->epoch), ERR_OK)

/* It says that it runs what it was told, and only that. */
static void obey(struct runner *m)
{
    const char *owned[STREAMS_ROLES] = {m->tasks[0], m->tasks[1], m->tasks[2]};

    if (beat_with(m, m->epoch, owned))
        fail_msg("%s: %s: %s", m->id, err_code(m->e), m->text);
}

static struct runner join_as(struct mx *x, const char *id, const struct streams_topology *tp)
{
    struct runner m = {.x = x, .id = id, .process = id, .topology = tp};

    if (beat_as(&m, GROUP_EPOCH_JOIN))
        fail_msg("join: %s: %s", err_code(m.e), m.text);
    assert_true(m.told);
    return m;
}

#define has(m, text) assert_string_equal((m).tasks[STREAMS_ACTIVE], text)

/* One subtopology that reads "lines", with a store. */
static const struct slice lines[] = {{(const uint8_t *)"lines", 5}};
static const struct streams_topic store[] = {
    {.name = {(const uint8_t *)"app-store-changelog", 19}}};
static const struct streams_subtopology one_sub[] = {{.id = {(const uint8_t *)"0", 1},
                                                      .sources = lines,
                                                      .sources_n = 1,
                                                      .changelogs = store,
                                                      .changelogs_n = 1}};
static const struct streams_topology one = {1, one_sub, 1};

static void begin(struct mx *x, int partitions, bool changelog)
{
    struct topic *t;

    mx_start(x);
    t = fx_topic(&x->f, "lines", partitions);
    topic_unref(&t);
    if (changelog) {
        t = fx_topic(&x->f, "app-store-changelog", partitions);
        topic_unref(&t);
    }
}

static enum group_state app_state(struct mx *x)
{
    struct group_description d;
    enum group_state s;

    assert_int_equal(group_describe(x->f.b, SLICE_LIT(G), &d), ERR_OK);
    s = d.state;
    group_description_fini(&d);
    return s;
}

static void test_members(void **state)
{
    struct runner a, b;
    struct mx x;

    begin(&x, 4, true);
    a = join_as(&x, "a", &one);
    has(a, "0:0,1,2,3");
    assert_int_equal(a.epoch, 2);
    obey(&a);
    assert_false(a.told);
    assert_int_equal(app_state(&x), GROUP_STABLE);
    b = join_as(&x, "b", &one);
    has(b, ""); /* a has them still */
    assert_int_equal(app_state(&x), GROUP_RECONCILING);
    beat(&a);
    assert_true(a.told);
    has(a, "0:0,1");
    beat(&b);
    assert_false(b.told);
    beat(&a); /* it does not say that it gave them up */
    beat(&b);
    assert_false(b.told);
    obey(&a);
    assert_int_equal(a.epoch, b.epoch);
    beat(&b);
    has(b, "0:2,3");
    assert_int_equal(app_state(&x), GROUP_STABLE);
    /* it leaves: its tasks are free at once */
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE), ERR_OK);
    beat(&a);
    has(a, "0:0,1,2,3");
    /* and who is silent is out */
    b = join_as(&x, "b", &one);
    obey(&a);
    obey(&a);
    mx_pass(&x, SESSION_MS - 1);
    beat(&a);
    mx_pass(&x, 1);
    assert_int_equal(beat_as(&b, b.epoch), ERR_UNKNOWN_MEMBER);
    beat(&a);
    has(a, "0:0,1,2,3");
    fx_end(&x.f);
}

static void test_rebalance_timeout(void **state)
{
    struct runner a, b;
    struct mx x;
    int64_t end;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    b = join_as(&x, "b", &one);
    beat(&a);
    has(a, "0:0");
    for (end = x.now + REBALANCE_MS; x.now < end; mx_pass(&x, 5000)) {
        beat(&a); /* alive, but it does not give up */
        beat(&b);
        assert_false(b.told);
    }
    assert_int_equal(beat_as(&a, a.epoch), ERR_UNKNOWN_MEMBER);
    beat(&b);
    has(b, "0:0,1");
    fx_end(&x.f);
}

static void test_epochs(void **state)
{
    static const char *const other[STREAMS_ROLES] = {"0:0,1,2", "", ""};
    static const char *const nothing[STREAMS_ROLES] = {"", "", ""};
    static const char *const bad[STREAMS_ROLES] = {"0:9", "", ""}, *const none[] = {"7:0", "", ""};
    struct runner a, b;
    struct mx x;
    int32_t old;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    obey(&a);
    old = a.epoch;
    b = join_as(&x, "b", &one);
    beat(&a);
    obey(&a);
    assert_true(a.epoch > old);
    assert_int_equal(beat_as(&a, a.epoch + 1), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat_with(&a, old, nothing), ERR_OK); /* the answer was lost */
    assert_int_equal(beat_as(&a, old), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat_with(&a, old, other), ERR_FENCED_MEMBER_EPOCH);
    assert_int_equal(beat_with(&a, a.epoch, bad), ERR_INVALID);
    assert_int_equal(beat_with(&a, a.epoch, none), ERR_INVALID);
    assert_int_equal(beat_as(&a, -3), ERR_INVALID);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE_STATIC), ERR_INVALID);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK); /* again, with nothing */
    assert_true(a.told);
    a.topology = NULL;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_INVALID);
    a.id = "";
    assert_int_equal(beat_as(&a, 1), ERR_INVALID);
    a.id = "nobody";
    assert_int_equal(beat_as(&a, 1), ERR_UNKNOWN_MEMBER);
    /* over a restart epochs do not go back; members join again */
    old = b.epoch;
    fx_crash(&x.f);
    assert_int_equal(beat_as(&b, b.epoch), ERR_UNKNOWN_MEMBER);
    assert_int_equal(app_state(&x), GROUP_EMPTY);
    b = join_as(&x, "b", &one);
    assert_true(b.epoch > old);
    has(b, "0:0,1");
    fx_end(&x.f);
}

static void test_static(void **state)
{
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .instance = "i", .process = "p", .topology = &one};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    has(a, "0:0,1");
    b = a;
    b.id = "b";
    memset(&b.wait, 0, sizeof b.wait);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_UNRELEASED_INSTANCE);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE_STATIC), ERR_OK);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK); /* it is the same member now */
    has(b, "0:0,1");
    assert_int_equal(beat_as(&a, 2), ERR_FENCED_INSTANCE);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_FENCED_INSTANCE);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE_STATIC), ERR_OK);
    mx_pass(&x, SESSION_MS);
    assert_int_equal(app_state(&x), GROUP_EMPTY);
    fx_end(&x.f);
}

/* Tasks go from a standby to the member that takes over, and are never twice in a process. */
static void test_standbys(void **state)
{
    struct runner a, b, c;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "p", .topology = &one, .standbys = 1};
    b = (struct runner){.x = &x, .id = "b", .process = "q", .topology = &one, .standbys = 1};
    c = (struct runner){.x = &x, .id = "c", .process = "p", .topology = &one, .standbys = 1};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    has(a, "0:0,1");
    assert_string_equal(a.tasks[STREAMS_STANDBY], "");
    beat(&a);
    obey(&a);
    obey(&b);
    obey(&a);
    has(a, "0:0");
    has(b, "0:1");
    assert_string_equal(a.tasks[STREAMS_STANDBY], "0:1");
    assert_string_equal(b.tasks[STREAMS_STANDBY], "0:0");
    assert_int_equal(app_state(&x), GROUP_STABLE);
    /* the active one goes: the standby becomes active, once it is no standby */
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    beat(&b);
    assert_string_equal(b.tasks[STREAMS_STANDBY], "");
    obey(&b);
    has(b, "0:0,1");
    /* fewer standbys are a new assignment */
    assert_int_equal(beat_as(&c, GROUP_EPOCH_JOIN), ERR_OK);
    obey(&b);
    obey(&b);
    obey(&c);
    c.standbys = b.standbys = 0;
    obey(&c);
    obey(&b);
    obey(&b);
    obey(&c);
    assert_string_equal(b.tasks[STREAMS_STANDBY], "");
    assert_string_equal(c.tasks[STREAMS_STANDBY], "");
    assert_int_equal(app_state(&x), GROUP_STABLE);
    fx_end(&x.f);
}

static void test_initial_delay(void **state)
{
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "a", .topology = &one, .delay = 3000};
    b = (struct runner){.x = &x, .id = "b", .process = "b", .topology = &one, .delay = 3000};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(a.status, 1u << STREAMS_DELAYED);
    assert_int_equal(a.epoch, 1);
    has(a, "");
    mx_pass(&x, 2000);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    has(b, "");
    assert_int_equal(app_state(&x), GROUP_ASSIGNING);
    mx_pass(&x, 1000);
    beat(&a);
    has(a, "0:0"); /* both at once, nothing is to be moved */
    beat(&b);
    has(b, "0:1");
    assert_int_equal(a.status | b.status, 0);
    assert_int_equal(app_state(&x), GROUP_STABLE);
    fx_end(&x.f);
}

/* The answer that told a task was lost: who says that it runs others is told again. */
static void test_lost_answer(void **state)
{
    static const char *const nothing[STREAMS_ROLES] = {"", "", ""};
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    obey(&a);
    b = join_as(&x, "b", &one);
    beat(&a);
    obey(&a);
    beat(&b);
    has(b, "0:1");
    beat(&b); /* says nothing of what it runs, and is told nothing */
    assert_false(b.told);
    assert_int_equal(beat_with(&b, b.epoch, nothing), ERR_OK);
    assert_true(b.told);
    has(b, "0:1");
    obey(&b);
    assert_false(b.told);
    fx_end(&x.f);
}

/* Who joins again, in another process, has there what that process has not. */
static void test_rejoin_elsewhere(void **state)
{
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "p", .topology = &one, .standbys = 1};
    b = (struct runner){.x = &x, .id = "b", .process = "q", .topology = &one, .standbys = 1};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    beat(&a);
    obey(&a);
    obey(&b);
    obey(&a);
    has(b, "0:1");
    assert_string_equal(a.tasks[STREAMS_STANDBY], "0:1");
    assert_string_equal(b.tasks[STREAMS_STANDBY], "0:0");
    b.process = "p";
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    has(b, ""); /* p has it as a standby still */
    assert_string_equal(b.tasks[STREAMS_STANDBY], "");
    beat(&a);
    assert_string_equal(a.tasks[STREAMS_STANDBY], "");
    obey(&a);
    obey(&b);
    has(b, "0:1");
    assert_int_equal(app_state(&x), GROUP_STABLE);
    fx_end(&x.f);
}

static int32_t app_epoch(struct mx *x, bool assigned)
{
    struct group_description d;
    int32_t epoch;

    assert_int_equal(group_describe(x->f.b, SLICE_LIT(G), &d), ERR_OK);
    epoch = assigned ? d.assignment_epoch : d.generation;
    group_description_fini(&d);
    return epoch;
}

/* A member that is another process with each heartbeat makes no more work than one that is so once. */
static void test_interval(void **state)
{
    struct runner a, b;
    struct mx x;
    char process[16];
    int32_t was;
    int i;

    begin(&x, 4, true);
    a = (struct runner){.x = &x, .id = "a", .process = process, .topology = &one, .interval = 1000};
    b = (struct runner){.x = &x, .id = "b", .process = "b", .topology = &one, .interval = 1000};
    snprintf(process, sizeof process, "p");
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    has(a, "0:0,1,2,3"); /* the first is made at once */
    was = app_epoch(&x, true);
    for (i = 0; i < 100; i++) {
        snprintf(process, sizeof process, "p%d", i);
        mx_pass(&x, 5);
        obey(&a);
        assert_int_equal(a.status, 1u << STREAMS_DELAYED);
        assert_string_equal(a.detail,
                            "Assignment delayed due to the configured assignment interval.");
        has(a, "0:0,1,2,3"); /* it goes on with what it has */
    }
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    has(b, "");
    assert_int_equal(b.epoch, was);
    assert_int_equal(app_epoch(&x, true), was);
    assert_int_equal(app_epoch(&x, false), was + 1);
    assert_int_equal(app_state(&x), GROUP_ASSIGNING);
    mx_pass(&x, 499);
    assert_int_equal(app_epoch(&x, true), was);
    mx_pass(&x, 1); /* it is over: one assignment for all that changed */
    assert_int_equal(app_epoch(&x, true), was + 1);
    beat(&a);
    has(a, "0:0,1");
    obey(&a);
    beat(&b);
    has(b, "0:2,3");
    assert_int_equal(a.status | b.status, 0);
    mx_pass(&x, 1000); /* and who comes when nothing was for so long waits for nothing */
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE), ERR_OK);
    beat(&a);
    has(a, "0:0,1,2,3");
    fx_end(&x.f);
}

/* That tasks are to be given up is told at once: the topics are not there. */
static void test_interval_unready(void **state)
{
    struct runner a;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "p", .topology = &one, .interval = 1000};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    has(a, "0:0,1");
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("app-store-changelog"), NULL), ERR_OK);
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    has(a, "");
    fx_end(&x.f);
}

/* What the server has holds for groups that have nothing of their own. */
static void test_server_conf(void **state)
{
    struct group_conf conf;
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    groups_conf_get(x.f.b, &conf);
    conf.streams_session_timeout_ms = 20000;
    conf.streams_heartbeat_ms = 7000;
    conf.streams_standby_replicas = 1;
    conf.streams_initial_delay_ms = 2000;
    conf.streams_interval_ms = 0;
    conf.streams_size_max = 2;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    a = (struct runner){.x = &x, .id = "a", .process = "p", .topology = &one, .server_conf = true};
    b = a;
    b.id = "b";
    b.process = "q";
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(a.heartbeat_ms, 7000);
    assert_int_equal(a.status, 1u << STREAMS_DELAYED);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    mx_pass(&x, 2000);
    beat(&a);
    has(a, "0:0");
    assert_string_equal(a.tasks[STREAMS_STANDBY], "0:1");
    beat(&b);
    mx_pass(&x, 19000);
    beat(&a); /* b is silent */
    mx_pass(&x, 999);
    assert_int_equal(beat_as(&b, b.epoch), ERR_OK);
    b.id = "c";
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_GROUP_MAX_SIZE);
    mx_pass(&x, 20000);
    assert_int_equal(beat_as(&a, a.epoch), ERR_UNKNOWN_MEMBER);
    /* the server's interval, where the group's own timeout is shorter than that */
    conf.streams_heartbeat_ms = SESSION_MS;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_OK);
    a.own_session = true;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(a.heartbeat_ms, (SESSION_MS + 2) / 3);
    conf.streams_heartbeat_ms = conf.streams_session_timeout_ms + 1;
    assert_int_equal(groups_conf_set(x.f.b, &conf, NULL), ERR_CONFIG);
    fx_end(&x.f);
}

/* ---- topologies that are kept ---- */

static void put_done(void *arg, enum err e, const struct errinfo *info)
{
    *(enum err *)arg = e;
}

/* One that comes when the group is no more is nothing; so it is after a restart. */
static void test_kept_late(void **state)
{
    enum err deleted = ERR_AGAIN, kept = ERR_AGAIN;
    struct slice topology = SLICE_LIT("topology");
    struct runner a;
    struct buf b;
    struct mx x;
    int i;

    begin(&x, 2, true);
    buf_init(&b, 100);
    a = join_as(&x, "a", &one);
    assert_int_equal(kv_put_wait(x.f.b, STREAMS_TOPOLOGY_NS, SLICE_LIT(G), topology, 0, NULL),
                     ERR_OK);
    assert_int_equal(kv_get(x.f.b, STREAMS_TOPOLOGY_NS, SLICE_LIT(G), &b), ERR_OK);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT(G), put_done, &deleted, NULL), ERR_OK);
    assert_int_equal(
        kv_put(x.f.b, STREAMS_TOPOLOGY_NS, SLICE_LIT(G), topology, 0, put_done, &kept, NULL),
        ERR_OK); /* an answer was on its way when the group was deleted */
    broker_step(x.f.b);
    assert_int_equal(deleted, ERR_OK);
    assert_int_equal(kept, ERR_OK);
    for (i = 0; i < 2; i++) {
        assert_int_equal(kv_get(x.f.b, STREAMS_TOPOLOGY_NS, SLICE_LIT(G), &b), ERR_NOT_FOUND);
        assert_int_equal(x.f.b->kvs.topologies.n + x.f.b->kvs.topologies_coming.n, 0);
        fx_reopen(&x.f);
    }
    buf_fini(&b);
    fx_end(&x.f);
}

static enum err keep_of(struct mx *x, unsigned group, struct slice topology)
{
    char name[16];

    snprintf(name, sizeof name, "g%05u", group);
    return kv_put_wait(x->f.b, STREAMS_TOPOLOGY_NS, slice_str(name), topology, 0, NULL);
}

/* They fill their part of the room for items, and no more. */
static void test_kept_room(void **state)
{
    static uint8_t bytes[LIMIT_KV_VALUE];
    struct slice large = slice_of(bytes, sizeof bytes), small = slice_of(bytes, 100);
    unsigned i, n = LIMIT_STREAMS_KEPT_BYTES / LIMIT_KV_VALUE;
    struct partition *p;
    enum err done = ERR_AGAIN;
    struct topic *t;
    struct mx x;
    char name[16];

    mx_start(&x);
    t = fx_topic(&x.f, "t", 1);
    p = topic_partition(t, 0);
    for (i = 0; i <= n; i++) {
        snprintf(name, sizeof name, "g%05u", i);
        assert_int_equal(group_commit_wait(x.f.b, slice_str(name), p, 1, SLICE_NULL, NULL), ERR_OK);
    }
    for (i = 0; i < n - 1; i++)
        assert_int_equal(keep_of(&x, i, large), ERR_OK);
    assert_int_equal(keep_of(&x, i, large), ERR_LIMIT); /* names take room, too */
    assert_int_equal(keep_of(&x, i, small), ERR_OK);
    assert_int_equal(x.f.b->kvs.topologies.n, n);
    assert_int_equal(keep_of(&x, n, large), ERR_LIMIT);
    for (i = 0; i < 10; i++) { /* others' items are put as ever */
        snprintf(name, sizeof name, "k%u", i);
        assert_int_equal(kv_put_wait(x.f.b, "other", slice_str(name), large, 0, NULL), ERR_OK);
    }
    assert_int_equal(group_remove(x.f.b, SLICE_LIT("g00000"), put_done, &done, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_int_equal(done, ERR_OK);
    assert_int_equal(keep_of(&x, n, large), ERR_OK);
    assert_int_equal(x.f.b->kvs.topologies_coming.n, 0);
    fx_reopen(&x.f);
    assert_int_equal(x.f.b->kvs.topologies.n, n);
    assert_int_equal(keep_of(&x, n - 1, large), ERR_LIMIT);
    topic_unref(&t);
    fx_end(&x.f);
}

/* ---- topologies ---- */

#define S(text)                                   \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

/* lines -> (repartition) -> counts; the second joins the repartition topic with "names". */
static const struct slice sinks[] = {S("app-words-repartition")}, names[] = {S("names")};
static const struct slice both[] = {S("lines"), S("wide")};
static const struct streams_pair compact[] = {{S("cleanup.policy"), S("compact")}};
static const struct streams_topic words[] = {{.name = S("app-words-repartition")}};
static const struct streams_topic counts[] = {
    {.name = S("app-counts-changelog"), .configs = compact, .configs_n = 1}};
static const int16_t first[] = {0};
static const struct streams_copartition joint[] = {{first, first, 1, 1}};

static void two_subs(struct streams_subtopology subs[2], bool joined)
{
    subs[0] = (struct streams_subtopology){
        .id = SLICE_LIT("0"), .sources = lines, .sources_n = 1, .sinks = sinks, .sinks_n = 1};
    subs[1] = (struct streams_subtopology){.id = SLICE_LIT("1"),
                                           .repartitions = words,
                                           .repartitions_n = 1,
                                           .changelogs = counts,
                                           .changelogs_n = 1};
    if (joined) {
        subs[1].sources = names;
        subs[1].sources_n = 1;
        subs[1].copartitions = joint;
        subs[1].copartitions_n = 1;
    }
}

static void make(struct mx *x, const char *name, int partitions)
{
    struct topic *t = fx_topic(&x->f, name, partitions);

    topic_unref(&t);
}

static void test_topics(void **state)
{
    struct streams_subtopology subs[2];
    struct streams_topology tp = {0, subs, 2};
    struct runner a;
    struct mx x;

    mx_start(&x);
    two_subs(subs, true);
    a = join_as(&x, "a", &tp);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_SOURCES);
    assert_string_equal(a.detail, "Source topics lines, names are missing.");
    assert_int_equal(app_state(&x), GROUP_NOT_READY);
    make(&x, "lines", 3);
    make(&x, "names", 2); /* the repartition topic is made to fit it */
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    assert_string_equal(a.missing, "app-counts-changelog 2, app-words-repartition 2");
    has(a, "");
    make(&x, "app-words-repartition", 2);
    beat(&a);
    assert_string_equal(a.missing, "app-counts-changelog 2");
    make(&x, "app-counts-changelog", 2);
    beat(&a);
    assert_int_equal(a.status, 0);
    has(a, "0:0,1,2 1:0,1");
    assert_int_equal(app_state(&x), GROUP_STABLE);
    /* more partitions: more tasks */
    assert_int_equal(topic_alter_wait(x.f.b, SLICE_LIT("lines"), 4, NULL, NULL), ERR_OK);
    beat(&a);
    has(a, "0:0,1,2,3 1:0,1");
    /* but not of what must fit */
    assert_int_equal(topic_alter_wait(x.f.b, SLICE_LIT("names"), 3, NULL, NULL), ERR_OK);
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_WRONG_PARTITIONS);
    has(a, "");
    fx_end(&x.f);
}

static void test_repartition_numbers(void **state)
{
    struct streams_topic fixed[] = {{.name = SLICE_LIT("app-words-repartition"), .partitions = 5}};
    struct streams_subtopology subs[2];
    struct streams_topology tp = {0, subs, 2};
    struct runner a;
    struct mx x;

    mx_start(&x);
    make(&x, "lines", 3);
    make(&x, "names", 2);
    two_subs(subs, false);
    a = join_as(&x, "a", &tp); /* as many as what is written to it comes from */
    assert_string_equal(a.missing, "app-counts-changelog 3, app-words-repartition 3");
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    subs[1].repartitions = fixed;
    a = join_as(&x, "a", &tp); /* as it says */
    assert_string_equal(a.missing, "app-counts-changelog 5, app-words-repartition 5");
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    two_subs(subs, true);
    subs[1].repartitions = fixed;
    a = join_as(&x, "a", &tp); /* but it is to be joined */
    assert_int_equal(a.status, 1u << STREAMS_WRONG_PARTITIONS);
    assert_non_null(strstr(a.detail, "names has 2"));
    fx_end(&x.f);
}

/* A table whose source topic is its changelog too: the topic is the user's. */
static void test_source_changelog(void **state)
{
    static const struct streams_topic itself[] = {{.name = S("lines")}};
    struct streams_subtopology subs[2];
    struct streams_topology tp = {0, subs, 2};
    struct runner a;
    struct mx x;

    mx_start(&x);
    two_subs(subs, true);
    subs[0].changelogs = itself;
    subs[0].changelogs_n = 1;
    make(&x, "names", 2);
    a = join_as(&x, "a", &tp);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_SOURCES);
    assert_string_equal(a.detail, "Source topics lines are missing.");
    assert_string_equal(a.missing, "");
    make(&x, "lines", 3);
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    assert_string_equal(a.missing, "app-counts-changelog 2, app-words-repartition 2");
    make(&x, "app-counts-changelog", 2);
    make(&x, "app-words-repartition", 2);
    beat(&a);
    assert_int_equal(a.status, 0);
    has(a, "0:0,1,2 1:0,1");
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    /* it has fewer partitions than another source of the subtopology, and is as it should be */
    two_subs(subs, true);
    subs[1].changelogs = itself;
    subs[1].sources = both;
    subs[1].sources_n = 2;
    subs[1].copartitions_n = 0;
    make(&x, "wide", 5);
    a = join_as(&x, "a", &tp);
    assert_string_equal(a.detail, "Existing topic app-words-repartition has different number of "
                                  "partitions: expected 3, found 2");
    subs[1].repartitions_n = 0;
    subs[0].sinks_n = 0;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    a = join_as(&x, "a", &tp);
    assert_int_equal(a.status, 0);
    has(a, "0:0,1,2 1:0,1,2,3,4");
    fx_end(&x.f);
}

/* Of very many topics that are to be made a heartbeat has some, and a later one the next. */
static void test_missing_many(void **state)
{
    enum { MANY = LIMIT_STREAMS_MAKES + 5 };
    static char text[MANY][8];
    struct streams_topic logs[MANY] = {0};
    struct streams_subtopology sub = one_sub[0];
    struct streams_topology tp = {1, &sub, 1};
    struct runner a;
    struct mx x;
    unsigned i;

    begin(&x, 1, false);
    for (i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof text[i], "log-%03u", i);
        logs[i].name = slice_str(text[i]);
    }
    sub.changelogs = logs;
    sub.changelogs_n = MANY;
    a = join_as(&x, "a", &tp);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    assert_string_equal(strrchr(a.missing, ','), ", log-099 1");
    for (i = 0; i < LIMIT_STREAMS_MAKES; i++)
        make(&x, text[i], 1);
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    assert_string_equal(a.missing, "log-100 1, log-101 1, log-102 1, log-103 1, log-104 1");
    for (; i < MANY; i++)
        make(&x, text[i], 1);
    beat(&a);
    assert_int_equal(a.status, 0);
    has(a, "0:0");
    fx_end(&x.f);
}

/* A topic that several subtopologies read: who has any of its tasks may commit what it read before. */
static void test_readers(void **state)
{
    struct streams_subtopology subs[3] = {one_sub[0], one_sub[0], one_sub[0]};
    struct streams_topology tp = {1, subs, 3};
    struct streams_group *sg;
    struct live_group g = {0};
    struct topic_part p;
    uint32_t at = 0;
    struct mx x;

    subs[1].id = SLICE_LIT("1");
    subs[1].sources = names;
    subs[2].id = SLICE_LIT("2");
    subs[2].sources = both;
    subs[2].sources_n = 2;
    mx_start(&x);
    sg = g.streams = test_calloc(1, sizeof *sg);
    g.broker = x.f.b;
    assert_int_equal(streams_topology_take(&g, &tp), ERR_OK);
    assert_true(streams_task_of(sg, SLICE_LIT("lines"), 4, &at, &p));
    assert_true(p.topic == 0 && p.partition == 4);
    assert_true(streams_task_of(sg, SLICE_LIT("lines"), 4, &at, &p));
    assert_true(p.topic == 2 && p.partition == 4);
    assert_false(streams_task_of(sg, SLICE_LIT("lines"), 4, &at, &p));
    at = 0;
    assert_true(streams_task_of(sg, SLICE_LIT("names"), 0, &at, &p));
    assert_int_equal(p.topic, 1);
    assert_false(streams_task_of(sg, SLICE_LIT("names"), 0, &at, &p));
    assert_false(streams_reads(&g, SLICE_LIT("app-store-changelog")));
    assert_false(streams_reads(&g, SLICE_LIT("other")));
    assert_true(streams_reads(&g, SLICE_LIT("wide")));
    streams_topology_fini(&g);
    test_free(sg);
    fx_end(&x.f);
}

/* A chain of subtopologies that comes in the wrong order: each passes its number on to the next. */
static void test_repartition_chain(void **state)
{
    enum { LONG = 30, WIDE = 2 };
    static char text[LONG][WIDE][32], ids[LONG][8];
    struct streams_topic links[LONG][WIDE] = {0};
    struct slice sinks_of[LONG][WIDE];
    struct streams_subtopology subs[LONG] = {0};
    struct streams_topology tp = {0, subs, LONG};
    struct runner a;
    struct mx x;
    unsigned i, k;

    mx_start(&x);
    make(&x, "lines", 3);
    for (i = 0; i < LONG; i++) {
        snprintf(ids[i], sizeof ids[i], "%02u", LONG - i);
        subs[i].id = slice_str(ids[i]);
        for (k = 0; k < WIDE; k++) {
            snprintf(text[i][k], sizeof text[i][k], "app-%02u-%u-repartition", i, k);
            sinks_of[i][k] = links[i][k].name = slice_str(text[i][k]);
        }
        if (i + 1 < LONG) {
            subs[i].sinks = sinks_of[i];
            subs[i].sinks_n = WIDE;
        }
        if (i > 0) {
            subs[i].repartitions = links[i - 1];
            subs[i].repartitions_n = WIDE;
        } else {
            subs[i].sources = lines;
            subs[i].sources_n = 1;
        }
    }
    a = join_as(&x, "a", &tp);
    assert_int_equal(a.status, 1u << STREAMS_MISSING_INTERNAL);
    assert_non_null(strstr(a.missing, "app-00-1-repartition 3, app-01-0-repartition 3"));
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    subs[0].sources_n = 0; /* it bites its tail */
    subs[0].repartitions = links[LONG - 1];
    subs[0].repartitions_n = WIDE;
    subs[LONG - 1].sinks = sinks_of[LONG - 1];
    subs[LONG - 1].sinks_n = WIDE;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    assert_non_null(strstr(a.text, "loops"));
    fx_end(&x.f);
}

static void test_bad_topologies(void **state)
{
    static const struct slice again[] = {S("lines"), S("names"), S("lines")};
    static const int16_t far[] = {1}, below[] = {-1};
    struct streams_copartition wild = {far, first, 1, 1};
    struct streams_topic fixed[] = {{.name = SLICE_LIT("app-counts-changelog"), .partitions = 2}};
    struct streams_subtopology subs[2];
    struct streams_topology tp = {0, subs, 2};
    struct runner a;
    struct mx x;

    mx_start(&x);
    make(&x, "lines", 3);
    a = (struct runner){.x = &x, .id = "a", .process = "a", .topology = &tp};
    two_subs(subs, false);
    subs[0].sinks_n = 0; /* nobody writes to the repartition topic */
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, false);
    subs[0].sources_n = 0; /* nothing to begin with */
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, false);
    subs[1].changelogs = fixed;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, true);
    subs[1].copartitions = &wild;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    wild.sources = below;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, false);
    subs[0].sources = again; /* it reads "lines" twice */
    subs[0].sources_n = 3;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    assert_string_equal(a.text, "subtopology 0 reads topic lines twice");
    two_subs(subs, false);
    subs[1].sources = sinks; /* and what it reads as a repartition topic */
    subs[1].sources_n = 1;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, false);
    subs[1].id = subs[0].id;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    assert_string_equal(a.text, "there are two subtopologies 0");
    subs[0].id = subs[1].id = SLICE_NULL;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    two_subs(subs, false);
    subs[0].sources_n = 0;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_STREAMS_TOPOLOGY);
    assert_string_equal(a.text, "No source topics found for subtopology 0");
    tp.n = LIMIT_STREAMS_SUBTOPOLOGIES + 1;
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_TOO_LARGE);
    assert_int_equal(app_state(&x), GROUP_DEAD); /* nothing of it stayed */
    fx_end(&x.f);
}

static void test_topology_epochs(void **state)
{
    struct streams_subtopology subs[2];
    struct streams_topology two = {1, subs, 2}, newer = one, older = one;
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    two_subs(subs, false);
    a = join_as(&x, "a", &one);
    b = (struct runner){.x = &x, .id = "b", .process = "b", .topology = &two};
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_INVALID); /* another one */
    newer.epoch = 2;
    b.topology = &newer;
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_INVALID);
    older.epoch = 0;
    b.topology = &older;
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(b.status, 1u << STREAMS_STALE_TOPOLOGY);
    /* the last member takes the topology with it */
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    b.topology = &newer;
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(b.status, 0);
    has(b, "0:0,1");
    fx_end(&x.f);
}

/* ---- what is told ---- */

static void test_endpoints(void **state)
{
    static const char *const nothing[STREAMS_ROLES] = {"", "", ""};
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "a", .topology = &one, .host = "ha"};
    b = (struct runner){.x = &x, .id = "b", .process = "b", .topology = &one, .host = "hb"};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_string_equal(a.endpoints, "ha:7000 lines 0,1");
    obey(&a);
    assert_false(a.endpoints_told);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    beat(&a);
    obey(&a);
    obey(&b);
    assert_string_equal(b.endpoints, "ha:7000 lines 0; hb:7000 lines 1");
    beat(&a);
    assert_string_equal(a.endpoints, b.endpoints);
    beat(&a);
    assert_false(a.endpoints_told);
    /* nothing is new: it joins again, or says that it runs what it does not */
    assert_int_equal(beat_as(&b, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(beat_with(&b, b.epoch, nothing), ERR_OK);
    assert_true(b.told);
    beat(&a);
    assert_false(a.endpoints_told);
    b.host = "hc"; /* it is elsewhere, with the tasks that it had */
    obey(&b);
    beat(&a);
    assert_string_equal(a.endpoints, "ha:7000 lines 0; hc:7000 lines 1");
    fx_end(&x.f);
}

/* Topics that are read by the same tasks share their partitions, and what is told has an end. */
static void test_endpoints_many(void **state)
{
    static uint32_t reads[500];
    struct streams_name *topics = test_calloc(500, sizeof *topics);
    struct streams_sub sub = {.reads = reads, .reads_n = 400};
    struct streams_group sg = {.names = topics, .names_n = 500, .subs = &sub};
    struct live_group g = {.streams = &sg};
    struct streams_member m = {.group = &g, .host = SLICE_LIT("h")};
    struct group_streams_result r = {0};
    struct arena a;
    int32_t i;

    list_init(&g.list);
    list_push_back(&g.list, &m.link);
    g.members.n = 1;
    for (i = 0; i < 500; i++) {
        reads[i] = (uint32_t)i;
        topics[i] = (struct streams_name){.name = SLICE_LIT("in"), .there = i == 1 ? 7 : 10000};
    }
    for (i = 0; i < 10000; i++)
        part_set_add(&m.assigned.of[STREAMS_ACTIVE], (struct topic_part){0, i});
    arena_init(&a, 512, SIZE_MAX / 2);
    streams__endpoints(&a, &g, &r);
    assert_true(r.has_endpoints && r.endpoints_n == 1 && r.endpoints[0].active_n == 400);
    assert_int_equal(r.endpoints[0].active[0].n, 10000);
    assert_int_equal(r.endpoints[0].active[1].n, 7); /* as many as the topic has */
    assert_ptr_equal(r.endpoints[0].active[1].partitions, r.endpoints[0].active[2].partitions);
    assert_int_equal(r.endpoints[0].active[399].partitions[9999], 9999);
    assert_true(a.total < 1 << 20);
    arena_reset(&a);
    r = (struct group_streams_result){0};
    sub.reads_n = 500; /* 20 MB, as they are written */
    streams__endpoints(&a, &g, &r);
    assert_false(r.has_endpoints || r.endpoints_n);
    assert_true(a.max == SIZE_MAX / 2);
    arena_fini(&a);
    task_sets_fini(&m.assigned);
    test_free(topics);
}

static void test_shutdown(void **state)
{
    struct runner a, b;
    struct mx x;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    b = join_as(&x, "b", &one);
    b.shutdown = true;
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE), ERR_OK);
    beat(&a);
    assert_int_equal(a.status, 1u << STREAMS_SHUTDOWN);
    assert_non_null(strstr(a.detail, "member b"));
    fx_end(&x.f);
}

static void test_describe(void **state)
{
    const struct streams_member_description *s;
    struct group_description d;
    struct runner a;
    struct mx x;

    begin(&x, 2, true);
    a = (struct runner){.x = &x, .id = "a", .process = "p", .topology = &one, .host = "h"};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK);
    assert_int_equal(group_describe(x.f.b, SLICE_LIT(G), &d), ERR_OK);
    assert_int_equal(d.kind, GROUP_STREAMS);
    assert_int_equal(d.state, GROUP_STABLE);
    assert_true(slice_eq_str(d.protocol_type, "streams"));
    assert_int_equal(d.assignment_epoch, a.epoch);
    assert_int_equal(d.members_n, 1);
    assert_true(d.streams && d.streams->configured);
    assert_int_equal(d.streams->topology.epoch, 1);
    assert_true(
        slice_eq_str(d.streams->topology.subs[0].changelogs[0].name, "app-store-changelog"));
    s = d.members[0].streams;
    assert_true(slice_eq_str(s->process_id, "p") && slice_eq_str(s->endpoint_host, "h"));
    assert_int_equal(s->assigned_n[STREAMS_ACTIVE], 1);
    assert_int_equal(s->target[STREAMS_ACTIVE][0].n, 2);
    assert_true(slice_eq_str(d.members[0].assigned[0].topic, "lines"));
    assert_int_equal(d.members[0].assigned[0].n, 2);
    group_description_fini(&d);
    fx_end(&x.f);
}

/* ---- offsets, other kinds ---- */

static enum err commit_as(struct runner *m, int32_t epoch, int partition)
{
    struct topic *t = topic_find(m->x->f.b, SLICE_LIT("lines"));
    struct partition *p = topic_partition(t, partition);
    struct group_member who = {.group = SLICE_LIT(G),
                               .member_id = slice_str(m->id),
                               .generation = epoch,
                               .parts = &p,
                               .parts_n = 1};
    enum err e = group_commit_check(m->x->f.b, &who, false, m->x->now);

    if (e == ERR_STALE_MEMBER_EPOCH)
        assert_int_equal(group_commit_check(m->x->f.b, &who, true, m->x->now),
                         ERR_ILLEGAL_GENERATION);
    topic_unref(&t);
    return e;
}

static void test_commits(void **state)
{
    struct runner a, b, none = {0};
    struct errinfo info = {0};
    struct topic *t;
    struct mx x;
    int32_t old;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    old = a.epoch;
    assert_int_equal(commit_as(&a, old, 1), ERR_OK);
    b = join_as(&x, "b", &one);
    beat(&a);
    assert_int_equal(commit_as(&a, old, 1), ERR_OK); /* it is to give it up, and commits first */
    obey(&a);
    beat(&b);
    has(b, "0:1");
    assert_true(a.epoch > old);
    assert_int_equal(commit_as(&a, a.epoch, 0), ERR_OK);
    assert_int_equal(commit_as(&a, old, 0), ERR_OK); /* it has had it since then */
    assert_int_equal(commit_as(&a, old, 1), ERR_STALE_MEMBER_EPOCH);
    assert_int_equal(commit_as(&a, a.epoch + 1, 0), ERR_STALE_MEMBER_EPOCH);
    assert_int_equal(commit_as(&b, old, 1), ERR_STALE_MEMBER_EPOCH);
    none.x = &x;
    none.id = "nobody";
    assert_int_equal(commit_as(&none, 2, 0), ERR_UNKNOWN_MEMBER);
    t = topic_find(x.f.b, SLICE_LIT("lines"));
    assert_int_equal(
        group_offset_delete(x.f.b, SLICE_LIT(G), topic_partition(t, 0), NULL, NULL, &info),
        ERR_GROUP_SUBSCRIBED);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT(G), NULL, NULL, &info), ERR_GROUP_NOT_EMPTY);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(beat_as(&b, GROUP_EPOCH_LEAVE), ERR_OK);
    assert_int_equal(group_remove(x.f.b, SLICE_LIT(G), NULL, NULL, &info), ERR_OK);
    broker_step(x.f.b);
    assert_int_equal(app_state(&x), GROUP_DEAD);
    topic_unref(&t);
    fx_end(&x.f);
}

/* Offsets of what the application reads stay, however old; others expire. */
static void test_retention(void **state)
{
    const int64_t day = 86400000;
    struct group_offset o;
    struct topic *t, *u;
    struct runner a;
    int64_t wall;
    struct mx x;
    enum err e;

    begin(&x, 2, true);
    a = join_as(&x, "a", &one);
    t = topic_find(x.f.b, SLICE_LIT("lines"));
    u = fx_topic(&x.f, "else", 1);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT(G), topic_partition(t, 0), 1, SLICE_NULL, NULL), ERR_OK);
    assert_int_equal(
        group_commit_wait(x.f.b, SLICE_LIT(G), topic_partition(u, 0), 1, SLICE_NULL, NULL), ERR_OK);
    wall = journal_wall_ms(broker_journal(x.f.b));
    groups_retention(x.f.b, wall + 8 * day);
    broker_step(x.f.b);
    e = group_offset_get(x.f.b, SLICE_LIT(G), topic_partition(t, 0), &o);
    assert_int_equal(e, ERR_OK);
    e = group_offset_get(x.f.b, SLICE_LIT(G), topic_partition(u, 0), &o);
    assert_int_equal(e, ERR_NOT_FOUND);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&x.f);
}

static void test_kinds(void **state)
{
    struct client c;
    struct runner a;
    struct mx x;

    begin(&x, 2, true);
    c = client_of(&x, G);
    join(&c);
    assert_int_equal(c.e, ERR_OK);
    a = (struct runner){.x = &x, .id = "a", .process = "a", .topology = &one};
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_GROUP_NOT_FOUND);
    mx_pass(&x, 2 * REBALANCE_MS);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_JOIN), ERR_OK); /* it is empty */
    memset(c.id, 0, sizeof c.id);
    join(&c);
    assert_int_equal(c.e, ERR_INCONSISTENT_PROTOCOL);
    assert_int_equal(beat_as(&a, GROUP_EPOCH_LEAVE), ERR_OK);
    join(&c);
    assert_int_equal(c.e, ERR_OK);
    fx_end(&x.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assign_spread),
        cmocka_unit_test(test_assign_sticky),
        cmocka_unit_test(test_assign_standby_takes_over),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_rebalance_timeout),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_static),
        cmocka_unit_test(test_standbys),
        cmocka_unit_test(test_initial_delay),
        cmocka_unit_test(test_lost_answer),
        cmocka_unit_test(test_rejoin_elsewhere),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_interval_unready),
        cmocka_unit_test(test_server_conf),
        cmocka_unit_test(test_kept_late),
        cmocka_unit_test(test_kept_room),
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_repartition_numbers),
        cmocka_unit_test(test_source_changelog),
        cmocka_unit_test(test_missing_many),
        cmocka_unit_test(test_readers),
        cmocka_unit_test(test_repartition_chain),
        cmocka_unit_test(test_bad_topologies),
        cmocka_unit_test(test_topology_epochs),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_endpoints_many),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_commits),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
