/* A partition's records in order of the log, without control records and what was aborted. See scan.h. */
#include "lib/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/producer.h"
#include "broker/removed.h"
#include "broker/tier.h"

void lib_scan_init(struct lib_scan *s, struct partition *p, int64_t from)
{
    memset(s, 0, sizeof *s);
    s->p = p;
    s->next = from;
    buf_init(&s->scratch, LIMIT_BATCH_INFLATED);
    s->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *s->headers);
}

void lib_scan_rest(struct lib_scan *s)
{
    plog_read_release(&s->read);
    s->read.n = 0;
    s->at = 0;
    s->within = false;
}

void lib_scan_fini(struct lib_scan *s)
{
    lib_scan_rest(s);
    buf_fini(&s->scratch);
    free(s->headers);
    s->headers = NULL;
}

int64_t lib_scan_end(struct partition *p)
{
    int64_t lso = partition_lso(p);
    struct plog_info log;

    plog_info_get(partition_log(p), &log);
    return log.end_offset < lso ? log.end_offset : lso;
}

/* The batch at hand is begun, or passed by. */
static enum err begin(struct lib_scan *s)
{
    const struct read_batch *b = &s->read.batch[s->at];
    enum err e;

    if (b->last_offset < s->next) {
        s->at++;
        return ERR_OK;
    }
    if ((e = batch_iter_init(&s->it, b->data, &s->scratch)))
        return e;
    s->within = true;
    if (s->it.info.attributes & BATCH_CONTROL ||
        (s->it.info.attributes & BATCH_TRANSACTIONAL &&
         partition_aborted_batch(s->p, s->it.info.producer_id, s->it.info.base_offset))) {
        s->within = false;
        s->next = b->last_offset + 1;
    }
    return ERR_OK;
}

/* ERR_AGAIN: nothing is there. */
static enum err more(struct lib_scan *s, size_t bytes, struct errinfo *info)
{
    int64_t at = s->next;
    enum err e;

    lib_scan_rest(s);
    e = partition_read_wait(s->p, &at, bytes, &s->read, info);
    if (e == ERR_OFFSET_RANGE && partition_start(s->p) > s->next) {
        s->next = partition_start(s->p);
        return ERR_OK;
    }
    if (!e && at > s->next)
        s->next = at;
    return e ? e : s->read.n ? ERR_OK : ERR_AGAIN;
}

enum err lib_scan_next(struct lib_scan *s, int64_t to, size_t bytes, struct record *out,
                       struct errinfo *info)
{
    enum err e = ERR_OK;

    while (!e && s->next < to) {
        if (s->within) {
            e = batch_iter_next(&s->it, out);
            if (e == ERR_EOF) {
                s->next = s->read.batch[s->at].last_offset + 1;
                s->within = false;
                e = ERR_OK;
            } else if (!e && out->offset >= to) {
                break;
            } else if (!e && out->offset >= s->next) {
                s->next = out->offset + 1;
                return ERR_OK;
            }
        } else if (s->at < s->read.n) {
            e = begin(s);
        } else {
            e = more(s, bytes, info);
        }
    }
    lib_scan_rest(s);
    return e ? e : ERR_AGAIN;
}

uint64_t lib_scan_position(const struct lib_scan *s, const struct record *r)
{
    const struct read_batch *b = &s->read.batch[s->at];

    return b->position + (uint64_t)(r->offset - b->base_offset);
}

int64_t lib_scan_begin(struct weir *w, struct topic *t, struct partition *p, int64_t first)
{
    int64_t start = partition_start(p), begin;
    uint8_t key[REMOVED_KEY];
    struct buf v;

    removed_key(topic_id(t), REMOVED_BEGIN, key);
    buf_init(&v, LIMIT_KV_VALUE);
    if (kv_get(w->b, REMOVED_NS, slice_of(key, sizeof key), &v) == ERR_OK && v.len == 8) {
        begin = (int64_t)(be64_load(v.ptr) - (uint64_t)first);
        if (begin > start && begin <= lib_scan_end(p))
            start = begin;
    }
    buf_fini(&v);
    return start;
}
