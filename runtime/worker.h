/*
 * worker.h - a thread that runs tasks
 */
#ifndef TRP_WORKER_H
#define TRP_WORKER_H

#include "runtime/context.h"
#include "runtime/poller.h"
#include "runtime/runqueue.h"
#include "runtime/world.h"

struct trp_worker {
    /* owner only */
    trp_context *ctx;
    trp_runtime *rt;
    uint32_t number;      /* from 1: what a task's home and users call it */
    uint32_t turns;       /* tasks run, for the housekeeping every TURNS */
    uint32_t lifo;        /* tasks run in a row from the next slot */
    uint32_t spin_rounds; /* how long searching has been worth it lately */
    int64_t measured_ns;  /* when `turns` was last a multiple of TURNS; 0: was idle since */
    uint32_t random;      /* where to begin stealing */
    trp_task *pinned_first, *pinned_last; /* tasks whose home this is */
    bool is_spare;
    trp_thread thread;
    trp_found found; /* descriptors that are ready, to be told when we may run */

    /* Read by others. share_at is written by the owner and the watchdog; both write what they measured,
     * and either is good (relaxed). */
    alignas(TRP_CACHELINE) _Atomic uint32_t share_at; /* call for help when so many tasks wait */
    _Atomic bool busy;      /* running tasks, not searching or asleep; owner */
    int64_t stuck_since_ns; /* written by the watchdog at its end: in one handler since; 0: no */
    _Atomic bool stalled;   /* in one activation for a tick; watchdog */
    _Atomic bool held;      /* stands still for an audit; owner */
    _Atomic bool retired;   /* a spare that nobody needs now; owner */
    _Atomic bool asleep_in_poll; /* how to wake it; written before it enters the list of sleepers */

    /* written by others */
    alignas(TRP_CACHELINE) _Atomic(trp_task *) inbox; /* tasks with this home, newest first */
    trp_parker parker;
    trp_worker *next_sleeper; /* under sleepers_lock */
    bool in_sleepers;         /* under sleepers_lock */

    trp_slot slot;
    trp_ring ring;
};

/* A worker and its thread; NULL and the error. */
trp_worker *trp_worker_start(trp_runtime *rt, uint32_t number, bool is_spare);
void trp_worker_free(trp_worker *worker);

/* How many tasks wait for this worker, roughly; any thread. */
static inline uint32_t
trp_worker_waiting(trp_worker *worker)
{
    return trp_ring_size(&worker->ring) + (trp_slot_is_empty(&worker->slot) ? 0 : 1);
}

/* Put a pinned task behind the others of its kind; owner only. */
static inline void
trp_worker_pin(trp_worker *worker, trp_task *task)
{
    task->next = NULL;
    if (worker->pinned_last) {
        worker->pinned_last->next = task;
    } else {
        worker->pinned_first = task;
    }
    worker->pinned_last = task;
}

#endif
