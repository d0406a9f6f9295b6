/* Replays a fuzz target's corpus: each file as it is, then some thousand mutations of each (or as
 * many as the second argument says), from fixed seeds, so that every run of the tests tries the
 * same inputs. For real fuzzing see `make fuzz`. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define MUTATIONS 2000
#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint64_t next(void)
{
    return rng_next(&state);
}

static size_t mutate(uint8_t *p, size_t n)
{
    unsigned i, times = 1 + (unsigned)(next() % 4);

    for (i = 0; i < times && n; i++) {
        size_t at = next() % n;

        switch (next() % 5) {
        case 0:
            p[at] ^= (uint8_t)(1u << next() % 8);
            break;
        case 1:
            p[at] = (uint8_t)next();
            break;
        case 2:
            n = at + 1;
            break;
        case 3:
            memset(p + at, next() % 2 ? 0xff : 0, n - at < 4 ? n - at : 4);
            break;
        default:
            memmove(p + at, p + next() % n, 1);
        }
    }
    return n;
}

/* Exactly n bytes on the heap, so that a sanitizer sees a read behind them. */
static void try_one(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);

    if (n)
        memcpy(copy, p, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static unsigned long run_file(const char *path, unsigned mutations)
{
    static uint8_t in[INPUT_MAX], m[INPUT_MAX];
    FILE *f = fopen(path, "rb");
    size_t n, k;
    unsigned i;

    if (!f)
        return 0;
    n = fread(in, 1, sizeof in, f);
    fclose(f);
    try_one(in, n);
    state = n;
    for (i = 0; i < mutations && n; i++) {
        memcpy(m, in, n);
        k = mutate(m, n);
        try_one(m, k);
    }
    return 1 + i;
}

int main(int argc, char **argv)
{
    struct dirent **names;
    unsigned long runs = 0;
    char path[1024];
    unsigned mutations = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : MUTATIONS;
    int n, i, files = 0;

    if (argc < 2 || (n = scandir(argv[1], &names, NULL, alphasort)) < 0) {
        fprintf(stderr, "no corpus\n");
        return 1;
    }
    for (i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", argv[1], names[i]->d_name);
        if (names[i]->d_name[0] != '.') {
            runs += run_file(path, mutations);
            files++;
        }
        free(names[i]);
    }
    free(names);
    printf("%d files, %lu inputs\n", files, runs);
    return files ? 0 : 1;
}
