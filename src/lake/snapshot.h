/* Snapshots: reading what a table's snapshot holds, and making the next one.
 *
 * A change is prepared (manifests and the manifest list are written to the store, under names of
 * their own) and then committed by a catalog, which makes it visible in one step. If the commit
 * does not come to be, what was written is garbage that snapshot_discard removes.
 *
 * A change that only adds writes one manifest and a list that names those of before, too (a fast
 * append). When manifests have become many (commit.manifest.min-count-to-merge, 100), small ones are
 * written together up to commit.manifest.target-size-bytes (8 MiB), so that their number stays
 * bounded and each entry is written anew a few times at most.
 *
 * Covered offsets: the summary of a snapshot of Weir has weir.offsets, a JSON text that says up to
 * where each partition of the topic is in the table. A change that does not say it anew carries it
 * over from the snapshot before, also over snapshots of others, who do not know of it. The same text is
 * the table's property weir.offsets, for the time when others have expired all snapshots that had it.
 *
 * Threads: calls block on the store; nothing is shared. */
#ifndef WEIR_LAKE_SNAPSHOT_H
#define WEIR_LAKE_SNAPSHOT_H

#include "io/io.h"
#include "lake/catalog.h"
#include "lake/manifest.h"
#include "lake/metadata.h"
#include "lake/store.h"

#define SNAPSHOT_OFFSETS          "weir.offsets"
#define SNAPSHOT_OFFSETS_SEQUENCE "weir.offsets-sequence" /* of the snapshot that they are of */

struct lake_env {
    struct store *store;
    struct io *io;
};

/* ---- reading ---- */

/* The manifests of a snapshot; they live in a. snapshot NULL: none. */
enum err snapshot_manifests(const struct lake_env *env, const json_t *snapshot, struct arena *a,
                            struct manifest_file **out, size_t *n, struct errinfo *info);
struct snapshot_scan {
    /* Whether the manifest may have what is looked for; NULL: all. */
    bool (*want)(void *arg, const struct manifest_file *m, const struct spec *spec);
    /* Each live file (not deleted), delete files too; valid during the call. Stops with its error. */
    enum err (*file)(void *arg, const struct manifest_entry *e, const struct spec *spec);
    void *arg;
};
/* snapshot_id -1: the current one. ERR_NOT_FOUND: the table has no such snapshot. */
enum err snapshot_files(const struct lake_env *env, const struct metadata *md, int64_t snapshot_id,
                        const struct snapshot_scan *scan, struct errinfo *info);
/* The covered offsets of a snapshot: its own, those of the nearest before it that has some, or if
 * that one is expired the table's property. Borrowed; NULL: none. */
const char *snapshot_offsets_at(const struct metadata *md, const json_t *snapshot);
/* Of the current snapshot. */
const char *snapshot_offsets(const struct metadata *md);

/* ---- changing ---- */

enum snapshot_operation {
    SNAPSHOT_APPEND,    /* files are added */
    SNAPSHOT_REPLACE,   /* files take the place of others, with the same rows */
    SNAPSHOT_OVERWRITE, /* rows are added and removed */
    SNAPSHOT_DELETE,    /* rows are removed */
};
struct snapshot_change {
    enum snapshot_operation operation;
    const struct data_file *added; /* partitions by the table's default spec */
    size_t added_n;
    const struct slice *removed; /* locations of data files */
    size_t removed_n;
    const char *const *summary;  /* key, value, key, value, … */
    size_t summary_n;            /* pairs */
    const struct schema *schema; /* becomes the table's, in the same commit; NULL: as it is */
    int32_t last_column;         /* with schema: the highest id ever given */
};

struct snapshot_prepared {
    json_t *requirements, *updates;
    json_t *written; /* keys of the objects made */
    int64_t id;
};
/* ERR_CONFLICT: a file to be removed is not in the table (any more). ERR_UNSUPPORTED: a replacement
 * in a table with delete files. After an error nothing is left. */
enum err snapshot_prepare(const struct lake_env *env, const struct metadata *md,
                          const struct snapshot_change *change, struct snapshot_prepared *out,
                          struct errinfo *info);
/* Removes the objects of a change that was not committed. */
void snapshot_discard(const struct lake_env *env, struct snapshot_prepared *p);
void snapshot_prepared_fini(struct snapshot_prepared *p);

/* Prepares and commits; *md is the table as the caller knows it and becomes the table after it. If
 * another commit came first the table is loaded again, and rebase(arg, md) is asked whether the
 * change still stands (ERR_OK: try again; else that error is returned, with *md as loaded). An
 * uncertain outcome is looked into. ERR_UNCERTAIN: it is not known; nothing is discarded. */
enum err snapshot_commit(const struct lake_env *env, struct catalog *c, const struct table_name *t,
                         struct metadata **md, const struct snapshot_change *change,
                         enum err (*rebase)(void *arg, const struct metadata *md,
                                            struct errinfo *info),
                         void *arg, struct errinfo *info);

/* ---- maintenance ---- */

struct expire_result {
    uint64_t snapshots, manifests, data_files;
};
/* Takes snapshots out of the table (see metadata_expired), then deletes the files that only they
 * had. */
enum err snapshot_expire(const struct lake_env *env, struct catalog *c, const struct table_name *t,
                         int64_t older_than_ms, unsigned keep, struct expire_result *out,
                         struct errinfo *info);
/* Deletes objects below the table's data/ and metadata/ that nothing names and that were made before
 * older_than_ms, which must be older than any write under way. *n: how many. */
enum err snapshot_orphans(const struct lake_env *env, const struct metadata *md,
                          int64_t older_than_ms, uint64_t *n, struct errinfo *info);

#endif
