/* See page_sum.h. */
#include "io/page_sum.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"

void page_seal(uint8_t *page, uint32_t number)
{
    le32_store(page + PAGE_BYTES - 8, number);
    le32_store(page + PAGE_BYTES - 4, crc32c(0, page, PAGE_BYTES - 4));
}

bool page_ok(const uint8_t *page, uint32_t number)
{
    return page_number(page) == number &&
           le32_load(page + PAGE_BYTES - 4) == crc32c(0, page, PAGE_BYTES - 4);
}

uint32_t page_number(const uint8_t *page)
{
    return le32_load(page + PAGE_BYTES - 8);
}

/* Of the two bytes that say which it is no single one can be changed so that a database with
 * checksums is taken for one without. */
bool page_is_plain(const uint8_t *page)
{
    return memcmp(page, "SQLite format 3", 16) == 0 && page[20] == 0 && be32_load(page + 68) == 0;
}

bool page_is_sealing(const uint8_t *page)
{
    return be16_load(page + 16) == PAGE_BYTES && page[20] == PAGE_RESERVED;
}
