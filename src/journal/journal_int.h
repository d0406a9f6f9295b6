/* What the files of src/journal share. Not for anyone else.
 *
 * Who owns what:
 *   journal lock (j->lock)  sequencing: open and closed frames, next offsets and positions, state,
 *                           the list of files, spares. Held shortly, never over I/O.
 *   shard lock (plog)       a plog's committed part: refs, extents, start and end offset.
 *   writer thread           the active file's place, the frame being written.
 *   background thread       sealing, checkpoints, rewriting, recycling.
 * Lock order: journal lock, then a shard lock, then tail lock, then file-cache lock. */
#ifndef WEIR_JOURNAL_INT_H
#define WEIR_JOURNAL_INT_H

#include <stdatomic.h>

#include "base/assert.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/compact.h"
#include "journal/frame.h"
#include "journal/journal.h"

#define PLOG_MAGIC             0x504c4f47u
#define JOURNAL_MAGIC          0x4a524e4cu
#define FILE_HEADER            FRAME_ALIGN /* bytes before the first frame of a journal file */
#define FILE_BYTES_DEFAULT     (128ull << 20)
#define FILE_BYTES_MIN         (64ull << 10)
#define UNIT_BYTES_MAX         (64ull << 20)
#define TAIL_BYTES_DEFAULT     (64ull << 20)
#define CACHE_BYTES_DEFAULT    (64ull << 20)
#define INFLIGHT_BYTES_DEFAULT (64ull << 20)
#define FRAME_BYTES_DEFAULT    (1u << 20)
#define SPARES_DEFAULT         1u
#define SPARES_RECYCLED_MAX    64u
#define SLAB_POOL_MAX          32u
#define SHARDS                 256u
#define REWRITE_AGE_NS         30000000000ull /* younger files may soon be dead as a whole */
#define STAMP_IDLE_NS          50000000ull
#define NO_SPACE_RETRY_NS      200000000ull
#define STILL_NS               500000000ull
#define STILL_AFTER_MAX_NS     5000000000ull
#define WRITERS_NS             20000000ull
#define REWRITE_BYTES_MAX      (256ull << 20)

/* ---- data files ---- */

enum jfile_kind { JFILE_JOURNAL = 0, JFILE_SEGMENT = 1 };
enum jfile_state {
    JFILE_ACTIVE, /* frames are being added */
    JFILE_FULL,   /* waits for its index */
    JFILE_SEALED, /* has an index; extents point at it */
    JFILE_DEAD,   /* nothing in it is wanted; goes after the next checkpoint */
};

/* A file with batches: a journal file (arrival order, frames) or a segment (rewritten, by plog). */
struct jfile {
    struct list_node link; /* j->files, ordered by id; journal lock */
    struct journal *j;
    uint64_t id;
    enum jfile_kind kind;
    _Atomic int state;
    atomic_uint pins;             /* readers inside */
    _Atomic int64_t live_bytes;   /* of batches still wanted */
    uint64_t size;                /* allocated */
    _Atomic uint64_t used;        /* end of the last frame */
    uint64_t first_seq, last_seq; /* frames (journal files) */
    uint32_t last_crc;
    uint64_t position, position_end;
    uint64_t frames, records;
    uint64_t index_rows, index_entries;
    uint64_t sealed_ns; /* when it got its index (0: before this run) */
    bool in_checkpoint; /* the saved list of files has it (journal lock) */
    bool maybe_saved;   /* or may: committing it failed (journal lock) */
    /* file-cache lock */
    struct io_file *data, *index;
    /* writer thread until FULL, then background: plogs that got a batch here */
    struct plog **touched;
    uint32_t touched_n, touched_cap;
    bool rewrite_failed; /* damage found while rewriting: leave it alone */
};

/* One batch's place. The same 48 bytes on disk (index entry, little-endian) and in memory. */
struct batch_ref {
    int64_t base_offset;
    uint64_t position;
    int64_t max_ts;
    uint32_t file_pos, len, count, batch_crc, epoch, crc;
};
#define REF_BYTES 48u

struct ref { /* a batch in a file that has no index yet */
    struct batch_ref b;
    struct jfile *file;
};

/* All batches of one plog in one sealed file. */
struct extent {
    struct jfile *file;
    uint64_t first_entry; /* in the file's index */
    uint32_t count;
    int64_t base_offset; /* entries below it do not count: compaction has put others there */
    int64_t end_offset;
    int64_t clean_end; /* see compact.h; 0: was never compacted */
    uint64_t position, position_end;
    int64_t max_ts;
    uint64_t bytes;
};

struct plog {
    struct list_node link; /* j->plogs; journal lock */
    uint32_t magic, uid;
    struct journal *j;
    void *owner;
    _Atomic bool deleted;
    atomic_uint refcount; /* the broker's, and one for each file not yet sealed that it is in */
    int64_t next_offset;  /* journal lock */
    /* shard lock */
    int64_t start_offset, end_offset, max_ts, last_append_ms;
    uint64_t bytes, position_end;
    uint64_t gone_position; /* the batches dropped since opening had positions below it, */
    int64_t gone_ts;        /* and timestamps up to this; 0 and -1: none was dropped */
    struct ref *refs;       /* refs[refs_head .. refs_head + refs_n) */
    uint32_t refs_head, refs_n, refs_cap;
    struct extent *ext;
    uint32_t ext_n, ext_cap;
    /* writer thread */
    uint64_t commit_seq;
    uint64_t touched_file; /* id */
    /* background thread */
    uint64_t compact_after_ns;
};

/* ---- frames in memory ---- */

struct frame {
    struct list_node link; /* closed queue; those that are let go */
    struct slab *slab;     /* whose memory this is */
    uint8_t *mem;          /* FRAME_ALIGN-aligned */
    uint64_t cap, used;    /* used: FRAME_HEADER + entries */
    uint64_t waste, held;  /* held: of memory, with what stayed empty (waste) in the slab before */
    atomic_uint refs;
    atomic_uint copying; /* units whose bytes are not all in yet */
    uint64_t seq, position, position_end;
    int64_t wall_ms;
    uint32_t entries, records;
    bool os; /* all its units may be answered before the sync */
    struct list_head units;
    uint64_t file_id, file_pos; /* once written */
    uint32_t crc;
};

/* A spare that is being written with zeros, a piece at a time. */
struct spare_fill {
    struct io_file *fd; /* NULL: there is none */
    char path[512];
    uint64_t done;   /* bytes written from the start on */
    uint64_t began;  /* j->st_written then */
    uint64_t within; /* it is to be done when so many bytes more have been written to the journal */
    bool whole;      /* no part may be left out: its room is not reserved */
};

struct tail_slot {
    uint64_t file_id, file_pos;
    struct frame *frame;
};

/* ---- the journal ---- */

struct journal {
    uint32_t magic;
    struct journal_conf conf;
    char *dir;
    struct io *io;
    struct io_lock *dir_lock;
    uint8_t id[16];
    uint64_t log_id;

    struct io_mutex lock;
    struct io_cond room; /* in-flight bytes went down, or the state changed */
    _Atomic int state;   /* enum journal_state; written under the lock */
    struct errinfo why;
    uint64_t no_space_retry_ns;
    struct frame *open;
    struct list_head closed;
    uint64_t unit_bytes_max;
    _Atomic uint64_t next_seq;
    uint64_t next_position;
    _Atomic uint64_t inflight;
    struct list_head files; /* in order of position */
    struct list_head plogs;
    uint32_t plogs_n;
    uint64_t next_file_id;
    uint64_t sealed_id, sealed_seq; /* the last journal file that got its index, and where its */
    uint32_t sealed_crc;            /* frames ended: what is replayed comes after it */
    uint64_t saved_sealed_id;       /* sealed_id of the last checkpoint that was committed, … */
    uint64_t saved_seq;             /* … and its last frame; 0: none */
    uint64_t st_rewrites;
    struct jfile **unused; /* recovery only: files without frames */
    uint32_t unused_n;
    bool recovered, closing;
    char *spares[SPARES_RECYCLED_MAX]; /* names of prepared files, ready to be renamed */
    _Atomic uint32_t spares_n;         /* lock to change */
    uint64_t giveups;                  /* times that sequenced frames were given up */
    uint32_t full_n;                   /* files waiting for the sealer */
    uint32_t dead_n;
    struct jfile *ready; /* the next journal file, prepared ahead */
    struct io_file *ready_fd;

    struct slab *slab; /* frames are put into it, the next at slab_at: slab.h; journal lock */
    uint64_t slab_at, slab_waste;
    struct io_mutex pool_lock;
    struct list_head pool; /* slabs */
    uint32_t pool_n;

    struct io_event writer_event, background_event; /* their own threads alone wait for them */
    struct io_event copied_event; /* who has the role waits: a frame's bytes are all there */
    atomic_bool copied_waited;
    struct io_thread *writer, *background, *keeper;
    _Atomic bool stop_writer, stop_background, stop_keep;
    _Atomic bool roll; /* the next frame begins a file */

    /* the writer's: guarded by the role, which the writer thread or a waiting sender holds */
    struct io_mutex role;
    struct jfile *active;
    struct io_file *active_fd;
    uint64_t active_pos;
    uint64_t written_seq, durable_seq_w;
    uint32_t prev_crc;
    bool unsynced; /* frames of durability `os` were written after the last sync */
    struct plog **touched;
    uint32_t touched_n, touched_cap;

    _Atomic uint64_t durable_seq; /* frames up to it are on stable storage */
    _Atomic uint64_t position_end;

    struct io_mutex tail_lock;
    struct tail_slot *tail; /* ring, power of two */
    uint32_t tail_head, tail_n, tail_cap;
    uint64_t tail_bytes, tail_max;
    _Atomic uint64_t evicted_bytes; /* frames that left the tail, but whose slabs are still held */
    struct blocks *blocks;

    struct io_event keep_event;    /* keep.c, and the next six */
    _Atomic uint64_t keep_read_ns; /* when somebody read */
    uint64_t keep_grown_ns;        /* the keeper's: when it made the last slab, */
    uint64_t keep_written;         /* what had been written then, */
    uint64_t keep_cost_ns;         /* what one takes, of late; */
    uint64_t keep_rest_ns;         /* not before this another */
    uint64_t keep_more;            /* and room that the tail has beyond its own */
    _Atomic uint64_t committed_ns; /* the last frame */

    struct io_mutex shard[SHARDS];
    struct io_mutex cache_lock;
    _Atomic uint32_t cache_open; /* changed under the cache lock */

    const uint8_t *zeros;   /* HUGE_BYTES, never written to, so no memory; or NULL */
    struct spare_fill fill; /* background thread, and the next two */
    bool fill_paused;       /* the last turn did nothing but write a piece of it */
    uint64_t fill_frames;   /* st_frames before the last turn */

    /* background thread, or journal_checkpoint's caller under ckpt_lock */
    struct io_mutex ckpt_lock;
    struct checkpoint *ckpt;
    uint32_t sealed_new, dead_unsaved; /* journal lock: reasons for a checkpoint */
    enum err background_err;           /* journal lock: of the last turn */
    struct errinfo background_why;
    uint64_t tick_ns, release_ns, tick_frames;
    uint64_t stamp_seq_seen, stamp_since_ns, stamp_seq_done;
    struct compact_job *job; /* NULL: none */
    uint32_t compact_keys_max;
    uint64_t compact_segment_bytes;
    struct compact_stats compact_stats; /* journal lock */

    /* journal_still: since when a frame is on its way to the disk (0: none is), how long the last one
     * took that took long, and when it came there */
    _Atomic uint64_t put_since_ns, still_ns, still_end_ns;

    _Atomic uint64_t st_frames, st_entries, st_records, st_used, st_written, st_sync_last,
        st_sync_max;
    void (*on_sync)(void *arg, uint64_t ns, uint64_t bytes);
    void *on_sync_arg;
};

static inline struct io_mutex *plog_shard(struct plog *p)
{
    return &p->j->shard[p->uid % SHARDS];
}

/* tail.c */
void tail_add(struct journal *j, struct frame *f);
struct frame *tail_find(struct journal *j, uint64_t file_id, uint64_t pos); /* referenced or NULL */
/* Is there more to keep than there is room for? */
bool tail_full(struct journal *j);
/* Room from now on. If less than it has is let go, the oldest first, up to some at once; false: that
 * was not all. */
bool tail_resize(struct journal *j, uint64_t bytes_max);
void tail_clear(struct journal *j);

/* file.c */
struct jfile *jfile_new(struct journal *j, uint64_t id, enum jfile_kind kind, uint64_t size);
void jfile_free(struct jfile **f);
void jfile_path(const struct journal *j, uint64_t id, enum jfile_kind kind, bool index, char *out,
                size_t cap);
void jfile_pin(struct jfile *f);
void jfile_unpin(struct jfile *f);
/* A descriptor for reading, valid while pinned. */
enum err jfile_data(struct jfile *f, struct io_file **out, struct errinfo *info);
enum err jfile_index(struct jfile *f, struct io_file **out, struct errinfo *info);
/* ERR_AGAIN: it is not open. */
enum err jfile_index_now(struct jfile *f, struct io_file **out);
void jfile_cache_trim(struct journal *j);
void jfile_close(struct jfile *f);
void jfile_live(struct jfile *f, int64_t delta);
/* First block of a data file. */
void jfile_header_make(const struct journal *j, uint64_t id, enum jfile_kind kind, uint64_t size,
                       uint8_t *block);
bool jfile_header_ok(const struct journal *j, const uint8_t *block, uint64_t id,
                     enum jfile_kind kind);
/* What a file with this header has at least, from before it had a name: a smaller one was cut. */
uint64_t jfile_header_size(const uint8_t *block);
/* Makes a journal file ready for frames, from a spare if there is one; *fd is open for the writer.
 */
enum err jfile_make(struct journal *j, struct jfile **out, struct io_file **fd,
                    struct errinfo *info);
/* Background: writes a piece of the next spare, if it is behind; whether it did. */
bool spare_prepare(struct journal *j);
/* Background: the spare that is being written is one now, as far as it is. */
void spare_settle(struct journal *j);
/* … or it is removed. */
void spare_drop(struct journal *j);
bool spare_release(struct journal *j);
void spare_scan(struct journal *j);
bool files_recycle(struct journal *j);
void jfile_to_spare(struct journal *j, struct jfile *f);

enum err jfile_open_active(struct journal *j, struct jfile *f, struct io_file **fd,
                           struct errinfo *info);

/* plog.c */
/* Recovery: a batch that may lie below the start already. False if it contradicts what is there. */
bool plog_replay_batch(struct plog *p, const struct batch_ref *b, struct jfile *file,
                       int64_t wall_ms);
void plog_commit_batch(struct plog *p, const struct batch_ref *b, struct jfile *file,
                       int64_t wall_ms);
void plog_commit_start(struct plog *p, int64_t start);
void plog_ref(struct plog *p);
void plog_unref(struct plog *p);
void plog_extent_add(struct plog *p, const struct extent *e); /* recovery */
void plog_extents_settle(struct plog *p);
uint32_t plog_refs_of(struct plog *p, const struct jfile *file, struct batch_ref **out,
                      uint32_t *cap);
void plog_seal(struct plog *p, const struct extent *e);
void plog_replace(struct plog *p, struct jfile *const *from, unsigned n, const struct extent *e);
void plog_compacted(struct plog *p, int64_t end, const struct extent *v, uint32_t n,
                    uint64_t below);
unsigned plog_extents_in(struct plog *p, struct jfile *const *files, unsigned n, struct extent *out,
                         bool *gap);
/* Where the extent begins that holds `offset` not as its first; else offset itself. */
int64_t plog_extent_base(struct plog *p, int64_t offset);
bool batch_matches(const uint8_t *data, const struct batch_ref *b);
void batch_ref_crc(struct batch_ref *b);
bool batch_ref_ok(const struct batch_ref *b);
void batch_ref_write(uint8_t *dst, const struct batch_ref *b);
void batch_ref_read(const uint8_t *src, struct batch_ref *b);

/* writer.c */
bool writer_step(struct journal *j);
void writer_close_open(struct journal *j); /* journal lock held */
void writer_main(void *arg);
void batch_ref_make(struct batch_ref *b, const uint8_t *data, uint32_t len, uint64_t position,
                    uint64_t file_pos);
void journal_state_set(struct journal *j, enum journal_state s, const struct errinfo *why);

/* Was something written a moment ago? */
bool writers_about(struct journal *j);

/* sealer.c */
bool background_step(struct journal *j);
void background_main(void *arg);
enum err checkpoint_run(struct journal *j, struct errinfo *info);

/* compact.c */
bool compact_step(struct journal *j);
void compact_stop(struct journal *j);

/* recovery.c */
enum err journal_recover(struct journal *j, struct errinfo *info);

#endif
