/* The journal: one durable, totally ordered log for a data directory.
 *
 * Every change of state is an *entry*. Entries that must stand or fall together form a *unit*;
 * units that arrive together form a *frame*; a frame is written and synced once, then all its units
 * are answered (group commit). Entries of type ENTRY_BATCH carry a Kafka v2 record batch of one
 * partition log (`struct plog`) and are indexed here; all other types belong to the broker and are
 * opaque.
 *
 * Life of a unit:
 *   journal_append   (caller's thread)  under the journal lock: unit->sequence() may check or
 *                    reject, offsets and positions are assigned, room is reserved in the open
 *                    frame; outside the lock: bytes are copied in.
 *   writer thread    writes and syncs the frame, indexes its batches, publishes end offsets, calls
 *                    hooks->committed, then unit->done. Reads see a batch only after that.
 *
 * Invariants:
 *  1. unit->done is called exactly once for each unit that journal_append accepted, on the writer
 *     thread (or inside journal_step), in sequence order, after stable storage holds the frame
 *     (or, when every unit of the frame has `os` set, after the file holds it).
 *  2. Offsets within a plog and positions over all plogs are dense and never reused after they were
 *     visible to anyone.
 *  3. After a failed write or sync nothing is written any more (state JOURNAL_FAILED) until
 * reopened.
 *  4. What readers get is checked against its CRC when it comes from a file.
 *
 * Threads: functions are thread-safe unless said otherwise. With conf->threads false (simulation)
 * nothing happens by itself: the host calls journal_step and journal_background. */
#ifndef WEIR_JOURNAL_JOURNAL_H
#define WEIR_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"

struct io;
struct journal;
struct plog;
struct sqlite3;

enum entry_type {
    ENTRY_STAMP = 0,     /* nothing: proves that the frames before it were durable */
    ENTRY_BATCH = 1,     /* a record batch of a plog */
    ENTRY_LOG_START = 2, /* a plog's first kept offset moved up (i64 little-endian) */
    ENTRY_COMPACTED = 3, /* in segments only: see segment.h */
    ENTRY_BROKER = 16,   /* this and above: the broker's, opaque here */
};

struct journal_entry {
    uint8_t type;      /* enum entry_type or the broker's own */
    struct plog *plog; /* ENTRY_BATCH, ENTRY_LOG_START: the log; otherwise NULL */
    struct slice
        data; /* payload; borrowed until journal_append returns. ENTRY_BATCH: one whole batch
                 with a correct CRC (the journal trusts it; base offset is set in the copy) */
    /* filled in by journal_append for ENTRY_BATCH */
    int64_t base_offset;
    uint64_t position; /* of the batch's first record */
    bool skip;         /* set by unit->sequence: leave this entry out */
};

/* One atomic change. Owned by the caller, must stay until done() is called; `entries` too. */
struct journal_unit {
    struct list_node link; /* the journal's */
    struct journal_entry *entries;
    unsigned n;
    bool os; /* may be answered before the sync (topic durability `os`) */
    /* Called under the journal lock before anything is assigned; may set entries[].skip, or return
     * an error that journal_append then returns. May be NULL. Must not block or allocate much. */
    enum err (*sequence)(struct journal_unit *u);
    /* Called under the journal lock once offsets and positions are assigned. May be NULL. As
     * sequence: short, and no lock but such as nobody holds while calling the journal. */
    void (*sequenced)(struct journal_unit *u);
    /* Called by journal_append, without the lock, once offsets and positions are assigned and
     * before bytes are copied: may write into the data of the unit's own entries (not change
     * lengths). May be NULL. */
    void (*assigned)(struct journal_unit *u);
    /* See invariant 1. e is ERR_OK, ERR_NO_SPACE, ERR_IO or ERR_READ_ONLY. */
    void (*done)(struct journal_unit *u, enum err e);
    /* filled in */
    int64_t wall_ms;     /* time of sequencing, milliseconds since 1970 UTC */
    uint64_t seq;        /* frame */
    uint32_t crc, bytes; /* the journal's */
};

/* The broker's part, called by the journal. `arg` is conf->hooks_arg. */
struct journal_hooks {
    /* Recovery, single-threaded: checkpoint tables -> state. Creates plogs by plog_new. */
    enum err (*load)(void *arg, struct sqlite3 *db, struct errinfo *info);
    /* Recovery: one entry of type >= ENTRY_BROKER, in order, not covered by the checkpoint. */
    enum err (*apply)(void *arg, uint8_t type, struct slice data, int64_t wall_ms,
                      struct errinfo *info);
    /* Recovery: a batch with a producer id that the checkpoint does not cover, in order with the
     * entries. `owner` as given to plog_new. May be NULL. */
    void (*batch)(void *arg, void *owner, struct slice data, uint64_t position, int64_t wall_ms);
    /* Recovery: the plog with this uid, NULL if deleted. */
    struct plog *(*plog_find)(void *arg, uint32_t uid);
    /* Writer thread, after a frame is durable: once for each plog that the frame extended or
     * trimmed, before done() of its units. Wakes readers. `owner` as given to plog_new. */
    void (*committed)(void *arg, void *owner);
    /* Journal lock held: copy what changed since the last call. Cheap. Returned value goes to
     * checkpoint_write. Everything sequenced so far is included. */
    void *(*checkpoint_collect)(void *arg);
    /* Background thread, inside a transaction, after everything sequenced before the collect is
     * durable: write what was collected. */
    enum err (*checkpoint_write)(void *arg, void *collected, struct sqlite3 *db,
                                 struct errinfo *info);
    /* Background thread, once after each collect: committed, or not: then what was collected is to
     * be merged back so that the next checkpoint has it. Frees it. */
    void (*checkpoint_end)(void *arg, void *collected, bool committed);
    /* Background thread, about once a second of conf->io time: retention and the like. */
    void (*tick)(void *arg, int64_t wall_ms);
    /* Any thread: the state changed (see journal_state_get). Must not call back into the journal.
     */
    void (*state_changed)(void *arg, int state, const struct errinfo *why);
};

struct journal_conf {
    const char *dir; /* created if missing (one level) */
    struct io *io;
    const struct journal_hooks *hooks;
    void *hooks_arg;
    bool threads;        /* false: simulation */
    bool read_only;      /* no writes at all; a crashed log is read as recovery would leave it */
    uint64_t file_bytes; /* journal file size; 0 = 128 MiB; multiple of 4 KiB */
    uint64_t tail_bytes; /* frames kept in memory at most; 0 = 64 MiB */
    /* Of files, and beyond tail_bytes of frames while there are readers, kept in memory at most, for a
     * minute; 0 = 64 MiB. */
    uint64_t cache_bytes;
    uint64_t inflight_bytes; /* sequenced but not durable at most; 0 = 64 MiB */
    uint32_t frame_bytes;    /* target of a frame; 0 = 1 MiB */
    uint32_t spare_files;    /* prepared files at most; 0 = 2 */
};

enum journal_state {
    JOURNAL_OK = 0,
    JOURNAL_NO_SPACE = 1, /* appends answer ERR_NO_SPACE; tried again by itself */
    JOURNAL_FAILED = 2,   /* appends answer ERR_READ_ONLY until reopened */
    JOURNAL_CLOSED = 3,
};

/* Opens or creates the log in conf->dir: takes the directory lock, loads the checkpoint, replays.
 * *out is set before hooks->load and apply are called, so that they can make plogs; it is NULL
 * again when opening fails (plogs made meanwhile are then the broker's to free). *out is set before
 * the hooks are called. Errors: ERR_LOCKED (text has the holder's pid), ERR_CORRUPT (text names
 * file, offset and what to do), ERR_FORMAT, ERR_IO, ERR_NO_SPACE. */
enum err journal_open(const struct journal_conf *conf, struct journal **out, struct errinfo *info);
/* Writes what was accepted, checkpoints, stops threads, frees all (plogs are the broker's to free
 * afterwards by plog_free). *j becomes NULL. Readers must have ended. */
void journal_close(struct journal **j);
enum journal_state journal_state_get(struct journal *j, struct errinfo *why);
/* What an append is told in this state: ERR_OK, ERR_NO_SPACE, ERR_READ_ONLY, ERR_CLOSED. */
enum err journal_state_err(enum journal_state s);
/* 16 random bytes made with the directory: the identity of this log. */
const uint8_t *journal_id(const struct journal *j);
int64_t journal_wall_ms(const struct journal *j);
/* The room that a unit may take with its entries' headers: what one file, or one unit, holds. */
uint64_t journal_unit_bytes_max(const struct journal *j);
struct io *journal_io(const struct journal *j);

#define JOURNAL_NONBLOCK 1u
/* The caller is going to wait: if nobody is writing it may write the frame itself, on its own
 * thread, which saves two wake-ups. done() may then be called before journal_append returns. */
#define JOURNAL_WRITE 2u
/* Sequences the unit and copies its entries. ERR_OK: done() will be called (perhaps before this
 * returns). Otherwise done() is not called: ERR_OVERLOADED (JOURNAL_NONBLOCK and too much in
 * flight; without the flag it waits), ERR_NO_SPACE, ERR_READ_ONLY, ERR_TOO_LARGE, or
 * unit->sequence's. */
enum err journal_append(struct journal *j, struct journal_unit *u, unsigned flags);
/* How often sequenced units were given up because a write failed; for sequence callbacks, under the
 * journal lock: what was noted of units sequenced under a smaller number did not happen, unless
 * their done() said otherwise. */
uint64_t journal_giveups(const struct journal *j);
/* Bytes sequenced but not yet durable, and whether new work should be held back (half full). */
uint64_t journal_inflight(struct journal *j);
bool journal_pressure(struct journal *j);
/* Does the log stand still? A frame has been on its way to the disk for half a second, or one that took
 * so long came there just now: no longer ago than it took, and 5 s. What waits for the log, and what
 * comes behind it on the same connection, was not heard meanwhile. Any thread. */
bool journal_still(struct journal *j);

/* Simulation: one turn of the writer (false: nothing to do); one turn of the background worker. */
bool journal_step(struct journal *j);
bool journal_background(struct journal *j);
/* Blocks until a checkpoint that covers everything sequenced before the call is written. */
enum err journal_checkpoint(struct journal *j, struct errinfo *info);

/* The file being written counts as full, so that what is in it becomes sealed. Costs the room that is
 * left in it, until it is rewritten. Background thread (hooks->tick), or simulation. */
void journal_roll(struct journal *j);

/* First position not yet used by anything durable; records have positions below it. Starts at 1. */
uint64_t journal_position_end(struct journal *j);

struct journal_stats {
    uint64_t frames, entries, records, bytes_used, bytes_written; /* since open */
    uint64_t position_end, seq;
    uint64_t disk_bytes; /* of all files */
    uint32_t files, spare_files, segments;
    uint64_t tail_bytes, cache_bytes;
    uint64_t sync_ns_last, sync_ns_max;
};
void journal_stats_get(struct journal *j, struct journal_stats *out);
/* A call for each frame write's duration in nanoseconds and size; writer thread. For metrics. */
void journal_on_sync(struct journal *j, void (*fn)(void *arg, uint64_t ns, uint64_t bytes),
                     void *arg);

/* ---- partition logs ---- */

/* A partition's log. uid: unique for ever in this journal, not 0. `owner`: for hooks->committed.
 * Offsets start at `start_offset`. The broker makes one for each partition when the partition's
 * creation is applied or loaded, and frees it after the topic is deleted and unused. */
struct plog *plog_new(struct journal *j, uint32_t uid, int64_t start_offset, void *owner);
void plog_free(struct plog **p);
/* The log is deleted: its files' space is given up; reads answer ERR_TOPIC_NOT_FOUND. */
void plog_delete(struct plog *p);
uint32_t plog_uid(const struct plog *p);
void *plog_owner(const struct plog *p);

struct plog_info {
    int64_t start_offset;  /* first that can be read */
    int64_t end_offset;    /* the next record's; what is below is durable (or a repair's gap) */
    uint64_t bytes;        /* of the batches kept */
    uint64_t position_end; /* position of the last record + 1; 0 if it never had one */
    int64_t max_timestamp_ms;
    int64_t last_append_ms; /* wall clock of the last append; 0 if none since open */
    /* Of the records that were deleted at the start: positions are below this one (0: none was, or
     * nothing is known), timestamps are at most that one (-1). Exact for whole batches deleted
     * since open; else as what is kept next to them tells. */
    uint64_t gone_position;
    uint64_t
        gone_most; /* as gone_position, but none of them is at or above it, even if that is too much */
    int64_t gone_ts;
};
void plog_info_get(struct plog *p, struct plog_info *out);
/* Of the record that is sequenced next: for sequence callbacks, under the journal lock; for others,
 * who take it. */
int64_t plog_next_offset(const struct plog *p);
int64_t plog_next_offset_get(struct plog *p);

/* First offset to keep for a retention rule, never past the end. Runs of batches (one batch while
 * it is in a file not yet sealed, else all batches in one sealed file) go from the start while they
 * are wholly older than ts_ms (-1: no time rule) or while what is left is at least `bytes`
 * (UINT64_MAX: no size rule), and as long as keep_records records stay. */
int64_t plog_retention_offset(struct plog *p, int64_t ts_ms, uint64_t bytes, int64_t keep_records);

/* ---- reading ---- */

struct read_batch {
    struct slice data;   /* whole v2 batch, base offset set, CRC checked when it came from a file */
    int64_t base_offset; /* first and */
    int64_t last_offset; /* last offset */
    uint64_t position;   /* of base_offset; record i has position + (offset - base_offset) */
    int64_t max_timestamp_ms;
};
#define READ_BATCHES_MAX 64
/* What a read returns; owns the pins that keep `data` valid. Zero-initialise before first use;
 * reused by following reads (which release the earlier result); release with plog_read_release. */
struct plog_read {
    struct read_batch batch[READ_BATCHES_MAX];
    unsigned n;
    size_t bytes;       /* sum of data.len */
    int64_t end_offset; /* the plog's at the time of reading */
    int64_t start_offset;
    /* Asked by the caller: only what is in memory; ERR_AGAIN: a file would have to be read. */
    bool memory_only;
    /* Answered: what follows is likely to be wanted, and not in memory (plog_read_ahead). */
    bool ahead;
    bool once; /* nobody else will want what is read: it is not kept for others */
    /* The reader comes late and can wait for the disk: no more is kept in memory for its sake. */
    bool patient;
    /* private */
    struct journal *j;
    void *pins[READ_BATCHES_MAX], *blocks[READ_BATCHES_MAX];
    unsigned pins_n, blocks_n;
    uint8_t *buf;
    size_t buf_cap;
};
/* Batches from the one that holds `offset` on (so the first may begin before it), in order, up to
 * bytes_max (but at least one batch if there is one) and READ_BATCHES_MAX.
 * ERR_OK with n == 0: offset is the end. ERR_OFFSET_RANGE: below start_offset or above the end
 * (r->start_offset and r->end_offset are set). ERR_CORRUPT: stored bytes are damaged (info names
 * the file and place). ERR_IO. Any thread; r belongs to the caller. */
enum err plog_read(struct plog *p, int64_t offset, size_t bytes_max, struct plog_read *r,
                   struct errinfo *info);
void plog_read_release(struct plog_read *r);
/* The same, but keeps a buffer of up to buf_max bytes for the next read: memory used lately is far
 * quicker than new memory. */
void plog_read_recycle(struct plog_read *r, size_t buf_max);
/* Has what follows ready for a plog_read from `offset` on, as far as it is worth reading before it is
 * asked for. Reads from files. */
void plog_read_ahead(struct plog *p, int64_t offset, size_t bytes_max);

/* First offset whose record's position is >= position (end offset if none). */
enum err plog_seek_position(struct plog *p, uint64_t position, int64_t *offset,
                            struct errinfo *info);
/* Base offset of the first batch with max timestamp >= ts_ms (the caller looks into the batch for
 * the exact record); end offset if none. */
enum err plog_seek_time(struct plog *p, int64_t ts_ms, int64_t *offset, struct errinfo *info);

/* ---- checking and mending (offline) ---- */

struct journal_check_result {
    uint64_t files, frames, batches, records, bytes;
    uint64_t problems;
};
/* Verifies every byte that has a checksum, read-only, without changing the directory. Each problem
 * and each step of progress is reported by fn. ERR_OK even when problems were found. */
enum err journal_check(struct io *io, const char *dir,
                       void (*fn)(void *arg, bool problem, const char *text), void *arg,
                       struct journal_check_result *out, struct errinfo *info);
/* Mends what journal_open refuses: cuts or skips damaged parts (copies of what is cut are put into
 * DIR/damaged/), rebuilds indexes. Says each thing that it did by fn. Loses only what cannot be
 * read. What is lost leaves gaps: its offsets and positions are not used again (lost.h). dry_run:
 * say, not do. */
enum err journal_repair(struct io *io, const char *dir, bool dry_run,
                        void (*fn)(void *arg, bool problem, const char *text), void *arg,
                        struct errinfo *info);

#endif
