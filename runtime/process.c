/*
 * process.c - which process is meant
 */
#include "runtime/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STAT_STARTED = 22, STAT_STATE = 3 }; /* fields of /proc/PID/stat, counted from 1 */

uint64_t
trp_process_started(pid_t pid)
{
    char path[40], text[1024], *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* field 2 is the program's name, and may contain anything */
    if (!at || at[1] != ' ' || strchr("ZX", at[2])) {
        return 0;
    }
    for (int field = STAT_STATE - 1; field < STAT_STARTED; field++) {
        at = strchr(at + 1, ' ');
        if (!at) {
            return 0;
        }
    }
    return strtoull(at, NULL, 10);
}
