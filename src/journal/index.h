/* The index of a sealed data file, DIR/log/<id>.idx: where each batch is, by plog. Immutable;
 * written to a temporary name, synced, renamed. All integers little-endian:
 *
 *   header (128 bytes)                              directory: one row (80 bytes) a plog, by uid
 *     0 u32 magic "WIX1"     4 u32 kind of file       0 u32 uid        4 u32 entries
 *     8 u64 log id          16 u64 file id            8 u64 number of the first entry
 *    24 u64 rows            32 u64 entries           16 i64 base offset     24 i64 end offset
 *    40 u64 used bytes of the data file              32 u64 position        40 u64 position end
 *    48 u64 first seq       56 u64 last seq          48 i64 max timestamp   56 u64 bytes
 *    64 u64 position        72 u64 position end      64 i64 clean end       72 u32 crc of entries
 *    80 u64 frames          88 u64 records           76 u32 crc of bytes 0..75
 *    96 u32 crc of the last frame                   entries: 48 bytes a batch, by plog and offset
 *   100 u32 reserved ... 124 u32 crc of 0..123         (struct batch_ref, with a crc of its own)
 *
 * No threads of its own; functions are called by the background worker and by recovery. */
#ifndef WEIR_JOURNAL_INDEX_H
#define WEIR_JOURNAL_INDEX_H

#include "journal/journal_int.h"

#define INDEX_MAGIC  0x31584957u /* "WIX1" */
#define INDEX_HEADER 128u
#define INDEX_ROW    80u

struct index_header {
    uint32_t kind;
    uint64_t log_id, file_id, rows, entries, used, first_seq, last_seq, position, position_end,
        frames, records;
    uint32_t last_crc;
};

struct index_row {
    uint32_t uid, count;
    uint64_t first_entry;
    int64_t base_offset, end_offset;
    uint64_t position, position_end;
    int64_t max_ts;
    uint64_t bytes;
    int64_t clean_end; /* see compact.h; 0: was never compacted */
    uint32_t entries_crc;
};

/* An index being made. rows must be added in order of uid. */
struct index_build {
    struct index_row *rows;
    uint64_t rows_n, rows_cap;
    uint8_t *entries; /* encoded */
    uint64_t entries_n, entries_cap;
};

/* Adds a plog's entries; their crc fields are computed. Returns the row (valid until the next add),
 * of which the caller may set clean_end. */
struct index_row *index_add(struct index_build *b, uint32_t uid, struct batch_ref *refs,
                            uint32_t n);
/* Writes it for file f, durably. f's index file is not opened. */
enum err index_write(struct index_build *b, const struct jfile *f, struct errinfo *info);
void index_build_fini(struct index_build *b);

/* Byte position of an entry; f->index_rows must be known (from index_write or index_open). */
uint64_t index_entry_at(const struct jfile *f, uint64_t entry);

/* Reads and checks header and directory; calls fn for each row. Fills f's numbers from the header.
 * ERR_CORRUPT names the file; ERR_NOT_FOUND if there is none. */
enum err index_load(struct jfile *f,
                    void (*fn)(void *arg, struct jfile *f, const struct index_row *row), void *arg,
                    struct errinfo *info);

#endif
