/* What all simulations with many seeds have in common: random numbers, giving up, telling.
 *
 * A world has a struct seed; whoever finds something wrong says so by die(), which goes back to
 * where the seed was begun (setjmp on `out`). One thread. */
#ifndef WEIR_TESTS_SIM_SEED_H
#define WEIR_TESTS_SIM_SEED_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

struct seed {
    uint64_t number, rng;
    bool verbose;
    bool calm; /* nothing goes wrong any more */
    jmp_buf out;
};

/* What a program was called with. */
struct seed_args {
    uint64_t first, count;
    bool verbose;
};

void seed_init(struct seed *s, uint64_t number, bool verbose);

/* False, and usage was printed, if something else than --seeds N, --seed S, --verbose is there.
 * --seed alone runs that one. */
bool seed_args_read(struct seed_args *a, const char *name, int argc, char **argv);

/* A program of many seeds, each a world of its own that begins, goes through its cycles and finishes. */
struct seed_program {
    const char *name;
    uint32_t cycles;
    size_t world_bytes;
    size_t seed_at;             /* where in the world its struct seed is */
    void (*begin)(void *world); /* of zeros but for its seed */
    void (*cycle)(void *world);
    void (*finish)(void *world); /* all is calm, and judged a last time */
    void (*end)(void *world);    /* adds to the sums, and gives back what the world holds */
    void (*print)(void);         /* the sums */
};

/* What main() returns: runs the seeds that were asked for and prints 'N passed, N failed'. */
int seed_main(const struct seed_program *p, int argc, char **argv);

/* Says what is wrong and goes to `out`. */
__attribute__((noreturn, format(printf, 2, 3))) void die(struct seed *s, const char *fmt, ...);

/* A line, if verbose. */
__attribute__((format(printf, 2, 3))) void say(const struct seed *s, const char *fmt, ...);

/* 0 .. n - 1. */
uint64_t rnd(struct seed *s, uint64_t n);

/* Something that goes wrong one time in n, unless all is to be calm. */
bool mishap(struct seed *s, uint64_t n);

enum fault { FAULT_CRASH, FAULT_CALLS, FAULT_FULL };
/* What will go wrong with the disk: within calls_max calls it crashes (mostly), or calls fail, or it is
 * full (full_eighths of eight times). */
enum fault fault_plan(struct seed *s, struct io *io, uint64_t calls_max, unsigned full_eighths);
/* Nothing more will. */
void faults_end(struct io *io);

/* A broker's life from opening to its end, in which things may go wrong. */
struct seed_cycle {
    uint32_t turns_least, turns_more; /* so many, and below so many more */
    uint64_t calls_max;               /* of fault_plan */
    unsigned full_eighths;
    bool (*open)(void *world);   /* false: it does not, as the disk fails */
    void (*opened)(void *world); /* all calls have worked so far */
    void (*turn)(void *world);
    void (*close)(void *world);
};
/* True: the power went off in the end. */
bool seed_cycle_run(const struct seed_cycle *c, struct seed *s, struct io *io, void *world);

/* Of the simulated clock. */
int64_t now_ms(struct io *io);

#endif
