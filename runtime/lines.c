/*
 * lines.c - collecting a line
 */
#include "runtime/lines.h"

#include <string.h>

static void
flush(struct trp_lines *lines, trp_line_fn fn, void *context)
{
    fn(context, lines->bytes, lines->size);
    lines->size = 0;
}

static void
keep(struct trp_lines *lines, const char *bytes, size_t size, trp_line_fn fn, void *context)
{
    while (size > 0) {
        size_t room = TRP_LINE_MAX - lines->size, n = size < room ? size : room;

        if (n == 0) { /* full, and the line goes on */
            flush(lines, fn, context);
            continue;
        }
        memcpy(lines->bytes + lines->size, bytes, n);
        lines->size += n;
        bytes += n;
        size -= n;
    }
}

void
trp_lines_add(struct trp_lines *lines, const char *bytes, size_t size, trp_line_fn fn,
              void *context)
{
    const char *end;

    while (size > 0 && (end = memchr(bytes, '\n', size))) {
        size_t n = (size_t)(end - bytes);

        keep(lines, bytes, n, fn, context);
        flush(lines, fn, context);
        bytes += n + 1;
        size -= n + 1;
    }
    keep(lines, bytes, size, fn, context);
}

void
trp_lines_end(struct trp_lines *lines, trp_line_fn fn, void *context)
{
    if (lines->size > 0) {
        flush(lines, fn, context);
    }
}
