/*
 * rundir.c - finding, making and checking the directory
 */
#include "runtime/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "runtime/rundir_files.h"
#include "runtime/sim.h"

/* Where it shall be: PARENT/TOP/CLUSTER, of which the parent must be there. */
struct place {
    char path[TRP_RUNDIR_PATH_SIZE];
    char parent[TRP_RUNDIR_PATH_SIZE];
    char top[24];
    bool is_tmp; /* the parent is /tmp, not what XDG_RUNTIME_DIR says */
    const char *cluster;
};

static int
choose_cluster(struct place *place, const char *cluster)
{
    if (!cluster) {
        cluster = getenv("TROUPE_CLUSTER");
        cluster = cluster && *cluster ? cluster : "default";
    }
    place->cluster = cluster;
    if (!trp_node_name_is_valid(cluster)) {
        return trp_fail(-EINVAL,
                        "a cluster cannot be called \"%.60s\": 1 to 32 of a-z, 0-9, _ and - can",
                        cluster);
    }
    return 0;
}

static int
choose_path(struct place *place)
{
    const char *parent = trp_sim_is_on() ? trp_sim_rundir() : getenv("XDG_RUNTIME_DIR");
    size_t size, needed;

    place->is_tmp = !parent || !*parent;
    if (place->is_tmp) {
        parent = "/tmp";
        snprintf(place->top, sizeof place->top, "troupe-%u", (unsigned)geteuid());
    } else {
        snprintf(place->top, sizeof place->top, "troupe");
    }
    if (*parent != '/') {
        return trp_fail(-EINVAL, "XDG_RUNTIME_DIR is \"%.100s\", and must be an absolute path",
                        parent);
    }
    for (size = strlen(parent); size > 1 && parent[size - 1] == '/'; size--) {
    }
    needed = (size_t)snprintf(place->path, sizeof place->path, "%.*s/%s/%s", (int)size, parent,
                              place->top, place->cluster);
    if (needed >= sizeof place->path) {
        return trp_fail(-ENAMETOOLONG,
                        "the sockets of cluster %s would have paths of %zu bytes, and may have %d: "
                        "set XDG_RUNTIME_DIR to a path %zu bytes shorter than %.80s",
                        place->cluster, needed + TRP_SOCKET_FILE_SIZE, TRP_SOCKET_PATH_SIZE - 1,
                        needed + 1 - sizeof place->path, parent);
    }
    memcpy(place->parent, place->path, size);
    return 0;
}

/* Nobody but us (and root) may be able to put something else in its place. */
static int
check_parent(const char *path, const struct stat *st)
{
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        return trp_fail(-EPERM, "XDG_RUNTIME_DIR (%s) belongs to user %u, not to user %u", path,
                        (unsigned)st->st_uid, (unsigned)geteuid());
    }
    if ((st->st_mode & 022) && !(st->st_mode & S_ISVTX)) {
        return trp_fail(-EPERM, "XDG_RUNTIME_DIR (%s) has mode %04o: others can write to it", path,
                        (unsigned)st->st_mode & 07777);
    }
    return 0;
}

static int
open_parent(const trp_rundir *dir, const struct place *place)
{
    struct stat st;
    int fd = trp_rundir_open_at(dir, AT_FDCWD, place->parent, O_PATH | O_DIRECTORY);
    int rc;

    if (fd == -ENOENT) {
        return trp_fail(fd, "XDG_RUNTIME_DIR is %s, which does not exist", place->parent);
    }
    if (fd < 0) {
        return trp_fail(fd, "cannot open %s: %s", place->parent, strerror(-fd));
    }
    if (place->is_tmp) { /* what the system made it; in a user namespace it has no owner we know */
        return fd;
    }
    rc = fstat(fd, &st) < 0 ? -errno : check_parent(place->parent, &st);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static int
check_own(const char *path, const struct stat *st)
{
    if (!S_ISDIR(st->st_mode)) {
        return trp_fail(-ENOTDIR, "%s is %s, not a directory", path,
                        S_ISLNK(st->st_mode) ? "a symbolic link" : "something else");
    }
    if (st->st_uid != geteuid()) {
        return trp_fail(-EPERM, "%s belongs to user %u, not to user %u", path, (unsigned)st->st_uid,
                        (unsigned)geteuid());
    }
    if ((st->st_mode & 0777) != 0700) {
        return trp_fail(-EPERM, "%s has mode %04o and must have 0700: chmod it, or remove it", path,
                        (unsigned)st->st_mode & 07777);
    }
    return 0;
}

static int
make_directory(const trp_rundir *dir, int at, const char *name)
{
    int rc = trp_rundir_fault(dir, "mkdirat");

    if (rc == 0 && mkdirat(at, name, 0700) < 0) {
        return -errno;
    }
    if (rc == 0 && fchmodat(at, name, 0700, 0) < 0) { /* whatever the umask is */
        return -errno;
    }
    return rc;
}

/* Open the directory `name` in `at`, made when it is missing; `path` is what it is called in errors. */
static int
open_own(const trp_rundir *dir, int at, const char *name, const char *path)
{
    enum { FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW };
    struct stat st;
    int rc, fd = trp_rundir_open_at(dir, at, name, FLAGS);

    if (fd == -ENOENT && dir->must_exist) {
        return trp_fail(fd, "there is no run directory %s", path);
    }
    if (fd == -ENOENT) {
        rc = make_directory(dir, at, name);
        if (rc < 0 && rc != -EEXIST) { /* another node was faster */
            return trp_fail(rc, "cannot make the run directory %s: %s", path, strerror(-rc));
        }
        fd = trp_rundir_open_at(dir, at, name, FLAGS);
    }
    if (fd < 0) { /* for somebody else's, or a link, say so */
        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (rc = check_own(path, &st)) < 0) {
            return rc;
        }
        return trp_fail(fd, "cannot open the run directory %s: %s", path, strerror(-fd));
    }
    rc = fstat(fd, &st) < 0 ? -errno : check_own(path, &st);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* The directory at its place, all but the parent made where they are missing. */
static int
open_place(trp_rundir *dir, const struct place *place)
{
    char top_path[TRP_RUNDIR_PATH_SIZE] = "";
    int top, rc, parent = open_parent(dir, place);

    if (parent < 0) {
        return parent;
    }
    memcpy(dir->path, place->path, sizeof dir->path);
    dir->is_tmp = place->is_tmp;
    memcpy(top_path, place->path, strlen(place->path) - strlen(place->cluster) - 1);
    top = open_own(dir, parent, place->top, top_path);
    close(parent);
    if (top < 0) {
        return top;
    }
    rc = open_own(dir, top, place->cluster, dir->path);
    close(top);
    if (rc >= 0) {
        dir->fd = rc;
    }
    return rc < 0 ? rc : 0;
}

int
trp_rundir_open(trp_rundir *dir, const struct trp_rundir_options *options)
{
    struct place place = { 0 };
    int rc;

    *dir = (trp_rundir){ .fd = -1,
                         .lock_fd = -1,
                         .world = options->world,
                         .must_exist = options->must_exist,
                         .fault = options->fault,
                         .fault_context = options->fault_context };
    if ((rc = choose_cluster(&place, options->cluster)) < 0 || (rc = choose_path(&place)) < 0) {
        return rc;
    }
    return open_place(dir, &place);
}

int
trp_rundir_reopen(const trp_rundir *dir, trp_rundir *ret_dir)
{
    struct place place = { .is_tmp = dir->is_tmp };
    char *cluster, *top;

    *ret_dir = (trp_rundir){ .fd = -1,
                             .lock_fd = -1,
                             .world = dir->world,
                             .fault = dir->fault,
                             .fault_context = dir->fault_context };
    memcpy(place.path, dir->path, sizeof place.path); /* what choose_path() has put together */
    memcpy(place.parent, dir->path, sizeof place.parent);
    cluster = strrchr(place.parent, '/');
    *cluster = '\0';
    top = strrchr(place.parent, '/');
    snprintf(place.top, sizeof place.top, "%s", top + 1);
    *(top == place.parent ? top + 1 : top) = '\0';
    place.cluster = strrchr(place.path, '/') + 1;
    return open_place(ret_dir, &place);
}

void
trp_rundir_file_path(const trp_rundir *dir, const char *file, char out[TRP_SOCKET_PATH_SIZE])
{
    snprintf(out, TRP_SOCKET_PATH_SIZE, "%s/%s", dir->path, file);
}

void
trp_rundir_socket_path(const trp_rundir *dir, const char *name, uint64_t incarnation,
                       enum trp_socket kind, char out[TRP_SOCKET_PATH_SIZE])
{
    char file[TRP_SOCKET_FILE_SIZE];

    trp_rundir_name_socket(name, incarnation, kind, file);
    trp_rundir_file_path(dir, file, out);
}
