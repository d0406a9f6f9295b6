/* Checksums of a SQLite database's pages. SQLite leaves the last 8 bytes of each page of 4096 alone
 * when the header's byte 20, "reserved space", is 8. They hold:
 *
 *     4088  u32  page number, from 1
 *     4092  u32  CRC32C of bytes 0 to 4091
 *
 * both little-endian; the number is there so that a page in another's place is found. Format of the
 * rest: https://sqlite.org/fileformat2.html. Private to src/io. */
#ifndef WEIR_IO_PAGE_SUM_H
#define WEIR_IO_PAGE_SUM_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES         4096u
#define PAGE_RESERVED      8
#define PAGE_HEADER_READ   100u        /* what SQLite reads of page 1 before anything else */
#define PAGE_JOURNAL_FIRST (4096u + 4) /* first page in a rollback journal, after its number */

void page_seal(uint8_t *page, uint32_t number);
bool page_ok(const uint8_t *page, uint32_t number);
uint32_t page_number(const uint8_t *page);
/* Page 1: of a database that has no checksums; or that is to have them. */
bool page_is_plain(const uint8_t *page);
bool page_is_sealing(const uint8_t *page);

#endif
