/*
 * rundir_files.c - opening, writing, listing and removing files of the run directory
 */
#include "runtime/rundir_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"

int
trp_rundir_fault(const trp_rundir *dir, const char *call)
{
    return dir->fault ? dir->fault(dir->fault_context, call) : 0;
}

int
trp_rundir_open_at(const trp_rundir *dir, int at, const char *name, int flags)
{
    int fd, rc = trp_rundir_fault(dir, "openat");

    if (rc < 0) {
        return rc;
    }
    fd = openat(at, name, flags | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

int
trp_rundir_open_file(const trp_rundir *dir, const char *file, int flags)
{
    return trp_rundir_open_at(dir, dir->fd, file, flags | O_NOFOLLOW | O_NONBLOCK);
}

int
trp_rundir_write(const trp_rundir *dir, int fd, const void *bytes, size_t size)
{
    int rc = trp_rundir_fault(dir, "write");
    ssize_t n;

    if (rc < 0) {
        return rc;
    }
    n = pwrite(fd, bytes, size, 0);
    return n < 0 ? -errno : (size_t)n < size ? -ENOSPC : 0;
}

int
trp_rundir_rename(const trp_rundir *dir, const char *from, const char *to)
{
    int rc = trp_rundir_fault(dir, "renameat");

    return rc < 0 ? rc : renameat(dir->fd, from, dir->fd, to) < 0 ? -errno : 0;
}

int
trp_rundir_lock(const trp_rundir *dir, int fd)
{
    int rc = trp_rundir_fault(dir, "flock");

    return rc < 0 ? rc : flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

void
trp_rundir_remove(const trp_rundir *dir, const char *file)
{
    unlinkat(dir->fd, file, 0);
}

int
trp_rundir_refuse(const trp_rundir *dir, int rc, const char *doing, const char *file)
{
    return trp_fail(rc, "cannot %s %s%s%s: %s", doing, dir->path, *file ? "/" : "", file,
                    strerror(-rc));
}

void
trp_rundir_name_file(const char *name, const char *suffix, char out[TRP_RUNDIR_FILE_SIZE])
{
    snprintf(out, TRP_RUNDIR_FILE_SIZE, "%.32s.%s", name, suffix);
}

void
trp_rundir_name_socket(const char *name, uint64_t incarnation, enum trp_socket kind,
                       char out[TRP_SOCKET_FILE_SIZE])
{
    snprintf(out, TRP_SOCKET_FILE_SIZE, "%.32s.%016" PRIx64 ".%c", name, incarnation, (char)kind);
}

/* ---- walking over the files ---- */

static DIR *
open_listing(const trp_rundir *dir, int *ret_rc)
{
    int fd =
        trp_rundir_open_at(dir, dir->fd, ".", O_RDONLY | O_DIRECTORY); /* a position of its own */
    DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;

    if (!listing) {
        *ret_rc = trp_rundir_refuse(dir, fd < 0 ? fd : -ENOMEM, "list", "");
        if (fd >= 0) {
            close(fd);
        }
    }
    return listing;
}

/* NULL: the end, or *ret_rc says why not. */
static const char *
next_file(const trp_rundir *dir, DIR *listing, int *ret_rc)
{
    struct dirent *entry;

    errno = 0;
    entry = readdir(listing);
    if (!entry && errno != 0) { /* ENOENT: somebody removed the directory itself */
        *ret_rc = trp_rundir_refuse(dir, -errno, "list", "");
    }
    return entry ? entry->d_name : NULL;
}

/* Of "NAME.rest" the rest; NULL: `file` belongs to no node, or (`name` not empty) to another one. */
static const char *
parse_file(const char *file, char name[TRP_NODE_NAME_SIZE])
{
    size_t length = strcspn(file, ".");
    char found[TRP_NODE_NAME_SIZE] = "";

    if (file[length] != '.' || length >= sizeof found) {
        return NULL;
    }
    memcpy(found, file, length);
    if (!trp_node_name_is_valid(found) || (*name && strcmp(found, name) != 0)) {
        return NULL;
    }
    memcpy(name, found, sizeof found);
    return file + length + 1;
}

static int
add_name(struct trp_rundir_names *names, const char name[TRP_NODE_NAME_SIZE])
{
    if (names->n == names->room) {
        size_t room = names->room ? names->room * 2 : 16;
        void *list = trp_realloc(names->list, room * sizeof *names->list);

        if (!list) {
            return trp_fail(-ENOMEM, "no memory for the names of %zu nodes", room);
        }
        names->list = list;
        names->room = room;
    }
    memcpy(names->list[names->n++], name, TRP_NODE_NAME_SIZE);
    return 0;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void
sort_names(struct trp_rundir_names *names)
{
    size_t kept = 0;

    if (names->n > 0) {
        qsort(names->list, names->n, sizeof *names->list, compare_names);
    }
    for (size_t i = 0; i < names->n; i++) { /* once each */
        if (kept == 0 || strcmp(names->list[kept - 1], names->list[i]) != 0) {
            memmove(names->list[kept++], names->list[i], sizeof *names->list);
        }
    }
    names->n = kept;
}

int
trp_rundir_collect(const trp_rundir *dir, const char *suffix, struct trp_rundir_names *names)
{
    const char *file;
    int rc = 0;
    DIR *listing = open_listing(dir, &rc);

    *names = (struct trp_rundir_names){ 0 };
    while (listing && rc == 0 && (file = next_file(dir, listing, &rc))) {
        char name[TRP_NODE_NAME_SIZE] = "";
        const char *rest = parse_file(file, name);

        if (rest && (!suffix || strcmp(rest, suffix) == 0)) {
            rc = add_name(names, name);
        }
    }
    if (listing) {
        closedir(listing);
    }
    sort_names(names);
    return rc;
}

/* One pass; *ret_removed: there may be more, for removing can hide an entry from the reader. */
static int
clean_once(const trp_rundir *dir, DIR *listing, const char *name, bool *ret_removed)
{
    char of_name[TRP_NODE_NAME_SIZE];
    const char *file;
    int rc = 0;

    snprintf(of_name, sizeof of_name, "%s", name);
    *ret_removed = false;
    rewinddir(listing);
    while ((file = next_file(dir, listing, &rc))) {
        const char *rest = parse_file(file, of_name);

        if (rest && strcmp(rest, "lock") != 0 && unlinkat(dir->fd, file, 0) == 0) {
            *ret_removed = true;
        }
    }
    return rc;
}

int
trp_rundir_clean(const trp_rundir *dir, const char *name)
{
    bool removed = true;
    int rc = 0;
    DIR *listing = open_listing(dir, &rc);

    if (!listing) {
        return rc;
    }
    while (rc == 0 && removed) {
        rc = clean_once(dir, listing, name, &removed);
    }
    closedir(listing);
    return rc;
}
