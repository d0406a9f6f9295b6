/* Options of the load programs and benchmarks: read from the command line, and told by --help. */
#ifndef WEIR_BENCH_CHOICE_H
#define WEIR_BENCH_CHOICE_H

/* Prints "bench: what: why" and ends the program. */
void die(const char *what, const char *why) __attribute__((noreturn));

/* An option "--name value", or a flag "--name": what it sets, and the least and greatest value. */
struct choice {
    const char *name;
    enum { CHOICE_COUNT, CHOICE_NUMBER, CHOICE_TEXT, CHOICE_FLAG } kind;
    void *to; /* uint32_t, double, const char * or bool */
    double min, max;
};
/* Reads arguments from the first on; the last choice has no name. Ends the program if it cannot; and
 * after --help, when it has printed `about` and all choices with what they are now. */
void choices_read(int argc, char **argv, int first, const char *about, const struct choice *all);

#endif
