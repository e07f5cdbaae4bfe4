/*
 * process.h - launched processes, as their launcher keeps them
 *
 * Problem   A launched process must be told from any other, its error output shown, its end noticed and explained to
 *           those who watch its actors, what it left removed, and another one started in its place.
 * Idea      A record for each, in the node's list, and an actor that looks after it as long as it runs:
 *
 *               troupe_launch() --> record, process --> actor "process" --> stderr: line by line to ours
 *                                                              `--> pidfd: bury, remove its files, say how it ended
 *               link breaks --> obituary: the record says how it ended, once it is known
 *
 *           The actor has a thread of its own: starting and burying a process are system calls that can take long (half a
 *           second was seen for a waitid() that does not wait, on a busy machine), and no worker is to wait for them.
 * Always    P1  A record that `runs` has exactly one actor, the only one that reaps the process.
 *           P2  A record is freed with the node, or when the name is launched anew, which it never is while it runs; if
 *               somebody still waits for its hello, by him.
 *           P3  The actor closes the descriptors of a process after it has said, under processes_lock, that it has ended; so
 *               nobody else signals one that its number stands for by then.
 * Locks     processes_lock is a leaf lock.
 */
#ifndef TRP_ACTORS_PROCESS_H
#define TRP_ACTORS_PROCESS_H

#include <pthread.h>

#include <troupe/process.h>

#include "actors/report.h"
#include "actors/self.h"
#include "runtime/link.h"
#include "runtime/process.h"

enum { TRP_PROCESS_LAST_SIZE = 160 };

typedef struct trp_launch {
    struct trp_launch *next;
    char node[TRP_WIRE_NAME];
    /* how to start it again; constant */
    char **argv, **environment; /* copies; NULL: as troupe_process says */
    unsigned threads;
    bool survives, restarts;
    /* under processes_lock */
    trp_process process; /* its descriptors are the actor's */
    bool runs;           /* has an actor */
    bool is_starting; /* again, at this moment: there may be a process that nobody can signal yet */
    bool has_ended;   /* and how, kept when it runs again: */
    pid_t ended_pid;
    bool is_awaited; /* somebody waits for its hello */
    bool is_out;     /* of the list */
    char end[TRP_PROCESS_END_SIZE];
    char last[TRP_PROCESS_LAST_SIZE]; /* line on standard error; "": none */
} trp_launch;

typedef struct trp_processes {
    pthread_mutex_t processes_lock; /* guards all of it */
    trp_launch *first;
    int lifeline;    /* given to each; -1: not opened yet */
    bool is_closing; /* the node stops: nothing is started any more */
} trp_processes;

void trp_processes_init(trp_processes *processes);
void trp_processes_fini(trp_processes *processes);

/* Start one, and its actor. *ret_launch is the node's; it stays until trp_process_await() returns. 0, or as
 * troupe_launch(). */
int trp_process_launch(troupe_self *self, trp_context *ctx, const troupe_process *wanted,
                       trp_launch **ret_launch);

/* Wait for its hello until then; else it is ended. Its process id, or as troupe_launch(). */
int trp_process_await(trp_context *ctx, trp_launch *launch, int64_t deadline_ns);

/* From now on nothing is launched any more, and none that ends is started again: before they are told to. */
void trp_processes_close(trp_context *ctx);

/* Have all processes end that do not survive, which have been told by their links: wait until then, kill those that
 * are left, and name them in the report. For an attached thread, while actors still run. */
void trp_processes_stop(trp_context *ctx, int64_t deadline_ns, trp_report *report);

/* Worker processes "NODE-1" .. "NODE-n", all at once. 0, or the first error; those that run end with the node. */
int trp_processes_launch(troupe_self *self, trp_context *ctx, unsigned n);

/* ---- serve.c: the other side ---- */

struct trp_launched;

/* Was this process launched, and is this its first node? 1: then `config` says now what its launcher wants; 0: no. */
int trp_serve_claim(troupe_config *config, struct trp_launched *ret_launched);
/* Serve the node until it is to end, and exit. */
void trp_serve(troupe_self *self, const struct trp_launched *launched) __attribute__((noreturn));
/* It could not be started: say so, and exit. */
void trp_serve_fail(const struct trp_launched *launched) __attribute__((noreturn));

#endif
