/*
 * extra.h - threads beside the workers, for what blocks
 *
 * Problem   Code that waits in system calls must not hold a worker. Threads for it come and go while the node
 *           runs, each needs a context to send with, and none may be left when the node has stopped.
 * Idea      One list of those that run and one of those that are about to end. A thread that ends joins those
 *           that ended before it, so at most one waits to be joined. What stands for a thread is kept and
 *           used again, never freed before the node: who woke its last life may still be doing it.
 *
 *           start --> running --main returns--> ended --the next that ends, or starts, or the stop--> spare
 *
 * Own       A task may have a thread of its own: it is that thread's home, and making it runnable means handing
 *           the thread the right to run (as with an attached thread). The thread takes part in holding still as
 *           workers do. Nobody watches how long it takes.
 *
 * Shared    field      written by     read by       order                          see
 *           handed     schedulers     the thread    release / acquire exchange     (1)
 *           is_over    who ends it    the thread    release / acquire              (2)
 *           busy,held  the thread     holders       seq_cst                        trp_extras_are_still
 */
#ifndef TRP_EXTRA_H
#define TRP_EXTRA_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "mailbox/atomic.h"
#include "mailbox/type.h"
#include "runtime/world.h"

typedef struct trp_context trp_context;
typedef struct trp_extra trp_extra;

enum { TRP_OWN_MAX = 256 }; /* threads of tasks' own: contexts are needed for others as well */

struct trp_extra {
    trp_runtime *rt;
    trp_context *ctx; /* the thread's; after its end that of nobody */
    void (*main)(trp_extra *extra);
    trp_thread thread;
    trp_parker parker;
    trp_extra *next, **link; /* in `running`; `next` alone in the others. Under extras_lock */

    /* a task's own: */
    trp_task *task; /* NULL: it is not */
    void (*run)(trp_task *task, trp_context *ctx);
    _Atomic bool handed, is_over;
    _Atomic bool busy, held;

    /* whoever started it may wait for work in a list: */
    trp_extra *next_idle;
    bool is_idle;
};

typedef struct trp_extras {
    pthread_mutex_t
        extras_lock; /* guards the lists and what follows; contexts_lock may be taken inside */
    trp_extra *running, *ended, *spare;
    unsigned n_own;
    bool is_closing; /* the node stops: it joins all of them */
    bool is_held;    /* who starts now stands still from the beginning */
} trp_extras;

void trp_extras_init(trp_extras *extras);
/* Only when all have been joined. */
void trp_extras_fini(trp_extras *extras);

/* A thread that runs `main`, with a context; NULL and the error. */
trp_extra *trp_extra_start(trp_runtime *rt, const char *name, void (*main)(trp_extra *extra));

/* A thread that runs `task`, by the `run` that it has now, whenever it is handed over: `run` and `home` are the
 * caller's to change. NULL and the error. */
trp_extra *trp_extra_start_own(trp_runtime *rt, const char *name, trp_task *task);
/* Hand it over, with the right to run. */
void trp_extra_hand(trp_extra *own);
/* The task needs it no more: the thread ends when it has returned from it. By whoever has the right to run,
 * which it keeps. */
void trp_extra_release(trp_extra *own);

/* Ask those of tasks to stand still, see whether they do, and let them go on. */
void trp_extras_hold(trp_runtime *rt);
bool trp_extras_are_still(trp_runtime *rt);
void trp_extras_release(trp_runtime *rt);

/* The node stops (rt->stopping is set): wake those of tasks, and wait for the end of all. False: one
 * runs at `deadline_ns` still. */
bool trp_extras_join(trp_runtime *rt, int64_t deadline_ns);

/* The tasks that threads of their own run at this moment: called for each with the type that is handled. */
void trp_extras_each(trp_runtime *rt,
                     void (*function)(void *argument, trp_task *task, const trp_type *type),
                     void *argument);

#endif
