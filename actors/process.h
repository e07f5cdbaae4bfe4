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
 *           A process that isolates a child of a supervisor has a ward beside its actor: isolate.h.
 * Always    P1  A record that `runs` has exactly one actor, the only one that reaps the process.
 *           P2  A record is freed with the node, or when the name is launched anew, which it never is while it runs; if
 *               somebody still waits for its hello, by him, and its ward is such a one.
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
#include "runtime/page.h"
#include "runtime/process.h"

enum { TRP_PROCESS_LAST_SIZE = 160 };

typedef struct trp_launch {
    struct trp_launch *next;
    char node[TRP_WIRE_NAME];
    /* how to start it again; constant */
    char **argv, **environment; /* copies; NULL: as troupe_process says */
    unsigned threads;
    troupe_limits limits;
    bool survives, restarts;
    /* under processes_lock */
    trp_process process; /* its descriptors are the actor's */
    bool runs;           /* has an actor */
    bool is_starting; /* again, at this moment: there may be a process that nobody can signal yet */
    bool has_ended;   /* and how, kept when it runs again: */
    pid_t ended_pid;
    bool is_awaited;    /* somebody waits for its hello, or is its ward */
    bool is_out;        /* of the list */
    bool is_doomed;     /* as soon as it runs it is killed */
    bool isolates;      /* it has, or had, a ward */
    int page;           /* of the one that runs, the actor's; -1: none */
    uint32_t n_placed;  /* asked for there since ... */
    uint32_t placed_at; /* ... so many actors had been made there */
    troupe_ref
        ward; /* the actor that it isolates, which is told of its hello; nobody: it isolates none */
    struct trp_poison *poison; /* what has killed those of this name that isolated: isolate.h */
    struct trp_process_end how;
    struct trp_page_view doing; /* what it was handling */
    char end[TRP_PROCESS_END_SIZE];
    char last[TRP_PROCESS_LAST_SIZE]; /* line on standard error; "": none */
    int refused_code;                 /* 0, or why it could not be started for its ward, with ... */
    char refused[120];
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

/* The node with the fewest actors for each worker: this one, or one of its worker processes. */
void trp_processes_least(trp_context *ctx, char node[TRP_WIRE_NAME]);

/* ---- for a ward: isolate.c ---- */

/* The same without waiting: *ret_keeper is the actor that starts it, on its own thread, and that ends with it. *ret_launch
 * stays until trp_process_release(). `ward` gets a troupe_own_process_news when it runs, and when it has said hello. */
int trp_process_launch_for(troupe_self *self, trp_context *ctx, const troupe_process *wanted,
                           troupe_ref ward, trp_launch **ret_launch, troupe_ref *ret_keeper);
/* Signal it, if it runs; what does not run yet is killed when it does. */
void trp_process_tell(trp_context *ctx, trp_launch *launch, int signal);
/* Has it said hello? Its link is [gives] in *ret_link then. */
bool trp_process_has_joined(trp_context *ctx, trp_launch *launch, trp_link **ret_link);
/* Nobody is told of it any more. */
void trp_process_release(trp_context *ctx, trp_launch *launch);
/* In words: "node parser: killed by SIGSEGV while parser 5.1 handled document". When it has ended, and nothing changes. */
void trp_process_tell_end(const trp_launch *launch, char *text, size_t size);
/* A link has joined: is a ward waiting for that? */
void trp_process_joined(trp_context *ctx, trp_link *link);

TRP_OWN_SIGNAL(troupe_own_process_news);

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
