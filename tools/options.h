/*
 * options.h - the options of a verb: a table, from which they are read and --help is written
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,   /* into: bool *; takes nothing */
    OPTION_NUMBER, /* into: uint64_t *; from `least` to `most` */
    OPTION_TIME,   /* into: int64_t *, nanoseconds; more than 0 */
    OPTION_TEXT,   /* into: const char ** */
    OPTION_OTHER,  /* `take` makes of it what it likes, and refuses what it does not */
};

struct option_row {
    const char *name;     /* without its dashes */
    const char *argument; /* what it takes, for the help; NULL: nothing */
    const char *help;     /* lines, with \n between */
    enum option_kind kind;
    void *into;
    uint64_t least, most;
    void (*take)(const char *text, void *into);
};

struct options {
    const char *verb;
    const char *usage;  /* what stands behind "troupe VERB" */
    const char *before; /* what it does; lines, each with its end */
    const char *after;  /* exit statuses, and the like */
    const struct option_row *rows;
    unsigned n_rows;
};

/* Read "--name value" and "--name=value" up to the first argument that is no option; its index. `ret_dashed`: a "--" stood before
 * it. Prints the help and ends for --help; refuses what it does not understand. */
int options_read(const struct options *options, int argc, char **argv, bool *ret_dashed);

/* All digits, and within the bounds? */
bool number_read(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number);

#endif
