/* See model.h. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/journal.h"

void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->position_end = 1;
}

void model_fini(struct model *m)
{
    unsigned i;

    for (i = 0; i < UIDS_MAX; i++)
        free(m->log[i].batch);
    memset(m, 0, sizeof *m);
}

void mstate_apply(struct mstate *s, const struct mentry *e)
{
    if (e->type < ENTRY_BROKER)
        return;
    s->count++;
    s->hash = (s->hash ^ e->type ^ ((uint64_t)e->uid << 8) ^ e->value) * 0x9e3779b97f4a7c15ull;
    s->hash ^= s->hash >> 29;
    if (e->type == E_SET)
        s->kv[e->uid] = e->value;
    else
        s->there[e->uid] = e->type == E_CREATE;
}

static void log_add(struct model *m, struct mlog *l, const struct mentry *e)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->batch = xrealloc(l->batch, l->cap * sizeof *l->batch);
    }
    l->batch[l->n++] = (struct mbatch){l->end, m->position_end, e->count, e->crc, e->len, e->ts};
    l->end += e->count;
    m->position_end += e->count;
}

void model_apply(struct model *m, const struct munit *u)
{
    unsigned i;

    for (i = 0; i < u->n; i++) {
        const struct mentry *e = &u->e[i];

        mstate_apply(&m->s, e);
        if (e->type == ENTRY_BATCH)
            log_add(m, &m->log[e->uid], e);
        else if (e->type == ENTRY_LOG_START && (int64_t)e->value > m->log[e->uid].start)
            m->log[e->uid].start = (int64_t)e->value;
    }
}

const struct mbatch *model_find(const struct model *m, uint32_t uid, int64_t offset)
{
    const struct mlog *l = &m->log[uid];
    uint32_t lo = 0, hi = l->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (l->batch[mid].base + l->batch[mid].count <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < l->n && l->batch[lo].base <= offset ? &l->batch[lo] : NULL;
}
