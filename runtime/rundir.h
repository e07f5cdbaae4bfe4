/*
 * rundir.h - the run directory, where the nodes of one cluster on one host meet
 *
 * Problem   Nodes must find each other without a server, tell a living node from what a dead one left, and
 *           let nobody else in. Files and sockets outlive a process that is killed; locks do not.
 * Idea      A private directory, and in it for each node
 *
 *               NAME.lock             locked (flock) while the node lives, with its pid as text: the only truth
 *                                     about who lives
 *               NAME.INCARNATION.c    its control socket, the incarnation as 16 hexadecimal digits,
 *               NAME.INCARNATION.z    its ZeroMQ socket, called .y while nobody is to connect to it: nobody
 *                                     reaches a successor by the path of the dead
 *               NAME.INCARNATION.h    its socket for handles (handles.h), once it has any,
 *               NAME.node             its record (record.h), once both sockets listen
 *               NAME.tmp              the record being written
 *
 *           Whoever holds NAME.lock may remove everything else of NAME; whoever does not leaves it alone. A lock file is unlinked only by its holder, and whoever locks one looks whether it is
 *           still the one in the directory: a lock on an unlinked file is worth nothing.
 * Always    D1  The directory is ours, mode 0700, no symbolic link; all files are opened and removed
 *               through the descriptor that was checked, never by path. (Sockets have only paths.)
 *           D2  The pid in a lock file whose holder lives is the holder's, or is not written yet.
 *           D3  A forked child gives up the lock it inherited, or it would keep the name for its parent; and the
 *               sockets, or the parent's peers would not see its end.
 * See       docs/design/0020; tested by tests/runtime/test_rundir.c.
 */
#ifndef TRP_RUNDIR_H
#define TRP_RUNDIR_H

#include <stdint.h>
#include <sys/un.h>

#include "runtime/record.h"
#include "runtime/world.h"

enum {
    TRP_SOCKET_PATH_SIZE = sizeof(((struct sockaddr_un *)0)->sun_path), /* 108, NUL included */
    TRP_RUNDIR_PATH_SIZE =
        TRP_SOCKET_PATH_SIZE - TRP_SOCKET_FILE_SIZE, /* so that every socket fits */
};

enum trp_socket {
    TRP_SOCKET_CONTROL = 'c',
    TRP_SOCKET_DATA = 'z',
    TRP_SOCKET_HIDDEN = 'y',
    TRP_SOCKET_HANDLES = 'h'
};

struct trp_rundir_options {
    const char *cluster; /* NULL: TROUPE_CLUSTER, else "default" */
    trp_world *world;    /* for waiting */
    bool must_exist;     /* nothing is made that is missing: -ENOENT */
    trp_fault_fn fault;
    void *fault_context;
};

typedef struct trp_rundir {
    int fd;                          /* the directory; -1: not open */
    char path[TRP_RUNDIR_PATH_SIZE]; /* absolute */
    trp_world *world;
    bool must_exist;
    bool is_tmp; /* in /tmp, not where XDG_RUNTIME_DIR says */
    trp_fault_fn fault;
    void *fault_context;

    int lock_fd; /* -1: no name is taken */
    char name[TRP_NODE_NAME_SIZE];
    uint64_t incarnation;
    struct trp_rundir *next_taken; /* under takers_lock, in rundir.c */
} trp_rundir;

/* ---- the directory ---- */

/* Open the directory of a cluster, made where it is missing: $XDG_RUNTIME_DIR/troupe/CLUSTER, or /tmp/troupe-UID/CLUSTER
 * where that variable is not set. 0, or with an error text that names the path:
 *   -EINVAL        the cluster cannot be called that; XDG_RUNTIME_DIR is not an absolute path
 *   -ENOENT        XDG_RUNTIME_DIR does not exist
 *   -ENAMETOOLONG  the path of a socket in it would not fit into a socket address
 *   -EPERM         it, or XDG_RUNTIME_DIR, is someone else's or open to others
 *   -ENOTDIR       it is a symbolic link, or no directory
 *   -EROFS, -ENOSPC, -EMFILE, ...   what the kernel says
 * On failure `dir` is as after trp_rundir_close(). */
int trp_rundir_open(trp_rundir *dir, const struct trp_rundir_options *options);

/* Give up the name: remove our own record, then the sockets, then the lock. Others can still be read and forgotten. */
void trp_rundir_leave(trp_rundir *dir);

/* Leave it, and close. */
void trp_rundir_close(trp_rundir *dir);

/* Close it as the death of the process does: what is in the directory stays, unlocked. */
void trp_rundir_abandon(trp_rundir *dir);

/* The path of a node's socket, and of a file that a record names. */
void trp_rundir_socket_path(const trp_rundir *dir, const char *name, uint64_t incarnation,
                            enum trp_socket kind, char out[TRP_SOCKET_PATH_SIZE]);
void trp_rundir_file_path(const trp_rundir *dir, const char *file, char out[TRP_SOCKET_PATH_SIZE]);

/* ---- our own name: by one thread ---- */

/* Take a name for as long as the process lives, or until close, and remove what a dead node of that name left. 0, or
 *   -EINVAL        a node cannot be called that
 *   -EADDRINUSE    a living node has that name; the error text has its pid
 *   -EROFS, -ENOSPC, -EMFILE, ...   what the kernel says; nothing is left behind
 * One name for each opened directory; `dir` stays where it is until close. Waits up to 0.2 s for one who holds the lock only to clean up. */
int trp_rundir_take(trp_rundir *dir, const char *name, uint64_t incarnation);

/* Write the record of the taken name: from now on others find this node. Its sockets listen at their
 * trp_rundir_socket_path(). Again: write it anew. 0, or what the kernel says, and an older record stays. */
int trp_rundir_publish(trp_rundir *dir, uint64_t node_id);

/* Are the directory, our lock in it, our record and our control socket still there? */
bool trp_rundir_is_there(const trp_rundir *dir);

/* They are not: make the directory again, and take the name there, if nobody else has. 0, or as trp_rundir_open() and
 * trp_rundir_take(), and all is as it was. The caller listens and publishes anew. Others may use `dir` meanwhile. */
int trp_rundir_renew(trp_rundir *dir);

/* Remove one of our sockets, before all of them go. Any thread. */
void trp_rundir_remove_socket(const trp_rundir *dir, enum trp_socket kind);

/* ---- others: any thread ---- */

/* Read the record of a node. 0, or
 *   -EINVAL      a node cannot be called that
 *   -ENOTCONN    there is no such record: the node never was, has ended, or is just starting
 *   -EBADMSG, -EPROTONOSUPPORT    what is there cannot be read (record.h)
 * A record may be there though its node is dead; who connects finds out. */
int trp_rundir_read(const trp_rundir *dir, const char *name, struct trp_record *ret_record);

/* The same by node id. */
int trp_rundir_find(const trp_rundir *dir, uint64_t node_id, struct trp_record *ret_record);

/* All records, by name in alphabetical order; [gives] *ret_records, to be freed by trp_free(). How many, or a
 * negative errno. Those that cannot be read are left out and counted (the error text has the last of them). */
int trp_rundir_list(const trp_rundir *dir, struct trp_record **ret_records,
                    unsigned *ret_unreadable);

/* Remove all files of a dead node. To be called after its process has ended (its pidfd is readable: then the
 * kernel has closed its files). 0, or -EBUSY: somebody holds the lock, the node or its successor; or what
 * the kernel says. */
int trp_rundir_forget(const trp_rundir *dir, const char *name);

/* The same for all dead nodes. How many, or a negative errno. */
int trp_rundir_sweep(const trp_rundir *dir);

#endif
