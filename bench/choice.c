/* See choice.h. */
#include "choice.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static double number(const struct choice *o, const char *text)
{
    char *end;
    double v = strtod(text, &end);

    if (*text == 0 || *end || !(v >= o->min && v <= o->max))
        die(o->name, "not a number that it takes");
    return v;
}

static void help(const char *program, const char *about, const struct choice *o)
{
    printf("%s: %s\n\n", program, about);
    for (; o->name; o++) {
        if (o->kind == CHOICE_FLAG)
            printf("  %s\n", o->name);
        else if (o->kind == CHOICE_TEXT)
            printf("  %-14s %s\n", o->name,
                   *(const char **)o->to ? *(const char **)o->to : "(none)");
        else
            printf("  %-14s %g (%g to %g)\n", o->name,
                   o->kind == CHOICE_COUNT ? *(uint32_t *)o->to : *(double *)o->to, o->min, o->max);
    }
    exit(0);
}

void choices_read(int argc, char **argv, int first, const char *about, const struct choice *all)
{
    int i;

    for (i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            help(argv[0], about, all);
    for (i = first; i < argc; i++) {
        const struct choice *o = all;
        const char *value;

        while (o->name && strcmp(argv[i], o->name) != 0)
            o++;
        if (!o->name)
            die(argv[i], "there is no such option; --help lists them");
        if (o->kind == CHOICE_FLAG) {
            *(bool *)o->to = true;
            continue;
        }
        if (++i == argc)
            die(o->name, "its value is missing");
        value = argv[i];
        if (o->kind == CHOICE_COUNT)
            *(uint32_t *)o->to = (uint32_t)number(o, value);
        else if (o->kind == CHOICE_NUMBER)
            *(double *)o->to = number(o, value);
        else
            *(const char **)o->to = value;
    }
}
