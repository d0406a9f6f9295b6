/* A topic as a folder of JSON lines: what lake.format=jsonl makes of it. Private to src/lake.
 *
 *   BASE/YYYY/MM/DD/PARTITION-FIRST-LAST.jsonl[.gz|.zst]    records, by the day of their time in UTC
 *   BASE/_weir/NUMBER.commit                                JSON: what a step puts there
 *
 * BASE is the topic's folder in the namespace, where a table's metadata would be, too. A reader lists
 * the files and reads them; nothing tells it which of them count, so each that is there must count,
 * and no two may have the same record, whatever has crashed.
 *
 * Exactly once: a step first puts a commit, a new object that must not exist, which names the files
 * to come, the ranges of offsets in each, and the offsets that are covered when they are there. Then
 * it puts the files, each if it is not there. The next commit is made only when all of the last one's
 * files are there. So after a crash the newest commit says what to do: put those that are missing,
 * from the same offsets under the same names, and go on behind them. What a file has is decided before
 * any of it can be seen; a file is there with all of its bytes or not at all.
 *
 *   list _weir/ -> newest commit -> its files that are missing -> covered
 *   records from there -> a file for each partition and day -> commit N+1 -> files -> covered
 *
 * Many small files of a day become one on request. A lister that comes in between must not see a
 * record twice, so it sees none of them for a moment: the large file is put beside the commits, the
 * commit says so, the small ones go, the large one comes, its first copy goes. After a crash the same
 * steps are taken again from the commit.
 *
 * The lake's thread, but for what reads. */
#ifndef WEIR_LAKE_JSONL_H
#define WEIR_LAKE_JSONL_H

#include "lake/lake_int.h"

/* ---- lines: jsonl_line.c ---- */

/* What is written of a record. */
struct jsonl_record {
    const struct record *r;
    int32_t partition;
    uint64_t position;
    const struct record_header *headers;
    uint32_t headers_n;
};
/* Appends the record's line with its newline:
 *   {"partition":0,"offset":7,"position":9,"id":"evt_…","timestamp":"…Z","key":…,"headers":[…],"value":…}
 * key: text, or key_base64 if it is not UTF-8. headers: [{"name":…,"value":…}], likewise. value: JSON as
 * it is if it is JSON of at most 100 levels (with line breaks or space around it also value_base64, for
 * in value the breaks are spaces); else value_text, or value_base64 if it is not UTF-8 or longer than
 * 8 MiB; none of them if the record has no value. Beyond
 * the years 0 to 9999 the time is exact in timestamp_ms alone, behind the other. ERR_TOO_LARGE: out's
 * maximum. */
enum err jsonl_line(struct buf *out, const struct jsonl_record *r);

/* What a line says; parts point into scratch or the line. */
struct jsonl_parsed {
    int32_t partition;
    struct lake_record r; /* headers: of the struct's own memory */
    struct record_header *header;
    uint32_t headers_cap;
    struct buf scratch; /* what was escaped or base64 */
};
void jsonl_parsed_init(struct jsonl_parsed *p);
void jsonl_parsed_fini(struct jsonl_parsed *p);
/* The record that the line was made of. false: it is none of ours. */
bool jsonl_line_parse(struct slice line, struct jsonl_parsed *out);

/* ---- reading: jsonl_read.c, jsonl_view.c ---- */

/* As struct lake_parquet's functions, of a file of lines; path tells its compression. */
struct jsonl_cursor;
enum err jsonl_cursor_open(const struct lake_cursor_conf *c, enum codec codec,
                           struct jsonl_cursor **out, struct errinfo *info);
enum err jsonl_cursor_next(struct jsonl_cursor *c, const struct lake_record **out,
                           struct errinfo *info);
void jsonl_cursor_close(struct jsonl_cursor **c);
/* gzip for NAME.gz, zstd for NAME.zst. */
enum codec jsonl_codec_of(const char *name);
/* What a name of a file of lines says. */
struct jsonl_name {
    char day[11]; /* 2026/11/21 */
    const char *suffix;
    int32_t partition;
    int64_t first, last;
};
bool jsonl_name_parse(const char *path, struct jsonl_name *out);
/* The end of its day; INT64_MAX: it is no day. */
int64_t jsonl_day_end(const char *path);
/* Any thread. The files as they are, and what is covered when they are there: once each record of
 * [partition's start, covered), also while files are being put or joined. ERR_NOT_FOUND: there is no
 * commit. */
enum err jsonl_view_fill(struct lake *l, struct topic *topic, struct lake_view *v, uint32_t *cap,
                         struct arena *arena, struct errinfo *info);

/* ---- files: jsonl_file.c ---- */

struct jsonl_made {
    uint64_t records, bytes;
    int64_t first, last; /* offsets */
};
/* Committed records of the ranges, which are of one partition and in order, into a new file at path; no
 * file after an error. Offsets that the log has no more are left out. */
enum err jsonl_write(struct lake *l, struct topic *topic, const struct lake_range *r, uint32_t n,
                     enum codec codec, const char *path, struct jsonl_made *out,
                     struct errinfo *info);

/* ---- commits: jsonl_commit.c ---- */

struct jsonl_file {
    char *path; /* below BASE */
    struct lake_range *range;
    uint32_t ranges_n;
    uint64_t records;
    char tmp[512]; /* made already; "": not */
    uint64_t bytes;
};
struct jsonl_commit {
    uint64_t number;
    json_t *covered; /* next offset of each partition */
    struct jsonl_file *file;
    uint32_t files_n, files_cap;
    char *merged; /* a compaction: name of the first copy in _weir, to become file[0]; else NULL */
    char **gone;  /* and the files that it takes the place of */
    uint32_t gone_n;
};
void jsonl_commit_init(struct jsonl_commit *c, uint64_t number, const int64_t *covered, int32_t n);
/* Removes files made already, too. */
void jsonl_commit_fini(struct jsonl_commit *c);
/* A file more, zero, to be filled in. */
struct jsonl_file *jsonl_commit_add(struct jsonl_commit *c);
/* Puts it. ERR_EXISTS: another has this number; ERR_UNCERTAIN. */
enum err jsonl_commit_put(struct lake *l, const struct table *t, const struct jsonl_commit *c,
                          struct errinfo *info);
/* The newest, ERR_NOT_FOUND if there is none. ERR_EXISTS: the folder is another topic's. */
enum err jsonl_commit_newest(struct lake *l, const struct table *t, struct jsonl_commit *out,
                             struct errinfo *info);
/* Removes commits and copies that are older than that, but for the newest commit. */
enum err jsonl_commit_sweep(struct lake *l, const struct table *t, int64_t older_than_ms,
                            struct errinfo *info);
/* "BASE/_weir/NAME" of a first copy. */
#define JSONL_HIDDEN "_weir/"
/* "BASE/path". ERR_TOO_LARGE. */
enum err jsonl_key(const struct table *t, const char *path, char out[STORE_KEY_MAX + 1],
                   struct errinfo *info);

/* ---- steps: jsonl.c, jsonl_maintain.c ---- */

/* Finds out what is covered, and ends the last commit. */
enum err jsonl_load(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
/* Puts what the commit says and is not there yet. */
enum err jsonl_finish(struct lake *l, struct table *t, struct topic *topic, struct jsonl_commit *c,
                      struct errinfo *info);
/* As table_flush, table_compact and table_expire. */
enum err jsonl_flush(struct lake *l, struct table *t, struct topic *topic, bool *more,
                     struct errinfo *info);
enum err jsonl_compact(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
enum err jsonl_expire(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);

#endif
