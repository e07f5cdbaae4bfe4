/*
 * lines.h - whole lines out of a stream of bytes
 *
 * A child's error output comes in pieces of any size, and is shown line by line beside that of others. A line longer than
 * TRP_LINE_MAX is given out in pieces of that size: nothing is lost, and nobody can fill our memory.
 */
#ifndef TRP_LINES_H
#define TRP_LINES_H

#include <stddef.h>

enum { TRP_LINE_MAX = 1024 };

struct trp_lines { /* zero: empty */
    size_t size;
    char bytes[TRP_LINE_MAX]; /* of the line that has not ended yet */
};

/* One line without its end. May contain any byte but '\n'; is not terminated; valid during the call. */
typedef void (*trp_line_fn)(void *context, const char *line, size_t size);

void trp_lines_add(struct trp_lines *lines, const char *bytes, size_t size, trp_line_fn fn,
                   void *context);

/* The stream has ended: what came after the last end of line is a line as well. */
void trp_lines_end(struct trp_lines *lines, trp_line_fn fn, void *context);

#endif
