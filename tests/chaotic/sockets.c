/*
 * sockets.c - finding sockets among our descriptors
 */
#include "chaotic/sockets.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Calls back for each descriptor, with what it is. */
static void
for_each(void (*look)(void *context, int fd, const char *what), void *context)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) != NULL) {
        char what[100];
        ssize_t size = readlinkat(dirfd(dir), entry->d_name, what, sizeof what - 1);

        if (size > 0 && atoi(entry->d_name) != dirfd(dir)) {
            what[size] = '\0';
            look(context, atoi(entry->d_name), what);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

struct cut {
    uint32_t kinds;
    unsigned n;
};

static void
cut_one(void *context, int fd, const char *what)
{
    struct cut *cut = context;

    if (strncmp(what, "socket:", 7) == 0 && test_connection_kind(fd) & cut->kinds) {
        cut->n += shutdown(fd, !(cut->kinds & CUT_HALF) ? SHUT_RDWR
                               : cut->n % 2             ? SHUT_RD
                                                        : SHUT_WR) == 0;
    }
}

unsigned
sockets_cut(uint32_t kinds)
{
    struct cut cut = { .kinds = kinds };

    for_each(cut_one, &cut);
    return cut.n;
}

static void
count_one(void *context, int fd, const char *what)
{
    struct open_files *files = context;

    files->pipes += strncmp(what, "pipe:", 5) == 0;
    files->memory += strncmp(what, "/memfd:", 7) == 0;
    files->sockets += strncmp(what, "socket:", 7) == 0;
    files->others++;
}

struct open_files
sockets_count(void)
{
    struct open_files files = { 0 };

    for_each(count_one, &files);
    files.others -= files.pipes + files.memory + files.sockets;
    return files;
}
