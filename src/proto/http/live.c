/* Feeds and followers. See live_int.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "broker/tier.h"
#include "proto/http/live_int.h"
#include "proto/http/render.h"

#define FEED_BUCKETS   1024u
#define FETCH_POLL_MS  5u
#define ITEM_BYTES_MAX (256u << 20) /* a record of the largest size, escaped or as base64 */

struct feed {
    struct live *live;
    struct list_node link; /* bucket */
    struct reader *reader;
    struct waiter waiter;
    struct loop_task task;
    atomic_bool posted;
    bool waiting, over, turning;
    struct list_head followers; /* LIVE ones */
    char *selector, *types;
};

struct live {
    struct ctx *ctx;
    struct list_head bucket[FEED_BUCKETS];
    struct list_head followers;              /* all of them */
    unsigned followers_n, feeds_n, memory_n; /* memory_n: followers not freed yet */
    struct loop_timer timer;
    struct buf text, sse;
};

static void catch_up(struct follower *f);
static void feed_turn(struct feed *fd);

/* ---- items ---- */

static enum err item_init(struct live *l, struct item *it, const struct reader_record *r)
{
    enum err e;

    *it = (struct item){.record = r, .text = &l->text, .sse = &l->sse};
    buf_clear(&l->text);
    buf_clear(&l->sse);
    e = buf_reserve(&l->text, render_event_max(r));
    if (!e)
        l->text.len = (size_t)(render_event(l->text.ptr, r, RENDER_ONE_LINE) - l->text.ptr);
    return e;
}

static void item_fini(struct item *it)
{
    if (it->frame)
        ws_frame_unref(&it->frame);
}

struct ws_frame *item_frame(struct item *it)
{
    if (!it->frame)
        it->frame = ws_frame_new(WS_TEXT, buf_slice(it->text));
    return it->frame;
}

struct slice item_sse(struct item *it)
{
    char id[EVENT_ID_LEN + 1];

    if (!it->sse->len) {
        event_id_format(it->record->position, id);
        ASSERT(buf_printf(it->sse, "id: %s\ndata: ", id) == ERR_OK);
        ASSERT(buf_append_slice(it->sse, buf_slice(it->text)) == ERR_OK);
        ASSERT(buf_append_str(it->sse, "\n\n") == ERR_OK);
    }
    return buf_slice(it->sse);
}

/* ---- notes ---- */

static enum sent note_lag(struct follower *f)
{
    char id[EVENT_ID_LEN + 1], text[128];
    int n;

    event_id_format(f->next ? f->next - 1 : 0, id);
    n = snprintf(text, sizeof text, "{\"after\":\"%s\"}", id);
    return f->kind->note(f, "lag", slice_of(text, (size_t)n));
}

/* Records from f->lost_from on were deleted before they could be sent. False: not now. */
static bool note_lost(struct follower *f)
{
    char after[EVENT_ID_LEN + 1], text[64];
    int n;

    event_id_format(f->lost_from ? f->lost_from - 1 : 0, after);
    n = snprintf(text, sizeof text, "{\"after\":\"%s\"}", after);
    f->lost = f->kind->note(f, "lost", slice_of(text, (size_t)n)) == FULL;
    return !f->lost;
}

/* ---- feeds ---- */

static struct list_head *bucket_of(struct live *l, const char *selector, const char *types)
{
    uint32_t h = 2166136261u;

    for (const char *p = selector; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    for (const char *p = types; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return &l->bucket[(h ^ h >> 16) % FEED_BUCKETS];
}

static void feed_release(struct feed *fd)
{
    fd->live->feeds_n--;
    free(fd->selector);
    free(fd->types);
    free(fd);
}

static void feed_free(struct feed *fd)
{
    ASSERT(list_empty(&fd->followers));
    fd->over = true;
    list_remove(&fd->link);
    if (fd->waiting)
        waiter_cancel(&fd->waiter);
    reader_close(&fd->reader);
    if (!atomic_load(&fd->posted))
        feed_release(fd); /* otherwise its task does */
}

static void feed_again(struct feed *fd)
{
    if (!atomic_exchange(&fd->posted, true))
        loop_post(fd->live->ctx->loop, &fd->task);
}

static void feed_task(struct loop_task *t)
{
    struct feed *fd = list_entry(t, struct feed, task);

    atomic_store(&fd->posted, false);
    fd->waiting = false;
    if (fd->over)
        feed_release(fd);
    else
        feed_turn(fd);
}

/* Writer thread. */
static void feed_woken(struct waiter *w)
{
    feed_again(list_entry(w, struct feed, waiter));
}

static struct feed *feed_get(struct live *l, struct follower *f, struct errinfo *info)
{
    struct list_head *b = bucket_of(l, f->selector, f->types);
    struct reader_conf conf = {.selector = slice_str(f->selector),
                               .partition = -1,
                               .from = READ_FROM_POSITION,
                               .position = f->next};
    struct feed *fd;

    list_for_each(fd, b, struct feed, link)
    {
        if (strcmp(fd->selector, f->selector) == 0 && strcmp(fd->types, f->types) == 0)
            return fd;
    }
    fd = xcalloc(1, sizeof *fd);
    if (reader_open(l->ctx->proto->conf.broker, &conf, &fd->reader, info)) {
        free(fd);
        return NULL;
    }
    reader_scan_limit(fd->reader, l->ctx->proto->conf.limits.scan_records);
    fd->live = l;
    fd->task.fn = feed_task;
    fd->waiter.wake = feed_woken;
    fd->selector = xstrdup(f->selector);
    fd->types = xstrdup(f->types);
    list_init(&fd->followers);
    list_push_back(b, &fd->link);
    l->feeds_n++;
    feed_again(fd);
    return fd;
}

/* Takes f out of its feed. */
static void feed_leave(struct follower *f)
{
    struct feed *fd = f->feed;

    list_remove(&f->link);
    f->feed = NULL;
    if (list_empty(&fd->followers) && !fd->turning)
        feed_free(fd);
}

static void pause_at(struct follower *f, uint64_t next)
{
    if (f->feed)
        feed_leave(f);
    if (f->reader)
        reader_close(&f->reader);
    f->next = next;
    f->state = PAUSED;
    f->lagged = true;
    metric_add(&f->ctx->metrics.lags, 1);
}

/* Hands a record to a follower; its state tells what became of it. */
static void deliver(struct follower *f, struct item *it)
{
    uint64_t at = it->record->position;

    if (at < f->next)
        return; /* it had that while it caught up */
    switch (f->kind->event(f, it)) {
    case SENT:
        f->next = at + 1;
        metric_add(&f->ctx->metrics.events_pushed, 1);
        break;
    case SENT_FULL:
        metric_add(&f->ctx->metrics.events_pushed, 1);
        pause_at(f, at + 1);
        break;
    case FULL:
        pause_at(f, at);
        break;
    case GONE:
        break;
    }
}

/* it NULL: records were lost. */
static void feed_each(struct feed *fd, struct item *it)
{
    struct list_node *n = fd->followers.node.next;

    while (n != &fd->followers.node) {
        struct follower *f = list_entry(n, struct follower, link);

        n = n->next;
        if (it) {
            deliver(f, it);
            continue;
        }
        f->lost_from = f->next;
        if (!note_lost(f))
            pause_at(f, f->next);
    }
}

static void feed_end(struct feed *fd, enum err e, const struct errinfo *info)
{
    while (!list_empty(&fd->followers)) {
        struct follower *f = list_entry(fd->followers.node.next, struct follower, link);

        feed_leave(f);
        f->state = PAUSED;
        f->kind->end(f, e, info);
    }
}

/* One record or none. False: the turn is over. */
static bool feed_step(struct feed *fd, size_t *bytes)
{
    struct errinfo info = {0};
    struct reader_record r;
    struct item it;
    enum err e = reader_next(fd->reader, &r, &info);

    if (e == ERR_AGAIN)
        return false;
    if (e == ERR_OFFSET_RANGE) {
        feed_each(fd, NULL);
        return true;
    }
    if (!e && !types_match(slice_str(fd->types), &r))
        return true;
    if (!e)
        e = item_init(fd->live, &it, &r);
    if (e) {
        feed_end(fd, e, &info);
        return false;
    }
    feed_each(fd, &it);
    *bytes += it.text->len;
    item_fini(&it);
    return true;
}

static void feed_turn(struct feed *fd)
{
    size_t most = fd->live->ctx->proto->conf.limits.turn_bytes, bytes = 0;
    bool more = true;

    fd->turning = true;
    while (more && bytes < most && !list_empty(&fd->followers))
        more = feed_step(fd, &bytes);
    fd->turning = false;
    if (list_empty(&fd->followers)) {
        feed_free(fd);
        return;
    }
    if (!more && !reader_busy(fd->reader)) {
        fd->waiting = reader_wait(fd->reader, &fd->waiter);
        if (fd->waiting)
            return;
    }
    feed_again(fd);
}

/* ---- followers ---- */

void follower_hold(struct follower *f)
{
    f->holds++;
}

void follower_release(struct follower *f)
{
    ASSERT(f->holds > 0);
    if (--f->holds > 0)
        return;
    ASSERT(f->state == CLOSED && !f->feed && !f->reader);
    f->ctx->live->memory_n--;
    free(f->selector);
    free(f->types);
    free(f);
}

static void catch_up_later(struct follower *f)
{
    if (f->posted)
        return;
    f->posted = true;
    follower_hold(f);
    loop_post(f->ctx->loop, &f->task);
}

/* What is read from the lake may have come. */
static void follower_fetched(struct loop_timer *t)
{
    struct follower *f = list_entry(t, struct follower, fetching);

    if (f->state == CATCHING_UP)
        catch_up(f);
}

static void follower_task(struct loop_task *t)
{
    struct follower *f = list_entry(t, struct follower, task);

    f->posted = false;
    if (f->state == CATCHING_UP)
        catch_up(f);
    follower_release(f);
}

/* Everything durable has been sent: from here on the feed does it. */
static void go_live(struct follower *f)
{
    struct errinfo info = {0};
    struct feed *fd;

    f->next = reader_position(f->reader);
    reader_close(&f->reader);
    fd = feed_get(f->ctx->live, f, &info);
    if (!fd) {
        f->state = PAUSED;
        f->kind->end(f, info.code ? info.code : ERR_INTERNAL, &info);
        return;
    }
    f->state = LIVE;
    f->feed = fd;
    list_push_back(&fd->followers, &f->link);
}

/* One record or none. False: the turn is over, one way or another. */
static bool catch_up_step(struct follower *f, size_t *bytes)
{
    uint64_t before = reader_position(f->reader);
    struct errinfo info = {0};
    struct reader_record r;
    struct item it;
    enum err e = reader_next(f->reader, &r, &info);

    if (e == ERR_AGAIN) {
        if (reader_busy(f->reader))
            catch_up_later(f);
        else if (reader_fetching(f->reader))
            loop_timer_arm(f->ctx->loop, &f->fetching, FETCH_POLL_MS);
        else
            go_live(f);
        return false;
    }
    if (e == ERR_OFFSET_RANGE) {
        f->lost_from = before;
        if (!note_lost(f))
            pause_at(f, before);
        return f->state == CATCHING_UP;
    }
    if (!e && !types_match(slice_str(f->types), &r))
        return true;
    if (!e)
        e = item_init(f->ctx->live, &it, &r);
    if (e) {
        reader_close(&f->reader);
        f->state = PAUSED;
        f->kind->end(f, e, &info);
        return false;
    }
    deliver(f, &it);
    *bytes += it.text->len;
    item_fini(&it);
    return f->state == CATCHING_UP;
}

static void catch_up(struct follower *f)
{
    size_t most = f->ctx->proto->conf.limits.turn_bytes, bytes = 0;

    follower_hold(f);
    if (!f->reader) { /* it was paused */
        struct reader_conf conf = {.selector = slice_str(f->selector),
                                   .partition = -1,
                                   .from = READ_FROM_POSITION,
                                   .position = f->next};
        struct errinfo info = {0};
        enum err e = reader_open(f->ctx->proto->conf.broker, &conf, &f->reader, &info);

        if (e) {
            f->state = PAUSED;
            f->kind->end(f, e, &info);
            follower_release(f);
            return;
        }
        reader_scan_limit(f->reader, f->ctx->proto->conf.limits.scan_records);
        if (!f->lost && selection_lost(f->ctx->proto->conf.broker, &conf)) {
            f->lost = true;
            f->lost_from = f->next;
        }
    }
    if (f->lost && !note_lost(f)) {
        pause_at(f, f->next);
        follower_release(f);
        return;
    }
    while (catch_up_step(f, &bytes)) {
        if (bytes >= most) {
            catch_up_later(f);
            break;
        }
    }
    follower_release(f);
}

enum err follower_init(struct follower *f, struct rq *rq, const struct selection *sel,
                       struct errinfo *info)
{
    struct live *l = f->ctx->live;
    struct slice token;
    enum err e;

    if (l->followers_n >= f->ctx->proto->conf.limits.subscribers_max)
        return errinfo_set(info, ERR_OVERLOADED, "there are %u followers, the most there may be",
                           l->followers_n);
    if (sel) {
        e = reader_open(f->ctx->proto->conf.broker, &sel->conf, &f->reader, info);
        if (e)
            return e;
        reader_scan_limit(f->reader, f->ctx->proto->conf.limits.scan_records);
        f->next = reader_position(f->reader);
        f->lost = selection_lost(f->ctx->proto->conf.broker, &sel->conf);
        f->lost_from = sel->conf.from == READ_FROM_POSITION ? sel->conf.position : 0;
        f->has_selector = true;
        f->selector = xcalloc(1, sel->conf.selector.len + 1);
        memcpy(f->selector, sel->conf.selector.ptr, sel->conf.selector.len);
        f->types = xcalloc(1, sel->types.len + 1);
        if (sel->types.len)
            memcpy(f->types, sel->types.ptr, sel->types.len);
    }
    token = auth_bearer(http_header(rq->req, "authorization"));
    if (!token.ptr)
        token = http_query(rq->req, "access_token");
    if (token.len == AUTH_TOKEN_LEN) {
        f->has_token = true;
        memcpy(f->token, token.ptr, AUTH_TOKEN_LEN);
    }
    f->state = PAUSED;
    f->task.fn = follower_task;
    loop_timer_init(&f->fetching, follower_fetched);
    f->holds = 1;
    l->memory_n++;
    return ERR_OK;
}

void follower_fini(struct follower *f)
{
    if (f->reader)
        reader_close(&f->reader);
    f->state = CLOSED;
    follower_release(f);
}

void follower_start(struct follower *f)
{
    struct live *l = f->ctx->live;

    l->followers_n++;
    metric_add(f->open, 1);
    list_push_back(&l->followers, &f->all);
    if (!f->has_selector)
        return;
    f->state = CATCHING_UP;
    catch_up_later(f);
}

void follower_drained(struct follower *f)
{
    if (f->state != PAUSED || !f->has_selector || !f->lagged)
        return;
    f->lagged = false;
    f->state = CATCHING_UP;
    if (note_lag(f) == GONE || (f->lost && !note_lost(f)))
        return;
    catch_up_later(f);
}

void follower_close(struct follower *f)
{
    loop_timer_cancel(f->ctx->loop, &f->fetching);
    if (f->feed)
        feed_leave(f);
    if (f->reader)
        reader_close(&f->reader);
    f->state = CLOSED;
    f->ctx->live->followers_n--;
    metric_add(f->open, (uint64_t)-1);
    list_remove(&f->all);
    follower_release(f);
}

static void end_task(struct loop_task *t)
{
    follower_close(list_entry(t, struct follower, end_task));
}

void follower_close_later(struct follower *f)
{
    f->end_task.fn = end_task;
    loop_post(f->ctx->loop, &f->end_task);
}

bool follower_permitted(struct follower *f, unsigned access, struct slice topic,
                        const struct principal **who)
{
    struct slice token = f->has_token ? slice_of(f->token, AUTH_TOKEN_LEN) : SLICE_NULL;

    return auth_who(&f->ctx->auth, token, who, NULL) == ERR_OK &&
           (topic.ptr == NULL || auth_permits(*who, access, topic));
}

/* ---- the loop's set ---- */

/* Now and then: heartbeats; and whoever lost the permission to read is sent away. */
static void live_timer(struct loop_timer *t)
{
    struct live *l = list_entry(t, struct live, timer);
    struct list_node *n = l->followers.node.next;

    while (n != &l->followers.node) {
        struct follower *f = list_entry(n, struct follower, all);
        struct slice topic = SLICE_NULL, key;
        const struct principal *who;

        n = n->next;
        if (f->has_selector)
            (void)stream_split(slice_str(f->selector), &topic, &key);
        if (!follower_permitted(f, AUTH_READ, topic, &who)) {
            struct errinfo info;

            errinfo_set(&info, ERR_FORBIDDEN, "the token does not permit this any more");
            f->kind->end(f, ERR_FORBIDDEN, &info);
        } else if (f->kind == &sse_kind) {
            sse_heartbeat(f);
        }
    }
    loop_timer_arm(l->ctx->loop, t, l->ctx->proto->conf.limits.heartbeat_ms);
}

struct live *live_new(struct ctx *ctx)
{
    struct live *l = xcalloc(1, sizeof *l);

    l->ctx = ctx;
    for (size_t i = 0; i < FEED_BUCKETS; i++)
        list_init(&l->bucket[i]);
    list_init(&l->followers);
    buf_init(&l->text, ITEM_BYTES_MAX);
    buf_init(&l->sse, ITEM_BYTES_MAX + 64);
    loop_timer_init(&l->timer, live_timer);
    loop_timer_arm(ctx->loop, &l->timer, ctx->proto->conf.limits.heartbeat_ms);
    return l;
}

bool live_idle(const struct live *l)
{
    return l->memory_n == 0 && l->feeds_n == 0;
}

void live_free(struct live **lp)
{
    struct live *l = *lp;

    ASSERT(live_idle(l));
    loop_timer_cancel(l->ctx->loop, &l->timer);
    buf_fini(&l->text);
    buf_fini(&l->sse);
    free(l);
    *lp = NULL;
}
