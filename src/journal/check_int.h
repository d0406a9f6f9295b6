/* Shared by check and repair. Private to src/journal. */
#ifndef WEIR_JOURNAL_CHECK_INT_H
#define WEIR_JOURNAL_CHECK_INT_H

#include "journal/checkpoint.h"
#include "journal/index.h"
#include "journal/recovery.h"

typedef void (*report_fn)(void *arg, bool problem, const char *text);

struct check {
    struct journal j; /* only dir, io, ids: enough for paths and scans */
    report_fn fn;
    void *arg;
    struct journal_check_result *out;
    struct checkpoint_file *sealed;
    uint32_t sealed_n, sealed_cap;
    struct checkpoint_meta meta;
};

void check_init(struct check *c, struct io *io, const char *dir, report_fn fn, void *arg,
                struct journal_check_result *out);
void check_fini(struct check *c);
enum err check_lock(struct check *c, struct errinfo *info);
/* Reads the checkpoint; a problem is reported. False: it cannot be used. */
bool check_checkpoint(struct check *c);
/* Index and batches of a sealed file; how many problems it has. */
uint64_t check_sealed(struct check *c, const struct checkpoint_file *cf);
/* Whether a journal file is smaller than its header says, and what it should have. */
bool check_short(struct check *c, struct scan *s, uint64_t *size);
/* Ids of the journal files after sealed_id, ascending; *ids is the caller's to free. */
enum err check_replayed(struct check *c, uint64_t **ids, uint32_t *n, struct errinfo *info);
void check_say(struct check *c, bool problem, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
