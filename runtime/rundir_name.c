/*
 * rundir_name.c - taking a name, and removing what the dead left
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mailbox/assert.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/process.h"
#include "runtime/rundir_files.h"
#include "runtime/sim.h"

enum {
    LOCK_TEXT_SIZE = 48, /* "PID STARTED\n" */
    PATIENCE = 200,      /* times PAUSE_NS: how long cleaning may take */
    PAUSE_NS = 1000000,
};

/* ---- locks ---- */

/* Those who hold a lock in this process: a child that it forks must not. */
static pthread_mutex_t takers_lock = PTHREAD_MUTEX_INITIALIZER;
static trp_rundir *takers;

static void
lock_takers(void)
{
    pthread_mutex_lock(&takers_lock);
}

static void
unlock_takers(void)
{
    pthread_mutex_unlock(&takers_lock);
}

/* Is this the name of a socket in the directory of one of ours? */
static bool
is_ours(const struct sockaddr_un *name, socklen_t size)
{
    for (const trp_rundir *dir = takers; dir; dir = dir->next_taken) {
        size_t length = strlen(dir->path);

        if (name->sun_family == AF_UNIX && size > offsetof(struct sockaddr_un, sun_path) + length &&
            strncmp(name->sun_path, dir->path, length) == 0 && name->sun_path[length] == '/') {
            return true;
        }
    }
    return false;
}

/* Connections that are open in a child as well do not end when the parent dies: it is the parent who is at the other
 * end. Those of ZeroMQ are known only by where they lead. */
static void
close_inherited_sockets(void)
{
    DIR *open_fds = opendir("/proc/self/fd");
    struct dirent *entry;

    while (open_fds && (entry = readdir(open_fds)) != NULL) {
        int fd = atoi(entry->d_name); /* 0 for "." and ".." */
        struct sockaddr_un here = { 0 }, there = { 0 };
        socklen_t here_size = sizeof here, there_size = sizeof there;

        if (fd > 2 && getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
            (is_ours(&here, here_size) ||
             (getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
              is_ours(&there, there_size)))) {
            close(fd);
        }
    }
    if (open_fds) {
        closedir(open_fds);
    }
}

/* D3: only close it. To unlock it would unlock it for the parent too, whose open file it is. */
static void
give_up_inherited_locks(void)
{
    if (takers) {
        close_inherited_sockets();
    }
    for (; takers; takers = takers->next_taken) {
        close(takers->lock_fd);
        takers->lock_fd = -1; /* so that trp_rundir_close() removes nothing of the parent's */
    }
    unlock_takers();
}

static void
watch_forks(void)
{
    pthread_atfork(lock_takers, unlock_takers, give_up_inherited_locks);
}

static void
forget_taken(trp_rundir *dir)
{
    lock_takers();
    for (trp_rundir **at = &takers; *at; at = &(*at)->next_taken) {
        if (*at == dir) {
            *at = dir->next_taken;
            break;
        }
    }
    unlock_takers();
}

/* Is this open file still the one in the directory? */
static bool
is_current(const trp_rundir *dir, int fd, const char *file)
{
    struct stat opened, present;

    return fstat(fd, &opened) == 0 && fstatat(dir->fd, file, &present, AT_SYMLINK_NOFOLLOW) == 0 &&
           opened.st_dev == present.st_dev && opened.st_ino == present.st_ino;
}

/* Open and lock NAME.lock. The descriptor; *ret_held: somebody else has it locked. */
static int
lock_name(const trp_rundir *dir, const char *name, bool *ret_held)
{
    char file[TRP_RUNDIR_FILE_SIZE];
    int fd, rc;

    trp_rundir_name_file(name, "lock", file);
    for (;;) {
        fd = trp_rundir_open_file(dir, file, O_RDWR | O_CREAT);
        if (fd < 0) {
            return trp_rundir_refuse(dir, fd, "open", file);
        }
        rc = trp_rundir_lock(dir, fd);
        *ret_held = rc == -EWOULDBLOCK;
        if (rc < 0 && rc != -EWOULDBLOCK) {
            close(fd);
            return trp_rundir_refuse(dir, rc, "lock", file);
        }
        if (*ret_held || is_current(dir, fd, file)) {
            return fd;
        }
        close(fd); /* its holder unlinked it before we had it: the next one counts */
    }
}

struct holder {
    int pid; /* 0: not known */
    bool alive;
};

/* What a lock file says. Its holder writes it after locking, so it may be a dead predecessor's for a moment. */
static struct holder
read_holder(int lock_fd)
{
    char text[LOCK_TEXT_SIZE] = "";
    unsigned long long started = 0;
    struct holder holder = { 0 };

    if (pread(lock_fd, text, sizeof text - 1, 0) > 0 &&
        sscanf(text, "%d %llu", &holder.pid, &started) == 2 && holder.pid > 0) {
        holder.alive = started != 0 && trp_process_started(holder.pid) == started;
    } else {
        holder.pid = 0;
    }
    return holder;
}

static int
write_holder(const trp_rundir *dir, int lock_fd)
{
    char text[LOCK_TEXT_SIZE];
    int n = snprintf(text, sizeof text, "%d %" PRIu64 "\n", (int)trp_pid(),
                     trp_process_started(trp_pid()));

    return ftruncate(lock_fd, 0) < 0 ? -errno : trp_rundir_write(dir, lock_fd, text, (size_t)n);
}

static int
refuse_taken(const trp_rundir *dir, const char *name, struct holder holder)
{
    if (holder.pid > 0) {
        return trp_fail(-EADDRINUSE, "node %s is taken by process %d, in %s", name, holder.pid,
                        dir->path);
    }
    return trp_fail(-EADDRINUSE,
                    "node %s is taken, by a process that does not say its number, in %s", name,
                    dir->path);
}

/* Lock it for us: no fork can come between locking and noting that. */
static int
try_lock(trp_rundir *dir, const char *name, bool *ret_held)
{
    int fd;

    lock_takers();
    fd = lock_name(dir, name, ret_held);
    if (fd >= 0 && !*ret_held) {
        dir->lock_fd = fd;
        dir->next_taken = takers;
        takers = dir;
    }
    unlock_takers();
    return fd;
}

/* One who holds the lock without being its living owner is cleaning up (forget, sweep), or has not written its pid
 * yet: neither takes long. */
static int
take_lock(trp_rundir *dir, const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    trp_parker pause = { 0 };

    pthread_once(&once, watch_forks);
    for (int tries = 0;; tries++) {
        struct holder holder;
        bool held;
        int fd = try_lock(dir, name, &held);

        if (fd < 0 || !held) {
            return fd < 0 ? fd : 0;
        }
        holder = read_holder(fd);
        close(fd);
        if (holder.alive || tries == PATIENCE) {
            return refuse_taken(dir, name, holder);
        }
        dir->world->rest(dir->world, &pause, dir->world->now(dir->world) + PAUSE_NS);
    }
}

/* ---- our own name ---- */

static void
drop_lock(const trp_rundir *dir, const char *name, int lock_fd)
{
    char file[TRP_RUNDIR_FILE_SIZE];

    trp_rundir_name_file(name, "lock", file);
    trp_rundir_remove(dir, file); /* before unlocking: later it may be another's */
    close(lock_fd);
}

static void
drop_name(trp_rundir *dir, const char *name)
{
    forget_taken(dir);
    drop_lock(dir, name, dir->lock_fd);
    dir->lock_fd = -1;
}

int
trp_rundir_take(trp_rundir *dir, const char *name, uint64_t incarnation)
{
    int rc;

    TRP_ASSERT(dir->fd >= 0 && dir->lock_fd < 0);
    if (!trp_node_name_is_valid(name)) {
        return trp_fail(
            -EINVAL, "a node cannot be called \"%.60s\": 1 to 32 of a-z, 0-9, _ and - can", name);
    }
    rc = take_lock(dir, name);
    if (rc < 0) {
        return rc;
    }
    rc = write_holder(dir, dir->lock_fd);
    if (rc < 0) {
        trp_rundir_refuse(dir, rc, "write the lock file of node", name);
    } else {
        rc = trp_rundir_clean(dir, name);
    }
    if (rc < 0) {
        drop_name(dir, name);
        return rc;
    }
    snprintf(dir->name, sizeof dir->name, "%s", name);
    dir->incarnation = incarnation;
    return 0;
}

static int
write_record(const trp_rundir *dir, const char *file, const struct trp_record *record)
{
    uint8_t bytes[TRP_RECORD_SIZE];
    int rc, fd = trp_rundir_open_file(dir, file, O_WRONLY | O_CREAT | O_TRUNC);

    if (fd < 0) {
        return fd;
    }
    trp_record_encode(record, bytes);
    rc = trp_rundir_write(dir, fd, bytes, sizeof bytes);
    close(fd);
    return rc;
}

int
trp_rundir_publish(trp_rundir *dir, uint64_t node_id)
{
    char temporary[TRP_RUNDIR_FILE_SIZE], file[TRP_RUNDIR_FILE_SIZE];
    struct trp_record record = { .node_id = node_id,
                                 .incarnation = dir->incarnation,
                                 .pid = trp_pid(),
                                 .started = trp_process_started(trp_pid()) };
    int rc;

    TRP_ASSERT(dir->lock_fd >= 0);
    memcpy(record.name, dir->name, sizeof record.name);
    trp_rundir_name_socket(dir->name, dir->incarnation, TRP_SOCKET_CONTROL, record.control);
    trp_rundir_name_socket(dir->name, dir->incarnation, TRP_SOCKET_DATA, record.data);
    trp_rundir_name_file(dir->name, "tmp", temporary);
    trp_rundir_name_file(dir->name, "node", file);
    rc = write_record(dir, temporary, &record);
    if (rc == 0) {
        rc = trp_rundir_rename(dir, temporary, file);
    }
    if (rc < 0) {
        trp_rundir_remove(dir, temporary);
        return trp_rundir_refuse(dir, rc, "write", file);
    }
    return 0;
}

void
trp_rundir_remove_socket(const trp_rundir *dir, enum trp_socket kind)
{
    char file[TRP_SOCKET_FILE_SIZE];

    trp_rundir_name_socket(dir->name, dir->incarnation, kind, file);
    trp_rundir_remove(dir, file);
}

/* Without the lock in its place the name is another's, or anybody's: only what has our incarnation in its name is ours. */
static void
remove_own_files(const trp_rundir *dir, bool has_name)
{
    static const enum trp_socket sockets[] = { TRP_SOCKET_CONTROL, TRP_SOCKET_DATA,
                                               TRP_SOCKET_HIDDEN, TRP_SOCKET_HANDLES };
    char file[TRP_SOCKET_FILE_SIZE];

    /* The record first, so that nobody is led to a socket that is gone. */
    if (has_name) {
        trp_rundir_name_file(dir->name, "node", file);
        trp_rundir_remove(dir, file);
        trp_rundir_name_file(dir->name, "tmp", file);
        trp_rundir_remove(dir, file);
    }
    for (size_t i = 0; i < TRP_COUNT(sockets); i++) {
        trp_rundir_remove_socket(dir, sockets[i]);
    }
}

void
trp_rundir_leave(trp_rundir *dir)
{
    char lock[TRP_RUNDIR_FILE_SIZE];

    if (dir->lock_fd < 0) {
        return;
    }
    trp_rundir_name_file(dir->name, "lock", lock);
    if (is_current(dir, dir->lock_fd, lock)) {
        remove_own_files(dir, true);
        drop_name(dir, dir->name);
    } else {
        remove_own_files(dir, false);
        forget_taken(dir);
        close(dir->lock_fd);
        dir->lock_fd = -1;
    }
}

void
trp_rundir_close(trp_rundir *dir)
{
    trp_rundir_leave(dir);
    if (dir->fd >= 0) {
        close(dir->fd);
        dir->fd = -1;
    }
}

void
trp_rundir_abandon(trp_rundir *dir)
{
    if (dir->lock_fd >= 0) {
        forget_taken(dir);
        close(dir->lock_fd);
        dir->lock_fd = -1;
    }
    trp_rundir_close(dir);
}

/* ---- when it was removed under us ---- */

/* Is the path still that of the directory that we have open? */
static bool
is_at_its_path(const trp_rundir *dir)
{
    struct stat opened, present;

    return fstat(dir->fd, &opened) == 0 && lstat(dir->path, &present) == 0 &&
           opened.st_dev == present.st_dev && opened.st_ino == present.st_ino;
}

static bool
has_lock(const trp_rundir *dir)
{
    char file[TRP_RUNDIR_FILE_SIZE];

    trp_rundir_name_file(dir->name, "lock", file);
    return is_at_its_path(dir) && is_current(dir, dir->lock_fd, file);
}

bool
trp_rundir_is_there(const trp_rundir *dir)
{
    char record[TRP_RUNDIR_FILE_SIZE], socket[TRP_SOCKET_FILE_SIZE];

    trp_rundir_name_file(dir->name, "node", record);
    trp_rundir_name_socket(dir->name, dir->incarnation, TRP_SOCKET_CONTROL, socket);
    return has_lock(dir) && faccessat(dir->fd, record, F_OK, 0) == 0 &&
           faccessat(dir->fd, socket, F_OK, 0) == 0;
}

/* The numbers of our descriptors stay, for those who are using them; what is behind them changes. */
static int
replace(trp_rundir *dir, trp_rundir *fresh)
{
    int rc = 0;

    lock_takers(); /* a child that is forked gives up the lock under either number */
    if (dup3(fresh->fd, dir->fd, O_CLOEXEC) < 0 ||
        dup3(fresh->lock_fd, dir->lock_fd, O_CLOEXEC) < 0) {
        rc = -errno;
    }
    unlock_takers();
    if (rc < 0) {
        trp_rundir_close(fresh);
        return trp_rundir_refuse(dir, rc, "replace", "");
    }
    forget_taken(fresh);
    close(fresh->lock_fd);
    close(fresh->fd);
    return 0;
}

int
trp_rundir_renew(trp_rundir *dir)
{
    trp_rundir fresh;
    int rc;

    TRP_ASSERT(dir->lock_fd >= 0);
    if (has_lock(dir)) {
        return 0;
    }
    rc = trp_rundir_reopen(dir, &fresh);
    if (rc < 0) {
        return rc;
    }
    rc = trp_rundir_take(&fresh, dir->name, dir->incarnation);
    if (rc < 0) {
        trp_rundir_close(&fresh);
        return rc;
    }
    return replace(dir, &fresh);
}

/* ---- the dead ---- */

int
trp_rundir_forget(const trp_rundir *dir, const char *name)
{
    bool held;
    int fd, rc;

    if (!trp_node_name_is_valid(name)) {
        return trp_fail(-EINVAL, "no node can be called \"%.60s\"", name);
    }
    fd = lock_name(dir, name, &held);
    if (fd < 0) {
        return fd;
    }
    if (held) {
        rc = trp_fail(-EBUSY, "node %s is alive, process %d", name, read_holder(fd).pid);
        close(fd);
        return rc;
    }
    rc = trp_rundir_clean(dir, name);
    drop_lock(dir, name, fd);
    return rc;
}

int
trp_rundir_sweep(const trp_rundir *dir)
{
    struct trp_rundir_names names;
    int swept = 0, rc = trp_rundir_collect(dir, NULL, &names);

    for (size_t i = 0; rc >= 0 && i < names.n; i++) {
        rc = trp_rundir_forget(dir, names.list[i]);
        swept += rc == 0;
        rc = rc == -EBUSY ? 0 : rc; /* it lives */
    }
    trp_free(names.list);
    return rc < 0 ? rc : swept;
}
