/*
 * say.c - how the command ends, and what it says when it does not do what was asked for
 */
#include "say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
refuse(const char *verb, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "troupe%s%s: ", verb ? " " : "", verb ? verb : "");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nhelp: troupe %s%s--help\n", verb ? verb : "", verb ? " " : "");
    exit(EXIT_USAGE);
}

void
give_up(const char *format, ...)
{
    va_list args;

    fputs("troupe: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    putc('\n', stderr);
    exit(EXIT_UNABLE);
}

int
all_said(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "troupe: standard output: %s\n", strerror(errno));
        return EXIT_UNABLE;
    }
    return status;
}
