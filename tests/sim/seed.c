/* See seed.h. */
#include "seed.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/sim.h"

void seed_init(struct seed *s, uint64_t number, bool verbose)
{
    s->number = s->rng = number;
    s->verbose = verbose;
    s->calm = false;
}

bool seed_args_read(struct seed_args *a, const char *name, int argc, char **argv)
{
    bool counted = false;
    int k;

    *a = (struct seed_args){.first = 1, .count = 100};
    for (k = 1; k < argc; k++) {
        if (strcmp(argv[k], "--seeds") == 0 && k + 1 < argc) {
            a->count = strtoull(argv[++k], NULL, 10);
            counted = true;
        } else if (strcmp(argv[k], "--seed") == 0 && k + 1 < argc) {
            a->first = strtoull(argv[++k], NULL, 10);
            if (!counted)
                a->count = 1;
        } else if (strcmp(argv[k], "--verbose") == 0) {
            a->verbose = true;
        } else {
            fprintf(stderr, "usage: %s --seeds N [--seed S] [--verbose]\n", name);
            return false;
        }
    }
    return true;
}

/* A seed that fails leaves its memory behind: the program ends soon. */
static bool run(const struct seed_program *p, uint64_t number, bool verbose)
{
    void *world = xcalloc(1, p->world_bytes);
    struct seed *s = (struct seed *)((char *)world + p->seed_at);
    uint32_t i;

    seed_init(s, number, verbose);
    p->begin(world);
    if (setjmp(s->out))
        return false;
    for (i = 0; i < p->cycles; i++)
        p->cycle(world);
    p->finish(world);
    p->end(world);
    free(world);
    return true;
}

int seed_main(const struct seed_program *p, int argc, char **argv)
{
    struct seed_args a;
    uint64_t i, passed = 0;

    if (!seed_args_read(&a, p->name, argc, argv))
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (i = 0; i < a.count; i++) {
        passed += run(p, a.first + i, a.verbose);
        if ((i + 1) % 50 == 0)
            printf("%" PRIu64 " of %" PRIu64 " seeds\n", i + 1, a.count);
    }
    p->print();
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, a.count - passed);
    return passed != a.count;
}

void die(struct seed *s, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "seed %" PRIu64 ": ", s->number);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    longjmp(s->out, 1);
}

void say(const struct seed *s, const char *fmt, ...)
{
    va_list ap;

    if (!s->verbose)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

uint64_t rnd(struct seed *s, uint64_t n)
{
    return rng_next(&s->rng) % n;
}

bool mishap(struct seed *s, uint64_t n)
{
    return !s->calm && rnd(s, n) == 0;
}

enum fault fault_plan(struct seed *s, struct io *io, uint64_t calls_max, unsigned full_eighths)
{
    uint64_t in = 1 + rnd(s, calls_max), kind = rnd(s, 8);

    if (kind < 2) {
        io_sim_fail(io, in, kind == 0 ? ERR_IO : ERR_NO_SPACE, rnd(s, 2));
        return FAULT_CALLS;
    }
    if (kind < 2 + full_eighths) {
        io_sim_capacity(io, (3 + rnd(s, 10)) * (64u << 10));
        return FAULT_FULL;
    }
    io_sim_crash_at(io, in);
    return FAULT_CRASH;
}

void faults_end(struct io *io)
{
    io_sim_fail(io, 0, ERR_OK, false);
    io_sim_crash_at(io, 0);
    io_sim_capacity(io, UINT64_MAX);
}

int64_t now_ms(struct io *io)
{
    return (int64_t)(io_mono_ns(io) / 1000000u);
}

bool seed_cycle_run(const struct seed_cycle *c, struct seed *s, struct io *io, void *world)
{
    bool clean = rnd(s, 5) == 0, crash;
    uint32_t i, n = c->turns_least + (uint32_t)rnd(s, c->turns_more);

    if (rnd(s, 6) == 0)
        io_sim_crash_at(io, 1 + rnd(s, 80)); /* while it opens */
    if (c->open(world)) {
        io_sim_crash_at(io, 0);
        if (!io_sim_crashed(io)) {
            c->opened(world);
            if (!clean)
                fault_plan(s, io, c->calls_max, c->full_eighths);
        }
        for (i = 0; i < n; i++) {
            c->turn(world);
            if (i == n / 2 && rnd(s, 2)) /* there is room again */
                io_sim_capacity(io, UINT64_MAX);
        }
        c->close(world);
    }
    crash = !clean || io_sim_crashed(io);
    if (crash)
        io_sim_crash(io);
    faults_end(io);
    return crash;
}
