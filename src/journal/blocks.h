/* Blocks: pieces of data files in memory, shared by all who read. Private to src/journal.
 *
 * Batches of one partition lie scattered over a file, between those of others, and readers of the
 * others want what lies between: so a file is read in blocks of 1 MiB, each once, past the page
 * cache, into memory of huge pages. (A direct read of 1 MiB into pages of 4 KiB is 250 pieces for
 * the disk and takes about three times as long.)
 *
 * A block holds what the file had when it was read, checked by nobody: whoever takes a batch from it
 * checks that, each time. Blocks of a file that is still written have its first `valid` bytes and
 * are completed when more is asked for. Invariants:
 *   1. at most `bytes_max` are allocated, whoever holds what: when all blocks are in use there is
 *      none to be had, and readers read for themselves;
 *   2. a block that is in use (refs) or being read (loading) does not become another;
 *   3. only bytes below the file's `used` are read, which are not written again.
 *
 * Any thread. The lock is held shortly, never over I/O. */
#ifndef WEIR_JOURNAL_BLOCKS_H
#define WEIR_JOURNAL_BLOCKS_H

#include "journal/journal_int.h"

#define BLOCK_BYTES (1u << 20)

struct block;

/* hungry, if any, is signalled when blocks_grow is due for readers. */
struct blocks *blocks_new(struct io *io, uint64_t bytes_max, struct io_event *hungry);
/* Nobody holds one any more. */
void blocks_free(struct blocks **c);

/* Block `no` of the file with at least its first `need` bytes; the caller's until block_unref. The
 * file is pinned. load false: only if it is there, and nobody is waited for. ERR_AGAIN: it is not, or
 * there is no room;
 * ERR_IO and the like: it cannot be read (ERR_AGAIN, too, if the file ends before). */
enum err blocks_get(struct blocks *c, struct jfile *f, uint32_t no, uint32_t need, bool load,
                    struct block **out, struct errinfo *info);
/* Reads a block that will be wanted, unless it is there, or under way, or blocks are scarce. */
void blocks_ahead(struct blocks *c, struct jfile *f, uint32_t no);
/* Are its first `need` bytes there? (0: is it there, or under way?) */
bool blocks_has(struct blocks *c, const struct jfile *f, uint32_t no, uint32_t need);
/* Not more than so many bytes from now on; what is there stays while it is used. */
void blocks_limit(struct blocks *c, uint64_t bytes_max);
#define BLOCKS_FIRST_BYTES (64ull << 20) /* readers take them without blocks_grow */
/* Makes room for two more blocks, if there may be more and readers spent more than price_ns, which is
 * what this takes, on reading again what went for want of room. Takes long: the memory is touched.
 * False: it was not due. */
bool blocks_grow(struct blocks *c, uint64_t price_ns);
/* Are more wanted than there may be? Says so once each time. */
bool blocks_short(struct blocks *c);
void block_unref(struct blocks *c, struct block *b);
const uint8_t *block_mem(const struct block *b);

/* Notes that n batches, `bytes` together, of a block are wanted; true: so much of it was wanted
 * lately that it is worth reading as a whole. */
bool blocks_worth(struct blocks *c, const struct jfile *f, uint32_t no, unsigned n, size_t bytes);
/* Most blocks are in use: take copies, hold none. */
bool blocks_scarce(struct blocks *c);
/* Its bytes are damaged, or the file is gone: it will be read again. */
void blocks_forget(struct blocks *c, uint64_t file_id, uint32_t no);
void blocks_forget_file(struct blocks *c, uint64_t file_id);
/* Gives back memory that was not used for BLOCKS_IDLE_NS. Now and then. */
void blocks_shrink(struct blocks *c, uint64_t now_ns);
#define BLOCKS_IDLE_NS 60000000000ull
/* Allocated now. */
uint64_t blocks_bytes(struct blocks *c);

#endif
