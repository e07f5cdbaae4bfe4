/*
 * say.h - how the command ends, and what it says when it does not do what was asked for
 */
#ifndef TOOLS_SAY_H
#define TOOLS_SAY_H

/* Exit statuses of all verbs. */
enum {
    EXIT_GOOD = 0,
    EXIT_FOUND = 1,  /* what was looked for is there: a failed seed, a difference */
    EXIT_USAGE = 2,  /* wrong arguments */
    EXIT_UNABLE = 3, /* it could not be done: no such program, no memory */
};

/* "troupe VERB: ..." on standard error, and where help is; ends with EXIT_USAGE. `verb` may be NULL. */
void refuse(const char *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* "troupe: ..." on standard error; ends with EXIT_UNABLE. */
void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* What was to go to standard output is there: the status, else EXIT_UNABLE and an error. */
int all_said(int status);

#endif
