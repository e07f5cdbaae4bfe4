/*
 * process.h - starting processes, and learning how they ended
 *
 * Problem   A node starts others. They must inherit nothing but what they are meant to have, nobody may fork while
 *           there are threads, Ctrl-C is for the launcher alone, and a pid may be somebody else's a moment
 *           after its process has ended.
 * Idea      posix_spawn, which runs nothing of ours between fork and exec; a pidfd, which means this process and no
 *           other, and is readable when it has ended.
 *
 *           A started process has
 *             descriptors   0 /dev/null, 1 as ours, 2 a pipe to us or as ours, from 3 on what it is given;
 *                           nothing else, whether close-on-exec or not
 *             signals       none blocked, none ignored, none caught
 *             a group       of its own: the terminal signals only its foreground group, which is ours. Its output
 *                           comes to the terminal nevertheless, unless that is set to stop it (stty tostop)
 * See       launched.h: what it is told, and how it learns that its launcher is gone; docs/design/0020.
 */
#ifndef TRP_PROCESS_H
#define TRP_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <troupe/process.h>

#include "runtime/world.h"

enum { TRP_FIRST_PASSED = 3, TRP_PASSED_MAX = 16 };

struct trp_process_options {
    const char *const
        *argv; /* ends in NULL; a file without a slash is searched in PATH. NULL: this very
                              * program with the arguments of this process, even when its file is deleted */
    const char *const
        *environment;  /* "NAME=value" ..., NULL: beside ours, or instead. NULL: as ours */
    const int *passed; /* borrowed; they become 3, 4, ... in the child */
    size_t n_passed;   /* at most TRP_PASSED_MAX */
    bool capture_stderr;
    const troupe_limits *limits; /* NULL: none */
    trp_world *world;
    trp_fault_fn fault;
    void *fault_context;
};

typedef struct trp_process {
    pid_t pid;
    int pidfd; /* readable: it has ended */
    int stderr_fd; /* not blocking; -1: not captured. Ends when also all that it started have closed theirs */
} trp_process;

/* Start one. [gives] *ret_process, which is not written on failure. The calling thread waits until the file is being
 * executed. 0, or with an error text that names the file:
 *   -ENOENT, -EACCES, -ENOEXEC, ...   it cannot be executed
 *   -EAGAIN                           no more processes are allowed
 *   -EMFILE, -ENFILE, -ENOMEM         nothing is left to do it with
 *   -EPERM                            limits above ours
 *   -ECHILD                           it was gone before it could be watched (SIGCHLD is ignored here)
 * Thread: any. */
int trp_process_start(const struct trp_process_options *options, trp_process *ret_process);

/* -ESRCH: it has ended. Never reaches another process. */
int trp_process_signal(const trp_process *process, int signal);

enum trp_process_how { TRP_PROCESS_EXITED, TRP_PROCESS_KILLED, TRP_PROCESS_LOST };

struct trp_process_end {
    enum trp_process_how how; /* LOST: somebody else in this process has waited for it */
    int code;                 /* exit status, or signal */
    bool core;                /* a core was dumped */
    uint64_t peak_bytes;      /* of its memory, as much as was resident; 0: not known */
};

/* It has ended and is not buried: so its group still has its number. End those in it that it has started and left behind. */
void trp_process_end_group(trp_world *world, const trp_process *process);

/* Bury it, and learn how it ended. Once. 0, or -EAGAIN: it still runs (no error text). */
int trp_process_reap(trp_world *world, const trp_process *process, struct trp_process_end *ret_end);

enum { TRP_PROCESS_END_SIZE = 96 };

/* "exited with status 3", "killed by SIGSEGV (core dumped)", and what it had used of what was limited: "killed by SIGABRT
 * (61 of 64 MiB used)", "killed by SIGXCPU (limited to 2 s of CPU)". */
void trp_process_describe_end(const struct trp_process_end *end, const troupe_limits *limits,
                              char out[TRP_PROCESS_END_SIZE]);

/* Close its descriptors. It goes on if it runs; unless it was reaped, its remains stay until we end. */
void trp_process_close(trp_process *process);

/* When a process started, in clock ticks since boot: with the pid, which is used again, it says which process is meant. 0: there is no
 * such process, or it is dead and not buried yet. */
uint64_t trp_process_started(pid_t pid);
/* Does the process that started then live? Not when it is about to end: before its files are closed. */
bool trp_process_lives(pid_t pid, uint64_t started);

#endif
