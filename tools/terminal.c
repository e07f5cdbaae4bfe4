/*
 * terminal.c - is there one, how wide is it, may it have colors, and one line that shows how far we are
 */
#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

int
terminal_width(int fd)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    long given;

    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    given = columns ? strtol(columns, NULL, 10) : 0;
    return given >= 20 && given <= 1000 ? (int)given : 80;
}

const struct colors *
terminal_colors(int fd)
{
    static const struct colors none = { "", "", "", "", "" };
    static const struct colors some = { "\033[31m", "\033[32m", "\033[1m", "\033[2m", "\033[0m" };
    const char *wish = getenv("NO_COLOR"), *kind = getenv("TERM");

    return (wish && *wish) || !kind || strcmp(kind, "dumb") == 0 || !isatty(fd) ? &none : &some;
}

long long
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

enum { REDRAW_NS = 100000000 };
static const long long line_ns = 10000000000;

void
progress_start(struct progress *progress, bool is_wanted)
{
    bool is_terminal = isatty(STDERR_FILENO);

    *progress = (struct progress){
        .is_on = is_wanted,
        .is_terminal = is_terminal,
        .next_ns = now_ns() + (is_terminal ? 2LL * REDRAW_NS : line_ns),
    };
}

bool
progress_is_due(const struct progress *progress)
{
    return progress->is_on && now_ns() >= progress->next_ns;
}

void
progress_show(struct progress *progress, const char *line)
{
    if (!progress->is_on) {
        return;
    }
    if (progress
            ->is_terminal) { /* one column less: some terminals go on to the next line in the last */
        fprintf(stderr, "\r%.*s\033[K", terminal_width(STDERR_FILENO) - 1, line);
        progress->is_dirty = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    fflush(stderr);
    progress->next_ns = now_ns() + (progress->is_terminal ? REDRAW_NS : line_ns);
}

void
progress_wipe(struct progress *progress)
{
    if (progress->is_dirty) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress->is_dirty = false;
    }
}
