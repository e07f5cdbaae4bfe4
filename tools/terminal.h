/*
 * terminal.h - is there one, how wide is it, may it have colors, and one line that shows how far we are
 */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stdbool.h>

/* Columns of the terminal behind this descriptor: else $COLUMNS, else 80. */
int terminal_width(int fd);

/* Escape sequences, each "" where there should be none: NO_COLOR is set, TERM is dumb, or it is no terminal. */
struct colors {
    const char *red, *green, *bold, *dim, *plain;
};
const struct colors *terminal_colors(int fd);

/* Progress on standard error. On a terminal one line, written over itself ten times a second at most; elsewhere a line
 * every ten seconds. */
struct progress {
    bool is_on, is_terminal;
    bool is_dirty; /* it stands there now */
    long long next_ns;
};

void progress_start(struct progress *progress, bool is_wanted);
/* Shall it be shown again? It costs something to find out what to show. */
bool progress_is_due(const struct progress *progress);
void progress_show(struct progress *progress, const char *line);
/* Before anything else is written, and at the end. */
void progress_wipe(struct progress *progress);

/* CLOCK_MONOTONIC. */
long long now_ns(void);

#endif
