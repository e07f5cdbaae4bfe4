/*
 * rundir_files.h - the system calls behind the run directory, each of which a test can make fail
 */
#ifndef TRP_RUNDIR_FILES_H
#define TRP_RUNDIR_FILES_H

#include "runtime/rundir.h"

enum { TRP_RUNDIR_FILE_SIZE = TRP_NODE_NAME_SIZE + 5 }; /* "NAME.lock", "NAME.node", "NAME.tmp" */

/* All return 0 or a descriptor, or a negative errno without an error text. */
int trp_rundir_fault(const trp_rundir *dir, const char *call);
int trp_rundir_open_at(const trp_rundir *dir, int at, const char *name, int flags);
/* A file in the run directory. Never a link out of it, and never waiting for whoever put a pipe there. */
int trp_rundir_open_file(const trp_rundir *dir, const char *file, int flags);
/* All of it or an error: a file system that is full may take a part. */
int trp_rundir_write(const trp_rundir *dir, int fd, const void *bytes, size_t size);
int trp_rundir_rename(const trp_rundir *dir, const char *from, const char *to);
int trp_rundir_lock(const trp_rundir *dir, int fd); /* -EWOULDBLOCK: it is locked */
/* Open the directory at the path of `dir` anew; nothing is taken from the environment. As trp_rundir_open(). */
int trp_rundir_reopen(const trp_rundir *dir, trp_rundir *ret_dir);
/* Whether it was there or not: nobody can do more about it than the next owner of the name will. */
void trp_rundir_remove(const trp_rundir *dir, const char *file);

/* `rc` and a sentence that names the file: "cannot DOING DIRECTORY/FILE: ...". */
int trp_rundir_refuse(const trp_rundir *dir, int rc, const char *doing, const char *file);

void trp_rundir_name_file(const char *name, const char *suffix, char out[TRP_RUNDIR_FILE_SIZE]);
void trp_rundir_name_socket(const char *name, uint64_t incarnation, enum trp_socket kind,
                            char out[TRP_SOCKET_FILE_SIZE]);

/* ---- walking over the files ---- */

/* The names of nodes, in alphabetical order, each once. */
struct trp_rundir_names {
    char (*list)[TRP_NODE_NAME_SIZE]; /* by trp_free() */
    size_t n, room;
};

/* Of all that have a file here, or one that ends in `.suffix`. 0 or a negative errno, with its text; names->list is to be
 * freed in either case. */
int trp_rundir_collect(const trp_rundir *dir, const char *suffix, struct trp_rundir_names *names);

/* Remove all files of a node but its lock, which the caller holds. */
int trp_rundir_clean(const trp_rundir *dir, const char *name);

#endif
