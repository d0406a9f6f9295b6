/* Scanning data files and folders: shared by recovery, check and repair. Private to src/journal. */
#ifndef WEIR_JOURNAL_RECOVERY_H
#define WEIR_JOURNAL_RECOVERY_H

#include "journal/journal_int.h"

/* A journal file being scanned through a window. */
struct scan {
    struct journal *j;
    uint64_t id, size;
    struct io_file *fd;
    uint8_t *buf;
    size_t buf_cap, buf_len;
    uint64_t buf_pos;
};

void scan_init(struct scan *s, struct journal *j, uint64_t id);
enum err scan_open(struct scan *s, struct errinfo *info);
/* The frame at pos if there is a whole valid one of this log; else *frame is NULL. */
enum err scan_frame(struct scan *s, uint64_t pos, struct frame_header *h, const uint8_t **frame,
                    struct errinfo *info);
void scan_fini(struct scan *s);

/* Names in DIR/log: 'l' .log, 's' .seg, 'i' .idx. */
struct folder {
    uint64_t *id;
    char *ext;
    uint32_t n, cap;
};
enum err folder_list(struct journal *j, struct folder *d, struct errinfo *info);
void folder_fini(struct folder *d);

#endif
