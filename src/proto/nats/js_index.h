/* Which messages a stream has, by sequence and by subject; in memory, rebuilt from the log.
 *
 * Sequences are in chunks of 4,096; a chunk has an entry of 24 bytes for each message that is there
 * (and for some that are not any more, until they are half of it), in order, so that what few are
 * left of many costs little. An entry has its subject's number, its size, its time, and where the
 * one before and the next one with its subject are. Subjects have numbers; a number is given anew
 * only after a generation (`subjects_age`) in which who remembers things by number forgets them.
 *
 * One thread at a time. Sequences begin with 1. */
#ifndef WEIR_PROTO_NATS_JS_INDEX_H
#define WEIR_PROTO_NATS_JS_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"

struct jchunk;
struct jsubject;

struct jindex {
    uint64_t first, last; /* first: of the first message there, last + 1 if there is none */
    uint64_t msgs, bytes; /* that are there */
    uint32_t subjects;    /* with messages */
    uint32_t subjects_age;
    /* private */
    struct jchunk **chunks; /* number chunk_first on; NULL: nothing in it */
    uint64_t chunk_first;
    uint32_t chunks_n, chunks_cap;
    struct map by_name;        /* struct jsubject */
    struct jsubject **subject; /* by number; NULL: none */
    uint32_t subject_n, subject_cap;
    uint32_t *unused, *ready; /* numbers not in use: since this age began; before */
    uint32_t unused_n, unused_cap, ready_n, ready_cap;
    struct u64map far_next, far_prev; /* links that do not fit into an entry */
};

/* first: sequence of the first message that is added. seed: 16 random bytes. */
void jindex_init(struct jindex *x, uint64_t first, const uint8_t *seed);
void jindex_fini(struct jindex *x);
/* seq: last + 1 or greater (what is between is not there). bytes: as jetstream counts them. False:
 * there are too many subjects. */
bool jindex_add(struct jindex *x, uint64_t seq, struct slice subject, uint32_t bytes,
                int64_t time_ms);
/* What is below seq is not there: last is seq - 1 then, at least. */
void jindex_skip(struct jindex *x, uint64_t seq);
/* Whether it was there. */
bool jindex_remove(struct jindex *x, uint64_t seq);
void jindex_purge(struct jindex *x, uint64_t first); /* all below first */
bool jindex_has(const struct jindex *x, uint64_t seq);

struct jindex_msg {
    uint32_t subject, bytes;
    int64_t time_ms;
};
bool jindex_get(const struct jindex *x, uint64_t seq, struct jindex_msg *out);
/* Valid as long as it has messages. */
struct slice jindex_subject(const struct jindex *x, uint32_t subject);
/* 0: there is none. */
uint64_t jindex_subject_first(const struct jindex *x, struct slice subject);
uint64_t jindex_subject_last(const struct jindex *x, struct slice subject);
uint64_t jindex_subject_count(const struct jindex *x, struct slice subject);
/* The one before or behind with the same subject; 0: none. seq is there. */
uint64_t jindex_subject_prev(const struct jindex *x, uint64_t seq);
uint64_t jindex_subject_next(const struct jindex *x, uint64_t seq);
/* The first one whose time is not below: times need not be in order. 0: none. */
uint64_t jindex_seek_time(const struct jindex *x, int64_t time_ms);

/* Patterns of subjects (none: all), remembering for each subject number whether they take it. */
struct jfilter;
struct jfilter *jfilter_new(const struct slice *patterns, unsigned n);
void jfilter_free(struct jfilter **f);
bool jfilter_all(const struct jfilter *f); /* it takes every subject; f may be NULL */
bool jfilter_takes(struct jfilter *f, const struct jindex *x, uint32_t subject);
/* The same of a subject that need not be in an index. */
bool jfilter_takes_name(const struct jfilter *f, struct slice subject);
/* The first one from `seq` on that is there and that the filter (NULL: all) takes; 0: none. Quick
 * for filters without wildcards. */
uint64_t jindex_next(const struct jindex *x, struct jfilter *f, uint64_t seq);
/* The last one up to `seq`. */
uint64_t jindex_prev(const struct jindex *x, struct jfilter *f, uint64_t seq);
/* How many there are from seq on. */
uint64_t jindex_count(const struct jindex *x, struct jfilter *f, uint64_t seq);
/* Every subject that has messages and the filter takes, in no order; fn returns false to stop. The
 * index must not change meanwhile. */
struct jindex_subject_info {
    struct slice name;
    uint32_t number;
    uint64_t first, last, count;
};
void jindex_subjects(const struct jindex *x, struct jfilter *f,
                     bool (*fn)(void *arg, const struct jindex_subject_info *s), void *arg);

#endif
