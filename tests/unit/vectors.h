/* For unit tests: the shared test vectors, where they are installed, and repeatable random numbers.
 *
 * Vectors are looked for in $WEIR_SHARED, else beside the source tree
 * ($WEIR_SOURCE_ROOT/../shared), under reference/. A test that does not find them says so and is
 * skipped; what matters most of them is restated in the tests themselves. Random numbers come from
 * $WEIR_TEST_SEED or a fixed seed. */
#ifndef WEIR_TESTS_UNIT_VECTORS_H
#define WEIR_TESTS_UNIT_VECTORS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/hex.h"

/* NULL if the file is not there: skip. */
static inline FILE *vectors_open(const char *file)
{
    const char *shared = getenv("WEIR_SHARED"), *root = getenv("WEIR_SOURCE_ROOT");
    int dir = (int)(strrchr(__FILE__, '/') - __FILE__);
    char path[1024];
    FILE *f;

    if (shared)
        snprintf(path, sizeof path, "%s/reference/%s", shared, file);
    else if (root)
        snprintf(path, sizeof path, "%s/../shared/reference/%s", root, file);
    else
        snprintf(path, sizeof path, "%.*s/../../../shared/reference/%s", dir, __FILE__, file);
    f = fopen(path, "r");
    if (!f)
        printf("SKIPPED: no test vectors at %s (set WEIR_SHARED)\n", path);
    return f;
}

/* The next line in columns, split at commas (the files have none within one); returns how many; 0
 * at the end. The columns are valid until the next call. */
static inline unsigned vectors_row(FILE *f, char **line, size_t *cap, char **col, unsigned max)
{
    ssize_t len = getline(line, cap, f);
    unsigned n = 0;
    char *p;

    if (len <= 0)
        return 0;
    (*line)[strcspn(*line, "\r\n")] = 0;
    for (p = *line; p && n < max; n++) {
        col[n] = p;
        if ((p = strchr(p, ',')))
            *p++ = 0;
    }
    return n;
}

/* Hexadecimal to bytes that the caller frees; stops the test program if it is not. */
static inline uint8_t *vectors_hex(const char *hex, size_t *len)
{
    uint8_t *p;

    *len = strlen(hex) / 2;
    p = malloc(*len + 1);
    if (!p || strlen(hex) % 2 || !hex_decode(hex, *len, p)) {
        fprintf(stderr, "a vector is not hexadecimal: %.40s\n", hex);
        abort();
    }
    return p;
}

static inline uint64_t test_seed(void)
{
    const char *s = getenv("WEIR_TEST_SEED");
    uint64_t seed = s ? strtoull(s, NULL, 0) : 20240101;

    printf("seed %llu (WEIR_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

static inline uint64_t test_random(uint64_t *state)
{
    return rng_next(state);
}

/* 0 .. n - 1 */
static inline uint64_t test_below(uint64_t *state, uint64_t n)
{
    return test_random(state) % n;
}

#endif
