/* Fuzzing of the index of a sealed data file (journal/index.h), on a simulated disk.
 *
 * The first byte chooses: the bytes as they are; the bytes with every number that ties them to the
 * file and every checksum made right, so that only the rows' contents are strange; or an index made
 * by the encoder from references taken from the input. Checked beside the sanitizers: a row that is
 * handed out lies within the index, what the encoder wrote comes out the same, and a changed bit
 * in header or directory is noticed. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/index.h"

#define INPUT_MAX 65536u
#define FILE_ID   7u
#define PATH      "/d/log/0000000000000007.idx"
#define ROWS_MAX  64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct loaded {
    struct index_row row[ROWS_MAX];
    uint64_t n;
};

static struct journal j = {.dir = "/d", .log_id = 0x0123456789abcdef};

static void row_seen(void *arg, struct jfile *f, const struct index_row *r)
{
    struct loaded *l = arg;

    ASSERT(r->count > 0 && r->count <= f->index_entries);
    ASSERT(r->first_entry <= f->index_entries - r->count);
    ASSERT(index_entry_at(f, r->first_entry) >= INDEX_HEADER);
    if (l->n < ROWS_MAX)
        l->row[l->n] = *r;
    l->n++;
}

static enum err load(struct jfile *f, struct loaded *l)
{
    struct errinfo info = {0};
    enum err e;

    *f = (struct jfile){.j = &j, .id = FILE_ID, .kind = JFILE_JOURNAL};
    l->n = 0;
    e = index_load(f, row_seen, l, &info);
    ASSERT(e == ERR_OK || e == ERR_CORRUPT);
    ASSERT(e == ERR_OK ? l->n == f->index_rows : info.text[0] != 0);
    return e;
}

static void put(const uint8_t *data, size_t size)
{
    struct io_file *fd = NULL;

    ASSERT(!io_open(j.io, PATH, IO_CREATE | IO_TRUNC, &fd, NULL));
    ASSERT(!size || !io_pwrite(fd, data, size, 0, NULL));
    io_close(&fd);
}

static void raw(const uint8_t *data, size_t size)
{
    struct jfile f;
    struct loaded l;

    put(data, size);
    load(&f, &l);
}

/* A header that fits the length, and right checksums: then every row is taken or refused for what
 * it says. */
static void mended(const uint8_t *data, size_t size)
{
    struct jfile f;
    struct loaded l;
    uint64_t rows, i;
    uint8_t *p;

    if (size < INDEX_HEADER)
        return;
    rows = le64_load(data + 24) % ((size - INDEX_HEADER) / INDEX_ROW + 1);
    size -= (size - INDEX_HEADER - rows * INDEX_ROW) % REF_BYTES;
    p = xmemdup(data, size);
    le32_store(p, INDEX_MAGIC);
    le32_store(p + 4, JFILE_JOURNAL);
    le64_store(p + 8, j.log_id);
    le64_store(p + 16, FILE_ID);
    le64_store(p + 24, rows);
    le64_store(p + 32, (size - INDEX_HEADER - rows * INDEX_ROW) / REF_BYTES);
    le32_store(p + 124, crc32c(0, p, 124));
    for (i = 0; i < rows; i++) {
        uint8_t *r = p + INDEX_HEADER + i * INDEX_ROW;

        le32_store(r + 76, crc32c(0, r, 76));
    }
    put(p, size);
    load(&f, &l);
    ASSERT(f.index_rows == rows);
    free(p);
}

/* A reference from REF_BYTES bytes, with the order that the journal guarantees. */
static void ref_take(struct batch_ref *r, const uint8_t *p, const struct batch_ref *before)
{
    batch_ref_read(p, r);
    r->base_offset = before ? before->base_offset + before->count : r->base_offset & 0xffffffff;
    r->position = before ? before->position + before->count : r->position & 0xffffffff;
    r->count = r->count % 1000 + 1;
    r->len = r->len % 100000 + BATCH_HEADER;
}

static void same(const struct index_row *a, const struct index_row *b)
{
    ASSERT(a->uid == b->uid && a->count == b->count && a->first_entry == b->first_entry);
    ASSERT(a->base_offset == b->base_offset && a->end_offset == b->end_offset);
    ASSERT(a->position == b->position && a->position_end == b->position_end);
    ASSERT(a->max_ts == b->max_ts && a->bytes == b->bytes && a->entries_crc == b->entries_crc);
}

/* Entries are read one by one, each with its own checksum. */
static void entries_check(const struct jfile *f, const struct index_build *b)
{
    struct io_file *fd = NULL;
    struct batch_ref ref;
    uint8_t raw_ref[REF_BYTES];
    size_t got;
    uint64_t i;

    ASSERT(!io_open(j.io, PATH, IO_RDONLY, &fd, NULL));
    for (i = 0; i < f->index_entries; i++) {
        ASSERT(!io_pread(fd, raw_ref, REF_BYTES, index_entry_at(f, i), &got, NULL));
        ASSERT(got == REF_BYTES && !memcmp(raw_ref, b->entries + i * REF_BYTES, REF_BYTES));
        batch_ref_read(raw_ref, &ref);
        ASSERT(batch_ref_ok(&ref));
    }
    io_close(&fd);
}

/* Input: plogs, each a byte of how many references and then those. */
static void made(const uint8_t *data, size_t size)
{
    struct jfile f = {.j = &j, .id = FILE_ID, .kind = JFILE_JOURNAL}, g;
    struct batch_ref refs[16];
    struct index_build b = {0};
    struct loaded l;
    uint32_t uid = 0, n, i, bit;

    bit = size > 4 ? le32_load(data) : 0;
    while (size > REF_BYTES && b.rows_n < ROWS_MAX) {
        n = 1 + *data % 16;
        uid += 1 + *data / 16;
        data++;
        size--;
        for (i = 0; i < n && size >= REF_BYTES; i++, data += REF_BYTES, size -= REF_BYTES)
            ref_take(&refs[i], data, i ? &refs[i - 1] : NULL);
        index_add(&b, uid, refs, i);
    }
    f.used = size;
    f.last_crc = bit;
    ASSERT(!index_write(&b, &f, NULL) && !load(&g, &l) && l.n == b.rows_n);
    ASSERT(g.used == f.used && g.last_crc == f.last_crc && g.index_entries == b.entries_n);
    for (i = 0; i < l.n; i++)
        same(&l.row[i], &b.rows[i]);
    entries_check(&g, &b);
    bit %= (uint32_t)(INDEX_HEADER + b.rows_n * INDEX_ROW) * 8;
    ASSERT(io_sim_flip(j.io, PATH, bit / 8, bit % 8) && load(&g, &l) == ERR_CORRUPT);
    index_build_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX)
        return 0;
    j.io = io_sim_new(1);
    ASSERT(!io_mkdir(j.io, "/d", NULL) && !io_mkdir(j.io, "/d/log", NULL));
    if (data[0] % 3 == 0)
        raw(data + 1, size - 1);
    else if (data[0] % 3 == 1)
        mended(data + 1, size - 1);
    else
        made(data + 1, size - 1);
    io_sim_free(&j.io);
    return 0;
}
