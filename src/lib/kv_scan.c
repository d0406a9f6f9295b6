/* A bucket's records in order of the log. See kv_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/producer.h"
#include "broker/tier.h"
#include "lib/kv_int.h"

void kv_scan_init(struct kv_scan *s, struct partition *p, int64_t from)
{
    memset(s, 0, sizeof *s);
    s->p = p;
    s->next = from;
    buf_init(&s->scratch, LIMIT_BATCH_INFLATED);
    s->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *s->headers);
}

void kv_scan_rest(struct kv_scan *s)
{
    plog_read_release(&s->read);
    s->read.n = 0;
    s->at = 0;
    s->within = false;
}

void kv_scan_fini(struct kv_scan *s)
{
    kv_scan_rest(s);
    buf_fini(&s->scratch);
    free(s->headers);
    s->headers = NULL;
}

int64_t kv_scan_end(struct partition *p)
{
    int64_t lso = partition_lso(p);
    struct plog_info log;

    plog_info_get(partition_log(p), &log);
    return log.end_offset < lso ? log.end_offset : lso;
}

/* 30, the subject, the headers as text with their length, the payload. */
uint32_t kv_bytes(size_t key, const struct record_header *h, uint32_t n, size_t value)
{
    size_t len = 30 + key + value + (n ? sizeof "NATS/1.0\r\n\r\n" - 1 + 4 : 0);
    uint32_t i;

    for (i = 0; i < n; i++)
        len += h[i].key.len + h[i].value.len + 4;
    return len < UINT32_MAX ? (uint32_t)len : UINT32_MAX;
}

static void record_of(struct kv_scan *s, struct slice prefix, const struct record *r,
                      struct kv_record *out)
{
    const struct record_header *h = s->headers;
    uint32_t n = 0, i;

    *out = (struct kv_record){.value = r->value,
                              .offset = (uint64_t)r->offset,
                              .time_ms = r->timestamp_ms,
                              .op = WEIR_KV_PUT};
    if (r->key.len <= prefix.len || !slice_has_prefix(r->key, prefix) ||
        memchr(r->key.ptr, 0, r->key.len))
        return;
    out->key = slice_of(r->key.ptr + prefix.len, r->key.len - prefix.len);
    if (r->headers_n && record_headers(r, s->headers, LIMIT_RECORD_HEADERS, &n))
        n = 0;
    out->bytes = kv_bytes(r->key.len, h, n, r->value.len);
    for (i = 0; i < n; i++)
        if (slice_eq_str(h[i].key, "KV-Operation")) {
            if (slice_eq_str(h[i].value, "DEL"))
                out->op = WEIR_KV_DELETE;
            else if (slice_eq_str(h[i].value, "PURGE"))
                out->op = WEIR_KV_PURGE;
        } else if (slice_eq_str(h[i].key, "Nats-Rollup")) {
            out->purges_key = slice_eq_str(h[i].value, "sub");
            out->purges_all = slice_eq_str(h[i].value, "all");
        }
}

/* The batch at hand is begun, or passed by. */
static enum err begin(struct kv_scan *s)
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
static enum err more(struct kv_scan *s, size_t bytes, struct errinfo *info)
{
    int64_t at = s->next;
    enum err e;

    kv_scan_rest(s);
    e = partition_read_wait(s->p, &at, bytes, &s->read, info);
    if (e == ERR_OFFSET_RANGE && partition_start(s->p) > s->next) {
        s->next = partition_start(s->p);
        return ERR_OK;
    }
    if (!e && at > s->next)
        s->next = at;
    return e ? e : s->read.n ? ERR_OK : ERR_AGAIN;
}

enum err kv_scan_next(struct kv_scan *s, struct slice prefix, int64_t to, size_t bytes,
                      struct kv_record *out, struct errinfo *info)
{
    struct record r;
    enum err e = ERR_OK;

    while (!e && s->next < to) {
        if (s->within) {
            e = batch_iter_next(&s->it, &r);
            if (e == ERR_EOF) {
                s->next = s->read.batch[s->at].last_offset + 1;
                s->within = false;
                e = ERR_OK;
            } else if (!e && r.offset >= to) {
                break;
            } else if (!e && r.offset >= s->next) {
                s->next = r.offset + 1;
                record_of(s, prefix, &r, out);
                return ERR_OK;
            }
        } else if (s->at < s->read.n) {
            e = begin(s);
        } else {
            e = more(s, bytes, info);
        }
    }
    kv_scan_rest(s);
    return e ? e : ERR_AGAIN;
}
