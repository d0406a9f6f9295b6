/* A bucket's records in order of the log. See kv_int.h. */
#include <string.h>

#include "base/tbl/limits.h"
#include "lib/kv_int.h"

/* 30, the subject, the headers as text with their length, the payload. */
uint32_t kv_bytes(size_t key, const struct record_header *h, uint32_t n, size_t value)
{
    size_t len = 30 + key + value + (n ? sizeof "NATS/1.0\r\n\r\n" - 1 + 4 : 0);
    uint32_t i;

    for (i = 0; i < n; i++)
        len += h[i].key.len + h[i].value.len + 4;
    return len < UINT32_MAX ? (uint32_t)len : UINT32_MAX;
}

static void record_of(struct lib_scan *s, struct slice prefix, const struct record *r,
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

enum err kv_scan_next(struct lib_scan *s, struct slice prefix, int64_t to, size_t bytes,
                      struct kv_record *out, struct errinfo *info)
{
    struct record r;
    enum err e = lib_scan_next(s, to, bytes, &r, info);

    if (!e)
        record_of(s, prefix, &r, out);
    return e;
}
