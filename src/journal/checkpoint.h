/* The checkpoint: DIR/checkpoint.db, a SQLite database with what the journal and the broker know,
 * as of one frame. Recovery loads it and replays the frames after that one.
 *
 * Tables of the journal:
 *   meta(key TEXT PRIMARY KEY, value)
 *       format, log_id, applied_seq, next_position, next_file_id, sealed_id, sealed_seq,
 *       sealed_crc, clean
 *   files(id, kind, size, used, first_seq, last_seq, last_crc, position, position_end)
 *       one row a sealed file; a file that is not here and comes after all these is replayed
 *   lost(position, position_end), ends(uid, next, position)
 *       after a repair: see lost.h
 * The broker's tables are its own (see broker/state.h). One thread at a time (ckpt_lock). */
#ifndef WEIR_JOURNAL_CHECKPOINT_H
#define WEIR_JOURNAL_CHECKPOINT_H

#include "journal/journal_int.h"

struct checkpoint;

struct checkpoint_meta {
    bool found; /* false: a new database */
    uint8_t log_id[16];
    uint64_t applied_seq, next_position, next_file_id;
    uint64_t sealed_id, sealed_seq; /* last journal file with an index; its last frame */
    uint32_t sealed_crc;
    bool clean; /* closed in order at applied_seq: there is nothing after that frame */
};

struct checkpoint_file {
    uint64_t id, size, used, first_seq, last_seq, position, position_end;
    uint32_t kind, last_crc;
};

/* Opens or creates. read_only: no file is changed; what has to be rolled back, or made, is so in
 * memory. ERR_CORRUPT with what SQLite says. */
enum err checkpoint_open(struct io *io, const char *dir, bool read_only, struct checkpoint **out,
                         struct errinfo *info);
/* The error of the last statement, with what SQLite says. */
enum err checkpoint_error(struct checkpoint *c, const char *what, struct errinfo *info);
/* True if a page was read that did not match its checksum: info names it. */
bool checkpoint_damage(struct checkpoint *c, struct errinfo *info);
void checkpoint_close(struct checkpoint **c);
struct sqlite3 *checkpoint_db(struct checkpoint *c);
enum err checkpoint_meta_load(struct checkpoint *c, struct checkpoint_meta *m,
                              struct errinfo *info);
enum err checkpoint_files_load(struct checkpoint *c,
                               enum err (*fn)(void *arg, const struct checkpoint_file *f,
                                              struct errinfo *info),
                               void *arg, struct errinfo *info);
enum err checkpoint_begin(struct checkpoint *c, struct errinfo *info);
enum err checkpoint_commit(struct checkpoint *c, struct errinfo *info);
void checkpoint_rollback(struct checkpoint *c);
enum err checkpoint_meta_save(struct checkpoint *c, const struct checkpoint_meta *m,
                              struct errinfo *info);
enum err checkpoint_file_save(struct checkpoint *c, const struct checkpoint_file *f,
                              struct errinfo *info);
enum err checkpoint_file_delete(struct checkpoint *c, uint64_t id, struct errinfo *info);
/* SQLite's own check of the whole database: ERR_CORRUPT with its first finding. */
enum err checkpoint_verify(struct checkpoint *c, struct errinfo *info);

#endif
