/* See exports.h. */
#include "proto/nats/exports.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"
#include "io/io.h"
#include "proto/nats/nats_int.h"

#define REPLY_MAX   2048u  /* bytes of a reply subject that is passed on */
#define REPLY_MS    120000 /* an answer is taken for so long */
#define SUBJECT_MAX (2 * NATS_LINE_MAX)
#define SEAL_PARTS  4u /* tokens before the reply itself */

/* One import at work. */
struct nbridge {
    struct nbridge *next;
    struct loop_task end;
    struct nats *n;
    struct nusers *users; /* whose texts these are */
    struct nimport im;
    unsigned id;
    struct nloop *l;
    struct nsub *sub, *replies; /* replies: of services; NULL: none */
    atomic_bool off;
};

/* ---- subjects ---- */

bool subject_maps(struct slice from, struct slice to)
{
    struct slice token;
    int stars = 0, tails = 0;

    while (subject_token(&from, &token)) {
        stars += token_is(token, '*');
        tails += token_is(token, '>');
    }
    while (subject_token(&to, &token)) {
        stars -= token_is(token, '*');
        tails -= token_is(token, '>');
    }
    return stars == 0 && tails == 0;
}

/* What the next wildcard of *pattern took of *subject, both moved behind it. */
static struct slice taken(struct slice *pattern, struct slice *subject)
{
    struct slice p, s, rest;

    for (;;) {
        rest = *subject;
        if (!subject_token(pattern, &p) || !subject_token(subject, &s))
            return SLICE_NULL;
        if (token_is(p, '>'))
            return rest;
        if (token_is(p, '*'))
            return s;
    }
}

size_t subject_map(struct slice from, struct slice to, struct slice subject, uint8_t *out,
                   size_t cap)
{
    struct slice token;
    size_t n = 0;

    while (subject_token(&to, &token)) {
        if (token_is(token, '*') || token_is(token, '>'))
            token = taken(&from, &subject);
        if (n + 1 + token.len > cap)
            return 0;
        if (n)
            out[n++] = '.';
        if (token.len)
            memcpy(out + n, token.ptr, token.len);
        n += token.len;
    }
    return n;
}

/* ---- what is allowed ---- */

static bool exported(const struct nexport *e, const struct nimport *im)
{
    uint32_t i;

    if (e->of != im->from || e->service != im->service || !subject_covers(e->subject, im->subject))
        return false;
    for (i = 0; i < e->accounts_n; i++)
        if (slice_eq_str(e->accounts[i], im->into_name))
            return true;
    return !e->accounts;
}

/* Where messages come from to an import, and where they go. */
static const struct naccount *source(const struct nimport *im, struct slice *subject)
{
    *subject = im->service ? im->to : im->subject;
    return im->service ? im->into : im->from;
}

static const struct naccount *target(const struct nimport *im, struct slice *subject)
{
    *subject = im->service ? im->subject : im->to;
    return im->service ? im->from : im->into;
}

static bool leads_to(const struct nimport *a, const struct nimport *b)
{
    struct slice x, y;

    return target(a, &x) == source(b, &y) && subjects_meet(x, y);
}

/* seen: 0 not yet, 1 on the way, 2 leads to no circle. */
static bool circles(const struct nimport *v, uint32_t n, uint32_t i, uint8_t *seen)
{
    uint32_t k;

    if (seen[i])
        return seen[i] == 1;
    seen[i] = 1;
    for (k = 0; k < n; k++)
        if (leads_to(&v[i], &v[k]) && circles(v, n, k, seen))
            return true;
    seen[i] = 2;
    return false;
}

enum err nimports_check(const struct nexport *exports, uint32_t exports_n,
                        const struct nimport *imports, uint32_t imports_n, size_t *line,
                        const char **why)
{
    uint8_t *seen = xcalloc(imports_n + 1, 1);
    uint32_t i, k;
    enum err e = ERR_OK;

    for (i = 0; !e && i < imports_n; i++) {
        *line = imports[i].line;
        for (k = 0; k < exports_n && !exported(&exports[k], &imports[i]);)
            k++;
        if (k == exports_n)
            *why = "the account does not export this to this one";
        else if (circles(imports, imports_n, i, seen))
            *why = "messages would come back to this import";
        else
            continue;
        e = ERR_CONFIG;
    }
    free(seen);
    return e;
}

/* ---- messages ---- */

static uint64_t seal(const struct nbridge *b, uint64_t until_ms, struct slice reply)
{
    uint8_t text[REPLY_MAX + 16];

    memcpy(text, &until_ms, 8);
    memcpy(text + 8, &b->id, sizeof b->id);
    memcpy(text + 8 + sizeof b->id, reply.ptr, reply.len);
    return siphash64(b->n->seed, text, 8 + sizeof b->id + reply.len);
}

static uint64_t now_ms(const struct nbridge *b)
{
    return io_mono_ns(b->n->conf.io) / 1000000;
}

/* Nobody is there to answer in the other account. */
static void nobody(struct nbridge *b, struct slice reply)
{
    struct slice head = SLICE_LIT("NATS/1.0 503\r\n\r\n");
    struct nmsg m = {.subject = reply, .body = head, .header_len = head.len};

    (void)nats_route(b->l, b->im.into, &m);
}

static void on_ask(struct nsub *s, struct nmsg *m)
{
    struct nbridge *b = s->arg;
    uint8_t subject[SUBJECT_MAX];
    char reply[REPLY_MAX + 96];
    uint64_t until = now_ms(b) + REPLY_MS;
    size_t n = subject_map(b->im.to, b->im.subject, m->subject, subject, sizeof subject);
    struct nmsg out = {
        .subject = slice_of(subject, n), .body = m->body, .header_len = m->header_len};

    if (!n || m->to.len || m->reply.len > REPLY_MAX ||
        atomic_load_explicit(&b->off, memory_order_acquire))
        return;
    if (m->reply.len) {
        int len = snprintf(reply, sizeof reply, "_R_.%u.%016" PRIx64 ".%016" PRIx64 ".%.*s", b->id,
                           seal(b, until, m->reply), until, (int)m->reply.len,
                           (const char *)m->reply.ptr);

        out.reply = slice_of(reply, (size_t)len);
    }
    if (nats_route(b->l, b->im.from, &out) == 0 && m->reply.len)
        nobody(b, m->reply);
}

static bool hex(struct slice s, uint64_t *out)
{
    size_t i;

    *out = 0;
    for (i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return s.len == 16;
}

/* An answer, to a subject that on_ask made. */
static void on_answer(struct nsub *s, struct nmsg *m)
{
    struct nbridge *b = s->arg;
    struct slice rest = m->subject, token[SEAL_PARTS];
    uint64_t sealed, until;
    struct nmsg out = {.body = m->body, .header_len = m->header_len};
    unsigned i;

    for (i = 0; i < SEAL_PARTS; i++)
        if (!subject_token(&rest, &token[i]))
            return;
    if (m->to.len || rest.len > REPLY_MAX || !rest.len || !hex(token[2], &sealed) ||
        !hex(token[3], &until) || until < now_ms(b) || seal(b, until, rest) != sealed)
        return;
    out.subject = rest;
    (void)nats_route(b->l, b->im.into, &out);
}

static void on_stream(struct nsub *s, struct nmsg *m)
{
    struct nbridge *b = s->arg;
    uint8_t subject[SUBJECT_MAX];
    size_t n;
    struct nmsg out = {
        .reply = m->reply, .body = m->body, .header_len = m->header_len, .subject = SLICE_NULL};

    if (m->to.len || slice_has_prefix(m->subject, SLICE_LIT("_R_.")) ||
        atomic_load_explicit(&b->off, memory_order_acquire))
        return;
    n = subject_map(b->im.subject, b->im.to, m->subject, subject, sizeof subject);
    out.subject = slice_of(subject, n);
    if (n)
        (void)nats_route(b->l, b->im.into, &out);
}

/* ---- coming and going ---- */

static void bridge_start(struct nats *n, struct nusers *u, const struct nimport *im)
{
    struct nbridge *b = xcalloc(1, sizeof *b);
    char replies[32];
    int len;

    b->n = n;
    b->users = nusers_ref(u);
    b->im = *im;
    b->id = ++n->bridges_made;
    b->l = &n->loops[b->id % n->conf.loops_n];
    atomic_init(&b->off, false);
    if (im->service) {
        len = snprintf(replies, sizeof replies, "_R_.%u.>", b->id);
        b->replies = nats_sub_new(b->l, im->from, slice_of(replies, (size_t)len), SLICE_NULL,
                                  on_answer, b, &n->never);
        b->sub = nats_sub_new(b->l, im->into, im->to, SLICE_NULL, on_ask, b, &n->never);
    } else {
        b->sub = nats_sub_new(b->l, im->from, im->subject, SLICE_NULL, on_stream, b, &n->never);
    }
    b->next = n->bridges;
    n->bridges = b;
}

/* On its loop, or the loops do not run. */
static void bridge_end(struct loop_task *t)
{
    struct nbridge *b = list_entry(t, struct nbridge, end);
    const struct nimport *im = &b->im;

    nats_sub_end(b->sub, im->service ? im->into : im->from);
    nats_sub_end(b->replies, im->from);
    nusers_unref(&b->users);
    free(b);
}

/* As many as there are. */
static bool same(const struct nbridge *b, const struct nimport *v, uint32_t n)
{
    for (; n; b = b->next) { /* the last one is the first */
        n--;
        if (b->im.service != v[n].service || b->im.from != v[n].from || b->im.into != v[n].into ||
            !slice_eq(b->im.subject, v[n].subject) || !slice_eq(b->im.to, v[n].to))
            return false;
    }
    return true;
}

void nexports_apply(struct nats *n, struct nusers *u)
{
    const struct nimport *v;
    uint32_t count = nusers_imports(u, &v), i;
    struct nbridge *b;

    if (count == n->bridges_n && same(n->bridges, v, count))
        return;
    while ((b = n->bridges)) {
        n->bridges = b->next;
        atomic_store_explicit(&b->off, true, memory_order_release);
        b->end.fn = bridge_end;
        loop_post(b->l->loop, &b->end);
    }
    for (i = 0; i < count; i++)
        bridge_start(n, u, &v[i]);
    n->bridges_n = count;
}

void nexports_stop(struct nats *n)
{
    struct nbridge *b;

    while ((b = n->bridges)) {
        n->bridges = b->next;
        bridge_end(&b->end);
    }
}
