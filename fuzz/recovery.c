/* Fuzzing of recovery: a broker on a simulated disk crashes, frames are added behind the last one
 * of its log with every checksum right and any contents, and it opens again.
 *
 * An input is a byte of flags and then entries, as many to a frame as their flags say: type, plog,
 * flags, two bytes of length, payload. Checked beside the sanitizers: what recovery takes, a
 * checkpoint saves and the next opening loads; what it refuses, it refuses with words; checking and
 * repairing come to an end either way, and every batch that can be read is whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/state.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/frame.h"
#include "journal/journal.h"

#define INPUT_MAX  8192u
#define FILE_BYTES (64u << 10)
#define LOG        "/d/log/0000000000000001.log"
#define FRAMES     4096u /* first frame in a file */
#define ENTRY_HEAD 5u
#define UIDS_MAX   64u

#define WORLD_CLOSE    1u /* no crash: the log goes on behind a clean end */
#define ENTRY_LAST     1u /* the frame ends here */
#define ENTRY_AS_IS    2u /* a batch's or log start's bytes are not mended */
#define ENTRY_POSITION 4u /* a strange position */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err start(struct io *io, struct broker **b, struct errinfo *info)
{
    struct broker_conf c = {.dir = "/d",
                            .io = io,
                            .topics_auto_create = true,
                            .journal_file_bytes = FILE_BYTES,
                            .inflight_bytes = 1u << 20,
                            .topics_max = 100};

    *info = (struct errinfo){0};
    return broker_open(&c, b, info);
}

static void append(struct broker *b, const char *name)
{
    struct append_record r = {
        .timestamp_ms = 1700000000000, .value = SLICE_LIT("value"), .dedup_id = SLICE_LIT("id")};
    struct append *a = append_new(b, NULL, NULL);
    struct topic *t = NULL;
    struct append_slot slot;

    if (topic_find_or_create_wait(b, slice_str(name), &t, NULL) == ERR_OK)
        append_record(a, t, 0, &r, &slot, NULL);
    if (append_records(a))
        append_submit_wait(a, NULL);
    topic_unref(&t);
    append_free(&a);
}

/* ---- frames behind the last one ---- */

struct log {
    uint8_t mem[FILE_BYTES];
    uint64_t at, log_id; /* where the next frame goes */
    struct frame_header last;
    uint32_t len; /* of the frame being made */
    uint64_t position;
    struct uids {
        uint32_t first, n;
    } uids[UIDS_MAX]; /* given out so far */
    unsigned uids_n;
};

/* Finds the end of the log. */
static void log_load(struct log *l, struct io *io)
{
    struct io_file *fd = NULL;
    struct frame_header h;
    size_t got;

    ASSERT(!io_open(io, LOG, IO_RDONLY, &fd, NULL));
    ASSERT(!io_pread(fd, l->mem, sizeof l->mem, 0, &got, NULL) && got == sizeof l->mem);
    io_close(&fd);
    for (l->at = FRAMES; l->at < FILE_BYTES; l->at += frame_padded(h.length)) {
        if (!frame_header_read(l->mem + l->at, FRAME_HEADER, FILE_BYTES - l->at, &h) ||
            !frame_crc_ok(l->mem + l->at, &h))
            break;
        l->last = h;
        l->position = h.position + h.records;
    }
    ASSERT(l->last.seq > 0);
    l->len = FRAME_HEADER;
    l->uids[l->uids_n++] = (struct uids){1, 1};
}

/* The fields without which a batch is not taken at all. */
static void batch_mend(uint8_t *p, uint32_t n, uint32_t *records)
{
    if (n < BATCH_HEADER)
        return;
    *records = be32_load(p + 23) % 1000 + 1;
    be64_store(p, be64_load(p) & 0xffff);
    be32_store(p + 8, n - 12);
    p[16] = 2;
    be32_store(p + 23, *records - 1);
    if (be32_load(p + 57) > *records)
        be32_store(p + 57, *records);
    be32_store(p + 17, crc32c(0, p + 21, n - 21));
}

/* A uid is given out once and no batch names it before: the broker never writes anything else, and
 * recovery relies on it. False: this entry would. */
static bool uids_claim(struct log *l, uint8_t type, struct slice s)
{
    struct entry_topic_create c;
    struct entry_topic_alter a;
    struct uids u = {0};
    unsigned i;

    if (type == ENTRY_TOPIC_CREATE && !entry_topic_create_read(s, &c))
        u = (struct uids){c.first_uid, c.partitions};
    else if (type == ENTRY_TOPIC_ALTER && !entry_topic_alter_read(s, &a))
        u = (struct uids){a.first_uid, a.added};
    if (!u.n)
        return true;
    for (i = 0; i < l->uids_n; i++)
        if (u.first < l->uids[i].first + l->uids[i].n && l->uids[i].first < u.first + u.n)
            return false;
    if (l->uids_n == UIDS_MAX)
        return false;
    l->uids[l->uids_n++] = u;
    return true;
}

/* The plog that an entry names. */
static uint32_t uid_pick(const struct log *l, uint8_t type, uint8_t choice)
{
    const struct uids *u = &l->uids[choice % l->uids_n];

    return type == ENTRY_BATCH || type == ENTRY_LOG_START ? u->first + choice / 16 % u->n : 0;
}

/* False: the file is full. */
static bool entry_add(struct log *l, const uint8_t *head, const uint8_t *payload, uint32_t n)
{
    struct entry_header h = {.type = head[0] % (ENTRY_BROKER_END + 1),
                             .length = n,
                             .wall_ms = 1700000000000,
                             .position = l->position};
    uint8_t *p = l->mem + l->at + l->len;

    if (l->at + l->len + entry_room(n) + FRAME_ALIGN > FILE_BYTES)
        return false;
    if (!uids_claim(l, h.type, slice_of(payload, n)))
        return true;
    h.uid = uid_pick(l, h.type, head[1]);
    memset(p, 0, entry_room(n));
    memcpy(p + ENTRY_HEADER, payload, n);
    if (h.type == ENTRY_BATCH && !(head[2] & ENTRY_AS_IS))
        batch_mend(p + ENTRY_HEADER, n, &h.records);
    if (h.type == ENTRY_LOG_START && n == 8 && !(head[2] & ENTRY_AS_IS))
        le64_store(p + ENTRY_HEADER, le64_load(payload) & 0xff);
    if (head[2] & ENTRY_POSITION)
        h.position = head[2] * 7u;
    entry_header_write(p, &h);
    l->len += (uint32_t)entry_room(n);
    l->position += h.records;
    l->last.entries++;
    l->last.records += h.records;
    return true;
}

static void frame_end(struct log *l)
{
    uint8_t *p = l->mem + l->at;

    l->last.prev_crc = l->last.crc;
    l->last.durable_seq = l->last.seq++;
    l->last.length = l->len;
    l->last.position = l->position - l->last.records;
    memset(p + l->len, 0, frame_padded(l->len) - l->len);
    frame_header_write(p, &l->last, crc32c(0, p + FRAME_HEADER, l->len - FRAME_HEADER));
    l->at += frame_padded(l->len);
    l->len = FRAME_HEADER;
    l->last.entries = l->last.records = 0;
}

static void log_save(struct log *l, struct io *io)
{
    struct io_file *fd = NULL;

    ASSERT(!io_open(io, LOG, 0, &fd, NULL) && !io_pwrite(fd, l->mem, sizeof l->mem, 0, NULL));
    ASSERT(!io_sync(fd, NULL));
    io_close(&fd);
}

static void frames_add(struct io *io, const uint8_t *data, size_t size)
{
    struct log *l = xcalloc(1, sizeof *l);
    uint32_t n;

    log_load(l, io);
    l->last.entries = l->last.records = 0;
    while (size >= ENTRY_HEAD) {
        n = le16_load(data + 3);
        if (n > size - ENTRY_HEAD)
            n = (uint32_t)(size - ENTRY_HEAD);
        if (!entry_add(l, data, data + ENTRY_HEAD, n))
            break;
        if (data[2] & ENTRY_LAST)
            frame_end(l);
        data += ENTRY_HEAD + n;
        size -= ENTRY_HEAD + n;
    }
    if (l->len > FRAME_HEADER)
        frame_end(l);
    log_save(l, io);
    free(l);
}

/* ---- what came of it ---- */

static void plog_check(struct plog *p)
{
    struct plog_read r = {0};
    struct plog_info now;
    struct errinfo info = {0};
    struct batch_info bi;
    int64_t at;
    unsigned i;

    plog_info_get(p, &now);
    ASSERT(now.start_offset >= 0 && now.start_offset <= now.end_offset);
    for (at = now.start_offset; at < now.end_offset;) {
        if (plog_read(p, at, 10000, &r, &info) || !r.n)
            break;
        for (i = 0; i < r.n; i++) {
            ASSERT(!batch_parse(r.batch[i].data, &bi) && batch_crc_ok(r.batch[i].data));
            ASSERT(r.batch[i].last_offset >= at);
            at = r.batch[i].last_offset + 1;
        }
    }
    plog_read_release(&r);
}

struct state {
    size_t topics, partitions;
    int64_t starts, ends; /* of all partitions, added up */
};

static struct state look(struct broker *b)
{
    struct topic *t[100] = {0};
    struct plog_info now;
    struct state s = {0};
    size_t n = topic_list(b, SLICE_NULL, NULL, t, 100), i;
    int32_t k;

    s.topics = topic_count(b);
    for (i = 0; i < n; i++) {
        s.partitions += (size_t)topic_partitions(t[i]);
        for (k = 0; k < topic_partitions(t[i]); k++) {
            plog_check(partition_log(topic_partition(t[i], k)));
            plog_info_get(partition_log(topic_partition(t[i], k)), &now);
            s.starts += now.start_offset;
            s.ends += now.end_offset;
        }
        topic_unref(&t[i]);
    }
    return s;
}

static void read_some(struct broker *b)
{
    struct reader_conf rc = {.selector = SLICE_LIT("*"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct reader *r = NULL;
    struct errinfo info;
    unsigned i;

    if (reader_open(b, &rc, &r, &info))
        return;
    for (i = 0; i < 1000 && reader_next(r, &rec, &info) == ERR_OK; i++)
        ;
    reader_close(&r);
}

static void said(void *arg, bool problem, const char *text)
{
    ASSERT(text[0]);
}

static void reopened(struct io *io)
{
    struct journal_check_result found;
    struct errinfo info;
    struct broker *b = NULL;
    struct state was, is;
    enum err e = start(io, &b, &info);

    ASSERT(e == ERR_OK || (!b && info.text[0]));
    ASSERT(e == ERR_OK || e == ERR_CORRUPT || e == ERR_FORMAT || e == ERR_LIMIT);
    if (e) {
        ASSERT(!journal_check(io, "/d", said, NULL, &found, &info));
        journal_repair(io, "/d", true, said, NULL, &info);
        journal_repair(io, "/d", false, said, NULL, &info);
        if (start(io, &b, &info))
            return;
    }
    read_some(b);
    append(b, "t");
    append(b, "u");
    while (broker_background(b))
        broker_step(b);
    was = look(b);
    broker_close(&b);
    e = start(io, &b, &info);
    if (e) {
        fprintf(stderr, "what was taken is not taken again: %s\n", info.text);
        abort();
    }
    is = look(b);
    ASSERT(was.topics == is.topics && was.partitions == is.partitions && was.ends == is.ends);
    ASSERT(is.starts >= was.starts); /* retention goes on */
    broker_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct broker *b = NULL;
    struct errinfo info;
    struct io *io;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    io = io_sim_new(1);
    ASSERT(!start(io, &b, &info));
    append(b, "t");
    append(b, "t");
    if (!(data[0] & WORLD_CLOSE))
        io_sim_crash(io);
    broker_close(&b);
    frames_add(io, data + 1, size - 1);
    reopened(io);
    io_sim_free(&io);
    return 0;
}
